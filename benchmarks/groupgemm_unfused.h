// Routed experts without fusion, to compare with: what separate operations do, one launch each.
//
// The same sort, tiles, buffers, pipeline of the products and weighted sum as the fused kernel.
// What differs: tokens are copied for each of their experts, a core takes whole experts in turn,
// and the activation is a launch of its own between the products.
#pragma once
#include "experts.h"

namespace unfused {
using namespace xc;

/// Workspace: MoeSpace, then rows of x and of gate and up, both sorted by expert.
template <class Tile>
struct Space : MoeSpace {
  using T = typename Tile::Type;
  GM_ADDR rows;    // T [entries, rowPitch]
  GM_ADDR gateUp;  // T [entries, 2 * innerPitch]
  i64 rowPitch;
  __aicore__ inline Space(GM_ADDR base, const MoeSizes& s)
      : MoeSpace(base, s, MOE_RING * Tile::SUMS * static_cast<i64>(sizeof(T)), sizeof(T),
                 sizeof(T)) {
    constexpr i64 SIZE = sizeof(T);
    rowPitch = alignUp(s.hidden, 16);
    rows = this->out + alignUp(s.entries() * this->outPitch * SIZE, 512);
    gateUp = rows + alignUp(s.entries() * rowPitch * SIZE, 512);
  }
};

/// Sorted rows, and the list of active experts. A vector phase.
template <class Tile>
__aicore__ inline void sortRows(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR expert,
                                GM_ADDR workspace) {
  const Space<Tile> space(workspace, s);
  MoeSort sort;
  sort.run(pipe, team, s, space, expert);
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
  SyncAll();
  moePlaces(pipe, team, space, s.entries());
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
  if (team.index > 0) return;
  const i64 wide = alignUp(s.experts, 64);
  const uint32_t n = static_cast<uint32_t>(wide);
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, wide * 24);
  const LocalTensor<int32_t> all = buffer.Get<int32_t>();
  const LocalTensor<int32_t> counts = all, index = all[wide], ids = all[2 * wide],
                             rows = all[3 * wide];
  const LocalTensor<float> keys = all[5 * wide].ReinterpretCast<float>();
  const LocalTensor<uint8_t> mask = all[4 * wide].ReinterpretCast<uint8_t>();
  Duplicate(counts, 0, n);
  CreateVecIndex(index, 0, n);
  order<HardEvent::V_MTE2>(pipe);
  DataCopyPad(counts, global<int32_t>(space.counts),
              {1, static_cast<uint32_t>(s.experts * 4), 0, 0, 0},
              DataCopyPadExtParams<int32_t>{
                  true, 0, static_cast<uint8_t>(alignUp(s.experts, 8) - s.experts), 0});
  order<HardEvent::MTE2_V>(pipe);
  Cast(keys, counts, RoundMode::CAST_RINT, n);
  CompareScalar(mask, keys, 0.0f, CMPMODE::GT, n);
  uint64_t active = 0;
  const LocalTensor<uint32_t> pattern = mask.ReinterpretCast<uint32_t>();
  GatherMask(ids, index, pattern, true, n, {1, 1, 8, 8}, active);
  GatherMask(rows, counts, pattern, true, n, {1, 1, 8, 8}, active);
  order<HardEvent::V_S>(pipe);
  global<int32_t>(space.starts).SetValue(0, static_cast<int32_t>(active));
  refreshScalar(global<int32_t>(space.starts));
  order<HardEvent::V_MTE3>(pipe);
  if (active == 0) return;
  const DataCopyExtParams p{1, static_cast<uint32_t>(active * 4), 0, 0, 0};
  DataCopyPad(global<int32_t>(space.table), ids, p);
  DataCopyPad(global<int32_t>(space.table)[space.rowsAt], rows, p);
}

/// x by token, to where its experts' rows are. A vector phase.
template <class Tile>
__aicore__ inline void copyRows(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR x,
                                GM_ADDR workspace) {
  using T = typename Tile::Type;
  constexpr i64 TILE = 32 * 1024 / static_cast<i64>(sizeof(T));
  const Space<Tile> space(workspace, s);
  const GlobalTensor<int32_t> tokens = global<int32_t>(space.tokens);
  const GlobalTensor<T> from = global<T>(x), to = global<T>(space.rows);
  const i64 parts = ceilDiv(s.hidden, least(TILE, s.hidden));
  const i64 cores = most(1, team.count / most(1, s.entries()));
  const i64 width = alignUp(ceilDiv(s.hidden, most(parts, cores)), 256);
  const i64 across = ceilDiv(s.hidden, width);
  const Range mine = split(s.entries() * across, team);
  TQueBind<TPosition::VECIN, TPosition::VECOUT, 1> tiles;
  pipe.InitBuffer(tiles, 4, TILE * sizeof(T));
  for (i64 u = mine.begin; u < mine.end; ++u) {
    const i64 row = u / across, col = u % across * width;
    const uint32_t bytes = static_cast<uint32_t>(least(width, s.hidden - col) * sizeof(T));
    LocalTensor<T> t = tiles.AllocTensor<T>();
    DataCopyPad(t, from[tokens.GetValue(row) * s.ldx + col], {1, bytes, 0, 0, 0},
                DataCopyPadExtParams<T>{false, 0, 0, 0});
    tiles.EnQue(t);
    t = tiles.DeQue<T>();
    DataCopyPad(to[row * space.rowPitch + col], t, {1, bytes, 0, 0, 0});
    tiles.FreeTensor(t);
  }
}

/// A core's tiles: all of every `count`-th active expert, block of rows by block of rows.
template <class Tile>
class WholeExperts {
 public:
  MoeTask task;
  bool live;

  __aicore__ inline void init(const MoeSpace& space, Team cubes, i64 width, i64 depth) {
    table_ = global<int32_t>(space.table);
    rowsAt_ = space.rowsAt;
    depth_ = depth;
    panels_ = Tile::panels(width);
    listed_ = global<int32_t>(space.starts).GetValue(0);
    count_ = cubes.count;
    first_ = at_ = unit_ = units_ = 0;
    next_ = cubes.index;
    next();
  }
  __aicore__ inline void next() {
    live = false;
    if (unit_ == units_) {
      if (next_ >= listed_) return;
      for (; at_ < next_; ++at_) first_ += table_.GetValue(rowsAt_ + at_);
      rows_ = table_.GetValue(rowsAt_ + at_);
      task.expert = table_.GetValue(at_);
      m16_ = Tile::rowsOf(rows_);
      blocks_ = ceilDiv(rows_, m16_);
      unit_ = 0;
      units_ = blocks_ * panels_;
      next_ += count_;
    }
    live = true;
    const bool resident = Tile::fits(m16_, depth_);
    const i64 block = unit_ / panels_, left = panels_ - unit_ % panels_;
    const i64 panels = least(left, Tile::WIDE);
    task.row = first_ + block * m16_;
    task.m = static_cast<int32_t>(least(m16_, rows_ - block * m16_));
    task.m16 = static_cast<int32_t>(alignUp(task.m, 16));
    task.panel = unit_ % panels_;
    task.panels = static_cast<int32_t>(panels);
    task.load = !resident || task.panel == 0;
    task.keep = resident && left > panels;
    unit_ += panels;
  }
  __aicore__ inline bool shared() const { return blocks_ > 1; }

 private:
  GlobalTensor<int32_t> table_;
  i64 rowsAt_, depth_, panels_, listed_, count_;
  i64 first_, at_, next_, rows_, m16_, blocks_ = 1, unit_, units_;
  // at_: place in the list whose rows begin at first_
};

/// Sorted rows `pitch` apart.
template <class T>
class Rows {
 public:
  __aicore__ inline Rows(GM_ADDR rows, i64 pitch) : rows_(global<T>(rows)), pitch_(pitch) {}
  __aicore__ inline int32_t load(const LocalTensor<T>& dst, const MoeTask& t, i64 k, int32_t depth,
                                 int32_t) const {
    rowsToL1(dst, rows_[t.row * pitch_ + k], pitch_, t.m, t.m16, depth, t.m == 1);
    return t.m;
  }

 private:
  GlobalTensor<T> rows_;
  i64 pitch_;
};

/// Gate's and up's columns of a sub-tile go to their halves of rows 2 * pitch apart.
template <class Tile>
class Halves {
 public:
  using T = typename Tile::Type;
  __aicore__ inline Halves(GM_ADDR rows, i64 pitch) : rows_(global<T>(rows)), pitch_(pitch) {}
  __aicore__ inline void put(const LocalTensor<float>& sums, const MoeTask& t, i64 panel) {
    const i64 col = panel * Tile::WIDTH;
    const int32_t cols = static_cast<int32_t>(least(Tile::WIDTH, pitch_ - col));
    const GlobalTensor<T> to = rows_[t.row * 2 * pitch_ + col];
    fromL0C(to, sums, 2 * pitch_, t.m, t.m16, cols);
    fromL0C(to[pitch_], sums[Tile::WIDTH * t.m16], 2 * pitch_, t.m, t.m16, cols);
  }
  __aicore__ inline void end() {}

 private:
  GlobalTensor<T> rows_;
  i64 pitch_;
};

/// Gate and up of all rows. A cube phase.
template <class Tile>
__aicore__ inline void gateUp(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR weights,
                              GM_ADDR workspace) {
  using T = typename Tile::Type;
  const Space<Tile> space(workspace, s);
  WholeExperts<Tile> walk;
  walk.init(space, team, s.inner, s.hidden);
  Rows<T> source(space.rows, space.rowPitch);
  Halves<Tile> sink(space.gateUp, space.innerPitch);
  MoeCube<Tile, Rows<T>, Halves<Tile>, WholeExperts<Tile>>(pipe, weights, nullptr, s.inner,
                                                           s.hidden, source, sink)
      .run(walk);
}

/// act(gate) * up, each step rounded to T. A vector phase; 16 bit only.
template <class Tile, MoeAct ACT>
__aicore__ inline void activate(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR workspace) {
  using T = typename Tile::Type;
  constexpr i64 TILE = 8192;
  const Space<Tile> space(workspace, s);
  const i64 pitch = space.innerPitch, width = least(pitch, 2048), across = ceilDiv(pitch, width);
  const i64 each = least(TILE / width, most(1, s.entries() * across / team.count));
  const GlobalTensor<T> from = global<T>(space.gateUp), to = global<T>(space.inner);
  TQue<TPosition::VECIN, 1> in;
  TQue<TPosition::VECOUT, 1> out;
  TBuf<TPosition::VECCALC> wide, temporary;
  pipe.InitBuffer(in, 2, 2 * TILE * sizeof(T));
  pipe.InitBuffer(out, 2, TILE * sizeof(T));
  pipe.InitBuffer(wide, 2 * TILE * 4);
  const LocalTensor<float> gate = wide.Get<float>(), up = gate[TILE];
  pipe.InitBuffer(temporary, TILE * 4);
  const Range mine = split(ceilDiv(s.entries(), each) * across, team);
  for (i64 u = mine.begin; u < mine.end; ++u) {
    const i64 row = u / across * each, col = u % across * width;
    const i64 rows = least(each, s.entries() - row), cols = least(width, pitch - col);
    const int32_t n = static_cast<int32_t>(rows * cols);
    LocalTensor<T> t = in.AllocTensor<T>();
    const uint32_t bytes = static_cast<uint32_t>(cols * sizeof(T));
    const DataCopyExtParams p{static_cast<uint16_t>(rows), bytes,
                              static_cast<uint32_t>((2 * pitch - cols) * sizeof(T)), 0, 0};
    const DataCopyPadExtParams<T> pad{false, 0, 0, 0};
    DataCopyPad(t, from[row * 2 * pitch + col], p, pad);
    DataCopyPad(t[TILE], from[row * 2 * pitch + pitch + col], p, pad);
    in.EnQue(t);
    t = in.DeQue<T>();
    Cast(gate, t, RoundMode::CAST_NONE, n);
    Cast(up, t[TILE], RoundMode::CAST_NONE, n);
    in.FreeTensor(t);
    LocalTensor<T> y = out.AllocTensor<T>();
    moeActivate<ACT>(gate, gate, temporary.Get<float>(), LocalTensor<uint8_t>(), n);
    Cast(y, gate, RoundMode::CAST_RINT, n);
    Cast(gate, y, RoundMode::CAST_NONE, n);
    Mul(gate, gate, up, n);
    Cast(y, gate, RoundMode::CAST_RINT, n);
    out.EnQue(y);
    y = out.DeQue<T>();
    DataCopyPad(to[row * pitch + col], y,
                {static_cast<uint16_t>(rows), bytes, 0,
                 static_cast<uint32_t>((pitch - cols) * sizeof(T)), 0});
    out.FreeTensor(y);
  }
}

/// The second product. A cube phase.
template <class First, class Tile>
__aicore__ inline void down(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR weights,
                            GM_ADDR workspace) {
  using T = typename Tile::Type;
  const Space<First> space(workspace, s);
  WholeExperts<Tile> walk;
  walk.init(space, team, s.hidden, s.inner);
  MoeRows<T> source(space.inner, space.innerPitch);
  MoeSorted<Tile> sink(space);
  MoeCube<Tile, MoeRows<T>, MoeSorted<Tile>, WholeExperts<Tile>>(pipe, weights, nullptr, s.hidden,
                                                                 s.inner, source, sink)
      .run(walk);
}

/// Weighted sums. A vector phase.
template <class First, class W>
__aicore__ inline void combine(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR expert,
                               GM_ADDR weight, GM_ADDR y, GM_ADDR workspace) {
  const Space<First> space(workspace, s);
  MoeCombine<typename First::Type, W, First> sum;
  sum.run(pipe, team, s, space, expert, weight, y, true);
}
}  // namespace unfused
