// What attention by tiles is made of: keys as tiles, prefetching, and the softmax.
#pragma once
#include <algorithm>

#include "attention_core.hpp"
#include "transpose.hpp"

#if XC_BF16_DOT
namespace xc {
namespace tiles {

constexpr i64 kTile = 16;                    // rows, keys or columns of a tile
constexpr i64 kStep = 2 * kTile;             // keys whose probabilities lie together
constexpr i64 kUnits = 256;                  // a tile: 16 x 16 fp32 values or pairs of bf16
constexpr i64 kKeys = 128;                   // keys per block
constexpr i64 kScores = kKeys * kTile + 16;  // floats of a tile of rows: scores and a zero
constexpr float kLog2E = 1.44269504089f;

/// Sixteen keys at `at`, `stride` bytes apart.
struct KeyTile {
  const char* at;
  i64 stride;
};

/// Where a block of keys lies.
struct Rows {
  const Slice<bf16>* s = nullptr;
  i64 first = 0, count = 0;
  bool whole = false;  // tiles do not go over the end of a page
  i64 slots[kKeys / kTile] = {};

  Rows() = default;
  Rows(const Slice<bf16>& s, i64 first, i64 end)
      : s(&s), first(first), count(std::clamp<i64>(end - first, 0, kKeys)) {
    whole = (!s.table || s.page % kTile == 0) && first % kTile == 0;
    if (!whole) return;
    i64 block = first / s.page, in_page = first % s.page;
    for (i64 i = 0; i * kTile < count; ++i, in_page += kTile) {
      if (in_page == s.page) ++block, in_page = 0;
      slots[i] = s.table ? s.table[block] * s.page + in_page : first + i * kTile;
    }
  }
  i64 slot(i64 row) const {
    if (whole) return slots[row / kTile] + row % kTile;
    return s->table[(first + row) / s->page] * s->page + (first + row) % s->page;
  }
  const bf16* key(i64 row) const { return s->k + slot(row) * s->k_j; }
  const bf16* value(i64 row) const { return s->v + slot(row) * s->v_j; }
};

/// The keys and values of the next block, brought closer while this one is computed, a few lines
/// at a time: in bursts they would fill the miss buffers. Rows of several pages take turns, as
/// memory answers several streams faster than one.
struct Ahead {
  Rows rows;
  i64 k_bytes = 0, v_bytes = 0;  // of a row; no values where they lie in the keys
  i64 each = 0;                  // lines per call
  i64 turn = 0;
  const char *p = nullptr, *end = nullptr, *value = nullptr;

  /// `heads` side by side, to be fetched within `calls` calls of advance().
  Ahead(const Rows& next, i64 heads, i64 calls) : rows(next) {
    if (rows.count == 0) return;
    const Slice<bf16>& s = *rows.s;
    k_bytes = heads * s.D * 2;
    v_bytes = s.v == s.k && s.v_j == s.k_j ? 0 : heads * s.Dv * 2;
    each = ceil_div(rows.count * (ceil_div(k_bytes, 64) + ceil_div(v_bytes, 64)), calls);
  }
  void advance() {
    for (i64 n = each; n > 0; --n, p += 64) {
      if (p >= end && !following()) return;
      asm volatile("prefetcht1 (%0)" ::"r"(p));
    }
  }
  __attribute__((noinline, cold)) bool following() {
    constexpr i64 kTiles = kKeys / kTile;
    if (value) {
      p = value, end = p + v_bytes, value = nullptr;
      return true;
    }
    i64 row;
    do {
      if (turn == kKeys || rows.count == 0) return false;
      row = turn % kTiles * kTile + turn / kTiles;
      ++turn;
    } while (row >= rows.count);
    p = reinterpret_cast<const char*>(rows.key(row)), end = p + k_bytes;
    if (v_bytes) value = reinterpret_cast<const char*>(rows.value(row));
    return true;
  }
};

/// How the products want probabilities, which take the place of the scores of 32 keys.
///   vectors: units of keys k and k + 16, [unit][row]
///   packed:  the same, [row][unit]
///   halves:  [key / 16][row][key], each as the upper half of a unit beside zero. Values need no
///            packing then: the units give the odd columns, and 2 bytes on, the even ones.
enum class Form { vectors, packed, halves };

/// Running state of one tile of rows. Maxima are logarithms to base 2.
struct State {
  float max[kTile], sum[kTile];
  int32_t limit[kTile];         // visible keys
  i64 first_limit, last_limit;  // the smallest and the largest of them
  int rows;
  bool fresh;  // no keys so far: the output is not set
};

/// 2^x to 3e-6, less than a hundredth of what rounding to bf16 costs; 0 for -inf.
inline vf exp2(vf x) {
  vf r, y;
  asm("vreduceps $9, %1, %0" : "=v"(r) : "v"(x));  // x - floor(x)
  vf p = r * 0.013534178957f + 0.052011493593f;
  p = p * r + 0.241442695260f;
  p = p * r + 0.693003833294f;
  p = p * r + 1.000002622604f;
  asm("vscalefps %2, %1, %0" : "=v"(y) : "v"(p), "v"(x));
  return y;
}

/// Probabilities of keys k and k + 16 as a unit, rounded to nearest.
inline vu unit_of(vf low, vf high) {
  return ((as_bits(low) + 0x8000u) >> 16) | ((as_bits(high) + 0x8000u) & 0xffff0000u);
}

inline void put_step(float* to, const vu* unit, Form form) {
  vf r[VL];
  std::memcpy(r, unit, sizeof r);
  if (form != Form::vectors) transpose(r);
  if (form != Form::halves) {
    std::memcpy(to, r, sizeof r);
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < VL; ++i) {
    vstore(to + i * kTile, (vf)((vu)r[i] << 16));
    vstore(to + kUnits + i * kTile, (vf)((vu)r[i] & 0xffff0000u));
  }
}

/// One step of the online softmax: scores [n][16] of keys j0 .. j0+n become probabilities, up to
/// whole steps and a zero behind them; maximum, sum and the output so far follow. scale: times
/// log2(e).
inline void softmax(State& st, float* score, i64 j0, i64 n, float scale, float* out, i64 ld,
                    i64 width, Form form, Ahead& ahead) {
  const i64 padded = round_up(n, kStep);
  vi limit;
  std::memcpy(&limit, st.limit, sizeof limit);
  limit -= int32_t(j0);
  const vf hidden = splat(scale < 0.0f ? kInf : -kInf);
  for (i64 j = std::clamp<i64>(st.first_limit - j0, 0, n); j < padded; ++j) {
    float* at = score + j * kTile;
    vstore(at, j < n ? select(limit > int32_t(j), vload(at), hidden) : hidden);
  }
  const vf old = vload(st.max);
  vf m[4] = {old, old, old, old};
  for (i64 j = 0; j < padded; j += 4)
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) m[l] = vmax(scale * vload(score + (j + l) * kTile), m[l]);
  const vf max = vmax(vmax(m[0], m[1]), vmax(m[2], m[3]));
  const vf base = select(max == -kInf, vf{}, max);
  vf s0 = {}, s1 = {};
  for (i64 j = 0; j < padded; j += kStep) {
    vu unit[kTile];
    const float* low = score + j * kTile;
#pragma GCC unroll 4
    for (i64 k = 0; k < kTile; ++k, low += kTile) {
      const vf p0 = exp2(scale * vload(low) - base), p1 = exp2(scale * vload(low + kUnits) - base);
      s0 += p0;
      s1 += p1;
      unit[k] = unit_of(p0, p1);
      ahead.advance();
    }
    put_step(score + j * kTile, unit, form);
  }
  score[padded * kTile] = 0.0f;
  const vf decay = exp2(old - base);
  vstore(st.sum, vload(st.sum) * decay + (s0 + s1));
  vstore(st.max, max);
  if (st.fresh) return;
  for (int r = 0; r < st.rows; ++r)
    if (max[r] != old[r])
      for (i64 d = 0; d < width; d += VL) {
        float* o = out + r * ld + d;
        vstore(o, decay[r] * vload(o));
      }
}

}  // namespace tiles
}  // namespace xc
#endif
