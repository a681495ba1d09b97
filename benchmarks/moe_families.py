"""Which mixture-of-experts families of transformers compile, and how, through each door.

    python benchmarks/moe_families.py [FAMILY ...] [--doors step,compile,...] [--dtype bf16]

Tiny random models; nothing is built: the passes run, code is generated, and the final graph is
evaluated by the ops' references and compared to the model's own eager code. Cells:

    fused        every experts region became moe_experts; +R: every router moe_route
    unfused      compiled without moe_experts
    islands      only without strict: named torch ops stay eager
    refused      an error that says why
    WRONG        another result than eager (relative L2 error above the bar)
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.zoo_moe import FAMILIES, VOCAB, tiny
from xcompile import compiler
from xcompile.codegen.lower import lower
from xcompile.frontend import huggingface as hf
from xcompile.frontend.hf_experts import is_experts
from xcompile.ir import Graph
from xcompile.passes import run_pipeline

DOORS = ("step", "compile", "export", "batched")
BAR = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
SECONDS = 240


class Logits(torch.nn.Module):
    """The plain call of a model, without caches."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        out = self.model(input_ids, use_cache=False)
        return out.logits if hasattr(out, "logits") else out[0]


def stable_topk(x: torch.Tensor, k: int, dim: int = -1, *_: Any, **__: Any) -> Any:
    """torch.topk with ties by index: torch takes any of them, and so differs from itself."""
    values, indices = torch.sort(x, dim=dim, descending=True, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))


class Seen:
    """Graphs that went through the compiler, and the islands that were left in them."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []

    def compile_graph(self, imported: Any, target: Any = "cpu", **_: Any) -> Any:
        target = compiler.make_target("cpu")
        routed, _ = run_pipeline(imported.graph, target)
        self.graphs.append(routed)
        target.emit(lower(routed, target))
        return mock.Mock(graph=routed)

    def executor(self, compiled: Any, *_: Any) -> Callable[..., list[torch.Tensor]]:
        g = compiled.graph

        def run(*args: torch.Tensor) -> list[torch.Tensor]:
            outs = g.eval(*args)
            for o, i in g.state.items():
                args[i].copy_(outs[o])
            return [t for o, t in enumerate(outs) if o not in g.state]

        return run

    def verdict(self, layers: int) -> str:
        names = [n.op.name for g in self.graphs for n in g.nodes]
        left = {
            n.attrs["target"] for g in self.graphs for n in g.nodes if n.op.name == "torch_call"
        }
        if left:
            return "islands: " + ", ".join(sorted(left))
        if not layers:
            return "no experts in the tiny model"
        experts, routes = names.count("moe_experts"), names.count("moe_route")
        if experts < layers:
            return "unfused" if not experts else f"fused {experts} of {layers}"
        return "fused+R" if routes >= layers else "fused"


def step(model: Any, seen: Seen, ids: torch.Tensor) -> torch.Tensor:
    """The serving step: ids as two requests' prompts, last logits of both."""
    program = hf.export_step(model, functional=False)
    from xcompile.api import step_names
    from xcompile.frontend.fx import from_export

    imported = from_export(program, step_names(program))
    run = seen.executor(seen.compile_graph(imported))
    n, page = ids.shape[1], hf.DEFAULT_PAGE
    with hf.prepared(model, verify=False):
        spec = hf.StepModel(model, verify=False).spec
    caches = [torch.zeros(4 * page, *s) for s in _shapes(spec)]
    rows = [[page + t for t in range(n)], [2 * page + t for t in range(n)]]
    columns = (ids.flatten().tolist(), [*range(n)] * 2, rows[0] + rows[1], [0, n, 2 * n], [n, n],
               [[1], [2]], [n - 1, 2 * n - 1])  # fmt: skip
    args = [*[torch.tensor(c) for c in columns], *[c.to(spec.dtype) for c in caches]]
    return run(*[args[i] for i in imported.inputs])[0]


def _shapes(spec: Any) -> list[tuple[int, ...]]:
    return [(h, d) for h, d, _ in spec.kv_shapes] + [(h, v) for h, _, v in spec.kv_shapes]


def compiled(model: Any, seen: Seen, ids: torch.Tensor) -> torch.Tensor:
    """torch.compile(backend="xllm") on the unprepared model."""
    torch._dynamo.reset()
    from xcompile import backend

    with (
        mock.patch.object(backend, "compile_graph", seen.compile_graph),
        mock.patch.object(backend, "executor", seen.executor),
    ):
        return torch.compile(Logits(model), backend="xllm", fullgraph=True)(ids)


def exported(model: Any, seen: Seen, ids: torch.Tensor) -> torch.Tensor:
    """torch.export of the unprepared model, with dynamic batch and length."""
    from xcompile import api

    shapes = ({0: torch.export.Dim("B", max=16), 1: torch.export.Dim("S", max=128)},)
    program = api._export(Logits(model), (ids,), {}, shapes)
    imported = api.from_export(program, {})
    return seen.executor(seen.compile_graph(imported))(ids)[0]


def try_door(door: str, family: str, dtype: torch.dtype) -> str:
    model = tiny(family, dtype)
    if door == "step" and not hasattr(model, "lm_head"):
        return "no language model"
    if door != "step" and any(map(is_experts, model.modules())):
        model.set_experts_implementation("batched_mm" if door == "batched" else "grouped_mm")
    layers = sum(hasattr(m, "experts") for m in model.modules())
    ids = torch.randint(3, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    seen = Seen()
    run = {"step": step, "compile": compiled, "export": exported, "batched": exported}[door]
    with torch.no_grad():
        with (
            mock.patch.object(torch, "topk", stable_topk),
            mock.patch.object(torch.Tensor, "topk", stable_topk),
        ):
            want = Logits(model)(ids)
        want = want[:, -1] if door == "step" else want
        try:
            got = run(model, seen, ids)
        except Exception as e:  # the table says what happened
            return f"refused: {_reason(e)}"
    error = float((got.double() - want.double()).norm() / want.double().norm())
    if not error <= BAR[dtype]:
        return f"WRONG ({error:.1e})"
    return seen.verdict(layers)


def _reason(e: BaseException) -> str:
    text = " ".join(str(e).split())
    return f"{type(e).__name__}: {text[:150]}"


class OutOfTime(Exception):
    pass


def _alarm(*_: Any) -> None:
    raise OutOfTime(f"more than {SECONDS} s")


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    p.add_argument("families", nargs="*")
    p.add_argument("--doors", default=",".join(DOORS))
    p.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    a = p.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    signal.signal(signal.SIGALRM, _alarm)
    doors = a.doors.split(",")
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[a.dtype]
    print("| family | " + " | ".join(doors) + " |\n|---|" + "---|" * len(doors))
    for family in a.families or FAMILIES:
        cells = []
        for door in doors:
            signal.alarm(SECONDS)
            try:
                cells.append(try_door(door, family, dtype))
            except Exception as e:
                cells.append(f"no tiny model: {_reason(e)}")
            signal.alarm(0)
        print(f"| {family} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
