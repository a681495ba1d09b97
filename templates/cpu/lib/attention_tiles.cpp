// Attention of bf16 by tiles of 16 query rows: the heads of a latent cache, of a group, or a
// prompt.
//   S^T [keys, 16]  = K Q^T     keys are the left operand and are read where they lie
//   O   [16, Dv]   += P V       V as pairs of keys, interleaved once for all rows
// Rows are the lanes of the softmax. AMX where the machine has it, else vdpbf16ps.
#include <algorithm>

#include "amx.hpp"
#include "attention_core.hpp"
#include "transpose.hpp"

namespace xc {

#if XC_BF16_DOT
namespace {

constexpr i64 kTile = 16;    // rows, keys or columns of a tile
constexpr i64 kUnits = 256;  // a tile: 16 x 16 fp32 values or pairs of bf16
constexpr i64 kKeys = 256;   // keys per block
constexpr i64 kGroup = 4;    // tiles of keys that one pass over the queries takes

// Running state of one tile of rows.
struct State {
  float max[kTile], sum[kTile];
  int32_t limit[kTile];         // visible keys
  i64 first_limit, last_limit;  // the smallest and the largest of them
  int rows;
  bool fresh;  // no keys so far: the output is not set
};

// Sixteen keys at `at`, `stride` bytes apart.
struct KeyTile {
  const char* at;
  i64 stride;
};

// Carves aligned arrays out of the scratch buffer; with a null base it only measures.
struct Buffers {
  char* base;
  size_t bytes = 0;
  uint32_t *queries, *probs, *values;
  State* state;
  float* scores;
  bf16 *copies, *zeros;
  const bf16 *kp[kKeys], *vp[kKeys], *next_k[kKeys], *next_v[kKeys];

  template <class U>
  U* take(i64 count) {
    char* at = base + bytes;
    bytes += size_t(round_up(count * i64(sizeof(U)), 64));
    return reinterpret_cast<U*>(at);
  }
  Buffers(void* scratch, i64 rows, i64 D, i64 Dv) : base(static_cast<char*>(scratch)) {
    const i64 tiles = ceil_div(rows, kTile), steps = ceil_div(D, 32);
    queries = take<uint32_t>(tiles * steps * kUnits);
    state = take<State>(tiles);
    scores = take<float>(tiles * kKeys * kTile);
    probs = take<uint32_t>(tiles * kKeys / 2 * kTile);
    values = take<uint32_t>(kKeys / 2 * round_up(Dv, 32));
    copies = take<bf16>(kGroup * kTile * steps * 32);
    zeros = take<bf16>(Dv);
  }
};

// The keys and values of the next block, brought closer while this one is computed, a few lines at
// a time: in bursts they would fill the miss buffers.
struct Ahead {
  const bf16 *const *k = nullptr, *const *v = nullptr;  // v null: inside of k
  i64 count = 0, k_bytes = 0, v_bytes = 0;
  i64 each = 0;  // lines per call
  i64 row = 0;
  bool at_v = true;
  const char *p = nullptr, *end = nullptr;

  i64 lines() const { return count * (ceil_div(k_bytes, 64) + (v ? ceil_div(v_bytes, 64) : 0)); }
  void advance() {
    for (i64 n = each; n > 0;) {
      if (p >= end && !following()) return;
      for (; n > 0 && p < end; --n, p += 64) __builtin_prefetch(p, 0, 2);
    }
  }
  bool following() {
    at_v = v && !at_v;
    if (row == count) return false;
    p = reinterpret_cast<const char*>(at_v ? v[row] : k[row]);
    end = p + (at_v ? v_bytes : k_bytes);
    if (!v || at_v) ++row;
    return true;
  }
};

// ---- products -----------------------------------------------------------------------------------

#if XC_AMX
// NK tiles of keys times NR tiles of rows: score[r][k] = K Q^T over all of D.
template <int NK, int NR>
void score_tiles(const KeyTile* keys, const uint32_t* q, i64 steps, float* score, Ahead& ahead) {
  static_assert(NK * NR <= 4, "accumulators are tiles 0..3");
  tile_zero<0>();
  if (NK > 1) tile_zero<1>();
  if (NK > 2 || NR > 1) tile_zero<2>(), tile_zero<3>();
  for (i64 s = 0; s < steps; ++s) {
    const uint32_t* at = q + s * kUnits;
    tile_load<6>(at, 64);
    if (NR > 1) tile_load<7>(at + steps * kUnits, 64);
    tile_load<4>(keys[0].at + s * 64, keys[0].stride);
    tile_dot<0, 4, 6>();
    if (NR > 1) tile_dot<2, 4, 7>();
    if (NK > 1) {
      tile_load<5>(keys[1].at + s * 64, keys[1].stride);
      tile_dot<1, 5, 6>();
      if (NR > 1) tile_dot<3, 5, 7>();
    }
    if (NK > 2) {
      tile_load<4>(keys[2].at + s * 64, keys[2].stride);
      tile_dot<2, 4, 6>();
      tile_load<5>(keys[3].at + s * 64, keys[3].stride);
      tile_dot<3, 5, 6>();
    }
    ahead.advance();
  }
  constexpr i64 next = kKeys * kTile;  // scores of the next tile of rows
  tile_store<0>(score, 64);
  if (NK > 1) tile_store<1>(score + kUnits, 64);
  if (NR > 1) {
    tile_store<2>(score + next, 64);
    if (NK > 1) tile_store<3>(score + next + kUnits, 64);
  } else if (NK > 2) {
    tile_store<2>(score + 2 * kUnits, 64);
    tile_store<3>(score + 3 * kUnits, 64);
  }
}

// out[NR x 16][NC x 16] (+)= P V over `steps` steps of 32 keys, which lie v_step apart in V.
template <int NR, int NC>
void value_tiles(const uint32_t* p, const uint32_t* v, i64 v_step, i64 steps, float* out, i64 ld,
                 bool fresh, Ahead& ahead) {
  static_assert(NR * NC == 4 || NR * NC == 2, "accumulators are tiles 0..3");
  constexpr i64 p_next = kKeys / 2 * kTile;
  float* o2 = NR > 1 ? out + kTile * ld : out + 2 * kTile;
  const i64 row = ld * 4;
  if (fresh) {
    tile_zero<0>(), tile_zero<1>();
    if (NR * NC > 2) tile_zero<2>(), tile_zero<3>();
  } else {
    tile_load<0>(out, row), tile_load<1>(out + kTile, row);
    if (NR * NC > 2) tile_load<2>(o2, row), tile_load<3>(o2 + kTile, row);
  }
  for (i64 s = 0; s < steps; ++s) {
    const uint32_t *pa = p + s * kUnits, *va = v + s * v_step;
    tile_load<4>(pa, 64);
    tile_load<6>(va, 64);
    tile_dot<0, 4, 6>();
    tile_load<7>(va + kUnits, 64);
    tile_dot<1, 4, 7>();
    if (NR > 1) {
      tile_load<5>(pa + p_next, 64);
      tile_dot<2, 5, 6>();
      tile_dot<3, 5, 7>();
    } else if (NC > 2) {
      tile_load<6>(va + 2 * kUnits, 64);
      tile_dot<2, 4, 6>();
      tile_load<7>(va + 3 * kUnits, 64);
      tile_dot<3, 4, 7>();
    }
    ahead.advance();
  }
  tile_store<0>(out, row), tile_store<1>(out + kTile, row);
  if (NR * NC > 2) tile_store<2>(o2, row), tile_store<3>(o2 + kTile, row);
}
#endif

inline vf broadcast(const char* p) {
  uint32_t u;
  std::memcpy(&u, p, 4);
  return (vf)(u - vu{});
}

// The same with vector dot products, one tile of keys and one of rows.
void score_vectors(KeyTile key, const uint32_t* q, i64 steps, float* score, Ahead& ahead) {
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

// out[R][16] (+)= P V; P as [pairs][16 rows].
template <int R>
void value_vectors(const uint32_t* p, const uint32_t* v, i64 v_step, i64 steps, float* out, i64 ld,
                   bool fresh) {
  vf c[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) c[r] = fresh ? vf{} : vload(out + r * ld);
  for (i64 s = 0; s < steps; ++s, v += v_step)
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

void value_vectors(int rows, const uint32_t* p, const uint32_t* v, i64 v_step, i64 steps,
                   float* out, i64 ld, bool fresh) {
  if (rows <= 4)
    value_vectors<4>(p, v, v_step, steps, out, ld, fresh);
  else if (rows <= 8)
    value_vectors<8>(p, v, v_step, steps, out, ld, fresh);
  else
    value_vectors<16>(p, v, v_step, steps, out, ld, fresh);
}

// ---- softmax ------------------------------------------------------------------------------------

void transpose_units(uint32_t* tile) {
  vf r[VL];
  std::memcpy(r, tile, sizeof r);
  transpose(r);
  std::memcpy(tile, r, sizeof r);
}

// One step of the online softmax over keys j0 .. j0+n: scores to probabilities, which are zero up
// to `padded`; maximum, sum and the output so far follow. As tiles: prob[32 keys][row][pair], else
// prob[pair][row].
inline void softmax(State& st, const float* score, uint32_t* prob, i64 j0, i64 n, i64 padded,
                    float scale, float* out, i64 ld, i64 width, bool tiles) {
  const bool ragged = j0 + n > st.first_limit;
  vi limit;
  std::memcpy(&limit, st.limit, sizeof limit);
  limit -= int32_t(j0);
  auto at = [&](i64 j) {
    vf x = scale * vload(score + j * kTile);
    return ragged ? select(limit > int32_t(j), x, splat(-kInf)) : x;
  };
  const vf old = vload(st.max);
  vf m[4] = {old, old, old, old};
  i64 j = 0;
  for (; j + 4 <= n; j += 4)
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) m[l] = vmax(at(j + l), m[l]);
  for (; j < n; ++j) m[0] = vmax(at(j), m[0]);
  const vf max = vmax(vmax(m[0], m[1]), vmax(m[2], m[3]));
  const vf base = select(max == -kInf, vf{}, max);
  vf s0 = {}, s1 = {};
  auto put = [&](i64 key, vf p0, vf p1) {
    vu pair = pair_up(round_bf16(p0), round_bf16(p1));
    std::memcpy(prob + key / 2 * kTile, &pair, sizeof pair);
  };
  for (j = 0; j + 2 <= n; j += 2) {
    vf p0 = math::exp(at(j) - base), p1 = math::exp(at(j + 1) - base);
    s0 += p0;
    s1 += p1;
    put(j, p0, p1);
  }
  if (j < n) {
    vf p0 = math::exp(at(j) - base);
    s0 += p0;
    put(j, p0, vf{});
    j += 2;
  }
  for (; j < padded; j += 2) put(j, vf{}, vf{});
  if (tiles)
    for (i64 k = 0; k < padded; k += 32) transpose_units(prob + k / 2 * kTile);
  const vf decay = math::exp(old - base);
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

// ---- packing ------------------------------------------------------------------------------------

typedef uint16_t vpair __attribute__((vector_size(64)));  // 32 bf16 values

inline vpair load_32(const bf16* p, int valid) {
  vpair v = {};
  if (valid >= 32)
    std::memcpy(&v, p, sizeof v);
  else
    std::memcpy(&v, p, size_t(valid) * 2);
  return v;
}

// Queries as [step of 32][pair][row].
inline void pack_queries(uint32_t* to, const bf16* const* from, int rows, i64 D) {
  for (i64 d = 0; d < D; d += 32, to += kUnits) {
    vf r[VL] = {};
    for (int i = 0; i < rows; ++i) r[i] = (vf)load_32(from[i] + d, int(std::min<i64>(32, D - d)));
    transpose(r);
    std::memcpy(to, r, sizeof r);
  }
}

template <int High, int... I>
inline vpair zip(vpair a, vpair b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / 8 * 8 + High * 4 + I % 8 / 2 + (I % 2) * 32)...);
}

// Keys of V, `pairs` of them a multiple of 16, as [step of 32 keys][tile of columns][pair][16]. Of
// every 32 columns the first tile has 0-3, 8-11, 16-19 and 24-27: what one instruction per vector
// gives. untwist() brings results into order.
void pack_values(uint32_t* to, const bf16* const* rows, i64 pairs, i64 width, Ahead& ahead) {
  constexpr auto lanes = std::make_integer_sequence<int, 32>();
  const i64 whole = width / 32 * 32, step = kTile * round_up(width, 32);
  for (i64 p = 0; p < pairs; ++p) {
    uint32_t* at = to + p / kTile * step + p % kTile * kTile;
    const bf16 *even = rows[2 * p], *odd = rows[2 * p + 1];
    auto put = [&](vpair a, vpair b) {
      vpair low = zip<0>(a, b, lanes), high = zip<1>(a, b, lanes);
      std::memcpy(at, &low, sizeof low);
      std::memcpy(at + kUnits, &high, sizeof high);
      at += 2 * kUnits;
    };
    for (i64 c = 0; c < whole; c += 32) put(load_32(even + c, 32), load_32(odd + c, 32));
    if (whole < width) {
      const int rest = int(width - whole);
      put(load_32(even + whole, rest), load_32(odd + whole, rest));
    }
    ahead.advance();
  }
}

// ---- one block of keys --------------------------------------------------------------------------

struct Block {
  const Slice<bf16>& s;
  Buffers& b;
  Ahead ahead;
  i64 tiles, j, n;  // tiles of rows; the first key and how many
  bool amx, direct;

  // Keys that some row of the tile sees.
  i64 seen(i64 tile) const { return std::min(n, b.state[tile].last_limit - j); }

  KeyTile keys(i64 tile, i64 copy) const {
    const i64 first = tile * kTile, count = std::min(kTile, n - first), steps = ceil_div(s.D, 32);
    if (direct && count == kTile)
      return {reinterpret_cast<const char*>(b.kp[first]), s.k_j * i64(sizeof(bf16))};
    bf16* to = b.copies + copy * kTile * steps * 32;
    for (i64 i = 0; i < count; ++i) {
      std::memcpy(to + i * steps * 32, b.kp[first + i], size_t(s.D) * 2);
      std::fill(to + i * steps * 32 + s.D, to + (i + 1) * steps * 32, bf16{0});
    }
    return {reinterpret_cast<const char*>(to), steps * 64};
  }

  // Spreads what is to come over the calls of advance().
  void look_ahead(const Ahead& next) {
    ahead = next;
    const i64 steps = ceil_div(s.D, 32), calls = ceil_div(n, amx && tiles == 1 ? 64 : 32) * steps;
    ahead.each = ceil_div(ahead.lines(), calls * ceil_div(tiles, 2) + n);
  }

  // Scores of all tiles of rows; a group of keys is packed as values while it is near.
  void score() {
    const i64 steps = ceil_div(s.D, 32), key_tiles = ceil_div(n, kTile);
    const i64 group = amx && tiles == 1 ? kGroup : 2;
    for (i64 k = 0; k < key_tiles; k += group) {
      const i64 count = std::min(group, key_tiles - k), from = k * kTile;
      KeyTile key[kGroup];
      for (i64 i = 0; i < count; ++i) key[i] = keys(k + i, i);
      for (i64 t = 0; t < tiles; t += 2)
        if (from < std::max(seen(t), t + 1 < tiles ? seen(t + 1) : 0))
          score_group(key, count, b.queries + t * steps * kUnits, steps,
                      b.scores + (t * kKeys + from) * kTile, t + 1 < tiles);
      const i64 pairs = round_up(std::min(n - from, group * kTile), 32) / 2;
      pack_values(b.values + from / 2 * round_up(s.Dv, 32), b.vp + from, pairs, s.Dv, ahead);
    }
  }

  void score_group(const KeyTile* key, i64 count, const uint32_t* q, i64 steps, float* to,
                   bool pair) {
#if XC_AMX
    if (amx) {
      if (pair) {
        if (count == 2) return score_tiles<2, 2>(key, q, steps, to, ahead);
        return score_tiles<1, 2>(key, q, steps, to, ahead);
      }
      if (count == 4) return score_tiles<4, 1>(key, q, steps, to, ahead);
      for (i64 i = 0; i < count; i += 2, to += 2 * kUnits)
        if (i + 1 < count)
          score_tiles<2, 1>(key + i, q, steps, to, ahead);
        else
          score_tiles<1, 1>(key + i, q, steps, to, ahead);
      return;
    }
#endif
    for (int r = 0; r < 1 + pair; ++r, q += steps * kUnits, to += kKeys * kTile)
      for (i64 i = 0; i < count; ++i) score_vectors(key[i], q, steps, to + i * kUnits, ahead);
  }

  // P V of all tiles of rows.
  void values(const Partial& result) {
    const i64 width = round_up(s.Dv, 32), v_step = width * kTile;
    for (i64 col = 0; col < width; col += 64)
      for (i64 t = 0; t < tiles; ++t) {
        const i64 steps = ceil_div(seen(t), 32), ld = result.ld;
        if (steps <= 0) continue;
        const bool fresh = b.state[t].fresh, wide = width - col > 32;
        const uint32_t *p = b.probs + t * kKeys / 2 * kTile, *v = b.values + col * kTile;
        float* out = result.out + t * kTile * ld + col;
#if XC_AMX
        if (amx) {
          if (t + 1 < tiles && ceil_div(seen(t + 1), 32) == steps &&
              b.state[t + 1].fresh == fresh) {
            value_tiles<2, 2>(p, v, v_step, steps, out, ld, fresh, ahead);
            if (wide)
              value_tiles<2, 2>(p, v + 2 * kUnits, v_step, steps, out + 32, ld, fresh, ahead);
            ++t;
          } else if (wide) {
            value_tiles<1, 4>(p, v, v_step, steps, out, ld, fresh, ahead);
          } else {
            value_tiles<1, 2>(p, v, v_step, steps, out, ld, fresh, ahead);
          }
          continue;
        }
#endif
        for (i64 c = 0; c < (wide ? 64 : 32); c += kTile) {
          value_vectors(b.state[t].rows, p, v + c * kTile, v_step, steps, out + c, ld, fresh);
          ahead.advance();
        }
      }
  }
};

}  // namespace
#endif

template <class T>
bool takes_tiles(const Slice<T>& s) {
#if XC_BF16_DOT
  return sizeof(T) == 2 && !s.mask && !s.window && s.rows() >= dot_rows<T>();
#else
  (void)s;
  return false;
#endif
}

template <class T>
size_t tiles_scratch(i64 rows, i64 D, i64 Dv) {
#if XC_BF16_DOT
  if (sizeof(T) == 2) return Buffers(nullptr, rows, D, Dv).bytes;
#endif
  (void)rows, (void)D, (void)Dv;
  return 0;
}

template <class T>
void attend_tiles(const Slice<T>& s, i64 r0, i64 r1, i64 j0, i64 j1, void* scratch,
                  const Partial& result, const Next<T>& next) {
#if XC_BF16_DOT
  if constexpr (sizeof(T) == 2) {
    Buffers b(scratch, r1 - r0, s.D, s.Dv);
    const i64 tiles = ceil_div(r1 - r0, kTile), steps = ceil_div(s.D, 32);
    const Kernel kernel = choose_kernel<bf16>(kTile);
    i64 last = j0;
    for (i64 t = 0; t < tiles; ++t) {
      State& st = b.state[t];
      const i64 row = r0 + t * kTile;
      st.rows = int(std::min(kTile, r1 - row));
      st.fresh = true;
      st.first_limit = s.limit(row);
      st.last_limit = s.limit(row + st.rows - 1);
      const bf16* q[kTile];
      for (int i = 0; i < kTile; ++i) {
        const i64 r = row + std::min(i, st.rows - 1);
        st.max[i] = -kInf, st.sum[i] = 0.0f;
        st.limit[i] = int32_t(s.limit(r));
        q[i] = s.q_row(r);
      }
      last = std::max(last, st.last_limit);
      pack_queries(b.queries + t * steps * kUnits, q, st.rows, s.D);
    }
    std::fill(b.zeros, b.zeros + s.Dv, bf16{0});
    last = std::min(last, j1);
    const bool direct = s.D % 32 == 0 && (!s.table || s.page % kTile == 0) && j0 % kTile == 0;
    const TileScope scope(kernel);
    const bool latent = s.v == s.k && s.v_j == s.k_j;
    for (i64 j = j0; j < last; j += kKeys) {
      Block block{s, b, {}, tiles, j, std::min(kKeys, last - j), kernel == Kernel::amx, direct};
      s.gather(j, block.n, b.kp, b.vp);
      for (i64 i = block.n; i < round_up(block.n, 32); ++i) b.vp[i] = b.zeros;
      Ahead ahead{b.next_k, latent ? nullptr : b.next_v, 0, s.D * 2, s.Dv * 2};
      const Slice<bf16>* then = j + kKeys < last ? &s : next.slice;
      if (then) {
        const i64 first = then == &s ? j + kKeys : next.j0;
        ahead.count = std::clamp<i64>((then == &s ? last : next.j1) - first, 0, kKeys);
        then->gather(first, ahead.count, b.next_k, b.next_v);
      }
      block.look_ahead(ahead);
      block.score();
      for (i64 t = 0; t < tiles; ++t) {
        const i64 seen = block.seen(t);
        if (seen > 0)
          softmax(b.state[t], b.scores + t * kKeys * kTile, b.probs + t * kKeys / 2 * kTile, j,
                  seen, round_up(seen, 32), s.scale, result.out + t * kTile * result.ld, result.ld,
                  round_up(s.Dv, 32), block.amx);
      }
      block.values(result);
      for (i64 t = 0; t < tiles; ++t) b.state[t].fresh &= block.seen(t) <= 0;
    }
    for (i64 t = 0; t < tiles; ++t) {
      const State& st = b.state[t];
      for (int i = 0; i < st.rows; ++i) {
        const i64 row = t * kTile + i;
        result.max[row] = st.max[i], result.sum[row] = st.sum[i];
        if (st.fresh) std::fill_n(result.out + row * result.ld, round_up(s.Dv, 32), 0.0f);
      }
    }
  }
#else
  (void)s, (void)r0, (void)r1, (void)j0, (void)j1, (void)scratch, (void)result, (void)next;
#endif
}

}  // namespace xc
