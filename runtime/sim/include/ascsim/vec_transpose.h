// Transpose and TransDataTo5HD (docs: basic API, layout conversion).
#pragma once
#include "ascsim/vec_mask.h"

namespace AscendC {

constexpr int32_t NCHW_CONV_ADDR_LIST_SIZE = 16;

enum class TransposeType : uint8_t {
  TRANSPOSE_TYPE_NONE,
  TRANSPOSE_NZ2ND_0213,
  TRANSPOSE_NZ2NZ_0213,
  TRANSPOSE_NZ2NZ_012_WITH_N,
  TRANSPOSE_NZ2ND_012_WITH_N,
  TRANSPOSE_NZ2ND_012_WITHOUT_N,
  TRANSPOSE_NZ2NZ_012_WITHOUT_N,
  TRANSPOSE_ND2ND_ONLY,
  TRANSPOSE_ND_UB_GM,
  TRANSPOSE_GRAD_ND_UB_GM,
  TRANSPOSE_ND2ND_B16,
  TRANSPOSE_NCHW2NHWC,
  TRANSPOSE_NHWC2NCHW,
  TRANSPOSE_ND2ND_021,
  TRANSPOSE_ND2ND_102,
  TRANSPOSE_ND2ND_210,
  TRANSPOSE_ND2NZ_WITH_INTLV,
};

struct TransDataTo5HDParams {
  constexpr TransDataTo5HDParams() = default;
  constexpr TransDataTo5HDParams(const bool dstHighHalfIn, const bool srcHighHalfIn,
                                 const uint8_t repeatTimesIn, const uint16_t dstRepStrideIn,
                                 const uint16_t srcRepStrideIn)
      : dstHighHalf(dstHighHalfIn),
        srcHighHalf(srcHighHalfIn),
        repeatTimes(repeatTimesIn),
        dstRepStride(dstRepStrideIn),
        srcRepStride(srcRepStrideIn) {}
  bool dstHighHalf = false;
  bool srcHighHalf = false;
  uint8_t repeatTimes = 1;
  uint16_t dstRepStride = 0;
  uint16_t srcRepStride = 0;
};

struct TransposeParamsExt {
  constexpr TransposeParamsExt() = default;
  constexpr TransposeParamsExt(const uint16_t nSizeIn, const uint16_t cSizeIn,
                               const uint16_t hSizeIn, const uint16_t wSizeIn,
                               const TransposeType transposeTypeIn)
      : nSize(nSizeIn),
        cSize(cSizeIn),
        hSize(hSizeIn),
        wSize(wSizeIn),
        transposeType(transposeTypeIn) {}
  uint16_t nSize = 0;
  uint16_t cSize = 0;
  uint16_t hSize = 0;
  uint16_t wSize = 0;
  TransposeType transposeType = TransposeType::TRANSPOSE_ND2ND_B16;
};

}  // namespace AscendC

namespace ascsim {

void transpose16(const Place& dst, const Place& src);
void transposeExt(const Place& dst, const Place& src, const Place& tmp, uint64_t tmpBytes,
                  uint32_t elementBytes, const AscendC::TransposeParamsExt& params);
// 16 blocks to 16 blocks per repeat.
void transData(const Place (&dst)[16], const Place (&src)[16], uint32_t elementBytes,
               const AscendC::TransDataTo5HDParams& params);
// Of an address that GetPhyAddr gave.
Place placeOfPointer(uint64_t address);

template <class T>
constexpr void transposable() {
  static_assert(isOneOf<AscendC::PrimT<T>, int8_t, uint8_t, int16_t, uint16_t, half, int32_t,
                        uint32_t, float>,
                "this transposition takes 8-bit, 16-bit and 32-bit types, not bfloat16_t; use "
                "ReinterpretCast");
}

}  // namespace ascsim

namespace AscendC {

template <typename T>
void Transpose(const LocalTensor<T>& dst, const LocalTensor<T>& src, Loc loc = Loc::current()) {
  static_assert(ascsim::isOneOf<PrimT<T>, int16_t, uint16_t, half>,
                "Transpose of 16x16 takes int16_t, uint16_t or half");
  ascsim::Api api("Transpose", loc);
  if (ascsim::isAic()) return;
  ascsim::transpose16(dst.place(), src.place());
}

template <typename T>
void Transpose(const LocalTensor<T>& dst, const LocalTensor<T>& src,
               const LocalTensor<uint8_t>& sharedTmpBuffer,
               const TransposeParamsExt& transposeParams, Loc loc = Loc::current()) {
  ascsim::transposable<T>();
  ascsim::Api api("Transpose", loc);
  if (ascsim::isAic()) return;
  ascsim::transposeExt(dst.place(), src.place(), sharedTmpBuffer.place(),
                       sharedTmpBuffer.GetLength(), sizeof(PrimT<T>), transposeParams);
}

template <typename T>
void TransDataTo5HD(const LocalTensor<T> (&dstList)[NCHW_CONV_ADDR_LIST_SIZE],
                    const LocalTensor<T> (&srcList)[NCHW_CONV_ADDR_LIST_SIZE],
                    const TransDataTo5HDParams& nchwconvParams, Loc loc = Loc::current()) {
  ascsim::transposable<T>();
  ascsim::Api api("TransDataTo5HD", loc);
  if (ascsim::isAic()) return;
  ascsim::Place dst[16], src[16];
  for (int i = 0; i < 16; ++i) {
    dst[i] = dstList[i].place();
    src[i] = srcList[i].place();
  }
  ascsim::transData(dst, src, sizeof(PrimT<T>), nchwconvParams);
}

template <typename T>
void TransDataTo5HD(uint64_t dstList[NCHW_CONV_ADDR_LIST_SIZE],
                    uint64_t srcList[NCHW_CONV_ADDR_LIST_SIZE],
                    const TransDataTo5HDParams& nchwconvParams, Loc loc = Loc::current()) {
  ascsim::transposable<T>();
  ascsim::Api api("TransDataTo5HD", loc);
  if (ascsim::isAic()) return;
  ascsim::Place dst[16], src[16];
  for (int i = 0; i < 16; ++i) {
    dst[i] = ascsim::placeOfPointer(dstList[i]);
    src[i] = ascsim::placeOfPointer(srcList[i]);
  }
  ascsim::transData(dst, src, sizeof(PrimT<T>), nchwconvParams);
}

// The addresses lie in UB.
template <typename T>
void TransDataTo5HD(const LocalTensor<uint64_t>& dst, const LocalTensor<uint64_t>& src,
                    const TransDataTo5HDParams& nchwconvParams, Loc loc = Loc::current()) {
  ascsim::transposable<T>();
  ascsim::Api api("TransDataTo5HD", loc);
  if (ascsim::isAic()) return;
  ascsim::Place to[16], from[16];
  for (uint32_t i = 0; i < 16; ++i) {
    to[i] = ascsim::placeOfPointer(ascsim::scalarRead<uint64_t>(dst.place(), i));
    from[i] = ascsim::placeOfPointer(ascsim::scalarRead<uint64_t>(src.place(), i));
  }
  ascsim::transData(to, from, sizeof(PrimT<T>), nchwconvParams);
}

}  // namespace AscendC
