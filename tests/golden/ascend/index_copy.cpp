// f32[9, 4, 5] = group(f32[9, 4, 5])
//   %0: f32[9, 4, 5] = copy(%a0)
#pragma once
#include "../lib/common.h"
#include "../lib/math.h"
#include "../lib/tile_ops.h"

namespace xc {
struct chain_b052b344_chain {
  static constexpr i64 kElements = 184;
  static constexpr i64 kRows = 1;
  static constexpr i64 kColumns = 184;
  static constexpr i64 kUnit = 8;
  static constexpr i64 kEnough = 4096;
  TPipe* pipe_;
  GlobalBytes a0_;
  GlobalBytes a1_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> work_;

  __aicore__ inline void init(TPipe& pipe, [[maybe_unused]] const __gm__ i64* s, GM_ADDR a0, GM_ADDR a1) {
    pipe_ = &pipe;
    a0_ = global<uint8_t>(a0);
    a1_ = global<uint8_t>(a1);
    pipe.InitBuffer(in_, 2, 1024);
    pipe.InitBuffer(out_, 2, 1024);
    pipe.InitBuffer(work_, 61440);
  }
  __aicore__ inline i64 rows() const { return 1; }
  __aicore__ inline i64 columns() const { return 180; }

  /// Rows [row, row + rows), columns [col, col + cols).
  __aicore__ inline void run(i64 row, i64 rows, i64 col, i64 cols) {
    if (rows <= 0 || cols <= 0) return;
    const Fit fit(rows, cols, kElements, kRows, kColumns, kUnit, kEnough, false);
    Tile t;
    for (t.col = col; t.col < col + cols; t.col += t.cols) {
      t.cols = least(fit.cols, col + cols - t.col);
      t.pitch = alignUp(t.cols, kUnit);
      for (t.row = row; t.row < row + rows; t.row += t.rows()) {
        cut(t, row + rows, fit.rows);
        tile(t);
      }
    }
  }

 private:
  __aicore__ inline void tile(const Tile& t) {
    const int32_t n = static_cast<int32_t>(t.size());
    {
      LocalTensor<uint8_t> in = in_.AllocTensor<uint8_t>();
      load(in[0], a0_[(t.col) * 4], t, 4, 0, 0);
      in_.EnQue(in);
    }
    LocalTensor<uint8_t> in = in_.DeQue<uint8_t>();
    LocalTensor<uint8_t> out = out_.AllocTensor<uint8_t>();
    const LocalTensor<float> r1 = part<float>(out, 0);
    const LocalTensor<float> r0 = part<float>(in, 0);
    op::move(r1.template ReinterpretCast<uint8_t>(), r0.template ReinterpretCast<uint8_t>(), n * 4);
    in_.FreeTensor(in);
    out_.EnQue(out);
    out = out_.DeQue<uint8_t>();
    store(a1_[(t.col) * 4], out[0], t, 4, 0, 0);
    out_.FreeTensor(out);
  }
};

__aicore__ inline void chain_b052b344([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1) {
  chain_b052b344_chain chain;
  chain.init(pipe, s, a0, a1);
  deal(chain, team, chain.rows(), chain.columns(), 16, true, 256);
}
}  // namespace xc


// f32[9, 4, 5] = index_copy(f32[9, 4, 5], i64[3], f32[3, 4, 5])
#pragma once
#include "../lib/common.h"
#include "../lib/rows.h"

namespace xc {
__aicore__ inline void index_copy_004409d3([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2) {
  const i64 outer_ = (1), n_ = 3;
  const i64 bytes_ = (4) * (5) * 4;
  scatterRows(pipe, team, a0, outer_, 9, bytes_, a1, n_, a2, bytes_, n_ * bytes_);
}
}  // namespace xc

