"""Routed experts: every token row goes through its top-k experts' gated MLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import expect
from xcompile.symbolic import Dim, product, same

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, expert, weight, up, down = types
    ok = x.rank == expert.rank == weight.rank == 2 and up.rank == down.rank == 3
    ok = ok and expert.dtype == torch.int64 and x.dtype == up.dtype == down.dtype
    ok = ok and all(map(same, expert.shape, weight.shape)) and attrs["act"] in ACTIVATIONS
    ok = ok and same(up.shape[1], 2 * down.shape[2]) and same(up.shape[2], x.shape[1])
    expect(
        ok and same(down.shape[1], x.shape[1]),
        "moe_experts takes x[N,H], expert i64[N,k], weight[N,k], gate_up[E,2I,H], down[E,H,I], "
        f"given {list(map(str, types))}",
    )
    return [x]


def _ref(
    x: torch.Tensor,
    expert: torch.Tensor,
    weight: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    act: str,
) -> torch.Tensor:
    out = torch.zeros(x.shape, dtype=torch.float32)
    for e in expert.unique().tolist():
        t, k = torch.where(expert == e)
        g, u = F.linear(x[t], gate_up[e]).chunk(2, -1)
        y = F.linear(ACTIVATIONS[act](g) * u, down[e]).float()
        out.index_add_(0, t, y * weight[t, k].float()[:, None])
    return out.to(x.dtype)


def _flops(ins: Sequence[Type], outs: Sequence[Type], attrs: Attrs) -> Dim:
    x, expert, _, _, down = ins
    return product((6, *expert.shape, x.shape[1], down.shape[2]))


def _workspace(ins: Sequence[Type], attrs: Attrs) -> Dim:
    """As xc::Experts wants it: index table, activations and per-row results."""
    x, expert, _, _, down = ins
    inter16 = -(-int(down.shape[2]) // 16) * 16
    per_row = 4 * x.shape[1] + x.dtype.itemsize * inter16 + 40
    return expert.numel * per_row + 32 * down.shape[0] + 4096


def _sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    n, h, i, e, k = 7, 40, 24, 5, 2
    expert = torch.stack([torch.randperm(e, generator=rng)[:k] for _ in range(n)])
    weights = [torch.randn(s, generator=rng) / 6 for s in ((e, 2 * i, h), (e, h, i))]
    x, w = torch.randn(n, h, generator=rng), torch.rand(n, k, generator=rng)
    return [x, expert, w, *weights], {"act": "silu"}


# y[t] = sum_k weight[t,k] down_e (act(gate_e x_t) * up_e x_t), e = expert[t,k]; gate_up[e] holds
# the gate's rows, then up's. Token rows are gathered by index inside the tile load.
MOE_EXPERTS = Op(
    "moe_experts",
    _infer,
    _ref,
    aten=("xllm.moe_experts.default",),
    strides={0: "rows"},
    workspace=_workspace,
    cost=_flops,
    sample=_sample,
)
