// Division that rounds down, its remainder, and powers; conventions as in math.h.
#pragma once
#include "math.h"

namespace xc::op {

/// One step of a long division by b > 0: i = floor(r / b) as float sees it; r -= i b.
__aicore__ inline void divideStep(const Ints& i, const Ints& r, const Ints& b, const Floats& f,
                                  int32_t n) {
  const Floats q = i.ReinterpretCast<float>();
  Cast(q, r, RoundMode::CAST_RINT, static_cast<uint32_t>(n));
  Div(q, q, f, n);
  Cast(i, q, RoundMode::CAST_FLOOR, static_cast<uint32_t>(n));
}
/// i = -1 where r < 0, 1 where r >= b, else 0: what the steps were off by.
__aicore__ inline void divideRest(const Ints& i, const Ints& r, const Ints& b, const Ints& t,
                                  int32_t n) {
  ShiftRight(t, r, int32_t(31), n);
  Sub(i, r, b, n);
  ShiftRight(i, i, int32_t(31), n);
  Add(i, i, t, n);
  Adds(i, i, int32_t(1), n);
}

/// floor(a / b) exactly, for |a| < 2^31 - 512. Float's quotient is off by 256 at most, that of what
/// is left by one.
__aicore__ inline void floordiv(const Ints& d, const Ints& a, const Ints& b, const Ints& p,
                                const Ints& f, const Ints& i, const Ints& r, int32_t n) {
  const Floats divisor = f.ReinterpretCast<float>();
  ShiftRight(i, b, int32_t(31), n);  // the sign of b goes to both
  Muls(i, i, int32_t(2), n);
  Adds(i, i, int32_t(1), n);
  Mul(p, b, i, n);
  Mul(r, a, i, n);
  Cast(divisor, p, RoundMode::CAST_RINT, static_cast<uint32_t>(n));
  divideStep(d, r, p, divisor, n);
  Mul(i, d, p, n);
  Sub(r, r, i, n);
  divideStep(i, r, p, divisor, n);
  Add(d, d, i, n);
  Mul(i, i, p, n);
  Sub(r, r, i, n);
  divideRest(i, r, p, f, n);
  Add(d, d, i, n);
}
/// a - b floor(a / b), likewise.
__aicore__ inline void remainder(const Ints& d, const Ints& a, const Ints& b, const Ints& p,
                                 const Ints& f, const Ints& i, const Ints& sign, int32_t n) {
  const Floats divisor = f.ReinterpretCast<float>();
  ShiftRight(sign, b, int32_t(31), n);
  Muls(sign, sign, int32_t(2), n);
  Adds(sign, sign, int32_t(1), n);
  Mul(p, b, sign, n);
  Mul(d, a, sign, n);
  Cast(divisor, p, RoundMode::CAST_RINT, static_cast<uint32_t>(n));
  for (int k = 0; k < 2; ++k) {
    divideStep(i, d, p, divisor, n);
    Mul(i, i, p, n);
    Sub(d, d, i, n);
  }
  divideRest(i, d, p, f, n);
  Mul(i, i, p, n);
  Sub(d, d, i, n);
  Mul(d, d, sign, n);
}

/// h = a to 12 bits, so that products of such halves are exact; t is scratch.
__aicore__ inline void upper(const Floats& h, const Floats& a, const Floats& t, int32_t n) {
  Muls(t, a, 4097.0f, n);
  Sub(h, t, a, n);
  Sub(h, t, h, n);
}
/// r -= a b, the product exact (Dekker); h, g, t, u are scratch.
__aicore__ inline void subtractProduct(const Floats& r, const Floats& a, const Floats& b,
                                       const Floats& h, const Floats& g, const Floats& t,
                                       const Floats& u, int32_t n) {
  upper(h, a, t, n);
  upper(g, b, t, n);
  Mul(t, h, g, n);
  Sub(r, r, t, n);
  Sub(u, b, g, n);
  Mul(t, h, u, n);
  Sub(r, r, t, n);
  Sub(h, a, h, n);
  Mul(t, h, g, n);
  Sub(r, r, t, n);
  Mul(t, h, u, n);
  Sub(r, r, t, n);
}

/// q = floor(a / b), r = a - q b for quotients below 2^22; h, g, t, u are scratch.
__aicore__ inline void divide(const Floats& q, const Floats& r, const Floats& a, const Floats& b,
                              const Floats& h, const Floats& g, const Floats& t, const Floats& u,
                              int32_t n) {
  Div(q, a, b, n);
  Cast(q, q, RoundMode::CAST_FLOOR, static_cast<uint32_t>(n));
  Adds(r, a, 0.0f, n);
  subtractProduct(r, q, b, h, g, t, u, n);
  Div(h, r, b, n);  // -1, 0 or 1
  Cast(h, h, RoundMode::CAST_FLOOR, static_cast<uint32_t>(n));
  Add(q, q, h, n);
  Mul(h, h, b, n);
  Sub(r, r, h, n);
}
__aicore__ inline void floordiv(const Floats& d, const Floats& a, const Floats& b, const Floats& q,
                                const Floats& r, const Floats& h, const Floats& g, const Floats& t,
                                const Floats& u, int32_t n) {
  divide(q, r, a, b, h, g, t, u, n);
  Adds(d, q, 0.0f, n);
}
__aicore__ inline void remainder(const Floats& d, const Floats& a, const Floats& b, const Floats& q,
                                 const Floats& r, const Floats& h, const Floats& g, const Floats& t,
                                 const Floats& u, int32_t n) {
  divide(q, r, a, b, h, g, t, u, n);
  Adds(d, r, 0.0f, n);
}

/// a ^ b = exp(b log |a|), the logarithm and the product in twice float's precision.
__aicore__ inline void pow(const Floats& d, const Floats& a, const Floats& b, const Floats& x,
                           const Floats& s, const Floats& e, const Floats& g, const Floats& h,
                           const Floats& t, const Floats& u, const Floats& v, const Floats& w,
                           const Bits& c, const Bits& k, int32_t n) {
  const auto count = static_cast<uint32_t>(n);
  const Ints xi = x.ReinterpretCast<int32_t>(), ei = e.ReinterpretCast<int32_t>(),
             ti = t.ReinterpretCast<int32_t>();
  // |a| = 2^e x with x in [sqrt(1/2), sqrt(2))
  Abs(x, a, n);
  Adds(ei, xi, int32_t(0x3f800000 - 0x3f3504f3), n);
  ShiftRight(ei, ei, int32_t(23), n);
  Adds(ei, ei, int32_t(-127), n);
  ShiftLeft(ti, ei, int32_t(23), n);
  Sub(xi, xi, ti, n);
  Cast(e, ei, RoundMode::CAST_RINT, count);
  // log(x) = 2 s + 2 s^3 / 3 + ..., s = (x - 1) / (x + 1): to s the rest v / (x + 1) is added
  Adds(g, x, 1.0f, n);
  Adds(t, g, -1.0f, n);
  Sub(w, x, t, n);  // g + w is x + 1
  Adds(v, x, -1.0f, n);
  Div(s, v, g, n);
  subtractProduct(v, s, g, x, h, t, u, n);
  Mul(t, s, w, n);
  Sub(v, v, t, n);
  Div(v, v, g, n);
  Mul(u, s, s, n);
  Muls(t, u, 0.181818182f, n);
  Adds(t, t, 0.222222222f, n);
  Mul(t, t, u, n);
  Adds(t, t, 0.285714286f, n);
  Mul(t, t, u, n);
  Adds(t, t, 0.4f, n);
  Mul(t, t, u, n);
  Adds(t, t, 0.666666667f, n);
  Mul(t, t, u, n);
  Mul(t, t, s, n);
  Axpy(t, v, 2.0f, n);
  Axpy(t, e, 1.428606765330187e-06f, n);  // log(2) less the next line's
  Muls(e, e, 0.693145751953125f, n);
  // g + t = e + 2 s + t
  Muls(s, s, 2.0f, n);
  Add(g, e, s, n);
  Sub(u, g, e, n);
  Sub(v, g, u, n);
  Sub(v, e, v, n);
  Sub(u, s, u, n);
  Add(t, t, v, n);
  Add(t, t, u, n);
  Add(h, g, t, n);
  Sub(u, h, g, n);
  Sub(e, t, u, n);  // the logarithm is h + e
  // exp(b h) (1 + b e + what b h was rounded by)
  Mul(s, b, h, n);
  Adds(v, s, 0.0f, n);
  subtractProduct(v, b, h, x, g, t, u, n);
  Mul(e, b, e, n);
  Sub(e, e, v, n);
  Adds(e, e, 1.0f, n);
  Exp(s, s, n);
  Mul(s, s, e, n);
  // Infinity, zero, tiny numbers: without all that
  Abs(x, a, n);
  Ln(g, x, n);
  Mul(g, g, b, n);
  Abs(h, g, n);
  Compares(c, h, 200.0f, CMPMODE::LE, count);
  Compares(k, x, 1.17549435e-38f, CMPMODE::GE, count);
  and_(c, c, k, n);
  Exp(g, g, n);
  where(s, c, s, g, n);
  Compares(c, x, 1.0f, CMPMODE::NE, count);  // 0 times an infinite exponent is no number
  where(s, c, s, 1.0f, n);
  // Of a negative number an even power, an odd one, or none, if it is finite
  Cast(t, b, RoundMode::CAST_FLOOR, count);
  Maxs(v, t, -16777216.0f, n);  // beyond, all are even
  Mins(v, v, 16777216.0f, n);
  Muls(u, v, 0.5f, n);
  Cast(u, u, RoundMode::CAST_FLOOR, count);
  Muls(u, u, -2.0f, n);
  Add(u, u, v, n);
  Muls(u, u, -2.0f, n);
  Adds(u, u, 1.0f, n);
  Mul(u, u, s, n);
  Compare(c, t, b, CMPMODE::EQ, count);
  where(u, c, u, nan(), n);
  Compares(k, a, -3.40282347e+38f, CMPMODE::GE, count);
  or_(k, k, c, n);
  Compares(c, a, 0.0f, CMPMODE::LT, count);
  and_(c, c, k, n);
  where(s, c, u, s, n);
  Compares(c, b, 0.0f, CMPMODE::NE, count);
  where(d, c, s, 1.0f, n);
}
}  // namespace xc::op
