"""Graph to text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sympy
import torch

from xcompile.errors import XCompileError
from xcompile.ir import DTYPE_NAMES, DTYPES, Graph, Node, Value
from xcompile.symbolic import Dim, dim_str, simplify
from xcompile.text.words import is_symbol, sanitise

INDENT = "  "


def to_text(graph: Graph, numbers: dict[Value, int] | None = None) -> str:
    """The graph as text.

    `numbers` keeps the numbers of unnamed values from one print to the next, so that the texts of
    successive passes differ only where the graphs do. It is extended with the values it lacks.
    """
    return "\n".join(["graph {", *_block(graph, INDENT, numbers, root=True), "}", ""])


def value_names(graph: Graph) -> dict[Value, str]:
    """Value -> its name in the graph's text, without the sigil: the key `parse` takes data by."""
    names = _Names(None)
    for v in (*graph.inputs, *graph.consts, *(v for n in graph.nodes for v in n.outputs)):
        names(v)
    return names.known


class _Names:
    """Gives each value of one block a name that is legal, unique and the same on a re-print."""

    def __init__(self, numbers: dict[Value, int] | None):
        self.known: dict[Value, str] = {}
        self.numbers = {} if numbers is None else numbers
        self.taken: set[str] = set()

    def __call__(self, v: Value) -> str:
        if v not in self.known:
            self.known[v] = self._fresh(v)
        return self.known[v]

    def _fresh(self, v: Value) -> str:
        hint = sanitise(v.name)
        if not hint:
            return str(self.numbers.setdefault(v, len(self.numbers)))
        name, k = hint, 0
        while name in self.taken:
            k += 1
            name = f"{hint}.{k}"
        self.taken.add(name)
        return name


def _block(
    g: Graph, pad: str, numbers: dict[Value, int] | None, root: bool = False
) -> Iterator[str]:
    names = _Names(numbers)
    if root:  # a body's dims are the outer graph's
        for s, r in g.symbols.items():
            yield f"{pad}symbol {_symbol_name(s)} in [{r.lo}, {r.hi}] hint {r.hint}"
    for kind, values in (("input", g.inputs), ("const", g.consts)):
        for v in values:
            yield f"{pad}{kind} {_typed(v, names)}"
    for n in g.nodes:
        yield from _node(n, pad, names, numbers)
    yield f"{pad}return {_list(g.outputs, names)}".rstrip()
    for o, i in sorted(g.state.items()):
        which = f"@{o}" if g.outputs.count(g.outputs[o]) > 1 else ""
        yield f"{pad}state %{names(g.outputs[o])}{which} -> %{names(g.inputs[i])}"


def _node(n: Node, pad: str, names: _Names, numbers: dict[Value, int] | None) -> Iterator[str]:
    operands = _list(n.inputs, names)  # before the results: a broken graph may read its own
    results = ", ".join(_typed(v, names) for v in n.outputs) or "()"
    line = f"{pad}{results} = {n.op.name}({operands})"
    attrs = [f"{k}={_attr(v)}" for k, v in sorted(n.attrs.items()) if k != "body"]
    if attrs:
        line += f" {{{', '.join(attrs)}}}"
    if n.body is not None:
        line += " {"
    origin = " ".join(n.origin.split())
    yield f"{line}    # {origin}" if origin else line
    if n.body is not None:
        yield from _block(n.body, pad + INDENT, numbers)
        yield f"{pad}}}"


def _list(values: Sequence[Value], names: _Names) -> str:
    return ", ".join(f"%{names(v)}" for v in values)


def _typed(v: Value, names: _Names) -> str:
    return f"%{names(v)}: {_dtype(v.dtype)}[{', '.join(map(_dim, v.shape))}]"


def _dim(e: Dim) -> str:
    return dim_str(simplify(e))  # canonical, as parsing makes it


def _dtype(d: torch.dtype) -> str:
    if d not in DTYPE_NAMES:
        raise XCompileError(f"dtype {d} has no text form; known are {', '.join(DTYPES)}")
    return DTYPE_NAMES[d]


def _symbol_name(name: str) -> str:
    if not is_symbol(name):
        raise XCompileError(f"{name!r} cannot be a symbol's name in a text form")
    return name


def _attr(a: Any) -> str:
    match a:
        case bool() | None:
            return str(a).lower()
        case int() | float():
            return repr(a)
        case str():
            return json.dumps(a)
        case torch.dtype():
            return _dtype(a)
        case sympy.Expr():
            return _dim(a)
        case tuple():
            return f"({', '.join(map(_attr, a))}{',' if len(a) == 1 else ''})"
    raise XCompileError(f"attribute value {a!r} ({type(a).__name__}) has no text form")
