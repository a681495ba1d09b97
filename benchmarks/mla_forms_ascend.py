"""Absorbed against expanded latent attention on Ascend by the cycle model: prompts at V3's widths.

    python -m benchmarks.mla_forms_ascend [--heads 128] [--cases 512,2048,4096,512+2048]

A case is a step: requests of `new` or `new+past` tokens, with / between them and `x4` behind one
that comes four times. Times are the cycle model's (docs/simulator.md), not a device's: of the
products with U and V and of attention, pages of 128, nothing in L2 at the start. `three ops`:
three kernels, all requests absorbed, as before; `absorbed` and `expanded`: the one kernel with the
choice made for it; `chosen`: as it is.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import xcompile
from benchmarks.models import DTYPES
from xcompile.codegen.ascend import mla_attention
from xcompile.frontend import torch_ops
from xcompile.runtime.ascend import AscendExecutor
from xcompile.sim.loader import _Runtime
from xcompile.targets.ascend import Ascend

NOPE, ROPE, RANK, V, PAGE = 128, 64, 512, 128, 128
FORMS = ("three ops", "absorbed", "expanded", "chosen")
RULES = {"absorbed": (1 << 40, 1, 0, 0), "expanded": (1, 1, 0, -1)}


class Step(torch.nn.Module):
    """What a layer does with its queries and the cache of latents."""

    def __init__(self, heads: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.up = torch.nn.Parameter(torch.zeros(heads, NOPE, RANK, dtype=dtype))
        self.value = torch.nn.Parameter(torch.zeros(heads, V, RANK, dtype=dtype))

    def forward(
        self, own: Tensor, rot: Tensor, cache: Tensor, cu: Tensor, lens: Tensor, tables: Tensor
    ) -> Tensor:
        q = torch.cat((torch_ops.head_linear(own, self.up.transpose(1, 2)), rot), -1)
        y = torch_ops.paged_attention(
            q, cache, cache[..., :RANK], cu, lens, tables, (NOPE + ROPE) ** -0.5, PAGE
        )
        return torch_ops.head_linear(y, self.value)


def arguments(case: str, heads: int, dtype: torch.dtype) -> list[Tensor]:
    new: list[int] = []
    lens: list[int] = []
    for text in case.split("/"):
        size, _, times = text.partition("x")
        fresh, _, past = size.partition("+")
        new += [int(fresh)] * int(times or 1)
        lens += [int(fresh) + int(past or 0)] * int(times or 1)
    used = [-(-n // PAGE) for n in lens]
    ids = torch.randperm(sum(used), generator=torch.Generator().manual_seed(1))
    tables = torch.zeros(len(lens), max(used), dtype=torch.int64)
    for r, n in enumerate(used):
        tables[r, :n] = ids[sum(used[:r]) : sum(used[:r]) + n]
    own, rot = (torch.zeros(sum(new), heads, d, dtype=dtype) for d in (NOPE, ROPE))
    cache = torch.zeros(sum(used) * PAGE, 1, RANK + ROPE, dtype=dtype)
    return [own, rot, cache, torch.tensor([0, *new]).cumsum(0), torch.tensor(lens), tables]


def compiled(form: str, heads: int, dtype: torch.dtype) -> AscendExecutor:
    dim = torch.export.Dim
    count = dim("R", max=256)
    shapes = [{0: dim("T", max=8192)}] * 2 + [{0: dim("S", max=1 << 20)}]
    shapes += [{0: count + 1}, {0: count}, {0: count, 1: dim("M", max=256)}]
    with ExitStack() as stack, torch.no_grad():
        if form == "three ops":
            stack.enter_context(mock.patch.object(Ascend, "chooses_mla", False))
        if form in RULES:
            answer = RULES[form]
            stack.enter_context(mock.patch.object(mla_attention, "rule", lambda *a: answer))
        run = xcompile.compile(
            Step(heads, dtype), arguments("200/3+150", heads, dtype), dynamic_shapes=tuple(shapes),
            target="ascend910b1", strict=True,
        )  # fmt: skip
    assert isinstance(run.executor, AscendExecutor)
    run.executor.options = replace(run.executor.options, checks="none")
    return run.executor


def measure(run: AscendExecutor, args: list[Tensor]) -> dict[str, Any]:
    """Microseconds, and the report of the cycle model."""
    begun = time.process_time()
    run.open()
    _Runtime.get().lib.ascsim_cold_l2()
    run(*args)
    report = run.report
    return {"us": report["us"], "cpu": time.process_time() - begun, "report": report}


def table(a: argparse.Namespace) -> Table:
    forms, dtype = a.forms.split(","), DTYPES[a.dtype]
    out = Table(f"{a.heads} heads", *(f"{f}, us" for f in forms), "first / last", "cpu s")
    runs = [compiled(f, a.heads, dtype) for f in forms]
    for case in a.cases.split(","):
        found = [measure(run, arguments(case, a.heads, dtype)) for run in runs]
        us = [x["us"] for x in found]
        out.add_row(case, *(f"{x:.1f}" for x in us), f"{us[0] / us[-1]:.2f}",
                    f"{sum(x['cpu'] for x in found):.0f}")  # fmt: skip
        for f, x in zip(forms, found, strict=True):
            for launch in x["report"]["launches"] if a.verbose else ():
                print(case, f, {k: v for k, v in launch.items() if k != "hot"})
                for line in launch["hot"][:20]:
                    print("   ", line)
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--heads", type=int, default=128)
    p.add_argument("--cases", default="512,2048,4096,512+2048")
    p.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    p.add_argument("--forms", default=",".join(FORMS))
    p.add_argument("--verbose", action="store_true")
    a = p.parse_args()
    Console(width=160).print(table(a))


if __name__ == "__main__":
    main()
