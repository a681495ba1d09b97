// f32[6, 4, 20] = paged_attention(f32[6, 4, 24], f32[40, 2, 24], f32[40, 2, 20], i64[3], i64[2], i64[2, 4])
#pragma once
#include "../lib/common.h"
#include "../lib/attention.h"

namespace xc {
__aicore__ inline void paged_attention_234d432e([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3,
                                  [[maybe_unused]] GM_ADDR a4,
                                  [[maybe_unused]] GM_ADDR a5,
                                  [[maybe_unused]] GM_ADDR a6,
                                  [[maybe_unused]] GM_ADDR a7) {
  using P = const __gm__ i64*;
  const PagedSource source_{6, 2, 4, 4,
                            reinterpret_cast<P>(a3), reinterpret_cast<P>(a4), reinterpret_cast<P>(a5),
                            96, 24,
                            80, 20,
                            48, 24,
                            40, 20};
  pagedAttention<float>(pipe, team, source_, AttnSizes{2, 2, 24, 20, 0.2f}, AttnTile{256, 256, 64, 1, 0, 0, 0, 6272, 21760, 29056, 8320, 2, 2, 2, 24, 4096, 65536, 65536, 6144, 85, 85, 17},
                        a0, a1, a2, a6, a7);
}
}  // namespace xc

