// Conversions between element types, and the scale register of dequantisation.
#pragma once
#include "ascsim/vec_ctrl.h"

namespace AscendC {

enum class RoundMode {
  CAST_NONE = 0,
  CAST_RINT,
  CAST_FLOOR,
  CAST_CEIL,
  CAST_ROUND,
  CAST_TRUNC,
  CAST_ODD,
  CAST_HYBRID
};

struct VdeqInfo {
  VdeqInfo() = default;
  VdeqInfo(const float vdeqScaleIn[16], const int16_t vdeqOffsetIn[16],
           const bool vdeqSignModeIn[16]) {
    for (int i = 0; i < 16; ++i) {
      vdeqScale[i] = vdeqScaleIn[i];
      vdeqOffset[i] = vdeqOffsetIn[i];
      vdeqSignMode[i] = vdeqSignModeIn[i];
    }
  }
  float vdeqScale[16] = {};
  int16_t vdeqOffset[16] = {};
  bool vdeqSignMode[16] = {};
};

}  // namespace AscendC

namespace ascsim {

// Bit m is set if rounding mode m is documented for the pair; 0: there is no such conversion.
constexpr uint32_t castModes(DType from, DType to) {
  constexpr uint32_t none = 1, all = 0x3f, odd = 0x40, some = 0x3e;
  switch (from) {
    case DType::I4:
    case DType::I8:
    case DType::U8:
      return to == DType::F16 ? none : 0;
    case DType::I16:
      return to == DType::F16 ? all : to == DType::F32 ? none : 0;
    case DType::F16:
      switch (to) {
        case DType::I4:
        case DType::I8:
        case DType::U8:
          return all;
        case DType::I16:
        case DType::I32:
          return some;
        case DType::F32:
          return none;
        default:
          return 0;
      }
    case DType::BF16:
      return to == DType::I32 ? some : to == DType::F32 ? none : 0;
    case DType::I32:
      switch (to) {
        case DType::I16:
        case DType::I64:
          return none;
        case DType::F16:
          return 0xff;  // the mode has no effect
        case DType::F32:
          return all;
        default:
          return 0;
      }
    case DType::F32:
      switch (to) {
        case DType::F16:
          return all | odd;
        case DType::I16:
        case DType::BF16:
        case DType::I32:
        case DType::F32:
        case DType::I64:
          return some;
        default:
          return 0;
      }
    case DType::I64:
      return to == DType::I32 ? none : to == DType::F32 ? some : 0;
    default:
      return 0;
  }
}

// Checks the mode; fills in the scale of int32_t to half.
Vec castVec(DType dst, DType src, AscendC::RoundMode mode);
// 4-bit elements in pairs, each pair one element.
Lanes pairLanes(const Lanes& lanes);
float deqScaleHalf();  // of SetDeqScale(half); an error if it was not called

template <class T>
constexpr uint32_t castBytes() {
  return std::is_same_v<T, int4b_t> ? 1 : sizeof(T);
}
// Also pairs: an element is two values then.
template <class T, class U>
void runCast(Vec v, const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<U>& src,
             const Lanes& l, const AscendC::UnaryRepeatParams& p) {
  using D = AscendC::PrimT<T>;
  using S = AscendC::PrimT<U>;
  v.dst = operandOf(dst, p.dstBlkStride, p.dstRepStride);
  v.src[0] = operandOf(src, p.srcBlkStride, p.srcRepStride);
  if constexpr (std::is_same_v<D, int4b_t> || std::is_same_v<S, int4b_t>) {
    v.dst.elementBytes = std::is_same_v<D, int4b_t> ? 1 : 2 * sizeof(D);
    v.src[0].elementBytes = std::is_same_v<S, int4b_t> ? 1 : 2 * sizeof(S);
    runVec(v, pairLanes(l));
  } else {
    runVec(v, l);
  }
}
template <class T, class U>
constexpr void takesCast() {
  static_assert(castModes(dtypeOf<AscendC::PrimT<U>>(), dtypeOf<AscendC::PrimT<T>>()) != 0,
                "Cast: this chip has no conversion from the source's type to the destination's "
                "(docs: Cast, table of types)");
}

void setDeqScale(float scale, DeqKind kind, int16_t offset, bool signMode);
void setDeqTensor(const Place& vdeq, const AscendC::VdeqInfo& info);
// int16_t to 8 bits, into one half of each block of 32 bytes.
void castDequant8(const Operand& dst, const Operand& src, const Lanes& lanes, bool isVecDeq,
                  bool halfBlock, bool isSigned);

}  // namespace ascsim

namespace AscendC {

template <class T, class U>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& roundMode,
          const uint32_t count, Loc loc = Loc::current()) {
  ascsim::takesCast<T, U>();
  ASCSIM_VEC_CALL("Cast");
  const ascsim::Lanes l = ascsim::lanesForCount(true, count, ascsim::widest<T, U>);
  // Bytes of a repeat; 4-bit elements take half a byte.
  constexpr uint32_t d = std::is_same_v<PrimT<T>, int4b_t> ? 1 : 2 * sizeof(PrimT<T>);
  constexpr uint32_t s = std::is_same_v<PrimT<U>, int4b_t> ? 1 : 2 * sizeof(PrimT<U>);
  ascsim::runCast(
      ascsim::castVec(ascsim::dtypeOf<PrimT<T>>(), ascsim::dtypeOf<PrimT<U>>(), roundMode), dst,
      src, l,
      UnaryRepeatParams(1, 1, static_cast<uint8_t>(l.lanes * d / 64),
                        static_cast<uint8_t>(l.lanes * s / 64)));
}
#define ASCSIM_CAST(MASK)                                                                          \
  template <class T, class U, bool isSetMask = true>                                               \
  void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& roundMode,      \
            MASK, const int32_t repeatTime, const UnaryRepeatParams& repeatParams,                 \
            Loc loc = Loc::current()) {                                                            \
    ascsim::takesCast<T, U>();                                                                     \
    ASCSIM_VEC_CALL("Cast");                                                                       \
    ascsim::runCast(                                                                               \
        ascsim::castVec(ascsim::dtypeOf<PrimT<T>>(), ascsim::dtypeOf<PrimT<U>>(), roundMode), dst, \
        src, ASCSIM_MASK_LANES((ascsim::widest<T, U>)), repeatParams);                             \
  }
ASCSIM_CAST(ASCSIM_BITS)
ASCSIM_CAST(ASCSIM_LENGTH)
#undef ASCSIM_CAST

inline void SetDeqScale(half scale, Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("SetDeqScale");
  ascsim::setDeqScale(static_cast<float>(scale), ascsim::DeqKind::Half, 0, true);
}
inline void SetDeqScale(float scale, int16_t offset, bool signMode, Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("SetDeqScale");
  ascsim::setDeqScale(scale, ascsim::DeqKind::Value, offset, signMode);
}
template <class T>
void SetDeqScale(const LocalTensor<T>& vdeq, const VdeqInfo& vdeqInfo, Loc loc = Loc::current()) {
  ASCSIM_TAKES("SetDeqScale", T, uint64_t);
  ASCSIM_VEC_CALL("SetDeqScale");
  ascsim::setDeqTensor(vdeq.place(), vdeqInfo);
}

#define ASCSIM_CAST_DEQUANT(NAME)                                                                  \
  template <class T, class U, bool isVecDeq = true, bool halfBlock = true>                         \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src, const uint32_t count,            \
            Loc loc = Loc::current()) {                                                            \
    ASCSIM_VEC_CALL(#NAME);                                                                        \
    ascsim::dequantCall<isVecDeq, halfBlock>(                                                      \
        dst, src, ascsim::lanesForCount(true, count, sizeof(PrimT<U>)),                            \
        UnaryRepeatParams(1, 1, sizeof(PrimT<T>) == 1 ? 8 : 4, 8));                                \
  }                                                                                                \
  template <class T, class U, bool isSetMask = true, bool isVecDeq = true, bool halfBlock = true>  \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src, const uint64_t mask[],           \
            int32_t repeatTime, const UnaryRepeatParams& repeatParams, Loc loc = Loc::current()) { \
    ASCSIM_VEC_CALL(#NAME);                                                                        \
    ascsim::dequantCall<isVecDeq, halfBlock>(                                                      \
        dst, src, ascsim::lanesFor(isSetMask, mask, repeatTime, sizeof(PrimT<U>)), repeatParams);  \
  }                                                                                                \
  template <class T, class U, bool isSetMask = true, bool isVecDeq = true, bool halfBlock = true>  \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src, const int32_t mask,              \
            int32_t repeatTime, const UnaryRepeatParams& repeatParams, Loc loc = Loc::current()) { \
    ASCSIM_VEC_CALL(#NAME);                                                                        \
    ascsim::dequantCall<isVecDeq, halfBlock>(                                                      \
        dst, src,                                                                                  \
        ascsim::lanesFor(isSetMask, static_cast<int64_t>(mask), repeatTime, sizeof(PrimT<U>)),     \
        repeatParams);                                                                             \
  }

}  // namespace AscendC

namespace ascsim {
template <bool isVecDeq, bool halfBlock, class T, class U>
void dequantCall(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<U>& src,
                 const Lanes& l, const AscendC::UnaryRepeatParams& p) {
  using D = AscendC::PrimT<T>;
  using S = AscendC::PrimT<U>;
  constexpr bool toHalf = std::is_same_v<D, half> && std::is_same_v<S, int32_t>;
  constexpr bool to8 = isOneOf<D, int8_t, uint8_t> && std::is_same_v<S, int16_t>;
  static_assert(toHalf || to8,
                "CastDequant converts int32_t to half, or int16_t to int8_t or uint8_t");
  if constexpr (toHalf)
    runCast(castVec(DType::F16, DType::I32, AscendC::RoundMode::CAST_NONE), dst, src, l, p);
  else
    castDequant8(operandOf(dst, p.dstBlkStride, p.dstRepStride),
                 operandOf(src, p.srcBlkStride, p.srcRepStride), l, isVecDeq, halfBlock,
                 std::is_signed_v<D>);
}
}  // namespace ascsim

namespace AscendC {
ASCSIM_CAST_DEQUANT(CastDequant)
ASCSIM_CAST_DEQUANT(CastDeq)
#undef ASCSIM_CAST_DEQUANT
}  // namespace AscendC
