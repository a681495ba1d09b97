// Shapes as the host side of the high-level vector API takes them apart.
#pragma once
#include "ascsim/ge_types.h"

namespace ascsim::adv {

using AscendC::TensorDataType;
using AscendC::TensorShape;

inline uint32_t dim(const TensorShape& s, size_t i) { return static_cast<uint32_t>(s.GetDim(i)); }
inline uint32_t count(const TensorShape& s) { return static_cast<uint32_t>(s.GetShapeSize()); }
// All but the last axis as one.
struct Matrix {
  explicit Matrix(const TensorShape& s)
      : k(s.GetDimNum() == 0 ? 0 : dim(s, s.GetDimNum() - 1)), m(k == 0 ? 0 : count(s) / k) {}
  uint32_t k, m;
};
inline uint32_t up(uint32_t v, uint32_t step) { return (v + step - 1) / step * step; }
inline uint32_t typeBytes(TensorDataType t) {
  switch (t) {
    case ge::DT_INT8:
    case ge::DT_UINT8:
    case ge::DT_BOOL:
      return 1;
    case ge::DT_FLOAT16:
    case ge::DT_BF16:
    case ge::DT_INT16:
    case ge::DT_UINT16:
      return 2;
    case ge::DT_INT64:
    case ge::DT_UINT64:
    case ge::DT_DOUBLE:
      return 8;
    default:
      return 4;
  }
}

}  // namespace ascsim::adv
