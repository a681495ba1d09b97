// Attention, results: rows of a task to their places in the output.
#pragma once
#include "attention_deal.h"
#include "attention_source.h"

namespace xc {

/// Rows of results to their places in o.
template <class T, class Source>
class AttnStore {
 public:
  __aicore__ inline AttnStore(const AttnDeal<Source>& deal, GM_ADDR o, i64 row, i64 head)
      : source_(deal.source), sizes_(deal.sizes), o_(global<T>(o)), row_(row), head_(head) {}

  /// Task's rows [row, row + n) from a tile whose rows are `pitch` elements apart.
  __aicore__ inline void put(const LocalTensor<T>& tile, const AttnTask& t, int32_t row, int32_t n,
                             int32_t pitch) const {
    const int32_t group = sizes_.group;
    for (int32_t at = 0; at < n;) {
      const int32_t h = (row + at) / t.m, in = (row + at) % t.m;
      const i64 query = (t.first + in) / group;
      const int32_t g = static_cast<int32_t>((t.first + in) % group);
      int32_t left = n - at < t.m - in ? n - at : t.m - in;
      const i64 to = source_.o(t.request, query, static_cast<i64>(t.head + h) * group + g);
      if (group == 1) {
        rows(to, tile[at * pitch], left, row_, pitch);
      } else if (g == 0 && left >= group) {
        left = left / group * group;
        spread(to, tile[at * pitch], left / group, pitch);
      } else {
        left = left < group - g ? left : group - g;
        rows(to, tile[at * pitch], left, head_, pitch);
      }
      at += left;
    }
  }

 private:
  /// All heads of the group, of several queries.
  __aicore__ inline void spread(i64 to, const LocalTensor<T>& tile, int32_t queries,
                                int32_t pitch) const {
    const int32_t group = sizes_.group;
    if (head_ == sizes_.dv && pitch == sizes_.dv) {
      const i64 width = static_cast<i64>(group) * pitch;
      copy(to, tile, queries, width, 0, row_ - width);
    } else if (queries < group) {
      for (int32_t i = 0; i < queries; ++i)
        rows(to + i * row_, tile[i * group * pitch], group, head_, pitch);
    } else {
      for (int32_t g = 0; g < group; ++g)
        rows(to + g * head_, tile[g * pitch], queries, row_, pitch * group);
    }
  }
  __aicore__ inline void rows(i64 to, const LocalTensor<T>& tile, int32_t n, i64 step,
                              int32_t pitch) const {
    copy(to, tile, n, sizes_.dv, pitch - alignUp(sizes_.dv, 32 / sizeof(T)), step - sizes_.dv);
  }
  __aicore__ inline void copy(i64 to, const LocalTensor<T>& tile, int32_t n, i64 width, i64 fromGap,
                              i64 toGap) const {
    constexpr i64 size = sizeof(T);
    DataCopyPad(o_[to], tile,
                {static_cast<uint16_t>(n), static_cast<uint32_t>(width * size),
                 static_cast<uint32_t>(fromGap * size / 32),
                 static_cast<uint32_t>(n > 1 ? toGap * size : 0), 0});
  }

  const Source& source_;
  const AttnSizes& sizes_;
  GlobalTensor<T> o_;
  i64 row_, head_;
};
}  // namespace xc
