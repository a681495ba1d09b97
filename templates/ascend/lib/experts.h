// Routed experts: each token's rows through the MLPs of its experts, and their weighted sum.
#pragma once
#include "experts_combine.h"
#include "experts_cube.h"
#include "experts_vector.h"

namespace xc {

/// y[t] = sum over slots of weight[t, slot] * down_e h, e = expert[t, slot], where h is act(gate_e
/// x[t]) * up_e x[t], or act(up_e x[t]) if Tile1 has no gate; products have biases if their tiles
/// say so. Ids out of range are skipped. A mix phase; its cores meet four times.
///
/// x T[tokens, hidden] (rows ldx apart), expert int64 [tokens, topk], weight W[tokens, topk],
/// gateUp and down packed in panels (biases float, alike), y T[tokens, hidden]. Tile1 and Tile2 cut
/// the two products. Workspace: see moe_experts.py. limits: of the units that clamp.
///
/// Rows of the first product are fetched from x by token index; no copy of the tokens is made.
/// Which core does what depends on the routing through memory only.
template <class Tile1, class Tile2, class W, MoeAct ACT>
__aicore__ inline void moeExperts(TPipe& pipe, Team team, const MoeSizes& s, GM_ADDR x,
                                  GM_ADDR expert, GM_ADDR weight, GM_ADDR gateUp, GM_ADDR down,
                                  GM_ADDR y, GM_ADDR workspace, const MoeLimits& limits = {},
                                  GM_ADDR upBias = nullptr, GM_ADDR downBias = nullptr) {
  using T = typename Tile1::Type;
  constexpr i64 RING = MOE_RING * Tile1::SUMS * static_cast<i64>(sizeof(T));
  const MoeSpace space(workspace, s, RING, sizeof(T), sizeof(T));
  Team cubes = team;
  i64 rows = 0;
  if ASCEND_IS_AIV {
    cubes = {team.index / 2, team.count / 2};
    MoeSort sort;
    sort.run(pipe, team, s, space, expert);
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
    MoeGather<T> source(x, s.ldx, space);
    MoeRing<Tile1> sink(space, RING, cubes.index);
    MoeCube<Tile1, MoeGather<T>, MoeRing<Tile1>>(pipe, gateUp, upBias, s.inner, s.hidden, source,
                                                 sink)
        .run(walk);
  }
  if ASCEND_IS_AIV {
    moePlaces(pipe, team, space, rows);  // while the first tiles are on their way
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
    MoeActivation<Tile1, ACT> activation;
    activation.run(pipe, walk, space, RING, cubes.index, s.inner, limits);
  }
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
  SyncAll<false>();
  if ASCEND_IS_AIC {
    MoeWalk<Tile2> again;
    again.init(space, cubes, 1, s.hidden, s.inner);
    MoeRows<T> source(space.inner, space.innerPitch);
    MoeSorted<Tile2> sink(space);
    MoeCube<Tile2, MoeRows<T>, MoeSorted<Tile2>>(pipe, down, downBias, s.hidden, s.inner, source,
                                                 sink)
        .run(again);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
  }
  SyncAll<false>();
  if ASCEND_IS_AIV {
    MoeCombine<T, W, Tile2> combine;
    combine.run(pipe, team, s, space, expert, weight, y, rows == s.entries());
  }
}
}  // namespace xc
