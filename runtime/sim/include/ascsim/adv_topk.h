// High-level API, TopK (docs: SIMD-API, high-level API, sorting).
#pragma once
#include "ascsim/adv_misc_impl.h"
#include "ascsim/adv_tilingdata.h"
#include "ascsim/adv_topk_types.h"

namespace AscendC {

namespace detail {
template <class T, bool isInitIndex, bool isHasfinish, bool isReuseSrc, TopKMode mode>
void topkCall(const LocalTensor<T>& dstValue, const LocalTensor<int32_t>& dstIndex,
              const LocalTensor<T>& src, const LocalTensor<int32_t>& srcIndex,
              const LocalTensor<bool>& finish, const ascsim::adv::Tmp& tmp, int32_t k,
              const TopKInfo& info, bool largest, const TopKConfig& config, const Loc& loc) {
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>>,
                "TopK: half and float are supported on this chip");
  ascsim::Api api("TopK", loc);
  if (ascsim::isAic()) return;
  if (config.algo != TopKAlgo::MERGE_SORT)
    ascsim::fail(ascsim::kChip, "TopKAlgo::RADIX_SELECT is not supported on this chip");
  if (config.order != TopKOrder::UNSET) largest = config.order == TopKOrder::LARGEST;
  ascsim::adv::TopkCall c;
  c.outer = static_cast<uint32_t>(info.outter);
  c.inner = static_cast<uint32_t>(info.inner);
  c.n = static_cast<uint32_t>(info.n);
  c.k = static_cast<uint32_t>(k);
  c.small = mode == TopKMode::TOPK_NSMALL;
  c.initIndex = isInitIndex;
  c.hasFinish = isHasfinish;
  c.largest = largest;
  c.tmp = tmp.get();
  c.tmpBytes = ascsim::adv::topkTmp(c.inner, c.outer, sizeof(PrimT<T>), c.small, isInitIndex,
                                    largest, isReuseSrc);
  ascsim::adv::topk(ascsim::adv::arg(dstValue), ascsim::adv::arg(dstIndex), ascsim::adv::arg(src),
                    ascsim::adv::arg(srcIndex), ascsim::adv::arg(finish), c);
}
}  // namespace detail

template <class T, bool isInitIndex = false, bool isHasfinish = false, bool isReuseSrc = false,
          enum TopKMode topkMode = TopKMode::TOPK_NORMAL,
          const TopKConfig& config = defaultTopKConfig>
void TopK(const LocalTensor<T>& dstValueLocal, const LocalTensor<int32_t>& dstIndexLocal,
          const LocalTensor<T>& srcLocal, const LocalTensor<int32_t>& srcIndexLocal,
          const LocalTensor<bool>& finishLocal, const int32_t k, const TopkTiling&,
          const TopKInfo& topKInfo, const bool isLargest = true, Loc loc = Loc::current()) {
  detail::topkCall<T, isInitIndex, isHasfinish, isReuseSrc, topkMode>(
      dstValueLocal, dstIndexLocal, srcLocal, srcIndexLocal, finishLocal, {}, k, topKInfo,
      isLargest, config, loc);
}
template <class T, bool isInitIndex = false, bool isHasfinish = false, bool isReuseSrc = false,
          enum TopKMode topkMode = TopKMode::TOPK_NORMAL,
          const TopKConfig& config = defaultTopKConfig>
void TopK(const LocalTensor<T>& dstValueLocal, const LocalTensor<int32_t>& dstIndexLocal,
          const LocalTensor<T>& srcLocal, const LocalTensor<int32_t>& srcIndexLocal,
          const LocalTensor<bool>& finishLocal, const LocalTensor<uint8_t>& tmpLocal,
          const int32_t k, const TopkTiling&, const TopKInfo& topKInfo, const bool isLargest = true,
          Loc loc = Loc::current()) {
  detail::topkCall<T, isInitIndex, isHasfinish, isReuseSrc, topkMode>(
      dstValueLocal, dstIndexLocal, srcLocal, srcIndexLocal, finishLocal, tmpLocal, k, topKInfo,
      isLargest, config, loc);
}

}  // namespace AscendC
