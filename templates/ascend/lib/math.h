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

/// Where an instruction over n elements is better cut in two: the next one, which waits for the
/// results of the first half, then runs behind the second instead of after it.
__aicore__ inline int32_t half_of(int32_t n) {
  constexpr int32_t kShort = 2048;
  return n < kShort ? n : static_cast<int32_t>(alignUp(n / 2, 128));
}
#define XC_HALVES(FIRST, SECOND) \
  const int32_t h = half_of(n);  \
  FIRST;                         \
  if (n > h) SECOND

// -- fills and moves ------------------------------------------------------------------------------
template <class T>
__aicore__ inline void fill(const LocalTensor<T>& d, T value, int32_t n) {
  XC_HALVES(Duplicate(d, value, h), Duplicate(d[h], value, n - h));
}
template <class D, class A>
__aicore__ inline void cast(const LocalTensor<D>& d, const LocalTensor<A>& a, RoundMode mode,
                            int32_t n) {
  XC_HALVES(Cast(d, a, mode, static_cast<uint32_t>(h)),
            Cast(d[h], a[h], mode, static_cast<uint32_t>(n - h)));
}
/// Bytes [0, n), and what is left of the last block.
__aicore__ inline void move(const Bits& d, const Bits& a, i64 n) {
  DataCopy(d.ReinterpretCast<int16_t>(), a.ReinterpretCast<int16_t>(),
           static_cast<uint32_t>(alignUp(n, 32) / 2));
}
/// first, first + step, ...
__aicore__ inline void iota(const Ints& d, int32_t first, int32_t step, int32_t n) {
  CreateVecIndex(d, step == 1 ? first : 0, static_cast<uint32_t>(n));
  if (step == 1) return;
  Muls(d, d, step, n);
  Adds(d, d, first, n);
}

// -- arithmetic of floats and integers ------------------------------------------------------------
template <class T>
__aicore__ inline void add(const LocalTensor<T>& d, const LocalTensor<T>& a,
                           const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Add(d, a, b, h), Add(d[h], a[h], b[h], n - h));
}
template <class T>
__aicore__ inline void add(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, int32_t n) {
  XC_HALVES(Adds(d, a, b, h), Adds(d[h], a[h], b, n - h));
}
template <class T>
__aicore__ inline void add(const LocalTensor<T>& d, T a, const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Adds(d, b, a, h), Adds(d[h], b[h], a, n - h));
}
template <class T>
__aicore__ inline void sub(const LocalTensor<T>& d, const LocalTensor<T>& a,
                           const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Sub(d, a, b, h), Sub(d[h], a[h], b[h], n - h));
}
template <class T>
__aicore__ inline void sub(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, int32_t n) {
  XC_HALVES(Adds(d, a, static_cast<T>(-b), h), Adds(d[h], a[h], static_cast<T>(-b), n - h));
}
template <class T>
__aicore__ inline void sub(const LocalTensor<T>& d, T a, const LocalTensor<T>& b, int32_t n) {
  Muls(d, b, static_cast<T>(-1), n);
  Adds(d, d, a, n);
}
template <class T>
__aicore__ inline void mul(const LocalTensor<T>& d, const LocalTensor<T>& a,
                           const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Mul(d, a, b, h), Mul(d[h], a[h], b[h], n - h));
}
template <class T>
__aicore__ inline void mul(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, int32_t n) {
  XC_HALVES(Muls(d, a, b, h), Muls(d[h], a[h], b, n - h));
}
template <class T>
__aicore__ inline void mul(const LocalTensor<T>& d, T a, const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Muls(d, b, a, h), Muls(d[h], b[h], a, n - h));
}
__aicore__ inline void div(const Floats& d, const Floats& a, const Floats& b, int32_t n) {
  XC_HALVES(Div(d, a, b, h), Div(d[h], a[h], b[h], n - h));
}
template <class T>
__aicore__ inline void max(const LocalTensor<T>& d, const LocalTensor<T>& a,
                           const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Max(d, a, b, h), Max(d[h], a[h], b[h], n - h));
}
template <class T>
__aicore__ inline void max(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, int32_t n) {
  XC_HALVES(Maxs(d, a, b, h), Maxs(d[h], a[h], b, n - h));
}
template <class T>
__aicore__ inline void max(const LocalTensor<T>& d, T a, const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Maxs(d, b, a, h), Maxs(d[h], b[h], a, n - h));
}
template <class T>
__aicore__ inline void min(const LocalTensor<T>& d, const LocalTensor<T>& a,
                           const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Min(d, a, b, h), Min(d[h], a[h], b[h], n - h));
}
template <class T>
__aicore__ inline void min(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, int32_t n) {
  XC_HALVES(Mins(d, a, b, h), Mins(d[h], a[h], b, n - h));
}
template <class T>
__aicore__ inline void min(const LocalTensor<T>& d, T a, const LocalTensor<T>& b, int32_t n) {
  XC_HALVES(Mins(d, b, a, h), Mins(d[h], b[h], a, n - h));
}
template <class T>
__aicore__ inline void neg(const LocalTensor<T>& d, const LocalTensor<T>& a, int32_t n) {
  XC_HALVES(Muls(d, a, static_cast<T>(-1), h), Muls(d[h], a[h], static_cast<T>(-1), n - h));
}
template <class T>
__aicore__ inline void square(const LocalTensor<T>& d, const LocalTensor<T>& a, int32_t n) {
  XC_HALVES(Mul(d, a, a, h), Mul(d[h], a[h], a[h], n - h));
}
template <class T>
__aicore__ inline void relu(const LocalTensor<T>& d, const LocalTensor<T>& a, int32_t n) {
  XC_HALVES(Maxs(d, a, static_cast<T>(0), h), Maxs(d[h], a[h], static_cast<T>(0), n - h));
}
__aicore__ inline void abs(const Floats& d, const Floats& a, int32_t n) {
  XC_HALVES(Abs(d, a, h), Abs(d[h], a[h], n - h));
}
__aicore__ inline void abs(const Ints& d, const Ints& a, const Ints& t, int32_t n) {
  Muls(t, a, int32_t(-1), n);
  Max(d, a, t, n);
}
__aicore__ inline void floor(const Floats& d, const Floats& a, int32_t n) {
  Cast(d, a, RoundMode::CAST_FLOOR, static_cast<uint32_t>(n));
}
__aicore__ inline void floor(const Ints& d, const Ints& a, int32_t n) { Adds(d, a, int32_t(0), n); }
__aicore__ inline void ceil(const Floats& d, const Floats& a, int32_t n) {
  Cast(d, a, RoundMode::CAST_CEIL, static_cast<uint32_t>(n));
}

// -- functions ------------------------------------------------------------------------------------
__aicore__ inline void exp(const Floats& d, const Floats& a, int32_t n) {
  XC_HALVES(Exp(d, a, h), Exp(d[h], a[h], n - h));
}
__aicore__ inline void log(const Floats& d, const Floats& a, int32_t n) {
  XC_HALVES(Ln(d, a, h), Ln(d[h], a[h], n - h));
}
__aicore__ inline void sqrt(const Floats& d, const Floats& a, int32_t n) {
  XC_HALVES(Sqrt(d, a, h), Sqrt(d[h], a[h], n - h));
}
__aicore__ inline void reciprocal(const Floats& d, const Floats& a, const Floats& one, int32_t n) {
  constant<DivOp, true>(d, a, one, n);
}
__aicore__ inline void rsqrt(const Floats& d, const Floats& a, const Floats& one, int32_t n) {
  Sqrt(d, a, n);
  constant<DivOp, true>(d, d, one, n);
}
__aicore__ inline void sigmoid(const Floats& d, const Floats& a, const Floats& one, int32_t n) {
  Muls(d, a, -1.0f, n);
  Exp(d, d, n);
  Adds(d, d, 1.0f, n);
  constant<DivOp, true>(d, d, one, n);
}
__aicore__ inline void silu(const Floats& d, const Floats& a, const Floats& t, int32_t n) {
  Muls(t, a, -1.0f, n);
  Exp(t, t, n);
  Adds(t, t, 1.0f, n);
  Div(d, a, t, n);
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
#undef XC_HALVES
}  // namespace xc::op
