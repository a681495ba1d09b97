// f32[43, 4, 24] = mla_attention(f32[43, 4, 20], f32[43, 4, 8], f32[112, 1, 44], i64[3], i64[2], i64[2, 12], f32[4, 36, 20], f32[4, 20, 36], f32[4, 24, 36])
namespace mla_attention_4d2063bc_impl {
}  // namespace mla_attention_4d2063bc_impl
void mla_attention_4d2063bc([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  MlaAttention<float> x{};
  x.q_nope = (float*)a[0]; x.ns = 80; x.nh = 20;
  x.q_rot = (float*)a[1]; x.rs = 32; x.rh = 8;
  x.cache = (float*)a[2]; x.slot = 44; x.o = (float*)a[9];
  x.cu_seqlens = (i64*)a[3]; x.context_lens = (i64*)a[4]; x.block_tables = (i64*)a[5];
  x.max_blocks = 12; x.page = 4;
  x.absorb = (float*)a[6]; x.up = (float*)a[7]; x.value = (float*)a[8];
  x.scale = 0.2f;
  x.tokens = 43; x.R = 2; x.slots = 112;
  x.H = 4; x.nope = 20; x.rope = 8;
  x.rank = 36; x.v = 24;
  x.workspace = (void*)a[10];
  mla_attention<float>(t, x);
}

