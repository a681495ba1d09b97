"""Routed experts: every token row goes through its top-k experts' MLP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from xcompile.ir import Attrs, Node, Op, Type
from xcompile.ops.infer import expect
from xcompile.symbolic import Dim, product, same

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: torch.square(F.relu(x)),
}
"""Activations of a gate, or of the only projection of experts without one."""

CLAMPED = ("silu_clamped", "clamped_silu", "swiglu_oai")
"""Gated units that are more than act(gate) * up; they take `limit`, the last one `alpha`."""

ACTS = (*ACTIVATIONS, *CLAMPED)


ROUTED = ("moe_experts", "moe_experts_int8")
"""Ops whose first operands are x, expert, weight."""


def gate(
    act: str, g: torch.Tensor, u: torch.Tensor, limit: float = math.inf, alpha: float = 1.0
) -> torch.Tensor:
    """The gated unit of moe_experts on gate and up."""
    if act in ACTIVATIONS:
        return ACTIVATIONS[act](g) * u
    u = u.clamp(-limit, limit)
    if act == "clamped_silu":  # step3p7
        return F.silu(g).clamp(max=limit) * u
    g = g.clamp(max=limit)
    if act == "silu_clamped":  # DeepSeek V4, GLM 5
        return F.silu(g) * u
    if act == "swiglu_oai":  # gpt_oss, MiniMax M3
        return (u + 1) * (g * torch.sigmoid(g * alpha))
    raise ValueError(f"unknown activation {act!r}; known: {', '.join(ACTS)}")


def is_gated(up: Sequence[Dim], down: Sequence[Dim]) -> bool:
    """Whether weights of these shapes are gate and up, or up alone."""
    return not same(up[1], down[2])


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, expert, weight, up, down, *bias = types
    ok = x.rank == expert.rank == weight.rank == 2 and up.rank == down.rank == 3
    ok = ok and expert.dtype == torch.int64 and x.dtype == up.dtype == down.dtype
    ok = ok and all(map(same, expert.shape, weight.shape)) and attrs["act"] in ACTS
    ok = ok and same(up.shape[2], x.shape[1]) and same(up.shape[0], down.shape[0])
    ok = ok and same(down.shape[1], x.shape[1])
    if ok and is_gated(up.shape, down.shape):
        ok = same(up.shape[1], 2 * down.shape[2])
    else:
        ok = ok and attrs["act"] in ACTIVATIONS
    wanted = [Type(x.dtype, w.shape[:2]) for w in (up, down)] if bias else []
    ok = ok and len(bias) == len(wanted) and all(map(Type.same, bias, wanted))
    expect(
        ok,
        "moe_experts takes x[N,H], expert i64[N,k], weight[N,k], gate_up[E,2I,H] or up[E,I,H], "
        "down[E,H,I] and no or two biases [E,2I], [E,H] of the same types, "
        f"given {list(map(str, types))}, {attrs['act']}",
    )
    return [x]


def _ref(
    x: torch.Tensor,
    expert: torch.Tensor,
    weight: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    *bias: torch.Tensor,
    act: str,
    limit: float = math.inf,
    alpha: float = 1.0,
) -> torch.Tensor:
    out = torch.zeros(x.shape, dtype=torch.float32)
    gated = is_gated(gate_up.shape, down.shape)
    for e in expert.unique().tolist():
        t, k = torch.where(expert == e)
        up_bias, down_bias = (b[e] for b in bias) if bias else (None, None)
        h = F.linear(x[t], gate_up[e], up_bias)
        g, u = h.chunk(2, -1) if gated else (h, h)
        h = gate(act, g, u, limit, alpha) if gated else ACTIVATIONS[act](h)
        y = F.linear(h, down[e], down_bias).float()
        out.index_add_(0, t, y * weight[t, k].float()[:, None])
    return out.to(x.dtype)


def _flops(ins: Sequence[Type], outs: Sequence[Type], attrs: Attrs) -> Dim:
    x, expert, _, up, down = ins[:5]
    products = 6 if is_gated(up.shape, down.shape) else 4
    return product((products, *expert.shape, x.shape[1], down.shape[2]))


def _workspace(ins: Sequence[Type], attrs: Attrs) -> Dim:
    """As xc::Experts wants it: index table, activations and per-row results."""
    x, expert, _, _, down = ins[:5]
    inter16 = -(-int(down.shape[2]) // 16) * 16
    per_row = 4 * x.shape[1] + x.dtype.itemsize * inter16 + 40
    return expert.numel * per_row + 32 * down.shape[0] + 4096


def _sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    n, h, i, e, k = 7, 40, 24, 5, 2
    expert = torch.stack([torch.randperm(e, generator=rng)[:k] for _ in range(n)])
    weights = [torch.randn(s, generator=rng) / 6 for s in ((e, 2 * i, h), (e, h, i))]
    x, w = torch.randn(n, h, generator=rng), torch.rand(n, k, generator=rng)
    return [x, expert, w, *weights], {"act": "silu"}


def expanded_bytes(n: Node) -> Dim:
    """Bytes of a copy of the token rows, one for each of their experts: moe_experts has none."""
    x, expert = n.inputs[:2]
    return product((*expert.shape, x.shape[1], x.dtype.itemsize))


def unusual(n: Node) -> list[str]:
    """What a moe_experts node has beyond act(gate) * up without biases, in words."""
    up, down, act = n.inputs[3].shape, n.inputs[4].shape, n.attrs["act"]
    words = ["biases"] if len(n.inputs) > 5 else []
    words += ["no gate"] if not is_gated(up, down) else []
    return words + ([f"activation {act}"] if act in (*CLAMPED, "relu2") else [])


# y[t] = sum_k weight[t,k] (down_e h + down_bias_e), h = act(gate_e x_t) * up_e x_t, e=expert[t,k];
# gate_up[e] holds the gate's rows, then up's. Without a gate h = act(up_e x_t), which the weights'
# shapes tell. gate(): the units that clamp. Token rows are gathered by index inside the tile load.
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
