// What the kernels of routed experts share: rows sorted by expert, the unit, the weighted sum.
#pragma once
#include <algorithm>

#include "moe.hpp"

namespace xc {

constexpr i64 kBlockRows = 240;  // rows of one expert that share a pass over its weights

struct RowBlock {
  i64 expert, begin, count;  // rows [begin, begin + count) in expert order
};

// Everything in the workspace. Rows are (token, k) pairs sorted by expert, order kept.
template <class T>
struct Plan {
  i64* source;       // [rows] sorted row -> token * topk + k
  i64* position;     // [rows] token * topk + k -> sorted row, -1 for a bad expert id
  i64* offset;       // [experts + 1] end of each expert's rows, once they are sorted
  i64* block_count;  // [1]
  RowBlock* blocks;
  T* inter;        // [rows, inter16]
  float* partial;  // [rows, hidden]

  // Rows of the expert of a block: what its kernel is chosen by, on any number of threads.
  i64 rows_of(const RowBlock& b) const {
    return offset[b.expert] - (b.expert ? offset[b.expert - 1] : 0);
  }
};

inline i64 padded_inter(i64 inter) { return round_up(inter, 16); }

// Hands out 64-byte aligned parts of a workspace.
struct Space {
  char* p;
  char* operator()(i64 bytes) {
    char* at = p;
    p += round_up(bytes, 64);
    return at;
  }
};

template <class T>
Plan<T> layout(const Experts<T>& e, Space& take) {
  i64 rows = e.tokens * e.topk;
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

inline vf square_of_relu(vf x) {
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
  // The limit comes first: so NaN stays NaN.
  auto within = [&](vf u) { return vmax(bottom, vmin(top, u)); };
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
      return unit([&](vf g, vf u) { return math::silu(vmin(top, g)) * within(u); });
    case Act::clamped_silu:
      return unit([&](vf g, vf u) { return vmin(top, math::silu(g)) * within(u); });
    case Act::swiglu_oai:
      // g sigmoid(alpha g) = silu(alpha g) / alpha
      return unit([&](vf g, vf u) {
        return (within(u) + 1.0f) * (math::silu(vmin(top, g) * e.alpha) * (1.0f / e.alpha));
      });
  }
}

// partial[rows of the block, columns of the panel] = value(r, c), a vector from column c of row r.
template <class T, class Value>
void store_panel(const Experts<T>& e, const Plan<T>& plan, const RowBlock& block, i64 panel,
                 Value value) {
  const int cols = int(std::min<i64>(kPanel, e.hidden - panel * kPanel));
  float* out = plan.partial + block.begin * e.hidden + panel * kPanel;
  for (i64 r = 0; r < block.count; ++r, out += e.hidden) {
    for (int c = 0; c < kPanel; c += 16) __builtin_prefetch(out + kPanel + c, 1);  // the next panel
    for (int c = 0; c < cols; c += VL) vstore_n(out + c, value(r, c), cols - c);
  }
}

// y[token, h0..h1) in fp32, over k in order.
template <class T>
void combine(const Experts<T>& e, const Plan<T>& plan, i64 token, i64 h0, i64 h1) {
  constexpr int kVectors = 8;
  for (i64 h = h0; h < h1; h += kVectors * VL) {
    const int cols = int(std::min<i64>(kVectors * VL, h1 - h));
    vf sum[kVectors] = {};
    for (i64 k = 0; k < e.topk; ++k) {
      const i64 i = token * e.topk + k, at = plan.position[i];
      if (at < 0) continue;
      const float weight = e.weight_bf16 ? to_f32(static_cast<const bf16*>(e.weight)[i])
                                         : static_cast<const float*>(e.weight)[i];
      const float* y = plan.partial + at * e.hidden + h;
      const T* bias = e.down_bias ? e.down_bias + e.expert[i] * e.hidden + h : nullptr;
      if (cols == kVectors * VL && !bias) {
        for (int v = 0; v < kVectors; ++v) sum[v] += weight * vload(y + v * VL);
        continue;
      }
      for (int v = 0; v * VL < cols; ++v) {
        vf value = vload_n(y + v * VL, cols - v * VL);
        if (bias) value += vload_n(bias + v * VL, cols - v * VL);
        sum[v] += weight * value;
      }
    }
    for (int v = 0; v * VL < cols; ++v)
      vstore_n(e.y + token * e.hidden + h + v * VL, sum[v], cols - v * VL);
  }
}

// The weighted sum of all tokens, shared by the team.
template <class T>
void combine_all(const Team& t, const Experts<T>& e, const Plan<T>& plan) {
  constexpr i64 kChunk = 256;  // columns per task, so that one token still feeds several threads
  i64 chunks = ceil_div(e.hidden, kChunk);
  auto [begin, end] = t.split(e.tokens * chunks);
  for (i64 i = begin; i < end; ++i) {
    i64 h = i % chunks * kChunk;
    combine(e, plan, i / chunks, h, std::min(e.hidden, h + kChunk));
  }
}

// Blocks of rows times shares of an expert's panels, as tasks: one share on one thread, so that
// rows are packed once; enough for eight tasks a thread on several.
struct Shares {
  i64 share, count;
  Shares(i64 blocks, i64 panels, int threads)
      : share(threads == 1 ? panels
                           : std::max<i64>(1, std::min(panels, blocks * panels / (8 * threads)))),
        count(ceil_div(panels, share)) {}
};

}  // namespace xc
