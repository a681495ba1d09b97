// Tiles of rows and columns in UB: which rows they hold, loads, stores, operands that broadcast.
//
// A tile's rows lie `pitch` elements apart, whatever their type, so that one instruction with a
// count covers all of them; what lies between a row's end and the next row has been written before
// (loads pad with zeros, `clear` does the rest) and its results are not stored.
#pragma once
#include "rows.h"

namespace xc {

/// Rows [row, row + rows()) of the flattened row dims, columns [col, col + cols).
struct Tile {
  i64 row, col, cols, pitch;
  // The rows are `outer` runs of `inner` rows: all of the last row dim, if there are several runs.
  i64 outer, inner;

  __aicore__ inline i64 rows() const { return outer * inner; }
  /// Elements from the first to the last column of the last row, pads between them included.
  __aicore__ inline i64 size() const { return outer * inner == 1 ? cols : outer * inner * pitch; }
  /// Columns to compute in each row: with the pads, where other rows follow.
  __aicore__ inline i64 width() const { return outer * inner == 1 ? cols : pitch; }
};

/// A tensor of T at a byte offset of a buffer.
template <class T>
__aicore__ inline LocalTensor<T> part(const LocalTensor<uint8_t>& buffer, uint32_t offset) {
  return buffer[offset].template ReinterpretCast<T>();
}

/// How many rows and columns tiles take: as many as fit, fewer where that leaves some tiles to
/// overlap copies with arithmetic, but not less than `enough` elements. `whole`: a tile has all
/// columns of its rows, as they are reduced.
struct Fit {
  i64 rows, cols;

  __aicore__ inline Fit(i64 allRows, i64 allCols, i64 mostElements, i64 mostRows, i64 mostCols,
                        i64 unit, i64 enough, bool whole) {
    constexpr i64 kTiles = 6, kColumns = 256;
    cols = least(allCols, mostCols);
    if (allRows == 1 && !whole)
      cols = least(cols, most(most(enough, ceilDiv(allCols, kTiles)), kColumns));
    if (cols < allCols) {
      cols = least(mostCols, alignUp(ceilDiv(allCols, ceilDiv(allCols, cols)), kColumns));
    }
    const i64 pitch = alignUp(cols, unit);
    rows = most(least(mostRows, mostElements / pitch), 1);
    rows = least(rows, most(ceilDiv(enough, pitch), ceilDiv(allRows, kTiles)));
    rows = ceilDiv(allRows, ceilDiv(allRows, rows));
  }
};

/// The tile that begins at t.row and ends at `end` at the latest, of at most `most` rows. `inner`
/// and `middle` are the last two of several row dims; a tile takes rows of one run, or whole runs.
__aicore__ inline void cut(Tile& t, i64 end, i64 mostRows) {
  t.outer = 1;
  t.inner = least(end - t.row, mostRows);
}
__aicore__ inline void cut(Tile& t, i64 end, i64 mostRows, i64 inner, i64 middle, bool runs) {
  const i64 at = t.row % inner, rest = end - t.row;
  t.outer = 1;
  t.inner = least(least(inner - at, rest), mostRows);
  if (runs && t.inner == inner)
    t.outer = least(least(rest, mostRows) / inner, middle - t.row / inner % middle);
}

/// Calls chain.run for this core's share. Rows are dealt first, in units of `grain`; where cores
/// outnumber them and `columns` allows it, columns are too, `piece` at least.
template <class Chain>
__aicore__ inline void deal(Chain& chain, Team team, i64 rows, i64 cols, i64 grain, bool columns,
                            i64 piece) {
  constexpr i64 kColumns = 256;
  if (rows <= 0 || cols <= 0) return;
  i64 parts = 1;
  if (columns && rows < 2 * team.count)
    parts = most(least(ceilDiv(rows == 1 ? team.count : 2 * team.count, rows), cols / piece), 1);
  if (parts == 1) {
    const Range r = split(rows, team, rows >= 4 * grain * team.count ? grain : 1);
    if (r.size() > 0) chain.run(r.begin, r.size(), 0, cols);
    return;
  }
  const i64 each = alignUp(ceilDiv(cols, parts), kColumns);
  parts = ceilDiv(cols, each);
  const Range r = split(rows * parts, team);
  for (i64 u = r.begin; u < r.end; ++u) {
    const i64 col = u % parts * each;
    chain.run(u / parts, 1, col, least(each, cols - col));
  }
}

// -- global memory --------------------------------------------------------------------------------
// Elements have `size` bytes; strides are in elements: `outer` between the tile's runs of rows,
// `inner` between their rows.

/// The rows of a tile, with columns of stride 1.
__aicore__ inline void load(const Bytes& dst, const GlobalBytes& src, const Tile& t, i64 size,
                            i64 outer, i64 inner) {
  const i64 bytes = t.cols * size, slot = t.pitch * size;
  outer *= size;
  inner *= size;
  if (t.outer == 1 || outer == inner * t.inner) {
    loadRows<true>(dst, src, t.rows(), bytes, inner, slot);
  } else if (outer == 0 || (inner != 0 && t.outer <= t.inner)) {
    for (i64 o = 0; o < t.outer; ++o)
      loadRows<true>(dst[o * t.inner * slot], src[o * outer], t.inner, bytes, inner, slot);
  } else {
    for (i64 i = 0; i < t.inner; ++i)
      loadRows<true>(dst[i * slot], src[i * inner], t.outer, bytes, outer, t.inner * slot);
  }
}

/// The way back.
__aicore__ inline void store(const GlobalBytes& dst, const Bytes& src, const Tile& t, i64 size,
                             i64 outer, i64 inner) {
  const i64 bytes = t.cols * size, slot = t.pitch * size;
  outer *= size;
  inner *= size;
  if (t.outer == 1 || outer == inner * t.inner) {
    storeRows(dst, src, t.rows(), bytes, inner, slot);
  } else if (t.outer <= t.inner) {
    for (i64 o = 0; o < t.outer; ++o)
      storeRows(dst[o * outer], src[o * t.inner * slot], t.inner, bytes, inner, slot);
  } else {
    for (i64 i = 0; i < t.inner; ++i)
      storeRows(dst[i * inner], src[i * slot], t.outer, bytes, outer, t.inner * slot);
  }
}

/// `n` elements `stride` apart. Those of stride 1 lie side by side then, others in a block each
/// (`pick` brings them together), and of stride 0 there is one.
__aicore__ inline void loadLine(const Bytes& dst, const GlobalBytes& src, i64 n, i64 size,
                                i64 stride) {
  if (stride == 1)
    loadRows<true>(dst, src, 1, n * size);
  else
    loadRows<true>(dst, src, stride == 0 ? 1 : n, size, stride * size, kBlock);
}

/// `n` elements of one row value each, side by side or in a block each, as `loadLine` leaves them.
__aicore__ inline void storeLine(const GlobalBytes& dst, const Bytes& src, i64 n, i64 size,
                                 i64 stride, i64 slot) {
  if (stride == 1)
    storeRows(dst, src, 1, n * size);
  else
    storeRows(dst, src, n, size, stride * size, slot);
}

/// The rows of a tile whose columns are `column` apart. An element lies in a block of its own or,
/// where rows follow each other in memory (kAcross), a column's rows side by side, `slot` bytes
/// after those of the column before. `pickRows` makes them rows again.
template <bool kAcross>
__aicore__ inline void loadApart(const Bytes& dst, const GlobalBytes& src, const Tile& t, i64 size,
                                 i64 outer, i64 inner, i64 column, i64 slot) {
  for (i64 o = 0; o < t.outer; ++o) {
    if constexpr (kAcross) {
      loadRows<true>(dst[o * t.cols * slot], src[o * outer * size], t.cols, t.inner * size,
                     column * size, slot);
    } else {
      for (i64 i = 0; i < t.inner; ++i)
        loadRows<true>(dst[(o * t.inner + i) * t.cols * kBlock],
                       src[(o * outer + i * inner) * size], t.cols, size, column * size, kBlock);
    }
  }
}

/// Offsets 0, step, 2 * step, ... in bytes, for `pick` and `pickRows`.
__aicore__ inline void offsets(const LocalTensor<int32_t>& dst, int32_t step, int32_t n) {
  CreateVecIndex(dst, 0, static_cast<uint32_t>(n));
  Muls(dst, dst, step, n);
}

template <class T>
__aicore__ inline void pick(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                            const LocalTensor<int32_t>& from, i64 n) {
  Gather(dst, src, from.ReinterpretCast<uint32_t>(), 0u, static_cast<uint32_t>(n));
}
/// `size` is that of the elements in memory, of which T are the first bytes.
template <bool kAcross, class T>
__aicore__ inline void pickRows(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                                const LocalTensor<int32_t>& from, const Tile& t, i64 size,
                                i64 slot) {
  for (i64 r = 0; r < t.rows(); ++r) {
    const i64 base =
        kAcross ? r / t.inner * t.cols * slot + r % t.inner * size : r * t.cols * kBlock;
    Gather(dst[r * t.pitch], src, from.ReinterpretCast<uint32_t>(), static_cast<uint32_t>(base),
           static_cast<uint32_t>(t.cols));
  }
}
}  // namespace xc
