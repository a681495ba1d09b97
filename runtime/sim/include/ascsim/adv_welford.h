// High-level API, Welford's running mean and variance (docs: SIMD-API, high-level API,
// normalization).
#pragma once
#include "ascsim/adv_norm.h"

namespace AscendC {

struct WelfordUpdateConfig {
  bool isInplace = false;
};
constexpr WelfordUpdateConfig WFUPDATE_DEFAULT_CFG = {false};
struct WelfordUpdateParam {
  uint32_t rnLength;
  uint32_t abLength;
  uint32_t abComputeLength;
  float nRec;
};
struct WelfordFinalizeConfig {
  bool isCorrection = false;
};
constexpr WelfordFinalizeConfig WFFINALIZE_DEFAULT_CFG = {false};
struct WelfordFinalizePara {
  uint32_t rnLength;
  uint32_t abLength;
  uint32_t headCount;
  uint32_t headCountLength;
  uint32_t tailCount;
  uint32_t tailCountLength;
  float abRec;
  float rRec;
  float rRecWithCorrection = 0;  // not used on this chip
};

namespace detail {
template <class T, class U>
void welfordUpdateCall(const LocalTensor<U>& outMean, const LocalTensor<U>& outVar,
                       const LocalTensor<U>& inMean, const LocalTensor<U>& inVar,
                       const LocalTensor<T>& x, const ascsim::adv::Tmp& tmp,
                       const WelfordUpdateParam& p, bool inplace, const Loc& loc) {
  normTypes<T>();
  static_assert(std::is_same_v<PrimT<U>, float>, "WelfordUpdate: means and variances are float");
  ascsim::Api api("WelfordUpdate", loc);
  if (ascsim::isAic()) return;
  if (p.rnLength != 1)
    ascsim::report(ascsim::kParam, "para.rnLength is %u; it must be 1", p.rnLength);
  ascsim::adv::welfordUpdate(ascsim::adv::arg(outMean), ascsim::adv::arg(outVar),
                             ascsim::adv::arg(inMean), ascsim::adv::arg(inVar), ascsim::adv::arg(x),
                             tmp.get(), p.abLength, p.abComputeLength, p.nRec, inplace);
}
inline void welfordFinalizeCall(const LocalTensor<float>& outMean, const LocalTensor<float>& outVar,
                                const LocalTensor<float>& inMean, const LocalTensor<float>& inVar,
                                const LocalTensor<int32_t>* counts, const ascsim::adv::Tmp& tmp,
                                const WelfordFinalizePara& p, const Loc& loc) {
  ascsim::Api api("WelfordFinalize", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::Arg c;
  if (counts != nullptr) c = ascsim::adv::arg(*counts);
  ascsim::adv::welfordFinalize(ascsim::adv::arg(outMean), ascsim::adv::arg(outVar),
                               ascsim::adv::arg(inMean), ascsim::adv::arg(inVar),
                               counts != nullptr ? &c : nullptr, tmp.get(),
                               {p.rnLength, p.abLength, p.headCount, p.headCountLength, p.tailCount,
                                p.tailCountLength, p.abRec, p.rRec});
}
}  // namespace detail
template <class T, class U, bool isReuseSource = false,
          const WelfordUpdateConfig& config = WFUPDATE_DEFAULT_CFG>
void WelfordUpdate(const LocalTensor<U>& outputMean, const LocalTensor<U>& outputVariance,
                   const LocalTensor<U>& inputMean, const LocalTensor<U>& inputVariance,
                   const LocalTensor<T>& inputX, const LocalTensor<uint8_t>& sharedTmpBuffer,
                   const WelfordUpdateParam& para, Loc loc = Loc::current()) {
  detail::welfordUpdateCall(outputMean, outputVariance, inputMean, inputVariance, inputX,
                            sharedTmpBuffer, para, config.isInplace, loc);
}
template <class T, class U, bool isReuseSource = false,
          const WelfordUpdateConfig& config = WFUPDATE_DEFAULT_CFG>
void WelfordUpdate(const LocalTensor<U>& outputMean, const LocalTensor<U>& outputVariance,
                   const LocalTensor<U>& inputMean, const LocalTensor<U>& inputVariance,
                   const LocalTensor<T>& inputX, const WelfordUpdateParam& para,
                   Loc loc = Loc::current()) {
  detail::welfordUpdateCall(outputMean, outputVariance, inputMean, inputVariance, inputX, {}, para,
                            config.isInplace, loc);
}
#define ASCSIM_ADV_WELFORD(COUNTS, countsArg, TMP, tmpArg)                                       \
  template <bool isReuseSource = false,                                                          \
            const WelfordFinalizeConfig& config = WFFINALIZE_DEFAULT_CFG>                        \
  void WelfordFinalize(                                                                          \
      const LocalTensor<float>& outputMean, const LocalTensor<float>& outputVariance,            \
      const LocalTensor<float>& inputMean, const LocalTensor<float>& inputVariance COUNTS TMP,   \
      const WelfordFinalizePara& para, Loc loc = Loc::current()) {                               \
    static_assert(!config.isCorrection,                                                          \
                  "WelfordFinalize: isCorrection is not supported on this chip");                \
    detail::welfordFinalizeCall(outputMean, outputVariance, inputMean, inputVariance, countsArg, \
                                tmpArg, para, loc);                                              \
  }
#define ASCSIM_ADV_COMMA_COUNTS , const LocalTensor<int32_t>& counts
#define ASCSIM_ADV_COMMA_TMP , const LocalTensor<uint8_t>& sharedTmpBuffer
ASCSIM_ADV_WELFORD(, nullptr, ASCSIM_ADV_COMMA_TMP, sharedTmpBuffer)
ASCSIM_ADV_WELFORD(ASCSIM_ADV_COMMA_COUNTS, &counts, ASCSIM_ADV_COMMA_TMP, sharedTmpBuffer)
ASCSIM_ADV_WELFORD(, nullptr, , {})
ASCSIM_ADV_WELFORD(ASCSIM_ADV_COMMA_COUNTS, &counts, , {})
#undef ASCSIM_ADV_WELFORD

}  // namespace AscendC
