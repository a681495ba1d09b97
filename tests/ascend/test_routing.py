"""Routing on the vector cores: every kind of router, ties, extreme scores, any rows and teams."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import assert_close_to_reference, graph_of, run_graph
from xcompile import sim
from xcompile.codegen.ascend import moe_route
from xcompile.codegen.ascend.builder import STORAGE, AscendBuilder
from xcompile.errors import UnsupportedError
from xcompile.ir import Graph, Type, Value
from xcompile.layout import layouts
from xcompile.ops.route import DEFAULTS, MOE_ROUTE, probes
from xcompile.symbolic import Range, symbol
from xcompile.targets.ascend import ascend

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
TARGET = ascend("ascend910b")
V3 = {"score": "sigmoid", "groups": 8, "topk_group": 4, "group_score": "top2sum", "k": 8,
      "renorm": True, "eps": 1e-20, "scale": 2.5}  # fmt: skip
NORM = {"renorm": True}
Case = tuple[int, dict[str, Any], torch.dtype, torch.dtype | None]
FAST: dict[str, Case] = {  # experts, parameters, types of logits and bias
    "V3": (256, V3, F32, F32),
    "V3, small groups": (20, {**V3, "groups": 4, "topk_group": 2, "k": 2}, F32, BF16),
    "V3 in bf16": (64, {**V3, "groups": 4, "topk_group": 2, "k": 6, "compute": BF16, "dtype": BF16},
                   BF16, BF16),
    "V2": (160, {"groups": 8, "topk_group": 3, "mask": 0.0, "biased": True, "k": 6, "scale": 16.0},
           F32, None),
    "masked by 0, f16": (36, {**V3, "mask": 0.0, "groups": 4, "topk_group": 2, "k": 5}, F16, F32),
    "mixtral": (8, {**NORM, "k": 2}, BF16, None),
    "qwen3": (128, {**NORM, "k": 8, "dtype": BF16}, BF16, None),
    "granite": (40, {"score": "softmax_topk", "k": 8, "dtype": BF16}, F32, None),
    "more lists": (384, {"score": "sigmoid", "k": 10, **NORM, "eps": 1e-20}, F32, F32),
}  # fmt: skip
SLOW: dict[str, Case] = {
    "bf16 scores, f32 bias": (64, {**V3, "groups": 4, "topk_group": 2, "k": 6, "compute": BF16},
                              BF16, F32),
    "wide groups": (512, {**V3, "topk_group": 2, "k": 10}, F32, F32),
    "wide groups, masked": (384, {"k": 8, "groups": 4, "topk_group": 2, "mask": 0.25, **NORM,
                                  "group_score": "top2sum"}, F32, None),
    "wide groups, masked, bias": (192, {**V3, "mask": 0.0, "groups": 4, "topk_group": 2}, F32, F32),
    "16 groups": (320, {"score": "sigmoid", "k": 9, "groups": 16, "topk_group": 5, **NORM},
                  F32, None),
    "one of two groups": (64, {"score": "sigmoid", "k": 3, "groups": 2, "group_score": "top2sum"},
                          F32, None),
    "qwen2": (60, {"k": 4, "dtype": F16}, F16, None),
    "gpt_oss": (32, {"score": "softmax_topk", "k": 4, "biased": True, "compute": BF16,
                     "dtype": BF16}, BF16, BF16),
    "logits for weights, bias for choice": (128, {"score": "softmax_topk", "k": 4}, F32, F32),
    "ernie": (33, {"k": 5, **NORM, "floor": 1e-12}, F32, F32),
    "minimax": (256, {"score": "sigmoid", "k": 8, **NORM}, BF16, F32),
    "16 of 512": (512, {"k": 16, **NORM}, F32, None),
    "all of 4": (4, {"k": 4}, F32, None),
    "one of one": (1, {"k": 1, **NORM}, F32, None),
}  # fmt: skip
CASES = {**FAST, **SLOW}
ALL = [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CASES]
ENTRY = """
extern "C" __global__ __vector__ void {name}(GM_ADDR x, int64_t ld, GM_ADDR b, GM_ADDR w, GM_ADDR e,
                                             int64_t rows) {{
  TPipe pipe;
  xc::Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  const xc::RouteArgs args{{x, ld, b, w, e, rows, {mask}f, {eps}f, {floor}f, {scale}f}};
  xc::route<{types}, {sizes}>(pipe, team, args);
  PipeBarrier<PIPE_ALL>();
}}
"""


def attrs_of(name: str) -> dict[str, Any]:
    return {**DEFAULTS, **CASES[name][1]}


def entry(name: str) -> str:
    n, _, dtype, bias = CASES[name]
    a = attrs_of(name)
    flags = {"softmax": 0, "sigmoid": 1, "softmax_topk": 2}[a["score"]]
    flags |= 4 * (a["group_score"] == "top2sum") | 8 * (bias is not None)
    flags |= 16 * (a["mask"] > -1e38) | 32 * a["biased"] | 64 * a["renorm"]
    return ENTRY.format(
        name="route" + str([*CASES].index(name)),
        types=", ".join(STORAGE[t] for t in (dtype, bias or dtype, a["compute"], a["dtype"])),
        sizes=f"{n}, {a['k']}, {a['groups']}, {a['topk_group']}, {flags}",
        **{key: max(a[key], -3e38) for key in ("mask", "eps", "floor", "scale")},
    )


@cache
def source(fast: bool) -> str:
    names = FAST if fast else SLOW
    return '#include "route.h"\nusing namespace AscendC;\n' + "".join(map(entry, names))


def run(
    name: str, logits: torch.Tensor, bias: torch.Tensor | None, *, blocks: int = 48, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """weight, expert, and what the launch tells. logits may be a part of wider rows."""
    a, rows = attrs_of(name), len(logits)
    weight = torch.empty(rows, a["k"], dtype=a["dtype"])
    expert = torch.full((rows, a["k"]), -1)
    entries = "route" + str([*CASES].index(name))
    kernel = sim.load(source(name in FAST), entries, blocks=blocks, include=[LIB], chip="910B1")
    # the kernel is given whole rows, so that it is seen to read no more than it should
    wide = logits._base if logits._base is not None else logits
    ld = logits.stride(0) if rows else logits.shape[1]
    beta = bias if bias is not None else torch.zeros(1)
    told = kernel(wide, ld, beta, sim.Out(weight), sim.Out(expert), rows, seed=seed)
    return weight, expert, told


def inputs(name: str, bias: int, extra: int = 200) -> tuple[torch.Tensor, torch.Tensor | None]:
    n, _, dtype, kind = CASES[name]
    logits, biases = probes(n)
    rng = torch.Generator().manual_seed(7)
    logits = torch.cat([logits, torch.randn(extra, n, generator=rng) * 3]).to(dtype)
    return logits, None if kind is None else biases[bias].to(kind)


def check(name: str, logits: torch.Tensor, bias: torch.Tensor | None, weight: torch.Tensor,
          expert: torch.Tensor) -> None:  # fmt: skip
    a = attrs_of(name)
    args = [logits, *([bias] if bias is not None else [])]
    want, index = MOE_ROUTE.ref(*args, **a)
    assert torch.equal(expert, index)
    wide = {key: torch.float64 if isinstance(v, torch.dtype) else v for key, v in a.items()}
    exact, other = MOE_ROUTE.ref(*(t.double() for t in args), **wide)
    same = (other == index).all(-1) & exact.isfinite().all(-1)  # where float32 rounds no choice
    narrow = BF16 in (a["compute"], a["dtype"]) or a["dtype"] == F16
    if narrow:
        eps = torch.finfo(F16 if a["dtype"] == F16 else BF16).eps
        torch.testing.assert_close(weight, want, rtol=2 * eps, atol=1e-18, equal_nan=True)
    else:
        torch.testing.assert_close(weight, want, rtol=2e-6, atol=1e-18, equal_nan=True)
        assert_close_to_reference(weight[same], want[same], exact[same], what=name)


@pytest.mark.parametrize("name", ALL)
def test_a_router_chooses_as_torch(name: str) -> None:
    for bias, blocks, seed in ((0, 48, 0), (1, 7, 1), (4, 48, 2)):
        logits, beta = inputs(name, bias)
        weight, expert, _ = run(name, logits, beta, blocks=blocks, seed=seed)
        check(name, logits, beta, weight, expert)


@pytest.mark.parametrize("name", ALL)
def test_rows_may_be_part_of_wider_ones(name: str) -> None:
    logits, beta = inputs(name, 2)
    n = logits.shape[1]
    wide = torch.full((len(logits), n + 16), float("nan"), dtype=logits.dtype)
    wide[:, :n] = logits
    weight, expert, _ = run(name, wide[:, :n], beta, seed=4)
    check(name, logits, beta, weight, expert)


@pytest.mark.parametrize("name", ["V3", "V2", "mixtral"])
@pytest.mark.parametrize(("rows", "blocks"), [(0, 48), (1, 48), (1, 1), (49, 48), (200, 3)])
def test_any_rows_on_any_team(name: str, rows: int, blocks: int) -> None:
    logits, beta = inputs(name, 3, extra=0)
    weight, expert, _ = run(name, logits[:rows], beta, blocks=blocks, seed=rows)
    check(name, logits[:rows], beta, weight, expert)


def test_experts_exist_whatever_the_logits() -> None:
    """Experts are indices of memory: they have to be in range even where scores are NaN."""
    for name in FAST:
        n, _, dtype, _ = CASES[name]
        _, beta = inputs(name, 0)
        logits = torch.zeros(40, n)
        logits[::3] = float("nan")
        logits[1::3] = float("inf")
        logits[2::3, ::2] = float("-inf")
        _, expert, _ = run(name, logits.to(dtype), beta)
        assert int(expert.min()) >= 0 and int(expert.max()) < n


def test_time_of_the_deepseek_v3_router() -> None:
    """Simulated, and deterministic. A decode step is bound by latency, a prompt by sorting."""
    rng = torch.Generator().manual_seed(0)
    _, beta = inputs("V3", 0)
    limits = {1: 2_000, 32: 2_300, 4096: 31_000}
    print("\n rows   cycles       us")
    for rows, limit in limits.items():
        logits = torch.randn(rows, 256, generator=rng)
        told = run("V3", logits, beta)[2]
        print(f"{rows:5} {told.cycles:8.0f} {told.cycles / 1850:8.2f}")
        assert told.cycles <= limit


def test_the_target_emits_it() -> None:
    n = 20
    a = {**DEFAULTS, **CASES["V3, small groups"][1]}

    def build(g: Graph, x: Value, y: Value, b: Value) -> list[Value]:
        outs: list[Value] = []
        for v, *rest in ((x, b), (y,)):
            g.add(MOE_ROUTE, v, *rest, **(a if rest else {**DEFAULTS, "k": 3, "dtype": BF16}))
            outs += g.nodes[-1].outputs
        return outs

    rows = symbol("T")
    types = [Type(F32, (rows, n)), Type(BF16, (rows, n)), Type(F32, (n,))]
    g = graph_of(build, *types, symbols={"T": Range(1, 512, 9)})
    logits, biases = probes(n)
    args = [logits, logits.to(BF16), biases[0]]
    for got, want in zip(run_graph(g, args, "ascend910b1"), g.eval(*args), strict=True):
        torch.testing.assert_close(got, want, rtol=2e-6, atol=1e-18, equal_nan=True)


# -- limits ----------------------------------------------------------------------------------------
ROWS_OF = """
#include "route.h"
using namespace AscendC;
extern "C" __global__ __vector__ void rows(GM_ADDR out) {{
  xc::GlobalTensor<int32_t> y = xc::global<int32_t>(out);
  if (GetBlockIdx() != 0) return;
  {body}
  DataCacheCleanAndInvalid<int32_t, CacheLine::ENTIRE_DATA_CACHE,
                           DcciDst::CACHELINE_OUT>(y);
}}
"""


def node_of(
    experts: int, attrs: dict[str, Any], dtype: torch.dtype, bias: torch.dtype | None
) -> Any:
    g = Graph(symbols={"T": Range(1, 64, 5)})
    ins = [g.input(Type(dtype, (symbol("T"), experts)), "x")]
    if bias is not None:
        ins.append(g.input(Type(bias, (experts,)), "b"))
    g.add(MOE_ROUTE, *ins, **{**DEFAULTS, **attrs})
    g.outputs = [*g.nodes[-1].outputs]
    return g.nodes[-1], AscendBuilder(TARGET, g, layouts(g))


def test_the_rows_of_a_tile_are_the_header_s() -> None:
    cases = [*CASES.values(), (480, {"k": 16, "groups": 16, "topk_group": 4}, F16, BF16),
             (256, {"k": 10, "groups": 16, "topk_group": 8}, F32, F32)]  # fmt: skip
    body = ""
    for i, (n, attrs, dtype, bias) in enumerate(cases):
        a = {**DEFAULTS, **attrs}
        flags = {"softmax": 0, "sigmoid": 1, "softmax_topk": 2}[a["score"]]
        flags |= 8 * (bias is not None) | 16 * (a["mask"] > -1e38)
        types = ", ".join(STORAGE[t] for t in (dtype, bias or dtype, a["compute"], a["dtype"]))
        sizes = f"{n}, {a['k']}, {a['groups']}, {a['topk_group']}, {flags}"
        body += f"  y.SetValue({i}, xc::RouteSpec<{types}, {sizes}>::kRows);\n"
    out = torch.zeros(len(cases), dtype=torch.int32)
    sim.load(ROWS_OF.format(body=body), blocks=1, include=[LIB])(sim.Out(out))
    assert out.tolist() == [moe_route.rows(node_of(*c)[0]) for c in cases]
    assert int(out.min()) >= 8


@pytest.mark.parametrize(
    ("experts", "attrs", "why"),
    [
        (64, {"k": 17}, "at most 16 experts a token, given 17"),
        (256, {"k": 4, "groups": 64, "topk_group": 8}, "at most 32 groups, given 64"),
        (1024, {"k": 8}, "at most 16 lists of 32 experts, given 32"),
        (1024, {"k": 8, "groups": 8, "topk_group": 2}, "do not fit on chip"),
    ],
)
def test_a_router_without_room_is_refused(experts: int, attrs: dict[str, Any], why: str) -> None:
    n, builder = node_of(experts, attrs, F32, None)
    with pytest.raises(UnsupportedError, match=rf"moe_route.*f32\[T, {experts}\].*{why}"):
        builder.build(n)
