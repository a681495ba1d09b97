"""Routed experts with int8 weights on Ascend, against float64 of the same steps.

Quantised tokens and int32 sums are exact. What may differ is an activation whose float error moves
it over a rounding boundary, of its type or of its int8: then its step (scale of the row times one
weight) shows in all results of that row. So almost all rows must agree to a few units in the last
place, and the others to two such steps.
"""

from __future__ import annotations

import math

import pytest
import torch

from tests.ascend.experts_harness import (
    LIB,
    LIMIT,
    TYPES,
    Experts,
    Kernel,
    compiled,
    random_cases,
    route,
    summed,
)
from xcompile import sim
from xcompile.codegen.ascend.moe_experts_int8 import workspace_int8
from xcompile.ops.moe import is_gated
from xcompile.ops.moe_int8 import quantised
from xcompile.targets.ascend_pack import pack

KERNELS = [
    Kernel("bfloat16_t", "float", "silu", 128, 128, 128, 128, True, False),
    Kernel("half", "half", "swiglu_oai", 32, 64, 96, 128, True, True),
    Kernel("float", "float", "gelu", 128, 128, 64, 128, True, False),
    Kernel("bfloat16_t", "bfloat16_t", "relu2", 96, 128, 16, 48, False, False),
    Kernel("float", "float", "gelu_tanh", 48, 64, 32, 128, False, True),
    Kernel("bfloat16_t", "float", "silu_clamped", 64, 128, 32, 64, True, True),
]
QUANTISE = """
extern "C" __global__ __vector__ void rows{t}(GM_ADDR x, GM_ADDR q, GM_ADDR scale, int64_t n,
    int64_t h, int64_t ld, int64_t pitch) {{
  TPipe pipe;
  MoeQuantise<{t}> rows;
  rows.run(pipe, {{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}}, x, ld, n, h, q, pitch, scale);
  PipeBarrier<PIPE_ALL>();
}}
"""


def source() -> str:
    text = '#include "experts_int8.h"\nusing namespace xc;\n'
    text += "".join(QUANTISE.format(t=t) for t in TYPES)
    return text + "".join(kernel.entry(at, int8=True) for at, kernel in enumerate(KERNELS))


Pair = tuple[torch.Tensor, torch.Tensor]


def quantise(x: torch.Tensor) -> Pair:
    """Rows of x as int8, and their scales [rows, 1]; divisions are rounded once, as the cores' are
    (a tensor below a number would be its reciprocal times the number)."""
    wide = x.float()
    top = wide.abs().amax(-1, keepdim=True)
    levels = torch.full_like(top, 127.0)
    inverse = torch.where(top > 0, levels / top, 0.0)
    return (wide * inverse).round().to(torch.int8), top / levels


def product(x: torch.Tensor, w: torch.Tensor, scale: torch.Tensor) -> Pair:
    """float64 of x's rows as int8 times w, and the largest that one step of a row counts."""
    q, each = quantise(x)
    y = (q.double() @ w.double().T) * scale.double() * each.double()
    return y, each[:, 0].double() * (w.double().abs().amax(-1) * scale.double()).amax()


def exactly(
    x: torch.Tensor,
    ids: torch.Tensor,
    weight: torch.Tensor,
    up: Pair,
    down: Pair,
    biases: list[torch.Tensor],
    act: str,
    limit: float = LIMIT,
) -> Pair:
    """y, and for each token the sum of its experts' steps."""
    first, second = (lambda rows, e, p=p: product(rows, p[0][e], p[1][e]) for p in (up, down))
    rounded = lambda h, e: second(h.to(x.dtype), e)
    gated = is_gated(up[0].shape, down[0].shape)
    return summed(x, ids, weight, len(up[0]), first, rounded, gated, act, limit, biases)


def close(y: torch.Tensor, exact: torch.Tensor, steps: torch.Tensor) -> None:
    if y.numel() == 0:
        return
    wrong = (y.double() - exact).abs().amax(-1)
    few = 4 * max(torch.finfo(y.dtype).eps, 1e-6) * exact.abs().max()
    assert bool((wrong <= few + 2 * steps).all()), (wrong - few, steps)
    assert int((wrong > few).sum()) <= 1 + len(y) // 20


def problem(
    n: int, k: int, e: int, h: int, i: int, dtype: torch.dtype, gated: bool, biased: bool, pad: int
) -> tuple[torch.Tensor, Pair, Pair, list[torch.Tensor], torch.Generator]:
    g = torch.Generator().manual_seed(n * 1000 + e)
    x = torch.randn(n, h + pad, generator=g).to(dtype)
    up = quantised(torch.randn(e, 2 * i if gated else i, h, generator=g) / h**0.5)
    down = quantised(torch.randn(e, h, i, generator=g) / i**0.5)
    biases = [torch.randn(w.shape[:2], generator=g).to(dtype) for w, _ in (up, down)]
    return x, up, down, biases if biased else [], g


def run(
    at: int,
    kind: str,
    n: int,
    k: int,
    e: int,
    h: int,
    i: int,
    blocks: int,
    pad: int = 0,
    seeds: tuple[int, ...] = (0, 7),
) -> None:
    t, w, act, p1, r1, p2, _, gated, biased = KERNELS[at]
    dtype = TYPES[t]
    x, up, down, biases, g = problem(n, k, e, h, i, dtype, gated, biased, pad)
    ids = route(kind, n, k, e, g)
    weight = torch.rand(n, k, generator=g).to(TYPES[w])
    exact, steps = exactly(x[:, :h], ids, weight, up, down, biases, act)
    one, two = f"{p1}_experts{'_gated' if gated else ''}", f"{p2}_experts"
    packed = [
        pack(f"{how}{kind}", [part])
        for pair, kind in ((up, one), (down, two))
        for how, part in zip(("nz", "row"), pair, strict=True)
    ]
    rows = [pack(f"row{kind}", [b]) for kind, b in zip((one, two), biases, strict=False)]
    size = workspace_int8(n, n * k, e, h, i, dtype.itemsize, p1 * r1)
    for seed in seeds:
        y, space = torch.empty(n, h, dtype=dtype), torch.zeros(size, dtype=torch.uint8)
        kernel = sim.load(source(), f"moe{at}", blocks=blocks, seed=seed, include=[LIB])
        kernel(
            x, ids, weight, *packed, sim.Out(y), space, n, k, e, h, i, h + pad,
            *(rows or [torch.zeros(1)] * 2),
        )  # fmt: skip
        close(y, exact, steps)


CASES = [
    # kernel, routing, N, k, E, H, I, cores, padding of x's rows
    (0, "random", 7, 2, 5, 40, 24, 3, 0),
    (0, "random", 33, 3, 16, 97, 71, 24, 5),
    (0, "zipf", 260, 4, 16, 1100, 130, 24, 0),
    (0, "hot", 300, 2, 4, 2100, 140, 5, 0),
    (0, "bad", 60, 4, 7, 72, 80, 24, 0),
    (0, "nobody", 40, 2, 6, 72, 40, 24, 0),
    (0, "random", 0, 4, 8, 96, 72, 24, 0),
    (0, "random", 1, 1, 1, 8704, 96, 1, 0),  # rows longer than a chunk
    (0, "random", 1, 8, 64, 300, 200, 24, 0),
    (1, "few", 40, 8, 384, 64, 40, 24, 2),
    (1, "hot", 150, 2, 4, 520, 97, 24, 0),
    (1, "random", 9, 64, 64, 37, 33, 24, 0),  # of many experts a token
    (2, "zipf", 70, 5, 9, 520, 300, 24, 0),
    (2, "bad", 50, 2, 3, 41, 33, 1, 1),
    (3, "zipf", 260, 3, 7, 133, 203, 24, 0),
    (3, "random", 1, 2, 5, 37, 37, 3, 1),
    (4, "hot", 140, 1, 3, 65, 97, 24, 0),
    (4, "few", 100, 2, 16, 130, 75, 3, 3),
    (5, "zipf", 150, 2, 3, 1000, 1300, 5, 0),
    (5, "random", 1, 4, 8, 37, 33, 3, 0),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_experts(case: tuple) -> None:
    run(*case)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["random", "zipf", "hot", "few", "bad"])
def test_more(kind: str, seed: int) -> None:
    for case in random_cases(len(KERNELS), seed):
        run(case[0], kind, *case[1:], seeds=(seed, seed + 10))


@pytest.mark.parametrize(
    ("rows", "width", "pad", "blocks"),
    [(1, 7168, 0, 48), (5, 40, 3, 2), (100, 512, 0, 3), (70, 1408, 1, 48), (3, 20001, 0, 2)],
)
@pytest.mark.parametrize("dtype", list(TYPES))
def test_rows_become_int8(dtype: str, rows: int, width: int, pad: int, blocks: int) -> None:
    """Exactly as the op says, for rows of zeros and of all sizes; not finite: nor is the scale."""
    g = torch.Generator().manual_seed(width)
    x = torch.randn(rows, width + pad, generator=g) * torch.rand(rows, 1, generator=g).exp2()
    x[rows // 2] = 0.0
    x = x.to(TYPES[dtype])
    x[0, width // 3] = torch.inf
    pitch = -(-width // 32) * 32
    q = torch.full((rows, pitch), 99, dtype=torch.int8)
    scale = torch.full((rows, 8), -1.0)
    kernel = sim.load(source(), f"rows{dtype}", blocks=blocks, include=[LIB])
    kernel(x, sim.Out(q), sim.Out(scale), rows, width, width + pad, pitch)
    exact, each = quantise(x[:, :width])
    assert torch.equal(q[1:, :width], exact[1:]) and not q[:, width:].any()
    assert not scale[0].isfinite().any()
    torch.testing.assert_close(scale[1:], each[1:].expand(-1, 8), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(("gated", "biased"), [(True, False), (False, True)])
def test_compiled(gated: bool, biased: bool) -> None:
    """From a module: quantised, emitted, packed, run for several numbers of tokens."""
    torch.manual_seed(0)
    model = Experts("silu", math.inf, gated, biased)
    step = compiled(model, model.inputs(3), quantize="experts-w8a8")
    up, down = (quantised(w) for w in (model.up, model.down))
    for n in (1, 5, 40):
        x, ids, w = model.inputs(n)
        close(step(x, ids, w), *exactly(x, ids, w, up, down, model.biases, "silu"))
