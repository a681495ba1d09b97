"""Hugging Face models whose attention a step cannot express: found before anything runs."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import nn

from xcompile.errors import UnsupportedError

_STEP_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})


def refuse_sparse(model: nn.Module) -> None:
    """Refuses models whose layers see keys that an indexer chose (sparse attention, DSA).

    They fold the choice into the mask only for attention implementations they know by name, so with
    another one every key would be seen.

    Raises:
        UnsupportedError: naming model, layer and indexer.
    """
    for path, module in model.named_modules():
        indexer = getattr(module, "indexer", None)
        if isinstance(indexer, nn.Module):
            raise UnsupportedError(
                f"{type(model).__name__}: {path} ({type(module).__name__}) attends only to the "
                f"keys that its {type(indexer).__name__} chooses (sparse attention, DSA), which "
                '"xllm" attention does not express; keep this model unprepared'
            )


def refuse_recurrent(model: Any) -> None:
    """Refuses models with layers that keep a state per request instead of keys (linear attention).

    Raises:
        UnsupportedError: naming model, layer and its kind.
    """
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    for layer, kind in enumerate(kinds):
        if kind not in _STEP_LAYERS:
            raise UnsupportedError(
                f"{type(model).__name__}: layer {layer} is {kind!r}; a step serves layers that "
                "keep keys and values of the whole context, and no other state"
            )


def module_in(trace: TracebackType | None) -> nn.Module | None:
    """The innermost module whose code a traceback passed through."""
    found = None
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            found = owner
        trace = trace.tb_next
    return found
