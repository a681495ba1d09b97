"""What `xcompile verify` feeds kernels and how it judges them, without a kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers import OPS, add, graph_of, in_dtype, type_of
from xcompile.ir import Graph, Node, Type, evaluate_node
from xcompile.plan import Launch
from xcompile.symbolic import Range, symbol
from xcompile.verify_bar import Verdict, compare, exact
from xcompile.verify_inputs import Case, Feed, cases, environments

KINDS = ("random", "zeros", "large", "tiny", "mixed")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
SAMPLED = [n for n, op in OPS.items() if op.sample and not op.view]
T, R, M, SLOTS = map(symbol, ("T", "R", "M", "slots"))
SYMBOLS = {"T": Range(1, 512, 24), "R": Range(1, 64, 4), "M": Range(1, 32, 3),
           "slots": Range(1, 1 << 20, 96)}  # fmt: skip


def node_of(name: str, dtype: torch.dtype, rng: torch.Generator) -> Node:
    """A node with the types of its op's sample."""
    tensors, attrs = OPS[name].sample(rng)  # type: ignore[misc]
    tensors = in_dtype(tensors, dtype)
    attrs = {k: dtype if a is torch.float32 and k == "dtype" else a for k, a in attrs.items()}
    g = Graph()
    values = [g.input(type_of(t), f"x{k}") for k, t in enumerate(tensors)]
    g.add(OPS[name], *values, **attrs)
    return g.nodes[0]


def paged(dtype: torch.dtype = torch.float32) -> Node:
    i64 = torch.int64
    types = [Type(dtype, (T, 4, 24)), Type(dtype, (SLOTS, 2, 24)), Type(dtype, (SLOTS, 2, 20)),
             Type(i64, (R + 1,)), Type(i64, (R,)), Type(i64, (R, M))]  # fmt: skip
    g = Graph(symbols=dict(SYMBOLS))
    values = [g.input(t, f"x{k}") for k, t in enumerate(types)]
    g.add(OPS["paged_attention"], *values, scale=0.2, page=4)
    return g.nodes[0]


def launch(n: Node, flops: Any = 1000, nbytes: Any = 1000) -> Launch:
    return Launch("k", (), n, 0, flops, nbytes, 0, "vector")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", SAMPLED)
def test_every_op_can_be_fed_and_the_reference_meets_its_own_bar(name, dtype, rng):
    n = node_of(name, dtype, rng)
    if not n.inputs:
        return
    for k, kind in enumerate(KINDS):
        feed = Feed(n, Case({}, kind, data=k))
        given = [feed(i) for i in range(len(n.inputs))]
        assert [type_of(t).same(v.type) for t, v in zip(given, n.inputs, strict=True)]
        eager = evaluate_node(n, given, {})
        fine = exact(n, given, {})
        assert all(t.dtype == torch.float64 for t in fine if t.is_floating_point())
        verdict = Verdict("k", name)
        assert compare(n, eager, eager, fine, 64, verdict) == []
        assert verdict.ratio <= 1


@pytest.mark.parametrize("name", SAMPLED)
def test_an_error_is_found(name, rng):
    """One element that is off by some percent, or another index."""
    n = node_of(name, torch.float32, rng)
    feed = Feed(n, Case({}, "random", data=1))
    given = [feed(i) for i in range(len(n.inputs))]
    eager, fine = evaluate_node(n, given, {}), exact(n, given, {})
    for k, right in enumerate(eager):
        wrong = [t.clone() for t in eager]
        flat = wrong[k].reshape(-1)
        if not flat.numel():
            continue
        if right.dtype.is_floating_point:
            at = int(right.nan_to_num().abs().argmax())
            flat[at] = flat[at] * 1.03 + 1e-3
        elif right.dtype == torch.bool:
            flat ^= True
        else:
            flat += 1
        wrong[k] = flat.view(right.shape)
        assert compare(n, wrong, eager, fine, 64, Verdict("k", name)), f"result {k}"
        if right.dtype.is_floating_point:
            wrong[k] = right.clone()
            wrong[k].reshape(-1)[at] = torch.nan
            assert compare(n, wrong, eager, fine, 64, Verdict("k", name)), f"result {k}: NaN"


def test_sizes_differ_and_fit_the_op():
    n = paged()
    seen = environments(launch(n), SYMBOLS)
    assert seen[0] == {"T": 24, "R": 4, "M": 3, "slots": 96}
    assert len(seen) == 5
    assert {e["R"] for e in seen} >= {1, 4, 11}
    assert any(e["T"] % 2 for e in seen[1:])
    for env in seen:
        feed = Feed(n, Case(env, data=env["T"]))
        given = [feed(i) for i in range(6)]
        cu, lens, tables = given[3:]
        assert cu[0] == 0 and cu[-1] == env["T"]
        assert bool((cu.diff() >= 0).all()) and bool((lens >= cu.diff()).all())
        assert int(lens.max()) <= env["M"] * 4
        assert int(tables.max()) < env["slots"] // 4
        evaluate_node(n, given, env)


def test_large_work_is_cut_down():
    n = paged()
    heavy = launch(n, flops=10**6 * T * R)
    assert all(e["T"] * e["R"] <= 400 for e in environments(heavy, SYMBOLS))


def test_cases_cover_kinds_seeds_and_few_cores():
    found = cases(launch(paged()), SYMBOLS, seeds=3, rounds=2)
    assert {c.kind for c in found} == set(KINDS)
    assert {c.seed for c in found} == {0, 1, 2}
    assert {c.blocks for c in found} == {None, 1, 3}
    assert len({(tuple(c.env.items()), c.data) for c in found}) > 20


def test_fused_bodies_are_exact_in_float64():
    body = graph_of(
        lambda g, x: [add(g, "cast", add(g, "mul", add(g, "cast", x, dtype=torch.float32),
                                         add(g, "full", shape=(), value=0.1, dtype=torch.float32)),
                          dtype=torch.bfloat16)],
        Type(torch.bfloat16, (5, 7)),
    )  # fmt: skip
    g = Graph()
    x = g.input(Type(torch.bfloat16, (5, 7)), "x")
    g.add(OPS["group"], x, body=body)
    t = torch.randn(5, 7).bfloat16()
    (y,) = exact(g.nodes[0], [t], {})
    assert y.dtype == torch.float64
    assert torch.equal(y, t.double() * 0.1)


def test_rounding_near_overflow_may_go_either_way():
    n = node_of("exp", torch.float16, torch.Generator())
    x = torch.tensor([11.0, 11.2, 3.0]).half()
    eager, fine = evaluate_node(n, [x], {}), exact(n, [x], {})
    assert compare(n, eager, eager, fine, 1, Verdict("k", "exp")) == []
    wrong = [eager[0].clone()]
    wrong[0][1] = 0
    assert "eager's is inf" in compare(n, wrong, eager, fine, 1, Verdict("k", "exp"))[0]
