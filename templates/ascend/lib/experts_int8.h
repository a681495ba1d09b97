// Routed experts with int8 weights (W8A8): rows are quantised as they come, sums are int32.
#pragma once
#include "experts_combine.h"
#include "experts_cube.h"
#include "experts_vector.h"

namespace xc {

/// MoeSpace, and the rows of both products as int8 with their scales.
struct MoeSpace8 : MoeSpace {
  GM_ADDR x;            // int8 [tokens, xPitch]
  GM_ADDR xScales;      // float [tokens, 8]
  GM_ADDR rows8;        // int8 [rows, rowPitch]
  GM_ADDR rows8Scales;  // float [rows, 8]
  i64 xPitch, rowPitch;
  __aicore__ inline MoeSpace8(GM_ADDR base, const MoeSizes& s, i64 ringBytes, i64 size)
      : MoeSpace(base, s, ringBytes, size, 4) {
    xPitch = alignUp(s.hidden, 32);
    rowPitch = alignUp(s.inner, 32);
    x = end;
    xScales = after(x, s.tokens * xPitch);
    rows8 = after(xScales, s.tokens * 32);
    rows8Scales = after(rows8, s.entries() * rowPitch);
  }
};

/// As moeExperts (experts.h), of weights in int8 with a scale a channel; q(r), s(r) of a row as in
/// MoeQuantise: h = unit(s(x) scale_e (up_e q(x)) + bias) in float, rounded to T; y[t] = sum over
/// slots of weight * (s(h) scale_e (down_e q(h)) + bias). Sums are exact. A mix phase; its cores
/// meet five times.
///
/// T: of x and y. gateUp, down: int8 packed in panels; their scales, and biases if the tiles are
/// BIASED, float packed alike. Workspace: see moe_experts_int8.py.
template <class Tile1, class Tile2, class T, class W, MoeAct ACT>
__aicore__ inline void moeExpertsInt8(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR x,
                                      GM_ADDR expert, GM_ADDR weight, GM_ADDR gateUp,
                                      GM_ADDR upScale, GM_ADDR down, GM_ADDR downScale, GM_ADDR y,
                                      GM_ADDR workspace, const MoeLimits& limits = {},
                                      GM_ADDR upBias = nullptr, GM_ADDR downBias = nullptr) {
  constexpr i64 RING = MOE_RING * Tile1::SUMS * 4;
  const MoeSpace8 space(workspace, s, RING, sizeof(T));
  Team cubes = team;
  i64 rows = 0;
  if ASCEND_IS_AIV {
    cubes = {team.index / 2, team.count / 2};
    MoeSort sort;
    sort.run(pipe, team, s, space, expert);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
    // From the other end, where the sort leaves cores without work.
    MoeQuantise<T> tokens;
    tokens.run(pipe, {team.count - 1 - team.index, team.count}, x, s.ldx, s.tokens, s.hidden,
               space.x, space.xPitch, space.xScales);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
  }
  SyncAll<false>();
  if ASCEND_IS_AIV {
    rows = moeDeal<Tile1, Tile2>(pipe, team, s, space);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
  }
  SyncAll<false>();
  refreshScalar(global<int32_t>(space.table));
  MoeWalk<Tile1> walk;
  walk.init(space, cubes, 0, s.inner, s.hidden);
  if ASCEND_IS_AIC {
    MoeGather<int8_t> source(space.x, space.xPitch, space);
    MoeRing<Tile1> sink(space, RING, cubes.index);
    MoeCube<Tile1, MoeGather<int8_t>, MoeRing<Tile1>>(pipe, gateUp, nullptr, s.inner, s.hidden,
                                                      source, sink)
        .run(walk);
  }
  if ASCEND_IS_AIV {
    moePlaces(pipe, team, space, rows);  // while the first tiles are on their way
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
    MoeActivation<Tile1, ACT, T> activation;
    activation.run(pipe, walk, space, RING, cubes.index, s.inner, limits,
                   {space.xScales, upScale, upBias});
  }
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
  SyncAll<false>();
  if ASCEND_IS_AIV {
    MoeQuantise<T> inner;
    inner.run(pipe, team, space.inner, space.innerPitch, rows, s.inner, space.rows8, space.rowPitch,
              space.rows8Scales);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
  }
  SyncAll<false>();
  if ASCEND_IS_AIC {
    MoeWalk<Tile2> again;
    again.init(space, cubes, 1, s.hidden, s.inner);
    MoeRows<int8_t> source(space.rows8, space.rowPitch);
    MoeSorted<Tile2> sink(space);
    MoeCube<Tile2, MoeRows<int8_t>, MoeSorted<Tile2>>(pipe, down, nullptr, s.hidden, s.inner,
                                                      source, sink)
        .run(again);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
  }
  SyncAll<false>();
  if ASCEND_IS_AIV {
    MoeCombine<T, W, Tile2> combine;
    combine.run(pipe, team, s, space, expert, weight, y, rows == s.entries(),
                {space.rows8Scales, downScale, downBias});
  }
}
}  // namespace xc
