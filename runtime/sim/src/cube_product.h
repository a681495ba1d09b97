// The arithmetic of Mmad on fractals.
#pragma once
#include <algorithm>

#include "move.h"

namespace ascsim::cube {

// Where the fractals of a product lie.
struct Shape {
  uint64_t m, n, k, m1, n1, k1, inner;
  uint64_t kStride;  // fractals from one row of blocks of A to the next
  bool vectorA;      // m = 1: A is a plain row
  bool nzA;          // 950: A in NZ

  uint64_t aFractal(uint64_t mb, uint64_t kb) const {
    return 512 * (nzA ? kb * m1 + mb : mb * kStride + kb);
  }
  uint64_t bFractal(uint64_t kb, uint64_t nb) const { return 512 * (kb * n1 + nb); }
  uint64_t cFractal(uint64_t mb, uint64_t nb) const { return 1024 * (nb * m1 + mb); }
};

// Elements of a fractal's 32-byte side.
inline uint64_t innerOf(DType type) { return type == DType::I4 ? 64 : 32 / sizeOf(type); }
inline int32_t saturated(int64_t v) {
  return static_cast<int32_t>(std::clamp<int64_t>(v, INT32_MIN, INT32_MAX));
}
// c = a * b, plus c itself (`keep`) or a row of s.n elements (`start`, may be null). S is the
// type of the sums: float or int32_t.
template <class S>
void multiply(const Place& c, const Place& a, const Place& b, const Shape& s, DType type,
              const S* start, bool keep);

}  // namespace ascsim::cube
