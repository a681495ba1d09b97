"""Kernels that order or scan rows: topk, sort, argmax, cumsum."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers import OPS, Batch, add, call, compiled, executor, graph_of
from xcompile import sim
from xcompile.ir import Type
from xcompile.symbolic import Range, symbol

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
TYPES = {
    torch.float32: "float",
    torch.float16: "half",
    torch.bfloat16: "bfloat16_t",
    torch.int64: "int64_t",
}
ENTRY = """
extern "C" __global__ __vector__ void {name}({params}) {{
  TPipe pipe;
  xc::Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  xc::{call};
  PipeBarrier<PIPE_ALL>();
}}
"""
ROWS = "GM_ADDR x, int64_t r, int64_t c"


def source() -> str:
    heads = ("order_long.h", "argmax.h", "cumsum.h")
    text = "".join(f'#include "{h}"\n' for h in heads) + "using namespace AscendC;\n"
    for t in TYPES.values():
        lists = f"{ROWS}, int64_t k, int64_t d, GM_ADDR v, GM_ADDR i"
        calls = [
            (f"short_{t}", lists, f"sortShort<{t}>(pipe, team, x, r, c, k, d != 0, v, i, true)"),
            (
                f"top_{t}",
                lists + ", GM_ADDR w",
                f"LongTopk<{t}>().run(pipe, team, x, r, c, k, v, i, w, 40)",
            ),
            (
                f"long_{t}",
                lists + ", GM_ADDR w",
                f"sortLong<{t}>(pipe, team, x, r, c, k, d != 0, v, i, w, 3)",
            ),
            (
                f"argmax_{t}",
                f"{ROWS}, GM_ADDR y, GM_ADDR w",
                f"argmax<{t}>(pipe, team, x, r, c, y, w)",
            ),
            (f"cumsum_{t}", f"{ROWS}, GM_ADDR y", f"CumSum<{t}>().run(pipe, team, x, r, c, y)"),
        ]
        text += "".join(ENTRY.format(name=n, params=p, call=c) for n, p, c in calls)
    return text


@pytest.fixture(scope="module")
def run():
    text = source()

    def launch(name, dtype, *args, blocks=48, **kw):
        name = f"{name}_{TYPES[dtype]}"
        return sim.load(text, name, blocks=blocks, include=[LIB])(*args, **kw)

    return launch


def data(rows, cols, dtype, rng, special=True):
    """Numbers with many ties, and the extremes of the type."""
    if dtype == torch.int64:
        x = torch.randint(-9, 9, (rows, cols), generator=rng)
        some = torch.tensor([2**31 - 2**24 - 1, -(2**31) + 2**24 + 1, 2**24 + 1, 2**24, 0, -1])
    else:
        x = torch.randn(rows, cols, generator=rng).mul(4).round().div(4)
        x += torch.randn(rows, cols, generator=rng) * (torch.rand(rows, 1, generator=rng) > 0.5)
        lim = torch.finfo(dtype)
        inf = float("inf")
        some = torch.tensor([lim.max, lim.min, inf, -inf, float("nan"), 0.0, -0.0, -float("nan")])
    x = x.to(dtype)
    if special:
        hit = torch.rand(rows, cols, generator=rng) < min(0.3, 6 / max(cols, 1))
        hit[::3] = False
        pick = torch.randint(0, len(some), (rows, cols), generator=rng)
        x = torch.where(hit, some.to(dtype)[pick], x)
    return x


def ordered(x, k, descending):
    v, i = torch.sort(x, dim=-1, descending=descending, stable=True)
    return v[:, :k].contiguous(), i[:, :k].contiguous()


def same(got, want, what):
    ok = got == want
    if got.dtype.is_floating_point:
        ok |= got.isnan() & want.isnan()
    assert ok.all(), f"{what}: {got[~ok][:8]} for {want[~ok][:8]} at {(~ok).nonzero()[:8].tolist()}"


def check_order(run, kernel, x, k, descending, blocks, workspace=(), seed=0):
    rows, cols = x.shape
    v, i = torch.empty(rows, k, dtype=x.dtype), torch.empty(rows, k, dtype=torch.int64)
    out = (sim.Out(v), sim.Out(i), *workspace)
    run(kernel, x.dtype, x, rows, cols, k, int(descending), *out, blocks=blocks, seed=seed)
    want_v, want_i = ordered(x, k, descending)
    same(i, want_i, "indices")
    same(v, want_v, "values")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("rows", "cols", "k", "blocks"),
    [
        (200, 256, 8, 3),
        (65, 8, 4, 1),
        (130, 32, 2, 48),
        (33, 64, 64, 3),
        (5, 1, 1, 48),
        (7, 160, 6, 1),
        (11, 384, 7, 1),
        (3, 512, 300, 1),
        (2, 1000, 1000, 3),
        (2, 2048, 2048, 1),
        (2, 2017, 33, 1),
        (50, 37, 5, 2),
        (0, 37, 5, 2),
        (9, 100, 100, 2),
        (126, 33, 21, 3),
    ],
)
def test_rows_in_ub(run, rows, cols, k, blocks, dtype):
    rng = torch.Generator().manual_seed(cols)
    x = data(rows, cols, dtype, rng)
    check_order(run, "short", x, k, True, blocks, seed=cols)
    check_order(run, "short", x, k, False, blocks)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("rows", "cols", "k", "blocks"),
    [(3, 8192, 256, 2), (2, 2049, 1, 48), (1, 5000, 1024, 1), (4, 6150, 50, 3), (1, 30001, 7, 48),
     (5, 16400, 1024, 48), (1, 40000, 500, 5), (60, 2050, 3, 48)],
)  # fmt: skip
def test_topk_of_long_rows(run, rows, cols, k, blocks, dtype):
    rng = torch.Generator().manual_seed(cols)
    x, space = data(rows, cols, dtype, rng), torch.zeros(40 * k * 8, dtype=torch.uint8)
    check_order(run, "top", x, k, True, blocks, (space,), seed=k)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("rows", "cols", "k", "descending", "blocks"),
    [
        (3, 8192, 8192, True, 2),
        (2, 20001, 20001, False, 48),
        (1, 2049, 2049, False, 1),
        (2, 9000, 4000, True, 1),
    ],
)
def test_sort_of_long_rows(run, rows, cols, k, descending, blocks, dtype):
    rng = torch.Generator().manual_seed(cols)
    space = torch.zeros(min(blocks, rows, 3) * 2 * -(-cols // 2048) * 2048 * 8, dtype=torch.uint8)
    x = data(rows, cols, dtype, rng)
    check_order(run, "long", x, k, descending, blocks, (sim.Out(space),))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("rows", "cols", "blocks"),
    [(300, 64, 48), (5, 1000, 2), (9, 3, 48), (1, 129280, 48), (3, 50001, 7), (7, 8193, 1),
     (50, 2050, 48), (0, 8192, 3), (2, 16384, 1)],
)  # fmt: skip
def test_argmax(run, rows, cols, blocks, dtype):
    rng = torch.Generator().manual_seed(cols)
    x = data(rows, cols, dtype, rng)
    if dtype.is_floating_point and rows > 1:
        x[1] = -x[1].abs().nan_to_num()  # all negative, or zeros of either sign
        x[1, ::2] = -0.0
    y = torch.empty(rows, dtype=torch.int64)
    space = torch.zeros(rows * -(-cols // 4096) * 32 + 32, dtype=torch.uint8)
    for seed in (0, 5):
        args = (x, rows, cols, sim.Out(y), sim.Out(space) if rows and cols > 2048 else space)
        run("argmax", dtype, *args, blocks=blocks, seed=seed)
        want = ordered(x, 1, True)[1][:, 0] if rows else y
        assert torch.equal(y, want)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("rows", "cols", "blocks"),
    [(70, 256, 2), (5, 1, 3), (1100, 3, 2), (300, 8, 1), (9, 60, 48), (1, 20000, 48), (3, 4096, 2),
     (2, 4097, 1), (4, 700, 1), (0, 9, 2), (2, 12288, 1)],
)  # fmt: skip
@pytest.mark.parametrize("positive", [True, False])
def test_cumsum(run, rows, cols, blocks, dtype, positive):
    rng = torch.Generator().manual_seed(cols)
    x = torch.randn(rows, cols, generator=rng)
    x = (x.abs() if positive else x) * (0.01 if dtype == torch.float16 else 1)
    x = (x * 1000).to(dtype) if dtype == torch.int64 else x.to(dtype)
    y = torch.empty_like(x)
    run("cumsum", dtype, x, rows, cols, sim.Out(y), blocks=blocks, seed=cols)
    if dtype == torch.int64:
        assert torch.equal(y, x.cumsum(-1))
        return
    exact, eager = x.double().cumsum(-1), x.cumsum(-1)
    # Sums of either sign are as exact as those of the magnitudes.
    scale = x.double().abs().cumsum(-1)
    ours, theirs = ((v.double() - exact).abs() for v in (y, eager))
    assert (ours <= 1.25 * theirs + 4 * torch.finfo(torch.float32).eps * scale).all()


TARGET = "ascend910b"


def test_emitted(rng):
    """The templates, in a compiled graph."""
    b = Batch()
    floats = torch.randn(3, 5, 37, generator=rng)
    long = data(2, 5000, torch.bfloat16, rng, special=False)
    ids = torch.randint(0, 64, (1, 9000), generator=rng)
    for x, k in ((floats, 4), (long, 20), (long, 3000), (ids, 5)):
        b.op(f"topk {k} of {tuple(x.shape)}", OPS["topk"], [x], {"k": k})
    for x in (floats, long, ids):
        b.op(f"sort of {tuple(x.shape)}", OPS["sort"], [x], {"descending": x is long})
        b.op(f"cumsum of {tuple(x.shape)}", OPS["cumsum"], [x], {})
        b.op(f"argmax of {tuple(x.shape)}", OPS["argmax"], [x], {})
    b.check(b.run(TARGET))


def test_emitted_for_any_size(rng):
    """Rows of any number and length: which kernel is right is known when it runs."""
    t, c = symbol("T"), symbol("C")

    def build(g, x):
        for op, attrs in (("topk", {"k": 3}), ("sort", {"descending": False}), ("argmax", {})):
            add(g, op, x, **attrs)
        return [v for n in g.nodes for v in n.outputs]

    symbols = {"T": Range(1, 64, 4), "C": Range(3, 20000, 64)}
    g = graph_of(build, Type(torch.float32, (t, c)), symbols=symbols)
    run = executor(compiled(g, TARGET), None)
    for rows, cols in ((1, 3), (7, 2048), (2, 2049), (3, 9001), (64, 33)):
        x = data(rows, cols, torch.float32, rng)
        for got, want in zip(call(g, run, [x]), g.eval(x), strict=True):
            same(got, want, f"{rows} x {cols}")


def test_argmax_in_the_kernel_of_a_linear(rng):
    """Behind a linear, the vector cores of a mixed launch meet."""
    x, w = torch.randn(3, 64, generator=rng), torch.randn(9000, 64, generator=rng)

    def build(g, a):
        return [add(g, "argmax", add(g, "linear", a, g.const(w, "w")))]

    g = graph_of(build, x)
    (got,) = call(g, executor(compiled(g, TARGET), None), [x])
    assert torch.equal(got, (x @ w.T).argmax(-1, keepdim=True))
