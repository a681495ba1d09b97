// Scaled dot-product attention with a float online softmax, over a paged cache or dense operands.
#pragma once
#include "attention_cube.h"
#include "attention_mask.h"
#include "attention_merge.h"

namespace xc {

/// A mix phase. Each cube core and its two vector cores take a contiguous share of the tasks; the
/// cube core multiplies, the vector cores do the softmax and sum up, two blocks of keys in flight.
/// If no task has more than two parts, the core with the first adds the other, which was done
/// before. Otherwise the cores that share a task merge their parts together in the end.
///
/// T: half, bfloat16_t or float. Sums are float; P is rounded to T.
template <class T, class Source, class Mask, class Walk = AttnWalk<Source>>
__aicore__ inline void attend(TPipe& pipe, Team team, const Source& source, const AttnSizes& sizes,
                              const AttnTile& tile, GM_ADDR q, GM_ADDR k, GM_ADDR v, GM_ADDR o,
                              i64 oRow, i64 oHead, GM_ADDR workspace, const AttnMaskShape& shape) {
  i64 cores = team.count, core = team.index;
  if ASCEND_IS_AIV {
    cores /= 2;
    core /= 2;
  }
  const AttnDeal<Source> deal(source, tile, sizes, cores);
  const AttnSpace<T> space(workspace, tile, core);
  Walk walk;
  walk.init(deal, core, cores);
  if ASCEND_IS_AIC {
    AttnCube<T, Source, Walk> cube(pipe, deal, space, q, k, v);
    if (walk.live) cube.run(walk);
    PipeBarrier<PIPE_ALL>();
  }
  if ASCEND_IS_AIV {
    const AttnStore<T, Source> store(deal, o, oRow, oHead);
    Mask mask(shape);
    AttnVector<T, Source, Mask, Walk> vector(pipe, deal, space, store, mask);
    if (walk.live) mask.init(pipe, tile, sizes);
    vector.run(walk, core);
    PipeBarrier<PIPE_ALL>();
    if (vector.merges) {
      pipe.Reset();
      SyncAll();
      if (vector.cut[0] || vector.cut[1]) {
        AttnMerge<T, Source> merge(pipe, deal, space, store);
        for (int32_t i = 0; i < 2; ++i) {
          if (!vector.cut[i]) continue;
          i64 first = core, last = core;
          walk.span(vector.parts[i], core, first, last);
          merge.run(vector.parts[i], core, first, last);
        }
      }
    }
  }
}

/// Zeros to rows [begin, end) of o, n elements each.
template <class T>
__aicore__ inline void clearRows(TPipe& pipe, Team team, GM_ADDR o, i64 begin, i64 end, i64 n) {
  constexpr i64 MOST = 8192;
  if (begin >= end) return;
  TBuf<TPosition::VECCALC> zeros;
  pipe.InitBuffer(zeros, MOST * sizeof(T));
  const LocalTensor<T> zero = zeros.Get<T>();
  Duplicate(zero, static_cast<T>(0.0f), MOST);
  order<HardEvent::V_MTE3>(pipe);
  const Range mine = split((end - begin) * n, team, MOST);
  const GlobalTensor<T> to = global<T>(o)[begin * n];
  for (i64 at = mine.begin; at < mine.end; at += MOST)
    DataCopyPad(to[at], zero,
                {1, static_cast<uint32_t>(least(MOST, mine.end - at) * sizeof(T)), 0, 0, 0});
  PipeBarrier<PIPE_ALL>();
  pipe.Reset();
}

/// o[T, H, Dv] of requests over a paged cache. q [T, H, D], k [slots, Hk, D], v [slots, Hk, Dv];
/// see PagedSource. Rows of no request are zero.
template <class T>
__aicore__ inline void pagedAttention(TPipe& pipe, Team team, const PagedSource& source,
                                      const AttnSizes& sizes, const AttnTile& tile, GM_ADDR q,
                                      GM_ADDR k, GM_ADDR v, GM_ADDR o, GM_ADDR workspace) {
  // The lengths may be an earlier phase's result.
  DataCacheCleanAndInvalid<int32_t, CacheLine::ENTIRE_DATA_CACHE, DcciDst::CACHELINE_OUT>(
      global<int32_t>(workspace));
  if ASCEND_IS_AIV {
    clearRows<T>(pipe, team, o, most(least(source.cu[source.count], source.tokens), 0),
                 source.tokens, static_cast<i64>(sizes.kvHeads) * sizes.group * sizes.dv);
  }
  attend<T, PagedSource, AttnNoMask>(pipe, team, source, sizes, tile, q, k, v, o, source.oRow,
                                     source.oHead, workspace, AttnMaskShape{});
}

/// o[B, H, Sq, Dv] of dense operands; see DenseSource. Mask: AttnNoMask, or AttnMask of its type.
/// Rows that see no key are zero.
template <class T, class Mask>
__aicore__ inline void denseAttention(TPipe& pipe, Team team, const DenseSource& source,
                                      const AttnSizes& sizes, const AttnTile& tile, GM_ADDR q,
                                      GM_ADDR k, GM_ADDR v, GM_ADDR o, GM_ADDR workspace,
                                      const AttnMaskShape& mask) {
  attend<T, DenseSource, Mask>(pipe, team, source, sizes, tile, q, k, v, o, source.oRow,
                               source.oHead, workspace, mask);
}
}  // namespace xc
