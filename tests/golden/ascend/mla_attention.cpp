// f32[43, 4, 24] = mla_attention(f32[43, 4, 20], f32[43, 4, 8], f32[112, 1, 44], i64[3], i64[2], i64[2, 12], f32[4, 36, 20], f32[4, 20, 36], f32[4, 24, 36])
#pragma once
#include "../lib/common.h"
#include "../lib/mla.h"

namespace xc {
__aicore__ inline void mla_attention_b8c6a15f([[maybe_unused]] TPipe& pipe, [[maybe_unused]] Team team,
                                  [[maybe_unused]] const __gm__ i64* s,
                                  [[maybe_unused]] GM_ADDR a0,
                                  [[maybe_unused]] GM_ADDR a1,
                                  [[maybe_unused]] GM_ADDR a2,
                                  [[maybe_unused]] GM_ADDR a3,
                                  [[maybe_unused]] GM_ADDR a4,
                                  [[maybe_unused]] GM_ADDR a5,
                                  [[maybe_unused]] GM_ADDR a6,
                                  [[maybe_unused]] GM_ADDR a7,
                                  [[maybe_unused]] GM_ADDR a8,
                                  [[maybe_unused]] GM_ADDR a9,
                                  [[maybe_unused]] GM_ADDR a10) {
  using P = const __gm__ i64*;
  struct Cuts {
    __aicore__ inline Tiling query(i64 rows_) const { return Tiling{16, 1, 1, 24, 24, 24, 4, 70778}; }
    __aicore__ inline Tiling result(i64 rows_) const { return Tiling{16, 1, 1, 32, 64, 64, 4, 39321}; }
    __aicore__ inline Tiling keys(i64 rows_) const { return rows_ <= 64 ? Tiling{16, 2, 3, 32, 64, 64, 4, 39321} : rows_ <= 512 ? Tiling{32, 2, 2, 32, 64, 64, 4, 19660} : Tiling{64, 4, 1, 32, 64, 64, 4, 9830}; }
    __aicore__ inline Tiling values(i64 rows_) const { return rows_ <= 64 ? Tiling{16, 2, 3, 32, 64, 64, 4, 39321} : rows_ <= 512 ? Tiling{32, 2, 2, 32, 64, 64, 4, 19660} : Tiling{64, 4, 1, 32, 64, 64, 4, 9830}; }
  };
  const i64 room_ = 67584, key_ = 20 + 24;
  MlaRequests requests_{ {43, 2, 12, 4,
                              reinterpret_cast<P>(a3), reinterpret_cast<P>(a4), reinterpret_cast<P>(a5)},
                             {16, 0, 1469, 55000000, room_ / (key_ * 4)}, false};
  const MlaSizes sizes_{4, 20, 8, 36, 24, 0.2f};
  const MlaOperands operands_{a0, a1, a2, a6, a7, a8, a9, 80, 20, 32, 8, 44, 96, 24};
  Mla<float, 80, 32, 32, Cuts>(pipe, team, requests_, sizes_, operands_, a10,
      a10 + 29196288, room_, false)
      .run(AttnTile{256, 256, 64, 1, 0, 0, 0, 12416, 22272, 22400, 8320, 2, 2, 2, 40, 4096, 65536, 65536, 10240, 162, 162, 27}, AttnTile{256, 256, 64, 1, 0, 0, 0, 8320, 24320, 24448, 8320, 2, 2, 2, 24, 4096, 65536, 65536, 6144, 108, 108, 20});
}
}  // namespace xc

