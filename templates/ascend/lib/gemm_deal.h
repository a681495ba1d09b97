// How a matrix product is cut into tasks, and dealt over cores.
#pragma once
#include "common.h"

namespace xc {

/// How a product is cut: chosen by xcompile/targets/ascend_tiling.py, in elements unless said.
/// A task is `rows` x (wide x group x panel) results over all of K.
struct Tiling {
  int32_t rows;   // of A, a multiple of 16: sub-tiles of rows x group x panel floats lie in L0C
  int32_t group;  // panels of B in a sub-tile
  int32_t wide;   // sub-tiles of a task; they share what L1 holds of A
  int32_t kb;     // K of one product in L0
  int32_t kc;     // K of a transfer of B: a multiple of kb
  int32_t ka;     // K of a transfer of A: a multiple of kc
  int32_t slots;  // buffers of B in L1, at most 4
  int32_t band;   // row blocks whose A stays in L2 while all of B passes
};

/// A block of results: rows [row, row + m) of one batch, and `panels` panels from `panel` on.
struct Task {
  i64 batch, row, panel;
  int32_t m, panels;
};

/// The list of tasks. Rows change fastest, so cores that work at one time share panels of B; the
/// last, incomplete round of tasks is cut finer so that no core idles.
class Deal {
 public:
  Tiling tile;
  i64 k, tasks;

  __aicore__ inline void init(const Tiling& t, i64 batches, i64 m, i64 panels, i64 kSize,
                              int32_t count) {
    tile = t;
    k = kSize;
    m_ = m;
    panels_ = panels;
    const i64 blocks = ceilDiv(m, t.rows);
    rows_ = blocks == 0 ? 16 : alignUp(ceilDiv(m, blocks), 16);
    blocks_ = ceilDiv(m, rows_);
    perTask_ = t.group * t.wide;
    across_ = ceilDiv(panels, perTask_);
    const i64 whole = batches * blocks_ * across_;
    const i64 rest = whole % count;
    parts_ = rest == 0 ? 1 : least(count / rest, perTask_);
    perPart_ = ceilDiv(perTask_, parts_);
    parts_ = ceilDiv(perTask_, perPart_);
    full_ = whole - rest;
    tasks = full_ + rest * parts_;
  }

  /// Are the panels of B read by one task only?
  __aicore__ inline bool once() const { return blocks_ == 1; }

  /// False if there is nothing at this place of the list.
  __aicore__ inline bool get(i64 index, Task& out) const {
    i64 at = index, first = 0;
    int32_t most = static_cast<int32_t>(perTask_);
    if (index >= full_) {
      at = full_ + (index - full_) / parts_;
      first = (index - full_) % parts_ * perPart_;
      most = static_cast<int32_t>(least(perPart_, perTask_ - first));
    }
    const i64 perBatch = blocks_ * across_, perBand = tile.band * across_;
    out.batch = at / perBatch;
    at %= perBatch;
    const i64 band = at / perBand, top = band * tile.band;
    const i64 height = least(tile.band, blocks_ - top);
    at -= band * perBand;
    out.row = (top + at % height) * rows_;
    out.m = static_cast<int32_t>(least(rows_, m_ - out.row));
    out.panel = at / height * perTask_ + first;
    out.panels = static_cast<int32_t>(least(most, panels_ - out.panel));
    return out.panels > 0;
  }

 private:
  i64 m_, panels_, rows_, blocks_, across_, perTask_, perPart_, parts_, full_;
};

/// A core's way through its tasks, one transfer of B after the other: for each `ka` of K, for each
/// sub-tile, for each `kc` of that.
class Cursor {
 public:
  Task task;
  bool live;
  i64 k;            // where the piece of A begins
  int32_t depth;    // of the piece of A
  int32_t sub, at;  // sub-tile, and where in the piece of A this transfer begins
  int32_t length;   // of this transfer
  int32_t subs;     // sub-tiles of the task
  int32_t panels;   // of this sub-tile

  __aicore__ inline void init(const Deal& deal, Team team) {
    index_ = team.index;
    step_ = team.count;
    const Tiling& t = deal.tile;
    lead_ = static_cast<int32_t>(least(alignUp(t.ka * (1 + team.index % 8) / 8, t.kb), t.ka));
    seek(deal);
  }
  __aicore__ inline void next(const Deal& deal) {
    at += deal.tile.kc;
    if (at < depth) return measure(deal);
    at = 0;
    if (++sub < subs) return measure(deal);
    sub = 0;
    k += depth;
    lead_ = deal.tile.ka;
    if (k < deal.k) return piece(deal);
    nextTask(deal);
  }
  __aicore__ inline void nextTask(const Deal& deal) {
    index_ += step_;
    seek(deal);
  }
  __aicore__ inline i64 panel(const Deal& deal) const { return task.panel + sub * deal.tile.group; }
  __aicore__ inline bool firstOfPiece() const { return sub == 0 && at == 0; }
  __aicore__ inline bool lastOfPiece() const { return sub + 1 == subs && lastOfSub(); }
  __aicore__ inline bool lastOfSub() const { return at + length == depth; }
  __aicore__ inline bool lastPiece(const Deal& deal) const { return k + depth == deal.k; }

 private:
  __aicore__ inline void seek(const Deal& deal) {
    live = false;
    for (; index_ < deal.tasks; index_ += step_) {
      if (!deal.get(index_, task)) continue;
      live = true;
      k = 0;
      sub = at = 0;
      subs = static_cast<int32_t>(ceilDiv(task.panels, deal.tile.group));
      return piece(deal);
    }
  }
  __aicore__ inline void piece(const Deal& deal) {
    depth = static_cast<int32_t>(least(lead_, deal.k - k));
    measure(deal);
  }
  __aicore__ inline void measure(const Deal& deal) {
    length = static_cast<int32_t>(least(deal.tile.kc, depth - at));
    panels = static_cast<int32_t>(least(deal.tile.group, task.panels - sub * deal.tile.group));
  }
  i64 index_, step_;
  int32_t
      lead_;  // depth of the next piece; cores begin with different ones, not to read A together
};
}  // namespace xc
