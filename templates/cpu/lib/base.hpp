// Scalar types, native vectors and branch-free math shared by every kernel.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace xc {

using i64 = int64_t;

// Codes recorded by Team::fail and returned by Pool::run.
enum Error : int {
  kOk = 0,
  kBadIndex = 1,   // embedding / gather / scatter / index_copy index out of range
  kBadExpert = 2,  // expert id outside [0, experts)
  kBadBlock = 3,   // block table entry outside the KV cache
  kBadLength = 4,  // context length that disagrees with the query lengths or the table
  kOutOfMemory = 5,
};

// ---- bfloat16 ---------------------------------------------------------------------------------

struct bf16 {
  uint16_t u;
};

inline float bits_to_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline uint32_t float_to_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

inline float to_f32(float x) { return x; }
inline float to_f32(bf16 x) { return bits_to_float(uint32_t(x.u) << 16); }

// Round to nearest even; NaN stays a (quiet) NaN.
inline bf16 to_bf16(float f) {
  uint32_t u = float_to_bits(f);
  uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  uint32_t nan = (u >> 16) | 0x40u;
  return bf16{uint16_t((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}

inline float load(const float* p) { return *p; }
inline float load(const bf16* p) { return to_f32(*p); }
inline void store(float* p, float x) { *p = x; }
inline void store(bf16* p, float x) { *p = to_bf16(x); }

// ---- native vectors ---------------------------------------------------------------------------
// The few instructions that C++ has no operator for are written as asm: <immintrin.h> would take
// most of the time that a file needs to compile.

#if defined(__AVX512BF16__) && defined(__AVX512F__)
#define XC_BF16_DOT 1
#endif

// Width of the widest native fp32 vector. GCC keeps wider-than-native vectors in memory, so the
// kernels are written for `VL` lanes instead of a fixed 16.
#if defined(__AVX512F__)
constexpr int VL = 16;
#elif defined(__AVX__)
constexpr int VL = 8;
#else
constexpr int VL = 4;
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));  // VL bf16 values

constexpr float kInf = __builtin_inff();

inline vf splat(float x) { return x - vf{}; }
inline vu as_bits(vf x) { return (vu)x; }

inline vf vload(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void vstore(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

inline vf vload(const bf16* p) {
  vh h;
  std::memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vu) << 16);
}

#if XC_BF16_DOT
// c plus the products of 16 pairs of bf16, in fp32. By value: an asm operand that is a reference
// keeps arrays of accumulators in memory.
inline vf dot_bf16(vf c, vf a, vf b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
  return c;
}
#endif

// VL fp32 values rounded to bf16.
inline vh round_bf16(vf v) {
#if XC_BF16_DOT
  vh h;
  asm("vcvtneps2bf16 %1, %0" : "=v"(h) : "v"(v));
  return h;
#else
  vu u = (vu)v;
  vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  vu nan = (u >> 16) | 0x40u;
  vi is_nan = v != v;
  return __builtin_convertvector((vu)(((vi)nan & is_nan) | ((vi)rounded & ~is_nan)), vh);
#endif
}
inline void vstore(bf16* p, vf v) {
  vh h = round_bf16(v);
  std::memcpy(p, &h, sizeof h);
}

// First n (0..VL) values, the rest zero; never touches memory past p[n-1].
template <class T>
inline vf vload_n(const T* p, int n) {
  if (n >= VL) return vload(p);
  T buf[VL] = {};
  if (n > 0) std::memcpy(buf, p, size_t(n) * sizeof(T));
  return vload(buf);
}
template <class T>
inline void vstore_n(T* p, vf v, int n) {
  if (n >= VL) return vstore(p, v);
  T buf[VL];
  vstore(buf, v);
  if (n > 0) std::memcpy(p, buf, size_t(n) * sizeof(T));
}

inline vf select(vi mask, vf a, vf b) { return mask ? a : b; }
inline vf vmax(vf a, vf b) { return a > b ? a : b; }
inline vf vmin(vf a, vf b) { return a < b ? a : b; }

inline i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
inline i64 round_up(i64 a, i64 b) { return ceil_div(a, b) * b; }

}  // namespace xc

#include "math.hpp"
