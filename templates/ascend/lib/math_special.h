// Functions that the vector unit has no instruction for; conventions as in math.h. Coefficients
// were fitted for the least relative error in float.
#pragma once
#include "math.h"

namespace xc::op {

/// d = ((top u + next) u + ...) u + last; d is not u.
template <class... C>
__aicore__ inline void polynomial(const Floats& d, const Floats& u, int32_t n, float top,
                                  float next, C... rest) {
  run<MulsOp>(d, u, top, n);
  run<AddsOp>(d, d, next, n);
  ((run<MulOp>(d, d, u, n), run<AddsOp>(d, d, static_cast<float>(rest), n)), ...);
}

/// d += k (p + ...), one product after another.
template <class... C>
__aicore__ inline void accumulate(const Floats& d, const Floats& k, int32_t n, C... p) {
  (run<AxpyOp>(d, k, static_cast<float>(p), n), ...);
}

/// tanh(a) = a P(a^2) / Q(a^2) in [-9, 9]; at most 5 ulp off.
__aicore__ inline void tanh(const Floats& d, const Floats& a, const Floats& t, const Floats& u,
                            int32_t n) {
  run<MaxsOp>(d, a, -9.0f, n);
  run<MinsOp>(d, d, 9.0f, n);
  run<MulOp>(u, d, d, n);
  polynomial(t, u, n, -1.2246413085004182e-11f, 3.064280562625754e-08f, 2.8031445253873244e-05f,
             0.0038695151451975107f, 0.1368086189031601f, 1.0f);
  run<MulOp>(d, d, t, n);
  polynomial(t, u, n, 1.2890437801615917e-06f, 0.0003940725582651794f, 0.02725018374621868f,
             0.4701419472694397f, 1.0f);
  run<DivOp>(d, d, t, n);
  run<MaxsOp>(d, d, -1.0f, n);
  run<MinsOp>(d, d, 1.0f, n);
}

/// erf(a) = a P(a^2) / Q(a^2) in [-3.92, 3.92]; at most 6 ulp off.
__aicore__ inline void erf(const Floats& d, const Floats& a, const Floats& t, const Floats& u,
                           int32_t n) {
  run<MaxsOp>(d, a, -3.92f, n);
  run<MinsOp>(d, d, 3.92f, n);
  run<MulOp>(u, d, d, n);
  polynomial(t, u, n, 2.0500331174844177e-06f, 0.0002848751610144973f, 0.003765515051782131f,
             0.052748408168554306f, 0.19040480256080627f, 1.1283791065216064f);
  run<MulOp>(d, d, t, n);
  polynomial(t, u, n, 3.809075496974401e-05f, 0.001162500586360693f, 0.014969022944569588f,
             0.11410833895206451f, 0.5020745992660522f, 1.0f);
  run<DivOp>(d, d, t, n);
  run<MaxsOp>(d, d, -1.0f, n);
  run<MinsOp>(d, d, 1.0f, n);
}

__aicore__ inline void gelu(const Floats& d, const Floats& a, const Floats& t, const Floats& u,
                            const Floats& v, int32_t n) {
  run<MulsOp>(v, a, 0.70710678118654752f, n);
  erf(v, v, t, u, n);
  run<AddsOp>(v, v, 1.0f, n);
  run<MulOp>(v, v, a, n);
  run<MulsOp>(d, v, 0.5f, n);
}
/// With 1 + tanh(y) = 2 / (1 + exp(-2 y)).
__aicore__ inline void gelu_tanh(const Floats& d, const Floats& a, const Floats& t, int32_t n) {
  constexpr float kTwice = 1.5957691216057308f;  // 2 sqrt(2 / pi)
  run<MulOp>(t, a, a, n);
  run<MulsOp>(t, t, -0.044715f * kTwice, n);
  run<AddsOp>(t, t, -kTwice, n);
  run<MulOp>(t, t, a, n);
  run<ExpOp>(t, t, n);
  run<AddsOp>(t, t, 1.0f, n);
  run<DivOp>(d, a, t, n);
}

/// sin(a) = (-1)^k sin(a - k pi), for cosines with k - 1/2 for k; |a| < 4e5, off by 2e-7 at most.
/// pi is taken away in pieces whose products with k are exact (Cody and Waite).
template <bool kCosine>
__aicore__ inline void sinusoid(const Floats& d, const Floats& a, const Floats& k, const Floats& t,
                                int32_t n) {
  run<MulsOp>(k, a, 0.318309886183790672f, n);
  if constexpr (kCosine) run<AddsOp>(k, k, 0.5f, n);
  cast(k, k, RoundMode::CAST_RINT, n);
  if constexpr (kCosine) run<AddsOp>(k, k, -0.5f, n);
  run<AddsOp>(d, a, 0.0f, n);
  accumulate(d, k, n, -3.125f, -0.01611328125f, -0.0004730224609375f, -6.318092346191406e-06f,
             -3.1786509424591713e-08f);
  if constexpr (kCosine) run<AddsOp>(k, k, 0.5f, n);
  run<MulsOp>(t, k, 0.5f, n);  // 1 - 2 (k mod 2)
  cast(t, t, RoundMode::CAST_FLOOR, n);
  run<AxpyOp>(k, t, -2.0f, n);
  run<MulsOp>(k, k, -2.0f, n);
  run<AddsOp>(k, k, 1.0f, n);
  run<MulOp>(k, k, d, n);
  run<MulOp>(d, d, d, n);
  polynomial(t, d, n, -2.3867166021318553e-08f, 2.7523904009285616e-06f, -0.0001984083210118115f,
             0.008333330973982811f, -0.1666666716337204f, 1.0f);
  run<MulOp>(d, k, t, n);
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
