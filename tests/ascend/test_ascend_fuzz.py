"""Random graphs emitted for Ascend and run in the simulator, all checks on, must equal the
unoptimised graph in the interpreter. The graphs are those of tests/test_fuzz.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
import torch

from tests.helpers import add, assert_close_to_reference, call, compiled, exact_eval, graph_of
from tests.test_fuzz import SIZES, SLOTS, Grower, arguments, cached, close
from xcompile.compiler import executor
from xcompile.ir import Graph, Type, Value
from xcompile.symbolic import Range, symbol

T, U = symbol("T"), symbol("U")
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


def random_graph(
    seed: int, dtype: torch.dtype = F32, steps: int = 6, *, state: bool = False
) -> Graph:
    r = Random(seed)
    g = Graph(symbols={"T": Range(1, SLOTS, 7), "U": Range(1, 8, 3)})
    g.input(Type(F32, (T, U)), "sizes")  # so that both symbols are always known
    if state:
        cached(r, g)
    else:
        Grower(r, g, smooth=dtype != F32, dtype=dtype).grow(steps)
    g.verify()
    return g


def check(g: Graph, ulps: float, sizes: Sequence[dict[str, int]] = SIZES) -> int:
    """How many floating-point results were compared."""
    run = executor(compiled(g, "ascend910b"), 1)
    compared = 0
    for seed, env in enumerate(sizes):
        run.options = replace(run.options, seed=seed)  # another order of the cores
        args = arguments(g, env)
        rows = zip(call(g, run, args), g.eval(*args), exact_eval(g, args), strict=True)
        for k, (got, eager, exact) in enumerate(rows):
            if got.dtype.is_floating_point and not close(eager, exact):
                continue  # a choice fell differently in float64: nothing to compare with
            exact = exact if exact.is_floating_point() else exact.to(eager.dtype)
            assert_close_to_reference(got, eager, exact, ulps=ulps, what=f"output {k} at {env}")
            compared += 1
    return compared


def test_random_graphs_are_what_the_interpreter_says() -> None:
    compared = [check(random_graph(seed), ulps=256) for seed in (1, 6)]
    assert min(compared) >= 6


def test_a_random_state_is_updated_in_place() -> None:
    assert check(random_graph(4, state=True), ulps=256) >= 3


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_random_16_bit_graphs_are_as_close_as_eager(dtype: torch.dtype) -> None:
    assert check(random_graph(0, dtype), ulps=16) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_random_graphs_are_what_the_interpreter_says(seed: int) -> None:
    check(random_graph(seed, steps=14, state=seed % 5 == 4), ulps=256)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize("seed", range(200, 215))
def test_many_random_16_bit_graphs_are_as_close_as_eager(seed: int, dtype: torch.dtype) -> None:
    check(random_graph(seed, dtype, 10), ulps=16)


def test_the_graphs_reach_most_ops() -> None:
    graphs = [random_graph(seed, steps=14, state=seed % 5 == 4) for seed in range(100, 140)]
    reached = {n.op.name for g in graphs for n in g.nodes}
    assert len(reached) >= 45


def test_products_of_matrices_that_lie_oddly() -> None:
    """Rows that are one row again and again, and columns and rows that both lie apart."""

    def build(g: Graph, row: Value, x: Value, column: Value) -> list[Value]:
        many = add(g, "expand", row, shape=(2, T, 12))
        apart = add(g, "permute", x, perm=(2, 0, 1))  # [4, 12, T]: no dim with stride 1 at the end
        same = add(g, "expand", column, shape=(2, T, 7))
        return [
            add(g, "matmul", many, add(g, "permute", many, perm=(0, 2, 1))),
            add(g, "matmul", add(g, "permute", apart, perm=(0, 2, 1)), apart),
            add(g, "matmul", add(g, "permute", same, perm=(0, 2, 1)), same),
        ]

    types = Type(F32, (2, 1, 12)), Type(F32, (12, T, 4)), Type(F32, (2, T, 1))
    g = graph_of(build, *types, symbols={"T": Range(1, SLOTS, 7)})
    assert check(g, 256, [{"T": 7}, {"T": 1}, {"T": 16}]) == 9
