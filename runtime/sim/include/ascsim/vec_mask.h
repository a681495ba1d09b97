// What the reduction, gather and sort headers share: masks of an API call, dtype and chip checks,
// and the special registers that carry results to the scalar unit.
#pragma once
#include "ascsim/lanes.h"

namespace ascsim {

template <class T, class... Ts>
inline constexpr bool isOneOf = (std::is_same_v<T, Ts> || ...);
template <class...>
inline constexpr bool dependentFalse = false;

// The lanes of a mask-and-repeat call. A mask of 0 or no repeats is documented to do nothing, and a
// mask beyond the repeat to be a full one. isSetMask: the call overwrites the mask register.
Lanes lanesFor(bool isSetMask, int64_t mask, int64_t repeats, uint32_t elementBytes);
Lanes lanesFor(bool isSetMask, const uint64_t* mask, int64_t repeats, uint32_t elementBytes);
// The first `count` elements; leaves normal mode and a full mask behind, as documented.
Lanes lanesForCount(bool isSetMask, int64_t count, uint32_t elementBytes);

// Stops unless the simulated chip is of the given architecture.
void needArch(int npuArch, const char* instead);
void checkAligned(const Place& p, uint32_t alignment, const char* what);
void checkRange(const char* what, int64_t value, int64_t low, int64_t high);

// Instructions read a repeat before they write it, but write before the next repeat reads.
class Overwritten {
 public:
  explicit Overwritten(const Place& src) : mem_(src.mem) {}
  void wrote(uint64_t address, uint64_t bytes) {
    if (bytes == 0) return;
    low_ = std::min(low_, address);
    high_ = std::max(high_, address + bytes);
  }
  // Reports (once) a read of bytes that an earlier repeat of the same instruction wrote.
  void reads(uint64_t address, uint64_t bytes, uint32_t repeat) {
    if (address < high_ && address + bytes > low_ && !reported_) tell(address, repeat);
  }

 private:
  void tell(uint64_t address, uint32_t repeat);
  Mem mem_;
  uint64_t low_ = ~0ull;
  uint64_t high_ = 0;
  bool reported_ = false;
};

enum class Spr : uint8_t { Accumulated = 8, MaxMinValue, MaxMinIndex, MrgSortCounts, GatherCount };
void setSpr(Spr spr, uint64_t value);
uint64_t readSpr(Spr spr);  // by the scalar unit

// The unsigned type of a width, for calls that only move bits.
inline DType bitsType(uint32_t bytes) {
  return bytes == 1 ? DType::U8 : bytes == 2 ? DType::U16 : bytes == 4 ? DType::U32 : DType::U64;
}
// Do bytes [0, na) of a and [0, nb) of b meet?
inline bool overlap(const Place& a, uint64_t na, const Place& b, uint64_t nb) {
  return a.mem == b.mem && a.address < b.address + nb && b.address < a.address + na;
}

inline void describe(VecOperand& v, const Operand& o) {
  v.address = static_cast<uint32_t>(o.place.address);
  v.blockStride = static_cast<uint16_t>(o.blockStride);
  v.repeatStride = static_cast<uint16_t>(o.repeatStride);
}

}  // namespace ascsim
