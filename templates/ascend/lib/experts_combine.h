// Routed experts, the vector cores' side: the weighted sum.
#pragma once
#include "experts_quantise.h"
#include "experts_tile.h"

namespace xc {

/// y[t] = sum over slots of weight[t, slot] * out[row of (t, slot)], in float and in the order of
/// slots. W: type of the weights. Entries whose expert does not exist count for nothing. Tile: of
/// the second product; sums of int8 are scaled first.
template <class T, class W, class Tile>
class MoeCombine {
 public:
  using Cell = typename Tile::Cell;

  /// all: every entry's expert exists
  __aicore__ inline void run(TPipe& pipe, Team team, const MoeSizes& s, const MoeSpace& space,
                             GM_ADDR expert, GM_ADDR weight, GM_ADDR y, bool all,
                             const MoeScales& scales = {}) {
    if (s.tokens == 0) return;
    const i64 parts = ceilDiv(team.count, s.tokens);
    room_ = least(TILE / s.topk / (KINDS * static_cast<i64>(sizeof(Cell))) / 64 * 64, WIDEST);
    const i64 room = room_;
    const i64 few = alignUp(xc::most(ceilDiv(s.hidden, parts), 128), 64);
    const i64 width = alignUp(ceilDiv(s.hidden, ceilDiv(s.hidden, least(room, few))), 64);
    const i64 across = ceilDiv(s.hidden, width);
    const Range mine = split(s.tokens * across, team);
    if (mine.size() == 0) return;
    pipe_ = &pipe;
    topk_ = s.topk;
    experts_ = s.experts;
    last_ = s.entries();
    window_ = WINDOW / topk_ * topk_;
    weights_ = global<W>(weight);
    ids_ = global<int32_t>(expert);
    places_ = global<int32_t>(space.places);
    from_ = global<Cell>(space.out);
    pitch_ = space.outPitch;
    all_ = all;
    if constexpr (Tile::INT8) {
      rowScales_ = global<float>(scales.rows);
      channels_ = global<float>(scales.channels);
      bias_ = global<float>(scales.bias);
      channelPitch_ = Tile::panels(s.hidden) * Tile::COLUMNS;
    }
    pipe.InitBuffer(in_, 2, TILE + (Tile::INT8 ? topk_ * 32 : 0));
    pipe.InitBuffer(out_, 2, room * sizeof(T));
    if constexpr (sizeof(Cell) == 2) pipe.InitBuffer(wide_, TILE * 2);
    pipe.InitBuffer(sum_, room * 4);
    pipe.InitBuffer(scales_, WINDOW * 4);
    pipe.InitBuffer(raw_, WINDOW * 4);
    pipe.InitBuffer(valid_, WINDOW * 8);
    pipe.InitBuffer(rows_, WINDOW * 4);
    const GlobalTensor<T> to = global<T>(y);
    for (i64 u = mine.begin; u < mine.end; ++u) {
      const i64 token = u / across, col = u % across * width;
      const i64 cols = least(width, s.hidden - col);
      look(token * topk_);
      one(to[token * s.hidden + col], token * topk_ - first_, col, cols);
    }
  }

 private:
  static constexpr i64 TILE = (Tile::INT8 ? 64 : 32) * 1024, WIDEST = Tile::INT8 ? 1792 : 3584;
  static constexpr i64 WINDOW = 1024;
  static constexpr i64 KINDS = Tile::LATE_BIAS ? 3 : Tile::INT8 ? 2 : 1;  // of rows of an entry

  /// Weights, rows, and ids if they are needed, of the entries from `entry` on.
  __aicore__ inline void look(i64 entry) {
    if (entry >= first_ && entry < end_) return;
    first_ = entry;
    end_ = least(last_, entry + window_);
    const uint32_t n = static_cast<uint32_t>(end_ - first_);
    const LocalTensor<W> raw = raw_.Get<W>();
    order<HardEvent::S_MTE2>(*pipe_);
    order<HardEvent::V_MTE2>(*pipe_);
    DataCopyPad(raw, weights_[entry], {1, static_cast<uint32_t>(n * sizeof(W)), 0, 0, 0},
                DataCopyPadExtParams<W>{false, 0, 0, 0});
    DataCopyPad(rows_.Get<int32_t>(), places_[entry], {1, n * 4, 0, 0, 0},
                DataCopyPadExtParams<int32_t>{false, 0, 0, 0});
    if (!all_ || Tile::INT8)
      DataCopyPad(valid_.Get<int32_t>(), ids_[entry * 2], {1, n * 8, 0, 0, 0},
                  DataCopyPadExtParams<int32_t>{false, 0, 0, 0});
    order<HardEvent::MTE2_V>(*pipe_);
    if constexpr (sizeof(W) == 2)
      Cast(scales_.Get<float>(), raw, RoundMode::CAST_NONE, n);
    else
      Muls(scales_.Get<float>(), raw, 1.0f, static_cast<int32_t>(n));
    order<HardEvent::V_S>(*pipe_);
    order<HardEvent::MTE2_S>(*pipe_);
  }

  /// Does the expert of entry `at` of the window exist?
  __aicore__ inline bool known(i64 at) {
    if (all_) return true;
    const i64 id = valid_.Get<i64>().GetValue(static_cast<uint32_t>(at));
    return id >= 0 && id < experts_;
  }

  /// Columns [col, col + cols) of one token, whose entries begin at `at` of the window.
  __aicore__ inline void one(const GlobalTensor<T>& to, i64 at, i64 col, i64 cols) {
    const i64 wide = alignUp(cols, 16);
    const int32_t n = static_cast<int32_t>(wide);
    const LocalTensor<int32_t> places = rows_.Get<int32_t>();
    LocalTensor<Cell> in = in_.template AllocTensor<Cell>();
    i64 count = 0;
    for (i64 j = 0; j < topk_; ++j) {
      if (!known(at + j)) continue;
      const i64 row = places.GetValue(static_cast<uint32_t>(at + j));
      DataCopyPad(in[count * wide], from_[row * pitch_ + col],
                  {1, static_cast<uint32_t>(wide * sizeof(Cell)), 0, 0, 0},
                  DataCopyPadExtParams<Cell>{false, 0, 0, 0});
      if constexpr (Tile::INT8) {
        const i64 expert = valid_.Get<i64>().GetValue(static_cast<uint32_t>(at + j));
        const LocalTensor<float> more = in.template ReinterpretCast<float>()[topk_ * room_];
        const uint32_t n = static_cast<uint32_t>(wide);
        DataCopy(more[count * wide], channels_[expert * channelPitch_ + col], n);
        if constexpr (Tile::LATE_BIAS)
          DataCopy(more[topk_ * room_ + count * wide], bias_[expert * channelPitch_ + col], n);
        DataCopy(more[(KINDS - 1) * topk_ * room_ + count * 8], rowScales_[row * 8], 8);
      }
      ++count;
    }
    in_.EnQue(in);
    in = in_.template DeQue<Cell>();
    LocalTensor<T> out = out_.template AllocTensor<T>();
    LocalTensor<float> rows, sum;
    if constexpr (sizeof(T) == 2)
      sum = sum_.Get<float>();
    else
      sum = out;
    if constexpr (Tile::INT8) {
      rows = in.template ReinterpretCast<float>();
      if (count > 0) scale(in, count, n);
    } else if constexpr (sizeof(T) == 2) {
      rows = wide_.Get<float>();
      if (count > 0) Cast(rows, in, RoundMode::CAST_NONE, static_cast<uint32_t>(count * wide));
    } else {
      rows = in;
    }
    const LocalTensor<float> scales = scales_.Get<float>();
    i64 done = 0;
    for (i64 j = 0; j < topk_; ++j) {
      if (!known(at + j)) continue;
      const float w = scales.GetValue(static_cast<uint32_t>(at + j));
      if (done == 0)
        Muls(sum, rows, w, n);
      else
        Axpy(sum, rows[done * wide], w, n);
      ++done;
    }
    if (done == 0) Duplicate(sum, 0.0f, n);
    if constexpr (sizeof(T) == 2) Cast(out, sum, RoundMode::CAST_RINT, static_cast<uint32_t>(n));
    in_.FreeTensor(in);
    out_.EnQue(out);
    out = out_.template DeQue<T>();
    DataCopyPad(to, out, {1, static_cast<uint32_t>(cols * sizeof(T)), 0, 0, 0});
    out_.FreeTensor(out);
  }

  /// `count` rows of n sums in place to floats: times scales, plus biases.
  __aicore__ inline void scale(const LocalTensor<int32_t>& in, i64 count, int32_t n) {
    const LocalTensor<float> rows = in.ReinterpretCast<float>(), more = rows[topk_ * room_];
    const LocalTensor<float> blocks = more[(KINDS - 1) * topk_ * room_];
    const int32_t all = static_cast<int32_t>(count) * n, even = n / 64 * 64;
    Cast(rows, in, RoundMode::CAST_RINT, static_cast<uint32_t>(all));
    Mul(rows, rows, more, all);
    const BinaryRepeatParams same{1, 1, 0, 8, 8, 0};
    for (int32_t j = 0; j < count; ++j) {
      const LocalTensor<float> row = rows[j * n], block = blocks[j * 8];
      if (even > 0) Mul(row, row, block, 64ULL, static_cast<uint8_t>(even / 64), same);
      if (even < n) Mul(row[even], row[even], block, static_cast<uint64_t>(n - even), 1, same);
    }
    if constexpr (Tile::LATE_BIAS) Add(rows, rows, more[topk_ * room_], all);
  }

  TPipe* pipe_;
  i64 topk_, experts_, last_, window_, pitch_, room_, channelPitch_, first_ = 0, end_ = 0;
  bool all_;
  GlobalTensor<Cell> from_;
  GlobalTensor<float> rowScales_, channels_, bias_;
  GlobalTensor<W> weights_;
  GlobalTensor<int32_t> ids_, places_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> wide_, sum_, scales_, raw_, valid_, rows_;
};
}  // namespace xc
