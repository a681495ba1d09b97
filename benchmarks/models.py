"""The benchmarked models: small members of three families with random weights.

Each is an unmodified `transformers` class. Hidden size, heads, expert sizes and routing have the
proportions of the family's published models; layers and experts are fewer, so that a model fits the
memory of a CI machine while its weights still exceed most caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn

MODELS = ("ds-mini", "qwen3moe-mini", "mixtral-mini")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

_COMMON: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 1024,
    "num_hidden_layers": 8,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "num_attention_heads": 16,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}

_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ds-mini": (
        "DeepseekV3Config",
        {
            "intermediate_size": 2816,
            "moe_intermediate_size": 512,
            "num_key_value_heads": 16,
            "n_shared_experts": 1,
            "n_routed_experts": 32,
            "num_experts_per_tok": 4,
            "n_group": 4,
            "topk_group": 2,
            "first_k_dense_replace": 1,
            "norm_topk_prob": True,
            "routed_scaling_factor": 2.5,
            "q_lora_rank": 384,
            "kv_lora_rank": 256,
            "qk_rope_head_dim": 32,
            "qk_nope_head_dim": 64,
            "v_head_dim": 64,
        },
    ),
    "qwen3moe-mini": (
        "Qwen3MoeConfig",
        {
            "intermediate_size": 2816,
            "moe_intermediate_size": 512,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "num_experts": 32,
            "num_experts_per_tok": 4,
            "norm_topk_prob": True,
        },
    ),
    "mixtral-mini": (
        "MixtralConfig",
        {
            "intermediate_size": 2048,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "sliding_window": None,
        },
    ),
}

# --quick: the same structure at a size that compiles and runs in seconds.
_QUICK: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 2, "vocab_size": 512}
_QUICK_FAMILY: dict[str, dict[str, Any]] = {
    "ds-mini": {"intermediate_size": 128, "moe_intermediate_size": 64},
    "qwen3moe-mini": {"intermediate_size": 128, "moe_intermediate_size": 64},
    "mixtral-mini": {"intermediate_size": 64},
}


def config(name: str, *, quick: bool = False, **other: Any) -> Any:
    """The transformers configuration of a model of `MODELS`, some values given as `other`."""
    kind, sizes = _FAMILIES[name]
    options = {**_COMMON, **sizes}
    if quick:
        options |= {**_QUICK, **_QUICK_FAMILY[name]}
    options |= other
    return getattr(transformers, kind)(**options)


def build(
    name: str,
    dtype: torch.dtype,
    *,
    experts: str = "grouped_mm",
    quick: bool = False,
    **other: Any,
) -> Any:
    """A causal language model in eval mode with random weights; equal arguments, equal weights.

    Projections keep the scale of activations, and the routers are given spread-out scores, so
    logits and routing are as varied as those of a trained model.
    """
    cfg = config(name, quick=quick, **other)
    cfg.dtype = dtype
    # Built without memory, filled below: the library's own initialisation takes half a minute.
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            cfg, dtype=dtype, experts_implementation=experts
        )
    rotary = type(model.model.rotary_emb)
    model = model.to_empty(device="cpu").eval()
    model.model.rotary_emb = rotary(cfg)  # its buffers are computed, not loaded
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for path, p in model.named_parameters():
            _fill(path, p, generator)
        for path, b in model.named_buffers():
            if path.endswith("e_score_correction_bias"):
                b.copy_(torch.randn(b.shape, generator=generator) * 0.02)
    return model


def _fill(path: str, p: Tensor, generator: torch.Generator) -> None:
    if p.dim() == 1:
        p.fill_(1.0 if "norm" in path else 0.0)
        return
    scale = p.shape[-1] ** -0.5
    if path.endswith("gate.weight"):
        scale *= 4
    elif "embed_tokens" in path:
        scale = 1.0
    # One block of normal numbers, rotated for each megabyte: quick, and no two rows are equal.
    flat = p.view(-1)
    block = torch.randn(min(flat.numel(), 1 << 20), generator=generator) * scale
    for k, part in enumerate(flat.split(block.numel())):
        part.copy_(block.roll(7919 * k)[: part.numel()])


class ExpertCounter:
    """Counts the distinct experts per layer of every forward pass while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = [m for p, m in model.named_modules() if p.endswith(".experts")]
        self.hits: list[int] = []
        self._handles: list[Any] = []

    def __enter__(self) -> ExpertCounter:
        def see(module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
            index = args[1] if len(args) > 1 else kwargs["top_k_index"]
            self.hits.append(int(index.unique().numel()))

        self._handles = [m.register_forward_pre_hook(see, with_kwargs=True) for m in self.modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def mean(self) -> float:
        """Experts hit per layer and pass."""
        return sum(self.hits) / len(self.hits) if self.hits else 0.0


def experts_total(cfg: Any) -> int:
    """Routed experts per layer."""
    for name in ("n_routed_experts", "num_local_experts", "num_experts"):
        if getattr(cfg, name, None):
            return int(getattr(cfg, name))
    raise ValueError(f"{type(cfg).__name__} has no routed experts")


def kv_elements(cfg: Any) -> int:
    """Numbers that one token of context adds to the smallest known cache; for MLA the latents."""
    if getattr(cfg, "kv_lora_rank", None):
        return int(cfg.num_hidden_layers * (cfg.kv_lora_rank + cfg.qk_rope_head_dim))
    return int(cfg.num_hidden_layers * 2 * cfg.num_key_value_heads * cfg.head_dim)


def step_bytes(model: Any, batch: int, context: int, hit: float) -> float:
    """Bytes that a decode step must read: active weights and the cached context of each request.

    hit   distinct experts per layer that the batch is routed to
    """
    share = hit / experts_total(model.config)
    total = 0.0
    for path, p in model.named_parameters():
        if "embed_tokens" in path:
            total += batch * p.shape[-1] * p.element_size()
        else:
            total += p.nbytes * (share if ".experts." in path else 1.0)
    return total + batch * context * kv_elements(model.config) * model.dtype.itemsize


def prefill_flops(model: Any, tokens: int) -> float:
    """Multiply-adds times two of a prompt of `tokens`, logits of the last token only."""
    cfg = model.config
    share = cfg.num_experts_per_tok / experts_total(cfg)
    per_token = 0.0
    for path, p in model.named_parameters():
        if p.dim() > 1 and "embed_tokens" not in path and "lm_head" not in path:
            per_token += p.numel() * (share if ".experts." in path else 1.0)
    if getattr(cfg, "kv_lora_rank", None):
        sizes = cfg.qk_nope_head_dim + cfg.qk_rope_head_dim + cfg.v_head_dim
    else:
        sizes = 2 * cfg.head_dim
    attention = cfg.num_hidden_layers * cfg.num_attention_heads * sizes * tokens * (tokens + 1) / 2
    head = model.get_output_embeddings().weight.numel()
    return 2.0 * (tokens * per_token + attention + head)
