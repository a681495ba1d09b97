"""Linears of DeepSeek-V3 on the cube unit, in the simulator's cycle model, against its roofline.

    python -m benchmarks.ascend_matmul [--rows 1 16 64 128 512 4096] [--shapes 7168x2112 ...]

Kernels are emitted as the compiler emits them, for M = 1 .. 8192, and run from a cold L2 without
checks. The roofline is the larger of the arithmetic at the cube unit's rate and of all operands and
results at the rate that the simulator's memory gives. Results stay in L2, so where they are much of
the traffic a share may exceed 100%. M = 4096 of the larger weights takes minutes to simulate.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.ascend_phase import heading, row, simulate, source
from xcompile.codegen.ascend.builder import Phase
from xcompile.compiler import make_target
from xcompile.ir import Graph, Node, Type
from xcompile.layout import layouts
from xcompile.ops.matmul import LINEAR
from xcompile.ops.pointwise import BY_NAME
from xcompile.passes import fuse_epilogue
from xcompile.plan import Packed
from xcompile.symbolic import Range, symbol
from xcompile.targets.ascend import Ascend, Chip
from xcompile.targets.ascend_tiling import Product, floor

# K, N, and what is fused: nothing, a gated pair of N / 2 each, a residual
SHAPES = {
    "7168x2112": "q_a and kv_a",
    "1536x24576": "q_b",
    "512x32768": "kv_b",
    "16384x7168": "o",
    "16384x7168+": "o, residual",
    "7168x4096*": "shared expert, gate and up",
    "2048x7168": "shared expert, down",
    "7168x36864*": "dense MLP, gate and up",
    "18432x7168": "dense MLP, down",
    "7168x129280": "head",
}
ROWS = (1, 16, 64, 128, 512, 4096)
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}


def emitted(target: Ascend, shape: str, dtype: torch.dtype) -> tuple[Phase, Product]:
    """The phase of a linear for any M, and what it computes."""
    k, n = (int(v) for v in shape.rstrip("*+").split("x"))
    m = symbol("M")
    g = Graph(symbols={"M": Range(1, 8192, 16)})
    x = g.input(Type(dtype, (m, k)), "x")
    gated = shape.endswith("*")
    n = n // 2 if gated else n
    ws = [g.const(torch.empty(n, k, dtype=dtype, device="meta"), f"w{i}") for i in range(1 + gated)]
    ys = [g.add(LINEAR, x, w) for w in ws]
    if gated:
        ys = [g.add(BY_NAME["mul"], g.add(BY_NAME["silu"], ys[0]), ys[1])]
    if shape.endswith("+"):
        ys = [g.add(BY_NAME["add"], ys[0], g.input(Type(dtype, (m, n)), "r"))]
    g.const(torch.empty(target.chip.l2, dtype=torch.int8, device="meta"), "other layers")
    g.outputs = ys
    g = fuse_epilogue.run(g, target)
    (node,) = [v for v in g.nodes if isinstance(v, Node)]
    phase = target.builder(g, layouts(g)).build(node)
    assert isinstance(phase, Phase)
    return phase, Product(n, k, dtype.itemsize, gated)


def bound(chip: Chip, p: Product, m: int) -> str:
    memory = floor(chip, Product(p.n, p.k, p.size, p.gated), m) * chip.hbm / chip.clock
    moved = (m * (p.k + p.n) + p.n * p.k * (1 + p.gated)) * p.size
    return "memory" if memory <= moved * 1.0001 else "cube"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--chip", default="ascend910b1")
    p.add_argument("--dtype", default="bf16", choices=sorted(DTYPES))
    p.add_argument("--rows", type=int, nargs="*", default=list(ROWS))
    p.add_argument("--shapes", nargs="*", default=list(SHAPES))
    p.add_argument("--macs", type=float, default=1e12, help="skip cases of more products")
    a = p.parse_args()
    target = make_target(a.chip)
    assert isinstance(target, Ascend)
    chip = target.chip
    heading("K x N", "what", "panel", "M", "us", "roofline us", "share", "bound by", "CPU s")
    for shape in a.shapes:
        phase, what = emitted(target, shape, DTYPES[a.dtype])
        panel = next(v.kind for v in phase.args if isinstance(v, Packed))
        for m in a.rows:
            if m * what.n * what.k * (1 + what.gated) > a.macs:
                continue
            start = time.process_time()
            us = simulate(target, source([phase]), phase, {"M": m})["us"]
            least = floor(chip, what, m) / chip.clock * 1e6
            row(
                shape, SHAPES.get(shape, ""), panel, str(m), f"{us:.1f}", f"{least:.1f}",
                f"{least / us:.0%}", bound(chip, what, m), f"{time.process_time() - start:.0f}",
            )  # fmt: skip


if __name__ == "__main__":
    main()
