"""Linears with constant weights, and what is fused behind them, as cube or mix phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcompile.codegen.ascend.builder import STORAGE
from xcompile.codegen.render import render
from xcompile.errors import UnsupportedError
from xcompile.ir import Graph, Node
from xcompile.layout import collapse, row_stride
from xcompile.ops.matmul import LINEAR
from xcompile.plan import Packed, Source
from xcompile.symbolic import Dim, c_expr, evaluate, product, same
from xcompile.targets.ascend import CHIPS
from xcompile.targets.ascend_tiling import MAX_SLOTS, Choice, Product, search

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase

CORES = max(c.aic for c in CHIPS.values())  # that any device has
WIDEST = (1, 8192)  # rows that tiles are chosen for, unless the graph has other bounds


def build(b: AscendBuilder, n: Node) -> Phase:
    body = n.body
    linears = [m for m in body.nodes if m.op is LINEAR] if body is not None else [n]
    outer = dict(zip(body.inputs, n.inputs, strict=True)) if body is not None else {}
    x, w = (outer.get(v, v) for v in linears[0].inputs)
    weights = [outer.get(m.inputs[1], m.inputs[1]) for m in linears]
    if any(v not in b.graph.consts for v in weights):
        raise UnsupportedError(f"linear with a weight that is not a constant ({n.origin})")
    lda = row_stride(x.shape, b.layouts[x].strides)
    rows = product(x.shape[:-1])
    assert lda is not None
    gated = len(linears) == 2
    what = Product(
        int(w.shape[0]), int(w.shape[1]), w.dtype.itemsize, gated, fused=body is not None
    )
    choice = tiles(b, rows, what)
    packed = Packed(f"nz{choice.panel}{'_gated' if gated else ''}", tuple(weights))
    context = {
        "ctype": STORAGE[x.dtype],
        "panel": choice.panel,
        "tiling": choice.c("rows_"),
        "N": c_expr(w.shape[0]),
        "K": c_expr(w.shape[1]),
        "lda": c_expr(lda),
        "stream": stream(b),
    }
    folder = b.target.template_path
    if body is None:
        context |= _result(n, b.layouts[n.out].strides, lda)
        text = render(folder, "linear.j2", **context)
        return b.phase("linear", "cube", n, [x, packed, n.out], text, ["gemm.h"])

    from xcompile.codegen.ascend.chain import chain_class

    made = chain_class(
        b, n, body, "@NAME@_epilogue", accs=[m.out for m in linears], max_cols=choice.columns
    )
    ring = CORES * MAX_SLOTS * choice.sums * 4
    args: list[Source] = [x, packed, *made.args, ring]
    text = render(
        folder,
        "linear_fused.j2",
        M=c_expr(rows),
        gated=gated,
        sums=choice.sums,
        chain=[f"a{k}" for k in range(2, len(args) - 1)],
        ring=f"a{len(args) - 1}",
        **context,
    )
    return b.phase("linear", "mix", n, args, text, ["gemm.h", *made.includes], made.source)


def _result(n: Node, strides: tuple[Dim, ...], lda: Dim) -> dict[str, str | int]:
    """How the rows of a result lie, which may be two dims that do not collapse."""
    sizes, steps = collapse(n.out.shape[:-1], strides[:-1])
    if len(sizes) > 2 or not (same(strides[-1], 1) or same(n.out.shape[-1], 1)):
        raise UnsupportedError(
            f"linear into {n.out.type} with strides {strides} (at {n.origin or 'the graph'})"
        )
    *count, rows = sizes or [1]
    *step, ldc = steps or [n.out.shape[-1]]
    return {
        "count": c_expr(count[0]) if count else "1",
        "x_step": c_expr(rows * lda) if count else "0",
        "y_step": c_expr(step[0]) if count else "0",
        "panels": "0",
        "M": c_expr(rows),
        "ldc": c_expr(ldc),
    }


def tiles(b: AscendBuilder, rows: Dim, what: Product) -> Choice:
    """What the tiling search finds for a weight, for the rows that the symbols allow."""
    return search(b.target.chip, what, *bounds(b.graph, rows))


def stream(b: AscendBuilder) -> str:
    """Whether L2 holds less than all constants of a step, as C++."""
    total = sum(evaluate(v.type.nbytes, {}) for v in b.graph.consts)
    return "true" if total > b.target.chip.l2 else "false"


def bounds(graph: Graph, rows: Dim) -> tuple[int, int]:
    """Least and most rows. Dims grow with their symbols."""

    def at(end: str) -> int:
        return evaluate(rows, {s: getattr(r, end) for s, r in graph.symbols.items()})

    if isinstance(rows, int):
        return max(1, rows), max(1, rows)
    lo, hi = max(WIDEST[0], at("lo")), min(WIDEST[1], at("hi"))
    return min(lo, hi), hi
