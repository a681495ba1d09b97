"""How ops map to Ascend C: by default to the function of their name in lib/math.h, which takes
whole tiles; a line here says what else a function takes, and the scratch that it needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Instruction:
    """spread     the vector instruction that also takes a value a row, or a row of values
    scalars    a scalar may stand for either operand
    temps      scratch tiles of a computation in float; `ints` of one in integers
    bits       scratch of truths
    constants  of each, 64 equal elements
    """

    spread: str = ""
    scalars: bool = False
    temps: int = 0
    ints: int = 0
    bits: int = 0
    constants: tuple[float, ...] = ()
    header: str = "math.h"


_I = Instruction

TABLE: dict[str, Instruction] = {
    "add": _I(spread="Add", scalars=True),
    "sub": _I(spread="Sub", scalars=True),
    "mul": _I(spread="Mul", scalars=True),
    "div": _I(spread="Div"),
    "max": _I(spread="Max", scalars=True),
    "min": _I(spread="Min", scalars=True),
    "abs": _I(ints=1),
    "reciprocal": _I(constants=(1.0,)),
    "rsqrt": _I(constants=(1.0,)),
    "sigmoid": _I(constants=(1.0,)),
    "silu": _I(temps=1),
    "tanh": _I(temps=2, header="math_special.h"),
    "erf": _I(temps=2, header="math_special.h"),
    "sin": _I(temps=2, header="math_special.h"),
    "cos": _I(temps=2, header="math_special.h"),
    "gelu": _I(temps=3, header="math_special.h"),
    "gelu_tanh": _I(temps=1, header="math_special.h"),
    "floordiv": _I(temps=6, ints=4, header="math_divide.h"),
    "remainder": _I(temps=6, ints=4, header="math_divide.h"),
    "pow": _I(temps=9, bits=2, header="math_divide.h"),
    "eq": _I(scalars=True),
    "ne": _I(scalars=True),
    "lt": _I(scalars=True, ints=1),
    "le": _I(scalars=True, ints=1),
    "gt": _I(scalars=True, ints=1),
    "ge": _I(scalars=True, ints=1),
}
DEFAULT = Instruction()
# a op b = b FLIP[op] a
FLIP = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
KEYWORDS = {"and", "or", "not"}
REDUCE = {"sum": "SUM", "amax": "MAX", "amin": "MIN"}
JOIN = {"sum": "Add", "amax": "Max", "amin": "Min"}

NONE, RINT, FLOOR, TRUNC = "CAST_NONE", "CAST_RINT", "CAST_FLOOR", "CAST_TRUNC"
# (from, to) -> rounding mode of the conversion; others go through several
CASTS = {
    ("half", "float"): NONE,
    ("bfloat16_t", "float"): NONE,
    ("float", "half"): RINT,
    ("float", "bfloat16_t"): RINT,
    ("float", "int32_t"): TRUNC,
    ("int32_t", "float"): RINT,
    ("int32_t", "int64_t"): NONE,
    ("int64_t", "int32_t"): NONE,
    ("int32_t", "int16_t"): NONE,
    ("int16_t", "float"): NONE,
    ("int16_t", "half"): NONE,
    ("uint8_t", "half"): NONE,
    ("int8_t", "half"): NONE,
    ("half", "int32_t"): RINT,
    ("half", "uint8_t"): RINT,
    ("half", "int8_t"): RINT,
}


def instruction(op: str) -> Instruction:
    return TABLE.get(op, DEFAULT)


def function(op: str) -> str:
    return f"op::{op}_" if op in KEYWORDS else f"op::{op}"


def register(dtype: torch.dtype) -> str:
    """The C++ type in which values of a dtype are computed; `bits` for truths."""
    if dtype.is_floating_point:
        return "float"
    return "bits" if dtype == torch.bool else "int32_t"
