"""The runtime's view of a compiled step: everything but the code and the weights.

An artifact's manifest holds exactly this, so it must stay serialisable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xcompile.ir import Type
from xcompile.symbolic import Dim, Range, evaluate

ALIGN = 64  # bytes; a cache line, and what the kernels' aligned loads need


@dataclass(frozen=True)
class TensorSpec:
    """Name and type of an input or an output."""

    name: str
    type: Type


@dataclass(frozen=True)
class Arg:
    """A pointer: `space` is arena, input, output or const; offset in bytes."""

    space: str
    index: int
    offset: Dim = 0


@dataclass
class Buffer:
    """A slice of the arena: alive from step `first` to step `last`, both included."""

    name: str
    nbytes: Dim
    first: int
    last: int
    shares: int | None = None  # index of the buffer it overwrites in place

    def size(self, env: Mapping[str, int], align: int = ALIGN) -> int:
        return -(-max(evaluate(self.nbytes, env), 1) // align) * align


@dataclass(frozen=True)
class Island:
    """An eager torch call between two compiled segments."""

    target: str
    spec: Any
    args: tuple[Arg, ...]
    arg_types: tuple[Type, ...]
    results: tuple[Arg, ...]
    result_types: tuple[Type, ...]
    after: int  # launches before it
    origin: str


@dataclass
class Program:
    """Inputs, outputs, state, symbols and memory of a compiled step.

    state   indices of inputs that the step updates in place
    consts  names of the packed constants, in the order of the library's table
    steps   launches and islands
    """

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    state: list[int]
    symbols: dict[str, Range]
    buffers: list[Buffer]
    consts: list[str]
    islands: list[Island]
    steps: int

    def hints(self) -> dict[str, int]:
        return {s: r.hint for s, r in self.symbols.items()}

    def capacity(self, env: Mapping[str, int]) -> dict[str, int]:
        """Sizes to plan memory for: each symbol's next power of two, within its range."""
        return {s: min(r.hi, 1 << max(env[s] - 1, 0).bit_length()) for s, r in self.symbols.items()}

    def offsets(self, env: Mapping[str, int], align: int = ALIGN) -> tuple[list[int], int]:
        """Arena offset of every buffer at these sizes, and the arena's size in bytes.

        Greedy by size (Pisarchyk and Lee 2020, arXiv 2001.03288): the largest buffer first, each
        at the lowest offset that no buffer alive at the same time covers. Offsets planned for
        larger symbols stay valid for smaller ones.
        """
        sizes = [b.size(env, align) for b in self.buffers]
        spans = self.spans()
        offsets = [0] * len(sizes)
        placed: list[int] = []
        for i in sorted(spans, key=lambda k: (-sizes[k], k)):
            first, last = spans[i]
            busy = sorted(
                (offsets[j], offsets[j] + sizes[j])
                for j in placed
                if spans[j][0] <= last and first <= spans[j][1]
            )
            at = 0
            for lo, hi in busy:
                if at + sizes[i] <= lo:
                    break
                at = max(at, hi)
            offsets[i] = at
            placed.append(i)
        for i in range(len(sizes)):
            offsets[i] = offsets[self._root(i)]
        return offsets, max((offsets[i] + sizes[i] for i in spans), default=0)

    def live_bytes(self, env: Mapping[str, int]) -> int:
        """Lower bound of any plan: the most bytes alive during one step."""
        spans = self.spans()
        sizes = {i: self.buffers[i].size(env) for i in spans}
        return max(
            (
                sum(sizes[i] for i, (first, last) in spans.items() if first <= k <= last)
                for k in range(self.steps)
            ),
            default=0,
        )

    def _root(self, i: int) -> int:
        while (up := self.buffers[i].shares) is not None:
            i = up
        return i

    def spans(self) -> dict[int, tuple[int, int]]:
        """Lifetimes of the buffers that own memory; sharers extend their owner's."""
        spans: dict[int, tuple[int, int]] = {}
        for i, b in enumerate(self.buffers):
            r = self._root(i)
            first, last = spans.get(r, (b.first, b.last))
            spans[r] = (min(first, b.first), max(last, b.last))
        return spans
