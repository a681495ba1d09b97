#include "gemm.hpp"

#include <algorithm>

#include "amx.hpp"
#include "micro.hpp"

namespace xc {

namespace {

constexpr i64 kChainSteps = 64;       // fp32: longest chain of rounding errors
constexpr i64 kRowBytes = 768 << 10;  // packed rows kept in L2
constexpr i64 kAmxMinRows = 7;

// ---- vector micro-kernel ----------------------------------------------------------------------

inline void multiply_add(vf& c, float a, vf w) { c += a * w; }
#if XC_BF16_DOT
inline void multiply_add(vf& c, uint32_t a, vf w) { c = dot_bf16(c, w, (vf)(a - vu{})); }
#else
inline void multiply_add(vf& c, const Widened& a, vf w) {
  c += a.even * (vf)((vu)w << 16);
  c += a.odd * (vf)((vu)w & 0xffff0000u);
}
#endif

// acc[M][32] (+)= a[steps][M] * w[steps][32], NV vectors of columns at a time. With one or two rows
// the FMA latency shows, but still leaves several times the memory bandwidth.
template <class U, int M, int NV>
void micro(const U* a, const float* w, i64 steps, int cols, float* acc, bool accumulate) {
  for (int col = 0; col < cols; col += NV * VL) {
    vf c[M][NV] = {};
    const float* wp = w + col;
    const U* ap = a;
    for (i64 s = 0; s < steps; ++s, wp += kPanel, ap += M) {
      vf wv[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) wv[v] = vload(wp + v * VL);
      __builtin_prefetch(reinterpret_cast<const char*>(wp) + kPrefetch);
      __builtin_prefetch(reinterpret_cast<const char*>(wp) + kPrefetch + 64);
#pragma GCC unroll 12
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) multiply_add(c[m][v], ap[m], wv[v]);
    }
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        float* to = acc + m * kPanel + col + v * VL;
        vstore(to, accumulate ? vload(to) + c[m][v] : c[m][v]);
      }
  }
}

template <class U>
void micro_rows(int width, const U* a, const float* w, i64 steps, int cols, float* acc,
                bool accumulate) {
  constexpr int NV = 2, kWide = VL == 16 ? 2 : 4;
  switch (width) {
    case 1:
      return micro<U, 1, kWide>(a, w, steps, cols, acc, accumulate);
    case 2:
      return micro<U, 2, kWide>(a, w, steps, cols, acc, accumulate);
    case 4:
      return micro<U, 4, NV>(a, w, steps, cols, acc, accumulate);
    case 6:
      return micro<U, 6, NV>(a, w, steps, cols, acc, accumulate);
#if defined(__AVX512F__) || defined(__aarch64__)
    case 8:
      return micro<U, 8, NV>(a, w, steps, cols, acc, accumulate);
    case 12:
      if (cols <= VL) return micro<U, 12, 1>(a, w, steps, cols, acc, accumulate);
      return micro<U, 12, NV>(a, w, steps, cols, acc, accumulate);
#endif
  }
}

// Works through K in blocks that stay in L1 while the groups of rows pass by.
template <class T>
void vector_product(const void* packed, i64 m, const T* panel, i64 K, int cols, float* acc,
                    bool accumulate) {
  const float* w = reinterpret_cast<const float*>(panel);
  i64 steps = unit_steps<T>(K);
  constexpr i64 kBlock = sizeof(T) == 2 ? kBlockSteps : kChainSteps;
  for (i64 s0 = 0; s0 == 0 || s0 < steps; s0 += kBlock) {
    i64 block = std::min(kBlock, steps - s0);
    const Unit<T>* a = static_cast<const Unit<T>*>(packed);
    for (i64 g = 0; g < m; g += kMaxRows) {
      int width = row_width(int(std::min<i64>(kMaxRows, m - g)));
      micro_rows(width, a + s0 * width, w + s0 * kPanel, block, cols, acc + g * kPanel,
                 accumulate || s0 > 0);
      a += width * steps;
    }
  }
}

#if XC_AMX
[[maybe_unused]] void amx_product(const void* packed, i64 m, const bf16* panel, i64 K, float* acc,
                                  bool accumulate) {
  tile_groups<DotBf16>(packed, m, panel, ceil_div(K, kTileK), acc, accumulate);
}
#endif

}  // namespace

TileScope::TileScope(Kernel kernel) : on_(kernel == Kernel::amx) {
#if XC_AMX
  if (on_) {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static const Config config;
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
#endif
}

TileScope::~TileScope() {
#if XC_AMX
  if (on_) asm volatile("tilerelease" ::: "memory");
#endif
}

template <class T>
Kernel choose_kernel(i64 rows) {
  return sizeof(T) == 2 && rows >= kAmxMinRows && amx_permit() ? Kernel::amx : Kernel::vector;
}

template <class T>
int row_group(Kernel kernel) {
  return kernel == Kernel::amx ? 2 * kTileRows : kMaxRows;
}

template <class T>
void panel_product(Kernel kernel, const void* packed, i64 m, const T* panel, i64 K, int cols,
                   float* acc, bool accumulate) {
#if XC_AMX
  if constexpr (sizeof(T) == 2)
    if (kernel == Kernel::amx) return amx_product(packed, m, panel, K, acc, accumulate);
#endif
  (void)kernel;
  vector_product(packed, m, panel, K, cols, acc, accumulate);
}

// ---- linear -------------------------------------------------------------------------------------

namespace {

struct Blocks {
  i64 rows, row_blocks;      // rows per block
  i64 panels, panel_blocks;  // panels per block
  i64 count() const { return row_blocks * panel_blocks; }
};

// Blocks of rows whose packed form stays in L2, times blocks of panels. More and smaller ones when
// the team would run out of work.
Blocks split_work(i64 M, i64 panels, i64 packed_row_bytes, int group, int threads) {
  Blocks b;
  i64 groups = ceil_div(M, group);
  i64 fit = std::max<i64>(1, kRowBytes / (packed_row_bytes * group));
  i64 wanted = threads == 1 ? 1 : 4 * threads;
  b.row_blocks = ceil_div(groups, fit);
  while (b.row_blocks < groups && b.row_blocks * panels < wanted) b.row_blocks *= 2;
  b.rows = ceil_div(groups, b.row_blocks) * group;
  b.row_blocks = ceil_div(M, b.rows);
  b.panels = std::max<i64>(1, panels * b.row_blocks / std::max<i64>(1, 2 * wanted));
  if (threads == 1) b.panels = panels;
  b.panel_blocks = ceil_div(panels, b.panels);
  return b;
}

}  // namespace

template <class T>
void linear(const Team& t, const T* x, i64 ldx, const T* w, i64 M, i64 N, i64 K, Store store,
            const void* ctx) {
  if (M == 0 || N == 0) return;
  const Kernel kernel = choose_kernel<T>(M);
  const int group = row_group<T>(kernel);
  const i64 panels = ceil_div(N, kPanel);
  const Blocks blocks =
      split_work(M, panels, ceil_div(packed_rows_bytes<T>(kernel, group, K), group), group, t.n);
  const size_t packed_bytes = round_up(packed_rows_bytes<T>(kernel, blocks.rows, K), 64);
  const size_t acc_bytes = size_t(round_up(blocks.rows, group) * kPanel) * 4;
  char* packed =
      static_cast<char*>(t.scratch(packed_bytes + acc_bytes + size_t(blocks.rows) * sizeof(T*)));
  float* acc = reinterpret_cast<float*>(packed + packed_bytes);
  const T** rows = reinterpret_cast<const T**>(packed + packed_bytes + acc_bytes);
  TileScope tiles(kernel);
  i64 have = -1;  // row block in `packed`
  t.parallel_for(blocks.count(), [&](i64 task) {
    i64 rb = task / blocks.panel_blocks, pb = task % blocks.panel_blocks;
    i64 m0 = rb * blocks.rows, m = std::min(blocks.rows, M - m0);
    if (rb != have) {
      for (i64 i = 0; i < m; ++i) rows[i] = x + (m0 + i) * ldx;
      pack_rows(kernel, packed, rows, m, K);
      have = rb;
    }
    for (i64 p = pb * blocks.panels; p < std::min(panels, (pb + 1) * blocks.panels); ++p) {
      int cols = int(std::min<i64>(kPanel, N - p * kPanel));
      panel_product(kernel, packed, m, w + p * panel_elems<T>(K), K, kPanel, acc, false);
      store(ctx, m0, int(m), p * kPanel, cols, acc, kPanel);
    }
  });
}

// ---- matmul -------------------------------------------------------------------------------------

namespace {

// Packs columns n0.. of B[K,N] with any strides.
template <class T>
void pack_columns(T* panel, T* copy, const T* b, i64 bsk, i64 bsn, i64 n0, int cols, i64 K) {
  const T* columns[kPanel];
  for (int n = 0; n < cols; ++n) columns[n] = b + (n0 + n) * bsn;
  if (bsk != 1) {  // bring the columns together first
    for (i64 k = 0; k < K; ++k)
      for (int n = 0; n < cols; ++n) copy[n * K + k] = columns[n][k * bsk];
    for (int n = 0; n < cols; ++n) columns[n] = copy + n * K;
  }
  pack_panel(panel, columns, cols, K);
}

}  // namespace

template <class T>
void matmul(const Team& t, const T* a, i64 abatch, i64 lda, const T* b, i64 bbatch, i64 bsk,
            i64 bsn, T* c, i64 batch, i64 M, i64 N, i64 K) {
  if (batch == 0 || M == 0 || N == 0) return;
  const Kernel kernel = choose_kernel<T>(M);
  const int group = row_group<T>(kernel);
  const i64 panels = ceil_div(N, kPanel);
  Blocks blocks = split_work(M, panels * batch,
                             ceil_div(packed_rows_bytes<T>(kernel, group, K), group), group, t.n);
  const size_t packed_bytes = round_up(packed_rows_bytes<T>(kernel, blocks.rows, K), 64);
  const size_t acc_bytes = size_t(round_up(blocks.rows, group) * kPanel) * 4;
  const size_t panel_bytes = size_t(round_up(panel_elems<T>(K) * i64(sizeof(T)), 64));
  char* packed = static_cast<char*>(
      t.scratch(packed_bytes + acc_bytes + 2 * panel_bytes + size_t(blocks.rows) * sizeof(T*)));
  float* acc = reinterpret_cast<float*>(packed + packed_bytes);
  T* panel = reinterpret_cast<T*>(packed + packed_bytes + acc_bytes);
  T* copy = panel + panel_bytes / sizeof(T);
  const T** rows = reinterpret_cast<const T**>(copy + panel_bytes / sizeof(T));
  TileScope tiles(kernel);
  i64 have = -1;
  t.parallel_for(batch * blocks.row_blocks * panels, [&](i64 task) {
    i64 block = task / panels, p = task % panels;
    i64 i = block / blocks.row_blocks, m0 = block % blocks.row_blocks * blocks.rows;
    i64 m = std::min(blocks.rows, M - m0);
    if (block != have) {
      for (i64 r = 0; r < m; ++r) rows[r] = a + i * abatch + (m0 + r) * lda;
      pack_rows(kernel, packed, rows, m, K);
      have = block;
    }
    int cols = int(std::min<i64>(kPanel, N - p * kPanel));
    pack_columns(panel, copy, b + i * bbatch, bsk, bsn, p * kPanel, cols, K);
    panel_product(kernel, packed, m, panel, K, kPanel, acc, false);
    for (i64 r = 0; r < m; ++r) {
      T* to = c + (i * M + m0 + r) * N + p * kPanel;
      for (int n = 0; n < cols; n += VL) vstore_n(to + n, vload(acc + r * kPanel + n), cols - n);
    }
  });
}

}  // namespace xc
