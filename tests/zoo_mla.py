"""Small random models of every transformers class with multi-head latent attention (MLA)."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from tests.zoo import COMMON, build, zoo

ABSORBED = (
    "deepseek_v2",
    "deepseek_v3",
    "glm4_moe_lite",
    "youtu",
    "minicpm3",
    "mistral4",
    "axk1",
    "dots3_note",  # of a configuration without indexer and windows
)
"""Served by the step, on their latents."""

SPARSE = (
    "deepseek_v32",
    "glm_moe_dsa",
    "axk2",
    "dots3_note_sparse",
    "hy_v4",
    "glm5_next",
    "mistral_large4",
)
"""An indexer chooses the keys that a query sees (DSA)."""

RECURRENT = ("kimi_linear", "bailing_hybrid")
"""Some layers are linear attention, which keeps a state instead of keys."""

_SIZES: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 20,
}
_MLA: dict[str, Any] = {**_SIZES, "q_lora_rank": 48}
_LAYERS: dict[str, Any] = {"mlp_layer_types": ["dense", "sparse"]}
_EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 40,
    "n_routed_experts": 12,
    "n_shared_experts": 1,
    "n_group": 3,
    "topk_group": 2,
    "num_experts_per_tok": 3,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.7,
}
_LOCAL_EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 40,
    "num_local_experts": 6,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
}
_DSA: dict[str, Any] = {
    **_MLA, **_EXPERTS, **_LAYERS, "index_topk": 8, "index_head_dim": 32, "index_n_heads": 2
}  # fmt: skip
_FULL: dict[str, Any] = {"layer_types": ["full_attention"] * 2}
_HYBRID: dict[str, Any] = {"layer_types": ["full_attention", "linear_attention"]}
_KIMI: dict[str, Any] = {
    **_SIZES, **_LOCAL_EXPERTS, **_LAYERS, "linear_head_dim": 16, "linear_num_heads": 4
}  # fmt: skip
_BAILING: dict[str, Any] = {**_SIZES, **_LOCAL_EXPERTS, **_LAYERS, "head_dim": 16}


def _yarn(**more: float) -> dict[str, Any]:
    return {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 32.0,
        "original_max_position_embeddings": 16,
        "mscale": 1.0,
        "mscale_all_dim": 0.8,
        **more,
    }


_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "glm4_moe_lite": ("Glm4MoeLite", {**_MLA, **_EXPERTS, **_LAYERS}),
    # a scale that is not 1 / sqrt(nope + rope)
    "youtu": ("Youtu", {**_SIZES, "q_lora_rank": None, "rope_parameters": _yarn()}),
    "minicpm3": ("MiniCPM3", {**_MLA, "scale_emb": 3, "dim_model_base": 48}),
    # queries grow with their position
    "mistral4": (
        "Mistral4",
        {**_MLA, **_EXPERTS, "rope_parameters": _yarn(llama_4_scaling_beta=0.3)},
    ),
    "axk1": ("AXK1", {**_MLA, **_EXPERTS, **_LAYERS, "rope_interleave": False}),
    "dots3_note": ("Dots3Note", {**_MLA, **_EXPERTS, **_LAYERS, **_FULL, "use_dsa": False}),
    # two attentions a layer; some experts are the identity
    "longcat_flash": (
        "LongcatFlash",
        {
            **{k: v for k, v in _MLA.items() if k[:3] not in ("num", "int")},
            "num_attention_heads": 4,
            "num_layers": 2,
            "ffn_hidden_size": 112,
            "expert_ffn_hidden_size": 40,
            "n_routed_experts": 6,
            "zero_expert_num": 3,
            "moe_topk": 3,
            "head_dim": 16,
            "routed_scaling_factor": 1.5,
        },
    ),
    "kimi_linear": ("KimiLinear", {**_KIMI, **_HYBRID, "q_lora_rank": None}),
    "bailing_hybrid": ("BailingHybrid", {**_BAILING, **_HYBRID}),
    "deepseek_v32": ("DeepseekV32", _DSA),
    "glm_moe_dsa": ("GlmMoeDsa", _DSA),
    "axk2": ("AXK2", _DSA),
    "dots3_note_sparse": ("Dots3Note", {**_DSA, **_FULL}),
    "hy_v4": ("HYV4", _DSA),
    "glm5_next": ("Glm5Next", {**_DSA, "qk_rope_head_dim": 0, "index_kpool": 4,
                               "linear_head_dim": 16, "linear_num_heads": 2,
                               "layer_types": ["linear_attention", "indexed_attention"]}),
    "mistral_large4": ("MistralLarge4", {k: v for k, v in _DSA.items() if k != "q_lora_rank"}),
}  # fmt: skip

# published with a vision tower only
_TOWERS: dict[str, dict[str, Any]] = {
    "Glm5Next": {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32},
    "MistralLarge4": {"model_type": "pixtral", "num_hidden_layers": 1, "hidden_size": 32,
                      "num_attention_heads": 2, "intermediate_size": 32},
}  # fmt: skip
_TEXT_ONLY = {"Dots3Note": "Dots3NoteTextConfig"}


def zoo_mla(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A small random causal language model with MLA, as :func:`tests.zoo.zoo` makes them."""
    if name not in _CONFIGS:
        return zoo(name, dtype, seed)
    prefix, sizes = _CONFIGS[name]
    sizes = {**COMMON, **sizes}
    config_class = getattr(transformers, _TEXT_ONLY.get(prefix, f"{prefix}Config"))
    if prefix not in _TOWERS:
        return build(getattr(transformers, f"{prefix}ForCausalLM"), config_class(**sizes), dtype,
                     seed)  # fmt: skip
    config = config_class(text_config=sizes, vision_config=_TOWERS[prefix])
    return build(getattr(transformers, f"{prefix}ForConditionalGeneration"), config, dtype, seed)
