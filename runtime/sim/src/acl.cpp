// ACL: start and end, messages, device, context.
#include "acl/acl.h"

#include <algorithm>
#include <cctype>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "ascsim/chips.h"
#include "ascsim/core.h"
#include "host.h"

namespace ascsim {

namespace {

constexpr uint32_t kDevices = 8;

bool g_initialised = false;
int g_device = -1;
std::map<int, int> g_devices;  // device -> times set
std::set<int*> g_contexts;
aclError g_lastError = ACL_SUCCESS;

thread_local std::string t_message;

void remember(const char* api, const char* format, va_list args) {
  char text[1024];
  std::vsnprintf(text, sizeof text, format, args);
  t_message = std::string(api) + ": " + text;
}

}  // namespace

aclError decline(aclError code, const char* api, const char* format, ...) {
  va_list args;
  va_start(args, format);
  remember(api, format, args);
  va_end(args);
  return code;
}

aclError refuse(aclError code, const char* api, const char* format, ...) {
  va_list args;
  va_start(args, format);
  remember(api, format, args);
  va_end(args);
  reportError("host", t_message + " (error " + std::to_string(code) + ")");
  return code;
}

void hostNote(const std::string& text) { std::fprintf(stderr, "[ascsim] %s\n", text.c_str()); }

aclError remember(aclError code) { return g_lastError = code; }

aclError needDevice(const char* api) {
  if (g_device >= 0) return ACL_SUCCESS;
  return remember(
      refuse(ACL_ERROR_RT_CONTEXT_NULL, api, "no device is set: call aclrtSetDevice first"));
}

}  // namespace ascsim

// NOLINTBEGIN(readability-identifier-naming): the names are given
using namespace ascsim;

extern "C" {

const char* aclGetRecentErrMsg() {
  static thread_local std::string last;
  last.swap(t_message);
  t_message.clear();
  return last.c_str();
}

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
  noteUnfreed();
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
  *free = kDeviceBytes - std::min(kDeviceBytes, deviceBytesUsed());
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

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
