"""Fused pointwise ops and row reductions on the vector cores.

A group becomes a C++ struct: `init` takes its pointers and allocates UB, `run` computes a range of
rows and columns, tile by tile, with two buffers for what moves. A tile is as many rows as fit;
rows that do not fit are cut into columns or, where they are reduced, walked once for each level of
reductions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xcompile.codegen.ascend.chain_emit import Emitter
from xcompile.codegen.ascend.chain_lower import Lowering
from xcompile.codegen.ascend.chain_memory import Capacity, Memory, up
from xcompile.codegen.ascend.chain_space import COLUMN, ROW, TILE, Grid
from xcompile.codegen.ascend.chain_steps import BLOCK
from xcompile.codegen.render import render
from xcompile.errors import XCompileError
from xcompile.ir import Graph, Node, Value
from xcompile.symbolic import evaluate

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase

MOST_ROWS = 4095  # of one transfer
STEP = 256  # columns of a cut row are a multiple of it


@dataclass(frozen=True)
class ChainClass:
    """A group's struct. `args` are the values behind init's pointers, in order."""

    name: str
    source: str
    args: list[Value]
    includes: tuple[str, ...]


def build(b: AscendBuilder, n: Node) -> Phase:
    """A phase for a group without a linear."""
    assert n.body is not None
    grid = Grid(b, n, n.body)
    made = _class(b, n, grid, "@NAME@_chain", b.target.chip.ub, None)
    grain = grid.dim(grid.rows[-1]) if grid.runs and isinstance(grid.rows[-1], int) else "16"
    columns = "false" if grid.reduces or grid.columns == 1 else "true"
    pointers = "".join(f", a{k}" for k in range(len(made.args)))
    text = (
        f"  {made.name} chain;\n"
        f"  chain.init(pipe, s{pointers});\n"
        f"  deal(chain, team, chain.rows(), chain.columns(), {grain}, {columns}, {STEP});\n"
    )
    return b.phase("chain", "vector", n, made.args, text, made.includes, made.source)


chain = build


def chain_class(
    b: AscendBuilder,
    n: Node,
    body: Graph,
    name: str,
    *,
    accs: Sequence[Value] = (),
    ub: int = 184 * 1024 - 512,
    max_cols: int | None = None,
) -> ChainClass:
    """The struct of a group.

    accs      body values that `run` gets as float tiles in global memory; then the space keeps the
              rows and columns of the first of them
    ub        bytes of UB that it may take
    max_cols  most columns of a call of `run`
    """
    return _class(b, n, Grid(b, n, body, accs), name, ub, max_cols)


def _class(
    b: AscendBuilder, n: Node, grid: Grid, name: str, ub: int, max_cols: int | None
) -> ChainClass:
    sizes = [o.size for o in (*grid.inputs, *grid.outputs) if o.kind in (TILE, COLUMN)]
    unit = 32 // min(*sizes, 4) if sizes else 8
    most = _most(b, grid)
    if max_cols is not None:
        most = min(most or max_cols, max_cols)
    found = None
    if grid.reduces and most is not None:
        x = Lowering(grid, staged=False)
        memory = Memory(x)
        found = _whole_rows(memory, most, unit, ub)
        if found is None and any(len(g) for g in (grid.accs,)):
            raise _too_large(n, ub)
    if found is None:
        x = Lowering(grid, staged=grid.reduces)
        memory = Memory(x)
        if most is not None and not grid.reduces:
            found = _whole_rows(memory, most, unit, ub)
        if found is None:
            found = _parts(memory, most, unit, ub)
    if found is None:
        raise _too_large(n, ub)
    emitter = Emitter(grid, x, memory, found, unit, ub)
    source = render(b.target.template_path, "chain.j2", **emitter.context(name))
    return ChainClass(name, source, grid.args, tuple(sorted({"math.h", *x.headers})))


def _too_large(n: Node, ub: int) -> XCompileError:
    return XCompileError(
        f"{n.origin or 'a fused group'}: {len(n.body.nodes) if n.body else 1} fused ops need more "
        f"than {ub} bytes of UB for the least tile; split the expression"
    )


def _most(b: AscendBuilder, grid: Grid) -> int | None:
    """The most columns there can be, if that is known. Dims grow with their symbols."""
    if isinstance(grid.columns, int):
        return grid.columns
    top = {s: r.hi for s, r in b.graph.symbols.items()}
    if any(top[s.name] >= 1 << 20 for s in grid.columns.free_symbols):
        return None
    return evaluate(grid.columns, top)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest k in [1, most] that fits, 0 if none does; fits is monotone."""
    if most < 1 or not fits(1):
        return 0
    low, high = 1, most
    while low < high:
        mid = (low + high + 1) // 2
        low, high = (mid, high) if fits(mid) else (low, mid - 1)
    return low


def _whole_rows(memory: Memory, columns: int, unit: int, ub: int) -> Capacity | None:
    """As many whole rows as fit."""
    pitch = up(columns, unit)
    for ins, outs in ((2, 2), (2, 1), (1, 1)):

        def make(r: int, ins: int = ins, outs: int = outs) -> Capacity:
            return Capacity(r * pitch, r, pitch, ins, outs)

        most = MOST_ROWS if memory.x.grid.rows else 1
        rows = _largest(lambda r, f=make: memory.total(f(r)) <= ub, most)  # type: ignore[misc]
        if rows:
            return make(rows)
    return None


def _parts(memory: Memory, columns: int | None, unit: int, ub: int) -> Capacity | None:
    """Parts of rows; rows, where they turn out short."""
    x = memory.x
    kinds = {r.kind for r in memory._regs()}

    def make(k: int) -> Capacity:
        elements = k * STEP
        cols = up(min(elements, 2048), unit) if COLUMN in kinds else elements
        rows = min(elements // unit, 256 if kinds & {ROW, BLOCK} else MOST_ROWS)
        if columns is not None:
            cols = min(cols, up(columns, unit))
            rows = min(rows, elements // min(cols, up(columns, unit)))
        return Capacity(elements, rows if x.grid.rows else 1, cols)

    k = _largest(lambda k: memory.total(make(k)) <= ub, 1024)
    return make(k) if k else None
