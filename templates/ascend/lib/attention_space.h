// Attention, the workspace: what cube and vector cores hand each other, and partial results.
#pragma once
#include "attention_deal.h"

namespace xc {

enum : uint16_t { ATTN_SCORES, ATTN_PROBS, ATTN_OUTS, ATTN_ENDS };

/// Rooms of one cube core and its two vector cores in the workspace: two blocks are in flight.
/// Block i uses the rooms i % 2 of scores and probabilities. The sums of products of part i of a
/// core's share are in room i % 2, those of tasks that are cut in the rooms of partial results.
template <class T>
class AttnSpace {
 public:
  GlobalTensor<float> scores[2];
  GlobalTensor<T> probs[2];

  __aicore__ inline AttnSpace(GM_ADDR workspace, const AttnTile& t, i64 core)
      : base_(workspace),
        core_(core),
        rooms_(2 * (bytes(t.scores, 4) + bytes(t.outs, 4) + bytes(t.probs, sizeof(T)))),
        partial_(bytes(t.outs, 4) + 2 * bytes(t.rows, 4)),
        rows_(bytes(t.outs, 4) / 4),
        step_(bytes(t.rows, 4) / 4) {
    GM_ADDR at = room(core);
    for (int32_t i = 0; i < 2; ++i) {
      scores[i] = global<float>(at);
      at += bytes(t.scores, 4);
      outs_[i] = global<float>(at);
      at += bytes(t.outs, 4);
      probs[i] = global<T>(at);
      at += bytes(t.probs, sizeof(T));
    }
  }
  /// Sums of products of the part of a task that `w` is at, rows of dv.
  template <class Walk>
  __aicore__ inline GlobalTensor<float> sumOf(const Walk& w) const {
    return w.task.complete() ? outs_[w.part & 1] : partial(core_, w.task.begin > 0 ? 0 : 1);
  }
  /// Sums of products of a core's first (0) or last task; then maxima and sums of its rows.
  __aicore__ inline GlobalTensor<float> partial(i64 core, i64 slot) const {
    return global<float>(room(core) + rooms_ + slot * partial_);
  }
  __aicore__ inline i64 maxima() const { return rows_; }
  __aicore__ inline i64 sums() const { return rows_ + step_; }
  __aicore__ inline i64 corePitch() const { return rooms_ + 2 * partial_; }  // bytes

 private:
  __aicore__ inline static i64 bytes(i64 n, i64 size) { return alignUp(n * size, 512); }
  __aicore__ inline GM_ADDR room(i64 core) const { return base_ + core * corePitch(); }
  GM_ADDR base_;
  GlobalTensor<float> outs_[2];
  i64 core_;
  i64 rooms_, partial_, rows_, step_;
};
}  // namespace xc
