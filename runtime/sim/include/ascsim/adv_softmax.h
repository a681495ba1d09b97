// High-level API, the softmax family (docs: SIMD-API, high-level API, activation functions).
#pragma once
#include "ascsim/adv_softmax_impl.h"
#include "ascsim/adv_tilingdata.h"

namespace AscendC {

enum class SoftmaxMode { SOFTMAX_NORMAL = 0, SOFTMAX_OUTPUT_WITHOUT_BRC = 1 };
struct SoftmaxConfig {
  bool isCheckTiling = true;
  uint32_t oriSrcM = 0;
  uint32_t oriSrcK = 0;
  SoftmaxMode mode = SoftmaxMode::SOFTMAX_NORMAL;
};
constexpr SoftmaxConfig SOFTMAX_DEFAULT_CFG = {true, 0, 0, SoftmaxMode::SOFTMAX_NORMAL};
struct SoftMaxShapeInfo {
  uint32_t srcM{0};
  uint32_t srcK{0};
  uint32_t oriSrcM{0};
  uint32_t oriSrcK{0};
};
struct SoftMaxParams {
  uint32_t srcM{0};
  uint32_t srcK{0};
  uint32_t oriSrcM{0};
  uint32_t oriSrcK{0};
  uint32_t loopCnt{0};
  uint32_t splitMeanCnt{0};
  float alpha{0.0f};
};

namespace detail {
// The shape comes from the configuration, the call, the tensor or the tiling, in this order.
template <class T, class Tiling>
ascsim::adv::SoftmaxShape softmaxShape(const SoftmaxConfig& config, const SoftMaxShapeInfo& info,
                                       const LocalTensor<T>& src, const Tiling& tiling, bool nz) {
  ascsim::adv::SoftmaxShape s;
  s.nz = nz;
  if (config.oriSrcM != 0 && config.oriSrcK != 0) {
    const uint32_t block = 32 / sizeof(PrimT<T>);
    s.m = s.oriM = config.oriSrcM;
    s.oriK = config.oriSrcK;
    s.k = (config.oriSrcK + block - 1) / block * block;
    return s;
  }
  if (info.srcM != 0 && info.srcK != 0) {
    s.m = info.srcM;
    s.k = info.srcK;
    s.oriM = info.oriSrcM;
    s.oriK = info.oriSrcK;
    return s;
  }
  const ShapeInfo t = src.GetShapeInfo();
  if (t.shapeDim > 0) {
    s.m = s.oriM = 1;
    for (int d = 0; d + 1 < t.shapeDim; ++d) s.m *= t.shape[d];
    for (int d = 0; d + 1 < t.originalShapeDim; ++d) s.oriM *= t.originalShape[d];
    s.k = t.shape[t.shapeDim - 1];
    s.oriK = t.originalShapeDim > 0 ? t.originalShape[t.originalShapeDim - 1] : s.k;
    return s;
  }
  s.m = s.oriM = tiling.srcM;
  s.k = s.oriK = tiling.srcK;
  return s;
}
template <class T>
constexpr void softmaxTypes() {
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>>,
                "the softmax family: half and float are supported");
}
template <ascsim::adv::SoftmaxKind kind, class D, class S, class Tiling>
void softmaxCall(const char* name, const SoftmaxConfig& config, bool nz, const LocalTensor<D>& dst,
                 const LocalTensor<S>* sum, const LocalTensor<S>* max, const LocalTensor<D>& src,
                 const ascsim::adv::Tmp& tmp, const Tiling& tiling, const SoftMaxShapeInfo& info,
                 const Loc& loc) {
  softmaxTypes<D>();
  softmaxTypes<S>();
  ascsim::Api api(name, loc);
  if (ascsim::isAic()) return;
  ascsim::adv::SoftmaxCall c;
  c.kind = kind;
  c.shape = softmaxShape(config, info, src, tiling, nz);
  c.dst = ascsim::adv::arg(dst);
  c.src = ascsim::adv::arg(src);
  c.stats = sum != nullptr;
  if (sum != nullptr) c.sum = ascsim::adv::arg(*sum);
  if (max != nullptr) c.max = ascsim::adv::arg(*max);
  c.tmp = tmp.get();
  ascsim::adv::softmax(c);
}

template <ascsim::adv::SoftmaxKind kind, class D, class S>
void softmaxFlashCall(const char* name, const SoftmaxConfig& config, bool nz, bool update,
                      const LocalTensor<D>& dst, const LocalTensor<S>* reduceMax,
                      const LocalTensor<S>& sum, const LocalTensor<S>& max,
                      const LocalTensor<D>& src, const LocalTensor<D>& expMax,
                      const LocalTensor<S>& inSum, const LocalTensor<S>& inMax,
                      const ascsim::adv::Tmp& tmp, const SoftMaxTiling& tiling,
                      const SoftMaxShapeInfo& info, const Loc& loc) {
  softmaxTypes<D>();
  softmaxTypes<S>();
  ascsim::Api api(name, loc);
  if (ascsim::isAic()) return;
  ascsim::adv::SoftmaxCall c;
  c.kind = kind;
  c.shape = softmaxShape(config, info, src, tiling, nz);
  c.dst = ascsim::adv::arg(dst);
  c.src = ascsim::adv::arg(src);
  c.sum = ascsim::adv::arg(sum);
  c.max = ascsim::adv::arg(max);
  c.update = update;
  if (update) {
    c.expMax = ascsim::adv::arg(expMax);
    c.inSum = ascsim::adv::arg(inSum);
    c.inMax = ascsim::adv::arg(inMax);
  }
  c.wideStats = config.mode != SoftmaxMode::SOFTMAX_OUTPUT_WITHOUT_BRC;
  if (reduceMax != nullptr) {
    // Documented: in the mode with broadcasts this form does nothing.
    if (c.wideStats) return;
    c.reduceMaxOut = true;
    c.reduceMax = ascsim::adv::arg(*reduceMax);
  }
  c.tmp = tmp.get();
  ascsim::adv::softmax(c);
}
}  // namespace detail

// SoftMax and SimpleSoftMax: dst, statistics and src of one type, or half with float statistics.
#define ASCSIM_ADV_SOFTMAX(name, kindName)                                                       \
  template <class T, bool isReuseSource = false, bool isBasicBlock = false,                      \
            bool isDataFormatNZ = false, const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>      \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& sumTensor,                    \
            const LocalTensor<T>& maxTensor, const LocalTensor<T>& srcTensor,                    \
            const SoftMaxTiling& tiling, const SoftMaxShapeInfo& softmaxShapeInfo = {},          \
            Loc loc = Loc::current()) {                                                          \
    detail::softmaxCall<ascsim::adv::SoftmaxKind::kindName>(                                     \
        #name, config, isDataFormatNZ, dstTensor, &sumTensor, &maxTensor, srcTensor, {}, tiling, \
        softmaxShapeInfo, loc);                                                                  \
  }                                                                                              \
  template <class T, bool isReuseSource = false, bool isBasicBlock = false,                      \
            bool isDataFormatNZ = false, const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>      \
  void name(const LocalTensor<half>& dstTensor, const LocalTensor<float>& sumTensor,             \
            const LocalTensor<float>& maxTensor, const LocalTensor<half>& srcTensor,             \
            const SoftMaxTiling& tiling, const SoftMaxShapeInfo& softmaxShapeInfo = {},          \
            Loc loc = Loc::current()) {                                                          \
    detail::softmaxCall<ascsim::adv::SoftmaxKind::kindName>(                                     \
        #name, config, isDataFormatNZ, dstTensor, &sumTensor, &maxTensor, srcTensor, {}, tiling, \
        softmaxShapeInfo, loc);                                                                  \
  }                                                                                              \
  template <class T, bool isReuseSource = false, bool isBasicBlock = false,                      \
            bool isDataFormatNZ = false, const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>      \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& sumTensor,                    \
            const LocalTensor<T>& maxTensor, const LocalTensor<T>& srcTensor,                    \
            const LocalTensor<uint8_t>& sharedTmpBuffer, const SoftMaxTiling& tiling,            \
            const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {           \
    detail::softmaxCall<ascsim::adv::SoftmaxKind::kindName>(                                     \
        #name, config, isDataFormatNZ, dstTensor, &sumTensor, &maxTensor, srcTensor,             \
        sharedTmpBuffer, tiling, softmaxShapeInfo, loc);                                         \
  }                                                                                              \
  template <class T, bool isReuseSource = false, bool isBasicBlock = false,                      \
            bool isDataFormatNZ = false, const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>      \
  void name(const LocalTensor<half>& dstTensor, const LocalTensor<float>& sumTensor,             \
            const LocalTensor<float>& maxTensor, const LocalTensor<half>& srcTensor,             \
            const LocalTensor<uint8_t>& sharedTmpBuffer, const SoftMaxTiling& tiling,            \
            const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {           \
    detail::softmaxCall<ascsim::adv::SoftmaxKind::kindName>(                                     \
        #name, config, isDataFormatNZ, dstTensor, &sumTensor, &maxTensor, srcTensor,             \
        sharedTmpBuffer, tiling, softmaxShapeInfo, loc);                                         \
  }
ASCSIM_ADV_SOFTMAX(SoftMax, Normal)
ASCSIM_ADV_SOFTMAX(SimpleSoftMax, Simple)

template <class T, bool isReuseSource = false, bool isBasicBlock = false,
          const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>
void SoftMax(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
             const SoftMaxTiling& tiling, const SoftMaxShapeInfo& softmaxShapeInfo = {},
             Loc loc = Loc::current()) {
  detail::softmaxCall<ascsim::adv::SoftmaxKind::Normal, T, T>("SoftMax", config, false, dstTensor,
                                                              nullptr, nullptr, srcTensor, {},
                                                              tiling, softmaxShapeInfo, loc);
}
template <class T, bool isReuseSource = false, bool isBasicBlock = false,
          const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>
void SoftMax(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
             const LocalTensor<uint8_t>& sharedTmpBuffer, const SoftMaxTiling& tiling,
             const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {
  detail::softmaxCall<ascsim::adv::SoftmaxKind::Normal, T, T>(
      "SoftMax", config, false, dstTensor, nullptr, nullptr, srcTensor, sharedTmpBuffer, tiling,
      softmaxShapeInfo, loc);
}

template <class T, bool isReuseSource = false, bool isDataFormatNZ = false>
void LogSoftMax(const LocalTensor<T>& dst, const LocalTensor<T>& sum, const LocalTensor<T>& max,
                const LocalTensor<T>& src, const LocalTensor<uint8_t>& sharedTmpBuffer,
                const LogSoftMaxTiling& tiling, const SoftMaxShapeInfo& softmaxShapeInfo = {},
                Loc loc = Loc::current()) {
  detail::softmaxCall<ascsim::adv::SoftmaxKind::Log>(
      "LogSoftMax", SOFTMAX_DEFAULT_CFG, isDataFormatNZ, dst, &sum, &max, src, sharedTmpBuffer,
      tiling, softmaxShapeInfo, loc);
}

// SoftmaxFlash: D the type of the data, S of the statistics.
#define ASCSIM_ADV_FLASH(D, S)                                                                 \
  template <class T, bool isReuseSource = false, bool isBasicBlock = false>                    \
  void SoftmaxFlash(const LocalTensor<D>& dstTensor, const LocalTensor<S>& sumTensor,          \
                    const LocalTensor<S>& maxTensor, const LocalTensor<D>& srcTensor,          \
                    const LocalTensor<D>& expMaxTensor, const LocalTensor<S>& inSumTensor,     \
                    const LocalTensor<S>& inMaxTensor, const SoftMaxTiling& tiling,            \
                    bool isUpdate = false, const SoftMaxShapeInfo& softmaxShapeInfo = {},      \
                    Loc loc = Loc::current()) {                                                \
    detail::softmaxFlashCall<ascsim::adv::SoftmaxKind::Flash, D, S>(                           \
        "SoftmaxFlash", SOFTMAX_DEFAULT_CFG, false, isUpdate, dstTensor, nullptr, sumTensor,   \
        maxTensor, srcTensor, expMaxTensor, inSumTensor, inMaxTensor, {}, tiling,              \
        softmaxShapeInfo, loc);                                                                \
  }                                                                                            \
  template <class T, bool isReuseSource = false, bool isBasicBlock = false>                    \
  void SoftmaxFlash(const LocalTensor<D>& dstTensor, const LocalTensor<S>& sumTensor,          \
                    const LocalTensor<S>& maxTensor, const LocalTensor<D>& srcTensor,          \
                    const LocalTensor<D>& expMaxTensor, const LocalTensor<S>& inSumTensor,     \
                    const LocalTensor<S>& inMaxTensor,                                         \
                    const LocalTensor<uint8_t>& sharedTmpBuffer, const SoftMaxTiling& tiling,  \
                    bool isUpdate = false, const SoftMaxShapeInfo& softmaxShapeInfo = {},      \
                    Loc loc = Loc::current()) {                                                \
    detail::softmaxFlashCall<ascsim::adv::SoftmaxKind::Flash, D, S>(                           \
        "SoftmaxFlash", SOFTMAX_DEFAULT_CFG, false, isUpdate, dstTensor, nullptr, sumTensor,   \
        maxTensor, srcTensor, expMaxTensor, inSumTensor, inMaxTensor, sharedTmpBuffer, tiling, \
        softmaxShapeInfo, loc);                                                                \
  }
ASCSIM_ADV_FLASH(T, T)
ASCSIM_ADV_FLASH(half, float)

#define ASCSIM_ADV_FLASH_TEMPLATE                                                                  \
  template <class T, bool isUpdate = false, bool isReuseSource = false, bool isBasicBlock = false, \
            bool isDataFormatNZ = false, const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>
#define ASCSIM_ADV_FLASH_V2(D, S)                                                                 \
  ASCSIM_ADV_FLASH_TEMPLATE                                                                       \
  void SoftmaxFlashV2(const LocalTensor<D>& dstTensor, const LocalTensor<S>& expSumTensor,        \
                      const LocalTensor<S>& maxTensor, const LocalTensor<D>& srcTensor,           \
                      const LocalTensor<D>& expMaxTensor, const LocalTensor<S>& inExpSumTensor,   \
                      const LocalTensor<S>& inMaxTensor, const SoftMaxTiling& tiling,             \
                      const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {  \
    detail::softmaxFlashCall<ascsim::adv::SoftmaxKind::FlashV2, D, S>(                            \
        "SoftmaxFlashV2", config, isDataFormatNZ, isUpdate, dstTensor, nullptr, expSumTensor,     \
        maxTensor, srcTensor, expMaxTensor, inExpSumTensor, inMaxTensor, {}, tiling,              \
        softmaxShapeInfo, loc);                                                                   \
  }                                                                                               \
  ASCSIM_ADV_FLASH_TEMPLATE                                                                       \
  void SoftmaxFlashV2(const LocalTensor<D>& dstTensor, const LocalTensor<S>& expSumTensor,        \
                      const LocalTensor<S>& maxTensor, const LocalTensor<D>& srcTensor,           \
                      const LocalTensor<D>& expMaxTensor, const LocalTensor<S>& inExpSumTensor,   \
                      const LocalTensor<S>& inMaxTensor,                                          \
                      const LocalTensor<uint8_t>& sharedTmpBuffer, const SoftMaxTiling& tiling,   \
                      const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {  \
    detail::softmaxFlashCall<ascsim::adv::SoftmaxKind::FlashV2, D, S>(                            \
        "SoftmaxFlashV2", config, isDataFormatNZ, isUpdate, dstTensor, nullptr, expSumTensor,     \
        maxTensor, srcTensor, expMaxTensor, inExpSumTensor, inMaxTensor, sharedTmpBuffer, tiling, \
        softmaxShapeInfo, loc);                                                                   \
  }
ASCSIM_ADV_FLASH_V2(T, T)
ASCSIM_ADV_FLASH_V2(half, float)

// With the row's own maximum as one more output.
ASCSIM_ADV_FLASH_TEMPLATE
void SoftmaxFlashV2(const LocalTensor<T>& dstTensor, const LocalTensor<T>& outReduceMax,
                    const LocalTensor<T>& outExpSum, const LocalTensor<T>& outMax,
                    const LocalTensor<T>& srcTensor, const LocalTensor<T>& outExpMax,
                    const LocalTensor<T>& inExpSum, const LocalTensor<T>& inMax,
                    const SoftMaxTiling& tiling, const SoftMaxShapeInfo& softmaxShapeInfo = {},
                    Loc loc = Loc::current()) {
  detail::softmaxFlashCall<ascsim::adv::SoftmaxKind::FlashV2, T, T>(
      "SoftmaxFlashV2", config, isDataFormatNZ, isUpdate, dstTensor, &outReduceMax, outExpSum,
      outMax, srcTensor, outExpMax, inExpSum, inMax, {}, tiling, softmaxShapeInfo, loc);
}
ASCSIM_ADV_FLASH_TEMPLATE
void SoftmaxFlashV2(const LocalTensor<T>& dstTensor, const LocalTensor<T>& outReduceMax,
                    const LocalTensor<T>& outExpSum, const LocalTensor<T>& outMax,
                    const LocalTensor<T>& srcTensor, const LocalTensor<T>& outExpMax,
                    const LocalTensor<T>& inExpSum, const LocalTensor<T>& inMax,
                    const LocalTensor<uint8_t>& sharedTmpBuffer, const SoftMaxTiling& tiling,
                    const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {
  detail::softmaxFlashCall<ascsim::adv::SoftmaxKind::FlashV2, T, T>(
      "SoftmaxFlashV2", config, isDataFormatNZ, isUpdate, dstTensor, &outReduceMax, outExpSum,
      outMax, srcTensor, outExpMax, inExpSum, inMax, sharedTmpBuffer, tiling, softmaxShapeInfo,
      loc);
}

namespace detail {
template <class T, class U>
void softmaxFlashV3Call(bool update, const LocalTensor<T>& dst, const LocalTensor<U>& mean,
                        const LocalTensor<U>& sum, const LocalTensor<U>& max,
                        const LocalTensor<T>& src, const LocalTensor<T>& expMax,
                        const LocalTensor<U>& inMean, const LocalTensor<U>& inSum,
                        const LocalTensor<U>& inMax, const ascsim::adv::Tmp& tmp,
                        const SoftMaxParams& params, const Loc& loc) {
  static_assert(std::is_same_v<PrimT<T>, half> && std::is_same_v<PrimT<U>, float>,
                "SoftmaxFlashV3: half data with float statistics");
  ascsim::Api api("SoftmaxFlashV3", loc);
  if (ascsim::isAic()) return;
  if (params.splitMeanCnt != 8 || (update && params.loopCnt < 1))
    ascsim::fail(ascsim::kParam,
                 "splitMeanCnt is %u and loopCnt %u; splitMeanCnt must be 8 and loopCnt at least 1",
                 params.splitMeanCnt, params.loopCnt);
  ascsim::adv::SoftmaxCall c;
  c.kind = ascsim::adv::SoftmaxKind::FlashV3;
  c.shape.m = params.srcM;
  c.shape.k = params.srcK;
  c.shape.oriM = params.oriSrcM;
  c.shape.oriK = params.oriSrcK;
  c.dst = ascsim::adv::arg(dst);
  c.src = ascsim::adv::arg(src);
  c.mean = ascsim::adv::arg(mean);
  c.sum = ascsim::adv::arg(sum);
  c.max = ascsim::adv::arg(max);
  c.update = update;
  if (update) {
    c.expMax = ascsim::adv::arg(expMax);
    c.inMean = ascsim::adv::arg(inMean);
    c.inSum = ascsim::adv::arg(inSum);
    c.inMax = ascsim::adv::arg(inMax);
  }
  c.loopCnt = params.loopCnt;
  c.alpha = params.alpha;
  c.tmp = tmp.get();
  ascsim::adv::softmax(c);
}
}  // namespace detail
template <class T, class U, bool isUpdate = false, bool isReuseSource = false,
          bool isBasicBlock = false, bool isDataFormatNZ = false,
          const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>
void SoftmaxFlashV3(const LocalTensor<T>& dstTensor, const LocalTensor<U>& meanTensor,
                    const LocalTensor<U>& expSumTensor, const LocalTensor<U>& maxTensor,
                    const LocalTensor<T>& srcTensor, const LocalTensor<T>& expMaxTensor,
                    const LocalTensor<U>& inMeanTensor, const LocalTensor<U>& inExpSumTensor,
                    const LocalTensor<U>& inMaxTensor, const SoftMaxTiling&,
                    const SoftMaxParams& params, Loc loc = Loc::current()) {
  detail::softmaxFlashV3Call(isUpdate, dstTensor, meanTensor, expSumTensor, maxTensor, srcTensor,
                             expMaxTensor, inMeanTensor, inExpSumTensor, inMaxTensor, {}, params,
                             loc);
}
template <class T, class U, bool isUpdate = false, bool isReuseSource = false,
          bool isBasicBlock = false, bool isDataFormatNZ = false,
          const SoftmaxConfig& config = SOFTMAX_DEFAULT_CFG>
void SoftmaxFlashV3(const LocalTensor<T>& dstTensor, const LocalTensor<U>& meanTensor,
                    const LocalTensor<U>& expSumTensor, const LocalTensor<U>& maxTensor,
                    const LocalTensor<T>& srcTensor, const LocalTensor<T>& expMaxTensor,
                    const LocalTensor<U>& inMeanTensor, const LocalTensor<U>& inExpSumTensor,
                    const LocalTensor<U>& inMaxTensor, const LocalTensor<uint8_t>& sharedTmpBuffer,
                    const SoftMaxTiling&, const SoftMaxParams& params, Loc loc = Loc::current()) {
  detail::softmaxFlashV3Call(isUpdate, dstTensor, meanTensor, expSumTensor, maxTensor, srcTensor,
                             expMaxTensor, inMeanTensor, inExpSumTensor, inMaxTensor,
                             sharedTmpBuffer, params, loc);
}

namespace detail {
template <class T>
void softmaxGradCall(const char* name, bool nz, const LocalTensor<T>& dst,
                     const LocalTensor<T>& grad, const LocalTensor<T>& src,
                     const ascsim::adv::Tmp& tmp, const SoftMaxTiling& tiling, bool front,
                     const SoftMaxShapeInfo& info, const Loc& loc) {
  softmaxTypes<T>();
  ascsim::Api api(name, loc);
  if (ascsim::isAic()) return;
  ascsim::adv::softmaxGrad(ascsim::adv::arg(dst), ascsim::adv::arg(grad), ascsim::adv::arg(src),
                           tmp.get(), softmaxShape(SOFTMAX_DEFAULT_CFG, info, src, tiling, nz),
                           front);
}
}  // namespace detail
template <class T, bool isReuseSource = false, bool isDataFormatNZ = false>
void SoftmaxGrad(const LocalTensor<T>& dstTensor, const LocalTensor<T>& gradTensor,
                 const LocalTensor<T>& srcTensor, const SoftMaxTiling& tiling, bool isFront = false,
                 const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {
  detail::softmaxGradCall<T>("SoftmaxGrad", isDataFormatNZ, dstTensor, gradTensor, srcTensor, {},
                             tiling, isFront, softmaxShapeInfo, loc);
}
template <class T, bool isReuseSource = false, bool isDataFormatNZ = false>
void SoftmaxGrad(const LocalTensor<T>& dstTensor, const LocalTensor<T>& gradTensor,
                 const LocalTensor<T>& srcTensor, const LocalTensor<uint8_t>& sharedTmpBuffer,
                 const SoftMaxTiling& tiling, bool isFront = false,
                 const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {
  detail::softmaxGradCall<T>("SoftmaxGrad", isDataFormatNZ, dstTensor, gradTensor, srcTensor,
                             sharedTmpBuffer, tiling, isFront, softmaxShapeInfo, loc);
}
template <class T, bool isBasicBlock = false, bool isDataFormatNZ = false>
void SoftmaxGradFront(const LocalTensor<T>& dstTensor, const LocalTensor<T>& gradTensor,
                      const LocalTensor<T>& srcTensor, const SoftMaxTiling& tiling,
                      const SoftMaxShapeInfo& softmaxShapeInfo = {}, Loc loc = Loc::current()) {
  detail::softmaxGradCall<T>("SoftmaxGradFront", isDataFormatNZ, dstTensor, gradTensor, srcTensor,
                             {}, tiling, true, softmaxShapeInfo, loc);
}
template <class T, bool isBasicBlock = false, bool isDataFormatNZ = false>
void SoftmaxGradFront(const LocalTensor<T>& dstTensor, const LocalTensor<T>& gradTensor,
                      const LocalTensor<T>& srcTensor, const LocalTensor<uint8_t>& sharedTmpBuffer,
                      const SoftMaxTiling& tiling, const SoftMaxShapeInfo& softmaxShapeInfo = {},
                      Loc loc = Loc::current()) {
  detail::softmaxGradCall<T>("SoftmaxGradFront", isDataFormatNZ, dstTensor, gradTensor, srcTensor,
                             sharedTmpBuffer, tiling, true, softmaxShapeInfo, loc);
}

// Rows whose maximum has the bits `from` are filled with `to`; whether there was one.
template <class T1, class T2, bool isDataFormatNZ = false, uint8_t stepSizeMode = 0>
bool AdjustSoftMaxRes(const LocalTensor<T1>& softMaxRes, const LocalTensor<T2>& maxTensor,
                      const uint32_t from, const PrimT<T1> to,
                      const SoftMaxShapeInfo& softmaxShapeInfo, Loc loc = Loc::current()) {
  detail::softmaxTypes<T1>();
  detail::softmaxTypes<T2>();
  static_assert(stepSizeMode == 0 || !isDataFormatNZ,
                "AdjustSoftMaxRes: stepSizeMode other than 0 needs the ND format");
  ascsim::Api api("AdjustSoftMaxRes", loc);
  if (ascsim::isAic()) return false;
  return ascsim::adv::adjustSoftmax(
      ascsim::adv::arg(softMaxRes), ascsim::adv::arg(maxTensor), from, static_cast<float>(to),
      detail::softmaxShape(SOFTMAX_DEFAULT_CFG, softmaxShapeInfo, softMaxRes, SoftMaxTiling{},
                           isDataFormatNZ),
      stepSizeMode != 0);
}

}  // namespace AscendC
