// State of a replay: pipes, cores, tokens, and what GM addresses mean to L2.
#pragma once
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "costs.h"
#include "internal.h"

namespace ascsim {

constexpr int kS = static_cast<int>(Pipe::S);
constexpr double kUnknown = -1;

struct QueueEntry {
  uint32_t event;
  double at;  // when it was dispatched
};

// Results of vector instructions that may not be complete yet: whoever touches them waits.
class Results {
 public:
  // When the operands of `e` are all there.
  double ready(const TraceEvent& e) const {
    double t = 0;
    for (const VecOperand* o : {&e.vsrc0, &e.vsrc1, &e.vdst}) {
      if (o->address == VecOperand::kNone) continue;
      const uint32_t end = endOf(*o, e.repeats);
      for (const Result& r : last_)
        if (o->address < r.end && r.begin < end) t = std::max(t, r.complete);
    }
    return t;
  }
  void add(const TraceEvent& e, double complete) {
    if (e.vdst.address == VecOperand::kNone) return;
    last_[next_++ % kKept] = {e.vdst.address, endOf(e.vdst, e.repeats), complete};
  }

 private:
  static constexpr size_t kKept = 8;  // an instruction is complete before eight more have begun
  struct Result {
    uint32_t begin = 0, end = 0;
    double complete = 0;
  };
  static uint32_t endOf(const VecOperand& o, uint32_t repeats) {
    return o.address + 32 * ((std::max(1u, repeats) - 1) * o.repeatStride + 7u * o.blockStride + 1);
  }
  Result last_[kKept];
  size_t next_ = 0;
};

// When `e` may start on a pipe that is free at `free` and has completed everything at `done`.
inline double startOf(const TraceEvent& e, double free, double done, const Results& results) {
  // With its operands known, what it depends on is known too, whatever the checks found.
  if (e.pipe == Pipe::V && (e.vdst.address & e.vsrc0.address) != VecOperand::kNone)
    return std::max(free, results.ready(e));
  return e.dependent ? std::max(free, done) : free;
}

struct PipeState {
  QueueEntry queue[kQueueDepth];
  double popped[kQueueDepth] = {};  // when the last entries left the queue
  uint32_t head = 0, count = 0;
  uint64_t pushes = 0, pops = 0;
  double free = 0;             // the next instruction may start
  double done = 0;             // everything so far is complete
  double covered = 0;          // until when busy time has been counted
  bool moving = false;         // a GM transfer is pending or in flight
  uint64_t waits = 0;          // token, 0 = none
  double began = 0, ends = 0;  // of the transfer in flight
  Traffic traffic;
  Results results;
};

struct CoreState {
  const Core* core = nullptr;
  const std::vector<TraceEvent>* trace = nullptr;
  size_t next = 0;
  double now = 0;  // the scalar unit
  double began = 0;
  uint64_t waits = 0;  // token the scalar unit waits for
  int group = 0;
  bool started = false, finished = false;
  PipeState pipes[kPipes];
  uint64_t dcache[256] = {};  // lines of 64 bytes: 16 KB, direct mapped (assumed)
};

struct Token {
  double time = kUnknown;
  int core = -1;
  uint8_t pipe = 0;
  int waiter = -1;  // first of a list of core * kPipes + pipe
};

// What the host's addresses mean to L2: allocations in the order in which kernels first touch them,
// so that the result does not depend on where the host put them.
class Addresses {
 public:
  uint64_t map(uint64_t address) {
    if (address >= lastBase_ && address < lastEnd_) return lastVirtual_ + (address - lastBase_);
    const Gm* g = gmOf(reinterpret_cast<const void*>(address));
    if (g == nullptr) return address & 0xffffffffull;
    lastBase_ = reinterpret_cast<uint64_t>(g->base);
    lastEnd_ = lastBase_ + g->bytes;
    auto [it, fresh] = bases_.try_emplace({lastBase_, g->bytes}, next_);
    if (fresh) next_ += (g->bytes + kAlign - 1) / kAlign * kAlign;
    lastVirtual_ = it->second;
    return lastVirtual_ + (address - lastBase_);
  }
  void forgetLast() { lastBase_ = lastEnd_ = 0; }

 private:
  std::map<std::pair<uint64_t, size_t>, uint64_t> bases_;
  static constexpr uint64_t kAlign = 1ull << 20;
  uint64_t next_ = kAlign;
  uint64_t lastBase_ = 0, lastEnd_ = 0, lastVirtual_ = 0;
};

}  // namespace ascsim
