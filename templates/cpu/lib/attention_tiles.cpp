// Attention of bf16 by tiles of 16 query rows: the heads of a latent cache, of a group, or a
// prompt.
//   S^T [keys, 16]  = K Q^T     keys are the left operand and are read where they lie
//   O   [16, Dv]   += P V       V where it lies for few rows, else as pairs of keys
// Rows are the lanes of the softmax. AMX where the machine has it, else vdpbf16ps.
#include "attention_products.hpp"
#include "pairs.hpp"

namespace xc {

#if XC_BF16_DOT
namespace {

using namespace tiles;

constexpr i64 kGroup = 4;         // tiles of keys that one pass over the queries takes
constexpr i64 kPiece = 9;         // steps of the queries for which tiles of keys stay in L1
constexpr i64 kInPlaceRows = 32;  // rows up to which packing values costs more than it saves
constexpr i64 kLeastRows = 4;     // with AMX; fewer are faster by attend_dot

// Carves aligned arrays out of the scratch buffer; with a null base it only measures.
struct Buffers {
  char* base;
  size_t bytes = 0;
  uint32_t *queries, *strip;
  State* state;
  float* scores;
  bf16 *copies, *values;  // of keys, of values

  template <class U>
  U* take(i64 count) {
    char* at = base + bytes;
    bytes += size_t(round_up(count * i64(sizeof(U)), 64));
    return reinterpret_cast<U*>(at);
  }
  Buffers(void* scratch, i64 rows, i64 D, i64 Dv) : base(static_cast<char*>(scratch)) {
    const i64 tiles = ceil_div(rows, kTile), steps = ceil_div(D, 32);
    const i64 all = rows <= kHeadRows ? kHeads * tiles : tiles;  // those of other slices as well
    queries = take<uint32_t>(all * steps * kUnits);
    state = take<State>(all);
    scores = take<float>(tiles * kScores);
    strip = take<uint32_t>(kKeys * kTile);
    copies = take<bf16>(kGroup * kTile * steps * 32);
    values = take<bf16>(kKeys * round_up(Dv, 32));
  }
};

// Columns [col, col + 32) of keys, two tiles a step, as [step][even, odd columns][unit][16].
void pack_strip(uint32_t* to, const KeyTile* keys, i64 steps, i64 col) {
  for (i64 s = 0; s < steps; ++s, keys += 2, to += 2 * kUnits)
    for (i64 k = 0; k < kTile; ++k) {
      vpair low, high;
      std::memcpy(&low, keys[0].at + k * keys[0].stride + col * 2, sizeof low);
      std::memcpy(&high, keys[1].at + k * keys[1].stride + col * 2, sizeof high);
      vf even, odd;
      pair_keys(low, high, &even, &odd);
      std::memcpy(to + k * kTile, &even, sizeof even);
      std::memcpy(to + kUnits + k * kTile, &odd, sizeof odd);
    }
}

// Starts the rows from `row` on: their queries as [step of 32][pair][row]. Returns how many keys
// the last one sees.
inline i64 start_rows(const Slice<bf16>& s, i64 row, i64 end, uint32_t* queries, State& st) {
  st.rows = int(std::min(kTile, end - row));
  st.fresh = true;
  st.first_limit = s.limit(row);
  st.last_limit = s.limit(row + st.rows - 1);
  const bf16* q[kTile];
  for (int i = 0; i < kTile; ++i) {
    const i64 r = row + std::min(i, st.rows - 1);
    st.max[i] = -kInf, st.sum[i] = 0.0f;
    st.limit[i] = int32_t(s.limit(r));
    q[i] = s.q_row(r);
    for (i64 d = 0; d < s.D; d += 32) __builtin_prefetch(q[i] + d);
  }
  for (i64 d = 0; d < s.D; d += 32, queries += kUnits) {
    vf r[VL];
#pragma GCC unroll 16
    for (int i = 0; i < kTile; ++i) r[i] = (vf)load_32(q[i] + d, s.D - d);
    transpose(r);
    std::memcpy(queries, r, sizeof r);
  }
  return st.last_limit;
}

inline void store_state(const State& st, const Partial& result, i64 row) {
  for (i64 i = 0; i < st.rows; ++i) {
    result.max[row + i] = st.max[i] / kLog2E, result.sum[row + i] = st.sum[i];
    if (st.fresh) std::fill_n(result.out + (row + i) * result.ld, result.ld, 0.0f);
  }
}

// Calls of Ahead::advance() for a block of keys, about.
i64 calls(const Slice<bf16>& s, i64 keys, i64 tiles, Form form) {
  const i64 key_tiles = ceil_div(keys, kTile), strips = ceil_div(s.Dv, 32);
  const i64 adding = form == Form::halves ? 2 * key_tiles : form == Form::packed ? key_tiles : 2;
  return tiles * (key_tiles * (ceil_div(s.D, 32) + 8) + strips * adding);
}

// One block of keys.
struct Block {
  const Slice<bf16>& s;
  Buffers& b;
  Rows rows;
  i64 tiles;  // of query rows
  Form form;
  Ahead& ahead;
  const uint32_t* queries;
  State* state;

  bool amx() const { return form != Form::vectors; }
  float* scores(i64 tile) const { return b.scores + tile * kScores; }
  // Keys that some row of the tile sees.
  i64 seen(i64 tile) const { return std::min(rows.count, state[tile].last_limit - rows.first); }

  // A tile of keys or values; rows that do not lie together, and short tiles, are copied.
  KeyTile tile(bool values, i64 first, bf16* copy) const {
    const i64 count = std::min(kTile, rows.count - first), width = values ? s.Dv : s.D;
    const i64 padded = round_up(width, 32);
    auto row = [&](i64 i) { return values ? rows.value(i) : rows.key(i); };
    if (rows.whole && count == kTile && width == padded)
      return {reinterpret_cast<const char*>(row(first)), (values ? s.v_j : s.k_j) * 2};
    std::fill_n(copy, kTile * padded, bf16{0});
    for (i64 i = 0; i < count; ++i)
      std::memcpy(copy + i * padded, row(first + i), size_t(width) * 2);
    return {reinterpret_cast<const char*>(copy), padded * 2};
  }

  // Scores of all tiles of rows.
  void score() {
    const i64 steps = ceil_div(s.D, 32), key_tiles = ceil_div(rows.count, kTile);
    const i64 group = amx() && tiles == 1 ? kGroup : 2;
    for (i64 k = 0; k < key_tiles; k += group) {
      const i64 count = std::min(group, key_tiles - k), from = k * kTile;
      KeyTile key[kGroup];
      for (i64 i = 0; i < count; ++i)
        key[i] = tile(false, from + i * kTile, b.copies + i * kTile * steps * 32);
      const i64 piece = amx() && tiles > 2 ? kPiece : steps;
      for (i64 first = 0; first < steps; first += piece)
        for (i64 t = 0; t < tiles; t += 2)
          if (from < std::max(seen(t), t + 1 < tiles ? seen(t + 1) : 0))
            score_group(
                key, count,
                {queries + t * steps * kUnits, steps, first, std::min(piece, steps - first)},
                scores(t) + from * kTile, t + 1 < tiles);
    }
  }

  void score_group(const KeyTile* key, i64 count, const Steps& q, float* to, bool pair) {
#if XC_AMX
    if (amx()) {
      if (pair) {
        if (count == 2) return score_tiles<2, 2>(key, q, to, ahead);
        return score_tiles<1, 2>(key, q, to, ahead);
      }
      if (count == 4) return score_tiles<4, 1>(key, q, to, ahead);
      for (i64 i = 0; i < count; i += 2, to += 2 * kUnits)
        if (i + 1 < count)
          score_tiles<2, 1>(key + i, q, to, ahead);
        else
          score_tiles<1, 1>(key + i, q, to, ahead);
      return;
    }
#endif
    for (int r = 0; r < 1 + pair; ++r, to += kScores)
      for (i64 i = 0; i < count; ++i)
        score_vectors(key[i], q.of + r * q.all * kUnits, q.all, to + i * kUnits, ahead);
  }

  void attend(const Partial& result) {
    score();
    for (i64 t = 0; t < tiles; ++t)
      if (const i64 n = seen(t); n > 0)
        softmax(state[t], scores(t), rows.first, n, s.scale * kLog2E,
                result.out + t * kTile * result.ld, result.ld, round_up(s.Dv, 32), form, ahead);
    add_values(result);
    for (i64 t = 0; t < tiles; ++t) state[t].fresh &= seen(t) <= 0;
  }

  // P V of all tiles of rows.
  void add_values(const Partial& result) {
    KeyTile value[kKeys / kTile];
    const i64 key_tiles = ceil_div(rows.count, kTile), width = round_up(s.Dv, 32);
    for (i64 i = 0; i < round_up(key_tiles, 2); ++i)
      value[i] = tile(true, i * kTile, b.values + i * kTile * width);
    if (form == Form::halves) {
      for (i64 t = 0; t < tiles; ++t) add_in_place(value, t, result);
      return;
    }
    for (i64 col = 0; col < width; col += 32) {
      pack_strip(b.strip, value, ceil_div(key_tiles, 2), col);
      for (i64 t = 0; t < tiles; ++t) t += add_strip(t, result, col);
    }
  }

  // A strip of 32 columns to one or two tiles of rows: how many more than one.
  i64 add_strip(i64 t, const Partial& result, i64 col) {
    const i64 steps = ceil_div(seen(t), kStep), ld = result.ld;
    if (steps <= 0) return 0;
    const bool fresh = state[t].fresh;
    float* out = result.out + t * kTile * ld + col;
#if XC_AMX
    if (amx()) {
      const bool two =
          t + 1 < tiles && ceil_div(seen(t + 1), kStep) == steps && state[t + 1].fresh == fresh;
      if (two)
        value_tiles<2>(scores(t), b.strip, steps, out, ld, fresh, ahead);
      else
        value_tiles<1>(scores(t), b.strip, steps, out, ld, fresh, ahead);
      return two;
    }
#endif
    for (i64 c = 0; c < 2; ++c) {
      value_vectors(state[t].rows, scores(t), b.strip + c * kUnits, steps, out + c * kTile, ld,
                    fresh);
      ahead.advance();
    }
    return 0;
  }

  void add_in_place(const KeyTile* value, i64 t, const Partial& result) {
#if XC_AMX
    const i64 count = ceil_div(seen(t), kTile);
    if (count <= 0) return;
    float* out = result.out + t * kTile * result.ld;
    const bool fresh = state[t].fresh;
    const i64 width = round_up(s.Dv, 32);
    i64 col = 0;
    for (; col + 64 <= width; col += 64)
      value_halves<2>(scores(t), value, count, col * 2, out + col, result.ld, fresh, ahead);
    if (col < width)
      value_halves<1>(scores(t), value, count, col * 2, out + col, result.ld, fresh, ahead);
#else
    (void)value, (void)t, (void)result;
#endif
  }
};

}  // namespace
#endif

template <class T>
bool takes_tiles(const Slice<T>& s) {
#if XC_BF16_DOT
  const i64 least = choose_kernel<T>(kTile) == Kernel::amx ? kLeastRows : dot_rows<T>();
  return sizeof(T) == 2 && !s.mask && !s.window && s.rows() >= least;
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
void attend_tiles(const Slice<T>* slices, i64 heads, i64 r0, i64 r1, i64 j0, i64 j1, void* scratch,
                  const Partial* results, const Next<T>& next) {
#if XC_BF16_DOT
  if constexpr (sizeof(T) == 2) {
    const Slice<bf16>& s = *slices;
    Buffers b(scratch, r1 - r0, s.D, s.Dv);
    const i64 tiles = ceil_div(r1 - r0, kTile), query_units = ceil_div(s.D, 32) * kUnits;
    i64 last = j0;
    for (i64 t = 0; t < heads * tiles; ++t)
      last = std::max(last, start_rows(slices[t / tiles], r0 + t % tiles * kTile, r1,
                                       b.queries + t * query_units, b.state[t]));
    last = std::min(last, j1);
    const Kernel kernel = choose_kernel<bf16>(kTile);
    // By the slice: how rows are cut into tasks must not change the order of sums.
    const Form form = kernel != Kernel::amx      ? Form::vectors
                      : s.rows() <= kInPlaceRows ? Form::halves
                                                 : Form::packed;
    const TileScope scope(kernel);
    for (Rows rows(s, j0, last), coming; rows.count > 0; rows = coming) {
      coming = Rows(s, rows.first + rows.count, last);
      const bool more = coming.count > 0 || !next.slice;
      Ahead ahead(more ? coming : Rows(*next.slice, next.j0, next.j1), more ? heads : next.heads,
                  heads * calls(s, rows.count, tiles, form));
      for (i64 h = 0; h < heads; ++h) {
        rows.s = slices + h;
        Block{slices[h],          b, rows, tiles, form, ahead, b.queries + h * tiles * query_units,
              b.state + h * tiles}
            .attend(results[h]);
      }
    }
    for (i64 t = 0; t < heads * tiles; ++t)
      store_state(b.state[t], results[t / tiles], t % tiles * kTile);
  }
#else
  (void)slices, (void)heads, (void)r0, (void)r1, (void)j0, (void)j1, (void)scratch;
  (void)results, (void)next;
#endif
}

}  // namespace xc
