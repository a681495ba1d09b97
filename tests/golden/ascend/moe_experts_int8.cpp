// f32[7, 40] = moe_experts_int8(f32[7, 40], i64[7, 2], f32[7, 2], i8[5, 48, 40], f32[5, 48], i8[5, 40, 24], f32[5, 40])
#pragma once
#include "../lib/common.h"
#include "../lib/experts_int8.h"

namespace xc {
__aicore__ inline void moe_experts_int8_6b4b9402([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3,
                                  [[maybe_unused]] GM_ADDR a4,
                                  [[maybe_unused]] GM_ADDR a5,
                                  [[maybe_unused]] GM_ADDR a6,
                                  [[maybe_unused]] GM_ADDR a7,
                                  [[maybe_unused]] GM_ADDR a8) {
  moeExpertsInt8<MoeTile<int8_t, 64, 128, true, false>,
                 MoeTile<int8_t, 16, 128, false, false>,
                 float, float, MoeAct::silu>(
      pipe, team,
      MoeSizes{7, 2, 5, 40, 24, 40},
      a0, a1, a2, a3, a4, a5, a6, a7, a8,
      MoeLimits{});
}
}  // namespace xc

