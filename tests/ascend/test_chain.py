"""Fused pointwise ops on the vector cores, in the simulator, against torch."""

from __future__ import annotations

import math

import pytest
import torch

from tests.ascend.chain_harness import BF16, F16, F32, I32, I64, T, fused, normal, rng, together
from tests.helpers import OPS
from xcompile.ir import Graph, Type, Value
from xcompile.ops.pointwise import CAST, COPY

# -- every op --------------------------------------------------------------------------------------
UNARY = ["abs", "cos", "erf", "exp", "floor", "gelu", "gelu_tanh", "neg", "relu", "sigmoid", "silu",
         "sin", "square", "tanh"]  # fmt: skip
POSITIVE = ["log", "reciprocal", "rsqrt", "sqrt"]
BINARY = ["add", "div", "floordiv", "max", "min", "mul", "pow", "remainder", "sub"]
COMPARE = ["eq", "ge", "gt", "le", "lt", "ne"]


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
def test_functions(dtype: torch.dtype) -> None:
    def build(g: Graph) -> list[Value]:
        x, p = g.input(Type(dtype, (T, 37)), "x"), g.input(Type(dtype, (T, 37)), "p")
        return [g.add(OPS[n], x) for n in UNARY] + [g.add(OPS[n], p) for n in POSITIVE]

    run = fused(build)
    for rows, blocks, seed in ((1, 48, 0), (7, 3, 1), (0, 48, 0), (401, 48, 2)):
        x, p = normal((rows, 37), dtype), normal((rows, 37), dtype, 1).abs() + 0.01
        run.check(x, p, T=rows, blocks=blocks, seed=seed)


def ulps(got: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """Distance in units in the last place of float32."""
    exponent = torch.frexp(want.abs().clamp_min(2.0**-126)).exponent
    return (got.double() - want).abs() / torch.ldexp(torch.ones_like(want), exponent - 24)


INEXACT = ("gelu", "gelu_tanh", "cos", "sin")  # near their zeros; torch in float64 is, too


def test_functions_are_a_few_ulp_off_everywhere() -> None:
    names = [*UNARY, *POSITIVE]

    def build(g: Graph) -> list[Value]:
        x = g.input(Type(F32, (T,)), "x")
        return [g.add(OPS[n], x) for n in names]

    run = fused(build)
    x = torch.cat([torch.logspace(-30, 1.5, 3000), torch.linspace(0, 20, 3000)])
    x = torch.cat([x, -x, torch.tensor([0.0, -0.0, 88.0, -88.0, 1e30, -1e30])])
    got = run(x, T=len(x))
    for n, y in zip(names, got, strict=True):
        want = OPS[n].ref(x.double())
        eager = OPS[n].ref(x)
        assert torch.equal(y.isnan(), eager.isnan()), n
        ok = want.isfinite() & (want.abs() < 3e38) & (want.abs() > 1e-36)
        if n in INEXACT:
            part = ok & (x.abs() < 1000)
            assert float((y[part] - want[part]).abs().max()) < 1e-6, n
            continue
        off = ulps(y[ok], want[ok])
        assert off.max() <= 7, f"{n}: {off.max()} ulp at {x[ok][off.argmax()]}"


def test_special_values() -> None:
    names = [n for n in (*UNARY, *POSITIVE) if n != "gelu"]  # of which torch makes NaN of infinity

    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(F32, (T,)), "x"), g.input(Type(F32, (T,)), "y")
        out = [g.add(OPS[n], x) for n in names]
        return out + [g.add(OPS[n], x, y) for n in ("max", "min", "add", "div", *COMPARE)]

    run = fused(build)
    some = torch.tensor([0.0, -0.0, 1.0, -2.5, math.inf, -math.inf, math.nan])
    x, y = some.repeat(len(some)), some.repeat_interleave(len(some))
    got = run(x, y, T=len(x))
    body = run.node.body
    assert body is not None
    want = body.eval(x, y, env={"T": len(x)})
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("other", ["tile", "row", "column", "scalar", "first scalar"])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_two_operands(dtype: torch.dtype, other: str) -> None:
    shape = {"tile": (T, 45), "row": (T, 1), "column": (45,)}.get(other)

    def build(g: Graph) -> list[Value]:
        x = g.input(Type(dtype, (T, 45)), "x")
        if shape is not None:
            y = g.input(Type(dtype, shape), "y")
        else:
            y = g.add(OPS["full"], shape=(), value=1.7, dtype=dtype)
        pair = (y, x) if other == "first scalar" else (x, y)
        out = [g.add(OPS[n], *pair) for n in (*BINARY, *COMPARE)]
        if shape is not None:
            out += [g.add(OPS[n], y, x) for n in ("sub", "div", "where") if n != "where"]
        return out

    run = fused(build)
    for rows, blocks in ((1, 48), (19, 1), (70, 5)):
        x = normal((rows, 45), dtype).abs() + 0.1
        y = [normal([rows if d == T else d for d in shape], dtype, 1).abs() + 0.1] if shape else []
        run.check(x, *y, T=rows, blocks=blocks)


def test_powers() -> None:
    exponents = [0.5, -0.5, -1.0, 1.0, 2.0, 3.0, 4.0, 0.3, -2.5, 5.0]

    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(F32, (T,)), "x"), g.input(Type(F32, (T,)), "y")
        full = lambda v: g.add(OPS["full"], shape=(), value=v, dtype=F32)
        return [g.add(OPS["pow"], x, full(e)) for e in exponents] + [g.add(OPS["pow"], x, y)]

    run = fused(build)
    x = torch.rand(3000, generator=rng()) * 10
    y = torch.rand(3000, generator=rng(1)) * 60 - 30
    got = run(x, y, T=3000)
    want = [x.double() ** torch.tensor(e, dtype=torch.float64) for e in exponents]
    want.append(x.double() ** y.double())
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        ok = (b < 3e38) & (b > 1e-36)
        assert float(ulps(a[ok], b[ok]).max()) <= 7, k
    some = torch.tensor([0.0, 1.0, -1.0, 2.0, -3.0, 0.5, -2.5, math.inf, -math.inf, math.nan])
    x, y = some.repeat(len(some)), some.repeat_interleave(len(some))
    got = run(x, y, T=len(x))
    torch.testing.assert_close(got[-1], x**y, equal_nan=True, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [I64, I32])
def test_integers(dtype: torch.dtype) -> None:
    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(dtype, (T, 21)), "x"), g.input(Type(dtype, (T, 21)), "y")
        r, c = g.input(Type(dtype, (T, 1)), "r"), g.input(Type(dtype, (21,)), "c")
        full = g.add(OPS["full"], shape=(), value=7, dtype=dtype)
        n = g.add(OPS["full"], shape=(), value=3 * T - 1, dtype=dtype)
        names = ("add", "sub", "mul", "max", "min", "floordiv", "remainder", *COMPARE)
        out = [g.add(OPS[k], x, y) for k in names]
        out += [g.add(OPS[k], x, full) for k in names]
        out += [g.add(OPS[k], n, x) for k in ("add", "sub", "mul", "max", "lt", "ge")]
        out += [g.add(OPS[k], x, r) for k in ("add", "mul", "eq", "floordiv")]
        out += [g.add(OPS[k], c, x) for k in ("sub", "min", "gt")]
        out += [g.add(OPS[k], x) for k in ("neg", "abs", "square", "relu", "not")]
        out.append(g.add(OPS["where"], g.add(OPS["lt"], x, y), x, full))
        out.append(g.add(OPS["and"], x, y))
        out.append(g.add(OPS["or"], x, y))
        return out

    run = fused(build)
    for rows, blocks in ((1, 48), (13, 2), (90, 48)):
        x, y = normal((rows, 21), dtype), normal((rows, 21), dtype, 1)
        r, c = normal((rows, 1), dtype, 2), normal((21,), dtype, 3)
        y, r = y + (y == 0), r + (r == 0)
        run.check(x, y, r, c, T=rows, blocks=blocks)


def test_integer_division_of_large_numbers() -> None:
    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(I64, (T,)), "x"), g.input(Type(I64, (T,)), "y")
        return [g.add(OPS["floordiv"], x, y), g.add(OPS["remainder"], x, y)]

    run = fused(build)
    g = rng()
    x = torch.randint(-(2**31) + 600, 2**31 - 600, (4000,), generator=g)
    y = torch.cat(
        [
            torch.randint(1, 50, (2000,), generator=g),
            torch.randint(1, 2**31 - 600, (2000,), generator=g),
        ]
    )
    y = torch.where(torch.rand(4000, generator=g) > 0.5, y, -y)
    x[:100] = y[:100] * (x[:100] // y[:100])  # exact quotients
    run.check(x, y, T=4000)


def test_truths() -> None:
    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(torch.bool, (T, 50)), "x"), g.input(Type(torch.bool, (T, 50)), "y")
        r, c = g.input(Type(torch.bool, (T, 1)), "r"), g.input(Type(torch.bool, (50,)), "c")
        a, b = g.input(Type(F32, (T, 50)), "a"), g.input(Type(BF16, (T, 50)), "b")
        row, col = g.input(Type(F32, (T, 1)), "row"), g.input(Type(F32, (50,)), "col")
        low = g.add(OPS["full"], shape=(), value=-math.inf, dtype=F32)
        out = [g.add(OPS[k], p, q) for k in ("and", "or", "eq", "ne", "mul", "max")
               for p, q in ((x, y), (x, r), (c, x))]  # fmt: skip
        out += [g.add(OPS["not"], x), g.add(OPS["not"], a), g.add(OPS["not"], r)]
        out += [g.add(OPS["where"], p, a, b) for p in (x, r, c)]
        out += [g.add(OPS["where"], x, low, a), g.add(OPS["where"], x, a, low)]
        out += [g.add(OPS["where"], x, row, col), g.add(OPS["where"], r, col, low)]
        out += [g.add(OPS["where"], x, y, r)]
        out += [g.add(CAST, x, dtype=d) for d in (F32, BF16, F16, I64, I32)]
        out += [g.add(CAST, v, dtype=torch.bool) for v in (a, b)]
        return out

    run = fused(build)
    for rows, blocks in ((1, 48), (11, 1), (130, 48)):
        masks = [normal(s, torch.bool, k) for k, s in
                 enumerate([(rows, 50), (rows, 50), (rows, 1), (50,)])]  # fmt: skip
        a = normal((rows, 50)) * (normal((rows, 50), torch.bool, 7))
        b = normal((rows, 50), BF16, 3)
        run.check(*masks, a, b, normal((rows, 1), F32, 5), normal((50,), F32, 6), T=rows,
                  blocks=blocks)  # fmt: skip


TYPES = [F32, F16, BF16, I64, I32, torch.int16, torch.int8, torch.uint8, torch.bool]


def test_casts() -> None:
    def build(g: Graph) -> list[Value]:
        out = []
        for k, d in enumerate(TYPES):
            x = g.input(Type(d, (T, 23)), f"x{k}")
            out += [g.add(CAST, x, dtype=e) for e in TYPES if e != d]
        return out

    cases = []
    for d in TYPES:

        def one(g: Graph, d: torch.dtype = d) -> list[Value]:
            x = g.input(Type(d, (T, 23)), "x")
            return [g.add(CAST, x, dtype=e) for e in TYPES if e != d] + [g.add(COPY, x)]

        cases.append(fused(one))
    for d, run in zip(TYPES, together(cases), strict=True):
        for rows in (1, 29):
            x = normal((rows, 23), d)
            x = x.abs() if d.is_floating_point or d in (I64, I32) else x.clamp_min(0).to(d)
            run.check(x, T=rows)


def test_a_computed_16_bit_value_rounds_where_its_type_changes() -> None:
    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(BF16, (T, 64)), "x"), g.input(Type(BF16, (T, 64)), "y")
        z = g.add(OPS["add"], x, y)
        wide = g.add(CAST, z, dtype=F32)
        return [z, wide, g.add(CAST, g.add(CAST, g.add(OPS["square"], wide), dtype=F16), dtype=F32)]

    run = fused(build)
    x, y = normal((33, 64), BF16), normal((33, 64), BF16, 1)
    z, wide, half = run(x, y, T=33)
    assert torch.equal(z, x + y) and torch.equal(wide, (x + y).float())
    assert torch.equal(half, wide.square().half().float())
