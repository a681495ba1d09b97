"""Fused loop kernels: one pass over rows, in phases separated by row reductions."""

from __future__ import annotations

from dataclasses import dataclass, field

from xcompile.codegen.expr import expression, load, register, store
from xcompile.ir import Graph, Node, Value
from xcompile.symbolic import Dim, c_expr, same, simplify

CHEAP = {"cast", "add", "sub", "mul", "neg", "square", "copy", "full", "iota", "where",
         "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"}  # fmt: skip


@dataclass
class Space:
    """Row dims and columns after collapsing what every operand walks alike."""

    rows: list[Dim]
    columns: Dim
    # operand (or ramp node) -> one stride per row dim, then the column's
    strides: dict[Value | Node, tuple[Dim, ...]]
    flat: bool  # no rows: columns are split over threads


@dataclass
class Phase:
    """Code of one column loop, with what is computed per row before it."""

    row: list[str] = field(default_factory=list)
    hoisted: list[str] = field(default_factory=list)
    loop: list[str] = field(default_factory=list)
    reductions: list[tuple[str, str]] = field(default_factory=list)  # (operator, variable)

    @property
    def pragma(self) -> str:
        clauses = " ".join(f"reduction({op}:{name})" for op, name in self.reductions)
        return f"#pragma omp simd {clauses}".rstrip()


def iteration_space(body: Graph) -> tuple[Dim, ...]:
    """The widest shape in a body: every other value broadcasts to it in the last dim."""
    shapes = [v.shape for n in body.nodes for v in (*n.outputs, *n.inputs)]
    wide: tuple[Dim, ...] = max(shapes, key=len)
    for s in shapes:
        if len(s) == len(wide):
            wide = tuple(b if same(a, 1) else a for a, b in zip(wide, s, strict=True))
    return wide


def padded(strides: tuple[Dim, ...], shape: tuple[Dim, ...], rank: int) -> tuple[Dim, ...]:
    """Strides in a space of `rank` dims: broadcast dims step by zero."""
    own = tuple(0 if same(n, 1) else s for n, s in zip(shape, strides, strict=True))
    return (0,) * (rank - len(own)) + own


def make_space(
    body: Graph, operands: list[tuple[Value | Node, tuple[Dim, ...]]], reduces: bool
) -> Space:
    """Collapse the iteration space. `operands` are (value or ramp node, element strides)."""
    shape = iteration_space(body) or (1,)
    rank = len(shape)
    table = {
        v: list(padded(s, v.out.shape if isinstance(v, Node) else v.shape, rank))
        for v, s in operands
    }
    dims = list(shape)
    keep_last = reduces or any(
        not same(v.shape[-1] if v.shape else 1, shape[-1])
        for n in body.nodes
        for v in n.outputs
        if v.type.rank == rank
    )
    k = rank - 1
    while k > 0:
        merge_into_last = k == len(dims) - 1
        mergeable = not (merge_into_last and keep_last) and all(
            same(s[k - 1], simplify(s[k] * dims[k])) for s in table.values()
        )
        drop = same(dims[k - 1], 1) and not (merge_into_last and keep_last)
        if mergeable or drop:
            dims[k - 1 : k + 1] = [simplify(dims[k - 1] * dims[k])]
            for s in table.values():
                del s[k - 1]
        elif same(dims[k - 1], 1):
            del dims[k - 1]
            for s in table.values():
                del s[k - 1]
        k -= 1
    if not dims:
        return Space([], 1, dict.fromkeys(table, (0,)), True)
    rows = dims[:-1]
    return Space(rows, dims[-1], {v: tuple(s) for v, s in table.items()}, not rows and not reduces)


class LoopEmitter:
    """Emits the phases of one loop group."""

    def __init__(self, body: Graph, space: Space) -> None:
        self.body = body
        self.space = space
        self.shape = iteration_space(body)
        self.computed: set[Value] = set()
        self.level: dict[Value, int] = {}
        self.made = body.producers()
        self.saved: dict[Value, str] = {}
        self.emitted: list[set[Value]] = []
        self.prologue: list[str] = []  # operands that are constant along a row
        self._declared: set[Value] = set()

    # Values of size 1 in the last dim (when the space is wider) live once per row.
    def _is_row(self, v: Value) -> bool:
        return v.type.rank == 0 or (same(v.shape[-1], 1) and not same(self.shape[-1], 1))

    def emit(self) -> tuple[list[Phase], int]:
        """Phases and the number of row buffers they need."""
        self._levels()
        count = 1 + max([self.level[n.out] for n in self.body.nodes] or [0])
        reductions = [n for n in self.body.nodes if n.op.reduces]
        last_level = max(
            [self.level[v] for v in self.body.outputs if not self._is_row(v)]
            + [self.level[n.inputs[0]] for n in reductions]
            + [0]
        )
        phases = [Phase() for _ in range(max(count, last_level + 1))]
        self.emitted = [set() for _ in phases]
        for n in self.body.nodes:  # row values first appear in the phase of their level
            if self._is_row(n.out) and not n.op.reduces:
                self._row_value(n, phases)
        for n in reductions:
            self._reduce(n, phases)
        for k, v in enumerate(self.body.outputs):
            self._output(k, v, phases)
        return phases, len(self.saved)

    def _levels(self) -> None:
        for v in self.body.inputs:
            self.level[v] = 0
        for n in self.body.nodes:
            base = max([self.level[v] for v in n.inputs] or [0])
            for v in n.outputs:
                self.level[v] = base + n.op.reduces
        names = {v: f"x{k}" for k, v in enumerate(self.body.inputs)}
        for k, n in enumerate(self.body.nodes):
            names[n.out] = f"v{k}"
            self.computed.add(n.out)
        self.label = names

    def _row_value(self, n: Node, phases: list[Phase]) -> None:
        for v in n.inputs:
            self._constant(v)
        text = self._iota(n, None) if n.op.name == "iota" else self._expr(n, self.label)
        line = f"const {register(n.out.dtype)} {self.label[n.out]} = {text};"
        phases[self.level[n.out]].row.append(line)

    def _constant(self, v: Value) -> None:
        """Load an operand that does not change along a row."""
        if v in self.made or v in self._declared:
            return
        self._declared.add(v)
        text = load(f"{self.label[v]}_[0]", v.dtype)
        self.prologue.append(f"const {register(v.dtype)} {self.label[v]} = {text};")

    def _expr(self, n: Node, names: dict[Value, str]) -> str:
        return expression(n, names, self.computed)

    def _iota(self, n: Node, column: str | None) -> str:
        """A ramp: along the columns, or along a row dim (then a virtual operand holds it)."""
        name = f"{self.label[n.out]}_"
        step = self.space.strides[n][-1]
        text = name if column is None or step == 0 else f"({name} + {column} * {c_expr(step)})"
        reg = register(n.out.dtype)
        return text if reg == "i64" else f"{reg}({text})"

    # -- column values --------------------------------------------------------------------
    def _column(self, v: Value, phase: int, phases: list[Phase]) -> str:
        """Name of v inside the column loop of a phase, emitting what it needs."""
        label = self.label[v]
        if v in self.emitted[phase]:
            return label
        if self._is_row(v) and v in self.made:
            return label  # computed per row, or a reduction's result
        p = phases[phase]
        if v not in self.made:
            self.emitted[phase].add(v)
            step = self.space.strides[v][-1]
            if step == 0:
                self._constant(v)
            else:
                at = "j" if step == 1 else f"j * {c_expr(step)}"
                text = load(f"{label}_[{at}]", v.dtype)
                p.loop.append(f"const {register(v.dtype)} {label} = {text};")
            return label
        n = self.made[v]
        home = self.level[v]
        self.emitted[phase].add(v)
        if home < phase and not self._cheap(v):
            self._column(v, home, phases)
            if v not in self.saved:
                self.saved[v] = f"row{len(self.saved)}"
                phases[home].loop.append(f"{self.saved[v]}[j] = {label};")
            p.loop.append(f"const {register(v.dtype)} {label} = {self.saved[v]}[j];")
            return label
        names = {x: self._column(x, phase, phases) for x in n.inputs}
        text = self._iota(n, "j") if n.op.name == "iota" else self._expr(n, names)
        p.loop.append(f"const {register(v.dtype)} {label} = {text};")
        return label

    def _cheap(self, v: Value) -> bool:
        n = self.made.get(v)
        if n is None or self._is_row(v):
            return True
        if register(v.dtype) != "float":
            return True  # row buffers hold floats
        return n.op.name in CHEAP and all(self._cheap(x) for x in n.inputs)

    def _reduce(self, n: Node, phases: list[Phase]) -> None:
        v = n.inputs[0]
        k = self.level[v]
        reg, label = register(n.out.dtype), self.label[n.out]
        real = reg in ("float", "double")
        limit = "INFINITY" if real else f"std::numeric_limits<{reg}>::max()"
        low = "-INFINITY" if real else f"std::numeric_limits<{reg}>::lowest()"
        start = {"sum": "0", "amax": low, "amin": limit}[n.op.name]
        operator = {"sum": "+", "amax": "max", "amin": "min"}[n.op.name]
        name = self.label[v] if self._is_row(v) and v in self.made else self._column(v, k, phases)
        p = phases[k]
        p.hoisted.append(f"{reg} {label} = {start};")
        p.reductions.append((operator, label))
        joined = {
            "sum": f"{label} += {name};",
            "amax": f"{label} = {label} > {name} ? {label} : {name};",
            "amin": f"{label} = {label} < {name} ? {label} : {name};",
        }[n.op.name]
        p.loop.append(joined)
        if real and n.op.name != "sum":  # a comparison loses NaN
            p.hoisted.append(f"int {label}_nan = 0;")
            p.reductions.append(("|", f"{label}_nan"))
            p.loop.append(f"{label}_nan |= {name} != {name};")
            phases[k + 1].row.insert(0, f"if ({label}_nan) {label} = NAN;")

    def _output(self, k: int, v: Value, phases: list[Phase]) -> None:
        level = self.level[v]
        if self._is_row(v):
            while len(phases) <= level:
                phases.append(Phase())
                self.emitted.append(set())
            self._constant(v)
            phases[level].row.append(store(f"y{k}_[0]", self.label[v], v.dtype))
            return
        name = self._column(v, level, phases)
        step = self.space.strides[v][-1] if v in self.space.strides else 1
        at = "j" if step == 1 else f"j * {c_expr(step)}"
        phases[level].loop.append(store(f"y{k}_[{at}]", name, v.dtype))


def row_indices(rows: list[Dim]) -> list[str]:
    """Statements that split the row number r into i0, i1, ... (outermost first)."""
    if len(rows) == 1:
        return ["const i64 i0 = r;"]
    lines = ["i64 q = r;"]
    for k in reversed(range(1, len(rows))):
        d = c_expr(rows[k])
        lines.append(f"const i64 i{k} = q % {d}; q /= {d};")
    return [*lines, "const i64 i0 = q;"] if rows else []
