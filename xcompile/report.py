"""What was compiled, in numbers. `Summary` is the same for a fresh compilation and an artifact."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from xcompile.compiler import Compiled
from xcompile.errors import ArtifactError
from xcompile.executable import Executable
from xcompile.ir import Value
from xcompile.manifest import Reader, packed_type
from xcompile.ops.moe import ROUTED, expanded_bytes
from xcompile.ops.moe_int8 import smaller_by
from xcompile.plan import per_layer
from xcompile.runtime.program import Program
from xcompile.symbolic import dim_str, evaluate, free_names, parse_dim, simplify


@dataclass(frozen=True)
class Step:
    """One launch or island: `after` are the earlier steps whose results it reads; `saved` the bytes
    of the copy that it does without, of token rows, one for each of their experts; `smaller` the
    bytes that its weights would have more if they were not quantised."""

    kernel: str
    op: str
    origin: str
    flops: str
    nbytes: str
    result: str
    after: tuple[int, ...] = ()
    island: bool = False
    saved: str = "0"
    smaller: int = 0


@dataclass(frozen=True)
class Kernel:
    """One kernel launch, and the steps that it computes; `unit` are the cores that it runs on."""

    name: str
    unit: str
    steps: tuple[int, ...]


@dataclass
class Summary:
    """Steps in order, constants, and how long each stage of the compilation took.

    kernels  how steps share kernels, in the order in which they run; empty: each is one
    """

    target: str
    steps: list[Step]
    weight_bytes: int
    seconds: dict[str, float] = field(default_factory=dict)
    kernels: list[Kernel] = field(default_factory=list)

    @property
    def layers(self) -> dict[str, int]:
        """Layer -> kernel launches that do some of its work."""
        return per_layer([self.steps[k].origin for k in x.steps] for x in self.kernels)

    def costs(self, env: Mapping[str, int]) -> list[tuple[int, int]]:
        """(flops, bytes) of every step at these sizes."""
        size = _sizes(env)
        return [(size(s.flops), size(s.nbytes)) for s in self.steps]

    def saved(self, env: Mapping[str, int]) -> list[int]:
        """`saved` of every step that saves some, at these sizes."""
        size = _sizes(env)
        return [size(s.saved) for s in self.steps if s.saved != "0"]


def _sizes(env: Mapping[str, int]) -> Callable[[str], int]:
    return cache(lambda text: evaluate(parse_dim(text), env))


# -- making -----------------------------------------------------------------------------------
def summarise(c: Compiled) -> Summary:
    """The summary of a compilation in this process."""
    launches = iter(c.plan.launches)
    at: dict[int, int] = {}  # launch -> step
    writers: dict[Value, list[int]] = {}
    steps: list[Step] = []
    for n in c.graph.nodes:
        if n.op.view or n.op.name == "cat":
            continue
        roots = {c.plan.layouts[v].root for v in n.inputs}
        after = tuple(sorted({k for r in roots for k in writers.get(r, ())}))
        for v in n.outputs:
            writers.setdefault(c.plan.layouts[v].root, []).append(len(steps))
        result = ", ".join(str(v.type) for v in n.outputs)
        if n.op.name == "torch_call":
            target = str(n.attrs["target"])
            steps.append(Step(target, "torch_call", n.origin, "0", "0", result, after, True))
            continue
        x = next(launches)
        at[id(x)] = len(steps)
        op = n.op.name if n.body is None else "+".join(m.op.name for m in n.body.nodes)
        flops, nbytes = dim_str(simplify(x.flops)), dim_str(simplify(x.nbytes))
        saved = dim_str(simplify(expanded_bytes(n))) if op in ROUTED else "0"
        smaller = smaller_by(n) if op == "moe_experts_int8" else 0
        steps.append(
            Step(x.kernel, op, n.origin, flops, nbytes, result, after, False, saved, smaller)
        )
    types = [packed_type(p, c.target) for p in c.plan.consts]
    weights = sum(evaluate(t.nbytes, {}) for t in types)
    made = c.target.kernels(c.plan)
    kernels = [Kernel(n, unit, tuple(at[id(x)] for x in group)) for n, unit, group in made]
    return Summary(str(c.target), steps, weights, dict(c.seconds), kernels)


def summary(exe: Executable) -> Summary:
    """The summary of an executable, compiled or loaded."""
    if exe.compiled is not None:
        return summarise(exe.compiled)
    from xcompile.artifact import read_summary

    if exe.path is None:
        raise ArtifactError("this executable was neither compiled here nor loaded")
    return read_summary(Path(exe.path))


def to_json(s: Summary) -> dict[str, Any]:
    return asdict(s)


def from_json(r: Reader, symbols: set[str]) -> Summary:
    """Inverse of `to_json` over untrusted data. Raises ArtifactError."""

    def dim(x: Reader) -> str:
        text = x.text()
        if text not in known:
            if free_names(parse_dim(text)) - symbols:
                x.fail("a dim over the program's symbols")
            known.add(text)
        return text

    known: set[str] = set()
    steps: list[Step] = []
    for k, x in enumerate(r.get("steps").each()):
        after = tuple(a.whole(0, k - 1) for a in x.get("after").each())
        kernel, op, origin, result = (
            x.get(key).text(limit=1 << 16) for key in ("kernel", "op", "origin", "result")
        )
        flops, nbytes = dim(x.get("flops")), dim(x.get("nbytes"))
        island = x.get("island").flag()
        saved = dim(x.get("saved")) if x.get("saved").data is not None else "0"
        smaller = x.get("smaller").whole(0, 1 << 62) if x.get("smaller").data is not None else 0
        steps.append(Step(kernel, op, origin, flops, nbytes, result, after, island, saved, smaller))
    seconds = r.get("seconds").data
    if not isinstance(seconds, dict) or not all(
        isinstance(v, int | float) for v in seconds.values()
    ):
        r.get("seconds").fail("seconds by stage")
    target = r.get("target").text(limit=64)
    kernels = []
    for x in r.get("kernels").each() if r.get("kernels").data is not None else []:
        numbers = tuple(k.whole(0, len(steps) - 1) for k in x.get("steps").each())
        kernels.append(Kernel(x.get("name").text(r"\w+"), x.get("unit").text(r"\w+"), numbers))
    return Summary(target, steps, r.get("weight_bytes").whole(), seconds, kernels)


# -- grouping ---------------------------------------------------------------------------------
@dataclass
class Group:
    """Launches that share a name."""

    name: str
    launches: int = 0
    flops: int = 0
    nbytes: int = 0
    kernels: set[str] = field(default_factory=set)


LABEL = re.compile(r"_[0-9a-f]{8}$")


def by_label(s: Summary, env: Mapping[str, int]) -> list[Group]:
    """Launches per kind of kernel (its name without the digest), most bytes first."""
    groups: dict[str, Group] = {}
    for step, (flops, nbytes) in zip(s.steps, s.costs(env), strict=True):
        name = f"eager {step.kernel}" if step.island else LABEL.sub("", step.kernel)
        g = groups.setdefault(name, Group(name))
        g.launches += 1
        g.flops += flops
        g.nbytes += nbytes
        g.kernels.add(step.kernel)
    return sorted(groups.values(), key=lambda g: (-g.nbytes, -g.flops, g.name))


def number(x: float, unit: str = "", base: int = 1000) -> str:
    """A number with three digits and a prefix: 1.23 GB."""
    for prefix in ("", "k" if base == 1000 else "Ki", *("MGTP" if base == 1000 else ())):
        if abs(x) < base or prefix == "P":
            break
        x /= base
    text = f"{x:.3g}" if x < 1000 else f"{x:.0f}"
    return f"{text} {prefix}{unit}".rstrip()


# -- printing ---------------------------------------------------------------------------------
def report(exe: Executable) -> str:
    """A few lines: launches, cost and memory at the hinted sizes, islands, seconds."""
    s, program = summary(exe), exe.executor.program
    return "\n".join(lines_of(s, program)) + "\n"


def _launches(s: Summary, launches: int, kernels: int) -> str:
    if not s.kernels:
        return f"{launches} of {kernels} kernels"
    names = len({k.name for k in s.kernels})
    return f"{len(s.kernels)} of {names} kernels, which run {launches} phases"


def lines_of(s: Summary, program: Program) -> list[str]:
    env = program.hints()
    groups = by_label(s, env)
    islands = [x for x in s.steps if x.island]
    launches = len(s.steps) - len(islands)
    kernels = len({x.kernel for x in s.steps if not x.island})
    flops, nbytes = sum(g.flops for g in groups), sum(g.nbytes for g in groups)
    caps = program.capacity(env)
    _, arena = program.offsets(caps)
    sizes = ", ".join(f"{k}={v}" for k, v in env.items())
    out = [
        f"target     {s.target}",
        f"launches   {_launches(s, launches, kernels)}" + (f", at {sizes}" if sizes else ""),
        f"work       {number(flops, 'flop')}, {number(nbytes, 'B')} moved",
        f"weights    {number(s.weight_bytes, 'B')} packed",
        f"arena      {number(arena, 'B')}; at least {number(program.live_bytes(caps), 'B')} live",
    ]
    if program.symbols:
        ranges = ", ".join(f"{k} {r.lo}..{r.hi}" for k, r in program.symbols.items())
        out.append(f"symbols    {ranges}")
    names = ", ".join(f"{x.kernel} ({x.origin})" if x.origin else x.kernel for x in islands)
    out.append(f"islands    {names or 'none'}")
    if saved := s.saved(env):
        each = " + ".join(f"{saved.count(x)} x {number(x, 'B')}" for x in sorted({*saved}))
        out.append(f"experts    no copy of the tokens per expert: {each} saved a step")
    if smaller := [x.smaller for x in s.steps if x.op == "moe_experts_int8"]:
        out.append(
            f"quantised  {len(smaller)} x routed experts: weights and their inputs in int8, "
            f"{number(sum(smaller), 'B')} less"
        )
    if s.seconds:
        stages = ", ".join(f"{k} {v:.2f} s" for k, v in s.seconds.items())
        out.append(f"compiled   {stages}")
    width = max((len(g.name) for g in groups), default=0)
    out.append("")
    for g in groups:
        share = 100 * g.nbytes / nbytes if nbytes else 0.0
        out.append(
            f"{g.name:{width}}  {g.launches:5d} x  {number(g.flops, 'flop'):>12}  "
            f"{number(g.nbytes, 'B'):>9}  {share:5.1f} % of bytes"
        )
    return out
