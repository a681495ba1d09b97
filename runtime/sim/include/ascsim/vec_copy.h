// Copy within UB by the vector pipe, Interleave and DeInterleave (docs: basic API, data movement;
// data rearrangement).
#pragma once
#include "ascsim/vec_mask.h"

namespace AscendC {

struct CopyRepeatParams {
  CopyRepeatParams() = default;
  CopyRepeatParams(const uint16_t dstStrideIn, const uint16_t srcStrideIn, uint16_t dstRepeatSizeIn,
                   uint16_t srcRepeatSizeIn)
      : dstStride(dstStrideIn),
        srcStride(srcStrideIn),
        dstRepeatSize(dstRepeatSizeIn),
        srcRepeatSize(srcRepeatSizeIn) {}
  uint16_t dstStride = 1;
  uint16_t srcStride = 1;
  uint16_t dstRepeatSize = DEFAULT_REPEAT_STRIDE;
  uint16_t srcRepeatSize = DEFAULT_REPEAT_STRIDE;
};

}  // namespace AscendC

namespace ascsim {

// In counter mode the mask is the elements of each repeat, and the repeats count.
void copyCounted(const Place& dst, const Place& src, uint64_t perRepeat, uint32_t repeats,
                 uint32_t elementBytes, const AscendC::CopyRepeatParams& params);
void copyLanes(const Place& dst, const Place& src, const Lanes& lanes, uint32_t elementBytes,
               const AscendC::CopyRepeatParams& params);
void interleave(const Place& dst0, const Place& dst1, const Place& src0, const Place& src1,
                uint64_t count, uint32_t elementBytes);
// Without src1 the one source has both halves.
void deinterleave(const Place& dst0, const Place& dst1, const Place& src0, const Place* src1,
                  uint64_t count, uint32_t elementBytes);

template <bool isSetMask, class T, class M>
void copyCall(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src, M mask,
              uint32_t repeats, const AscendC::CopyRepeatParams& params, const Loc& loc) {
  using P = AscendC::PrimT<T>;
  static_assert(isOneOf<P, int16_t, uint16_t, half, bfloat16_t, int32_t, uint32_t, float>,
                "Copy takes 16-bit and 32-bit types on this chip; use ReinterpretCast");
  Api api("Copy", loc);
  if (isAic()) return;
  checkRange("dstRepeatSize", params.dstRepeatSize, 0, 4095);
  checkRange("srcRepeatSize", params.srcRepeatSize, 0, 4095);
  if (core().maskCounter) {
    if constexpr (isSetMask) lanesFor(true, mask, 1, sizeof(P));  // sets the register
    copyCounted(dst.place(), src.place(), core().mask[0], repeats, sizeof(P), params);
  } else {
    copyLanes(dst.place(), src.place(), lanesFor(isSetMask, mask, repeats, sizeof(P)), sizeof(P),
              params);
  }
}

}  // namespace ascsim

namespace AscendC {

template <typename T, bool isSetMask = true>
void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint64_t mask[],
          const uint8_t repeatTime, const CopyRepeatParams& repeatParams,
          Loc loc = Loc::current()) {
  ascsim::copyCall<isSetMask>(dst, src, mask, repeatTime, repeatParams, loc);
}
template <typename T, bool isSetMask = true>
void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint64_t mask,
          const uint8_t repeatTime, const CopyRepeatParams& repeatParams,
          Loc loc = Loc::current()) {
  ascsim::copyCall<isSetMask>(dst, src, static_cast<int64_t>(mask), repeatTime, repeatParams, loc);
}
// Of the 950 only.
template <typename T, bool isSetMask = true>
void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,
          Loc loc = Loc::current()) {
  ascsim::Api api("Copy", loc);
  if (ascsim::isAic()) return;
  ascsim::needArch(3510, "use DataCopy(dst, src, count), or Copy with mask and repeats");
  CopyRepeatParams params;
  ascsim::copyCounted(dst.place(), src.place(), count, 1, sizeof(PrimT<T>), params);
}

// Of the 950 only.
template <typename T>
void Interleave(const LocalTensor<T>& dst0, const LocalTensor<T>& dst1, const LocalTensor<T>& src0,
                const LocalTensor<T>& src1, const int32_t count, Loc loc = Loc::current()) {
  ascsim::Api api("Interleave", loc);
  if (ascsim::isAic()) return;
  ascsim::needArch(3510, "use TransDataTo5HD or Gather");
  ascsim::checkRange("count", count, 0, 0x7fffffff);
  ascsim::interleave(dst0.place(), dst1.place(), src0.place(), src1.place(),
                     static_cast<uint64_t>(std::max(count, 0)), sizeof(PrimT<T>));
}
template <typename T>
void DeInterleave(const LocalTensor<T>& dst0, const LocalTensor<T>& dst1,
                  const LocalTensor<T>& src0, const LocalTensor<T>& src1, const int32_t count,
                  Loc loc = Loc::current()) {
  ascsim::Api api("DeInterleave", loc);
  if (ascsim::isAic()) return;
  ascsim::needArch(3510, "use GatherMask with the fixed patterns 1 and 2");
  ascsim::checkRange("count", count, 0, 0x7fffffff);
  const ascsim::Place second = src1.place();
  ascsim::deinterleave(dst0.place(), dst1.place(), src0.place(), &second,
                       static_cast<uint64_t>(std::max(count, 0)), sizeof(PrimT<T>));
}
template <typename T>
void DeInterleave(const LocalTensor<T>& dst0, const LocalTensor<T>& dst1, const LocalTensor<T>& src,
                  const int32_t srcCount, Loc loc = Loc::current()) {
  ascsim::Api api("DeInterleave", loc);
  if (ascsim::isAic()) return;
  ascsim::needArch(3510, "use GatherMask with the fixed patterns 1 and 2");
  ascsim::checkRange("srcCount", srcCount, 0, 0x7fffffff);
  ascsim::deinterleave(dst0.place(), dst1.place(), src.place(), nullptr,
                       static_cast<uint64_t>(std::max(srcCount, 0)), sizeof(PrimT<T>));
}

// Filling within blocks, of the inference chips only.
template <typename T, bool isSetMask = true, class... Args>
void VectorPadding(const LocalTensor<T>&, const LocalTensor<T>&, Args&&...) {
  static_assert(
      ascsim::dependentFalse<T>,
      "VectorPadding exists on the inference chips only; here use Duplicate, Select or Gather");
}

}  // namespace AscendC
