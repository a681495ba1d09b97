// One head-slice of attention: the query rows that share a key/value head of one request.
#pragma once
#include <algorithm>

#include "attention.hpp"

namespace xc {
/// A request of PagedAttention or MlaAttention: its first token, new tokens, and context with them.
struct Request {
  i64 begin, n, keys;
  bool usable;  // whether the lengths fit the inputs
};

template <class A>
Request request_of(const A& a, i64 r) {
  const i64 begin = a.cu_seqlens[r], n = a.cu_seqlens[r + 1] - begin, keys = a.context_lens[r];
  const bool fits =
      begin >= 0 && n >= 0 && begin + n <= a.tokens && keys >= n && keys <= a.max_blocks * a.page;
  return {begin, n, keys, fits || n == 0};
}

/// Whether the pages of a usable request lie in the cache; if not, the first one is reported.
template <class A>
bool has_pages(const Team& t, const A& a, i64 r) {
  const i64* table = a.block_tables + r * a.max_blocks;
  for (i64 p = 0; p * a.page < a.context_lens[r]; ++p) {
    const i64 last = std::min(a.page, a.context_lens[r] - p * a.page);
    if (table[p] >= 0 && table[p] * a.page + last <= a.slots) continue;
    t.fail(kBadBlock, table[p]);
    return false;
  }
  return true;
}

/// Rows are ordered position by position: row r is query i = r / group of query head r % group, so
/// that neighbouring rows see nearly the same keys.
template <class T>
struct Slice {
  const T* q;
  i64 q_i, q_g;  // strides of position and of head in the group
  T* o;
  i64 o_i, o_g;
  const T *k, *v;
  i64 k_j, v_j;      // strides of a key
  const i64* table;  // pages of the cache, or null: keys are in order
  i64 page;          // keys per page
  i64 group, queries, keys;
  i64 limit0, limit_step;  // query i sees keys j < min(keys, limit0 + i * limit_step)
  const char* mask;
  i64 m_i, m_g, m_j;  // mask strides in elements
  int mask_kind;
  i64 D, Dv;
  float scale;
  const float* sinks = nullptr;  // of the group's heads, or null
  i64 window = 0;                // > 0: how many of the keys below its limit a row sees

  i64 rows() const { return group * queries; }
  const T* q_row(i64 r) const { return q + r / group * q_i + r % group * q_g; }
  T* o_row(i64 r) const { return o + r / group * o_i + r % group * o_g; }
  i64 limit(i64 r) const {
    i64 l = limit0 + r / group * limit_step;
    return l < keys ? l : keys;
  }
  /// The first key that row r sees.
  i64 first(i64 r) const { return window ? std::max<i64>(0, limit(r) - window) : 0; }
  /// Where the softmax of row r begins: the maximum so far and the sum relative to it.
  float start_max(i64 r) const { return sinks ? sinks[r % group] : -kInf; }
  float start_sum() const { return sinks ? 1.0f : 0.0f; }
  /// Pointers to the key and value rows j0 .. j0+n.
  void gather(i64 j0, i64 n, const T** kp, const T** vp) const {
    i64 block = j0 / page, in_page = j0 % page;
    for (i64 i = 0; i < n; ++block, in_page = 0) {
      i64 slot = (table ? table[block] : block) * page + in_page;
      i64 run = std::min(n - i, page - in_page);
      for (i64 end = i + run; i < end; ++i, ++slot) {
        kp[i] = k + slot * k_j;
        vp[i] = v + slot * v_j;
      }
    }
  }
  /// Additive mask of row r for keys j .. j+n, n <= VL (0 past the end).
  vf mask_values(i64 r, i64 j, int n) const;
};

template <class T>
vf Slice<T>::mask_values(i64 r, i64 j, int n) const {
  i64 at = r / group * m_i + r % group * m_g + j * m_j;
  if (m_j == 1 && mask_kind == kFloatMask)
    return vload_n(reinterpret_cast<const float*>(mask) + at, n);
  if (m_j == 1 && mask_kind == kTypedMask) return vload_n(reinterpret_cast<const T*>(mask) + at, n);
  float value[VL] = {};
  for (int i = 0; i < n; ++i, at += m_j) {
    if (mask_kind == kBoolMask)
      value[i] = mask[at] ? 0.0f : -kInf;
    else if (mask_kind == kFloatMask)
      value[i] = reinterpret_cast<const float*>(mask)[at];
    else
      value[i] = to_f32(reinterpret_cast<const T*>(mask)[at]);
  }
  return vload(value);
}

/// Unnormalised result of one row over a range of keys: running maximum, sum of exponentials, and
/// out[Dv] relative to the maximum. Split ranges of keys leave these to be merged.
struct Partial {
  float* out;
  float *max, *sum;  // one per row; row r's output is out + r * ld
  i64 ld;
  bool twisted;  // columns lie as pairs of values leave them: see untwist
};

/// Keys [j0, j1) that this thread is to attend next, for prefetching: of `heads` slices whose keys
/// lie side by side, the first of them given. It may be null.
template <class T>
struct Next {
  const Slice<T>* slice = nullptr;
  i64 heads = 1, j0 = 0, j1 = 0;
};

/// Rows the dot-product path takes at once; more go through the panel kernels.
template <class T>
int dot_rows();

/// Keys [j0, j1) against all rows (<= dot_rows) of the slice, streaming keys and values once.
/// `result` holds the rows from its start, rounded up to 16, with ld a multiple of 32; twisted
/// where keys_in_pairs.
template <class T>
void attend_dot(const Slice<T>& s, i64 j0, i64 j1, void* scratch, const Partial& result,
                const Next<T>& next);
template <class T>
size_t dot_scratch(i64 D, i64 Dv);

/// Whether attend_dot adds values of bf16 in pairs of keys, which twists its results.
template <class T>
constexpr bool keys_in_pairs() {
#if XC_BF16_DOT
  return sizeof(T) == 2;
#else
  return false;
#endif
}

/// Keys [j0, j1) against rows [r0, r1) by panel products. With `result` null the rows are
/// normalised and written to s.o.
template <class T>
void attend_panels(const Slice<T>& s, i64 r0, i64 r1, i64 j0, i64 j1, void* scratch,
                   const Partial* result);
template <class T>
size_t panels_scratch(i64 rows, i64 D, i64 Dv);

/// Whether attend_tiles takes this slice.
template <class T>
bool takes_tiles(const Slice<T>& s);

/// Most slices of attend_tiles.
constexpr i64 kHeads = 4;

/// Keys [j0, j1) against rows [r0, r1) by tiles of 16 rows and 16 keys; each key is read once for
/// all rows. `heads` slices differ in their pointers alone; more than one have their keys and
/// their values side by side, and no more than kHeadRows rows. results[h] holds rows r0.. of slice
/// h from its start, rounded up to 16, with ld a multiple of 32.
template <class T>
void attend_tiles(const Slice<T>* slices, i64 heads, i64 r0, i64 r1, i64 j0, i64 j1, void* scratch,
                  const Partial* results, const Next<T>& next);
template <class T>
size_t tiles_scratch(i64 rows, i64 D, i64 Dv);
constexpr i64 kHeadRows = 32;

/// Writes row r, row `at` of the partials: the merge, in order, of `count` partials that lie
/// `stride` floats apart. Their maxima are lost.
template <class T>
void finish_row(const Slice<T>& s, i64 r, i64 at, const Partial& first, i64 stride, i64 count);

inline float maximum(const float* x, i64 n, float start) {
  vf m = splat(start);
  i64 i = 0;
  for (; i + VL <= n; i += VL) m = vmax(m, vload(x + i));
  float best = start;
  for (int l = 0; l < VL; ++l) best = m[l] > best ? m[l] : best;
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

}  // namespace xc
