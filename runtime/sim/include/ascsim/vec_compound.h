// Compound calls: multiply-add, and arithmetic with a conversion.
#pragma once
#include "ascsim/vec_arith.h"
#include "ascsim/vec_cast.h"

namespace ascsim {
template <class T, class U>
inline constexpr bool multiplyAddTypes = (std::is_same_v<T, U> && isOneOf<T, half, float>) ||
                                         (std::is_same_v<T, float> && std::is_same_v<U, half>);
template <class T, class U>
inline constexpr bool reluCastTypes = (std::is_same_v<T, int8_t> && isOneOf<U, half, int16_t>) ||
                                      (std::is_same_v<T, half> && std::is_same_v<U, float>);
template <class T, class U>
inline constexpr bool mulCastTypes = isOneOf<T, int8_t, uint8_t> && std::is_same_v<U, half>;
template <class T, class U>
inline constexpr bool deqReluTypes = std::is_same_v<T, half> && std::is_same_v<U, int32_t>;

template <class T, class U>
Vec axpyVec(AscendC::PrimT<U> scalar) {
  Vec v = vec1<T, U>(VecOp::Axpy, "vaxpy");
  v.readsDst = true;
  setScalar(v, scalar);
  return v;
}
template <class T, class U>
Vec deqReluVec() {
  Vec v = vec1<T, U>(VecOp::AddDeqRelu, "vaddreluconv");
  v.f = deqScaleHalf();
  return v;
}
}  // namespace ascsim

namespace AscendC {

template <class T, class U>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src,
          const ascsim::Given<PrimT<U>>& scalarValue, const int32_t& count,
          Loc loc = Loc::current()) {
  static_assert(ascsim::multiplyAddTypes<PrimT<T>, PrimT<U>>,
                "Axpy takes half, float, or half with a float destination");
  ASCSIM_VEC_CALL("Axpy");
  ascsim::unaryCount(ascsim::axpyVec<T, U>(scalarValue), dst, src, count);
}
#define ASCSIM_AXPY(MASK)                                                               \
  template <class T, class U, bool isSetMask = true>                                    \
  void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src,                       \
            const ascsim::Given<PrimT<U>>& scalarValue, MASK, const int32_t repeatTime, \
            const UnaryRepeatParams& repeatParams, Loc loc = Loc::current()) {          \
    static_assert(ascsim::multiplyAddTypes<PrimT<T>, PrimT<U>>,                         \
                  "Axpy takes half, float, or half with a float destination");          \
    ASCSIM_VEC_CALL("Axpy");                                                            \
    ascsim::unaryRepeat(ascsim::axpyVec<T, U>(scalarValue), dst, src,                   \
                        ASCSIM_MASK_LANES((ascsim::widest<T, U>)), repeatParams);       \
  }
ASCSIM_AXPY(ASCSIM_BITS)
ASCSIM_AXPY(ASCSIM_LENGTH)
#undef ASCSIM_AXPY

// Two sources of one type, a destination of another one. Masks count the wider type.
#define ASCSIM_MIXED_REPEAT(NAME, TYPES, VEC, MASK)                                            \
  template <class T, class U, bool isSetMask = true>                                           \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1, \
            MASK, const int32_t repeatTime, const BinaryRepeatParams& repeatParams,            \
            Loc loc = Loc::current()) {                                                        \
    static_assert(ascsim::TYPES<PrimT<T>, PrimT<U>>,                                           \
                  #NAME " does not take these types on this chip");                            \
    ASCSIM_VEC_CALL(#NAME);                                                                    \
    ascsim::binaryRepeat(VEC, dst, src0, src1, ASCSIM_MASK_LANES((ascsim::widest<T, U>)),      \
                         repeatParams);                                                        \
  }
#define ASCSIM_MIXED(NAME, TYPES, VEC, COUNT)                                                  \
  template <class T, class U>                                                                  \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1, \
            COUNT count, Loc loc = Loc::current()) {                                           \
    static_assert(ascsim::TYPES<PrimT<T>, PrimT<U>>,                                           \
                  #NAME " does not take these types on this chip");                            \
    ASCSIM_VEC_CALL(#NAME);                                                                    \
    ascsim::binaryCount(VEC, dst, src0, src1, count);                                          \
  }                                                                                            \
  ASCSIM_MIXED_REPEAT(NAME, TYPES, VEC, ASCSIM_BITS)                                           \
  ASCSIM_MIXED_REPEAT(NAME, TYPES, VEC, ASCSIM_LENGTH)

ASCSIM_MIXED(MulAddDst, multiplyAddTypes,
             (ascsim::vec2<T, U>(ascsim::VecOp::MulAddDst, "vmla", true, false)), const int32_t&)
ASCSIM_MIXED(AddReluCast, reluCastTypes,
             (ascsim::vec2<T, U>(ascsim::VecOp::AddRelu, "vaddreluconv", false, false)),
             const uint32_t)
ASCSIM_MIXED(SubReluCast, reluCastTypes,
             (ascsim::vec2<T, U>(ascsim::VecOp::SubRelu, "vsubreluconv", false, false)),
             const uint32_t)
ASCSIM_MIXED(MulCast, mulCastTypes,
             (ascsim::vec2<T, U>(ascsim::VecOp::Mul, "vmulconv", false, false)), uint32_t)
ASCSIM_MIXED(AddDeqRelu, deqReluTypes, (ascsim::deqReluVec<T, U>()), const int32_t&)
#undef ASCSIM_MIXED
#undef ASCSIM_MIXED_REPEAT

// Without type arguments, only the mask flag.
template <bool isSetMask>
void AddDeqRelu(const LocalTensor<half>& dst, const LocalTensor<int32_t>& src0,
                const LocalTensor<int32_t>& src1, const uint64_t mask[], const int32_t repeatTime,
                const BinaryRepeatParams& repeatParams, Loc loc = Loc::current()) {
  AddDeqRelu<half, int32_t, isSetMask>(dst, src0, src1, mask, repeatTime, repeatParams, loc);
}
template <bool isSetMask>
void AddDeqRelu(const LocalTensor<half>& dst, const LocalTensor<int32_t>& src0,
                const LocalTensor<int32_t>& src1, uint64_t mask, const int32_t repeatTime,
                const BinaryRepeatParams& repeatParams, Loc loc = Loc::current()) {
  AddDeqRelu<half, int32_t, isSetMask>(dst, src0, src1, mask, repeatTime, repeatParams, loc);
}

}  // namespace AscendC
