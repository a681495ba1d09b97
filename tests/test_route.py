"""Routing as one op: every family's router becomes it, what is no routing stays, the CPU kernel."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers import Batch, add, call, compiled, graph_of
from xcompile import compiler
from xcompile.compiler import executor, make_target
from xcompile.errors import ShapeError
from xcompile.frontend import torch_ops
from xcompile.ir import Graph, Node, Type, Value
from xcompile.ops.route import DEFAULTS, MOE_ROUTE, probes
from xcompile.passes import lift_route, run_pass
from xcompile.symbolic import Range, symbol
from xcompile.text import parse, to_text

CPU = make_target("cpu")
E, K, H = 16, 3, 24
F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
T = symbol("T")


# -- the routers of transformers -------------------------------------------------------------------
CONFIG = {
    **dict.fromkeys(["n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"], E),
    **dict.fromkeys(["num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk"], K),
    **dict.fromkeys(["routed_scaling_factor", "route_scale", "router_scaling_factor"], 2.5),
    **dict.fromkeys(["router_bias", "use_bias", "zero_expert_num", "router_jitter_noise"], 0),
    "moe_routed_scaling_factor": 2.5, "moe_router_logit_softcapping": 0.0,
    "moe_norm_min": 1e-12, "hidden_size": H, "n_group": 4, "topk_group": 2, "top_k": K,
    "norm_topk_prob": True, "topk_method": "group_limited_greedy", "use_expert_bias": True,
}  # fmt: skip
# family: router, what its config has otherwise, what moe_route then has otherwise than by default
V3 = {"score": "sigmoid", "groups": 4, "topk_group": 2, "group_score": "top2sum", "renorm": True,
      "eps": 1e-20, "scale": 2.5}  # fmt: skip
V2 = {"groups": 4, "topk_group": 2, "mask": 0.0, "biased": True, "scale": 2.5}
NORM = {"renorm": True}
PICK = {"score": "softmax_topk"}
Router = tuple[str, str, dict[str, Any], dict[str, Any]]
FAST: dict[str, Router] = {
    "V3": ("deepseek_v3", "DeepseekV3TopkRouter", {}, V3),
    "V2": ("deepseek_v2", "DeepseekV2TopkRouter", {}, V2),
    "mixtral": ("mixtral", "MixtralTopKRouter", {}, NORM),
    "gpt_oss": ("gpt_oss", "GptOssTopKRouter", {}, {**PICK, "biased": True}),
    "ernie": ("ernie4_5_moe", "Ernie4_5_MoeTopKRouter", {}, {**NORM, "floor": 1e-12}),
    "lfm2": ("lfm2_moe", "Lfm2MoeTopKRouter", {},
             {"score": "sigmoid", "renorm": True, "eps": 1e-6, "scale": 2.5}),
}  # fmt: skip
SLOW: dict[str, Router] = {
    "V3, no norm": ("deepseek_v3", "DeepseekV3TopkRouter", {"norm_topk_prob": False},
                    {key: V3[key] for key in V3 if key not in ("renorm", "eps")}),
    "V2, greedy": ("deepseek_v2", "DeepseekV2TopkRouter", {"topk_method": "greedy"},
                   {"scale": 2.5}),
    "qwen2": ("qwen2_moe", "Qwen2MoeTopKRouter", {}, NORM),
    "qwen3, no norm": ("qwen3_moe", "Qwen3MoeTopKRouter", {"norm_topk_prob": False}, {}),
    "olmoe": ("olmoe", "OlmoeTopKRouter", {}, NORM),
    "glm4": ("glm4_moe", "Glm4MoeTopkRouter", {"n_group": 1, "topk_group": 1},
             {"score": "sigmoid", "renorm": True, "eps": 1e-20, "scale": 2.5}),
    "granite": ("granitemoe", "GraniteMoeTopKRouter", {}, PICK),
    "aria": ("aria", "AriaTextTopKRouter", {}, PICK),
    "hunyuan": ("hunyuan_v1_moe", "HunYuanMoEV1Gate", {}, NORM),
    "minimax": ("minimax", "MiniMaxTopKRouter", {}, NORM),
    "minimax m2": ("minimax_m2", "MiniMaxM2TopKRouter", {}, {"score": "sigmoid", **NORM}),
    "dots1": ("dots1", "Dots1TopkRouter", {}, V3),
    "jamba": ("jamba", "JambaTopKRouter", {}, {}),
    "flex_olmo": ("flex_olmo", "FlexOlmoTopKRouter", {}, NORM),
    "nemotron": ("nemotron_h", "NemotronHTopkRouter", {}, V3),
    "laguna": ("laguna", "LagunaTopKRouter", {}, {"score": "sigmoid", **NORM}),
    "longcat": ("longcat_flash", "LongcatFlashTopkRouter", {}, {"scale": 2.5}),
    "kimi": ("kimi_linear", "KimiLinearTopkRouter", {}, V3),
    "mistral": ("mistral_large4", "MistralLarge4TextTopkRouter", {},
                {key: V3[key] for key in V3 if key != "score"} | {"mask": 0.0}),
    "axk2": ("axk2", "AXK2TopkRouter", {}, {**V3, "mask": 0.0}),
}  # fmt: skip
ROUTERS = {**FAST, **SLOW}


class Layer(nn.Module):
    """A router of transformers and small experts."""

    def __init__(self, family: str, dtype: torch.dtype) -> None:
        super().__init__()
        home, name, changes, _ = ROUTERS[family]
        module = importlib.import_module(f"transformers.models.{home}.modeling_{home}")
        config = SimpleNamespace(**{**CONFIG, **changes})
        rng = torch.Generator().manual_seed(0)
        self.router = getattr(module, name)(config)
        self.up = nn.Parameter(torch.empty(E, 8, H))
        self.down = nn.Parameter(torch.empty(E, H, 4))
        self.bias = nn.Parameter(torch.empty(E))  # some routers have theirs given
        for t in [*self.parameters(), *self.buffers()]:
            t.data = torch.randn(t.shape, generator=rng) / 4
        self.to(dtype).requires_grad_(False)
        self.bias.data = self.bias.data.float()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = (self.bias,) if self.router.forward.__code__.co_argcount > 2 else ()
        outs = self.router(x, *given)
        (index,) = (t for t in outs if t.dtype == I64)
        weight = next(t for t in outs if t.shape == index.shape and t is not index)
        y = torch_ops.moe_experts(x, index, weight, self.up, self.down, "silu")
        return y, weight, index


def imported(model: nn.Module, x: torch.Tensor) -> Graph:
    """What the passes see of a model with any number of rows, before routing is lifted."""
    seen: list[Graph] = []

    class Done(Exception):
        pass

    def stop(graph: Graph, target: Any, **_: Any) -> None:
        seen.append(graph)
        raise Done

    with pytest.MonkeyPatch.context() as m, torch.no_grad(), pytest.raises(Done):
        m.setattr(compiler, "run_pipeline", stop)
        from xcompile import compile as xcompile

        xcompile(model, (x,), dynamic_shapes=({0: torch.export.Dim("T", max=4096)},))
    graph = seen[0]
    for name in ("canonicalise", "lift"):
        graph = run_pass(name, graph, CPU)
    return graph


def routes(g: Graph) -> list[Node]:
    return [n for n in g.nodes if n.op is MOE_ROUTE]


def lifted(g: Graph) -> Graph:
    out = run_pass("lift_route", g, CPU)
    out.verify()
    return out


def differs(n: Node) -> dict[str, Any]:
    """Its parameters that are not the usual ones; types apart."""
    return {
        name: value
        for name, value in n.attrs.items()
        if name not in ("k", "dtype", "compute") and value != DEFAULTS[name]
    }


SOME = [pytest.param(f, marks=() if f in FAST else pytest.mark.slow) for f in ROUTERS]


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("family", SOME)
def test_the_router_of_a_family_is_one_op(family: str, dtype: torch.dtype) -> None:
    layer, x = Layer(family, dtype), torch.randn(7, H).to(dtype)
    before = imported(layer, x)
    after = lifted(before)
    (n,) = routes(after)
    assert differs(n) == ROUTERS[family][3]
    assert {m.op.name for m in after.nodes} <= {"linear", "reshape", "cast", "moe_route",
                                               "moe_experts", "add"}  # fmt: skip
    rng = torch.Generator().manual_seed(1)
    for rows in (1, 300):
        x = (torch.randn(rows, H, generator=rng) * 4).to(dtype)
        for a, b in zip(after.eval(x), before.eval(x), strict=True):
            assert torch.equal(a, b)
    if dtype == F32:  # in bf16 there are ties, which torch breaks as it likes
        assert torch.equal(before.eval(x)[2].sort()[0], layer(x)[2].sort()[0])
    assert to_text(parse(to_text(after))) == to_text(after)
    assert lifted(after) is after


@pytest.mark.parametrize("rows", [1, 5])
def test_a_router_of_a_fixed_number_of_rows_is_one_op(rows: int) -> None:
    (n,) = routes(lifted(routed(lambda r: r.weigh(r.scores()), rows=rows)))
    assert differs(n) == {}


# -- graphs like a router --------------------------------------------------------------------------
class Forms:
    """Builds the parts of a router; a test replaces one."""

    def __init__(self, g: Graph, logits: Value, bias: Value) -> None:
        self.g, self.logits, self.bias = g, logits, bias

    def __getattr__(self, op: str) -> Callable[..., Value]:
        return lambda *args, **attrs: add(self.g, op.rstrip("_"), *args, **attrs)

    def lit(self, value: float) -> Value:
        return self.full(shape=(), value=value, dtype=F32)

    def topk(self, x: Value, k: int = K) -> tuple[Value, Value]:
        add(self.g, "topk", x, k=k)
        a, b = self.g.nodes[-1].outputs
        return a, b

    def scores(self, score: str = "softmax") -> Value:
        return add(self.g, score, self.logits)

    def weigh(self, scores: Value, choice: Value | None = None) -> tuple[Value, Value]:
        best, index = self.topk(choice or scores)
        return (self.gather(scores, index) if choice else best), index

    def mask(self, choice: Value, value: float = float("-inf"), groups: int = 4, two: int = 2,
             keep: int = 2, on: float = 1.0) -> Value:  # fmt: skip
        rows = self.logits.shape[0]
        each = self.reshape(choice, shape=(rows, groups, E // groups))
        top = self.reshape(self.sum(self.topk(each, two)[0]), shape=(rows, groups))
        index = self.topk(top, keep)[1]
        zero = self.full(shape=(rows, groups), value=0.0, dtype=F32)
        one = self.full(shape=(rows, keep), value=on, dtype=F32)
        flags = self.reshape(self.scatter(zero, index, one), shape=(rows, groups, 1))
        flags = self.expand(flags, shape=(rows, groups, E // groups))
        flags = self.cast(self.reshape(flags, shape=(rows, E)), dtype=torch.bool)
        return self.where(self.not_(flags), self.lit(value), choice)


Build = Callable[[Forms], tuple[Value, Value]]


def then(
    both: tuple[Value, Value],
    weight: Callable[[Value, Value], Value] = lambda w, i: w,
    index: Callable[[Value], Value] = lambda i: i,
) -> tuple[Value, Value]:
    """Weights and experts, changed."""
    return weight(*both), index(both[1])


def routed(build: Build, rows: Any = T) -> Graph:
    """build's (weights, experts), with experts that use them."""

    def whole(g: Graph, x: Value, logits: Value, bias: Value) -> list[Value]:
        weight, index = build(Forms(g, logits, bias))
        up, down = (g.const(torch.ones(s) / 8, "w") for s in ((E, 8, H), (E, H, 4)))
        return [add(g, "moe_experts", x, index, weight, up, down, act="silu"), weight, index]

    types = [Type(F32, s) for s in ((rows, H), (rows, E), (E,))]
    return graph_of(whole, *types, symbols={"T": Range(1, 4096, 7)})


SAME: dict[str, tuple[Build, dict[str, Any]]] = {
    "masked by a number": (lambda r: r.weigh(s := r.scores("sigmoid"), r.mask(s, 0.25)),
                           {"score": "sigmoid", "groups": 4, "topk_group": 2,
                            "group_score": "top2sum", "mask": 0.25}),
    "all groups": (lambda r: r.weigh(s := r.scores("sigmoid"), r.mask(s, keep=4)),
                   {"score": "sigmoid"}),
    "weights with the bias": (lambda r: r.weigh(r.add(r.scores("sigmoid"), r.bias)),
                              {"score": "sigmoid", "biased": True}),
    "scaled twice": (lambda r: then(r.weigh(r.scores()), lambda w, i: r.mul(
        r.mul(w, r.lit(2.0)), r.lit(4.0))), {"scale": 8.0}),
    "logits scaled": (lambda r: then(r.topk(r.mul(r.logits, r.lit(0.5))), lambda w, i: r.softmax(
        w)), {"score": "softmax_topk"}),
    "clamped logits": (lambda r: r.weigh(r.softmax(r.max(r.logits, r.lit(-1e6)))), {}),
    "logits masked by group": (lambda r: r.weigh(r.softmax(r.mask(r.logits))), {}),
    "capped logits": (lambda r: r.weigh(r.softmax(r.mul(r.tanh(r.logits), r.lit(30.0)))), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_other_forms_of_routing_are_one_op_too(name: str) -> None:
    build, want = SAME[name]
    before = routed(build)
    after = lifted(before)
    (n,) = routes(after)
    assert differs(n) == want
    logits, biases = probes(E)
    for bias in biases:
        args = [torch.ones(len(logits), H), logits, bias]
        for a, b in zip(after.eval(*args), before.eval(*args), strict=True):
            torch.testing.assert_close(a, b, equal_nan=True)


def _normed(r: Forms, over: Callable[[Value, Value], Value]) -> tuple[Value, Value]:
    best, index = r.weigh(scores := r.scores())
    return r.div(best, over(scores, best)), index


OTHER: dict[str, Build] = {
    "least instead of most": lambda r: r.weigh(r.neg(r.scores())),
    "no score": lambda r: r.topk(r.logits),
    "scores clamped": lambda r: r.weigh(r.max(r.scores(), r.lit(0.1))),
    "over the sum of all": lambda r: _normed(r, lambda s, w: r.sum(s)),
    "over the most": lambda r: _normed(r, lambda s, w: r.amax(w)),
    "over the sum, twice": lambda r: _normed(r, lambda s, w: r.add(r.sum(w), r.sum(w))),
    "best three of a group": lambda r: r.weigh(s := r.scores("sigmoid"), r.mask(s, two=3)),
    "other groups kept": lambda r: r.weigh(s := r.scores("sigmoid"), r.mask(s, on=0.0)),
    "weights of the logits": lambda r: r.weigh(r.logits, r.scores()),
    "two biases": lambda r: r.weigh(s := r.scores(), r.add(r.add(s, r.bias), r.bias)),
    "the experts backwards": lambda r: then(r.weigh(r.scores()), index=lambda i: r.add(
        r.mul(i, r.full(shape=(), value=-1, dtype=I64)), r.full(shape=(), value=E - 1, dtype=I64))),
    "weights by rank": lambda r: then(r.weigh(r.scores()), lambda w, i: r.mul(w, r.cast(
        r.iota(shape=(1, K), dim=1, start=1, step=1, dtype=I64), dtype=F32))),
    "weights by expert": lambda r: then(r.weigh(r.scores()), lambda w, i: r.mul(w, r.gather(
        r.expand(r.reshape(r.bias, shape=(1, E)), shape=(T, E)), i))),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_what_is_no_such_routing_stays(name: str) -> None:
    g = routed(OTHER[name])
    assert lifted(g) is g


def test_scores_that_somebody_else_reads_stay() -> None:
    g = routed(lambda r: r.weigh(r.scores()))
    g.outputs.append(next(n.out for n in g.nodes if n.op.name == "softmax"))
    assert lifted(g) is g


def test_equal_routers_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    recognise = lift_route.recognise

    def counting(*args: Any) -> Any:
        nonlocal count
        count += 1
        return recognise(*args)

    def twice(g: Graph, x: Value, logits: Value, bias: Value) -> list[Value]:
        up, down = (g.const(torch.ones(s) / 8, "w") for s in ((E, 8, H), (E, H, 4)))
        for _ in range(3):
            weight, index = (r := Forms(g, logits, bias)).weigh(r.scores())
            x = add(g, "moe_experts", x, index, weight, up, down, act="silu")
            logits = add(g, "exp", logits)
        return [x]

    monkeypatch.setattr(lift_route, "recognise", counting)
    types = [Type(F32, s) for s in ((T, H), (T, E), (E,))]
    assert len(routes(lifted(graph_of(twice, *types, symbols={"T": Range(1, 99, 7)})))) == 3
    assert count == 1


# -- the op ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrong",
    [{"k": 9, "groups": 4, "topk_group": 2}, {"groups": 3}, {"topk_group": 2}, {"k": 0},
     {"score": "tanh"}, {"groups": E, "topk_group": 4}],
    ids=str,
)  # fmt: skip
def test_parameters_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ShapeError):
        MOE_ROUTE.infer([Type(F32, (5, E))], {**DEFAULTS, "k": K, **wrong})


# -- the CPU kernel --------------------------------------------------------------------------------
KERNEL: dict[str, tuple[int, dict[str, Any], torch.dtype, torch.dtype | None]] = {
    "V3": (256, {**V3, "k": 8, "groups": 8, "topk_group": 4}, F32, F32),
    "V3 bf16": (64, {**V3, "k": 6, "compute": BF16, "dtype": BF16}, BF16, BF16),
    "V3, bf16 scores, f32 bias": (64, {**V3, "k": 6, "compute": BF16}, BF16, F32),
    "V3, groups of 5": (20, {**V3, "k": 2}, F32, F32),
    "V2": (160, {**V2, "k": 6, "groups": 8, "topk_group": 3}, F32, None),
    "mixtral": (8, {**NORM, "k": 2}, BF16, None),
    "qwen3": (128, {**NORM, "k": 8, "dtype": BF16}, BF16, None),
    "kimi": (384, {"score": "sigmoid", "k": 8, **NORM, "eps": 1e-20, "scale": 2.4}, F32, F32),
    "granite": (40, {**PICK, "k": 8, "dtype": BF16}, F32, None),
    "gpt_oss": (32, {**PICK, "k": 4, "biased": True, "compute": BF16, "dtype": BF16}, BF16, BF16),
    "ernie": (33, {"k": 5, **NORM, "floor": 1e-12}, F32, F32),
    "all of four": (4, {"k": 4}, F32, None),
    "one of one": (1, {"k": 1, **NORM}, F32, None),
}


def plainly(g: Graph, logits: Value, bias: Value | None, a: dict[str, Any]) -> list[Value]:
    """What moe_route does, in the ops that it replaces."""
    op = lambda name, *args, **attrs: add(g, name, *args, **attrs)
    lit = lambda value: op("full", shape=(), value=value, dtype=F32)
    rows, n, groups = logits.shape[0], logits.shape[1], a["groups"]

    def topk(x: Value, k: int) -> tuple[Value, Value]:
        op("topk", x, k=k)
        values, index = g.nodes[-1].outputs
        return values, index

    s = op("cast", logits, dtype=a["compute"])
    s = s if a["score"] == "softmax_topk" else op(a["score"], s)
    choice = s if bias is None else op("add", s, bias)
    if groups > 1:
        each = op("reshape", choice, shape=(rows, groups, n // groups))
        best = topk(each, 2 if a["group_score"] == "top2sum" else 1)[0]
        keep = topk(op("reshape", op("sum", best), shape=(rows, groups)), a["topk_group"])[1]
        flags = op("full", shape=(rows, groups), value=0.0, dtype=F32)
        ones = op("full", shape=keep.shape, value=1.0, dtype=F32)
        flags = op("reshape", op("scatter", flags, keep, ones), shape=(rows, groups, 1))
        flags = op("reshape", op("expand", flags, shape=each.shape), shape=(rows, n))
        choice = op("where", op("cast", flags, dtype=torch.bool), choice, lit(a["mask"]))
    w, index = topk(choice, a["k"])
    w = w if a["biased"] else op("gather", s, index)
    w = op("softmax", w) if a["score"] == "softmax_topk" else w
    if a["renorm"]:
        w = op("div", w, op("max", op("add", op("sum", w), lit(a["eps"])), lit(a["floor"])))
    return [op("cast", op("mul", w, lit(a["scale"])), dtype=a["dtype"]), index]


@cache
def kernels() -> tuple[list[str], list[torch.Tensor]]:
    """Probes through each case: as one op, of a slice of wider rows, and in many ops."""
    b = Batch()
    rng = torch.Generator().manual_seed(2)
    for name, (n, attrs, dtype, bias) in KERNEL.items():
        attrs = {**DEFAULTS, **attrs}
        logits = torch.cat([probes(n)[0], torch.randn(500, n, generator=rng) * 3]).to(dtype)
        logits[5] = float("nan")
        logits[6, 0] = float("nan")
        logits[7, n - 1] = float("inf")
        beta = [b.const(probes(n)[1][0].to(bias))] if bias is not None else []
        x, wide = b.input(logits), b.input(torch.cat([logits, logits], 1))
        part = add(b.graph, "slice", wide, dim=1, start=n, stop=2 * n, step=1)
        for v in (x, part):
            b.graph.add(MOE_ROUTE, v, *beta, **attrs)
            b.output(name, *b.graph.nodes[-1].outputs)
        b.output(name, *plainly(b.graph, x, beta[0] if beta else None, attrs))
    b.graph.verify()
    outs = call(b.graph, executor(compiled(b.graph), 2), b.args)
    eager = b.graph.eval(*b.args)  # its first two of every six are the reference
    names = [n for k, n in enumerate(b.names) if k % 6 < 2]
    return b.names + names, outs + [t for k, t in enumerate(eager) if k % 6 < 2]


@pytest.mark.parametrize("name", KERNEL)
def test_the_kernel_does_what_the_ops_do(name: str) -> None:
    names, outs = kernels()
    w, index, w2, index2, want, want_index, ref, ref_index = (
        t for n, t in zip(names, outs, strict=True) if n == name
    )
    assert torch.equal(index2, index) and torch.equal(w2.nan_to_num(7), w.nan_to_num(7))
    same = torch.ones(len(index), dtype=torch.bool)
    if KERNEL[name][1].get("compute", F32) == F32:
        assert torch.equal(index, want_index)
    else:  # a fused loop does not round on its way, moe_route does as torch
        want = ref
        same = (index == ref_index).all(-1)
        assert float(same.float().mean()) >= 0.99
    ulp = torch.finfo(w.dtype).eps
    torch.testing.assert_close(w[same], want[same], rtol=4 * ulp, atol=1e-18, equal_nan=True)


@pytest.mark.parametrize("name", KERNEL)
def test_the_reference_does_what_the_ops_do(name: str) -> None:
    n, attrs, dtype, bias = KERNEL[name]
    attrs = {**DEFAULTS, **attrs}
    logits, biases = probes(n)
    for beta in biases if bias is not None else biases[:1]:
        args = [logits.to(dtype), *([beta.to(bias)] if bias is not None else [])]
        g = graph_of(lambda g, x, *b: plainly(g, x, b[0] if b else None, attrs), *args)
        for a, b in zip(MOE_ROUTE.ref(*args, **attrs), g.eval(*args), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
