// Comparing to bits, and selecting by bits.
#pragma once
#include "ascsim/vec_ctrl.h"

namespace AscendC {

enum class CMPMODE : uint8_t { LT = 0, GT, EQ, LE, GE, NE };
enum class SELMODE : uint8_t {
  VSEL_CMPMASK_SPR = 0,
  VSEL_TENSOR_SCALAR_MODE,
  VSEL_TENSOR_TENSOR_MODE
};

}  // namespace AscendC

namespace ascsim {

struct CompareArgs {
  AscendC::CMPMODE mode;
  DType type;
  Operand src0;
  Operand src1;
  bool scalar = false;  // the second operand is `f` or `i`
  float f = 0;
  int64_t i = 0;
};
// Whole repeats only: the instruction knows no mask. The bits follow each other over the repeats.
Lanes lanesOfCompare(int64_t count, uint32_t elementBytes);
Lanes lanesOfCompareRepeats(int64_t repeats, uint32_t elementBytes);
void compareToTensor(const CompareArgs& args, const Place& dst, const Lanes& lanes);
void compareToRegister(const CompareArgs& args, const Lanes& lanes);
void getCmpMask(const Place& dst);
void setCmpMask(const Place& src);

struct SelectArgs {
  AscendC::SELMODE mode;
  DType type;
  Operand dst;
  Operand src0;
  Operand src1;
  bool scalar = false;  // the second source is one value ...
  uint32_t value = 0;   // ... with these bits
  Place selMask;
  bool fromRegister = false;  // the mask (mode 0), its address (2) or the scalar (1) is in CmpMask
};
void selectLanes(SelectArgs args, const Lanes& lanes);

template <class T>
CompareArgs compareArgs(AscendC::CMPMODE mode, const Operand& src0) {
  CompareArgs a;
  a.mode = mode;
  a.type = dtypeOf<AscendC::PrimT<T>>();
  a.src0 = src0;
  return a;
}
template <class T>
void setCompareScalar(CompareArgs& a, T value) {
  a.scalar = true;
  if constexpr (std::is_integral_v<T>)
    a.i = value;
  else
    a.f = static_cast<float>(value);
}
template <class T>
SelectArgs selectArgs(AscendC::SELMODE mode, const Operand& dst, const Operand& src0) {
  SelectArgs a;
  a.mode = mode;
  a.type = dtypeOf<AscendC::PrimT<T>>();
  a.dst = dst;
  a.src0 = src0;
  return a;
}
template <class T>
void setSelectScalar(SelectArgs& a, T value) {
  a.scalar = true;
  __builtin_memcpy(&a.value, &value, sizeof(T));
}

}  // namespace ascsim

namespace AscendC {

template <class T, class U>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,
             CMPMODE cmpMode, uint32_t count, Loc loc = Loc::current()) {
  ASCSIM_TAKES("Compare", T, half, float, int32_t);
  ASCSIM_TAKES("Compare (bits)", U, int8_t, uint8_t);
  ASCSIM_VEC_CALL("Compare");
  ascsim::CompareArgs a = ascsim::compareArgs<T>(cmpMode, ascsim::operandOf(src0));
  a.src1 = ascsim::operandOf(src1);
  ascsim::compareToTensor(a, dst.place(), ascsim::lanesOfCompare(count, sizeof(PrimT<T>)));
}
// The mask is reserved on this chip.
#define ASCSIM_COMPARE(MASK)                                                                       \
  template <class T, class U, bool isSetMask = true>                                               \
  void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,  \
               CMPMODE cmpMode, MASK, int32_t repeatTime, const BinaryRepeatParams& repeatParams,  \
               Loc loc = Loc::current()) {                                                         \
    ASCSIM_TAKES("Compare", T, half, float, int32_t);                                              \
    ASCSIM_TAKES("Compare (bits)", U, int8_t, uint8_t);                                            \
    ASCSIM_VEC_CALL("Compare");                                                                    \
    ascsim::CompareArgs a = ascsim::compareArgs<T>(                                                \
        cmpMode, ascsim::operandOf(src0, repeatParams.src0BlkStride, repeatParams.src0RepStride)); \
    a.src1 = ascsim::operandOf(src1, repeatParams.src1BlkStride, repeatParams.src1RepStride);      \
    ascsim::compareToTensor(a, dst.place(),                                                        \
                            ascsim::lanesOfCompareRepeats(repeatTime, sizeof(PrimT<T>)));          \
  }
ASCSIM_COMPARE(const uint64_t[])
ASCSIM_COMPARE(const uint64_t)
#undef ASCSIM_COMPARE

// With the result in the CmpMask register.
#define ASCSIM_COMPARE_REGISTER(MASK)                                                              \
  template <class T, bool isSetMask = true>                                                        \
  void Compare(const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE cmpMode, MASK,      \
               const BinaryRepeatParams& repeatParams, Loc loc = Loc::current()) {                 \
    ASCSIM_TAKES("Compare", T, half, float);                                                       \
    ASCSIM_VEC_CALL("Compare");                                                                    \
    ascsim::CompareArgs a = ascsim::compareArgs<T>(                                                \
        cmpMode, ascsim::operandOf(src0, repeatParams.src0BlkStride, repeatParams.src0RepStride)); \
    a.src1 = ascsim::operandOf(src1, repeatParams.src1BlkStride, repeatParams.src1RepStride);      \
    constexpr int32_t repeatTime = 1;                                                              \
    ascsim::compareToRegister(a, ASCSIM_MASK_LANES(sizeof(PrimT<T>)));                             \
  }
ASCSIM_COMPARE_REGISTER(ASCSIM_BITS)
ASCSIM_COMPARE_REGISTER(ASCSIM_LENGTH)
#undef ASCSIM_COMPARE_REGISTER

#define ASCSIM_COMPARES(NAME)                                                                 \
  template <class T, class U>                                                                 \
  void NAME(const LocalTensor<U>& dst, const LocalTensor<T>& src0,                            \
            const ascsim::Given<PrimT<T>> src1Scalar, CMPMODE cmpMode, uint32_t count,        \
            Loc loc = Loc::current()) {                                                       \
    ASCSIM_TAKES(#NAME, T, half, float, int32_t);                                             \
    ASCSIM_TAKES(#NAME " (bits)", U, int8_t, uint8_t);                                        \
    ASCSIM_VEC_CALL(#NAME);                                                                   \
    ascsim::CompareArgs a = ascsim::compareArgs<T>(cmpMode, ascsim::operandOf(src0));         \
    ascsim::setCompareScalar(a, src1Scalar);                                                  \
    ascsim::compareToTensor(a, dst.place(), ascsim::lanesOfCompare(count, sizeof(PrimT<T>))); \
  }                                                                                           \
  ASCSIM_COMPARES_REPEAT(NAME, const uint64_t[])                                              \
  ASCSIM_COMPARES_REPEAT(NAME, const uint64_t)
#define ASCSIM_COMPARES_REPEAT(NAME, MASK)                                                       \
  template <class T, class U, bool isSetMask = true>                                             \
  void NAME(const LocalTensor<U>& dst, const LocalTensor<T>& src0,                               \
            const ascsim::Given<PrimT<T>> src1Scalar, CMPMODE cmpMode, MASK, int32_t repeatTime, \
            const UnaryRepeatParams& repeatParams, Loc loc = Loc::current()) {                   \
    ASCSIM_TAKES(#NAME, T, half, float, int32_t);                                                \
    ASCSIM_TAKES(#NAME " (bits)", U, int8_t, uint8_t);                                           \
    ASCSIM_VEC_CALL(#NAME);                                                                      \
    ascsim::CompareArgs a = ascsim::compareArgs<T>(                                              \
        cmpMode, ascsim::operandOf(src0, repeatParams.srcBlkStride, repeatParams.srcRepStride)); \
    ascsim::setCompareScalar(a, src1Scalar);                                                     \
    ascsim::compareToTensor(a, dst.place(),                                                      \
                            ascsim::lanesOfCompareRepeats(repeatTime, sizeof(PrimT<T>)));        \
  }
ASCSIM_COMPARES(Compares)
ASCSIM_COMPARES(CompareScalar)  // the older name
#undef ASCSIM_COMPARES
#undef ASCSIM_COMPARES_REPEAT

template <class T>
void GetCmpMask(const LocalTensor<T>& dst, Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("GetCmpMask");
  ascsim::getCmpMask(dst.place());
}
template <class T>
void SetCmpMask(const LocalTensor<T>& src, Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("SetCmpMask");
  ascsim::setCmpMask(src.place());
}

#define ASCSIM_SELECT_TYPES               \
  ASCSIM_TAKES("Select", T, half, float); \
  ASCSIM_TAKES("Select (mask)", U, uint8_t, int8_t, uint16_t, uint32_t, uint64_t)

template <class T, class U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const ascsim::Given<PrimT<T>> src1, SELMODE selMode, uint32_t count,
            Loc loc = Loc::current()) {
  ASCSIM_SELECT_TYPES;
  ASCSIM_VEC_CALL("Select");
  ascsim::SelectArgs a =
      ascsim::selectArgs<T>(selMode, ascsim::operandOf(dst), ascsim::operandOf(src0));
  ascsim::setSelectScalar(a, src1);
  a.selMask = selMask.place();
  ascsim::selectLanes(a, ascsim::lanesForCount(true, count, sizeof(PrimT<T>)));
}
template <class T, class U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE selMode, uint32_t count, Loc loc = Loc::current()) {
  ASCSIM_SELECT_TYPES;
  ASCSIM_VEC_CALL("Select");
  ascsim::SelectArgs a =
      ascsim::selectArgs<T>(selMode, ascsim::operandOf(dst), ascsim::operandOf(src0));
  a.src1 = ascsim::operandOf(src1);
  a.selMask = selMask.place();
  ascsim::selectLanes(a, ascsim::lanesForCount(true, count, sizeof(PrimT<T>)));
}
#define ASCSIM_SELECT(MASK)                                                                    \
  template <class T, class U, bool isSetMask = true>                                           \
  void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask,                        \
              const LocalTensor<T>& src0, const ascsim::Given<PrimT<T>> src1, SELMODE selMode, \
              MASK, int32_t repeatTime, const BinaryRepeatParams& repeatParams,                \
              Loc loc = Loc::current()) {                                                      \
    ASCSIM_SELECT_TYPES;                                                                       \
    ASCSIM_VEC_CALL("Select");                                                                 \
    ascsim::SelectArgs a = ascsim::selectArgs<T>(                                              \
        selMode, ascsim::operandOf(dst, repeatParams.dstBlkStride, repeatParams.dstRepStride), \
        ascsim::operandOf(src0, repeatParams.src0BlkStride, repeatParams.src0RepStride));      \
    ascsim::setSelectScalar(a, src1);                                                          \
    a.selMask = selMask.place();                                                               \
    ascsim::selectLanes(a, ASCSIM_MASK_LANES(sizeof(PrimT<T>)));                               \
  }                                                                                            \
  template <class T, class U, bool isSetMask = true>                                           \
  void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask,                        \
              const LocalTensor<T>& src0, const LocalTensor<T>& src1, SELMODE selMode, MASK,   \
              int32_t repeatTime, const BinaryRepeatParams& repeatParams,                      \
              Loc loc = Loc::current()) {                                                      \
    ASCSIM_SELECT_TYPES;                                                                       \
    ASCSIM_VEC_CALL("Select");                                                                 \
    ascsim::SelectArgs a = ascsim::selectArgs<T>(                                              \
        selMode, ascsim::operandOf(dst, repeatParams.dstBlkStride, repeatParams.dstRepStride), \
        ascsim::operandOf(src0, repeatParams.src0BlkStride, repeatParams.src0RepStride));      \
    a.src1 = ascsim::operandOf(src1, repeatParams.src1BlkStride, repeatParams.src1RepStride);  \
    a.selMask = selMask.place();                                                               \
    ascsim::selectLanes(a, ASCSIM_MASK_LANES(sizeof(PrimT<T>)));                               \
  }
ASCSIM_SELECT(ASCSIM_BITS)
ASCSIM_SELECT(ASCSIM_LENGTH)
#undef ASCSIM_SELECT

// Without mask arguments: SetVectorMask gives the lanes, SetCmpMask the scalar ...
template <class T, class U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            int32_t repeatTime, const BinaryRepeatParams& repeatParams, Loc loc = Loc::current()) {
  ASCSIM_SELECT_TYPES;
  ASCSIM_VEC_CALL("Select");
  ascsim::SelectArgs a = ascsim::selectArgs<T>(
      SELMODE::VSEL_TENSOR_SCALAR_MODE,
      ascsim::operandOf(dst, repeatParams.dstBlkStride, repeatParams.dstRepStride),
      ascsim::operandOf(src0, repeatParams.src0BlkStride, repeatParams.src0RepStride));
  a.scalar = a.fromRegister = true;
  a.selMask = selMask.place();
  ascsim::selectLanes(a, ascsim::lanesFor(false, int64_t{0}, repeatTime, sizeof(PrimT<T>)));
}
// ... or the mask of selection (mode 0) or its address (mode 2).
template <class T, SELMODE selMode>
void Select(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,
            int32_t repeatTime, const BinaryRepeatParams& repeatParams, Loc loc = Loc::current()) {
  ASCSIM_TAKES("Select", T, half, float);
  static_assert(selMode != SELMODE::VSEL_TENSOR_SCALAR_MODE,
                "this form of Select is for the modes 0 and 2");
  ASCSIM_VEC_CALL("Select");
  ascsim::SelectArgs a = ascsim::selectArgs<T>(
      selMode, ascsim::operandOf(dst, repeatParams.dstBlkStride, repeatParams.dstRepStride),
      ascsim::operandOf(src0, repeatParams.src0BlkStride, repeatParams.src0RepStride));
  a.src1 = ascsim::operandOf(src1, repeatParams.src1BlkStride, repeatParams.src1RepStride);
  a.fromRegister = true;
  ascsim::selectLanes(a, ascsim::lanesFor(false, int64_t{0}, repeatTime, sizeof(PrimT<T>)));
}

}  // namespace AscendC
