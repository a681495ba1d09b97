#include "route.hpp"

#include <algorithm>

namespace xc {

namespace {

constexpr i64 kBlock = 16;  // keys that share a maximum

// The integer order of keys is that of floats, NaN on top; -0 and 0 are equal. INT32_MIN is no key.
inline int32_t key_of(float x) {
  const int32_t bits = math::detail::bit_cast<int32_t>(x);
  const int32_t key = bits >= 0 ? bits : -(bits & INT32_MAX);
  return x != x ? INT32_MAX : key;
}
inline float value_of(int32_t key) {
  return bits_to_float(key >= 0 ? uint32_t(key) : 0x80000000u | uint32_t(-key));
}

inline float rounded(float x, bool narrow) { return narrow ? to_f32(to_bf16(x)) : x; }
void round_all(float* x, i64 n, bool narrow) {
  if (!narrow) return;
  for (i64 j = 0; j < n; ++j) x[j] = to_f32(to_bf16(x[j]));
}

void softmax(float* x, i64 n) {
  float most = -kInf, sum = 0.0f;
  int nan = 0;
#pragma omp simd reduction(max : most) reduction(| : nan)
  for (i64 j = 0; j < n; ++j) {
    most = most > x[j] ? most : x[j];
    nan |= x[j] != x[j];
  }
  if (nan) most = bits_to_float(0x7fc00000);
#pragma omp simd reduction(+ : sum)
  for (i64 j = 0; j < n; ++j) {
    const float e = math::exp(x[j] - most);
    sum += e;
    x[j] = e;
  }
#pragma omp simd
  for (i64 j = 0; j < n; ++j) x[j] = x[j] / sum;
}

template <class T>
void add(float* y, const float* x, const T* bias, i64 n) {
#pragma omp simd
  for (i64 j = 0; j < n; ++j) y[j] = x[j] + load(bias + j);
}

int32_t largest(const int32_t* key, i64 n) {
  int32_t most = INT32_MIN;
#pragma omp simd reduction(max : most)
  for (i64 j = 0; j < n; ++j) most = most > key[j] ? most : key[j];
  return most;
}

// Of one block.
inline int32_t peak(const int32_t* key) {
  int32_t most = INT32_MIN;
#pragma omp simd reduction(max : most)
  for (i64 j = 0; j < kBlock; ++j) most = most > key[j] ? most : key[j];
  return most;
}

// The second largest of n > 1 keys, of which `most` is the largest.
int32_t second(const int32_t* key, i64 n, int32_t most) {
  int32_t next = INT32_MIN, count = 0;
#pragma omp simd reduction(max : next) reduction(+ : count)
  for (i64 j = 0; j < n; ++j) {
    const int32_t below = key[j] < most ? key[j] : INT32_MIN;
    next = next > below ? next : below;
    count += key[j] == most;
  }
  return count > 1 ? most : next;
}

struct Row {
  float *s, *choice;
  int32_t *key, *block, *group;  // block: the largest of each kBlock keys
};

// Picks the k largest of n keys, descending, lowest index first among equals, and destroys them.
// key[n ..] up to a multiple of kBlock is room.
template <class F>
void pick(int32_t* key, int32_t* block, i64 n, i64 k, F&& take) {
  const i64 blocks = ceil_div(n, kBlock);
  std::fill(key + n, key + blocks * kBlock, INT32_MIN);
  for (i64 b = 0; b < blocks; ++b) block[b] = peak(key + b * kBlock);
  for (i64 i = 0; i < k; ++i) {
    const int32_t most = largest(block, blocks);
    const i64 b = std::find(block, block + blocks, most) - block;
    int32_t* at = std::find(key + b * kBlock, key + (b + 1) * kBlock, most);
    *at = INT32_MIN;
    block[b] = peak(key + b * kBlock);
    take(i, at - key);
  }
}

template <class T>
void mask_groups(const Route<T>& r, const Row& row, bool narrow) {
  const i64 size = r.experts / r.groups;
  for (i64 g = 0; g < r.groups; ++g) {
    const int32_t* key = row.key + g * size;
    const int32_t most = largest(key, size);
    if (!r.top2) {
      row.group[g] = most;
      continue;
    }
    const float sum = value_of(most) + value_of(second(key, size, most));
    row.group[g] = key_of(rounded(sum, narrow));
  }
  pick(row.group, row.block, r.groups, r.topk_group, [](i64, i64) {});
  for (i64 g = 0; g < r.groups; ++g) {
    if (row.group[g] == INT32_MIN) continue;  // picked
    std::fill_n(row.choice + g * size, size, r.mask);
    std::fill_n(row.key + g * size, size, key_of(r.mask));
  }
}

template <class T>
void route_row(const Route<T>& r, const T* logits, const Row& row, i64* expert, float* w) {
  const i64 n = r.experts;
#pragma omp simd
  for (i64 j = 0; j < n; ++j) row.s[j] = load(logits + j);
  round_all(row.s, n, r.bf16_scores);
  if (r.score == Score::softmax) softmax(row.s, n);
  if (r.score == Score::sigmoid) {
#pragma omp simd
    for (i64 j = 0; j < n; ++j) row.s[j] = math::sigmoid(row.s[j]);
  }
  round_all(row.s, n, r.bf16_scores);
  // adding an fp32 bias to bf16 scores gives fp32
  const bool narrow_choice = r.bf16_scores && (!r.bias || r.bias_bf16);
  if (!r.bias)
    std::copy_n(row.s, n, row.choice);
  else if (r.bias_bf16)
    add(row.choice, row.s, static_cast<const bf16*>(r.bias), n);
  else
    add(row.choice, row.s, static_cast<const float*>(r.bias), n);
  round_all(row.choice, n, narrow_choice);
#pragma omp simd
  for (i64 j = 0; j < n; ++j) row.key[j] = key_of(row.choice[j]);
  if (r.groups > 1) mask_groups(r, row, narrow_choice);
  const float* from = r.biased ? row.choice : row.s;
  pick(row.key, row.block, n, r.k, [&](i64 i, i64 e) {
    expert[i] = e;
    w[i] = from[e];
  });
  const bool narrow = r.biased ? narrow_choice : r.bf16_scores;
  if (r.score == Score::softmax_topk) softmax(w, r.k);
  round_all(w, r.k, narrow);
  float divisor = 1.0f;
  if (r.renorm) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (i64 i = 0; i < r.k; ++i) sum += w[i];
    divisor = rounded(rounded(sum, narrow) + r.eps, narrow);
    divisor = divisor < r.floor ? rounded(r.floor, narrow) : divisor;
  }
  for (i64 i = 0; i < r.k; ++i) w[i] = rounded(rounded(w[i] / divisor, narrow) * r.scale, narrow);
}

}  // namespace

template <class T>
void route(const Team& t, const Route<T>& r) {
  const i64 n = round_up(r.experts, kBlock), blocks = n / kBlock,
            groups = round_up(r.groups, kBlock);
  float* p = static_cast<float*>(t.scratch(size_t(3 * n + blocks + groups + r.k) * 4));
  int32_t* q = reinterpret_cast<int32_t*>(p + 2 * n);
  const Row row{p, p + n, q, q + n, q + n + blocks};
  float* w = p + 3 * n + blocks + groups;
  t.each_row(r.rows, [&](i64 i) {
    route_row(r, r.logits + i * r.ld, row, r.expert + i * r.k, w);
    for (i64 j = 0; j < r.k; ++j) {
      if (r.weight_bf16)
        store(static_cast<bf16*>(r.weight) + i * r.k + j, w[j]);
      else
        store(static_cast<float*>(r.weight) + i * r.k + j, w[j]);
    }
  });
}

}  // namespace xc
