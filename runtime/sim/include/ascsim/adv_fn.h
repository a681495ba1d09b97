// Elementwise functions of the high-level API: their numbers are one table for kernels and tilings.
#pragma once
#include <cstdint>

#include "ascsim/adv_core.h"

namespace ascsim::adv {

enum class Fn : uint8_t {
  Acos,
  Acosh,
  Asin,
  Asinh,
  Atan,
  Atanh,
  Ceil,
  ClampMax,
  ClampMin,
  Cos,
  Cosh,
  Digamma,
  Erf,
  Erfc,
  Exp,
  Floor,
  Fmod,
  Frac,
  Lgamma,
  Log,
  Log2,
  Log10,
  Power,
  Round,
  Sign,
  Sin,
  Sinh,
  Tan,
  Tanh,
  Trunc,
  Xor,
  Sigmoid,
  Silu,
  Swish,
  Gelu,
  FasterGelu,
  FasterGeluV2,
  GeGLU,
  SwiGLU,
  ReGlu,
  Axpy,
  Count
};

struct FnInfo {
  const char* name;
  // Temporary space: so many times the operand's own size, at least 256 bytes each.
  uint8_t halfFactor;
  uint8_t floatFactor;
  bool overlap;       // source and destination may share memory
  const char* steps;  // one letter per pass over the data, see passes()
};
const FnInfo& fnInfo(Fn f);
// Minimum and maximum of the temporary space; n may be 0 for the minimum.
uint32_t fnMinTmp(Fn f, uint32_t typeSize, bool reuse);
uint32_t fnMaxTmp(Fn f, uint64_t n, uint32_t typeSize, bool reuse);

// dst[k] = f(src[k]), f(a[k], b[k]), with a parameter where the function has one.
void unary(Fn f, const Arg& dst, const Arg& src, const Arg* tmp, uint64_t n, bool reuse = false,
           double param = 0);
void binary(Fn f, const Arg& dst, const Arg& a, const Arg& b, const Arg* tmp, uint64_t n,
            double param = 0);
// A scalar in place of one of the two operands of Power; kind 0: tensor-tensor, 1: tensor-scalar,
// 2: scalar-tensor.
void power(int kind, const Arg& dst, const Arg& a, const Arg& b, double scalar, const Arg* tmp,
           uint64_t n);
uint32_t powerMinTmp(bool tensorTensor, bool typeIsInt, uint32_t typeSize);
uint32_t powerMaxTmp(bool tensorTensor, bool typeIsInt, uint32_t typeSize, uint64_t n);
void xorOf(const Arg& dst, const Arg& a, const Arg& b, const Arg* tmp, uint64_t n);
void axpy(const Arg& dst, const Arg& src, double scalar, const Arg* tmp, uint64_t n);
void cumSum(const Arg& dst, const Arg& last, const Arg& src, const Arg* tmp, uint32_t outer,
            uint32_t inner, bool lastAxis, bool outputLast);
uint32_t cumSumTmp(uint32_t outer, uint32_t inner, uint32_t typeSize, bool lastAxis);

}  // namespace ascsim::adv
