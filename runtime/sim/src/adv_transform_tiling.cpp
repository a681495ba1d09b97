// Sizes and tilings: transformation, index, selection, dropout.
#include <algorithm>

#include "adv_shape.h"
#include "ascsim/adv_norm_impl.h"
#include "ascsim/adv_tiling.h"

namespace AscendC {

namespace {
using ascsim::adv::count;
using ascsim::adv::dim;
using ascsim::adv::Matrix;
using ascsim::adv::typeBytes;
using ascsim::adv::up;
}  // namespace

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
