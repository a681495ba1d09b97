// Attention over a paged cache by lists of work: any plan of xcompile/runtime/attention_plan.py.
// The product deals in the kernel (attention_deal.h); this is what other schemes are measured with.
#pragma once
#include "attention.h"

namespace xc {

/// lists: int64 [cores + 1] first entries, then entries of ENTRY words: request, head block,
/// first and last key, first core that works on the same rows, number of such cores. Cores that
/// share rows follow each other; of a core's entries one at most begins, and one at most ends,
/// within a task.
struct AttnListSource : PagedSource {
  static constexpr i64 ENTRY = 6;
  const __gm__ i64* lists;
};

/// As AttnWalk.
class AttnListWalk : public AttnSteps {
 public:
  __aicore__ inline void init(const AttnDeal<AttnListSource>& deal, i64 core, i64 cores) {
    deal_ = &deal;
    core_ = core;
    cores_ = cores;
    const __gm__ i64* lists = deal.source.lists;
    at_ = lists[core];
    end_ = lists[core + 1];
    most_ = 0;
    for (i64 i = 0; i < lists[cores]; ++i) most_ = most(most_, entry(i)[5]);
    load();
  }
  __aicore__ inline void next() {
    if (advance()) return;
    ++at_;
    load();
  }
  __aicore__ inline bool shared() const { return cores_ > 1; }
  __aicore__ inline bool paired() const { return most_ <= 2; }
  __aicore__ inline bool continues() const {
    for (i64 i = at_; i < end_; ++i)
      if (entry(i)[2] > 0) return true;
    return false;
  }
  /// The cores [first, last] that work on rows of the task, which `core` has cut.
  __aicore__ inline void span(const AttnTask& t, i64 core, i64& first, i64& last) const {
    const __gm__ i64* lists = deal_->source.lists;
    const i64 parts = deal_->parts(t),
              block = t.head / t.heads * parts + t.first / deal_->mostRows(t);
    for (i64 i = lists[core]; i < lists[core + 1]; ++i)
      if (entry(i)[0] == t.request && entry(i)[1] == block) {
        first = entry(i)[4];
        last = first + entry(i)[5] - 1;
      }
  }

 private:
  __aicore__ inline const __gm__ i64* entry(i64 i) const {
    return deal_->source.lists + cores_ + 1 + i * AttnListSource::ENTRY;
  }
  __aicore__ inline void load() {
    live = at_ < end_;
    if (!live) return;
    const __gm__ i64* e = entry(at_);
    deal_->enter(task, e[0]);
    const i64 parts = deal_->parts(task);
    deal_->select(task, e[1] / parts, e[1] % parts);
    task.begin = e[2];
    task.end = least(e[3], task.own());
    AttnSteps::enter(core_);
  }

  const AttnDeal<AttnListSource>* deal_;
  i64 core_, cores_, at_, end_, most_;
};

/// As pagedAttention; every row of q belongs to a request.
template <class T>
__aicore__ inline void listedAttention(TPipe& pipe, Team team, const AttnListSource& source,
                                       const AttnSizes& sizes, const AttnTile& tile, GM_ADDR q,
                                       GM_ADDR k, GM_ADDR v, GM_ADDR o, GM_ADDR workspace) {
  attend<T, AttnListSource, AttnNoMask, AttnListWalk>(pipe, team, source, sizes, tile, q, k, v, o,
                                                      source.oRow, source.oHead, workspace,
                                                      AttnMaskShape{});
}
}  // namespace xc
