"""The words and names that the text form's printer and parser agree on."""

from __future__ import annotations

import keyword
import re
from typing import Any

from xcompile.ir import DTYPES

WORDS: dict[str, Any] = {
    "true": True,
    "false": False,
    "none": None,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
    **DTYPES,
}
_NOT_SYMBOLS = {*WORDS, "Max", "Min"}


def sanitise(name: str) -> str:
    """A value's name without what a text cannot hold."""
    name = re.sub(r"[^A-Za-z0-9_.]", "_", name)
    return f"_{name}" if name.isdecimal() else name  # bare digits mean "unnamed"


def is_symbol(name: str) -> bool:
    """True for a name that a symbol of a text may have."""
    legal = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    return legal and name not in _NOT_SYMBOLS
