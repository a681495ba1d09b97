"""The passes and their order: the one deliberate list of the compiler."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from xcompile.errors import XCompileError
from xcompile.ir import Graph
from xcompile.rewrite import Rule, apply
from xcompile.targets import Target

assert __name__ == "xcompile.passes", "import passes as xcompile.passes"

PIPELINE = [
    "fuse_moe",  # before constants fold: turned copies of experts' weights are not wanted
    "canonicalise",  # rules below match the simplest form
    # a pass of QUANTISE, if asked for: here experts are known, and routers as the model has them
    "lift",  # norms and rope become one node before anything fuses into them
    "lift_route",
    "lift_gqa",
    "lift_causal",  # before rewrite_mla, which weighs costs
    "rewrite_mla",  # on whole attention nodes; its products per head are not for the fusions below
    "fuse_mla",
    "fuse_epilogue",  # before merge_linears: a gated MLP's pair must not be split by it
    "merge_linears",
    "canonicalise",
    # bucket_shapes, stages: their place is here, before memory is laid out
    "layout",  # makes the copies explicit, so that they fuse
    "fuse_loops",
]

# Passes that change results, and run only on request: option `quantize` -> pass.
QUANTISE = {"experts-w8a8": "quantise_experts"}


def pipeline(quantize: str | None = None) -> list[str]:
    """The passes of a compilation. Raises XCompileError for an unknown quantisation."""
    if quantize is None:
        return PIPELINE
    if quantize not in QUANTISE:
        raise XCompileError(
            f"unknown quantize={quantize!r}; known: None, {', '.join(map(repr, QUANTISE))}"
        )
    at = PIPELINE.index("lift")
    return [*PIPELINE[:at], QUANTISE[quantize], *PIPELINE[at:]]


@dataclass(frozen=True)
class PassRecord:
    """What the runner saw of one pass: node counts and seconds."""

    name: str
    before: int
    after: int
    seconds: float


Observer = Callable[[str, Graph, float], None]


def run_pass(name: str, graph: Graph, target: Target) -> Graph:
    """One pass by name. Raises XCompileError for an unknown name."""
    try:
        module = importlib.import_module(f"xcompile.passes.{name}")
    except ModuleNotFoundError:
        known = ", ".join(dict.fromkeys([*PIPELINE, *QUANTISE.values()]))
        raise XCompileError(f"there is no pass {name!r}; passes: {known}") from None
    rules: list[Rule] | None = getattr(module, "RULES", None)
    return apply(graph, rules) if rules is not None else module.run(graph, target)


def run_pipeline(
    graph: Graph,
    target: Target,
    *,
    names: Sequence[str] = PIPELINE,
    observe: Observer = lambda name, graph, seconds: None,
    check: Sequence[torch.Tensor] | None = None,
) -> tuple[Graph, list[PassRecord]]:
    """Run passes in order, verifying after each.

    observe  called with (pass, graph, seconds) after import and after every pass
    check    example inputs: evaluates the graph after every pass and names the pass that changed
             a result (XC_VERIFY=2)
    """
    records = []
    observe("import", graph, 0.0)
    reference = graph.eval(*check) if check is not None else None
    for name in names:
        start, before = time.perf_counter(), len(graph.nodes)
        graph = run_pass(name, graph, target)
        graph.verify()
        seconds = time.perf_counter() - start
        records.append(PassRecord(name, before, len(graph.nodes), seconds))
        observe(name, graph, seconds)
        if check is not None and reference is not None:
            if name in QUANTISE.values():
                reference = graph.eval(*check)  # it was asked to change results
            _compare(name, reference, graph.eval(*check))
    return graph, records


def _compare(name: str, want: list[torch.Tensor], got: list[torch.Tensor]) -> None:
    for k, (a, b) in enumerate(zip(want, got, strict=True)):
        if not a.dtype.is_floating_point:
            bad = float((a != b).float().mean()) if a.numel() else 0.0
            limit = 0.02
        else:
            norm = a.double().norm()
            bad = float((a.double() - b.double()).norm() / norm) if norm > 0 else 0.0
            limit = 1e-5 if a.dtype.itemsize >= 4 else 3e-2
        if not bad <= limit:
            raise XCompileError(
                f"pass {name} changed output {k}: relative error {bad:.3g}, allowed {limit:g}"
            )
