"""Routed experts with int8 weights as one mix phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcompile.codegen.ascend.moe_experts import check, choose, kinds, workspace_bytes
from xcompile.ir import Node
from xcompile.ops.moe import is_gated
from xcompile.symbolic import Dim

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase


def workspace_int8(
    tokens: Dim, entries: Dim, experts: int, hidden: int, inner: int, size: int, sums: int
) -> Dim:
    """Bytes that MoeSpace8 lays out; see workspace_bytes."""
    rows = tokens * (-(-hidden // 32) * 32 + 32) + entries * (-(-inner // 32) * 32 + 32)
    wide = workspace_bytes(entries, experts, hidden, inner, size, sums, cell=4, result=4)
    return wide + rows + 4 * 512


def build(b: AscendBuilder, n: Node) -> Phase:
    x, expert, _, up, _, down, *_ = n.inputs
    experts, hidden, inner = (int(d) for d in down.shape)
    check(n)
    gated = is_gated(up.shape, down.shape)
    cuts = choose(b.target.chip, inner, gated), choose(b.target.chip, hidden, False)
    one, two = kinds(cuts, gated)
    formats = [f"nz{one}", f"row{one}", f"nz{two}", f"row{two}", f"row{one}", f"row{two}"]
    size = x.dtype.itemsize
    return b.generic(
        n,
        packing={3 + k: kind for k, kind in enumerate(formats) if 3 + k < len(n.inputs)},
        workspace=workspace_int8(
            x.shape[0], expert.type.numel, experts, hidden, inner, size, cuts[0].sums
        ),
        cuts=cuts,
        gated=gated,
    )
