// Residency in L2: lines of 512 bytes, set associative, least recently used, write back, kept from
// launch to launch like the hardware's.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "costs.h"

namespace ascsim {

class L2 {
 public:
  L2(uint64_t bytes, bool wholeLines)
      : wholeLines_(wholeLines),
        sets_(std::max<uint64_t>(1, bytes / kLine / kWays)),
        tags_(sets_ * kWays, 0) {}

  // Runs of `bytes / bursts` bytes, spread evenly over gmSpan, beginning at `address`.
  Traffic access(const TraceEvent& e, uint64_t address) {
    Traffic t;
    const bool write = e.dst == Mem::GM;
    const bool bypass = e.l2Hint != 0;
    t.rows = std::max<uint32_t>(1, e.bursts);
    const uint64_t run = e.bytes / t.rows;
    const uint64_t span = std::max(e.gmSpan, run);
    const uint64_t step = t.rows > 1 ? (span - run) / (t.rows - 1) : 0;
    if (run == 0) return t;
    if (t.rows > 1 && step == run) {  // no gaps: one run
      one(t, address, run * t.rows, write, bypass);
      return t;
    }
    for (uint32_t r = 0; r < t.rows; ++r) one(t, address + r * step, run, write, bypass);
    return t;
  }

  // A scalar access of one line; true if it hits.
  bool touch(uint64_t address, bool write) {
    Traffic t;
    return line(t, address / kLine, write);
  }

 private:
  void one(Traffic& t, uint64_t begin, uint64_t bytes, bool write, bool bypass) {
    const uint64_t end = begin + bytes;
    // Neither end on 32 bytes: every line touched is moved whole, for each of its users anew.
    // Sample data_copy, optimisation point 2: 5 lines instead of 4 take 1.28 of the time, 2 instead
    // of 1 take 1.97; on the 950 there is no such effect.
    const bool ragged = wholeLines_ && begin % 32 != 0;
    bool missed = false;
    for (uint64_t l = begin / kLine; l <= (end - 1) / kLine; ++l) {
      const uint64_t from = std::max(begin, l * kLine);
      const uint64_t covered = std::min(end, (l + 1) * kLine) - from;
      const bool partial = covered != kLine;
      t.partialLines += partial;
      if (bypass) {
        const bool hit = find(l, write);
        if (hit) {
          t.hit += covered;
        } else {
          missed = true;
          (write ? t.writeBack : t.miss) += covered;
        }
        continue;
      }
      if (line(t, l, write)) {
        t.hit += covered;
        if (ragged && partial) t.hbmExtra += kLine;
      } else if (write) {
        t.hit += covered;
      } else {
        missed = true;
        t.miss += kLine;
      }
    }
    if (missed) ++t.missRows;
    if (bypass && missed) t.hbmExtra += kBypassRunWaste;
  }

  // Looks a line up and makes it the most recent of its set.
  bool find(uint64_t l, bool write) {
    uint32_t* set = &tags_[setOf(l) * kWays];
    const uint32_t tag = static_cast<uint32_t>(l + 1) & 0x7fffffffu;
    for (int w = 0; w < kWays; ++w)
      if ((set[w] & 0x7fffffffu) == tag) {
        const uint32_t mine = set[w] | (write ? kDirty : 0);
        for (int k = w; k > 0; --k) set[k] = set[k - 1];
        set[0] = mine;
        return true;
      }
    return false;
  }

  bool line(Traffic& t, uint64_t l, bool write) {
    if (find(l, write)) return true;
    uint32_t* set = &tags_[setOf(l) * kWays];
    if ((set[kWays - 1] & kDirty) != 0) t.writeBack += kLine;
    for (int k = kWays - 1; k > 0; --k) set[k] = set[k - 1];
    set[0] = (static_cast<uint32_t>(l + 1) & 0x7fffffffu) | (write ? kDirty : 0);
    return false;
  }

  // Hashed, as hardware does: rows of a matrix would otherwise meet in few sets.
  uint64_t setOf(uint64_t l) const { return (l * 0x9e3779b97f4a7c15ull >> 20) % sets_; }

  static constexpr uint32_t kDirty = 0x80000000u;
  bool wholeLines_;
  uint64_t sets_;
  std::vector<uint32_t> tags_;
};

}  // namespace ascsim
