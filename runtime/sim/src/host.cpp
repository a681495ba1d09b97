// Launches: description of kernels, the registry of kernels by name, the end of the process.
#include "host.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "ascsim/chips.h"
#include "ascsim/core.h"

namespace ascsim {

namespace {

struct Description {
  bool found = false;
  KernelInfo info{"", KernelKind::Auto, "", 0};
};
thread_local Description* t_describe = nullptr;
uint64_t g_tilingKey = 0;
int g_loading = 0;
int g_modules = 0;
KernelMode g_mode = KernelMode::MIX_MODE;
bool g_direct = false;

std::deque<RegisteredKernel>& registry() {
  static auto& kernels = *new std::deque<RegisteredKernel>;  // used after exit; never moves
  return kernels;
}

// GmAlloc blocks: the host writes them without a copy call.
std::map<void*, size_t>& directMemory() {
  static auto& blocks = *new std::map<void*, size_t>;
  return blocks;
}

}  // namespace

bool describing(const char* name, KernelKind kind, const char* file, int line) {
  if (t_describe == nullptr) return false;
  t_describe->found = true;
  t_describe->info = {name, kind, file, line};
  return true;
}

KernelKind kindByKey(KernelKind other,
                     std::initializer_list<std::pair<uint64_t, KernelKind>> byKey) {
  for (const auto& [key, kind] : byKey) {
    if (key == g_tilingKey) return kind;
  }
  return other;
}

void setTilingKey(uint64_t key) { g_tilingKey = key; }
uint64_t tilingKey() { return g_tilingKey; }

void enqueueLaunch(int64_t blocks, int64_t /*dynamicUb*/, void* stream, Task task) {
  const Lock lock(hostMutex());
  Description d;
  Description* outer = t_describe;
  t_describe = &d;
  task.body();
  t_describe = outer;
  if (!d.found) {
    refuse(ACL_ERROR_RT_PARAM_INVALID, "launch",
           "the launched function is no kernel that xcompile simcc translated: it needs "
           "__global__ on its definition");
    return;
  }
  if (blocks < 1 || blocks > 65535) {
    refuse(ACL_ERROR_RT_PARAM_INVALID, "launch", "kernel %s: %lld blocks; 1 to 65535 are possible",
           d.info.name, static_cast<long long>(blocks));
    return;
  }
  Stream* s = findStream(stream);
  if (s == nullptr) {
    refuse(ACL_ERROR_RT_STREAM_CONTEXT, "launch", "kernel %s: the stream does not exist",
           d.info.name);
    return;
  }
  if (g_direct && g_mode != KernelMode::MIX_MODE) {
    d.info.kind = g_mode == KernelMode::AIV_MODE ? KernelKind::AivOnly : KernelKind::AicOnly;
  }
  Op op;
  op.what = std::string("kernel ") + d.info.name;
  op.pointers = std::move(task.pointers);
  op.launch = true;
  LaunchOptions options{};
  options.blocks = static_cast<uint32_t>(blocks);
  options.tilingKey = g_tilingKey;
  op.run = [info = d.info, options, body = std::move(task.body)] {
    return runKernel(info, options, body);
  };
  enqueue(*s, std::move(op));
}

void loadingModule(int module) { g_loading = module; }
int newModule() { return ++g_modules; }

bool addKernel(RegisteredKernel kernel) {
  const Lock lock(hostMutex());
  kernel.module = g_loading;
  registry().push_back(std::move(kernel));
  return true;
}

const RegisteredKernel* findKernel(const std::string& name, int module) {
  const RegisteredKernel* found = nullptr;
  for (const RegisteredKernel& kernel : registry()) {  // the newest stays
    if (kernel.name == name && (module < 0 || kernel.module == module)) found = &kernel;
  }
  if (found != nullptr) return found;
  const std::string tail = "::" + name;
  for (const RegisteredKernel& kernel : registry()) {
    if (module >= 0 && kernel.module != module) continue;
    if (kernel.name.size() <= tail.size() ||
        kernel.name.compare(kernel.name.size() - tail.size(), std::string::npos, tail) != 0) {
      continue;
    }
    if (found != nullptr && found->name != kernel.name) return nullptr;  // in several namespaces
    found = &kernel;
  }
  return found;
}

extern "C" void ascsim_reload_options();

bool defaultChip(const char* name) {
  if (setenv("XC_SIM_CHIP", name, 0) == 0) ascsim_reload_options();
  return true;
}

namespace {

double numberOf(const ArgValue& a) {
  switch (a.code) {
    case 'f':
      return a.size == 4 ? *static_cast<const float*>(a.data) : *static_cast<const double*>(a.data);
    case 'h':
      return static_cast<float>(*static_cast<const half*>(a.data));
    case 'b':
      return static_cast<float>(*static_cast<const bfloat16_t*>(a.data));
    default:
      return 0;
  }
}

uint64_t bitsOf(const ArgValue& a) {
  if (a.code == 'f' || a.code == 'h' || a.code == 'b') {
    return static_cast<uint64_t>(static_cast<int64_t>(numberOf(a)));
  }
  uint64_t v = 0;
  std::memcpy(&v, a.data, std::min<size_t>(a.size, 8));
  if (a.code == 'i' && a.size < 8 && (v >> (8 * a.size - 1)) & 1) v |= ~0ull << (8 * a.size);
  return v;
}

// One value in the parameter's own representation; empty: not convertible.
std::string converted(const ParamType& to, const ArgValue& from) {
  std::string out(to.size, '\0');
  const bool fromNumber = from.code != 's' && from.code != 'p';
  if (to.code == 's') {
    if (from.code != 's' || from.size != to.size) return {};
    std::memcpy(out.data(), from.data, to.size);
  } else if (to.code == 'p') {
    if (from.code != 'p' && !(fromNumber && bitsOf(from) == 0)) return {};
    const uint64_t v = bitsOf(from);
    std::memcpy(out.data(), &v, to.size);
  } else if (!fromNumber) {
    return {};
  } else if (to.code == 'i' || to.code == 'u') {
    const uint64_t v = bitsOf(from);
    std::memcpy(out.data(), &v, to.size);
  } else {
    const bool real = from.code == 'f' || from.code == 'h' || from.code == 'b';
    const double v = real               ? numberOf(from)
                     : from.code == 'u' ? static_cast<double>(bitsOf(from))
                                        : static_cast<double>(static_cast<int64_t>(bitsOf(from)));
    const auto f = static_cast<float>(v);
    const uint16_t h = to.code == 'h' ? floatToHalfBits(f) : floatToBfloatBits(f);
    if (to.code != 'f')
      std::memcpy(out.data(), &h, 2);
    else if (to.size == 4)
      std::memcpy(out.data(), &f, 4);
    else
      std::memcpy(out.data(), &v, to.size);
  }
  return out;
}

const char* codeName(char code) {
  switch (code) {
    case 'p':
      return "a pointer";
    case 's':
      return "a struct";
    case 'i':
    case 'u':
      return "an integer";
    default:
      return "a floating-point number";
  }
}

}  // namespace

uint32_t launchNamed(const char* name, int64_t blocks, void* stream,
                     const std::vector<ArgValue>& args) {
  const RegisteredKernel* kernel = findKernel(name);
  if (kernel == nullptr) {
    std::string known;
    for (const RegisteredKernel& k : registry()) known += (known.empty() ? "" : ", ") + k.name;
    return static_cast<uint32_t>(refuse(ACL_ERROR_RT_PARAM_INVALID, "launch",
                                        "no kernel %s in this program; it has: %s", name,
                                        known.empty() ? "none" : known.c_str()));
  }
  return launchRegistered(*kernel, blocks, stream, args);
}

uint32_t launchRegistered(const RegisteredKernel& kernel, int64_t blocks, void* stream,
                          const std::vector<ArgValue>& args) {
  if (kernel.params.size() != args.size()) {
    return static_cast<uint32_t>(refuse(ACL_ERROR_RT_PARAM_INVALID, "launch",
                                        "kernel %s takes %zu arguments, given %zu",
                                        kernel.name.c_str(), kernel.params.size(), args.size()));
  }
  auto values = std::make_shared<std::vector<std::string>>();
  Task task;
  for (size_t i = 0; i < args.size(); ++i) {
    values->push_back(converted(kernel.params[i], args[i]));
    if (values->back().empty()) {
      return static_cast<uint32_t>(
          refuse(ACL_ERROR_RT_PARAM_INVALID, "launch",
                 "kernel %s: argument %zu is %s of %zu bytes, the parameter %s of %zu",
                 kernel.name.c_str(), i, codeName(args[i].code), args[i].size,
                 codeName(kernel.params[i].code), kernel.params[i].size));
    }
    if (args[i].code == 'p') {
      task.pointers.push_back(*static_cast<const void* const*>(args[i].data));
    }
  }
  task.body = [call = kernel.call, values] {
    std::vector<const void*> raw;
    raw.reserve(values->size());
    for (const std::string& v : *values) raw.push_back(v.data());
    call(raw);
  };
  enqueueLaunch(blocks, 0, stream, std::move(task));
  return 0;
}

void beforeDirectRun() {
  const Lock lock(hostMutex());
  g_direct = true;
  for (const auto& [p, size] : directMemory()) gmHostWrote(p, size);
}

void afterDirectRun() {
  const Lock lock(hostMutex());
  g_direct = false;
  drain(*findStream(nullptr));
}

// ------------------------------------------------------------------------- the end of the process
namespace {

bool g_embedded = false;

// A program that hides an error behind exit code 0 would look right to a script.
void atExit(int status, void*) {
  if (g_embedded) return;
  if (const size_t n = queuedOps()) {
    hostNote("warning: " + std::to_string(n) +
             " operations on streams never ran: nothing synchronised before the end");
  }
  const size_t errors = errorCount();
  if (errors == 0) return;
  std::cout.flush();
  std::fflush(nullptr);
  std::fprintf(stderr, "[ascsim] %zu error%s\n", errors, errors == 1 ? "" : "s");
  if (status == 0) _exit(1);
}

[[gnu::constructor]] void installExit() { on_exit(atExit, nullptr); }

}  // namespace

bool embedded() { return g_embedded; }

}  // namespace ascsim

namespace AscendC {

void* GmAlloc(size_t size) {
  const ascsim::Lock lock(ascsim::hostMutex());
  void* p = std::aligned_alloc(512, (size + 511) / 512 * 512);
  ascsim::gmAdd(p, size);
  ascsim::directMemory()[p] = size;
  return p;
}

void GmFree(void* p) {
  const ascsim::Lock lock(ascsim::hostMutex());
  if (ascsim::directMemory().erase(p) == 0) {
    ascsim::refuse(ACL_ERROR_RT_PARAM_INVALID, "GmFree", "%p was not allocated by GmAlloc", p);
    return;
  }
  ascsim::gmRemove(p);
  std::free(p);
}

void SetKernelMode(KernelMode mode) { ascsim::g_mode = mode; }

}  // namespace AscendC

// --------------------------------------------------------------------------- in-process use
// (ctypes)
extern "C" {

void ascsim_embed() { ascsim::g_embedded = true; }

int ascsim_begin_module() {
  const int module = ascsim::newModule();
  ascsim::loadingModule(module);
  return module;
}

void ascsim_end_module() { ascsim::loadingModule(0); }

const char* ascsim_kernels(int module) {
  static std::string text;
  text = "[";
  for (const ascsim::RegisteredKernel& kernel : ascsim::registry()) {
    if (kernel.module != module) continue;
    text += (text.size() > 1 ? ", " : "") + ("{\"name\": \"" + kernel.name + "\", \"params\": [");
    for (size_t i = 0; i < kernel.params.size(); ++i) {
      text += (i > 0 ? ", " : "") + ("[\"" + std::string(1, kernel.params[i].code) + "\", " +
                                     std::to_string(kernel.params[i].size) + "]");
    }
    text += "]}";
  }
  text += "]";
  return text.c_str();
}

// Runs one kernel; codes, sizes and data describe the arguments. Returns an ACL error code.
int ascsim_launch(int module, const char* name, int64_t blocks, uint64_t tilingKey, size_t count,
                  const char* codes, const size_t* sizes, const void* const* data) {
  std::vector<ascsim::ArgValue> args;
  for (size_t i = 0; i < count; ++i) args.push_back({codes[i], sizes[i], data[i]});
  const ascsim::RegisteredKernel* kernel = ascsim::findKernel(name, module);
  if (kernel == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  const uint64_t before = ascsim::tilingKey();
  ascsim::setTilingKey(tilingKey);
  const uint32_t refused = ascsim::launchRegistered(*kernel, blocks, nullptr, args);
  ascsim::setTilingKey(before);
  if (refused != 0) return static_cast<int>(refused);
  ascsim::Stream& stream = *ascsim::findStream(nullptr);
  const int result = ascsim::drain(stream);
  stream.error = 0;
  return result;
}

void ascsim_gm_host_read(const void* p, size_t bytes) { ascsim::gmHostRead(p, bytes); }

void ascsim_gm_add(void* p, size_t bytes, int written) {
  ascsim::gmAdd(p, bytes);
  if (written != 0) ascsim::gmHostWrote(p, bytes);
}

void ascsim_gm_remove(void* p) { ascsim::gmRemove(p); }

const char* ascsim_take_errors() {
  static std::string text;
  text = ascsim::takeErrors();
  return text.c_str();
}

double ascsim_time() { return ascsim::simTimeMicroseconds(); }
double ascsim_megahertz() { return ascsim::options().chip->mhz; }
}
