// Routed experts, the vector cores' side: activation of finished tiles, and the weighted sum.
#pragma once
#include "experts_tile.h"

namespace xc {

enum class MoeAct { silu, gelu, gelu_tanh, relu, relu2, silu_clamped, clamped_silu, swiglu_oai };

/// Constants of the units that clamp; the others do not read them.
struct MoeLimits {
  float limit = 0.0f, alpha = 1.0f;
};

/// y = act(x), n floats; x may change, t is room for as many. `more`: room for three times as many,
/// of gelu only. What the clamped units do to gate is an activation here.
template <MoeAct ACT>
__aicore__ inline void moeActivate(const LocalTensor<float>& y, const LocalTensor<float>& x,
                                   const LocalTensor<float>& t, const LocalTensor<uint8_t>& more,
                                   int32_t n, const MoeLimits& limits = {}) {
  if constexpr (ACT == MoeAct::relu) {
    Maxs(y, x, 0.0f, n);
  } else if constexpr (ACT == MoeAct::relu2) {
    Maxs(y, x, 0.0f, n);
    Mul(y, y, y, n);
  } else if constexpr (ACT == MoeAct::gelu) {
    Muls(t, x, 0.70710678118654752f, n);
    Erf<float, false>(y, t, more, static_cast<uint32_t>(n));
    Adds(y, y, 1.0f, n);
    Muls(t, x, 0.5f, n);
    Mul(y, y, t, n);
  } else {  // x / (1 + exp(-z)), z = x, alpha x, or twice the argument of gelu's tanh
    if constexpr (ACT == MoeAct::silu_clamped || ACT == MoeAct::swiglu_oai)
      Mins(x, x, limits.limit, n);
    if constexpr (ACT == MoeAct::gelu_tanh) {
      Mul(t, x, x, n);
      Muls(t, t, -2 * 0.79788456080286536f * 0.044715f, n);
      Adds(t, t, -2 * 0.79788456080286536f, n);
      Mul(t, t, x, n);
    } else if constexpr (ACT == MoeAct::swiglu_oai) {
      Muls(t, x, -limits.alpha, n);
    } else {
      Muls(t, x, -1.0f, n);
    }
    Exp(t, t, n);
    Adds(t, t, 1.0f, n);
    Div(y, x, t, n);
    if constexpr (ACT == MoeAct::clamped_silu) Mins(y, y, limits.limit, n);
  }
}

/// What a clamped unit does to up, in place; nothing for act(gate) * up.
template <MoeAct ACT>
__aicore__ inline void moeClampUp(const LocalTensor<float>& up, int32_t n,
                                  const MoeLimits& limits) {
  if constexpr (ACT == MoeAct::silu_clamped || ACT == MoeAct::clamped_silu ||
                ACT == MoeAct::swiglu_oai) {
    Mins(up, up, limits.limit, n);
    Maxs(up, up, -limits.limit, n);
    if constexpr (ACT == MoeAct::swiglu_oai) Adds(up, up, 1.0f, n);
  }
}

/// Takes the tiles of the first product that this core's cube core leaves in its ring, in the same
/// order: act(gate) * up or act(up), each step rounded to T, goes to `inner`. Each of the two
/// vector cores takes half of a tile's rows; single rows they take in turns.
template <class Tile, MoeAct ACT>
class MoeActivation {
 public:
  using T = typename Tile::Type;

  __aicore__ inline void run(TPipe& pipe, MoeWalk<Tile>& walk, const MoeSpace& space, i64 ringBytes,
                             int32_t cube, i64 inner, const MoeLimits& limits = {}) {
    limits_ = limits;
    pipe.InitBuffer(in_, 2, (Tile::GATE ? 2 : 1) * MOST * sizeof(T));
    pipe.InitBuffer(out_, 2, MOST * sizeof(T));
    if constexpr (sizeof(T) == 2) pipe.InitBuffer(gate_, MOST * 4);
    if constexpr (sizeof(T) == 2 && Tile::GATE) pipe.InitBuffer(up_, MOST * 4);
    if constexpr (sizeof(T) == 2 || Tile::GATE) pipe.InitBuffer(act_, MOST * 4);
    pipe.InitBuffer(temporary_, MOST * 4);
    if constexpr (ACT == MoeAct::gelu) pipe.InitBuffer(more_, 3 * MOST * 4);
    const GlobalTensor<T> ring = global<T>(space.ring + cube * ringBytes);
    const GlobalTensor<T> to = global<T>(space.inner);
    const int32_t me = static_cast<int32_t>(GetSubBlockIdx());
    i64 count = 0;
    for (; walk.live; walk.next()) {
      const MoeTask& t = walk.task;
      for (int32_t sub = 0; sub < t.panels; ++sub, ++count) {
        const i64 col = (t.panel + sub) * WIDTH;
        int32_t row = 0, rows = t.m;
        if (rows > 1) {
          const int32_t half = (rows + 1) / 2;
          row = me == 0 ? 0 : half;
          rows = me == 0 ? half : rows - half;
        } else if ((count & 1) != me) {
          rows = 0;
        }
        CrossCoreWaitFlag(MOE_FILLED);
        for (int32_t at = 0; at < rows; at += STEP) {
          const int32_t part = rows - at < STEP ? rows - at : STEP;
          load(ring[count % MOE_RING * Tile::SUMS], t.m, row + at, part);
          if (at + part == rows) CrossCoreSetFlag<2, PIPE_MTE2>(MOE_EMPTIED);
          finish(to[(t.row + row + at) * space.innerPitch + col], part, least(WIDTH, inner - col),
                 space.innerPitch);
        }
        if (rows == 0) CrossCoreSetFlag<2, PIPE_MTE2>(MOE_EMPTIED);
      }
    }
  }

 private:
  // Rows that are worked on together: half of a tile's, as far as they have room.
  static constexpr int32_t WIDTH = Tile::WIDTH, HALF = (Tile::MOST + 1) / 2;
  static constexpr int32_t STEP = HALF < 4096 / WIDTH ? HALF : 4096 / WIDTH, MOST = STEP * WIDTH;

  __aicore__ inline void load(const GlobalTensor<T>& tile, int32_t m, int32_t row, int32_t rows) {
    LocalTensor<T> in = in_.template AllocTensor<T>();
    const uint32_t n = static_cast<uint32_t>(rows * WIDTH);
    DataCopy(in, tile[row * WIDTH], n);
    if constexpr (Tile::GATE) DataCopy(in[MOST], tile[(m + row) * WIDTH], n);
    in_.EnQue(in);
  }
  __aicore__ inline void finish(const GlobalTensor<T>& to, int32_t rows, i64 cols, i64 pitch) {
    const int32_t n = rows * WIDTH;
    LocalTensor<T> in = in_.template DeQue<T>();
    LocalTensor<T> out = out_.template AllocTensor<T>();
    const LocalTensor<float> temporary = temporary_.Get<float>();
    LocalTensor<float> act;
    LocalTensor<uint8_t> more;
    if constexpr (sizeof(T) == 2 || Tile::GATE) act = act_.Get<float>();
    if constexpr (ACT == MoeAct::gelu) more = more_.Get<uint8_t>();
    if constexpr (!Tile::GATE) {
      if constexpr (sizeof(T) == 4) {
        moeActivate<ACT>(out, in, temporary, more, n);
      } else {
        const LocalTensor<float> wide = gate_.Get<float>();
        Cast(wide, in, RoundMode::CAST_NONE, n);
        moeActivate<ACT>(act, wide, temporary, more, n);
        Cast(out, act, RoundMode::CAST_RINT, n);
      }
      in_.FreeTensor(in);
    } else if constexpr (sizeof(T) == 4) {
      moeActivate<ACT>(act, in, temporary, more, n, limits_);
      moeClampUp<ACT>(in[MOST], n, limits_);
      Mul(out, act, in[MOST], n);
      in_.FreeTensor(in);
    } else {
      const LocalTensor<float> gate = gate_.Get<float>(), up = up_.Get<float>();
      Cast(gate, in, RoundMode::CAST_NONE, n);
      Cast(up, in[MOST], RoundMode::CAST_NONE, n);
      in_.FreeTensor(in);
      moeActivate<ACT>(act, gate, temporary, more, n, limits_);
      moeClampUp<ACT>(up, n, limits_);
      Cast(out, act, RoundMode::CAST_RINT, n);
      Cast(act, out, RoundMode::CAST_NONE, n);
      Mul(act, act, up, n);
      Cast(out, act, RoundMode::CAST_RINT, n);
    }
    out_.EnQue(out);
    out = out_.template DeQue<T>();
    const i64 bytes = cols * static_cast<i64>(sizeof(T));
    const DataCopyExtParams p{
        static_cast<uint16_t>(rows), static_cast<uint32_t>(bytes),
        static_cast<uint32_t>((WIDTH * static_cast<i64>(sizeof(T)) - alignUp(bytes, 32)) / 32),
        static_cast<uint32_t>((pitch - cols) * static_cast<i64>(sizeof(T))), 0};
    DataCopyPad(to, out, p);
    out_.FreeTensor(out);
  }

  MoeLimits limits_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> gate_, up_, act_, temporary_, more_;
};

/// y[t] = sum over slots of weight[t, slot] * out[row of (t, slot)], in float and in the order of
/// slots. W: type of the weights. Entries whose expert does not exist count for nothing.
template <class T, class W>
class MoeCombine {
 public:
  /// all: every entry's expert exists
  __aicore__ inline void run(TPipe& pipe, Team team, const MoeSizes& s, const MoeSpace& space,
                             GM_ADDR expert, GM_ADDR weight, GM_ADDR y, bool all) {
    if (s.tokens == 0) return;
    const i64 parts = ceilDiv(team.count, s.tokens);
    const i64 room = least(TILE / s.topk / static_cast<i64>(sizeof(T)) / 64 * 64, WIDEST);
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
    from_ = global<T>(space.out);
    pitch_ = space.outPitch;
    all_ = all;
    pipe.InitBuffer(in_, 2, TILE);
    pipe.InitBuffer(out_, 2, room * sizeof(T));
    if constexpr (sizeof(T) == 2) pipe.InitBuffer(wide_, TILE * 2);
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
  static constexpr i64 TILE = 32 * 1024, WIDEST = 3584, WINDOW = 1024;

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
    if (!all_)
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
    LocalTensor<T> in = in_.template AllocTensor<T>();
    i64 count = 0;
    for (i64 j = 0; j < topk_; ++j) {
      if (!known(at + j)) continue;
      const i64 row = places.GetValue(static_cast<uint32_t>(at + j));
      DataCopyPad(in[count++ * wide], from_[row * pitch_ + col],
                  {1, static_cast<uint32_t>(wide * sizeof(T)), 0, 0, 0},
                  DataCopyPadExtParams<T>{false, 0, 0, 0});
    }
    in_.EnQue(in);
    in = in_.template DeQue<T>();
    LocalTensor<T> out = out_.template AllocTensor<T>();
    LocalTensor<float> rows, sum;
    if constexpr (sizeof(T) == 2) {
      rows = wide_.Get<float>();
      sum = sum_.Get<float>();
      if (count > 0) Cast(rows, in, RoundMode::CAST_NONE, static_cast<uint32_t>(count * wide));
    } else {
      rows = in;
      sum = out;
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

  TPipe* pipe_;
  i64 topk_, experts_, last_, window_, pitch_, first_ = 0, end_ = 0;
  bool all_;
  GlobalTensor<T> from_;
  GlobalTensor<W> weights_;
  GlobalTensor<int32_t> ids_, places_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> wide_, sum_, scales_, raw_, valid_, rows_;
};
}  // namespace xc
