"""Does a compiled model compute what the model computes? The examples that answer it.

Recorded when a model is compiled: the example inputs, eager's outputs, and, for a model that
computes in bf16 or fp16, a reference: the same graph in float32. The bar:

- float32 models: relative L2 distance to eager of at most 1e-5.
- bf16 and fp16: our L2 distance to the reference is at most 1.25 times eager's own, plus one unit
  in the last place. Two correct programs that round differently both pass; a bug does not.
- integers and booleans: equal.

A router that chooses experts is not continuous: where two scores nearly tie, two correct programs
may choose differently, and their results then differ by far more than rounding. So the reference
takes the choices that the graph makes in the model's own dtype, which keeps eager's flips out of
the bar, and counts the near ties among them. If the bar fails and there are near ties, the rows far
beyond eager's usual error are left out, at most half of them, and the result names them: it is
then marked, never silently good.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from xcompile import tensorfile
from xcompile.errors import ArtifactError
from xcompile.executable import Executable
from xcompile.frontend.fx import Imported
from xcompile.ir import Graph, Node, Type, Value, concrete, evaluate_node

LOW = (torch.bfloat16, torch.float16)
FP32_BAR = 1e-5
FACTOR = 1.25
OUTLIER = 8.0  # times eager's median error: a row this far off took another route


@dataclass
class Examples:
    """Example inputs (as the graph takes them) and what the model makes of them.

    outputs    eager's results: the graph's outputs, then the new content of the state inputs
    reference  the same in float32, or empty for a model without low-precision floats
    decisions  choices among experts (rows of topk); `ties` of them within rounding of another
    """

    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    reference: list[torch.Tensor] = field(default_factory=list)
    decisions: int = 0
    ties: int = 0


# -- recording --------------------------------------------------------------------------------
def recorder(
    program: torch.export.ExportedProgram, imported: Imported
) -> Callable[[], Examples] | None:
    """A function that runs eager and the reference, or None when there are no example inputs.

    It holds the exported program, whose weights the graph's constants are: no copy is made.
    """
    if program.example_inputs is None:
        return None
    return lambda: record(program, imported)


def record(program: torch.export.ExportedProgram, imported: Imported) -> Examples:
    assert program.example_inputs is not None
    flat, spec = pytree.tree_flatten(program.example_inputs)
    given = [flat[i].detach().clone().contiguous() for i in imported.inputs]
    copies = [x.clone() if isinstance(x, torch.Tensor) else x for x in flat]
    args, kwargs = pytree.tree_unflatten(copies, spec)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own copies of a module
        results = pytree.tree_leaves(program.module()(*args, **kwargs))
    graph = imported.graph
    plain = [o for o in range(len(graph.outputs)) if o not in graph.state]
    outputs: list[Any] = [None] * len(plain)
    for (kind, x), r in zip(imported.outputs, results, strict=True):
        if kind == "value":
            outputs[x] = r.detach().clone().contiguous()
    for i in sorted(set(graph.state.values())):
        outputs.append(copies[imported.inputs[i]].detach().contiguous())
    if not _is_low(graph):
        return Examples(given, outputs)
    run = _Reference(graph, given)
    order = plain + sorted(graph.state, key=lambda o: graph.state[o])
    reference = [run.high[graph.outputs[o]].clone().contiguous() for o in order]
    return Examples(given, outputs, reference, run.decisions, run.ties)


def _is_low(g: Graph) -> bool:
    values = [*g.inputs, *g.consts, *(v for n in g.walk() for v in n.outputs)]
    return any(v.dtype in LOW for v in values)


class _Reference:
    """Runs a graph twice in step: as it is, and with every low-precision float in float32.

    Constants are widened one at a time, when a node reads them.
    """

    def __init__(self, g: Graph, inputs: Sequence[torch.Tensor]) -> None:
        self.graph = g
        self.env = g.bind([t.shape for t in inputs])
        self.low: dict[Value, torch.Tensor] = dict(zip(g.inputs, inputs, strict=True))
        self.high = {v: _wide(t) for v, t in self.low.items()}
        self.decisions = self.ties = 0
        last = {v: n for n in g.nodes for v in n.inputs}
        keep = {*g.outputs, *g.inputs}
        with torch.no_grad():
            for n in g.nodes:
                self._node(n)
                for v in {*n.inputs}:
                    if last[v] is n and v not in keep:
                        self.low.pop(v, None)
                        self.high.pop(v, None)
            for v in g.outputs:
                if v in g.consts:
                    self.high[v] = _wide(self._const(v))

    def _const(self, v: Value) -> torch.Tensor:
        t = self.graph.consts[v]
        assert t is not None
        return t

    def _node(self, n: Node) -> None:
        low = [self.low[v] if v in self.low else self._const(v) for v in n.inputs]
        outs = evaluate_node(n, low, self.env)
        self.low.update(zip(n.outputs, outs, strict=True))
        high = [self.high[v] if v in self.high else _wide(self._const(v)) for v in n.inputs]
        if n.op.name == "topk":
            self._count_ties(low[0], high[0], concrete(n.attrs["k"], self.env))
            wide: Sequence[torch.Tensor] = (high[0].gather(-1, outs[1]), outs[1])
        else:
            attrs = {k: _wide_attr(a) for k, a in n.attrs.items()}
            wide = evaluate_node(Node(n.op, n.inputs, attrs, n.outputs), high, self.env)
        self.high.update(zip(n.outputs, wide, strict=True))

    def _count_ties(self, low: torch.Tensor, high: torch.Tensor, k: int) -> None:
        """Rows whose k-th and next score lie closer than rounding moved the row's scores."""
        rows = high.numel() // max(high.shape[-1], 1)
        self.decisions += rows
        if not rows or not 0 < k < high.shape[-1] or not high.is_floating_point():
            return
        best = high.float().topk(k + 1, dim=-1).values
        gap = (best[..., k - 1] - best[..., k]).nan_to_num(torch.inf)
        noise = (low.float() - high.float()).abs().nan_to_num(0.0, 0.0, 0.0).amax(-1)
        self.ties += int((gap <= 2 * noise).sum())


def _wide(t: torch.Tensor) -> torch.Tensor:
    return t.float() if t.dtype in LOW else t


def _wide_attr(a: Any) -> Any:
    """An attribute with float32 in place of bf16 and fp16; bodies and nested tuples included."""
    if isinstance(a, torch.dtype):
        return torch.float32 if a in LOW else a
    if isinstance(a, tuple):
        return tuple(map(_wide_attr, a))
    if isinstance(a, Graph):
        nodes = [
            Node(n.op, n.inputs, {k: _wide_attr(x) for k, x in n.attrs.items()}, n.outputs)
            for n in a.nodes
        ]
        return a.with_nodes(nodes)
    return a


# -- storing ----------------------------------------------------------------------------------
GROUPS = ("inputs", "outputs", "reference")


def store(path: Path, e: Examples) -> dict[str, int]:
    """Write the tensors; returns what the manifest keeps of them."""
    tensors = {f"{g}.{k}": t for g in GROUPS for k, t in enumerate(getattr(e, g))}
    types = {n: Type(t.dtype, tuple(t.shape)) for n, t in tensors.items()}
    tensorfile.write(path, types, tensors.values())
    return {g: len(getattr(e, g)) for g in GROUPS} | {"decisions": e.decisions, "ties": e.ties}


def restore(path: Path, counts: dict[str, int]) -> Examples:
    """Inverse of `store`. Raises ArtifactError."""
    tensors = tensorfile.read(path)
    try:
        groups = [[tensors[f"{g}.{k}"].clone() for k in range(counts[g])] for g in GROUPS]
    except KeyError as e:
        raise ArtifactError(f"{path.name}: {e.args[0]!r} is missing") from None
    return Examples(*groups, counts["decisions"], counts["ties"])


# -- checking ---------------------------------------------------------------------------------
@dataclass
class Row:
    """One compared tensor: `error` against `limit`, in the words of `measure`."""

    name: str
    measure: str
    error: float
    limit: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.limit  # False for NaN


def names_of(exe: Executable) -> list[str]:
    """Names of what `Examples.outputs` holds."""
    p = exe.executor.program
    return [o.name for o in p.outputs] + [f"{p.inputs[i].name} (updated)" for i in p.state]


def check(exe: Executable, e: Examples) -> list[Row]:
    """Run the examples and compare."""
    given = [t.clone() for t in e.inputs]
    outs = exe.executor(*given) + [given[i] for i in exe.executor.program.state]
    names = names_of(exe)
    if len(outs) != len(e.outputs) or len(e.reference) not in (0, len(outs)):
        raise ArtifactError("examples.safetensors does not fit the program")
    for name, got, want in zip(names, outs, e.outputs, strict=True):
        if got.shape != want.shape or got.dtype != want.dtype:
            raise ArtifactError(f"examples.safetensors: {name} does not fit the program")
    if not e.reference:
        return [_direct(*x) for x in zip(names, outs, e.outputs, strict=True)]
    rows = zip(names, outs, e.outputs, e.reference, strict=True)
    return [_bar(n, a, b, c, e.ties) if b.is_floating_point() else _direct(n, a, b)
            for n, a, b, c in rows]  # fmt: skip


def _direct(name: str, got: torch.Tensor, want: torch.Tensor) -> Row:
    if not want.is_floating_point():
        return Row(name, "different elements", float((got != want).sum()), 0.0)
    norm = float(want.double().norm())
    error = _distance(got, want) / (norm or 1.0)
    return Row(name, "relative distance to eager", error, FP32_BAR)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """L2 norm of the difference; equal infinities cancel."""
    a, b = a.double(), b.double()
    return float(torch.where(a == b, 0.0, a - b).norm())


def _bar(
    name: str, got: torch.Tensor, eager: torch.Tensor, reference: torch.Tensor, ties: int
) -> Row:
    """Our distance to the float32 reference, in units of its norm, against eager's."""

    def row(a: torch.Tensor, b: torch.Tensor, r: torch.Tensor, note: str = "") -> Row:
        norm = float(r.double().norm()) or 1.0
        ulp = torch.finfo(eager.dtype).eps / 2
        limit = FACTOR * _distance(b, r) / norm + ulp
        return Row(name, "relative distance to fp32", _distance(a, r) / norm, limit, note)

    whole = row(got, eager, reference)
    if whole.ok or not ties or got.dim() < 2:
        return whole
    a, b, r = (t.double().flatten(0, -2) for t in (got, eager, reference))
    norms = r.norm(dim=-1)
    live = norms > 0
    scale = torch.where(live, norms, 1.0)
    mine, theirs = (a - r).norm(dim=-1) / scale, (b - r).norm(dim=-1) / scale
    usual = float(theirs[live].median()) if bool(live.any()) else 0.0
    keep = ~(live & (mine > OUTLIER * usual))
    out = int((~keep).sum())
    if not out or 2 * out > int(live.sum()):
        return whole
    note = (
        f"without {out} of {int(live.sum())} rows: {ties} expert choices are near ties, "
        f"which rounding may turn; these rows differ by up to {float(mine.max()):.2g}"
    )
    return row(a[keep], b[keep], r[keep], note)
