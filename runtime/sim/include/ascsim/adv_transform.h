// High-level API, tensor transformation, index, selection and dropout.
#pragma once
#include "ascsim/adv_misc_impl.h"
#include "ascsim/adv_tilingdata.h"
#include "ascsim/traits.h"
#include "ascsim/vector2.h"

namespace AscendC {

// -------------------------------------------------------------------------------------- Broadcast
namespace detail {
template <class T, int32_t dim, int32_t axis>
void broadcastCall(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t* to,
                   const uint32_t* from, const ascsim::adv::Tmp& tmp, const Loc& loc) {
  using P = PrimT<T>;
  // Longer numbers than the page names are moved like those of their size.
  static_assert(sizeof(P) <= 4,
                "Broadcast: elements of 8, 16 and 32 bits are supported on this chip");
  static_assert((dim == 1 || dim == 2) && (axis == 0 || axis == 1),
                "Broadcast: dim is 1 or 2 and axis 0 or 1");
  ascsim::Api api("Broadcast", loc);
  if (ascsim::isAic()) return;
  const uint32_t rows = dim == 2 ? to[0] : 1, columns = dim == 2 ? to[1] : to[0];
  const uint32_t srcRows = dim == 2 ? from[0] : 1, srcColumns = dim == 2 ? from[1] : from[0];
  if ((srcRows != rows && srcRows != 1) || (srcColumns != columns && srcColumns != 1))
    ascsim::fail(
        ascsim::kParam,
        "cannot broadcast %u x %u to %u x %u: a source axis has length 1 or that of the result",
        srcRows, srcColumns, rows, columns);
  if (dim == 2 && axis == 0 && srcColumns * sizeof(P) % 32 != 0)
    ascsim::report(ascsim::kParam,
                   "axis 0 needs source rows in multiples of 32 bytes, not %u elements",
                   srcColumns);
  std::vector<int64_t> map(static_cast<uint64_t>(rows) * columns);
  for (uint64_t r = 0; r < rows; ++r)
    for (uint64_t c = 0; c < columns; ++c)
      map[r * columns + c] =
          static_cast<int64_t>((srcRows == 1 ? 0 : r) * srcColumns + (srcColumns == 1 ? 0 : c));
  ascsim::adv::Move how;
  how.steps = columns * sizeof(P) % 32 == 0 ? "B" : "Bg";
  how.tmp = tmp.get();
  // A block per source element, and bytes widened to half.
  how.tmpBytes = srcColumns == 1 && columns != 1 ? (sizeof(P) == 1 ? 2 : 1) * 256ull : 0;
  ascsim::adv::rearrange(ascsim::adv::arg(dst), ascsim::adv::arg(src), map, how);
}
}  // namespace detail
#define ASCSIM_ADV_BROADCAST(name)                                                               \
  template <class T, int32_t dim, int32_t axis, bool isReuseSource = false>                      \
  void name(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,                      \
            const uint32_t* dstShape, const uint32_t* srcShape,                                  \
            const LocalTensor<uint8_t>& sharedTmpBuffer, Loc loc = Loc::current()) {             \
    detail::broadcastCall<T, dim, axis>(dstLocal, srcLocal, dstShape, srcShape, sharedTmpBuffer, \
                                        loc);                                                    \
  }                                                                                              \
  template <class T, int32_t dim, int32_t axis, bool isReuseSource = false>                      \
  void name(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,                      \
            const uint32_t* dstShape, const uint32_t* srcShape, Loc loc = Loc::current()) {      \
    detail::broadcastCall<T, dim, axis>(dstLocal, srcLocal, dstShape, srcShape, {}, loc);        \
  }
ASCSIM_ADV_BROADCAST(Broadcast)
ASCSIM_ADV_BROADCAST(BroadCast)
#undef ASCSIM_ADV_BROADCAST

// ------------------------------------------------------------------------------------- Pad, UnPad
struct PadParams {
  uint16_t leftPad = 0;
  uint16_t rightPad = 0;
  int32_t padValue = 0;
};
struct UnPadParams {
  uint16_t leftPad = 0;
  uint16_t rightPad = 0;
};
namespace detail {
template <class T>
constexpr void padTypes() {
  using P = PrimT<T>;
  static_assert((std::is_integral_v<P> && (sizeof(P) == 2 || sizeof(P) == 4)) ||
                    ascsim::adv::isHalfOrFloat<P>,
                "Pad and UnPad: 16- and 32-bit integers, half and float are supported");
}
template <class T>
void padCall(const LocalTensor<T>& dst, const LocalTensor<T>& src, const PadParams& p,
             const ascsim::adv::Tmp& tmp, const PadTiling& t, const Loc& loc) {
  padTypes<T>();
  using P = PrimT<T>;
  ascsim::Api api("Pad", loc);
  if (ascsim::isAic()) return;
  const uint32_t block = 32 / sizeof(P), width = (t.srcWidth + block - 1) / block * block;
  const bool filled = t.srcWidth % block == 0;
  if (t.srcOriWidth + p.leftPad + p.rightPad > width || (filled && p.leftPad != 0))
    ascsim::fail(ascsim::kParam,
                 "pads %u columns by %u and %u; %u columns are the most, and full rows are padded "
                 "on the right only",
                 t.srcOriWidth, p.leftPad, p.rightPad, width);
  std::vector<int64_t> map(static_cast<uint64_t>(t.srcHeight) * width, ascsim::adv::kFill);
  for (uint64_t r = 0; r < t.srcHeight; ++r)
    for (uint64_t c = 0; c < t.srcOriWidth; ++c)
      map[r * width + p.leftPad + c] = static_cast<int64_t>(r * t.srcWidth + c);
  ascsim::adv::Move how;
  how.steps = filled ? "D" : "TyT";
  how.tmp = tmp.get();
  how.tmpBytes = filled ? 0 : ascsim::adv::padTmp(width, sizeof(P));
  const P fill = static_cast<P>(p.padValue);
  __builtin_memcpy(&how.fill, &fill, sizeof(P));
  ascsim::adv::rearrange(ascsim::adv::arg(dst), ascsim::adv::arg(src), map, how);
}
template <class T>
void unPadCall(const LocalTensor<T>& dst, const LocalTensor<T>& src, const UnPadParams& p,
               const ascsim::adv::Tmp& tmp, const UnPadTiling& t, const Loc& loc) {
  padTypes<T>();
  using P = PrimT<T>;
  ascsim::Api api("UnPad", loc);
  if (ascsim::isAic()) return;
  if (t.srcWidth * sizeof(P) % 32 != 0 || p.rightPad == 0 || p.rightPad * sizeof(P) >= 32 ||
      p.rightPad >= t.srcWidth)
    ascsim::fail(ascsim::kParam,
                 "takes %u of %u columns; rows must fill 32-byte blocks and rightPad be over 0 and "
                 "under 32 bytes",
                 p.rightPad, t.srcWidth);
  const uint32_t width = t.srcWidth - p.rightPad;
  std::vector<int64_t> map(static_cast<uint64_t>(t.srcHeight) * width);
  for (uint64_t r = 0; r < t.srcHeight; ++r)
    for (uint64_t c = 0; c < width; ++c)
      map[r * width + c] = static_cast<int64_t>(r * t.srcWidth + c);
  // The last block is written in full.
  while (map.size() * sizeof(P) % 32 != 0) map.push_back(ascsim::adv::kFill);
  ascsim::adv::Move how;
  how.steps = "TyT";
  how.tmp = tmp.get();
  how.tmpBytes = ascsim::adv::padTmp(t.srcWidth, sizeof(P));
  ascsim::adv::rearrange(ascsim::adv::arg(dst), ascsim::adv::arg(src), map, how);
}
}  // namespace detail
template <class T>
void Pad(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
         const PadParams& padParams, const LocalTensor<uint8_t>& sharedTmpBuffer,
         const PadTiling& tiling, Loc loc = Loc::current()) {
  detail::padCall(dstTensor, srcTensor, padParams, sharedTmpBuffer, tiling, loc);
}
template <class T>
void Pad(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
         const PadParams& padParams, const PadTiling& tiling, Loc loc = Loc::current()) {
  detail::padCall(dstTensor, srcTensor, padParams, {}, tiling, loc);
}
template <class T>
void UnPad(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
           const UnPadParams& unPadParams, const LocalTensor<uint8_t>& sharedTmpBuffer,
           const UnPadTiling& tiling, Loc loc = Loc::current()) {
  detail::unPadCall(dstTensor, srcTensor, unPadParams, sharedTmpBuffer, tiling, loc);
}
template <class T>
void UnPad(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
           const UnPadParams& unPadParams, const UnPadTiling& tiling, Loc loc = Loc::current()) {
  detail::unPadCall(dstTensor, srcTensor, unPadParams, {}, tiling, loc);
}

// -------------------------------------------------------------------------------------- Transpose
namespace detail {
template <class T>
void transposeCall(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                   const ascsim::adv::Tmp& tmp, TransposeType type,
                   const ConfusionTransposeTiling& t, const Loc& loc) {
  padTypes<T>();
  ascsim::Api api("Transpose", loc);
  if (ascsim::isAic()) return;
  const uint32_t kind = static_cast<uint32_t>(type);
  if (kind < 1 || kind > 7)
    ascsim::fail(ascsim::kChip, "TransposeType %u is not supported on this chip; 1 to 7 are", kind);
  // The tiling holds the shape: batch, heads, rows, columns per head; of type 7: rows, columns.
  const uint32_t b = t.param0, n = t.param1, s = t.param2, hn = t.param3;
  if (kind == 7 ? n % 16 != 0 || s % 16 != 0 || n == 0 || s == 0
                : b == 0 || n == 0 || s % 16 != 0 || s == 0 || hn == 0)
    ascsim::fail(
        ascsim::kParam,
        "the tiling describes %u, %u, %u, %u; rows and, of type 7, columns must be multiples of 16",
        b, n, s, hn);
  ascsim::adv::Move how;
  how.steps = kind == 7 ? "" : kind <= 2 ? "T" : "yT";
  how.tmp = tmp.get();
  how.overlap = false;
  how.tmpBytes = kind == 7 ? 0 : (kind <= 2 ? 1ull : 2ull) * s * 16 * sizeof(PrimT<T>);
  ascsim::adv::rearrange(ascsim::adv::arg(dst), ascsim::adv::arg(src),
                         ascsim::adv::transposeMap(kind, b, n, s, hn), how);
}
}  // namespace detail
#define ASCSIM_ADV_TRANSPOSE(name)                                                             \
  template <class T>                                                                           \
  void name(const LocalTensor<T>& dst, const LocalTensor<T>& src,                              \
            const LocalTensor<uint8_t>& sharedTmpBuffer, TransposeType transposeType,          \
            const ConfusionTransposeTiling& tiling, Loc loc = Loc::current()) {                \
    detail::transposeCall(dst, src, sharedTmpBuffer, transposeType, tiling, loc);              \
  }                                                                                            \
  template <class T>                                                                           \
  void name(const LocalTensor<T>& dst, const LocalTensor<T>& src, TransposeType transposeType, \
            const ConfusionTransposeTiling& tiling, Loc loc = Loc::current()) {                \
    detail::transposeCall(dst, src, {}, transposeType, tiling, loc);                           \
  }
ASCSIM_ADV_TRANSPOSE(Transpose)
ASCSIM_ADV_TRANSPOSE(ConfusionTranspose)
#undef ASCSIM_ADV_TRANSPOSE

// -------------------------------------------------------------------------------------- TransData
#ifndef ASCSIM_TRANSDATA_CONFIG
#define ASCSIM_TRANSDATA_CONFIG
struct TransDataConfig {
  DataFormat srcFormat;
  DataFormat dstFormat;
};
#endif
template <class T, class U>
struct TransDataParams {
  T srcLayout;
  U dstLayout;
};
namespace detail {
template <const TransDataConfig& config, class T, class U, class S>
void transDataCall(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                   const ascsim::adv::Tmp& tmp, const TransDataParams<U, S>& params,
                   const Loc& loc) {
  using P = PrimT<T>;
  using Kind = ascsim::adv::TransDataKind;
  static_assert(sizeof(P) == 2 && (std::is_integral_v<P> || std::is_same_v<P, half> ||
                                   std::is_same_v<P, bfloat16_t>),
                "TransData: int16_t, uint16_t, half and bfloat16_t are supported");
  constexpr bool forward = config.srcFormat == DataFormat::NCDHW;
  constexpr DataFormat other = forward ? config.dstFormat : config.srcFormat;
  static_assert((forward || config.dstFormat == DataFormat::NCDHW) &&
                    (other == DataFormat::NDC1HWC0 || other == DataFormat::FRACTAL_Z_3D),
                "TransData: between NCDHW and NDC1HWC0 or FRACTAL_Z_3D");
  ascsim::Api api("TransData", loc);
  if (ascsim::isAic()) return;
  uint32_t v[5];
  const auto take = [&](const auto& shape) {
    static_assert(std::tuple_size_v<std::decay_t<decltype(shape)>> == 5,
                  "TransData: the layout of NCDHW has 5 dimensions");
    std::apply(
        [&](const auto&... d) {
          int k = 0;
          ((v[k++] = static_cast<uint32_t>(d)), ...);
        },
        shape);
  };
  if constexpr (forward)
    take(params.srcLayout.GetShape());
  else
    take(params.dstLayout.GetShape());
  constexpr Kind kind = other == DataFormat::NDC1HWC0
                            ? (forward ? Kind::ToNdc1hwc0 : Kind::FromNdc1hwc0)
                            : (forward ? Kind::ToFractalZ3d : Kind::FromFractalZ3d);
  ascsim::adv::Move how;
  how.steps = "Ty";
  how.tmp = tmp.get();
  how.tmpBytes = ascsim::adv::transDataTmp(kind, v[0], v[1], v[2], v[3], v[4], sizeof(P));
  uint64_t elements = 0;
  ascsim::adv::rearrange(ascsim::adv::arg(dst), ascsim::adv::arg(src),
                         ascsim::adv::transDataMap(kind, v[0], v[1], v[2], v[3], v[4], &elements),
                         how);
}
}  // namespace detail
template <const TransDataConfig& config, class T, class U, class S>
void TransData(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
               const LocalTensor<uint8_t>& sharedTmpBuffer, const TransDataParams<U, S>& params,
               Loc loc = Loc::current()) {
  detail::transDataCall<config>(dstTensor, srcTensor, sharedTmpBuffer, params, loc);
}
template <const TransDataConfig& config, class T, class U, class S>
void TransData(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
               const TransDataParams<U, S>& params, Loc loc = Loc::current()) {
  detail::transDataCall<config>(dstTensor, srcTensor, {}, params, loc);
}

// ------------------------------------------------------------------------------------ Arange, Fill
#define ASCSIM_ADV_ARANGE(name)                                                                    \
  template <class T>                                                                               \
  void name(const LocalTensor<T>& dst, const PrimT<T> firstValue, const PrimT<T> diffValue,        \
            const int32_t count, Loc loc = Loc::current()) {                                       \
    using P = PrimT<T>;                                                                            \
    static_assert(                                                                                 \
        std::is_same_v<P, int16_t> || std::is_same_v<P, int32_t> || ascsim::adv::isHalfOrFloat<P>, \
        #name ": int16_t, half, int32_t and float are supported on this chip");                    \
    ascsim::Api api(#name, loc);                                                                   \
    if (ascsim::isAic()) return;                                                                   \
    if (count <= 0) ascsim::fail(ascsim::kParam, "count is %d; it must be over 0", count);         \
    ascsim::adv::arange(ascsim::adv::arg(dst), static_cast<double>(firstValue),                    \
                        static_cast<double>(diffValue), static_cast<uint32_t>(count));             \
  }
ASCSIM_ADV_ARANGE(Arange)
ASCSIM_ADV_ARANGE(ArithProgression)
#undef ASCSIM_ADV_ARANGE

#define ASCSIM_ADV_FILL(name)                                                                    \
  template <class T>                                                                             \
  void name(const GlobalTensor<T>& gmWorkspaceAddr, const uint64_t size, const PrimT<T> value,   \
            Loc loc = Loc::current()) {                                                          \
    using P = PrimT<T>;                                                                          \
    static_assert((std::is_integral_v<P> && (sizeof(P) == 2 || sizeof(P) == 4)) ||               \
                      ascsim::adv::isHalfOrFloat<P>,                                             \
                  #name ": 16- and 32-bit integers, half and float are supported on this chip"); \
    ascsim::Api api(#name, loc);                                                                 \
    if (ascsim::isAic()) return;                                                                 \
    uint64_t bits = 0;                                                                           \
    __builtin_memcpy(&bits, &value, sizeof(P));                                                  \
    ascsim::adv::fillGlobal(gmWorkspaceAddr.place(), size, bits, ascsim::dtypeOf<P>());          \
  }
ASCSIM_ADV_FILL(Fill)
ASCSIM_ADV_FILL(InitGlobalMemory)
#undef ASCSIM_ADV_FILL

// --------------------------------------------------------------------------------- Select, DropOut
struct SelectWithBytesMaskShapeInfo {
  SelectWithBytesMaskShapeInfo() {}
  uint32_t firstAxis = 0;
  uint32_t srcLastAxis = 0;
  uint32_t maskLastAxis = 0;
};
struct DropOutShapeInfo {
  DropOutShapeInfo() {}
  uint32_t firstAxis = 0;
  uint32_t srcLastAxis = 0;
  uint32_t maskLastAxis = 0;
};
namespace detail {
template <class T, class U>
void selectBytesCall(const LocalTensor<T>& dst, const LocalTensor<T>* src0,
                     const LocalTensor<T>* src1, float scalar, const LocalTensor<U>& mask,
                     const ascsim::adv::Tmp& tmp, const SelectWithBytesMaskShapeInfo& info,
                     bool reuseMask, const Loc& loc) {
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>>,
                "Select with a byte mask: half and float are supported");
  static_assert(std::is_integral_v<PrimT<U>> && sizeof(PrimT<U>) <= 4,
                "Select: the mask is bool or an integer of up to 32 bits");
  ascsim::Api api("Select", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::Arg a, b;
  if (src0 != nullptr) a = ascsim::adv::arg(*src0);
  if (src1 != nullptr) b = ascsim::adv::arg(*src1);
  ascsim::adv::selectBytes(ascsim::adv::arg(dst), src0 != nullptr ? &a : nullptr,
                           src1 != nullptr ? &b : nullptr, scalar, ascsim::adv::arg(mask),
                           tmp.get(), info.firstAxis, info.srcLastAxis, info.maskLastAxis,
                           reuseMask);
}
template <class T, bool isInitBitMode, uint32_t mode>
void dropOutCall(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                 const LocalTensor<uint8_t>& mask, const ascsim::adv::Tmp& tmp, float keepProb,
                 const DropOutShapeInfo& info, const Loc& loc) {
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>>,
                "DropOut: half and float are supported on this chip");
  static_assert(mode <= 4, "DropOut: dropOutMode is 0 to 4");
  ascsim::Api api("DropOut", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::dropOut(ascsim::adv::arg(dst), ascsim::adv::arg(src), ascsim::adv::arg(mask),
                       tmp.get(), keepProb, mode, info.firstAxis, info.srcLastAxis,
                       info.maskLastAxis);
}
}  // namespace detail
#define ASCSIM_ADV_SELECT(name)                                                        \
  template <class T, class U, bool isReuseMask = true>                                 \
  void name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, PrimT<T> src1,      \
            const LocalTensor<U>& mask, const LocalTensor<uint8_t>& sharedTmpBuffer,   \
            const SelectWithBytesMaskShapeInfo& info, Loc loc = Loc::current()) {      \
    detail::selectBytesCall<T, U>(dst, &src0, nullptr, static_cast<float>(src1), mask, \
                                  sharedTmpBuffer, info, isReuseMask, loc);            \
  }                                                                                    \
  template <class T, class U, bool isReuseMask = true>                                 \
  void name(const LocalTensor<T>& dst, PrimT<T> src0, const LocalTensor<T>& src1,      \
            const LocalTensor<U>& mask, const LocalTensor<uint8_t>& sharedTmpBuffer,   \
            const SelectWithBytesMaskShapeInfo& info, Loc loc = Loc::current()) {      \
    detail::selectBytesCall<T, U>(dst, nullptr, &src1, static_cast<float>(src0), mask, \
                                  sharedTmpBuffer, info, isReuseMask, loc);            \
  }
ASCSIM_ADV_SELECT(Select)
ASCSIM_ADV_SELECT(SelectWithBytesMask)
#undef ASCSIM_ADV_SELECT
template <class T, bool isInitBitMode = false, uint32_t dropOutMode = 0>
void DropOut(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,
             const LocalTensor<uint8_t>& maskLocal, const float keepProb,
             const DropOutShapeInfo& info, Loc loc = Loc::current()) {
  detail::dropOutCall<T, isInitBitMode, dropOutMode>(dstLocal, srcLocal, maskLocal, {}, keepProb,
                                                     info, loc);
}
template <class T, bool isInitBitMode = false, uint32_t dropOutMode = 0>
void DropOut(const LocalTensor<T>& dstLocal, const LocalTensor<T>& srcLocal,
             const LocalTensor<uint8_t>& maskLocal, const LocalTensor<uint8_t>& sharedTmpBuffer,
             const float keepProb, const DropOutShapeInfo& info, Loc loc = Loc::current()) {
  detail::dropOutCall<T, isInitBitMode, dropOutMode>(dstLocal, srcLocal, maskLocal, sharedTmpBuffer,
                                                     keepProb, info, loc);
}

}  // namespace AscendC
