"""One phase per node: a device function, the units it runs on, and the pointers that it takes.

An op is emitted by `xcompile/codegen/ascend/<op>.py` (its `build(builder, node)`) where Python has
to decide something, else by `templates/ascend/<op>.j2`. In a template's text a line
`//@include "x.h"` names a header of templates/ascend/lib and `//@unit cube` the cores it runs on:
vector (the default), cube, or mix.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xcompile.codegen.kernels import describe
from xcompile.codegen.operands import Operand, attribute, operand, operands, symbol_lines
from xcompile.codegen.render import render
from xcompile.errors import UnsupportedError
from xcompile.ir import DTYPE_NAMES, Graph, Node, Value
from xcompile.layout import Layout
from xcompile.ops.matmul import LINEAR
from xcompile.plan import Source
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
        heads = symbol_lines(text, self.symbols)
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
        rank = n.out.type.rank
        found = operands(n, self.graph, packing or {}, lambda v, k: self.operand(v, f"a{k}", rank))
        args = found.args
        if workspace is not None:
            context["workspace"] = f"a{len(args)}"
            args.append(workspace)
        text = render(
            self.target.template_path,
            f"{n.op.name}.j2",
            ins=found.ins,
            outs=found.outs,
            attrs={k: attribute(v, STORAGE) for k, v in n.attrs.items()},
            chip=self.target.chip,
            **context,
        )
        said = DIRECTIVE.findall(text)
        unit = next((x for kind, x in said if kind == "unit"), "vector")
        includes = [x for kind, x in said if kind == "include"]
        return self.phase(n.op.name, unit, n, args, DIRECTIVE.sub("", text), includes)

    def operand(self, v: Value, ptr: str, rank: int) -> Operand:
        """What templates see of a value; `rank` is that of the index i0, i1, ... in `at`."""
        return operand(v, self.layouts[v], ptr, STORAGE[v.dtype], rank)


def device(text: str) -> str:
    """C++ text of dims, as kernels can compile it: they have no standard library."""
    return text.replace("std::max<i64>", "xc::most").replace("std::min<i64>", "xc::least")
