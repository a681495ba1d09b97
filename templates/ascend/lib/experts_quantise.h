// Routed experts of int8: rows of activations as int8, each with its scale.
#pragma once
#include "experts_table.h"

namespace xc {

/// What the vector cores need of a product of int8 beside its sums. A sum of row r and channel n of
/// expert e stands for rows[r] * channels[e, n] of it, plus bias[e, n] if there is one.
struct MoeScales {
  GM_ADDR rows;      // float [rows, 8], all eight the same
  GM_ADDR channels;  // float [experts, panels, PANEL], as the weights are packed
  GM_ADDR bias;      // alike, or null
};

/// q = rint(x 127 / max|x|) of each row of x, ties to even, and its scale max|x| / 127. Rows of
/// zeros give zeros; one with a value that is not finite gets a scale that is not. A vector phase.
template <class T>
class MoeQuantise {
 public:
  /// from T [rows, width], `ld` apart; to int8 [rows, pitch], pitch = width up to 32, padded with
  /// zeros; scales float [rows, 8].
  __aicore__ inline void run(TPipe& pipe, Team team, GM_ADDR from, i64 ld, i64 rows, i64 width,
                             GM_ADDR to, i64 pitch, GM_ADDR scales) {
    width_ = width;
    wide_ = least(alignUp(width, 512), CHUNK);
    const i64 fit = least(CHUNK / wide_, ROWS);
    each_ = least(fit, most(1, ceilDiv(rows, team.count)));
    const Range mine = split(rows, team, each_);
    if (mine.size() == 0) return;
    pipe_ = &pipe;
    from_ = global<T>(from);
    to_ = global<int8_t>(to);
    ld_ = ld;
    pitch_ = pitch;
    init();
    const GlobalTensor<float> spread = global<float>(scales);
    for (i64 row = mine.begin; row < mine.end; row += each_) {
      const i64 count = least(each_, mine.end - row);
      const LocalTensor<float> top = top_.Get<float>();
      for (i64 col = 0; col < width_; col += CHUNK) {
        load(row, count, col);
        largest(top, count, col > 0);
      }
      Maxs(top, top, TINY, ROWS);
      const LocalTensor<float> inverse = top[2 * ROWS], scale = top[3 * ROWS];
      Div(inverse, top[4 * ROWS], top, ROWS);
      Div(scale, top, top[4 * ROWS], ROWS);
      LocalTensor<float> blocks = blocks_.AllocTensor<float>();
      Brcb(blocks, scale, ROWS / 8, {1, 8});
      blocks_.EnQue(blocks);
      blocks = blocks_.DeQue<float>();
      DataCopy(spread[row * 8], blocks, static_cast<uint32_t>(count * 8));
      blocks_.FreeTensor(blocks);
      order<HardEvent::V_S>(pipe);
      for (i64 col = 0; col < width_; col += CHUNK) {
        if (width_ > CHUNK) load(row, count, col);
        quantise(row, count, col, inverse);
      }
    }
  }

 private:
  static constexpr i64 CHUNK = 8192, ROWS = 16;  // elements, and rows, that are worked on together
  static constexpr float TINY = 1e-35f;          // its quotients are finite

  __aicore__ inline void init() {
    TPipe& pipe = *pipe_;
    pipe.InitBuffer(in_, 2, CHUNK * sizeof(T));
    pipe.InitBuffer(out_, 2, CHUNK);
    pipe.InitBuffer(blocks_, 2, ROWS * 32);
    pipe.InitBuffer(x_, CHUNK * 4);
    pipe.InitBuffer(work_, CHUNK * 4);
    pipe.InitBuffer(parts_, CHUNK / 8 * 4 + CHUNK / 64 * 4);
    pipe.InitBuffer(top_, 5 * ROWS * 4);
    Duplicate(top_.Get<float>(), 0.0f, 4 * ROWS);
    Duplicate(top_.Get<float>()[4 * ROWS], 127.0f, ROWS);
    // What no load writes: the padding of rows.
    LocalTensor<T> one = in_.template AllocTensor<T>(), two = in_.template AllocTensor<T>();
    Duplicate(one.template ReinterpretCast<float>(), 0.0f, CHUNK * sizeof(T) / 4);
    Duplicate(two.template ReinterpretCast<float>(), 0.0f, CHUNK * sizeof(T) / 4);
    in_.FreeTensor(one);
    in_.FreeTensor(two);
  }

  /// x_ = a chunk of some rows as float, `wide_` apart, padded with zeros.
  __aicore__ inline void load(i64 row, i64 count, i64 col) {
    const i64 cols = least(CHUNK, width_ - col), bytes = cols * static_cast<i64>(sizeof(T));
    const i64 whole = alignUp(bytes, 32) / static_cast<i64>(sizeof(T));
    LocalTensor<T> in = in_.template AllocTensor<T>();
    const DataCopyExtParams p{
        static_cast<uint16_t>(count), static_cast<uint32_t>(bytes),
        static_cast<uint32_t>((ld_ - cols) * static_cast<i64>(sizeof(T))),
        static_cast<uint32_t>((wide_ - whole) * static_cast<i64>(sizeof(T)) / 32), 0};
    DataCopyPad(in, from_[row * ld_ + col], p,
                DataCopyPadExtParams<T>{true, 0, static_cast<uint8_t>(whole - cols), 0});
    in_.EnQue(in);
    in = in_.template DeQue<T>();
    const LocalTensor<float> x = x_.Get<float>();
    const int32_t n = static_cast<int32_t>(count * wide_);
    if constexpr (sizeof(T) == 4)
      Muls(x, in, 1.0f, n);
    else
      Cast(x, in, RoundMode::CAST_NONE, n);
    in_.FreeTensor(in);
    if (width_ > CHUNK && whole < wide_)  // the last chunk of a long row, over an older one
      Duplicate(x[whole], 0.0f, static_cast<int32_t>(wide_ - whole));
  }

  /// top = the largest |x| of each row of a chunk, and of `top` if there was a chunk before.
  __aicore__ inline void largest(const LocalTensor<float>& top, i64 count, bool more) {
    const LocalTensor<float> work = work_.Get<float>(), eighth = parts_.Get<float>();
    const LocalTensor<float> part = eighth[CHUNK / 8];
    const int32_t n = static_cast<int32_t>(count * wide_);
    Abs(work, x_.Get<float>(), n);
    BlockReduceMax(eighth, work, n / 64, 64, 1, 1, 8);
    BlockReduceMax(part, eighth, n / 512, 64, 1, 1, 8);
    int32_t left = static_cast<int32_t>(wide_ / 64);
    if (left > 64) {  // a single row
      Max(part, part, part[64], left - 64);
      left = 64;
    }
    const LocalTensor<float> to = more ? top[ROWS] : top;
    WholeReduceMax(to, part, left, static_cast<int32_t>(count), 1, 1, left / 8,
                   ReduceOrder::ORDER_ONLY_VALUE);
    if (more) Max(top, top, to, ROWS);
  }

  __aicore__ inline void quantise(i64 row, i64 count, i64 col, const LocalTensor<float>& inverse) {
    const LocalTensor<float> x = x_.Get<float>(), work = work_.Get<float>();
    const int32_t wide = static_cast<int32_t>(wide_), n = static_cast<int32_t>(count * wide_);
    for (int32_t r = 0; r < count; ++r)
      Muls(x[r * wide], x[r * wide], inverse.GetValue(static_cast<uint32_t>(r)), wide);
    // Integers of at most 127 are exact in half.
    Cast(work, x, RoundMode::CAST_RINT, n);
    const LocalTensor<half> narrow = x.ReinterpretCast<half>();
    Cast(narrow, work, RoundMode::CAST_NONE, n);
    LocalTensor<int8_t> out = out_.AllocTensor<int8_t>();
    Cast(out, narrow, RoundMode::CAST_RINT, n);
    out_.EnQue(out);
    out = out_.DeQue<int8_t>();
    const i64 cols = least(wide_, pitch_ - col);
    DataCopyPad(
        to_[row * pitch_ + col], out,
        {static_cast<uint16_t>(count), static_cast<uint32_t>(cols),
         static_cast<uint32_t>((wide_ - cols) / 32), static_cast<uint32_t>(pitch_ - cols), 0});
    out_.FreeTensor(out);
  }

  TPipe* pipe_;
  GlobalTensor<T> from_;
  GlobalTensor<int8_t> to_;
  i64 width_, wide_, each_, ld_, pitch_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_, blocks_;
  TBuf<TPosition::VECCALC> x_, work_, parts_, top_;
};
}  // namespace xc
