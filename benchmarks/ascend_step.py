"""A decode step of a DeepSeek-V3-style model in the simulator: launches, time by kernel, and what
sharing kernels between phases gains.

    python -m benchmarks.ascend_step [--model ds-mini] [--layers 2] [--requests 4] [--context 512]

`--model deepseek-v3` has the widths of DeepSeek-V3, with 16 experts and a vocabulary of 1024.

Times are the cycle model's (docs/simulator.md), not a device's. `gap` is what the host needs to
start a kernel that is launched; a captured graph replays without most of it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

import xcompile
from benchmarks.models import _COMMON, _FAMILIES, DTYPES
from benchmarks.steps import Paged
from xcompile.symbolic import evaluate

POLICIES = ("phase", "pair", "step")


MODELS: dict[str, dict[str, Any]] = {
    "ds-mini": {},
    "deepseek-v3": {
        "vocab_size": 1024,
        "hidden_size": 7168,
        "intermediate_size": 2048,
        "moe_intermediate_size": 2048,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "n_routed_experts": 16,
        "num_experts_per_tok": 8,
        "n_group": 4,
        "topk_group": 2,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
    },
}


def model_of(name: str, layers: int, dtype: torch.dtype) -> Any:
    kind, sizes = _FAMILIES["ds-mini"]
    options = {**_COMMON, **sizes, **MODELS[name], "num_hidden_layers": layers}
    torch.manual_seed(0)
    cfg = getattr(transformers, kind)(**options)
    return transformers.AutoModelForCausalLM.from_config(cfg, dtype=dtype).eval()


def step_of(run: Any, requests: int, context: int) -> dict[str, Any]:
    """The cycle model's report of one decode step."""
    assert run.spec is not None
    cache = Paged(run.spec, requests, context + 1)
    for t in (*cache.keys, *cache.values):
        t.normal_()
    ids = torch.randint(3, 1000, (requests,))
    args = cache.decode(ids, context)
    start = time.process_time()
    run(*args[:7], args[7], args[8])
    report: dict[str, Any] = run.executor.report
    report["cpu"] = time.process_time() - start
    return report


def classes(run: Any, launches: list[dict[str, Any]], env: dict[str, int]) -> Table:
    """By kind of kernel: launches, time, bytes that its phases load and store, and the least:
    operands and results once, of experts and caches all that there is."""
    of: dict[str, list[float]] = {}
    kernels = run.compiled.target.kernels(run.compiled.plan)
    for (name, _, phases), x in zip(kernels, launches, strict=True):
        row = of.setdefault(name.rsplit("_", 1)[0], [0.0] * 4)
        moved = sum(n for k, n in x["bytes"].items() if k.startswith("GM->") or k.endswith("->GM"))
        least = sum(evaluate(p.nbytes, env) for p in phases)
        for k, v in enumerate((1.0, float(x["us"]), float(moved), float(least))):
            row[k] += v
    table = Table("kernel", "launches", "us", "moved KB", "least KB")
    for label, (count, us, *sizes) in sorted(of.items(), key=lambda i: -i[1][1]):
        table.add_row(label, f"{count:.0f}", f"{us:.1f}", *(f"{n / 1e3:.1f}" for n in sizes))
    return table


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", choices=sorted(MODELS), default="ds-mini")
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--requests", type=int, default=4)
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--dtype", choices=sorted(DTYPES), default="bf16")
    p.add_argument("--launches", choices=POLICIES, nargs="*", default=POLICIES)
    p.add_argument("--chip", default="ascend910b")
    p.add_argument("--checks", default="none", help="as XC_SIM_CHECKS")
    a = p.parse_args()
    os.environ["XC_SIM_CHECKS"] = a.checks
    console = Console()
    summary = Table(
        "launches", "kernels per step", "simulated us", "+ gaps us", "CPU s to simulate"
    )
    for policy in a.launches:
        model = model_of(a.model, a.layers, DTYPES[a.dtype])
        run = xcompile.compile(model, target=f"{a.chip}/{policy}")
        report = step_of(run, a.requests, a.context)
        launches = report["launches"]
        busy = sum(x["us"] for x in launches)
        gaps = sum(x["launch_us"] for x in launches)
        summary.add_row(
            policy, str(len(launches)), f"{busy:.1f}", f"{busy + gaps:.1f}", f"{report['cpu']:.1f}"
        )
        by_kernel: Counter[str] = Counter()
        for x in launches:
            by_kernel[x["name"]] += x["us"]
        table = Table("kernel", "us", "share", title=f"launches = {policy}")
        for name, us in by_kernel.most_common(12):
            table.add_row(name, f"{us:.1f}", f"{us / busy:.0%}")
        console.print(table)
        if policy == "phase":
            assert run.spec is not None
            pages = -(-(a.context + 1) // run.spec.page)
            slots = a.requests * pages * run.spec.page
            env = {"T": a.requests, "R": a.requests, "M": pages, "slots": slots}
            console.print(classes(run, launches, env))
    console.print(summary)


if __name__ == "__main__":
    main()
