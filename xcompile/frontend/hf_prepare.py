"""Switching a transformers model to implementations that can be captured, checked, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend import hf_loops, native
from xcompile.frontend.hf_attention import attention_calls, attention_forward, make_mask
from xcompile.frontend.hf_experts import (
    FALLBACK,
    IMPLEMENTATION,
    UNIT,
    experts_forward,
    is_experts,
    unit_of,
    why_not_expressible,
)
from xcompile.frontend.hf_limits import refuse_sparse
from xcompile.frontend.hf_verify import verify_attention, verify_experts, verify_loop

_RECORD = "_xllm_preparation"


def _require_transformers() -> None:
    """Imports ``transformers`` and registers our implementations, once.

    Raises:
        XCompileError: if ``transformers`` is missing or has no experts registry.
    """
    try:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError as error:
        raise XCompileError(
            f"Hugging Face models need transformers 5.23 (pip install 'xcompile[hf]'): {error}"
        ) from error
    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, experts_forward)
    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attention_forward)
    # Without an entry here no mask would be made at all and padding would be attended to.
    ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, make_mask)


@dataclass(frozen=True)
class Preparation:
    """What :func:`prepare` did to a model.

    Attributes:
        experts: paths of the experts modules that run ``xllm::moe_experts``.
        loops: paths of modules whose forward is a substitute of their loop over experts.
        unreplaced: path of an experts module that keeps its implementation, to the reason.
        attention: whether attention was switched.
        verified: what was compared to the original, e.g. ``model.layers.1.mlp.experts``.
        previous_attention: implementation names before, in the form ``set_attn_implementation``
            takes; None if not switched.
        previous_experts: the same for ``set_experts_implementation``.
    """

    experts: tuple[str, ...]
    unreplaced: Mapping[str, str]
    attention: bool
    verified: tuple[str, ...]
    previous_attention: dict[str, Any] | None
    previous_experts: dict[str, Any] | None
    loops: tuple[str, ...] = ()


def preparation(model: nn.Module) -> Any:
    """The record of :func:`prepare` for ``model``; None if it is not prepared.

    A :class:`Preparation`, or a :class:`~xcompile.frontend.native.NativePreparation`.
    """
    return getattr(model, _RECORD, None)


def prepare(
    model: Any, *, experts: bool = True, attention: bool = True, verify: bool = True
) -> Any:
    """Switches a model to implementations that can be captured; see :func:`restore`.

    Of a transformers model, experts and attention. Of other models, the modules that
    :mod:`xcompile.frontend.native` finds by what they do.

    The weights are neither copied nor changed.  Experts that ``xllm::moe_experts`` cannot express
    keep their implementation; :func:`preparation` names them and why.

    Args:
        model: a ``PreTrainedModel``, or another module with its weights loaded.
        experts: switch the experts.
        attention: switch the attention.
        verify: run one experts module per class and shape, and one attention layer per class and
            shape, against the family's eager code on random inputs in the model's dtype.

    Returns:
        ``model`` itself.

    Raises:
        XCompileError: without transformers on one of its models, on another model that has nothing
            to switch, or on a model that is already prepared.
        UnsupportedError: if the model does not dispatch its attention through the registry, or
            passes it an argument that is not handled.
        VerificationError: if a replaced part computes something else.  In every case of an error
            the model is left as it was.
    """
    if preparation(model) is not None:
        raise XCompileError(f"{type(model).__name__} is already prepared; restore() it first")
    foreign = not any(c.__module__.startswith("transformers.") for c in type(model).__mro__)
    if isinstance(model, nn.Module) and foreign:
        ours = native.prepare(model, experts=experts, attention=attention, verify=verify)
        setattr(model, _RECORD, ours)
        return model
    _require_transformers()
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise XCompileError(f"prepare() takes a transformers model, not {type(model).__name__}")
    found = {path: m for path, m in model.named_modules() if is_experts(m)} if experts else {}
    reasons = {path: why_not_expressible(module) for path, module in found.items()}
    replaced = tuple(path for path, reason in reasons.items() if reason is None)
    # Read before switching: the names are what restore() puts back.
    record = Preparation(
        experts=replaced,
        unreplaced={path: reason for path, reason in reasons.items() if reason is not None},
        attention=attention,
        verified=(),
        previous_attention=_implementations(model.config, "_attn") if attention else None,
        previous_experts=_implementations(model.config, "_experts") if replaced else None,
    )
    setattr(model, _RECORD, record)
    try:
        _switch(model, record, found)
        if experts:
            record = replace(record, loops=hf_loops.switch(model))
            setattr(model, _RECORD, record)
        verified = _verify(model, record) if verify else ()
    except BaseException:
        restore(model)
        raise
    setattr(model, _RECORD, replace(record, verified=verified))
    return model


def restore(model: Any) -> Any:
    """Undoes :func:`prepare`: every config names the implementations it named before.

    Returns:
        ``model`` itself; a model that is not prepared is left alone.
    """
    record = preparation(model)
    if record is None:
        return model
    delattr(model, _RECORD)
    if isinstance(record, native.NativePreparation):
        native.restore(model, record)
        return model
    hf_loops.undo(model, record.loops)
    for path in record.unreplaced:
        vars(model.get_submodule(path)).pop(FALLBACK, None)
    for path in record.experts:
        vars(model.get_submodule(path)).pop(UNIT, None)
    if record.previous_attention is not None:
        model.set_attn_implementation(record.previous_attention)
    if record.previous_experts is not None:
        model.set_experts_implementation(record.previous_experts)
    return model


@contextmanager
def prepared(model: Any, **options: bool) -> Iterator[Any]:
    """``with prepared(model):`` is :func:`prepare` with the same options, then :func:`restore`."""
    prepare(model, **options)
    try:
        yield model
    finally:
        restore(model)


def _implementations(config: Any, kind: str) -> dict[str, Any]:
    """Implementation names of a config and its sub-configs, as the setters take them."""
    names: dict[str, Any] = {"": getattr(config, f"{kind}_implementation")}
    for key in config.sub_configs:
        sub = getattr(config, key, None)
        if sub is not None:
            # Only the attention setter understands nested dicts.
            nested = _implementations(sub, kind)
            names[key] = nested if kind == "_attn" and len(nested) > 1 else nested[""]
    return names


def _switch(model: Any, record: Preparation, found: Mapping[str, nn.Module]) -> None:
    for path in record.unreplaced:
        module: Any = found[path]
        setattr(module, FALLBACK, module.config._experts_implementation or "eager")
    if record.attention:
        refuse_sparse(model)
        model.set_attn_implementation(IMPLEMENTATION)
        if model.config._attn_implementation != IMPLEMENTATION:
            raise UnsupportedError(
                f"{type(model).__name__} does not dispatch its attention through transformers' "
                "attention registry"
            )
    if record.experts:
        model.set_experts_implementation(IMPLEMENTATION)
        for path in record.experts:
            module = found[path]
            setattr(module, UNIT, unit_of(module))
            if module.config._experts_implementation != IMPLEMENTATION:
                raise UnsupportedError(f"{path}: its experts implementation could not be switched")


def _verify(model: Any, record: Preparation) -> tuple[str, ...]:
    """Checks one module per signature; returns the paths of those that were run."""
    verified: dict[Any, str] = {}
    with torch.no_grad():
        for path in record.experts:
            module = model.get_submodule(path)
            signature = (type(module), module.down_proj.shape, module.down_proj.dtype)
            if signature not in verified:
                verify_experts(path, module)
                verified[signature] = path
        for path, module, known in hf_loops.find(model) if record.loops else ():
            if (type(module), "loop") not in verified:
                verify_loop(path, module, known)
                verified[type(module), "loop"] = path
        if record.attention:
            paths = {module: path for path, module in model.named_modules()}
            for call in attention_calls(model):
                if call.signature not in verified:
                    verify_attention(paths[call.module], call, model.dtype)
                    verified[call.signature] = paths[call.module]
    return tuple(verified.values())
