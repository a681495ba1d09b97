// Shared by the translation units of the Matmul object.
#pragma once
#include "ascsim/matmul_engine.h"

namespace ascsim::mm {

inline int ceilDiv(int a, int b) { return (a + b - 1) / b; }
template <class T>
T alignUp(T v, T to) {
  return (v + to - 1) / to * to;
}
uint64_t bits(DType t);
inline uint64_t bytesFor(DType t, uint64_t n) { return (n * bits(t) + 7) / 8; }
// Elements of 32 bytes: the width of a fractal.
inline uint64_t c0(DType t) { return 256 / bits(t); }

// n consecutive elements from element `at` of a matrix.
void convertRun(DType t, const uint8_t* base, uint64_t at, int n, float* out);
void convertRun(DType t, const uint8_t* base, uint64_t at, int n, int32_t* out);
float toHf32(float v, int mode);
// c[m][n] += a[m][k] * b[k][n], each element in the order of k. n is a multiple of 16.
void gemm(const float* a, int lda, const float* b, int ldb, float* c, int ldc, int m, int k, int n);
void gemm(const int32_t* a, int lda, const int32_t* b, int ldb, int32_t* c, int ldc, int m, int k,
          int n);
// Atomic write of n elements: 1 add, 2 max, 3 min.
void accumulate(DType t, uint8_t op, uint8_t* to, const uint8_t* from, int n);

// Every byte of the rectangle; returns the number of separate runs.
uint32_t declareRegion(Instr& i, const Region& r);
void describe(Instr& i, const Region& r, uint32_t bursts, Mem to);
// Global memory has these bytes already. Several cores may compute the same part of C, for example
// both vector cores of a group: writes that change nothing are no race.
bool holds(const uint8_t* at, const uint8_t* bytes, uint64_t n);

}  // namespace ascsim::mm
