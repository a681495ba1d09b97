#include "ascsim/vec_core.h"

#include "ascsim/vec_ctrl.h"
#include "vec_lines.h"

namespace ascsim {
namespace {

constexpr uint32_t kDense = 4096;  // elements a line function gets at once

struct Bits {
  uint64_t w[4];
  bool get(uint32_t i) const { return ((w[i >> 6] >> (i & 63)) & 1) != 0; }
};

Bits activeBits(const Lanes& l, uint32_t repeat) {
  Bits b = {{l.bits[0], l.bits[1], 0, 0}};
  uint32_t first = 0;
  if (l.tail != 0 && repeat + 1 == l.repeats)
    first = l.tail;
  else if (l.full)
    first = l.lanes;
  else
    return b;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t n = first > 64 * i ? std::min(first - 64 * i, 64u) : 0;
    b.w[i] = n == 64 ? ~0ull : (1ull << n) - 1;
  }
  return b;
}

// Calls f(first lane, active lanes as bits, byte offset) for the blocks of a repeat.
template <class F>
void forBlocks(const Operand& o, const Lanes& l, const Bits& bits, uint32_t repeat, F&& f) {
  const uint32_t per = 32 / o.elementBytes;
  const uint32_t all = per >= 32 ? ~0u : (1u << per) - 1;
  for (uint32_t first = 0; first < l.lanes; first += per) {
    const uint32_t n = std::min(per, l.lanes - first);
    const auto active = static_cast<uint32_t>(bits.w[first >> 6] >> (first & 63)) & all;
    if (active != 0) f(first, n < 32 ? active & ((1u << n) - 1) : active, o.offset(repeat, first));
  }
}

void gather(const Operand& o, const Lanes& l, const Bits& bits, uint32_t repeat,
            const uint8_t* base, uint8_t* line) {
  forBlocks(o, l, bits, repeat, [&](uint32_t first, uint32_t active, uint64_t at) {
    const uint32_t n = 32u - static_cast<uint32_t>(__builtin_clz(active));
    __builtin_memcpy(line + first * o.elementBytes, base + at, n * o.elementBytes);
  });
}

void scatter(const Operand& o, const Lanes& l, const Bits& bits, uint32_t repeat, uint8_t* base,
             const uint8_t* line) {
  const uint32_t per = 32 / o.elementBytes;
  const uint32_t all = per >= 32 ? ~0u : (1u << per) - 1;
  forBlocks(o, l, bits, repeat, [&](uint32_t first, uint32_t active, uint64_t at) {
    const uint8_t* from = line + first * o.elementBytes;
    if (active == all) {
      __builtin_memcpy(base + at, from, 32);
      return;
    }
    for (; active != 0; active &= active - 1) {
      const uint32_t k = static_cast<uint32_t>(__builtin_ctz(active)) * o.elementBytes;
      __builtin_memcpy(base + at + k, from + k, o.elementBytes);
    }
  });
}

struct Extent {
  uint64_t low, high;
  bool meets(const Extent& e) const { return low < e.high && e.low < high; }
};

Extent extentOf(const Operand& o, const Lanes& l) {
  const uint64_t blocks = (l.lanes * o.elementBytes + 31) / 32;
  const uint64_t last =
      (l.repeats - 1) * static_cast<uint64_t>(o.repeatStride) + (blocks - 1) * o.blockStride;
  return {o.place.address, o.place.address + (last + 1) * 32};
}

// Same bytes in the same order, and no repeat touches what another one wrote.
bool sameRegion(const Operand& a, const Operand& b, const Lanes& l) {
  const uint32_t blocks = (l.lanes * a.elementBytes + 31) / 32;
  return a.place.address == b.place.address && a.elementBytes == b.elementBytes &&
         a.blockStride == b.blockStride && a.blockStride != 0 &&
         (l.repeats <= 1 ||
          (a.repeatStride == b.repeatStride && a.repeatStride >= (blocks - 1) * a.blockStride + 1));
}

struct Overlap {
  const Operand& dst;
  const Operand& src;
  const Lanes& lanes;
  const char* name;
  bool carries;
};

// Byte by byte, for the rare calls whose operands touch: a source may only be the destination
// itself.
void checkOverlap(const Overlap& v) {
  const Extent e = extentOf(v.dst, v.lanes);
  struct Owner {
    uint32_t wrote = 0;  // repeat + 1
    uint32_t reads = 0;  // repeat + 1
    uint32_t lane = 0;
  };
  std::vector<Owner> bytes(e.high - e.low);
  const bool carries = v.carries && (v.dst.repeatStride == 0 || v.src.repeatStride == 0);
  for (uint32_t r = 0; r < v.lanes.repeats; ++r) {
    for (uint32_t i = 0; i < v.lanes.lanes; ++i) {
      if (!v.lanes.active(r, i)) continue;
      const uint64_t a = v.src.place.address + v.src.offset(r, i);
      if (a < e.low || a + v.src.elementBytes > e.high) continue;
      for (uint32_t k = 0; k < v.src.elementBytes; ++k) {
        Owner& o = bytes[a - e.low + k];
        if (o.wrote != 0 && !carries) {
          report(kParam,
                 "repeat %u reads %s of UB 0x%llx, which repeat %u of the same call has written: "
                 "the result is not defined; %s",
                 r, v.name, static_cast<unsigned long long>(a), o.wrote - 1,
                 v.carries ? "only the second source may overlap so, with a repeat stride of 0 "
                             "(half, int32_t, float)"
                           : "use separate tensors");
          return;
        }
        o.reads = r + 1;
        o.lane = i;
      }
    }
    for (uint32_t i = 0; i < v.lanes.lanes; ++i) {
      if (!v.lanes.active(r, i)) continue;
      const uint64_t a = v.dst.place.address + v.dst.offset(r, i);
      for (uint32_t k = 0; k < v.dst.elementBytes; ++k) {
        Owner& o = bytes[a - e.low + k];
        // A narrowing conversion in place is in order: its results stay behind its reads.
        if (o.reads == r + 1 && o.lane != i && v.dst.elementBytes >= v.src.elementBytes) {
          report(kParam,
                 "within repeat %u, %s and the destination overlap in part (element %u at UB "
                 "0x%llx is element %u of the source); "
                 "they have to be the same bytes or apart",
                 r, v.name, i, static_cast<unsigned long long>(a), o.lane);
          return;
        }
        o.wrote = r + 1;
      }
    }
  }
}

void checkStride(const Operand& o, const Lanes& l) {
  if (o.blockStride != 0) return;
  const Bits b = activeBits(l, 0);
  uint32_t blocks = 0;
  forBlocks(o, l, b, 0, [&](uint32_t, uint32_t, uint64_t) { ++blocks; });
  if (blocks > 1)
    report(kParam,
           "the destination's block stride is 0: the %u blocks of a repeat are written to the same "
           "32 bytes; expected 1 or more",
           blocks);
}

template <class T>
void fillLine(uint8_t* d, uint32_t n, T value) {
  T* out = reinterpret_cast<T*>(d);
  std::fill(out, out + n, value);
}

// Operations without sources: a constant, or a rising sequence from position `first`.
void makeLine(const Vec& v, uint8_t* d, uint64_t first, uint32_t n) {
  if (v.op == VecOp::Dup) {
    switch (v.dst.elementBytes) {
      case 1:
        return fillLine<uint8_t>(d, n, static_cast<uint8_t>(v.i));
      case 2:
        return fillLine<uint16_t>(d, n, static_cast<uint16_t>(v.i));
      case 4:
        return fillLine<uint32_t>(d, n, static_cast<uint32_t>(v.i));
      default:
        return fillLine<uint64_t>(d, n, static_cast<uint64_t>(v.i));
    }
  }
  for (uint32_t i = 0; i < n; ++i) {
    const uint64_t at = first + i;
    switch (v.dstType) {
      case DType::I16:
        reinterpret_cast<int16_t*>(d)[i] = static_cast<int16_t>(v.i + static_cast<int64_t>(at));
        break;
      case DType::I32:
        reinterpret_cast<int32_t*>(d)[i] = static_cast<int32_t>(v.i + static_cast<int64_t>(at));
        break;
      case DType::F16:
        reinterpret_cast<uint16_t*>(d)[i] = floatToHalfBits(v.f + static_cast<float>(at));
        break;
      default:
        reinterpret_cast<float*>(d)[i] = v.f + static_cast<float>(at);
        break;
    }
  }
}

}  // namespace

void requireUb(const Place& p, const char* name) {
  if (p.mem != Mem::UB)
    fail(kParam, "%s is in %s; vector instructions work on UB (VECIN, VECCALC, VECOUT)", name,
         memName(p.mem));
}

bool saturatesFloat() { return (core().sprs[kCtrlSpr] & kCtrlInfNan) == 0; }
bool saturatesCast() { return (core().sprs[kCtrlSpr] & kCtrlCastWraps) == 0; }

void runVec(const Vec& v, const Lanes& l) {
  if (l.repeats == 0) return;
  Instr instr(Pipe::V, v.mnemonic);
  instr.event.repeats = l.repeats;
  instr.event.dtype =
      v.sources == 0 || v.dst.elementBytes > v.src[0].elementBytes ? v.dstType : v.srcType;
  describe(instr.event.vdst, v.dst);
  if (v.sources > 0) describe(instr.event.vsrc0, v.src[0]);
  if (v.sources > 1) describe(instr.event.vsrc1, v.src[1]);

  static const char* const kNames[2] = {"the first source", "the second source"};
  requireUb(v.dst.place, "the destination");
  alignOperand(instr, v.dst, "the destination");
  checkStride(v.dst, l);
  const Extent to = extentOf(v.dst, l);
  bool apart = true, dense = l.full && v.dst.dense(l);
  for (uint32_t s = 0; s < v.sources; ++s) {
    const Operand& o = v.src[s];
    requireUb(o.place, kNames[s]);
    alignOperand(instr, o, v.sources == 1 ? "the source" : kNames[s]);
    declare(instr, o, l, false);
    dense = dense && o.dense(l) && o.place.address % o.elementBytes == 0;
    if (!extentOf(o, l).meets(to) || sameRegion(v.dst, o, l)) continue;
    // Count forms of the same tensor in place end here too when their tail is partial.
    apart = false;
    if (checking(kParam))
      checkOverlap({v.dst, o, l, v.sources == 1 ? "the source" : kNames[s], v.carries && s == 1});
  }
  if (v.readsDst) declare(instr, v.dst, l, false);
  declare(instr, v.dst, l, true);
  dense = dense && apart && v.dst.place.address % v.dst.elementBytes == 0;

  const LineArgs args = {v.op, v.dstType, v.srcType, v.round, saturatesFloat(), saturatesCast(),
                         v.f,  v.i};
  const LineFn line = lineFunction();
  uint8_t* d = host(v.dst);
  const uint8_t* a = v.sources > 0 ? host(v.src[0]) : nullptr;
  const uint8_t* b = v.sources > 1 ? host(v.src[1]) : nullptr;
  if (dense) {
    const uint64_t n = l.elements();
    for (uint64_t at = 0; at < n; at += kDense) {
      const auto m = static_cast<uint32_t>(std::min<uint64_t>(kDense, n - at));
      uint8_t* out = d + at * v.dst.elementBytes;
      if (v.sources == 0)
        makeLine(v, out, at, m);
      else
        line(args, out, a + at * v.src[0].elementBytes,
             b != nullptr ? b + at * v.src[1].elementBytes : nullptr, m);
    }
    return;
  }
  alignas(32) uint8_t lines[3][1024] = {};
  Bits bits = activeBits(l, 0);
  for (uint32_t r = 0; r < l.repeats; ++r) {
    if (r + 1 == l.repeats) bits = activeBits(l, r);
    if (v.sources == 0) {
      makeLine(v, lines[0], static_cast<uint64_t>(r) * l.lanes, l.lanes);
    } else {
      gather(v.src[0], l, bits, r, a, lines[1]);
      if (v.sources > 1) gather(v.src[1], l, bits, r, b, lines[2]);
      if (v.readsDst) gather(v.dst, l, bits, r, d, lines[0]);
      line(args, lines[0], lines[1], lines[2], l.lanes);
    }
    scatter(v.dst, l, bits, r, d, lines[0]);
  }
}

}  // namespace ascsim
