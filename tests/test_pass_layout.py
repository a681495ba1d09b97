"""What the layout pass promises: strides that kernels take, states updated in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.helpers import add, call, compiled, graph_of, type_of
from tests.pass_examples import CACHE, CPU, F32, RANDOM, SLOTS, SYMBOLS, T, X, const, ops, stages
from xcompile.compiler import executor
from xcompile.ir import Graph, Node, Type, Value
from xcompile.layout import accepts, layouts
from xcompile.passes import run_pass
from xcompile.symbolic import Range, symbol


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


def test_rows_that_repeat_are_not_rows_of_a_product() -> None:
    assert accepts("rows", (T, 16), (20, 1))
    assert accepts("rows", (1, 16), (0, 1))
    assert not accepts("rows", (T, 16), (0, 1))
    assert not accepts("matrix", (T, 16), (0, 1))
