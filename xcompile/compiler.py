"""The one road from a model to an Executable; every door goes through `compile_graph`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from xcompile.codegen.lower import lower
from xcompile.dump import Dumper
from xcompile.errors import ArtifactError, UnsupportedError, XCompileError
from xcompile.frontend.fx import Imported, islands
from xcompile.ir import Graph
from xcompile.lazy import made
from xcompile.manifest import Reader
from xcompile.passes import QUANTISE, PassRecord, pipeline, run_pipeline
from xcompile.plan import Plan
from xcompile.progress import step
from xcompile.runtime.executor import Library
from xcompile.targets import Target
from xcompile.targets.ascend import CHIPS, ascend, stored_ascend
from xcompile.targets.cpu import cpu, stored_cpu

STORED = {"cpu": stored_cpu, "ascend": stored_ascend}


@dataclass
class Compiled:
    """All that a compilation made. `seconds` per stage."""

    imported: Imported
    graph: Graph
    plan: Plan
    target: Target
    sources: dict[str, str]
    library: bytes
    passes: list[PassRecord]
    quantised: Graph | None = None  # as it was behind the pass that quantised it
    seconds: dict[str, float] = field(default_factory=dict)

    def pack(self, i: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """The packed constant i, in `out` if given. Raises XCompileError without its data."""
        c = self.plan.consts[i]
        tensors = [self.graph.consts[v] for v in c.values]
        if any(t is None for t in tensors):
            raise XCompileError(f"constant {c.name} has no data")
        return self.target.pack(c.kind, [made(t) for t in tensors if t is not None], out)


def make_target(target: str | Target) -> Target:
    """ "cpu", "cpu/avx2" or "ascend910b" (see targets/) as a Target. Raises XCompileError."""
    if isinstance(target, Target):
        return target
    name, _, isa = target.partition("/")
    if name == "cpu":
        return cpu(isa or os.environ.get("XC_ISA", "auto"))
    if name.startswith("ascend"):
        return ascend(target)
    raise XCompileError(f"unknown target {target!r}; targets: cpu, cpu/LEVEL, {', '.join(CHIPS)}")


def read_target(r: Reader) -> Target:
    """The target that an artifact's manifest names. Raises ArtifactError when it is unknown, or
    cannot run here."""
    name = r.get("name").text(limit=64)
    if name not in STORED:
        raise ArtifactError(f"{r.where}: built for {name}, this xcompile knows {', '.join(STORED)}")
    return STORED[name](r)


def compile_graph(
    imported: Imported,
    target: str | Target = "cpu",
    *,
    strict: bool = False,
    quantize: str | None = None,
    examples: Sequence[torch.Tensor] | None = None,
) -> Compiled:
    """Passes, codegen and build of an imported graph.

    strict    refuse eager islands (UnsupportedError names them)
    quantize  a key of passes.QUANTISE
    examples  example inputs, for XC_VERIFY=2
    """
    target = make_target(target)
    names = pipeline(quantize)
    target.prepare()  # fail before the long part
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[name] = now - start
        start = now

    folder = os.environ.get("XC_DUMP")
    dumper = Dumper(Path(folder)) if folder else None
    quantised: Graph | None = None

    def observe(name: str, graph: Graph, seconds: float) -> None:
        nonlocal quantised
        if name in QUANTISE.values():
            quantised = graph
        if dumper:
            dumper.add(name, graph, seconds)

    deep = os.environ.get("XC_VERIFY") == "2"
    with step("passes"):
        graph, records = run_pipeline(
            imported.graph,
            target,
            names=names,
            observe=observe,
            check=examples if deep else None,
        )
    if dumper:
        dumper.close()
    lap("passes")
    imported.islands = islands(graph)  # passes may have taken some into an op of ours
    if strict and imported.islands:
        raise UnsupportedError(
            "strict compilation refuses eager islands: " + ", ".join(imported.islands)
        )
    with step("codegen"):
        plan = lower(graph, target)
        sources = target.emit(plan)
    lap("codegen")
    library = target.build(sources)
    lap("build")
    return Compiled(imported, graph, plan, target, sources, library, records, quantised, seconds)


def load_library(data: bytes) -> Library:
    """dlopen a library from bytes."""
    with tempfile.NamedTemporaryFile(suffix=".so") as f:
        f.write(data)
        f.flush()
        return Library(Path(f.name))


def executor(c: Compiled, threads: int | None = None) -> Any:
    """What runs a compilation in this process."""
    return c.target.executor(c, threads)
