"""Fused row reductions, views and epilogues on the vector cores, in the simulator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.ascend.chain_harness import (
    BF16,
    F16,
    F32,
    I64,
    LIB,
    TARGET,
    Case,
    S,
    T,
    case,
    fused,
    fused_of,
    new_graph,
    normal,
    piped,
    together,
)
from tests.helpers import OPS, assert_close_to_reference
from xcompile import sim
from xcompile.codegen.ascend.builder import AscendBuilder, Phase
from xcompile.codegen.ascend.chain import chain_class
from xcompile.errors import XCompileError
from xcompile.ir import Graph, Type, Value
from xcompile.layout import layouts
from xcompile.ops.norm import LAYER_NORM, RMS_NORM, SOFTMAX
from xcompile.ops.pointwise import CAST, COPY
from xcompile.passes import run_pipeline
from xcompile.passes.grouping import make_group
from xcompile.symbolic import Range


# -- reductions ------------------------------------------------------------------------------------
@pytest.mark.parametrize("cols", [2, 5, 8, 63, 64, 65, 96, 200, 256, 1000, 5003])
def test_reductions(cols: int) -> None:
    def build(g: Graph) -> list[Value]:
        x, h = g.input(Type(F32, (T, cols)), "x"), g.input(Type(BF16, (T, cols)), "h")
        return [g.add(OPS[n], v) for n in ("sum", "amax", "amin") for v in (x, h)]

    run = fused(build)
    for rows, blocks in ((1, 48), (3, 2), (97, 5)):  # no sums that cancel: the bar is on the sum
        x, h = normal((rows, cols)).abs(), normal((rows, cols), BF16).abs()
        run.check(x, h, T=rows, blocks=blocks)
        run.check(-x, -h, T=rows, blocks=blocks)
    x = normal((9, cols))
    x[2, cols // 2] = math.nan
    x[3, 0], x[4, -1] = math.inf, -math.inf
    run.check(x, x.bfloat16(), T=9)


@pytest.mark.parametrize("cols", [3, 16, 77])
def test_reductions_of_integers(cols: int) -> None:
    def build(g: Graph) -> list[Value]:
        x = g.input(Type(I64, (T, cols)), "x")
        out = [g.add(OPS[n], x) for n in ("sum", "amax", "amin")]
        return [*out, g.add(OPS["sub"], x, out[1])]

    run = fused(build)
    for rows in (1, 6, 50):
        run.check(normal((rows, cols), I64) * 12345, T=rows, blocks=2)


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
@pytest.mark.parametrize("cols", [40, 96, 512, 1537, 7168])
def test_norms(dtype: torch.dtype, cols: int) -> None:
    def norms(g: Graph) -> list[Value]:
        x, y = g.input(Type(dtype, (T, cols)), "x"), g.input(Type(dtype, (T, cols)), "y")
        w = g.input(Type(dtype, (cols,)), "w")
        z = g.add(OPS["add"], x, y)
        return [z, g.add(RMS_NORM, z, w, eps=1e-5)]

    def layer_norm(g: Graph) -> list[Value]:
        x = g.input(Type(dtype, (T, cols)), "x")
        w, b = g.input(Type(dtype, (cols,)), "w"), g.input(Type(dtype, (cols,)), "b")
        return [g.add(LAYER_NORM, x, w, b, eps=1e-5)]

    def softmax(g: Graph) -> list[Value]:
        return [g.add(SOFTMAX, g.input(Type(dtype, (T, cols)), "x"))]

    made = [c for f in (norms, layer_norm, softmax) for c in piped(f)]
    for run in together(made):
        for rows, blocks, seed in ((1, 48, 0), (50, 3, 1), (113 if cols < 2000 else 5, 48, 0)):
            shapes = [v.shape for v in run.node.inputs]
            given = [normal([rows if d == T else int(d) for d in s], dtype, k)
                     for k, s in enumerate(shapes)]  # fmt: skip
            run.check(*given, T=rows, blocks=blocks, seed=seed)


def test_results_for_each_row_feed_rows_and_leave() -> None:
    def build(g: Graph) -> list[Value]:
        x, p = g.input(Type(F32, (T, 130)), "x"), g.input(Type(BF16, (T, 1)), "p")
        top = g.add(OPS["amax"], x)
        mean = g.add(OPS["add"], g.add(OPS["sum"], x), p)
        flag = g.add(OPS["gt"], top, mean)
        picked = g.add(OPS["where"], flag, top, mean)
        return [top, picked, flag, g.add(CAST, picked, dtype=BF16), g.add(OPS["div"], x, picked)]

    run = fused(build)
    for rows in (1, 7, 8, 200):
        run.check(normal((rows, 130)) / 11, normal((rows, 1), BF16), T=rows, blocks=7)


@pytest.mark.parametrize("cols", [30000, 70001])
def test_rows_that_do_not_fit(cols: int) -> None:
    def softmax(g: Graph) -> list[Value]:
        return [g.add(SOFTMAX, g.input(Type(F32, (T, cols)), "x"))]

    def norm(g: Graph) -> list[Value]:
        x, w = g.input(Type(BF16, (T, cols)), "x"), g.input(Type(BF16, (cols,)), "w")
        return [g.add(RMS_NORM, x, w, eps=1e-6)]

    for run in together([c for f in (softmax, norm) for c in piped(f)]):
        assert "stage1" in run.phase.source
        for rows, blocks in ((1, 48), (3, 2)):
            shapes = [v.shape for v in run.node.inputs]
            shapes = [[rows if d == T else int(d) for d in s] for s in shapes]
            dtypes = [v.dtype for v in run.node.inputs]
            given = [normal(s, d, k) for k, (s, d) in enumerate(zip(shapes, dtypes, strict=True))]
            run.check(*given, T=rows, blocks=blocks)


def test_columns_that_only_the_call_knows() -> None:
    def softmax(g: Graph) -> list[Value]:
        return [g.add(SOFTMAX, g.input(Type(F32, (T, S)), "x"))]

    def masked(g: Graph) -> list[Value]:
        x, m = g.input(Type(BF16, (T, S)), "x"), g.input(Type(torch.bool, (T, S)), "m")
        w, r = g.input(Type(F32, (S,)), "w"), g.input(Type(F32, (T, 1)), "r")
        y = g.add(OPS["mul"], g.add(OPS["add"], x, w), r)
        return [g.add(OPS["where"], m, y, g.add(OPS["full"], shape=(), value=0.5, dtype=F32))]

    soft, mask = together([fused_of(softmax), fused(masked)])
    for rows, cols in ((1, 1), (3, 17), (5, 300), (2, 20011), (130, 4)):
        soft.check(normal((rows, cols)), T=rows, S=cols)
        data = {
            "x": normal((rows, cols), BF16),
            "m": normal((rows, cols), torch.bool),
            "w": normal((cols,)),
            "r": normal((rows, 1)),
        }
        mask.check(*(data[v.name] for v in mask.node.inputs), T=rows, S=cols, blocks=11)


# -- layouts ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [BF16, F32, I64, torch.bool])
def test_copies_of_views(dtype: torch.dtype) -> None:
    def copied(view: Callable[[Graph, Value], Value], *shape: Any) -> Case:
        def build(g: Graph) -> list[Value]:
            return [g.add(COPY, view(g, g.input(Type(dtype, shape), "x")))]

        g, _ = run_pipeline(new_graph(build), TARGET, names=("layout", "fuse_loops"))
        return case(g)

    p = lambda *perm: lambda g, x: g.add(OPS["permute"], x, perm=perm)
    cut = lambda d, a, b, k: lambda g, x: g.add(OPS["slice"], x, dim=d, start=a, stop=b, step=k)
    views = [
        copied(p(1, 0, 2), 5, T, 40),
        copied(p(1, 0, 2), T, 3, 24),
        copied(p(2, 0, 1, 3), 3, 2, T, 17),
        copied(cut(1, 3, 40, 1), T, 50),
        copied(cut(1, 1, 40, 3), T, 50),
        copied(p(1, 0), T, 30),
        copied(p(1, 0), 30, T),
        copied(p(0, 2, 1), 2, T, 30),
        copied(lambda g, x: g.add(OPS["expand"], x, shape=(T, 6, 9)), T, 1, 9),
        copied(lambda g, x: g.add(OPS["expand"], x, shape=(6, T, 9)), 1, T, 9),
        copied(lambda g, x: g.add(OPS["expand"], x, shape=(T, 5, 9)), T, 5, 1),
        copied(lambda g, x: g.add(OPS["expand"], x, shape=(T, 5)), 1, 1),
        copied(lambda g, x: g.add(OPS["expand"], x, shape=(T, 5)), 1, 5),
    ]
    for run in together(views):
        for t, blocks in ((1, 48), (7, 1), (43, 5)):
            shape = [t if d == T else int(d) for d in run.node.inputs[0].shape]
            x = normal(shape, dtype)
            for d, (n, s) in enumerate(
                zip(shape, run.builder.layouts[run.node.inputs[0]].strides, strict=True)
            ):
                if s == 0 and n > 1:
                    x = x.narrow(d, 0, 1).expand(shape) if x.shape[d] == n else x
            (got,) = run(x, T=t, blocks=blocks)
            assert torch.equal(got, x), (run.node.inputs[0].shape, t)


def test_results_in_a_concatenation() -> None:
    def build(g: Graph) -> list[Value]:
        a, b = g.input(Type(BF16, (T, 20)), "a"), g.input(Type(BF16, (T, 1)), "b")
        f = g.input(Type(F32, (T, 1)), "f")
        parts = [g.add(OPS["neg"], a), g.add(OPS["exp"], b), g.add(OPS["square"], a)]
        wide = g.add(OPS["cat"], *parts, dim=1)
        return [wide, g.add(OPS["cat"], g.add(OPS["neg"], f), g.add(OPS["abs"], f), dim=1)]

    for run in piped(build):
        for rows in (1, 30, 77):
            given = [normal([rows, int(v.shape[1])], v.dtype) for v in run.node.inputs]
            run.check(*given, T=rows, blocks=5)


def test_operands_that_repeat_in_the_middle() -> None:
    def build(g: Graph) -> list[Value]:
        x, c = g.input(Type(BF16, (T, 6, 32)), "x"), g.input(Type(F32, (T, 1, 32)), "c")
        s, r = g.input(Type(F32, (6, 32)), "s"), g.input(Type(F32, (T, 6, 1)), "r")
        y = g.add(OPS["add"], g.add(OPS["mul"], g.add(OPS["mul"], x, c), s), r)
        q = g.input(Type(F32, (T, 1, 1)), "q")
        return [y, g.add(OPS["mul"], y, q)]

    run = fused(build)
    for t, blocks in ((1, 48), (9, 2), (65, 48)):
        run.check(normal((t, 6, 32), BF16), normal((t, 1, 32)), normal((6, 32)),
                  normal((t, 6, 1)), normal((t, 1, 1)), T=t, blocks=blocks)  # fmt: skip


def test_ramps() -> None:
    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(F32, (T, 33)), "x"), g.input(Type(I64, (T, 33)), "y")
        ramp = lambda d, start, step, dtype: g.add(
            OPS["iota"], shape=(T, 33), dim=d, start=start, step=step, dtype=dtype
        )
        cols, rows = ramp(1, 3, 2, F32), ramp(0, T - 5, 1, I64)
        below = g.add(OPS["le"], ramp(1, 0, 1, I64), rows)
        return [
            g.add(OPS["add"], x, cols),
            g.add(OPS["mul"], y, rows),
            g.add(OPS["where"], below, x, g.add(OPS["full"], shape=(), value=-math.inf, dtype=F32)),
            below,
        ]

    def line(g: Graph) -> list[Value]:
        x = g.input(Type(I64, (T,)), "x")
        r = g.add(OPS["iota"], shape=(T,), dim=0, start=T, step=-2, dtype=I64)
        return [g.add(OPS["add"], x, r)]

    def deep(g: Graph) -> list[Value]:
        x = g.input(Type(F32, (3, T, 5, 8)), "x")
        y = g.add(OPS["permute"], g.input(Type(F32, (T, 3, 5, 8)), "y"), perm=(1, 0, 2, 3))
        ramps = [g.add(OPS["iota"], shape=(3, T, 5, 8), dim=d, start=1, step=3, dtype=F32)
                 for d in range(4)]  # fmt: skip
        z = g.add(OPS["add"], x, y)
        return [g.add(OPS["mul"], z, r) for r in ramps]

    whole, flat, boxes = together([fused(build), fused(line), fused_of(deep)])
    for t in (1, 6, 50):
        whole.check(normal((t, 33)), normal((t, 33), I64), T=t, blocks=3)
        flat.check(normal((t,), I64), T=t)
        y = normal((t, 3, 5, 8), F32, 1).permute(1, 0, 2, 3)
        boxes.check(normal((3, t, 5, 8)), y, T=t, blocks=4)


def test_flat_spaces() -> None:
    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(BF16, (T, 3, 70)), "x"), g.input(Type(BF16, (T, 3, 70)), "y")
        s = g.input(Type(F32, ()), "s")
        return [g.add(OPS["mul"], g.add(OPS["add"], x, y), s), g.add(COPY, x)]

    run = fused(build)
    for t, blocks in ((0, 48), (1, 48), (200, 48), (333, 1)):
        run.check(normal((t, 3, 70), BF16), normal((t, 3, 70), BF16, 1), torch.tensor(1.37), T=t,
                  blocks=blocks)  # fmt: skip


def test_a_result_may_overwrite_an_operand() -> None:
    def build(g: Graph) -> list[Value]:
        x, y = g.input(Type(F32, (T, 700)), "x"), g.input(Type(F32, (T, 700)), "y")
        return [g.add(OPS["add"], g.add(OPS["exp"], x), y)]

    run = fused(build)
    x, y = normal((150, 700)), normal((150, 700), F32, 1)
    want = x.exp() + y
    sizes = torch.tensor([150])
    sim.load(run.source, f"k_{run.phase.name}", blocks=48, include=[LIB])(sizes, x, y, x)
    torch.testing.assert_close(x, want)


# -- behind a matmul -------------------------------------------------------------------------------
ACCUMULATED = """
namespace xc {{
{source}
}}
extern "C" __global__ __vector__ void {name}(GM_ADDR sizes, GM_ADDR g, GM_ADDR u, int64_t pitch,
    int64_t rows, int64_t cols, int64_t tall, int64_t wide{params}) {{
  using namespace xc;
  TPipe pipe;
  E{name} e;
  e.init(pipe, reinterpret_cast<const __gm__ i64*>(sizes){args});
  const GlobalTensor<float> a = global<float>(g), b = global<float>(u);
  int64_t k = 0;
  for (int64_t r = 0; r < rows; r += tall)
    for (int64_t c = 0; c < cols; c += wide, ++k)
      if (k % GetBlockNum() == GetBlockIdx())
        e.run(a[r * pitch + c], {second}pitch, r, least(tall, rows - r), c, least(wide, cols - c));
  PipeBarrier<PIPE_ALL>();
}}
"""


def accumulated(build: Callable[[Graph, list[Value]], Value], count: int, n: Any) -> Case:
    """The epilogue of `count` linears to [2, T, n]."""
    g = Graph(symbols={"T": Range(1, 64, 7)})
    x = g.input(Type(BF16, (2, T, 16)), "x")
    accs = [g.add(OPS["linear"], x, g.const(torch.zeros(n, 16, dtype=BF16), f"w{k}"))
            for k in range(count)]  # fmt: skip
    g.outputs = [build(g, accs)]
    views = [n for n in g.nodes if n.op.name == "permute"]
    made = [n for n in g.nodes if n not in views]
    node = make_group(made, g.outputs, {n.out: n for n in made})
    whole = Graph([*g.inputs], [*views, node], [*node.outputs], g.consts, {}, g.symbols)
    b = AscendBuilder(TARGET, whole, layouts(whole))
    body = node.body
    assert body is not None
    inner = [m.out for m in body.nodes if m.op.name == "linear"]
    name = f"epilogue{count}"
    made = chain_class(b, node, body, f"E{name}", accs=inner, ub=100 * 1024, max_cols=128)
    params = "".join(f", GM_ADDR p{k}" for k in range(len(made.args)))
    args = "".join(f", p{k}" for k in range(len(made.args)))
    second = "b[r * pitch + c], " if count == 2 else ""
    source = "\n".join(f'#include "{h}"' for h in made.includes)
    source += ACCUMULATED.format(source=made.source, name=name, params=params, args=args,
                                 second=second)  # fmt: skip
    return Case(b, node, Phase(name, "", tuple(made.args), "vector"), source)


@pytest.mark.parametrize(("n", "wide"), [(256, 128), (211, 128), (96, 96)])
def test_epilogues(n: int, wide: int) -> None:
    def residual(g: Graph, accs: list[Value]) -> Value:
        bias, x = g.input(Type(BF16, (n,)), "bias"), g.input(Type(BF16, (2, T, n)), "r")
        flip = g.add(OPS["permute"], g.input(Type(F32, (T, 2, n)), "p"), perm=(1, 0, 2))
        y = g.add(OPS["add"], x, g.add(OPS["mul"], g.add(OPS["add"], accs[0], bias), flip))
        return g.add(CAST, y, dtype=BF16)

    def gated(g: Graph, accs: list[Value]) -> Value:
        return g.add(OPS["mul"], g.add(OPS["silu"], accs[0]), accs[1])

    def plain(g: Graph, accs: list[Value]) -> Value:
        return g.add(CAST, g.add(CAST, accs[0], dtype=F32), dtype=F16)

    for t in (1, 9, 40):
        acc, up = normal((2 * t, 300)), normal((2 * t, 300), F32, 1)
        bias, res = normal((n,), BF16), normal((2, t, n), BF16)
        flip = normal((t, 2, n))
        a, u = acc[:, :n].reshape(2, t, n), up[:, :n].reshape(2, t, n)
        wants = [
            ((a + bias.float()) * flip.permute(1, 0, 2) + res.float()).bfloat16(),
            (a / (1 + (-a).exp()) * u).bfloat16(),
            a.bfloat16().half(),
        ]
        for build, count, want in zip((residual, gated, plain), (1, 2, 1), wants, strict=True):
            made = accumulated(build, count, n)
            out = torch.zeros(2, t, n, dtype=want.dtype)
            data = {"bias": bias, "r": res, "p": flip}
            args = [data[root_name(made, v)] if v not in made.node.outputs else sim.Out(out)
                    for v in made.phase.args]  # fmt: skip
            kernel = sim.load(made.source, made.phase.name, blocks=3, include=[LIB])
            kernel(torch.tensor([t]), acc, up, 300, 2 * t, n, 13, wide, *args)
            assert_close_to_reference(out, want, want.double(), ulps=2)


def root_name(made: Case, v: Value) -> str:
    return made.builder.layouts[v].root.name


def test_a_group_that_cannot_fit_is_refused() -> None:
    def build(g: Graph) -> list[Value]:
        xs = [g.input(Type(F32, (T, 64)), f"x{k}") for k in range(150)]
        return [g.add(OPS["neg"], x) for x in xs]

    with pytest.raises(XCompileError, match="bytes of UB"):
        fused(build)


# -- time ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [0])
def test_bandwidth(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Simulated bytes per second on tensors that come from memory; figures are printed."""

    def rms(g: Graph) -> list[Value]:
        x, w = g.input(Type(BF16, (T, 7168)), "x"), g.input(Type(BF16, (7168,)), "w")
        return [g.add(RMS_NORM, x, w, eps=1e-6)]

    def add(g: Graph) -> list[Value]:
        return [g.add(OPS["add"], *(g.input(Type(BF16, (T, 7168)), n) for n in "xy"))]

    def silu(g: Graph) -> list[Value]:
        x, y = (g.input(Type(BF16, (T, 7168)), n) for n in "xy")
        return [g.add(OPS["mul"], g.add(OPS["silu"], x), y)]

    def softmax(g: Graph) -> list[Value]:
        return [g.add(SOFTMAX, g.input(Type(F32, (T, 256)), "x"))]

    peak = TARGET.chip.hbm  # type: ignore[attr-defined]
    for name, build, rows in (("rms_norm", rms, 512), ("add", add, 512), ("silu", silu, 512),
                              ("softmax", softmax, 4096)):  # fmt: skip
        run = fused_of(build)
        given = [normal([rows if d == T else int(d) for d in v.shape], v.dtype, seed)
                 for v in run.node.inputs]  # fmt: skip
        got = run(*given, T=rows)
        moved = sum(x.numel() * x.element_size() for x in (*given, *got))
        rate = moved / run.result.microseconds * 1e6
        with capsys.disabled():
            print(f"\n{name:9} {rate / 1e9:7.0f} GB/s, {rate / peak:.0%} of memory's", end="")
        assert rate > 0.7 * peak
