// "Now" of the running core while the kernel still runs: what GetSystemCycle returns. The same
// costs as the replay, for this core alone: no other cores' traffic, reads of GM as if they missed
// L2.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "costs.h"
#include "internal.h"
#include "replay.h"

namespace ascsim {
namespace {

struct Running {
  uint64_t serial = 0;
  size_t seen = 0;
  double scalar = 0;
  double free[kPipes] = {};
  double done[kPipes] = {};
  Results results;  // of the vector pipe
  std::unordered_map<uint64_t, double> tokens;

  void take(const TraceEvent& e, const Chip& chip) {
    if (e.kind == Ev::Barrier && e.pipe == Pipe::Count) {
      for (const double d : done) scalar = std::max(scalar, d);
      scalar += kDispatchSync;
      return;
    }
    const int p = static_cast<int>(e.pipe);
    double& at = e.pipe == Pipe::S ? scalar : free[p];
    scalar += e.kind == Ev::Exec ? kDispatch : kDispatchSync;
    at = std::max(at, scalar);
    switch (e.kind) {
      case Ev::Set:
        tokens[e.token] = std::max(at, done[p]);
        break;
      case Ev::Wait: {
        const auto it = tokens.find(e.token);
        if (it != tokens.end()) at = std::max(at, it->second);
        break;
      }
      case Ev::Barrier:
        at = std::max(at, done[p]) + (e.pipe == Pipe::V ? kBarrier : 0);
        break;
      case Ev::Exec: {
        Cost c;
        if (isGmTransfer(e)) {
          Traffic t;
          t.rows = t.missRows = std::max(1u, e.bursts);
          t.miss = e.bytes;
          c = {gmPipeCycles(e, t, chip), gmLatency(e, t)};
        } else {
          c = localCost(e, chip);
        }
        at = startOf(e, at, done[p], results) + c.busy;
        if (e.pipe == Pipe::V) results.add(e, at + c.latency);
        if (e.pipe != Pipe::S) done[p] = std::max(done[p], at + c.latency);
        break;
      }
    }
  }
};

}  // namespace

uint64_t simCycleEstimate() {
  static std::unordered_map<int, Running> cores;
  static uint64_t serial = 0;
  Core& me = core();
  if (me.run->serial != serial) {
    serial = me.run->serial;
    cores.clear();
  }
  Running& r = cores[me.index];
  for (; r.seen < me.trace.size(); ++r.seen) r.take(me.trace[r.seen], *options().chip);
  return static_cast<uint64_t>(std::llround(r.scalar));
}

uint64_t simSystemCycle() {
  const Chip& chip = *options().chip;
  return static_cast<uint64_t>(static_cast<double>(simCycleEstimate()) * chip.counterMhz /
                               chip.mhz);
}

}  // namespace ascsim
