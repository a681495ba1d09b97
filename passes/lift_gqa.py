"""attention(q, repeat_heads(k), repeat_heads(v)) = attention(q, k, v) with shared heads."""

from __future__ import annotations

from xcompile.ir import Graph, Node, Value, make
from xcompile.rewrite import dce
from xcompile.symbolic import same
from xcompile.targets import Target


def run(graph: Graph, target: Target) -> Graph:
    made = graph.producers()
    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        if n.op.name == "attention":
            k, v = (_unrepeated(x, made) for x in n.inputs[1:3])
            if k is not None and v is not None and k.shape[1] == v.shape[1]:
                new = make(n.op, n.inputs[0], k, v, *n.inputs[3:], origin=n.origin, **n.attrs)
                nodes.append(new)
                mapping[n.out] = new.out
                continue
        nodes.append(n)
    return dce(graph.with_nodes(nodes, mapping)) if mapping else graph


def _unrepeated(x: Value, made: dict[Value, Node]) -> Value | None:
    """k of reshape(expand(reshape(k [B,Hk,T,D]) [B,Hk,1,T,D]) [B,Hk,n,T,D]) [B,Hk*n,T,D]."""
    outer = made.get(x)
    wide = made.get(outer.inputs[0]) if outer is not None and outer.op.name == "reshape" else None
    inner = made.get(wide.inputs[0]) if wide is not None and wide.op.name == "expand" else None
    if wide is None or inner is None or inner.op.name != "reshape" or wide.out.type.rank != 5:
        return None
    k = inner.inputs[0]
    if k.type.rank != 4:
        return None
    b, h, t, d = k.shape
    five = (b, h, 1, t, d)
    ok = all(map(same, wide.inputs[0].shape, five)) and same(x.shape[2], t)
    return k if ok and all(same(wide.out.shape[i], five[i]) for i in (0, 1, 3, 4)) else None
