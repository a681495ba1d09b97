"""Hand-written decoders, prepared for capture: substitutes for modules, checked against them.

`prepare` of :mod:`xcompile.frontend.huggingface` comes here with models that are not transformers'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from xcompile.errors import XCompileError
from xcompile.frontend import native_mla, native_moe
from xcompile.frontend.hf_verify import VerificationError, bar_of, expect_equal

log = logging.getLogger("xcompile")


@dataclass(frozen=True)
class NativePreparation:
    """What prepare() did to a model that is not transformers'.

    Attributes:
        experts: paths of mixtures that run ``xllm::moe_experts``.
        attention: paths of MLA modules that cache latents and attend to them.
        unreplaced: path of a module that looks like one of them, to why it was left alone.
        verified: paths of what was run against the original.
    """

    experts: tuple[str, ...]
    attention: tuple[str, ...]
    unreplaced: Mapping[str, str]
    verified: tuple[str, ...]


def prepare(
    model: nn.Module, *, experts: bool = True, attention: bool = True, verify: bool = True
) -> NativePreparation:
    """Gives mixtures of experts and MLA modules of a model their substitutes, see
    :mod:`native_moe` and :mod:`native_mla`.

    Raises:
        XCompileError: if there is nothing to substitute, naming what came near and why not. The
            model is then as it was.
    """
    mixtures: list[str] = []
    latent: list[str] = []
    reasons: dict[str, str] = {}
    todo = [(_mixture, mixtures, list(native_moe.candidates(model)))] if experts else []
    todo += [(_latent, latent, list(native_mla.candidates(model)))] if attention else []
    try:
        with torch.no_grad():
            for substitute, done, found in todo:
                for path, module in found:
                    why = substitute(path, module, verify)
                    if why is None:
                        done.append(path)
                    else:
                        reasons[path] = why
    except BaseException:
        _undo(model, mixtures, latent)
        raise
    for path, why in reasons.items():
        log.warning("%s stays as it is: %s", path, why)
    if not mixtures and not latent:
        near = "; ".join(f"{path or type(model).__name__}: {why}" for path, why in reasons.items())
        raise XCompileError(
            "prepare() takes a transformers model, or one whose modules it can substitute; "
            f"{type(model).__name__} has none ({near or 'no lists of experts, no MLA'})"
        )
    verified = (*mixtures, *latent) if verify else ()
    return NativePreparation(tuple(mixtures), tuple(latent), reasons, verified)


def restore(model: nn.Module, record: NativePreparation) -> None:
    """Undoes :func:`prepare`."""
    with torch.no_grad():
        _undo(model, record.experts, record.attention)


def _undo(model: nn.Module, mixtures: Iterable[str], latent: Iterable[str]) -> None:
    for path in mixtures:
        native_moe.undo(model.get_submodule(path))
    for path in latent:
        native_mla.undo(model.get_submodule(path))


def _mixture(path: str, module: nn.Module, verify: bool) -> str | None:
    """Substitutes a module; the reason if it was not done."""

    try:
        found = native_moe.describe(module)
    except Exception as error:  # of a part that is not what it looks like
        return _raised(error)
    if isinstance(found, str):
        return found

    def check(m: native_moe.Mixture = found) -> None:
        for name, x in native_moe.trials(module, m):
            want, got = type(module).forward(module, x), native_moe.forward(module, m, x)
            expect_equal(path, name, got, want, bar_of(want.dtype))

    native_moe.substitute(module, found)
    return _kept(check, lambda: native_moe.undo(module)) if verify else None


def _latent(path: str, module: nn.Module, verify: bool) -> str | None:
    """As `_mixture`, for MLA."""

    def check() -> None:
        before = {n: b.clone() for n, b in module.named_buffers(recurse=False)}
        try:
            for name, args in native_mla.trials(module):
                want, got = type(module).forward(module, *args), native_mla.forward(module, *args)
                expect_equal(path, name, got, want, 2 * bar_of(want.dtype))
        finally:
            for name, content in before.items():
                getattr(module, name).copy_(content)

    why = native_mla.why_not(module)
    if why is not None:
        return why
    native_mla.substitute(module)
    why = _kept(check, lambda: native_mla.undo(module)) if verify else None
    if why is None:
        native_mla.drop_caches(module)
    return why


def _kept(check: Callable[[], None], undo: Callable[[], None]) -> str | None:
    """Why a substitute was undone: it computes something else, or the original cannot be tried."""
    try:
        check()
    except VerificationError as error:
        undo()
        return f"its parts are known, but {error}"
    except Exception as error:
        undo()
        return _raised(error)
    except BaseException:
        undo()
        raise
    return None


def _raised(error: Exception) -> str:
    return f"a trial on random input raised {type(error).__name__}: {error}"


__all__ = ["NativePreparation", "prepare", "restore"]
