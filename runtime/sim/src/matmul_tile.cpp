// One tile of a product: moved to L0, multiplied, and its way to C.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "internal.h"
#include "matmul_work.h"

namespace ascsim::mm {

Tile& Engine::prepare(size_t index, size_t which, bool keep) {
  if (tiles_.size() <= which) tiles_.resize(which + 1);
  Tile& t = tiles_[which];
  const auto [row, col] = order_[index / static_cast<size_t>(kParts_)];
  t.row = row;
  t.col = col;
  t.k = kParts_ > 1 ? static_cast<int>(index % static_cast<size_t>(kParts_)) : -1;
  t.m = std::min(t_.baseM, sm_ - row * t_.baseM);
  t.n = std::min(t_.baseN, sn_ - col * t_.baseN);
  t.ld = alignUp(t.n, 16);
  const size_t size = static_cast<size_t>(t.m) * static_cast<size_t>(t.ld);
  if (intAcc()) {
    if (!keep || t.i.size() != size) t.i.assign(size, 0);
  } else if (!keep || t.f.size() != size) {
    t.f.assign(size, 0.0f);
  }
  return t;
}

void Engine::addBias(Tile& t) {
  const uint64_t n0 = static_cast<uint64_t>(t.col * t_.baseN), n = static_cast<uint64_t>(t.n);
  const DType type = desc_.bias.dtype;
  Place p = useBias_.place;
  if (p.mem == Mem::GM) p.limit = ~0ull;
  {
    Instr i(p.mem == Mem::GM ? Pipe::MTE2 : Pipe::MTE1,
            p.mem == Mem::GM ? "mte_gm_l1" : "mte_l1_bt");
    i.read(p, bytesFor(type, n0), bytesFor(type, n));
    i.event.src = p.mem;
    i.event.dst = p.mem == Mem::GM ? Mem::L1 : Mem::BT;
    i.event.bytes = bytesFor(type, n);
    i.event.bursts = 1;
    i.event.dtype = type;
    i.event.gmAddress = p.address + bytesFor(type, n0);
    i.event.gmSpan = i.event.bytes;
  }
  if (p.mem == Mem::GM) {
    Clock now;
    uint64_t token = 0;
    signal(Pipe::MTE2, now, token);
    await(Pipe::MTE1, now, token);
    Instr i(Pipe::MTE1, "mte_l1_bt");
    i.event.src = Mem::L1;
    i.event.dst = Mem::BT;
    i.event.bytes = bytesFor(type, n);
    i.event.bursts = 1;
  }
  const uint8_t* base = core().ptr(p.mem, p.address);
  if (intAcc()) {
    std::vector<int32_t> v(n);
    convertRun(type, base, n0, t.n, v.data());
    for (int m = 0; m < t.m; ++m)
      for (int x = 0; x < t.n; ++x)
        t.i[static_cast<size_t>(m * t.ld + x)] += v[static_cast<size_t>(x)];
  } else {
    std::vector<float> v(n);
    convertRun(type, base, n0, t.n, v.data());
    for (int m = 0; m < t.m; ++m)
      for (int x = 0; x < t.n; ++x)
        t.f[static_cast<size_t>(m * t.ld + x)] += v[static_cast<size_t>(x)];
  }
}

void Engine::compute(Tile& t, bool accumulateOn, const Sink* co1) {
  const int first = t.k < 0 ? 0 : t.k, last = t.k < 0 ? kSteps() : t.k + 1;
  const bool withBias = useBias_.set && desc_.cfg.enableSetBias && !accumulateOn && first == 0;
  if (withBias) addBias(t);
  t.slot = l0cNext_;
  l0cNext_ = (l0cNext_ + 1) % std::clamp(t_.dbL0C, 1, 2);
  if (l0cToken_[t.slot] != 0) await(Pipe::M, l0c_[t.slot], l0cToken_[t.slot]);
  const int row0 = t.row * t_.baseM, col0 = t.col * t_.baseN;
  const uint64_t kUnit = desc_.a.dtype == DType::I4 ? 64 : c0(desc_.a.dtype);
  for (int ks = first; ks < last; ++ks) {
    const int k0 = ks * t_.baseK, k = std::min(t_.baseK, sk_ - k0);
    Block& a = block(cacheA_, true, t.row / cacheA_.stepOuter, ks / cacheA_.stepK);
    Block& b = block(cacheB_, false, t.col / cacheB_.stepOuter, ks / cacheB_.stepK);
    for (Block* x : {&a, &b})
      if (x->readyToken != 0) {
        await(Pipe::MTE1, x->ready, x->readyToken);
        x->readyToken = 0;
      }
    const int s = l0Next_;
    l0Next_ = (l0Next_ + 1) % std::clamp(std::min(t_.dbL0A, t_.dbL0B), 1, 2);
    if (l0Token_[s] != 0) await(Pipe::MTE1, l0_[s], l0Token_[s]);
    auto toL0 = [&](bool isA, const char* name) {
      const Source& src = isA ? useA_ : useB_;
      Instr i(Pipe::MTE1, name);
      const int outers = isA ? t.m : t.n;
      if (!src.scalar && src.place.mem == Mem::L1)
        declareRegion(i, region(isA, isA ? row0 : col0, outers, k0, k));
      i.event.src = Mem::L1;
      i.event.dst = isA ? Mem::L0A : Mem::L0B;
      i.event.dtype = isA ? desc_.a.dtype : desc_.b.dtype;
      i.event.bytes =
          bytesFor(i.event.dtype, static_cast<uint64_t>(alignUp(outers, 16)) *
                                      alignUp<uint64_t>(static_cast<uint64_t>(k), kUnit));
      i.event.bursts = 1;
    };
    toL0(true, useA_.trans ? "mte_l1_l0a_t" : "mte_l1_l0a");
    toL0(false, useB_.trans ? "mte_l1_l0b" : "mte_l1_l0b_t");
    Clock loaded;
    uint64_t token = 0;
    signal(Pipe::MTE1, loaded, token);
    await(Pipe::M, loaded, token);
    {
      Instr i(Pipe::M, hf32_ && desc_.a.dtype == DType::F32 ? "mad_hf32"
                       : withBias && ks == first            ? "mad_bias"
                                                            : "mad");
      i.event.repeats = static_cast<uint32_t>(
          ceilDiv(t.m, 16) * ceilDiv(k, static_cast<int>(kUnit)) * ceilDiv(t.n, 16));
      i.event.dtype = desc_.a.dtype;
    }
    signal(Pipe::M, l0_[s], l0Token_[s]);
    // Blocks that a callback filled are read where they are: NZ in L1.
    auto fromL1 = [&](bool isA, auto* out, int ld) {
      const Cache& cache = isA ? cacheA_ : cacheB_;
      const Block& x = isA ? a : b;
      const int base = isA ? t_.baseM : t_.baseN, all = isA ? sm_ : sn_;
      const int outer0 = x.outer * cache.stepOuter * base, kk0 = x.k * cache.stepK * t_.baseK;
      const int outers = std::min(cache.stepOuter * base, all - outer0),
                kks = std::min(cache.stepK * t_.baseK, sk_ - kk0);
      const bool rowsAreOuter = isA != (isA ? useA_ : useB_).trans;
      const DType type = isA ? desc_.a.dtype : desc_.b.dtype;
      const uint64_t w = c0(type), rows = alignUp<uint64_t>(
                                       static_cast<uint64_t>(rowsAreOuter ? outers : kks), 16);
      const uint8_t* p = core().ptr(
          Mem::L1, cache.l1 + static_cast<uint32_t>(&x - cache.blocks.data()) * cache.blockBytes);
      const int o0 = (isA ? row0 : col0) - outer0, on = isA ? t.m : t.n, kAt = k0 - kk0;
      for (int o = 0; o < on; ++o)
        for (int y = 0; y < k; ++y) {
          const uint64_t r = static_cast<uint64_t>(rowsAreOuter ? o0 + o : kAt + y),
                         c = static_cast<uint64_t>(rowsAreOuter ? kAt + y : o0 + o);
          convertRun(type, p, (c / w * rows + r) * w + c % w, 1,
                     out + (isA ? o * ld + y : y * ld + o));
        }
    };
    const size_t needA = static_cast<size_t>(t.m) * static_cast<size_t>(k),
                 needB = static_cast<size_t>(k) * static_cast<size_t>(t.ld);
    auto multiply = [&](auto& va, auto& vb, auto& vc) {
      if (va.size() < needA) va.resize(needA);
      vb.assign(std::max(vb.size(), needB), 0);
      if (desc_.copyA != nullptr)
        fromL1(true, va.data(), k);
      else
        fetch(true, row0, t.m, k0, k, va.data(), k);
      if (desc_.copyB != nullptr)
        fromL1(false, vb.data(), t.ld);
      else
        fetch(false, col0, t.n, k0, k, vb.data(), t.ld);
      gemm(va.data(), k, vb.data(), t.ld, vc.data(), t.ld, t.m, k, t.ld);
    };
    if (intAcc())
      multiply(ia_, ib_, t.i);
    else
      multiply(fa_, fb_, t.f);
  }
  if (co1 != nullptr)
    tileToLocal(t, co1->place.address,
                std::min<uint64_t>(co1->bytes, co1->place.limit - co1->place.address), Pipe::M,
                accumulateOn);
  signal(Pipe::M, t.ready, t.token);
}

// The tile as L0C holds it: fractals of 16 x 16, columns of fractals first.
void Engine::tileToLocal(const Tile& t, uint64_t address, uint64_t bytes, Pipe pipe,
                         bool accumulateOn) {
  const int rows = alignUp(t.m, 16);
  const uint64_t need = static_cast<uint64_t>(rows) * static_cast<uint64_t>(t.ld) * 4;
  Instr i(pipe, "mad");
  i.event.cycles = 0;
  if (need > bytes)
    report(kBounds, "the result of one Iterate has %llu bytes, the tensor in L0C %llu",
           static_cast<unsigned long long>(need), static_cast<unsigned long long>(bytes));
  if (accumulateOn) i.read(Mem::L0C, address, need);
  i.write(Mem::L0C, address, need);
  uint8_t* p = core().ptr(Mem::L0C, address);
  for (int n = 0; n < t.ld; ++n)
    for (int m = 0; m < rows; ++m) {
      const size_t at = static_cast<size_t>((n / 16 * rows + m) * 16 + n % 16) * 4;
      if (at + 4 > bytes) continue;
      if (intAcc()) {
        int32_t v = m < t.m ? t.i[static_cast<size_t>(m * t.ld + n)] : 0;
        std::memcpy(p + at, &v, 4);
      } else {
        float v = m < t.m ? t.f[static_cast<size_t>(m * t.ld + n)] : 0.0f;
        std::memcpy(p + at, &v, 4);
      }
    }
}

// ------------------------------------------------------------------------------ C
void Engine::loadQuant(const Tile& t) {
  if (!hasQuantVector_) return;
  Place p = quantVector_;
  const uint64_t n0 = static_cast<uint64_t>(t.col * t_.baseN) * 8,
                 n = static_cast<uint64_t>(t.n) * 8;
  Clock now;
  uint64_t token = 0;
  if (p.mem == Mem::GM) {
    {
      Instr i(Pipe::MTE2, "mte_gm_l1");
      i.read(p, n0, n);
      i.event.src = Mem::GM;
      i.event.dst = Mem::L1;
      i.event.bytes = n;
      i.event.bursts = 1;
      i.event.gmAddress = p.address + n0;
      i.event.gmSpan = n;
    }
    signal(Pipe::MTE2, now, token);
    await(Pipe::FIX, now, token);
  }
  Instr i(Pipe::FIX, "mte_l1_fb");
  if (p.mem != Mem::GM) i.read(p, n0, n);
  i.event.src = Mem::L1;
  i.event.dst = Mem::FB;
  i.event.bytes = n;
  i.event.bursts = 1;
}

void Engine::convert(const Tile& t, int row, int col, int count, uint8_t* out) const {
  const DType c = desc_.c.dtype;
  const size_t at = static_cast<size_t>(row * t.ld + col);
  if (c == DType::F32 && !intAcc()) {
    std::memcpy(out, &t.f[at], static_cast<size_t>(count) * 4);
    return;
  }
  if (c == DType::I32) {
    std::memcpy(out, &t.i[at], static_cast<size_t>(count) * 4);
    return;
  }
  for (int x = 0; x < count; ++x) {
    float v = intAcc() ? static_cast<float>(t.i[at + static_cast<size_t>(x)])
                       : t.f[at + static_cast<size_t>(x)];
    int offset = 0;
    if (intAcc() || c == DType::I8) {
      uint64_t q = quant_;
      if (hasQuantVector_)
        std::memcpy(
            &q,
            core().ptr(quantVector_.mem, quantVector_.address +
                                             static_cast<uint64_t>(t.col * t_.baseN + col + x) * 8),
            8);
      v *= bitsFloat(static_cast<uint32_t>(q) & 0xffffe000u);
      offset = static_cast<int>(q >> 37 & 0x1ff);
      if (offset >= 256) offset -= 512;
    }
    if (c == DType::I8) {
      const float r = std::nearbyint(v) + static_cast<float>(offset);
      out[x] = static_cast<uint8_t>(
          static_cast<int8_t>(std::isnan(r) ? 0.0f : std::clamp(r, -128.0f, 127.0f)));
    } else if (c == DType::F32) {
      std::memcpy(out + 4 * x, &v, 4);
    } else {
      const uint16_t h = c == DType::BF16 ? floatToBfloatBits(v) : floatToHalfBits(v);
      std::memcpy(out + 2 * x, &h, 2);
    }
  }
}

// C in global memory, in the object's format.
void Engine::store(Tile& t, const Sink& sink) {
  const DType c = desc_.c.dtype;
  if ((intAcc() && c != DType::I32) || (!intAcc() && c == DType::I8)) {
    if (!hasQuant_ && !hasQuantVector_)
      fail(kParam,
           "C of %s from %s needs a scale: call SetQuantScalar or SetQuantVector before Iterate",
           dtypeName(c), dtypeName(desc_.a.dtype));
    loadQuant(t);
  }
  if (t.token != 0) await(Pipe::FIX, t.ready, t.token);
  const uint64_t m0 = static_cast<uint64_t>(t.row) * static_cast<uint64_t>(t_.baseM),
                 n0 = static_cast<uint64_t>(t.col) * static_cast<uint64_t>(t_.baseN);
  const Place& p = sink.place;
  if (desc_.copyOut != nullptr) {
    tileToLocal(t, 0, memSize(Mem::L0C), Pipe::M, false);
    Clock now;
    uint64_t token = 0;
    signal(Pipe::M, now, token);
    await(Pipe::FIX, now, token);
    struct {
      uint16_t cBurstNum, burstLen, srcStride;
      uint32_t dstStride;
      uint16_t oriNSize;
      bool enUnitFlag;
      uint64_t quantScalar, cbufWorkspaceAddr;
      uint32_t curM, curN;
    } params{static_cast<uint16_t>(t.ld / 16),
             static_cast<uint16_t>(t.m * 16 * 4 / 32),
             0,
             static_cast<uint32_t>(orgN()),
             static_cast<uint16_t>(t.n),
             false,
             quant_,
             0,
             static_cast<uint32_t>(t.row),
             static_cast<uint32_t>(t.col)};
    const AscendC::LocalTensor<int8_t> co1(AscendC::TPosition::CO1, 0,
                                           static_cast<uint32_t>(alignUp(t.m, 16) * t.ld * 4));
    const uint64_t at = sink.sequential ? 0 : m0 * static_cast<uint64_t>(orgN()) + n0;
    desc_.copyOut(reinterpret_cast<const void*>(p.address + bytesFor(c, at)), co1, &params, user_,
                  data_);
    signal(Pipe::FIX, l0c_[t.slot], l0cToken_[t.slot]);
    return;
  }
  uint8_t op = sink.atomic;
  if (op == 0 && !desc_.client) op = core().atomicOp;
  Instr i(Pipe::FIX, "fix_l0c_gm");
  if (op != 0) i.atomic();
  const uint64_t size = bits(c) / 8;
  uint64_t lowest = ~0ull, highest = 0;
  std::vector<uint8_t> line(static_cast<size_t>(std::max(t.ld, 32)) * 4);
  auto put = [&](uint64_t element, int row, int col, int count, int padded) {
    convert(t, row, col, count, line.data());
    const uint64_t at = element * size, bytes = static_cast<uint64_t>(padded) * size;
    if (padded > count)
      std::memset(line.data() + static_cast<size_t>(count) * size, 0,
                  static_cast<size_t>(padded - count) * size);
    uint8_t* to = core().ptr(p.mem, p.address + at);
    lowest = std::min(lowest, at);
    highest = std::max(highest, at + bytes);
    if (op == 0 && holds(to, line.data(), bytes)) return;
    if (op != 0) i.readPadding(p.mem, p.address + at, bytes);
    i.write(p, at, bytes);
    size_t room = 0, allocation = 0;
    if (!gmFind(to, &room, &allocation) || room + bytes > allocation) return;  // reported by write
    if (op != 0)
      accumulate(c, op, to, line.data(), padded);
    else
      std::memcpy(to, line.data(), bytes);
  };
  uint32_t bursts = 0;
  if (desc_.c.format == CubeFormat::NZ) {
    const uint64_t w = desc_.cfg.isEnableChannelSplit ? 8 : c == DType::I8 ? 32 : 16;
    const uint64_t rows = alignUp<uint64_t>(static_cast<uint64_t>(sink.sequential ? t.m : m_), 16);
    const uint64_t row0 = sink.sequential ? 0 : m0, col0 = sink.sequential ? 0 : n0;
    for (int n = 0; n < t.n; n += static_cast<int>(w), ++bursts)
      for (int m = 0; m < t.m; ++m)
        put(((col0 + static_cast<uint64_t>(n)) / w * rows + row0 + static_cast<uint64_t>(m)) * w, m,
            n, std::min(static_cast<int>(w), t.n - n), static_cast<int>(w));
  } else {
    uint64_t ld = sink.sequential ? static_cast<uint64_t>(t.n)
                  : ldC_ != 0     ? ldC_
                                  : static_cast<uint64_t>(orgN());
    int padded = t.n;
    if (desc_.c.format == CubeFormat::ND_ALIGN) {
      ld = alignUp<uint64_t>(ld, c0(c));
      // The last columns are rounded up to 32 bytes.
      if (sink.sequential || t.col * t_.baseN + t.n == sn_)
        padded = static_cast<int>(alignUp<uint64_t>(static_cast<uint64_t>(t.n), c0(c)));
    }
    const uint64_t at = sink.sequential ? 0 : m0 * ld + n0;
    for (int m = 0; m < t.m; ++m, ++bursts)
      put(at + static_cast<uint64_t>(m) * ld, m, 0, t.n, padded);
  }
  i.event.src = Mem::L0C;
  i.event.dst = Mem::GM;
  i.event.dtype = c;
  i.event.bytes = static_cast<uint64_t>(t.m) * static_cast<uint64_t>(t.n) * size;
  i.event.bursts = bursts;
  i.event.atomic = op != 0;
  i.event.gmAddress = p.address + lowest;
  i.event.gmSpan = highest - lowest;
  i.event.l2Hint = p.l2Hint;
  signal(Pipe::FIX, l0c_[t.slot], l0cToken_[t.slot]);
}

}  // namespace ascsim::mm
