// How MatmulApiTiling cuts a product: among the cores, into base blocks, into L1.
#include "matmul_cuts.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ascsim/core.h"
#include "ascsim/matmul_tiling.h"

namespace matmul_tiling {

// Which part of M, N and K a core takes. Good cuts load few bytes; among equals
// the more even ones, then those that keep the cores off each other's rows and columns.
bool MatmulApiTilingBase::cutCores() {
  result_.singleCoreM = singleM_ > 0 ? singleM_ : m_;
  result_.singleCoreN = singleN_ > 0 ? singleN_ : n_;
  result_.singleCoreK = singleK_ > 0 ? singleK_ : k_;
  result_.usedCoreNum = 1;
  if (!multi_) return true;
  if (singleM_ > 0 || singleN_ > 0 || singleK_ > 0) {
    const int64_t cores = static_cast<int64_t>(ceilDiv(m_, result_.singleCoreM)) *
                          ceilDiv(n_, result_.singleCoreN) *
                          (splitK_ ? ceilDiv(k_, result_.singleCoreK) : 1);
    // A core may work through more than one part; the program decides.
    result_.usedCoreNum = static_cast<int32_t>(std::min<int64_t>(cores, dim_));
    return true;
  }
  if (dim_ <= 1 && maxM_ <= 0 && maxN_ <= 0) return true;

  const int32_t baseM = fixM_ > 0 ? fixM_ : a_.isTrans && b_.isTrans ? 256 : 128;
  const int32_t baseN = fixN_ > 0 ? fixN_ : a_.isTrans && b_.isTrans ? 128 : 256;
  const int32_t unitM =
      std::max({16, alignM_, a_.isTrans || a_.type == CubeFormat::NZ ? c0(a_.dataType) : 16});
  const int32_t unitN = std::max({16, alignN_, b_.isTrans ? 16 : c0(b_.dataType),
                                  c_.type == CubeFormat::NZ ? c0(c_.dataType) : 16});
  const int32_t unitK = std::max({std::max(c0(a_.dataType), c0(b_.dataType)), alignK_, 16});
  struct Cut {
    int32_t m, n, k, cores;
    double load, work, spread;
  };
  std::vector<Cut> cuts;
  const bool large = m_ >= 128 && static_cast<double>(m_) * n_ > 0.8 * 128 * 256 * dim_;
  for (int32_t md = 1; md <= dim_; ++md)
    for (int32_t nd = 1; nd * md <= dim_; ++nd)
      for (int32_t kd = 1; kd * nd * md <= dim_; ++kd) {
        if (kd > 1 && !splitK_) break;
        // A matrix that the program keeps in L1 is there as a whole.
        if ((a_.pos == TPosition::TSCM && md > 1) || (b_.pos == TPosition::TSCM && nd > 1))
          continue;
        // A side of one base block stays whole if the other one gives every core at least 128.
        if (!large && !splitK_ && m_ <= 128 && n_ >= 128 * dim_ && (md != 1 || nd != dim_))
          continue;
        if (!large && !splitK_ && n_ <= 256 && m_ >= 128 * dim_ && m_ > 128 &&
            (nd != 1 || md != dim_))
          continue;
        // A large product keeps every core busy; a small one may do with fewer.
        if (large && !splitK_ && md * nd != dim_ && a_.pos != TPosition::TSCM &&
            b_.pos != TPosition::TSCM)
          continue;
        Cut c{md == 1 ? m_ : alignUp(ceilDiv(m_, md), unitM),
              nd == 1 ? n_ : alignUp(ceilDiv(n_, nd), unitN),
              kd == 1 ? k_ : alignUp(ceilDiv(k_, kd), unitK),
              0,
              0,
              0,
              0};
        if ((maxM_ > 0 && c.m > maxM_) || (maxN_ > 0 && c.n > maxN_) ||
            (splitK_ && maxK_ > 0 && c.k > maxK_))
          continue;
        if ((minM_ > 0 && c.m < minM_) || (minN_ > 0 && c.n < minN_) ||
            (splitK_ && minK_ > 0 && c.k < minK_))
          continue;
        c.m = std::min(c.m, alignUp(m_, 16)), c.n = std::min(c.n, alignUp(n_, 16));
        if (c.m > m_) c.m = m_;
        if (c.n > n_) c.n = n_;
        if (c.k > k_) c.k = k_;
        const int32_t mParts = ceilDiv(m_, c.m), nParts = ceilDiv(n_, c.n),
                      kParts = ceilDiv(k_, c.k);
        c.cores = mParts * nParts * kParts;
        if (c.cores > dim_) continue;
        // Programs that add up parts of K count on equal ones.
        if (kParts > 1 && k_ % unitK == 0 && k_ % c.k != 0) continue;
        const double m = c.m, n = c.n;
        double bytesA = m * std::ceil(n / baseN) * bits(a_.dataType),
               bytesB = n * std::ceil(m / baseM) * bits(b_.dataType);
        // Cuts that lose the alignment of the rows in global memory cost more than their bytes.
        auto rows = [](int32_t part, int32_t all, int width) {
          return part < all && part * width / 8 % 512 != 0 && all * width / 8 % 512 == 0 ? 2.0
                                                                                         : 1.0;
        };
        if (a_.isTrans) bytesA *= rows(c.m, m_, bits(a_.dataType));
        if (!b_.isTrans) bytesB *= rows(c.n, n_, bits(b_.dataType));
        c.work = alignUp(c.m, 16) * static_cast<double>(alignUp(c.n, 16)) * c.k;
        c.load = (bytesA + bytesB) * c.k + (kParts > 1 ? m * n * 32 * 2 : 0);
        c.spread = static_cast<double>(mParts) * baseM + static_cast<double>(nParts) * baseN;
        cuts.push_back(c);
      }
  if (cuts.empty()) {
    refused("no cut of M, N and K satisfies SetDim, SetSingleRange and SetAlignSplit");
    return false;
  }
  const Cut best = *std::min_element(cuts.begin(), cuts.end(), [](const Cut& x, const Cut& y) {
    if (std::fabs(x.load - y.load) > 0.01 * std::max(x.load, y.load)) return x.load < y.load;
    if (std::fabs(x.work - y.work) > 0.01 * std::max(x.work, y.work)) return x.work < y.work;
    return x.spread < y.spread;
  });
  result_.singleCoreM = best.m;
  result_.singleCoreN = best.n;
  result_.singleCoreK = best.k;
  result_.usedCoreNum = best.cores;
  return true;
}

bool MatmulApiTilingBase::cutBase() {
  const Limits l = limits();
  const int32_t m16 = alignUp(result_.singleCoreM, 16),
                n16 = alignUp(result_.singleCoreN, std::max(16, std::min(c0(b_.dataType), 32)));
  const bool gemv = a_.type == CubeFormat::VECTOR;
  if (fixM_ > 0 && fixM_ > m16 && !gemv) {
    refused("the baseM of SetFixSplit is larger than the single-core M rounded up to 16");
    return false;
  }
  if (fixN_ > 0 && fixN_ > alignUp(result_.singleCoreN, std::max(16, c0(b_.dataType)))) {
    refused("the baseN of SetFixSplit is larger than the single-core N rounded up");
    return false;
  }
  const bool swap = a_.isTrans && b_.isTrans;
  int32_t bm = fixM_ > 0 ? fixM_ : std::min(m16, swap ? 256 : 128),
          bn = fixN_ > 0 ? fixN_ : std::min(n16, swap ? 128 : 256);
  auto range = [](int32_t v, int32_t low, int32_t high) {
    if (high > 0) v = std::min(v, std::max(16, alignDown(high, 16)));
    if (low > 0) v = std::max(v, alignUp(low, 16));
    return v;
  };
  if (fixM_ <= 0) bm = range(bm, minBaseM_, maxBaseM_);
  if (fixN_ <= 0) bn = range(bn, minBaseN_, maxBaseN_);
  if (hasBias_ && fixN_ <= 0)
    bn = std::min<int32_t>(bn, alignDown(static_cast<int32_t>(l.bt / 4), 16));
  const bool outer = schedule_ == ScheduleType::OUTER_PRODUCT;  // two results in L0C
  while (static_cast<int64_t>(bm) * bn * 4 * (outer ? 2 : 1) > l.l0c) {
    if (fixM_ > 0 && fixN_ > 0) {
      refused("the baseM x baseN of SetFixSplit does not fit L0C");
      return false;
    }
    int32_t& v = fixN_ > 0 || (fixM_ <= 0 && bm > bn) ? bm : bn;
    if (v <= 16) {
      refused("L0C is too small");
      return false;
    }
    v = alignDown(v / 2, 16);
  }
  const int32_t unit = std::max(16, std::max(c0(a_.dataType), c0(b_.dataType)));
  auto fits = [&](int32_t bk, int32_t db) {
    return static_cast<int64_t>(bm) * bk * bits(a_.dataType) / 8 * db <= l.l0a &&
           static_cast<int64_t>(bn) * bk * bits(b_.dataType) / 8 * db <= l.l0b;
  };
  const int32_t kAll = alignUp(result_.singleCoreK, unit);
  int32_t bk = unit;
  if (fixK_ > 0) {
    bk = fixK_;
    if (bk % unit != 0 && bk != alignUp(result_.singleCoreK, 8)) {
      refused("the baseK of SetFixSplit is not a multiple of a fractal");
      return false;
    }
  } else {
    int64_t most =
        std::min(l.l0a * 8 / bits(a_.dataType) / bm, l.l0b * 8 / bits(b_.dataType) / bn) / 2;
    bk = static_cast<int32_t>(std::min<int64_t>(kAll, std::max<int64_t>(unit, most / unit * unit)));
    // Even steps along K are better than a short last one.
    if (maxBaseK_ > 0) bk = std::max(unit, std::min(bk, alignDown(maxBaseK_, unit)));
    if (minBaseK_ > 0) bk = std::max(bk, alignUp(minBaseK_, unit));
    if (schedule_ == ScheduleType::N_BUFFER_33)
      bk = std::min(bk, std::max(unit, alignUp(ceilDiv(result_.singleCoreK, 3), unit)));
  }
  const int32_t db = fits(bk, 2) ? 2 : 1;
  if (!fits(bk, db)) {
    refused("the base block does not fit L0A or L0B");
    return false;
  }
  result_.baseM = baseM_ = bm;
  result_.baseN = baseN_ = bn;
  result_.baseK = baseK_ = bk;
  result_.dbL0A = result_.dbL0B = db;
  result_.dbL0C = static_cast<int64_t>(bm) * bn * 4 * 2 <= l.l0c ? 2 : 1;
  return true;
}

bool MatmulApiTilingBase::cutL1() {
  const Limits l = limits();
  const int32_t steps = ceilDiv(result_.singleCoreK, result_.baseK);
  const int64_t a = a_.pos == TPosition::TSCM ? 0
                                              : static_cast<int64_t>(result_.baseM) *
                                                    result_.baseK * bits(a_.dataType) / 8;
  const int64_t b = b_.pos == TPosition::TSCM ? 0
                                              : static_cast<int64_t>(result_.baseN) *
                                                    result_.baseK * bits(b_.dataType) / 8;
  // What lies in L1 already is taken from it.
  int64_t room =
      l.l1 - (hasBias_ ? static_cast<int64_t>(result_.baseN) * bits(bias_.dataType) / 8 : 0);
  if (a == 0)
    room -= static_cast<int64_t>(alignUp(result_.singleCoreM, 16)) *
            alignUp(result_.singleCoreK, c0(a_.dataType)) * bits(a_.dataType) / 8;
  if (b == 0)
    room -= static_cast<int64_t>(alignUp(result_.singleCoreN, 16)) *
            alignUp(result_.singleCoreK, c0(b_.dataType)) * bits(b_.dataType) / 8;
  if (room < a + b) {
    refused("one base block of A and one of B do not fit L1");
    return false;
  }
  result_.stepM = result_.stepN = 1;
  int32_t buffers = 2;
  if (schedule_ == ScheduleType::N_BUFFER_33) {
    result_.stepM = std::min(3, ceilDiv(result_.singleCoreM, result_.baseM));
    result_.stepKa = result_.stepKb = steps;
    result_.depthA1 = result_.stepM * steps;
    result_.depthB1 = 2 * steps;
    if (steps > 3 || ceilDiv(result_.singleCoreM, result_.baseM) > 3 ||
        result_.depthA1 * a + result_.depthB1 * b > room) {
      refused(
          "N_BUFFER_33 needs at most 3 x 3 base blocks of A per core, resident in L1 beside two "
          "columns of B");
      return false;
    }
    return true;
  }
  int64_t step = a + b == 0 ? steps : room / (2 * (a + b));
  if (step < 1) {
    step = 1;
    buffers = 1;
  }
  step = std::min<int64_t>(step, steps);
  result_.stepKa = result_.stepKb = static_cast<int32_t>(step);
  result_.depthA1 = result_.depthB1 = static_cast<int32_t>(step) * buffers;
  return true;
}

}  // namespace matmul_tiling
