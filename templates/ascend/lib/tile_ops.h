// Operands that are the same along a row (a value a row) or along a column (a row of values), and
// scalars, against whole tiles.
#pragma once
#include "tile.h"

namespace xc {

constexpr i64 kMostRepeats = 255;
constexpr i64 kMostStride = 255;  // blocks between the repeats of an instruction

// Vector instructions as types: of two sources (by count and by repeats), of a source and a scalar,
// of one source.
#define XC_BINARY(NAME)                                                                    \
  struct NAME##Op {                                                                        \
    template <class T>                                                                     \
    static __aicore__ inline void count(const LocalTensor<T>& d, const LocalTensor<T>& a,  \
                                        const LocalTensor<T>& b, int32_t n) {              \
      NAME(d, a, b, n);                                                                    \
    }                                                                                      \
    template <class T>                                                                     \
    static __aicore__ inline void repeat(const LocalTensor<T>& d, const LocalTensor<T>& a, \
                                         const LocalTensor<T>& b, i64 mask, i64 times,     \
                                         const BinaryRepeatParams& p) {                    \
      NAME(d, a, b, static_cast<uint64_t>(mask), static_cast<uint8_t>(times), p);          \
    }                                                                                      \
  };
#define XC_SCALAR(NAME)                                                                        \
  struct NAME##Op {                                                                            \
    template <class T>                                                                         \
    static __aicore__ inline void count(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, \
                                        int32_t n) {                                           \
      NAME(d, a, b, n);                                                                        \
    }                                                                                          \
  };
#define XC_UNARY(NAME)                                                                    \
  struct NAME##Op {                                                                       \
    template <class T>                                                                    \
    static __aicore__ inline void count(const LocalTensor<T>& d, const LocalTensor<T>& a, \
                                        int32_t n) {                                      \
      NAME(d, a, n);                                                                      \
    }                                                                                     \
  };
XC_BINARY(Add)
XC_BINARY(Sub)
XC_BINARY(Mul)
XC_BINARY(Div)
XC_BINARY(Max)
XC_BINARY(Min)
XC_SCALAR(Adds)
XC_SCALAR(Muls)
XC_SCALAR(Maxs)
XC_SCALAR(Mins)
XC_SCALAR(Axpy)
XC_UNARY(Abs)
XC_UNARY(Exp)
XC_UNARY(Ln)
XC_UNARY(Sqrt)
#undef XC_BINARY
#undef XC_SCALAR
#undef XC_UNARY

/// Elements of the first of two instructions that `run` makes of a long one: the next one, which
/// waits for the first's results, then runs behind the second instead of after it.
__aicore__ inline int32_t firstPart(int32_t n) {
  constexpr int32_t kShort = 2048;
  return n < kShort ? n : static_cast<int32_t>(alignUp(n / 2, 128));
}
template <class Op, class T>
__aicore__ inline void run(const LocalTensor<T>& d, const LocalTensor<T>& a,
                           const LocalTensor<T>& b, int32_t n) {
  const int32_t h = firstPart(n);
  Op::count(d, a, b, h);
  if (n > h) Op::count(d[h], a[h], b[h], n - h);
}
template <class Op, class T>
__aicore__ inline void run(const LocalTensor<T>& d, const LocalTensor<T>& a, T b, int32_t n) {
  const int32_t h = firstPart(n);
  Op::count(d, a, b, h);
  if (n > h) Op::count(d[h], a[h], b, n - h);
}
template <class Op, class T>
__aicore__ inline void run(const LocalTensor<T>& d, const LocalTensor<T>& a, int32_t n) {
  const int32_t h = firstPart(n);
  Op::count(d, a, h);
  if (n > h) Op::count(d[h], a[h], n - h);
}

/// d = a op b with b repeated: kFirst makes it b op a. Strides between blocks and between repeats.
template <class Op, bool kFirst, class T>
__aicore__ inline void repeated(const LocalTensor<T>& d, const LocalTensor<T>& a,
                                const LocalTensor<T>& b, i64 mask, i64 times, i64 step,
                                i64 blockOfB, i64 stepOfB) {
  const uint8_t s = static_cast<uint8_t>(step), k = static_cast<uint8_t>(blockOfB),
                r = static_cast<uint8_t>(stepOfB);
  if constexpr (kFirst)
    Op::repeat(d, b, a, mask, times, BinaryRepeatParams(1, k, 1, s, r, s));
  else
    Op::repeat(d, a, b, mask, times, BinaryRepeatParams(1, 1, k, s, s, r));
}

/// d[0..n) = a op b, where b are the 64 equal elements of a constant.
template <class Op, bool kFirst = false, class T>
__aicore__ inline void constant(const LocalTensor<T>& d, const LocalTensor<T>& a,
                                const LocalTensor<T>& b, i64 n) {
  constexpr i64 kLanes = 256 / sizeof(T);
  const i64 whole = n / kLanes;
  for (i64 k = 0; k < whole; k += kMostRepeats)
    repeated<Op, kFirst>(d[k * kLanes], a[k * kLanes], b, kLanes, least(kMostRepeats, whole - k), 8,
                         1, 0);
  if (n > whole * kLanes)
    repeated<Op, kFirst>(d[whole * kLanes], a[whole * kLanes], b, n - whole * kLanes, 1, 8, 1, 0);
}

/// The instructions that cover the rows of a tile: one strip of columns after another, down the
/// rows, or row after row. `at` is the first element's offset; the repeats are rows, `step` blocks
/// apart, or follow each other in a row.
template <class T>
class Sweep {
 public:
  static constexpr i64 kLanes = 256 / sizeof(T), kBlocks = 32 / sizeof(T);
  i64 at = 0, row = 0, col = 0, mask = 0, times = 0, step;
  bool down;

  __aicore__ inline explicit Sweep(const Tile& t)
      : rows_(t.rows()), width_(t.width()), pitch_(t.pitch) {
    // Cycles: strips lie within each other's reach, so that one waits for the end of another.
    constexpr i64 kLatency = 25, kIssue = 4;
    const i64 strips = ceilDiv(width_, kLanes);
    down = pitch_ / kBlocks <= kMostStride &&
           strips * (rows_ + (strips > 1 ? kLatency : 0)) < rows_ * most(strips, kIssue);
    step = down ? pitch_ / kBlocks : 8;
    // A single row in two parts: what waits for the first then runs behind the second.
    rowRepeats_ = least(kMostRepeats, rows_ == 1 && strips >= 32 ? ceilDiv(strips, 2) : strips);
  }
  __aicore__ inline bool next() {
    if (down) {
      row += times;
      if (row >= rows_) {
        row = 0;
        col += kLanes;
      }
      if (col >= width_) return false;
      mask = least(kLanes, width_ - col);
      times = least(kMostRepeats, rows_ - row);
    } else {
      col += mask * times;
      if (col >= width_) {
        col = 0;
        ++row;
      }
      if (row >= rows_) return false;
      const i64 whole = (width_ - col) / kLanes;
      mask = whole > 0 ? kLanes : width_ - col;
      times = whole > 0 ? least(rowRepeats_, whole) : 1;
    }
    at = row * pitch_ + col;
    return true;
  }

 private:
  i64 rows_, width_, pitch_, rowRepeats_;
};

/// One value a row [rows] -> a block of it a row [rows, 8], for `rowwise` and `spreadRows`. Reads
/// and writes whole groups of 8 rows.
template <class T>
__aicore__ inline void blocks(const LocalTensor<T>& d, const LocalTensor<T>& a, i64 rows) {
  constexpr i64 kBlocks = 32 / sizeof(T), kStep = kMostRepeats * 8;
  for (i64 r = 0; r < rows; r += kStep)
    Brcb(d[r * kBlocks], a[r], static_cast<uint8_t>(ceilDiv(least(kStep, rows - r), 8)), {1, 8});
}

/// d = a op b, b one value a row as `blocks` leaves them; kFirst makes it b op a.
template <class Op, bool kFirst = false, class T>
__aicore__ inline void rowwise(const LocalTensor<T>& d, const LocalTensor<T>& a,
                               const LocalTensor<T>& b, const Tile& t) {
  constexpr i64 kBlocks = 32 / sizeof(T);
  if (t.pitch == kBlocks) {  // the blocks are the rows
    const auto n = static_cast<int32_t>(t.size());
    kFirst ? Op::count(d, b, a, n) : Op::count(d, a, b, n);
    return;
  }
  for (Sweep<T> s(t); s.next();)
    repeated<Op, kFirst>(d[s.at], a[s.at], b[s.row * kBlocks], s.mask, s.times, s.step, 0,
                         s.down ? 1 : 0);
}

/// d = a op b, b a row of values; kFirst makes it b op a.
template <class Op, bool kFirst = false, class T>
__aicore__ inline void columnwise(const LocalTensor<T>& d, const LocalTensor<T>& a,
                                  const LocalTensor<T>& b, const Tile& t) {
  for (Sweep<T> s(t); s.next();)
    repeated<Op, kFirst>(d[s.at], a[s.at], b[s.col], s.mask, s.times, s.step, 1, s.down ? 0 : 8);
}

/// Every element of a row becomes the row's value; b as `blocks` leaves them.
template <class T>
__aicore__ inline void spreadRows(const LocalTensor<T>& d, const LocalTensor<T>& b, const Tile& t) {
  constexpr i64 kBlocks = 32 / sizeof(T);
  for (Sweep<T> s(t); s.next();)
    Copy(d[s.at], b[s.row * kBlocks], static_cast<uint64_t>(s.mask), static_cast<uint8_t>(s.times),
         CopyRepeatParams(1, 0, static_cast<uint16_t>(s.step), s.down ? 1 : 0));
}

/// Every row becomes b.
template <class T>
__aicore__ inline void spreadColumns(const LocalTensor<T>& d, const LocalTensor<T>& b,
                                     const Tile& t) {
  for (Sweep<T> s(t); s.next();)
    Copy(d[s.at], b[s.col], static_cast<uint64_t>(s.mask), static_cast<uint8_t>(s.times),
         CopyRepeatParams(1, 1, static_cast<uint16_t>(s.step), s.down ? 0 : 8));
}
}  // namespace xc
