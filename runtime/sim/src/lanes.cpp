#include "ascsim/lanes.h"

namespace ascsim {
namespace {

uint32_t repeatsOf(int64_t repeats) {
  if (repeats < 0 || repeats > 255)
    report(kParam, "repeatTime is %lld; expected 0 to 255", static_cast<long long>(repeats));
  return static_cast<uint32_t>(std::clamp<int64_t>(repeats, 0, 255));
}

}  // namespace

Lanes lanesOfCount(int64_t count, uint32_t elementBytes) {
  Lanes l;
  l.lanes = 256 / elementBytes;
  l.full = true;
  l.counted = true;
  if (count < 0) {
    report(kParam, "the count is %lld; expected 0 or more", static_cast<long long>(count));
    count = 0;
  }
  l.repeats = static_cast<uint32_t>((count + l.lanes - 1) / l.lanes);
  l.tail = static_cast<uint32_t>(count % l.lanes);
  return l;
}

Lanes lanesOfMask(uint64_t maskCount, int64_t repeats, uint32_t elementBytes) {
  // In counter mode the mask is the number of elements, and the repeat times are ignored.
  if (core().maskCounter) return lanesOfCount(static_cast<int64_t>(maskCount), elementBytes);
  Lanes l;
  l.lanes = 256 / elementBytes;
  l.repeats = repeatsOf(repeats);
  // Documented: a mask of 0 does nothing, one beyond the repeat is a full one.
  if (maskCount == 0) l.repeats = 0;
  const uint64_t n = std::min<uint64_t>(maskCount, l.lanes);
  l.full = n == l.lanes;
  for (uint64_t i = 0; i < n && i < 128; ++i) l.bits[i >> 6] |= 1ull << (i & 63);
  // 8-bit types have 256 lanes; their masks are all or the first n.
  if (l.lanes > 128 && !l.full) {
    l.full = true;
    l.tail = static_cast<uint32_t>(n);
    if (l.repeats > 1)
      report(kParam, "a partial mask of an 8-bit type with %u repeats is not modelled", l.repeats);
  }
  return l;
}

Lanes lanesOfBits(const uint64_t* mask, int64_t repeats, uint32_t elementBytes) {
  if (core().maskCounter) return lanesOfCount(static_cast<int64_t>(mask[0]), elementBytes);
  Lanes l;
  l.lanes = 256 / elementBytes;
  l.repeats = repeatsOf(repeats);
  l.bits[0] = mask[0];
  l.bits[1] = l.lanes > 64 ? mask[1] : 0;
  if (l.lanes < 64) l.bits[0] &= (1ull << l.lanes) - 1;
  if (l.bits[0] == 0 && l.bits[1] == 0) l.repeats = 0;  // documented to do nothing
  const bool low = l.lanes >= 64 ? mask[0] == ~0ull : l.bits[0] == (1ull << l.lanes) - 1;
  l.full = low && (l.lanes <= 64 || mask[1] == ~0ull);
  return l;
}

Lanes lanesOfRegister(int64_t repeats, uint32_t elementBytes) {
  Core& c = core();
  if (c.maskCounter) return lanesOfCount(static_cast<int64_t>(c.mask[0]), elementBytes);
  return lanesOfBits(c.mask, repeats, elementBytes);
}

void alignOperand(Instr& instr, const Operand& operand, const char* name) {
  instr.align(operand.place, 32, name);
}

void declare(Instr& instr, const Operand& o, const Lanes& l, bool write) {
  if (l.repeats == 0) return;
  const uint64_t bytes = l.elements() * o.elementBytes;
  if (l.full && o.dense(l)) {
    if (write)
      instr.write(o.place, 0, bytes);
    else
      instr.read(o.place, 0, bytes);
    return;
  }
  const uint32_t perBlock = 32 / o.elementBytes;
  const uint32_t ones = o.elementBytes >= 32 ? ~0u : (1u << o.elementBytes) - 1;
  const bool aligned = (o.place.address & 31) == 0;
  for (uint32_t r = 0; r < l.repeats; ++r)
    for (uint32_t first = 0; first < l.lanes; first += perBlock) {
      uint32_t mask = 0;
      for (uint32_t i = 0; i < perBlock && first + i < l.lanes; ++i)
        if (l.active(r, first + i)) mask |= ones << (i * o.elementBytes);
      if (mask == 0) continue;
      const uint64_t at = o.offset(r, first);
      if (mask == ~0u || !aligned) {
        const uint64_t n = 32u - static_cast<uint64_t>(__builtin_clz(mask));
        if (write)
          instr.write(o.place, at, n);
        else
          instr.read(o.place, at, n);
      } else if (write) {
        instr.writeMasked(o.place, at, mask);
      } else {
        instr.readMasked(o.place, at, mask);
      }
    }
}

}  // namespace ascsim
