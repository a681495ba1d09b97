#include "select.hpp"

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

struct Item {
  i64 key, index;
};

// Descending; equal values by ascending index.
struct Before {
  bool operator()(const Item& a, const Item& b) const {
    return a.key != b.key ? a.key > b.key : a.index < b.index;
  }
};

}  // namespace

template <class T>
void topk(const Team& t, const T* x, i64 rows, i64 n, i64 k, T* values, i64* indices) {
  k = std::min(k, n);
  if (k <= 0) return;
  // A heap of the k best so far with the worst of them on top: most elements cost one comparison.
  Item* heap = static_cast<Item*>(t.scratch(size_t(k) * sizeof(Item)));
  t.each_row(rows, [&](i64 r) {
    const T* row = x + r * n;
    for (i64 i = 0; i < k; ++i) heap[i] = {order_key(row[i]), i};
    std::make_heap(heap, heap + k, Before());
    for (i64 i = k; i < n; ++i) {
      i64 key = order_key(row[i]);
      if (key <= heap[0].key) continue;
      std::pop_heap(heap, heap + k, Before());
      heap[k - 1] = {key, i};
      std::push_heap(heap, heap + k, Before());
    }
    std::sort_heap(heap, heap + k, Before());
    for (i64 i = 0; i < k; ++i) {
      values[r * k + i] = row[heap[i].index];
      indices[r * k + i] = heap[i].index;
    }
  });
}

template <class T>
void argmax(const Team& t, const T* x, i64 rows, i64 n, i64* indices) {
  t.each_row(rows, [&](i64 r) {
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
  Item* items = static_cast<Item*>(t.scratch(size_t(n) * sizeof(Item)));
  t.each_row(rows, [&](i64 r) {
    const T* row = x + r * n;
    for (i64 i = 0; i < n; ++i) {
      i64 key = order_key(row[i]);
      items[i] = {descending ? key : ~key, i};
    }
    std::sort(items, items + n, Before());
    for (i64 i = 0; i < n; ++i) {
      if (values) values[r * n + i] = row[items[i].index];
      if (indices) indices[r * n + i] = items[i].index;
    }
  });
}

template <class T>
void cumsum(const Team& t, const T* x, i64 rows, i64 n, T* y) {
  t.each_row(rows, [&](i64 r) {
    if constexpr (sizeof(T) == 8) {
      i64 sum = 0;
      for (i64 i = 0; i < n; ++i) y[r * n + i] = sum += x[r * n + i];
    } else {
      float sum = 0.0f;
      for (i64 i = 0; i < n; ++i) store(y + r * n + i, sum += load(x + r * n + i));
    }
  });
}

}  // namespace xc
