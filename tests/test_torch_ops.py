"""The operators of the frontend: the experts' and paged attention's definitions and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.hf_models import relative_error
from xcompile.frontend import (
    torch_ops,
)


@pytest.mark.parametrize("act", sorted(torch_ops.ACTIVATIONS))
def test_moe_experts_is_its_formula(act: str) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 6, generator=g, dtype=torch.float64)
    gate_up = torch.randn(4, 14, 6, generator=g, dtype=torch.float64)
    down = torch.randn(4, 6, 7, generator=g, dtype=torch.float64)
    expert = torch.rand(5, 4, generator=g).topk(3).indices
    weight = torch.rand(5, 3, generator=g, dtype=torch.float64)
    want = torch.zeros_like(x)
    for n in range(5):
        for j in range(3):
            e = int(expert[n, j])
            hidden = torch_ops.ACTIVATIONS[act](gate_up[e, :7] @ x[n]) * (gate_up[e, 7:] @ x[n])
            want[n] += weight[n, j] * (down[e] @ hidden)
    got = torch.ops.xllm.moe_experts(x, expert, weight, gate_up, down, act)
    assert relative_error(got, want) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_moe_experts_follows_schema_and_dtype(dtype: torch.dtype) -> None:
    x, gate_up, down = torch.ones(3, 4), torch.ones(2, 6, 4), torch.ones(2, 4, 3)
    expert = torch.tensor([[0, 1], [1, 0], [0, 1]])
    args = (x.to(dtype), expert, torch.ones(3, 2), gate_up.to(dtype), down.to(dtype), "silu")
    torch.library.opcheck(
        torch.ops.xllm.moe_experts.default, args, test_utils=("test_schema", "test_faketensor")
    )
    out = torch.ops.xllm.moe_experts(*args)
    assert out.dtype == dtype and out.shape == (3, 4)
    assert torch.ops.xllm.moe_experts(
        args[0][:0], expert[:0], *args[2:][:0], torch.ones(0, 2), *args[3:]
    ).shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expert": torch.tensor([[2], [0]])}, "there are 2 experts"),
        ({"expert": torch.tensor([[-1], [0]])}, "from -1"),
        ({"expert": torch.zeros(2, 1, dtype=torch.int32)}, "int64"),
        ({"weight": torch.ones(2, 1, dtype=torch.float64)}, "weight must be"),
        ({"weight": torch.ones(2, 2)}, "disagree"),
        ({"down": torch.ones(2, 4, 2)}, "do not belong together"),
        ({"gate_up": torch.ones(2, 6, 4, dtype=torch.float64)}, "differ in dtype"),
        ({"act": "tanh"}, "unknown activation"),
    ],
)
def test_moe_experts_refuses(change: dict[str, Any], message: str) -> None:
    args: dict[str, Any] = {
        "x": torch.ones(2, 4),
        "expert": torch.zeros(2, 1, dtype=torch.int64),
        "weight": torch.ones(2, 1),
        "gate_up": torch.ones(2, 6, 4),
        "down": torch.ones(2, 4, 3),
        "act": "silu",
    }
    with pytest.raises(ValueError, match=message):
        torch.ops.xllm.moe_experts(**{**args, **change})


def paged_case(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Three requests: a prompt, one without new tokens, a continued one; one padding row."""
    g = torch.Generator().manual_seed(0)
    return {
        "q": torch.randn(6, 4, 8, generator=g).to(dtype),
        "k_cache": torch.randn(15, 2, 8, generator=g).to(dtype),
        "v_cache": torch.randn(15, 2, 5, generator=g).to(dtype),
        "cu_seqlens": torch.tensor([0, 3, 3, 5]),
        "context_lens": torch.tensor([3, 2, 7]),
        "block_tables": torch.tensor([[2, 0, 0], [3, 0, 0], [4, 0, 1]]),
        "scale": 0.3,
        "page": 3,
    }


def test_paged_attention_is_its_definition() -> None:
    case = paged_case()
    got = torch.ops.xllm.paged_attention(**case)
    want = torch.zeros(6, 4, 5, dtype=torch.float64)
    for request, (first, last) in enumerate([(0, 3), (3, 3), (3, 5)]):
        for row in range(first, last):
            position = int(case["context_lens"][request]) - (last - first) + row - first
            table = case["block_tables"][request]
            slots = [int(table[p // 3]) * 3 + p % 3 for p in range(position + 1)]
            for head in range(4):
                scores = case["k_cache"][slots, head // 2] @ case["q"][row, head] * 0.3
                want[row, head] = scores.softmax(0) @ case["v_cache"][slots, head // 2]
    assert relative_error(got, want) < 1e-12
    assert not got[5].any(), "rows of no request are zero"


def test_paged_attention_follows_schema() -> None:
    case = paged_case(torch.bfloat16)
    torch.library.opcheck(
        torch.ops.xllm.paged_attention.default,
        tuple(case.values()),
        test_utils=("test_schema", "test_faketensor"),
    )
    assert torch.ops.xllm.paged_attention(**case).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_lens": torch.tensor([2, 2, 7])}, "request 0: 3 new tokens, context 2"),
        ({"context_lens": torch.tensor([3, 2, 10])}, "3 pages of 3"),
        ({"context_lens": torch.tensor([3, 2])}, "number of requests"),
        ({"block_tables": torch.zeros(3, 3, dtype=torch.int32)}, "int64"),
        ({"q": torch.ones(6, 3, 8, dtype=torch.float64)}, "do not group"),
        ({"q": torch.ones(6, 4, 8)}, "differ in dtype"),
        ({"page": 0}, "positive"),
    ],
)
def test_paged_attention_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torch.ops.xllm.paged_attention(**{**paged_case(), **change})
