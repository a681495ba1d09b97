// bf16[T, 24], bf16[T, 24] = group(bf16[T, 24], bf16[T, 24], bf16[24])
//   %0: bf16[T, 24] = add(%a0, %a1)
//   %1: f32[T, 24] = cast(%0) dtype=float32
//   %2: f32[T, 24] = square(%1)
//   %3: f32[T, 1] = sum(%2)
//   %4: f32[] = full() value=24, dtype=float32
//   %5: f32[T, 1] = div(%3, %4)
//   %6: f32[] = full() value=1e-06, dtype=float32
//   %7: f32[T, 1] = add(%5, %6)
//   %8: f32[T, 1] = rsqrt(%7)
//   %9: f32[T, 24] = mul(%1, %8)
//   %10: bf16[T, 24] = cast(%9) dtype=bfloat16
//   %11: bf16[T, 24] = mul(%10, %a2)
#pragma once
#include "../lib/common.h"
#include "../lib/math.h"
#include "../lib/tile_reduce.h"

namespace xc {
struct chain_19f7c2fa_chain {
  static constexpr i64 kElements = 7168;
  static constexpr i64 kRows = 224;
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
  GlobalBytes a4_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> work_;
  i64 columnsAt_ = -1, columnsOf_ = -1;
  bool ready_ = false;

  __aicore__ inline void init(TPipe& pipe, [[maybe_unused]] const __gm__ i64* s, GM_ADDR a0, GM_ADDR a1, GM_ADDR a2, GM_ADDR a3, GM_ADDR a4) {
    pipe_ = &pipe;
    dim_.T = s[0];
    a0_ = global<uint8_t>(a0);
    a1_ = global<uint8_t>(a1);
    a2_ = global<uint8_t>(a2);
    a3_ = global<uint8_t>(a3);
    a4_ = global<uint8_t>(a4);
    pipe.InitBuffer(in_, 2, 28672);
    pipe.InitBuffer(out_, 2, 28672);
    pipe.InitBuffer(work_, 70656);
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
    order<HardEvent::V_MTE2>(*pipe_);
    loadLine(work[12288], a2_[(t.col) * 2], t.cols, 2, 1);
    order<HardEvent::MTE2_V>(*pipe_);
    const LocalTensor<float> r20 = part<float>(work, 69888);
    const LocalTensor<bfloat16_t> r19 = part<bfloat16_t>(work, 12288);
    op::cast(r20, r19, RoundMode::CAST_NONE, w);
    columnsAt_ = t.col;
    columnsOf_ = t.cols;
  }
  __aicore__ inline void tile(const Tile& t) {
    const int32_t n = static_cast<int32_t>(t.size());
    const int32_t m = static_cast<int32_t>(t.rows());
    const LocalTensor<uint8_t> work = work_.Get<uint8_t>();
    {
      LocalTensor<uint8_t> in = in_.AllocTensor<uint8_t>();
      load(in[0], a0_[(t.row * 24 + t.col) * 2], t, 2, 0, 24);
      load(in[14336], a1_[(t.row * 24 + t.col) * 2], t, 2, 0, 24);
      in_.EnQue(in);
    }
    if (t.col != columnsAt_ || t.cols != columnsOf_) columns(t);
    LocalTensor<uint8_t> in = in_.DeQue<uint8_t>();
    const LocalTensor<float> r1 = part<float>(work, 12288);
    const LocalTensor<bfloat16_t> r0 = part<bfloat16_t>(in, 0);
    op::cast(r1, r0, RoundMode::CAST_NONE, n);
    const LocalTensor<float> r3 = part<float>(work, 41216);
    const LocalTensor<bfloat16_t> r2 = part<bfloat16_t>(in, 14336);
    op::cast(r3, r2, RoundMode::CAST_NONE, n);
    in_.FreeTensor(in);
    const LocalTensor<float> r4 = part<float>(work, 12288);
    op::add(r4, r1, r3, n);
    LocalTensor<uint8_t> out = out_.AllocTensor<uint8_t>();
    const LocalTensor<bfloat16_t> r5 = part<bfloat16_t>(out, 0);
    op::cast(r5, r4, RoundMode::CAST_RINT, n);
    const LocalTensor<float> r6 = part<float>(work, 12288);
    op::cast(r6, r5, RoundMode::CAST_NONE, n);
    const LocalTensor<float> r7 = part<float>(work, 41216);
    op::square(r7, r6, n);
    const LocalTensor<float> r8 = part<float>(work, 7168);
    const LocalTensor<float> r9 = part<float>(out, 14336);
    reduceRows<ReduceType::SUM>(r8, r7, r9, t);
    const LocalTensor<float> r10 = part<float>(work, 8192);
    const LocalTensor<float> r11 = part<float>(work, 9216);
    constant<DivOp>(r10, r8, r11, m);
    const LocalTensor<float> r12 = part<float>(work, 9728);
    op::add(r12, r10, 9.999999974752427e-07f, m);
    const LocalTensor<float> r14 = part<float>(work, 10752);
    const LocalTensor<float> r13 = part<float>(work, 11776);
    op::rsqrt(r14, r12, r13, m);
    const LocalTensor<float> r16 = part<float>(work, 0);
    blocks(r16, r14, t.rows());
    const LocalTensor<float> r15 = part<float>(work, 12288);
    rowwise<MulOp>(r15, r6, r16, t);
    const LocalTensor<bfloat16_t> r17 = part<bfloat16_t>(out, 14336);
    op::cast(r17, r15, RoundMode::CAST_RINT, n);
    const LocalTensor<float> r18 = part<float>(work, 12288);
    op::cast(r18, r17, RoundMode::CAST_NONE, n);
    const LocalTensor<float> r21 = part<float>(work, 12288);
    const LocalTensor<float> r20 = part<float>(work, 69888);
    columnwise<MulOp>(r21, r18, r20, t);
    const LocalTensor<bfloat16_t> r22 = part<bfloat16_t>(out, 14336);
    op::cast(r22, r21, RoundMode::CAST_RINT, n);
    out_.EnQue(out);
    out = out_.DeQue<uint8_t>();
    store(a3_[(t.row * 24 + t.col) * 2], out[0], t, 2, 0, 24);
    store(a4_[(t.row * 24 + t.col) * 2], out[14336], t, 2, 0, 24);
    out_.FreeTensor(out);
  }
  /// Once, before the first tile.
  __aicore__ inline void prepare() {
    const LocalTensor<uint8_t> work = work_.Get<uint8_t>();
    op::fill(part<int32_t>(work, 7168), int32_t(0), 256);
    op::fill(part<int32_t>(work, 8192), int32_t(0), 256);
    op::fill(part<int32_t>(work, 9728), int32_t(0), 256);
    op::fill(part<int32_t>(work, 10752), int32_t(0), 256);
    op::fill(part<float>(work, 9216), 24.0f, 64);
    op::fill(part<float>(work, 11776), 1.0f, 64);
    ready_ = true;
  }
};

__aicore__ inline void chain_19f7c2fa([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3,
                                  [[maybe_unused]] GM_ADDR a4) {
  chain_19f7c2fa_chain chain;
  chain.init(pipe, s, a0, a1, a2, a3, a4);
  deal(chain, team, chain.rows(), chain.columns(), 16, false, 256);
}
}  // namespace xc

