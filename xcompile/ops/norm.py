"""Row-wise ops over the last dim: softmax, RMSNorm, LayerNorm. Each carries its decomposition into
pointwise ops and reductions, which is how targets with fused row kernels emit it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from xcompile.ir import Attrs, Graph, Op, Type, Value
from xcompile.ops.infer import expect, like_first
from xcompile.ops.leaf import FULL
from xcompile.ops.pointwise import BY_NAME, CAST
from xcompile.ops.reduce import AMAX, SUM
from xcompile.symbolic import Dim


def _weighted(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    for w in types[1:]:
        expect(w.rank == 1 and w.shape[0] == types[0].shape[-1], f"weight {w} for {types[0]}")
    return [types[0]]


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype.itemsize >= 4 else x.float()


def _softmax_ref(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(_wide(x), -1).to(x.dtype)


def _rms_norm_ref(x: torch.Tensor, w: torch.Tensor, eps: float) -> torch.Tensor:
    h = _wide(x)
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)
    return w * h.to(x.dtype)


def _layer_norm_ref(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, eps: float) -> torch.Tensor:
    y = F.layer_norm(_wide(x), x.shape[-1:], _wide(w), _wide(b), eps)
    return y.to(x.dtype)


def _sample(n: int) -> Callable:
    def sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
        x = torch.randn(3, 5, 37, generator=rng)
        ws = [torch.randn(37, generator=rng) for _ in range(n)]
        return [x, *ws], {"eps": 1e-6} if n else {}

    return sample


def _flops(ins: Sequence[Type], outs: Sequence[Type], attrs: Attrs) -> Dim:
    return 4 * outs[0].numel


ANY = {0: "any", 1: "any", 2: "any"}
SOFTMAX = Op("softmax", like_first, _softmax_ref, strides=ANY, cost=_flops, sample=_sample(0))
# Source: Zhang and Sennrich 2019, arXiv 1910.07467; the cast before the weight is Llama's.
RMS_NORM = Op("rms_norm", _weighted, _rms_norm_ref, strides=ANY, cost=_flops, sample=_sample(1))
LAYER_NORM = Op(
    "layer_norm", _weighted, _layer_norm_ref, strides=ANY, cost=_flops, sample=_sample(2)
)


def _scalar(g: Graph, value: Dim | float) -> Value:
    return g.add(FULL, shape=(), value=value, dtype=torch.float32)


def _f32(g: Graph, x: Value) -> Value:
    return x if x.dtype.itemsize >= 4 else g.add(CAST, x, dtype=torch.float32)


def _like(g: Graph, y: Value, x: Value) -> Value:
    return y if y.dtype == x.dtype else g.add(CAST, y, dtype=x.dtype)


def _mean(g: Graph, x: Value) -> Value:
    return g.add(BY_NAME["div"], g.add(SUM, x), _scalar(g, x.shape[-1]))


def _softmax(g: Graph, x: Value) -> Value:
    h = _f32(g, x)
    e = g.add(BY_NAME["exp"], g.add(BY_NAME["sub"], h, g.add(AMAX, h)))
    return _like(g, g.add(BY_NAME["div"], e, g.add(SUM, e)), x)


def _rms_norm(g: Graph, x: Value, w: Value, eps: float) -> Value:
    h = _f32(g, x)
    var = g.add(BY_NAME["add"], _mean(g, g.add(BY_NAME["square"], h)), _scalar(g, eps))
    h = g.add(BY_NAME["mul"], h, g.add(BY_NAME["rsqrt"], var))
    return g.add(BY_NAME["mul"], _like(g, h, x), w)


def _layer_norm(g: Graph, x: Value, w: Value, b: Value, eps: float) -> Value:
    h = _f32(g, x)
    d = g.add(BY_NAME["sub"], h, _mean(g, h))
    var = g.add(BY_NAME["add"], _mean(g, g.add(BY_NAME["square"], d)), _scalar(g, eps))
    y = g.add(BY_NAME["mul"], d, g.add(BY_NAME["rsqrt"], var))
    y = g.add(BY_NAME["add"], g.add(BY_NAME["mul"], y, _f32(g, w)), _f32(g, b))
    return _like(g, y, x)


# op -> function that appends its decomposition to a graph and returns the result
DECOMPOSE: dict[Op, Callable[..., Value]] = {
    SOFTMAX: _softmax,
    RMS_NORM: _rms_norm,
    LAYER_NORM: _layer_norm,
}
