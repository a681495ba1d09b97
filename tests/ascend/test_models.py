"""Whole small models emitted as Ascend C and run in the simulator with every check on, against
transformers running eagerly and against the CPU target."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from tests.helpers import assert_close_to_reference, compiled, exact_eval, relative_error
from tests.test_families import (
    Driver,
    Logits,
    assert_follows_eager,
    family,
    force_routing,
    tokens,
)
from tests.test_mla_rewrite import CASES
from tests.zoo import FAMILIES, zoo
from tests.zoo_mla import zoo_mla
from xcompile import compile as xcompile
from xcompile.compiler import executor
from xcompile.executable import Executable
from xcompile.frontend import huggingface as hf

TARGET = "ascend910b"
FAST = ("deepseek_v3",)
HALF = {"bf16": torch.bfloat16, "f16": torch.float16}
FEEDS = [
    [[5, 6, 7, 8, 9, 10, 11], [12, 13], [], [30 + i for i in range(9)]],
    [[21], [22], [20], [39 + i for i in range(12)]],  # decode and prefill in one step
    [[23], [24], [25], [26]],
]


@cache
def compiled_step(name: str) -> Executable:
    return xcompile(family(name), strict=True, target=TARGET)


def slow_but(fast: tuple[str, ...]) -> list[Any]:
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in FAMILIES]


@pytest.mark.parametrize("name", slow_but(FAST))
def test_step_logits_are_eager_logits(name: str) -> None:
    model, run = family(name), compiled_step(name)
    assert run.compiled is not None
    assert not run.compiled.imported.islands
    step = Driver(run, 4)
    assert_follows_eager(step, model, FEEDS)


@pytest.mark.parametrize("name", slow_but(FAST))
def test_a_captured_step_replays_for_other_sizes(name: str) -> None:
    run = compiled_step(name)
    run.executor.capture = True
    try:
        step, plain = Driver(run, 4), Driver(xcompile(family(name), threads=2), 4)
        for feed in FEEDS:
            got, want = step(feed), plain(feed)
            assert relative_error(got, want) <= 1e-5
    finally:
        run.executor.capture = False


@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize("name", slow_but(FAST))
def test_16_bit_is_as_close_as_eager_when_the_routing_is_forced(name: str, kind: str) -> None:
    dtype = HALF[kind]
    model = zoo(name, dtype)
    exact = zoo(name)
    exact.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    assert force_routing(model) == force_routing(exact) == (0 if name == "llama" else 2)
    shapes = ({0: torch.export.Dim("B", max=16), 1: torch.export.Dim("S", max=128)},)
    with torch.no_grad(), hf.prepared(model, verify=False):
        run = xcompile(Logits(model), (tokens(3, 7),), dynamic_shapes=shapes, strict=True,
                       target=TARGET)  # fmt: skip
    for shape in ((3, 7), (1, 1), (2, 33)):
        ids = tokens(*shape, seed=sum(shape))
        with torch.no_grad():
            eager = model(ids, use_cache=False).logits
            reference = exact(ids, use_cache=False).logits
        got = run(ids)
        assert relative_error(got, eager) <= 3e-2
        assert_close_to_reference(got, eager, reference, what=f"{name} {kind} {shape}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["padding", "chunk", "wide"])
def test_absorbed_attention_of_exported_graphs(name: str) -> None:
    case = replace(CASES[name], dtype=torch.bfloat16)
    graph = case.graph()
    done = compiled(graph, TARGET)
    assert sum(n.op.name == "head_linear" for n in done.graph.nodes) == 2
    run = executor(done)
    for keys in (5, 130):
        args = case.arguments(keys)
        (eager,), (exact,) = graph.eval(*args), exact_eval(graph, args)
        assert_close_to_reference(run(*args)[0], eager, exact, what=f"{name} {keys}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glm4_moe_lite", "minicpm3"])
def test_other_mla_steps_are_eager(name: str) -> None:
    model = zoo_mla(name)
    step = Driver(xcompile(model, strict=True, target=TARGET), 4)
    assert_follows_eager(step, model, FEEDS)
