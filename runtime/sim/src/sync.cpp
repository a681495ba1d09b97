// Flags, barriers and the synchronisation of cores: clocks to join, tokens for the cycle model.
#include <algorithm>

#include "internal.h"

namespace ascsim {
namespace {

uint64_t g_tokens = 0;

int at(Pipe p) { return static_cast<int>(p); }

Clock snapshot(Core& c, Pipe p) {
  Clock now = c.clocks[at(p)];
  now.own[at(p)] = c.counter[at(p)];
  now.join(c.clocks[at(Pipe::S)]);
  return now;
}

void append(Ev kind, Pipe pipe, uint64_t token) {
  if (!options().timing) return;
  Core& c = core();
  TraceEvent e;
  e.kind = kind;
  e.pipe = pipe;
  e.token = token;
  e.site = c.site;
  e.mnemonic = kind == Ev::Set ? "set" : kind == Ev::Wait ? "wait" : "barrier";
  c.trace.push_back(e);
}

// What pipe p knows, said to other cores: their view of this core's pipes is its own clock.
Clock published(Core& c, Pipe p) {
  const Clock now = snapshot(c, p);
  const size_t n = c.run->cores.size() * kPipes;
  auto all = now.remote ? std::make_shared<std::vector<uint32_t>>(*now.remote)
                        : std::make_shared<std::vector<uint32_t>>(n, 0u);
  for (int q = 0; q < kPipes; ++q) {
    uint32_t& v = (*all)[static_cast<size_t>(c.index * kPipes + q)];
    v = std::max(v, now.own[q]);
  }
  Clock out;
  out.remote = std::move(all);
  return out;
}

bool hasPipe(const Core& c, Pipe p) {
  if (p == Pipe::S || p == Pipe::MTE2 || p == Pipe::MTE3) return true;
  if (p == Pipe::V) return !c.aic;
  return c.aic;
}

}  // namespace

uint64_t newToken() { return ++g_tokens; }

void signal(Pipe pipe, Clock& into, uint64_t& token) {
  into = snapshot(core(), pipe);
  token = newToken();
  append(Ev::Set, pipe, token);
}

void await(Pipe pipe, const Clock& from, uint64_t token) {
  if (token == 0) return;
  core().clocks[at(pipe)].join(from);
  append(Ev::Wait, pipe, token);
}

void setFlag(Pipe src, Pipe dst, int id) {
  Core& c = core();
  if (id < 0 || id > 7)
    fail(kFlag, "event id %d; expected 0 to 7 (6 and 7 are reserved on some chips)", id);
  if (!hasPipe(c, src) || !hasPipe(c, dst)) return;  // the other core type's half of the code
  FlagSlot& slot =
      c.run->flags[static_cast<size_t>(c.index)][static_cast<size_t>(at(src) * kPipes + at(dst))]
                  [static_cast<size_t>(id)];
  if (slot.set)
    report(kFlag,
           "the flag %s_%s %d is set again before anything waited for it (first set: %s); every "
           "SetFlag needs its WaitFlag",
           pipeName(src), pipeName(dst), id, siteText(slot.site).c_str());
  slot.set = true;
  slot.site = c.site;
  signal(src, slot.clock, slot.token);
}

void waitFlag(Pipe src, Pipe dst, int id) {
  Core& c = core();
  if (id < 0 || id > 7) fail(kFlag, "event id %d; expected 0 to 7", id);
  if (!hasPipe(c, src) || !hasPipe(c, dst)) return;
  FlagSlot& slot =
      c.run->flags[static_cast<size_t>(c.index)][static_cast<size_t>(at(src) * kPipes + at(dst))]
                  [static_cast<size_t>(id)];
  if (!slot.set) {
    reportError("deadlock", std::string("WaitFlag ") + pipeName(src) + "_" + pipeName(dst) + " " +
                                std::to_string(id) +
                                " waits for a flag that nothing before it has set: pipe " +
                                pipeName(dst) + " would hang");
    throw KernelAbort{};
  }
  slot.set = false;
  await(dst, slot.clock, slot.token);
}

void pipeBarrier(Pipe pipe) {
  Core& c = core();
  append(Ev::Barrier, pipe, 0);
  if (pipe != Pipe::Count) {
    c.clocks[at(pipe)] = snapshot(c, pipe);
    return;
  }
  Clock all;
  for (int p = 0; p < kPipes; ++p) all.join(snapshot(c, static_cast<Pipe>(p)));
  for (Clock& k : c.clocks) k = all;
}

// ------------------------------------------------------------------------------ between cores
namespace {

void release(KernelRun& run, int receiver, int flag,
             const std::vector<std::pair<Clock, uint64_t>>& from) {
  CrossSlot& slot = run.cross[{receiver, flag}];
  Clock merged;
  std::vector<uint64_t> tokens;
  for (const auto& [clock, token] : from) {
    merged.join(clock);
    tokens.push_back(token);
  }
  ++slot.ready;
  slot.carried.emplace_back(std::move(merged), std::move(tokens));
  if (slot.ready > 15 && flag < kSyncAllFlag)
    report(kFlag, "cross-core flag %d has been set %d times without a wait; its counter ends at 15",
           flag, slot.ready);
  run.fibers[static_cast<size_t>(receiver)].blocked = false;
}

// All members have arrived at least once: one release for every receiver.
void match(KernelRun& run, CrossPending& pending, const std::vector<int>& members,
           const std::vector<int>& receivers, int flag) {
  for (const int m : members)
    if (pending.arrived[m].empty()) return;
  std::vector<std::pair<Clock, uint64_t>> from;
  for (const int m : members) {
    from.push_back(pending.arrived[m].front());
    pending.arrived[m].pop_front();
  }
  for (const int r : receivers) release(run, r, flag, from);
}

}  // namespace

void crossSet(int mode, Pipe pipe, int flag) {
  Core& me = core();
  KernelRun& run = *me.run;
  const bool wide = mode == 4;
  if (mode != 0 && mode != 1 && mode != 2 && !(wide && options().chip->npuArch >= 3510))
    fail(kChip, "CrossCoreSetFlag mode %d; expected 0, 1 or 2%s", mode,
         wide ? " (4 is of the 950)" : "");
  if (flag < 0 || flag > (wide ? 31 : 15))
    fail(kFlag, "cross-core flag %d; expected 0 to 15", flag);
  if (!hasPipe(me, pipe)) return;
  const uint64_t token = newToken();
  append(Ev::Set, pipe, token);
  const std::pair<Clock, uint64_t> arrival{published(me, pipe), token};
  std::vector<int> members, receivers;
  for (auto& c : run.cores) {
    const bool group = c->block == me.block;
    if (mode == 0 && c->aic == me.aic) members.push_back(c->index);
    if (mode == 1 && group && !c->aic) members.push_back(c->index);
    if (mode == 2 && group && c->aic == me.aic) members.push_back(c->index);
    if (mode == 2 && group && c->aic != me.aic) receivers.push_back(c->index);
    if (wide && c->index == me.index) members.push_back(c->index);
    if (wide && group && c->aic != me.aic && (!me.aic || c->subBlock == flag / 16))
      receivers.push_back(c->index);
  }
  if (mode < 2) receivers = members;
  if (receivers.empty())
    fail(kFlag,
         "CrossCoreSetFlag mode %d has no core to signal: kernel %s runs on %s cores only; "
         "declare it as a mixed kernel",
         mode, run.info.name, me.aic ? "cube" : "vector");
  int received = flag;
  if (wide) received = me.aic ? flag % 16 : flag + 16 * me.subBlock;
  const int key = mode == 0 ? static_cast<int>(me.aic)
                            : me.block * 2 + static_cast<int>(me.aic) +
                                  (wide ? 1000000 + me.subBlock * 100000 : 0);
  CrossPending& pending = run.pending[{mode, key, flag}];
  pending.arrived[me.index].push_back(arrival);
  match(run, pending, members, receivers, received);
}

void crossWait(int mode, Pipe pipe, int flag) {
  (void)mode;
  Core& me = core();
  KernelRun& run = *me.run;
  CrossSlot& slot = run.cross[{me.index, flag}];
  while (slot.ready == 0) block("cross-core flag " + std::to_string(flag));
  --slot.ready;
  auto [clock, tokens] = std::move(slot.carried.front());
  slot.carried.pop_front();
  // Without a pipe the wait stops dispatch: every later instruction of the core is behind it.
  me.clocks[at(pipe)].join(clock);
  for (const uint64_t t : tokens) append(Ev::Wait, pipe, t);
}

void syncAllCores(int kind) {
  Core& me = core();
  KernelRun& run = *me.run;
  pipeBarrier(Pipe::Count);
  const uint64_t token = newToken();
  append(Ev::Set, Pipe::S, token);
  run.barrier[kind][me.index].emplace_back(published(me, Pipe::S), token);
  std::vector<int> members;
  for (auto& c : run.cores)
    if (kind == 2 || c->aic == (kind == 0)) members.push_back(c->index);
  const int flag = kSyncAllFlag + kind;
  bool all = true;
  for (const int m : members) all = all && !run.barrier[kind][m].empty();
  if (all) {
    std::vector<std::pair<Clock, uint64_t>> from;
    for (const int m : members) {
      from.push_back(run.barrier[kind][m].front());
      run.barrier[kind][m].pop_front();
    }
    for (const int m : members) release(run, m, flag, from);
  }
  CrossSlot& slot = run.cross[{me.index, flag}];
  while (slot.ready == 0) block("all cores to reach SyncAll");
  --slot.ready;
  auto [clock, tokens] = std::move(slot.carried.front());
  slot.carried.pop_front();
  me.clocks[at(Pipe::S)].join(clock);
  for (const uint64_t t : tokens) append(Ev::Wait, Pipe::S, t);
}

HandOver handOver(uint32_t pipes) {
  Core& me = core();
  Clock all;
  for (int p = 0; p < kPipes; ++p) all.join(snapshot(me, static_cast<Pipe>(p)));
  auto remote = all.remote
                    ? std::make_shared<std::vector<uint32_t>>(*all.remote)
                    : std::make_shared<std::vector<uint32_t>>(me.run->cores.size() * kPipes, 0u);
  for (int q = 0; q < kPipes; ++q) {
    uint32_t& v = (*remote)[static_cast<size_t>(me.index * kPipes + q)];
    v = std::max(v, all.own[q]);
  }
  HandOver out;
  out.clock.remote = std::move(remote);
  for (int p = 0; p < kPipes; ++p)
    if ((pipes >> p & 1) != 0 && hasPipe(me, static_cast<Pipe>(p))) {
      out.tokens.push_back(newToken());
      append(Ev::Set, static_cast<Pipe>(p), out.tokens.back());
    }
  return out;
}

void takeOver(const HandOver& from, Pipe pipe) {
  core().clocks[at(pipe)].join(from.clock);
  for (const uint64_t t : from.tokens) append(Ev::Wait, pipe, t);
}

AsCube::AsCube() {
  Core& me = core();
  if (me.aic) return;
  Core& cube = aicOfGroup();
  const HandOver message = handOver(1u << at(Pipe::S) | 1u << at(Pipe::MTE3));
  cube.api = me.api;
  cube.loc = me.loc;
  cube.site = me.site;
  ++cube.apiDepth;
  vector_ = &me;
  g_core = &cube;
  takeOver(message, Pipe::S);
  // All its earlier work is behind the message too: the server handles one at a time.
  Clock& s = cube.clocks[at(Pipe::S)];
  for (int p = 0; p < kPipes; ++p) s.join(snapshot(cube, static_cast<Pipe>(p)));
}

AsCube::~AsCube() {
  if (vector_ == nullptr) return;
  --g_core->apiDepth;
  g_core = vector_;
}

void orderWith(Core& other) {
  Core& me = core();
  pipeBarrier(Pipe::Count);
  Clock mine = published(me, Pipe::S);
  // The other core is not running: build what it knows the same way.
  Clock all;
  for (int p = 0; p < kPipes; ++p) all.join(snapshot(other, static_cast<Pipe>(p)));
  for (Clock& k : other.clocks) k = all;
  Clock theirs = published(other, Pipe::S);
  for (Clock& k : me.clocks) k.join(theirs);
  for (Clock& k : other.clocks) k.join(mine);
}

}  // namespace ascsim

// ------------------------------------------------------------------------------ GM signals
namespace ascsim {

void postSignal(uint64_t key) {
  Core& me = core();
  KernelRun& run = *me.run;
  const uint64_t token = newToken();
  append(Ev::Set, Pipe::S, token);
  run.signals[key].emplace_back(published(me, Pipe::S), token);
  for (const int waiter : run.waiters[key]) run.fibers[static_cast<size_t>(waiter)].blocked = false;
  run.waiters[key].clear();
}

void awaitSignal(uint64_t key, const char* what) {
  Core& me = core();
  KernelRun& run = *me.run;
  while (run.signals[key].empty()) {
    run.waiters[key].push_back(me.index);
    block(what);
  }
  const auto [clock, token] = run.signals[key].front();
  run.signals[key].pop_front();
  me.clocks[at(Pipe::S)].join(clock);
  append(Ev::Wait, Pipe::S, token);
}

void groupBarrier(uint64_t key, int members) {
  Core& me = core();
  KernelRun& run = *me.run;
  pipeBarrier(Pipe::Count);
  const uint64_t token = newToken();
  append(Ev::Set, Pipe::S, token);
  auto& arrived = run.groups[key];
  arrived.emplace_back(me.index, std::make_pair(published(me, Pipe::S), token));
  if (static_cast<int>(arrived.size()) == members) {
    std::vector<std::pair<Clock, uint64_t>> from;
    for (const auto& a : arrived) from.push_back(a.second);
    const auto everyone = std::move(arrived);
    arrived.clear();
    for (const auto& a : everyone) release(run, a.first, kGroupFlag, from);
  }
  CrossSlot& slot = run.cross[{me.index, kGroupFlag}];
  while (slot.ready == 0) block("the other cores to reach SyncAll");
  --slot.ready;
  auto [clock, tokens] = std::move(slot.carried.front());
  slot.carried.pop_front();
  me.clocks[at(Pipe::S)].join(clock);
  for (const uint64_t t : tokens) append(Ev::Wait, Pipe::S, t);
}

void releaseWord(Core& c, uint64_t address) {
  if (c.run->released.size() > 100000) c.run->released.clear();
  c.run->released[address] = {c.index, snapshot(c, Pipe::S)};
}

void acquireWord(Core& c, uint64_t address) {
  const auto it = c.run->released.find(address);
  if (it == c.run->released.end()) return;
  const auto& [from, known] = it->second;
  auto all = known.remote
                 ? std::make_shared<std::vector<uint32_t>>(*known.remote)
                 : std::make_shared<std::vector<uint32_t>>(c.run->cores.size() * kPipes, 0u);
  for (int q = 0; q < kPipes; ++q) {
    uint32_t& v = (*all)[static_cast<size_t>(from * kPipes + q)];
    v = std::max(v, known.own[q]);
  }
  Clock learnt;
  learnt.remote = std::move(all);
  c.clocks[at(Pipe::S)].join(learnt);
}

}  // namespace ascsim
