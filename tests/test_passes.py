"""All passes: a golden text each, the same values after each, and the runner's own checks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from types import ModuleType

import pytest
import torch

from tests.helpers import optimised
from tests.pass_examples import CPU, EXAMPLES, RANDOM, example, stages
from tests.test_fuzz import SIZES, arguments, close, random_graph
from xcompile import compile as xcompile
from xcompile.errors import XCompileError
from xcompile.ir import Graph
from xcompile.passes import PIPELINE, run_pass, run_pipeline
from xcompile.text import to_text


def test_every_pass_has_an_example() -> None:
    assert set(EXAMPLES) == set(PIPELINE)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_pass_does_what_its_golden_text_shows(
    name: str, golden: Callable[[str, str], None]
) -> None:
    before = example(name)
    after = run_pass(name, before, CPU)
    after.verify()
    assert to_text(after) != to_text(before)
    golden(f"{name}.xir", f"# before {name}\n{to_text(before)}# after {name}\n{to_text(after)}")


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("size", [1, 6])
def test_a_pass_keeps_the_values_of_its_example(name: str, size: int, rng: torch.Generator) -> None:
    before = example(name)
    args = [torch.randn(size, 8, generator=rng) for _ in range(2)]
    after = run_pass(name, before, CPU)
    for a, b in zip(after.eval(*args), before.eval(*args), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("k", RANDOM)
def test_every_pass_keeps_the_values_of_random_graphs(k: int) -> None:
    for env in SIZES[:2]:
        args = arguments(stages(k)[0][1], env)
        want = stages(k)[0][1].eval(*args)
        for name, g in stages(k)[1:]:
            for o, (a, b) in enumerate(zip(g.eval(*args), want, strict=True)):
                assert a.dtype == b.dtype and a.shape == b.shape
                ok = torch.equal(a, b) or close(a, b)
                assert ok, f"{name} changed output {o} at {env}"


@pytest.mark.parametrize("k", RANDOM)
def test_canonicalise_is_idempotent(k: int) -> None:
    once = run_pass("canonicalise", stages(k)[0][1], CPU)
    assert to_text(run_pass("canonicalise", once, CPU)) == to_text(once)


@pytest.mark.parametrize("k", RANDOM)
def test_passes_are_deterministic(k: int) -> None:
    again = random_graph(Random(100 + k), 6)
    assert to_text(optimised(again)) == to_text(stages(k)[-1][1])


@pytest.mark.parametrize("k", RANDOM)
def test_passes_leave_their_input_alone(k: int) -> None:
    g = random_graph(Random(100 + k), 6)
    text = to_text(g)
    optimised(g)
    assert to_text(g) == text


# -- the runner and its checks -------------------------------------------------------------------
def wrong_pass(g: Graph, target: object) -> Graph:
    """Computes x where exp(x) was meant."""
    n = next(n for n in g.nodes if n.op.name == "exp")
    return g.with_nodes([m for m in g.nodes if m is not n], {n.out: n.inputs[0]})


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("xcompile.passes.wrong")
    module.run = wrong_pass  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return "wrong"


def test_verification_names_the_pass_that_changed_a_result(
    wrong: str, rng: torch.Generator
) -> None:
    g = example("canonicalise")
    args = [torch.randn(3, 8, generator=rng) for _ in range(2)]
    run_pipeline(g, CPU, names=["canonicalise", "lift"], check=args)
    with pytest.raises(XCompileError, match="pass wrong changed output 0"):
        run_pipeline(g, CPU, names=["canonicalise", wrong, "lift"], check=args)
    run_pipeline(g, CPU, names=["canonicalise", wrong])  # without examples nobody can tell


def test_verification_is_asked_for_by_the_environment(
    wrong: str, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    module = sys.modules[f"xcompile.passes.{wrong}"]
    monkeypatch.setitem(sys.modules, "xcompile.passes.lift_gqa", module)
    monkeypatch.setenv("XC_VERIFY", "2")
    with pytest.raises(XCompileError, match="pass lift_gqa changed output 0"):
        xcompile(torch.exp, (torch.randn(3, 8, generator=rng),))


def test_an_ill_formed_result_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = lambda g, t: g.with_nodes(g.nodes[1:])
    monkeypatch.setattr(sys.modules["xcompile.passes.wrong"], "run", broken)
    with pytest.raises(XCompileError, match="not defined"):
        run_pipeline(example("lift"), CPU, names=[wrong])


def test_an_unknown_pass_is_refused() -> None:
    with pytest.raises(XCompileError, match=r"there is no pass 'nonsense'; passes: .*canonicalise"):
        run_pass("nonsense", example("lift"), CPU)


def test_the_runner_tells_what_it_saw() -> None:
    seen: list[str] = []
    _, records = run_pipeline(
        example("fuse_loops"), CPU, observe=lambda name, graph, seconds: seen.append(name)
    )
    assert seen == ["import", *PIPELINE]
    assert [r.name for r in records] == PIPELINE
    assert all(r.before > 0 and r.after > 0 and r.seconds >= 0 for r in records)
