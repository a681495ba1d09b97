// The normalizations behind their templates.
#pragma once
#include "ascsim/adv_core.h"

namespace ascsim::adv {

// Rows of `stride` elements, of which `length` count: y = (x - mean) * rstd * gamma + beta.
struct NormCall {
  uint64_t rows = 0;
  uint32_t stride = 0, length = 0;
  Arg dst, x, gamma, beta, mean, spread;
  const Arg* gx = nullptr;  // DeepNorm: x is alpha * x + gx
  float alpha = 1, epsilon = 0;
  bool hasGamma = true, hasBeta = true, onlyOutput = false;
  bool rstdOut = false;  // spread is 1 / sqrt(variance + epsilon), else the variance
  bool known = false;    // Normalize: mean is an input, `variance` too
  const Arg* variance = nullptr;
  bool rms = false;     // RmsNorm: no mean, spread or beta
  bool inPlace = true;  // dst may share memory with x
  const Arg* tmp = nullptr;
  uint64_t tmpBytes = 0;
};
void normalizeRows(const NormCall& c);

void batchNorm(const Arg& dst, const Arg& mean, const Arg& variance, const Arg& x, const Arg& gamma,
               const Arg& beta, const Arg* tmp, float epsilon, uint32_t batch, uint32_t columns);
void groupNorm(const Arg& dst, const Arg& mean, const Arg& variance, const Arg& x, const Arg& gamma,
               const Arg& beta, const Arg* tmp, uint64_t tmpBytes, float epsilon, uint32_t n,
               uint32_t c, uint32_t hw, uint32_t groups);
void layerNormGrad(const Arg& pdX, const Arg& resForGamma, const Arg& dy, const Arg& x,
                   const Arg& variance, const Arg& mean, const Arg& gamma, const Arg* tmp,
                   uint64_t tmpBytes, float epsilon, uint32_t rows, uint32_t stride,
                   uint32_t length);
void layerNormGradBeta(const Arg& pdGamma, const Arg& pdBeta, const Arg& resForGamma, const Arg& dy,
                       const Arg* tmp, uint64_t tmpBytes, uint32_t rows, uint32_t stride);
void welfordUpdate(const Arg& outMean, const Arg& outVar, const Arg& inMean, const Arg& inVar,
                   const Arg& x, const Arg* tmp, uint32_t abLength, uint32_t computeLength,
                   float nRec, bool inplace);
struct WelfordEnd {
  uint32_t rnLength, abLength, headCount, headCountLength, tailCount, tailCountLength;
  float abRec, rRec;
};
void welfordFinalize(const Arg& outMean, const Arg& outVar, const Arg& inMean, const Arg& inVar,
                     const Arg* counts, const Arg* tmp, const WelfordEnd& p);

// Temporary space of the call for one row (minimum).
uint32_t layerNormTmp(uint64_t rows, uint32_t stride, uint32_t typeSize, bool reuse, bool maximum);
uint32_t layerNormGradTmp(uint32_t stride, uint32_t typeSize, bool reuse);
uint32_t welfordUpdateTmp(uint32_t typeSize, bool inplace);

}  // namespace ascsim::adv
