// f32[3, 5, 37] = matmul(f32[3, 5, 33], f32[3, 33, 37])
#pragma once
#include "../lib/common.h"
#include "../lib/matmul.h"

namespace xc {
__aicore__ inline void matmul_b54ca1fa([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2) {
  const Batch batch_{{1, 1, 1, 3}, {0, 0, 0, 165}, {0, 0, 0, 1221}, {0, 0, 0, 185}};
  matmul<float, 48, false>(
      pipe, team, a0, a1, a2, batch_, 5, 37, 33, 33, 37, 37, Tiling{128, 1, 2, 64, 128, 256, 3, 64});
}
}  // namespace xc

