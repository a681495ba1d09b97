// Host side of the high-level vector API: sizes of temporary buffers and tiling structures (docs:
// the Tiling and Get...TmpSize pages). The minimum is what the kernel calls check.
#pragma once
#include "ascsim/adv_fn.h"
#include "ascsim/adv_math.h"
#include "ascsim/adv_reduce_pattern.h"
#include "ascsim/adv_softmax.h"
#include "ascsim/adv_tilingdata.h"
#include "ascsim/adv_topk_types.h"
#include "ascsim/adv_transform.h"
#include "ascsim/ge_types.h"
#include "tiling/platform/platform_ascendc.h"

namespace AscendC {

// ------------------------------------------------------------------------------------ elementwise
namespace detail {
void fnSizes(ascsim::adv::Fn f, const TensorShape& shape, uint32_t typeSize, bool reuse,
             uint32_t& maxValue, uint32_t& minValue);
void fnFactor(ascsim::adv::Fn f, uint32_t typeSize, uint32_t& maxLiveNodeCount,
              uint32_t& extraBuffer);
}  // namespace detail

#define ASCSIM_ADV_SIZES(name, fn)                                                                \
  inline void Get##name##MaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,      \
                                       const bool isReuseSource, uint32_t& maxValue,              \
                                       uint32_t& minValue) {                                      \
    detail::fnSizes(ascsim::adv::Fn::fn, srcShape, typeSize, isReuseSource, maxValue, minValue);  \
  }                                                                                               \
  inline void Get##name##TmpBufferFactorSize(const uint32_t typeSize, uint32_t& maxLiveNodeCount, \
                                             uint32_t& extraBuffer) {                             \
    detail::fnFactor(ascsim::adv::Fn::fn, typeSize, maxLiveNodeCount, extraBuffer);               \
  }
ASCSIM_ADV_SIZES(Acos, Acos)
ASCSIM_ADV_SIZES(Acosh, Acosh)
ASCSIM_ADV_SIZES(Asin, Asin)
ASCSIM_ADV_SIZES(Asinh, Asinh)
ASCSIM_ADV_SIZES(Atan, Atan)
ASCSIM_ADV_SIZES(Atanh, Atanh)
ASCSIM_ADV_SIZES(Axpy, Axpy)
ASCSIM_ADV_SIZES(Ceil, Ceil)
ASCSIM_ADV_SIZES(Clamp, ClampMax)
ASCSIM_ADV_SIZES(Cos, Cos)
ASCSIM_ADV_SIZES(Cosh, Cosh)
ASCSIM_ADV_SIZES(Digamma, Digamma)
ASCSIM_ADV_SIZES(Erf, Erf)
ASCSIM_ADV_SIZES(Erfc, Erfc)
ASCSIM_ADV_SIZES(Floor, Floor)
ASCSIM_ADV_SIZES(Fmod, Fmod)
ASCSIM_ADV_SIZES(Frac, Frac)
ASCSIM_ADV_SIZES(Lgamma, Lgamma)
ASCSIM_ADV_SIZES(Log, Log)
ASCSIM_ADV_SIZES(Log2, Log2)
ASCSIM_ADV_SIZES(Log10, Log10)
ASCSIM_ADV_SIZES(Sign, Sign)
ASCSIM_ADV_SIZES(Sin, Sin)
ASCSIM_ADV_SIZES(Sinh, Sinh)
ASCSIM_ADV_SIZES(Tan, Tan)
ASCSIM_ADV_SIZES(Tanh, Tanh)
ASCSIM_ADV_SIZES(Trunc, Trunc)
ASCSIM_ADV_SIZES(Xor, Xor)
ASCSIM_ADV_SIZES(Sigmoid, Sigmoid)
ASCSIM_ADV_SIZES(GeGLU, GeGLU)
ASCSIM_ADV_SIZES(ReGlu, ReGlu)
#undef ASCSIM_ADV_SIZES
inline bool GetExpMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                const bool isReuseSource, uint32_t& maxValue, uint32_t& minValue) {
  detail::fnSizes(ascsim::adv::Fn::Exp, srcShape, typeSize, isReuseSource, maxValue, minValue);
  return true;
}
inline void GetExpTmpBufferFactorSize(const uint32_t typeSize, uint32_t& maxLiveNodeCount,
                                      uint32_t& extraBuffer) {
  detail::fnFactor(ascsim::adv::Fn::Exp, typeSize, maxLiveNodeCount, extraBuffer);
}
inline void GetRoundMaxMinTmpSize(const platform_ascendc::PlatformAscendC&,
                                  const TensorShape& srcShape, const uint32_t typeSize,
                                  const bool isReuseSource, uint32_t& maxValue,
                                  uint32_t& minValue) {
  detail::fnSizes(ascsim::adv::Fn::Round, srcShape, typeSize, isReuseSource, maxValue, minValue);
}
inline void GetRoundTmpBufferFactorSize(const platform_ascendc::PlatformAscendC&,
                                        const uint32_t typeSize, uint32_t& maxLiveNodeCount,
                                        uint32_t& extraBuf) {
  detail::fnFactor(ascsim::adv::Fn::Round, typeSize, maxLiveNodeCount, extraBuf);
}
inline void GetSinMaxMinTmpSize(const SinConfig&, const TensorShape& srcShape,
                                const uint32_t typeSize, const bool isReuseSource,
                                uint32_t& maxValue, uint32_t& minValue) {
  GetSinMaxMinTmpSize(srcShape, typeSize, isReuseSource, maxValue, minValue);
}
inline void GetSinTmpBufferFactorSize(const SinConfig&, const uint32_t typeSize,
                                      uint32_t& maxLiveNodeCount, uint32_t& extraBuf) {
  GetSinTmpBufferFactorSize(typeSize, maxLiveNodeCount, extraBuf);
}
inline void GetCosMaxMinTmpSize(const CosConfig&, const TensorShape& srcShape,
                                const uint32_t typeSize, const bool isReuseSource,
                                uint32_t& maxValue, uint32_t& minValue) {
  GetCosMaxMinTmpSize(srcShape, typeSize, isReuseSource, maxValue, minValue);
}
inline void GetCosTmpBufferFactorSize(const CosConfig&, const uint32_t typeSize,
                                      uint32_t& maxLiveNodeCount, uint32_t& extraBuf) {
  GetCosTmpBufferFactorSize(typeSize, maxLiveNodeCount, extraBuf);
}
void GetPowerMaxMinTmpSize(const TensorShape& srcShape1, const TensorShape& srcShape2,
                           const bool typeIsInt, const uint32_t typeSize, const bool isReuseSource,
                           uint32_t& maxValue, uint32_t& minValue);
void GetPowerTmpBufferFactorSize(const bool baseIsTensor, const bool expIsTensor,
                                 const bool typeIsInt, const uint32_t typeSize,
                                 uint32_t& maxLiveNodeCount, uint32_t& extraBuffer);
void GetCumSumMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                            const bool isLastAxis, const bool isReuseSource, uint32_t& maxValue,
                            uint32_t& minValue);

// ------------------------------------------------------------------------------------- activation
uint32_t GetGeluMaxTmpSize(const TensorShape& srcShape, const uint32_t typeSize);
uint32_t GetGeluMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize);
void GetGeluMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize, uint32_t& maxValue,
                          uint32_t& minValue);
inline void GetSiluTmpSize(const TensorShape&, const uint32_t, const bool, uint32_t& maxValue,
                           uint32_t& minValue) {
  maxValue = minValue = 0;
}
inline void GetSwishTmpSize(const TensorShape&, const uint32_t, const bool, uint32_t& maxValue,
                            uint32_t& minValue) {
  maxValue = minValue = 0;
}
inline void GetSwiGLUMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                   uint32_t& maxValue, uint32_t& minValue,
                                   const bool isReuseSource) {
  detail::fnSizes(ascsim::adv::Fn::SwiGLU, srcShape, typeSize, isReuseSource, maxValue, minValue);
}
inline void GetSwiGLUTmpBufferFactorSize(const uint32_t typeSize, uint32_t& maxLiveNodeCount,
                                         uint32_t& extraBuffer) {
  detail::fnFactor(ascsim::adv::Fn::SwiGLU, typeSize, maxLiveNodeCount, extraBuffer);
}

uint32_t GetSoftMaxMaxTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize,
                              const bool isReuseSource);
uint32_t GetSoftMaxMinTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize,
                              const bool isReuseSource);
void SoftMaxTilingFunc(const TensorShape& srcShape, const uint32_t dataTypeSize,
                       const uint32_t localWorkSpaceSize, tiling::SoftMaxTiling& softmaxTiling);
uint32_t GetSoftMaxFlashMaxTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize,
                                   const bool isUpdate, const bool isReuseSource);
uint32_t GetSoftMaxFlashMinTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize,
                                   const bool isUpdate, const bool isReuseSource);
void SoftMaxFlashTilingFunc(const TensorShape& srcShape, const uint32_t dataTypeSize,
                            const uint32_t localWorkSpaceSize,
                            tiling::SoftMaxTiling& softmaxFlashTiling, const bool isUpdate = false);
uint32_t GetSoftMaxFlashV2MinTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize1,
                                     const uint32_t dataTypeSize2, const bool isUpdate,
                                     const bool isBasicBlock = false,
                                     const bool isFlashOutputBrc = false);
uint32_t GetSoftMaxFlashV2MaxTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize1,
                                     const uint32_t dataTypeSize2, const bool isUpdate,
                                     const bool isBasicBlock = false,
                                     const bool isFlashOutputBrc = false);
void SoftMaxFlashV2TilingFunc(const TensorShape& srcShape, const uint32_t dataTypeSize1,
                              const uint32_t dataTypeSize2, const uint32_t localWorkSpaceSize,
                              tiling::SoftMaxTiling& softmaxFlashTiling, const bool isUpdate,
                              const bool isBasicBlock = false, const bool isFlashOutputBrc = false);
// The same in a kernel, from the shape at hand.
constexpr SoftMaxTiling SoftMaxFlashV2TilingFunc(
    const SoftMaxShapeInfo& shapeInfo, const uint32_t dataTypeSize1, const uint32_t dataTypeSize2,
    const uint32_t localWorkSpaceSize, const bool isUpdate = false, const bool isBasicBlock = false,
    const bool isDataFormatNZ = false, const bool isFlashOutputBrc = false);
void GetSoftMaxFlashV3MaxMinTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize1,
                                    const uint32_t dataTypeSize2, uint32_t& maxValue,
                                    uint32_t& minValue, const bool isUpdate,
                                    const bool isBasicBlock = false);
void SoftMaxFlashV3TilingFunc(const TensorShape& srcShape, const uint32_t dataTypeSize1,
                              const uint32_t dataTypeSize2, const uint32_t localWorkSpaceSize,
                              tiling::SoftMaxTiling& softmaxFlashV3Tiling, const bool isUpdate,
                              const bool isBasicBlock = false);
uint32_t GetSoftMaxGradMaxTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize,
                                  const bool isFront, const bool isReuseSource);
uint32_t GetSoftMaxGradMinTmpSize(const TensorShape& srcShape, const uint32_t dataTypeSize,
                                  const bool isFront, const bool isReuseSource);
void SoftMaxGradTilingFunc(const TensorShape& srcShape, const uint32_t dataTypeSize,
                           const uint32_t localWorkSpaceSize,
                           tiling::SoftMaxTiling& softmaxGradTiling, const bool isFront = false);
bool IsBasicBlockInSoftMax(const tiling::SoftMaxTiling& tiling);
uint32_t GetLogSoftMaxMaxTmpSize(const TensorShape srcShape, const uint32_t dataTypeSize,
                                 const bool isReuseSource);
uint32_t GetLogSoftMaxMinTmpSize(const TensorShape srcShape, const uint32_t dataTypeSize,
                                 const bool isReuseSource);
void LogSoftMaxTilingFunc(const TensorShape srcShape, const uint32_t dataTypeSize,
                          const uint32_t localWorkSpaceSize,
                          tiling::LogSoftMaxTiling& softmaxTiling);

namespace detail {
// The split of m rows of k columns into parts of as many rows as fit into the space.
template <class Tiling>
constexpr void softmaxSplit(Tiling& t, uint32_t m, uint32_t k, uint32_t block, uint32_t rows) {
  t.srcM = m;
  t.srcK = k;
  t.srcSize = m * k;
  t.outMaxM = m;
  t.outMaxK = block;
  t.outMaxSize = m * block;
  rows = rows > m ? m : rows;
  // A divisor of m in eights where the shape allows for it.
  if (m % 8 == 0 && k % 64 == 0 && rows >= 8) {
    rows = rows / 8 * 8;
    while (m % rows != 0) rows -= 8;
  }
  t.splitM = t.reduceM = rows;
  t.splitK = k;
  t.splitSize = rows * k;
  t.reduceK = block;
  t.reduceSize = rows * block;
  t.rangeM = rows == 0 ? 0 : m / rows;
  t.tailM = rows == 0 ? 0 : m % rows;
  t.tailSplitSize = t.tailM * k;
  t.tailReduceSize = t.tailM * block;
}
}  // namespace detail
constexpr SoftMaxTiling SoftMaxFlashV2TilingFunc(
    const SoftMaxShapeInfo& shapeInfo, const uint32_t dataTypeSize1, const uint32_t dataTypeSize2,
    const uint32_t localWorkSpaceSize, const bool isUpdate, const bool, const bool, const bool) {
  SoftMaxTiling t{};
  const uint32_t block = 32 / (dataTypeSize1 < dataTypeSize2 ? dataTypeSize1 : dataTypeSize2);
  detail::softmaxSplit(t, shapeInfo.srcM, shapeInfo.srcK, 32 / dataTypeSize2,
                       localWorkSpaceSize / 4 / ((isUpdate ? 2 : 1) * block + shapeInfo.srcK + 64));
  return t;
}

// ---------------------------------------------------------------------------------- normalization
void GetLayerNormMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                               const bool isReuseSource, uint32_t& maxValue, uint32_t& minValue);
void GetLayerNormMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                               const bool isReuseSource, const bool isComputeRstd,
                               const bool isOnlyOutput, uint32_t& maxValue, uint32_t& minValue);
void GetLayerNormNDTilingInfo(const TensorShape& srcShape, const uint32_t stackBufferSize,
                              const uint32_t typeSize, const bool isReuseSource,
                              tiling::LayerNormTiling& tiling);
void GetLayerNormNDTilingInfo(const TensorShape& srcShape, const uint32_t stackBufferSize,
                              const uint32_t typeSize, const bool isReuseSource,
                              const bool isComputeRstd, tiling::LayerNormSeparateTiling& tiling);
void GetLayerNormNDTillingInfo(const TensorShape& srcShape, const uint32_t stackBufferSize,
                               const uint32_t typeSize, const bool isReuseSource,
                               tiling::LayerNormTiling& tilling);
void GetLayerNormGradMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                   const bool isReuseSource, uint32_t& maxValue,
                                   uint32_t& minValue);
void GetLayerNormGradNDTilingInfo(const TensorShape srcShape, const uint32_t stackBufferSize,
                                  const uint32_t typeSize, const bool isReuseSource,
                                  tiling::LayerNormGradTiling& tiling);
void GetLayerNormGradBetaMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                       const bool isReuseSource, uint32_t& maxValue,
                                       uint32_t& minValue);
void GetLayerNormGradBetaNDTilingInfo(const TensorShape srcShape, const uint32_t stackBufferSize,
                                      const uint32_t typeSize, const bool isReuseSource,
                                      tiling::LayerNormGradBetaTiling& tiling);
bool GetRmsNormMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                             uint32_t& maxValue, uint32_t& minValue,
                             const bool isBasicBlock = false);
bool GetRmsNormTilingInfo(const TensorShape& srcShape, const TensorShape& originSrcShape,
                          const uint32_t stackBufferByteSize, const uint32_t typeSize,
                          tiling::RmsNormTiling& tiling, const bool isBasicBlock = false);
bool GetBatchNormMaxMinTmpSize(const TensorShape& srcShape, const TensorShape& originSrcShape,
                               const uint32_t typeSize, const bool isReuseSource,
                               uint32_t& maxValue, uint32_t& minValue,
                               const bool isBasicBlock = false);
bool GetBatchNormNDTilingInfo(const TensorShape& srcShape, const TensorShape& originSrcShape,
                              const uint32_t stackBufferByteSize, const uint32_t typeSize,
                              const bool isReuseSource, tiling::BatchNormTiling& tilling,
                              const bool isBasicBlock = false);
bool GetDeepNormMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                              const bool isReuseSource, const bool isBasicBlock, uint32_t& maxValue,
                              uint32_t& minValue);
bool GetDeepNormTilingInfo(const TensorShape& srcShape, const TensorShape& originSrcShape,
                           const uint32_t stackBufferSize, const uint32_t typeSize,
                           const bool isReuseSource, const bool isBasicBlock,
                           tiling::DeepNormTiling& tiling);
void GetGroupNormMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                               const bool isReuseSource, const uint32_t groupNum,
                               uint32_t& maxValue, uint32_t& minValue);
void GetGroupNormNDTilingInfo(const TensorShape& srcShape, const uint32_t stackBufferSize,
                              const uint32_t typeSize, const bool isReuseSource,
                              const uint32_t groupNum, tiling::GroupNormTiling& tiling);
void GetNormalizeMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSizeU,
                               const uint32_t typeSizeT, const bool isReuseSource,
                               const bool isComputeRstd, const bool isOnlyOutput,
                               uint32_t& maxValue, uint32_t& minValue);
void GetWelfordUpdateMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSizeT,
                                   const uint32_t typeSizeU, const bool isReuseSource,
                                   const bool isInplace, uint32_t& maxValue, uint32_t& minValue);
void GetWelfordFinalizeMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                     const bool isReuseSource, uint32_t& maxValue,
                                     uint32_t& minValue);

// ------------------------------------------------------------------------------------- reductions
#define ASCSIM_ADV_REDUCE_SIZES(name)                                                          \
  void Get##name##MaxMinTmpSize(const TensorShape& srcShape, const TensorDataType dataType,    \
                                ReducePattern pattern, bool isSrcInnerPad, bool isReuseSource, \
                                uint32_t& maxValue, uint32_t& minValue);
ASCSIM_ADV_REDUCE_SIZES(ReduceSum)
ASCSIM_ADV_REDUCE_SIZES(ReduceMean)
ASCSIM_ADV_REDUCE_SIZES(ReduceMax)
ASCSIM_ADV_REDUCE_SIZES(ReduceMin)
ASCSIM_ADV_REDUCE_SIZES(ReduceProd)
ASCSIM_ADV_REDUCE_SIZES(ReduceAny)
ASCSIM_ADV_REDUCE_SIZES(ReduceAll)
#undef ASCSIM_ADV_REDUCE_SIZES
void GetReduceXorSumMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                  const bool isReuseSource, uint32_t& maxValue, uint32_t& minValue);
void GetSumMaxMinTmpSize(const uint32_t n, const uint32_t typeSize, const bool isReuseSource,
                         uint32_t& maxSize, uint32_t& minSize);
void GetMeanMaxMinTmpSize(const uint32_t n, const uint32_t srcTypeSize, const uint32_t accTypeSize,
                          const bool isReuseSource, uint32_t& maxSize, uint32_t& minSize);
inline void GetMeanTmpBufferFactorSize(const uint32_t, uint32_t& maxLiveNodeCount,
                                       uint32_t& extraBuffer) {
  maxLiveNodeCount = 1;
  extraBuffer = 0;
}

// ---------------------------------------------------------------------------------------- sorting
uint32_t GetConcatTmpSize(const platform_ascendc::PlatformAscendC& ascendcPlatform,
                          const uint32_t elemCount, const uint32_t dataTypeSize);
uint32_t GetSortTmpSize(const platform_ascendc::PlatformAscendC& ascendcPlatform,
                        const uint32_t elemCount, const uint32_t dataTypeSize);
void GetSortMaxMinTmpSize(const TensorShape& srcShape, TensorDataType valueType,
                          TensorDataType indexType, bool isReuseSource, const SortConfig& config,
                          uint32_t& maxValue, uint32_t& minValue);
bool GetTopKMaxMinTmpSize(const platform_ascendc::PlatformAscendC& ascendcPlatform,
                          const int32_t inner, const int32_t outter, const bool isReuseSource,
                          const bool isInitIndex, enum TopKMode mode, const bool isLargest,
                          const uint32_t dataTypeSize, uint32_t& maxValue, uint32_t& minValue);
bool GetTopKMaxMinTmpSize(const int32_t inner, const int32_t outter, const int32_t k,
                          const bool isReuseSource, const bool isInitIndex, enum TopKMode mode,
                          const bool isLargest, TensorDataType dataType, const TopKConfig& config,
                          uint32_t& maxValue, uint32_t& minValue);
bool TopKTilingFunc(const platform_ascendc::PlatformAscendC& ascendcPlatform, const int32_t inner,
                    const int32_t outter, const int32_t k, const uint32_t dataTypeSize,
                    const bool isInitIndex, enum TopKMode mode, const bool isLargest,
                    tiling::TopkTiling& topKTiling);

// ----------------------------------------------------------------------------------- quantization
void GetAscendQuantMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                 uint32_t& maxValue, uint32_t& minValue);
inline void GetAscendQuantTmpBufferFactorSize(uint32_t& maxLiveNodeCount, uint32_t& extraBuf) {
  maxLiveNodeCount = 2;
  extraBuf = 0;
}
void GetAscendDequantMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                   uint32_t& maxValue, uint32_t& minValue);
void GetAscendDequantTmpBufferFactorSize(const TensorShape& srcShape, uint32_t& maxLiveNodeCount,
                                         uint32_t& extraBuf);
void GetAscendAntiQuantMaxMinTmpSize(const TensorShape& srcShape, const TensorShape& scaleShape,
                                     bool isTranspose, TensorDataType inputDataType,
                                     TensorDataType outputDataType, uint32_t& maxValue,
                                     uint32_t& minValue);
uint32_t GetAscendAntiQuantMaxTmpSize(const TensorShape& srcShape, const TensorShape& scaleShape,
                                      bool isTranspose, TensorDataType inputDataType,
                                      TensorDataType outputDataType);
uint32_t GetAscendAntiQuantMinTmpSize(const TensorShape& srcShape, const TensorShape& scaleShape,
                                      bool isTranspose, TensorDataType inputDataType,
                                      TensorDataType outputDataType);
void GetAscendAntiQuantTmpBufferFactorSize(const TensorShape& srcShape,
                                           const TensorShape& scaleShape, bool isTranspose,
                                           TensorDataType inputDataType,
                                           TensorDataType outputDataType,
                                           uint32_t& maxLiveNodeCount, uint32_t& extraBuf);

// ------------------------------------------------------- transformation, index, selection, dropout
void GetBroadCastMaxMinTmpSize(const platform_ascendc::PlatformAscendC& ascendcPlatform,
                               const TensorShape& srcShape, const TensorShape& dstShape,
                               uint32_t typeSize, const bool isReuseSource, uint32_t& maxValue,
                               uint32_t& minValue);
void GetPadMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize, uint32_t& maxValue,
                         uint32_t& minValue);
void PadTilingFunc(const TensorShape srcShape, const TensorShape oriSrcShape,
                   const uint32_t stackBufferSize, const uint32_t typeSize,
                   tiling::PadTiling& tiling);
void GetUnPadMaxMinTmpSize(const platform_ascendc::PlatformAscendC& ascendcPlatform,
                           const TensorShape& srcShape, const uint32_t typeSize, uint32_t& maxValue,
                           uint32_t& minValue);
void UnPadTilingFunc(const TensorShape srcShape, const uint32_t stackBufferSize,
                     const uint32_t typeSize, tiling::UnPadTiling& tiling);
void GetTransposeMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                               const uint32_t transposeTypeIn, uint32_t& maxValue,
                               uint32_t& minValue);
void GetConfusionTransposeMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                                        const uint32_t transposeTypeIn, uint32_t& maxValue,
                                        uint32_t& minValue);
void GetTransposeTilingInfo(const TensorShape& srcShape, const uint32_t stackBufferSize,
                            const uint32_t typeSize, const uint32_t transposeTypeIn,
                            tiling::ConfusionTransposeTiling& tiling);
void GetConfusionTransposeTilingInfo(const TensorShape& srcShape, const uint32_t stackBufferSize,
                                     const uint32_t typeSize, const uint32_t transposeTypeIn,
                                     tiling::ConfusionTransposeTiling& tiling);
void GetConfusionTransposeOnlyTilingInfo(const TensorShape& srcShape,
                                         const uint32_t stackBufferSize, const uint32_t typeSize,
                                         tiling::ConfusionTransposeTiling& tiling);
bool GetTransDataMaxMinTmpSize(const platform_ascendc::PlatformAscendC& platform,
                               const TensorShape& srcShape, const TensorShape& dstShape,
                               const TensorDataType dataType, const TransDataConfig& config,
                               uint32_t& maxValue, uint32_t& minValue);
inline void GetArangeMaxMinTmpSize(uint32_t& maxValue, uint32_t& minValue) {
  maxValue = minValue = 0;
}
inline void GetArithProgressionMaxMinTmpSize(uint32_t& maxValue, uint32_t& minValue) {
  maxValue = minValue = 0;
}
uint32_t GetDropOutMaxTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                              const bool isReuseSource);
uint32_t GetDropOutMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                              const bool isReuseSource);
void GetDropOutMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                             const bool isReuseSource, uint32_t& maxValue, uint32_t& minValue);
#define ASCSIM_ADV_SELECT_SIZES(name)                                                        \
  uint32_t Get##name##MinTmpSize(const TensorShape& src0Shape, const TensorShape& src1Shape, \
                                 const uint32_t srcTypeSize, const TensorShape& maskShape,   \
                                 const uint32_t maskTypeSize, const bool isReuseMask);       \
  uint32_t Get##name##MaxTmpSize(const TensorShape& src0Shape, const TensorShape& src1Shape, \
                                 const uint32_t srcTypeSize, const TensorShape& maskShape,   \
                                 const uint32_t maskTypeSize, const bool isReuseMask);       \
  void Get##name##MaxMinTmpSize(const TensorShape& src0Shape, const TensorShape& src1Shape,  \
                                const uint32_t srcTypeSize, const TensorShape& maskShape,    \
                                const uint32_t maskTypeSize, const bool isReuseMask,         \
                                uint32_t& maxValue, uint32_t& minValue);
ASCSIM_ADV_SELECT_SIZES(Select)
ASCSIM_ADV_SELECT_SIZES(SelectWithBytesMask)
#undef ASCSIM_ADV_SELECT_SIZES

}  // namespace AscendC
