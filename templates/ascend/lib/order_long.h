// topk and sort of rows that do not fit UB.
#pragma once
#include "order.h"

namespace xc {

constexpr i64 kMostKept = 1024;  // the most that topkLong keeps of a row

/// topk of rows [rows, cols] of any length, k <= kMostKept: tiles are sorted and merged with the
/// best so far. Several cores take a row if there are fewer rows than cores; they then meet in
/// SyncAll.
template <class T>
class LongTopk {
 public:
  /// values T and indices int64 [rows, k]. workspace: 8 * k bytes for each of `cores` cores.
  __aicore__ inline void run(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols, i64 k,
                             GM_ADDR values, GM_ADDR indices, GM_ADDR workspace, int32_t cores) {
    k_ = least(k, cols);
    if (rows <= 0 || k_ <= 0) return;
    x_ = global<uint8_t>(x);
    values_ = global<uint8_t>(values);
    indices_ = global<uint8_t>(indices);
    lists_ = global<uint8_t>(workspace);
    cols_ = cols;
    tiles_ = ceilDiv(cols, kSortTile);
    parts_ = most(least(least(team.count, cores) / rows, tiles_), 1);
    init(pipe);
    const Range mine = split(rows * parts_, team);
    if (mine.size() > 0) parts(pipe, mine);
    if (parts_ == 1) return;
    PipeBarrier<PIPE_ALL>();
    SyncAll();
    const Range whole = split(rows, team);
    for (i64 r = whole.begin; r < whole.end; ++r) unite(pipe, r);
  }

 private:
  static constexpr i64 kLoaded = 2 * kMostKept;  // pairs of other cores

  __aicore__ inline void init(TPipe& pipe) {
    sorter_.init(pipe, kSortTile, 1, kSortTile, true);
    writer_.init(pipe, k_, k_, k_, true);
    at_once_ = parts_ > 1 && k_ <= kMostKept / 2 ? 3 : 1;
    const uint32_t room = static_cast<uint32_t>(alignUp((1 + at_once_) * k_, 32) * 8);
    pipe.InitBuffer(best_, room);
    pipe.InitBuffer(next_, room);
    if (parts_ > 1) pipe.InitBuffer(others_, kLoaded * 8);
    from_ = best_.template Get<float>();
    to_ = next_.template Get<float>();
  }
  /// Tiles of part p of a row.
  __aicore__ inline Range tilesOf(i64 p) const {
    return split(tiles_, Team{static_cast<int32_t>(p), static_cast<int32_t>(parts_)});
  }
  __aicore__ inline i64 columns(Range tiles) const {
    return least(cols_, tiles.end * kSortTile) - tiles.begin * kSortTile;
  }
  __aicore__ inline void load(i64 row, i64 tile) {
    const i64 first = tile * kSortTile;
    sorter_.load(x_[(row * cols_ + first) * sizeof(T)], 1, least(kSortTile, cols_ - first));
  }
  /// The best of each of some parts of rows: the result if rows have one part, else a list.
  __aicore__ inline void parts(TPipe& pipe, Range mine) {
    load(mine.begin / parts_, tilesOf(mine.begin % parts_).begin);
    for (i64 u = mine.begin; u < mine.end; ++u) {
      const i64 row = u / parts_;
      const Range tiles = tilesOf(u % parts_);
      for (i64 t = tiles.begin; t < tiles.end; ++t) {
        if (t + 1 < tiles.end)
          load(row, t + 1);
        else if (u + 1 < mine.end)
          load((u + 1) / parts_, tilesOf((u + 1) % parts_).begin);
        const i64 first = t * kSortTile, n = least(kSortTile, cols_ - first);
        add(sorter_.sort(1, least(k_, n), n, first).pairs, least(k_, n), t == tiles.begin);
      }
      if (parts_ == 1) {
        writer_.write(from_, values_, indices_, row * k_, k_, true);
      } else {
        order<HardEvent::V_MTE3>(pipe);
        storeRows(lists_[u * k_ * 8], from_.template ReinterpretCast<uint8_t>(), 1, have_ * 8);
        order<HardEvent::MTE3_V>(pipe);
      }
    }
  }
  /// Merges one more list, which comes behind what there is.
  __aicore__ inline void add(const LocalTensor<float>& list, i64 n, bool first) {
    if (first)
      DataCopy(to_, list, static_cast<uint32_t>(alignUp(n, 4) * 2));
    else
      merge(list, list, list, n, 0, 0);
    have_ = first ? n : least(k_, have_ + n);
    exchange(from_, to_);
  }
  __aicore__ inline void merge(const LocalTensor<float>& a, const LocalTensor<float>& b,
                               const LocalTensor<float>& c, i64 na, i64 nb, i64 nc) {
    MrgSort4Info info;
    info.elementLengths[0] = static_cast<uint16_t>(have_);
    info.elementLengths[1] = static_cast<uint16_t>(na);
    info.elementLengths[2] = static_cast<uint16_t>(nb);
    info.elementLengths[3] = static_cast<uint16_t>(nc);
    info.ifExhaustedSuspension = false;
    info.validBit = nc > 0 ? 15 : nb > 0 ? 7 : 3;
    info.repeatTimes = 1;
    MrgSort(to_, MrgSortSrcList<float>(from_, a, b, c), info);
  }
  /// The best of row r out of the lists of its parts, which follow each other in the workspace.
  __aicore__ inline void unite(TPipe& pipe, i64 r) {
    const auto others = others_.template Get<float>();
    const i64 loads = kLoaded / k_;  // lists that fit
    have_ = 0;
    for (i64 p = 0; p < parts_; p += loads) {
      const i64 n = least(loads, parts_ - p);
      const i64 last = least(k_, columns(tilesOf(p + n - 1)));  // only the very last may be short
      order<HardEvent::V_MTE2>(pipe);
      loadRows(others.template ReinterpretCast<uint8_t>(), lists_[(r * parts_ + p) * k_ * 8], 1,
               ((n - 1) * k_ + last) * 8);
      order<HardEvent::MTE2_V>(pipe);
      for (i64 q = 0; q < n; q += at_once_) {
        i64 size[3], total = have_;
        for (i64 k = 0; k < 3; ++k) {
          size[k] = k >= at_once_ || q + k >= n ? 0 : q + k + 1 < n ? k_ : last;
          total += size[k];
        }
        const auto a = others[q * k_ * 2];
        merge(a, size[1] > 0 ? a[k_ * 2] : a, size[2] > 0 ? a[2 * k_ * 2] : a, size[0], size[1],
              size[2]);
        have_ = least(k_, total);
        exchange(from_, to_);
      }
    }
    writer_.write(from_, values_, indices_, r * k_, k_, true);
  }

  GlobalBytes x_, values_, indices_, lists_;
  i64 cols_, k_, tiles_, parts_, at_once_, have_ = 0;  // at_once_: lists merged with the best
  RowSorter<T> sorter_;
  PairWriter<T> writer_;
  TBuf<TPosition::VECCALC> best_, next_, others_;
  LocalTensor<float> from_, to_;
};

/// Bytes of workspace of sortLong for one core.
__aicore__ inline i64 sortRoom(i64 cols) { return 2 * alignUp(cols, kSortTile) * 8; }

/// Merges runs of pairs in GM, four at a time.
class RunMerger {
 public:
  static constexpr i64 kWindow = 512;  // pairs of a run in UB

  __aicore__ inline void init(TPipe& pipe) {
    pipe_ = &pipe;
    pipe.InitBuffer(ins_, 4 * kWindow * 8);
    pipe.InitBuffer(outs_, 2, 4 * kWindow * 8);
  }
  /// The runs of `run` pairs that start at `begin`, up to `end`, from one place to another.
  __aicore__ inline void merge(const GlobalBytes& from, const GlobalBytes& to, i64 begin, i64 end,
                               i64 run) {
    live_ = 0;
    for (i64 b = begin; b < end; b += run, ++live_) {
      slot_[live_] = live_;
      next_[live_] = b;
      last_[live_] = least(b + run, end);
      at_[live_] = have_[live_] = 0;
    }
    i64 put = begin;
    while (live_ > 0) {
      refill(from);
      Bytes t = outs_.AllocTensor<uint8_t>();
      const i64 n = step(t.ReinterpretCast<float>());
      outs_.EnQue(t);
      t = outs_.DeQue<uint8_t>();
      storeRows(to[put * 8], t, 1, n * 8);
      outs_.FreeTensor(t);
      put += n;
      retire();
    }
  }

 private:
  __aicore__ inline LocalTensor<float> window(i64 k) {
    return ins_.Get<float>()[slot_[k] * kWindow * 2];
  }
  /// What is left of the k-th run's window; of the first if there is no k-th.
  __aicore__ inline LocalTensor<float> left(i64 k) {
    if (k >= live_) k = 0;
    return window(k)[at_[k] * 2];
  }
  __aicore__ inline void refill(const GlobalBytes& from) {
    order<HardEvent::V_MTE2>(*pipe_);
    for (i64 k = 0; k < live_; ++k) {
      if (at_[k] < have_[k]) continue;
      at_[k] = 0;
      have_[k] = least(kWindow, last_[k] - next_[k]);
      loadRows(window(k).ReinterpretCast<uint8_t>(), from[next_[k] * 8], 1, have_[k] * 8);
      next_[k] += have_[k];
    }
    order<HardEvent::MTE2_V>(*pipe_);
  }
  /// Merges until a window is used up; returns how many pairs that gave.
  __aicore__ inline i64 step(const LocalTensor<float>& to) {
    MrgSort4Info info;
    for (i64 k = 0; k < 4; ++k)
      info.elementLengths[k] = static_cast<uint16_t>(k < live_ ? have_[k] - at_[k] : 0);
    // One run alone is merged with an empty one, which copies it from any place in its window.
    info.ifExhaustedSuspension = live_ > 1;
    info.validBit = static_cast<uint16_t>(live_ > 1 ? (1 << live_) - 1 : 3);
    info.repeatTimes = 1;
    MrgSort(to, MrgSortSrcList<float>(left(0), left(1), left(2), left(3)), info);
    if (live_ == 1) {
      const i64 n = have_[0] - at_[0];
      at_[0] = have_[0];
      return n;
    }
    order<HardEvent::V_S>(*pipe_);
    uint16_t n[4];
    GetMrgSortResult(n[0], n[1], n[2], n[3]);
    i64 total = 0;
    for (i64 k = 0; k < live_; ++k) {
      at_[k] += n[k];
      total += n[k];
    }
    return total;
  }
  /// Runs that are used up leave; the others keep their order.
  __aicore__ inline void retire() {
    i64 k = 0;
    for (i64 j = 0; j < live_; ++j) {
      if (at_[j] == have_[j] && next_[j] == last_[j]) continue;
      const i64 s = slot_[j];
      slot_[j] = slot_[k];
      slot_[k] = s;
      next_[k] = next_[j];
      last_[k] = last_[j];
      at_[k] = at_[j];
      have_[k] = have_[j];
      ++k;
    }
    live_ = k;
  }

  TPipe* pipe_;
  TBuf<TPosition::VECCALC> ins_;
  TQue<TPosition::VECOUT, 1> outs_;
  i64 slot_[4], next_[4], last_[4], at_[4], have_[4], live_;
};

/// The first k of each row of x [rows, cols] of any length in stable order; values T and indices
/// int64 [rows, k]. workspace: sortRoom(cols) bytes for each row, or for `cores` if those are
/// fewer; no more cores than that are used.
template <class T>
__aicore__ inline void sortLong(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols, i64 k,
                                bool descending, GM_ADDR values, GM_ADDR indices, GM_ADDR workspace,
                                int32_t cores) {
  constexpr i64 kPiece = 1024;
  k = least(k, cols);
  if (team.index >= cores) return;
  const Range mine = split(rows, Team{team.index, static_cast<int32_t>(least(team.count, cores))});
  if (mine.size() <= 0 || k <= 0) return;
  const i64 tiles = ceilDiv(cols, kSortTile), half = sortRoom(cols) / 2;
  const GlobalBytes in = global<uint8_t>(x), outV = global<uint8_t>(values);
  const GlobalBytes outI = global<uint8_t>(indices);
  GlobalBytes from = global<uint8_t>(workspace + team.index * 2 * half), to = from[half];
  RowSorter<T> sorter;
  PairWriter<T> writer;
  RunMerger merger;
  TBuf<TPosition::VECCALC> pieces;
  sorter.init(pipe, kSortTile, 1, kSortTile, descending);
  writer.init(pipe, kPiece, kPiece, kPiece, descending);
  merger.init(pipe);
  pipe.InitBuffer(pieces, kPiece * 8);
  for (i64 r = mine.begin; r < mine.end; ++r) {
    for (i64 t = 0; t < tiles; ++t) {
      const i64 first = t * kSortTile, n = least(kSortTile, cols - first);
      sorter.load(in[(r * cols + first) * sizeof(T)], 1, n);
      const Lists sorted = sorter.sort(1, n, n, first);
      order<HardEvent::V_MTE3>(pipe);
      storeRows(from[first * 8], sorted.pairs.template ReinterpretCast<uint8_t>(), 1, n * 8);
      order<HardEvent::MTE3_V>(pipe);
    }
    PipeBarrier<PIPE_ALL>();
    for (i64 run = kSortTile; run < cols; run *= 4) {
      for (i64 b = 0; b < cols; b += 4 * run)
        merger.merge(from, to, b, least(b + 4 * run, cols), run);
      PipeBarrier<PIPE_ALL>();
      exchange(from, to);
    }
    const auto pairs = pieces.Get<float>();
    for (i64 j = 0; j < k; j += kPiece) {
      const i64 n = least(kPiece, k - j);
      order<HardEvent::V_MTE2>(pipe);
      loadRows(pairs.ReinterpretCast<uint8_t>(), from[j * 8], 1, n * 8);
      order<HardEvent::MTE2_V>(pipe);
      writer.write(pairs, outV, outI, r * k + j, n, true);
    }
    PipeBarrier<PIPE_ALL>();
  }
}

}  // namespace xc
