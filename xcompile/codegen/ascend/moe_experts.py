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
    entries: Dim,
    experts: int,
    hidden: int,
    inner: int,
    size: int,
    sums: int,
    cell: int | None = None,
    result: int | None = None,
) -> Dim:
    """Bytes that MoeSpace lays out, whatever the routing.

    size    bytes of an element; cell, result: of one in the ring, in the second product's rows
    sums    Cut.sums of the first product
    """

    def up(n: int, to: int) -> int:
        return -(-n // to) * to

    table = up(up(experts, LINE) + experts, 128) * 4
    ring = CORES * RING * sums * (cell or size)
    fixed = up(experts * 4, 512) + table + 2 * CORES * LINE * 4 + ring
    row = 12 + up(inner, 16) * size + up(hidden, 16) * (result or size)
    return fixed + entries * row + 9 * 512


def kinds(cuts: tuple[Cut, Cut], gated: bool) -> tuple[str, str]:
    """How both weights are packed, without what comes first (nz or row)."""
    return f"{cuts[0].panel}_experts{'_gated' if gated else ''}", f"{cuts[1].panel}_experts"


def check(n: Node) -> None:
    """Raises UnsupportedError for more experts a token than a tile of the weighted sum has."""
    if int(n.inputs[1].shape[1]) > TOPK:
        raise UnsupportedError(f"{n.op.name} of more than {TOPK} experts a token ({n.origin})")


def build(b: AscendBuilder, n: Node) -> Phase:
    x, expert, _, up, down, *biases = n.inputs
    experts, hidden, inner = (int(d) for d in down.shape)
    check(n)
    gated = is_gated(up.shape, down.shape)
    cuts = choose(b.target.chip, inner, gated), choose(b.target.chip, hidden, False)
    formats = [f"{how}{kind}" for how in ("nz", "row") for kind in kinds(cuts, gated)]
    size = x.dtype.itemsize
    return b.generic(
        n,
        packing={3 + k: kind for k, kind in enumerate(formats[: 2 + len(biases)])},
        workspace=workspace_bytes(expert.type.numel, experts, hidden, inner, size, cuts[0].sums),
        cuts=cuts,
        gated=gated,
    )
