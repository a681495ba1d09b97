"""Hugging Face causal language models: prepared for capture, and wrapped into a serving step.

Two things keep ``transformers`` models from being captured as they are: the experts loop over the
experts that were hit, which depends on data, and attention reads a cache object.  Both are
dispatched through registries of ``transformers`` itself, so :func:`prepare` only switches the
implementation names of a model to ``"xllm"``, checks the result against the model's own eager code,
and :func:`restore` switches back.  No class or function of ``transformers`` is replaced.

:class:`StepModel` then runs an otherwise unmodified model on packed tokens of many requests over
paged caches; :func:`export_step` captures it, prefill and decode in one graph.

Written for transformers 5.23 (``integrations/moe.py``, ``integrations/sdpa_attention.py``,
``masking_utils.py``).  Importing this module does not import ``transformers``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import _disable_current_modes

from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend import torch_ops
from xcompile.runtime.generate import ModelSpec
from xcompile.runtime.generate import allocate as allocate_caches

__all__ = [
    "DEFAULT_PAGE",
    "IMPLEMENTATION",
    "PagedInputs",
    "Preparation",
    "StepModel",
    "VerificationError",
    "export_step",
    "kv_shapes",
    "preparation",
    "prepare",
    "prepared",
    "restore",
    "step_example",
]

IMPLEMENTATION = "xllm"
"""Name of our implementations in the registries of ``transformers``."""

DEFAULT_PAGE = 64
"""Rows per cache page.

64 rows of one head are a few kilobytes: long enough for a kernel to stream a page at full width and
to make the block table negligible, short enough that a request wastes 32 rows on average.  It is a
multiple of 16, the granularity of matrix units that read pages directly.
"""

_PAGED = "xllm_paged"

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
    }
)


class VerificationError(UnsupportedError):
    """A replaced module computes something else than the original."""


# -- registries -----------------------------------------------------------------------------------


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


# -- experts --------------------------------------------------------------------------------------

# Attribute of experts that stay with the implementation they had, although their config names ours.
# Attributes rather than tables on the side: a copy of a prepared model is prepared as well, and
# Dynamo can trace them.
_FALLBACK = "_xllm_fallback"
_RECORD = "_xllm_preparation"


def experts_forward(
    module: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """The experts implementation ``"xllm"``: ``xllm::moe_experts`` on the module's weights.

    Args:
        module: an experts module of transformers.
        hidden_states: ``[N, H]``.
        top_k_index: ``[N, k]`` int64.
        top_k_weights: ``[N, k]``, dtype of ``hidden_states`` or float32.

    Returns:
        ``[N, H]``.
    """
    owner: Any = module
    fallback = getattr(owner, _FALLBACK, None)
    if fallback is not None:
        return _experts_function(module, fallback)(
            module, hidden_states, top_k_index, top_k_weights
        )
    return torch_ops.moe_experts(
        hidden_states,
        top_k_index,
        top_k_weights,
        owner.gate_up_proj,
        owner.down_proj,
        _activation_name(owner.act_fn),
    )


def _experts_function(module: nn.Module, implementation: str | None) -> Callable[..., Tensor]:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    if implementation in (None, "eager"):
        # The decorator that dispatches wraps the class's own forward and keeps it here.
        return type(module).forward.__wrapped__  # type: ignore[attr-defined]
    return ALL_EXPERTS_FUNCTIONS[implementation]


def _is_experts(module: nn.Module) -> bool:
    flags = ("has_gate", "has_bias", "is_transposed", "is_concatenated", "has_post_expert_norm")
    return all(hasattr(module, flag) for flag in flags) and hasattr(
        type(module).forward, "__wrapped__"
    )


def _runs_our_op(module: Any) -> bool:
    switched = module.config._experts_implementation == IMPLEMENTATION
    return switched and not hasattr(module, _FALLBACK)


def _activation_name(function: Any) -> str | None:
    """The name that ``xllm::moe_experts`` has for an activation module, None if it has none."""
    from transformers import activations

    if isinstance(function, activations.GELUActivation):
        return "gelu"
    names: dict[Any, str] = {
        nn.SiLU: "silu",
        activations.SiLUActivation: "silu",
        activations.GELUTanh: "gelu_tanh",
        nn.ReLU: "relu",
        activations.ReLUSquaredActivation: "relu2",
    }
    return names.get(type(function))


def _why_not_expressible(module: Any) -> str | None:
    """Why ``xllm::moe_experts`` cannot stand for an experts module; None if it can."""
    from transformers.integrations.moe import _default_apply_gate

    for flag, wanted in (
        ("has_gate", True),
        ("has_bias", False),
        ("is_transposed", False),
        ("is_concatenated", True),
        ("has_post_expert_norm", False),
        ("_is_expert_parallel", False),
    ):
        value = getattr(module, flag, wanted)
        if bool(value) is not wanted:
            return f"{flag} is {value}"
    if type(module)._apply_gate is not _default_apply_gate:
        return f"{type(module).__name__} has a gate function of its own"
    if _activation_name(module.act_fn) is None:
        return f"activation {type(module.act_fn).__name__} is not known"
    gate_up, down = module.gate_up_proj, module.down_proj
    if gate_up.dim() != 3 or down.dim() != 3 or gate_up.shape[1] != 2 * down.shape[2]:
        return f"weights are {tuple(gate_up.shape)} and {tuple(down.shape)}"
    if not gate_up.dtype.is_floating_point or gate_up.dtype.itemsize < 2:
        return f"weights are {gate_up.dtype}"
    return None


# -- masks ----------------------------------------------------------------------------------------


def _step_marker(input_ids: Tensor, max_context: int) -> Tensor:
    """The 2-d attention mask ``[0, max_context]`` that tells :func:`make_mask` it is in a step."""
    return input_ids.new_empty((0, max_context), dtype=torch.bool)


def make_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask function ``"xllm"``: none inside of a step, else exactly ``"sdpa"``.

    Inside of a step it returns a mask without elements: ``[1, 1, 0, 0]`` if what the model asks for
    is the causal mask that ``xllm::paged_attention`` implies, up to the longest context of the
    step, and ``[1, 1, 1, 0]`` if it is a window, chunks or something else.  The layer that gets the
    latter refuses it; models also build masks that no layer uses.
    """
    marker: Tensor | None = kwargs.get("attention_mask")
    if marker is None or marker.dim() != 2 or marker.shape[0] != 0:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

        return ALL_MASK_ATTENTION_FUNCTIONS["sdpa"](*args, **kwargs)
    causal = _is_causal_within(kwargs["mask_function"], marker.shape[1])
    return marker.new_empty((1, 1, 0 if causal else 1, 0))


def _is_causal_within(mask_function: Callable[..., Any], context: int) -> bool:
    """Whether a mask function lets a query see exactly the keys up to its own position."""
    from transformers.masking_utils import causal_mask_function

    if mask_function is causal_mask_function:
        return True
    # Real tensors, also while a graph is being captured.
    with _disable_current_modes():
        zero, keys = torch.tensor(0), torch.arange(context)
        for position in (0, context // 2, context - 1):
            try:
                seen = torch.as_tensor(mask_function(zero, zero, torch.tensor(position), keys))
                same = torch.equal(seen, keys <= position)
            except (TypeError, ValueError, IndexError, RuntimeError):
                # It needs more than positions, so it cannot be the causal mask.
                return False
            if not same:
                return False
    return True


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
    paged: _Attends | None = kwargs.pop(_PAGED, None)
    _check_kwargs(module, kwargs)
    if paged is None:
        _check_window_is_in_mask(module, attention_mask, key, kwargs.get("sliding_window"))
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        return ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if dropout:
        raise UnsupportedError(f"{_layer(module)}: a step cannot apply dropout; call model.eval()")
    if attention_mask is not None and tuple(attention_mask.shape) != (1, 1, 0, 0):
        raise UnsupportedError(
            f"{_layer(module)}: its mask is not causal over the whole context (a sliding window or "
            "chunks?); a step knows only causal attention, a smaller max_context may fit"
        )
    return paged.attend(module, query, key, value, scaling, kwargs)[None], None


def _layer(module: nn.Module) -> str:
    return f"{type(module).__name__} (layer {getattr(module, 'layer_idx', '?')})"


def _check_kwargs(module: nn.Module, kwargs: Mapping[str, Any]) -> None:
    for name, value in kwargs.items():
        if value is not None and name not in _HARMLESS_KWARGS:
            raise UnsupportedError(
                f"{_layer(module)} passes {name}= to its attention function, which may change the "
                'result and is not handled by "xllm"; keep this model unprepared'
            )


def _check_window_is_in_mask(
    module: nn.Module, mask: Tensor | None, key: Tensor, window: int | None
) -> None:
    """A window acts through the mask; sdpa would ignore one that comes without."""
    if window and mask is None and key.shape[2] > window:
        raise UnsupportedError(
            f"{_layer(module)}: sliding window {window} for {key.shape[2]} keys without a mask"
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
        max_context: longest context; a shorter sliding window is refused.
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
        window = kwargs.get("sliding_window")
        if window and window < self.max_context:
            raise UnsupportedError(
                f"{_layer(module)}: sliding window {window} is shorter than the context of "
                f"{self.max_context}"
            )
        causal = kwargs.get("is_causal")
        if not (getattr(module, "is_causal", True) if causal is None else causal):
            raise UnsupportedError(f"{_layer(module)} is not causal")
        cache = self.cache_of_layer[module.layer_idx]  # type: ignore[index]
        k_cache, v_cache = self.k_caches[cache], self.v_caches[cache]
        # In place, as seen from outside; export turns it into a functional index_copy whose result
        # is listed as the new value of the input.
        k_cache.index_copy_(0, self.slots, key[0].transpose(0, 1).to(k_cache.dtype))
        v_cache.index_copy_(0, self.slots, value[0].transpose(0, 1).to(v_cache.dtype))
        return torch_ops.paged_attention(
            query[0].transpose(0, 1),
            k_cache,
            v_cache,
            self.cu_seqlens,
            self.context_lens,
            self.block_tables,
            query.shape[-1] ** -0.5 if scaling is None else scaling,
            self.page,
        )


@dataclass(frozen=True)
class _AttentionCall:
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

    calls: list[_AttentionCall] = field(default_factory=list)

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        kwargs: Mapping[str, Any],
    ) -> Tensor:
        plain = {k: v for k, v in kwargs.items() if v is not None and not torch.is_tensor(v)}
        self.calls.append(
            _AttentionCall(
                module,
                query.shape[1],
                key.shape[1],
                key.shape[3],
                value.shape[3],
                scaling,
                plain,
            )
        )
        return query.new_zeros((query.shape[2], query.shape[1], value.shape[3]))


def _run_packed(
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
        **{_PAGED: paged},
    )
    return output.logits[0]


def _attention_calls(model: nn.Module) -> list[_AttentionCall]:
    """The attention calls of a prepared model in layer order, from a run without arithmetic.

    Raises:
        UnsupportedError: if attention is not reached through the registry, once per layer.
    """

    def run(mode: Any) -> list[_AttentionCall]:
        probe = _Probe()
        with torch.no_grad(), mode:
            ids = torch.zeros(3, dtype=torch.int64, device=_device(model))
            _run_packed(model, ids, torch.arange(3, device=ids.device), ids[:2], probe, 3)
        return probe.calls

    # Experts that stayed with transformers depend on data or, as grouped_mm in float32, refuse fake
    # tensors; then, and when some other part decides by values, three real tokens are run.
    calls: list[_AttentionCall] | None = None
    if all(_runs_our_op(module) for module in model.modules() if _is_experts(module)):
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


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


# -- verification ---------------------------------------------------------------------------------


def _bar(dtype: torch.dtype) -> float:
    """Largest relative L2 error between two correct implementations that round differently."""
    return max(1e-5, 2 * torch.finfo(dtype).eps)


def _relative_error(got: Tensor, want: Tensor) -> float:
    got, want = got.double(), want.double()
    error = float((got - want).norm() / want.norm().clamp_min(1e-30))
    return error if torch.isfinite(got).all() else float("inf")


def _expect_equal(path: str, what: str, got: Tensor, want: Tensor, bar: float) -> None:
    if got.shape != want.shape or got.dtype != want.dtype:
        raise VerificationError(
            f"{path}: {what}: {got.dtype} {tuple(got.shape)} instead of "
            f"{want.dtype} {tuple(want.shape)}"
        )
    error = _relative_error(got, want)
    if not error <= bar:
        raise VerificationError(
            f"{path}: {what} differs from the original: relative L2 error {error:.2e}, "
            f"bar {bar:.0e} for {want.dtype}"
        )


def _routings(experts: int, k: int, tokens: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Forced choices ``[tokens, k]``, no expert twice in a row: even, skewed, the last experts."""
    scores = torch.rand(tokens, experts, generator=generator)
    skew = torch.linspace(2.0, 0.0, experts)
    last = torch.arange(experts - k, experts).expand(tokens, k)
    return {
        "even routing": scores.topk(k).indices,
        "skewed routing": (0.5 * scores + skew).topk(k).indices,
        "constant routing": last.flip(1).contiguous(),
    }


def _verify_experts(path: str, module: Any) -> None:
    """Runs our implementation and the class's own forward on the same random tokens.

    Raises:
        VerificationError: naming path, error and bar.
    """
    gate_up = module.gate_up_proj
    experts, hidden, dtype = gate_up.shape[0], gate_up.shape[2], gate_up.dtype
    generator = torch.Generator().manual_seed(0)
    original = _experts_function(module, "eager")
    k, tokens = min(experts, 3), 13
    x = torch.randn(tokens, hidden, generator=generator).to(gate_up.device, dtype)
    weight = torch.rand(tokens, k, generator=generator) + 0.1
    for name, index in _routings(experts, k, tokens, generator).items():
        for weight_dtype in {dtype, torch.float32}:
            inputs = (x, index.to(x.device), weight.to(x.device, weight_dtype))
            got, want = experts_forward(module, *inputs), original(module, *inputs)
            _expect_equal(path, f"experts, {name}", got, want, _bar(dtype))


def _eager_attention(module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """The family's own attention; every modeling file defines it under the same name."""
    modeling = sys.modules[type(module).__module__]
    eager = getattr(modeling, "eager_attention_forward", None)
    if eager is None:
        raise UnsupportedError(
            f"{type(module).__module__} has no eager_attention_forward to verify against"
        )
    return eager


def _verify_attention(path: str, call: _AttentionCall, dtype: torch.dtype) -> None:
    """Compares our attention, dense with and without mask and paged, to the family's eager one.

    Raises:
        VerificationError: naming path, error and bar.
    """
    generator = torch.Generator().manual_seed(0)
    device = _device(call.module)
    tokens = 9

    def draw(heads: int, size: int) -> Tensor:
        return torch.randn(2, heads, tokens, size, generator=generator).to(device, dtype)

    query = draw(call.heads, call.key_size)
    key, value = draw(call.kv_heads, call.key_size), draw(call.kv_heads, call.value_size)
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()[None, None]
    additive = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    scaling = call.key_size**-0.5 if call.scaling is None else call.scaling

    def dense(function: Callable[..., Any], mask: Tensor | None) -> Tensor:
        return function(call.module, query, key, value, mask, scaling=scaling, **call.kwargs)[0]

    want = dense(_eager_attention(call.module), additive)
    bar = _bar(dtype)
    _expect_equal(path, "attention with a mask", dense(attention_forward, seen), want, bar)
    _expect_equal(path, "attention without a mask", dense(attention_forward, None), want, bar)
    got = _paged_in_two_steps(call, query, key, value)
    _expect_equal(path, "paged attention", got, want, bar)


def _paged_in_two_steps(call: _AttentionCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Two requests ``[2,H,9,D]`` fed raggedly over scattered pages -> ``[2,9,H,Dv]``."""
    page, tables = 4, torch.tensor([[5, 0, 3], [1, 6, 2]], device=query.device)
    tokens = query.shape[2]
    caches = allocate_caches(
        [(call.kv_heads, call.key_size, call.value_size)], 7 * page, query.dtype, query.device
    )
    out = query.new_zeros((2, tokens, call.heads, call.value_size))
    cuts = ((0, 5, tokens), (0, 2, tokens))
    for step in range(2):
        spans = [torch.arange(cut[step], cut[step + 1], device=query.device) for cut in cuts]
        slots = [
            table[span // page] * page + span % page
            for table, span in zip(tables, spans, strict=True)
        ]
        counts = torch.tensor([0, *(len(span) for span in spans)], device=query.device)
        paged = PagedInputs(
            slots=torch.cat(slots),
            cu_seqlens=counts.cumsum(0),
            context_lens=torch.tensor([cut[step + 1] for cut in cuts], device=query.device),
            block_tables=tables,
            k_caches=caches[0],
            v_caches=caches[1],
            cache_of_layer={call.module.layer_idx: 0},  # type: ignore[dict-item]
            page=page,
            max_context=tokens,
        )

        def pack(x: Tensor, spans: list[Tensor] = spans) -> Tensor:
            return torch.cat([x[i][:, span] for i, span in enumerate(spans)], dim=1)[None]

        inputs = (pack(query), pack(key), pack(value), None)
        kwargs = {**call.kwargs, _PAGED: paged}
        rows = attention_forward(call.module, *inputs, scaling=call.scaling, **kwargs)[0][0]
        for index, part in enumerate(rows.split([len(span) for span in spans])):
            out[index, spans[index]] = part
    return out


# -- prepare and restore --------------------------------------------------------------------------


@dataclass(frozen=True)
class Preparation:
    """What :func:`prepare` did to a model.

    Attributes:
        experts: paths of the experts modules that run ``xllm::moe_experts``.
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


def preparation(model: nn.Module) -> Preparation | None:
    """The record of :func:`prepare` for ``model``; None if it is not prepared."""
    return getattr(model, _RECORD, None)


def prepare(
    model: Any, *, experts: bool = True, attention: bool = True, verify: bool = True
) -> Any:
    """Switches a transformers model to implementations that can be captured; see :func:`restore`.

    The weights are neither copied nor changed.  Experts that ``xllm::moe_experts`` cannot express
    keep their implementation; :func:`preparation` names them and why.

    Args:
        model: a ``PreTrainedModel``.
        experts: switch the experts.
        attention: switch the attention.
        verify: run one experts module per class and shape, and one attention layer per class and
            shape, against the family's eager code on random inputs in the model's dtype.

    Returns:
        ``model`` itself.

    Raises:
        XCompileError: without transformers, on something else than a transformers model, or on a
            model that is already prepared.
        UnsupportedError: if the model does not dispatch its attention through the registry, or
            passes it an argument that is not handled.
        VerificationError: if a replaced part computes something else.  In every case of an error
            the model is left as it was.
    """
    _require_transformers()
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise XCompileError(f"prepare() takes a transformers model, not {type(model).__name__}")
    if preparation(model) is not None:
        raise XCompileError(f"{type(model).__name__} is already prepared; restore() it first")
    found = {path: m for path, m in model.named_modules() if _is_experts(m)} if experts else {}
    reasons = {path: _why_not_expressible(module) for path, module in found.items()}
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
    for path in record.unreplaced:
        vars(model.get_submodule(path)).pop(_FALLBACK, None)
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
        setattr(module, _FALLBACK, module.config._experts_implementation or "eager")
    if record.attention:
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
            if module.config._experts_implementation != IMPLEMENTATION:
                raise UnsupportedError(f"{path}: its experts implementation could not be switched")


def _verify(model: Any, record: Preparation) -> tuple[str, ...]:
    """Checks one module per signature; returns the paths of those that were run."""
    verified: dict[Any, str] = {}
    with torch.no_grad():
        for path in record.experts:
            module = model.get_submodule(path)
            signature = (type(module), module.gate_up_proj.shape, module.gate_up_proj.dtype)
            if signature not in verified:
                _verify_experts(path, module)
                verified[signature] = path
        if record.attention:
            paths = {module: path for path, module in model.named_modules()}
            for call in _attention_calls(model):
                if call.signature not in verified:
                    _verify_attention(paths[call.module], call, model.dtype)
                    verified[call.signature] = paths[call.module]
    return tuple(verified.values())


# -- the step graph -------------------------------------------------------------------------------


def kv_shapes(model: Any) -> list[tuple[int, int, int]]:
    """Per attention layer ``(Hk, D, Dv)``: what one token adds to the cache.

    Derived from what the attention layers are called with, so it holds for every family; for MLA
    these are the expanded heads.  A model that is not prepared is prepared only for this call.
    """
    with nullcontext() if preparation(model) else prepared(model, verify=False):
        return [(c.kv_heads, c.key_size, c.value_size) for c in _attention_calls(model)]


class StepModel(nn.Module):
    """One serving step of a Hugging Face causal language model, over paged caches.

    The model is prepared on construction (unless it already is) and stays so; :func:`restore` frees
    it, after which the step can no longer be called.  The caches hold keys and values exactly as
    the attention function receives them: rotated, and for MLA expanded to all heads.

    Args:
        model: a transformers causal language model in eval mode.
        page: rows per cache page, see :data:`DEFAULT_PAGE`.
        max_context: longest context of a request; by default the model's
            ``max_position_embeddings``.
        verify: see :func:`prepare`.

    Raises:
        XCompileError, UnsupportedError, VerificationError: see :func:`prepare`.
    """

    def __init__(
        self,
        model: Any,
        *,
        page: int = DEFAULT_PAGE,
        max_context: int | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__()
        if page < 1:
            raise XCompileError(f"page must be positive, got {page}")
        if preparation(model) is None:
            prepare(model, verify=verify)
        self.model = model.eval()
        self.page = page
        text = model.config.get_text_config()
        self.max_context: int = max_context or text.max_position_embeddings
        calls = _attention_calls(model)
        self.kv_shapes = tuple((c.kv_heads, c.key_size, c.value_size) for c in calls)
        layers: list[Any] = [call.module.layer_idx for call in calls]
        self.cache_of_layer: dict[int, int] = {layer: i for i, layer in enumerate(layers)}

    @property
    def spec(self) -> ModelSpec:
        """Shapes and limits, for :func:`xcompile.runtime.generate.generate`."""
        device = str(_device(self.model))
        dtype: torch.dtype = self.model.dtype
        return ModelSpec(self.kv_shapes, self.page, dtype, self.max_context, device)

    def allocate(
        self, num_slots: int, dtype: torch.dtype | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Zeroed key and value caches of ``num_slots`` rows, in the model's dtype by default."""
        spec = self.spec
        return allocate_caches(spec.kv_shapes, num_slots, dtype or spec.dtype, spec.device)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slots: Tensor,
        cu_seqlens: Tensor,
        context_lens: Tensor,
        block_tables: Tensor,
        last_rows: Tensor,
        k_caches: list[Tensor],
        v_caches: list[Tensor],
    ) -> Tensor:
        """Logits of the last new token of each request; writes the caches in place.

        Args:
            input_ids: ``[T]`` int64, new tokens of all requests one after the other.
            position_ids: ``[T]`` int64, position of each token in its request.
            slots: ``[T]`` int64, cache row of each token; no row twice.
            cu_seqlens: ``[R + 1]`` int64, request ``r`` owns tokens ``cu_seqlens[r:r+2]``.
            context_lens: ``[R]`` int64, tokens of the request so far including the new ones.
            block_tables: ``[R, M]`` int64, page numbers of the request.
            last_rows: ``[R]`` int64, rows of ``input_ids`` whose logits are wanted.
            k_caches: per layer ``[slots, Hk, D]``.
            v_caches: per layer ``[slots, Hk, Dv]``.

        Returns:
            ``[R, V]`` in the model's dtype.

        Raises:
            XCompileError: if the model was restored in the meantime.
            UnsupportedError: see :func:`attention_forward`.
        """
        record = preparation(self.model)
        if record is None or not record.attention:
            raise XCompileError("the attention of this step's model is not prepared (any more)")
        paged = PagedInputs(
            slots=slots,
            cu_seqlens=cu_seqlens,
            context_lens=context_lens,
            block_tables=block_tables,
            k_caches=k_caches,
            v_caches=v_caches,
            cache_of_layer=self.cache_of_layer,
            page=self.page,
            max_context=self.max_context,
        )
        return _run_packed(self.model, input_ids, position_ids, last_rows, paged, self.max_context)


def step_example(
    step: StepModel,
    *,
    max_tokens: int = 8192,
    max_requests: int = 1024,
    max_slots: int = 1 << 24,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Example inputs of a step by name, and the ``dynamic_shapes`` for ``torch.export``.

    Every symbolic size of the example is at least 2 and they all differ, since export takes 0 and 1
    for constants and equal sizes for one symbol; the ranges nevertheless begin at 1.

    Args:
        step: the step.
        max_tokens: upper bound of ``T``.
        max_requests: upper bound of ``R``.
        max_slots: upper bound of the rows of a cache.

    Returns:
        ``(inputs, dynamic_shapes)`` with the same keys.
    """
    page, device = step.page, _device(step.model)
    pages = 9
    # A prompt of five tokens, one of two that continues a context of page + 1, a decoded token.
    counts, contexts = [5, 2, 1], [5, page + 3, 2]
    tables = [[3, 0, 0, 0], [1, 5, 0, 0], [7, 0, 0, 0]]
    positions = [range(c - n, c) for n, c in zip(counts, contexts, strict=True)]
    slots = [
        table[position // page] * page + position % page
        for table, span in zip(tables, positions, strict=True)
        for position in span
    ]
    ends = torch.tensor([0, *counts]).cumsum(0)
    k_caches, v_caches = step.allocate(pages * page)

    def index(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64, device=device)

    inputs: dict[str, Any] = {
        "input_ids": index(range(sum(counts))),
        "position_ids": index([p for span in positions for p in span]),
        "slots": index(slots),
        "cu_seqlens": index(ends),
        "context_lens": index(contexts),
        "block_tables": index(tables),
        "last_rows": index(ends[1:] - 1),
        "k_caches": k_caches,
        "v_caches": v_caches,
    }
    tokens = torch.export.Dim("tokens", min=1, max=max_tokens)
    requests = torch.export.Dim("requests", min=1, max=max_requests)
    # At least the width of the example; columns past a context are never read.
    most = max(len(tables[0]), -(-step.max_context // page))
    width = torch.export.Dim("pages", min=1, max=most)
    rows = torch.export.Dim("cache_rows", min=page, max=max_slots)
    shapes: dict[str, Any] = {
        "input_ids": {0: tokens},
        "position_ids": {0: tokens},
        "slots": {0: tokens},
        "cu_seqlens": {0: requests + 1},
        "context_lens": {0: requests},
        "block_tables": {0: requests, 1: width},
        "last_rows": {0: requests},
        "k_caches": [{0: rows} for _ in k_caches],
        "v_caches": [{0: rows} for _ in v_caches],
    }
    return inputs, shapes


def export_step(
    model: Any,
    *,
    page: int = DEFAULT_PAGE,
    max_context: int | None = None,
    max_tokens: int = 8192,
    max_requests: int = 1024,
    verify: bool = True,
    functional: bool = True,
) -> torch.export.ExportedProgram:
    """The functional step graph of a causal language model or of a :class:`StepModel`.

    The graph serves every ``T``, ``R`` and ``M`` from 1 on; ``program.module()`` takes the inputs
    of :meth:`StepModel.forward` by position.  Cache updates are results listed in
    ``graph_signature.user_inputs_to_mutate``; linear, softmax and the operators of ``xllm`` stay
    whole (no decompositions).  A model that was not prepared before is restored afterwards.

    Args:
        model: a transformers model (then ``page``, ``max_context`` and ``verify`` apply), or a
            :class:`StepModel`.
        page, max_context, verify: see :class:`StepModel`.
        max_tokens, max_requests: see :func:`step_example`.
        functional: False leaves the in-place writes in the graph, which saves torch's retracing;
            the importer makes them functional itself.

    Raises:
        XCompileError, UnsupportedError, VerificationError: see :func:`prepare`.
    """
    if isinstance(model, StepModel):
        return _export(model, max_tokens, max_requests, functional)
    was_prepared = preparation(model) is not None
    step = StepModel(model, page=page, max_context=max_context, verify=verify)
    try:
        return _export(step, max_tokens, max_requests, functional)
    finally:
        if not was_prepared:
            restore(model)


def _export(
    step: StepModel, max_tokens: int, max_requests: int, functional: bool
) -> torch.export.ExportedProgram:
    inputs, shapes = step_example(step, max_tokens=max_tokens, max_requests=max_requests)
    # Without gradients: the rotary embedding switches them off itself, which would otherwise become
    # a nested graph.
    with torch.no_grad():
        program = torch.export.export(
            step, tuple(inputs.values()), dynamic_shapes=shapes, strict=False
        )
        return program.run_decompositions({}) if functional else program
