// Fixpipe: takes results out of L0C, quantises, applies relu, changes the layout.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "internal.h"
#include "move.h"

namespace ascsim {
namespace {

// One quantisation parameter. The scale keeps 10 bits of fraction.
struct Quant {
  float scale;
  int shift;      // with the mode bit: the value is shifted right first
  int offset;     // 9 bits, signed
  bool isSigned;  // 8-bit results: int8_t, else uint8_t
};

Quant quantOf(uint64_t bits) {
  Quant q;
  q.scale = bitsFloat(static_cast<uint32_t>(bits) & ~0x1fffu);
  q.shift = (bits >> 36) & 1 ? static_cast<int>((bits >> 32) & 15) : -1;
  const int o = static_cast<int>((bits >> 37) & 0x1ff);
  q.offset = o >= 256 ? o - 512 : o;
  q.isSigned = ((bits >> 46) & 1) != 0;
  return q;
}

enum class Mode { None, CastHalf, CastBfloat, Deq, Quant8F, Req8 };

struct Plan {
  Mode mode;
  bool vector;
};

Plan planOf(QuantMode_t quant, DType src, DType dst) {
  Plan p{Mode::None, false};
  DType wantSrc = DType::F32;
  switch (quant) {
    case NoQuant:
      if (src == dst && (src == DType::F32 || src == DType::I32)) return p;
      fail(kParam,
           "quantPre is NoQuant, but the result goes from %s to %s; set F322F16, F322BF16, DEQF16, "
           "QF322B8_PRE or REQ8 (or their V forms)",
           dtypeName(src), dtypeName(dst));
    case F322F16:
      p.mode = Mode::CastHalf;
      break;
    case F322BF16:
      p.mode = Mode::CastBfloat;
      break;
    case DEQF16:
    case VDEQF16:
      p.mode = Mode::Deq;
      wantSrc = DType::I32;
      break;
    case QF322B8_PRE:
    case VQF322B8_PRE:
      p.mode = Mode::Quant8F;
      break;
    case REQ8:
    case VREQ8:
      p.mode = Mode::Req8;
      wantSrc = DType::I32;
      break;
    default:
      fail(kChip, "quantPre %d does not exist on %s, or is not modelled", static_cast<int>(quant),
           options().chip->name);
  }
  p.vector = quant == VDEQF16 || quant == VQF322B8_PRE || quant == VREQ8;
  const bool fits = p.mode == Mode::CastHalf || p.mode == Mode::Deq ? dst == DType::F16
                    : p.mode == Mode::CastBfloat ? dst == DType::BF16
                                                 : dst == DType::I8 || dst == DType::U8;
  if (src != wantSrc || !fits)
    fail(kParam, "quantPre %d does not go from %s to %s", static_cast<int>(quant), dtypeName(src),
         dtypeName(dst));
  return p;
}

uint8_t to8(float scaled, const Quant& q) {
  const float v = std::isnan(scaled) ? 0.0f : std::nearbyintf(std::clamp(scaled, -256.0f, 255.0f));
  const int r = static_cast<int>(v) + q.offset;
  return static_cast<uint8_t>(q.isSigned ? std::clamp(r, -128, 127) : std::clamp(r, 0, 255));
}

uint16_t toHalfSaturated(float v) {
  if (std::isnan(v)) return floatToHalfBits(v);
  return floatToHalfBits(std::clamp(v, -65504.0f, 65504.0f));
}

// Converts one element; out has the destination's size.
void convert(const uint8_t* in, uint8_t* out, const Plan& plan, const Quant& q, const FixOut& p,
             DType src, float clip) {
  if (plan.mode == Mode::None) {
    if (src == DType::I32) {
      int32_t v;
      std::memcpy(&v, in, 4);
      if (p.relu && v < 0) v = 0;
      std::memcpy(out, &v, 4);
      return;
    }
    float v;
    std::memcpy(&v, in, 4);
    if (p.relu && v < 0) v = 0;
    std::memcpy(out, &v, 4);
    return;
  }
  float v;
  if (src == DType::I32) {
    int32_t n;
    std::memcpy(&n, in, 4);
    if (q.shift >= 0 && plan.mode != Mode::CastHalf && plan.mode != Mode::CastBfloat) {
      n >>= q.shift;
      if (plan.mode == Mode::Req8) n = std::clamp(n, -32768, 32767);
    }
    v = static_cast<float>(n);
  } else {
    std::memcpy(&v, in, 4);
  }
  if (plan.mode != Mode::CastHalf && plan.mode != Mode::CastBfloat) v *= q.scale;
  if (p.relu && v < 0) v = 0;
  uint16_t h;
  switch (plan.mode) {
    case Mode::CastHalf:
      h = floatToHalfBits(v);
      break;
    case Mode::CastBfloat:
      h = floatToBfloatBits(v);
      break;
    case Mode::Deq:
      h = toHalfSaturated(v);
      if (p.clipRelu && halfBitsToFloat(h) > clip) h = floatToHalfBits(clip);
      break;
    default:
      *out = to8(v, q);
      return;
  }
  std::memcpy(out, &h, 2);
}

void unitFlagBefore(const Place& src, uint64_t bytes, uint8_t flag) {
  if (flag == 0) return;
  if (flag != 2 && flag != 3) report(kParam, "unitFlag is %u; expected 0, 2 or 3", flag);
  MoveState& st = moveState();
  st.unitFlags.resize(memSize(Mem::L0C) / 512);
  await(Pipe::FIX, st.unitWritten, st.unitWrittenToken);
  for (uint64_t b = src.address / 512;
       b < std::min<uint64_t>(st.unitFlags.size(), ceilDiv(src.address + bytes, 512)); ++b)
    if (st.unitFlags[b] == 0) {
      report(kFlag,
             "unitFlag: no Mmad with unitFlag 3 has finished the result at 0x%llx of L0C; Fixpipe "
             "would wait for it",
             static_cast<unsigned long long>(b * 512));
      return;
    }
}

void unitFlagAfter(const Place& src, uint64_t bytes, uint8_t flag) {
  if (flag != 3) return;
  MoveState& st = moveState();
  for (uint64_t b = src.address / 512;
       b < std::min<uint64_t>(st.unitFlags.size(), ceilDiv(src.address + bytes, 512)); ++b)
    st.unitFlags[b] = 0;
  signal(Pipe::FIX, st.unitRead, st.unitReadToken);
}

}  // namespace

void setFixQuantScalar(uint64_t bits) {
  Instr i(Pipe::S, "set_spr");
  moveState().quantScalar = bits;
}

void setFixQuantTensor(const Place& tensor, bool clearFlags) {
  Instr i(Pipe::S, "set_spr");
  MoveState& s = moveState();
  if (tensor.mem == Mem::FB) {
    s.quantTensor = tensor;
    s.quantTensorSet = true;
    i.align(tensor, 128, "the quantisation tensor");
  } else if (!clearFlags) {
    report(kParam, "the quantisation tensor lies in %s; expected FB (C2PIPE2GM)",
           memName(tensor.mem));
  }
  if (clearFlags) std::fill(s.unitFlags.begin(), s.unitFlags.end(), uint8_t{0});
}

void setFixNd(uint16_t ndNum, uint16_t srcNdStride, uint32_t dstNdStride) {
  Instr i(Pipe::S, "set_spr");
  MoveState& s = moveState();
  s.ndNum = ndNum;
  s.srcNdStride = srcNdStride;
  s.dstNdStride = dstNdStride;
}

void setFixClipRelu(uint64_t bits) {
  Instr i(Pipe::S, "set_spr");
  moveState().clipRelu = bits;
}

void dataCopyOut(const Place& dst, const Place& src, const AscendC::DataCopyCO12DstParams& p,
                 DType dstType, DType srcType) {
  const MoveState& s = moveState();
  const bool wide = options().chip->npuArch >= 3510;
  if (p.eltWiseOp != 0) notOnChip("eltWiseOp of DataCopyCO12DstParams");
  if (p.reluPre > 1) notOnChip("reluPre other than 0 and 1");
  FixOut f;
  f.n = p.nSize;
  f.m = p.mSize;
  f.srcStride = p.srcStride;
  f.nd = p.nz2ndEn;
  f.dstStride = f.nd ? p.dstStride : p.dstStride * (wide ? sizeOf(dstType) : 32ull);
  if (f.nd) {
    f.ndNum = s.ndNum;
    f.srcNdStride = s.srcNdStride * (wide ? 64ull : 1024ull);
    f.dstNdStride = s.dstNdStride;
  }
  f.relu = p.reluPre == 1;
  f.clipRelu = p.clipReluPre != 0;
  f.channelSplit = p.channelSplit;
  f.unitFlag = p.unitFlag;
  f.quant = p.quantPre;
  f.scalar = s.quantScalar;
  f.useRegisters = true;
  fixOut(dst, src, nullptr, f, dstType, srcType);
}

void fixOut(const Place& dst, const Place& src, const Place* quantTensor, const FixOut& p,
            DType dstType, DType srcType) {
  if (src.mem != Mem::L0C)
    fail(kParam, "the source lies in %s; expected L0C (CO1)", memName(src.mem));
  if (dst.mem != Mem::GM && dst.mem != Mem::L1) {
    if (dst.mem == Mem::UB) notOnChip("the path from L0C to UB");
    fail(kParam, "the destination lies in %s; expected GM or L1", memName(dst.mem));
  }
  checkRange("nSize", p.n, 0, 4095);
  if (p.nd) checkRange("mSize", p.m, 0, 8192);
  if (p.n == 0 || p.m == 0 || p.ndNum == 0) return;
  const Plan plan = planOf(p.quant, srcType, dstType);
  if (!p.nd && p.n % (p.channelSplit ? 8 : 16) != 0)
    report(kParam, "nSize is %u; expected a multiple of %d for NZ results", p.n,
           p.channelSplit ? 8 : 16);
  if (p.channelSplit && (p.nd || srcType != DType::F32 || dstType != DType::F32))
    report(kParam, "channelSplit is for float results in NZ only");
  if (p.dstStride == 0)
    report(
        kParam, "dstStride is 0; expected %s",
        p.nd ? "the elements of a row of the result" : "the distance of two columns of fractals");
  if (p.nd && p.ndNum > 1 && (p.srcNdStride == 0 || p.srcNdStride > 512 * 1024))
    report(kParam, "srcNdStride is %llu fractals; expected 1 to 512 with ndNum > 1",
           static_cast<unsigned long long>(p.srcNdStride / 1024));
  if (dst.mem == Mem::GM) checkAtomicType(dstType);

  const uint64_t size = sizeOf(dstType);
  const uint64_t columns = ceilDiv(p.n, 16);
  const uint64_t srcColumn = p.srcStride * 64ull;
  const uint64_t nds = p.nd ? p.ndNum : 1;
  const uint64_t reach = (nds - 1) * p.srcNdStride + (columns - 1) * srcColumn + p.m * 64ull;
  if (columns > 1 && p.srcStride < p.m)
    report(kParam,
           "srcStride is %u rows, less than the %u rows of the matrix; expected m rounded up to 16",
           p.srcStride, p.m);

  // Quantisation parameters: one, or one per column.
  std::vector<Quant> quants(1, quantOf(p.scalar));
  if (plan.vector) {
    const Place* tensor = quantTensor;
    if (tensor == nullptr) {
      MoveState& s = moveState();
      if (!p.useRegisters || !s.quantTensorSet)
        fail(kParam, "quantPre %d takes one parameter per column, but no tensor is given (%s)",
             static_cast<int>(p.quant), p.useRegisters ? "SetFixPipeConfig" : "cbufWorkspace");
      tensor = &s.quantTensor;
    } else if (tensor->mem != Mem::L1) {
      fail(kParam, "the quantisation tensor lies in %s; expected L1 (C1, A1)",
           memName(tensor->mem));
    }
    const uint64_t bytes = p.n * 8ull;
    Instr q(Pipe::FIX, tensor->mem == Mem::L1 ? "mte_l1_fb" : "set_spr");
    q.align(*tensor, 32, "the quantisation tensor");
    q.read(*tensor, 0, bytes);
    q.event.src = tensor->mem;
    q.event.dst = Mem::FB;
    q.event.dtype = DType::U64;
    q.event.bytes = bytes;
    q.event.bursts = 1;
    quants.resize(p.n);
    const uint8_t* h = hostPtr(*tensor);
    for (uint32_t n = 0; n < p.n; ++n) {
      uint64_t bits;
      std::memcpy(&bits, h + n * 8ull, 8);
      quants[n] = quantOf(bits);
    }
  }
  if (plan.mode == Mode::Quant8F || plan.mode == Mode::Req8)
    for (const Quant& q : quants)
      if (q.isSigned != (dstType == DType::I8)) {
        report(kParam, "the quantisation parameter says %s (bit 46), the destination is %s",
               q.isSigned ? "int8_t" : "uint8_t", dtypeName(dstType));
        break;
      }

  unitFlagBefore(src, reach, p.unitFlag);
  {
    const bool gm = dst.mem == Mem::GM;
    Instr i(Pipe::FIX, gm ? "fix_l0c_gm" : "fix_l0c_l1");
    i.align(src, 64, "the source");
    if (gm) {
      if (dst.address == 0)
        fail(kBounds, "the GlobalTensor has no address; call SetGlobalBuffer first");
      if (!p.nd && dst.address % 32 != 0)
        report(kAlign, "an NZ result goes to 0x%llx; expected a multiple of 32 bytes",
               static_cast<unsigned long long>(dst.address));
    } else {
      i.align(dst, 32, "the destination");
    }
    for (uint64_t nd = 0; nd < nds; ++nd)
      for (uint64_t c = 0; c < columns; ++c) {
        const uint64_t valid = std::min<uint64_t>(16, p.n - c * 16);
        const uint64_t at = nd * p.srcNdStride + c * srcColumn;
        if (valid == 16)
          i.read(src, at, p.m * 64ull);
        else
          declareRuns(i, moved(src, at), p.m, valid * 4, 64, false);
      }
    i.event.src = Mem::L0C;
    i.event.dst = dst.mem;
    i.event.dtype = dstType;
    i.event.bytes = nds * p.m * p.n * size;
    float clip = halfBitsToFloat(static_cast<uint16_t>(moveState().clipRelu));
    const uint8_t* in = hostPtr(src);
    // One run of a row: elements [first, first + count) to `offset` of the destination.
    std::vector<uint8_t> row(std::max<uint64_t>(p.n, 32) * size);
    auto convertRow = [&](uint64_t nd, uint64_t m, uint64_t first, uint64_t count) {
      for (uint64_t n = first; n < first + count; ++n)
        convert(in + nd * p.srcNdStride + n / 16 * srcColumn + m * 64 + n % 16 * 4,
                row.data() + (n - first) * size, plan, quants[plan.vector ? n : 0], p, srcType,
                clip);
    };
    auto put = [&](uint64_t offset, uint64_t bytes) {
      if (gm) {
        gmWrite(i, dst, offset, row.data(), bytes);
      } else {
        i.write(dst, offset, bytes);
        std::memcpy(hostPtr(dst) + offset, row.data(), bytes);
      }
    };
    if (p.nd) {
      const uint64_t span = ((nds - 1) * p.dstNdStride + (p.m - 1) * p.dstStride + p.n) * size;
      if (gm) gmEvent(i, dst, span, true);
      i.event.bursts = static_cast<uint32_t>(nds * p.m);
      for (uint64_t nd = 0; nd < nds; ++nd)
        for (uint64_t m = 0; m < p.m; ++m) {
          convertRow(nd, m, 0, p.n);
          put((nd * p.dstNdStride + m * p.dstStride) * size, p.n * size);
        }
    } else {
      // Columns of a block: 16, 8 with channelSplit, 32 for 8-bit results (an odd last one of 16).
      const uint64_t width = p.channelSplit ? 8 : size == 1 ? 32 : 16;
      const uint64_t blocks = ceilDiv(p.n, width);
      const uint64_t span =
          (blocks - 1) * p.dstStride + p.m * std::min<uint64_t>(width, p.n) * size;
      if (gm) gmEvent(i, dst, span, true);
      i.event.bursts = static_cast<uint32_t>(blocks);
      for (uint64_t b = 0; b < blocks; ++b) {
        const uint64_t count = std::min<uint64_t>(width, p.n - b * width);
        for (uint64_t m = 0; m < p.m; ++m) {
          convertRow(0, m, b * width, count);
          put(b * p.dstStride + m * count * size, count * size);
        }
      }
    }
  }
  unitFlagAfter(src, reach, p.unitFlag);
}

}  // namespace ascsim
