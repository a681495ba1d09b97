// Sorting of (score, index) pairs of 8 bytes (docs: basic API, sorting; high-level API, sorting).
#pragma once
#include "ascsim/vec_mask.h"

namespace AscendC {

struct MrgSort4Info {
  MrgSort4Info() = default;
  MrgSort4Info(const uint16_t elementLengthsIn[4], const bool ifExhaustedSuspensionIn,
               const uint16_t validBitIn, const uint16_t repeatTimesIn)
      : ifExhaustedSuspension(ifExhaustedSuspensionIn),
        validBit(validBitIn),
        repeatTimes(static_cast<uint8_t>(repeatTimesIn)) {
    for (int i = 0; i < 4; ++i) elementLengths[i] = elementLengthsIn[i];
  }
  uint16_t elementLengths[4] = {0};
  bool ifExhaustedSuspension = false;
  uint16_t validBit = 0;
  uint8_t repeatTimes = 1;
};

template <typename T>
struct MrgSortSrcList {
  MrgSortSrcList() = default;
  MrgSortSrcList(const LocalTensor<T>& src1In, const LocalTensor<T>& src2In,
                 const LocalTensor<T>& src3In, const LocalTensor<T>& src4In)
      : src1(src1In), src2(src2In), src3(src3In), src4(src4In) {}
  LocalTensor<T> src1;
  LocalTensor<T> src2;
  LocalTensor<T> src3;
  LocalTensor<T> src4;
};

}  // namespace AscendC

namespace ascsim {

void sort32(const Place& dst, const Place& scores, const Place& indices, DType type,
            int64_t repeats);
void mrgSort(const Place& dst, const Place (&src)[4], DType type,
             const AscendC::MrgSort4Info& info);
// The whole of `repeats` groups of 32, merged through tmp; the result is in dst.
void fullSort(const Place& dst, const Place& scores, const Place& indices, const Place& tmp,
              DType type, int64_t repeats);
void extractPairs(const Place& values, const Place& indices, const Place& pairs, DType type,
                  int64_t repeats);
uint16_t mrgSortCount(int queue, uint64_t packed);
// Of the 950: sorts `count` values and, if given, an index that follows them.
struct SortOrder {
  bool descending;
  bool merge;
};
void sortValues(const Place& dst, const Place* dstIndex, const Place& src, const Place* srcIndex,
                DType type, uint32_t indexBytes, uint64_t count, SortOrder order);

void checkSortTypeSize(uint32_t bytes);

template <class T>
constexpr DType sortType() {
  static_assert(isOneOf<AscendC::PrimT<T>, half, float>,
                "sorting of (score, index) pairs takes half or float scores");
  return dtypeOf<AscendC::PrimT<T>>();
}
template <class T>
constexpr void regionProposal() {
  static_assert(
      dependentFalse<T>,
      "region proposals of 16 elements (ProposalConcat, ProposalExtract, RpSort16, MrgSort4) exist "
      "on "
      "the inference and first training chips only; here use Sort32, MrgSort and GatherMask");
}

}  // namespace ascsim

namespace AscendC {

template <typename T>
void Sort32(const LocalTensor<T>& dst, const LocalTensor<T>& src0,
            const LocalTensor<uint32_t>& src1, const int32_t repeatTime, Loc loc = Loc::current()) {
  constexpr ascsim::DType type = ascsim::sortType<T>();
  ascsim::Api api("Sort32", loc);
  if (ascsim::isAic()) return;
  ascsim::sort32(dst.place(), src0.place(), src1.place(), type, repeatTime);
}

template <typename T>
void MrgSort(const LocalTensor<T>& dst, const MrgSortSrcList<T>& src, const MrgSort4Info& params,
             Loc loc = Loc::current()) {
  constexpr ascsim::DType type = ascsim::sortType<T>();
  ascsim::Api api("MrgSort", loc);
  if (ascsim::isAic()) return;
  const ascsim::Place queues[4] = {src.src1.place(), src.src2.place(), src.src3.place(),
                                   src.src4.place()};
  ascsim::mrgSort(dst.place(), queues, type, params);
}

// How many elements of each queue the last MrgSort has taken.
inline void GetMrgSortResult(uint16_t& mrgSortList1, uint16_t& mrgSortList2, uint16_t& mrgSortList3,
                             uint16_t& mrgSortList4, Loc loc = Loc::current()) {
  ascsim::Api api("GetMrgSortResult", loc);
  if (ascsim::isAic()) return;
  const uint64_t packed = ascsim::readSpr(ascsim::Spr::MrgSortCounts);
  mrgSortList1 = ascsim::mrgSortCount(0, packed);
  mrgSortList2 = ascsim::mrgSortCount(1, packed);
  mrgSortList3 = ascsim::mrgSortCount(2, packed);
  mrgSortList4 = ascsim::mrgSortCount(3, packed);
}

template <typename T, bool isExhaustedSuspension = false>
void MrgSort(const LocalTensor<T>& dst, const MrgSortSrcList<T>& sortList,
             const uint16_t elementCountList[4], uint32_t sortedNum[4], uint16_t validBit,
             const int32_t repeatTime, Loc loc = Loc::current()) {
  ascsim::Api api("MrgSort", loc);
  if (ascsim::isAic()) return;
  ascsim::checkRange("repeatTime", repeatTime, 0, 255);
  MrgSort(dst, sortList,
          MrgSort4Info(elementCountList, isExhaustedSuspension, validBit,
                       static_cast<uint16_t>(repeatTime)),
          loc);
  if constexpr (isExhaustedSuspension) {
    uint16_t n[4];
    GetMrgSortResult(n[0], n[1], n[2], n[3], loc);
    for (int i = 0; i < 4; ++i) sortedNum[i] = n[i];
  } else {
    static_cast<void>(sortedNum);
  }
}

// Elements per pair, and where pair n starts, counted in elements of T.
template <typename T>
uint32_t GetSortOffset(const uint32_t elemOffset) {
  return ascsim::sortType<T>() == ascsim::DType::F16 ? elemOffset * 4 : elemOffset * 2;
}
template <typename T>
uint32_t GetSortLen(const uint32_t elemCount) {
  return GetSortOffset<T>(elemCount);
}

// The scores need no preparation on this chip: `concat` becomes `src`.
template <typename T>
void Concat(LocalTensor<T>& concat, const LocalTensor<T>& src, const LocalTensor<T>&,
            const int32_t repeatTime, Loc loc = Loc::current()) {
  ascsim::sortType<T>();
  ascsim::Api api("Concat", loc);
  ascsim::checkRange("repeatTime", repeatTime, 0, 255);
  concat = src;
}

template <typename T, bool isFullSort>
void Sort(const LocalTensor<T>& dst, const LocalTensor<T>& concat,
          const LocalTensor<uint32_t>& index, LocalTensor<T>& tmp, const int32_t repeatTime,
          Loc loc = Loc::current()) {
  constexpr ascsim::DType type = ascsim::sortType<T>();
  ascsim::Api api("Sort", loc);
  if (ascsim::isAic()) return;
  if constexpr (isFullSort)
    ascsim::fullSort(dst.place(), concat.place(), index.place(), tmp.place(), type, repeatTime);
  else
    ascsim::sort32(dst.place(), concat.place(), index.place(), type, repeatTime);
}

template <typename T>
void Extract(const LocalTensor<T>& dstValue, const LocalTensor<uint32_t>& dstIndex,
             const LocalTensor<T>& sorted, const int32_t repeatTime, Loc loc = Loc::current()) {
  constexpr ascsim::DType type = ascsim::sortType<T>();
  ascsim::Api api("Extract", loc);
  if (ascsim::isAic()) return;
  ascsim::extractPairs(dstValue.place(), dstIndex.place(), sorted.place(), type, repeatTime);
}

template <typename T>
void ProposalConcat(const LocalTensor<T>&, const LocalTensor<T>&, const int32_t, const int32_t) {
  ascsim::regionProposal<T>();
}
template <typename T>
void ProposalExtract(const LocalTensor<T>&, const LocalTensor<T>&, const int32_t, const int32_t) {
  ascsim::regionProposal<T>();
}
template <typename T>
void RpSort16(const LocalTensor<T>&, const LocalTensor<T>&, const int32_t) {
  ascsim::regionProposal<T>();
}
template <typename T>
void MrgSort4(const LocalTensor<T>&, const MrgSortSrcList<T>&, const MrgSort4Info&) {
  ascsim::regionProposal<T>();
}

// Bytes of the tmp tensors of Sort (a pair of 8 bytes per element) and Concat (none), for the host.
template <class Platform>
uint32_t GetSortTmpSize(const Platform&, const uint32_t elemCount, const uint32_t dataTypeSize) {
  ascsim::checkSortTypeSize(dataTypeSize);
  return elemCount * 8;
}
template <class Platform>
uint32_t GetConcatTmpSize(const Platform&, const uint32_t, const uint32_t dataTypeSize) {
  ascsim::checkSortTypeSize(dataTypeSize);
  return 0;
}

// Sorting of plain values, of the 950 only.
enum class SortType { RADIX_SORT, MERGE_SORT };
struct SortConfig {
  SortType type = SortType::RADIX_SORT;
  bool isDescend = false;
  bool hasSrcIndex = false;
  bool hasDstIndex = false;
};
constexpr SortConfig DEFAULT_SORT_CONFIG = {SortType::RADIX_SORT, false, false, false};

}  // namespace AscendC

namespace ascsim {
template <const AscendC::SortConfig& config, class T, class U>
void sortCall(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<U>* dstIndex,
              const AscendC::LocalTensor<T>& src, const AscendC::LocalTensor<U>* srcIndex,
              uint32_t count, const Loc& loc) {
  constexpr bool merge = config.type == AscendC::SortType::MERGE_SORT;
  static_assert(!merge || isOneOf<AscendC::PrimT<T>, half, float>,
                "MERGE_SORT takes half or float");
  Api api("Sort", loc);
  if (isAic()) return;
  needArch(3510, "use Concat, Sort<T, isFullSort> and Extract");
  Place to, from;
  if (dstIndex != nullptr) to = dstIndex->place();
  if (srcIndex != nullptr) from = srcIndex->place();
  sortValues(dst.place(), dstIndex != nullptr ? &to : nullptr, src.place(),
             srcIndex != nullptr ? &from : nullptr, dtypeOf<AscendC::PrimT<T>>(),
             sizeof(AscendC::PrimT<U>), count, {config.isDescend, merge});
}
}  // namespace ascsim

namespace AscendC {

template <typename T, typename U, bool isReuseSource = false,
          const SortConfig& config = DEFAULT_SORT_CONFIG>
void Sort(LocalTensor<T>& dstTensor, LocalTensor<U>& dstIndexTensor,
          const LocalTensor<T>& srcTensor, const LocalTensor<U>& srcIndexTensor,
          const LocalTensor<uint8_t>&, const uint32_t calCount, Loc loc = Loc::current()) {
  ascsim::sortCall<config>(dstTensor, &dstIndexTensor, srcTensor, &srcIndexTensor, calCount, loc);
}
template <typename T, typename U, bool isReuseSource = false,
          const SortConfig& config = DEFAULT_SORT_CONFIG>
void Sort(const LocalTensor<T>& dstTensor, const LocalTensor<U>& dstIndexTensor,
          const LocalTensor<T>& srcTensor, const LocalTensor<U>& srcIndexTensor,
          const uint32_t calCount, Loc loc = Loc::current()) {
  ascsim::sortCall<config>(dstTensor, &dstIndexTensor, srcTensor, &srcIndexTensor, calCount, loc);
}
template <typename T, bool isReuseSource = false, const SortConfig& config = DEFAULT_SORT_CONFIG>
void Sort(LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor, const LocalTensor<uint8_t>&,
          const uint32_t calCount, Loc loc = Loc::current()) {
  const LocalTensor<uint32_t>* none = nullptr;
  ascsim::sortCall<config>(dstTensor, none, srcTensor, none, calCount, loc);
}
template <typename T, bool isReuseSource = false, const SortConfig& config = DEFAULT_SORT_CONFIG>
void Sort(LocalTensor<T>& dstTensor, const LocalTensor<T>& srcTensor, const uint32_t calCount,
          Loc loc = Loc::current()) {
  const LocalTensor<uint32_t>* none = nullptr;
  ascsim::sortCall<config>(dstTensor, none, srcTensor, none, calCount, loc);
}
template <typename T, bool isReuseSource = false, const SortConfig& config = DEFAULT_SORT_CONFIG>
void Sort(LocalTensor<T>& dstTensor, LocalTensor<uint32_t>& dstIndexTensor,
          const LocalTensor<T>& srcTensor, const LocalTensor<uint8_t>&, const uint32_t calCount,
          Loc loc = Loc::current()) {
  const LocalTensor<uint32_t>* none = nullptr;
  ascsim::sortCall<config>(dstTensor, static_cast<const LocalTensor<uint32_t>*>(&dstIndexTensor),
                           srcTensor, none, calCount, loc);
}
template <typename T, bool isReuseSource = false, const SortConfig& config = DEFAULT_SORT_CONFIG>
void Sort(LocalTensor<T>& dstTensor, LocalTensor<uint32_t>& dstIndexTensor,
          const LocalTensor<T>& srcTensor, const uint32_t calCount, Loc loc = Loc::current()) {
  const LocalTensor<uint32_t>* none = nullptr;
  ascsim::sortCall<config>(dstTensor, static_cast<const LocalTensor<uint32_t>*>(&dstIndexTensor),
                           srcTensor, none, calCount, loc);
}

}  // namespace AscendC
