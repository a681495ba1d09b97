// High-level API, activation functions other than the softmax family.
#pragma once
#include "ascsim/adv_math.h"
#include "ascsim/adv_softmax.h"

namespace AscendC {

ASCSIM_ADV_UNARY(Sigmoid, NONE)

template <class T, bool isReuseSource = false>
void Silu(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal, uint32_t dataSize,
          Loc loc = Loc::current()) {
  ASCSIM_ADV_HALF_OR_FLOAT(Silu);
  ascsim::Api api("Silu", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::unary(ascsim::adv::Fn::Silu, ascsim::adv::arg(dstLocal), ascsim::adv::arg(srcLocal),
                     nullptr, dataSize);
}
template <class T, bool isReuseSource = false>
void Swish(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal, uint32_t dataSize,
           const PrimT<T> scalarValue, Loc loc = Loc::current()) {
  ASCSIM_ADV_HALF_OR_FLOAT(Swish);
  ascsim::Api api("Swish", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::unary(ascsim::adv::Fn::Swish, ascsim::adv::arg(dstLocal), ascsim::adv::arg(srcLocal),
                     nullptr, dataSize, false, static_cast<float>(scalarValue));
}

#define ASCSIM_ADV_GELU(name)                                                     \
  template <class T, bool highPrecision = false, bool highPerformance = false>    \
  void name(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,       \
            const LocalTensor<uint8_t>& sharedTmpBuffer, const uint32_t dataSize, \
            Loc loc = Loc::current()) {                                           \
    ASCSIM_ADV_HALF_OR_FLOAT(name);                                               \
    ascsim::Api api(#name, loc);                                                  \
    if (ascsim::isAic()) return;                                                  \
    const ascsim::adv::Arg tmp = ascsim::adv::arg(sharedTmpBuffer);               \
    ascsim::adv::unary(ascsim::adv::Fn::name, ascsim::adv::arg(dstLocal),         \
                       ascsim::adv::arg(srcLocal), &tmp, dataSize);               \
  }                                                                               \
  template <class T, bool highPrecision = false, bool highPerformance = false>    \
  void name(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,       \
            const uint32_t dataSize, Loc loc = Loc::current()) {                  \
    ASCSIM_ADV_HALF_OR_FLOAT(name);                                               \
    ascsim::Api api(#name, loc);                                                  \
    if (ascsim::isAic()) return;                                                  \
    ascsim::adv::unary(ascsim::adv::Fn::name, ascsim::adv::arg(dstLocal),         \
                       ascsim::adv::arg(srcLocal), nullptr, dataSize);            \
  }
ASCSIM_ADV_GELU(Gelu)
ASCSIM_ADV_GELU(FasterGelu)
ASCSIM_ADV_GELU(FasterGeluV2)

// Gated units: dst = src0 * f(src1).
#define ASCSIM_ADV_RUN_GEGLU(...) ascsim::adv::binary(ascsim::adv::Fn::GeGLU, __VA_ARGS__)
#define ASCSIM_ADV_RUN_REGLU(...) ascsim::adv::binary(ascsim::adv::Fn::ReGlu, __VA_ARGS__)
ASCSIM_ADV_BINARY(GeGLU, NONE, ASCSIM_ADV_HALF_OR_FLOAT(GeGLU), ASCSIM_ADV_RUN_GEGLU)
#define ASCSIM_ADV_CHECK_REGLU                                                                \
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>> || std::is_same_v<PrimT<T>, bfloat16_t>, \
                "ReGlu: half, bfloat16_t and float are supported")
ASCSIM_ADV_BINARY(ReGlu, NONE, ASCSIM_ADV_CHECK_REGLU, ASCSIM_ADV_RUN_REGLU)

namespace detail {
template <class T>
void swiglu(const LocalTensor<T>& dst, const LocalTensor<T>& a, const LocalTensor<T>& b, float beta,
            const ascsim::adv::Tmp& tmp, uint32_t n, const Loc& loc) {
  ASCSIM_ADV_HALF_OR_FLOAT(SwiGLU);
  ascsim::Api api("SwiGLU", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::binary(ascsim::adv::Fn::SwiGLU, ascsim::adv::arg(dst), ascsim::adv::arg(a),
                      ascsim::adv::arg(b), tmp.get(), n, beta);
}
}  // namespace detail
template <class T, bool isReuseSource = false>
void SwiGLU(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor0,
            const LocalTensor<T>& srcTensor1, const float& scalarValue,
            const LocalTensor<uint8_t>& sharedTmpBuffer, const uint32_t calCount,
            Loc loc = Loc::current()) {
  detail::swiglu(dstTensor, srcTensor0, srcTensor1, scalarValue, sharedTmpBuffer, calCount, loc);
}
template <class T, bool isReuseSource = false>
void SwiGLU(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor0,
            const LocalTensor<T>& srcTensor1, const float& scalarValue,
            const LocalTensor<uint8_t>& sharedTmpBuffer, Loc loc = Loc::current()) {
  detail::swiglu(dstTensor, srcTensor0, srcTensor1, scalarValue, sharedTmpBuffer,
                 srcTensor0.GetSize(), loc);
}
template <class T, bool isReuseSource = false>
void SwiGLU(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor0,
            const LocalTensor<T>& srcTensor1, const float& scalarValue, const uint32_t calCount,
            Loc loc = Loc::current()) {
  detail::swiglu(dstTensor, srcTensor0, srcTensor1, scalarValue, {}, calCount, loc);
}
template <class T, bool isReuseSource = false>
void SwiGLU(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor0,
            const LocalTensor<T>& srcTensor1, const float& scalarValue, Loc loc = Loc::current()) {
  detail::swiglu(dstTensor, srcTensor0, srcTensor1, scalarValue, {}, srcTensor0.GetSize(), loc);
}

}  // namespace AscendC
