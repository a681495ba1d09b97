// AMX tiles: eight of 16 rows by 64 bytes, as TileScope (gemm.hpp) configures them.
#pragma once
#include <algorithm>

#include "micro.hpp"

#if defined(__AMX_BF16__) && defined(__AMX_TILE__)
#define XC_AMX 1

namespace xc {

template <int T>
void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}
template <int T>
void tile_load(const void* from, i64 stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
void tile_store(void* to, i64 stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}
/// C[16][16] += A[16][32] B[32][16], B as pairs along its rows.
template <int C, int A, int B>
void tile_dot() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

/// Sums in fp32 of pairs of bf16.
struct DotBf16 {
  template <int C, int A, int B>
  static void run() {
    tile_dot<C, A, B>();
  }
};
/// Sums in int32 of four int8: C[16][16] += A[16][64] B[64][16], B as quads along its rows.
struct DotInt8 {
  template <int C, int A, int B>
  static void run() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }
};

// Prefetches weights while tiles multiply, a few cache lines between any two tile products: in
// larger bursts they would fill the miss buffers and stall the tile loads. A single group of rows
// wants the weights just ahead of it in L1; several keep the next panel coming into L2.
template <bool Near>
struct Stream {
  const char* next;
  int lines;

  void advance() {
    if (Near) {
#pragma GCC unroll 1  // unrolled it was slower
      for (int i = 0; i < lines; ++i) __builtin_prefetch(next + i * 64);
    } else {
      for (int i = 0; i < lines; ++i) __builtin_prefetch(next + i * 64, 0, 2);
    }
    next += lines * 64;
  }
};

// Tiles 0..3 accumulate 32 rows x 32 columns, 4..5 hold rows, 6..7 columns.
template <class Dot, int Rows, bool Near>
void tile_product(const char* a, i64 a_stride, const char* w, i64 steps, float* acc, bool load,
                  Stream<Near>& stream) {
  constexpr int ld = kPanel * 4;
  float* lower = acc + kTileRows * kPanel;
  if (load) {
    tile_load<0>(acc, ld);
    tile_load<1>(acc + 16, ld);
    if (Rows == 2) {
      tile_load<2>(lower, ld);
      tile_load<3>(lower + 16, ld);
    }
  } else {
    tile_zero<0>();
    tile_zero<1>();
    if (Rows == 2) {
      tile_zero<2>();
      tile_zero<3>();
    }
  }
  for (i64 s = 0; s < steps; ++s) {
    tile_load<6>(w, 128);
    tile_load<4>(a, 64);
    stream.advance();
    Dot::template run<0, 4, 6>();
    stream.advance();
    tile_load<7>(w + 64, 128);
    stream.advance();
    Dot::template run<1, 4, 7>();
    stream.advance();
    if (Rows == 2) {
      tile_load<5>(a + a_stride, 64);
      Dot::template run<2, 5, 6>();
      Dot::template run<3, 5, 7>();
    }
    a += 1024;
    w += 2048;
  }
  tile_store<0>(acc, ld);
  tile_store<1>(acc + 16, ld);
  if (Rows == 2) {
    tile_store<2>(lower, ld);
    tile_store<3>(lower + 16, ld);
  }
}

// Near: all rows are one group, which reads the panel once, from memory. Otherwise the groups meet
// a block of the panel in L1 and share the prefetch of the panel behind it.
template <class Dot, bool Near>
void near_or_far(const void* packed, i64 m, const void* panel, i64 steps, float* acc,
                 bool accumulate) {
  const i64 groups = ceil_div(m, 2 * kTileRows);
  const char* weights = static_cast<const char*>(panel);
  const i64 block = Near ? std::max<i64>(steps, 1) : kBlockSteps / 16;
  Stream<Near> stream{weights + (Near ? kPrefetch : steps * 2048), int(ceil_div(8, groups))};
  for (i64 s0 = 0; s0 == 0 || s0 < steps; s0 += block) {
    const i64 count = std::min(block, steps - s0);
    const bool load = accumulate || s0 > 0;
    for (i64 g = 0; g < m; g += 2 * kTileRows) {
      const char* a = static_cast<const char*>(packed) + g * steps * 64 + s0 * 1024;
      const char* w = weights + s0 * 2048;
      if (m - g > kTileRows)
        tile_product<Dot, 2>(a, steps * 1024, w, count, acc + g * kPanel, load, stream);
      else
        tile_product<Dot, 1>(a, steps * 1024, w, count, acc + g * kPanel, load, stream);
    }
  }
}

/// acc[m][32] = (accumulate ? acc : 0) + rows [m, 64 steps bytes], packed in tiles, times a panel
/// of steps x 2048 bytes. Sums are those of Dot, 4 bytes each.
template <class Dot>
void tile_groups(const void* packed, i64 m, const void* panel, i64 steps, float* acc,
                 bool accumulate) {
  if (m <= 2 * kTileRows)
    near_or_far<Dot, true>(packed, m, panel, steps, acc, accumulate);
  else
    near_or_far<Dot, false>(packed, m, panel, steps, acc, accumulate);
}

}  // namespace xc
#endif
