// Control bits of the vector unit (docs: special registers), and the vector mask.
#pragma once
#include "ascsim/vec_core.h"

namespace ascsim {

// Core::sprs of this family.
constexpr int kCtrlSpr = 0;     // CTRL, of which the bits below have an effect
constexpr int kCmpMaskSpr = 1;  // and 2: 128 bits
constexpr int kDeqScaleSpr = 3;
constexpr int kDeqSetSpr = 4;                 // which form of SetDeqScale was called last: DeqKind
constexpr uint64_t kCtrlInfNan = 1ull << 48;  // CTRL[48]: infinity and NaN are kept
constexpr uint64_t kCtrlCastWraps = 1ull << 59;  // conversions to integers drop the high bits
enum class DeqKind : uint64_t { None, Half, Value, Tensor };

void setCtrl(uint64_t bit, bool on);
int64_t ctrlBits(int first, int last);
void setCtrlBits(int first, int last, int64_t value);
void setVectorMask(uint64_t low, uint64_t high);
void setMaskMode(bool counter);

}  // namespace ascsim

namespace AscendC {

inline void SetMaskCount(Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("SetMaskCount");
  ascsim::setMaskMode(true);
}
inline void SetMaskNorm(Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("SetMaskNorm");
  ascsim::setMaskMode(false);
}
inline void ResetMask(Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("ResetMask");
  ascsim::setVectorMask(~0ull, ~0ull);
}
template <class T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(const uint64_t maskHigh, const uint64_t maskLow, Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("SetVectorMask");
  ascsim::setVectorMask(maskLow, maskHigh);
}
template <class T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(int32_t len, Loc loc = Loc::current()) {
  ASCSIM_VEC_CALL("SetVectorMask");
  if (len < 0) ascsim::report(ascsim::kParam, "the mask is %d; expected 0 or more", len);
  const uint64_t n = len < 0 ? 0 : static_cast<uint64_t>(len);
  if constexpr (mode == MaskMode::COUNTER) {
    ascsim::setVectorMask(n, 0);
  } else {
    constexpr uint64_t lanes = 256 / sizeof(PrimT<T>) < 128 ? 256 / sizeof(PrimT<T>) : 128;
    const uint64_t m = n < lanes ? n : lanes;
    ascsim::setVectorMask(m >= 64 ? ~0ull : (1ull << m) - 1, m <= 64    ? 0
                                                             : m == 128 ? ~0ull
                                                                        : (1ull << (m - 64)) - 1);
  }
}

enum class SaturationMode : uint8_t { FLOAT, CAST };
template <SaturationMode mode>
void SetSaturationFlag(bool enableSat, Loc loc = Loc::current()) {
  ascsim::Api api("SetSaturationFlag", loc);
  ascsim::setCtrl(mode == SaturationMode::FLOAT ? ascsim::kCtrlInfNan : ascsim::kCtrlCastWraps,
                  !enableSat);
}
template <SaturationMode mode>
bool GetSaturationFlag(Loc loc = Loc::current()) {
  ascsim::Api api("GetSaturationFlag", loc);
  return mode == SaturationMode::FLOAT ? ascsim::saturatesFloat() : ascsim::saturatesCast();
}

template <int8_t startBit, int8_t endBit>
void SetCtrlSpr(int64_t value, Loc loc = Loc::current()) {
  static_assert(startBit >= 0 && startBit <= endBit && endBit < 64,
                "bits of CTRL are 0 to 63, the first one first");
  ascsim::Api api("SetCtrlSpr", loc);
  ascsim::setCtrlBits(startBit, endBit, value);
}
template <int8_t startBit, int8_t endBit>
int64_t GetCtrlSpr(Loc loc = Loc::current()) {
  static_assert(startBit >= 0 && startBit <= endBit && endBit < 64,
                "bits of CTRL are 0 to 63, the first one first");
  ascsim::Api api("GetCtrlSpr", loc);
  return ascsim::ctrlBits(startBit, endBit);
}
template <int8_t startBit, int8_t endBit>
void ResetCtrlSpr(Loc loc = Loc::current()) {
  static_assert(startBit >= 0 && startBit <= endBit && endBit < 64,
                "bits of CTRL are 0 to 63, the first one first");
  ascsim::Api api("ResetCtrlSpr", loc);
  ascsim::setCtrlBits(startBit, endBit, 0);
}

}  // namespace AscendC

namespace AscendC {
struct AscendCUtils {
  // 1: half results overflow to infinity; 0: they are clamped.
  static void SetOverflow(uint64_t mode, Loc loc = Loc::current()) {
    ascsim::Api api("SetOverflow", loc);
    ascsim::setCtrl(ascsim::kCtrlInfNan, mode == 1);
  }
};
}  // namespace AscendC
