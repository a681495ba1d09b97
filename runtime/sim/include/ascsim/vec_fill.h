// Filling: a constant, elements broadcast to blocks, rising indices.
#pragma once
#include "ascsim/vec_core.h"

namespace AscendC {

struct BrcbRepeatParams {
  BrcbRepeatParams() = default;
  BrcbRepeatParams(const uint16_t dstBlk, const uint16_t dstRep)
      : dstBlkStride(dstBlk), dstRepStride(dstRep) {}
  uint32_t blockNumber = DEFAULT_BLK_NUM;
  uint16_t dstBlkStride = 1;
  uint16_t dstRepStride = 8;
  uint16_t src1BlkStride = 1;
  uint16_t src1RepStride = 8;
  bool repeatStrideMode = false;
  bool strideSizeMode = false;
};

}  // namespace AscendC

namespace ascsim {

template <class T>
Vec fillVec(VecOp op, const char* mnemonic, AscendC::PrimT<T> value) {
  using P = AscendC::PrimT<T>;
  Vec v;
  v.op = op;
  v.mnemonic = mnemonic;
  v.dstType = v.srcType = dtypeOf<P>();
  if (op == VecOp::Dup)
    __builtin_memcpy(&v.i, &value, sizeof(P));
  else
    setScalar(v, value);
  return v;
}
template <class T>
void fillCount(Vec v, const AscendC::LocalTensor<T>& dst, int64_t count) {
  const Lanes l = lanesForCount(true, count, sizeof(AscendC::PrimT<T>));
  v.dst = denseOperand(dst, l.lanes);
  runVec(v, l);
}
template <class T>
void fillRepeat(Vec v, const AscendC::LocalTensor<T>& dst, const Lanes& l, uint32_t blockStride,
                uint32_t repeatStride) {
  v.dst = operandOf(dst, blockStride, repeatStride);
  runVec(v, l);
}
// Each repeat takes 8 elements, and fills a block with each.
void broadcastBlocks(const Operand& dst, const Place& src, DType type, int64_t repeats);

}  // namespace ascsim

namespace AscendC {

template <class T>
void Duplicate(const LocalTensor<T>& dst, const ascsim::Given<PrimT<T>>& scalarValue,
               const int32_t& count, Loc loc = Loc::current()) {
  ASCSIM_TAKES("Duplicate", T, int16_t, uint16_t, half, bfloat16_t, int32_t, uint32_t, float);
  ASCSIM_VEC_CALL("Duplicate");
  ascsim::fillCount(ascsim::fillVec<T>(ascsim::VecOp::Dup, "vdup", scalarValue), dst, count);
}
#define ASCSIM_DUPLICATE(MASK)                                                                   \
  template <class T, bool isSetMask = true>                                                      \
  void Duplicate(const LocalTensor<T>& dst, const ascsim::Given<PrimT<T>>& scalarValue, MASK,    \
                 const int32_t repeatTime, const uint16_t dstBlockStride,                        \
                 const uint8_t dstRepeatStride, Loc loc = Loc::current()) {                      \
    ASCSIM_TAKES("Duplicate", T, int16_t, uint16_t, half, bfloat16_t, int32_t, uint32_t, float); \
    ASCSIM_VEC_CALL("Duplicate");                                                                \
    ascsim::fillRepeat(ascsim::fillVec<T>(ascsim::VecOp::Dup, "vdup", scalarValue), dst,         \
                       ASCSIM_MASK_LANES(sizeof(PrimT<T>)), dstBlockStride, dstRepeatStride);    \
  }
ASCSIM_DUPLICATE(ASCSIM_BITS)
ASCSIM_DUPLICATE(ASCSIM_LENGTH)
#undef ASCSIM_DUPLICATE

template <class T>
void Brcb(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t repeatTime,
          const BrcbRepeatParams& repeatParams, Loc loc = Loc::current()) {
  ASCSIM_TAKES("Brcb", T, int16_t, uint16_t, half, bfloat16_t, int32_t, uint32_t, float);
  ASCSIM_VEC_CALL("Brcb");
  ascsim::broadcastBlocks(
      ascsim::operandOf(dst, repeatParams.dstBlkStride, repeatParams.dstRepStride), src.place(),
      ascsim::dtypeOf<PrimT<T>>(), repeatTime);
}

template <class T>
void CreateVecIndex(LocalTensor<T> dst, const ascsim::Given<PrimT<T>>& firstValue, uint32_t count,
                    Loc loc = Loc::current()) {
  ASCSIM_TAKES("CreateVecIndex", T, int16_t, half, int32_t, float);
  ASCSIM_VEC_CALL("CreateVecIndex");
  ascsim::fillCount(ascsim::fillVec<T>(ascsim::VecOp::Index, "vci", firstValue), dst, count);
}
#define ASCSIM_VEC_INDEX(MASK)                                                                    \
  template <class T>                                                                              \
  void CreateVecIndex(const LocalTensor<T>& dst, const ascsim::Given<PrimT<T>>& firstValue, MASK, \
                      int32_t repeatTime, uint16_t dstBlkStride, uint8_t dstRepStride,            \
                      Loc loc = Loc::current()) {                                                 \
    constexpr bool isSetMask = true;                                                              \
    ASCSIM_TAKES("CreateVecIndex", T, int16_t, half, int32_t, float);                             \
    ASCSIM_VEC_CALL("CreateVecIndex");                                                            \
    ascsim::fillRepeat(ascsim::fillVec<T>(ascsim::VecOp::Index, "vci", firstValue), dst,          \
                       ASCSIM_MASK_LANES(sizeof(PrimT<T>)), dstBlkStride, dstRepStride);          \
  }
ASCSIM_VEC_INDEX(ASCSIM_BITS)
ASCSIM_VEC_INDEX(ASCSIM_LENGTH)
#undef ASCSIM_VEC_INDEX

}  // namespace AscendC
