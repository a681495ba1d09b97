"""Graph (after the passes) -> Plan: launches, islands, arena buffers, packed constants."""

from __future__ import annotations

from xcompile.ir import Graph, Node, Value
from xcompile.layout import layouts
from xcompile.plan import Launch, Packed, Plan
from xcompile.runtime.program import Arg, Buffer, Island
from xcompile.symbolic import Dim, simplify
from xcompile.targets import Target

NO_LAUNCH = {"cat"}  # its operands are written in place


def lower(graph: Graph, target: Target) -> Plan:
    """Plan a graph that has been through the pipeline. Raises UnsupportedError for an op without
    a kernel on this target."""
    return _Lowering(graph, target).run()


class _Lowering:
    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph = graph
        self.lay = layouts(graph)
        self.target = target
        self.builder = target.builder(graph, self.lay)
        self.plan = Plan(graph, self.lay, self.builder.symbols, target)
        self.buffer: dict[Value, int] = {}
        self.consts: dict[tuple, int] = {}
        self.at = -1  # the stage: kernels of one need not wait for each other
        self.read: set[Value] = set()  # memory that kernels of this stage read, and write
        self.written: set[Value] = set()
        self.alone = True  # the newest kernel began its stage
        self.outputs = {
            v: k
            for k, v in enumerate(v for o, v in enumerate(graph.outputs) if o not in graph.state)
        }
        self.state = {graph.outputs[o]: i for o, i in graph.state.items()}

    def run(self) -> Plan:
        for n in self.graph.nodes:
            if n.op.view or n.op.name in NO_LAUNCH:
                continue
            if n.op.name == "torch_call":
                self._island(n)
            else:
                self._launch(n)
        self.plan.stages = self.at + 1
        return self.plan

    def _enter(self, n: Node) -> None:
        """Begin a new stage, unless n depends on nothing of this one."""
        reads = {self.lay[v].root for v in n.inputs} - self.graph.consts.keys()
        writes = {self.lay[v].root for v in n.outputs}
        held = {self.lay[n.outputs[k]].root for k in n.op.alias}
        free = self.target.concurrent and n.op.name != "torch_call" and self.at >= 0
        # Results that no op updates in place lie apart, also in one concatenation.
        if free and not (reads & self.written or writes & self.read or held & self.written):
            self.read |= reads
            self.written |= writes
            self.alone = False
            return
        self.alone = True
        self.at += 1
        self.read, self.written = reads, writes

    def _launch(self, n: Node) -> None:
        self._enter(n)
        kernel = self.builder.build(n)
        self.plan.kernels.setdefault(kernel.name, kernel.source)
        args: list[Arg] = []
        for a in kernel.args:
            if isinstance(a, Packed):
                args.append(Arg("const", self._const(a)))
            elif isinstance(a, Value):
                args.append(self._value(a, a in n.outputs))
            else:
                args.append(self._workspace(n, a))
        self._share(n)
        flops = sum((self._flops(m) for m in (n.body.nodes if n.body else [n])), 0)
        moved = self._moved(n)
        self.plan.launches.append(
            Launch(
                kernel.name,
                tuple(args),
                n,
                len(self.plan.islands),
                simplify(flops),
                moved,
                self.at,
                kernel.unit,
            )
        )

    def _moved(self, n: Node) -> Dim:
        """Bytes read and written. What an op updates in place moves only by the rows written."""
        held = {n.inputs[i] for i in n.op.alias.values()} | {n.outputs[o] for o in n.op.alias}
        written = [n.inputs[-1]] if held else []
        return sum((v.type.nbytes for v in [*({*n.inputs, *n.outputs} - held), *written]), 0)

    def _flops(self, n: Node) -> Dim:
        if n.op.cost is None:
            return 0
        return n.op.cost([v.type for v in n.inputs], [v.type for v in n.outputs], n.attrs)

    def _island(self, n: Node) -> None:
        self._enter(n)
        args = tuple(self._value(v, False) for v in n.inputs)
        results = tuple(self._value(v, True) for v in n.outputs)
        self.plan.islands.append(
            Island(
                n.attrs["target"],
                n.attrs["spec"],
                args,
                tuple(v.type for v in n.inputs),
                results,
                tuple(v.type for v in n.outputs),
                len(self.plan.launches),
                n.origin,
            )
        )

    def _const(self, c: Packed) -> int:
        key = (c.kind, *map(id, c.values))
        if key not in self.consts:
            self.consts[key] = len(self.plan.consts)
            self.plan.consts.append(c)
        return self.consts[key]

    def _value(self, v: Value, written: bool) -> Arg:
        lay = self.lay[v]
        root = lay.root
        offset = simplify(lay.offset * v.dtype.itemsize)
        if root in self.graph.consts:
            return Arg("const", self._const(Packed("raw", (root,))), offset)
        if root in self.graph.inputs:
            return Arg("input", self.graph.inputs.index(root), offset)
        if v in self.state and written:
            return Arg("input", self.state[v], offset)
        if root in self.outputs:
            return Arg("output", self.outputs[root], offset)
        if root in self.state:
            return Arg("input", self.state[root], offset)
        if root not in self.buffer:
            self.buffer[root] = len(self.plan.buffers)
            self.plan.buffers.append(Buffer(root.name or "tmp", root.type.nbytes, self.at, self.at))
        b = self.plan.buffers[self.buffer[root]]
        b.first, b.last = min(b.first, self.at), max(b.last, self.at)
        return Arg("arena", self.buffer[root], offset)

    def _workspace(self, n: Node, nbytes: Dim) -> Arg:
        self.plan.buffers.append(Buffer(f"workspace of {n.op.name}", nbytes, self.at, self.at))
        return Arg("arena", len(self.plan.buffers) - 1)

    def _share(self, n: Node) -> None:
        """A pointwise kernel may overwrite an operand that dies with it, element by element."""
        if n.body is None or any(m.op.reduces or m.op.name == "linear" for m in n.body.nodes):
            return
        if not self.alone or any(v in self.graph.inputs for v in n.outputs):
            return  # another kernel of this stage may read the operand
        out = n.outputs[0]
        mine = self.buffer.get(self.lay[out].root)
        if len(n.outputs) != 1 or mine is None or self.lay[out].root is not out:
            return
        for v in n.inputs:
            theirs = self.buffer.get(self.lay[v].root)
            lay = self.lay[v]
            if (
                theirs is None
                or theirs == mine
                or lay.root.type.nbytes != out.type.nbytes
                or lay.strides != self.lay[out].strides
                or v.type.shape != out.type.shape
                or self._read_later(lay.root, n)
                or n.inputs.count(v) > 1
                or any(u is not v and self.lay[u].root is lay.root for u in n.inputs)
            ):
                continue
            self.plan.buffers[mine].shares = theirs
            return

    def _read_later(self, root: Value, n: Node) -> bool:
        if not hasattr(self, "_last"):
            self._last: dict[Value, int] = {}
            self._order = {m: k for k, m in enumerate(self.graph.nodes)}
            for k, m in enumerate(self.graph.nodes):
                for v in m.inputs:
                    self._last[self.lay[v].root] = k
            for v in self.graph.outputs:
                self._last[self.lay[v].root] = len(self.graph.nodes)
        return self._last[root] > self._order[n]
