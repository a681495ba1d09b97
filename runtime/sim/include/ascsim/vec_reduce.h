// Reductions (docs: basic API, memory vector computation, reductions), and their older names.
#pragma once
#include "ascsim/vec_mask.h"

namespace AscendC {

enum class ReduceType { NONE = -1, SUM = 0, MAX, MIN };
enum class ReduceOrder : uint8_t {
  ORDER_VALUE_INDEX = 0,
  ORDER_INDEX_VALUE,
  ORDER_ONLY_VALUE,
  ORDER_ONLY_INDEX
};

}  // namespace AscendC

namespace ascsim {

struct ReduceArgs {
  Place dst;
  Place src;
  DType dtype;  // F16 or F32
  int64_t dstRepStride = 1;
  int64_t srcBlkStride = 1;
  int64_t srcRepStride = 8;
  AscendC::ReduceOrder order = AscendC::ReduceOrder::ORDER_VALUE_INDEX;
};
void reduceRepeat(AscendC::ReduceType op, const ReduceArgs& args, const Lanes& lanes);
void reduceBlock(AscendC::ReduceType op, const ReduceArgs& args, const Lanes& lanes);
void reducePair(const ReduceArgs& args, const Lanes& lanes);
// All lanes to one value. The sum of a count adds the repeats in order; that of mask and repeat is
// a tree over them, through `work`. Maximum and minimum keep a pair per repeat in `work`.
void reduceSumCount(const ReduceArgs& args, const Lanes& lanes);
// `lanes` is of one repeat, or of all in counter mode.
void reduceSumAll(const ReduceArgs& args, const Place& work, const Lanes& lanes, int64_t repeats);
void reduceMaxMinAll(AscendC::ReduceType op, const ReduceArgs& args, const Place& work,
                     const Lanes& lanes, int64_t repeats, bool calIndex);

template <class T, class U = T>
ReduceArgs reduceArgs(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<U>& src) {
  using P = AscendC::PrimT<T>;
  static_assert(isOneOf<P, half, float>, "this reduction takes half or float on this chip");
  static_assert(std::is_same_v<P, AscendC::PrimT<U>>,
                "the source and the result of a reduction have the same type on this chip");
  ReduceArgs a;
  a.dst = dst.place();
  a.src = src.place();
  a.dtype = dtypeOf<P>();
  return a;
}

enum class ReduceUnit : uint8_t { Repeat, Block, Pair };
template <ReduceUnit unit, AscendC::ReduceType op, bool isSetMask, class T, class U, class M>
void reduceCall(const char* name, const AscendC::LocalTensor<T>& dst,
                const AscendC::LocalTensor<U>& src, M mask, int32_t repeatTime,
                int32_t dstRepStride, int32_t srcBlkStride, int32_t srcRepStride,
                AscendC::ReduceOrder order, const Loc& loc) {
  static_assert(op == AscendC::ReduceType::SUM || op == AscendC::ReduceType::MAX ||
                    op == AscendC::ReduceType::MIN,
                "the kind of a reduction is SUM, MAX or MIN");
  Api api(name, loc);
  ReduceArgs a = reduceArgs(dst, src);
  if (isAic()) return;
  a.dstRepStride = dstRepStride;
  a.srcBlkStride = srcBlkStride;
  a.srcRepStride = srcRepStride;
  a.order = order;
  const Lanes l = lanesFor(isSetMask, mask, repeatTime, sizeof(AscendC::PrimT<T>));
  if constexpr (unit == ReduceUnit::Repeat)
    reduceRepeat(op, a, l);
  else if constexpr (unit == ReduceUnit::Block)
    reduceBlock(op, a, l);
  else
    reducePair(a, l);
}

template <class T>
void sumAllCall(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
                const AscendC::LocalTensor<T>& work, const Lanes& one, int32_t repeatTime,
                int32_t srcRepStride) {
  ReduceArgs a = reduceArgs(dst, src);
  a.srcRepStride = srcRepStride;
  reduceSumAll(a, work.place(), one, repeatTime);
}
template <class T>
void maxMinAllCall(AscendC::ReduceType op, const AscendC::LocalTensor<T>& dst,
                   const AscendC::LocalTensor<T>& src, const AscendC::LocalTensor<T>& work,
                   const Lanes& one, int32_t repeatTime, int32_t srcRepStride, bool calIndex) {
  ReduceArgs a = reduceArgs(dst, src);
  a.srcRepStride = srcRepStride;
  reduceMaxMinAll(op, a, work.place(), one, repeatTime, calIndex);
}
template <class T>
void maxMinCountCall(AscendC::ReduceType op, const AscendC::LocalTensor<T>& dst,
                     const AscendC::LocalTensor<T>& src, const AscendC::LocalTensor<T>& work,
                     int32_t count, bool calIndex) {
  const ReduceArgs a = reduceArgs(dst, src);
  reduceMaxMinAll(op, a, work.place(), lanesForCount(true, count, sizeof(AscendC::PrimT<T>)), 1,
                  calIndex);
}

template <class T>
T sprValue(Spr spr) {
  T v;
  const uint64_t bits = readSpr(spr);
  __builtin_memcpy(&v, &bits, sizeof(T));
  return v;
}

}  // namespace ascsim

namespace AscendC {

// One result per repeat, per block of 32 bytes, per pair of neighbours.
#define ASCSIM_REDUCE(NAME, UNIT, MASK)                                                           \
  template <ReduceType reduceType, typename T, typename U, bool isSetMask = true>                 \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src, MASK, const int32_t repeatTime, \
            const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride,   \
            Loc loc = Loc::current()) {                                                           \
    ascsim::reduceCall<ascsim::ReduceUnit::UNIT, reduceType, isSetMask>(                          \
        #NAME, dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride,              \
        ReduceOrder::ORDER_VALUE_INDEX, loc);                                                     \
  }
ASCSIM_REDUCE(ReduceDataBlock, Block, const int32_t mask)
ASCSIM_REDUCE(ReduceDataBlock, Block, const uint64_t mask[])
#undef ASCSIM_REDUCE

#define ASCSIM_REDUCE_PAIR(MASK)                                                                \
  template <ReduceType reduceType, typename T, typename U, bool isSetMask = true>               \
  void ReducePairElem(const LocalTensor<T>& dst, const LocalTensor<U>& src, MASK,               \
                      const int32_t repeatTime, const int32_t dstRepStride,                     \
                      const int32_t srcBlkStride, const int32_t srcRepStride,                   \
                      Loc loc = Loc::current()) {                                               \
    static_assert(reduceType == ReduceType::SUM, "ReducePairElem only sums");                   \
    ascsim::reduceCall<ascsim::ReduceUnit::Pair, reduceType, isSetMask>(                        \
        "ReducePairElem", dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride, \
        ReduceOrder::ORDER_VALUE_INDEX, loc);                                                   \
  }                                                                                             \
  template <typename T, bool isSetMask = true>                                                  \
  void PairReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src,                      \
                     const int32_t repeatTime, MASK, const int32_t dstRepStride,                \
                     const int32_t srcBlkStride, const int32_t srcRepStride,                    \
                     Loc loc = Loc::current()) {                                                \
    ascsim::reduceCall<ascsim::ReduceUnit::Pair, ReduceType::SUM, isSetMask>(                   \
        "PairReduceSum", dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride,  \
        ReduceOrder::ORDER_VALUE_INDEX, loc);                                                   \
  }
ASCSIM_REDUCE_PAIR(const int32_t mask)
ASCSIM_REDUCE_PAIR(const uint64_t mask[])
#undef ASCSIM_REDUCE_PAIR

#define ASCSIM_REDUCE_REPEAT(MASK)                                                                \
  template <ReduceType reduceType, typename T, typename U, bool isSetMask = true>                 \
  void ReduceRepeat(                                                                              \
      const LocalTensor<T>& dst, const LocalTensor<U>& src, MASK, const int32_t repeatTime,       \
      const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride,         \
      ReduceOrder order = ReduceOrder::ORDER_VALUE_INDEX, Loc loc = Loc::current()) {             \
    ascsim::reduceCall<ascsim::ReduceUnit::Repeat, reduceType, isSetMask>(                        \
        "ReduceRepeat", dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride,     \
        order, loc);                                                                              \
  }                                                                                               \
  template <typename T, typename U, bool isSetMask = true>                                        \
  void WholeReduceSum(const LocalTensor<U>& dst, const LocalTensor<T>& src, MASK,                 \
                      const int32_t repeatTime, const int32_t dstRepStride,                       \
                      const int32_t srcBlkStride, const int32_t srcRepStride,                     \
                      Loc loc = Loc::current()) {                                                 \
    ascsim::reduceCall<ascsim::ReduceUnit::Repeat, ReduceType::SUM, isSetMask>(                   \
        "WholeReduceSum", dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride,   \
        ReduceOrder::ORDER_VALUE_INDEX, loc);                                                     \
  }                                                                                               \
  template <typename T, bool isSetMask = true>                                                    \
  void WholeReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, MASK,                 \
                      const int32_t repeatTime, const int32_t dstRepStride,                       \
                      const int32_t srcBlkStride, const int32_t srcRepStride,                     \
                      Loc loc = Loc::current()) {                                                 \
    ascsim::reduceCall<ascsim::ReduceUnit::Repeat, ReduceType::SUM, isSetMask>(                   \
        "WholeReduceSum", dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride,   \
        ReduceOrder::ORDER_VALUE_INDEX, loc);                                                     \
  }                                                                                               \
  /* The stride of the blocks of the result has no effect: a repeat gives one element. */         \
  template <typename T, bool isSetMask = true>                                                    \
  void RepeatReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src,                      \
                       const int32_t repeatTime, MASK, const int32_t, const int32_t srcBlkStride, \
                       const int32_t dstRepStride, const int32_t srcRepStride,                    \
                       Loc loc = Loc::current()) {                                                \
    ascsim::reduceCall<ascsim::ReduceUnit::Repeat, ReduceType::SUM, isSetMask>(                   \
        "RepeatReduceSum", dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride,  \
        ReduceOrder::ORDER_VALUE_INDEX, loc);                                                     \
  }
ASCSIM_REDUCE_REPEAT(const int32_t mask)
ASCSIM_REDUCE_REPEAT(const uint64_t mask[])
#undef ASCSIM_REDUCE_REPEAT

#define ASCSIM_REDUCE_WHOLE(NAME, TYPE, MASK)                                                     \
  template <typename T, bool isSetMask = true>                                                    \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, MASK, const int32_t repeatTime, \
            const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride,   \
            ReduceOrder order = ReduceOrder::ORDER_VALUE_INDEX, Loc loc = Loc::current()) {       \
    ascsim::reduceCall<ascsim::ReduceUnit::Repeat, ReduceType::TYPE, isSetMask>(                  \
        #NAME, dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride, order, loc); \
  }
ASCSIM_REDUCE_WHOLE(WholeReduceMax, MAX, const int32_t mask)
ASCSIM_REDUCE_WHOLE(WholeReduceMax, MAX, const uint64_t mask[])
ASCSIM_REDUCE_WHOLE(WholeReduceMin, MIN, const int32_t mask)
ASCSIM_REDUCE_WHOLE(WholeReduceMin, MIN, const uint64_t mask[])
#undef ASCSIM_REDUCE_WHOLE

#define ASCSIM_REDUCE_BLOCK(NAME, TYPE, MASK)                                                     \
  template <typename T, bool isSetMask = true>                                                    \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t repeatTime, MASK, \
            const int32_t dstRepStride, const int32_t srcBlkStride, const int32_t srcRepStride,   \
            Loc loc = Loc::current()) {                                                           \
    ascsim::reduceCall<ascsim::ReduceUnit::Block, ReduceType::TYPE, isSetMask>(                   \
        #NAME, dst, src, mask, repeatTime, dstRepStride, srcBlkStride, srcRepStride,              \
        ReduceOrder::ORDER_VALUE_INDEX, loc);                                                     \
  }
ASCSIM_REDUCE_BLOCK(BlockReduceSum, SUM, const int32_t mask)
ASCSIM_REDUCE_BLOCK(BlockReduceSum, SUM, const uint64_t mask[])
ASCSIM_REDUCE_BLOCK(BlockReduceMax, MAX, const int32_t mask)
ASCSIM_REDUCE_BLOCK(BlockReduceMax, MAX, const uint64_t mask[])
ASCSIM_REDUCE_BLOCK(BlockReduceMin, MIN, const int32_t mask)
ASCSIM_REDUCE_BLOCK(BlockReduceMin, MIN, const uint64_t mask[])
#undef ASCSIM_REDUCE_BLOCK

// The whole tensor to one value.
template <typename T, bool isSetMask = true>
void ReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>&,
               const int32_t count, Loc loc = Loc::current()) {
  ascsim::Api api("ReduceSum", loc);
  const ascsim::ReduceArgs a = ascsim::reduceArgs(dst, src);
  if (ascsim::isAic()) return;
  ascsim::reduceSumCount(a, ascsim::lanesForCount(isSetMask, count, sizeof(PrimT<T>)));
}
#define ASCSIM_REDUCE_ALL(MASK)                                                             \
  template <typename T>                                                                     \
  void ReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src,                      \
                 const LocalTensor<T>& sharedTmpBuffer, MASK, const int32_t repeatTime,     \
                 const int32_t srcRepStride, Loc loc = Loc::current()) {                    \
    ascsim::Api api("ReduceSum", loc);                                                      \
    if (ascsim::isAic()) return;                                                            \
    ascsim::sumAllCall(dst, src, sharedTmpBuffer,                                           \
                       ascsim::lanesFor(true, mask, 1, sizeof(PrimT<T>)), repeatTime,       \
                       srcRepStride);                                                       \
  }                                                                                         \
  template <typename T>                                                                     \
  void ReduceMax(const LocalTensor<T>& dst, const LocalTensor<T>& src,                      \
                 const LocalTensor<T>& sharedTmpBuffer, MASK, const int32_t repeatTime,     \
                 const int32_t srcRepStride, bool calIndex = 0, Loc loc = Loc::current()) { \
    ascsim::Api api("ReduceMax", loc);                                                      \
    if (ascsim::isAic()) return;                                                            \
    ascsim::maxMinAllCall(ReduceType::MAX, dst, src, sharedTmpBuffer,                       \
                          ascsim::lanesFor(true, mask, 1, sizeof(PrimT<T>)), repeatTime,    \
                          srcRepStride, calIndex);                                          \
  }                                                                                         \
  template <typename T>                                                                     \
  void ReduceMin(const LocalTensor<T>& dst, const LocalTensor<T>& src,                      \
                 const LocalTensor<T>& sharedTmpBuffer, MASK, const int32_t repeatTime,     \
                 const int32_t srcRepStride, bool calIndex = 0, Loc loc = Loc::current()) { \
    ascsim::Api api("ReduceMin", loc);                                                      \
    if (ascsim::isAic()) return;                                                            \
    ascsim::maxMinAllCall(ReduceType::MIN, dst, src, sharedTmpBuffer,                       \
                          ascsim::lanesFor(true, mask, 1, sizeof(PrimT<T>)), repeatTime,    \
                          srcRepStride, calIndex);                                          \
  }
ASCSIM_REDUCE_ALL(const int32_t mask)
ASCSIM_REDUCE_ALL(const uint64_t mask[])
#undef ASCSIM_REDUCE_ALL

template <typename T>
void ReduceMax(const LocalTensor<T>& dst, const LocalTensor<T>& src,
               const LocalTensor<T>& sharedTmpBuffer, const int32_t count, bool calIndex = 0,
               Loc loc = Loc::current()) {
  ascsim::Api api("ReduceMax", loc);
  if (ascsim::isAic()) return;
  ascsim::maxMinCountCall(ReduceType::MAX, dst, src, sharedTmpBuffer, count, calIndex);
}
template <typename T>
void ReduceMin(const LocalTensor<T>& dst, const LocalTensor<T>& src,
               const LocalTensor<T>& sharedTmpBuffer, const int32_t count, bool calIndex = 0,
               Loc loc = Loc::current()) {
  ascsim::Api api("ReduceMin", loc);
  if (ascsim::isAic()) return;
  ascsim::maxMinCountCall(ReduceType::MIN, dst, src, sharedTmpBuffer, count, calIndex);
}

// Results left in special registers: of ReduceSum of a count, and of the last maximum or minimum.
template <typename T>
T GetReduceRepeatSumSpr(Loc loc = Loc::current()) {
  static_assert(ascsim::isOneOf<T, half, float>, "GetReduceRepeatSumSpr takes half or float");
  ascsim::Api api("GetReduceRepeatSumSpr", loc);
  return ascsim::sprValue<T>(ascsim::Spr::Accumulated);
}
template <typename T>
T GetAccVal(Loc loc = Loc::current()) {
  ascsim::Api api("GetAccVal", loc);
  return GetReduceRepeatSumSpr<T>(loc);
}
template <typename T>
void GetReduceRepeatMaxMinSpr(T& maxMinValue, T& maxMinIndex, Loc loc = Loc::current()) {
  static_assert(ascsim::isOneOf<T, half, float>, "GetReduceRepeatMaxMinSpr takes half or float");
  ascsim::Api api("GetReduceRepeatMaxMinSpr", loc);
  maxMinValue = ascsim::sprValue<T>(ascsim::Spr::MaxMinValue);
  maxMinIndex = ascsim::sprValue<T>(ascsim::Spr::MaxMinIndex);
}
template <typename T>
void GetReduceRepeatMaxMinSpr(T& maxMinValue, Loc loc = Loc::current()) {
  T index;
  GetReduceRepeatMaxMinSpr(maxMinValue, index, loc);
}
template <typename T>
void GetReduceMaxMinCount(T& maxMinValue, T& maxMinIndex, Loc loc = Loc::current()) {
  ascsim::Api api("GetReduceMaxMinCount", loc);
  GetReduceRepeatMaxMinSpr(maxMinValue, maxMinIndex, loc);
}
template <typename T>
void GetReduceMaxMinCount(T& maxMinValue, Loc loc = Loc::current()) {
  ascsim::Api api("GetReduceMaxMinCount", loc);
  GetReduceRepeatMaxMinSpr(maxMinValue, loc);
}

}  // namespace AscendC
