"""Vector kernels at DeepSeek-V3's shapes, in the simulator's cycle model, against its memory.

    python -m benchmarks.ascend_chain [--cases rms_norm ...] [--rows 1 64 4096] [--dtype bf16 f32]

Kernels are emitted as the compiler emits them, for any number of rows, and run without checks.
`cold` starts with nothing in L2. `of HBM` is the share of that time which operands and results once
would take at the memory's rate; results stay in L2, so it may exceed 100%. `reads` counts only what
has to come from memory, and what L2 cannot keep of the results. `warm` is the second of two runs,
of operands and results that fit L2 together, against L2's rate. `moved` is what the kernel loads
and stores; `least` is operands and results once. Times are the cycle model's (docs/simulator.md),
not a device's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.ascend_phase import heading, operand, row, simulate, source
from xcompile.codegen.ascend.builder import AscendBuilder, Phase
from xcompile.compiler import make_target
from xcompile.ir import Graph, Node, Type, Value
from xcompile.layout import layouts
from xcompile.ops.index import EMBEDDING
from xcompile.ops.norm import RMS_NORM, SOFTMAX
from xcompile.ops.order import ARGMAX, TOPK
from xcompile.ops.pointwise import BY_NAME
from xcompile.ops.rope import ROPE
from xcompile.ops.route import DEFAULTS, MOE_ROUTE
from xcompile.ops.view import SLICE
from xcompile.passes import run_pipeline
from xcompile.symbolic import Range, evaluate, symbol
from xcompile.targets.ascend import Ascend

T = symbol("T")
HIDDEN, INNER, LATENT, VOCAB, TABLE, EXPERTS = 7168, 2048, 1536, 129280, 16384, 256
ROWS = (1, 16, 64, 512, 4096)
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
Build = Callable[[Graph, torch.dtype], list[Value]]


def _x(g: Graph, dtype: torch.dtype, *shape: int) -> Value:
    return g.input(Type(dtype, (T, *shape)), f"x{len(g.inputs)}")


def _w(g: Graph, dtype: torch.dtype, *shape: int) -> Value:
    return g.const(torch.ones(shape, dtype=dtype), f"w{len(g.consts)}")


def _norm(cols: int) -> Build:
    return lambda g, d: [g.add(RMS_NORM, _x(g, d, cols), _w(g, d, cols), eps=1e-6)]


def _norm_residual(g: Graph, d: torch.dtype) -> list[Value]:
    y = g.add(BY_NAME["add"], _x(g, d, HIDDEN), _x(g, d, HIDDEN))
    return [y, g.add(RMS_NORM, y, _w(g, d, HIDDEN), eps=1e-6)]


def _pointwise(g: Graph, d: torch.dtype) -> list[Value]:
    """relu(x) * y + w, three ops in one loop."""
    y = g.add(BY_NAME["mul"], g.add(BY_NAME["relu"], _x(g, d, HIDDEN)), _x(g, d, HIDDEN))
    return [g.add(BY_NAME["add"], y, _w(g, d, HIDDEN))]


def _swiglu(cols: int) -> Build:
    def build(g: Graph, d: torch.dtype) -> list[Value]:
        x = _x(g, d, 2 * cols)
        gate = g.add(SLICE, x, dim=1, start=0, stop=cols, step=1)
        up = g.add(SLICE, x, dim=1, start=cols, stop=2 * cols, step=1)
        return [g.add(BY_NAME["mul"], g.add(BY_NAME["silu"], gate), up)]

    return build


def _rope(g: Graph, d: torch.dtype) -> list[Value]:
    """The rotated part of 128 heads of queries."""
    x = g.add(SLICE, _x(g, d, 128, 192), dim=2, start=128, stop=192, step=1)
    return [g.add(ROPE, x, _x(g, d, 1, 64), _x(g, d, 1, 64), interleaved=True)]


def _route(g: Graph, d: torch.dtype) -> list[Value]:
    attrs = {"k": 8, "score": "sigmoid", "groups": 8, "topk_group": 4, "group_score": "top2sum",
             "renorm": True, "eps": 1e-20, "scale": 2.5, "dtype": d}  # fmt: skip
    f32 = torch.float32
    g.add(MOE_ROUTE, _x(g, f32, EXPERTS), _w(g, f32, EXPERTS), **{**DEFAULTS, **attrs})
    return list(g.nodes[-1].outputs)


def _embedding(g: Graph, d: torch.dtype) -> list[Value]:
    table = g.const(torch.empty(TABLE, HIDDEN, dtype=d, device="meta"), "table")
    return [g.add(EMBEDDING, table, g.input(Type(torch.int64, (T,)), "ids"))]


def _best(g: Graph, x: Value, k: int) -> list[Value]:
    g.add(TOPK, x, k=k)
    return list(g.nodes[-1].outputs)


CASES: dict[str, Build] = {
    "add": lambda g, d: [g.add(BY_NAME["add"], _x(g, d, HIDDEN), _x(g, d, HIDDEN))],
    "relu mul add": _pointwise,
    "silu": lambda g, d: [g.add(BY_NAME["silu"], _x(g, d, HIDDEN))],
    "softmax 7168": lambda g, d: [g.add(SOFTMAX, _x(g, d, HIDDEN))],
    "softmax 2048": lambda g, d: [g.add(SOFTMAX, _x(g, d, INNER))],
    "rms_norm 7168": _norm(HIDDEN),
    "rms_norm 1536": _norm(LATENT),
    "residual rms_norm": _norm_residual,
    "swiglu 2048": _swiglu(INNER),
    "rope": _rope,
    "embedding": _embedding,
    "topk 8 of 256": lambda g, d: _best(g, _x(g, d, EXPERTS), 8),
    "argmax 129280": lambda g, d: [g.add(ARGMAX, _x(g, d, VOCAB))],
    "moe_route": _route,
}


def emitted(target: Ascend, build: Build, dtype: torch.dtype) -> tuple[Graph, Node, Phase]:
    """The one kernel of a small graph over T rows."""
    g = Graph(symbols={"T": Range(1, 8192, 64)})
    g.outputs = build(g, dtype)
    g, _ = run_pipeline(g, target, names=("canonicalise", "layout", "fuse_loops"))
    lay = layouts(g)
    builder = AscendBuilder(target, g, lay)
    (node,) = [n for n in g.nodes if not n.op.view and n.op.name != "full"]
    phase = builder.build(node)
    assert isinstance(phase, Phase)
    return g, node, phase


def traffic(node: Node, env: dict[str, int]) -> tuple[int, int]:
    """Bytes of operands and of results, each once; of an embedding's table the rows it takes."""
    size = lambda values: sum(evaluate(v.type.nbytes, env) for v in dict.fromkeys(values))
    read, written = size(node.inputs), size(node.outputs)
    if node.op is EMBEDDING:
        read = size(node.inputs[1:]) + written
    return read, written


def measure(
    target: Ascend, g: Graph, node: Node, phase: Phase, rows: int
) -> dict[str, float | None]:
    """Microseconds and floors of one case."""
    env, chip, lay = {"T": rows}, target.chip, layouts(g)
    text = source([phase])
    given = [_operand(target, g, a, env, lay) for a in phase.args]
    cold = simulate(target, text, phase, env, given)
    read, written = traffic(node, env)
    spilled = min(written, max(0, read + written - chip.l2))
    out: dict[str, Any] = {
        "cold": cold["us"],
        "cold floor": (read + written) / chip.hbm * 1e6,
        "reads": (read + spilled) / chip.hbm * 1e6,
        "least": read + written,
        "moved": _moved(cold),
        "warm": None,
    }
    if read + written <= chip.l2 * 0.9:
        out["warm"] = simulate(target, text, phase, env, given, warm=True)["us"]
        out["warm floor"] = (read + written) / chip.l2_rate * 1e6
    return out


def _operand(target: Ascend, g: Graph, a: Any, env: dict[str, int], lay: Any) -> np.ndarray:
    """Indices of an embedding lie far apart; all else is zero."""
    if isinstance(a, Value) and a.dtype == torch.int64 and a in g.inputs:
        n = evaluate(a.type.numel, env)
        return np.random.default_rng(0).permutation(TABLE)[:n].astype(np.int64)
    return operand(target, a, env, lay)


def _moved(report: dict[str, Any]) -> int:
    return sum(v for k, v in report["bytes"].items() if k.startswith("GM->") or k.endswith("->GM"))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--chip", default="ascend910b1")
    p.add_argument("--dtype", nargs="*", default=["bf16", "f32"], choices=sorted(DTYPES))
    p.add_argument("--rows", type=int, nargs="*", default=list(ROWS))
    p.add_argument("--cases", nargs="*", default=list(CASES))
    a = p.parse_args()
    target = make_target(a.chip)
    assert isinstance(target, Ascend)
    head = "kernel,dtype,T,us cold,of HBM,reads,us warm,of L2,moved MB,least MB,CPU s"
    heading(*head.split(","))
    for case in a.cases:
        for dtype in a.dtype:
            g, node, phase = emitted(target, CASES[case], DTYPES[dtype])
            for rows in a.rows:
                start = time.process_time()
                m: dict[str, Any] = measure(target, g, node, phase, rows)
                warm = m["warm"]
                row(
                    case, dtype, str(rows), f"{m['cold']:.1f}",
                    f"{m['cold floor'] / m['cold']:.0%}", f"{m['reads'] / m['cold']:.0%}",
                    f"{warm:.1f}" if warm else "", f"{m['warm floor'] / warm:.0%}" if warm else "",
                    f"{m['moved'] / 1e6:.2f}", f"{m['least'] / 1e6:.2f}",
                    f"{time.process_time() - start:.0f}",
                )  # fmt: skip


if __name__ == "__main__":
    main()
