"""Decoders written like DeepSeek's own inference code, through torch.compile(backend="xllm")."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import native_deepseek as nd
import pytest
import torch
from helpers import assert_close_to_reference
from torch import Tensor

import xcompile
from xcompile import backend, compiler
from xcompile.errors import XCompileError
from xcompile.frontend import huggingface as hf
from xcompile.frontend import native_mla, native_moe
from xcompile.report import summarise

SOFTMAX = nd.Gating()
SIGMOID = nd.Gating("sigmoid", bias=True, groups=4, kept=2, factor=2.5)
PROMPT, STEPS = 7, 8


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[compiler.Compiled]]:
    """What the backend compiled, in order."""
    made: list[compiler.Compiled] = []
    original = compiler.compile_graph

    def spy(*args: Any, **kwargs: Any) -> compiler.Compiled:
        made.append(original(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(backend, "compile_graph", spy)
    torch._dynamo.reset()
    yield made
    torch._dynamo.reset()


def fast(model: torch.nn.Module) -> Callable[..., Tensor]:
    options = {"strict": True, "threads": 1}
    return torch.compile(model, backend="xllm", fullgraph=True, dynamic=True, options=options)


def run(model: Callable[..., Tensor], batch: int, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Logits ``[1 + steps, B, V]`` and greedy tokens of a prompt and what follows."""
    ids = torch.randint(0, 96, (batch, PROMPT), generator=torch.Generator().manual_seed(1))
    logits = [model(ids, 0)]
    for at in range(PROMPT, PROMPT + steps):
        logits.append(model(logits[-1].argmax(-1, keepdim=True), at))
    out = torch.stack(logits)
    return out.detach().clone(), out.argmax(-1)


def ops(c: compiler.Compiled) -> list[str]:
    return [n.op.name for n in c.graph.walk()]


def writes_whole_caches(c: compiler.Compiled) -> list[str]:
    """Nodes that make a new tensor as large as a cache."""
    state = {c.graph.inputs[i].shape for i in c.graph.state.values()}
    return [
        n.op.name
        for n in c.graph.nodes
        if not n.op.view and not n.op.alias and any(v.shape in state for v in n.outputs)
    ]


@pytest.mark.parametrize(
    ("naive", "gating"),
    [
        pytest.param(False, SOFTMAX, id="absorb-softmax"),
        pytest.param(True, SIGMOID, id="naive-sigmoid"),
        pytest.param(False, SIGMOID, id="absorb-sigmoid", marks=pytest.mark.slow),
        pytest.param(True, SOFTMAX, id="naive-softmax", marks=pytest.mark.slow),
    ],
)
def test_tokens_are_those_of_eager(
    naive: bool, gating: nd.Gating, compiled: list[compiler.Compiled]
) -> None:
    model = nd.decoder(naive=naive, gating=gating, query_rank=20 if naive else 0)
    want, tokens = run(model, 2)
    got, chosen = run(fast(xcompile.prepare(copy.deepcopy(model))), 2)
    assert torch.equal(chosen, tokens)
    torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)
    assert len(compiled) == 2, "one graph for prompts, one for every decode step"
    for c in compiled:
        assert ops(c).count("moe_experts") == ops(c).count("moe_route") == 1
        assert ops(c).count("attention") == 2 and "softmax" not in ops(c)
        assert ops(c).count("rope") == 4 and ops(c).count("index_copy") == 2
        assert not c.imported.islands and not writes_whole_caches(c)
        steps = summarise(c).steps
        assert not any(step.island for step in steps)
        assert {"moe_experts", "moe_route", "attention"} <= {step.op for step in steps}
    prompt, step = ([n for n in c.graph.walk() if n.op.name == "attention"] for c in compiled)
    assert all(n.attrs["causal"] and len(n.inputs) == 3 for n in prompt)
    for n in step:  # keys and values are read from the rows of the cache
        assert n.inputs[1].shape[1] == 1 and n.inputs[1].shape[3] == 16 + 8
        assert n.inputs[2].shape[3] == 16
    caches = {str(v.type) for v in compiled[1].graph.inputs if v.type.rank == 3}
    assert caches == {"f32[2, 48, 24]"}


@pytest.mark.parametrize(
    "naive", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["absorb", "naive"]
)
def test_attention_as_it_is_needs_no_islands(
    naive: bool, compiled: list[compiler.Compiled]
) -> None:
    model = nd.decoder(naive=naive)
    ours = xcompile.prepare(copy.deepcopy(model), attention=False)
    assert torch.equal(run(fast(ours), 2)[1], run(model, 2)[1])
    assert len(compiled) == 2
    for c in compiled:
        assert not c.imported.islands and not writes_whole_caches(c)
        assert ops(c).count("index_copy") == 4


def test_part_of_a_batch_leaves_the_rest_of_the_caches_alone(
    compiled: list[compiler.Compiled],
) -> None:
    model = nd.decoder(dense_layers=2, naive=True)
    ours = copy.deepcopy(model)
    for cache in (b for n, b in ours.named_buffers() if n != "turns"):
        cache.fill_(7.0)
    assert torch.equal(run(fast(ours), 1)[1], run(model, 1)[1])
    for name, cache in ours.named_buffers():
        if name != "turns":
            end = PROMPT + STEPS
            torch.testing.assert_close(cache[:1, :end], dict(model.named_buffers())[name][:1, :end])
            assert bool((cache[1:] == 7).all()) and bool((cache[:, end:] == 7).all())
    assert not any(writes_whole_caches(c) for c in compiled)


def test_positions_beyond_the_cache_are_an_error(compiled: list[compiler.Compiled]) -> None:
    model = nd.decoder(dense_layers=2)
    ours = fast(model)
    run(ours, 2)
    with pytest.raises(Exception, match=r"shape|size|expand"):
        ours(torch.zeros(2, 1, dtype=torch.int64), 48)


def test_bf16_is_as_close_as_eager_when_the_routing_is_forced(
    compiled: list[compiler.Compiled],
) -> None:
    def build(dtype: torch.dtype) -> nd.Decoder:
        model = nd.decoder(dtype, rank=32, nope=16)
        model.layers[1].mlp.router = nd.Fixed([5, 0, 3], dtype)
        return model

    eager = build(torch.bfloat16)
    exact = build(torch.float64)
    exact.load_state_dict(eager.state_dict())
    ours = fast(xcompile.prepare(copy.deepcopy(eager)))
    ids = torch.randint(0, 96, (2, PROMPT + STEPS), generator=torch.Generator().manual_seed(1))
    for at in (0, *range(PROMPT, PROMPT + STEPS)):
        step = ids[:, :PROMPT] if at == 0 else ids[:, at : at + 1]
        got, want, reference = (m(step, at) for m in (ours, eager, exact))
        assert_close_to_reference(got, want, reference, what=f"position {at}")
    assert ops(compiled[1]).count("moe_experts") == 1


def test_weights_that_change_are_packed_again(compiled: list[compiler.Compiled]) -> None:
    model = nd.decoder()
    ours = xcompile.prepare(copy.deepcopy(model))
    call = fast(ours)
    run(call, 2, 1)
    with torch.no_grad():
        other = {k: v + 0.1 * torch.ones_like(v) for k, v in model.state_dict().items()}
        model.load_state_dict(other)
        ours.load_state_dict(other)
    torch.testing.assert_close(run(call, 2, 1)[0], run(model, 2, 1)[0], rtol=2e-5, atol=2e-5)
    with torch.no_grad():
        for m in (model, ours):
            m.layers[1].mlp.parts[2].back.weight.mul_(1.5)
    torch.testing.assert_close(run(call, 2, 1)[0], run(model, 2, 1)[0], rtol=2e-5, atol=2e-5)


class Memory(torch.nn.Module):
    """One graph writes a buffer, another one only reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(4, 8))

    @torch.no_grad()
    def forward(self, x: Tensor, at: int, write: bool) -> Tensor:
        if write:
            self.rows[at : at + x.shape[0]] = 2 * x
        return x @ self.rows.t()


def test_a_buffer_that_another_graph_wrote_is_read_again(
    compiled: list[compiler.Compiled],
) -> None:
    model = Memory().requires_grad_(False)
    ours = copy.deepcopy(model)
    call = fast(ours)
    for at in (0, 2):
        x = torch.randn(2, 8)
        for write in (True, False):
            torch.testing.assert_close(call(x, at, write), model(x, at, write))
            torch.testing.assert_close(ours.rows, model.rows)
    assert not any(writes_whole_caches(c) for c in compiled)


# -- prepare ---------------------------------------------------------------------------------------
def mixture(**sizes: Any) -> nd.Mixture:
    torch.manual_seed(0)
    return nd.Mixture(nd.Sizes(**sizes)).eval()


def test_prepare_finds_the_parts_and_restore_puts_the_forward_back() -> None:
    model = nd.decoder()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    xcompile.prepare(model)
    record = hf.preparation(model)
    assert record.experts == ("layers.1.mlp",) and not record.unreplaced
    assert record.attention == ("layers.0.attention", "layers.1.attention")
    assert record.verified == record.experts + record.attention
    with torch.no_grad():
        found = native_moe.describe(model.layers[1].mlp)
    assert found == native_moe.Mixture(
        "parts", "router", True, ("common",), "first.weight", "second.weight", "back.weight", "silu"
    )
    with pytest.raises(XCompileError, match="already prepared"):
        xcompile.prepare(model)
    xcompile.restore(model)
    assert hf.preparation(model) is None and "forward" not in vars(model.layers[1].mlp)
    assert "forward" not in vars(model.layers[1].attention)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_weights_lie_once_in_memory_also_after_conversion() -> None:
    m = mixture()
    xcompile.prepare(m)
    x = torch.randn(5, 32)
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        m.to(dtype)
        stack = getattr(m, native_moe.UP)
        first = m.parts[3].first.weight
        assert stack.dtype == first.dtype == dtype
        assert first.data_ptr() == stack[3].data_ptr()
        with torch.no_grad():
            want = type(m).forward(m, x.to(dtype))
            torch.testing.assert_close(m(x.to(dtype)), want, rtol=2e-2, atol=1e-2)


def test_assigned_weights_are_stacked_again() -> None:
    m = mixture()
    other = {k: v * 2 for k, v in m.state_dict().items()}
    xcompile.prepare(m)
    m.load_state_dict(other, assign=True)
    x = torch.randn(5, 32)
    with torch.no_grad():
        torch.testing.assert_close(m(x), type(m).forward(m, x), rtol=1e-5, atol=1e-5)


class Doubled(nd.Mixture):
    """Does more than the sum of its parts."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Louder(nd.Attention):
    """Does something else with its input."""

    def forward(self, x: Tensor, start_pos: int, freqs_cis: Tensor, mask: Tensor | None) -> Tensor:
        return super().forward(1.1 * x, start_pos, freqs_cis, mask)


class Tanh(nd.Gated):
    def forward(self, x: Tensor) -> Tensor:
        return self.back(torch.tanh(self.first(x)) * self.second(x))


def _with_tanh() -> nd.Mixture:
    m = mixture()
    m.parts = torch.nn.ModuleList(Tanh(32, 24) for _ in range(8))
    return m


def _without_router() -> nd.Mixture:
    m = mixture()
    m.router = nd.Dense(32, 8)
    return m


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Doubled(nd.Sizes()), "rows differs from the original"),
        (_with_tanh, "its experts are not down"),
        (_without_router, "no part of it returns weights and expert ids"),
        (lambda: torch.nn.Linear(2, 2), "no lists of experts, no MLA"),
        (lambda: _mla(indexer=torch.nn.Linear(2, 2)), "an indexer chooses"),
        (lambda: Louder(nd.Sizes()), "a prompt differs from the original"),
        (lambda: _mla(qk_head_dim=15), "raised RuntimeError"),
    ],
)
def test_what_is_not_a_mixture_is_left_alone(
    make: Callable[[], torch.nn.Module], message: str
) -> None:
    torch.manual_seed(0)
    model = make()
    with pytest.raises(XCompileError, match=message):
        xcompile.prepare(model)
    assert "forward" not in vars(model) and hf.preparation(model) is None


# -- MLA -------------------------------------------------------------------------------------------
def _mla(**attributes: Any) -> nd.Attention:
    torch.manual_seed(0)
    m = nd.Attention(nd.Sizes(naive=attributes.pop("naive", False)))
    for name, value in attributes.items():
        setattr(m, name, value)
    return m.eval()


def test_latents_move_to_the_new_cache_and_back() -> None:
    model = nd.decoder()
    reference = copy.deepcopy(model)
    ids = torch.arange(10).view(2, 5)
    model(ids, 0)
    reference(ids, 0)
    xcompile.prepare(model)
    with torch.no_grad():
        a, b = model(ids[:, :1], 5), reference(ids[:, :1], 5)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    xcompile.restore(model)
    for name, cache in reference.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), cache, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        a, b = model(ids[:, :1], 6), reference(ids[:, :1], 6)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_naive_forms_cache_shrinks_and_comes_back_empty() -> None:
    m = _mla(naive=True)
    before = {n: b.shape for n, b in m.named_buffers()}
    xcompile.prepare(m)
    assert [tuple(b.shape) for b in m.buffers()] == [(2, 48, 24)]
    m.to(torch.bfloat16)
    xcompile.restore(m)
    assert {n: b.shape for n, b in m.named_buffers()} == before
    assert all(b.dtype == torch.bfloat16 and not b.any() for b in m.buffers())


def test_attention_is_left_where_it_was_before_a_failed_trial() -> None:
    m = Louder(nd.Sizes())
    m.kv_cache.fill_(3.0)
    with pytest.raises(XCompileError):
        xcompile.prepare(m)
    assert set(dict(m.named_buffers())) == {"kv_cache", "pe_cache"}
    assert native_mla.LATENTS not in dict(m.named_buffers())
    assert bool((m.kv_cache == 3).all()) and not m.pe_cache.any()
