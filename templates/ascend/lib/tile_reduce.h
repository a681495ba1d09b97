// Reductions of the rows of a tile to one value each, as trees: blocks of 8 elements first, then
// what is left of a row in one instruction.
#pragma once
#include "tile_ops.h"

namespace xc {

/// Sum, maximum or minimum of each row's t.cols elements. d [rows]; work: a quarter of the tile.
/// NaN is the maximum and the minimum of what it is in.
template <ReduceType kKind>
__aicore__ inline void reduceRows(const LocalTensor<float>& d, LocalTensor<float> a,
                                  LocalTensor<float> work, const Tile& t) {
  constexpr i64 kLanes = 64, kGroups = 8;
  const i64 rows = t.rows();
  i64 cols = t.cols, pitch = rows == 1 ? alignUp(t.cols, kGroups) : t.pitch;
  while (cols > kLanes) {
    const i64 strips = ceilDiv(cols, kLanes), whole = cols / kLanes, rest = cols % kLanes;
    if (cols == pitch && rest == 0) {  // all rows are one run
      for (i64 k = 0; k < rows * whole; k += kMostRepeats)
        ReduceDataBlock<kKind, float, float>(
            work[k * kGroups], a[k * kLanes], static_cast<int32_t>(kLanes),
            static_cast<int32_t>(least(kMostRepeats, rows * whole - k)), 1, 1, 8);
    } else if (strips < rows) {
      for (i64 k = 0; k < strips; ++k)
        for (i64 r = 0; r < rows; r += kMostRepeats)
          ReduceDataBlock<kKind, float, float>(
              work[r * strips * kGroups + k * kGroups], a[r * pitch + k * kLanes],
              static_cast<int32_t>(least(kLanes, cols - k * kLanes)),
              static_cast<int32_t>(least(kMostRepeats, rows - r)), static_cast<int32_t>(strips), 1,
              static_cast<int32_t>(pitch / 8));
    } else {
      for (i64 r = 0; r < rows; ++r) {
        for (i64 k = 0; k < whole; k += kMostRepeats)
          ReduceDataBlock<kKind, float, float>(
              work[(r * strips + k) * kGroups], a[r * pitch + k * kLanes],
              static_cast<int32_t>(kLanes), static_cast<int32_t>(least(kMostRepeats, whole - k)), 1,
              1, 8);
        if (rest > 0)
          ReduceDataBlock<kKind, float, float>(work[(r * strips + whole) * kGroups],
                                               a[r * pitch + whole * kLanes],
                                               static_cast<int32_t>(rest), 1, 1, 1, 8);
      }
    }
    a = work;
    cols = whole * kGroups + ceilDiv(rest, 8);
    pitch = strips * kGroups;
    work = work[rows * pitch];
  }
  for (i64 r = 0; r < rows; r += kMostRepeats) {
    const auto times = static_cast<int32_t>(least(kMostRepeats, rows - r));
    ReduceRepeat<kKind, float, float>(d[r], a[r * pitch], static_cast<int32_t>(cols), times, 1, 1,
                                      static_cast<int32_t>(pitch / 8),
                                      ReduceOrder::ORDER_ONLY_VALUE);
  }
}

/// The same for integers, exactly: halves of the rows are joined until a block is left, whose
/// elements are then picked one by one. a is overwritten; from: the offsets 0, 32, 64, ...; d and
/// work [rows]. `neutral` changes nothing it is joined with.
template <class Op>
__aicore__ inline void reduceRows(const LocalTensor<int32_t>& d, const LocalTensor<int32_t>& a,
                                  const LocalTensor<int32_t>& work,
                                  const LocalTensor<int32_t>& from, int32_t neutral,
                                  const Tile& t) {
  constexpr i64 kGroup = 8;
  const i64 rows = t.rows(), pitch = rows == 1 ? alignUp(t.cols, kGroup) : t.pitch;
  i64 cols = alignUp(t.cols, kGroup);
  if (cols > t.cols) {  // the last block's empty places
    uint64_t mask[2] = {(uint64_t(255) << (t.cols % kGroup)) & 255, 0};
    for (i64 r = 0; r < rows; ++r) Duplicate(a[r * pitch + cols - kGroup], neutral, mask, 1, 1, 8);
  }
  while (cols > kGroup) {
    const i64 half = alignUp(cols / 2, kGroup);
    for (i64 r = 0; r < rows; ++r)
      Op::count(a[r * pitch], a[r * pitch], a[r * pitch + half], static_cast<int32_t>(cols - half));
    cols = half;
  }
  const auto n = static_cast<uint32_t>(rows);
  if (pitch != kGroup)
    for (i64 r = 1; r < rows; ++r)
      Copy(a[r * kGroup], a[r * pitch], uint64_t(kGroup), 1, CopyRepeatParams(1, 1, 8, 8));
  for (uint32_t k = 0; k < kGroup; ++k) {
    Gather(k == 0 ? d : work, a, from.ReinterpretCast<uint32_t>(), k * 4, n);
    if (k > 0) Op::count(d, d, work, static_cast<int32_t>(n));
  }
}
}  // namespace xc
