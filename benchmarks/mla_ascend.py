"""Attention on Ascend by the cycle model: ragged decode under several deals, share of the roofline.

    python -m benchmarks.mla_ascend [--heads 128] [--cores 20,24] [--patterns ...] [--shapes ...]

Times are the cycle model's (docs/simulator.md), not a device's. Every deal runs the same kernel:
`ours` cuts tokens in the kernel, the others follow lists of work (attention_plan.py). Ratios are to
round robin. `roofline`: the time in which the context is read once at memory's full rate, or the
products are done at the cubes' full rate (rows in sixteens), whichever is longer, as a share of the
simulated time. 20 cores are a 910B3, others of a 910B1. L2 is cold at the start.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from xcompile import sim
from xcompile.codegen.ascend.attention import choose, workspace_bytes
from xcompile.progress import step
from xcompile.runtime.attention_plan import plan_attention
from xcompile.targets.ascend import CHIPS

LIB = Path(__file__).parents[1] / "templates" / "ascend" / "lib"
PAGE = 128
PEAK = 2 * 16**3  # multiplications and additions a cycle of one cube, 16 bit
ENTRY = """
#include "attention_lists.h"
using namespace xc;
constexpr AttnTile TILE = {tile};
constexpr AttnSizes SIZES = {sizes};
#define ARGS                                                                               \\
  GM_ADDR q, GM_ADDR k, GM_ADDR v, GM_ADDR o, GM_ADDR cu, GM_ADDR lens, GM_ADDR tables,    \\
      GM_ADDR space, GM_ADDR lists, int64_t tokens, int64_t count, int64_t pages, int64_t width, \\
      int64_t vRow, int64_t vHead
#define BEGIN                                                                              \\
  TPipe pipe;                                                                              \\
  Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};                             \\
  if ASCEND_IS_AIV team.count *= 2;                                                        \\
  using P = const __gm__ i64*;                                                             \\
  const i64 heads = SIZES.kvHeads * SIZES.group;                                           \\
  const PagedSource paged{{tokens, count, pages, {page}, (P)cu, (P)lens, (P)tables,        \\
      heads * SIZES.d, SIZES.d, heads * SIZES.dv, SIZES.dv, SIZES.kvHeads * width, width,        \\
      vRow, vHead}};
extern "C" __global__ __mix__(1, 2) void ours(ARGS) {{
  BEGIN
  pagedAttention<{t}>(pipe, team, paged, SIZES, TILE, q, k, v, o, space);
  PipeBarrier<PIPE_ALL>();
}}
extern "C" __global__ __mix__(1, 2) void listed(ARGS) {{
  BEGIN
  const AttnListSource source{{paged, (P)lists}};
  listedAttention<{t}>(pipe, team, source, SIZES, TILE, q, k, v, o, space);
  PipeBarrier<PIPE_ALL>();
}}
"""
MODES = ("round_robin", "xllm", "ours")
BARS = {
    "outlier": 0.15,
    "25x2049": 0.6,
    "0.5-8k": 0.65,
    "spread": 0.7,
    "lognormal": 0.45,
    "equal": 1.02,
}


def chip_of(cores: int) -> str:
    """The chip with so many cube cores, or a larger one."""
    return "ascend910b3" if cores == 20 else "ascend910b1"


@dataclass(frozen=True)
class Heads:
    """`latent`: values are the first dv of a key row."""

    heads: int
    kv: int
    d: int
    dv: int
    latent: bool


def mla(heads: int) -> Heads:
    return Heads(heads, 1, 576, 512, True)


GQA = Heads(32, 4, 128, 128, False)  # Qwen3-30B


RANDOM = ("0.5-8k", "spread", "lognormal")


def lengths(pattern: str, draw: int = 0) -> list[int]:
    """Contexts of the patterns that are compared; those of RANDOM differ from draw to draw."""
    g = random.Random(f"{pattern} {draw}")
    return {
        "outlier": lambda: [2048] * 24 + [32768],
        "25x2049": lambda: [2049] * 25,
        "0.5-8k": lambda: [g.randint(512, 8192) for _ in range(24)],
        "spread": lambda: [2049 + g.randint(0, 1024) for _ in range(32)],
        "lognormal": lambda: [
            min(max(int(g.lognormvariate(8.5, 1)), 128), 32768) for _ in range(48)
        ],
        "equal": lambda: [2048] * 120,
    }[pattern]()


def listing(lens: Sequence[int], cores: int, mode: str, blocks: int) -> torch.Tensor:
    """The plan's lists as attention_lists.h reads them, for `blocks` head blocks of a request."""
    plan = plan_attention(lens, cores, heads=blocks, mode=mode)
    first: dict[tuple[int, int], int] = {}
    for c, items in enumerate(plan.cores):
        for i in items:
            first.setdefault((i.request, i.head), c)
    offsets, entries = [0], []
    for items in plan.cores:
        # The part that is cut comes last or first; its rooms are one each.
        assert sum(i.parts > 1 for i in items) <= 1, mode
        for i in items:
            entries += [i.request, i.head, i.begin, i.end, first[i.request, i.head], i.parts]
        offsets.append(offsets[-1] + len(items))
    return torch.tensor(offsets + entries)


class Bench:
    """One shape of heads; compiled once."""

    def __init__(self, h: Heads, t: str = "bfloat16_t") -> None:
        self.h, self.dtype = h, torch.bfloat16
        group = h.heads // h.kv
        self.tile = choose(h.d, h.dv, group, h.kv, 2, adjacent=not h.latent)
        self.source = ENTRY.format(
            t=t,
            page=PAGE,
            tile=self.tile.c(),
            sizes=f"AttnSizes{{{h.kv}, {group}, {h.d}, {h.dv}, {h.d**-0.5!r}f}}",
        )

    def blocks(self) -> int:
        """Tasks of a request with one query."""
        h, t = self.h, self.tile
        group = h.heads // h.kv
        if t.heads > 1 and group <= t.head_rows:
            return h.kv // t.heads
        return h.kv * -(-group // t.rows)

    def run(
        self,
        lens: Sequence[int],
        cores: int,
        mode: str,
        new: Sequence[int] | None = None,
        trace: Any = None,
    ) -> dict[str, Any]:
        h, chip = self.h, CHIPS[chip_of(cores)]
        new = new or [1] * len(lens)
        used = [-(-n // PAGE) for n in lens]
        ids = torch.randperm(sum(used), generator=torch.Generator().manual_seed(1))
        tables = torch.zeros(len(lens), max(used), dtype=torch.int64)
        for r, n in enumerate(used):
            tables[r, :n] = ids[sum(used[:r]) : sum(used[:r]) + n]
        k = torch.zeros(sum(used) * PAGE, h.kv, h.d, dtype=self.dtype)
        v = k if h.latent else torch.zeros(sum(used) * PAGE, h.kv, h.dv, dtype=self.dtype)
        q = torch.zeros(sum(new), h.heads, h.d, dtype=self.dtype)
        o = torch.zeros(sum(new), h.heads, h.dv, dtype=self.dtype)
        space = torch.zeros(workspace_bytes(self.tile, 2, 24), dtype=torch.uint8)
        cu = torch.tensor([0, *new]).cumsum(0)
        lists = torch.zeros(1, dtype=torch.int64)
        if mode != "ours":
            lists = listing(lens, cores, mode, self.blocks())
        name = "ours" if mode == "ours" else "listed"
        kernel = sim.load(
            self.source,
            name,
            blocks=cores,
            include=[LIB],
            checks="none",
            chip=chip_of(cores)[6:].upper(),
        )
        begun = time.process_time()
        kernel.module.lib.ascsim_cold_l2()
        result = kernel(
            q, k, v, o, cu, torch.tensor(lens), tables, space, lists,
            len(q), len(lens), tables.shape[1], h.d, *v.stride()[:2], trace=trace,
        )  # fmt: skip
        (launch,) = result.report["launches"]
        seen = sum(n * c for n, c in zip(lens, new, strict=True)) - sum(
            c * (c - 1) // 2 for c in new
        )
        rows = -(-h.heads // 16) * 16 if h.kv == 1 else h.heads
        flops = 2 * seen * rows * (h.d + h.dv)
        width = h.d if h.latent else h.d + h.dv
        memory = sum(lens) * h.kv * width * 2 / chip.hbm
        cube = flops / (cores * PEAK * chip.clock)
        seconds = result.microseconds * 1e-6
        return {
            "cycles": result.cycles,
            "us": result.microseconds,
            "memory": memory / seconds,
            "cube": cube / seconds,
            "roofline": max(memory, cube) / seconds,
            "report": launch,
            "cpu": time.process_time() - begun,
        }


SHAPES = {  # heads, contexts, new rows of each
    "mla16 decode": (mla(16), [4096] * 24, None),
    "mla32 decode": (mla(32), [4096] * 24, None),
    "mla64 decode": (mla(64), [4096] * 24, None),
    "mla128 decode": (mla(128), [4096] * 24, None),
    "mla128 uncut": (mla(128), [2134] * 24, None),  # 25x2049 without a part to merge
    "mla128 decode of 4": (mla(128), [2048] * 12, [4] * 12),
    "gqa decode": (GQA, [4096] * 24, None),
    "gqa prefill": (GQA, [2048], [2048]),
}


def patterns(
    heads: int, cores: Sequence[int], names: Sequence[str], draws: int
) -> Iterator[dict[str, Any]]:
    """Each pattern by each deal: ratios to round robin, and the share of the roofline."""
    bench = Bench(mla(heads))
    for p in cores:
        for name in names:
            row: dict[str, Any] = {"pattern": name, "cores": p, "us": [], "roofline": []}
            row |= {mode: [] for mode in MODES}
            for k in range(draws if name in RANDOM else 1):
                ran = {mode: bench.run(lengths(name, k), p, mode) for mode in MODES}
                for mode in MODES:
                    row[mode].append(ran[mode]["cycles"] / ran["round_robin"]["cycles"])
                row["us"].append(ran["round_robin"]["us"])
                row["roofline"].append(ran["ours"]["roofline"])
            yield row


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The median, and the least and largest of several."""
    text = format(statistics.median(values), form)
    return text if len(values) == 1 else f"{text} [{min(values):{form}}..{max(values):{form}}]"


def shapes(
    names: Sequence[str], cores: Sequence[int], trace: str | None = None
) -> Iterator[dict[str, Any]]:
    """Balanced cases against the roofline."""
    for name in names:
        h, lens, new = SHAPES[name]
        bench = Bench(h)
        for p in cores:
            yield {"shape": name, "cores": p, **bench.run(lens, p, "ours", new, trace)}


def counted(name: str, rows: Iterator[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    """The rows, with progress on the terminal."""
    with step(name) as done:
        for n, row in enumerate(rows, 1):
            done(n, total)
            yield row


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--heads", default="128", help="query heads of the patterns, or several: 16,128")
    p.add_argument("--draws", type=int, default=5, help="of patterns with random lengths")
    p.add_argument("--cores", default="20,24")
    p.add_argument("--patterns", default=",".join(BARS))
    p.add_argument("--shapes", default=",".join(SHAPES))
    p.add_argument("--trace")
    p.add_argument("--verbose", action="store_true")
    a = p.parse_args()
    cores = [int(c) for c in a.cores.split(",")]
    console = Console(width=160)
    table = Table("shape", "cores", "cycles", "us", "memory", "cube", "roofline", "cpu s")
    names = [x for x in a.shapes.split(",") if x]
    for r in counted("shapes", shapes(names, cores, a.trace), len(names) * len(cores)):
        table.add_row(
            r["shape"], str(r["cores"]), f"{r['cycles']:.0f}", f"{r['us']:.1f}",
            *(f"{r[x]:.0%}" for x in ("memory", "cube", "roofline")), f"{r['cpu']:.1f}",
        )  # fmt: skip
        if a.verbose:
            print({k: v for k, v in r["report"].items() if k != "hot"})
            for x in r["report"]["hot"][:16]:
                print(x)
    console.print(table)
    names = [x for x in a.patterns.split(",") if x]
    for heads in [int(h) for h in a.heads.split(",")] if names else []:
        table = Table(
            "pattern", "cores", "round robin us", "xllm", "ours", "bar", "ours, roofline",
            title=f"{heads} heads, against round robin",
        )  # fmt: skip
        found = patterns(heads, cores, names, a.draws)
        for r in counted(f"{heads} heads", found, len(names) * len(cores)):
            table.add_row(
                r["pattern"], str(r["cores"]), spread(r["us"], ".1f"), spread(r["xllm"]),
                spread(r["ours"]), f"{BARS[r['pattern']]:.2f}", spread(r["roofline"], ".0%"),
            )  # fmt: skip
        console.print(table)


if __name__ == "__main__":
    main()
