"""Ops that order or scan the last dim."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import expect, like_first


def _topk(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    (t,) = types
    k, n = attrs["k"], t.shape[-1]
    expect(not isinstance(n, int) or 0 <= k <= n, f"topk of {k} out of {n}")
    shape = (*t.shape[:-1], k)
    return [Type(t.dtype, shape), Type(torch.int64, shape)]


def _sort(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [types[0], Type(torch.int64, types[0].shape)]


def _argmax(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [Type(torch.int64, (*types[0].shape[:-1], 1))]


def _x(rng: torch.Generator) -> torch.Tensor:
    return torch.randn(3, 5, 37, generator=rng)


def _topk_ref(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    v, i = torch.sort(x, dim=-1, descending=True, stable=True)
    return v[..., :k].contiguous(), i[..., :k].contiguous()


def _sort_ref(x: torch.Tensor, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    v, i = torch.sort(x, dim=-1, descending=descending, stable=True)
    return v, i


# values, indices of the k largest, descending; ties: lowest index first
TOPK = Op("topk", _topk, _topk_ref, sample=lambda rng: ([_x(rng)], {"k": 4}))
# stable
SORT = Op("sort", _sort, _sort_ref, sample=lambda rng: ([_x(rng)], {"descending": False}))
CUMSUM = Op(
    "cumsum",
    like_first,
    lambda x: x.cumsum(-1, dtype=x.dtype),  # torch's own default widens small integers
    sample=lambda rng: ([_x(rng)], {}),
)
ARGMAX = Op(
    "argmax",
    _argmax,
    lambda x: x.argmax(-1, keepdim=True),
    sample=lambda rng: ([_x(rng)], {}),
)
