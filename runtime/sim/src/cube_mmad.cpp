// Mmad: reads fractals of L0A and L0B, multiplies, accumulates in L0C.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstring>

#include "internal.h"
#include "move.h"

namespace ascsim {
namespace {

typedef float V16f __attribute__((vector_size(64)));
typedef int32_t V16i __attribute__((vector_size(64)));

// Elements of a fractal's 32-byte side.
uint64_t innerOf(DType type) { return type == DType::I4 ? 64 : 32 / sizeOf(type); }

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

struct Shape {
  uint64_t m, n, k, m1, n1, k1, inner;
  uint64_t kStride;  // fractals from one row of blocks of A to the next
  bool vectorA;      // m = 1: A is a plain row
  bool nzA;          // 950: A in NZ

  uint64_t aFractal(uint64_t mb, uint64_t kb) const {
    return 512 * (nzA ? kb * m1 + mb : mb * kStride + kb);
  }
  uint64_t bFractal(uint64_t kb, uint64_t nb) const { return 512 * (kb * n1 + nb); }
  uint64_t cFractal(uint64_t mb, uint64_t nb) const { return 1024 * (nb * m1 + mb); }
};

// Bytes that nobody wrote spoil a row (of A) or a column (of B, of the bias) of the result. Rows
// and columns over the real matrix may be so; if all are, the product is of garbage.
struct Spoiled {
  std::vector<uint8_t> rows, columns;
  bool any = false;
};

void spoil(std::vector<uint8_t>& flags, uint64_t count, uint64_t index, bool& any) {
  flags.resize(count);
  flags[index] = 1;
  any = true;
}

bool allSpoiled(const std::vector<uint8_t>& flags) {
  return !flags.empty() &&
         std::all_of(flags.begin(), flags.end(), [](uint8_t f) { return f != 0; });
}

// Reads the fractals of one input, and finds its unwritten rows (of 32 bytes in each fractal).
template <class At>
void declareInput(Instr& i, const Place& p, uint64_t fractals, uint64_t rows, uint64_t k1,
                  uint64_t tail, At&& at, std::vector<uint8_t>& flags, bool& any) {
  const Place whole = rounded(p);
  const bool edges = rows % 16 != 0 || tail != 32 || fractals != ceilDiv(rows, 16) * k1;
  if (!edges) {
    readUnused(i, whole, 1, fractals * 512, 0);
    if (!checking(kInit) || written(p.mem, p.address, fractals * 512)) return;
  }
  for (uint64_t r = 0; r < rows; ++r)
    for (uint64_t kb = 0; kb < k1; ++kb) {
      const uint64_t bytes = kb + 1 == k1 ? tail : 32;
      const uint64_t offset = at(r / 16, kb) + r % 16 * 32;
      // The rows of a fractal are declared at once where they are whole.
      if (edges && bytes != 32)
        readUnused(i, moved(whole, offset), 1, bytes, 0);
      else if (edges && r % 16 == 0)
        readUnused(i, moved(whole, offset), 1, std::min<uint64_t>(16, rows - r) * 32, 0);
      if (checking(kInit) && !written(p.mem, p.address + offset, bytes)) spoil(flags, rows, r, any);
    }
}

Spoiled declareInputs(Instr& i, const Place& a, const Place& b, const Shape& s, DType type) {
  const uint64_t bits = type == DType::I4 ? 4 : 8 * sizeOf(type);
  const uint64_t tail = s.k % s.inner == 0 ? 32 : ceilDiv(s.k % s.inner * bits, 8);
  Spoiled bad;
  if (s.vectorA)
    i.read(a, 0, ceilDiv(s.k * bits, 8));
  else
    declareInput(
        i, a, s.m1 * s.kStride, s.m, s.k1, tail,
        [&](uint64_t mb, uint64_t kb) { return s.aFractal(mb, kb); }, bad.rows, bad.any);
  declareInput(
      i, b, s.n1 * s.k1, s.n, s.k1, tail,
      [&](uint64_t nb, uint64_t kb) { return s.bFractal(kb, nb); }, bad.columns, bad.any);
  return bad;
}

void markSpoiled(const Place& c, const Shape& s, const Spoiled& bad) {
  if (!bad.any) return;
  if (allSpoiled(bad.rows) || allSpoiled(bad.columns)) {
    const bool left = allSpoiled(bad.rows);
    report(kInit,
           "multiplies by bytes of %s that nobody wrote: every %s of the result is affected; is k "
           "(%llu) larger than what was loaded?",
           left ? "the left matrix" : "the right matrix or the bias", left ? "row" : "column",
           static_cast<unsigned long long>(s.k));
    return;
  }
  for (uint64_t n = 0; n < s.n; ++n)
    for (uint64_t m = 0; m < s.m; ++m)
      if ((!bad.rows.empty() && bad.rows[m] != 0) || (!bad.columns.empty() && bad.columns[n] != 0))
        markUnwritten(Mem::L0C, c.address + s.cFractal(m / 16, n / 16) + m % 16 * 64 + n % 16 * 4,
                      4);
}

// Accumulating on a result keeps its spoiled parts spoiled. A result that nobody wrote is an error.
class OldResult {
 public:
  void read(Instr& i, const Place& c, const Shape& s) {
    i.read(c, 0, 0);
    const uint64_t bytes = s.m1 * s.n1 * 1024;
    if (c.address % 32 != 0 || c.address + bytes > memSize(Mem::L0C)) return i.read(c, 0, bytes);
    i.readPadding(c.mem, c.address, bytes);
    const std::vector<uint32_t>& init = core().local[static_cast<int>(Mem::L0C)].shadow->init_;
    const auto first = init.begin() + static_cast<std::ptrdiff_t>(c.address / 32);
    words_.assign(first, first + static_cast<std::ptrdiff_t>(bytes / 32));
    if (s.vectorA || std::all_of(words_.begin(), words_.end(), [](uint32_t w) { return w == 0; })) {
      words_.clear();
      i.read(c, 0, s.vectorA ? 64 : bytes);
    }
  }
  void restore(const Place& c) const {
    std::vector<uint32_t>& init = core().local[static_cast<int>(Mem::L0C)].shadow->init_;
    for (size_t k = 0; k < words_.size(); ++k) init[c.address / 32 + k] &= words_[k];
  }

 private:
  std::vector<uint32_t> words_;
};

void declareResult(Instr& i, const Place& result, const Shape& s, bool write) {
  const Place c = rounded(result);
  if (!s.vectorA) {
    const uint64_t bytes = s.m1 * s.n1 * 1024;
    if (write)
      i.write(c, 0, bytes);
    else
      i.read(c, 0, bytes);
    return;
  }
  for (uint64_t nb = 0; nb < s.n1; ++nb) {
    if (write)
      i.write(c, s.cFractal(0, nb), 64);
    else
      i.read(c, s.cFractal(0, nb), 64);
  }
}

int32_t saturated(int64_t v) {
  return static_cast<int32_t>(std::clamp<int64_t>(v, INT32_MIN, INT32_MAX));
}

// The unit flags order Mmad and Fixpipe block by block; here an instruction is the unit.
void unitFlagBefore(const Place& c, const Shape& s, uint8_t flag) {
  if (flag == 0) return;
  if (flag != 2 && flag != 3) report(kParam, "unitFlag is %u; expected 0, 2 or 3", flag);
  MoveState& st = moveState();
  st.unitFlags.resize(memSize(Mem::L0C) / 512);
  await(Pipe::M, st.unitRead, st.unitReadToken);
  for (uint64_t b = c.address / 512;
       b < std::min<uint64_t>(st.unitFlags.size(), (c.address + s.m1 * s.n1 * 1024) / 512); ++b)
    if (st.unitFlags[b] != 0) {
      report(kFlag,
             "unitFlag: the result at 0x%llx of L0C was finished (unitFlag 3) and not yet taken "
             "out by "
             "a Fixpipe with unitFlag 3; Mmad would wait for it",
             static_cast<unsigned long long>(b * 512));
      return;
    }
}

void unitFlagAfter(const Place& c, const Shape& s, uint8_t flag) {
  if (flag != 3) return;
  MoveState& st = moveState();
  for (uint64_t b = c.address / 512;
       b < std::min<uint64_t>(st.unitFlags.size(), (c.address + s.m1 * s.n1 * 1024) / 512); ++b)
    st.unitFlags[b] = 1;
  signal(Pipe::M, st.unitWritten, st.unitWrittenToken);
}

void setCommon(Instr& i, const Place& c, const Place& a, const Place& b, const Shape& s,
               DType type) {
  i.align(c, 1024, "the result");
  i.align(a, 512, "the left matrix");
  i.align(b, 512, "the right matrix");
  i.event.repeats = static_cast<uint32_t>(s.m1 * s.n1 * s.k1);
  i.event.dtype = type;
}

void checkPlace(const Place& p, Mem wanted, const char* what) {
  if (p.mem != wanted)
    fail(kParam, "%s lies in %s; expected %s", what, memName(p.mem), memName(wanted));
}

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

}  // namespace

void setHf32(bool on) { moveState().hf32 = on; }
void setHf32ToZero(bool toZero) { moveState().hf32ToZero = toZero; }

void mmad(const Place& c, const Place& a, const Place& b, const Place* bias, const MmadArgs& p,
          DType in, DType out) {
  checkPlace(a, Mem::L0A, "the left matrix");
  checkPlace(b, Mem::L0B, "the right matrix");
  checkPlace(c, Mem::L0C, "the result");
  checkRange("m", p.m, 0, 4095);
  checkRange("n", p.n, 0, 4095);
  checkRange("k", p.k, 0, 4095);
  if (p.m == 0 || p.n == 0 || p.k == 0) return;
  if (p.kDirectionAlign && in != DType::F32)
    report(kParam, "kDirectionAlign is for float matrices only");
  Shape s;
  s.m = p.m;
  s.n = p.n;
  s.k = p.k;
  s.inner = innerOf(in);
  s.m1 = ceilDiv(s.m, 16);
  s.n1 = ceilDiv(s.n, 16);
  s.k1 = ceilDiv(s.k, s.inner);
  s.kStride = p.kDirectionAlign && in == DType::F32 ? ceilDiv(s.k, 16) * 2 : s.k1;
  s.nzA = options().chip->npuArch >= 3510;
  s.vectorA = s.m == 1 && !p.disableGemv;

  // Where C starts from: zero, itself, a row in BT, or another matrix in L0C.
  bool keep = bias == nullptr && (p.isBias || !p.cmatrixInitVal);
  Place row;
  bool fromRow = false;
  if (bias != nullptr) {
    row = *bias;
    fromRow = row.mem == Mem::BT;
    if (!fromRow && row.mem != Mem::L0C)
      fail(kParam, "the bias lies in %s; expected C2 (BT) or CO1 (L0C)", memName(row.mem));
  } else if (keep && !p.isBias && p.cmatrixSource) {
    row.mem = Mem::BT;  // no tensor named: the table's start
    fromRow = true;
    keep = false;
  }
  const bool fromMatrix = bias != nullptr && !fromRow;

  unitFlagBefore(c, s, p.unitFlag);
  {
    Instr i(Pipe::M, fromRow                                ? "mad_bias"
                     : in == DType::F32 && moveState().hf32 ? "mad_hf32"
                                                            : "mad");
    setCommon(i, c, a, b, s, in);
    Spoiled bad = declareInputs(i, a, b, s, in);
    if (fromRow) {
      i.align(row, 64, "the bias");
      readUnused(i, row, 1, s.n * 4, 0);
      for (uint64_t n = 0; n < s.n && checking(kInit); ++n)
        if (!written(row.mem, row.address + n * 4, 4)) spoil(bad.columns, s.n, n, bad.any);
    }
    if (fromMatrix) declareResult(i, row, s, false);
    OldResult old;
    if (keep) old.read(i, c, s);
    declareResult(i, c, s, true);
    if (checking(kInit)) old.restore(c);
    if (fromMatrix && row.address != c.address)
      std::memmove(hostPtr(c), hostPtr(row), s.m1 * s.n1 * 1024);
    const bool accumulate = keep || fromMatrix;
    const void* start = fromRow ? hostPtr(row) : nullptr;
    if (out == DType::I32)
      multiply<int32_t>(c, a, b, s, in, static_cast<const int32_t*>(start), accumulate);
    else
      multiply<float>(c, a, b, s, in, static_cast<const float*>(start), accumulate);
    markSpoiled(c, s, bad);
  }
  unitFlagAfter(c, s, p.unitFlag);
}

// B holds half of the rows; the index picks two of every four elements of A.
void mmadSparse(const Place& c, const Place& a, const Place& b, const MmadArgs& p) {
  checkPlace(a, Mem::L0A, "the left matrix");
  checkPlace(b, Mem::L0B, "the right matrix");
  checkPlace(c, Mem::L0C, "the result");
  if (options().chip->npuArch >= 3510) notOnChip("MmadWithSparse");
  checkRange("m", p.m, 0, 4095);
  checkRange("n", p.n, 0, 4095);
  checkRange("k", p.k, 0, 4095);
  if (p.m == 0 || p.n == 0 || p.k == 0) return;
  if (p.kDirectionAlign) report(kParam, "kDirectionAlign is not available with sparse matrices");
  Shape s;
  s.m = p.m;
  s.n = p.n;
  s.k = p.k;
  s.inner = 32;
  s.m1 = ceilDiv(s.m, 16);
  s.n1 = ceilDiv(s.n, 16);
  s.k1 = ceilDiv(s.k, 32);
  s.kStride = s.k1;
  s.vectorA = false;
  s.nzA = false;
  const bool keep = p.isBias || !p.cmatrixInitVal;
  const uint64_t dense = ceilDiv(s.k, 2);
  Shape half = s;
  half.k = dense;
  half.k1 = ceilDiv(dense, 32);
  MoveState& st = moveState();
  const uint64_t indexEnd = b.address / 4 + half.k1 * s.n1 * 128;
  if (st.sparseIndex.size() < indexEnd)
    fail(kInit, "the index of the right matrix was not loaded; use LoadDataWithSparse for it");
  Instr i(Pipe::M, "mad");
  setCommon(i, c, a, b, half, DType::I8);
  Spoiled bad;
  declareInput(
      i, a, s.m1 * s.k1, s.m, s.k1, s.k % 32 == 0 ? 32 : s.k % 32,
      [&](uint64_t mb, uint64_t kb) { return s.aFractal(mb, kb); }, bad.rows, bad.any);
  declareInput(
      i, b, s.n1 * half.k1, s.n, half.k1, dense % 32 == 0 ? 32 : dense % 32,
      [&](uint64_t nb, uint64_t kb) { return s.bFractal(kb, nb); }, bad.columns, bad.any);
  OldResult old;
  if (keep) old.read(i, c, s);
  declareResult(i, c, s, true);
  if (checking(kInit)) old.restore(c);
  const uint8_t* ah = hostPtr(a);
  const uint8_t* bh = hostPtr(b);
  uint8_t* ch = hostPtr(c);
  const uint8_t* index = st.sparseIndex.data() + b.address / 4;
  std::vector<int32_t> which(dense);
  for (uint64_t n = 0; n < s.n1 * 16; ++n) {
    const uint64_t nb = n / 16, nc = n % 16;
    for (uint64_t x = 0; x < dense && n < s.n; ++x) {
      const uint8_t* f = index + ((x / 32) * s.n1 + nb) * 128;
      const int bits = (f[nc * 8 + x % 32 / 4] >> (2 * (x % 4))) & 3;
      which[x] = static_cast<int32_t>(x / 2 * 4 + x % 2) + bits;
    }
    for (uint64_t m = 0; m < s.m1 * 16; ++m) {
      int32_t* out = reinterpret_cast<int32_t*>(ch + s.cFractal(m / 16, nb)) + m % 16 * 16 + nc;
      int64_t sum = keep ? *out : 0;
      for (uint64_t x = 0; x < dense && n < s.n && m < s.m; ++x) {
        const uint64_t ka = static_cast<uint64_t>(which[x]);
        if (ka >= s.k) continue;
        const int8_t av =
            static_cast<int8_t>(ah[s.aFractal(m / 16, ka / 32) + m % 16 * 32 + ka % 32]);
        const int8_t bv = static_cast<int8_t>(bh[s.bFractal(x / 32, nb) + nc * 32 + x % 32]);
        sum += av * bv;
      }
      *out = saturated(sum);
    }
  }
  markSpoiled(c, s, bad);
}

}  // namespace ascsim
