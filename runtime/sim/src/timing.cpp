// The cycle model: replays the streams of all cores of a launch.
//
// Every pipe and the dispatching scalar unit run ahead on their own as far as what they need is
// known (queue places, flags): their times depend on nothing else. Only transfers from and to GM
// are handled in the order of global time, since they share L2 and HBM. What happens at time t only
// causes things at t or later, so this gives the same as a simulation cycle by cycle.
#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <queue>

#include "costs.h"
#include "l2.h"
#include "memsys.h"
#include "replay.h"
#include "report.h"

namespace ascsim {
namespace {

struct Memory {
  const Chip* chip = nullptr;
  std::unique_ptr<L2> l2;
  Addresses addresses;
};
Memory g_memory;

class Replay {
 public:
  explicit Replay(const KernelRun& run)
      : run_(run),
        chip_(*options().chip),
        fluid_(chip_.hbmGBs * 1e3 / chip_.mhz, chip_.l2GBs * 1e3 / chip_.mhz,
               kSameAddressBytesPerCycle) {
    if (g_memory.chip != &chip_) {
      g_memory.chip = &chip_;
      g_memory.l2 = std::make_unique<L2>(chip_.l2, chip_.npuArch < 3000);
    }
    g_memory.addresses.forgetLast();
  }

  LaunchReport go();

 private:
  struct Pending {
    double time;
    uint64_t order;
    int who;  // core * kPipes + pipe; the end of group g: -1 - g
    bool operator<(const Pending& o) const {
      return time != o.time ? time > o.time : order > o.order;
    }
  };

  void prepare();
  void startGroup(int group, double at);
  void advance(int core);
  bool dispatch(int core);
  bool runPipe(int core, int pipe);
  void begin(double now, int who);
  void end(double now, int who);
  void signal(uint64_t token, double time, int core, int pipe);
  double waitTime(const Token& t, int core) const {
    return t.time + (t.core >= 0 && t.core != core ? kCrossCore : 0);
  }
  void later(double time, int who) { pending_.push({time, order_++, who}); }
  void pop(PipeState& p, double at) {
    p.popped[p.pops++ % kQueueDepth] = at;
    p.head = (p.head + 1) % kQueueDepth;
    --p.count;
  }
  void account(int core, int pipe, const TraceEvent& e, double start, double complete);
  void slice(int core, int pipe, const TraceEvent& e, double start, double length, bool waiting);
  bool breakDeadlock();

  const KernelRun& run_;
  const Chip& chip_;
  Fluid fluid_;
  std::vector<CoreState> cores_;
  std::vector<Token> tokens_;
  uint64_t firstToken_ = 0;
  std::vector<int> nextWaiter_;
  std::vector<int> ready_;
  std::priority_queue<Pending> pending_;
  uint64_t order_ = 0;
  std::vector<std::vector<int>> groups_;
  std::vector<int> groupLeft_;
  std::vector<double> groupEnd_;
  int nextGroup_ = 0, running_ = 0;
  std::vector<double> hot_;
  LaunchReport report_;
};

void Replay::prepare() {
  const int n = static_cast<int>(run_.cores.size());
  cores_.resize(static_cast<size_t>(n));
  uint64_t low = std::numeric_limits<uint64_t>::max(), high = 0;
  for (int i = 0; i < n; ++i) {
    CoreState& c = cores_[static_cast<size_t>(i)];
    c.core = run_.cores[static_cast<size_t>(i)].get();
    c.trace = &c.core->trace;
    c.group = c.core->block;
    if (static_cast<size_t>(c.group) >= groups_.size())
      groups_.resize(static_cast<size_t>(c.group) + 1);
    groups_[static_cast<size_t>(c.group)].push_back(i);
    for (const TraceEvent& e : *c.trace) {
      if (e.token != 0) {
        low = std::min(low, e.token);
        high = std::max(high, e.token);
      }
    }
  }
  for (const auto& g : groups_) groupLeft_.push_back(static_cast<int>(g.size()));
  groupEnd_.resize(groups_.size());
  if (high != 0) {
    firstToken_ = low;
    tokens_.resize(high - low + 1);
  }
  nextWaiter_.assign(static_cast<size_t>(n) * kPipes, -1);
}

void Replay::startGroup(int group, double at) {
  ++running_;
  for (const int i : groups_[static_cast<size_t>(group)]) {
    CoreState& c = cores_[static_cast<size_t>(i)];
    c.started = true;
    c.now = c.began = at;
    for (PipeState& p : c.pipes) p.free = p.done = p.covered = at;
    ready_.push_back(i);
  }
}

void Replay::signal(uint64_t token, double time, int core, int pipe) {
  Token& t = tokens_[token - firstToken_];
  t.time = time;
  t.core = core;
  t.pipe = static_cast<uint8_t>(pipe);
  for (int w = t.waiter; w >= 0;) {
    const int next = nextWaiter_[static_cast<size_t>(w)];
    CoreState& c = cores_[static_cast<size_t>(w / kPipes)];
    (w % kPipes == kS ? c.waits : c.pipes[w % kPipes].waits) = 0;
    if (w / kPipes != core) ready_.push_back(w / kPipes);
    w = next;
  }
  t.waiter = -1;
}

void Replay::slice(int core, int pipe, const TraceEvent& e, double start, double length,
                   bool waiting) {
  if (!tracing() || (waiting && length < 1)) return;
  traceSlice({traceIndex(), static_cast<uint16_t>(core), static_cast<uint8_t>(pipe), waiting,
              e.site, e.bytes, start, length, e.mnemonic});
}

void Replay::account(int core, int pipe, const TraceEvent& e, double start, double complete) {
  CoreState& c = cores_[static_cast<size_t>(core)];
  PipeState& p = c.pipes[pipe];
  KindReport& k = report_.kind[c.core->aic ? 1 : 0];
  const double busy = std::max(0.0, complete - std::max(start, p.covered));
  p.covered = std::max(p.covered, complete);
  k.busy[static_cast<size_t>(pipe)] += busy;
  ++k.instructions[static_cast<size_t>(pipe)];
  if (e.site >= hot_.size()) hot_.resize(e.site + 64, 0.0);
  hot_[e.site] += busy;
  if (e.bytes != 0) report_.bytes[{e.src, e.dst}] += e.bytes;
}

// The scalar unit: true if it got further.
bool Replay::dispatch(int core) {
  CoreState& c = cores_[static_cast<size_t>(core)];
  const std::vector<TraceEvent>& trace = *c.trace;
  bool progress = false;
  while (c.next < trace.size() && c.waits == 0) {
    const TraceEvent& e = trace[c.next];
    if (e.kind == Ev::Barrier && e.pipe == Pipe::Count) {
      double all = c.now;
      for (const PipeState& p : c.pipes) {
        if (p.count != 0 || p.moving) return progress;
        all = std::max(all, p.done);
      }
      slice(core, kS, e, c.now, all - c.now, true);
      c.now = all + kDispatchSync;
    } else if (e.pipe == Pipe::S) {
      if (e.kind == Ev::Set) {
        signal(e.token, c.now + std::max(0.0f, e.cycles), core, kS);
        c.now += kDispatchSync;
      } else if (e.kind == Ev::Wait) {
        Token& t = tokens_[e.token - firstToken_];
        if (t.time == kUnknown) {
          c.waits = e.token;
          nextWaiter_[static_cast<size_t>(core * kPipes + kS)] = t.waiter;
          t.waiter = core * kPipes + kS;
          return progress;
        }
        const double at = waitTime(t, core);
        if (at > c.now) {
          report_.kind[c.core->aic ? 1 : 0]
              .stall[kS][static_cast<size_t>(t.core == core ? t.pipe : kStallCross)] += at - c.now;
          slice(core, kS, e, c.now, at - c.now, true);
        }
        c.now = std::max(c.now, at) + kDispatchSync;
      } else if (e.kind == Ev::Exec) {
        Cost cost = localCost(e, chip_);
        if (e.cycles < 0 && (e.src == Mem::GM || e.dst == Mem::GM) && e.gmAddress != 0) {
          const uint64_t address = g_memory.addresses.map(e.gmAddress);
          uint64_t& line = c.dcache[address / 64 % 256];
          if (line == address / 64 + 1)
            cost.busy = 10;  // assumed: a hit costs what UB costs
          else
            line = address / 64 + 1;
        }
        account(core, kS, e, c.now, c.now + cost.busy);
        slice(core, kS, e, c.now, cost.busy, false);
        c.now += cost.busy;
      }
    } else {
      PipeState& p = c.pipes[static_cast<int>(e.pipe)];
      if (p.count == kQueueDepth) return progress;
      c.now += e.kind == Ev::Exec ? kDispatch : kDispatchSync;
      if (p.pushes >= kQueueDepth) c.now = std::max(c.now, p.popped[p.pushes % kQueueDepth]);
      p.queue[(p.head + p.count) % kQueueDepth] = {static_cast<uint32_t>(c.next), c.now};
      ++p.count;
      ++p.pushes;
    }
    ++c.next;
    progress = true;
  }
  return progress;
}

bool Replay::runPipe(int core, int pipe) {
  CoreState& c = cores_[static_cast<size_t>(core)];
  PipeState& p = c.pipes[pipe];
  KindReport& k = report_.kind[c.core->aic ? 1 : 0];
  auto& stall = k.stall[static_cast<size_t>(pipe)];
  bool progress = false;
  while (p.count != 0 && !p.moving && p.waits == 0) {
    const QueueEntry entry = p.queue[p.head];
    const TraceEvent& e = (*c.trace)[entry.event];
    if (entry.at > p.free) {
      stall[kStallDispatch] += std::max(0.0, entry.at - std::max(p.free, p.done));
      p.free = entry.at;
    }
    switch (e.kind) {
      case Ev::Set:
        signal(e.token, std::max(p.free, p.done) + std::max(0.0f, e.cycles), core, pipe);
        break;
      case Ev::Wait: {
        Token& t = tokens_[e.token - firstToken_];
        if (t.time == kUnknown) {
          p.waits = e.token;
          nextWaiter_[static_cast<size_t>(core * kPipes + pipe)] = t.waiter;
          t.waiter = core * kPipes + pipe;
          return progress;
        }
        const double at = waitTime(t, core);
        if (at > p.free) {
          stall[static_cast<size_t>(t.core == core ? t.pipe : kStallCross)] +=
              std::max(0.0, at - std::max(p.free, p.done));
          slice(core, pipe, e, std::max(p.free, p.done), at - std::max(p.free, p.done), true);
          p.free = at;
        }
        break;
      }
      case Ev::Barrier:
        p.free = std::max(p.free, p.done) + (e.pipe == Pipe::V ? kBarrier : kDispatchSync);
        break;
      case Ev::Exec: {
        if (isGmTransfer(e)) {
          p.moving = true;
          later(p.free, core * kPipes + pipe);
          return true;
        }
        const Cost cost = localCost(e, chip_);
        const double start = startOf(e, p.free, p.done, p.results);
        p.free = start + cost.busy;
        const double complete = p.free + cost.latency;
        account(core, pipe, e, start, complete);
        slice(core, pipe, e, start, cost.busy, false);
        p.done = std::max(p.done, complete);
        if (e.pipe == Pipe::V) p.results.add(e, complete);
        pop(p, start);
        progress = true;
        continue;
      }
    }
    pop(p, p.free);
    progress = true;
  }
  return progress;
}

void Replay::advance(int core) {
  CoreState& c = cores_[static_cast<size_t>(core)];
  if (!c.started || c.finished) return;
  for (bool progress = true; progress;) {
    progress = dispatch(core);
    for (int p = kS + 1; p < kPipes; ++p) progress |= runPipe(core, p);
  }
  if (c.next < c.trace->size() || c.waits != 0) return;
  double last = c.now;
  for (const PipeState& p : c.pipes) {
    if (p.count != 0 || p.moving) return;
    last = std::max(last, p.done);
  }
  c.finished = true;
  KindReport& k = report_.kind[c.core->aic ? 1 : 0];
  ++k.cores;
  k.total += last - c.began;
  const size_t g = static_cast<size_t>(c.group);
  groupEnd_[g] = std::max(groupEnd_[g], last);
  if (--groupLeft_[g] == 0) later(groupEnd_[g], -1 - c.group);
}

void Replay::begin(double now, int who) {
  CoreState& c = cores_[static_cast<size_t>(who / kPipes)];
  PipeState& p = c.pipes[who % kPipes];
  const TraceEvent& e = (*c.trace)[p.queue[p.head].event];
  const uint64_t address = g_memory.addresses.map(e.gmAddress);
  const Traffic t = g_memory.l2->access(e, address);
  p.traffic = t;
  p.began = now;
  const double alone = gmPipeCycles(e, t, chip_);
  const double write =
      e.dst == Mem::GM ? chip_.l2ReadBytesPerCycle / chip_.l2WriteBytesPerCycle : 1;
  const double hbm =
      static_cast<double>(t.miss + t.hbmExtra) + kWriteBackCost * static_cast<double>(t.writeBack);
  const double l2 = e.l2Hint != 0 ? 0 : static_cast<double>(e.bytes) * write;
  // Served one by one: what several cores do to one place past L2, and atomics.
  const bool serial = (e.l2Hint != 0 || e.atomic) && e.bytes != 0;
  uint64_t key = 0;
  if (serial) {
    // The place: the aligned power of two that the span fills, at least a line. Tiles of one block
    // of rows share it, since cores that work on it in turns meet there.
    int bits = 9;
    while ((1ull << bits) < std::max(e.gmSpan, e.bytes)) ++bits;
    key = (address >> bits << 6) + static_cast<uint64_t>(bits);
  }
  fluid_.start(now, who, alone, hbm, l2, hbm > 0.1 * static_cast<double>(e.bytes), key,
               serial ? static_cast<double>(e.bytes) : 0);
  report_.l2Hit += t.hit;
  report_.hbmRead += t.miss;
  report_.hbmWrite += t.writeBack;
  pop(p, now);
  // The event is needed at the end: keep its place.
  p.ends = static_cast<double>(&e - c.trace->data());
}

void Replay::end(double now, int who) {
  const int core = who / kPipes, pipe = who % kPipes;
  CoreState& c = cores_[static_cast<size_t>(core)];
  PipeState& p = c.pipes[pipe];
  const TraceEvent& e = (*c.trace)[static_cast<size_t>(p.ends)];
  const double complete = now + gmLatency(e, p.traffic);
  account(core, pipe, e, p.began, complete);
  slice(core, pipe, e, p.began, now - p.began, false);
  p.free = now;
  p.done = std::max(p.done, complete);
  p.moving = false;
  ready_.push_back(core);
}

// More groups than cores, and those that run wait for ones that have not begun: the hardware would
// hang. Start the next one anyway and say so.
bool Replay::breakDeadlock() {
  if (nextGroup_ < static_cast<int>(groups_.size())) {
    report_.note =
        "more blocks than cores wait for each other; modelled as if there were enough cores";
    startGroup(nextGroup_++, 0);
    return true;
  }
  // A flag that nothing sets (a kernel stopped by an error): go on without it.
  for (size_t i = 0; i < cores_.size(); ++i) {
    CoreState& c = cores_[i];
    for (int p = 0; p < kPipes; ++p) {
      uint64_t& waits = p == kS ? c.waits : c.pipes[p].waits;
      if (waits == 0) continue;
      report_.note = "a flag that is waited for is never set";
      signal(waits, 0, static_cast<int>(i), kS);
      ready_.push_back(static_cast<int>(i));
      return true;
    }
  }
  return false;
}

LaunchReport Replay::go() {
  prepare();
  const bool mixed = run_.launch.kind == KernelKind::Mix11 || run_.launch.kind == KernelKind::Mix12;
  const bool vectors =
      run_.launch.kind == KernelKind::AivOnly || run_.launch.kind == KernelKind::MixAiv10;
  const int slots = vectors ? chip_.aiv : chip_.aic;
  const int groups = static_cast<int>(groups_.size());
  const int coresPerGroup = mixed ? (run_.launch.kind == KernelKind::Mix12 ? 3 : 2) : 1;
  while (nextGroup_ < groups && nextGroup_ < slots) {
    const int g = nextGroup_++;
    startGroup(g, g * kStartStagger);
  }
  double last = 0;
  int left = groups;
  while (left > 0) {
    while (!ready_.empty()) {
      const int core = ready_.back();
      ready_.pop_back();
      advance(core);
    }
    const double finish = fluid_.nextFinish();
    const double start = pending_.empty() ? Fluid::kNever : pending_.top().time;
    if (start == Fluid::kNever && finish == Fluid::kNever) {
      if (!breakDeadlock()) break;
      continue;
    }
    if (finish <= start) {
      end(finish, fluid_.finish(finish));
      continue;
    }
    const Pending p = pending_.top();
    pending_.pop();
    if (p.who >= 0) {
      begin(p.time, p.who);
      continue;
    }
    --left;
    --running_;
    last = std::max(last, p.time);
    if (nextGroup_ < groups && running_ < slots) startGroup(nextGroup_++, p.time);
  }
  report_.name = run_.info.name;
  report_.blocks = run_.launch.blocks;
  report_.waves = (groups + slots - 1) / slots;
  report_.cycles = last;
  report_.us = last / chip_.mhz;
  report_.launchUs = kLaunchUs + kLaunchUsPerCore * std::min(groups, slots) * coresPerGroup;
  report_.hbmBusy = fluid_.hbmShort;
  report_.l2Busy = fluid_.l2Short;
  for (size_t i = 0; i < hot_.size(); ++i)
    if (hot_[i] > 0) report_.hot.emplace_back(static_cast<uint32_t>(i), hot_[i]);
  std::stable_sort(report_.hot.begin(), report_.hot.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (report_.hot.size() > 50) report_.hot.resize(50);
  return std::move(report_);
}

}  // namespace

double simTimeMicroseconds() { return reportedMicroseconds(); }

void replayLaunch(const KernelRun& run) {
  std::set<const char*> seen;
  const char* last = nullptr;
  for (const auto& c : run.cores)
    for (const TraceEvent& e : c->trace)
      if (e.kind == Ev::Exec && e.mnemonic != last && seen.insert(last = e.mnemonic).second &&
          !knownMnemonic(e.mnemonic))
        unknownMnemonic(e.mnemonic);
  LaunchReport report = Replay(run).go();
  if (tracing()) {
    std::vector<std::string> names;
    for (const auto& c : run.cores) names.push_back(coreName(*c));
    traceLaunch(report, names, options().chip->mhz);
  }
  addReport(std::move(report), options().chip->mhz);
}

// Forgets what L2 holds, for measurements of single launches.
extern "C" void ascsim_cold_l2() { g_memory.chip = nullptr; }

}  // namespace ascsim
