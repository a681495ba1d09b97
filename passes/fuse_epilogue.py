"""f(linear(x, w)) = group{linear, f};  f(linear(x, g), linear(x, u)) = group{linear, linear, f}.

The pointwise ops behind a linear run on its fp32 accumulators. Two linears of one input and one
shape (a gated MLP) share a group: their weights interleave, so both sit in one panel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xcompile.ir import Graph, Node, Value
from xcompile.ops.leaf import IOTA
from xcompile.ops.matmul import LINEAR
from xcompile.passes.grouping import make_group
from xcompile.rewrite import dce
from xcompile.symbolic import same
from xcompile.targets import Target

GATE = 16  # columns of each of two interleaved weights in a panel


@dataclass(eq=False)
class _Epilogue:
    linears: list[Node]
    nodes: list[Node] = field(default_factory=list)


def run(graph: Graph, target: Target) -> Graph:
    users = graph.users()
    outputs = set(graph.outputs)
    ramps = {n.out for n in graph.nodes if n.op is IOTA}
    groups: dict[Value, _Epilogue] = {}  # the group's newest result
    member: dict[Node, _Epilogue] = {}
    for n in graph.nodes:
        if n.op is LINEAR and n.inputs[1] in graph.consts and not same(n.out.shape[-1], 1):
            member[n] = groups[n.out] = _Epilogue([n])
        elif n.op.pointwise and n.inputs and len(n.outputs) == 1:
            ready = [
                v
                for v in dict.fromkeys(n.inputs)
                if v in groups
                and v not in outputs
                and all(u is n for u in users[v])
                and v.type.rank == n.out.type.rank
                and v.shape == n.out.shape
            ]
            if not ready or ramps & {*n.inputs}:
                continue
            if any(u.op.reduces for u in users.get(n.out, [])):
                continue
            first, *rest = (groups[v] for v in ready)
            for other in rest[:1]:
                if _pair(first, other):
                    first.linears += other.linears
                    first.nodes += other.nodes
                    member.update(dict.fromkeys([*other.linears, *other.nodes], first))
            first.nodes.append(n)
            member[n] = groups[n.out] = first
    return _rebuild(graph, member)


def _pair(a: _Epilogue, b: _Epilogue) -> bool:
    if a is b or len(a.linears) != 1 or len(b.linears) != 1:
        return False
    (p,), (q,) = a.linears, b.linears
    same = p.inputs[0] is q.inputs[0] and p.inputs[1].type == q.inputs[1].type
    return same and int(p.inputs[1].shape[0]) % GATE == 0


def _rebuild(graph: Graph, member: dict[Node, _Epilogue]) -> Graph:
    made = graph.producers()
    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        e = member.get(n)
        if e is None or not e.nodes:
            nodes.append(n)
        elif n is e.nodes[-1]:
            group = make_group([*e.linears, *e.nodes], [n.out], made)
            nodes.append(group)
            mapping[n.out] = group.out
    return dce(graph.with_nodes(nodes, mapping))
