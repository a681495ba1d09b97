"""attention(q, k, v, triu(full(-inf), 1)) = attention(q, k, v) {causal}, as many keys as queries.

So half of the scores need not be computed, and no mask lies in memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from xcompile.ir import Graph, Node, Value, make
from xcompile.rewrite import dce
from xcompile.symbolic import same
from xcompile.targets import Target


def run(graph: Graph, target: Target) -> Graph:
    made = graph.producers()
    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        masked = n.op.name == "attention" and len(n.inputs) > 3 and n.inputs[3].type.rank == 4
        if masked and is_causal(n.inputs[3], made):
            attrs = {**n.attrs, "causal": True}
            new = make(n.op, *n.inputs[:3], *n.inputs[4:], origin=n.origin, **attrs)
            nodes.append(new)
            mapping[n.out] = new.out
        else:
            nodes.append(n)
    return dce(graph.with_nodes(nodes, mapping)) if mapping else graph


def is_causal(mask: Value, made: Mapping[Value, Node]) -> bool:
    """Whether an additive mask ``[1, 1, S, S]`` is -inf above the diagonal and 0 elsewhere."""
    if not (same(mask.type.numel, mask.shape[2] ** 2) and same(mask.shape[2], mask.shape[3])):
        return False
    v = mask
    while (n := made.get(v)) is not None and n.op.name in ("reshape", "cast"):
        v = n.inputs[0]
    if n is None or n.op.name != "where" or n.out.type.rank != 2:
        return False
    if not same(n.out.shape[0], n.out.shape[1]):
        return False
    above, hidden, seen = (made.get(x) for x in n.inputs)
    if _literal(hidden) != float("-inf") or _literal(seen) != 0 or above is None:
        return False
    if above.op.name not in ("ge", "gt"):
        return False
    gap, least = (made.get(x) for x in above.inputs)
    if gap is None or gap.op.name != "sub" or _literal(least) != (above.op.name == "ge"):
        return False
    column, row = (made.get(x) for x in gap.inputs)
    return _ramp(column, 1) and _ramp(row, 0)


def _literal(n: Node | None) -> object:
    return n.attrs["value"] if n is not None and n.op.name == "full" else None


def _ramp(n: Node | None, dim: int) -> bool:
    """Whether n counts 0, 1, ... along a dim of two."""
    if n is None or n.op.name != "iota" or n.out.type.rank != 2:
        return False
    return n.attrs["dim"] == dim and n.attrs["start"] == 0 and n.attrs["step"] == 1


__all__ = ["is_causal", "run"]
