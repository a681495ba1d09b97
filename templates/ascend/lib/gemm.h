// Dense products with packed weights: y = x w^T, straight out or through a fused epilogue.
#pragma once
#include "gemm_cube.h"

namespace xc {

/// x[M, K] (rows `lda` elements apart) and weights packed as [panels][K / k0][PANEL][k0]. Of
/// several products, x begins `step` apart, and weights follow each other.
template <class T, int32_t PANEL>
class LinearSource {
 public:
  static constexpr int32_t K0 = 32 / sizeof(T);

  /// stream: weights are read once, and not worth keeping in L2.
  __aicore__ inline LinearSource(GM_ADDR x, GM_ADDR w, i64 k, i64 lda, bool stream, i64 step = 0,
                                 i64 panels = 0)
      : x_(global<T>(x)),
        lda_(lda),
        step_(step),
        w_(global<T>(w)),
        panel_(alignUp(k, K0) * PANEL),
        panels_(panels) {
    if (stream) w_.SetL2CacheHint(CacheMode::CACHE_MODE_DISABLE);
  }
  __aicore__ inline void a(const LocalTensor<T>& dst, const Task& task, int32_t m16, i64 k,
                           int32_t depth) {
    rowsToL1(dst, x_[task.batch * step_ + task.row * lda_ + k], lda_, task.m, m16, depth,
             task.m == 1);
  }
  __aicore__ inline void b(const LocalTensor<T>& dst, i64 batch, i64 panel, i64 k, int32_t length) {
    DataCopy(dst, w_[(batch * panels_ + panel) * panel_ + k * PANEL],
             static_cast<uint32_t>((length + K0 - 1) / K0 * K0 * PANEL));
  }
  __aicore__ inline void b0(const LocalTensor<T>& dst, const LocalTensor<T>& src, i64, int32_t at,
                            int32_t length, int32_t) {
    LoadData2DParams p;
    p.repeatTimes = static_cast<uint8_t>((length + K0 - 1) / K0 * (PANEL / 16));
    p.srcStride = 1;
    LoadData(dst, src[at * PANEL], p);
  }
  __aicore__ inline int32_t columns(i64) const { return PANEL; }

 protected:
  GlobalTensor<T> x_;
  i64 lda_, step_;

 private:
  GlobalTensor<T> w_;
  i64 panel_, panels_;
};

/// Finished sub-tiles go to y[M, N] (rows `ldc` apart, products `step` apart) in T.
template <class T, int32_t PANEL>
class DirectSink {
 public:
  __aicore__ inline DirectSink(GM_ADDR y, i64 n, i64 ldc, i64 step = 0)
      : y_(global<T>(y)), n_(n), ldc_(ldc), step_(step) {}
  __aicore__ inline void put(const LocalTensor<float>& sums, const Task& task, int32_t m16,
                             i64 panel, int32_t panels) {
    const i64 col = panel * PANEL;
    fromL0C(y_[task.batch * step_ + task.row * ldc_ + col], sums, ldc_, task.m, m16,
            static_cast<int32_t>(least(panels * PANEL, n_ - col)));
  }

 private:
  GlobalTensor<T> y_;
  i64 n_, ldc_, step_;
};

/// Products that run together: x and y of the next begin so many elements on, its weights so many
/// panels (0: they share them).
struct Many {
  i64 count, x, y, panels;
};

/// y[i] = x[i] w[i]^T, rounded to T. A cube phase. x[i] is M x K, its rows lda elements apart, y[i]
/// is M x N. stream: L2 holds less than all weights of a step, so what is read once goes past it.
template <class T, int32_t PANEL>
__aicore__ inline void linears(TPipe& pipe, Team team, GM_ADDR x, GM_ADDR w, GM_ADDR y,
                               const Many& many, i64 m, i64 n, i64 k, i64 lda, i64 ldc, bool stream,
                               const Tiling& tiling) {
  using Source = LinearSource<T, PANEL>;
  using Sink = DirectSink<T, PANEL>;
  Deal deal;
  deal.init(tiling, many.count, m, ceilDiv(n, PANEL), k, team.count);
  if (deal.tasks == 0) return;
  const bool once = deal.once() && (many.count == 1 || many.panels > 0);
  Source source(x, w, k, lda, stream && once, many.x, many.panels);
  Sink sink(y, n, ldc, many.y);
  Gemm<T, PANEL, Source, Sink>(pipe, deal, source, sink).run(team);
}

/// y = x w^T, rounded to T. A cube phase. x[M, K], y[M, N], their rows lda and ldc elements apart.
template <class T, int32_t PANEL>
__aicore__ inline void linear(TPipe& pipe, Team team, GM_ADDR x, GM_ADDR w, GM_ADDR y, i64 m, i64 n,
                              i64 k, i64 lda, i64 ldc, bool stream, const Tiling& tiling) {
  linears<T, PANEL>(pipe, team, x, w, y, {1, 0, 0, 0}, m, n, k, lda, ldc, stream, tiling);
}

constexpr int32_t SLOTS = 4;  // tiles of sums that a cube core may be ahead of its vector cores
constexpr uint16_t FILLED = 0, EMPTIED = 1;

/// Finished sub-tiles go to the core's ring in global memory as float, `pitch` apart. Of two
/// interleaved weights, the first one's columns come first.
template <int32_t PANEL, bool GATED>
class RingSink {
 public:
  __aicore__ inline RingSink(GM_ADDR ring, i64 slot, int32_t pitch)
      : ring_(global<float>(ring)), slot_(slot), pitch_(pitch) {}
  __aicore__ inline void put(const LocalTensor<float>& sums, const Task& task, int32_t m16, i64,
                             int32_t panels) {
    if (count_ >= SLOTS) CrossCoreWaitFlag(EMPTIED);
    const GlobalTensor<float> to = ring_[count_ % SLOTS * slot_];
    FixpipeParamsV220 p;
    p.mSize = static_cast<uint16_t>(task.m);
    p.srcStride = static_cast<uint16_t>(m16);
    p.dstStride = static_cast<uint32_t>(pitch_);
    if constexpr (GATED) {
      p.nSize = PANEL / 2;
      p.ndNum = static_cast<uint16_t>(panels);
      p.srcNdStride = static_cast<uint16_t>(PANEL / 16 * (m16 / 16));
      p.dstNdStride = PANEL / 2;
      Fixpipe(to, sums, p);
      Fixpipe(to[pitch_ / 2], sums[PANEL / 2 * m16], p);
    } else {
      p.nSize = static_cast<uint16_t>(panels * PANEL);
      Fixpipe(to, sums, p);
    }
    CrossCoreSetFlag<2, PIPE_FIX>(FILLED);
    ++count_;
  }
  __aicore__ inline void end() {
    for (i64 i = count_ < SLOTS ? count_ : SLOTS; i > 0; --i) CrossCoreWaitFlag(EMPTIED);
  }

 private:
  GlobalTensor<float> ring_;
  i64 slot_, count_ = 0;
  int32_t pitch_;
};

/// Bytes of a cube core's ring: its share of the workspace of fusedLinear.
__aicore__ inline i64 ringBytes(i64 slotFloats) { return SLOTS * slotFloats * 4; }

/// f(x w^T) or f(x wg^T, x wu^T), whose weights are interleaved (GATED). A mix phase: cube cores
/// leave float tiles in `ring` (ringBytes(slot) for each), their vector cores run the epilogue.
///
/// Epilogue: run(acc, [up,] pitch, row, rows, col, cols) with element (i, j) of the tile at
/// acc[i * pitch + j] and (row, col) its place in the result of M x N.
template <class T, int32_t PANEL, bool GATED, class Epilogue>
__aicore__ inline void fusedLinear(TPipe& pipe, Team team, GM_ADDR x, GM_ADDR w, GM_ADDR ring,
                                   i64 slot, i64 m, i64 n, i64 k, i64 lda, bool stream,
                                   const Tiling& tiling, Epilogue& epilogue) {
  constexpr int32_t WIDTH = GATED ? PANEL / 2 : PANEL;  // results of a panel
  const int32_t pitch = tiling.group * PANEL;
  Team cubes = team;
  if ASCEND_IS_AIV {
    cubes = {team.index / 2, team.count / 2};
  }
  Deal deal;
  deal.init(tiling, 1, m, ceilDiv(n, WIDTH), k, cubes.count);
  if (deal.tasks == 0) return;
  GM_ADDR mine = ring + cubes.index * ringBytes(slot);
  if ASCEND_IS_AIC {
    using Sink = RingSink<PANEL, GATED>;
    LinearSource<T, PANEL> source(x, w, k, lda, stream && deal.once());
    Sink sink(mine, slot, pitch);
    Gemm<T, PANEL, LinearSource<T, PANEL>, Sink>(pipe, deal, source, sink).run(cubes);
    sink.end();
  }
  if ASCEND_IS_AIV {
    const GlobalTensor<float> tiles = global<float>(mine);
    const bool second = GetSubBlockIdx() != 0;
    i64 count = 0;
    Cursor c;
    for (c.init(deal, cubes); c.live; c.nextTask(deal)) {
      for (c.sub = 0; c.sub < c.subs; ++c.sub, ++count) {
        const i64 col = c.panel(deal) * WIDTH;
        const int32_t panels =
            static_cast<int32_t>(least(tiling.group, c.task.panels - c.sub * tiling.group));
        // Half of the rows each; of a single row, half of the columns.
        i64 i0 = 0, rows = c.task.m, j0 = 0, cols = least(panels * WIDTH, n - col);
        if (rows > 1) {
          const i64 half = (rows + 1) / 2;
          i0 = second ? half : 0;
          rows = second ? rows - half : half;
        } else {
          const i64 half = least(alignUp(ceilDiv(cols, 2), 16), cols);
          j0 = second ? half : 0;
          cols = second ? cols - half : half;
        }
        CrossCoreWaitFlag(FILLED);
        if (rows > 0 && cols > 0) {
          const GlobalTensor<float> acc = tiles[count % SLOTS * slot + i0 * pitch + j0];
          if constexpr (GATED)
            epilogue.run(acc, acc[pitch / 2], pitch, c.task.row + i0, rows, col + j0, cols);
          else
            epilogue.run(acc, pitch, c.task.row + i0, rows, col + j0, cols);
        }
        CrossCoreSetFlag<2, PIPE_MTE2>(EMPTIED);
      }
    }
  }
}
}  // namespace xc
