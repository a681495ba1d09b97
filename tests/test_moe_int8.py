"""Routed experts in int8: kernel, pass, option."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.helpers import (
    FAST_LEVELS,
    LEVELS_HERE,
    OPS,
    call,
    compiled,
    graph_of,
    relative_error,
    run_graph,
)
from tests.test_families import Logits, force_routing, tokens
from tests.zoo import zoo
from tests.zoo_moe import tiny
from xcompile import compile as compile_model
from xcompile import load
from xcompile.check import check
from xcompile.cli import app
from xcompile.compiler import executor, make_target
from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend import torch_ops
from xcompile.frontend.huggingface import prepared
from xcompile.ir import Graph, Type, Value
from xcompile.lazy import Lazy, made
from xcompile.ops import moe
from xcompile.ops.moe_int8 import MOE_EXPERTS_INT8, quantise, quantised
from xcompile.passes import run_pass
from xcompile.symbolic import Range, symbol
from xcompile.text import parse, to_text

F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
T = symbol("T")
USABLE = [
    pytest.param(level, marks=() if level in FAST_LEVELS else pytest.mark.slow)
    for level in LEVELS_HERE
]


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


def steps(
    x: torch.Tensor, expert: torch.Tensor, weight: torch.Tensor, up: torch.Tensor,
    up_scale: torch.Tensor, down: torch.Tensor, down_scale: torch.Tensor, *bias: torch.Tensor,
    act: str, limit: float = 0.0, alpha: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """The steps of the op's description in float64, for each token and slot: results, and for each
    token the sum of what the slots' largest results weigh."""
    out, size = x.double() * 0, torch.zeros(len(x), dtype=torch.float64)

    def product(row: torch.Tensor, w: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        largest = row.float().abs().max()  # levels are chosen in float32
        q = torch.round(row.float() * (127.0 / largest)) if largest > 0 else row.float() * 0
        return (w.long() @ q.long()).double() * scale.double() * (largest.double() / 127)

    for t in range(len(x)):
        for k, e in enumerate(expert[t].tolist()):
            h = product(x[t], up[e], up_scale[e])
            h = h + bias[0][e].double() if bias else h
            if len(h) == down.shape[2]:
                h = moe.ACTIVATIONS[act](h)
            else:
                h = moe.gate(act, *h.chunk(2), limit, alpha)
            y = product(h.to(x.dtype), down[e], down_scale[e])
            y = y + bias[1][e].double() if bias else y
            out[t] += weight[t, k].double() * y
            size[t] += float(weight[t, k]) * y.abs().max()
    return out, size


def check_steps(got: torch.Tensor, args: list[torch.Tensor], **attrs: Any) -> None:
    """Each row is right to a few units in the last place. But float32 differs from float64: a value
    of the activation that lies between two levels, or between two of bf16, may be rounded to the
    other one; if it is the row's largest, all levels move. Such rows are few, and off by no more
    than a few levels of 127."""
    want, size = steps(*args, **attrs)
    off = (got.double() - want).abs().amax(-1) / size.clamp_min(1e-30)
    tight = 2e-6 + torch.finfo(got.dtype).eps * (got.dtype != F32)
    assert got.dtype == args[0].dtype and got.shape == want.shape
    assert off.max() <= 6 / 127
    assert int((off > tight).sum()) <= 1 + len(off) // 50


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
        g = torch.Generator().manual_seed(n)
        x, w = torch.randn(n, 100, generator=g).to(dtype), torch.rand(n, 2, generator=g)
        args = [x, route(kind, n, 2, 5), w]
        got = run(*args)
        close(got, MOE_EXPERTS_INT8.ref(*args, *weights, **attrs))
        if 0 < n <= 40:
            check_steps(got, [*args, *weights], **attrs)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("level", USABLE)
@pytest.mark.parametrize(("h", "i", "k"), [(37, 33, 1), (64, 64, 8), (200, 31, 3)])
def test_every_level(level: str, h: int, i: int, k: int, dtype: torch.dtype) -> None:
    weights = operands(9, h, i, True, False, dtype)
    run = runner(step(dtype, k, weights, act="silu"), f"cpu/{level}")
    for n in (1, 2, 5, 8, 11, 33, 70):
        g = torch.Generator().manual_seed(n)
        x, w = torch.randn(n, h, generator=g).to(dtype), torch.rand(n, k, generator=g)
        args = [x, route("random", n, k, 9), w]
        check_steps(run(*args), [*args, *weights], act="silu")


@pytest.mark.parametrize("level", USABLE)
def test_the_largest_sums_are_exact(level: str) -> None:
    """Weights and rows of the largest numbers, also -128, over a K at which sums of rows that are
    moved by 128 leave 32 bits."""
    h, rows = 70_000, 9
    up = torch.full((1, 2, h), 127, dtype=torch.int8)
    up[0, 1] = -128
    down = torch.tensor([[[127, -128]]], dtype=torch.int8).expand(1, h, 2).contiguous()
    weights = [up, torch.full((1, 2), 1e-9), down, torch.full((1, h), 1e-2)]
    run = runner(step(F32, 1, weights, act="relu2"), f"cpu/{level}")
    for n in (1, rows):
        x = torch.ones(n, h)
        args = [x, torch.zeros(n, 1, dtype=I64), torch.ones(n, 1)]
        # One unit is relu(127 * 127 K 1e-9 / 127)^2, the other 0.
        want = (127 * h * 1e-9) ** 2 * 127 * 1e-2
        assert (run(*args) - want).abs().max() <= 1e-6 * want


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


@pytest.mark.parametrize(("act", "gated", "biased"), FORMS)
def test_a_row_that_is_not_finite_is_nan_through_every_unit(
    act: str, gated: bool, biased: bool
) -> None:
    attrs = {"act": act} | ({"limit": 0.75, "alpha": 1.702} if act in moe.CLAMPED else {})
    run = runner(step(F32, 2, operands(5, 100, 70, gated, biased, F32), **attrs))
    x = torch.randn(9, 100, generator=torch.Generator().manual_seed(1))
    x[4, 17], x[6, 99], x[7, 0] = torch.nan, torch.inf, -torch.inf
    got = run(x, route("random", 9, 2, 5), torch.ones(9, 2))
    assert got[[4, 6, 7]].isnan().all() and got[[0, 1, 2, 3, 5, 8]].isfinite().all()


def test_rows_may_lie_apart() -> None:
    weights = operands(4, 40, 24, True, False, F32)

    def build(g: Graph, x: Value, expert: Value, weight: Value) -> list[Value]:
        consts = [g.const(w, f"w{n}") for n, w in enumerate(weights)]
        part = g.add(OPS["slice"], x, dim=1, start=3, stop=43, step=1)
        return [g.add(MOE_EXPERTS_INT8, part, expert, weight, *consts, act="gelu")]

    x, expert, weight = torch.randn(7, 50), route("random", 7, 2, 4), torch.rand(7, 2)
    g = graph_of(build, x, expert, weight)
    (got,) = run_graph(g, [x, expert, weight])
    check_steps(got, [x[:, 3:43], expert, weight, *weights], act="gelu")


def test_an_expert_that_does_not_exist_is_an_error_with_its_value() -> None:
    run = runner(step(F32, 2, operands(5, 100, 70, True, False, F32), act="silu"))
    with pytest.raises(IndexError, match=r"expert id.*: 5$"):
        run(torch.randn(2, 100), torch.tensor([[0, 1], [5, 2]]), torch.ones(2, 2))


def test_quantise_is_symmetric_and_exact_at_its_ends() -> None:
    x = torch.tensor([[1.0, -2.0, 0.5, 2.0], [0.0, 0.0, 0.0, 0.0]])
    q, scale = quantise(x)
    assert q.tolist() == [[64, -127, 32, 127], [0, 0, 0, 0]]  # 63.5 and 31.75: ties to even
    assert torch.equal(scale, torch.tensor([[2 / 127], [0.0]]))
    w = torch.randn(3, 8, 50)
    q, scale = quantised(w)
    assert ((q.float() * scale[..., None] - w).abs() <= 0.5 * scale[..., None] + 1e-6).all()


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
    # 3 of 4 bytes of 4 x 64 x (96 + 48) numbers, without 4 bytes for each of 4 x (96 + 64) channels
    assert "1 x routed experts: weights and their inputs in int8, 108 kB less" in report
    assert "int8" not in plain.report()


def test_int8_weights_are_made_when_they_are_read() -> None:
    layer = Layer()
    run = compile_model(layer, arguments(3), quantize="experts-w8a8")
    assert run.compiled is not None
    lazy = [t for t in run.compiled.graph.consts.values() if isinstance(t, Lazy)]
    want = [*quantised(layer.up), *quantised(layer.down)]
    assert len(lazy) == len(want)
    for a, b in zip(lazy, want, strict=True):
        assert torch.equal(made(a), b) and torch.equal(a + 0, b) and a.shape == b.shape
        assert type(a + 0) is type(made(a)) is torch.Tensor


def test_a_graph_without_data_is_quantised_too() -> None:
    run = compile_model(Layer(), arguments(3))
    assert run.compiled is not None
    g = run_pass("quantise_experts", parse(to_text(run.compiled.graph)), make_target("cpu"))
    g.verify()
    (n,) = g.nodes
    assert n.op is MOE_EXPERTS_INT8 and all(t is None for t in g.consts.values())


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
    "family",
    ["deepseek_v3", *(pytest.param(f, marks=pytest.mark.slow) for f in ("mixtral", "gpt_oss"))],
)
def test_a_model_in_int8(family: str, tmp_path: Path) -> None:
    """The serving step of a small model: held to the quantised graph, saved and loaded."""
    model = tiny(family, F32, 8, 2)
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


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3"])
def test_a_model_in_int8_over_bf16(family: str) -> None:
    model = tiny(family, BF16, 8, 2)
    run = compile_model(model, quantize="experts-w8a8", threads=1)
    assert run.examples is not None
    recorded = run.examples()
    assert recorded.reference and all(row.ok for row in check(run, recorded))
    assert len(run.generate([[3, 4, 5]], max_new_tokens=4)[0]) == 4


@pytest.mark.parametrize("family", ["mixtral", pytest.param("deepseek_v3", marks=pytest.mark.slow)])
def test_logits_move_little_when_the_routing_is_forced(family: str) -> None:
    """A row's largest of K values is three to four times their root mean square, so rounding to 127
    levels moves each of the four rounded operands by 3.5 / 127 / sqrt(12) = 0.8% of its norm: the
    experts' results by about 2%, the logits, of which they are a part, by less."""
    model = zoo(family)
    assert force_routing(model) == 2
    ids = tokens(3, 33)
    with torch.no_grad(), prepared(model, verify=False):
        run = compile_model(Logits(model), (ids,), quantize="experts-w8a8", threads=1, strict=True)
    with torch.no_grad():
        want = model(ids, use_cache=False).logits
    assert 1e-4 < relative_error(run(ids), want) <= 3e-2


LOAD = """
import sys, torch, xcompile
x, ids, w, want = torch.load(sys.argv[2])
exe = xcompile.load(sys.argv[1], threads=1)
assert torch.equal(exe(x, ids, w), want)
"""


def test_an_artifact_runs_in_another_process(tmp_path: Path) -> None:
    run = compile_model(Layer(BF16), arguments(3, BF16), quantize="experts-w8a8")
    run.save(tmp_path / "a")
    torch.save([*arguments(3, BF16), run(*arguments(3, BF16))], tmp_path / "x.pt")
    code = [sys.executable, "-c", LOAD, str(tmp_path / "a"), str(tmp_path / "x.pt")]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MODEL = """
import sys
sys.path.insert(0, {root!r})
from tests.test_moe_int8 import Layer, arguments
model, inputs = Layer(), arguments(3)
"""


def test_the_command_line_quantises_and_checks(tmp_path: Path) -> None:
    file, out = tmp_path / "layer.py", tmp_path / "out"
    file.write_text(MODEL.format(root=str(Path(__file__).parent.parent)))

    def cli(*args: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in args])

    result = cli(file, "-o", out, "--quantize", "experts-w4")
    assert result.exit_code and "known: None, 'experts-w8a8'" in " ".join(result.output.split())
    result = cli(file, "-o", out, "--quantize", "experts-w8a8")
    assert result.exit_code == 0, result.output
    assert "quantised" in load(out).report()
    result = cli("run", out, "--check")
    assert result.exit_code == 0, result.output
    assert "quantisation moved its results by" in result.output


def test_torch_compile_takes_the_option() -> None:
    torch._dynamo.reset()
    layer = Layer()
    f = torch.compile(layer, backend="xllm", options={"quantize": "experts-w8a8", "strict": True})
    x, ids, w = arguments(5)
    with torch.no_grad():
        got, want = f(x, ids, w), layer(x, ids, w)
    assert 1e-3 < float((got - want).norm() / want.norm()) < 2e-2
