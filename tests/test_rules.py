"""Rewrite rules: each fires on the form it was written for, keeps its value, and stops there."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch

from tests.helpers import add, assert_close_to_reference, exact_eval, graph_of, type_of
from xcompile.ir import Graph, Value
from xcompile.passes import PIPELINE
from xcompile.rewrite import COMMUTATIVE, Put, Rule, apply

F32, BF16 = torch.float32, torch.bfloat16
MODULES = [importlib.import_module(f"xcompile.passes.{p}") for p in dict.fromkeys(PIPELINE)]
RULES: dict[str, Rule] = {r.name: r for m in MODULES for r in getattr(m, "RULES", [])}
FAMILIES = {"rms": ["rms_norm", "rms_norm_f32"], "rope": [n for n in RULES if n.startswith("rope")]}
X = (2, 3, 5, 8)


def original(rule: Rule, tensors: Sequence[torch.Tensor]) -> Graph:
    assert rule.build is not None
    g = Graph()
    values = [g.input(type_of(t), h) for h, t in zip(rule.holes, tensors, strict=True)]
    put = Put()
    g.outputs = [rule.build(put, *values)]
    g.nodes = put.nodes
    g.verify()
    return g


def ops(g: Graph) -> Counter[str]:
    return Counter(n.op.name for n in g.nodes)


def test_every_rule_can_test_itself() -> None:
    assert RULES
    assert all(r.sample and r.build for r in RULES.values())


@pytest.mark.parametrize("name", RULES)
def test_a_rule_fires_and_keeps_the_value(name: str, rng: torch.Generator) -> None:
    rule = RULES[name]
    assert rule.sample is not None
    tensors = rule.sample(rng)
    before = original(rule, tensors)
    after = apply(before, [rule])
    after.verify()
    assert len(after.nodes) < len(before.nodes)
    new = ops(after) - ops(before)
    assert new or ops(after)["rope"] == 1, f"{name} added no op"
    got, want = after.eval(*tensors)[0], before.eval(*tensors)[0]
    assert_close_to_reference(got, want, exact_eval(before, tensors)[0])


@pytest.mark.parametrize("name", RULES)
def test_a_rule_fires_once_and_is_then_done(name: str, rng: torch.Generator) -> None:
    rule = RULES[name]
    assert rule.sample is not None
    once = apply(original(rule, rule.sample(rng)), [rule])
    assert apply(once, [rule]) is once


@pytest.mark.parametrize("name", RULES)
def test_a_rule_fires_with_operands_in_the_other_order(name: str, rng: torch.Generator) -> None:
    rule = RULES[name]
    assert rule.sample is not None
    tensors = rule.sample(rng)
    g = original(rule, tensors)
    for n in g.nodes:
        if n.op.name in COMMUTATIVE and len(n.inputs) == 2:
            object.__setattr__(n, "inputs", n.inputs[::-1])
    g.verify()
    after = apply(g, [rule])
    assert len(after.nodes) < len(g.nodes)
    torch.testing.assert_close(after.eval(*tensors)[0], g.eval(*tensors)[0])


# -- graphs that look alike and mean something else ------------------------------------------------
def scalar(g: Graph, value: float) -> Value:
    return add(g, "full", shape=(), value=value, dtype=F32)


def rms(g: Graph, x: Value, w: Value, *, n: float = 32.0, eps: str = "inside",
        square: Value | None = None, power: str = "square") -> Value:  # fmt: skip
    h = x if x.dtype == F32 else add(g, "cast", x, dtype=F32)
    mean = add(g, "div", add(g, "sum", add(g, power, square or h)), scalar(g, n))
    if eps == "inside":
        scale = add(g, "rsqrt", add(g, "add", mean, scalar(g, 1e-6)))
    elif eps == "outside":
        scale = add(g, "add", add(g, "rsqrt", mean), scalar(g, 1e-6))
    else:
        scale = add(g, "rsqrt", mean)
    h = add(g, "mul", h, scale)
    return add(g, "mul", w, h if h.dtype == x.dtype else add(g, "cast", h, dtype=x.dtype))


def half(g: Graph, x: Value, lo: int, hi: int, step: int = 1, dim: int = 3) -> Value:
    return add(g, "slice", x, dim=dim, start=lo, stop=hi, step=step)


def rope(g: Graph, x: Value, c: Value, s: Value, rotated: Value) -> Value:
    return add(g, "add", add(g, "mul", x, c), add(g, "mul", rotated, s))


def cat(g: Graph, *xs: Value, dim: int = 3) -> Value:
    return add(g, "cat", *xs, dim=dim)


def neg(g: Graph, x: Value) -> Value:
    return add(g, "neg", x)


def pairs(g: Graph, x: Value, shape: tuple[int, ...], perm: tuple[int, ...]) -> Value:
    y = add(g, "permute", add(g, "reshape", x, shape=shape), perm=perm)
    return add(g, "reshape", y, shape=x.shape)


def done(g: Graph, x: Value, c: Value, s: Value, interleaved: bool = False) -> Value:
    return add(g, "rope", x, c, s, interleaved=interleaved)


def halves(g: Graph, x: Value, c: Value, s: Value, *, ops: tuple[str, str] = ("sub", "add"),
           starts: tuple[int, int] = (0, 1), other: Value | None = None) -> Value:  # fmt: skip
    a, b = half(g, x, starts[0], 8, 2), half(g, other or x, starts[1], 8, 2)
    c, s = half(g, c, 0, 4), half(g, s, 0, 4)
    first = add(g, ops[0], add(g, "mul", a, c), add(g, "mul", b, s))
    return cat(g, first, add(g, ops[1], add(g, "mul", b, c), add(g, "mul", a, s)))


Miss = Callable[..., Value]
RMS_MISSES: dict[str, tuple[Miss, tuple]] = {
    "eps outside the root": (lambda g, x, w: rms(g, x, w, eps="outside"), (F32, F32, (32,))),
    "no eps": (lambda g, x, w: rms(g, x, w, eps="none"), (F32, F32, (32,))),
    "divisor is not the dim": (lambda g, x, w: rms(g, x, w, n=31.0), (F32, F32, (32,))),
    "divisor is not the dim, bf16": (lambda g, x, w: rms(g, x, w, n=64.0), (BF16, BF16, (32,))),
    "weight of another type": (rms, (BF16, F32, (32,))),
    "weight of two dims": (rms, (F32, F32, (5, 32))),
    "weight of one element": (rms, (F32, F32, (1,))),
    "abs, not square": (lambda g, x, w: rms(g, x, w, power="abs"), (F32, F32, (32,))),
    "square of something else": (
        lambda g, x, w: rms(g, x, w, square=add(g, "exp", x)), (F32, F32, (32,)),
    ),
    "square in bf16": (
        lambda g, x, w: add(g, "mul", w, add(g, "mul", x, add(g, "rsqrt", add(
            g, "add", add(g, "div", add(g, "sum", add(g, "square", x)), scalar(g, 32.0)),
            scalar(g, 1e-6),
        )))), (BF16, BF16, (32,)),
    ),
}  # fmt: skip
ROPE_MISSES: dict[str, Miss] = {
    "halves in the wrong order": lambda g, x, c, s: rope(
        g, x, c, s, cat(g, neg(g, half(g, x, 0, 4)), half(g, x, 4, 8))
    ),
    "the other half is negated": lambda g, x, c, s: rope(
        g, x, c, s, cat(g, half(g, x, 4, 8), neg(g, half(g, x, 0, 4)))
    ),
    "both halves the same": lambda g, x, c, s: rope(
        g, x, c, s, cat(g, neg(g, half(g, x, 4, 8)), half(g, x, 4, 8))
    ),
    "halves of unequal size": lambda g, x, c, s: rope(
        g, x, c, s, cat(g, neg(g, half(g, x, 3, 8)), half(g, x, 0, 3))
    ),
    "halves along another dim": lambda g, x, c, s: rope(
        g, x, c, s, cat(g, neg(g, half(g, x, 1, 2, dim=0)), half(g, x, 0, 1, dim=0), dim=0)
    ),
    "halves of another tensor": lambda g, x, c, s: rope(
        g, x, c, s, cat(g, neg(g, half(g, c2(g, x), 4, 8)), half(g, x, 0, 4))
    ),
    "every second element, negated second": lambda g, x, c, s: rope(
        g, x, c, s, cat(g, neg(g, half(g, x, 1, 8, 2)), half(g, x, 0, 8, 2))
    ),
    "x is wider than the slices": lambda g, x, c, s: rope(
        g, half(g, x, 0, 4), half(g, c, 0, 4), half(g, s, 0, 4),
        cat(g, neg(g, half(g, x, 4, 6)), half(g, x, 0, 2)),
    ),
    "cos is larger than x": lambda g, x, c, s: rope(
        g, y := half(g, x, 0, 1, dim=1), x, x,
        cat(g, neg(g, half(g, y, 4, 8)), half(g, y, 0, 4)),
    ),
}  # fmt: skip
PAIRS_MISSES: dict[str, Miss] = {
    "halves, not pairs": lambda g, x, c, s: done(
        g, pairs(g, x, (2, 3, 5, 2, 4), (0, 1, 2, 4, 3)), c, s
    ),
    "pairs of other dims": lambda g, x, c, s: done(
        g, pairs(g, x, (2, 3, 5, 4, 2), (0, 2, 1, 3, 4)), c, s
    ),
    "pairs reversed": lambda g, x, c, s: done(g, pairs(g, x, (2, 3, 20, 2), (0, 1, 3, 2)), c, s),
    "pairs, then pairs again": lambda g, x, c, s: done(
        g, pairs(g, x, (2, 3, 5, 4, 2), (0, 1, 2, 4, 3)), c, s, interleaved=True
    ),
    "odd before even": lambda g, x, c, s: done(
        g, cat(g, half(g, x, 1, 8, 2), half(g, x, 0, 8, 2)), c, s
    ),
    "even and odd rows": lambda g, x, c, s: done(
        g, cat(g, half(g, x, 0, 2, 2, dim=0), half(g, x, 1, 2, 2, dim=0), dim=0), c, s
    ),
    "even and odd of two tensors": lambda g, x, c, s: done(
        g, cat(g, half(g, x, 0, 8, 2), half(g, c2(g, x), 1, 8, 2)), c, s
    ),
    "even and odd, then pairs": lambda g, x, c, s: done(
        g, cat(g, half(g, x, 0, 8, 2), half(g, x, 1, 8, 2)), c, s, interleaved=True
    ),
    "even and odd of a wider tensor": lambda g, x, c, s: done(
        g, cat(g, half(g, w := cat(g, x, x), 0, 8, 2), half(g, w, 1, 8, 2)), c, s
    ),
}
HALVES_MISSES: dict[str, Miss] = {
    "plus in the first half": lambda g, x, c, s: halves(g, x, c, s, ops=("add", "add")),
    "minus in the second half": lambda g, x, c, s: halves(g, x, c, s, ops=("sub", "sub")),
    "odd before even, written out": lambda g, x, c, s: halves(g, x, c, s, starts=(1, 0)),
    "even twice": lambda g, x, c, s: halves(g, x, c, s, starts=(0, 0)),
    "two tensors, written out": lambda g, x, c, s: halves(g, x, c, s, other=c2(g, x)),
}

ROTATIONS: dict[str, Miss] = ROPE_MISSES | PAIRS_MISSES | HALVES_MISSES


def c2(g: Graph, x: Value) -> Value:
    """Another tensor like x."""
    return add(g, "exp", x)


@pytest.mark.parametrize("miss", RMS_MISSES)
def test_what_is_not_an_rms_norm_stays(miss: str, rng: torch.Generator) -> None:
    build, (x_type, w_type, shape) = RMS_MISSES[miss]
    x = torch.randn(3, 5, 32, generator=rng).to(x_type)
    w = torch.randn(shape, generator=rng).to(w_type)
    stays(graph_of(lambda g, x, w: [build(g, x, w)], x, w), "rms", "rms_norm", [x, w])


@pytest.mark.parametrize("miss", ROTATIONS)
def test_what_is_not_a_rotation_stays(miss: str, rng: torch.Generator) -> None:
    build = ROTATIONS[miss]
    angle = torch.randn(2, 1, 5, 8, generator=rng)
    tensors = [torch.randn(X, generator=rng), angle.cos(), angle.sin()]
    stays(graph_of(lambda g, *v: [build(g, *v)], *tensors), "rope", "rope", tensors)


def stays(g: Graph, family: str, op: str, tensors: list[torch.Tensor]) -> None:
    after = apply(g, [RULES[n] for n in FAMILIES[family]])
    same = ops(after)[op] == ops(g)[op] and len(after.nodes) == len(g.nodes)
    assert same, f"{ops(g)} became {ops(after)}"
    assert torch.equal(after.eval(*tensors)[0], g.eval(*tensors)[0])
