// MLA, the form of each request: absorbed or expanded, and where the tokens of either lie.
#pragma once
#include "attention_source.h"

namespace xc {

/// n new tokens after b cached ones would save pairs * saved - b * extra if they were expanded,
/// with pairs = n b + n (n + 1) / 2. They are if that is positive, n >= fewest, and their keys are
/// at most `most`; but none is if all of them save less than `fixed`, unless nothing is absorbed.
/// See mla_attention.py.
struct MlaRule {
  i64 fewest, saved, extra, fixed, most;
};

/// The requests of a step. What they are follows from lengths in memory, so all cores agree on it.
struct MlaRequests : PagedSource {
  MlaRule rule;
  bool never;

  /// Whether expanding pays at all; before any other question.
  __aicore__ inline void decide() {
    i64 total = 0;
    bool mixed = false;
    for (i64 r = 0; r < count; ++r) {
      const i64 gain = saves(r);
      if (gain > 0)
        total += gain;
      else
        mixed = mixed || queries(r) > 0;
    }
    never = mixed && total <= rule.fixed;
  }
  __aicore__ inline bool expands(i64 r) const { return !never && saves(r) > 0; }
  __aicore__ inline i64 absorbed(i64 r) const { return expands(r) ? 0 : queries(r); }

 private:
  __aicore__ inline i64 saves(i64 r) const {
    const i64 n = queries(r), all = lens[r], before = all - n;
    if (n < rule.fewest || before < 0 || all > least(rule.most, pages * page)) return 0;
    return (n * before + n * (n + 1) / 2) * rule.saved - before * rule.extra;
  }
};

/// The tokens of absorbed requests, numbered in order. Looks for one from where the last was found.
class MlaTokens {
 public:
  __aicore__ inline explicit MlaTokens(const MlaRequests& requests) : all_(requests) {}

  /// Goes to request r <= count.
  __aicore__ inline void enter(i64 r) {
    while (r_ < r) before_ += all_.absorbed(r_++);
    while (r_ > r) before_ -= all_.absorbed(--r_);
  }
  /// Absorbed tokens of the requests before.
  __aicore__ inline i64 before() const { return before_; }
  /// The row in q of token `index`, and how many from there on (at most `wanted`) follow each
  /// other.
  __aicore__ inline i64 run(i64 index, i64 wanted, i64& found) {
    while (index < before_) before_ -= all_.absorbed(--r_);
    i64 own = all_.absorbed(r_);
    for (; index >= before_ + own; own = all_.absorbed(r_)) {
      before_ += own;
      ++r_;
    }
    const i64 row = all_.cu[r_] + index - before_;
    found = before_ + own - index;
    for (i64 r = r_ + 1; found < wanted && r < all_.count; ++r) {
      own = all_.absorbed(r);
      if (own > 0 && all_.cu[r] != row + found) break;
      found += own;
    }
    found = least(found, wanted);
    return row;
  }

 private:
  const MlaRequests& all_;
  i64 r_ = 0, before_ = 0;
};

/// Requests that are expanded together. Their keys follow each other in the workspace.
struct MlaBatch {
  static constexpr i64 MOST = 32;
  i64 count, keys;
  i64 request[MOST], base[MOST];

  /// The next requests, from r on, with at most `room` keys, or a single one; false if there is
  /// none.
  __aicore__ inline bool take(const MlaRequests& all, i64& r, i64 room) {
    count = keys = 0;
    for (; r < all.count && count < MOST; ++r) {
      if (!all.expands(r)) continue;
      if (count > 0 && keys + all.lens[r] > room) break;
      request[count] = r;
      base[count++] = keys;
      keys += all.lens[r];
    }
    return count > 0;
  }
};

/// The latents of a batch's keys, by their place in the workspace.
class MlaLatents {
 public:
  __aicore__ inline MlaLatents(const MlaRequests& requests, const MlaBatch& batch)
      : all_(requests), batch_(batch) {}
  /// The row of the cache behind key `index`, and how many (at most `wanted`) follow each other.
  __aicore__ inline i64 run(i64 index, i64 wanted, i64& found) const {
    i64 i = 0;
    while (i + 1 < batch_.count && index >= batch_.base[i + 1]) ++i;
    const i64 r = batch_.request[i], at = index - batch_.base[i];
    return all_.row(r, at, least(wanted, all_.lens[r] - at), found);
  }

 private:
  const MlaRequests& all_;
  const MlaBatch& batch_;
};

/// As PagedSource, of the absorbed tokens [first, end). Queries are those times U, in the order of
/// tokens, then the rotated ones of q; keys are latents and rotated keys, values the latents.
struct MlaAbsorbed : PagedSource {
  static constexpr bool SPLIT = true;
  MlaTokens& tokens_;
  const MlaRequests& all;
  i64 first, end;
  int32_t qWidth, kWidth, tail;  // columns of q and of k before their second parts, and of those
  GM_ADDR qTail;
  GM_ADDR kTail;
  i64 qTailRow, qTailHead, kTailRow;

  __aicore__ inline i64 queries(i64 r) const {
    tokens_.enter(r);
    const i64 before = tokens_.before(), own = all.absorbed(r);
    return most(least(before + own, end) - most(before, first), 0);
  }
  __aicore__ inline i64 limit0(i64 r) const { return lens[r] - all.absorbed(r) + 1 + skipped(r); }
  __aicore__ inline i64 q(i64 r, i64 query, i64 head) const {
    return at(r, query) * qRow + head * qHead;
  }
  __aicore__ inline i64 o(i64 r, i64 query, i64 head) const {
    return at(r, query) * oRow + head * oHead;
  }
  __aicore__ inline i64 qTailAt(i64 r, i64 query, i64 head) const {
    return (cu[r] + skipped(r) + query) * qTailRow + head * qTailHead;
  }
  __aicore__ inline i64 kTailAt(i64 r, i64 j, i64 wanted, i64& found) const {
    return row(r, j, wanted, found) * kTailRow;
  }

 private:
  /// Tokens of the request that come before `first`.
  __aicore__ inline i64 skipped(i64 r) const {
    tokens_.enter(r);
    return most(first - tokens_.before(), 0);
  }
  __aicore__ inline i64 at(i64 r, i64 query) const {
    return skipped(r) + tokens_.before() - first + query;
  }
};

/// As PagedSource, of a batch and some heads. Keys and values are in the workspace, by head; the
/// rotated parts of keys are in the cache.
struct MlaExpanded {
  static constexpr bool SPLIT = true;
  const MlaRequests& all;
  const MlaBatch& batch;
  i64 qRow, qHead, oRow, oHead, kRow, kHead, vRow, vHead;
  int32_t qWidth, kWidth, tail;
  GM_ADDR qTail;
  GM_ADDR kTail;
  i64 qTailRow, qTailHead, kTailRow;

  __aicore__ inline i64 requests() const { return batch.count; }
  __aicore__ inline i64 queries(i64 i) const { return all.queries(batch.request[i]); }
  __aicore__ inline i64 keys(i64 i) const { return all.lens[batch.request[i]]; }
  __aicore__ inline i64 limit0(i64 i) const { return all.limit0(batch.request[i]); }
  __aicore__ inline i64 step() const { return 1; }

  __aicore__ inline i64 q(i64 i, i64 query, i64 head) const {
    return token(i, query) * qRow + head * qHead;
  }
  __aicore__ inline i64 o(i64 i, i64 query, i64 head) const {
    return token(i, query) * oRow + head * oHead;
  }
  __aicore__ inline i64 qTailAt(i64 i, i64 query, i64 head) const {
    return token(i, query) * qTailRow + head * qTailHead;
  }
  __aicore__ inline i64 row(i64 i, i64 j, i64 wanted, i64& found) const {
    found = wanted;
    return batch.base[i] + j;
  }
  __aicore__ inline i64 k(i64, i64 row, i64 head) const { return row * kRow + head * kHead; }
  __aicore__ inline i64 v(i64, i64 row, i64 head) const { return row * vRow + head * vHead; }
  __aicore__ inline i64 kTailAt(i64 i, i64 j, i64 wanted, i64& found) const {
    return all.row(batch.request[i], j, wanted, found) * kTailRow;
  }

 private:
  __aicore__ inline i64 token(i64 i, i64 query) const { return all.cu[batch.request[i]] + query; }
};
}  // namespace xc
