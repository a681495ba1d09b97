"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import broadcast, expect
from xcompile.symbolic import same


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, cos, sin = types
    expect(isinstance(x.shape[-1], int) and x.shape[-1] % 2 == 0, f"rope needs an even dim: {x}")
    rows = broadcast([x.shape[:-1], cos.shape[:-1], sin.shape[:-1]])
    ok = cos.shape[-1] == sin.shape[-1] and cos.shape[-1] in (x.shape[-1], x.shape[-1] // 2)
    expect(
        ok and all(map(same, rows, x.shape[:-1])),
        f"cos {cos} and sin {sin} must broadcast to {x}, with all or half of its last dim",
    )
    return [x]


def _ref(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    half = x.shape[-1] // 2
    a, b = (x[..., ::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    if cos.shape[-1] == half:
        cos, sin = torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)
    x, rotated = torch.cat([a, b], -1), torch.cat([-b, a], -1)
    return x * cos + rotated * sin


def _sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    x, angle = torch.randn(2, 3, 5, 8, generator=rng), torch.randn(2, 1, 5, 8, generator=rng)
    return [x, angle.cos(), angle.sin()], {"interleaved": False}


# cos and sin may hold only one half when both are equal.
# y = x * cos + rotate_half(x) * sin; {interleaved}: x holds pairs (even, odd), y holds halves
ROPE = Op(
    "rope",
    _infer,
    _ref,
    strides={0: "any", 1: "any", 2: "any"},
    cost=lambda ins, outs, attrs: 3 * outs[0].numel,
    sample=_sample,
)
