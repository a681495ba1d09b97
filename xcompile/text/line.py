"""One statement of a text as tokens."""

from __future__ import annotations

import re
from typing import NoReturn

from xcompile.errors import XCompileError

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
INT = re.compile(r"-?\d+", re.ASCII)
_OPEN, _CLOSE = {"(": ")", "[": "]"}, {")", "]"}


class Line:
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
        if not INT.fullmatch(text) or len(text) > 21 or abs(int(text)) >= 1 << 64:
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
