// Attention, the vector cores' side: online softmax of the scores, sums of the products, results.
#pragma once
#include "attention_space.h"
#include "attention_store.h"

namespace xc {

constexpr float ATTN_LOWEST = -3.4028234e38f;
constexpr float ATTN_SLACK = 8;    // exp(8) is far below the largest half
constexpr int32_t ATTN_ROWS = 32;  // rows of a chunk, at most

/// Chunks of rows of a task are dealt to the two vector cores in turns. A core's rows lie one
/// after the other in its state: references, which exp takes off, and sums of probabilities.
///
/// The cube core adds up products in the workspace. A row's reference is its maximum at some time
/// and stays until a score exceeds it by more than ATTN_SLACK: then, which is rare, what was summed
/// up is multiplied before the block's products are added.
template <class T, class Source, class Mask, class Walk>
class AttnVector {
 public:
  static constexpr int32_t K0 = 32 / sizeof(T);

  // Whether tasks that were cut are still to be merged, and of which this core did a part: its
  // first, its last.
  bool merges = false;
  bool cut[2] = {false, false};
  AttnTask parts[2];

  __aicore__ inline AttnVector(TPipe& pipe, const AttnDeal<Source>& deal, const AttnSpace<T>& space,
                               const AttnStore<T, Source>& store, Mask& mask)
      : pipe_(pipe),
        tile_(deal.tile),
        sizes_(deal.sizes),
        space_(space),
        store_(store),
        mask_(mask),
        me_(static_cast<int32_t>(GetSubBlockIdx())) {}

  __aicore__ inline void run(const Walk& begin, i64 core) {
    core_ = core;
    dv0_ = (sizes_.dv + K0 - 1) / K0 * K0;
    pairs_ = begin.shared() && begin.paired() && fit(tile_.chunk / 2) > 0;
    if (pairs_ && !begin.continues()) CrossCoreSetFlag<0, PIPE_MTE3>(ATTN_ENDS);
    if (begin.live) blocks(begin);
    if (pairs_ && !ended_) CrossCoreWaitFlag(ATTN_ENDS);
    merges = begin.shared() && !pairs_;
  }

 private:
  __aicore__ inline void blocks(const Walk& begin) {
    init();
    Walk now = begin, before = begin;
    bool pending = false;
    for (;;) {
      if (now.live) softmax(now);
      if (pending && before.last) finish(before);
      if (!now.live) break;
      before = now;
      pending = true;
      now.next();
    }
  }

  __aicore__ inline void init() {
    most_ = tile_.rows / 2;
    const int32_t widest = tile_.keys > tile_.headKeys ? tile_.keys : tile_.headKeys;
    const int32_t out = tile_.chunk + widest;
    const int32_t narrow = tile_.heads > 1 ? tile_.headKeys : tile_.keys;
    lines_ = smaller(ATTN_ROWS, tile_.chunk / narrow / 8 * 8);
    const int32_t fit = smaller(most_, tile_.chunk / dv0_ / 8 * 8);
    const int32_t spreads = (fit > lines_ ? fit : lines_) * 8;
    pipe_.InitBuffer(in_, 2, tile_.chunk * 4);
    pipe_.InitBuffer(out_, 2, out * sizeof(T));
    pipe_.InitBuffer(work_, lines_ * 128 * 4);
    pipe_.InitBuffer(state_, (8 * most_ + 2 * ATTN_ROWS + spreads + 64 + 8) * 4);
    work = work_.template Get<float>();
    LocalTensor<float> s = state_.template Get<float>();
    Duplicate(s, 0.0f, 8 * most_ + 2 * ATTN_ROWS + spreads);
    Duplicate(work, 0.0f, lines_ * 128);
    for (int32_t i = 0; i < 2; ++i) {
      maxima[i] = s[2 * i * most_];
      sums[i] = s[(2 * i + 1) * most_];
      factors[i] = s[(4 + i) * most_];
    }
    otherMax = s[6 * most_];
    otherSum = s[7 * most_];
    top = s[8 * most_];
    limits = top[ATTN_ROWS];
    spread = limits[ATTN_ROWS];
    columns = spread[spreads];
    bits = columns[64].template ReinterpretCast<uint8_t>();
    CreateVecIndex(columns.template ReinterpretCast<int32_t>(), 0, 64u);
    Cast(columns, columns.template ReinterpretCast<int32_t>(), RoundMode::CAST_NONE, 64u);
    for (int32_t i = 0; i < 2; ++i) {  // a row too many may be copied
      LocalTensor<T> p = out_.template AllocTensor<T>();
      Duplicate(p, static_cast<T>(0.0f), out);
      out_.EnQue(p);
    }
    for (int32_t i = 0; i < 2; ++i) {
      LocalTensor<T> p = out_.template DeQue<T>();
      out_.FreeTensor(p);
    }
  }

  __aicore__ inline static int32_t up(int32_t n, int32_t to) { return (n + to - 1) / to * to; }
  __aicore__ inline static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
  /// Rows of a chunk.
  __aicore__ inline int32_t chunkOf(const AttnTask& t) const {
    return smaller(smaller(lines_, tile_.chunk / t.block / 8 * 8), up((t.rows + 1) / 2, 8));
  }

  __aicore__ inline void softmax(const Walk& w) {
    CrossCoreWaitFlag(ATTN_SCORES);
    waitOuts(w.number - 1);  // whose products came before these scores
    const int32_t step = chunkOf(w.task);
    int32_t local = 0;
    for (int32_t row = me_ * step; row < w.task.rows; row += 2 * step, local += step)
      chunk(w, row, smaller(step, w.task.rows - row), local, step);
    if (!w.first && moved(w)) rescale(w, step);
    CrossCoreSetFlag<2, PIPE_MTE3>(ATTN_PROBS);
  }

  __aicore__ inline void chunk(const Walk& w, int32_t row, int32_t n, int32_t local, int32_t step) {
    const AttnTask& t = w.task;
    const int32_t now = static_cast<int32_t>(w.number & 1), group = sizes_.group;
    const LocalTensor<float> max = maxima[now][local], sum = sums[now][local];
    const LocalTensor<float> maxBefore = maxima[now ^ 1][local], sumBefore = sums[now ^ 1][local];
    const LocalTensor<float> factor = factors[now][local];
    int32_t a = row % t.m, b = (row + n - 1) % t.m;
    if (row / t.m != (row + n - 1) / t.m) a = 0, b = t.m - 1;
    const i64 least_ = t.limit((t.first + a) / group) - w.key;
    const int32_t cols =
        static_cast<int32_t>(least(t.limit((t.first + b) / group) - w.key, w.count));
    if (cols <= 0) {  // nothing is seen
      if (w.first) {
        Duplicate(max, ATTN_LOWEST, n);
        Duplicate(sum, 0.0f, n);
      } else {
        Adds(max, maxBefore, 0.0f, n);
        Adds(sum, sumBefore, 0.0f, n);
        Duplicate(factor, 1.0f, n);
      }
      if (w.count > 0) store(w, row, n, step, out_.template AllocTensor<T>(), 0);
      return;
    }
    const int32_t wide = up(cols, 64), pitch = wide / 8;
    LocalTensor<float> s = in_.template AllocTensor<float>();
    DataCopy(s, space_.scores[now][static_cast<i64>(row) * t.block],
             DataCopyParams(static_cast<uint16_t>(n), static_cast<uint16_t>(pitch),
                            static_cast<uint16_t>((t.block - wide) / 8), 0));
    in_.EnQue(s);
    s = in_.template DeQue<float>();
    if (cols < wide) {
      uint64_t tail[2] = {~0ull << (cols % 64), 0};
      Duplicate(s[wide - 64], sizes_.scale < 0 ? INFINITE : -INFINITE, tail,
                static_cast<uint8_t>(n), 1, static_cast<uint8_t>(pitch));
    }
    Muls(s, s, sizes_.scale, n * wide);
    mask_.apply(s, w, row, n, cols, pitch);
    if (least_ < cols) hide(s, w, row, n, most(least_, 0) / 64, wide / 64, pitch);
    reduce<true>(s, n, wide, pitch);
    if (w.first) {
      Maxs(max, top, ATTN_LOWEST, n);
    } else {
      Max(max, maxBefore, top, n);
      Adds(top, maxBefore, ATTN_SLACK, n);
      Compare(bits, max, top, CMPMODE::GT, 64ul, 1, {1, 1, 1, 8, 8, 8});
      Select(max, bits, max, maxBefore, SELMODE::VSEL_TENSOR_TENSOR_MODE, static_cast<uint32_t>(n));
      Sub(factor, maxBefore, max, n);
      Exp(factor, factor, n);
    }
    Brcb(spread, max, static_cast<uint8_t>((n + 7) / 8), {1, 8});
    for (int32_t c = 0; c < wide; c += 64)
      Sub(s[c], s[c], spread, 64, static_cast<uint8_t>(n),
          {1, 1, 0, static_cast<uint8_t>(pitch), static_cast<uint8_t>(pitch), 1});
    Exp(s, s, n * wide);
    LocalTensor<T> p = out_.template AllocTensor<T>();
    for (int32_t c = 0; c < wide; c += 64) {
      const UnaryRepeatParams u(static_cast<uint16_t>(step + 1), 1, 1, static_cast<uint8_t>(pitch));
      if constexpr (sizeof(T) == 2)
        Cast(p[c * (step + 1)], s[c], RoundMode::CAST_RINT, 64, static_cast<uint8_t>(n), u);
      else
        Adds(p[c * (step + 1)], s[c], 0.0f, 64, static_cast<uint8_t>(n), u);
    }
    store(w, row, n, step, p, wide);
    reduce<false>(s, n, wide, pitch);
    in_.FreeTensor(s);
    if (w.first) {
      Adds(sum, top, 0.0f, n);
    } else {
      Mul(sum, sumBefore, factor, n);
      Add(sum, sum, top, n);
    }
  }

  /// Columns a row does not see become -inf. Blocks of 64 columns [from, to).
  __aicore__ inline void hide(const LocalTensor<float>& s, const Walk& w, int32_t row, int32_t n,
                              i64 from, int32_t to, int32_t pitch) {
    const AttnTask& t = w.task;
    order<HardEvent::V_S>(pipe_);
    for (int32_t i = 0; i < n; ++i) {
      const i64 query = (t.first + (row + i) % t.m) / sizes_.group;
      const i64 seen = least(most(t.limit(query) - w.key, 0), t.block);
      limits.SetValue(static_cast<uint32_t>(i), static_cast<float>(seen - from * 64) - 0.5f);
    }
    order<HardEvent::S_V>(pipe_);
    Brcb(spread, limits, static_cast<uint8_t>((n + 7) / 8), {1, 8});
    for (int32_t c = static_cast<int32_t>(from); c < to; ++c) {  // +-inf as limit - column is
      Sub(work, spread, columns, 64, static_cast<uint8_t>(n), {1, 0, 1, 8, 1, 0});
      Muls(work, work, INFINITE, n * 64);
      Min(s[c * 64], s[c * 64], work, 64, static_cast<uint8_t>(n),
          {1, 1, 1, static_cast<uint8_t>(pitch), static_cast<uint8_t>(pitch), 8});
      Adds(spread, spread, -64.0f, n * 8);
    }
  }

  /// Maximum or sum of each row of up to 1024 columns, to `top`.
  template <bool MAX>
  __aicore__ inline void reduce(const LocalTensor<float>& s, int32_t n, int32_t wide,
                                int32_t pitch) {
    const int32_t step = wide == 64 ? 1 : wide <= 512 ? 8 : 16;
    if (wide > 64 && wide < step * 64) Duplicate(work, MAX ? -INFINITE : 0.0f, n * step * 8);
    for (int32_t c = 0; c < wide / 64; ++c) blocks<MAX>(work[c * 8], s[c * 64], n, step, pitch);
    if (wide > 512) {
      const BinaryRepeatParams halves(1, 1, 1, 16, 16, 16);
      if constexpr (MAX)
        Max(work, work, work[64], 64, static_cast<uint8_t>(n), halves);
      else
        Add(work, work, work[64], 64, static_cast<uint8_t>(n), halves);
    }
    if (wide > 64) blocks<MAX>(work, work, n, 1, step);
    blocks<MAX>(top, work, (n + 7) / 8, 1, 8);
  }
  template <bool MAX>
  __aicore__ inline static void blocks(const LocalTensor<float>& to, const LocalTensor<float>& from,
                                       int32_t repeats, int32_t toStep, int32_t fromStep) {
    if constexpr (MAX)
      BlockReduceMax(to, from, repeats, 64, toStep, 1, fromStep);
    else
      BlockReduceSum(to, from, repeats, 64, toStep, 1, fromStep);
  }

  /// P of the chunk, whose first `wide` columns are there already, to the workspace as NZ.
  __aicore__ inline void store(const Walk& w, int32_t row, int32_t n, int32_t step,
                               LocalTensor<T> p, int32_t wide) {
    const AttnTask& t = w.task;
    const int32_t all = up(w.count, 64), high = t.high();
    if (wide < all)
      Duplicate(p[wide * (step + 1)], static_cast<T>(0.0f), (all - wide) * (step + 1));
    const int32_t copied = n + (t.m == 1 && row + n == t.rows ? 1 : 0);
    out_.EnQue(p);
    p = out_.template DeQue<T>();
    DataCopy(space_.probs[w.number & 1][row * K0], p,
             DataCopyParams(static_cast<uint16_t>(all / K0), static_cast<uint16_t>(copied),
                            static_cast<uint16_t>(step + 1 - copied),
                            static_cast<uint16_t>(high - copied)));
    out_.FreeTensor(p);
  }

  /// Rows of `from`, each times its own factor: `spread` holds 8 copies of each.
  __aicore__ inline void scaleRows(const LocalTensor<float>& to, const LocalTensor<float>& from,
                                   int32_t n) {
    const uint8_t pitch = static_cast<uint8_t>(dv0_ / 8);
    for (int32_t c = 0; c < dv0_; c += 64)
      Mul(to[c], from[c], spread, static_cast<uint64_t>(smaller(64, dv0_ - c)),
          static_cast<uint8_t>(n), {1, 1, 0, pitch, pitch, 1});
  }

  /// Until the products of all blocks before block `number` are summed up.
  __aicore__ inline void waitOuts(i64 number) {
    for (; outs_ < number; ++outs_) CrossCoreWaitFlag(ATTN_OUTS);
  }
  __aicore__ inline int32_t ownRows(const AttnTask& t, int32_t step) const {
    int32_t n = 0;
    for (int32_t row = me_ * step; row < t.rows; row += 2 * step) n += smaller(step, t.rows - row);
    return n;
  }

  /// Whether any reference differs from that of the block before.
  __aicore__ inline bool moved(const Walk& w) {
    const int32_t now = static_cast<int32_t>(w.number & 1);
    const int32_t own = ownRows(w.task, chunkOf(w.task));
    if (own == 0) return false;
    Compare(bits, maxima[now], maxima[now ^ 1], CMPMODE::GT, 64ul, (own + 63) / 64,
            {1, 1, 1, 8, 8, 8});
    order<HardEvent::V_S>(pipe_);
    const LocalTensor<uint64_t> words = bits.template ReinterpretCast<uint64_t>();
    bool any = false;
    for (int32_t i = 0; i < own; i += 64) {
      const uint64_t rest = own - i < 64 ? (1ull << (own - i)) - 1 : ~0ull;
      any = any || (words.GetValue(static_cast<uint32_t>(i / 64)) & rest) != 0;
    }
    order<HardEvent::S_V>(pipe_);
    return any;
  }

  /// Rows of sums of products for which `room` floats suffice.
  __aicore__ inline int32_t fit(int32_t room) const { return room / dv0_ / 8 * 8; }
  /// The rows at once from a core's row `local` of `own` on: at most `fit`, and they follow each
  /// other in the task, from row `row` on.
  __aicore__ inline int32_t rowsAt(int32_t local, int32_t own, int32_t step, int32_t fit,
                                   int32_t& row) const {
    const int32_t in = local % step;
    row = (local / step * 2 + me_) * step + in;
    return smaller(smaller(fit, step - in), own - local);
  }

  /// What was summed up before this block, each row times its own factor.
  __aicore__ inline void rescale(const Walk& w, int32_t step) {
    const GlobalTensor<float> sum = space_.sumOf(w);
    const LocalTensor<float> factor = factors[w.number & 1];
    waitOuts(w.number);
    const int32_t own = ownRows(w.task, step);
    for (int32_t local = 0, n = 0, row = 0; local < own; local += n) {
      n = rowsAt(local, own, step, fit(tile_.chunk), row);
      LocalTensor<float> o = in_.template AllocTensor<float>();
      DataCopy(o, sum[static_cast<i64>(row) * dv0_], static_cast<uint32_t>(n * dv0_));
      in_.EnQue(o);
      o = in_.template DeQue<float>();
      Brcb(spread, factor[local], static_cast<uint8_t>((n + 7) / 8), {1, 8});
      scaleRows(o, o, n);
      order<HardEvent::V_MTE3>(pipe_);
      DataCopy(sum[static_cast<i64>(row) * dv0_], o, static_cast<uint32_t>(n * dv0_));
      order<HardEvent::MTE3_V>(pipe_);
      in_.FreeTensor(o);
    }
  }
  /// The results of a task, or what this core found about its part of it.
  __aicore__ inline void finish(const Walk& w) {
    const int32_t now = static_cast<int32_t>(w.number & 1), step = chunkOf(w.task);
    const LocalTensor<float> sum = sums[now], one = factors[now];
    waitOuts(w.number + 1);
    const bool pair = pairs_ && w.task.begin == 0 && w.task.end < w.task.own();
    const int32_t own = ownRows(w.task, step);
    if (!w.task.complete() && !pair) {
      leave(w, step);
      return;
    }
    if (pair) {
      CrossCoreWaitFlag(ATTN_ENDS);
      ended_ = true;
    }
    if (own == 0) return;
    if (pair) meet(w, step, own);
    Maxs(sum, sum, 1e-30f, own);  // a row that saw no key is zero
    Duplicate(one, 1.0f, own);
    Div(sum, one, sum, own);
    if (pair) {
      Mul(otherSum, otherMax, sum, own);
      Mul(sum, maxima[now], sum, own);
    }
    const GlobalTensor<float> from = space_.sumOf(w), other = space_.partial(core_ + 1, 0);
    const int32_t room = pair ? tile_.chunk / 2 : tile_.chunk;
    for (int32_t local = 0, n = 0, row = 0; local < own; local += n) {
      n = rowsAt(local, own, step, fit(room), row);
      LocalTensor<T> o = out_.template AllocTensor<T>();
      if (w.count == 0) {
        Duplicate(o, static_cast<T>(0.0f), n * dv0_);
      } else {
        const uint32_t floats = static_cast<uint32_t>(n * dv0_);
        LocalTensor<float> x = in_.template AllocTensor<float>();
        DataCopy(x, from[static_cast<i64>(row) * dv0_], floats);
        if (pair) DataCopy(x[room], other[static_cast<i64>(row) * dv0_], floats);
        in_.EnQue(x);
        x = in_.template DeQue<float>();
        Brcb(spread, sum[local], static_cast<uint8_t>((n + 7) / 8), {1, 8});
        if (pair) {
          const LocalTensor<float> y = x[room];
          scaleRows(x, x, n);
          Brcb(spread, otherSum[local], static_cast<uint8_t>((n + 7) / 8), {1, 8});
          scaleRows(y, y, n);
          if constexpr (sizeof(T) == 2) {
            Add(x, x, y, n * dv0_);
            Cast(o, x, RoundMode::CAST_RINT, floats);
          } else {
            Add(o, x, y, n * dv0_);
          }
        } else if constexpr (sizeof(T) == 2) {
          scaleRows(x, x, n);
          Cast(o, x, RoundMode::CAST_RINT, floats);
        } else {
          scaleRows(o, x, n);
        }
        in_.FreeTensor(x);
      }
      out_.EnQue(o);
      o = out_.template DeQue<T>();
      store_.put(o, w.task, row, n, dv0_);
      out_.FreeTensor(o);
    }
  }

  /// What the next core found about the rest of the keys joins ours: the sum of probabilities is
  /// that of both, and the factors of the two sums of products are in place of the maxima.
  __aicore__ inline void meet(const Walk& w, int32_t step, int32_t own) {
    const int32_t now = static_cast<int32_t>(w.number & 1);
    const GlobalTensor<float> from = space_.partial(core_ + 1, 0);
    order<HardEvent::V_MTE2>(pipe_);
    for (int32_t local = 0, row = me_ * step; row < w.task.rows; local += step, row += 2 * step) {
      const int32_t n = smaller(step, w.task.rows - row);
      const DataCopyExtParams few(1, static_cast<uint32_t>(n * 4), 0, 0, 0);
      DataCopyPad(otherMax[local], from[space_.maxima() + row], few, {false, 0, 0, 0.0f});
      DataCopyPad(otherSum[local], from[space_.sums() + row], few, {false, 0, 0, 0.0f});
    }
    order<HardEvent::MTE2_V>(pipe_);
    const LocalTensor<float> max = maxima[now], sum = sums[now], both = factors[now];
    Max(both, max, otherMax, own);
    Sub(max, max, both, own);
    Sub(otherMax, otherMax, both, own);
    Exp(max, max, own);
    Exp(otherMax, otherMax, own);
    Mul(sum, sum, max, own);
    Mul(otherSum, otherSum, otherMax, own);
    Add(sum, sum, otherSum, own);
  }

  /// This core's part of a task, for the core before or for all that share the task.
  __aicore__ inline void leave(const Walk& w, int32_t step) {
    const int32_t now = static_cast<int32_t>(w.number & 1), slot = w.task.begin > 0 ? 0 : 1;
    const GlobalTensor<float> to = space_.partial(core_, slot);
    order<HardEvent::V_MTE3>(pipe_);
    for (int32_t local = 0, row = me_ * step; row < w.task.rows; local += step, row += 2 * step) {
      const int32_t n = smaller(step, w.task.rows - row);
      const DataCopyExtParams few(1, static_cast<uint32_t>(n * 4), 0, 0, 0);
      DataCopyPad(to[space_.maxima() + row], maxima[now][local], few);
      DataCopyPad(to[space_.sums() + row], sums[now][local], few);
    }
    if (pairs_) CrossCoreSetFlag<0, PIPE_MTE3>(ATTN_ENDS);
    order<HardEvent::MTE3_V>(pipe_);
    cut[slot] = true;
    parts[slot] = w.task;
  }

  static constexpr float INFINITE = __builtin_inff();

  TPipe& pipe_;
  const AttnTile& tile_;
  const AttnSizes& sizes_;
  const AttnSpace<T>& space_;
  const AttnStore<T, Source>& store_;
  Mask& mask_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> work_, state_;
  LocalTensor<uint8_t> bits;  // of rows
  LocalTensor<float> work, maxima[2], sums[2], factors[2], otherMax, otherSum, top, limits, spread,
      columns;
  int32_t me_, dv0_, most_, lines_;
  bool pairs_, ended_ = false;  // tasks that are cut have two parts; the second ones are done
  i64 core_, outs_ = 0;         // outs_: blocks whose products are known to be summed up
};
}  // namespace xc
