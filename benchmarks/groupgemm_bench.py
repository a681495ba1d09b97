"""Routed experts on the CPU: ours against torch's grouped_mm with separate operations around it.

    python -m benchmarks.groupgemm_bench [--tokens 1,4,16,64,512] [--threads 1] [--pairs 7] [--int8]

E = 32 experts, top 4, hidden 1024, inner 512, bf16. Several layers' weights take turns, so that
they come from memory and not from a cache. Ours and the peer alternate in one process; a ratio is
the median of paired ratios, brackets are the least and the largest. GB/s counts the weights of the
experts that were hit, once each, against the read bandwidth measured in the same run. --int8: our
W8A8 experts, also against our own in bf16.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

import xcompile
import xcompile.frontend.torch_ops  # registers xllm::moe_experts
from benchmarks.bandwidth import Bandwidth
from benchmarks.measure import Range, paired

EXPERTS, TOP, HIDDEN, INNER = 32, 4, 1024, 512


class Layer(torch.nn.Module):
    """Experts with random weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        block = torch.randn(1 << 20, generator=g)
        up = block.repeat(EXPERTS * 2 * INNER * HIDDEN >> 20).view(EXPERTS, 2 * INNER, HIDDEN)
        down = block.repeat(EXPERTS * INNER * HIDDEN >> 20).view(EXPERTS, HIDDEN, INNER)
        self.up = torch.nn.Parameter((up * HIDDEN**-0.5).bfloat16(), requires_grad=False)
        self.down = torch.nn.Parameter((down * INNER**-0.5).bfloat16(), requires_grad=False)

    def forward(self, x: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.ops.xllm.moe_experts(x, index, weight, self.up, self.down, "silu")


def grouped(layer: Layer, x: torch.Tensor, index: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The same in torch: sort, gather, grouped products, activation, weigh, scatter back."""
    ids, order = torch.sort(index.reshape(-1))
    ends = torch.cumsum(torch.bincount(ids, minlength=EXPERTS), 0, dtype=torch.int32)
    rows = x[order // TOP]
    gate, up = F.grouped_mm(rows, layer.up.transpose(-2, -1), offs=ends).chunk(2, -1)
    y = F.grouped_mm(F.silu(gate) * up, layer.down.transpose(-2, -1), offs=ends)
    y = y * w.reshape(-1)[order][:, None]
    back = torch.empty_like(order)
    back[order] = torch.arange(order.numel())
    return y[back].view(x.shape[0], TOP, HIDDEN).sum(1)


def in_turn(calls: list[Callable[[], Any]]) -> Callable[[], Any]:
    turn = itertools.cycle(calls)
    return lambda: next(turn)()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--tokens", default="1,4,16,64,512")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--layers", type=int, default=8)
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--int8", action="store_true", help="our int8, also against our bf16")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    sizes = [int(n) for n in a.tokens.split(",")]
    layers = [Layer(k) for k in range(a.layers)]
    example = (torch.zeros(3, HIDDEN).bfloat16(), torch.zeros(3, TOP).long(), torch.zeros(3, TOP))
    shapes = [{0: torch.export.Dim("N", max=4096)}] * 3
    compiled = partial(xcompile.compile, args=example, dynamic_shapes=shapes, threads=a.threads)
    runs = [compiled(m) for m in layers]
    small = [compiled(m, quantize="experts-w8a8") for m in layers] if a.int8 else []
    probe = Bandwidth(a.threads)
    clock = "cpu" if a.threads == 1 else "wall"
    names = ["our bf16", "grouped_mm"] if a.int8 else ["grouped_mm"]
    ratios = [f"ratio to {name}" for name in names]
    table = Table("tokens", "ms", *ratios, "GB/s", "of the bandwidth", "GFLOP/s")
    for n in sizes:
        g = torch.Generator().manual_seed(n)
        x = torch.randn(n, HIDDEN, generator=g).bfloat16()
        routes = [torch.rand(n, EXPERTS, generator=g).topk(TOP, -1)[1] for _ in layers]
        w = torch.full((n, TOP), 1 / TOP)
        wide = w.bfloat16()
        got, want = runs[0](x, routes[0], w), grouped(layers[0], x, routes[0], wide)
        assert (got - want).float().norm() <= 2e-2 * want.float().norm()
        ours = in_turn([partial(r, x, i, w) for r, i in zip(runs, routes, strict=True)])
        calls = [partial(grouped, m, x, i, wide) for m, i in zip(layers, routes, strict=True)]
        peers = [in_turn(calls)]
        if small:
            got = small[0](x, routes[0], w)
            assert (got - want).float().norm() <= 4e-2 * want.float().norm()
            peers.insert(0, ours)
            ours = in_turn([partial(r, x, i, w) for r, i in zip(small, routes, strict=True)])
        before = probe.read()[clock]
        found = [paired(ours, peer, a.pairs, 0.3) for peer in peers]
        rate = (before + probe.read()[clock]) / 2
        hit = sum(i.unique().numel() for i in routes) / len(routes)
        seconds = Range.of(found[0].ours[clock])
        read = hit * 3 * HIDDEN * INNER * (1 if small else 2) / seconds.median
        work = n * TOP * 6 * HIDDEN * INNER / seconds.median
        table.add_row(
            str(n), seconds.map(lambda s: s * 1e3).text(2),
            *(pairs.ratio(clock).text(2) + "x" for pairs in found),
            f"{read / 1e9:.1f}", f"{read / rate:.0%} of {rate / 1e9:.1f}", f"{work / 1e9:.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
