"""The benchmarked models as GGUF files, which llama.cpp reads: the same weights under its names.

llama.cpp keeps MLA's up-projections of keys and values apart and per head (it runs the absorbed
form), gate and up of experts apart, and rotates neighbouring pairs for Mixtral.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ARCH = {"deepseek_v3": "deepseek2", "qwen3_moe": "qwen3moe", "mixtral": "llama"}

PLAIN = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "self_attn.q_a_proj.weight": "attn_q_a.weight",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
    "self_attn.q_b_proj.weight": "attn_q_b.weight",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.experts.down_proj": "ffn_down_exps.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def neighbours(w: Tensor, heads: int) -> Tensor:
    """Rows of [heads * D, in] so that the two halves of a head that rotate together alternate."""
    return w.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(w.shape)


def renamed(model: Any) -> Iterator[tuple[str, Tensor]]:
    """llama.cpp's name of every parameter and routing bias, and its value.

    Raises:
        ValueError: a parameter that this file has no name for.
    """
    cfg = model.config
    for path, value in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        if path in WHOLE:
            yield WHOLE[path], value
            continue
        if "rotary_emb" in path:
            continue
        _, _, layer, name = path.split(".", 3)
        block = f"blk.{layer}."
        if name == "self_attn.kv_b_proj.weight":
            sizes = (cfg.qk_nope_head_dim, cfg.v_head_dim)
            k, v = value.unflatten(0, (cfg.num_attention_heads, -1)).split(sizes, 1)
            yield block + "attn_k_b.weight", k.transpose(1, 2)
            yield block + "attn_v_b.weight", v
        elif name == "mlp.experts.gate_up_proj":
            gate, up = value.chunk(2, 1)
            yield block + "ffn_gate_exps.weight", gate
            yield block + "ffn_up_exps.weight", up
        elif name in PLAIN:
            if ARCH[cfg.model_type] == "llama" and name.endswith(
                ("q_proj.weight", "k_proj.weight")
            ):
                value = neighbours(value, value.shape[0] // cfg.head_dim)
            yield block + PLAIN[name], value
        else:
            raise ValueError(f"no GGUF name for {path} of {cfg.model_type}")


def describe(writer: Any, cfg: Any) -> None:
    """The keys that llama.cpp builds the graph from."""
    from gguf import ExpertGatingFuncType

    mla = getattr(cfg, "kv_lora_rank", None)
    writer.add_block_count(cfg.num_hidden_layers)
    writer.add_context_length(cfg.max_position_embeddings)
    writer.add_embedding_length(cfg.hidden_size)
    writer.add_feed_forward_length(cfg.intermediate_size)
    writer.add_head_count(cfg.num_attention_heads)
    writer.add_head_count_kv(1 if mla else cfg.num_key_value_heads)
    writer.add_layer_norm_rms_eps(cfg.rms_norm_eps)
    writer.add_rope_freq_base(cfg.rope_parameters["rope_theta"])
    writer.add_expert_used_count(cfg.num_experts_per_tok)
    writer.add_vocab_size(cfg.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    if mla:
        nope, rope = cfg.qk_nope_head_dim, cfg.qk_rope_head_dim
        writer.add_rope_dimension_count(rope)
        writer.add_q_lora_rank(cfg.q_lora_rank)
        writer.add_kv_lora_rank(mla)
        writer.add_key_length(mla + rope)
        writer.add_value_length(mla)
        writer.add_key_length_mla(nope + rope)
        writer.add_value_length_mla(cfg.v_head_dim)
        writer.add_leading_dense_block_count(cfg.first_k_dense_replace)
        writer.add_expert_count(cfg.n_routed_experts)
        writer.add_expert_shared_count(cfg.n_shared_experts)
        writer.add_expert_feed_forward_length(cfg.moe_intermediate_size)
        writer.add_expert_weights_scale(cfg.routed_scaling_factor)
        writer.add_expert_weights_norm(cfg.norm_topk_prob)
        writer.add_expert_gating_func(ExpertGatingFuncType.SIGMOID)
        writer.add_expert_group_count(cfg.n_group)
        writer.add_expert_group_used_count(cfg.topk_group)
        return
    writer.add_rope_dimension_count(cfg.head_dim)
    writer.add_key_length(cfg.head_dim)
    writer.add_value_length(cfg.head_dim)
    writer.add_expert_count(getattr(cfg, "num_local_experts", None) or cfg.num_experts)
    if ARCH[cfg.model_type] == "qwen3moe":
        writer.add_expert_feed_forward_length(cfg.moe_intermediate_size)


def write(model: Any, path: Path) -> None:
    """Writes a model of benchmarks.models; matrices in its dtype, vectors and routers in fp32."""
    import gguf

    types = {torch.bfloat16: gguf.GGMLQuantizationType.BF16, torch.float32: None}
    writer = gguf.GGUFWriter(path, ARCH[model.config.model_type])
    describe(writer, model.config)
    for name, value in renamed(model):
        value = value.detach()
        if value.dim() == 1 or "ffn_gate_inp" in name:
            value = value.float()
        raw = value.contiguous()
        data = raw.numpy() if raw.dtype == torch.float32 else raw.view(torch.uint8).numpy()
        writer.add_tensor(name, data, raw_dtype=types[raw.dtype])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
