"""The memory plan: nothing alive is overwritten, at any size, and nothing stale is ever read."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import add, call, compiled, graph_of, optimised
from tests.test_fuzz import SIZES, arguments, random_graph
from xcompile.codegen.lower import lower
from xcompile.compiler import executor, make_target
from xcompile.ir import Graph, Type
from xcompile.plan import Plan
from xcompile.runtime.program import ALIGN, Buffer, Program
from xcompile.symbolic import Range, evaluate, symbol

T = symbol("T")
F32 = torch.float32
RANDOM = range(6)


def plan_of(g: Graph) -> Plan:
    return lower(optimised(g), make_target("cpu"))


@cache
def random_plan(k: int) -> Plan:
    return plan_of(random_graph(Random(k), 4))


def sizes_of(program: Program) -> Iterator[dict[str, int]]:
    """Small, hinted, capacity and largest sizes."""
    yield dict.fromkeys(program.symbols, 1)
    yield program.hints()
    yield program.capacity(program.hints())
    yield {s: r.hi for s, r in program.symbols.items()}


def owners(program: Program) -> list[int]:
    return [i for i, b in enumerate(program.buffers) if b.shares is None]


def span(program: Program, i: int) -> tuple[int, int]:
    """Life of an owner and of all that share its bytes."""

    def root(k: int) -> int:
        up = program.buffers[k].shares
        return k if up is None else root(up)

    mine = [b for k, b in enumerate(program.buffers) if root(k) == i]
    return min(b.first for b in mine), max(b.last for b in mine)


def overlaps(program: Program, offsets: list[int], env: dict[str, int]) -> list[tuple[int, int]]:
    """Pairs of buffers that are alive together and share a byte."""
    live = [(i, *span(program, i), offsets[i], program.buffers[i].size(env))
            for i in owners(program)]  # fmt: skip
    return [
        (a[0], b[0])
        for k, a in enumerate(live)
        for b in live[k + 1 :]
        if a[1] <= b[2] and b[1] <= a[2] and a[3] < b[3] + b[4] and b[3] < a[3] + a[4]
    ]


# -- offsets ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("k", RANDOM)
def test_buffers_alive_together_never_overlap(k: int) -> None:
    program = random_plan(k).program()
    assert len(program.buffers) > 5
    for env in sizes_of(program):
        offsets, total = program.offsets(env)
        assert not overlaps(program, offsets, env)
        assert all(o % ALIGN == 0 for o in offsets)
        assert all(o + b.size(env) <= total for o, b in zip(offsets, program.buffers, strict=True))


@pytest.mark.parametrize("k", RANDOM)
def test_offsets_for_a_capacity_hold_for_all_smaller_sizes(k: int) -> None:
    program = random_plan(k).program()
    r = Random(k)
    for _ in range(8):
        env = {s: r.randint(x.lo, x.hi) for s, x in program.symbols.items()}
        caps = program.capacity(env)
        assert all(env[s] <= caps[s] <= program.symbols[s].hi for s in env)
        assert not overlaps(program, program.offsets(caps)[0], env)


@pytest.mark.parametrize("k", RANDOM)
def test_the_peak_is_between_the_live_bytes_and_their_sum(k: int) -> None:
    program = random_plan(k).program()
    for env in sizes_of(program):
        _, total = program.offsets(env)
        assert program.live_bytes(env) <= total
        assert total <= sum(program.buffers[i].size(env) for i in owners(program))


LIVES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(1, 5000), st.booleans()),
    min_size=1, max_size=30,
)  # fmt: skip


@settings(deadline=None, derandomize=True, max_examples=200)
@given(LIVES, st.integers(1, 64))
def test_any_lifetimes_can_be_planned(lives: list[tuple[int, int, int, bool]], size: int) -> None:
    buffers = [
        Buffer(f"b{k}", n * T if grows else n, first, first + more)
        for k, (first, more, n, grows) in enumerate(lives)
    ]
    program = Program([], [], [], {"T": Range(1, 64, 8)}, buffers, [], [], 20)
    env = {"T": size}
    offsets, total = program.offsets(program.capacity(env))
    assert not overlaps(program, offsets, env)
    assert total >= program.live_bytes(env)
    assert offsets == program.offsets(program.capacity(env))[0]


# -- sharing ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("k", RANDOM)
def test_a_buffer_is_shared_only_by_the_kernel_that_reads_it_last(k: int) -> None:
    plan = random_plan(k)
    program = plan.program()
    touched: dict[int, list[int]] = {}
    for step, x in enumerate(plan.launches):
        for a in x.args:
            if a.space == "arena":
                touched.setdefault(a.index, []).append(step)
    for i, b in enumerate(program.buffers):
        if b.shares is None:
            continue
        taken = program.buffers[b.shares]
        assert max(touched[b.shares]) == min(touched[i]) == b.first == taken.last
        assert all(b.size(env) == taken.size(env) for env in sizes_of(program))


def test_a_chain_of_kernels_works_in_place() -> None:
    """Sorting splits the pointwise ops into kernels; each may overwrite what it reads last."""

    def build(g, x):
        for _ in range(3):
            y = add(g, "sort", x, descending=False)
            x = add(g, "mul", add(g, "exp", y), add(g, "tanh", y))
        return [add(g, "sum", x)]

    program = plan_of(graph_of(build, Type(F32, (3, 64)))).program()
    assert any(b.shares is not None for b in program.buffers)
    assert program.offsets({})[1] <= 4 * 3 * 64 * 8


def test_an_operand_that_is_read_again_is_not_shared() -> None:
    def build(g, x):
        s = add(g, "sort", x, descending=False)
        y = add(g, "exp", s)
        return [add(g, "sort", y, descending=True), add(g, "sort", s, descending=True)]

    plan = plan_of(graph_of(build, Type(F32, (3, 64))))
    assert not any(b.shares is not None for b in plan.buffers)


def test_arguments_lie_inside_their_buffers() -> None:
    for k in RANDOM:
        plan = random_plan(k)
        env = plan.program().hints()
        for x in plan.launches:
            for a in x.args:
                offset = evaluate(a.offset, env)
                assert offset >= 0
                if a.space == "arena":
                    assert offset <= plan.buffers[a.index].size(env)


# -- nothing stale is read -------------------------------------------------------------------------
@pytest.mark.parametrize("k", range(2))
def test_a_poisoned_arena_changes_nothing(k: int) -> None:
    """Between two equal calls: other inputs, other sizes, and an arena full of NaN."""
    g = random_graph(Random(k), 8)
    run = executor(compiled(g), 2)
    want = {str(env): call(g, run, arguments(g, env)) for env in SIZES}
    for fill in (0xFF, 0x7F):
        for env in (*SIZES, *SIZES[::-1]):
            assert run._arena is not None
            ctypes.memset(run._arena.address, fill, run._arena.nbytes)
            got = call(g, run, arguments(g, env))
            for a, b in zip(got, want[str(env)], strict=True):
                assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


def test_two_executors_share_nothing() -> None:
    g = random_graph(Random(1), 8)
    c = compiled(g)
    a, b = executor(c, 1), executor(c, 2)
    big, small = SIZES[2], SIZES[0]
    want = call(g, a, arguments(g, small))
    call(g, b, arguments(g, big))
    for x, y in zip(call(g, a, arguments(g, small)), want, strict=True):
        assert torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0))
