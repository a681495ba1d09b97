"""Routed experts on Ascend by the cycle model: weights streamed, cube used, cores balanced.

    python -m benchmarks.ascend_experts [--shape deepseek] [--rows 1,4,16] [--routing uniform,...]

Times are the cycle model's (docs/simulator.md), not a device's. `HBM` is the share of the time that
streaming the weights of the active experts once would take at the memory's full rate; `cube` that
of the products at the cubes' full rate. `balance`: mean over cube cores of the time when one has
done its part of a product, to the latest; first product, second. `copy`: bytes of an expanded copy
of the tokens, written and read, that is not made.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from xcompile import sim
from xcompile.codegen.ascend.moe_experts import choose, workspace_bytes
from xcompile.targets.ascend import CHIPS

LIB = Path(__file__).parents[1] / "templates" / "ascend" / "lib"
ENTRY = """
#include "experts.h"
using namespace xc;
extern "C" __global__ __mix__(1, 2) void moe(
    GM_ADDR x, GM_ADDR expert, GM_ADDR weight, GM_ADDR up, GM_ADDR down, GM_ADDR y, GM_ADDR space,
    int64_t n, int64_t k, int64_t e, int64_t h, int64_t i) {{
  TPipe pipe;
  Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  if ASCEND_IS_AIV {{
    team.count *= 2;
  }}
  using First = MoeTile<{t}, {a.panel}, {a.rows}, true>;
  using Second = MoeTile<{t}, {b.panel}, {b.rows}, false>;
  moeExperts<First, Second, float, MoeAct::silu>(
      pipe, team, MoeSizes{{n, k, e, h, i, h}}, x, expert, weight, up, down, y, space);
  PipeBarrier<PIPE_ALL>();
}}
"""
SHAPES = {  # hidden, inner, experts, experts a token
    "deepseek": (7168, 2048, 16, 1),
    "qwen": (2048, 768, 128, 8),
    "deepseek4": (7168, 2048, 4, 1),
    "lite": (2048, 1408, 64, 6),
}
PEAK = 2 * 16**3  # multiplications and additions a cycle of one cube, 16 bit


def route(kind: str, n: int, k: int, e: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(n)
    if kind == "even":  # the same number of rows for each
        return (torch.arange(n)[:, None] * k + torch.arange(k)) % e
    if kind == "uniform":
        return torch.rand(n, e, generator=g).topk(k, -1).indices
    if kind == "zipf":
        score = -torch.log(torch.rand(n, e, generator=g)) * torch.arange(1, e + 1.0)
        return score.topk(k, -1, largest=False).indices
    assert kind == "hot", kind  # one expert in every token, the other slots even
    ids = 1 + (torch.arange(n)[:, None] * (k - 1) + torch.arange(k)) % max(1, e - 1)
    ids[:, 0] = 0
    return ids


def measure(shape: str, n: int, kind: str, t: str, a: Any) -> tuple[dict[str, Any], float]:
    h, i, e, k = SHAPES[shape]
    chip = CHIPS["ascend910b"]
    dtype = {"half": torch.float16, "bfloat16_t": torch.bfloat16, "float": torch.float32}[t]
    up, down = choose(chip, i, True), choose(chip, h, False)
    if a.panels:
        up, down = (
            type(up)(int(p), min(a.most, 16384 // int(p) // 16 * 16)) for p in a.panels.split(",")
        )
    size = dtype.itemsize
    ids = route(kind, n, k, e)
    of = lambda cut, w, d, half: -(-w // (cut.panel // half)) * cut.panel * (-(-d // 16) * 16) * e
    args = [
        torch.zeros(n, h, dtype=dtype),
        ids,
        torch.ones(n, k),
        torch.zeros(of(up, i, h, 2), dtype=dtype),
        torch.zeros(of(down, h, i, 1), dtype=dtype),
        torch.zeros(n, h, dtype=dtype),
        torch.zeros(workspace_bytes(n * k, e, h, i, size, up.sums), dtype=torch.uint8),
    ]
    os.environ["XC_SIM_CHECKS"] = "none"
    kernel = sim.load(
        ENTRY.format(t=t, a=up, b=down), "moe", blocks=chip.aic, include=[LIB], checks="none"
    )
    kernel.module.lib.ascsim_cold_l2()
    begun = time.process_time()
    result = kernel(*args, n, k, e, h, i, trace=a.trace)
    return row_of(result, ids, h, i, e, size, chip), time.process_time() - begun


def row_of(result: Any, ids: torch.Tensor, h: int, i: int, e: int, size: int, chip: Any) -> dict:
    report = result.report["launches"][-1] if "launches" in result.report else result.report
    us = result.microseconds
    active, rows = ids.unique().numel(), ids.numel()
    weights = active * 3 * h * i * size
    flops = rows * 6 * h * i
    rate = chip.aic * PEAK * chip.clock / (4 if size == 4 else 1)
    bytes_ = report["bytes"]
    return {
        "us": us,
        "hbm": weights / chip.hbm * 1e6 / us,
        "cube": flops / rate * 1e6 / us,
        "read": bytes_["HBM read"] / weights,
        "aic": report["kinds"]["AIC"],
        "aiv": report["kinds"]["AIV"],
        "copy": 2 * rows * h * size,
        "active": active,
        "max": int(ids.flatten().bincount().max()),
        "report": report,
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--shape", default="deepseek", choices=sorted(SHAPES))
    p.add_argument("--rows", default="1,4,16,64", help="mean rows of an expert")
    p.add_argument("--tokens", default="", help="instead of rows")
    p.add_argument("--routing", default="even,uniform,zipf,hot")
    p.add_argument("--dtype", default="bfloat16_t")
    p.add_argument("--panels", default="")
    p.add_argument("--most", type=int, default=128, help="rows of a tile, with --panels")
    p.add_argument("--trace", default=None)
    p.add_argument("--verbose", action="store_true")
    a = p.parse_args()
    _, _, e, k = SHAPES[a.shape]
    sizes = (
        [int(n) for n in a.tokens.split(",")]
        if a.tokens
        else [int(r) * e // k for r in a.rows.split(",")]
    )
    table = Table(
        "tokens",
        "routing",
        "active",
        "most rows",
        "us",
        "HBM",
        "cube",
        "read",
        "MTE2",
        "M",
        "wait",
        "copy MB",
        "cpu s",
    )
    for n in sizes:
        for kind in a.routing.split(","):
            r, cpu = measure(a.shape, n, kind, a.dtype, a)
            busy, waits = r["aic"]["busy"], r["aic"]["waits"]["S"]
            shares = (busy.get("MTE2", 0), busy.get("M", 0), waits.get("other core", 0))
            table.add_row(
                *(str(n), kind, str(r["active"]), str(r["max"]), f"{r['us']:.1f}"),
                *(f"{r['hbm']:.0%}", f"{r['cube']:.0%}", f"{r['read']:.2f}x"),
                *(*(f"{s:.0%}" for s in shares), f"{r['copy'] / 1e6:.1f}", f"{cpu:.1f}"),
            )
            if a.verbose:
                for kind_ in ("aic", "aiv"):
                    print(kind_, r[kind_])
                print({k: v for k, v in r["report"].items() if k not in ("hot", "kinds")})
                for x in r["report"]["hot"][:14]:
                    print(x)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
