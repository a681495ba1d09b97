// i64[3, 5, 1] = argmax(f32[3, 5, 37])
#pragma once
#include "../lib/common.h"
#include "../lib/order.h"

namespace xc {
__aicore__ inline void argmax_48bedcfa([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1) {
  sortShort<float>(pipe, team, a0, 15, 37, 1, true, a1, a1, false);
}
}  // namespace xc

