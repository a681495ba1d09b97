"""Commands on artifacts of the Ascend target: how `run` and `inspect` differ there, and `build`."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from xcompile import artifact
from xcompile.cli_run import console, examples
from xcompile.errors import ShapeError, SimulationError, XCompileError
from xcompile.executable import Executable
from xcompile.ir import bind_shapes
from xcompile.report import Summary, number, summary
from xcompile.runtime.ascend import AscendExecutor
from xcompile.runtime.ascend_link import (
    cann_build,
    cmake,
    find_cann,
    simulator_library,
    simulator_link,
)
from xcompile.sim.library import chip_name
from xcompile.targets.ascend import Ascend

TOP = 8  # kernels shown


def on_ascend(exe: Executable) -> bool:
    return isinstance(exe.executor, AscendExecutor)


# -- run ----------------------------------------------------------------------------------------
def configure(
    exe: Executable,
    *,
    target: str | None,
    chip: str | None,
    seed: int | None,
    checks: bool,
    capture: bool,
    trace: Path | None,
) -> None:
    """Where and how the artifact runs, from the options of `run`. Raises XCompileError for what
    does not fit it."""
    run = exe.executor
    given = {"--chip": chip, "--seed": seed, "--no-checks": not checks, "--trace": trace}
    simulated = [name for name, x in given.items() if x not in (None, False)]
    if target not in (None, "cpu", "sim", "cann"):
        raise XCompileError(f"--target {target}: expected cpu, sim or cann")
    if not isinstance(run, AscendExecutor):
        if target in ("sim", "cann") or simulated or capture:
            what = (
                f"--target {target}" if target in ("sim", "cann") else (*simulated, "--capture")[0]
            )
            raise XCompileError(
                f"{what}: this artifact was compiled for {summary(exe).target}; the simulator and "
                "CANN run those of --target ascend910b"
            )
        return
    if target == "cpu":
        raise XCompileError(
            f"--target cpu: this artifact was compiled for {summary(exe).target}; compile the "
            "model with --target cpu"
        )
    run.device, run.capture, run.trace = target == "cann", capture, _writable(trace)
    if run.device:
        if simulated:
            raise XCompileError(f"{simulated[0]} is of the simulator, not of --target cann")
        find_cann()
    o = run.options
    if chip is not None:
        o = replace(o, chip=chip_name(chip))
        if chip_name(chip) == "950":
            raise XCompileError("--chip 950: the kernels are for the 910B and the 910_93")
    if not checks:
        o = replace(o, checks="none")
    run.options = o if seed is None else replace(o, seed=seed)


def _writable(trace: Path | None) -> Path | None:
    if trace is not None and (trace.is_dir() or not os.access(trace.resolve().parent, os.W_OK)):
        raise XCompileError(f"--trace: cannot write {trace}")
    return trace


def show_errors(e: SimulationError) -> None:
    """A summary of what the checks found; the simulator has printed the details to stderr."""
    out = console()
    rules = Counter(x.rule for x in e.errors)
    kinds = ", ".join(f"{n} {rule}" for rule, n in rules.most_common())
    out.print(Text(str(e.errors[0])))
    out.print(f"[red]failed[/]: the simulator's checks found errors: {kinds}")


def show_simulation(exe: Executable) -> None:
    """Time by the cycle model: of all steps, and of the last one by kernel."""
    run = exe.executor
    if not isinstance(run, AscendExecutor) or run.device or not run.report:
        return
    report, out = run.report, console()
    checks = "all checks passed" if run.options.checks == "all" else f"checks: {run.options.checks}"
    launches = report["launches"]
    steps = f"{run.steps} steps, {run.microseconds:.1f} us; the last: " if run.steps > 1 else ""
    replay = " of a captured graph" if run.capture else ""
    out.print(
        f"simulated  {steps}{report['us']:.2f} us, {len(launches)} launches{replay} on "
        f"{chip_name(run.options.chip)}, {checks}",
        markup=False,
    )
    out.print(kernels_table(report))
    if run.trace is not None:
        out.print(f"{run.trace}: open in ui.perfetto.dev", markup=False)


def kernels_table(report: Mapping[str, Any]) -> Table:
    """The kernels of a step that take longest."""
    us: Counter[str] = Counter()
    times: Counter[str] = Counter()
    longest: dict[str, Mapping[str, Any]] = {}
    for x in report["launches"]:
        us[x["name"]] += x["us"]
        times[x["name"]] += 1
        if x["us"] >= longest.get(x["name"], x)["us"]:
            longest[x["name"]] = x
    total = max(sum(us.values()), 1e-9)
    table = Table(box=None, pad_edge=False)
    table.add_column("kernel")
    for title in ("launches", "us", "share", "HBM", "L2"):
        table.add_column(title, justify="right")
    table.add_column("busiest")
    for name, t in us.most_common(TOP):
        x = longest[name]
        moved = x["bytes"]
        hbm = moved.get("HBM read", 0) + moved.get("HBM write", 0)
        row = [str(times[name]), f"{t:.2f}", f"{t / total:.0%}", number(hbm, "B")]
        table.add_row(Text(name), *row, number(moved.get("L2 hit", 0), "B"), Text(busiest(x)))
    if len(us) > TOP:
        rest = sum(t for _, t in us.most_common()[TOP:])
        table.add_row(f"{len(us) - TOP} more", "", f"{rest:.2f}", f"{rest / total:.0%}", "", "", "")
    return table


def busiest(launch: Mapping[str, Any]) -> str:
    """The pipe that works most of the time: ``AIV MTE2 43%``."""
    shares = [
        (share, f"{kind} {pipe}")
        for kind, facts in launch["kinds"].items()
        for pipe, share in facts["busy"].items()
    ]
    if not shares:
        return "-"
    share, name = max(shares)
    return f"{name} {share:.0%}"


# -- inspect ------------------------------------------------------------------------------------
def inspect_facts(exe: Executable, s: Summary) -> list[tuple[str, str]]:
    """Lines that `inspect` adds: launches, by layer, bytes against the minimum, replay."""
    program = exe.executor.program
    env = program.hints()
    names = len({k.name for k in s.kernels})
    units = Counter(k.unit for k in s.kernels)
    kinds = ", ".join(f"{n} {unit}" for unit, n in sorted(units.items()))
    layers = s.layers
    moved, least = sum(b for _, b in s.costs(env)), minimum(exe, s, env)
    caps = ", ".join(f"{k} up to {v}" for k, v in program.capacity(env).items()) or "these sizes"
    return [
        ("kernels", f"{len(s.kernels)} launches a step ({kinds}) of {names} kernels, which run "
                    f"{len(s.steps)} phases"),
        ("layers", ", ".join(f"{k}: {n}" for k, n in layers.items()) or "none"),
        ("moved", f"{number(moved, 'B')}, {moved / max(least, 1):.2f} times the minimum of "
                  f"{number(least, 'B')} (inputs, outputs and weights once)"),
        ("replay", f"a captured graph replays {len(s.kernels)} launches by one call, for {caps}"),
    ]  # fmt: skip


def minimum(exe: Executable, s: Summary, env: Mapping[str, int]) -> int:
    """Bytes of inputs, outputs and weights, each moved once."""
    from xcompile.symbolic import evaluate

    program = exe.executor.program
    tensors = [*program.inputs, *program.outputs]
    return s.weight_bytes + sum(evaluate(t.type.nbytes, env) for t in tensors)


def simulate_example(exe: Executable, trace: Path | None) -> Mapping[str, Any]:
    """The cycle model's report of a step on the recorded example. Raises XCompileError."""
    run = exe.executor
    assert isinstance(run, AscendExecutor)
    run.trace = _writable(trace)
    given = [t.clone() for t in examples(exe).inputs]
    try:
        specs = [(i.name, i.type) for i in run.program.inputs]
        env = bind_shapes(specs, run.program.symbols, [t.shape for t in given])
    except ShapeError as e:
        raise XCompileError(f"the recorded example does not fit: {e}") from None
    run(*given)
    return {**run.report, "sizes": env}


# -- verify --------------------------------------------------------------------------------------
def run_verify(path: Path, seeds: int, rounds: int, kernel: str | None, chip: str | None) -> bool:
    """Run every phase of an artifact against its node; print a table; True when all pass."""
    from xcompile.progress import step
    from xcompile.verify import Verifier
    from xcompile.verify_bar import Verdict
    from xcompile.verify_inputs import cases

    v = Verifier(path, chip)
    out = console()
    for name in v.artifact.changed:
        out.print(f"! {name} is not what was emitted", style="yellow", markup=False)
    subjects = [s for s in v.subjects if kernel is None or kernel in s.launch.kernel]
    if not subjects:
        known = ", ".join(dict.fromkeys(s.launch.kernel for s in v.subjects)) or "none"
        raise XCompileError(f"--kernel {kernel}: no such kernel; the artifact has: {known}")
    with step("simcc") as progress:
        v.build(subjects, progress)
    total = sum(len(cases(s.launch, v.plan.graph.symbols, seeds, rounds)) for s in subjects)
    done, verdicts = 0, list[Verdict]()
    with step("verify") as progress:

        def tick() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        verdicts = [v.verify(s, seeds, rounds, tick) for s in subjects]
    table = Table(box=None, pad_edge=False)
    for title in ("", "kernel", "node", "cases", "error", "allowed", "us"):
        table.add_column(title, justify="left" if title in ("", "kernel", "node") else "right")
    for x in verdicts:
        mark = "[red]✗[/]" if x.failures else "[green]✓[/]"
        numbers = [str(x.cases), f"{x.error:.3g}", f"{x.allowed:.3g}", f"{x.microseconds:.2f}"]
        table.add_row(mark, Text(x.kernel), Text(_short(x.node)), *numbers)
    out.print(table)
    bad = [x for x in verdicts if x.failures]
    for x in bad:
        out.print(Text(f"{x.kernel} ({x.node}): {len(x.failures)} of {max(x.cases, 1)} cases fail"))
        for line in x.failures[:3]:
            out.print(Text(f"  {line}"))
    runs = f"{sum(x.cases for x in verdicts)} runs on {v.chip} with all checks"
    if bad:
        out.print(f"[red]failed[/]: {len(bad)} of {len(verdicts)} kernels; {runs}")
    else:
        out.print(f"[green]passed[/]: {len(verdicts)} kernels, {runs}")
    return not bad


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# -- build --------------------------------------------------------------------------------------
def build(path: Path, cann: bool, folder: Path | None) -> None:
    """libstep.so and run_step of an artifact's sources, with CANN or for the simulator."""
    a = artifact.read(path)
    if not isinstance(a.target, Ascend):
        raise XCompileError(
            f"{path} was compiled for {a.target}: its library is {a.target.library}"
        )
    to = folder or path.resolve().parent / f"{path.resolve().name}.build"
    source = path.resolve() / "src"
    if path.resolve() in [to.resolve(), *to.resolve().parents]:
        raise XCompileError(f"--build-dir {to}: an artifact holds nothing but its own files")
    installed = find_cann() if cann else None
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise XCompileError(f"cannot write {to}: {e.strerror}") from None
    if installed is not None:
        cann_build(source, to, installed)
    elif shutil.which("cmake") is not None:
        from xcompile.sim.library import home

        simcc = f"{sys.executable} -m xcompile simcc"
        cmake(source, to, {"XC_SIMCC": simcc, "ASC_DIR": str(home() / "cmake")})
    else:
        build_without_cmake(a, to)
    for name in ("libstep.so", "run_step"):
        print(to / name)


def build_without_cmake(a: artifact.Artifact, to: Path) -> None:
    assert isinstance(a.target, Ascend)
    source, part = a.path.resolve() / "src", a.target.chip.part
    names = [f.removeprefix("src/") for f in a.files if f.startswith("src/")]
    texts = {n: (source / n).read_text(encoding="utf-8") for n in names}
    shutil.copyfile(simulator_library(texts, part), to / "libstep.so")
    units = [source / n for n in names if n.endswith((".asc", ".cpp"))]
    simulator_link(units, part, to / "run_step")
