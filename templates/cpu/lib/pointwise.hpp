// Scalar helpers of generated pointwise code; all vectorise.
#pragma once
#include <algorithm>
#include <cmath>

#include "math.hpp"
#include "team.hpp"

namespace xc {
namespace math {

/// As torch: NaN wins.
template <class V>
inline V max(V a, V b) {
  return a > b || a != a ? a : b;
}
template <class V>
inline V min(V a, V b) {
  return a < b || a != a ? a : b;
}
template <class V>
inline V abs(V a) {
  return a < V(0) ? -a : a;
}
inline float abs(float a) { return std::fabs(a); }
inline double abs(double a) { return std::fabs(a); }

/// Rounds towards minus infinity. Division by zero gives 0: integers have no better answer.
inline i64 floordiv(i64 a, i64 b) {
  if (b == 0) return 0;
  i64 q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}
template <class V>
inline V floordiv(V a, V b) {
  return std::floor(a / b);
}
/// Sign of the divisor, as Python and torch.
inline i64 remainder(i64 a, i64 b) { return a - b * floordiv(a, b); }
template <class V>
inline V remainder(V a, V b) {
  V r = std::fmod(a, b);
  return r != V(0) && ((r < V(0)) != (b < V(0))) ? r + b : r;
}

/// A value as a 16-bit type would hold it.
inline float round_bf16(float x) { return to_f32(to_bf16(x)); }
inline float round_f16(float x) { return float(_Float16(x)); }

}  // namespace math

/// Rows that are worth a thread of their own.
inline i64 row_grain(i64 columns) {
  return columns >= 2048 ? 1 : 2048 / (columns > 0 ? columns : 1);
}

}  // namespace xc
