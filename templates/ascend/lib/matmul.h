// Products of two matrices that are computed: batches, broadcast, either of B's dims contiguous.
#pragma once
#include "gemm.h"

namespace xc {

/// Where the matrices of a product lie: batch dims, outermost first, and strides in elements (0
/// where an operand is broadcast).
struct Batch {
  static constexpr int32_t DIMS = 4;
  i64 size[DIMS], a[DIMS], b[DIMS], c[DIMS];

  __aicore__ inline i64 count() const { return size[0] * size[1] * size[2] * size[3]; }
  __aicore__ inline static i64 at(const i64* size, const i64* step, i64 index) {
    i64 out = 0;
    for (int32_t d = DIMS - 1; d >= 0; --d) {
      out += index % size[d] * step[d];
      index /= size[d];
    }
    return out;
  }
};

/// Operands in place. B is [K, N] with rows `ldb` apart, or (ACROSS) [N, K] with rows `ldb` apart.
template <class T, int32_t PANEL, bool ACROSS>
class MatmulSource {
 public:
  static constexpr int32_t K0 = 32 / sizeof(T);

  __aicore__ inline MatmulSource(GM_ADDR a, GM_ADDR b, const Batch& batch, i64 n, i64 lda, i64 ldb)
      : a_(global<T>(a)), b_(global<T>(b)), batch_(batch), n_(n), lda_(lda), ldb_(ldb) {}

  __aicore__ inline void a(const LocalTensor<T>& dst, const Task& task, int32_t m16, i64 k,
                           int32_t depth) {
    const i64 from = Batch::at(batch_.size, batch_.a, task.batch) + task.row * lda_ + k;
    rowsToL1(dst, a_[from], lda_, task.m, m16, depth, task.m == 1);
  }
  __aicore__ inline void b(const LocalTensor<T>& dst, i64 batch, i64 panel, i64 k, int32_t length) {
    const i64 from = Batch::at(batch_.size, batch_.b, batch), col = panel * PANEL;
    const int32_t n = columns(panel);
    if constexpr (ACROSS) {  // [K / k0][n16][k0], as packed weights
      rowsToL1(dst, b_[from + col * ldb_ + k], ldb_, n, up16(n), length, false);
    } else if constexpr (sizeof(T) == 2) {  // [n / 16][k16][16]
      rowsToL1(dst, b_[from + k * ldb_ + col], ldb_, length, up16(length), n, false);
    } else {  // [k / 16][n / 8][16][8]: squares of 16 x 16 side by side, which can be transposed
      for (int32_t i = 0; i < length; i += 16)
        rowsToL1(dst[i * up16(n)], b_[from + (k + i) * ldb_ + col], ldb_,
                 length - i < 16 ? length - i : 16, 16, n, false);
    }
  }
  __aicore__ inline void b0(const LocalTensor<T>& dst, const LocalTensor<T>& src, i64 panel,
                            int32_t at, int32_t length, int32_t of) {
    const int32_t n16 = up16(columns(panel));
    if constexpr (ACROSS) {
      LoadData2DParams p;
      p.repeatTimes = static_cast<uint8_t>((length + K0 - 1) / K0 * (n16 / 16));
      p.srcStride = 1;
      LoadData(dst, src[at * n16], p);
    } else if constexpr (sizeof(T) == 2) {
      LoadData2DParams p;
      p.repeatTimes = static_cast<uint8_t>(n16 / 16);
      p.srcStride = static_cast<uint16_t>(up16(of) / 16);
      p.ifTranspose = true;
      for (int32_t i = 0; i < length; i += 16) LoadData(dst[i * n16], src[(at + i) * 16], p);
    } else {
      LoadData2dTransposeParams p;
      p.repeatTimes = static_cast<uint8_t>(n16 / 16);
      p.srcStride = 1;
      p.dstFracGap = static_cast<uint16_t>(n16 / 16 - 1);
      for (int32_t i = 0; i < length; i += 16)
        LoadDataWithTranspose(dst[i * n16], src[(at + i) * n16], p);
    }
  }
  __aicore__ inline int32_t columns(i64 panel) const {
    return static_cast<int32_t>(least(PANEL, n_ - panel * PANEL));
  }

 private:
  __aicore__ inline static int32_t up16(int32_t v) { return (v + 15) / 16 * 16; }

  GlobalTensor<T> a_, b_;
  const Batch& batch_;
  i64 n_, lda_, ldb_;
};

/// Finished sub-tiles go to their place in c[..., M, N], whose rows are `ldc` apart.
template <class T, int32_t PANEL>
class MatmulSink {
 public:
  __aicore__ inline MatmulSink(GM_ADDR c, const Batch& batch, i64 n, i64 ldc)
      : c_(global<T>(c)), batch_(batch), n_(n), ldc_(ldc) {}
  __aicore__ inline void put(const LocalTensor<float>& sums, const Task& task, int32_t m16,
                             i64 panel, int32_t panels) {
    const i64 col = panel * PANEL;
    const i64 to = Batch::at(batch_.size, batch_.c, task.batch) + task.row * ldc_ + col;
    fromL0C(c_[to], sums, ldc_, task.m, m16, static_cast<int32_t>(least(panels * PANEL, n_ - col)));
  }

 private:
  GlobalTensor<T> c_;
  const Batch& batch_;
  i64 n_, ldc_;
};

/// c[..., M, N] = a[..., M, K] b[..., K, N], rounded to T. A cube phase. The last dim of a and c is
/// contiguous; of b the last, or (ACROSS) the one before it, and `ldb` is the other's stride.
template <class T, int32_t PANEL, bool ACROSS>
__aicore__ inline void matmul(TPipe& pipe, Team team, GM_ADDR a, GM_ADDR b, GM_ADDR c,
                              const Batch& batch, i64 m, i64 n, i64 k, i64 lda, i64 ldb, i64 ldc,
                              const Tiling& tiling) {
  using Source = MatmulSource<T, PANEL, ACROSS>;
  using Sink = MatmulSink<T, PANEL>;
  Deal deal;
  deal.init(tiling, batch.count(), m, ceilDiv(n, PANEL), k, team.count);
  if (deal.tasks == 0) return;
  Source source(a, b, batch, n, lda, ldb);
  Sink sink(c, batch, n, ldc);
  Gemm<T, PANEL, Source, Sink>(pipe, deal, source, sink).run(team);
}
}  // namespace xc
