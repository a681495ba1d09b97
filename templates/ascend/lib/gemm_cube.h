// The cube core's side of a matrix product: GM -> L1 -> L0 -> products in L0C -> a sink.
#pragma once
#include "cube.h"
#include "gemm_deal.h"

namespace xc {

/// Multiplies the tasks of a Deal on one cube core. T: half, bfloat16_t or float; sums are float.
///
/// Source: a(dst, task, m16, k, depth) loads A's rows as NZ with columns of m16 rows;
///         b(dst, batch, panel, k, length) loads a panel as the source likes it in L1;
///         b0(dst, src, panel, at, length, of) takes K [at, at + length) of the `of` there to L0B;
///         columns(panel) is how many of the panel's PANEL columns there are.
/// Sink:   put(c, task, m16, panel, panels) takes a finished sub-tile out of L0C (NZ, columns of
///         m16 rows) on the FIX pipe.
template <class T, int32_t PANEL, class Source, class Sink>
class Gemm {
 public:
  static constexpr int32_t K0 = 32 / sizeof(T);  // elements of a fractal's row

  __aicore__ inline Gemm(TPipe& pipe, const Deal& deal, Source& source, Sink& sink)
      : pipe_(pipe), deal_(deal), source_(source), sink_(sink) {}

  __aicore__ inline void run(Team team) {
    const Tiling& t = deal_.tile;
    init();
    Cursor ahead, now;
    ahead.init(deal_, team);
    now.init(deal_, team);
    while (now.live) {
      while (ahead.live && items_ < t.slots && (!ahead.firstOfPiece() || pieces_ < 2)) fetch(ahead);
      multiply(now);
    }
    end();
  }

 private:
  __aicore__ inline void init() {
    const Tiling& t = deal_.tile;
    pipe_.InitBuffer(l1_, L1_BYTES);
    pipe_.InitBuffer(l0a_, L0_BYTES);
    pipe_.InitBuffer(l0b_, L0_BYTES);
    pipe_.InitBuffer(l0c_, L0C_BYTES);
    a1_ = l1_.Get<T>();
    a2_ = l0a_.Get<T>();
    b2_ = l0b_.Get<T>();
    c_ = l0c_.Get<float>();
    aSize_ = t.rows * t.ka;
    bSize_ = t.group * PANEL * t.kc;
    cSize_ = t.rows * t.group * PANEL;
    cSlots_ = static_cast<int32_t>(least(L0C_BYTES / 4 / cSize_, 4));
    loaded_.init(pipe_, 0);
    bFree_.init(pipe_, t.slots);
    aFree_.init(pipe_, 2);
    inL0_.init(pipe_, 0);
    a2Free_.init(pipe_, 2);
    b2Free_.init(pipe_, 2);
    done_.init(pipe_, 0);
    cFree_.init(pipe_, cSlots_);
  }
  __aicore__ inline void end() {
    loaded_.end(pipe_, 0);
    bFree_.end(pipe_, deal_.tile.slots);
    aFree_.end(pipe_, 2);
    inL0_.end(pipe_, 0);
    a2Free_.end(pipe_, 2);
    b2Free_.end(pipe_, 2);
    done_.end(pipe_, 0);
    cFree_.end(pipe_, cSlots_);
  }

  /// Rows in L0: a product of one row would read A as a plain vector, so there are at least two.
  __aicore__ inline static int32_t up16(int32_t m) { return (m + 15) / 16 * 16; }

  /// MTE2: the next panels, and the piece of A that they are the first to need.
  __aicore__ inline void fetch(Cursor& c) {
    const Tiling& t = deal_.tile;
    ++items_;
    if (c.firstOfPiece()) {
      ++pieces_;
      aFree_.wait(aIn_);
      source_.a(a1_[aIn_ * aSize_], c.task, up16(c.task.m), c.k, c.depth);
      aIn_ ^= 1;
    }
    bFree_.wait(bIn_);
    const LocalTensor<T> to = a1_[2 * aSize_ + bIn_ * bSize_];
    for (int32_t p = 0; p < c.panels; ++p)
      source_.b(to[p * PANEL * t.kc], c.task.batch, c.panel(deal_) + p, c.k + c.at, c.length);
    loaded_.set(bIn_);
    bIn_ = bIn_ + 1 == t.slots ? 0 : bIn_ + 1;
    c.next(deal_);
  }

  /// MTE1 and M: what the oldest transfer brought; FIX when a sub-tile is finished.
  __aicore__ inline void multiply(Cursor& c) {
    const Tiling& t = deal_.tile;
    const int32_t m16 = up16(c.task.m), slot = (cOut_ + c.sub) % cSlots_;
    const LocalTensor<T> a = a1_[aOut_ * aSize_ + c.at * m16];
    const LocalTensor<T> b = a1_[2 * aSize_ + bOut_ * bSize_];
    const LocalTensor<float> sums = c_[slot * cSize_];
    const i64 panel = c.panel(deal_);
    const bool first = c.k == 0 && c.at == 0;
    loaded_.wait(bOut_);
    if (first) cFree_.wait(slot);
    for (int32_t at = 0; at < c.length; at += t.kb) {
      const int32_t length = c.length - at < t.kb ? c.length - at : t.kb;
      const LocalTensor<T> a2 = a2_[a2At_ * (L0_BYTES / 2 / sizeof(T))];
      a2Free_.wait(a2At_);
      toL0A(a2, a[at * m16], m16, m16, length);
      for (int32_t p = 0; p < c.panels; ++p) {
        const LocalTensor<T> b2 = b2_[b2At_ * (L0_BYTES / 2 / sizeof(T))];
        b2Free_.wait(b2At_);
        source_.b0(b2, b[p * PANEL * t.kc], panel + p, at, length, c.length);
        inL0_.set(b2At_);
        inL0_.wait(b2At_);
        product(sums[p * PANEL * m16], a2, b2, c.task.m, source_.columns(panel + p), length,
                first && at == 0);
        b2Free_.set(b2At_);
        b2At_ ^= 1;
      }
      a2Free_.set(a2At_);
      a2At_ ^= 1;
    }
    --items_;
    bFree_.set(bOut_);
    bOut_ = bOut_ + 1 == t.slots ? 0 : bOut_ + 1;
    if (c.lastOfPiece()) {
      --pieces_;
      aFree_.set(aOut_);
      aOut_ ^= 1;
    }
    if (c.lastPiece(deal_) && c.lastOfSub()) {
      done_.set(slot);
      done_.wait(slot);
      sink_.put(sums, c.task, m16, panel, c.panels);
      cFree_.set(slot);
      if (c.sub + 1 == c.subs) cOut_ = (cOut_ + c.subs) % cSlots_;
    }
    c.next(deal_);
  }

  TPipe& pipe_;
  const Deal& deal_;
  Source& source_;
  Sink& sink_;
  TBuf<TPosition::A1> l1_;
  TBuf<TPosition::A2> l0a_;
  TBuf<TPosition::B2> l0b_;
  TBuf<TPosition::CO1> l0c_;
  LocalTensor<T> a1_, a2_, b2_;
  LocalTensor<float> c_;
  Flags<HardEvent::MTE2_MTE1, 4> loaded_;
  Flags<HardEvent::MTE1_MTE2, 4> bFree_;
  Flags<HardEvent::MTE1_MTE2, 2> aFree_;
  Flags<HardEvent::MTE1_M, 2> inL0_;
  Flags<HardEvent::M_MTE1, 2> a2Free_, b2Free_;
  Flags<HardEvent::M_FIX, 4> done_;
  Flags<HardEvent::FIX_M, 4> cFree_;
  int32_t aSize_, bSize_, cSize_, cSlots_;
  int32_t items_ = 0, pieces_ = 0;  // transfers of B and of A on their way or in use
  int32_t aIn_ = 0, aOut_ = 0, bIn_ = 0, bOut_ = 0, a2At_ = 0, b2At_ = 0, cOut_ = 0;
};

}  // namespace xc
