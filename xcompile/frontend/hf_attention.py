"""Hugging Face attention: masks, our attention function, paged caches, and a probe of the calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import _disable_current_modes

from xcompile.errors import UnsupportedError
from xcompile.frontend import hf_mla, torch_ops
from xcompile.frontend.hf_experts import is_experts, runs_our_op
from xcompile.frontend.hf_limits import refuse_recurrent

PAGED, WINDOW = "xllm_paged", "xllm_window"

_HARMLESS_KWARGS = frozenset(
    {
        # Already applied to q and k, or bookkeeping of the caller.
        "position_ids",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
        "num_items_in_batch",
        # Describe packing that the mask (or our own inputs) describe too; sdpa ignores them.
        "cu_seq_lens_q",
        "cu_seq_lens_k",
        "max_length_q",
        "max_length_k",
        # Handled by name below.
        "is_causal",
        "sliding_window",
        "s_aux",
    }
)


def _step_marker(input_ids: Tensor, max_context: int) -> Tensor:
    """The 2-d attention mask ``[0, max_context]`` that tells :func:`make_mask` it is in a step."""
    return input_ids.new_empty((0, max_context), dtype=torch.bool)


def make_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask function ``"xllm"``: none inside of a step, else exactly ``"sdpa"``.

    Inside of a step it returns a mask without elements: ``[1, 1, 0, 0]`` if what the model asks for
    is the causal mask that ``xllm::paged_attention`` implies, up to the longest context of the
    step, ``[1, 1, 1 + W, 0]`` if it is that with a window of W tokens, and ``[1, 1, 1, 0]`` if it
    is something else, as chunks.  The layer that gets the latter refuses it; models also build
    masks that no layer uses.
    """
    marker: Tensor | None = kwargs.get("attention_mask")
    if marker is None or marker.dim() != 2 or marker.shape[0] != 0:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

        return ALL_MASK_ATTENTION_FUNCTIONS["sdpa"](*args, **kwargs)
    window = _window_within(kwargs["mask_function"], marker.shape[1])
    kind = 1 if window is None else 0 if window >= marker.shape[1] else 1 + window
    return marker.new_empty((1, 1, kind, 0))


def _window_within(mask_function: Callable[..., Any], context: int) -> int | None:
    """How many keys up to its own position a query sees; None if it is not that."""
    from transformers.masking_utils import causal_mask_function

    if mask_function is causal_mask_function:
        return context

    def seen(position: int) -> Tensor:
        row = mask_function(zero, zero, torch.tensor(position), keys)
        return torch.as_tensor(row).expand(context)

    # Real tensors, also while a graph is being captured.
    with _disable_current_modes():
        zero, keys = torch.tensor(0), torch.arange(context)
        try:
            window = int(seen(context - 1).sum())
            for position in {0, window, context // 2, (context + window) // 2, context - 1}:
                if position < context:
                    want = (keys <= position) & (keys > position - window)
                    if not torch.equal(seen(position), want):
                        return None
        except (TypeError, ValueError, IndexError, RuntimeError):
            # It needs more than positions, so it is neither.
            return None
    return window if window > 0 else None


# -- attention ------------------------------------------------------------------------------------


class _Attends(Protocol):
    """What may be passed through a model to its attention layers as ``xllm_paged``."""

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        kwargs: Mapping[str, Any],
    ) -> Tensor: ...


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention implementation ``"xllm"``: paged inside of a step, else exactly ``"sdpa"``.

    Args:
        module: the attention layer.
        query: ``[B, H, S, D]``.
        key: ``[B, Hk, K, D]``.
        value: ``[B, Hk, K, Dv]``.
        attention_mask: additive or boolean mask, or None.
        dropout: must be 0 inside of a step.
        scaling: factor on the scores, by default ``D ** -0.5``.
        kwargs: what the model passes on.

    Returns:
        ``([B, S, H, Dv], None)``; no attention weights.

    Raises:
        UnsupportedError: on an argument that may change the result and that is not handled.
    """
    paged: _Attends | None = kwargs.pop(PAGED, None)
    _check_kwargs(module, kwargs)
    if paged is None:
        _check_window_is_in_mask(module, attention_mask, key, kwargs.get("sliding_window"))
        if kwargs.get("s_aux") is not None:
            return _with_sinks(module, query, key, value, attention_mask, scaling, kwargs), None
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        return ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if dropout:
        raise UnsupportedError(f"{layer_name(module)}: a step has no dropout; call model.eval()")
    kind = 0 if attention_mask is None else attention_mask.shape[2]
    if kind == 1:
        raise UnsupportedError(
            f"{layer_name(module)}: its mask is not causal over the whole context or a window of "
            "it (chunks?); a step knows only these, a smaller max_context may fit"
        )
    window = kind - 1 if kind else None
    return paged.attend(module, query, key, value, scaling, {**kwargs, WINDOW: window})[None], None


def _with_sinks(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Dense attention with sinks: ``[B, S, H, Dv]``; without a mask causal as sdpa is."""
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    result = torch_ops.sink_attention(
        query,
        key,
        value,
        mask,
        kwargs["s_aux"].float(),
        bool(causal) and mask is None and query.shape[2] > 1,
        query.shape[-1] ** -0.5 if scaling is None else scaling,
    )
    return result.transpose(1, 2).contiguous()


def layer_name(module: nn.Module) -> str:
    return f"{type(module).__name__} (layer {getattr(module, 'layer_idx', '?')})"


def _check_kwargs(module: nn.Module, kwargs: Mapping[str, Any]) -> None:
    for name, value in kwargs.items():
        if value is not None and name not in _HARMLESS_KWARGS:
            raise UnsupportedError(
                f"{layer_name(module)} passes {name}= to its attention function, which may change "
                'the result and is not handled by "xllm"; keep this model unprepared'
            )


def _check_window_is_in_mask(
    module: nn.Module, mask: Tensor | None, key: Tensor, window: int | None
) -> None:
    """A window acts through the mask; sdpa would ignore one that comes without."""
    if window and mask is None and key.shape[2] > window:
        raise UnsupportedError(
            f"{layer_name(module)}: sliding window {window} for {key.shape[2]} keys without a mask"
        )


@dataclass(frozen=True)
class PagedInputs:
    """The part of a step's inputs that attention layers read; see :class:`StepModel`.

    Attributes:
        slots: ``[T]`` int64, cache row of each new token, without duplicates.
        cu_seqlens: ``[R + 1]`` int64.
        context_lens: ``[R]`` int64.
        block_tables: ``[R, M]`` int64.
        k_caches: per cache ``[slots, Hk, D]``, written in place.
        v_caches: per cache ``[slots, Hk, Dv]``, written in place.
        cache_of_layer: ``layer_idx`` of an attention module to its place among the caches.
        page: rows per page.
        max_context: longest context.
    """

    slots: Tensor
    cu_seqlens: Tensor
    context_lens: Tensor
    block_tables: Tensor
    k_caches: list[Tensor]
    v_caches: list[Tensor]
    cache_of_layer: Mapping[int, int]
    page: int
    max_context: int

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        kwargs: Mapping[str, Any],
    ) -> Tensor:
        """Writes the new rows, then attends: q ``[1,H,T,D]`` -> ``[T,H,Dv]``."""
        window, told = kwargs.get(WINDOW), kwargs.get("sliding_window")
        if told and told < self.max_context and told != window:
            raise UnsupportedError(
                f"{layer_name(module)}: sliding window {told} for a mask of "
                f"{window or 'all keys'}, context {self.max_context}"
            )
        sinks = kwargs.get("s_aux")
        causal = kwargs.get("is_causal")
        if not (getattr(module, "is_causal", True) if causal is None else causal):
            raise UnsupportedError(f"{layer_name(module)} is not causal")
        cache = self.cache_of_layer[module.layer_idx]  # type: ignore[index]
        k_cache, v_cache = self.k_caches[cache], self.v_caches[cache]
        # In place, as seen from outside; export turns it into a functional index_copy whose result
        # is listed as the new value of the input.
        k_cache.index_copy_(0, self.slots, key[0].transpose(0, 1).to(k_cache.dtype))
        rows, absorbed = query[0].transpose(0, 1), value.shape[-1] == 0
        if absorbed:  # latents: see hf_mla
            rows = hf_mla.absorb_query(module, query)
            v_cache = k_cache[..., : module.kv_lora_rank]
        else:
            v_cache.index_copy_(0, self.slots, value[0].transpose(0, 1).to(v_cache.dtype))
        result = torch_ops.paged_attention(
            rows,
            k_cache,
            v_cache,
            self.cu_seqlens,
            self.context_lens,
            self.block_tables,
            query.shape[-1] ** -0.5 if scaling is None else scaling,
            self.page,
            None if sinks is None else sinks.float(),
            window,
        )
        return hf_mla.expand_result(module, result) if absorbed else result


@dataclass(frozen=True)
class AttentionCall:
    """One attention call of a model, as a probe saw it; sizes are per token."""

    module: nn.Module
    heads: int
    kv_heads: int
    key_size: int
    value_size: int
    scaling: float | None
    kwargs: dict[str, Any]

    @property
    def signature(self) -> tuple[Any, ...]:
        shapes = (self.heads, self.kv_heads, self.key_size, self.value_size)
        return (type(self.module), *shapes, self.scaling, tuple(sorted(self.kwargs)))


@dataclass
class _Probe:
    """Stands in for the caches, records what each attention layer asks for, answers zeros."""

    calls: list[AttentionCall] = field(default_factory=list)

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        kwargs: Mapping[str, Any],
    ) -> Tensor:
        plain = {
            k: v
            for k, v in kwargs.items()
            if v is not None and (k == "s_aux" or not torch.is_tensor(v))
        }
        self.calls.append(
            AttentionCall(
                module,
                query.shape[1],
                key.shape[1],
                key.shape[3],
                value.shape[3],
                scaling,
                plain,
            )
        )
        size = value.shape[3] or int(module.v_head_dim)  # type: ignore[arg-type]  # latents
        return query.new_zeros((query.shape[2], query.shape[1], size))


def run_packed(
    model: nn.Module,
    input_ids: Tensor,
    position_ids: Tensor,
    last_rows: Tensor,
    paged: _Attends,
    max_context: int,
) -> Tensor:
    """Logits ``[R, V]`` of packed tokens ``[T]``, attention left to ``paged``."""
    output = model(
        input_ids=input_ids[None],
        attention_mask=_step_marker(input_ids, max_context),
        position_ids=position_ids[None],
        use_cache=False,
        logits_to_keep=last_rows,
        **{PAGED: paged},
    )
    return output.logits[0]


def attention_calls(model: nn.Module) -> list[AttentionCall]:
    """The attention calls of a prepared model in layer order, from a run without arithmetic.

    Raises:
        UnsupportedError: if attention is not reached through the registry, once per layer, or if
            a layer is no attention over keys.
    """
    refuse_recurrent(model)

    def run(mode: Any) -> list[AttentionCall]:
        probe = _Probe()
        with torch.no_grad(), mode:
            ids = torch.zeros(3, dtype=torch.int64, device=device_of(model))
            run_packed(model, ids, torch.arange(3, device=ids.device), ids[:2], probe, 3)
        return probe.calls

    # Experts that stayed with transformers depend on data or, as grouped_mm in float32, refuse fake
    # tensors; then, and when some other part decides by values, three real tokens are run.
    calls: list[AttentionCall] | None = None
    if all(runs_our_op(module) for module in model.modules() if is_experts(module)):
        with suppress(DataDependentOutputException, DynamicOutputShapeException):
            calls = run(FakeTensorMode(allow_non_fake_inputs=True))
    if calls is None:
        calls = run(nullcontext())
    layers = [getattr(call.module, "layer_idx", None) for call in calls]
    if not calls or None in layers or len(set(layers)) != len(layers):
        raise UnsupportedError(
            f"{type(model).__name__}: attention is not called once per layer through the attention "
            f"registry of transformers (layers seen: {layers})"
        )
    return calls


def logits_without_attention(model: nn.Module, ids: list[int]) -> Tensor:
    """Logits ``[n, V]`` of n tokens of one request, were all attention to give zeros."""
    with torch.no_grad():
        row = torch.tensor(ids, device=device_of(model))
        position = torch.arange(len(ids), device=row.device)
        return run_packed(model, row, position, position, _Probe(), len(ids))


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
