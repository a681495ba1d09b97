// Data movement between global memory, UB and L1 (docs: data movement, atomic operations).
#pragma once
#include "ascsim/datacopy_params.h"

namespace ascsim {

// `count` runs of `bytes` each; steps are from head to head, in bytes.
struct Runs {
  uint64_t count = 1;
  uint64_t bytes = 0;
  int64_t dstStep = 0;
  int64_t srcStep = 0;
};

// Padding of one run on its way into UB, in bytes; `value` is one element.
struct Pads {
  bool isPad = false;
  uint32_t left = 0;
  uint32_t right = 0;
  uint64_t value = 0;
};

// The parameter structures whose fields are wider on the 950, as the library takes them.
struct ExtParams {
  uint32_t blockCount;
  uint32_t blockLen;
  int64_t srcStride;
  int64_t dstStride;
  ExtParams(const AscendC::DataCopyExtParams& p)
      : blockCount(p.blockCount),
        blockLen(p.blockLen),
        srcStride(static_cast<int64_t>(p.srcStride)),
        dstStride(static_cast<int64_t>(p.dstStride)) {}
};
struct NdNz {
  uint64_t ndNum, nValue, dValue, srcNdMatrixStride, srcDValue, dstNzC0Stride, dstNzNStride,
      dstNzMatrixStride;
  NdNz(const AscendC::Nd2NzParams& p)
      : ndNum(p.ndNum),
        nValue(p.nValue),
        dValue(p.dValue),
        srcNdMatrixStride(p.srcNdMatrixStride),
        srcDValue(p.srcDValue),
        dstNzC0Stride(p.dstNzC0Stride),
        dstNzNStride(p.dstNzNStride),
        dstNzMatrixStride(p.dstNzMatrixStride) {}
};

// The copy engine. int4b_t counts as bytes.
void copyCount(const Place& dst, const Place& src, uint64_t bytes, DType type);
void copyBlocks(const Place& dst, const Place& src, const AscendC::DataCopyParams& p, DType type,
                DType srcType);
void copyPadIn(const Place& dst, const Place& src, const ExtParams& p, const Pads& pads, DType type,
               bool compact);
void copyPadOut(const Place& dst, const Place& src, const ExtParams& p, DType type, bool compact);
void copyNd2Nz(const Place& dst, const Place& src, const NdNz& p, DType type);
void copyDn2Nz(const Place& dst, const Place& src, const AscendC::Dn2NzParams& p, DType type);
void copyNz2Nd(const Place& dst, const Place& src, const AscendC::Nz2NdParamsFull& p, DType type);
void copySlices(const Place& dst, const Place& src, const AscendC::SliceInfo* dstSlice,
                const AscendC::SliceInfo* srcSlice, uint32_t dims, DType type);
void copyUbToL1Pad(const Place& dst, const Place& src, const ExtParams& p, const NdNz& nz,
                   DType type);
void checkEnhanced(const AscendC::DataCopyEnhancedParams& p);
[[noreturn]] void notOnChip(const char* what);

void setPadValue(uint64_t bits);
void setAtomic(uint8_t op, DType type);
// Bytes of GM that the scalar unit reads or writes around its data cache.
void scalarBypass(void* address, uint64_t bytes, bool write);

template <class T>
constexpr bool kMovable =
    std::is_arithmetic_v<T> || std::is_same_v<T, half> || std::is_same_v<T, bfloat16_t> ||
    std::is_same_v<T, AscendC::int4b_t> || std::is_class_v<T>;

template <class T>
uint64_t bitsOf(T v) {
  uint64_t b = 0;
  __builtin_memcpy(&b, &v, sizeof(T) < 8 ? sizeof(T) : 8);
  return b;
}

// Half of the cores of a launch do not have the memories of a call: it does nothing there.
template <class D, class S>
bool elsewhere(const AscendC::LocalTensor<D>& dst, const AscendC::LocalTensor<S>& src) {
  const Mem d = memOf(static_cast<AscendC::TPosition>(dst.GetPosition()));
  const Mem s = memOf(static_cast<AscendC::TPosition>(src.GetPosition()));
  if (s == Mem::UB && d == Mem::L1) return isAic();  // UB to L1 is issued by the vector core
  return dst.absent() || src.absent();
}

}  // namespace ascsim

namespace AscendC {

// ------------------------------------------------------------------------------- contiguous
template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const uint32_t count,
              Loc loc = Loc::current()) {
  static_assert(ascsim::kMovable<PrimT<T>>,
                "DataCopy moves arithmetic types, half, bfloat16_t, int4b_t");
  ascsim::Api api("DataCopy", loc);
  if (dst.absent()) return;
  ascsim::copyCount(dst.place(), src.place(), ascsim::bytesOf<PrimT<T>>(count),
                    ascsim::dtypeOf<PrimT<T>>());
}
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,
              Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (src.absent()) return;
  ascsim::copyCount(dst.place(), src.place(), ascsim::bytesOf<PrimT<T>>(count),
                    ascsim::dtypeOf<PrimT<T>>());
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,
              Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (ascsim::elsewhere(dst, src)) return;
  ascsim::copyCount(dst.place(), src.place(), ascsim::bytesOf<PrimT<T>>(count),
                    ascsim::dtypeOf<PrimT<T>>());
}

// ------------------------------------------------------------------------------- strided
template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
              const DataCopyParams& repeatParams, Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (dst.absent()) return;
  constexpr ascsim::DType t = ascsim::dtypeOf<PrimT<T>>();
  ascsim::copyBlocks(dst.place(), src.place(), repeatParams, t, t);
}
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src,
              const DataCopyParams& repeatParams, Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (src.absent()) return;
  constexpr ascsim::DType t = ascsim::dtypeOf<PrimT<T>>();
  ascsim::copyBlocks(dst.place(), src.place(), repeatParams, t, t);
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src,
              const DataCopyParams& repeatParams, Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (ascsim::elsewhere(dst, src)) return;
  constexpr ascsim::DType t = ascsim::dtypeOf<PrimT<T>>();
  ascsim::copyBlocks(dst.place(), src.place(), repeatParams, t, t);
}
// L1 to BT, with conversion of a half bias to float.
template <class T, class U>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<U>& src,
              const DataCopyParams& repeatParams, Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (ascsim::elsewhere(dst, src)) return;
  ascsim::copyBlocks(dst.place(), src.place(), repeatParams, ascsim::dtypeOf<PrimT<T>>(),
                     ascsim::dtypeOf<PrimT<U>>());
}

// ------------------------------------------------------------------------------- enhanced
template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
              const DataCopyParams& intriParams, const DataCopyEnhancedParams& enhancedParams,
              Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  ascsim::checkEnhanced(enhancedParams);
  DataCopy(dst, src, intriParams, loc);
}
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src,
              const DataCopyParams& intriParams, const DataCopyEnhancedParams& enhancedParams,
              Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  ascsim::checkEnhanced(enhancedParams);
  DataCopy(dst, src, intriParams, loc);
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src,
              const DataCopyParams& intriParams, const DataCopyEnhancedParams& enhancedParams,
              Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  ascsim::checkEnhanced(enhancedParams);
  DataCopy(dst, src, intriParams, loc);
}
template <class T, class U>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const DataCopyParams&,
              const DataCopyEnhancedParams&, Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (ascsim::elsewhere(dst, src)) return;
  ascsim::notOnChip("the enhanced DataCopy between L0C and UB; use Fixpipe");
}

// ------------------------------------------------------------------------------- slices
template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const SliceInfo dstSliceInfo[],
              const SliceInfo srcSliceInfo[], const uint32_t dimValue = 1,
              Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (dst.absent()) return;
  ascsim::copySlices(dst.place(), src.place(), dstSliceInfo, srcSliceInfo, dimValue,
                     ascsim::dtypeOf<PrimT<T>>());
}
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const SliceInfo dstSliceInfo[],
              const SliceInfo srcSliceInfo[], const uint32_t dimValue = 1,
              Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (src.absent()) return;
  ascsim::copySlices(dst.place(), src.place(), dstSliceInfo, srcSliceInfo, dimValue,
                     ascsim::dtypeOf<PrimT<T>>());
}

// ------------------------------------------------------------------------------- formats
#if ASCSIM_WIDE_COPY
template <class T, bool enableSmallC0 = false>
#else
template <class T>
#endif
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const Nd2NzParams& intriParams,
              Loc loc = Loc::current()) {
  static_assert(sizeof(PrimT<T>) <= 4, "DataCopy with Nd2NzParams takes types of at most 32 bits");
#if ASCSIM_WIDE_COPY
  static_assert(!enableSmallC0, "the simulator does not model enableSmallC0");
#endif
  ascsim::Api api("DataCopy", loc);
  if (dst.absent()) return;
  ascsim::copyNd2Nz(dst.place(), src.place(), intriParams, ascsim::dtypeOf<PrimT<T>>());
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const Nd2NzParams& intriParams,
              Loc loc = Loc::current()) {
  ascsim::Api api("DataCopy", loc);
  if (ascsim::elsewhere(dst, src)) return;
  ascsim::copyNd2Nz(dst.place(), src.place(), intriParams, ascsim::dtypeOf<PrimT<T>>());
}
#if ASCSIM_WIDE_COPY
template <class T, bool enableSmallC0 = false>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const Dn2NzParams& intriParams,
              Loc loc = Loc::current()) {
  static_assert(!enableSmallC0, "the simulator does not model enableSmallC0");
  ascsim::Api api("DataCopy", loc);
  if (dst.absent()) return;
  ascsim::copyDn2Nz(dst.place(), src.place(), intriParams, ascsim::dtypeOf<PrimT<T>>());
}
#endif
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src,
              const Nz2NdParamsFull& intriParams, Loc loc = Loc::current()) {
  static_assert(sizeof(PrimT<T>) == 2 || sizeof(PrimT<T>) == 4,
                "DataCopy with Nz2NdParamsFull takes 16-bit and 32-bit types");
  ascsim::Api api("DataCopy", loc);
  if (src.absent()) return;
  ascsim::copyNz2Nd(dst.place(), src.place(), intriParams, ascsim::dtypeOf<PrimT<T>>());
}

// ------------------------------------------------------------------------------- any length
#if ASCSIM_WIDE_COPY
#define ASCSIM_PAD_MODE , PaddingMode mode = PaddingMode::Normal
#define ASCSIM_COMPACT (mode == PaddingMode::Compact)
#else
#define ASCSIM_PAD_MODE
#define ASCSIM_COMPACT false
#endif

namespace detail {
template <class T>
ascsim::Pads padsOf(bool isPad, uint32_t left, uint32_t right, uint64_t value) {
  return {isPad, static_cast<uint32_t>(left * sizeof(T)), static_cast<uint32_t>(right * sizeof(T)),
          value};
}
// With DataCopyParams the lengths and GM gaps of DataCopyPad are bytes, as with the extended ones.
inline DataCopyExtParams extended(const DataCopyParams& p) {
  return DataCopyExtParams(p.blockCount, p.blockLen, p.srcStride, p.dstStride, 0);
}
}  // namespace detail

template <class T ASCSIM_PAD_MODE>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
                 const DataCopyExtParams& dataCopyParams, const DataCopyPadExtParams<T>& padParams,
                 Loc loc = Loc::current()) {
  ascsim::Api api("DataCopyPad", loc);
  if (dst.absent()) return;
  ascsim::copyPadIn(
      dst.place(), src.place(), dataCopyParams,
      detail::padsOf<PrimT<T>>(padParams.isPad, padParams.leftPadding, padParams.rightPadding,
                               ascsim::bitsOf(padParams.paddingValue)),
      ascsim::dtypeOf<PrimT<T>>(), ASCSIM_COMPACT);
}
template <class T, class U,
          std::enable_if_t<std::is_same_v<PrimT<T>, U> && !std::is_same_v<T, U>, bool> = true>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
                 const DataCopyExtParams& dataCopyParams, const DataCopyPadExtParams<U>& padParams,
                 Loc loc = Loc::current()) {
  ascsim::Api api("DataCopyPad", loc);
  if (dst.absent()) return;
  ascsim::copyPadIn(
      dst.place(), src.place(), dataCopyParams,
      detail::padsOf<U>(padParams.isPad, padParams.leftPadding, padParams.rightPadding,
                        ascsim::bitsOf(padParams.paddingValue)),
      ascsim::dtypeOf<U>(), false);
}
template <class T ASCSIM_PAD_MODE>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
                 const DataCopyParams& dataCopyParams, const DataCopyPadParams& padParams,
                 Loc loc = Loc::current()) {
  ascsim::Api api("DataCopyPad", loc);
  if (dst.absent()) return;
  ascsim::copyPadIn(dst.place(), src.place(), detail::extended(dataCopyParams),
                    detail::padsOf<PrimT<T>>(padParams.isPad, padParams.leftPadding,
                                             padParams.rightPadding, padParams.paddingValue),
                    ascsim::dtypeOf<PrimT<T>>(), ASCSIM_COMPACT);
}
template <class T ASCSIM_PAD_MODE>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src,
                 const DataCopyExtParams& dataCopyParams, Loc loc = Loc::current()) {
  ascsim::Api api("DataCopyPad", loc);
  if (src.absent()) return;
  ascsim::copyPadOut(dst.place(), src.place(), dataCopyParams, ascsim::dtypeOf<PrimT<T>>(),
                     ASCSIM_COMPACT);
}
template <class T ASCSIM_PAD_MODE>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src,
                 const DataCopyParams& dataCopyParams, Loc loc = Loc::current()) {
  ascsim::Api api("DataCopyPad", loc);
  if (src.absent()) return;
  ascsim::copyPadOut(dst.place(), src.place(), detail::extended(dataCopyParams),
                     ascsim::dtypeOf<PrimT<T>>(), ASCSIM_COMPACT);
}
// UB to L1 by way of a workspace in GM.
template <class T>
void DataCopyPad(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                 const DataCopyExtParams& dataCopyParams, const Nd2NzParams& nd2nzParams,
                 Loc loc = Loc::current()) {
  ascsim::Api api("DataCopyPad", loc);
  if (ascsim::elsewhere(dst, src)) return;
  ascsim::copyUbToL1Pad(dst.place(), src.place(), dataCopyParams, nd2nzParams,
                        ascsim::dtypeOf<PrimT<T>>());
}
template <class T>
void DataCopyPad(const LocalTensor<T>& dst, const LocalTensor<T>& src,
                 const DataCopyParams& dataCopyParams, const Nd2NzParams& nd2nzParams,
                 Loc loc = Loc::current()) {
  DataCopyPad(dst, src, detail::extended(dataCopyParams), nd2nzParams, loc);
}
#undef ASCSIM_PAD_MODE
#undef ASCSIM_COMPACT

template <class T, TPosition pos = TPosition::MAX>
void SetPadValue(T paddingValue, Loc loc = Loc::current()) {
  static_assert(pos == TPosition::MAX || pos == TPosition::VECIN || pos == TPosition::VECOUT,
                "SetPadValue is for VECIN and VECOUT");
  ascsim::Api api("SetPadValue", loc);
  ascsim::setPadValue(ascsim::bitsOf(paddingValue));
}

template <class T, uint8_t subBlockId = 0>
void DataCopyL1ToUB(const LocalTensor<T>&, const LocalTensor<T>&, const uint32_t,
                    Loc loc = Loc::current()) {
  ascsim::Api api("DataCopyL1ToUB", loc);
  ascsim::notOnChip("DataCopyL1ToUB");
}
template <class T, uint8_t subBlockId = 0>
void DataCopyL1ToUB(const LocalTensor<T>&, const LocalTensor<T>&, const DataCopyParams&,
                    Loc loc = Loc::current()) {
  ascsim::Api api("DataCopyL1ToUB", loc);
  ascsim::notOnChip("DataCopyL1ToUB");
}
inline void NdDmaDci(Loc loc = Loc::current()) {
  ascsim::Api api("NdDmaDci", loc);
  ascsim::notOnChip("NdDmaDci");
}
inline void SetLoopModePara(const LoopModeParams&, DataCopyMVType, Loc loc = Loc::current()) {
  ascsim::Api api("SetLoopModePara", loc);
  ascsim::notOnChip("SetLoopModePara");
}
inline void ResetLoopModePara(DataCopyMVType, Loc loc = Loc::current()) {
  ascsim::Api api("ResetLoopModePara", loc);
  ascsim::notOnChip("ResetLoopModePara");
}

// ------------------------------------------------------------------------------- atomics
namespace detail {
template <class T>
void setAtomic(const char* name, uint8_t op, Loc loc) {
  using P = PrimT<T>;
  static_assert(std::is_same_v<P, float> || std::is_same_v<P, half> || std::is_same_v<P, int16_t> ||
                    std::is_same_v<P, int32_t> || std::is_same_v<P, int8_t> ||
                    std::is_same_v<P, bfloat16_t>,
                "atomic copies take int8_t, int16_t, half, bfloat16_t, int32_t and float");
  ascsim::Api api(name, loc);
  ascsim::setAtomic(op, ascsim::dtypeOf<P>());
}
}  // namespace detail

template <class T>
void SetAtomicAdd(Loc loc = Loc::current()) {
  detail::setAtomic<T>("SetAtomicAdd", 1, loc);
}
template <class T>
void SetAtomicMax(Loc loc = Loc::current()) {
  detail::setAtomic<T>("SetAtomicMax", 2, loc);
}
template <class T>
void SetAtomicMin(Loc loc = Loc::current()) {
  detail::setAtomic<T>("SetAtomicMin", 3, loc);
}
template <class T>
void SetAtomicType(Loc loc = Loc::current()) {
  detail::setAtomic<T>("SetAtomicType", 4, loc);  // keeps the operation
}
inline void DisableDmaAtomic(Loc loc = Loc::current()) {
  ascsim::Api api("DisableDmaAtomic", loc);
  ascsim::setAtomic(0, ascsim::DType::Other);
}
inline void SetAtomicNone(Loc loc = Loc::current()) {
  ascsim::Api api("SetAtomicNone", loc);
  ascsim::setAtomic(0, ascsim::DType::Other);
}
template <AtomicDtype type, AtomicOp op>
void SetStoreAtomicConfig(Loc loc = Loc::current()) {
  using D = ascsim::DType;
  constexpr D types[] = {D::Other, D::F32, D::F16, D::I16, D::I32, D::I8, D::BF16};
  ascsim::Api api("SetStoreAtomicConfig", loc);
  ascsim::setAtomic(type == AtomicDtype::ATOMIC_NONE ? 0 : 1, types[static_cast<int>(type)]);
}
inline void GetStoreAtomicConfig(uint16_t& atomicType, uint16_t& atomicOp) {
  using D = ascsim::DType;
  constexpr D types[] = {D::Other, D::F32, D::F16, D::I16, D::I32, D::I8, D::BF16};
  atomicType = 0;
  atomicOp = 0;
  const ascsim::Core& c = ascsim::core();
  for (uint16_t i = 1; i < 7; ++i)
    if (c.atomicOp != 0 && c.atomicType == types[i]) atomicType = i;
}

// ------------------------------------------------------------------------------- scalar
template <class T>
T ReadGmByPassDCache(__gm__ T* addr, Loc loc = Loc::current()) {
  static_assert(std::is_integral_v<T>, "ReadGmByPassDCache takes integers of 8 to 64 bits");
  ascsim::Api api("ReadGmByPassDCache", loc);
  ascsim::scalarBypass(const_cast<std::remove_const_t<T>*>(addr), sizeof(T), false);
  return *addr;
}
template <class T>
void WriteGmByPassDCache(__gm__ T* addr, T value, Loc loc = Loc::current()) {
  static_assert(std::is_integral_v<T>, "WriteGmByPassDCache takes integers of 8 to 64 bits");
  ascsim::Api api("WriteGmByPassDCache", loc);
  ascsim::scalarBypass(addr, sizeof(T), true);
  *addr = value;
}

}  // namespace AscendC
