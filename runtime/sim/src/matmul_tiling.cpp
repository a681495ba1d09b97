// MatmulApiTiling and its relatives: settings, limits, and the tiling as a whole.
#include "ascsim/matmul_tiling.h"

#include <algorithm>
#include <cstdio>

#include "ascsim/core.h"
#include "matmul_cuts.h"

namespace matmul_tiling {

int64_t refused(const char* why) {
  std::fprintf(stderr, "[ascsim] GetTiling returns -1: %s\n", why);
  return -1;
}

namespace {

uint64_t sizeOf(const platform_ascendc::PlatformAscendC& p, platform_ascendc::CoreMemType t) {
  uint64_t v = 0;
  p.GetCoreMemSize(t, v);
  return v;
}

}  // namespace

MatmulApiTilingBase::MatmulApiTilingBase() {
  const ascsim::Chip& c = *ascsim::options().chip;
  chip_ = {c.l1, c.l0a, c.l0b, c.l0c, c.bt};
}

MatmulApiTilingBase::MatmulApiTilingBase(const platform_ascendc::PlatformAscendC& p)
    : MatmulApiTilingBase() {
  using M = platform_ascendc::CoreMemType;
  chip_.l1 = static_cast<int64_t>(sizeOf(p, M::L1));
  chip_.l0a = static_cast<int64_t>(sizeOf(p, M::L0_A));
  chip_.l0b = static_cast<int64_t>(sizeOf(p, M::L0_B));
  chip_.l0c = static_cast<int64_t>(sizeOf(p, M::L0_C));
}

MatmulApiTilingBase::MatmulApiTilingBase(const PlatformInfo& p) : MatmulApiTilingBase() {
  auto take = [](int64_t& to, uint64_t from) {
    if (from != 0) to = static_cast<int64_t>(from);
  };
  take(chip_.l1, p.l1Size);
  take(chip_.l0a, p.l0ASize);
  take(chip_.l0b, p.l0BSize);
  take(chip_.l0c, p.l0CSize);
}

int MatmulApiTilingBase::bits(DataType t) const {
  switch (t) {
    case DataType::DT_FLOAT:
    case DataType::DT_INT32:
    case DataType::DT_UINT32:
      return 32;
    case DataType::DT_FLOAT16:
    case DataType::DT_BF16:
    case DataType::DT_BFLOAT16:
    case DataType::DT_INT16:
    case DataType::DT_UINT16:
      return 16;
    case DataType::DT_INT4:
    case DataType::DT_FLOAT4_E2M1:
    case DataType::DT_FLOAT4_E1M2:
      return 4;
    default:
      return 8;
  }
}

int32_t MatmulApiTilingBase::SetAType(TPosition pos, CubeFormat type, DataType dataType,
                                      bool isTrans) {
  a_ = {pos, type, dataType, isTrans};
  return 0;
}
int32_t MatmulApiTilingBase::SetBType(TPosition pos, CubeFormat type, DataType dataType,
                                      bool isTrans) {
  b_ = {pos, type, dataType, isTrans};
  return 0;
}
int32_t MatmulApiTilingBase::SetCType(TPosition pos, CubeFormat type, DataType dataType) {
  c_ = {pos, type, dataType, false};
  return 0;
}
int32_t MatmulApiTilingBase::SetBiasType(TPosition pos, CubeFormat type, DataType dataType) {
  bias_ = {pos, type, dataType, false};
  return 0;
}
int32_t MatmulApiTilingBase::SetScaleAType(TPosition, CubeFormat, bool) {
  return static_cast<int32_t>(refused("SetScaleAType is of the 950"));
}
int32_t MatmulApiTilingBase::SetScaleBType(TPosition, CubeFormat, bool) {
  return static_cast<int32_t>(refused("SetScaleBType is of the 950"));
}
int32_t MatmulApiTilingBase::SetDequantType(DequantType) { return 0; }
int32_t MatmulApiTilingBase::SetShape(int32_t m, int32_t n, int32_t k) {
  m_ = m, n_ = n, k_ = k;
  return 0;
}
int32_t MatmulApiTilingBase::SetOrgShape(int32_t m, int32_t n, int32_t k) {
  return SetOrgShape(m, n, k, k);
}
int32_t MatmulApiTilingBase::SetOrgShape(int32_t m, int32_t n, int32_t ka, int32_t kb) {
  if (m <= 0 || n <= 0 || ka <= 0 || kb <= 0) return -1;
  orgM_ = m, orgN_ = n, orgKa_ = ka, orgKb_ = kb;
  return 0;
}
int32_t MatmulApiTilingBase::SetALayout(int32_t b, int32_t s, int32_t n, int32_t g, int32_t d) {
  result_.ALayoutInfoB = b, result_.ALayoutInfoS = s, result_.ALayoutInfoN = n,
  result_.ALayoutInfoG = g, result_.ALayoutInfoD = d;
  return 0;
}
int32_t MatmulApiTilingBase::SetBLayout(int32_t b, int32_t s, int32_t n, int32_t g, int32_t d) {
  result_.BLayoutInfoB = b, result_.BLayoutInfoS = s, result_.BLayoutInfoN = n,
  result_.BLayoutInfoG = g, result_.BLayoutInfoD = d;
  return 0;
}
int32_t MatmulApiTilingBase::SetCLayout(int32_t b, int32_t s, int32_t n, int32_t g, int32_t d) {
  result_.CLayoutInfoB = b, result_.CLayoutInfoS1 = s, result_.CLayoutInfoN = n,
  result_.CLayoutInfoG = g, result_.CLayoutInfoS2 = d;
  return 0;
}
int32_t MatmulApiTilingBase::SetBatchInfoForNormal(int32_t batchA, int32_t batchB, int32_t m,
                                                   int32_t n, int32_t k) {
  if (batchA <= 0 || batchB <= 0 || m <= 0 || n <= 0 || k <= 0) return -1;
  SetALayout(batchA, m, 1, 1, k);
  SetBLayout(batchB, n, 1, 1, k);
  return SetCLayout(std::max(batchA, batchB), m, 1, 1, n);
}
int32_t MatmulApiTilingBase::SetBatchNum(int32_t batch) {
  if (batch <= 0) return -1;
  result_.BatchNum = batch;
  return 0;
}
int32_t MatmulApiTilingBase::EnableBias(bool on) {
  hasBias_ = on;
  return 0;
}
int32_t MatmulApiTilingBase::SetFixSplit(int32_t m, int32_t n, int32_t k) {
  for (const int32_t v : {m, n})
    if (v != -1 && (v <= 0 || v % 16 != 0))
      return static_cast<int32_t>(refused("SetFixSplit takes multiples of 16, or -1"));
  fixM_ = m, fixN_ = n, fixK_ = k;
  return 0;
}
int32_t MatmulApiTilingBase::SetBufferSpace(int32_t l1Size, int32_t l0CSize, int32_t ubSize,
                                            int32_t btSize) {
  l1_ = l1Size, l0c_ = l0CSize, ub_ = ubSize, bt_ = btSize;
  return 0;
}
int32_t MatmulApiTilingBase::SetTraverse(MatrixTraverse t) {
  traverse_ = t;
  return 0;
}
int32_t MatmulApiTilingBase::SetMadType(MatrixMadType t) {
  if (t == MatrixMadType::MXMODE)
    return static_cast<int32_t>(refused("MatrixMadType::MXMODE is of the 950"));
  mad_ = t;
  return 0;
}
int32_t MatmulApiTilingBase::SetSplitRange(int32_t maxBaseM, int32_t maxBaseN, int32_t maxBaseK,
                                           int32_t minBaseM, int32_t minBaseN, int32_t minBaseK) {
  maxBaseM_ = maxBaseM, maxBaseN_ = maxBaseN, maxBaseK_ = maxBaseK;
  minBaseM_ = minBaseM, minBaseN_ = minBaseN, minBaseK_ = minBaseK;
  return 0;
}
int32_t MatmulApiTilingBase::SetDoubleBuffer(bool, bool, bool, bool, bool, bool) { return 0; }
void MatmulApiTilingBase::SetMatmulConfigParams(int32_t, bool, ScheduleType schedule,
                                                MatrixTraverse traverse, bool) {
  schedule_ = schedule;
  if (traverse != MatrixTraverse::NOSET) traverse_ = traverse;
}
void MatmulApiTilingBase::SetMatmulConfigParams(const MatmulConfigParams& p) {
  SetMatmulConfigParams(p.mmConfigType, p.enableL1CacheUB, p.scheduleType, p.traverse,
                        p.enVecND2NZ);
}
int32_t MatmulApiTilingBase::SetSparse(bool on) {
  sparse_ = on;
  return 0;
}

MatmulApiTilingBase::Limits MatmulApiTilingBase::limits() const {
  Limits l = chip_;
  if (l1_ >= 0) l.l1 = std::min<int64_t>(l.l1, l1_);
  if (l0c_ >= 0) l.l0c = std::min<int64_t>(l.l0c, l0c_);
  if (bt_ >= 0) l.bt = std::min<int64_t>(l.bt, bt_);
  return l;
}

int64_t MatmulApiTilingBase::GetTiling(AscendC::tiling::TCubeTiling& tiling) {
  if (m_ == -1) m_ = orgM_;
  if (n_ == -1) n_ = orgN_;
  if (k_ == -1) k_ = orgKa_;
  if (orgM_ == 0) orgM_ = m_;
  if (orgN_ == 0) orgN_ = n_;
  if (orgKa_ == 0) orgKa_ = k_;
  if (orgKb_ == 0) orgKb_ = k_;
  if (m_ <= 0 || n_ <= 0 || k_ <= 0) return refused("SetShape and SetOrgShape give no M, N and K");
  if (splitK_ && hasBias_)
    return refused("a product split along K has no bias (EnableMultiCoreSplitK)");
  result_.M = orgM_, result_.N = orgN_, result_.Ka = orgKa_, result_.Kb = orgKb_;
  if (!cutCores()) return -1;
  if (schedule_ == ScheduleType::N_BUFFER_33 && multi_ && singleM_ <= 0) {
    // At most three blocks of 128 rows per core.
    const int32_t most = 3 * (fixM_ > 0 ? fixM_ : 128);
    const int32_t mParts = std::max(1, ceilDiv(m_, most));
    if (mParts > dim_) return refused("N_BUFFER_33 needs more cores for this M");
    int32_t parts = mParts;
    while (parts * 2 <= dim_ && ceilDiv(m_, parts * 2) >= 128 &&
           ceilDiv(n_, dim_ / (parts * 2)) > 0)
      parts *= 2;
    parts = mParts;
    const int32_t nParts = std::max(1, std::min(dim_ / parts, ceilDiv(n_, 256)));
    result_.singleCoreM = std::min(m_, alignUp(ceilDiv(m_, parts), 16));
    result_.singleCoreN = std::min(n_, alignUp(ceilDiv(n_, nParts), std::max(16, c0(b_.dataType))));
    result_.usedCoreNum = ceilDiv(m_, result_.singleCoreM) * ceilDiv(n_, result_.singleCoreN);
  }
  if (!cutBase() || !cutL1()) return -1;
  // With all of K of one operand resident, staying on its block saves loading it again.
  const int32_t steps = ceilDiv(result_.singleCoreK, result_.baseK);
  const bool fullA = result_.stepKa >= steps, fullB = result_.stepKb >= steps;
  if (traverse_ != MatrixTraverse::NOSET) {
    result_.iterateOrder = traverse_ == MatrixTraverse::FIRSTN ? 1 : 0;
  } else if (fullA && fullB) {
    const int64_t m = result_.singleCoreM, n = result_.singleCoreN;
    const int64_t mLoop = ceilDiv(result_.singleCoreM, result_.baseM),
                  nLoop = ceilDiv(result_.singleCoreN, result_.baseN);
    result_.iterateOrder = m + n * mLoop < n + m * nLoop ? 1 : 0;
  } else {
    result_.iterateOrder = fullA ? 1 : 0;
  }
  result_.isBias = hasBias_ ? 1 : 0;
  result_.transLength = 0;
  result_.shareMode = 0;
  const int64_t a = static_cast<int64_t>(result_.baseM) * result_.baseK * bits(a_.dataType) / 8,
                b = static_cast<int64_t>(result_.baseN) * result_.baseK * bits(b_.dataType) / 8;
  result_.shareL1Size =
      static_cast<int32_t>((a_.pos == TPosition::TSCM ? 0 : a * result_.depthA1) +
                           (b_.pos == TPosition::TSCM ? 0 : b * result_.depthB1) +
                           (hasBias_ ? result_.baseN * bits(bias_.dataType) / 8 : 0));
  result_.shareL0CSize = result_.baseM * result_.baseN * 4 * result_.dbL0C;
  result_.shareUbSize = 0;
  result_.batchM = batchM_, result_.batchN = batchN_, result_.singleBatchM = singleBatchM_,
  result_.singleBatchN = singleBatchN_;
  tiling = result_;
  return 0;
}

int32_t MultiCoreMatmulTiling::SetDim(int32_t dim) {
  if (dim <= 0) return -1;
  dim_ = dim;
  return 0;
}
int32_t MultiCoreMatmulTiling::SetSingleShape(int32_t m, int32_t n, int32_t k) {
  singleM_ = m, singleN_ = n, singleK_ = k;
  return 0;
}
int32_t MultiCoreMatmulTiling::SetSingleRange(int32_t maxM, int32_t maxN, int32_t maxK,
                                              int32_t minM, int32_t minN, int32_t minK) {
  maxM_ = maxM, maxN_ = maxN, maxK_ = maxK, minM_ = minM, minN_ = minN, minK_ = minK;
  return 0;
}
int32_t MultiCoreMatmulTiling::SetAlignSplit(int32_t m, int32_t n, int32_t k) {
  alignM_ = m, alignN_ = n, alignK_ = k;
  return 0;
}
int32_t MultiCoreMatmulTiling::GetSingleShape(int32_t& m, int32_t& n, int32_t& k) {
  m = result_.singleCoreM, n = result_.singleCoreN, k = result_.singleCoreK;
  return m > 0 ? 0 : -1;
}
int32_t MultiCoreMatmulTiling::GetCoreNum(int32_t& dim, int32_t& mDim, int32_t& nDim) {
  if (result_.singleCoreM <= 0) return -1;
  dim = result_.usedCoreNum;
  mDim = ceilDiv(m_, result_.singleCoreM);
  nDim = ceilDiv(n_, result_.singleCoreN);
  return 0;
}

int32_t BatchMatmulTiling::SetSingleShape(int32_t m, int32_t n, int32_t k) {
  singleM_ = m, singleN_ = n, singleK_ = k;
  return 0;
}
int32_t BatchMatmulTiling::SetBatch(int32_t m, int32_t n) {
  batchM_ = m, batchN_ = n;
  return 0;
}
int32_t BatchMatmulTiling::SetSingleBatch(int32_t m, int32_t n) {
  if (m > 0) singleBatchM_ = m;
  if (n > 0) singleBatchN_ = n;
  return 0;
}
int32_t BatchMatmulTiling::GetCoreNum(int32_t& dim, int32_t& mDim, int32_t& nDim,
                                      int32_t& batchCoreM, int32_t& batchCoreN) {
  if (result_.singleCoreM <= 0) return -1;
  dim = result_.usedCoreNum;
  mDim = ceilDiv(result_.M, result_.singleCoreM);
  nDim = ceilDiv(result_.N, result_.singleCoreN);
  batchCoreM = ceilDiv(batchM_, singleBatchM_);
  batchCoreN = ceilDiv(batchN_, singleBatchN_);
  return 0;
}

}  // namespace matmul_tiling

int32_t MatmulGetTmpBufSizeV2(AscendC::tiling::TCubeTiling& t,
                              matmul_tiling::SysTilingTempBufSize& size) {
  size.l1Size = std::max(size.l1Size, t.shareL1Size);
  size.l0cSize = std::max(size.l0cSize, t.shareL0CSize);
  size.ubSize = std::max(size.ubSize, std::max(t.shareUbSize, 2 * t.transLength));
  return 0;
}
int32_t MatmulGetTmpBufSize(optiling::TCubeTiling& t, matmul_tiling::SysTilingTempBufSize& size) {
  return MatmulGetTmpBufSizeV2(t, size);
}
int32_t MultiCoreMatmulGetTmpBufSize(optiling::TCubeTiling& t,
                                     matmul_tiling::SysTilingTempBufSize& size) {
  return MatmulGetTmpBufSizeV2(t, size);
}
int32_t MultiCoreMatmulGetTmpBufSizeV2(AscendC::tiling::TCubeTiling& t,
                                       matmul_tiling::SysTilingTempBufSize& size) {
  return MatmulGetTmpBufSizeV2(t, size);
}
int32_t BatchMatmulGetTmpBufSize(optiling::TCubeTiling& t,
                                 matmul_tiling::SysTilingTempBufSize& size) {
  return MatmulGetTmpBufSizeV2(t, size);
}
int32_t BatchMatmulGetTmpBufSizeV2(AscendC::tiling::TCubeTiling& t,
                                   matmul_tiling::SysTilingTempBufSize& size) {
  return MatmulGetTmpBufSizeV2(t, size);
}
