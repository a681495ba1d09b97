#include "copy.hpp"

namespace xc {

namespace {

inline bool in_range(const Team& t, i64 index, i64 size) {
  if (index >= 0 && index < size) return true;
  t.fail(kBadIndex, index);
  return false;
}

}  // namespace

template <class T>
void embedding(const Team& t, const T* table, i64 vocab, i64 dim, const i64* ids, i64 n, T* y) {
  t.each_row(n, [&](i64 i) {
    if (in_range(t, ids[i], vocab))
      std::memcpy(y + i * dim, table + ids[i] * dim, size_t(dim) * sizeof(T));
  });
}

template <class T>
void gather(const Team& t, const T* x, i64 rows, i64 n, const i64* index, i64 k, T* y) {
  t.each_row(rows, [&](i64 r) {
    for (i64 j = r * k; j < (r + 1) * k; ++j)
      if (in_range(t, index[j], n)) y[j] = x[r * n + index[j]];
  });
}

template <class T>
void scatter(const Team& t, const T* x, i64 rows, i64 n, const i64* index, const T* src, i64 k,
             T* y) {
  t.each_row(rows, [&](i64 r) {
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

}  // namespace xc
