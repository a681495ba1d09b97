#include "micro.hpp"
#include "moe_rows.hpp"

namespace xc {

namespace {

// Runs store(block, panel, acc) for every row block times every panel of its expert's weight
// [N,K]. row(i) points at sorted row i. The kernel depends on the expert's rows only.
template <class T, class Row, class Epilogue>
void grouped_product(const Team& t, const Plan<T>& plan, const T* w, i64 panels, i64 K, Row row,
                     Epilogue store) {
  const i64 blocks = *plan.block_count;
  const size_t packed_bytes =
      size_t(round_up(i64(std::max(packed_rows_bytes<T>(Kernel::amx, kBlockRows, K),
                                   packed_rows_bytes<T>(Kernel::vector, kBlockRows, K))),
                      64));
  char* packed = static_cast<char*>(t.scratch(packed_bytes + (kBlockRows + 32) * kPanel * 4));
  float* acc = reinterpret_cast<float*>(packed + packed_bytes);
  const T* rows[kBlockRows];
  const Shares shares(blocks, panels, t.n);
  i64 have = -1;
  t.parallel_for(blocks * shares.count, [&](i64 task) {
    const RowBlock& block = plan.blocks[task / shares.count];
    Kernel kernel = choose_kernel<T>(plan.rows_of(block));
    if (have != task / shares.count) {
      have = task / shares.count;
      for (i64 i = 0; i < block.count; ++i) rows[i] = row(block.begin + i);
      pack_rows(kernel, packed, rows, block.count, K);
    }
    const T* weight = w + block.expert * panels * panel_elems<T>(K);
    i64 first = task % shares.count * shares.share;
    for (i64 p = first; p < std::min(panels, first + shares.share); ++p) {
      panel_product(kernel, packed, block.count, weight + p * panel_elems<T>(K), K, kPanel, acc,
                    false);
      store(block, p, acc);
    }
  });
}

}  // namespace

template <class T>
void experts(const Team& t, const Experts<T>& e) {
  if (e.tokens == 0) return;
  Space space{static_cast<char*>(e.workspace)};
  const Plan<T> plan = layout(e, space);
  if (t.tid == 0) build(t, e, plan);
  t.barrier();
  // Tiles stay configured for the whole kernel; experts with few rows do not use them.
  TileScope tiles(choose_kernel<T>(e.tokens * e.topk));
  const i64 inter16 = padded_inter(e.inter);
  const i64 up_panels = ceil_div(e.has_gate ? 2 * inter16 : e.inter, kPanel);
  grouped_product(
      t, plan, e.gate_up, up_panels, e.hidden,
      [&](i64 i) { return e.x + plan.source[i] / e.topk * e.ldx; },
      [&](const RowBlock& block, i64 panel, const float* acc) {
        activate(e, block.expert, acc, block.count, panel, plan.inter + block.begin * inter16);
      });
  t.barrier();
  grouped_product(
      t, plan, e.down, ceil_div(e.hidden, kPanel), e.inter,
      [&](i64 i) { return static_cast<const T*>(plan.inter + i * inter16); },
      [&](const RowBlock& block, i64 panel, const float* acc) {
        store_panel(e, plan, block, panel,
                    [&](i64 r, int c) { return vload(acc + r * kPanel + c); });
      });
  t.barrier();
  combine_all(t, e, plan);
}

}  // namespace xc
