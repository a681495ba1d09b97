// Gather, Gatherb, Scatter and GatherMask (docs: basic API, gather and scatter; compare and
// select).
#pragma once
#include "ascsim/vec_mask.h"

namespace AscendC {

struct GatherRepeatParams {
  GatherRepeatParams() = default;
  GatherRepeatParams(const uint8_t dstBlkStrideIn, const uint8_t dstRepStrideIn)
      : dstRepStride(dstRepStrideIn), dstBlkStride(dstBlkStrideIn) {}
  uint32_t blockNumber = DEFAULT_BLK_NUM;
  uint16_t dstRepStride = DEFAULT_REPEAT_STRIDE;
  uint8_t dstBlkStride = DEFAULT_BLK_STRIDE;
  uint8_t src0BlkStride = DEFAULT_BLK_STRIDE;
  uint8_t src1BlkStride = DEFAULT_BLK_STRIDE;
  uint8_t src0RepStride = DEFAULT_REPEAT_STRIDE;
  uint8_t src1RepStride = DEFAULT_REPEAT_STRIDE;
  bool repeatStrideMode = false;
  bool strideSizeMode = false;
};

enum class GatherMaskMode : uint8_t { VERSION_V1 = 0, VERSION_V2 = 1 };
constexpr GatherMaskMode defaultGatherMaskMode = GatherMaskMode::VERSION_V2;
constexpr GatherMaskMode defaultGahterMaskMode =
    defaultGatherMaskMode;  // spelled so by older callers

struct GatherMaskParams {
  GatherMaskParams() = default;
  GatherMaskParams(const uint8_t src0BlockStrideIn, const uint16_t repeatTimesIn,
                   const uint16_t src0RepeatStrideIn, const uint8_t src1RepeatStrideIn)
      : src0BlockStride(src0BlockStrideIn),
        repeatTimes(repeatTimesIn),
        src0RepeatStride(src0RepeatStrideIn),
        src1RepeatStride(src1RepeatStrideIn) {}
  uint8_t src0BlockStride = DEFAULT_BLK_STRIDE;
  uint16_t repeatTimes = 0;
  uint16_t src0RepeatStride = DEFAULT_REPEAT_STRIDE;
  uint8_t src1RepeatStride = DEFAULT_REPEAT_STRIDE;
};

}  // namespace AscendC

namespace ascsim {

// dst lane = the source element `base + offset` bytes into src; the offsets are consumed densely.
void gatherElements(const Place& dst, const Place& src, const Place& offsets, uint32_t base,
                    const Lanes& lanes, uint32_t elementBytes, uint32_t dstRepStride);
void scatterElements(const Place& dst, const Place& src, const Place& offsets, uint32_t base,
                     const Lanes& lanes, uint32_t elementBytes, uint32_t srcRepStride);
void gatherBlocks(const Place& dst, const Place& src, const Place& offsets, uint32_t repeats,
                  uint32_t elementBytes, const AscendC::GatherRepeatParams& params);
// patterns: the bits that select, or nullptr and the number of a fixed pattern. Returns how many.
uint64_t gatherMask(const Place& dst, const Place& src, const Place* patterns,
                    uint32_t fixedPattern, bool counter, uint32_t mask,
                    const AscendC::GatherMaskParams& params, uint32_t elementBytes);

template <class T>
constexpr void gatherType() {
  static_assert(
      isOneOf<AscendC::PrimT<T>, int16_t, uint16_t, half, bfloat16_t, int32_t, uint32_t, float>,
      "this gather takes 16-bit and 32-bit types on this chip");
}

}  // namespace ascsim

namespace AscendC {

template <typename T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src,
            const LocalTensor<uint32_t>& srcOffset, const uint32_t srcBaseAddr,
            const uint32_t count, Loc loc = Loc::current()) {
  ascsim::gatherType<T>();
  ascsim::Api api("Gather", loc);
  if (ascsim::isAic()) return;
  constexpr uint32_t size = sizeof(PrimT<T>);
  ascsim::gatherElements(dst.place(), src.place(), srcOffset.place(), srcBaseAddr,
                         ascsim::lanesForCount(true, count, size), size, 8);
}
template <typename T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src,
            const LocalTensor<uint32_t>& srcOffset, const uint32_t srcBaseAddr, const uint64_t mask,
            const uint8_t repeatTime, const uint16_t dstRepStride, Loc loc = Loc::current()) {
  ascsim::gatherType<T>();
  ascsim::Api api("Gather", loc);
  if (ascsim::isAic()) return;
  constexpr uint32_t size = sizeof(PrimT<T>);
  ascsim::gatherElements(dst.place(), src.place(), srcOffset.place(), srcBaseAddr,
                         ascsim::lanesFor(true, static_cast<int64_t>(mask), repeatTime, size), size,
                         dstRepStride);
}
template <typename T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src,
            const LocalTensor<uint32_t>& srcOffset, const uint32_t srcBaseAddr,
            const uint64_t mask[], const uint8_t repeatTime, const uint16_t dstRepStride,
            Loc loc = Loc::current()) {
  ascsim::gatherType<T>();
  ascsim::Api api("Gather", loc);
  if (ascsim::isAic()) return;
  constexpr uint32_t size = sizeof(PrimT<T>);
  ascsim::gatherElements(dst.place(), src.place(), srcOffset.place(), srcBaseAddr,
                         ascsim::lanesFor(true, mask, repeatTime, size), size, dstRepStride);
}

template <typename T>
void Gatherb(const LocalTensor<T>& dst, const LocalTensor<T>& src,
             const LocalTensor<uint32_t>& offset, const uint8_t repeatTime,
             const GatherRepeatParams& repeatParams, Loc loc = Loc::current()) {
  static_assert(ascsim::isOneOf<PrimT<T>, uint16_t, uint32_t>,
                "Gatherb takes uint16_t or uint32_t on this chip; use ReinterpretCast");
  ascsim::Api api("Gatherb", loc);
  if (ascsim::isAic()) return;
  ascsim::gatherBlocks(dst.place(), src.place(), offset.place(), repeatTime, sizeof(PrimT<T>),
                       repeatParams);
}

// Not on A2 and A3; on the 950.
template <typename T>
void Scatter(const LocalTensor<T>& dst, const LocalTensor<T>& src,
             const LocalTensor<uint32_t>& dstOffset, const uint32_t dstBaseAddr,
             const uint32_t count, Loc loc = Loc::current()) {
  ascsim::Api api("Scatter", loc);
  if (ascsim::isAic()) return;
  ascsim::needArch(3510, "write the elements with SetValue, or gather by the inverse permutation");
  constexpr uint32_t size = sizeof(PrimT<T>);
  ascsim::scatterElements(dst.place(), src.place(), dstOffset.place(), dstBaseAddr,
                          ascsim::lanesForCount(true, count, size), size, 8);
}
template <typename T>
void Scatter(const LocalTensor<T>& dst, const LocalTensor<T>& src,
             const LocalTensor<uint32_t>& dstOffset, const uint32_t dstBaseAddr,
             const uint64_t mask, const uint8_t repeatTime, const uint8_t srcRepStride,
             Loc loc = Loc::current()) {
  static_assert(sizeof(PrimT<T>) > 1, "Scatter by mask and repeat takes types of 16 bits and more");
  ascsim::Api api("Scatter", loc);
  if (ascsim::isAic()) return;
  ascsim::needArch(3510, "write the elements with SetValue, or gather by the inverse permutation");
  constexpr uint32_t size = sizeof(PrimT<T>);
  ascsim::scatterElements(dst.place(), src.place(), dstOffset.place(), dstBaseAddr,
                          ascsim::lanesFor(true, static_cast<int64_t>(mask), repeatTime, size),
                          size, srcRepStride);
}
template <typename T>
void Scatter(const LocalTensor<T>& dst, const LocalTensor<T>& src,
             const LocalTensor<uint32_t>& dstOffset, const uint32_t dstBaseAddr,
             const uint64_t mask[], const uint8_t repeatTime, const uint8_t srcRepStride,
             Loc loc = Loc::current()) {
  static_assert(sizeof(PrimT<T>) > 1, "Scatter by mask and repeat takes types of 16 bits and more");
  ascsim::Api api("Scatter", loc);
  if (ascsim::isAic()) return;
  ascsim::needArch(3510, "write the elements with SetValue, or gather by the inverse permutation");
  constexpr uint32_t size = sizeof(PrimT<T>);
  ascsim::scatterElements(dst.place(), src.place(), dstOffset.place(), dstBaseAddr,
                          ascsim::lanesFor(true, mask, repeatTime, size), size, srcRepStride);
}

// Selected elements, packed. reduceMode: counter mode, `mask` elements per repeat; else whole
// repeats.
template <typename T, typename U, GatherMaskMode mode = defaultGatherMaskMode>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0,
                const LocalTensor<U>& src1Pattern, const bool reduceMode, const uint32_t mask,
                const GatherMaskParams& gatherMaskParams, uint64_t& rsvdCnt,
                Loc loc = Loc::current()) {
  ascsim::gatherType<T>();
  static_assert(
      std::is_same_v<PrimT<U>, std::conditional_t<sizeof(PrimT<T>) == 2, uint16_t, uint32_t>>,
      "the pattern of GatherMask is uint16_t for 16-bit and uint32_t for 32-bit types");
  static_assert(mode == defaultGatherMaskMode,
                "the mode of GatherMask is reserved: leave the default");
  ascsim::Api api("GatherMask", loc);
  if (ascsim::isAic()) return;
  const ascsim::Place pattern = src1Pattern.place();
  rsvdCnt = ascsim::gatherMask(dst.place(), src0.place(), &pattern, 0, reduceMode, mask,
                               gatherMaskParams, sizeof(PrimT<T>));
}
template <typename T, GatherMaskMode mode = defaultGatherMaskMode>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const uint8_t src1Pattern,
                const bool reduceMode, const uint32_t mask,
                const GatherMaskParams& gatherMaskParams, uint64_t& rsvdCnt,
                Loc loc = Loc::current()) {
  ascsim::gatherType<T>();
  static_assert(mode == defaultGatherMaskMode,
                "the mode of GatherMask is reserved: leave the default");
  ascsim::Api api("GatherMask", loc);
  if (ascsim::isAic()) return;
  rsvdCnt = ascsim::gatherMask(dst.place(), src0.place(), nullptr, src1Pattern, reduceMode, mask,
                               gatherMaskParams, sizeof(PrimT<T>));
}

}  // namespace AscendC
