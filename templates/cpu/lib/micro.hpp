// Geometry shared by packing and the micro-kernels.
//
// A panel is a sequence of 128-byte steps: 32 columns of one 4-byte unit, where a unit is one
// float or a pair of bf16 along K. The left operand holds, per group of rows, the matching units
// step by step: [steps][width].
#pragma once
#include "gemm.hpp"

namespace xc {

// Rows per group: as many accumulators (of two vectors) as the register file holds.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMaxRows = 12;
#else
constexpr int kMaxRows = 6;
#endif

constexpr i64 kPrefetch = 4096;   // bytes ahead in the weight stream
constexpr i64 kBlockSteps = 256;  // steps of a panel kept in L1 while rows pass by (32 KB)

// AMX: tiles of 16 rows by 32 bf16.
constexpr int kTileRows = 16;
constexpr int kTileK = 32;

// Left-operand unit. Without vdpbf16ps the pairs are widened once, when packed.
struct Widened {
  float even, odd;
};
template <class T>
struct UnitOf {
  using type = float;
};
template <>
struct UnitOf<bf16> {
#if XC_BF16_DOT
  using type = uint32_t;
#else
  using type = Widened;
#endif
};
template <class T>
using Unit = typename UnitOf<T>::type;

template <class U>
inline void set_unit(U& unit, float even, float odd) {
  if constexpr (sizeof(U) == 8) {
    unit.even = even;
    unit.odd = odd;
  }
}

template <class T>
constexpr i64 unit_steps(i64 K) {
  return sizeof(T) == 2 ? (K + 1) / 2 : K;
}

// Width a group of `rows` is packed with: the micro-kernels exist for these sizes only.
constexpr int row_width(int rows) {
  return rows <= 2 ? rows : rows <= 4 ? 4 : rows <= 6 ? 6 : rows <= 8 ? 8 : 12;
}

}  // namespace xc
