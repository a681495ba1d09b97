"""The graph as eager calls of the vendor's operators (`--vendor-ops`): IR -> a Python module.

For comparison, and for who trusts the vendor's kernels more than ours. Nodes that torch_npu has an
operator for become `torch.ops.npu` calls, all others ATen calls. What the vendor's documentation
does not promise for a node's types and sizes is left to ATen.
"""

from __future__ import annotations

import builtins
import keyword
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import sympy
import torch

from xcompile.codegen.eager import HELPERS, NO_NUMBERS, POINTWISE, dim, expression, number
from xcompile.codegen.render import render
from xcompile.errors import UnsupportedError, XCompileError
from xcompile.ir import Graph, Node, Value
from xcompile.passes import PIPELINE, run_pipeline
from xcompile.symbolic import free_names
from xcompile.targets import ROOT, Target
from xcompile.vendor_rules import ACTIVATIONS, RULES, Gated, gated

PASSES = [p for p in PIPELINE if p not in ("fuse_mla", "fuse_epilogue", "layout", "fuse_loops")]
RESERVED = {"w", "F", "torch", "torch_npu", "device", "step", "fused_attention", "moe_experts",
            *HELPERS, *(name for name, _ in ACTIVATIONS.values()), *keyword.kwlist,
            *dir(builtins)}  # fmt: skip


def lower(graph: Graph, target: Target) -> Graph:
    """An imported graph on the level of the vendor's operators: lifted, nothing fused."""
    return run_pipeline(graph, target, names=PASSES)[0]


def weights(graph: Graph) -> dict[str, torch.Tensor]:
    """The constants of a lowered graph as its module's `w` wants them. Raises XCompileError."""
    out = {}
    for v, name in const_names(graph).items():
        t = graph.consts[v]
        if t is None:
            raise XCompileError(f"constant {v.name} has no data")
        out[name] = t.detach()
    return out


def const_names(graph: Graph) -> dict[Value, str]:
    names: dict[Value, str] = {}
    taken: set[str] = set()
    for k, v in enumerate(graph.consts):
        names[v] = v.name if v.name and v.name not in taken else f"{v.name}#{k}"
        taken.add(names[v])
    return names


def emit(graph: Graph) -> str:
    """The text of a module with `step(w, *inputs)`, for a graph from `lower`.

    It returns the outputs that are no state, as a tuple; state inputs are updated in place.
    Raises UnsupportedError.
    """
    return Writer(graph).module()


@dataclass
class _Line:
    origin: str
    text: str
    makes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


@dataclass
class Writer:
    graph: Graph
    names: dict[Value, str] = field(default_factory=dict)
    lines: list[_Line] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)
    activations: dict[str, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    done: set[Node] = field(default_factory=set)
    gated: dict[Node, Gated] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def module(self) -> str:
        g = self.graph
        if not g.inputs:
            raise UnsupportedError("a graph without inputs has no device to run on")
        taken = set(RESERVED) | g.symbols.keys()
        inputs = []
        for v in g.inputs:
            self.names[v] = _fresh(v.name or "x", taken)
            inputs.append(self.names[v])
        self.names |= {v: f'w["{name}"]' for v, name in const_names(g).items()}
        self.taken = taken
        self.users = g.users()
        self.made = g.producers()
        for n in g.nodes:
            if found := gated(n, self.made, self.users):
                self.gated[n] = found
                self.done |= found.nodes
        self.in_place = {n for ns in g._in_place_writes().values() for n in ns}
        for n in g.nodes:
            self.node(n)
        results = [self.names[v] for k, v in enumerate(g.outputs) if k not in g.state]
        returns = f"({', '.join(results)}{',' if len(results) == 1 else ''})"
        shown = [(self.names[v], f"{v.type}") for v in g.inputs]
        body = self.body({*results, *inputs})
        text = "\n".join([*body, returns])
        return render(
            ROOT / "templates" / "ascend",
            "vendor_step.j2",
            inputs=inputs,
            signature=[f"{name}: {kind}" for name, kind in shown],
            results=", ".join(f"y{k}" for k in range(len(results))) + ("," * (len(results) == 1)),
            state=[inputs[i] for i in sorted(set(g.state.values()))],
            notes=list(self.notes),
            helpers=self.helpers,
            activations=sorted(self.activations.items()),
            sizes=self.sizes(text),
            body=body,
            returns=returns,
        )

    def sizes(self, text: str) -> list[str]:
        """Symbols from the inputs' shapes."""
        out = []
        for s in sorted(self.graph.symbols):
            if not re.search(rf"\b{s}\b", text):
                continue
            places = [(v, k, d) for v in self.graph.inputs for k, d in enumerate(v.shape)]
            exact = [p for p in places if isinstance(p[2], sympy.Symbol) and p[2].name == s]
            alone = [p for p in places if free_names(p[2]) == {s}]
            if not alone:
                raise UnsupportedError(f"dim {s} does not follow from one input's shape")
            v, k, d = (exact or alone)[0]
            size = sympy.Symbol("size", integer=True)
            solved = sympy.solve(d - size, next(iter(d.free_symbols)))  # type: ignore[union-attr]
            if len(solved) != 1:
                raise UnsupportedError(f"dim {s} does not follow from {d}")
            at = f"{self.names[v]}.shape[{k}]"
            out.append(f"{s} = {dim(solved[0]).replace('size', at)}")
        return out

    def body(self, keep: set[str]) -> list[str]:
        """Lines, a comment where the module changes; what is not read again is dropped there."""
        last = {name: k for k, x in enumerate(self.lines) for name in (*x.makes, *x.reads)}
        out: list[str] = []
        dead: list[str] = []
        for k, x in enumerate(self.lines):
            if not k or x.origin != self.lines[k - 1].origin:
                out += textwrap.wrap(f"del {', '.join(dead)}", 92) if dead else []
                dead = []
                out += [f"# {x.origin}"] if x.origin else []
            out.append(x.text)
            ended = dict.fromkeys((*x.makes, *x.reads))
            dead += [v for v in ended if last[v] == k and v not in keep and v.isidentifier()]
        return out

    # -- nodes ----------------------------------------------------------------------------
    def node(self, n: Node) -> None:
        if n in self.done:
            return
        rule = RULES.get(n.op.name)
        if rule is None or not rule(self, n):
            self.aten(n)

    def aten(self, n: Node) -> None:
        if n.op.name == "full" and not n.out.shape and self.numbers(n):
            self.names[n.out] = number(n.attrs["value"])
            return
        if n.op.name == "index_copy" and n in self.in_place:
            old, index, src = self.args(n)
            self.names[n.out] = old
            self.add(n, f"{old}.index_copy_({n.attrs['dim']}, {index}, {src})", reads=n.inputs)
            return
        if n.op.name in HELPERS:
            self.helpers.add(n.op.name)
        text = expression(n, self.args(n))
        self.assign(n, text, n.outputs, n.op.name)

    def numbers(self, n: Node) -> bool:
        """Whether readers of a scalar constant can take a Python number."""
        plain = n.out.dtype in (torch.float32, torch.int64, torch.bool)
        for u in self.users.get(n.out, []):
            tensors = [v for v in u.inputs if v.shape]
            same_kind = any(
                v.dtype.is_floating_point >= n.out.dtype.is_floating_point for v in tensors
            )
            if u.op.name not in POINTWISE or u.op.name in NO_NUMBERS or not same_kind:
                return False
            if n.out in u.inputs[:1] and u.op.name in ("pow", "floordiv", "remainder"):
                return False
        return plain and n.out not in self.graph.outputs and n.out in self.users

    def args(self, n: Node) -> list[str]:
        return [self.names[v] for v in n.inputs]

    def assign(
        self,
        n: Node,
        text: str,
        outputs: Sequence[Value],
        label: str = "",
        reads: Sequence[Value] | None = None,
    ) -> None:
        """name, ... = text."""
        made = tuple(self.fresh(label or n.op.name) for _ in outputs)
        self.names |= dict(zip(outputs, made, strict=True))
        self.add(n, f"{', '.join(made)} = {text}", made, n.inputs if reads is None else reads)

    def add(
        self, n: Node, text: str, makes: tuple[str, ...] = (), reads: Iterable[Value] = ()
    ) -> None:
        self.lines.append(_Line(n.origin, text, makes, tuple(self.names[v] for v in reads)))

    def fresh(self, label: str) -> str:
        return _fresh(label, self.taken, self.counts)


def _fresh(name: str, taken: set[str], counts: dict[str, int] | None = None) -> str:
    base = re.sub(r"\W+", "_", name)
    base = base if base.isidentifier() else f"x{base}"
    out = base
    k = 0 if counts is None else counts.get(base, 0)
    while out in taken or (k and out == base):
        k += 1
        out = f"{base}_{k}"
    if counts is not None:
        counts[base] = k
    taken.add(out)
    return out


__all__ = ["emit", "lower", "weights"]
