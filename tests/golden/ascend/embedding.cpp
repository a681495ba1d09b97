// f32[2, 5, 37] = embedding(f32[11, 37], i64[2, 5])
#pragma once
#include "../lib/common.h"
#include "../lib/rows.h"

namespace xc {
__aicore__ inline void embedding_dad476ef([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2) {
  gatherRows(pipe, team, a0, 11, (37) * 4, a1,
             10, a2);
}
}  // namespace xc

