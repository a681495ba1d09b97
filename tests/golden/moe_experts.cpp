// f32[7, 40] = moe_experts(f32[7, 40], i64[7, 2], f32[7, 2], f32[5, 48, 40], f32[5, 40, 24])
namespace moe_experts_8cbbe110_impl {
}  // namespace moe_experts_8cbbe110_impl
void moe_experts_8cbbe110([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  Experts<float> e{};
  e.x = (float*)a[0]; e.ldx = 40;
  e.expert = (i64*)a[1];
  e.weight = (const void*)a[2]; e.weight_bf16 = false;
  e.gate_up = (float*)a[3]; e.down = (float*)a[4]; e.y = (float*)a[5];
  e.tokens = 7; e.hidden = 40; e.inter = 24;
  e.experts = 5; e.topk = 2;
  e.act = Act::silu;
  e.workspace = (void*)a[6];
  experts<float>(t, e);
}

