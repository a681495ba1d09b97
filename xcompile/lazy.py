"""Constants that are computed when they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree


class Lazy(torch.Tensor):
    """A tensor that is computed each time an operation reads it, and not kept: a model's int8
    weights would otherwise lie in memory beside the ones they are made of and the packed ones."""

    make: Callable[[], torch.Tensor]

    @staticmethod
    def __new__(
        cls,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        make: Callable[[], torch.Tensor],
    ) -> Lazy:
        t = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        t.make = make
        return t

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = pytree.tree_map_only(Lazy, made, (args, kwargs or {}))
        return func(*args, **kwargs)


def made(t: torch.Tensor) -> torch.Tensor:
    """The tensor itself, computed if it is lazy."""
    return t.make() if isinstance(t, Lazy) else t
