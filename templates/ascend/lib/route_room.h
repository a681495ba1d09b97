// What routing is compiled for, where it keeps things in UB, and what is the same for all rows.
#pragma once
#include "common.h"

namespace xc {

/// What a router is: one of three scores, and what applies of the rest.
struct Routing {
  enum : int32_t {
    kSoftmax = 0,        // over all experts
    kSigmoid = 1,        // of each logit
    kSoftmaxOfBest = 2,  // scores are logits, weights the softmax of those chosen
    kScore = 3,
    kTop2 = 4,       // a group is as good as the sum of its best two, else as its best
    kBias = 8,       // is added to the scores for the choice
    kMask = 16,      // experts of other groups score `mask` and may be chosen, else they may not
    kWithBias = 32,  // weights are what was compared, else the scores
    kRenorm = 64,    // weights are divided by max(sum + eps, floor)
  };
};

/// logits [rows, experts], rows ld elements apart; bias [experts]; weight [rows, k], expert int64.
struct RouteArgs {
  GM_ADDR logits;
  i64 ld;
  GM_ADDR bias;
  GM_ADDR weight;
  GM_ADDR expert;
  i64 rows;
  float mask, eps, floor, scale;
};

/// The bits of -inf.
template <class U>
struct Low {
  using Type = typename Std::conditional<sizeof(U) == 2, uint16_t, uint32_t>::type;
  static constexpr uint32_t kSmall = Std::is_same<U, half>::value ? 0xfc00 : 0xff80;
  static constexpr Type kBits = static_cast<Type>(sizeof(U) == 4 ? 0xff800000 : kSmall);
};

/// T, B, W: types of logits, bias, weights. C: what scores and weights are rounded to on the way.
/// E experts in G groups, of which the best `keep` are looked at; K are chosen.
template <class TT, class BB, class CC, class WW, int32_t E, int32_t K, int32_t G, int32_t keep,
          int32_t flags>
struct RouteSpec {
  using T = TT;
  using B = BB;
  using C = CC;
  using W = WW;
  static constexpr int32_t kExperts = E, kTop = K, kGroups = G, kKeep = keep, kFlags = flags;
  static constexpr int32_t kSize = E / G;              // experts of a group
  static constexpr int32_t kEach = (kSize + 31) / 32;  // lists of a group
  static constexpr int32_t kLists = G * kEach;
  static constexpr int32_t kWidth = kLists * 32;  // slots of a row
  static constexpr uint8_t kStep = kWidth / 8;    // the same in blocks
  static constexpr bool kGaps = kSize != kEach * 32;
  static constexpr bool kGrouped = G > keep;
  static constexpr bool kMasked = kGrouped && (flags & Routing::kMask) != 0;
  static constexpr bool kPicked = kGrouped && !kMasked;  // lists are fetched by group
  static constexpr int32_t kPairs = K <= 8 ? 8 : 16;     // pairs that matter of a list
  static constexpr int32_t kBlocks = kPairs / 4;         // the same in blocks
  static constexpr int32_t kQueues = kPicked ? keep * kEach : kLists;
  static constexpr int32_t kSlots = (kQueues + 3) / 4 * 4;  // queues to merge, four by four
  static constexpr int32_t kFetch = kSlots * kBlocks;       // blocks to fetch of a row
  static constexpr bool kMerge = kPicked || kLists > 1;
  static constexpr int32_t kReach = kMerge ? 4 * kPairs : 32;  // pairs of the final list
  static constexpr int32_t kGroups8 = (G + 7) / 8 * 8;
  static constexpr int32_t kPitch = sizeof(W) == 4 ? kPairs : 16;  // of a row of weights in UB
  static constexpr int32_t kScoring = flags & Routing::kScore;
  static constexpr bool kAdds = (flags & Routing::kBias) != 0;
  // Pads are -inf by themselves only behind a bias that has them so, and in logits.
  static constexpr bool kPads =
      kGaps && (kMasked || (!kAdds && kScoring != Routing::kSoftmaxOfBest));
  static constexpr bool kGather = (kAdds || kMasked) && (flags & Routing::kWithBias) == 0;
  static constexpr bool kInPlace = sizeof(T) == 4 && kScoring != Routing::kSoftmaxOfBest;
  static constexpr bool kNarrow = sizeof(C) == 2;
  static constexpr bool kNarrowChoice = kNarrow && (!kAdds || sizeof(B) == 2);
  static constexpr bool kNarrowWeight = kGather ? kNarrow : kNarrowChoice;

  // UB: queues and floats, of a row and in all
  static constexpr int32_t kQueueBytes =
      2 * (kWidth * static_cast<int32_t>(sizeof(T)) + kPitch * static_cast<int32_t>(sizeof(W)) +
           kPairs * 8);
  static constexpr int32_t kRowFloats =
      (kInPlace ? 3 : 4) * kWidth + (kMerge ? 4 * kSlots * kPairs + 3 * kFetch + 4 * kBlocks : 0) +
      (kGrouped ? 160 + kGroups8 + (kMasked ? 32 : 0) + (kEach > 1 ? 64 : 0) : 0) + 2 * kReach +
      2 * kPairs + 18;
  static constexpr int32_t kIdRows = kWidth < 256 ? 1024 / kWidth : 4;
  static constexpr int32_t kFloats = (3 + kIdRows) * kWidth + 512;
  static constexpr int32_t kUb = 184 * 1024;
  static constexpr int32_t kFit = (kUb - 4 * kFloats) / (kQueueBytes + 4 * kRowFloats);
  // rows of a tile: as many as fit, and as the repeats of one instruction can fetch
  static constexpr int32_t kMost = 2040 / kFetch < kFit ? 2040 / kFetch : kFit;
  static constexpr int32_t kRows = kMost >= 64 ? 64 : kMost / 8 * 8;
  static_assert(E % G == 0 && K <= keep * kSize, "fewer experts than are chosen");
  static_assert(kRows >= 8 && K <= 16 && G <= 32 && kQueues <= 16, "too large a router");
  static_assert(sizeof(B) == 4 || kWidth <= 2 * kRows * kReach, "too large a bias");
};

/// Places in UB, and constants.
template <class S>
struct RouteRoom {
  using Floats = LocalTensor<float>;
  using Ints = LocalTensor<int32_t>;
  using Words = LocalTensor<uint32_t>;
  using B = typename S::B;
  static constexpr int32_t kRows = S::kRows;

  // [rows, width]: scores, what is compared; of pairs the sorted lists
  Floats s, choice, pairs;
  // [width]: slots as byte offsets, bias, 0 or -inf, expert of a slot
  Floats ids, bias, pad, slotId;
  // queues to merge, merged; byte offsets of the blocks of queues, parts of them, of merged queues
  Floats lists, merged, from, base, first, again;
  // [rows, 32] of groups: sorted, -group, score, chosen; [rows, 8 n] byte offsets of their best
  Floats groupPairs, groupIds, groupScore, order, top, keep, spread, spare;
  // [rows, reach]: the final lists; [rows, pairs]: weights, offsets; [rows, 8]: of rows
  Floats value, slot, w, e, row, wide, sum, sum2;

  __aicore__ static inline Ints ints(const Floats& t) {
    return t.template ReinterpretCast<int32_t>();
  }
  __aicore__ static inline Words words(const Floats& t) {
    return t.template ReinterpretCast<uint32_t>();
  }
  template <class U>
  __aicore__ static inline void fillLow(const LocalTensor<U>& t, int32_t n) {
    Duplicate(t.template ReinterpretCast<typename Low<U>::Type>(), Low<U>::kBits, n);
  }

  /// Takes what the queues leave; to be called first, for alignment to 256 bytes.
  __aicore__ inline void layOut(TPipe& pipe) {
    pipe.InitBuffer(work_, S::kUb - kRows * S::kQueueBytes);
    pairs = take(2 * kRows * S::kWidth);
    s = take(kRows * S::kWidth);
    if constexpr (!S::kInPlace) choice = take(kRows * S::kWidth);
    value = take(kRows * S::kReach);
    slot = take(kRows * S::kReach);
    if constexpr (S::kGrouped) {
      groupPairs = take(kRows * 64);
      groupScore = take(kRows * 32);
      order = take(kRows * 32);
      groupIds = take(kRows * 32);
      top = take(kRows * S::kGroups8);
      if constexpr (S::kMasked) keep = take(kRows * 32);
      if constexpr (S::kEach > 1) {
        spread = take(kRows * 32);
        spare = take(kRows * 32);
      }
    }
    if constexpr (S::kMerge) {
      lists = take(2 * kRows * S::kSlots * S::kPairs);
      merged = take(2 * kRows * S::kSlots * S::kPairs);
      from = take(kRows * S::kFetch);
      base = take(kRows * S::kFetch);
      first = take(kRows * S::kFetch);
      again = take(kRows * 4 * S::kBlocks);
    }
    w = take(kRows * S::kPairs);
    e = take(kRows * S::kPairs);
    row = take(kRows * 8);
    wide = take(kRows * 8);
    sum = take(kRows);
    sum2 = take(kRows);
    ids = take(S::kIdRows * S::kWidth);
    bias = take(S::kWidth);
    pad = take(S::kWidth);
    slotId = take(S::kWidth);
    line_ = take(256);
    lows_ = at_;
    take(8);
  }

  /// n rows in GM to lists in UB. Of pads, those of a group's last block are written.
  template <class U>
  __aicore__ static inline void load(const LocalTensor<U>& dst, GM_ADDR src, i64 n, i64 ld) {
    using R = typename Low<U>::Type;
    constexpr bool byGroup = S::kGaps && S::kGroups > 1;
    constexpr uint32_t items = byGroup ? S::kSize : S::kExperts, bytes = items * sizeof(U);
    constexpr uint32_t slots = byGroup ? S::kEach * 32 : S::kWidth, whole = (bytes + 31) / 32;
    constexpr uint32_t gap = slots * sizeof(U) / 32 - whole;
    constexpr uint8_t pads = (whole * 32 - bytes) / sizeof(U);
    const DataCopyPadExtParams<R> fill{pads != 0, 0, pads, Low<U>::kBits};
    const auto to = dst.template ReinterpretCast<R>();
    const auto in = global<R>(src);
    if (byGroup && ld != S::kExperts) {
      const DataCopyExtParams p{S::kGroups, bytes, 0, gap, 0};
      for (i64 r = 0; r < n; ++r) DataCopyPad(to[r * S::kWidth], in[r * ld], p, fill);
      return;
    }
    const DataCopyExtParams p{static_cast<uint16_t>(byGroup ? n * S::kGroups : n), bytes,
                              static_cast<uint32_t>((ld - S::kExperts) * sizeof(U)), gap, 0};
    DataCopyPad(to, in, p, fill);
  }

  __aicore__ inline void constants(TPipe& pipe, GM_ADDR biasInGm) {
    const auto raw = (sizeof(B) == 4 ? bias : slot).template ReinterpretCast<B>();
    [[maybe_unused]] event_t loaded;
    if constexpr (S::kAdds) {
      if constexpr (S::kGaps) {
        fillLow(raw, S::kWidth);
        xc::order<HardEvent::V_MTE2>(pipe);
      }
      load<B>(raw, biasInGm, 1, S::kExperts);
      loaded = static_cast<event_t>(pipe.AllocEventID<HardEvent::MTE2_V>());
      SetFlag<HardEvent::MTE2_V>(loaded);
    }
    for (int32_t r = 0; r < S::kIdRows; ++r)
      CreateVecIndex(ints(ids)[r * S::kWidth], int32_t(0), S::kWidth);
    CreateVecIndex(ints(sum), int32_t(0), kRows);
    Muls(ints(ids), ints(ids), int32_t(4), S::kIdRows * S::kWidth);
    Brcb(ints(wide), ints(sum), kRows / 8, {1, 8});
    if constexpr (S::kGather) Muls(ints(row), ints(wide), S::kWidth * 4, kRows * 8);
    if constexpr (S::kMerge) fillLow(place(lows_), 8);
    if constexpr (S::kMerge || S::kGrouped) offsets(pipe);
    if constexpr (S::kGaps) {
      for (int32_t g = 0; g < S::kGroups; ++g)
        CreateVecIndex(ints(slotId)[g * S::kEach * 32], g * S::kSize, S::kEach * 32);
      Mins(ints(slotId), ints(slotId), S::kExperts - 1, S::kWidth);
    }
    if constexpr (S::kPads) {
      fillLow(pad, S::kWidth);
      for (int32_t g = 0; g < S::kGroups; ++g) Duplicate(pad[g * S::kEach * 32], 0.0f, S::kSize);
    }
    // rows that were never computed are read along with others
    Duplicate(w, 0.0f, kRows * S::kPairs);
    Duplicate(sum, 0.0f, kRows);
    Duplicate(sum2, 0.0f, kRows);
    if constexpr (S::kAdds) {
      WaitFlag<HardEvent::MTE2_V>(loaded);
      pipe.ReleaseEventID<HardEvent::MTE2_V>(loaded);
      if constexpr (sizeof(B) == 2) Cast(bias, raw, RoundMode::CAST_NONE, S::kWidth);
    }
  }

 private:
  __aicore__ inline Floats place(int32_t at) { return work_.template Get<float>()[at]; }
  __aicore__ inline Floats take(int32_t floats) {
    const int32_t at = at_;
    at_ += (floats + 7) / 8 * 8;
    return place(at);
  }
  /// Byte offsets. The scalar unit writes those of one row, the vector unit all.
  __aicore__ inline void offsets(TPipe& pipe) {
    const Ints far = ints(w), near = ints(e);
    const Ints ofBlock = ints(line_), ofGroup = ints(line_[64]), ofMerged = ints(line_[128]);
    const Ints ofTop = ints(line_[192]);
    if constexpr (S::kMerge) {
      for (int32_t q = 0; q < S::kSlots; ++q)
        for (int32_t b = 0; b < S::kBlocks; ++b) {
          const uint32_t j = q * S::kBlocks + b;
          ofBlock.SetValue(j, (S::kPicked ? q % S::kEach : q) * 256 + b * 32);
          if (S::kPicked) ofGroup.SetValue(j, (q < S::kQueues ? q / S::kEach : 0) * 8);
          if (S::kSlots > 4 && q < 4) ofMerged.SetValue(j, q * S::kPairs * 32 + b * 32);
        }
    }
    if constexpr (S::kMasked && S::kEach > 1) {
      for (int32_t q = 0; q < 32; ++q) ofGroup.SetValue(q, q / S::kEach * 4);
    }
    Muls(far, ints(wide), S::kWidth * 8, kRows * 8);
    Muls(near, ints(wide), 256, kRows * 8);
    if constexpr (S::kGrouped) groups(far, ofTop);
    xc::order<HardEvent::S_V>(pipe);
    if constexpr (S::kMerge) {
      byRows(S::kPicked ? base : from, far, ofBlock, S::kFetch);
      toLows(from, S::kFetch, S::kQueues * S::kBlocks, pairs);
      if constexpr (S::kPicked) byRows(first, near, ofGroup, S::kFetch);
      if constexpr (S::kSlots > 4) {
        Muls(far, ints(wide), S::kSlots * S::kPairs * 8, kRows * 8);
        byRows(again, far, ofMerged, 4 * S::kBlocks);
        toLows(again, 4 * S::kBlocks, S::kSlots / 4 * S::kBlocks, merged);
      }
    }
    if constexpr (S::kMasked && S::kEach > 1) {
      Muls(near, ints(wide), 128, kRows * 8);
      byRows(spread, near, ofGroup, 32);
    }
  }
  __aicore__ inline void groups(const Ints& far, const Ints& line) {
    CreateVecIndex(line, int32_t(0), 32);
    Mins(line, line, S::kGroups - 1, 32);
    Cast(value, line, RoundMode::CAST_RINT, 32);
    Muls(line, line, S::kEach * 256, 32);
    Muls(value, value, -1.0f, 32);  // -group goes along with a group's score
    byRows(top, far, line, S::kGroups8);
    Copy(groupIds, value, 32, kRows, {1, 1, 4, 0});
    fillLow(groupScore, kRows * 32);
    fillLow(order, kRows * 32);
    if constexpr (S::kMasked) {  // by rank: bits of the lanes of a list
      Duplicate(words(slot), uint32_t(0), 32);
      Duplicate(words(slot), uint32_t(0xffffffff), S::kKeep);
      Copy(keep, slot, 32, kRows, {1, 1, 4, 0});
    }
  }
  /// dst[r, j] = rows[r, any] + line[j], j < width <= 64
  __aicore__ static inline void byRows(const Floats& dst, const Ints& rows, const Ints& line,
                                       int32_t width) {
    Add(ints(dst), rows, line, width, kRows, {1, 0, 1, static_cast<uint8_t>(width / 8), 1, 0});
  }
  /// Lanes begin .. width-1 < 64 of each row lead from the beginning of `origin` to pads.
  __aicore__ inline void toLows(const Floats& dst, int32_t width, int32_t begin,
                                const Floats& origin) {
    if (begin == width) return;
    const int32_t bytes = static_cast<int32_t>(place(lows_).GetPhyAddr() - origin.GetPhyAddr()) * 4;
    uint64_t lanes[2] = {(~uint64_t(0) << begin) & (~uint64_t(0) >> (64 - width)), 0};
    Duplicate(ints(dst), bytes, lanes, kRows, 1, static_cast<uint8_t>(width / 8));
  }

  TBuf<TPosition::VECCALC> work_;
  Floats line_;
  int32_t at_ = 0, lows_ = 0;
};
}  // namespace xc
