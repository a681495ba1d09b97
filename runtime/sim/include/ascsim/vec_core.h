// What the element-wise vector calls are built of: one instruction that maps lines of elements.
#pragma once
#include "ascsim/vec_mask.h"

namespace ascsim {

enum class VecOp : uint8_t {
  Add,
  Sub,
  Mul,
  Div,
  Max,
  Min,
  And,
  Or,  // two sources
  AddRelu,
  SubRelu,  // two sources, also with a conversion
  Prelu,
  AbsSub,
  MulAddDst,
  FusedMulAdd,
  FusedMulAddRelu,  // two sources and the old destination
  Not,
  Abs,
  Relu,
  Neg,
  Exp,
  Ln,
  Sqrt,
  Rsqrt,
  Rec,  // one source
  Adds,
  Muls,
  Maxs,
  Mins,
  LeakyRelu,
  Shl,
  Shr,
  ShrRound,
  Axpy,        // one source and a scalar
  AddDeqRelu,  // two sources and the dequantisation scale
  Cast,
  Copy,   // the same bits
  Dup,    // the scalar's bits
  Index,  // scalar + position
};

// One element-wise instruction. Strides are those of the operands.
struct Vec {
  VecOp op = VecOp::Copy;
  const char* mnemonic = "";
  DType dstType = DType::Other;
  DType srcType = DType::Other;
  Operand dst;
  Operand src[2];
  uint8_t sources = 0;
  bool readsDst = false;
  // An earlier repeat's result may be a later one's second source (documented for half, int32,
  // float).
  bool carries = false;
  int8_t round = 0;  // RoundMode of a cast
  float f = 0;       // scalar of the floating-point types
  int64_t i = 0;     // ... of the integer types; the bits of Dup
};

void requireUb(const Place& place, const char* name);
// Checks, declares, computes, traces.
void runVec(const Vec& vec, const Lanes& lanes);

// Is the overflow of half and bfloat16_t results (CTRL[48]) and of integer conversions clamped?
bool saturatesFloat();
bool saturatesCast();

template <class T>
Operand operandOf(const AscendC::LocalTensor<T>& t, uint32_t blockStride = 1,
                  uint32_t repeatStride = 8) {
  Operand o;
  o.place = t.place();
  o.elementBytes = sizeof(AscendC::PrimT<T>);
  o.blockStride = blockStride;
  o.repeatStride = repeatStride;
  return o;
}

// Count forms: repeats follow each other without gaps, in steps of `lanes` elements.
template <class T>
Operand denseOperand(const AscendC::LocalTensor<T>& t, uint32_t lanes) {
  return operandOf(t, 1, lanes * sizeof(AscendC::PrimT<T>) / 32);
}

template <class T>
void setScalar(Vec& v, T scalar) {
  if constexpr (std::is_integral_v<T>)
    v.i = static_cast<int64_t>(scalar);
  else
    v.f = static_cast<float>(scalar);
}

// Arguments of lower-ranked overloads: taken only where the plain one does not fit.
template <class T>
struct Later {
  template <class U, std::enable_if_t<std::is_convertible_v<U, T>, int> = 0>
  constexpr Later(U v) : value(static_cast<T>(v)) {}
  constexpr operator T() const { return value; }
  T value;
};
template <class T>
struct SameAs {
  using type = T;
};
// A parameter that does not take part in deduction.
template <class T>
using Given = typename SameAs<T>::type;

// The calls of one source, with a scalar or without; D and S differ where the call converts.
template <class D, class S>
Vec vec1(VecOp op, const char* mnemonic) {
  Vec v;
  v.op = op;
  v.mnemonic = mnemonic;
  v.dstType = dtypeOf<AscendC::PrimT<D>>();
  v.srcType = dtypeOf<AscendC::PrimT<S>>();
  v.sources = 1;
  return v;
}
template <class D, class S>
constexpr uint32_t widest = std::max(sizeof(AscendC::PrimT<D>), sizeof(AscendC::PrimT<S>));

template <class D, class S>
void unaryCount(Vec v, const AscendC::LocalTensor<D>& dst, const AscendC::LocalTensor<S>& src,
                int64_t count, bool isSetMask = true) {
  const Lanes l = lanesForCount(isSetMask, count, widest<D, S>);
  v.dst = denseOperand(dst, l.lanes);
  v.src[0] = denseOperand(src, l.lanes);
  runVec(v, l);
}
template <class D, class S>
void unaryRepeat(Vec v, const AscendC::LocalTensor<D>& dst, const AscendC::LocalTensor<S>& src,
                 const Lanes& l, const AscendC::UnaryRepeatParams& p) {
  v.dst = operandOf(dst, p.dstBlkStride, p.dstRepStride);
  v.src[0] = operandOf(src, p.srcBlkStride, p.srcRepStride);
  runVec(v, l);
}
template <class D, class S>
void binaryCount(Vec v, const AscendC::LocalTensor<D>& dst, const AscendC::LocalTensor<S>& src0,
                 const AscendC::LocalTensor<S>& src1, int64_t count, bool isSetMask = true) {
  const Lanes l = lanesForCount(isSetMask, count, widest<D, S>);
  v.sources = 2;
  v.dst = denseOperand(dst, l.lanes);
  v.src[0] = denseOperand(src0, l.lanes);
  v.src[1] = denseOperand(src1, l.lanes);
  runVec(v, l);
}
template <class D, class S>
void binaryRepeat(Vec v, const AscendC::LocalTensor<D>& dst, const AscendC::LocalTensor<S>& src0,
                  const AscendC::LocalTensor<S>& src1, const Lanes& l,
                  const AscendC::BinaryRepeatParams& p) {
  v.sources = 2;
  v.dst = operandOf(dst, p.dstBlkStride, p.dstRepStride);
  v.src[0] = operandOf(src0, p.src0BlkStride, p.src0RepStride);
  v.src[1] = operandOf(src1, p.src1BlkStride, p.src1RepStride);
  runVec(v, l);
}

constexpr const uint64_t* maskArgument(const uint64_t* mask) { return mask; }
constexpr int64_t maskArgument(uint64_t mask) { return static_cast<int64_t>(mask); }

// The two ways of giving a mask, and the lanes it selects.
#define ASCSIM_BITS const uint64_t mask[]
#define ASCSIM_LENGTH uint64_t mask
#define ASCSIM_MASK_LANES(BYTES) \
  ascsim::lanesFor(isSetMask, ascsim::maskArgument(mask), repeatTime, BYTES)
#define ASCSIM_UNWRAP(...) __VA_ARGS__  // of arguments with commas

// Names the call in errors; on a cube core vector calls do nothing.
#define ASCSIM_VEC_CALL(NAME) \
  ascsim::Api api(NAME, loc); \
  if (ascsim::isAic()) return

#define ASCSIM_TAKES(NAME, T, ...)                               \
  static_assert(ascsim::isOneOf<AscendC::PrimT<T>, __VA_ARGS__>, \
                NAME " does not take this type on this chip; expected one of " #__VA_ARGS__)

}  // namespace ascsim
