// Splits attention into tasks of (request, key/value head, rows, keys) and merges split keys.
#include "attention.hpp"

#include <algorithm>

#include "attention_core.hpp"

namespace xc {

namespace {

// Slices of few queries are split over keys, in parts of a size that depends on the rows alone, so
// that sums do not depend on the number of threads. The parts are dealt as threads become free: no
// thread works longer than its share and one part, however the lengths differ.
constexpr i64 kSplitKeys = 256;   // keys per part of a slice with up to kSplitRows rows
constexpr i64 kSplitRows = 32;    // slices with at most this many rows are always split
constexpr i64 kSplitQueries = 4;  // so are those with this many queries, up to kMaxSplitRows
constexpr i64 kMaxSplitRows = 512;
constexpr i64 kTaskRows = 256;  // rows that share one packing of the keys
constexpr i64 kAlign = 128;     // blocks of keys begin alike, however rows are cut into tasks

// The rows of a request that share a key/value head.
struct Shape {
  i64 rows, keys, queries;
  i64 first = 0;  // no row sees a key before it
  bool by_keys() const {
    return rows <= kSplitRows || (queries <= kSplitQueries && rows <= kMaxSplitRows);
  }
};

// The kernel that a request's tasks go to.
enum class By { dot, tiles, panels };

// What run() knows about a request, and how it is cut into tasks.
struct Entry {
  Shape shape;
  By by;
  i64 heads;          // key/value heads of a task
  i64 part_keys;      // keys of a task, or 0: all
  i64 tasks_end;      // tasks of this request and the ones before
  i64 first_partial;  // floats of partial results of the ones before

  i64 key_parts() const {
    return part_keys ? std::max<i64>(1, ceil_div(shape.keys - shape.first, part_keys)) : 1;
  }
  i64 row_parts(i64 task_rows) const { return part_keys ? 1 : ceil_div(shape.rows, task_rows); }
};

// Whether the keys of the heads lie side by side, and their values.
template <class T>
bool side_by_side(const Slice<T>& a, const Slice<T>& b) {
  return b.k - a.k == a.D && b.v - a.v == a.Dv;
}

// A partial in memory: rows outputs, then their maxima and sums; padded to whole tiles.
struct PartialStore {
  i64 rows, ld;
  // 512 columns would put the rows of a tile into two sets of L1.
  PartialStore(i64 rows, i64 Dv)
      : rows(round_up(rows, 16)), ld(round_up(Dv, 32) | (Dv < 256 ? 0 : 32)) {}
  i64 elems() const { return rows * (ld + 2); }
  Partial at(float* base, bool twisted) const {
    return {base, base + rows * ld, base + rows * (ld + 1), ld, twisted};
  }
};

template <class T>
bool twisted(By by) {
  return by == By::tiles || (by == By::dot && keys_in_pairs<T>());
}

// shape(r) gives the Shape of request r, slice(r, h) its Slice for key/value head h.
template <class T, class GetShape, class GetSlice>
void run(const Team& t, i64 requests, i64 heads, i64 D, i64 Dv, GetShape shape, GetSlice slice) {
  // The index first, to know how many rows a task has; shape() may be asked twice.
  i64 rows = 0, most = 0;
  for (i64 r = 0; r < requests; ++r) {
    const Shape s = shape(r);
    rows += s.rows;
    if (s.by_keys()) most = std::max(most, s.rows);
  }
  // Fewer rows per task while there is too little to share; rows do not affect each other.
  i64 task_rows = kTaskRows;
  while (task_rows > kPanel && rows * heads < 4 * t.n * task_rows) task_rows /= 2;
  most = std::max(most, std::min(rows, task_rows));
  const size_t index_bytes = size_t(round_up(requests * i64(sizeof(Entry)) + 8, 64));
  const i64 own_floats = std::max(PartialStore(most, Dv).elems(),
                                  kHeads * PartialStore(std::min(most, kHeadRows), Dv).elems());
  const size_t own_bytes = size_t(round_up(own_floats * 4, 64));
  const size_t work_bytes = std::max(
      {panels_scratch<T>(most, D, Dv), dot_scratch<T>(D, Dv), tiles_scratch<T>(most, D, Dv)});
  char* scratch = static_cast<char*>(t.scratch(index_bytes + own_bytes + work_bytes));
  Entry* index = reinterpret_cast<Entry*>(scratch);
  float* own = reinterpret_cast<float*>(scratch + index_bytes);
  char* work = scratch + index_bytes + own_bytes;

  i64 tasks = 0, floats = 0, merged_rows = 0;
  for (i64 r = 0; r < requests; ++r) {
    Entry& e = index[r];
    const Shape& s = e.shape = shape(r);
    e.by = s.rows == 0                              ? By::panels
           : takes_tiles(slice(r, 0))               ? By::tiles
           : s.by_keys() && s.rows <= dot_rows<T>() ? By::dot
                                                    : By::panels;
    e.heads = 1, e.part_keys = 0;
    if (s.by_keys()) e.part_keys = (s.rows <= kSplitRows ? 1 : s.rows <= 128 ? 4 : 16) * kSplitKeys;
    if (e.by == By::tiles && s.rows <= kHeadRows) {
      if (heads > 1 && side_by_side(slice(r, 0), slice(r, 1))) e.heads = std::min(heads, kHeads);
      e.part_keys *= kHeads / e.heads;
    }
    const i64 split = e.key_parts();
    tasks += s.rows ? split * e.row_parts(task_rows) * ceil_div(heads, e.heads) : 0;
    e.tasks_end = tasks;
    e.first_partial = floats;
    if (s.rows && split > 1) {
      floats += split * heads * PartialStore(s.rows, Dv).elems();
      merged_rows = std::max(merged_rows, s.rows);
    }
  }
  float* partials = nullptr;
  if (floats) partials = static_cast<float*>(t.shared_scratch(size_t(floats) * 4));

  struct Task {
    const Entry* entry;
    i64 head, heads, part;
    Slice<T> slices[kHeads];
    i64 j0, j1;
  };
  auto find = [&](i64 task) {
    const Entry* e = std::upper_bound(index, index + requests, task,
                                      [](i64 at, const Entry& x) { return at < x.tasks_end; });
    const i64 groups = ceil_div(heads, e->heads);
    i64 at = task - (e->tasks_end - e->key_parts() * e->row_parts(task_rows) * groups);
    // Heads of the same keys follow each other: they are neighbours in memory.
    Task x{e, at % groups * e->heads, e->heads, at / groups, {}, 0, e->shape.keys};
    x.heads = std::min(x.heads, heads - x.head);
    for (i64 h = 0; h < x.heads; ++h) x.slices[h] = slice(e - index, x.head + h);
    if (e->part_keys) {
      x.j0 = e->shape.first + x.part * e->part_keys;
      x.j1 = std::min(e->shape.keys, x.j0 + e->part_keys);
    }
    return x;
  };
  auto attend = [&](const Task& task, const Next<T>& next) {
    const Entry& e = *task.entry;
    const Slice<T>& s = task.slices[0];
    if (!e.part_keys) {
      i64 r0 = task.part * task_rows, r1 = std::min(s.rows(), r0 + task_rows);
      if (e.by == By::panels)
        return attend_panels<T>(s, r0, r1, s.first(r0) / kAlign * kAlign, s.keys, work, nullptr);
      Partial result = PartialStore(r1 - r0, Dv).at(own, true);
      attend_tiles(&s, 1, r0, r1, 0, s.keys, work, &result, next);
      for (i64 row = r0; row < r1; ++row) finish_row(s, row, row - r0, result, 0, 1);
      return;
    }
    const i64 split = e.key_parts();
    const PartialStore store(s.rows(), Dv);
    Partial results[kHeads];
    for (i64 h = 0; h < task.heads; ++h) {
      float* base = own + h * store.elems();
      if (split > 1)
        base = partials + e.first_partial + ((task.head + h) * split + task.part) * store.elems();
      results[h] = store.at(base, twisted<T>(e.by));
    }
    if (e.by == By::tiles)
      attend_tiles(task.slices, task.heads, 0, s.rows(), task.j0, task.j1, work, results, next);
    else if (e.by == By::dot)
      attend_dot(s, task.j0, task.j1, work, results[0], next);
    else
      attend_panels<T>(s, 0, s.rows(), task.j0, task.j1, work, results);
    if (split > 1) return;
    for (i64 h = 0; h < task.heads; ++h)
      for (i64 row = 0; row < s.rows(); ++row)
        finish_row(task.slices[h], row, row, results[h], 0, 1);
  };
  // A few neighbours in a row: each knows what comes next.
  const i64 run = t.n == 1 ? std::max<i64>(1, tasks) : std::max<i64>(1, tasks / (8 * t.n));
  t.parallel_for(ceil_div(tasks, run), [&](i64 group) {
    const i64 end = std::min(tasks, (group + 1) * run);
    Task task = find(group * run);
    for (i64 at = group * run; at < end; ++at) {
      Task next = find(std::min(at + 1, end - 1));
      attend(task, {at + 1 < end ? next.slices : nullptr, next.heads, next.j0, next.j1});
      task = next;
    }
  });
  if (!floats) return;

  t.barrier();
  const i64 groups = ceil_div(merged_rows, 16);
  t.parallel_for(requests * heads * groups, [&](i64 task) {
    const Entry& e = index[task / groups / heads];
    i64 head = task / groups % heads, split = e.key_parts();
    i64 r0 = task % groups * 16, r1 = std::min(e.shape.rows, r0 + 16);
    if (split == 1 || r0 >= r1) return;
    Slice<T> s = slice(&e - index, head);
    PartialStore store(s.rows(), Dv);
    Partial first =
        store.at(partials + e.first_partial + head * split * store.elems(), twisted<T>(e.by));
    for (i64 row = r0; row < r1; ++row) finish_row(s, row, row, first, store.elems(), split);
  });
}

}  // namespace

template <class T>
void attention(const Team& t, const Attention<T>& a) {
  const i64 group = a.H / a.Hk;
  run<T>(
      t, a.B, a.Hk, a.D, a.Dv, [&](i64) { return Shape{group * a.Sq, a.Sk, a.Sq}; },
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
        s.sinks = a.sinks ? a.sinks + h0 : nullptr;
        return s;
      });
}

template <class T>
void paged_attention(const Team& t, const PagedAttention<T>& a) {
  const i64 group = a.H / a.Hk;
  const i64 k_head = a.k_head ? a.k_head : a.D, v_head = a.v_head ? a.v_head : a.Dv;
  const i64 k_slot = a.k_slot ? a.k_slot : a.Hk * a.D, v_slot = a.v_slot ? a.v_slot : a.Hk * a.Dv;
  run<T>(
      t, a.R, a.Hk, a.D, a.Dv,
      [&](i64 r) {
        const Request q = request_of(a, r);
        if (!q.usable) t.fail(kBadLength, q.keys);
        const i64 n = q.usable && q.n > 0 && has_pages(t, a, r) ? q.n : 0;
        const i64 seen = a.window ? n + a.window - 1 : q.keys;
        return Shape{group * n, q.keys, n, std::max<i64>(0, q.keys - seen)};
      },
      [&](i64 r, i64 h) {
        const Request q = request_of(a, r);
        const i64 h0 = h * group;
        Slice<T> s;
        s.q = a.q + q.begin * a.qs + h0 * a.qh;
        s.q_i = a.qs, s.q_g = a.qh;
        s.o = a.o + (q.begin * a.H + h0) * a.Dv;
        s.o_i = a.H * a.Dv, s.o_g = a.Dv;
        s.k = a.k_cache + h * k_head, s.k_j = k_slot;
        s.v = a.v_cache + h * v_head, s.v_j = v_slot;
        s.table = a.block_tables + r * a.max_blocks, s.page = a.page;
        s.group = group, s.queries = q.n, s.keys = q.keys;
        s.limit0 = q.keys - q.n + 1, s.limit_step = 1;
        s.mask = nullptr;
        s.m_i = s.m_g = s.m_j = 0, s.mask_kind = kNoMask;
        s.D = a.D, s.Dv = a.Dv, s.scale = a.scale;
        s.sinks = a.sinks ? a.sinks + h0 : nullptr, s.window = a.window;
        return s;
      });
}

}  // namespace xc
