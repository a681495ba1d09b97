"""Dense products on the cube unit: tiles, epilogues, batches, in the simulator with all checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from xcompile import sim
from xcompile.targets.ascend_pack import pack

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
TYPES = {"half": torch.float16, "bfloat16_t": torch.bfloat16, "float": torch.float32}
TILING = "int32_t rows, int32_t group, int32_t wide, int32_t kb, int32_t kc, int32_t ka, int32_t slots, int32_t band"
BEGIN = """
  TPipe pipe;
  const Team team{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()};
  const Tiling t{rows, group, wide, kb, kc, ka, slots, band};
"""
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
extern "C" __global__ __cube__ void plain_{t}_{p}(GM_ADDR x, GM_ADDR w, GM_ADDR y, {sizes}, int64_t ldc, {tiling}) {{{begin}
  linear<{t}, {p}>(pipe, team, x, w, y, m, n, k, lda, ldc, t);
  PipeBarrier<PIPE_ALL>();
}}
"""
MIX = """
extern "C" __global__ __mix__(1, 2) void {name}_{t}_{p}(GM_ADDR x, GM_ADDR w, GM_ADDR r, GM_ADDR y, GM_ADDR ring, {sizes}, {tiling}) {{{begin}
  Team mine = team;
  {struct}<{t}> e;
  if ASCEND_IS_AIV {{
    mine.count *= 2;
    e.tool.init(pipe);
  }}
  e.y = global<{t}>(y);
  e.n = n;
  {more}
  fusedLinear<{t}, {p}, {gated}>(pipe, mine, x, w, ring, (i64)rows * group * {p}, m, n, k, lda, t, e);
  PipeBarrier<PIPE_ALL>();
}}
"""
PANELS = {"half": (16, 64, 128), "bfloat16_t": (64, 96), "float": (48, 64)}


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
    run(x, pack(f"nz{p}", [w]), y, m, n, k, k + pad, n + pad, *tile)
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
    if tile[0] * tile[1] * p * max(2, tile[2]) * 4 > 128 * 1024:
        tile = (tile[0] // 2, *tile[1:])
    for seed in (0, 3):
        plain(t, p, m, n, k, tile, blocks, pad, seed)


@pytest.mark.parametrize("t", TYPES)
@pytest.mark.parametrize("m,n,k,blocks", [(1, 200, 96, 3), (1, 70, 33, 1), (150, 330, 700, 5), (9, 1000, 64, 24), (0, 64, 64, 2)])
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
@pytest.mark.parametrize("m,n,k,blocks", [(1, 200, 96, 3), (65, 330, 300, 24), (8, 40, 2000, 2)])
def test_gated(t: str, m: int, n: int, k: int, blocks: int) -> None:
    torch.manual_seed(m + n)
    tile = half_of(BIG if m > 16 else SMALL, t)
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
