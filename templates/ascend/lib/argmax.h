// argmax of rows of any length; tiles of a long row go to several cores.
#pragma once
#include "order.h"

namespace xc {

/// Lanes `from` and up of a repeat, of elements of 2 or 4 bytes.
struct LanesFrom {
  uint64_t bits[2];
  __aicore__ inline explicit LanesFrom(i64 from) {
    bits[0] = from < 64 ? ~((1ull << from) - 1) : 0;
    bits[1] = from < 64 ? ~0ull : ~((1ull << (from - 64)) - 1);
  }
};

template <class T>
class ArgMax {
 public:
  /// Elements that are looked at together.
  static constexpr i64 kTile = sizeof(T) == 8 ? 4096 : 8192;
  /// Bytes of workspace for each tile of each row.
  static constexpr i64 kFound = sizeof(T) == 8 ? 32 : 8;

  /// Index of the largest element of each row of x [rows, cols] to int64 y [rows]: the first of
  /// equal ones, a NaN before all others. workspace: kFound bytes for each of ceil(cols / kTile)
  /// tiles of each row. All cores meet in SyncAll: what is largest in each tile is known then, and
  /// the tile that has it is read again for the place.
  __aicore__ inline void run(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols, GM_ADDR y,
                             GM_ADDR workspace) {
    x_ = global<uint8_t>(x);
    found_ = global<uint8_t>(workspace);
    cols_ = cols;
    tiles_ = ceilDiv(cols, kTile);
    pipe.InitBuffer(ins_, 2, kTile * sizeof(T));
    pipe.InitBuffer(words_, kTile * 4);
    pipe.InitBuffer(places_, kTile * 4);
    pipe.InitBuffer(mask_, kTile / 8);
    pipe.InitBuffer(list_, kList * kBlock);
    pipe.InitBuffer(sign_, 256);
    const Range mine = split(rows * tiles_, team);
    if (mine.size() > 0) largest(pipe, mine);
    PipeBarrier<PIPE_ALL>();
    SyncAll();
    const Range whole = split(rows, team);
    if (whole.size() > 0) indices(pipe, whole, global<uint8_t>(y));
  }

 private:
  static constexpr i64 kList = 256;
  static constexpr i64 kLanes = sizeof(T) == 2 ? 128 : 64;
  static constexpr int32_t kInfinity = sizeof(T) == 4                 ? 0x7f800000
                                       : Std::is_same<T, half>::value ? 0x7c00
                                                                      : 0x7f80;
  static constexpr RoundMode kExact = sizeof(T) == 2 ? RoundMode::CAST_NONE : RoundMode::CAST_RINT;

  __aicore__ inline void load(i64 t) {
    Bytes in = ins_.template AllocTensor<uint8_t>();
    loadRows(in, x_[(t / tiles_ * cols_ + t % tiles_ * kTile) * sizeof(T)], 1,
             length(t) * sizeof(T));
    ins_.EnQue(in);
  }
  __aicore__ inline i64 length(i64 t) const { return least(kTile, cols_ - t % tiles_ * kTile); }

  /// The tile, filled up with smallest elements to whole repeats: as float, or int32 of int64.
  __aicore__ inline auto values(const LocalTensor<T>& x, i64 n) {
    LanesFrom rest(n % kLanes);
    const i64 last = n / kLanes * kLanes, whole = alignUp(n, kLanes);
    if constexpr (sizeof(T) == 8) {
      const auto v = words_.template Get<int32_t>();
      Cast(v, x, RoundMode::CAST_NONE, static_cast<uint32_t>(n));
      if (n != whole) Duplicate(v[last], int32_t(-0x7fffffff - 1), rest.bits, 1, 1, 8);
      return v;
    } else if constexpr (sizeof(T) == 2) {
      const uint16_t low = kInfinity | 0x8000;
      if (n != whole)
        Duplicate(x[last].template ReinterpretCast<uint16_t>(), low, rest.bits, 1, 1, 8);
      const auto v = words_.template Get<float>();
      Cast(v, x, RoundMode::CAST_NONE, static_cast<uint32_t>(whole));
      return v;
    } else {
      if (n != whole) Duplicate(x[last], -infinity(), rest.bits, 1, 1, 8);
      return x;
    }
  }

  /// For each tile [largest, more than 0 for a NaN], of int64 the largest of 8 lanes.
  __aicore__ inline void largest(TPipe& pipe, Range mine) {
    if constexpr (sizeof(T) == 2)
      Duplicate(sign_.template Get<int16_t>(), int16_t(0x7fff), 128);
    else if constexpr (sizeof(T) == 4)
      Duplicate(sign_.template Get<int32_t>(), int32_t(0x7fffffff), 64);
    load(mine.begin);
    for (i64 t = mine.begin; t < mine.end; ++t) {
      if (t + 1 < mine.end) load(t + 1);
      const i64 at = (t - mine.begin) % kList;
      auto x = ins_.template DeQue<T>();
      largestOf(x, length(t), list_.template Get<float>()[at * 8]);
      ins_.FreeTensor(x);
      if (at + 1 == kList || t + 1 == mine.end) {
        order<HardEvent::V_MTE3>(pipe);
        storeRows(found_[(t - at) * kFound], list_.template Get<uint8_t>(), at + 1, kFound, kFound,
                  kBlock);
        order<HardEvent::MTE3_V>(pipe);
      }
    }
  }
  __aicore__ inline void largestOf(const LocalTensor<T>& x, i64 n, const LocalTensor<float>& to) {
    const auto v = values(x, n);
    n = alignUp(n, kLanes);
    if constexpr (sizeof(T) == 8) {
      while (n > 8) n = fold(v, n, 8);
      DataCopy(to, v.template ReinterpretCast<float>(), 8);
    } else {
      // A NaN is what is beyond infinity without its sign. The two run side by side.
      using Int = typename Std::conditional<sizeof(T) == 2, int16_t, int32_t>::type;
      const auto size = places_.template Get<Int>();
      const auto nan =
          kLanes == 128 ? places_.template Get<float>()[kTile / 2] : words_.template Get<float>();
      const i64 halves = n * sizeof(T) / 2;
      for (i64 k = 0; k < halves; k += 255 * 128)
        And(size.template ReinterpretCast<int16_t>()[k], x.template ReinterpretCast<int16_t>()[k],
            sign_.template Get<int16_t>(), uint64_t(128),
            static_cast<uint8_t>(ceilDiv(least(halves - k, 255 * 128), 128)), {1, 1, 1, 8, 8, 0});
      for (i64 left = n; n > kLanes; n = left) {
        left = fold(v, n, kLanes);
        fold(size, n, kLanes);
      }
      Adds(size, size, static_cast<Int>(-kInfinity), static_cast<int32_t>(kLanes));
      Cast(nan, size, kExact, static_cast<uint32_t>(kLanes));
      if constexpr (kLanes == 128) {
        fold(v, 128, 64);
        fold(nan, 128, 64);
      }
      ReduceRepeat<ReduceType::MAX>(to, v, 64, 1, 1, 1, 8, ReduceOrder::ORDER_ONLY_VALUE);
      ReduceRepeat<ReduceType::MAX>(to[1], nan, 64, 1, 1, 1, 8, ReduceOrder::ORDER_ONLY_VALUE);
    }
  }
  /// Halves n elements, to whole multiples of `lanes`, keeping what is larger.
  template <class V>
  __aicore__ inline i64 fold(const LocalTensor<V>& v, i64 n, i64 lanes) {
    const i64 half = alignUp(ceilDiv(n, 2), lanes);
    Max(v, v, v[half], static_cast<int32_t>(n - half));
    return half;
  }

  __aicore__ inline void indices(TPipe& pipe, Range rows, const GlobalBytes& y) {
    const auto out = list_.template Get<i64>()[kList];  // half of the list for each
    for (i64 r = rows.begin; r < rows.end; ++r) {
      Found best = bestOf(pipe, r);
      load(r * tiles_ + best.tile);
      auto x = ins_.template DeQue<T>();
      const i64 place = placeOf(pipe, x, length(r * tiles_ + best.tile), best);
      ins_.FreeTensor(x);
      const i64 at = (r - rows.begin) % kList;
      out.SetValue(static_cast<uint32_t>(at), best.tile * kTile + place);
      if (at + 1 == kList || r + 1 == rows.end) {
        order<HardEvent::S_MTE3>(pipe);
        storeRows(y[(r - at) * 8], out.template ReinterpretCast<uint8_t>(), 1, (at + 1) * 8);
        order<HardEvent::MTE3_S>(pipe);
      }
    }
  }
  using Value = typename Std::conditional<sizeof(T) == 8, int32_t, float>::type;
  struct Found {
    i64 tile;
    Value value;
    bool nan;
  };
  /// The first tile that has the largest element of row r, or the first with a NaN.
  __aicore__ inline Found bestOf(TPipe& pipe, i64 r) {
    constexpr i64 kWindow = kList / 4;
    const auto list = list_.template Get<Value>();
    Found best{-1, 0, false};
    for (i64 w = 0; w < tiles_ && !best.nan; w += kWindow) {
      const i64 n = least(kWindow, tiles_ - w);
      order<HardEvent::S_MTE2>(pipe);
      loadRows(list_.template Get<uint8_t>(), found_[(r * tiles_ + w) * kFound], 1, n * kFound);
      order<HardEvent::MTE2_S>(pipe);
      for (i64 t = 0; t < n && !best.nan; ++t) {
        Value v = list.GetValue(static_cast<uint32_t>(t * kFound / 4));
        if constexpr (sizeof(T) == 8) {
          for (i64 k = 1; k < 8; ++k) {
            const Value o = list.GetValue(static_cast<uint32_t>(t * 8 + k));
            if (o > v) v = o;
          }
        } else {
          best.nan = list.GetValue(static_cast<uint32_t>(t * kFound / 4 + 1)) > 0;
        }
        if (best.tile < 0 || best.nan || v > best.value) {
          best.tile = w + t;
          best.value = v;
        }
      }
    }
    return best;
  }
  /// Where the value, or a NaN, is first in x [n].
  __aicore__ inline i64 placeOf(TPipe& pipe, const LocalTensor<T>& x, i64 n, const Found& best) {
    const auto v = values(x, n);
    const auto mask = mask_.template Get<uint8_t>();
    i64 left = alignUp(n, 64);
    const uint32_t count = static_cast<uint32_t>(left);
    if constexpr (sizeof(T) == 8) {
      Compares(mask, v, best.value, CMPMODE::EQ, count);
    } else {
      if (best.nan)
        Compare(mask, v, v, CMPMODE::NE, count);
      else
        Compares(mask, v, best.value, CMPMODE::EQ, count);
    }
    // kTile - i: the first is the largest.
    const auto rank = places_.template Get<float>();
    CreateVecIndex(rank, -static_cast<float>(kTile), count);
    Muls(rank, rank, -1.0f, static_cast<int32_t>(left));
    Select(rank, mask, rank, 0.0f, SELMODE::VSEL_TENSOR_SCALAR_MODE, count);
    while (left > 64) left = fold(rank, left, 64);
    ReduceRepeat<ReduceType::MAX>(rank, rank, 64, 1, 1, 1, 8, ReduceOrder::ORDER_ONLY_VALUE);
    order<HardEvent::V_S>(pipe);
    return kTile - static_cast<int32_t>(rank.GetValue(0));
  }

  GlobalBytes x_, found_;
  i64 cols_, tiles_;
  TQue<TPosition::VECIN, 2> ins_;  // two are on their way
  TBuf<TPosition::VECCALC> words_, places_, mask_, list_, sign_;
};

/// argmax of rows of any length; see ArgMax::run.
template <class T>
__aicore__ inline void argmax(TPipe& pipe, Team team, GM_ADDR x, i64 rows, i64 cols, GM_ADDR y,
                              GM_ADDR workspace) {
  if (cols <= kSortTile) return sortShort<T>(pipe, team, x, rows, cols, 1, true, y, y, false);
  ArgMax<T> work;
  work.run(pipe, team, x, rows, cols, y, workspace);
}

}  // namespace xc
