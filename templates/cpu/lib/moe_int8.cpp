#include "dot_int8.hpp"
#include "moe_rows.hpp"

namespace xc {

namespace {

// Rows of int8 with a scale each, in the workspace.
struct Quantised {
  int8_t* rows;
  float* scales;
  i64 pitch;
  Quantised(Space& take, i64 count, i64 K)
      : rows(reinterpret_cast<int8_t*>(take(count * int8::padded(K)))),
        scales(reinterpret_cast<float*>(take(count * 4))),
        pitch(int8::padded(K)) {}
};

// As grouped_product of moe.cpp: store(block, panel, value) gets value(r, c), the sums from column
// c of row r in float, times the scales of row and channel. index(i) is the row of `x` that sorted
// row i reads.
template <class T, class Index, class Epilogue>
void grouped_product(const Team& t, const Plan<T>& plan, const Quantised& x, const int8_t* w,
                     const float* scale, i64 panels, i64 K, Index index, Epilogue store) {
  const i64 blocks = *plan.block_count;
  const size_t packed_bytes = size_t(int8::packed_bytes(kBlockRows, K));
  char* packed = static_cast<char*>(t.scratch(packed_bytes + (kBlockRows + 32) * kPanel * 4));
  int32_t* acc = reinterpret_cast<int32_t*>(packed + packed_bytes);
  const int8_t* rows[kBlockRows];
  float row_scale[kBlockRows];
  const Shares shares(blocks, panels, t.n);
  i64 have = -1;
  t.parallel_for(blocks * shares.count, [&](i64 task) {
    const RowBlock& block = plan.blocks[task / shares.count];
    const Kernel kernel = choose_kernel<bf16>(plan.rows_of(block));
    if (have != task / shares.count) {
      have = task / shares.count;
      for (i64 i = 0; i < block.count; ++i) {
        const i64 from = index(block.begin + i);
        rows[i] = x.rows + from * x.pitch;
        row_scale[i] = x.scales[from];
      }
      int8::pack(kernel, packed, rows, block.count, K);
    }
    const i64 first = task % shares.count * shares.share;
    for (i64 p = first; p < std::min(panels, first + shares.share); ++p) {
      const i64 at = block.expert * panels + p;
      int8::product(kernel, packed, block.count, w + at * int8::panel_bytes(K), K, acc);
      store(block, p, [&](i64 r, int c) {
        vi sums;
        std::memcpy(&sums, acc + r * kPanel + c, sizeof sums);
        return __builtin_convertvector(sums, vf) * vload(scale + at * kPanel + c) * row_scale[r];
      });
    }
  });
}

}  // namespace

template <class T>
void experts_int8(const Team& t, const ExpertsInt8<T>& e) {
  if (e.tokens == 0) return;
  Space space{static_cast<char*>(e.workspace)};
  const Plan<T> plan = layout<T>(e, space);
  const Quantised x(space, e.tokens, e.hidden), inner(space, e.tokens * e.topk, e.inter);
  if (t.tid == 0) build<T>(t, e, plan);
  const auto [from, to] = t.split(e.tokens);
  for (i64 i = from; i < to; ++i)
    x.scales[i] = int8::quantise(e.x + i * e.ldx, e.hidden, x.rows + i * x.pitch);
  t.barrier();
  TileScope tiles(choose_kernel<bf16>(e.tokens * e.topk));
  const i64 inter16 = padded_inter(e.inter);
  const i64 up_panels = ceil_div(e.has_gate ? 2 * inter16 : e.inter, kPanel);
  grouped_product(
      t, plan, x, e.gate_up8, e.gate_up_scale, up_panels, e.hidden,
      [&](i64 i) { return plan.source[i] / e.topk; },
      [&](const RowBlock& block, i64 panel, auto value) {
        float acc[kBlockRows * kPanel];
        for (i64 r = 0; r < block.count; ++r)
          for (int c = 0; c < kPanel; c += VL) vstore(acc + r * kPanel + c, value(r, c));
        activate<T>(e, block.expert, acc, block.count, panel, plan.inter + block.begin * inter16);
      });
  t.barrier();
  const i64 count = e.experts == 0 ? 0 : plan.offset[e.experts - 1];
  const auto [first, last] = t.split(count);
  for (i64 i = first; i < last; ++i)
    inner.scales[i] =
        int8::quantise(plan.inter + i * inter16, e.inter, inner.rows + i * inner.pitch);
  t.barrier();
  grouped_product(
      t, plan, inner, e.down8, e.down_scale, ceil_div(e.hidden, kPanel), e.inter,
      [](i64 i) { return i; },
      [&](const RowBlock& block, i64 panel, auto value) {
        store_panel<T>(e, plan, block, panel, value);
      });
  t.barrier();
  combine_all<T>(t, e, plan);
}

}  // namespace xc
