"""Routed experts on Ascend: index table, gathered rows, activation, combine, in the simulator."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import pytest
import torch

from tests.ascend.experts_harness import (
    ALPHA,
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
from tests.zoo_moe import H, tiny
from xcompile import sim
from xcompile.codegen.ascend.moe_experts import choose, workspace_bytes
from xcompile.frontend.huggingface import prepared
from xcompile.ops.moe import MOE_EXPERTS, is_gated
from xcompile.targets.ascend import CHIPS
from xcompile.targets.ascend_pack import pack

CHIP = CHIPS["ascend910b"]
KERNELS = [
    Kernel("half", "float", "silu", 32, 64, 96, 128),
    Kernel("half", "half", "gelu", 128, 128, 128, 128),
    Kernel("bfloat16_t", "bfloat16_t", "gelu_tanh", 64, 128, 32, 16),
    Kernel("bfloat16_t", "float", "silu", 128, 128, 128, 128),
    Kernel("float", "float", "relu", 32, 32, 16, 48),
    Kernel("float", "float", "gelu", 64, 64, 64, 128),
    Kernel("half", "float", "relu2", 64, 64, 64, 128),
    Kernel("bfloat16_t", "float", "swiglu_oai", 128, 128, 128, 128),
    Kernel("float", "float", "swiglu_oai", 32, 32, 32, 48),
    Kernel("half", "half", "silu_clamped", 32, 64, 96, 128),
    Kernel("float", "float", "silu_clamped", 64, 64, 64, 128),
    Kernel("bfloat16_t", "float", "clamped_silu", 64, 128, 32, 64),
    Kernel("float", "float", "clamped_silu", 64, 64, 64, 128),
    Kernel("bfloat16_t", "float", "relu2", 128, 128, 128, 128, False),
    Kernel("float", "float", "gelu", 96, 128, 64, 128, False),
    Kernel("half", "half", "silu", 48, 64, 32, 48, False),
    Kernel("bfloat16_t", "bfloat16_t", "swiglu_oai", 128, 128, 128, 128, True, True),
    Kernel("float", "float", "silu", 64, 64, 96, 128, True, True),
    Kernel("half", "float", "gelu_tanh", 96, 128, 16, 128, False, True),
]


def source() -> str:
    text = '#include "experts.h"\nusing namespace xc;\n'
    return text + "".join(kernel.entry(at) for at, kernel in enumerate(KERNELS))


def exactly(
    x: torch.Tensor,
    ids: torch.Tensor,
    weight: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    act: str,
    limit: float = LIMIT,
    biases: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """In float64."""
    first, second = (lambda h, e, w=w: (h.double() @ w[e].double().T, 0.0) for w in (up, down))
    gated = is_gated(up.shape, down.shape)
    return summed(x, ids, weight, len(up), first, second, gated, act, limit, biases)[0]


def close(y: torch.Tensor, exact: torch.Tensor, eager: torch.Tensor) -> None:
    """At most 1.25 times eager's own error, plus a few units in the last place."""
    if y.numel() == 0:
        return
    ours = (y.double() - exact).abs().max()
    theirs = (eager.double() - exact).abs().max()
    assert ours <= 1.25 * theirs + 4 * torch.finfo(y.dtype).eps * exact.abs().max()


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
    t, w, act, p1, r1, p2, _, is_wide, biased = KERNELS[at]
    dtype, gated = TYPES[t], "_gated" if is_wide else ""
    g = torch.Generator().manual_seed(n * 1000 + e)
    x = torch.randn(n, h + pad, generator=g).to(dtype)
    up = (torch.randn(e, 2 * i if gated else i, h, generator=g) / h**0.5).to(dtype)
    down = (torch.randn(e, h, i, generator=g) / i**0.5).to(dtype)
    ids = route(kind, n, k, e, g)
    weight = torch.rand(n, k, generator=g).to(TYPES[w])
    space = torch.zeros(workspace_bytes(n * k, e, h, i, dtype.itemsize, p1 * r1), dtype=torch.uint8)
    known = (ids >= 0) & (ids < e)
    biases = [torch.randn(w.shape[:2], generator=g).to(dtype) for w in (up, down)]
    biases = biases if biased else []
    eager = MOE_EXPERTS.ref(
        x[:, :h],
        torch.where(known, ids, 0),
        weight * known,
        up,
        down,
        *biases,
        act=act,
        limit=LIMIT,
        alpha=ALPHA,
    )
    exact = exactly(x[:, :h], ids, weight, up, down, act, biases=biases)
    packed = pack(f"nz{p1}_experts{gated}", [up]), pack(f"nz{p2}_experts", [down])
    rows = [
        pack(f"row{p}_experts{g}", [b])
        for p, g, b in zip((p1, p2), (gated, ""), biases, strict=False)
    ] or [torch.zeros(1)] * 2
    for seed in seeds:
        y = torch.empty(n, h, dtype=dtype)
        kernel = sim.load(source(), f"moe{at}", blocks=blocks, seed=seed, include=[LIB])
        kernel(x, ids, weight, *packed, sim.Out(y), space, n, k, e, h, i, h + pad, *rows)
        close(y, exact, eager)


CASES = [
    # kernel, routing, N, k, E, H, I, cores, padding of x's rows
    (0, "random", 7, 2, 5, 40, 24, 3, 0),
    (0, "random", 33, 3, 16, 96, 72, 24, 5),
    (0, "zipf", 150, 4, 9, 80, 40, 1, 0),
    (0, "bad", 60, 4, 7, 72, 80, 24, 0),
    (0, "random", 1500, 3, 7, 16, 16, 24, 0),  # more entries than a chunk of the index table
    (1, "hot", 150, 2, 4, 520, 96, 24, 0),
    (1, "few", 40, 8, 384, 64, 40, 24, 2),
    (1, "random", 0, 4, 8, 96, 72, 24, 0),
    (1, "bad", 1, 3, 2, 37, 37, 3, 1),
    (0, "nobody", 40, 2, 6, 72, 40, 24, 0),
    (3, "nobody", 3, 8, 16, 37, 40, 3, 0),
    (0, "random", 300, 1, 4, 331, 203, 24, 1),
    (2, "random", 1, 1, 1, 40, 96, 1, 0),
    (2, "zipf", 100, 8, 33, 200, 72, 24, 0),
    (2, "hot", 17, 3, 130, 96, 80, 3, 0),
    (3, "random", 20, 8, 64, 300, 200, 24, 0),
    (3, "zipf", 260, 4, 16, 1100, 130, 24, 0),  # A does not fit L1
    # experts of several blocks of rows, dealt tile by tile, alone or among others
    (3, "hot", 300, 2, 4, 2100, 140, 5, 0),
    (3, "zipf", 200, 2, 7, 64, 1500, 24, 0),
    (5, "zipf", 150, 2, 3, 1000, 1300, 5, 0),
    (3, "bad", 1100, 4, 6, 32, 32, 24, 0),
    (4, "random", 33, 2, 5, 37, 37, 24, 0),
    (4, "few", 100, 2, 16, 130, 75, 3, 3),
    (4, "zipf", 70, 5, 9, 520, 300, 24, 0),
    (5, "random", 9, 4, 12, 72, 80, 24, 0),
    (5, "hot", 140, 1, 3, 333, 97, 24, 0),
    (5, "bad", 50, 2, 3, 41, 33, 1, 1),
    (6, "random", 33, 3, 16, 97, 71, 24, 5),
    (7, "zipf", 70, 4, 9, 133, 75, 24, 0),
    (7, "random", 0, 4, 8, 96, 72, 24, 0),
    (8, "hot", 40, 2, 4, 37, 37, 3, 0),
    (9, "bad", 60, 4, 7, 72, 80, 24, 0),
    (10, "random", 20, 2, 5, 37, 45, 5, 1),
    (11, "hot", 45, 2, 4, 65, 40, 24, 0),
    (12, "few", 30, 3, 16, 72, 33, 1, 0),
    (13, "zipf", 260, 3, 7, 133, 203, 24, 0),
    (13, "random", 1, 2, 5, 37, 37, 3, 1),
    (14, "hot", 140, 1, 3, 65, 97, 24, 0),
    (14, "bad", 50, 2, 3, 41, 33, 1, 1),
    (15, "random", 33, 3, 16, 97, 71, 24, 5),
    (16, "zipf", 150, 4, 9, 520, 72, 24, 0),
    (16, "random", 1, 4, 8, 37, 33, 3, 0),
    (16, "nobody", 3, 8, 16, 37, 40, 3, 0),
    (16, "hot", 300, 2, 4, 2100, 140, 5, 0),
    (17, "bad", 60, 4, 7, 72, 80, 24, 0),
    (17, "zipf", 70, 5, 9, 1100, 300, 24, 0),
    (18, "few", 100, 2, 16, 130, 75, 3, 3),
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


def test_weights_stream_once() -> None:
    """A decode step takes little more than reading the weights of its experts."""
    n, k, e, h, i = 2, 4, 16, 2048, 768
    ids = torch.tensor([[0, 3, 5, 9], [1, 3, 10, 15]])
    dtype, size = torch.bfloat16, 2
    result = sim.load(source(), "moe3", blocks=24, include=[LIB], checks="none")(
        torch.zeros(n, h, dtype=dtype), ids, torch.ones(n, k),
        torch.zeros(e, 2 * i * h, dtype=dtype), torch.zeros(e, h * i, dtype=dtype),
        torch.zeros(n, h, dtype=dtype),
        torch.zeros(workspace_bytes(n * k, e, h, i, size, 128 * 128), dtype=torch.uint8),
        n, k, e, h, i, h, torch.zeros(1), torch.zeros(1),
    )  # fmt: skip
    weights = ids.unique().numel() * 3 * h * i * size
    assert weights / CHIP.hbm > 0.8 * result.microseconds * 1e-6
    (launch,) = result.report["launches"]
    assert launch["bytes"]["HBM read"] < 1.1 * weights


def test_choose() -> None:
    assert choose(CHIP, 2048, True).panel == choose(CHIP, 7168, False).panel == 128
    for width in (24, 40, 80, 1408):
        for gated in (True, False):
            cut = choose(CHIP, width, gated)
            results = cut.panel // 2 if gated else cut.panel
            assert results % 16 == 0 and -(-width // results) * results < width + 32
            assert cut.sums * 8 <= CHIP.l0c


@pytest.mark.parametrize(
    ("act", "limit", "gated", "biased"),
    [
        ("silu", 0.0, True, False),
        ("swiglu_oai", LIMIT, True, True),
        ("silu_clamped", math.inf, True, False),
        ("relu2", 0.0, False, False),
        ("gelu", 0.0, False, True),
    ],
)
def test_compiled(act: str, limit: float, gated: bool, biased: bool) -> None:
    """From a module: emitted, packed, run for several numbers of tokens."""
    torch.manual_seed(0)
    model = Experts(act, limit, gated, biased)

    step = compiled(model, model.inputs(3))
    for n in (1, 5, 40):
        x, ids, w = model.inputs(n)
        exact = exactly(x, ids, w, model.up, model.down, act, limit, model.biases)
        close(step(x, ids, w), exact, model(x, ids, w))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["gpt_oss", "nemotron_h"])
def test_experts_of_a_model(family: str, dtype: torch.dtype) -> None:
    """Their own modules: biases, turned and interleaved weights and a clamped unit; no gate."""
    model = tiny(family, dtype, 8, 2)
    model.set_experts_implementation("eager")
    name, experts = next(
        (n, m) for n, m in model.named_modules() if type(m).__name__.endswith("Experts")
    )
    wide = copy.deepcopy(experts).double()

    def inputs(n: int) -> tuple[torch.Tensor, ...]:
        x, w = (2 * torch.randn(n, H)).to(dtype), torch.rand(n, 2).to(dtype)
        return x, torch.rand(n, 8).topk(2, -1).indices, w

    torch.manual_seed(0)
    with prepared(model, attention=False):
        step = compiled(model.get_submodule(name), inputs(3))
    assert [n.op.name for n in step.compiled.graph.nodes].count("moe_experts") == 1
    for n in (1, 20):
        x, ids, w = inputs(n)
        close(step(x, ids, w), wide(x.double(), ids, w.double()), experts(x, ids, w))
