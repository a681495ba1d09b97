"""Emitted Ascend kernels of small graphs are their golden texts, one file for each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.helpers import OPS, WEIGHTS, Batch, add, graph_of
from tests.test_codegen import gated_example, loop_example
from xcompile.codegen.lower import lower
from xcompile.ir import Graph, Type, Value
from xcompile.passes import run_pipeline
from xcompile.symbolic import Range, symbol
from xcompile.targets.ascend import ascend

TARGET = ascend("ascend910b1")
T = symbol("T")
SYMBOLS = {"T": Range(1, 64, 5)}
F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
# a template that another includes, parts of every project, and what has a test of its own below
OTHERS = {"chain", "cmake", "host", "kernel", "linear", "linear_fused", "main", "phase"}
TEMPLATES = sorted(
    p.stem for p in TARGET.template_path.glob("*.j2")
    if p.stem not in {*OTHERS, "vendor_step"}
)  # fmt: skip


def phases_of(g: Graph) -> str:
    plan = lower(run_pipeline(g, TARGET)[0], TARGET)
    return "\n\n".join(text for _, text in sorted(plan.kernels.items())) + "\n"


def sample(name: str) -> Graph:
    op = OPS[name]
    args, attrs = op.sample(torch.Generator().manual_seed(0))  # type: ignore[misc]
    b = Batch()
    b.op(name, op, args, attrs, WEIGHTS.get(name, ()))
    return b.graph


@pytest.mark.parametrize("name", [*TEMPLATES, "head_linear"])
def test_a_template_emits_its_golden_phase(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"ascend/{name}.cpp", phases_of(sample(name)))


def linear_example(g: Graph, x: Value, y: Value) -> list[Value]:
    return [add(g, "linear", x, g.const(torch.zeros(16, 24, dtype=BF16), "w"))]


def norm_example(g: Graph, x: Value, y: Value) -> list[Value]:
    h = add(g, "add", x, y)
    return [h, add(g, "rms_norm", h, g.const(torch.ones(24, dtype=BF16), "w"), eps=1e-6)]


GRAPHS: dict[str, Callable[..., Any]] = {
    "chain": loop_example,
    "linear": linear_example,
    "linear_fused": gated_example,
    "norm": norm_example,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_fused_phase_is_its_golden_text(name: str, golden: Callable[[str, str], None]) -> None:
    g = graph_of(GRAPHS[name], Type(BF16, (T, 24)), Type(BF16, (T, 24)), symbols=SYMBOLS)
    golden(f"ascend/{name}.cpp", phases_of(g))


def test_a_kernel_and_the_host_program_are_their_golden_texts(
    golden: Callable[[str, str], None],
) -> None:
    def build(g: Graph, cache: Value, slots: Value, x: Value) -> list[Value]:
        h = add(g, "linear", x, g.const(torch.zeros(24, 24), "w"))
        return [add(g, "index_copy", cache, slots, h, dim=0), add(g, "cumsum", add(g, "exp", h))]

    types = Type(F32, (64, 24)), Type(I64, (T,)), Type(F32, (T, 24))
    g = graph_of(build, *types, state={0: 0}, symbols=SYMBOLS)
    plan = lower(run_pipeline(g, TARGET)[0], TARGET)
    files = TARGET.emit(plan)
    golden("ascend/host.cpp", files["host.cpp"])
    kernels = [text for name, text in sorted(files.items()) if name.startswith("kernels/")]
    golden("ascend/kernel.cpp", "\n\n".join(kernels))
