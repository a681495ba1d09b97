// Whole tensors in expressions: dst = src0 + src1. The destination's length decides.
#pragma once
#include "ascsim/vec_arith.h"
#include "ascsim/vec_compare.h"

namespace ascsim {

// What an operator returns: evaluated by the assignment (LocalTensor::operator=).
template <class F, class T>
struct TensorExpression {
  using AscsimExpression = void;
  AscendC::LocalTensor<T> a;
  AscendC::LocalTensor<T> b;
  F f;
  template <class D>
  void assignTo(const AscendC::LocalTensor<D>& dst) const {
    f(dst, a, b, core().loc);
  }
};
template <class F, class T>
TensorExpression<F, T> expression(const AscendC::LocalTensor<T>& a,
                                  const AscendC::LocalTensor<T>& b, F f) {
  return {a, b, f};
}

}  // namespace ascsim

namespace AscendC {

#define ASCSIM_TENSOR_OPERATOR(OP, CALL)                                                          \
  template <class T>                                                                              \
  auto operator OP(const LocalTensor<T>& a, const LocalTensor<T>& b) {                            \
    return ascsim::expression(a, b,                                                               \
                              [](const auto& dst, const auto& x, const auto& y, const Loc& loc) { \
                                CALL(dst, x, y, static_cast<int32_t>(dst.GetSize()), loc);        \
                              });                                                                 \
  }
ASCSIM_TENSOR_OPERATOR(+, Add)
ASCSIM_TENSOR_OPERATOR(-, Sub)
ASCSIM_TENSOR_OPERATOR(*, Mul)
ASCSIM_TENSOR_OPERATOR(/, Div)
ASCSIM_TENSOR_OPERATOR(&, And)
ASCSIM_TENSOR_OPERATOR(|, Or)
#undef ASCSIM_TENSOR_OPERATOR

#define ASCSIM_TENSOR_COMPARE(OP, MODE)                                                           \
  template <class T>                                                                              \
  auto operator OP(const LocalTensor<T>& a, const LocalTensor<T>& b) {                            \
    return ascsim::expression(a, b,                                                               \
                              [](const auto& dst, const auto& x, const auto& y, const Loc& loc) { \
                                Compare(dst, x, y, CMPMODE::MODE, x.GetSize(), loc);              \
                              });                                                                 \
  }
ASCSIM_TENSOR_COMPARE(<, LT)
ASCSIM_TENSOR_COMPARE(>, GT)
ASCSIM_TENSOR_COMPARE(<=, LE)
ASCSIM_TENSOR_COMPARE(>=, GE)
ASCSIM_TENSOR_COMPARE(==, EQ)
ASCSIM_TENSOR_COMPARE(!=, NE)
#undef ASCSIM_TENSOR_COMPARE

}  // namespace AscendC
