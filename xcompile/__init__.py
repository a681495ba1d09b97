"""xcompile: a graph compiler for mixture-of-experts and MLA language models.

import xcompile
exe = xcompile.compile(model)            # a Hugging Face causal LM: its serving step
exe.generate([[1, 2, 3]], max_new_tokens=16)
exe.save("out"); xcompile.load("out")

torch.compile(model, backend="xllm")     # any module, through Dynamo
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xcompile.errors import (
    ArtifactError,
    BuildError,
    ShapeError,
    UnsupportedError,
    XCompileError,
)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xcompile.api import compile, load
    from xcompile.executable import Executable
    from xcompile.frontend.huggingface import prepare, prepared, restore

_LAZY = {
    "compile": "xcompile.api",
    "load": "xcompile.api",
    "Executable": "xcompile.executable",
    "prepare": "xcompile.frontend.huggingface",
    "prepared": "xcompile.frontend.huggingface",
    "restore": "xcompile.frontend.huggingface",
}


def __getattr__(name: str) -> Any:
    """Heavy parts are imported when first used: `import xcompile` stays quick."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'xcompile' has no attribute {name!r}")


__all__ = [
    "ArtifactError",
    "BuildError",
    "Executable",
    "ShapeError",
    "UnsupportedError",
    "XCompileError",
    "compile",
    "load",
    "prepare",
    "prepared",
    "restore",
]
