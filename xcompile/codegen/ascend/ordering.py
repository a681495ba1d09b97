"""What sort, topk and argmax need beside their templates: which kernel, and its workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy
import torch

from xcompile.errors import UnsupportedError
from xcompile.ir import Node
from xcompile.symbolic import Dim, floordiv, product

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase

SORT_TILE = 2048  # kSortTile of order.h
MOST_KEPT = 1024  # kMostKept of order_long.h
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64)


def build_sort(b: AscendBuilder, n: Node) -> Phase:
    """sort, or topk: rows that fit UB, the best of longer ones, or runs merged in memory."""
    rows, cols = _rows(n)
    k = n.attrs.get("k", cols)
    static, cores = isinstance(cols, int), b.target.chip.aiv
    if isinstance(cols, int) and cols <= SORT_TILE:
        return b.generic(n, kind="short", static=True)
    if n.op.name == "topk" and isinstance(k, int) and k <= MOST_KEPT:
        return b.generic(n, kind="top", static=static, workspace=8 * k * cores, cores=cores)
    tiles = floordiv(cols + SORT_TILE - 1, SORT_TILE)
    workspace = sympy.Min(rows, cores) * 2 * tiles * SORT_TILE * 8
    return b.generic(n, kind="long", static=static, workspace=_dim(workspace), cores=cores)


def build_argmax(b: AscendBuilder, n: Node) -> Phase:
    rows, cols = _rows(n)
    if isinstance(cols, int) and cols <= SORT_TILE:
        return b.generic(n, long=False)
    # ArgMax::kTile and kFound of argmax.h
    tile, found = (4096, 32) if n.inputs[0].dtype == torch.int64 else (8192, 8)
    return b.generic(n, long=True, workspace=rows * floordiv(cols + tile - 1, tile) * found)


def _rows(n: Node) -> tuple[Dim, Dim]:
    x = n.inputs[0]
    if x.dtype not in TYPES:
        raise UnsupportedError(f"{n.op.name} of {x.type} ({n.origin}): cast it to int64 first")
    return product(x.shape[:-1]), x.shape[-1]


def _dim(e: Dim) -> Dim:
    return int(e) if isinstance(e, sympy.Integer) else e
