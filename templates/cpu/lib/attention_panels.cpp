// Attention for many query rows by panel products, 32 rows (one panel of columns) at a time:
//   scores^T [keys, 32] = K Q^T      keys are the left operand: packed by copying
//   out^T    [Dv, 32]  += V^T P^T    P^T is already a panel
// so the softmax runs down the columns, without horizontal sums. A block of keys and values is
// packed once and meets all rows of the task.
#include <algorithm>

#include "attention_core.hpp"
#include "micro.hpp"
#include "transpose.hpp"

namespace xc {
namespace {

constexpr i64 kKeys = 128;  // keys per block
constexpr int kVecs = kPanel / VL;

i64 acc_rows(i64 rows) { return round_up(rows, 32) + 16; }

// Running state of one panel of rows.
struct State {
  float max[kPanel], sum[kPanel];
  i64 first_limit, last_limit;  // smallest and largest number of visible keys
  i64 last_first;               // largest first visible key
  int32_t limit[kPanel];
  int cols;
};

// Carves aligned arrays out of the scratch buffer; with a null base it only measures.
struct Carver {
  char* base;
  size_t used = 0;
  template <class U>
  U* take(size_t count) {
    char* at = base + used;
    used += (count * sizeof(U) + 63) / 64 * 64;
    return reinterpret_cast<U*>(at);
  }
};

template <class T>
struct Buffers {
  T* queries;  // panels of Q
  float* out;  // out^T per panel
  State* state;
  char *keys, *values;
  float* score;  // [keys][32], then P^T in place (fp32)
  T* prob;       // P^T (bf16)
  const T *kp[kKeys], *vp[kKeys];
  size_t bytes;

  Buffers(void* base, i64 rows, i64 D, i64 Dv) {
    Carver c{static_cast<char*>(base)};
    size_t panels = size_t(ceil_div(rows, kPanel));
    auto packed = [](i64 m, i64 k) {
      return std::max(packed_rows_bytes<T>(Kernel::amx, m, k),
                      packed_rows_bytes<T>(Kernel::vector, m, k));
    };
    queries = c.take<T>(panels * size_t(panel_elems<T>(D)));
    out = c.take<float>(panels * size_t(acc_rows(Dv)) * kPanel);
    state = c.take<State>(panels);
    keys = c.take<char>(packed(kKeys, D));
    values = c.take<char>(packed(Dv, kKeys));
    score = c.take<float>(size_t(acc_rows(kKeys)) * kPanel);
    prob = c.take<T>(sizeof(T) == 2 ? size_t(panel_elems<T>(kKeys)) : 0);
    bytes = c.used;
  }
};

// score = scale * score + mask, by transposed VL x VL blocks.
template <class T>
void apply_mask(const Slice<T>& s, i64 row, int cols, i64 j0, i64 n, float* score) {
  for (i64 i = 0; i < n; i += VL)
    for (int c = 0; c < cols; c += VL) {
      vf m[VL];
      int width = int(std::min<i64>(VL, n - i));
      for (int l = 0; l < VL; ++l)
        m[l] = s.mask_values(row + std::min(c + l, cols - 1), j0 + i, width);
      transpose(m);
      for (int l = 0; l < width; ++l) {
        float* at = score + (i + l) * kPanel + c;
        vstore(at, s.scale * vload(at) + m[l]);
      }
    }
}

inline void store_prob(float* prob, i64 j, int col, vf p0, vf p1, bool both) {
  vstore(prob + j * kPanel + col, p0);
  if (both) vstore(prob + (j + 1) * kPanel + col, p1);
}
inline void store_prob(bf16* prob, i64 j, int col, vf p0, vf p1, bool) {
  vu pair = pair_up(round_bf16(p0), round_bf16(p1));
  std::memcpy(prob + j * kPanel + col * 2, &pair, sizeof pair);
}

// One step of the online softmax over n keys: turns scores into probabilities, updates maximum and
// sum, and rescales the output so far. Keys n..padded get probability zero.
template <class T>
void softmax(State& st, const float* score, T* prob, i64 j0, i64 n, i64 padded, float scale,
             float* out, i64 Dv, i64 window) {
  const bool ragged = j0 + n > st.first_limit || j0 < st.last_first;
  const int32_t reach = window ? int32_t(window) : INT32_MAX;
  for (int col = 0; col < st.cols; col += VL) {
    vi limit;
    std::memcpy(&limit, st.limit + col, sizeof limit);
    limit -= int32_t(j0);
    auto at = [&](i64 j) {
      vf x = scale * vload(score + j * kPanel + col);
      if (!ragged) return x;
      const vi left = limit - int32_t(j);
      return select((left > 0) & (left <= reach), x, splat(-kInf));
    };
    vf old = vload(st.max + col), m0 = old, m1 = old;
    i64 j = 0;
    for (; j + 2 <= n; j += 2) {
      m0 = vmax(at(j), m0);
      m1 = vmax(at(j + 1), m1);
    }
    if (j < n) m0 = vmax(at(j), m0);
    vf max = vmax(m0, m1);
    vf base = select(max == -kInf, vf{}, max);
    vf decay = math::exp(old - base), s0 = {}, s1 = {};
    for (j = 0; j + 2 <= n; j += 2) {
      vf p0 = math::exp(at(j) - base), p1 = math::exp(at(j + 1) - base);
      s0 += p0;
      s1 += p1;
      store_prob(prob, j, col, p0, p1, true);
    }
    if (j < n) {
      vf p0 = math::exp(at(j) - base);
      s0 += p0;
      store_prob(prob, j, col, p0, vf{}, false);
      j += sizeof(T) == 2 ? 2 : 1;
    }
    for (; j < padded; j += sizeof(T) == 2 ? 2 : 1) store_prob(prob, j, col, vf{}, vf{}, false);
    vstore(st.sum + col, vload(st.sum + col) * decay + (s0 + s1));
    vstore(st.max + col, max);
    vi changed = max != old;
    int any = 0;
    for (int l = 0; l < VL; ++l) any |= changed[l];
    if (any)
      for (i64 d = 0; d < Dv; ++d)
        vstore(out + d * kPanel + col, decay * vload(out + d * kPanel + col));
  }
}

// out^T columns to rows: normalised into s.o, or as they are into a partial.
template <class T>
void write_rows(const Slice<T>& s, i64 row, const State& st, const float* out,
                const Partial* result) {
  float inverse[kPanel];
  for (int c = 0; c < st.cols; ++c) {
    inverse[c] = st.sum[c] == 0.0f ? 0.0f : 1.0f / st.sum[c];
    if (!result) continue;
    result->max[row + c] = st.max[c];
    result->sum[row + c] = st.sum[c];
  }
  for (int col = 0; col < st.cols; col += VL)
    for (i64 d = 0; d < s.Dv; d += VL) {
      int width = int(std::min<i64>(VL, s.Dv - d));
      vf x[VL];
      for (int l = 0; l < VL; ++l) x[l] = vload(out + (d + std::min(l, width - 1)) * kPanel + col);
      transpose(x);
      for (int l = 0; l < VL && col + l < st.cols; ++l) {
        i64 r = row + col + l;
        if (result)
          vstore_n(result->out + r * result->ld + d, x[l], width);
        else
          vstore_n(s.o_row(r) + d, inverse[col + l] * x[l], width);
      }
    }
}

// `whole`: all keys go by, so the sinks count here.
template <class T>
void start_panel(const Slice<T>& s, i64 row, int cols, bool whole, T* queries, State& st) {
  const T* rows[kPanel];
  st.cols = cols;
  st.first_limit = s.keys;
  st.last_limit = st.last_first = 0;
  for (int c = 0; c < kPanel; ++c) {
    i64 r = row + std::min(c, cols - 1), limit = s.limit(r);
    rows[c] = s.q_row(r);
    st.limit[c] = int32_t(limit);
    st.first_limit = std::min(st.first_limit, limit);
    st.last_limit = std::max(st.last_limit, limit);
    st.last_first = std::max(st.last_first, s.first(r));
    st.max[c] = whole ? s.start_max(r) : -kInf;
    st.sum[c] = whole ? s.start_sum() : 0.0f;
  }
  pack_panel(queries, rows, cols, s.D);
}

}  // namespace

template <class T>
size_t panels_scratch(i64 rows, i64 D, i64 Dv) {
  return Buffers<T>(nullptr, rows, D, Dv).bytes;
}

template <class T>
void attend_panels(const Slice<T>& s, i64 r0, i64 r1, i64 j0, i64 j1, void* scratch,
                   const Partial* result) {
  Buffers<T> b(scratch, r1 - r0, s.D, s.Dv);
  const Kernel kernel = choose_kernel<T>(kPanel);
  const i64 panels = ceil_div(r1 - r0, kPanel), out_elems = acc_rows(s.Dv) * kPanel;
  i64 last = 0;
  for (i64 p = 0; p < panels; ++p) {
    i64 row = r0 + p * kPanel;
    start_panel(s, row, int(std::min<i64>(kPanel, r1 - row)), !result,
                b.queries + p * panel_elems<T>(s.D), b.state[p]);
    last = std::max(last, b.state[p].last_limit);
  }
  std::fill(b.out, b.out + panels * out_elems, 0.0f);
  TileScope tiles(kernel);
  for (i64 j = j0; j < std::min(j1, last); j += kKeys) {
    const i64 n = std::min(kKeys, j1 - j);
    s.gather(j, n, b.kp, b.vp);
    pack_rows(kernel, b.keys, b.kp, n, s.D);
    pack_rows_transposed(kernel, b.values, b.vp, n, s.Dv);
    for (i64 p = 0; p < panels; ++p) {
      State& st = b.state[p];
      const i64 seen = std::min(n, st.last_limit - j);  // keys that some row of the panel sees
      if (seen <= 0) continue;
      const i64 scored = std::min(n, round_up(seen, row_group<T>(kernel)));  // whole groups
      float* out = b.out + p * out_elems;
      T* prob = sizeof(T) == 2 ? b.prob : reinterpret_cast<T*>(b.score);
      panel_product(kernel, b.keys, scored, b.queries + p * panel_elems<T>(s.D), s.D, st.cols,
                    b.score, false);
      if (s.mask) apply_mask(s, r0 + p * kPanel, st.cols, j, seen, b.score);
      softmax(st, b.score, prob, j, seen, padded_k<T>(n), s.mask ? 1.0f : s.scale, out, s.Dv,
              s.window);
      panel_product(kernel, b.values, s.Dv, prob, n, st.cols, out, true);
    }
  }
  for (i64 p = 0; p < panels; ++p)
    write_rows(s, r0 + p * kPanel, b.state[p], b.out + p * out_elems, result);
}

}  // namespace xc
