// GlobalTensor and LocalTensor (docs: SIMD-API, basic API, data structures).
#pragma once
#include <cstdio>
#include <string>
#include <type_traits>

#include "ascsim/core.h"

namespace AscendC {

using ascsim::Loc;

enum class CacheMode {
  CACHE_MODE_DISABLE = 0,
  CACHE_MODE_NORMAL = 1,
  CACHE_MODE_LAST = 2,
  CACHE_MODE_PERSISTENT = 4
};
enum class CacheRwMode { READ = 1, WRITE = 2, RW = 3 };
enum class DataFormat : uint8_t { ND = 0, NZ, NCHW, NC1HWC0, NHWC, NCDHW, NDC1HWC0, FRACTAL_Z_3D };

constexpr int K_MAX_SHAPE_DIM = 8;
struct ShapeInfo {
  ShapeInfo() = default;
  ShapeInfo(uint8_t dims, const uint32_t* shapeIn, uint8_t originalDims, const uint32_t* original,
            DataFormat format)
      : shapeDim(dims), originalShapeDim(originalDims), dataFormat(format) {
    for (int i = 0; i < dims && i < K_MAX_SHAPE_DIM; ++i) shape[i] = shapeIn[i];
    for (int i = 0; i < originalDims && i < K_MAX_SHAPE_DIM; ++i) originalShape[i] = original[i];
  }
  ShapeInfo(uint8_t dims, const uint32_t* shapeIn, DataFormat format)
      : ShapeInfo(dims, shapeIn, dims, shapeIn, format) {}
  ShapeInfo(uint8_t dims, const uint32_t* shapeIn) : ShapeInfo(dims, shapeIn, DataFormat::ND) {}
  uint8_t shapeDim = 0;
  uint8_t originalShapeDim = 0;
  uint32_t shape[K_MAX_SHAPE_DIM] = {};
  uint32_t originalShape[K_MAX_SHAPE_DIM] = {};
  DataFormat dataFormat = DataFormat::ND;
};
inline int GetShapeSize(const ShapeInfo& info) {
  int n = 1;
  for (int i = 0; i < info.shapeDim; ++i) n *= static_cast<int>(info.shape[i]);
  return n;
}

// A tensor type that carries its layout; PrimT names the element type of either kind.
struct TensorTraitBase {};
template <class T>
struct PrimOf {
  using type = T;
};
template <class T>
using PrimT = typename PrimOf<T>::type;

}  // namespace AscendC

namespace ascsim {
// Bytes of n elements; int4b_t is half a byte.
template <class T>
constexpr uint64_t bytesOf(uint64_t n) {
  if constexpr (std::is_same_v<T, AscendC::int4b_t>)
    return (n + 1) / 2;
  else
    return n * sizeof(T);
}

// An element accessed by the scalar unit: reads and writes are instructions of pipe S.
template <class T>
T scalarRead(const Place& p, uint64_t index) {
  // A core that reads the same word again may be waiting for another core to write it.
  if (p.mem == Mem::GM) yieldIfPolling(p.address + index * sizeof(T));
  Instr i(Pipe::S, p.mem == Mem::GM ? "scalar_load_gm" : "scalar_load");
  if (p.mem == Mem::GM) {
    i.event.src = Mem::GM;
    i.event.gmAddress = p.address + index * sizeof(T);
    i.event.bytes = sizeof(T);
  }
  i.read(p, index * sizeof(T), sizeof(T));
  T v;
  __builtin_memcpy(&v, core().ptr(p.mem, p.address + index * sizeof(T)), sizeof(T));
  return v;
}

template <class T>
void scalarWrite(const Place& p, uint64_t index, T v) {
  Instr i(Pipe::S, p.mem == Mem::GM ? "scalar_store_gm" : "scalar_store");
  if (p.mem == Mem::GM) {
    i.event.dst = Mem::GM;
    i.event.gmAddress = p.address + index * sizeof(T);
    i.event.bytes = sizeof(T);
  }
  i.write(p, index * sizeof(T), sizeof(T));
  __builtin_memcpy(core().ptr(p.mem, p.address + index * sizeof(T)), &v, sizeof(T));
}

template <class T>
class ScalarRef {
 public:
  ScalarRef(const Place& p, uint64_t index) : place_(p), index_(index) {}
  operator T() const {
    Api api("operator()", core().loc);
    return scalarRead<T>(place_, index_);
  }
  const ScalarRef& operator=(T v) const {
    Api api("operator()", core().loc);
    scalarWrite<T>(place_, index_, v);
    return *this;
  }
  const ScalarRef& operator=(const ScalarRef& o) const { return *this = static_cast<T>(o); }
  const ScalarRef& operator+=(T v) const { return *this = static_cast<T>(T(*this) + v); }
  const ScalarRef& operator-=(T v) const { return *this = static_cast<T>(T(*this) - v); }
  const ScalarRef& operator*=(T v) const { return *this = static_cast<T>(T(*this) * v); }

 private:
  Place place_;
  uint64_t index_;
};
}  // namespace ascsim

namespace AscendC {

template <class T>
class GlobalTensor {
 public:
  using PrimType = PrimT<T>;
  GlobalTensor() = default;

  void SetGlobalBuffer(__gm__ PrimType* buffer, uint64_t bufferSize) {
    SetGlobalBuffer(buffer);
    size_ = bufferSize;
  }
  void SetGlobalBuffer(__gm__ PrimType* buffer) {
    address_ = buffer;
    size_ = 0;
  }
  const __gm__ PrimType* GetPhyAddr() const { return address_; }
  __gm__ PrimType* GetPhyAddr(uint64_t offset) const { return address_ + offset; }
  PrimType GetValue(uint64_t offset, Loc loc = Loc::current()) const {
    ascsim::Api api("GlobalTensor::GetValue", loc);
    return ascsim::scalarRead<PrimType>(place(), offset);
  }
  void SetValue(uint64_t offset, PrimType value, Loc loc = Loc::current()) const {
    ascsim::Api api("GlobalTensor::SetValue", loc);
    ascsim::scalarWrite<PrimType>(place(), offset, value);
  }
  ascsim::ScalarRef<PrimType> operator()(uint64_t offset) const { return {place(), offset}; }
  GlobalTensor operator[](uint64_t offset) const {
    GlobalTensor t = *this;
    t.address_ = reinterpret_cast<PrimType*>(
        reinterpret_cast<uint8_t*>(const_cast<std::remove_const_t<PrimType>*>(address_)) +
        ascsim::bytesOf<PrimType>(offset));
    t.size_ = size_ > offset ? size_ - offset : 0;
    return t;
  }
  uint64_t GetSize() const { return size_; }
  void SetShapeInfo(const ShapeInfo& info) { shape_ = info; }
  ShapeInfo GetShapeInfo() const { return shape_; }
  template <class U>
  GlobalTensor<U> ReinterpretCast() const {
    GlobalTensor<U> t;
    t.SetGlobalBuffer(reinterpret_cast<PrimT<U>*>(address_),
                      size_ * sizeof(PrimType) / sizeof(PrimT<U>));
    return t;
  }
  template <CacheRwMode mode = CacheRwMode::RW>
  void SetL2CacheHint(CacheMode cache) {
    l2Hint_ = cache == CacheMode::CACHE_MODE_DISABLE ? 1 : 0;
  }
  ascsim::Place place() const {
    ascsim::Place p;
    p.mem = ascsim::Mem::GM;
    p.address = reinterpret_cast<uintptr_t>(address_);
    p.l2Hint = l2Hint_;
    return p;
  }

 private:
  __gm__ PrimType* address_ = nullptr;
  uint64_t size_ = 0;
  ShapeInfo shape_;
  uint8_t l2Hint_ = 0;
};

template <class T>
class LocalTensor {
 public:
  using PrimType = PrimT<T>;
  LocalTensor() = default;
  // Static tensors: `address` bytes into the memory of `position`, `tileSize` elements.
  LocalTensor(TPosition position, uint32_t address, uint32_t tileSize)
      : position_(position),
        address_(address),
        bytes_(static_cast<uint32_t>(ascsim::bytesOf<PrimType>(tileSize))) {
    limit_ = address_ + bytes_;
  }
  // A TensorTrait knows its position, and its layout how many elements.
  template <class Trait = T, std::enable_if_t<std::is_base_of_v<TensorTraitBase, Trait>, int> = 0>
  explicit LocalTensor(uint32_t address) : position_(Trait::tPos), address_(address) {
    limit_ = ascsim::memSize(ascsim::memOf(position_));
    bytes_ = static_cast<uint32_t>(limit_) - address;
  }

  // dst = src0 + src1 and the like, over the whole tensor.
  template <class E, class = typename E::AscsimExpression>
  LocalTensor& operator=(const E& expression) {
    expression.assignTo(*this);
    return *this;
  }

  const __ubuf__ PrimType* GetPhyAddr() const { return GetPhyAddr(0); }
  __ubuf__ PrimType* GetPhyAddr(uint32_t offset) const {
    return reinterpret_cast<PrimType*>(
        ascsim::core().ptr(place().mem, address_ + ascsim::bytesOf<PrimType>(offset)));
  }
  PrimType GetValue(uint32_t offset, Loc loc = Loc::current()) const {
    ascsim::Api api("LocalTensor::GetValue", loc);
    if (absent()) return PrimType{};
    if constexpr (std::is_same_v<PrimType, int4b_t>) {
      const uint8_t b = ascsim::scalarRead<uint8_t>(place(), offset / 2);
      return int4b_t(offset % 2 ? b >> 4 : b & 15);
    } else {
      return ascsim::scalarRead<PrimType>(place(), offset);
    }
  }
  template <class V = PrimType>
  void SetValue(uint32_t offset, V value, Loc loc = Loc::current()) const {
    ascsim::Api api("LocalTensor::SetValue", loc);
    if (absent()) return;
    ascsim::scalarWrite<PrimType>(place(), offset, static_cast<PrimType>(value));
  }
  ascsim::ScalarRef<PrimType> operator()(uint32_t offset) const { return {place(), offset}; }
  LocalTensor operator[](uint32_t offset) const {
    LocalTensor t = *this;
    const uint32_t skip = static_cast<uint32_t>(ascsim::bytesOf<PrimType>(offset));
    t.address_ += skip;
    t.bytes_ = bytes_ > skip ? bytes_ - skip : 0;
    return t;
  }
  template <class U>
  void SetAddrWithOffset(LocalTensor<U>& source, uint32_t offset) {
    *this = source[offset].template ReinterpretCast<T>();
  }
  template <class U>
  LocalTensor<U> ReinterpretCast() const {
    LocalTensor<U> t;
    t.adopt(position_, address_, bytes_, limit_, state_, generation_);
    return t;
  }
  uint32_t GetLength() const { return bytes_; }
  uint32_t GetSize() const {
    if constexpr (std::is_same_v<PrimType, int4b_t>)
      return bytes_ * 2;
    else
      return bytes_ / sizeof(PrimType);
  }
  void SetSize(uint32_t elements) {
    bytes_ = static_cast<uint32_t>(ascsim::bytesOf<PrimType>(elements));
  }
  void SetBufferLen(uint32_t bytes) { bytes_ = bytes; }
  int32_t GetPosition() const { return static_cast<int32_t>(position_); }
  void SetUserTag(uint32_t tag) { tag_ = tag; }
  uint32_t GetUserTag() const { return tag_; }
  void SetShapeInfo(const ShapeInfo& info) { shape_ = info; }
  ShapeInfo GetShapeInfo() const { return shape_; }
  void Print() { Print(GetSize()); }
  void Print(uint32_t n) {
    const PrimType* p = GetPhyAddr();
    const uint32_t row = 32 / sizeof(PrimType);
    for (uint32_t i = 0; i < n && i < GetSize(); ++i) {
      if (i % row == 0) std::printf("%s%04u:", i ? "\n" : "", i);
      std::printf(" %g", static_cast<double>(p[i]));
    }
    std::printf("\n");
  }
  int32_t ToFile(const std::string& name) const {
    std::FILE* f = std::fopen(name.c_str(), "wb");
    if (f == nullptr) return -1;
    const size_t n = std::fwrite(GetPhyAddr(), 1, bytes_, f);
    std::fclose(f);
    return n == bytes_ ? 0 : -1;
  }

  // The simulator's own.
  ascsim::Place place() const {
    ascsim::Place p;
    p.mem = ascsim::memOf(position_);
    p.address = address_;
    p.limit = limit_;
    p.state = state_;
    p.generation = generation_;
    return p;
  }
  // The memory belongs to the other core type: the API calls of that half do nothing here.
  bool absent() const {
    const ascsim::Mem m = ascsim::memOf(position_);
    if (m == ascsim::Mem::L1 && ascsim::isAiv()) return !ascsim::servedByCube();
    return m == ascsim::Mem::UB ? ascsim::isAic() : m != ascsim::Mem::GM && ascsim::isAiv();
  }
  void adopt(TPosition position, uint32_t address, uint32_t bytes, uint64_t limit,
             ascsim::BufState* state, uint32_t generation) {
    position_ = position;
    address_ = address;
    bytes_ = bytes;
    limit_ = limit;
    state_ = state;
    generation_ = generation;
  }
  ascsim::BufState* state() const { return state_; }
  uint32_t address() const { return address_; }

 private:
  TPosition position_ = TPosition::VECCALC;
  uint32_t address_ = 0;
  uint32_t bytes_ = 0;
  uint64_t limit_ = ~0ull;
  ascsim::BufState* state_ = nullptr;
  uint32_t generation_ = 0;
  uint32_t tag_ = 0;
  ShapeInfo shape_;
};

}  // namespace AscendC
