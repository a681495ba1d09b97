"""Whole small models of every family, compiled, against transformers running eagerly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch

from tests.helpers import assert_close_to_reference, relative_error
from tests.zoo import FAMILIES, VOCAB, smollm2, zoo
from xcompile import compile as xcompile
from xcompile.executable import Executable
from xcompile.frontend import huggingface as hf
from xcompile.frontend import inplace
from xcompile.runtime.generate import allocate

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [20], [30 + i for i in range(21)]]
NEW_TOKENS = 6
FAST = ("deepseek_v3", "qwen2_moe")
FAST_PREFILL = ("deepseek_v3",)
FAST_BF16 = ("deepseek_v3", "mixtral")


def some(fast: Sequence[str]) -> list[Any]:
    """All families; those that are not named wait for --slow."""
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in FAMILIES]


@cache
def family(name: str) -> Any:
    return zoo(name)


@cache
def compiled_step(name: str) -> Executable:
    return xcompile(family(name), threads=2, strict=True)


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


class Driver:
    """Feeds a step by hand: packed new tokens of requests over a paged cache."""

    def __init__(self, run: Executable, requests: int, pages: int = 8) -> None:
        assert run.spec is not None
        self.run, self.page = run, run.spec.page
        # requests own pages that interleave and do not start at 0
        self.tables = [[r + 1 + k * requests for k in range(pages)] for r in range(requests)]
        slots = (requests * pages + 1) * self.page
        self.caches = allocate(run.spec.kv_shapes, slots, run.spec.dtype)
        self.cached = [0] * requests

    def __call__(self, new: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits of each request's last new token; empty requests take no part."""
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        ends, contexts, tables = [0], [], []
        for r, chunk in enumerate(new):
            if not chunk:
                continue
            span = range(self.cached[r], self.cached[r] + len(chunk))
            ids += chunk
            positions += span
            slots += [self.tables[r][p // self.page] * self.page + p % self.page for p in span]
            ends.append(len(ids))
            self.cached[r] += len(chunk)
            contexts.append(self.cached[r])
            tables.append(self.tables[r])
        width = -(-max(contexts) // self.page)
        last = [e - 1 for e in ends[1:]]
        columns = (ids, positions, slots, ends, contexts, [t[:width] for t in tables], last)
        return self.run(*[torch.tensor(c) for c in columns], *self.caches)


def eager_rows(model: Any, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Eager logits of each sequence's last token."""
    with torch.no_grad():
        return torch.cat([model(torch.tensor([s]), use_cache=False).logits[:, -1]
                          for s in sequences])  # fmt: skip


def assert_follows_eager(
    step: Driver, model: Any, feeds: Sequence[Sequence[Sequence[int]]], bar: float = 1e-5
) -> None:
    """Logits after each feed of new tokens are eager's for all tokens so far, and so is argmax."""
    seen: list[list[int]] = [[] for _ in feeds[0]]
    for feed in feeds:
        got = step(feed)
        for r, chunk in enumerate(feed):
            seen[r] += chunk
        want = eager_rows(model, [seen[r] for r, chunk in enumerate(feed) if chunk])
        assert relative_error(got, want) <= bar
        assert torch.equal(got.argmax(-1), want.argmax(-1))


def greedy(model: Any, prompts: Sequence[Sequence[int]], new: int) -> list[list[int]]:
    """transformers' own generate, one prompt at a time."""
    out = []
    for p in prompts:
        ids = torch.tensor([p])
        done = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new,
                              do_sample=False, eos_token_id=None, pad_token_id=0)  # fmt: skip
        out.append(done[0, len(p) :].tolist())
    return out


# -- the serving step, fp32 ------------------------------------------------------------------------
@pytest.mark.parametrize("name", some(FAST))
def test_step_logits_are_eager_logits(name: str) -> None:
    model, run = family(name), compiled_step(name)
    assert run.compiled is not None
    assert not run.compiled.imported.islands
    step = Driver(run, len(PROMPTS))
    sequences = [list(p) for p in PROMPTS]
    feeds = [
        [sequences[0], sequences[1], [], sequences[3][:9]],  # a prompt in pieces, one waiting
        [[21], [22], sequences[2], sequences[3][9:]],  # decode and prefill in one step
        [[23], [24], [25], [26]],
        [[], [], [], [27]],
    ]
    assert_follows_eager(step, model, feeds)


@pytest.mark.parametrize("name", some(FAST))
def test_generation_is_that_of_transformers(name: str) -> None:
    want = greedy(family(name), PROMPTS, NEW_TOKENS)
    run = compiled_step(name)
    assert run.generate(PROMPTS, NEW_TOKENS, eos=()) == want
    tight = run.generate(PROMPTS, NEW_TOKENS, eos=(), num_pages=8, max_tokens=5)
    assert tight == want
    assert run.generate([PROMPTS[1]], 3, eos=()) == [want[1][:3]]


@pytest.mark.parametrize("name", some(FAST_BF16))
def test_the_import_of_a_step_needs_no_second_trace(name: str) -> None:
    assert inplace.simple(hf.export_step(family(name), functional=False).graph)


@pytest.mark.parametrize("name", some(FAST))
def test_layers_share_kernels(name: str) -> None:
    compiled = compiled_step(name).compiled
    assert compiled is not None
    assert len(compiled.plan.kernels) < len(compiled.plan.launches)


def test_compiling_leaves_the_model_as_it_was() -> None:
    model = family(FAST[0])
    compiled_step(FAST[0])
    fresh = zoo(FAST[0])
    assert hf.preparation(model) is None
    pairs = zip(model.state_dict().items(), fresh.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# -- the plain call, prepared, with dynamic batch and length ---------------------------------------
class Logits(torch.nn.Module):
    """The plain call of a causal language model, without caches."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, use_cache=False).logits


def compile_prefill(model: Any) -> Executable:
    shapes = ({0: torch.export.Dim("B", max=16), 1: torch.export.Dim("S", max=128)},)
    with torch.no_grad(), hf.prepared(model, verify=False):
        return xcompile(Logits(model), (tokens(3, 7),), dynamic_shapes=shapes, threads=2,
                        strict=True)  # fmt: skip


SHAPES = ((3, 7), (1, 1), (1, 40), (5, 1), (2, 33))


@pytest.mark.parametrize("name", some(FAST_PREFILL))
def test_prefill_logits_are_eager_logits(name: str) -> None:
    model = family(name)
    run = compile_prefill(model)
    for shape in SHAPES:
        ids = tokens(*shape, seed=sum(shape))
        with torch.no_grad():
            want = model(ids, use_cache=False).logits
        got = run(ids)
        assert relative_error(got, want) <= 1e-5
        assert torch.equal(got.argmax(-1), want.argmax(-1))


# -- bf16, with the routing forced -----------------------------------------------------------------
def force_routing(model: Any) -> int:
    """transformers' plain experts, for its grouped product wants sizes that are multiples of 8; and
    every experts layer gets experts and weights that follow from the row number alone, so that
    rounding cannot change a choice. Returns the number of such layers."""
    layers = [m for n, m in model.named_modules() if n.endswith("mlp.experts")]
    if layers:
        model.set_experts_implementation("eager")
    for layer, module in enumerate(layers):
        module.register_forward_pre_hook(_forced(layer, int(module.gate_up_proj.shape[0])))
    return len(layers)


def _forced(layer: int, experts: int) -> Any:
    def hook(module: Any, args: tuple) -> tuple:
        hidden, index, weights = args
        rows = torch.arange(index.shape[0])[:, None]
        columns = torch.arange(index.shape[1])[None]
        chosen = (rows * 3 + columns + layer) % experts
        share = (1.0 + (rows + 2 * columns) % 5) / 8
        return hidden, chosen, share.to(weights.dtype)

    return hook


@pytest.mark.parametrize("name", some(FAST_BF16))
def test_bf16_is_as_close_as_eager_when_the_routing_is_forced(name: str) -> None:
    model = zoo(name, torch.bfloat16)
    exact = zoo(name)
    exact.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    assert force_routing(model) == force_routing(exact) == (0 if name == "llama" else 2)
    run = compile_prefill(model)
    for shape in SHAPES:
        ids = tokens(*shape, seed=sum(shape))
        with torch.no_grad():
            eager = model(ids, use_cache=False).logits
            reference = exact(ids, use_cache=False).logits
        got = run(ids)
        assert relative_error(got, eager) <= 3e-2
        assert_close_to_reference(got, eager, reference, what=f"{name} {shape}")


# -- real weights ----------------------------------------------------------------------------------
@pytest.mark.slow
def test_smollm2_answers_as_in_transformers() -> None:
    model, tokenizer = smollm2()
    chats = ["What is the capital of France?", "Name three colours."]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": chat}], add_generation_prompt=True, return_dict=False
        )
        for chat in chats
    ]
    run = xcompile(model, threads=2, strict=True)
    got = run.generate(prompts, 16, eos=())
    assert got == greedy(model, prompts, 16)
    texts = [tokenizer.decode(ids) for ids in got]
    assert "Paris" in texts[0]
    assert all(t.isprintable() or "\n" in t for t in texts)
