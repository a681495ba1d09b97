"""ATen overloads that need more than a one-to-one mapping. Each converter takes the importer and
the call's arguments (tensors as IR values, symbolic ints as dims) and returns IR values, or None
for a form it does not handle: that call then becomes an eager island.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from xcompile.frontend.aten_index import INDEXING
from xcompile.frontend.fx import Complex, Importer
from xcompile.ir import Op, Value
from xcompile.ops.attention import ATTENTION
from xcompile.ops.cat import CAT
from xcompile.ops.infer import broadcast
from xcompile.ops.leaf import FULL, IOTA
from xcompile.ops.matmul import LINEAR, MATMUL
from xcompile.ops.norm import LAYER_NORM, RMS_NORM, SOFTMAX
from xcompile.ops.order import ARGMAX, CUMSUM, SORT, TOPK
from xcompile.ops.pointwise import BY_NAME as P
from xcompile.ops.reduce import AMAX, AMIN, SUM
from xcompile.ops.view import PERMUTE, SLICE
from xcompile.symbolic import Dim, floordiv, product, same, simplify


def _axis(x: Value, dim: int) -> int:
    return dim % max(x.type.rank, 1)


# -- views --------------------------------------------------------------------------------
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
    drop = {_axis(x, d) for d in dims}
    return i.reshape(x, tuple(n for k, n in enumerate(x.shape) if k not in drop or n != 1))


def flatten(i: Importer, x: Any, start: int = 0, end: int = -1) -> Any:
    if isinstance(x, Complex):
        return Complex(flatten(i, x.re, start, end), flatten(i, x.im, start, end))
    a, b = _axis(x, start), _axis(x, end)
    return i.reshape(x, (*x.shape[:a], product(x.shape[a : b + 1]), *x.shape[b + 1 :]))


def unflatten(i: Importer, x: Value, dim: int, sizes: Sequence[Any]) -> Value:
    d = _axis(x, dim)
    dims = list(sizes)
    if -1 in dims:
        rest = product(n for n in dims if n != -1)
        dims[dims.index(-1)] = floordiv(x.shape[d], rest)
    return i.reshape(x, (*x.shape[:d], *dims, *x.shape[d + 1 :]))


def permute(i: Importer, x: Any, dims: Sequence[int]) -> Any:
    if isinstance(x, Complex):
        return Complex(permute(i, x.re, dims), permute(i, x.im, dims))
    perm = tuple(_axis(x, d) for d in dims)
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


def _slice(i: Importer, x: Value, d: int, start: Dim, stop: Dim, step: int = 1) -> Value:
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
    i: Importer, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value | None:
    d = _axis(x, dim)
    out = i.expected()
    a, b = _clamp(start, x.shape[d], 0), _clamp(end, x.shape[d], x.shape[d])
    if a is None or b is None or out is None:
        return None
    if step == 1:  # torch knows the result's size: trust it over clamping of symbolic bounds
        b = simplify(a + i.dim(out.shape[d]))
    elif not isinstance(b - a, int):
        return None
    return _slice(i, x, d, a, b, step)


def select(i: Importer, x: Value, dim: int, index: Any) -> Value:
    d = _axis(x, dim)
    at = simplify(index + x.shape[d]) if isinstance(index, int) and index < 0 else index
    return squeeze(i, _slice(i, x, d, at, simplify(at + 1)), d)


def split_sizes(i: Importer, x: Value, sizes: Sequence[Any], dim: int = 0) -> list[Value]:
    d, at, out = _axis(x, dim), 0, []
    for n in sizes:
        out.append(_slice(i, x, d, at, simplify(at + n)))
        at = simplify(at + n)
    return out


def split(i: Importer, x: Value, size: Any, dim: int = 0) -> list[Value] | None:
    n = x.shape[_axis(x, dim)]
    if not (isinstance(n, int) and isinstance(size, int)):
        return None
    return split_sizes(i, x, [min(size, n - k) for k in range(0, n, size)], dim)


def chunk(i: Importer, x: Value, chunks: int, dim: int = 0) -> list[Value] | None:
    n = x.shape[_axis(x, dim)]
    return split(i, x, -(-n // chunks), dim) if isinstance(n, int) else None


def unbind(i: Importer, x: Value, dim: int = 0) -> list[Value] | None:
    n = x.shape[_axis(x, dim)]
    return [select(i, x, dim, k) for k in range(n)] if isinstance(n, int) else None


def cat(i: Importer, xs: Sequence[Any], dim: int = 0) -> Any:
    if any(isinstance(x, Complex) for x in xs):
        return Complex(cat(i, [x.re for x in xs], dim), cat(i, [x.im for x in xs], dim))
    out = i.expected()
    dtype = out.dtype if out is not None else xs[0].dtype
    parts = [i.cast(x, dtype) for x in xs if not (x.type.rank == 1 and x.shape[0] == 0)]
    return parts[0] if len(parts) == 1 else i.add(CAT, *parts, dim=_axis(parts[0], dim))


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
    """slice_scatter(x, s, a, b) = cat(x[:a], s, x[b:])."""
    d = _axis(x, dim)
    n = x.shape[d]
    a, b = _clamp(start, n, 0), _clamp(end, n, n)
    if step != 1 or a is None or b is None:
        return None
    src = i.expand(i.cast(src, x.dtype), (*x.shape[:d], simplify(b - a), *x.shape[d + 1 :]))
    parts = [] if same(a, 0) else [_slice(i, x, d, 0, a)]
    parts += [src] if same(b, n) else [src, _slice(i, x, d, b, n)]
    return cat(i, parts, d)


def select_scatter(i: Importer, x: Value, src: Value, dim: int, index: int) -> Value | None:
    d = _axis(x, dim)
    at = index % x.shape[d] if isinstance(x.shape[d], int) else index
    return slice_scatter(i, x, unsqueeze(i, src, d), d, at, at + 1)


def diff(
    i: Importer, x: Value, n: int = 1, dim: int = -1, before: Any = None, after: Any = None
) -> Any:
    parts = [p for p in (before, x, after) if p is not None]
    d = _axis(x, dim)
    y = parts[0] if len(parts) == 1 else i.add(CAT, *parts, dim=d)
    size = y.shape[d]
    if n != 1 or x.dtype == torch.bool:
        return None
    return i.add(P["sub"], _slice(i, y, d, 1, size), _slice(i, y, d, 0, simplify(size - 1)))


def repeat(i: Importer, x: Value, repeats: Sequence[Any]) -> Value:
    shape = (1,) * (len(repeats) - x.type.rank) + x.shape
    mixed = [d for r, n in zip(repeats, shape, strict=True) for d in (r, n)]
    ones = tuple(d for n in shape for d in (1, n))
    wide = i.expand(i.reshape(x, ones), tuple(mixed))
    return i.reshape(wide, tuple(simplify(r * n) for r, n in zip(repeats, shape, strict=True)))


def repeat_interleave(i: Importer, x: Value, n: Any, dim: Any = None, **_: Any) -> Value | None:
    if not isinstance(n, int) or dim is None:
        return None
    d = _axis(x, dim)
    wide = (*x.shape[: d + 1], n, *x.shape[d + 1 :])
    y = i.expand(unsqueeze(i, x, d + 1), wide)
    return i.reshape(y, (*x.shape[:d], simplify(x.shape[d] * n), *x.shape[d + 1 :]))


def identity(i: Importer, x: Any, *_: Any, **__: Any) -> Any:
    return x


# -- creation and casts -------------------------------------------------------------------
def _full(i: Importer, shape: Sequence[Any], value: Any) -> Value | None:
    out = i.expected()
    if out is None or isinstance(value, Value):
        return None
    return i.add(FULL, shape=tuple(shape), value=_typed(value, out.dtype), dtype=out.dtype)


def _typed(value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, bool | int | float):
        return value
    return (
        bool(value) if dtype == torch.bool
        else float(value) if dtype.is_floating_point else int(value)
    )  # fmt: skip


def _filled(value: Any, sized: bool) -> Callable:
    """Converter for zeros/ones/empty (`sized`: by shape, else like a tensor)."""
    if sized:
        return lambda i, shape, *_, **__: _full(i, shape, value)
    return lambda i, x, *_, **__: _full(i, x.shape, value)


def _new(value: Any) -> Callable:
    return lambda i, x, shape, *_, **__: _full(i, shape, value)


def arange(i: Importer, *args: Any, **_: Any) -> Value | None:
    start, _, step = {1: (0, *args, 1), 2: (*args, 1), 3: args}[len(args)]
    out = i.expected()
    if out is None or isinstance(start, float) or isinstance(step, float):
        return None
    n = i.dim(out.shape[0])
    return i.add(IOTA, shape=(n,), dim=0, start=start, step=step, dtype=out.dtype)


def to(i: Importer, x: Any, *_: Any, **__: Any) -> Any:
    out = i.node.meta.get("val") if i.node is not None else None
    if isinstance(x, Complex) or out is None or out.is_complex():
        return x
    return i.cast(x, out.dtype)


def copy(i: Importer, dst: Value, src: Any, *_: Any) -> Value:
    """The functional form of dst.copy_(src)."""
    return i.expand(i.cast(i.scalar(src), dst.dtype), dst.shape)


def triangle(upper: bool) -> Callable:
    def convert(i: Importer, x: Value, diagonal: int = 0) -> Value:
        shape = x.shape[-2:]
        row, col = (
            i.add(IOTA, shape=shape, dim=d, start=0, step=1, dtype=torch.int64) for d in (0, 1)
        )
        gap = i.add(P["sub"], col, row)
        keep = i.add(P["ge" if upper else "le"], gap, i.scalar(diagonal))
        zero = i.add(FULL, shape=(), value=_typed(0, x.dtype), dtype=x.dtype)
        return i.add(P["where"], keep, x, zero)

    return convert


# -- arithmetic ---------------------------------------------------------------------------
def _alpha(op: Op) -> Callable:
    def convert(i: Importer, a: Any, b: Any, alpha: Any = 1) -> Any:
        if isinstance(a, Complex) or isinstance(b, Complex):
            return None
        return i.pointwise(op, a, b if alpha == 1 else i.pointwise(P["mul"], b, alpha))

    return convert


def mul(i: Importer, a: Any, b: Any) -> Any:
    if isinstance(a, Complex) and isinstance(b, Complex):
        m, s, p = P["mul"], P["sub"], P["add"]
        re = i.add(s, i.add(m, a.re, b.re), i.add(m, a.im, b.im))
        return Complex(re, i.add(p, i.add(m, a.re, b.im), i.add(m, a.im, b.re)))
    if isinstance(a, Complex) or isinstance(b, Complex):
        z, r = (a, b) if isinstance(a, Complex) else (b, a)
        r = i.scalar(r)
        return Complex(i.add(P["mul"], z.re, r), i.add(P["mul"], z.im, r))
    return i.pointwise(P["mul"], a, b)


def power(i: Importer, x: Value, e: Any) -> Value:
    named = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}
    if e in named and x.dtype.is_floating_point:
        return i.pointwise(P[named[e]], x)
    return i.pointwise(P["mul"], x, x) if e == 2 else i.pointwise(P["pow"], x, float(e))


def div_mode(i: Importer, a: Any, b: Any, *, rounding_mode: str | None) -> Value | None:
    if rounding_mode is None:
        return i.pointwise(P["div"], a, b)
    integral = i.expected() is not None and not i.expected().dtype.is_floating_point  # type: ignore[union-attr]
    return i.pointwise(P["floordiv"], a, b) if rounding_mode == "floor" and integral else None


def clamp(i: Importer, x: Value, lo: Any = None, hi: Any = None) -> Value:
    x = x if lo is None else i.pointwise(P["max"], x, lo)
    return x if hi is None else i.pointwise(P["min"], x, hi)


def gelu(i: Importer, x: Value, *, approximate: str = "none") -> Value:
    return i.pointwise(P["gelu_tanh" if approximate == "tanh" else "gelu"], x)


def masked_fill(i: Importer, x: Value, mask: Value, value: Any) -> Value:
    fill = value if isinstance(value, Value) else i.scalar(_typed(value, x.dtype))
    return i.cast(i.add(P["where"], mask, i.cast(fill, x.dtype), x), x.dtype)


def bitwise_not(i: Importer, x: Value) -> Value | None:
    return i.pointwise(P["not"], x) if x.dtype == torch.bool else None


def view_as_complex(i: Importer, x: Value) -> Complex:
    return Complex(select(i, x, -1, 0), select(i, x, -1, 1))


def view_as_real(i: Importer, x: Complex) -> Value:
    return stack(i, [x.re, x.im], -1)


def polar(i: Importer, r: Value, angle: Value) -> Complex:
    return Complex(*(i.add(P["mul"], r, i.add(P[f], angle)) for f in ("cos", "sin")))


# -- reductions and rows ------------------------------------------------------------------
def _last(i: Importer, x: Value, dims: Any) -> tuple[Value, list[int]]:
    """x with the given dims moved last and flattened into one; and those dims."""
    rank = x.type.rank
    axes = sorted({_axis(x, d) for d in (range(rank) if dims in (None, []) else dims)})
    keep = [d for d in range(rank) if d not in axes]
    y = permute(i, x, keep + axes)
    return i.reshape(y, (*(x.shape[d] for d in keep), product(x.shape[d] for d in axes))), axes


def _reduced(op: Op) -> Callable:
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
    d, rank = _axis(x, dim), x.type.rank
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
    return _on_last(i, i.cast(x, out.dtype), dim, lambda y: i.add(CUMSUM, y))


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
    d = _axis(x, dim)
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


IGNORE = {
    "_assert_tensor_metadata.default",
    "_assert_scalar.default",
    "_assert_async.msg",
    "sym_constrain_range.default",
    "sym_constrain_range_for_size.default",
}

CONVERT: dict[str, Callable] = {
    **INDEXING,
    **dict.fromkeys(
        ["view.default", "reshape.default", "_unsafe_view.default"], view
    ),
    **dict.fromkeys(
        ["alias.default", "detach.default", "contiguous.default", "clone.default",
         "lift_fresh_copy.default", "dropout.default", "conj.default", "resolve_conj.default"],
        identity,
    ),
    **dict.fromkeys(
        ["_to_copy.default", "to.dtype", "to.dtype_layout", "to.device", "to.other",
         "type_as.default", "to.prim_Device"], to,
    ),
    "view_as.default": lambda i, x, y: i.reshape(x, y.shape),
    "unsqueeze.default": unsqueeze,
    "squeeze.dim": squeeze,
    "squeeze.dims": squeeze,
    "squeeze.default": squeeze,
    "flatten.using_ints": flatten,
    "unflatten.int": unflatten,
    "permute.default": permute,
    "transpose.int": transpose,
    "t.default": lambda i, x: transpose(i, x, 0, 1) if x.type.rank == 2 else x,
    "expand.default": expand,
    "expand_as.default": lambda i, x, y: i.expand(x, y.shape),
    "slice.Tensor": slice_tensor,
    "select.int": select,
    "narrow.default": lambda i, x, d, a, n: _slice(i, x, _axis(x, d), a, simplify(a + n)),
    "split.Tensor": split,
    "split_with_sizes.default": split_sizes,
    "chunk.default": chunk,
    "unbind.int": unbind,
    "cat.default": cat,
    "stack.default": stack,
    "slice_scatter.default": slice_scatter,
    "select_scatter.default": select_scatter,
    "repeat.default": repeat,
    "repeat_interleave.self_int": repeat_interleave,
    "diff.default": diff,
    "copy.default": copy,
    "zeros.default": _filled(0, True),
    "ones.default": _filled(1, True),
    "empty.memory_format": _filled(0, True),
    "full.default": lambda i, shape, v, **_: _full(i, shape, v),
    "zeros_like.default": _filled(0, False),
    "ones_like.default": _filled(1, False),
    "empty_like.default": _filled(0, False),
    "full_like.default": lambda i, x, v, **_: _full(i, x.shape, v),
    "new_zeros.default": _new(0),
    "new_ones.default": _new(1),
    "new_empty.default": _new(0),
    "new_full.default": lambda i, x, shape, v, **_: _full(i, shape, v),
    "scalar_tensor.default": lambda i, v, **_: _full(i, (), v),
    "arange.default": arange,
    "arange.start": arange,
    "arange.start_step": arange,
    "tril.default": triangle(False),
    "triu.default": triangle(True),
    "add.Tensor": _alpha(P["add"]),
    "add.Scalar": _alpha(P["add"]),
    "sub.Tensor": _alpha(P["sub"]),
    "sub.Scalar": _alpha(P["sub"]),
    "rsub.Scalar": lambda i, a, b, alpha=1: _alpha(P["sub"])(i, b, a, alpha),
    "mul.Tensor": mul,
    "mul.Scalar": mul,
    "pow.Tensor_Scalar": power,
    "div.Tensor_mode": div_mode,
    "clamp.default": clamp,
    "clamp_min.default": clamp,
    "clamp_max.default": lambda i, x, hi: clamp(i, x, None, hi),
    "gelu.default": gelu,
    "where.ScalarOther": lambda i, c, a, b: i.pointwise(P["where"], c, a, b),
    "where.ScalarSelf": lambda i, c, a, b: i.pointwise(P["where"], c, a, b),
    "where.Scalar": lambda i, c, a, b: i.pointwise(P["where"], c, a, b),
    "masked_fill.Scalar": masked_fill,
    "masked_fill.Tensor": masked_fill,
    "bitwise_not.default": bitwise_not,
    "view_as_complex.default": view_as_complex,
    "view_as_real.default": view_as_real,
    "polar.default": polar,
    "outer.default": outer,
    "sum.dim_IntList": _reduced(SUM),
    "sum.default": _reduced(SUM),
    "amax.default": _reduced(AMAX),
    "amin.default": _reduced(AMIN),
    "max.default": _reduced(AMAX),
    "min.default": _reduced(AMIN),
    "mean.dim": mean,
    "mean.default": mean,
    "any.dim": logical("any"),
    "any.default": logical("any"),
    "all.dim": logical("all"),
    "all.default": logical("all"),
    "softmax.int": softmax,
    "_softmax.default": lambda i, x, dim, half: softmax(i, x, dim),
    "cumsum.default": cumsum,
    "topk.default": topk,
    "sort.default": sort,
    "sort.stable": sort,
    "argmax.default": argmax,
    "max.dim": max_dim,
    "rms_norm.default": rms_norm,
    "layer_norm.default": layer_norm,
    "linear.default": linear,
    "matmul.default": matmul,
    "mm.default": matmul,
    "bmm.default": matmul,
    "addmm.default": addmm,
    "scaled_dot_product_attention.default": sdpa,
}  # fmt: skip
