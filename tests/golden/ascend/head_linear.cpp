// f32[5, 3, 37] = head_linear(f32[5, 3, 33], f32[3, 37, 33])
#pragma once
#include "../lib/common.h"
#include "../lib/gemm.h"

namespace xc {
__aicore__ inline void head_linear_14b03a27([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2) {
  const i64 rows_ = 5;
  const Tiling tiling_ = Tiling{128, 1, 3, 32, 64, 64, 4, 5362};
  const Many many_{3, 33, 37, 2};
  linears<float, 32>(
      pipe, team, a0, a1, a2, many_, rows_, 37, 33, 99, 111, false, tiling_);
}
}  // namespace xc

