"""Dims: ints or sympy expressions over a graph's symbols.

Only ``+ - * // %``, ``Max`` and ``Min`` occur. They print as Python, print as C, and parse back
through a whitelist (an artifact's text is untrusted, so ``sympy.sympify``, which evals, is out).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import TypeAlias

import sympy
from sympy.printing.str import StrPrinter
from torch.utils._sympy.functions import FloorDiv, Mod

from xcompile.errors import XCompileError

Dim: TypeAlias = int | sympy.Expr
UNBOUNDED = 1 << 31  # what an open upper bound means to the memory planner


@dataclass(frozen=True)
class Range:
    """Inclusive bounds of a symbol; `hint` is the size seen when the model was traced."""

    lo: int
    hi: int
    hint: int

    def __contains__(self, value: int) -> bool:
        return self.lo <= value <= self.hi


@cache
def symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, integer=True, positive=True)


def simplify(e: Dim) -> Dim:
    """Canonical form: an int where the value is known, else an expanded expression."""
    if isinstance(e, int):
        return e
    e = sympy.expand(e)
    return int(e) if e.is_Integer else e


def same(a: Dim, b: Dim) -> bool:
    """True when both are provably equal for every value of the symbols."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return a == b or simplify(a - b) == 0


def product(dims: Iterable[Dim]) -> Dim:
    return simplify(prod(dims))


def floordiv(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return simplify(FloorDiv(a, b))


def evaluate(e: Dim, env: Mapping[str, int]) -> int:
    """The value of a dim; `env` maps symbol names to ints."""
    if isinstance(e, int):
        return e
    value = _evaluate(e, env)
    return int(e.subs({s: env[s.name] for s in e.free_symbols})) if value is None else value


def _evaluate(e: sympy.Basic, env: Mapping[str, int]) -> int | None:
    """`evaluate` without sympy's arithmetic, which takes milliseconds for a step's dims; None for
    what it does not know, such as fractions."""
    if isinstance(e, sympy.Symbol):
        return env[e.name]
    if isinstance(e, sympy.Integer):
        return int(e)
    known = _ARITHMETIC.get(type(e))
    args = [_evaluate(a, env) for a in e.args] if known is not None else [None]
    return known(args) if known is not None and None not in args else None


_ARITHMETIC: dict[type, Callable[[list], int]] = {
    sympy.Add: sum,
    sympy.Mul: prod,
    sympy.Max: max,
    sympy.Min: min,
    FloorDiv: lambda a: a[0] // a[1],
    Mod: lambda a: a[0] % a[1],
}


def free_names(e: object) -> set[str]:
    return {s.name for s in e.free_symbols} if isinstance(e, sympy.Expr) else set()


class _Python(StrPrinter):
    printmethod = "_xcompile_str"  # torch's classes bring their own text, which would win

    def _print_FloorDiv(self, e: FloorDiv) -> str:
        return f"({self._print(e.args[0])}) // ({self._print(e.args[1])})"

    def _print_Mod(self, e: Mod) -> str:
        return f"({self._print(e.args[0])}) % ({self._print(e.args[1])})"

    _print_PythonMod = _print_Mod


def dim_str(e: Dim) -> str:
    return str(e) if isinstance(e, int) else f"{_Python().doprint(e)}"


class _C(StrPrinter):
    printmethod = "_xcompile_c"  # torch's own "//" would start a C++ comment

    def _print_FloorDiv(self, e: FloorDiv) -> str:
        return f"(({self._print(e.args[0])}) / ({self._print(e.args[1])}))"

    def _print_Mod(self, e: Mod) -> str:
        return f"(({self._print(e.args[0])}) % ({self._print(e.args[1])}))"

    _print_PythonMod = _print_Mod

    def _print_Pow(self, e: sympy.Pow, rational: bool = False) -> str:
        base, n = e.args
        if not (n.is_Integer and n > 0):
            raise XCompileError(f"dim {e} is not an integer polynomial")
        return "(" + " * ".join([f"({self._print(base)})"] * int(n)) + ")"

    def _print_Max(self, e: sympy.Max) -> str:
        return self._fold("std::max<i64>", e)

    def _print_Min(self, e: sympy.Min) -> str:
        return self._fold("std::min<i64>", e)

    def _fold(self, f: str, e: sympy.Expr) -> str:
        out, *rest = (self._print(a) for a in sorted(e.args, key=str))
        for a in rest:
            out = f"{f}({out}, {a})"
        return out


def c_expr(e: Dim) -> str:
    """C++ text of a dim; symbols appear under their own names."""
    if isinstance(e, int):
        return str(e)
    e = simplify(e)
    if isinstance(e, int):
        return str(e)
    den = sympy.denom(sympy.together(e))
    if den != 1:  # an exact division that sympy wrote as a rational
        return f"(({_C().doprint(simplify(e * den))}) / {_C().doprint(den)})"
    return f"({_C().doprint(e)})"


_BINARY = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: floordiv,
    ast.Mod: lambda a, b: a % b if isinstance(a, int) and isinstance(b, int) else Mod(a, b),
    ast.Div: lambda a, b: sympy.Rational(1) * a / b,
    ast.Pow: lambda a, b: a**b,
}
_CALL = {"Max": sympy.Max, "Min": sympy.Min}
MAX_TERMS, MAX_TEXT = 128, 4096  # a dim of a real model has a handful of terms


def parse_dim(text: str) -> Dim:
    """Inverse of `dim_str`. Raises XCompileError on anything but dim arithmetic of modest size."""

    def go(n: ast.expr) -> Dim:
        e = build(n)
        if isinstance(e, int) and abs(e) >= 1 << 64:
            raise XCompileError(f"dim {text[:60]!r}: a number has more than 64 bits")
        if isinstance(e, sympy.Expr) and e.has(sympy.zoo, sympy.oo, -sympy.oo, sympy.nan):
            raise XCompileError(f"dim {text[:60]!r} is not finite")
        return e

    def build(n: ast.expr) -> Dim:
        match n:
            case ast.Constant(value=int(v)) if not isinstance(v, bool):
                return v
            case ast.Name(id=name):
                return symbol(name)
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return -go(x)
            case ast.BinOp(left=a, op=op, right=b) if type(op) in _BINARY:
                return _BINARY[type(op)](go(a), go(b))
            case ast.Call(func=ast.Name(id=f), args=[_, *_] as args, keywords=[]) if f in _CALL:
                return simplify(_CALL[f](*map(go, args)))
        raise XCompileError(
            f"dim {text[:60]!r}: only ints, symbols, + - * // %, Max, Min are allowed"
        )

    if len(text) > MAX_TEXT:
        raise XCompileError(f"dim {text[:60]!r}... is longer than {MAX_TEXT} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _terms(tree)
        return simplify(go(tree))
    except (SyntaxError, ValueError, RecursionError, ArithmeticError, MemoryError) as e:
        raise XCompileError(f"dim {text[:60]!r} does not parse: {e}") from None


def _terms(n: ast.expr) -> int:
    """Bound on the terms and powers after expansion, known before sympy spends the time."""
    match n:
        case ast.BinOp(left=a, op=ast.Pow(), right=ast.Constant(value=int(k))) if 0 < k < 9:
            out = max(_terms(a), 2) ** k // 2
        case ast.BinOp(op=ast.Pow()):
            raise XCompileError("the exponent of a dim must be an int of 1..8")
        case ast.BinOp(left=a, op=ast.Mult() | ast.Div(), right=b):
            out = _terms(a) * _terms(b)
        case ast.BinOp(left=a, right=b):
            out = _terms(a) + _terms(b)
        case ast.UnaryOp(operand=a):
            out = _terms(a)
        case ast.Call(args=args):
            out = 2 * sum(map(_terms, args))  # sympy compares every pair of arguments
        case _:
            out = 1
    if out > MAX_TERMS:
        raise XCompileError(f"a dim expands to more than {MAX_TERMS} terms")
    return out
