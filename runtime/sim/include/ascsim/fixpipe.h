// Fixpipe and DataCopy out of L0C (docs: matrix computation, moving out).
#pragma once
#include "ascsim/cube_params.h"
#include "ascsim/datacopy.h"

namespace ascsim {

// One transfer out of L0C, whatever the call. Strides as in FixpipeParamsV220.
struct FixOut {
  uint32_t n = 0, m = 0;
  uint32_t srcStride = 0;  // rows of 16 elements, from a column of fractals to the next
  uint64_t dstStride = 0;  // NZ: bytes; ND: elements
  bool nd = false;
  uint32_t ndNum = 1;
  uint64_t srcNdStride = 0;  // bytes
  uint64_t dstNdStride = 0;  // elements
  bool relu = false;
  bool clipRelu = false;
  bool channelSplit = false;
  uint8_t unitFlag = 0;
  QuantMode_t quant = NoQuant;
  uint64_t scalar = 0;
  bool useRegisters =
      false;  // DataCopy: scalar and tensor by SetFixpipePreQuantFlag, SetFixPipeConfig
};

void fixOut(const Place& dst, const Place& src, const Place* quantTensor, const FixOut& p,
            DType dstType, DType srcType);
void setFixQuantScalar(uint64_t bits);
void setFixQuantTensor(const Place& tensor, bool clearFlags);
void setFixNd(uint16_t ndNum, uint16_t srcNdStride, uint32_t dstNdStride);
void setFixClipRelu(uint64_t bits);

inline FixOut fixOf(const AscendC::FixpipeParamsV220& p, AscendC::CO2Layout layout) {
  FixOut f;
  f.n = p.nSize;
  f.m = p.mSize;
  f.srcStride = p.srcStride;
  f.nd = layout == AscendC::CO2Layout::ROW_MAJOR;
  f.dstStride = f.nd ? p.dstStride : p.dstStride * 32ull;
  f.ndNum = p.ndNum;
  f.srcNdStride = p.srcNdStride * 1024ull;
  f.dstNdStride = p.dstNdStride;
  f.relu = p.reluEn;
  f.channelSplit = p.isChannelSplit;
  f.unitFlag = p.unitFlag;
  f.quant = p.quantPre;
  f.scalar = p.deqScalar;
  return f;
}
template <AscendC::CO2Layout layout>
FixOut fixOf(const AscendC::FixpipeParamsArch3510<layout>& p, uint32_t dstBytes) {
  FixOut f;
  f.n = p.nSize;
  f.m = p.mSize;
  f.srcStride = p.srcStride;
  f.nd = layout == AscendC::CO2Layout::ROW_MAJOR;
  f.dstStride = f.nd ? p.dstStride : static_cast<uint64_t>(p.dstStride) * dstBytes;
  if constexpr (layout == AscendC::CO2Layout::ROW_MAJOR) {
    f.ndNum = p.params.ndNum;
    f.srcNdStride = p.params.srcNdStride * 64ull;
    f.dstNdStride = p.params.dstNdStride;
  }
  f.relu = p.reluEn;
  f.channelSplit = p.isChannelSplit;
  f.unitFlag = p.unitFlag;
  f.quant = p.quantPre;
  f.scalar = p.deqScalar;
  return f;
}

template <class D, class S>
constexpr bool fixTypes() {
  if constexpr (std::is_same_v<S, float>)
    return std::is_same_v<D, int8_t> || std::is_same_v<D, uint8_t> || std::is_same_v<D, half> ||
           std::is_same_v<D, bfloat16_t> || std::is_same_v<D, float>;
  else if constexpr (std::is_same_v<S, int32_t>)
    return std::is_same_v<D, int8_t> || std::is_same_v<D, uint8_t> || std::is_same_v<D, half> ||
           std::is_same_v<D, int32_t>;
  else
    return false;
}

}  // namespace ascsim

namespace AscendC {

#define ASCSIM_FIX_TYPES                                                                     \
  static_assert(                                                                             \
      ascsim::fixTypes<PrimT<T>, PrimT<U>>(),                                                \
      "results leave L0C as: float -> int8_t, uint8_t, half, bfloat16_t, float; int32_t -> " \
      "int8_t, uint8_t, half, int32_t")
#define ASCSIM_FIXPIPE(DST)                                                                        \
  template <class T, class U, const FixpipeConfig& config = CFG_ROW_MAJOR>                         \
  void Fixpipe(const DST<T>& dst, const LocalTensor<U>& src, const FixpipeParamsV220& intriParams, \
               Loc loc = Loc::current()) {                                                         \
    ASCSIM_FIX_TYPES;                                                                              \
    static_assert(config.format != CO2Layout::COLUMN_MAJOR, "column-major Fixpipe is of the 950"); \
    ascsim::Api api("Fixpipe", loc);                                                               \
    if (ascsim::isAiv()) return;                                                                   \
    ascsim::fixOut(dst.place(), src.place(), nullptr, ascsim::fixOf(intriParams, config.format),   \
                   ascsim::dtypeOf<PrimT<T>>(), ascsim::dtypeOf<PrimT<U>>());                      \
  }                                                                                                \
  template <class T, class U, const FixpipeConfig& config = CFG_ROW_MAJOR, class S = uint64_t,     \
            std::enable_if_t<std::is_same_v<PrimT<S>, uint64_t>, bool> = true>                     \
  void Fixpipe(const DST<T>& dst, const LocalTensor<U>& src, const LocalTensor<S>& cbufWorkspace,  \
               const FixpipeParamsV220& intriParams, Loc loc = Loc::current()) {                   \
    ASCSIM_FIX_TYPES;                                                                              \
    static_assert(config.format != CO2Layout::COLUMN_MAJOR, "column-major Fixpipe is of the 950"); \
    ascsim::Api api("Fixpipe", loc);                                                               \
    if (ascsim::isAiv()) return;                                                                   \
    const ascsim::Place quant = cbufWorkspace.place();                                             \
    ascsim::fixOut(dst.place(), src.place(), &quant, ascsim::fixOf(intriParams, config.format),    \
                   ascsim::dtypeOf<PrimT<T>>(), ascsim::dtypeOf<PrimT<U>>());                      \
  }                                                                                                \
  template <class T, class U, const FixpipeConfig& config = CFG_ROW_MAJOR>                         \
  void Fixpipe(const DST<T>& dst, const LocalTensor<U>& src,                                       \
               const FixpipeParamsArch3510<config.format>& intriParams,                            \
               Loc loc = Loc::current()) {                                                         \
    ASCSIM_FIX_TYPES;                                                                              \
    static_assert(config.format != CO2Layout::COLUMN_MAJOR,                                        \
                  "column-major Fixpipe is not modelled");                                         \
    ascsim::Api api("Fixpipe", loc);                                                               \
    if (ascsim::isAiv()) return;                                                                   \
    ascsim::fixOut(dst.place(), src.place(), nullptr,                                              \
                   ascsim::fixOf(intriParams, sizeof(PrimT<T>)), ascsim::dtypeOf<PrimT<T>>(),      \
                   ascsim::dtypeOf<PrimT<U>>());                                                   \
  }                                                                                                \
  template <class T, class U, const FixpipeConfig& config = CFG_ROW_MAJOR>                         \
  void Fixpipe(                                                                                    \
      const DST<T>& dst, const LocalTensor<U>& src, const LocalTensor<uint64_t>& cbufWorkspace,    \
      const FixpipeParamsArch3510<config.format>& intriParams, Loc loc = Loc::current()) {         \
    ASCSIM_FIX_TYPES;                                                                              \
    static_assert(config.format != CO2Layout::COLUMN_MAJOR,                                        \
                  "column-major Fixpipe is not modelled");                                         \
    ascsim::Api api("Fixpipe", loc);                                                               \
    if (ascsim::isAiv()) return;                                                                   \
    const ascsim::Place quant = cbufWorkspace.place();                                             \
    ascsim::fixOut(dst.place(), src.place(), &quant, ascsim::fixOf(intriParams, sizeof(PrimT<T>)), \
                   ascsim::dtypeOf<PrimT<T>>(), ascsim::dtypeOf<PrimT<U>>());                      \
  }                                                                                                \
  /* The older form: settings by registers. */                                                     \
  template <class T, class U>                                                                      \
  void DataCopy(const DST<T>& dst, const LocalTensor<U>& src, const DataCopyCO12DstParams& p,      \
                Loc loc = Loc::current()) {                                                        \
    ASCSIM_FIX_TYPES;                                                                              \
    ascsim::Api api("DataCopy", loc);                                                              \
    if (ascsim::isAiv()) return;                                                                   \
    ascsim::dataCopyOut(dst.place(), src.place(), p, ascsim::dtypeOf<PrimT<T>>(),                  \
                        ascsim::dtypeOf<PrimT<U>>());                                              \
  }

}  // namespace AscendC
namespace ascsim {
void dataCopyOut(const Place& dst, const Place& src, const AscendC::DataCopyCO12DstParams& p,
                 DType dstType, DType srcType);
}
namespace AscendC {

ASCSIM_FIXPIPE(GlobalTensor)
ASCSIM_FIXPIPE(LocalTensor)
#undef ASCSIM_FIXPIPE
#undef ASCSIM_FIX_TYPES

template <class T>
void SetFixPipeConfig(const LocalTensor<T>& reluPre, const LocalTensor<T>& quantPre,
                      bool isUnitFlag = false, Loc loc = Loc::current()) {
  (void)reluPre;
  ascsim::Api api("SetFixPipeConfig", loc);
  if (ascsim::isAic()) ascsim::setFixQuantTensor(quantPre.place(), isUnitFlag);
}
template <class T, bool setRelu = false>
void SetFixPipeConfig(const LocalTensor<T>& preData, bool isUnitFlag = false,
                      Loc loc = Loc::current()) {
  static_assert(!setRelu, "SetFixPipeConfig sets quantisation tensors only: setRelu = false");
  ascsim::Api api("SetFixPipeConfig", loc);
  if (ascsim::isAic()) ascsim::setFixQuantTensor(preData.place(), isUnitFlag);
}
inline void SetFixpipeNz2ndFlag(uint16_t ndNum, uint16_t srcNdStride,
#if ASCSIM_WIDE_COPY
                                uint32_t dstNdStride,
#else
                                uint16_t dstNdStride,
#endif
                                Loc loc = Loc::current()) {
  ascsim::Api api("SetFixpipeNz2ndFlag", loc);
  if (ascsim::isAic()) ascsim::setFixNd(ndNum, srcNdStride, dstNdStride);
}
inline void SetFixpipePreQuantFlag(uint64_t config, Loc loc = Loc::current()) {
  ascsim::Api api("SetFixpipePreQuantFlag", loc);
  if (ascsim::isAic()) ascsim::setFixQuantScalar(config);
}
inline void SetFixPipeClipRelu(uint64_t config, Loc loc = Loc::current()) {
  ascsim::Api api("SetFixPipeClipRelu", loc);
  if (ascsim::isAic()) ascsim::setFixClipRelu(config);
}
template <class T>
void SetFixPipeAddr(const LocalTensor<T>&, uint16_t, Loc loc = Loc::current()) {
  ascsim::Api api("SetFixPipeAddr", loc);
  if (ascsim::isAic()) ascsim::notOnChip("SetFixPipeAddr (element-wise operation on the way out)");
}

}  // namespace AscendC
