"""Routed experts with int8 weights: W8A8, rows quantised as they come."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Node, Op, Type
from xcompile.ops import moe
from xcompile.ops.infer import expect
from xcompile.symbolic import Dim

LEVELS = 127.0


def quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x[..., K] as int8 [..., K] and float32 scales [..., 1]: symmetric, q = round(x 127 / max|x|),
    ties to even, scale = max|x| / 127. A row with a value that is not finite gets the scale NaN.
    """
    scale, inverse = _scales(x)
    wide = x.float() * inverse
    if not bool(scale.isfinite().all()):
        wide.nan_to_num_(0.0, 0.0, 0.0)
    return wide.round_().to(torch.int8), scale


def _scales(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """max|x| / 127 and 127 / max|x| of rows, [..., 1]; (0, 0) where the latter is not finite."""
    top = x.abs().amax(-1, keepdim=True).float()
    inverse = LEVELS / top
    fits = inverse.isfinite() & (inverse > 0)
    scale = torch.where(fits, top / LEVELS, torch.where(top.isfinite(), 0.0, torch.nan))
    return scale, torch.where(fits, inverse, 0.0)


def linear(
    x: torch.Tensor, w: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """float32 [N, M] of x[N, K] as int8 with w int8 [M, K] and its scales [M]; exact sums."""
    q, each = quantise(x)
    y = (q.double() @ w.double().T).float() * scale * each
    return y if bias is None else y + bias.float()


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, expert, weight, up, up_scale, down, down_scale, *bias = types
    each = [Type(torch.float32, w.shape[:2]) for w in (up, down)]
    ok = up.dtype == down.dtype == torch.int8
    ok = ok and all(map(Type.same, (up_scale, down_scale), each))
    expect(
        ok,
        "moe_experts_int8 takes the operands of moe_experts with i8 weights, each followed by its "
        f"scales f32[E, channels], given {list(map(str, types))}",
    )
    wide = [Type(x.dtype, w.shape) for w in (up, down)]
    return list(moe.MOE_EXPERTS.infer([x, expert, weight, *wide, *bias], attrs))


def _ref(
    x: torch.Tensor,
    expert: torch.Tensor,
    weight: torch.Tensor,
    gate_up: torch.Tensor,
    up_scale: torch.Tensor,
    down: torch.Tensor,
    down_scale: torch.Tensor,
    *bias: torch.Tensor,
    act: str,
    limit: float = math.inf,
    alpha: float = 1.0,
) -> torch.Tensor:
    out = torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32))
    gated = moe.is_gated(gate_up.shape, down.shape)
    for e in expert.unique().tolist():
        t, k = torch.where(expert == e)
        one, two = (b[e] for b in bias) if bias else (None, None)
        h = linear(x[t], gate_up[e], up_scale[e], one)
        g, u = h.chunk(2, -1) if gated else (h, h)
        h = moe.gate(act, g, u, limit, alpha) if gated else moe.ACTIVATIONS[act](h)
        y = linear(h.to(x.dtype), down[e], down_scale[e], two)
        out.index_add_(0, t, y * weight[t, k].float()[:, None])
    return out.to(x.dtype)


def _flops(ins: Sequence[Type], outs: Sequence[Type], attrs: Attrs) -> Dim:
    assert moe.MOE_EXPERTS.cost is not None
    return moe.MOE_EXPERTS.cost([*ins[:4], ins[5]], outs, attrs)


def _workspace(ins: Sequence[Type], attrs: Attrs) -> Dim:
    """As xc::ExpertsInt8 wants it: what Experts has, and the rows of both products as int8."""
    x, expert, down = ins[0], ins[1], ins[5]
    assert moe.MOE_EXPERTS.workspace is not None
    hidden, inner = (-(-int(d) // 64) * 64 for d in (x.shape[1], down.shape[2]))
    more = x.shape[0] * (hidden + 4) + expert.numel * (inner + 4) + 256
    return moe.MOE_EXPERTS.workspace([*ins[:4], down], attrs) + more


def _sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    assert moe.MOE_EXPERTS.sample is not None
    (x, expert, weight, *weights), attrs = moe.MOE_EXPERTS.sample(rng)
    pairs = [t for w in weights for t in quantised(w)]
    return [x, expert, weight, *pairs], attrs


def levels(w: torch.Tensor) -> torch.Tensor:
    """Weights [E, N, K] as int8, an expert at a time, which bounds the float32 copies."""
    q = torch.empty(w.shape, dtype=torch.int8, device=w.device)
    for e in range(w.shape[0]):
        q[e] = quantise(w[e])[0]
    return q


def scales(w: torch.Tensor) -> torch.Tensor:
    """Float32 scales [E, N] of the channels of weights [E, N, K]."""
    return _scales(w)[0][..., 0]


def quantised(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [E, N, K] as int8, and float32 scales [E, N] of their channels."""
    return levels(w), scales(w)


def smaller_by(n: Node) -> int:
    """Bytes that the weights of a moe_experts_int8 node would have more in its rows' type."""
    x, _, _, up, up_scale, down, down_scale = (v.type for v in n.inputs[:7])
    more = (x.dtype.itemsize - 1) * (up.numel + down.numel)
    return int(more - up_scale.nbytes - down_scale.nbytes)


# As moe_experts, of rows and weights in int8: with q(r), s(r) = quantise(r) of a row,
# h = unit(s(x_t) up_scale_e (up_e q(x_t)) + bias), rounded to x's type;
# y[t] = sum_k weight[t,k] (s(h) down_scale_e (down_e q(h)) + down_bias_e).
MOE_EXPERTS_INT8 = Op(
    "moe_experts_int8",
    _infer,
    _ref,
    strides={0: "rows"},
    workspace=_workspace,
    cost=_flops,
    sample=_sample,
)
