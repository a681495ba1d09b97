// Parameter structures of the matrix calls (docs: matrix computation, parameter tables).
#pragma once
#include "ascsim/datacopy_params.h"

namespace AscendC {

constexpr uint8_t PAD_SIZE = 4;

struct LoadData2DParams {
  LoadData2DParams() = default;
  LoadData2DParams(uint16_t start, uint8_t repeat, uint16_t src, uint8_t sidIn, uint16_t dst,
                   bool transpose, uint8_t mode)
      : startIndex(start),
        dstGap(dst),
        srcStride(src),
        ifTranspose(transpose),
        repeatTimes(repeat),
        sid(sidIn),
        addrMode(mode) {}
  uint16_t startIndex = 0;
  uint16_t dstGap = 0;
  uint16_t srcStride = 0;
  bool ifTranspose = false;
  uint8_t repeatTimes = 0;
  uint8_t sid = 0;
  uint8_t addrMode = 0;
};
using LoadData2dParams = LoadData2DParams;

struct LoadData2DParamsV2 {
  LoadData2DParamsV2() = default;
  LoadData2DParamsV2(uint32_t mStart, uint32_t kStart, uint16_t mStepIn, uint16_t kStepIn,
                     int32_t src, uint16_t dst, bool transpose, uint8_t sidIn)
      : mStartPosition(mStart),
        kStartPosition(kStart),
        mStep(mStepIn),
        kStep(kStepIn),
        srcStride(src),
        dstStride(dst),
        ifTranspose(transpose),
        sid(sidIn) {}
  uint32_t mStartPosition = 0;
  uint32_t kStartPosition = 0;
  uint16_t mStep = 0;
  uint16_t kStep = 0;
  int32_t srcStride = 0;
  uint16_t dstStride = 0;
  bool ifTranspose = false;
  uint8_t sid = 0;
};

struct LoadData2dTransposeParams {
  LoadData2dTransposeParams() = default;
  LoadData2dTransposeParams(uint16_t start, uint8_t repeat, uint16_t src, uint16_t gap,
                            uint16_t fracGap, uint8_t mode = 0)
      : startIndex(start),
        repeatTimes(repeat),
        srcStride(src),
        dstGap(gap),
        dstFracGap(fracGap),
        addrMode(mode) {}
  uint16_t startIndex = 0;
  uint8_t repeatTimes = 0;
  uint16_t srcStride = 0;
  uint16_t dstGap = 0;
  uint16_t dstFracGap = 0;
  uint8_t addrMode = 0;
};

struct LoadData2dTransposeParamsV2 {
  LoadData2dTransposeParamsV2() = default;
  LoadData2dTransposeParamsV2(uint16_t start, uint8_t repeat, uint16_t src, uint16_t gap,
                              uint16_t fracGap, uint16_t srcFrac, uint8_t mode = 0)
      : startIndex(start),
        repeatTimes(repeat),
        srcStride(src),
        dstGap(gap),
        dstFracGap(fracGap),
        srcFracGap(srcFrac),
        addrMode(mode) {}
  uint16_t startIndex = 0;
  uint8_t repeatTimes = 0;
  uint16_t srcStride = 0;
  uint16_t dstGap = 0;
  uint16_t dstFracGap = 0;
  uint16_t srcFracGap = 0;
  uint8_t addrMode = 0;
};

template <class T>
struct LoadData3DParamsV1 {
  LoadData3DParamsV1() = default;
  LoadData3DParamsV1(const uint8_t pads[PAD_SIZE], uint16_t h, uint16_t w, uint16_t c1,
                     uint8_t fetchW, uint8_t fetchH, int16_t leftW, int16_t leftH, uint8_t sw,
                     uint8_t sh, uint8_t fw, uint8_t fh, uint8_t dw, uint8_t dh, uint8_t jump,
                     uint8_t mode, uint8_t time, uint8_t c, T value)
      : strideW(sw),
        strideH(sh),
        filterW(fw),
        filterH(fh),
        dilationFilterW(dw),
        dilationFilterH(dh),
        jumpStride(jump),
        repeatMode(mode),
        repeatTime(time),
        cSize(c),
        padValue(value),
        fetchFilterW(fetchW),
        fetchFilterH(fetchH),
        l1H(h),
        l1W(w),
        c1Index(c1),
        leftTopW(leftW),
        leftTopH(leftH) {
    for (int i = 0; i < PAD_SIZE; ++i) padList[i] = pads[i];
  }
  uint8_t padList[PAD_SIZE] = {0};
  uint8_t strideW = 0;
  uint8_t strideH = 0;
  uint8_t filterW = 0;
  uint8_t filterH = 0;
  uint8_t dilationFilterW = 0;
  uint8_t dilationFilterH = 0;
  uint8_t jumpStride = 0;
  uint8_t repeatMode = 0;
  uint8_t repeatTime = 0;
  uint8_t cSize = 0;
  T padValue = T(0);
  uint8_t fetchFilterW = 0;
  uint8_t fetchFilterH = 0;
  uint16_t l1H = 0;
  uint16_t l1W = 0;
  uint16_t c1Index = 0;
  int16_t leftTopW = 0;
  int16_t leftTopH = 0;
};

template <class T>
struct LoadData3DParamsV2 {
  LoadData3DParamsV2() = default;
  LoadData3DParamsV2(const uint8_t pads[PAD_SIZE], uint16_t h, uint16_t w, uint16_t channels,
                     uint16_t kExt, uint16_t mExt, uint16_t kStart, uint16_t mStart, uint8_t sw,
                     uint8_t sh, uint8_t fw, uint8_t fh, uint8_t dw, uint8_t dh, bool transpose,
                     bool smallK, T value, bool sizeW = false, bool sizeH = false,
                     bool ctrl = false)
      : l1H(h),
        l1W(w),
        channelSize(channels),
        kExtension(kExt),
        mExtension(mExt),
        kStartPt(kStart),
        mStartPt(mStart),
        strideW(sw),
        strideH(sh),
        filterW(fw),
        filterH(fh),
        dilationFilterW(dw),
        dilationFilterH(dh),
        enTranspose(transpose),
        enSmallK(smallK),
        padValue(value),
        filterSizeW(sizeW),
        filterSizeH(sizeH),
        fMatrixCtrl(ctrl) {
    for (int i = 0; i < PAD_SIZE; ++i) padList[i] = pads[i];
  }
  uint8_t padList[PAD_SIZE] = {0};
  uint16_t l1H = 0;
  uint16_t l1W = 0;
  uint16_t channelSize = 0;
  uint16_t kExtension = 0;
  uint16_t mExtension = 0;
  uint16_t kStartPt = 0;
  uint16_t mStartPt = 0;
  uint8_t strideW = 1;
  uint8_t strideH = 1;
  uint8_t filterW = 1;
  uint8_t filterH = 1;
  uint8_t dilationFilterW = 1;
  uint8_t dilationFilterH = 1;
  bool enTranspose = false;
  bool enSmallK = false;
  T padValue = T(0);
  bool filterSizeW = false;
  bool filterSizeH = false;
  bool fMatrixCtrl = false;
};

struct LoadData3DParamsV2Pro {
  LoadData3DParamsV2Pro() = default;
  LoadData3DParamsV2Pro(uint16_t channels, bool transpose, bool smallK, bool sizeW, bool sizeH,
                        bool ctrl, uint64_t ext, uint64_t filter)
      : channelSize(channels),
        enTranspose(transpose),
        enSmallK(smallK),
        filterSizeW(sizeW),
        filterSizeH(sizeH),
        fMatrixCtrl(ctrl),
        extConfig(ext),
        filterConfig(filter) {}
  uint16_t channelSize = 0;
  bool enTranspose = false;
  bool enSmallK = false;
  bool filterSizeW = false;
  bool filterSizeH = false;
  bool fMatrixCtrl = false;
  uint64_t extConfig = 0;
  uint64_t filterConfig = 0x10101010101;
};

struct IsResetLoad3dConfig {
  bool isSetFMatrix = true;
  bool isSetPadding = true;
};
constexpr IsResetLoad3dConfig IS_RESER_LOAD3D_DEFAULT_CONFIG = {true, true};

enum class FmatrixMode : uint8_t { FMATRIX_LEFT = 0, FMATRIX_RIGHT = 1 };

struct LoadDataRepeatParam {
  LoadDataRepeatParam() = default;
  LoadDataRepeatParam(uint16_t stride, uint8_t time, uint8_t mode)
      : repeatStride(stride), repeatTime(time), repeatMode(mode) {}
  uint16_t repeatStride = 0;
  uint8_t repeatTime = 1;
  uint8_t repeatMode = 0;
  uint8_t reserved = 0;
};
struct LoadDataRepeatParamWithStride {
  LoadDataRepeatParamWithStride() = default;
  LoadDataRepeatParamWithStride(uint16_t stride, uint8_t time, uint8_t mode, uint16_t dst)
      : repeatStride(stride), repeatTime(time), repeatMode(mode), dstStride(dst) {}
  uint16_t repeatStride = 0;
  uint8_t repeatTime = 1;
  uint8_t repeatMode = 0;
  uint16_t dstStride = 0;
};

struct LoadImageToLocalParams {
  uint16_t horizSize = 0, vertSize = 0, horizStartPos = 0, vertStartPos = 0, srcHorizSize = 0;
  uint8_t topPadSize = 0, botPadSize = 0;
  uint16_t leftPadSize = 0, rightPadSize = 0;
  uint8_t sid = 0;
};

template <class T>
struct InitConstValueParams {
  InitConstValueParams() = default;
  InitConstValueParams(uint16_t repeat, uint16_t blocks, uint16_t gap, T value)
      : repeatTimes(repeat), blockNum(blocks), dstGap(gap), initValue(value) {}
  InitConstValueParams(uint16_t repeat, T value) : repeatTimes(repeat), initValue(value) {}
  uint16_t repeatTimes = 0;
  uint16_t blockNum = 0;
  uint16_t dstGap = 0;
  T initValue = T(0);
};

struct MmadParams {
  MmadParams() = default;
  MmadParams(uint16_t mIn, uint16_t nIn, uint16_t kIn, bool bias, int32_t offset, bool sparse,
             bool winogradA, bool winogradB)
      : m(mIn),
        n(nIn),
        k(kIn),
        isBias(bias),
        fmOffset(offset),
        enSsparse(sparse),
        enWinogradA(winogradA),
        enWinogradB(winogradB) {}
  MmadParams(uint16_t mIn, uint16_t nIn, uint16_t kIn, uint8_t flag, bool source, bool init)
      : m(mIn), n(nIn), k(kIn), unitFlag(flag), cmatrixSource(source), cmatrixInitVal(init) {}
  uint16_t m = 0;
  uint16_t n = 0;
  uint16_t k = 0;
  bool isBias = false;
  int32_t fmOffset = 0;
  bool enSsparse = false;
  bool enWinogradA = false;
  bool enWinogradB = false;
  uint8_t unitFlag = 0;
  bool kDirectionAlign = false;
  bool cmatrixSource = false;
  bool cmatrixInitVal = true;
#if ASCSIM_WIDE_COPY
  bool disableGemv = false;
#endif
};

enum class HF32Mode { ENABLE, DISABLE };
enum class HF32TransMode { NEAREST_ZERO, NEAREST_EVEN };

// ------------------------------------------------------------------------------- Fixpipe
enum class CO2Layout : uint8_t { NZ = 0, ROW_MAJOR, COLUMN_MAJOR };

struct FixpipeConfig {
  CO2Layout format;
  bool isToUB;
  constexpr FixpipeConfig(CO2Layout f) : format(f), isToUB(false) {}
  constexpr FixpipeConfig(CO2Layout f, bool toUb) : format(f), isToUB(toUb) {}
};
constexpr FixpipeConfig CFG_NZ = {CO2Layout::NZ};
constexpr FixpipeConfig CFG_ROW_MAJOR = {CO2Layout::ROW_MAJOR};
constexpr FixpipeConfig CFG_COLUMN_MAJOR = {CO2Layout::COLUMN_MAJOR};

struct FixpipeParamsV220 {
  FixpipeParamsV220() = default;
  FixpipeParamsV220(uint16_t nIn, uint16_t mIn, uint16_t src, uint32_t dst, bool relu)
      : nSize(nIn), mSize(mIn), srcStride(src), dstStride(dst), reluEn(relu) {}
  FixpipeParamsV220(uint16_t nIn, uint16_t mIn, uint16_t src, uint32_t dst, bool relu,
                    QuantMode_t quant, int64_t deq, uint16_t nd, uint16_t srcNd, uint16_t dstNd,
                    uint8_t flag, bool split = false)
      : nSize(nIn),
        mSize(mIn),
        srcStride(src),
        dstStride(dst),
        quantPre(quant),
        deqScalar(static_cast<uint64_t>(deq)),
        ndNum(nd),
        srcNdStride(srcNd),
        dstNdStride(dstNd),
        reluEn(relu),
        unitFlag(flag),
        isChannelSplit(split) {}
  uint16_t nSize = 0;
  uint16_t mSize = 0;
  uint16_t srcStride = 0;
  uint32_t dstStride = 0;
  QuantMode_t quantPre = QuantMode_t::NoQuant;
  uint64_t deqScalar = 0;
  uint16_t ndNum = 1;
  uint16_t srcNdStride = 0;
  uint16_t dstNdStride = 0;
  bool reluEn = false;
  uint8_t unitFlag = 0;
  bool isChannelSplit = false;
};
using FixpipeParamsM300 = FixpipeParamsV220;
using FixpipeParamsM310 = FixpipeParamsV220;

struct Nz2NdParams {
  Nz2NdParams() = default;
  Nz2NdParams(uint16_t nd, uint16_t src, uint32_t dst)
      : ndNum(nd), srcNdStride(src), dstNdStride(dst) {}
  uint16_t ndNum = 1;
  uint16_t srcNdStride = 0;
  uint32_t dstNdStride = 0;
};
struct Nz2DnParams {
  uint16_t dnNum = 1;
  uint16_t srcNzMatrixStride = 0;
  uint32_t dstDnMatrixStride = 0;
  uint16_t srcNzC0Stride = 0;
};
template <CO2Layout format>
struct TransformParams {
  using PARAMS = uint8_t;
};
template <>
struct TransformParams<CO2Layout::ROW_MAJOR> {
  using PARAMS = Nz2NdParams;
};
template <>
struct TransformParams<CO2Layout::COLUMN_MAJOR> {
  using PARAMS = Nz2DnParams;
};
template <CO2Layout layout = CO2Layout::ROW_MAJOR>
struct FixpipeParamsArch3510 {
  FixpipeParamsArch3510() = default;
  FixpipeParamsArch3510(uint16_t nIn, uint16_t mIn, uint16_t src, uint32_t dst)
      : nSize(nIn), mSize(mIn), srcStride(src), dstStride(dst) {}
  uint16_t nSize = 0;
  uint16_t mSize = 0;
  uint16_t srcStride = 0;
  uint32_t dstStride = 0;
  QuantMode_t quantPre = QuantMode_t::NoQuant;
  uint64_t deqScalar = 0;
  bool reluEn = false;
  uint8_t unitFlag = 0;
  uint8_t dualDstCtl = 0;
  bool subBlockId = false;
  typename TransformParams<layout>::PARAMS params{};
  bool isChannelSplit = false;
};
template <CO2Layout layout = CO2Layout::ROW_MAJOR>
using FixpipeParamsC310 = FixpipeParamsArch3510<layout>;

}  // namespace AscendC
