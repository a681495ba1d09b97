"""The Ascend C simulator: build and run kernels on this machine, with checks.

from xcompile import sim
add = sim.load("add.asc", blocks=8)      # or the text of the source
result = add(x, y, sim.Out(z), z.size)   # numpy or torch; z is filled
result.cycles, result.errors
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xcompile.errors import SimulationError

if TYPE_CHECKING:
    from xcompile.sim.arguments import Out, TensorList
    from xcompile.sim.loader import Kernel, Result, SimError, build, load

_LAZY = {  # `xcompile simcc` needs no numpy
    "Out": "xcompile.sim.arguments",
    "TensorList": "xcompile.sim.arguments",
    "Kernel": "xcompile.sim.loader",
    "Result": "xcompile.sim.loader",
    "SimError": "xcompile.sim.loader",
    "build": "xcompile.sim.loader",
    "load": "xcompile.sim.loader",
}
__all__ = ["Kernel", "Out", "Result", "SimError", "SimulationError", "TensorList", "build", "load"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
