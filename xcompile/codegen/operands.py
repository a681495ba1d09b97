"""What templates see of a node: its operands as texts of the target's language, its attributes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xcompile.codegen.expr import address
from xcompile.codegen.loops import padded
from xcompile.errors import UnsupportedError
from xcompile.ir import Graph, Node, Value
from xcompile.layout import Layout, row_stride
from xcompile.plan import Packed, Source
from xcompile.runtime.program import Arg
from xcompile.symbolic import c_expr, product


@dataclass(frozen=True)
class Operand:
    """What a template may ask of an operand; texts are C++ expressions of the symbols."""

    ptr: str
    ctype: str
    shape: list[str]
    strides: list[str]
    rows: str  # elements over all dims but the last
    cols: str
    size: str  # all elements
    row_stride: str
    at: str  # offset of row (i0, i1, ...) of the first result, broadcast
    bits: int


def operand(v: Value, layout: Layout, ptr: str, ctype: str, rank: int) -> Operand:
    """`rank` is that of the index i0, i1, ... in `at`."""
    strides, shape = layout.strides, v.shape or (1,)
    row = row_stride(shape, strides) if v.shape else 1
    index = [f"i{k}" for k in range(rank - 1)]
    row_at = address(index, padded(strides, v.shape, rank)[:-1]) if len(v.shape) <= rank else ""
    return Operand(
        ptr=ptr,
        ctype=ctype,
        shape=[c_expr(d) for d in v.shape],
        strides=["0" if d == 1 else c_expr(s) for d, s in zip(v.shape, strides, strict=True)],
        rows=c_expr(product(shape[:-1])),
        cols=c_expr(shape[-1]),
        size=c_expr(product(shape)),
        row_stride=c_expr(row) if row is not None else "-1",
        at=row_at,
        bits=v.dtype.itemsize * 8,
    )


@dataclass(frozen=True)
class Operands:
    args: list[Source]  # what the kernel takes, in order
    ins: list[Operand]
    outs: list[Operand]


def operands(
    n: Node, graph: Graph, packing: Mapping[int, str], make: Callable[[Value, int], Operand]
) -> Operands:
    """The operands of a node, `packing` (operand -> kind) those that are packed weights.
    `make(value, place)` is an operand behind argument `place`; a result in place of an operand is
    that operand. Raises UnsupportedError for packed weights that are not constants.
    """
    found = Operands([], [], [])
    for k, v in enumerate(n.inputs):
        kind = packing.get(k)
        if kind and v not in graph.consts:
            raise UnsupportedError(
                f"{n.op.name} with weights that are not constants ({n.origin or 'the graph'})"
            )
        found.ins.append(make(v, len(found.args)))
        found.args.append(Packed(kind, (v,)) if kind else v)
    for k, v in enumerate(n.outputs):
        if k in n.op.alias:
            found.outs.append(found.ins[n.op.alias[k]])
        else:
            found.outs.append(make(v, len(found.args)))
            found.args.append(v)
    return found


def attribute(v: Any, storage: Mapping[torch.dtype, str]) -> Any:
    """An attribute of a node as C++."""
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, torch.dtype):
        return storage[v]
    if isinstance(v, float):
        return f"{v!r}f" if math.isfinite(v) else str(v)
    if isinstance(v, int) or hasattr(v, "free_symbols"):
        return c_expr(v)
    return v


def pointer(a: Arg, inputs: int) -> str:
    """Where a launch finds an argument, of a program with so many inputs."""
    base = {
        "arena": f"arena + at[{a.index}]",
        "const": f"c[{a.index}]",
        "input": f"io[{a.index}]",
        "output": f"io[{inputs + a.index}]",
    }[a.space]
    return base if a.offset == 0 else f"{base} + {c_expr(a.offset)}"


def used_symbols(text: str, symbols: Sequence[str]) -> list[str]:
    return [s for s in symbols if re.search(rf"\b{re.escape(s)}\b", text)]


def symbol_lines(text: str, symbols: Sequence[str]) -> list[str]:
    """What declares the symbols that a text uses, from the array of all of them."""
    used = used_symbols(text, symbols)
    return [f"const i64 {s} = s[{symbols.index(s)}];" for s in used]
