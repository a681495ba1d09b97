"""Attention, dense and paged, as one mix phase: tile sizes, workspace, strides."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import torch

from xcompile.codegen.ascend.builder import STORAGE
from xcompile.errors import UnsupportedError
from xcompile.ir import Node, Value

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase

SUMS = 16 * 1024  # floats of half of L0C: ATTN_SUMS
BAND = 128  # rows that the cube core multiplies at once: ATTN_BAND
RUN = 1024  # bytes of several heads' keys that follow each other, at best
L1 = 512 * 1024 - 256
SCORES = 8 * 1024  # that a vector core takes at once, with 16-bit operands
ACCUMULATORS = 32 * 1024  # floats that two vector cores keep


@dataclass(frozen=True)
class Tile:
    """AttnTile of attention_deal.h, field for field."""

    rows: int
    keys: int
    piece: int
    heads: int
    head_rows: int
    head_keys: int
    head_piece: int
    q: int
    k: int
    v: int
    p: int
    q_slots: int
    p_slots: int
    v_slots: int
    panel: int
    chunk: int
    scores: int
    probs: int
    outs: int
    head_cost: int
    one_cost: int
    row_cost: int

    def c(self) -> str:
        return f"AttnTile{{{', '.join(map(str, astuple(self)))}}}"


def up(n: int, to: int) -> int:
    return -(-n // to) * to


def choose(
    d: int, dv: int, group: int, kv_heads: int, size: int, *, adjacent: bool, masked: bool = False
) -> Tile:
    """Sizes for heads of d and dv elements of `size` bytes; `adjacent`: kv heads of a row of the
    cache follow each other. Raises ValueError if nothing fits."""
    k0 = 32 // size
    d0, dv0, dv16 = up(d, k0), up(dv, k0), up(dv, 16)
    if group > 64 and size == 2 and not masked and (wide := _wide(d0, dv0)):
        return wide
    chunk = max(SCORES * 2 // (4 if masked else size), 8 * dv0)
    for rows in (256, 128, 64):
        if rows * dv16 > ACCUMULATORS:
            continue
        for piece in (256 // size, 128 // size, 64 // size, 16):
            q = rows * d0 + 16 * k0
            p = BAND * max(piece, 64) + 16 * k0
            rest = L1 // size // 2 - q - p
            if rest < piece * (d0 + dv16):
                continue
            k = rest * d0 // (d0 + dv16) // 128 * 128
            v = (rest - k) // 128 * 128
            if k < piece * d0 or v < piece * dv16:
                continue
            keys = 1024 // size
            several = _several(d, dv, group, kv_heads, size, rows, k, v, p) if adjacent else None
            heads, head_rows, head_keys, head_piece = several or (1, 0, 0, 0)
            both = heads * head_rows
            return Tile(
                rows=rows, keys=keys, piece=piece, heads=heads, head_rows=head_rows,
                head_keys=head_keys, head_piece=head_piece, q=q, k=k, v=v, p=p,
                q_slots=2, p_slots=2, v_slots=2, panel=dv0, chunk=chunk,
                scores=max(rows * keys, both * head_keys),
                probs=max(rows * keys, up(both + 1, 16) * head_keys),
                outs=rows * dv0,
                head_cost=16 * heads * (d + dv) * size // 33,
                one_cost=max(16 * (d + dv) * size // 33, 1),
                row_cost=(d + dv) // (16 if size == 2 else 4) + 6,
            )  # fmt: skip
    raise ValueError(f"attention over heads of {d} and {dv} elements does not fit on chip")


def _wide(d0: int, dv0: int) -> Tile | None:
    """128 rows of 16 bits at once whose results do not fit L0C: V comes in panels of columns."""
    rows, keys, piece, panel, slots = 128, 640, 80, 256, 3
    q, k, v, p = rows * d0 + 256, piece * d0, piece * panel, rows * piece
    results = rows * dv0
    if not 2 * SUMS < results <= 2 * ACCUMULATORS or (q + 2 * (k + p) + slots * v) * 2 > L1:
        return None
    return Tile(
        rows=rows, keys=keys, piece=piece, heads=1, head_rows=0, head_keys=0, head_piece=0,
        q=q, k=k, v=v, p=p, q_slots=1, p_slots=2, v_slots=slots, panel=panel, chunk=16 * keys,
        scores=rows * keys, probs=rows * keys, outs=rows * dv0,
        head_cost=0, one_cost=max(16 * (d0 + dv0) * 2 // 33, 1), row_cost=(d0 + dv0) // 16 + 6,
    )  # fmt: skip


def _several(
    d: int, dv: int, group: int, kv_heads: int, size: int, rows: int, k: int, v: int, p: int
) -> tuple[int, int, int, int] | None:
    """heads, rows of each, keys of a block and of a piece, for tasks of several kv heads."""
    if d % 16 or dv % 16:
        return None
    head_rows, best = up(group, 16), None
    for heads in range(2, kv_heads + 1):
        both = heads * head_rows
        keys = min(512, SUMS // both // 64 * 64, p // up(both + 1, 16) // 64 * 64)
        piece = min(128, k // (heads * d) // 16 * 16, v // (heads * dv) // 16 * 16)
        fits = keys >= 128 and piece >= 16 and both <= rows and both * dv <= 2 * SUMS
        if kv_heads % heads or not fits:
            continue
        best = (heads, head_rows, keys, piece)
        if heads * d * size >= RUN:
            break
    return best


def workspace_bytes(t: Tile, size: int, cores: int) -> int:
    """What AttnSpace lays out."""
    scores, outs, probs = up(t.scores * 4, 512), up(t.outs * 4, 512), up(t.probs * size, 512)
    partial = outs + 2 * up(t.rows * 4, 512)
    return cores * 2 * (scores + outs + probs + partial)


FLOATS = (torch.float16, torch.bfloat16, torch.float32)
MASKS = (torch.bool, torch.float32)


def build(b: AscendBuilder, n: Node) -> Phase:
    q, k, v = n.inputs[:3]
    paged = n.op.name == "paged_attention"
    mask = n.inputs[3] if not paged and len(n.inputs) > 3 else None
    where = n.origin or "the graph"
    if any(x.type.rank == 1 for x in n.inputs[6 if paged else 3 :]) or "window" in n.attrs:
        what = "a window" if "window" in n.attrs else "sinks"
        raise UnsupportedError(f"{n.op.name} with {what} ({where}): not on ascend, only on cpu")
    if q.dtype not in FLOATS:
        raise UnsupportedError(f"{n.op.name} of {q.type} ({where}): cast it to a float type first")
    if mask is not None and mask.dtype not in (*MASKS, q.dtype):
        raise UnsupportedError(f"attention with a mask {mask.type} ({where}): cast it to f32 first")
    if mask is not None and mask.shape[3] != 1 and b.layouts[mask].strides[3] not in (0, 1):
        raise UnsupportedError(f"attention with a mask whose last dim is not contiguous ({where})")
    heads, kv_heads, d, dv = (int(x) for x in (q.shape[1], k.shape[1], q.shape[-1], v.shape[-1]))
    size = q.dtype.itemsize
    adjacent = all(_stride(b, x, 1) in (x.shape[-1], 0) for x in (k, v))
    try:
        tile = choose(
            d, dv, heads // kv_heads, kv_heads, size, adjacent=adjacent, masked=bool(mask)
        )
    except ValueError as e:
        raise UnsupportedError(f"{e} ({where})") from None
    scale = float(n.attrs["scale"]) or 1e-30  # scores times zero would not hide what is -inf
    if mask is None:
        mask_type = "AttnNoMask"
    else:
        mask_type = f"AttnMask<{STORAGE[mask.dtype]}>"
    return b.generic(
        n,
        workspace=workspace_bytes(tile, size, b.target.chip.aic),
        tile=tile.c(),
        sizes=f"AttnSizes{{{kv_heads}, {heads // kv_heads}, {d}, {dv}, {scale!r}f}}",
        mask_type=mask_type,
    )


def _stride(b: AscendBuilder, v: Value, dim: int) -> object:
    """Of heads: 0 if there is one."""
    return 0 if v.shape[dim] == 1 else b.layouts[v].strides[dim]
