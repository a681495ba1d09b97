// Routing of a mixture of experts: from each row of logits k experts and their weights.
//
// A row lies in UB as lists of 32 scores, one or more of them per group of experts; what a group
// does not fill is -inf. Sort32 sorts every list, which also gives the groups' best scores. The
// best groups' lists, as far as k reaches, are fetched by block in the order of their experts and
// merged. Both sorts put the first of equal scores first, so ties go to the lower expert.
#pragma once
#include "route_room.h"

namespace xc {

template <class S>
class Router {
  using T = typename S::T;
  using W = typename S::W;
  using Room = RouteRoom<S>;
  using Floats = typename Room::Floats;
  static constexpr int32_t kRows = S::kRows, kWidth = S::kWidth, kPairs = S::kPairs;

 public:
  __aicore__ inline void run(TPipe& pipe, Team team, const RouteArgs& args) {
    const Range mine = split(args.rows, team);
    if (mine.size() <= 0) return;
    a_ = args;
    m_.layOut(pipe);
    pipe.InitBuffer(in_, 2, kRows * kWidth * sizeof(T));
    pipe.InitBuffer(outW_, 2, kRows * S::kPitch * sizeof(W));
    pipe.InitBuffer(outE_, 2, kRows * kPairs * sizeof(i64));
    if constexpr (S::kGaps) fillInputs();
    fetch(mine.begin, least(kRows, mine.size()));
    m_.constants(pipe, a_.bias);
    for (i64 r = mine.begin; r < mine.end; r += kRows) {
      const int32_t n = static_cast<int32_t>(least(kRows, mine.end - r));
      auto in = in_.template DeQue<T>();
      if (r + kRows < mine.end) fetch(r + kRows, least(kRows, mine.end - r - kRows));
      if constexpr (S::kInPlace) m_.choice = in.template ReinterpretCast<float>();
      const Floats s = scores(in, n), choice = choices(s, n);
      sortRows(choice, n);
      if constexpr (S::kGrouped) chooseGroups(choice, n);
      chooseExperts(n);
      weights(s, n);
      in_.FreeTensor(in);
      experts(n);
      store(r, n);
    }
  }

 private:
  __aicore__ static inline auto ints(const Floats& t) { return Room::ints(t); }
  __aicore__ static inline auto words(const Floats& t) { return Room::words(t); }

  // -- in and out ---------------------------------------------------------------------------------
  __aicore__ inline void fetch(i64 row, i64 n) {
    const auto in = in_.template AllocTensor<T>();
    Room::load(in, a_.logits + row * a_.ld * sizeof(T), n, a_.ld);
    in_.EnQue(in);
  }
  /// Pads that no transfer writes keep their value in both buffers.
  __aicore__ inline void fillInputs() {
    auto a = in_.template AllocTensor<T>(), b = in_.template AllocTensor<T>();
    Room::fillLow(a, kRows * kWidth);
    Room::fillLow(b, kRows * kWidth);
    in_.FreeTensor(a);
    in_.FreeTensor(b);
  }
  template <class U>
  __aicore__ static inline void toRows(GM_ADDR dst, const LocalTensor<U>& src, i64 row, int32_t n,
                                       int32_t pitch) {
    constexpr uint32_t bytes = S::kTop * sizeof(U), whole = (bytes + 31) / 32;
    const bool dense = pitch == S::kTop;
    const uint32_t gap = static_cast<uint32_t>(pitch * sizeof(U)) / 32 - whole;
    const DataCopyExtParams p{static_cast<uint16_t>(dense ? 1 : n), dense ? n * bytes : bytes,
                              dense ? 0 : gap, 0, 0};
    DataCopyPad(global<U>(dst)[row * S::kTop], src, p);
  }
  __aicore__ inline void store(i64 row, int32_t n) {
    auto w = outW_.template DeQue<W>();
    toRows(a_.weight, w, row, n, S::kPitch);
    outW_.FreeTensor(w);
    auto e = outE_.template DeQue<i64>();
    toRows(a_.expert, e, row, n, kPairs);
    outE_.FreeTensor(e);
  }

  // -- scores -------------------------------------------------------------------------------------
  template <bool kOn>
  __aicore__ static inline void rounded(const Floats& y, const Floats& x, const Floats& spare,
                                        int32_t n) {
    if constexpr (kOn) {
      const auto narrow = spare.template ReinterpretCast<typename S::C>();
      Cast(narrow, x, RoundMode::CAST_RINT, n);
      Cast(y, narrow, RoundMode::CAST_NONE, n);
    }
  }
  __aicore__ inline Floats scores(const LocalTensor<T>& in, int32_t n) {
    const int32_t all = n * kWidth;
    const Floats s = m_.s;
    Floats x = s;
    if constexpr (sizeof(T) == 2) {
      Cast(s, in, RoundMode::CAST_NONE, all);
    } else if constexpr (S::kNarrow) {
      rounded<true>(s, in, m_.pairs, all);
    } else {
      x = in;
    }
    if constexpr (S::kScoring == Routing::kSoftmaxOfBest) return x;
    // as torch does, for scores to be equal, 0 and 1 where its are
    if constexpr (S::kScoring == Routing::kSigmoid) {
      Muls(m_.pairs, x, -1.0f, all);
      Exp(m_.pairs, m_.pairs, all);
      Duplicate(s, 1.0f, all);
      Adds(m_.pairs, m_.pairs, 1.0f, all);
      Div(s, s, m_.pairs, all);
    } else {
      fold<ReduceType::MAX>(x, n);
      for (int32_t c = 0; c < kWidth; c += 64)
        Sub(s[c], x[c], m_.wide, lanesFrom(c), n, {1, 1, 0, S::kStep, S::kStep, 1});
      Exp(s, s, all);
      fold<ReduceType::SUM>(s, n);
      for (int32_t c = 0; c < kWidth; c += 64)
        Div(s[c], s[c], m_.wide, lanesFrom(c), n, {1, 1, 0, S::kStep, S::kStep, 1});
    }
    rounded<S::kNarrow>(s, s, m_.pairs, all);
    return s;
  }
  __aicore__ static inline int32_t lanesFrom(int32_t c) {
    return kWidth - c < 64 ? kWidth - c : 64;
  }
  /// wide[r, 8] = each row's sum or maximum, through pairs.
  template <ReduceType kKind>
  __aicore__ inline void fold(const Floats& x, int32_t n) {
    constexpr int32_t part = kWidth % 64 == 0 ? 64 : 32;
    constexpr uint8_t step = part / 8;
    Floats y = x;
    for (int32_t c = part; c < kWidth; c += part) {
      const BinaryRepeatParams p{1, 1, 1, step, c == part ? S::kStep : step, S::kStep};
      join<kKind>(m_.pairs, y, x[c], part, n, p);
      y = m_.pairs;
    }
    ReduceRepeat<kKind>(m_.sum, y, part, n, 1, 1, kWidth > part ? step : S::kStep,
                        ReduceOrder::ORDER_ONLY_VALUE);
    perRow(n);
  }
  /// wide[r, 8] = sum[r]
  __aicore__ inline void perRow(int32_t n) { Brcb(m_.wide, m_.sum, (n + 7) / 8, {1, 8}); }
  template <ReduceType kKind>
  __aicore__ static inline void join(const Floats& z, const Floats& x, const Floats& y,
                                     uint64_t lanes, uint8_t n, const BinaryRepeatParams& p) {
    if constexpr (kKind == ReduceType::MAX)
      Max(z, x, y, lanes, n, p);
    else
      Add(z, x, y, lanes, n, p);
  }
  __aicore__ inline Floats choices(const Floats& s, int32_t n) {
    if constexpr (!S::kAdds && !S::kPads) return s;
    addLine(m_.choice, s, S::kAdds ? m_.bias : m_.pad, n);
    rounded<S::kNarrowChoice && S::kAdds>(m_.choice, m_.choice, m_.pairs, n * kWidth);
    return m_.choice;
  }
  __aicore__ static inline void addLine(const Floats& y, const Floats& x, const Floats& line,
                                        int32_t n) {
    for (int32_t c = 0; c < kWidth; c += 64)
      Add(y[c], x[c], line[c], lanesFrom(c), n, {1, 1, 1, S::kStep, S::kStep, 0});
  }

  // -- choice -------------------------------------------------------------------------------------
  __aicore__ inline void sortRows(const Floats& choice, int32_t n) {
    constexpr int32_t some = S::kIdRows;
    for (int32_t r = 0; r < n; r += some)
      Sort32(m_.pairs[2 * r * kWidth], choice[r * kWidth], words(m_.ids),
             (n - r < some ? n - r : some) * S::kLists);
  }
  __aicore__ inline void chooseGroups(const Floats& choice, int32_t n) {
    const int32_t all = n * S::kGroups8;
    const auto at = words(m_.top);
    const Floats hi = m_.value, lo = m_.slot, h = m_.groupPairs, l = m_.groupPairs[kRows * 32];
    for (int32_t k = 0; k < S::kEach; ++k) {
      Gather(k == 0 ? hi : h, m_.pairs, at, k * 256, all);
      if constexpr ((S::kFlags & Routing::kTop2) != 0) {
        Gather(k == 0 ? lo : l, m_.pairs, at, k * 256 + 8, all);
        if (k > 0) {
          Max(lo, lo, l, all);
          Min(m_.spare, hi, h, all);
          Max(lo, lo, m_.spare, all);
        }
      }
      if (k > 0) Max(hi, hi, h, all);
    }
    if constexpr ((S::kFlags & Routing::kTop2) != 0) {
      Add(hi, hi, lo, all);
      rounded<S::kNarrowChoice>(hi, hi, h, all);
    }
    Copy(m_.groupScore, hi, S::kGroups, n, {1, 1, 4, S::kGroups8 / 8});
    Sort32(m_.groupPairs, m_.groupScore, words(m_.groupIds), n);
    Extract(hi, words(lo), m_.groupPairs, n);
    // A second sort puts the groups back in order; with them go the bits of their ranks.
    Copy(m_.order, lo, S::kPicked ? S::kKeep : S::kGroups, n, {1, 1, 4, 4});
    Sort32(m_.groupPairs, m_.order, words(S::kPicked ? m_.groupIds : m_.keep), n);
    if constexpr (S::kPicked) {
      const int32_t blocks = n * S::kFetch;
      constexpr uint8_t step = S::kFetch / 8;
      Gather(m_.value, m_.groupPairs, words(m_.first), 0, blocks);
      Muls(m_.value, m_.value, -256.0f * S::kEach, blocks);
      Cast(ints(m_.slot), m_.value, RoundMode::CAST_RINT, blocks);
      Add(ints(m_.from), ints(m_.slot), ints(m_.base), S::kQueues * S::kBlocks, n,
          {1, 1, 1, step, step, step});
    } else {
      Extract(hi, words(lo), m_.groupPairs, n);
      if constexpr (S::kEach > 1) Gather(m_.spare, lo, words(m_.spread), 0, n * 32);
      for (int32_t r = 0; r < n; ++r)
        Select(m_.choice[r * kWidth], words(S::kEach > 1 ? m_.spare : lo)[r * 32],
               choice[r * kWidth], a_.mask, SELMODE::VSEL_TENSOR_SCALAR_MODE, kWidth);
      if constexpr (S::kPads) addLine(m_.choice, m_.choice, m_.pad, n);
      sortRows(m_.choice, n);
    }
  }
  /// value, slot [n, reach]: what was compared, descending, and where it is in a row.
  __aicore__ inline void chooseExperts(int32_t n) {
    if constexpr (S::kMerge) {
      Gatherb(words(m_.lists), words(m_.pairs), words(m_.from), n * S::kFetch / 8, {1, 8});
      merge(n * S::kSlots / 4);
      if constexpr (S::kSlots > 4) {
        Gatherb(words(m_.lists), words(m_.merged), words(m_.again), n * S::kBlocks / 2, {1, 8});
        merge(n);
      }
    }
    Extract(m_.value, words(m_.slot), S::kMerge ? m_.merged : m_.pairs, n * S::kReach / 32);
  }
  __aicore__ inline void merge(int32_t times) {
    MrgSort4Info info;
    for (int32_t q = 0; q < 4; ++q) info.elementLengths[q] = kPairs;
    info.ifExhaustedSuspension = false;
    info.validBit = 15;
    info.repeatTimes = static_cast<uint8_t>(times);
    const Floats& q = m_.lists;
    MrgSort(m_.merged, MrgSortSrcList<float>(q, q[2 * kPairs], q[4 * kPairs], q[6 * kPairs]), info);
  }

  // -- results ------------------------------------------------------------------------------------
  __aicore__ inline void weights(const Floats& s, int32_t n) {
    constexpr uint8_t step = kPairs / 8, reach = S::kReach / 8;
    constexpr bool narrow = S::kNarrowWeight;
    const int32_t all = n * kPairs;
    const Floats w = m_.w, sum = m_.sum;
    if constexpr (S::kGather) {
      Add(ints(m_.e), ints(m_.slot), ints(m_.row), kPairs, n, {1, 1, 0, step, reach, 1});
      Gather(w, s, words(m_.e), 0, all);
    } else {
      Copy(w, m_.value, kPairs, n, {1, 1, step, reach});
    }
    if constexpr (S::kScoring == Routing::kSoftmaxOfBest) {
      ofChosen<ReduceType::MAX>(n);
      perRow(n);
      Sub(w, w, m_.wide, kPairs, n, {1, 1, 0, step, step, 1});
      Exp(w, w, all);
      ofChosen<ReduceType::SUM>(n);
      perRow(n);
      Div(w, w, m_.wide, kPairs, n, {1, 1, 0, step, step, 1});
      rounded<narrow>(w, w, m_.value, all);
    }
    if constexpr ((S::kFlags & Routing::kRenorm) != 0) {
      ofChosen<ReduceType::SUM>(n);
      rounded<narrow>(sum, sum, m_.sum2, n);
      Adds(sum, sum, a_.eps, n);
      rounded<narrow>(sum, sum, m_.sum2, n);
      Maxs(sum, sum, a_.floor, n);
      perRow(n);
      Div(w, w, m_.wide, kPairs, n, {1, 1, 0, step, step, 1});
      rounded<narrow>(w, w, m_.value, all);
    }
    const auto out = outW_.template AllocTensor<W>();
    if constexpr (sizeof(W) == 4 && !narrow) {
      Muls(out, w, a_.scale, all);
    } else {
      Muls(w, w, a_.scale, all);
      rounded<narrow>(w, w, m_.value, all);
      if constexpr (sizeof(W) == 4)
        Copy(out, w, kPairs, n, {1, 1, step, step});
      else
        Cast(out, w, RoundMode::CAST_RINT, kPairs, n, {1, 1, 1, step});
    }
    outW_.EnQue(out);
  }
  /// sum[r] = the sum or the maximum of a row's weights.
  template <ReduceType kKind>
  __aicore__ inline void ofChosen(int32_t n) {
    constexpr bool two = S::kTop > 8;  // blocks
    constexpr int32_t step = two ? 2 : 1, last = two ? S::kTop - 8 : S::kTop;
    const int32_t times = (n + 7) / 8;
    uint64_t lanes[2] = {~uint64_t(0), 0};
    if constexpr (two) ReduceDataBlock<kKind>(m_.sum2, m_.w, lanes, times, 1, step, 8 * step);
    lanes[0] = 0x0101010101010101u * ((1u << last) - 1);
    ReduceDataBlock<kKind>(m_.sum, two ? m_.w[8] : m_.w, lanes, times, 1, step, 8 * step);
    if constexpr (two) join<kKind>(m_.sum, m_.sum, m_.sum2, 8, times, {1, 1, 1, 1, 1, 1});
  }
  __aicore__ inline void experts(int32_t n) {
    constexpr uint8_t step = kPairs / 8, reach = S::kReach / 8;
    auto id = ints(m_.e);
    if constexpr (S::kGaps) {
      Copy(m_.e, m_.slot, kPairs, n, {1, 1, step, reach});
      id = ints(m_.value);
      Gather(id, ints(m_.slotId), words(m_.e), 0, n * kPairs);
    } else {
      ShiftRight(id, ints(m_.slot), int32_t(2), kPairs, n, {1, 1, step, reach});
    }
    const auto out = outE_.template AllocTensor<i64>();
    Cast(out, id, RoundMode::CAST_NONE, n * kPairs);
    outE_.EnQue(out);
  }

  RouteArgs a_;
  Room m_;
  TQue<TPosition::VECIN, 1> in_;
  TQue<TPosition::VECOUT, 1> outW_, outE_;
};

/// k experts and their weights for each row of logits. Vector cores. T, B, W: types of logits, bias
/// and weights; C: what scores and weights are rounded to on the way.
template <class T, class B, class C, class W, int32_t kExperts, int32_t kTop, int32_t kGroups,
          int32_t kKeep, int32_t kFlags>
__aicore__ inline void route(TPipe& pipe, Team team, const RouteArgs& args) {
  Router<RouteSpec<T, B, C, W, kExperts, kTop, kGroups, kKeep, kFlags>> router;
  router.run(pipe, team, args);
}
}  // namespace xc
