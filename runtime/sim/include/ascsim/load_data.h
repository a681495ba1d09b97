// LoadData: fractals into L0A, L0B and L1; img2col; Fill (docs: matrix computation, moving in).
#pragma once
#include "ascsim/cube_params.h"
#include "ascsim/datacopy.h"

namespace ascsim {

// Load 3D after the template layer: everything in elements, the pad value as bits.
struct Load3d {
  bool setFeatureMap = true;
  bool setPadding = true;
  uint16_t l1H = 0, l1W = 0, channels = 0, kExtension = 0, mExtension = 0, kStart = 0, mStart = 0;
  uint32_t strideW = 1, strideH = 1, filterW = 1, filterH = 1, dilationW = 1, dilationH = 1;
  uint8_t pad[4] = {};
  bool transpose = false;
  bool right = false;  // feature map description of the right matrix
  uint64_t padBits = 0;
};

void loadData2d(const Place& dst, const Place& src, const AscendC::LoadData2DParams& p, DType type);
void loadDataTransposed(const Place& dst, const Place& src,
                        const AscendC::LoadData2dTransposeParams& p, DType type);
void loadData3d(const Place& dst, const Place& src, const Load3d& p, DType type);
void loadDataSparse(const Place& dst, const Place& src, const Place& index, uint32_t start,
                    uint32_t repeats);
void fillConst(const Place& dst, uint32_t repeats, uint32_t blocks, uint32_t gap, uint64_t bits,
               DType type);
void setFmatrix(uint16_t h, uint16_t w, const uint8_t* pads, bool right);
void setLoadPad(uint64_t bits);
void setLoadRepeat(const AscendC::LoadDataRepeatParam& p);
void setLoadBoundary(uint32_t bytes);

template <class P>
Load3d load3dOf(const P& p, bool setFeatureMap, bool setPadding) {
  Load3d q;
  q.setFeatureMap = setFeatureMap;
  q.setPadding = setPadding;
  q.l1H = p.l1H;
  q.l1W = p.l1W;
  q.channels = p.channelSize;
  q.kExtension = p.kExtension;
  q.mExtension = p.mExtension;
  q.kStart = p.kStartPt;
  q.mStart = p.mStartPt;
  q.strideW = p.strideW;
  q.strideH = p.strideH;
  q.filterW = p.filterW + (p.filterSizeW ? 256u : 0u);
  q.filterH = p.filterH + (p.filterSizeH ? 256u : 0u);
  q.dilationW = p.dilationFilterW;
  q.dilationH = p.dilationFilterH;
  for (int i = 0; i < 4; ++i) q.pad[i] = p.padList[i];
  q.transpose = p.enTranspose;
  q.right = p.fMatrixCtrl;
  q.padBits = bitsOf(p.padValue);
  return q;
}

}  // namespace ascsim

namespace AscendC {

template <class T>
void LoadData(const LocalTensor<T>& dst, const LocalTensor<T>& src,
              const LoadData2DParams& loadDataParams, Loc loc = Loc::current()) {
  ascsim::Api api("LoadData", loc);
  if (ascsim::isAiv()) return;
  ascsim::loadData2d(dst.place(), src.place(), loadDataParams, ascsim::dtypeOf<PrimT<T>>());
}
template <class T>
void LoadData(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
              const LoadData2DParams& loadDataParams, Loc loc = Loc::current()) {
  ascsim::Api api("LoadData", loc);
  if (ascsim::isAiv()) return;
  ascsim::loadData2d(dst.place(), src.place(), loadDataParams, ascsim::dtypeOf<PrimT<T>>());
}
template <class T>
void LoadData(const LocalTensor<T>&, const LocalTensor<T>&, const LoadData2DParamsV2&,
              Loc loc = Loc::current()) {
  ascsim::Api api("LoadData", loc);
  if (ascsim::isAiv()) return;
  ascsim::notOnChip("LoadData with LoadData2DParamsV2");
}
template <class T>
void LoadData(const LocalTensor<T>&, const GlobalTensor<T>&, const LoadData2DParamsV2&,
              Loc loc = Loc::current()) {
  ascsim::Api api("LoadData", loc);
  if (ascsim::isAiv()) return;
  ascsim::notOnChip("LoadData with LoadData2DParamsV2");
}

template <class T, const IsResetLoad3dConfig& defaultConfig = IS_RESER_LOAD3D_DEFAULT_CONFIG,
          class U = PrimT<T>, std::enable_if_t<std::is_same_v<PrimT<T>, U>, bool> = true>
void LoadData(const LocalTensor<T>&, const LocalTensor<T>&, const LoadData3DParamsV1<U>&,
              Loc loc = Loc::current()) {
  ascsim::Api api("LoadData", loc);
  if (ascsim::isAiv()) return;
  ascsim::notOnChip("LoadData with LoadData3DParamsV1; use LoadData3DParamsV2");
}
template <class T, const IsResetLoad3dConfig& defaultConfig = IS_RESER_LOAD3D_DEFAULT_CONFIG,
          class U = PrimT<T>, std::enable_if_t<std::is_same_v<PrimT<T>, U>, bool> = true>
void LoadData(const LocalTensor<T>& dst, const LocalTensor<T>& src,
              const LoadData3DParamsV2<U>& loadDataParams, Loc loc = Loc::current()) {
  ascsim::Api api("LoadData", loc);
  if (ascsim::isAiv()) return;
  ascsim::loadData3d(
      dst.place(), src.place(),
      ascsim::load3dOf(loadDataParams, defaultConfig.isSetFMatrix, defaultConfig.isSetPadding),
      ascsim::dtypeOf<U>());
}
template <class T>
void LoadData(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LoadData3DParamsV2Pro& p,
              Loc loc = Loc::current()) {
  ascsim::Api api("LoadData", loc);
  if (ascsim::isAiv()) return;
  LoadData3DParamsV2<uint8_t> q;
  q.channelSize = p.channelSize;
  q.kExtension = static_cast<uint16_t>(p.extConfig);
  q.mExtension = static_cast<uint16_t>(p.extConfig >> 16);
  q.kStartPt = static_cast<uint16_t>(p.extConfig >> 32);
  q.mStartPt = static_cast<uint16_t>(p.extConfig >> 48);
  q.strideW = static_cast<uint8_t>(p.filterConfig);
  q.strideH = static_cast<uint8_t>(p.filterConfig >> 8);
  q.filterW = static_cast<uint8_t>(p.filterConfig >> 16);
  q.filterH = static_cast<uint8_t>(p.filterConfig >> 24);
  q.dilationFilterW = static_cast<uint8_t>(p.filterConfig >> 32);
  q.dilationFilterH = static_cast<uint8_t>(p.filterConfig >> 40);
  q.enTranspose = p.enTranspose;
  q.filterSizeW = p.filterSizeW;
  q.filterSizeH = p.filterSizeH;
  q.fMatrixCtrl = p.fMatrixCtrl;
  ascsim::loadData3d(dst.place(), src.place(), ascsim::load3dOf(q, false, false),
                     ascsim::dtypeOf<PrimT<T>>());
}
template <class T, const IsResetLoad3dConfig& defaultConfig = IS_RESER_LOAD3D_DEFAULT_CONFIG,
          class U = PrimT<T>, std::enable_if_t<std::is_same_v<PrimT<T>, U>, bool> = true>
void LoadDataWithStride(const LocalTensor<T>&, const LocalTensor<T>&, const LoadData3DParamsV2<U>&,
                        Loc loc = Loc::current()) {
  ascsim::Api api("LoadDataWithStride", loc);
  if (ascsim::isAiv()) return;
  ascsim::notOnChip("LoadDataWithStride");
}

template <class T>
void LoadDataWithTranspose(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                           const LoadData2dTransposeParams& loadDataParams,
                           Loc loc = Loc::current()) {
  ascsim::Api api("LoadDataWithTranspose", loc);
  if (ascsim::isAiv()) return;
  ascsim::loadDataTransposed(dst.place(), src.place(), loadDataParams, ascsim::dtypeOf<PrimT<T>>());
}
template <class T>
void LoadDataWithTranspose(const LocalTensor<T>&, const LocalTensor<T>&,
                           const LoadData2dTransposeParamsV2&, Loc loc = Loc::current()) {
  ascsim::Api api("LoadDataWithTranspose", loc);
  if (ascsim::isAiv()) return;
  ascsim::notOnChip("LoadDataWithTranspose with LoadData2dTransposeParamsV2");
}

template <class T = int8_t, class U = uint8_t,
          std::enable_if_t<std::is_same_v<PrimT<T>, int8_t> && std::is_same_v<PrimT<U>, uint8_t>,
                           bool> = true>
void LoadDataWithSparse(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                        const LocalTensor<U>& idx, const LoadData2dParams& loadDataParam,
                        Loc loc = Loc::current()) {
  ascsim::Api api("LoadDataWithSparse", loc);
  if (ascsim::isAiv()) return;
  ascsim::loadDataSparse(dst.place(), src.place(), idx.place(), loadDataParam.startIndex,
                         loadDataParam.repeatTimes);
}

template <class T, class U = PrimT<T>, std::enable_if_t<std::is_same_v<PrimT<T>, U>, bool> = true>
void Fill(const LocalTensor<T>& dst, const InitConstValueParams<U>& initConstValueParams,
          Loc loc = Loc::current()) {
  static_assert(sizeof(U) == 2 || sizeof(U) == 4, "Fill takes types of 16 and 32 bits");
  ascsim::Api api("Fill", loc);
  if (ascsim::isAiv()) return;
  ascsim::fillConst(dst.place(), initConstValueParams.repeatTimes, initConstValueParams.blockNum,
                    initConstValueParams.dstGap, ascsim::bitsOf(initConstValueParams.initValue),
                    ascsim::dtypeOf<U>());
}
template <class T, class U = PrimT<T>, std::enable_if_t<std::is_same_v<PrimT<T>, U>, bool> = true>
void InitConstValue(const LocalTensor<T>& dst, const InitConstValueParams<U>& initConstValueParams,
                    Loc loc = Loc::current()) {
  ascsim::Api api("InitConstValue", loc);
  Fill<T, U>(dst, initConstValueParams, loc);
}

template <class T>
void SetLoadDataPaddingValue(const T padValue, Loc loc = Loc::current()) {
  ascsim::Api api("SetLoadDataPaddingValue", loc);
  if (ascsim::isAic()) ascsim::setLoadPad(ascsim::bitsOf(padValue));
}
inline void SetFmatrix(uint16_t l1H, uint16_t l1W, const uint8_t padList[4],
                       const FmatrixMode& fmatrixMode, Loc loc = Loc::current()) {
  ascsim::Api api("SetFmatrix", loc);
  if (ascsim::isAic())
    ascsim::setFmatrix(l1H, l1W, padList, fmatrixMode == FmatrixMode::FMATRIX_RIGHT);
}
inline void SetLoadDataBoundary(uint32_t boundaryValue, Loc loc = Loc::current()) {
  ascsim::Api api("SetLoadDataBoundary", loc);
  if (ascsim::isAic()) ascsim::setLoadBoundary(boundaryValue);
}
inline void SetLoadDataRepeat(const LoadDataRepeatParam& repeatParams, Loc loc = Loc::current()) {
  ascsim::Api api("SetLoadDataRepeat", loc);
  if (ascsim::isAic()) ascsim::setLoadRepeat(repeatParams);
}
inline void SetLoadDataRepeatWithStride(const LoadDataRepeatParamWithStride&,
                                        Loc loc = Loc::current()) {
  ascsim::Api api("SetLoadDataRepeatWithStride", loc);
  if (ascsim::isAic()) ascsim::notOnChip("SetLoadDataRepeatWithStride");
}

// Not of this chip, or not modelled: a call stops the kernel with an error.
template <class T>
void LoadImageToLocal(const LocalTensor<T>&, const LoadImageToLocalParams&,
                      Loc loc = Loc::current()) {
  ascsim::Api api("LoadImageToLocal", loc);
  if (ascsim::isAic()) ascsim::notOnChip("LoadImageToLocal");
}
template <class T>
void LoadDataUnzip(const LocalTensor<T>&, const GlobalTensor<T>&, Loc loc = Loc::current()) {
  ascsim::Api api("LoadDataUnzip", loc);
  ascsim::notOnChip("LoadDataUnzip");
}
template <class T = int8_t>
void LoadUnzipIndex(const GlobalTensor<T>&, uint32_t, Loc loc = Loc::current()) {
  ascsim::Api api("LoadUnzipIndex", loc);
  ascsim::notOnChip("LoadUnzipIndex");
}
template <class T, class U>
void BroadCastVecToMM(const LocalTensor<T>&, const LocalTensor<U>&, const int32_t, const uint8_t,
                      const uint8_t, const uint8_t, Loc loc = Loc::current()) {
  ascsim::Api api("BroadCastVecToMM", loc);
  ascsim::notOnChip("BroadCastVecToMM");
}

}  // namespace AscendC
