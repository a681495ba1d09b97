"""What lift_gqa, lift_causal and canonicalise leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers import add, graph_of
from tests.pass_examples import CPU, F32, I64, SYMBOLS, X, causal_example, example, gqa_example, ops
from xcompile.passes import run_pass


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
