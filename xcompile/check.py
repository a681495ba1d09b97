"""Does a compiled model compute what the model computes? The examples that answer it.

Recorded when a model is saved: inputs, eager's results, and, for a model that computes in bf16 or
fp16, a reference: the same graph in float32. The bar:

- float32 models: relative L2 distance to eager of at most 1e-5.
- bf16 and fp16: our L2 distance to the reference is at most 1.25 times eager's own, plus one unit
  in the last place. Two correct programs that round differently both pass; a bug does not.
- integers and booleans: equal.

A quantised model is held to the graph behind the pass that quantised it, run op by op: its results
stand for eager's above. In float32 they may be 1e-3 away, since a value may be rounded to the next
of 127 levels. How far quantisation itself moved the model's results is told beside that (`drift`).

Rounding errors inside one row of a deep model are not independent: measured on SmolLM2, two correct
programs differ by factors of 0.24 to 3.9 from row to row, and only over many rows by about 1. So
the factor is 1.25 (1 + 2 / sqrt(rows)), and a serving step is recorded with 64 requests.

A router that chooses experts is not continuous: where two scores nearly tie, two correct programs
may choose differently, and their results then differ by far more than rounding. So the reference
takes the choices that the graph makes in the model's own dtype, which keeps eager's flips out of
the bar, and counts the near ties among them. If the bar fails over all rows and there are near
ties, the median row must meet it, and the result says so: it is then marked, never silently good.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from xcompile import tensorfile
from xcompile.errors import ArtifactError
from xcompile.executable import Executable
from xcompile.frontend.fx import Imported
from xcompile.ir import Graph, Node, Type, Value, concrete, evaluate_node
from xcompile.manifest import Reader
from xcompile.runtime.generate import ModelSpec, allocate
from xcompile.runtime.generate import _Request as Request
from xcompile.runtime.generate import _step_inputs as pack
from xcompile.runtime.program import Program

LOW = (torch.bfloat16, torch.float16)
EXAMPLES = "examples.safetensors"
FP32_BAR, QUANTISED_BAR = 1e-5, 1e-3
FACTOR = 1.25
OUTLIER = 8.0  # times eager's median error: a row this far off took another route
REQUESTS = 64  # of a serving step's example


@dataclass
class Examples:
    """Example inputs (as the graph takes them) and what the model makes of them.

    outputs    eager's results: the graph's outputs, then the rows of the state inputs that it wrote
    written    for each state input, the indices of these rows
    reference  the same in float32, or empty for a model without low-precision floats
    drift      of a quantised model: relative L2 distance of its results to those before
    decisions  choices among experts (rows of topk); `ties` of them within rounding of another
    """

    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    written: list[torch.Tensor] = field(default_factory=list)
    reference: list[torch.Tensor] = field(default_factory=list)
    decisions: int = 0
    ties: int = 0
    drift: float | None = None


# -- recording --------------------------------------------------------------------------------
def recorder(
    program: torch.export.ExportedProgram,
    imported: Imported,
    inputs: Callable[[], Sequence[Any]] | None = None,
    quantised: Graph | None = None,
) -> Callable[[], Examples] | None:
    """A function that runs eager and the reference, or None when there are no example inputs.

    inputs     makes the flattened arguments; default: those that the program was traced with
    quantised  the graph behind the pass that quantised it, if one did

    It holds the exported program, whose weights the graph's constants are: no copy is made.
    """
    if program.example_inputs is None:
        return None
    flat = inputs or (lambda: pytree.tree_leaves(program.example_inputs))
    return lambda: record(program, imported, flat(), quantised)


def record(
    program: torch.export.ExportedProgram,
    imported: Imported,
    flat: Sequence[Any],
    quantised: Graph | None = None,
) -> Examples:
    """Run the program in torch, and the graph in float32 where that is a finer dtype."""
    graph = quantised or imported.graph
    given = [flat[i].detach().clone().contiguous() for i in imported.inputs]
    copies = [x.clone() if isinstance(x, torch.Tensor) else x for x in flat]
    args, kwargs = pytree.tree_unflatten(copies, pytree.tree_structure(program.example_inputs))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own copies of a module
        results = pytree.tree_leaves(program.module()(*args, **kwargs))
    outputs: dict[int, torch.Tensor] = {}
    for (kind, x), r in zip(imported.outputs, results, strict=True):
        if kind == "value":
            outputs[x] = r.detach().clone().contiguous()
    plain = [o for o in range(len(graph.outputs)) if o not in graph.state]
    e = Examples(given, [outputs[k] for k in range(len(plain))])
    states = sorted(set(graph.state.values()))
    for i in states:
        new = copies[imported.inputs[i]].detach()
        e.written.append(_changed(given[i], new))
        e.outputs.append(_rows(new, e.written[-1]))
    if _is_low(graph) or quantised:
        run = _Reference(graph, given)
        owner = {i: graph.outputs[o] for o, i in graph.state.items()}

        def results_of(known: dict[Value, torch.Tensor]) -> list[torch.Tensor]:
            out = [known[graph.outputs[o]].clone().contiguous() for o in plain]
            return out + [_rows(known[owner[i]], w) for i, w in zip(states, e.written, strict=True)]

        if quantised:
            before, e.outputs = e.outputs, results_of(run.low)
            e.drift = max(
                (_relative(a, b) for a, b in zip(e.outputs, before, strict=True)), default=0.0
            )
        if _is_low(graph):
            e.reference = results_of(run.high)
        e.decisions, e.ties = run.decisions, run.ties
    return e


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return _distance(a, b) / (float(b.double().norm()) or 1.0)


def _changed(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Indices along the first dim where two tensors differ."""
    if not old.numel():
        return torch.empty(0, dtype=torch.int64)
    differ = (old != new).reshape(old.shape[0] if old.dim() else 1, -1)
    return differ.any(-1).nonzero().flatten()


def _rows(t: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return (t if t.dim() else t.reshape(1))[index].contiguous()


def step_inputs(
    spec: ModelSpec, vocabulary: int, max_tokens: int, max_requests: int
) -> list[torch.Tensor]:
    """Flattened arguments of a serving step: short random prompts of many requests. Every fourth
    request continues a context, whose keys and values are zeros."""
    rng = torch.Generator().manual_seed(0)
    batch: list[tuple[Request, int]] = []
    room, pages = max_tokens, 0
    for k in range(min(REQUESTS, max_requests)):
        old = 0 if k % 4 else min(spec.page - 2, spec.max_context - 8)
        new = min(1 + k % 7, room, spec.max_context)
        old = max(old, 0)
        if not new:
            break
        ids = torch.randint(vocabulary, (new,), generator=rng).tolist()
        count = -(-(old + new) // spec.page)
        batch.append((Request(k, ids, list(range(pages, pages + count)), old), new))
        room, pages = room - new, pages + count
    keys, values = allocate(spec.kv_shapes, pages * spec.page, spec.dtype)
    return [*pack(batch, spec.page, "cpu"), *keys, *values]


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
GROUPS = ("inputs", "outputs", "written", "reference")


def store(path: Path, e: Examples) -> dict[str, Any]:
    """Write the tensors; returns what the manifest keeps of them. Inputs of zeros, such as fresh
    caches, are kept as their shape."""
    tensors = {f"{g}.{k}": t for g in GROUPS for k, t in enumerate(getattr(e, g))}
    zeros = {str(k): list(t.shape) for k, t in enumerate(e.inputs) if t.numel() and not t.any()}
    for k in zeros:
        del tensors[f"inputs.{k}"]
    types = {n: Type(t.dtype, tuple(t.shape)) for n, t in tensors.items()}
    tensorfile.write(path, types, tensors.values())
    counts = {g: len(getattr(e, g)) for g in GROUPS}
    return counts | {
        "zeros": zeros, "decisions": e.decisions, "ties": e.ties, "drift": e.drift,
    }  # fmt: skip


def read_facts(r: Reader) -> dict[str, Any]:
    """What `store` returned, from an untrusted manifest."""
    facts: dict[str, Any] = {g: r.get(g).whole(0, 1 << 20) for g in GROUPS}
    zeros = r.get("zeros")
    if not isinstance(zeros.data, dict) or not all(isinstance(k, str) for k in zeros.data):
        zeros.fail("shapes by input")
    facts["zeros"] = {k: [x.whole(0, 1 << 32) for x in zeros.get(k).each()] for k in zeros.data}
    if any(prod(shape) >= 1 << 36 for shape in facts["zeros"].values()):
        zeros.fail("smaller inputs")
    facts |= {k: r.get(k).whole(0, 1 << 48) for k in ("decisions", "ties")}
    drift = r.get("drift")
    if drift.data is not None and not (isinstance(drift.data, float) and drift.data >= 0):
        drift.fail("a distance, or null")
    return facts | {"drift": drift.data}


def restore(path: Path, facts: dict[str, Any], program: Program) -> Examples:
    """Inverse of `store`. Raises ArtifactError unless all fits the program."""
    tensors = {k: t.clone() for k, t in tensorfile.read(path).items()}
    specs = program.inputs
    if facts["inputs"] != len(specs) or facts["written"] != len(program.state):
        raise ArtifactError(f"{path.name} does not fit the program")
    for k, shape in facts["zeros"].items():
        if not k.isdecimal() or int(k) >= len(specs):
            raise ArtifactError(f"{path.name}: there is no input {k[:20]!r}")
        tensors[f"inputs.{k}"] = torch.zeros(shape, dtype=specs[int(k)].type.dtype)
    try:
        inputs, outputs, written, reference = (
            [tensors[f"{g}.{k}"] for k in range(facts[g])] for g in GROUPS
        )
    except KeyError as e:
        raise ArtifactError(f"{path.name}: {e.args[0]!r} is missing") from None
    told = (facts[k] for k in ("decisions", "ties", "drift"))
    return Examples(inputs, outputs, written, reference, *told)


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
    outs = exe.executor(*given)
    plain, names = len(outs), names_of(exe)
    strays = []
    for i, rows in zip(exe.executor.program.state, e.written, strict=True):
        outs.append(_only(given[i], rows))
        strays.append(len(_changed(_without(e.inputs[i], rows), _without(given[i], rows))))
    if len(outs) != len(e.outputs) or len(e.reference) not in (0, len(outs)):
        raise ArtifactError(f"{EXAMPLES} does not fit the program")
    result = []
    for k, (name, got, want) in enumerate(zip(names, outs, e.outputs, strict=True)):
        fine = e.reference[k] if e.reference else want
        if not got.shape == want.shape == fine.shape or got.dtype != want.dtype:
            raise ArtifactError(f"{EXAMPLES}: {name} does not fit the program")
        if e.reference and want.is_floating_point():
            samples = prod(got.shape[:-1]) if k < plain else max(len(got), 1)
            result.append(_bar(name, got, want, fine, samples, e.ties))
        else:
            result.append(_direct(name, got, want, e.drift is not None))
        if k >= plain and strays[k - plain]:
            count = float(strays[k - plain])
            result[-1] = Row(name, "rows that eager does not write", count, 0.0)
    return result


def _only(t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    if rows.dim() != 1 or rows.dtype != torch.int64:
        raise ArtifactError(f"{EXAMPLES}: row numbers are malformed")
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < max(len(t.reshape(-1)), 1):
        raise ArtifactError(f"{EXAMPLES}: row numbers are out of range")
    try:
        return _rows(t, rows)
    except IndexError:
        raise ArtifactError(f"{EXAMPLES}: row numbers are out of range") from None


def _without(t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    t = t if t.dim() else t.reshape(1)
    keep = torch.ones(t.shape[0], dtype=torch.bool)
    keep[rows] = False
    return t[keep]


def _direct(name: str, got: torch.Tensor, want: torch.Tensor, quantised: bool) -> Row:
    if not want.is_floating_point():
        return Row(name, "different elements", float((got != want).sum()), 0.0)
    if quantised:
        return Row(name, "relative distance, quantised", _relative(got, want), QUANTISED_BAR)
    return Row(name, "relative distance to eager", _relative(got, want), FP32_BAR)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """L2 norm of the difference; equal infinities cancel."""
    a, b = a.double(), b.double()
    return float(torch.where(a == b, 0.0, a - b).norm())


def _bar(
    name: str,
    got: torch.Tensor,
    eager: torch.Tensor,
    reference: torch.Tensor,
    samples: int,
    ties: int,
) -> Row:
    """Our distance to the float32 reference, in units of its norm, against eager's."""
    factor = FACTOR * (1 + 2 / max(samples, 1) ** 0.5)
    ulp = torch.finfo(eager.dtype).eps / 2
    norm = float(reference.double().norm()) or 1.0
    mine, theirs = (_distance(t, reference) / norm for t in (got, eager))
    whole = Row(name, "relative distance to fp32", mine, factor * theirs + ulp)
    if whole.ok or not ties or got.dim() < 2:
        return whole
    a, b, r = (t.double().flatten(0, -2) for t in (got, eager, reference))
    norms = r.norm(dim=-1)
    live = norms > 0
    if not bool(live.any()) or not bool(torch.isfinite(a).all()):
        return whole
    ours, usual = ((t - r).norm(dim=-1)[live] / norms[live] for t in (a, b))
    middle = float(usual.median())
    far = int((ours > OUTLIER * middle).sum())
    note = (
        f"by the median row: {far} of {len(ours)} rows are far off (up to "
        f"{float(ours.max()):.2g}); rounding may have turned near ties among experts"
    )
    limit = factor * middle + ulp
    return Row(name, "median row's distance to fp32", float(ours.median()), limit, note)
