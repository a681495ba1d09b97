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
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.sim_published import GROUPS, Case, Group, Report
from benchmarks.sim_stream import MATMULS, matmul_stream
from xcompile.sim import library

ROOT = Path(__file__).parent.parent
KERNELS = ROOT / "examples" / "ascendc" / "timing"
BAR = 0.25


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
