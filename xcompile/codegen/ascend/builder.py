"""One phase per node: a device function, the units it runs on, and the pointers that it takes.

An op is emitted by `xcompile/codegen/ascend/<op>.py` (its `build(builder, node)`) where Python has
to decide something, else by `templates/ascend/<op>.j2`. In a template's text a line
`//@include "x.h"` names a header of templates/ascend/lib and `//@unit cube` the cores it runs on:
vector (the default), cube, or mix.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xcompile.codegen.expr import address
from xcompile.codegen.kernels import describe
from xcompile.codegen.loops import padded
from xcompile.codegen.render import render
from xcompile.errors import UnsupportedError
from xcompile.ir import DTYPE_NAMES, Graph, Node, Value
from xcompile.layout import Layout, row_stride
from xcompile.ops.matmul import LINEAR
from xcompile.plan import Packed, Source
from xcompile.symbolic import c_expr, product
from xcompile.targets.ascend import Ascend

STORAGE = {
    torch.float32: "float",
    torch.float16: "half",
    torch.bfloat16: "bfloat16_t",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.int16: "int16_t",
    torch.int8: "int8_t",
    torch.uint8: "uint8_t",
    torch.bool: "uint8_t",
}
DIRECTIVE = re.compile(r'^//@(unit|include) "?([\w./]+)"?\n', re.MULTILINE)


@dataclass(frozen=True)
class Phase:
    """A device function `NAME(TPipe&, Team, const __gm__ i64* s, GM_ADDR a0, ...)`.

    unit  vector, cube, or mix (called on both)
    """

    name: str
    source: str
    args: tuple[Source, ...]
    unit: str


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


class AscendBuilder:
    """Makes the phases of one graph."""

    def __init__(self, target: Ascend, graph: Graph, layouts: dict[Value, Layout]) -> None:
        self.target = target
        self.graph = graph
        self.layouts = layouts
        self.symbols = sorted(graph.symbols)

    def build(self, n: Node) -> Phase:
        if n.op.name == "torch_call":
            raise UnsupportedError(f"{n.attrs['target']} has no Ascend kernel ({n.origin})")
        for m in n.body.nodes if n.body is not None else [n]:
            self._check(m)
        if n.op is LINEAR or (n.body is not None and any(m.op is LINEAR for m in n.body.nodes)):
            name = "linear"
        else:
            name = "chain" if n.body is not None else n.op.name
        try:
            module = importlib.import_module(f"xcompile.codegen.ascend.{name}")
        except ModuleNotFoundError as e:
            if e.name != f"xcompile.codegen.ascend.{name}":
                raise
            return self.generic(n)
        made: Phase = module.build(self, n)
        return made

    def _check(self, n: Node) -> None:
        for v in (*n.inputs, *n.outputs):
            if v.dtype not in STORAGE:
                known = ", ".join(DTYPE_NAMES[d] for d in STORAGE)
                raise UnsupportedError(
                    f"{n.op.name} of {v.type} (at {n.origin or 'the graph'}) is not supported on "
                    f"{self.target.isa}, which has {known}; cast first"
                )

    def phase(
        self,
        label: str,
        unit: str,
        n: Node,
        args: Sequence[Source],
        text: str,
        includes: Sequence[str] = (),
        prelude: str = "",
    ) -> Phase:
        """A phase with a function body `text`, behind `prelude` at namespace scope.

        @NAME@ in either is the phase's name, which is a hash of all the rest, so identical layers
        share it. Pointers are a0, a1, ... in the order of `args`; symbols are in scope by name.
        """
        text = device(text)
        heads = [f"const i64 {s} = s[{k}];" for k, s in enumerate(self.symbols) if _uses(text, s)]
        digest = hashlib.sha256(
            "\n".join([*heads, *includes, unit, prelude, text]).encode()
        ).hexdigest()[:8]
        name = f"{label}_{digest}"
        source = render(
            self.target.template_path,
            "phase.j2",
            name=name,
            includes=["common.h", *includes],
            doc=describe(n, self.symbols),
            prelude=prelude.replace("@NAME@", name).rstrip("\n"),
            pointers=len(args),
            symbols=heads,
            text=text.replace("@NAME@", name).rstrip("\n"),
        )
        return Phase(name, source, tuple(args), unit)

    def generic(
        self,
        n: Node,
        *,
        packing: dict[int, str] | None = None,
        workspace: Any = None,
        **context: Any,
    ) -> Phase:
        """A phase from `templates/ascend/<op>.j2`.

        packing    operand -> kind, for weights
        workspace  bytes of a last argument, `workspace` in the template
        context    more names for the template
        """
        args: list[Source] = []
        operands: list[Operand] = []
        for k, v in enumerate(n.inputs):
            kind = (packing or {}).get(k)
            if kind and v not in self.graph.consts:
                raise UnsupportedError(
                    f"{n.op.name} with weights that are not constants ({n.origin or 'the graph'})"
                )
            operands.append(self.operand(v, f"a{len(args)}", n.out.type.rank))
            args.append(Packed(kind, (v,)) if kind else v)
        results = []
        for k, v in enumerate(n.outputs):
            if k in n.op.alias:
                results.append(operands[n.op.alias[k]])
            else:
                results.append(self.operand(v, f"a{len(args)}", n.out.type.rank))
                args.append(v)
        if workspace is not None:
            context["workspace"] = f"a{len(args)}"
            args.append(workspace)
        text = render(
            self.target.template_path,
            f"{n.op.name}.j2",
            ins=operands,
            outs=results,
            attrs={k: attribute(v) for k, v in n.attrs.items()},
            chip=self.target.chip,
            **context,
        )
        found = DIRECTIVE.findall(text)
        unit = next((x for kind, x in found if kind == "unit"), "vector")
        includes = [x for kind, x in found if kind == "include"]
        return self.phase(n.op.name, unit, n, args, DIRECTIVE.sub("", text), includes)

    def operand(self, v: Value, ptr: str, rank: int) -> Operand:
        """What templates see of a value; `rank` is that of the index i0, i1, ... in `at`."""
        strides = self.layouts[v].strides
        shape = v.shape or (1,)
        row = row_stride(shape, strides) if v.shape else 1
        index = [f"i{k}" for k in range(rank - 1)]
        row_at = address(index, padded(strides, v.shape, rank)[:-1]) if len(v.shape) <= rank else ""
        return Operand(
            ptr=ptr,
            ctype=STORAGE[v.dtype],
            shape=[c_expr(d) for d in v.shape],
            strides=["0" if d == 1 else c_expr(s) for d, s in zip(v.shape, strides, strict=True)],
            rows=c_expr(product(shape[:-1])),
            cols=c_expr(shape[-1]),
            size=c_expr(product(shape)),
            row_stride=c_expr(row) if row is not None else "-1",
            at=row_at,
            bits=v.dtype.itemsize * 8,
        )


def device(text: str) -> str:
    """C++ text of dims, as kernels can compile it: they have no standard library."""
    return text.replace("std::max<i64>", "xc::most").replace("std::min<i64>", "xc::least")


def _uses(text: str, symbol: str) -> bool:
    return re.search(rf"\b{re.escape(symbol)}\b", text) is not None


def attribute(v: Any) -> Any:
    """An attribute of a node as C++."""
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, torch.dtype):
        return STORAGE[v]
    if isinstance(v, float):
        return f"{v!r}f" if math.isfinite(v) else str(v)
    if isinstance(v, int) or hasattr(v, "free_symbols"):
        return c_expr(v)
    return v
