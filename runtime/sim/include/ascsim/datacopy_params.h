// Parameter structures of the data movement calls (docs: data movement, parameter tables).
#pragma once
#include <cstdint>

#include "ascsim/tensor.h"

// Quantisation of matrix results on their way out of L0C. Values: hardware encoding of 2201.
enum QuantMode_t {
  NoQuant = 0,
  F322F16 = 1,
  VREQ8 = 8,
  REQ8 = 9,
  VDEQF16 = 10,
  DEQF16 = 11,
  F322BF16 = 16,
  VQF322B8_PRE = 23,
  QF322B8_PRE = 24,
  // Of the 950 only.
  VQF322FP8_PRE = 32,
  QF322FP8_PRE,
  VQF322HIF8_PRE,
  QF322HIF8_PRE,
  VQF322HIF8_PRE_HYBRID,
  QF322HIF8_PRE_HYBRID,
  VQS322BF16_PRE,
  QS322BF16_PRE,
  VQF322F16_PRE,
  QF322F16_PRE,
  VQF322BF16_PRE,
  QF322BF16_PRE,
  VQF322F32_PRE,
  QF322F32_PRE,
};

enum class pad_t : uint8_t {
  PAD_NONE = 0,
  PAD_MODE1,
  PAD_MODE2,
  PAD_MODE3,
  PAD_MODE4,
  PAD_MODE5,
  PAD_MODE6,
  PAD_MODE7,
  PAD_MODE8
};

namespace AscendC {

#if defined(__NPU_ARCH__) && __NPU_ARCH__ == 3510
#define ASCSIM_WIDE_COPY 1
#else
#define ASCSIM_WIDE_COPY 0
#endif

struct DataCopyParams {
  DataCopyParams() = default;
  DataCopyParams(uint16_t count, uint16_t len, uint16_t srcStrideIn, uint16_t dstStrideIn)
      : blockCount(count), blockLen(len), srcStride(srcStrideIn), dstStride(dstStrideIn) {}
  uint16_t blockCount = 1;
  uint16_t blockLen = 0;
  union {
    uint16_t srcGap = 0;
    uint16_t srcStride;
  };
  union {
    uint16_t dstGap = 0;
    uint16_t dstStride;
  };
};

#if ASCSIM_WIDE_COPY
using CopyStride = int64_t;
using NdCount = uint32_t;
using NdStride = uint64_t;
#else
using CopyStride = uint32_t;
using NdCount = uint16_t;
using NdStride = uint16_t;
#endif

struct DataCopyExtParams {
  DataCopyExtParams() = default;
  DataCopyExtParams(uint16_t count, uint32_t len, CopyStride srcStrideIn, CopyStride dstStrideIn,
                    uint32_t rsvIn)
      : blockCount(count),
        blockLen(len),
        srcStride(srcStrideIn),
        dstStride(dstStrideIn),
        rsv(rsvIn) {}
  uint16_t blockCount = 1;
  uint32_t blockLen = 0;
  CopyStride srcStride = 0;
  CopyStride dstStride = 0;
  uint32_t rsv = 0;
};

struct DataCopyPadParams {
  DataCopyPadParams() = default;
  DataCopyPadParams(bool isPadIn, uint8_t left, uint8_t right, uint64_t value)
      : isPad(isPadIn), leftPadding(left), rightPadding(right), paddingValue(value) {}
  bool isPad = false;
  uint8_t leftPadding = 0;
  uint8_t rightPadding = 0;
  uint64_t paddingValue = 0;
};

template <class T>
struct DataCopyPadExtParams {
  DataCopyPadExtParams() = default;
  DataCopyPadExtParams(bool isPadIn, uint8_t left, uint8_t right, T value)
      : isPad(isPadIn), leftPadding(left), rightPadding(right), paddingValue(value) {}
  bool isPad = false;
  uint8_t leftPadding = 0;
  uint8_t rightPadding = 0;
  T paddingValue = T(0);
};

enum class PaddingMode : uint8_t { Normal = 0, Compact };
enum class DataCopyMVType : uint8_t { UB_TO_OUT = 0, OUT_TO_UB = 1 };

enum class BlockMode : uint8_t {
  BLOCK_MODE_NORMAL = 0,
  BLOCK_MODE_MATRIX,
  BLOCK_MODE_VECTOR,
  BLOCK_MODE_SMALL_CHANNEL,
  BLOCK_MODE_DEPTHWISE
};
enum class DeqScale : uint8_t { DEQ_NONE = 0, DEQ, VDEQ, DEQ8, VDEQ8, DEQ16, VDEQ16 };

struct DataCopyEnhancedParams {
  DataCopyEnhancedParams() = default;
  DataCopyEnhancedParams(BlockMode mode, DeqScale deq, uint64_t value, uint8_t sid, bool relu,
                         pad_t pad, uint64_t padV)
      : blockMode(mode),
        deqScale(deq),
        deqValue(value),
        sidStoreMode(sid),
        isRelu(relu),
        padMode(pad),
        padValue(padV) {}
  BlockMode blockMode = BlockMode::BLOCK_MODE_NORMAL;
  DeqScale deqScale = DeqScale::DEQ_NONE;
  uint64_t deqValue = 0;
  uint8_t sidStoreMode = 0;
  bool isRelu = false;
  pad_t padMode = pad_t::PAD_NONE;
  uint64_t padValue = 0;
  uint64_t deqTensorAddr = 0;
};

struct Nd2NzParams {
  Nd2NzParams() = default;
  Nd2NzParams(uint16_t nd, uint16_t n, NdCount d, NdStride srcMatrix, NdStride srcD, uint16_t dstC0,
              uint16_t dstN, NdCount dstMatrix)
      : ndNum(nd),
        nValue(n),
        dValue(d),
        srcNdMatrixStride(srcMatrix),
        srcDValue(srcD),
        dstNzC0Stride(dstC0),
        dstNzNStride(dstN),
        dstNzMatrixStride(dstMatrix) {}
  uint16_t ndNum = 0;
  uint16_t nValue = 0;
  NdCount dValue = 0;
  NdStride srcNdMatrixStride = 0;
  NdStride srcDValue = 0;
  uint16_t dstNzC0Stride = 0;
  uint16_t dstNzNStride = 0;
  NdCount dstNzMatrixStride = 0;
};

struct Dn2NzParams {
  Dn2NzParams() = default;
  Dn2NzParams(uint16_t dn, uint16_t n, uint32_t d, uint64_t srcMatrix, uint64_t srcD,
              uint16_t dstC0, uint16_t dstN, uint32_t dstMatrix)
      : dnNum(dn),
        nValue(n),
        dValue(d),
        srcDnMatrixStride(srcMatrix),
        srcDValue(srcD),
        dstNzC0Stride(dstC0),
        dstNzNStride(dstN),
        dstNzMatrixStride(dstMatrix) {}
  uint16_t dnNum = 0;
  uint16_t nValue = 0;
  uint32_t dValue = 0;
  uint64_t srcDnMatrixStride = 0;
  uint64_t srcDValue = 0;
  uint16_t dstNzC0Stride = 0;
  uint16_t dstNzNStride = 0;
  uint32_t dstNzMatrixStride = 0;
};

struct Nz2NdParamsFull {
  Nz2NdParamsFull() = default;
  Nz2NdParamsFull(uint16_t nd, uint16_t n, uint16_t d, uint16_t srcMatrix, uint16_t srcN,
                  uint16_t dstD, uint16_t dstMatrix)
      : ndNum(nd),
        nValue(n),
        dValue(d),
        srcNdMatrixStride(srcMatrix),
        srcNStride(srcN),
        dstDStride(dstD),
        dstNdMatrixStride(dstMatrix) {}
  uint16_t ndNum = 1;
  uint16_t nValue = 0;
  uint16_t dValue = 0;
  uint16_t srcNdMatrixStride = 1;
  uint16_t srcNStride = 0;
  uint16_t dstDStride = 0;
  uint16_t dstNdMatrixStride = 1;
};

constexpr int32_t K_MAX_DIM = 8;  // of a slice

struct SliceInfo {
  SliceInfo() = default;
  SliceInfo(uint32_t start, uint32_t end, uint32_t strideIn, uint32_t len, uint32_t shape = 0)
      : startIndex(start), endIndex(end), stride(strideIn), burstLen(len), shapeValue(shape) {}
  uint32_t startIndex = 0;
  uint32_t endIndex = ONE_BLK_SIZE - 1;
  uint32_t stride = 0;
  uint32_t burstLen = ONE_BLK_SIZE;
  uint32_t shapeValue = 0;
};

struct DataCopyCO12DstParams {
  DataCopyCO12DstParams() = default;
  DataCopyCO12DstParams(uint16_t n, uint16_t m, uint32_t dst, uint16_t src, QuantMode_t quant,
                        uint8_t relu, bool split, bool nz2nd)
      : nSize(n),
        mSize(m),
        dstStride(dst),
        srcStride(src),
        quantPre(quant),
        reluPre(relu),
        channelSplit(split),
        nz2ndEn(nz2nd) {}
  uint8_t sid = 0;
  uint16_t nSize = 0;
  uint16_t mSize = 0;
  uint32_t dstStride = 0;
  uint16_t srcStride = 0;
  uint8_t unitFlag = 0;
  uint8_t clipReluPre = 0;
  uint8_t eltWiseOp = 0;
  QuantMode_t quantPre = QuantMode_t::NoQuant;
  uint8_t reluPre = 0;
  bool channelSplit = false;
  bool nz2ndEn = false;
};

// Names of 950 that programs for both chips declare.
struct LoopModeParams {
  LoopModeParams() = default;
  LoopModeParams(uint32_t size1, uint32_t size2, uint64_t src1, uint64_t dst1, uint64_t src2,
                 uint64_t dst2)
      : loop1Size(size1),
        loop2Size(size2),
        loop1SrcStride(src1),
        loop1DstStride(dst1),
        loop2SrcStride(src2),
        loop2DstStride(dst2) {}
  uint32_t loop1Size = 0;
  uint32_t loop2Size = 0;
  uint64_t loop1SrcStride = 0;
  uint64_t loop1DstStride = 0;
  uint64_t loop2SrcStride = 0;
  uint64_t loop2DstStride = 0;
};

enum class AtomicDtype {
  ATOMIC_NONE = 0,
  ATOMIC_F32,
  ATOMIC_F16,
  ATOMIC_S16,
  ATOMIC_S32,
  ATOMIC_S8,
  ATOMIC_BF16
};
enum class AtomicOp { ATOMIC_SUM = 0 };

}  // namespace AscendC
