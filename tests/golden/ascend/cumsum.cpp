// f32[3, 5, 37] = cumsum(f32[3, 5, 37])
#pragma once
#include "../lib/common.h"
#include "../lib/cumsum.h"

namespace xc {
__aicore__ inline void cumsum_fd7d9702([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1) {
  CumSum<float> sums_;
  sums_.run(pipe, team, a0, 15, 37, a1);
}
}  // namespace xc

