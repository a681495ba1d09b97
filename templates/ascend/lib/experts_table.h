// Routed experts: extents, workspace, and the index table that the vector cores build.
#pragma once
#include "common.h"

namespace xc {

/// Extents of a call, in elements. ldx: between rows of x.
struct MoeSizes {
  i64 tokens, topk, experts, hidden, inner, ldx;
  __aicore__ inline i64 entries() const { return tokens * topk; }
};

constexpr int32_t MOE_CORES = 24;  // cube cores that take part, at most
constexpr int32_t MOE_RING = 4;    // finished tiles that a cube core is ahead of its vector cores
constexpr int32_t MOE_LINE = 16;   // int32 in a line of the data cache
// Cycles of a KB of weights: from L2, and from memory while all cores read.
constexpr i64 MOE_KB_L2 = 9, MOE_KB_HBM = 30;

/// Where things lie in the workspace. An entry is a (token, slot) in row-major order; rows are
/// entries sorted by expert, stable, without those whose expert does not exist.
/// xcompile/codegen/ascend/moe_experts.py knows the sizes.
struct MoeSpace {
  GM_ADDR counts;   // int32 [experts]: rows of each
  GM_ADDR table;    // int32: number of active experts; then their ids; then their rows
  GM_ADDR starts;   // int32 [2, MOE_CORES, MOE_LINE]: where each cube core begins in each product
  GM_ADDR entries;  // int32 [rows]: entry of each row
  GM_ADDR places;   // int32 [entries]: row of each entry
  GM_ADDR tokens;   // int32 [rows]: token of each row
  GM_ADDR ring;     // per cube core MOE_RING tiles of gate and up
  GM_ADDR inner;    // T [rows, innerPitch]
  GM_ADDR out;      // T, or int32 sums, [rows, outPitch]
  GM_ADDR end;
  i64 rowsAt;  // in `table`, in int32
  i64 innerPitch, outPitch;

  /// size, outSize: bytes of an element of `inner`, of `out`
  __aicore__ inline MoeSpace(GM_ADDR base, const MoeSizes& s, i64 ringBytes, i64 size,
                             i64 outSize) {
    rowsAt = alignUp(s.experts, MOE_LINE);
    innerPitch = alignUp(s.inner, 16);
    outPitch = alignUp(s.hidden, 16);
    counts = base;
    table = after(counts, s.experts * 4);
    starts = after(table, (rowsAt + s.experts) * 4);
    ring = after(starts, 2 * MOE_CORES * MOE_LINE * 4);
    entries = after(ring, MOE_CORES * ringBytes);
    places = after(entries, s.entries() * 4);
    tokens = after(places, s.entries() * 4);
    inner = after(tokens, s.entries() * 4);
    out = after(inner, s.entries() * innerPitch * size);
    end = after(out, s.entries() * outPitch * outSize);
  }

 protected:
  __aicore__ inline static GM_ADDR after(GM_ADDR p, i64 bytes) { return p + alignUp(bytes, 512); }
};

/// Reads of GM by this core's scalar unit see what other cores wrote before they met.
__aicore__ inline void refreshScalar(const GlobalTensor<int32_t>& any) {
  DataCacheCleanAndInvalid<int32_t, CacheLine::ENTIRE_DATA_CACHE, DcciDst::CACHELINE_OUT>(any);
}

/// Counts and sorts, on the vector cores; each takes a range of experts and looks at all entries.
class MoeSort {
 public:
  /// expert: int64 [tokens, topk]; ids out of range belong to nobody. Leaves counts, entries and
  /// tokens in the workspace.
  __aicore__ inline void run(TPipe& pipe, Team team, const MoeSizes& s, const MoeSpace& space,
                             GM_ADDR expert) {
    pipe_ = &pipe;
    mine_ = split(s.experts, team);
    entries_ = s.entries();
    topk_ = s.topk;
    if (mine_.size() == 0) return;
    ids_ = global<int32_t>(expert);
    toEntries_ = global<int32_t>(space.entries);
    toTokens_ = global<int32_t>(space.tokens);
    chunk_ = CHUNK / topk_ * topk_;
    pipe.InitBuffer(in_, 2, CHUNK * 8);
    pipe.InitBuffer(out_, 2, CHUNK * 8);
    pipe.InitBuffer(keys_, CHUNK * 4);
    pipe.InitBuffer(index_, CHUNK * 4);
    pipe.InitBuffer(list_, CHUNK * 4);
    pipe.InitBuffer(mask_, CHUNK / 8);
    pipe.InitBuffer(counts_, alignUp(mine_.size() * 4, 32));
    CreateVecIndex(index_.Get<int32_t>(), 0, CHUNK);
    const LocalTensor<int32_t> counts = counts_.Get<int32_t>();
    const bool single = entries_ <= chunk_;
    i64 before = 0;
    for (i64 e = 0; e < mine_.size(); ++e) counts.SetValue(e, 0);
    for (i64 at = 0; at < entries_; at += chunk_) {
      load(at);
      before += below(mine_.begin) - below(0);
      for (i64 e = 0; !single && e < mine_.size(); ++e)
        counts.SetValue(e, counts.GetValue(e) + pick(mine_.begin + e));
    }
    if (single) {
      for (i64 e = 0; entries_ > 0 && e < mine_.size(); ++e) {
        const i64 count = pick(mine_.begin + e);
        counts.SetValue(e, static_cast<int32_t>(count));
        place(0, before, count);
        before += count;
      }
    }
    store(global<int32_t>(space.counts), counts);
    if (single) return;
    for (i64 e = 0; e < mine_.size(); ++e) {  // counts become places
      const i64 count = counts.GetValue(e);
      counts.SetValue(e, static_cast<int32_t>(before));
      before += count;
    }
    for (i64 at = 0; at < entries_; at += chunk_) {
      load(at);
      for (i64 e = 0; e < mine_.size(); ++e) {
        const i64 count = pick(mine_.begin + e), row = counts.GetValue(e);
        place(at, row, count);
        counts.SetValue(e, static_cast<int32_t>(row + count));
      }
    }
  }

 private:
  static constexpr i64 CHUNK = 4096;  // entries that are looked at together, at most

  /// Expert ids of the entries from `at` on, as float; large ones behind the end.
  __aicore__ inline void load(i64 at) {
    length_ = least(chunk_, entries_ - at);
    padded_ = alignUp(length_, 64);
    LocalTensor<int32_t> in = in_.AllocTensor<int32_t>();
    DataCopyPad(in, ids_[at * 2], {1, static_cast<uint32_t>(length_ * 8), 0, 0, 0},
                DataCopyPadExtParams<int32_t>{false, 0, 0, 0});
    in_.EnQue(in);
    in = in_.DeQue<int32_t>();
    const LocalTensor<float> keys = keys_.Get<float>();
    Duplicate(keys[padded_ - 64], 1e9f, 64);
    Cast(keys, in.ReinterpretCast<int64_t>(), RoundMode::CAST_RINT, static_cast<uint32_t>(length_));
    in_.FreeTensor(in);
  }
  __aicore__ inline i64 select(float key, CMPMODE mode) {
    const LocalTensor<uint8_t> mask = mask_.Get<uint8_t>();
    CompareScalar(mask, keys_.Get<float>(), key, mode, static_cast<uint32_t>(padded_));
    uint64_t count = 0;
    GatherMask(list_.Get<int32_t>(), index_.Get<int32_t>(), mask.ReinterpretCast<uint32_t>(), true,
               static_cast<uint32_t>(padded_), {1, 1, 8, 8}, count);
    return static_cast<i64>(count);
  }
  __aicore__ inline i64 below(i64 expert) {
    return select(static_cast<float>(expert), CMPMODE::LT);
  }
  __aicore__ inline i64 pick(i64 expert) { return select(static_cast<float>(expert), CMPMODE::EQ); }

  /// What was picked is entries from `at` on; they are the rows from `row` on.
  __aicore__ inline void place(i64 at, i64 row, i64 count) {
    if (count == 0) return;
    const int32_t n = static_cast<int32_t>(count);
    LocalTensor<int32_t> out = out_.AllocTensor<int32_t>();
    const LocalTensor<int32_t> list = list_.Get<int32_t>(), token = out[CHUNK];
    const LocalTensor<float> scaled = token.ReinterpretCast<float>();
    Adds(out, list, static_cast<int32_t>(at), n);
    // Exact: an index below 4096 plus a half is never within rounding of a multiple of topk.
    Cast(scaled, list, RoundMode::CAST_RINT, n);
    Adds(scaled, scaled, 0.5f, n);
    Muls(scaled, scaled, 1.0f / static_cast<float>(topk_), n);
    Cast(token, scaled, RoundMode::CAST_FLOOR, n);
    Adds(token, token, static_cast<int32_t>(at / topk_), n);
    out_.EnQue(out);
    out = out_.DeQue<int32_t>();
    const DataCopyExtParams p{1, static_cast<uint32_t>(count * 4), 0, 0, 0};
    DataCopyPad(toEntries_[row], out, p);
    DataCopyPad(toTokens_[row], out[CHUNK], p);
    out_.FreeTensor(out);
  }
  __aicore__ inline void store(const GlobalTensor<int32_t>& to,
                               const LocalTensor<int32_t>& counts) {
    order<HardEvent::S_MTE3>(*pipe_);
    DataCopyPad(to[mine_.begin], counts, {1, static_cast<uint32_t>(mine_.size() * 4), 0, 0, 0});
    order<HardEvent::MTE3_S>(*pipe_);
  }

  TPipe* pipe_;
  Range mine_;
  i64 entries_, topk_, chunk_, length_, padded_;
  GlobalTensor<int32_t> ids_, toEntries_, toTokens_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> keys_, index_, list_, mask_, counts_;
};

/// The row of each entry, from the sorted entries of all `rows`: a vector phase behind MoeSort.
/// Cores share rows evenly. Entries that are equally far apart, two at least, are written at once.
__aicore__ inline void moePlaces(TPipe& pipe, Team team, const MoeSpace& space, i64 rows) {
  constexpr i64 PART = 256;
  const Range mine = split(rows, team);
  const GlobalTensor<int32_t> from = global<int32_t>(space.entries);
  const GlobalTensor<int32_t> to = global<int32_t>(space.places);
  TBuf<TPosition::VECCALC> list, index;
  TQue<TPosition::VECOUT, 1> queue;
  pipe.InitBuffer(list, PART * 4);
  pipe.InitBuffer(index, PART * 4);
  pipe.InitBuffer(queue, 2, PART * 32);
  const LocalTensor<int32_t> entries = list.Get<int32_t>(), numbers = index.Get<int32_t>();
  for (i64 part = mine.begin; part < mine.end; part += PART) {
    const i64 count = least(PART, mine.end - part), blocks8 = ceilDiv(count, 8);
    order<HardEvent::S_MTE2>(pipe);
    DataCopyPad(entries, from[part], {1, static_cast<uint32_t>(count * 4), 0, 0, 0},
                DataCopyPadExtParams<int32_t>{false, 0, 0, 0});
    CreateVecIndex(numbers, static_cast<int32_t>(part), static_cast<uint32_t>(blocks8 * 8));
    LocalTensor<int32_t> blocks = queue.AllocTensor<int32_t>();
    Brcb(blocks, numbers, static_cast<uint8_t>(blocks8), {1, 8});
    queue.EnQue(blocks);
    blocks = queue.DeQue<int32_t>();
    order<HardEvent::MTE2_S>(pipe);
    i64 entry = entries.GetValue(0);
    for (i64 i = 0; i < count;) {
      const i64 first = entry;
      i64 run = 1, apart = 0;
      for (; i + run < count; ++run) {
        const i64 next = entries.GetValue(static_cast<uint32_t>(i + run));
        if (run == 1) apart = next - entry;
        const bool regular = apart > 0 && next - entry == apart;
        entry = next;
        if (!regular) break;
      }
      DataCopyPad(to[first], blocks[i * 8],
                  {static_cast<uint16_t>(run), 4, 0,
                   static_cast<uint32_t>(run > 1 ? (apart - 1) * 4 : 0), 0});
      i += run;
    }
    queue.FreeTensor(blocks);
  }
}

/// A cube core's share of a product. Experts that several blocks of rows share ("large" ones, see
/// MoeTile) are dealt tile by tile, in turn, so that cores which read the same weights do it at the
/// same time. The others fill up: panel by panel, from `unit` of active expert `active`, which has
/// `rows` rows from row `first` on, to before `lastUnit` of `last`. One line of `starts`.
struct MoeShare {
  i64 active = 0, unit = 0, first = 0, rows = 0, last = 0, lastUnit = 0;
  i64 tiles = 0;  // of all large experts
};
/// `rows` are those of the active experts. Shares are equal by Tile::cost.
template <class Tile>
__aicore__ inline MoeShare moeShare(const LocalTensor<int32_t>& rows, i64 active, i64 width,
                                    i64 depth, i64 cube, i64 cubes) {
  MoeShare s;
  i64 sum = 0;
  for (i64 a = 0; a < active; ++a) {
    const i64 r = rows.GetValue(a);
    sum += Tile::cost(r, width, depth, MOE_KB_L2);
    if (Tile::large(r, width, depth)) s.tiles += Tile::tiles(r, width);
  }
  // What weights cost besides other work: their full share of the memory's time if that is what
  // bounds the whole, as little as they take alone if it is not.
  const i64 size = Tile::size(width, depth) * active;
  const i64 kb = size == 0 ? MOE_KB_L2 : most(MOE_KB_L2, MOE_KB_HBM + MOE_KB_L2 - sum / size);
  // What the large ones leave of each core's equal share.
  i64 room[MOE_CORES];
  for (i64 c = 0; c < cubes; ++c) room[c] = 0;
  const i64 whole = s.tiles - s.tiles % cubes;
  i64 small = 0, at = 0, each = 0;
  sum = 0;
  for (i64 a = 0; a < active; ++a) {
    const i64 r = rows.GetValue(a), all = Tile::cost(r, width, depth, kb);
    sum += all;
    if (!Tile::large(r, width, depth)) {
      small += all;
      continue;
    }
    const i64 count = least(Tile::tiles(r, width), most(0, whole - at));
    each = all / Tile::tiles(r, width);
    i64 c = at % cubes;
    for (i64 k = 0; k < cubes; ++k) {
      room[c] -= each * (count / cubes + (k < count % cubes ? 1 : 0));
      c = c + 1 == cubes ? 0 : c + 1;
    }
    at += Tile::tiles(r, width);
  }
  const i64 parts = (s.tiles - whole) * Tile::WIDE;  // of the last tiles
  i64 before = 0, mine = 0, rest = 0;
  for (i64 c = 0; c < cubes; ++c) {
    room[c] += sum / cubes - each / Tile::WIDE * (parts / cubes + (c < parts % cubes ? 1 : 0));
    room[c] = most(room[c], 0);
    if (c < cube) before += room[c];
    if (c == cube) mine = room[c];
    rest += room[c];
  }
  // All units that begin at cost `begin` or later, and before `end`.
  i64 begin = 0, end = 0;
  if (rest > 0) {
    begin = small / rest * before + small % rest * before / rest;
    end = small / rest * (before + mine) + small % rest * (before + mine) / rest;
  } else if (cube + 1 == cubes) {
    end = small;
  }
  bool found = false;
  i64 first = 0, done = 0;
  for (s.last = 0; s.last < active; ++s.last) {
    const i64 r = rows.GetValue(s.last);
    if (!Tile::large(r, width, depth)) {
      const i64 all = Tile::cost(r, width, depth, kb), units = Tile::units(r, width);
      if (!found) {
        s.unit = done >= begin ? 0 : ceilDiv(begin - done, all / units);
        found = s.unit < units;
        s.active = s.last;
        s.first = first;
        s.rows = r;
      }
      s.lastUnit = done >= end ? 0 : ceilDiv(end - done, all / units);
      if (s.lastUnit < units) break;
      s.lastUnit = 0;
      done += all;
    }
    first += r;
  }
  if (!found) s.active = s.last;
  return s;
}

/// The active experts and where each cube core begins: behind MoeSort, on the vector cores. Tile1
/// and Tile2 say what a unit of work costs in the two products; the first vector core of a cube
/// core finds its place in the first one, the second in the second. Returns the number of rows.
template <class Tile1, class Tile2>
__aicore__ inline i64 moeDeal(TPipe& pipe, Team team, const MoeSizes& s, const MoeSpace& space) {
  const i64 wide = alignUp(s.experts, 64);
  const uint32_t n = static_cast<uint32_t>(wide);
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, wide * 20 + 4096);
  const LocalTensor<int32_t> all = buffer.Get<int32_t>();
  const LocalTensor<int32_t> counts = all, index = all[wide], ids = all[2 * wide],
                             rows = all[3 * wide], start = all[5 * wide];
  const LocalTensor<uint8_t> mask = all[4 * wide].ReinterpretCast<uint8_t>();
  Duplicate(counts, 0, n);
  CreateVecIndex(index, 0, n);
  order<HardEvent::V_MTE2>(pipe);
  DataCopyPad(counts, global<int32_t>(space.counts),
              {1, static_cast<uint32_t>(s.experts * 4), 0, 0, 0},
              DataCopyPadExtParams<int32_t>{
                  true, 0, static_cast<uint8_t>(alignUp(s.experts, 8) - s.experts), 0});
  order<HardEvent::MTE2_V>(pipe);
  Cast(rows.ReinterpretCast<float>(), counts, RoundMode::CAST_RINT, n);
  CompareScalar(mask, rows.ReinterpretCast<float>(), 0.0f, CMPMODE::GT, n);
  uint64_t active = 0;
  const LocalTensor<uint32_t> pattern = mask.ReinterpretCast<uint32_t>();
  GatherMask(ids, index, pattern, true, n, {1, 1, 8, 8}, active);
  GatherMask(rows, counts, pattern, true, n, {1, 1, 8, 8}, active);
  order<HardEvent::V_S>(pipe);

  i64 total = 0;
  for (uint64_t a = 0; a < active; ++a) total += rows.GetValue(a);
  const i64 cubes = least(team.count / 2, MOE_CORES), cube = team.index / 2;
  const i64 listed = static_cast<i64>(active);
  if (cube < cubes) {
    const MoeShare share = team.index % 2 == 0
                               ? moeShare<Tile1>(rows, listed, s.inner, s.hidden, cube, cubes)
                               : moeShare<Tile2>(rows, listed, s.hidden, s.inner, cube, cubes);
    const i64 values[] = {share.active, share.unit,     share.first, share.rows,
                          share.last,   share.lastUnit, share.tiles};
    for (int32_t k = 0; k < 7; ++k) start.SetValue(k, static_cast<int32_t>(values[k]));
    start.SetValue(7, share.active < listed ? ids.GetValue(share.active) : 0);
    order<HardEvent::S_MTE3>(pipe);
    DataCopyPad(global<int32_t>(space.starts)[(team.index % 2 * MOE_CORES + cube) * MOE_LINE],
                start, {1, 32, 0, 0, 0});
  }
  if (team.index == 0 && active > 0) {
    order<HardEvent::V_MTE3>(pipe);
    const GlobalTensor<int32_t> table = global<int32_t>(space.table);
    const DataCopyExtParams p{1, static_cast<uint32_t>(active * 4), 0, 0, 0};
    DataCopyPad(table, ids, p);
    DataCopyPad(table[space.rowsAt], rows, p);
  }
  return total;
}
}  // namespace xc
