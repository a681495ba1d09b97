"""Routed experts in int8: kernel, pass, option."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import call, compiled, graph_of
from tests.zoo_moe import tiny
from xcompile import compile as compile_model
from xcompile import load
from xcompile.check import check
from xcompile.compiler import executor
from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend import torch_ops
from xcompile.frontend.huggingface import prepared
from xcompile.ir import Graph, Type, Value
from xcompile.ops import moe
from xcompile.ops.moe_int8 import MOE_EXPERTS_INT8, quantise, quantised
from xcompile.symbolic import Range, symbol
from xcompile.targets.cpu import LEVELS, missing_features

F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
T = symbol("T")
USABLE = [level for level in LEVELS if not missing_features(level)]


def operands(
    e: int, h: int, i: int, gated: bool, biased: bool, dtype: torch.dtype, seed: int = 0
) -> list[torch.Tensor]:
    """up, its scales, down, its scales, and biases."""
    g = torch.Generator().manual_seed(seed)
    up = torch.randn(e, 2 * i if gated else i, h, generator=g) / h**0.5
    down = torch.randn(e, h, i, generator=g) / i**0.5
    biases = [torch.randn(w.shape[:2], generator=g).to(dtype) for w in (up, down)]
    return [*quantised(up), *quantised(down), *(biases if biased else [])]


def step(dtype: torch.dtype, k: int, weights: list[torch.Tensor], **attrs: Any) -> Graph:
    h = weights[0].shape[2]

    def build(g: Graph, x: Value, expert: Value, weight: Value) -> list[Value]:
        consts = [g.const(w, f"w{n}") for n, w in enumerate(weights)]
        return [g.add(MOE_EXPERTS_INT8, x, expert, weight, *consts, **attrs)]

    types = (Type(dtype, (T, h)), Type(I64, (T, k)), Type(F32, (T, k)))
    return graph_of(build, *types, symbols={"T": Range(0, 4096, 5)})


def runner(g: Graph, target: str = "cpu", threads: int = 2) -> Callable[..., torch.Tensor]:
    run = executor(compiled(g, target), threads)
    return lambda *args: call(g, run, args)[0]


def route(kind: str, n: int, k: int, e: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(n)
    if kind == "one":
        return torch.full((n, k), e - 1)
    if kind == "few":
        return torch.randint(0, 2, (n, k), generator=g) * (e - 1)
    return torch.rand(n, e, generator=g).topk(k, -1).indices


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    """The same steps give the same numbers, but for a value of the activation that is rounded the
    other way: one level of 127 of its row, in few places."""
    assert got.dtype == want.dtype
    if want.numel() == 0:
        return
    error = (got.double() - want.double()).norm() / want.double().norm().clamp_min(1e-30)
    assert error < 1e-3 + 4 * torch.finfo(want.dtype).eps


FORMS = [
    ("silu", True, False), ("gelu", True, True), ("relu2", False, False),
    ("gelu_tanh", False, True), ("swiglu_oai", True, True), ("silu_clamped", True, False),
    ("clamped_silu", True, False),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize(("act", "gated", "biased"), FORMS)
def test_kernel(act: str, gated: bool, biased: bool, dtype: torch.dtype) -> None:
    attrs = {"act": act} | ({"limit": 0.75, "alpha": 1.702} if act in moe.CLAMPED else {})
    weights = operands(5, 100, 70, gated, biased, dtype)
    run = runner(step(dtype, 2, weights, **attrs))
    for n, kind in itertools.product((0, 1, 3, 40, 300), ("random", "one", "few")):
        x = torch.randn(n, 100, generator=torch.Generator().manual_seed(n)).to(dtype)
        ids, w = route(kind, n, 2, 5), torch.rand(n, 2)
        close(run(x, ids, w), MOE_EXPERTS_INT8.ref(x, ids, w, *weights, **attrs))


@pytest.mark.parametrize("level", USABLE)
@pytest.mark.parametrize(("h", "i", "k"), [(37, 33, 1), (64, 64, 8), (200, 31, 3)])
def test_every_level(level: str, h: int, i: int, k: int) -> None:
    weights = operands(9, h, i, True, False, BF16)
    run = runner(step(BF16, k, weights, act="silu"), f"cpu/{level}")
    for n in (1, 2, 5, 8, 11, 33, 70):
        x = torch.randn(n, h, generator=torch.Generator().manual_seed(n)).bfloat16()
        ids, w = route("random", n, k, 9), torch.rand(n, k)
        close(run(x, ids, w), MOE_EXPERTS_INT8.ref(x, ids, w, *weights, act="silu"))


def test_results_do_not_depend_on_threads() -> None:
    weights = operands(6, 96, 80, True, False, BF16)
    g = step(BF16, 2, weights, act="silu")
    x, w = torch.randn(70, 96).bfloat16(), torch.rand(70, 2)
    ids = route("random", 70, 2, 6)
    one, two = (runner(g, threads=n)(x, ids, w) for n in (1, 2))
    assert torch.equal(one, two)


def test_rows_that_are_zero_huge_tiny_or_not_finite() -> None:
    weights = operands(3, 64, 32, True, False, F32)
    run = runner(step(F32, 1, weights, act="silu"))
    x = torch.randn(6, 64)
    x[0], x[1], x[2] = 0.0, x[1] * 1e18, x[2] * 1e-30
    x[3, 5], x[4, 7] = torch.nan, torch.inf
    ids, w = torch.zeros(6, 1, dtype=I64), torch.ones(6, 1)
    got = run(x, ids, w)
    want = MOE_EXPERTS_INT8.ref(x, ids, w, *weights, act="silu")
    assert got[3].isnan().all() and got[4].isnan().all()
    assert want[3].isnan().all() and want[4].isnan().all()
    assert torch.equal(got[0], torch.zeros(64)) and torch.equal(want[0], torch.zeros(64))
    for row in (1, 2, 5):
        close(got[row], want[row])


def test_quantise_is_symmetric_and_exact_at_its_ends() -> None:
    x = torch.tensor([[1.0, -2.0, 0.5, 2.0], [0.0, 0.0, 0.0, 0.0]])
    q, scale = quantise(x)
    assert q.tolist() == [[64, -127, 32, 127], [0, 0, 0, 0]]  # 63.5 and 31.75: ties to even
    assert torch.equal(scale, torch.tensor([[2 / 127], [0.0]]))
    w = torch.randn(3, 8, 50)
    q, scale = quantised(w)
    assert ((q.float() * scale[..., None] - w).abs() <= 0.5 * scale[..., None] + 1e-6).all()


class Logits(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(ids, use_cache=False).logits


class Layer(torch.nn.Module):
    def __init__(self, dtype: torch.dtype = F32) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.up = torch.nn.Buffer((torch.randn(4, 96, 64, generator=g) / 8).to(dtype))
        self.down = torch.nn.Buffer((torch.randn(4, 64, 48, generator=g) / 7).to(dtype))

    def forward(self, x: torch.Tensor, ids: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch_ops.moe_experts(x, ids, w, self.up, self.down, "silu")


def arguments(n: int, dtype: torch.dtype = F32) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(n)
    x = torch.randn(n, 64, generator=g).to(dtype)
    return x, torch.rand(n, 4, generator=g).topk(2, -1).indices, torch.rand(n, 2, generator=g)


def test_the_option_quantises_and_says_so() -> None:
    layer = Layer()
    run = compile_model(layer, arguments(3), quantize="experts-w8a8")
    plain = compile_model(layer, arguments(3))
    assert run.compiled is not None and plain.compiled is not None
    names = [n.op.name for n in run.compiled.graph.nodes]
    assert "moe_experts_int8" in names and "moe_experts" not in names
    x, ids, w = arguments(3)
    want = layer(x, ids, w)
    error = float((run(x, ids, w) - want).norm() / want.norm())
    # A row and a channel of 127 levels: half a step of 1/127 of a maximum that is about three times
    # the root mean square, uniform, on both sides of both products: about 1%.
    assert 1e-3 < error < 2e-2
    report = run.report()
    assert "int8" in report and "int8" not in plain.report()


def test_what_cannot_be_quantised_is_an_error() -> None:
    with pytest.raises(XCompileError, match="unknown quantize='w4'; known: None, 'experts-w8a8'"):
        compile_model(Layer(), arguments(3), quantize="w4")
    with pytest.raises(UnsupportedError, match="found no routed experts"):
        compile_model(torch.nn.Linear(4, 4), (torch.randn(2, 4),), quantize="experts-w8a8")

    class Loose(torch.nn.Module):
        def forward(self, x: Any, ids: Any, w: Any, up: Any, down: Any) -> torch.Tensor:
            return torch_ops.moe_experts(x, ids, w, up, down, "silu")

    layer = Layer()
    with pytest.raises(UnsupportedError, match="weights that are constants"):
        compile_model(Loose(), (*arguments(3), layer.up, layer.down), quantize="experts-w8a8")


@pytest.mark.parametrize(
    ("family", "dtype"), [("mixtral", F32), ("deepseek_v3", F32), ("gpt_oss", F32)]
)
def test_a_model_in_int8(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """The serving step of a small model: held to the quantised graph, saved and loaded."""
    model = tiny(family, dtype, 8, 2)
    if family == "gpt_oss":  # its attention has sinks, which the step may lack
        example = (torch.arange(3, 12)[None],)
        with prepared(model, attention=False):
            run = compile_model(Logits(model), example, quantize="experts-w8a8", threads=1)
    else:
        run = compile_model(model, quantize="experts-w8a8", threads=1)
    assert run.compiled is not None and run.examples is not None
    ops = [n.op.name for n in run.compiled.graph.nodes]
    assert "moe_experts" not in ops and "moe_experts_int8" in ops and "moe_route" in ops
    recorded = run.examples()
    assert recorded.drift is not None and 1e-4 < recorded.drift < 0.2
    assert all(row.ok for row in check(run, recorded))
    run.save(tmp_path / "a")
    again = load(tmp_path / "a", threads=1)
    assert again.examples is not None and again.examples().drift == recorded.drift
    assert "int8" in again.report()
    given = [t.clone() for t in recorded.inputs], [t.clone() for t in recorded.inputs]
    for a, b in zip(run.executor(*given[0]), again.executor(*given[1]), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3"])
def test_a_model_in_int8_over_bf16(family: str) -> None:
    model = tiny(family, BF16, 8, 2)
    run = compile_model(model, quantize="experts-w8a8", threads=1)
    assert run.examples is not None
    recorded = run.examples()
    assert recorded.reference and all(row.ok for row in check(run, recorded))
    assert len(run.generate([[3, 4, 5]], max_new_tokens=4)[0]) == 4


def test_torch_compile_takes_the_option() -> None:
    torch._dynamo.reset()
    layer = Layer()
    f = torch.compile(layer, backend="xllm", options={"quantize": "experts-w8a8", "strict": True})
    x, ids, w = arguments(5)
    with torch.no_grad():
        got, want = f(x, ids, w), layer(x, ids, w)
    assert 1e-3 < float((got - want).norm() / want.norm()) < 2e-2
