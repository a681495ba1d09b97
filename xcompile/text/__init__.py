"""The text form of a graph: `to_text` prints it, `parse` reads it back.

One statement a line, in this order inside a block: symbols, inputs, constants, nodes, the return,
state updates. The text of an artifact or a dump is untrusted, so `parse` evaluates nothing, bounds
nesting and expression size, and answers every malformed text with an XCompileError that names the
line. ``to_text(parse(to_text(g))) == to_text(g)`` holds for every graph that verifies.
"""

from __future__ import annotations

from xcompile.text.parser import MAX_DEPTH, parse
from xcompile.text.printer import to_text, value_names

__all__ = ["MAX_DEPTH", "parse", "to_text", "value_names"]
