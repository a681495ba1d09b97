"""IR nodes as lines of eager PyTorch: the text of one expression per op."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import sympy
import torch

from xcompile.errors import UnsupportedError
from xcompile.ir import Node
from xcompile.symbolic import Dim, dim_str

# {0}, {1}, ... are the operands' names; numbers may stand for scalar operands
POINTWISE = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "floordiv": "torch.floor_divide({0}, {1})",
    "remainder": "torch.remainder({0}, {1})",
    "pow": "torch.pow({0}, {1})",
    "max": "torch.maximum({0}, {1})",
    "min": "torch.minimum({0}, {1})",
    "neg": "-{0}",
    "abs": "torch.abs({0})",
    "square": "torch.square({0})",
    "reciprocal": "torch.reciprocal({0})",
    "sqrt": "torch.sqrt({0})",
    "rsqrt": "torch.rsqrt({0})",
    "exp": "torch.exp({0})",
    "log": "torch.log({0})",
    "sin": "torch.sin({0})",
    "cos": "torch.cos({0})",
    "tanh": "torch.tanh({0})",
    "erf": "torch.erf({0})",
    "sigmoid": "torch.sigmoid({0})",
    "silu": "F.silu({0})",
    "gelu": "F.gelu({0})",
    "gelu_tanh": 'F.gelu({0}, approximate="tanh")',
    "relu": "torch.relu({0})",
    "floor": "torch.floor({0})",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "torch.logical_not({0})",
    "where": "torch.where({0}, {1}, {2})",
}
NO_NUMBERS = {"max", "min"}  # every operand must be a tensor


def dim(d: Dim) -> str:
    """A dim as Python."""
    return dim_str(d).replace("Max(", "max(").replace("Min(", "min(")


def dims(shape: Sequence[Dim]) -> str:
    inner = ", ".join(map(dim, shape))
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def number(value: Any) -> str:
    """A scalar constant as Python."""
    if isinstance(value, sympy.Expr):
        return dim(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def expression(n: Node, args: Sequence[str]) -> str:
    """The value of a node's (only or first) result; `device` is in scope.

    Raises UnsupportedError for an op without eager text.
    """
    if n.op.name in POINTWISE:
        return POINTWISE[n.op.name].format(*(f"({a})" if a.startswith("-") else a for a in args))
    if n.op.name not in TABLE:
        raise UnsupportedError(f"{n.op.name} has no eager form ({n.origin or 'the graph'})")
    return TABLE[n.op.name](n, *args)


def _wide(n: Node, x: str, form: str) -> str:
    """`form` of x, computed in f32 when x is narrower."""
    narrow = n.inputs[0].dtype.itemsize < 4
    text = form.format(f"{x}.float()" if narrow else x)
    return f"{text}.to({n.inputs[0].dtype})" if narrow else text


def _full(n: Node) -> str:
    value = f"{number(n.attrs['value'])}, dtype={n.out.dtype}, device=device"
    return f"torch.full({dims(n.out.shape)}, {value})"


def _iota(n: Node) -> str:
    a = n.attrs
    view = ["1"] * n.out.type.rank
    view[a["dim"]] = "-1"
    ramp = f"torch.arange({dim(n.out.shape[a['dim']])}, device=device)"
    ramp = f"({ramp} * {dim(a['step'])} + {dim(a['start'])}).to({n.out.dtype})"
    return f"{ramp}.view({', '.join(view)}).expand{dims(n.out.shape)}"


def _slice(n: Node, x: str) -> str:
    a = n.attrs
    step = "" if a["step"] == 1 else f":{a['step']}"
    at = "..., " if a["dim"] == n.out.type.rank - 1 and a["dim"] else ":, " * a["dim"]
    return f"{x}[{at}{dim(a['start'])}:{dim(a['stop'])}{step}]"


def _index_copy(n: Node, x: str, index: str, src: str) -> str:
    return f"torch.index_copy({x}, {n.attrs['dim']}, {index}, {src})"


def _plain(n: Node) -> None:
    extra = n.inputs[6 if n.op.name == "paged_attention" else 3 :]
    if "window" in n.attrs or any(x.type.rank == 1 for x in extra):
        what = "a window" if "window" in n.attrs else "sinks"
        raise UnsupportedError(f"{n.op.name} with {what} ({n.origin or 'the graph'}): only on cpu")


def _attention(n: Node, q: str, k: str, v: str, mask: str = "") -> str:
    _plain(n)
    more = []
    if mask:
        boolean = n.inputs[3].dtype == torch.bool
        more.append(f"attn_mask={mask if boolean else f'{mask}.to({n.inputs[0].dtype})'}")
    if n.attrs["causal"]:
        if mask:
            raise UnsupportedError(f"attention with a mask, and causal ({n.origin or 'the graph'})")
        more.append("is_causal=True")
    if n.inputs[0].shape[1] != n.inputs[1].shape[1]:
        more.append("enable_gqa=True")
    rest = ", ".join([*more, f"scale={n.attrs['scale']!r}"])
    return f"F.scaled_dot_product_attention({q}, {k}, {v}, {rest})"


def _torch_call(n: Node, *args: str) -> str:
    left = iter(args)

    def fill(a: Any) -> str:
        if isinstance(a, tuple):
            tag, value = a
            return next(left) if tag == "t" else f"[{', '.join(map(fill, value))}]"
        return dim(a) if isinstance(a, sympy.Expr) else number(a)

    positional, keyword = n.attrs["spec"]
    given = [fill(a) for a in positional] + [f"{k}={fill(v)}" for k, v in keyword]
    return f"torch.ops.{n.attrs['target'].replace('::', '.')}({', '.join(given)})"


def _rms_norm(n: Node, x: str, w: str) -> str:
    eps = f"({n.inputs[0].shape[-1]},), eps={n.attrs['eps']!r}"
    return f"{_wide(n, x, f'F.rms_norm({{}}, {eps})')} * {w}"


def _layer_norm(n: Node, x: str, w: str, b: str) -> str:
    f32 = ".float()" if n.inputs[0].dtype.itemsize < 4 else ""
    rest = f"({n.inputs[0].shape[-1]},), {w}{f32}, {b}{f32}, {n.attrs['eps']!r}"
    return _wide(n, x, f"F.layer_norm({{}}, {rest})")


def _rope(n: Node, x: str, cos: str, sin: str) -> str:
    return f"rope({x}, {cos}, {sin}, interleaved={n.attrs['interleaved']})"


def _paged(n: Node, *args: str) -> str:
    _plain(n)
    return f"paged_attention({', '.join(args)}, {n.attrs['scale']!r}, {n.attrs['page']})"


def _route(n: Node, *args: str) -> str:
    given = ", ".join(f"{k}={_attribute(v)}" for k, v in n.attrs.items())
    return f"moe_route({', '.join(args)}, {given})"


def _attribute(v: Any) -> str:
    return str(v) if isinstance(v, torch.dtype) else number(v)


TABLE: dict[str, Callable[..., str]] = {
    "full": _full,
    "iota": _iota,
    "copy": lambda n, x: f"{x}.contiguous()",
    "cast": lambda n, x: f"{x}.to({n.out.dtype})",
    "sum": lambda n, x: _wide(n, x, "{}.sum(-1, keepdim=True)"),
    "amax": lambda n, x: f"{x}.amax(-1, keepdim=True)",
    "amin": lambda n, x: f"{x}.amin(-1, keepdim=True)",
    "softmax": lambda n, x: _wide(n, x, "torch.softmax({}, -1)"),
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "linear": lambda n, *args: f"F.linear({', '.join(args)})",
    "head_linear": lambda n, x, w: f'torch.einsum("thk,hnk->thn", {x}, {w})',
    "matmul": lambda n, a, b: f"{a} @ {b}",
    "embedding": lambda n, table, ids: f"{table}[{ids}]",
    "gather": lambda n, x, index: f"torch.gather({x}, -1, {index})",
    "scatter": lambda n, x, index, src: f"torch.scatter({x}, -1, {index}, {src})",
    "index_copy": _index_copy,
    "topk": lambda n, x: f"topk({x}, {n.attrs['k']})",
    "sort": lambda n, x: (
        f"torch.sort({x}, dim=-1, descending={n.attrs['descending']}, stable=True)"
    ),
    "cumsum": lambda n, x: f"{x}.cumsum(-1)",
    "argmax": lambda n, x: f"{x}.argmax(-1, keepdim=True)",
    "reshape": lambda n, x: f"{x}.reshape{dims(n.out.shape)}",
    "permute": lambda n, x: f"{x}.permute{dims(n.attrs['perm'])}",
    "expand": lambda n, x: f"{x}.expand{dims(n.out.shape)}",
    "slice": _slice,
    "cat": lambda n, *xs: f"torch.cat([{', '.join(xs)}], {n.attrs['dim']})",
    "attention": _attention,
    "paged_attention": _paged,
    "moe_route": _route,
    "rope": _rope,
    "torch_call": _torch_call,
}
HELPERS = ("rope", "topk", "paged_attention", "moe_route")  # functions of vendor_step.j2
