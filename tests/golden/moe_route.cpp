// f32[7, 3], i64[7, 3] = moe_route(f32[7, 24], f32[24])
namespace moe_route_1977f9a0_impl {
}  // namespace moe_route_1977f9a0_impl
void moe_route_1977f9a0([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  Route<float> r{};
  r.logits = (float*)a[0]; r.ld = 24;
  r.bias = (float*)a[1]; r.bias_bf16 = false;
  r.weight = (float*)a[2]; r.weight_bf16 = false;
  r.expert = (i64*)a[3];
  r.rows = 7; r.experts = 24; r.k = 3;
  r.groups = 4; r.topk_group = 2;
  r.score = Score::sigmoid; r.top2 = true;
  r.mask = -kInf; r.biased = false;
  r.renorm = true; r.eps = 1e-20f; r.floor = -kInf;
  r.scale = 2.5f; r.bf16_scores = false;
  route<float>(t, r);
}

