// Absorbed: U^T goes to the queries and V to the results, and all heads attend to the latents.
// Expanded: a task is a few heads and a block of a request's new tokens. Keys and values of its
// context are made in blocks that stay in cache, U c and V c, and attended with the kernels for
// keys of one head. Which of the two a request takes depends on its lengths alone.
#include "mla.hpp"

#include <algorithm>

#include "attention_core.hpp"
#include "math.hpp"

namespace xc {

namespace {

constexpr i64 kKeys = 512;       // keys expanded at a time
constexpr i64 kLatents = 256;    // latents packed at a time
constexpr i64 kRows = 256;       // query rows per call of an attention kernel
constexpr i64 kTaskRows = 2048;  // of a task: query rows of a head that share the expanded keys,
                                 // times heads that share the packed latents
constexpr i64 kLeastRows = 512;  // of a task, when there are too few for the team
constexpr i64 kFewRows = 32;     // requests with fewer new tokens are absorbed

// Multiplications, per head. Absorbing a token costs what expanding it does, so that only earlier
// tokens are extra; scores and values of a pair are cheaper expanded. Products that expand were
// measured to take 1 (fp32) to 1.8 times as long as those they save: 3/2 here.
template <class T>
bool expands(const MlaAttention<T>& a, const Request& q) {
  if (q.n < kFewRows) return false;
  const i64 before = q.keys - q.n, pairs = q.n * before + q.n * (q.n + 1) / 2;
  return 2 * pairs * (2 * a.rank - a.nope - a.v) > 3 * before * a.rank * (a.nope + a.v);
}

// ---- absorbed -----------------------------------------------------------------------------------

template <class T>
struct Rows {
  T* y;
  i64 ld;
};

template <class T>
void store_rows(const void* ctx, i64 m, int rows, i64 n, int cols, const float* acc, int ld) {
  const Rows<T>& c = *static_cast<const Rows<T>*>(ctx);
  for (int r = 0; r < rows; ++r, acc += ld) {
    T* to = c.y + (m + r) * c.ld + n;
    for (int j = 0; j < cols; j += VL) vstore_n(to + j, vload(acc + j), cols - j);
  }
}

// Tokens [begin, begin + count), at most kMlaTokens, which belong to requests [r0, r1): these
// whole, or a piece of the only one, which then ends at position `end`.
template <class T>
void absorbed(const Team& t, const MlaAttention<T>& a, i64 r0, i64 r1, i64 begin, i64 count,
              i64 end) {
  const i64 R = r1 - r0, D = a.rank + a.rope;
  i64* cu = static_cast<i64*>(a.workspace);
  i64* lens = cu + R + 1;
  T* q = reinterpret_cast<T*>(static_cast<char*>(a.workspace) + round_up(2 * (a.R + 1) * 8, 64));
  T* result = q + std::min(a.tokens, kMlaTokens) * a.H * D;
  if (t.tid == 0) {
    for (i64 i = 0; i < R; ++i) {
      cu[i] = a.cu_seqlens[r0 + i] - a.cu_seqlens[r0];
      lens[i] = R == 1 ? end : a.context_lens[r0 + i];
    }
    cu[R] = count;
  }
  for (i64 h = 0; h < a.H; ++h) {
    const Rows<T> to{q + h * D, a.H * D};
    linear(t, a.q_nope + begin * a.ns + h * a.nh, a.ns,
           a.absorb + h * ceil_div(a.rank, kPanel) * panel_elems<T>(a.nope), count, a.rank, a.nope,
           store_rows<T>, &to);
  }
  t.each_row(count * a.H, [&](i64 row) {
    const T* from = a.q_rot + (begin + row / a.H) * a.rs + row % a.H * a.rh;
    std::copy_n(from, a.rope, q + row * D + a.rank);
  });
  t.barrier();
  PagedAttention<T> x{};
  x.q = q, x.qs = a.H * D, x.qh = D;
  x.k_cache = x.v_cache = a.cache, x.k_slot = x.v_slot = a.slot;
  x.k_head = D, x.v_head = a.rank;
  x.o = result;
  x.cu_seqlens = cu, x.context_lens = lens, x.block_tables = a.block_tables + r0 * a.max_blocks;
  x.max_blocks = a.max_blocks, x.page = a.page;
  x.scale = a.scale;
  x.tokens = count, x.R = R, x.slots = a.slots;
  x.H = a.H, x.Hk = 1, x.D = D, x.Dv = a.rank;
  paged_attention(t, x);
  t.barrier();
  for (i64 h = 0; h < a.H; ++h) {
    const Rows<T> to{a.o + (begin * a.H + h) * a.v, a.H * a.v};
    linear(t, result + h * a.rank, a.H * a.rank,
           a.value + h * ceil_div(a.v, kPanel) * panel_elems<T>(a.rank), count, a.v, a.rank,
           store_rows<T>, &to);
  }
}

// ---- expanded -----------------------------------------------------------------------------------

// Partial results of a block of rows in memory: outputs, then maxima and sums.
Partial partial_at(float* base, i64 rows, i64 ld, bool twisted) {
  rows = round_up(rows, 16);
  return {base, base + rows * ld, base + rows * (ld + 1), ld, twisted};
}

// a += b, both of unnormalised rows.
void merge(const Partial& a, const Partial& b, i64 rows) {
  for (i64 r = 0; r < rows; ++r) {
    if (b.max[r] == -kInf) continue;
    const float max = std::max(a.max[r], b.max[r]);
    const float mine = math::exp(a.max[r] - max), other = math::exp(b.max[r] - max);
    a.max[r] = max;
    a.sum[r] = mine * a.sum[r] + other * b.sum[r];
    float* to = a.out + r * a.ld;
    for (i64 d = 0; d < a.ld; d += VL)
      vstore(to + d, mine * vload(to + d) + other * vload(b.out + r * b.ld + d));
  }
}

// One thread's buffers, carved out of its scratch; with a null base it only measures.
template <class T>
struct Expander {
  const MlaAttention<T>& a;
  const Kernel kernel = choose_kernel<T>(kLatents);
  const i64 D = a.nope + a.rope, ld = round_up(a.v, 32);
  const i64 packed_bytes = round_up(i64(packed_rows_bytes<T>(kernel, kLatents, a.rank)), 64);
  char* base;
  size_t bytes = 0;
  T *keys, *values, *queries;
  const T** latents;
  float *acc, *block, *results;
  char *packed, *work;

  template <class U>
  U* take(i64 count) {
    char* at = base + bytes;
    bytes += size_t(round_up(count * i64(sizeof(U)), 64));
    return reinterpret_cast<U*>(at);
  }
  i64 partial_elems(i64 rows) const { return round_up(rows, 16) * (ld + 2); }

  Expander(const MlaAttention<T>& a, void* scratch) : a(a), base(static_cast<char*>(scratch)) {
    keys = take<T>(kKeys * D);
    values = take<T>(kKeys * a.v);
    queries = take<T>(kRows * D);
    latents = take<const T*>(kLatents);
    acc = take<float>(round_up(kLatents, row_group<T>(kernel)) * kPanel);
    block = take<float>(partial_elems(kRows));
    results = take<float>(kTaskRows / kRows * partial_elems(kRows));
    packed = take<char>(kKeys / kLatents * packed_bytes);
    work = take<char>(
        i64(std::max(tiles_scratch<T>(kRows, D, a.v), panels_scratch<T>(kRows, D, a.v))));
  }

  // Latents of positions [j0, j0 + n) of request r, for every head; the keys' last columns.
  void load(i64 r, i64 j0, i64 n) {
    const i64* table = a.block_tables + r * a.max_blocks;
    for (i64 from = 0; from < n; from += kLatents) {
      const i64 m = std::min(kLatents, n - from);
      for (i64 i = 0; i < m; ++i) {
        const i64 j = j0 + from + i;
        latents[i] = a.cache + (table[j / a.page] * a.page + j % a.page) * a.slot;
        std::copy_n(latents[i] + a.rank, a.rope, keys + (from + i) * D + a.nope);
      }
      pack_rows(kernel, packed + from / kLatents * packed_bytes, latents, m, a.rank);
    }
  }

  // to[n][ld_to] = the loaded latents times the panels of head h of w[H,N,rank].
  void product(i64 n, const T* w, i64 h, i64 N, T* to, i64 ld_to) {
    w += h * ceil_div(N, kPanel) * panel_elems<T>(a.rank);
    for (i64 from = 0; from < n; from += kLatents)
      for (i64 col = 0; col < N; col += kPanel) {
        const i64 m = std::min(kLatents, n - from);
        const int cols = int(std::min<i64>(kPanel, N - col));
        panel_product(kernel, packed + from / kLatents * packed_bytes, m,
                      w + col / kPanel * panel_elems<T>(a.rank), a.rank, kPanel, acc, false);
        for (i64 i = 0; i < m; ++i)
          for (int j = 0; j < cols; j += VL)
            vstore_n(to + (from + i) * ld_to + col + j, vload(acc + i * kPanel + j), cols - j);
      }
  }

  // Heads [h0, h0 + heads) of the new tokens [first, first + rows) of request r.
  void attend(i64 r, const Request& q, i64 h0, i64 heads, i64 first, i64 rows) {
    const i64 last = q.keys - q.n + first + rows;  // keys that the rows see
    for (i64 j0 = 0; j0 < last; j0 += kKeys) {
      const i64 made = std::min(kKeys, last - j0);
      load(r, j0, made);
      for (i64 h = 0; h < heads; ++h) {
        {
          const TileScope tiles(kernel);
          product(made, a.up, h0 + h, a.nope, keys, D);
          product(made, a.value, h0 + h, a.v, values, a.v);
        }
        for (i64 row = 0; row < rows; row += kRows)
          block_of_rows(q, h0 + h, first + row, std::min(kRows, rows - row), j0, made,
                        results + (h * ceil_div(rows, kRows) + row / kRows) * partial_elems(kRows));
      }
    }
  }

  // New tokens [i, i + rows) against the expanded keys, which begin at j0.
  void block_of_rows(const Request& q, i64 h, i64 i, i64 rows, i64 j0, i64 made, float* result) {
    const i64 sees = q.keys - q.n + i + 1;  // keys that the first row sees
    Slice<T> s{};
    s.keys = std::min(made, sees + rows - 1 - j0);
    if (s.keys <= 0) return;
    for (i64 k = 0; k < rows; ++k) {
      const i64 token = q.begin + i + k;
      std::copy_n(a.q_nope + token * a.ns + h * a.nh, a.nope, queries + k * D);
      std::copy_n(a.q_rot + token * a.rs + h * a.rh, a.rope, queries + k * D + a.nope);
    }
    s.q = queries, s.q_i = D;
    s.o = a.o + ((q.begin + i) * a.H + h) * a.v, s.o_i = a.H * a.v;
    s.k = keys, s.k_j = D;
    s.v = values, s.v_j = a.v;
    s.page = kKeys;
    s.group = 1, s.queries = rows;
    s.limit0 = sees - j0, s.limit_step = 1;
    s.D = D, s.Dv = a.v, s.scale = a.scale;
    const bool tiles = takes_tiles(s);
    const Partial all = partial_at(result, kRows, ld, tiles);
    const Partial now = j0 == 0 ? all : partial_at(block, kRows, ld, tiles);
    if (tiles)
      attend_tiles(&s, 1, 0, rows, 0, s.keys, work, &now, {});
    else
      attend_panels<T>(s, 0, rows, 0, s.keys, work, &now);
    if (j0 > 0) merge(all, now, rows);
    if (j0 + kKeys < sees + rows - 1) return;  // more keys to come
    for (i64 k = 0; k < rows; ++k) finish_row(s, k, k, all, 0, 1);
  }
};

}  // namespace

template <class T>
void mla_attention(const Team& t, const MlaAttention<T>& a) {
  bool expanded = false;  // whether some request is
  for (i64 r = 0; r < a.R;) {
    const Request q = request_of(a, r);
    if (!q.usable) t.fail(kBadLength, q.keys);
    if (!q.usable || q.n == 0 || expands(a, q)) {
      expanded |= q.usable && q.n > 0;
      ++r;
    } else if (q.n > kMlaTokens) {
      for (i64 i = 0; i < q.n; i += kMlaTokens) {
        const i64 count = std::min(kMlaTokens, q.n - i);
        absorbed(t, a, r, r + 1, q.begin + i, count, q.keys - q.n + i + count);
      }
      ++r;
    } else {
      i64 end = r, count = 0;
      for (; end < a.R; ++end) {
        const Request next = request_of(a, end);
        if (!next.usable || count + next.n > kMlaTokens || expands(a, next)) break;
        count += next.n;
      }
      absorbed(t, a, r, end, q.begin, count, q.keys);
      r = end;
    }
  }
  if (!expanded) return;

  Expander<T> measured(a, nullptr);
  Expander<T> expander(a, t.scratch(measured.bytes));
  for (i64 r = 0; r < a.R; ++r) {
    const Request q = request_of(a, r);
    if (!q.usable || !expands(a, q) || !has_pages(t, a, r)) continue;
    // Smaller tasks while there are too few to share; heads and rows do not affect each other.
    i64 rows = std::min(kTaskRows, round_up(q.n, kRows));
    i64 heads = std::min(a.H, kTaskRows / rows);
    auto tasks = [&] { return ceil_div(q.n, rows) * ceil_div(a.H, heads); };
    while (t.n > 1 && heads > 1 && tasks() < 4 * t.n) heads = ceil_div(heads, 2);
    while (t.n > 1 && rows > kLeastRows && tasks() < 4 * t.n) rows = round_up(rows / 2, kRows);
    const i64 blocks = ceil_div(q.n, rows), groups = ceil_div(a.H, heads);
    t.parallel_for(tasks(), [&](i64 task) {
      const i64 first = (blocks - 1 - task / groups) * rows;  // the longest ones first
      const i64 h = task % groups * heads;
      expander.attend(r, q, h, std::min(heads, a.H - h), first, std::min(rows, q.n - first));
    });
  }
}

}  // namespace xc
