// ACL: memory of the device and of the host, and copies.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "acl/acl.h"
#include "ascsim/core.h"
#include "host.h"

namespace ascsim {

namespace {

struct Memory {
  std::map<const char*, size_t> device, host;
  std::set<const void*> freed;  // for telling a double free from a wrong pointer
  size_t used = 0;
};

Memory& memory() {
  static Memory& m = *new Memory;
  return m;
}

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

size_t deviceBytesUsed() { return memory().used; }

void noteUnfreed() {
  if (memory().device.empty() && memory().host.empty()) return;
  size_t bytes = 0;
  for (const auto& [p, size] : memory().device) bytes += size;
  hostNote("warning: at aclFinalize " + std::to_string(memory().device.size()) +
           " device allocations (" + std::to_string(bytes) + " bytes) and " +
           std::to_string(memory().host.size()) + " of aclrtMallocHost are not freed");
}

}  // namespace ascsim

// NOLINTBEGIN(readability-identifier-naming): the names are given
using namespace ascsim;

extern "C" {

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
    return remember(
        refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtMalloc", "no memory for %zu bytes", size));
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
