// Prefix sums along rows.
//
// Rows are cut into blocks of `width` elements, and a tile is turned so that the elements of a
// block lie one below the other, a block to a lane. Adding what is 1, 2, 4, ... lines above gives
// the sums within blocks, the same along the line of their totals what comes before each block.
// Sums grow along trees, which rounds less than one element after the other.
#pragma once
#include "pick.h"

namespace xc {

/// Inclusive prefix sums of each row of x [rows, cols] to y. Floats of 16 and 32 bits are added as
/// float; int64 as int32, which all sums have to fit.
template <class T>
class CumSum {
 public:
  __aicore__ inline void run(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols, GM_ADDR y) {
    const Range mine = split(rows, team);
    if (mine.size() <= 0 || cols <= 0) return;
    init(pipe, cols);
    const GlobalBytes in = global<uint8_t>(x), out = global<uint8_t>(y);
    const i64 tiles = ceilDiv(cols, kTile), step = tiles > 1 ? 1 : fits_;
    for (i64 r = mine.begin; r < mine.end; r += step) {
      const i64 count = least(step, mine.end - r);
      Value before = 0, lost = 0;  // the sum of the row so far, and what rounding took from it
      for (i64 t = 0; t < tiles; ++t) {
        const i64 n = least(kTile, cols - t * kTile), bytes = n * sizeof(T);
        const i64 at = (r * cols + t * kTile) * sizeof(T);
        const i64 slot = blocks_ * width_ * sizeof(T);
        Bytes b = ins_.template AllocTensor<uint8_t>();
        loadRows(b, in[at], count, bytes, cols * sizeof(T), slot);
        ins_.EnQue(b);
        tile(pipe, before, lost, t + 1 < tiles);
        b = outs_.template DeQue<uint8_t>();
        storeRows(out[at], b, count, bytes, cols * sizeof(T), slot);
        outs_.FreeTensor(b);
      }
    }
  }

 private:
  static constexpr i64 kTile = 4096;
  static constexpr i64 kMostLanes = 512, kSteps = 6;  // blocks of a row: up to 2^kSteps
  static constexpr int32_t kBuffers = sizeof(T) == 8 ? 1 : 2;
  using Value = typename Std::conditional<sizeof(T) == 8, int32_t, float>::type;

  __aicore__ inline void init(TPipe& pipe, i64 cols) {
    width_ = sizeof(T) == 2 ? 16 : 8;  // whole blocks of UB
    while (width_ < 64 && width_ < cols) width_ *= 2;
    blocks_ = least(ceilDiv(cols, width_), kTile / width_);
    fits_ = kTile / width_ / blocks_;
    lanes_ = alignUp(fits_ * blocks_, 8);
    pipe.InitBuffer(ins_, kBuffers, kTile * sizeof(T));
    pipe.InitBuffer(outs_, kBuffers, kTile * sizeof(T));
    pipe.InitBuffer(x_, kTile * 4);
    pipe.InitBuffer(a_, kTile * 4);
    pipe.InitBuffer(b_, kTile * 4);
    pipe.InitBuffer(turn_, kTile * 4);
    pipe.InitBuffer(back_, kTile * 4);
    pipe.InitBuffer(sums_, (kMostLanes + 8) * 4);
    pipe.InitBuffer(moved_, kMostLanes * 4);
    pipe.InitBuffer(shift_, 64 * kSteps * 4);
    for (int32_t k = 0; k < kBuffers; ++k) {  // padding is added, too
      auto t = ins_.template AllocTensor<int32_t>();
      Duplicate(t, int32_t(0), static_cast<int32_t>(kTile * sizeof(T) / 4));
      ins_.FreeTensor(t);
    }
    const i64 n = lanes_ * width_;
    transposed(turn_.template Get<int32_t>(), lanes_, width_, n);
    transposed(back_.template Get<int32_t>(), width_, lanes_, n);
    const auto sums = sums_.template Get<int32_t>();
    Duplicate(sums, int32_t(0), static_cast<int32_t>(kMostLanes + 8));
    // Lane l - 2^k, or the zero behind the lanes where that is in another row.
    const auto lane = a_.template Get<int32_t>(), block = b_.template Get<int32_t>();
    const auto there = x_.template Get<int32_t>();
    const int32_t l = static_cast<int32_t>(lanes_), zero = kMostLanes;
    for (i64 k = 0; k < kSteps && (1ll << k) < blocks_; ++k) {
      const auto to = shift_.template Get<int32_t>()[k * 64];
      const int32_t by = 1 << k;
      CreateVecIndex(lane, int32_t(0), static_cast<uint32_t>(l));
      rowOf(block, blocks_, l);
      Muls(block, block, static_cast<int32_t>(blocks_), l);
      Sub(block, lane, block, l);
      Adds(there, block, 1 - by, l);  // 1 where there is a block, else 0
      Maxs(there, there, int32_t(0), l);
      Mins(there, there, int32_t(1), l);
      Adds(lane, lane, -by - zero, l);
      Mul(to, lane, there, l);
      Adds(to, to, zero, l);
      ShiftLeft(to, to, int32_t(2), l);
    }
  }
  /// Offsets that turn a matrix of `height` rows of n / height: to[i * height + j] = 4 * (element i
  /// of row j).
  __aicore__ inline void transposed(const LocalTensor<int32_t>& to, i64 height, i64 width, i64 n) {
    const auto row = a_.template Get<int32_t>();
    const int32_t count = static_cast<int32_t>(n);
    rowOf(row, height, n);
    CreateVecIndex(to, int32_t(0), static_cast<uint32_t>(n));
    Muls(to, to, static_cast<int32_t>(width), count);
    Muls(row, row, static_cast<int32_t>(height * width - 1), count);
    Sub(to, to, row, count);
    ShiftLeft(to, to, int32_t(2), count);
  }

  __aicore__ inline void tile(TPipe& pipe, Value& before, Value& lost, bool more) {
    const i64 n = lanes_ * width_;
    const uint32_t count = static_cast<uint32_t>(n);
    auto from = a_.template Get<Value>(), to = b_.template Get<Value>();
    auto in = ins_.template DeQue<T>();
    auto x = x_.template Get<Value>();
    if constexpr (sizeof(T) == 4)
      x = in;
    else
      Cast(x, in, RoundMode::CAST_NONE, count);
    Gather(from, x, turn_.template Get<uint32_t>(), 0, count);
    ins_.FreeTensor(in);
    for (i64 s = 1; s < width_; s *= 2) {
      const i64 skip = s * lanes_;
      DataCopy(to, from, static_cast<uint32_t>(skip));
      Add(to[skip], from[skip], from, static_cast<int32_t>(n - skip));
      exchange(from, to);
    }
    if (blocks_ > 1) {
      beforeBlocks(pipe, from[(width_ - 1) * lanes_], before, lost, more);
      const auto sums = moved_.template Get<Value>();
      const uint8_t step = static_cast<uint8_t>(lanes_ / 8);
      for (i64 l = 0; l < lanes_; l += 64)
        Add(from[l], from[l], sums[l], static_cast<uint64_t>(least(64, lanes_ - l)),
            static_cast<uint8_t>(width_), {1, 1, 1, step, step, 0});
    }
    auto out = outs_.template AllocTensor<T>();
    if constexpr (sizeof(T) == 4) {
      Gather(out, from, back_.template Get<uint32_t>(), 0, count);
    } else {
      Gather(to, from, back_.template Get<uint32_t>(), 0, count);
      Cast(out, to, sizeof(T) == 2 ? RoundMode::CAST_RINT : RoundMode::CAST_NONE, count);
    }
    outs_.EnQue(out);
  }
  /// moved_[l] = the sum of all blocks before that of lane l in its row.
  __aicore__ inline void beforeBlocks(TPipe& pipe, const LocalTensor<Value>& totals, Value& before,
                                      Value& lost, bool more) {
    const auto sums = sums_.template Get<Value>(), moved = moved_.template Get<Value>();
    const auto shift = shift_.template Get<uint32_t>();
    const uint32_t l = static_cast<uint32_t>(lanes_);
    DataCopy(sums, totals, l);
    for (i64 k = 0; k < kSteps && (1ll << k) < blocks_; ++k) {
      Gather(moved, sums, shift[k * 64], 0, l);
      Add(sums, sums, moved, static_cast<int32_t>(l));
    }
    Gather(moved, sums, shift, 0, l);
    Adds(moved, moved, before, static_cast<int32_t>(l));
    if (!more) return;
    order<HardEvent::V_S>(pipe);
    const Value last = sums.GetValue(static_cast<uint32_t>(lanes_ - 1));
    const Value term = last + lost, sum = before + term;
    lost = term - (sum - before);
    before = sum;
  }

  i64 width_, blocks_, fits_, lanes_;
  TQue<TPosition::VECIN, 1> ins_;
  TQue<TPosition::VECOUT, 1> outs_;
  TBuf<TPosition::VECCALC> x_, a_, b_, turn_, back_, sums_, moved_, shift_;
};

}  // namespace xc
