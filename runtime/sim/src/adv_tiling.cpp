#include "ascsim/adv_tiling.h"

#include <algorithm>

#include "ascsim/adv_norm_impl.h"

namespace AscendC {

namespace {
using ascsim::adv::Fn;
using ascsim::adv::SoftmaxKind;

uint32_t dim(const TensorShape& s, size_t i) { return static_cast<uint32_t>(s.GetDim(i)); }
uint32_t count(const TensorShape& s) { return static_cast<uint32_t>(s.GetShapeSize()); }
// All but the last axis as one.
struct Matrix {
  explicit Matrix(const TensorShape& s)
      : k(s.GetDimNum() == 0 ? 0 : dim(s, s.GetDimNum() - 1)), m(k == 0 ? 0 : count(s) / k) {}
  uint32_t k, m;
};
uint32_t up(uint32_t v, uint32_t step) { return (v + step - 1) / step * step; }
uint32_t typeBytes(TensorDataType t) {
  switch (t) {
    case ge::DT_INT8:
    case ge::DT_UINT8:
    case ge::DT_BOOL:
      return 1;
    case ge::DT_FLOAT16:
    case ge::DT_BF16:
    case ge::DT_INT16:
    case ge::DT_UINT16:
      return 2;
    case ge::DT_INT64:
    case ge::DT_UINT64:
    case ge::DT_DOUBLE:
      return 8;
    default:
      return 4;
  }
}
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

// ---------------------------------------------------------------------------------- normalization
void GetLayerNormMaxMinTmpSize(const TensorShape& s, const uint32_t size, const bool reuse,
                               uint32_t& maxValue, uint32_t& minValue) {
  const uint64_t rows = static_cast<uint64_t>(dim(s, 0)) * dim(s, 1);
  maxValue = ascsim::adv::layerNormTmp(rows, dim(s, 2), size, reuse, true);
  minValue = ascsim::adv::layerNormTmp(rows, dim(s, 2), size, reuse, false);
}
void GetLayerNormMaxMinTmpSize(const TensorShape& s, const uint32_t size, const bool, const bool,
                               const bool, uint32_t& maxValue, uint32_t& minValue) {
  const Matrix m(s);
  const uint32_t stride = up(m.k, 32 / size);
  maxValue = ascsim::adv::layerNormTmp(m.m, stride, 4, true, true);
  minValue = ascsim::adv::layerNormTmp(1, stride, 4, true, false);
}

namespace {
// Fields that LayerNorm's and DeepNorm's tilings share.
template <class Tiling>
void bshTiling(Tiling& t, uint32_t b, uint32_t s, uint32_t h, uint32_t oriH, uint32_t space,
               uint32_t size, bool reuse) {
  t.bLength = b;
  t.sLength = s;
  t.hLength = h;
  t.originalHLength = oriH;
  t.inputXSize = b * s * h;
  t.meanVarSize = b * s;
  t.numberOfTmpBuf = reuse && size == 4 ? 2 : 3;
  t.meanTmpTensorPos = 0;
  t.meanTmpTensorSize = size == 4 ? 0 : up(b * s, 8);
  t.varianceTmpTensorPos = t.meanTmpTensorSize;
  t.varianceTmpTensorSize = t.meanTmpTensorSize;
  t.tmpBufSize = space / 4;
  const uint32_t stats = t.meanTmpTensorSize + t.varianceTmpTensorSize;
  const uint32_t room = t.tmpBufSize > stats ? (t.tmpBufSize - stats) / t.numberOfTmpBuf : 0;
  t.oneTmpSize = std::min(h == 0 ? 0 : room / h * h, t.inputXSize);
  t.firstTmpStartPos = stats;
  t.secondTmpStartPos = stats + t.oneTmpSize;
  t.thirdTmpStartPos = stats + 2 * t.oneTmpSize;
  t.loopRound = t.oneTmpSize == 0 ? 0 : t.inputXSize / t.oneTmpSize;
  t.inputRoundSize = t.oneTmpSize;
  t.inputTailSize = t.oneTmpSize == 0 ? 0 : t.inputXSize % t.oneTmpSize;
  t.inputTailPos = t.inputXSize - t.inputTailSize;
  t.meanVarRoundSize = h == 0 ? 0 : t.oneTmpSize / h;
  t.meanVarTailSize = h == 0 ? 0 : t.inputTailSize / h;
  t.meanVarTailPos = t.meanVarSize - t.meanVarTailSize;
  t.bshCurLength = t.oneTmpSize;
  t.bsCurLength = t.meanVarRoundSize;
  t.lastDimValueBack = oriH == 0 ? 0 : 1.0f / static_cast<float>(oriH);
}
}  // namespace

void GetLayerNormNDTilingInfo(const TensorShape& s, const uint32_t space, const uint32_t size,
                              const bool reuse, tiling::LayerNormTiling& t) {
  const uint32_t h = dim(s, 2);
  bshTiling(t, dim(s, 0), dim(s, 1), h, s.GetDimNum() > 3 ? dim(s, 3) : h, space, size, reuse);
}
void GetLayerNormNDTillingInfo(const TensorShape& s, const uint32_t space, const uint32_t size,
                               const bool reuse, tiling::LayerNormTiling& t) {
  GetLayerNormNDTilingInfo(s, space, size, reuse, t);
}
void GetLayerNormNDTilingInfo(const TensorShape& s, const uint32_t space, const uint32_t size,
                              const bool, const bool, tiling::LayerNormSeparateTiling& t) {
  const Matrix m(s);
  const uint32_t stride = up(m.k, 32 / size);
  uint32_t head = 1;
  while (head * 2 <= m.k) head *= 2;
  t.aLength = m.m;
  t.rLength = m.k;
  t.rHeadLength = head;
  t.k2Rec = 1.0f / static_cast<float>(head);
  t.k2RRec = static_cast<float>(head) / static_cast<float>(std::max(m.k, 1u));
  t.inputXSize = m.m * stride;
  t.meanVarSize = m.m;
  t.numberOfTmpBuf = 2;
  t.tmpBufSize = space / 4;
  t.oneTmpSize = std::min(stride == 0 ? 0 : t.tmpBufSize / 2 / stride * stride, t.inputXSize);
  t.secondTmpStartPos = t.oneTmpSize;
  t.loopRound = t.oneTmpSize == 0 ? 0 : t.inputXSize / t.oneTmpSize;
  t.inputRoundSize = t.oneTmpSize;
  t.inputTailSize = t.oneTmpSize == 0 ? 0 : t.inputXSize % t.oneTmpSize;
  t.inputTailPos = t.inputXSize - t.inputTailSize;
  t.arCurLength = t.oneTmpSize;
  t.aCurLength = stride == 0 ? 0 : t.oneTmpSize / stride;
  t.rValueBack = m.k == 0 ? 0 : 1.0f / static_cast<float>(m.k);
}
void GetLayerNormGradMaxMinTmpSize(const TensorShape& s, const uint32_t size, const bool reuse,
                                   uint32_t& maxValue, uint32_t& minValue) {
  minValue = ascsim::adv::layerNormGradTmp(dim(s, 2), size, reuse);
  maxValue = std::max(1u, dim(s, 0) * dim(s, 1)) * minValue;
}
void GetLayerNormGradNDTilingInfo(const TensorShape s, const uint32_t space, const uint32_t size,
                                  const bool reuse, tiling::LayerNormGradTiling& t) {
  t.stackBufferSize = space / 4;
  t.bLength = dim(s, 0);
  t.sLength = dim(s, 1);
  t.hLength = dim(s, 2);
  t.originalHLength = s.GetDimNum() > 3 ? dim(s, 3) : t.hLength;
  const uint32_t one = ascsim::adv::layerNormGradTmp(1, size, reuse);
  t.oneCalSize = t.hLength == 0 ? 0
                                : std::min(space / one / t.hLength * t.hLength,
                                           t.bLength * t.sLength * t.hLength);
  t.nohCalSize = t.hLength == 0 ? 0 : t.oneCalSize / t.hLength;
  const uint32_t all = t.bLength * t.sLength * t.hLength;
  t.loopNum = t.oneCalSize == 0 ? 0 : all / t.oneCalSize;
  t.tailSize = t.oneCalSize == 0 ? 0 : all % t.oneCalSize;
  t.nohTailSize = t.hLength == 0 ? 0 : t.tailSize / t.hLength;
  const float back = t.originalHLength == 0 ? 0 : 1.0f / static_cast<float>(t.originalHLength),
              twice = 2 * back;
  std::memcpy(&t.lastDimValueBack, &back, 4);
  std::memcpy(&t.lastDimValueBackMulTwo, &twice, 4);
}
void GetLayerNormGradBetaMaxMinTmpSize(const TensorShape& s, const uint32_t size, const bool,
                                       uint32_t& maxValue, uint32_t& minValue) {
  const uint32_t h = dim(s, 2);
  minValue = size == 2 ? 4 * h * 4 : h * 4;
  maxValue = std::max(1u, dim(s, 0) * dim(s, 1)) * minValue;
}
void GetLayerNormGradBetaNDTilingInfo(const TensorShape s, const uint32_t space,
                                      const uint32_t size, const bool,
                                      tiling::LayerNormGradBetaTiling& t) {
  t.stackBufferSize = space / 4;
  t.bLength = dim(s, 0);
  t.sLength = dim(s, 1);
  t.hLength = dim(s, 2);
  t.originalHLength = s.GetDimNum() > 3 ? dim(s, 3) : t.hLength;
  t.bsLength = t.bLength * t.sLength;
  t.bshLength = t.bsLength * t.hLength;
  t.numberOfTmpBuf = size == 2 ? 4 : 1;
  t.oneCalSize =
      t.hLength == 0
          ? 0
          : std::min(t.stackBufferSize / t.numberOfTmpBuf / t.hLength * t.hLength, t.bshLength);
  t.bshCurLength = t.oneCalSize;
  t.bsCurLength = t.hLength == 0 ? 0 : t.oneCalSize / t.hLength;
  t.loopRound = t.oneCalSize == 0 ? 0 : t.bshLength / t.oneCalSize;
  t.inputTailSize = t.oneCalSize == 0 ? 0 : t.bshLength % t.oneCalSize;
  t.inputTailPos = t.bshLength - t.inputTailSize;
  t.bsTailSize = t.hLength == 0 ? 0 : t.inputTailSize / t.hLength;
}
bool GetRmsNormMaxMinTmpSize(const TensorShape& s, const uint32_t size, uint32_t& maxValue,
                             uint32_t& minValue, const bool basicBlock) {
  const Matrix m(s);
  const uint32_t copies = size == 2 ? 2 : 1;
  minValue = (copies * m.k * (basicBlock ? 8 : 1) + 8) * 4;
  maxValue = std::max(minValue, (copies * m.k * m.m + up(m.m, 8)) * 4);
  return m.k != 0;
}
bool GetRmsNormTilingInfo(const TensorShape& s, const TensorShape& origin, const uint32_t space,
                          const uint32_t size, tiling::RmsNormTiling& t, const bool basicBlock) {
  uint32_t most = 0, least = 0;
  if (!GetRmsNormMaxMinTmpSize(s, size, most, least, basicBlock) || space < least) return false;
  t.bLength = dim(s, 0);
  t.sLength = dim(s, 1);
  t.hLength = dim(s, 2);
  t.originalHLength = dim(origin, 2);
  t.reciprocalOfHLength = 1.0f / static_cast<float>(t.originalHLength);
  const uint32_t rows = t.bLength * t.sLength, copies = size == 2 ? 2 : 1;
  uint32_t part = std::max(1u, std::min((space / 4 - 8) / (copies * t.hLength + 1), rows));
  if (basicBlock && part >= 8) part = part / 8 * 8;
  t.mainBsLength = part;
  t.mainBshLength = part * t.hLength;
  t.mainBsLengthAlign = up(part, 8);
  t.loopRound = rows / part;
  t.tailBsLength = rows % part;
  t.tailBshLength = t.tailBsLength * t.hLength;
  t.inputTailPos = rows * t.hLength - t.tailBshLength;
  return true;
}
bool GetBatchNormMaxMinTmpSize(const TensorShape& s, const TensorShape& origin, const uint32_t size,
                               const bool reuse, uint32_t& maxValue, uint32_t& minValue,
                               const bool) {
  const uint32_t columns = dim(s, 1) * dim(s, 2), batch = dim(origin, 0), block = 32 / size;
  const uint32_t copies = reuse && size == 4 ? 2 : 3;
  minValue = (2 * block + copies * batch * block) * 4;
  maxValue = std::max(minValue, (2 * columns + copies * batch * columns) * 4);
  return columns != 0 && batch != 0;
}
bool GetBatchNormNDTilingInfo(const TensorShape& s, const TensorShape& origin, const uint32_t space,
                              const uint32_t size, const bool reuse, tiling::BatchNormTiling& t,
                              const bool basicBlock) {
  uint32_t most = 0, least = 0;
  if (!GetBatchNormMaxMinTmpSize(s, origin, size, reuse, most, least, basicBlock) || space < least)
    return false;
  t.originalBLength = dim(origin, 0);
  t.meanVarSize = dim(s, 1) * dim(s, 2);
  t.tmpBufSize = space / 4;
  t.shCurLength = t.meanVarSize;
  t.bshCurLength = t.originalBLength * t.meanVarSize;
  t.loopRound = 1;
  t.firstDimValueBack = 1.0f / static_cast<float>(t.originalBLength);
  return true;
}
bool GetDeepNormMaxMinTmpSize(const TensorShape& s, const uint32_t size, const bool reuse,
                              const bool, uint32_t& maxValue, uint32_t& minValue) {
  const Matrix m(s);
  maxValue = ascsim::adv::layerNormTmp(m.m, m.k, size, reuse, true);
  minValue = ascsim::adv::layerNormTmp(m.m, m.k, size, reuse, false);
  return m.k != 0;
}
bool GetDeepNormTilingInfo(const TensorShape& s, const TensorShape& origin, const uint32_t space,
                           const uint32_t size, const bool reuse, const bool basicBlock,
                           tiling::DeepNormTiling& t) {
  uint32_t most = 0, least = 0;
  if (!GetDeepNormMaxMinTmpSize(s, size, reuse, basicBlock, most, least) || space < least)
    return false;
  bshTiling(t, dim(s, 0), dim(s, 1), dim(s, 2), dim(origin, 2), space, size, reuse);
  return true;
}
void GetGroupNormMaxMinTmpSize(const TensorShape& s, const uint32_t size, const bool reuse,
                               const uint32_t groups, uint32_t& maxValue, uint32_t& minValue) {
  const uint32_t hw = up(dim(s, 2) * dim(s, 3), 32 / size),
                 d = groups == 0 ? 0 : dim(s, 1) / groups;
  const uint64_t rows = static_cast<uint64_t>(dim(s, 0)) * groups;
  maxValue = ascsim::adv::layerNormTmp(rows, d * hw, size, reuse, true);
  minValue = ascsim::adv::layerNormTmp(rows, d * hw, size, reuse, false);
}
void GetGroupNormNDTilingInfo(const TensorShape& s, const uint32_t space, const uint32_t size,
                              const bool, const uint32_t groups, tiling::GroupNormTiling& t) {
  t.n = dim(s, 0);
  t.c = dim(s, 1);
  t.hw = dim(s, 2) * dim(s, 3);
  t.g = groups;
  t.d = groups == 0 ? 0 : t.c / groups;
  t.hwAlignSize = up(t.hw, 32 / size);
  t.dhwAlignSize = t.d * t.hwAlignSize;
  t.inputXSize = t.n * t.c * t.hwAlignSize;
  t.meanVarSize = t.n * groups;
  t.tmpBufSize = space / 4;
  t.loopRound = 1;
  t.factor = t.d * t.hw == 0 ? 0 : 1.0f / static_cast<float>(t.d * t.hw);
}
void GetNormalizeMaxMinTmpSize(const TensorShape& s, const uint32_t, const uint32_t sizeT,
                               const bool, const bool, const bool, uint32_t& maxValue,
                               uint32_t& minValue) {
  const Matrix m(s);
  minValue = sizeT == 4 ? 0 : up(m.k, 16) * 2 * 4;
  maxValue = minValue * std::max(1u, m.m);
}
void GetWelfordUpdateMaxMinTmpSize(const TensorShape& s, const uint32_t sizeT, const uint32_t,
                                   const bool, const bool inplace, uint32_t& maxValue,
                                   uint32_t& minValue) {
  minValue = ascsim::adv::welfordUpdateTmp(sizeT, inplace);
  maxValue = std::max(minValue, minValue / 256 * count(s) * 4);
}
void GetWelfordFinalizeMaxMinTmpSize(const TensorShape& s, const uint32_t, const bool,
                                     uint32_t& maxValue, uint32_t& minValue) {
  minValue = 2 * 256;
  maxValue = std::max(minValue, 2 * count(s) * 4);
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

// ------------------------------------------------------- transformation, index, selection, dropout
void GetBroadCastMaxMinTmpSize(const platform_ascendc::PlatformAscendC&, const TensorShape& src,
                               const TensorShape& dst, uint32_t size, const bool,
                               uint32_t& maxValue, uint32_t& minValue) {
  const bool inner = src.GetDimNum() > 0 && src.GetDim(src.GetDimNum() - 1) == 1 &&
                     dst.GetDim(dst.GetDimNum() - 1) != 1;
  minValue = inner ? (size == 1 ? 2 : 1) * 256 : 0;
  maxValue = inner ? std::max(minValue, Matrix(src).m * 32 * (size == 1 ? 2 : 1)) : minValue;
}
void GetPadMaxMinTmpSize(const TensorShape& s, const uint32_t size, uint32_t& maxValue,
                         uint32_t& minValue) {
  minValue = ascsim::adv::padTmp(dim(s, 1), size);
  maxValue = std::max(minValue, minValue / 16 * up(dim(s, 0), 16));
}
void PadTilingFunc(const TensorShape s, const TensorShape origin, const uint32_t space,
                   const uint32_t size, tiling::PadTiling& t) {
  const uint32_t block = 32 / size;
  t.srcHeight = dim(s, 0);
  t.srcWidth = dim(s, 1);
  t.srcOriWidth = dim(origin, 1);
  t.widthWithoutLastBlock = t.srcWidth / block * block;
  t.blocksPerRow = up(t.srcWidth, block) / block;
  t.tmpBuffer1BlockNum = space / 2 / 32;
  t.tmpBuffer1RowNum = t.blocksPerRow == 0 ? 0 : t.tmpBuffer1BlockNum / t.blocksPerRow;
  t.tmpBuffer2Offset = t.tmpBuffer1BlockNum * block;
  t.maxRepeatTimes = 255;
}
void GetUnPadMaxMinTmpSize(const platform_ascendc::PlatformAscendC&, const TensorShape& s,
                           const uint32_t size, uint32_t& maxValue, uint32_t& minValue) {
  GetPadMaxMinTmpSize(s, size, maxValue, minValue);
}
void UnPadTilingFunc(const TensorShape s, const uint32_t space, const uint32_t size,
                     tiling::UnPadTiling& t) {
  const uint32_t block = 32 / size;
  t.srcHeight = dim(s, 0);
  t.srcWidth = dim(s, 1);
  t.tmpBuffer1BlockNum = space / 2 / 32;
  t.tmpBuffer1RowNum = t.srcWidth == 0 ? 0 : t.tmpBuffer1BlockNum * block / t.srcWidth;
  t.tmpBuffer2Offset = t.tmpBuffer1BlockNum * block;
}
void GetTransposeMaxMinTmpSize(const TensorShape& s, const uint32_t size, const uint32_t type,
                               uint32_t& maxValue, uint32_t& minValue) {
  maxValue = minValue = type == 7 ? 0 : (type <= 2 ? 1 : 2) * dim(s, 2) * 16 * size;
}
void GetConfusionTransposeMaxMinTmpSize(const TensorShape& s, const uint32_t size,
                                        const uint32_t type, uint32_t& maxValue,
                                        uint32_t& minValue) {
  GetTransposeMaxMinTmpSize(s, size, type, maxValue, minValue);
}
void GetTransposeTilingInfo(const TensorShape& s, const uint32_t space, const uint32_t,
                            const uint32_t type, tiling::ConfusionTransposeTiling& t) {
  t = {};
  if (type == 7) {
    t.param1 = dim(s, 0);
    t.param2 = dim(s, 1);
  } else {
    t.param0 = dim(s, 0);
    t.param1 = dim(s, 1);
    t.param2 = dim(s, 2);
    t.param3 = dim(s, 3);
  }
  t.param4 = space;
  t.param5 = type;
}
void GetConfusionTransposeTilingInfo(const TensorShape& s, const uint32_t space,
                                     const uint32_t size, const uint32_t type,
                                     tiling::ConfusionTransposeTiling& t) {
  GetTransposeTilingInfo(s, space, size, type, t);
}
void GetConfusionTransposeOnlyTilingInfo(const TensorShape& s, const uint32_t space,
                                         const uint32_t size, tiling::ConfusionTransposeTiling& t) {
  GetTransposeTilingInfo(s, space, size, 7, t);
}
bool GetTransDataMaxMinTmpSize(const platform_ascendc::PlatformAscendC&, const TensorShape& src,
                               const TensorShape& dst, const TensorDataType type,
                               const TransDataConfig& config, uint32_t& maxValue,
                               uint32_t& minValue) {
  using Kind = ascsim::adv::TransDataKind;
  const bool forward = config.srcFormat == DataFormat::NCDHW;
  const DataFormat other = forward ? config.dstFormat : config.srcFormat;
  const TensorShape& s = forward ? src : dst;
  if ((!forward && config.dstFormat != DataFormat::NCDHW) ||
      (other != DataFormat::NDC1HWC0 && other != DataFormat::FRACTAL_Z_3D) || s.GetDimNum() != 5)
    return false;
  const Kind kind = other == DataFormat::NDC1HWC0 ? Kind::ToNdc1hwc0 : Kind::ToFractalZ3d;
  maxValue = minValue = static_cast<uint32_t>(ascsim::adv::transDataTmp(
      kind, dim(s, 0), dim(s, 1), dim(s, 2), dim(s, 3), dim(s, 4), typeBytes(type)));
  return true;
}
uint32_t GetDropOutMinTmpSize(const TensorShape&, const uint32_t, const bool) { return 512; }
uint32_t GetDropOutMaxTmpSize(const TensorShape& s, const uint32_t, const bool) {
  return std::max(512u, 2 * count(s) * 4);
}
void GetDropOutMaxMinTmpSize(const TensorShape& s, const uint32_t size, const bool reuse,
                             uint32_t& maxValue, uint32_t& minValue) {
  maxValue = GetDropOutMaxTmpSize(s, size, reuse);
  minValue = GetDropOutMinTmpSize(s, size, reuse);
}

namespace {
uint32_t selectSize(const TensorShape& a, const TensorShape& b, const TensorShape& mask,
                    uint32_t maskSize, bool reuse, bool maximum) {
  const Matrix s(count(a) > 1 ? a : b), m(mask);
  const uint32_t least = ascsim::adv::selectTmp(s.m, s.k, m.k, maskSize, reuse);
  return maximum ? least + (s.m - 1) * (up(s.k * 2, 32) + up(s.k / 8, 32)) : least;
}
}  // namespace
#define ASCSIM_ADV_SELECT_SIZES(name)                                                        \
  uint32_t Get##name##MinTmpSize(const TensorShape& a, const TensorShape& b, const uint32_t, \
                                 const TensorShape& mask, const uint32_t maskSize,           \
                                 const bool reuse) {                                         \
    return selectSize(a, b, mask, maskSize, reuse, false);                                   \
  }                                                                                          \
  uint32_t Get##name##MaxTmpSize(const TensorShape& a, const TensorShape& b, const uint32_t, \
                                 const TensorShape& mask, const uint32_t maskSize,           \
                                 const bool reuse) {                                         \
    return selectSize(a, b, mask, maskSize, reuse, true);                                    \
  }                                                                                          \
  void Get##name##MaxMinTmpSize(const TensorShape& a, const TensorShape& b, const uint32_t,  \
                                const TensorShape& mask, const uint32_t maskSize,            \
                                const bool reuse, uint32_t& maxValue, uint32_t& minValue) {  \
    maxValue = selectSize(a, b, mask, maskSize, reuse, true);                                \
    minValue = selectSize(a, b, mask, maskSize, reuse, false);                               \
  }
ASCSIM_ADV_SELECT_SIZES(Select)
ASCSIM_ADV_SELECT_SIZES(SelectWithBytesMask)
#undef ASCSIM_ADV_SELECT_SIZES

}  // namespace AscendC
