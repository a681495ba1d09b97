"""Converters for ATen overloads that read or write through index tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from xcompile.ir import Value
from xcompile.ops.index import EMBEDDING, GATHER, INDEX_COPY, SCATTER
from xcompile.ops.infer import broadcast
from xcompile.ops.leaf import FULL, IOTA
from xcompile.ops.pointwise import BY_NAME as P
from xcompile.ops.view import PERMUTE
from xcompile.symbolic import product

if TYPE_CHECKING:
    from xcompile.frontend.fx import Importer


def _permute(i: Importer, x: Value, perm: list[int]) -> Value:
    return x if perm == sorted(perm) else i.add(PERMUTE, x, perm=tuple(perm))


def _wrap(i: Importer, index: Value, size: Any) -> Value:
    """Python's negative indices as positive ones."""
    index = i.cast(index, torch.int64)
    wrapped = i.add(P["add"], index, i.scalar(size))
    return i.add(P["where"], i.add(P["lt"], index, i.scalar(0)), wrapped, index)


def embedding(i: Importer, table: Value, ids: Value, *_: Any) -> Value:
    return i.add(EMBEDDING, table, i.cast(ids, torch.int64))


def index_select(i: Importer, x: Value, dim: int, index: Value) -> Value:
    return index_tensor(i, x, [None] * (dim % x.type.rank) + [index])  # type: ignore[return-value]


def index_tensor(i: Importer, x: Value, indices: list[Value | None]) -> Value | None:
    """x[:, a, b]: adjacent index tensors become one index into flattened dims."""
    at = [d for d, ix in enumerate(indices) if ix is not None]
    used = [ix for ix in indices if ix is not None]
    if any(ix.dtype == torch.bool for ix in used) or at != list(range(at[0], at[-1] + 1)):
        return None
    rest = [d for d in range(x.type.rank) if d not in at]
    y = _permute(i, x, at + rest)
    y = i.reshape(y, (product(x.shape[d] for d in at), *(x.shape[d] for d in rest)))
    shape = broadcast([ix.shape for ix in used])
    flat: Value | None = None
    for d, ix in zip(at, used, strict=True):
        ix = _wrap(i, ix, x.shape[d])
        if flat is not None:
            scaled = i.add(P["mul"], flat, i.scalar(x.shape[d]))
            ix = i.add(P["add"], scaled, ix)
        flat = ix
    assert flat is not None
    out = i.add(EMBEDDING, y, i.expand(flat, shape))
    k, lead = len(shape), at[0]  # torch puts the index dims where the first index stood
    order = [*range(k, k + lead), *range(k), *range(k + lead, out.type.rank)]
    return _permute(i, out, order)


def _last(x: Value, dim: int) -> list[int]:
    d = dim % max(x.type.rank, 1)
    return [k for k in range(x.type.rank) if k != d] + [d]


def _narrowed(i: Importer, x: Value, index: Value, perm: list[int]) -> Value | None:
    """x cut to the index's leading dims, as gather and scatter define it; None if they differ."""
    lead = [(x.shape[k], index.shape[k]) for k in perm[:-1]]
    return _permute(i, x, perm) if all(a == b for a, b in lead) else None


def gather(i: Importer, x: Value, dim: int, index: Value, **_: Any) -> Value | None:
    perm = _last(x, dim)
    moved = _narrowed(i, x, index, perm)
    if moved is None:
        return None
    out = i.add(GATHER, moved, _permute(i, index, perm))
    return _permute(i, out, [perm.index(k) for k in range(len(perm))])


def scatter(i: Importer, x: Value, dim: int, index: Value, src: Any) -> Value | None:
    perm = _last(x, dim)
    moved = _narrowed(i, x, index, perm)
    if moved is None:
        return None
    if not isinstance(src, Value):
        zero = torch.zeros((), dtype=x.dtype).item()
        src = i.add(FULL, shape=index.shape, value=type(zero)(src), dtype=x.dtype)
    elif not src.type.same(type(x.type)(x.dtype, index.shape)):
        return None
    parts = [_permute(i, t, perm) for t in (index, src)]
    out = i.add(SCATTER, moved, *parts)
    return _permute(i, out, [perm.index(k) for k in range(len(perm))])


def index_copy(i: Importer, x: Value, dim: int, index: Value, src: Value) -> Value:
    return i.add(INDEX_COPY, x, i.cast(index, torch.int64), src, dim=dim % x.type.rank)


def index_put(
    i: Importer, x: Value, indices: list[Value | None], src: Value, accumulate: bool = False
) -> Value | None:
    """x[index] = rows along one dim, without accumulation; ids may not repeat (as index_copy)."""
    at = [d for d, ix in enumerate(indices) if ix is not None]
    if accumulate or len(at) != 1:
        return None
    ix = indices[at[0]]
    assert ix is not None
    if ix.dtype == torch.bool or ix.type.rank != 1:
        return None
    shape = (*x.shape[: at[0]], *ix.shape, *x.shape[at[0] + 1 :])
    return index_copy(i, x, at[0], _wrap(i, ix, x.shape[at[0]]), i.expand(src, shape))


def one_hot(i: Importer, x: Value, classes: int = -1) -> Value | None:
    if not isinstance(classes, int) or classes < 0:
        return None
    ids = i.reshape(x, (*x.shape, 1))
    shape = (1,) * x.type.rank + (classes,)
    ramp = i.add(IOTA, shape=shape, dim=x.type.rank, start=0, step=1, dtype=torch.int64)
    return i.cast(i.add(P["eq"], ids, ramp), torch.int64)


INDEXING: dict[str, Callable] = {
    "embedding.default": embedding,
    "index_select.default": index_select,
    "index.Tensor": index_tensor,
    "gather.default": gather,
    "scatter.src": scatter,
    "scatter.value": scatter,
    "index_copy.default": index_copy,
    "index_put.default": index_put,
    "one_hot.default": one_hot,
}
