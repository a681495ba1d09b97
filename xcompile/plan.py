"""What will run: launches in order, and where every byte lives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xcompile.ir import Graph, Node, Value
from xcompile.layout import Layout
from xcompile.runtime.program import Arg, Buffer, Island, Program, TensorSpec
from xcompile.symbolic import Dim, dim_str, simplify
from xcompile.targets import Target


@dataclass(frozen=True)
class Packed:
    """A constant as a kernel wants it: the values it is made of and the packing's name."""

    kind: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        base = "+".join(v.name for v in self.values)
        return base if self.kind == "raw" else f"{base}:{self.kind}"


Source = Value | Packed | Dim  # a kernel's operand: a value, a constant, bytes of workspace


@dataclass(frozen=True)
class Launch:
    """One kernel call. `segment` counts the eager islands before it, `stage` what it has to wait
    for: kernels of one stage do not depend on each other."""

    kernel: str
    args: tuple[Arg, ...]
    node: Node
    segment: int
    flops: Dim
    nbytes: Dim
    stage: int
    unit: str


@dataclass
class Plan:
    """A compiled step: graph, launches, memory, constants, and the sources of its kernels."""

    graph: Graph
    layouts: dict[Value, Layout]
    symbols: list[str]
    target: Target
    launches: list[Launch] = field(default_factory=list)
    islands: list[Island] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    consts: list[Packed] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)  # name -> C++ source
    stages: int = 0

    def program(self) -> Program:
        """What the runtime needs to know."""
        g = self.graph
        results = [TensorSpec(v.name or f"output{k}", v.type) for k, v in enumerate(g.outputs)]
        return Program(
            inputs=[TensorSpec(v.name, v.type) for v in g.inputs],
            outputs=[r for k, r in enumerate(results) if k not in g.state],
            state=sorted(set(g.state.values())),
            symbols={s: g.symbols[s] for s in self.symbols},
            buffers=self.buffers,
            consts=[c.name for c in self.consts],
            islands=self.islands,
            steps=self.stages,
        )

    def text(self, env: Mapping[str, int] | None = None) -> str:
        """plan.txt: launches, then memory at the given (default: hinted) sizes."""
        program = self.program()
        caps = program.capacity(env or program.hints())
        offsets, peak = program.offsets(caps)
        made = self.target.kernels(self)
        what = "phases" if made else "kernels"
        lines = [f"# {len(self.launches)} launches of {len(self.kernels)} {what}"]
        if made:
            lines += self._kernels(made)
        for i, x in enumerate(self.launches):
            args = ", ".join(
                f"{a.space}[{a.index}]" + (f"+{dim_str(a.offset)}" if a.offset != 0 else "")
                for a in x.args
            )
            flops, nbytes = dim_str(simplify(x.flops)), dim_str(simplify(x.nbytes))
            where = f"  # {x.node.origin}" if x.node.origin else ""
            place = f"stage {x.stage:3d} {x.unit:6} " if made else ""
            lines.append(f"{i:4d} {place}{x.kernel}({args})  flops={flops} bytes={nbytes}{where}")
        lines += [f"eager island: {i.target}  # {i.origin}" for i in self.islands]
        sizes = ", ".join(f"{s}={n}" for s, n in caps.items()) or "static shapes"
        bound = program.live_bytes(caps)
        lines += ["", f"# arena at {sizes}: {peak} bytes; lower bound of live bytes {bound}"]
        for i, b in enumerate(self.buffers):
            share = f" in place of {b.shares}" if b.shares is not None else ""
            lines.append(
                f"{i:4d} offset {offsets[i]:10d} size {b.size(caps):10d} "
                f"live {b.first}..{b.last} {b.name}{share}"
            )
        lines += [f"const {i:4d} {c.name}" for i, c in enumerate(self.consts)]
        return "\n".join(lines) + "\n"

    def _kernels(self, made: Sequence[tuple[str, str, list[Launch]]]) -> list[str]:
        """How launches share kernels: a line for each kernel, in the order in which they run."""
        number = {id(x): i for i, x in enumerate(self.launches)}
        layers = per_layer([[x.node.origin for x in launches] for _, _, launches in made])
        counts = ", ".join(f"{name} {n}" for name, n in layers.items()) or "no layers"
        lines = [f"# {len(made)} kernel launches a step, {self.stages} stages; by layer: {counts}"]
        for k, (name, unit, launches) in enumerate(made):
            stages = sorted({x.stage for x in launches})
            span = f"{stages[0]}" if len(stages) == 1 else f"{stages[0]} to {stages[-1]}"
            phases = " ".join(str(number[id(x)]) for x in launches)
            lines.append(f"kernel {k:4d} {unit:6} {name}: stage {span}, launches {phases}")
        return [*lines, ""]


def layer_of(origin: str) -> str:
    """``model.layers.3.mlp.gate`` -> ``model.layers.3``; "" outside of any layer."""
    parts = origin.split(".")
    for k, p in enumerate(parts):
        if p.isdecimal():
            return ".".join(parts[: k + 1])
    return ""


def per_layer(kernels: Iterable[Iterable[str]]) -> dict[str, int]:
    """Layer -> kernels that do some of its work, given the origins of each kernel's launches."""
    counts: dict[str, int] = {}
    for origins in kernels:
        for layer in dict.fromkeys(map(layer_of, origins)):
            if layer:
                counts[layer] = counts.get(layer, 0) + 1
    return counts
