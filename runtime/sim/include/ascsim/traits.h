// The Std:: subset, Layout, Coord and TensorTrait (docs: Utils-API, auxiliary data structures).
#pragma once
#include <algorithm>
#include <cmath>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ascsim/tensor.h"

namespace AscendC {

// The standard library stands in for its device twin; only integral constants differ in name.
namespace Std {
using namespace std;
template <size_t v>
using Int = std::integral_constant<size_t, v>;
}  // namespace Std

template <class... Ts>
using Shape = Std::tuple<Ts...>;
template <class... Ts>
using Stride = Std::tuple<Ts...>;
template <class... Ts>
using Coord = Std::tuple<Ts...>;

template <class... Ts>
constexpr Shape<Ts...> MakeShape(const Ts&... t) {
  return {t...};
}
template <class... Ts>
constexpr Stride<Ts...> MakeStride(const Ts&... t) {
  return {t...};
}
template <class... Ts>
constexpr Coord<Ts...> MakeCoord(const Ts&... t) {
  return {t...};
}

namespace detail {
template <class T>
struct IsTuple : std::false_type {};
template <class... Ts>
struct IsTuple<std::tuple<Ts...>> : std::true_type {};

// Nested tuples are hierarchical dimensions; a plain index into one is unravelled, first fastest.
template <class C, class S, class D>
constexpr size_t crd2idx(const C& coord, const S& shape, const D& stride);

template <class C, class S, class D, size_t... i>
constexpr size_t crdSum(const C& coord, const S& shape, const D& stride,
                        std::index_sequence<i...>) {
  return (size_t{0} + ... + crd2idx(std::get<i>(coord), std::get<i>(shape), std::get<i>(stride)));
}
template <class S>
constexpr size_t shapeSize(const S& shape) {
  if constexpr (IsTuple<S>::value)
    return std::apply([](const auto&... d) { return (size_t{1} * ... * shapeSize(d)); }, shape);
  else
    return static_cast<size_t>(shape);
}
template <size_t i, class S, class D>
constexpr size_t unravel(size_t index, const S& shape, const D& stride) {
  if constexpr (i + 1 == std::tuple_size_v<S>)
    return crd2idx(index, std::get<i>(shape), std::get<i>(stride));
  else {
    const size_t n = shapeSize(std::get<i>(shape));
    return crd2idx(index % n, std::get<i>(shape), std::get<i>(stride)) +
           unravel<i + 1>(index / n, shape, stride);
  }
}
template <class C, class S, class D>
constexpr size_t crd2idx(const C& coord, const S& shape, const D& stride) {
  if constexpr (IsTuple<C>::value)
    return crdSum(coord, shape, stride, std::make_index_sequence<std::tuple_size_v<C>>{});
  else if constexpr (IsTuple<S>::value)
    return unravel<0>(static_cast<size_t>(coord), shape, stride);
  else
    return static_cast<size_t>(coord) * static_cast<size_t>(stride);
}
}  // namespace detail

template <class ShapeType = Shape<>, class StrideType = Stride<>>
struct Layout : Std::tuple<ShapeType, StrideType> {
  constexpr Layout(const ShapeType& shape = {}, const StrideType& stride = {})
      : Std::tuple<ShapeType, StrideType>(shape, stride) {}
  constexpr decltype(auto) layout() { return *this; }
  constexpr decltype(auto) layout() const { return *this; }
  constexpr decltype(auto) GetShape() { return std::get<0>(*this); }
  constexpr decltype(auto) GetShape() const {
    return std::get<0>(static_cast<const Std::tuple<ShapeType, StrideType>&>(*this));
  }
  constexpr decltype(auto) GetStride() { return std::get<1>(*this); }
  constexpr decltype(auto) GetStride() const {
    return std::get<1>(static_cast<const Std::tuple<ShapeType, StrideType>&>(*this));
  }
  template <class CoordType>
  constexpr auto operator()(const CoordType& coord) const {
    return detail::crd2idx(coord, GetShape(), GetStride());
  }
};
template <class ShapeType, class StrideType>
constexpr auto MakeLayout(const ShapeType& shape, const StrideType& stride) {
  return Layout<ShapeType, StrideType>(shape, stride);
}
template <class T>
struct is_layout : std::false_type {};
template <class S, class D>
struct is_layout<Layout<S, D>> : std::true_type {};
template <class T>
inline constexpr bool is_layout_v = is_layout<T>::value;

template <class CoordType, class S, class D>
constexpr auto Crd2Idx(const CoordType& coord, const Layout<S, D>& layout) {
  return layout(coord);
}
template <class CoordType, class S, class D>
constexpr auto Crd2Idx(const CoordType& coord, const S& shape, const D& stride) {
  return detail::crd2idx(coord, shape, stride);
}

template <class T, TPosition pos = TPosition::GM, class LayoutType = Layout<Shape<>, Stride<>>>
struct TensorTrait : TensorTraitBase {
  using LiteType = T;
  using LiteLayoutType = LayoutType;
  static constexpr const TPosition tPos = pos;
  TensorTrait(const LayoutType& t = {}) : layout_(t) {}
  LayoutType& GetLayout() { return layout_; }
  const LayoutType& GetLayout() const { return layout_; }
  void SetLayout(const LayoutType& t) { layout_ = t; }

 private:
  LayoutType layout_;
};
template <class T, TPosition pos, class L>
struct PrimOf<TensorTrait<T, pos, L>> {
  using type = T;
};
template <class T>
struct is_tensorTrait : std::is_base_of<TensorTraitBase, T> {};
template <class T>
inline constexpr bool is_tensorTrait_v = is_tensorTrait<T>::value;
template <class T, TPosition pos, class LayoutType>
constexpr auto MakeTensorTrait(const LayoutType& t) {
  return TensorTrait<T, pos, LayoutType>(t);
}

template <class T, class U>
struct IsSameType : std::is_same<T, U> {};

template <bool condition, class T, class U>
using Conditional = std::conditional<condition, T, U>;

}  // namespace AscendC
