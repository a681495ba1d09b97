// The running core, fibers and the launch.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "internal.h"

namespace ascsim {

KernelRun* g_run = nullptr;
Core* g_core = nullptr;

// ------------------------------------------------------------------------------------- the core
Core& core() {
  if (g_core == nullptr) {
    std::fprintf(stderr,
                 "[ascsim] a kernel-side Ascend C API was called on the host, outside a launch\n");
    std::abort();
  }
  return *g_core;
}

bool insideKernel() { return g_core != nullptr; }

const LaunchInfo& launchInfo() {
  core();
  return g_run->launch;
}

int aivPerGroup() {
  switch (g_run->launch.kind) {
    case KernelKind::AivOnly:
    case KernelKind::MixAiv10:
    case KernelKind::Mix11:
      return 1;
    case KernelKind::Mix12:
      return 2;
    default:
      return 0;
  }
}

Core& aicOfGroup() {
  Core& me = core();
  if (me.aic) return me;
  for (auto& c : g_run->cores)
    if (c->aic && c->block == me.block) return *c;
  fail(kChip,
       "needs a cube core, but the kernel %s runs on vector cores only; declare it as a "
       "mixed kernel (__mix__(1, 2) or KERNEL_TYPE_MIX_AIC_1_2)",
       g_run->info.name);
}

Api::Api(const char* name, const Loc& loc) {
  Core& c = core();
  if (c.apiDepth++ == 0) {
    c.api = name;
    c.loc = loc;
    c.site = internSite(name, loc);
    if (options().seed != 0) {
      // Other interleavings of the cores than round-robin at the synchronisation points.
      static uint64_t state = options().seed * 0x9e3779b97f4a7c15ull + 1;
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      if (state % 61 == 0) yieldCore();
    }
  }
}

Api::~Api() {
  if (g_core != nullptr) --g_core->apiDepth;
}

// ------------------------------------------------------------------------------------- fibers
namespace {

constexpr size_t kStackBytes = 2u << 20;
std::vector<void*> g_stacks;
uint64_t g_serial = 0;

void* takeStack() {
  if (!g_stacks.empty()) {
    void* s = g_stacks.back();
    g_stacks.pop_back();
    return s;
  }
  void* s = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (s == MAP_FAILED) {
    std::perror("[ascsim] cannot allocate a core's stack");
    std::abort();
  }
  mprotect(s, 4096, PROT_NONE);  // a kernel's stack overflow faults instead of corrupting
  return s;
}

size_t g_fiber = 0;  // the running one; its core may work as the cube core of its group

void resume(KernelRun& run, size_t i) {
  g_core = run.cores[i].get();
  g_fiber = i;
  swapcontext(&run.scheduler, &run.fibers[i].context);
  g_core = nullptr;
}

void finishCore(KernelRun& run, Core& c) {
  const std::vector<std::array<FlagSlot, 8>>& flags = run.flags[static_cast<size_t>(c.index)];
  for (int pair = 0; pair < static_cast<int>(flags.size()); ++pair)
    for (int id = 0; id < 8; ++id) {
      const FlagSlot& slot = flags[static_cast<size_t>(pair)][static_cast<size_t>(id)];
      if (slot.set)
        report(kFlag,
               "the flag %s_%s %d is set at the end of the kernel (%s); every SetFlag needs its "
               "WaitFlag, or the next kernel starts with a set flag",
               pipeName(static_cast<Pipe>(pair / kPipes)),
               pipeName(static_cast<Pipe>(pair % kPipes)), id, siteText(slot.site).c_str());
    }
}

void fiberMain() {
  KernelRun& run = *g_run;
  Core& me = *g_core;
  Fiber& fiber = run.fibers[static_cast<size_t>(me.index)];
  try {
    (*run.body)();
    me.apiDepth = 0;
    finishCore(run, me);
  } catch (const KernelAbort&) {
    run.aborted = 1;
  }
  fiber.done = true;
  swapcontext(&fiber.context, &run.scheduler);
}

void start(KernelRun& run, size_t i) {
  Fiber& f = run.fibers[i];
  f.started = true;
  f.stack = takeStack();
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = kStackBytes;
  f.context.uc_link = &run.scheduler;
  makecontext(&f.context, fiberMain, 0);
}

void schedule(KernelRun& run) {
  std::vector<size_t> order(run.fibers.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  uint64_t state = options().seed * 0x2545f4914f6cdd1dull + 0x9e3779b97f4a7c15ull;
  size_t left = order.size();
  while (left > 0) {
    if (options().seed != 0)
      for (size_t i = order.size() - 1; i > 0; --i) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::swap(order[i], order[state % (i + 1)]);
      }
    bool progress = false;
    for (const size_t i : order) {
      Fiber& f = run.fibers[i];
      if (f.done || (f.blocked && run.aborted == 0)) continue;
      if (!f.started) {
        if (run.aborted != 0) {
          f.done = true;
          --left;
          continue;
        }
        start(run, i);
      }
      resume(run, i);
      progress = true;
      if (f.done) {
        --left;
        g_stacks.push_back(f.stack);
        f.stack = nullptr;
      }
    }
    if (!progress && left > 0) {
      std::string who;
      int shown = 0;
      for (const size_t i : order) {
        const Fiber& f = run.fibers[i];
        if (f.done) continue;
        if (shown++ == 4) {
          who += "\n  ...";
          break;
        }
        const Core& c = *run.cores[i];
        who += "\n  " + coreName(c) + " waits in " + siteText(c.site) + " for " + f.waitingFor;
      }
      reportError("deadlock", "kernel " + std::string(run.info.name) +
                                  ": every unfinished core waits, none can go on:" + who);
      run.aborted = 1;
    }
  }
}

// Rows of fibers' cores share on-chip memory objects, since a finished core's are free.
std::vector<Local> g_localPool[kMems];

}  // namespace

void block(const std::string& why) {
  KernelRun& run = *g_run;
  Core& me = *g_core;
  Fiber& f = run.fibers[g_fiber];
  f.blocked = true;
  f.waitingFor = why;
  const int depth = me.apiDepth;
  swapcontext(&f.context, &run.scheduler);
  g_core = &me;
  me.apiDepth = depth;
  f.blocked = false;
  if (run.aborted != 0) throw KernelAbort{};
}

void yieldCore() {
  KernelRun& run = *g_run;
  if (run.fibers.size() == 1) return;
  Core* const me = g_core;
  swapcontext(&run.fibers[g_fiber].context, &run.scheduler);
  g_core = me;
  if (run.aborted != 0) throw KernelAbort{};
}

void yieldIfPolling(uint64_t address) {
  Core& c = *g_core;
  uint64_t& slot = c.recentReads[(address >> 2) % 64];
  if (slot != address) {
    slot = address;
    return;
  }
  KernelRun& run = *c.run;
  if (++run.polls > 1000000) {
    reportError("deadlock",
                "the cores read the same global memory again and again and nothing changes: "
                "the value they wait for is never written");
    run.aborted = 1;
    throw KernelAbort{};
  }
  yieldCore();
}

int runKernel(const KernelInfo& info, const LaunchOptions& o, const std::function<void()>& body) {
  if (g_run != nullptr) {
    std::fprintf(stderr, "[ascsim] a kernel launches a kernel: not supported\n");
    std::abort();
  }
  if (o.blocks == 0 || o.blocks > 0x3fff) {
    reportError("param", std::string(info.name) + ": launched with " + std::to_string(o.blocks) +
                             " blocks; expected 1 to 16383");
    return 507015;
  }
  KernelRun run;
  run.info = info;
  run.serial = ++g_serial;
  run.launch = {o.blocks, info.kind, o.tilingKey, info.name};
  run.body = &body;
  const bool cube = info.kind == KernelKind::AicOnly || info.kind == KernelKind::MixAic10 ||
                    info.kind == KernelKind::Mix11 || info.kind == KernelKind::Mix12;
  g_run = &run;
  const int vectors = aivPerGroup();
  for (uint32_t b = 0; b < o.blocks; ++b) {
    for (int v = cube ? -1 : 0; v < vectors; ++v) {
      auto c = std::make_unique<Core>();
      c->run = &run;
      c->index = static_cast<int>(run.cores.size());
      c->aic = v < 0;
      c->block = static_cast<int>(b);
      c->subBlock = std::max(v, 0);
      // CTRL[48]: half results overflow to infinity, as the runtime sets it for these chips.
      c->sprs[0] = 1ull << 48;
      run.cores.push_back(std::move(c));
    }
  }
  run.fibers.resize(run.cores.size());
  run.flags.resize(run.cores.size());
  for (auto& f : run.flags) f.resize(kPipes * kPipes);
  schedule(run);
  if (options().timing && run.aborted == 0) replayLaunch(run);
  for (auto& c : run.cores)
    for (int m = 1; m < kMems; ++m)
      if (c->local[m].bytes) g_localPool[m].push_back(std::move(c->local[m]));
  g_run = nullptr;
  return run.aborted != 0 ? 507015 : 0;
}

void ensureLocal(Core& c, Mem mem) {
  Local& l = c.local[static_cast<int>(mem)];
  if (l.bytes) return;
  std::vector<Local>& pool = g_localPool[static_cast<int>(mem)];
  const uint32_t size = memSize(mem);
  if (!pool.empty() && pool.back().size == size) {
    l = std::move(pool.back());
    pool.pop_back();
    std::fill(l.shadow->init_.begin(), l.shadow->init_.end(), 0u);
  } else {
    l.size = size;
    l.bytes.reset(new uint8_t[size + 64]);
    l.shadow = std::make_unique<Shadow>(size);
  }
  // A pattern that is a NaN in half and float: an unwritten read shows in the results too.
  std::memset(l.bytes.get(), 0xff, size);
}

}  // namespace ascsim
