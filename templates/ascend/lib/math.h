// Pointwise ops on n elements in UB, under the names of the compiler's ops (with an underscore
// where C++ has the word). Floats are computed in float, integers in int32_t, truths as bits, of
// which n is a multiple of 128 then. A result may be one of the operands; scratch (t, u, ...) is
// apart from them. `one` and the like are 64 equal elements.
#pragma once
#include "tile_ops.h"

namespace xc::op {

using Floats = LocalTensor<float>;
using Ints = LocalTensor<int32_t>;
using Bits = LocalTensor<uint8_t>;

__aicore__ inline float infinity() {
  const uint32_t bits = 0x7f800000;
  return *reinterpret_cast<const float*>(&bits);
}
__aicore__ inline float nan() {
  const uint32_t bits = 0x7fc00000;
  return *reinterpret_cast<const float*>(&bits);
}

// -- fills and moves ------------------------------------------------------------------------------
template <class T>
__aicore__ inline void fill(const LocalTensor<T>& d, T value, int32_t n) {
  Duplicate(d, value, n);
}
/// Bytes [0, n), and what is left of the last block.
__aicore__ inline void move(const Bits& d, const Bits& a, i64 n) {
  DataCopy(d.ReinterpretCast<int16_t>(), a.ReinterpretCast<int16_t>(),
           static_cast<uint32_t>(alignUp(n, 32) / 2));
}
template <class D, class A>
__aicore__ inline void cast(const LocalTensor<D>& d, const LocalTensor<A>& a, RoundMode mode,
                            int32_t n) {
  const int32_t h = firstPart(n);
  Cast(d, a, mode, static_cast<uint32_t>(h));
  if (n > h) Cast(d[h], a[h], mode, static_cast<uint32_t>(n - h));
}
/// first, first + step, ...
__aicore__ inline void iota(const Ints& d, int32_t first, int32_t step, int32_t n) {
  CreateVecIndex(d, step == 1 ? first : 0, static_cast<uint32_t>(n));
  if (step == 1) return;
  Muls(d, d, step, n);
  Adds(d, d, first, n);
}

// -- arithmetic of floats and integers; a scalar may stand for an operand -------------------------
#define XC_ARITHMETIC(NAME, OP, SCALAR)                                                           \
  template <class T>                                                                              \
  __aicore__ inline void NAME(const LocalTensor<T>& d, const LocalTensor<T>& a,                   \
                              const LocalTensor<T>& b, int32_t n) {                               \
    run<OP>(d, a, b, n);                                                                          \
  }                                                                                               \
  template <class T>                                                                              \
  __aicore__ inline void NAME(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, int32_t n) { \
    run<SCALAR>(d, a, b, n);                                                                      \
  }                                                                                               \
  template <class T>                                                                              \
  __aicore__ inline void NAME(const LocalTensor<T>& d, T a, const LocalTensor<T>& b, int32_t n) { \
    run<SCALAR>(d, b, a, n);                                                                      \
  }
XC_ARITHMETIC(add, AddOp, AddsOp)
XC_ARITHMETIC(mul, MulOp, MulsOp)
XC_ARITHMETIC(max, MaxOp, MaxsOp)
XC_ARITHMETIC(min, MinOp, MinsOp)
#undef XC_ARITHMETIC

template <class T>
__aicore__ inline void sub(const LocalTensor<T>& d, const LocalTensor<T>& a,
                           const LocalTensor<T>& b, int32_t n) {
  run<SubOp>(d, a, b, n);
}
template <class T>
__aicore__ inline void sub(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, int32_t n) {
  run<AddsOp>(d, a, static_cast<T>(-b), n);
}
template <class T>
__aicore__ inline void sub(const LocalTensor<T>& d, T a, const LocalTensor<T>& b, int32_t n) {
  run<MulsOp>(d, b, static_cast<T>(-1), n);
  run<AddsOp>(d, d, a, n);
}
__aicore__ inline void div(const Floats& d, const Floats& a, const Floats& b, int32_t n) {
  run<DivOp>(d, a, b, n);
}
template <class T>
__aicore__ inline void neg(const LocalTensor<T>& d, const LocalTensor<T>& a, int32_t n) {
  run<MulsOp>(d, a, static_cast<T>(-1), n);
}
template <class T>
__aicore__ inline void square(const LocalTensor<T>& d, const LocalTensor<T>& a, int32_t n) {
  run<MulOp>(d, a, a, n);
}
template <class T>
__aicore__ inline void relu(const LocalTensor<T>& d, const LocalTensor<T>& a, int32_t n) {
  run<MaxsOp>(d, a, static_cast<T>(0), n);
}
__aicore__ inline void abs(const Floats& d, const Floats& a, int32_t n) { run<AbsOp>(d, a, n); }
__aicore__ inline void abs(const Ints& d, const Ints& a, const Ints& t, int32_t n) {
  Muls(t, a, int32_t(-1), n);
  Max(d, a, t, n);
}
__aicore__ inline void floor(const Floats& d, const Floats& a, int32_t n) {
  cast(d, a, RoundMode::CAST_FLOOR, n);
}
__aicore__ inline void floor(const Ints& d, const Ints& a, int32_t n) { Adds(d, a, int32_t(0), n); }
__aicore__ inline void ceil(const Floats& d, const Floats& a, int32_t n) {
  cast(d, a, RoundMode::CAST_CEIL, n);
}

// -- functions ------------------------------------------------------------------------------------
__aicore__ inline void exp(const Floats& d, const Floats& a, int32_t n) { run<ExpOp>(d, a, n); }
__aicore__ inline void log(const Floats& d, const Floats& a, int32_t n) { run<LnOp>(d, a, n); }
__aicore__ inline void sqrt(const Floats& d, const Floats& a, int32_t n) { run<SqrtOp>(d, a, n); }
__aicore__ inline void reciprocal(const Floats& d, const Floats& a, const Floats& one, int32_t n) {
  constant<DivOp, true>(d, a, one, n);
}
__aicore__ inline void rsqrt(const Floats& d, const Floats& a, const Floats& one, int32_t n) {
  run<SqrtOp>(d, a, n);
  constant<DivOp, true>(d, d, one, n);
}
/// d = 1 + exp(-a)
__aicore__ inline void onePlusExp(const Floats& d, const Floats& a, int32_t n) {
  run<MulsOp>(d, a, -1.0f, n);
  run<ExpOp>(d, d, n);
  run<AddsOp>(d, d, 1.0f, n);
}
__aicore__ inline void sigmoid(const Floats& d, const Floats& a, const Floats& one, int32_t n) {
  onePlusExp(d, a, n);
  constant<DivOp, true>(d, d, one, n);
}
__aicore__ inline void silu(const Floats& d, const Floats& a, const Floats& t, int32_t n) {
  onePlusExp(t, a, n);
  run<DivOp>(d, a, t, n);
}

// -- truths ---------------------------------------------------------------------------------------
__aicore__ inline void not_(const Bits& d, const Bits& a, int32_t n) {
  Not(d.ReinterpretCast<uint16_t>(), a.ReinterpretCast<uint16_t>(), n / 16);
}
__aicore__ inline void and_(const Bits& d, const Bits& a, const Bits& b, int32_t n) {
  And(d.ReinterpretCast<uint16_t>(), a.ReinterpretCast<uint16_t>(), b.ReinterpretCast<uint16_t>(),
      n / 16);
}
__aicore__ inline void or_(const Bits& d, const Bits& a, const Bits& b, int32_t n) {
  Or(d.ReinterpretCast<uint16_t>(), a.ReinterpretCast<uint16_t>(), b.ReinterpretCast<uint16_t>(),
     n / 16);
}
__aicore__ inline void and_(const Ints& d, const Ints& a, const Ints& b, int32_t n) {
  And(d.ReinterpretCast<uint16_t>(), a.ReinterpretCast<uint16_t>(), b.ReinterpretCast<uint16_t>(),
      n * 2);
}
__aicore__ inline void or_(const Ints& d, const Ints& a, const Ints& b, int32_t n) {
  Or(d.ReinterpretCast<uint16_t>(), a.ReinterpretCast<uint16_t>(), b.ReinterpretCast<uint16_t>(),
     n * 2);
}

template <CMPMODE kMode, class T>
__aicore__ inline void compare(const Bits& d, const LocalTensor<T>& a, const LocalTensor<T>& b,
                               int32_t n) {
  Compare(d, a, b, kMode, static_cast<uint32_t>(n));
}
template <CMPMODE kMode, class T>
__aicore__ inline void compare(const Bits& d, const LocalTensor<T>& a, T b, int32_t n) {
  Compares(d, a, b, kMode, static_cast<uint32_t>(n));
}

/// Floats: eq, ne, lt, le, gt, ge against a tensor or a scalar. Integers can be compared for
/// equality only: a >= b if max(a, b) is a.
#define XC_COMPARE(NAME, MODE)                                                         \
  template <class B>                                                                   \
  __aicore__ inline void NAME(const Bits& d, const Floats& a, const B& b, int32_t n) { \
    compare<CMPMODE::MODE>(d, a, b, n);                                                \
  }
XC_COMPARE(eq, EQ)
XC_COMPARE(ne, NE)
XC_COMPARE(lt, LT)
XC_COMPARE(le, LE)
XC_COMPARE(gt, GT)
XC_COMPARE(ge, GE)
#undef XC_COMPARE
template <class B>
__aicore__ inline void eq(const Bits& d, const Ints& a, const B& b, int32_t n) {
  compare<CMPMODE::EQ>(d, a, b, n);
}
template <class B>
__aicore__ inline void ne(const Bits& d, const Ints& a, const B& b, int32_t n) {
  compare<CMPMODE::EQ>(d, a, b, n);
  not_(d, d, n);
}
template <class B>
__aicore__ inline void ge(const Bits& d, const Ints& a, const B& b, const Ints& t, int32_t n) {
  max(t, a, b, n);
  compare<CMPMODE::EQ>(d, t, a, n);
}
template <class B>
__aicore__ inline void le(const Bits& d, const Ints& a, const B& b, const Ints& t, int32_t n) {
  min(t, a, b, n);
  compare<CMPMODE::EQ>(d, t, a, n);
}
template <class B>
__aicore__ inline void lt(const Bits& d, const Ints& a, const B& b, const Ints& t, int32_t n) {
  ge(d, a, b, t, n);
  not_(d, d, n);
}
template <class B>
__aicore__ inline void gt(const Bits& d, const Ints& a, const B& b, const Ints& t, int32_t n) {
  le(d, a, b, t, n);
  not_(d, d, n);
}

/// a where the bit is set, else b.
__aicore__ inline void where(const Floats& d, const Bits& c, const Floats& a, const Floats& b,
                             int32_t n) {
  Select(d, c, a, b, SELMODE::VSEL_TENSOR_TENSOR_MODE, static_cast<uint32_t>(n));
}
__aicore__ inline void where(const Floats& d, const Bits& c, const Floats& a, float b, int32_t n) {
  Select(d, c, a, b, SELMODE::VSEL_TENSOR_SCALAR_MODE, static_cast<uint32_t>(n));
}
__aicore__ inline void where(const Ints& d, const Bits& c, const Ints& a, const Ints& b,
                             int32_t n) {
  where(d.ReinterpretCast<float>(), c, a.ReinterpretCast<float>(), b.ReinterpretCast<float>(), n);
}
/// 1 and 0 for bits.
__aicore__ inline void number(const Floats& d, const Bits& c, int32_t n) {
  Duplicate(d, 1.0f, n);
  where(d, c, d, 0.0f, n);
}
__aicore__ inline void number(const LocalTensor<half>& d, const Bits& c, int32_t n) {
  Duplicate(d, half(1.0f), n);
  Select(d, c, d, half(0.0f), SELMODE::VSEL_TENSOR_SCALAR_MODE, static_cast<uint32_t>(n));
}
__aicore__ inline void number(const Ints& d, const Bits& c, int32_t n) {
  Duplicate(d, int32_t(1), n);
  where(d.ReinterpretCast<float>(), c, d.ReinterpretCast<float>(), 0.0f, n);
}
}  // namespace xc::op
