"""mla_attention on the CPU: requests absorbed or expanded by their lengths, alone and mixed."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
import torch

from tests.helpers import LEVELS_HERE, OPS, Batch, call, compiled, graph_of, optimised
from xcompile.compiler import Compiled, executor
from xcompile.errors import ShapeError
from xcompile.ir import Graph, Type, Value
from xcompile.runtime.executor import Executor
from xcompile.symbolic import Range, evaluate, symbol
from xcompile.targets.cpu import Cpu, best_isa

F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
DTYPES = {"f32": F32, "bf16": BF16}
Shape = tuple[int, int, int, int, int]
SHAPES: dict[str, Shape] = {  # heads, nope, rope, rank, v
    "odd": (3, 20, 7, 36, 25),
    "mini": (4, 64, 32, 256, 64),
    "full": (2, 128, 64, 512, 128),
    "never": (2, 40, 8, 32, 40),  # keys and values are wider than latents: stays absorbed
}
Lengths = tuple[list[int], list[int]]
LENGTHS: dict[str, Lengths] = {  # new tokens and context of each request
    "a prompt": ([300], [300]),
    "one to four queries": ([1, 2, 3, 4, 4], [300, 2, 513, 4, 700]),
    "few rows": ([31, 32, 33], [31, 32, 33]),
    "mixed": ([1, 130, 0, 2, 70, 0, 1], [90, 130, 5, 2, 75, 0, 33]),
    "around a block": ([255, 256, 257], [511, 512, 513]),
    "around a page": ([63, 64, 65, 1], [63, 64, 65, 16]),
    "chunks over a cache": ([200, 200], [900, 620]),
    "tasks of a prompt": ([700], [760]),
    "batches of short ones": ([31] * 18, [31 + k for k in range(18)]),
}
PAGE = 16
QUICK = {(best_isa(), "bf16", "mini"), (best_isa(), "bf16", "odd"), (best_isa(), "f32", "odd")}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in ((level, d, s) for level in LEVELS_HERE for d in DTYPES for s in SHAPES)
]


def break_even(shape: Shape, before: int) -> int:
    """The fewest new tokens that are expanded after `before` cached ones."""
    _, nope, _, rank, v = shape
    n = 32
    saved, extra = 2 * rank - nope - v, before * rank * (nope + v)
    while 2 * (n * before + n * (n + 1) // 2) * saved <= 3 * extra:
        n += 1
    return n


def weights(shape: Shape, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    heads, nope, _, rank, v = shape
    rng = torch.Generator().manual_seed(1)
    up, value = (torch.randn(heads, d, rank, generator=rng) / rank**0.5 for d in (nope, v))
    return up.to(dtype), value.to(dtype)


@cache
def graph(dtype: torch.dtype, shape: Shape, page: int = PAGE) -> Graph:
    """Three ops, as the serving step has them."""
    heads, nope, rope, rank, _ = shape
    t, r, m, s = (symbol(n) for n in ("T", "R", "M", "slots"))
    symbols = {"T": Range(1, 4096, 8), "R": Range(1, 64, 2), "M": Range(1, 4096, 4),
               "slots": Range(1, 1 << 16, 64)}  # fmt: skip
    types = [Type(dtype, (t, heads, nope + rope)), Type(dtype, (s, 1, rank + rope)),
             Type(I64, (r + 1,)), Type(I64, (r,)), Type(I64, (r, m))]  # fmt: skip
    up, value = weights(shape, dtype)

    def build(g: Graph, q: Value, k: Value, *rest: Value) -> list[Value]:
        own = g.add(OPS["slice"], q, dim=2, start=0, stop=nope, step=1)
        rot = g.add(OPS["slice"], q, dim=2, start=nope, stop=nope + rope, step=1)
        own = g.add(OPS["head_linear"], own, g.const(up.transpose(1, 2).contiguous(), "up"))
        query = g.add(OPS["cat"], own, rot, dim=2)
        latent = g.add(OPS["slice"], k, dim=2, start=0, stop=rank, step=1)
        scale = (nope + rope) ** -0.5
        o = g.add(OPS["paged_attention"], query, k, latent, *rest, scale=scale, page=page)
        return [g.add(OPS["head_linear"], o, g.const(value, "value"))]

    return graph_of(build, *types, symbols=symbols)


@cache
def library(dtype: torch.dtype, shape: Shape, level: str, page: int = PAGE) -> Compiled:
    return compiled(graph(dtype, shape, page), f"cpu/{level}")


def arguments(
    lengths: Lengths, dtype: torch.dtype, shape: Shape, page: int = PAGE
) -> list[torch.Tensor]:
    heads, nope, rope, rank, _ = shape
    new, contexts = lengths
    rng = torch.Generator().manual_seed(3)
    need = [-(-c // page) for c in contexts]
    pages = torch.randperm(sum(need) + 2, generator=rng)
    tables = torch.zeros(len(new), max(1, *need), dtype=I64)
    for r, (lo, hi) in enumerate(pairwise([0, *torch.tensor(need).cumsum(0).tolist()])):
        tables[r, : hi - lo] = pages[lo:hi]
    q = torch.randn(sum(new), heads, nope + rope, generator=rng)
    latents = torch.randn((sum(need) + 2) * page, 1, rank + rope, generator=rng)
    ends = torch.tensor([0, *torch.tensor(new).cumsum(0).tolist()])
    return [q.to(dtype), latents.to(dtype), ends, torch.tensor(contexts), tables]


def check(g: Graph, runs: list[Executor], name: str, args: list[torch.Tensor]) -> torch.Tensor:
    """Holds the first run to the numeric bar, and the others to its very bits."""
    got = [call(g, run, args)[0] for run in runs]
    Batch(g, args, [name]).check(got[:1])
    assert all(torch.equal(x, got[0]) for x in got[1:]), f"{name}: threads change the result"
    return got[0]


@pytest.mark.parametrize(("level", "dtype", "shape"), CASES)
def test_lengths_around_every_choice(level: str, dtype: str, shape: str) -> None:
    sizes = SHAPES[shape]
    g, step = graph(DTYPES[dtype], sizes), library(DTYPES[dtype], sizes, level)
    runs = [executor(step, n) for n in (1, 3)]
    cases = dict(LENGTHS)
    if shape != "never":
        even = break_even(sizes, 150)
        cases["break-even"] = ([even - 1, even, even + 1], [149 + even, 150 + even, 151 + even])
    for name, lengths in cases.items():
        check(g, runs, name, arguments(lengths, DTYPES[dtype], sizes))


def test_a_long_request_that_stays_absorbed_goes_in_pieces() -> None:
    shape = SHAPES["never"]
    g, step = graph(BF16, shape), library(BF16, shape, best_isa())
    runs = [executor(step, n) for n in (1, 2)]
    check(g, runs, "pieces", arguments(([1100, 1], [1150, 40]), BF16, shape))


@pytest.mark.slow
def test_a_prompt_of_several_tasks_and_a_long_context() -> None:
    shape = SHAPES["odd"]
    g, step = graph(BF16, shape), library(BF16, shape, best_isa())
    runs = [executor(step, n) for n in (1, 2, 3)]
    check(g, runs, "long", arguments(([2300, 1, 300], [2400, 900, 4000]), BF16, shape))


@pytest.mark.parametrize("page", [1, 12, 128])
def test_pages_of_any_size(page: int) -> None:
    shape = SHAPES["odd"]
    g, step = graph(BF16, shape, page), library(BF16, shape, best_isa(), page)
    lengths = ([80, 1, 40], [333, 13, 129])
    check(g, [executor(step, 2)], f"pages of {page}", arguments(lengths, BF16, shape, page))


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_forms_agree(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the three ops: short requests to the bit, long ones to rounding."""
    shape = SHAPES["mini"]
    g, step = graph(DTYPES[dtype], shape), library(DTYPES[dtype], shape, best_isa())
    monkeypatch.setattr(Cpu, "chooses_mla", False)
    assert "mla_attention" not in {n.op.name for n in optimised(g).nodes}
    three = compiled(g, f"cpu/{best_isa()}")
    for lengths in (([1, 4, 20], [400, 4, 90]), ([1, 120, 1], [33, 120, 500])):
        args = arguments(lengths, DTYPES[dtype], shape)
        one, other = (call(g, executor(x, 1), args)[0] for x in (step, three))
        alone = max(lengths[0]) < 32
        for r, (lo, hi) in enumerate(pairwise(args[2].tolist())):
            if alone:
                assert torch.equal(one[lo:hi], other[lo:hi]), f"request {r} of {lengths}"
            far = (one[lo:hi] - other[lo:hi]).float().norm() / other[lo:hi].float().norm()
            assert far < (2e-6 if dtype == "f32" else 8e-3), f"request {r} of {lengths}: {far}"


def test_what_no_request_owns_does_not_matter() -> None:
    """Slots behind a context, and pages of nobody, may be NaN; results are those without."""
    shape = SHAPES["mini"]
    g, step = graph(BF16, shape), library(BF16, shape, best_isa())
    args = arguments(([70, 1, 100], [70, 37, 171]), BF16, shape)
    run = executor(step, 2)
    want = call(g, run, args)[0]
    used = torch.zeros(args[1].shape[0], dtype=torch.bool)
    for r, n in enumerate([70, 37, 171]):
        at = torch.arange(n)
        used[args[4][r, at // PAGE] * PAGE + at % PAGE] = True
    args[1][~used] = float("nan")
    assert torch.equal(call(g, run, args)[0], want)


def test_scores_that_grow_along_the_context() -> None:
    """The maximum moves from block to block of expanded keys."""
    shape = SHAPES["odd"]
    g, step = graph(BF16, shape), library(BF16, shape, best_isa())
    args = arguments(([300], [1500]), BF16, shape)
    at = torch.arange(1500)
    args[1][args[4][0, at // PAGE] * PAGE + at % PAGE] *= (1 + at / 300)[:, None, None].bfloat16()
    check(g, [executor(step, 2)], "growing", args)


@pytest.mark.parametrize("rows", [4, 100])
def test_pages_and_lengths_that_do_not_fit_are_errors(rows: int) -> None:
    shape = SHAPES["odd"]
    g, step = graph(BF16, shape), library(BF16, shape, best_isa())
    run = executor(step, 2)
    for index, value in ((4, 9999), (3, rows - 1), (3, 1 << 20)):
        args = arguments(([rows, 1], [rows + 20, 7]), BF16, shape)
        args[index].view(-1)[0] = value
        with pytest.raises(IndexError, match=r"block table entry|length"):
            call(g, run, args)
    args = arguments(([rows, 1], [rows + 20, 7]), BF16, shape)
    assert call(g, run, args)[0].isfinite().all()


def test_memory_does_not_grow_with_the_context() -> None:
    """A workspace for 512 tokens at most, and nothing of the size of a context."""
    (n,) = [n for n in optimised(graph(BF16, SHAPES["full"])).nodes if n.op.workspace]
    assert n.op.name == "mla_attention" and n.op.workspace is not None
    size = n.op.workspace([v.type for v in n.inputs], n.attrs)
    at = {"T": 512, "R": 4, "M": 8, "slots": 1000}
    heads, _, rope, rank, _ = SHAPES["full"]
    assert evaluate(size, at) < 512 * heads * (2 * rank + rope) * 2 + 1000
    assert evaluate(size, at) == evaluate(size, {**at, "T": 4096, "M": 4096, "slots": 1 << 16})


def test_operands_that_do_not_fit_are_named() -> None:
    shape = SHAPES["odd"]
    (n,) = [n for n in optimised(graph(BF16, shape)).nodes if n.op.name == "mla_attention"]
    types = [v.type for v in n.inputs]
    types[7], types[8] = types[8], types[7]
    with pytest.raises(ShapeError, match=r"mla_attention takes q_nope\[T,H,nope\]"):
        n.op.infer(types, n.attrs)
