"""The CPU target: instruction-set levels, weight packing, and how emitted sources are built."""

from __future__ import annotations

import ctypes
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from xcompile.errors import ArtifactError, XCompileError
from xcompile.progress import step
from xcompile.targets import ROOT, Builder, Stored, Target

if TYPE_CHECKING:
    from xcompile.compiler import Compiled
    from xcompile.ir import Graph, Value
    from xcompile.layout import Layout
    from xcompile.manifest import Reader
    from xcompile.plan import Plan
    from xcompile.runtime.executor import Library

PANEL = 32  # columns of a packed weight panel

_V4 = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "f16c", "bmi2"]

_DOTS = ["-mavx512bf16", "-mavx512vnni"]  # every CPU with the first has the second

# level -> (compiler flags, /proc/cpuinfo features it needs), best first
LEVELS: dict[str, tuple[list[str], list[str]]] = {
    "amx": (
        ["-march=x86-64-v4", *_DOTS, "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
        [*_V4, "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8"],
    ),
    "avx512bf16": (["-march=x86-64-v4", *_DOTS], [*_V4, "avx512_bf16", "avx512_vnni"]),
    "avx512": (["-march=x86-64-v4"], _V4),
    "avx2": (["-march=x86-64-v3"], ["avx2", "fma", "f16c", "bmi2"]),
    "portable": ([], []),
}

FLAGS = ["-std=c++17", "-fPIC", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math",
         "-ffp-contract=fast", "-fno-gnu-unique", "-Wall", "-Wextra", "-Wno-psabi"]  # fmt: skip

# How the names of sources begin that want -O3: loops for the compiler to vectorise, and two that
# were slower without. The rest of the library is written in vectors, and as fast at -O2.
HOT = ("kernels", "attention_dot", "route")


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

    library = "libstep.so"
    chooses_mla = True

    def facts(self) -> dict[str, Any]:
        machine, features = platform.machine(), LEVELS[self.isa][1]
        return {"name": self.name, "isa": self.isa, "machine": machine, "features": features}

    def prepare(self) -> None:
        from xcompile.hostcc import compiler

        compiler()

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

    def restore(self, stored: Stored, threads: int | None) -> Any:
        """XC_WEIGHTS=mmap: see artifact.load."""
        from xcompile.runtime.executor import Executor, Weights
        from xcompile.runtime.program import ALIGN

        path = stored.path / self.library
        library = _private(path)
        if _program(library) != stored.fingerprint:
            raise ArtifactError(f"{path} was built for another program than the manifest says")
        mapped = os.environ.get("XC_WEIGHTS") == "mmap"
        # A file that another program wrote may be unaligned, which aligned loads must not meet.
        aligned = all(t.data_ptr() % ALIGN == 0 for t in stored.tensors if t.numel())
        keep = Weights.mapped if mapped and aligned else Weights.copied
        return Executor(stored.program, library, keep(stored.tensors), threads)


def _private(path: Path) -> Library:
    """From a private copy: dlopen goes by name, and would give back the library that was loaded
    from this path before the artifact was replaced."""
    from xcompile.compiler import load_library

    try:
        return load_library(path.read_bytes())
    except (OSError, AttributeError) as e:
        raise ArtifactError(f"{path} cannot be loaded: {e}") from None


def _program(library: Library) -> str:
    """The fingerprint of the program that a library was built for."""
    try:
        f = library.handle.xc_program
    except AttributeError:
        return ""
    f.restype = ctypes.c_char_p
    return (f() or b"").decode("ascii", "replace")


def cpu(isa: str = "auto") -> Cpu:
    """The CPU target at an instruction-set level. Raises XCompileError for an unknown level."""
    isa = best_isa() if isa == "auto" else isa
    if isa not in LEVELS:
        raise XCompileError(f"unknown CPU level {isa!r}; choose auto, {', '.join(LEVELS)}")
    return Cpu("cpu", isa, ROOT / "templates" / "cpu")


def stored_cpu(r: Reader) -> Cpu:
    """The target of an artifact. Raises ArtifactError unless this machine has what the library
    was compiled for: otherwise it dies by SIGILL."""
    isa = r.get("isa").text(limit=64)
    if isa not in LEVELS:
        raise ArtifactError(f"{r.where}: built for cpu/{isa}, this xcompile runs cpu/LEVEL")
    machine, here = r.get("machine").text(limit=64), platform.machine()
    if machine != here:
        raise ArtifactError(f"{r.where}: built for {machine} machines, this one is {here}")
    features = {*LEVELS[isa][1], *(x.text(limit=64) for x in r.get("features").each())}
    if missing := sorted(features - cpu_features()):
        fits = next(x for x in LEVELS if not set(LEVELS[x][1]) - cpu_features())
        raise ArtifactError(
            f"{r.where}: built for cpu/{isa}; this CPU lacks {', '.join(missing)}. Compile with "
            f"--target cpu/{fits} (cpu/portable runs everywhere)"
        )
    return cpu(isa)


# -- weight packing: the layouts that templates/cpu/lib/gemm.hpp documents ------------------
def raw(w: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    return w.contiguous() if out is None else out.copy_(w)


def panels(*weights: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """w[..., N, K] -> fp32 [..., N/32, K, 32], bf16 [..., N/32, Kp/2, 32, 2] or int8
    [..., N/32, Kp/4, 32, 4], zero padded to 64 bytes of K.

    Of two weights, gate and up, a panel holds 16 rows each. `out` is written, if it is given;
    weights that need no padding then go there without a copy in between.
    """
    width = PANEL // len(weights)
    *lead, n, k = weights[0].shape
    unit = 4 // weights[0].dtype.itemsize  # elements that move as one word
    wide = unit == 1
    pad = (0, 0 if wide else -k % (16 * unit), 0, -n % width)
    shape = [*lead, -(-n // width), k + pad[1], PANEL]
    if not wide:
        shape[-2:] = [shape[-2] // unit, PANEL, unit]
    if out is None:
        out = weights[0].new_empty(shape)
    units = out if wide else out.view(torch.int32)[..., 0]
    for part, w in zip(units.split(width, -1), weights, strict=True):
        if any(pad):
            w = F.pad(w, pad)
        if not wide:
            w = (w if _holds_words(w) else w.contiguous()).view(torch.int32)
        part.copy_(w.unflatten(-2, (-1, width)).transpose(-1, -2))
    return out


def _holds_words(w: torch.Tensor) -> bool:
    """Whether a tensor of smaller values can be viewed as one of 32-bit words."""
    *outer, last = w.stride()
    unit = 4 // w.dtype.itemsize
    return last == 1 and not any(s % unit for s in (w.storage_offset(), *outer))


def scales(w: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """One number for each channel, [E, N], in the order of the channels' panels."""
    return panels(w[..., None], out=out)


PACK: dict[str, Callable[..., torch.Tensor]] = {
    "raw": raw,
    "panels": panels,
    "panels_gated": panels,
    "experts": panels,
    "experts_gated": lambda w, out=None: panels(*w.chunk(2, dim=-2), out=out),
    "scales": scales,
    "scales_gated": lambda w, out=None: panels(*w[..., None].chunk(2, dim=-2), out=out),
}
