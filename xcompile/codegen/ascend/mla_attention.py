"""MLA that chooses each request's form, as one mix phase: tiles, panels, the rule, workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy
import torch

from xcompile.codegen.ascend.attention import choose, up, workspace_bytes
from xcompile.codegen.ascend.linear import WIDEST, bounds, stream
from xcompile.errors import UnsupportedError
from xcompile.ir import Node
from xcompile.symbolic import Dim, c_expr, product
from xcompile.targets.ascend_tiling import Choice, Product, search

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase

ROOM = 64 << 20  # bytes that one step hands the next, at most: a third of L2
FEWEST = 16  # new tokens of a request that is expanded: rows that the cube multiplies at once
SOFTMAX = 0.2  # cycles of a cube core (two vector cores) a score
STEP = 220_000  # cycles of all cores: weights once more, their first and last tiles, meeting twice
FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def rule(
    rank: int, rope: int, nope: int, v: int, heads: int, size: int, wide: bool
) -> tuple[int, int, int, int]:
    """MlaRule without `most`: new tokens at least; what expanding saves for a query and a key, what
    it costs for an earlier key, and what for a step that also absorbs requests.

    In cycles of a cube core and a head, times 1000, fitted to what benchmarks/mla_forms_ascend.py
    prints: multiplications at the cube's rate and a factor each, and scores by the vector cores.
    wide: attention over latents takes 128 rows at once.
    """
    rate = 4096 if size == 2 else 1024
    absorbed = (2 * rank + rope) / rate * ((1.5 if wide else 2.1) if size == 2 else 1.7)
    expanded = (nope + rope + v) / rate * 2.4
    extra = rank * (nope + v) / rate * (1.15 if size == 2 else 0.95)
    saved = max(absorbed, SOFTMAX) - max(expanded, SOFTMAX)
    return FEWEST, int(1000 * saved), int(1000 * extra), 1000 * STEP // heads


def room_bytes(row: int, key: int, heads: int, tokens: Dim, keys: Dim) -> Dim:
    """Bytes of the workspace behind attention's. row: of an absorbed token; key: of an expanded
    key and a head; keys: most of all requests. One token, and one key of a head, always fit."""
    wanted = sympy.Max(row * tokens, key * heads * keys)
    return sympy.Max(sympy.Min(wanted, ROOM), row, key)


def panels(n: int) -> tuple[int, ...]:
    """Widths of a panel that fill the columns of a head."""
    return tuple(p for p in range(16, 257, 16) if up(n, 16) % p == 0)


def build(b: AscendBuilder, n: Node) -> Phase:
    q, rot, _, _, _, tables, _, up_weight, value = n.inputs
    where = n.origin or "the graph"
    if q.dtype not in FLOATS:
        raise UnsupportedError(f"{n.op.name} of {q.type} ({where}): cast it to a float type first")
    heads, nope, rank = (int(d) for d in up_weight.shape)
    v, rope, size = int(value.shape[1]), int(rot.shape[2]), q.dtype.itemsize
    k0 = 32 // size
    try:
        absorbed = choose(up(rank, k0) + rope, rank, heads, 1, size, adjacent=True)
        expanded = choose(up(nope, k0) + rope, v, 1, heads, size, adjacent=False)
    except ValueError as e:
        raise UnsupportedError(f"{e} ({where})") from None
    keys, most = product((*tables.shape, n.attrs["page"])), 2 * heads * rank * size
    least, fit = bounds(b.graph, q.shape[0])
    fit = min(fit, max(ROOM // most, 1))
    some, many = (min(least, fit), fit), (FEWEST, WIDEST[1])

    def cut(p: Product, rows: tuple[int, int], widths: tuple[int, ...] = ()) -> Choice:
        return search(b.target.chip, p, *rows, panels=widths)

    both = cut(Product(heads * up(v, 16), rank, size), many, panels(v))
    cuts = {
        "query": cut(Product(rank, nope, size, count=heads), some),
        "result": cut(Product(v, rank, size, count=heads), some, (both.panel,)),
        "keys": cut(Product(heads * up(nope, 16), rank, size), many, panels(nope)),
        "values": both,
    }
    packing = {6: cuts["query"], 7: cuts["keys"], 8: both}
    attention = max(workspace_bytes(t, size, b.target.chip.aic) for t in (absorbed, expanded))
    room = room_bytes(most, (nope + v) * size, heads, q.shape[0], keys)
    return b.generic(
        n,
        packing={k: f"nz{choice.panel}" for k, choice in packing.items()},
        workspace=attention + room,
        attention=attention,
        room=c_expr(room),
        rule=rule(rank, rope, nope, v, heads, size, absorbed.panel < rank),
        cuts={name: choice.c("rows_") for name, choice in cuts.items()},
        panels=[choice.panel for choice in packing.values()],
        tiles=[absorbed.c(), expanded.c()],
        stream=stream(b),
    )
