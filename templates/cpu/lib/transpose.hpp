// In-register transposes and bf16 pairing on native vectors.
#pragma once
#include <utility>

#include "base.hpp"

namespace xc {

namespace detail {

// One butterfly of a block transpose: exchanges the off-diagonal D x D blocks of rows a and b.
template <int D, int... J>
inline void exchange(vf& a, vf& b, std::integer_sequence<int, J...>) {
  vf low = __builtin_shufflevector(a, b, ((J & D) == 0 ? J : VL + J - D)...);
  vf high = __builtin_shufflevector(a, b, ((J & D) == 0 ? J + D : VL + J)...);
  a = low;
  b = high;
}

template <int D>
inline void exchange_all(vf* r) {
  if constexpr (D < VL) {
#pragma GCC unroll 16
    for (int i = 0; i < VL; ++i)
      if ((i & D) == 0) exchange<D>(r[i], r[i + D], std::make_integer_sequence<int, VL>());
    exchange_all<2 * D>(r);
  }
}

}  // namespace detail

/// Transposes the VL x VL block of 4-byte values held in r[0..VL).
inline void transpose(vf* r) { detail::exchange_all<1>(r); }

/// Lane i: a[i] in the low half, b[i] in the high half.
inline vu pair_up(vh a, vh b) {
  return __builtin_convertvector(a, vu) | (__builtin_convertvector(b, vu) << 16);
}

inline vh vload_half(const bf16* p) {
  vh h;
  std::memcpy(&h, p, sizeof h);
  return h;
}

}  // namespace xc
