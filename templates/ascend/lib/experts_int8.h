// Routed experts with int8 weights (W8A8): rows are quantised as they come, sums are int32.
#pragma once
#include "experts.h"

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
  const MoeOperands one{space.x, space.xPitch, space.xScales, gateUp, upScale, upBias};
  const MoeOperands two{space.rows8, space.rowPitch, space.rows8Scales, down, downScale, downBias};
  moePhases<Tile1, Tile2, T, W, ACT>(pipe, team, s, space, RING, x, expert, weight, one, two, y,
                                     limits);
}
}  // namespace xc
