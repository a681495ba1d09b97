// Host side shared by the examples: device arrays, a small random generator, and the comparison.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "acl/acl.h"

#define ACL_CHECK(call)                                        \
  do {                                                         \
    const aclError status = (call);                            \
    if (status != ACL_SUCCESS) {                               \
      std::printf("%s failed with error %d\n", #call, status); \
      std::exit(1);                                            \
    }                                                          \
  } while (0)

struct Device {
  aclrtStream stream = nullptr;
  Device() {
    ACL_CHECK(aclInit(nullptr));
    ACL_CHECK(aclrtSetDevice(0));
    ACL_CHECK(aclrtCreateStream(&stream));
  }
  ~Device() {
    aclrtDestroyStream(stream);
    aclrtResetDevice(0);
    aclFinalize();
  }
  void sync() { ACL_CHECK(aclrtSynchronizeStream(stream)); }
};

template <class T>
struct DeviceArray {
  uint8_t* data = nullptr;
  size_t count;
  explicit DeviceArray(size_t n) : count(n) {
    ACL_CHECK(aclrtMalloc(reinterpret_cast<void**>(&data), bytes(), ACL_MEM_MALLOC_HUGE_FIRST));
  }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    ACL_CHECK(aclrtMemcpy(data, bytes(), host.data(), bytes(), ACL_MEMCPY_HOST_TO_DEVICE));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { aclrtFree(data); }
  size_t bytes() const { return count * sizeof(T); }
  std::vector<T> host() const {
    std::vector<T> out(count);
    ACL_CHECK(aclrtMemcpy(out.data(), bytes(), data, bytes(), ACL_MEMCPY_DEVICE_TO_HOST));
    return out;
  }
};

// Uniform in [-1, 1), the same on every machine.
struct Random {
  uint64_t state = 88172645463325252ull;
  double next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<double>(state >> 11) / 4503599627370496.0 - 1.0;
  }
  template <class T>
  std::vector<T> values(size_t n) {
    std::vector<T> v(n);
    for (T& x : v) x = static_cast<T>(static_cast<float>(next()));
    return v;
  }
};

// Every element within rtol of the reference (relative to the larger of it and `scale`).
template <class T, class R>
int check(const char* name, const std::vector<T>& got, const std::vector<R>& want, double rtol,
          double scale = 1.0) {
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double w = static_cast<double>(want[i]);
    const double error = std::fabs(static_cast<double>(got[i]) - w) / std::max(std::fabs(w), scale);
    if (!(error <= worst)) {
      worst = error;
      at = i;
    }
  }
  const bool ok = got.size() == want.size() && worst <= rtol;
  std::printf("%s: %zu values, worst error %.3g at %zu (bar %.3g): %s\n", name, want.size(), worst,
              at, rtol, ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
}
