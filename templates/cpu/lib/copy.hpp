// Indexed copies. They know only the element size: T = uint8_t, uint16_t, uint32_t or uint64_t. An
// index out of range (negative included) fails the run with kBadIndex and is skipped.
#pragma once
#include "team.hpp"

namespace xc {

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
