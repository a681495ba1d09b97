// All-core barriers, GM-based signals, printing, assertions, scalar helpers, tensor lists.
#pragma once
#include <cassert>
#include <cstdio>
#include <cstring>

#include "ascsim/sync.h"
#include "ascsim/traits.h"

namespace ascsim {
// Signals and barriers keyed by the GM workspace that carries them on the device.
void postSignal(uint64_t key);
void awaitSignal(uint64_t key, const char* what);
void groupBarrier(uint64_t key, int members);
uint64_t signalKey(uint64_t address, int64_t index, int64_t event);
// The workspace is large enough and zero where the documentation wants zeros.
void checkSyncWorkspace(const Place& gm, uint64_t gmBytes, const Place& ub, uint64_t ubBytes,
                        bool zeroed);
void dumpTensor(const Place& place, DType type, uint32_t elementBytes, const char* position,
                uint32_t desc, uint32_t elements, const AscendC::ShapeInfo* shape);
void assertionFailed(const char* text, const char* file, int line);
}  // namespace ascsim

namespace AscendC {

struct SyncAllConfig {
  pipe_t triggerPipe;
  pipe_t waitPipe;
};
constexpr SyncAllConfig DEFAULT_SYNC_ALL_CONFIG = {PIPE_ALL, PIPE_ALL};

// Hardware barrier of all vector cores (isAIVOnly) or of all cores of a mixed kernel.
template <bool isAIVOnly = true, const SyncAllConfig& config = DEFAULT_SYNC_ALL_CONFIG>
void SyncAll(Loc loc = Loc::current()) {
  ascsim::Api api("SyncAll", loc);
  if (isAIVOnly && ascsim::isAic()) return;
  ascsim::syncAllCores(isAIVOnly ? 1 : 2);
}

// Software barrier of vector cores over a zeroed GM workspace of 32 bytes per core.
template <bool isAIVOnly = true>
void SyncAll(const GlobalTensor<int32_t>& gmWorkspace, const LocalTensor<int32_t>& ubWorkspace,
             const int32_t usedCores = 0, Loc loc = Loc::current()) {
  ascsim::Api api("SyncAll", loc);
  if (ascsim::isAic()) return;
  const int all = static_cast<int>(GetBlockNum() * GetTaskRatio());
  if (usedCores < 0 || usedCores > all)
    ascsim::fail(ascsim::kParam, "usedCores is %d; expected 0 (all) to %d vector cores", usedCores,
                 all);
  const int members = usedCores == 0 ? all : usedCores;
  const uint64_t bytes = static_cast<uint64_t>(members) * 32;
  ascsim::checkSyncWorkspace(gmWorkspace.place(), bytes, ubWorkspace.place(), bytes, true);
  ascsim::groupBarrier(gmWorkspace.place().address, members);
}

// One core signals another through GM: IBSet on the one, IBWait(blockIdx of the one) on the other.
template <bool isAIVOnly = true>
void IBSet(const GlobalTensor<int32_t>& gmWorkspace, const LocalTensor<int32_t>& ubWorkspace,
           int32_t blockIdx, int32_t eventID, Loc loc = Loc::current()) {
  ascsim::Api api("IBSet", loc);
  if (ascsim::isAic()) return;
  ascsim::checkSyncWorkspace(gmWorkspace.place(), 32, ubWorkspace.place(), 32, false);
  ascsim::pipeBarrier(ascsim::Pipe::Count);
  ascsim::postSignal(ascsim::signalKey(gmWorkspace.place().address, blockIdx, eventID));
}
template <bool isAIVOnly = true>
void IBWait(const GlobalTensor<int32_t>& gmWorkspace, const LocalTensor<int32_t>& ubWorkspace,
            int32_t blockIdx, int32_t eventID, Loc loc = Loc::current()) {
  ascsim::Api api("IBWait", loc);
  if (ascsim::isAic()) return;
  ascsim::pipeBarrier(ascsim::Pipe::Count);
  ascsim::checkSyncWorkspace(gmWorkspace.place(), 32, ubWorkspace.place(), 32, false);
  ascsim::awaitSignal(ascsim::signalKey(gmWorkspace.place().address, blockIdx, eventID),
                      "the IBSet of another core");
}

// Cores take their turns in the order of their index: deterministic accumulation.
inline void InitDetermineComputeWorkspace(GlobalTensor<int32_t>& gmWorkspace,
                                          LocalTensor<int32_t>& ubWorkspace,
                                          Loc loc = Loc::current()) {
  ascsim::Api api("InitDetermineComputeWorkspace", loc);
  if (ascsim::isAic()) return;
  const uint64_t cores = static_cast<uint64_t>(GetBlockNum());
  ascsim::checkSyncWorkspace(gmWorkspace.place(), cores * 32, ubWorkspace.place(), cores * 32 + 32,
                             false);
  // The first core's first turn needs no predecessor.
  if (GetBlockIdx() == 0) ascsim::postSignal(ascsim::signalKey(gmWorkspace.place().address, 0, -1));
}
inline void WaitPreBlock(GlobalTensor<int32_t>& gmWorkspace, LocalTensor<int32_t>&,
                         Loc loc = Loc::current()) {
  ascsim::Api api("WaitPreBlock", loc);
  if (ascsim::isAic()) return;
  ascsim::pipeBarrier(ascsim::Pipe::Count);
  ascsim::awaitSignal(ascsim::signalKey(gmWorkspace.place().address, GetBlockIdx(), -1),
                      "NotifyNextBlock of the core before");
}
inline void NotifyNextBlock(GlobalTensor<int32_t>& gmWorkspace, LocalTensor<int32_t>&,
                            Loc loc = Loc::current()) {
  ascsim::Api api("NotifyNextBlock", loc);
  if (ascsim::isAic()) return;
  ascsim::pipeBarrier(ascsim::Pipe::Count);
  const int64_t cores = GetBlockNum() * GetTaskRatio();
  ascsim::postSignal(
      ascsim::signalKey(gmWorkspace.place().address, (GetBlockIdx() + 1) % cores, -1));
}

enum class MemDsbT : uint8_t { ALL, DDR, UB, SEQ };
template <MemDsbT arg0 = MemDsbT::ALL>
void DataSyncBarrier(Loc loc = Loc::current()) {
  // The scalar unit's own accesses are in order here; the barrier orders nothing more.
  ascsim::Api api("DataSyncBarrier", loc);
}

template <pipe_t AIV_PIPE = PIPE_MTE3, pipe_t AIC_PIPE = PIPE_FIX, bool FORCE = false>
void SetNextTaskStart(Loc loc = Loc::current()) {
  ascsim::Api api("SetNextTaskStart", loc);  // launches do not overlap in the simulator
}
template <bool FORCE = false>
void WaitPreTaskEnd(Loc loc = Loc::current()) {
  ascsim::Api api("WaitPreTaskEnd", loc);
}

// ------------------------------------------------------------------- caches of the scalar unit
enum class CacheLine : uint64_t { SINGLE_CACHE_LINE = 0, ENTIRE_DATA_CACHE = 1 };
enum class DcciDst : uint64_t { CACHELINE_ALL = 0, CACHELINE_UB, CACHELINE_OUT, CACHELINE_ATOMIC };
// The scalar data cache is modelled as coherent: cleaning it changes nothing (docs: limits).
template <class T, CacheLine entireType, DcciDst dcciDst = DcciDst::CACHELINE_OUT>
void DataCacheCleanAndInvalid(const GlobalTensor<T>&, Loc loc = Loc::current()) {
  ascsim::Api api("DataCacheCleanAndInvalid", loc);
}
template <class T, CacheLine entireType, DcciDst dcciDst = DcciDst::CACHELINE_OUT>
void DataCacheCleanAndInvalid(const LocalTensor<T>&, Loc loc = Loc::current()) {
  ascsim::Api api("DataCacheCleanAndInvalid", loc);
}
template <class T>
void DataCachePreload(const GlobalTensor<uint64_t>&, const T, Loc loc = Loc::current()) {
  ascsim::Api api("DataCachePreload", loc);
}
inline void ICachePreLoad(const int64_t, Loc loc = Loc::current()) {
  ascsim::Api api("ICachePreLoad", loc);
}
inline int64_t GetICachePreloadStatus() { return 0; }

// ------------------------------------------------------------------- printing, time
template <class T>
auto printable(const T& v) {
  if constexpr (std::is_same_v<T, half> || std::is_same_v<T, bfloat16_t>)
    return static_cast<double>(static_cast<float>(v));
  else
    return v;
}
template <class... Args>
void printf(const char* format, Args... args) {
  if constexpr (sizeof...(Args) == 0)
    std::fputs(format, stdout);
  else
    std::printf(format, printable(args)...);
  std::fflush(stdout);
}
template <class... Args>
void PRINTF(const char* format, Args... args) {
  AscendC::printf(format, args...);
}

template <class T>
void DumpTensor(const LocalTensor<T>& t, uint32_t desc, uint32_t dumpSize,
                Loc loc = Loc::current()) {
  ascsim::Api api("DumpTensor", loc);
  if (t.absent()) return;
  using P = PrimT<T>;
  ascsim::dumpTensor(t.place(), ascsim::dtypeOf<P>(), sizeof(P),
                     ascsim::positionName(static_cast<TPosition>(t.GetPosition())), desc, dumpSize,
                     nullptr);
}
template <class T>
void DumpTensor(const GlobalTensor<T>& t, uint32_t desc, uint32_t dumpSize,
                Loc loc = Loc::current()) {
  ascsim::Api api("DumpTensor", loc);
  using P = PrimT<T>;
  ascsim::dumpTensor(t.place(), ascsim::dtypeOf<P>(), sizeof(P), "GM", desc, dumpSize, nullptr);
}
template <class T>
void DumpTensor(const LocalTensor<T>& t, uint32_t desc, uint32_t dumpSize, const ShapeInfo& shape,
                Loc loc = Loc::current()) {
  ascsim::Api api("DumpTensor", loc);
  if (t.absent()) return;
  using P = PrimT<T>;
  ascsim::dumpTensor(t.place(), ascsim::dtypeOf<P>(), sizeof(P),
                     ascsim::positionName(static_cast<TPosition>(t.GetPosition())), desc, dumpSize,
                     &shape);
}
template <class T>
void DumpTensor(const GlobalTensor<T>& t, uint32_t desc, uint32_t dumpSize, const ShapeInfo& shape,
                Loc loc = Loc::current()) {
  ascsim::Api api("DumpTensor", loc);
  using P = PrimT<T>;
  ascsim::dumpTensor(t.place(), ascsim::dtypeOf<P>(), sizeof(P), "GM", desc, dumpSize, &shape);
}
template <class T>
void DumpAccChkPoint(const LocalTensor<T>& t, uint32_t index, uint32_t countOff, uint32_t dumpSize,
                     Loc loc = Loc::current()) {
  DumpTensor(t[countOff], index, dumpSize, loc);
}
template <class T>
void DumpAccChkPoint(const GlobalTensor<T>& t, uint32_t index, uint32_t countOff, uint32_t dumpSize,
                     Loc loc = Loc::current()) {
  DumpTensor(t[countOff], index, dumpSize, loc);
}
inline int64_t GetSystemCycle() { return static_cast<int64_t>(ascsim::simSystemCycle()); }
inline int64_t GetProgramCounter() { return static_cast<int64_t>(ascsim::core().counter[0]); }
inline void PrintTimeStamp(uint32_t id) {
  std::printf("descId is %u, timeStamp is %llu, blockIdx is %lld\n", id,
              static_cast<unsigned long long>(ascsim::simCycleEstimate()),
              static_cast<long long>(GetBlockIdx()));
}
// Marks for the vendor's profiler: the simulator's trace has every instruction already.
template <pipe_t pipe, uint16_t index>
void MarkStamp() {}
template <pipe_t pipe>
void MarkStamp(uint16_t) {}
inline void MetricsProfStart() {}
inline void MetricsProfStop() {}
inline void Trap(Loc loc = Loc::current()) {
  ascsim::Api api("Trap", loc);
  ascsim::fail(ascsim::kParam, "the kernel stopped itself");
}
inline void OOMCheckAddrRange(__gm__ uint8_t*, const uint64_t) {}

// ------------------------------------------------------------------- scalar helpers
constexpr int32_t CeilDivision(int32_t num1, int32_t num2) {
  return num2 == 0 ? 0 : (num1 + num2 - 1) / num2;
}
constexpr int32_t CeilDiv(int32_t num1, int32_t num2) { return CeilDivision(num1, num2); }
constexpr int32_t DivCeil(int32_t num1, int32_t num2) { return CeilDivision(num1, num2); }
inline int64_t CountLeadingZero(uint64_t v) { return v == 0 ? 64 : __builtin_clzll(v); }
inline int64_t ScalarCountLeadingZero(uint64_t v) { return CountLeadingZero(v); }
// Bits after the sign bit that equal it; -1 and 0 have 63... the hardware answers -1 for both.
inline int64_t CountBitsCntSameAsSignBit(int64_t v) {
  if (v == 0 || v == -1) return -1;
  return __builtin_clzll(static_cast<uint64_t>(v < 0 ? ~v : v)) - 1;
}
template <int value>
int64_t GetBitCount(uint64_t v) {
  static_assert(value == 0 || value == 1, "GetBitCount<0> counts zeros, <1> ones");
  return value == 1 ? __builtin_popcountll(v) : 64 - __builtin_popcountll(v);
}
template <int value>
int64_t ScalarGetCountOfValue(uint64_t v) {
  return GetBitCount<value>(v);
}
template <int value>
int64_t GetSFFValue(uint64_t v) {
  static_assert(value == 0 || value == 1, "GetSFFValue<0> finds the first zero, <1> the first one");
  const uint64_t x = value == 1 ? v : ~v;
  return x == 0 ? -1 : __builtin_ctzll(x);
}
template <int value>
int64_t ScalarGetSFFValue(uint64_t v) {
  return GetSFFValue<value>(v);
}
inline float Cast(const bfloat16_t& v) { return static_cast<float>(v); }
inline bfloat16_t Cast(const float& v) { return bfloat16_t(v); }
template <int count = 1>
void Nop() {}

constexpr int16_t GetDataBlockSizeInBytes() { return 32; }
constexpr uint32_t GetVecLen() { return 256; }
inline uint32_t GetUBSizeInBytes() { return ascsim::memSize(ascsim::Mem::UB); }
inline uint32_t GetRuntimeUBSize() { return ascsim::memSize(ascsim::Mem::UB); }
inline void GetArchVersion(uint32_t& version) {
  version = ascsim::options().chip->npuArch >= 3510 ? 0x310 : 0x220;
}

// ------------------------------------------------------------------- lists of tensors in GM
template <class T>
class TensorDesc {
 public:
  void SetShapeAddr(uint64_t* p) { shape_ = p; }
  uint64_t GetDim() const { return dim_; }
  uint64_t GetIndex() const { return index_; }
  uint64_t GetShape(uint32_t i) const { return shape_[i]; }
  T* GetDataPtr() const { return data_; }
  GlobalTensor<T> GetDataObj() const {
    GlobalTensor<T> t;
    t.SetGlobalBuffer(data_);
    return t;
  }
  void set(T* data, uint64_t index, uint64_t dim, const uint64_t* shape) {
    data_ = data;
    index_ = index;
    dim_ = dim;
    for (uint64_t i = 0; shape_ != nullptr && i < dim; ++i) shape_[i] = shape[i];
  }

 private:
  uint64_t* shape_ = nullptr;
  uint64_t dim_ = 0, index_ = 0;
  T* data_ = nullptr;
};

// Layout: byte offset of the pointers; then per tensor (index << 32 | dims) and its dims, 8 bytes
// each.
class ListTensorDesc {
 public:
  ListTensorDesc() = default;
  ListTensorDesc(__gm__ void* data, uint32_t = 0xffffffff, uint32_t = 0xffffffff) { Init(data); }
  void Init(__gm__ void* data, uint32_t = 0xffffffff, uint32_t = 0xffffffff) {
    data_ = static_cast<uint64_t*>(data);
    const uint64_t* p = data_ + 1;
    const uint64_t* end = data_ + data_[0] / 8;
    for (size_ = 0; p < end; ++size_) p += 1 + (*p & 0xffffffffu);
  }
  uint32_t GetSize() const { return size_; }
  template <class T>
  __gm__ T* GetDataPtr(uint32_t index) const {
    return reinterpret_cast<T*>(data_[data_[0] / 8 + index]);
  }
  template <class T>
  void GetDesc(TensorDesc<T>& desc, uint32_t index) const {
    const uint64_t* p = data_ + 1;
    for (uint32_t i = 0; i < index; ++i) p += 1 + (*p & 0xffffffffu);
    desc.set(GetDataPtr<T>(index), *p >> 32, *p & 0xffffffffu, p + 1);
  }

 private:
  uint64_t* data_ = nullptr;
  uint32_t size_ = 0;
};

}  // namespace AscendC

// The device's scalar min and max, without a namespace. Not templates: std:: ones stay usable.
#define ASCSIM_MIN_MAX(T)                                    \
  inline constexpr T min(T a, T b) { return b < a ? b : a; } \
  inline constexpr T max(T a, T b) { return a < b ? b : a; }
ASCSIM_MIN_MAX(int32_t)
ASCSIM_MIN_MAX(uint32_t)
ASCSIM_MIN_MAX(int64_t)
ASCSIM_MIN_MAX(uint64_t)
ASCSIM_MIN_MAX(float)
#undef ASCSIM_MIN_MAX

// Of the secure C library, which the vendor's package brings along.
inline int memcpy_s(void* to, size_t room, const void* from, size_t bytes) {
  if (to == nullptr || from == nullptr || bytes > room) return 34;  // ERANGE
  std::memcpy(to, from, bytes);
  return 0;
}
inline int memset_s(void* to, size_t room, int value, size_t bytes) {
  if (to == nullptr || bytes > room) return 34;
  std::memset(to, value, bytes);
  return 0;
}

namespace AscendC {
using ::TEventID;
enum class LogLevel : uint8_t {
  KERNEL_DEBUG = 0,
  KERNEL_INFO = 1,
  KERNEL_WARN = 2,
  KERNEL_ERROR = 3
};
}  // namespace AscendC
#define KERNEL_LOG(level, ...)                                            \
  do {                                                                    \
    if (::AscendC::LogLevel::level >= ::AscendC::LogLevel::KERNEL_WARN) { \
      AscendC::printf(__VA_ARGS__);                                       \
      std::printf("\n");                                                  \
    }                                                                     \
  } while (0)

// assert(expr) and assert(expr, "format", ...), in kernels and on the host.
namespace ascsim {
template <class... Args>
void checkAssertion(bool holds, const char* text, const char* file, int line,
                    const char* format = nullptr, Args... args) {
  if (holds) return;
  if (format != nullptr) AscendC::printf(format, args...);
  assertionFailed(text, file, line);
}
}  // namespace ascsim
#define ASCSIM_FIRST_(first, ...) first
#define ASCSIM_TEXT_(first, ...) #first
#undef assert
#define assert(...)                                                                           \
  ::ascsim::checkAssertion(bool(ASCSIM_FIRST_(__VA_ARGS__, 0)), ASCSIM_TEXT_(__VA_ARGS__, 0), \
                           __FILE__, __LINE__ ASCSIM_REST_(__VA_ARGS__))
#define ASCSIM_REST_(first, ...) __VA_OPT__(, ) __VA_ARGS__
#define ascendc_assert(...) assert(__VA_ARGS__)
#ifndef ASSERT
#define ASSERT(...) assert(__VA_ARGS__)
#endif
#define ASCENDC_ASSERT(cond, behavior)                      \
  do {                                                      \
    if (!(cond)) {                                          \
      behavior;                                             \
      ::ascsim::assertionFailed(#cond, __FILE__, __LINE__); \
    }                                                       \
  } while (0)
