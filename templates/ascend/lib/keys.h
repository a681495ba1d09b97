// Values as float keys that sort alike: what Sort32, MrgSort and the maximum work on.
#pragma once
#include "rows.h"

namespace xc {

/// A key is a float that orders as its value does and is never NaN. Of floats, positive ones move
/// down by one in the last place, which leaves +inf for NaN, the largest; only 1.4e-45 meets zero.
/// Integers beyond +-kMostInteger count as that bound.
constexpr int32_t kMostInteger = 0x7effffff;
constexpr int32_t kSmallestNormal = 0x00800000;

__aicore__ inline float infinity() {
  const uint32_t bits = 0x7f800000u;
  return *reinterpret_cast<const float*>(&bits);
}

/// key[i] = the key of x[i], negated for an ascending order. n is a multiple of 64; mask has a bit
/// for each, scratch is as large as key.
template <class T>
__aicore__ inline void toKeys(const LocalTensor<float>& key, const LocalTensor<T>& x,
                              const LocalTensor<uint8_t>& mask, const LocalTensor<int32_t>& scratch,
                              bool descending, i64 n) {
  const uint32_t count = static_cast<uint32_t>(n);
  const int32_t items = static_cast<int32_t>(n);
  const auto bits = key.template ReinterpretCast<int32_t>();
  if constexpr (sizeof(T) == 8) {
    // Sign and magnitude, away from what is no normal float.
    Cast(scratch, x, RoundMode::CAST_NONE, count);
    Maxs(scratch, scratch, int32_t(-kMostInteger), items);
    Mins(scratch, scratch, int32_t(kMostInteger), items);
    Muls(bits, scratch, int32_t(-1), items);
    Max(bits, bits, scratch, items);
    Adds(bits, bits, int32_t(kSmallestNormal), items);
    ShiftRight(scratch, scratch, int32_t(31), items);
    ShiftLeft(scratch, scratch, int32_t(31), items);
    Add(bits, bits, scratch, items);
  } else {
    if constexpr (sizeof(T) == 2) {
      Cast(key, x, RoundMode::CAST_NONE, count);
      Compare(mask, key, key, CMPMODE::EQ, count);
      Maxs(scratch, bits, int32_t(0), items);
      Mins(scratch, scratch, int32_t(1), items);
      Sub(bits, bits, scratch, items);
    } else {
      const auto from = x.template ReinterpretCast<int32_t>();
      Compare(mask, x, x, CMPMODE::EQ, count);
      Maxs(scratch, from, int32_t(0), items);
      Mins(scratch, scratch, int32_t(1), items);
      Sub(bits, from, scratch, items);
    }
    Select(key, mask, key, infinity(), SELMODE::VSEL_TENSOR_SCALAR_MODE, count);
  }
  if (!descending) Muls(key, key, -1.0f, items);
}

/// The way back; key is used up. n need not be a multiple of anything.
template <class T>
__aicore__ inline void fromKeys(const LocalTensor<T>& x, const LocalTensor<float>& key,
                                const LocalTensor<int32_t>& scratch, bool descending, i64 n) {
  const uint32_t count = static_cast<uint32_t>(n);
  const int32_t items = static_cast<int32_t>(n);
  const auto bits = key.template ReinterpretCast<int32_t>();
  const auto word = key.template ReinterpretCast<uint32_t>();
  if (!descending) Muls(key, key, -1.0f, items);
  if constexpr (sizeof(T) == 8) {
    ShiftRight(scratch, bits, int32_t(31), items);  // -1 or 0, then -1 or 1
    Muls(scratch, scratch, int32_t(2), items);
    Adds(scratch, scratch, int32_t(1), items);
    ShiftLeft(word, word, uint32_t(1), items);
    ShiftRight(word, word, uint32_t(1), items);
    Adds(bits, bits, int32_t(-kSmallestNormal), items);
    Mul(bits, bits, scratch, items);
    Cast(x, bits, RoundMode::CAST_NONE, count);
  } else {
    Maxs(scratch, bits, int32_t(0), items);
    Mins(scratch, scratch, int32_t(1), items);
    if constexpr (sizeof(T) == 4) {
      Add(x.template ReinterpretCast<int32_t>(), bits, scratch, items);
    } else {
      Add(bits, bits, scratch, items);
      Cast(x, key, RoundMode::CAST_RINT, count);
    }
  }
}

}  // namespace xc
