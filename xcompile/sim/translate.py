"""Ascend C to C++17: launches and kernel definitions, the only two things g++ cannot read.

    k<T><<<blocks, ub, stream>>>(args)      a call of ::ascsim::launcher, see ascsim/host.h
    __global__ ... void k(params) { body }  the body begins with the question whether it is to run
                                            or only to say what it is; the kernel is registered
                                            under its name

Only tokens are inserted: every line stays where it was, and errors point into the original.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xcompile.errors import XCompileError
from xcompile.sim import kinds
from xcompile.sim.library import INCLUDE
from xcompile.sim.source import Edit, Include, Source, apply

_LAUNCH = re.compile(r"<<<(?!<)")
_GLOBAL = re.compile(r"\b__global__\b")
_MIX = re.compile(r"\b__mix__\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_NOT_NAMES = {"__mix__", "__attribute__", "__launch_bounds__", "alignas", "__declspec", "decltype"}
_REGISTERED = re.compile(r"\bREGISTER_TILING_DATA_CLASS\s*\(\s*(\w+)\s*,\s*(\w+)\s*\)")
_LAUNCH_HEADER = re.compile(r"aclrtlaunch_(\w+)\.h")


@dataclass(frozen=True)
class Kernel:
    """A kernel definition as found in a file."""

    name: str  # with its namespaces
    start: int  # of the declaration
    params: tuple[int, int]  # positions of the parentheses
    body: tuple[int, int]  # positions of the braces
    kind: str  # KernelKind, "Auto" if the definition leaves it open
    template: bool
    plain: bool  # in a namespace, not in a class or a macro


def find_kernels(source: Source) -> list[Kernel]:
    """The kernels that a file defines; declarations do not count."""
    found: list[Kernel] = []
    code = source.code
    for m in _GLOBAL.finditer(code):
        head = max(code.rfind(c, 0, m.start()) for c in ";{}") + 1
        at = m.end()
        name: re.Match | None = None
        while True:  # to the parenthesis of the parameters
            word = re.compile(r"[\s*&]*(?:::)?\s*([A-Za-z_]\w*)\s*(\()?").match(code, at)
            if word is None:
                break
            at = word.end()
            if word.group(2):
                if word.group(1) in _NOT_NAMES:
                    close = source.close(word.end() - 1)
                    if close is None:
                        break
                    at = close + 1
                    continue
                name = word
                break
        if name is None:
            continue
        opened = name.end() - 1
        closed = source.close(opened)
        if closed is None:
            raise source.error(opened, f"no ) for the parameters of kernel {name.group(1)}")
        brace = re.compile(r"\s*(?:__attribute__\s*\(\(.*?\)\)\s*|noexcept\s*)*\{").match(
            code, closed + 1
        )
        if brace is None:
            continue
        end = source.close(brace.end() - 1)  # none: braces in both branches of an #if
        before = code[head:opened]
        scopes = list(_scopes(source, m.start()))
        names = [s for s in scopes if s]
        found.append(
            Kernel(
                "::".join([*names, name.group(1)]),
                head,
                (opened, closed),
                (brace.end() - 1, end if end is not None else len(code)),
                _kind_of(before),
                bool(re.search(r"\btemplate\s*<", before)),
                end is not None and None not in scopes and not in_directive(source, m.start()),
            )
        )
    return found


def in_directive(source: Source, at: int) -> bool:
    """Whether a position is in a preprocessor directive, which may go over several lines."""
    start = source.text.rfind("\n", 0, at) + 1
    while start > 1 and source.text[:start].rstrip("\n \t").endswith("\\"):
        start = source.text.rfind("\n", 0, start - 1) + 1
    return source.code[start:].lstrip(" \t").startswith("#")


def _kind_of(qualifiers: str) -> str:
    mix = _MIX.search(qualifiers)
    if mix:
        return kinds.MIX.get((int(mix.group(1)), int(mix.group(2))), "Mix12")
    if re.search(r"\b__vector__\b", qualifiers):
        return "AivOnly"
    return "AicOnly" if re.search(r"\b__cube__\b", qualifiers) else "Auto"


_SCOPE = re.compile(r"(?:\bnamespace\b\s*([\w:]*)\s*|\bextern\b\s*\"\s*\"\s*)$")


def _scopes(source: Source, at: int) -> Iterable[str | None]:
    """Enclosing scopes from outside: names of namespaces, "" without one, None for others."""
    stack: list[int] = []
    for m in re.compile(r"[{}]").finditer(source.code, 0, at):
        if m.group() == "{":
            stack.append(m.start())
        elif stack:
            stack.pop()
    for opened in stack:
        m2 = _SCOPE.search(source.code, max(0, opened - 200), opened)
        yield (m2.group(1) or "") if m2 else None


@dataclass
class Unit:
    """A source file with the quoted headers that it reaches, translated into a shadow tree."""

    main: Path
    text: str  # translated
    headers: dict[Path, str] = field(default_factory=dict)  # original path -> translated text
    generated: dict[str, str] = field(default_factory=dict)  # aclrtlaunch_NAME.h and the like
    folders: list[Path] = field(default_factory=list)  # where includes of moved files lie
    depends: list[Path] = field(default_factory=list)  # every user file that was read
    kernels: list[str] = field(default_factory=list)


class Translator:
    """Translates files; `include` are the folders given with -I, `forced` the -include files."""

    def __init__(self, include: Sequence[Path] = (), forced: Sequence[Path] = ()) -> None:
        own = INCLUDE.resolve()  # may be given too, as the include folder of the vendor's package
        self.include = [Path(p) for p in include if Path(p).resolve() != own]
        self.forced = [Path(p) for p in forced]
        self._sources: dict[Path, Source] = {}

    def unit(self, path: Path, shadow: Path, text: str | None = None) -> Unit:
        """Translate one source and what it includes; `shadow` is where headers will be written."""
        main = Source(text, path) if text is not None else self._read(path)
        closure = self._closure(main)
        for forced in self.forced:
            if forced.is_file():
                closure = {
                    **self._closure(self._read(forced)),
                    forced.resolve(): self._read(forced),
                    **closure,
                }
        files = [main, *closure.values()]
        known: dict[str, str] = {}
        for f in files:
            for name, body in kinds.definitions(f).items():
                known[name] = known.get(name, "") + "\n" + body
        tiling = {
            _snake(m.group(1)): _qualified(f, m)
            for f in files
            for m in _REGISTERED.finditer(f.code)
        }
        texts = [f.code for f in files]
        moved = self._moved(main, closure)
        unit = Unit(path, "")
        unit.depends = [f.path for f in files]
        where = {p: shadow / str(p).lstrip("/") for p in moved}
        for f in files:
            if f is not main and f.path.resolve() not in moved:
                continue
            edits = self._kernel_edits(f, known, tiling, texts, unit) + launch_edits(f)
            edits += self._include_edits(f, where, unit)
            result = f'#line 1 "{_escape(f.path)}"\n{apply(f.text, edits)}'
            unit.folders.append(f.path.resolve().parent)
            if f is main:
                unit.text = result
            else:
                unit.headers[f.path.resolve()] = result
        return unit

    # -- files ----------------------------------------------------------------------------------
    def _read(self, path: Path) -> Source:
        key = path.resolve()
        if key not in self._sources:
            self._sources[key] = Source.read(path)
        return self._sources[key]

    def _find(self, include: Include, within: Path) -> Path | None:
        folders = [within.parent, *self.include] if include.quoted else self.include
        for folder in folders:
            path = folder / include.name
            if path.is_file():
                return path
        return None

    def _closure(self, main: Source) -> dict[Path, Source]:
        found: dict[Path, Source] = {}
        queue = [main]
        while queue:
            f = queue.pop()
            for include in f.includes:
                path = self._find(include, f.path)
                if path is not None and path.resolve() not in found:
                    found[path.resolve()] = self._read(path)
                    queue.append(found[path.resolve()])
        return found

    def _moved(self, main: Source, closure: dict[Path, Source]) -> set[Path]:
        """Headers that change, and those through which a changed one is reached."""
        moved = {p for p, f in closure.items() if find_kernels(f) or _LAUNCH.search(f.code)}
        while True:
            more = {
                p
                for p, f in closure.items()
                if p not in moved
                and any(
                    (q := self._find(i, f.path)) is not None and q.resolve() in moved
                    for i in f.includes
                )
            }
            if not more:
                return moved
            moved |= more

    # -- edits ----------------------------------------------------------------------------------
    def _include_edits(self, f: Source, where: dict[Path, Path], unit: Unit) -> list[Edit]:
        edits = []
        for include in f.includes:
            path = self._find(include, f.path)
            if path is None:
                launch = _LAUNCH_HEADER.fullmatch(include.name)
                if launch:
                    unit.generated[include.name] = launch_header(launch.group(1))
                continue
            if not include.quoted and path.resolve() not in where:
                continue
            target = where.get(path.resolve(), path.resolve())
            edits.append(Edit(include.start, include.end, f'"{_escape(target)}"'))
        return edits

    def _kernel_edits(
        self,
        f: Source,
        known: dict[str, str],
        tiling: dict[str, str],
        texts: list[str],
        unit: Unit,
    ) -> list[Edit]:
        edits = []
        for k in find_kernels(f):
            unit.kernels.append(k.name)
            body = f.code[k.body[0] : k.body[1]]
            short = k.name.rpartition("::")[2]
            struct = ""
            if short in tiling and "REGISTER_TILING_DEFAULT" not in body:
                struct = f" using AscsimDefaultTiling [[maybe_unused]] = {tiling[short]};"
            edits.append(
                Edit(
                    k.body[0] + 1,
                    k.body[0] + 1,
                    f" if (::ascsim::describing(__func__, {kind_text(k, body, known, texts)}, "
                    f"__FILE__, __LINE__)) return;{struct}",
                )
            )
            params = " ".join(f.code[k.params[0] + 1 : k.params[1]].split())
            if k.template or not k.plain or "=" in params or "#" in params:
                continue
            variable = f"ascsimKernel{f.line(k.body[0])}_{short}"
            pointer = f"static_cast<void (*)({params})>(&{short})"
            edits.append(
                Edit(
                    k.body[1] + 1,
                    k.body[1] + 1,
                    f" [[maybe_unused]] static const bool {variable} = "
                    f'::ascsim::registerKernel("{k.name}", {pointer});',
                )
            )
        return edits


def kind_text(k: Kernel, body: str, known: dict[str, str], texts: list[str]) -> str:
    """The C++ expression of a kernel's kind; KERNEL_TASK_TYPE makes it depend on the tiling key."""
    default, keys = kinds.declared(body)
    if default is None and not keys and k.kind == "Auto":
        default, keys = kinds.declared(kinds.reachable(body, known))
    kind = k.kind if k.kind != "Auto" else default or kinds.derive(body, known, texts)
    if k.kind != "Auto" or not keys:
        return f"::ascsim::KernelKind::{kind}"
    pairs = ", ".join(f"{{{key}, ::ascsim::KernelKind::{v}}}" for key, v in keys.items())
    return f"::ascsim::kindByKey(::ascsim::KernelKind::{kind}, {{{pairs}}})"


def launch_edits(f: Source) -> list[Edit]:
    """Turn every `callee<<<config>>>(args)` into calls of ::ascsim::launcher."""
    edits = []
    for m in _LAUNCH.finditer(f.code):
        start = _callee(f, m.start())
        close = _config_end(f, m.end())
        paren = re.compile(r"\s*\(").match(f.code, close + 3)
        if paren is None:
            raise f.error(close, "a launch <<<...>>> needs its arguments in parentheses")
        if not f.code[m.end() : close].strip():
            raise f.error(m.start(), "a launch <<<>>> needs at least the number of blocks")
        end = f.close(paren.end() - 1)
        if end is None:
            raise f.error(paren.end() - 1, "no ) for the arguments of a launch")
        edits.append(Edit(start, start, "::ascsim::launcher([=](auto... ascsimArgs) { "))
        edits.append(Edit(m.start(), m.end(), "(ascsimArgs...); })("))
        edits.append(Edit(close, close + 3, ")"))
        edits += _zero_edits(f, paren.end(), end)
    return edits


def _callee(f: Source, at: int) -> int:
    """Where the expression before `<<<` begins: a name with template arguments and namespaces."""
    code = f.code
    i = _back(code, at)
    if i >= 0 and code[i] == ")":
        opened = f.open(i, "(")
        if opened is None:
            raise f.error(at, "no ( for the parenthesis before <<<")
        i = _back(code, opened)
        if i < 0 or not (code[i].isalnum() or code[i] in "_>"):
            return opened  # (*pointer)<<<...>>>
        i += 1  # a call that returns a kernel: table(key)<<<...>>>
        return _callee(f, i)
    while True:
        if i >= 0 and code[i] == "]":
            opened = f.open(i, "[")
            i = _back(code, opened) if opened is not None else -1
            continue
        if i >= 0 and code[i] == ">":
            i = _back(code, _angle_open(f, i))
        word = re.compile(r"[A-Za-z_]\w*$").search(code, max(0, i - 200), i + 1)
        if word is None:
            raise f.error(at, "no kernel name before <<<")
        start = word.start()
        before = _back(code, start)
        if code[before - 1 : before + 1] == "::":
            i = _back(code, before - 1)
            if i < 0 or not (code[i].isalnum() or code[i] in "_>"):
                return before - 1
            if re.search(r"\b(?:return|else|do|case)$", code[max(0, i - 10) : i + 1]):
                return before - 1
            continue
        if code[before] == "." or code[before - 1 : before + 1] == "->":
            i = _back(code, before if code[before] == "." else before - 1)
            continue
        template = re.compile(r"\btemplate\s*$").search(code, max(0, start - 40), start)
        return template.start() if template else start


def _back(code: str, at: int) -> int:
    """Position of the last character before `at` that is no white space."""
    at -= 1
    while at >= 0 and code[at].isspace():
        at -= 1
    return at


def _angle_open(f: Source, at: int) -> int:
    depth, i = 0, at
    while i >= 0:
        c = f.code[i]
        if c in ")]}":
            opened = f.open(i, {")": "(", "]": "[", "}": "{"}[c])
            if opened is None:
                break
            i = opened
        elif c == ">" and f.code[i - 1] != "-":
            depth += 1
        elif c == "<":
            depth -= 1
            if depth == 0:
                return i
        elif c in ";{":
            break
        i -= 1
    raise f.error(at, "cannot find the < of the template arguments before <<<")


def _config_end(f: Source, at: int) -> int:
    i, bare = at, None  # a >>> that no ( follows may belong to template arguments
    while i < len(f.code):
        c = f.code[i]
        if c in "([{":
            close = f.close(i)
            if close is None:
                break
            i = close
        elif c == ">" and f.code.startswith(">>>", i):
            if re.compile(r">>>\s*\(").match(f.code, i):
                return i
            bare = i
            i += 2
        elif c == ";":
            break
        i += 1
    if bare is not None:
        return bare
    raise f.error(at, "<<< without >>>")


def _zero_edits(f: Source, start: int, end: int) -> list[Edit]:
    """A literal 0 or NULL is a null pointer only as a literal: it would lose that on the way."""
    edits, depth, begin = [], 0, start
    for i in range(start, end + 1):
        c = f.code[i]
        if i == end or (c == "," and depth == 0):
            if f.code[begin:i].strip() in ("0", "NULL"):
                edits.append(Edit(begin, i, "::ascsim::Zero()"))
            begin = i + 1
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
    return edits


def launch_header(kernel: str) -> str:
    """aclrtlaunch_KERNEL.h: the function behind ACLRT_LAUNCH_KERNEL(KERNEL)."""
    return (
        '#pragma once\n#include "ascsim/host.h"\n'
        "template <class... Args>\n"
        f"inline uint32_t aclrtlaunch_{kernel}(uint32_t blocks, void* stream, Args... args) {{\n"
        f'  return ::ascsim::launchByName("{kernel}", blocks, stream, args...);\n}}\n'
    )


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _qualified(f: Source, m: re.Match) -> str:
    names = [s for s in _scopes(f, m.start()) if s]
    return "::".join(["", *names, m.group(2)])


def _escape(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


def write_unit(unit: Unit, shadow: Path) -> None:
    """Write the translated headers and the generated ones below `shadow`."""
    for path, text in unit.headers.items():
        _write(shadow / str(path).lstrip("/"), text)
    for name, text in unit.generated.items():
        _write(shadow / "generated" / name, text)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    except OSError as e:
        raise XCompileError(f"{path}: {e.strerror or e}") from None
