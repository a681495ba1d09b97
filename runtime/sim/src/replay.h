// State of a replay: pipes, cores, tokens, and what GM addresses mean to L2.
#pragma once
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
