// Arithmetic, logic and shifts: one tensor, two tensors, a tensor and a scalar.
#pragma once
#include "ascsim/vec_core.h"

namespace ascsim {

// carries: this API lets an earlier repeat's result be a later one's second source.
template <class D, class S>
Vec vec2(VecOp op, const char* mnemonic, bool readsDst, bool carries) {
  Vec v = vec1<D, S>(op, mnemonic);
  v.readsDst = readsDst;
  v.carries =
      carries && (v.srcType == DType::F16 || v.srcType == DType::F32 || v.srcType == DType::I32);
  return v;
}

template <class T>
Vec scalarVec(VecOp op, const char* mnemonic, AscendC::PrimT<T> scalar) {
  Vec v = vec1<T, T>(op, mnemonic);
  setScalar(v, scalar);
  if (op == VecOp::Shl || op == VecOp::Shr || op == VecOp::ShrRound)
    checkRange("the shift distance", v.i, 0, sizeof(AscendC::PrimT<T>) * 8);
  return v;
}

}  // namespace ascsim

namespace AscendC {

// Two forms with mask and repeat times, one by bits and one by length.
#define ASCSIM_UNARY_REPEAT(NAME, MNEMONIC, OP, MASK, ...)                                        \
  template <class T, bool isSetMask = true>                                                       \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, MASK, const int32_t repeatTime, \
            const UnaryRepeatParams& repeatParams, Loc loc = Loc::current()) {                    \
    ASCSIM_TAKES(#NAME, T, __VA_ARGS__);                                                          \
    ASCSIM_VEC_CALL(#NAME);                                                                       \
    ascsim::unaryRepeat(ascsim::vec1<T, T>(ascsim::VecOp::OP, MNEMONIC), dst, src,                \
                        ASCSIM_MASK_LANES(sizeof(PrimT<T>)), repeatParams);                       \
  }
#define ASCSIM_UNARY(NAME, MNEMONIC, OP, ...)                                             \
  template <class T>                                                                      \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t& count,   \
            Loc loc = Loc::current()) {                                                   \
    ASCSIM_TAKES(#NAME, T, __VA_ARGS__);                                                  \
    ASCSIM_VEC_CALL(#NAME);                                                               \
    ascsim::unaryCount(ascsim::vec1<T, T>(ascsim::VecOp::OP, MNEMONIC), dst, src, count); \
  }                                                                                       \
  ASCSIM_UNARY_REPEAT(NAME, MNEMONIC, OP, ASCSIM_BITS, __VA_ARGS__)                       \
  ASCSIM_UNARY_REPEAT(NAME, MNEMONIC, OP, ASCSIM_LENGTH, __VA_ARGS__)

ASCSIM_UNARY(Exp, "vexp", Exp, half, float)
ASCSIM_UNARY(Ln, "vln", Ln, half, float)
ASCSIM_UNARY(Abs, "vabs", Abs, half, float)
ASCSIM_UNARY(Reciprocal, "vrec", Rec, half, float)
ASCSIM_UNARY(Sqrt, "vsqrt", Sqrt, half, float)
ASCSIM_UNARY(Rsqrt, "vrsqrt", Rsqrt, half, float)
ASCSIM_UNARY(Relu, "vrelu", Relu, half, int32_t, float)
ASCSIM_UNARY(Not, "vnot", Not, int16_t, uint16_t)
#undef ASCSIM_UNARY
#undef ASCSIM_UNARY_REPEAT

#define ASCSIM_BINARY_REPEAT(NAME, VEC, MASK, ...)                                                 \
  template <class T, bool isSetMask = true>                                                        \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,     \
            MASK, const int32_t repeatTime, const BinaryRepeatParams& repeatParams,                \
            Loc loc = Loc::current()) {                                                            \
    ASCSIM_TAKES(#NAME, T, __VA_ARGS__);                                                           \
    ASCSIM_VEC_CALL(#NAME);                                                                        \
    ascsim::binaryRepeat(VEC, dst, src0, src1, ASCSIM_MASK_LANES(sizeof(PrimT<T>)), repeatParams); \
  }
#define ASCSIM_BINARY_FORMS(NAME, VEC, ...)                                                    \
  template <class T>                                                                           \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, \
            const int32_t& count, Loc loc = Loc::current()) {                                  \
    ASCSIM_TAKES(#NAME, T, __VA_ARGS__);                                                       \
    ASCSIM_VEC_CALL(#NAME);                                                                    \
    ascsim::binaryCount(VEC, dst, src0, src1, count);                                          \
  }                                                                                            \
  ASCSIM_BINARY_REPEAT(NAME, VEC, ASCSIM_BITS, __VA_ARGS__)                                    \
  ASCSIM_BINARY_REPEAT(NAME, VEC, ASCSIM_LENGTH, __VA_ARGS__)
#define ASCSIM_BINARY(NAME, MNEMONIC, OP, CARRIES, ...)                                        \
  ASCSIM_BINARY_FORMS(NAME, (ascsim::vec2<T, T>(ascsim::VecOp::OP, MNEMONIC, false, CARRIES)), \
                      __VA_ARGS__)
#define ASCSIM_TERNARY(NAME, MNEMONIC, OP, ...)                                             \
  ASCSIM_BINARY_FORMS(NAME, (ascsim::vec2<T, T>(ascsim::VecOp::OP, MNEMONIC, true, false)), \
                      __VA_ARGS__)

ASCSIM_BINARY(Add, "vadd", Add, true, int16_t, half, int32_t, float)
ASCSIM_BINARY(Sub, "vsub", Sub, true, int16_t, half, int32_t, float)
ASCSIM_BINARY(Mul, "vmul", Mul, true, int16_t, half, int32_t, float)
ASCSIM_BINARY(Div, "vdiv", Div, false, half, float)
ASCSIM_BINARY(Max, "vmax", Max, true, int16_t, half, int32_t, float)
ASCSIM_BINARY(Min, "vmin", Min, true, int16_t, half, int32_t, float)
ASCSIM_BINARY(And, "vand", And, false, int16_t, uint16_t)
ASCSIM_BINARY(Or, "vor", Or, false, int16_t, uint16_t)
ASCSIM_BINARY(AddRelu, "vaddrelu", AddRelu, true, int16_t, half, float)
ASCSIM_BINARY(SubRelu, "vsubrelu", SubRelu, true, int16_t, half, float)
ASCSIM_TERNARY(FusedMulAdd, "vmadd", FusedMulAdd, half, float)
ASCSIM_TERNARY(MulAddRelu, "vmaddrelu", FusedMulAddRelu, half, float)
ASCSIM_TERNARY(FusedMulAddRelu, "vmaddrelu", FusedMulAddRelu, half, float)  // the older name
#undef ASCSIM_TERNARY
#undef ASCSIM_BINARY
#undef ASCSIM_BINARY_FORMS
#undef ASCSIM_BINARY_REPEAT

// A tensor and a scalar. A second set of overloads names the scalar's type as a template argument
// (for tensors of TensorTrait); its Later parameters rank it below the first.
#define ASCSIM_SCALAR_REPEAT(NAME, VEC, HEAD, CHECK, SCALAR, REPEAT, MASK, ROUND, ...)             \
  template <ASCSIM_UNWRAP HEAD, bool isSetMask = true ASCSIM_UNWRAP CHECK>                         \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const SCALAR& scalarValue, MASK, \
            REPEAT repeatTime, const UnaryRepeatParams& repeatParams ASCSIM_UNWRAP ROUND,          \
            Loc loc = Loc::current()) {                                                            \
    ASCSIM_TAKES(#NAME, T, __VA_ARGS__);                                                           \
    ASCSIM_VEC_CALL(#NAME);                                                                        \
    ascsim::unaryRepeat(VEC, dst, src, ASCSIM_MASK_LANES(sizeof(PrimT<T>)), repeatParams);         \
  }
#define ASCSIM_SCALAR_FORMS(NAME, VEC, ROUND, HEAD, CHECK, SCALAR, COUNT, REPEAT, COUNT_VEC, ...) \
  template <ASCSIM_UNWRAP HEAD, bool isSetMask = true ASCSIM_UNWRAP CHECK>                        \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const SCALAR& scalarValue,      \
            COUNT count, Loc loc = Loc::current()) {                                              \
    ASCSIM_TAKES(#NAME, T, __VA_ARGS__);                                                          \
    ASCSIM_VEC_CALL(#NAME);                                                                       \
    ascsim::unaryCount(COUNT_VEC, dst, src, count, isSetMask);                                    \
  }                                                                                               \
  ASCSIM_SCALAR_REPEAT(NAME, VEC, HEAD, CHECK, SCALAR, REPEAT, ASCSIM_BITS, ROUND, __VA_ARGS__)   \
  ASCSIM_SCALAR_REPEAT(NAME, VEC, HEAD, CHECK, SCALAR, REPEAT, ASCSIM_LENGTH, ROUND, __VA_ARGS__)
#define ASCSIM_SCALAR_BOTH(NAME, VEC, ROUND, COUNT_VEC, ...)                                    \
  ASCSIM_SCALAR_FORMS(NAME, VEC, ROUND, (class T), (), ascsim::Given<PrimT<T>>, const int32_t&, \
                      const int32_t, COUNT_VEC, __VA_ARGS__)                                    \
  ASCSIM_SCALAR_FORMS(NAME, VEC, ROUND, (class T, class U), (, SameScalar<T, U> = true), U,     \
                      ascsim::Later<int32_t>, ascsim::Later<int32_t>, COUNT_VEC, __VA_ARGS__)
#define ASCSIM_SCALAR_VEC(OP, MNEMONIC) \
  (ascsim::scalarVec<T>(ascsim::VecOp::OP, MNEMONIC, scalarValue))
#define ASCSIM_SCALAR(NAME, MNEMONIC, OP, ...)                                                   \
  ASCSIM_SCALAR_BOTH(NAME, ASCSIM_SCALAR_VEC(OP, MNEMONIC), (), ASCSIM_SCALAR_VEC(OP, MNEMONIC), \
                     __VA_ARGS__)
template <class T, class U>
using SameScalar = std::enable_if_t<std::is_same_v<PrimT<T>, U>, bool>;

ASCSIM_SCALAR(Adds, "vadds", Adds, int16_t, half, int32_t, float)
ASCSIM_SCALAR(Muls, "vmuls", Muls, int16_t, half, int32_t, float)
ASCSIM_SCALAR(Maxs, "vmaxs", Maxs, int16_t, half, int32_t, float)
ASCSIM_SCALAR(Mins, "vmins", Mins, int16_t, half, int32_t, float)
ASCSIM_SCALAR(LeakyRelu, "vlrelu", LeakyRelu, half, float)
ASCSIM_SCALAR(ShiftLeft, "vshl", Shl, int16_t, uint16_t, int32_t, uint32_t)
// The rounding flag has an effect on signed types only.
ASCSIM_SCALAR_BOTH(ShiftRight,
                   (ascsim::scalarVec<T>(roundEn && std::is_signed_v<PrimT<T>>
                                             ? ascsim::VecOp::ShrRound
                                             : ascsim::VecOp::Shr,
                                         "vshr", scalarValue)),
                   (, bool roundEn = false), ASCSIM_SCALAR_VEC(Shr, "vshr"), int16_t, uint16_t,
                   int32_t, uint32_t)
#undef ASCSIM_SCALAR
#undef ASCSIM_SCALAR_BOTH
#undef ASCSIM_SCALAR_FORMS
#undef ASCSIM_SCALAR_REPEAT
#undef ASCSIM_SCALAR_VEC

// Calls of chips of a later architecture.
#define ASCSIM_LATER_UNARY(NAME, MNEMONIC, OP, ...)                                       \
  template <class T>                                                                      \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,   \
            Loc loc = Loc::current()) {                                                   \
    ASCSIM_TAKES(#NAME, T, __VA_ARGS__);                                                  \
    ASCSIM_VEC_CALL(#NAME);                                                               \
    ascsim::needArch(3510, "use other vector calls");                                     \
    ascsim::unaryCount(ascsim::vec1<T, T>(ascsim::VecOp::OP, MNEMONIC), dst, src, count); \
  }
#define ASCSIM_LATER_BINARY(NAME, MNEMONIC, OP, ...)                                              \
  template <class T>                                                                              \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,    \
            const uint32_t count, Loc loc = Loc::current()) {                                     \
    ASCSIM_TAKES(#NAME, T, __VA_ARGS__);                                                          \
    ASCSIM_VEC_CALL(#NAME);                                                                       \
    ascsim::needArch(3510, "use other vector calls");                                             \
    ascsim::binaryCount(ascsim::vec2<T, T>(ascsim::VecOp::OP, MNEMONIC, false, false), dst, src0, \
                        src1, count);                                                             \
  }
ASCSIM_LATER_UNARY(Neg, "vmuls", Neg, int16_t, half, int32_t, float)
ASCSIM_LATER_BINARY(Prelu, "vprelu", Prelu, half, float)
ASCSIM_LATER_BINARY(AbsSub, "vsub", AbsSub, half, float)
#undef ASCSIM_LATER_UNARY
#undef ASCSIM_LATER_BINARY

}  // namespace AscendC
