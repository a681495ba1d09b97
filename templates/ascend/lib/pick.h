// Elements picked and placed by index along the last dim: gather, scatter.
#pragma once
#include "rows.h"

namespace xc {

/// Which row of `cols` items the items 0 .. n-1 belong to, as int32; n <= 2^20.
__aicore__ inline void rowOf(const LocalTensor<int32_t>& dst, i64 cols, i64 n) {
  const auto f = dst.ReinterpretCast<float>();
  const int32_t count = static_cast<int32_t>(n);
  CreateVecIndex(dst, int32_t(0), static_cast<uint32_t>(n));
  // The half keeps the quotient away from the integers that rounding could push it over.
  Cast(f, dst, RoundMode::CAST_RINT, static_cast<uint32_t>(n));
  Adds(f, f, 0.5f, count);
  Muls(f, f, 1.0f / static_cast<float>(static_cast<int32_t>(cols)), count);
  Cast(dst, f, RoundMode::CAST_FLOOR, static_cast<uint32_t>(n));
}

/// Two offsets of 32-bit words for each of n offsets of 64-bit words. words, half: [2n] scratch
class Halves {
 public:
  __aicore__ inline void init(const LocalTensor<int32_t>& first, const LocalTensor<int32_t>& high,
                              i64 n) {
    first_ = first;
    high_ = high;
    const int32_t count = static_cast<int32_t>(2 * n);
    CreateVecIndex(high, int32_t(0), static_cast<uint32_t>(count));
    ShiftRight(first, high, int32_t(1), count);  // 0 0 1 1 2 2 ...
    ShiftLeft(first, first, int32_t(2), count);
    ShiftLeft(high, high, int32_t(2), count);
    Sub(high, high, first, count);
    Sub(high, high, first, count);  // 0 4 0 4 ...
  }
  __aicore__ inline void expand(const LocalTensor<int32_t>& dst, const LocalTensor<int32_t>& offset,
                                i64 n) {
    Gather(dst, offset, first_.ReinterpretCast<uint32_t>(), 0, static_cast<uint32_t>(2 * n));
    Add(dst, dst, high_, static_cast<int32_t>(2 * n));
  }

 private:
  LocalTensor<int32_t> first_, high_;
};

/// Elements of kSize bytes (2, 4 or 8) of one or several rows in UB, by index.
template <int32_t kSize>
class Picker {
 public:
  using Word = typename Std::conditional<kSize == 2, uint16_t, uint32_t>::type;
  static constexpr i64 kWords = kSize == 8 ? 2 : 1;

  /// For up to n picks at a time out of rows of `cols` picks, whose sources are `slot` bytes apart.
  __aicore__ inline void init(TPipe& pipe, i64 n, i64 cols, i64 slot) {
    const uint32_t bytes = static_cast<uint32_t>(alignUp(n, 8) * 4);
    pipe.InitBuffer(base_, bytes);
    pipe.InitBuffer(offset_, bytes);
    const auto base = base_.Get<int32_t>();
    rowOf(base, cols, n);
    Muls(base, base, static_cast<int32_t>(slot), static_cast<int32_t>(n));
    if constexpr (kSize == 8) {
      pipe.InitBuffer(words_, 2 * bytes);
      pipe.InitBuffer(first_, 2 * bytes);
      pipe.InitBuffer(high_, 2 * bytes);
      halves_.init(first_.Get<int32_t>(), high_.Get<int32_t>(), n);
    }
  }
  /// dst[i] = the element index[i] of the i-th pick's row; the index is clamped to [-1, cols]. Row
  /// r has its element 0 at byte r * slot + shift of src. index is int64 [n] and is used up.
  __aicore__ inline void pick(const Bytes& dst, const Bytes& src, i64 shift,
                              const LocalTensor<i64>& index, i64 cols, i64 n) {
    const int32_t count = static_cast<int32_t>(n);
    const auto at = offset_.Get<int32_t>();
    Cast(at, index, RoundMode::CAST_NONE, static_cast<uint32_t>(n));
    Maxs(at, at, int32_t(-1), count);
    Mins(at, at, static_cast<int32_t>(cols), count);
    Muls(at, at, int32_t(kSize), count);
    Adds(at, at, static_cast<int32_t>(shift), count);
    Add(at, at, base_.Get<int32_t>(), count);
    fetch(dst, src, at, n);
  }
  /// dst[i] = the element at byte offset[i] of src.
  __aicore__ inline void fetch(const Bytes& dst, const Bytes& src,
                               const LocalTensor<int32_t>& offset, i64 n) {
    auto at = offset;
    if constexpr (kSize == 8) {
      at = words_.Get<int32_t>();
      halves_.expand(at, offset, n);
    }
    Gather(dst.ReinterpretCast<Word>(), src.ReinterpretCast<Word>(),
           at.template ReinterpretCast<uint32_t>(), 0, static_cast<uint32_t>(n * kWords));
  }

 private:
  TBuf<TPosition::VECCALC> base_, offset_, words_, first_, high_;
  Halves halves_;
};

/// Single elements of GM, `kCount` at most, each by a transfer of its own into its own block.
template <int32_t kSize, i64 kCount = 512>
class Strays {
 public:
  __aicore__ inline void init(TPipe& pipe) {
    pipe.InitBuffer(blocks_, static_cast<uint32_t>(kCount * kBlock));
    pipe.InitBuffer(at_, static_cast<uint32_t>(kCount * 4));
    picker_.init(pipe, kCount, 1, 0);
    CreateVecIndex(at_.Get<int32_t>(), int32_t(0), static_cast<uint32_t>(kCount));
    ShiftLeft(at_.Get<int32_t>(), at_.Get<int32_t>(), int32_t(5), static_cast<int32_t>(kCount));
  }
  /// Zeros for the elements that are not loaded; then load() each, then collect().
  __aicore__ inline void begin(TPipe& pipe) {
    Duplicate(blocks_.Get<int32_t>(), int32_t(0), static_cast<int32_t>(kCount * kBlock / 4));
    order<HardEvent::V_MTE2>(pipe);
  }
  __aicore__ inline void load(i64 i, const GlobalBytes& src) {
    loadRows<true>(blocks_.Get<uint8_t>()[i * kBlock], src, 1, kSize);
  }
  __aicore__ inline Bytes blocks() { return blocks_.Get<uint8_t>(); }
  __aicore__ inline void collect(TPipe& pipe, const Bytes& dst, i64 n) {
    order<HardEvent::MTE2_V>(pipe);
    picker_.fetch(dst, blocks_.Get<uint8_t>(), at_.Get<int32_t>(), n);
  }

 private:
  TBuf<TPosition::VECCALC> blocks_, at_;
  Picker<kSize> picker_;
};

constexpr i64 kPickRow = 32 * 1024;  // bytes of source rows in UB
constexpr i64 kPicks = 1024;         // indices in UB

/// gather() where rows do not fit UB or few of their elements are wanted.
template <int32_t kSize>
__aicore__ inline void gatherStrays(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols,
                                    GM_ADDR index, i64 picks, GM_ADDR y) {
  constexpr i64 kCount = 512;
  const Range mine = split(rows * picks, team, 32 / kSize);
  if (mine.size() == 0) return;
  const GlobalBytes in = global<uint8_t>(x), out = global<uint8_t>(y);
  Indices list;
  list.init(pipe, index, rows * picks);
  Strays<kSize, kCount> strays;
  strays.init(pipe);
  TQue<TPosition::VECOUT, 1> outs;
  pipe.InitBuffer(outs, 2, static_cast<uint32_t>(kCount * kSize));
  for (i64 e = mine.begin; e < mine.end; e += kCount) {
    const i64 n = least(kCount, mine.end - e);
    strays.begin(pipe);
    for (i64 k = 0; k < n; ++k) {
      const i64 id = list.get(e + k);
      if (id >= 0 && id < cols) strays.load(k, in[((e + k) / picks * cols + id) * kSize]);
    }
    if constexpr (kSize == 1) {  // the vector unit gathers no bytes
      order<HardEvent::MTE2_MTE3>(pipe);
      storeRows(out[e], strays.blocks(), n, 1, 1, kBlock);
      order<HardEvent::MTE3_V>(pipe);
      continue;
    }
    Bytes t = outs.AllocTensor<uint8_t>();
    strays.collect(pipe, t, n);
    outs.EnQue(t);
    t = outs.DeQue<uint8_t>();
    storeRows(out[e * kSize], t, 1, n * kSize);
    outs.FreeTensor(t);
  }
  list.done();
}

/// y[r, j] = x[r, index[r, j]], or zero where the index is out of range. Elements of kSize bytes;
/// x [rows, cols], index int64 and y [rows, picks]. kSize: 1, 2, 4 or 8.
template <int32_t kSize>
__aicore__ inline void gather(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols, GM_ADDR index,
                              i64 picks, GM_ADDR y) {
  if (rows <= 0 || picks <= 0) return;
  const i64 bytes = cols * kSize;
  // Zeros before and after the row: what an index out of range finds.
  const i64 slot = alignUp(bytes, kBlock) + 2 * kBlock;
  // A transfer of one element takes as long as 1 KB of a row.
  if (kSize == 1 || slot > kPickRow || picks * 1024 < bytes)
    return gatherStrays<kSize>(pipe, team, x, rows, cols, index, picks, y);
  // Units: rows, or parts of the picks of a row where rows are few or picks many.
  i64 part = least(picks, kPicks);
  if (rows < team.count)
    part = least(part, most(alignUp(ceilDiv(rows * picks, team.count), 64), 256));
  const i64 parts = ceilDiv(picks, part);
  const Range mine = split(rows * parts, team);
  if (mine.size() == 0) return;
  const i64 fits = parts > 1 ? 1 : least(least(kPickRow / slot, kPicks / part), mine.size());

  const GlobalBytes in = global<uint8_t>(x), list = global<uint8_t>(index);
  const GlobalBytes out = global<uint8_t>(y);
  TQue<TPosition::VECIN, 1> ins, lists;
  TQue<TPosition::VECOUT, 1> outs;
  const i64 room = alignUp(fits * part, 32);
  pipe.InitBuffer(ins, 2, static_cast<uint32_t>(fits * slot));
  pipe.InitBuffer(lists, 2, static_cast<uint32_t>(room * 8));
  pipe.InitBuffer(outs, 2, static_cast<uint32_t>(room * kSize));
  Picker<kSize> picker;
  picker.init(pipe, room, part, slot);
  {  // zeros between the rows, which stay
    Bytes a = ins.AllocTensor<uint8_t>(), b = ins.AllocTensor<uint8_t>();
    const int32_t words = static_cast<int32_t>(fits * slot / 4);
    Duplicate(a.ReinterpretCast<int32_t>(), int32_t(0), words);
    Duplicate(b.ReinterpretCast<int32_t>(), int32_t(0), words);
    ins.FreeTensor(a);
    ins.FreeTensor(b);
  }
  for (i64 u = mine.begin; u < mine.end; u += fits) {
    const i64 count = least(fits, mine.end - u), row = u / parts, first = u % parts * part;
    const i64 n = parts > 1 ? least(part, picks - first) : count * picks;
    Bytes tx = ins.AllocTensor<uint8_t>(), ti = lists.AllocTensor<uint8_t>();
    loadRows<true>(tx[kBlock], in[row * bytes], count, bytes, bytes, slot);
    loadRows(ti, list[(row * picks + first) * 8], 1, n * 8);
    ins.EnQue(tx);
    lists.EnQue(ti);
    tx = ins.DeQue<uint8_t>();
    ti = lists.DeQue<uint8_t>();
    Bytes ty = outs.AllocTensor<uint8_t>();
    picker.pick(ty, tx, kBlock, ti.ReinterpretCast<i64>(), cols, n);
    ins.FreeTensor(tx);
    lists.FreeTensor(ti);
    outs.EnQue(ty);
    ty = outs.DeQue<uint8_t>();
    storeRows(out[(row * picks + first) * kSize], ty, 1, n * kSize);
    outs.FreeTensor(ty);
  }
}

/// x[r, index[r, j]] = src[r, j] in place, in order of j; an index out of range is skipped.
/// x [rows, cols], index int64 and src [rows, picks].
template <int32_t kSize>
__aicore__ inline void scatter(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols, GM_ADDR index,
                               GM_ADDR src, i64 picks) {
  if (rows <= 0 || picks <= 0 || cols <= 0) return;
  using Short = typename Std::conditional<kSize == 1, uint8_t, uint16_t>::type;
  using Long = typename Std::conditional<kSize == 4, uint32_t, i64>::type;
  using Element = typename Std::conditional<kSize <= 2, Short, Long>::type;
  const RowParts shape(rows, cols * kSize, team.count);
  const Range mine = split(rows * shape.parts, team);
  if (mine.size() == 0) return;
  const i64 slot = alignUp(shape.part, kBlock), window = least(picks, kPicks);
  const i64 fits = least(shape.perTile(), window < picks ? 1 : most(kPicks / picks, 1));
  const GlobalBytes io = global<uint8_t>(x), list = global<uint8_t>(index);
  const GlobalBytes from = global<uint8_t>(src);
  TQueBind<TPosition::VECIN, TPosition::VECOUT, 1> tiles;
  TBuf<TPosition::VECCALC> lists, values;
  pipe.InitBuffer(tiles, 2, RowParts::kTile);
  pipe.InitBuffer(lists, kPicks * 8);
  pipe.InitBuffer(values, kPicks * 8);
  const auto at = lists.Get<i64>();
  const auto value = values.Get<Element>();
  for (i64 u = mine.begin; u < mine.end; u += fits) {
    const i64 count = least(fits, mine.end - u);
    const i64 row = u / shape.parts, part = u % shape.parts;
    const i64 length = shape.length(part), first = part * shape.part / kSize;
    const GlobalBytes place = io[row * shape.bytes + part * shape.part];
    Bytes t = tiles.AllocTensor<uint8_t>();
    loadRows(t, place, count, length, shape.bytes, slot);
    const auto row0 = t.ReinterpretCast<Element>();
    for (i64 j = 0; j < picks; j += window) {
      const i64 n = window < picks ? least(window, picks - j) : count * picks;
      order<HardEvent::S_MTE2>(pipe);
      loadRows(lists.Get<uint8_t>(), list[(row * picks + j) * 8], 1, n * 8);
      loadRows(values.Get<uint8_t>(), from[(row * picks + j) * kSize], 1, n * kSize);
      order<HardEvent::MTE2_S>(pipe);
      for (i64 k = 0; k < n; ++k) {
        const i64 id = at.GetValue(static_cast<uint32_t>(k)) - first;
        if (id < 0 || id * kSize >= length) continue;
        const i64 r = count > 1 ? k / picks : 0;
        row0.SetValue(static_cast<uint32_t>(r * slot / kSize + id),
                      value.GetValue(static_cast<uint32_t>(k)));
      }
    }
    order<HardEvent::S_MTE3>(pipe);
    tiles.EnQue(t);
    t = tiles.DeQue<uint8_t>();
    storeRows(place, t, count, length, shape.bytes, slot);
    tiles.FreeTensor(t);
  }
}

}  // namespace xc
