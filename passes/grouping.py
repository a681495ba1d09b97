"""Not a pass: how passes put nodes into a group node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from xcompile.ir import Graph, Node, Value
from xcompile.ops.group import GROUP


def is_leaf(n: Node | None) -> bool:
    return n is not None and n.op.expr is not None and not n.inputs


def make_group(
    members: Sequence[Node], results: Sequence[Value], made: Mapping[Value, Node]
) -> Node:
    """A group node that computes `results`. Leaves are copied into the body; other values from
    outside become operands, in order of first use."""
    body = Graph()
    inner: dict[Value, Value] = {}
    operands: list[Value] = []
    own = {v for n in members for v in n.outputs}
    for n in members:
        for v in n.inputs:
            if v in inner or v in own:
                continue
            if is_leaf(made.get(v)):
                leaf = made[v]
                body.nodes.append(replace(leaf, outputs=(Value(v.type),)))
                inner[v] = body.nodes[-1].out
            else:
                operands.append(v)
                inner[v] = body.input(v.type, f"a{len(operands) - 1}")
        outs = tuple(Value(v.type) for v in n.outputs)
        inner.update(zip(n.outputs, outs, strict=True))
        body.nodes.append(replace(n, inputs=tuple(inner[v] for v in n.inputs), outputs=outs))
    body.outputs = [inner[v] for v in results]
    origin = members[-1].origin
    outs = tuple(Value(v.type, v.name) for v in results)
    return Node(GROUP, tuple(operands), {"body": body}, outs, origin)
