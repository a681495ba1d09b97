// Rows moved by index: embedding, index_copy. They know rows only as bytes.
#pragma once
#include "common.h"

namespace xc {

using Bytes = LocalTensor<uint8_t>;
using GlobalBytes = GlobalTensor<uint8_t>;

constexpr i64 kBlock = 32;         // bytes that UB is addressed in
constexpr i64 kMostBlocks = 4095;  // rows of one transfer

/// `rows` rows of `bytes`, `stride` bytes apart in GM, to rows of UB that begin `slot` bytes apart
/// (whole blocks). Bytes between a row's end and the end of its last block are undefined, or zero.
template <bool kZero = false>
__aicore__ inline void loadRows(const Bytes& dst, const GlobalBytes& src, i64 rows, i64 bytes,
                                i64 stride = 0, i64 slot = 0) {
  if (bytes == stride && bytes == slot) {  // no gaps: one long row
    bytes *= rows;
    rows = 1;
  }
  const i64 whole = alignUp(bytes, kBlock);
  const DataCopyPadExtParams<uint8_t> pad{kZero, 0, static_cast<uint8_t>(kZero ? whole - bytes : 0),
                                          0};
  if (rows == 1) {
    stride = bytes;
    slot = whole;
  }
  if (stride < bytes) {  // rows that overlap, such as one row read again and again
    for (i64 r = 0; r < rows; ++r)
      DataCopyPad(dst[r * slot], src[r * stride], {1, static_cast<uint32_t>(bytes), 0, 0, 0}, pad);
    return;
  }
  for (i64 r = 0; r < rows; r += kMostBlocks) {
    const DataCopyExtParams p{static_cast<uint16_t>(least(rows - r, kMostBlocks)),
                              static_cast<uint32_t>(bytes), static_cast<uint32_t>(stride - bytes),
                              static_cast<uint32_t>((slot - whole) / kBlock), 0};
    DataCopyPad(dst[r * slot], src[r * stride], p, pad);
  }
}

/// The way back: rows `slot` bytes apart in UB to rows `stride` bytes apart in GM.
__aicore__ inline void storeRows(const GlobalBytes& dst, const Bytes& src, i64 rows, i64 bytes,
                                 i64 stride = 0, i64 slot = 0) {
  if (bytes == stride && bytes == slot) {
    bytes *= rows;
    rows = 1;
  }
  const i64 whole = alignUp(bytes, kBlock);
  if (rows == 1) {
    stride = bytes;
    slot = whole;
  }
  for (i64 r = 0; r < rows; r += kMostBlocks) {
    const DataCopyExtParams p{
        static_cast<uint16_t>(least(rows - r, kMostBlocks)), static_cast<uint32_t>(bytes),
        static_cast<uint32_t>((slot - whole) / kBlock), static_cast<uint32_t>(stride - bytes), 0};
    DataCopyPad(dst[r * stride], src[r * slot], p);
  }
}

template <class T>
__aicore__ inline void exchange(T& a, T& b) {
  const T spare = a;
  a = b;
  b = spare;
}

/// A list of int64 in GM, read by the scalar unit through a window in UB.
class Indices {
 public:
  static constexpr i64 kWindow = 1024;

  __aicore__ inline void init(TPipe& pipe, GM_ADDR list, i64 n) {
    pipe_ = &pipe;
    list_ = global<uint8_t>(list);
    n_ = n;
    pipe.InitBuffer(buffer_, kWindow * 8);
    event_ = static_cast<event_t>(pipe.AllocEventID<HardEvent::MTE2_S>());
  }
  /// Starts to load what begins at entry i, which is asked for next.
  __aicore__ inline void prefetch(i64 i) {
    wait();
    begin_ = i;
    end_ = least(n_, i + kWindow);
    order<HardEvent::S_MTE2>(*pipe_);
    loadRows(buffer_.Get<uint8_t>(), list_[i * 8], 1, (end_ - i) * 8);
    SetFlag<HardEvent::MTE2_S>(event_);
    pending_ = true;
  }
  __aicore__ inline i64 get(i64 i) {
    if (i < begin_ || i >= end_) prefetch(i);
    wait();
    return buffer_.Get<i64>().GetValue(static_cast<uint32_t>(i - begin_));
  }
  __aicore__ inline void done() {
    wait();
    pipe_->ReleaseEventID<HardEvent::MTE2_S>(event_);
  }

 private:
  __aicore__ inline void wait() {
    if (pending_) WaitFlag<HardEvent::MTE2_S>(event_);
    pending_ = false;
  }
  TPipe* pipe_;
  GlobalBytes list_;
  TBuf<TPosition::VECCALC> buffer_;
  event_t event_;
  i64 n_ = 0, begin_ = 0, end_ = 0;
  bool pending_ = false;
};

/// How rows are dealt over cores: by rows, or by parts of rows where cores outnumber them.
struct RowParts {
  static constexpr i64 kTile = 32 * 1024;  // bytes that move at a time
  static constexpr i64 kLeast = 2048;      // bytes of a part, at least

  i64 bytes, part, parts;

  __aicore__ inline RowParts(i64 rows, i64 rowBytes, int32_t cores) : bytes(rowBytes) {
    part = least(rowBytes, kTile);
    if (rows < cores)
      part = least(part, most(alignUp(ceilDiv(rowBytes, cores / rows), 512), kLeast));
    parts = ceilDiv(rowBytes, part);
  }
  /// Units (row, part) that one tile holds.
  __aicore__ inline i64 perTile() const { return parts > 1 ? 1 : kTile / alignUp(part, kBlock); }
  __aicore__ inline i64 length(i64 p) const { return least(part, bytes - p * part); }
};

/// y[i] = table[ids[i]], or zeros where the id is out of range.
/// table [vocab, rowBytes], ids int64 [n], y [n, rowBytes]; bytes, contiguous.
__aicore__ inline void gatherRows(TPipe& pipe, Team team, GM_ADDR table, i64 vocab, i64 rowBytes,
                                  GM_ADDR ids, i64 n, GM_ADDR y) {
  if (n <= 0 || rowBytes <= 0) return;
  const RowParts rows(n, rowBytes, team.count);
  const Range mine = split(n * rows.parts, team);
  if (mine.size() == 0) return;
  const GlobalBytes in = global<uint8_t>(table), out = global<uint8_t>(y);
  const i64 slot = alignUp(rows.part, kBlock), most = rows.perTile();
  TQueBind<TPosition::VECIN, TPosition::VECOUT, 1> tiles;
  pipe.InitBuffer(tiles, 3, RowParts::kTile);
  Indices list;
  list.init(pipe, ids, n);
  for (i64 u = mine.begin; u < mine.end; u += most) {
    const i64 count = least(most, mine.end - u);
    Bytes t = tiles.AllocTensor<uint8_t>();
    bool missing = false;
    for (i64 k = 0; k < count; ++k) {
      const i64 row = (u + k) / rows.parts, part = (u + k) % rows.parts, id = list.get(row);
      if (id >= 0 && id < vocab)
        loadRows(t[k * slot], in[id * rowBytes + part * rows.part], 1, rows.length(part));
      else
        missing = true;
    }
    if (missing) {
      order<HardEvent::MTE2_V>(pipe);
      for (i64 k = 0; k < count; ++k) {
        const i64 id = list.get((u + k) / rows.parts);
        if (id < 0 || id >= vocab)
          Duplicate(t[k * slot].ReinterpretCast<int16_t>(), int16_t(0),
                    static_cast<int32_t>(slot / 2));
      }
      order<HardEvent::V_MTE3>(pipe);
    }
    tiles.EnQue(t);
    t = tiles.DeQue<uint8_t>();
    const i64 row = u / rows.parts, part = u % rows.parts;
    storeRows(out[row * rowBytes + part * rows.part], t, count, rows.length(part), rowBytes, slot);
    tiles.FreeTensor(t);
  }
  list.done();
}

/// y[o, index[j]] = src[o, j] in place for every o; an index out of range is skipped. Which of two
/// equal indices wins is undefined.
/// y [outer, dim, rowBytes] bytes, index int64 [n], src [outer, n, rowBytes] with rows srcRow bytes
/// apart and blocks srcOuter bytes apart.
__aicore__ inline void scatterRows(TPipe& pipe, Team team, GM_ADDR y, i64 outer, i64 dim,
                                   i64 rowBytes, GM_ADDR index, i64 n, GM_ADDR src, i64 srcRow,
                                   i64 srcOuter) {
  if (outer <= 0 || n <= 0 || rowBytes <= 0) return;
  const RowParts rows(outer * n, rowBytes, team.count);
  const Range mine = split(outer * n * rows.parts, team);
  if (mine.size() == 0) return;
  const GlobalBytes in = global<uint8_t>(src), out = global<uint8_t>(y);
  const i64 slot = alignUp(rows.part, kBlock), most = rows.perTile();
  const bool even = outer == 1 || srcOuter == n * srcRow;  // all rows of src are one run
  TQueBind<TPosition::VECIN, TPosition::VECOUT, 1> tiles;
  pipe.InitBuffer(tiles, 3, RowParts::kTile);
  Indices list;
  list.init(pipe, index, n);
  list.prefetch(mine.begin / rows.parts % n);
  for (i64 u = mine.begin; u < mine.end;) {
    const i64 row = u / rows.parts, part = u % rows.parts, bytes = rows.length(part);
    const i64 o = row / n, j = row % n;
    const i64 count = least(least(most, mine.end - u), even ? most : n - j);
    Bytes t = tiles.AllocTensor<uint8_t>();
    loadRows(t, in[o * srcOuter + j * srcRow + part * rows.part], count, bytes, srcRow, slot);
    tiles.EnQue(t);
    t = tiles.DeQue<uint8_t>();
    for (i64 k = 0; k < count; ++k) {
      const i64 block = (row + k) / n, id = list.get((row + k) % n);
      if (id >= 0 && id < dim)
        storeRows(out[(block * dim + id) * rowBytes + part * rows.part], t[k * slot], 1, bytes);
    }
    tiles.FreeTensor(t);
    u += count;
  }
  list.done();
}

}  // namespace xc
