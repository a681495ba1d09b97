"""What the tests of routed experts share: kernels to build, routings, the sum over experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import xcompile
import xcompile.frontend.torch_ops  # registers xllm::moe_experts
from xcompile.executable import Executable
from xcompile.ops.moe import ACTIVATIONS, CLAMPED, gate

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
TYPES = {"half": torch.float16, "bfloat16_t": torch.bfloat16, "float": torch.float32}
LIMIT, ALPHA = 0.75, 1.702  # of the units that clamp; gate and up are about normal
ENTRY = """
extern "C" __global__ __mix__(1, 2) void moe{at}(GM_ADDR x, GM_ADDR expert, GM_ADDR weight,
    {parameters}, GM_ADDR y, GM_ADDR space, int64_t n, int64_t k, int64_t e, int64_t h, int64_t i,
    int64_t ldx, GM_ADDR upBias, GM_ADDR downBias) {{
  TPipe pipe;
  Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  if ASCEND_IS_AIV {{
    team.count *= 2;
  }}
  {call}(pipe, team, MoeSizes{{n, k, e, h, i, ldx}}, x, expert, weight, {weights}, y, space,
      MoeLimits{{{limits}}}, upBias, downBias);
  PipeBarrier<PIPE_ALL>();
}}
"""


class Kernel(NamedTuple):
    """Types of x and of the sum's weights, activation, panel and most rows of both products."""

    x: str
    weight: str
    act: str
    panel1: int
    rows1: int
    panel2: int
    rows2: int
    gated: bool = True
    biased: bool = False

    def entry(self, at: int, int8: bool = False) -> str:
        """The source of an entry moe<at>."""
        t, biased = "int8_t" if int8 else self.x, str(self.biased).lower()
        tiles = (
            f"MoeTile<{t}, {self.panel1}, {self.rows1}, {str(self.gated).lower()}, {biased}>, "
            f"MoeTile<{t}, {self.panel2}, {self.rows2}, false, {biased}>"
        )
        weights = ["up", "upScale", "down", "downScale"] if int8 else ["up", "down"]
        name, types = ("moeExpertsInt8", f"{self.x}, ") if int8 else ("moeExperts", "")
        return ENTRY.format(
            at=at,
            parameters=", ".join(f"GM_ADDR {w}" for w in weights),
            weights=", ".join(weights),
            call=f"{name}<{tiles}, {types}{self.weight}, MoeAct::{self.act}>",
            limits=f"{LIMIT}f, {ALPHA}f" if self.act in CLAMPED else "",
        )


def route(kind: str, n: int, k: int, e: int, g: torch.Generator) -> torch.Tensor:
    """Expert ids [n, k]."""
    if kind == "random":
        return torch.rand(n, e, generator=g).topk(k, -1).indices
    if kind == "zipf":
        p = 1 / torch.arange(1, e + 1.0)
        return torch.multinomial(p.expand(n + 1, -1), k, generator=g)[:n]
    if kind == "hot":  # every slot the same expert: duplicates within a token
        return torch.full((n, k), e // 2)
    if kind == "few":  # most experts empty, the others far apart
        return torch.tensor([0, e - 1])[torch.randint(0, 2, (n, k), generator=g)]
    if kind == "nobody":
        return torch.tensor([-1, e, 2**40])[torch.randint(0, 3, (n, k), generator=g)]
    assert kind == "bad"  # ids that no expert has
    bad = torch.tensor([-1, e, 2**40, -(2**33), 0])[torch.randint(0, 5, (n, k), generator=g)]
    ids = torch.randint(0, e, (n, k), generator=g)
    return torch.where(torch.rand(n, k, generator=g) < 0.3, bad, ids)


def random_cases(kernels: int, seed: int) -> Iterator[tuple[int, int, int, int, int, int, int]]:
    """For each kernel: its number, N, k, E, H, I and cores."""
    g = torch.Generator().manual_seed(seed)
    pick = lambda *options: options[int(torch.randint(0, len(options), (), generator=g))]
    for at in range(kernels):
        e = pick(1, 2, 16, 33, 130, 384)
        k, n, h, i = min(pick(1, 3, 8), e), pick(2, 17, 100, 260), pick(37, 96, 520), pick(24, 80)
        yield at, n, k, e, h, i, pick(1, 3, 5, 24)


Product = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor | float]]


def summed(
    x: torch.Tensor,
    ids: torch.Tensor,
    weight: torch.Tensor,
    experts: int,
    first: Product,
    second: Product,
    gated: bool,
    act: str,
    limit: float,
    biases: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """y in float64, and for each token the weighted sum of the second number of its products.

    `first` and `second` give rows of x or of the activations times an expert, in float64.
    """
    out = torch.zeros(x.shape, dtype=torch.float64)
    more = torch.zeros(len(x), dtype=torch.float64)
    for e in range(experts):
        t, k = torch.where(ids == e)
        if len(t):
            one, two = (b[e].double() for b in biases) if biases else (0.0, 0.0)
            h = first(x[t], e)[0] + one
            h = gate(act, *h.chunk(2, -1), limit, ALPHA) if gated else ACTIVATIONS[act](h)
            y, step = second(h, e)
            w = weight[t, k].double()
            out.index_add_(0, t, (y + two) * w[:, None])
            more.index_add_(0, t, step * w)
    return out, more


class Experts(torch.nn.Module):
    """Six experts of 96 x 72 in bfloat16."""

    def __init__(self, act: str, limit: float, gated: bool, biased: bool) -> None:
        super().__init__()
        self.act, self.limit = act, limit
        n = 144 if gated else 72
        sizes = {"up": (6, n, 96), "down": (6, 96, 72)}
        if biased:
            sizes |= {"up_bias": (6, n), "down_bias": (6, 96)}
        for name, size in sizes.items():
            self.register_buffer(name, (torch.randn(size) / 9).bfloat16())
        self.biases = [self.up_bias, self.down_bias] if biased else []

    def forward(self, x: torch.Tensor, ids: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        up, down = self.biases or (None, None)
        return torch.ops.xllm.moe_experts(
            x, ids, w, self.up, self.down, self.act, up, down, self.limit, ALPHA
        )

    @staticmethod
    def inputs(n: int) -> tuple[torch.Tensor, ...]:
        x = torch.randn(n, 96).bfloat16()
        return x, torch.rand(n, 6).topk(2, -1).indices, torch.rand(n, 2)


def compiled(
    model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], quantize: str | None = None
) -> Executable:
    """For up to 64 tokens."""
    shapes = [{0: torch.export.Dim("N", max=64)}] * 3
    return xcompile.compile(
        model, inputs, dynamic_shapes=shapes, target="ascend910b", quantize=quantize
    )
