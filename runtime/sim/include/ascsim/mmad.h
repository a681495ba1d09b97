// Mmad and its settings (docs: matrix computation).
#pragma once
#include "ascsim/cube_params.h"
#include "ascsim/datacopy.h"

namespace ascsim {

struct MmadArgs {
  uint32_t m, n, k;
  bool isBias, kDirectionAlign, cmatrixSource, cmatrixInitVal, disableGemv;
  uint8_t unitFlag;
  MmadArgs(const AscendC::MmadParams& p)
      : m(p.m),
        n(p.n),
        k(p.k),
        isBias(p.isBias),
        kDirectionAlign(p.kDirectionAlign),
        cmatrixSource(p.cmatrixSource),
        cmatrixInitVal(p.cmatrixInitVal),
#if ASCSIM_WIDE_COPY
        disableGemv(p.disableGemv),
#else
        disableGemv(false),
#endif
        unitFlag(p.unitFlag) {
  }
};

// bias: in BT (one row of n) or in L0C (a whole matrix); absent: nullptr.
void mmad(const Place& c, const Place& a, const Place& b, const Place* bias, const MmadArgs& p,
          DType in, DType out);
void mmadSparse(const Place& c, const Place& a, const Place& b, const MmadArgs& p);
void setHf32(bool on);
void setHf32ToZero(bool toZero);

template <class D, class A, class B>
constexpr bool mmadTypes() {
  using namespace AscendC;
  if constexpr (!std::is_same_v<A, B>)
    return false;
  else if constexpr (std::is_same_v<A, int8_t> || std::is_same_v<A, int4b_t>)
    return std::is_same_v<D, int32_t>;
  else if constexpr (std::is_same_v<A, half> || std::is_same_v<A, bfloat16_t> ||
                     std::is_same_v<A, float>)
    return std::is_same_v<D, float>;
  else
    return false;
}

}  // namespace ascsim

namespace AscendC {

#define ASCSIM_MMAD_TYPES                                                                      \
  static_assert(                                                                               \
      ascsim::mmadTypes<PrimT<T>, PrimT<U>, PrimT<S>>(),                                       \
      "Mmad takes (A, B -> C): int8_t, int8_t -> int32_t; int4b_t, int4b_t -> int32_t; half, " \
      "half -> float; bfloat16_t, bfloat16_t -> float; float, float -> float")

template <class T, class U, class S>
void Mmad(const LocalTensor<T>& dst, const LocalTensor<U>& fm, const LocalTensor<S>& filter,
          const MmadParams& mmadParams, Loc loc = Loc::current()) {
  ASCSIM_MMAD_TYPES;
  ascsim::Api api("Mmad", loc);
  if (ascsim::isAiv()) return;
  ascsim::mmad(dst.place(), fm.place(), filter.place(), nullptr, mmadParams,
               ascsim::dtypeOf<PrimT<U>>(), ascsim::dtypeOf<PrimT<T>>());
}
template <class T, class U, class S, class V>
void Mmad(const LocalTensor<T>& dst, const LocalTensor<U>& fm, const LocalTensor<S>& filter,
          const LocalTensor<V>& bias, const MmadParams& mmadParams, Loc loc = Loc::current()) {
  ASCSIM_MMAD_TYPES;
  static_assert(sizeof(PrimT<V>) == 4,
                "the bias of Mmad has the type of the result: float or int32_t");
  ascsim::Api api("Mmad", loc);
  if (ascsim::isAiv()) return;
  const ascsim::Place p = bias.place();
  ascsim::mmad(dst.place(), fm.place(), filter.place(), &p, mmadParams, ascsim::dtypeOf<PrimT<U>>(),
               ascsim::dtypeOf<PrimT<T>>());
}
#undef ASCSIM_MMAD_TYPES

template <class T = int32_t, class U = int8_t,
          std::enable_if_t<std::is_same_v<PrimT<T>, int32_t> && std::is_same_v<PrimT<U>, int8_t>,
                           bool> = true>
void MmadWithSparse(const LocalTensor<T>& dst, const LocalTensor<U>& fm,
                    const LocalTensor<U>& filter, const MmadParams& mmadParams,
                    Loc loc = Loc::current()) {
  ascsim::Api api("MmadWithSparse", loc);
  if (ascsim::isAiv()) return;
  ascsim::mmadSparse(dst.place(), fm.place(), filter.place(), mmadParams);
}
template <class... A>
void MmadMx(const A&...) {
  ascsim::notOnChip("MmadMx");
}

inline void SetHF32Mode(HF32Mode mode, Loc loc = Loc::current()) {
  ascsim::Api api("SetHF32Mode", loc);
  if (ascsim::isAic()) ascsim::setHf32(mode == HF32Mode::ENABLE);
}
inline void SetHF32Mode(bool hf32Mode, Loc loc = Loc::current()) {
  ascsim::Api api("SetHF32Mode", loc);
  if (ascsim::isAic()) ascsim::setHf32(hf32Mode);
}
inline void SetHF32TransMode(HF32TransMode mode, Loc loc = Loc::current()) {
  ascsim::Api api("SetHF32TransMode", loc);
  if (ascsim::isAic()) ascsim::setHf32ToZero(mode == HF32TransMode::NEAREST_ZERO);
}
inline void SetHF32TransMode(bool hf32TransMode, Loc loc = Loc::current()) {
  ascsim::Api api("SetHF32TransMode", loc);
  if (ascsim::isAic()) ascsim::setHf32ToZero(hf32TransMode);
}
// The order in which the cube produces result fractals: no effect on values.
inline void SetMMRowMajor() {}
inline void SetMMColumnMajor() {}
inline void SetMMLayoutTransform(bool) {}

template <class... A>
void Conv2D(const A&...) {
  ascsim::notOnChip("Conv2D (deprecated)");
}
template <class... A>
void Gemm(const A&...) {
  ascsim::notOnChip("Gemm (deprecated)");
}

}  // namespace AscendC
