// Scaled dot-product attention with an fp32 online softmax, over dense or paged keys and values.
#pragma once
#include "gemm.hpp"

namespace xc {

enum MaskKind : int { kNoMask = 0, kBoolMask = 1, kFloatMask = 2, kTypedMask = 3 };

/// Dense attention over q [B,H,Sq,D], k [B,Hk,Sk,D], v [B,Hk,Sk,Dv], o [B,H,Sq,Dv], each with
/// element strides for batch, head and position, and a contiguous last dimension. H % Hk == 0.
template <class T>
struct Attention {
  const T *q, *k, *v;
  T* o;
  i64 qb, qh, qs, kb, kh, ks, vb, vh, vs, ob, oh, os;
  const void* mask;  // bool (true: visible), additive fp32 or additive T, per mask_kind
  int mask_kind;
  i64 mb, mh, mq, mk;  // mask strides (0 broadcasts)
  bool causal;         // upper-left: key j is visible to query i iff j <= i
  float scale;
  i64 B, H, Hk, Sq, Sk, D, Dv;
  const float* sinks = nullptr;  // [H] or null: a logit per head that joins the sum, with no value
};

/// T = float or bf16. Rows that see no key give zeros.
template <class T>
void attention(const Team& t, const Attention<T>& a);

/// Ragged attention over a paged cache. Query i of the n_r = cu_seqlens[r+1]-cu_seqlens[r] new
/// tokens of request r sits at position context_lens[r]-n_r+i and sees keys 0..its position.
/// Position p lives in slot block_tables[r][p/page]*page + p%page.
template <class T>
struct PagedAttention {
  const T* q;
  i64 qs, qh;                  // q [tokens,H,D]: strides of token and head
  const T *k_cache, *v_cache;  // [slots,Hk,D], [slots,Hk,Dv]
  T* o;                        // [tokens,H,Dv], contiguous
  const i64* cu_seqlens;       // [R+1]
  const i64* context_lens;     // [R], including the new tokens
  const i64* block_tables;     // [R,max_blocks]
  i64 max_blocks, page;
  float scale;
  i64 tokens, R, slots, H, Hk, D, Dv;
  // Strides of a slot and of a head in the caches; 0 means contiguous. Latent (MLA) caches set
  // v_cache = k_cache and let v take the leading Dv of each D-wide slot.
  i64 k_slot = 0, k_head = 0, v_slot = 0, v_head = 0;
  const float* sinks = nullptr;  // as in Attention
  i64 window = 0;                // > 0: the last so many of the visible keys are seen
};

template <class T>
void paged_attention(const Team& t, const PagedAttention<T>& a);

}  // namespace xc
