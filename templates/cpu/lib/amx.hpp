// AMX tiles: eight of 16 rows by 64 bytes, as TileScope (gemm.hpp) configures them.
#pragma once
#include "base.hpp"

#if defined(__AMX_BF16__) && defined(__AMX_TILE__)
#define XC_AMX 1

namespace xc {

template <int T>
void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}
template <int T>
void tile_load(const void* from, i64 stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
void tile_store(void* to, i64 stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}
/// C[16][16] += A[16][32] B[32][16], B as pairs along its rows.
template <int C, int A, int B>
void tile_dot() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

}  // namespace xc
#endif
