// Multi-head latent attention over a paged cache, each request absorbed or expanded by cost.
#pragma once
#include "attention.h"
#include "mla_products.h"
#include "mla_requests.h"

namespace xc {

/// A cache row holds a latent c of `rank` values and a rotated key r of `rope`. Head h of a token
/// has keys [U_h c, r] and values V_h c, and its query is [q_nope, q_rot].
struct MlaSizes {
  int32_t heads, nope, rope, rank, v;
  float scale;
};

/// q_nope [tokens, heads, nope], q_rot [tokens, heads, rope], cache [slots, rank + rope], o
/// [tokens, heads, v]; strides of all dims but the last, which is contiguous. Packed in panels, by
/// head: absorb U^T [rank, nope], up U [nope, rank], value V [v, rank].
struct MlaOperands {
  GM_ADDR nope;
  GM_ADDR rot;
  GM_ADDR cache;
  GM_ADDR absorb;
  GM_ADDR up;
  GM_ADDR value;
  GM_ADDR o;
  i64 nopeRow, nopeHead, rotRow, rotHead, slot, oRow, oHead;
};

/// Absorbed: U^T goes to the queries and V to the results, and all heads attend to the latents.
/// Expanded: keys U c and values V c of some heads are made in the workspace, and these heads
/// attend to them. Steps of either kind follow each other, all cores meet in between; of a kind
/// that no request takes there is none.
///
/// Cuts: Tilings of the four products by rows, query(m), result(m), keys(m), values(m). PQ, PK, PV:
/// rows of a panel of absorb, up, value.
template <class T, int32_t PQ, int32_t PK, int32_t PV, class Cuts>
class Mla {
 public:
  static constexpr i64 K0 = 32 / sizeof(T);

  /// attention: workspace of AttnSpace; room: of `bytes` bytes for what one step hands the next.
  /// stream: L2 holds less than all weights of a step.
  __aicore__ inline Mla(TPipe& pipe, Team team, MlaRequests& requests, const MlaSizes& sizes,
                        const MlaOperands& operands, GM_ADDR attention, GM_ADDR room, i64 bytes,
                        bool stream)
      : pipe_(pipe),
        team_(team),
        all_(requests),
        s_(sizes),
        x_(operands),
        attention_(attention),
        room_(room),
        elements_(bytes / static_cast<i64>(sizeof(T))),
        stream_(stream) {}

  __aicore__ inline void run(const AttnTile& absorbed, const AttnTile& expanded) {
    // The lengths may be an earlier phase's result.
    DataCacheCleanAndInvalid<int32_t, CacheLine::ENTIRE_DATA_CACHE, DcciDst::CACHELINE_OUT>(
        global<int32_t>(attention_));
    all_.decide();
    if ASCEND_IS_AIV {
      clearRows<T>(pipe_, team_, x_.o,
                   all_.count > 0 ? most(least(all_.cu[all_.count], all_.tokens), 0) : 0,
                   all_.tokens, x_.oRow);
    }
    MlaTokens tokens(all_);
    tokens.enter(all_.count);
    const i64 count = tokens.before();
    const i64 each = elements_ / (2 * static_cast<i64>(s_.heads) * s_.rank);
    for (i64 at = 0; at < count; at += each) absorb(tokens, at, least(at + each, count), absorbed);
    const i64 key = s_.nope + s_.v;  // elements of one head
    MlaBatch batch;
    for (i64 r = 0; batch.take(all_, r, elements_ / (key * s_.heads));) {
      const i64 rounds = ceilDiv(s_.heads, least(s_.heads, elements_ / (key * batch.keys)));
      const i64 some = ceilDiv(s_.heads, rounds);
      for (i64 h = 0; h < s_.heads; h += some)
        expand(batch, h, least(some, s_.heads - h), expanded);
    }
  }

 private:
  __aicore__ inline void meet() {
    PipeBarrier<PIPE_ALL>();
    pipe_.Reset();
    SyncAll<false>();
  }
  /// Before a step's products: those before must be done with the workspace.
  __aicore__ inline void begin() {
    if (begun_) meet();
    begun_ = true;
  }
  __aicore__ inline AttnSizes sizesOf(i64 kvHeads, int32_t width, int32_t dv) const {
    return {static_cast<int32_t>(kvHeads), static_cast<int32_t>(s_.heads / kvHeads),
            static_cast<int32_t>(alignUp(width, K0)) + s_.rope, dv, s_.scale};
  }

  template <int32_t PANEL, class Source, class Sink>
  __aicore__ inline void multiply(const Deal& deal, Source& source, Sink& sink) {
    if (deal.tasks > 0) Gemm<T, PANEL, Source, Sink>(pipe_, deal, source, sink).run(team_);
    PipeBarrier<PIPE_ALL>();
    pipe_.Reset();
  }

  /// Absorbed tokens [first, end).
  __aicore__ inline void absorb(MlaTokens& tokens, i64 first, i64 end, const AttnTile& tile) {
    struct Window {
      MlaTokens& tokens;
      i64 first;
      __aicore__ inline i64 run(i64 index, i64 wanted, i64& found) {
        return tokens.run(first + index, wanted, found);
      }
    };
    Window rows{tokens, first};
    const i64 m = end - first, heads = s_.heads, row = heads * s_.rank;
    GM_ADDR q = room_;
    GM_ADDR results = room_ + m * row * static_cast<i64>(sizeof(T));
    begin();
    if ASCEND_IS_AIC {
      Deal deal;
      deal.init(Cuts{}.query(m), heads, m, ceilDiv(s_.rank, PQ), s_.nope, team_.count);
      MlaSource<T, PQ, Window> source(x_.nope, x_.absorb, s_.nope, x_.nopeRow,
                                      stream_ && deal.once(), x_.nopeHead, ceilDiv(s_.rank, PQ),
                                      rows);
      DirectSink<T, PQ> sink(q, s_.rank, row, s_.rank);
      multiply<PQ>(deal, source, sink);
    }
    meet();
    const bool aligned = s_.rank % K0 == 0;  // keys in one part
    const AttnSizes sizes = sizesOf(1, s_.rank, s_.rank);
    MlaAbsorbed source{all_,
                       tokens,
                       all_,
                       first,
                       end,
                       s_.rank,
                       aligned ? sizes.d : s_.rank,
                       s_.rope,
                       x_.rot,
                       x_.cache + s_.rank * static_cast<i64>(sizeof(T)),
                       x_.rotRow,
                       x_.rotHead,
                       x_.slot};
    source.qRow = source.oRow = row;
    source.qHead = source.oHead = s_.rank;
    source.kRow = source.vRow = x_.slot;
    source.kHead = source.vHead = 0;
    attend<T, MlaAbsorbed, AttnNoMask>(pipe_, team_, source, sizes, tile, q, x_.cache, x_.cache,
                                       results, row, s_.rank, attention_, AttnMaskShape{});
    meet();
    if ASCEND_IS_AIC {
      Deal deal;
      deal.init(Cuts{}.result(m), heads, m, ceilDiv(s_.v, PV), s_.rank, team_.count);
      LinearSource<T, PV> results_(results, x_.value, s_.rank, row, stream_ && deal.once(), s_.rank,
                                   ceilDiv(s_.v, PV));
      MlaScatter<T, PV, Window> sink(x_.o, s_.v, x_.oRow, x_.oHead, rows);
      multiply<PV>(deal, results_, sink);
    }
  }

  /// Keys or values of all of a batch's positions, of `heads` heads, [head, key, n].
  template <int32_t PANEL>
  __aicore__ inline void make(const MlaBatch& batch, GM_ADDR w, i64 head, i64 heads, i64 n,
                              GM_ADDR to, const Tiling& tiling) {
    const i64 panels = ceilDiv(n, PANEL);
    Deal deal;
    deal.init(tiling, 1, batch.keys, heads * panels, s_.rank, team_.count);
    MlaLatents rows(all_, batch);
    w += head * panels * alignUp(s_.rank, K0) * PANEL * static_cast<i64>(sizeof(T));
    MlaSource<T, PANEL, MlaLatents> source(x_.cache, w, s_.rank, x_.slot, false, 0, 0, rows);
    MlaHeads<T, PANEL> sink(to, n, batch.keys * n);
    multiply<PANEL>(deal, source, sink);
  }

  /// Heads [head, head + heads) of a batch.
  __aicore__ inline void expand(const MlaBatch& batch, i64 head, i64 heads, const AttnTile& tile) {
    constexpr i64 size = sizeof(T);
    GM_ADDR keys = room_;
    GM_ADDR values = room_ + heads * batch.keys * s_.nope * size;
    begin();
    if ASCEND_IS_AIC {
      make<PK>(batch, x_.up, head, heads, s_.nope, keys, Cuts{}.keys(batch.keys));
      make<PV>(batch, x_.value, head, heads, s_.v, values, Cuts{}.values(batch.keys));
    }
    meet();
    AttnSizes sizes = sizesOf(s_.heads, s_.nope, s_.v);
    sizes.kvHeads = static_cast<int32_t>(heads);
    const MlaExpanded source{all_,
                             batch,
                             x_.nopeRow,
                             x_.nopeHead,
                             x_.oRow,
                             x_.oHead,
                             s_.nope,
                             batch.keys * s_.nope,
                             s_.v,
                             batch.keys * s_.v,
                             s_.nope,
                             s_.nope,
                             s_.rope,
                             x_.rot + head * x_.rotHead * size,
                             x_.cache + s_.rank * size,
                             x_.rotRow,
                             x_.rotHead,
                             x_.slot};
    attend<T, MlaExpanded, AttnNoMask>(
        pipe_, team_, source, sizes, tile, x_.nope + head * x_.nopeHead * size, keys, values,
        x_.o + head * x_.oHead * size, x_.oRow, x_.oHead, attention_, AttnMaskShape{});
  }

  TPipe& pipe_;
  Team team_;
  MlaRequests& all_;
  const MlaSizes& s_;
  const MlaOperands& x_;
  GM_ADDR attention_;
  GM_ADDR room_;
  i64 elements_;
  bool stream_, begun_ = false;
};
}  // namespace xc
