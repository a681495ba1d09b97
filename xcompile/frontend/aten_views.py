"""Converters for ATen views, splits and concatenations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations
from typing import Any

import torch

from xcompile.frontend import writes
from xcompile.frontend.fx import Complex, Importer
from xcompile.ir import Value
from xcompile.ops.cat import CAT
from xcompile.ops.leaf import FULL, IOTA
from xcompile.ops.pointwise import BY_NAME as P
from xcompile.ops.view import PERMUTE, SLICE
from xcompile.symbolic import Dim, evaluate, floordiv, free_names, product, same, simplify


def axis(x: Value, dim: int) -> int:
    return dim % max(x.type.rank, 1)


def view(i: Importer, x: Any, shape: Sequence[Any] = ()) -> Any:
    if isinstance(x, Complex):
        return Complex(view(i, x.re, shape), view(i, x.im, shape))
    dims = list(shape)
    if -1 in dims:
        k = dims.index(-1)
        rest = product(d for j, d in enumerate(dims) if j != k)
        dims[k] = floordiv(x.type.numel, rest)
    return i.reshape(x, tuple(dims))


def unsqueeze(i: Importer, x: Any, dim: int) -> Any:
    if isinstance(x, Complex):
        return Complex(unsqueeze(i, x.re, dim), unsqueeze(i, x.im, dim))
    d = dim % (x.type.rank + 1)
    return i.reshape(x, (*x.shape[:d], 1, *x.shape[d:]))


def squeeze(i: Importer, x: Value, dim: Any = None) -> Value:
    dims = range(x.type.rank) if dim is None else dim if isinstance(dim, list) else [dim]
    drop = {axis(x, d) for d in dims}
    return i.reshape(x, tuple(n for k, n in enumerate(x.shape) if k not in drop or n != 1))


def flatten(i: Importer, x: Any, start: int = 0, end: int = -1) -> Any:
    if isinstance(x, Complex):
        return Complex(flatten(i, x.re, start, end), flatten(i, x.im, start, end))
    a, b = axis(x, start), axis(x, end)
    return i.reshape(x, (*x.shape[:a], product(x.shape[a : b + 1]), *x.shape[b + 1 :]))


def unflatten(i: Importer, x: Value, dim: int, sizes: Sequence[Any]) -> Value:
    d = axis(x, dim)
    dims = list(sizes)
    if -1 in dims:
        rest = product(n for n in dims if n != -1)
        dims[dims.index(-1)] = floordiv(x.shape[d], rest)
    return i.reshape(x, (*x.shape[:d], *dims, *x.shape[d + 1 :]))


def permute(i: Importer, x: Any, dims: Sequence[int]) -> Any:
    if isinstance(x, Complex):
        return Complex(permute(i, x.re, dims), permute(i, x.im, dims))
    perm = tuple(axis(x, d) for d in dims)
    return x if perm == tuple(range(len(perm))) else i.add(PERMUTE, x, perm=perm)


def transpose(i: Importer, x: Any, a: int, b: int) -> Any:
    rank = (x.re if isinstance(x, Complex) else x).type.rank
    if rank < 2:
        return x
    perm = list(range(rank))
    perm[a], perm[b] = perm[b], perm[a]
    return permute(i, x, perm)


def expand(i: Importer, x: Any, sizes: Sequence[Any], implicit: bool = False) -> Any:
    if isinstance(x, Complex):
        return Complex(expand(i, x.re, sizes), expand(i, x.im, sizes))
    padded = (None,) * (len(sizes) - x.type.rank) + x.shape
    return i.expand(x, tuple(p if n == -1 else n for p, n in zip(padded, sizes, strict=True)))


def cut(i: Importer, x: Value, d: int, start: Dim, stop: Dim, step: int = 1) -> Value:
    if same(start, 0) and same(stop, x.shape[d]) and step == 1:
        return x
    return i.add(SLICE, x, dim=d, start=start, stop=stop, step=step)


def _clamp(at: Any, size: Dim, default: Dim) -> Dim | None:
    """A slice bound as torch clamps it; None when that depends on unknown sizes."""
    if at is None:
        return default
    if isinstance(at, int) and at >= 2**62:
        return size
    if isinstance(at, int) and isinstance(size, int):
        return max(at + size, 0) if at < 0 else min(at, size)
    if isinstance(at, int):
        return simplify(size + at) if at < 0 else at
    return simplify(at)


def slice_tensor(
    i: Importer, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    if isinstance(x, Complex):
        parts = [slice_tensor(i, part, dim, start, end, step) for part in (x.re, x.im)]
        return None if None in parts else Complex(*parts)
    d = axis(x, dim)
    out = i.expected()
    a, b = _clamp(start, x.shape[d], 0), _clamp(end, x.shape[d], x.shape[d])
    if a is None or b is None or out is None:
        return None
    if step == 1:  # torch knows the result's size: trust it over clamping of symbolic bounds
        b = simplify(a + i.dim(out.shape[d]))
    elif not isinstance(b - a, int):
        return None
    return cut(i, x, d, a, a + max(b - a, 0) if isinstance(b - a, int) else b, step)


def select(i: Importer, x: Value, dim: int, index: Any) -> Value:
    d = axis(x, dim)
    at = simplify(index + x.shape[d]) if isinstance(index, int) and index < 0 else index
    return squeeze(i, cut(i, x, d, at, simplify(at + 1)), d)


def split_sizes(i: Importer, x: Value, sizes: Sequence[Any], dim: int = 0) -> list[Value]:
    d, at, out = axis(x, dim), 0, []
    for n in sizes:
        out.append(cut(i, x, d, at, simplify(at + n)))
        at = simplify(at + n)
    return out


def split(i: Importer, x: Value, size: Any, dim: int = 0) -> list[Value] | None:
    n = x.shape[axis(x, dim)]
    if not (isinstance(n, int) and isinstance(size, int)):
        return None
    return split_sizes(i, x, [min(size, n - k) for k in range(0, n, size)], dim)


def chunk(i: Importer, x: Value, chunks: int, dim: int = 0) -> list[Value] | None:
    n = x.shape[axis(x, dim)]
    return split(i, x, -(-n // chunks), dim) if isinstance(n, int) else None


def unbind(i: Importer, x: Value, dim: int = 0) -> list[Value] | None:
    n = x.shape[axis(x, dim)]
    return [select(i, x, dim, k) for k in range(n)] if isinstance(n, int) else None


def cat(i: Importer, xs: Sequence[Any], dim: int = 0) -> Any:
    if any(isinstance(x, Complex) for x in xs):
        return Complex(cat(i, [x.re for x in xs], dim), cat(i, [x.im for x in xs], dim))
    out = i.expected()
    dtype = out.dtype if out is not None else xs[0].dtype
    parts = [i.cast(x, dtype) for x in xs if not (x.type.rank == 1 and x.shape[0] == 0)]
    return parts[0] if len(parts) == 1 else i.add(CAT, *parts, dim=axis(parts[0], dim))


def pad(
    i: Importer, x: Value, sizes: Sequence[Any], mode: Any = "constant", value: Any = None
) -> Value | None:
    """constant_pad_nd, and pad of that mode, by sizes that are nowhere negative."""
    if not isinstance(mode, str):  # constant_pad_nd has no mode
        mode, value = "constant", mode
    if mode != "constant" or any(_least(i, n) < 0 for n in sizes):
        return None
    kind = float if x.dtype.is_floating_point else bool if x.dtype == torch.bool else int
    fill = kind(value or 0)
    for k in range(len(sizes) // 2):
        d = x.type.rank - 1 - k
        before, after = (
            [i.add(FULL, shape=(*x.shape[:d], n, *x.shape[d + 1 :]), value=fill, dtype=x.dtype)]
            if not same(n, 0)
            else []
            for n in sizes[2 * k : 2 * k + 2]
        )
        x = cat(i, [*before, x, *after], d)
    return x


def _least(i: Importer, n: Dim) -> int:
    """The least value of a dim at the ends of its symbols' ranges."""
    names = sorted(free_names(n))
    ends = [(i.graph.symbols[name].lo, i.graph.symbols[name].hi) for name in names]
    return min(evaluate(n, dict(zip(names, at, strict=True))) for at in combinations(*ends))


def stack(i: Importer, xs: Sequence[Value], dim: int = 0) -> Value:
    d = dim % (xs[0].type.rank + 1)
    return cat(i, [unsqueeze(i, x, d) for x in xs], d)


def slice_scatter(
    i: Importer,
    x: Value,
    src: Value,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Value | None:
    """slice_scatter(x, s, a, b) = cat(x[:a], s, x[b:]), or a write if x is state."""
    d = axis(x, dim)
    n = x.shape[d]
    a, b = _clamp(start, n, 0), _clamp(end, n, n)
    if a is None or b is None:
        return None
    if step != 1:
        return _every(i, x, src, d, a, b, step)
    src = i.expand(i.cast(src, x.dtype), (*x.shape[:d], simplify(b - a), *x.shape[d + 1 :]))
    if (written := writes.write(i, x, src, d, a, b)) is not None:
        return written
    parts = [] if same(a, 0) else [cut(i, x, d, 0, a)]
    parts += [src] if same(b, n) else [src, cut(i, x, d, b, n)]
    return cat(i, parts, d)


def _every(i: Importer, x: Value, src: Value, d: int, a: Dim, b: Dim, step: int) -> Value | None:
    """x with x[a:b:step] = src: src in place of every element from a to b, then the right ones."""
    n, count = x.shape[d], src.shape[d]
    if not all(isinstance(k, int) for k in (a, b, n, count)):
        return None
    if count == 0:
        return x
    ones = i.reshape(i.cast(src, x.dtype), (*src.shape[: d + 1], 1, *src.shape[d + 1 :]))
    wide = i.expand(ones, (*src.shape[: d + 1], step, *src.shape[d + 1 :]))
    wide = i.reshape(wide, (*src.shape[:d], count * step, *src.shape[d + 1 :]))
    parts = [cut(i, x, d, 0, a)] if a else []
    parts += [cut(i, wide, d, 0, b - a)] + ([cut(i, x, d, b, n)] if b < n else [])
    at = i.add(IOTA, shape=(n,), dim=0, start=0, step=1, dtype=torch.int64)
    mine = i.add(P["eq"], i.add(P["remainder"], at, i.scalar(step)), i.scalar(a % step))
    mine = i.reshape(mine, (n, *(1 for _ in x.shape[d + 1 :])))
    whole = parts[0] if len(parts) == 1 else i.add(CAT, *parts, dim=d)
    return i.add(P["where"], mine, whole, x)


def select_scatter(i: Importer, x: Value, src: Value, dim: int, index: int) -> Value | None:
    d = axis(x, dim)
    at = index % x.shape[d] if isinstance(x.shape[d], int) else index
    return slice_scatter(i, x, unsqueeze(i, src, d), d, at, at + 1)


def diff(
    i: Importer, x: Value, n: int = 1, dim: int = -1, before: Any = None, after: Any = None
) -> Any:
    parts = [p for p in (before, x, after) if p is not None]
    d = axis(x, dim)
    y = parts[0] if len(parts) == 1 else i.add(CAT, *parts, dim=d)
    size = y.shape[d]
    if n != 1 or x.dtype == torch.bool:
        return None
    return i.add(P["sub"], cut(i, y, d, 1, size), cut(i, y, d, 0, simplify(size - 1)))


def repeat(i: Importer, x: Value, repeats: Sequence[Any]) -> Value:
    shape = (1,) * (len(repeats) - x.type.rank) + x.shape
    mixed = [d for r, n in zip(repeats, shape, strict=True) for d in (r, n)]
    ones = tuple(d for n in shape for d in (1, n))
    wide = i.expand(i.reshape(x, ones), tuple(mixed))
    return i.reshape(wide, tuple(simplify(r * n) for r, n in zip(repeats, shape, strict=True)))


def repeat_interleave(i: Importer, x: Value, n: Any, dim: Any = None, **_: Any) -> Value | None:
    if not isinstance(n, int) or dim is None:
        return None
    d = axis(x, dim)
    wide = (*x.shape[: d + 1], n, *x.shape[d + 1 :])
    y = i.expand(unsqueeze(i, x, d + 1), wide)
    return i.reshape(y, (*x.shape[:d], simplify(x.shape[d] * n), *x.shape[d + 1 :]))


def identity(i: Importer, x: Any, *_: Any, **__: Any) -> Any:
    return x
