"""Every op the compiler knows. A file in this folder that holds an `Op` (or, for the pointwise
table, a list of them) is found by itself; there is no list to keep."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from xcompile.ir import Op


@cache
def registry() -> dict[str, Op]:
    """Op name -> Op, over all modules of this package."""
    ops: dict[str, Op] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            for op in value if isinstance(value, list) else [value]:
                if isinstance(op, Op):
                    ops[op.name] = op
    return ops


@cache
def aten_map() -> dict[str, Op]:
    """ATen overload name ("add.Tensor") -> op, for the one-to-one cases."""
    return {name: op for op in registry().values() for name in op.aten}
