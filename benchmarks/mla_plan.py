"""Deals of ragged contexts to cores in the planner's units, without a kernel.

    python -m benchmarks.mla_plan [--cores 24,20] [--draws 60]

Makespans relative to round robin; random lengths give the median of the draws and their range.
`equal shares`: the whole cost divided by the cores. Below, the time of a table of cuts.
"""

from __future__ import annotations

import argparse
import statistics
import time

from rich.console import Console
from rich.table import Table

from benchmarks.mla_ascend import BARS, RANDOM, lengths, spread
from xcompile.runtime.attention_plan import MODES, cuts, plan_attention

OTHERS = [mode for mode in MODES if mode != "round_robin"]


def ratios(name: str, cores: int, draws: int) -> list[str]:
    """Of each mode and of equal shares."""
    found = []
    for draw in range(draws if name in RANDOM else 1):
        plans = {mode: plan_attention(lengths(name, draw), cores, mode=mode) for mode in MODES}
        base = plans["round_robin"]
        share = sum(base.loads) / cores
        found.append([*(plans[mode].makespan for mode in OTHERS), share])
        found[-1] = [x / base.makespan for x in found[-1]]
    return [spread(column) for column in zip(*found, strict=True)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--cores", default="24,20")
    p.add_argument("--draws", type=int, default=60)
    a = p.parse_args()
    console = Console(width=120)
    for cores in map(int, a.cores.split(",")):
        table = Table(f"{cores} cores", *OTHERS, "equal shares")
        for name in BARS:
            table.add_row(name, *ratios(name, cores, a.draws))
        console.print(table)
    requests = [lengths("lognormal", k % 8)[k % 48] for k in range(256)]
    times = []
    for _ in range(200):
        begun = time.perf_counter()
        cuts(requests, 24)
        times.append((time.perf_counter() - begun) * 1e6)
    console.print(f"cuts of 256 requests for 24 cores: {statistics.median(times):.0f} us")


if __name__ == "__main__":
    main()
