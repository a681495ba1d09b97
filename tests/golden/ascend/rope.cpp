// f32[2, 3, 5, 8] = rope(f32[2, 3, 5, 8], f32[2, 1, 5, 8], f32[2, 1, 5, 8])
#pragma once
#include "../lib/common.h"
#include "../lib/rope.h"

namespace xc {
__aicore__ inline void rope_7c03e36e([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3) {
  const RopeRows rows_{3,
                      {2, 3, 5},
                      {120, 40, 8},
                      {120, 40, 8},
                      {40, 0, 8},
                      {40, 0, 8},
                      {1, 1, 1}};
  Rope<float, float, float, 8, false, false> rope_;
  rope_.run(pipe, team, a0, a1, a2, a3, rows_);
}
}  // namespace xc

