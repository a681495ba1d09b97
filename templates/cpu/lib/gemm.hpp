// Matrix products against packed weight panels.
//
// Panels. A weight W[N,K] is stored as ceil(N/32) panels of 32 output columns, zero padded:
//   float: [N/32][K][32]
//   bf16:  [N/32][Kp/2][32][2], Kp = K rounded up to 32
// The bf16 pairs feed vdpbf16ps as they are, and 16 of their rows form one AMX B tile.
#pragma once
#include "team.hpp"

namespace xc {

constexpr int kPanel = 32;  // columns per panel

/// Length of K as stored in a panel (T = float or bf16).
template <class T>
constexpr i64 padded_k(i64 K) {
  return sizeof(T) == 2 ? (K + 31) / 32 * 32 : K;
}
/// Elements in one panel.
template <class T>
constexpr i64 panel_elems(i64 K) {
  return padded_k<T>(K) * kPanel;
}

/// Epilogue. acc[r*ld + c] holds output (m + r, n + c) in fp32 for r < rows and c < cols (<= 32);
/// columns cols..31 of acc are readable.
using Store = void (*)(const void* ctx, i64 m, int rows, i64 n, int cols, const float* acc, int ld);

/// y = x W^T with x [M,K] (row stride ldx) and w the panels of W[N,K]. `store` receives every
/// output exactly once, accumulated over all of K in fp32, in blocks of rows x one panel.
template <class T>
void linear(const Team& t, const T* x, i64 ldx, const T* w, i64 M, i64 N, i64 K, Store store,
            const void* ctx);

/// C[b] = A[b] B[b], accumulated in fp32, C contiguous [batch,M,N].
/// A is [M,K] with unit column stride; B is [K,N] with strides bsk, bsn; abatch / bbatch are the
/// batch strides (0 broadcasts). All strides count elements.
template <class T>
void matmul(const Team& t, const T* a, i64 abatch, i64 lda, const T* b, i64 bbatch, i64 bsk,
            i64 bsn, T* c, i64 batch, i64 M, i64 N, i64 K);

// ---- building blocks for fused kernels ----------------------------------------------------------

/// Which instructions a block of rows is packed for. Chosen from the number of rows of the whole
/// problem, never of one task, so that results do not depend on the split over threads.
enum class Kernel { vector, amx };
template <class T>
Kernel choose_kernel(i64 rows);

/// Rows are packed in groups of this many; split rows at multiples of it only.
template <class T>
int row_group(Kernel kernel);

/// Bytes needed by pack_rows.
template <class T>
size_t packed_rows_bytes(Kernel kernel, i64 rows, i64 K);

/// Packs `m` rows of K elements, given by pointers, as the left operand of panel_product.
template <class T>
void pack_rows(Kernel kernel, void* packed, const T* const* rows, i64 m, i64 K);

/// Packs the transpose of `k` rows of M elements (rows[j][i] is element (i, j)) the same way.
template <class T>
void pack_rows_transposed(Kernel kernel, void* packed, const T* const* rows, i64 k, i64 M);

/// acc[m][32] = (accumulate ? acc : 0) + packed rows [m,K] times one panel. Only the first `cols`
/// columns are needed; the others are undefined. acc has row_group-rounded rows.
template <class T>
void panel_product(Kernel kernel, const void* packed, i64 m, const T* panel, i64 K, int cols,
                   float* acc, bool accumulate);

/// Packs one panel: column n (< cols) is the row rows[n] of K elements.
template <class T>
void pack_panel(T* panel, const T* const* rows, int cols, i64 K);

/// Tile configuration for the calling thread; must be alive around panel_product.
class TileScope {
 public:
  explicit TileScope(Kernel kernel);
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

 private:
  bool on_;
};

}  // namespace xc
