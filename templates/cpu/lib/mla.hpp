// Multi-head latent attention over a paged cache, each request absorbed or expanded by cost.
#pragma once
#include "attention.hpp"

namespace xc {

/// A cache row holds a latent c of `rank` values and a rotated key r of `rope`. Head h of a token
/// has keys [U_h c, r] and values V_h c, and its query is [q_nope, q_rot].
template <class T>
struct MlaAttention {
  const T *q_nope, *q_rot;  // [tokens,H,nope], [tokens,H,rope]
  i64 ns, nh, rs, rh;       // their strides of token and head
  const T* cache;           // [slots,rank+rope]
  i64 slot;                 // stride of a slot
  T* o;                     // [tokens,H,v], contiguous
  const i64* cu_seqlens;    // these four as in PagedAttention
  const i64* context_lens;
  const i64* block_tables;
  i64 max_blocks, page;
  const T* absorb;  // [H] panels of U_h^T [rank,nope]
  const T* up;      // [H] panels of U_h [nope,rank]
  const T* value;   // [H] panels of V_h [v,rank]
  float scale;
  i64 tokens, R, slots, H, nope, rope, rank, v;
  // 64-byte aligned, shared by the team: 2 (R+1) int64 rounded up to 64 bytes, then room for
  // min(tokens, kMlaTokens) absorbed queries [H,rank+rope] and as many results [H,rank].
  void* workspace;
};

/// Tokens whose absorbed queries are in memory at a time.
constexpr i64 kMlaTokens = 512;

template <class T>
void mla_attention(const Team& t, const MlaAttention<T>& a);

}  // namespace xc
