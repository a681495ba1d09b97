"""The simulator's cycle model against published times: `python -m benchmarks.sim_timing`.

Every case is a kernel of examples/ascendc/timing (or, where the arithmetic would take hours, the
stream of its instructions), with the shapes, cores and options of a published measurement: the
vendor's devkit, guide/SIMD performance (PERF) and the READMEs of its best-practice samples. Prints
published and modelled values, and their ratios to the first case of a group: those are what the
model is for, and what the bar of 25% is about. Exit code 1 if a ratio is further off.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xcompile.sim import library

ROOT = Path(__file__).parent.parent
KERNELS = ROOT / "examples" / "ascendc" / "timing"
BAR = 0.25

Report = dict[str, Any]
Value = Callable[[Report], float]


def total(r: Report) -> float:
    """Microseconds of the launch."""
    return float(r["us"])


def busy(kind: str, pipe: str) -> Value:
    """Microseconds a pipe is busy, on average over the cores."""
    return lambda r: float(r["kinds"][kind]["busy"][pipe] * r["kinds"][kind]["cycles"] / r["mhz"])


def core_time(kind: str) -> Value:
    """Microseconds a core runs, on average."""
    return lambda r: float(r["kinds"][kind]["cycles"] / r["mhz"])


def ticks(r: Report) -> float:
    """In ticks of GetSystemCycle: 50 MHz."""
    return float(r["us"]) * 50


@dataclass
class Case:
    name: str
    published: float
    command: list[str]  # program and arguments; or "stream" and what to replay
    value: Value = total


@dataclass
class Group:
    source: str
    unit: str
    cases: list[Case]
    chip: str = "ascend910b1"
    note: str = ""
    results: list[float] = field(default_factory=list)


def copy(name: str, published: float, where: str, *shape: int, cores: int = 0) -> Case:
    kind, usual = ("AIV", 48) if where == "ub" else ("AIC", 24)
    return Case(
        name, published, ["copy", where, *map(str, (cores or usual, *shape))], busy(kind, "MTE2")
    )


def vector(name: str, published: float, *args: object, value: Value = total) -> Case:
    return Case(name, published, ["vector", *map(str, args)], value)


N = 8192 * 8192
BANK = [
    ("different bank groups", 2390, ("0x0", "0x10100", "0x20000", 1, 8)),
    ("sources in one bank", 4167, ("0x0", "0x4000", "0x10000", 1, 8)),
    ("sources in one bank group", 4167, ("0x0", "0x10000", "0x14100", 1, 8)),
    ("source and target in step", 2389, ("0x0", "0x10100", "0x4000", 1, 8)),
    ("source and target one block apart", 3751, ("0x0", "0x10100", "0x4020", 1, 8)),
    ("in place", 2390, ("0x0", "0x10100", "0x10100", 1, 8)),
    ("one block, next block per repeat", 3584, ("0x0", "0x10100", "0x10100", 0, 1)),
    ("one block, next row per repeat", 2389, ("0x0", "0x10100", "0x10100", 0, 8)),
]


def add(
    name: str, published: float, cores: int, tile: int, rest: str, value: Value = total
) -> Case:
    return Case(name, published, ["add", str(N), str(cores), str(tile), *rest.split()], value)


GROUPS = [
    Group(
        "sample data_copy 1, GM to UB: size of a transfer",
        "us of MTE2",
        [
            copy("[64, 1024]: 128 KB", 202.657, "ub", 12288, 12288, 64, 1024, 1, 1, 0, 0, 0),
            copy(
                "[64, 64]: 8 KB in rows of 128 B",
                220.772,
                "ub",
                12288,
                12288,
                64,
                64,
                1,
                1,
                0,
                0,
                0,
            ),
            copy("[1, 64]: 128 B", 548.161, "ub", 12288, 12288, 1, 64, 1, 1, 0, 0, 0),
        ],
    ),
    Group(
        "sample data_copy 1, GM to L1 with ND to NZ",
        "us of MTE2",
        [
            copy("[64, 256]", 214.519, "l1", 12288, 12288, 64, 256, 1, 1, 0, 0, 0),
            copy("[64, 64]", 283.508, "l1", 12288, 12288, 64, 64, 1, 1, 0, 0, 0),
        ],
    ),
    Group(
        "sample data_copy 2, rows not aligned (also PERF: 512-byte alignment)",
        "us of MTE2",
        [
            copy("GM to UB, 12288 columns", 202.657, "ub", 12288, 12288, 64, 1024, 1, 1, 0, 0, 0),
            copy("GM to UB, 12287 columns", 259.047, "ub", 12288, 12287, 64, 1024, 1, 1, 0, 0, 0),
        ],
    ),
    Group(
        "sample data_copy 2, rows not aligned",
        "us of MTE2",
        [
            copy("GM to L1, 12288 columns", 214.519, "l1", 12288, 12288, 64, 256, 1, 1, 0, 0, 0),
            copy("GM to L1, 12287 columns", 422.515, "l1", 12288, 12287, 64, 256, 1, 1, 0, 0, 0),
        ],
    ),
    Group(
        "sample data_copy 3, L2 reuse (also PERF: L2 tiling)",
        "us",
        [
            copy(
                "GM to UB, all of it four times",
                816.05,
                "ub",
                12288,
                12288,
                64,
                1024,
                4,
                1,
                0,
                0,
                0,
            ),
            copy(
                "GM to UB, quarters four times", 354.56, "ub", 12288, 12288, 64, 1024, 4, 4, 0, 0, 0
            ),
        ],
    ),
    Group(
        "sample data_copy 3, L2 reuse",
        "us",
        [
            copy(
                "GM to L1, all of it four times",
                872.19,
                "l1",
                12288,
                12288,
                64,
                1024,
                4,
                1,
                0,
                0,
                0,
            ),
            copy(
                "GM to L1, quarters four times", 397.8, "l1", 12288, 12288, 64, 1024, 4, 4, 0, 0, 0
            ),
        ],
    ),
    Group(
        "sample data_copy on the 950, GM to UB",
        "us of MTE2",
        [
            copy("[64, 1024]", 185.66, "ub", 12288, 12288, 64, 1024, 1, 1, 0, 0, 0, cores=64),
            copy("[64, 64]", 205.99, "ub", 12288, 12288, 64, 64, 1, 1, 0, 0, 0, cores=64),
            copy("[1, 64]", 881.13, "ub", 12288, 12288, 1, 64, 1, 1, 0, 0, 0, cores=64),
            copy("12287 columns", 189.16, "ub", 12288, 12287, 64, 1024, 1, 1, 0, 0, 0, cores=64),
            copy("all four times", 740.75, "ub", 12288, 12288, 64, 1024, 4, 1, 0, 0, 0, cores=64),
            copy("quarters", 354.19, "ub", 12288, 12288, 64, 1024, 4, 4, 0, 0, 0, cores=64),
        ],
        chip="ascend950",
    ),
    Group(
        "sample data_copy on the 950, GM to L1",
        "us of MTE2",
        [
            copy("[64, 256]", 187.19, "l1", 12288, 12288, 64, 256, 1, 1, 0, 0, 0, cores=32),
            copy("[64, 64]", 241.56, "l1", 12288, 12288, 64, 64, 1, 1, 0, 0, 0, cores=32),
            copy("12287 columns", 202.97, "l1", 12288, 12287, 64, 256, 1, 1, 0, 0, 0, cores=32),
            copy("all four times", 732.11, "l1", 12288, 12288, 64, 1024, 4, 1, 0, 0, 0, cores=32),
            copy("quarters", 389.64, "l1", 12288, 12288, 64, 1024, 4, 4, 0, 0, 0, cores=32),
        ],
        chip="ascend950",
    ),
    Group(
        "sample data_copy 4, same address (PERF: same-address accesses)",
        "us of MTE2",
        [
            copy(
                "GM to UB, all cores in one order", 474.717, "ub", 6144, 512, 128, 64, 1, 1, 1, 0, 1
            ),
            copy(
                "GM to UB, each from its own place", 307.38, "ub", 6144, 512, 128, 64, 1, 1, 1, 1, 1
            ),
        ],
    ),
    Group(
        "sample data_copy 4, same address",
        "us of MTE2",
        [
            copy(
                "GM to L1, all cores in one order", 240.198, "l1", 6144, 512, 256, 64, 1, 1, 1, 0, 1
            ),
            copy(
                "GM to L1, each from its own place", 209.8, "l1", 6144, 512, 256, 64, 1, 1, 1, 1, 1
            ),
        ],
    ),
    Group(
        "sample add_high_performance (PERF: transfer size, double buffer, L2 mode, banks)",
        "us",
        [
            add("48 cores, 32 KB, one buffer", 261.5, 48, 16384, "1 0 0"),
            add("one core, 8 KB", 6909.14, 1, 4096, "1 0 0"),
            add("48 cores, 8 KB", 297.14, 48, 4096, "1 0 0"),
            add("two buffers", 257.56, 48, 16256, "2 0 0"),
            add("two buffers, inputs past L2", 185.15, 48, 16256, "2 1 0"),
            add("... and no bank conflicts", 178.49, 48, 16256, "2 1 1"),
        ],
        note="two buffers: tiles of 32512 bytes, since 32768 would take the last 256 bytes of UB",
    ),
    Group(
        "the same, vector pipe",
        "us of V",
        [
            add("bank conflicts", 12.846, 48, 16256, "2 1 0", busy("AIV", "V")),
            add("none", 6.954, 48, 16256, "2 1 1", busy("AIV", "V")),
            add("one core, 8 KB", 761.65, 1, 4096, "1 0 0", busy("AIV", "V")),
        ],
    ),
    Group(
        "sample bank_conflict_nd2nz (PERF: bank conflicts)",
        "us",
        [
            Case("144 rows between columns of blocks", 138.0, ["nd2nz", "8192", "144"]),
            Case("145 rows", 131.44, ["nd2nz", "8192", "145"]),
        ],
    ),
    Group(
        "the same, vector pipe",
        "us of V",
        [
            Case("144 rows", 47.79, ["nd2nz", "8192", "144"], busy("AIV", "V")),
            Case("145 rows", 7.133, ["nd2nz", "8192", "145"], busy("AIV", "V")),
        ],
    ),
    Group(
        "sample bank_conflict_ub: 1000 Adds of 64 repeats (PERF: bank conflicts)",
        "ticks",
        [vector(name, value, "banks", *args, value=ticks) for name, value, args in BANK],
    ),
    Group(
        "PERF: low-latency instructions, 30000 floats to one",
        "ticks",
        [
            vector("reductions only", 242, "reduce", 30000, 0, value=ticks),
            vector("tree of additions, one reduction", 172, "reduce", 30000, 1, value=ticks),
        ],
        note="the page does not say what lies between its two clock readings; here: the copies too",
    ),
    Group(
        "PERF: low-latency instructions, 256 floats to one, 100 times",
        "us",
        [
            vector("blocks, then a repeat", 8.44, "reduce256", 2),
            vector("repeats twice", 13.0, "reduce256", 0),
            vector("blocks three times", 13.94, "reduce256", 1),
        ],
    ),
    Group(
        "sample matmul_basic_api_high_performance, 8192^3 half",
        "us",
        [
            Case("cube busy", 3081.664, ["stream", "sample"], busy("AIC", "M")),
            Case("a core on average", 3670.7, ["stream", "sample"], core_time("AIC")),
            Case("MTE1 busy", 2538.348, ["stream", "sample"], busy("AIC", "MTE1")),
            Case("MTE2 busy", 3552.248, ["stream", "sample"], busy("AIC", "MTE2")),
        ],
        note="replayed from its instruction stream; unit flags as overlap of M and FIX",
    ),
    Group(
        "guide, matmul tiling (4096 x 5120 x 4096, 20 cores): MTE2",
        "us of MTE2",
        [
            Case("base 128 x 256 x 64", 808, ["stream", "large base"], busy("AIC", "MTE2")),
            Case("base 64 x 64 x 256", 2452, ["stream", "small base"], busy("AIC", "MTE2")),
            Case(
                "... 4 blocks a transfer", 591, ["stream", "large transfers"], busy("AIC", "MTE2")
            ),
        ],
        chip="ascend910b3",
        note="no constant of the model comes from this page; its blocks a transfer are not given",
    ),
    Group(
        "guide, matmul tiling: cores",
        "us",
        [
            Case("20 cores", 2532, ["stream", "small base"]),
            Case("4 cores", 12045, ["stream", "few cores"]),
        ],
        chip="ascend910b3",
        note="likewise",
    ),
]


# ------------------------------------------------------------------------------- running
class Runner:
    """Builds the programs once and keeps their reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: dict[tuple[str, ...], Report] = {}

    def program(self, name: str) -> Path:
        out = self.folder / name
        if not out.exists():
            command = [sys.executable, "-m", "xcompile", "simcc", str(KERNELS / f"{name}.asc")]
            subprocess.run([*command, "-o", str(out)], check=True, cwd=ROOT)
        return out

    def driver(self) -> Path:
        out = self.folder / "driver"
        if not out.exists():
            lib = library.library()
            command = ["g++", "-std=c++17", "-O2", f"-I{library.INCLUDE}", f"-I{library.SOURCES}"]
            command += [str(ROOT / "tests" / "sim" / "replay_driver.cpp"), str(lib)]
            subprocess.run([*command, f"-Wl,-rpath,{lib.parent}", "-o", str(out)], check=True)
        return out

    def report(self, chip: str, command: list[str]) -> Report:
        key = (chip, *command)
        if key not in self.reports:
            out = self.folder / "report.json"
            env = {**os.environ, "XC_SIM_CHIP": chip, "XC_SIM_CHECKS": "none"}
            env |= {"XC_SIM_REPORT": str(out), "XC_SIM_TIMING": "1"}
            if command[0] == "stream":
                # The stream is long: it goes to the replay as it is made.
                with subprocess.Popen(
                    [self.driver()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    env=env,
                    text=True,
                ) as p:
                    assert p.stdin is not None
                    p.stdin.writelines(matmul_stream(MATMULS[command[1]]))
                    p.stdin.close()
                if p.returncode:
                    raise SystemExit(f"the replay of {command[1]} failed")
            else:
                subprocess.run(
                    [self.program(command[0]), *command[1:]],
                    check=True,
                    env=env,
                    stdout=subprocess.DEVNULL,
                )
            whole = json.loads(out.read_text())
            self.reports[key] = {**whole["launches"][0], "mhz": whole["mhz"]}
        return self.reports[key]

    def value(self, group: Group, case: Case) -> float:
        r = self.report(group.chip, case.command)
        return case.value(r)


@dataclass(frozen=True)
class Matmul:
    """C = A B in half on a grid of cube cores, two buffers in L1 and in L0."""

    m: int
    n: int
    k: int
    grid: tuple[int, int]  # cores along m and n
    base: tuple[int, int, int]
    steps: tuple[int, int] = (1, 1)  # blocks of K that one transfer of A, of B brings to L1
    transposed: bool = False  # B is [n, k]
    out: int = 2  # bytes of an element of C


MATMULS = {
    "sample": Matmul(8192, 8192, 8192, (4, 6), (128, 256, 64), (8, 4), True),
    "few cores": Matmul(4096, 5120, 4096, (2, 2), (64, 64, 256), out=4),
    "small base": Matmul(4096, 5120, 4096, (4, 5), (64, 64, 256), out=4),
    "large base": Matmul(4096, 5120, 4096, (4, 5), (128, 256, 64), out=4),
    "large transfers": Matmul(4096, 5120, 4096, (4, 5), (128, 256, 64), (4, 4), out=4),
}


def matmul_stream(s: Matmul) -> Iterator[str]:
    """The instructions of one launch, for tests/sim/replay_driver.cpp."""
    base_m, base_n, base_k = s.base
    # Whole base blocks to each core, the last one of a row or column gets what is left.
    each_m = math.ceil(s.m / s.grid[0] / base_m) * base_m
    each_n = math.ceil(s.n / s.grid[1] / base_n) * base_n
    a, b, c = 0, s.m * s.k * 2, (s.m + s.n) * s.k * 2
    cube_steps = base_m * base_n * base_k // 4096
    cores = s.grid[0] * s.grid[1]
    yield f"launch matmul aic {cores}\n"
    token = 0
    for core in range(cores):
        yield f"core {core}\n"
        row0, column0 = core % s.grid[0] * each_m, core // s.grid[0] * each_n
        free: dict[str, list[int]] = {"a": [0, 0], "b": [0, 0], "l0": [0, 0]}
        turn = {"a": 0, "b": 0}
        step = 0
        for i in range(row0, min(row0 + each_m, s.m), base_m):
            for j in range(column0, min(column0 + each_n, s.n), base_n):
                for k in range(0, s.k, base_k):
                    for name, steps in zip("ab", s.steps, strict=True):
                        if k // base_k % steps:
                            continue
                        half = turn[name] % 2
                        if free[name][half]:
                            yield f"wait MTE2 {free[name][half]}\n"
                        deep = steps * base_k
                        if name == "a" or s.transposed:
                            rows, width, pitch = base_m if name == "a" else base_n, deep, s.k
                            at = (a, i) if name == "a" else (b, j)
                            gm = at[0] + (at[1] * pitch + k) * 2
                        else:
                            rows, width, pitch = deep, base_n, s.n
                            gm = b + (k * pitch + j) * 2
                        yield f"x MTE2 mte_gm_l1_nd2nz src=GM dst=L1 bytes={rows * width * 2} "
                        span = ((rows - 1) * pitch + width) * 2
                        yield f"bursts={rows} gm={gm} span={span}\n"
                        token += 1
                        yield f"set MTE2 {token}\nwait MTE1 {token}\n"
                    half = step % 2
                    if free["l0"][half]:
                        yield f"wait MTE1 {free['l0'][half]}\n"
                    yield f"x MTE1 mte_l1_l0a src=L1 dst=L0A bytes={base_m * base_k * 2}\n"
                    yield f"x MTE1 mte_l1_l0b src=L1 dst=L0B bytes={base_n * base_k * 2}\n"
                    for name, steps in zip("ab", s.steps, strict=True):
                        if (k // base_k + 1) % steps == 0:
                            token += 1
                            free[name][turn[name] % 2] = token
                            turn[name] += 1
                            yield f"set MTE1 {token}\n"
                    token += 1
                    yield f"set MTE1 {token}\nwait M {token}\n"
                    yield f"x M mad repeats={cube_steps} dtype=half\n"
                    token += 1
                    free["l0"][half] = token
                    yield f"set M {token}\n"
                    step += 1
                token += 1
                yield f"set M {token}\nwait FIX {token}\n"
                yield f"x FIX fix_l0c_gm src=L0C dst=GM bytes={base_m * base_n * s.out} "
                span = ((base_m - 1) * s.n + base_n) * s.out
                yield f"bursts={base_m} gm={c + (i * s.n + j) * s.out} span={span}\n"
    yield "run\n"


def run(selected: list[Group]) -> bool:
    """Prints the table; true if every ratio is within the bar."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder))
        for group in selected:
            print(f"\n{group.source} [{group.unit}]")
            print(f"  {'':42}{'published':>11}{'model':>11}{'error':>8}{'ratios':>16}{'error':>8}")
            group.results = [runner.value(group, c) for c in group.cases]
            for c, got in zip(group.cases, group.results, strict=True):
                line = f"  {c.name:42}{c.published:11.2f}{got:11.2f}{got / c.published - 1:+8.1%}"
                if c is not group.cases[0]:
                    published = c.published / group.cases[0].published
                    model = got / group.results[0]
                    error = model / published - 1
                    worst = max(worst, abs(error))
                    line += f"{published:8.3f}{model:8.3f}{error:+8.1%}"
                    line += "  *" if abs(error) > BAR else ""
                print(line)
            if group.note:
                print(f"  ({group.note})")
    print(f"\nlargest error of a ratio: {worst:.1%} (bar {BAR:.0%})")
    return worst <= BAR


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="groups whose title contains this")
    args = parser.parse_args()
    return 0 if run([g for g in GROUPS if args.only in g.source]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
