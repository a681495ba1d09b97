// bf16[T, 16] = group(bf16[T, 24], bf16[16, 24], bf16[16, 24])
//   %0: bf16[T, 16] = linear(%a0, %a1)
//   %1: bf16[T, 16] = linear(%a0, %a2)
//   %2: bf16[T, 16] = silu(%0)
//   %3: bf16[T, 16] = mul(%2, %1)
#pragma once
#include "../lib/common.h"
#include "../lib/gemm.h"
#include "../lib/math.h"
#include "../lib/tile_ops.h"

namespace xc {
struct linear_4dce4e0f_epilogue {
  static constexpr i64 kElements = 7680;
  static constexpr i64 kRows = 480;
  static constexpr i64 kColumns = 16;
  static constexpr i64 kUnit = 16;
  static constexpr i64 kEnough = 8192;
  struct {
    i64 T;
  } dim_;
  TPipe* pipe_;
  GlobalBytes a0_;
  GlobalBytes acc0_, acc1_;
  i64 pitch_ = 0, row_ = 0, col_ = 0;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> work_;

  __aicore__ inline void init(TPipe& pipe, [[maybe_unused]] const __gm__ i64* s, GM_ADDR a0) {
    pipe_ = &pipe;
    dim_.T = s[0];
    a0_ = global<uint8_t>(a0);
    pipe.InitBuffer(in_, 2, 61952);
    pipe.InitBuffer(out_, 2, 15360);
    pipe.InitBuffer(work_, 30720);
  }

  /// Rows [row, row + rows), columns [col, col + cols); element (i, j) of them is acc[i * pitch + j].
  __aicore__ inline void run(const GlobalTensor<float>& acc0, const GlobalTensor<float>& acc1, i64 pitch, i64 row, i64 rows, i64 col, i64 cols) {
    if (rows <= 0 || cols <= 0) return;
    acc0_ = global<uint8_t>((GM_ADDR)acc0.GetPhyAddr());
    acc1_ = global<uint8_t>((GM_ADDR)acc1.GetPhyAddr());
    pitch_ = pitch;
    row_ = row;
    col_ = col;
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
    const LocalTensor<uint8_t> work = work_.Get<uint8_t>();
    {
      LocalTensor<uint8_t> in = in_.AllocTensor<uint8_t>();
      load(in[0], acc0_[((t.row - row_) * pitch_ + t.col - col_) * 4], t, 4, pitch_ * t.inner, pitch_);
      load(in[30976], acc1_[((t.row - row_) * pitch_ + t.col - col_) * 4], t, 4, pitch_ * t.inner, pitch_);
      in_.EnQue(in);
    }
    LocalTensor<uint8_t> in = in_.DeQue<uint8_t>();
    const LocalTensor<float> r2 = part<float>(in, 0);
    const LocalTensor<float> r0 = part<float>(in, 0);
    const LocalTensor<float> r1 = part<float>(work, 0);
    op::silu(r2, r0, r1, n);
    const LocalTensor<float> r4 = part<float>(work, 0);
    const LocalTensor<float> r3 = part<float>(in, 30976);
    op::mul(r4, r2, r3, n);
    in_.FreeTensor(in);
    LocalTensor<uint8_t> out = out_.AllocTensor<uint8_t>();
    const LocalTensor<bfloat16_t> r5 = part<bfloat16_t>(out, 0);
    op::cast(r5, r4, RoundMode::CAST_RINT, n);
    out_.EnQue(out);
    out = out_.DeQue<uint8_t>();
    store(a0_[(t.row * 16 + t.col) * 2], out[0], t, 2, 0, 16);
    out_.FreeTensor(out);
  }
};

__aicore__ inline void linear_4dce4e0f([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3) {
  [[maybe_unused]] const i64 T = s[0];
  const i64 rows_ = (T);
  const Tiling tiling_ = Tiling{16, 1, 3, 32, 32, 32, 4, 117964};
  linear_4dce4e0f_epilogue epilogue_;
  if ASCEND_IS_AIV {
    epilogue_.init(pipe, s, a2);
  }
  fusedLinear<bfloat16_t, 128, true>(
      pipe, team, a0, a1, a3, 2048, rows_, 16, 24, 24, false, tiling_, epilogue_);
}
}  // namespace xc


// bf16[T, 24] = group(bf16[T, 16], bf16[24, 16], bf16[T, 24])
//   %0: bf16[T, 24] = linear(%a0, %a1)
//   %1: bf16[T, 24] = add(%a2, %0)
#pragma once
#include "../lib/common.h"
#include "../lib/gemm.h"
#include "../lib/math.h"
#include "../lib/tile_ops.h"

namespace xc {
struct linear_78479549_epilogue {
  static constexpr i64 kElements = 9344;
  static constexpr i64 kRows = 292;
  static constexpr i64 kColumns = 32;
  static constexpr i64 kUnit = 16;
  static constexpr i64 kEnough = 8192;
  struct {
    i64 T;
  } dim_;
  TPipe* pipe_;
  GlobalBytes a0_;
  GlobalBytes a1_;
  GlobalBytes acc0_;
  i64 pitch_ = 0, row_ = 0, col_ = 0;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> work_;
  bool ready_ = false;

  __aicore__ inline void init(TPipe& pipe, [[maybe_unused]] const __gm__ i64* s, GM_ADDR a0, GM_ADDR a1) {
    pipe_ = &pipe;
    dim_.T = s[0];
    a0_ = global<uint8_t>(a0);
    a1_ = global<uint8_t>(a1);
    pipe.InitBuffer(in_, 2, 56320);
    pipe.InitBuffer(out_, 2, 18944);
    pipe.InitBuffer(work_, 37376);
  }

  /// Rows [row, row + rows), columns [col, col + cols); element (i, j) of them is acc[i * pitch + j].
  __aicore__ inline void run(const GlobalTensor<float>& acc0, i64 pitch, i64 row, i64 rows, i64 col, i64 cols) {
    if (rows <= 0 || cols <= 0) return;
    acc0_ = global<uint8_t>((GM_ADDR)acc0.GetPhyAddr());
    pitch_ = pitch;
    row_ = row;
    col_ = col;
    const Fit fit(rows, cols, kElements, kRows, kColumns, kUnit, kEnough, false);
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
  __aicore__ inline void tile(const Tile& t) {
    const int32_t n = static_cast<int32_t>(t.size());
    const LocalTensor<uint8_t> work = work_.Get<uint8_t>();
    {
      LocalTensor<uint8_t> in = in_.AllocTensor<uint8_t>();
      load(in[18688], acc0_[((t.row - row_) * pitch_ + t.col - col_) * 4], t, 4, pitch_ * t.inner, pitch_);
      load(in[0], a0_[(t.row * 24 + t.col) * 2], t, 2, 0, 24);
      in_.EnQue(in);
    }
    LocalTensor<uint8_t> in = in_.DeQue<uint8_t>();
    const LocalTensor<float> r1 = part<float>(work, 0);
    const LocalTensor<bfloat16_t> r0 = part<bfloat16_t>(in, 0);
    op::cast(r1, r0, RoundMode::CAST_NONE, n);
    const LocalTensor<float> r3 = part<float>(work, 0);
    const LocalTensor<float> r2 = part<float>(in, 18688);
    op::add(r3, r1, r2, n);
    in_.FreeTensor(in);
    LocalTensor<uint8_t> out = out_.AllocTensor<uint8_t>();
    const LocalTensor<bfloat16_t> r4 = part<bfloat16_t>(out, 0);
    op::cast(r4, r3, RoundMode::CAST_RINT, n);
    out_.EnQue(out);
    out = out_.DeQue<uint8_t>();
    store(a1_[(t.row * 24 + t.col) * 2], out[0], t, 2, 0, 24);
    out_.FreeTensor(out);
  }
  /// Once, before the first tile.
  __aicore__ inline void prepare() {
    const LocalTensor<uint8_t> work = work_.Get<uint8_t>();
    op::fill(part<int32_t>(work, 0), int32_t(0), 9344);
    for (int k = 0; k < 2; ++k) {
      LocalTensor<uint8_t> b = in_.AllocTensor<uint8_t>();
      op::fill(part<int32_t>(b, 0), int32_t(0), 14080);
      in_.FreeTensor(b);
    }
    for (int k = 0; k < 2; ++k) {
      LocalTensor<uint8_t> b = out_.AllocTensor<uint8_t>();
      op::fill(part<int32_t>(b, 0), int32_t(0), 4736);
      out_.FreeTensor(b);
    }
    ready_ = true;
  }
};

__aicore__ inline void linear_78479549([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3,
                                  [[maybe_unused]] GM_ADDR a4) {
  [[maybe_unused]] const i64 T = s[0];
  const i64 rows_ = (T);
  const Tiling tiling_ = Tiling{16, 1, 3, 16, 16, 16, 4, 176947};
  linear_78479549_epilogue epilogue_;
  if ASCEND_IS_AIV {
    epilogue_.init(pipe, s, a2, a3);
  }
  fusedLinear<bfloat16_t, 160, false>(
      pipe, team, a0, a1, a4, 2560, rows_, 24, 16, 16, false, tiling_, epilogue_);
}
}  // namespace xc

