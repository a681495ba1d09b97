"""Hugging Face experts modules: our implementation, and which modules it can stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xcompile.errors import UnsupportedError
from xcompile.frontend import torch_ops
from xcompile.ops.moe import CLAMPED, gate

IMPLEMENTATION = "xllm"
"""Name of our implementations in the registries of ``transformers``."""

# Attribute of experts that stay with the implementation they had, although their config names ours.
# Attributes rather than tables on the side: a copy of a prepared model is prepared as well, and
# Dynamo can trace them.
FALLBACK = "_xllm_fallback"
# What unit_of found, of experts that run our op: it cannot be tried while the model is traced.
UNIT = "_xllm_unit"


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
    gate_up, down = stacked(owner)
    unit = getattr(owner, UNIT, None) or unit_of(owner)
    if unit is None:
        raise UnsupportedError(f"{type(owner).__name__}: {why_not_expressible(owner)}")
    act, limit, alpha = unit
    given: dict[str, Any] = {}
    if owner.has_bias:
        bias = owner.gate_up_proj_bias if owner.has_gate else owner.up_proj_bias
        bias = bias if owner.is_concatenated else apart(bias, 1)
        given = {"gate_up_bias": bias, "down_bias": owner.down_proj_bias}
    if act in CLAMPED:
        given |= {"limit": limit, "alpha": alpha}
    if not owner.has_post_expert_norm:
        return torch_ops.moe_experts(
            hidden_states, top_k_index, top_k_weights, gate_up, down, act, **given
        )
    # The norm stands between the second product and the weighted sum: each choice is a row, and
    # this form alone still has a copy of the tokens.
    k = top_k_index.shape[1]
    rows = hidden_states.repeat_interleave(k, 0)
    one = torch.ones_like(top_k_weights).reshape(-1, 1).to(hidden_states.dtype)
    y = torch_ops.moe_experts(rows, top_k_index.reshape(-1, 1), one, gate_up, down, act, **given)
    y = owner.post_expert_norm(y) * top_k_weights.reshape(-1, 1)
    return y.unflatten(0, (-1, k)).sum(1).to(hidden_states.dtype)


def stacked(module: Any) -> tuple[Tensor, Tensor]:
    """The weights as ``xllm::moe_experts`` takes them: views, or for interleaved ones a copy."""
    up = module.gate_up_proj if module.has_gate else module.up_proj
    down = module.down_proj
    if module.is_transposed:
        up, down = up.transpose(1, 2), down.transpose(1, 2)
    return up if module.is_concatenated else apart(up, 1), down


def apart(t: Tensor, dim: int) -> Tensor:
    """gate0 up0 gate1 up1 ... along a dim, as all of the gate, then all of up."""
    return t.unflatten(dim, (-1, 2)).transpose(dim, dim + 1).flatten(dim, dim + 1)


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


def unit_of(module: Any) -> tuple[str, float, float] | None:
    """(act, limit, alpha) with which ``xllm::moe_experts`` does what a module does between its two
    products, found by trying; None if there are none."""
    names = [n for n in [_activation_name(getattr(module, "act_fn", None))] if n is not None]
    if not module.has_gate or type(module)._apply_gate is _default_gate():
        return (names[0], math.inf, 1.0) if names else None
    limit = getattr(module, "limit", getattr(module, "swiglu_limit", math.inf))
    alpha = getattr(module, "alpha", getattr(module, "swiglu_alpha", 1.0))
    if not isinstance(limit, int | float) or not isinstance(alpha, int | float):
        return None
    given = _unit_inputs(float(limit))
    pair = torch.cat(given, -1) if module.is_concatenated else torch.stack(given, -1).flatten(-2)
    with torch.no_grad(), torch.device("cpu"):
        want = module._apply_gate(pair)
    for act in (*names, *CLAMPED):
        got = gate(act, given[0], given[1], float(limit), float(alpha))
        if got.shape == want.shape and torch.allclose(got, want.to(got.dtype), 1e-6, 1e-30):
            return act, float(limit), float(alpha)
    return None


def _unit_inputs(limit: float) -> list[Tensor]:
    """Gate and up values of every size and sign, and near a limit."""
    ladder = torch.cat([10.0 ** torch.arange(-3, 3.1, 0.5), torch.tensor([0.7, 2.0, 7.0])])
    if math.isfinite(limit):
        ladder = torch.cat([ladder, torch.tensor([limit * 0.999, limit, limit * 1.001])])
    line = torch.cat([-ladder, torch.zeros(1), ladder])
    return [t.contiguous() for t in torch.meshgrid(line, line, indexing="ij")]


def why_not_expressible(module: Any) -> str | None:
    """Why ``xllm::moe_experts`` cannot stand for an experts module; None if it can."""
    if getattr(module, "_is_expert_parallel", False):
        return "_is_expert_parallel is True"
    if module.has_bias and not module.has_gate:
        return "has_bias is True without a gate"
    if unit_of(module) is None:
        if getattr(type(module), "_apply_gate", None) is not _default_gate():
            return f"{type(module).__name__} has a gate function of its own"
        return f"activation {type(module.act_fn).__name__} is not known"
    gate_up, down = stacked(module)
    rows = (2 if module.has_gate else 1) * down.shape[-1]
    if gate_up.dim() != 3 or down.dim() != 3 or gate_up.shape[1] != rows:
        return f"weights are {tuple(gate_up.shape)} and {tuple(down.shape)}"
    if not gate_up.dtype.is_floating_point or gate_up.dtype.itemsize < 2:
        return f"weights are {gate_up.dtype}"
    return None


def _default_gate() -> Any:
    from transformers.integrations.moe import _default_apply_gate

    return _default_apply_gate
