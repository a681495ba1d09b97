"""linear(x, a), linear(x, b) = slices of linear(x, cat(a, b)): one pass over x, one launch."""

from __future__ import annotations

import torch

from xcompile.ir import Graph, Node, Type, Value, make
from xcompile.ops.matmul import LINEAR
from xcompile.ops.view import SLICE
from xcompile.rewrite import dce
from xcompile.targets import Target


def run(graph: Graph, target: Target) -> Graph:
    families: dict[Value, list[Node]] = {}
    for n in graph.nodes:
        if n.op is LINEAR and graph.consts.get(n.inputs[1]) is not None:
            families.setdefault(n.inputs[0], []).append(n)
    merged = {ns[0]: ns for ns in families.values() if len(ns) > 1}
    if not merged:
        return graph
    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    consts = dict(graph.consts)
    gone = {n for ns in merged.values() for n in ns}
    for n in graph.nodes:
        if n in merged:
            family = merged[n]
            weights = [m.inputs[1] for m in family]
            t = torch.cat([consts[w] for w in weights])  # type: ignore[misc]
            w = Value(Type(t.dtype, tuple(t.shape)), "+".join(v.name for v in weights))
            consts[w] = t
            wide = make(LINEAR, n.inputs[0], w, origin=n.origin)
            nodes.append(wide)
            at, last = 0, wide.out.type.rank - 1
            for m in family:
                size = int(m.inputs[1].shape[0])
                cut = make(
                    SLICE, wide.out, origin=m.origin, dim=last, start=at, stop=at + size, step=1
                )
                nodes.append(cut)
                mapping[m.out] = cut.out
                at += size
        elif n not in gone:
            nodes.append(n)
    out = graph.with_nodes(nodes, mapping)
    out.consts = consts
    return dce(out)
