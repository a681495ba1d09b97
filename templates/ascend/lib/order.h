// topk and sort of rows: pairs of a key and an index, sorted in UB.
//
// Sort32 sorts 32 pairs, MrgSort merges up to four sorted lists. Both put the first of two equal
// keys first (documented), so with lists in the order of their elements the sort is stable.
#pragma once
#include "keys.h"
#include "pick.h"

namespace xc {

constexpr i64 kSortTile = 2048;  // elements that are sorted at a time
constexpr i64 kFewTile = 4096;   // if few of them are kept

/// Sorted lists of pairs (key, index), one per row, `stride` pairs apart.
struct Lists {
  LocalTensor<float> pairs;
  i64 stride, length;
};

/// Merges up to four sorted lists of pairs; those behind `count` are not looked at.
__aicore__ inline void merge(const LocalTensor<float>& to, const LocalTensor<float>& from,
                             i64 stride, i64 length, i64 last, i64 count) {
  MrgSort4Info info;
  for (i64 k = 0; k < 4; ++k)
    info.elementLengths[k] = static_cast<uint16_t>(k + 1 < count    ? length
                                                   : k + 1 == count ? last
                                                                    : 0);
  info.ifExhaustedSuspension = false;
  info.validBit = static_cast<uint16_t>((1 << count) - 1);
  info.repeatTimes = 1;
  MrgSort(to,
          MrgSortSrcList<float>(from, from[stride * 2], from[(count > 2 ? 2 : 0) * stride * 2],
                                from[(count > 3 ? 3 : 0) * stride * 2]),
          info);
}

/// Merges adjacent lists of `length` pairs, four at a time, `times` times.
__aicore__ inline void mergeFours(const LocalTensor<float>& to, const LocalTensor<float>& from,
                                  i64 length, i64 times) {
  MrgSort4Info info;
  for (i64 q = 0; q < 4; ++q) info.elementLengths[q] = static_cast<uint16_t>(length);
  info.ifExhaustedSuspension = false;
  info.validBit = 15;
  for (i64 g = 0; g < times; g += 255) {
    const auto at = from[g * 8 * length];
    info.repeatTimes = static_cast<uint8_t>(least(255, times - g));
    MrgSort(to[g * 8 * length],
            MrgSortSrcList<float>(at, at[2 * length], at[4 * length], at[6 * length]), info);
  }
}

/// Copies `count` lists of `length` pairs (a multiple of 4); strides in pairs.
__aicore__ inline void copyLists(const LocalTensor<float>& to, const LocalTensor<float>& from,
                                 i64 count, i64 length, i64 toStride, i64 fromStride) {
  DataCopy(to, from,
           DataCopyParams{static_cast<uint16_t>(count), static_cast<uint16_t>(length / 4),
                          static_cast<uint16_t>((fromStride - length) / 4),
                          static_cast<uint16_t>((toStride - length) / 4)});
}

/// Sorts rows of cols (a multiple of 32) keys each, as far as the first k. `limit` rows or fewer
/// come out alike. from, to: room for rows * cols pairs and not less than `room`.
__aicore__ inline Lists sortRows(LocalTensor<float> from, LocalTensor<float> to,
                                 const LocalTensor<float>& key, const LocalTensor<int32_t>& index,
                                 i64 rows, i64 cols, i64 k, i64 limit, i64 room) {
  for (i64 g = 0; g < rows * cols / 32; g += 255)
    Sort32(from[g * 64], key[g * 32], index[g * 32].ReinterpretCast<uint32_t>(),
           static_cast<int32_t>(least(255, rows * cols / 32 - g)));
  // Lists of a row: all of `length` pairs, `stride` apart, but the last one, which may be shorter.
  i64 lists = cols / 32, stride = 32, length = 32, last = 32, row = cols;
  k = alignUp(k, 4);
  while (lists > 1) {
    const i64 groups = ceilDiv(lists, 4), rest = lists - 4 * (groups - 1);
    const i64 take = least(length, k);
    last = least(last, k);
    // One instruction merges the lists of all rows if there are four of one length, without gaps.
    // Where they are short, gaps are worth closing, and lists of -inf worth adding.
    const bool four = rest == 4 && last == take;
    const bool fill = !four && last == take && take <= 64 && limit * groups * 4 * take <= room;
    if (four || fill) {
      if (four && take < stride) {
        copyLists(to, from, rows * lists, take, take, stride);
        exchange(from, to);
      } else if (fill) {
        Duplicate(to, -infinity(), static_cast<int32_t>(rows * groups * 8 * take));
        for (i64 r = 0; lists >= rows && r < rows; ++r)
          copyLists(to[r * groups * 8 * take], from[r * row * 2], lists, take, take, stride);
        for (i64 g = 0; lists < rows && g < lists; ++g)
          copyLists(to[g * 2 * take], from[g * stride * 2], rows, take, groups * 4 * take, row);
        exchange(from, to);
      }
      mergeFours(to, from, take, rows * groups);
      last = 4 * take;
      row = groups * 4 * take;
    } else {
      const i64 end = (rest - 1) * take + last, next = (groups - 1) * 4 * take + alignUp(end, 4);
      for (i64 r = 0; r < rows; ++r) {
        for (i64 g = 0; g < groups; ++g) {
          const auto at = from[(r * row + 4 * g * stride) * 2];
          const auto put = to[(r * next + 4 * g * take) * 2];
          if (g + 1 < groups)
            merge(put, at, stride, take, take, 4);
          else if (rest > 1)
            merge(put, at, stride, take, last, rest);
          else
            copyLists(put, at, 1, alignUp(last, 4), alignUp(last, 4), alignUp(last, 4));
        }
      }
      last = end;
      row = next;
    }
    stride = length = 4 * take;
    lists = groups;
    exchange(from, to);
  }
  return {from, row, last};
}

/// Rows of T on their way through UB: keys, the sort, the first k back as T and int64.
template <class T>
class RowSorter {
 public:
  /// rows of cols elements at a time, rows * alignUp(cols, 32) <= tile
  __aicore__ inline void init(TPipe& pipe, i64 tile, i64 rows, i64 cols, bool descending) {
    tile_ = tile;
    most_ = rows;
    cols_ = cols;
    padded_ = alignUp(cols, 32);
    descending_ = descending;
    const uint32_t size = static_cast<uint32_t>(tile);
    pipe.InitBuffer(ins_, 2, size * sizeof(T));
    pipe.InitBuffer(a_, size * 8);
    pipe.InitBuffer(b_, size * 8);
    pipe.InitBuffer(keys_, size * 4);
    pipe.InitBuffer(indices_, size * 4);
    pipe.InitBuffer(mask_, size / 8);
    // Element i of all rows is element i - row * padded of its own.
    const auto index = indices_.template Get<int32_t>(), start = keys_.template Get<int32_t>();
    const i64 n = rows * padded_;
    rowOf(start, padded_, n);
    Muls(start, start, static_cast<int32_t>(padded_), static_cast<int32_t>(n));
    CreateVecIndex(index, int32_t(0), static_cast<uint32_t>(n));
    Sub(index, index, start, static_cast<int32_t>(n));
    // What loads leave out is computed with as well.
    auto x = ins_.template AllocTensor<T>(), y = ins_.template AllocTensor<T>();
    const int32_t words = static_cast<int32_t>(tile * sizeof(T) / 4);
    Duplicate(x.template ReinterpretCast<int32_t>(), int32_t(0), words);
    Duplicate(y.template ReinterpretCast<int32_t>(), int32_t(0), words);
    ins_.FreeTensor(x);
    ins_.FreeTensor(y);
  }
  __aicore__ inline void load(const GlobalBytes& x, i64 rows) { load(x, rows, cols_); }
  __aicore__ inline void load(const GlobalBytes& x, i64 rows, i64 cols) {
    Bytes t = ins_.template AllocTensor<uint8_t>();
    loadRows(t, x, rows, cols * sizeof(T), cols * sizeof(T), padded_ * sizeof(T));
    ins_.EnQue(t);
  }
  /// Sorts what was loaded; of a row that is part of a longer one, the indices start at `first`
  /// and only `cols` elements are there.
  __aicore__ inline Lists sort(i64 rows, i64 k) { return sort(rows, k, cols_, 0); }
  __aicore__ inline Lists sort(i64 rows, i64 k, i64 cols, i64 first) {
    auto x = ins_.template DeQue<T>();
    const auto key = keys_.template Get<float>();
    const auto index = indices_.template Get<int32_t>();
    const i64 padded = alignUp(cols, 32), n = rows * padded;
    toKeys<T>(key, x, mask_.template Get<uint8_t>(), a_.template Get<int32_t>(), descending_,
              alignUp(n, 64));
    ins_.FreeTensor(x);
    if (cols % 32 != 0) {  // the rest of each row's last 32 keys
      uint64_t lanes[2] = {0xffffffffull & ~((1ull << (cols % 32)) - 1), 0};
      const i64 step = padded / 8 > 255 ? 1 : rows;  // strides have 8 bits
      for (i64 r = 0; r < rows; r += step)
        Duplicate(key[(r + 1) * padded - 32], -infinity(), lanes, static_cast<uint8_t>(step), 1,
                  static_cast<uint8_t>(step > 1 ? padded / 8 : 8));
    }
    if (first != offset_)
      Adds(index, index, static_cast<int32_t>(first - offset_), static_cast<int32_t>(tile_));
    offset_ = first;
    return sortRows(a_.template Get<float>(), b_.template Get<float>(), key, index, rows, padded, k,
                    most_, tile_);
  }

 private:
  TQue<TPosition::VECIN, 2> ins_;  // two are on their way
  TBuf<TPosition::VECCALC> a_, b_, keys_, indices_, mask_;
  i64 tile_, most_, cols_, padded_, offset_ = 0;
  bool descending_;
};

/// Sorted pairs back as values and indices, in GM.
template <class T>
class PairWriter {
 public:
  /// Up to n pairs at a time, of rows of k; rows are `stride` pairs apart
  __aicore__ inline void init(TPipe& pipe, i64 n, i64 k, i64 stride, bool descending) {
    descending_ = descending;
    n = alignUp(n, 64);
    pipe.InitBuffer(at_, static_cast<uint32_t>(n * 4));
    pipe.InitBuffer(words_, static_cast<uint32_t>(n * 4));
    pipe.InitBuffer(scratch_, static_cast<uint32_t>(n * 4));
    pipe.InitBuffer(values_, 1, static_cast<uint32_t>(n * sizeof(T)));
    pipe.InitBuffer(indices_, 1, static_cast<uint32_t>(n * 8));
    // Pair j of row r lies at (r * stride + j) * 8 = (r * (stride - k) + i) * 8.
    const auto at = at_.template Get<int32_t>(), i = words_.template Get<int32_t>();
    const int32_t count = static_cast<int32_t>(n);
    rowOf(at, k, n);
    Muls(at, at, static_cast<int32_t>(stride - k), count);
    CreateVecIndex(i, int32_t(0), static_cast<uint32_t>(n));
    Add(at, at, i, count);
    ShiftLeft(at, at, int32_t(3), count);
  }
  /// n pairs in all to element `first` of values and indices; no values if that is not wanted.
  __aicore__ inline void write(const LocalTensor<float>& pairs, const GlobalBytes& values,
                               const GlobalBytes& indices, i64 first, i64 n, bool wanted) {
    const uint32_t count = static_cast<uint32_t>(n);
    const auto at = at_.template Get<uint32_t>();
    const auto word = words_.template Get<int32_t>();
    auto index = indices_.template AllocTensor<i64>();
    Gather(word, pairs.template ReinterpretCast<int32_t>(), at, 4, count);
    Cast(index, word, RoundMode::CAST_NONE, count);
    indices_.EnQue(index);
    Bytes t = indices_.template DeQue<uint8_t>();
    storeRows(indices[first * 8], t, 1, n * 8);
    indices_.FreeTensor(t);
    if (!wanted) return;
    auto value = values_.template AllocTensor<T>();
    const auto key = words_.template Get<float>();
    Gather(key, pairs, at, 0, count);
    fromKeys<T>(value, key, scratch_.template Get<int32_t>(), descending_, n);
    values_.EnQue(value);
    t = values_.template DeQue<uint8_t>();
    storeRows(values[first * sizeof(T)], t, 1, n * sizeof(T));
    values_.FreeTensor(t);
  }

 private:
  TBuf<TPosition::VECCALC> at_, words_, scratch_;
  TQue<TPosition::VECOUT, 1> values_, indices_;
  bool descending_;
};

/// The first k of each row of x [rows, cols], cols <= kSortTile, in stable order: NaN is the
/// largest. values T and indices int64 [rows, k].
template <class T>
__aicore__ inline void sortShort(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols, i64 k,
                                 bool descending, GM_ADDR values, GM_ADDR indices, bool wanted) {
  k = least(k, cols);
  const Range mine = split(rows, team);
  if (mine.size() <= 0 || k <= 0) return;
  const i64 padded = alignUp(cols, 32);
  const i64 tile = sizeof(T) < 8 && kFewTile / padded * k <= kFewTile / 4 ? kFewTile : kSortTile;
  const i64 fits = least(tile / padded, mine.size());
  const GlobalBytes in = global<uint8_t>(x), outV = global<uint8_t>(values);
  const GlobalBytes outI = global<uint8_t>(indices);
  RowSorter<T> sorter;
  PairWriter<T> writer;
  sorter.init(pipe, tile, fits, cols, descending);
  i64 stride = 0;
  sorter.load(in[mine.begin * cols * sizeof(T)], least(fits, mine.size()));
  for (i64 r = mine.begin; r < mine.end; r += fits) {
    const i64 count = least(fits, mine.end - r), next = r + fits;
    if (next < mine.end) sorter.load(in[next * cols * sizeof(T)], least(fits, mine.end - next));
    const Lists sorted = sorter.sort(count, k);
    if (stride == 0) {
      stride = sorted.stride;
      writer.init(pipe, fits * k, k, stride, descending);
    }
    writer.write(sorted.pairs, outV, outI, r * k, count * k, wanted);
  }
}

}  // namespace xc
