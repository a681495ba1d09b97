// Decode attention: few query rows per key, so keys and values stream through once. A vector holds
// R rows times G = VL / R keys: a piece of a key is repeated for all rows, and halving sums turn
// the products of G keys into G scores per row, on which the softmax runs with full vectors. All
// heads of a block of keys are done before the next block: their keys are neighbours in memory.
#include <algorithm>

#include "attention_core.hpp"
#include "attention_lanes.hpp"
#include "pairs.hpp"

namespace xc {
namespace {

constexpr i64 kBlock = 64;  // keys per block
constexpr int kMaxDotRows = 16;
constexpr int kMaxR = VL < 8 ? VL : 8;            // rows of a chunk
constexpr int kChunks = kMaxDotRows / kMaxR + 2;  // of one head at most

// Rows of one head that are computed together, and their running state, lane by lane.
struct Chunk {
  float max[VL], sum[VL];
  int32_t limit[VL];  // visible keys, less the lane's place among G keys
  i64 first_limit, last_first;
  int row, rows, R;
  float* q;
};

// Rows that are fetched into L2 while rows are scored and while values are added, one for one.
template <class T>
struct Ahead {
  const T *const *scoring = nullptr, *const *adding = nullptr;  // null: nothing

  template <int Bytes>
  static void fetch(const T* const* rows, i64 i, i64 bytes) {
    if (!rows) return;
    const char* p = reinterpret_cast<const char*>(rows[i]);
    if constexpr (Bytes > 0) {
#pragma GCC unroll 8
      for (int b = 0; b < Bytes; b += 64) __builtin_prefetch(p + b, 0, 2);
    } else {
      for (i64 b = 0; b < bytes; b += 64) __builtin_prefetch(p + b, 0, 2);
    }
  }
};

// One vector of scores: R rows against the G keys kp[0..G). Size: D if it is known here, else 0.
template <class T, int R, int Size>
inline vf scores(const float* q, const T* const* kp, i64 D, const T* const* ahead) {
  using Op = Dot<T>;
  constexpr int G = VL / R, step = G * Op::elems;
  vf c[G];
  if constexpr (Size > 0) {
    static_assert(Size % (2 * step) == 0, "whole steps");
#pragma GCC unroll 16
    for (int i = 0; i < G; ++i) {
      const T* key = kp[i];
      vf a = {}, b = {};
      Ahead<T>::template fetch<Size* int(sizeof(T))>(ahead, i, 0);
#pragma GCC unroll 64
      for (int u = 0; u < Size / step; u += 2) {
        Op::add(a, repeat<G>(key + u * step), q + u * VL * Op::parts);
        Op::add(b, repeat<G>(key + (u + 1) * step), q + (u + 1) * VL * Op::parts);
      }
      c[i] = a + b;
    }
    return sum_lanes<1, G>(c);
  }
  const i64 whole = D / step * step;
#pragma GCC unroll 16
  for (int i = 0; i < G; ++i) {
    const T* key = kp[i];
    Ahead<T>::template fetch<0>(ahead, i, D * i64(sizeof(T)));
    const float* at = q;
    vf a = {}, b = {};
    i64 d = 0;
    for (; d + 2 * step <= whole; d += 2 * step, at += 2 * VL * Op::parts) {
      Op::add(a, repeat<G>(key + d), at);
      Op::add(b, repeat<G>(key + d + step), at + VL * Op::parts);
    }
    if (d < whole) Op::add(a, repeat<G>(key + d), at), at += VL * Op::parts;
    if (whole < D) {
      T rest[step] = {};
      std::memcpy(rest, key + whole, size_t(D - whole) * sizeof(T));
      Op::add(b, repeat<G>(rest), at);
    }
    c[i] = a + b;
  }
  return sum_lanes<1, G>(c);
}

// Additive mask of a chunk's rows in the order of its scores.
template <class T, int R>
void gather_mask(const Slice<T>& s, const Chunk& c, i64 j, i64 n, float* mask) {
  constexpr int G = VL / R;
  for (int r = 0; r < R; ++r)
    for (i64 i = 0; i < n; i += VL) {
      float m[VL];
      const int row = c.row + std::min(r, c.rows - 1);
      vstore(m, s.mask_values(row, j + i, int(std::min<i64>(VL, n - i))));
      for (int g = 0; g < VL; g += G)
        std::memcpy(mask + (i + g) * R + r * G, m + g, G * sizeof(float));
    }
}

// Scores x of `vectors` vectors to probabilities, in place: fp32, or bf16 in the first halves.
template <class T, int R>
void softmax(Chunk& c, float* x, i64 vectors, i64 j, bool ragged, i64 window, float* decay) {
  constexpr int G = VL / R;
  const vf old = vload(c.max);
  vf m = old;
  if (ragged) {
    vi limit;
    std::memcpy(&limit, c.limit, sizeof limit);
    limit -= int32_t(j);
    const int32_t reach = window ? int32_t(window) : INT32_MAX;
    for (i64 i = 0; i < vectors; ++i) {
      const vi left = limit - int32_t(i * G);
      vstore(x + i * VL, select((left > 0) & (left <= reach), vload(x + i * VL), splat(-kInf)));
    }
  }
  for (i64 i = 0; i < vectors; ++i) m = vmax(vload(x + i * VL), m);
  m = max_lanes<G>(m);
  const vf base = select(m == -kInf, vf{}, m);
  vf s0 = {}, s1 = {};
  auto exponential = [&](i64 i) {
    const vf e = math::exp(vload(x + i * VL) - base);
    if constexpr (Dot<T>::pairs) {
      const vh h = round_bf16(e);
      std::memcpy(x + i * VL / 2, &h, sizeof h);
    } else {
      vstore(x + i * VL, e);
    }
    return e;
  };
  i64 i = 0;
  for (; i + 2 <= vectors; i += 2) {
    s0 += exponential(i);
    s1 += exponential(i + 1);
  }
  if (i < vectors) s0 += exponential(i);
  const vf factor = math::exp(old - base);
  vstore(decay, factor);
  vstore(c.sum, vload(c.sum) * factor + (s0 + s1));
  vstore(c.max, m);
}

#if XC_BF16_DOT
// out[R][C * 32] = decay out + p v over n keys, two at a time, an even number of rows in vp.
// Columns come out as pair_keys leaves them: see untwist.
template <int R, int C>
void add_pairs(const float* p, const float* decay, const bf16* const* vp, i64 n, i64 col, int width,
               float* out, i64 ld, const bf16* const* ahead, i64 ahead_bytes) {
  constexpr int G = VL / R, pairs = G / 2;
  vf c[R][2 * C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < 2 * C; ++v) c[r][v] = decay[r * G] * vload(out + r * ld + v * VL);
  auto step = [&](auto whole, const float* at, i64 j) {
    const bf16 *even = vp[j] + col, *odd = vp[j + 1] + col;
    if (ahead) {
      Ahead<bf16>::fetch<0>(ahead, j, ahead_bytes);
      Ahead<bf16>::fetch<0>(ahead, j + 1, ahead_bytes);
    }
#pragma GCC unroll 4
    for (int v = 0; v < C; ++v) {
      const int valid = whole() ? 32 : width - v * 32;
      const vpair a = load_32(even + v * 32, valid), b = load_32(odd + v * 32, valid);
      vf even_columns, odd_columns;
      pair_keys(a, b, &even_columns, &odd_columns);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const vf weight = splat(at[r * pairs]);
        c[r][2 * v] = dot_bf16(c[r][2 * v], even_columns, weight);
        c[r][2 * v + 1] = dot_bf16(c[r][2 * v + 1], odd_columns, weight);
      }
    }
  };
  auto run = [&](auto whole) {
    for (i64 j = 0; j < n; j += G, p += VL / 2)
#pragma GCC unroll 8
      for (int i = 0; i < pairs; ++i)
        if (j + 2 * i < n) step(whole, p + i, j + 2 * i);
  };
  width >= C * 32 ? run(std::true_type()) : run(std::false_type());
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < 2 * C; ++v) vstore(out + r * ld + v * VL, c[r][v]);
}
#endif

// out[R][C * VL] = decay out + p v over n keys.
template <class T, int R, int C>
void add_values(const float* p, const float* decay, const T* const* vp, i64 n, i64 col, int width,
                float* out, i64 ld, const T* const* ahead, i64 ahead_bytes) {
  constexpr int G = VL / R;
  vf c[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < C; ++v) c[r][v] = decay[r * G] * vload(out + r * ld + v * VL);
  auto step = [&](const float* at, const T* value) {
    vf x[C];
    if (width >= C * VL) {
#pragma GCC unroll 4
      for (int v = 0; v < C; ++v) x[v] = vload(value + v * VL);
    } else {
      for (int v = 0; v < C; ++v) x[v] = vload_n(value + v * VL, width - v * VL);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < C; ++v) c[r][v] += at[r * G] * x[v];
  };
  for (i64 j = 0; j < n; ++j) {
    if (ahead) Ahead<T>::template fetch<0>(ahead, j, ahead_bytes);
    step(p + j / G * VL + j % G, vp[j] + col);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < C; ++v) vstore(out + r * ld + v * VL, c[r][v]);
}

// All columns of a chunk. Accumulators fill half of the registers or less.
template <class T, int R>
void values(const float* p, const float* decay, const T* const* vp, i64 n, i64 Dv, float* out,
            i64 ld, const T* const* ahead) {
  const i64 bytes = Dv * i64(sizeof(T));
  i64 col = 0;
  auto pass = [&](auto columns, auto call) {
    call(int(std::min<i64>(columns(), Dv - col)), out + col, col == 0 ? ahead : nullptr);
    col += columns();
  };
#if XC_BF16_DOT
  if constexpr (Dot<T>::pairs) {
    auto add = [&](auto C) {
      pass(std::integral_constant<int, C() * 32>(), [&](int width, float* to, auto next) {
        add_pairs<R, C()>(p, decay, vp, n, col, width, to, ld, next, bytes);
      });
    };
    constexpr int C = R > 4 ? 1 : 2;
    while (col + C * 32 <= ld) add(std::integral_constant<int, C>());
    while (col < Dv) add(std::integral_constant<int, 1>());
    return;
  }
#endif
  auto add = [&](auto C) {
    pass(std::integral_constant<int, C() * VL>(), [&](int width, float* to, auto next) {
      add_values<T, R, C()>(p, decay, vp, n, col, width, to, ld, next, bytes);
    });
  };
  constexpr int C = VL == 16 ? (R > 4 ? 2 : 4) : R > 4 ? 1 : 2;
  while (col < Dv && col + C * VL <= ld) add(std::integral_constant<int, C>());
  while (col < Dv) add(std::integral_constant<int, std::min(C, 2)>());
}

// Keys j .. j+n of one head for one chunk of rows.
template <class T, int R>
void attend_block(const Slice<T>& s, Chunk& c, const T* const* kp, const T* const* vp, i64 j, i64 n,
                  float* x, float* mask, float* out, i64 ld, const Ahead<T>& ahead) {
  constexpr int G = VL / R;
  const i64 vectors = ceil_div(n, G);
  auto score = [&](auto size) {
    for (i64 i = 0; i < vectors; ++i) {
      const T* const* next = ahead.scoring ? ahead.scoring + i * G : nullptr;
      vstore(x + i * VL, s.scale * scores<T, R, size()>(c.q, kp + i * G, s.D, next));
    }
  };
  if (s.D == 64)
    score(std::integral_constant<int, 64>());
  else if (s.D == 128)
    score(std::integral_constant<int, 128>());
  else
    score(std::integral_constant<int, 0>());
  if (s.mask) {
    gather_mask<T, R>(s, c, j, n, mask);
    for (i64 i = 0; i < vectors; ++i) vstore(x + i * VL, vload(x + i * VL) + vload(mask + i * VL));
  }
  alignas(64) float decay[VL];
  softmax<T, R>(c, x, vectors, j, j + n > c.first_limit || j < c.last_first || n % G, s.window,
                decay);
  values<T, R>(x, decay, vp, n, s.Dv, out, ld, ahead.adding);
}

// Queries of a chunk, as scores() takes them; rows past the end repeat the last.
template <class T, int R>
void start_chunk(const Slice<T>& s, Chunk& c) {
  using Op = Dot<T>;
  constexpr int G = VL / R, step = G * Op::elems;
  c.first_limit = s.keys;
  c.last_first = 0;
  for (int r = 0; r < R; ++r) {
    const i64 row = c.row + std::min(r, c.rows - 1);
    const i64 limit = s.limit(row);
    c.first_limit = std::min(c.first_limit, limit);
    c.last_first = std::max(c.last_first, s.first(row));
    for (int g = 0; g < G; ++g) {
      c.max[r * G + g] = -kInf, c.sum[r * G + g] = 0.0f;
      c.limit[r * G + g] = int32_t(limit - g);
    }
    const T* q = s.q_row(row);
    float* to = c.q + r * G;
    for (i64 d = 0; d < s.D; d += step, to += VL * Op::parts) {
      T piece[step] = {};
      std::memcpy(piece, q + d, size_t(std::min<i64>(step, s.D - d)) * sizeof(T));
      if constexpr (Op::parts == 2) {
        for (int g = 0; g < G; ++g)
          to[g] = to_f32(piece[2 * g]), to[VL + g] = to_f32(piece[2 * g + 1]);
      } else {
        std::memcpy(to, piece, sizeof piece);
      }
    }
  }
}

template <class F>
void with_rows(int R, F call) {
  if (R == 1) return call(std::integral_constant<int, 1>());
  if (R == 2) return call(std::integral_constant<int, 2>());
  if constexpr (kMaxR > 4)
    if (R == 8) return call(std::integral_constant<int, 8>());
  call(std::integral_constant<int, 4>());
}

// Floats of one head's queries, whatever its chunks.
i64 query_floats(i64 D) { return 2 * (kMaxDotRows + kMaxR) * round_up(D, 2 * VL); }

// Carves aligned arrays out of the scratch buffer; with a null base it only measures.
template <class T>
struct Buffers {
  char* base;
  size_t bytes = 0;
  Chunk* chunks;
  float *queries, *x, *mask;
  T* zeros;
  const T **kp, **vp, **next_k, **next_v;  // this block's keys and values, and the next one's

  template <class U>
  U* take(i64 count) {
    char* at = base + bytes;
    bytes += size_t(round_up(count * i64(sizeof(U)), 64));
    return reinterpret_cast<U*>(at);
  }
  Buffers(void* scratch, i64 D, i64 Dv) : base(static_cast<char*>(scratch)) {
    chunks = take<Chunk>(kChunks);
    queries = take<float>(query_floats(D));
    x = take<float>(kMaxR * kBlock);
    mask = take<float>(kMaxR * kBlock);
    zeros = take<T>(Dv);
    for (const T*** p : {&kp, &vp, &next_k, &next_v}) *p = take<const T*>(kBlock + VL);
  }
};

}  // namespace

// AMX takes over early: with it the cost of a panel product hardly depends on the rows.
template <class T>
int dot_rows() {
  return choose_kernel<T>(kMaxDotRows) == Kernel::amx ? 7 : kMaxDotRows - 1;
}

template <class T>
size_t dot_scratch(i64 D, i64 Dv) {
  return Buffers<T>(nullptr, D, Dv).bytes;
}

template <class T>
void attend_dot(const Slice<T>& s, i64 j0, i64 j1, void* scratch, const Partial& result,
                const Next<T>& next) {
  Buffers<T> b(scratch, s.D, s.Dv);
  const int rows = int(s.rows());
  int chunks = 0;
  float* q = b.queries;
  for (int row = 0; row < rows;) {
    Chunk& c = b.chunks[chunks++];
    c.row = row, c.q = q, c.rows = std::min(rows - row, kMaxR);
    c.R = c.rows > 4 ? kMaxR : c.rows > 2 ? 4 : c.rows;
    row += c.rows;
    with_rows(c.R, [&](auto R) { start_chunk<T, R()>(s, c); });
    q += 2 * c.R * round_up(s.D, 2 * VL);
  }
  std::fill_n(result.out, rows * result.ld, 0.0f);
  std::fill_n(b.zeros, s.Dv, T{});

  i64 coming = std::min(kBlock, j1 - j0);
  s.gather(j0, coming, b.next_k, b.next_v);
  for (i64 j = j0; j < j1; j += kBlock) {
    const i64 n = coming;
    std::swap(b.kp, b.next_k), std::swap(b.vp, b.next_v);
    const Slice<T>* then = j + kBlock < j1 ? &s : next.slice;
    coming = 0;
    if (then) {
      const i64 first = then == &s ? j + kBlock : next.j0;
      coming = std::clamp<i64>((then == &s ? j1 : next.j1) - first, 0, kBlock);
      then->gather(first, coming, b.next_k, b.next_v);
    }
    std::fill_n(b.next_k + coming, kBlock - coming, s.k);
    // A vector short of keys repeats the last key; a value without a partner is paired with zeros.
    for (i64 i = n; i < round_up(n, VL); ++i) b.kp[i] = b.kp[n - 1], b.vp[i] = b.zeros;
    b.vp[n] = b.zeros;
    for (int i = 0; i < chunks; ++i) {
      Chunk& c = b.chunks[i];
      // Scoring fetches this block's values, adding those the next block's keys.
      Ahead<T> ahead;
      if (i == 0) ahead = {b.vp, coming ? b.next_k : nullptr};
      with_rows(c.R, [&](auto R) {
        attend_block<T, R()>(s, c, b.kp, b.vp, j, n, b.x, b.mask, result.out + c.row * result.ld,
                             result.ld, ahead);
      });
    }
  }
  for (int i = 0; i < chunks; ++i) {
    const Chunk& c = b.chunks[i];
    const int G = VL / c.R;
    for (int r = 0; r < c.rows; ++r) {
      float sum = 0.0f;
      for (int g = 0; g < G; ++g) sum += c.sum[r * G + g];
      result.max[c.row + r] = c.max[r * G];
      result.sum[c.row + r] = sum;
    }
  }
}

namespace {

// Two vectors of a partial's columns in order.
inline void untwist(vf& a, vf& b) {
#if defined(__AVX512F__)
  vf low = a, high = b;
  a = __builtin_shufflevector(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  b = __builtin_shufflevector(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                              31);
#else
  (void)a, (void)b;  // nothing twists them
#endif
}

}  // namespace

template <class T>
void finish_row(const Slice<T>& s, i64 r, i64 at, const Partial& first, i64 stride, i64 count) {
  float* weight = first.max + at;
  float max = s.start_max(r);
  for (i64 c = 0; c < count; ++c) max = std::max(max, weight[c * stride]);
  float base = max == -kInf ? 0.0f : max;
  float sum = s.start_sum() * math::exp(s.start_max(r) - base);
  for (i64 c = 0; c < count; ++c) {
    weight[c * stride] = math::exp(weight[c * stride] - base);
    sum += first.sum[at + c * stride] * weight[c * stride];
  }
  // A row without keys has sum 0 and gives zeros; NaN scores give NaN.
  float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
  for (i64 c = 0; c < count; ++c) weight[c * stride] *= inverse;
  T* to = s.o_row(r);
  const float* from = first.out + at * first.ld;
  for (i64 d = 0; d < s.Dv; d += 2 * VL) {
    vf x = {}, y = {};
    for (i64 c = 0; c < count; ++c) {
      x += weight[c * stride] * vload(from + c * stride + d);
      y += weight[c * stride] * vload(from + c * stride + d + VL);
    }
    if (first.twisted) untwist(x, y);
    vstore_n(to + d, x, int(std::min<i64>(VL, s.Dv - d)));
    if (d + VL < s.Dv) vstore_n(to + d + VL, y, int(std::min<i64>(VL, s.Dv - d - VL)));
  }
}

}  // namespace xc
