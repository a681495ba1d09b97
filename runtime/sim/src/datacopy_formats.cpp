// DataCopy with a change of format: ND and DN to NZ and back, slices.
#include <algorithm>
#include <cstring>

#include "ascsim/datacopy.h"
#include "internal.h"
#include "move.h"

namespace ascsim {

namespace {

void checkNd2Nz(const NdNz& p) {
  checkRange("ndNum", p.ndNum, 0, 4095);
  checkRange("nValue", p.nValue, 0, 16384);
  if (p.ndNum == 0 || p.nValue == 0 || p.dValue == 0) return;
  checkRange("srcDValue", p.srcDValue, 1, options().chip->npuArch >= 3510 ? ~0ull : 65535);
  checkRange("dstNzC0Stride", p.dstNzC0Stride, 1, 16384);
  checkRange("dstNzNStride", p.dstNzNStride, 1, 16384);
}

// One 32-byte block of NZ: the valid bytes of a row, then zeros.
void nzBlock(uint8_t* to, const uint8_t* from, uint64_t valid) {
  if (valid >= 32) {
    std::memcpy(to, from, 32);
    return;
  }
  std::memcpy(to, from, valid);
  std::memset(to + valid, 0, 32 - valid);
}

}  // namespace

void copyNd2Nz(const Place& dst, const Place& src, const NdNz& p, DType type) {
  checkNd2Nz(p);
  if (p.ndNum == 0 || p.nValue == 0 || p.dValue == 0) return;
  const Route& route = routeOf(src.mem, dst.mem);
  const ServedCopy served(dst, src);
  if (route.pipe == Pipe::V) notOnChip("DataCopy with Nd2NzParams from UB to UB");
  const uint64_t size = sizeOf(type);
  const uint64_t rowBytes = p.dValue * size;
  const uint64_t columns = ceilDiv(rowBytes, 32);
  const uint64_t srcMatrix = p.srcNdMatrixStride * size;
  const uint64_t dstMatrix = p.dstNzMatrixStride * size;
  const uint64_t srcRow = p.srcDValue * size;
  if (p.srcDValue < p.dValue && p.nValue > 1)
    report(kParam, "srcDValue (elements from row to row) is %llu, less than dValue (%llu columns)",
           static_cast<unsigned long long>(p.srcDValue), static_cast<unsigned long long>(p.dValue));
  if (dstMatrix % 32 != 0 && p.ndNum > 1)
    report(kAlign, "dstNzMatrixStride is %llu bytes; expected a multiple of 32",
           static_cast<unsigned long long>(dstMatrix));
  std::unique_ptr<ForeignL1> foreign;
  if (src.mem == Mem::UB) foreign = std::make_unique<ForeignL1>();
  const char* mnemonic =
      src.mem == Mem::GM && dst.mem == Mem::L1 ? "mte_gm_l1_nd2nz" : route.mnemonic;
  Instr i(route.pipe, mnemonic);
  checkPlaces(i, dst, src, 1);
  i.event.src = src.mem;
  i.event.dst = dst.mem;
  i.event.dtype = type;
  i.event.bytes = p.ndNum * p.nValue * rowBytes;
  i.event.bursts =
      static_cast<uint32_t>(p.ndNum * burstsOf(p.nValue, rowBytes, static_cast<int64_t>(srcRow)));
  if (src.mem == Mem::GM)
    gmEvent(i, src, (p.ndNum - 1) * srcMatrix + (p.nValue - 1) * srcRow + rowBytes, false);
  for (uint64_t nd = 0; nd < p.ndNum; ++nd) {
    const Place from = moved(src, nd * srcMatrix);
    const Place to = moved(dst, nd * dstMatrix);
    declareRuns(i, from, p.nValue, rowBytes, static_cast<int64_t>(srcRow), false);
    const uint8_t* in = hostPtr(from);
    for (uint64_t c = 0; c < columns; ++c) {
      const uint64_t column = c * p.dstNzC0Stride * 32;
      const uint64_t valid = std::min<uint64_t>(32, rowBytes - c * 32);
      if (!foreign)
        declareRuns(i, moved(to, column), p.nValue, 32, static_cast<int64_t>(p.dstNzNStride * 32),
                    true);
      const uint64_t extent = (p.nValue - 1u) * p.dstNzNStride * 32ull + 32;
      uint8_t* out = foreign ? foreign->ptr(to.address + column, extent) : hostPtr(to) + column;
      const uint64_t step = p.dstNzNStride * 32ull;
      for (uint64_t n = 0; n < p.nValue; ++n)
        nzBlock(out + n * step, in + n * srcRow + c * 32, valid);
    }
  }
}

// Columns of the source are rows of the result: element (n, d) lies at d * srcDValue + n.
void copyDn2Nz(const Place& dst, const Place& src, const AscendC::Dn2NzParams& p, DType type) {
  if (options().chip->npuArch < 3510) notOnChip("DataCopy with Dn2NzParams");
  if (p.dnNum == 0 || p.nValue == 0 || p.dValue == 0) return;
  const uint64_t size = sizeOf(type);
  const uint64_t c0 = 32 / size;
  Instr i(Pipe::MTE2, "mte_gm_l1_dn2nz");
  checkPlaces(i, dst, src, 1);
  i.event.src = src.mem;
  i.event.dst = dst.mem;
  i.event.dtype = type;
  i.event.bytes = p.dnNum * p.nValue * p.dValue * size;
  i.event.bursts = static_cast<uint32_t>(p.dnNum * p.dValue);
  gmEvent(i, src,
          ((p.dnNum - 1) * p.srcDnMatrixStride + (p.dValue - 1) * p.srcDValue + p.nValue) * size,
          false);
  for (uint64_t m = 0; m < p.dnNum; ++m) {
    const Place from = moved(src, m * p.srcDnMatrixStride * size);
    const Place to = moved(dst, m * p.dstNzMatrixStride * size);
    declareRuns(i, from, p.dValue, p.nValue * size, static_cast<int64_t>(p.srcDValue * size),
                false);
    const uint8_t* in = hostPtr(from);
    for (uint64_t c = 0; c < ceilDiv(p.dValue, c0); ++c) {
      const uint64_t column = c * p.dstNzC0Stride * 32;
      declareRuns(i, moved(to, column), p.nValue, 32, static_cast<int64_t>(p.dstNzNStride * 32),
                  true);
      uint8_t* out = hostPtr(to) + column;
      for (uint64_t n = 0; n < p.nValue; ++n)
        for (uint64_t e = 0; e < c0; ++e) {
          uint8_t* cell = out + n * p.dstNzNStride * 32 + e * size;
          const uint64_t d = c * c0 + e;
          if (d < p.dValue)
            std::memcpy(cell, in + (d * p.srcDValue + n) * size, size);
          else
            std::memset(cell, 0, size);
        }
    }
  }
}

void copyNz2Nd(const Place& dst, const Place& src, const AscendC::Nz2NdParamsFull& p, DType type) {
  checkRange("ndNum", p.ndNum, 0, 4095);
  if (p.ndNum == 0) return;
  checkRange("nValue", p.nValue, 1, 8192);
  checkRange("dValue", p.dValue, 1, 8192);
  checkRange("srcNStride", p.srcNStride, 0, 4096);
  checkRange("dstDStride", p.dstDStride, 1, 65535);
  if (p.dValue % 16 != 0) report(kParam, "dValue is %u; expected a multiple of 16", p.dValue);
  if (p.ndNum > 1) {
    checkRange("srcNdMatrixStride", p.srcNdMatrixStride, 1, 512);
    checkRange("dstNdMatrixStride", p.dstNdMatrixStride, 1, 65535);
  }
  checkAtomicType(type);
  const uint64_t size = sizeOf(type);
  const uint64_t cell = 16 * size;  // a row of a Z is 16 elements of any type
  const uint64_t columns = ceilDiv(p.dValue, 16);
  const Route& route = routeOf(src.mem, dst.mem);
  Instr i(route.pipe, route.mnemonic);
  checkPlaces(i, dst, src, static_cast<uint32_t>(size));
  i.event.src = src.mem;
  i.event.dst = dst.mem;
  i.event.dtype = type;
  const uint64_t rowBytes = p.dValue * size;
  i.event.bytes = p.ndNum * p.nValue * rowBytes;
  i.event.bursts = static_cast<uint32_t>(p.ndNum * p.nValue);
  gmEvent(i, dst,
          ((p.ndNum - 1) * p.dstNdMatrixStride + (p.nValue - 1) * p.dstDStride) * size + rowBytes,
          true);
  std::vector<uint8_t> row(columns * cell);
  for (uint64_t nd = 0; nd < p.ndNum; ++nd) {
    const Place from = moved(src, nd * p.srcNdMatrixStride * 256 * size);
    for (uint64_t c = 0; c < columns; ++c) {
      const uint64_t valid = std::min<uint64_t>(16, p.dValue - c * 16) * size;
      declareRuns(i, moved(from, c * p.srcNStride * cell), p.nValue, valid,
                  static_cast<int64_t>(cell), false);
    }
    const uint8_t* in = hostPtr(from);
    for (uint64_t n = 0; n < p.nValue; ++n) {
      for (uint64_t c = 0; c < columns; ++c)
        std::memcpy(row.data() + c * cell, in + c * p.srcNStride * cell + n * cell, cell);
      gmWrite(i, dst, (nd * p.dstNdMatrixStride + n * p.dstDStride) * size, row.data(), rowBytes);
    }
  }
}

// ------------------------------------------------------------------------------- slices
namespace {

struct SliceAxis {
  uint64_t count;  // segments (rows of outer axes)
  uint64_t step;   // elements from segment to segment
};

SliceAxis axisOf(const AscendC::SliceInfo& s, uint64_t segment, uint32_t dim) {
  if (s.startIndex > s.endIndex || s.endIndex >= s.shapeValue) {
    report(kParam,
           "dimension %u of the slice goes from %u to %u of %u elements; expected start <= end < "
           "shape",
           dim, s.startIndex, s.endIndex, s.shapeValue);
  }
  const uint64_t length = s.endIndex - s.startIndex + 1;
  if ((length + s.stride) % (segment + s.stride) != 0)
    report(kParam,
           "dimension %u of the slice: end - start + 1 = %llu elements is not N segments of %llu "
           "with gaps of %u",
           dim, static_cast<unsigned long long>(length), static_cast<unsigned long long>(segment),
           s.stride);
  return {(length + s.stride) / (segment + s.stride), segment + s.stride};
}

}  // namespace

void copySlices(const Place& dst, const Place& src, const AscendC::SliceInfo* dstSlice,
                const AscendC::SliceInfo* srcSlice, uint32_t dims, DType type) {
  if (dims == 0 || dims > 8) fail(kParam, "dimValue is %u; expected 1 to 8", dims);
  const uint64_t size = sizeOf(type);
  SliceAxis d[8], s[8];
  uint64_t dPitch[8], sPitch[8], dAll = 1, sAll = 1, rows = 1;
  uint64_t dBase = 0, sBase = 0;
  const uint64_t segment = srcSlice[0].burstLen * 32ull / size;
  for (uint32_t k = 0; k < dims; ++k) {
    if (dstSlice[k].burstLen != srcSlice[k].burstLen)
      fail(kParam,
           "burstLen of dimension %u is %u in the source and %u in the destination; they must be "
           "equal",
           k, srcSlice[k].burstLen, dstSlice[k].burstLen);
    if (k > 0 && srcSlice[k].burstLen != 1)
      report(kParam, "burstLen of dimension %u is %u; expected 1 beyond the first", k,
             srcSlice[k].burstLen);
    d[k] = axisOf(dstSlice[k], k == 0 ? segment : 1, k);
    s[k] = axisOf(srcSlice[k], k == 0 ? segment : 1, k);
    if (d[k].count != s[k].count)
      fail(kParam, "dimension %u has %llu segments in the source and %llu in the destination", k,
           static_cast<unsigned long long>(s[k].count),
           static_cast<unsigned long long>(d[k].count));
    dPitch[k] = dAll;
    sPitch[k] = sAll;
    dBase += dstSlice[k].startIndex * dAll;
    sBase += srcSlice[k].startIndex * sAll;
    dAll *= dstSlice[k].shapeValue;
    sAll *= srcSlice[k].shapeValue;
    if (k > 0) rows *= d[k].count;
  }
  const Place to = moved(dst, dBase * size), from = moved(src, sBase * size);
  for (uint64_t row = 0; row < rows; ++row) {
    uint64_t dAt = 0, sAt = 0, rest = row;
    for (uint32_t k = 1; k < dims; ++k) {
      const uint64_t at = rest % d[k].count;
      rest /= d[k].count;
      dAt += at * d[k].step * dPitch[k];
      sAt += at * s[k].step * sPitch[k];
    }
    Runs r;
    r.count = d[0].count;
    r.bytes = segment * size;
    r.dstStep = static_cast<int64_t>(d[0].step * size);
    r.srcStep = static_cast<int64_t>(s[0].step * size);
    const int64_t ubStep = dst.mem == Mem::UB ? r.dstStep : r.srcStep;
    if (r.count > 1 && ubStep % 32 != 0)
      report(kAlign, "segments lie %lld bytes apart in UB; expected a multiple of 32",
             static_cast<long long>(ubStep));
    copyRuns(moved(to, dAt * size), moved(from, sAt * size), r, type, 1);
  }
}

void copyUbToL1Pad(const Place& dst, const Place& src, const ExtParams& p, const NdNz& nz,
                   DType type) {
  checkExt(p, type);
  checkNd2Nz(nz);
  if (nz.ndNum != 1)
    fail(kParam, "ndNum is %llu; expected 1", static_cast<unsigned long long>(nz.ndNum));
  if (p.blockCount == 0 || p.blockLen == 0) return;
  // First the rows as they would lie in the workspace, then the matrix taken from there.
  const uint64_t size = sizeOf(type);
  const uint64_t srcStep = ceilTo(p.blockLen, 32) + static_cast<uint64_t>(p.srcStride) * 32;
  const uint64_t midStep = p.blockLen + static_cast<uint64_t>(p.dstStride);
  std::vector<uint8_t> mid(std::max<uint64_t>(midStep * p.blockCount,
                                              nz.nValue * nz.srcDValue * size + nz.dValue * size),
                           0xff);
  ForeignL1 l1;
  Instr i(Pipe::MTE3, "mte_ub_l1");
  i.align(src, 32, "the source");
  declareRuns(i, src, p.blockCount, p.blockLen, static_cast<int64_t>(srcStep), false);
  for (uint64_t k = 0; k < p.blockCount; ++k)
    std::memcpy(mid.data() + k * midStep, hostPtr(src) + k * srcStep, p.blockLen);
  const uint64_t rowBytes = nz.dValue * size;
  for (uint64_t c = 0; c < ceilDiv(rowBytes, 32); ++c)
    for (uint64_t n = 0; n < nz.nValue; ++n)
      nzBlock(l1.ptr(dst.address + (c * nz.dstNzC0Stride + n * nz.dstNzNStride) * 32, 32),
              mid.data() + n * nz.srcDValue * size + c * 32,
              std::min<uint64_t>(32, rowBytes - c * 32));
  i.event.src = Mem::UB;
  i.event.dst = Mem::L1;
  i.event.dtype = type;
  i.event.bytes = p.blockCount * static_cast<uint64_t>(p.blockLen);
  i.event.bursts = p.blockCount;
}

}  // namespace ascsim
