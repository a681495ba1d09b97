// Products of attention by tiles: with AMX, else with vector dot products.
#pragma once
#include "amx.hpp"
#include "attention_tiles.hpp"

#if XC_BF16_DOT
namespace xc {
namespace tiles {

/// Steps [first, first + count) of the columns of packed queries, which have `all` of them.
struct Steps {
  const uint32_t* of;
  i64 all, first, count;
};

#if XC_AMX
/// NK tiles of keys times NR tiles of rows: score[r][k] (+)= K Q^T.
template <int NK, int NR>
void score_tiles(const KeyTile* keys, const Steps& q, float* score, Ahead& ahead) {
  static_assert(NK * NR <= 4, "accumulators are tiles 0..3");
  constexpr i64 kSecond = NR > 1 ? kScores : 2 * kUnits;  // of accumulators 2 and 3
  constexpr bool kMore = NK > 2 || NR > 1;
  if (q.first == 0) {
    tile_zero<0>();
    if (NK > 1) tile_zero<1>();
    if (kMore) tile_zero<2>(), tile_zero<3>();
  } else {
    tile_load<0>(score, 64);
    if (NK > 1) tile_load<1>(score + kUnits, 64);
    if (kMore) tile_load<2>(score + kSecond, 64);
    if (kMore && NK > 1) tile_load<3>(score + kSecond + kUnits, 64);
  }
  for (i64 s = q.first; s < q.first + q.count; ++s) {
    const uint32_t* at = q.of + s * kUnits;
    tile_load<6>(at, 64);
    if (NR > 1) tile_load<7>(at + q.all * kUnits, 64);
    tile_load<4>(keys[0].at + s * 64, keys[0].stride);
    tile_dot<0, 4, 6>();
    ahead.advance();
    if (NR > 1) {
      tile_dot<2, 4, 7>();
      ahead.advance();
    }
    if (NK > 1) {
      tile_load<5>(keys[1].at + s * 64, keys[1].stride);
      tile_dot<1, 5, 6>();
      ahead.advance();
      if (NR > 1) {
        tile_dot<3, 5, 7>();
        ahead.advance();
      }
    }
    if (NK > 2) {
      tile_load<4>(keys[2].at + s * 64, keys[2].stride);
      tile_dot<2, 4, 6>();
      ahead.advance();
      tile_load<5>(keys[3].at + s * 64, keys[3].stride);
      tile_dot<3, 5, 6>();
      ahead.advance();
    }
  }
  tile_store<0>(score, 64);
  if (NK > 1) tile_store<1>(score + kUnits, 64);
  if (kMore) tile_store<2>(score + kSecond, 64);
  if (kMore && NK > 1) tile_store<3>(score + kSecond + kUnits, 64);
}

/// Accumulators 0..3: `first` and `second` are two 16 x 32 blocks of the output.
inline void load_output(const float* first, const float* second, i64 ld, bool fresh) {
  if (fresh) {
    tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
    return;
  }
  tile_load<0>(first, ld * 4), tile_load<1>(first + kTile, ld * 4);
  if (second) tile_load<2>(second, ld * 4), tile_load<3>(second + kTile, ld * 4);
}
inline void store_output(float* first, float* second, i64 ld) {
  tile_store<0>(first, ld * 4), tile_store<1>(first + kTile, ld * 4);
  if (second) tile_store<2>(second, ld * 4), tile_store<3>(second + kTile, ld * 4);
}

/// out[16][NC x 32] (+)= P V from `count` tiles of 16 keys as they lie, columns from byte `col`.
/// Of every 32 columns the even ones come first.
template <int NC>
void value_halves(const float* p, const KeyTile* keys, i64 count, i64 col, float* out, i64 ld,
                  bool fresh, Ahead& ahead) {
  float* second = NC > 1 ? out + 2 * kTile : nullptr;
  load_output(out, second, ld, fresh);
  for (i64 k = 0; k < count; ++k, p += kUnits) {
    const char* at = keys[k].at + col;
    tile_load<4>(reinterpret_cast<const char*>(p) + 2, 64);
    tile_load<6>(at, keys[k].stride);
    tile_dot<0, 4, 6>();
    ahead.advance();
    tile_load<5>(p, 64);
    tile_dot<1, 5, 6>();
    ahead.advance();
    if (NC > 1) {
      tile_load<7>(at + 64, keys[k].stride);
      tile_dot<2, 4, 7>();
      ahead.advance();
      tile_dot<3, 5, 7>();
      ahead.advance();
    }
  }
  store_output(out, second, ld);
}

/// out[NR x 16][32] (+)= P V from packed values, [step][2 tiles].
template <int NR>
void value_tiles(const float* p, const uint32_t* v, i64 steps, float* out, i64 ld, bool fresh,
                 Ahead& ahead) {
  float* second = NR > 1 ? out + kTile * ld : nullptr;
  load_output(out, second, ld, fresh);
  for (i64 s = 0; s < steps; ++s, p += 2 * kUnits, v += 2 * kUnits) {
    tile_load<4>(p, 64);
    tile_load<6>(v, 64);
    tile_dot<0, 4, 6>();
    ahead.advance();
    tile_load<7>(v + kUnits, 64);
    tile_dot<1, 4, 7>();
    ahead.advance();
    if (NR > 1) {
      tile_load<5>(p + kScores, 64);
      tile_dot<2, 5, 6>();
      ahead.advance();
      tile_dot<3, 5, 7>();
      ahead.advance();
    }
  }
  store_output(out, second, ld);
}
#endif

inline vf broadcast(const char* p) {
  uint32_t u;
  std::memcpy(&u, p, 4);
  return (vf)(u - vu{});
}

/// Scores of one tile of keys and one of rows, as score_tiles.
inline void score_vectors(KeyTile key, const uint32_t* q, i64 steps, float* score, Ahead& ahead) {
  for (int half = 0; half < 2; ++half) {
    const char* base = key.at + half * 8 * key.stride;
    vf c[8] = {};
    for (i64 s = 0; s < steps; ++s) {
      for (i64 u = 0; u < kTile; ++u) {
        const char* at = base + s * 64 + u * 4;
        vf qv;
        std::memcpy(&qv, q + s * kUnits + u * kTile, sizeof qv);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) c[i] = dot_bf16(c[i], qv, broadcast(at + i * key.stride));
      }
      if (half == 0) ahead.advance();
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) vstore(score + (half * 8 + i) * kTile, c[i]);
  }
}

/// out[R][16] (+)= P V from packed values, `v` the first of their two tiles; P as vectors.
template <int R>
void value_vectors(const float* p, const uint32_t* v, i64 steps, float* out, i64 ld, bool fresh) {
  vf c[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) c[r] = fresh ? vf{} : vload(out + r * ld);
  for (i64 s = 0; s < steps; ++s, p += kUnits, v += 2 * kUnits)
    for (i64 k = 0; k < kTile; ++k, p += kTile) {
      vf value;
      std::memcpy(&value, v + k * kTile, sizeof value);
      const char* pk = reinterpret_cast<const char*>(p);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) c[r] = dot_bf16(c[r], value, broadcast(pk + r * 4));
    }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) vstore(out + r * ld, c[r]);
}

inline void value_vectors(int rows, const float* p, const uint32_t* v, i64 steps, float* out,
                          i64 ld, bool fresh) {
  if (rows <= 4)
    value_vectors<4>(p, v, steps, out, ld, fresh);
  else if (rows <= 8)
    value_vectors<8>(p, v, steps, out, ld, fresh);
  else
    value_vectors<16>(p, v, steps, out, ld, fresh);
}

}  // namespace tiles
}  // namespace xc
#endif
