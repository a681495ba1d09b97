// Attention, tasks that were cut: what several cores found about parts of the keys, in one.
#pragma once
#include "attention_vector.h"

namespace xc {

/// The cores [first, last] that took part in a task share its rows here. The first one's part lies
/// in its last room, the others' in their first.
template <class T, class Source>
class AttnMerge {
 public:
  __aicore__ inline AttnMerge(TPipe& pipe, const AttnDeal<Source>& deal, const AttnSpace<T>& space,
                              const AttnStore<T, Source>& store)
      : pipe_(pipe), space_(space), store_(store) {
    dv0_ = (deal.sizes.dv + K0 - 1) / K0 * K0;
    pipe.InitBuffer(parts_, 2, (2 * 8 * MOST + ROOM) * 4);
    pipe.InitBuffer(small_, (8 + 64) * MOST * 4);
    pipe.InitBuffer(out_, 8 * dv0_ * sizeof(T));
  }

  __aicore__ inline void run(const AttnTask& t, i64 core, i64 first, i64 last) {
    const int32_t parts = static_cast<int32_t>(last - first + 1), workers = 2 * parts;
    const int32_t me = static_cast<int32_t>(2 * (core - first) + GetSubBlockIdx());
    int32_t step = (t.rows + workers - 1) / workers;
    if (step > 8) step = 8;
    if (step > ROOM / (parts * dv0_)) step = ROOM / (parts * dv0_);
    int32_t row = me * step, n = fewer(t.rows - row, step);
    if (n > 0) fetch(row, n, first, parts);
    while (n > 0) {
      const int32_t next = row + workers * step, some = fewer(t.rows - next, step);
      if (some > 0) fetch(next, some, first, parts);
      rows(t, row, n, parts);
      row = next;
      n = some;
    }
  }

 private:
  static constexpr int32_t K0 = 32 / sizeof(T);
  static constexpr int32_t ROOM = 16 * 1024, MOST = 32;  // floats; cores

  __aicore__ inline static int32_t fewer(int32_t a, int32_t b) { return a < b ? a : b; }
  /// What all parts hold at an offset of their rooms, n floats each.
  __aicore__ inline void load(const LocalTensor<float>& to, i64 first, int32_t parts, i64 at,
                              int32_t n) {
    const int32_t slot = (n + 7) / 8 * 8;
    const DataCopyPadExtParams<float> pad(slot > n, 0, static_cast<uint8_t>(slot - n), 0.0f);
    const uint32_t bytes = static_cast<uint32_t>(n * 4);
    DataCopyPad(to, space_.partial(first, 1)[at], DataCopyExtParams(1, bytes, 0, 0, 0), pad);
    if (parts == 1) return;
    DataCopyPad(to[slot], space_.partial(first + 1, 0)[at],
                DataCopyExtParams(static_cast<uint16_t>(parts - 1), bytes,
                                  static_cast<uint32_t>(space_.corePitch()) - bytes, 0, 0),
                pad);
  }
  /// The maximum or sum over parts of n values each, in the first.
  template <bool MAX>
  __aicore__ inline static void fold(const LocalTensor<float>& x, int32_t parts, int32_t n) {
    for (int32_t left = parts; left > 1;) {
      const int32_t half = (left + 1) / 2;
      if constexpr (MAX)
        Max(x, x, x[half * n], (left - half) * n);
      else
        Add(x, x, x[half * n], (left - half) * n);
      left = half;
    }
  }

  /// Maxima, sums of probabilities and sums of products of n rows.
  __aicore__ inline void fetch(int32_t row, int32_t n, i64 first, int32_t parts) {
    LocalTensor<float> x = parts_.template AllocTensor<float>();
    load(x, first, parts, space_.maxima() + row, n);
    load(x[8 * MOST], first, parts, space_.sums() + row, n);
    load(x[16 * MOST], first, parts, static_cast<i64>(row) * dv0_, n * dv0_);
    parts_.EnQue(x);
  }

  __aicore__ inline void rows(const AttnTask& t, int32_t row, int32_t n, int32_t parts) {
    LocalTensor<float> max = parts_.template DeQue<float>();
    const LocalTensor<float> sum = max[8 * MOST], x = sum[8 * MOST];
    const LocalTensor<float> top = small_.template Get<float>(), spread = top[8 * MOST];
    const LocalTensor<T> out = out_.template Get<T>();
    const BinaryRepeatParams each(1, 1, 1, 1, 1, 0);
    Adds(top, max, 0.0f, parts * 8);
    fold<true>(top, parts, 8);
    Sub(max, max, top, 8, static_cast<uint8_t>(parts), each);
    Exp(max, max, parts * 8);
    Mul(sum, sum, max, parts * 8);
    fold<false>(sum, parts, 8);
    Maxs(sum, sum, 1e-30f, 8);
    Div(max, max, sum, 8, static_cast<uint8_t>(parts), each);
    Brcb(spread, max, static_cast<uint8_t>(parts), {1, 8});
    const uint8_t pitch = static_cast<uint8_t>(dv0_ / 8);
    for (int32_t p = 0; p < parts; ++p)
      for (int32_t c = 0; c < dv0_; c += 64) {
        const LocalTensor<float> at = x[p * n * dv0_ + c];
        Mul(at, at, spread[p * 64], static_cast<uint64_t>(dv0_ - c < 64 ? dv0_ - c : 64),
            static_cast<uint8_t>(n), {1, 1, 0, pitch, pitch, 1});
      }
    fold<false>(x, parts, n * dv0_);
    order<HardEvent::MTE3_V>(pipe_);
    if constexpr (sizeof(T) == 2)
      Cast(out, x, RoundMode::CAST_RINT, static_cast<uint32_t>(n * dv0_));
    else
      Adds(out, x, 0.0f, n * dv0_);
    parts_.FreeTensor(max);
    order<HardEvent::V_MTE3>(pipe_);
    store_.put(out, t, row, n, dv0_);
  }

  TPipe& pipe_;
  const AttnSpace<T>& space_;
  const AttnStore<T, Source>& store_;
  TQue<TPosition::VECIN, 1> parts_;
  TBuf<TPosition::VECCALC> small_, out_;
  int32_t dv0_;
};
}  // namespace xc
