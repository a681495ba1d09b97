// Routed experts: how the products are cut into tiles, and a core's way through its share of them.
#pragma once
#include "experts_table.h"

namespace xc {

constexpr int32_t MOE_A = 184 * 1024, MOE_B = 32 * 1024;  // bytes of a buffer of A, of B, in L1
constexpr int32_t MOE_SLOTS = 4;                          // buffers of B in L1; A has two
constexpr i64 MOE_HOT_KB = 6800;                          // L2 holds the weights of 24 such experts
constexpr uint16_t MOE_FILLED = 2, MOE_EMPTIED = 3;       // flags between cube and vector cores

/// A tile: rows [row, row + m) of an expert times `panels` panels of its weights. load: A is not in
/// L1 yet; keep: the next tile uses it again.
struct MoeTask {
  i64 expert, row, panel;
  int32_t m, m16, panels;
  bool load, keep;
};

/// One of the two products: x w_e^T of at most ROWS rows and PANEL columns a sub-tile, plus a bias
/// with BIASED. A packed panel of a gated weight holds PANEL / 2 results. Sums of int8_t leave as
/// they are, and what reads them scales them and adds the bias.
template <class T, int32_t PANEL, int32_t ROWS, bool GATED, bool BIASED = false>
struct MoeTile {
  using Type = T;
  static constexpr bool INT8 = sizeof(T) == 1;
  using Sum = typename Std::conditional<INT8, int32_t, float>::type;
  using Cell = typename Std::conditional<INT8, int32_t, T>::type;  // what the cube cores write
  static constexpr bool GATE = GATED, BIAS = BIASED && !INT8, LATE_BIAS = BIASED && INT8;
  static constexpr int32_t COLUMNS = PANEL, MOST = ROWS;
  static constexpr int32_t K0 = 32 / sizeof(T), GRAIN = K0 < 16 ? 16 : K0;  // of cuts of K
  static constexpr int32_t WIDTH = GATED ? PANEL / 2 : PANEL;
  static constexpr int32_t SUMS = ROWS * PANEL;  // of a sub-tile in L0C, 4 bytes each
  static constexpr int32_t WIDE = 128 * 1024 / 4 / SUMS < 4 ? 128 * 1024 / 4 / SUMS : 4;
  static constexpr int32_t KC = MOE_B / (PANEL * static_cast<int32_t>(sizeof(T))) / GRAIN * GRAIN;
  static_assert(WIDE >= 2 && PANEL % 16 == 0 && ROWS % 16 == 0 && WIDTH % 16 == 0, "tile");

  __aicore__ inline static i64 panels(i64 width) { return ceilDiv(width, WIDTH); }
  /// Rows are spread evenly over as many blocks as they need.
  __aicore__ inline static i64 rowsOf(i64 rows) {
    return alignUp(ceilDiv(rows, ceilDiv(rows, ROWS)), 16);
  }
  /// K of a piece of A that half of A's room in L1 holds.
  __aicore__ inline static i64 depth(i64 m16, i64 k) {
    const i64 most = MOE_A / (m16 * static_cast<i64>(sizeof(T))) / (4 * K0) * (4 * K0);
    return least(alignUp(ceilDiv(k, ceilDiv(k, most)), 4 * K0), most);
  }
  /// Does L1 hold all of K of that many rows?
  __aicore__ inline static bool fits(i64 m16, i64 k) { return 2 * depth(m16, k) >= k; }
  /// Panels times blocks of rows.
  __aicore__ inline static i64 units(i64 rows, i64 width) {
    return ceilDiv(rows, rowsOf(rows)) * panels(width);
  }
  /// Is an expert worked on by several cores at a time? If its rows are of several blocks, and
  /// neither can one core keep a block in L1 while the weights pass, nor do the weights of as many
  /// experts as there are cores stay in L2.
  __aicore__ inline static bool large(i64 rows, i64 width, i64 k) {
    return rows > ROWS && !(fits(rowsOf(rows), k) && size(width, k) <= MOE_HOT_KB);
  }
  /// Blocks of rows times bands of WIDE panels.
  __aicore__ inline static i64 tiles(i64 rows, i64 width) {
    return ceilDiv(rows, rowsOf(rows)) * ceilDiv(panels(width), WIDE);
  }
  /// KB of an expert's weights.
  __aicore__ inline static i64 size(i64 width, i64 k) {
    return panels(width) * PANEL * alignUp(k, K0) * static_cast<i64>(sizeof(T)) / 1024;
  }
  /// Cycles of an expert, of the cube or of its transfers. A first block of rows reads weights from
  /// memory, in `first` cycles a KB; the others find them in L2.
  __aicore__ inline static i64 cost(i64 rows, i64 width, i64 k, i64 first) {
    const i64 m16 = rowsOf(rows), blocks = ceilDiv(rows, m16), deep = alignUp(k, K0);
    const i64 cube = m16 / 16 * (PANEL / 16) * (deep / K0) * (sizeof(T) == 4 ? 2 : 1);
    const i64 line = deep * static_cast<i64>(sizeof(T));
    i64 moved = PANEL * line / 1024 * (first + (blocks - 1) * MOE_KB_L2) / blocks;
    if (!fits(m16, k) || large(rows, width, k)) moved += m16 * line / ((GATED ? 60 : 95) * WIDE);
    return blocks * panels(width) * (64 + most(cube, moved));
  }
};

/// A core's tiles, in order: its turns of the large experts, band of panels by band, each for all
/// blocks of rows; and its run of the others, block of rows by block of rows. Half of the cores
/// begin with the one, half with the other: large experts keep the cubes busy, others the memory.
template <class Tile>
class MoeWalk {
 public:
  MoeTask task;
  bool live;

  __aicore__ inline void init(const MoeSpace& space, Team cubes, int32_t product, i64 width,
                              i64 depth) {
    table_ = global<int32_t>(space.table);
    rowsAt_ = space.rowsAt;
    width_ = width;
    depth_ = depth;
    panels_ = Tile::panels(width);
    count_ = least(cubes.count, MOE_CORES);
    live = cubes.index < count_;
    if (!live) return;
    starts_ = global<int32_t>(space.starts)[(product * MOE_CORES + cubes.index) * MOE_LINE];
    last_ = starts_.GetValue(4);
    lastUnit_ = starts_.GetValue(5);
    tiles_ = starts_.GetValue(6);
    whole_ = tiles_ - tiles_ % count_;
    turn_ = cubes.index;
    first_ = rows_ = from_ = to_ = 0;
    active_ = -1;
    turns_ = cubes.index < count_ / 2 && tiles_ > 0;
    changed_ = false;
    if (!turns_) run();
    next();
  }
  __aicore__ inline void next() {
    live = turns_ ? nextTurn() : nextUnit();
    if (live || changed_) return;
    changed_ = true;
    turns_ = !turns_;
    if (turns_) {
      first_ = rows_ = 0;
      active_ = -1;
      live = nextTurn();
    } else {
      run();
      live = nextUnit();
    }
  }
  /// Do other tiles use the same weights?
  __aicore__ inline bool shared() const { return blocks_ > 1; }

 private:
  /// The next tile of large experts, of which the last ones are cut into single panels.
  __aicore__ inline bool nextTurn() {
    for (;; turn_ += count_) {
      const bool part = turn_ >= whole_;
      const i64 tile = part ? whole_ + (turn_ - whole_) / Tile::WIDE : turn_;
      if (tile >= tiles_) return false;
      while (tile >= to_) {
        first_ += rows_;
        rows_ = table_.GetValue(rowsAt_ + ++active_);
        if (!Tile::large(rows_, width_, depth_)) continue;
        open();
        from_ = to_;
        to_ += Tile::tiles(rows_, width_);
        task.expert = table_.GetValue(active_);
      }
      const i64 band = (tile - from_) / blocks_;
      place((tile - from_) % blocks_);
      task.panel = band * Tile::WIDE + (part ? (turn_ - whole_) % Tile::WIDE : 0);
      task.panels = static_cast<int32_t>(least(part ? 1 : Tile::WIDE, panels_ - task.panel));
      task.load = true;
      task.keep = false;
      if (task.panels <= 0) continue;
      turn_ += count_;
      return true;
    }
  }
  /// Begins the run of other experts.
  __aicore__ inline void run() {
    active_ = starts_.GetValue(0);
    unit_ = starts_.GetValue(1);
    first_ = starts_.GetValue(2);
    rows_ = starts_.GetValue(3);
    task.expert = starts_.GetValue(7);
    open();
  }
  __aicore__ inline bool nextUnit() {
    for (;;) {
      if (active_ > last_ || (active_ == last_ && unit_ >= lastUnit_)) return false;
      if (unit_ < limit_) break;
      first_ += rows_;
      unit_ = 0;
      ++active_;
      if (active_ > last_ || (active_ == last_ && lastUnit_ == 0)) continue;
      rows_ = table_.GetValue(rowsAt_ + active_);
      task.expert = table_.GetValue(active_);
      open();
    }
    const i64 block = unit_ / panels_, left = panels_ - unit_ % panels_;
    const i64 panels = least(least(left, Tile::WIDE), limit_ - unit_);
    place(block);
    task.panel = unit_ % panels_;
    task.panels = static_cast<int32_t>(panels);
    task.load = !resident_ || fresh_ || task.panel == 0;
    task.keep = resident_ && left > panels && unit_ + panels < limit_;
    fresh_ = false;
    unit_ += panels;
    return true;
  }
  /// The expert with rows_ rows; limit_ is where this core's part of it ends.
  __aicore__ inline void open() {
    m16_ = rows_ == 0 ? 16 : Tile::rowsOf(rows_);
    blocks_ = ceilDiv(rows_, m16_);
    resident_ = Tile::fits(m16_, depth_);
    fresh_ = true;
    limit_ = active_ == last_ ? lastUnit_ : blocks_ * panels_;
    if (!turns_ && Tile::large(rows_, width_, depth_)) limit_ = 0;
  }
  __aicore__ inline void place(i64 block) {
    task.row = first_ + block * m16_;
    task.m = static_cast<int32_t>(least(m16_, rows_ - block * m16_));
    task.m16 = static_cast<int32_t>(alignUp(task.m, 16));
  }

  GlobalTensor<int32_t> table_, starts_;
  i64 rowsAt_, width_, depth_, panels_, count_;
  i64 active_, unit_, first_, last_, lastUnit_;  // place in the list, and its end
  i64 tiles_, whole_, turn_, from_, to_;         // of the large experts; [from_, to_) of this one
  i64 rows_, m16_, blocks_, limit_;              // of the expert
  bool turns_, changed_, resident_, fresh_;
};
}  // namespace xc
