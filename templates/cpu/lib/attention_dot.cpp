// Decode attention: few query rows per key, so keys and values stream through once and dot
// products stay in vector registers. Memory bound.
#include <algorithm>

#include "attention_core.hpp"
#include "transpose.hpp"

namespace xc {
namespace {

constexpr i64 kBlock = 64;  // keys per inner block
constexpr int kMaxDotRows = 16;
constexpr int kOut = VL == 16 ? 4 : 2;  // value vectors per pass

// Rows of one head lie far apart, out of reach of the hardware prefetcher.
template <class T>
inline void prefetch_row(const T* row, i64 n) {
  const char* p = reinterpret_cast<const char*>(row);
  for (i64 b = 0; b < n * i64(sizeof(T)); b += 64) __builtin_prefetch(p + b);
}

// A vector's worth of one dot product. Queries are stored in the type the instruction wants.
template <class T>
struct Dot {
  using Query = float;
  static constexpr int step = VL;
  static vf load(const T* p) { return vload(p); }
  static vf load_n(const T* p, int n) { return vload_n(p, n); }
  static void add(vf& c, vf key, const float* q) { c += key * vload(q); }
};
#if XC_BF16_DOT
template <>
struct Dot<bf16> {
  using Query = bf16;
  static constexpr int step = 32;
  static vf load(const bf16* p) { return vload(reinterpret_cast<const float*>(p)); }
  static vf load_n(const bf16* p, int n) {
    bf16 buf[step] = {};
    std::memcpy(buf, p, size_t(n) * sizeof(bf16));
    return load(buf);
  }
  static void add(vf& c, vf key, const bf16* q) { c = dot_bf16(c, key, load(q)); }
};
#endif
template <class T>
using Query = typename Dot<T>::Query;

// score[r][i] = scale * q[r] . k[i] for VL keys. Partial sums of a key live in one vector;
// transposing VL of them turns the horizontal sums into vertical ones. `ahead`: rows to prefetch.
template <class T>
void scores(const Query<T>* q, i64 q_ld, int rows, const T* const* kp, i64 D, float scale,
            float* score, i64 score_ld, const T* const* ahead, i64 ahead_n) {
  using Op = Dot<T>;
  vf sums[kMaxDotRows][VL];
  const i64 whole = D / Op::step * Op::step;
  const int tail = int(D - whole);
  for (int i = 0; i < VL; ++i) {
    const T* key = kp[i];
    prefetch_row(ahead[i], ahead_n);
    int r = 0;
    for (; r + 4 <= rows; r += 4) {
      const Query<T>* qr = q + r * q_ld;
      vf c[4] = {};
      auto step = [&](vf kv, i64 d) {
#pragma GCC unroll 4
        for (int l = 0; l < 4; ++l) Op::add(c[l], kv, qr + l * q_ld + d);
      };
      for (i64 d = 0; d < whole; d += Op::step) step(Op::load(key + d), d);
      if (tail) step(Op::load_n(key + whole, tail), whole);
      for (int l = 0; l < 4; ++l) sums[r + l][i] = c[l];
    }
    for (; r < rows; ++r) {
      const Query<T>* qr = q + r * q_ld;
      vf c0 = {}, c1 = {};
      i64 d = 0;
      for (; d + 2 * Op::step <= whole; d += 2 * Op::step) {
        Op::add(c0, Op::load(key + d), qr + d);
        Op::add(c1, Op::load(key + d + Op::step), qr + d + Op::step);
      }
      if (d < whole) Op::add(c0, Op::load(key + d), qr + d);
      if (tail) Op::add(c1, Op::load_n(key + whole, tail), qr + whole);
      sums[r][i] = c0 + c1;
    }
  }
  for (int r = 0; r < rows; ++r) {
    transpose(sums[r]);
#pragma GCC unroll 4
    for (int step = VL / 2; step > 0; step /= 2)
#pragma GCC unroll 8
      for (int i = 0; i < step; ++i) sums[r][i] += sums[r][i + step];
    vstore(score + r * score_ld, scale * sums[r][0]);
  }
}

// out[r][0..kOut*VL) += sum_i p[r][i] v[i], R rows.
template <class T, int R>
void add_values(const float* p, const T* const* vp, i64 n, i64 col, int width, float* out, i64 ld,
                const T* const* ahead, i64 ahead_n) {
  vf c[R][kOut];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kOut; ++v) c[r][v] = vload(out + r * ld + v * VL);
  for (i64 i = 0; i < n; ++i) {
    const T* value = vp[i] + col;
    if (ahead_n) prefetch_row(ahead[i], ahead_n);
    vf x[kOut];
    if (width >= kOut * VL) {
#pragma GCC unroll 4
      for (int v = 0; v < kOut; ++v) x[v] = vload(value + v * VL);
    } else {
      for (int v = 0; v < kOut; ++v) {
        int left = width - v * VL;
        x[v] = left > 0 ? vload_n(value + v * VL, left) : vf{};
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kOut; ++v) c[r][v] += p[r * kBlock + i] * x[v];
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kOut; ++v) vstore(out + r * ld + v * VL, c[r][v]);
}

i64 padded(i64 n) { return round_up(n, kOut * VL); }

}  // namespace

// AMX takes over early: with it the cost of a panel product hardly depends on the rows.
template <class T>
int dot_rows() {
  return choose_kernel<T>(kMaxDotRows) == Kernel::amx ? 7 : kMaxDotRows - 1;
}

template <class T>
size_t dot_scratch(i64 D, i64 Dv) {
  return size_t(kMaxDotRows * (padded(D) + padded(Dv) + kBlock) * 4 + 4 * kBlock * 8 + 256);
}

template <class T>
void attend_dot(const Slice<T>& s, i64 j0, i64 j1, void* scratch, const Partial& result) {
  const int rows = int(s.rows());
  const i64 q_ld = padded(s.D), out_ld = padded(s.Dv);
  Query<T>* q = static_cast<Query<T>*>(scratch);
  float* out = reinterpret_cast<float*>(q + kMaxDotRows * q_ld);
  float* p = out + kMaxDotRows * out_ld;
  // Pointers to this block's keys and values and to the next one's. Scoring prefetches the values,
  // adding the values prefetches the next keys.
  const T** kp = reinterpret_cast<const T**>(p + kMaxDotRows * kBlock);
  const T **vp = kp + kBlock, **next_k = vp + kBlock, **next_v = next_k + kBlock;
  for (int r = 0; r < rows; ++r) {
    const T* from = s.q_row(r);
    for (i64 d = 0; d < q_ld; d += VL)
      vstore(q + r * q_ld + d, vload_n(from + d, int(std::clamp<i64>(s.D - d, 0, VL))));
    result.max[r] = -kInf;
    result.sum[r] = 0.0f;
  }
  std::fill(out, out + rows * out_ld, 0.0f);

  // A block short of keys repeats its last one.
  auto locate = [&](i64 j, const T** k, const T** v) {
    i64 n = std::min(kBlock, j1 - j);
    if (n <= 0) return;
    s.gather(j, n, k, v);
    for (i64 i = n; i < kBlock; ++i) k[i] = k[n - 1], v[i] = v[n - 1];
  };
  locate(j0, next_k, next_v);
  for (i64 i = 0; i < std::min(kBlock, j1 - j0); ++i) prefetch_row(next_k[i], s.D);

  for (i64 j = j0; j < j1; j += kBlock) {
    const i64 n = std::min(kBlock, j1 - j);
    std::swap(kp, next_k);
    std::swap(vp, next_v);
    locate(j + kBlock, next_k, next_v);
    for (i64 i = 0; i < n; i += VL)
      scores(q, q_ld, rows, kp + i, s.D, s.scale, p + i, kBlock, vp + i, s.Dv);
    for (int r = 0; r < rows; ++r) {
      float* pr = p + r * kBlock;
      if (s.mask)
        for (i64 i = 0; i < n; i += VL)
          vstore(pr + i, vload(pr + i) + s.mask_values(r, j + i, int(std::min<i64>(VL, n - i))));
      for (i64 i = std::clamp<i64>(s.limit(r) - j, 0, n); i < round_up(n, VL); ++i) pr[i] = -kInf;
      float max = maximum(pr, n, result.max[r]);
      float base = max == -kInf ? 0.0f : max;
      float decay = math::exp(result.max[r] - base);
      vf total = {};
      for (i64 i = 0; i < n; i += VL) {
        vf e = math::exp(vload(pr + i) - base);
        total += e;
        vstore(pr + i, e);
      }
      float sum = 0.0f;
      for (int l = 0; l < VL; ++l) sum += total[l];
      result.sum[r] = result.sum[r] * decay + sum;
      if (max != result.max[r])
        for (i64 d = 0; d < out_ld; d += VL)
          vstore(out + r * out_ld + d, decay * vload(out + r * out_ld + d));
      result.max[r] = max;
    }
    for (i64 col = 0; col < s.Dv; col += kOut * VL) {
      int width = int(std::min<i64>(kOut * VL, s.Dv - col)), r = 0;
      auto ahead = [&] { return col == 0 && r == 0 && j + kBlock < j1 ? s.D : i64(0); };
      for (; r + 4 <= rows; r += 4)
        add_values<T, 4>(p + r * kBlock, vp, n, col, width, out + r * out_ld + col, out_ld, next_k,
                         ahead());
      for (; r < rows; ++r)
        add_values<T, 1>(p + r * kBlock, vp, n, col, width, out + r * out_ld + col, out_ld, next_k,
                         ahead());
    }
  }
  for (int r = 0; r < rows; ++r)
    std::memcpy(result.out + r * result.ld, out + r * out_ld, size_t(s.Dv) * 4);
}

namespace {

// Two vectors of a partial's columns in order.
inline void untwist(vf& a, vf& b) {
#if defined(__AVX512F__)
  vf low = a, high = b;
  a = __builtin_shufflevector(low, high, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  b = __builtin_shufflevector(low, high, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30,
                              31);
#else
  (void)a, (void)b;  // nothing twists them
#endif
}

}  // namespace

template <class T>
void finish_row(const Slice<T>& s, i64 r, i64 at, const Partial& first, i64 stride, i64 count) {
  float* weight = first.max + at;
  float max = -kInf, sum = 0.0f;
  for (i64 c = 0; c < count; ++c) max = std::max(max, weight[c * stride]);
  float base = max == -kInf ? 0.0f : max;
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
