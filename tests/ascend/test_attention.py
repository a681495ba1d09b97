"""Attention on the cube and vector cores, paged and dense, in the simulator with all checks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import xcompile
import xcompile.frontend.torch_ops  # registers xllm::paged_attention
from xcompile import sim
from xcompile.codegen.ascend.attention import Tile, choose, workspace_bytes
from xcompile.ops.attention import ATTENTION, PAGED_ATTENTION

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
TYPES = {"half": torch.float16, "bfloat16_t": torch.bfloat16, "float": torch.float32}
MASKS = ("AttnNoMask", "AttnMask<uint8_t>", "AttnMask<float>", "AttnMask<half>")
SIZES = ("kvHeads", "group", "d", "dv")
BEGIN = """
  TPipe pipe;
  Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  if ASCEND_IS_AIV {{
    team.count *= 2;
  }}
  const AttnSizes sizes{{kvHeads, group, d, dv, scale}};
  const AttnTile tile{{{tile}}};
  using P = const __gm__ i64*;
"""
PAGED = """
extern "C" __global__ __mix__(1, 2) void paged_{t}(
    GM_ADDR q, GM_ADDR k, GM_ADDR v, GM_ADDR o, GM_ADDR cu, GM_ADDR lens, GM_ADDR tables,
    GM_ADDR space, {dims}, float scale, {args}, {tiles}) {{{begin}
  const PagedSource source{{{names}}};
  pagedAttention<{t}>(pipe, team, source, sizes, tile, q, k, v, o, space);
  PipeBarrier<PIPE_ALL>();
}}
"""
DENSE = """
extern "C" __global__ __mix__(1, 2) void dense{at}_{t}(
    GM_ADDR q, GM_ADDR k, GM_ADDR v, GM_ADDR o, GM_ADDR mask, GM_ADDR space, {dims}, float scale,
    int64_t mBatch, int64_t mHead, int64_t mRow, int64_t mKey, {args}, {tiles}) {{{begin}
  const DenseSource source{{{names}}};
  const AttnMaskShape shape{{mask, mBatch, mHead, mRow, mKey}};
  denseAttention<{t}, {mask}>(pipe, team, source, sizes, tile, q, k, v, o, space, shape);
  PipeBarrier<PIPE_ALL>();
}}
"""
PAGED_NAMES = ["tokens", "count", "pages", "page"] + [
    f"{x}{y}" for x in "qokv" for y in ("Row", "Head")
]
DENSE_NAMES = ["batch", "rows", "all", "causal"] + [
    f"{x}{y}" for x in "qkvo" for y in ("Batch", "Head", "Row")
]


def source() -> str:
    tiles = [f.name for f in fields(Tile)]
    common = {
        "dims": ", ".join(f"int32_t {x}" for x in SIZES),
        "tiles": ", ".join(f"int32_t {x}_" for x in tiles),
        "begin": BEGIN.format(tile=", ".join(f"{x}_" for x in tiles)),
    }

    def args(names: Sequence[str]) -> str:
        return ", ".join(f"int64_t {x}" for x in names)

    text = '#include "attention.h"\nusing namespace xc;\n'
    names = ", ".join([*PAGED_NAMES[:4], "(P)cu", "(P)lens", "(P)tables", *PAGED_NAMES[4:]])
    dense = ", ".join(x if x != "causal" else "causal != 0" for x in DENSE_NAMES)
    for t in TYPES:
        text += PAGED.format(t=t, names=names, args=args(PAGED_NAMES), **common)
        for at, mask in enumerate(MASKS):
            if mask != "AttnMask<half>" or t == "half":
                text += DENSE.format(
                    t=t, at=at, mask=mask, names=dense, args=args(DENSE_NAMES), **common
                )
    return text


def kernel(name: str, **options: Any) -> sim.Kernel:
    return sim.load(source(), name, include=[LIB], **options)


def close(got: torch.Tensor, exact: torch.Tensor, eager: torch.Tensor) -> None:
    """At most 1.25 times eager's own error, plus a few units in the last place: the cube core adds
    products of floats one after the other."""
    if got.numel() == 0:
        return
    units = 8 if got.dtype == torch.float32 else 4
    ours = (got.double() - exact).abs().max().item()
    theirs = (eager.double() - exact).abs().max().item()
    assert ours <= 1.25 * theirs + units * torch.finfo(got.dtype).eps * exact.abs().max().item()


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, mask: torch.Tensor
) -> torch.Tensor:
    """q [H, S, D], k [Hk, T, D], v [Hk, T, Dv], mask added, in float64; unseen rows are zero."""
    n = q.shape[0] // k.shape[0]
    k, v = (x.double().repeat_interleave(n, 0) for x in (k, v))
    s = q.double() @ k.mT * scale + mask
    return torch.nan_to_num(torch.softmax(s, -1)) @ v


class Heads(NamedTuple):
    heads: int
    kv: int
    d: int
    dv: int
    latent: bool = False  # values are the first dv of a key row


class Batch(NamedTuple):
    """Operands of a paged call: caches [slots, kv, D], tables of shuffled pages."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    cu: torch.Tensor
    lens: torch.Tensor
    tables: torch.Tensor


def batch(
    h: Heads,
    dtype: torch.dtype,
    lens: Sequence[int],
    new: Sequence[int],
    page: int,
    spare: int = 0,
    rise: float = 0,
) -> Batch:
    """Requests of `lens` keys and `new` query rows; `spare` rows of q belong to no request. Scores
    of every second head rise by about `rise` with 1000 keys."""
    g = torch.Generator().manual_seed(sum(lens) + len(lens) + h.heads)
    used = [-(-n // page) for n in lens]
    ids = torch.randperm(sum(used) + 3, generator=g)
    if sum(lens) % 2:  # neighbouring pages
        ids = ids.sort().values
    tables = torch.zeros(len(lens), max([*used, 1]), dtype=torch.int64)
    for r, n in enumerate(used):
        tables[r, :n] = ids[sum(used[:r]) : sum(used[:r]) + n]
    slots = (sum(used) + 3) * page
    k = torch.randn(slots, h.kv, h.d, generator=g).to(dtype)
    v = k[..., : h.dv] if h.latent else torch.randn(slots, h.kv, h.dv, generator=g).to(dtype)
    cu = torch.tensor([0, *itertools.accumulate(new)])
    q = torch.randn(int(cu[-1]) + spare, h.heads, h.d, generator=g).to(dtype)
    if rise:
        q[:, ::2, 0] = h.d**0.5
        for r, n in enumerate(lens):
            at = torch.arange(n)
            k[tables[r, at // page] * page + at % page, :, 0] = (at * rise / 1000)[:, None].to(
                dtype
            )
    return Batch(q, k, v, cu, torch.tensor(lens, dtype=torch.int64), tables)


def exactly(b: Batch, scale: float, page: int) -> torch.Tensor:
    out = torch.zeros(*b.q.shape[:2], b.v.shape[2], dtype=torch.float64)
    for r, n in enumerate(b.lens.tolist()):
        lo, hi = int(b.cu[r]), int(b.cu[r + 1])
        pos = torch.arange(n)
        slots = b.tables[r, pos // page] * page + pos % page
        seen = pos <= torch.arange(n - (hi - lo), n)[:, None]
        mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
        q, k, v = (x.transpose(0, 1) for x in (b.q[lo:hi], b.k[slots], b.v[slots]))
        out[lo:hi] = attend(q, k, v, scale, mask).transpose(0, 1)
    return out


def tile_of(h: Heads, dtype: torch.dtype, masked: bool = False) -> Tile:
    group = h.heads // h.kv
    return choose(h.d, h.dv, group, h.kv, dtype.itemsize, adjacent=not h.latent, masked=masked)


def fresh(tile: Tile, dtype: torch.dtype) -> torch.Tensor:
    """A workspace that holds no numbers."""
    return torch.full((workspace_bytes(tile, dtype.itemsize, 24),), 255, dtype=torch.uint8)


def paged(
    t: str,
    h: Heads,
    lens: Sequence[int],
    new: Sequence[int],
    *,
    page: int = 128,
    blocks: int = 24,
    seeds: Sequence[int] = (0, 7),
    spare: int = 0,
    tile: Tile | None = None,
    rise: float = 0,
) -> None:
    dtype, scale = TYPES[t], h.d**-0.5
    b = batch(h, dtype, lens, new, page, spare, rise)
    tile = tile or tile_of(h, dtype)
    eager = PAGED_ATTENTION.ref(*b, scale=scale, page=page)
    exact = exactly(b, scale, page)
    space = fresh(tile, dtype)
    stored = b.k if h.latent else b.v
    strides = (h.heads * h.d, h.d, h.heads * h.dv, h.dv, *b.k.stride()[:2], *b.v.stride()[:2])
    for seed in seeds:
        y = torch.empty(*b.q.shape[:2], h.dv, dtype=dtype)
        kernel(f"paged_{t}", blocks=blocks, seed=seed)(
            b.q, b.k, stored, sim.Out(y), b.cu, b.lens, b.tables, space,
            h.kv, h.heads // h.kv, h.d, h.dv, scale,
            len(b.q), len(lens), b.tables.shape[1], page, *strides, *astuple(tile),
        )  # fmt: skip
        close(y, exact, eager)


MHA, GQA, MQA = Heads(4, 4, 64, 64), Heads(8, 2, 128, 128), Heads(6, 1, 48, 32)
ODD, MANY = Heads(6, 2, 40, 24), Heads(32, 8, 64, 64)


def mla(heads: int) -> Heads:
    return Heads(heads, 1, 576, 512, latent=True)


EDGES = [0, 1, 127, 128, 129]
CASES = [
    # type, heads, keys, query rows, page, cores
    ("bfloat16_t", mla(16), EDGES, [1] * 5, 128, 24),
    ("bfloat16_t", mla(128), [300, 2049], [1, 1], 128, 24),
    ("half", mla(64), [1300, 5, 0, 130], [2, 2, 2, 2], 128, 3),
    ("half", mla(32), [257, 900], [4, 3], 16, 1),
    ("float", mla(16), [129, 700], [1, 4], 128, 24),
    ("bfloat16_t", mla(128), [140], [4], 128, 3),
    ("bfloat16_t", GQA, [*EDGES, 4000], [1] * 6, 128, 24),
    ("half", GQA, EDGES, [1, 1, 2, 3, 4], 16, 3),
    ("float", GQA, [700, 33, 130], [1, 4, 2], 64, 24),
    ("bfloat16_t", GQA, [200, 515], [200, 130], 128, 24),  # prefill, and a chunk of one
    ("half", MHA, [*EDGES, 600], [1] * 6, 128, 24),
    ("float", MHA, [90, 300], [90, 70], 16, 3),
    ("bfloat16_t", MANY, [512, 700, 3], [1, 1, 1], 128, 24),
    ("half", MANY, [2049] * 5, [1] * 5, 128, 3),
    ("bfloat16_t", MQA, [40, 333, 0], [3, 1, 1], 8, 5),
    ("half", ODD, [77, 260, 1], [77, 2, 1], 4, 1),
    ("float", ODD, [77, 160, 1], [5, 1, 1], 4, 24),
    ("half", GQA, [300, 20], [0, 0], 16, 24),  # nothing to do
    ("half", GQA, [], [], 16, 3),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1].heads}-{c[1].kv}-{c[5]}")
def test_paged(case: tuple[Any, ...]) -> None:
    t, heads, lens, new, page, blocks = case
    paged(t, heads, lens, new, page=page, blocks=blocks, spare=len(lens) % 3)


@pytest.mark.parametrize(("t", "heads"), [("bfloat16_t", 128), ("half", 16), ("float", 16)])
def test_rising_scores(t: str, heads: int) -> None:
    """Sums have to be rescaled in some blocks and rows, in whole tasks and in parts."""
    paged(t, mla(heads), [1700, 150, 5000, 2500], [1, 1, 2, 1], blocks=5, seeds=(3,), rise=15)


def dense(
    t: str,
    h: Heads,
    n: int,
    rows: int,
    keys: int,
    mask: torch.Tensor | None,
    *,
    causal: bool = False,
    transposed: bool = False,
    blocks: int = 24,
    seeds: Sequence[int] = (0, 5),
) -> None:
    """`transposed`: q, k, v and o are [B, S, H, D] in memory."""
    dtype, scale = TYPES[t], h.d**-0.5
    g = torch.Generator().manual_seed(rows * 1000 + keys)

    def operand(heads: int, length: int, width: int) -> torch.Tensor:
        if transposed:
            return torch.randn(n, length, heads, width, generator=g).to(dtype).transpose(1, 2)
        return torch.randn(n, heads, length, width, generator=g).to(dtype)

    q, k, v = operand(h.heads, rows, h.d), operand(h.kv, keys, h.d), operand(h.kv, keys, h.dv)
    args = (q, k, v) if mask is None else (q, k, v, mask)
    eager = ATTENTION.ref(*args, causal=causal, scale=scale)
    added = torch.zeros(n, h.heads, rows, keys)
    if causal:
        hidden = torch.ones(rows, keys, dtype=torch.bool).triu(1)
        added = added.masked_fill(hidden, -torch.inf)
    if mask is not None:
        added += torch.zeros(1).masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask
    exact = torch.stack([attend(q[i], k[i], v[i], scale, added[i]) for i in range(n)])
    tile = choose(
        h.d,
        h.dv,
        h.heads // h.kv,
        h.kv,
        dtype.itemsize,
        adjacent=transposed,
        masked=mask is not None,
    )
    kind = 0 if mask is None else {torch.bool: 1, torch.float32: 2, torch.float16: 3}[mask.dtype]
    m = torch.zeros(1) if mask is None else mask
    strides = [s if d > 1 else 0 for d, s in zip(m.shape, m.stride(), strict=True)]
    space = fresh(tile, dtype)
    for seed in seeds:
        y = torch.empty_like(operand(h.heads, rows, h.dv))
        raw = [x.transpose(1, 2) if transposed else x for x in (q, k, v, y)]
        kernel(f"dense{kind}_{t}", blocks=blocks, seed=seed)(
            *raw[:3], sim.Out(raw[3]), m, space, h.kv, h.heads // h.kv, h.d, h.dv, scale,
            *(strides if mask is not None else [0] * 4), n, rows, keys, int(causal),
            *itertools.chain(*(x.stride()[:3] for x in (q, k, v, y))), *astuple(tile),
        )  # fmt: skip
        close(y, exact, eager)


def random_mask(kind: str, *shape: int) -> torch.Tensor | None:
    """none; bool: a band and holes; a type: biases, some of them -inf. The first row sees none."""
    if kind == "none":
        return None
    g = torch.Generator().manual_seed(sum(shape))
    seen = torch.rand(shape, generator=g) > 0.3
    seen[:, :, 0] = False
    if kind == "bool":
        return seen
    bias = torch.randn(shape, generator=g).to(TYPES[kind])
    return bias.masked_fill(~seen, -torch.inf)


def window(rows: int, keys: int, width: int) -> torch.Tensor:
    """A sliding window: query i sees keys i - width + 1 .. i."""
    at = torch.arange(keys) - torch.arange(rows)[:, None]
    return ((at <= 0) & (at > -width))[None, None]


DENSE_CASES = [
    # type, heads, batch, rows, keys, mask, mask's shape, causal, transposed, cores
    ("half", GQA, 2, 70, 130, "none", (), False, True, 24),
    ("bfloat16_t", MHA, 1, 300, 300, "none", (), True, False, 3),
    ("float", ODD, 2, 33, 65, "none", (), True, True, 1),
    ("half", MHA, 2, 40, 200, "bool", (2, 1, 40, 200), False, False, 24),
    ("bfloat16_t", GQA, 2, 9, 600, "bool", (1, 8, 9, 600), False, True, 3),
    ("float", ODD, 1, 50, 77, "bool", (1, 1, 50, 77), False, False, 24),
    ("half", GQA, 1, 130, 140, "float", (1, 8, 130, 140), False, True, 24),
    ("bfloat16_t", MQA, 3, 5, 100, "float", (3, 1, 5, 100), False, False, 5),
    ("float", MHA, 2, 1, 513, "float", (2, 1, 1, 513), False, True, 24),
    ("half", MQA, 2, 20, 90, "half", (1, 6, 20, 90), False, False, 3),
    ("half", MHA, 2, 64, 64, "bool", (2, 4, 64, 1), False, True, 24),
    ("bfloat16_t", GQA, 1, 0, 64, "none", (), False, True, 3),
]


@pytest.mark.parametrize("case", DENSE_CASES, ids=lambda c: f"{c[0]}-{c[1].heads}-{c[5]}-{c[9]}")
def test_dense(case: tuple[Any, ...]) -> None:
    t, heads, n, rows, keys, kind, shape, causal, transposed, blocks = case
    mask = random_mask(kind, *shape)
    dense(t, heads, n, rows, keys, mask, causal=causal, transposed=transposed, blocks=blocks)


@pytest.mark.parametrize("t", TYPES)
def test_sliding_window(t: str) -> None:
    dense(t, GQA, 1, 150, 150, window(150, 150, 40), transposed=True, seeds=(3,))


PATTERNS = {
    "equal": lambda g: [512] * 9,
    "spread": lambda g: [512 + g.randrange(256) for _ in range(13)],
    "normal": lambda g: [max(int(g.gauss(300, 150)), 0) for _ in range(23)],
    "lognormal": lambda g: [int(g.lognormvariate(5, 1)) for _ in range(12)],
    "outlier": lambda g: [130] * 24 + [4096],
    "zeros": lambda g: [0, 300, 0, 0, 900, 0],
    "tiny": lambda g: [g.randrange(1, 20) for _ in range(50)],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern: str) -> None:
    """Shares of 20 and of 23 cores, whatever the lengths."""
    lens = PATTERNS[pattern](random.Random(pattern))
    for t, heads, blocks in (("bfloat16_t", mla(16), 20), ("half", MANY, 23)):
        paged(t, heads, lens, [1] * len(lens), blocks=blocks, seeds=(11,))


@pytest.mark.slow
@pytest.mark.parametrize("t", TYPES)
def test_random(t: str) -> None:
    g = random.Random(t)
    for case in range(40):
        kv = g.choice((1, 2, 3, 8))
        d, dv = g.choice((16, 40, 64, 96, 128, 192)), g.choice((16, 24, 64, 128))
        heads = Heads(kv * g.choice((1, 2, 3, 8, 16)), kv, d, dv)
        if case % 3 == 0:
            heads = mla(g.choice((1, 3, 16, 20, 32, 64, 128)))
        count = g.randrange(1, 12)
        lens = [int(2 ** g.uniform(0, 10.5)) * (g.random() > 0.1) for _ in range(count)]
        most = 1 + 3 * (g.random() < 0.8) if case % 3 == 0 else g.choice((1, 4, 200))
        new = [min(n, g.randrange(most + 1)) for n in lens]
        paged(
            t, heads, lens, new, page=g.choice((4, 16, 128)), blocks=g.randint(1, 24),
            seeds=(case,), spare=g.randrange(3),
        )  # fmt: skip


def test_latents_compiled() -> None:
    """From a module: a step over a latent cache, run for several sizes of each kind."""

    class Step(torch.nn.Module):
        def forward(self, q, k, cu, lens, tables):
            return torch.ops.xllm.paged_attention(
                q, k, k[..., :512], cu, lens, tables, scale=0.07, page=128
            )

    shapes = (
        {0: torch.export.Dim("T")},
        {0: torch.export.Dim("S")},
        None,
        None,
        {1: torch.export.Dim("M")},
    )
    step = None
    for lens, new in (([300, 40], [2, 1]), ([1, 700], [1, 3])):
        b = batch(mla(16), torch.bfloat16, lens, new, 128)
        args = (b.q, b.k, b.cu, b.lens, b.tables)
        if step is None:
            step = xcompile.compile(Step(), args, dynamic_shapes=shapes, target="ascend910b")
        eager = PAGED_ATTENTION.ref(*b, scale=0.07, page=128)
        close(step(*args), exactly(b, 0.07, 128), eager)
