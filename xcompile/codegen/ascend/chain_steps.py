"""A fused group as vector calls on registers: tiles, values a row, rows of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import sympy
import torch

from xcompile.codegen.ascend.chain_space import COLUMN, ROW, TILE, Operand
from xcompile.codegen.ascend.instructions import CASTS
from xcompile.symbolic import Dim

NARROW = {torch.float16: "half", torch.bfloat16: "bfloat16_t"}
BLOCK = "block"  # a value a row, in a block of 32 bytes each
COUNT = {TILE: "n", ROW: "m", COLUMN: "w", BLOCK: "m"}
WIDTH = {"float": 4, "int32_t": 4, "half": 2, "bfloat16_t": 2, "int16_t": 2, "int64_t": 8,
         "uint8_t": 1, "int8_t": 1, "bits": 0}  # fmt: skip


@dataclass(eq=False)
class Reg:
    """What one vector call makes. `place` is fixed for what is loaded and stored; `width` is the
    bytes of an element where they are not those of the type."""

    kind: str
    ctype: str
    name: str
    place: Slot | None = None
    width: int | None = None


@dataclass(eq=False)
class Slot:
    """Bytes of a buffer: `width` for each element of a tile, for each row, or for each column."""

    buffer: str  # the member that holds it
    domain: str
    width: int
    offset: int = 0
    odd: bool = False  # lies in the upper half of 512 bytes: other banks than the even ones


@dataclass(frozen=True, eq=False)
class Scalar:
    """A number known when the kernel starts."""

    value: Dim | float | bool
    dtype: torch.dtype


Item = Reg | Scalar


@dataclass(eq=False)
class Step:
    """One call. `text` names registers as {0}, {1}, ...: the result, the sources, the scratch."""

    text: str
    dst: Reg
    sources: tuple[Reg, ...]
    temps: tuple[Reg, ...] = ()
    alias: bool = False  # the result may lie where a source does
    pair: tuple[Reg, ...] = ()  # sources read at once: better in different banks

    @property
    def regs(self) -> list[Reg]:
        return [self.dst, *self.sources, *self.temps]

    def render(self) -> str:
        return self.text.format(*(r.name for r in self.regs))


@dataclass
class Stage:
    """What happens in one pass over the columns: `before` it, on values a row, then per tile."""

    before: list[Step] = field(default_factory=list)
    tiles: list[Step] = field(default_factory=list)
    loads: list[tuple[Operand, Reg]] = field(default_factory=list)
    accs: list[tuple[int, Reg]] = field(default_factory=list)
    stores: list[tuple[Operand, Reg]] = field(default_factory=list)


def number(x: Scalar, ctype: str, dim: str | None = None) -> str:
    """C++ of a scalar as a register type; `dim` is the text of a symbolic one."""
    if isinstance(x.value, sympy.Expr):
        return f"static_cast<{ctype}>({dim})"
    if ctype == "int32_t":
        v = int(x.value)
        return f"int32_t({v})" if v > -(2**31) else "int32_t(-2147483647 - 1)"
    return literal(float(rounded(x)))


def rounded(x: Scalar) -> float:
    """Its value in its dtype."""
    v = float(x.value)
    if x.dtype.is_floating_point:
        return float(torch.tensor(v, dtype=torch.float64).to(x.dtype))
    return v


def literal(x: float) -> str:
    """A float as C++."""
    if math.isnan(x):
        return "op::nan()"
    if math.isinf(x) or abs(x) > 3.4028234663852886e38:
        return "op::infinity()" if x > 0 else "-op::infinity()"
    return f"{float(torch.tensor(x, dtype=torch.float32))!r}f"


def conversion(src: str, dst: str) -> list[str]:
    """The types that a conversion goes through, `dst` last; empty if they are the same."""
    if src == dst:
        return []
    if (src, dst) in CASTS:
        return [dst]
    via = {
        ("int16_t", "int32_t"): ["float", "int32_t"],
        ("uint8_t", "int32_t"): ["half", "int32_t"],
        ("int8_t", "int32_t"): ["half", "int32_t"],
        ("int32_t", "half"): ["float", "half"],
        ("int32_t", "uint8_t"): ["float", "half", "uint8_t"],
        ("int32_t", "int8_t"): ["float", "half", "int8_t"],
    }
    return via[src, dst]


def cast_text(src: str, dst: str, count: str) -> str:
    mode = CASTS[src, dst]
    return f"op::cast({{0}}, {{1}}, RoundMode::{mode}, {count});"


def names(regs: Sequence[Reg | str]) -> tuple[str, tuple[Reg, ...]]:
    """Arguments as {k} for registers, from {1} on, and as they are for texts."""
    out, found = [], []
    for r in regs:
        if isinstance(r, Reg):
            found.append(r)
            out.append(f"{{{len(found)}}}")
        else:
            out.append(r)
    return ", ".join(out), tuple(found)
