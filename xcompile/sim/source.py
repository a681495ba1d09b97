"""C++ source as the translator sees it: what is code, what is comment, which brackets match."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xcompile.errors import XCompileError

# Comments, strings and characters. A quote between digits (1'000) belongs to a number.
_SKIP = re.compile(
    r"""
      (?P<line>//(?:\\\n|[^\n])*)
    | (?P<block>/\*.*?(?:\*/|\Z))
    | (?P<raw>\b(?:u8|[uUL])?R"(?P<delim>[^\s()\\]{0,16})\(.*?\)(?P=delim)")
    | (?P<number>\b\d[\w.]*(?:'[\w.]+)+)
    | (?P<string>"(?:\\.|[^"\\\n])*")
    | (?P<char>'(?:\\.|[^'\\\n])*')
    """,
    re.VERBOSE | re.DOTALL,
)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">]', re.MULTILINE)
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def mask(text: str) -> str:
    """`text` with comments blanked and the inside of strings too: same length, same lines."""

    def one(m: re.Match) -> str:
        found = m.group()
        if m.lastgroup in ("line", "block"):
            return _blank(found)
        if m.group("number") is not None:
            return found
        return found[-1] + _blank(found[1:-1]) + found[-1]  # a prefix such as R or u8 goes, too

    # A backslash before a newline joins lines: white space, for what is looked for here.
    return re.sub(r"\\(?=[ \t]*\n)", " ", _SKIP.sub(one, text))


@dataclass(frozen=True)
class Include:
    """One `#include`: its place in the text and what it names."""

    start: int  # of the opening quote or bracket
    end: int
    name: str
    quoted: bool


class Source:
    """One file: `text` as written, `code` with everything that is no code blanked."""

    def __init__(self, text: str, path: Path) -> None:
        self.text = text.replace("\r\n", "\n")
        self.path = path
        self.code = mask(self.text)

    @classmethod
    def read(cls, path: Path) -> Source:
        """Raises XCompileError if the file cannot be read."""
        try:
            return cls(path.read_bytes().decode("utf-8", "surrogateescape"), path)
        except OSError as e:
            raise XCompileError(f"{path}: {e.strerror or e}") from None

    def line(self, at: int) -> int:
        """Number of the line that position `at` is on."""
        return self.text.count("\n", 0, at) + 1

    @cached_property
    def includes(self) -> list[Include]:
        """The includes of the file, those in comments left out."""
        found = []
        for m in _INCLUDE.finditer(self.text):
            if self.code[m.start() : m.start(1)].strip():  # blank if it is in a comment
                found.append(Include(m.start(1), m.end(), m.group(2), m.group(1) == '"'))
        return found

    def error(self, at: int, message: str) -> XCompileError:
        return XCompileError(f"{self.path}:{self.line(at)}: {message}")

    def close(self, at: int) -> int | None:
        """Position of the bracket that closes the one at `at`, None if there is none."""
        opened, want = self.code[at], _PAIRS[self.code[at]]
        depth = 0
        for m in re.compile(f"[{re.escape(opened + want)}]").finditer(self.code, at):
            depth += 1 if m.group() == opened else -1
            if depth == 0:
                return m.start()
        return None

    def open(self, at: int, opening: str) -> int | None:
        """Position of the `opening` bracket that the closing one at `at` belongs to."""
        closing, depth = self.code[at], 0
        for i in range(at, -1, -1):
            c = self.code[i]
            if c == closing:
                depth += 1
            elif c == opening:
                depth -= 1
                if depth == 0:
                    return i
        return None

    def words(self, start: int, end: int) -> Iterator[re.Match]:
        """The identifiers between two positions."""
        return _WORD.finditer(self.code, start, end)


_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Edit:
    """Replace text[start:end]; equal positions insert."""

    start: int
    end: int
    text: str


def apply(text: str, edits: list[Edit]) -> str:
    """All edits at once; they may touch but not overlap. Insertions keep their order."""
    out, at = [], 0
    for e in sorted(edits, key=lambda e: (e.start, e.end)):
        if e.start < at:
            raise AssertionError("edits overlap")
        out += [text[at : e.start], e.text]
        at = e.end
    return "".join([*out, text[at:]])
