// High-level API, normalizations (docs: SIMD-API, high-level API, normalization).
#pragma once
#include "ascsim/adv_norm_impl.h"
#include "ascsim/adv_reduce_pattern.h"
#include "ascsim/adv_tilingdata.h"

namespace AscendC {

struct LayerNormConfig {
  bool isNoBeta = false;
  bool isNoGamma = false;
  bool isOnlyOutput = false;
  bool isOutputRstd = true;
};
constexpr LayerNormConfig LNCFG_NORM = {false, false, false, true};
constexpr LayerNormConfig LNCFG_NOBETA = {true, false, false, true};
constexpr LayerNormConfig LNCFG_NOGAMMA = {false, true, false, true};
constexpr LayerNormConfig LNCFG_NOOPT = {true, true, false, true};
constexpr LayerNormConfig GetLayerNormConfig(bool isNoBeta, bool isNoGamma) {
  return {isNoBeta, isNoGamma, false, true};
}
struct LayerNormPara {
  uint32_t aLength;
  uint32_t rLength;
  uint32_t rLengthWithPadding;
};
struct NormalizeConfig {
  ReducePattern reducePattern = ReducePattern::AR;
  int32_t aLength = -1;
  bool isNoBeta = false;
  bool isNoGamma = false;
  bool isOnlyOutput = false;
};
constexpr NormalizeConfig NLCFG_NORM = {ReducePattern::AR, -1, false, false, false};
constexpr NormalizeConfig GetNormalizeConfig(bool isNoBeta, bool isNoGamma) {
  return {ReducePattern::AR, -1, isNoBeta, isNoGamma, false};
}
struct NormalizePara {
  uint32_t aLength;
  uint32_t rLength;
  uint32_t rLengthWithPadding;
};
struct LayerNormGradShapeInfo {
  DataFormat dataFormat = DataFormat::ND;
};
namespace detail {
template <class T>
constexpr void normTypes() {
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>>,
                "normalizations: half and float are supported on this chip");
}
template <class T, bool reuse>
void layerNormBsh(const LocalTensor<T>& output, const LocalTensor<T>& mean,
                  const LocalTensor<T>& variance, const LocalTensor<T>& x,
                  const LocalTensor<T>& gamma, const LocalTensor<T>& beta,
                  const ascsim::adv::Tmp& tmp, float epsilon, const LayerNormTiling& tiling,
                  const Loc& loc) {
  normTypes<T>();
  static_assert(!reuse || std::is_same_v<PrimT<T>, float>,
                "LayerNorm: isReuseSource is for float only");
  ascsim::Api api("LayerNorm", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::NormCall c;
  c.rows = static_cast<uint64_t>(tiling.bLength) * tiling.sLength;
  c.stride = tiling.hLength;
  c.length = tiling.originalHLength;
  c.dst = ascsim::adv::arg(output);
  c.x = ascsim::adv::arg(x);
  c.gamma = ascsim::adv::arg(gamma);
  c.beta = ascsim::adv::arg(beta);
  c.mean = ascsim::adv::arg(mean);
  c.spread = ascsim::adv::arg(variance);
  c.epsilon = epsilon;
  c.tmp = tmp.get();
  c.tmpBytes = ascsim::adv::layerNormTmp(c.rows, c.stride, sizeof(PrimT<T>), reuse, false);
  ascsim::adv::normalizeRows(c);
}
template <class U, class T>
void layerNormAr(const LocalTensor<T>& output, const LocalTensor<float>& mean,
                 const LocalTensor<float>& rstd, const LocalTensor<T>& x,
                 const LocalTensor<U>& gamma, const LocalTensor<U>& beta, float epsilon,
                 const ascsim::adv::Tmp& tmp, const LayerNormPara& para,
                 const LayerNormConfig& config, const Loc& loc) {
  normTypes<T>();
  normTypes<U>();
  static_assert(sizeof(PrimT<U>) >= sizeof(PrimT<T>),
                "LayerNorm: gamma and beta are at least as precise as the data");
  ascsim::Api api("LayerNorm", loc);
  if (ascsim::isAic()) return;
  if (config.isOnlyOutput)
    ascsim::fail(ascsim::kParam, "config.isOnlyOutput is true; only false is supported");
  ascsim::adv::NormCall c;
  c.rows = para.aLength;
  c.stride = para.rLengthWithPadding;
  c.length = para.rLength;
  c.dst = ascsim::adv::arg(output);
  c.x = ascsim::adv::arg(x);
  c.gamma = ascsim::adv::arg(gamma);
  c.beta = ascsim::adv::arg(beta);
  c.mean = ascsim::adv::arg(mean);
  c.spread = ascsim::adv::arg(rstd);
  c.hasGamma = !config.isNoGamma;
  c.hasBeta = !config.isNoBeta;
  c.rstdOut = config.isOutputRstd;
  c.epsilon = epsilon;
  c.inPlace = false;
  c.tmp = tmp.get();
  c.tmpBytes = ascsim::adv::layerNormTmp(1, c.stride, 4, true, false);
  ascsim::adv::normalizeRows(c);
}
}  // namespace detail

template <class T, bool isReuseSource = false>
void LayerNorm(const LocalTensor<T>& output, const LocalTensor<T>& outputMean,
               const LocalTensor<T>& outputVariance, const LocalTensor<T>& inputX,
               const LocalTensor<T>& gamma, const LocalTensor<T>& beta,
               const LocalTensor<uint8_t>& sharedTmpBuffer, const PrimT<T> epsilon,
               const LayerNormTiling& tiling, Loc loc = Loc::current()) {
  detail::layerNormBsh<T, isReuseSource>(output, outputMean, outputVariance, inputX, gamma, beta,
                                         sharedTmpBuffer, static_cast<float>(epsilon), tiling, loc);
}
template <class T, bool isReuseSource = false>
void LayerNorm(const LocalTensor<T>& output, const LocalTensor<T>& outputMean,
               const LocalTensor<T>& outputVariance, const LocalTensor<T>& inputX,
               const LocalTensor<T>& gamma, const LocalTensor<T>& beta, const PrimT<T> epsilon,
               const LayerNormTiling& tiling, Loc loc = Loc::current()) {
  detail::layerNormBsh<T, isReuseSource>(output, outputMean, outputVariance, inputX, gamma, beta,
                                         {}, static_cast<float>(epsilon), tiling, loc);
}
template <class U, class T, bool isReuseSource = false, const LayerNormConfig& config = LNCFG_NORM>
void LayerNorm(const LocalTensor<T>& output, const LocalTensor<float>& outputMean,
               const LocalTensor<float>& outputRstd, const LocalTensor<T>& inputX,
               const LocalTensor<U>& gamma, const LocalTensor<U>& beta, const float epsilon,
               const LocalTensor<uint8_t>& sharedTmpBuffer, const LayerNormPara& para,
               const LayerNormSeparateTiling&, Loc loc = Loc::current()) {
  detail::layerNormAr(output, outputMean, outputRstd, inputX, gamma, beta, epsilon, sharedTmpBuffer,
                      para, config, loc);
}
template <class U, class T, bool isReuseSource = false, const LayerNormConfig& config = LNCFG_NORM>
void LayerNorm(const LocalTensor<T>& output, const LocalTensor<float>& outputMean,
               const LocalTensor<float>& outputRstd, const LocalTensor<T>& inputX,
               const LocalTensor<U>& gamma, const LocalTensor<U>& beta, const float epsilon,
               const LayerNormPara& para, const LayerNormSeparateTiling&,
               Loc loc = Loc::current()) {
  detail::layerNormAr(output, outputMean, outputRstd, inputX, gamma, beta, epsilon, {}, para,
                      config, loc);
}

namespace detail {
template <class U, class T>
void normalizeCall(const LocalTensor<T>& output, const LocalTensor<float>& rstd,
                   const LocalTensor<float>& mean, const LocalTensor<float>& variance,
                   const LocalTensor<T>& x, const LocalTensor<U>& gamma, const LocalTensor<U>& beta,
                   const ascsim::adv::Tmp& tmp, float epsilon, const NormalizePara& para,
                   const NormalizeConfig& config, const Loc& loc) {
  normTypes<T>();
  normTypes<U>();
  static_assert(sizeof(PrimT<U>) >= sizeof(PrimT<T>),
                "Normalize: gamma and beta are at least as precise as the data");
  ascsim::Api api("Normalize", loc);
  if (ascsim::isAic()) return;
  if (config.reducePattern != ReducePattern::AR)
    ascsim::fail(ascsim::kParam, "config.reducePattern must be ReducePattern::AR");
  const ascsim::adv::Arg var = ascsim::adv::arg(variance);
  ascsim::adv::NormCall c;
  c.rows = config.aLength > 0 ? static_cast<uint32_t>(config.aLength) : para.aLength;
  c.stride = para.rLengthWithPadding;
  c.length = para.rLength;
  c.dst = ascsim::adv::arg(output);
  c.x = ascsim::adv::arg(x);
  c.gamma = ascsim::adv::arg(gamma);
  c.beta = ascsim::adv::arg(beta);
  c.mean = ascsim::adv::arg(mean);
  c.spread = ascsim::adv::arg(rstd);
  c.variance = &var;
  c.known = true;
  c.rstdOut = true;
  c.onlyOutput = config.isOnlyOutput;
  c.hasGamma = !config.isNoGamma;
  c.hasBeta = !config.isNoBeta;
  c.epsilon = epsilon;
  c.inPlace = false;
  c.tmp = tmp.get();
  c.tmpBytes = sizeof(PrimT<T>) == 4 ? 0 : c.stride * 2ull * 4;
  ascsim::adv::normalizeRows(c);
}
}  // namespace detail
template <class U, class T, bool isReuseSource = false, const NormalizeConfig& config = NLCFG_NORM>
void Normalize(const LocalTensor<T>& output, const LocalTensor<float>& outputRstd,
               const LocalTensor<float>& inputMean, const LocalTensor<float>& inputVariance,
               const LocalTensor<T>& inputX, const LocalTensor<U>& gamma,
               const LocalTensor<U>& beta, const LocalTensor<uint8_t>& sharedTmpBuffer,
               const float epsilon, const NormalizePara& para, Loc loc = Loc::current()) {
  detail::normalizeCall(output, outputRstd, inputMean, inputVariance, inputX, gamma, beta,
                        sharedTmpBuffer, epsilon, para, config, loc);
}
template <class U, class T, bool isReuseSource = false, const NormalizeConfig& config = NLCFG_NORM>
void Normalize(const LocalTensor<T>& output, const LocalTensor<float>& outputRstd,
               const LocalTensor<float>& inputMean, const LocalTensor<float>& inputVariance,
               const LocalTensor<T>& inputX, const LocalTensor<U>& gamma,
               const LocalTensor<U>& beta, const float epsilon, const NormalizePara& para,
               Loc loc = Loc::current()) {
  detail::normalizeCall(output, outputRstd, inputMean, inputVariance, inputX, gamma, beta, {},
                        epsilon, para, config, loc);
}

namespace detail {
template <class T>
void rmsNormCall(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& gamma,
                 const ascsim::adv::Tmp& tmp, float epsilon, const RmsNormTiling& tiling,
                 bool basicBlock, const Loc& loc) {
  normTypes<T>();
  ascsim::Api api("RmsNorm", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::NormCall c;
  c.rms = true;
  c.rows = static_cast<uint64_t>(tiling.bLength) * tiling.sLength;
  c.stride = tiling.hLength;
  c.length = tiling.originalHLength;
  if (basicBlock && (c.stride % 64 != 0 || c.stride >= 2048 || c.rows % 8 != 0))
    ascsim::report(ascsim::kParam,
                   "isBasicBlock needs rows (%llu) in multiples of 8 and columns (%u) in multiples "
                   "of 64 under 2048",
                   static_cast<unsigned long long>(c.rows), c.stride);
  c.dst = ascsim::adv::arg(dst);
  c.x = ascsim::adv::arg(src);
  c.gamma = ascsim::adv::arg(gamma);
  c.epsilon = epsilon;
  c.tmp = tmp.get();
  c.tmpBytes = (c.stride * (sizeof(PrimT<T>) == 2 ? 2ull : 1ull) + 8) * 4;
  ascsim::adv::normalizeRows(c);
}
}  // namespace detail
template <class T, bool isBasicBlock = false>
void RmsNorm(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,
             const LocalTensor<T>& gammaLocal, const LocalTensor<uint8_t>& sharedTmpBuffer,
             const PrimT<T> epsilon, const RmsNormTiling& tiling, Loc loc = Loc::current()) {
  detail::rmsNormCall(dstLocal, srcLocal, gammaLocal, sharedTmpBuffer, static_cast<float>(epsilon),
                      tiling, isBasicBlock, loc);
}
template <class T, bool isBasicBlock = false>
void RmsNorm(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,
             const LocalTensor<T>& gammaLocal, const PrimT<T> epsilon, const RmsNormTiling& tiling,
             Loc loc = Loc::current()) {
  detail::rmsNormCall(dstLocal, srcLocal, gammaLocal, {}, static_cast<float>(epsilon), tiling,
                      isBasicBlock, loc);
}

namespace detail {
template <class T, bool reuse>
void deepNormCall(const LocalTensor<T>& dst, const LocalTensor<T>& mean, const LocalTensor<T>& rstd,
                  const LocalTensor<T>& src, const LocalTensor<T>& gx, const LocalTensor<T>& beta,
                  const LocalTensor<T>& gamma, const ascsim::adv::Tmp& tmp, float alpha,
                  float epsilon, const DeepNormTiling& tiling, const Loc& loc) {
  normTypes<T>();
  static_assert(!reuse || std::is_same_v<PrimT<T>, float>,
                "DeepNorm: isReuseSrc is for float only");
  ascsim::Api api("DeepNorm", loc);
  if (ascsim::isAic()) return;
  const ascsim::adv::Arg g = ascsim::adv::arg(gx);
  ascsim::adv::NormCall c;
  c.rows = static_cast<uint64_t>(tiling.bLength) * tiling.sLength;
  c.stride = tiling.hLength;
  c.length = tiling.originalHLength;
  if (c.stride > 2040)
    ascsim::report(ascsim::kParam, "H is %u; at most 2040 is supported", c.stride);
  c.dst = ascsim::adv::arg(dst);
  c.x = ascsim::adv::arg(src);
  c.gx = &g;
  c.alpha = alpha;
  c.gamma = ascsim::adv::arg(gamma);
  c.beta = ascsim::adv::arg(beta);
  c.mean = ascsim::adv::arg(mean);
  c.spread = ascsim::adv::arg(rstd);  // the variance, whatever the parameter's name
  c.epsilon = epsilon;
  c.inPlace = reuse;
  c.tmp = tmp.get();
  c.tmpBytes = ascsim::adv::layerNormTmp(c.rows, c.stride, sizeof(PrimT<T>), reuse, false);
  ascsim::adv::normalizeRows(c);
}
}  // namespace detail
template <class T, bool isReuseSrc = false, bool isBasicBlock = false>
void DeepNorm(const LocalTensor<T>& dstLocal, const LocalTensor<T>& meanLocal,
              const LocalTensor<T>& rstdLocal, const LocalTensor<T>& srcLocal,
              const LocalTensor<T>& gxLocal, const LocalTensor<T>& betaLocal,
              const LocalTensor<T>& gammaLocal, const LocalTensor<uint8_t>& sharedTmpBuffer,
              const PrimT<T> alpha, const PrimT<T> epsilon, const DeepNormTiling& tiling,
              Loc loc = Loc::current()) {
  detail::deepNormCall<T, isReuseSrc>(dstLocal, meanLocal, rstdLocal, srcLocal, gxLocal, betaLocal,
                                      gammaLocal, sharedTmpBuffer, static_cast<float>(alpha),
                                      static_cast<float>(epsilon), tiling, loc);
}
template <class T, bool isReuseSrc = false, bool isBasicBlock = false>
void DeepNorm(const LocalTensor<T>& dstLocal, const LocalTensor<T>& meanLocal,
              const LocalTensor<T>& rstdLocal, const LocalTensor<T>& srcLocal,
              const LocalTensor<T>& gxLocal, const LocalTensor<T>& betaLocal,
              const LocalTensor<T>& gammaLocal, const PrimT<T> alpha, const PrimT<T> epsilon,
              const DeepNormTiling& tiling, Loc loc = Loc::current()) {
  detail::deepNormCall<T, isReuseSrc>(dstLocal, meanLocal, rstdLocal, srcLocal, gxLocal, betaLocal,
                                      gammaLocal, {}, static_cast<float>(alpha),
                                      static_cast<float>(epsilon), tiling, loc);
}

namespace detail {
template <class T>
void batchNormCall(const LocalTensor<T>& output, const LocalTensor<T>& mean,
                   const LocalTensor<T>& variance, const LocalTensor<T>& x,
                   const LocalTensor<T>& gamma, const LocalTensor<T>& beta,
                   const ascsim::adv::Tmp& tmp, float epsilon, const BatchNormTiling& tiling,
                   const Loc& loc) {
  normTypes<T>();
  ascsim::Api api("BatchNorm", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::batchNorm(ascsim::adv::arg(output), ascsim::adv::arg(mean),
                         ascsim::adv::arg(variance), ascsim::adv::arg(x), ascsim::adv::arg(gamma),
                         ascsim::adv::arg(beta), tmp.get(), epsilon, tiling.originalBLength,
                         tiling.meanVarSize);
}
template <class T>
void groupNormCall(const LocalTensor<T>& output, const LocalTensor<T>& mean,
                   const LocalTensor<T>& variance, const LocalTensor<T>& x,
                   const LocalTensor<T>& gamma, const LocalTensor<T>& beta,
                   const ascsim::adv::Tmp& tmp, bool reuse, float epsilon,
                   const GroupNormTiling& tiling, const Loc& loc) {
  normTypes<T>();
  ascsim::Api api("GroupNorm", loc);
  if (ascsim::isAic()) return;
  const uint64_t bytes =
      ascsim::adv::layerNormTmp(static_cast<uint64_t>(tiling.n) * tiling.g, tiling.dhwAlignSize,
                                sizeof(PrimT<T>), reuse, false);
  ascsim::adv::groupNorm(ascsim::adv::arg(output), ascsim::adv::arg(mean),
                         ascsim::adv::arg(variance), ascsim::adv::arg(x), ascsim::adv::arg(gamma),
                         ascsim::adv::arg(beta), tmp.get(), bytes, epsilon, tiling.n, tiling.c,
                         tiling.hw, tiling.g);
}
}  // namespace detail
#define ASCSIM_ADV_NORM_ARGS(gammaName)                                 \
  const LocalTensor<T>&output, const LocalTensor<T>&outputMean,         \
      const LocalTensor<T>&outputVariance, const LocalTensor<T>&inputX, \
      const LocalTensor<T>&gammaName, const LocalTensor<T>&beta
template <class T, bool isReuseSource = false, bool isBasicBlock = false>
void BatchNorm(ASCSIM_ADV_NORM_ARGS(gamm), const PrimT<T> epsilon, const BatchNormTiling& tiling,
               Loc loc = Loc::current()) {
  detail::batchNormCall(output, outputMean, outputVariance, inputX, gamm, beta, {},
                        static_cast<float>(epsilon), tiling, loc);
}
template <class T, bool isReuseSource = false, bool isBasicBlock = false>
void BatchNorm(ASCSIM_ADV_NORM_ARGS(gamm), const LocalTensor<uint8_t>& sharedTmpBuffer,
               const PrimT<T> epsilon, const BatchNormTiling& tiling, Loc loc = Loc::current()) {
  detail::batchNormCall(output, outputMean, outputVariance, inputX, gamm, beta, sharedTmpBuffer,
                        static_cast<float>(epsilon), tiling, loc);
}
template <class T, bool isReuseSource = false>
void GroupNorm(ASCSIM_ADV_NORM_ARGS(gamma), const PrimT<T> epsilon, const GroupNormTiling& tiling,
               Loc loc = Loc::current()) {
  detail::groupNormCall(output, outputMean, outputVariance, inputX, gamma, beta, {}, isReuseSource,
                        static_cast<float>(epsilon), tiling, loc);
}
template <class T, bool isReuseSource = false>
void GroupNorm(ASCSIM_ADV_NORM_ARGS(gamma), const LocalTensor<uint8_t>& sharedTmpBuffer,
               const PrimT<T> epsilon, const GroupNormTiling& tiling, Loc loc = Loc::current()) {
  detail::groupNormCall(output, outputMean, outputVariance, inputX, gamma, beta, sharedTmpBuffer,
                        isReuseSource, static_cast<float>(epsilon), tiling, loc);
}
#undef ASCSIM_ADV_NORM_ARGS

namespace detail {
template <class T>
void layerNormGradCall(const LocalTensor<T>& pdX, const LocalTensor<T>& res,
                       const LocalTensor<T>& dy, const LocalTensor<T>& x,
                       const LocalTensor<T>& variance, const LocalTensor<T>& mean,
                       const LocalTensor<T>& gamma, const ascsim::adv::Tmp& tmp, bool reuse,
                       float epsilon, const LayerNormGradTiling& tiling,
                       const LayerNormGradShapeInfo& info, const Loc& loc) {
  normTypes<T>();
  ascsim::Api api("LayerNormGrad", loc);
  if (ascsim::isAic()) return;
  if (info.dataFormat != DataFormat::ND)
    ascsim::fail(ascsim::kParam, "shapeInfo.dataFormat must be DataFormat::ND");
  ascsim::adv::layerNormGrad(
      ascsim::adv::arg(pdX), ascsim::adv::arg(res), ascsim::adv::arg(dy), ascsim::adv::arg(x),
      ascsim::adv::arg(variance), ascsim::adv::arg(mean), ascsim::adv::arg(gamma), tmp.get(),
      ascsim::adv::layerNormGradTmp(tiling.hLength, sizeof(PrimT<T>), reuse), epsilon,
      tiling.bLength * tiling.sLength, tiling.hLength, tiling.originalHLength);
}
template <class T>
void layerNormGradBetaCall(const LocalTensor<T>& pdGamma, const LocalTensor<T>& pdBeta,
                           const LocalTensor<T>& res, const LocalTensor<T>& dy,
                           const ascsim::adv::Tmp& tmp, const LayerNormGradBetaTiling& tiling,
                           const Loc& loc) {
  normTypes<T>();
  ascsim::Api api("LayerNormGradBeta", loc);
  if (ascsim::isAic()) return;
  const uint64_t bytes = sizeof(PrimT<T>) == 2 ? tiling.hLength * 4ull * 4 : tiling.hLength * 4ull;
  ascsim::adv::layerNormGradBeta(ascsim::adv::arg(pdGamma), ascsim::adv::arg(pdBeta),
                                 ascsim::adv::arg(res), ascsim::adv::arg(dy), tmp.get(), bytes,
                                 tiling.bLength * tiling.sLength, tiling.hLength);
}
}  // namespace detail
template <class T, bool isReuseSource = false>
void LayerNormGrad(const LocalTensor<T>& outputPdX, const LocalTensor<T>& resForGamma,
                   const LocalTensor<T>& inputDy, const LocalTensor<T>& inputX,
                   const LocalTensor<T>& inputVariance, const LocalTensor<T>& inputMean,
                   const LocalTensor<T>& inputGamma, const LocalTensor<uint8_t>& sharedTmpBuffer,
                   PrimT<T> epsilon, const LayerNormGradTiling& tiling,
                   const LayerNormGradShapeInfo& shapeInfo = {}, Loc loc = Loc::current()) {
  detail::layerNormGradCall(outputPdX, resForGamma, inputDy, inputX, inputVariance, inputMean,
                            inputGamma, sharedTmpBuffer, isReuseSource, static_cast<float>(epsilon),
                            tiling, shapeInfo, loc);
}
template <class T, bool isReuseSource = false>
void LayerNormGrad(const LocalTensor<T>& outputPdX, const LocalTensor<T>& resForGamma,
                   const LocalTensor<T>& inputDy, const LocalTensor<T>& inputX,
                   const LocalTensor<T>& inputVariance, const LocalTensor<T>& inputMean,
                   const LocalTensor<T>& inputGamma, PrimT<T> epsilon,
                   const LayerNormGradTiling& tiling, const LayerNormGradShapeInfo& shapeInfo = {},
                   Loc loc = Loc::current()) {
  detail::layerNormGradCall(outputPdX, resForGamma, inputDy, inputX, inputVariance, inputMean,
                            inputGamma, {}, isReuseSource, static_cast<float>(epsilon), tiling,
                            shapeInfo, loc);
}
template <class T, bool isReuseSource = false>
void LayerNormGradBeta(const LocalTensor<T>& outputPdGamma, const LocalTensor<T>& outputPdBeta,
                       const LocalTensor<T>& resForGamma, const LocalTensor<T>& inputDy,
                       const LocalTensor<uint8_t>& sharedTmpBuffer,
                       const LayerNormGradBetaTiling& tiling, Loc loc = Loc::current()) {
  detail::layerNormGradBetaCall(outputPdGamma, outputPdBeta, resForGamma, inputDy, sharedTmpBuffer,
                                tiling, loc);
}
template <class T, bool isReuseSource = false>
void LayerNormGradBeta(const LocalTensor<T>& outputPdGamma, const LocalTensor<T>& outputPdBeta,
                       const LocalTensor<T>& resForGamma, const LocalTensor<T>& inputDy,
                       const LayerNormGradBetaTiling& tiling, Loc loc = Loc::current()) {
  detail::layerNormGradBetaCall(outputPdGamma, outputPdBeta, resForGamma, inputDy, {}, tiling, loc);
}

}  // namespace AscendC
