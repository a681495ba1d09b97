// Tiling data: the macros of a kernel that reads it and of a host that defines and fills it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ascsim/base.h"
#include "ascsim/host.h"

namespace ascsim {

uint64_t currentTilingKey();  // of the running kernel
// Reads tiling data as the scalar unit does: bounds and unwritten bytes are checked.
void loadTiling(const void* gm, void* to, size_t bytes, const Loc& loc = Loc::current());

template <class T>
T tilingFrom(const void* gm, const Loc& loc = Loc::current()) {
  static_assert(std::is_trivially_copyable_v<T>, "tiling data is copied byte by byte");
  T value{};
  loadTiling(gm, &value, sizeof(T), loc);
  return value;
}

template <class Self>
class TilingBase {
 public:
  size_t GetDataSize() const { return sizeof(Self); }
  void SaveToBuffer(void* to, size_t capacity) const {
    if (capacity >= sizeof(Self)) std::memcpy(to, static_cast<const Self*>(this), sizeof(Self));
  }
};

}  // namespace ascsim

// -------------------------------------------------------------------------------------------
// kernel The struct comes from REGISTER_TILING_DEFAULT in the kernel, or from the host's
// REGISTER_TILING_DATA_CLASS(Op, Struct) when the kernel is named like the operator: the translator
// then declares AscsimDefaultTiling in the kernel.
#define REGISTER_TILING_DEFAULT(...) using AscsimDefaultTiling = __VA_ARGS__
#define REGISTER_TILING_FOR_TILINGKEY(expression, ...) \
  static_assert(std::is_trivially_copyable_v<__VA_ARGS__>, "tiling data is copied byte by byte")
#define REGISTER_NONE_TILING \
  static_assert(true, "the kernel takes its tiling from the caller as it is")

#define GET_TILING_DATA(variable, tiling) \
  AscsimDefaultTiling variable = ::ascsim::tilingFrom<AscsimDefaultTiling>(tiling)
#define GET_TILING_DATA_WITH_STRUCT(type, variable, tiling) \
  type variable = ::ascsim::tilingFrom<type>(tiling)
#define GET_TILING_DATA_MEMBER(type, member, variable, tiling)                            \
  auto variable = ::ascsim::tilingFrom<std::remove_reference_t<decltype(type{}.member)>>( \
      reinterpret_cast<const uint8_t*>(tiling) + offsetof(type, member))
#define GET_TILING_DATA_PTR_WITH_STRUCT(type, variable, tiling)      \
  type ascsimTiling_##variable = ::ascsim::tilingFrom<type>(tiling); \
  type* variable = &ascsimTiling_##variable
#define COPY_TILING_WITH_STRUCT(type, source, destination)      \
  type destination##Value = ::ascsim::tilingFrom<type>(source); \
  type* destination = &destination##Value
#define COPY_TILING_WITH_ARRAY(type, count, source, destination) \
  type destination[count];                                       \
  ::ascsim::loadTiling(source, destination, sizeof(type) * (count))
#define __tiling_data_ptr__

#define TILING_KEY_VAR (::ascsim::currentTilingKey())
#define TILING_KEY_IS(key) (TILING_KEY_VAR == static_cast<uint64_t>(key))
#define TILING_KEY_LIST(...) static_assert(true, "the keys are known from their branches")

// The translator has read these; here they are only checked to be what they claim.
#define KERNEL_TASK_TYPE_DEFAULT(value) (void)(value)
#define KERNEL_TASK_TYPE(key, value) (void)(value)
enum KernelMetaType {
  KERNEL_TYPE_AIV_ONLY,
  KERNEL_TYPE_AIC_ONLY,
  KERNEL_TYPE_MIX_AIV_1_0,
  KERNEL_TYPE_MIX_AIC_1_0,
  KERNEL_TYPE_MIX_AIC_1_1,
  KERNEL_TYPE_MIX_AIC_1_2,
  KERNEL_TYPE_AICORE,
  KERNEL_TYPE_VECTORCORE,
  KERNEL_TYPE_MIX_AICORE,
  KERNEL_TYPE_MIX_VECTOR_CORE,
  KERNEL_TYPE_MAX
};

// ---------------------------------------------------------------------------------------------
// host
#define BEGIN_TILING_DATA_DEF(type)                 \
  struct type : public ::ascsim::TilingBase<type> { \
    using AscsimSelf = type;
#define TILING_DATA_FIELD_DEF(fieldType, name) \
  fieldType name = {};                         \
  void set_##name(fieldType v) { name = v; }   \
  fieldType get_##name() const { return name; }
#define TILING_DATA_FIELD_DEF_ARR(elementType, count, name)                                      \
  elementType name[count] = {};                                                                  \
  void set_##name(const elementType* v) { std::memcpy(name, v, sizeof(elementType) * (count)); } \
  elementType* get_##name() { return name; }
#define TILING_DATA_FIELD_DEF_STRUCT(structType, name) structType name = {};
#define END_TILING_DATA_DEF }
// Binds the struct to the operator; found by the translator.
#define REGISTER_TILING_DATA_CLASS(op, type) static_assert(std::is_trivially_copyable_v<type>);
