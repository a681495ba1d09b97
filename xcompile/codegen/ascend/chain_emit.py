"""The C++ struct of a fused group, from its calls and slots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xcompile.codegen.ascend.chain_lower import Lowering
from xcompile.codegen.ascend.chain_memory import QUEUES, Capacity, Memory
from xcompile.codegen.ascend.chain_space import COLUMN, ROW, TILE, Grid, Operand
from xcompile.codegen.ascend.chain_steps import Reg, Stage, Step
from xcompile.symbolic import same

LONG = 16 * 1024  # bytes of a transfer that is long enough
# buffer -> the tensor that holds it in a function
TENSOR = {"in": "in", "out": "out", "work": "work", "rowIn": "rowsIn_", "rowOut": "rowsOut_"}


@dataclass
class Function:
    name: str
    params: str
    lines: list[str]
    doc: str = ""


@dataclass
class Emitter:
    """Everything that chain.j2 asks for."""

    grid: Grid
    x: Lowering
    memory: Memory
    capacity: Capacity
    unit: int
    ub: int
    sizes: dict[str, int] = field(default_factory=dict)

    def context(self, name: str) -> dict[str, Any]:
        g, x, c = self.grid, self.x, self.capacity
        self.sizes = self.memory.layout(c, self.ub)
        functions = list(self._functions())
        texts = "\n".join(line for f in functions for line in f.lines)
        widest = max([o.size for o in (*g.inputs, *g.outputs) if o.kind == TILE] or [4])
        constants = [
            f"kElements = {c.elements}",
            f"kRows = {c.rows}",
            f"kColumns = {c.columns}",
            f"kUnit = {self.unit}",
            f"kEnough = {LONG // widest}",
        ]
        for size in (2, 4, 8):
            if f"kSlot{size}" in texts:
                constants.append(f"kSlot{size} = {-(-c.rows * size // 32) * 32}")
        prepare = self._prepare()
        if prepare:
            functions.append(Function("prepare", "", prepare, "Once, before the first tile."))
        members = [f"GlobalBytes a{k}_;" for k in range(len(g.args))]
        if g.accs:
            members += [f"GlobalBytes {', '.join(f'acc{k}_' for k in range(len(g.accs)))};"]
            members += ["i64 pitch_ = 0, row_ = 0, col_ = 0;"]
        init = []
        for q in QUEUES:
            if self.sizes[q]:
                position = "VECIN" if q in ("in", "rowIn") else "VECOUT"
                members.append(f"TQue<TPosition::{position}, 1> {q}_;")
                init.append(f"pipe.InitBuffer({q}_, {c.buffers(q)}, {self.sizes[q]});")
        for q in ("rowIn", "rowOut"):
            if self.sizes[q]:
                members.append(f"LocalTensor<uint8_t> {TENSOR[q]};")
        if self.sizes["work"]:
            members.append("TBuf<TPosition::VECCALC> work_;")
            init.append(f"pipe.InitBuffer(work_, {self.sizes['work']});")
        if x.columns or x.column_loads:
            members.append("i64 columnsAt_ = -1, columnsOf_ = -1;")
        if prepare:
            members.append("bool ready_ = false;")
        runs = "true" if g.runs else "false"
        cut = "cut(t, row + rows, fit.rows);"
        if len(g.rows) > 1:
            cut = f"cut(t, row + rows, fit.rows, {g.dim(g.rows[-1])}, {g.dim(g.rows[-2])}, {runs});"
        return {
            "name": name,
            "constants": constants,
            "symbols": [(s, g.symbols.index(s)) for s in g.used],
            "members": members,
            "pointers": len(g.args),
            "init": init,
            "accs": len(g.accs),
            "rows": g.dim(g.count),
            "columns": g.dim(g.columns),
            "prepare": bool(prepare),
            "staged": x.staged,
            "whole": "true" if g.reduces and not x.staged else "false",
            "cut": cut,
            "begin": self._begin() if x.staged else [],
            "end": self._end() if x.staged else [],
            "stages": [
                {"before": [f"before{k}(t);"] if s.before else [], "tile": bool(s.tiles)}
                for k, s in enumerate(x.stages)
            ],
            "functions": functions,
        }

    # -- functions ----------------------------------------------------------------------------
    def _functions(self) -> Iterator[Function]:
        x = self.x
        if x.columns or x.column_loads:
            yield Function("columns", "const Tile& t", self._columns(), "What all rows share.")
        if not x.staged:
            lines = self._loads(x.stages[0]) + self._begin()
            yield Function("tile", "const Tile& t", self._body(lines, x.stages[0], self._end()))
            return
        for k, s in enumerate(x.stages):
            if s.before:
                lines = self._declared(s.before, [])
                yield Function(f"before{k}", "const Tile& t", self._counted(lines))
            if s.tiles:
                params = "const Tile& t, [[maybe_unused]] bool first"
                yield Function(f"stage{k}", params, self._body(self._loads(s), s, []))

    def _body(self, head: list[str], stage: Stage, tail: list[str]) -> list[str]:
        lines = list(head)
        if self.x.columns or self.x.column_loads:
            lines.append("if (t.col != columnsAt_ || t.cols != columnsOf_) columns(t);")
        lines += self._declared(stage.tiles, [r for _, r in (*stage.loads, *stage.accs)])
        return self._counted(lines + self._stores(stage) + tail)

    def _counted(self, lines: list[str]) -> list[str]:
        """With what the lines use: counts, and the indices of the first row."""
        text = "\n".join(lines)
        align = (lambda e: f"alignUp({e}, 128)") if self.x.bits else (lambda e: e)
        counts = {"n": "t.size()", "m": "t.rows()"}
        counts["w"] = "t.cols" if self.capacity.rows == 1 else "t.pitch"
        head = self.grid.index() if re.search(r"\bi0\b", text) else []
        head += [
            f"const int32_t {k} = static_cast<int32_t>({align(e)});"
            for k, e in counts.items()
            if re.search(rf"\b{k}\b", text)
        ]
        if re.search(r"\bwork\b", text):
            head.append("const LocalTensor<uint8_t> work = work_.Get<uint8_t>();")
        return [*head, *lines]

    def _declared(self, steps: Sequence[Step], loaded: Sequence[Reg]) -> list[str]:
        """Calls, with registers declared and queues served where they are first and last used."""
        uses = [{r.place.buffer for r in s.regs if r.place is not None} for s in steps]
        at = {b: [k for k, u in enumerate(uses) if b in u] for b in ("in", "out")}
        lines, known = [], set()
        if loaded:
            lines.append("LocalTensor<uint8_t> in = in_.DeQue<uint8_t>();")
        for k, s in enumerate(steps):
            if at["out"][:1] == [k]:
                lines.append("LocalTensor<uint8_t> out = out_.AllocTensor<uint8_t>();")
            for r in s.regs:
                if r not in known:
                    known.add(r)
                    lines.append(f"const {_tensor(r)} {r.name} = {_part(r)};")
            lines += s.render().split("\n")
            if loaded and at["in"][-1:] == [k]:
                lines.append("in_.FreeTensor(in);")
        if at["out"]:
            lines.append("out_.EnQue(out);")
        return lines

    # -- moves --------------------------------------------------------------------------------
    def _loads(self, stage: Stage) -> list[str]:
        g = self.grid
        if not (stage.loads or stage.accs):
            return []
        lines = ["{", "  LocalTensor<uint8_t> in = in_.AllocTensor<uint8_t>();"]
        for k, r in stage.accs:
            at = "((t.row - row_) * pitch_ + t.col - col_) * 4"
            lines.append(f"  load({_bytes(r)}, acc{k}_[{at}], t, 4, pitch_ * t.inner, pitch_);")
        for o, r in stage.loads:
            steps = f"{g.dim(o.outer)}, {g.dim(o.inner)}"
            head = f"({_bytes(r)}, a{o.index}_[{g.at(o)}], t, {o.size}, {steps}"
            if same(o.column, 1):
                lines.append(f"  load{head});")
            else:
                across = "true" if o.across else "false"
                slot = f"kSlot{o.size}" if o.across else "kBlock"
                lines.append(f"  loadApart<{across}>{head}, {g.dim(o.column)}, {slot});")
        return [*lines, "  in_.EnQue(in);", "}"]

    def _stores(self, stage: Stage) -> list[str]:
        g = self.grid
        if not stage.stores:
            return []
        lines = ["out = out_.DeQue<uint8_t>();"]
        for o, r in stage.stores:
            steps = f"{g.dim(o.outer)}, {g.dim(o.inner)}"
            lines.append(f"store(a{o.index}_[{g.at(o)}], {_bytes(r)}, t, {o.size}, {steps});")
        return [*lines, "out_.FreeTensor(out);"]

    def _stride(self, o: Operand) -> str:
        return "1" if not self.grid.rows else self.grid.dim(o.inner)

    def _begin(self) -> list[str]:
        """Values a row come in, and those that go out get their buffer."""
        lines = self.grid.index() if self.x.staged and len(self.grid.rows) > 1 else []
        if self.x.row_loads:
            lines.append("rowsIn_ = rowIn_.AllocTensor<uint8_t>();")
            for o, r in self.x.row_loads:
                at = f"a{o.index}_[{self.grid.at(o)}]"
                lines.append(f"loadLine({_bytes(r)}, {at}, t.rows(), {o.size}, {self._stride(o)});")
            lines += ["rowIn_.EnQue(rowsIn_);", "rowsIn_ = rowIn_.DeQue<uint8_t>();"]
        if self.x.row_stores:
            lines.append("rowsOut_ = rowOut_.AllocTensor<uint8_t>();")
        return lines

    def _end(self) -> list[str]:
        lines = []
        if self.x.row_loads:
            lines.append("rowIn_.FreeTensor(rowsIn_);")
        if self.x.row_stores:
            lines += ["rowOut_.EnQue(rowsOut_);", "rowsOut_ = rowOut_.DeQue<uint8_t>();"]
            for o, r in self.x.row_stores:
                at = f"a{o.index}_[{self.grid.at(o)}]"
                slot = max(32, 8 * o.size)
                lines.append(
                    f"storeLine({at}, {_bytes(r)}, t.rows(), {o.size}, {self._stride(o)}, {slot});"
                )
            lines.append("rowOut_.FreeTensor(rowsOut_);")
        return lines

    def _columns(self) -> list[str]:
        lines = []
        if self.x.column_loads:
            lines.append("order<HardEvent::V_MTE2>(*pipe_);")
            for o, r in self.x.column_loads:
                at = f"a{o.index}_[{self.grid.at(o)}]"
                stride = self.grid.dim(o.column)
                lines.append(f"loadLine({_bytes(r)}, {at}, t.cols, {o.size}, {stride});")
            lines.append("order<HardEvent::MTE2_V>(*pipe_);")
        lines += self._declared(self.x.columns, [])
        return self._counted([*lines, "columnsAt_ = t.col;", "columnsOf_ = t.cols;"])

    # -- what is filled once ------------------------------------------------------------------
    def _prepare(self) -> list[str]:
        x = self.x
        lines = []
        clear = [q for q in QUEUES if self.sizes[q]] if self._gaps() else []
        blocks = any(r.kind == "block" for s in self._steps() for r in s.regs)
        if self._gaps() and self.sizes["work"]:
            lines.append(
                f"op::fill(part<int32_t>(work, 0), int32_t(0), {self.sizes['work'] // 4});"
            )
        elif blocks:  # are made of 8 rows at a time
            clear = [q for q in ("rowIn", "rowOut") if self.sizes[q]]
            for s in self.memory.kept:
                if s.domain == ROW:
                    n = self.memory.size(s, self.capacity)
                    lines.append(
                        f"op::fill(part<int32_t>(work, {s.offset}), int32_t(0), {n // 4});"
                    )
        for q in clear:
            lines += [
                f"for (int k = 0; k < {self.capacity.buffers(q)}; ++k) {{",
                f"  LocalTensor<uint8_t> b = {q}_.AllocTensor<uint8_t>();",
                f"  op::fill(part<int32_t>(b, 0), int32_t(0), {self.sizes[q] // 4});",
                f"  {q}_.FreeTensor(b);",
                "}",
            ]
        for text, r in x.constants.items():
            lines.append(f"op::fill({_part(r)}, {text}, 64);")
        for (kind, step), r in x.tables.items():
            count = "kRows" if kind == ROW else "kColumns"
            lines.append(f"offsets({_part(r)}, {step}, {count});")
        if not lines:
            return []
        if any("(work" in line for line in lines):
            lines.insert(0, "const LocalTensor<uint8_t> work = work_.Get<uint8_t>();")
        return [*lines, "ready_ = true;"]

    def _gaps(self) -> bool:
        """Whether calls on whole tiles read elements that no load wrote."""
        if self.x.bits or self.x.clean:
            return True
        if self.capacity.rows == 1:
            return False
        operands = [o for o in self.grid.inputs if o.kind in (TILE, COLUMN)]
        sizes = [o.size for o in operands] + [4 for _ in self.grid.accs]
        c = self.grid.columns
        whole = isinstance(c, int) and c % self.unit == 0
        return not whole and any(s * self.unit > 32 for s in sizes)

    def _steps(self) -> list[Step]:
        return [*self.x.columns, *(s for st in self.x.stages for s in (*st.before, *st.tiles))]


def _ctype(r: Reg) -> str:
    return "uint8_t" if r.ctype == "bits" else r.ctype


def _tensor(r: Reg) -> str:
    return f"LocalTensor<{_ctype(r)}>"


def _part(r: Reg) -> str:
    assert r.place is not None
    return f"part<{_ctype(r)}>({TENSOR[r.place.buffer]}, {r.place.offset})"


def _bytes(r: Reg) -> str:
    assert r.place is not None
    return f"{TENSOR[r.place.buffer]}[{r.place.offset}]"
