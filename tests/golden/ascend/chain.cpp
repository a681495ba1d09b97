// bf16[T, 24], f32[T, 1] = group(bf16[T, 24], bf16[T, 24])
//   %0: bf16[T, 24] = add(%a0, %a1)
//   %1: f32[T, 24] = cast(%0) dtype=float32
//   %2: f32[T, 24] = exp(%1)
//   %3: i64[T, 24] = iota() dtype=int64
//   %4: f32[T, 24] = mul(%2, %3)
//   %5: f32[T, 1] = amax(%4)
//   %6: f32[T, 24] = sub(%4, %5)
//   %7: f32[T, 24] = exp(%6)
//   %8: f32[T, 1] = sum(%7)
//   %9: f32[T, 24] = div(%7, %8)
//   %10: bf16[T, 24] = cast(%9) dtype=bfloat16
//   %11: f32[T, 1] = sum(%9)
#pragma once
#include "../lib/common.h"
#include "../lib/math.h"
#include "../lib/tile_reduce.h"

namespace xc {
struct chain_1933ad33_chain {
  static constexpr i64 kElements = 8448;
  static constexpr i64 kRows = 264;
  static constexpr i64 kColumns = 32;
  static constexpr i64 kUnit = 16;
  static constexpr i64 kEnough = 8192;
  struct {
    i64 T;
  } dim_;
  TPipe* pipe_;
  GlobalBytes a0_;
  GlobalBytes a1_;
  GlobalBytes a2_;
  GlobalBytes a3_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TQue<TPosition::VECOUT, 1> rowOut_;
  LocalTensor<uint8_t> rowsOut_;
  TBuf<TPosition::VECCALC> work_;
  i64 columnsAt_ = -1, columnsOf_ = -1;
  bool ready_ = false;

  __aicore__ inline void init(TPipe& pipe, [[maybe_unused]] const __gm__ i64* s, GM_ADDR a0, GM_ADDR a1, GM_ADDR a2, GM_ADDR a3) {
    pipe_ = &pipe;
    dim_.T = s[0];
    a0_ = global<uint8_t>(a0);
    a1_ = global<uint8_t>(a1);
    a2_ = global<uint8_t>(a2);
    a3_ = global<uint8_t>(a3);
    pipe.InitBuffer(in_, 2, 33792);
    pipe.InitBuffer(out_, 2, 16896);
    pipe.InitBuffer(rowOut_, 2, 1536);
    pipe.InitBuffer(work_, 81408);
  }
  __aicore__ inline i64 rows() const { return (dim_.T); }
  __aicore__ inline i64 columns() const { return 24; }

  /// Rows [row, row + rows), columns [col, col + cols).
  __aicore__ inline void run(i64 row, i64 rows, i64 col, i64 cols) {
    if (rows <= 0 || cols <= 0) return;
    const Fit fit(rows, cols, kElements, kRows, kColumns, kUnit, kEnough, true);
    if (!ready_) prepare();
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
  /// What all rows share.
  __aicore__ inline void columns(const Tile& t) {
    const int32_t w = static_cast<int32_t>(t.pitch);
    const LocalTensor<uint8_t> work = work_.Get<uint8_t>();
    const LocalTensor<int32_t> r8 = part<int32_t>(work, 79872);
    op::iota(r8, static_cast<int32_t>(1 + t.col * 2), static_cast<int32_t>(2), w);
    const LocalTensor<float> r9 = part<float>(work, 80640);
    op::cast(r9, r8, RoundMode::CAST_RINT, w);
    columnsAt_ = t.col;
    columnsOf_ = t.cols;
  }
  __aicore__ inline void tile(const Tile& t) {
    const int32_t n = static_cast<int32_t>(t.size());
    const LocalTensor<uint8_t> work = work_.Get<uint8_t>();
    {
      LocalTensor<uint8_t> in = in_.AllocTensor<uint8_t>();
      load(in[0], a0_[(t.row * 24 + t.col) * 2], t, 2, 0, 24);
      load(in[16896], a1_[(t.row * 24 + t.col) * 2], t, 2, 0, 24);
      in_.EnQue(in);
    }
    rowsOut_ = rowOut_.AllocTensor<uint8_t>();
    if (t.col != columnsAt_ || t.cols != columnsOf_) columns(t);
    LocalTensor<uint8_t> in = in_.DeQue<uint8_t>();
    const LocalTensor<float> r1 = part<float>(work, 11776);
    const LocalTensor<bfloat16_t> r0 = part<bfloat16_t>(in, 0);
    op::cast(r1, r0, RoundMode::CAST_NONE, n);
    const LocalTensor<float> r3 = part<float>(work, 45824);
    const LocalTensor<bfloat16_t> r2 = part<bfloat16_t>(in, 16896);
    op::cast(r3, r2, RoundMode::CAST_NONE, n);
    const LocalTensor<float> r4 = part<float>(work, 11776);
    op::add(r4, r1, r3, n);
    LocalTensor<uint8_t> out = out_.AllocTensor<uint8_t>();
    const LocalTensor<bfloat16_t> r5 = part<bfloat16_t>(out, 0);
    op::cast(r5, r4, RoundMode::CAST_RINT, n);
    const LocalTensor<float> r6 = part<float>(work, 11776);
    op::cast(r6, r5, RoundMode::CAST_NONE, n);
    const LocalTensor<float> r7 = part<float>(work, 11776);
    op::exp(r7, r6, n);
    const LocalTensor<float> r10 = part<float>(work, 11776);
    const LocalTensor<float> r9 = part<float>(work, 80640);
    columnwise<MulOp>(r10, r7, r9, t);
    const LocalTensor<float> r11 = part<float>(work, 8704);
    const LocalTensor<float> r12 = part<float>(out, 0);
    reduceRows<ReduceType::MAX>(r11, r10, r12, t);
    const LocalTensor<float> r14 = part<float>(work, 0);
    blocks(r14, r11, t.rows());
    const LocalTensor<float> r13 = part<float>(work, 11776);
    rowwise<SubOp>(r13, r10, r14, t);
    const LocalTensor<float> r15 = part<float>(work, 11776);
    op::exp(r15, r13, n);
    const LocalTensor<float> r16 = part<float>(work, 10240);
    const LocalTensor<float> r17 = part<float>(out, 0);
    reduceRows<ReduceType::SUM>(r16, r15, r17, t);
    const LocalTensor<float> r19 = part<float>(work, 0);
    blocks(r19, r16, t.rows());
    const LocalTensor<float> r18 = part<float>(work, 11776);
    rowwise<DivOp>(r18, r15, r19, t);
    const LocalTensor<bfloat16_t> r20 = part<bfloat16_t>(out, 0);
    op::cast(r20, r18, RoundMode::CAST_RINT, n);
    const LocalTensor<float> r21 = part<float>(rowsOut_, 0);
    const LocalTensor<float> r22 = part<float>(in, 0);
    reduceRows<ReduceType::SUM>(r21, r18, r22, t);
    in_.FreeTensor(in);
    out_.EnQue(out);
    out = out_.DeQue<uint8_t>();
    store(a2_[(t.row * 24 + t.col) * 2], out[0], t, 2, 0, 24);
    out_.FreeTensor(out);
    rowOut_.EnQue(rowsOut_);
    rowsOut_ = rowOut_.DeQue<uint8_t>();
    storeLine(a3_[(t.row) * 4], rowsOut_[0], t.rows(), 4, 1, 32);
    rowOut_.FreeTensor(rowsOut_);
  }
  /// Once, before the first tile.
  __aicore__ inline void prepare() {
    const LocalTensor<uint8_t> work = work_.Get<uint8_t>();
    op::fill(part<int32_t>(work, 8704), int32_t(0), 384);
    op::fill(part<int32_t>(work, 10240), int32_t(0), 384);
    for (int k = 0; k < 2; ++k) {
      LocalTensor<uint8_t> b = rowOut_.AllocTensor<uint8_t>();
      op::fill(part<int32_t>(b, 0), int32_t(0), 384);
      rowOut_.FreeTensor(b);
    }
    ready_ = true;
  }
};

__aicore__ inline void chain_1933ad33([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3) {
  chain_1933ad33_chain chain;
  chain.init(pipe, s, a0, a1, a2, a3);
  deal(chain, team, chain.rows(), chain.columns(), 16, false, 256);
}
}  // namespace xc

