// BilinearInterpolation: blocks gathered, weighted and summed; made of the calls the page names.
#pragma once
#include "ascsim/vec_arith.h"
#include "ascsim/vec_fill.h"
#include "ascsim/vec_gather.h"

namespace ascsim {

template <class T, class M>
void bilinear(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src0,
              const AscendC::LocalTensor<uint32_t>& src0Offset, const AscendC::LocalTensor<T>& src1,
              M mask, int32_t hRepeat, bool repeatMode, uint16_t dstBlkStride, uint32_t vROffset,
              int32_t vRepeat, const AscendC::LocalTensor<uint8_t>& shared, const Loc& loc) {
  constexpr uint32_t lanes = 256 / sizeof(half);
  checkRange("hRepeat", hRepeat, 1, 255);
  checkRange("vRepeat", vRepeat, 1, 255);
  checkRange("vROffset", vROffset, 128, 65534);
  if (vROffset % 16 != 0)
    report(kParam, "vROffset is %u elements; expected a multiple of 32 bytes", vROffset);
  const auto rows = static_cast<uint32_t>(hRepeat), columns = static_cast<uint32_t>(vRepeat);
  const uint32_t all = rows * columns;
  const AscendC::LocalTensor<T> values = shared.template ReinterpretCast<T>();
  const AscendC::LocalTensor<T> weights = values[all * lanes];
  // One weight for each iteration, or for each of its 8 blocks.
  const uint32_t broadcasts = repeatMode ? all : (all + 7) / 8;
  for (uint32_t at = 0; at < broadcasts; at += 255)
    AscendC::Brcb(weights[at * lanes], src1[at * 8],
                  static_cast<int32_t>(std::min(255u, broadcasts - at)), {1, 8}, loc);
  const uint8_t blk = repeatMode ? 1 : 0, rep = repeatMode ? 8 : 1;
  for (uint32_t v = 0; v < columns; ++v) {
    const AscendC::LocalTensor<T> row = values[v * rows * lanes];
    const AscendC::LocalTensor<T> to = dst[v * vROffset];
    AscendC::Gatherb(row.template ReinterpretCast<uint16_t>(),
                     src0.template ReinterpretCast<uint16_t>(), src0Offset[v * rows * 8],
                     static_cast<uint8_t>(rows), {1, 8}, loc);
    AscendC::Mul(row, row, weights[v * rows * (repeatMode ? lanes : 16)], mask,
                 static_cast<int32_t>(rows), {1, 1, blk, 8, 8, rep}, loc);
    const auto stride = static_cast<uint8_t>(dstBlkStride);
    if (rows == 1)
      AscendC::Muls(to, row, T(1), mask, 1, {dstBlkStride, 1, 8, 8}, loc);
    else
      AscendC::Add(to, row, row[lanes], mask, 1, {stride, 1, 1, 8, 8, 8}, loc);
    for (uint32_t h = 2; h < rows; ++h)
      AscendC::Add(to, to, row[h * lanes], mask, 1, {stride, stride, 1, 8, 8, 8}, loc);
  }
}

}  // namespace ascsim

namespace AscendC {

#define ASCSIM_BILINEAR(MASK)                                                                     \
  template <class T>                                                                              \
  void BilinearInterpolation(                                                                     \
      const LocalTensor<T>& dst, const LocalTensor<T>& src0,                                      \
      const LocalTensor<uint32_t>& src0Offset, const LocalTensor<T>& src1, MASK, int32_t hRepeat, \
      bool repeatMode, uint16_t dstBlkStride, uint16_t vROffset, int32_t vRepeat,                 \
      const LocalTensor<uint8_t>& sharedTmpBuffer, Loc loc = Loc::current()) {                    \
    ASCSIM_TAKES("BilinearInterpolation", T, half);                                               \
    ASCSIM_VEC_CALL("BilinearInterpolation");                                                     \
    ascsim::bilinear(dst, src0, src0Offset, src1, mask, hRepeat, repeatMode, dstBlkStride,        \
                     vROffset, vRepeat, sharedTmpBuffer, loc);                                    \
  }
ASCSIM_BILINEAR(ASCSIM_BITS)
ASCSIM_BILINEAR(ASCSIM_LENGTH)
#undef ASCSIM_BILINEAR

}  // namespace AscendC
