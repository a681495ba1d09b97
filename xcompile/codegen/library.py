"""The kernel library, instantiated for no more than the emitted kernels call.

A header declares function templates over the element type, one source file defines each. What a
kernel calls it calls as `name<type>(`; what a file of the library calls in another one is needed
for the same type, or for the one that it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

HEAD = r"template <class T>\n[^;{}()]*?\b"
DECLARED = re.compile(HEAD + r"(\w+)\([^;{}]*\);")
CALL = re.compile(r"(?<![.:\w])(\w+)(?:<(\w+)>)?\(")  # not x.name( or std::name(
TYPED_CALL = re.compile(r"(?<![.:\w])(\w+)<(\w+)>\(")


def sources(folder: Path, kernels: Iterable[str]) -> dict[str, str]:
    """File name -> text of the headers and of the files that the kernels need."""
    texts = {p.name: p.read_text() for p in sorted(folder.glob("*.?pp"))}
    headers = {name: text for name, text in texts.items() if name.endswith(".hpp")}
    units = {name: text for name, text in texts.items() if name not in headers}
    home = {
        function: unit
        for text in headers.values()
        for function in DECLARED.findall(text)
        for unit in units
        if re.search(HEAD + rf"{function}\(", units[unit])
    }
    calls = {
        unit: [c for c in dict.fromkeys(CALL.findall(text)) if home.get(c[0], unit) != unit]
        for unit, text in units.items()
    }
    todo = [call for text in kernels for call in TYPED_CALL.findall(text) if call[0] in home]
    needed: set[tuple[str, str]] = set()
    while todo:
        function, ctype = call = todo.pop()
        if call not in needed:
            needed.add(call)
            todo += [(f, ctype if t in ("", "T") else t) for f, t in calls[home[function]]]
    wanted: dict[str, list[str]] = {u: [] for u in units if u not in home.values()}
    for function, ctype in sorted(needed):
        name = f"{function}<{ctype}>"
        wanted.setdefault(home[function], []).append(f"template decltype({name}) {name};\n")
    return headers | {u: units[u] + _instances(lines) for u, lines in wanted.items()}


def _instances(lines: list[str]) -> str:
    return f"\nnamespace xc {{\n{''.join(lines)}}}  // namespace xc\n" if lines else ""
