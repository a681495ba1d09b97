#include "ascsim/vec_compare.h"

#include "vec_lines.h"

namespace ascsim {
namespace {

using AscendC::CMPMODE;
using AscendC::SELMODE;

void describe3(Instr& i, const Operand& a, const Operand* b) {
  describe(i.event.vsrc0, a);
  if (b != nullptr) describe(i.event.vsrc1, *b);
}

template <class T>
void compareBits(CMPMODE mode, const T* x, const T* y, bool scalar, uint32_t n, uint8_t* bits) {
  auto pack = [&](auto f) {
    for (uint32_t i = 0; i < n; i += 8) {
      uint32_t b = 0;
      for (uint32_t k = 0; k < 8; ++k)
        b |= static_cast<uint32_t>(f(x[i + k], y[scalar ? 0 : i + k])) << k;
      bits[i / 8] = static_cast<uint8_t>(b);
    }
  };
  switch (mode) {
    case CMPMODE::LT:
      return pack([](T a, T b) { return a < b; });
    case CMPMODE::GT:
      return pack([](T a, T b) { return a > b; });
    case CMPMODE::EQ:
      return pack([](T a, T b) { return a == b; });
    case CMPMODE::LE:
      return pack([](T a, T b) { return a <= b; });
    case CMPMODE::GE:
      return pack([](T a, T b) { return a >= b; });
    default:
      return pack([](T a, T b) { return a != b; });
  }
}

// One repeat of an operand, densely; half as float.
void loadRepeat(const Operand& o, DType type, uint32_t repeat, uint32_t lanes, float* out) {
  alignas(32) uint8_t raw[256];
  const uint8_t* p = host(o);
  const uint32_t per = 32 / o.elementBytes;
  for (uint32_t first = 0; first < lanes; first += per)
    __builtin_memcpy(raw + first * o.elementBytes, p + o.offset(repeat, first), 32);
  if (type == DType::F16) {
    const LineArgs args = {VecOp::Cast, DType::F32, DType::F16, 0, false, false, 0, 0};
    lineFunction()(args, out, raw, nullptr, lanes);
  } else {
    __builtin_memcpy(out, raw, lanes * 4);
  }
}

void compareRepeat(const CompareArgs& a, uint32_t repeat, uint32_t lanes, uint8_t* bits) {
  alignas(32) float x[128], y[128];
  loadRepeat(a.src0, a.type, repeat, lanes, x);
  if (!a.scalar)
    loadRepeat(a.src1, a.type, repeat, lanes, y);
  else if (a.type == DType::I32) {
    const auto v = static_cast<int32_t>(a.i);
    __builtin_memcpy(y, &v, 4);
  } else {
    y[0] = a.f;
  }
  if (a.type == DType::I32)
    compareBits(a.mode, reinterpret_cast<const int32_t*>(x), reinterpret_cast<const int32_t*>(y),
                a.scalar, lanes, bits);
  else
    compareBits(a.mode, x, y, a.scalar, lanes, bits);
}

void prepare(Instr& i, const CompareArgs& a, const Lanes& l) {
  i.event.repeats = l.repeats;
  i.event.dtype = a.type;
  describe3(i, a.src0, a.scalar ? nullptr : &a.src1);
  requireUb(a.src0.place, "the first source");
  alignOperand(i, a.src0, "the first source");
  declare(i, a.src0, l, false);
  if (!a.scalar) {
    requireUb(a.src1.place, "the second source");
    alignOperand(i, a.src1, "the second source");
    declare(i, a.src1, l, false);
  }
  if (a.type == DType::I32 && a.mode != CMPMODE::EQ)
    report(kParam, "int32_t is only compared for CMPMODE::EQ on this chip");
  if (static_cast<int>(a.mode) > static_cast<int>(CMPMODE::NE))
    report(kParam, "CMPMODE is %d; expected LT, GT, EQ, LE, GE or NE", static_cast<int>(a.mode));
}

}  // namespace

Lanes lanesOfCompareRepeats(int64_t repeats, uint32_t elementBytes) {
  checkRange("repeatTime", repeats, 0, 255);
  return lanesOfCount(std::clamp<int64_t>(repeats, 0, 255) * (256 / elementBytes), elementBytes);
}

Lanes lanesOfCompare(int64_t count, uint32_t elementBytes) {
  const int64_t lanes = 256 / elementBytes;
  if (count % lanes != 0)
    report(kParam,
           "the count %lld takes %lld bytes; expected a multiple of 256 bytes (%lld elements): the "
           "last %lld elements are not compared",
           static_cast<long long>(count), static_cast<long long>(count * elementBytes),
           static_cast<long long>(lanes), static_cast<long long>(count % lanes));
  return lanesOfCount(count / lanes * lanes, elementBytes);
}

void compareToTensor(const CompareArgs& args, const Place& dst, const Lanes& l) {
  if (l.repeats == 0) return;
  CompareArgs a = args;
  Instr i(Pipe::V, a.scalar ? "vcmpvs" : "vcmpv");
  prepare(i, a, l);
  requireUb(dst, "the destination");
  i.align(dst, 32, "the destination");
  i.event.vdst.address = static_cast<uint32_t>(dst.address);
  const uint32_t bytes = l.lanes / 8;
  i.write(dst, 0, static_cast<uint64_t>(l.repeats) * bytes);
  uint8_t* out = core().ptr(dst.mem, dst.address);
  for (uint32_t r = 0; r < l.repeats; ++r) {
    uint8_t bits[16];
    compareRepeat(a, r, l.lanes, bits);
    __builtin_memcpy(out + static_cast<uint64_t>(r) * bytes, bits, bytes);
  }
}

void compareToRegister(const CompareArgs& a, const Lanes& l) {
  if (l.repeats == 0) return;
  Instr i(Pipe::V, "vcmpv");
  prepare(i, a, l);
  uint64_t bits[2] = {0, 0};
  for (uint32_t lane = 0; lane < l.lanes; ++lane) {
    if (!l.active(0, lane)) continue;
    float x, y;
    if (a.type == DType::F16) {
      uint16_t h[2];
      __builtin_memcpy(&h[0], host(a.src0) + a.src0.offset(0, lane), 2);
      __builtin_memcpy(&h[1], host(a.src1) + a.src1.offset(0, lane), 2);
      x = halfBitsToFloat(h[0]);
      y = halfBitsToFloat(h[1]);
    } else {
      __builtin_memcpy(&x, host(a.src0) + a.src0.offset(0, lane), 4);
      __builtin_memcpy(&y, host(a.src1) + a.src1.offset(0, lane), 4);
    }
    bool b = false;
    switch (a.mode) {
      case CMPMODE::LT:
        b = x < y;
        break;
      case CMPMODE::GT:
        b = x > y;
        break;
      case CMPMODE::EQ:
        b = x == y;
        break;
      case CMPMODE::LE:
        b = x <= y;
        break;
      case CMPMODE::GE:
        b = x >= y;
        break;
      default:
        b = x != y;
        break;
    }
    if (b) bits[lane >> 6] |= 1ull << (lane & 63);
  }
  core().sprs[kCmpMaskSpr] = bits[0];
  core().sprs[kCmpMaskSpr + 1] = bits[1];
}

void getCmpMask(const Place& dst) {
  Instr i(Pipe::V, "vcopy");
  i.event.repeats = 1;
  requireUb(dst, "the destination");
  i.align(dst, 16, "the destination");
  if (dst.limit != ~0ull && dst.limit - dst.address < 128 && checking(kBounds))
    report(kBounds, "the destination has %llu bytes; expected 128 or more",
           static_cast<unsigned long long>(dst.limit - dst.address));
  i.write(dst, 0, 16);
  __builtin_memcpy(core().ptr(dst.mem, dst.address), &core().sprs[kCmpMaskSpr], 16);
}

void setCmpMask(const Place& src) {
  Instr i(Pipe::V, "vcopy");
  i.event.repeats = 1;
  requireUb(src, "the source");
  i.align(src, 16, "the source");
  // Of 16 bytes, 32-bit types use the first 8, a scalar its own.
  i.readPadding(src.mem, src.address, 16);
  __builtin_memcpy(&core().sprs[kCmpMaskSpr], core().ptr(src.mem, src.address), 16);
}

namespace {

// Of a mask whose address a kernel put into CmpMask: an offset in UB, or the low half of a pointer.
Place maskByAddress(uint64_t word) {
  Place p;
  p.mem = Mem::UB;
  p.limit = memSize(Mem::UB);
  const auto base = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(core().ptr(Mem::UB, 0)));
  const uint32_t relative = static_cast<uint32_t>(word) - base;
  p.address = relative < p.limit ? relative : static_cast<uint32_t>(word);
  if (p.address >= p.limit)
    fail(kParam,
         "CmpMask holds no address of UB (0x%llx); expected SetCmpMask of a tensor with the "
         "address of the selection mask",
         static_cast<unsigned long long>(word));
  return p;
}

}  // namespace

void selectLanes(SelectArgs a, const Lanes& l) {
  const bool wantsScalar = a.mode == SELMODE::VSEL_TENSOR_SCALAR_MODE;
  if (wantsScalar != a.scalar)
    fail(kParam, "the second source is a %s, which does not go with SELMODE %d; expected %s",
         a.scalar ? "scalar" : "tensor", static_cast<int>(a.mode),
         a.scalar ? "VSEL_TENSOR_SCALAR_MODE" : "VSEL_CMPMASK_SPR or VSEL_TENSOR_TENSOR_MODE");
  if (l.repeats == 0) return;
  Core& c = core();
  const uint32_t size = a.dst.elementBytes;
  Instr i(Pipe::V, "vsel");
  i.event.repeats = l.repeats;
  i.event.dtype = a.type;
  describe(i.event.vdst, a.dst);
  describe3(i, a.src0, a.scalar ? nullptr : &a.src1);
  requireUb(a.dst.place, "the destination");
  requireUb(a.src0.place, "the first source");
  alignOperand(i, a.dst, "the destination");
  alignOperand(i, a.src0, "the first source");
  declare(i, a.src0, l, false);
  if (!a.scalar) {
    requireUb(a.src1.place, "the second source");
    alignOperand(i, a.src1, "the second source");
    declare(i, a.src1, l, false);
  }
  uint8_t first[16];
  const uint8_t* bits = first;
  const bool reused = a.mode == SELMODE::VSEL_CMPMASK_SPR;
  if (a.fromRegister && reused) {
    __builtin_memcpy(first, &c.sprs[kCmpMaskSpr], 16);
  } else {
    if (a.fromRegister && a.scalar) __builtin_memcpy(&a.value, &c.sprs[kCmpMaskSpr], size);
    if (a.fromRegister && !a.scalar) a.selMask = maskByAddress(c.sprs[kCmpMaskSpr]);
    requireUb(a.selMask, "the selection mask");
    i.align(a.selMask, 32, "the selection mask");
    // Up to the last lane in use.
    uint32_t last = l.lanes;
    while (last > 0 && !l.active(l.repeats - 1, last - 1)) --last;
    if (reused && l.repeats > 1) last = l.lanes;
    const uint64_t used = reused ? last : static_cast<uint64_t>(l.repeats - 1) * l.lanes + last;
    i.read(a.selMask, 0, (used + 7) / 8);
    bits = c.ptr(a.selMask.mem, a.selMask.address);
    if (reused) {
      __builtin_memcpy(first, bits, (last + 7) / 8);
      bits = first;
      __builtin_memcpy(&c.sprs[kCmpMaskSpr], first, l.lanes / 8);
    }
  }
  declare(i, a.dst, l, true);
  uint8_t* d = host(a.dst);
  const uint8_t* x = host(a.src0);
  const uint8_t* y = a.scalar ? nullptr : host(a.src1);
  auto run = [&](auto zero) {
    using T = decltype(zero);
    const T value = static_cast<T>(a.value);
    const uint32_t per = 32 / sizeof(T);
    T line[128];
    for (uint32_t r = 0; r < l.repeats; ++r) {
      const uint8_t* sel = reused ? bits : bits + static_cast<uint64_t>(r) * (l.lanes / 8);
      const bool all = l.full && (l.tail == 0 || r + 1 < l.repeats);
      for (uint32_t b = 0; b < l.lanes; b += per) {
        const T* px = reinterpret_cast<const T*>(x + a.src0.offset(r, b));
        const T* py = a.scalar ? nullptr : reinterpret_cast<const T*>(y + a.src1.offset(r, b));
        for (uint32_t k = 0; k < per; ++k) {
          if (!all && !l.active(r, b + k)) continue;
          const bool one = ((sel[(b + k) / 8] >> ((b + k) % 8)) & 1) != 0;
          line[b + k] = one ? px[k] : a.scalar ? value : py[k];
        }
      }
      for (uint32_t b = 0; b < l.lanes; b += per) {
        T* pd = reinterpret_cast<T*>(d + a.dst.offset(r, b));
        for (uint32_t k = 0; k < per; ++k)
          if (all || l.active(r, b + k)) pd[k] = line[b + k];
      }
    }
  };
  if (size == 2)
    run(uint16_t{0});
  else
    run(uint32_t{0});
}

}  // namespace ascsim
