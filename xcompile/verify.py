"""`xcompile verify`: every kernel phase of an artifact against the reference of its node.

Each distinct phase is launched alone, from the artifact's own sources, with all checks of the
simulator on, over sizes, seeds and extreme values. The bar: the largest, the root-mean-square and
the largest relative error against float64 are at most 1.25 times those of the reference in the
node's own dtype, plus a few units in the last place. Nothing beside the results may change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xcompile import artifact, tensorfile
from xcompile.codegen.ascend.sources import Group, alone
from xcompile.codegen.lower import lower
from xcompile.errors import ArtifactError, BuildError, XCompileError
from xcompile.ir import Graph, Value, evaluate_node
from xcompile.manifest import constants
from xcompile.plan import Launch, Packed, Plan
from xcompile.report import Step
from xcompile.runtime.program import Arg
from xcompile.sim.library import chip_name
from xcompile.symbolic import evaluate
from xcompile.targets.ascend import CHIPS, Ascend
from xcompile.text import parse
from xcompile.verify_bar import Verdict, compare, exact
from xcompile.verify_inputs import Case, Feed, cases

PER_SOURCE = 8  # phases that are compiled together
ENOUGH = 4  # failures, after which a phase is not run any more
GARBAGE = 0xFF  # NaN in every float type


# -- what is verified -----------------------------------------------------------------------------
@dataclass
class Subject:
    """A phase, one launch that uses it, and a kernel of that launch alone."""

    launch: Launch
    sources: tuple[Any, ...]  # what its arguments are: values, constants, bytes of workspace
    group: Group
    kernel: Any = None  # a callable of the simulator
    broken: str = ""  # why there is none


class Verifier:
    """An artifact whose phases can be run one by one. Raises ArtifactError and XCompileError."""

    def __init__(self, path: Path, chip: str | None = None) -> None:
        self.artifact = artifact.read(path, edited=True)
        target = self.artifact.target
        if not isinstance(target, Ascend):
            raise XCompileError(f"{path} was compiled for {target}; verify is for ascend artifacts")
        self.target, self.chip = target, chip_name(chip or target.chip.part)
        graph = _graph(path / "graph.xir")
        self.plan: Plan = lower(graph, target)
        steps: list[Step] = artifact.read_summary(path).steps
        if [x.kernel for x in self.plan.launches] != [s.kernel for s in steps]:
            raise XCompileError(
                f"{path} was emitted by another version of xcompile: its graph becomes other "
                "kernels here; compile the model again"
            )
        names = [f.removeprefix("src/") for f in self.artifact.files if f.startswith("src/")]
        self.texts = {n: _text(path / "src" / n) for n in names}
        # By place, not by name: the graph's text may spell names otherwise.
        self.consts = list(tensorfile.read(path / artifact.WEIGHTS).values())
        wanted = [(t.dtype, t.shape) for t in constants(self.plan).values()]
        if [(t.dtype, tuple(t.shape)) for t in self.consts] != wanted:
            raise ArtifactError(f"{path / artifact.WEIGHTS} does not hold the graph's constants")
        self.subjects = list(self._subjects())

    def _subjects(self) -> Iterator[Subject]:
        """One launch of each phase, and of each way in which its operands share memory."""
        builder = self.target.builder(self.plan.graph, self.plan.layouts)
        seen: set[tuple] = set()
        for x in self.plan.launches:
            places: dict[tuple[str, int], int] = {}
            key = [x.kernel]
            for a in x.args:
                k = places.setdefault(self.place(a), len(places))
                key.append(f"{k}+{a.offset}")
            if tuple(key) not in seen:
                seen.add(tuple(key))
                group = alone(self.plan, self.target, x)
                yield Subject(x, tuple(builder.build(x.node).args), group)

    def place(self, a: Arg) -> tuple[str, int]:
        """The memory that an argument lies in; a buffer in place of another is that one."""
        index = a.index
        while a.space == "arena" and (up := self.plan.buffers[index].shares) is not None:
            index = up
        return a.space, index

    def build(self, subjects: Sequence[Subject], progress: Callable[[int, int], None]) -> None:
        """Compile the kernels, several to a source; a source that fails is taken apart."""
        todo = [list(subjects[k : k + PER_SOURCE]) for k in range(0, len(subjects), PER_SOURCE)]
        done = 0
        while todo:
            part = todo.pop(0)
            try:
                self._build(part)
            except BuildError as e:
                if len(part) > 1:
                    todo += [[s] for s in part]
                    continue
                part[0].broken = str(e)
            done += len(part)
            progress(done, len(subjects))

    def _build(self, part: Sequence[Subject]) -> None:
        from xcompile.hostcc import cache_dir
        from xcompile.runtime.ascend_link import simulator_link, write_sources
        from xcompile.sim.library import digest
        from xcompile.sim.loader import Kernel, Options, open_module

        text = "".join(dict.fromkeys(s.group.source for s in part))
        headers = {n: t for n, t in self.texts.items() if n.endswith(".h")}
        root = cache_dir() / "sim" / "verify" / digest(text, *headers, *headers.values())[:24]
        write_sources({**headers, "kernels/verify.asc": text}, root)
        module = open_module(simulator_link([root / "kernels" / "verify.asc"], self.chip))
        for s in part:
            options = Options(self.chip, "all")
            name = module.find(s.group.name)
            s.kernel = Kernel(module, name, options, self.cores(s.group.unit), check=False)

    def cores(self, unit: str) -> int:
        mine = self.target.chip
        chip = next((c for c in CHIPS.values() if chip_name(c.part) == self.chip), mine)
        return min(chip.aiv, mine.aiv) if unit == "vector" else min(chip.aic, mine.aic)

    # -- running ------------------------------------------------------------------------------
    def verify(
        self, s: Subject, seeds: int, rounds: int, tick: Callable[[], None] = lambda: None
    ) -> Verdict:
        """All cases of one phase."""
        n = s.launch.node
        kinds = ", ".join(str(v.type) for v in n.outputs)
        name = n.op.name if n.body is None else "+".join(m.op.name for m in n.body.nodes)
        verdict = Verdict(s.launch.kernel, f"{name} -> {kinds}")
        if s.kernel is None:
            verdict.failures.append(s.broken)
            return verdict
        for case in cases(s.launch, self.plan.graph.symbols, seeds, rounds):
            if len(verdict.failures) < ENOUGH:
                self.run(s, case, verdict)
            tick()
        return verdict

    def run(self, s: Subject, case: Case, verdict: Verdict) -> None:
        image = Image(self, s, case)
        n = s.launch.node
        with torch.no_grad():
            given = [image.operand(k) for k in range(len(n.inputs))]
            eager = evaluate_node(n, given, case.env)
            fine = exact(n, given, case.env)
            result = s.kernel(image.sizes, *image.arguments(), blocks=case.blocks, seed=case.seed)
            if not verdict.cases:
                verdict.microseconds = result.microseconds
            problems = [str(e) for e in result.errors]
            if not problems:
                got = [image.window(v) for v in n.outputs]
                depth = max((t.shape[-1] for t in given if t.dim()), default=1)
                problems = compare(n, got, eager, fine, depth, verdict)
                problems += image.strays()
        verdict.cases += 1
        if problems:
            verdict.failures.append(f"{case}: {problems[0]}")


class Image:
    """Memory of one launch: every buffer that its operands lie in, as the program has it."""

    def __init__(self, v: Verifier, s: Subject, case: Case) -> None:
        self.v, self.s, self.case, self.env = v, s, case, case.env
        self.feed = Feed(s.launch.node, case)
        self.sizes = torch.tensor([case.env[x] for x in v.plan.symbols] or [0])
        self.blocks: dict[tuple[str, int], torch.Tensor] = {}
        self.at: dict[Value, tuple[tuple[str, int], int]] = {}  # operand -> memory, first byte
        self.packed: dict[Value, torch.Tensor] = {}
        n = s.launch.node
        for source, a in zip(s.sources, s.launch.args, strict=True):
            key = v.place(a)
            if key not in self.blocks:
                nbytes = self._nbytes(a)
                self.blocks[key] = torch.full((nbytes,), GARBAGE, dtype=torch.uint8)
            if isinstance(source, Value):
                self.at[source] = key, evaluate(a.offset, self.env)
        for k, held in n.op.alias.items():
            self.at.setdefault(n.outputs[k], self.at[n.inputs[held]])
        for source, a in zip(s.sources, s.launch.args, strict=True):
            if isinstance(source, Packed):
                self._pack(source, self.blocks[v.place(a)])
        for k, x in enumerate(n.inputs):
            if x in self.at:
                self.window(x).copy_(self._value(k, x))
        self.before = {k: t.clone() for k, t in self.blocks.items()}

    def _nbytes(self, a: Arg) -> int:
        program, plan = self.v.plan.program(), self.v.plan
        if a.space == "arena":
            return evaluate(plan.buffers[a.index].nbytes, self.env)
        if a.space == "const":
            return self.v.consts[a.index].nbytes
        spec = (program.inputs if a.space == "input" else program.outputs)[a.index]
        return evaluate(spec.type.nbytes, self.env)

    def _value(self, k: int, x: Value) -> torch.Tensor:
        """Operand k; constants as the artifact has them in every second case, and always where
        random ones would mean nothing: integers and single numbers."""
        key, first = self.at[x]
        real = self.v.consts[key[1]] if key[0] == "const" else None
        if real is None or (
            x.dtype.is_floating_point and self.case.data % 2 and math.prod(x.shape) > 1
        ):
            return self.feed(k)
        lay = self.v.plan.layouts[x]
        steps = [evaluate(d, self.env) for d in lay.strides]
        return torch.as_strided(real.view(-1), self.feed.sizes[k], steps, first // x.dtype.itemsize)

    def _pack(self, c: Packed, block: torch.Tensor) -> None:
        for w in c.values:
            self.packed[w] = self.feed.weight(w)
        made = self.v.target.pack(c.kind, [self.packed[w] for w in c.values])
        block.copy_(made.contiguous().view(-1).view(torch.uint8))

    def window(self, x: Value) -> torch.Tensor:
        """An operand where it lies."""
        key, first = self.at[x]
        shape = self.feed.shape(x.type)
        if not math.prod(shape):
            return torch.empty(shape, dtype=x.dtype)
        steps = [evaluate(d, self.env) for d in self.v.plan.layouts[x].strides]
        whole = self.blocks[key]
        usable = whole[: whole.numel() // x.dtype.itemsize * x.dtype.itemsize].view(x.dtype)
        return torch.as_strided(usable, shape, steps, first // x.dtype.itemsize)

    def operand(self, k: int) -> torch.Tensor:
        """A copy of operand k, before the launch."""
        x = self.s.launch.node.inputs[k]
        if x in self.at:
            return self.window(x).clone(memory_format=torch.contiguous_format)
        return self.packed[x]

    def arguments(self) -> list[torch.Tensor]:
        return [self.blocks[self.v.place(a)] for a in self.s.group.pointers]

    def strays(self) -> list[str]:
        """Bytes that changed though no result lies there; workspace may."""
        scratch = {
            self.v.place(a)
            for source, a in zip(self.s.sources, self.s.launch.args, strict=True)
            if not isinstance(source, Value | Packed)
        }
        after = {k: t.clone() for k, t in self.blocks.items()}
        for x in self.s.launch.node.outputs:
            key, _ = self.at[x]
            then = self.blocks[key]
            self.blocks[key] = self.before[key]
            old = self.window(x).clone()
            self.blocks[key] = then
            self.window(x).copy_(old)
        out = []
        for key, t in self.blocks.items():
            if key not in scratch and not torch.equal(t, self.before[key]):
                where = (t != self.before[key]).nonzero()
                place = f"{key[0]} {key[1]}, byte {int(where[0])}"
                out.append(f"{len(where)} bytes beside the results were overwritten ({place})")
            self.blocks[key] = after[key]
        return out


def _graph(path: Path) -> Graph:
    try:
        return parse(_text(path))
    except XCompileError as e:
        raise ArtifactError(f"{path}: {e}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise XCompileError(f"{path}: {e}") from None
