// Options, errors, the running core, fibers and the launch.
#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <sstream>
#include <unordered_map>

#include "internal.h"

namespace ascsim {

KernelRun* g_run = nullptr;
Core* g_core = nullptr;

// ------------------------------------------------------------------------------------- options
namespace {

struct NamedCheck {
  const char* name;
  uint32_t bits;
};
constexpr NamedCheck kCheckNames[] = {
    {"bounds", kBounds}, {"align", kAlign}, {"param", kParam}, {"init", kInit},     {"race", kRace},
    {"queue", kQueue},   {"flag", kFlag},   {"chip", kChip},   {"all", kAllChecks}, {"none", 0},
};

const char* checkName(Check c) {
  for (const NamedCheck& n : kCheckNames)
    if (n.bits == c) return n.name;
  return "check";
}

[[noreturn]] void badOption(const char* name, const std::string& got, const std::string& expected) {
  std::fprintf(stderr, "[ascsim] %s=%s is not understood; expected %s\n", name, got.c_str(),
               expected.c_str());
  std::exit(2);
}

std::string env(const char* name, const char* fallback) {
  const char* v = std::getenv(name);
  return v != nullptr && *v != 0 ? v : fallback;
}

bool envFlag(const char* name, bool fallback) {
  const std::string v = env(name, fallback ? "1" : "0");
  if (v == "1" || v == "on" || v == "true") return true;
  if (v == "0" || v == "off" || v == "false") return false;
  badOption(name, v, "0 or 1");
}

uint64_t envNumber(const char* name, uint64_t fallback) {
  const std::string v = env(name, std::to_string(fallback).c_str());
  char* end = nullptr;
  const uint64_t n = std::strtoull(v.c_str(), &end, 0);
  if (end == v.c_str() || *end != 0) badOption(name, v, "a number");
  return n;
}

#ifndef ASCSIM_DEFAULT_CHIP
#define ASCSIM_DEFAULT_CHIP "ascend910b1"
#endif

Options readOptions() {
  Options o;
  const std::string chip = env("XC_SIM_CHIP", ASCSIM_DEFAULT_CHIP);
  o.chip = findChip(chip.c_str());
  if (o.chip == nullptr) badOption("XC_SIM_CHIP", chip, chipNames());
  const std::string checks = env("XC_SIM_CHECKS", "all");
  o.checks = 0;
  std::stringstream list(checks);
  for (std::string word; std::getline(list, word, ',');) {
    // "-name" takes one away from what was named before.
    const bool minus = !word.empty() && word[0] == '-';
    const std::string name = minus ? word.substr(1) : word;
    const NamedCheck* found = nullptr;
    for (const NamedCheck& n : kCheckNames)
      if (name == n.name) found = &n;
    if (found == nullptr)
      badOption("XC_SIM_CHECKS", checks,
                "a comma list of bounds, align, param, init, race, queue, flag, chip, all, none; "
                "-name takes one away");
    if (minus && o.checks == 0) o.checks = kAllChecks;
    o.checks = minus ? o.checks & ~found->bits : o.checks | found->bits;
  }
  o.seed = envNumber("XC_SIM_SEED", 0);
  o.autoSync = envFlag("XC_SIM_AUTO_SYNC", true);
  o.timing = envFlag("XC_SIM_TIMING", true);
  o.traceFile = env("XC_SIM_TRACE", "");
  o.maxErrors = envNumber("XC_SIM_MAX_ERRORS", 20);
  return o;
}

Options& mutableOptions() {
  static Options o = readOptions();
  return o;
}

}  // namespace

const Options& options() { return mutableOptions(); }

// Tests change the environment between launches of one process.
extern "C" void ascsim_reload_options() { mutableOptions() = readOptions(); }

// ------------------------------------------------------------------------------------- errors
namespace {

struct ErrorRecord {
  std::string rule, text, kernel, file, core;
  int line;
};
std::vector<ErrorRecord> g_errors;
size_t g_errorCount = 0;
std::set<std::string> g_seen;

std::string jsonString(const std::string& s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 32) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", c);
      out += buffer;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void record(const char* rule, const std::string& text) {
  ErrorRecord e{rule, text, "", "", "", 0};
  std::string where;
  if (g_core != nullptr) {
    e.kernel = g_run->info.name;
    e.file = g_core->loc.file;
    e.line = g_core->loc.line;
    e.core = coreName(*g_core);
    where = e.file + ":" + std::to_string(e.line) + ": ";
  }
  // The same mistake on every core and iteration is one error: numbers are left out of the key.
  std::string key = rule + where;
  for (const char c : text)
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) key += c;
  ++g_errorCount;
  if (!g_seen.insert(key).second) return;
  if (g_errors.size() >= options().maxErrors) return;
  std::fprintf(stderr, "[ascsim] %serror [%s] %s%s%s%s%s%s%s%s\n", where.c_str(), rule,
               g_core != nullptr && *g_core->api != 0 ? g_core->api : "",
               g_core != nullptr && *g_core->api != 0 ? ": " : "", text.c_str(),
               g_core != nullptr ? "\n  in kernel " : "", e.kernel.c_str(),
               g_core != nullptr ? ", core " : "", e.core.c_str(), "");
  g_errors.push_back(std::move(e));
  if (g_errors.size() == options().maxErrors)
    std::fprintf(stderr, "[ascsim] further kinds of errors are not printed (XC_SIM_MAX_ERRORS)\n");
}

std::string formatText(const char* format, va_list args) {
  char buffer[2048];
  std::vsnprintf(buffer, sizeof buffer, format, args);
  return buffer;
}

}  // namespace

size_t errorCount() { return g_errorCount; }

std::string takeErrors() {
  std::string out = "[";
  for (const ErrorRecord& e : g_errors) {
    out += (out.size() > 1 ? ", " : "");
    out += "{\"rule\": " + jsonString(e.rule) + ", \"text\": " + jsonString(e.text) +
           ", \"kernel\": " + jsonString(e.kernel) + ", \"file\": " + jsonString(e.file) +
           ", \"line\": " + std::to_string(e.line) + ", \"core\": " + jsonString(e.core) + "}";
  }
  g_errors.clear();
  g_seen.clear();
  g_errorCount = 0;
  return out + "]";
}

void reportError(const char* rule, const std::string& text) { record(rule, text); }

void report(Check rule, const char* format, ...) {
  if (!checking(rule)) return;
  va_list args;
  va_start(args, format);
  record(checkName(rule), formatText(format, args));
  va_end(args);
}

void warn(Check rule, const char* format, ...) {
  if (!checking(rule) || g_core == nullptr) return;
  va_list args;
  va_start(args, format);
  const std::string text = formatText(format, args);
  va_end(args);
  const std::string where = std::string(g_core->loc.file) + ":" + std::to_string(g_core->loc.line);
  if (!g_seen.insert("warning" + where + text).second) return;
  std::fprintf(stderr, "[ascsim] %s: warning [%s] %s: %s (kernel %s, core %s)\n", where.c_str(),
               checkName(rule), g_core->api, text.c_str(), g_run->info.name,
               coreName(*g_core).c_str());
}

void fail(Check rule, const char* format, ...) {
  va_list args;
  va_start(args, format);
  record(checkName(rule), formatText(format, args));
  va_end(args);
  throw KernelAbort{};
}

// ------------------------------------------------------------------------------------- names
const char* pipeName(Pipe p) {
  static const char* const names[] = {"S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX", "ALL"};
  return names[static_cast<int>(p)];
}

const char* memName(Mem m) {
  static const char* const names[] = {"GM", "UB", "L1", "L0A", "L0B", "L0C", "BT", "FB", "?"};
  return names[static_cast<int>(m)];
}

const char* dtypeName(DType t) {
  static const char* const names[] = {"uint8_t", "int8_t",   "uint16_t", "int16_t", "uint32_t",
                                      "int32_t", "uint64_t", "int64_t",  "half",    "bfloat16_t",
                                      "float",   "double",   "int4b_t",  "bool",    "struct"};
  return names[static_cast<int>(t)];
}

std::string coreName(const Core& c) {
  std::string s = c.aic ? "AIC " : "AIV ";
  s += std::to_string(c.aic ? c.block : c.block * std::max(1, aivPerGroup()) + c.subBlock);
  return s;
}

EventPipes eventPipes(AscendC::HardEvent e) {
  using E = AscendC::HardEvent;
  static const std::map<E, EventPipes> table = {
      {E::MTE2_MTE1, {Pipe::MTE2, Pipe::MTE1}},
      {E::MTE1_MTE2, {Pipe::MTE1, Pipe::MTE2}},
      {E::MTE1_M, {Pipe::MTE1, Pipe::M}},
      {E::M_MTE1, {Pipe::M, Pipe::MTE1}},
      {E::MTE2_V, {Pipe::MTE2, Pipe::V}},
      {E::V_MTE2, {Pipe::V, Pipe::MTE2}},
      {E::MTE3_V, {Pipe::MTE3, Pipe::V}},
      {E::V_MTE3, {Pipe::V, Pipe::MTE3}},
      {E::M_V, {Pipe::M, Pipe::V}},
      {E::V_M, {Pipe::V, Pipe::M}},
      {E::V_V, {Pipe::V, Pipe::V}},
      {E::MTE3_MTE1, {Pipe::MTE3, Pipe::MTE1}},
      {E::MTE1_MTE3, {Pipe::MTE1, Pipe::MTE3}},
      {E::MTE1_V, {Pipe::MTE1, Pipe::V}},
      {E::MTE2_M, {Pipe::MTE2, Pipe::M}},
      {E::M_MTE2, {Pipe::M, Pipe::MTE2}},
      {E::V_MTE1, {Pipe::V, Pipe::MTE1}},
      {E::M_FIX, {Pipe::M, Pipe::FIX}},
      {E::FIX_M, {Pipe::FIX, Pipe::M}},
      {E::MTE3_MTE2, {Pipe::MTE3, Pipe::MTE2}},
      {E::MTE2_MTE3, {Pipe::MTE2, Pipe::MTE3}},
      {E::S_V, {Pipe::S, Pipe::V}},
      {E::V_S, {Pipe::V, Pipe::S}},
      {E::S_MTE2, {Pipe::S, Pipe::MTE2}},
      {E::MTE2_S, {Pipe::MTE2, Pipe::S}},
      {E::S_MTE3, {Pipe::S, Pipe::MTE3}},
      {E::MTE3_S, {Pipe::MTE3, Pipe::S}},
      {E::MTE2_FIX, {Pipe::MTE2, Pipe::FIX}},
      {E::FIX_MTE2, {Pipe::FIX, Pipe::MTE2}},
      {E::FIX_S, {Pipe::FIX, Pipe::S}},
      {E::M_S, {Pipe::M, Pipe::S}},
      {E::S_M, {Pipe::S, Pipe::M}},
      {E::FIX_MTE3, {Pipe::FIX, Pipe::MTE3}},
      {E::MTE3_FIX, {Pipe::MTE3, Pipe::FIX}},
      {E::MTE1_FIX, {Pipe::MTE1, Pipe::FIX}},
      {E::FIX_MTE1, {Pipe::FIX, Pipe::MTE1}},
      {E::FIX_FIX, {Pipe::FIX, Pipe::FIX}},
      {E::FIX_V, {Pipe::FIX, Pipe::V}},
      {E::V_FIX, {Pipe::V, Pipe::FIX}},
      {E::MTE1_S, {Pipe::MTE1, Pipe::S}},
      {E::S_MTE1, {Pipe::S, Pipe::MTE1}},
      {E::S_FIX, {Pipe::S, Pipe::FIX}},
  };
  return table.at(e);
}

uint32_t memSize(Mem mem) {
  const Chip& c = *options().chip;
  // The memory itself: the framework's 256 bytes at its end bound what TPipe hands out, not tensors
  // that name an address. In UB they are taken from mixed kernels only.
  const uint32_t l1 = (c.l1 + 1023) / 1024 * 1024;
  const bool mixed = g_run != nullptr && (g_run->launch.kind == KernelKind::Mix11 ||
                                          g_run->launch.kind == KernelKind::Mix12);
  const uint32_t ub = mixed ? c.ub : (c.ub + 1023) / 1024 * 1024;
  const uint32_t sizes[] = {0, ub, l1, c.l0a, c.l0b, c.l0c, c.bt, c.fb};
  return sizes[static_cast<int>(mem)];
}

Mem memOf(AscendC::TPosition position) {
  using P = AscendC::TPosition;
  switch (position) {
    case P::GM:
    case P::CO2:
      return Mem::GM;
    case P::A1:
    case P::B1:
    case P::C1:
    case P::SPM:
    case P::TSCM:
      return Mem::L1;
    case P::A2:
      return Mem::L0A;
    case P::B2:
      return Mem::L0B;
    case P::C2:
      return Mem::BT;
    case P::CO1:
      return Mem::L0C;
    case P::C2PIPE2GM:
    case P::C2PIPE2LOCAL:
      return Mem::FB;
    default:
      return Mem::UB;
  }
}

Pipe producerPipe(AscendC::TPosition position) {
  using P = AscendC::TPosition;
  switch (position) {
    case P::A1:
    case P::B1:
    case P::C1:
    case P::TSCM:
    case P::VECIN:
    case P::GM:
      return Pipe::MTE2;
    case P::A2:
    case P::B2:
    case P::C2:
      return Pipe::MTE1;
    case P::C2PIPE2GM:
    case P::C2PIPE2LOCAL:
      return Pipe::FIX;
    case P::CO1:
      return Pipe::M;
    case P::CO2:
      return Pipe::FIX;
    default:
      return Pipe::V;
  }
}

Pipe consumerPipe(AscendC::TPosition position) {
  using P = AscendC::TPosition;
  switch (position) {
    case P::A1:
    case P::B1:
    case P::C1:
    case P::TSCM:
      return Pipe::MTE1;
    case P::A2:
    case P::B2:
    case P::C2:
      return Pipe::M;
    case P::CO1:
    case P::C2PIPE2GM:
    case P::C2PIPE2LOCAL:
      return Pipe::FIX;
    case P::CO2:
    case P::VECOUT:
      return Pipe::MTE3;
    default:
      return Pipe::V;
  }
}

// ------------------------------------------------------------------------------------- sites
namespace {
struct Site {
  const char* api;
  const char* file;
  int line;
};
std::vector<Site> g_sites = {{"", "", 0}};
std::unordered_map<std::string, uint32_t> g_siteIndex;
}  // namespace

uint32_t internSite(const char* api, const Loc& loc) {
  // Few sites repeat many times: look at the pointers before hashing a text.
  static struct {
    const char* api;
    const char* file;
    int line;
    uint32_t site;
  } recent[64];
  const size_t slot =
      (reinterpret_cast<uintptr_t>(api) / 8 + static_cast<uintptr_t>(loc.line)) % 64;
  if (recent[slot].api == api && recent[slot].file == loc.file && recent[slot].line == loc.line)
    return recent[slot].site;
  const std::string key = std::string(api) + "|" + loc.file + "|" + std::to_string(loc.line);
  const auto [it, fresh] = g_siteIndex.emplace(key, static_cast<uint32_t>(g_sites.size()));
  if (fresh) g_sites.push_back({api, loc.file, loc.line});
  recent[slot] = {api, loc.file, loc.line, it->second};
  return it->second;
}

std::string siteText(uint32_t site) {
  const Site& s = g_sites[site];
  return std::string(s.api) + " at " + s.file + ":" + std::to_string(s.line);
}

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
      record("deadlock", "kernel " + std::string(run.info.name) +
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
    record("deadlock",
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
    record("param", std::string(info.name) + ": launched with " + std::to_string(o.blocks) +
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
