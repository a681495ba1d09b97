"""Dense matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import broadcast, expect
from xcompile.symbolic import product, same


def _linear(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, w, *bias = types
    expect(
        w.rank == 2 and x.rank >= 1 and same(x.shape[-1], w.shape[1]) and x.dtype == w.dtype,
        f"linear takes x[..., K] and w[N, K] of one dtype, given {x} and {w}",
    )
    for b in bias:
        expect(b.shape == (w.shape[0],), f"linear's bias must be [{w.shape[0]}], given {b}")
    return [Type(x.dtype, (*x.shape[:-1], w.shape[0]))]


def _matmul(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    a, b = types
    ok = a.rank == b.rank >= 2 and same(a.shape[-1], b.shape[-2]) and a.dtype == b.dtype
    expect(ok, f"matmul takes a[..., M, K] and b[..., K, N] of one rank, given {a} and {b}")
    batch = broadcast([a.shape[:-2], b.shape[:-2]])
    return [Type(a.dtype, (*batch, a.shape[-2], b.shape[-1]))]


def _head_linear(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, w = types
    ok = x.rank == w.rank == 3 and same(x.shape[1], w.shape[0]) and same(x.shape[2], w.shape[2])
    expect(
        ok and x.dtype == w.dtype,
        f"head_linear takes x[T, H, K] and w[H, N, K] of one dtype, given {x} and {w}",
    )
    return [Type(x.dtype, (*x.shape[:2], w.shape[1]))]


def _head_linear_ref(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.matmul(x.transpose(0, 1), w.transpose(1, 2)).transpose(0, 1).contiguous()


def _head_linear_sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    return [torch.randn(5, 3, 33, generator=rng), torch.randn(3, 37, 33, generator=rng) / 6], {}


def _linear_sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    return [torch.randn(3, 5, 33, generator=rng), torch.randn(37, 33, generator=rng) / 6], {}


def _matmul_sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    return [torch.randn(3, 5, 33, generator=rng), torch.randn(3, 33, 37, generator=rng)], {}


# y[..., N] = x[..., K] w[N, K]^T (+ bias[N]), accumulated in fp32
LINEAR = Op(
    "linear",
    _linear,
    F.linear,
    strides={0: "rows"},
    cost=lambda ins, outs, attrs: product((2, *ins[0].shape, ins[1].shape[0])),
    sample=_linear_sample,
)
# y[T, h, N] = x[T, h, K] w[h, N, K]^T, a linear of its own for every head h: absorbed MLA
HEAD_LINEAR = Op(
    "head_linear",
    _head_linear,
    _head_linear_ref,
    aten=("xllm.head_linear.default",),
    strides={0: "last"},
    cost=lambda ins, outs, attrs: product((2, *ins[0].shape, ins[1].shape[1])),
    sample=_head_linear_sample,
)
# c[..., M, N] = a[..., M, K] b[..., K, N], batch dims broadcast, accumulated in fp32
MATMUL = Op(
    "matmul",
    _matmul,
    torch.matmul,
    strides={0: "matrix", 1: "turned"},
    cost=lambda ins, outs, attrs: product((2, *outs[0].shape, ins[0].shape[-1])),
    sample=_matmul_sample,
)
