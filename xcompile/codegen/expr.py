"""C++ text of fused pointwise bodies."""

from __future__ import annotations

import math
from typing import Any

import sympy
import torch

from xcompile.errors import UnsupportedError
from xcompile.ir import Node, Value
from xcompile.ops.infer import promote
from xcompile.symbolic import Dim, c_expr

STORAGE = {
    torch.float64: "double",
    torch.float32: "float",
    torch.float16: "_Float16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "int32_t",
    torch.int16: "int16_t",
    torch.int8: "int8_t",
    torch.uint8: "uint8_t",
    torch.bool: "bool",
}
NARROW = {torch.bfloat16: "xc::math::round_bf16", torch.float16: "xc::math::round_f16"}
DOUBLE_OK = {"exp", "tanh", "erf", "abs", "max", "min", "floordiv", "remainder"}


def register(dtype: torch.dtype) -> str:
    """The C++ type in which values of a dtype are computed."""
    if dtype == torch.float64:
        return "double"
    if dtype.is_floating_point:
        return "float"
    return "bool" if dtype == torch.bool else "i64"


def load(pointer: str, dtype: torch.dtype) -> str:
    if dtype == torch.bfloat16:
        return f"to_f32({pointer})"
    storage, reg = STORAGE[dtype], register(dtype)
    return pointer if storage == reg else f"{reg}({pointer})"


def store(target: str, value: str, dtype: torch.dtype) -> str:
    if dtype == torch.bfloat16:
        return f"{target} = to_bf16({value});"
    storage, reg = STORAGE[dtype], register(dtype)
    return f"{target} = {value if storage == reg else f'{storage}({value})'};"


def literal(value: Any, dtype: torch.dtype) -> str:
    reg = register(dtype)
    if isinstance(value, sympy.Expr):
        return f"{reg}({c_expr(value)})"
    if reg == "bool":
        return "true" if value else "false"
    if reg == "i64":
        return f"i64({int(value)})" if abs(int(value)) < 2**31 else f"INT64_C({int(value)})"
    x = float(value)
    if math.isinf(x) or math.isnan(x):
        text = "NAN" if math.isnan(x) else "INFINITY" if x > 0 else "-INFINITY"
    elif abs(x) > 3.4028234663852886e38 and reg == "float":
        text = "INFINITY" if x > 0 else "-INFINITY"
    else:
        text = repr(x)
    return f"{reg}({text})"


def _convert(name: str, src: torch.dtype, dst: torch.dtype, computed: bool) -> str:
    """`name` (a value of dtype src in its register type) as dst."""
    if dst == src:
        return name
    if dst == torch.bool:
        return f"({name} != 0)"
    if computed and src in NARROW:  # a computed 16-bit value is rounded where its dtype changes
        name = f"{NARROW[src]}({name})"
    if dst in NARROW:
        return f"{NARROW[dst]}(float({name}))"
    if dst.is_floating_point:
        return f"{register(dst)}({name})"
    storage = STORAGE[dst]
    return f"i64({storage}({name}))" if storage != "i64" else f"i64({name})"


def expression(n: Node, names: dict[Value, str], computed: set[Value]) -> str:
    """C++ expression of one pointwise node; `computed` are values not loaded from memory."""
    if n.op.name == "full":
        return literal(n.attrs["value"], n.out.dtype)
    if n.op.name == "cast":
        v = n.inputs[0]
        return _convert(names[v], v.dtype, n.out.dtype, v in computed)
    compute = promote([v.type for v in n.inputs[1 if n.op.name == "where" else 0 :]])
    if n.out.dtype.is_floating_point and not compute.is_floating_point:
        compute = n.out.dtype
    reg = register(compute)
    args = [
        names[v]
        if register(v.dtype) == reg or (n.op.name == "where" and k == 0)
        else f"{reg}({names[v]})"
        for k, v in enumerate(n.inputs)
    ]
    assert n.op.expr is not None
    if reg == "double":
        _check_double(n)
    text = n.op.expr.format(*args)
    if reg == "double":
        for f in ("exp", "tanh", "erf"):
            text = text.replace(f"xc::math::{f}(", f"std::{f}(")
        text = text.replace("xc::math::rsqrt(", "1.0 / std::sqrt(").replace("1.0f", "1.0")
    return f"bool({text})" if n.out.dtype == torch.bool else text


def _check_double(n: Node) -> None:
    assert n.op.expr is not None
    used = n.op.expr.partition("xc::math::")[2].partition("(")[0]
    if used and used not in DOUBLE_OK | {"rsqrt"}:
        raise UnsupportedError(
            f"{n.op.name} in float64 (at {n.origin or 'the graph'}) is not supported on cpu; "
            "cast to float32"
        )


def address(index: list[str], strides: tuple[Dim, ...]) -> str:
    """Sum of index * stride as C++; zero strides vanish."""
    terms = []
    for i, s in zip(index, strides, strict=True):
        if s == 0 or i == "0":
            continue
        terms.append(i if s == 1 else f"{i} * {c_expr(s)}")
    return " + ".join(terms) or "0"
