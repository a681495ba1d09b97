// Splits attention into tasks of (request, key/value head, rows, keys) and merges split keys.
#include "attention.hpp"

#include <algorithm>

#include "attention_core.hpp"

namespace xc {

namespace {

constexpr i64 kSplitKeys = 256;  // keys per task when the rows alone give too little work; fixed,
                                 // so that sums do not depend on the number of threads
constexpr i64 kSplitRows = 32;   // slices with at most this many rows are split over keys
constexpr i64 kTaskRows = 256;   // rows that share one packing of the keys

// Tasks of one request; the same for each of its key/value heads.
struct Shape {
  i64 rows, keys;
  i64 key_parts() const {
    return rows > kSplitRows ? 1 : std::max<i64>(1, ceil_div(keys, kSplitKeys));
  }
  i64 row_parts(i64 task_rows) const { return rows > kSplitRows ? ceil_div(rows, task_rows) : 1; }
};

// What run() knows about a request.
struct Entry {
  Shape shape;
  i64 tasks_end;   // tasks of this request and the ones before
  i64 first_part;  // partial results of the ones before
};

// A partial in memory: rows outputs, then their maxima and sums.
struct PartialStore {
  float* base;
  i64 rows, Dv;
  static i64 elems(i64 rows, i64 Dv) { return rows * (Dv + 2); }
  Partial partial() const { return {base, base + rows * Dv, base + rows * (Dv + 1), Dv}; }
};

// shape(r) gives the Shape of request r, slice(r, h) its Slice for key/value head h.
template <class T, class GetShape, class GetSlice>
void run(const Team& t, i64 requests, i64 heads, i64 D, i64 Dv, GetShape shape, GetSlice slice) {
  const i64 partial_elems = PartialStore::elems(kSplitRows, Dv);
  const size_t index_bytes = size_t(round_up(requests * sizeof(Entry) + 8, 64));
  const size_t own_bytes = size_t(round_up(partial_elems * 4, 64));
  const size_t work_bytes = std::max(panels_scratch<T>(kTaskRows, D, Dv), dot_scratch<T>(D, Dv));
  char* scratch = static_cast<char*>(t.scratch(index_bytes + own_bytes + work_bytes));
  Entry* index = reinterpret_cast<Entry*>(scratch);
  float* own = reinterpret_cast<float*>(scratch + index_bytes);
  char* work = scratch + index_bytes + own_bytes;

  i64 rows = 0;
  for (i64 r = 0; r < requests; ++r) {
    index[r].shape = shape(r);
    rows += index[r].shape.rows;
  }
  // Fewer rows per task while there is too little to share; rows do not affect each other.
  i64 task_rows = kTaskRows;
  while (task_rows > kPanel && rows * heads < 4 * t.n * task_rows) task_rows /= 2;
  i64 tasks = 0, parts = 0;
  for (i64 r = 0; r < requests; ++r) {
    const Shape& s = index[r].shape;
    i64 split = s.key_parts();
    tasks += s.rows ? split * s.row_parts(task_rows) * heads : 0;
    index[r].tasks_end = tasks;
    index[r].first_part = parts;
    if (s.rows && split > 1) parts += split * heads;
  }
  float* partials = nullptr;
  if (parts) partials = static_cast<float*>(t.shared_scratch(size_t(parts * partial_elems) * 4));

  t.parallel_for(tasks, [&](i64 task) {
    const Entry* e = std::upper_bound(index, index + requests, task,
                                      [](i64 at, const Entry& x) { return at < x.tasks_end; });
    i64 per_head = e->shape.key_parts() * e->shape.row_parts(task_rows);
    i64 at = task - (e->tasks_end - per_head * heads);
    // Heads of the same keys follow each other: they are neighbours in memory.
    i64 head = at % heads, part = at / heads, split = e->shape.key_parts();
    Slice<T> s = slice(e - index, head);
    if (s.rows() > kSplitRows) {
      i64 r0 = part * task_rows, r1 = std::min(s.rows(), r0 + task_rows);
      return attend_panels<T>(s, r0, r1, 0, s.keys, work, nullptr);
    }
    PartialStore store{own, s.rows(), Dv};
    if (split > 1) store.base = partials + (e->first_part + head * split + part) * partial_elems;
    Partial result = store.partial();
    i64 j0 = part * kSplitKeys, j1 = std::min(s.keys, j0 + kSplitKeys);
    if (s.rows() <= dot_rows<T>())
      attend_dot(s, j0, j1, work, result);
    else
      attend_panels<T>(s, 0, s.rows(), j0, j1, work, &result);
    if (split == 1)
      for (i64 row = 0; row < s.rows(); ++row) finish_row(s, row, result, 0, 1);
  });
  if (!parts) return;

  t.barrier();
  t.parallel_for(requests * heads, [&](i64 task) {
    const Entry& e = index[task / heads];
    i64 head = task % heads, split = e.shape.key_parts();
    if (split == 1 || e.shape.rows == 0) return;
    Slice<T> s = slice(task / heads, head);
    PartialStore store{partials + (e.first_part + head * split) * partial_elems, s.rows(), Dv};
    for (i64 row = 0; row < s.rows(); ++row)
      finish_row(s, row, store.partial(), partial_elems, split);
  });
}

}  // namespace

template <class T>
void attention(const Team& t, const Attention<T>& a) {
  const i64 group = a.H / a.Hk;
  run<T>(
      t, a.B, a.Hk, a.D, a.Dv, [&](i64) { return Shape{group * a.Sq, a.Sk}; },
      [&](i64 b, i64 h) {
        i64 h0 = h * group;
        i64 mask_size = a.mask_kind == kBoolMask ? 1 : a.mask_kind == kFloatMask ? 4 : sizeof(T);
        Slice<T> s;
        s.q = a.q + b * a.qb + h0 * a.qh;
        s.q_i = a.qs, s.q_g = a.qh;
        s.o = a.o + b * a.ob + h0 * a.oh;
        s.o_i = a.os, s.o_g = a.oh;
        s.k = a.k + b * a.kb + h * a.kh, s.k_j = a.ks;
        s.v = a.v + b * a.vb + h * a.vh, s.v_j = a.vs;
        s.table = nullptr, s.page = std::max<i64>(a.Sk, 1);
        s.group = group, s.queries = a.Sq, s.keys = a.Sk;
        s.limit0 = a.causal ? 1 : a.Sk, s.limit_step = a.causal ? 1 : 0;
        s.mask = nullptr;
        if (a.mask_kind != kNoMask)
          s.mask = static_cast<const char*>(a.mask) + (b * a.mb + h0 * a.mh) * mask_size;
        s.m_i = a.mq, s.m_g = a.mh, s.m_j = a.mk, s.mask_kind = a.mask_kind;
        s.D = a.D, s.Dv = a.Dv, s.scale = a.scale;
        return s;
      });
}

template <class T>
void paged_attention(const Team& t, const PagedAttention<T>& a) {
  const i64 group = a.H / a.Hk;
  const i64 k_head = a.k_head ? a.k_head : a.D, v_head = a.v_head ? a.v_head : a.Dv;
  const i64 k_slot = a.k_slot ? a.k_slot : a.Hk * a.D, v_slot = a.v_slot ? a.v_slot : a.Hk * a.Dv;
  // New tokens of request r; 0 for a request whose lengths or pages are not usable.
  auto queries = [&](i64 r) -> i64 {
    i64 begin = a.cu_seqlens[r], n = a.cu_seqlens[r + 1] - begin, keys = a.context_lens[r];
    bool fits =
        begin >= 0 && n >= 0 && begin + n <= a.tokens && keys >= n && keys <= a.max_blocks * a.page;
    return fits ? n : 0;
  };
  auto check = [&](i64 r) {
    i64 n = a.cu_seqlens[r + 1] - a.cu_seqlens[r];
    if (n != queries(r)) t.fail(kBadLength, a.context_lens[r]);
    if (queries(r) == 0) return false;
    const i64* table = a.block_tables + r * a.max_blocks;
    for (i64 p = 0; p * a.page < a.context_lens[r]; ++p) {
      i64 last = std::min(a.page, a.context_lens[r] - p * a.page);
      if (table[p] >= 0 && table[p] * a.page + last <= a.slots) continue;
      t.fail(kBadBlock, table[p]);
      return false;
    }
    return true;
  };
  run<T>(
      t, a.R, a.Hk, a.D, a.Dv,
      [&](i64 r) { return Shape{check(r) ? group * queries(r) : 0, a.context_lens[r]}; },
      [&](i64 r, i64 h) {
        i64 begin = a.cu_seqlens[r], n = queries(r), h0 = h * group;
        Slice<T> s;
        s.q = a.q + begin * a.qs + h0 * a.qh;
        s.q_i = a.qs, s.q_g = a.qh;
        s.o = a.o + (begin * a.H + h0) * a.Dv;
        s.o_i = a.H * a.Dv, s.o_g = a.Dv;
        s.k = a.k_cache + h * k_head, s.k_j = k_slot;
        s.v = a.v_cache + h * v_head, s.v_j = v_slot;
        s.table = a.block_tables + r * a.max_blocks, s.page = a.page;
        s.group = group, s.queries = n, s.keys = a.context_lens[r];
        s.limit0 = a.context_lens[r] - n + 1, s.limit_step = 1;
        s.mask = nullptr;
        s.m_i = s.m_g = s.m_j = 0, s.mask_kind = kNoMask;
        s.D = a.D, s.Dv = a.Dv, s.scale = a.scale;
        return s;
      });
}

}  // namespace xc
