// Steps of a cube tile that the examples share: GM -> L1 -> L0 -> Mmad.
#pragma once
#include "kernel_operator.h"

namespace tile {
using namespace AscendC;

__aicore__ inline uint32_t up16(uint32_t v) { return (v + 15) / 16 * 16; }

// Rows x cols of a row-major matrix with `stride` elements per row into L1, in NZ format.
__aicore__ inline void toL1(const LocalTensor<half>& l1, const GlobalTensor<half>& gm,
                            uint32_t rows, uint32_t cols, uint32_t stride) {
  DataCopy(l1, gm, Nd2NzParams(1, rows, cols, 0, stride, up16(rows), 1, 0));
}
// A[m, k]: NZ in L1, ZZ in L0A.
__aicore__ inline void toA(const LocalTensor<half>& l0, const LocalTensor<half>& l1, uint32_t m,
                           uint32_t k) {
  for (uint32_t r = 0; r < up16(m) / 16; ++r)
    LoadData(l0[r * up16(k) * 16], l1[r * 256],
             LoadData2DParams(0, up16(k) / 16, up16(m) / 16, 0, 0, false, 0));
}
// B[k, n] row-major in L1's NZ; L0B wants ZN, so every fractal is transposed.
__aicore__ inline void toB(const LocalTensor<half>& l0, const LocalTensor<half>& l1, uint32_t k,
                           uint32_t n) {
  for (uint32_t r = 0; r < up16(k) / 16; ++r)
    LoadData(l0[r * up16(n) * 16], l1[r * 256],
             LoadData2DParams(0, up16(n) / 16, up16(k) / 16, 0, 0, true, 0));
}
// B[k, n] given as its transpose [n, k] in L1's NZ: the fractals are already L0B's.
__aicore__ inline void toBt(const LocalTensor<half>& l0, const LocalTensor<half>& l1, uint32_t k,
                            uint32_t n) {
  LoadData(l0, l1, LoadData2DParams(0, up16(k) / 16 * (up16(n) / 16), 1, 0, 0, false, 0));
}
__aicore__ inline void multiply(const LocalTensor<float>& c, const LocalTensor<half>& a,
                                const LocalTensor<half>& b, uint32_t m, uint32_t n, uint32_t k,
                                bool first) {
  MmadParams p;
  p.m = m;
  p.n = n;
  p.k = k;
  p.cmatrixInitVal = first;
  Mmad(c, a, b, p);
}
// L0C's m x n to a row-major matrix of `stride` elements per row.
template <class T>
__aicore__ inline void fromC(const GlobalTensor<T>& gm, const LocalTensor<float>& c, uint32_t m,
                             uint32_t n, uint32_t stride,
                             QuantMode_t quant = QuantMode_t::NoQuant) {
  FixpipeParamsV220 p;
  p.nSize = n;
  p.mSize = m;
  p.srcStride = up16(m);
  p.dstStride = stride;
  p.quantPre = quant;
  p.ndNum = 1;
  p.srcNdStride = 0;
  p.dstNdStride = 0;
  Fixpipe(gm, c, p);
}
template <HardEvent event>
__aicore__ inline void order(int32_t id = 0) {
  SetFlag<event>(id);
  WaitFlag<event>(id);
}
}  // namespace tile
