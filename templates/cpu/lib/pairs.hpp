// 32 values of bf16 of two keys as pairs, for dot products that add two keys at a time.
#pragma once
#include <utility>

#include "base.hpp"

#if XC_BF16_DOT
namespace xc {

typedef uint16_t vpair __attribute__((vector_size(64)));  // 32 bf16 values

/// The first `valid` of 32 values, the rest zero.
inline vpair load_32(const bf16* p, i64 valid) {
  vpair v = {};
  if (valid >= 32)
    std::memcpy(&v, p, sizeof v);
  else
    std::memcpy(&v, p, size_t(valid) * 2);
  return v;
}

/// Pairs (a, b) of the even columns, then of the odd ones; untwist() brings sums into order.
inline void pair_keys(vpair a, vpair b, vf* even, vf* odd) {
  const vu x = (vu)a, y = (vu)b;
  *even = (vf)((x & 0xffffu) | (y << 16));
  *odd = (vf)((x >> 16) | (y & 0xffff0000u));
}

}  // namespace xc
#endif
