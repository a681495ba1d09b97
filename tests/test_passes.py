"""Passes: a golden text each, the same values after each, and what each one promises."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from random import Random
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.helpers import add, call, compiled, graph_of, optimised, type_of
from tests.test_fuzz import SIZES, arguments, close, random_graph
from xcompile import compile as xcompile
from xcompile.compiler import executor, make_target
from xcompile.errors import XCompileError
from xcompile.ir import Graph, Node, Type, Value
from xcompile.layout import accepts, layouts
from xcompile.passes import PIPELINE, run_pass, run_pipeline
from xcompile.symbolic import Range, symbol
from xcompile.text import to_text

T = symbol("T")
SYMBOLS = {"T": Range(1, 64, 5)}
F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
CPU = make_target("cpu")
RANDOM = range(8)


def const(g: Graph, *shape: int, dtype: torch.dtype = F32, name: str = "w") -> Value:
    rng = torch.Generator().manual_seed(len(g.consts))
    return g.const(torch.randn(shape, generator=rng).to(dtype) / 4, f"{name}{len(g.consts)}")


def scalar(g: Graph, value: float) -> Value:
    return add(g, "full", shape=(), value=value, dtype=F32)


def ops(g: Graph) -> Counter[str]:
    return Counter(n.op.name for n in g.nodes)


def bodies(g: Graph) -> list[list[str]]:
    """The ops of each group, in order."""
    return [[m.op.name for m in n.body.nodes] for n in g.nodes if n.body is not None]


# -- a golden text per pass ------------------------------------------------------------------------
def canonicalise_example(g: Graph, x: Value, y: Value) -> list[Value]:
    twice = add(g, "add", add(g, "exp", x), add(g, "exp", x))
    turned = add(g, "permute", add(g, "permute", twice, perm=(1, 0)), perm=(1, 0))
    whole = add(g, "cat", turned, y, dim=1)
    again = add(g, "slice", whole, dim=1, start=8, stop=16, step=1)
    folded = add(g, "exp", add(g, "permute", const(g, 8, 8), perm=(1, 0)))
    same = add(g, "cast", add(g, "mul", y, scalar(g, 1.0)), dtype=F32)
    biased = add(g, "linear", same, const(g, 8, 8), const(g, 8))
    add(g, "tanh", x)  # nobody reads it
    row = add(g, "slice", folded, dim=0, start=0, stop=1, step=1)
    return [turned, again, add(g, "mul", biased, row)]


def lift_example(g: Graph, x: Value, y: Value) -> list[Value]:
    mean = add(g, "div", add(g, "sum", add(g, "square", x)), scalar(g, 8.0))
    scale = add(g, "rsqrt", add(g, "add", mean, scalar(g, 1e-5)))
    normed = add(g, "mul", const(g, 8), add(g, "mul", x, scale))
    lo = add(g, "slice", normed, dim=1, start=0, stop=4, step=1)
    hi = add(g, "slice", normed, dim=1, start=4, stop=8, step=1)
    turned = add(g, "cat", add(g, "neg", hi), lo, dim=1)
    return [add(g, "add", add(g, "mul", normed, const(g, 8)), add(g, "mul", turned, const(g, 8)))]


def heads(g: Graph, x: Value, count: int, size: int) -> Value:
    y = add(g, "reshape", x, shape=(1, T, count, size))
    return add(g, "permute", y, perm=(0, 2, 1, 3))


def repeated(g: Graph, k: Value, times: int, dim: int = 2) -> Value:
    b, h, t, d = k.shape
    five = (b, h, 1, t, d) if dim == 2 else (b, 1, h, t, d)
    wide = (b, h, times, t, d) if dim == 2 else (b, times, h, t, d)
    k = add(g, "expand", add(g, "reshape", k, shape=five), shape=wide)
    return add(g, "reshape", k, shape=(b, h * times, t, d))


def route_example(g: Graph, x: Value, y: Value) -> list[Value]:
    add(g, "topk", add(g, "softmax", add(g, "linear", x, const(g, 6, 8))), k=2)
    best, index = g.nodes[-1].outputs
    weight = add(g, "div", best, add(g, "sum", best))
    return [add(g, "moe_experts", y, index, weight, const(g, 6, 8, 8), const(g, 6, 8, 4),
                act="silu")]  # fmt: skip


def moe_example(g: Graph, x: Value, y: Value) -> list[Value]:
    """The weights of each token's two experts are gathered."""
    add(g, "topk", add(g, "softmax", add(g, "linear", x, const(g, 6, 8))), k=2)
    weight, index = g.nodes[-1].outputs
    ids = add(g, "reshape", index, shape=(2 * T,))
    rows = add(g, "expand", add(g, "reshape", y, shape=(T, 1, 8)), shape=(T, 2, 8))
    rows = add(g, "reshape", rows, shape=(2 * T, 8, 1))
    up = add(g, "matmul", add(g, "embedding", const(g, 6, 8, 8), ids), rows)
    up = add(g, "reshape", up, shape=(2 * T, 8))
    halves = [add(g, "slice", up, dim=1, start=k, stop=k + 4, step=1) for k in (0, 4)]
    unit = add(g, "mul", add(g, "silu", halves[0]), halves[1])
    unit = add(g, "reshape", unit, shape=(2 * T, 4, 1))
    down = add(g, "matmul", add(g, "embedding", const(g, 6, 8, 4), ids), unit)
    down = add(g, "reshape", down, shape=(2 * T, 8))
    down = add(g, "mul", down, add(g, "reshape", weight, shape=(2 * T, 1)))
    each = add(g, "permute", add(g, "reshape", down, shape=(T, 2, 8)), perm=(0, 2, 1))
    return [add(g, "reshape", add(g, "sum", each), shape=(T, 8))]


def gqa_example(g: Graph, x: Value, y: Value, dim: int = 2) -> list[Value]:
    q, k = heads(g, x, 4, 2), heads(g, add(g, "slice", y, dim=1, start=0, stop=4, step=1), 2, 2)
    k = repeated(g, k, 2, dim)
    return [add(g, "attention", q, k, k, causal=True, scale=0.5)]


def causal_example(
    g: Graph, x: Value, y: Value, least: int = 1, turned: bool = False
) -> list[Value]:
    shape = (T, T)
    row, column = (add(g, "iota", shape=shape, dim=d, start=0, step=1, dtype=I64) for d in (0, 1))
    gap = add(g, "sub", row, column) if turned else add(g, "sub", column, row)
    least_gap = add(g, "full", shape=(), value=least, dtype=I64)
    hidden = add(g, "full", shape=shape, value=float("-inf"), dtype=F32)
    mask = add(g, "where", add(g, "ge", gap, least_gap), hidden, scalar(g, 0.0))
    q, k = heads(g, x, 2, 4), heads(g, y, 2, 4)
    mask = add(g, "reshape", mask, shape=(1, 1, T, T))
    return [add(g, "attention", q, k, k, mask, causal=False, scale=0.5)]


def mla_example(g: Graph, x: Value, y: Value) -> list[Value]:
    """One query of two heads over the latents of y: rank 4, nope 3, rope 2, v 2."""
    query = add(g, "linear", add(g, "slice", x, dim=0, start=0, stop=1, step=1), const(g, 10, 8))
    query = add(g, "permute", add(g, "reshape", query, shape=(1, 1, 2, 5)), perm=(0, 2, 1, 3))
    latent, rotated = (
        add(
            g,
            "reshape",
            add(g, "slice", y, dim=1, start=at, stop=at + n, step=1),
            shape=(1, 1, T, n),
        )
        for at, n in ((0, 4), (4, 2))
    )
    wide = add(g, "reshape", add(g, "linear", latent, const(g, 10, 4)), shape=(1, T, 2, 5))
    wide = add(g, "permute", wide, perm=(0, 2, 1, 3))
    nope, value = (
        add(g, "slice", wide, dim=3, start=a, stop=b, step=1) for a, b in ((0, 3), (3, 5))
    )
    key = add(g, "cat", nope, add(g, "expand", rotated, shape=(1, 2, T, 2)), dim=3)
    return [add(g, "attention", query, key, value, causal=False, scale=0.4)]


def latent_example(g: Graph, x: Value, y: Value) -> list[Value]:
    """Two heads, nope 3 and rope 1, over latents of rank 4 that x's columns make; v 2."""

    def ids(*shape: int) -> Value:
        return add(g, "full", shape=shape, value=1, dtype=I64)

    x = add(g, "reshape", x, shape=(T, 2, 4))
    nope, rot = (add(g, "slice", x, dim=2, start=a, stop=b, step=1) for a, b in ((0, 3), (3, 4)))
    query = add(g, "cat", add(g, "head_linear", nope, const(g, 2, 4, 3)), rot, dim=2)
    rows = add(g, "reshape", y, shape=(T, 1, 8))
    cache = add(g, "slice", rows, dim=2, start=0, stop=5, step=1)
    latent = add(g, "slice", cache, dim=2, start=0, stop=4, step=1)
    lengths = ids(2), ids(1), ids(1, 1)
    o = add(g, "paged_attention", query, cache, latent, *lengths, scale=0.4, page=1)
    return [add(g, "head_linear", o, const(g, 2, 2, 4))]


def gated_example(g: Graph, x: Value, y: Value, n: int = 16) -> list[Value]:
    gate, up = (add(g, "linear", x, const(g, n, 8)) for _ in range(2))
    wide = add(g, "mul", add(g, "silu", gate), up)
    down = add(g, "linear", wide, const(g, 8, n))
    return [add(g, "add", y, add(g, "mul", down, scalar(g, 0.5)))]


def qkv_example(g: Graph, x: Value, y: Value) -> list[Value]:
    q, k, v = (add(g, "linear", x, const(g, n, 8)) for n in (8, 4, 4))
    return [add(g, "add", q, y), add(g, "cat", k, v, dim=1)]


def layout_example(g: Graph, x: Value, y: Value) -> list[Value]:
    turned = add(g, "permute", x, perm=(1, 0))
    flat = add(g, "reshape", turned, shape=(8 * T,))
    first = add(g, "slice", y, dim=1, start=0, stop=4, step=1)
    joined = add(g, "cat", first, add(g, "exp", first), dim=1)
    return [turned, flat, add(g, "sort", first, descending=False), joined]


def loops_example(g: Graph, x: Value, y: Value) -> list[Value]:
    normed = add(g, "rms_norm", x, const(g, 8), eps=1e-5)
    p = add(g, "softmax", add(g, "mul", normed, scalar(g, 0.5)))
    top = add(g, "argmax", p)
    picked = add(g, "gather", y, top)
    return [add(g, "add", p, y), add(g, "exp", picked)]


EXAMPLES: dict[str, Callable[..., list[Value]]] = {
    "fuse_moe": moe_example,
    "canonicalise": canonicalise_example,
    "lift": lift_example,
    "lift_route": route_example,
    "lift_gqa": gqa_example,
    "lift_causal": causal_example,
    "rewrite_mla": mla_example,
    "fuse_mla": latent_example,
    "fuse_epilogue": gated_example,
    "merge_linears": qkv_example,
    "layout": layout_example,
    "fuse_loops": loops_example,
}


def example(name: str) -> Graph:
    return graph_of(EXAMPLES[name], Type(F32, (T, 8)), Type(F32, (T, 8)), symbols=SYMBOLS)


def test_every_pass_has_an_example() -> None:
    assert set(EXAMPLES) == set(PIPELINE)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_pass_does_what_its_golden_text_shows(
    name: str, golden: Callable[[str, str], None]
) -> None:
    before = example(name)
    after = run_pass(name, before, CPU)
    after.verify()
    assert to_text(after) != to_text(before)
    golden(f"{name}.xir", f"# before {name}\n{to_text(before)}# after {name}\n{to_text(after)}")


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("size", [1, 6])
def test_a_pass_keeps_the_values_of_its_example(name: str, size: int, rng: torch.Generator) -> None:
    before = example(name)
    args = [torch.randn(size, 8, generator=rng) for _ in range(2)]
    after = run_pass(name, before, CPU)
    for a, b in zip(after.eval(*args), before.eval(*args), strict=True):
        torch.testing.assert_close(a, b)


# -- on random graphs ------------------------------------------------------------------------------
@cache
def stages(k: int) -> list[tuple[str, Graph]]:
    """A random graph and what each pass in turn makes of it."""
    g = random_graph(Random(100 + k), 6)
    out = [("import", g)]
    for name in PIPELINE:
        g = run_pass(name, g, CPU)
        g.verify()
        out.append((name, g))
    return out


@pytest.mark.parametrize("k", RANDOM)
def test_every_pass_keeps_the_values_of_random_graphs(k: int) -> None:
    for env in SIZES[:2]:
        args = arguments(stages(k)[0][1], env)
        want = stages(k)[0][1].eval(*args)
        for name, g in stages(k)[1:]:
            for o, (a, b) in enumerate(zip(g.eval(*args), want, strict=True)):
                assert a.dtype == b.dtype and a.shape == b.shape
                ok = torch.equal(a, b) or close(a, b)
                assert ok, f"{name} changed output {o} at {env}"


@pytest.mark.parametrize("k", RANDOM)
def test_canonicalise_is_idempotent(k: int) -> None:
    once = run_pass("canonicalise", stages(k)[0][1], CPU)
    assert to_text(run_pass("canonicalise", once, CPU)) == to_text(once)


@pytest.mark.parametrize("k", RANDOM)
def test_passes_are_deterministic(k: int) -> None:
    again = random_graph(Random(100 + k), 6)
    assert to_text(optimised(again)) == to_text(stages(k)[-1][1])


@pytest.mark.parametrize("k", RANDOM)
def test_passes_leave_their_input_alone(k: int) -> None:
    g = random_graph(Random(100 + k), 6)
    text = to_text(g)
    optimised(g)
    assert to_text(g) == text


# -- what the layout pass promises -----------------------------------------------------------------
def broken_promises(g: Graph) -> list[str]:
    """Violations of the layout pass's contract, which codegen relies on."""
    lay = layouts(g)
    made, users = g.producers(), g.users()
    bad: list[str] = []

    def demand(ok: bool, text: str) -> None:
        if not ok:
            bad.append(text)

    for n in g.nodes:
        if n.op.name == "cat":
            for v in n.inputs:
                producer = made.get(v)
                demand(producer is not None and not producer.op.view, "a piece has no kernel")
                demand(len(users[v]) == 1 and v not in g.outputs, "a piece has other readers")
                demand(lay[v].root is lay[n.out].root, "a piece lies elsewhere")
            continue
        for k, v in enumerate(n.inputs):
            if n.op.view or n.op.expr:
                continue
            kind = _demanded(n, k)
            demand(accepts(kind, v.shape, lay[v].strides), f"operand {k} of {n.op.name}")
        targets = {lay[n.inputs[k]].root for k in n.op.alias.values()}
        others = [v for k, v in enumerate(n.inputs) if k not in n.op.alias.values()]
        demand(not any(lay[v].root in targets for v in others), f"{n.op.name} reads what it writes")
        demand(not targets & set(g.consts), f"{n.op.name} writes to a constant")
        allowed = {g.inputs[i] for i in g.state.values()}
        demand(not (targets & set(g.inputs)) - allowed, f"{n.op.name} writes to an input")
    plain = [v for o, v in enumerate(g.outputs) if o not in g.state]
    demand(len(set(plain)) == len(plain), "an output is returned twice")
    for v in plain:
        demand(lay[v].root is v and v in made, "an output does not own its memory")
        demand(accepts(None, v.shape, lay[v].strides), "an output is not contiguous")
    for o, i in g.state.items():
        v = g.outputs[o]
        there = lay[v].root is g.inputs[i] and lay[v].offset == 0
        copied = v in made and made[v].op.name == "copy"
        demand(there or copied, f"state {i} is neither updated in place nor copied")
    return bad


def _demanded(n: Node, k: int) -> str | None:
    if n.body is None:
        return n.op.strides.get(k)
    inner = n.body.inputs[k]
    linear = any(m.op.name == "linear" and m.inputs[0] is inner for m in n.body.nodes)
    return "rows" if linear else "any"


@pytest.mark.parametrize("k", RANDOM)
def test_layout_keeps_its_promises_on_random_graphs(k: int) -> None:
    (after,) = [g for name, g in stages(k) if name == "layout"]
    assert not broken_promises(after)


def laid_out(build: Callable[..., list[Value]], *types: Type, **options: Any) -> Graph:
    g = run_pass("layout", graph_of(build, *types, symbols=SYMBOLS, **options), CPU)
    g.verify()
    assert not broken_promises(g)
    return g


X, CACHE, SLOTS = Type(F32, (T, 8)), Type(F32, (64, 8)), Type(I64, (T,))


def write(g: Graph, cache: Value, slots: Value, x: Value) -> Value:
    return add(g, "index_copy", cache, slots, x, dim=0)


def test_a_state_is_updated_in_place() -> None:
    def build(g, c, s, x):
        y = write(g, c, s, x)
        return [write(g, y, s, add(g, "exp", x)), add(g, "sum", x)]

    assert ops(laid_out(build, CACHE, SLOTS, X, state={0: 0}))["copy"] == 0


def test_a_state_is_updated_in_place_through_a_reshape() -> None:
    def build(g, c, s, x):
        wide = write(g, add(g, "reshape", c, shape=(64, 8)), s, x)
        return [add(g, "reshape", wide, shape=(4, 16, 8))]

    g = laid_out(build, Type(F32, (4, 16, 8)), SLOTS, X, state={0: 0})
    assert ops(g)["copy"] == 0


def test_an_input_that_is_no_state_is_copied_before_a_write() -> None:
    g = laid_out(lambda g, c, s, x: [add(g, "sum", write(g, c, s, x))], CACHE, SLOTS, X)
    assert ops(g)["copy"] == 1
    assert g.nodes[0].op.name == "copy"


def test_a_constant_is_copied_before_a_write() -> None:
    g = laid_out(lambda g, s, x: [add(g, "sum", write(g, const(g, 64, 8), s, x))], SLOTS, X)
    assert ops(g)["copy"] == 1


def test_a_value_that_is_read_later_is_copied_before_a_write() -> None:
    def build(g, s, x, y):
        old = add(g, "exp", y)
        new = write(g, old, s, x)
        return [add(g, "sum", new), add(g, "sum", old)]

    assert ops(laid_out(build, SLOTS, X, CACHE))["copy"] == 1


def test_a_value_that_dies_is_overwritten() -> None:
    g = laid_out(lambda g, s, x, y: [add(g, "sum", write(g, add(g, "exp", y), s, x))],
                 SLOTS, X, CACHE)  # fmt: skip
    assert ops(g)["copy"] == 0


def test_a_state_that_becomes_something_else_is_copied_last() -> None:
    g = laid_out(lambda g, c, x: [add(g, "exp", c), c, x], CACHE, X, state={0: 0})
    assert g.nodes[-1].op.name == "copy"
    assert g.outputs[0] is g.nodes[-1].out


def test_states_that_swap_go_through_a_copy() -> None:
    g = laid_out(lambda g, a, b: [b, a], CACHE, CACHE, state={0: 0, 1: 1})
    assert ops(g)["copy"] == 4


@pytest.mark.parametrize(
    ("build", "copies"),
    [
        (lambda g, x, y: [add(g, "permute", add(g, "exp", x), perm=(1, 0))], 1),
        (lambda g, x, y: [x], 1),
        (lambda g, x, y: [x, x], 2),
        (lambda g, x, y: [y := add(g, "exp", x), y], 1),
        (lambda g, x, y: [e := add(g, "exp", x), add(g, "reshape", e, shape=(8 * T,))], 1),
        (lambda g, x, y: [const(g, 3)], 1),
        (lambda g, x, y: [add(g, "exp", x), add(g, "exp", y)], 0),
    ],
    ids=["view", "input", "input twice", "value twice", "view of an output", "constant", "own"],
)  # fmt: skip
def test_outputs_own_their_memory(build: Callable[..., list[Value]], copies: int) -> None:
    assert ops(laid_out(build, X, X))["copy"] == copies


def cat(g: Graph, *xs: Value) -> Value:
    return add(g, "cat", *xs, dim=1)


@pytest.mark.parametrize(
    ("build", "copies"),
    [
        (lambda g, x, y: [cat(g, add(g, "exp", x), add(g, "exp", y))], 0),
        (lambda g, x, y: [cat(g, x, y)], 2),
        (lambda g, x, y: [cat(g, e := add(g, "exp", x), e)], 2),
        (lambda g, x, y: [cat(g, cat(g, add(g, "exp", x), add(g, "exp", y)), add(g, "sin", x))], 1),
        (lambda g, x, y: [cat(g, e := add(g, "exp", x), add(g, "exp", y)), e], 1),
        (lambda g, x, y: [cat(g, e := add(g, "exp", x), add(g, "exp", y)), cat(g, e, e)], 3),
        (lambda g, x, y: [add(g, "slice", cat(g, add(g, "exp", x), y), dim=1, start=3, stop=12,
                              step=1)], 2),
        (lambda g, x, y: [cat(g, add(g, "linear", x, const(g, 4, 8)), add(g, "tanh", y))], 0),
    ],
    ids=["own", "inputs", "repeated", "of a cat", "returned", "two cats", "slice of", "linear"],
)  # fmt: skip
def test_pieces_of_a_cat_are_written_in_place_or_copied(
    build: Callable[..., list[Value]], copies: int
) -> None:
    assert ops(laid_out(build, X, X))["copy"] == copies


def test_a_contiguous_value_is_reshaped_without_a_copy_whatever_its_dims() -> None:
    """Sums of symbols do not divide symbolically, yet any shape of as many elements will do."""
    u = symbol("U")
    x = Type(F32, (2, T, u + 34))
    for shape in ((2, 1, T, u + 34), (2 * T, u + 34), (T, u + 34, 2), (u + 34, T, 1, 2)):
        build = lambda g, x, s=shape: [add(g, "reshape", add(g, "exp", x), shape=s)]
        symbols = {**SYMBOLS, "U": Range(1, 8, 3)}
        assert ops(run_pass("layout", graph_of(build, x, symbols=symbols), CPU))["copy"] == 1


def test_one_copy_serves_every_kernel_that_needs_it() -> None:
    def build(g, x, y):
        t = add(g, "permute", x, perm=(1, 0))
        add(g, "sort", t, descending=False)
        return [g.nodes[-1].outputs[0], add(g, "cumsum", t)]

    assert ops(laid_out(build, X, X))["copy"] == 1


def test_states_and_views_run_right(rng: torch.Generator) -> None:
    """The hazards of states and views, run as one compiled graph."""
    args: list[torch.Tensor] = []
    g = Graph()

    def new(*shape: int) -> Value:
        args.append(torch.randn(shape, generator=rng))
        return g.input(type_of(args[-1]), f"x{len(args)}")

    def index(n: int) -> Value:
        args.append(torch.randperm(9, generator=rng)[:n])
        return g.input(type_of(args[-1]), f"x{len(args)}")

    def update(state: Value, value: Value) -> None:
        g.state[len(g.outputs)] = g.inputs.index(state)
        g.outputs.append(value)

    def cut(x: Value, start: int, stop: int) -> Value:
        return add(g, "slice", x, dim=0, start=start, stop=stop, step=1)

    a, b = new(4, 5), new(4, 5)  # swap
    update(a, b)
    update(b, a)
    a, b, c = new(4, 5), new(4, 5), new(4, 5)  # rotate, with work on the way
    update(a, add(g, "exp", b))
    update(b, c)
    update(c, add(g, "neg", a))
    a = new(6, 6)
    update(a, add(g, "permute", a, perm=(1, 0)))
    a = new(40, 40)
    update(a, add(g, "add", a, add(g, "permute", a, perm=(1, 0))))
    a = new(40, 40)
    update(a, add(g, "add", a, cut(a, 0, 1)))
    a = new(9, 4)
    update(a, cat0(g, cut(a, 1, 9), cut(a, 0, 1)))
    a = new(5, 7)  # the old and the new state are both results
    update(a, double := add(g, "add", a, a))
    g.outputs += [a, double, add(g, "mul", a, double), add(g, "softmax", a)]
    a, i = new(9, 4), index(3)
    update(a, add(g, "index_copy", a, i, cut(a, 0, 3), dim=0))
    a, i = new(9, 4), index(3)  # read before, write, read after
    g.outputs.append(add(g, "exp", a))
    update(a, wrote := add(g, "index_copy", a, i, add(g, "tanh", cut(a, 2, 5)), dim=0))
    g.outputs += [add(g, "sum", wrote), cut(wrote, 3, 8)]
    a, b, i = new(9, 4), new(9, 4), index(3)  # one state's write becomes another state
    update(a, add(g, "index_copy", b, i, cut(a, 0, 3), dim=0))
    g.outputs.append(add(g, "add", a, b))
    g.verify()
    want = g.eval(*args)
    for threads in (1, 2):
        got = call(g, executor(compiled(g), threads), args)
        for k, (x, y) in enumerate(zip(got, want, strict=True)):
            ok = torch.allclose(x, y, rtol=1e-4, atol=1e-5)
            assert ok, f"output {k} with {threads} threads"


def cat0(g: Graph, *xs: Value) -> Value:
    return add(g, "cat", *xs, dim=0)


# -- what the other passes promise -----------------------------------------------------------------
def test_fusion_makes_no_cycle() -> None:
    def build(g, x, y):
        a = add(g, "exp", x)
        add(g, "sort", a, descending=False)
        return [add(g, "add", a, g.nodes[-1].outputs[0])]

    g = optimised(graph_of(build, X, X, symbols=SYMBOLS))
    assert [n.op.name for n in g.nodes] == ["group", "sort", "group"]


def test_fusion_makes_one_kernel_of_a_row_wise_chain() -> None:
    def build(g, x, y):
        h = add(g, "add", x, y)
        return [add(g, "softmax", add(g, "rms_norm", h, const(g, 8), eps=1e-5)), h]

    assert ops(optimised(graph_of(build, X, X, symbols=SYMBOLS))) == {"group": 1}


def test_a_loop_never_reads_the_state_that_it_writes() -> None:
    def build(g, c, x):
        return [add(g, "add", c, add(g, "slice", c, dim=0, start=0, stop=1, step=1))]

    g = optimised(graph_of(build, CACHE, X, state={0: 0}, symbols=SYMBOLS))
    assert [n.op.name for n in g.nodes] == ["slice", "group", "group"]


def test_a_gated_mlp_shares_one_launch() -> None:
    g = run_pass("fuse_epilogue", example("fuse_epilogue"), CPU)
    assert bodies(g) == [["linear", "linear", "silu", "mul"], ["linear", "full", "mul", "add"]]


@pytest.mark.parametrize("case", ["not a multiple of 16", "the gate is returned", "two inputs"])
def test_what_is_no_gated_mlp_keeps_two_linears_apart(case: str) -> None:
    def build(g, x, y):
        n = 20 if "16" in case else 16
        gate = add(g, "linear", x, const(g, n, 8))
        up = add(g, "linear", y if case == "two inputs" else x, const(g, n, 8))
        out = [add(g, "mul", add(g, "silu", gate), up)]
        return [*out, gate] if "returned" in case else out

    g = run_pass("fuse_epilogue", graph_of(build, X, X, symbols=SYMBOLS), CPU)
    assert all(b.count("linear") <= 1 for b in bodies(g))


def test_linears_of_one_input_merge() -> None:
    g = run_pass("merge_linears", example("merge_linears"), CPU)
    assert ops(g)["linear"] == 1
    assert [t.shape for t in g.consts.values() if t is not None] == [(16, 8)]


def test_linears_of_two_inputs_or_of_unknown_weights_stay() -> None:
    def build(g, x, y, w):
        a, b = add(g, "linear", x, const(g, 4, 8)), add(g, "linear", y, const(g, 4, 8))
        return [a, b, add(g, "linear", x, w)]

    before = graph_of(build, X, X, Type(F32, (4, 8)), symbols=SYMBOLS)
    assert ops(run_pass("merge_linears", before, CPU))["linear"] == 3


def test_repeated_heads_are_read_in_place() -> None:
    g = run_pass("lift_gqa", example("lift_gqa"), CPU)
    assert ops(g)["expand"] == 0
    (n,) = [n for n in g.nodes if n.op.name == "attention"]
    assert [v.shape[1] for v in n.inputs] == [4, 2, 2]


def test_heads_repeated_as_a_block_stay(rng: torch.Generator) -> None:
    before = graph_of(lambda g, x, y: gqa_example(g, x, y, dim=1), X, X, symbols=SYMBOLS)
    after = run_pass("lift_gqa", before, CPU)
    assert ops(after)["expand"] == 1
    args = [torch.randn(5, 8, generator=rng) for _ in range(2)]
    torch.testing.assert_close(after.eval(*args), before.eval(*args))


@pytest.mark.parametrize("other", [{"least": 0}, {"least": 2}, {"turned": True}])
def test_other_masks_stay(other: dict[str, Any]) -> None:
    before = graph_of(lambda g, x, y: causal_example(g, x, y, **other), X, X, symbols=SYMBOLS)
    (n,) = [n for n in run_pass("lift_causal", before, CPU).nodes if n.op.name == "attention"]
    assert len(n.inputs) == 4 and not n.attrs["causal"]


def test_canonicalise_tells_1_from_true_and_from_1_0() -> None:
    def build(g, x, y):
        fills = [add(g, "full", shape=(3,), value=v, dtype=d)
                 for v, d in ((1, I64), (True, torch.bool), (1.0, F32))]  # fmt: skip
        return fills

    g = run_pass("canonicalise", graph_of(build, X, X, symbols=SYMBOLS), CPU)
    assert [v.dtype for v in g.outputs] == [I64, torch.bool, F32]


# -- the checks themselves -------------------------------------------------------------------------
def wrong_pass(g: Graph, target: object) -> Graph:
    """Computes x where exp(x) was meant."""
    n = next(n for n in g.nodes if n.op.name == "exp")
    return g.with_nodes([m for m in g.nodes if m is not n], {n.out: n.inputs[0]})


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("xcompile.passes.wrong")
    module.run = wrong_pass  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return "wrong"


def test_verification_names_the_pass_that_changed_a_result(
    wrong: str, rng: torch.Generator
) -> None:
    g = example("canonicalise")
    args = [torch.randn(3, 8, generator=rng) for _ in range(2)]
    run_pipeline(g, CPU, names=["canonicalise", "lift"], check=args)
    with pytest.raises(XCompileError, match="pass wrong changed output 0"):
        run_pipeline(g, CPU, names=["canonicalise", wrong, "lift"], check=args)
    run_pipeline(g, CPU, names=["canonicalise", wrong])  # without examples nobody can tell


def test_verification_is_asked_for_by_the_environment(
    wrong: str, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    module = sys.modules[f"xcompile.passes.{wrong}"]
    monkeypatch.setitem(sys.modules, "xcompile.passes.lift_gqa", module)
    monkeypatch.setenv("XC_VERIFY", "2")
    with pytest.raises(XCompileError, match="pass lift_gqa changed output 0"):
        xcompile(torch.exp, (torch.randn(3, 8, generator=rng),))


def test_an_ill_formed_result_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = lambda g, t: g.with_nodes(g.nodes[1:])
    monkeypatch.setattr(sys.modules["xcompile.passes.wrong"], "run", broken)
    with pytest.raises(XCompileError, match="not defined"):
        run_pipeline(example("lift"), CPU, names=[wrong])


def test_an_unknown_pass_is_refused() -> None:
    with pytest.raises(XCompileError, match=r"there is no pass 'nonsense'; passes: .*canonicalise"):
        run_pass("nonsense", example("lift"), CPU)


def test_the_runner_tells_what_it_saw() -> None:
    seen: list[str] = []
    _, records = run_pipeline(
        example("fuse_loops"), CPU, observe=lambda name, graph, seconds: seen.append(name)
    )
    assert seen == ["import", *PIPELINE]
    assert [r.name for r in records] == PIPELINE
    assert all(r.before > 0 and r.after > 0 and r.seconds >= 0 for r in records)


def test_rows_that_repeat_are_not_rows_of_a_product() -> None:
    assert accepts("rows", (T, 16), (20, 1))
    assert accepts("rows", (1, 16), (0, 1))
    assert not accepts("rows", (T, 16), (0, 1))
    assert not accepts("matrix", (T, 16), (0, 1))
