// Routed experts, the vector cores' side: activation of finished tiles.
#pragma once
#include "experts_quantise.h"
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
/// order: act(gate) * up or act(up), each step rounded to T, goes to `inner`. Sums of int8 are
/// scaled first, and then rounded only once. Each of the two vector cores takes half of a tile's
/// rows; single rows they take in turns.
template <class Tile, MoeAct ACT, class T = typename Tile::Type>
class MoeActivation {
 public:
  using Cell = typename Tile::Cell;

  __aicore__ inline void run(TPipe& pipe, MoeWalk<Tile>& walk, const MoeSpace& space, i64 ringBytes,
                             int32_t cube, i64 inner, const MoeLimits& limits = {},
                             const MoeScales& scales = {}) {
    limits_ = limits;
    pipe_ = &pipe;
    pipe.InitBuffer(in_, 2, (PARTS * MOST + PARAMETERS) * sizeof(Cell));
    pipe.InitBuffer(out_, 2, MOST * sizeof(T));
    if constexpr (sizeof(Cell) == 2) pipe.InitBuffer(gate_, MOST * 4);
    if constexpr (sizeof(Cell) == 2 && Tile::GATE) pipe.InitBuffer(up_, MOST * 4);
    if constexpr (Tile::INT8) {
      pipe.InitBuffer(spread_, HALF * 32);
      pipe.InitBuffer(tokens_, HALF * 4);
      rowScales_ = global<float>(scales.rows);
      channels_ = global<float>(scales.channels);
      bias_ = global<float>(scales.bias);
      from_ = global<int32_t>(space.tokens);
    }
    if constexpr (sizeof(T) == 2 || Tile::GATE) pipe.InitBuffer(act_, MOST * 4);
    pipe.InitBuffer(temporary_, MOST * 4);
    if constexpr (ACT == MoeAct::gelu) pipe.InitBuffer(more_, 3 * MOST * 4);
    const GlobalTensor<Cell> ring = global<Cell>(space.ring + cube * ringBytes);
    const GlobalTensor<T> to = global<T>(space.inner);
    const int32_t me = static_cast<int32_t>(GetSubBlockIdx());
    const i64 panels = Tile::panels(inner);
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
        if constexpr (Tile::INT8) scalesOf(t.row + row, rows);
        const i64 channel = (t.expert * panels + t.panel + sub) * Tile::COLUMNS;
        CrossCoreWaitFlag(MOE_FILLED);
        for (int32_t at = 0; at < rows; at += STEP) {
          const int32_t part = rows - at < STEP ? rows - at : STEP;
          load(ring[count % MOE_RING * Tile::SUMS], t.m, row + at, part, channel);
          if (at + part == rows) CrossCoreSetFlag<2, PIPE_MTE2>(MOE_EMPTIED);
          finish(to[(t.row + row + at) * space.innerPitch + col], at, part,
                 least(WIDTH, inner - col), space.innerPitch);
        }
        if (rows == 0) CrossCoreSetFlag<2, PIPE_MTE2>(MOE_EMPTIED);
      }
    }
  }

 private:
  // Rows that are worked on together: half of a tile's, as far as they have room.
  static constexpr int32_t WIDTH = Tile::WIDTH, HALF = (Tile::MOST + 1) / 2;
  static constexpr int32_t STEP = HALF < 4096 / WIDTH ? HALF : 4096 / WIDTH, MOST = STEP * WIDTH;
  static constexpr int32_t PARTS = Tile::GATE ? 2 : 1;
  // Behind a tile of sums: its channels' scales, and biases.
  static constexpr int32_t PARAMETERS = Tile::INT8 ? (Tile::LATE_BIAS ? 2 : 1) * Tile::COLUMNS : 0;

  __aicore__ inline void load(const GlobalTensor<Cell>& tile, int32_t m, int32_t row, int32_t rows,
                              i64 channel) {
    LocalTensor<Cell> in = in_.template AllocTensor<Cell>();
    const uint32_t n = static_cast<uint32_t>(rows * WIDTH);
    DataCopy(in, tile[row * WIDTH], n);
    if constexpr (Tile::GATE) DataCopy(in[MOST], tile[(m + row) * WIDTH], n);
    if constexpr (Tile::INT8) {
      const LocalTensor<float> more = in[PARTS * MOST].template ReinterpretCast<float>();
      DataCopy(more, channels_[channel], Tile::COLUMNS);
      if constexpr (Tile::LATE_BIAS) DataCopy(more[Tile::COLUMNS], bias_[channel], Tile::COLUMNS);
    }
    in_.EnQue(in);
  }
  /// spread_ = the scales of the tokens of sorted rows, eight of each.
  __aicore__ inline void scalesOf(i64 row, int32_t rows) {
    if (rows == 0 || (row == scaled_ && rows == scaledRows_)) return;
    scaled_ = row;
    scaledRows_ = rows;
    const LocalTensor<int32_t> tokens = tokens_.Get<int32_t>();
    order<HardEvent::S_MTE2>(*pipe_);
    order<HardEvent::V_MTE2>(*pipe_);
    DataCopyPad(tokens, from_[row], {1, static_cast<uint32_t>(rows * 4), 0, 0, 0},
                DataCopyPadExtParams<int32_t>{false, 0, 0, 0});
    order<HardEvent::MTE2_S>(*pipe_);
    const LocalTensor<float> spread = spread_.Get<float>();
    for (int32_t i = 0; i < rows; ++i)
      DataCopy(spread[i * 8], rowScales_[static_cast<i64>(tokens.GetValue(i)) * 8], 8);
    order<HardEvent::MTE2_V>(*pipe_);
  }
  /// Sums in place to floats: times the channel's scale, times the row's, plus the channel's bias.
  __aicore__ inline void scale(const LocalTensor<int32_t>& sums, int32_t at, int32_t rows) {
    constexpr uint8_t STRIDE = WIDTH / 8;
    const uint8_t repeats = static_cast<uint8_t>(rows);
    const LocalTensor<float> all = sums.ReinterpretCast<float>(), more = all[PARTS * MOST];
    const LocalTensor<float> spread = spread_.Get<float>()[at * 8];
    for (int32_t part = 0; part < PARTS; ++part) {
      Cast(all[part * MOST], sums[part * MOST], RoundMode::CAST_RINT, rows * WIDTH);
      for (int32_t c = 0; c < WIDTH; c += 64) {
        const uint64_t mask = WIDTH - c < 64 ? WIDTH - c : 64;
        const LocalTensor<float> x = all[part * MOST + c], channel = more[part * WIDTH + c];
        Mul(x, x, channel, mask, repeats, {1, 1, 1, STRIDE, STRIDE, 0});
        Mul(x, x, spread, mask, repeats, {1, 1, 0, STRIDE, STRIDE, 1});
        if constexpr (Tile::LATE_BIAS)
          Add(x, x, channel[Tile::COLUMNS], mask, repeats, {1, 1, 1, STRIDE, STRIDE, 0});
      }
    }
  }
  __aicore__ inline void finish(const GlobalTensor<T>& to, int32_t at, int32_t rows, i64 cols,
                                i64 pitch) {
    const int32_t n = rows * WIDTH;
    LocalTensor<Cell> in = in_.template DeQue<Cell>();
    LocalTensor<T> out = out_.template AllocTensor<T>();
    const LocalTensor<float> temporary = temporary_.Get<float>();
    LocalTensor<float> act;
    LocalTensor<uint8_t> more;
    if constexpr (sizeof(T) == 2 || Tile::GATE) act = act_.Get<float>();
    if constexpr (ACT == MoeAct::gelu) more = more_.Get<uint8_t>();
    if constexpr (Tile::INT8) {
      scale(in, at, rows);
      const LocalTensor<float> gate = in.template ReinterpretCast<float>(), up = gate[MOST];
      LocalTensor<float> unit = act;
      if constexpr (sizeof(T) == 4) unit = out;
      if constexpr (Tile::GATE) {
        moeActivate<ACT>(act, gate, temporary, more, n, limits_);
        moeClampUp<ACT>(up, n, limits_);
        Mul(unit, act, up, n);
      } else {
        moeActivate<ACT>(unit, gate, temporary, more, n);
      }
      if constexpr (sizeof(T) == 2) Cast(out, unit, RoundMode::CAST_RINT, n);
      in_.FreeTensor(in);
    } else if constexpr (!Tile::GATE) {
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

  TPipe* pipe_;
  MoeLimits limits_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> gate_, up_, act_, temporary_, more_;
  // Of int8: scales of the rows [scaled_, scaled_ + scaledRows_).
  TBuf<TPosition::VECCALC> spread_, tokens_;
  GlobalTensor<float> rowScales_, channels_, bias_;
  GlobalTensor<int32_t> from_;
  i64 scaled_ = -1;
  int32_t scaledRows_ = 0;
};
}  // namespace xc
