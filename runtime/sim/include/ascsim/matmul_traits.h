// What a Matmul object is made of: callbacks, policies, its element types and positions.
#pragma once
#include "ascsim/matmul_engine.h"
#include "ascsim/sync.h"

namespace AscendC {

template <void (*DataCopyOut)(const __gm__ void*, const LocalTensor<int8_t>&, const void*,
                              const uint64_t, const uint64_t) = nullptr,
          void (*CopyA1)(const LocalTensor<int8_t>&, const __gm__ void*, int, int, int, int,
                         const uint64_t, const uint64_t) = nullptr,
          void (*CopyB1)(const LocalTensor<int8_t>&, const __gm__ void*, int, int, int, int,
                         const uint64_t, const uint64_t) = nullptr>
struct MatmulCallBackFunc {
  constexpr static auto DataCopyOutPtr = DataCopyOut;
  constexpr static auto CopyA1Ptr = CopyA1;
  constexpr static auto CopyB1Ptr = CopyB1;
};

// What a DataCopyOut callback gets: one tile of L0C and where it goes.
struct DataCopyOutParams {
  uint16_t cBurstNum;
  uint16_t burstLen;
  uint16_t srcStride;
  uint32_t dstStride;
  uint16_t oriNSize;
  bool enUnitFlag;
  uint64_t quantScalar;
  uint64_t cbufWorkspaceAddr;
  uint32_t curM;
  uint32_t curN;
};

// The element type of L0C for matrices of T.
template <class T>
struct GetMmDstType {
  using Type =
      std::conditional_t<std::is_same_v<T, int8_t> || std::is_same_v<T, int4b_t>, int32_t, float>;
};

template <class A, class B,
          std::enable_if_t<std::is_integral_v<A> && std::is_integral_v<B>, int> = 0>
constexpr auto Ceil(A num1, B num2) {
  return num2 == 0 ? decltype(num1 + num2)(0) : (num1 + num2 - 1) / num2;
}

namespace Impl::Detail {
template <const auto&, class, class, class, class, class>
struct MatmulPolicy {
  static constexpr ascsim::mm::Policy kind = ascsim::mm::Policy::Default;
};
template <const auto&, class, class, class, class, class>
struct TrianUpperMatmulPolicy {
  static constexpr ascsim::mm::Policy kind = ascsim::mm::Policy::UpperTriangle;
};
template <const auto&, class, class, class, class, class>
struct TrianLowerMatmulPolicy {
  static constexpr ascsim::mm::Policy kind = ascsim::mm::Policy::LowerTriangle;
};
template <const auto&, class, class, class, class, class>
struct NBuffer33MatmulPolicy {
  static constexpr ascsim::mm::Policy kind = ascsim::mm::Policy::NBuffer33;
};
}  // namespace Impl::Detail

#define MATMUL_POLICY_DEFAULT_OF(DEFAULT)                   \
  template <const auto&, class, class, class, class, class> \
  class MATMUL_POLICY = AscendC::Impl::Detail::DEFAULT

}  // namespace AscendC

namespace ascsim::mm {

template <class>
constexpr bool kNever = false;

constexpr const MatmulConfig& configOf(const MatmulConfig& c) { return c; }
constexpr const MatmulConfig& configOf(const MatmulApiStaticTiling& t) { return t.cfg; }

template <class M>
Side sideOf() {
  Side s;
  s.pos = M::pos;
  s.format = M::format;
  s.dtype = dtypeOf<typename M::T>();
  s.trans = M::isTrans;
  s.layout = M::layout;
  s.ibShare = M::ibShare;
  return s;
}

template <class A, class B, class C, class Bias>
constexpr bool supportedTypes() {
  using a = typename A::T;
  using b = typename B::T;
  using c = typename C::T;
  using s = typename Bias::T;
  if (!std::is_same_v<a, b>) return false;
  if constexpr (std::is_same_v<a, half> || std::is_same_v<a, bfloat16_t> ||
                std::is_same_v<a, float>) {
    const bool out = std::is_same_v<c, float> || std::is_same_v<c, half> ||
                     std::is_same_v<c, bfloat16_t> ||
                     (std::is_same_v<c, int8_t> && !std::is_same_v<a, float>);
    // The bias defaults to the type of C; it matters only if there is one.
    return out && (std::is_same_v<s, float> || std::is_same_v<s, half> || std::is_same_v<s, c>);
  } else if constexpr (std::is_same_v<a, int8_t> || std::is_same_v<a, int4b_t>) {
    const bool out = std::is_same_v<c, int32_t> || std::is_same_v<c, half> ||
                     (std::is_same_v<c, int8_t> && std::is_same_v<a, int8_t>);
    return out && (std::is_same_v<s, int32_t> || std::is_same_v<s, c>);
  } else {
    return false;
  }
}

template <class T>
Source sourceOf(const AscendC::GlobalTensor<T>& t) {
  Source s;
  s.set = true;
  s.place = t.place();
  return s;
}
template <class T>
Source sourceOf(const AscendC::LocalTensor<T>& t) {
  Source s;
  s.set = true;
  s.place = t.place();
  s.bytes = t.GetLength();
  return s;
}

}  // namespace ascsim::mm
