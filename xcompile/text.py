"""The text form of a graph: `to_text` prints it, `parse` reads it back.

One statement a line, in this order inside a block: symbols, inputs, constants, nodes, the return,
state updates. The text of an artifact or a dump is untrusted, so `parse` evaluates nothing, bounds
nesting and expression size, and answers every malformed text with an XCompileError that names the
line. ``to_text(parse(to_text(g))) == to_text(g)`` holds for every graph that verifies.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, NoReturn

import sympy
import torch

from xcompile.errors import XCompileError
from xcompile.ir import DTYPE_NAMES, DTYPES, Graph, Node, Op, Type, Value
from xcompile.ops import registry
from xcompile.symbolic import Dim, Range, dim_str, free_names, parse_dim, simplify

MAX_DEPTH = 16  # blocks in blocks, and tuples in tuples
MAX_RANK = 64
MAX_TERMS = 4096  # of a shape's product, which shape inference expands
INDENT = "  "
_WORDS: dict[str, Any] = {
    "true": True,
    "false": False,
    "none": None,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
    **DTYPES,
}
_NOT_SYMBOLS = {*_WORDS, "Max", "Min"}


# -- printing -------------------------------------------------------------------------------------
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
        hint = _sanitise(v.name)
        if not hint:
            return str(self.numbers.setdefault(v, len(self.numbers)))
        name, k = hint, 0
        while name in self.taken:
            k += 1
            name = f"{hint}.{k}"
        self.taken.add(name)
        return name


def _sanitise(name: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.]", "_", name)
    return f"_{name}" if name.isdecimal() else name  # bare digits mean "unnamed"


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
    if not _is_symbol(name):
        raise XCompileError(f"{name!r} cannot be a symbol's name in a text form")
    return name


def _is_symbol(name: str) -> bool:
    legal = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    return legal and name not in _NOT_SYMBOLS


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


# -- parsing --------------------------------------------------------------------------------------
def parse(text: str, consts: Mapping[str, torch.Tensor] | None = None) -> Graph:
    """The graph of a text, verified.

    `consts` gives the outer graph's constants their data, by name; those it lacks have None.
    Raises XCompileError, with the line, for any text that `to_text` could not have written.
    """
    return _Parser(text, consts or {}).graph()


_TOKEN = re.compile(
    r"""[ \t]*(?:
        (?P<comment> \# .*)
      | (?P<value>   % [A-Za-z0-9_.]+)
      | (?P<string>  " (?:[^"\\] | \\.)* ")
      | (?P<number>  \d+ (?:\.\d+)? (?:[eE][+-]?\d+)? (?![\w.]))
      | (?P<name>    [A-Za-z_]\w*)
      | (?P<op>      -> | // | \*\* | [()\[\]{},:=@+\-*/%])
    )""",
    re.VERBOSE | re.ASCII,
)
_INT = re.compile(r"-?\d+", re.ASCII)
_FLOAT = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_OPEN, _CLOSE = {"(": ")", "[": "]"}, {")", "]"}


class _Line:
    """A statement as tokens, with a read position."""

    def __init__(self, text: str, number: int):
        self.text, self.number = text, number
        self.tokens: list[tuple[str, str, int]] = []  # kind, text, column
        self.comment = ""
        self.at = 0
        self._lex()

    def _lex(self) -> None:
        pos, end = 0, len(self.text.rstrip(" \t"))
        while pos < end:
            m = _TOKEN.match(self.text, pos)
            if m is None:
                raise XCompileError(
                    f"line {self.number}: found {self.text[pos:].strip()[:20]!r}, "
                    "expected a name, a number, a string or punctuation"
                )
            kind = str(m.lastgroup)
            if kind == "comment":
                self.comment = m["comment"][1:].strip()
            else:
                self.tokens.append((kind, m[kind], m.start(kind)))
            pos = m.end()

    def fail(self, expected: str) -> NoReturn:
        found = repr(self.peek) if self.peek else "the end of the line"
        raise XCompileError(f"line {self.number}: found {found}, expected {expected}")

    def error(self, message: object) -> NoReturn:
        raise XCompileError(f"line {self.number}: {message}")

    @property
    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else "end"

    def accept(self, text: str) -> bool:
        hit = self.kind != "string" and self.peek == text
        self.at += hit
        return hit

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(repr(text))

    def take(self, kind: str, expected: str) -> str:
        if self.kind != kind:
            self.fail(expected)
        self.at += 1
        return self.tokens[self.at - 1][1]

    def end(self) -> None:
        if self.at < len(self.tokens):
            self.fail("the end of the line")

    def integer(self, expected: str) -> int:
        sign = "-" if self.accept("-") else ""
        return self.to_int(sign + self.take("number", expected), expected)

    def to_int(self, text: str, expected: str) -> int:
        if not _INT.fullmatch(text) or len(text) > 21 or abs(int(text)) >= 1 << 64:
            self.error(f"found {text[:30]!r}, expected {expected}")
        return int(text)

    def raw(self, expected: str) -> str:
        """The source up to the next comma or closing bracket of this level."""
        first, depth = self.at, 0
        while self.at < len(self.tokens):
            t = self.peek
            if (depth == 0 and t in {",", ")", "]", "}"}) or self.kind == "string":
                break
            depth += (t in _OPEN) - (t in _CLOSE)
            self.at += 1
        if first == self.at:
            self.fail(expected)
        _, last, column = self.tokens[self.at - 1]
        return self.text[self.tokens[first][2] : column + len(last)]

    def tuple_ahead(self) -> bool:
        """True when the parenthesis here opens a tuple, not a dim such as ``(T + 1)//2``."""
        depth = 0
        for k in range(self.at, len(self.tokens)):
            kind, t, _ = self.tokens[k]
            if kind == "string":
                continue
            depth += (t in _OPEN) - (t in _CLOSE)
            if (depth == 1 and t == ",") or (depth == 0 and k == self.at + 1):
                return True
            if depth == 0:
                return False
        return False


class _Parser:
    def __init__(self, text: str, consts: Mapping[str, torch.Tensor]):
        # a caller that built its mapping from unsanitised names finds its data all the same
        self.consts = {_sanitise(k): v for k, v in consts.items()} | dict(consts)
        self.lines = self._statements(text)
        self.symbols: dict[str, Range] = {}
        self.dims: dict[str, Dim] = {}

    @staticmethod
    def _statements(text: str) -> Iterator[_Line]:
        number = 0
        for number, source in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            line = _Line(source, number)
            if line.tokens:
                yield line
        while True:  # so that a missing brace is reported where the text stops
            yield _Line("", number)

    def graph(self) -> Graph:
        line = next(self.lines)
        for word in ("graph", "{"):
            line.expect(word)
        line.end()
        g = self._block(0)
        line = next(self.lines)
        if line.tokens:
            line.fail("nothing after the graph")
        _guarded(g.verify, "the graph is not well formed", line)
        return g

    def _block(self, depth: int) -> Graph:
        g, scope = Graph(symbols=self.symbols), dict[str, Value]()
        line = next(self.lines)
        while depth == 0 and line.accept("symbol"):
            self._symbol(line)
            line = next(self.lines)
        for kind in ("input", "const"):
            while line.accept(kind):
                v = self._declare(line, scope)
                line.end()
                if kind == "input":
                    g.inputs.append(v)
                else:
                    g.consts[v] = None if depth else self._data(v, line)
                line = next(self.lines)
        while line.kind == "value" or line.peek == "(":
            g.nodes.append(self._node(line, scope, depth))
            line = next(self.lines)
        self._return(line, g, scope)
        line = next(self.lines)
        while line.accept("state"):
            self._state(line, g, scope)
            line = next(self.lines)
        if not line.accept("}"):
            line.fail("'state' or '}'")
        line.end()
        return g

    def _symbol(self, line: _Line) -> None:
        name = line.take("name", "a symbol's name")
        if not _is_symbol(name) or name in self.symbols:
            line.error(f"found {name!r}, expected a symbol's name that is new and not reserved")
        for word in ("in", "["):
            line.expect(word)
        lo = line.integer("the lower bound")
        line.expect(",")
        hi = line.integer("the upper bound")
        for word in ("]", "hint"):
            line.expect(word)
        hint = line.integer("the size seen when the model was traced")
        line.end()
        if not 0 <= lo <= hi:
            line.error(f"found range [{lo}, {hi}], expected 0 <= lower <= upper")
        self.symbols[name] = Range(lo, hi, hint)

    def _declare(self, line: _Line, scope: dict[str, Value]) -> Value:
        """``%name: type``, entered into the scope."""
        name = line.take("value", "a value such as %x")[1:]
        if name in scope:
            line.error(f"%{name} is defined twice")
        line.expect(":")
        hint = "" if name.isdecimal() else name
        scope[name] = v = Value(self._type(line), hint)
        return v

    def _type(self, line: _Line) -> Type:
        if line.peek not in DTYPES:
            line.fail(f"a dtype ({', '.join(DTYPES)})")
        dtype = DTYPES[line.take("name", "a dtype")]
        line.expect("[")
        dims: list[Dim] = []
        while line.peek != "]":
            if dims:
                line.expect(",")
            dims.append(self._dim(line, line.raw("a dim")))
            if isinstance(dims[-1], int) and dims[-1] < 0:
                line.error(f"found size {dims[-1]}, expected a size of 0 or more")
        line.expect("]")
        if len(dims) > MAX_RANK:
            line.error(f"found {len(dims)} dims, expected at most {MAX_RANK}")
        self._bounded(line, dims)
        return Type(dtype, tuple(dims))

    def _dim(self, line: _Line, text: str) -> Dim:
        if text not in self.dims:
            if _INT.fullmatch(text):
                self.dims[text] = line.to_int(text, "an int of at most 64 bits")
            else:
                dim = _guarded(lambda: parse_dim(text), f"dim {text[:60]!r}", line)
                if not isinstance(dim, int) and not free_names(dim):
                    line.error(f"found {text!r}, expected a whole number")
                for s in sorted(free_names(dim) - self.symbols.keys()):
                    line.error(f"found {s!r} in {text!r}, expected a symbol of the graph")
                self.dims[text] = dim
        return self.dims[text]

    def _data(self, v: Value, line: _Line) -> torch.Tensor | None:
        t = self.consts.get(v.name)
        if t is not None and not v.type.same(Type(t.dtype, tuple(t.shape))):
            line.error(f"constant %{v.name} is {v.type}, its data {t.dtype} {tuple(t.shape)}")
        return t

    def _node(self, line: _Line, scope: dict[str, Value], depth: int) -> Node:
        after = dict[str, Value]()  # results join the scope after the operands are read
        if line.accept("("):
            line.expect(")")
        else:
            self._declare_new(line, scope, after)
            while line.accept(","):
                self._declare_new(line, scope, after)
        line.expect("=")
        op = self._op(line)
        line.expect("(")
        inputs = tuple(self._refs(line, scope, ")"))
        line.expect(")")
        attrs, has_body = self._attrs(line)
        line.end()
        if has_body:
            attrs["body"] = self._body(line, op, depth)
        node = Node(op, inputs, attrs, tuple(after.values()), line.comment)
        self._check(line, node)
        scope |= after
        return node

    def _declare_new(self, line: _Line, scope: dict[str, Value], after: dict[str, Value]) -> None:
        name = line.peek[1:]
        if name in scope:
            line.error(f"%{name} is defined twice")
        self._declare(line, after)

    def _op(self, line: _Line) -> Op:
        found = line.peek
        name = line.take("name", "an op's name")
        if name not in registry():
            line.error(f"found {found!r}, expected an op's name: no such op")
        return registry()[name]

    def _refs(self, line: _Line, scope: Mapping[str, Value], close: str) -> Iterator[Value]:
        first = True
        while line.peek != close:
            if not first:
                line.expect(",")
            first = False
            yield self._ref(line, scope)

    def _ref(self, line: _Line, scope: Mapping[str, Value]) -> Value:
        name = line.take("value", "a value such as %x")[1:]
        if name not in scope:
            line.error(f"found %{name}, expected a value that is defined before this line")
        return scope[name]

    def _attrs(self, line: _Line) -> tuple[dict[str, Any], bool]:
        """``{k=4, dtype=f32}``, and whether a brace opens a body after it."""
        attrs: dict[str, Any] = {}
        while line.accept("{"):
            if line.kind == "end":
                return attrs, True
            if attrs:
                line.fail("the end of the line, where a body starts")
            while not attrs or line.accept(","):
                name = line.take("name", "an attribute's name")
                if name in attrs or name == "body":
                    line.error(f"found attribute {name!r}, expected one that is new")
                line.expect("=")
                attrs[name] = self._value(line, 0)
            line.expect("}")
        return attrs, False

    def _value(self, line: _Line, depth: int) -> Any:
        if depth > MAX_DEPTH:
            line.error(f"found a tuple nested deeper than {MAX_DEPTH}")
        if line.kind == "string":
            return self._string(line)
        if line.peek == "(" and line.tuple_ahead():
            return self._tuple(line, depth)
        text = line.raw("an attribute's value")
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return line.to_int(text, "an int of at most 64 bits")
        return float(text) if _FLOAT.fullmatch(text) else self._dim(line, text)

    @staticmethod
    def _string(line: _Line) -> str:
        text = line.take("string", "a string")
        try:
            return json.loads(text)
        except ValueError:
            line.error(f"found {text[:30]}, expected a string with JSON escapes")

    def _tuple(self, line: _Line, depth: int) -> tuple:
        line.expect("(")
        items: list[Any] = []
        while line.peek != ")" or line.kind == "string":
            items.append(self._value(line, depth + 1))
            if not line.accept(","):
                break
        line.expect(")")
        self._bounded(line, items)
        return tuple(items)

    @staticmethod
    def _bounded(line: _Line, dims: Sequence[Any]) -> None:
        terms = prod(len(d.args) for d in dims if isinstance(d, sympy.Add))
        if terms > MAX_TERMS:
            line.error(f"found a shape of {terms} terms, expected at most {MAX_TERMS}")

    def _body(self, line: _Line, op: Op, depth: int) -> Graph:
        if op.name != "group":  # evaluation would run the body instead of the op
            line.error(f"found a body after {op.name}, expected one after group only")
        if depth >= MAX_DEPTH:
            line.error(f"found a body nested deeper than {MAX_DEPTH}")
        return self._block(depth + 1)

    @staticmethod
    def _check(line: _Line, n: Node) -> None:
        """Infer here, not only in `verify`, because here the line is known."""

        def mismatch() -> str:
            found = [v.type for v in n.outputs]
            wanted = list(n.op.infer([v.type for v in n.inputs], n.attrs))
            if len(found) == len(wanted) and all(map(Type.same, found, wanted)):
                return ""
            say = [", ".join(map(str, ts)) or "no result" for ts in (found, wanted)]
            return f"found {n.op.name} with {say[0]}, expected {say[1]}"

        what = f"{n.op.name} does not take these operands and attributes"
        if message := _guarded(mismatch, what, line):
            line.error(message)

    def _return(self, line: _Line, g: Graph, scope: Mapping[str, Value]) -> None:
        if not line.accept("return"):
            line.fail("a node such as %0: f32[2] = exp(%x), or 'return'")
        g.outputs.extend(self._refs(line, scope, ""))
        line.end()

    def _state(self, line: _Line, g: Graph, scope: Mapping[str, Value]) -> None:
        v = self._ref(line, scope)
        if v not in g.outputs:
            line.error("found a state update by a value that is not returned")
        o = line.integer("an output's index") if line.accept("@") else g.outputs.index(v)
        line.expect("->")
        target = self._ref(line, scope)
        line.end()
        if not 0 <= o < len(g.outputs) or g.outputs[o] is not v or o in g.state:
            line.error(f"found output {o}, expected the index of that value, once")
        if target not in g.inputs:
            line.error("found a state update of a value that is not an input")
        if not v.type.same(target.type):
            line.error(f"found an update of {target.type} by {v.type}, expected one type")
        i = g.inputs.index(target)
        if i in g.state.values():
            line.error("found a second update of one input")
        g.state[o] = i


def _guarded(call: Any, what: str, line: _Line | None = None) -> Any:
    """Run code that trusts its input more than a text deserves; any failure is the text's."""
    where = f"line {line.number}: " if line else ""
    try:
        return call()
    except XCompileError as e:
        raise XCompileError(f"{where}{e}") from None
    except Exception as e:
        raise XCompileError(f"{where}{what} ({type(e).__name__}: {e})") from e
