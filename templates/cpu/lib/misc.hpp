// Row-wise selection, sorting, scans and indexed copies.
#pragma once
#include "team.hpp"

namespace xc {

/// The k largest of each row of x [rows,n], descending; equal values: lower index first; NaN is
/// larger than any number. values, indices: [rows,k]. T = float, bf16 or i64.
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

// Indexed copies know only the element size; T = uint8_t, uint16_t, uint32_t or uint64_t. An index
// out of range (negative included) fails the run with kBadIndex and is skipped.

/// y[i] = table[ids[i]]; table [vocab,dim], y [n,dim].
template <class T>
void embedding(const Team& t, const T* table, i64 vocab, i64 dim, const i64* ids, i64 n, T* y);

/// y[r,j] = x[r, index[r,j]]; x [rows,n], index and y [rows,k].
template <class T>
void gather(const Team& t, const T* x, i64 rows, i64 n, const i64* index, i64 k, T* y);

/// y = x, then y[r, index[r,j]] = src[r,j] in order of j; x, y [rows,n], index, src [rows,k].
/// y may be x.
template <class T>
void scatter(const Team& t, const T* x, i64 rows, i64 n, const i64* index, const T* src, i64 k,
             T* y);

/// y[o, index[j], :] = src[o, j, :] in place; y [outer,dim,inner], src [outer,n,inner].
/// An index that occurs twice keeps its last row.
template <class T>
void index_copy(const Team& t, T* y, i64 outer, i64 dim, i64 inner, const i64* index, i64 n,
                const T* src);

}  // namespace xc
