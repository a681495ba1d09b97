// Rotary position embedding of strided rows.
#pragma once
#include "rows.h"

namespace xc {

/// The dims of x but the last, outermost first, and the elements from one to the next in each
/// operand; 0 where cos and sin are broadcast. `last` are strides of the last dim of x, cos, sin.
struct RopeRows {
  static constexpr i64 kRank = 4;
  i64 rank;
  i64 size[kRank], x[kRank], y[kRank], cos[kRank], sin[kRank];
  i64 last[3];

  __aicore__ inline i64 count() const {
    i64 n = 1;
    for (i64 k = 0; k < rank; ++k) n *= size[k];
    return n;
  }
  /// Fewer dims: none of size 1, and none that continues the one outside it.
  __aicore__ inline void merge() {
    i64 n = 0;
    for (i64 k = 0; k < rank; ++k) {
      if (size[k] == 1) continue;
      const i64 s = size[k];
      if (n > 0 && x[n - 1] == s * x[k] && y[n - 1] == s * y[k] && cos[n - 1] == s * cos[k] &&
          sin[n - 1] == s * sin[k]) {
        put(n - 1, k, s * size[n - 1]);
      } else {
        put(n++, k, s);
      }
    }
    rank = n;
  }
  /// Removes dim k and returns it alone; k < 0: a dim of size 1.
  __aicore__ inline RopeRows take(i64 k) {
    RopeRows one{1, {1}, {0}, {0}, {0}, {0}, {1, 1, 1}};
    if (k < 0) return one;
    one.size[0] = size[k];
    one.x[0] = x[k];
    one.y[0] = y[k];
    one.cos[0] = cos[k];
    one.sin[0] = sin[k];
    for (i64 j = k; j + 1 < rank; ++j) put(j, j + 1, size[j + 1]);
    --rank;
    return one;
  }

 private:
  __aicore__ inline void put(i64 to, i64 from, i64 n) {
    size[to] = n;
    x[to] = x[from];
    y[to] = y[from];
    cos[to] = cos[from];
    sin[to] = sin[from];
  }
};

/// y = x * cos + (-x[half:], x[:half]) * sin, computed in float and rounded once. kPairs: x holds
/// pairs (x[0], x[half]), (x[1], x[half + 1]), ...; y never does. kHalfCos: cos and sin hold kDim /
/// 2 elements, for either half. X, C, S: float, half or bfloat16_t.
template <class X, class C, class S, int32_t kDim, bool kPairs, bool kHalfCos>
class Rope {
 public:
  __aicore__ inline void run(TPipe& pipe, Team team, GM_ADDR x, GM_ADDR cos, GM_ADDR sin, GM_ADDR y,
                             RopeRows rows) {
    const i64 total = rows.count();
    if (total == 0) return;
    x_ = global<uint8_t>(x);
    cos_ = global<uint8_t>(cos);
    sin_ = global<uint8_t>(sin);
    y_ = global<uint8_t>(y);
    rows.merge();
    // Of short rows far apart in more memory than L2 holds, whole lines would be read for little.
    const i64 step = rows.rank > 0 ? rows.x[rows.rank - 1] : 0, bytes = kDim * sizeof(X);
    if (2 * bytes <= step * static_cast<i64>(sizeof(X)) && bytes < 512 &&
        total * step * static_cast<i64>(sizeof(X)) > kCached)
      x_.SetL2CacheHint(CacheMode::CACHE_MODE_DISABLE);
    plan(rows, total, team.count);
    const i64 tiles =
        ceilDiv(tokens_.size[0], tileTokens_) * ceilDiv(heads_.size[0], tileHeads_) * rows_.count();
    const Range mine = split(tiles, team);
    if (mine.size() == 0) return;
    init(pipe);
    load(pipe, mine.begin);
    for (i64 t = mine.begin; t < mine.end; ++t) {
      if (t + 1 < mine.end) load(pipe, t + 1);
      compute(place(t));
      store(t);
    }
  }

 private:
  static constexpr i64 kHalf = kDim / 2;
  static constexpr i64 kSlot = (kHalf + 15) / 16 * 16;  // elements that a half takes in UB
  static constexpr i64 kWidth = 2 * kSlot;
  static constexpr bool kWhole = kHalf == kSlot;
  static constexpr i64 kTile = sizeof(X) == 2 ? 8192 : 4096;  // elements of x in UB
  static constexpr i64 kOwnTile = 4096;                       // if each row has its own cos
  static constexpr i64 kCached = 128 << 20;                   // bytes that L2 may still hold
  static constexpr i64 kAngles = 1024;                        // elements of cos, if not
  using Word = typename Std::conditional<sizeof(X) == 2, uint16_t, uint32_t>::type;

  /// Where tile t is: the first token and head of it, how many, and what lies outside them.
  struct Place {
    i64 token, tokens, head, heads, x, y, cos, sin;
  };

  /// A tile is some of the rows along a dim where cos is broadcast (heads) for some of the rows
  /// along another (tokens).
  __aicore__ inline void plan(const RopeRows& rows, i64 total, int32_t cores) {
    rows_ = rows;
    i64 head = -1, token = -1;
    for (i64 k = 0; k < rows_.rank; ++k)
      if (rows_.cos[k] == 0 && rows_.sin[k] == 0 && (head < 0 || rows_.size[k] > rows_.size[head]))
        head = k;
    heads_ = rows_.take(head);
    for (i64 k = 0; k < rows_.rank; ++k)
      if (token < 0 || rows_.size[k] > rows_.size[token]) token = k;
    tokens_ = rows_.take(token);
    // All cores get some.
    const i64 fit = (heads_.size[0] > 1 ? kTile : kOwnTile) / kWidth;
    const i64 wanted = least(fit, ceilDiv(total, cores));
    tileHeads_ = even(heads_.size[0], wanted);
    const i64 room = heads_.size[0] > 1 ? kAngles / kWidth : wanted;
    tileTokens_ = even(tokens_.size[0], most(least(wanted / tileHeads_, room), 1));
  }
  /// Parts of n of one size, up to `room`.
  __aicore__ inline i64 even(i64 n, i64 room) const {
    return ceilDiv(n, ceilDiv(n, least(n, room)));
  }

  __aicore__ inline void init(TPipe& pipe) {
    const uint32_t n = static_cast<uint32_t>(tileTokens_ * tileHeads_ * kWidth);
    const uint32_t angles = static_cast<uint32_t>(tileTokens_ * kWidth);
    // What is read and what is written at a time lie in different 64 KB, which are banks.
    if constexpr (sizeof(X) == 2 || kPairs) pipe.InitBuffer(own_, n * 4);
    pipe.InitBuffer(angles_, 2, angles * (sizeof(C) + sizeof(S)));
    if constexpr (sizeof(C) == 2) pipe.InitBuffer(cosine_, angles * 4);
    if constexpr (sizeof(S) == 2) pipe.InitBuffer(sine_, angles * 4);
    pipe.InitBuffer(ins_, 2, n * sizeof(X));
    pipe.InitBuffer(outs_, 2, n * sizeof(X));
    pipe.InitBuffer(other_, n * 4);
    if (rows_.last[0] != 1 || rows_.last[1] != 1 || rows_.last[2] != 1) {
      pipe.InitBuffer(strays_, kDim * kBlock);
      pipe.InitBuffer(every_, kDim * 4);
      CreateVecIndex(every_.template Get<int32_t>(), int32_t(0), static_cast<uint32_t>(kDim));
      ShiftLeft(every_.template Get<int32_t>(), every_.template Get<int32_t>(), int32_t(5), kDim);
    }
    if constexpr (kWhole) return;
    for (int32_t k = 0; k < 2; ++k) {  // what is between the halves is computed with
      auto a = ins_.template AllocTensor<int32_t>(), b = angles_.template AllocTensor<int32_t>();
      Duplicate(a, int32_t(0), static_cast<int32_t>(n * sizeof(X) / 4));
      Duplicate(b, int32_t(0), static_cast<int32_t>(angles * (sizeof(C) + sizeof(S)) / 4));
      ins_.FreeTensor(a);
      angles_.FreeTensor(b);
    }
  }

  __aicore__ inline Place place(i64 t) const {
    Place p;
    p.head = t % ceilDiv(heads_.size[0], tileHeads_) * tileHeads_;
    t /= ceilDiv(heads_.size[0], tileHeads_);
    p.token = t % ceilDiv(tokens_.size[0], tileTokens_) * tileTokens_;
    t /= ceilDiv(tokens_.size[0], tileTokens_);
    p.heads = least(tileHeads_, heads_.size[0] - p.head);
    p.tokens = least(tileTokens_, tokens_.size[0] - p.token);
    p.x = p.token * tokens_.x[0] + p.head * heads_.x[0];
    p.y = p.token * tokens_.y[0] + p.head * heads_.y[0];
    p.cos = p.token * tokens_.cos[0];
    p.sin = p.token * tokens_.sin[0];
    for (i64 k = rows_.rank - 1; k >= 0; --k) {
      const i64 i = t % rows_.size[k];
      t /= rows_.size[k];
      p.x += i * rows_.x[k];
      p.y += i * rows_.y[k];
      p.cos += i * rows_.cos[k];
      p.sin += i * rows_.sin[k];
    }
    return p;
  }

  /// Rows of n elements of T, for tokens and heads, to UB rows of kWidth.
  template <class T>
  __aicore__ inline void loadTile(TPipe& pipe, const Bytes& to, const GlobalBytes& from, i64 n,
                                  i64 count, i64 each, i64 stride, i64 eachStride, i64 last) {
    constexpr i64 kSize = sizeof(T);
    if (last != 1) {
      for (i64 i = 0; i < count * each; ++i)
        loadStrays<T>(pipe, to[i * kWidth * kSize],
                      from[(i / each * stride + i % each * eachStride) * kSize], n, last);
    } else if (each == 1 || stride == each * eachStride) {
      loadRows(to, from, count * each, n * kSize, (each == 1 ? stride : eachStride) * kSize,
               kWidth * kSize);
    } else if (count <= each) {
      for (i64 i = 0; i < count; ++i)
        loadRows(to[i * each * kWidth * kSize], from[i * stride * kSize], each, n * kSize,
                 eachStride * kSize, kWidth * kSize);
    } else {
      for (i64 i = 0; i < each; ++i)
        loadRows(to[i * kWidth * kSize], from[i * eachStride * kSize], count, n * kSize,
                 stride * kSize, each * kWidth * kSize);
    }
  }
  /// n elements that do not lie side by side, by a block each.
  template <class T>
  __aicore__ inline void loadStrays(TPipe& pipe, const Bytes& to, const GlobalBytes& from, i64 n,
                                    i64 stride) {
    using Raw = typename Std::conditional<sizeof(T) == 2, uint16_t, uint32_t>::type;
    order<HardEvent::V_MTE2>(pipe);
    loadRows<true>(strays_.template Get<uint8_t>(), from, n, sizeof(T), stride * sizeof(T), kBlock);
    order<HardEvent::MTE2_V>(pipe);
    Gather(to.template ReinterpretCast<Raw>(), strays_.template Get<Raw>(),
           every_.template Get<uint32_t>(), 0, static_cast<uint32_t>(n));
  }
  /// cos or sin of tokens, in two halves.
  template <class T>
  __aicore__ inline void loadAngles(TPipe& pipe, const Bytes& to, const GlobalBytes& from,
                                    i64 count, i64 stride, i64 last) {
    if (kWhole && !kHalfCos && last == 1)
      return loadTile<T>(pipe, to, from, kDim, count, 1, stride, 0, last);
    loadTile<T>(pipe, to, from, kHalf, count, 1, stride, 0, last);
    loadTile<T>(pipe, to[kSlot * sizeof(T)], from[kHalfCos ? 0 : kHalf * last * sizeof(T)], kHalf,
                count, 1, stride, 0, last);
  }
  __aicore__ inline void load(TPipe& pipe, i64 t) {
    const Place p = place(t);
    Bytes a = angles_.template AllocTensor<uint8_t>(), b = ins_.template AllocTensor<uint8_t>();
    loadAngles<C>(pipe, a, cos_[p.cos * sizeof(C)], p.tokens, tokens_.cos[0], rows_.last[1]);
    loadAngles<S>(pipe, a[tileTokens_ * kWidth * sizeof(C)], sin_[p.sin * sizeof(S)], p.tokens,
                  tokens_.sin[0], rows_.last[2]);
    angles_.EnQue(a);
    const GlobalBytes from = x_[p.x * sizeof(X)];
    const i64 last = rows_.last[0], step = tokens_.x[0], each = heads_.x[0];
    if (kPairs || (kWhole && last == 1)) {
      loadTile<X>(pipe, b, from, kDim, p.tokens, p.heads, step, each, last);
    } else {
      loadTile<X>(pipe, b, from, kHalf, p.tokens, p.heads, step, each, last);
      loadTile<X>(pipe, b[kSlot * sizeof(X)], from[kHalf * last * sizeof(X)], kHalf, p.tokens,
                  p.heads, step, each, last);
    }
    ins_.EnQue(b);
  }

  template <class T>
  __aicore__ inline LocalTensor<float> toFloat(const Bytes& from, TBuf<TPosition::VECCALC>& space,
                                               i64 n) {
    if constexpr (sizeof(T) == 4) {
      return from.template ReinterpretCast<float>();
    } else {
      const auto f = space.template Get<float>();
      Cast(f, from.template ReinterpretCast<T>(), RoundMode::CAST_NONE, static_cast<uint32_t>(n));
      return f;
    }
  }

  /// to = from * angle for `lanes` of each row; rows are `step` elements apart, those of angle
  /// kWidth.
  __aicore__ inline void times(const LocalTensor<float>& to, const LocalTensor<float>& from,
                               const LocalTensor<float>& angle, i64 lanes, i64 step,
                               const Place& p) {
    if (p.heads == 1) return timesRows(to, from, angle, lanes, p.tokens, step, kWidth);
    if (p.heads < p.tokens && p.heads * step / 8 <= 255) {  // strides have 8 bits
      for (i64 h = 0; h < p.heads; ++h)
        timesRows(to[h * step], from[h * step], angle, lanes, p.tokens, p.heads * step, kWidth);
    } else {
      for (i64 t = 0; t < p.tokens; ++t)
        timesRows(to[t * p.heads * step], from[t * p.heads * step], angle[t * kWidth], lanes,
                  p.heads, step, 0);
    }
  }
  __aicore__ inline void timesRows(const LocalTensor<float>& to, const LocalTensor<float>& from,
                                   const LocalTensor<float>& angle, i64 lanes, i64 n, i64 step,
                                   i64 angleStep) {
    const uint8_t s = static_cast<uint8_t>(step / 8), a = static_cast<uint8_t>(angleStep / 8);
    for (i64 c = 0; c < lanes; c += 64)
      for (i64 r = 0; r < n; r += 255)
        Mul(to[r * step + c], from[r * step + c], angle[r * angleStep + c],
            static_cast<uint64_t>(least(64, lanes - c)), static_cast<uint8_t>(least(255, n - r)),
            {1, 1, 1, s, s, a});
  }

  __aicore__ inline void compute(const Place& p) {
    const i64 rows = p.tokens * p.heads, n = rows * kWidth, angles = p.tokens * kWidth;
    const uint32_t count = static_cast<uint32_t>(n);
    Bytes raw = angles_.template DeQue<uint8_t>();
    const auto cos = toFloat<C>(raw, cosine_, angles);
    const auto sin = toFloat<S>(raw[tileTokens_ * kWidth * sizeof(C)], sine_, angles);
    for (i64 c = 0; c < kSlot; c += 64)
      for (i64 r = 0; r < p.tokens; r += 255)
        Muls(sin[r * kWidth + c], sin[r * kWidth + c], -1.0f,
             static_cast<uint64_t>(least(64, kSlot - c)),
             static_cast<uint8_t>(least(255, p.tokens - r)),
             {1, 1, static_cast<uint8_t>(kWidth / 8), static_cast<uint8_t>(kWidth / 8)});
    auto in = ins_.template DeQue<X>();
    LocalTensor<float> x;
    if constexpr (sizeof(X) == 2 || kPairs) x = own_.template Get<float>();
    const auto other = other_.template Get<float>();
    if constexpr (kPairs) {
      // First halves of all rows, then all second halves.
      const auto from = in.template ReinterpretCast<Word>();
      const auto to = sizeof(X) == 2 ? other.template ReinterpretCast<Word>()
                                     : x.template ReinterpretCast<Word>();
      uint64_t kept = 0;
      GatherMask(to, from, uint8_t(1), true, count, GatherMaskParams{1, 1, 8, 0}, kept);
      GatherMask(to[n / 2], from, uint8_t(2), true, count, GatherMaskParams{1, 1, 8, 0}, kept);
      if constexpr (sizeof(X) == 2)
        Cast(x, to.template ReinterpretCast<X>(), RoundMode::CAST_NONE, count);
      times(other, x[n / 2], sin, kSlot, kSlot, p);
      times(other[n / 2], x, sin[kSlot], kSlot, kSlot, p);
      times(x, x, cos, kSlot, kSlot, p);
      times(x[n / 2], x[n / 2], cos[kSlot], kSlot, kSlot, p);
    } else {
      if constexpr (sizeof(X) == 2)
        Cast(x, in, RoundMode::CAST_NONE, count);
      else
        x = in;
      times(other, x[kSlot], sin, kSlot, kWidth, p);
      times(other[kSlot], x, sin[kSlot], kSlot, kWidth, p);
      times(x, x, cos, kWidth, kWidth, p);
    }
    angles_.FreeTensor(raw);
    auto out = outs_.template AllocTensor<X>();
    if constexpr (!kPairs) {
      if constexpr (sizeof(X) == 2) {
        Add(x, x, other, static_cast<int32_t>(n));
        Cast(out, x, RoundMode::CAST_RINT, count);
      } else {
        Add(out, x, other, static_cast<int32_t>(n));
      }
    } else {
      if constexpr (sizeof(X) == 2) Add(x, x, other, static_cast<int32_t>(n));
      for (i64 h = 0; h < 2; ++h)
        for (i64 c = 0; c < kSlot; c += 64)
          for (i64 r = 0; r < rows; r += 255)
            unite(out[r * kWidth + h * kSlot + c], x[h * (n / 2) + r * kSlot + c],
                  other[h * (n / 2) + r * kSlot + c], least(64, kSlot - c), least(255, rows - r));
    }
    ins_.FreeTensor(in);
    outs_.EnQue(out);
  }
  /// Halves of rows side by side: rounded, or for float the sum.
  __aicore__ inline void unite(const LocalTensor<X>& out, const LocalTensor<float>& x,
                               const LocalTensor<float>& other, i64 lanes, i64 n) {
    constexpr uint8_t kIn = static_cast<uint8_t>(kSlot / 8);
    constexpr uint8_t kOut = static_cast<uint8_t>(kWidth * sizeof(X) / 32);
    const uint64_t mask = static_cast<uint64_t>(lanes);
    const uint8_t repeats = static_cast<uint8_t>(n);
    if constexpr (sizeof(X) == 2)
      Cast(out, x, RoundMode::CAST_RINT, mask, repeats, {1, 1, kOut, kIn});
    else
      Add(out, x, other, mask, repeats, {1, 1, 1, kOut, kIn, kIn});
  }

  __aicore__ inline void store(i64 t) {
    const Place p = place(t);
    Bytes out = outs_.template DeQue<uint8_t>();
    const GlobalBytes to = y_[p.y * sizeof(X)];
    if (kWhole) {
      storeTile(to, out, kDim, p);
    } else {
      storeTile(to, out, kHalf, p);
      storeTile(to[kHalf * sizeof(X)], out[kSlot * sizeof(X)], kHalf, p);
    }
    outs_.FreeTensor(out);
  }
  __aicore__ inline void storeTile(const GlobalBytes& to, const Bytes& from, i64 n,
                                   const Place& p) {
    constexpr i64 kSize = sizeof(X), kRow = kWidth * kSize;
    const i64 step = tokens_.y[0] * kSize, each = heads_.y[0] * kSize;
    if (p.heads == 1 || step == p.heads * each) {
      storeRows(to, from, p.tokens * p.heads, n * kSize, p.heads == 1 ? step : each, kRow);
    } else if (p.tokens <= p.heads) {
      for (i64 i = 0; i < p.tokens; ++i)
        storeRows(to[i * step], from[i * p.heads * kRow], p.heads, n * kSize, each, kRow);
    } else {
      for (i64 i = 0; i < p.heads; ++i)
        storeRows(to[i * each], from[i * kRow], p.tokens, n * kSize, step, p.heads * kRow);
    }
  }

  GlobalBytes x_, cos_, sin_, y_;
  RopeRows rows_, heads_, tokens_;  // the dims outside a tile, and the two that it is cut out of
  i64 tileHeads_, tileTokens_;
  TQue<TPosition::VECIN, 2> ins_, angles_;  // two are on their way
  TQue<TPosition::VECOUT, 1> outs_;
  TBuf<TPosition::VECCALC> own_, other_, cosine_, sine_, strays_, every_;
};

}  // namespace xc
