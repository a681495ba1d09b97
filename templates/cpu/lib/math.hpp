// Branch-free fp32 math for pointwise loops and for native vectors. Every function is plain
// arithmetic and selects, so that a loop over it vectorises on any ISA. Included by base.hpp.
#pragma once

namespace xc {
namespace math {

namespace detail {

template <class F>
struct int_of {
  using type = vi;
};
template <>
struct int_of<float> {
  using type = int32_t;
};

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class F>
inline F constant(float c) {
  return c - F{};
}

// e^x: x = n ln2 + r, |r| <= ln2/2. The scale 2^n is applied in two halves so that denormal
// results and overflow come out of the multiplications. NaN passes through both clamps.
template <class F>
inline F exp(F x) {
  using I = typename int_of<F>::type;
  const F lo = constant<F>(-104.0f), hi = constant<F>(89.0f);
  x = x < lo ? lo : x;
  x = x > hi ? hi : x;
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  F t = x * 1.44269504089f + round;
  F n = t - round;
  F r = x - n * 0.693359375f;
  r = r + n * 2.12194440054690581e-4f;
  F p = r * 1.978926151e-04f + 1.394575228e-03f;
  p = p * r + 8.333503756e-03f;
  p = p * r + 4.166628033e-02f;
  p = p * r + 1.666666582e-01f;
  p = p * r + 5.000000072e-01f;
  p = p * (r * r) + r;
  I k = bit_cast<I>(t) - 0x4b400000;
  I half = k >> 1;
  F s0 = bit_cast<F>((half + 127) << 23), s1 = bit_cast<F>((k - half + 127) << 23);
  return (p * s0 + s0) * s1;
}

template <class F>
inline F abs(F x) {
  using I = typename int_of<F>::type;
  return bit_cast<F>(bit_cast<I>(x) & 0x7fffffff);
}
template <class F>
inline F copysign(F magnitude, F sign) {
  using I = typename int_of<F>::type;
  return bit_cast<F>((bit_cast<I>(magnitude) & 0x7fffffff) |
                     (bit_cast<I>(sign) & int32_t(0x80000000)));
}

// Written over e^-|x| so that neither tail overflows.
template <class F>
inline F sigmoid(F x) {
  F e = exp(-abs(x));
  F one = constant<F>(1.0f);
  return (x < constant<F>(0.0f) ? e : one) / (one + e);
}

template <class F>
inline F tanh(F x) {
  F a = abs(x), z = x * x;
  F p = z * -5.704986326e-03f + 2.063908657e-02f;
  p = p * z - 5.373971485e-02f;
  p = p * z + 1.333144219e-01f;
  p = p * z - 3.333328194e-01f;
  F small = a + a * (z * p);
  F large = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  return copysign(a < constant<F>(0.625f) ? small : large, x);
}

// Odd polynomial up to 1; beyond, 1 - e^-q(|x|) with q fitted to -log(erfc).
template <class F>
inline F erf(F x) {
  F a = abs(x), z = x * x;
  F p = z * 7.853860932e-05f - 8.010193497e-04f;
  p = p * z + 5.188327671e-03f;
  p = p * z - 2.685381193e-02f;
  p = p * z + 1.128358515e-01f;
  p = p * z - 3.761262582e-01f;
  p = p * z + 1.128379166e+00f;
  F limit = constant<F>(4.0f);
  F b = a > limit ? limit : a;
  F q = b * -1.971816503e-04f + 3.055606847e-03f;
  q = q * b - 2.227708432e-02f;
  q = q * b + 1.040373540e-01f;
  q = q * b + 6.370597593e-01f;
  q = q * b + 1.127749559e+00f;
  q = q * b + 1.774954945e-04f;
  F large = 1.0f - exp(-q);
  return copysign(a < constant<F>(1.0f) ? a * p : large, x);
}

template <class F>
inline F silu(F x) {
  return x * sigmoid(x);
}
template <class F>
inline F gelu(F x) {
  return 0.5f * x * (1.0f + erf(x * 0.70710678118654752f));
}
// 0.5 (1 + tanh(u)) is sigmoid(2u), which keeps the negative tail accurate.
template <class F>
inline F gelu_tanh(F x) {
  F u = 1.5957691216057308f * (x + 0.044715f * x * (x * x));
  return x * sigmoid(u);
}
template <class F>
inline F relu(F x) {
  F zero = constant<F>(0.0f);
  return x < zero ? zero : x;
}

}  // namespace detail

inline float exp(float x) { return detail::exp(x); }
inline float sigmoid(float x) { return detail::sigmoid(x); }
inline float tanh(float x) { return detail::tanh(x); }
inline float erf(float x) { return detail::erf(x); }
inline float silu(float x) { return detail::silu(x); }
inline float gelu(float x) { return detail::gelu(x); }
inline float gelu_tanh(float x) { return detail::gelu_tanh(x); }
inline float relu(float x) { return detail::relu(x); }
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline float log(float x) { return __builtin_logf(x); }

inline vf exp(vf x) { return detail::exp(x); }
inline vf silu(vf x) { return detail::silu(x); }
inline vf gelu(vf x) { return detail::gelu(x); }
inline vf gelu_tanh(vf x) { return detail::gelu_tanh(x); }
inline vf relu(vf x) { return detail::relu(x); }

}  // namespace math
}  // namespace xc
