"""Attention over latent caches and groups of heads on the CPU: lengths, heads, query counts."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
import torch

from tests.helpers import LEVELS_HERE, OPS, Batch, call, graph_of
from tests.helpers import compiled as compile_
from xcompile.compiler import Compiled, executor
from xcompile.ir import Graph, Type, Value
from xcompile.symbolic import Range, symbol
from xcompile.targets.cpu import best_isa

F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
DTYPES = {"f32": F32, "bf16": BF16}
LEVELS = [
    pytest.param(level, marks=() if level == best_isa() else pytest.mark.slow)
    for level in LEVELS_HERE
]
BLOCK = 128  # keys that templates/cpu/lib/attention_tiles.cpp takes at a time
PART = 256  # keys of a part of several heads
LONG = 1024  # keys of a part of one head
PAGE = 16
SHAPES = {  # query heads, key/value heads, D, Dv; one key/value head: the values lie in the keys
    "16 heads": (16, 1, 96, 64),
    "32 heads": (32, 1, 64, 32),
    "64 heads": (64, 1, 33, 33),
    "128 heads": (128, 1, 96, 64),
    "mini": (16, 1, 288, 256),
    "full": (16, 1, 576, 512),
    "groups of 8": (16, 2, 64, 64),
    "groups of 20": (40, 2, 40, 24),
    "groups of 1": (3, 3, 128, 128),
    "groups of 2": (4, 2, 128, 64),
    "groups of 3": (9, 3, 24, 40),
    "groups of 4": (16, 4, 64, 64),
    "groups of 6": (12, 2, 64, 128),
}
# What runs by default besides the slow rest: level, dtype, shapes.
QUICK = {(best_isa(), "bf16"): ("16 heads", "64 heads", "128 heads", "full", "groups of 8",
                               "groups of 1", "groups of 3", "groups of 4"),
         (best_isa(), "f32"): ("16 heads", "groups of 4"),
         ("avx512bf16", "bf16"): ("16 heads",)}  # fmt: skip
CASES = [
    pytest.param(level, name, dtype,
                 marks=() if name in QUICK.get((level, dtype), ()) else pytest.mark.slow)
    for level in LEVELS_HERE for name in SHAPES for dtype in DTYPES
]  # fmt: skip
LENGTHS = {  # new tokens and context of each request
    "around a block": ([1] * 4, [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 1]),
    "around a part": ([1] * 7, [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1]),
    "around a long part": ([1] * 4, [LONG - 1, LONG, LONG + 1, 2 * LONG + 1]),
    "around a page": ([1] * 6, [PAGE - 1, PAGE, PAGE + 1, 2, 31, 33]),
    "outlier": ([1] * 5, [40, 3000, 17, 1, 90]),
    "equal": ([1] * 4, [128] * 4),
    "one long": ([1], [2049]),
    "one to four queries": ([1, 2, 3, 4, 4], [300, 2, 513, 4, 1100]),
    "pieces of prompts": ([70, 1, 33, 0, 9], [300, 12, 33, 5, 9]),
}


@cache
def graph(
    dtype: torch.dtype, shape: tuple[int, ...], level: str, page: int
) -> tuple[Graph, Compiled]:
    heads, kv, d, dv = shape
    t, r, m, s = (symbol(n) for n in ("T", "R", "M", "slots"))
    symbols = {"T": Range(1, 512, 8), "R": Range(1, 64, 2), "M": Range(1, 4096, 4),
               "slots": Range(1, 1 << 16, 64)}  # fmt: skip
    types = [Type(dtype, (t, heads, d)), Type(dtype, (s, kv, d)), Type(I64, (r + 1,)),
             Type(I64, (r,)), Type(I64, (r, m))]  # fmt: skip

    def build(g: Graph, q: Value, k: Value, *rest: Value) -> list[Value]:
        if kv == 1:
            v = g.add(OPS["slice"], k, dim=2, start=0, stop=dv, step=1)
        else:
            v = g.input(Type(dtype, (s, kv, dv)), "values")
        return [g.add(OPS["paged_attention"], q, k, v, *rest, scale=d**-0.5, page=page)]

    g = graph_of(build, *types, symbols=symbols)
    return g, compile_(g, f"cpu/{level}")


def arguments(
    lengths: str, dtype: torch.dtype, shape: tuple[int, ...], page: int, spread: float = 1.0
) -> list[torch.Tensor]:
    heads, kv, d, dv = shape
    new, contexts = LENGTHS[lengths]
    new = [min(n, c) for n, c in zip(new, contexts, strict=True)]
    rng = torch.Generator().manual_seed(3)
    need = [-(-c // page) for c in contexts]
    pages = torch.randperm(sum(need) + 2, generator=rng)
    tables = torch.zeros(len(new), max(need), dtype=I64)
    for r, (lo, hi) in enumerate(pairwise([0, *torch.tensor(need).cumsum(0).tolist()])):
        tables[r, : hi - lo] = pages[lo:hi]
    slots = (sum(need) + 2) * page
    q = spread * torch.randn(sum(new), heads, d, generator=rng)
    ends = torch.tensor([0, *torch.tensor(new).cumsum(0).tolist()])
    args = [q, torch.randn(slots, kv, d, generator=rng), ends, torch.tensor(contexts), tables]
    if kv > 1:
        args.append(torch.randn(slots, kv, dv, generator=rng))
    return [x.to(dtype) if x.is_floating_point() else x for x in args]


def check(level: str, name: str, dtype: torch.dtype, lengths: list[str], page: int) -> None:
    shape = SHAPES[name]
    g, library = graph(dtype, shape, level, page)
    runs = [executor(library, n) for n in (1, 2, 3)]
    for which in lengths:
        args = arguments(which, dtype, shape, page)
        got = [call(g, run, args)[0] for run in runs]
        Batch(g, args, [f"{name}, {which}"]).check(got[:1])
        assert all(torch.equal(x, got[0]) for x in got[1:]), f"{which}: threads change the result"


@pytest.mark.parametrize(("level", "name", "dtype"), CASES)
def test_lengths_heads_and_queries(level: str, name: str, dtype: str) -> None:
    check(level, name, DTYPES[dtype], list(LENGTHS), PAGE)


@pytest.mark.parametrize("page", [pytest.param(1, marks=pytest.mark.slow), 12])
@pytest.mark.parametrize("level", LEVELS)
def test_pages_of_any_size(level: str, page: int) -> None:
    """Tiles of 16 keys that lie in one page are read in place, others are brought together."""
    check(level, "16 heads", BF16, ["around a part", "pieces of prompts"], page)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_a_context_of_32k(level: str) -> None:
    LENGTHS["32k"] = ([1, 1, 2], [700, 32768, 30])
    check(level, "128 heads", BF16, ["32k"], 128)


@pytest.mark.parametrize("level", LEVELS)
def test_the_maximum_moves_from_block_to_block(level: str) -> None:
    """Scores that grow along the context rescale what was summed before."""
    shape = SHAPES["128 heads"]
    g, library = graph(BF16, shape, level, PAGE)
    args = arguments("outlier", BF16, shape, PAGE, spread=4.0)
    table, cache_ = args[4], args[1]
    for r, n in enumerate(LENGTHS["outlier"][1]):
        at = torch.arange(n)
        cache_[table[r, at // PAGE] * PAGE + at % PAGE] *= (1 + at / 1000)[:, None, None].bfloat16()
    got = call(g, executor(library, 2), args)
    Batch(g, args, ["growing"]).check(got)
    assert got[0].isfinite().all()


@pytest.mark.parametrize("level", LEVELS)
def test_unused_slots_do_not_matter(level: str) -> None:
    """What lies behind a context, in its last page and in pages of nobody, may be NaN."""
    shape = SHAPES["mini"]
    g, library = graph(BF16, shape, level, PAGE)
    args = arguments("around a page", BF16, shape, PAGE)
    run = executor(library, 2)
    want = call(g, run, args)[0]
    used = torch.zeros(args[1].shape[0], dtype=torch.bool)
    for r, n in enumerate(LENGTHS["around a page"][1]):
        at = torch.arange(n)
        used[args[4][r, at // PAGE] * PAGE + at % PAGE] = True
    args[1][~used] = float("nan")
    assert torch.equal(call(g, run, args)[0], want)
