"""Attention over a paged cache on the CPU: absorbed MLA decode against torch, and GQA decode.

    python -m benchmarks.mla_cpu [--cases mini,full,gqa16,gqa32,h128] [--threads 1] [--levels best]

MLA: a step of one token for each of 16 requests of 100 to 1200 cached tokens (`--lengths`), from
the queries to the attention's result per head, weights absorbed; bf16. Peers are what transformers
does at each step (all latents padded to the longest and expanded by kv_b_proj, then
scaled_dot_product_attention) and absorbed attention in torch, request by request. GQA: the
attention alone, against scaled_dot_product_attention over padded caches. h16 to h128: attention
alone over latents of 512 + 64 values with so many heads, against torch, request by request. With
`--levels` below amx, ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 keeps torch from AMX as well.

A call goes through several layers, each with a cache and weights of its own, and times are per
layer. Ours and a peer alternate in one process; a ratio is the median of paired ratios, brackets
are the least and the largest. Peak: bf16 products with
operands in registers, measured in the same run, by AMX tiles for level amx and by vector dot
products for the others. GB/s: keys and values read once, and the weights, against the read
bandwidth of as much memory as the layers' caches take, measured in the same run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

import xcompile
from benchmarks.bandwidth import Bandwidth
from benchmarks.measure import Pairs, Range, paired
from benchmarks.peak import Peak
from xcompile.cli_plan import parse_lengths
from xcompile.frontend import torch_ops
from xcompile.targets.cpu import best_isa

PAGE = 16
MICRO = torch.linspace(100, 1200, 16).long().tolist()


@dataclass(frozen=True)
class Mla:
    """Sizes of one layer: per head nope + rope and v, cached rank + rope."""

    heads: int
    rank: int
    rope: int
    nope: int
    v: int


@dataclass(frozen=True)
class Gqa:
    """Query heads, key/value heads, size of a head."""

    heads: int
    kv: int
    d: int


@dataclass(frozen=True)
class Latent:
    """Query heads over latents of rank + rope values."""

    heads: int
    rank: int
    rope: int


CASES: dict[str, Mla | Gqa | Latent] = {
    "mini": Mla(16, 256, 32, 64, 64),
    "full": Mla(16, 512, 64, 128, 128),
    "v3": Mla(128, 512, 64, 128, 128),
    **{f"h{n}": Latent(n, 512, 64) for n in (16, 32, 64, 128)},
    "gqa16": Gqa(16, 4, 64),
    "gqa32": Gqa(32, 4, 128),
    # groups of 1, 2, 4 and 8 query heads
    **{f"g{n}d{d}": Gqa(4 * n, 4, d) for d in (64, 128) for n in (1, 2, 4, 8)},
}


class Paged:
    """Random pages for given lengths; the newest token of each request is the query."""

    def __init__(self, lengths: Sequence[int], rng: torch.Generator) -> None:
        self.lengths = list(lengths)
        used = [-(-n // PAGE) for n in lengths]
        ids = torch.randperm(sum(used), generator=rng)
        self.tables = torch.zeros(len(used), max(used), dtype=torch.int64)
        at = 0
        for r, n in enumerate(used):
            self.tables[r, :n] = ids[at : at + n]
            at += n
        self.slots = sum(used) * PAGE
        self.context = torch.tensor(self.lengths)
        self.starts = torch.arange(len(used) + 1)

    def rows(self, r: int) -> Tensor:
        """The slots of a request, in order."""
        at = torch.arange(self.lengths[r])
        return self.tables[r, at // PAGE] * PAGE + at % PAGE

    def padded(self, cache: Tensor) -> Tensor:
        """[slots, ...] -> [requests, longest, ...], zeros behind each request."""
        out = cache.new_zeros(len(self.lengths), max(self.lengths), *cache.shape[1:])
        for r, n in enumerate(self.lengths):
            out[r, :n] = cache[self.rows(r)]
        return out

    def mask(self, dtype: torch.dtype) -> Tensor:
        hidden = torch.arange(max(self.lengths))[None] >= self.context[:, None]
        return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, float("-inf"))


def over_latents(q: Tensor, each: Sequence[Tensor], rank: int, scale: float) -> Tensor:
    """q [R,H,rank+rope] over the latents of each request, in q's dtype -> [R,H,rank]."""
    wide = torch.float32 if q.dtype == torch.bfloat16 else q.dtype
    out = []
    for query, latents in zip(q, each, strict=True):
        k = latents.to(q.dtype)
        p = ((query @ k.t()).to(wide) * scale).softmax(-1).to(q.dtype)
        out.append(p @ k[:, :rank])
    return torch.stack(out)


class MlaLayer(torch.nn.Module):
    """One layer's weights and cache; `forward` is what is compiled."""

    w: Tensor

    def __init__(self, s: Mla, pages: Paged, seed: int) -> None:
        super().__init__()
        self.s, self.pages, self.scale = s, pages, (s.nope + s.rope) ** -0.5
        rng = torch.Generator().manual_seed(seed)
        draw = partial(torch.randn, generator=rng)
        count = len(pages.lengths)
        w = (draw(s.heads, s.nope + s.v, s.rank) * s.rank**-0.5).bfloat16()
        self.register_buffer("w", w)
        cache = draw(pages.slots, 1, s.rank + s.rope).bfloat16()
        nope, rot = draw(count, s.heads, s.nope).bfloat16(), draw(count, s.heads, s.rope).bfloat16()
        self.args = (nope, rot, cache, pages.starts, pages.context, pages.tables)
        # as a peer holds them: padded, and per request
        self.latent = pages.padded(cache[:, 0])
        self.each = [cache[pages.rows(r), 0] for r in range(count)]
        self.mask = pages.mask(torch.bfloat16)[:, None, None]
        self.up, self.down = (x.contiguous() for x in w.split((s.nope, s.v), 1))

    def forward(self, nope: Tensor, rot: Tensor, cache: Tensor, starts: Tensor, lens: Tensor,
                tables: Tensor) -> Tensor:  # fmt: skip
        up, down = self.w.split((self.s.nope, self.s.v), 1)
        q = torch.cat((torch_ops.head_linear(nope, up.transpose(1, 2)), rot), -1)
        o = torch_ops.paged_attention(
            q, cache, cache[..., : self.s.rank], starts, lens, tables, self.scale, PAGE
        )
        return torch_ops.head_linear(o, down)

    def padded(self) -> Tensor:
        """As transformers computes it: keys and values of all heads from all latents."""
        nope, rot = self.args[:2]
        s, (b, longest) = self.s, self.latent.shape[:2]
        kv = F.linear(self.latent[..., : s.rank], self.w.view(-1, s.rank))
        kv = kv.view(b, longest, s.heads, -1).transpose(1, 2)
        shared = self.latent[:, None, :, s.rank :].expand(b, s.heads, longest, s.rope)
        k = torch.cat((kv[..., : s.nope], shared), -1)
        q = torch.cat((nope, rot), -1)[:, :, None]
        return F.scaled_dot_product_attention(
            q, k, kv[..., s.nope :], attn_mask=self.mask, scale=self.scale
        )[:, :, 0]

    def absorbed(self, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """Absorbed in torch, request by request; in float64 it is the reference."""
        nope, rot, up, down = (x.to(dtype) for x in (*self.args[:2], self.up, self.down))
        q = torch.cat((torch.einsum("bhn,hnr->bhr", nope, up), rot), -1)
        out = over_latents(q, self.each, self.s.rank, self.scale)
        return torch.einsum("bhr,hvr->bhv", out, down)

    def work(self) -> tuple[float, float]:
        """Operations and bytes of `forward`."""
        s, tokens = self.s, sum(self.pages.lengths)
        flops = 2 * tokens * s.heads * (2 * s.rank + s.rope)
        flops += 2 * len(self.pages.lengths) * s.heads * (s.nope + s.v) * s.rank
        return flops, 2.0 * (tokens * (s.rank + s.rope) + self.w.numel())

    def reference(self) -> Tensor:
        return self.absorbed(torch.float64)

    def peers(self) -> dict[str, Callable[[], Tensor]]:
        return {"HF padded": self.padded, "absorbed torch": self.absorbed}


class GqaLayer(torch.nn.Module):
    """One layer's caches; `forward` is the attention alone."""

    def __init__(self, s: Gqa, pages: Paged, seed: int) -> None:
        super().__init__()
        self.s, self.pages, self.scale = s, pages, s.d**-0.5
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
        q = draw(len(pages.lengths), s.heads, s.d).bfloat16()
        k, v = (draw(pages.slots, s.kv, s.d).bfloat16() for _ in range(2))
        self.args = (q, k, v, pages.starts, pages.context, pages.tables)
        self.keys, self.values = (pages.padded(x).transpose(1, 2).contiguous() for x in (k, v))
        self.mask = pages.mask(torch.bfloat16)[:, None, None]

    def forward(self, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, lens: Tensor,
                tables: Tensor) -> Tensor:  # fmt: skip
        return torch_ops.paged_attention(q, k, v, starts, lens, tables, self.scale, PAGE)

    def sdpa(self, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        q, k, v, mask = (x.to(dtype) for x in (self.args[0], self.keys, self.values, self.mask))
        return F.scaled_dot_product_attention(
            q[:, :, None], k, v, attn_mask=mask, scale=self.scale, enable_gqa=True
        )[:, :, 0]

    def work(self) -> tuple[float, float]:
        tokens = sum(self.pages.lengths)
        return 4.0 * tokens * self.s.heads * self.s.d, 4.0 * tokens * self.s.kv * self.s.d

    def reference(self) -> Tensor:
        return self.sdpa(torch.float64)

    def peers(self) -> dict[str, Callable[[], Tensor]]:
        return {"sdpa": self.sdpa}


class LatentLayer(torch.nn.Module):
    """One layer's latents; `forward` is the attention alone."""

    def __init__(self, s: Latent, pages: Paged, seed: int) -> None:
        super().__init__()
        self.s, self.pages, self.scale = s, pages, (s.rank + s.rope) ** -0.5
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
        count = len(pages.lengths)
        q = draw(count, s.heads, s.rank + s.rope).bfloat16()
        cache = draw(pages.slots, 1, s.rank + s.rope).bfloat16()
        self.args = (q, cache, pages.starts, pages.context, pages.tables)
        self.each = [cache[pages.rows(r), 0] for r in range(count)]

    def forward(self, q: Tensor, cache: Tensor, starts: Tensor, lens: Tensor,
                tables: Tensor) -> Tensor:  # fmt: skip
        return torch_ops.paged_attention(
            q, cache, cache[..., : self.s.rank], starts, lens, tables, self.scale, PAGE
        )

    def each_request(self, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """In torch, request by request; in float64 it is the reference."""
        return over_latents(self.args[0].to(dtype), self.each, self.s.rank, self.scale)

    def work(self) -> tuple[float, float]:
        s, tokens = self.s, sum(self.pages.lengths)
        return 2.0 * tokens * s.heads * (2 * s.rank + s.rope), 2.0 * tokens * (s.rank + s.rope)

    def reference(self) -> Tensor:
        return self.each_request(torch.float64)

    def peers(self) -> dict[str, Callable[[], Tensor]]:
        return {"torch": self.each_request}


class Stack(torch.nn.Module):
    """Several layers as one step."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.args = [m.args[:-3] for m in layers]
        self.shared = layers[0].args[-3:]

    def forward(self, args: list[tuple[Tensor, ...]], shared: tuple[Tensor, ...]) -> list[Tensor]:
        return [m(*x, *shared) for m, x in zip(self.layers, args, strict=True)]


def every(calls: Sequence[Callable[[], Any]]) -> None:
    for call in calls:
        call()


def error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


@dataclass
class Row:
    """One case at one level: what was timed, and the machine's limits at that moment."""

    case: str
    level: str
    pairs: dict[str, Pairs]
    flops: float
    bytes: float
    peak: float
    rate: float
    layers: int

    def texts(self, clock: str) -> list[str]:
        seconds = Range.of([s / self.layers for p in self.pairs.values() for s in p.ours[clock]])
        flops, read = self.flops / seconds.median, self.bytes / seconds.median
        ratios = [f"{name} {p.ratio(clock).text(1)}x" for name, p in self.pairs.items()]
        return [
            self.case, self.level, seconds.map(lambda s: s * 1e3).text(3), "\n".join(ratios),
            f"{flops / 1e9:.0f}, {flops / self.peak:.0%} of {self.peak / 1e9:.0f}"
            if self.peak else f"{flops / 1e9:.0f}",
            f"{read / 1e9:.1f}, {read / self.rate:.0%} of {self.rate / 1e9:.1f}",
        ]  # fmt: skip


class Bench:
    """All layers of one case."""

    def __init__(self, name: str, lengths: Sequence[int], count: int, threads: int) -> None:
        self.name, self.threads = name, threads
        sizes = CASES[name]
        pages = Paged(lengths, torch.Generator().manual_seed(0))
        kinds: dict[type, Any] = {Mla: MlaLayer, Gqa: GqaLayer, Latent: LatentLayer}
        self.layers = [kinds[type(sizes)](sizes, pages, seed) for seed in range(count)]
        self.exact = self.layers[0].reference()
        self.flops, nbytes = self.layers[0].work()
        self.bytes = nbytes
        self.probe = Bandwidth(threads, max(int(nbytes) * count, 1 << 22))

    def check(self, got: Tensor) -> None:
        """Raises AssertionError when our error is above 1.25 times the last peer's in bf16."""
        peer = list(self.layers[0].peers().values())[-1]()
        ours, theirs = error(got, self.exact), error(peer, self.exact)
        assert ours <= 1.25 * theirs + 1e-3, f"{self.name}: error {ours:.1e}, torch's {theirs:.1e}"

    def run(self, level: str, pairs: int, least: float, peak: Peak) -> Row:
        clock = "cpu" if self.threads == 1 else "wall"
        target = f"cpu/{level}"
        stack = Stack(self.layers)
        args = (stack.args, stack.shared)
        step = partial(xcompile.compile(stack, args, target=target, threads=self.threads), *args)
        self.check(step()[0])
        timed = {}
        rates = [self.probe.read(5)[clock]]
        for name in self.layers[0].peers():
            calls = [m.peers()[name] for m in self.layers]
            timed[name] = paired(step, partial(every, calls), pairs, least)
            rates.append(self.probe.read(5)[clock])
        best = peak.read(level == "amx")[clock]
        rate = sum(rates) / len(rates)
        return Row(self.name, level, timed, self.flops, self.bytes, best, rate, len(self.layers))


def rows(
    cases: Sequence[str], levels: Sequence[str], lengths: Sequence[int], layers: int = 6,
    threads: int = 1, pairs: int = 7, seconds: float = 0.3,
) -> list[Row]:  # fmt: skip
    """Every case at every level."""
    peak = Peak(threads)
    result = []
    for case in cases:
        bench = Bench(case, lengths, layers, threads)
        result += [bench.run(level, pairs, seconds, peak) for level in levels]
    return result


def table(found: Sequence[Row], threads: int) -> Table:
    clock = "cpu" if threads == 1 else "wall"
    shown = Table("case", "level", f"ms ({clock})", "faster than", "GFLOP/s, of the peak",
                  "GB/s, of the bandwidth")  # fmt: skip
    for row in found:
        shown.add_row(*row.texts(clock))
    return shown


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--cases", default="mini,full,gqa16,gqa32", help="v3 takes minutes")
    p.add_argument("--levels", default=best_isa(), help="amx,avx512bf16,...")
    p.add_argument("--lengths", help="contexts, as 2048x24,32768 (default: 16 of 100 to 1200)")
    p.add_argument("--layers", type=int, default=6)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--seconds", type=float, default=0.3, help="least time of a turn")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    a = parser().parse_args(argv)
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    lengths = parse_lengths(a.lengths) if a.lengths else MICRO
    names = a.cases.split(",")
    if wrong := [x for x in names if x not in CASES]:
        raise SystemExit(f"{wrong[0]!r} is none of {', '.join(CASES)}")
    print(f"{len(lengths)} requests, {sum(lengths)} tokens, {a.layers} layers, "
          f"{a.threads} thread(s)", flush=True)  # fmt: skip
    found = rows(names, a.levels.split(","), lengths, a.layers, a.threads, a.pairs, a.seconds)
    Console(width=132).print(table(found, a.threads))


if __name__ == "__main__":
    main()
