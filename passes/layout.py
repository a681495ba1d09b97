"""kernel(view(x)) = kernel(copy(view(x))) wherever the kernel cannot read the view's strides.

After this pass every view is a strided window, every operand suits its kernel, every in-place
write is safe, every operand of a cat is produced for it alone, and outputs own their memory.
"""

from __future__ import annotations

from dataclasses import replace

from xcompile.ir import Graph, Node, Value, make
from xcompile.layout import Layout, accepts, fresh, view_layout
from xcompile.ops.pointwise import COPY
from xcompile.ops.view import RESHAPE
from xcompile.targets import Target


def run(graph: Graph, target: Target) -> Graph:
    return _Layouter(graph).run()


class _Layouter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.made = graph.producers()
        self.position = {n: i for i, n in enumerate(graph.nodes)}
        self.lay: dict[Value, Layout] = {v: fresh(v) for v in [*graph.inputs, *graph.consts]}
        self.nodes: list[Node] = []
        self.mapping: dict[Value, Value] = {}
        self.copies: dict[Value, Value] = {}
        self.last_read: dict[Value, int] = {}  # root -> last node that reads any view of it

    def run(self) -> Graph:
        g = self.graph
        self._find_last_reads()
        for n in g.nodes:
            self._visit(replace(n, inputs=tuple(self.mapping.get(v, v) for v in n.inputs)), n)
        out = replace(g, outputs=self._outputs())
        return out.with_nodes(self.nodes)

    # A value's root before any copies are inserted: good enough to know who may still read it.
    def _find_last_reads(self) -> None:
        root: dict[Value, Value] = {}
        for i, n in enumerate(self.graph.nodes):
            for v in n.inputs:
                self.last_read[root.get(v, v)] = i
            if n.op.view:
                root[n.out] = root.get(n.inputs[0], n.inputs[0])
        for v in self.graph.outputs:
            self.last_read[root.get(v, v)] = len(self.graph.nodes)
        self.root = root

    def copy(self, v: Value, origin: str = "", shared: bool = True) -> Value:
        if shared and v in self.copies:
            return self.copies[v]
        n = make(COPY, v, origin=origin)
        self.nodes.append(n)
        self.lay[n.out] = fresh(n.out)
        if shared:
            self.copies[v] = n.out
        return n.out

    def _visit(self, n: Node, old: Node) -> None:
        name = n.op.name
        if n.op.view:
            self._view(n)
            return
        if name == "cat":
            n = replace(n, inputs=tuple(self._piece(v, old.inputs[k], n) for k, v in
                                        enumerate(n.inputs)))  # fmt: skip
        elif n.op.alias:
            n = self._in_place(n, old)
        elif not n.op.expr:
            n = replace(n, inputs=tuple(self._operand(n, k, v) for k, v in enumerate(n.inputs)))
        self.nodes.append(n)
        for k, v in enumerate(n.outputs):
            operand = n.op.alias.get(k)
            self.lay[v] = (
                fresh(v, n.op.order if k == 0 else None)
                if operand is None
                else self.lay[n.inputs[operand]]
            )

    def _view(self, n: Node) -> None:
        lay = view_layout(n, self.lay[n.inputs[0]])
        if lay is None:
            n = replace(n, inputs=(self.copy(n.inputs[0], n.origin),))
            lay = view_layout(n, self.lay[n.inputs[0]])
            assert lay is not None
        self.nodes.append(n)
        self.lay[n.out] = lay

    def _operand(self, n: Node, k: int, v: Value) -> Value:
        if n.op.name == "group":
            assert n.body is not None
            inner = n.body.inputs[k]
            linear = [m for m in n.body.nodes if m.op.name == "linear" and m.inputs[0] is inner]
            kind: str | None = "rows" if linear else "any"
        else:
            kind = n.op.strides.get(k)
        return v if accepts(kind, v.shape, self.lay[v].strides) else self.copy(v, n.origin)

    def _piece(self, v: Value, old: Value, cat: Node) -> Value:
        """Fused kernels can write into a strided window, if nobody else reads the value."""
        n = self.made.get(old)
        alone = len(self.users.get(old, [])) == 1 and old not in self.graph.outputs
        writes = n is not None and (n.op.expr or n.op.name in ("linear", "head_linear", "rope")
                                    or (n.op.name == "group" and len(n.outputs) == 1))  # fmt: skip
        if v is old and alone and writes and not _twice(cat, v):
            return v
        return self.copy(v, cat.origin, shared=False)

    def _in_place(self, n: Node, old: Node) -> Node:
        inputs = list(n.inputs)
        for result, operand in n.op.alias.items():
            v = n.inputs[operand]
            if not self._may_overwrite(old, result, operand, v):
                inputs[operand] = self.copy(v, n.origin, shared=False)
        written = {self.lay[inputs[k]].root for k in n.op.alias.values()}
        for k, v in enumerate(n.inputs):
            if k not in n.op.alias.values():
                clash = self.lay[v].root in written  # it would be read while it changes
                inputs[k] = self.copy(v, n.origin) if clash else self._operand(n, k, v)
        return replace(n, inputs=tuple(inputs))

    def _may_overwrite(self, n: Node, result: int, operand: int, v: Value) -> bool:
        if not accepts(None, v.shape, self.lay[v].strides):
            return False
        base = n.inputs[operand]
        root = self.root.get(base, base)
        if self.last_read.get(root, -1) > self.position[n]:
            return False
        if self.lay[v].root in self.graph.inputs:
            state = self.graph.inputs.index(self.lay[v].root)
            wanted = [o for o, i in self.graph.state.items() if i == state]
            return bool(wanted) and self._leads_to(n.outputs[result], self.graph.outputs[wanted[0]])
        return self.lay[v].root not in self.graph.consts and base is root

    def _leads_to(self, v: Value, goal: Value) -> bool:
        while v is not goal:
            step = [u for u in self.users.get(v, []) if u.op is RESHAPE or
                    v in [u.inputs[k] for k in u.op.alias.values()]]  # fmt: skip
            if not step:
                return False
            v = step[0].out
        return True

    def _outputs(self) -> list[Value]:
        """Results that own their memory. Copies into state come last: until then every result
        may still read the old state, that of another input included."""
        g = self.graph
        out = [self.mapping.get(v, v) for v in g.outputs]
        seen: set[Value] = set()
        for o, v in enumerate(out):
            if o not in g.state:
                out[o] = v if v not in seen and self._owns(v) else self.copy(v, shared=False)
                seen.add(out[o])
        late = [o for o in g.state if not self._updated(out[o], g.inputs[g.state[o]])]
        states = {g.inputs[i] for i in g.state.values()}
        for o in late:
            if self.lay[out[o]].root in states:
                out[o] = self.copy(out[o], shared=False)
        for o in late:
            out[o] = self.copy(out[o], shared=False)
        return out

    def _owns(self, v: Value) -> bool:
        lay = self.lay[v]
        made_here = lay.root is v and v not in self.graph.inputs and v not in self.graph.consts
        pieces = any(v in n.inputs for n in self.nodes if n.op.name == "cat")
        return made_here and accepts(None, v.shape, lay.strides) and not pieces

    def _updated(self, v: Value, state: Value) -> bool:
        """Whether v already lies where its state does."""
        lay = self.lay[v]
        return lay.root is state and lay.offset == 0 and accepts(None, v.shape, lay.strides)


def _twice(n: Node, v: Value) -> bool:
    return sum(x is v for x in n.inputs) > 1
