#include "kernel_operator.h"

#include "../phases/linear_1abb1c2a.h"
#include "../phases/index_copy_eb829f23.h"
#include "../phases/chain_df3b43bc.h"
#include "../phases/cumsum_b4f68d14.h"

extern "C" __global__ __mix__(1, 2) void linear_index_copy_chain_cumsum_9f064f50(GM_ADDR sizes, GM_ADDR p0, GM_ADDR p1, GM_ADDR p2, GM_ADDR p3, GM_ADDR p4, GM_ADDR p5, GM_ADDR p6) {
  using namespace xc;
  const __gm__ i64* s = reinterpret_cast<const __gm__ i64*>(sizes);
  Team team{static_cast<int32_t>(GetBlockIdx()), static_cast<int32_t>(GetBlockNum())};
  if ASCEND_IS_AIV {
    team.count *= 2;
  }
  TPipe pipe;
  if ASCEND_IS_AIC {
    linear_1abb1c2a(pipe, team, s, p0, p1, p2);
  }
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
  SyncAll<false>();
  if ASCEND_IS_AIV {
    index_copy_eb829f23(pipe, team, s, p3, p4, p2);
  }
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
  if ASCEND_IS_AIV {
    chain_df3b43bc(pipe, team, s, p2, p5);
  }
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
  SyncAll<false>();
  if ASCEND_IS_AIV {
    cumsum_b4f68d14(pipe, team, s, p5, p6);
  }
  PipeBarrier<PIPE_ALL>();
}

/// Launches linear_index_copy_chain_cumsum_9f064f50 on a stream; `p` are its 7 pointers.
extern "C" void launch_linear_index_copy_chain_cumsum_9f064f50(uint32_t blocks, void* stream, void* sizes, void* const* p) {
  linear_index_copy_chain_cumsum_9f064f50<<<blocks, nullptr, stream>>>(reinterpret_cast<GM_ADDR>(sizes), reinterpret_cast<GM_ADDR>(p[0]), reinterpret_cast<GM_ADDR>(p[1]), reinterpret_cast<GM_ADDR>(p[2]), reinterpret_cast<GM_ADDR>(p[3]), reinterpret_cast<GM_ADDR>(p[4]), reinterpret_cast<GM_ADDR>(p[5]), reinterpret_cast<GM_ADDR>(p[6]));
}
