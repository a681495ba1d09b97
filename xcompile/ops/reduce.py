"""Reductions over the last dim, which stays with size 1. Frontends permute and reshape around
them, so one form serves every target. They fuse with the pointwise ops around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import expect


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    (t,) = types
    expect(t.rank > 0, f"a reduction needs at least one dim, given {t}")
    return [Type(t.dtype, (*t.shape[:-1], 1))]


def _wide(f: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: f(x.float()).to(x.dtype) if x.dtype.itemsize < 4 else f(x)


def _op(name: str, expr: str, f: Callable[[torch.Tensor], torch.Tensor]) -> Op:
    return Op(
        name,
        _infer,
        _wide(f),
        expr=expr,
        reduces=True,
        cost=lambda ins, outs, attrs: ins[0].numel,
        sample=lambda rng: ([torch.randn(3, 5, 37, generator=rng)], {}),
    )


# expr: how one element joins the accumulator
SUM = _op("sum", "{0} + {1}", lambda x: x.sum(-1, keepdim=True))
AMAX = _op("amax", "xc::math::max({0}, {1})", lambda x: x.amax(-1, keepdim=True))
AMIN = _op("amin", "xc::math::min({0}, {1})", lambda x: x.amin(-1, keepdim=True))
REDUCTIONS = {op.name: op for op in (SUM, AMAX, AMIN)}
