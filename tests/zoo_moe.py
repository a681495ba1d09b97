"""Tiny random models of every transformers class with routed experts, from one table of sizes."""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any

import torch
from torch import nn

FAMILIES = (
    "afmoe", "aria", "axk1", "axk2", "bailing_hybrid", "beam", "cohere2_moe", "dbrx",
    "deepseek_ocr2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4",
    "diffusion_gemma", "dots1", "dots3_note", "ernie4_5_moe", "ernie4_5_vl_moe", "exaone_moe",
    "flex_olmo", "flint", "gemma4", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "glm5_next",
    "glm_moe_dsa", "gpt_oss", "granitemoe", "granitemoe_swa", "granitemoehybrid",
    "granitemoeshared", "hunyuan_v1_moe", "hy_v3", "hy_v4", "inkling", "inkling2", "jamba",
    "jetmoe", "kimi_linear", "kolibri1", "laguna", "lfm2_moe", "llama4", "longcat_flash",
    "mellum", "mimo_v2_flash", "minimax", "minimax_m2", "minimax_m3_vl", "mistral4",
    "mistral_large4", "mixtral", "muse_spark", "nemotron_h", "nllb_moe", "olmoe",
    "openai_privacy_filter", "phimoe", "qwen2_moe", "qwen3_5_moe", "qwen3_moe", "qwen3_next",
    "qwen3_omni_moe", "qwen3_vl_moe", "qwen4_exp", "solar_open", "step3p7",
    "switch_transformers", "unlimited_ocr", "zaya",
)  # fmt: skip
"""Modeling files of transformers 5.23 with routed experts."""

VOCAB = 211
E, K, H = 8, 3, 64

# What a configuration takes of this is given to it.
SIZES: dict[str, Any] = {
    **dict.fromkeys(["n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"], E),
    **dict.fromkeys(["num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts"], K),
    **dict.fromkeys(["moe_intermediate_size", "expert_ffn_hidden_size"], 32),
    **dict.fromkeys(["shared_expert_intermediate_size", "shared_intermediate_size"], 48),
    **dict.fromkeys(["intermediate_size", "ffn_hidden_size", "intermediate_size_mlp"], 48),
    **dict.fromkeys(["dense_intermediate_size", "prefix_dense_intermediate_size"], 48),
    **dict.fromkeys(["moe_shared_expert_intermediate_size"], 48),
    **dict.fromkeys(["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"], 1),
    **dict.fromkeys(["num_hidden_layers", "n_layers", "num_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_heads"], 4),
    **dict.fromkeys(["hidden_size", "d_model"], H),
    **dict.fromkeys(["linear_num_key_heads", "linear_num_heads"], 2),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"], 16),
    **dict.fromkeys(["index_n_heads", "indexer_n_heads"], 2),
    **dict.fromkeys(["index_head_dim", "indexer_head_dim"], 32),
    "vocab_size": VOCAB, "max_position_embeddings": 16384, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "tie_word_embeddings": False, "num_key_value_heads": 2, "head_dim": 16,
    "q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 24, "qk_rope_head_dim": 16,
    "v_head_dim": 16, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 1.5,
    "norm_topk_prob": True, "index_topk": 16, "sliding_window": 32768, "linear_num_value_heads": 4,
}  # fmt: skip
_DENSE_SPARSE = {"mlp_layer_types": ["dense", "sparse"]}
_FULL = {"layer_types": ["full_attention"] * 2}
_MLA = {"num_key_value_heads": 4}
# What a family needs otherwise.
OTHER: dict[str, dict[str, Any]] = {
    "axk1": {**_MLA, **_DENSE_SPARSE}, "axk2": {**_MLA, **_DENSE_SPARSE},
    "deepseek_v2": {**_MLA, "first_k_dense_replace": 1},
    "deepseek_v3": {**_MLA, "first_k_dense_replace": 1},
    "deepseek_v32": {**_MLA, **_DENSE_SPARSE}, "glm_moe_dsa": {**_MLA, **_DENSE_SPARSE},
    "dots3_note": {**_MLA, **_DENSE_SPARSE, **_FULL},
    "glm4_moe_lite": {**_MLA, **_DENSE_SPARSE}, "mistral4": {**_MLA, "first_k_dense_replace": 1},
    "kimi_linear": {**_MLA, **_DENSE_SPARSE, **_FULL},
    "bailing_hybrid": {**_MLA, **_DENSE_SPARSE, **_FULL},
    "dots1": {"first_k_dense_replace": 1}, "glm4_moe": {"first_k_dense_replace": 1},
    "glm4v_moe": {"first_k_dense_replace": 1},
    "solar_open": {"first_k_dense_replace": 1},
    "gemma4": {"enable_moe_block": True, **_FULL}, "diffusion_gemma": _FULL,
    "afmoe": {"num_dense_layers": 1, **_FULL}, "lfm2_moe": {"num_dense_layers": 1, **_FULL},
    "llama4": {"moe_layers": [0, 1], "num_experts_per_tok": 1, **_FULL},
    "minimax": _FULL, "qwen3_next": _FULL, "qwen3_5_moe": _FULL, "gpt_oss": _FULL,
    "nemotron_h": {"layers_block_type": ["attention", "moe"], "mlp_hidden_act": "relu2"},
    "granitemoehybrid": {"layer_types": ["attention"] * 2},
    "jamba": {"attn_layer_period": 1, "attn_layer_offset": 0, "expert_layer_period": 1,
              "expert_layer_offset": 0},
    "ernie4_5_moe": {"moe_layer_start_index": 0},
    "mimo_v2_flash": {**_FULL, **_DENSE_SPARSE},
    "openai_privacy_filter": _FULL, "granitemoe_swa": _FULL,
    "beam": _DENSE_SPARSE, "flint": {"mlp_only_layers": [0]},
    "glm5_next": {**_MLA, **_DENSE_SPARSE},
    "mistral_large4": {**_MLA, **_DENSE_SPARSE},
    "step3p7": _DENSE_SPARSE, "zaya": {"num_experts_per_tok": 1},
    "ernie4_5_vl_moe": {"moe_intermediate_size": [32, 32]},
    "longcat_flash": {**_MLA, "zero_expert_num": 4, "head_dim": 16},
}  # fmt: skip


def module_of(family: str) -> Any:
    """The modeling file of a family."""
    home = {"aria": "aria", "unlimited_ocr": "unlimited_ocr"}.get(family, family)
    return importlib.import_module(f"transformers.models.{home}.modeling_{family}")


def config_of(cls: Any, family: str, **changes: Any) -> Any:
    """A tiny configuration for a model class."""
    takes = inspect.signature(cls.__init__).parameters
    named = {**OTHER.get(family, {}), **changes}
    sizes = {k: v for k, v in SIZES.items() if k in takes}
    return cls(**{**sizes, **named})


def model_class(family: str) -> Any:
    """A family's causal language model, else its text model."""
    module = module_of(family)
    own = [
        c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__
    ]
    for end in ("ForCausalLM", "ThinkerTextModel", "TextModel", "Model"):
        for c in own:
            if c.__name__.endswith(end) and "PreTrained" not in c.__name__:
                return c
    raise KeyError(f"{family} has no text model")


@torch.no_grad()
def spread(model: nn.Module, seed: int = 0) -> None:
    """Weights that about preserve the size of what they map, so that scores are well spread."""
    rng = torch.Generator().manual_seed(seed)
    for name, t in [*model.named_parameters(), *model.named_buffers()]:
        if not t.is_floating_point() or "inv_freq" in name or "embed_scale" in name:
            continue
        if "bias" in name.rpartition(".")[2] or name.endswith("sinks"):
            t.copy_(torch.randn(t.shape, generator=rng) * 0.1)
        elif isinstance(t, nn.Parameter) and t.dim() == 1:
            t.copy_(torch.randn(t.shape, generator=rng) * 0.1 + 1)
        elif isinstance(t, nn.Parameter):
            fan = t.shape[-1] if t.dim() < 4 else t[0].numel()
            t.copy_(
                torch.randn(t.shape, generator=rng)
                * (1.0 if "embed" in name else 1.3 / math.sqrt(fan))
            )


EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts")


def tiny(family: str, dtype: torch.dtype = torch.float32, experts: int = E, chosen: int = K) -> Any:
    """A small random model of a family: its causal language model where it has one.

    experts, chosen: how many there are, and how many a token has.
    """
    cls = model_class(family)
    takes = inspect.signature(cls.config_class.__init__).parameters
    sizes = {**dict.fromkeys(EXPERTS, experts), **dict.fromkeys(CHOSEN, chosen)}
    changes = {k: v for k, v in sizes.items() if k in takes and k not in OTHER.get(family, {})}
    if experts < 8 and "n_group" in takes:
        changes |= {"n_group": 1, "topk_group": 1}
    model = cls(config_of(cls.config_class, family, **changes)).eval()
    spread(model)
    return model.to(dtype).requires_grad_(False)
