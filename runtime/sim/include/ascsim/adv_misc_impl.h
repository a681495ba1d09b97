// Reductions, quantization, selection and rearrangement behind their templates.
#pragma once
#include "ascsim/adv_core.h"

namespace ascsim::adv {

// ------------------------------------------------------------------------------------- reductions
enum class Fold : uint8_t { Sum, Mean, Max, Min, Prod, Any, All };
// Folds rows x inner (rows `stride` apart) along the last axis (lastAxis) or the first one.
void fold(Fold f, const Arg& dst, const Arg& src, const Arg* tmp, uint64_t tmpBytes, uint32_t rows,
          uint32_t inner, uint32_t stride, bool lastAxis);
uint32_t foldTmp(uint64_t rows, uint64_t stride, uint32_t typeSize, bool reuse);
uint32_t sumTmp(uint32_t n, uint32_t typeSize);
uint32_t meanTmp(uint32_t n, uint32_t typeSize, uint32_t accSize);
void reduceXorSum(const Arg& dst, const Arg& a, const Arg& b, const Arg* tmp, uint32_t n,
                  bool reuse);

// ----------------------------------------------------------------------------------- quantization
// A scale or offset: one number, or a vector repeated over the data.
struct Factor {
  const Arg* vector = nullptr;
  float scalar = 0;
  uint32_t count = 0;
};
void quant(const Arg& dst, const Arg& src, const Arg* tmp, const Factor& scale,
           const Factor& offset, uint64_t n);
void dequant(const Arg& dst, const Arg& src, const Arg* scale, float scalar, const Arg* tmp,
             uint32_t m, uint32_t n, uint32_t calCount);
uint32_t dequantTmp(uint32_t n);
struct AntiQuant {
  const Arg* offset = nullptr;
  const Arg* scale = nullptr;
  float offsetValue = 0, scaleValue = 0;
  bool transpose = false;
  uint32_t k = 0, n = 0;
  uint32_t offsetGroups = 1, scaleGroups = 1;  // along k
};
void antiQuant(const Arg& dst, const Arg& src, const Arg* tmp, const AntiQuant& q);
uint32_t antiQuantTmp(uint64_t scaleSize, bool bfloatOut);

// -------------------------------------------------------------------------------------- filtering
// mask element 0: src0, else src1; one of them is a scalar.
void selectBytes(const Arg& dst, const Arg* src0, const Arg* src1, float scalar, const Arg& mask,
                 const Arg* tmp, uint32_t first, uint32_t srcLast, uint32_t maskLast,
                 bool reuseMask);
uint32_t selectTmp(uint32_t first, uint32_t srcLast, uint32_t maskLast, uint32_t maskSize,
                   bool reuseMask);
void dropOut(const Arg& dst, const Arg& src, const Arg& mask, const Arg* tmp, float keepProb,
             uint32_t mode, uint32_t first, uint32_t srcLast, uint32_t maskLast);

// ---------------------------------------------------------------------------------- rearrangement
constexpr int64_t kSkip = -1;  // leave the destination element as it is
constexpr int64_t kFill = -2;  // the destination element becomes `fill`
struct Move {
  const char* steps = "y";
  const Arg* tmp = nullptr;
  uint64_t tmpBytes = 0;
  uint32_t fill = 0;  // bits of the element
  bool overlap = false;
};
// dst element k becomes src element map[k].
void rearrange(const Arg& dst, const Arg& src, const std::vector<int64_t>& map, const Move& how);
// The maps of Transpose (type 1 to 7) and TransData.
std::vector<int64_t> transposeMap(uint32_t type, uint32_t b, uint32_t n, uint32_t s, uint32_t hn);
enum class TransDataKind : uint8_t { ToNdc1hwc0, FromNdc1hwc0, ToFractalZ3d, FromFractalZ3d };
std::vector<int64_t> transDataMap(TransDataKind kind, uint32_t n, uint32_t c, uint32_t d,
                                  uint32_t h, uint32_t w, uint64_t* srcElements);
uint64_t transDataTmp(TransDataKind kind, uint32_t n, uint32_t c, uint32_t d, uint32_t h,
                      uint32_t w, uint32_t typeSize);
uint32_t padTmp(uint32_t width, uint32_t typeSize);
void arange(const Arg& dst, double first, double diff, uint32_t n);
void fillGlobal(const Place& gm, uint64_t elements, uint64_t bits, DType type);

// ------------------------------------------------------------------------------------------- TopK
struct TopkCall {
  uint32_t outer, inner, n, k;
  bool small, initIndex, hasFinish, largest;
  const Arg* tmp;
  uint64_t tmpBytes;
};
void topk(const Arg& dstValue, const Arg& dstIndex, const Arg& src, const Arg& srcIndex,
          const Arg& finish, const TopkCall& c);
uint32_t topkTmp(uint32_t inner, uint32_t outer, uint32_t typeSize, bool small, bool initIndex,
                 bool largest, bool reuse);

}  // namespace ascsim::adv
