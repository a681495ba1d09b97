"""g(f(x)) = group{f, g}: pointwise ops and row reductions over one iteration space, one kernel.

Softmax and norms are first decomposed. Two nodes join when their shapes agree (a reduction's
result may differ in the last dim) and joining makes no cycle through the nodes outside.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from xcompile.ir import Graph, Node, Value
from xcompile.layout import layouts
from xcompile.ops.norm import DECOMPOSE
from xcompile.ops.pointwise import COPY
from xcompile.passes.grouping import is_leaf, make_group
from xcompile.rewrite import dce
from xcompile.symbolic import Dim, same
from xcompile.targets import Target


def run(graph: Graph, target: Target) -> Graph:
    graph = decompose(graph)
    return dce(_Fuser(graph).run())


def decompose(graph: Graph) -> Graph:
    """Replace row-wise ops by their pointwise and reduction form."""
    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        if n.op not in DECOMPOSE:
            nodes.append(n)
            continue
        scratch = Graph(symbols=graph.symbols)
        out = DECOMPOSE[n.op](scratch, *n.inputs, **n.attrs)
        nodes += [replace(m, origin=n.origin) for m in scratch.nodes]
        mapping[n.out] = out
    # a reduction of one element is a copy: loops tell rows from columns by the last dim
    nodes = [
        replace(n, op=COPY) if n.op.reduces and same(n.inputs[0].shape[-1], 1) else n for n in nodes
    ]
    return graph.with_nodes(nodes, mapping)


@dataclass(eq=False)
class _Unit:
    """A node, or several that will be one kernel. `space` is None for nodes that never fuse."""

    nodes: list[Node]
    space: tuple[Dim, ...] | None
    first: int
    last: int
    after: set[_Unit] = field(default_factory=set)  # must run before this unit
    before: set[_Unit] = field(default_factory=set)
    reads: set[Value] = field(default_factory=set)  # roots, and the roots that it overwrites
    writes: set[Value] = field(default_factory=set)


def _same(a: tuple[Dim, ...], b: tuple[Dim, ...]) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def _space(n: Node) -> tuple[Dim, ...] | None:
    if n.op.reduces:
        return n.inputs[0].shape
    return n.out.shape if n.op.pointwise and n.inputs else None


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made = graph.producers()
        self.unit: dict[Node, _Unit] = {}
        for i, n in enumerate(graph.nodes):
            self.unit[n] = _Unit([n], _space(n), i, i)
        for n in graph.nodes:
            for v in n.inputs:
                if v in self.made:
                    self._edge(self.unit[self.made[v]], self.unit[n])
        self._order_writes()

    def _edge(self, a: _Unit, b: _Unit) -> None:
        if a is not b:
            a.before.add(b)
            b.after.add(a)

    def _order_writes(self) -> None:
        """Nodes that read a root before a node overwrites it must stay before it."""
        lay = layouts(self.graph)
        readers: dict[Value, list[Node]] = {}
        state = {self.graph.outputs[o]: i for o, i in self.graph.state.items()}
        for n in self.graph.nodes:
            written = [lay[n.inputs[k]].root for k in n.op.alias.values()]
            written += [self.graph.inputs[state[v]] for v in n.outputs if v in state]
            self.unit[n].writes.update(written)
            self.unit[n].reads.update(lay[v].root for v in n.inputs)
            for root in written:
                for r in readers.get(root, []):
                    self._edge(self.unit[r], self.unit[n])
            for v in n.inputs:
                readers.setdefault(lay[v].root, []).append(n)

    def run(self) -> Graph:
        for n in self.graph.nodes:
            u = self.unit[n]
            if u.space is None:
                continue
            for v in dict.fromkeys(n.inputs):
                other = self.unit.get(self.made.get(v))  # type: ignore[arg-type]
                if other is not None and other is not self.unit[n] and other.space is not None:
                    self._try_join(other, self.unit[n])
        return self._rebuild()

    def _try_join(self, a: _Unit, b: _Unit) -> None:
        space = _joint(a.space, b.space)
        if space is None or a.reads & b.writes or b.reads & a.writes or self._path_around(a, b):
            return  # one loop must not read the state that it writes
        a.reads |= b.reads
        a.writes |= b.writes
        a.nodes += b.nodes
        a.space, a.first, a.last = space, min(a.first, b.first), max(a.last, b.last)
        for n in b.nodes:
            self.unit[n] = a
        for other in b.after | b.before:
            other.before.discard(b)
            other.after.discard(b)
        for x in b.after - {a}:
            self._edge(x, a)
        for x in b.before - {a}:
            self._edge(a, x)
        a.before.discard(b)
        a.after.discard(b)

    def _path_around(self, a: _Unit, b: _Unit) -> bool:
        """Is there a path from a to b (or b to a) through a third unit?"""
        top = max(a.last, b.last)
        for start, goal in ((a, b), (b, a)):
            stack = [u for u in start.before if u is not goal]
            seen = set(stack)
            while stack:
                u = stack.pop()
                for nxt in u.before:
                    if nxt is goal:
                        return True
                    if nxt not in seen and nxt.first <= top:
                        seen.add(nxt)
                        stack.append(nxt)
        return False

    def _rebuild(self) -> Graph:
        users = self.graph.users()
        outputs = set(self.graph.outputs)
        order = _topological(set(self.unit.values()))
        nodes: list[Node] = []
        mapping: dict[Value, Value] = {}
        for u in order:
            members = sorted(u.nodes, key=lambda n: self._position(n))
            if not (members[0].op.expr and len(members[0].outputs) == 1):
                nodes += members
                continue
            if is_leaf(members[0]):
                readers = users.get(members[0].out, [])
                if members[0].out not in outputs and all(r.op.expr and r.inputs for r in readers):
                    continue  # every reader's group holds its own copy
            inside = set(members)
            results = [
                n.out
                for n in members
                if n.out in outputs or any(r not in inside for r in users.get(n.out, []))
            ]
            group = make_group(members, results, self.made)
            nodes.append(group)
            mapping.update(zip(results, group.outputs, strict=True))
        return self.graph.with_nodes(nodes, mapping)

    def _position(self, n: Node) -> int:
        if not hasattr(self, "_at"):
            self._at = {m: i for i, m in enumerate(self.graph.nodes)}
        return self._at[n]


def _joint(a: tuple[Dim, ...] | None, b: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    """The space both fit: equal, or one is the other with a last dim of 1 (one value a row)."""
    if a is None or b is None or len(a) != len(b) or not a:
        return a if a == b else None
    if not _same(a[:-1], b[:-1]):
        return None
    if same(a[-1], b[-1]):
        return a
    if same(a[-1], 1):
        return b
    return a if same(b[-1], 1) else None


def _topological(units: Iterable[_Unit]) -> list[_Unit]:
    waiting = {u: len(u.after) for u in units}
    heap = [(u.last, u.first, id(u), u) for u, k in waiting.items() if not k]
    heapq.heapify(heap)
    out: list[_Unit] = []
    while heap:
        u = heapq.heappop(heap)[-1]
        out.append(u)
        for nxt in u.before:
            waiting[nxt] -= 1
            if not waiting[nxt]:
                heapq.heappush(heap, (nxt.last, nxt.first, id(nxt), nxt))
    assert len(out) == len(waiting), "fusion made a cycle"
    return out
