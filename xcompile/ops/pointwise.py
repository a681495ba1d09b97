"""Pointwise ops, a line each: name, C++ expression, torch reference, ATen overloads.

The expression is evaluated in fp32 for floating types, in int64 for integers. Operands broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from xcompile.ir import Attrs, Infer, Op, Ref, Type
from xcompile.ops import infer
from xcompile.ops.infer import expect


def _sample(arity: int, kind: str, rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    shapes = [(3, 5, 37), (1, 37), (3, 1, 1)]
    make = {
        "float": lambda s: torch.randn(s, generator=rng) * 2,
        "positive": lambda s: torch.rand(s, generator=rng) * 3 + 0.01,
        "int": lambda s: torch.randint(1, 50, s, generator=rng),
        "bool": lambda s: torch.rand(s, generator=rng) > 0.5,
    }
    return [make[kind](shapes[i]) for i in range(arity)], {}


def _op(
    name: str,
    arity: int,
    expr: str,
    ref: Ref,
    aten: str = "",
    rule: Infer = infer.pointwise,
    kind: str = "float",
) -> Op:
    def arity_checked(types: Sequence[Type], attrs: Attrs) -> Sequence[Type]:
        expect(len(types) == arity, f"{name} takes {arity} operands, given {len(types)}")
        return rule(types, attrs)

    return Op(
        name,
        arity_checked,
        ref,
        aten=tuple(aten.split()),
        expr=expr,
        cost=lambda ins, outs, attrs: outs[0].numel,
        sample=partial(_sample, arity, kind),
    )


_F, _C = infer.floating, infer.comparison

TABLE = [
    _op("add", 2, "{0} + {1}", torch.add),
    _op("sub", 2, "{0} - {1}", torch.sub),
    _op("mul", 2, "{0} * {1}", torch.mul, "mul.Tensor mul.Scalar"),
    _op("div", 2, "{0} / {1}", torch.div, "div.Tensor div.Scalar", _F),
    _op("floordiv", 2, "xc::math::floordiv({0}, {1})", torch.floor_divide,
        "floor_divide.default", kind="int"),
    _op("remainder", 2, "xc::math::remainder({0}, {1})", torch.remainder,
        "remainder.Scalar remainder.Tensor", kind="int"),
    _op("pow", 2, "std::pow({0}, {1})", torch.pow, "pow.Tensor_Tensor", _F, "positive"),
    _op("max", 2, "xc::math::max({0}, {1})", torch.maximum, "maximum.default"),
    _op("min", 2, "xc::math::min({0}, {1})", torch.minimum, "minimum.default"),
    _op("neg", 1, "-{0}", torch.neg, "neg.default"),
    _op("abs", 1, "xc::math::abs({0})", torch.abs, "abs.default"),
    _op("square", 1, "{0} * {0}", torch.square, "square.default"),
    _op("reciprocal", 1, "1.0f / {0}", torch.reciprocal, "reciprocal.default", _F, "positive"),
    _op("sqrt", 1, "std::sqrt({0})", torch.sqrt, "sqrt.default", _F, "positive"),
    _op("rsqrt", 1, "xc::math::rsqrt({0})", torch.rsqrt, "rsqrt.default", _F, "positive"),
    _op("exp", 1, "xc::math::exp({0})", torch.exp, "exp.default", _F),
    _op("log", 1, "std::log({0})", torch.log, "log.default", _F, "positive"),
    _op("sin", 1, "std::sin({0})", torch.sin, "sin.default", _F),
    _op("cos", 1, "std::cos({0})", torch.cos, "cos.default", _F),
    _op("tanh", 1, "xc::math::tanh({0})", torch.tanh, "tanh.default", _F),
    _op("erf", 1, "xc::math::erf({0})", torch.erf, "erf.default", _F),
    _op("sigmoid", 1, "xc::math::sigmoid({0})", torch.sigmoid, "sigmoid.default", _F),
    _op("silu", 1, "xc::math::silu({0})", F.silu, "silu.default"),
    _op("gelu", 1, "xc::math::gelu({0})", F.gelu),
    _op("gelu_tanh", 1, "xc::math::gelu_tanh({0})", partial(F.gelu, approximate="tanh")),
    _op("relu", 1, "({0} < 0 ? 0 : {0})", torch.relu, "relu.default"),
    _op("floor", 1, "std::floor({0})", torch.floor, "floor.default"),
    _op("eq", 2, "{0} == {1}", torch.eq, "eq.Tensor eq.Scalar", _C, "int"),
    _op("ne", 2, "{0} != {1}", torch.ne, "ne.Tensor ne.Scalar", _C, "int"),
    _op("lt", 2, "{0} < {1}", torch.lt, "lt.Tensor lt.Scalar", _C),
    _op("le", 2, "{0} <= {1}", torch.le, "le.Tensor le.Scalar", _C),
    _op("gt", 2, "{0} > {1}", torch.gt, "gt.Tensor gt.Scalar", _C),
    _op("ge", 2, "{0} >= {1}", torch.ge, "ge.Tensor ge.Scalar", _C),
    _op("and", 2, "{0} & {1}", torch.bitwise_and,
        "bitwise_and.Tensor logical_and.default __and__.Tensor", kind="bool"),
    _op("or", 2, "{0} | {1}", torch.bitwise_or,
        "bitwise_or.Tensor logical_or.default __or__.Tensor", kind="bool"),
    _op("not", 1, "!{0}", torch.logical_not, "logical_not.default",
        lambda ts, a: _C(ts, a), "bool"),
    _op("where", 3, "{0} ? {1} : {2}", torch.where, "where.self", infer.where),
]  # fmt: skip
BY_NAME = {op.name: op for op in TABLE}


def _sample_where(rng: torch.Generator) -> tuple[list[torch.Tensor], dict[str, Any]]:
    (a, b, c), _ = _sample(3, "float", rng)
    return [a > 0, b, c], {}


object.__setattr__(BY_NAME["where"], "sample", _sample_where)


def _cast(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [Type(attrs["dtype"], types[0].shape)]


# A contiguous copy of a strided view; inserted where a kernel cannot read the strides.
COPY = Op("copy", infer.like_first, lambda x: x.contiguous(), expr="{0}")

CAST = Op(
    "cast",
    _cast,
    lambda x, dtype: x.to(dtype),
    expr="cast",
    cost=lambda ins, outs, attrs: 0,
    sample=lambda rng: ([torch.randn(3, 37, generator=rng)], {"dtype": torch.bfloat16}),
)
