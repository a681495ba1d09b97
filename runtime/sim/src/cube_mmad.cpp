// Mmad: what it checks and declares of L0A, L0B and L0C, and how results begin.
#include <algorithm>
#include <cstring>

#include "cube_product.h"

namespace ascsim {
namespace {

using cube::innerOf;
using cube::multiply;
using cube::saturated;
using cube::Shape;

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
