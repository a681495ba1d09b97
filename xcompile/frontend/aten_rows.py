"""Converters for ATen reductions, row-wise ops, products and attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from xcompile.frontend.aten_views import axis, permute, squeeze, unsqueeze
from xcompile.frontend.fx import Importer
from xcompile.ir import Op, Value
from xcompile.ops.attention import ATTENTION
from xcompile.ops.infer import broadcast
from xcompile.ops.leaf import FULL
from xcompile.ops.matmul import LINEAR, MATMUL
from xcompile.ops.norm import LAYER_NORM, RMS_NORM, SOFTMAX
from xcompile.ops.order import ARGMAX, CUMSUM, SORT, TOPK
from xcompile.ops.pointwise import BY_NAME as P
from xcompile.ops.reduce import AMAX, AMIN, SUM
from xcompile.symbolic import product


# -- reductions and rows ------------------------------------------------------------------
def _last(i: Importer, x: Value, dims: Any) -> tuple[Value, list[int]]:
    """x with the given dims moved last and flattened into one; and those dims."""
    rank = x.type.rank
    axes = sorted({axis(x, d) for d in (range(rank) if dims in (None, []) else dims)})
    keep = [d for d in range(rank) if d not in axes]
    y = permute(i, x, keep + axes)
    return i.reshape(y, (*(x.shape[d] for d in keep), product(x.shape[d] for d in axes))), axes


def reduced(op: Op) -> Callable:
    def convert(i: Importer, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
        out = i.expected()
        assert out is not None
        y, _axes = _last(i, x, [dim] if isinstance(dim, int) else dim)
        y = i.add(op, i.cast(y, out.dtype))
        return i.reshape(y, tuple(i.dim(d) for d in out.shape))

    return convert


def mean(i: Importer, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    out = i.expected()
    assert out is not None
    y, _axes = _last(i, x, dim)
    wide = i.cast(y, torch.float32) if out.dtype.itemsize < 4 else i.cast(y, out.dtype)
    n = i.add(FULL, shape=(), value=wide.shape[-1], dtype=torch.float32)
    y = i.cast(i.add(P["div"], i.add(SUM, wide), n), out.dtype)
    return i.reshape(y, tuple(i.dim(d) for d in out.shape))


def logical(op_name: str) -> Callable:
    """any/all: a max/min over 0 and 1."""

    def convert(i: Importer, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        y, _axes = _last(i, i.cast(x, torch.bool), [dim] if isinstance(dim, int) else dim)
        y = i.add(AMAX if op_name == "any" else AMIN, i.cast(y, torch.int64))
        out = i.expected()
        assert out is not None
        return i.reshape(i.cast(y, torch.bool), tuple(i.dim(d) for d in out.shape))

    return convert


def _on_last(i: Importer, x: Value, dim: int, f: Callable[[Value], Any]) -> Any:
    """f along `dim`, by moving it last and back."""
    d, rank = axis(x, dim), x.type.rank
    if d == rank - 1:
        return f(x)
    perm = [k for k in range(rank) if k != d] + [d]
    back = [perm.index(k) for k in range(rank)]
    out = f(permute(i, x, perm))
    if isinstance(out, list):
        return [permute(i, y, back) for y in out]
    return permute(i, out, back)


def softmax(i: Importer, x: Value, dim: int, dtype: Any = None, *_: Any) -> Value:
    x = i.cast(x, dtype) if isinstance(dtype, torch.dtype) else x
    return _on_last(i, x, dim, lambda y: i.add(SOFTMAX, y))


def cumsum(i: Importer, x: Value, dim: int, **_: Any) -> Value:
    out = i.expected()
    assert out is not None
    small = out.dtype in (torch.int8, torch.int16, torch.int32)
    x = i.cast(x, torch.int64 if small else out.dtype)
    return i.cast(_on_last(i, x, dim, lambda y: i.add(CUMSUM, y)), out.dtype)


def topk(
    i: Importer, x: Value, k: Any, dim: int = -1, largest: bool = True, ordered: bool = True
) -> Any:
    if not largest or not isinstance(k, int):
        return None
    return _on_last(i, x, dim, lambda y: list(i.results(TOPK, y, k=k)))


def sort(i: Importer, x: Value, *args: Any, **kw: Any) -> Any:
    names = ["dim", "descending"] if not kw and not (args and args[0] is None) else []
    a = dict(zip(names, args, strict=False)) | kw
    down = bool(a.get("descending", False))
    return _on_last(i, x, a.get("dim", -1), lambda y: list(i.results(SORT, y, descending=down)))


def argmax(i: Importer, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    y = i.reshape(x, (x.type.numel,)) if dim is None else x
    y = _on_last(i, y, -1 if dim is None else dim, lambda z: i.add(ARGMAX, z))
    out = i.expected()
    assert out is not None
    return i.reshape(y, tuple(i.dim(d) for d in out.shape))


def max_dim(i: Importer, x: Value, dim: int, keepdim: bool = False) -> list[Value]:
    d = axis(x, dim)
    values, indices = topk(i, x, 1, d)
    return [values, indices] if keepdim else [squeeze(i, values, d), squeeze(i, indices, d)]


def rms_norm(i: Importer, x: Value, shape: Sequence[Any], w: Any = None, eps: Any = None) -> Any:
    if len(shape) != 1 or w is None:
        return None
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return i.add(RMS_NORM, x, w, eps=float(eps))


def layer_norm(
    i: Importer, x: Value, shape: Any, w: Any = None, b: Any = None, eps: float = 1e-5, *_: Any
) -> Value | None:
    if len(shape) != 1 or w is None or b is None:
        return None
    return i.add(LAYER_NORM, x, w, b, eps=float(eps))


# -- products -----------------------------------------------------------------------------
def linear(i: Importer, x: Value, w: Value, b: Value | None = None) -> Value:
    y = i.add(LINEAR, x, w)
    return y if b is None else i.add(P["add"], y, b)


def matmul(i: Importer, a: Value, b: Value) -> Value:
    if b.type.rank == 1:
        y = matmul(i, a, i.reshape(b, (*b.shape, 1)))
        return i.reshape(y, y.shape[:-1])
    if a.type.rank == 1:
        y = matmul(i, i.reshape(a, (1, *a.shape)), b)
        return i.reshape(y, (*y.shape[:-2], y.shape[-1]))
    if b.type.rank == 2 and b in i.graph.consts:  # a weight: x @ w is linear(x, w^T)
        return i.add(LINEAR, a, permute(i, b, (1, 0)))
    rank = max(a.type.rank, b.type.rank)
    a, b = (i.reshape(t, (1,) * (rank - t.type.rank) + t.shape) for t in (a, b))
    return i.add(MATMUL, a, b)


def addmm(i: Importer, c: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return i.pointwise(P["add"], matmul(i, a, b), c) if beta == alpha == 1 else None


def outer(i: Importer, a: Value, b: Value) -> Value:
    return i.pointwise(P["mul"], unsqueeze(i, a, 1), b)


def sdpa(
    i: Importer,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value | None:
    rank = q.type.rank
    if dropout or rank not in (3, 4) or not isinstance(q.shape[-1], int):
        return None
    if rank == 3:
        q, k, v = (unsqueeze(i, t, 0) for t in (q, k, v))
    batch = broadcast([t.shape[:1] for t in (q, k, v)])
    q, k, v = (i.expand(t, (*batch, *t.shape[1:])) for t in (q, k, v))
    extra = []
    if mask is not None:
        mask = i.reshape(mask, (1,) * (4 - mask.type.rank) + mask.shape)
        extra = [mask if mask.dtype == torch.bool else i.cast(mask, torch.float32)]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    y = i.add(ATTENTION, q, k, v, *extra, causal=bool(is_causal), scale=float(scale))
    return squeeze(i, y, 0) if rank == 3 else y
