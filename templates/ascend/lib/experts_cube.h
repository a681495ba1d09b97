// Routed experts, the cube core's side: rows of A, gathered or not, and streamed panels of weights.
#pragma once
#include "experts_tile.h"
#include "gemm_cube.h"

namespace xc {

constexpr int32_t MOE_BATCH = 16;  // short transfers that are issued in one go

/// Rows of x by token, fetched one by one, or runs of rows that are equally far apart. Where it
/// can, it moves small elements four bytes at a time, since a stride of a transfer is below 65536
/// elements. Rows of int8_t are padded to 32.
template <class T>
class MoeGather {
 public:
  __aicore__ inline MoeGather(GM_ADDR x, i64 ldx, const MoeSpace& space)
      : x_(x), tokens_(global<int32_t>(space.tokens)), ldx_(ldx) {}
  /// Loads a part of the task's rows x K [k, k + depth), from row `at` on; returns what comes next.
  __aicore__ inline int32_t load(const LocalTensor<T>& dst, const MoeTask& t, i64 k, int32_t depth,
                                 int32_t at) const {
    if (sizeof(T) == 2 && ldx_ % 2 == 0 && depth % 2 == 0)
      return some(dst.template ReinterpretCast<float>(), t, ldx_ / 2, k / 2, depth / 2, at);
    if constexpr (sizeof(T) == 1)
      return some(dst.template ReinterpretCast<float>(), t, ldx_ / 4, k / 4, (depth + 3) / 4, at);
    return some(dst, t, ldx_, k, depth, at);
  }

 private:
  template <class U>
  __aicore__ inline int32_t some(const LocalTensor<U>& dst, const MoeTask& t, i64 pitch, i64 k,
                                 int32_t depth, int32_t at) const {
    constexpr int32_t K0 = 32 / sizeof(U);
    const GlobalTensor<U> x = global<U>(x_);
    Nd2NzParams p(1, 1, static_cast<uint16_t>(depth), 0, static_cast<uint16_t>(depth),
                  static_cast<uint16_t>(t.m16), 1, 0);
    if (t.m == 1) {  // twice: of one row, products would take A for a plain vector
      p.ndNum = 2;
      p.dstNzMatrixStride = K0;
      DataCopy(dst, x[tokens_.GetValue(t.row) * pitch + k], p);
      return 1;
    }
    i64 token = tokens_.GetValue(t.row + at);
    for (int32_t i = 0; i < MOE_BATCH && at < t.m; ++i) {
      const i64 first = token;
      int32_t run = 1;
      i64 step = 0;
      for (; at + run < t.m; ++run) {
        const i64 next = tokens_.GetValue(t.row + at + run);
        if (run == 1) step = (next - token) * pitch;
        const bool regular = step > 0 && step <= 65535 && (next - token) * pitch == step;
        token = next;
        if (!regular) break;
      }
      p.nValue = static_cast<uint16_t>(run);
      p.srcDValue = static_cast<uint16_t>(run > 1 ? step : depth);
      DataCopy(dst[at * K0], x[first * pitch + k], p);
      at += run;
    }
    return at;
  }

  GM_ADDR x_;
  GlobalTensor<int32_t> tokens_;
  i64 ldx_;
};

/// Rows that are sorted by expert already.
template <class T>
class MoeRows {
 public:
  __aicore__ inline MoeRows(GM_ADDR rows, i64 pitch) : rows_(global<T>(rows)), pitch_(pitch) {}
  __aicore__ inline int32_t load(const LocalTensor<T>& dst, const MoeTask& t, i64 k, int32_t depth,
                                 int32_t) const {
    const bool once = t.m == 1 || pitch_ > 65535;  // row by row, and a single one twice
    Nd2NzParams p(t.m == 1 ? 2 : 1, static_cast<uint16_t>(once ? 1 : t.m),
                  static_cast<uint16_t>(depth), 0, static_cast<uint16_t>(once ? depth : pitch_),
                  static_cast<uint16_t>(t.m16), 1, K0);
    for (int32_t i = 0; i < (once ? t.m : 1); ++i)
      DataCopy(dst[i * K0], rows_[(t.row + i) * pitch_ + k], p);
    return t.m;
  }

 private:
  static constexpr int32_t K0 = 32 / sizeof(T);
  GlobalTensor<T> rows_;
  i64 pitch_;
};

/// Sub-tiles of the first product go, as Tile::Cell, to a ring that the vector cores empty: m x
/// PANEL, or gate's columns, then up's, each m x PANEL / 2.
template <class Tile>
class MoeRing {
 public:
  using T = typename Tile::Cell;
  __aicore__ inline MoeRing(const MoeSpace& space, i64 bytes, int32_t cube)
      : ring_(global<T>(space.ring + cube * bytes)) {}
  __aicore__ inline void put(const LocalTensor<typename Tile::Sum>& sums, const MoeTask& t, i64) {
    if (count_ >= MOE_RING) CrossCoreWaitFlag(MOE_EMPTIED);
    const GlobalTensor<T> to = ring_[count_++ % MOE_RING * Tile::SUMS];
    fromL0C(to, sums, Tile::WIDTH, t.m, t.m16, Tile::WIDTH);
    if constexpr (Tile::GATE)
      fromL0C(to[t.m * Tile::WIDTH], sums[Tile::WIDTH * t.m16], Tile::WIDTH, t.m, t.m16,
              Tile::WIDTH);
    CrossCoreSetFlag<2, PIPE_FIX>(MOE_FILLED);
  }
  __aicore__ inline void end() {
    for (i64 i = least(count_, MOE_RING); i > 0; --i) CrossCoreWaitFlag(MOE_EMPTIED);
  }

 private:
  GlobalTensor<T> ring_;
  i64 count_ = 0;
};

/// Results of the second product go, as Tile::Cell, to rows as they are sorted.
template <class Tile>
class MoeSorted {
 public:
  using T = typename Tile::Cell;
  __aicore__ inline MoeSorted(const MoeSpace& space)
      : out_(global<T>(space.out)), pitch_(space.outPitch) {}
  __aicore__ inline void put(const LocalTensor<typename Tile::Sum>& sums, const MoeTask& t,
                             i64 panel) {
    const i64 col = panel * Tile::COLUMNS;
    fromL0C(out_[t.row * pitch_ + col], sums, pitch_, t.m, t.m16,
            static_cast<int32_t>(least(Tile::COLUMNS, pitch_ - col)));
  }
  __aicore__ inline void end() {}

 private:
  GlobalTensor<T> out_;
  i64 pitch_;
};

/// The transfers of weights of a core's tiles, one after the other: of each piece of A's K, of each
/// sub-tile, by KC.
template <class Tile, class Walk>
class MoeCursor {
 public:
  Walk walk;
  i64 k;            // where the piece of A begins
  int32_t depth;    // of the piece
  int32_t piece;    // its number in the tile
  int32_t sub, at;  // sub-tile, and where in the piece this transfer begins
  int32_t length;   // of this transfer

  __aicore__ inline void init(i64 depthOfAll) {
    all_ = depthOfAll;
    begin();
  }
  __aicore__ inline const MoeTask& task() const { return walk.task; }
  __aicore__ inline i64 panel() const { return walk.task.panel + sub; }
  __aicore__ inline bool firstOfPiece() const { return sub == 0 && at == 0; }
  __aicore__ inline bool lastOfSub() const { return at + length == depth; }
  __aicore__ inline bool lastOfPiece() const { return sub + 1 == task().panels && lastOfSub(); }
  __aicore__ inline bool lastPiece() const { return k + depth == all_; }

  __aicore__ inline void next() {
    at += Tile::KC;
    if (at < depth) return measure();
    at = 0;
    if (++sub < task().panels) return measure();
    sub = 0;
    k += full_;
    ++piece;
    if (k < all_) return open();
    walk.next();
    begin();
  }

 private:
  __aicore__ inline void begin() {
    if (!walk.live) return;
    full_ = Tile::depth(task().m16, all_);
    k = 0;
    piece = sub = at = 0;
    open();
  }
  __aicore__ inline void open() {
    depth = static_cast<int32_t>(least(full_, all_ - k));
    measure();
  }
  __aicore__ inline void measure() { length = static_cast<int32_t>(least(Tile::KC, depth - at)); }
  i64 all_, full_;
};

/// One of the two products on one cube core.
///
/// Walk: gives this core's tiles one by one, see MoeWalk.
/// Source: load(dst, task, k, depth, at) loads the task's rows from `at` on, x K [k, k + depth), as
///         NZ with columns of m16 rows, or a part of them; returns what comes next.
/// Sink: put(sums, task, panel) takes a finished sub-tile out of L0C (NZ, columns of m16 rows) on
///       the FIX pipe.
template <class Tile, class Source, class Sink, class Walk = MoeWalk<Tile>>
class MoeCube {
 public:
  using T = typename Tile::Type;
  using Sum = typename Tile::Sum;
  static constexpr int32_t K0 = Tile::K0, PANEL = Tile::COLUMNS;

  /// weights: packed [experts, panels, depth / K0, PANEL, K0]; bias: float [experts, panels, PANEL]
  __aicore__ inline MoeCube(TPipe& pipe, GM_ADDR weights, GM_ADDR bias, i64 width, i64 depth,
                            Source& source, Sink& sink)
      : pipe_(pipe),
        once_(global<T>(weights)),
        again_(global<T>(weights)),
        bias_(global<float>(bias)),
        panels_(Tile::panels(width)),
        panelSize_(alignUp(depth, K0) * PANEL),
        all_(depth),
        source_(source),
        sink_(sink) {
    once_.SetL2CacheHint(CacheMode::CACHE_MODE_DISABLE);
  }

  __aicore__ inline void run(const Walk& walk) {
    init();
    ahead_.walk = walk;
    ahead_.init(all_);
    MoeCursor<Tile, Walk> now;
    now.walk = walk;
    now.init(all_);
    while (now.walk.live) {
      while (items_ == 0) fetch();
      multiply(now);
    }
    sink_.end();
    end();
  }

 private:
  static constexpr int32_t HALF = L0_BYTES / 2 / static_cast<int32_t>(sizeof(T));
  static constexpr int32_t BIASES = Tile::BIAS ? MOE_SLOTS * PANEL * 4 : 0;

  __aicore__ inline void init() {
    pipe_.InitBuffer(l1_, 2 * MOE_A + MOE_SLOTS * MOE_B + BIASES);
    pipe_.InitBuffer(l0a_, L0_BYTES);
    pipe_.InitBuffer(l0b_, L0_BYTES);
    pipe_.InitBuffer(l0c_, L0C_BYTES);
    a1_ = l1_.Get<T>();
    b1_ = a1_[2 * MOE_A / sizeof(T)];
    a2_ = l0a_.Get<T>();
    b2_ = l0b_.Get<T>();
    c_ = l0c_.Get<Sum>();
    if constexpr (Tile::BIAS) {
      pipe_.InitBuffer(table_, 1024);
      bias1_ = l1_.Get<float>()[(2 * MOE_A + MOE_SLOTS * MOE_B) / 4];
      bias2_ = table_.Get<float>();
    }
    loaded_.init(pipe_, 0);
    bFree_.init(pipe_, MOE_SLOTS);
    aFree_.init(pipe_, 2);
    inL0_.init(pipe_, 0);
    free_.init(pipe_, 2);
    done_.init(pipe_, 0);
    cFree_.init(pipe_, Tile::WIDE);
  }
  __aicore__ inline void end() {
    loaded_.end(pipe_, 0);
    bFree_.end(pipe_, MOE_SLOTS);
    aFree_.end(pipe_, 2);
    inL0_.end(pipe_, 0);
    free_.end(pipe_, 2);
    done_.end(pipe_, 0);
    cFree_.end(pipe_, Tile::WIDE);
  }

  /// MTE2: the next few rows of A that the panels ahead are the first to need, or else a panel.
  __aicore__ inline void fetch() {
    MoeCursor<Tile, Walk>& c = ahead_;
    if (!c.walk.live) return;
    const MoeTask& t = c.task();
    if (c.firstOfPiece() && t.load && row_ < t.m) {
      if (row_ == 0) {
        if (pieces_ == 2) return;
        ++pieces_;
        aFree_.wait(aIn_);
      }
      row_ = source_.load(a1_[aIn_ * (MOE_A / sizeof(T))], t, c.k, c.depth, row_);
      if (row_ < t.m) return;
      aIn_ ^= 1;
    }
    if (items_ == MOE_SLOTS) return;
    row_ = 0;
    ++items_;
    bFree_.wait(bIn_);
    const GlobalTensor<T>& w = c.walk.shared() ? again_ : once_;
    DataCopy(b1_[bIn_ * (MOE_B / sizeof(T))],
             w[(t.expert * panels_ + c.panel()) * panelSize_ + (c.k + c.at) * PANEL],
             static_cast<uint32_t>((c.length + K0 - 1) / K0 * K0 * PANEL));
    if constexpr (Tile::BIAS) {
      if (c.k == 0 && c.at == 0)
        DataCopy(bias1_[bIn_ * PANEL], bias_[(t.expert * panels_ + c.panel()) * PANEL], PANEL);
    }
    loaded_.set(bIn_);
    bIn_ = (bIn_ + 1) % MOE_SLOTS;
    c.next();
  }

  /// MTE1 and M: what the oldest transfer brought, and FIX when a sub-tile is finished. Short
  /// transfers in and out are issued in between, so that no queue of the other pipes runs empty.
  __aicore__ inline void multiply(MoeCursor<Tile, Walk>& c) {
    const MoeTask& t = c.task();
    const int32_t slot = (cOut_ + c.sub) % Tile::WIDE;
    const LocalTensor<T> a = a1_[((aOut_ + c.piece) & 1) * (MOE_A / sizeof(T)) + c.at * t.m16];
    const LocalTensor<T> b = b1_[bOut_ * (MOE_B / sizeof(T))];
    const LocalTensor<Sum> sums = c_[slot * Tile::SUMS];
    const bool first = c.k == 0 && c.at == 0;
    loaded_.wait(bOut_);
    if (first) cFree_.wait(slot);
    const int32_t most = HALF / (t.m16 > PANEL ? t.m16 : PANEL) / Tile::GRAIN * Tile::GRAIN;
    for (int32_t at = 0; at < c.length; at += most) {
      const int32_t length = c.length - at < most ? c.length - at : most;
      step(sums, a[at * t.m16], b[at * PANEL], t, length, first && at == 0);
      fetch();
      fetch();
    }
    --items_;
    bFree_.set(bOut_);
    bOut_ = (bOut_ + 1) % MOE_SLOTS;
    if (c.lastOfPiece() && !t.keep) {
      --pieces_;
      aFree_.set((aOut_ + c.piece) & 1);
    }
    if (c.lastPiece() && c.lastOfSub()) {
      done_.set(slot);
      done_.wait(slot);
      sink_.put(sums, t, c.panel());
      cFree_.set(slot);
      if (c.sub + 1 == t.panels) {
        cOut_ = (cOut_ + t.panels) % Tile::WIDE;
        if (!t.keep) aOut_ = (aOut_ + c.piece + 1) & 1;
      }
    }
    c.next();
  }

  /// K [0, length) of what L1 holds, through L0.
  __aicore__ inline void step(const LocalTensor<Sum>& sums, const LocalTensor<T>& a,
                              const LocalTensor<T>& b, const MoeTask& t, int32_t length,
                              bool first) {
    const int32_t m16 = t.m16;
    const LocalTensor<T> a2 = a2_[at0_ * HALF], b2 = b2_[at0_ * HALF];
    free_.wait(at0_);
    toL0A(a2, a, m16, m16, length);
    LoadData2DParams p;
    p.repeatTimes = static_cast<uint8_t>((length + K0 - 1) / K0 * (PANEL / 16));
    p.srcStride = 1;
    LoadData(b2, b, p);
    const LocalTensor<float> bias = bias2_[at0_ * 128];
    if constexpr (Tile::BIAS) {
      if (first) DataCopy(bias, bias1_[bOut_ * PANEL], {1, PANEL / 16, 0, 0});
    }
    inL0_.set(at0_);
    inL0_.wait(at0_);
    MmadParams q;
    q.m = static_cast<uint16_t>(t.m == 1 ? 2 : t.m);
    q.n = PANEL;
    q.k = static_cast<uint16_t>(length);
    q.cmatrixInitVal = first && !Tile::BIAS;
    if constexpr (Tile::BIAS) {
      if (first)
        Mmad(sums, a2, b2, bias, q);
      else
        Mmad(sums, a2, b2, q);
    } else {
      Mmad(sums, a2, b2, q);
    }
    // A product of few fractals may start before the one before it has written its sums.
    if (m16 / 16 * (PANEL / 16) < 10) PipeBarrier<PIPE_M>();
    free_.set(at0_);
    at0_ ^= 1;
  }

  TPipe& pipe_;
  GlobalTensor<T> once_, again_;  // weights that one tile reads, that several do
  GlobalTensor<float> bias_;
  i64 panels_, panelSize_, all_;
  Source& source_;
  Sink& sink_;
  MoeCursor<Tile, Walk> ahead_;
  TBuf<TPosition::A1> l1_;
  TBuf<TPosition::A2> l0a_;
  TBuf<TPosition::B2> l0b_;
  TBuf<TPosition::CO1> l0c_;
  LocalTensor<T> a1_, b1_, a2_, b2_;
  LocalTensor<Sum> c_;
  LocalTensor<float> bias1_, bias2_;  // bias of each buffer of B; of each half of L0
  TBuf<TPosition::C2> table_;
  Flags<HardEvent::MTE2_MTE1, MOE_SLOTS> loaded_;
  Flags<HardEvent::MTE1_MTE2, MOE_SLOTS> bFree_;
  Flags<HardEvent::MTE1_MTE2, 2> aFree_;
  Flags<HardEvent::MTE1_M, 2> inL0_;
  Flags<HardEvent::M_MTE1, 2> free_;
  Flags<HardEvent::M_FIX, Tile::WIDE> done_;
  Flags<HardEvent::FIX_M, Tile::WIDE> cFree_;
  int32_t items_ = 0, pieces_ = 0;  // transfers of B and of A on their way or in use
  int32_t row_ = 0;                 // of the piece of A that is being fetched
  int32_t aIn_ = 0, aOut_ = 0, bIn_ = 0, bOut_ = 0, at0_ = 0, cOut_ = 0;
};
}  // namespace xc
