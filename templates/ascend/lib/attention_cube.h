// Attention, the cube core's side: scores = Q K^T of a block, and P V of the block before last.
#pragma once
#include "attention_deal.h"
#include "gemm_cube.h"

namespace xc {

enum : uint16_t { ATTN_SCORES, ATTN_PROBS, ATTN_OUTS };

/// Rooms of one cube core and its two vector cores in the workspace: two blocks are in flight.
/// Block i uses the rooms i % 2. The partial results of tasks that are cut come after them.
template <class T>
class AttnSpace {
 public:
  GlobalTensor<float> scores[2], outs[2];
  GlobalTensor<T> probs[2];

  __aicore__ inline AttnSpace(GM_ADDR workspace, const AttnTile& t, i64 core)
      : base_(workspace),
        rooms_(2 * (bytes(t.scores, 4) + bytes(t.outs, 4) + bytes(t.probs, sizeof(T)))),
        partial_(bytes(t.outs, 4) + 2 * bytes(t.rows, 4)),
        rows_(bytes(t.outs, 4) / 4),
        step_(bytes(t.rows, 4) / 4) {
    GM_ADDR at = room(core);
    for (int32_t i = 0; i < 2; ++i) {
      scores[i] = global<float>(at);
      at += bytes(t.scores, 4);
      outs[i] = global<float>(at);
      at += bytes(t.outs, 4);
      probs[i] = global<T>(at);
      at += bytes(t.probs, sizeof(T));
    }
  }
  /// Sums over values of a core's first (0) or last task; then maxima and sums of its rows.
  __aicore__ inline GlobalTensor<float> partial(i64 core, i64 slot) const {
    return global<float>(room(core) + rooms_ + slot * partial_);
  }
  __aicore__ inline i64 maxima() const { return rows_; }
  __aicore__ inline i64 sums() const { return rows_ + step_; }
  __aicore__ inline i64 corePitch() const { return rooms_ + 2 * partial_; }  // bytes

 private:
  __aicore__ inline static i64 bytes(i64 n, i64 size) { return alignUp(n * size, 512); }
  __aicore__ inline GM_ADDR room(i64 core) const { return base_ + core * corePitch(); }
  GM_ADDR base_;
  i64 rooms_, partial_, rows_, step_;
};

/// Loads of Q, K, V and P, in the order in which pieces are needed, run ahead of the products.
template <class T, class Source, class Walk>
class AttnCube {
 public:
  static constexpr int32_t K0 = 32 / sizeof(T);
  static constexpr int32_t HALF = L0_BYTES / 2 / sizeof(T);  // elements of half of L0A or L0B

  __aicore__ inline AttnCube(TPipe& pipe, const AttnDeal<Source>& deal, const AttnSpace<T>& space,
                             GM_ADDR q, GM_ADDR k, GM_ADDR v)
      : pipe_(pipe),
        source_(deal.source),
        tile_(deal.tile),
        sizes_(deal.sizes),
        space_(space),
        q_(global<T>(q)),
        k_(global<T>(k)),
        v_(global<T>(v)) {}

  __aicore__ inline void run(const Walk& begin) {
    init();
    Walk now = begin, then = begin;  // of scores, and of products
    kAhead_ = begin;
    vAhead_ = begin;
    kAt_ = vAt_ = 0;
    while (then.live) {
      if (now.live && now.number < then.number + 2) {
        scores(now);
        now.next();
      } else {
        products(then);
        then.next();
      }
    }
    end();
  }

 private:
  __aicore__ inline static int32_t up16(int32_t n) { return (n + 15) / 16 * 16; }
  __aicore__ inline static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
  __aicore__ inline static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

  __aicore__ inline void init() {
    pipe_.InitBuffer(l1_, L1_BYTES);
    pipe_.InitBuffer(l0a_, L0_BYTES);
    pipe_.InitBuffer(l0b_, L0_BYTES);
    pipe_.InitBuffer(l0c_, L0C_BYTES);
    const LocalTensor<T> l1 = l1_.template Get<T>();
    q1_ = l1;
    k1_ = l1[2 * tile_.q];
    v1_ = k1_[2 * tile_.k];
    p1_ = v1_[2 * tile_.v];
    a2_ = l0a_.template Get<T>();
    b2_ = l0b_.template Get<T>();
    c_ = l0c_.template Get<float>();
    d0_ = (sizes_.d + K0 - 1) / K0 * K0;
    dv0_ = (sizes_.dv + K0 - 1) / K0 * K0;
    kLoaded_.init(pipe_, 0);
    vLoaded_.init(pipe_, 0);
    pLoaded_.init(pipe_, 0);
    kFree_.init(pipe_, 2);
    vFree_.init(pipe_, 2);
    pFree_.init(pipe_, 2);
    qFree_.init(pipe_, 0);
    inL0_.init(pipe_, 0);
    a2Free_.init(pipe_, 2);
    b2Free_.init(pipe_, 2);
    done_.init(pipe_, 0);
    cFree_.init(pipe_, 2);
  }
  __aicore__ inline void end() {
    if (qSet_) qFree_.wait(0);
    kLoaded_.end(pipe_, 0);
    vLoaded_.end(pipe_, 0);
    pLoaded_.end(pipe_, 0);
    kFree_.end(pipe_, 2);
    vFree_.end(pipe_, 2);
    pFree_.end(pipe_, 2);
    qFree_.end(pipe_, 0);
    inL0_.end(pipe_, 0);
    a2Free_.end(pipe_, 2);
    b2Free_.end(pipe_, 2);
    done_.end(pipe_, 0);
    cFree_.end(pipe_, 2);
  }

  // -- GM to L1 -----------------------------------------------------------------------------------

  /// The next pieces of K and V, as far as there is room.
  __aicore__ inline void ahead() {
    while (kAhead_.live && kFlight_ < 2) {
      if (kAhead_.count > 0) {
        if (kAt_ == 0 && kAhead_.first) {
          if (qFlight_ == 2) break;
          loadQ(kAhead_.task);
        }
        kFree_.wait(kIn_);
        rows<false>(k1_[kIn_ * tile_.k], kAhead_, kAt_);
        kLoaded_.set(kIn_);
        kIn_ ^= 1;
        ++kFlight_;
      }
      step(kAhead_, kAt_);
    }
    while (vAhead_.live && vFlight_ < 2) {
      if (vAhead_.count > 0) {
        vFree_.wait(vIn_);
        rows<true>(v1_[vIn_ * tile_.v], vAhead_, vAt_);
        vLoaded_.set(vIn_);
        vIn_ ^= 1;
        ++vFlight_;
      }
      step(vAhead_, vAt_);
    }
  }
  __aicore__ inline static void step(Walk& w, int32_t& at) {
    at += w.task.piece;
    if (at >= w.count) {
      w.next();
      at = 0;
    }
  }

  /// A piece of K or V. K, and V of 16 bits: [columns / K0][piece][K0], columns of all heads; V of
  /// 32 bits: [piece / 16][columns / 8][16][8], squares that can be transposed.
  template <bool VALUES>
  __aicore__ inline void rows(const LocalTensor<T>& dst, const Walk& w, int32_t at) {
    const AttnTask& t = w.task;
    const int32_t width = VALUES ? sizes_.dv : sizes_.d, n = smaller(t.piece, w.count - at);
    const i64 stride = VALUES ? source_.vRow : source_.kRow;
    constexpr bool squares = VALUES && sizeof(T) == 4;
    for (int32_t i = 0; i < n;) {
      i64 found = 0;
      const i64 row = source_.row(t.request, w.key + at + i, n - i, found);
      const i64 from =
          VALUES ? source_.v(t.request, row, t.head) : source_.k(t.request, row, t.head);
      const GlobalTensor<T> src = VALUES ? v_[from] : k_[from];
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
  }

  /// All rows of Q: [d0 / K0][high][K0].
  __aicore__ inline void loadQ(const AttnTask& t) {
    if (qSet_) {
      qFree_.wait(0);
      qSet_ = false;
    }
    const LocalTensor<T> dst = q1_[qIn_ * tile_.q];
    const int32_t high = t.high(), group = sizes_.group;
    for (int32_t h = 0; h < t.heads; ++h) {
      const i64 head = static_cast<i64>(t.head + h) * group;
      for (int32_t r = 0; r < t.m;) {
        const i64 query = (t.first + r) / group;
        const int32_t g = static_cast<int32_t>((t.first + r) % group);
        const GlobalTensor<T> src = q_[source_.q(t.request, query, head + g)];
        int32_t n = smaller(t.m - r, group - g);
        const LocalTensor<T> to = dst[(h * t.m + r) * K0];
        const int32_t whole = (t.m - r) / group;  // queries of which we have all heads
        if (group == 1) {
          n = t.m - r;
          rowsToL1(to, src, source_.qRow, n, high, sizes_.d, false);
        } else if (g == 0 && whole > 1 && source_.qRow <= 65535 && source_.qHead <= 65535) {
          n = whole * group;
          DataCopy(to, src,
                   Nd2NzParams(static_cast<uint16_t>(whole), static_cast<uint16_t>(group),
                               static_cast<uint16_t>(sizes_.d), static_cast<uint16_t>(source_.qRow),
                               static_cast<uint16_t>(source_.qHead), static_cast<uint16_t>(high), 1,
                               static_cast<uint16_t>(group * K0)));
        } else {
          rowsToL1(to, src, source_.qHead, n, high, sizes_.d, false);
        }
        r += n;
      }
    }
    if (t.m == 1) {  // products of one row take two
      const i64 last = static_cast<i64>(t.head + t.heads) * group - group + t.first % group;
      rowsToL1(dst[t.rows * K0], q_[source_.q(t.request, t.first / group, last)], 1, 1, high,
               sizes_.d, false);
    }
    qIn_ ^= 1;
    ++qFlight_;
  }

  // -- products -----------------------------------------------------------------------------------

  /// Rows of NZ in L1, in columns of `high` rows, to L0A.
  __aicore__ inline void toA(const LocalTensor<T>& dst, const LocalTensor<T>& src, int32_t high,
                             int32_t m16, int32_t k) {
    LoadData2DParams p;
    p.repeatTimes = static_cast<uint8_t>((k + K0 - 1) / K0);
    p.srcStride = static_cast<uint16_t>(high / 16);
    for (int32_t i = 0; i < m16 / 16; ++i)
      LoadData(dst[i * p.repeatTimes * 16 * K0], src[i * 16 * K0], p);
  }
  __aicore__ inline void multiply(const LocalTensor<float>& sums, const LocalTensor<T>& a,
                                  const LocalTensor<T>& b, int32_t m, int32_t n, int32_t k,
                                  bool first) {
    MmadParams p;
    p.m = static_cast<uint16_t>(larger(m, 2));  // of one row, A would be read as a plain vector
    p.n = static_cast<uint16_t>(n);
    p.k = static_cast<uint16_t>(k);
    p.cmatrixInitVal = first;
    Mmad(sums, a, b, p);
    // A product of few fractals may start before the one before it has written its sums.
    if (up16(m) / 16 * (up16(n) / 16) < 10) PipeBarrier<PIPE_M>();
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
      toA(a, q[band * t.bandRows * K0 + at * high], high, m16, length);
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
      multiply(sums, a, b, m, n, length, at == 0);
      giveA();
      giveB();
    }
  }

  __aicore__ inline void scores(const Walk& w) {
    const AttnTask& t = w.task;
    const GlobalTensor<float> out = space_.scores[w.number & 1];
    const LocalTensor<T> q = q1_[qOut_ * tile_.q];
    const int32_t m16 = up16(t.bandRows), rows16 = m16 * up16(t.block);
    if (w.count > 0 && t.whole) cFree_.wait(cAt_);
    for (int32_t at = 0; at < w.count; at += t.piece) {
      ahead();
      const int32_t n = smaller(t.piece, w.count - at);
      kLoaded_.wait(kOut_);
      const LocalTensor<T> k = k1_[kOut_ * tile_.k];
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
      kFree_.set(kOut_);
      kOut_ ^= 1;
      --kFlight_;
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
    if (w.last && w.task.keys > 0) {
      if (qSet_) qFree_.wait(0);
      qFree_.set(0);
      qSet_ = true;
      qOut_ ^= 1;
      --qFlight_;
    }
    CrossCoreSetFlag<2, PIPE_FIX>(ATTN_SCORES);
  }

  /// P of a block (whole) or of a piece and a band, as NZ.
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
    pIn_ ^= 1;
  }

  /// Rows of `band` x n keys of P times a piece of V, into L0C.
  __aicore__ inline void weigh(const LocalTensor<float>& sums, const LocalTensor<T>& p,
                               int32_t high, const LocalTensor<T>& v, const AttnTask& t,
                               int32_t band, int32_t n, bool first) {
    const int32_t m = t.rowsOf(band), m16 = up16(m), wide = smaller(dv0_, 128);
    const int32_t deep = HALF / larger(m16, up16(wide)) / 16 * 16;
    for (int32_t at = 0; at < n; at += deep) {
      const int32_t length = smaller(deep, n - at);
      const LocalTensor<T> a = takeA();
      toA(a, p[at * high], high, m16, length);
      for (int32_t col = 0; col < dv0_; col += wide) {
        const int32_t cols = smaller(wide, dv0_ - col), n16 = up16(cols);
        const LocalTensor<T> b = takeB();
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
        loadedB();
        multiply(sums[col * m16], a, b, m, cols, length, first && at == 0);
        giveB();
      }
      giveA();
    }
  }

  __aicore__ inline void products(const Walk& w) {
    const AttnTask& t = w.task;
    CrossCoreWaitFlag(ATTN_PROBS);
    if (w.count > 0) {
      const int32_t m16 = up16(t.bandRows), each = m16 * up16(dv0_);
      const bool both = t.bands * each > ATTN_SUMS;
      if (both) cAt_ = 0;
      const LocalTensor<float> sums = c_[cAt_ * ATTN_SUMS];
      cFree_.wait(cAt_);
      if (both) cFree_.wait(1);
      int32_t nextAt = 0, nextBand = 0;
      if (t.whole)
        loadP(w, 0, 0);
      else
        loadNext(w, nextAt, nextBand);
      if (t.whole) {
        pLoaded_.wait(pOut_);
      }
      for (int32_t at = 0; at < w.count; at += t.piece) {
        ahead();
        const int32_t n = smaller(t.piece, w.count - at);
        vLoaded_.wait(vOut_);
        const LocalTensor<T> v = v1_[vOut_ * tile_.v];
        for (int32_t band = 0; band < t.bands; ++band) {
          const LocalTensor<float> c = sums[band * each];
          if (t.whole) {
            const LocalTensor<T> p = p1_[pOut_ * tile_.p];
            weigh(c, p[at * t.high() + band * t.bandRows * K0], t.high(), v, t, band, n, at == 0);
            continue;
          }
          const int32_t some = useful(w, band, at, n);
          if (some == 0) continue;
          loadNext(w, nextAt, nextBand);
          pLoaded_.wait(pOut_);
          weigh(c, p1_[pOut_ * tile_.p], up16(t.rowsOf(band)), v, t, band, some, at == 0);
          pFree_.set(pOut_);
          pOut_ ^= 1;
        }
        vFree_.set(vOut_);
        vOut_ ^= 1;
        --vFlight_;
      }
      if (t.whole) {
        pFree_.set(pOut_);
        pOut_ ^= 1;
      }
      done_.set(cAt_);
      done_.wait(cAt_);
      for (int32_t band = 0; band < t.bands; ++band)
        fromL0C(space_.outs[w.number & 1][band * t.bandRows * dv0_], sums[band * each], dv0_,
                t.rowsOf(band), up16(t.rowsOf(band)), dv0_);
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
          loadP(w, at, band++);
          return;
        }
  }

  TPipe& pipe_;
  const Source& source_;
  const AttnTile& tile_;
  const AttnSizes& sizes_;
  const AttnSpace<T>& space_;
  GlobalTensor<T> q_, k_, v_;
  TBuf<TPosition::A1> l1_;
  TBuf<TPosition::A2> l0a_;
  TBuf<TPosition::B2> l0b_;
  TBuf<TPosition::CO1> l0c_;
  LocalTensor<T> q1_, k1_, v1_, p1_, a2_, b2_;
  LocalTensor<float> c_;
  Walk kAhead_, vAhead_;
  Flags<HardEvent::MTE2_MTE1, 2> kLoaded_, vLoaded_, pLoaded_;
  Flags<HardEvent::MTE1_MTE2, 2> kFree_, vFree_, pFree_;
  Flags<HardEvent::MTE1_MTE2, 1> qFree_;
  Flags<HardEvent::MTE1_M, 2> inL0_;
  Flags<HardEvent::M_MTE1, 2> a2Free_, b2Free_;
  Flags<HardEvent::M_FIX, 2> done_;
  Flags<HardEvent::FIX_M, 2> cFree_;
  int32_t d0_, dv0_, kAt_, vAt_;
  int32_t kFlight_ = 0, vFlight_ = 0, qFlight_ = 0;  // loads that are not used up
  int32_t kIn_ = 0, kOut_ = 0, vIn_ = 0, vOut_ = 0, pIn_ = 0, pOut_ = 0, qIn_ = 0, qOut_ = 0;
  int32_t aAt_ = 0, bAt_ = 0, cAt_ = 0;
  bool qSet_ = false;
};
}  // namespace xc
