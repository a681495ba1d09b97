// Attention, the cube core's side: scores = Q K^T of a block, and P V of the block before last.
#pragma once
#include "attention_load.h"

namespace xc {

/// Products of one core's share. The sums of a product lie in one half of L0C, or in both.
template <class T, class Source, class Walk>
class AttnCube {
 public:
  static constexpr int32_t K0 = 32 / sizeof(T);
  static constexpr int32_t HALF = L0_BYTES / 2 / sizeof(T);  // elements of half of L0A or L0B
  static constexpr int32_t WIDE = 128;                       // columns of V at once

  __aicore__ inline AttnCube(TPipe& pipe, const AttnDeal<Source>& deal, const AttnSpace<T>& space,
                             GM_ADDR q, GM_ADDR k, GM_ADDR v)
      : pipe_(pipe),
        tile_(deal.tile),
        sizes_(deal.sizes),
        space_(space),
        loads_(pipe, deal, space, q, k, v) {}

  __aicore__ inline void run(const Walk& begin) {
    init();
    loads_.init(begin);
    Walk now = begin, then = begin;  // of scores, and of products
    while (then.live) {
      if (now.live && now.number < then.number + 2) {
        scores(now);
        now.next();
      } else {
        products(then);
        then.next();
      }
    }
    loads_.end();
    end();
  }

 private:
  __aicore__ inline static int32_t up16(int32_t n) { return (n + 15) / 16 * 16; }
  __aicore__ inline static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
  __aicore__ inline static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

  __aicore__ inline void init() {
    pipe_.InitBuffer(l0a_, L0_BYTES);
    pipe_.InitBuffer(l0b_, L0_BYTES);
    pipe_.InitBuffer(l0c_, L0C_BYTES);
    a2_ = l0a_.template Get<T>();
    b2_ = l0b_.template Get<T>();
    c_ = l0c_.template Get<float>();
    d0_ = (sizes_.d + K0 - 1) / K0 * K0;
    dv0_ = (sizes_.dv + K0 - 1) / K0 * K0;
    inL0_.init(pipe_, 0);
    a2Free_.init(pipe_, 2);
    b2Free_.init(pipe_, 2);
    done_.init(pipe_, 0);
    cFree_.init(pipe_, 2);
  }
  __aicore__ inline void end() {
    inL0_.end(pipe_, 0);
    a2Free_.end(pipe_, 2);
    b2Free_.end(pipe_, 2);
    done_.end(pipe_, 0);
    cFree_.end(pipe_, 2);
  }

  __aicore__ inline LocalTensor<T> takeA() {
    a2Free_.wait(aAt_);
    return a2_[aAt_ * HALF];
  }
  __aicore__ inline void giveA() {
    a2Free_.set(aAt_);
    aAt_ ^= 1;
  }
  __aicore__ inline LocalTensor<T> takeB() {
    b2Free_.wait(bAt_);
    return b2_[bAt_ * HALF];
  }
  __aicore__ inline void loadedB() {
    inL0_.set(bAt_);
    inL0_.wait(bAt_);
  }
  __aicore__ inline void giveB() {
    b2Free_.set(bAt_);
    bAt_ ^= 1;
  }

  /// Keys of a piece that a band sees.
  __aicore__ inline int32_t seen(const Walk& w, int32_t band, int32_t at, int32_t n) const {
    const AttnTask& t = w.task;
    if (t.heads > 1) return n;
    const i64 row = t.first + band * t.bandRows + t.rowsOf(band) - 1;
    return static_cast<int32_t>(least(t.limit(row / sizes_.group) - w.key - at, n));
  }

  /// Rows of `band` x n keys of a piece, into L0C.
  __aicore__ inline void score(const LocalTensor<float>& sums, const LocalTensor<T>& q,
                               const LocalTensor<T>& k, const AttnTask& t, int32_t band,
                               int32_t n) {
    const int32_t m = t.rowsOf(band), m16 = up16(m), n16 = up16(n), high = t.high();
    const int32_t deep = HALF / larger(m16, n16) / 16 * 16;
    const LocalTensor<T> from = t.heads > 1 ? k[band * d0_ * t.piece] : k;
    for (int32_t at = 0; at < sizes_.d; at += deep) {
      const int32_t length = smaller(deep, sizes_.d - at), columns = (length + K0 - 1) / K0;
      const LocalTensor<T> a = takeA();
      toL0A(a, q[band * t.bandRows * K0 + at * high], high, m16, length);
      const LocalTensor<T> b = takeB();
      LoadData2DParams p;
      p.srcStride = 1;
      if (n16 == t.piece) {
        p.repeatTimes = static_cast<uint8_t>(columns * (n16 / 16));
        LoadData(b, from[at * t.piece], p);
      } else {
        p.repeatTimes = static_cast<uint8_t>(n16 / 16);
        for (int32_t c = 0; c < columns; ++c)
          LoadData(b[c * n16 * K0], from[at * t.piece + c * t.piece * K0], p);
      }
      loadedB();
      product(sums, a, b, m, n, length, at == 0);
      giveA();
      giveB();
    }
  }

  __aicore__ inline void scores(const Walk& w) {
    const AttnTask& t = w.task;
    const GlobalTensor<float> out = space_.scores[w.number & 1];
    const LocalTensor<T> q = loads_.q();
    const int32_t m16 = up16(t.bandRows), rows16 = m16 * up16(t.block);
    if (w.count > 0 && t.whole) cFree_.wait(cAt_);
    for (int32_t at = 0; at < w.count; at += t.piece) {
      loads_.ahead();
      const int32_t n = smaller(t.piece, w.count - at);
      const LocalTensor<T> k = loads_.takeK();
      for (int32_t band = 0; band < t.bands; ++band) {
        if (t.whole) {
          score(c_[cAt_ * ATTN_SUMS + band * rows16 + at * m16], q, k, t, band, n);
          continue;
        }
        const int32_t some = seen(w, band, at, n), m = t.rowsOf(band);
        if (some <= 0) continue;
        const LocalTensor<float> sums = c_[cAt_ * ATTN_SUMS];
        cFree_.wait(cAt_);
        score(sums, q, k, t, band, some);
        done_.set(cAt_);
        done_.wait(cAt_);
        fromL0C(out[static_cast<i64>(band * t.bandRows) * t.block + at], sums, t.block, m, up16(m),
                some);
        cFree_.set(cAt_);
        cAt_ ^= 1;
      }
      loads_.giveK();
    }
    if (w.count > 0 && t.whole) {
      done_.set(cAt_);
      done_.wait(cAt_);
      for (int32_t band = 0; band < t.bands; ++band)
        fromL0C(out[band * t.bandRows * t.block], c_[cAt_ * ATTN_SUMS + band * rows16], t.block,
                t.rowsOf(band), m16, w.count);
      cFree_.set(cAt_);
      cAt_ ^= 1;
    }
    if (w.last && w.task.keys > 0) loads_.giveQ();
    CrossCoreSetFlag<2, PIPE_FIX>(ATTN_SCORES);
  }

  /// Keys [at, at + length) x columns [col, col + n16) of a piece of V, to L0B.
  __aicore__ inline void toB(const LocalTensor<T>& b, const LocalTensor<T>& v, const AttnTask& t,
                             int32_t band, int32_t at, int32_t length, int32_t col, int32_t n16) {
    if constexpr (sizeof(T) == 2) {
      const int32_t from = (t.heads > 1 ? band * dv0_ : 0) + col;
      LoadData2DParams l;
      l.repeatTimes = static_cast<uint8_t>(n16 / 16);
      l.srcStride = static_cast<uint16_t>(t.piece / 16);
      l.ifTranspose = true;
      for (int32_t i = 0; i < length; i += 16)
        LoadData(b[i * n16], v[from * t.piece + (at + i) * 16], l);
    } else {
      const int32_t from = (t.heads > 1 ? band * sizes_.dv : 0) + col;
      const int32_t columns = up16(t.heads * sizes_.dv);
      LoadData2dTransposeParams l;
      l.repeatTimes = static_cast<uint8_t>(n16 / 16);
      l.srcStride = 1;
      l.dstFracGap = static_cast<uint16_t>(n16 / 16 - 1);
      for (int32_t i = 0; i < length; i += 16)
        LoadDataWithTranspose(b[i * n16], v[(at + i) * columns + from * 16], l);
    }
  }

  /// Rows of `band` x n keys of P times a piece of V, into L0C.
  __aicore__ inline void weigh(const LocalTensor<float>& sums, const LocalTensor<T>& p,
                               int32_t high, const LocalTensor<T>& v, const AttnTask& t,
                               int32_t band, int32_t n, bool first) {
    const int32_t m = t.rowsOf(band), m16 = up16(m), wide = smaller(dv0_, WIDE);
    const int32_t deep = HALF / larger(m16, up16(wide)) / 16 * 16;
    for (int32_t at = 0; at < n; at += deep) {
      const int32_t length = smaller(deep, n - at);
      const LocalTensor<T> a = takeA();
      toL0A(a, p[at * high], high, m16, length);
      for (int32_t col = 0; col < dv0_; col += wide) {
        const int32_t cols = smaller(wide, dv0_ - col);
        const LocalTensor<T> b = takeB();
        toB(b, v, t, band, at, length, col, up16(cols));
        loadedB();
        product(sums[col * m16], a, b, m, cols, length, first && at == 0);
        giveB();
      }
      giveA();
    }
  }

  /// Products of m rows to the task's sums, or added to them.
  __aicore__ inline void addUp(const Walk& w, int32_t at, const LocalTensor<float>& products,
                               int32_t m, int32_t n) {
    if (!w.first) SetAtomicAdd<float>();
    fromL0C(space_.sumOf(w)[at], products, dv0_, m, up16(m), n);
    if (!w.first) SetAtomicNone();
  }

  /// The products of a block whose results do not fit L0C: V comes in panels of columns, each half
  /// of L0C has WIDE of them, and P once for each panel.
  __aicore__ inline void panels(const Walk& w) {
    const AttnTask& t = w.task;
    const int32_t m16 = up16(t.rows);
    loads_.loadP(w, 0, 0);
    for (int32_t column = 0; column < dv0_; column += tile_.panel) {
      const int32_t width = smaller(tile_.panel, dv0_ - column);
      for (int32_t at = 0; at < w.count; at += t.piece) {
        const int32_t n = smaller(t.piece, w.count - at);
        if (at + n < w.count)
          loads_.loadP(w, at + n, 0);
        else if (column + width < dv0_)
          loads_.loadP(w, 0, 0);
        loads_.ahead();
        const LocalTensor<T> v = loads_.takeV(), a = takeA();
        toL0A(a, loads_.takeP(), m16, m16, n);
        loads_.giveP();
        for (int32_t col = 0, half = 0; col < width; col += WIDE, ++half) {
          const int32_t cols = smaller(WIDE, width - col);
          const LocalTensor<float> sums = c_[half * ATTN_SUMS];
          const LocalTensor<T> b = takeB();
          toB(b, v, t, 0, 0, n, col, up16(cols));
          loadedB();
          if (at == 0) cFree_.wait(half);
          product(sums, a, b, t.rows, cols, n, at == 0);
          giveB();
          if (at + t.piece < w.count) continue;
          done_.set(half);
          done_.wait(half);
          addUp(w, column + col, sums, t.rows, cols);
          cFree_.set(half);
        }
        giveA();
        loads_.giveV();
      }
    }
  }

  __aicore__ inline void products(const Walk& w) {
    const AttnTask& t = w.task;
    CrossCoreWaitFlag(ATTN_PROBS);
    if (w.count > 0 && tile_.panel < dv0_) {
      panels(w);
    } else if (w.count > 0) {
      const int32_t m16 = up16(t.bandRows), each = m16 * up16(dv0_);
      const bool both = t.bands * each > ATTN_SUMS;
      if (both) cAt_ = 0;
      const LocalTensor<float> sums = c_[cAt_ * ATTN_SUMS];
      cFree_.wait(cAt_);
      if (both) cFree_.wait(1);
      int32_t nextAt = 0, nextBand = 0;
      LocalTensor<T> p;
      if (t.whole) {
        loads_.loadP(w, 0, 0);
        p = loads_.takeP();
      } else {
        loadNext(w, nextAt, nextBand);
      }
      for (int32_t at = 0; at < w.count; at += t.piece) {
        loads_.ahead();
        const int32_t n = smaller(t.piece, w.count - at);
        const LocalTensor<T> v = loads_.takeV();
        for (int32_t band = 0; band < t.bands; ++band) {
          const LocalTensor<float> c = sums[band * each];
          if (t.whole) {
            weigh(c, p[at * t.high() + band * t.bandRows * K0], t.high(), v, t, band, n, at == 0);
            continue;
          }
          const int32_t some = useful(w, band, at, n);
          if (some == 0) continue;
          loadNext(w, nextAt, nextBand);
          weigh(c, loads_.takeP(), up16(t.rowsOf(band)), v, t, band, some, at == 0);
          loads_.giveP();
        }
        loads_.giveV();
      }
      if (t.whole) loads_.giveP();
      done_.set(cAt_);
      done_.wait(cAt_);
      for (int32_t band = 0; band < t.bands; ++band)
        addUp(w, band * t.bandRows * dv0_, sums[band * each], t.rowsOf(band), dv0_);
      cFree_.set(cAt_);
      if (both)
        cFree_.set(1);
      else
        cAt_ ^= 1;
    }
    CrossCoreSetFlag<2, PIPE_FIX>(ATTN_OUTS);
  }
  /// Keys of a piece that a band's products take: at least one of the block, whose P may be zero.
  __aicore__ inline int32_t useful(const Walk& w, int32_t band, int32_t at, int32_t n) const {
    return larger(seen(w, band, at, n), at == 0 ? 1 : 0);
  }
  /// Loads the next P of a block that is not whole, if there is one.
  __aicore__ inline void loadNext(const Walk& w, int32_t& at, int32_t& band) {
    for (; at < w.count; band = 0, at += w.task.piece)
      for (; band < w.task.bands; ++band)
        if (useful(w, band, at, smaller(w.task.piece, w.count - at)) > 0) {
          loads_.loadP(w, at, band++);
          return;
        }
  }

  TPipe& pipe_;
  const AttnTile& tile_;
  const AttnSizes& sizes_;
  const AttnSpace<T>& space_;
  AttnLoads<T, Source, Walk> loads_;
  TBuf<TPosition::A2> l0a_;
  TBuf<TPosition::B2> l0b_;
  TBuf<TPosition::CO1> l0c_;
  LocalTensor<T> a2_, b2_;
  LocalTensor<float> c_;
  Flags<HardEvent::MTE1_M, 2> inL0_;
  Flags<HardEvent::M_MTE1, 2> a2Free_, b2Free_;
  Flags<HardEvent::M_FIX, 2> done_;
  Flags<HardEvent::FIX_M, 2> cFree_;
  int32_t d0_, dv0_;
  int32_t aAt_ = 0, bAt_ = 0, cAt_ = 0;
};
}  // namespace xc
