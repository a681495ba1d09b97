// Functions that the vector unit has no instruction for; conventions as in math.h. Coefficients
// were fitted for the least relative error in float.
#pragma once
#include "math.h"

namespace xc::op {

/// d = ((top u + next) u + ...) u + last; d is not u.
template <class... C>
__aicore__ inline void polynomial(const Floats& d, const Floats& u, int32_t n, float top,
                                  float next, C... rest) {
  Muls(d, u, top, n);
  Adds(d, d, next, n);
  ((Mul(d, d, u, n), Adds(d, d, static_cast<float>(rest), n)), ...);
}

/// d += k (p + ...), one product after another.
template <class... C>
__aicore__ inline void accumulate(const Floats& d, const Floats& k, int32_t n, C... p) {
  (Axpy(d, k, static_cast<float>(p), n), ...);
}

/// tanh(a) = a P(a^2) / Q(a^2) in [-9, 9]; at most 5 ulp off.
__aicore__ inline void tanh(const Floats& d, const Floats& a, const Floats& t, const Floats& u,
                            int32_t n) {
  Maxs(d, a, -9.0f, n);
  Mins(d, d, 9.0f, n);
  Mul(u, d, d, n);
  polynomial(t, u, n, -1.2246413085004182e-11f, 3.064280562625754e-08f, 2.8031445253873244e-05f,
             0.0038695151451975107f, 0.1368086189031601f, 1.0f);
  Mul(d, d, t, n);
  polynomial(t, u, n, 1.2890437801615917e-06f, 0.0003940725582651794f, 0.02725018374621868f,
             0.4701419472694397f, 1.0f);
  Div(d, d, t, n);
  Maxs(d, d, -1.0f, n);
  Mins(d, d, 1.0f, n);
}

/// erf(a) = a P(a^2) / Q(a^2) in [-3.92, 3.92]; at most 6 ulp off.
__aicore__ inline void erf(const Floats& d, const Floats& a, const Floats& t, const Floats& u,
                           int32_t n) {
  Maxs(d, a, -3.92f, n);
  Mins(d, d, 3.92f, n);
  Mul(u, d, d, n);
  polynomial(t, u, n, 2.0500331174844177e-06f, 0.0002848751610144973f, 0.003765515051782131f,
             0.052748408168554306f, 0.19040480256080627f, 1.1283791065216064f);
  Mul(d, d, t, n);
  polynomial(t, u, n, 3.809075496974401e-05f, 0.001162500586360693f, 0.014969022944569588f,
             0.11410833895206451f, 0.5020745992660522f, 1.0f);
  Div(d, d, t, n);
  Maxs(d, d, -1.0f, n);
  Mins(d, d, 1.0f, n);
}

__aicore__ inline void gelu(const Floats& d, const Floats& a, const Floats& t, const Floats& u,
                            const Floats& v, int32_t n) {
  Muls(v, a, 0.70710678118654752f, n);
  erf(v, v, t, u, n);
  Adds(v, v, 1.0f, n);
  Mul(v, v, a, n);
  Muls(d, v, 0.5f, n);
}
/// With 1 + tanh(y) = 2 / (1 + exp(-2 y)).
__aicore__ inline void gelu_tanh(const Floats& d, const Floats& a, const Floats& t, int32_t n) {
  constexpr float kTwice = 1.5957691216057308f;  // 2 sqrt(2 / pi)
  Mul(t, a, a, n);
  Muls(t, t, -0.044715f * kTwice, n);
  Adds(t, t, -kTwice, n);
  Mul(t, t, a, n);
  Exp(t, t, n);
  Adds(t, t, 1.0f, n);
  Div(d, a, t, n);
}

/// sin(a) = (-1)^k sin(a - k pi), for cosines with k - 1/2 for k; |a| < 4e5, off by 2e-7 at most.
/// pi is taken away in pieces whose products with k are exact (Cody and Waite).
template <bool kCosine>
__aicore__ inline void sinusoid(const Floats& d, const Floats& a, const Floats& k, const Floats& t,
                                int32_t n) {
  Muls(k, a, 0.318309886183790672f, n);
  if constexpr (kCosine) Adds(k, k, 0.5f, n);
  Cast(k, k, RoundMode::CAST_RINT, static_cast<uint32_t>(n));
  if constexpr (kCosine) Adds(k, k, -0.5f, n);
  Adds(d, a, 0.0f, n);
  accumulate(d, k, n, -3.125f, -0.01611328125f, -0.0004730224609375f, -6.318092346191406e-06f,
             -3.1786509424591713e-08f);
  if constexpr (kCosine) Adds(k, k, 0.5f, n);
  Muls(t, k, 0.5f, n);  // 1 - 2 (k mod 2)
  Cast(t, t, RoundMode::CAST_FLOOR, static_cast<uint32_t>(n));
  Axpy(k, t, -2.0f, n);
  Muls(k, k, -2.0f, n);
  Adds(k, k, 1.0f, n);
  Mul(k, k, d, n);
  Mul(d, d, d, n);
  polynomial(t, d, n, -2.3867166021318553e-08f, 2.7523904009285616e-06f, -0.0001984083210118115f,
             0.008333330973982811f, -0.1666666716337204f, 1.0f);
  Mul(d, k, t, n);
}
__aicore__ inline void sin(const Floats& d, const Floats& a, const Floats& t, const Floats& u,
                           int32_t n) {
  sinusoid<false>(d, a, t, u, n);
}
__aicore__ inline void cos(const Floats& d, const Floats& a, const Floats& t, const Floats& u,
                           int32_t n) {
  sinusoid<true>(d, a, t, u, n);
}
}  // namespace xc::op
