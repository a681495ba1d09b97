"""x[.., a:b] = s into a tensor of the caller: index_copy, which is done in place.

Anywhere else a slice that is written becomes a concatenation, which fuses with what made it; for
state (a cache in a buffer) that would copy all of it in every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xcompile.ir import Node, Value
from xcompile.ops.index import INDEX_COPY
from xcompile.ops.leaf import IOTA
from xcompile.ops.pointwise import BY_NAME as P
from xcompile.ops.view import RESHAPE, SLICE
from xcompile.symbolic import Dim, same, simplify

if TYPE_CHECKING:
    from xcompile.frontend.fx import Importer


def write(i: Importer, x: Value, src: Value, d: int, start: Dim, stop: Dim) -> Value | None:
    """x with `src` (of the window's type) at start..stop of dim d; None if x is no state.

    A write into a slice of a slice, ``x[:b, a:c] = s``, arrives from the inside out: first into
    ``x[:b]``, then that into x. Where the two dims are neighbours, both become one index.
    """
    made = i.graph.producers()
    if not _is_state(i, x, made):
        return None
    inner = made.get(src)
    if (
        inner is not None
        and inner.op is INDEX_COPY
        and inner.attrs["dim"] == d + 1
        and _is_window(made.get(inner.inputs[0]), x, d, start, stop)
    ):
        return _both(i, x, inner, d, start, simplify(stop - start))
    return i.add(INDEX_COPY, x, _ramp(i, start, simplify(stop - start)), src, dim=d)


def _is_state(i: Importer, v: Value, made: dict[Value, Node]) -> bool:
    """Whether v is an input, a view of one, or one that was written before."""
    while (n := made.get(v)) is not None and (n.op in (RESHAPE, SLICE) or n.op is INDEX_COPY):
        v = n.inputs[0]
    return v in i.graph.inputs


def _is_window(n: Node | None, x: Value, d: int, start: Dim, stop: Dim) -> bool:
    if n is None or n.op is not SLICE or n.inputs[0] is not x or n.attrs["step"] != 1:
        return False
    same_place = same(n.attrs["start"], start) and same(n.attrs["stop"], stop)
    return n.attrs["dim"] == d and same_place


def _ramp(i: Importer, start: Dim, count: Dim) -> Value:
    return i.add(IOTA, shape=(count,), dim=0, start=start, step=1, dtype=torch.int64)


def _both(i: Importer, x: Value, inner: Node, d: int, start: Dim, count: Dim) -> Value:
    """Dims d and d + 1 of x as one."""
    _, index, src = inner.inputs
    rows, columns = x.shape[d : d + 2]
    first = i.reshape(_ramp(i, start, count), (count, 1))
    flat = i.add(P["add"], i.add(P["mul"], first, i.scalar(columns)), index)
    n = simplify(count * index.shape[0])
    head, tail = x.shape[:d], x.shape[d + 2 :]
    wide = i.reshape(x, (*head, simplify(rows * columns), *tail))
    src = i.reshape(src, (*head, n, *tail))
    return i.reshape(i.add(INDEX_COPY, wide, i.reshape(flat, (n,)), src, dim=d), x.shape)


__all__ = ["write"]
