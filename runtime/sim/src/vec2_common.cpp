#include "ascsim/vec_mask.h"

namespace ascsim {
namespace {

Lanes none(uint32_t elementBytes) {
  Lanes l;
  l.lanes = 256 / elementBytes;
  return l;
}

void setMask(uint64_t low, uint64_t high) {
  core().mask[0] = low;
  core().mask[1] = high;
}

}  // namespace

Lanes lanesFor(bool isSetMask, int64_t mask, int64_t repeats, uint32_t elementBytes) {
  if (!isSetMask) return lanesOfRegister(repeats, elementBytes);
  if (core().maskCounter) {
    setMask(static_cast<uint64_t>(mask), 0);
    return lanesOfCount(mask, elementBytes);
  }
  checkRange("the mask", mask, 0, ~0u);
  const int64_t most = std::min<int64_t>(256 / elementBytes, 128);
  const int64_t n = std::clamp<int64_t>(mask, 0, most);
  setMask(n >= 64 ? ~0ull : (1ull << n) - 1, n > 64 ? ~0ull >> (128 - n) : 0);
  if (n == 0 || repeats == 0) return none(elementBytes);
  return lanesOfMask(static_cast<uint64_t>(n), repeats, elementBytes);
}

Lanes lanesFor(bool isSetMask, const uint64_t* mask, int64_t repeats, uint32_t elementBytes) {
  if (!isSetMask) return lanesOfRegister(repeats, elementBytes);
  // An element of 4 bytes has 64 lanes: the array may be of one word.
  const uint64_t high = elementBytes < 4 ? mask[1] : 0;
  const uint64_t bits[2] = {mask[0], high};
  setMask(bits[0], bits[1]);
  if (core().maskCounter) return lanesOfCount(static_cast<int64_t>(bits[0]), elementBytes);
  if (repeats == 0 || (bits[0] == 0 && bits[1] == 0)) return none(elementBytes);
  return lanesOfBits(bits, repeats, elementBytes);
}

Lanes lanesForCount(bool isSetMask, int64_t count, uint32_t elementBytes) {
  if (!isSetMask) return lanesOfRegister(1, elementBytes);
  core().maskCounter = false;
  setMask(~0ull, ~0ull);
  return lanesOfCount(count, elementBytes);
}

void needArch(int npuArch, const char* instead) {
  if (options().chip->npuArch == npuArch) return;
  fail(kChip, "%s does not have this call: it needs an __NPU_ARCH__ of %d; %s",
       options().chip->name, npuArch, instead);
}

void checkAligned(const Place& p, uint32_t alignment, const char* what) {
  if (p.address % alignment != 0 && checking(kAlign))
    report(kAlign, "%s starts at byte 0x%llx of %s; expected a multiple of %u bytes", what,
           static_cast<unsigned long long>(p.address), memName(p.mem), alignment);
}

void checkRange(const char* what, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return;
  report(kParam, "%s is %lld; expected %lld to %lld", what, static_cast<long long>(value),
         static_cast<long long>(low), static_cast<long long>(high));
}

void Overwritten::tell(uint64_t address, uint32_t repeat) {
  reported_ = true;
  report(kParam,
         "repeat %u reads %s 0x%llx, which an earlier repeat of the same instruction has written; "
         "source and destination may only overlap repeat by repeat",
         repeat, memName(mem_), static_cast<unsigned long long>(address));
}

void setSpr(Spr spr, uint64_t value) { core().sprs[static_cast<int>(spr)] = value; }

uint64_t readSpr(Spr spr) {
  if (options().autoSync && isAiv()) {  // the compiler waits for the vector pipe
    Clock now;
    uint64_t token = 0;
    signal(Pipe::V, now, token);
    await(Pipe::S, now, token);
  }
  Instr i(Pipe::S, "scalar");
  return core().sprs[static_cast<int>(spr)];
}

}  // namespace ascsim
