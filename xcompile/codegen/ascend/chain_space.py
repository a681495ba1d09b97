"""The space that a fused group walks: rows, columns, and how each operand lies over them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from xcompile.codegen.ascend.builder import STORAGE, device
from xcompile.codegen.loops import Space, make_space
from xcompile.ir import Graph, Node, Value
from xcompile.ops.pointwise import COPY
from xcompile.symbolic import Dim, c_expr, free_names, product, same, simplify

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder

# What a value is in a tile: a row of elements for each row, one value for each row, one row of
# elements for all rows, or a number that is known when the kernel starts.
TILE, ROW, COLUMN, SCALAR = "tile", "row", "column", "scalar"


@dataclass(frozen=True)
class Operand:
    """A value in global memory, behind pointer `index`.

    strides  of the row dims, in elements; then of the columns
    """

    value: Value
    index: int
    kind: str
    strides: tuple[Dim, ...]

    @property
    def ctype(self) -> str:
        return STORAGE[self.value.dtype]

    @property
    def size(self) -> int:
        return self.value.dtype.itemsize

    @property
    def column(self) -> Dim:
        return self.strides[-1]

    @property
    def inner(self) -> Dim:
        """Stride of the last row dim."""
        return self.strides[-2] if len(self.strides) > 1 else 0

    @property
    def outer(self) -> Dim:
        return self.strides[-3] if len(self.strides) > 2 else 0

    @property
    def across(self) -> bool:
        """Rows follow each other in memory, and columns do not."""
        return not same(self.column, 1) and same(self.inner, 1) and self.size > 1


class Grid:
    """Rows x columns of a group's body; `body` has no linears (their results are `accs`)."""

    def __init__(
        self, builder: AscendBuilder, n: Node, body: Graph, accs: Sequence[Value] = ()
    ) -> None:
        self.symbols = builder.symbols
        self.accs = list(accs)
        read = {v for m in body.nodes if m.outputs[0] not in accs for v in m.inputs}
        read |= set(body.outputs)
        outer = dict(zip(body.inputs, n.inputs, strict=True))
        inputs = [v for v in body.inputs if v in read]
        nodes = [m for m in body.nodes if m.outputs[0] not in accs]
        outputs = list(body.outputs)
        made = {v for m in nodes for v in m.outputs}
        for k, v in enumerate(outputs):  # what is only passed on is copied
            if v not in made:
                copy = Value(v.type)
                nodes.append(Node(COPY, (v,), {}, (copy,)))
                outputs[k] = copy
        self.body = Graph(inputs=[*inputs, *accs], nodes=nodes, outputs=outputs)
        self.ramps = [m for m in nodes if m.op.name == "iota"]
        self.reduces = any(m.op.reduces for m in nodes)
        lays = [(v, builder.layouts[outer[v]].strides) for v in inputs]
        lays += [(v, builder.layouts[o].strides) for v, o in zip(outputs, n.outputs, strict=True)]
        walked: list[tuple[Value | Node, tuple[Dim, ...]]] = [*lays]
        for m in self.ramps:
            step, d = m.attrs["step"], m.attrs["dim"]
            walked.append((m, tuple(step if k == d else 0 for k in range(m.out.type.rank))))
        space = make_space(self.body, walked, self.reduces or bool(accs))
        self.space: Space = space
        self.rows, self.columns, self.flat = space.rows, space.columns, space.flat
        self.args = [outer[v] for v in inputs] + list(n.outputs)
        operands = [Operand(v, k, self._kind(v), space.strides[v]) for k, (v, _) in enumerate(lays)]
        self.inputs = operands[: len(inputs)]
        self.outputs = operands[len(inputs) :]

    def _kind(self, v: Value) -> str:
        *rows, column = self.space.strides[v]
        if same(column, 0):
            return ROW
        if self.rows and all(same(s, 0) for s in rows):
            return COLUMN
        return TILE

    def ramp_kind(self, m: Node) -> str:
        if same(self.space.strides[m][-1], 0):
            return ROW
        return COLUMN if self.rows else TILE

    @cached_property
    def runs(self) -> bool:
        """Whether a tile may span several runs of the last row dim: not if a value a row, or
        columns that lie apart, would have to be gathered from several runs."""
        if len(self.rows) < 2:
            return False
        picky = [o.strides for o in (*self.inputs, *self.outputs) if o.kind == ROW]
        picky += [self.space.strides[m] for m in self.ramps if self.ramp_kind(m) == ROW]
        apart = any(o.across for o in self.inputs if o.kind == TILE)
        return not apart and all(same(s[-3], simplify(s[-2] * self.rows[-1])) for s in picky)

    @property
    def count(self) -> Dim:
        return product(self.rows)

    # -- texts --------------------------------------------------------------------------------
    def dim(self, e: Dim) -> str:
        """C++ of a dim inside the chain's struct, where symbols are members of `dim_`."""
        text = device(c_expr(e))
        names = free_names(e)
        return re.sub(r"\b[A-Za-z_]\w*\b", lambda m: _member(m[0], names), text)

    @property
    def used(self) -> list[str]:
        """Symbols that the struct needs, in order."""
        dims: list[object] = [self.columns, *self.rows]
        for s in self.space.strides.values():
            dims += s
        for m in self.body.nodes:
            dims += [m.attrs.get("value"), m.attrs.get("start"), m.attrs.get("step")]
        names = {x for d in dims for x in free_names(d)}
        return [s for s in self.symbols if s in names]

    def index(self) -> list[str]:
        """Statements that split t.row into i0, i1, ..."""
        if len(self.rows) < 2:
            return []
        lines = ["i64 q = t.row;"]
        for k in reversed(range(1, len(self.rows))):
            d = self.dim(self.rows[k])
            lines.append(f"const i64 i{k} = q % {d};")
            lines.append(f"q /= {d};")
        return [*lines, "const i64 i0 = q;"]

    def row_at(self, strides: Sequence[Dim]) -> str:
        """Offset of row t.row (i0, i1, ...), in elements."""
        index = [f"i{k}" for k in range(len(self.rows))] if len(self.rows) > 1 else ["t.row"]
        terms = [
            i if same(s, 1) else f"{i} * {self.dim(s)}"
            for i, s in zip(index[: len(self.rows)], strides, strict=True)
            if not same(s, 0)
        ]
        return " + ".join(terms) or "0"

    def at(self, o: Operand) -> str:
        """Offset of a tile's first element, in bytes."""
        terms = [self.row_at(o.strides[:-1])]
        if o.kind in (TILE, COLUMN):
            terms.append("t.col" if same(o.column, 1) else f"t.col * {self.dim(o.column)}")
        text = " + ".join(x for x in terms if x != "0") or "0"
        return text if o.size == 1 or text == "0" else f"({text}) * {o.size}"


def _member(name: str, symbols: set[str]) -> str:
    return f"dim_.{name}" if name in symbols else name
