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
from xcompile.frontend import native_moe

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


@pytest.mark.parametrize("gating", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("naive", [False, True], ids=["absorb", "naive"])
def test_tokens_are_those_of_eager(
    naive: bool, gating: nd.Gating, compiled: list[compiler.Compiled]
) -> None:
    model = nd.decoder(naive=naive, gating=gating)
    want, tokens = run(model, 2)
    ours = xcompile.prepare(copy.deepcopy(model))
    got, chosen = run(fast(ours), 2)
    assert torch.equal(chosen, tokens)
    torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)
    assert len(compiled) == 2, "one graph for prompts, one for every decode step"
    for c in compiled:
        assert ops(c).count("moe_experts") == ops(c).count("moe_route") == 1
        assert not c.imported.islands and not writes_whole_caches(c)


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


# -- prepare ---------------------------------------------------------------------------------------
def mixture(**sizes: Any) -> nd.Mixture:
    torch.manual_seed(0)
    return nd.Mixture(nd.Sizes(**sizes)).eval()


def test_prepare_finds_the_parts_and_restore_puts_the_forward_back() -> None:
    model = nd.decoder()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    xcompile.prepare(model)
    record = hf.preparation(model)
    assert record is not None and record.experts == record.verified == ("layers.1.mlp",)
    with torch.no_grad():
        found = native_moe.describe(model.layers[1].mlp)
    assert found == native_moe.Mixture(
        "parts", "router", True, ("common",), "first.weight", "second.weight", "back.weight", "silu"
    )
    with pytest.raises(XCompileError, match="already prepared"):
        xcompile.prepare(model)
    xcompile.restore(model)
    assert hf.preparation(model) is None and "forward" not in vars(model.layers[1].mlp)
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
        (lambda: torch.nn.Linear(2, 2), "no lists of experts"),
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
