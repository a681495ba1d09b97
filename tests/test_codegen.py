"""Emitted sources: the same every time, shared by layers, warning-free, honest about limits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers import (
    FAST_LEVELS,
    OPS,
    WEIGHTS,
    Batch,
    add,
    call,
    compiled,
    graph_of,
    in_dtype,
    optimised,
    run_graph,
    type_of,
)
from xcompile import compile as xcompile
from xcompile.codegen.lower import lower
from xcompile.codegen.sources import PARTS, emit
from xcompile.compiler import executor, make_target
from xcompile.errors import UnsupportedError
from xcompile.hostcc import compiler
from xcompile.ir import Graph, Type, Value
from xcompile.symbolic import Range, symbol
from xcompile.targets.cpu import FLAGS, LEVELS

T = symbol("T")
SYMBOLS = {"T": Range(1, 64, 5)}
F32, BF16, F16, F64, I64, I32 = (
    torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32,
)  # fmt: skip
CPU = make_target("cpu")


def random(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def sources(g: Graph) -> dict[str, str]:
    return emit(lower(optimised(g), CPU), CPU)


def layers(count: int, dtype: torch.dtype = F32) -> Graph:
    """Identical small transformer layers over tokens, with different weights."""

    def build(g: Graph, x: Value) -> list[Value]:
        def weight(*shape: int) -> Value:
            w = random(*shape, dtype=dtype, seed=len(g.consts)) / 4
            return g.const(w, f"w{len(g.consts)}")

        for _ in range(count):
            h = add(g, "rms_norm", x, weight(32), eps=1e-6)
            q, k, v = (add(g, "linear", h, weight(32, 32)) for _ in range(3))
            q, k, v = (add(g, "permute", add(g, "reshape", y, shape=(1, T, 4, 8)),
                           perm=(0, 2, 1, 3)) for y in (q, k, v))  # fmt: skip
            q = add(g, "rope", q, weight(8), weight(8), interleaved=False)
            o = add(g, "attention", q, k, v, causal=True, scale=0.35)
            o = add(g, "reshape", add(g, "permute", o, perm=(0, 2, 1, 3)), shape=(T, 32))
            x = add(g, "add", x, add(g, "linear", o, weight(32, 32)))
            h = add(g, "rms_norm", x, weight(32), eps=1e-6)
            gate, up = (add(g, "linear", h, weight(48, 32)) for _ in range(2))
            h = add(g, "mul", add(g, "silu", gate), up)
            x = add(g, "add", x, add(g, "linear", h, weight(32, 48)))
        return [add(g, "softmax", x)]

    return graph_of(build, Type(dtype, (T, 32)), symbols=SYMBOLS)


# -- the same input gives the same bytes -----------------------------------------------------------
def test_equal_graphs_give_equal_sources() -> None:
    first, second = sources(layers(2)), sources(layers(2))
    assert first == second
    assert {"host.cpp", "kernels_0.cpp"} <= set(first)


FINGERPRINT = """
import hashlib
from tests.test_codegen import layers, sources
from tests.test_fuzz import random_graph
from random import Random
for g in (layers(2), random_graph(Random(5), 6)):
    print(hashlib.sha256(repr(sorted(sources(g).items())).encode()).hexdigest())
"""


def test_sources_do_not_depend_on_the_process() -> None:
    def fingerprint(hash_seed: str) -> str:
        root = Path(__file__).parent.parent
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run([sys.executable, "-c", FINGERPRINT], env=env, cwd=root,
                              capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout

    prints = {fingerprint(s) for s in ("0", "12345")}
    assert len(prints) == 1
    assert prints.pop().count("\n") == 2


def test_the_plan_text_names_everything_once() -> None:
    plan = lower(optimised(layers(2)), CPU)
    text = plan.text()
    assert text == lower(optimised(layers(2)), CPU).text()
    assert all(name in text for name in plan.kernels)
    assert f"# {len(plan.launches)} launches of {len(plan.kernels)} kernels" in text
    assert "arena at T=8" in text


# -- identical layers share their kernels ----------------------------------------------------------
def test_identical_layers_share_kernels() -> None:
    two, four = (lower(optimised(layers(n)), CPU) for n in (2, 4))
    assert len(four.kernels) <= len(two.kernels) + 1
    assert len(four.kernels) * 2 < len(four.launches)
    assert len(two.launches) * 2 - 2 <= len(four.launches) <= len(two.launches) * 2


def test_every_kernel_is_emitted_once() -> None:
    plan = lower(optimised(layers(4)), CPU)
    text = "".join(v for k, v in emit(plan, CPU).items() if k.startswith("kernels_"))
    for name in plan.kernels:
        assert text.count(f"void {name}(") == 1


def test_identical_layers_compute_what_the_graph_says() -> None:
    for dtype, limit in ((F32, 1e-5), (BF16, 3e-2)):
        g = layers(2, dtype)
        run = executor(compiled(g), 2)
        for rows in (1, 5, 33):
            x = random(rows, 32, dtype=dtype)
            (got,), (want,) = call(g, run, [x]), g.eval(x)
            assert float((got.float() - want.float()).norm() / want.float().norm()) <= limit


# -- goldens ---------------------------------------------------------------------------------------
def kernel_text(name: str) -> str:
    """The kernels of one op's sample, with a linear's weight constant and fp32 types."""
    op = OPS[name]
    args, attrs = op.sample(torch.Generator().manual_seed(0))  # type: ignore[misc]
    b = Batch()
    b.op(name, op, args, attrs, WEIGHTS.get(name, ()))
    return kernels_of(b.graph)


def kernels_of(g: Graph) -> str:
    plan = lower(optimised(g), CPU)
    return "\n\n".join(text for _, text in sorted(plan.kernels.items())) + "\n"


TEMPLATES = sorted(
    p.stem for p in CPU.template_path.glob("*.j2")
    if p.stem not in {"host", "kernel", "kernels", "loop", "linear"}
)  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_emits_its_golden_kernel(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.cpp", kernel_text(name))


def loop_example(g: Graph, x: Value, y: Value) -> list[Value]:
    """Phases, a row buffer or a recomputation, a broadcast, a ramp and a cast in one loop."""
    h = add(g, "cast", add(g, "add", x, y), dtype=F32)
    i = add(g, "iota", shape=(T, 24), dim=1, start=1, step=2, dtype=I64)
    p = add(g, "softmax", add(g, "mul", add(g, "exp", h), i))
    return [add(g, "cast", p, dtype=BF16), add(g, "sum", p)]


def gated_example(g: Graph, x: Value, y: Value) -> list[Value]:
    gate, up = (add(g, "linear", x, g.const(random(16, 24, dtype=BF16, seed=k), f"w{k}"))
                for k in range(2))  # fmt: skip
    h = add(g, "mul", add(g, "silu", gate), up)
    down = add(g, "linear", h, g.const(random(24, 16, dtype=BF16), "down"))
    return [add(g, "add", y, down)]


@pytest.mark.parametrize("name", ["loop", "gated"])
def test_a_fused_kernel_is_its_golden_text(name: str, golden: Callable[[str, str], None]) -> None:
    build = {"loop": loop_example, "gated": gated_example}[name]
    g = graph_of(build, Type(BF16, (T, 24)), Type(BF16, (T, 24)), symbols=SYMBOLS)
    golden(f"{name}.cpp", kernels_of(g))


def test_the_host_step_is_its_golden_text(golden: Callable[[str, str], None]) -> None:
    def build(g: Graph, cache: Value, slots: Value, x: Value) -> list[Value]:
        h = add(g, "linear", x, g.const(random(24, 24), "w"))
        return [add(g, "index_copy", cache, slots, h, dim=0), add(g, "cumsum", add(g, "exp", h))]

    types = Type(F32, (64, 24)), Type(I64, (T,)), Type(F32, (T, 24))
    golden("host.cpp", sources(graph_of(build, *types, state={0: 0}, symbols=SYMBOLS))["host.cpp"])


# -- the kernel library ----------------------------------------------------------------------------
def test_the_library_holds_what_the_kernels_call() -> None:
    def build(g: Graph, x: Value) -> list[Value]:
        return [add(g, "linear", x, g.const(random(16, 8, dtype=BF16), "w"))]

    texts = sources(graph_of(build, Type(BF16, (T, 8)), symbols=SYMBOLS))
    units = {n for n in texts if n.endswith(".cpp") and not n.startswith("kernels_")}
    assert units == {"host.cpp", "team.cpp", "gemm.cpp", "pack.cpp"}
    instances = [x for n in units for x in texts[n].splitlines() if x.startswith("template decl")]
    assert any("linear<bf16>" in x for x in instances)
    assert not any("float" in x or "matmul" in x for x in instances)


# -- warnings --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("level", "dtypes"),
    [(FAST_LEVELS[0], (F32,)), *((level, (F32, BF16)) for level in FAST_LEVELS)],
)
def test_emitted_sources_compile_without_a_warning(
    level: str, dtypes: tuple[torch.dtype, ...], tmp_path: Path
) -> None:
    """Every op and the kernel library, -Wall -Wextra -Werror."""
    b = Batch()
    for dtype in dtypes:
        for name, op in OPS.items():
            if op.sample is None:
                continue
            args, attrs = op.sample(torch.Generator().manual_seed(0))
            b.op(name, op, in_dtype(args, dtype), attrs, WEIGHTS.get(name, ()))
    target = make_target(f"cpu/{level}")
    texts = emit(lower(optimised(b.graph), target), target)
    units = [n for n in texts if n.endswith(".cpp")]
    assert len([n for n in units if n.startswith("kernels_")]) == PARTS
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    flags = [*FLAGS, *LEVELS[level][0], "-O1", "-Werror"]
    assert {"-Wall", "-Wextra"} <= set(flags)
    for name in units:
        done = subprocess.run([compiler()[0], *flags, "-c", name, "-o", "out.o"], cwd=tmp_path,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr[:2000]


# -- limits are told, by name ----------------------------------------------------------------------
UNSUPPORTED: dict[str, tuple[str, list, dict, tuple]] = {
    "linear in f16": ("linear", [(F16, (5, 8)), (F16, (4, 8))], {}, (1,)),
    "matmul in f64": ("matmul", [(F64, (5, 8)), (F64, (8, 5))], {}, ()),
    "matmul in f16": ("matmul", [(F16, (5, 8)), (F16, (8, 5))], {}, ()),
    "attention in f16": (
        "attention", [(F16, (1, 2, 5, 8))] * 3, {"causal": True, "scale": 0.1}, (),
    ),
    "attention with an f64 mask": (
        "attention", [*[(F32, (1, 2, 5, 8))] * 3, (F64, (1, 1, 5, 5))],
        {"causal": False, "scale": 0.1}, (),
    ),
    "attention with a bf16 mask": (
        "attention", [*[(F32, (1, 2, 5, 8))] * 3, (BF16, (1, 1, 5, 5))],
        {"causal": False, "scale": 0.1}, (),
    ),
    "rope in f64": ("rope", [(F64, (5, 8))] * 3, {"interleaved": False}, ()),
    "topk of i32": ("topk", [(I32, (5, 8))], {"k": 2}, ()),
    "sort of f64": ("sort", [(F64, (5, 8))], {"descending": True}, ()),
    "cumsum of i32": ("cumsum", [(I32, (5, 8))], {}, ()),
    "argmax of f16": ("argmax", [(F16, (5, 8))], {}, ()),
    "silu in f64": ("silu", [(F64, (5, 8))], {}, ()),
    "linear with a weight that is not constant": (
        "linear", [(F32, (5, 8)), (F32, (4, 8))], {}, (),
    ),
    "experts that are not constant": (
        "moe_experts",
        [(F32, (5, 8)), (I64, (5, 2)), (F32, (5, 2)), (F32, (3, 12, 8)), (F32, (3, 8, 6))],
        {"act": "silu"}, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_has_no_kernel_is_refused_before_the_compiler_runs(case: str) -> None:
    name, types, attrs, const = UNSUPPORTED[case]
    b = Batch()
    b.op(case, OPS[name], [torch.zeros(s, dtype=d) for d, s in types], attrs, const)
    with pytest.raises(UnsupportedError, match=name):
        lower(optimised(b.graph), CPU)


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="complex"):
        xcompile(lambda x: x * 2, (torch.zeros(3, dtype=torch.complex64),))


def test_f16_and_f64_loops_are_supported() -> None:
    b = Batch()
    for dtype in (F16, F64):
        x = random(5, 33, dtype=dtype)
        for name in ("exp", "mul", "sum", "amax", "softmax", "rsqrt", "tanh"):
            b.op(f"{name} {dtype}", OPS[name], [x.abs()] * (1 + (name == "mul")), {})
    b.check(b.run())


# -- eager islands ---------------------------------------------------------------------------------
class Islands(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.linalg.inv(x @ x.mT + 3 * torch.eye(x.shape[-1]))
        s, _ = torch.linalg.eigh(y + y.mT)
        return torch.exp(-y).softmax(-1), s * 2


def test_an_island_runs_between_two_segments() -> None:
    model, x = Islands(), random(4, 5, 5)
    run = xcompile(model, (x,), threads=2)
    assert run.compiled is not None
    islands = run.compiled.imported.islands
    assert any("linalg_inv" in i or "inverse" in i for i in islands)
    assert any("eigh" in i for i in islands)
    for _ in range(2):
        for a, b in zip(run(x), model(x), strict=True):
            torch.testing.assert_close(a, b)
        x = random(4, 5, 5, seed=1)


def test_strict_compilation_refuses_islands_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)linalg_inv.*eigh"):
        xcompile(Islands(), (random(4, 5, 5),), strict=True)


def test_an_island_may_come_first_or_last() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(torch.linalg.inv(x))

    x = random(5, 5) + 4 * torch.eye(5)
    torch.testing.assert_close(xcompile(model, (x,))(x), x, rtol=1e-4, atol=1e-4)


# -- indices ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [11, -1, 1 << 40])
def test_an_index_out_of_range_is_an_error_with_its_value(bad: int) -> None:
    b = Batch()
    table = random(11, 4)
    index = torch.tensor([[0, 3], [1, 2]])
    x = random(2, 11)
    b.op("embedding", OPS["embedding"], [table, index], {})
    b.op("gather", OPS["gather"], [x, index], {})
    b.op("scatter", OPS["scatter"], [x, index, random(2, 2)], {})
    b.op("index_copy", OPS["index_copy"], [table, index[0], random(2, 4)], {"dim": 0})
    run = executor(compiled(b.graph), 2)
    b.check(run(*b.args))
    for k, t in enumerate(b.args):
        if t.dtype != I64:
            continue
        args = list(b.args)
        args[k] = t.clone()
        args[k].view(-1)[1] = bad
        with pytest.raises(IndexError, match=f"out of range.*: {bad}$"):
            run(*args)
        b.check(run(*b.args))  # and the next call is fine


# -- small things that were wrong once -------------------------------------------------------------
def test_an_epilogue_may_read_the_linear_s_own_operand() -> None:
    b = Batch()
    x = b.input(random(5, 16))
    w = b.const(random(16, 16))
    y = add(b.graph, "linear", x, w)
    b.output("x * linear(x)", add(b.graph, "mul", x, y))
    gate, up = (add(b.graph, "linear", x, b.const(random(16, 16, seed=k))) for k in range(2))
    h = add(b.graph, "mul", add(b.graph, "silu", gate), up)
    b.output("x + silu(gate x) * up x", add(b.graph, "add", x, h))
    i = add(b.graph, "iota", shape=(5, 16), dim=1, start=0, step=2, dtype=F32)
    b.output("linear(x) + ramp", add(b.graph, "add", add(b.graph, "linear", x, w), i))
    bias = add(b.graph, "linear", x, w, b.const(random(16)))
    b.output("linear with a bias", bias)
    b.check(b.run())


def test_reductions_of_one_element_and_of_nan() -> None:
    b = Batch()
    nan, inf = float("nan"), float("inf")
    rows = torch.tensor([[1.0, nan, 2.0, 3.0], [inf, 1.0, -inf, 3.0], [-inf] * 4, [nan] * 4])
    for name in ("sum", "amax", "amin", "softmax"):
        b.op(f"{name} of one", OPS[name], [random(4, 1)], {})
        b.op(f"{name} of NaN", OPS[name], [rows], {})
        b.op(f"{name} of long NaN", OPS[name], [rows.repeat(1, 37)], {})
    for dtype in (F32, BF16, F64):
        x = rows.to(dtype)
        b.op(f"max {dtype}", OPS["max"], [x, x.flip(0)], {})
        b.op(f"min {dtype}", OPS["min"], [x, x.flip(0)], {})
    b.check(b.run())


def test_ramps_constants_and_inputs_as_results() -> None:
    b = Batch()
    for dim in (0, 1):
        shape = {"shape": (3, 4), "dim": dim, "start": 1, "step": 2}
        b.op(f"ramp {dim}", OPS["iota"], [], {**shape, "dtype": I64})
        b.op(f"float ramp {dim}", OPS["iota"], [], {**shape, "dtype": F32})
    b.output("constant", b.const(random(3)))
    x = b.input(random(3))
    b.output("input twice", x, x)
    scalar = b.input(random())
    b.output("scalar", add(b.graph, "add", scalar, scalar))
    y = add(b.graph, "exp", scalar)
    b.output("value twice", y, y)
    b.check(b.run())


def test_a_graph_without_kernels_runs() -> None:
    x = random(3)
    assert torch.equal(run_graph(graph_of(lambda g, x: [x], type_of(x)), [x])[0], x)
