"""Where a compiled step spends its time: one row per kernel.

    python -m benchmarks.profile_step --model ds-mini --case decode:1 --case prefill:512

The step's own host source is built a second time with a clock read after every launch, and run on
the weights of the first build. Times are medians over steps, per launch, then summed per kernel;
the clock is the first thread's CPU time, whose cost is measured and subtracted. Bytes and flops
count what a launch must touch: only the experts, embedding rows and cache rows that are used.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import xcompile
from benchmarks.models import DTYPES, MODELS, build
from benchmarks.steps import Paged
from xcompile.compiler import load_library
from xcompile.executable import Executable
from xcompile.ir import Type
from xcompile.plan import Launch
from xcompile.runtime.executor import Executor
from xcompile.symbolic import evaluate

CLOCKS = {"cpu": "CLOCK_THREAD_CPUTIME_ID", "wall": "CLOCK_MONOTONIC"}

_PRELUDE = """#include <ctime>
namespace {{
int64_t xc_spent[{count}], xc_last;
int64_t xc_now() {{
  timespec t;
  clock_gettime({clock}, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}}
}}  // namespace
"""

_EXPORTS = """
extern "C" {
int64_t* xc_profile() { return xc_spent; }
/// Nanoseconds of one clock read.
int64_t xc_clock_cost() {
  const int64_t begin = xc_now();
  for (int i = 0; i < 1000; ++i) xc_last = xc_now();
  return (xc_last - begin) / 1000;
}
}
"""


def instrument(host: str, clock: str) -> tuple[str, int]:
    """The host source with a clock read after each launch, and how many launches it has.

    Launches are numbered as they stand in the text, which is the order of `Plan.launches`.
    """
    count = 0

    def mark(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        read = "{ const int64_t now = xc_now(); xc_spent[%d] = now - xc_last; xc_last = now; }"
        return f"{match[0]}\n    if (t.tid == 0) {read % (count - 1)}"

    host = re.sub(r"t\.barrier\(\);", mark, host)
    begin = "if (t.tid == 0) xc_last = xc_now();"
    host = re.sub(r"(void segment\d+\(.*\{\n)", rf"\1  {begin}\n", host)
    prelude = _PRELUDE.format(count=max(count, 1), clock=CLOCKS[clock])
    host = host.replace('#include "team.hpp"\n', f'#include "team.hpp"\n{prelude}', 1)
    return host + _EXPORTS, count


class Profiler:
    """Runs an executable's step with a clock read after every launch."""

    def __init__(self, exe: Executable, threads: int, clock: str) -> None:
        compiled = exe.compiled
        assert compiled is not None, "only a model compiled in this process can be profiled"
        sources = dict(compiled.sources)
        sources["host.cpp"], count = instrument(sources["host.cpp"], clock)
        library = load_library(compiled.target.build(sources))
        library.handle.xc_profile.restype = ctypes.POINTER(ctypes.c_int64)
        library.handle.xc_clock_cost.restype = ctypes.c_int64
        self.cost = library.handle.xc_clock_cost()
        self.launches = compiled.plan.launches
        self.signature = exe.signature
        self.spent = np.ctypeslib.as_array(library.handle.xc_profile(), (max(count, 1),))[:count]
        assert count == len(self.launches)
        program = compiled.plan.program()
        executor = Executor(program, library, exe.executor.weights, threads)
        self.step = Executable(executor, exe.signature)

    def run(self, calls: Sequence[tuple], seconds: float) -> tuple[np.ndarray, float]:
        """Per-launch median seconds, and the median wall seconds of a whole call."""
        for args in calls[:2]:
            self.step(*args)
        rows, walls = [], []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(rows) < 5:
            start = time.perf_counter()
            self.step(*calls[len(rows) % len(calls)])
            walls.append(time.perf_counter() - start)
            rows.append(self.spent.copy())
        spent = np.median(np.stack(rows), axis=0) - self.cost
        return np.maximum(spent, 0) * 1e-9, float(np.median(walls))


@dataclass
class Work:
    """The batch that a step was given, and its symbols."""

    env: Mapping[str, int]
    lengths: list[int]  # new tokens per request
    contexts: list[int]

    @classmethod
    def of(cls, args: Sequence[Any]) -> Work:
        ids, _, _, cu, contexts, tables = args[:6]
        env = {
            "T": ids.numel(),
            "R": contexts.numel(),
            "M": tables.shape[1],
            "slots": args[7][0].shape[0],
        }
        return cls(env, cu.diff().tolist(), contexts.tolist())

    def size(self, t: Type) -> int:
        return evaluate(t.nbytes, self.env)

    def cost(self, x: Launch) -> tuple[float, float]:
        """Bytes that a launch must move, and its floating-point operations."""
        n = x.node
        ins = [v.type for v in n.inputs]
        outs = [v.type for v in n.outputs]
        flops = float(evaluate(x.flops, self.env))
        if n.op.name == "moe_experts":
            tokens, k = (evaluate(d, self.env) for d in ins[1].shape)
            experts = int(ins[3].shape[0])
            hit = experts * (1 - (1 - k / experts) ** tokens)  # expected, uniform routing
            weights = (self.size(ins[3]) + self.size(ins[4])) * hit / experts
            return weights + 2 * self.size(ins[0]), flops
        pairs = sum(
            n * c - n * (n - 1) / 2 for n, c in zip(self.lengths, self.contexts, strict=True)
        )
        if n.op.name == "mla_attention":  # absorbed
            q, rot, cache = ins[:3]
            row = self.size(cache) / evaluate(cache.shape[0], self.env)
            rank = int(ins[7].shape[2])
            flops += 2.0 * pairs * int(q.shape[1]) * (2 * rank + int(rot.shape[2]))
            moved = [q, rot, ins[6], ins[8], outs[0]]
            return sum(self.contexts) * row + sum(map(self.size, moved)), flops
        if n.op.name == "paged_attention":
            q, k, v = ins[:3]
            row = (self.size(k) + self.size(v)) / evaluate(k.shape[0], self.env)
            flops = 2.0 * pairs * int(q.shape[1]) * (int(q.shape[2]) + int(v.shape[2]))
            return sum(self.contexts) * row + self.size(q) + self.size(outs[0]), flops
        if n.op.name in ("embedding", "gather"):
            return self.size(ins[1]) + 2.0 * self.size(outs[0]), 0.0
        if n.op.name in ("index_copy", "scatter"):
            return sum(map(self.size, ins[1:-1])) + 2.0 * self.size(ins[-1]), 0.0
        return float(evaluate(x.nbytes, self.env)), flops


def _shapes(x: Launch) -> str:
    """What tells kernels of one kind apart: operand types, weights first for linear."""
    types = [str(v.type) for v in x.node.inputs]
    if x.node.op.name == "moe_experts":
        types = types[3:]
    text = ", ".join(types[:3]) + (", ..." if len(types) > 3 else "")
    return f"{text} -> {', '.join(str(v.type) for v in x.node.outputs)}"


def table(profiler: Profiler, spent: np.ndarray, work: Work) -> list[dict[str, Any]]:
    """One row per kernel, slowest first."""
    rows: dict[str, dict[str, Any]] = {}
    for x, seconds in zip(profiler.launches, spent, strict=True):
        moved, flops = work.cost(x)
        if x.kernel not in rows:
            kind = x.kernel.rsplit("_", 1)[0]
            rows[x.kernel] = {"kernel": x.kernel, "kind": kind, "shapes": _shapes(x)}
            rows[x.kernel] |= {"calls": 0, "seconds": 0.0, "bytes": 0.0, "flops": 0.0}
        row = rows[x.kernel]
        row["calls"] += 1
        row["seconds"] += float(seconds)
        row["bytes"] += moved
        row["flops"] += flops
    return sorted(rows.values(), key=lambda row: -row["seconds"])


def show(rows: list[dict[str, Any]], wall: float) -> str:
    """The table as text, with sums per kind at its end."""
    total = sum(row["seconds"] for row in rows)
    lines = [f"{'kernel':26} {'calls':>5} {'ms':>8} {'us/call':>8} {'share':>6} "
             f"{'GB/s':>6} {'GFLOP/s':>8}  operands"]  # fmt: skip
    for row in rows:
        s = max(row["seconds"], 1e-9)
        lines.append(
            f"{row['kernel']:26} {row['calls']:5d} {s * 1e3:8.3f} {s / row['calls'] * 1e6:8.1f} "
            f"{s / total:6.1%} {row['bytes'] / s / 1e9:6.1f} {row['flops'] / s / 1e9:8.1f}  "
            f"{row['shapes']}"
        )
    lines.append("")
    for kind in sorted({row["kind"] for row in rows}, key=lambda k: -_sum(rows, k, "seconds")):
        s = max(_sum(rows, kind, "seconds"), 1e-9)
        lines.append(
            f"{kind:26} {_sum(rows, kind, 'calls'):5.0f} {s * 1e3:8.3f} {'':8} {s / total:6.1%} "
            f"{_sum(rows, kind, 'bytes') / s / 1e9:6.1f} {_sum(rows, kind, 'flops') / s / 1e9:8.1f}"
        )
    lines.append(
        f"{'all launches':26} {sum(row['calls'] for row in rows):5d} {total * 1e3:8.3f}"
        f"          (a call, wall: {wall * 1e3:.3f} ms)"
    )
    return "\n".join(lines)


def _sum(rows: list[dict[str, Any]], kind: str, key: str) -> float:
    return sum(row[key] for row in rows if row["kind"] == kind)


def calls_for(exe: Executable, case: str, context: int, vocab: int) -> list[tuple]:
    """Eight argument lists of a case, "decode:BATCH" or "prefill:TOKENS", with differing tokens."""
    kind, _, size = case.partition(":")
    n = int(size)
    spec = exe.spec
    assert spec is not None
    ids = torch.randint(3, vocab, (8, n), generator=torch.Generator().manual_seed(2))
    if kind == "prefill":
        paged = Paged(spec, 1, n)
        return [paged.prefill(x) for x in ids]
    paged = Paged(spec, n, context + 1)
    for cache in (*paged.keys, *paged.values):
        cache.normal_()
    return [paged.decode(x, context) for x in ids]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="ds-mini")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", action="append", help="decode:BATCH or prefill:TOKENS")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--clock", choices=list(CLOCKS), default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="time per case")
    parser.add_argument("--quick", action="store_true", help="tiny model")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = build(args.model, DTYPES[args.dtype], quick=args.quick)
    exe = xcompile.compile(model, threads=args.threads)
    profiler = Profiler(exe, args.threads, args.clock)
    for case in args.case or ["decode:1", "decode:16", "prefill:512"]:
        calls = calls_for(exe, case, args.context, model.config.vocab_size)
        spent, wall = profiler.run(calls, args.seconds)
        print(f"\n## {args.model} {args.dtype} {case}, {args.threads} thread(s), {args.clock} time")
        print(show(table(profiler, spent, Work.of(calls[0])), wall), flush=True)


if __name__ == "__main__":
    main()
