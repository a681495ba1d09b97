// The arithmetic of Mmad: fractals of L0A and L0B as panels, 16 x 16 results at a time.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstring>

#include "cube_product.h"

namespace ascsim::cube {
namespace {

typedef float V16f __attribute__((vector_size(64)));
typedef int32_t V16i __attribute__((vector_size(64)));

// 16 x 16 results of k steps: a[x][row] * b[x][column].
template <class V, class S>
[[gnu::always_inline]] inline void tileBody(const S* a, const S* b, uint64_t k, S* c) {
  // Four rows at a time keep their sums in registers; k runs in order.
  for (int r = 0; r < 16; r += 4) {
    V s0{}, s1{}, s2{}, s3{};
    for (uint64_t x = 0; x < k; ++x) {
      V col;
      std::memcpy(&col, b + x * 16, sizeof col);
      const S* row = a + x * 16 + r;
      s0 += col * row[0];
      s1 += col * row[1];
      s2 += col * row[2];
      s3 += col * row[3];
    }
    std::memcpy(c + (r + 0) * 16, &s0, sizeof s0);
    std::memcpy(c + (r + 1) * 16, &s1, sizeof s1);
    std::memcpy(c + (r + 2) * 16, &s2, sizeof s2);
    std::memcpy(c + (r + 3) * 16, &s3, sizeof s3);
  }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ASCSIM_CLONES [[gnu::target_clones("avx2", "default")]]
#else
#define ASCSIM_CLONES
#endif
ASCSIM_CLONES void tile(const float* a, const float* b, uint64_t k, float* c) {
  tileBody<V16f>(a, b, k, c);
}
ASCSIM_CLONES void tile(const int32_t* a, const int32_t* b, uint64_t k, int32_t* c) {
  tileBody<V16i>(a, b, k, c);
}

// Products of 16-bit floats are exact in float, so a fused step rounds as the two steps do.
#if defined(__x86_64__) && defined(__GNUC__)
[[gnu::target("avx512f")]] void tileExact512(const float* a, const float* b, uint64_t k, float* c) {
  for (int r = 0; r < 16; r += 8) {
    __m512 s[8] = {};
    for (uint64_t x = 0; x < k; ++x) {
      const __m512 column = _mm512_loadu_ps(b + x * 16);
      const float* row = a + x * 16 + r;
      for (int j = 0; j < 8; ++j) s[j] = _mm512_fmadd_ps(column, _mm512_set1_ps(row[j]), s[j]);
    }
    for (int j = 0; j < 8; ++j) _mm512_storeu_ps(c + (r + j) * 16, s[j]);
  }
}
[[gnu::target("avx2,fma")]] void tileExact256(const float* a, const float* b, uint64_t k,
                                              float* c) {
  for (int r = 0; r < 16; r += 4) {
    __m256 s[8] = {};
    for (uint64_t x = 0; x < k; ++x) {
      const __m256 low = _mm256_loadu_ps(b + x * 16), high = _mm256_loadu_ps(b + x * 16 + 8);
      const float* row = a + x * 16 + r;
      for (int j = 0; j < 4; ++j) {
        const __m256 v = _mm256_set1_ps(row[j]);
        s[2 * j] = _mm256_fmadd_ps(low, v, s[2 * j]);
        s[2 * j + 1] = _mm256_fmadd_ps(high, v, s[2 * j + 1]);
      }
    }
    for (int j = 0; j < 8; ++j) _mm256_storeu_ps(c + r * 16 + j * 8, s[j]);
  }
}
using Tile = void (*)(const float*, const float*, uint64_t, float*);
Tile exactTile() {
  if (__builtin_cpu_supports("avx512f")) return tileExact512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return tileExact256;
  return static_cast<Tile>(tile);
}
#else
using Tile = void (*)(const float*, const float*, uint64_t, float*);
Tile exactTile() { return static_cast<Tile>(tile); }
#endif

int8_t nibble(const uint8_t* bytes, uint64_t index) {
  const uint8_t v = index % 2 ? bytes[index / 2] >> 4 : bytes[index / 2] & 15;
  return static_cast<int8_t>(v >= 8 ? v - 16 : v);
}

// Nearest HF32 (11 bits of fraction): ties to even, or to zero.
float hf32(float v, bool tiesToZero) {
  uint32_t b = floatBits(v);
  if ((b & 0x7f800000u) == 0x7f800000u) return v;
  const uint32_t below = (1u << 11) - 1;  // half of the unit is 1 << 11
  b += tiesToZero ? below : below + ((b >> 12) & 1);
  return bitsFloat(b & ~0xfffu);
}

template <class S>
S element(const uint8_t* fractal, uint64_t index, DType type) {
  switch (type) {
    case DType::I4:
      return static_cast<S>(nibble(fractal, index));
    case DType::I8:
      return static_cast<S>(static_cast<int8_t>(fractal[index]));
    case DType::F16:
    case DType::BF16: {
      uint16_t h;
      std::memcpy(&h, fractal + 2 * index, 2);
      return static_cast<S>(type == DType::F16 ? halfBitsToFloat(h) : bfloatBitsToFloat(h));
    }
    default: {
      float f;
      std::memcpy(&f, fractal + 4 * index, 4);
      return static_cast<S>(f);
    }
  }
}

// 16 rows of one panel, transposed: out[x * 16 + r] for x < k. `at(kb)` is the fractal's offset.
template <class S, class At>
void pack(const uint8_t* base, DType type, uint64_t rows, uint64_t k, S* out, At&& at) {
  const uint64_t inner = innerOf(type);
  const MoveState& s = moveState();
  const bool round = type == DType::F32 && s.hf32;
  for (uint64_t kb = 0; kb * inner < k; ++kb) {
    const uint8_t* fractal = base + at(kb);
    const uint64_t width = std::min(inner, k - kb * inner);
    for (uint64_t x = 0; x < width; ++x) {
      S* column = out + (kb * inner + x) * 16;
      for (uint64_t r = 0; r < 16; ++r)
        column[r] = r < rows ? element<S>(fractal, r * inner + x, type) : S(0);
    }
    if (round)
      for (uint64_t e = 0; e < width * 16; ++e) {
        S& v = out[kb * inner * 16 + e];
        v = static_cast<S>(hf32(static_cast<float>(v), s.hf32ToZero));
      }
  }
}

}  // namespace

template <class S>
void multiply(const Place& c, const Place& a, const Place& b, const Shape& s, DType type,
              const S* start, bool keep) {
  static std::vector<S> ap, bp;
  const uint64_t kp = s.k1 * s.inner;
  ap.resize(s.m1 * kp * 16);
  bp.resize(s.n1 * kp * 16);
  const uint8_t* ah = hostPtr(a);
  const uint8_t* bh = hostPtr(b);
  uint8_t* ch = hostPtr(c);
  if (s.vectorA) {
    const bool round = type == DType::F32 && moveState().hf32;
    std::fill(ap.begin(), ap.end(), S(0));
    for (uint64_t x = 0; x < s.k; ++x) {
      S v = element<S>(ah, x, type);
      if (round) v = static_cast<S>(hf32(static_cast<float>(v), moveState().hf32ToZero));
      ap[x * 16] = v;
    }
  } else {
    for (uint64_t mb = 0; mb < s.m1; ++mb)
      pack(ah, type, std::min<uint64_t>(16, s.m - mb * 16), s.k, ap.data() + mb * kp * 16,
           [&](uint64_t kb) { return s.aFractal(mb, kb); });
  }
  for (uint64_t nb = 0; nb < s.n1; ++nb)
    pack(bh, type, std::min<uint64_t>(16, s.n - nb * 16), s.k, bp.data() + nb * kp * 16,
         [&](uint64_t kb) { return s.bFractal(kb, nb); });
  static const Tile fused = exactTile();
  const bool exact = type == DType::F16 || type == DType::BF16;
  S sum[256];
  for (uint64_t nb = 0; nb < s.n1; ++nb)
    for (uint64_t mb = 0; mb < s.m1; ++mb) {
      const S* left = ap.data() + mb * kp * 16;
      const S* right = bp.data() + nb * kp * 16;
      if constexpr (std::is_same_v<S, float>) {
        if (exact)
          fused(left, right, s.k, sum);
        else
          tile(left, right, s.k, sum);
      } else {
        tile(left, right, s.k, sum);
      }
      S* out = reinterpret_cast<S*>(ch + s.cFractal(mb, nb));
      const int rows = s.vectorA ? 1 : 16;
      for (int e = 0; e < rows * 16; ++e) {
        const uint64_t column = nb * 16 + static_cast<uint64_t>(e % 16);
        S before = S(0);
        if (keep)
          before = out[e];
        else if (start != nullptr && column < s.n)
          before = start[column];
        if constexpr (std::is_same_v<S, int32_t>)
          out[e] = saturated(static_cast<int64_t>(before) + sum[e]);
        else
          out[e] = before + sum[e];
      }
    }
}

template void multiply(const Place&, const Place&, const Place&, const Shape&, DType, const float*,
                       bool);
template void multiply(const Place&, const Place&, const Place&, const Shape&, DType,
                       const int32_t*, bool);

}  // namespace ascsim::cube
