"""Routed experts on Ascend: index table, gathered rows, activation, combine, in the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xcompile import sim
from xcompile.codegen.ascend.moe_experts import workspace_bytes
from xcompile.ops.moe import ACTIVATIONS, MOE_EXPERTS
from xcompile.targets.ascend_pack import pack

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
TYPES = {"half": torch.float16, "bfloat16_t": torch.bfloat16, "float": torch.float32}
# dtype, dtype of the weights of the sum, activation, panel and rows of the two products
KERNELS = [
    ("half", "float", "silu", 32, 64, 48, 32),
    ("half", "half", "gelu", 128, 128, 128, 128),
    ("bfloat16_t", "bfloat16_t", "gelu_tanh", 64, 128, 32, 16),
    ("bfloat16_t", "float", "silu", 128, 128, 128, 128),
    ("float", "float", "relu", 32, 32, 16, 48),
    ("float", "float", "gelu", 64, 64, 64, 128),
]
ENTRY = """
extern "C" __global__ __mix__(1, 2) void {name}(GM_ADDR x, GM_ADDR expert, GM_ADDR weight,
    GM_ADDR up, GM_ADDR down, GM_ADDR y, GM_ADDR space, int64_t n, int64_t k, int64_t e, int64_t h,
    int64_t i, int64_t ldx) {{
  TPipe pipe;
  Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  if ASCEND_IS_AIV {{
    team.count *= 2;
  }}
  moeExperts<MoeTile<{t}, {p1}, {r1}, true>, MoeTile<{t}, {p2}, {r2}, false>, {w}, MoeAct::{act}>(
      pipe, team, MoeSizes{{n, k, e, h, i, ldx}}, x, expert, weight, up, down, y, space);
  PipeBarrier<PIPE_ALL>();
}}
"""


def source() -> str:
    text = '#include "experts.h"\nusing namespace xc;\n'
    for at, (t, w, act, p1, r1, p2, r2) in enumerate(KERNELS):
        text += ENTRY.format(name=f"moe{at}", t=t, w=w, act=act, p1=p1, r1=r1, p2=p2, r2=r2)
    return text


def route(kind: str, n: int, k: int, e: int, g: torch.Generator) -> torch.Tensor:
    """Expert ids [n, k]."""
    if kind == "random":
        return torch.rand(n, e, generator=g).topk(k, -1).indices
    if kind == "zipf":
        p = 1 / torch.arange(1, e + 1.0)
        return torch.multinomial(p.expand(max(n, 1), -1), k, generator=g)[:n]
    if kind == "hot":  # every slot the same expert: duplicates within a token
        return torch.full((n, k), e // 2)
    if kind == "few":  # most experts empty, the others far apart
        return torch.tensor([0, e - 1])[torch.randint(0, 2, (n, k), generator=g)]
    bad = torch.tensor([-1, e, 2**40, -(2**33), 0])
    ids = torch.randint(0, e, (n, k), generator=g)
    return torch.where(torch.rand(n, k, generator=g) < 0.3, bad[torch.randint(0, 5, (n, k), generator=g)], ids)


def reference(x, ids, weight, up, down, act):
    """In float64."""
    out = torch.zeros(x.shape, dtype=torch.float64)
    for e in range(up.shape[0]):
        t, k = torch.where(ids == e)
        if len(t):
            g, u = (x[t].double() @ up[e].double().T).chunk(2, -1)
            y = (ACTIVATIONS[act](g) * u) @ down[e].double().T
            out.index_add_(0, t, y * weight[t, k].double()[:, None])
    return out


def run(at: int, kind: str, n: int, k: int, e: int, h: int, i: int, blocks: int, pad: int = 0,
        seeds: tuple[int, ...] = (0, 7)) -> None:  # fmt: skip
    t, w, act, p1, r1, p2, _ = KERNELS[at]
    dtype = TYPES[t]
    g = torch.Generator().manual_seed(n * 1000 + e)
    x = torch.randn(n, h + pad, generator=g).to(dtype)
    up = (torch.randn(e, 2 * i, h, generator=g) / h**0.5).to(dtype)
    down = (torch.randn(e, h, i, generator=g) / i**0.5).to(dtype)
    ids = route(kind, n, k, e, g)
    weight = torch.rand(n, k, generator=g).to(TYPES[w])
    space = torch.zeros(workspace_bytes(n * k, e, h, i, dtype.itemsize, p1 * r1), dtype=torch.uint8)
    valid = (ids >= 0) & (ids < e)
    eager = MOE_EXPERTS.ref(x[:, :h], torch.where(valid, ids, 0), weight * valid, up, down, act=act)
    exact = reference(x[:, :h], ids, weight, up, down, act)
    for seed in seeds:
        y = torch.full((n, h), 7.0).to(dtype)
        sim.load(source(), f"moe{at}", blocks=blocks, seed=seed, include=[LIB])(
            x, ids, weight, pack(f"nz{p1}_experts_gated", [up]), pack(f"nz{p2}_experts", [down]),
            y, sim.Out(space) if False else space, n, k, e, h, i, h + pad,
        )  # fmt: skip
        if n == 0:
            continue
        ours = (y.double() - exact).abs().max()
        theirs = (eager.double() - exact).abs().max()
        assert ours <= 1.25 * theirs + 4 * torch.finfo(dtype).eps * exact.abs().max()


CASES = [
    # kernel, routing, N, k, E, H, I, cores, padding of x's rows
    (0, "random", 7, 2, 5, 40, 24, 3, 0),
    (0, "random", 33, 3, 16, 96, 72, 24, 5),
    (0, "zipf", 150, 4, 9, 80, 40, 1, 0),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_experts(case) -> None:
    run(*case)
