// High-level API, mathematics (docs: SIMD-API, high-level API, mathematical computation).
#pragma once
#include "ascsim/adv_fn.h"

namespace AscendC {

enum class AtanAlgo { TAYLOR_EXPANSION = 0, POLYNOMIAL_APPROXIMATION };
struct AtanConfig {
  AtanAlgo algo = AtanAlgo::TAYLOR_EXPANSION;
};
constexpr AtanConfig defaultAtanConfig = {AtanAlgo::TAYLOR_EXPANSION};
enum class SinAlgo { POLYNOMIAL_APPROXIMATION = 0, RADIAN_REDUCTION };
struct SinConfig {
  SinAlgo algo = SinAlgo::POLYNOMIAL_APPROXIMATION;
};
constexpr SinConfig defaultSinConfig{};
enum class CosAlgo { POLYNOMIAL_APPROXIMATION = 0, RADIAN_REDUCTION };
struct CosConfig {
  CosAlgo algo = CosAlgo::POLYNOMIAL_APPROXIMATION;
};
constexpr CosConfig defaultCosConfig{};
enum class ErfAlgo { PADE_APPROXIMATION = 0, SUBSECTION_POLYNOMIAL_APPROXIMATION };
struct ErfConfig {
  ErfAlgo algo = ErfAlgo::PADE_APPROXIMATION;
};
constexpr ErfConfig defaultErfConfig = {ErfAlgo::PADE_APPROXIMATION};
enum class TanhAlgo { INTRINSIC = 0, SUBSECTION_COMPENSATION };
struct TanhConfig {
  TanhAlgo algo = TanhAlgo::INTRINSIC;
};
constexpr TanhConfig DEFAULT_TANH_CONFIG = {TanhAlgo::INTRINSIC};
constexpr uint32_t FMOD_ITERATION_NUM_MAX = 11;
enum class FmodAlgo { NORMAL = 0, ITERATION_COMPENSATION = 1 };
struct FmodConfig {
  FmodAlgo algo = FmodAlgo::NORMAL;
  uint32_t iterationNum = FMOD_ITERATION_NUM_MAX;
};
constexpr FmodConfig DEFAULT_FMOD_CONFIG = {FmodAlgo::NORMAL, FMOD_ITERATION_NUM_MAX};
enum class PowerAlgo { INTRINSIC = 0, DOUBLE_FLOAT_TECH };
struct PowerConfig {
  PowerAlgo algo = PowerAlgo::INTRINSIC;
};
constexpr PowerConfig defaultPowerConfig = {PowerAlgo::INTRINSIC};
enum class CumSumAlgorithm { CUMSUM_ALGORITHM_LINEBYLINE = 0, CUMSUM_ALGORITHM_SKLANSKY = 1 };
struct CumSumConfig {
  bool isLastAxis{true};
  bool isReuseSource{false};
  bool outputLastRow{false};
  CumSumAlgorithm algorithm{CumSumAlgorithm::CUMSUM_ALGORITHM_LINEBYLINE};
};
constexpr CumSumConfig defaultCumSumConfig = {true, false, true};
struct CumSumInfo {
  uint32_t outter{0};
  uint32_t inner{0};
};

#define ASCSIM_ADV_HALF_OR_FLOAT(name)                \
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>>, \
                #name ": half and float are supported on this chip")

// dst[k] = f(src[k]) over calCount elements or the whole source, with or without a temporary
// buffer.
#define ASCSIM_ADV_UNARY_COUNTED(name, templateArgs)                                   \
  template <class T, bool isReuseSource = false ASCSIM_ADV_EXTRA_##templateArgs>       \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,          \
            const LocalTensor<uint8_t>& sharedTmpBuffer, const uint32_t calCount,      \
            Loc loc = Loc::current()) {                                                \
    ASCSIM_ADV_HALF_OR_FLOAT(name);                                                    \
    ascsim::Api api(#name, loc);                                                       \
    if (ascsim::isAic()) return;                                                       \
    const ascsim::adv::Arg tmp = ascsim::adv::arg(sharedTmpBuffer);                    \
    ascsim::adv::unary(ascsim::adv::Fn::name, ascsim::adv::arg(dstTensor),             \
                       ascsim::adv::arg(srcTensor), &tmp, calCount, isReuseSource);    \
  }                                                                                    \
  template <class T, bool isReuseSource = false ASCSIM_ADV_EXTRA_##templateArgs>       \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,          \
            const uint32_t calCount, Loc loc = Loc::current()) {                       \
    ASCSIM_ADV_HALF_OR_FLOAT(name);                                                    \
    ascsim::Api api(#name, loc);                                                       \
    if (ascsim::isAic()) return;                                                       \
    ascsim::adv::unary(ascsim::adv::Fn::name, ascsim::adv::arg(dstTensor),             \
                       ascsim::adv::arg(srcTensor), nullptr, calCount, isReuseSource); \
  }
#define ASCSIM_ADV_UNARY(name, templateArgs)                                                 \
  ASCSIM_ADV_UNARY_COUNTED(name, templateArgs)                                               \
  template <class T, bool isReuseSource = false ASCSIM_ADV_EXTRA_##templateArgs>             \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,                \
            const LocalTensor<uint8_t>& sharedTmpBuffer, Loc loc = Loc::current()) {         \
    name<T, isReuseSource>(dstTensor, srcTensor, sharedTmpBuffer, srcTensor.GetSize(), loc); \
  }                                                                                          \
  template <class T, bool isReuseSource = false ASCSIM_ADV_EXTRA_##templateArgs>             \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,                \
            Loc loc = Loc::current()) {                                                      \
    name<T, isReuseSource>(dstTensor, srcTensor, srcTensor.GetSize(), loc);                  \
  }
#define ASCSIM_ADV_EXTRA_NONE
#define ASCSIM_ADV_EXTRA_ATAN , const AtanConfig& config = defaultAtanConfig
#define ASCSIM_ADV_EXTRA_SIN , const SinConfig& config = defaultSinConfig
#define ASCSIM_ADV_EXTRA_COS , const CosConfig& config = defaultCosConfig
#define ASCSIM_ADV_EXTRA_ERF , const ErfConfig& config = defaultErfConfig
#define ASCSIM_ADV_EXTRA_TANH , const TanhConfig& config = DEFAULT_TANH_CONFIG

ASCSIM_ADV_UNARY(Acos, NONE)
ASCSIM_ADV_UNARY(Acosh, NONE)
ASCSIM_ADV_UNARY(Asin, NONE)
ASCSIM_ADV_UNARY(Asinh, NONE)
ASCSIM_ADV_UNARY(Atan, ATAN)
ASCSIM_ADV_UNARY(Atanh, NONE)
ASCSIM_ADV_UNARY(Cos, COS)
ASCSIM_ADV_UNARY(Cosh, NONE)
ASCSIM_ADV_UNARY(Erf, ERF)
ASCSIM_ADV_UNARY(Erfc, NONE)
ASCSIM_ADV_UNARY(Frac, NONE)
ASCSIM_ADV_UNARY(Log2, NONE)
ASCSIM_ADV_UNARY(Sign, NONE)
ASCSIM_ADV_UNARY(Sin, SIN)
ASCSIM_ADV_UNARY(Sinh, NONE)
ASCSIM_ADV_UNARY(Tan, NONE)
ASCSIM_ADV_UNARY(Tanh, TANH)
ASCSIM_ADV_UNARY(Trunc, NONE)
ASCSIM_ADV_UNARY_COUNTED(Ceil, NONE)
ASCSIM_ADV_UNARY_COUNTED(Floor, NONE)
ASCSIM_ADV_UNARY_COUNTED(Round, NONE)
ASCSIM_ADV_UNARY_COUNTED(Digamma, NONE)
ASCSIM_ADV_UNARY_COUNTED(Lgamma, NONE)

// Log and Log10 need no temporary buffer and take none.
#define ASCSIM_ADV_UNARY_BARE(name)                                                              \
  template <class T, bool isReuseSource = false>                                                 \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor, uint32_t calCount, \
            Loc loc = Loc::current()) {                                                          \
    ASCSIM_ADV_HALF_OR_FLOAT(name);                                                              \
    ascsim::Api api(#name, loc);                                                                 \
    if (ascsim::isAic()) return;                                                                 \
    ascsim::adv::unary(ascsim::adv::Fn::name, ascsim::adv::arg(dstTensor),                       \
                       ascsim::adv::arg(srcTensor), nullptr, calCount);                          \
  }                                                                                              \
  template <class T, bool isReuseSource = false>                                                 \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,                    \
            Loc loc = Loc::current()) {                                                          \
    name<T, isReuseSource>(dstTensor, srcTensor, srcTensor.GetSize(), loc);                      \
  }
ASCSIM_ADV_UNARY_BARE(Log)
ASCSIM_ADV_UNARY_BARE(Log10)

#define ASCSIM_ADV_CLAMP(name)                                                          \
  template <class T, bool isReuseSource = false>                                        \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,           \
            const LocalTensor<uint8_t>& sharedTmpBuffer, const PrimT<T> scalar,         \
            const uint32_t calCount, Loc loc = Loc::current()) {                        \
    ASCSIM_ADV_HALF_OR_FLOAT(name);                                                     \
    ascsim::Api api(#name, loc);                                                        \
    if (ascsim::isAic()) return;                                                        \
    const ascsim::adv::Arg tmp = ascsim::adv::arg(sharedTmpBuffer);                     \
    ascsim::adv::unary(ascsim::adv::Fn::name, ascsim::adv::arg(dstTensor),              \
                       ascsim::adv::arg(srcTensor), &tmp, calCount, isReuseSource,      \
                       static_cast<float>(scalar));                                     \
  }                                                                                     \
  template <class T, bool isReuseSource = false>                                        \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,           \
            const PrimT<T> scalar, const uint32_t calCount, Loc loc = Loc::current()) { \
    ASCSIM_ADV_HALF_OR_FLOAT(name);                                                     \
    ascsim::Api api(#name, loc);                                                        \
    if (ascsim::isAic()) return;                                                        \
    ascsim::adv::unary(ascsim::adv::Fn::name, ascsim::adv::arg(dstTensor),              \
                       ascsim::adv::arg(srcTensor), nullptr, calCount, isReuseSource,   \
                       static_cast<float>(scalar));                                     \
  }
ASCSIM_ADV_CLAMP(ClampMax)
ASCSIM_ADV_CLAMP(ClampMin)

// With the number of terms of the expansion; the basic Exp has no such parameter.
template <class T, uint8_t taylorExpandLevel, bool isReuseSource = false>
void Exp(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,
         const LocalTensor<uint8_t>& sharedTmpBuffer, const uint32_t calCount,
         Loc loc = Loc::current()) {
  ASCSIM_ADV_HALF_OR_FLOAT(Exp);
  ascsim::Api api("Exp", loc);
  if (ascsim::isAic()) return;
  const ascsim::adv::Arg tmp = ascsim::adv::arg(sharedTmpBuffer);
  ascsim::adv::unary(ascsim::adv::Fn::Exp, ascsim::adv::arg(dstLocal), ascsim::adv::arg(srcLocal),
                     &tmp, calCount, isReuseSource);
}
template <class T, uint8_t taylorExpandLevel, bool isReuseSource = false>
void Exp(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal, const uint32_t calCount,
         Loc loc = Loc::current()) {
  ASCSIM_ADV_HALF_OR_FLOAT(Exp);
  ascsim::Api api("Exp", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::unary(ascsim::adv::Fn::Exp, ascsim::adv::arg(dstLocal), ascsim::adv::arg(srcLocal),
                     nullptr, calCount, isReuseSource);
}

// Two operands. RUN gets tmp (or nullptr) and the count.
#define ASCSIM_ADV_BINARY(name, templateArgs, CHECK, RUN)                                          \
  template <class T, bool isReuseSource = false ASCSIM_ADV_EXTRA_##templateArgs>                   \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& src0Tensor,                     \
            const LocalTensor<T>& src1Tensor, const LocalTensor<uint8_t>& sharedTmpBuffer,         \
            const uint32_t calCount, Loc loc = Loc::current()) {                                   \
    CHECK;                                                                                         \
    ascsim::Api api(#name, loc);                                                                   \
    if (ascsim::isAic()) return;                                                                   \
    const ascsim::adv::Arg tmp = ascsim::adv::arg(sharedTmpBuffer);                                \
    RUN(ascsim::adv::arg(dstTensor), ascsim::adv::arg(src0Tensor), ascsim::adv::arg(src1Tensor),   \
        &tmp, calCount);                                                                           \
  }                                                                                                \
  template <class T, bool isReuseSource = false ASCSIM_ADV_EXTRA_##templateArgs>                   \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& src0Tensor,                     \
            const LocalTensor<T>& src1Tensor, const LocalTensor<uint8_t>& sharedTmpBuffer,         \
            Loc loc = Loc::current()) {                                                            \
    name<T, isReuseSource>(dstTensor, src0Tensor, src1Tensor, sharedTmpBuffer,                     \
                           src0Tensor.GetSize(), loc);                                             \
  }                                                                                                \
  template <class T, bool isReuseSource = false ASCSIM_ADV_EXTRA_##templateArgs>                   \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& src0Tensor,                     \
            const LocalTensor<T>& src1Tensor, const uint32_t calCount, Loc loc = Loc::current()) { \
    CHECK;                                                                                         \
    ascsim::Api api(#name, loc);                                                                   \
    if (ascsim::isAic()) return;                                                                   \
    RUN(ascsim::adv::arg(dstTensor), ascsim::adv::arg(src0Tensor), ascsim::adv::arg(src1Tensor),   \
        nullptr, calCount);                                                                        \
  }                                                                                                \
  template <class T, bool isReuseSource = false ASCSIM_ADV_EXTRA_##templateArgs>                   \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& src0Tensor,                     \
            const LocalTensor<T>& src1Tensor, Loc loc = Loc::current()) {                          \
    name<T, isReuseSource>(dstTensor, src0Tensor, src1Tensor, src0Tensor.GetSize(), loc);          \
  }
#define ASCSIM_ADV_EXTRA_FMOD , const FmodConfig& config = DEFAULT_FMOD_CONFIG
#define ASCSIM_ADV_EXTRA_POWER , const PowerConfig& config = defaultPowerConfig
#define ASCSIM_ADV_CHECK_XOR                                                             \
  static_assert(std::is_same_v<PrimT<T>, int16_t> || std::is_same_v<PrimT<T>, uint16_t>, \
                "Xor: int16_t and uint16_t are supported")
#define ASCSIM_ADV_CHECK_POWER                                                             \
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>> || std::is_same_v<PrimT<T>, int32_t>, \
                "Power: half, float and int32_t are supported on this chip")
#define ASCSIM_ADV_RUN_FMOD(...) ascsim::adv::binary(ascsim::adv::Fn::Fmod, __VA_ARGS__)
#define ASCSIM_ADV_RUN_POWER(d, a, b, tmp, n) ascsim::adv::power(0, d, a, b, 0, tmp, n)

ASCSIM_ADV_BINARY(Fmod, FMOD, ASCSIM_ADV_HALF_OR_FLOAT(Fmod), ASCSIM_ADV_RUN_FMOD)
ASCSIM_ADV_BINARY(Xor, NONE, ASCSIM_ADV_CHECK_XOR, ascsim::adv::xorOf)
ASCSIM_ADV_BINARY(Power, POWER, ASCSIM_ADV_CHECK_POWER, ASCSIM_ADV_RUN_POWER)

// Power with a scalar exponent (kind 1) or base (kind 2).
namespace detail {
template <class T>
void powerScalar(int kind, const LocalTensor<T>& dst, const LocalTensor<T>& src, PrimT<T> scalar,
                 const LocalTensor<uint8_t>* tmp, uint32_t n, const Loc& loc) {
  ASCSIM_ADV_CHECK_POWER;
  ascsim::Api api("Power", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::Arg t;
  if (tmp != nullptr) t = ascsim::adv::arg(*tmp);
  const ascsim::adv::Arg s = ascsim::adv::arg(src);
  ascsim::adv::power(kind, ascsim::adv::arg(dst), s, s, static_cast<double>(scalar),
                     tmp != nullptr ? &t : nullptr, n);
}
}  // namespace detail
#define ASCSIM_ADV_POWER(kind, first, second, source, scalar)                                    \
  template <class T, bool isReuseSource = false, const PowerConfig& config = defaultPowerConfig> \
  void Power(const LocalTensor<T>& dstTensor, first, second,                                     \
             const LocalTensor<uint8_t>& sharedTmpBuffer, uint32_t calCount,                     \
             Loc loc = Loc::current()) {                                                         \
    detail::powerScalar<T>(kind, dstTensor, source, scalar, &sharedTmpBuffer, calCount, loc);    \
  }                                                                                              \
  template <class T, bool isReuseSource = false, const PowerConfig& config = defaultPowerConfig> \
  void Power(const LocalTensor<T>& dstTensor, first, second,                                     \
             const LocalTensor<uint8_t>& sharedTmpBuffer, Loc loc = Loc::current()) {            \
    detail::powerScalar<T>(kind, dstTensor, source, scalar, &sharedTmpBuffer, source.GetSize(),  \
                           loc);                                                                 \
  }                                                                                              \
  template <class T, bool isReuseSource = false, const PowerConfig& config = defaultPowerConfig> \
  void Power(const LocalTensor<T>& dstTensor, first, second, uint32_t calCount,                  \
             Loc loc = Loc::current()) {                                                         \
    detail::powerScalar<T>(kind, dstTensor, source, scalar, nullptr, calCount, loc);             \
  }                                                                                              \
  template <class T, bool isReuseSource = false, const PowerConfig& config = defaultPowerConfig> \
  void Power(const LocalTensor<T>& dstTensor, first, second, Loc loc = Loc::current()) {         \
    detail::powerScalar<T>(kind, dstTensor, source, scalar, nullptr, source.GetSize(), loc);     \
  }
ASCSIM_ADV_POWER(1, const LocalTensor<T>& src0Tensor, const T& src1Scalar, src0Tensor, src1Scalar)
ASCSIM_ADV_POWER(2, const T& src0Scalar, const LocalTensor<T>& src1Tensor, src1Tensor, src0Scalar)

// dst += src * scalar as Muls and Add in the temporary's precision.
template <class T, class U, bool isReuseSource = false>
void Axpy(const LocalTensor<T>& dstTensor, const LocalTensor<U>& srcTensor,
          const PrimT<U> scalarValue, const LocalTensor<uint8_t>& sharedTmpBuffer,
          const uint32_t calCount, Loc loc = Loc::current()) {
  static_assert((std::is_same_v<PrimT<T>, PrimT<U>> && ascsim::adv::isHalfOrFloat<PrimT<T>>) ||
                    (std::is_same_v<PrimT<T>, float> && std::is_same_v<PrimT<U>, half>),
                "Axpy: half to half, float to float, or half to float");
  ascsim::Api api("Axpy", loc);
  if (ascsim::isAic()) return;
  const ascsim::adv::Arg tmp = ascsim::adv::arg(sharedTmpBuffer);
  ascsim::adv::axpy(ascsim::adv::arg(dstTensor), ascsim::adv::arg(srcTensor),
                    static_cast<float>(scalarValue), &tmp, calCount);
}

template <class T, const CumSumConfig& config = defaultCumSumConfig>
void CumSum(const LocalTensor<T>& dstTensor, const LocalTensor<T>& lastRowTensor,
            const LocalTensor<T>& srcTensor, const LocalTensor<uint8_t>& sharedTmpBuffer,
            const CumSumInfo& cumSumInfo, Loc loc = Loc::current()) {
  ASCSIM_ADV_HALF_OR_FLOAT(CumSum);
  ascsim::Api api("CumSum", loc);
  if (ascsim::isAic()) return;
  const ascsim::adv::Arg tmp = ascsim::adv::arg(sharedTmpBuffer);
  ascsim::adv::cumSum(ascsim::adv::arg(dstTensor), ascsim::adv::arg(lastRowTensor),
                      ascsim::adv::arg(srcTensor), &tmp, cumSumInfo.outter, cumSumInfo.inner,
                      config.isLastAxis, config.outputLastRow);
}
template <class T, const CumSumConfig& config = defaultCumSumConfig>
void CumSum(const LocalTensor<T>& dstTensor, const LocalTensor<T>& lastRowTensor,
            const LocalTensor<T>& srcTensor, const CumSumInfo& cumSumInfo,
            Loc loc = Loc::current()) {
  ASCSIM_ADV_HALF_OR_FLOAT(CumSum);
  ascsim::Api api("CumSum", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::cumSum(ascsim::adv::arg(dstTensor), ascsim::adv::arg(lastRowTensor),
                      ascsim::adv::arg(srcTensor), nullptr, cumSumInfo.outter, cumSumInfo.inner,
                      config.isLastAxis, config.outputLastRow);
}

}  // namespace AscendC
