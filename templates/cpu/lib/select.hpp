// Row-wise selection, sorting and scans. T = float, bf16 or i64.
#pragma once
#include "team.hpp"

namespace xc {

/// The k largest of each row of x [rows,n], descending; equal values: lower index first; NaN is
/// larger than any number. values, indices: [rows,k].
template <class T>
void topk(const Team& t, const T* x, i64 rows, i64 n, i64 k, T* values, i64* indices);

/// Index of each row's largest element (lowest index among equals, NaN is largest). [rows]
template <class T>
void argmax(const Team& t, const T* x, i64 rows, i64 n, i64* indices);

/// Stable sort of each row; NaN is larger than any number. values, indices: [rows,n]; either may
/// be null.
template <class T>
void sort(const Team& t, const T* x, i64 rows, i64 n, bool descending, T* values, i64* indices);

/// Inclusive prefix sum of each row (bf16 accumulates in fp32). y may be x.
template <class T>
void cumsum(const Team& t, const T* x, i64 rows, i64 n, T* y);

}  // namespace xc
