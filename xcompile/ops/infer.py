"""Shape and dtype rules that several ops share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch

from xcompile.errors import ShapeError
from xcompile.ir import Attrs, Type
from xcompile.symbolic import Dim, same


def promote(types: Sequence[Type]) -> torch.dtype:
    """torch's rule: 0-d operands only raise the category (bool < int < float)."""

    def fold(ts: list[Type]) -> torch.dtype | None:
        return reduce(torch.promote_types, [t.dtype for t in ts]) if ts else None

    dims, zero = fold([t for t in types if t.rank]), fold([t for t in types if not t.rank])
    if dims is None or zero is None:
        return dims or zero or torch.float32
    return torch.promote_types(dims, zero) if _category(zero) > _category(dims) else dims


def _category(d: torch.dtype) -> int:
    return 2 if d.is_floating_point else int(d != torch.bool)


def broadcast(shapes: Sequence[Sequence[Dim]]) -> tuple[Dim, ...]:
    """Numpy broadcasting over symbolic shapes."""
    rank = max(map(len, shapes), default=0)
    out: list[Dim] = []
    for k in range(rank):
        dim: Dim = 1
        for s in shapes:
            d = s[k - rank + len(s)] if k - rank + len(s) >= 0 else 1
            if same(d, 1):
                continue
            if same(dim, 1):
                dim = d
            elif not same(dim, d):
                raise ShapeError(f"shapes {[tuple(s) for s in shapes]} do not broadcast")
        out.append(dim)
    return tuple(out)


def pointwise(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [Type(promote(types), broadcast([t.shape for t in types]))]


def comparison(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [Type(torch.bool, broadcast([t.shape for t in types]))]


def floating(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    (t,) = pointwise(types, attrs)
    return [t if t.dtype.is_floating_point else Type(torch.float32, t.shape)]


def where(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    expect(types[0].dtype == torch.bool, f"where needs a bool condition, given {types[0]}")
    return [Type(promote(types[1:]), broadcast([t.shape for t in types]))]


def like_first(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [types[0]]


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise ShapeError(message)


def axis(dim: int, rank: int) -> int:
    """A dim counted from the front. Raises ShapeError when it is out of range."""
    expect(-rank <= dim < max(rank, 1), f"dim {dim} is out of range for rank {rank}")
    return dim % rank if rank else 0
