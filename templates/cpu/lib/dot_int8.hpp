// Products of int8 rows with panels of int8 weights, summed exactly in int32.
//
// A weight W[N,K] is stored as ceil(N/32) panels [Kp/4][32][4], Kp = K rounded up to 64, zero
// padded: as a panel of bf16 (gemm.hpp), with four int8 along K for a pair. 64 of K are one AMX
// tile. Rows are int8 as well, of pitch Kp, zero behind K.
#pragma once
#include "amx.hpp"

namespace xc::int8 {

constexpr i64 kStep = 64;  // K of an AMX tile, and what K is padded to

inline i64 padded(i64 K) { return round_up(K, kStep); }
inline i64 panel_bytes(i64 K) { return padded(K) * kPanel; }

#if defined(__AVX512VNNI__)
// It multiplies unsigned by signed numbers: rows are packed with 128 added, and 128 times the sum
// of the weights, which one more product a step gives, is taken off at the end.
constexpr bool kOffset = true;
using Row = uint32_t;  // four of a row along K
using Weights = vi;    // four of each of VL channels
inline Row row_of(uint32_t quad) { return quad ^ 0x80808080u; }
inline Weights weights_of(vi w) { return w; }
inline vi dot(vi c, Row a, vi w) {
  vi row = (vi)(a - vu{});
  asm("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(row), "v"(w));
  return c;
}
#else
// As int16, the numbers at even places and those at odd ones: sums of two products are int32.
constexpr bool kOffset = false;
struct Row {
  uint32_t even, odd;
};
struct Weights {
  vi even, odd;
};
inline Row row_of(uint32_t quad) {
  auto wide = [&](int shift) { return uint32_t(uint16_t(int8_t(quad >> shift))); };
  return {wide(0) | wide(16) << 16, wide(8) | wide(24) << 16};
}
typedef int16_t vs __attribute__((vector_size(VL * 4)));
inline Weights weights_of(vi w) { return {(vi)((vs)(w << 8) >> 8), (vi)((vs)w >> 8)}; }

// Sums of the two products of int16 in each lane.
inline vi pairs(uint32_t a, vi w) {
  vi row = (vi)(a - vu{});
#if defined(__AVX__)
  vi sum;
  asm("vpmaddwd %2, %1, %0" : "=v"(sum) : "v"(row), "v"(w));
  return sum;
#elif defined(__x86_64__)
  asm("pmaddwd %1, %0" : "+x"(row) : "x"(w));
  return row;
#else
  return ((row << 16) >> 16) * ((w << 16) >> 16) + (row >> 16) * (w >> 16);
#endif
}
inline vi dot(vi c, Row a, const Weights& w) {
  return c + pairs(a.even, w.even) + pairs(a.odd, w.odd);
}
#endif

/// Bytes that pack needs, whatever the kernel.
inline i64 packed_bytes(i64 rows, i64 K) {
  return round_up(rows, 96) * padded(K) * i64(sizeof(Row)) / 4;
}

/// m rows, given by pointers, as the left operand of product.
inline void pack(Kernel kernel, void* packed, const int8_t* const* rows, i64 m, i64 K) {
  const i64 steps = padded(K) / 4;
  if (kernel == Kernel::amx) {
    for (i64 i = 0; i < m; ++i) {
      char* to = static_cast<char*>(packed) + i / kTileRows * kTileRows * padded(K) +
                 i % kTileRows * kStep;
      for (i64 s = 0; s < padded(K) / kStep; ++s)
        std::memcpy(to + s * kTileRows * kStep, rows[i] + s * kStep, kStep);
    }
    return;
  }
  Row* to = static_cast<Row*>(packed);
  for (i64 g = 0; g < m; g += kMaxRows) {
    const int count = int(std::min<i64>(kMaxRows, m - g)), width = row_width(count);
    for (int r = 0; r < width; ++r) {
      const int8_t* from = rows[g + std::min(r, count - 1)];
      for (i64 s = 0; s < steps; ++s) {
        uint32_t quad;
        std::memcpy(&quad, from + 4 * s, 4);
        to[s * width + r] = row_of(quad);
      }
    }
    to += width * steps;
  }
}

template <int M, int NV>
void micro(const Row* a, const int8_t* w, i64 steps, int32_t* acc) {
  for (int col = 0; col < kPanel; col += NV * VL) {
    vi c[M][NV] = {}, sum[NV] = {};
    const char* wp = reinterpret_cast<const char*>(w + 4 * col);
    const Row* ap = a;
    for (i64 s = 0; s < steps; ++s, wp += 4 * kPanel, ap += M) {
      Weights wv[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        vi words;
        std::memcpy(&words, wp + v * VL * 4, sizeof words);
        wv[v] = weights_of(words);
      }
      __builtin_prefetch(wp + kPrefetch);
      __builtin_prefetch(wp + kPrefetch + 64);
      if constexpr (kOffset)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) sum[v] = dot(sum[v], row_of(0), wv[v]);
#pragma GCC unroll 12
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) c[m][v] = dot(c[m][v], ap[m], wv[v]);
    }
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const vi out = c[m][v] - sum[v];
        std::memcpy(acc + m * kPanel + col + v * VL, &out, sizeof(vi));
      }
  }
}

/// acc[m][32] = packed rows [m,K] times one panel. acc has rows rounded up to 32.
inline void product(Kernel kernel, const void* packed, i64 m, const int8_t* panel, i64 K,
                    int32_t* acc) {
#if XC_AMX
  if (kernel == Kernel::amx)
    return tile_groups<DotInt8>(packed, m, panel, padded(K) / kStep, reinterpret_cast<float*>(acc),
                                false);
#endif
  (void)kernel;
  constexpr int kWide = VL == 16 ? 2 : 4;
  const i64 steps = padded(K) / 4;
  const Row* a = static_cast<const Row*>(packed);
  for (i64 g = 0; g < m; g += kMaxRows) {
    const int width = row_width(int(std::min<i64>(kMaxRows, m - g)));
    int32_t* to = acc + g * kPanel;
    switch (width) {
      case 1:
        micro<1, kWide>(a, panel, steps, to);
        break;
      case 2:
        micro<2, kWide>(a, panel, steps, to);
        break;
      case 4:
        micro<4, 2>(a, panel, steps, to);
        break;
      case 6:
        micro<6, 2>(a, panel, steps, to);
        break;
#if defined(__AVX512F__) || defined(__aarch64__)
      case 8:
        micro<8, 2>(a, panel, steps, to);
        break;
      case 12:
        micro<12, 2>(a, panel, steps, to);
        break;
#endif
    }
    a += width * steps;
  }
}

// The value itself, as computed: the compiler may not fuse what made it with what uses it.
inline vf rounded(vf x) {
#if defined(__x86_64__)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
  return x;
}

// The lowest byte of each lane. The compiler would take the lanes apart.
typedef int8_t Bytes __attribute__((vector_size(VL)));
inline Bytes low_bytes(vi x) {
#if defined(__AVX512F__)
  Bytes out;
  asm("vpmovdb %1, %0" : "=v"(out) : "v"(x));
  return out;
#else
  return __builtin_convertvector(x, Bytes);
#endif
}

/// q[K, padded with zeros] = round(x 127 / max|x|), ties to even; returns max|x| / 127. A row
/// without a finite maximum gets the scale NaN.
template <class T>
float quantise(const T* x, i64 K, int8_t* q) {
  // Bits of |x| are ordered as integers; infinity and NaN lie above all numbers.
  constexpr int32_t kInfinite = 0x7f800000;
  vi top = {};
  const auto take = [&](vf v) {
    const vi size = (vi)v & 0x7fffffff;
    top = size > top ? size : top;
  };
  const i64 whole = K / VL * VL;
  const int rest = int(K - whole);
  for (i64 k = 0; k < whole; k += VL) take(vload(x + k));
  if (rest) take(vload_n(x + whole, rest));
  int32_t bits = 0;
  for (int i = 0; i < VL; ++i) bits = std::max(bits, top[i]);
  const float most = bits_to_float(uint32_t(bits)), inverse = 127.0f / most;
  // Of a subnormal row the inverse is infinite: it is less than any product can show.
  if (bits == 0 || bits >= kInfinite || !(inverse <= 3.4028234e38f)) {
    std::memset(q, 0, size_t(padded(K)));
    q[0] = 1;
    return bits >= kInfinite ? __builtin_nanf("") : 0.0f;
  }
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: its lowest bits are a rounded integer
  const auto round = [&](vf v) { return low_bytes((vi)(rounded(v * inverse) + kMagic)); };
  for (i64 k = 0; k < whole; k += VL) {
    const Bytes bytes = round(vload(x + k));
    std::memcpy(q + k, &bytes, VL);
  }
  std::memset(q + whole, 0, size_t(padded(K) - whole));
  if (rest) {
    const Bytes bytes = round(vload_n(x + whole, rest));
    std::memcpy(q + whole, &bytes, size_t(rest));
  }
  return most / 127.0f;
}

}  // namespace xc::int8
