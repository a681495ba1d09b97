"""The CPU target: instruction-set levels, weight packing, and how emitted sources are built."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from xcompile.errors import XCompileError
from xcompile.targets import ROOT, Target

PANEL = 32  # columns of a packed weight panel
GATE = 16  # gate columns in a gated panel, followed by the up columns they meet

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

FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math",
         "-ffp-contract=fast", "-fno-gnu-unique", "-Wall", "-Wextra", "-Wno-psabi"]  # fmt: skip


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


def cpu(isa: str = "auto") -> Target:
    """The CPU target at an instruction-set level. Raises XCompileError for an unknown level."""
    isa = best_isa() if isa == "auto" else isa
    if isa not in LEVELS:
        raise XCompileError(f"unknown CPU level {isa!r}; choose auto, {', '.join(LEVELS)}")
    return Target("cpu", isa, ROOT / "templates" / "cpu")


# -- weight packing: the layouts that templates/cpu/lib/gemm.hpp documents ------------------
def panels(w: torch.Tensor) -> torch.Tensor:
    """w[..., N, K] -> fp32 [..., N/32, K, 32] or bf16 [..., N/32, Kp/2, 32, 2], zero padded."""
    *lead, n, k = w.shape
    wide = w.dtype.itemsize == 4
    w = F.pad(w, (0, 0 if wide else -k % 32, 0, -n % PANEL))
    if wide:
        return w.reshape(*lead, -1, PANEL, k).transpose(-1, -2).contiguous()
    pairs = w.contiguous().view(torch.int32)  # a bf16 pair moves as one word
    pairs = pairs.reshape(*lead, -1, PANEL, w.shape[-1] // 2).transpose(-1, -2).contiguous()
    return pairs.view(torch.bfloat16).unflatten(-1, (PANEL, 2))


def panels_gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Two weights [..., N, K] with their rows interleaved by 16, then packed."""
    pad = (0, 0, 0, -gate.shape[-2] % GATE)
    gate, up = (F.pad(w, pad).unflatten(-2, (-1, 1, GATE)) for w in (gate, up))
    return panels(torch.cat([gate, up], -3).flatten(-4, -2))


PACK: dict[str, Callable[..., torch.Tensor]] = {
    "raw": lambda w: w.contiguous(),
    "panels": panels,
    "panels_gated": panels_gated,
    "experts": panels,
    "experts_gated": lambda w: panels_gated(*w.chunk(2, dim=-2)),
}
