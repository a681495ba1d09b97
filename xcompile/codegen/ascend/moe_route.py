"""Routing as a vector phase: which routers the kernel has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcompile.errors import UnsupportedError
from xcompile.ir import Node

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase

# Of RouteSpec in route_room.h: experts a token, groups, lists to merge, bytes, rows of a tile.
TOPK, GROUPS, QUEUES, UB, ROWS = 16, 32, 16, 184 * 1024, 8


def rows(n: Node) -> int:
    """RouteSpec::kRows: rows of a tile, less than ROWS where the router does not fit."""
    a, logits = n.attrs, n.inputs[0]
    k, groups, keep = int(a["k"]), int(a["groups"]), int(a["topk_group"])
    bias, masked = len(n.inputs) > 1, float(a["mask"]) != float("-inf")
    each = -(-(int(logits.shape[1]) // groups) // 32)
    lists, grouped = groups * each, groups > keep
    width, picked, masked = lists * 32, grouped and not masked, grouped and masked
    pairs = 8 if k <= 8 else 16
    slots = -(-_queues(n) // 4) * 4
    fetch = slots * pairs // 4
    merge = picked or lists > 1
    reach = 4 * pairs if merge else 32
    size, out = logits.dtype.itemsize, n.outputs[0].dtype.itemsize
    in_place = size == 4 and a["score"] != "softmax_topk"
    queue = 2 * (width * size + (pairs if out == 4 else 16) * out + pairs * 8)
    row = (3 if in_place else 4) * width + 2 * reach + 2 * pairs + 18
    if merge:
        row += 4 * slots * pairs + 3 * fetch + pairs
    if grouped:
        row += 160 + -(-groups // 8) * 8 + (32 if masked else 0) + (64 if each > 1 else 0)
    ids = 1024 // width if width < 256 else 4
    fit = (UB - 4 * ((3 + ids) * width + 512)) // (queue + 4 * row)
    most = min(2040 // fetch, fit)
    found = 64 if most >= 64 else most // 8 * 8
    narrow_bias = bias and n.inputs[1].dtype.itemsize < 4
    return 0 if narrow_bias and width > 2 * found * reach else found


def _queues(n: Node) -> int:
    """Sorted lists that a row's best are merged of."""
    groups, keep = int(n.attrs["groups"]), int(n.attrs["topk_group"])
    each = -(-(int(n.inputs[0].shape[1]) // groups) // 32)
    picked = groups > keep and float(n.attrs["mask"]) == float("-inf")
    return (keep if picked else groups) * each


def build(b: AscendBuilder, n: Node) -> Phase:
    k, groups = int(n.attrs["k"]), int(n.attrs["groups"])
    why = None
    if k > TOPK:
        why = f"it takes at most {TOPK} experts a token, given {k}"
    elif groups > GROUPS:
        why = f"it takes at most {GROUPS} groups, given {groups}"
    elif _queues(n) > QUEUES:
        why = f"it merges at most {QUEUES} lists of 32 experts, given {_queues(n)}"
    elif rows(n) < ROWS:
        why = "they do not fit on chip"
    if why is not None:
        raise UnsupportedError(
            f"moe_route over {n.inputs[0].type} in {groups} groups (at {n.origin or 'the graph'}) "
            f"has no kernel on {b.target.isa}: {why}"
        )
    return b.generic(n)
