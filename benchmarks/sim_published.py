"""Published times of Ascend kernels, as cases for sim_timing.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
