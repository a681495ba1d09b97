"""Preparing, verifying and restoring models of transformers."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.hf_models import (
    MOE_LAYERS,
    NEW_TOKENS,
    PROMPTS,
    family,
    greedy,
    hf_generate,
    relative_error,
    tokens,
)
from tests.zoo import FAMILIES, VOCAB, zoo
from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend import (
    hf_verify,
    torch_ops,
)
from xcompile.frontend import huggingface as hf


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
