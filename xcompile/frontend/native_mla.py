"""Multi-head latent attention as DeepSeek's own inference code writes it: latents in one cache.

Its module keeps caches in buffers and comes in two forms: `naive` caches keys and values of all
heads (k_cache, v_cache), `absorb` latents and rotated keys (kv_cache, pe_cache). The substitute
keeps latents for both, in one buffer of rank + rope values a token, so that a key is read where it
lies and its leading part is the value. It attends to them in the absorbed form (see hf_mla for the
algebra), but to a prompt from position 0 as expanded keys and values. The cache of the naive form
shrinks by H (nope + rope + v) / (rank + rope).

Modules are known by the names of their parts, which such code shares, and the substitute is run
against the module's own forward, a prompt and a token after it, before it is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xcompile.frontend import torch_ops

LATENTS = "_xllm_latents"  # [max batch, max positions, rank + rope]
_CACHES = (("k_cache", "v_cache"), ("kv_cache", "pe_cache"))
_PARTS = ("wkv_a", "kv_norm", "wkv_b", "wo")
_SIZES = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "softmax_scale")
_ARGUMENTS = ["x", "start_pos", "freqs_cis", "mask"]


def candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with the parts of MLA and a pair of caches."""
    for path, module in model.named_modules():
        parts = all(isinstance(getattr(module, n, None), nn.Module) for n in _PARTS)
        if parts and all(hasattr(module, n) for n in _SIZES) and _caches(module):
            yield path, module


def why_not(module: Any) -> str | None:
    """Why a candidate cannot be substituted; None if it can."""
    if list(inspect.signature(type(module).forward).parameters)[1:] != _ARGUMENTS:
        return f"its forward does not take ({', '.join(_ARGUMENTS)})"
    if getattr(module, "indexer", None) is not None:
        return "an indexer chooses the keys that are seen (DSA)"
    if getattr(module.wkv_b, "bias", None) is not None:
        return "wkv_b has a bias"
    weight = module.wkv_b.weight
    if weight.dtype.itemsize < 2:
        return f"wkv_b's weights are {weight.dtype}; convert them to bf16 first"
    width = module.qk_nope_head_dim + module.v_head_dim
    if weight.shape[1] != module.kv_lora_rank or weight.shape[0] % width:
        return f"wkv_b's weight is {tuple(weight.shape)}"
    return None


def forward(
    module: Any, x: Tensor, start_pos: int, freqs_cis: Tensor, mask: Tensor | None
) -> Tensor:
    """The module's result for ``[B, S, dim]``; writes rows start_pos.. of the cache.

    Args:
        x: ``[B, S, dim]``.
        start_pos: position of the first row.
        freqs_cis: ``[S, rope / 2]``, complex: turns of the pairs of a rotated key.
        mask: ``[S, S]``, added to the scores, or None.
    """
    batch, count, _ = x.shape
    end, rank = start_pos + count, module.kv_lora_rank
    nope, rope, value = module.qk_nope_head_dim, module.qk_rope_head_dim, module.v_head_dim
    weight = module.wkv_b.weight.view(-1, nope + value, rank)
    heads = weight.shape[0]
    q = module.wq(x) if hasattr(module, "wq") else module.wq_b(module.q_norm(module.wq_a(x)))
    own, turned = q.view(batch, count, heads, nope + rope).split((nope, rope), dim=-1)
    c, r = module.wkv_a(x).split((rank, rope), dim=-1)
    cache = getattr(module, LATENTS)
    c, turned = module.kv_norm(c), _rotated(turned, freqs_cis)
    r = _rotated(r.unsqueeze(2), freqs_cis)
    cache[:batch, start_pos:end] = torch.cat((c, r.squeeze(2)), dim=-1)
    given: dict[str, Any] = {"scale": module.softmax_scale}
    if mask is not None:
        given["attn_mask"] = mask[None, None].to(x.dtype)
    if start_pos == 0:  # pass rewrite_mla decides whether to absorb
        k, v = module.wkv_b(c).view(batch, count, heads, -1).split((nope, value), dim=-1)
        k = torch.cat((k, r.expand(-1, -1, heads, -1)), dim=-1)
        q = torch.cat((own, turned), dim=-1)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, **given).transpose(1, 2)
        return module.wo(y.flatten(2))
    keys = cache[:batch, :end].unsqueeze(1)
    up = weight[:, :nope].transpose(1, 2)
    own = torch_ops.head_linear(own.flatten(0, 1), up).view(batch, count, heads, rank)
    q = torch.cat((own, turned), dim=-1).transpose(1, 2)
    y = F.scaled_dot_product_attention(q, keys, keys[..., :rank], enable_gqa=True, **given)
    y = torch_ops.head_linear(y.transpose(1, 2).flatten(0, 1), weight[:, nope:])
    return module.wo(y.view(batch, count, heads * value))


def _rotated(x: Tensor, turns: Tensor) -> Tensor:
    """Pairs of ``[B, S, H, rope]`` turned; first all real parts, then the imaginary ones, in which
    order queries and keys give the same products."""
    cos, sin = torch.view_as_real(turns)[None, :, None].unbind(-1)
    h = x.float()
    a, b = h[..., ::2], h[..., 1::2]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


def substitute(module: nn.Module) -> None:
    """Allocates the cache of latents and gives the instance its forward."""
    own: Any = module
    names = _caches(module)
    first = getattr(own, names[0])
    shape = (*first.shape[:2], own.kv_lora_rank + own.qk_rope_head_dim)
    module.register_buffer(LATENTS, first.new_zeros(shape), persistent=False)
    own.forward = partial(forward, module)


def drop_caches(module: nn.Module) -> None:
    """Frees the module's own caches; what latents they hold goes to the new one."""
    own: Any = module
    names = _caches(module)
    if names == _CACHES[1]:
        pairs = own.pe_cache.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
        getattr(own, LATENTS).copy_(torch.cat((own.kv_cache, pairs), dim=-1))
    else:
        getattr(own, LATENTS).zero_()
    own._xllm_caches = {name: tuple(getattr(own, name).shape) for name in names}
    for name in names:
        delattr(own, name)


def undo(module: nn.Module) -> None:
    """The class's own forward and caches again. Those of the naive form come back empty."""
    own: Any = module
    latents = getattr(own, LATENTS)
    dropped = vars(own).pop("_xllm_caches", {})
    for name, shape in dropped.items():
        module.register_buffer(name, latents.new_zeros(shape), persistent=False)
    if dropped and _caches(module) == _CACHES[1]:
        c, r = latents.split((own.kv_lora_rank, own.qk_rope_head_dim), dim=-1)
        own.kv_cache.copy_(c)
        own.pe_cache.copy_(r.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2))
    delattr(own, LATENTS)
    del vars(own)["forward"]


def trials(module: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Arguments to compare a substitute on, one after the other: a prompt and a token after it."""
    batch, positions, _ = getattr(module, LATENTS).shape
    batch, prompt = min(batch, 2), min(5, positions - 1)
    rng = torch.Generator().manual_seed(0)
    cache = getattr(module, LATENTS)
    first = module.wkv_a.weight
    x = torch.randn(batch, prompt + 1, first.shape[1], generator=rng, dtype=torch.float32)
    x = x.to(first.device, cache.dtype)
    half = module.qk_rope_head_dim // 2
    angle = torch.randn(prompt + 1, half, generator=rng, dtype=torch.float32).to(first.device)
    turns = torch.polar(torch.ones_like(angle), angle)
    mask = x.new_full((prompt, prompt), float("-inf"), dtype=torch.float32).triu(1)
    yield "a prompt", (x[:, :prompt], 0, turns[:prompt], mask)
    yield "a token", (x[:, prompt:], prompt, turns[prompt:], None)


def _caches(module: nn.Module) -> tuple[str, ...]:
    for names in _CACHES:
        if all(isinstance(getattr(module, n, None), Tensor) for n in names):
            return names
    return ()


__all__ = ["candidates", "drop_caches", "forward", "substitute", "trials", "undo", "why_not"]
