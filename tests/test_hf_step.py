"""The step graph: what it generates, exports and refuses; the models are left as they were."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
import transformers

from tests.hf_models import (
    MOE_LAYERS,
    NEW_TOKENS,
    PAGE,
    PROMPTS,
    family,
    greedy,
    hf_generate,
    relative_error,
    tokens,
)
from tests.zoo import FAMILIES, smollm2, zoo
from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend import (
    hf_attention,
)
from xcompile.frontend import huggingface as hf
from xcompile.runtime import generate as gen


@cache
def exported(name: str) -> torch.export.ExportedProgram:
    return hf.export_step(family(name), page=PAGE)


def spec_of(name: str) -> gen.ModelSpec:
    shapes = tuple(hf.kv_shapes(family(name)))
    return gen.ModelSpec(shapes, PAGE, torch.float32, 512)


@pytest.mark.parametrize("name", FAMILIES)
def test_kv_shapes_are_those_of_the_config(name: str) -> None:
    config = family(name).config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (config.num_key_value_heads, head, head)
    if name.startswith("deepseek"):
        shape = (1, config.kv_lora_rank + config.qk_rope_head_dim, 0)  # latents
    assert hf.kv_shapes(family(name)) == [shape] * config.num_hidden_layers
    assert hf.preparation(family(name)) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_step_generates_what_transformers_generates(name: str) -> None:
    step = hf.StepModel(family(name), page=PAGE)
    try:
        with torch.no_grad():
            assert gen.generate(step, step.spec, PROMPTS, NEW_TOKENS) == greedy(name)
            # Long prompts in pieces, requests waiting for pages, one request at a time.
            tight = gen.generate(step, step.spec, PROMPTS, NEW_TOKENS, num_pages=8, max_tokens=5)
            assert tight == greedy(name)
    finally:
        hf.restore(family(name))
    with pytest.raises(XCompileError, match="not prepared"):
        gen.generate(step, step.spec, PROMPTS, 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_export_is_functional_and_keeps_regions_whole(name: str) -> None:
    program = exported(name)
    layers = family(name).config.num_hidden_layers
    targets = Counter(
        str(node.target) for node in program.graph.nodes if node.op == "call_function"
    )
    assert targets["xllm.moe_experts.default"] == MOE_LAYERS[name]
    assert targets["xllm.paged_attention.default"] == layers
    latent = name.startswith("deepseek")  # one cache of latents, the value is part of it
    assert targets["aten.index_copy.default"] == (1 if latent else 2) * layers
    assert targets["xllm.head_linear.default"] == (2 * layers if latent else 0)
    assert targets["aten.linear.default"] > 4 * layers
    mutable = [t for t in targets if t.startswith("aten.") and t.split(".")[1].endswith("_")]
    assert not mutable
    assert not {"aten.scaled_dot_product_attention.default", "aten.bmm.default"} & set(targets)
    mutated = set(program.graph_signature.user_inputs_to_mutate.values())
    caches = {f"{kind}_caches_{i}" for kind in ("k" if latent else "kv") for i in range(layers)}
    assert mutated == caches
    assert {"input_ids", "slots", "block_tables"} <= set(program.graph_signature.user_inputs)
    lower = sorted(int(bounds.lower) for bounds in program.range_constraints.values())
    assert lower == [1, 1, 1, 2, PAGE]
    assert hf.preparation(family(name)) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_exported_step_generates_what_transformers_generates(name: str) -> None:
    run, spec = exported(name).module(), spec_of(name)
    sizes = set()

    def step(*args: Any) -> torch.Tensor:
        sizes.add((args[0].shape[0], args[3].shape[0] - 1, args[5].shape[1]))
        return run(*args)

    assert gen.generate(step, spec, PROMPTS, NEW_TOKENS) == greedy(name)
    assert gen.generate(step, spec, [PROMPTS[2]], 3) == [greedy(name)[2][:3]]
    assert (1, 1, 1) in sizes, "T = R = M = 1 was run"
    assert max(sizes)[1] == len(PROMPTS)


@pytest.mark.parametrize("name", FAMILIES)
def test_exported_step_equals_step(name: str) -> None:
    step = hf.StepModel(family(name), page=PAGE, verify=False)
    try:
        inputs, _ = hf.step_example(step)
        g = torch.Generator().manual_seed(0)
        for cache_ in inputs["k_caches"] + inputs["v_caches"]:
            cache_.copy_(torch.randn(cache_.shape, generator=g))
        twin = copy.deepcopy(inputs)
        with torch.no_grad():
            want, got = step(**inputs), exported(name).module()(*twin.values())
    finally:
        hf.restore(family(name))
    assert relative_error(got, want) <= 1e-6
    for kind in ("k_caches", "v_caches"):
        for left, right in zip(twin[kind], inputs[kind], strict=True):
            assert left.shape == right.shape
            if left.numel():
                assert relative_error(left, right) <= 1e-6


def test_step_takes_pages_of_any_size_and_any_order() -> None:
    want = greedy("deepseek_v3")
    for page in (1, 7, 64):
        step = hf.StepModel(family("deepseek_v3"), page=page, verify=False)
        try:
            assert gen.generate(step, step.spec, PROMPTS, NEW_TOKENS) == want
        finally:
            hf.restore(family("deepseek_v3"))


def test_prepared_models_and_steps_compile_without_graph_breaks() -> None:
    model, ids = zoo("deepseek_v3"), tokens(2, 9)
    with torch.no_grad():
        want = model(ids).logits
        with hf.prepared(model, verify=False):
            whole = torch.compile(model, backend="eager", fullgraph=True)
            assert relative_error(whole(ids, use_cache=False).logits, want) <= 1e-5
            step = hf.StepModel(model, page=PAGE)
            compiled = torch.compile(step, backend="eager", fullgraph=True, dynamic=True)
            got = gen.generate(compiled, step.spec, PROMPTS[:2], 3)
    assert got == [out[:3] for out in greedy("deepseek_v3")[:2]]


def sliding(window: int) -> Any:
    torch.manual_seed(0)
    config = transformers.Qwen2MoeConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        max_position_embeddings=128,
        use_sliding_window=True,
        sliding_window=window,
        max_window_layers=4,
    )
    return transformers.Qwen2MoeForCausalLM(config).eval().requires_grad_(False)


@pytest.mark.parametrize("context", [32, 64])
def test_a_window_is_read_from_the_mask(context: int) -> None:
    # This family passes no sliding_window= to its attention: only the mask tells.
    model = sliding(12)
    prompt = list(range(3, 24))
    step = hf.StepModel(model, max_context=context)
    got = gen.generate(step, step.spec, [prompt], 4)
    hf.restore(model)
    assert got == hf_generate(model, [prompt], 4)
    assert hf.export_step(model, max_context=context).range_constraints


def test_chunks_are_refused() -> None:
    chunks = hf_attention._window_within(lambda b, h, q, k: (k <= q) & (k // 8 == q // 8), 30)
    assert chunks is None
    assert hf_attention._window_within(lambda b, h, q, k: (k <= q) & (k > q - 8), 30) == 8
    assert hf_attention._window_within(lambda b, h, q, k: k <= q, 30) == 30
    model = family("llama")
    with hf.prepared(model, verify=False):
        layer = model.model.layers[0].self_attn
        x, mask = torch.zeros(1, 2, 3, 8), torch.zeros(1, 1, 1, 0)
        with pytest.raises(UnsupportedError, match="not causal over the whole context or a window"):
            hf_attention.attention_forward(layer, x, x, x, mask, xllm_paged=object())


def test_a_window_passed_as_argument_is_that_of_the_mask() -> None:
    model = zoo("mixtral")
    model.config.sliding_window = 16
    ids = tokens(1, 40)
    want = model(ids).logits
    with hf.prepared(model):
        assert relative_error(model(ids).logits, want) <= 1e-5, "dense: the mask has the window"
    prompt = ids[0].tolist()
    step = hf.StepModel(model)
    got = gen.generate(step, step.spec, [prompt], 4)
    hf.restore(model)
    assert got == hf_generate(model, [prompt], 4)


def test_dropout_and_bad_pages_are_refused() -> None:
    with pytest.raises(XCompileError, match="page must be positive"):
        hf.StepModel(family("llama"), page=0)
    assert hf.preparation(family("llama")) is None
    model = zoo("llama")
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    step = hf.StepModel(model)
    model.train()
    with pytest.raises(UnsupportedError, match="dropout"):
        gen.generate(step, step.spec, [[3, 4]], 1)


@pytest.mark.slow
def test_smollm2_answers_the_same_through_the_step() -> None:
    model, tokenizer = smollm2()
    chats = ["What is the capital of France?", "Name three colours."]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": chat}], add_generation_prompt=True, return_dict=False
        )
        for chat in chats
    ]
    want = hf_generate(model, prompts, 12)
    step = hf.StepModel(model)
    with torch.no_grad():
        got = gen.generate(step, step.spec, prompts, 12)
    assert got == want
    assert "Paris" in tokenizer.decode(got[0])


def test_nothing_is_left_behind() -> None:
    """Runs after the tests of prepare and step: the shared models are as they were built."""
    for name in FAMILIES:
        model, fresh = family(name), zoo(name)
        assert hf.preparation(model) is None
        for kind in ("_attn_implementation", "_experts_implementation"):
            assert getattr(model.config, kind) == getattr(fresh.config, kind)
        assert all(
            set(vars(a)) == set(vars(b))
            for a, b in zip(model.modules(), fresh.modules(), strict=True)
        )
        pairs = zip(model.state_dict().items(), fresh.state_dict().items(), strict=True)
        assert all(ka == kb and torch.equal(a, b) for (ka, a), (kb, b) in pairs)
