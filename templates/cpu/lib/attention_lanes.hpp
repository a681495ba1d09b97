// Vectors of R rows times G keys, R * G = VL: what decode attention computes scores in.
#pragma once
#include <utility>

#include "transpose.hpp"

namespace xc {

using Lanes = std::make_integer_sequence<int, VL>;

// 4 bytes of a key, and what they meet: query vectors in the form the multiplication wants.
template <class T>
struct Dot {
  static constexpr int elems = 1, parts = 1;
  static constexpr bool pairs = false;
  static void add(vf& c, vf key, const float* q) { c += key * vload(q); }
};
template <>
struct Dot<bf16> {
  static constexpr int elems = 2;
#if XC_BF16_DOT
  static constexpr int parts = 1;
  static constexpr bool pairs = true;
  static void add(vf& c, vf key, const float* q) { c = dot_bf16(c, key, vload(q)); }
#else
  static constexpr int parts = 2;  // even elements, then odd ones
  static constexpr bool pairs = false;
  static void add(vf& c, vf key, const float* q) {
    c += (vf)((vu)key << 16) * vload(q);
    c += (vf)((vu)key & 0xffff0000u) * vload(q + VL);
  }
#endif
};

template <int G, int... J>
inline vf repeat_lanes(const void* p, std::integer_sequence<int, J...>) {
  typedef float part __attribute__((vector_size(G * 4)));
  part v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_shufflevector(v, v, (J % G)...);
}

// G times 4 bytes at p, repeated over the vector.
template <int G>
inline vf repeat(const void* p) {
  if constexpr (G == VL) return vload(static_cast<const float*>(p));
  if constexpr (G == 1) return splat(*static_cast<const float*>(p));
#if defined(__AVX512F__)
  vf v;
  struct Part {
    float x[G];
  };
  const Part& m = *static_cast<const Part*>(p);
  if constexpr (G == 8) asm("vbroadcastf64x4 %1, %0" : "=v"(v) : "m"(m));
  if constexpr (G == 4) asm("vbroadcastf32x4 %1, %0" : "=v"(v) : "m"(m));
  if constexpr (G == 2) asm("vbroadcastsd %1, %0" : "=v"(v) : "m"(m));
  return v;
#else
  return repeat_lanes<G>(p, Lanes());
#endif
}

// Sums of neighbouring groups of lanes: N vectors into one, whose lane g of G has vector g's sum.
template <int D, int N>
inline vf sum_lanes(vf* c) {
  if constexpr (N == 1) {
    return c[0];
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; ++i) {
      detail::exchange<D>(c[2 * i], c[2 * i + 1], Lanes());
      c[i] = c[2 * i] + c[2 * i + 1];
    }
    return sum_lanes<2 * D, N / 2>(c);
  }
}

template <int D, int... J>
inline vf swap_lanes(vf x, std::integer_sequence<int, J...>) {
  return __builtin_shufflevector(x, x, (J ^ D)...);
}

// The maximum of each group of G lanes, in all of them.
template <int G>
inline vf max_lanes(vf x) {
  if constexpr (G > 1) x = vmax(x, swap_lanes<1>(x, Lanes()));
  if constexpr (G > 2) x = vmax(x, swap_lanes<2>(x, Lanes()));
  if constexpr (G > 4) x = vmax(x, swap_lanes<4>(x, Lanes()));
  if constexpr (G > 8) x = vmax(x, swap_lanes<8>(x, Lanes()));
  return x;
}

}  // namespace xc
