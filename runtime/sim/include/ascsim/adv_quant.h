// High-level API, quantization (docs: SIMD-API, high-level API, quantization operations).
#pragma once
#include "ascsim/adv_misc_impl.h"

namespace AscendC {

struct AscendQuantConfig {
  constexpr AscendQuantConfig() = default;
  constexpr AscendQuantConfig(uint32_t calc, uint32_t offset, uint32_t scale, uint32_t work)
      : calcCount(calc), offsetCount(offset), scaleCount(scale), workLocalSize(work) {}
  uint32_t calcCount = 0;
  uint32_t offsetCount = 0;
  uint32_t scaleCount = 0;
  uint32_t workLocalSize = 0;
};
constexpr AscendQuantConfig ASCEND_QUANT_DEFAULT_CFG = {0, 0, 0, 0};

namespace detail {
// Counts fixed at compile time take the place of the call's.
template <class T>
void quantCall(const LocalTensor<int8_t>& dst, const LocalTensor<T>& src,
               const ascsim::adv::Tmp& tmp, ascsim::adv::Factor scale, ascsim::adv::Factor offset,
               uint32_t n, const AscendQuantConfig& config, const Loc& loc) {
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>>,
                "AscendQuant: half and float are supported on this chip");
  ascsim::Api api("AscendQuant", loc);
  if (ascsim::isAic()) return;
  if (config.calcCount != 0) n = config.calcCount;
  if (config.scaleCount != 0 && scale.vector != nullptr) scale.count = config.scaleCount;
  if (config.offsetCount != 0 && offset.vector != nullptr) offset.count = config.offsetCount;
  ascsim::adv::quant(ascsim::adv::arg(dst), ascsim::adv::arg(src), tmp.get(), scale, offset, n);
}
}  // namespace detail

// TMP: with or without a temporary buffer; N: the elements that take part.
#define ASCSIM_ADV_QUANT_TEMPLATE                \
  template <class T, bool isReuseSource = false, \
            const AscendQuantConfig& config = ASCEND_QUANT_DEFAULT_CFG>
#define ASCSIM_ADV_QUANT(TMP, tmp)                                                                 \
  ASCSIM_ADV_QUANT_TEMPLATE                                                                        \
  void AscendQuant(const LocalTensor<int8_t>& dstTensor, const LocalTensor<T>& srcTensor,          \
                   TMP() const float scale, const float offset, const uint32_t calCount,           \
                   Loc loc = Loc::current()) {                                                     \
    detail::quantCall(dstTensor, srcTensor, tmp, {nullptr, scale, 0}, {nullptr, offset, 0},        \
                      calCount, config, loc);                                                      \
  }                                                                                                \
  ASCSIM_ADV_QUANT_TEMPLATE                                                                        \
  void AscendQuant(const LocalTensor<int8_t>& dstTensor, const LocalTensor<T>& srcTensor,          \
                   TMP() const float scale, const float offset, Loc loc = Loc::current()) {        \
    detail::quantCall(dstTensor, srcTensor, tmp, {nullptr, scale, 0}, {nullptr, offset, 0},        \
                      srcTensor.GetSize(), config, loc);                                           \
  }                                                                                                \
  ASCSIM_ADV_QUANT_TEMPLATE                                                                        \
  void AscendQuant(const LocalTensor<int8_t>& dstTensor, const LocalTensor<T>& srcTensor,          \
                   TMP() const LocalTensor<T>& scaleTensor, const PrimT<T> offset,                 \
                   const uint32_t scaleCount, const uint32_t calCount, Loc loc = Loc::current()) { \
    const ascsim::adv::Arg s = ascsim::adv::arg(scaleTensor);                                      \
    detail::quantCall(dstTensor, srcTensor, tmp, {&s, 0, scaleCount},                              \
                      {nullptr, static_cast<float>(offset), 0}, calCount, config, loc);            \
  }                                                                                                \
  ASCSIM_ADV_QUANT_TEMPLATE                                                                        \
  void AscendQuant(const LocalTensor<int8_t>& dstTensor, const LocalTensor<T>& srcTensor,          \
                   TMP() const LocalTensor<T>& scaleTensor, const LocalTensor<T>& offsetTensor,    \
                   const uint32_t scaleCount, const uint32_t offsetCount, const uint32_t calCount, \
                   Loc loc = Loc::current()) {                                                     \
    const ascsim::adv::Arg s = ascsim::adv::arg(scaleTensor), o = ascsim::adv::arg(offsetTensor);  \
    detail::quantCall(dstTensor, srcTensor, tmp, {&s, 0, scaleCount}, {&o, 0, offsetCount},        \
                      calCount, config, loc);                                                      \
  }                                                                                                \
  ASCSIM_ADV_QUANT_TEMPLATE                                                                        \
  void AscendQuant(const LocalTensor<int8_t>& dstTensor, const LocalTensor<T>& srcTensor,          \
                   TMP() const LocalTensor<T>& scaleTensor, const PrimT<T> offset,                 \
                   Loc loc = Loc::current()) {                                                     \
    const ascsim::adv::Arg s = ascsim::adv::arg(scaleTensor);                                      \
    detail::quantCall(dstTensor, srcTensor, tmp, {&s, 0, scaleTensor.GetSize()},                   \
                      {nullptr, static_cast<float>(offset), 0}, srcTensor.GetSize(), config, loc); \
  }                                                                                                \
  ASCSIM_ADV_QUANT_TEMPLATE                                                                        \
  void AscendQuant(const LocalTensor<int8_t>& dstTensor, const LocalTensor<T>& srcTensor,          \
                   TMP() const LocalTensor<T>& scaleTensor, const LocalTensor<T>& offsetTensor,    \
                   Loc loc = Loc::current()) {                                                     \
    const ascsim::adv::Arg s = ascsim::adv::arg(scaleTensor), o = ascsim::adv::arg(offsetTensor);  \
    detail::quantCall(dstTensor, srcTensor, tmp, {&s, 0, scaleTensor.GetSize()},                   \
                      {&o, 0, offsetTensor.GetSize()}, srcTensor.GetSize(), config, loc);          \
  }
#define ASCSIM_ADV_NO_TMP()
#define ASCSIM_ADV_TMP() const LocalTensor<uint8_t>&sharedTmpBuffer,
ASCSIM_ADV_QUANT(ASCSIM_ADV_TMP, sharedTmpBuffer)
ASCSIM_ADV_QUANT(ASCSIM_ADV_NO_TMP, {})
#undef ASCSIM_ADV_QUANT

// ------------------------------------------------------------------------------------------
// AscendDequant
enum class DeQuantMode { DEQUANT_WITH_SINGLE_ROW, DEQUANT_WITH_MULTI_ROW };
struct DequantParams {
  uint32_t m;
  uint32_t n;
  uint32_t calCount;
};

namespace detail {
template <class D, class S, DeQuantMode mode>
void dequantCall(const LocalTensor<D>& dst, const LocalTensor<int32_t>& src,
                 const ascsim::adv::Arg* scale, float scalar, const ascsim::adv::Tmp& tmp,
                 DequantParams p, const Loc& loc) {
  using To = PrimT<D>;
  using Scale = PrimT<S>;
  constexpr bool pairs = (std::is_same_v<To, half> && std::is_same_v<Scale, uint64_t>) ||
                         ((std::is_same_v<To, float> || std::is_same_v<To, bfloat16_t>) &&
                          (std::is_same_v<Scale, float> || std::is_same_v<Scale, bfloat16_t>));
  static_assert(pairs,
                "AscendDequant: half with uint64_t scales; float and bfloat16_t with float or "
                "bfloat16_t scales");
  ascsim::Api api("AscendDequant", loc);
  if (ascsim::isAic()) return;
  // One row may stand for several of calCount elements each.
  if (mode == DeQuantMode::DEQUANT_WITH_SINGLE_ROW && p.m == 1 && p.calCount != 0 &&
      p.calCount % (32 / sizeof(To)) == 0 && p.n % p.calCount == 0)
    p = {p.n / p.calCount, p.calCount, p.calCount};
  ascsim::adv::dequant(ascsim::adv::arg(dst), ascsim::adv::arg(src), scale, scalar, tmp.get(), p.m,
                       p.n, p.calCount);
}
}  // namespace detail

#define ASCSIM_ADV_DEQUANT_TEMPLATE \
  template <class dstT, class scaleT, DeQuantMode mode = DeQuantMode::DEQUANT_WITH_SINGLE_ROW>
#define ASCSIM_ADV_DEQUANT(TMP, tmp)                                                            \
  ASCSIM_ADV_DEQUANT_TEMPLATE                                                                   \
  void AscendDequant(const LocalTensor<dstT>& dstTensor, const LocalTensor<int32_t>& srcTensor, \
                     const LocalTensor<scaleT>& deqScale, TMP() DequantParams params,           \
                     Loc loc = Loc::current()) {                                                \
    const ascsim::adv::Arg s = ascsim::adv::arg(deqScale);                                      \
    detail::dequantCall<dstT, scaleT, mode>(dstTensor, srcTensor, &s, 0, tmp, params, loc);     \
  }                                                                                             \
  ASCSIM_ADV_DEQUANT_TEMPLATE                                                                   \
  void AscendDequant(const LocalTensor<dstT>& dstTensor, const LocalTensor<int32_t>& srcTensor, \
                     const scaleT deqScale, TMP() DequantParams params,                         \
                     Loc loc = Loc::current()) {                                                \
    detail::dequantCall<dstT, scaleT, mode>(dstTensor, srcTensor, nullptr,                      \
                                            static_cast<float>(deqScale), tmp, params, loc);    \
  }                                                                                             \
  ASCSIM_ADV_DEQUANT_TEMPLATE                                                                   \
  void AscendDequant(const LocalTensor<dstT>& dstTensor, const LocalTensor<int32_t>& srcTensor, \
                     const LocalTensor<scaleT>& deqScale, TMP() const uint32_t calCount,        \
                     Loc loc = Loc::current()) {                                                \
    const ascsim::adv::Arg s = ascsim::adv::arg(deqScale);                                      \
    detail::dequantCall<dstT, scaleT, mode>(dstTensor, srcTensor, &s, 0, tmp,                   \
                                            {1, srcTensor.GetSize(), calCount}, loc);           \
  }
ASCSIM_ADV_DEQUANT(ASCSIM_ADV_TMP, sharedTmpBuffer)
ASCSIM_ADV_DEQUANT(ASCSIM_ADV_NO_TMP, {})
#undef ASCSIM_ADV_DEQUANT
ASCSIM_ADV_DEQUANT_TEMPLATE
void AscendDequant(const LocalTensor<dstT>& dstTensor, const LocalTensor<int32_t>& srcTensor,
                   const LocalTensor<scaleT>& deqScale, const LocalTensor<uint8_t>& sharedTmpBuffer,
                   Loc loc = Loc::current()) {
  const ascsim::adv::Arg s = ascsim::adv::arg(deqScale);
  detail::dequantCall<dstT, scaleT, mode>(dstTensor, srcTensor, &s, 0, sharedTmpBuffer,
                                          {1, srcTensor.GetSize(), deqScale.GetSize()}, loc);
}
ASCSIM_ADV_DEQUANT_TEMPLATE
void AscendDequant(const LocalTensor<dstT>& dstTensor, const LocalTensor<int32_t>& srcTensor,
                   const LocalTensor<scaleT>& deqScale, Loc loc = Loc::current()) {
  const ascsim::adv::Arg s = ascsim::adv::arg(deqScale);
  detail::dequantCall<dstT, scaleT, mode>(dstTensor, srcTensor, &s, 0, {},
                                          {1, srcTensor.GetSize(), deqScale.GetSize()}, loc);
}

// ----------------------------------------------------------------------------------------
// AscendAntiQuant
struct AntiQuantShapeInfo {
  uint32_t offsetHeight{0};
  uint32_t offsetWidth{0};
  uint32_t scaleHeight{0};
  uint32_t scaleWidth{0};
};

namespace detail {
// Height and width of a scale or offset: the call's, the tensor's, else one group.
template <class O>
uint32_t antiQuantGroups(const LocalTensor<O>& t, uint32_t height, uint32_t width, uint32_t n,
                         bool transpose) {
  if (height == 0 || width == 0) {
    const ShapeInfo s = t.GetShapeInfo();
    if (s.shapeDim >= 2) {
      height = s.shape[0];
      width = s.shape[1];
    } else {
      return n == 0 ? 0 : t.GetSize() / n > 0 ? t.GetSize() / n : 1;
    }
  }
  return transpose ? width : height;
}
template <class I, class O, bool transpose>
void antiQuantCall(const LocalTensor<O>& dst, const LocalTensor<I>& src,
                   const LocalTensor<O>* offset, float offsetValue, const LocalTensor<O>* scale,
                   float scaleValue, const ascsim::adv::Tmp& tmp, uint32_t k,
                   const AntiQuantShapeInfo& info, const Loc& loc) {
  static_assert(std::is_same_v<PrimT<I>, int8_t> || std::is_same_v<PrimT<I>, int4b_t>,
                "AscendAntiQuant: int8_t and int4b_t sources on this chip");
  static_assert(std::is_same_v<PrimT<O>, half> || std::is_same_v<PrimT<O>, bfloat16_t>,
                "AscendAntiQuant: half and bfloat16_t results");
  ascsim::Api api("AscendAntiQuant", loc);
  if (ascsim::isAic()) return;
  if (k == 0)
    ascsim::fail(ascsim::kParam,
                 "k is 0; it must be the number of rows (columns if transposed) of the source");
  ascsim::adv::AntiQuant q;
  q.transpose = transpose;
  q.k = k;
  q.n = src.GetSize() / k;
  q.offsetValue = offsetValue;
  q.scaleValue = scaleValue;
  ascsim::adv::Arg o, s;
  uint32_t height = 0, width = 0;
  if (offset != nullptr) {
    o = ascsim::adv::arg(*offset);
    q.offset = &o;
    q.offsetGroups = antiQuantGroups(*offset, info.offsetHeight, info.offsetWidth, q.n, transpose);
    const ShapeInfo t = offset->GetShapeInfo();
    height = info.offsetHeight != 0 ? info.offsetHeight : t.shapeDim >= 2 ? t.shape[0] : 0;
    width = info.offsetWidth != 0 ? info.offsetWidth : t.shapeDim >= 2 ? t.shape[1] : 0;
    // The data may be part of the tensor: columns follow the offset's shape.
    if (height != 0 && width != 0) q.n = transpose ? height : width;
  }
  if (scale != nullptr) {
    s = ascsim::adv::arg(*scale);
    q.scale = &s;
    const bool own =
        (info.scaleHeight != 0 && info.scaleWidth != 0) || scale->GetShapeInfo().shapeDim >= 2;
    q.scaleGroups = !own && offset != nullptr ? q.offsetGroups
                                              : antiQuantGroups(*scale, info.scaleHeight,
                                                                info.scaleWidth, q.n, transpose);
  }
  ascsim::adv::antiQuant(ascsim::adv::arg(dst), ascsim::adv::arg(src), tmp.get(), q);
}
}  // namespace detail

#define ASCSIM_ADV_ANTIQUANT(TMP, tmp)                                                             \
  template <class InputDataType, class OutputDataType, bool isTranspose>                           \
  void AscendAntiQuant(const LocalTensor<OutputDataType>& dst,                                     \
                       const LocalTensor<InputDataType>& src,                                      \
                       const LocalTensor<OutputDataType>& offset,                                  \
                       const LocalTensor<OutputDataType>& scale, TMP() const uint32_t k,           \
                       const AntiQuantShapeInfo& shapeInfo = {}, Loc loc = Loc::current()) {       \
    detail::antiQuantCall<InputDataType, OutputDataType, isTranspose>(                             \
        dst, src, &offset, 0, &scale, 1, tmp, k, shapeInfo, loc);                                  \
  }                                                                                                \
  template <class InputDataType, class OutputDataType, bool isTranspose>                           \
  void AscendAntiQuant(const LocalTensor<OutputDataType>& dst,                                     \
                       const LocalTensor<InputDataType>& src, const OutputDataType offset,         \
                       const OutputDataType scale, TMP() const uint32_t k,                         \
                       const AntiQuantShapeInfo& shapeInfo = {}, Loc loc = Loc::current()) {       \
    detail::antiQuantCall<InputDataType, OutputDataType, isTranspose>(                             \
        dst, src, nullptr, static_cast<float>(offset), nullptr, static_cast<float>(scale), tmp, k, \
        shapeInfo, loc);                                                                           \
  }
ASCSIM_ADV_ANTIQUANT(ASCSIM_ADV_TMP, sharedTmpBuffer)
ASCSIM_ADV_ANTIQUANT(ASCSIM_ADV_NO_TMP, {})
#undef ASCSIM_ADV_ANTIQUANT
template <class InputDataType, class OutputDataType, bool isTranspose>
void AscendAntiQuant(const LocalTensor<OutputDataType>& dst, const LocalTensor<InputDataType>& src,
                     const LocalTensor<OutputDataType>& scale,
                     const LocalTensor<uint8_t>& sharedTmpBuffer, const uint32_t k,
                     const AntiQuantShapeInfo& shapeInfo = {}, Loc loc = Loc::current()) {
  detail::antiQuantCall<InputDataType, OutputDataType, isTranspose>(
      dst, src, nullptr, 0, &scale, 1, sharedTmpBuffer, k, shapeInfo, loc);
}
template <class InputDataType, class OutputDataType, bool isTranspose>
void AscendAntiQuant(const LocalTensor<OutputDataType>& dst, const LocalTensor<InputDataType>& src,
                     const OutputDataType scale, const LocalTensor<uint8_t>& sharedTmpBuffer,
                     const uint32_t k, const AntiQuantShapeInfo& shapeInfo = {},
                     Loc loc = Loc::current()) {
  detail::antiQuantCall<InputDataType, OutputDataType, isTranspose>(
      dst, src, nullptr, 0, nullptr, static_cast<float>(scale), sharedTmpBuffer, k, shapeInfo, loc);
}

}  // namespace AscendC
