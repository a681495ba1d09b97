"""Kernels that move rows and elements by index: embedding, index_copy, gather, scatter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers import OPS, Batch, add, call, compiled, executor, graph_of
from xcompile import sim
from xcompile.ir import Type
from xcompile.symbolic import Range, symbol

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
ENTRY = """
extern "C" __global__ __vector__ void {name}({params}) {{
  TPipe pipe;
  xc::Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  xc::{call};
  PipeBarrier<PIPE_ALL>();
}}
"""


def source() -> str:
    entries = [
        (
            "embedding",
            "GM_ADDR t, int64_t v, int64_t b, GM_ADDR i, int64_t n, GM_ADDR y",
            "gatherRows(pipe, team, t, v, b, i, n, y)",
        ),
        (
            "index_copy",
            "GM_ADDR y, int64_t o, int64_t d, int64_t b, GM_ADDR i, int64_t n, GM_ADDR s,"
            " int64_t row, int64_t outer",
            "scatterRows(pipe, team, y, o, d, b, i, n, s, row, outer)",
        ),
    ]
    for size in (1, 2, 4, 8):
        params = "GM_ADDR x, int64_t r, int64_t c, GM_ADDR i, {} GM_ADDR y"
        entries += [
            (
                f"gather{size}",
                params.format("int64_t j,"),
                f"gather<{size}>(pipe, team, x, r, c, i, j, y)",
            ),
            (
                f"scatter{size}",
                "GM_ADDR x, int64_t r, int64_t c, GM_ADDR i, GM_ADDR s, int64_t j",
                f"scatter<{size}>(pipe, team, x, r, c, i, s, j)",
            ),
        ]
    head = '#include "rows.h"\n#include "pick.h"\nusing namespace AscendC;\n'
    return head + "".join(ENTRY.format(name=n, params=p, call=c) for n, p, c in entries)


@pytest.fixture(scope="module")
def run():
    text = source()

    def launch(name, *args, blocks=48, **kw):
        return sim.load(text, name, blocks=blocks, include=[LIB])(*args, **kw)

    return launch


def data(shape, dtype, rng):
    if dtype.is_floating_point:
        return torch.randn(shape, generator=rng).to(dtype)
    most = 2 if dtype == torch.bool else 2**40
    return torch.randint(-most, most, shape, generator=rng).to(dtype)


def indices(shape, high, rng, missing=0.0):
    """Random indices below `high`, some of them out of range."""
    ids = torch.randint(0, high, shape, generator=rng)
    bad = torch.tensor([-1, high, -(2**40), 2**33])[torch.randint(0, 4, shape, generator=rng)]
    return torch.where(torch.rand(shape, generator=rng) < missing, bad, ids)


def exact(got, want):
    assert torch.equal(got.view(torch.uint8), want.contiguous().view(torch.uint8))


def taken(x, ids):
    """x[ids] along dim 0, zeros for what is out of range."""
    ok = (ids >= 0) & (ids < x.shape[0])
    out = x[torch.where(ok, ids, 0)]
    out[~ok] = 0
    return out


@pytest.mark.parametrize(
    ("vocab", "row", "n", "dtype", "blocks"),
    [
        (50, (64,), 300, torch.bfloat16, 48),
        (50, (7168,), 5, torch.bfloat16, 48),  # rows in parts
        (33, (37,), 401, torch.float16, 3),  # rows of odd length
        (33, (3, 5), 77, torch.float32, 48),
        (10, (), 1500, torch.int64, 1),  # more indices than a window holds
        (5, (40001,), 3, torch.float32, 48),  # rows longer than a tile
        (5, (9000,), 60, torch.float32, 2),
        (4, (16,), 0, torch.float32, 48),
    ],
)
@pytest.mark.parametrize("seed", [0, 3])
def test_embedding(run, vocab, row, n, dtype, blocks, seed):
    rng = torch.Generator().manual_seed(n)
    table, ids = data((vocab, *row), dtype, rng), indices((n,), vocab, rng, 0.05)
    y = torch.empty(n, *row, dtype=dtype)
    size = table[0].numel() * table.element_size()
    run("embedding", table, vocab, size, ids, n, sim.Out(y), blocks=blocks, seed=seed)
    exact(y, taken(table, ids))


@pytest.mark.parametrize(
    ("outer", "dim", "inner", "n", "dtype", "blocks"),
    [
        (1, 500, 576, 130, torch.bfloat16, 48),
        (1, 64, 576, 1, torch.bfloat16, 48),
        (3, 90, 33, 40, torch.float16, 48),
        (2, 9, 1, 7, torch.float32, 3),
        (5, 40, 2, 31, torch.int64, 1),
        (1, 7, 20000, 3, torch.float32, 48),
        (2, 7, 20000, 4, torch.float32, 1),
        (1, 8, 16, 0, torch.float32, 2),
        (1, 3000, 8, 2500, torch.bfloat16, 2),
    ],
)
@pytest.mark.parametrize("strided", [False, True])
def test_index_copy(run, outer, dim, inner, n, dtype, blocks, strided):
    rng = torch.Generator().manual_seed(dim)
    cache = data((outer, dim, inner), dtype, rng)
    ids = torch.randperm(dim, generator=rng)[:n]
    ids[::7] = indices(ids[::7].shape, dim, rng, 1.0)
    base = data((outer, n + strided, inner + 3 * strided), dtype, rng)
    src = base[:, :n, :inner]
    want = cache.clone()
    ok = (ids >= 0) & (ids < dim)
    want[:, ids[ok]] = src[:, ok]
    size = cache.element_size()
    row, block = src.stride(1) * size, src.stride(0) * size
    run(
        "index_copy", cache, outer, dim, inner * size, ids, n, base, row, block,
        blocks=blocks, seed=dim,
    )  # fmt: skip
    exact(cache, want)


PICKS = [
    (300, 256, 8, 48),
    (5, 300, 3000, 48),  # a row's picks over several cores
    (7, 33, 1, 3),
    (3, 9, 100, 1),
    (2, 20000, 5, 48),  # rows that do not fit
    (4, 12000, 600, 48),
    (1, 1, 1, 48),
    (20, 64, 0, 4),
    (60, 100, 2500, 7),
    (3, 8000, 2500, 2),
]


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.float32, torch.int64])
@pytest.mark.parametrize(("rows", "cols", "picks", "blocks"), PICKS)
def test_gather(run, rows, cols, picks, blocks, dtype):
    rng = torch.Generator().manual_seed(cols)
    x, ids = data((rows, cols), dtype, rng), indices((rows, picks), cols, rng, 0.1)
    y = torch.empty(rows, picks, dtype=dtype)
    run(f"gather{x.element_size()}", x, rows, cols, ids, picks, sim.Out(y), blocks=blocks)
    ok = (ids >= 0) & (ids < cols)
    exact(y, torch.where(ok, x.gather(1, torch.where(ok, ids, 0)), 0).to(dtype))


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.float32, torch.int64])
@pytest.mark.parametrize(("rows", "cols", "picks", "blocks"), PICKS)
def test_scatter(run, rows, cols, picks, blocks, dtype):
    rng = torch.Generator().manual_seed(cols)
    x, ids = data((rows, cols), dtype, rng), indices((rows, picks), cols, rng, 0.1)
    src = data((rows, picks), dtype, rng)
    want = x.clone()
    for j in range(picks):
        ok = (ids[:, j] >= 0) & (ids[:, j] < cols)
        r = torch.arange(rows)[ok]
        want[r, ids[ok, j]] = src[ok, j]
    run(f"scatter{x.element_size()}", x, rows, cols, ids, src, picks, blocks=blocks, seed=1)
    exact(x, want)


TARGET = "ascend910b"


def test_emitted(rng):
    """The templates, in one kernel each of a compiled graph."""
    b = Batch()
    for table, ids in (((11, 37), (2, 5)), ((300,), (2, 50)), ((8, 3, 50), (4,)), ((9000,), (3,))):
        x, i = torch.randn(table, generator=rng), torch.randint(0, table[0], ids, generator=rng)
        b.op(f"embedding of {table}", OPS["embedding"], [x, i], {})
    for shape, picks in (((3, 11), 5), ((2, 3, 40000), 2), ((1, 600), 3000)):
        x = torch.randn(shape, generator=rng).half()
        i = torch.randint(0, shape[-1], (*shape[:-1], picks), generator=rng)
        b.op(f"gather of {shape}", OPS["gather"], [x, i], {})
    b.check(b.run(TARGET))


def test_emitted_in_place(rng):
    """Caches and rows that are changed in place, for any number of tokens."""
    t = symbol("T")
    types = [
        Type(torch.bfloat16, (90, 4, 24)),
        Type(torch.float32, (6, 40, 10)),
        Type(torch.float32, (t, 50)),
        Type(torch.int64, (t,)),
        Type(torch.bfloat16, (t, 4, 24)),
        Type(torch.float32, (6, t, 10)),
        Type(torch.int64, (t, 3)),
        Type(torch.float32, (t, 3)),
    ]

    def build(g, flat, deep, rows, at, new, newer, places, values):
        return [
            add(g, "index_copy", flat, at, new, dim=0),
            add(g, "index_copy", deep, at, newer, dim=1),
            add(g, "scatter", rows, places, values),
        ]

    state = {0: 0, 1: 1, 2: 2}
    g = graph_of(build, *types, state=state, symbols={"T": Range(1, 40, 8)})
    run = executor(compiled(g, TARGET), None)
    for n in (1, 40, 7):
        args = [
            torch.randn([n if d is t else d for d in x.shape], generator=rng).to(x.dtype)
            for x in types
        ]
        args[3] = torch.randperm(40, generator=rng)[:n]
        args[6] = torch.stack([torch.randperm(50, generator=rng)[:3] for _ in range(n)])
        for got, want in zip(call(g, run, args), g.eval(*args), strict=True):
            exact(got, want)
