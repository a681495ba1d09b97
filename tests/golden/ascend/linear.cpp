// bf16[T, 16] = linear(bf16[T, 24], bf16[16, 24])
#pragma once
#include "../lib/common.h"
#include "../lib/gemm.h"

namespace xc {
__aicore__ inline void linear_75d08bbb([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2) {
  [[maybe_unused]] const i64 T = s[0];
  const i64 rows_ = (T);
  const Tiling tiling_ = Tiling{16, 1, 3, 32, 32, 32, 4, 117964};
  const Many many_{1, 0, 0, 0};
  linears<bfloat16_t, 128>(
      pipe, team, a0, a1, a2, many_, rows_, 16, 24, 24, 16, false, tiling_);
}
}  // namespace xc

