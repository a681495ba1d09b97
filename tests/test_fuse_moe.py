"""Routed experts in every form become moe_experts, or stay; the CPU kernel's forms."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers import Batch, call, compiled, graph_of, relative_error
from tests.zoo_moe import tiny
from xcompile import api
from xcompile import compile as compile_model
from xcompile.codegen.lower import lower
from xcompile.compiler import executor, make_target
from xcompile.errors import ShapeError
from xcompile.frontend import hf_loops, torch_ops
from xcompile.frontend import huggingface as hf
from xcompile.frontend.hf_experts import is_experts
from xcompile.ir import Graph, Node, Type, Value
from xcompile.ops.moe import ACTIVATIONS, CLAMPED, MOE_EXPERTS, gate
from xcompile.passes import run_pass, run_pipeline
from xcompile.symbolic import Range, symbol
from xcompile.targets.ascend import ascend
from xcompile.text import parse, to_text

CPU = make_target("cpu")
F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
T = symbol("T")
K = 3


# -- experts of transformers, unprepared ---------------------------------------------------------
# family: what moe_experts then is: activation, gate, biases
Form = tuple[str, bool, bool]
FAST: dict[str, Form] = {
    "mixtral": ("silu", True, False),
    "gpt_oss": ("swiglu_oai", True, True),
    "nemotron_h": ("relu2", False, False),
}
SLOW: dict[str, Form] = {
    "aria": ("silu", True, False),
    "deepseek_v4": ("silu_clamped", True, False),
    "hy_v4": ("silu_clamped", True, False),
    "minimax_m3_vl": ("swiglu_oai", True, False),
    "openai_privacy_filter": ("swiglu_oai", True, True),
    "phimoe": ("silu", True, False),
    "gemma4": ("gelu_tanh", True, False),
    "jamba": ("silu", True, False),
    "beam": ("silu", True, False),
}
FAMILIES = [pytest.param(f, marks=() if f in FAST else pytest.mark.slow) for f in {**FAST, **SLOW}]
FORMS = {**FAST, **SLOW}


@cache
def experts_of(family: str, dtype: torch.dtype) -> Any:
    model = tiny(family, dtype)
    return model, next(m for m in model.modules() if is_experts(m))


class Alone(nn.Module):
    def __init__(self, experts: nn.Module) -> None:
        super().__init__()
        self.experts = experts

    def forward(self, x: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return self.experts(x, index, weight)


def routed(
    module: Any, rows: int, dtype: torch.dtype, seed: int = 0, scale: float = 1.0
) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    down = module.down_proj
    hidden = down.shape[2] if module.is_transposed else down.shape[1]
    x = (torch.randn(rows, hidden, generator=rng) * scale).to(dtype)
    index = torch.rand(rows, down.shape[0], generator=rng).argsort(-1)[:, :K]
    return [x, index, torch.rand(rows, K, generator=rng).to(dtype)]


@cache
def imported(family: str, implementation: str, dtype: torch.dtype) -> Graph:
    model, module = experts_of(family, dtype)
    model.set_experts_implementation(implementation)
    rows = torch.export.Dim("T", max=4096)
    args = tuple(routed(module, 7, dtype))
    program = torch.export.export(
        Alone(module), args, dynamic_shapes=({0: rows},) * 3, strict=False
    )
    return api.from_export(program, {}).graph


def fused(g: Graph) -> Graph:
    out = run_pass("fuse_moe", g, CPU)
    out.verify()
    return out


def experts_in(g: Graph) -> list[Node]:
    return [n for n in g.nodes if n.op is MOE_EXPERTS]


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("implementation", ["grouped_mm", "batched_mm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_experts_of_a_family_are_one_op(
    family: str, implementation: str, dtype: torch.dtype
) -> None:
    before = imported(family, implementation, dtype)
    after = fused(before)
    (n,) = experts_in(after)
    act, gated, biased = FORMS[family]
    assert n.attrs["act"] == act
    assert (len(n.inputs) == 7) is biased
    assert (n.inputs[3].shape[1] == 2 * n.inputs[4].shape[2]) is gated
    assert {m.op.name for m in after.nodes} <= {"moe_experts", "permute", "reshape"}
    done = run_pass("canonicalise", after, CPU)
    assert [m.op.name for m in done.nodes] == ["moe_experts"]
    assert to_text(parse(to_text(after))) == to_text(after)
    _, module = experts_of(family, dtype)
    for rows, scale in ((1, 1.0), (40, 8.0)):
        args = routed(module, rows, dtype, seed=rows, scale=scale)
        want, got = before.eval(*args)[0], done.eval(*args)[0]
        assert relative_error(got, want) <= (1e-5 if dtype == F32 else 3e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_prepared_experts_are_the_same_op(family: str) -> None:
    model = tiny(family)
    with hf.prepared(model, attention=False):
        record = hf.preparation(model)
        assert record is not None and not record.unreplaced and record.verified
        module = next(m for m in model.modules() if is_experts(m))
        rows = torch.export.Dim("T", max=4096)
        args = routed(module, 7, F32)
        program = torch.export.export(
            Alone(module), tuple(args), dynamic_shapes=({0: rows},) * 3, strict=False
        )
        want = module(*args)
    g = run_pass("canonicalise", api.from_export(program, {}).graph, CPU)
    assert [n.op.name for n in g.nodes] == ["moe_experts"]
    assert g.nodes[0].attrs["act"] == FORMS[family][0]
    assert relative_error(g.eval(*args)[0], want) <= 1e-5
    assert not [name for m in model.modules() for name in vars(m) if "xllm" in name]


@pytest.mark.slow
def test_a_norm_behind_each_expert_stays_outside_of_the_op() -> None:
    model = tiny("muse_spark")
    module = next(m for m in model.modules() if is_experts(m))
    args = routed(module, 7, F32)
    model.set_experts_implementation("eager")
    want = module(*args)
    with hf.prepared(model, attention=False):
        record = hf.preparation(model)
        assert record is not None and not record.unreplaced and record.verified
        rows = torch.export.Dim("T", max=4096)
        program = torch.export.export(
            Alone(module), tuple(args), dynamic_shapes=({0: rows},) * 3, strict=False
        )
    g = api.from_export(program, {}).graph
    assert len(experts_in(g)) == 1 and not [n for n in g.nodes if n.op.name == "torch_call"]
    assert relative_error(g.eval(*args)[0], want) <= 1e-5


@pytest.mark.parametrize("family", ["hy_v4", "gpt_oss"])
def test_a_limit_is_not_lost_by_torch_compile(family: str) -> None:
    model, module = experts_of(family, F32)
    model.set_experts_implementation("grouped_mm")
    torch._dynamo.reset()
    run = torch.compile(Alone(module), backend="xllm", fullgraph=True, options={"strict": True})
    for scale in (1.0, 100.0):
        args = routed(module, 9, F32, scale=scale)
        with torch.no_grad():
            got, want = run(*args), module(*args)
            lost = copy.copy(module)
            lost.limit = lost.swiglu_limit = 1e9
            free = lost(*args)
        assert relative_error(got, want) <= 1e-5
    assert relative_error(free, want) > 0.1  # the limit matters here


# -- loops that transformers writes by hand --------------------------------------------------------
LOOPS = {
    "llama4": "Llama4TextMoe",
    "longcat_flash": "LongcatFlashExperts",
    "step3p7": "Step3p7Experts",
}


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    out = model(ids, use_cache=False)
    return out.logits if hasattr(out, "logits") else out[0]


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("family", LOOPS)
def test_a_hand_written_loop_is_substituted(family: str, dtype: torch.dtype) -> None:
    model = tiny(family, dtype)
    ids = torch.arange(3, 21).view(2, 9)
    want = logits_of(model, ids)
    with hf.prepared(model, attention=False):
        record = hf.preparation(model)
        assert record is not None and record.loops and record.verified == record.loops[:1]
        names = {type(model.get_submodule(path)).__name__ for path in record.loops}
        assert names == {LOOPS[family]}
        assert relative_error(logits_of(model, ids), want) <= (1e-5 if dtype == F32 else 3e-2)
        again = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.data.zero_()
        assert relative_error(logits_of(again, ids), want) <= (1e-5 if dtype == F32 else 3e-2)
    assert not [m for m in model.modules() if "forward" in vars(m)]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama4", "longcat_flash", "aria", "minimax_m3_vl", "beam"])
def test_a_step_of_new_forms_generates_what_transformers_does(family: str) -> None:
    model, prompts = tiny(family), [[5, 6, 7, 8, 9], [12], [30 + i for i in range(17)]]
    want = [
        model.generate(
            torch.tensor([p]), max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0, len(p) :].tolist()
        for p in prompts
    ]
    run = compile_model(model, strict=True, max_context=512)
    assert run.compiled is not None
    assert any(n.op is MOE_EXPERTS for n in run.compiled.graph.nodes)
    assert run.generate(prompts, 5, eos=()) == want


def test_a_substitute_that_computes_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny("llama4")
    right = hf_loops.SUBSTITUTES["Llama4TextMoe"]
    wrong = replace(right, forward=lambda m, x: tuple(1.01 * t for t in right.forward(m, x)))
    monkeypatch.setitem(hf_loops.SUBSTITUTES, "Llama4TextMoe", wrong)
    with pytest.raises(hf.VerificationError, match="feed_forward: experts differs"):
        hf.prepare(model)
    assert not [m for m in model.modules() if "forward" in vars(m)]
    assert hf.preparation(model) is None


# -- what is no such region stays -----------------------------------------------------------------
class Batched(nn.Module):
    """transformers' batched_mm on weights of its own, with one part replaced."""

    def __init__(self, change: str) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.change = change
        self.up = nn.Parameter(torch.randn(6, 16, 24, generator=rng) / 5)
        self.down = nn.Parameter(torch.randn(6, 24, 8, generator=rng) / 3)

    def forward(self, x: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        k = index.shape[1]
        ids = index.reshape(-1)
        rows = x.repeat_interleave(k, 0)
        if self.change == "rows in another order":
            rows = x.repeat(k, 1)
        h = torch.bmm(self.up[ids], rows.unsqueeze(-1)).squeeze(-1)
        g, u = h.chunk(2, -1)
        if self.change == "another unit":
            u = u + 1
        if self.change == "a clamp that rarely acts":
            g = g.clamp(max=700.0)
        y = nn.functional.silu(g) * u
        if self.change == "another expert's second product":
            ids = (ids + 1) % 6
        y = torch.bmm(self.down[ids], y.unsqueeze(-1)).squeeze(-1)
        if self.change == "a norm behind the experts":
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
        if self.change == "a factor":
            y = y * 1.0001
        y = y * weight.reshape(-1, 1)
        if self.change == "another sum":
            return y.view(k, -1, 24).sum(0)
        if self.change == "read elsewhere":
            return y.view(-1, k, 24).sum(1) + y[::k]
        return y.view(-1, k, 24).sum(1)


def exported(module: nn.Module) -> tuple[Graph, list[torch.Tensor]]:
    rng = torch.Generator().manual_seed(0)
    args = [torch.randn(5, 24, generator=rng), torch.rand(5, 6, generator=rng).argsort(-1)[:, :K],
            torch.rand(5, K, generator=rng)]  # fmt: skip
    rows = torch.export.Dim("T", max=4096)
    program = torch.export.export(
        module, tuple(args), dynamic_shapes=({0: rows},) * 3, strict=False
    )
    return api.from_export(program, {}).graph, args


def test_a_hand_written_region_is_one_op() -> None:
    g, args = exported(Batched(""))
    (n,) = experts_in(after := fused(g))
    assert n.attrs == {"act": "silu"}
    torch.testing.assert_close(after.eval(*args), g.eval(*args))
    assert fused(after) is after


@pytest.mark.parametrize(
    "change",
    ["rows in another order", "another unit", "a clamp that rarely acts", "another sum",
     "another expert's second product", "a norm behind the experts", "a factor", "read elsewhere"],
)  # fmt: skip
def test_what_only_looks_like_experts_stays(change: str) -> None:
    g, _ = exported(Batched(change))
    assert fused(g) is g


# -- the op and its CPU kernel -----------------------------------------------------------------
def forms() -> Iterator[tuple[str, bool, bool]]:
    yield from itertools.product(CLAMPED, (True,), (True, False))
    yield from (("silu", True, True), ("relu2", False, False), ("gelu", False, True))


@cache
def step(act: str, gated: bool, biased: bool, dtype: torch.dtype) -> tuple[Graph, Any]:
    experts, inter, hidden, k = 7, 21, 37, 2
    rng = torch.Generator().manual_seed(0)
    up = torch.randn(experts, (2 if gated else 1) * inter, hidden, generator=rng) / 3
    down = torch.randn(experts, hidden, inter, generator=rng) / inter**0.5
    biases = [torch.randn(w.shape[:2], generator=rng) for w in (up, down)] if biased else []
    attrs = {"limit": 1.5, "alpha": 1.702} if act in CLAMPED else {}

    def build(g: Graph, *values: Value) -> list[Value]:
        weights = [g.const(t.to(dtype), f"w{i}") for i, t in enumerate([up, down, *biases])]
        return [g.add(MOE_EXPERTS, *values, *weights, act=act, **attrs)]

    types = Type(dtype, (T, hidden)), Type(I64, (T, k)), Type(F32, (T, k))
    g = graph_of(build, *types, symbols={"T": Range(0, 256, 8)})
    return g, compiled(g)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize(("act", "gated", "biased"), forms())
def test_the_kernel_in_every_form(act: str, gated: bool, biased: bool, dtype: torch.dtype) -> None:
    g, library = step(act, gated, biased, dtype)
    rng = torch.Generator().manual_seed(1)
    for tokens in (0, 1, 5, 70):
        x = torch.randn(tokens, 37, generator=rng).to(dtype)
        expert = torch.rand(tokens, 7, generator=rng).argsort(-1)[:, :2]
        args = [x, expert, torch.rand(tokens, 2, generator=rng)]
        got = [call(g, executor(library, n), args) for n in (1, 3)]
        Batch(g, args, [f"{tokens} tokens"]).check(got[0])
        assert torch.equal(got[0][0], got[1][0])


def test_units_are_those_of_the_families() -> None:
    g, u = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).mul(9).unbind(0)
    low = lambda x: x.clamp(max=7.0)
    assert torch.equal(gate("silu", g, u), torch.nn.functional.silu(g) * u)
    want = (u.clamp(-7, 7) + 1) * (low(g) * torch.sigmoid(low(g) * 1.702))
    assert torch.equal(gate("swiglu_oai", g, u, 7.0, 1.702), want)
    want = torch.nn.functional.silu(low(g)) * u.clamp(-7, 7)
    assert torch.equal(gate("silu_clamped", g, u, 7.0), want)
    want = low(torch.nn.functional.silu(g)) * u.clamp(-7, 7)
    assert torch.equal(gate("clamped_silu", g, u, 7.0), want)


@pytest.mark.parametrize(
    ("up", "bias", "act"),
    [((4, 8, 6), 0, "swiglu_oai"), ((4, 16, 6), 1, "silu"), ((4, 12, 6), 0, "silu"),
     ((4, 16, 6), 0, "sin"), ((3, 16, 6), 0, "silu")],
    ids=["clamped without gate", "one bias", "odd width", "unknown", "fewer experts"],
)  # fmt: skip
def test_ill_formed_experts_are_refused(up: tuple[int, ...], bias: int, act: str) -> None:
    def build(g: Graph, *values: Value) -> list[Value]:
        more = [g.const(torch.zeros(4, 16), "b")] * bias
        weights = [g.const(torch.zeros(*up), "up"), g.const(torch.zeros(4, 6, 8), "down"), *more]
        return [g.add(MOE_EXPERTS, *values, *weights, act=act)]

    with pytest.raises(ShapeError, match="moe_experts takes"):
        graph_of(build, Type(F32, (2, 6)), Type(I64, (2, 2)), Type(F32, (2, 2)))
    args = [torch.zeros(2, 6), torch.zeros(2, 2, dtype=I64), torch.zeros(2, 2), torch.zeros(up)]
    given = {"gate_up_bias": torch.zeros(4, 16)} if bias else {}
    with pytest.raises(ValueError, match="xllm::moe_experts"):
        torch_ops.moe_experts(*args, torch.zeros(4, 6, 8), act, **given)


@pytest.mark.parametrize(("act", "gated", "biased"), forms())
def test_every_form_is_emitted_for_ascend(act: str, gated: bool, biased: bool) -> None:
    g, _ = step(act, gated, biased, F32)
    target = ascend("ascend910b1")
    plan = lower(run_pipeline(g, target)[0], target)
    text = "".join(plan.kernels.values())
    assert f"MoeAct::{act}>" in text
    flags = re.findall(r"MoeTile<float, \d+, \d+, (\w+), (\w+)>", text)
    assert flags == [(str(gated).lower(), str(biased).lower()), ("false", str(biased).lower())]
    assert ("MoeLimits{1.5" in text and "1.702" in text) is (act in CLAMPED)


def test_all_activations_have_a_name_in_both_places() -> None:
    assert torch_ops.ACTIVATIONS is ACTIVATIONS


def test_the_report_states_the_copy_that_was_saved() -> None:
    from xcompile.report import summary

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Batched(""), Batched("")])

        def forward(self, x: torch.Tensor, index: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x, index, w)
            return x

    _, args = exported(Batched(""))
    shapes = ({0: torch.export.Dim("T", max=4096)},) * 3
    run = compile_model(Two(), tuple(args), dynamic_shapes=shapes, strict=True)
    env = {"T": 100}
    assert summary(run).saved(env) == [100 * K * 24 * 4] * 2
    hint = f"2 x {5 * K * 24 * 4 / 1000:.3g} kB saved a step"
    assert hint in run.report()
