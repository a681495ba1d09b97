// Attention, the cube core's loads: pieces of K and V run ahead of the products, Q and P.
#pragma once
#include "attention_space.h"
#include "cube.h"

namespace xc {

/// What lies in L1, and its loads in the order in which pieces are needed. A piece is taken
/// (`takeK`), used by MTE1, and given back.
template <class T, class Source, class Walk>
class AttnLoads {
 public:
  static constexpr int32_t K0 = 32 / sizeof(T);

  __aicore__ inline AttnLoads(TPipe& pipe, const AttnDeal<Source>& deal, const AttnSpace<T>& space,
                              GM_ADDR q, GM_ADDR k, GM_ADDR v)
      : pipe_(pipe),
        source_(deal.source),
        tile_(deal.tile),
        sizes_(deal.sizes),
        space_(space),
        q_(global<T>(q)),
        k_(global<T>(k)),
        v_(global<T>(v)) {
    if constexpr (Source::SPLIT) {
      qTail_ = global<T>(source_.qTail);
      kTail_ = global<T>(source_.kTail);
    }
  }

  __aicore__ inline void init(const Walk& begin) {
    pipe_.InitBuffer(l1_, L1_BYTES);
    q1_ = l1_.template Get<T>();
    k1_ = q1_[tile_.qSlots * tile_.q];
    v1_ = k1_[2 * tile_.k];
    p1_ = v1_[tile_.vSlots * tile_.v];
    kLoaded_.init(pipe_, 0);
    vLoaded_.init(pipe_, 0);
    pLoaded_.init(pipe_, 0);
    kFree_.init(pipe_, 2);
    vFree_.init(pipe_, tile_.vSlots);
    pFree_.init(pipe_, 2);
    qFree_.init(pipe_, 0);
    kAhead_ = begin;
    vAhead_ = begin;
  }
  __aicore__ inline void end() {
    if (qSet_) qFree_.wait(0);
    kLoaded_.end(pipe_, 0);
    vLoaded_.end(pipe_, 0);
    pLoaded_.end(pipe_, 0);
    kFree_.end(pipe_, 2);
    vFree_.end(pipe_, tile_.vSlots);
    pFree_.end(pipe_, 2);
    qFree_.end(pipe_, 0);
  }

  /// The next pieces of K and V, as far as there is room.
  __aicore__ inline void ahead() {
    while (kAhead_.live && kFlight_ < 2) {
      if (kAhead_.count > 0) {
        if (kAt_ == 0 && kAhead_.first) {
          if (qFlight_ == tile_.qSlots) break;
          loadQ(kAhead_.task);
        }
        kFree_.wait(kIn_);
        rows<false>(k1_[kIn_ * tile_.k], kAhead_, kAt_, 0);
        kLoaded_.set(kIn_);
        kIn_ ^= 1;
        ++kFlight_;
      }
      kAt_ += kAhead_.task.piece;
      if (kAt_ >= kAhead_.count) {
        kAhead_.next();
        kAt_ = 0;
      }
    }
    while (vAhead_.live && vFlight_ < tile_.vSlots) {
      if (vAhead_.count > 0) {
        vFree_.wait(vIn_);
        rows<true>(v1_[vIn_ * tile_.v], vAhead_, vAt_, vColumn_);
        vLoaded_.set(vIn_);
        if (++vIn_ == tile_.vSlots) vIn_ = 0;
        ++vFlight_;
      }
      vAt_ += vAhead_.task.piece;
      if (vAt_ < vAhead_.count) continue;
      vAt_ = 0;
      vColumn_ += tile_.panel;
      if (vColumn_ < sizes_.dv && vAhead_.count > 0) continue;
      vColumn_ = 0;
      vAhead_.next();
    }
  }

  __aicore__ inline LocalTensor<T> q() const { return q1_[qOut_ * tile_.q]; }
  /// After the last scores of a task.
  __aicore__ inline void giveQ() {
    if (qSet_) qFree_.wait(0);
    qFree_.set(0);
    qSet_ = true;
    if (++qOut_ == tile_.qSlots) qOut_ = 0;
    --qFlight_;
  }
  __aicore__ inline LocalTensor<T> takeK() {
    kLoaded_.wait(kOut_);
    return k1_[kOut_ * tile_.k];
  }
  __aicore__ inline void giveK() {
    kFree_.set(kOut_);
    kOut_ ^= 1;
    --kFlight_;
  }
  __aicore__ inline LocalTensor<T> takeV() {
    vLoaded_.wait(vOut_);
    return v1_[vOut_ * tile_.v];
  }
  __aicore__ inline void giveV() {
    vFree_.set(vOut_);
    if (++vOut_ == tile_.vSlots) vOut_ = 0;
    --vFlight_;
  }
  __aicore__ inline LocalTensor<T> takeP() {
    pLoaded_.wait(pOut_);
    return p1_[pOut_ * tile_.p];
  }
  __aicore__ inline void giveP() {
    pFree_.set(pOut_);
    if (++pOut_ == tile_.pSlots) pOut_ = 0;
  }

  /// P of a block (kept) or of a piece and a band, as NZ.
  __aicore__ inline void loadP(const Walk& w, int32_t at, int32_t band) {
    const AttnTask& t = w.task;
    const int32_t high = t.high();
    const GlobalTensor<T> src = space_.probs[w.number & 1];
    const LocalTensor<T> dst = p1_[pIn_ * tile_.p];
    pFree_.wait(pIn_);
    if (t.whole) {
      DataCopy(dst, src, static_cast<uint32_t>(high * up16(w.count)));
    } else {
      const int32_t m = t.rowsOf(band), n = smaller(t.piece, w.count - at);
      DataCopy(dst, src[at * high + band * t.bandRows * K0],
               DataCopyParams(static_cast<uint16_t>((n + K0 - 1) / K0), static_cast<uint16_t>(m),
                              static_cast<uint16_t>(high - m), static_cast<uint16_t>(up16(m) - m)));
    }
    pLoaded_.set(pIn_);
    if (++pIn_ == tile_.pSlots) pIn_ = 0;
  }

 private:
  __aicore__ inline static int32_t up16(int32_t n) { return (n + 15) / 16 * 16; }
  __aicore__ inline static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

  /// A piece of K or V, from column `column` on. K, and V of 16 bits: [columns / K0][piece][K0],
  /// columns of all heads; V of 32 bits: [piece / 16][columns / 8][16][8], squares that can be
  /// transposed.
  template <bool VALUES>
  __aicore__ inline void rows(const LocalTensor<T>& dst, const Walk& w, int32_t at,
                              int32_t column) {
    const AttnTask& t = w.task;
    const int32_t width = VALUES ? smaller(sizes_.dv - column, tile_.panel) : keyWidth();
    const int32_t n = smaller(t.piece, w.count - at);
    const i64 stride = VALUES ? source_.vRow : source_.kRow;
    constexpr bool squares = VALUES && sizeof(T) == 4;
    for (int32_t i = 0; i < n;) {
      i64 found = 0;
      const i64 row = source_.row(t.request, w.key + at + i, n - i, found);
      const i64 from =
          VALUES ? source_.v(t.request, row, t.head) : source_.k(t.request, row, t.head);
      const GlobalTensor<T> src = VALUES ? v_[from + column] : k_[from];
      const int32_t run = static_cast<int32_t>(found);
      if constexpr (squares) {
        const int32_t columns = up16(t.heads * width);
        for (int32_t j = 0; j < run;) {
          const int32_t in = (i + j) % 16, part = smaller(16 - in, run - j);
          rowsToL1(dst[(i + j - in) * columns + in * K0], src[j * stride], stride, part, 16,
                   t.heads * width, false);
          j += part;
        }
      } else {
        rowsToL1(dst[i * K0], src, stride, run, t.piece, t.heads * width, false);
      }
      i += run;
    }
    if constexpr (!VALUES && Source::SPLIT) {
      if (width < sizes_.d) tails(dst[(width + K0 - 1) / K0 * K0 * t.piece], w, at, n);
    }
  }
  /// The second parts of keys.
  __aicore__ inline void tails(const LocalTensor<T>& dst, const Walk& w, int32_t at, int32_t n) {
    for (int32_t i = 0; i < n;) {
      i64 found = 0;
      const i64 from = source_.kTailAt(w.task.request, w.key + at + i, n - i, found);
      const int32_t run = static_cast<int32_t>(found);
      rowsToL1(dst[i * K0], kTail_[from], source_.kTailRow, run, w.task.piece, source_.tail, false);
      i += run;
    }
  }
  __aicore__ inline int32_t keyWidth() const {
    if constexpr (Source::SPLIT) return source_.kWidth;
    return sizes_.d;
  }

  /// All rows of Q: [d0 / K0][high][K0].
  __aicore__ inline void loadQ(const AttnTask& t) {
    if (qSet_) {
      qFree_.wait(0);
      qSet_ = false;
    }
    const LocalTensor<T> dst = q1_[qIn_ * tile_.q];
    if constexpr (Source::SPLIT) {
      const int32_t width = source_.qWidth;
      part<false>(dst, t, q_, source_.qRow, source_.qHead, width);
      part<true>(dst[(width + K0 - 1) / K0 * K0 * t.high()], t, qTail_, source_.qTailRow,
                 source_.qTailHead, source_.tail);
    } else {
      part<false>(dst, t, q_, source_.qRow, source_.qHead, sizes_.d);
    }
    if (++qIn_ == tile_.qSlots) qIn_ = 0;
    ++qFlight_;
  }
  template <bool TAIL>
  __aicore__ inline i64 queryAt(i64 request, i64 query, i64 head) const {
    if constexpr (TAIL)
      return source_.qTailAt(request, query, head);
    else
      return source_.q(request, query, head);
  }
  /// `width` columns of all rows of Q, from the first or (TAIL) the second of two tensors.
  template <bool TAIL>
  __aicore__ inline void part(const LocalTensor<T>& dst, const AttnTask& t,
                              const GlobalTensor<T>& q, i64 qRow, i64 qHead, int32_t width) {
    const int32_t high = t.high(), group = sizes_.group;
    for (int32_t h = 0; h < t.heads; ++h) {
      const i64 head = static_cast<i64>(t.head + h) * group;
      for (int32_t r = 0; r < t.m;) {
        const i64 query = (t.first + r) / group;
        const int32_t g = static_cast<int32_t>((t.first + r) % group);
        const GlobalTensor<T> src = q[queryAt<TAIL>(t.request, query, head + g)];
        int32_t n = smaller(t.m - r, group - g);
        const LocalTensor<T> to = dst[(h * t.m + r) * K0];
        const int32_t whole = (t.m - r) / group;  // queries of which we have all heads
        if (group == 1) {
          n = t.m - r;
          rowsToL1(to, src, qRow, n, high, width, false);
        } else if (g == 0 && whole > 1 && qRow <= 65535 && qHead <= 65535) {
          n = whole * group;
          DataCopy(to, src,
                   Nd2NzParams(static_cast<uint16_t>(whole), static_cast<uint16_t>(group),
                               static_cast<uint16_t>(width), static_cast<uint16_t>(qRow),
                               static_cast<uint16_t>(qHead), static_cast<uint16_t>(high), 1,
                               static_cast<uint16_t>(group * K0)));
        } else {
          rowsToL1(to, src, qHead, n, high, width, false);
        }
        r += n;
      }
    }
    if (t.m == 1) {  // products of one row take two
      const i64 last = static_cast<i64>(t.head + t.heads) * group - group + t.first % group;
      rowsToL1(dst[t.rows * K0], q[queryAt<TAIL>(t.request, t.first / group, last)], 1, 1, high,
               width, false);
    }
  }

  TPipe& pipe_;
  const Source& source_;
  const AttnTile& tile_;
  const AttnSizes& sizes_;
  const AttnSpace<T>& space_;
  GlobalTensor<T> q_, k_, v_, qTail_, kTail_;
  TBuf<TPosition::A1> l1_;
  LocalTensor<T> q1_, k1_, v1_, p1_;
  Walk kAhead_, vAhead_;
  Flags<HardEvent::MTE2_MTE1, 2> kLoaded_, pLoaded_;
  Flags<HardEvent::MTE2_MTE1, 3> vLoaded_;
  Flags<HardEvent::MTE1_MTE2, 2> kFree_, pFree_;
  Flags<HardEvent::MTE1_MTE2, 3> vFree_;
  Flags<HardEvent::MTE1_MTE2, 1> qFree_;
  int32_t kAt_ = 0, vAt_ = 0, vColumn_ = 0;
  int32_t kFlight_ = 0, vFlight_ = 0, qFlight_ = 0;  // loads that are not used up
  int32_t kIn_ = 0, kOut_ = 0, vIn_ = 0, vOut_ = 0, pIn_ = 0, pOut_ = 0, qIn_ = 0, qOut_ = 0;
  bool qSet_ = false;
};
}  // namespace xc
