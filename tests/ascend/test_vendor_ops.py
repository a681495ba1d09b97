"""`--vendor-ops`: emitted modules call torch.ops.npu as its schemas demand, and compute what the IR
says. The vendor's operators are stood in for by references on CPU (vendor_reference.py)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch

from tests.ascend import vendor_reference
from tests.ascend.npu_wheel import schemas, wheel
from tests.helpers import OPS, relative_error, type_of
from tests.test_families import Driver, eager_rows, family
from tests.zoo import FAMILIES, zoo
from xcompile import vendor_ops, vendor_rules
from xcompile.api import step_names
from xcompile.compiler import make_target
from xcompile.errors import ShapeError, UnsupportedError, XCompileError
from xcompile.executable import Executable, Signature
from xcompile.frontend import huggingface as hf
from xcompile.frontend.fx import Imported, from_export
from xcompile.ir import Graph, Type
from xcompile.ops.moe import ACTIVATIONS
from xcompile.ops.route import DEFAULTS
from xcompile.symbolic import Range, symbol
from xcompile.targets import ROOT

pytestmark = pytest.mark.wheel
TEMPLATE = ROOT / "templates" / "ascend" / "vendor_step.j2"
FAST = ("deepseek_v3", "qwen3_moe")
FEEDS = [
    [[5, 6, 7, 8, 9, 10, 11], [12, 13], [], [30 + i for i in range(9)]],
    [[21], [22], [20], [39 + i for i in range(12)]],
    [[23], [24], [25], [26]],
]


@pytest.fixture(scope="module", autouse=True)
def _vendor(wheel_folder: Path) -> Iterator[None]:
    with wheel(wheel_folder) as source:
        library = vendor_reference.install(schemas(source))
    yield
    library._destroy()


def run(text: str, graph: Graph) -> Any:
    """The emitted step with the graph's weights."""
    space: dict[str, Any] = {}
    with mock.patch.dict(sys.modules, torch_npu=ModuleType("torch_npu")):
        exec(compile(text, "vendor_step.py", "exec"), space)
    w = vendor_ops.weights(graph)
    return lambda *args: space["step"](w, *args)


def called(text: str) -> set[str]:
    return set(re.findall(r"torch\.ops\.npu\.(\w+)\(", text))


# -- whole models ---------------------------------------------------------------------------------
@cache
def imported(name: str, dtype: torch.dtype, page: int) -> tuple[Imported, hf.StepModel]:
    model = family(name) if dtype == torch.float32 else zoo(name, dtype)
    step = hf.StepModel(model, page=page)
    program = hf.export_step(step, functional=False)
    hf.restore(model)
    return from_export(program, step_names(program)), step


class Checked:
    """An executor that compares the emitted module with the IR's interpreter at every call."""

    def __init__(self, graph: Graph, limit: float) -> None:
        self.graph, self.limit = graph, limit
        self.text = vendor_ops.emit(graph)
        self.step = run(self.text, graph)

    def __call__(self, *args: torch.Tensor) -> list[torch.Tensor]:
        outs = self.graph.eval(*[a.clone() for a in args])
        want = [v for k, v in enumerate(outs) if k not in self.graph.state]
        got = list(self.step(*args))
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype and relative_error(a, b) <= self.limit
        for o, i in self.graph.state.items():
            assert relative_error(args[i], outs[o]) <= self.limit
        return got


def driver(name: str, dtype: torch.dtype = torch.float32, page: int = 64) -> tuple[Driver, str]:
    graph, step = imported(name, dtype, page)
    lowered = vendor_ops.lower(graph.graph, make_target("ascend910b"))
    checked = Checked(lowered, 1e-5 if dtype == torch.float32 else 3e-2)
    signature = Signature(graph.inputs, [f"x{k}" for k in graph.inputs], graph.outputs,
                          single=True, step=step.spec)  # fmt: skip
    return Driver(Executable(checked, signature), 4), checked.text


def some(fast: Sequence[str]) -> list[Any]:
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in FAMILIES]


@pytest.mark.parametrize("name", some(FAST))
def test_a_models_step_is_that_of_the_interpreter_and_of_eager(name: str) -> None:
    step, text = driver(name)
    expected = {"npu_rms_norm", "npu_add_rms_norm", "npu_swiglu"}
    if name not in ("deepseek_v2", "glm4_moe"):  # complex, or of a part of the head: not lifted
        expected.add("npu_rotary_mul")
    if name != "llama":
        expected |= {"npu_moe_init_routing_v2", "npu_grouped_matmul", "npu_moe_finalize_routing"}
    assert expected <= called(text)
    seen: list[list[int]] = [[] for _ in range(4)]
    for feed in FEEDS:
        got = step(feed)
        for r, chunk in enumerate(feed):
            seen[r] += chunk
        want = eager_rows(family(name), [seen[r] for r, chunk in enumerate(feed) if chunk])
        assert relative_error(got, want) <= 1e-5


@pytest.mark.parametrize("page", [64, 128])
def test_16_bit_attention_goes_to_the_vendors_kernel(page: int) -> None:
    step, text = driver("olmoe", torch.bfloat16, page)
    assert "npu_fused_infer_attention_score" in called(text)
    assert ("def paged_attention" in text) == (page == 64)
    for feed in FEEDS:
        before = vendor_reference.CALLS.get("npu_fused_infer_attention_score", 0)
        step(feed)
        calls = vendor_reference.CALLS.get("npu_fused_infer_attention_score", 0) - before
        fused = page == 128 or all(len(x) == 1 for x in feed)
        assert calls == (2 if fused else 0)


# -- nodes ----------------------------------------------------------------------------------------
def graph_of(name: str, args: Sequence[torch.Tensor], weights: int = 0, **attrs: Any) -> Graph:
    """One node; the last `weights` operands are constants."""
    g = Graph()
    split = len(args) - weights
    values = [g.input(type_of(t), f"x{k}") for k, t in enumerate(args[:split])]
    values += [g.const(t, f"weight{k}") for k, t in enumerate(args[split:])]
    g.add(OPS[name], *values, **attrs)
    g.outputs = list(g.nodes[0].outputs)
    return g


def compared(g: Graph, args: Sequence[torch.Tensor], limit: float = 1e-6) -> str:
    """Runs the emitted module and the interpreter; the text."""
    text = vendor_ops.emit(g)
    got, want = run(text, g)(*args), g.eval(*args)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype.is_floating_point:
            torch.testing.assert_close(a.double(), b.double(), rtol=limit, atol=limit)
        else:
            assert torch.equal(a, b)
    return text


NO_FORM = {"group", "torch_call", "moe_experts_int8", "mla_attention"}


@pytest.mark.parametrize("name", sorted(OPS.keys() - NO_FORM))
def test_every_op_has_a_form(name: str, rng: torch.Generator) -> None:
    op = OPS[name]
    assert op.sample is not None or name == "copy"
    args, attrs = op.sample(rng) if op.sample else ([torch.randn(3, 4, generator=rng)], {})
    given = args or [torch.zeros(1)]
    g = Graph()
    values = [g.input(type_of(t), f"x{k}") for k, t in enumerate(given)]
    g.add(op, *values[: len(args)], **attrs)
    g.outputs = list(g.nodes[0].outputs)
    compared(g, given, 1e-5)


def test_an_island_is_called(rng: torch.Generator) -> None:
    g = Graph()
    x = g.input(Type(torch.float32, (3, 4)), "x")
    spec = ((("t", 0), ("l", (1,))), (("correction", 0), ("keepdim", True)))
    g.add(OPS["torch_call"], x, target="aten::var.correction", spec=spec,
          dtypes=(torch.float32,), shapes=((3, 1),))  # fmt: skip
    g.outputs = [g.nodes[0].out]
    assert "torch.ops.aten.var.correction(" in compared(g, [torch.randn(3, 4, generator=rng)])


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("x", "rows", "fused"),
    [
        ((2, 3, 5, 8), (1, 1, 5), True),
        ((2, 3, 5, 8), (2, 1, 5), True),
        ((5, 3, 8), (5, 1), True),
        ((5, 8), (5,), True),
        ((2, 3, 5, 8), (1, 1, 1), False),
        ((2, 3, 4, 5, 8), (1, 1, 1, 5), False),
    ],
)
def test_rope(
    x: tuple, rows: tuple, fused: bool, half: bool, interleaved: bool, rng: torch.Generator
) -> None:
    angle = torch.randn(*rows, 4, generator=rng)
    angle = angle if half else torch.cat([angle, angle], -1)
    args = [torch.randn(x, generator=rng), angle.cos(), angle.sin()]
    text = compared(graph_of("rope", args, interleaved=interleaved), args)
    assert called(text) == ({"npu_rotary_mul"} if fused else set())


ROUTES = {
    "softmax": ({}, "npu_moe_gating_top_k_softmax_v2"),
    "softmax renormalised": ({"renorm": True, "scale": 1.5}, "npu_moe_gating_top_k_softmax_v2"),
    "softmax of the best": ({"score": "softmax_topk"}, "npu_moe_gating_top_k_softmax_v2"),
    "softmax in groups": ({"groups": 4, "topk_group": 2}, None),
    "sigmoid": ({"score": "sigmoid", "renorm": True, "eps": 1e-20}, "npu_moe_gating_top_k"),
    "sigmoid in groups": ({"score": "sigmoid", "renorm": True, "groups": 4, "topk_group": 2,
                           "group_score": "top2sum", "scale": 2}, "npu_moe_gating_top_k"),
    "sigmoid as it is": ({"score": "sigmoid"}, None),
    "groups of two": ({"score": "sigmoid", "renorm": True, "groups": 12, "topk_group": 6}, None),
    "biased weights": ({"score": "sigmoid", "renorm": True, "biased": True}, None),
    "in 16 bits": ({"compute": torch.bfloat16}, None),
    "as 16 bits": ({"dtype": torch.bfloat16}, "npu_moe_gating_top_k_softmax_v2"),
}  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", ROUTES)
def test_routing(case: str, bias: bool, rng: torch.Generator) -> None:
    more, name = ROUTES[case]
    attrs = {**DEFAULTS, "k": 3, **more}
    args = [torch.randn(7, 24, generator=rng)]
    if bias:
        args.append(torch.randn(24, generator=rng) / 8)
    g = graph_of("moe_route", args, int(bias), **attrs)
    used = called(compared(g, args[:1]))
    fused = name is not None and not (bias and attrs["score"] != "sigmoid")
    assert used == ({name} if fused else set())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("act", sorted(vendor_rules.ACTIVATIONS))
def test_experts(act: str, dtype: torch.dtype, rng: torch.Generator) -> None:
    args, _ = OPS["moe_experts"].sample(rng)  # type: ignore[misc]
    args = [t.to(dtype) if t.is_floating_point() else t for t in args]
    text = compared(graph_of("moe_experts", args, 2, act=act), args[:3], 3 * torch.finfo(dtype).eps)
    names = {"npu_moe_init_routing_v2", "npu_grouped_matmul", "npu_moe_finalize_routing"}
    assert called(text) == (names | {"npu_swiglu"} if act == "silu" else names)
    empty = [t[:0] for t in args[:3]]
    assert run(text, graph_of("moe_experts", args, 2, act=act))(*empty)[0].shape[0] == 0


@pytest.mark.parametrize("act", sorted({*ACTIVATIONS} - {*vendor_rules.ACTIVATIONS}))
def test_other_activations_are_refused(act: str, rng: torch.Generator) -> None:
    args, _ = OPS["moe_experts"].sample(rng)  # type: ignore[misc]
    with pytest.raises(UnsupportedError, match=f"activation {act}"):
        vendor_ops.emit(graph_of("moe_experts", args, 2, act=act))


def test_experts_in_int8_are_refused(rng: torch.Generator) -> None:
    args, attrs = OPS["moe_experts_int8"].sample(rng)  # type: ignore[misc]
    with pytest.raises(UnsupportedError, match="moe_experts_int8 has no eager form"):
        vendor_ops.emit(graph_of("moe_experts_int8", args, 2, **attrs))


def test_what_the_vendors_meta_functions_let_pass_is_refused(rng: torch.Generator) -> None:
    args, attrs = OPS["moe_experts"].sample(rng)  # type: ignore[misc]
    one = [args[0], args[1] * 0, args[2], args[3][:1], args[4][:1]]
    with pytest.raises(XCompileError, match="2 of 1 experts per token"):
        vendor_ops.emit(graph_of("moe_experts", one, 2, **attrs))
    single = [one[0], one[1][:, :1], one[2][:, :1], *one[3:]]
    with pytest.raises(UnsupportedError, match="2 to 1024 experts"):
        vendor_ops.emit(graph_of("moe_experts", single, 2, **attrs))
    with pytest.raises(ShapeError, match=r"gate_up\[E,2I,H\]"):
        graph_of("moe_experts", [*args[:3], args[3][:, :, 1:], args[4]], 2, **attrs)
    with pytest.raises(ShapeError, match="25 experts out of 1"):
        graph_of("moe_route", [torch.zeros(2, 24)], **{**DEFAULTS, "k": 25})


def test_only_halves_side_by_side_are_a_swiglu(rng: torch.Generator) -> None:
    def graph(a: int, b: int, width: int = 4, swap: bool = False) -> Graph:
        g = Graph()
        y = g.input(Type(torch.float32, (3, 12)), "y")
        cut = [g.add(OPS["slice"], y, dim=1, start=s, stop=s + width, step=1) for s in (a, b)]
        gate = g.add(OPS["silu"], cut[0])
        g.outputs = [g.add(OPS["mul"], *((cut[1], gate) if swap else (gate, cut[1])))]
        return g

    y = torch.randn(3, 12, generator=rng)
    for args, text in (
        ((0, 4), "[..., 0:8]"),
        ((0, 6, 6), "(y,"),
        ((4, 8, 4, True), "[..., 4:12]"),
    ):
        made = compared(graph(*args), [y])
        assert f"npu_swiglu(y{text.removeprefix('(y')}" in made and "silu" not in made
    for args in ((4, 0), (0, 8), (2, 4)):
        assert not called(compared(graph(*args), [y]))


def test_a_residual_sum_and_its_norm_are_one_call(rng: torch.Generator) -> None:
    g = Graph()
    a, b = (g.input(Type(torch.float32, (5, 16)), n) for n in "ab")
    w = g.const(torch.randn(16, generator=rng), "w")
    total = g.add(OPS["add"], a, b)
    twice = g.add(OPS["add"], total, total)
    g.outputs = [g.add(OPS["rms_norm"], total, w, eps=1e-6), twice]
    text = compared(g, [torch.randn(5, 16, generator=rng) for _ in "ab"])
    assert called(text) == {"npu_add_rms_norm"}


def test_state_is_updated_in_place_and_sizes_come_from_shapes(rng: torch.Generator) -> None:
    t = symbol("T")
    g = Graph(symbols={"T": Range(1, 64, 4)})
    cache = g.input(Type(torch.float32, (9, 4)), "cache")
    index = g.input(Type(torch.int64, (t + 1,)), "w")  # a name that the module uses itself
    src = g.input(Type(torch.float32, (t + 1, 2, 2)), "for")
    rows = g.add(OPS["reshape"], src, shape=(t + 1, 4))
    new = g.add(OPS["index_copy"], cache, index, rows, dim=0)
    ramp = g.add(OPS["iota"], shape=(t + 1,), dim=0, start=0, step=2, dtype=torch.int64)
    g.outputs, g.state = [new, ramp], {0: 0}
    args = [torch.randn(9, 4, generator=rng), torch.tensor([2, 7, 1]), torch.randn(3, 2, 2)]
    want = g.eval(*args)
    (got,) = run(vendor_ops.emit(g), g)(*args)
    assert torch.equal(args[0], want[0]) and torch.equal(got, want[1])


# -- wrong calls ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("epsilon=1e-06", "eps=1e-06"),
        ("epsilon=1e-06", "epsilon='1e-06'"),
        (", epsilon=1e-06", ", epsilon=1e-06, fast=True"),
        (', w["weight0"], epsilon', ", epsilon"),
        ("npu_rms_norm(", "npu_rms_norm_(")
    ],
)  # fmt: skip
def test_a_wrong_call_does_not_run(right: str, wrong: str, rng: torch.Generator) -> None:
    args = [torch.randn(3, 16, generator=rng), torch.randn(16, generator=rng)]
    g = graph_of("rms_norm", args, 1, eps=1e-6)
    text = compared(g, args[:1])
    assert right in text
    with pytest.raises((TypeError, RuntimeError, AttributeError)):
        run(text.replace(right, wrong), g)(args[0])


def test_every_call_that_can_be_emitted_has_a_schema_and_was_seen() -> None:
    sources = (Path(vendor_ops.__file__).with_name("vendor_rules.py"),
               TEMPLATE)  # fmt: skip
    written = {name for path in sources for name in called(path.read_text())}
    assert written == vendor_reference.IMPLEMENTATIONS.keys() and len(written) == 10
