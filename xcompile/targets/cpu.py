"""The CPU target: instruction-set levels, weight packing, and how emitted sources are built."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from xcompile.errors import XCompileError
from xcompile.progress import step
from xcompile.targets import ROOT, Builder, Target

if TYPE_CHECKING:
    from xcompile.compiler import Compiled
    from xcompile.ir import Graph, Value
    from xcompile.layout import Layout
    from xcompile.plan import Plan

PANEL = 32  # columns of a packed weight panel

_V4 = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "f16c", "bmi2"]

# level -> (compiler flags, /proc/cpuinfo features it needs), best first
LEVELS: dict[str, tuple[list[str], list[str]]] = {
    "amx": (
        ["-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
        [*_V4, "avx512_bf16", "amx_tile", "amx_bf16"],
    ),
    "avx512bf16": (["-march=x86-64-v4", "-mavx512bf16"], [*_V4, "avx512_bf16"]),
    "avx512": (["-march=x86-64-v4"], _V4),
    "avx2": (["-march=x86-64-v3"], ["avx2", "fma", "f16c", "bmi2"]),
    "portable": ([], []),
}

FLAGS = ["-std=c++17", "-fPIC", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math",
         "-ffp-contract=fast", "-fno-gnu-unique", "-Wall", "-Wextra", "-Wno-psabi"]  # fmt: skip

# How the names of sources begin that want -O3: loops for the compiler to vectorise, and one file
# that was slower without. The rest of the library is written in vectors, and as fast at -O2.
HOT = ("kernels", "attention_dot")


@cache
def cpu_features() -> frozenset[str]:
    """Feature flags of this machine's CPU, as Linux names them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def missing_features(isa: str) -> list[str]:
    """Features that a build for `isa` needs and this CPU lacks."""
    return [f for f in LEVELS[isa][1] if f not in cpu_features()]


@cache
def best_isa() -> str:
    if platform.machine() not in ("x86_64", "AMD64"):
        return "portable"
    return next(level for level in LEVELS if not missing_features(level))


@dataclass(frozen=True)
class Cpu(Target):
    """The whole graph in one shared library, run by one thread team."""

    def builder(self, graph: Graph, layouts: dict[Value, Layout]) -> Builder:
        from xcompile.codegen.kernels import KernelBuilder

        return KernelBuilder(self, graph, layouts)

    def emit(self, plan: Plan) -> dict[str, str]:
        from xcompile.codegen.sources import emit

        return emit(plan, self)

    def build(self, sources: Mapping[str, str]) -> bytes:
        from xcompile.build import build

        with tempfile.TemporaryDirectory() as tmp, step("g++") as progress:
            root = Path(tmp)
            for name, text in sources.items():
                (root / name).write_text(text)
            units = sorted(p for p in root.iterdir() if p.suffix == ".cpp")
            return build(self, units, root, progress=progress)

    def pack(
        self, kind: str, weights: Sequence[torch.Tensor], out: torch.Tensor | None = None
    ) -> torch.Tensor:
        return PACK[kind](*weights, out=out)

    def executor(self, compiled: Compiled, threads: int | None) -> Any:
        from xcompile.compiler import load_library
        from xcompile.manifest import packed_type
        from xcompile.runtime.executor import Executor, Weights

        types = [packed_type(x, self) for x in compiled.plan.consts]
        weights = Weights.filled(types, compiled.pack)
        library = load_library(compiled.library)
        return Executor(compiled.plan.program(), library, weights, threads)


def cpu(isa: str = "auto") -> Cpu:
    """The CPU target at an instruction-set level. Raises XCompileError for an unknown level."""
    isa = best_isa() if isa == "auto" else isa
    if isa not in LEVELS:
        raise XCompileError(f"unknown CPU level {isa!r}; choose auto, {', '.join(LEVELS)}")
    return Cpu("cpu", isa, ROOT / "templates" / "cpu")


# -- weight packing: the layouts that templates/cpu/lib/gemm.hpp documents ------------------
def raw(w: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    return w.contiguous() if out is None else out.copy_(w)


def panels(*weights: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """w[..., N, K] -> fp32 [..., N/32, K, 32] or bf16 [..., N/32, Kp/2, 32, 2], zero padded.

    Of two weights, gate and up, a panel holds 16 rows each. `out` is written, if it is given;
    weights that need no padding then go there without a copy in between.
    """
    width = PANEL // len(weights)
    *lead, n, k = weights[0].shape
    wide = weights[0].dtype.itemsize == 4
    pad = (0, 0 if wide else -k % 32, 0, -n % width)
    shape = [*lead, -(-n // width), k + pad[1], PANEL]
    if not wide:
        shape[-2:] = [shape[-2] // 2, PANEL, 2]
    if out is None:
        out = weights[0].new_empty(shape)
    units = out if wide else out.view(torch.int32)[..., 0]  # a bf16 pair moves as one word
    for part, w in zip(units.split(width, -1), weights, strict=True):
        if any(pad):
            w = F.pad(w, pad)
        if not wide:
            w = (w if _holds_pairs(w) else w.contiguous()).view(torch.int32)
        part.copy_(w.unflatten(-2, (-1, width)).transpose(-1, -2))
    return out


def _holds_pairs(w: torch.Tensor) -> bool:
    """Whether a tensor of 16-bit values can be viewed as one of 32-bit words."""
    *outer, last = w.stride()
    return last == 1 and not any(s % 2 for s in (w.storage_offset(), *outer))


PACK: dict[str, Callable[..., torch.Tensor]] = {
    "raw": raw,
    "panels": panels,
    "panels_gated": panels,
    "experts": panels,
    "experts_gated": lambda w, out=None: panels(*w.chunk(2, dim=-2), out=out),
}
