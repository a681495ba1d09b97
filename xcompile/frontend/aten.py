"""ATen overloads that need more than a one-to-one mapping. Each converter takes the importer and
the call's arguments (tensors as IR values, symbolic ints as dims) and returns IR values, or None
for a form it does not handle: that call then becomes an eager island.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from xcompile.frontend.aten_index import INDEXING
from xcompile.frontend.aten_logs import LOGS
from xcompile.frontend.aten_rows import (
    addmm,
    argmax,
    cumsum,
    layer_norm,
    linear,
    logical,
    matmul,
    max_dim,
    mean,
    outer,
    reduced,
    rms_norm,
    sdpa,
    softmax,
    sort,
    topk,
)
from xcompile.frontend.aten_views import (
    axis,
    cat,
    chunk,
    cut,
    diff,
    expand,
    flatten,
    identity,
    pad,
    permute,
    repeat,
    repeat_interleave,
    select,
    select_scatter,
    slice_scatter,
    slice_tensor,
    split,
    split_sizes,
    squeeze,
    stack,
    transpose,
    unbind,
    unflatten,
    unsqueeze,
    view,
)
from xcompile.frontend.einsum import einsum
from xcompile.frontend.fx import Complex, Importer
from xcompile.ir import Op, Value
from xcompile.ops.leaf import FULL, IOTA
from xcompile.ops.pointwise import BY_NAME as P
from xcompile.ops.reduce import AMAX, AMIN, SUM
from xcompile.symbolic import simplify


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


IGNORE = {
    "_assert_tensor_metadata.default",
    "_assert_scalar.default",
    "_assert_async.msg",
    "sym_constrain_range.default",
    "sym_constrain_range_for_size.default",
}

CONVERT: dict[str, Callable] = {
    **INDEXING,
    **LOGS,
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
    "narrow.default": lambda i, x, d, a, n: cut(i, x, axis(x, d), a, simplify(a + n)),
    "split.Tensor": split,
    "split_with_sizes.default": split_sizes,
    "chunk.default": chunk,
    "unbind.int": unbind,
    "cat.default": cat,
    "concat.default": cat,
    "constant_pad_nd.default": pad,
    "pad.default": pad,
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
    "pow.Scalar": lambda i, x, e: i.pointwise(P["pow"], float(x), e),
    "div.Tensor_mode": div_mode,
    "clamp.default": clamp,
    "clamp.Tensor": clamp,
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
    "einsum.default": einsum,
    "view_as_real.default": view_as_real,
    "polar.default": polar,
    "outer.default": outer,
    "sum.dim_IntList": reduced(SUM),
    "sum.default": reduced(SUM),
    "amax.default": reduced(AMAX),
    "amin.default": reduced(AMIN),
    "max.default": reduced(AMAX),
    "min.default": reduced(AMIN),
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
