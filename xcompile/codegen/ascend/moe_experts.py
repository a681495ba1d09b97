"""Routed experts as one mix phase: panels of the packed weights, tiles, workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xcompile.errors import UnsupportedError
from xcompile.ir import Node
from xcompile.ops.moe import is_gated
from xcompile.symbolic import Dim
from xcompile.targets.ascend import Chip

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase

CORES, RING, LINE = 24, 4, 16  # MOE_CORES, MOE_RING, MOE_LINE in experts_table.h
PANELS = (128, 96, 64, 32, 16)
ROWS = 128  # of an expert in a tile, at most
TOPK = 64


@dataclass(frozen=True)
class Cut:
    """One of the two products: columns of a packed panel, and most rows of a tile."""

    panel: int
    rows: int

    @property
    def sums(self) -> int:
        return self.panel * self.rows


def choose(chip: Chip, width: int, gated: bool) -> Cut:
    """The cut of a product with `width` results a row.

    Wide panels make long transfers and few instructions; narrow ones waste less of a last panel.
    """

    def cost(panel: int) -> float:
        results = panel // 2 if gated else panel
        return -(-width // results) * results * (1 + 4 / panel)

    panel = min((p for p in PANELS if not gated or p % 32 == 0), key=cost)
    return Cut(panel, min(ROWS, chip.l0c // 8 // panel // 16 * 16))


def workspace_bytes(
    entries: Dim, experts: int, hidden: int, inner: int, size: int, sums: int
) -> Dim:
    """Bytes that MoeSpace lays out, whatever the routing; sums: Cut.sums of the first product."""

    def up(n: int, to: int) -> int:
        return -(-n // to) * to

    table = up(up(experts, LINE) + experts, 128) * 4
    fixed = up(experts * 4, 512) + table + 2 * CORES * LINE * 4 + CORES * RING * sums * size
    row = 12 + (up(inner, 16) + up(hidden, 16)) * size
    return fixed + entries * row + 9 * 512


def build(b: AscendBuilder, n: Node) -> Phase:
    x, expert, _, up, down, *biases = n.inputs
    experts, hidden, inner = (int(d) for d in down.shape)
    if int(expert.shape[1]) > TOPK:
        raise UnsupportedError(f"moe_experts of more than {TOPK} experts a token ({n.origin})")
    gated = is_gated(up.shape, down.shape)
    up_cut, down_cut = choose(b.target.chip, inner, gated), choose(b.target.chip, hidden, False)
    kinds = [f"{up_cut.panel}_experts{'_gated' if gated else ''}", f"{down_cut.panel}_experts"]
    packing = {3 + k: f"nz{kind}" for k, kind in enumerate(kinds)}
    if biases:
        packing |= {5 + k: f"row{kind}" for k, kind in enumerate(kinds)}
    size = x.dtype.itemsize
    return b.generic(
        n,
        packing=packing,
        workspace=workspace_bytes(expert.type.numel, experts, hidden, inner, size, up_cut.sums),
        cuts=(up_cut, down_cut),
        gated=gated,
    )
