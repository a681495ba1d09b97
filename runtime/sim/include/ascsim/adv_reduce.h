// High-level API, reductions (docs: SIMD-API, high-level API, reduction operations).
#pragma once
#include "ascsim/adv_misc_impl.h"
#include "ascsim/adv_reduce_pattern.h"

namespace AscendC {

struct SumParams {
  uint32_t outter = 1;
  uint32_t inner;
  uint32_t n;
};
struct MeanParams {
  uint32_t outter = 1;
  uint32_t inner;
  uint32_t n;
};

namespace detail {
template <class Acc, class T>
void sumCall(const char* name, ascsim::adv::Fold f, const LocalTensor<T>& dst,
             const LocalTensor<T>& src, const ascsim::adv::Tmp& tmp, uint32_t outer, uint32_t inner,
             uint32_t n, const Loc& loc) {
  static_assert(ascsim::adv::isHalfOrFloat<PrimT<T>>, "Sum and Mean: half and float are supported");
  static_assert(sizeof(Acc) >= sizeof(PrimT<T>), "Mean: accType must not be less precise than T");
  ascsim::Api api(name, loc);
  if (ascsim::isAic()) return;
  constexpr uint32_t size = sizeof(PrimT<T>), block = 32 / size;
  if (n == 0 || inner != (n + block - 1) / block * block)
    ascsim::fail(ascsim::kParam, "inner is %u for n = %u; it must be n filled up to 32-byte blocks",
                 inner, n);
  const uint32_t bytes = f == ascsim::adv::Fold::Sum ? ascsim::adv::sumTmp(n, size)
                                                     : ascsim::adv::meanTmp(n, size, sizeof(Acc));
  ascsim::adv::fold(f, ascsim::adv::arg(dst), ascsim::adv::arg(src), tmp.get(), bytes, outer, n,
                    inner, true);
}
template <class T, class pattern, bool isReuseSource>
void reduceCall(const char* name, ascsim::adv::Fold f, const LocalTensor<T>& dst,
                const LocalTensor<T>& src, const ascsim::adv::Tmp& tmp, const uint32_t* shape,
                bool innerPad, const Loc& loc) {
  static_assert(pattern::supported, "reductions: the pattern must be Pattern::Reduce::AR or RA");
  ascsim::Api api(name, loc);
  if (ascsim::isAic()) return;
  constexpr uint32_t block = 32 / sizeof(PrimT<T>);
  if (!innerPad && shape[1] % block != 0)
    ascsim::fail(ascsim::kParam,
                 "srcInnerPad is false; rows of %u elements must be filled up to 32 bytes and "
                 "srcInnerPad be true",
                 shape[1]);
  const uint32_t stride = (shape[1] + block - 1) / block * block;
  ascsim::adv::fold(f, ascsim::adv::arg(dst), ascsim::adv::arg(src), tmp.get(),
                    ascsim::adv::foldTmp(shape[0], stride, sizeof(PrimT<T>), isReuseSource),
                    shape[0], shape[1], stride, pattern::lastAxis);
}
}  // namespace detail

template <class T, int32_t reduceDim = -1, bool isReuseSource = false, bool isBasicBlock = false>
void Sum(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
         const LocalTensor<uint8_t>& sharedTmpBuffer, const SumParams& sumParams,
         Loc loc = Loc::current()) {
  detail::sumCall<PrimT<T>>("Sum", ascsim::adv::Fold::Sum, dstTensor, srcTensor, sharedTmpBuffer,
                            sumParams.outter, sumParams.inner, sumParams.n, loc);
}
template <class T, int32_t reduceDim = -1, bool isReuseSource = false, bool isBasicBlock = false>
void Sum(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
         const SumParams& sumParams, Loc loc = Loc::current()) {
  detail::sumCall<PrimT<T>>("Sum", ascsim::adv::Fold::Sum, dstTensor, srcTensor, {},
                            sumParams.outter, sumParams.inner, sumParams.n, loc);
}
template <class T, class accType = T, bool isReuseSource = false, bool isBasicBlock = false,
          int32_t reduceDim = -1>
void Mean(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
          const LocalTensor<uint8_t>& sharedTmpBuffer, const MeanParams& meanParams,
          Loc loc = Loc::current()) {
  detail::sumCall<PrimT<accType>>("Mean", ascsim::adv::Fold::Mean, dstTensor, srcTensor,
                                  sharedTmpBuffer, meanParams.outter, meanParams.inner,
                                  meanParams.n, loc);
}
template <class T, class accType = T, bool isReuseSource = false, bool isBasicBlock = false,
          int32_t reduceDim = -1>
void Mean(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,
          const MeanParams& meanParams, Loc loc = Loc::current()) {
  detail::sumCall<PrimT<accType>>("Mean", ascsim::adv::Fold::Mean, dstTensor, srcTensor, {},
                                  meanParams.outter, meanParams.inner, meanParams.n, loc);
}

#define ASCSIM_ADV_REDUCE(name, foldName, CHECK, what)                                           \
  template <class T, class pattern, bool isReuseSource = false>                                  \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,                    \
            const LocalTensor<uint8_t>& sharedTmpBuffer, const uint32_t srcShape[],              \
            bool srcInnerPad, Loc loc = Loc::current()) {                                        \
    static_assert(CHECK, #name ": " what);                                                       \
    detail::reduceCall<T, pattern, isReuseSource>(#name, ascsim::adv::Fold::foldName, dstTensor, \
                                                  srcTensor, sharedTmpBuffer, srcShape,          \
                                                  srcInnerPad, loc);                             \
  }                                                                                              \
  template <class T, class pattern, bool isReuseSource = false>                                  \
  void name(const LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor,                    \
            const uint32_t srcShape[], bool srcInnerPad, Loc loc = Loc::current()) {             \
    static_assert(CHECK, #name ": " what);                                                       \
    detail::reduceCall<T, pattern, isReuseSource>(#name, ascsim::adv::Fold::foldName, dstTensor, \
                                                  srcTensor, {}, srcShape, srcInnerPad, loc);    \
  }
#define ASCSIM_ADV_IS_FLOAT (std::is_same_v<PrimT<T>, float>)
#define ASCSIM_ADV_IS_HALF_FLOAT (ascsim::adv::isHalfOrFloat<PrimT<T>>)
#define ASCSIM_ADV_IS_BYTE_FLOAT \
  (std::is_same_v<PrimT<T>, float> || std::is_same_v<PrimT<T>, uint8_t>)
ASCSIM_ADV_REDUCE(ReduceSum, Sum, ASCSIM_ADV_IS_FLOAT, "float is supported on this chip")
ASCSIM_ADV_REDUCE(ReduceMean, Mean, ASCSIM_ADV_IS_FLOAT, "float is supported")
ASCSIM_ADV_REDUCE(ReduceProd, Prod, ASCSIM_ADV_IS_FLOAT, "float is supported")
ASCSIM_ADV_REDUCE(ReduceMax, Max, ASCSIM_ADV_IS_HALF_FLOAT,
                  "half and float are supported on this chip")
ASCSIM_ADV_REDUCE(ReduceMin, Min, ASCSIM_ADV_IS_HALF_FLOAT,
                  "half and float are supported on this chip")
ASCSIM_ADV_REDUCE(ReduceAny, Any, ASCSIM_ADV_IS_BYTE_FLOAT, "uint8_t and float are supported")
ASCSIM_ADV_REDUCE(ReduceAll, All, ASCSIM_ADV_IS_BYTE_FLOAT, "uint8_t and float are supported")
#undef ASCSIM_ADV_REDUCE

namespace detail {
template <class T>
void xorSumCall(const LocalTensor<T>& dst, const LocalTensor<T>& a, const LocalTensor<T>& b,
                const ascsim::adv::Tmp& tmp, uint32_t n, bool reuse, const Loc& loc) {
  static_assert(std::is_same_v<PrimT<T>, int16_t>, "ReduceXorSum: int16_t is supported");
  ascsim::Api api("ReduceXorSum", loc);
  if (ascsim::isAic()) return;
  ascsim::adv::reduceXorSum(ascsim::adv::arg(dst), ascsim::adv::arg(a), ascsim::adv::arg(b),
                            tmp.get(), n, reuse);
}
}  // namespace detail
template <class T, bool isReuseSource = false>
void ReduceXorSum(const LocalTensor<T>& dstTensor, const LocalTensor<T>& src0Tensor,
                  const LocalTensor<T>& src1Tensor, const LocalTensor<uint8_t>& sharedTmpBuffer,
                  const uint32_t calCount, Loc loc = Loc::current()) {
  detail::xorSumCall(dstTensor, src0Tensor, src1Tensor, sharedTmpBuffer, calCount, isReuseSource,
                     loc);
}
template <class T, bool isReuseSource = false>
void ReduceXorSum(const LocalTensor<T>& dstTensor, const LocalTensor<T>& src0Tensor,
                  const LocalTensor<T>& src1Tensor, const uint32_t calCount,
                  Loc loc = Loc::current()) {
  detail::xorSumCall(dstTensor, src0Tensor, src1Tensor, {}, calCount, isReuseSource, loc);
}

}  // namespace AscendC
