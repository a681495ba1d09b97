"""Mixtures of experts that transformers writes by hand: substituted, instance by instance.

Their loops over the experts that were hit depend on data, or every expert sees every token. The
substitute is an instance's own `forward`; class and weights stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xcompile.frontend import torch_ops


@dataclass(frozen=True)
class Substitute:
    """forward(module, *args), and arguments to compare it on."""

    forward: Callable[..., Any]
    fits: Callable[[Any], bool]
    sample: Callable[[Any, torch.Generator], tuple[Tensor, ...]]


def _is_silu(module: Any) -> bool:
    return type(module.act_fn).__name__ in ("SiLU", "SiLUActivation")


def _routed(total: int, hidden: int, dtype: torch.dtype, rng: torch.Generator) -> tuple:
    tokens, k = 13, min(total, 3)
    index = torch.rand(tokens, total, generator=rng).argsort(-1)[:, :k]
    weight = torch.rand(tokens, k, generator=rng) + 0.1
    return torch.randn(tokens, hidden, generator=rng).to(dtype), index, weight.to(dtype)


# -- Llama 4: every expert sees every token, most of them zeros ------------------------------------
def _llama4(module: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """The router's score multiplies an expert's input; an expert that is not chosen sees zeros."""
    x = hidden_states.reshape(-1, module.hidden_dim)
    logits = F.linear(x, module.router.weight, module.router.bias)
    best, index = torch.topk(logits, module.top_k, dim=1)
    score = torch.sigmoid(best.float()).to(best.dtype)
    k = module.top_k
    rows = (x if k == 1 else x.repeat_interleave(k, 0)) * score.reshape(-1, 1)
    experts = module.experts
    up, down = experts.gate_up_proj.transpose(1, 2), experts.down_proj.transpose(1, 2)
    one = torch.ones_like(score).reshape(-1, 1)
    y = torch_ops.moe_experts(rows, index.reshape(-1, 1), one, up, down, "silu")
    y = y if k == 1 else y.unflatten(0, (-1, k)).sum(1)
    return module.shared_expert(x) + y, logits


def _llama4_sample(module: Any, rng: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(2, 7, module.hidden_dim, generator=rng).to(module.router.weight.dtype),)


# -- LongCat: the last experts give back their input -----------------------------------------------
def _longcat(module: Any, hidden_states: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    routed = module.num_routed_experts
    own = index < routed
    none = torch.zeros_like(weight)
    mine = torch.where(own, weight, none)
    # Choices of an identity take part with weight 0, spread over the experts.
    y = torch_ops.moe_experts(
        hidden_states, index % routed, mine, module.gate_up_proj[:routed], module.down_proj, "silu"
    )
    kept = torch.where(own, none, weight).sum(-1, keepdim=True)
    return y + (hidden_states * kept).to(hidden_states.dtype)


def _longcat_sample(module: Any, rng: torch.Generator) -> tuple[Tensor, ...]:
    return _routed(module.total_experts, module.hidden_size, module.down_proj.dtype, rng)


# -- Step 3.7: the shared loop, not dispatched -----------------------------------------------------
def _step3(module: Any, hidden_states: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    args = (hidden_states, index, weight, module.gate_up_proj, module.down_proj)
    if math.isinf(module.limit):
        return torch_ops.moe_experts(*args, "silu")
    return torch_ops.moe_experts(*args, "clamped_silu", limit=float(module.limit))


def _step3_sample(module: Any, rng: torch.Generator) -> tuple[Tensor, ...]:
    return _routed(module.num_experts, module.hidden_dim, module.down_proj.dtype, rng)


SUBSTITUTES = {
    "Llama4TextMoe": Substitute(_llama4, lambda m: _is_silu(m.experts), _llama4_sample),
    "LongcatFlashExperts": Substitute(
        _longcat, lambda m: m.down_proj is not None and _is_silu(m), _longcat_sample
    ),
    "Step3p7Experts": Substitute(_step3, _is_silu, _step3_sample),
}


def find(model: nn.Module) -> Iterator[tuple[str, Any, Substitute]]:
    """Modules of transformers that have a substitute."""
    for path, module in model.named_modules():
        known = SUBSTITUTES.get(type(module).__name__)
        own = type(module).__module__.startswith("transformers.")
        if known is not None and own and known.fits(module):
            yield path, module, known


def switch(model: nn.Module) -> tuple[str, ...]:
    """Gives every such module its substitute; returns their paths."""
    found = list(find(model))
    for _, module, known in found:
        module.forward = partial(known.forward, module)
    return tuple(path for path, _, _ in found)


def undo(model: nn.Module, paths: tuple[str, ...]) -> None:
    for path in paths:
        vars(model.get_submodule(path)).pop("forward", None)
