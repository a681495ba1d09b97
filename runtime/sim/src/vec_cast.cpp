#include "ascsim/vec_cast.h"

namespace ascsim {
namespace {
const char* const kModes[] = {"CAST_NONE",  "CAST_RINT",  "CAST_FLOOR", "CAST_CEIL",
                              "CAST_ROUND", "CAST_TRUNC", "CAST_ODD",   "CAST_HYBRID"};
}

Vec castVec(DType dst, DType src, AscendC::RoundMode mode) {
  const int m = static_cast<int>(mode);
  // CAST_NONE is CAST_RINT wherever the conversion loses precision.
  if (m != 0 && (m < 0 || m > 7 || ((castModes(src, dst) >> m) & 1) == 0))
    report(kParam, "%s to %s has no rounding mode %s; see the table of types of Cast",
           dtypeName(src), dtypeName(dst), m >= 0 && m <= 7 ? kModes[m] : "of this value");
  Vec v;
  v.op = VecOp::Cast;
  v.mnemonic = src == DType::I32 && dst == DType::F16 ? "vconv_deq" : "vconv";
  v.dstType = dst;
  v.srcType = src;
  v.sources = 1;
  v.round = static_cast<int8_t>(m);
  if (src == DType::I32 && dst == DType::F16) {
    v.f = deqScaleHalf();
    v.round = 0;
  }
  return v;
}

Lanes pairLanes(const Lanes& l) {
  Lanes p = l;
  p.lanes = l.lanes / 2;
  p.tail = (l.tail + 1) / 2;
  if ((l.tail & 1) != 0)
    report(kParam,
           "the count of int4b_t elements is odd; expected an even number, two share a byte");
  p.bits[0] = p.bits[1] = 0;
  for (uint32_t i = 0; i < p.lanes; ++i) {
    const uint64_t two = (l.bits[(2 * i) >> 6] >> ((2 * i) & 63)) & 3;
    if (!l.full && (two == 1 || two == 2)) {
      report(kParam,
             "the mask selects one of the two int4b_t elements %u and %u, which share a byte; "
             "expected both or none",
             2 * i, 2 * i + 1);
      break;
    }
    if (two != 0) p.bits[i >> 6] |= 1ull << (i & 63);
  }
  return p;
}

float deqScaleHalf() {
  if (core().sprs[kDeqSetSpr] != static_cast<uint64_t>(DeqKind::Half)) {
    report(kParam,
           "int32_t to half multiplies by the scale of SetDeqScale(half), which was not called "
           "before; a scale of 1 is taken");
    return 1.0f;
  }
  return bitsFloat(static_cast<uint32_t>(core().sprs[kDeqScaleSpr]));
}

namespace {
// The multiplier has 10 bits of fraction.
uint64_t packDeq(float scale, int16_t offset, bool signMode) {
  return floatBits(scale) | (static_cast<uint64_t>(static_cast<uint16_t>(offset) & 0x1ffu) << 37) |
         (static_cast<uint64_t>(signMode) << 46);
}
}  // namespace

void setDeqScale(float scale, DeqKind kind, int16_t offset, bool signMode) {
  Core& c = core();
  c.sprs[kDeqSetSpr] = static_cast<uint64_t>(kind);
  c.sprs[kDeqScaleSpr] =
      kind == DeqKind::Half ? floatBits(scale) : packDeq(scale, offset, signMode);
  if (kind == DeqKind::Value) checkRange("the offset", offset, -256, 255);
  Instr i(Pipe::S, "set_spr");
}

void setDeqTensor(const Place& vdeq, const AscendC::VdeqInfo& info) {
  {
    Instr i(Pipe::S, "set_spr");
    i.align(vdeq, 32, "the tensor of scales");
    i.write(vdeq, 0, 128);
    auto* words = reinterpret_cast<uint64_t*>(core().ptr(vdeq.mem, vdeq.address));
    for (int k = 0; k < 16; ++k)
      words[k] = packDeq(info.vdeqScale[k], info.vdeqOffset[k], info.vdeqSignMode[k]);
  }
  core().sprs[kDeqSetSpr] = static_cast<uint64_t>(DeqKind::Tensor);
  core().sprs[kDeqScaleSpr] = vdeq.address;
}

void castDequant8(const Operand& dst, const Operand& src, const Lanes& l, bool isVecDeq,
                  bool halfBlock, bool isSigned) {
  if (l.repeats == 0) return;
  const auto kind = static_cast<DeqKind>(core().sprs[kDeqSetSpr]);
  if (kind != (isVecDeq ? DeqKind::Tensor : DeqKind::Value))
    fail(kParam, "int16_t to 8 bits %s vector quantisation needs SetDeqScale(%s) before",
         isVecDeq ? "with" : "without", isVecDeq ? "tensor, VdeqInfo" : "scale, offset, signMode");
  requireUb(dst.place, "the destination");
  requireUb(src.place, "the source");
  Instr i(Pipe::V, "vconv_deq");
  i.event.repeats = l.repeats;
  i.event.dtype = DType::I16;
  describe(i.event.vdst, dst);
  describe(i.event.vsrc0, src);
  alignOperand(i, dst, "the destination");
  alignOperand(i, src, "the source");
  declare(i, src, l, false);
  uint64_t words[16];
  if (isVecDeq) {
    const uint64_t at = core().sprs[kDeqScaleSpr];
    i.read(Mem::UB, at, 128);
    __builtin_memcpy(words, core().ptr(Mem::UB, at), 128);
  } else {
    std::fill(words, words + 16, core().sprs[kDeqScaleSpr]);
  }
  for (const uint64_t w : words)
    if (((w >> 46) & 1) != static_cast<uint64_t>(isSigned)) {
      report(kParam, "signMode of SetDeqScale is %d, but the destination is %s",
             static_cast<int>((w >> 46) & 1), isSigned ? "int8_t" : "uint8_t");
      break;
    }
  const uint32_t shift = halfBlock ? 16 : 0;
  uint8_t* d = host(dst);
  const uint8_t* s = host(src);
  for (uint32_t r = 0; r < l.repeats; ++r)
    for (uint32_t b = 0; b < l.lanes / 16; ++b) {
      const uint64_t to = (static_cast<uint64_t>(r) * dst.repeatStride +
                           static_cast<uint64_t>(b) * dst.blockStride) *
                          32;
      uint32_t mask = 0;
      for (uint32_t k = 0; k < 16; ++k) mask |= l.active(r, b * 16 + k) ? 1u << (k + shift) : 0u;
      if (mask == 0) continue;
      i.writeMasked(dst.place, to, mask);
      uint8_t out[16];
      for (uint32_t k = 0; k < 16; ++k) {
        if (((mask >> (k + shift)) & 1) == 0) continue;
        int16_t x;
        __builtin_memcpy(&x, s + src.offset(r, b * 16 + k), 2);
        const float scale = bitsFloat(static_cast<uint32_t>(words[k]) & ~0x1fffu);
        const auto raw = static_cast<int32_t>((words[k] >> 37) & 0x1ff);
        const double v =
            __builtin_nearbyint(static_cast<double>(x) * scale) + (raw >= 256 ? raw - 512 : raw);
        const double low = isSigned ? -128 : 0, high = isSigned ? 127 : 255;
        out[k] = static_cast<uint8_t>(static_cast<int32_t>(std::clamp(v, low, high)));
      }
      for (uint32_t k = 0; k < 16; ++k)
        if (((mask >> (k + shift)) & 1) != 0) d[to + k + shift] = out[k];
    }
}

}  // namespace ascsim
