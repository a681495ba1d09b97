#include <vector>

#include "ascsim/vec_gather.h"

namespace ascsim {
namespace {

Operand operand(const Place& place, uint32_t elementBytes, uint32_t blockStride,
                uint32_t repeatStride) {
  Operand o;
  o.place = place;
  o.elementBytes = elementBytes;
  o.blockStride = blockStride;
  o.repeatStride = repeatStride;
  return o;
}

// Offsets lie one after the other, for all lanes of all repeats.
uint64_t offsetAt(const Lanes& l, uint32_t repeat, uint32_t lane) {
  return (static_cast<uint64_t>(repeat) * l.lanes + lane) * 4;
}

void declareOffsets(Instr& i, const Place& offsets, const Lanes& l) {
  if (l.full) {
    i.read(offsets, 0, l.elements() * 4);
    return;
  }
  for (uint32_t r = 0; r < l.repeats; ++r)
    for (uint32_t e = 0; e < l.lanes;) {
      if (!l.active(r, e)) {
        ++e;
        continue;
      }
      uint32_t end = e;
      while (end < l.lanes && l.active(r, end)) ++end;
      i.read(offsets, offsetAt(l, r, e), (end - e) * 4);
      e = end;
    }
}

uint32_t offsetOf(const Place& offsets, uint64_t at) {
  uint32_t v;
  __builtin_memcpy(&v, core().ptr(offsets.mem, offsets.address + at), 4);
  return v;
}

// Reports once if a byte of the destination is also read as source.
class SharedBytes {
 public:
  SharedBytes(const Operand& dst, const Lanes& l) : dst_(dst), lanes_(l) {}
  void reads(uint64_t address, uint32_t bytes) {
    low_ = std::min(low_, address);
    high_ = std::max(high_, address + bytes);
  }
  void check(const char* what, const std::vector<uint64_t>& addresses, uint32_t bytes) {
    if (!checking(kParam) || lanes_.repeats == 0) return;
    const uint64_t first = dst_.place.address;
    const uint64_t last =
        first + dst_.offset(lanes_.repeats - 1, lanes_.lanes - 1) + dst_.elementBytes;
    if (high_ <= first || low_ >= last) return;
    std::vector<bool> written(last - first);
    forLanes(lanes_, [&](uint32_t r, uint32_t i, uint64_t) {
      for (uint32_t b = 0; b < dst_.elementBytes; ++b) written[dst_.offset(r, i) + b] = true;
    });
    for (uint64_t a : addresses)
      for (uint32_t b = 0; b < bytes; ++b)
        if (a + b >= first && a + b < last && written[a + b - first])
          return report(kParam,
                        "source and destination of %s share byte 0x%llx; expected separate memory",
                        what, static_cast<unsigned long long>(a + b));
  }

 private:
  Operand dst_;
  Lanes lanes_;
  uint64_t low_ = ~0ull;
  uint64_t high_ = 0;
};

// The address `base + offset` bytes into a tensor.
uint64_t target(const Place& p, uint64_t base, uint32_t offset, uint32_t bytes, bool& misaligned) {
  const uint64_t at = base + offset;
  if ((p.address + at) % bytes != 0 && !misaligned) {
    misaligned = true;
    report(kAlign, "base %llu + offset %u bytes is not a multiple of the element's %u bytes",
           static_cast<unsigned long long>(base), offset, bytes);
  }
  return at;
}

}  // namespace

void gatherElements(const Place& dst, const Place& src, const Place& offsets, uint32_t base,
                    const Lanes& l, uint32_t size, uint32_t dstRepStride) {
  if (l.repeats == 0) return;
  const Operand out = operand(dst, size, 1, dstRepStride);
  Instr i(Pipe::V, "vgather");
  i.event.repeats = l.repeats;
  i.event.dtype = bitsType(size);
  describe(i.event.vdst, out);
  alignOperand(i, out, "the destination");
  i.align(src, 32, "the source");
  i.align(offsets, 32, "srcOffset");
  declareOffsets(i, offsets, l);
  declare(i, out, l, true);

  std::vector<uint64_t> from(l.elements());
  SharedBytes shared(out, l);
  bool misaligned = false;
  uint64_t run = 0, end = 0;  // neighbours are declared together
  forLanes(l, [&](uint32_t r, uint32_t e, uint64_t n) {
    const uint64_t at = target(src, base, offsetOf(offsets, offsetAt(l, r, e)), size, misaligned);
    from[n] = src.address + at;
    shared.reads(from[n], size);
    if (at != end) {
      i.read(src, run, end - run);
      run = at;
    }
    end = at + size;
  });
  i.read(src, run, end - run);
  shared.check("Gather", from, size);
  uint8_t* p = host(out);
  forLanes(l, [&](uint32_t r, uint32_t e, uint64_t n) {
    __builtin_memmove(p + out.offset(r, e), core().ptr(src.mem, from[n]), size);
  });
}

void scatterElements(const Place& dst, const Place& src, const Place& offsets, uint32_t base,
                     const Lanes& l, uint32_t size, uint32_t srcRepStride) {
  if (l.repeats == 0) return;
  const Operand in = operand(src, size, 1, srcRepStride);
  Instr i(Pipe::V, "vscatter");
  i.event.repeats = l.repeats;
  i.event.dtype = bitsType(size);
  describe(i.event.vsrc0, in);
  alignOperand(i, in, "the source");
  i.align(dst, 32, "the destination");
  i.align(offsets, 32, "dstOffset");
  declareOffsets(i, offsets, l);
  declare(i, in, l, false);
  std::vector<uint8_t> values(l.elements() * size);
  const uint8_t* p = host(in);
  forLanes(l, [&](uint32_t r, uint32_t e, uint64_t n) {
    __builtin_memcpy(&values[n * size], p + in.offset(r, e), size);
  });
  bool misaligned = false;
  forLanes(l, [&](uint32_t r, uint32_t e, uint64_t n) {
    const uint64_t at = target(dst, base, offsetOf(offsets, offsetAt(l, r, e)), size, misaligned);
    i.write(dst, at, size);
    __builtin_memcpy(core().ptr(dst.mem, dst.address + at), &values[n * size], size);
  });
}

void gatherBlocks(const Place& dst, const Place& src, const Place& offsets, uint32_t repeats,
                  uint32_t size, const AscendC::GatherRepeatParams& params) {
  if (repeats == 0) return;
  const uint32_t blockStride = params.dstBlkStride == 0 ? 1 : params.dstBlkStride;
  const Operand out = operand(dst, size, blockStride, params.dstRepStride);
  Instr i(Pipe::V, "vgatherb");
  i.event.repeats = repeats;
  i.event.dtype = bitsType(size);
  describe(i.event.vdst, out);
  alignOperand(i, out, "the destination");
  i.align(src, 32, "the source");
  i.align(offsets, 32, "offset");
  i.read(offsets, 0, static_cast<uint64_t>(repeats) * 32);
  bool misaligned = false;
  std::vector<uint64_t> from;
  Lanes l;
  l.lanes = 256 / size;
  l.repeats = repeats;
  l.full = true;
  SharedBytes shared(out, l);
  for (uint32_t n = 0; n < repeats * 8; ++n) {
    const uint64_t at = offsetOf(offsets, n * 4ull);
    if ((src.address + at) % 32 != 0 && !misaligned) {
      misaligned = true;
      report(kAlign, "offset %llu leads to byte 0x%llx; expected a multiple of 32 bytes",
             static_cast<unsigned long long>(at),
             static_cast<unsigned long long>(src.address + at));
    }
    i.read(src, at, 32);
    from.push_back(src.address + at);
    shared.reads(from.back(), 32);
  }
  shared.check("Gatherb", from, 32);
  declare(i, out, l, true);
  uint8_t* p = host(out);
  for (uint32_t n = 0; n < repeats * 8; ++n)
    __builtin_memmove(p + out.offset(n / 8, n % 8 * (32 / size)), core().ptr(src.mem, from[n]), 32);
}

namespace {

void select(const Place& dst, const Place& src, const Place* patterns, uint32_t fixedPattern,
            bool counter, uint32_t mask, const AscendC::GatherMaskParams& params, uint32_t size) {
  // Bits of the fixed patterns over four neighbouring elements, by their number.
  static constexpr uint8_t kFixed[8] = {0, 0x5, 0xa, 0x1, 0x2, 0x4, 0x8, 0xf};
  if (patterns == nullptr && (fixedPattern < 1 || fixedPattern > 7))
    fail(kParam, "src1Pattern is %u; expected 1 to 7", fixedPattern);
  if (counter && mask == 0)
    report(kParam, "mask is 0 in counter mode; expected the elements of a repeat");
  core().maskCounter = false;  // the call leaves normal mode behind
  const uint32_t perRepeat = counter ? mask : 256 / size;
  const uint32_t perBlock = 32 / size;
  const uint64_t blockStep = static_cast<uint64_t>(params.src0BlockStride) * 32;

  Instr i(Pipe::V, patterns != nullptr ? "vreducev2" : "vreduce");
  i.event.repeats = static_cast<uint32_t>((static_cast<uint64_t>(perRepeat) * size + 255) / 256 *
                                          params.repeatTimes);
  i.event.dtype = bitsType(size);
  i.align(dst, 32, "the destination");
  i.align(src, 32, "src0");
  if (patterns != nullptr) i.align(*patterns, 32, "src1Pattern");

  std::vector<uint8_t> line;
  Overwritten seen(src);
  uint64_t count = 0;
  uint8_t* out = core().ptr(dst.mem, dst.address);
  for (uint32_t r = 0; r < params.repeatTimes; ++r) {
    const uint64_t at = static_cast<uint64_t>(r) * params.src0RepeatStride * 32;
    const uint64_t bitsAt = static_cast<uint64_t>(r) * params.src1RepeatStride * 32;
    const uint8_t* bits = nullptr;
    if (patterns != nullptr) {
      // Counter mode looks at no more bits than elements; the pattern is read in whole words.
      i.read(*patterns, bitsAt, (perRepeat + 7) / 8);
      seen.reads(patterns->address + bitsAt, (perRepeat + 7) / 8, r);
      bits = core().ptr(patterns->mem, patterns->address + bitsAt);
    }
    line.clear();
    for (uint32_t first = 0; first < perRepeat; first += perBlock) {
      const uint32_t n = std::min(perBlock, perRepeat - first);
      uint32_t bytes = 0;
      uint8_t chosen[16];
      uint32_t some = 0;
      for (uint32_t e = 0; e < n; ++e) {
        const uint32_t bit = first + e;
        const bool take = bits != nullptr ? ((bits[bit >> 3] >> (bit & 7)) & 1) != 0
                                          : ((kFixed[fixedPattern] >> (bit & 3)) & 1) != 0;
        if (!take) continue;
        bytes |= ((1u << size) - 1) << (e * size);
        chosen[some++] = static_cast<uint8_t>(e);
      }
      if (some == 0) continue;
      const uint64_t block = at + first / perBlock * blockStep;
      i.readMasked(src, block, bytes);
      seen.reads(src.address + block + chosen[0] * size, (chosen[some - 1] - chosen[0] + 1) * size,
                 r);
      const uint8_t* in = core().ptr(src.mem, src.address + block);
      for (uint32_t e = 0; e < some; ++e)
        line.insert(line.end(), in + chosen[e] * size, in + (chosen[e] + 1) * size);
    }
    if (line.empty()) continue;
    i.write(dst, count * size, line.size());
    __builtin_memcpy(out + count * size, line.data(), line.size());
    seen.wrote(dst.address + count * size, line.size());
    count += line.size() / size;
  }
  setSpr(Spr::GatherCount, count);
}

}  // namespace

uint64_t gatherMask(const Place& dst, const Place& src, const Place* patterns,
                    uint32_t fixedPattern, bool counter, uint32_t mask,
                    const AscendC::GatherMaskParams& params, uint32_t size) {
  select(dst, src, patterns, fixedPattern, counter, mask, params, size);
  return readSpr(Spr::GatherCount);  // the scalar unit waits for the number
}

}  // namespace ascsim
