// half, bfloat16_t and the conversions every unit of the core uses.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace ascsim {

constexpr uint32_t floatBits(float v) { return __builtin_bit_cast(uint32_t, v); }
constexpr float bitsFloat(uint32_t v) { return __builtin_bit_cast(float, v); }

// IEEE binary16, round to nearest even, subnormals kept, overflow to infinity.
constexpr uint16_t floatToHalfBits(float value) {
  const uint32_t f = floatBits(value);
  const uint32_t sign = (f >> 16) & 0x8000u;
  const uint32_t mag = f & 0x7fffffffu;
  if (mag >= 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7c00u | (mag > 0x7f800000u ? 0x200u : 0u));
  }
  if (mag >= 0x477ff000u) {  // rounds up to 2^16
    return static_cast<uint16_t>(sign | 0x7c00u);
  }
  if (mag < 0x38800000u) {  // below 2^-14: subnormal
    if (mag < 0x33000000u) {
      return static_cast<uint16_t>(sign);
    }
    const uint32_t exponent = mag >> 23;
    const uint32_t mantissa = (mag & 0x7fffffu) | 0x800000u;
    const uint32_t shift = 126u - exponent;
    const uint32_t base = mantissa >> shift;
    const uint32_t rest = mantissa & ((1u << shift) - 1u);
    const uint32_t halfway = 1u << (shift - 1u);
    const uint32_t up = (rest > halfway || (rest == halfway && (base & 1u))) ? 1u : 0u;
    return static_cast<uint16_t>(sign | (base + up));
  }
  const uint32_t rounded = mag + 0xfffu + ((mag >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

constexpr float halfBitsToFloat(uint16_t h) {
  const uint32_t sign = (static_cast<uint32_t>(h) & 0x8000u) << 16;
  uint32_t exponent = (h >> 10) & 0x1fu;
  uint32_t mantissa = h & 0x3ffu;
  if (exponent == 0x1fu) {
    return bitsFloat(sign | 0x7f800000u | (mantissa << 13));
  }
  if (exponent == 0) {
    if (mantissa == 0) {
      return bitsFloat(sign);
    }
    const float v = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -v : v;
  }
  return bitsFloat(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

constexpr uint16_t floatToBfloatBits(float value) {
  const uint32_t f = floatBits(value);
  if ((f & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<uint16_t>((f >> 16) | 0x40u);
  }
  return static_cast<uint16_t>((f + 0x7fffu + ((f >> 16) & 1u)) >> 16);
}

constexpr float bfloatBitsToFloat(uint16_t b) { return bitsFloat(static_cast<uint32_t>(b) << 16); }

}  // namespace ascsim

// A 16-bit float whose arithmetic is done in float and rounded once, as the scalar unit's is.
#define ASCSIM_FLOAT16_TYPE(NAME, TO_BITS, TO_FLOAT)                       \
  struct NAME {                                                            \
    uint16_t bits;                                                         \
    NAME() = default;                                                      \
    template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0> \
    constexpr NAME(T v) : bits(ascsim::TO_BITS(static_cast<float>(v))) {}  \
    constexpr operator float() const { return ascsim::TO_FLOAT(bits); }    \
    template <class T>                                                     \
    constexpr NAME& operator+=(T v) {                                      \
      return *this = NAME(float(*this) + float(v));                        \
    }                                                                      \
    template <class T>                                                     \
    constexpr NAME& operator-=(T v) {                                      \
      return *this = NAME(float(*this) - float(v));                        \
    }                                                                      \
    template <class T>                                                     \
    constexpr NAME& operator*=(T v) {                                      \
      return *this = NAME(float(*this) * float(v));                        \
    }                                                                      \
    template <class T>                                                     \
    constexpr NAME& operator/=(T v) {                                      \
      return *this = NAME(float(*this) / float(v));                        \
    }                                                                      \
    constexpr NAME operator-() const {                                     \
      NAME r{};                                                            \
      r.bits = static_cast<uint16_t>(bits ^ 0x8000u);                      \
      return r;                                                            \
    }                                                                      \
    static constexpr NAME fromBits(uint16_t b) {                           \
      NAME r{};                                                            \
      r.bits = b;                                                          \
      return r;                                                            \
    }                                                                      \
  };

ASCSIM_FLOAT16_TYPE(half, floatToHalfBits, halfBitsToFloat)
ASCSIM_FLOAT16_TYPE(bfloat16_t, floatToBfloatBits, bfloatBitsToFloat)
#undef ASCSIM_FLOAT16_TYPE
using float16_t = half;

static_assert(sizeof(half) == 2 && sizeof(bfloat16_t) == 2 && std::is_trivially_copyable_v<half>);

inline float ToFloat(bfloat16_t v) { return static_cast<float>(v); }
inline bfloat16_t ToBfloat16(float v) { return bfloat16_t(v); }

namespace AscendC {
// Two signed 4-bit values share a byte, the even index in the low nibble. A tensor of int4b_t
// counts nibbles; the type itself can only be stored in pairs.
struct int4b_t {
  int8_t storage;
  int4b_t() = default;
  constexpr int4b_t(int v) : storage(static_cast<int8_t>(v & 0xf)) {}
  constexpr operator int8_t() const {
    return static_cast<int8_t>((storage & 0xf) >= 8 ? (storage & 0xf) - 16 : (storage & 0xf));
  }
};
}  // namespace AscendC
using AscendC::int4b_t;

namespace ascsim {
enum class DType : uint8_t {
  U8,
  I8,
  U16,
  I16,
  U32,
  I32,
  U64,
  I64,
  F16,
  BF16,
  F32,
  F64,
  I4,
  Bool,
  Other
};

template <class T>
constexpr DType dtypeOf() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, half>)
    return DType::F16;
  else if constexpr (std::is_same_v<U, bfloat16_t>)
    return DType::BF16;
  else if constexpr (std::is_same_v<U, float>)
    return DType::F32;
  else if constexpr (std::is_same_v<U, double>)
    return DType::F64;
  else if constexpr (std::is_same_v<U, AscendC::int4b_t>)
    return DType::I4;
  else if constexpr (std::is_same_v<U, bool>)
    return DType::Bool;
  else if constexpr (std::is_integral_v<U>) {
    constexpr int log2 = sizeof(U) == 1 ? 0 : sizeof(U) == 2 ? 1 : sizeof(U) == 4 ? 2 : 3;
    return static_cast<DType>(2 * log2 + (std::is_signed_v<U> ? 1 : 0));
  } else
    return DType::Other;
}

const char* dtypeName(DType t);
uint32_t sizeOf(DType type);  // bytes; 1 for int4b_t
}  // namespace ascsim
