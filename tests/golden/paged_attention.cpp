// f32[6, 4, 20] = paged_attention(f32[6, 4, 24], f32[40, 2, 24], f32[40, 2, 20], i64[3], i64[2], i64[2, 4])
namespace paged_attention_da1365ac_impl {
}  // namespace paged_attention_da1365ac_impl
void paged_attention_da1365ac([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  PagedAttention<float> x{};
  x.q = (float*)a[0]; x.k_cache = (float*)a[1]; x.v_cache = (float*)a[2]; x.o = (float*)a[6];
  x.k_slot = 48; x.k_head = 24; x.v_slot = 40; x.v_head = 20;
  x.qs = 96; x.qh = 24;
  x.cu_seqlens = (i64*)a[3]; x.context_lens = (i64*)a[4]; x.block_tables = (i64*)a[5];
  x.max_blocks = 4; x.page = 4;
  x.scale = 0.2f;
  x.tokens = 6; x.R = 2; x.slots = 40;
  x.H = 4; x.Hk = 2; x.D = 24; x.Dv = 20;
  paged_attention<float>(t, x);
}

