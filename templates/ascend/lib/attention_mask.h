// Attention, masks that are operands: booleans, or what is added to scaled scores.
#pragma once
#include "attention_deal.h"

namespace xc {

/// mask [B, H, Sq, Sk] with strides in elements, 0 where it is broadcast; that of keys is 0 or 1.
struct AttnMaskShape {
  GM_ADDR data;
  i64 batch, head, row, key;
};

/// Scores are not masked but by position.
struct AttnNoMask {
  __aicore__ inline AttnNoMask(const AttnMaskShape&) {}
  __aicore__ inline void init(TPipe&, const AttnTile&, const AttnSizes&) {}
  template <class Walk>
  __aicore__ inline void apply(const LocalTensor<float>&, const Walk&, int32_t, int32_t, int32_t,
                               int32_t) {}
};

/// M: uint8_t (1: the key is seen), or float, half, bfloat16_t (added).
template <class M>
class AttnMask {
 public:
  __aicore__ inline AttnMask(const AttnMaskShape& shape)
      : shape_(shape), data_(global<M>(shape.data)) {}

  __aicore__ inline void init(TPipe& pipe, const AttnTile& tile, const AttnSizes& sizes) {
    group_ = sizes.group;
    pipe.InitBuffer(in_, 1, tile.chunk * sizeof(M));
    pipe.InitBuffer(wide_, (MOST + 64) * 4);
    pipe.InitBuffer(half_, MOST * 2);
  }

  /// Rows [row, row + n) of the task's scores, `cols` columns from w.key on, blocks of 8 columns
  /// `pitch` to a row.
  template <class Walk>
  __aicore__ inline void apply(const LocalTensor<float>& s, const Walk& w, int32_t row, int32_t n,
                               int32_t cols, int32_t pitch) {
    const AttnTask& t = w.task;
    const bool one = shape_.key == 0;
    const int32_t step = one ? BLOCK : pitch * 8;
    const DataCopyPadExtParams<M> pad(one, 0, one ? BLOCK - 1 : 0, 0);
    LocalTensor<M> m = in_.template AllocTensor<M>();
    for (int32_t i = 0; i < n; ++i) {
      const i64 f = t.first + (row + i) % t.m, head = t.head + (row + i) / t.m;
      const i64 from = t.request * shape_.batch + (head * group_ + f % group_) * shape_.head +
                       f / group_ * shape_.row + w.key * shape_.key;
      DataCopyPad(
          m[i * step], data_[from],
          DataCopyExtParams(1, static_cast<uint32_t>((one ? 1 : cols) * sizeof(M)), 0, 0, 0), pad);
    }
    in_.EnQue(m);
    m = in_.template DeQue<M>();
    for (int32_t i = 0; i < n; ++i) line(s[i * pitch * 8], m[i * step], one ? 8 : cols, cols);
    in_.FreeTensor(m);
  }

 private:
  static constexpr int32_t BLOCK = 32 / sizeof(M), MOST = 512;  // columns of a block of keys

  __aicore__ inline void line(const LocalTensor<float>& s, const LocalTensor<M>& m, int32_t few,
                              int32_t cols) {
    LocalTensor<float> x = wide_.template Get<float>();
    if constexpr (sizeof(M) == 1) {
      const LocalTensor<half> h = half_.template Get<half>();
      Cast(h, m, RoundMode::CAST_NONE, static_cast<uint32_t>(few));
      Cast(x, h, RoundMode::CAST_NONE, static_cast<uint32_t>(few));
      Adds(x, x, -0.5f, few);
      Muls(x, x, __builtin_inff(), few);
    } else if constexpr (sizeof(M) == 2) {
      Cast(x, m, RoundMode::CAST_NONE, static_cast<uint32_t>(few));
    } else {
      x = m;
    }
    if (shape_.key == 0) {
      const LocalTensor<float> one = wide_.template Get<float>()[MOST];
      Brcb(one, x, 1, {1, 8});
      for (int32_t c = 0; c < cols; c += 64) {
        const uint64_t mask = static_cast<uint64_t>(cols - c < 64 ? cols - c : 64);
        combine(s[c], one, mask);
      }
    } else if constexpr (sizeof(M) == 1) {
      Min(s, s, x, cols);
    } else {
      Add(s, s, x, cols);
    }
  }
  __aicore__ inline void combine(const LocalTensor<float>& s, const LocalTensor<float>& one,
                                 uint64_t mask) {
    if constexpr (sizeof(M) == 1)
      Min(s, s, one, mask, 1, {1, 1, 0, 8, 8, 0});
    else
      Add(s, s, one, mask, 1, {1, 1, 0, 8, 8, 0});
  }

  AttnMaskShape shape_;
  GlobalTensor<M> data_;
  TQue<TPosition::VECIN, 1> in_;
  TBuf<TPosition::VECCALC> wide_, half_;
  int32_t group_;
};
}  // namespace xc
