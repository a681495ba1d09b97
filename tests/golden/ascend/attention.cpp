// f32[2, 4, 7, 20] = attention(f32[2, 4, 7, 24], f32[2, 2, 9, 24], f32[2, 2, 9, 20], bool[2, 1, 7, 9])
#pragma once
#include "../lib/common.h"
#include "../lib/attention.h"

namespace xc {
__aicore__ inline void attention_de3fde88([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3,
                                  [[maybe_unused]] GM_ADDR a4,
                                  [[maybe_unused]] GM_ADDR a5) {
  const DenseSource source_{2, 7, 9, false,
                            672, 168, 24,
                            432, 216, 24,
                            360, 180, 20,
                            560, 20, 80};
  const AttnMaskShape mask_{a3, 63, 0, 9, 1};
  denseAttention<float, AttnMask<uint8_t>>(pipe, team, source_, AttnSizes{2, 2, 24, 20, 0.2f}, AttnTile{256, 256, 64, 1, 0, 0, 0, 6272, 21760, 29056, 8320, 2, 2, 2, 24, 4096, 65536, 65536, 6144, 85, 85, 17},
                        a0, a1, a2, a4, a5, mask_);
}
}  // namespace xc


// f32[2, 4, 7, 20] = group(f32[2, 4, 7, 20])
//   %0: f32[2, 4, 7, 20] = copy(%a0)
#pragma once
#include "../lib/common.h"
#include "../lib/math.h"
#include "../lib/tile_ops.h"

namespace xc {
struct chain_519ca68f_chain {
  static constexpr i64 kElements = 11640;
  static constexpr i64 kRows = 485;
  static constexpr i64 kColumns = 24;
  static constexpr i64 kUnit = 8;
  static constexpr i64 kEnough = 4096;
  TPipe* pipe_;
  GlobalBytes a0_;
  GlobalBytes a1_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;

  __aicore__ inline void init(TPipe& pipe, [[maybe_unused]] const __gm__ i64* s, GM_ADDR a0, GM_ADDR a1) {
    pipe_ = &pipe;
    a0_ = global<uint8_t>(a0);
    a1_ = global<uint8_t>(a1);
    pipe.InitBuffer(in_, 2, 46592);
    pipe.InitBuffer(out_, 2, 46592);
  }
  __aicore__ inline i64 rows() const { return 56; }
  __aicore__ inline i64 columns() const { return 20; }

  /// Rows [row, row + rows), columns [col, col + cols).
  __aicore__ inline void run(i64 row, i64 rows, i64 col, i64 cols) {
    if (rows <= 0 || cols <= 0) return;
    const Fit fit(rows, cols, kElements, kRows, kColumns, kUnit, kEnough, false);
    Tile t;
    for (t.col = col; t.col < col + cols; t.col += t.cols) {
      t.cols = least(fit.cols, col + cols - t.col);
      t.pitch = alignUp(t.cols, kUnit);
      for (t.row = row; t.row < row + rows; t.row += t.rows()) {
        cut(t, row + rows, fit.rows, 7, 4, true);
        tile(t);
      }
    }
  }

 private:
  __aicore__ inline void tile(const Tile& t) {
    i64 q = t.row;
    const i64 i2 = q % 7;
    q /= 7;
    const i64 i1 = q % 4;
    q /= 4;
    const i64 i0 = q;
    const int32_t n = static_cast<int32_t>(t.size());
    {
      LocalTensor<uint8_t> in = in_.AllocTensor<uint8_t>();
      load(in[0], a0_[(i0 * 560 + i1 * 20 + i2 * 80 + t.col) * 4], t, 4, 20, 80);
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
    store(a1_[(i0 * 560 + i1 * 140 + i2 * 20 + t.col) * 4], out[0], t, 4, 140, 20);
    out_.FreeTensor(out);
  }
};

__aicore__ inline void chain_519ca68f([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1) {
  chain_519ca68f_chain chain;
  chain.init(pipe, s, a0, a1);
  deal(chain, team, chain.rows(), chain.columns(), 7, true, 256);
}
}  // namespace xc

