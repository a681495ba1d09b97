#include "misc.hpp"

#include <algorithm>

namespace xc {

namespace {

// A key whose integer order is the float order, NaN on top; -0 and 0 are equal.
inline i64 order_key(float x) {
  if (x != x) return INT64_MAX;
  int32_t bits = int32_t(float_to_bits(x));
  return bits >= 0 ? bits : -i64(bits & 0x7fffffff);
}
inline i64 order_key(bf16 x) { return order_key(to_f32(x)); }
inline i64 order_key(i64 x) { return x; }

template <class T>
struct Item {
  i64 key, index;
  T value;
};

// Descending; equal values by ascending index.
template <class T>
bool before(const Item<T>& a, const Item<T>& b) {
  return a.key != b.key ? a.key > b.key : a.index < b.index;
}

// Runs f(row) for this thread's share of the rows.
template <class F>
void each_row(const Team& t, i64 rows, F f) {
  auto [begin, end] = t.split(rows);
  for (i64 r = begin; r < end; ++r) f(r);
}

inline bool in_range(const Team& t, i64 index, i64 size) {
  if (index >= 0 && index < size) return true;
  t.fail(kBadIndex, index);
  return false;
}

}  // namespace

template <class T>
void topk(const Team& t, const T* x, i64 rows, i64 n, i64 k, T* values, i64* indices) {
  k = std::min(k, n);
  if (k <= 0) return;
  // A heap of the k best so far with the worst of them on top: most elements cost one comparison.
  Item<T>* heap = static_cast<Item<T>*>(t.scratch(size_t(k) * sizeof(Item<T>)));
  each_row(t, rows, [&](i64 r) {
    const T* row = x + r * n;
    for (i64 i = 0; i < k; ++i) heap[i] = {order_key(row[i]), i, row[i]};
    std::make_heap(heap, heap + k, before<T>);
    for (i64 i = k; i < n; ++i) {
      i64 key = order_key(row[i]);
      if (key <= heap[0].key) continue;
      std::pop_heap(heap, heap + k, before<T>);
      heap[k - 1] = {key, i, row[i]};
      std::push_heap(heap, heap + k, before<T>);
    }
    std::sort_heap(heap, heap + k, before<T>);
    for (i64 i = 0; i < k; ++i) {
      values[r * k + i] = heap[i].value;
      indices[r * k + i] = heap[i].index;
    }
  });
}

template <class T>
void argmax(const Team& t, const T* x, i64 rows, i64 n, i64* indices) {
  each_row(t, rows, [&](i64 r) {
    const T* row = x + r * n;
    i64 best = 0;
    for (i64 i = 1; i < n; ++i)
      if (order_key(row[i]) > order_key(row[best])) best = i;
    indices[r] = best;
  });
}

template <class T>
void sort(const Team& t, const T* x, i64 rows, i64 n, bool descending, T* values, i64* indices) {
  // The index breaks ties, which makes any sort stable.
  Item<T>* items = static_cast<Item<T>*>(t.scratch(size_t(n) * sizeof(Item<T>)));
  each_row(t, rows, [&](i64 r) {
    const T* row = x + r * n;
    for (i64 i = 0; i < n; ++i) {
      i64 key = order_key(row[i]);
      items[i] = {descending ? key : ~key, i, row[i]};
    }
    std::sort(items, items + n, before<T>);
    for (i64 i = 0; i < n; ++i) {
      if (values) values[r * n + i] = items[i].value;
      if (indices) indices[r * n + i] = items[i].index;
    }
  });
}

template <class T>
void cumsum(const Team& t, const T* x, i64 rows, i64 n, T* y) {
  each_row(t, rows, [&](i64 r) {
    if constexpr (sizeof(T) == 8) {
      i64 sum = 0;
      for (i64 i = 0; i < n; ++i) y[r * n + i] = sum += x[r * n + i];
    } else {
      float sum = 0.0f;
      for (i64 i = 0; i < n; ++i) store(y + r * n + i, sum += load(x + r * n + i));
    }
  });
}

template <class T>
void embedding(const Team& t, const T* table, i64 vocab, i64 dim, const i64* ids, i64 n, T* y) {
  each_row(t, n, [&](i64 i) {
    if (in_range(t, ids[i], vocab))
      std::memcpy(y + i * dim, table + ids[i] * dim, size_t(dim) * sizeof(T));
  });
}

template <class T>
void gather(const Team& t, const T* x, i64 rows, i64 n, const i64* index, i64 k, T* y) {
  each_row(t, rows, [&](i64 r) {
    for (i64 j = r * k; j < (r + 1) * k; ++j)
      if (in_range(t, index[j], n)) y[j] = x[r * n + index[j]];
  });
}

template <class T>
void scatter(const Team& t, const T* x, i64 rows, i64 n, const i64* index, const T* src, i64 k,
             T* y) {
  each_row(t, rows, [&](i64 r) {
    if (y != x && n) std::memcpy(y + r * n, x + r * n, size_t(n) * sizeof(T));
    for (i64 j = r * k; j < (r + 1) * k; ++j)
      if (in_range(t, index[j], n)) y[r * n + index[j]] = src[j];
  });
}

template <class T>
void index_copy(const Team& t, T* y, i64 outer, i64 dim, i64 inner, const i64* index, i64 n,
                const T* src) {
  // Threads share out the inner elements, not the rows: rows with equal indices then stay in order.
  auto [begin, end] = t.split(inner, 64 / i64(sizeof(T)));
  for (i64 o = 0; o < outer; ++o)
    for (i64 j = 0; j < n; ++j)
      if (in_range(t, index[j], dim) && end > begin)
        std::memcpy(y + (o * dim + index[j]) * inner + begin, src + (o * n + j) * inner + begin,
                    size_t(end - begin) * sizeof(T));
}

#define XC_INSTANTIATE(T)                                                 \
  template void topk<T>(const Team&, const T*, i64, i64, i64, T*, i64*);  \
  template void argmax<T>(const Team&, const T*, i64, i64, i64*);         \
  template void sort<T>(const Team&, const T*, i64, i64, bool, T*, i64*); \
  template void cumsum<T>(const Team&, const T*, i64, i64, T*);
XC_INSTANTIATE(float)
XC_INSTANTIATE(bf16)
XC_INSTANTIATE(i64)
#undef XC_INSTANTIATE

#define XC_INSTANTIATE(T)                                                                   \
  template void embedding<T>(const Team&, const T*, i64, i64, const i64*, i64, T*);         \
  template void gather<T>(const Team&, const T*, i64, i64, const i64*, i64, T*);            \
  template void scatter<T>(const Team&, const T*, i64, i64, const i64*, const T*, i64, T*); \
  template void index_copy<T>(const Team&, T*, i64, i64, i64, const i64*, i64, const T*);
XC_INSTANTIATE(uint8_t)
XC_INSTANTIATE(uint16_t)
XC_INSTANTIATE(uint32_t)
XC_INSTANTIATE(uint64_t)
#undef XC_INSTANTIATE

}  // namespace xc
