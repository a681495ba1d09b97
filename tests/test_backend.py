"""torch.compile(backend="xllm"): families, dynamic shapes, options, state, changed weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import nn

import xcompile
from tests.zoo import zoo
from xcompile.backend import xllm
from xcompile.errors import XCompileError


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def _error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(33, 47), nn.Linear(47, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


@pytest.mark.parametrize("family", ["deepseek_v3", "mixtral", "llama"])
def test_unprepared_model_is_one_graph_without_islands(family: str) -> None:
    model = zoo(family)
    ids = torch.randint(0, 200, (2, 7))
    fast = torch.compile(model, backend=xllm, fullgraph=True, options={"strict": True})
    with torch.no_grad():
        want = model(ids, use_cache=False).logits
        assert _error(fast(ids, use_cache=False).logits, want) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deepseek_v2", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe"])
def test_more_families(family: str) -> None:
    test_unprepared_model_is_one_graph_without_islands(family)


def test_dynamic_shapes_do_not_recompile() -> None:
    model = zoo("mixtral")
    compiled = 0

    def counting(gm, example_inputs, **kwargs):
        nonlocal compiled
        compiled += 1
        return xllm(gm, example_inputs, **kwargs)

    fast = torch.compile(model, backend=counting, fullgraph=True, dynamic=True)
    counts = []
    with torch.no_grad():
        for shape in ((2, 7), (3, 11), (5, 4), (2, 30)):
            ids = torch.randint(0, 200, shape)
            want = model(ids, use_cache=False).logits
            assert _error(fast(ids, use_cache=False).logits, want) <= 1e-5
            counts.append(compiled)
    # Python floats become constants by one restart of the trace; sizes never cause another.
    assert len(set(counts)) == 1


def test_entry_point_needs_no_import() -> None:
    assert "xllm" in torch._dynamo.list_backends()
    model, x = Mlp(), torch.randn(3, 33)
    with torch.no_grad():
        assert _error(torch.compile(model, backend="xllm")(x), model(x)) < 1e-6


def test_unknown_option_is_named() -> None:
    fast = torch.compile(Mlp(), backend=xllm, options={"thread": 2})
    with torch.no_grad(), pytest.raises(Exception, match="thread") as caught:
        fast(torch.randn(3, 33))
    assert isinstance(caught.value.__cause__ or caught.value.inner_exception, XCompileError)  # type: ignore[attr-defined]


def test_training_runs_eagerly_with_a_message(caplog: pytest.LogCaptureFixture) -> None:
    model = Mlp()
    fast = torch.compile(model, backend=xllm)
    with caplog.at_level(logging.WARNING, "xcompile"):
        fast(torch.randn(3, 33)).sum().backward()
    assert "inference only" in caplog.text
    assert model.up.weight.grad is not None


def test_island_is_named_and_right(caplog: pytest.LogCaptureFixture) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x * 2 + 8 * torch.eye(4)) @ (x + 1)

    x = torch.randn(4, 4)
    with caplog.at_level(logging.WARNING, "xcompile"):
        got = torch.compile(f, backend=xllm)(x)
    assert "linalg_inv" in caplog.text
    assert _error(got, f(x)) < 1e-5
    torch._dynamo.reset()
    with pytest.raises(Exception, match="linalg_inv"):
        torch.compile(f, backend=xllm, options={"strict": True})(x)


def test_changed_weights_are_packed_again() -> None:
    model, x = Mlp(), torch.randn(3, 33)
    fast = torch.compile(model, backend=xllm)
    with torch.no_grad():
        fast(x)
        model.load_state_dict(Mlp().state_dict())
        assert _error(fast(x), model(x)) < 1e-6
        model.down.bias.add_(1.0)
        assert _error(fast(x), model(x)) < 1e-6


def test_inputs_written_in_place() -> None:
    def f(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        cache.index_copy_(1, at, rows)
        return cache.sum(-1)

    for strided in (False, True):
        torch._dynamo.reset()
        ours, theirs = torch.zeros(2, 8, 4), torch.zeros(2, 8, 4)
        if strided:
            ours = ours.transpose(0, 1).contiguous().transpose(0, 1)
        rows, at = torch.randn(2, 3, 4), torch.tensor([5, 0, 7])
        with torch.no_grad():
            got = torch.compile(f, backend=xllm)(ours, rows, at)
            want = f(theirs, rows, at)
        assert torch.equal(ours, theirs)
        assert _error(got, want) < 1e-6


def _normalised_topk(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    values, index = x.topk(3)  # results of their own
    values /= values.sum(-1, keepdim=True)
    return values * 2, index, x


def _write_into_a_part(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x + 1
    first, second = y.split(4, -1)  # views of y, and of each other's memory
    first.mul_(second)
    return y, first, second


@pytest.mark.parametrize("f", [_normalised_topk, _write_into_a_part])
def test_one_of_several_results_written_in_place(
    f: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    retraced = []
    again = torch.export.ExportedProgram.run_decompositions
    monkeypatch.setattr(
        torch.export.ExportedProgram,
        "run_decompositions",
        lambda *args: retraced.append(f) or again(*args),
    )
    x = torch.rand(5, 8)
    for got, want in zip(xcompile.compile(f, (x,))(x), f(x), strict=True):
        torch.testing.assert_close(got, want)
    assert bool(retraced) == (f is _write_into_a_part)  # torch's functional form costs a trace


def test_results_do_not_alias_the_arena() -> None:
    fast = torch.compile(Mlp(), backend=xllm)
    x, y = torch.randn(3, 33), torch.randn(3, 33)
    with torch.no_grad():
        first = fast(x)
        kept = first.clone()
        fast(y)
        assert torch.equal(first, kept)


@torch.no_grad()
def test_padding_by_a_size_of_the_input() -> None:
    torch._dynamo.reset()

    def f(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = torch.nn.functional.pad(x * 2, (1, 2, 0, 1), value=3.0)
        return a, torch.nn.functional.pad(x > 0, (0, 16 - x.shape[1]))

    run = torch.compile(f, backend="xllm", dynamic=True)
    for n in (3, 5, 12):
        x = torch.randn(4, n)
        assert all(map(torch.equal, run(x), f(x)))


def test_slices_with_a_step_written_into_and_bounds_that_are_tensors() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b, c = x.clone(), x.clone(), x.clone()
        a[:, 1:8:3] = y  # of 0..9: 1, 4, 7
        b[:, ::4] = y
        c[..., 12:2:3] = y[:, :0]  # nothing
        low, high = y[:, :1], y[:, :1] + 1
        return a, b, c, torch.clamp(x, low, high), torch.pow(2.0, y), torch.concat([x, y], 1)

    fast = torch.compile(f, backend=xllm, fullgraph=True, options={"strict": True})
    for rows in (4, 5, 9):  # the second one makes the rows dynamic
        x, y = torch.randn(rows, 10), torch.randn(rows, 3)
        for got, want in zip(fast(x, y), f(x, y), strict=True):
            assert torch.allclose(got, want, rtol=1e-6, atol=0)
