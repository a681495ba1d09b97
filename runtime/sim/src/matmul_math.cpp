// Arithmetic of the Matmul object, and what its transfers touch.
#include <algorithm>
#include <cstring>

#include "internal.h"
#include "matmul_work.h"

namespace ascsim::mm {
namespace {

const float* halfTable() {
  static const std::vector<float> table = [] {
    std::vector<float> v(65536);
    for (uint32_t i = 0; i < 65536; ++i) v[i] = halfBitsToFloat(static_cast<uint16_t>(i));
    return v;
  }();
  return table.data();
}

// c[m][n] += a[m][k] * b[k][n], each element in the order of k. n is a multiple of 16.
#define ASCSIM_GEMM(NAME, T)                                                                      \
  [[gnu::target_clones("avx2", "default")]] void NAME(const T* a, int lda, const T* b, int ldb,   \
                                                      T* c, int ldc, int m, int k, int n) {       \
    typedef T vec __attribute__((vector_size(32), aligned(4), may_alias));                        \
    for (int i = 0; i < m; i += 4) {                                                              \
      const int rows = m - i < 4 ? m - i : 4;                                                     \
      const T* ar[4];                                                                             \
      T* cr[4];                                                                                   \
      T spare[16];                                                                                \
      for (int r = 0; r < 4; ++r) ar[r] = a + static_cast<ptrdiff_t>(r < rows ? i + r : i) * lda; \
      for (int j = 0; j < n; j += 16) {                                                           \
        for (int r = 0; r < 4; ++r)                                                               \
          cr[r] = r < rows ? c + static_cast<ptrdiff_t>(i + r) * ldc + j : spare;                 \
        if (rows < 4) std::memset(spare, 0, sizeof spare);                                        \
        vec s00 = *reinterpret_cast<vec*>(cr[0]), s01 = *reinterpret_cast<vec*>(cr[0] + 8);       \
        vec s10 = *reinterpret_cast<vec*>(cr[1]), s11 = *reinterpret_cast<vec*>(cr[1] + 8);       \
        vec s20 = *reinterpret_cast<vec*>(cr[2]), s21 = *reinterpret_cast<vec*>(cr[2] + 8);       \
        vec s30 = *reinterpret_cast<vec*>(cr[3]), s31 = *reinterpret_cast<vec*>(cr[3] + 8);       \
        const T* bp = b + j;                                                                      \
        for (int x = 0; x < k; ++x, bp += ldb) {                                                  \
          const vec b0 = *reinterpret_cast<const vec*>(bp);                                       \
          const vec b1 = *reinterpret_cast<const vec*>(bp + 8);                                   \
          s00 += ar[0][x] * b0;                                                                   \
          s01 += ar[0][x] * b1;                                                                   \
          s10 += ar[1][x] * b0;                                                                   \
          s11 += ar[1][x] * b1;                                                                   \
          s20 += ar[2][x] * b0;                                                                   \
          s21 += ar[2][x] * b1;                                                                   \
          s30 += ar[3][x] * b0;                                                                   \
          s31 += ar[3][x] * b1;                                                                   \
        }                                                                                         \
        *reinterpret_cast<vec*>(cr[3]) = s30, *reinterpret_cast<vec*>(cr[3] + 8) = s31;           \
        *reinterpret_cast<vec*>(cr[2]) = s20, *reinterpret_cast<vec*>(cr[2] + 8) = s21;           \
        *reinterpret_cast<vec*>(cr[1]) = s10, *reinterpret_cast<vec*>(cr[1] + 8) = s11;           \
        *reinterpret_cast<vec*>(cr[0]) = s00, *reinterpret_cast<vec*>(cr[0] + 8) = s01;           \
      }                                                                                           \
    }                                                                                             \
  }
ASCSIM_GEMM(gemmFloat, float)
ASCSIM_GEMM(gemmInt, int32_t)
#undef ASCSIM_GEMM

uint8_t combine8(uint8_t op, uint8_t old, uint8_t v) {
  const int a = static_cast<int8_t>(old), b = static_cast<int8_t>(v);
  const int r = op == 1 ? std::clamp(a + b, -128, 127) : op == 2 ? std::max(a, b) : std::min(a, b);
  return static_cast<uint8_t>(static_cast<int8_t>(r));
}
float combine(uint8_t op, float old, float v) {
  return op == 1 ? old + v : op == 2 ? std::max(old, v) : std::min(old, v);
}

}  // namespace

uint64_t bits(DType t) {
  switch (t) {
    case DType::F32:
    case DType::I32:
      return 32;
    case DType::F16:
    case DType::BF16:
      return 16;
    case DType::I4:
      return 4;
    case DType::U64:
      return 64;
    default:
      return 8;
  }
}
void convertRun(DType t, const uint8_t* base, uint64_t at, int n, float* out) {
  if (t == DType::F16) {
    const uint8_t* p = base + at * 2;
    const float* table = halfTable();
    for (int i = 0; i < n; ++i) {
      uint16_t h;
      std::memcpy(&h, p + 2 * i, 2);
      out[i] = table[h];
    }
  } else if (t == DType::BF16) {
    const uint8_t* p = base + at * 2;
    for (int i = 0; i < n; ++i) {
      uint16_t h;
      std::memcpy(&h, p + 2 * i, 2);
      out[i] = bfloatBitsToFloat(h);
    }
  } else {
    std::memcpy(out, base + at * 4, static_cast<size_t>(n) * 4);
  }
}
void convertRun(DType t, const uint8_t* base, uint64_t at, int n, int32_t* out) {
  if (t == DType::I8) {
    for (int i = 0; i < n; ++i) out[i] = static_cast<int8_t>(base[at + static_cast<uint64_t>(i)]);
  } else if (t == DType::I4) {
    for (int i = 0; i < n; ++i) {
      const uint64_t e = at + static_cast<uint64_t>(i);
      const int v = (base[e / 2] >> (e % 2 * 4)) & 15;
      out[i] = v >= 8 ? v - 16 : v;
    }
  } else {
    std::memcpy(out, base + at * 4, static_cast<size_t>(n) * 4);
  }
}

// HF32 keeps 11 bits of the mantissa.
float toHf32(float v, int mode) {
  uint32_t b = floatBits(v);
  if ((b & 0x7f800000u) == 0x7f800000u) return v;
  const uint32_t low = b & 0xfffu;
  b &= ~0xfffu;
  const bool up = mode == 1 ? low >= 0x800u : low > 0x800u || (low == 0x800u && (b & 0x1000u) != 0);
  return bitsFloat(up ? b + 0x1000u : b);
}

void gemm(const float* a, int lda, const float* b, int ldb, float* c, int ldc, int m, int k,
          int n) {
  gemmFloat(a, lda, b, ldb, c, ldc, m, k, n);
}
void gemm(const int32_t* a, int lda, const int32_t* b, int ldb, int32_t* c, int ldc, int m, int k,
          int n) {
  gemmInt(a, lda, b, ldb, c, ldc, m, k, n);
}

void accumulate(DType t, uint8_t op, uint8_t* to, const uint8_t* from, int n) {
  for (int i = 0; i < n; ++i) {
    if (t == DType::F32) {
      float a, b;
      std::memcpy(&a, to + 4 * i, 4);
      std::memcpy(&b, from + 4 * i, 4);
      a = combine(op, a, b);
      std::memcpy(to + 4 * i, &a, 4);
    } else if (t == DType::I32) {
      int32_t a, b;
      std::memcpy(&a, to + 4 * i, 4);
      std::memcpy(&b, from + 4 * i, 4);
      a = op == 1   ? static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b))
          : op == 2 ? std::max(a, b)
                    : std::min(a, b);
      std::memcpy(to + 4 * i, &a, 4);
    } else if (t == DType::F16 || t == DType::BF16) {
      uint16_t a, b;
      std::memcpy(&a, to + 2 * i, 2);
      std::memcpy(&b, from + 2 * i, 2);
      const float x = t == DType::F16 ? halfBitsToFloat(a) : bfloatBitsToFloat(a);
      const float y = t == DType::F16 ? halfBitsToFloat(b) : bfloatBitsToFloat(b);
      const float r = combine(op, x, y);
      a = t == DType::F16 ? floatToHalfBits(r) : floatToBfloatBits(r);
      std::memcpy(to + 2 * i, &a, 2);
    } else {
      to[i] = combine8(op, to[i], from[i]);
    }
  }
}

uint32_t declareRegion(Instr& i, const Region& r) {
  uint32_t bursts = 0;
  if (!r.nz) {
    for (uint64_t y = 0; y < r.rows; ++y, ++bursts)
      i.read(r.place, bytesFor(r.dtype, (r.row + y) * r.ld + r.col), bytesFor(r.dtype, r.cols));
    return bursts;
  }
  const uint64_t w = c0(r.dtype);
  for (uint64_t x = r.col / w; x * w < r.col + r.cols; ++x, ++bursts)
    i.read(r.place, bytesFor(r.dtype, (x * r.ld + r.row) * w), bytesFor(r.dtype, r.rows * w));
  return bursts;
}

void describe(Instr& i, const Region& r, uint32_t bursts, Mem to) {
  i.event.src = r.place.mem;
  i.event.dst = to;
  i.event.dtype = r.dtype;
  i.event.bytes = bytesFor(r.dtype, r.rows * r.cols);
  i.event.bursts = bursts;
  i.event.l2Hint = r.place.l2Hint;
  if (r.place.mem != Mem::GM) return;
  const uint64_t w = c0(r.dtype);
  i.event.gmAddress = r.place.address + bytesFor(r.dtype, r.nz ? (r.col / w * r.ld + r.row) * w
                                                               : r.row * r.ld + r.col);
  i.event.gmSpan = bytesFor(
      r.dtype, r.nz ? ((r.cols - 1) / w * r.ld + r.rows) * w : (r.rows - 1) * r.ld + r.cols);
}

bool holds(const uint8_t* at, const uint8_t* bytes, uint64_t n) {
  const Gm* g = gmOf(at);
  if (g == nullptr) return false;
  const uint64_t first = static_cast<uint64_t>(at - g->base);
  if (first + n > g->bytes || std::memcmp(at, bytes, n) != 0) return false;
  for (uint64_t b = first / 32; b * 32 < first + n; ++b) {
    const uint64_t from = std::max(first, b * 32) - b * 32,
                   to = std::min(first + n, b * 32 + 32) - b * 32;
    const uint32_t mask = (to - from == 32 ? ~0u : (1u << (to - from)) - 1u) << from;
    if ((g->shadow->init_[b] & mask) != mask) return false;
  }
  return true;
}

}  // namespace ascsim::mm
