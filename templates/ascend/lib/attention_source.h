// Attention, where the operands lie: a paged cache of keys and values, or dense ones.
#pragma once
#include "common.h"

namespace xc {

/// Query i of the n = cu[r + 1] - cu[r] rows of request r sees the first lens[r] - n + 1 + i keys.
/// Key j of r is row tables[r, j / page] * page + j % page of the caches. Strides in elements; the
/// last dim is contiguous.
struct PagedSource {
  static constexpr bool SPLIT = false;  // rows of q and k are in one part each; see mla_requests.h
  i64 tokens, count, pages, page;       // rows of q; requests; pages of a request; rows of a page
  const __gm__ i64 *cu, *lens, *tables;
  i64 qRow, qHead, oRow, oHead, kRow, kHead, vRow, vHead;

  __aicore__ inline i64 requests() const { return count; }
  __aicore__ inline i64 queries(i64 r) const {
    const i64 n = cu[r + 1] - cu[r];
    return n > 0 && cu[r] >= 0 && cu[r + 1] <= tokens ? n : 0;
  }
  __aicore__ inline i64 keys(i64 r) const { return most(least(lens[r], pages * page), 0); }
  __aicore__ inline i64 limit0(i64 r) const { return lens[r] - queries(r) + 1; }
  __aicore__ inline i64 step() const { return 1; }

  __aicore__ inline i64 q(i64 r, i64 query, i64 head) const {
    return (cu[r] + query) * qRow + head * qHead;
  }
  __aicore__ inline i64 o(i64 r, i64 query, i64 head) const {
    return (cu[r] + query) * oRow + head * oHead;
  }
  /// The row of key j, and how many from there on (at most `most`) follow each other.
  __aicore__ inline i64 row(i64 r, i64 j, i64 wanted, i64& found) const {
    const __gm__ i64* table = tables + r * pages;
    i64 p = j / page;
    const i64 id = table[p], at = j - p * page;
    found = page - at;
    while (found < wanted && table[p + 1] == table[p] + 1) {
      ++p;
      found += page;
    }
    if (found > wanted) found = wanted;
    return id * page + at;
  }
  __aicore__ inline i64 k(i64, i64 row, i64 head) const { return row * kRow + head * kHead; }
  __aicore__ inline i64 v(i64, i64 row, i64 head) const { return row * vRow + head * vHead; }
};

/// q [B, H, Sq, D], k [B, Hk, Sk, D], v [B, Hk, Sk, Dv], o [B, H, Sq, Dv]: strides of all dims but
/// the last, which is contiguous. causal: query i sees keys 0 .. i.
struct DenseSource {
  static constexpr bool SPLIT = false;
  i64 batch, rows, all;
  bool causal;
  i64 qBatch, qHead, qRow, kBatch, kHead, kRow, vBatch, vHead, vRow, oBatch, oHead, oRow;

  __aicore__ inline i64 requests() const { return batch; }
  __aicore__ inline i64 queries(i64) const { return rows; }
  __aicore__ inline i64 keys(i64) const { return all; }
  __aicore__ inline i64 limit0(i64) const { return causal ? 1 : all; }
  __aicore__ inline i64 step() const { return causal ? 1 : 0; }

  __aicore__ inline i64 q(i64 b, i64 query, i64 head) const {
    return b * qBatch + head * qHead + query * qRow;
  }
  __aicore__ inline i64 o(i64 b, i64 query, i64 head) const {
    return b * oBatch + head * oHead + query * oRow;
  }
  __aicore__ inline i64 row(i64, i64 j, i64 wanted, i64& found) const {
    found = wanted;
    return j;
  }
  __aicore__ inline i64 k(i64 b, i64 row, i64 head) const {
    return b * kBatch + head * kHead + row * kRow;
  }
  __aicore__ inline i64 v(i64 b, i64 row, i64 head) const {
    return b * vBatch + head * vHead + row * vRow;
  }
};
}  // namespace xc
