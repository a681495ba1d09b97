// f32[7, 40] = moe_experts_int8(f32[7, 40], i64[7, 2], f32[7, 2], i8[5, 48, 40], f32[5, 48], i8[5, 40, 24], f32[5, 40])
namespace moe_experts_int8_835ccc73_impl {
}  // namespace moe_experts_int8_835ccc73_impl
void moe_experts_int8_835ccc73([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  ExpertsInt8<float> e{};
  e.x = (float*)a[0]; e.ldx = 40;
  e.expert = (i64*)a[1];
  e.weight = (const void*)a[2]; e.weight_bf16 = false;
  e.gate_up8 = (int8_t*)a[3]; e.gate_up_scale = (float*)a[4];
  e.down8 = (int8_t*)a[5]; e.down_scale = (float*)a[6];
  e.y = (float*)a[7];
  e.tokens = 7; e.hidden = 40; e.inter = 24;
  e.experts = 5; e.topk = 2;
  e.act = Act::silu;
  e.workspace = (void*)a[8];
  experts_int8<float>(t, e);
}

