"""Fused groups of a graph as phases, run in the simulator and compared with torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tests.helpers import _exact_nodes, _wide, assert_close_to_reference
from xcompile import sim
from xcompile.codegen.ascend.builder import AscendBuilder, Phase
from xcompile.compiler import make_target
from xcompile.ir import Graph, Node, Value
from xcompile.layout import layouts
from xcompile.ops.group import GROUP
from xcompile.passes import run_pipeline
from xcompile.passes.grouping import make_group
from xcompile.symbolic import Range, evaluate, symbol

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
TARGET = make_target("ascend910b")
T, S = symbol("T"), symbol("S")
F32, F16, BF16, I64, I32 = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
)
ENTRY = """
extern "C" __global__ __vector__ void k_{name}(GM_ADDR sizes{params}) {{
  using namespace xc;
  TPipe pipe;
  const Team team{{static_cast<int32_t>(GetBlockIdx()), static_cast<int32_t>(GetBlockNum())}};
  {name}(pipe, team, reinterpret_cast<const __gm__ i64*>(sizes){args});
  PipeBarrier<PIPE_ALL>();
}}
"""
Build = Callable[[Graph], Sequence[Value]]


# -- building and running --------------------------------------------------------------------------
@dataclass
class Case:
    """A group, its phase, and the source of all phases that were built together."""

    builder: AscendBuilder
    node: Node
    phase: Phase
    source: str = ""

    def __call__(
        self, *given: torch.Tensor, blocks: int = 48, seed: int = 0, **env: int
    ) -> list[torch.Tensor]:
        """Results for these operands, which lie in memory as the graph says."""
        env = {s: env.get(s, r.hint) for s, r in self.builder.graph.symbols.items()}
        placed: dict[Value, torch.Tensor] = {}
        memory: dict[Value, Any] = {}
        inputs = dict(zip(self.node.inputs, given, strict=True))
        for v in (*self.node.inputs, *self.node.outputs):
            if v in placed:
                continue
            lay = self.builder.layouts[v]
            at = evaluate(lay.offset, env)
            root = torch.zeros(max(1, evaluate(lay.root.type.numel, env)), dtype=v.dtype)
            shape = [evaluate(d, env) for d in v.shape]
            steps = [evaluate(s, env) for s in lay.strides]
            placed[v] = view = root.as_strided(shape, steps, at)
            if v in inputs:
                source = inputs[v]
                for d, s in enumerate(steps):  # an expanded dim is written once
                    if s == 0 and shape[d] > 1:
                        view, source = view.narrow(d, 0, 1), source.narrow(d, 0, 1)
                view.copy_(source)
            tail = root[min(at, len(root) - 1) :]
            whole = v in self.node.outputs and view.numel() == tail.numel()
            memory[v] = sim.Out(tail) if whole else tail
        sizes = torch.tensor([env[s] for s in self.builder.symbols] or [0])
        kernel = sim.load(self.source, f"k_{self.phase.name}", blocks=blocks, include=[LIB])
        self.result = kernel(sizes, *(memory[a] for a in self.phase.args), seed=seed)
        return [placed[v].clone() for v in self.node.outputs]

    def check(self, *given: torch.Tensor, blocks: int = 48, seed: int = 0, **env: int) -> None:
        got = self(*given, blocks=blocks, seed=seed, **env)
        env = {s: env.get(s, r.hint) for s, r in self.builder.graph.symbols.items()}
        body = self.node.body
        assert body is not None
        eager = body.eval(*given, env=env)
        known = {v: _wide(t) for v, t in zip(body.inputs, given, strict=True)}
        with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            _exact_nodes(body, known, env)
        for k, (a, b, v) in enumerate(zip(got, eager, body.outputs, strict=True)):
            made = body.producers().get(v)
            what = f"output {k} ({made.op.name if made else 'input'})"
            assert_close_to_reference(a, b, known[v], what=what)


def text_of(phases: Sequence[Phase]) -> str:
    parts = ['#include "kernel_operator.h"']
    for p in {p.name: p for p in phases}.values():
        parts.append(p.source.replace("#pragma once", ""))
        params = "".join(f", GM_ADDR p{k}" for k in range(len(p.args)))
        args = "".join(f", p{k}" for k in range(len(p.args)))
        parts.append(ENTRY.format(name=p.name, params=params, args=args))
    return "\n".join(parts)


def together(cases: Sequence[Case]) -> list[Case]:
    """Compiles them as one file."""
    source = text_of([c.phase for c in cases])
    for c in cases:
        c.source = source
    return list(cases)


def new_graph(build: Build, **ranges: Range) -> Graph:
    g = Graph(symbols={"T": Range(0, 8192, 7), "S": Range(0, 1 << 30, 9), **ranges})
    g.outputs = list(build(g))
    used = {str(s) for v in g.inputs for d in v.shape for s in getattr(d, "free_symbols", ())}
    used |= {str(s) for n in g.nodes for d in n.out.shape for s in getattr(d, "free_symbols", ())}
    g.symbols = {s: r for s, r in g.symbols.items() if s in used}
    return g


def fused(build: Build, **ranges: Range) -> Case:
    """All that `build` makes as one group."""
    g = new_graph(build, **ranges)
    node = make_group(g.nodes, g.outputs, g.producers())
    whole = Graph([*g.inputs], [node], [*node.outputs], g.consts, {}, g.symbols)
    return case(whole)


def case(g: Graph) -> Case:
    b = AscendBuilder(TARGET, g, layouts(g))
    (n,) = [n for n in g.nodes if n.op is GROUP]
    c = Case(b, n, b.build(n))
    return together([c])[0]


def piped(build: Build, **ranges: Range) -> list[Case]:
    """The groups that the compiler makes of a graph."""
    g, _ = run_pipeline(new_graph(build, **ranges), TARGET, names=("layout", "fuse_loops"))
    b = AscendBuilder(TARGET, g, layouts(g))
    return together([Case(b, n, b.build(n)) for n in g.nodes if n.op is GROUP])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(shape: Sequence[int], dtype: torch.dtype = F32, seed: int = 0) -> torch.Tensor:
    g = rng(seed + sum(shape))
    if dtype == torch.bool:
        return torch.rand(shape, generator=g) > 0.5
    if not dtype.is_floating_point:
        low, high = (0, 100) if dtype == torch.uint8 else (-100, 100)
        return torch.randint(low, high, shape, generator=g).to(dtype)
    return (torch.randn(shape, generator=g) * 2).to(dtype)


def fused_of(build: Build) -> Case:
    (c,) = piped(build)
    return c
