// Sizes and tilings of the normalisation calls.
#include <algorithm>
#include <cstring>

#include "adv_shape.h"
#include "ascsim/adv_norm_impl.h"
#include "ascsim/adv_tiling.h"

namespace AscendC {

namespace {
using ascsim::adv::count;
using ascsim::adv::dim;
using ascsim::adv::Matrix;
using ascsim::adv::up;
}  // namespace

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

}  // namespace AscendC
