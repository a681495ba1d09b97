// MLA, products with U and V: rows of tokens or of cached latents in runs, results by head.
#pragma once
#include "gemm.h"

namespace xc {

/// As LinearSource, of rows of x that Rows finds: run(index, wanted, found) is the row behind
/// `index`, and how many from there on follow each other.
template <class T, int32_t PANEL, class Rows>
class MlaSource : public LinearSource<T, PANEL> {
 public:
  __aicore__ inline MlaSource(GM_ADDR x, GM_ADDR w, i64 k, i64 lda, bool stream, i64 step,
                              i64 panels, Rows& rows)
      : LinearSource<T, PANEL>(x, w, k, lda, stream, step, panels), rows_(rows) {}
  __aicore__ inline void a(const LocalTensor<T>& dst, const Task& task, int32_t m16, i64 k,
                           int32_t depth) {
    for (int32_t i = 0; i < task.m;) {
      i64 found = 0;
      const i64 row = rows_.run(task.row + i, task.m - i, found);
      rowsToL1(dst[i * this->K0], this->x_[task.batch * this->step_ + row * this->lda_ + k],
               this->lda_, static_cast<int32_t>(found), m16, depth, task.m == 1);
      i += static_cast<int32_t>(found);
    }
  }

 private:
  Rows& rows_;
};

/// Results of batch h go to the rows of y that Rows finds, `step` elements after those of h - 1.
template <class T, int32_t PANEL, class Rows>
class MlaScatter {
 public:
  __aicore__ inline MlaScatter(GM_ADDR y, i64 n, i64 ldc, i64 step, Rows& rows)
      : y_(global<T>(y)), n_(n), ldc_(ldc), step_(step), rows_(rows) {}
  __aicore__ inline void put(const LocalTensor<float>& sums, const Task& task, int32_t m16,
                             i64 panel, int32_t panels) {
    const i64 col = panel * PANEL;
    const int32_t width = static_cast<int32_t>(least(panels * PANEL, n_ - col));
    for (int32_t i = 0; i < task.m;) {
      i64 found = 0;
      const i64 row = rows_.run(task.row + i, task.m - i, found);
      fromL0C(y_[task.batch * step_ + row * ldc_ + col], sums[i * 16], ldc_,
              static_cast<int32_t>(found), m16, width);
      i += static_cast<int32_t>(found);
    }
  }

 private:
  GlobalTensor<T> y_;
  i64 n_, ldc_, step_;
  Rows& rows_;
};

/// One product for several heads, whose panels follow each other: `each` panels are n columns of
/// y[head, row], which begins `step` elements after that of the head before.
template <class T, int32_t PANEL>
class MlaHeads {
 public:
  __aicore__ inline MlaHeads(GM_ADDR y, i64 n, i64 step)
      : y_(global<T>(y)), n_(n), each_(ceilDiv(n, PANEL)), step_(step) {}
  __aicore__ inline void put(const LocalTensor<float>& sums, const Task& task, int32_t m16,
                             i64 panel, int32_t panels) {
    for (int32_t p = 0; p < panels;) {
      const i64 head = (panel + p) / each_, own = (panel + p) % each_, col = own * PANEL;
      const int32_t some = static_cast<int32_t>(least(panels - p, each_ - own));
      fromL0C(y_[head * step_ + task.row * n_ + col], sums[p * PANEL * m16], n_, task.m, m16,
              static_cast<int32_t>(least(some * PANEL, n_ - col)));
      p += some;
    }
  }

 private:
  GlobalTensor<T> y_;
  i64 n_, each_, step_;
};
}  // namespace xc
