// f32[3, 5] = gather(f32[3, 11], i64[3, 5])
#pragma once
#include "../lib/common.h"
#include "../lib/pick.h"

namespace xc {
__aicore__ inline void gather_dc8b72b2([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2) {
  gather<4>(pipe, team, a0, 3, 11, a1, 5, a2);
}
}  // namespace xc

