// The softmax family behind its templates.
#pragma once
#include "ascsim/adv_core.h"

namespace ascsim::adv {

struct SoftmaxShape {
  uint32_t m = 0, k = 0;        // rows and columns in memory
  uint32_t oriM = 0, oriK = 0;  // those that count
  bool nz = false;              // 16 columns side by side, all rows of them, then the next 16
};

enum class SoftmaxKind : uint8_t { Normal, Log, Simple, Flash, FlashV2, FlashV3 };

struct SoftmaxCall {
  SoftmaxKind kind = SoftmaxKind::Normal;
  SoftmaxShape shape;
  Arg dst, src;
  Arg sum, max, expMax, inSum, inMax, mean, inMean, reduceMax;
  bool stats = true;  // sum and max are operands
  bool update = false;
  bool wideStats = true;  // a statistic fills a 32-byte block; else one element per row
  bool reduceMaxOut = false;
  uint32_t loopCnt = 1;
  float alpha = 0;
  const Arg* tmp = nullptr;
};
void softmax(const SoftmaxCall& c);
void softmaxGrad(const Arg& dst, const Arg& grad, const Arg& src, const Arg* tmp,
                 const SoftmaxShape& shape, bool front);
bool adjustSoftmax(const Arg& res, const Arg& max, uint32_t from, float to,
                   const SoftmaxShape& shape, bool everyElement);

// Temporary space in bytes for one row (minimum) of k columns, or m rows at once.
uint32_t softmaxTmp(SoftmaxKind kind, uint32_t m, uint32_t k, uint32_t typeSize, bool update);
uint32_t softmaxGradTmp(uint32_t m, uint32_t k, uint32_t typeSize, bool front);

}  // namespace ascsim::adv
