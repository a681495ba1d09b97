"""Values without operands: a constant fill and an index ramp. Both fuse into their readers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Op, Type


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [Type(attrs["dtype"], attrs["shape"])]


def _iota(
    shape: tuple[int, ...], dim: int, start: int, step: int, dtype: torch.dtype
) -> torch.Tensor:
    ramp = torch.arange(shape[dim], dtype=torch.int64) * step + start
    view = [1] * len(shape)
    view[dim] = shape[dim]
    return ramp.view(view).expand(shape).to(dtype)


# full {shape, value, dtype}: every element is `value`; shape () is a scalar that broadcasts.
FULL = Op(
    "full",
    _infer,
    lambda shape, value, dtype: torch.full(shape, value, dtype=dtype),
    expr="full",
    sample=lambda rng: ([], {"shape": (3, 5), "value": 1.5, "dtype": torch.float32}),
)

# iota {shape, dim, start, step, dtype}: element i is start + step * i[dim].
IOTA = Op(
    "iota",
    _infer,
    _iota,
    expr="iota",
    sample=lambda rng: (
        [],
        {"shape": (3, 7), "dim": 1, "start": 2, "step": 3, "dtype": torch.int64},
    ),
)
