// Attention, how the work is dealt: tasks of query rows that share keys, cut over cores by keys.
#pragma once
#include "common.h"

namespace xc {

constexpr i64 ATTN_STEP = 16;         // keys: tasks are cut at multiples
constexpr i64 ATTN_LEAST = 64;        // keys of a part of a task, at least
constexpr i64 ATTN_TASK = 2048;       // cycles that a part costs beside its keys ...
constexpr i64 ATTN_ROW = 32;          // ... and for each row
constexpr int32_t ATTN_BAND = 128;    // rows that the cube core multiplies at once, at most
constexpr int32_t ATTN_SUMS = 16384;  // floats of half of L0C

/// Sizes that xcompile/codegen/ascend/attention.py chooses. A block of keys goes through one round
/// of scores, probabilities, products; a piece of a block is one transfer of K or V.
struct AttnTile {
  int32_t rows, keys, piece;  // of a task with one kv head: rows at most
  // Tasks with several kv heads, of at most headRows rows each.
  int32_t heads, headRows, headKeys, headPiece;
  int32_t q, k, v, p;              // elements of buffers in L1
  int32_t qSlots, pSlots, vSlots;  // buffers of Q, P and V; of K there are two
  int32_t panel;                // columns of V in a piece, less than dv if results do not fit L0C
  int32_t chunk;                // scores that a vector core takes at once
  int32_t scores, probs, outs;  // elements of a block's room in the workspace
  int32_t headCost, oneCost, rowCost;  // cycles of 16 keys: several heads, one, and for 16 rows
};

/// Sizes of the operands. `group` query heads share a kv head.
struct AttnSizes {
  int32_t kvHeads, group, d, dv;
  float scale;
};

/// Rows of `heads` kv heads from `head` on, m of each: row r is row first + r % m of head
/// head + r / m; a head's row f belongs to query f / group and query head f % group of the group.
struct AttnTask {
  i64 request, queries, all, limit0, step;   // all: keys of the request
  i64 first, keys, begin, end, start, cost;  // keys: what the last row sees; [begin, end) are ours
  int32_t head, heads, m, rows, block, piece, bands, bandRows;
  bool whole;  // scores and products of a block fit half of L0C each; P of a block is in L1

  __aicore__ inline i64 limit(i64 query) const {
    return most(least(limit0 + query * step, all), 0);
  }
  /// Rows of a band, one kv head's, that the cube core multiplies at once.
  __aicore__ inline int32_t rowsOf(int32_t band) const {
    return static_cast<int32_t>(least(bandRows, rows - band * bandRows));
  }
  __aicore__ inline i64 own() const { return most(keys, 1); }  // with no keys there is still a task
  __aicore__ inline i64 units() const {
    return ceilDiv(own(), ATTN_STEP) * cost + ATTN_TASK + ATTN_ROW * rows;
  }
  /// Rows in NZ matrices of Q and P. Products have at least two rows.
  __aicore__ inline int32_t high() const { return (rows + (m == 1 ? 1 : 0) + 15) / 16 * 16; }
  __aicore__ inline bool complete() const { return begin == 0 && end == own(); }
};

/// All tasks in order, cut into one contiguous share of about the same cost per cube core. What a
/// core finds out about a cut follows from the lengths alone, so all cores agree on it.
///
/// Source: requests(), queries(r), keys(r), limit0(r), step(): query i of r sees keys below
/// limit0 + i * step.
template <class Source>
class AttnDeal {
 public:
  const Source& source;
  const AttnTile& tile;
  const AttnSizes& sizes;

  __aicore__ inline AttnDeal(const Source& s, const AttnTile& t, const AttnSizes& z, i64 cores)
      : source(s), tile(t), sizes(z) {
    i64 longest = 0;
    for (i64 r = 0; r < source.requests(); ++r) total_ += request(r, longest);
    const i64 dearest = most(tile.headCost, most(tile.oneCost, tile.rowCost * (tile.rows / 16)));
    cores_ = most(least(cores, total_ / (ATTN_LEAST / ATTN_STEP * dearest)), 1);
    paired_ = longest <= total_ / cores_;
  }
  __aicore__ inline i64 bound(i64 core) const {
    return core >= cores_ ? total_ : total_ * core / cores_;
  }
  __aicore__ inline i64 cores() const { return cores_; }
  /// Whether no task has more than two parts.
  __aicore__ inline bool paired() const { return paired_; }
  __aicore__ inline i64 mostRows(const AttnTask& t) const {
    return t.heads > 1 ? tile.headRows : tile.rows;
  }
  __aicore__ inline i64 groups(const AttnTask& t) const { return sizes.kvHeads / t.heads; }
  __aicore__ inline i64 parts(const AttnTask& t) const {
    return ceilDiv(t.queries * sizes.group, mostRows(t));
  }
  /// Where the task is cut by a bound in cost: keys before it belong to the cores before.
  __aicore__ inline i64 cut(const AttnTask& t, i64 bound) const {
    if (bound <= t.start) return 0;
    const i64 j = ceilDiv(bound - t.start, t.cost) * ATTN_STEP, own = t.own();
    if (own < 2 * ATTN_LEAST) return 2 * j < own ? 0 : own;
    if (j < ATTN_LEAST) return 0;
    return j > own - ATTN_LEAST ? own : j;
  }
  /// What all tasks of a request have in common.
  __aicore__ inline void enter(AttnTask& t, i64 r) const {
    t.request = r;
    t.queries = source.queries(r);
    t.all = source.keys(r);
    t.limit0 = source.limit0(r);
    t.step = source.step();
    const bool several = tile.heads > 1 && t.queries * sizes.group <= tile.headRows;
    t.heads = several ? tile.heads : 1;
    t.block = several ? tile.headKeys : tile.keys;
    t.piece = several ? tile.headPiece : tile.piece;
  }
  /// A task of the request that was entered.
  __aicore__ inline void select(AttnTask& t, i64 group, i64 part) const {
    const i64 all = t.queries * sizes.group, step = mostRows(t);
    t.head = static_cast<int32_t>(group * t.heads);
    t.first = part * step;
    t.m = static_cast<int32_t>(least(step, all - t.first));
    t.rows = t.m * t.heads;
    t.keys = t.limit((t.first + t.m - 1) / sizes.group);
    const int32_t m16 = (t.m + 15) / 16;
    t.cost = t.heads > 1 ? tile.headCost : most(tile.oneCost, m16 * tile.rowCost);
    t.whole =
        t.heads > 1 || (tile.panel >= sizes.dv && m16 * 16 * t.block <= least(ATTN_SUMS, tile.p));
    t.bandRows = t.m < ATTN_BAND ? t.m : ATTN_BAND;
    t.bands = t.heads > 1 ? t.heads : (t.m + t.bandRows - 1) / t.bandRows;
  }
  /// Cost of all parts of one group of heads, and of the dearest task so far.
  __aicore__ inline i64 groupCost(AttnTask& t, i64& dearest) const {
    i64 sum = 0;
    for (i64 p = 0, n = parts(t); p < n; ++p) {
      select(t, 0, p);
      sum += t.units();
      dearest = most(dearest, t.units());
    }
    return sum;
  }
  __aicore__ inline i64 request(i64 r, i64& dearest) const {
    AttnTask t;
    enter(t, r);
    return t.queries > 0 ? groupCost(t, dearest) * groups(t) : 0;
  }

 private:
  i64 total_ = 0, cores_ = 1;
  bool paired_;
};

/// The blocks of a part of a task, in order.
class AttnSteps {
 public:
  AttnTask task;
  i64 key, number = 0, part = 0;  // first key of the block; blocks and parts of tasks before
  int32_t count;                  // keys; 0 if the task has none
  bool live, first, last;

 protected:
  /// Cores that took the same steps at the same times would all ask for memory, and then all for
  /// what lies in L2: their first blocks are a quarter, a half, three quarters, or whole.
  __aicore__ inline void enter(i64 core) {
    key = task.begin;
    look(number > 0 ? task.block : most(task.block * (4 - core % 4) / 256, 1) * 64);
  }
  /// To the next block; false if there is none.
  __aicore__ inline bool advance() {
    ++number;
    key += span_;
    if (key >= task.end) {
      ++part;
      return false;
    }
    look(task.block);
    return true;
  }

 private:
  /// The next block, of about `wanted` keys. A short last block would leave the cube core nothing
  /// to do while its softmax runs: the one before takes it or is cut shorter.
  __aicore__ inline void look(i64 wanted) {
    const i64 left = task.end - key;
    span_ = wanted;
    if (left > wanted && left - wanted < task.block / 2)
      span_ = least(left <= task.block ? left : alignUp(ceilDiv(left, 2), task.piece), task.block);
    first = key == task.begin;
    last = key + span_ >= task.end;
    count = static_cast<int32_t>(most(least(span_, least(task.end, task.keys) - key), 0));
  }
  i64 span_;
};

/// The blocks of one core's share.
template <class Source>
class AttnWalk : public AttnSteps {
 public:
  __aicore__ inline void init(const AttnDeal<Source>& deal, i64 core, i64) {
    deal_ = &deal;
    core_ = core;
    low_ = deal.bound(core);
    high_ = deal.bound(core + 1);
    live = low_ < high_;
    if (!live) return;
    i64 at = 0, cost = 0, dearest = 0;
    request_ = 0;
    for (;; ++request_, at += cost) {
      cost = deal.request(request_, dearest);
      if (at + cost > low_) break;
    }
    deal.enter(task, request_);
    const i64 each = deal.groupCost(task, dearest);
    group_ = (low_ - at) / each;
    at += group_ * each;
    part_ = 0;
    for (;; ++part_, at += task.units()) {
      deal.select(task, group_, part_);
      if (at + task.units() > low_) break;
    }
    task.start = at;
    bounds();
    if (task.begin == task.own()) nextTask();
    enter(core_);
  }
  __aicore__ inline void next() {
    if (advance()) return;
    nextTask();
    enter(core_);
  }
  /// Whether tasks may be cut; whether none has more than two parts.
  __aicore__ inline bool shared() const { return deal_->cores() > 1; }
  __aicore__ inline bool paired() const { return deal_->paired(); }
  /// Whether a part of the share is not its task's first: it comes before all others.
  __aicore__ inline bool continues() const { return live && task.begin > 0; }
  /// The cores [first, last] that work on a task, which `core` has cut.
  __aicore__ inline void span(const AttnTask& t, i64 core, i64& first, i64& last) const {
    first = last = core;
    while (deal_->cut(t, deal_->bound(first)) > 0) --first;
    while (deal_->cut(t, deal_->bound(last + 1)) < t.own()) ++last;
  }

 private:
  __aicore__ inline void bounds() {
    task.begin = deal_->cut(task, low_);
    task.end = deal_->cut(task, high_);
    if (task.end <= task.begin && task.begin < task.own()) live = false;
  }
  __aicore__ inline void nextTask() {
    const i64 at = task.start + task.units();
    if (at >= high_) {
      live = false;
      return;
    }
    if (++part_ == deal_->parts(task)) {
      part_ = 0;
      if (++group_ == deal_->groups(task)) {
        group_ = 0;
        do deal_->enter(task, ++request_);
        while (task.queries <= 0);
      }
    }
    deal_->select(task, group_, part_);
    task.start = at;
    bounds();
  }

  const AttnDeal<Source>* deal_;
  i64 low_, high_, request_, group_, part_, core_;
};
}  // namespace xc
