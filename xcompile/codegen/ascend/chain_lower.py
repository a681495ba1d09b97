"""The nodes of a fused group -> vector calls, on demand, from the outputs and reductions back."""

from __future__ import annotations

import torch

from xcompile.codegen.ascend.chain_nodes import cast_source, lower, store
from xcompile.codegen.ascend.chain_space import COLUMN, ROW, TILE, Grid, Operand
from xcompile.codegen.ascend.chain_steps import (
    BLOCK,
    COUNT,
    NARROW,
    Item,
    Reg,
    Scalar,
    Slot,
    Stage,
    Step,
    cast_text,
    conversion,
    names,
    number,
)
from xcompile.codegen.ascend.instructions import register
from xcompile.ir import Value
from xcompile.symbolic import same


class Lowering:
    """`staged`: rows do not fit UB, so each level of reductions is a pass over the columns of its
    own, which reads and computes again what it needs."""

    def __init__(self, grid: Grid, staged: bool) -> None:
        self.grid, self.staged = grid, staged
        self.made = grid.body.producers()
        self.operand = {o.value: o for o in grid.inputs}
        self.stages = [Stage()]
        self.columns: list[Step] = []  # when the columns of the tile change
        self.column_loads: list[tuple[Operand, Reg]] = []
        self.row_loads: list[tuple[Operand, Reg]] = []
        self.row_stores: list[tuple[Operand, Reg]] = []
        self.constants: dict[str, Reg] = {}  # text -> 64 equal elements
        self.tables: dict[tuple[str, str], Reg] = {}  # (kind, step in bytes) -> offsets
        self.headers = {"tile_reduce.h" if grid.reduces else "tile_ops.h"}
        self.bits = False
        self.clean = False  # reads elements that no load wrote
        self._count = 0
        self._kept: dict[tuple, Reg] = {}  # of rows and columns
        self._local: dict[tuple, Reg] = {}  # of this stage's tiles
        self._levels: dict[Value, int] = {}
        self.placed: dict[Operand, Reg] = {}  # results, in what is stored
        self.run()

    # -- driving ------------------------------------------------------------------------------
    def run(self) -> None:
        nodes = self.grid.body.nodes
        last = 0
        if self.staged:
            for n in nodes:
                base = max([self.level(v) for v in n.inputs] or [0])
                self._levels[n.out] = base + n.op.reduces
            last = max(self._levels.values(), default=0)
        for k in range(last + 1):
            if k:
                self.stages.append(Stage())
                self._local = {}
            for n in nodes:
                if n.op.reduces and self.level(n.inputs[0]) == k:
                    self.reg(n.out)
                for o in self.outputs_of(n.out):
                    if self.level(n.out) == k:
                        store(self, o)

    def level(self, v: Value) -> int:
        return self._levels.get(v, 0)

    def outputs_of(self, v: Value) -> list[Operand]:
        return [o for o in self.grid.outputs if o.value is v]

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    # -- registers and calls ------------------------------------------------------------------
    def new(
        self, kind: str, ctype: str, home: Operand | None = None, width: int | None = None
    ) -> Reg:
        """A register; in the buffer of `home`, a result that it is."""
        reg = self.at(kind, ctype, self.result(home) if home else None)
        reg.width = width
        if home:
            self.placed[home] = reg
        return reg

    def at(self, kind: str, ctype: str, place: Slot | None) -> Reg:
        self._count += 1
        self.bits |= ctype == "bits"
        return Reg(kind, ctype, f"r{self._count - 1}", place)

    def emit(self, step: Step) -> Reg:
        if step.dst.kind == COLUMN:
            self.columns.append(step)
        elif self.staged and step.dst.kind in (ROW, BLOCK):
            self.stage.before.append(step)
        else:
            self.stage.tiles.append(step)
        return step.dst

    def call(
        self,
        dst: Reg,
        name: str,
        *args: Reg | str,
        temps: tuple[Reg, ...] = (),
        tail: str | None = None,
        alias: bool = True,
    ) -> Reg:
        """dst = name(dst, args, temps, count)"""
        text, sources = names([*args, *temps])
        sources = sources[: len(sources) - len(temps)]
        count = COUNT[dst.kind] if tail is None else tail
        whole = [r for r in sources if r.kind in (TILE, COLUMN)]
        pair = tuple(whole) if len(whole) > 1 else ()
        call = f"{name}({{0}}, {text}, {count});" if text else f"{name}({{0}}, {count});"
        return self.emit(Step(call, dst, sources, temps, alias, pair))

    def memo(self, key: tuple, kind: str) -> dict[tuple, Reg]:
        return self._local if kind in (TILE, BLOCK) else self._kept

    def remember(self, key: tuple, reg: Reg) -> Reg:
        self.memo(key, reg.kind)[key] = reg
        return reg

    def known(self, key: tuple) -> Reg | None:
        return self._local.get(key) or self._kept.get(key)

    def home(self, v: Value, ctype: str, kind: str) -> Operand | None:
        """The result that a register of v is, if it is stored as it is."""
        v = self.root(v)
        for o in self.grid.outputs:
            fits = o.ctype == ctype and o.kind == kind and (kind == TILE or self.unit(o))
            now = self.level(o.value) == len(self.stages) - 1
            if fits and now and o not in self.placed and self.root(o.value) is v:
                return o
        return None

    def result(self, o: Operand) -> Slot:
        return Slot("out" if o.kind == TILE else "rowOut", o.kind, o.size)

    # -- values -------------------------------------------------------------------------------
    def root(self, v: Value) -> Value:
        """v without the copies that made it."""
        n = self.made.get(v)
        while n is not None and (
            n.op.name == "copy" or (n.op.name == "cast" and n.inputs[0].dtype == v.dtype)
        ):
            v = n.inputs[0]
            n = self.made.get(v)
        return v

    def loaded(self, v: Value) -> bool:
        return v in self.operand

    def scalar(self, v: Value) -> Scalar | None:
        n = self.made.get(self.root(v))
        if n is None:
            return None
        if n.op.name == "full":
            return Scalar(n.attrs["value"], n.out.dtype)
        if n.op.name == "cast":
            x = self.scalar(n.inputs[0])
            to = n.out.dtype
            if x is None or isinstance(x.value, bool) or not isinstance(x.value, int | float):
                return Scalar(x.value, to) if x is not None else None
            return Scalar(bool(x.value) if to == torch.bool else x.value, to)
        return None

    def item(self, v: Value) -> Item:
        return self.scalar(v) or self.reg(v)

    def reg(self, v: Value) -> Reg:
        """v in the type that it is computed in."""
        v = self.root(v)
        found = self.known((v, "wide"))
        if found is not None:
            return found
        number = self.scalar(v)
        if number is not None:
            made = self.filled(number, ROW, register(v.dtype))
        elif v in self.made:
            made = lower(self, self.made[v])
        elif v in self.grid.accs:
            made = self.at(TILE, "float", Slot("in", TILE, 4))
            self.stage.accs.append((self.grid.accs.index(v), made))
        else:
            made = self.convert(self.load(v), register(v.dtype))
        return self.remember((v, "wide"), made)

    def load(self, v: Value) -> Reg:
        """v as it lies in memory."""
        found = self.known((v, "store"))
        if found is not None:
            return found
        o = self.operand[v]
        loads = {TILE: self.stage.loads, ROW: self.row_loads, COLUMN: self.column_loads}[o.kind]
        buffer = {TILE: "in", ROW: "rowIn", COLUMN: "work"}[o.kind]
        if self.unit(o):
            made = self.at(o.kind, o.ctype, Slot(buffer, o.kind, o.size))
            loads.append((o, made))
            return self.remember((v, "store"), made)
        ctype = {8: "int32_t", 1: "int16_t"}.get(o.size, o.ctype)
        across = o.kind == TILE and o.across
        domain = "across" if across else f"{o.kind} apart"
        line = self.at(o.kind, ctype, Slot(buffer, domain, o.size))
        loads.append((o, line))
        self.clean = True
        made = self.new(o.kind, ctype)
        if o.kind == TILE:
            step = f"kSlot{o.size}" if across else "kBlock"
            name = f"pickRows<{'true' if across else 'false'}>"
            table = self.table(COLUMN, step)
            self.call(made, name, line, table, tail=f"t, {o.size}, {step}", alias=False)
        else:
            step = "0" if o.kind == ROW and same(o.inner, 0) else "kBlock"
            self.call(made, "pick", line, self.table(o.kind, step), alias=False)
        return self.remember((v, "store"), made)

    def unit(self, o: Operand) -> bool:
        """Whether what a tile takes of it lies side by side."""
        if o.kind == ROW:
            return not self.grid.rows or same(o.inner, 1)
        return same(o.column, 1)

    def table(self, kind: str, step: str) -> Reg:
        """Offsets 0, step, 2 step, ..."""
        if (kind, step) not in self.tables:
            self.tables[kind, step] = self.at(kind, "int32_t", Slot("work", kind, 4))
        return self.tables[kind, step]

    # -- conversions --------------------------------------------------------------------------
    def convert(self, reg: Reg, to: str) -> Reg:
        if reg.ctype == to:
            return reg
        key = (reg, to)
        found = self.known(key)
        if found is not None:
            return found
        return self.remember(key, self._convert(reg, to))

    def _convert(self, reg: Reg, to: str) -> Reg:
        kind = reg.kind
        if reg.ctype == "bits":
            if to in ("float", "half", "int32_t"):
                return self.call(self.new(kind, to), "op::number", reg, alias=False)
            return self.convert(self.convert(reg, "half"), to)
        if to == "bits":
            if reg.ctype in ("float", "half"):
                zero = "half(0.0f)" if reg.ctype == "half" else "0.0f"
                text = f"Compares({{0}}, {{1}}, {zero}, CMPMODE::NE, {COUNT[kind]});"
                return self.emit(Step(text, self.new(kind, "bits"), (reg,)))
            if reg.ctype == "int32_t":
                return self.call(self.new(kind, "bits"), "op::ne", reg, "int32_t(0)", alias=False)
            return self.convert(self.convert(reg, "half"), "bits")
        for step in conversion(reg.ctype, to):
            dst = self.new(kind, step)
            reg = self.emit(Step(cast_text(reg.ctype, step, COUNT[kind]), dst, (reg,)))
        return reg

    def narrow(self, v: Value) -> Reg:
        """A 16-bit float as it is stored."""
        v = self.root(v)
        found = self.known((v, "store"))
        if found is not None:
            return found
        if self.loaded(v):
            return self.load(v)
        n = self.made.get(v)
        wide = cast_source(self, n) if n and n.op.name == "cast" else self.reg(v)
        ctype = NARROW[v.dtype]
        dst = self.new(wide.kind, ctype, self.home(v, ctype, wide.kind))
        self.emit(Step(cast_text("float", ctype, COUNT[wide.kind]), dst, (wide,)))
        return self.remember((v, "store"), dst)

    def exact(self, v: Value) -> bool:
        """Whether the register of a 16-bit value holds what its memory would."""
        v = self.root(v)
        return self.loaded(v) or (v in self.made and self.made[v].op.name == "cast")

    def in_class(self, x: Item, ctype: str) -> Item:
        return x if isinstance(x, Scalar) else self.convert(x, ctype)

    def text(self, x: Scalar, ctype: str) -> str:
        symbolic = not isinstance(x.value, int | float)
        return number(x, ctype, self.grid.dim(x.value) if symbolic else None)

    def filled(self, x: Item, kind: str, ctype: str) -> Reg:
        """x over a whole tile, row or column."""
        if isinstance(x, Reg):
            return self.spread(x) if kind == TILE else x
        text = self.text(x, ctype if ctype != "bits" else "int32_t")
        key = ("fill", text, kind, ctype)
        found = self.known(key)
        if found is not None:
            return found
        made = self.call(self.new(kind, "int32_t" if ctype == "bits" else ctype), "op::fill", text)
        return self.remember(key, self.convert(made, ctype))

    def constant(self, text: str) -> Reg:
        if text not in self.constants:
            self.constants[text] = self.at("constant", "float", Slot("work", "constant", 256))
        return self.constants[text]

    # -- values a row, rows of elements -> tiles ----------------------------------------------
    def block(self, reg: Reg) -> Reg:
        found = self.known((reg, "block"))
        if found is not None:
            return found
        made = self.new(BLOCK, reg.ctype)
        self.call(made, "blocks", reg, tail="t.rows()", alias=False)
        return self.remember((reg, "block"), made)

    def spread(self, reg: Reg, home: Operand | None = None) -> Reg:
        if reg.kind == TILE:
            return reg
        found = self.known((reg, "spread"))
        if found is not None and home is None:
            return found
        if reg.ctype == "bits":
            return self.convert(self.spread(self.convert(reg, "float")), "bits")
        dst = self.new(TILE, reg.ctype, home)
        if reg.kind == ROW:
            self.call(dst, "spreadRows", self.block(reg), tail="t", alias=False)
        else:
            self.call(dst, "spreadColumns", reg, tail="t", alias=False)
        return self.remember((reg, "spread"), dst)
