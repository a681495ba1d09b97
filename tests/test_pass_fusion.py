"""What fuse_loops, fuse_epilogue and merge_linears promise."""

from __future__ import annotations

import pytest

from tests.helpers import add, graph_of, optimised
from tests.pass_examples import CACHE, CPU, F32, SYMBOLS, X, bodies, const, example, ops
from xcompile.ir import Type
from xcompile.passes import run_pass


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
