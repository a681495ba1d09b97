"""Hand-written decoders, prepared for capture: substitutes for modules, checked against them.

`prepare` of :mod:`xcompile.frontend.huggingface` comes here with models that are not transformers'.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from xcompile.errors import XCompileError
from xcompile.frontend import native_moe
from xcompile.frontend.hf_verify import VerificationError, bar_of, expect_equal

log = logging.getLogger("xcompile")


@dataclass(frozen=True)
class NativePreparation:
    """What prepare() did to a model that is not transformers'.

    Attributes:
        experts: paths of mixtures that run ``xllm::moe_experts``.
        unreplaced: path of a module that looks like one, to the reason why it was left alone.
        verified: paths of what was run against the original.
    """

    experts: tuple[str, ...]
    unreplaced: Mapping[str, str]
    verified: tuple[str, ...]


def prepare(model: nn.Module, *, experts: bool = True, verify: bool = True) -> NativePreparation:
    """Gives the mixtures of experts of a model their substitutes, see :mod:`native_moe`.

    Raises:
        XCompileError: if there is nothing to substitute, naming what came near and why not. The
            model is then as it was.
    """
    done: list[str] = []
    reasons: dict[str, str] = {}
    try:
        for path, module in list(native_moe.candidates(model)) if experts else ():
            why = _mixture(path, module, verify)
            if why is None:
                done.append(path)
            else:
                reasons[path] = why
    except BaseException:
        _undo(model, done)
        raise
    for path, why in reasons.items():
        log.warning("%s stays as it is: %s", path, why)
    if not done:
        near = "; ".join(f"{path or type(model).__name__}: {why}" for path, why in reasons.items())
        raise XCompileError(
            "prepare() takes a transformers model, or one whose modules it can substitute; "
            f"{type(model).__name__} has none ({near or 'no lists of experts'})"
        )
    return NativePreparation(tuple(done), reasons, tuple(done) if verify else ())


def restore(model: nn.Module, record: NativePreparation) -> None:
    """Undoes :func:`prepare`."""
    _undo(model, record.experts)


def _undo(model: nn.Module, paths: Any) -> None:
    for path in paths:
        native_moe.undo(model.get_submodule(path))


def _mixture(path: str, module: nn.Module, verify: bool) -> str | None:
    """Substitutes a module; the reason if it was not done."""
    with torch.no_grad():
        found = native_moe.describe(module)
        if isinstance(found, str):
            return found
        native_moe.substitute(module, found)
        try:
            for name, x in native_moe.trials(module, found) if verify else ():
                want = type(module).forward(module, x)
                got = native_moe.forward(module, found, x)
                expect_equal(path, name, got, want, bar_of(want.dtype))
        except VerificationError as error:
            native_moe.undo(module)
            return f"its parts are a router and experts, but {error}"
        except BaseException:
            native_moe.undo(module)
            raise
    return None


__all__ = ["NativePreparation", "prepare", "restore"]
