"""Dense products on the cube unit: tiles, epilogues, batches, in the simulator with all checks."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import xcompile
from xcompile import sim
from xcompile.frontend import torch_ops
from xcompile.targets.ascend import CHIPS
from xcompile.targets.ascend_pack import pack
from xcompile.targets.ascend_tiling import Tile, candidates, problem

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
TYPES = {"half": torch.float16, "bfloat16_t": torch.bfloat16, "float": torch.float32}
TILING = ", ".join(f"int32_t {x}" for x in Tile._fields)
BEGIN = """
  TPipe pipe;
  const Team team{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()};
  const Tiling t{"""
BEGIN += ", ".join(Tile._fields) + "};"
HEAD = """
#include "gemm.h"
using namespace xc;

// One row after the other, nothing overlapped.
template <class T>
struct Rows {
  TBuf<TPosition::VECCALC> buf;
  LocalTensor<float> a, b;
  LocalTensor<T> t;
  __aicore__ inline void init(TPipe& pipe) {
    pipe.InitBuffer(buf, 3 * 4096);
    a = buf.Get<float>();
    b = a[1024];
    t = a[2048].template ReinterpretCast<T>();
  }
  __aicore__ inline void in(const LocalTensor<float>& to, const GlobalTensor<float>& from, i64 n) {
    PipeBarrier<PIPE_ALL>();
    DataCopyPad(to, from, DataCopyExtParams{1, (uint32_t)(n * 4), 0, 0, 0},
                DataCopyPadExtParams<float>{false, 0, 0, 0});
    PipeBarrier<PIPE_ALL>();
  }
  __aicore__ inline void out(const GlobalTensor<T>& to, i64 n) {
    if constexpr (IsSameType<T, float>::value)
      Adds(t, a, 0.0f, n);
    else
      Cast(t, a, RoundMode::CAST_RINT, n);
    PipeBarrier<PIPE_ALL>();
    DataCopyPad(to, t, DataCopyExtParams{1, (uint32_t)(n * sizeof(T)), 0, 0, 0});
    PipeBarrier<PIPE_ALL>();
  }
};
template <class T>
struct Residual {  // y = acc + r
  Rows<T> tool;
  GlobalTensor<T> y;
  GlobalTensor<float> r;
  i64 n;
  __aicore__ inline void run(const GlobalTensor<float>& acc, i64 pitch, i64 row, i64 rows, i64 col,
                             i64 cols) {
    for (i64 i = 0; i < rows; ++i) {
      tool.in(tool.a, acc[i * pitch], cols);
      tool.in(tool.b, r[(row + i) * n + col], cols);
      Add(tool.a, tool.a, tool.b, cols);
      tool.out(y[(row + i) * n + col], cols);
    }
  }
};
template <class T>
struct Gate {  // y = silu(gate) * up
  Rows<T> tool;
  GlobalTensor<T> y;
  i64 n;
  __aicore__ inline void run(const GlobalTensor<float>& gate, const GlobalTensor<float>& up,
                             i64 pitch, i64 row, i64 rows, i64 col, i64 cols) {
    for (i64 i = 0; i < rows; ++i) {
      tool.in(tool.a, gate[i * pitch], cols);
      Muls(tool.b, tool.a, -1.0f, cols);
      Exp(tool.b, tool.b, cols);
      Adds(tool.b, tool.b, 1.0f, cols);
      Div(tool.a, tool.a, tool.b, cols);
      tool.in(tool.b, up[i * pitch], cols);
      Mul(tool.a, tool.a, tool.b, cols);
      tool.out(y[(row + i) * n + col], cols);
    }
  }
};
"""
SIZES = "int64_t m, int64_t n, int64_t k, int64_t lda"
PLAIN = """
extern "C" __global__ __cube__ void plain_{t}_{p}(
    GM_ADDR x, GM_ADDR w, GM_ADDR y, {sizes}, int64_t ldc, int32_t stream, {tiling}) {{{begin}
  linear<{t}, {p}>(pipe, team, x, w, y, m, n, k, lda, ldc, stream != 0, t);
  PipeBarrier<PIPE_ALL>();
}}
"""
MIX = """
extern "C" __global__ __mix__(1, 2) void {name}_{t}_{p}(
    GM_ADDR x, GM_ADDR w, GM_ADDR r, GM_ADDR y, GM_ADDR ring, {sizes}, {tiling}) {{{begin}
  Team mine = team;
  {struct}<{t}> e;
  if ASCEND_IS_AIV {{
    mine.count *= 2;
    e.tool.init(pipe);
  }}
  e.y = global<{t}>(y);
  e.n = n;
  {more}
  const i64 slot = rows * group * {p};
  fusedLinear<{t}, {p}, {gated}>(pipe, mine, x, w, ring, slot, m, n, k, lda, true, t, e);
  PipeBarrier<PIPE_ALL>();
}}
"""
PANELS = {"half": (16, 64, 128, 176), "bfloat16_t": (64, 96), "float": (48, 64)}


def source() -> str:
    text = HEAD
    common = {"sizes": SIZES, "tiling": TILING, "begin": BEGIN}
    for t, panels in PANELS.items():
        for p in panels:
            text += PLAIN.format(t=t, p=p, **common)
        for name, struct, more, gated in (
            ("residual", "Residual", "e.r = global<float>(r);", "false"),
            ("gated", "Gate", "", "true"),
        ):
            text += MIX.format(
                name=name, struct=struct, more=more, gated=gated, t=t, p=64, **common
            )
    return text


def kernel(name: str, **options: Any) -> Any:
    return sim.load(source(), name, include=[LIB], **options)


def close(got: torch.Tensor, exact: torch.Tensor, eager: torch.Tensor) -> None:
    """At most 1.25 times eager's own error, plus a few units in the last place."""
    if got.numel() == 0:
        return
    ours = (got.double() - exact).abs().max()
    theirs = (eager.double() - exact).abs().max()
    assert ours <= 1.25 * theirs + 4 * torch.finfo(got.dtype).eps * exact.abs().max()


def operands(t: str, m: int, n: int, k: int, lda: int) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = TYPES[t]
    return torch.randn(m, lda).to(dtype), (torch.randn(n, k) / k**0.5).to(dtype)


def plain(
    t: str, p: int, m: int, n: int, k: int, tile: tuple[int, ...], blocks: int, pad: int, seed: int
) -> None:
    x, w = operands(t, m, n, k, k + pad)
    fresh = torch.full((m, n + pad), 7.0).to(x.dtype)
    y = fresh.clone()
    run = kernel(f"plain_{t}_{p}", blocks=blocks, seed=seed)
    run(x, pack(f"nz{p}", [w]), y, m, n, k, k + pad, n + pad, seed % 2, *tile)
    x = x[:, :k]
    close(y[:, :n], x.double() @ w.double().T, F.linear(x, w))
    assert torch.equal(y[:, n:], fresh[:, n:])


def half_of(tile: tuple[int, ...], t: str) -> tuple[int, ...]:
    """Depths of K are those of 16-bit types."""
    rows, group, wide, kb, kc, ka, slots, band = tile
    f = 2 if t == "float" else 1
    return rows, group, wide, kb // f, kc // f, ka // f, slots, band


BIG = (128, 1, 2, 128, 256, 512, 3, 2)
SMALL = (16, 1, 1, 128, 512, 1024, 4, 64)
DEEP = (32, 2, 3, 64, 64, 128, 2, 1)
CASES = [
    # type, panel, M, N, K, tiling, cores, padding of rows
    ("half", 64, 5, 100, 70, BIG, 3, 0),
    ("half", 64, 300, 401, 700, BIG, 5, 11),
    ("half", 128, 1, 1700, 1300, SMALL, 24, 0),
    ("half", 16, 77, 170, 333, DEEP, 2, 3),
    ("half", 64, 16, 64, 16, SMALL, 1, 1),
    ("half", 64, 0, 64, 16, BIG, 24, 0),
    ("half", 176, 150, 400, 200, (128, 1, 1, 64, 128, 256, 4, 1), 3, 1),  # one buffer in L0C
    ("half", 64, 3, 70, 40, SMALL, 2, 65520),  # rows too far apart for one transfer
    ("bfloat16_t", 64, 1, 100, 70, BIG, 3, 1),
    ("bfloat16_t", 96, 130, 1000, 513, BIG, 24, 0),
    ("float", 64, 33, 200, 131, BIG, 3, 0),
    ("float", 48, 1, 97, 1030, SMALL, 7, 5),
    ("float", 64, 257, 129, 96, DEEP, 24, 0),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, (*c[:5], c[6]))))
def test_plain(case: tuple[Any, ...]) -> None:
    t, p, m, n, k, tile, blocks, pad = case
    torch.manual_seed(m + n + k)
    tile = half_of(tile, t)
    while tile[0] * tile[1] * p * tile[2] * 4 > 128 * 1024:
        tile = (tile[0] // 2, *tile[1:])
    for seed in (0, 3):
        plain(t, p, m, n, k, tile, blocks, pad, seed)


@pytest.mark.slow
@pytest.mark.parametrize("t", TYPES)
def test_random_tiles_and_teams(t: str) -> None:
    rng = random.Random(t)
    chip, size = CHIPS["ascend910b1"], TYPES[t].itemsize
    for case in range(60):
        p = rng.choice(PANELS[t])
        m, n, k = (int(2 ** rng.uniform(0, top)) for top in (8.5, 9.5, 10))
        tile = rng.choice(candidates(chip, size, p, 2048))
        if rng.random() < 0.5:  # shallower: more transfers
            kb = 32 // size * rng.randint(1, 4)
            tile = tile._replace(kb=kb, kc=kb * rng.randint(1, 3), slots=rng.randint(2, 4))
            tile = tile._replace(ka=tile.kc * rng.randint(1, 3))
        tile = tile._replace(band=rng.randint(1, 3))
        if problem(chip, size, p, tile) is None:
            torch.manual_seed(case)
            plain(t, p, m, n, k, tile, rng.randint(1, 24), rng.choice((0, 1, 5)), rng.randint(0, 9))


@pytest.mark.parametrize("t", TYPES)
@pytest.mark.parametrize(
    ("m", "n", "k", "blocks"),
    [(1, 200, 96, 3), (1, 70, 33, 1), (150, 330, 700, 5), (9, 1000, 64, 24), (0, 64, 64, 2)],
)
def test_residual(t: str, m: int, n: int, k: int, blocks: int) -> None:
    torch.manual_seed(m + n)
    tile = half_of(BIG if m > 16 else SMALL, t)
    x, w = operands(t, m, n, k, k)
    r = torch.randn(m, n)
    y = torch.zeros(m, n, dtype=x.dtype)
    ring = torch.zeros(24 * 4 * 128 * 128)
    for seed in (0, 5):
        kernel(f"residual_{t}_64", blocks=blocks, seed=seed)(
            x, pack("nz64", [w]), r, y, ring, m, n, k, k, *tile
        )
        close(y, x.double() @ w.double().T + r.double(), (F.linear(x, w) + r).to(x.dtype))


@pytest.mark.parametrize("t", TYPES)
@pytest.mark.parametrize(
    ("m", "n", "k", "blocks"), [(1, 200, 96, 3), (65, 330, 300, 24), (8, 40, 2000, 2)]
)
def test_gated(t: str, m: int, n: int, k: int, blocks: int) -> None:
    torch.manual_seed(m + n)
    tile = half_of(DEEP if blocks == 2 else BIG if m > 16 else SMALL, t)
    x, gate = operands(t, m, n, k, k)
    up = operands(t, m, n, k, k)[1]
    y = torch.zeros(m, n, dtype=x.dtype)
    ring = torch.zeros(24 * 4 * 128 * 128)
    for seed in (0, 5):
        kernel(f"gated_{t}_64", blocks=blocks, seed=seed)(
            x, pack("nz64_gated", [gate, up]), ring, y, ring, m, n, k, k, *tile
        )
        d = x.double()
        close(
            y,
            F.silu(d @ gate.double().T) * (d @ up.double().T),
            F.silu(F.linear(x, gate)) * F.linear(x, up),
        )


# -- as the compiler emits them -------------------------------------------------------------------
Step = tuple[Callable[..., Any], list[torch.Tensor], list[torch.Tensor]]


def steps(dtype: torch.dtype, rows: int) -> dict[str, Step]:
    """Functions of one product each, their arguments and weights."""

    def r(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(dtype)

    def weight(*shape: int) -> torch.Tensor:
        return (torch.randn(shape) / 8).to(dtype)

    return {
        "linear": (F.linear, [r(rows, 70)], [weight(48, 70)]),
        "window": (lambda x, w: F.linear(x[:, 7:77], w), [r(rows, 90)], [weight(50, 70)]),
        "pieces": (
            lambda x, y, w: torch.cat([F.linear(x, w), y], 1),
            [r(3, rows, 70), r(3, 2, 50)],
            [weight(50, 70)],
        ),
        "residual": (
            lambda x, y, w: F.linear(x, w) + y,
            [r(rows, 70), r(rows, 48)],
            [weight(48, 70)],
        ),
        "gated": (
            lambda x, g, u: F.silu(F.linear(x, g)) * F.linear(x, u),
            [r(rows, 70)],
            [weight(48, 70), weight(48, 70)],
        ),
        "heads": (torch_ops.head_linear, [r(rows, 3, 33)], [weight(3, 37, 33)]),
        "matmul": (torch.matmul, [r(2, 3, rows, 70), r(2, 1, 70, 50)], []),
        "transposed": (lambda a, b: a @ b.mT, [r(2, 3, rows, 70), r(1, 3, 129, 70)], []),
        "permuted": (
            lambda a, b: a.transpose(0, 1) @ b.permute(1, 2, 0),
            [r(rows, 3, 33), r(140, 3, 33)],
            [],
        ),
        "column": (torch.matmul, [r(4, rows, 300), r(4, 300, 1)], []),
    }


@pytest.mark.parametrize("dtype", TYPES.values(), ids=str)
def test_emitted(dtype: torch.dtype) -> None:
    """One program for all of them, for several numbers of rows."""
    torch.manual_seed(0)
    first = steps(dtype, 5)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.ParameterDict(
                {f"{name}{k}": w for name, (*_, ws) in first.items() for k, w in enumerate(ws)}
            )

        def forward(self, *args: list[torch.Tensor]) -> list[torch.Tensor]:
            out = []
            for (name, (f, _, ws)), x in zip(first.items(), args, strict=True):
                out.append(f(*x, *[self.weights[f"{name}{k}"] for k in range(len(ws))]))
            return out

    rows = torch.export.Dim("rows", min=1, max=4096)
    args = [x for _, x, _ in first.values()]
    shapes = [[{x.shape.index(5): rows} if 5 in x.shape else None for x in xs] for xs in args]
    run = xcompile.compile(
        Model(), tuple(args), target="ascend910b", dynamic_shapes={"args": tuple(shapes)}
    )
    for count in (5, 1, 150):
        torch.manual_seed(count)
        args = [x for _, x, _ in steps(dtype, count).values()]
        for (f, _, ws), x, got in zip(first.values(), args, run(*args), strict=True):
            close(got, f(*[v.double() for v in (*x, *ws)]), f(*x, *ws))
