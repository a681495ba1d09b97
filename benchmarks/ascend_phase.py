"""One phase of an emitted step alone in the simulator, by its cycle model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xcompile import sim
from xcompile.codegen.ascend.builder import Phase
from xcompile.ir import Value
from xcompile.layout import Layout
from xcompile.plan import Packed
from xcompile.sim.loader import _Runtime
from xcompile.symbolic import evaluate
from xcompile.targets.ascend import Ascend

LIB = Path(__file__).parent.parent / "templates" / "ascend" / "lib"
ENTRY = """
extern "C" __global__ {core} void {entry}(GM_ADDR sizes{params}) {{
  using namespace xc;
  Team team{{static_cast<int32_t>(GetBlockIdx()), static_cast<int32_t>(GetBlockNum())}};
  {more}
  TPipe pipe;
  {name}(pipe, team, reinterpret_cast<const __gm__ i64*>(sizes){args});
  PipeBarrier<PIPE_ALL>();
}}
"""
CORE = {"cube": "__cube__", "mix": "__mix__(1, 2)", "vector": "__vector__"}
MORE = {"cube": "", "vector": "", "mix": "if ASCEND_IS_AIV { team.count *= 2; }"}


def source(phases: list[Phase]) -> str:
    """Phases, each behind an entry `entry_NAME`."""
    text = ""
    for p in {p.name: p for p in phases}.values():
        text += p.source.replace("#pragma once\n", "") + ENTRY.format(
            core=CORE[p.unit],
            more=MORE[p.unit],
            entry=f"entry_{p.name}",
            name=p.name,
            params="".join(f", GM_ADDR a{i}" for i in range(len(p.args))),
            args="".join(f", a{i}" for i in range(len(p.args))),
        )
    return text


def operand(
    target: Ascend, a: Any, env: dict[str, int], lay: Mapping[Value, Layout] | None = None
) -> np.ndarray:
    """Zeros for an argument of a phase: the simulator's time hardly depends on values."""
    if isinstance(a, Packed):
        like = [torch.empty(v.shape, dtype=v.dtype, device="meta") for v in a.values]
        return np.zeros(target.pack(a.kind, like).nbytes, np.uint8)
    if isinstance(a, Value):
        a = (lay[a].root if lay else a).type.nbytes
    return np.zeros(max(evaluate(a, env), 1), np.uint8)


def simulate(
    target: Ascend,
    text: str,
    phase: Phase,
    env: dict[str, int],
    operands: list[np.ndarray] | None = None,
    *,
    warm: bool = False,
) -> dict[str, Any]:
    """The cycle model's report of one launch on all cores; `warm`: of the second in a row."""
    cores = target.chip.aiv if phase.unit == "vector" else target.chip.aic
    run = sim.load(
        text,
        f"entry_{phase.name}",
        include=[LIB],
        chip=target.chip.part,
        blocks=cores,
        checks="none",
    )
    sizes = np.array([env[s] for s in sorted(env)] or [0])
    given = operands or [operand(target, a, env) for a in phase.args]
    _Runtime.get().lib.ascsim_cold_l2()
    for _ in range(1 + warm):
        report: dict[str, Any] = run(sizes, *given).report["launches"][0]
    return report


def row(*cells: object) -> None:
    """Prints a row of a table at once: long cases come one by one."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def heading(*names: str) -> None:
    row(*names)
    row(*("-" * len(n) for n in names))
