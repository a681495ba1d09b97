// ACL: start and end, device, context, memory.
#include "acl/acl.h"

#include <algorithm>
#include <cctype>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "ascsim/chips.h"
#include "ascsim/core.h"
#include "host.h"

namespace ascsim {

namespace {

constexpr uint32_t kDevices = 8;
constexpr size_t kDeviceBytes = size_t{64} << 30;

struct Memory {
  std::map<const char*, size_t> device, host;
  std::set<const void*> freed;  // for telling a double free from a wrong pointer
  size_t used = 0;
};

Memory& memory() {
  static Memory& m = *new Memory;
  return m;
}

bool g_initialised = false;
int g_device = -1;
std::map<int, int> g_devices;  // device -> times set
std::set<int*> g_contexts;
aclError g_lastError = ACL_SUCCESS;

// The block of `blocks` that holds p, or end().
std::map<const char*, size_t>::const_iterator holder(const std::map<const char*, size_t>& blocks,
                                                     const void* p) {
  auto it = blocks.upper_bound(static_cast<const char*>(p));
  if (it == blocks.begin()) return blocks.end();
  --it;
  return static_cast<const char*>(p) < it->first + it->second ? it : blocks.end();
}

bool onDevice(const void* p) {
  size_t offset = 0;
  size_t size = 0;
  return gmFind(p, &offset, &size);
}

aclError checkSpan(const char* api, const char* role, const void* p, size_t bytes) {
  size_t offset = 0;
  size_t size = 0;
  if (gmFind(p, &offset, &size)) {
    if (bytes <= size - offset) return ACL_SUCCESS;
    return refuse(ACL_ERROR_RT_PARAM_INVALID, api,
                  "%zu bytes at offset %zu of the %s, which is a device allocation of %zu bytes",
                  bytes, offset, role, size);
  }
  const auto it = holder(memory().host, p);
  if (it != memory().host.end()) {
    const auto at = static_cast<size_t>(static_cast<const char*>(p) - it->first);
    if (bytes > it->second - at) {
      return refuse(ACL_ERROR_RT_PARAM_INVALID, api,
                    "%zu bytes at offset %zu of the %s, which is a host allocation of %zu bytes",
                    bytes, at, role, it->second);
    }
  }
  return ACL_SUCCESS;
}

aclError checkSide(const char* api, const char* role, const void* p, bool wantDevice) {
  if (onDevice(p) == wantDevice) return ACL_SUCCESS;
  if (memory().freed.count(p) != 0) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, api, "the %s %p was freed", role, p);
  }
  return refuse(ACL_ERROR_RT_PARAM_INVALID, api, "the %s %p is %s memory, the kind says %s", role,
                p, wantDevice ? "no device" : "device", wantDevice ? "device" : "host");
}

struct Copy {
  char* dst;
  const char* src;
  size_t bytes;
  bool toDevice, fromDevice;
};

// Checks a copy of `count` bytes and finds its direction.
aclError plan(const char* api, void* dst, size_t destMax, const void* src, size_t count,
              aclrtMemcpyKind kind, Copy* out) {
  if (const aclError e = needDevice(api)) return e;
  if (count == 0) return refuse(ACL_ERROR_INVALID_PARAM, api, "the number of bytes is 0");
  if (dst == nullptr || src == nullptr) {
    return refuse(ACL_ERROR_INVALID_PARAM, api, "the %s is null",
                  dst == nullptr ? "destination" : "source");
  }
  if (count > destMax) {
    return refuse(ACL_ERROR_INVALID_PARAM, api, "%zu bytes do not fit into the destination of %zu",
                  count, destMax);
  }
  bool toDevice = onDevice(dst);
  bool fromDevice = onDevice(src);
  if (kind != ACL_MEMCPY_DEFAULT) {
    toDevice = kind != ACL_MEMCPY_HOST_TO_HOST && kind != ACL_MEMCPY_DEVICE_TO_HOST;
    fromDevice = kind == ACL_MEMCPY_DEVICE_TO_HOST || kind == ACL_MEMCPY_DEVICE_TO_DEVICE ||
                 kind == ACL_MEMCPY_INNER_DEVICE_TO_DEVICE ||
                 kind == ACL_MEMCPY_INTER_DEVICE_TO_DEVICE;
    if (const aclError e = checkSide(api, "destination", dst, toDevice)) return e;
    if (const aclError e = checkSide(api, "source", src, fromDevice)) return e;
  }
  if (const aclError e = checkSpan(api, "destination", dst, count)) return e;
  if (const aclError e = checkSpan(api, "source", src, count)) return e;
  *out = {static_cast<char*>(dst), static_cast<const char*>(src), count, toDevice, fromDevice};
  return ACL_SUCCESS;
}

void perform(const Copy& c) {
  if (c.fromDevice && !c.toDevice) gmHostRead(c.src, c.bytes);
  std::memmove(c.dst, c.src, c.bytes);
  if (c.toDevice) gmHostWrote(c.dst, c.bytes);
}

aclError queueCopy(const char* api, const Copy& c, aclrtStream stream) {
  Stream* s = findStream(stream);
  if (s == nullptr) {
    return refuse(ACL_ERROR_RT_STREAM_CONTEXT, api, "stream %p does not exist", stream);
  }
  Op op;
  op.what = "copy of " + std::to_string(c.bytes) + " bytes";
  if (c.toDevice) op.pointers.push_back(c.dst);
  if (c.fromDevice) op.pointers.push_back(c.src);
  const bool pinned = holder(memory().host, c.src) != memory().host.end();
  if (!c.fromDevice && !pinned && s->capture == nullptr) {
    // Memory that is not aclrtMallocHost's is taken over before the call returns.
    auto staged = std::make_shared<std::string>(c.src, c.bytes);
    op.run = [c, staged] {
      Copy copy = c;
      copy.src = staged->data();
      perform(copy);
      return 0;
    };
  } else {
    op.run = [c] {
      perform(c);
      return 0;
    };
  }
  enqueue(*s, std::move(op));
  return ACL_SUCCESS;
}

}  // namespace

aclError needDevice(const char* api) {
  if (g_device >= 0) return ACL_SUCCESS;
  return g_lastError =
             refuse(ACL_ERROR_RT_CONTEXT_NULL, api, "no device is set: call aclrtSetDevice first");
}

}  // namespace ascsim

// NOLINTBEGIN(readability-identifier-naming): the names are given
using namespace ascsim;

extern "C" {

// ----------------------------------------------------------------------------------- start and end
aclError aclInit(const char*) {
  const Lock lock(hostMutex());
  if (g_initialised) return decline(ACL_ERROR_REPEAT_INITIALIZE, "aclInit", "already called");
  g_initialised = true;
  return ACL_SUCCESS;
}

aclError aclInitCallbackRegister(aclRegisterCallbackType, aclInitCallbackFunc, void*) {
  return ACL_SUCCESS;
}

aclError aclFinalize() {
  const Lock lock(hostMutex());
  if (!g_initialised)
    return decline(ACL_ERROR_UNINITIALIZE, "aclFinalize", "aclInit was not called");
  g_initialised = false;
  drainAll();
  if (!memory().device.empty() || !memory().host.empty()) {
    size_t bytes = 0;
    for (const auto& [p, size] : memory().device) bytes += size;
    hostNote("warning: at aclFinalize " + std::to_string(memory().device.size()) +
             " device allocations (" + std::to_string(bytes) + " bytes) and " +
             std::to_string(memory().host.size()) + " of aclrtMallocHost are not freed");
  }
  return ACL_SUCCESS;
}

aclError aclrtGetVersion(int32_t* major, int32_t* minor, int32_t* patch) {
  if (major == nullptr || minor == nullptr || patch == nullptr) return ACL_ERROR_INVALID_PARAM;
  *major = 1;
  *minor = 15;
  *patch = 0;
  return ACL_SUCCESS;
}

const char* aclrtGetSocName() {
  static std::string name;
  name = options().chip->name;  // ascend910b1 -> Ascend910B1
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  name.replace(0, 6, "Ascend");
  return name.c_str();
}

aclError aclrtPeekAtLastError(aclrtLastErrLevel) { return g_lastError; }

aclError aclrtGetLastError(aclrtLastErrLevel) {
  const aclError e = g_lastError;
  g_lastError = ACL_SUCCESS;
  return e;
}

void aclAppLog(aclLogLevel level, const char* func, const char* file, uint32_t line,
               const char* format, ...) {
  static const char* const names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
  std::fprintf(stderr, "[%s] %s:%u %s: ", names[level & 3], file, line, func);
  va_list args;
  va_start(args, format);
  std::vfprintf(stderr, format, args);
  va_end(args);
  std::fputc('\n', stderr);
}

size_t aclDataTypeSize(aclDataType type) {
  switch (type) {
    case ACL_INT8:
    case ACL_UINT8:
    case ACL_BOOL:
    case ACL_HIFLOAT8:
    case ACL_FLOAT8_E5M2:
    case ACL_FLOAT8_E4M3FN:
    case ACL_FLOAT8_E8M0:
      return 1;
    case ACL_FLOAT16:
    case ACL_BF16:
    case ACL_INT16:
    case ACL_UINT16:
      return 2;
    case ACL_FLOAT:
    case ACL_INT32:
    case ACL_UINT32:
    case ACL_COMPLEX32:
      return 4;
    case ACL_INT64:
    case ACL_UINT64:
    case ACL_DOUBLE:
    case ACL_COMPLEX64:
      return 8;
    case ACL_COMPLEX128:
      return 16;
    default:
      return 0;
  }
}

float aclFloat16ToFloat(aclFloat16 value) { return halfBitsToFloat(value); }
aclFloat16 aclFloatToFloat16(float value) { return floatToHalfBits(value); }

// ------------------------------------------------------------------------------------------ device
aclError aclrtSetDevice(int32_t id) {
  const Lock lock(hostMutex());
  if (id < 0 || id >= static_cast<int32_t>(kDevices)) {
    return refuse(ACL_ERROR_RT_INVALID_DEVICEID, "aclrtSetDevice", "device %d; there are 0 to %u",
                  id, kDevices - 1);
  }
  g_device = id;
  ++g_devices[id];
  return ACL_SUCCESS;
}

aclError aclrtResetDevice(int32_t id) {
  const Lock lock(hostMutex());
  const auto it = g_devices.find(id);
  if (it == g_devices.end()) {
    return refuse(ACL_ERROR_RT_INVALID_DEVICEID, "aclrtResetDevice", "device %d was not set", id);
  }
  drainAll();
  if (--it->second <= 0) {
    g_devices.erase(it);
    if (g_device == id && g_contexts.empty()) g_device = -1;
  }
  return ACL_SUCCESS;
}

aclError aclrtResetDeviceForce(int32_t id) {
  const Lock lock(hostMutex());
  drainAll();
  g_devices.erase(id);
  if (g_device == id) g_device = -1;
  return ACL_SUCCESS;
}

aclError aclrtGetDevice(int32_t* id) {
  if (id == nullptr) return ACL_ERROR_INVALID_PARAM;
  if (const aclError e = needDevice("aclrtGetDevice")) return e;
  *id = g_device;
  return ACL_SUCCESS;
}

aclError aclrtGetDeviceCount(uint32_t* count) {
  if (count == nullptr) return ACL_ERROR_INVALID_PARAM;
  *count = kDevices;
  return ACL_SUCCESS;
}

aclError aclrtGetRunMode(aclrtRunMode* mode) {
  if (mode == nullptr) return ACL_ERROR_INVALID_PARAM;
  *mode = ACL_HOST;
  return ACL_SUCCESS;
}

aclError aclrtGetDeviceInfo(uint32_t id, aclrtDevAttr attr, int64_t* value) {
  if (value == nullptr || id >= kDevices) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtGetDeviceInfo", "device %u or a null result", id);
  }
  const Chip& chip = *options().chip;
  switch (attr) {
    case ACL_DEV_ATTR_AICPU_CORE_NUM:
      *value = 6;
      return ACL_SUCCESS;
    case ACL_DEV_ATTR_AICORE_CORE_NUM:
    case ACL_DEV_ATTR_CUBE_CORE_NUM:
      *value = chip.aic;
      return ACL_SUCCESS;
    case ACL_DEV_ATTR_VECTOR_CORE_NUM:
      *value = chip.aiv;
      return ACL_SUCCESS;
    case ACL_DEV_ATTR_UBUF_PER_VECTOR_CORE:
      *value = chip.ub;
      return ACL_SUCCESS;
    case ACL_DEV_ATTR_TOTAL_GLOBAL_MEM_SIZE:
      *value = static_cast<int64_t>(kDeviceBytes);
      return ACL_SUCCESS;
    case ACL_DEV_ATTR_L2_CACHE_SIZE:
      *value = static_cast<int64_t>(chip.l2);
      return ACL_SUCCESS;
    default:
      return decline(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, "aclrtGetDeviceInfo",
                     "attribute %d is not simulated", static_cast<int>(attr));
  }
}

aclError aclrtGetMemInfo(aclrtMemAttr, size_t* free, size_t* total) {
  if (free == nullptr || total == nullptr) return ACL_ERROR_INVALID_PARAM;
  *total = kDeviceBytes;
  *free = kDeviceBytes - std::min(kDeviceBytes, memory().used);
  return ACL_SUCCESS;
}

aclError aclrtSetOpWaitTimeout(uint32_t) { return ACL_SUCCESS; }
aclError aclrtSetOpExecuteTimeOut(uint32_t) { return ACL_SUCCESS; }

// ----------------------------------------------------------------------------------------- context
aclError aclrtCreateContext(aclrtContext* context, int32_t id) {
  const Lock lock(hostMutex());
  if (context == nullptr) return ACL_ERROR_INVALID_PARAM;
  if (id < 0 || id >= static_cast<int32_t>(kDevices)) {
    return refuse(ACL_ERROR_RT_INVALID_DEVICEID, "aclrtCreateContext", "device %d", id);
  }
  auto* c = new int(id);
  g_contexts.insert(c);
  g_device = id;
  *context = c;
  return ACL_SUCCESS;
}

aclError aclrtDestroyContext(aclrtContext context) {
  const Lock lock(hostMutex());
  auto* c = static_cast<int*>(context);
  if (g_contexts.erase(c) == 0) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclrtDestroyContext", "no such context");
  }
  delete c;
  if (g_contexts.empty() && g_devices.empty()) g_device = -1;
  return ACL_SUCCESS;
}

aclError aclrtSetCurrentContext(aclrtContext context) {
  const Lock lock(hostMutex());
  auto* c = static_cast<int*>(context);
  if (g_contexts.count(c) == 0) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclrtSetCurrentContext", "no such context");
  }
  g_device = *c;
  return ACL_SUCCESS;
}

aclError aclrtGetCurrentContext(aclrtContext* context) {
  const Lock lock(hostMutex());
  if (context == nullptr) return ACL_ERROR_INVALID_PARAM;
  if (const aclError e = needDevice("aclrtGetCurrentContext")) return e;
  if (g_contexts.empty()) g_contexts.insert(new int(g_device));
  *context = *g_contexts.begin();
  return ACL_SUCCESS;
}

// ------------------------------------------------------------------------------------------ memory
aclError aclrtMalloc(void** p, size_t size, aclrtMemMallocPolicy) {
  const Lock lock(hostMutex());
  if (p == nullptr || size == 0) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtMalloc", "%s",
                  p == nullptr ? "the result pointer is null" : "the size is 0");
  }
  if (const aclError e = needDevice("aclrtMalloc")) return e;
  void* block = size > kDeviceBytes - memory().used
                    ? nullptr
                    : std::aligned_alloc(512, (size + 32 + 511) / 512 * 512);
  if (block == nullptr) {
    return g_lastError = refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtMalloc",
                                "no memory for %zu bytes", size);
  }
  std::memset(block, 0, size);  // fresh pages; the checks still know that nobody wrote them
  gmAdd(block, size);
  memory().device[static_cast<char*>(block)] = size;
  memory().freed.erase(block);
  memory().used += size;
  *p = block;
  return ACL_SUCCESS;
}

aclError aclrtMallocAlign32(void** p, size_t size, aclrtMemMallocPolicy policy) {
  return aclrtMalloc(p, size, policy);
}
aclError aclrtMallocCached(void** p, size_t size, aclrtMemMallocPolicy policy) {
  return aclrtMalloc(p, size, policy);
}
aclError aclrtMallocWithCfg(void** p, size_t size, aclrtMemMallocPolicy policy,
                            aclrtMallocConfig*) {
  return aclrtMalloc(p, size, policy);
}
aclError aclrtMemFlush(void*, size_t) { return ACL_SUCCESS; }
aclError aclrtMemInvalidate(void*, size_t) { return ACL_SUCCESS; }

aclError aclrtFree(void* p) {
  const Lock lock(hostMutex());
  if (p == nullptr) return refuse(ACL_ERROR_INVALID_PARAM, "aclrtFree", "the pointer is null");
  auto& blocks = memory().device;
  const auto it = blocks.find(static_cast<char*>(p));
  if (it == blocks.end()) {
    const char* what = memory().freed.count(p) != 0 ? "was freed before"
                       : onDevice(p)                ? "points into an allocation"
                       : memory().host.count(static_cast<char*>(p)) != 0
                           ? "is host memory (aclrtFreeHost)"
                           : "was not allocated by aclrtMalloc";
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclrtFree", "%p %s", p, what);
  }
  // Programs rely on it, so the device waits; but nothing documents that aclrtFree synchronises.
  if (const Op* op = queuedUser(p)) {
    hostNote("warning: aclrtFree: " + op->what +
             " uses the memory and is still queued: synchronise first");
    drainAll();
  }
  gmRemove(p);
  memory().used -= it->second;
  blocks.erase(it);
  memory().freed.insert(p);
  std::free(p);
  return ACL_SUCCESS;
}

aclError aclrtMallocHost(void** p, size_t size) {
  const Lock lock(hostMutex());
  if (p == nullptr || size == 0) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtMallocHost", "%s",
                  p == nullptr ? "the result pointer is null" : "the size is 0");
  }
  if (const aclError e = needDevice("aclrtMallocHost")) return e;
  void* block = std::aligned_alloc(64, (size + 63) / 64 * 64);
  if (block == nullptr) {
    return refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtMallocHost", "no memory for %zu bytes",
                  size);
  }
  std::memset(block, 0, size);  // fresh pages of the operating system
  memory().host[static_cast<char*>(block)] = size;
  memory().freed.erase(block);
  *p = block;
  return ACL_SUCCESS;
}

aclError aclrtFreeHost(void* p) {
  const Lock lock(hostMutex());
  if (p == nullptr) return refuse(ACL_ERROR_INVALID_PARAM, "aclrtFreeHost", "the pointer is null");
  if (memory().host.erase(static_cast<char*>(p)) == 0) {
    const char* what = memory().freed.count(p) != 0 ? "was freed before"
                       : onDevice(p)                ? "is device memory (aclrtFree)"
                                                    : "was not allocated by aclrtMallocHost";
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclrtFreeHost", "%p %s", p, what);
  }
  memory().freed.insert(p);
  std::free(p);
  return ACL_SUCCESS;
}

aclError aclrtMemset(void* p, size_t maxCount, int32_t value, size_t count) {
  const Lock lock(hostMutex());
  if (const aclError e = needDevice("aclrtMemset")) return e;
  if (p == nullptr || count > maxCount) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtMemset", "%zu bytes at %p with room for %zu",
                  count, p, maxCount);
  }
  if (const aclError e = checkSpan("aclrtMemset", "memory", p, count)) return e;
  std::memset(p, value, count);
  if (onDevice(p)) gmHostWrote(p, count);
  return ACL_SUCCESS;
}

aclError aclrtMemsetAsync(void* p, size_t maxCount, int32_t value, size_t count,
                          aclrtStream stream) {
  const Lock lock(hostMutex());
  Stream* s = findStream(stream);
  if (s == nullptr || p == nullptr || count > maxCount) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtMemsetAsync",
                  "%zu bytes at %p with room for %zu, stream %p", count, p, maxCount, stream);
  }
  if (const aclError e = checkSpan("aclrtMemsetAsync", "memory", p, count)) return e;
  Op op;
  op.what = "memset of " + std::to_string(count) + " bytes";
  op.pointers.push_back(p);
  op.run = [p, value, count] {
    std::memset(p, value, count);
    if (onDevice(p)) gmHostWrote(p, count);
    return 0;
  };
  enqueue(*s, std::move(op));
  return ACL_SUCCESS;
}

aclError aclrtMemcpy(void* dst, size_t destMax, const void* src, size_t count,
                     aclrtMemcpyKind kind) {
  const Lock lock(hostMutex());
  Copy c{};
  if (const aclError e = plan("aclrtMemcpy", dst, destMax, src, count, kind, &c)) return e;
  perform(c);
  if (c.fromDevice) watchEarlyRead(c.src, c.bytes);
  return ACL_SUCCESS;
}

aclError aclrtMemcpyAsync(void* dst, size_t destMax, const void* src, size_t count,
                          aclrtMemcpyKind kind, aclrtStream stream) {
  const Lock lock(hostMutex());
  Copy c{};
  if (const aclError e = plan("aclrtMemcpyAsync", dst, destMax, src, count, kind, &c)) return e;
  return queueCopy("aclrtMemcpyAsync", c, stream);
}

aclError aclrtMemcpy2d(void* dst, size_t dpitch, const void* src, size_t spitch, size_t width,
                       size_t height, aclrtMemcpyKind kind) {
  if (width > dpitch || width > spitch) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtMemcpy2d",
                  "rows of %zu bytes, pitches %zu and %zu", width, dpitch, spitch);
  }
  for (size_t row = 0; row < height; ++row) {
    const aclError e = aclrtMemcpy(static_cast<char*>(dst) + row * dpitch, width,
                                   static_cast<const char*>(src) + row * spitch, width, kind);
    if (e != ACL_SUCCESS) return e;
  }
  return ACL_SUCCESS;
}

aclError aclrtMemcpy2dAsync(void* dst, size_t dpitch, const void* src, size_t spitch, size_t width,
                            size_t height, aclrtMemcpyKind kind, aclrtStream stream) {
  if (width > dpitch || width > spitch) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtMemcpy2dAsync",
                  "rows of %zu bytes, pitches %zu and %zu", width, dpitch, spitch);
  }
  for (size_t row = 0; row < height; ++row) {
    const aclError e =
        aclrtMemcpyAsync(static_cast<char*>(dst) + row * dpitch, width,
                         static_cast<const char*>(src) + row * spitch, width, kind, stream);
    if (e != ACL_SUCCESS) return e;
  }
  return ACL_SUCCESS;
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
