// Routed experts: each token's rows through the MLPs of its experts, and their weighted sum.
#pragma once
#include "experts_combine.h"
#include "experts_cube.h"
#include "experts_vector.h"

namespace xc {

/// What one of the two products multiplies. Scales: of int8 only, see MoeScales.
struct MoeOperands {
  GM_ADDR rows;  // as the cube cores read them
  i64 pitch;     // elements between rows
  GM_ADDR rowScales;
  GM_ADDR weights;  // packed in panels
  GM_ADDR channelScales;
  GM_ADDR bias;  // float, packed alike; any, if the tile has none
};

/// The order of phases, see moeExperts and moeExpertsInt8 (experts_int8.h). x, y: T. one.rows are
/// x, two.rows space.inner; of int8, they are what these are quantised to.
///
/// Rows of the first product are fetched by token index; no copy of the tokens is made.
/// Which core does what depends on the routing through memory only.
template <class Tile1, class Tile2, class T, class W, MoeAct ACT>
__aicore__ inline void moePhases(TPipe& pipe, Team team, const MoeSizes& s, const MoeSpace& space,
                                 i64 ringBytes, GM_ADDR x, GM_ADDR expert, GM_ADDR weight,
                                 const MoeOperands& one, const MoeOperands& two, GM_ADDR y,
                                 const MoeLimits& limits) {
  using Row = typename Tile1::Type;
  Team cubes = team;
  i64 rows = 0;
  if ASCEND_IS_AIV {
    cubes = {team.index / 2, team.count / 2};
    MoeSort sort;
    sort.run(pipe, team, s, space, expert);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
    if constexpr (Tile1::INT8) {
      // From the other end, where the sort leaves cores without work.
      MoeQuantise<T> tokens;
      tokens.run(pipe, {team.count - 1 - team.index, team.count}, x, s.ldx, s.tokens, s.hidden,
                 one.rows, one.pitch, one.rowScales);
      PipeBarrier<PIPE_ALL>();
      pipe.Reset();
    }
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
    MoeGather<Row> source(one.rows, one.pitch, space);
    MoeRing<Tile1> sink(space, ringBytes, cubes.index);
    MoeCube<Tile1, MoeGather<Row>, MoeRing<Tile1>>(pipe, one.weights, one.bias, s.inner, s.hidden,
                                                   source, sink)
        .run(walk);
  }
  if ASCEND_IS_AIV {
    moePlaces(pipe, team, space, rows);  // while the first tiles are on their way
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
    MoeActivation<Tile1, ACT, T> activation;
    activation.run(pipe, walk, space, ringBytes, cubes.index, s.inner, limits,
                   {one.rowScales, one.channelScales, one.bias});
  }
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
  SyncAll<false>();
  if constexpr (Tile1::INT8) {
    if ASCEND_IS_AIV {
      MoeQuantise<T> inner;
      inner.run(pipe, team, space.inner, space.innerPitch, rows, s.inner, two.rows, two.pitch,
                two.rowScales);
      PipeBarrier<PIPE_ALL>();
      pipe.Reset();
    }
    SyncAll<false>();
  }
  if ASCEND_IS_AIC {
    MoeWalk<Tile2> again;
    again.init(space, cubes, 1, s.hidden, s.inner);
    MoeRows<Row> source(two.rows, two.pitch);
    MoeSorted<Tile2> sink(space);
    MoeCube<Tile2, MoeRows<Row>, MoeSorted<Tile2>>(pipe, two.weights, two.bias, s.hidden, s.inner,
                                                   source, sink)
        .run(again);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
  }
  SyncAll<false>();
  if ASCEND_IS_AIV {
    MoeCombine<T, W, Tile2> combine;
    combine.run(pipe, team, s, space, expert, weight, y, rows == s.entries(),
                {two.rowScales, two.channelScales, two.bias});
  }
}

/// y[t] = sum over slots of weight[t, slot] * down_e h, e = expert[t, slot], where h is act(gate_e
/// x[t]) * up_e x[t], or act(up_e x[t]) if Tile1 has no gate; products have biases if their tiles
/// say so. Ids out of range are skipped. A mix phase; its cores meet four times.
///
/// x T[tokens, hidden] (rows ldx apart), expert int64 [tokens, topk], weight W[tokens, topk],
/// gateUp and down packed in panels (biases float, alike), y T[tokens, hidden]. Tile1 and Tile2 cut
/// the two products. Workspace: see moe_experts.py. limits: of the units that clamp.
template <class Tile1, class Tile2, class W, MoeAct ACT>
__aicore__ inline void moeExperts(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR x,
                                  GM_ADDR expert, GM_ADDR weight, GM_ADDR gateUp, GM_ADDR down,
                                  GM_ADDR y, GM_ADDR workspace, const MoeLimits& limits = {},
                                  GM_ADDR upBias = nullptr, GM_ADDR downBias = nullptr) {
  using T = typename Tile1::Type;
  constexpr i64 RING = MOE_RING * Tile1::SUMS * static_cast<i64>(sizeof(T));
  const MoeSpace space(workspace, s, RING, sizeof(T), sizeof(T));
  const MoeOperands one{x, s.ldx, nullptr, gateUp, nullptr, upBias};
  const MoeOperands two{space.inner, space.innerPitch, nullptr, down, nullptr, downBias};
  moePhases<Tile1, Tile2, T, W, ACT>(pipe, team, s, space, RING, x, expert, weight, one, two, y,
                                     limits);
}
}  // namespace xc
