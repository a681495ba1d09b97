// Attention on the vector cores alone, one query row at a time: exact in every dtype and shape, for
// what the cube kernels do not take.
#pragma once
#include "common.h"

namespace xc {

/// Keys and values of one query row's head. Rows are contiguous; strides count elements.
template <class T>
struct RowContext {
  GM_ADDR k, v;
  i64 kStep, vStep;  // from one token to the next in a page
  i64 visible;       // tokens [0, visible) are seen, if the mask allows
};

/// An online softmax in float over blocks of tokens. D and DV: sizes of a key and of a value.
/// T: float, half or bfloat16_t.
template <class T, int32_t D, int32_t DV>
class RowAttention {
 public:
  static constexpr int32_t P = (D + 63) / 64 * 64, PV = (DV + 63) / 64 * 64;  // pitches
  static constexpr int32_t WIDE = P > PV ? P : PV;
  static constexpr int32_t FIT = 10240 / WIDE;  // 40 KB of float rows
  static constexpr int32_t BLOCK = FIT >= 128 ? 128 : FIT >= 64 ? 64 : FIT >= 32 ? 32 : 16;

  __aicore__ inline void init(TPipe& pipe) {
    pipe_ = &pipe;
    pipe.InitBuffer(narrow_, BLOCK * WIDE * sizeof(T));
    pipe.InitBuffer(rows_, BLOCK * WIDE * 4);
    pipe.InitBuffer(products_, BLOCK * WIDE * 4);
    pipe.InitBuffer(query_, P * 4);
    pipe.InitBuffer(sums_, PV * 4);
    pipe.InitBuffer(scores_, BLOCK * 4);
    pipe.InitBuffer(wide_, BLOCK * 32);
    pipe.InitBuffer(small_, 256);
    pipe.InitBuffer(work_, 1024);
    pipe.InitBuffer(mask_, BLOCK * 8);
    in_ = narrow_.Get<T>();
    x_ = rows_.Get<float>();
    y_ = products_.Get<float>();
    q_ = query_.Get<float>();
    acc_ = sums_.Get<float>();
    s_ = scores_.Get<float>();
    w_ = wide_.Get<float>();
    one_ = small_.Get<float>();
    tmp_ = work_.Get<float>();
  }

  __aicore__ inline void begin(GM_ADDR q) {
    load<D, P>(q, 0, 1);
    widen(q_, P);
    Duplicate(acc_, 0.0f, PV);
    top_ = -3.0e38f;
    total_ = 0.0f;
  }

  /// Tokens [at, at + n) of a row's context, n <= BLOCK; k and v are those of the first.
  /// bias, if any: float added to the scores, in UB.
  __aicore__ inline void block(GM_ADDR k, GM_ADDR v, i64 kStep, i64 vStep, int32_t n, float scale,
                               const LocalTensor<float>* bias) {
    const uint8_t m = static_cast<uint8_t>(n);
    load<D, P>(k, kStep, n);
    widen(x_, n * P);
    for (int32_t c = 0; c < P; c += 64) Mul(y_[c], x_[c], q_[c], 64, m, {1, 1, 1, P / 8, P / 8, 0});
    PipeBarrier<PIPE_V>();
    for (int32_t c = 64; c < P; c += 64) {
      Add(y_, y_, y_[c], 64, m, {1, 1, 1, P / 8, P / 8, P / 8});
      PipeBarrier<PIPE_V>();
    }
    Duplicate(s_, -3.0e38f, BLOCK);
    PipeBarrier<PIPE_V>();
    WholeReduceSum(s_, y_, 64, n, 1, 1, P / 8);
    PipeBarrier<PIPE_V>();
    Muls(s_, s_, scale, n);
    PipeBarrier<PIPE_V>();
    if (bias != nullptr) {
      Add(s_, s_, *bias, n);
      PipeBarrier<PIPE_V>();
    }
    ReduceMax(one_, s_, tmp_, n);
    order<HardEvent::V_S>(*pipe_);
    const float high = one_.GetValue(0);
    if (!(high > -2.0e38f)) return;  // nothing of this block is seen
    const float top = high > top_ ? high : top_;
    order<HardEvent::S_V>(*pipe_);
    Duplicate(one_, top_ - top, 8);
    Adds(s_, s_, -top, BLOCK);
    PipeBarrier<PIPE_V>();
    Exp(one_, one_, 8);
    Exp(s_, s_, BLOCK);
    PipeBarrier<PIPE_V>();
    ReduceSum(one_[8], s_, tmp_, n);
    Brcb(w_, s_, BLOCK / 8, {1, 8});
    order<HardEvent::V_S>(*pipe_);
    const float factor = total_ == 0.0f ? 0.0f : one_.GetValue(0);
    total_ = total_ * factor + one_.GetValue(8);
    top_ = top;
    order<HardEvent::S_V>(*pipe_);
    load<DV, PV>(v, vStep, n);
    widen(x_, n * PV);
    for (int32_t c = 0; c < PV; c += 64) Mul(x_[c], x_[c], w_, 64, m, {1, 1, 0, PV / 8, PV / 8, 1});
    Muls(acc_, acc_, factor, PV);
    PipeBarrier<PIPE_V>();
    for (int32_t left = n; left > 1;) {
      const int32_t half = (left + 1) / 2;
      Add(x_, x_, x_[half * PV], (left - half) * PV);
      PipeBarrier<PIPE_V>();
      left = half;
    }
    Add(acc_, acc_, x_, PV);
    PipeBarrier<PIPE_V>();
  }

  /// The row's result, zeros if it saw nothing.
  __aicore__ inline void end(GM_ADDR o) {
    if (total_ > 0.0f) {
      Duplicate(x_, total_, PV);
      PipeBarrier<PIPE_V>();
      Div(acc_, acc_, x_, PV);
      PipeBarrier<PIPE_V>();
    }
    const GlobalTensor<T> to = global<T>(o);
    const DataCopyExtParams p(1, DV * sizeof(T), 0, 0, 0);
    if constexpr (IsSameType<T, float>::value) {
      order<HardEvent::V_MTE3>(*pipe_);
      DataCopyPad(to, acc_, p);
    } else {
      order<HardEvent::MTE2_V>(*pipe_);
      Cast(in_, acc_, RoundMode::CAST_RINT, PV);
      order<HardEvent::V_MTE3>(*pipe_);
      DataCopyPad(to, in_, p);
    }
    order<HardEvent::MTE3_V>(*pipe_);
    order<HardEvent::MTE3_MTE2>(*pipe_);
  }

  /// n mask values at `from`, as what is added to scores. M: bool as uint8_t, float, or T.
  template <class M>
  __aicore__ inline const LocalTensor<float>* bias(GM_ADDR from, i64 step, int32_t n) {
    const GlobalTensor<M> m = global<M>(from);
    bias_ = mask_.Get<float>();
    order<HardEvent::V_S>(*pipe_);
    for (int32_t i = 0; i < n; ++i) {
      float x;
      if constexpr (IsSameType<M, uint8_t>::value)
        x = m.GetValue(i * step) != 0 ? 0.0f : -3.0e38f;
      else if constexpr (IsSameType<M, bfloat16_t>::value)
        x = ToFloat(m.GetValue(i * step));
      else
        x = static_cast<float>(m.GetValue(i * step));
      bias_.SetValue(i, x > -3.0e38f ? x : -3.0e38f);
    }
    order<HardEvent::S_V>(*pipe_);
    return &bias_;
  }

 private:
  /// n rows of SIZE elements to rows of PITCH, the rest zero.
  template <int32_t SIZE, int32_t PITCH>
  __aicore__ inline void load(GM_ADDR from, i64 step, int32_t n) {
    constexpr int32_t bytes = SIZE * sizeof(T), room = (bytes + 31) / 32;
    if constexpr (SIZE != PITCH) {
      order<HardEvent::MTE2_V>(*pipe_);
      Duplicate(in_.template ReinterpretCast<int16_t>(), static_cast<int16_t>(0),
                n * PITCH * static_cast<int32_t>(sizeof(T) / 2));
    }
    order<HardEvent::V_MTE2>(*pipe_);
    const DataCopyExtParams p(static_cast<uint16_t>(n), bytes,
                              n > 1 ? static_cast<uint32_t>(step * sizeof(T) - bytes) : 0,
                              PITCH * sizeof(T) / 32 - room, 0);
    const DataCopyPadExtParams<T> pad(true, 0, static_cast<uint8_t>(room * 32 / sizeof(T) - SIZE),
                                      static_cast<T>(0));
    DataCopyPad(in_, global<T>(from), p, pad);
    order<HardEvent::MTE2_V>(*pipe_);
  }
  __aicore__ inline void widen(const LocalTensor<float>& to, int32_t n) {
    if constexpr (IsSameType<T, float>::value)
      Adds(to, in_, 0.0f, n);
    else
      Cast(to, in_, RoundMode::CAST_NONE, n);
    PipeBarrier<PIPE_V>();
  }

  TPipe* pipe_;
  TBuf<TPosition::VECCALC> narrow_, rows_, products_, query_, sums_, scores_, wide_, small_, work_,
      mask_;
  LocalTensor<T> in_;
  LocalTensor<float> x_, y_, q_, acc_, s_, w_, one_, tmp_, bias_;
  float top_, total_;
};

/// Sizes and strides of paged attention; see ops/attention.py.
struct PagedRows {
  i64 tokens, heads, kvHeads, requests, pages, page;
  i64 qToken, qHead, kSlot, kHead, vSlot, vHead;
  float scale;
};

/// o[tokens, heads, DV] for q[tokens, heads, D] over a paged cache.
template <class T, int32_t D, int32_t DV>
__aicore__ inline void pagedAttentionRows(TPipe& pipe, Team team, GM_ADDR q, GM_ADDR k, GM_ADDR v,
                                          GM_ADDR ends, GM_ADDR contexts, GM_ADDR tables, GM_ADDR o,
                                          const PagedRows& a) {
  using Row = RowAttention<T, D, DV>;
  const GlobalTensor<i64> cu = global<i64>(ends), context = global<i64>(contexts),
                          table = global<i64>(tables);
  Row row;
  row.init(pipe);
  i64 r = 0;
  for (i64 i = team.index; i < a.tokens * a.heads; i += team.count) {
    const i64 t = i / a.heads, h = i % a.heads, kv = h / (a.heads / a.kvHeads);
    while (r < a.requests && t >= cu.GetValue(r + 1)) ++r;
    row.begin(q + (t * a.qToken + h * a.qHead) * sizeof(T));
    if (r < a.requests) {
      const i64 visible = context.GetValue(r) - (cu.GetValue(r + 1) - 1 - t);
      for (i64 at = 0; at < visible;) {
        const i64 slot = table.GetValue(r * a.pages + at / a.page) * a.page + at % a.page;
        const int32_t n =
            static_cast<int32_t>(least(least(Row::BLOCK, a.page - at % a.page), visible - at));
        row.block(k + (slot * a.kSlot + kv * a.kHead) * sizeof(T),
                  v + (slot * a.vSlot + kv * a.vHead) * sizeof(T), a.kSlot, a.vSlot, n, a.scale,
                  nullptr);
        at += n;
      }
    }
    row.end(o + i * DV * sizeof(T));
  }
}

/// Sizes and strides of dense attention: batch, head, position.
struct DenseRows {
  i64 batch, heads, kvHeads, queries, keys;
  i64 qb, qh, qs, kb, kh, ks, vb, vh, vs, ob, oh, os;
  i64 mb, mh, mq, mk;
  bool causal;
  float scale;
};

/// M: the mask's type; `mask` may be null.
template <class T, int32_t D, int32_t DV, class M>
__aicore__ inline void attentionRows(TPipe& pipe, Team team, GM_ADDR q, GM_ADDR k, GM_ADDR v,
                                     GM_ADDR mask, GM_ADDR o, const DenseRows& a) {
  using Row = RowAttention<T, D, DV>;
  Row row;
  row.init(pipe);
  for (i64 i = team.index; i < a.batch * a.heads * a.queries; i += team.count) {
    const i64 b = i / (a.heads * a.queries), h = i / a.queries % a.heads, j = i % a.queries;
    const i64 kv = h / (a.heads / a.kvHeads);
    const i64 visible = a.causal ? least(a.keys, j + 1) : a.keys;
    row.begin(q + (b * a.qb + h * a.qh + j * a.qs) * sizeof(T));
    for (i64 at = 0; at < visible;) {
      const int32_t n = static_cast<int32_t>(least(Row::BLOCK, visible - at));
      const LocalTensor<float>* bias = nullptr;
      if (mask != nullptr)
        bias = row.template bias<M>(mask + (b * a.mb + h * a.mh + j * a.mq + at * a.mk) * sizeof(M),
                                    a.mk, n);
      row.block(k + (b * a.kb + kv * a.kh + at * a.ks) * sizeof(T),
                v + (b * a.vb + kv * a.vh + at * a.vs) * sizeof(T), a.ks, a.vs, n, a.scale, bias);
      at += n;
    }
    row.end(o + (b * a.ob + h * a.oh + j * a.os) * sizeof(T));
  }
}
}  // namespace xc
