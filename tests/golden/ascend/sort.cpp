// f32[3, 5, 37], i64[3, 5, 37] = sort(f32[3, 5, 37])
#pragma once
#include "../lib/common.h"
#include "../lib/order.h"

namespace xc {
__aicore__ inline void sort_c7abf981([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2) {
  const i64 rows_ = 15, cols_ = 37;
  sortShort<float>(pipe, team, a0, rows_, cols_, 37, false, a1, a2, true);
}
}  // namespace xc

