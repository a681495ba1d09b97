"""What a target is: limits, templates, how its sources become something callable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

if TYPE_CHECKING:
    from xcompile.compiler import Compiled
    from xcompile.ir import Graph, Node, Value
    from xcompile.layout import Layout
    from xcompile.plan import Launch, Plan, Source
    from xcompile.runtime.program import Program

ROOT = Path(__file__).resolve().parent.parent


class Kernel(Protocol):
    """The code of one node, and the operands that it takes, in order."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def args(self) -> tuple[Source, ...]: ...
    @property
    def unit(self) -> str:
        """The cores it runs on, where a target has several kinds."""


class Builder(Protocol):
    """Makes the kernels of one graph; `symbols` in the order in which kernels see them."""

    symbols: list[str]

    def build(self, n: Node) -> Kernel: ...


@dataclass(frozen=True)
class Stored:
    """A verified artifact, as a target's `restore` takes it.

    tensors      packed constants, in the program's order; views of the mapped file
    fingerprint  what the step's `xc_program` must say
    sources      names of the files in src/
    """

    path: Path
    program: Program
    tensors: list[torch.Tensor]
    fingerprint: str
    sources: list[str]


@dataclass(frozen=True)
class Target(ABC):
    """A place to run. `isa` is the instruction-set level or chip that the build is for."""

    name: str
    isa: str
    template_path: Path

    # Whether kernels that do not depend on each other may run at the same time.
    concurrent = False
    # Whether attention over latents chooses the form of each request: op mla_attention.
    chooses_mla = False
    # The library's file name in an artifact; None if it is built where it runs.
    library: ClassVar[str | None] = None

    def __str__(self) -> str:
        """What `make_target` makes this target of."""
        return f"{self.name}/{self.isa}"

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What an artifact's manifest says of the target; see `compiler.read_target`."""

    @abstractmethod
    def prepare(self) -> None:
        """Raises BuildError when something is missing that compiling for this target needs."""

    @abstractmethod
    def builder(self, graph: Graph, layouts: dict[Value, Layout]) -> Builder: ...

    @abstractmethod
    def emit(self, plan: Plan) -> dict[str, str]:
        """File name -> text. Identical plans give identical text."""

    def kernels(self, plan: Plan) -> list[tuple[str, str, list[Launch]]]:
        """Name, cores and launches of each kernel, in the order in which they run; empty where
        every launch is a kernel of its own."""
        return []

    @abstractmethod
    def build(self, sources: Mapping[str, str]) -> bytes:
        """The shared library of emitted sources; empty if it is built where it runs."""

    @abstractmethod
    def pack(
        self, kind: str, weights: Sequence[torch.Tensor], out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Constants as this target's kernels want them, written to `out` if that is given."""

    @abstractmethod
    def executor(self, compiled: Compiled, threads: int | None) -> Any:
        """Runs the compiled step in this process."""

    @abstractmethod
    def restore(self, stored: Stored, threads: int | None) -> Any:
        """Runs an artifact's step. Raises ArtifactError when it is another program's."""
