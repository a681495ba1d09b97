#include "moe.hpp"

#include <algorithm>

#include "micro.hpp"

namespace xc {

namespace {

constexpr i64 kBlockRows = 240;  // rows of one expert that share a pass over its weights

struct RowBlock {
  i64 expert, begin, count;  // rows [begin, begin + count) in expert order
};

// Everything in the workspace. Rows are (token, k) pairs sorted by expert, order kept.
template <class T>
struct Plan {
  i64* source;       // [rows] sorted row -> token * topk + k
  i64* position;     // [rows] token * topk + k -> sorted row, -1 for a bad expert id
  i64* offset;       // [experts + 1] first sorted row of each expert
  i64* block_count;  // [1]
  RowBlock* blocks;
  T* inter;        // [rows, inter16]
  float* partial;  // [rows, hidden]
};

i64 padded_inter(i64 inter) { return round_up(inter, 16); }

template <class T>
Plan<T> layout(const Experts<T>& e) {
  i64 rows = e.tokens * e.topk;
  char* p = static_cast<char*>(e.workspace);
  auto take = [&p](i64 bytes) {
    char* at = p;
    p += round_up(bytes, 64);
    return at;
  };
  Plan<T> plan;
  plan.source = reinterpret_cast<i64*>(take(rows * 8));
  plan.position = reinterpret_cast<i64*>(take(rows * 8));
  plan.offset = reinterpret_cast<i64*>(take((e.experts + 1) * 8));
  plan.block_count = reinterpret_cast<i64*>(take(8));
  plan.blocks = reinterpret_cast<RowBlock*>(take((e.experts + rows / kBlockRows) * 24));
  plan.inter = reinterpret_cast<T*>(take(rows * padded_inter(e.inter) * i64(sizeof(T))));
  plan.partial = reinterpret_cast<float*>(take(rows * e.hidden * 4));
  return plan;
}

// Counting sort of the rows by expert, then row blocks: an expert without rows gets none, and one
// with many gets several.
template <class T>
void build(const Team& t, const Experts<T>& e, const Plan<T>& plan) {
  i64 rows = e.tokens * e.topk;
  i64* offset = plan.offset;
  std::fill(offset, offset + e.experts + 1, 0);
  for (i64 i = 0; i < rows; ++i) {
    i64 id = e.expert[i];
    if (id < 0 || id >= e.experts)
      t.fail(kBadExpert, id);
    else
      ++offset[id + 1];
  }
  for (i64 id = 0; id < e.experts; ++id) offset[id + 1] += offset[id];
  i64 blocks = 0;
  for (i64 id = 0; id < e.experts; ++id)
    for (i64 b = offset[id]; b < offset[id + 1]; b += kBlockRows)
      plan.blocks[blocks++] = {id, b, std::min(kBlockRows, offset[id + 1] - b)};
  *plan.block_count = blocks;
  // Filling advances offset[id] to the end of expert id, which is where id + 1 began.
  for (i64 i = 0; i < rows; ++i) {
    i64 id = e.expert[i];
    bool good = id >= 0 && id < e.experts;
    plan.position[i] = good ? offset[id] : -1;
    if (good) plan.source[offset[id]++] = i;
  }
}

// Biases of a panel, in its order of columns; zeros without biases.
template <class T>
void panel_bias(const Experts<T>& e, i64 expert, i64 panel, float* out) {
  const int parts = e.has_gate ? 2 : 1, width = int(kPanel) / parts;
  const T* bias = e.gate_up_bias ? e.gate_up_bias + expert * parts * e.inter : nullptr;
  for (int part = 0; part < parts; ++part)
    for (int c = 0; c < width; ++c) {
      i64 at = panel * width + c;
      out[part * width + c] = bias && at < e.inter ? to_f32(bias[part * e.inter + at]) : 0.0f;
    }
}

// inter[r, c] = act(gate, up) for one panel: 16 gate columns, then the 16 matching up columns.
template <class T, class F>
void gated(F act, const float* acc, const float* bias, i64 rows, T* out, i64 ld) {
  for (i64 r = 0; r < rows; ++r, acc += kPanel, out += ld)
    for (int c = 0; c < 16; c += VL)
      vstore(out + c,
             act(vload(acc + c) + vload(bias + c), vload(acc + 16 + c) + vload(bias + 16 + c)));
}
template <class T, class F>
void plain(F act, const float* acc, const float* bias, i64 rows, int cols, T* out, i64 ld) {
  for (i64 r = 0; r < rows; ++r, acc += kPanel, out += ld)
    for (int c = 0; c < cols; c += VL) vstore(out + c, act(vload(acc + c) + vload(bias + c)));
}

vf square_of_relu(vf x) {
  vf y = math::relu(x);
  return y * y;
}

template <class T>
void activate(const Experts<T>& e, i64 expert, const float* acc, i64 rows, i64 panel, T* inter) {
  const i64 ld = padded_inter(e.inter);
  alignas(64) float bias[kPanel];
  panel_bias(e, expert, panel, bias);
  auto unit = [&](auto act) { gated(act, acc, bias, rows, inter + panel * 16, ld); };
  auto run = [&](auto act) {
    if (e.has_gate) return unit([&](vf g, vf u) { return act(g) * u; });
    int cols = int(std::min<i64>(kPanel, ld - panel * kPanel));
    plain(act, acc, bias, rows, cols, inter + panel * kPanel, ld);
  };
  const vf top = splat(e.limit), bottom = splat(-e.limit);
  auto within = [&](vf u) { return vmax(vmin(u, top), bottom); };
  switch (e.act) {
    case Act::silu:
      return run([](vf x) { return math::silu(x); });
    case Act::gelu:
      return run([](vf x) { return math::gelu(x); });
    case Act::gelu_tanh:
      return run([](vf x) { return math::gelu_tanh(x); });
    case Act::relu:
      return run([](vf x) { return math::relu(x); });
    case Act::relu2:
      return run([](vf x) { return square_of_relu(x); });
    case Act::silu_clamped:
      return unit([&](vf g, vf u) { return math::silu(vmin(g, top)) * within(u); });
    case Act::clamped_silu:
      return unit([&](vf g, vf u) { return vmin(math::silu(g), top) * within(u); });
    case Act::swiglu_oai:
      // g sigmoid(alpha g) = silu(alpha g) / alpha
      return unit([&](vf g, vf u) {
        return (within(u) + 1.0f) * (math::silu(vmin(g, top) * e.alpha) * (1.0f / e.alpha));
      });
  }
}

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
  i64 share = t.n == 1 ? panels : std::max<i64>(1, std::min(panels, blocks * panels / (8 * t.n)));
  i64 shares = ceil_div(panels, share);
  i64 have = -1;
  t.parallel_for(blocks * shares, [&](i64 task) {
    const RowBlock& block = plan.blocks[task / shares];
    i64 expert_rows =
        plan.offset[block.expert] - (block.expert ? plan.offset[block.expert - 1] : 0);
    Kernel kernel = choose_kernel<T>(expert_rows);
    if (have != task / shares) {
      have = task / shares;
      for (i64 i = 0; i < block.count; ++i) rows[i] = row(block.begin + i);
      pack_rows(kernel, packed, rows, block.count, K);
    }
    const T* weight = w + block.expert * panels * panel_elems<T>(K);
    i64 first = task % shares * share;
    for (i64 p = first; p < std::min(panels, first + share); ++p) {
      panel_product(kernel, packed, block.count, weight + p * panel_elems<T>(K), K, kPanel, acc,
                    false);
      store(block, p, acc);
    }
  });
}

// y[token, h0..h1) in fp32, over k in order.
template <class T>
void combine(const Experts<T>& e, const Plan<T>& plan, i64 token, i64 h0, i64 h1) {
  for (i64 h = h0; h < h1; h += VL) {
    int width = int(std::min<i64>(VL, h1 - h));
    vf sum = {};
    for (i64 k = 0; k < e.topk; ++k) {
      i64 i = token * e.topk + k, at = plan.position[i];
      if (at < 0) continue;
      float weight = e.weight_bf16 ? to_f32(static_cast<const bf16*>(e.weight)[i])
                                   : static_cast<const float*>(e.weight)[i];
      vf y = vload_n(plan.partial + at * e.hidden + h, width);
      if (e.down_bias) y += vload_n(e.down_bias + e.expert[i] * e.hidden + h, width);
      sum += weight * y;
    }
    vstore_n(e.y + token * e.hidden + h, sum, width);
  }
}

}  // namespace

template <class T>
void experts(const Team& t, const Experts<T>& e) {
  if (e.tokens == 0) return;
  const Plan<T> plan = layout(e);
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
        i64 cols = std::min<i64>(kPanel, e.hidden - panel * kPanel);
        float* out = plan.partial + block.begin * e.hidden + panel * kPanel;
        for (i64 r = 0; r < block.count; ++r)
          std::memcpy(out + r * e.hidden, acc + r * kPanel, size_t(cols) * 4);
      });
  t.barrier();
  constexpr i64 kChunk = 256;  // columns per task, so that one token still feeds several threads
  i64 chunks = ceil_div(e.hidden, kChunk);
  auto [begin, end] = t.split(e.tokens * chunks);
  for (i64 i = begin; i < end; ++i) {
    i64 h = i % chunks * kChunk;
    combine(e, plan, i / chunks, h, std::min(e.hidden, h + kChunk));
  }
}

}  // namespace xc
