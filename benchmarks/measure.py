"""Clocks, memory and paired timing."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Step = Callable[[], object]


def cpu_seconds() -> float:
    """CPU time of this process, of its living descendants and of those that have ended."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    tick = os.sysconf("SC_CLK_TCK")
    parent: dict[int, int] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parent[int(entry.name)] = int(fields[1])
            # user and system time of the process and of its ended children
            spent[int(entry.name)] = sum(map(int, fields[11:15])) / tick
    for pid, seconds in spent.items():
        up = parent[pid]
        while up in parent and up != os.getpid():
            up = parent[up]
        if up == os.getpid():
            total += seconds
    return total


def rss(peak: bool = False) -> float:
    """Resident bytes of this process, now or at most since `reset_peak`."""
    key = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024.0
    return math.nan


def reset_peak() -> None:
    """Starts a new peak of resident memory, where the kernel allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def huge_share(address: int) -> float:
    """Share of a mapping's resident memory that is on 2 MB pages; NaN if it is not known."""
    inside, resident = False, 0.0
    with suppress(OSError):
        for line in Path("/proc/self/smaps").read_text().splitlines():
            first, _, rest = line.partition(" ")
            if "-" in first:
                low, _, high = first.partition("-")
                inside = int(low, 16) <= address < int(high, 16)
            elif inside and first == "Rss:":
                resident = float(rest.split()[0])
            elif inside and first == "AnonHugePages:" and resident:
                return float(rest.split()[0]) / resident
    return math.nan


@dataclass
class Stopwatch:
    """Wall and CPU seconds (descendants included) since it was made."""

    def __post_init__(self) -> None:
        self._cpu, self._wall = cpu_seconds(), time.perf_counter()

    def read(self) -> dict[str, float]:
        wall = time.perf_counter() - self._wall
        return {"wall": wall, "cpu": cpu_seconds() - self._cpu}


@dataclass
class Range:
    """Median, least and largest of some numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        return cls(statistics.median(values), min(values), max(values))

    def map(self, f: Callable[[float], float]) -> Range:
        return Range.of([f(self.low), f(self.median), f(self.high)])

    def text(self, digits: int = 1) -> str:
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}..{self.high:.{digits}f}]"


@dataclass
class Pairs:
    """Seconds per call of two subjects that took turns; both clocks."""

    ours: dict[str, list[float]]
    peer: dict[str, list[float]]

    def ratio(self, clock: str) -> Range:
        """How many times faster ours was, pair by pair."""
        both = zip(self.ours[clock], self.peer[clock], strict=True)
        return Range.of([p / o for o, p in both])


def _count(step: Step, least: float) -> int:
    """Warms a step up; how many calls take at least `least` seconds."""
    step()
    start = time.perf_counter()
    step()
    return max(1, math.ceil(least / max(time.perf_counter() - start, 1e-7)))


def _turn(step: Step, count: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count


def paired(ours: Step, peer: Step, pairs: int, least: float) -> Pairs:
    """Ours, peer, ours, peer, ...: `pairs` turns each, of at least `least` seconds."""
    subjects = [(ours, _count(ours, least)), (peer, _count(peer, least))]
    result = Pairs({"wall": [], "cpu": []}, {"wall": [], "cpu": []})
    for _ in range(pairs):
        for (step, count), kept in zip(subjects, (result.ours, result.peer), strict=True):
            wall, cpu = _turn(step, count)
            kept["wall"].append(wall)
            kept["cpu"].append(cpu)
    return result


def quick_seconds(step: Step, calls: int = 3) -> float:
    """A rough wall time of one call, to choose between variants."""
    step()
    return min(_turn(step, 1)[0] for _ in range(calls))
