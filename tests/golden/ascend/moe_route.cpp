// f32[7, 3], i64[7, 3] = moe_route(f32[7, 24], f32[24])
#pragma once
#include "../lib/common.h"
#include "../lib/route.h"

namespace xc {
__aicore__ inline void moe_route_d11f38f3([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3) {
  constexpr int32_t flags = Routing::kSigmoid | Routing::kTop2 | Routing::kBias | Routing::kRenorm;
  const RouteArgs args{a0, 24, a1, a2, a3, 7,
                       0.0f, 1e-20f, -3.4e38f, 2.5f};
  route<float, float, float, float, 24, 3, 4, 2, flags>(pipe, team, args);
}
}  // namespace xc

