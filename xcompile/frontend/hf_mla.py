"""Multi-head latent attention (MLA), absorbed: the cache holds latents, queries go to them.

A transformers MLA layer expands each latent c (kv_lora_rank values) and the shared rotated key into
keys and values of all heads: ``k_h = [U_h c, r]``, ``v_h = V_h c``. Then

    q_h . k_h = (U_h^T q_nope) . c + q_rot . r        sum_j p_j v_hj = V_h sum_j p_j c_j

so with U^T applied to the query and V to the result, all heads attend to the latents themselves:
one key head of rank + rope values, whose leading rank values are also the value (DeepSeek-AI 2024,
arXiv 2405.04434, section 2.1). A token then costs rank + rope cached values instead of
H (nope + rope + v).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xcompile.frontend import torch_ops

_NEEDS = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank", "kv_b_proj")


def is_mla(module: nn.Module) -> bool:
    """Whether a layer is MLA as transformers writes it, and nothing more (no indexer, no bias)."""
    if not (hasattr(module, "expand_kv") and all(hasattr(module, name) for name in _NEEDS)):
        return False
    plain = type(module.kv_b_proj) is nn.Linear and module.kv_b_proj.bias is None
    return plain and getattr(module, "indexer", None) is None


@contextmanager
def latent(model: nn.Module) -> Iterator[None]:
    """Inside of this block MLA layers hand their latents to the attention function."""
    layers = [m for m in model.modules() if is_mla(m)]
    for m in layers:
        m.__dict__["expand_kv"] = _latents
    try:
        yield
    finally:
        for m in layers:
            del m.__dict__["expand_kv"]


def _latents(kv_nope: Tensor, k_rot: Tensor) -> tuple[Tensor, Tensor]:
    """``[B,1,S,rank]``, ``[B,1,S,rope]`` -> the key, and no value: it is part of the key."""
    return torch.cat((kv_nope, k_rot), dim=-1), kv_nope[..., :0]


def absorb_query(module: Any, query: Tensor) -> Tensor:
    """``[1,H,T,nope+rope]`` -> ``[T,H,rank+rope]``."""
    up, _ = _weights(module, query.shape[1])
    # Split before anything else: the parts are then seen through the model's concatenation.
    parts = query.split((module.qk_nope_head_dim, module.qk_rope_head_dim), dim=-1)
    nope, rot = (p[0].transpose(0, 1) for p in parts)
    return torch.cat((torch_ops.head_linear(nope, up.transpose(1, 2)), rot), dim=-1)


def expand_result(module: Any, result: Tensor) -> Tensor:
    """``[T,H,rank]`` -> ``[T,H,v]``."""
    _, value = _weights(module, result.shape[1])
    return torch_ops.head_linear(result, value)


def _weights(module: Any, heads: int) -> tuple[Tensor, Tensor]:
    """U ``[H,nope,rank]`` and V ``[H,v,rank]``, views of kv_b_proj's weight."""
    w = module.kv_b_proj.weight.view(heads, -1, module.kv_lora_rank)
    up, value = w.split((module.qk_nope_head_dim, module.v_head_dim), dim=1)
    return up, value
