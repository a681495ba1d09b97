"""Multi-head latent attention: every class of transformers through the serving step, on latents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch

from tests.test_families import Driver, assert_follows_eager, greedy
from tests.zoo import zoo
from tests.zoo_mla import ABSORBED, RECURRENT, SPARSE, zoo_mla
from xcompile import compile as xcompile
from xcompile.errors import UnsupportedError
from xcompile.executable import Executable
from xcompile.frontend import hf_mla, hf_verify
from xcompile.frontend import huggingface as hf

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [20], [30 + i for i in range(21)]]
FEEDS = [
    [PROMPTS[0], PROMPTS[1], [], PROMPTS[3][:9]],  # a prompt in pieces, one waiting
    [[21], [22], PROMPTS[2], PROMPTS[3][9:]],  # decode and prefill in one step
    [[23, 24], [25], [26, 27, 28], [29]],  # a few tokens at once, as speculation checks them
    [[], [], [], [31]],
]
FAST = ("glm4_moe_lite", "youtu", "minicpm3")


def some(names: Sequence[str], fast: Sequence[str]) -> list[Any]:
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in names]


@cache
def model_of(name: str) -> Any:
    return zoo_mla(name)


@cache
def compiled_step(name: str) -> Executable:
    return xcompile(model_of(name), threads=2, strict=True)


@pytest.mark.parametrize("name", some(ABSORBED, FAST))
def test_step_logits_are_eager_logits(name: str) -> None:
    model, run = model_of(name), compiled_step(name)
    assert run.compiled is not None and run.spec is not None
    assert not run.compiled.imported.islands
    # latents only: one row of rank + rope, no values
    text = model.config.get_text_config()
    assert set(run.spec.kv_shapes) == {(1, text.kv_lora_rank + text.qk_rope_head_dim, 0)}
    assert_follows_eager(Driver(run, len(PROMPTS)), model, FEEDS)


def test_long_prompts_beside_decode_are_eager() -> None:
    """Expanded requests (see tests/test_mla_attention.py) and absorbed ones in one step."""
    model, run = model_of("glm4_moe_lite"), compiled_step("glm4_moe_lite")
    assert run.compiled is not None
    assert "mla_attention" in {x.node.op.name for x in run.compiled.plan.launches}
    long = [(7 * i) % 60 + 3 for i in range(120)]
    feeds = [
        [PROMPTS[0], long[:45], [], []],
        [[21], long[45:], [], PROMPTS[3]],
        [[22], [23], [], [24]],
    ]
    assert_follows_eager(Driver(run, len(PROMPTS)), model, feeds)


@pytest.mark.parametrize("name", some(ABSORBED, FAST))
def test_generation_is_that_of_transformers(name: str) -> None:
    assert compiled_step(name).generate(PROMPTS, 6, eos=()) == greedy(model_of(name), PROMPTS, 6)


def test_both_attentions_of_a_longcat_layer_are_absorbed() -> None:
    model = zoo_mla("longcat_flash")
    step = hf.StepModel(model)
    try:
        assert step.kv_shapes == ((1, 48, 0),) * 4  # two attentions a layer
    finally:
        hf.restore(model)
    run = compiled_step("longcat_flash")
    assert run.compiled is not None and not run.compiled.imported.islands
    assert_follows_eager(Driver(run, len(PROMPTS)), model, FEEDS[:2])


@pytest.mark.parametrize("name", SPARSE)
def test_an_indexer_is_refused_by_name(name: str) -> None:
    model = zoo_mla(name)
    layer = next(m for m in model.modules() if getattr(m, "indexer", None) is not None)
    message = f"{type(model).__name__}.*{type(layer).__name__}.*{type(layer.indexer).__name__}"
    with pytest.raises(UnsupportedError, match=message):
        hf.StepModel(model)
    with pytest.raises(UnsupportedError, match=message):
        hf.prepare(model, verify=False)
    assert hf.preparation(model) is None
    assert not hf_mla.is_mla(layer)


@pytest.mark.parametrize("name", RECURRENT)
def test_linear_attention_is_refused_by_name(name: str) -> None:
    model = zoo_mla(name)
    with pytest.raises(UnsupportedError, match=f"{type(model).__name__}.*linear_attention"):
        hf.StepModel(model)
    assert hf.preparation(model) is None


def test_tokens_that_meet_outside_of_attention_are_refused() -> None:
    model = zoo("llama")

    def shift(module: Any, args: tuple, result: torch.Tensor) -> torch.Tensor:
        return result + result.roll(1, dims=1)  # a convolution over the packed tokens

    handle = model.model.layers[1].mlp.register_forward_hook(shift)
    with pytest.raises(hf_verify.VerificationError, match="LlamaForCausalLM: without attention"):
        hf.StepModel(model)
    assert hf.preparation(model) is None
    handle.remove()
    hf.restore(hf.StepModel(model).model)
