"""Routed experts on Ascend by the cycle model: the fused kernel against separate operations.

    python -m benchmarks.groupgemm_ascend [--inner 128,512] [--sizes 16,64] [--routing uniform]
    python -m benchmarks.groupgemm_ascend --local
    python -m benchmarks.groupgemm_ascend --prefill
    python -m benchmarks.groupgemm_ascend --local --dtype int8

Hidden size 7168, bf16, 910B1; whole gated experts (gate, up, activation, down, weighted sum). The
separate operations (groupgemm_unfused.h) are six launches: sort, copy of the tokens, first product
with an expert to a core in turn, activation, second product, weighted sum. They use the same tiles,
pipeline and sort as the fused kernel, and their launches cost no time here.

Default: sizes are tokens, of DeepSeek-V3's routing: 256 experts, 8 for a token. Of larger inner
sizes fewer experts are simulated, and fewer for a token, so that experts have as many rows as there
(see EXPERTS). --local: sizes are mean rows of an expert, of 8 experts with 2 for a token, as where
V3's are spread over 32 devices. --prefill: 4096 rows for 16 experts. A point takes a minute of CPU
time at most.

--dtype int8: instead of separate operations, the fused kernel of bf16 weights against the one of
int8 weights (W8A8). Where those say `separate`, `fused`, it prints `bf16`, `int8`.

Routings: `uniform` and `zipf` draw different experts for a token; `onehot` sends every row to one
expert. `cut` is the time saved, `xLLM` what it publishes for its grouped product, `possible` what a
kernel would save that takes the least time: in which memory or cubes can do the least work. `least`
is that as a share of the fused kernel's time. `read`, `written`: bytes of device memory against the
least: weights of the experts that have rows, tokens, ids, weights of the sum, results, each once
(what L2 still holds at the end is not written). `copy`: MB of copied tokens written and read back
that the fused kernel does not have.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from xcompile import sim
from xcompile.codegen.ascend.moe_experts import choose, workspace_bytes
from xcompile.codegen.ascend.moe_experts_int8 import workspace_int8
from xcompile.targets.ascend import CHIPS

LIB = Path(__file__).parents[1] / "templates" / "ascend" / "lib"
HIDDEN = 7168
CHIP = CHIPS["ascend910b"]
EXPERTS = {128: 256, 512: 128, 1024: 64, 2048: 32}  # inner size: experts; 32 for each of a token's
TOKENS = (16, 32, 64, 128, 256, 512)
ROUTINGS = ("uniform", "zipf", "onehot")
# Inner size, tokens: microseconds of xLLM's grouped product before and after.
PUBLISHED = {
    (128, 16): (154, 108),
    (512, 16): (369, 302),
    (1024, 16): (720, 563),
    (2048, 16): (1340, 1095),
    (128, 64): (277, 173),
    (512, 64): (816, 626),
    (1024, 64): (1538, 1197),
    (2048, 64): (3245, 2320),
    (128, 256): (336, 236),
    (512, 256): (897, 793),
    (1024, 256): (1768, 1530),
    (2048, 256): (3570, 2820),
}
PEAK = 2 * 16**3  # multiplications and additions a cycle of one cube, 16 bit
SOURCE = """
#include "groupgemm_unfused.h"
using namespace xc;
using First = MoeTile<bfloat16_t, {a.panel}, {a.rows}, true>;
using Second = MoeTile<bfloat16_t, {b.panel}, {b.rows}, false>;
#define ARGUMENTS                                                                             \\
  int64_t x, int64_t expert, int64_t weight, int64_t up, int64_t down, int64_t y, int64_t space, \\
      int64_t n, int64_t k, int64_t e, int64_t h, int64_t i
#define BEGIN                                                  \\
  TPipe pipe;                                                  \\
  Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}}; \\
  const MoeSizes s{{n, k, e, h, i, h}};
#define AT(p) reinterpret_cast<GM_ADDR>(p)

extern "C" __global__ __mix__(1, 2) void fused(ARGUMENTS) {{
  BEGIN
  if ASCEND_IS_AIV {{
    team.count *= 2;
  }}
  moeExperts<First, Second, float, MoeAct::silu>(pipe, team, s, AT(x), AT(expert),
                                                   AT(weight), AT(up), AT(down), AT(y), AT(space));
  PipeBarrier<PIPE_ALL>();
}}
extern "C" __global__ __vector__ void sort_rows(ARGUMENTS) {{
  BEGIN unfused::sortRows<First>(pipe, team, s, AT(expert), AT(space));
}}
extern "C" __global__ __vector__ void copy_rows(ARGUMENTS) {{
  BEGIN unfused::copyRows<First>(pipe, team, s, AT(x), AT(space));
}}
extern "C" __global__ __cube__ void gate_up(ARGUMENTS) {{
  BEGIN unfused::gateUp<First>(pipe, team, s, AT(up), AT(space));
}}
extern "C" __global__ __vector__ void activate(ARGUMENTS) {{
  BEGIN unfused::activate<First, MoeAct::silu>(pipe, team, s, AT(space));
}}
extern "C" __global__ __cube__ void product(ARGUMENTS) {{
  BEGIN unfused::down<First, Second>(pipe, team, s, AT(down), AT(space));
}}
extern "C" __global__ __vector__ void combine(ARGUMENTS) {{
  BEGIN unfused::combine<First, float>(pipe, team, s, AT(expert), AT(weight), AT(y), AT(space));
}}
"""
SOURCE_INT8 = """
#include "experts_int8.h"
using namespace xc;
using First = MoeTile<int8_t, {a.panel}, {a.rows}, true>;
using Second = MoeTile<int8_t, {b.panel}, {b.rows}, false>;
#define AT(p) reinterpret_cast<GM_ADDR>(p)

extern "C" __global__ __mix__(1, 2) void int8(
    int64_t x, int64_t expert, int64_t weight, int64_t up, int64_t upScale, int64_t down,
    int64_t downScale, int64_t y, int64_t space, int64_t n, int64_t k, int64_t e, int64_t h,
    int64_t i) {{
  TPipe pipe;
  Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  if ASCEND_IS_AIV {{
    team.count *= 2;
  }}
  moeExpertsInt8<First, Second, bfloat16_t, float, MoeAct::silu>(
      pipe, team, MoeSizes{{n, k, e, h, i, h}}, AT(x), AT(expert), AT(weight), AT(up), AT(upScale),
      AT(down), AT(downScale), AT(y), AT(space));
  PipeBarrier<PIPE_ALL>();
}}
"""
FUSED = (("fused", CHIP.aic),)
INT8 = (("int8", CHIP.aic),)
UNFUSED = (
    ("sort_rows", CHIP.aiv),
    ("copy_rows", CHIP.aiv),
    ("gate_up", CHIP.aic),
    ("activate", CHIP.aiv),
    ("product", CHIP.aic),
    ("combine", CHIP.aiv),
)


def route(kind: str, n: int, k: int, e: int) -> torch.Tensor:
    """Expert ids [n, k]; of `onehot`, one a token, for as many rows."""
    g = torch.Generator().manual_seed(n)
    if kind == "onehot":
        return torch.full((n * k, 1), e // 2)
    score = -torch.log(torch.rand(n, e, generator=g))
    if kind == "zipf":
        score *= torch.arange(1, e + 1.0)
    else:
        assert kind == "uniform", kind
    return score.topk(k, -1, largest=False).indices


@dataclass(frozen=True)
class Run:
    """Microseconds of each launch; bytes of device memory read and written by all."""

    us: dict[str, float]
    read: float
    written: float

    @property
    def total(self) -> float:
        return sum(self.us.values())


@dataclass(frozen=True)
class Row:
    inner: int
    tokens: int
    routing: str
    experts: int
    active: int
    most: int  # rows of one expert
    unfused: Run
    fused: Run
    read: float  # bytes, at least
    written: float
    bound: float  # microseconds, at least
    copied: float  # bytes of copied tokens, written and read
    cpu: float  # seconds to simulate both

    @property
    def cut(self) -> float:
        return 1 - self.fused.total / self.unfused.total


def align(tensor: torch.Tensor) -> torch.Tensor:
    """The same where device memory would begin."""
    room = zeros(tensor.nbytes)
    return room.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def zeros(size: int) -> torch.Tensor:
    """Bytes on a 512-byte boundary. Pages that are only read take no memory."""
    room = np.zeros(size + 512, np.uint8)
    start = -room.ctypes.data % 512
    return torch.from_numpy(room[start : start + size])


def bf16(*shape: int) -> torch.Tensor:
    return zeros(2 * math.prod(shape)).view(torch.bfloat16).view(shape)


@dataclass(frozen=True)
class Call:
    """Tensors in the memory of the simulated device, and the sizes of the problem.

    memory  in the order of the kernel's arguments: x, ids, weight, up, down (each packed, as the
            tiles want it; of int8, each followed by its scales), y, workspace
    """

    text: str
    memory: tuple[torch.Tensor, ...]
    experts: int
    inner: int

    @classmethod
    def make(cls, ids: torch.Tensor, experts: int, inner: int) -> Call:
        n, k = ids.shape
        first, second = choose(CHIP, inner, True), choose(CHIP, HIDDEN, False)
        panels = -(-inner // (first.panel // 2)), -(-HIDDEN // second.panel)
        deep = -(-inner // 16) * 16
        space = int(workspace_bytes(n * k, experts, HIDDEN, inner, 2, first.sums))
        space += n * k * (HIDDEN + 2 * deep) * 2 + 1024  # of the separate operations
        memory = (
            bf16(n, HIDDEN),
            align(ids),
            align(torch.ones(n, k)),
            bf16(experts, panels[0] * first.panel * HIDDEN),
            bf16(experts, panels[1] * second.panel * deep),
            bf16(n, HIDDEN),
            zeros(space),
        )
        return cls(SOURCE.format(a=first, b=second), memory, experts, inner)

    @classmethod
    def int8(cls, ids: torch.Tensor, experts: int, inner: int) -> Call:
        n, k = ids.shape
        first, second = choose(CHIP, inner, True), choose(CHIP, HIDDEN, False)
        channels = (
            -(-inner // (first.panel // 2)) * first.panel,
            -(-HIDDEN // second.panel) * second.panel,
        )
        memory = (
            bf16(n, HIDDEN),
            align(ids),
            align(torch.ones(n, k)),
            zeros(experts * channels[0] * HIDDEN),
            zeros(experts * channels[0] * 4),
            zeros(experts * channels[1] * (-(-inner // 32) * 32)),
            zeros(experts * channels[1] * 4),
            bf16(n, HIDDEN),
            zeros(int(workspace_int8(n, n * k, experts, HIDDEN, inner, 2, first.sums))),
        )
        return cls(SOURCE_INT8.format(a=first, b=second), memory, experts, inner)

    def run(self, names: tuple[tuple[str, int], ...], checks: str = "none") -> Run:
        """Kernels one after the other, beginning with a cold L2."""
        folders = [LIB, Path(__file__).parent]
        kernels = [
            sim.load(self.text, name, blocks=blocks, include=folders, checks=checks)
            for name, blocks in names
        ]
        lib = kernels[0].module.lib
        # Addresses, not arrays: those would move to other memory for each launch.
        address = [t.data_ptr() for t in self.memory]
        sizes = *self.memory[1].shape, self.experts, HIDDEN, self.inner
        us, read, written = {}, 0.0, 0.0
        for t in self.memory:
            lib.ascsim_gm_add(ctypes.c_void_p(t.data_ptr()), ctypes.c_size_t(t.nbytes), 1)
        try:
            lib.ascsim_cold_l2()
            for kernel, (name, _) in zip(kernels, names, strict=True):
                result = kernel(*address, *sizes)
                (report,) = result.report["launches"]
                us[name] = result.microseconds
                read += report["bytes"]["HBM read"]
                written += report["bytes"]["HBM write"]
        finally:
            for t in self.memory:
                lib.ascsim_gm_remove(ctypes.c_void_p(t.data_ptr()))
        return Run(us, read, written)


def measure(
    inner: int, tokens: int, routing: str, experts: int, topk: int, int8: bool = False
) -> Row:
    begun = time.process_time()
    ids = route(routing, tokens, topk, experts)
    n, k = ids.shape
    call = Call.make(ids, experts, inner)
    if int8:
        runs = [call.run(FUSED), Call.int8(ids, experts, inner).run(INT8)]
    else:
        runs = [call.run(UNFUSED), call.run(FUSED)]
    counts = ids.flatten().bincount()
    active = int((counts > 0).sum())
    written = n * HIDDEN * 2.0
    size = 1 if int8 else 2
    read = active * 3.0 * HIDDEN * inner * size + n * HIDDEN * 2 + n * k * 12
    cube = n * k * 6.0 * HIDDEN * inner / (CHIP.aic * PEAK * CHIP.clock) * size / 2
    bound = max((read + written) / CHIP.hbm, cube) * 1e6
    return Row(
        *(inner, tokens, routing, experts, active, int(counts.max()), runs[0], runs[1]),
        *(read, written, bound, n * k * HIDDEN * 4.0, time.process_time() - begun),
    )


def rows(
    inners: tuple[int, ...] = tuple(EXPERTS),
    tokens: tuple[int, ...] = TOKENS,
    routings: tuple[str, ...] = ROUTINGS,
    int8: bool = False,
) -> Iterator[Row]:
    for routing in routings:
        for inner in inners:
            for n in tokens:
                e = EXPERTS[inner]
                yield measure(inner, n, routing, e, e // 32, int8)


def local(
    inners: tuple[int, ...] = tuple(EXPERTS),
    sizes: tuple[int, ...] = TOKENS,
    routings: tuple[str, ...] = ROUTINGS,
    int8: bool = False,
) -> Iterator[Row]:
    for routing in routings:
        for inner in inners:
            for m in sizes:
                yield measure(inner, m * 8 // 2, routing, 8, 2, int8)


def prefill(routings: tuple[str, ...] = ROUTINGS, int8: bool = False) -> Iterator[Row]:
    """4096 rows for 16 experts: bound by the cubes."""
    for routing in routings:
        yield measure(2048, 4096, routing, 16, 1, int8)


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--inner", default=",".join(map(str, EXPERTS)))
    p.add_argument("--sizes", default=",".join(map(str, TOKENS)))
    p.add_argument("--routing", default=",".join(ROUTINGS))
    p.add_argument("--local", action="store_true", help="8 experts, sizes are mean rows of each")
    p.add_argument("--prefill", action="store_true", help="4096 rows for 16 experts")
    p.add_argument("--dtype", choices=("bf16", "int8"), default="bf16", help="of the weights")
    p.add_argument("--phases", action="store_true", help="also times of the separate launches")
    a = p.parse_args()
    int8 = a.dtype == "int8"
    table = Table(
        *("inner", "tokens", "routing", "experts", "active", "most rows"),
        *(("bf16 us", "int8 us") if int8 else ("separate us", "fused us")),
        *("ratio", "cut", "xLLM", "possible", "least", "read", "written", "copy"),
        "cpu s",
    )
    inners, sizes = (tuple(int(x) for x in text.split(",")) for text in (a.inner, a.sizes))
    routings = tuple(a.routing.split(","))
    if a.prefill:
        found = prefill(routings, int8)
    else:
        found = (local if a.local else rows)(inners, sizes, routings, int8)
    for r in found:
        published = None
        if r.routing == "uniform" and not (a.local or a.prefill or int8):
            published = PUBLISHED.get((r.inner, r.tokens))
        before, after = r.unfused.total, r.fused.total
        line = (
            *(str(r.inner), str(r.tokens), r.routing, str(r.experts), str(r.active), str(r.most)),
            *(f"{before:.1f}", f"{after:.1f}", f"{before / after:.2f}", f"{r.cut:.0%}"),
            f"{1 - published[1] / published[0]:.0%}" if published else "",
            *(f"{1 - r.bound / before:.0%}", f"{r.bound / after:.0%}"),
            *(f"{r.fused.read / r.read:.2f}x", f"{r.fused.written / r.written:.2f}x"),
            *(f"{r.copied / 1e6:.1f}", f"{r.cpu:.0f}"),
        )
        table.add_row(*line)
        print(*line, flush=True)
        if a.phases:
            print({k: round(v, 1) for k, v in r.unfused.us.items()}, flush=True)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
