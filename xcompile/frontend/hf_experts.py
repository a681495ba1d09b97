"""Hugging Face experts modules: our implementation, and which modules it can stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from xcompile.frontend import torch_ops

IMPLEMENTATION = "xllm"
"""Name of our implementations in the registries of ``transformers``."""

# Attribute of experts that stay with the implementation they had, although their config names ours.
# Attributes rather than tables on the side: a copy of a prepared model is prepared as well, and
# Dynamo can trace them.
FALLBACK = "_xllm_fallback"


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
    fallback = getattr(owner, FALLBACK, None)
    if fallback is not None:
        return experts_function(module, fallback)(module, hidden_states, top_k_index, top_k_weights)
    return torch_ops.moe_experts(
        hidden_states,
        top_k_index,
        top_k_weights,
        owner.gate_up_proj,
        owner.down_proj,
        _activation_name(owner.act_fn),
    )


def experts_function(module: nn.Module, implementation: str | None) -> Callable[..., Tensor]:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    if implementation in (None, "eager"):
        # The decorator that dispatches wraps the class's own forward and keeps it here.
        return type(module).forward.__wrapped__  # type: ignore[attr-defined]
    return ALL_EXPERTS_FUNCTIONS[implementation]


def is_experts(module: nn.Module) -> bool:
    flags = ("has_gate", "has_bias", "is_transposed", "is_concatenated", "has_post_expert_norm")
    return all(hasattr(module, flag) for flag in flags) and hasattr(
        type(module).forward, "__wrapped__"
    )


def runs_our_op(module: Any) -> bool:
    switched = module.config._experts_implementation == IMPLEMENTATION
    return switched and not hasattr(module, FALLBACK)


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


def why_not_expressible(module: Any) -> str | None:
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
