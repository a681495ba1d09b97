"""Text to graph: nothing is evaluated, and every malformed text gets an error with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import sympy
import torch

from xcompile.errors import XCompileError
from xcompile.ir import DTYPES, Graph, Node, Op, Type, Value
from xcompile.ops import registry
from xcompile.symbolic import Dim, Range, free_names, parse_dim
from xcompile.text.line import INT, Line
from xcompile.text.words import WORDS, is_symbol, sanitise

MAX_DEPTH = 16  # blocks in blocks, and tuples in tuples
MAX_RANK = 64
MAX_TERMS = 4096  # of a shape's product, which shape inference expands
_FLOAT = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def parse(text: str, consts: Mapping[str, torch.Tensor] | None = None) -> Graph:
    """The graph of a text, verified.

    `consts` gives the outer graph's constants their data, by name; those it lacks have None.
    Raises XCompileError, with the line, for any text that `to_text` could not have written.
    """
    return _Parser(text, consts or {}).graph()


class _Parser:
    def __init__(self, text: str, consts: Mapping[str, torch.Tensor]):
        # a caller that built its mapping from unsanitised names finds its data all the same
        self.consts = {sanitise(k): v for k, v in consts.items()} | dict(consts)
        self.lines = self._statements(text)
        self.symbols: dict[str, Range] = {}
        self.dims: dict[str, Dim] = {}

    @staticmethod
    def _statements(text: str) -> Iterator[Line]:
        number = 0
        for number, source in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            line = Line(source, number)
            if line.tokens:
                yield line
        while True:  # so that a missing brace is reported where the text stops
            yield Line("", number)

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

    def _symbol(self, line: Line) -> None:
        name = line.take("name", "a symbol's name")
        if not is_symbol(name) or name in self.symbols:
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

    def _declare(self, line: Line, scope: dict[str, Value]) -> Value:
        """``%name: type``, entered into the scope."""
        name = line.take("value", "a value such as %x")[1:]
        if name in scope:
            line.error(f"%{name} is defined twice")
        line.expect(":")
        hint = "" if name.isdecimal() else name
        scope[name] = v = Value(self._type(line), hint)
        return v

    def _type(self, line: Line) -> Type:
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

    def _dim(self, line: Line, text: str) -> Dim:
        if text not in self.dims:
            if INT.fullmatch(text):
                self.dims[text] = line.to_int(text, "an int of at most 64 bits")
            else:
                dim = _guarded(lambda: parse_dim(text), f"dim {text[:60]!r}", line)
                if not isinstance(dim, int) and not free_names(dim):
                    line.error(f"found {text!r}, expected a whole number")
                for s in sorted(free_names(dim) - self.symbols.keys()):
                    line.error(f"found {s!r} in {text!r}, expected a symbol of the graph")
                self.dims[text] = dim
        return self.dims[text]

    def _data(self, v: Value, line: Line) -> torch.Tensor | None:
        t = self.consts.get(v.name)
        if t is not None and not v.type.same(Type(t.dtype, tuple(t.shape))):
            line.error(f"constant %{v.name} is {v.type}, its data {t.dtype} {tuple(t.shape)}")
        return t

    def _node(self, line: Line, scope: dict[str, Value], depth: int) -> Node:
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

    def _declare_new(self, line: Line, scope: dict[str, Value], after: dict[str, Value]) -> None:
        name = line.peek[1:]
        if name in scope:
            line.error(f"%{name} is defined twice")
        self._declare(line, after)

    def _op(self, line: Line) -> Op:
        found = line.peek
        name = line.take("name", "an op's name")
        if name not in registry():
            line.error(f"found {found!r}, expected an op's name: no such op")
        return registry()[name]

    def _refs(self, line: Line, scope: Mapping[str, Value], close: str) -> Iterator[Value]:
        first = True
        while line.peek != close:
            if not first:
                line.expect(",")
            first = False
            yield self._ref(line, scope)

    def _ref(self, line: Line, scope: Mapping[str, Value]) -> Value:
        name = line.take("value", "a value such as %x")[1:]
        if name not in scope:
            line.error(f"found %{name}, expected a value that is defined before this line")
        return scope[name]

    def _attrs(self, line: Line) -> tuple[dict[str, Any], bool]:
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

    def _value(self, line: Line, depth: int) -> Any:
        if depth > MAX_DEPTH:
            line.error(f"found a tuple nested deeper than {MAX_DEPTH}")
        if line.kind == "string":
            return self._string(line)
        if line.peek == "(" and line.tuple_ahead():
            return self._tuple(line, depth)
        text = line.raw("an attribute's value")
        if text in WORDS:
            return WORDS[text]
        if INT.fullmatch(text):
            return line.to_int(text, "an int of at most 64 bits")
        return float(text) if _FLOAT.fullmatch(text) else self._dim(line, text)

    @staticmethod
    def _string(line: Line) -> str:
        text = line.take("string", "a string")
        try:
            return json.loads(text)
        except ValueError:
            line.error(f"found {text[:30]}, expected a string with JSON escapes")

    def _tuple(self, line: Line, depth: int) -> tuple:
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
    def _bounded(line: Line, dims: Sequence[Any]) -> None:
        terms = prod(len(d.args) for d in dims if isinstance(d, sympy.Add))
        if terms > MAX_TERMS:
            line.error(f"found a shape of {terms} terms, expected at most {MAX_TERMS}")

    def _body(self, line: Line, op: Op, depth: int) -> Graph:
        if op.name != "group":  # evaluation would run the body instead of the op
            line.error(f"found a body after {op.name}, expected one after group only")
        if depth >= MAX_DEPTH:
            line.error(f"found a body nested deeper than {MAX_DEPTH}")
        return self._block(depth + 1)

    @staticmethod
    def _check(line: Line, n: Node) -> None:
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

    def _return(self, line: Line, g: Graph, scope: Mapping[str, Value]) -> None:
        if not line.accept("return"):
            line.fail("a node such as %0: f32[2] = exp(%x), or 'return'")
        g.outputs.extend(self._refs(line, scope, ""))
        line.end()

    def _state(self, line: Line, g: Graph, scope: Mapping[str, Value]) -> None:
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


def _guarded(call: Any, what: str, line: Line | None = None) -> Any:
    """Run code that trusts its input more than a text deserves; any failure is the text's."""
    where = f"line {line.number}: " if line else ""
    try:
        return call()
    except XCompileError as e:
        raise XCompileError(f"{where}{e}") from None
    except Exception as e:
        raise XCompileError(f"{where}{what} ({type(e).__name__}: {e})") from e
