// DataCopy and DataCopyPad: strided runs over the routes between memories.
#include "ascsim/datacopy.h"

#include <algorithm>
#include <cstring>

#include "move.h"

namespace ascsim {

void setPadValue(uint64_t bits) {
  MoveState& s = moveState();
  s.padSet = true;
  s.padValue = bits;
}

void scalarBypass(void* address, uint64_t bytes, bool write) {
  if (!write) yieldCore();
  Instr i(Pipe::S, "scalar_gm");
  const uint64_t a = reinterpret_cast<uintptr_t>(address);
  if (write)
    i.write(Mem::GM, a, bytes);
  else
    i.read(Mem::GM, a, bytes);
  (write ? i.event.dst : i.event.src) = Mem::GM;
  i.event.gmAddress = a;
  i.event.gmSpan = bytes;
  i.event.bytes = bytes;
}

namespace {
// A plain copy: what nobody wrote may travel along as padding, and stays unwritten.
void carryRuns(Instr& i, const Place& dst, const Place& src, Runs r) {
  const int64_t bytes = static_cast<int64_t>(r.bytes);
  if (r.srcStep == bytes && r.dstStep == bytes) {
    r.bytes *= r.count;
    r.count = 1;
  }
  for (uint64_t k = 0; k < r.count; ++k) {
    const int64_t n = static_cast<int64_t>(k);
    i.move(src, static_cast<uint64_t>(n * r.srcStep), dst, static_cast<uint64_t>(n * r.dstStep),
           r.bytes);
    std::memmove(hostPtr(dst) + n * r.dstStep, hostPtr(src) + n * r.srcStep, r.bytes);
  }
}
}  // namespace

namespace {

void fillEvent(Instr& i, const Route& route, const Place& dst, const Place& src, const Runs& r,
               DType type) {
  TraceEvent& e = i.event;
  e.src = src.mem;
  e.dst = dst.mem;
  e.dtype = type;
  e.bytes = r.count * r.bytes;
  const bool toGm = dst.mem == Mem::GM;
  e.bursts = static_cast<uint32_t>(burstsOf(r.count, r.bytes, toGm ? r.dstStep : r.srcStep));
  if (toGm || src.mem == Mem::GM) {
    const int64_t step = toGm ? r.dstStep : r.srcStep;
    const uint64_t span = static_cast<uint64_t>(step < 0 ? 0 : step) * (r.count - 1) + r.bytes;
    gmEvent(i, toGm ? dst : src, span, toGm);
  }
  if (route.pipe == Pipe::V) e.repeats = static_cast<uint32_t>(ceilDiv(e.bytes, 256));
}

}  // namespace

void copyRuns(const Place& dst, const Place& src, const Runs& r, DType type, uint32_t gmAlign) {
  if (r.count == 0 || r.bytes == 0) return;
  const Route& route = routeOf(src.mem, dst.mem);
  const ServedCopy served(dst, src);
  if (dst.mem == Mem::GM) checkAtomicType(type);
  if (route.src == Mem::UB && route.dst == Mem::L1) {
    ForeignL1 l1;
    Instr i(route.pipe, route.mnemonic);
    checkPlaces(i, dst, src, gmAlign);
    declareRuns(i, src, r.count, r.bytes, r.srcStep, false);
    const uint8_t* from = hostPtr(src);
    for (uint64_t k = 0; k < r.count; ++k) {
      const int64_t n = static_cast<int64_t>(k);
      std::memcpy(l1.ptr(dst.address + static_cast<uint64_t>(n * r.dstStep), r.bytes),
                  from + n * r.srcStep, r.bytes);
    }
    fillEvent(i, route, dst, src, r, type);
    return;
  }
  Instr i(route.pipe, route.mnemonic);
  checkPlaces(i, dst, src, gmAlign);
  fillEvent(i, route, dst, src, r, type);
  const bool blocks = dst.mem == Mem::BT || dst.mem == Mem::FB;  // rounded up to 64 or 128 bytes
  if (!blocks && (dst.mem != Mem::GM || core().atomicOp == 0)) return carryRuns(i, dst, src, r);
  if (blocks)
    readUnused(i, src, r.count, r.bytes, r.srcStep);
  else
    declareRuns(i, src, r.count, r.bytes, r.srcStep, false);
  const uint8_t* from = hostPtr(src);
  if (dst.mem == Mem::GM) {
    gmWriteRuns(i, dst, from, r);
    return;
  }
  declareRuns(i, dst, r.count, r.bytes, r.dstStep, true);
  uint8_t* to = hostPtr(dst);
  for (uint64_t k = 0; k < r.count; ++k) {
    const int64_t n = static_cast<int64_t>(k);
    std::memmove(to + n * r.dstStep, from + n * r.srcStep, r.bytes);
    if (blocks)
      copyWritten(moved(dst, static_cast<uint64_t>(n * r.dstStep)),
                  moved(src, static_cast<uint64_t>(n * r.srcStep)), r.bytes);
  }
}

void copyCount(const Place& dst, const Place& src, uint64_t bytes, DType type) {
  if (bytes % 32 != 0) {
    report(kAlign,
           "the count is %llu bytes, not a multiple of 32: the last %llu bytes are not copied; use "
           "DataCopyPad, or round the count up",
           static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(bytes % 32));
    bytes -= bytes % 32;
  }
  Runs r;
  r.bytes = bytes;
  copyRuns(dst, src, r, type, sizeOf(type));
}

void copyBlocks(const Place& dst, const Place& src, const AscendC::DataCopyParams& p, DType type,
                DType srcType) {
  checkRange("blockCount", p.blockCount, 0, 4095);
  if (p.blockCount == 0 || p.blockLen == 0) return;
  const bool wide = options().chip->npuArch >= 3510;
  Runs r;
  r.count = p.blockCount;
  if (dst.mem == Mem::FB) {
    // Gaps of the fixpipe buffer are from head to head.
    r.bytes = p.blockLen * (wide ? 64u : 128u);
    r.srcStep = p.srcGap * 32;
    r.dstStep = p.dstGap * (wide ? 64 : 128);
    copyRuns(dst, src, r, type, 1);
    return;
  }
  if (dst.mem == Mem::BT) {
    const uint64_t unit = wide ? 32 : 64;
    const bool widen = srcType != type;
    if (widen &&
        !(type == DType::F32 && (srcType == DType::F16 || (wide && srcType == DType::BF16))))
      fail(kChip, "a bias of %s cannot be copied into BT as %s; BT holds float and int32_t",
           dtypeName(srcType), dtypeName(type));
    r.bytes = p.blockLen * unit;
    r.srcStep = static_cast<int64_t>(r.bytes + p.srcGap * 32u);
    if (!widen) {
      r.dstStep = static_cast<int64_t>(r.bytes + p.dstGap * unit);
      copyRuns(dst, src, r, type, 1);
      return;
    }
    r.dstStep = static_cast<int64_t>(2 * r.bytes + p.dstGap * unit);
    Instr i(Pipe::MTE1, "mte_l1_bt");
    checkPlaces(i, dst, src, 1);
    fillEvent(i, routeOf(src.mem, dst.mem), dst, src, r, srcType);
    readUnused(i, src, r.count, r.bytes, r.srcStep);
    declareRuns(i, dst, r.count, 2 * r.bytes, r.dstStep, true);
    for (uint64_t k = 0; k < r.count; ++k)
      for (uint64_t e = 0; e < r.bytes / 2; ++e) {
        const uint64_t at = static_cast<uint64_t>(static_cast<int64_t>(k) * r.srcStep) + 2 * e;
        if (!written(src.mem, src.address + at, 2))
          markUnwritten(
              dst.mem,
              dst.address + static_cast<uint64_t>(static_cast<int64_t>(k) * r.dstStep) + 4 * e, 4);
        uint16_t h;
        std::memcpy(&h, hostPtr(src) + static_cast<int64_t>(k) * r.srcStep + 2 * e, 2);
        const float f = srcType == DType::F16 ? halfBitsToFloat(h) : bfloatBitsToFloat(h);
        std::memcpy(hostPtr(dst) + static_cast<int64_t>(k) * r.dstStep + 4 * e, &f, 4);
      }
    return;
  }
  if (srcType != type)
    fail(kChip, "DataCopy from %s to %s converts only on the way from L1 to BT", dtypeName(srcType),
         dtypeName(type));
  r.bytes = p.blockLen * 32ull;
  r.srcStep = static_cast<int64_t>(r.bytes + p.srcGap * 32ull);
  r.dstStep = static_cast<int64_t>(r.bytes + p.dstGap * 32ull);
  copyRuns(dst, src, r, type, sizeOf(type));
}

void checkEnhanced(const AscendC::DataCopyEnhancedParams& p) {
  if (p.blockMode != AscendC::BlockMode::BLOCK_MODE_NORMAL ||
      p.deqScale != AscendC::DeqScale::DEQ_NONE || p.isRelu || p.padMode != pad_t::PAD_NONE)
    notOnChip("the enhanced DataCopy with block mode, dequantisation, relu or padding");
}

// ------------------------------------------------------------------------------- DataCopyPad
void checkExt(const ExtParams& p, DType type) {
  checkRange("blockCount", p.blockCount, 0, 4095);
  checkRange("blockLen", p.blockLen, 0, 2097151, " bytes");
  if (p.blockLen % sizeOf(type) != 0)
    report(kParam, "blockLen is %u bytes, not a multiple of the %u bytes of %s", p.blockLen,
           sizeOf(type), dtypeName(type));
}

namespace {

void fillPattern(uint8_t* to, uint64_t bytes, uint64_t value, uint32_t size) {
  for (uint64_t k = 0; k < bytes; ++k) to[k] = static_cast<uint8_t>(value >> (8 * (k % size)));
}

}  // namespace

void copyPadIn(const Place& dst, const Place& src, const ExtParams& p, const Pads& pads, DType type,
               bool compact) {
  checkExt(p, type);
  if (p.blockCount == 0 || p.blockLen == 0) return;
  const Route& route = routeOf(src.mem, dst.mem);
  if (dst.mem != Mem::UB && options().chip->npuArch < 3510) notOnChip("DataCopyPad from GM to L1");
  if (pads.left > 32 || pads.right > 32)
    report(kParam, "leftPadding is %u and rightPadding %u bytes; expected at most 32 bytes each",
           pads.left, pads.right);
  const uint32_t size = sizeOf(type);
  if (size == 8 && pads.isPad && pads.value != 0)
    report(kParam, "paddingValue of a 64-bit type must be 0");
  const MoveState& s = moveState();
  const bool anyPad = pads.left != 0 || pads.right != 0;

  Instr i(route.pipe, route.mnemonic);
  checkPlaces(i, dst, src, 1);
  Runs r;
  r.count = p.blockCount;
  r.bytes = p.blockLen;
  r.srcStep = static_cast<int64_t>(p.blockLen) + static_cast<int64_t>(p.srcStride);
  const uint64_t used = pads.left + p.blockLen + pads.right;
  const uint64_t whole = ceilTo(used, 32);
  r.dstStep = static_cast<int64_t>(whole) + static_cast<int64_t>(p.dstStride) * 32;
  fillEvent(i, route, dst, src, r, type);
  declareRuns(i, src, r.count, r.bytes, r.srcStep, false);
  const uint8_t* from = hostPtr(src);
  if (compact) {
    // All blocks one after the other, then one fill to 32 bytes.
    const uint64_t total = static_cast<uint64_t>(p.blockCount) * p.blockLen;
    const uint64_t end = ceilTo(total, 32);
    i.write(dst, 0, end);
    uint8_t* to = hostPtr(dst);
    for (uint64_t k = 0; k < r.count; ++k)
      std::memcpy(to + k * p.blockLen, from + static_cast<int64_t>(k) * r.srcStep, p.blockLen);
    uint64_t value = s.padSet ? s.padValue : 0;
    if (pads.isPad) value = pads.value;
    fillPattern(to + total, end - total, value, size);
    return;
  }
  declareRuns(i, dst, r.count, whole, r.dstStep, true);
  uint8_t* to = hostPtr(dst);
  for (uint64_t k = 0; k < r.count; ++k) {
    uint8_t* row = to + static_cast<int64_t>(k) * r.dstStep;
    const uint8_t* data = from + static_cast<int64_t>(k) * r.srcStep;
    uint64_t value = ~0ull;  // the page says random: a NaN pattern makes its use visible
    if (pads.isPad)
      value = pads.value;
    else if (s.padSet)
      value = s.padValue;
    if (!anyPad) {  // without pads the rest of the block repeats the first element
      value = 0;
      std::memcpy(&value, data, size);
    }
    fillPattern(row, pads.left, value, size);
    std::memcpy(row + pads.left, data, p.blockLen);
    fillPattern(row + pads.left + p.blockLen, whole - pads.left - p.blockLen, value, size);
  }
}

void copyPadOut(const Place& dst, const Place& src, const ExtParams& p, DType type, bool compact) {
  checkExt(p, type);
  if (p.blockCount == 0 || p.blockLen == 0) return;
  checkAtomicType(type);
  const Route& route = routeOf(src.mem, dst.mem);
  if (src.mem != Mem::UB) notOnChip("DataCopyPad from L1 to GM");
  Instr i(route.pipe, route.mnemonic);
  checkPlaces(i, dst, src, 1);
  Runs r;
  r.count = p.blockCount;
  r.bytes = p.blockLen;
  r.srcStep = compact ? static_cast<int64_t>(p.blockLen)
                      : static_cast<int64_t>(ceilTo(p.blockLen, 32)) +
                            static_cast<int64_t>(p.srcStride) * 32;
  r.dstStep = static_cast<int64_t>(p.blockLen) + static_cast<int64_t>(p.dstStride);
  fillEvent(i, route, dst, src, r, type);
  if (core().atomicOp == 0) return carryRuns(i, dst, src, r);
  declareRuns(i, src, r.count, r.bytes, r.srcStep, false);
  gmWriteRuns(i, dst, hostPtr(src), r);
}

}  // namespace ascsim
