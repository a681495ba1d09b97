"""The Hugging Face frontend: preparing, restoring, verifying, the step graph and generation."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.zoo import FAMILIES, VOCAB, smollm2, zoo
from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend import (
    hf_attention,
    hf_verify,
    torch_ops,
)
from xcompile.frontend import huggingface as hf
from xcompile.runtime import generate as gen

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [20], [30 + i for i in range(21)]]
NEW_TOKENS = 6
PAGE = 4
MOE_LAYERS = {
    "deepseek_v3": 2,
    "deepseek_v2": 2,
    "mixtral": 2,
    "qwen2_moe": 2,
    "qwen3_moe": 2,
    "olmoe": 2,
    "glm4_moe": 2,
    "llama": 0,
}


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


@cache
def family(name: str) -> Any:
    """A shared model; every test leaves it as it found it, which the last test checks."""
    return zoo(name)


@cache
def greedy(name: str) -> list[list[int]]:
    """The reference: transformers' own generate, one prompt at a time, unprepared."""
    return hf_generate(family(name), PROMPTS, NEW_TOKENS)


def hf_generate(model: Any, prompts: list[list[int]], new: int) -> list[list[int]]:
    results = []
    for prompt in prompts:
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        results.append(out[0, len(prompt) :].tolist())
    return results


@cache
def exported(name: str) -> torch.export.ExportedProgram:
    return hf.export_step(family(name), page=PAGE)


def spec_of(name: str) -> gen.ModelSpec:
    shapes = tuple(hf.kv_shapes(family(name)))
    return gen.ModelSpec(shapes, PAGE, torch.float32, 512)


# -- operators ------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", sorted(torch_ops.ACTIVATIONS))
def test_moe_experts_is_its_formula(act: str) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 6, generator=g, dtype=torch.float64)
    gate_up = torch.randn(4, 14, 6, generator=g, dtype=torch.float64)
    down = torch.randn(4, 6, 7, generator=g, dtype=torch.float64)
    expert = torch.rand(5, 4, generator=g).topk(3).indices
    weight = torch.rand(5, 3, generator=g, dtype=torch.float64)
    want = torch.zeros_like(x)
    for n in range(5):
        for j in range(3):
            e = int(expert[n, j])
            hidden = torch_ops.ACTIVATIONS[act](gate_up[e, :7] @ x[n]) * (gate_up[e, 7:] @ x[n])
            want[n] += weight[n, j] * (down[e] @ hidden)
    got = torch.ops.xllm.moe_experts(x, expert, weight, gate_up, down, act)
    assert relative_error(got, want) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_moe_experts_follows_schema_and_dtype(dtype: torch.dtype) -> None:
    x, gate_up, down = torch.ones(3, 4), torch.ones(2, 6, 4), torch.ones(2, 4, 3)
    expert = torch.tensor([[0, 1], [1, 0], [0, 1]])
    args = (x.to(dtype), expert, torch.ones(3, 2), gate_up.to(dtype), down.to(dtype), "silu")
    torch.library.opcheck(
        torch.ops.xllm.moe_experts.default, args, test_utils=("test_schema", "test_faketensor")
    )
    out = torch.ops.xllm.moe_experts(*args)
    assert out.dtype == dtype and out.shape == (3, 4)
    assert torch.ops.xllm.moe_experts(
        args[0][:0], expert[:0], *args[2:][:0], torch.ones(0, 2), *args[3:]
    ).shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expert": torch.tensor([[2], [0]])}, "there are 2 experts"),
        ({"expert": torch.tensor([[-1], [0]])}, "from -1"),
        ({"expert": torch.zeros(2, 1, dtype=torch.int32)}, "int64"),
        ({"weight": torch.ones(2, 1, dtype=torch.float64)}, "weight must be"),
        ({"weight": torch.ones(2, 2)}, "disagree"),
        ({"down": torch.ones(2, 4, 2)}, "do not belong together"),
        ({"gate_up": torch.ones(2, 6, 4, dtype=torch.float64)}, "differ in dtype"),
        ({"act": "tanh"}, "unknown activation"),
    ],
)
def test_moe_experts_refuses(change: dict[str, Any], message: str) -> None:
    args: dict[str, Any] = {
        "x": torch.ones(2, 4),
        "expert": torch.zeros(2, 1, dtype=torch.int64),
        "weight": torch.ones(2, 1),
        "gate_up": torch.ones(2, 6, 4),
        "down": torch.ones(2, 4, 3),
        "act": "silu",
    }
    with pytest.raises(ValueError, match=message):
        torch.ops.xllm.moe_experts(**{**args, **change})


def paged_case(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Three requests: a prompt, one without new tokens, a continued one; one padding row."""
    g = torch.Generator().manual_seed(0)
    return {
        "q": torch.randn(6, 4, 8, generator=g).to(dtype),
        "k_cache": torch.randn(15, 2, 8, generator=g).to(dtype),
        "v_cache": torch.randn(15, 2, 5, generator=g).to(dtype),
        "cu_seqlens": torch.tensor([0, 3, 3, 5]),
        "context_lens": torch.tensor([3, 2, 7]),
        "block_tables": torch.tensor([[2, 0, 0], [3, 0, 0], [4, 0, 1]]),
        "scale": 0.3,
        "page": 3,
    }


def test_paged_attention_is_its_definition() -> None:
    case = paged_case()
    got = torch.ops.xllm.paged_attention(**case)
    want = torch.zeros(6, 4, 5, dtype=torch.float64)
    for request, (first, last) in enumerate([(0, 3), (3, 3), (3, 5)]):
        for row in range(first, last):
            position = int(case["context_lens"][request]) - (last - first) + row - first
            table = case["block_tables"][request]
            slots = [int(table[p // 3]) * 3 + p % 3 for p in range(position + 1)]
            for head in range(4):
                scores = case["k_cache"][slots, head // 2] @ case["q"][row, head] * 0.3
                want[row, head] = scores.softmax(0) @ case["v_cache"][slots, head // 2]
    assert relative_error(got, want) < 1e-12
    assert not got[5].any(), "rows of no request are zero"


def test_paged_attention_follows_schema() -> None:
    case = paged_case(torch.bfloat16)
    torch.library.opcheck(
        torch.ops.xllm.paged_attention.default,
        tuple(case.values()),
        test_utils=("test_schema", "test_faketensor"),
    )
    assert torch.ops.xllm.paged_attention(**case).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_lens": torch.tensor([2, 2, 7])}, "request 0: 3 new tokens, context 2"),
        ({"context_lens": torch.tensor([3, 2, 10])}, "3 pages of 3"),
        ({"context_lens": torch.tensor([3, 2])}, "number of requests"),
        ({"block_tables": torch.zeros(3, 3, dtype=torch.int32)}, "int64"),
        ({"q": torch.ones(6, 3, 8, dtype=torch.float64)}, "do not group"),
        ({"q": torch.ones(6, 4, 8)}, "differ in dtype"),
        ({"page": 0}, "positive"),
    ],
)
def test_paged_attention_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torch.ops.xllm.paged_attention(**{**paged_case(), **change})


# -- prepare and restore --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_prepared_forward_equals_unprepared(name: str) -> None:
    model, ids = family(name), tokens(3, 11)
    padding = torch.ones(3, 11, dtype=torch.int64)
    padding[1, :4] = 0
    with torch.no_grad():
        plain, padded = model(ids).logits, model(ids, attention_mask=padding).logits
        with hf.prepared(model):
            record = hf.preparation(model)
            assert record is not None
            assert len(record.experts) == MOE_LAYERS[name] and not record.unreplaced
            assert len(record.verified) == 1 + bool(MOE_LAYERS[name])
            assert model.config._attn_implementation == hf.IMPLEMENTATION
            assert relative_error(model(ids).logits, plain) <= 1e-5
            got = model(ids, attention_mask=padding).logits
        keep = padding.bool()
        assert relative_error(got[keep], padded[keep]) <= 1e-5
        assert torch.equal(model(ids).logits, plain)


@pytest.mark.parametrize("name", ["deepseek_v3", "mixtral"])
def test_prepared_model_generates_with_the_caches_of_transformers(name: str) -> None:
    with hf.prepared(family(name), verify=False):
        assert hf_generate(family(name), PROMPTS[:1], NEW_TOKENS) == greedy(name)[:1]


@pytest.mark.parametrize("name", FAMILIES)
def test_verification_passes_in_bfloat16(name: str) -> None:
    model = hf.prepare(zoo(name, torch.bfloat16))
    record = hf.preparation(model)
    assert record is not None and "model.layers.0.self_attn" in record.verified


@pytest.mark.parametrize("before", ["eager", "batched_mm", "grouped_mm"])
def test_restore_restores(before: str) -> None:
    model = zoo("mixtral")
    model.set_experts_implementation(before)
    model.set_attn_implementation("eager")
    attributes = {path: set(vars(module)) for path, module in model.named_modules()}
    assert hf.prepare(model) is model
    assert model.config._experts_implementation == hf.IMPLEMENTATION
    assert hf.restore(model) is model
    assert model.config._experts_implementation == before
    assert model.config._attn_implementation == "eager"
    assert {path: set(vars(module)) for path, module in model.named_modules()} == attributes
    assert hf.preparation(model) is None
    assert hf.restore(model) is model, "restoring twice is harmless"


def test_prepare_twice_is_refused_and_parts_can_be_chosen() -> None:
    model = zoo("olmoe")
    with hf.prepared(model, attention=False):
        assert model.config._attn_implementation == "sdpa"
        assert model.config._experts_implementation == hf.IMPLEMENTATION
        with pytest.raises(XCompileError, match="already prepared"):
            hf.prepare(model)
    with hf.prepared(model, experts=False):
        assert model.config._attn_implementation == hf.IMPLEMENTATION
        assert model.config._experts_implementation == "grouped_mm"
    with pytest.raises(XCompileError, match="takes a transformers model"):
        hf.prepare(torch.nn.Linear(2, 2))


def test_a_copy_of_a_prepared_model_can_be_restored() -> None:
    model = hf.prepare(zoo("mixtral"), verify=False)
    twin = hf.restore(copy.deepcopy(model))
    assert twin.config._experts_implementation == "grouped_mm"
    assert model.config._experts_implementation == hf.IMPLEMENTATION


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_verification_catches_wrong_experts(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    model = zoo("deepseek_v3", dtype)
    monkeypatch.setitem(torch_ops.ACTIVATIONS, "silu", torch.nn.functional.gelu)
    with pytest.raises(hf.VerificationError, match=r"layers\.1\.mlp\.experts: .* error .* bar"):
        hf.prepare(model)
    assert model.config._experts_implementation == "grouped_mm"
    assert model.config._attn_implementation == "sdpa"
    assert hf.preparation(model) is None


def test_verification_catches_experts_in_the_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo("mixtral")
    right = hf_verify.experts_forward
    monkeypatch.setattr(hf_verify, "experts_forward", lambda m, x, e, w: right(m, x, e.flip(1), w))
    with pytest.raises(hf.VerificationError, match="experts"):
        hf.prepare(model)


@pytest.mark.parametrize("broken", ["scale", "nan", "mask"])
def test_verification_catches_wrong_attention(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    model = zoo("llama")
    right = torch_ops._attend
    wrong = {
        "scale": lambda q, k, v, scale, *more: right(q, k, v, scale * 1.01, *more),
        "nan": lambda q, *more: right(q, *more) * float("nan"),
        "mask": lambda q, *more: right(q.flip(0), *more).flip(0),
    }
    monkeypatch.setattr(torch_ops, "_attend", wrong[broken])
    with pytest.raises(hf.VerificationError, match=r"layers\.0\.self_attn: paged attention"):
        hf.prepare(model)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("indices", torch.zeros(1, 4, 2, dtype=torch.int64)),
        ("softcap", 30.0),
        ("position_bias", torch.zeros(1, 6, 4, 4)),
        ("something_new", 1),
    ],
)
def test_unknown_arguments_of_attention_raise(name: str, value: Any) -> None:
    with hf.prepared(family("llama"), verify=False) as model:
        with pytest.raises(UnsupportedError, match=f"passes {name}="):
            model(tokens(1, 4), **{name: value})
        assert model(tokens(1, 4), **{name: None}).logits.shape == (1, 4, VOCAB)


def gpt_oss() -> Any:
    torch.manual_seed(0)
    config = transformers.GptOssConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=128,
        sliding_window=16,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    model = transformers.GptOssForCausalLM(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_experts_that_cannot_be_expressed_stay_and_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, ids = gpt_oss(), tokens(2, 7) % 97
    experts = type(model.model.layers[0].mlp.experts)
    monkeypatch.setattr(experts, "_apply_gate", lambda self, x: x[..., ::2].sin() * x[..., 1::2])
    want = model(ids).logits
    with hf.prepared(model, attention=False):
        record = hf.preparation(model)
        assert record is not None and record.experts == ()
        assert set(record.unreplaced) == {f"model.layers.{i}.mlp.experts" for i in (0, 1)}
        reason = record.unreplaced["model.layers.0.mlp.experts"]
        assert reason == "GptOssExperts has a gate function of its own"
        assert torch.equal(model(ids).logits, want)


def test_a_model_can_mix_replaced_and_unreplaced_experts() -> None:
    model, ids = zoo("mixtral"), tokens(2, 7)
    want = model(ids).logits
    model.model.layers[1].mlp.experts.act_fn = torch.nn.SiLU()
    odd = model.model.layers[0].mlp.experts
    odd.act_fn = torch.nn.Mish()
    expected = model(ids).logits
    assert relative_error(expected, want) > 1e-3
    with hf.prepared(model):
        record = hf.preparation(model)
        assert record is not None and record.experts == ("model.layers.1.mlp.experts",)
        assert "Mish" in record.unreplaced["model.layers.0.mlp.experts"]
        assert relative_error(model(ids).logits, expected) <= 1e-5
        assert odd.config._experts_implementation == hf.IMPLEMENTATION
    assert not [name for name in vars(odd) if "xllm" in name]


def test_without_transformers_the_error_is_clear_and_late() -> None:
    code = """
import sys
sys.modules["transformers"] = None
from xcompile.errors import XCompileError
from xcompile.frontend import huggingface
try:
    huggingface.prepare(object())
except XCompileError as error:
    print("transformers 5.23" in str(error))
"""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.stdout.strip() == "True", done.stderr


# -- the step -------------------------------------------------------------------------------------


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


class Logits(torch.nn.Module):
    """The plain call of a causal language model, without caches."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, use_cache=False).logits


@pytest.mark.parametrize("name", ["deepseek_v2", "mixtral"])
def test_a_prepared_model_exports_with_dynamic_batch_and_length(name: str) -> None:
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", max=512)
    with torch.no_grad(), hf.prepared(family(name), verify=False) as model:
        shapes = ({0: batch, 1: length},)
        program = torch.export.export(
            Logits(model), (tokens(3, 7),), dynamic_shapes=shapes, strict=False
        ).run_decompositions({})
    targets = Counter(str(n.target) for n in program.graph.nodes if n.op == "call_function")
    assert targets["xllm.moe_experts.default"] == MOE_LAYERS[name]
    layers = family(name).config.num_hidden_layers
    assert targets["aten.scaled_dot_product_attention.default"] == layers
    for shape in ((1, 1), (1, 9), (4, 1), (2, 6)):
        ids = tokens(*shape)
        with torch.no_grad():
            assert relative_error(program.module()(ids), family(name)(ids).logits) <= 1e-5


@pytest.mark.parametrize("name", [name for name in FAMILIES if MOE_LAYERS[name]])
def test_the_zoo_routes_to_every_expert(name: str) -> None:
    seen: dict[str, set[int]] = {}

    def note(path: str) -> Any:
        return lambda module, args: seen.setdefault(path, set()).update(args[1].unique().tolist())

    model = zoo(name)
    experts = {p: m for p, m in model.named_modules() if p.endswith("mlp.experts")}
    for path, module in experts.items():
        module.register_forward_pre_hook(note(path))
    model(tokens(4, 32))
    assert len(seen) == MOE_LAYERS[name]
    assert all(seen[p] == set(range(m.gate_up_proj.shape[0])) for p, m in experts.items())


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


# -- generation -----------------------------------------------------------------------------------


def counting_step(*args: Any) -> torch.Tensor:
    """A model that continues every sequence by its last token plus one, from a one-layer cache."""
    ids, positions, slots, ends, contexts, tables, last, keys, _ = args
    assert len(set(slots.tolist())) == len(slots), "no slot twice"
    keys[0][slots, 0, 0] = ids.double()
    page = 2
    logits = torch.zeros(len(last), 50)
    for r, row in enumerate(last.tolist()):
        assert row == int(ends[r + 1]) - 1
        at = int(contexts[r]) - 1
        assert int(positions[row]) == at
        stored = keys[0][int(tables[r, at // page]) * page + at % page, 0, 0]
        logits[r, int(stored) + 1] = 1
    return logits


COUNTING = gen.ModelSpec(((1, 1, 1),), 2, torch.float64, 40)


def test_generate_stops_at_eos_and_keeps_the_order() -> None:
    prompts = [[1, 2], [7], [3, 4, 5]]
    assert gen.generate(counting_step, COUNTING, prompts, 3) == [[3, 4, 5], [8, 9, 10], [6, 7, 8]]
    stopped = gen.generate(counting_step, COUNTING, prompts, 3, eos=[4, 8], num_pages=3)
    assert stopped == [[3, 4], [8], [6, 7, 8]]
    assert gen.generate(counting_step, COUNTING, [], 3) == []
    assert gen.generate(counting_step, COUNTING, prompts, 0) == [[], [], []]
    one = gen.generate(counting_step, COUNTING, prompts, 3, max_requests=1, max_tokens=1)
    assert one == [[3, 4, 5], [8, 9, 10], [6, 7, 8]]


def test_generate_refuses() -> None:
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        gen.generate(counting_step, COUNTING, [[1], []], 3)
    with pytest.raises(ValueError, match="exceed the context of 40"):
        gen.generate(counting_step, COUNTING, [[1] * 39], 3)
    with pytest.raises(ValueError, match="at least 1"):
        gen.generate(counting_step, COUNTING, [[1]], 3, max_tokens=0)
    with pytest.raises(MemoryError, match="needs 2 pages, there are 1"):
        gen.generate(counting_step, COUNTING, [[1, 2]], 3, num_pages=1)
    with pytest.raises(MemoryError, match="3 pages wanted, 2 free"):
        gen.PageAllocator(2).take(3)


def test_page_allocator_reuses_freed_pages_first() -> None:
    pages = gen.PageAllocator(4)
    first = pages.take(2)
    assert first == [0, 1] and pages.available == 2
    pages.give(first)
    assert pages.take(4) == [0, 1, 2, 3] and pages.available == 0


# -- real weights ---------------------------------------------------------------------------------


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
    """Runs last: the shared models of this file are as they were built."""
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
