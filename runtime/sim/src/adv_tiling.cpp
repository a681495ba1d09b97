// Sizes and tilings: element-wise, activation, reductions, sorting, quantisation.
#include "ascsim/adv_tiling.h"

#include <algorithm>

#include "adv_shape.h"
#include "ascsim/adv_norm_impl.h"

namespace AscendC {

namespace {
using ascsim::adv::count;
using ascsim::adv::dim;
using ascsim::adv::Fn;
using ascsim::adv::Matrix;
using ascsim::adv::SoftmaxKind;
using ascsim::adv::typeBytes;
using ascsim::adv::up;
}  // namespace

// ------------------------------------------------------------------------------------ elementwise
namespace detail {
void fnSizes(Fn f, const TensorShape& shape, uint32_t typeSize, bool reuse, uint32_t& maxValue,
             uint32_t& minValue) {
  minValue = ascsim::adv::fnMinTmp(f, typeSize, reuse);
  maxValue = std::max(ascsim::adv::fnMaxTmp(f, count(shape), typeSize, reuse), minValue);
}
void fnFactor(Fn f, uint32_t typeSize, uint32_t& maxLiveNodeCount, uint32_t& extraBuffer) {
  const ascsim::adv::FnInfo& info = ascsim::adv::fnInfo(f);
  maxLiveNodeCount = typeSize == 2 ? info.halfFactor : info.floatFactor;
  extraBuffer = 0;
}
}  // namespace detail

void GetPowerMaxMinTmpSize(const TensorShape& a, const TensorShape& b, const bool typeIsInt,
                           const uint32_t typeSize, const bool, uint32_t& maxValue,
                           uint32_t& minValue) {
  const bool both = count(a) > 1 && count(b) > 1;
  minValue = ascsim::adv::powerMinTmp(both, typeIsInt, typeSize);
  maxValue = ascsim::adv::powerMaxTmp(both, typeIsInt, typeSize, std::max(count(a), count(b)));
}

void GetPowerTmpBufferFactorSize(const bool baseIsTensor, const bool expIsTensor,
                                 const bool typeIsInt, const uint32_t typeSize,
                                 uint32_t& maxLiveNodeCount, uint32_t& extraBuffer) {
  const bool both = baseIsTensor && expIsTensor;
  const uint32_t floats =
      (ascsim::adv::powerMinTmp(both, typeIsInt, typeSize) - (typeIsInt ? 0 : 256)) / 256;
  maxLiveNodeCount = typeSize == 2 ? floats * 2 : floats;
  extraBuffer = typeIsInt ? 0 : 256;
}

void GetCumSumMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize,
                            const bool isLastAxis, const bool, uint32_t& maxValue,
                            uint32_t& minValue) {
  const Matrix s(srcShape);
  minValue = ascsim::adv::cumSumTmp(s.m, s.k, typeSize, isLastAxis);
  maxValue = isLastAxis ? std::max(minValue, minValue / 16 * up(s.m, 16)) : minValue;
}

// ------------------------------------------------------------------------------------- activation
uint32_t GetGeluMinTmpSize(const TensorShape&, const uint32_t typeSize) {
  return ascsim::adv::fnMinTmp(Fn::Gelu, typeSize, false);
}
uint32_t GetGeluMaxTmpSize(const TensorShape& srcShape, const uint32_t typeSize) {
  return ascsim::adv::fnMaxTmp(Fn::Gelu, count(srcShape), typeSize, false);
}
void GetGeluMaxMinTmpSize(const TensorShape& srcShape, const uint32_t typeSize, uint32_t& maxValue,
                          uint32_t& minValue) {
  maxValue = GetGeluMaxTmpSize(srcShape, typeSize);
  minValue = GetGeluMinTmpSize(srcShape, typeSize);
}

namespace {
uint32_t softmaxSize(SoftmaxKind kind, const TensorShape& shape, uint32_t typeSize, bool update,
                     bool maximum) {
  const Matrix s(shape);
  return ascsim::adv::softmaxTmp(kind, maximum ? s.m : 1, s.k, typeSize, update);
}
template <class Tiling>
void softmaxTiling(SoftmaxKind kind, const TensorShape& shape, uint32_t typeSize, uint32_t space,
                   bool update, Tiling& t) {
  const Matrix s(shape);
  detail::softmaxSplit(t, s.m, s.k, 32 / typeSize,
                       space / ascsim::adv::softmaxTmp(kind, 1, s.k, typeSize, update));
}
}  // namespace

uint32_t GetSoftMaxMaxTmpSize(const TensorShape& s, const uint32_t size, const bool) {
  return softmaxSize(SoftmaxKind::Normal, s, size, false, true);
}
uint32_t GetSoftMaxMinTmpSize(const TensorShape& s, const uint32_t size, const bool) {
  return softmaxSize(SoftmaxKind::Normal, s, size, false, false);
}
void SoftMaxTilingFunc(const TensorShape& s, const uint32_t size, const uint32_t space,
                       tiling::SoftMaxTiling& t) {
  softmaxTiling(SoftmaxKind::Normal, s, size, space, false, t);
}
uint32_t GetLogSoftMaxMaxTmpSize(const TensorShape s, const uint32_t size, const bool) {
  return softmaxSize(SoftmaxKind::Log, s, size, false, true);
}
uint32_t GetLogSoftMaxMinTmpSize(const TensorShape s, const uint32_t size, const bool) {
  return softmaxSize(SoftmaxKind::Log, s, size, false, false);
}
void LogSoftMaxTilingFunc(const TensorShape s, const uint32_t size, const uint32_t space,
                          tiling::LogSoftMaxTiling& t) {
  softmaxTiling(SoftmaxKind::Log, s, size, space, false, t);
}
uint32_t GetSoftMaxFlashMaxTmpSize(const TensorShape& s, const uint32_t size, const bool update,
                                   const bool) {
  return softmaxSize(SoftmaxKind::Flash, s, size, update, true);
}
uint32_t GetSoftMaxFlashMinTmpSize(const TensorShape& s, const uint32_t size, const bool update,
                                   const bool) {
  return softmaxSize(SoftmaxKind::Flash, s, size, update, false);
}
void SoftMaxFlashTilingFunc(const TensorShape& s, const uint32_t size, const uint32_t space,
                            tiling::SoftMaxTiling& t, const bool update) {
  softmaxTiling(SoftmaxKind::Flash, s, size, space, update, t);
}
uint32_t GetSoftMaxFlashV2MinTmpSize(const TensorShape& s, const uint32_t size1,
                                     const uint32_t size2, const bool update, const bool,
                                     const bool) {
  return softmaxSize(SoftmaxKind::FlashV2, s, std::min(size1, size2), update, false);
}
uint32_t GetSoftMaxFlashV2MaxTmpSize(const TensorShape& s, const uint32_t size1,
                                     const uint32_t size2, const bool update, const bool,
                                     const bool) {
  return softmaxSize(SoftmaxKind::FlashV2, s, std::min(size1, size2), update, true);
}
void SoftMaxFlashV2TilingFunc(const TensorShape& s, const uint32_t size1, const uint32_t size2,
                              const uint32_t space, tiling::SoftMaxTiling& t, const bool update,
                              const bool, const bool) {
  softmaxTiling(SoftmaxKind::FlashV2, s, std::min(size1, size2), space, update, t);
}
void GetSoftMaxFlashV3MaxMinTmpSize(const TensorShape& s, const uint32_t size1, const uint32_t,
                                    uint32_t& maxValue, uint32_t& minValue, const bool update,
                                    const bool) {
  maxValue = softmaxSize(SoftmaxKind::FlashV3, s, size1, update, true);
  minValue = softmaxSize(SoftmaxKind::FlashV3, s, size1, update, false);
}
void SoftMaxFlashV3TilingFunc(const TensorShape& s, const uint32_t size1, const uint32_t,
                              const uint32_t space, tiling::SoftMaxTiling& t, const bool update,
                              const bool) {
  softmaxTiling(SoftmaxKind::FlashV3, s, size1, space, update, t);
}
uint32_t GetSoftMaxGradMaxTmpSize(const TensorShape& s, const uint32_t size, const bool front,
                                  const bool) {
  const Matrix m(s);
  return ascsim::adv::softmaxGradTmp(m.m, m.k, size, front);
}
uint32_t GetSoftMaxGradMinTmpSize(const TensorShape& s, const uint32_t size, const bool front,
                                  const bool) {
  return ascsim::adv::softmaxGradTmp(1, Matrix(s).k, size, front);
}
void SoftMaxGradTilingFunc(const TensorShape& s, const uint32_t size, const uint32_t space,
                           tiling::SoftMaxTiling& t, const bool front) {
  const Matrix m(s);
  detail::softmaxSplit(t, m.m, m.k, 32 / size,
                       space / ascsim::adv::softmaxGradTmp(1, m.k, size, front));
}
bool IsBasicBlockInSoftMax(const tiling::SoftMaxTiling& t) {
  return t.srcM % 8 == 0 && t.reduceM % 8 == 0 && t.reduceM != 0 && t.srcK % 64 == 0;
}

// ------------------------------------------------------------------------------------- reductions
namespace {
void foldSizes(const TensorShape& s, TensorDataType type, bool reuse, uint32_t& maxValue,
               uint32_t& minValue) {
  const Matrix m(s);
  const uint32_t size = typeBytes(type);
  maxValue = minValue = ascsim::adv::foldTmp(m.m, up(m.k, 32 / size), size, reuse);
}
}  // namespace
#define ASCSIM_ADV_REDUCE_SIZES(name)                                                           \
  void Get##name##MaxMinTmpSize(const TensorShape& s, const TensorDataType type, ReducePattern, \
                                bool, bool reuse, uint32_t& maxValue, uint32_t& minValue) {     \
    foldSizes(s, type, reuse, maxValue, minValue);                                              \
  }
ASCSIM_ADV_REDUCE_SIZES(ReduceSum)
ASCSIM_ADV_REDUCE_SIZES(ReduceMean)
ASCSIM_ADV_REDUCE_SIZES(ReduceMax)
ASCSIM_ADV_REDUCE_SIZES(ReduceMin)
ASCSIM_ADV_REDUCE_SIZES(ReduceProd)
ASCSIM_ADV_REDUCE_SIZES(ReduceAny)
ASCSIM_ADV_REDUCE_SIZES(ReduceAll)
#undef ASCSIM_ADV_REDUCE_SIZES

void GetReduceXorSumMaxMinTmpSize(const TensorShape& s, const uint32_t, const bool reuse,
                                  uint32_t& maxValue, uint32_t& minValue) {
  maxValue = minValue = (reuse ? 2 : 3) * std::max(count(s) * 2, 256u);
}
void GetSumMaxMinTmpSize(const uint32_t n, const uint32_t size, const bool, uint32_t& maxSize,
                         uint32_t& minSize) {
  maxSize = minSize = ascsim::adv::sumTmp(n, size);
}
void GetMeanMaxMinTmpSize(const uint32_t n, const uint32_t size, const uint32_t accSize, const bool,
                          uint32_t& maxSize, uint32_t& minSize) {
  maxSize = minSize = ascsim::adv::meanTmp(n, size, accSize);
}

// ---------------------------------------------------------------------------------------- sorting
uint32_t GetConcatTmpSize(const platform_ascendc::PlatformAscendC&, const uint32_t elemCount,
                          const uint32_t dataTypeSize) {
  return elemCount * dataTypeSize;
}
uint32_t GetSortTmpSize(const platform_ascendc::PlatformAscendC&, const uint32_t elemCount,
                        const uint32_t) {
  return elemCount * 8;
}
void GetSortMaxMinTmpSize(const TensorShape& s, TensorDataType, TensorDataType, bool,
                          const SortConfig&, uint32_t& maxValue, uint32_t& minValue) {
  maxValue = minValue = count(s) * 16;
}
bool GetTopKMaxMinTmpSize(const platform_ascendc::PlatformAscendC&, const int32_t inner,
                          const int32_t outter, const bool reuse, const bool initIndex,
                          enum TopKMode mode, const bool largest, const uint32_t size,
                          uint32_t& maxValue, uint32_t& minValue) {
  maxValue = minValue =
      ascsim::adv::topkTmp(static_cast<uint32_t>(inner), static_cast<uint32_t>(outter), size,
                           mode == TopKMode::TOPK_NSMALL, initIndex, largest, reuse);
  return inner > 0 && inner % 32 == 0 && outter > 0;
}
bool GetTopKMaxMinTmpSize(const int32_t inner, const int32_t outter, const int32_t,
                          const bool reuse, const bool initIndex, enum TopKMode mode,
                          const bool largest, TensorDataType type, const TopKConfig& config,
                          uint32_t& maxValue, uint32_t& minValue) {
  maxValue = minValue = ascsim::adv::topkTmp(
      static_cast<uint32_t>(inner), static_cast<uint32_t>(outter), typeBytes(type),
      mode == TopKMode::TOPK_NSMALL, initIndex, largest, reuse);
  return config.algo == TopKAlgo::MERGE_SORT && inner > 0 && inner % 32 == 0 && outter > 0;
}
bool TopKTilingFunc(const platform_ascendc::PlatformAscendC&, const int32_t inner,
                    const int32_t outter, const int32_t k, const uint32_t size,
                    const bool initIndex, enum TopKMode mode, const bool largest,
                    tiling::TopkTiling& t) {
  if (inner <= 0 || inner % 32 != 0 || outter <= 0 || k < 1 || k > inner) return false;
  t.tmpLocalSize = static_cast<int32_t>(
      ascsim::adv::topkTmp(static_cast<uint32_t>(inner), static_cast<uint32_t>(outter), size,
                           mode == TopKMode::TOPK_NSMALL, initIndex, largest, false));
  t.innerDataSize = inner;
  t.allDataSize = inner * outter;
  t.sortRepeat = static_cast<uint32_t>(inner / 32);
  t.kAlignFourBytes = (k + 7) / 8 * 8;
  t.kAlignTwoBytes = (k + 15) / 16 * 16;
  return true;
}

// ----------------------------------------------------------------------------------- quantization
void GetAscendQuantMaxMinTmpSize(const TensorShape& s, const uint32_t, uint32_t& maxValue,
                                 uint32_t& minValue) {
  minValue = 512;
  maxValue = std::max(minValue, up(2 * count(s) * 2, 32));
}
void GetAscendDequantMaxMinTmpSize(const TensorShape& s, const uint32_t, uint32_t& maxValue,
                                   uint32_t& minValue) {
  const Matrix m(s);
  minValue = ascsim::adv::dequantTmp(m.k);
  maxValue = std::max(minValue, (64 + m.m * m.k + m.k + 8) * 4);
}
void GetAscendDequantTmpBufferFactorSize(const TensorShape& s, uint32_t& maxLiveNodeCount,
                                         uint32_t& extraBuf) {
  maxLiveNodeCount = s.GetDimNum() == 1 ? 2 : 1;
  extraBuf = 64 + 8 + (s.GetDimNum() == 1 ? 0 : dim(s, 1));
}
uint32_t GetAscendAntiQuantMinTmpSize(const TensorShape&, const TensorShape& scale, bool,
                                      TensorDataType, TensorDataType out) {
  return ascsim::adv::antiQuantTmp(std::max(1u, count(scale)), out == ge::DT_BF16);
}
uint32_t GetAscendAntiQuantMaxTmpSize(const TensorShape& s, const TensorShape& scale, bool t,
                                      TensorDataType in, TensorDataType out) {
  const uint32_t least = GetAscendAntiQuantMinTmpSize(s, scale, t, in, out);
  return out == ge::DT_BF16 ? std::max(least, count(s) * 4 + 2 * count(scale) * 4) : least;
}
void GetAscendAntiQuantMaxMinTmpSize(const TensorShape& s, const TensorShape& scale, bool t,
                                     TensorDataType in, TensorDataType out, uint32_t& maxValue,
                                     uint32_t& minValue) {
  maxValue = GetAscendAntiQuantMaxTmpSize(s, scale, t, in, out);
  minValue = GetAscendAntiQuantMinTmpSize(s, scale, t, in, out);
}
void GetAscendAntiQuantTmpBufferFactorSize(const TensorShape&, const TensorShape& scale, bool,
                                           TensorDataType, TensorDataType out,
                                           uint32_t& maxLiveNodeCount, uint32_t& extraBuf) {
  maxLiveNodeCount = out == ge::DT_BF16 ? 2 : 0;
  extraBuf = out == ge::DT_BF16 ? 2 * count(scale) * 4 + 1024 : 0;
}

}  // namespace AscendC
