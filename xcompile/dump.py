"""What each pass did to a graph: one text per pass, and one page with the differences.

Values keep their numbers from dump to dump, so a difference is a change of the graph.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from html import escape
from pathlib import Path

from xcompile.ir import Graph, Value
from xcompile.text import to_text

CONTEXT = 3  # unchanged lines that stay visible around a change
PAIRED = 400  # characters up to which two versions of a line are compared word by word


@dataclass(frozen=True)
class Entry:
    """One dump: the graph after a pass."""

    name: str
    file: str
    text: str
    seconds: float
    nodes: int
    launches: int
    note: str


@dataclass
class Dumper:
    """Writes ``00-import.xir``, ``01-canonicalise.xir``, ... and, when closed, ``index.html``.

    Each Dumper takes the next free subfolder (0, 1, ...) of the directory, so that several
    compilations, also of several processes, share it. Usable as a context manager; an exception
    in a pass still leaves the page of the passes before it.
    """

    directory: str | os.PathLike[str]
    path: Path = field(init=False)
    entries: list[Entry] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.path = _next_folder(Path(self.directory))
        self._numbers: dict[Value, int] = {}

    def add(self, name: str, graph: Graph, seconds: float, note: str = "") -> None:
        """Write the graph as the pass `name` left it."""
        text = to_text(graph, self._numbers)
        slug = re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.") or "pass"
        file = f"{len(self.entries):02d}-{slug}.xir"
        _write(self.path / file, text)
        launches = sum(not n.op.view for n in graph.nodes)
        self.entries.append(
            Entry(name, file, text, seconds, len(graph.nodes), launches, note),
        )

    def close(self) -> None:
        """Write the page over all dumps so far."""
        _write(self.path / "index.html", render(self.entries))

    def __enter__(self) -> Dumper:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _next_folder(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for k in itertools.count():
        try:
            (directory / str(k)).mkdir()  # atomic: of two processes one sees it exist
        except FileExistsError:
            continue
        return directory / str(k)
    raise AssertionError("unreachable")


def _write(path: Path, text: str) -> None:
    """Write next to the file, then rename: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


# -- the page -------------------------------------------------------------------------------------
def render(entries: list[Entry]) -> str:
    """One self-contained page: a list of the passes and what each changed."""
    befores = [None, *entries[:-1]]
    pairs = list(zip(befores, entries, strict=True)) if entries else []
    links = "".join(_link(k, a, b) for k, (a, b) in enumerate(pairs))
    sections = "".join(_section(k, a, b) for k, (a, b) in enumerate(pairs))
    return _PAGE.format(style=_STYLE, links=links, sections=sections, total=_total(entries))


def _total(entries: list[Entry]) -> str:
    if not entries:
        return "no passes ran"
    first, last = entries[0], entries[-1]
    return (
        f"{_time(sum(e.seconds for e in entries))}; nodes {first.nodes} &rarr; {last.nodes}; "
        f"launches {first.launches} &rarr; {last.launches}"
    )


def _link(k: int, before: Entry | None, after: Entry) -> str:
    return (
        f'<li class="{_changed(before, after)}"><a href="#p{k}"><b>{escape(after.name)}</b> '
        f"<small>{_time(after.seconds)} &middot; {_counts(before, after)}</small></a></li>\n"
    )


def _section(k: int, before: Entry | None, after: Entry) -> str:
    if before is None:
        body = _fold(after.text.splitlines(), "the whole graph")
    elif before.text == after.text:
        body = '<p class="none">no change</p>'
    else:
        body = "".join(_diff(before.text.splitlines(), after.text.splitlines()))
    note = f"<p>{escape(after.note)}</p>" if after.note else ""
    return (
        f'<section id="p{k}" class="{_changed(before, after)}"><h2>{escape(after.name)}</h2>'
        f'<p class="facts">{_time(after.seconds)} &middot; {_counts(before, after)} &middot; '
        f'<a href="{escape(after.file)}">{escape(after.file)}</a></p>{note}'
        f'<div class="diff">{body}</div></section>\n'
    )


def _changed(before: Entry | None, after: Entry) -> str:
    return "same" if before is not None and before.text == after.text else "changed"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _counts(before: Entry | None, after: Entry) -> str:
    old = before or after

    def step(a: int, b: int) -> str:
        return str(b) if a == b else f"{a} &rarr; {b}"

    return f"{step(old.nodes, after.nodes)} nodes, {step(old.launches, after.launches)} launches"


def _diff(old: list[str], new: list[str]) -> Iterator[str]:
    """Unified differences; runs of unchanged lines fold away."""
    blocks = SequenceMatcher(None, old, new).get_opcodes()
    for k, (tag, a, b, c, d) in enumerate(blocks):
        if tag == "equal":
            head, tail = CONTEXT * (k > 0), CONTEXT * (k < len(blocks) - 1)
            yield from _unchanged(old[a:b], head, tail)
        else:
            yield from _replaced(old[a:b], new[c:d])


def _unchanged(lines: list[str], head: int, tail: int) -> Iterator[str]:
    if len(lines) <= head + tail + 1:
        yield _rows("", map(escape, lines))
        return
    cut = len(lines) - tail
    yield _rows("", map(escape, lines[:head]))
    yield _fold(lines[head:cut], f"{cut - head} unchanged lines")
    yield _rows("", map(escape, lines[cut:]))


def _replaced(old: list[str], new: list[str]) -> Iterator[str]:
    """Lines of equal count are versions of each other: mark the words that differ."""
    minus, plus = list(map(escape, old)), list(map(escape, new))
    if len(old) == len(new):
        for k, (a, b) in enumerate(zip(old, new, strict=True)):
            if max(len(a), len(b)) <= PAIRED:
                minus[k], plus[k] = _words(a, b)
    yield _rows("del", minus)
    yield _rows("add", plus)


def _words(old: str, new: str) -> tuple[str, str]:
    a, b = (re.findall(r"[%\w.]+|\s+|.", s) for s in (old, new))
    left, right = [], []
    for tag, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        x, y = escape("".join(a[i:j])), escape("".join(b[k:m]))
        left.append(x if tag == "equal" or not x else f"<mark>{x}</mark>")
        right.append(y if tag == "equal" or not y else f"<mark>{y}</mark>")
    return "".join(left), "".join(right)


def _rows(kind: str, lines: Iterable[str]) -> str:
    """Lines that are HTML already."""
    css = f' class="{kind}"' if kind else ""
    return "".join(f"<pre{css}>{line or ' '}</pre>" for line in lines)


def _fold(lines: list[str], title: str) -> str:
    text = escape("\n".join(lines))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"


_STYLE = """
:root { color-scheme: light dark; --fg: #1f2328; --bg: #fff; --dim: #6e7781; --line: #d8dee4;
  --del: #ffebe9; --add: #dafbe1; --delm: #ffb8b0; --addm: #9be9a8; --link: #0757ba; }
@media (prefers-color-scheme: dark) { :root { --fg: #d8dee6; --bg: #14181d; --dim: #8b949e;
  --line: #30363d; --del: #3c1a1c; --add: #12321d; --delm: #7d2a2d; --addm: #1f6b35;
  --link: #6cb0ff; } }
* { box-sizing: border-box; }
body { margin: 0; display: grid; grid-template-columns: 17rem minmax(0, 1fr);
  font: 15px/1.5 system-ui, sans-serif; color: var(--fg); background: var(--bg); }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1rem;
  border-right: 1px solid var(--line); }
nav ol { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .3rem 0; color: inherit; text-decoration: none; }
nav a:hover b { text-decoration: underline; }
nav small { display: block; }
small, .facts, .none, summary { color: var(--dim); }
nav .same, .same h2 { color: var(--dim); }
nav .same b { font-weight: normal; }
main { padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.2rem; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 0; }
p { margin: .2rem 0 .6rem; }
a { color: var(--link); }
.diff { overflow-x: auto; border-top: 1px solid var(--line); display: grid;
  grid-template-columns: minmax(max-content, 1fr); }
pre { margin: 0; padding: 0 .5rem 0 1.5rem; position: relative;
  font: 13px/1.5 ui-monospace, monospace; }
.del { background: var(--del); } .add { background: var(--add); }
.del::before, .add::before { position: absolute; left: .5rem; }
.del::before { content: "-"; } .add::before { content: "+"; }
mark { color: inherit; background: var(--addm); } .del mark { background: var(--delm); }
summary { cursor: pointer; padding: .1rem .5rem; }
@media (max-width: 50rem) { body { display: block; }
  nav { position: static; height: auto; border-right: 0; border-bottom: 1px solid var(--line); } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Passes</title>
<style>{style}</style>
</head>
<body>
<nav><h1>Passes</h1><p>{total}</p><ol>
{links}</ol></nav>
<main>
{sections}</main>
</body>
</html>
"""
