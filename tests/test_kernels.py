"""Edge cases of the kernels, through small compiled graphs of many independent cases."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.helpers import LEVELS_HERE, OPS, TWO_LEVELS, Batch, call, compiled, graph_of
from xcompile.compiler import Compiled, executor
from xcompile.ir import Graph, Type, Value
from xcompile.symbolic import Range, symbol

F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
DTYPES = {"f32": F32, "bf16": BF16}
LEVELS = [
    pytest.param(level, marks=() if level in TWO_LEVELS else pytest.mark.slow)
    for level in LEVELS_HERE
]
INF, NAN = float("inf"), float("nan")


class Cases(Batch):
    """Cases with random operands of one dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.rng = torch.Generator().manual_seed(0)

    def random(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(shape, generator=self.rng) * scale).to(self.dtype)

    def case(self, name: str, op: str, *args: torch.Tensor, const: tuple[int, ...] = (),
             **attrs: Any) -> None:  # fmt: skip
        self.op(name, OPS[op], args, attrs, const)


# -- linear and matmul -----------------------------------------------------------------------------
ROWS = (0, 1, 2, 3, 4, 5, 11, 12, 13, 17, 33, 100)
SIZES = ((1, 1), (7, 3), (31, 33), (32, 32), (65, 127), (40, 300))  # N, K


@cache
def linear_graph(dtype: torch.dtype) -> Graph:
    """Every size with a symbolic number of rows, so that one library serves all row counts."""
    t, rng = symbol("T"), torch.Generator().manual_seed(0)
    g = Graph(symbols={"T": Range(0, 128, 8)})
    for n, k in SIZES:
        x = g.input(Type(dtype, (t, k)), f"x{n}_{k}")
        w = [(torch.randn(n, k, generator=rng) / k**0.5).to(dtype) for _ in range(3)]
        c = [g.const(v, f"w{n}_{k}_{i}") for i, v in enumerate(w)]
        g.outputs.append(g.add(OPS["linear"], x, c[0]))
        if n % 16 == 0:  # a gated pair has its own packing
            x = g.input(Type(dtype, (t, k)), f"y{n}_{k}")
            gate, up = (g.add(OPS["linear"], x, v) for v in c[1:])
            g.outputs.append(g.add(OPS["mul"], g.add(OPS["silu"], gate), up))
    g.verify()
    return g


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
def test_linear_of_any_number_of_rows(level: str, dtype: str) -> None:
    g = linear_graph(DTYPES[dtype])
    library = compiled(g, f"cpu/{level}")
    rng = torch.Generator().manual_seed(1)
    for rows in ROWS:
        args = [torch.randn(rows, int(v.shape[1]), generator=rng).to(v.dtype) for v in g.inputs]
        b = Batch(g, args, [f"{rows} rows, output {k}" for k in range(len(g.outputs))])
        got = [call(g, executor(library, n), args) for n in (1, 2)]
        b.check(got[1])
        assert all(torch.equal(x, y) for x, y in zip(*got, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_reads_rows_with_a_stride_and_writes_into_a_cat(dtype: str) -> None:
    b = Cases(DTYPES[dtype])
    g, x, y = b.graph, b.input(b.random(13, 5, 40)), b.input(b.random(13, 5, 3))
    middle = g.add(OPS["slice"], x, dim=2, start=3, stop=36, step=1)
    half = g.add(OPS["linear"], middle, b.const(b.random(7, 33, scale=0.2)))
    b.output("cat", g.add(OPS["cat"], half, g.add(OPS["exp"], y), dim=2))
    turned = g.add(OPS["permute"], x, perm=(1, 0, 2))
    b.output("permuted", g.add(OPS["linear"], turned, b.const(b.random(9, 40, scale=0.2))))
    every = g.add(OPS["slice"], x, dim=0, start=0, stop=13, step=3)
    b.output("every third", g.add(OPS["linear"], every, b.const(b.random(9, 40, scale=0.2))))
    b.check(b.run())


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_of_odd_sizes_and_strides(dtype: str) -> None:
    b = Cases(DTYPES[dtype])
    for m, n, k in ((1, 1, 1), (1, 37, 19), (5, 1, 64), (33, 31, 65), (4, 7, 0), (0, 3, 5)):
        b.case(f"{m}x{n}x{k}", "matmul", b.random(m, k), b.random(k, n))
    b.case("batches broadcast", "matmul", b.random(1, 3, 5, 7), b.random(2, 1, 7, 4))
    x, y = b.input(b.random(3, 9, 8)), b.input(b.random(3, 11, 8))
    turned = b.graph.add(OPS["permute"], y, perm=(0, 2, 1))
    b.output("transposed", b.graph.add(OPS["matmul"], x, turned))
    b.check(b.run())


# -- experts ---------------------------------------------------------------------------------------
def routings(tokens: int, experts: int, k: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
    drawn = [torch.randperm(experts, generator=rng)[:k] for _ in range(tokens)]
    return {
        "random": torch.stack(drawn) if drawn else torch.zeros(0, k, dtype=I64),
        "all on the first": torch.arange(k).repeat(tokens, 1),
        "all on the last": experts - 1 - torch.arange(k).repeat(tokens, 1),
        "each its own": (torch.arange(tokens)[:, None] * k + torch.arange(k)) % experts,
        "one twice": torch.zeros(tokens, k, dtype=I64),
    }


@cache
def experts_graph(
    dtype: torch.dtype, act: str, hidden: int, inter: int, experts: int, k: int
) -> tuple[Graph, Compiled]:
    t, rng = symbol("T"), torch.Generator().manual_seed(0)
    up = torch.randn(experts, 2 * inter, hidden, generator=rng) / hidden**0.5
    down = torch.randn(experts, hidden, inter, generator=rng) / inter**0.5
    types = Type(dtype, (t, hidden)), Type(I64, (t, k)), Type(dtype, (t, k))

    def build(g: Graph, *values: Value) -> list[Value]:
        weights = g.const(up.to(dtype), "up"), g.const(down.to(dtype), "down")
        return [g.add(OPS["moe_experts"], *values, *weights, act=act)]

    g = graph_of(build, *types, symbols={"T": Range(0, 256, 8)})
    return g, compiled(g)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("act", "hidden", "inter", "experts", "k"),
    [("silu", 40, 24, 6, 2), ("gelu_tanh", 33, 17, 9, 3), ("gelu", 64, 32, 1, 1),
     ("relu", 32, 48, 40, 4)],
)  # fmt: skip
def test_experts_with_any_routing(
    act: str, hidden: int, inter: int, experts: int, k: int, dtype: str
) -> None:
    g, library = experts_graph(DTYPES[dtype], act, hidden, inter, experts, k)
    runs = [executor(library, n) for n in (1, 2, 3)]
    rng = torch.Generator().manual_seed(1)
    for tokens in (0, 1, 2, 13, 70):
        x = torch.randn(tokens, hidden, generator=rng).to(DTYPES[dtype])
        weight = torch.rand(tokens, k, generator=rng).to(DTYPES[dtype])
        for name, expert in routings(tokens, experts, k, rng).items():
            if name == "one twice" and k > experts:
                continue
            args = [x, expert, weight]
            got = [call(g, run, args) for run in runs]
            Batch(g, args, [f"{tokens} tokens, {name}"]).check(got[0])
            assert all(torch.equal(a[0], got[0][0]) for a in got[1:]), f"{tokens}, {name}"


def test_an_expert_that_does_not_exist_is_an_error_with_its_value() -> None:
    _, library = experts_graph(F32, "silu", 40, 24, 6, 2)
    run = executor(library, 2)
    for bad in (6, -1):
        expert = torch.tensor([[0, 1], [bad, 2]])
        with pytest.raises(IndexError, match=f"expert id.*: {bad}$"):
            run(torch.randn(2, 40), expert, torch.ones(2, 2))
    assert run(torch.randn(1, 40), torch.tensor([[0, 1]]), torch.ones(1, 2))[0].isfinite().all()


# -- attention -------------------------------------------------------------------------------------
ATTENTION_SHAPES = {  # B, H, Hk, S, T, D, Dv
    "one query": (2, 4, 2, 1, 37, 24, 20),
    "one key": (1, 2, 2, 5, 1, 16, 16),
    "odd": (1, 3, 1, 17, 17, 33, 33),
    "long": (1, 2, 1, 3, 700, 64, 32),
    "square": (2, 2, 2, 64, 64, 32, 32),
    "no query": (1, 2, 2, 0, 5, 8, 8),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
def test_attention_with_every_kind_of_mask(level: str, dtype: str) -> None:
    b = Cases(DTYPES[dtype])
    for name, (n, h, hk, s, t, d, dv) in ATTENTION_SHAPES.items():
        q, k, v = b.random(n, h, s, d), b.random(n, hk, t, d), b.random(n, hk, t, dv)
        keep = torch.rand(n, h, s, t, generator=b.rng) > 0.3
        if s and t > 1:
            keep[..., -1, :] = False  # a row that sees nothing
        soft = b.random(n, h, s, t)
        masks = {
            "bool": keep,
            "bool, one head": keep[:, :1],
            "bool, one row": keep[:1, :1, :1] | True,
            "bool, keys": keep[:1, :1, :1],
            "bool, one batch": keep[:1],
            "additive": soft,
            "additive, one head": soft[:, :1],
            "additive, fp32": torch.where(keep, soft.float(), -INF),
            "additive, large": torch.where(keep, 0.0, torch.finfo(b.dtype).min).to(b.dtype),
        }
        scale = d**-0.5
        b.case(f"{name}, no mask", "attention", q, k, v, causal=False, scale=scale)
        b.case(f"{name}, causal", "attention", q, k, v, causal=True, scale=scale)
        kinds = masks if name in ("odd", "one query") else ("bool", "additive, fp32")
        for kind in kinds:
            mask = masks[kind]
            b.case(f"{name}, {kind}", "attention", q, k, v, mask, causal=False, scale=scale)
    b.check(b.run(f"cpu/{level}"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_reads_the_layout_of_a_projection(dtype: str) -> None:
    b = Cases(DTYPES[dtype])
    flat = b.input(b.random(2, 19, 5 * 16))
    heads = b.graph.add(OPS["reshape"], flat, shape=(2, 19, 5, 16))
    heads = b.graph.add(OPS["permute"], heads, perm=(0, 2, 1, 3))
    parts = ((0, 3), (3, 4), (4, 5))
    q, k, v = (b.graph.add(OPS["slice"], heads, dim=1, start=a, stop=z, step=1) for a, z in parts)
    o = b.graph.add(OPS["attention"], q, k, v, causal=True, scale=0.25)
    o = b.graph.add(OPS["permute"], o, perm=(0, 2, 1, 3))
    b.output("heads side by side", b.graph.add(OPS["reshape"], o, shape=(2, 19, 48)))
    b.check(b.run())


def test_attention_of_large_scores_stays_finite() -> None:
    b = Cases(F32)
    q = b.random(1, 2, 9, 16, scale=50.0)
    b.case("large", "attention", q, q, b.random(1, 2, 9, 16), causal=True, scale=1.0)
    (got,) = b.run()
    assert got.isfinite().all()
    b.check([got], ulps=512)  # scores of 1e4: the exponents differ in their last bits


# -- paged attention -------------------------------------------------------------------------------
PAGE = 4
RAGGED = {  # new tokens, then context, of each request
    "one token": ([1], [1]),
    "page boundaries": ([1, 1, 1, 1], [3, 4, 5, 8]),
    "whole prompts": ([4, 5, 3, 8], [4, 5, 3, 8]),
    "pieces": ([3, 1, 7], [9, 13, 20]),
    "one of many": ([1] * 9, [1, 2, 3, 4, 5, 9, 17, 33, 40]),
    "long context": ([1, 2], [1500, 700]),
    "long prompt": ([130], [130]),
    "a request without tokens": ([2, 0, 3], [2, 5, 6]),
}


@cache
def paged_graph(
    dtype: torch.dtype, heads: int, kv: int, d: int, dv: int, level: str
) -> tuple[Graph, Compiled]:
    t, r, m, s = (symbol(n) for n in ("T", "R", "M", "slots"))
    types = (
        Type(dtype, (t, heads, d)), Type(dtype, (s, kv, d)), Type(dtype, (s, kv, dv)),
        Type(I64, (r + 1,)), Type(I64, (r,)), Type(I64, (r, m)),
    )  # fmt: skip
    symbols = {"T": Range(1, 512, 8), "R": Range(1, 64, 2), "M": Range(1, 1024, 4),
               "slots": Range(1, 1 << 16, 64)}  # fmt: skip

    def build(g: Graph, *values: Value) -> list[Value]:
        return [g.add(OPS["paged_attention"], *values, scale=d**-0.5, page=PAGE)]

    g = graph_of(build, *types, symbols=symbols)
    return g, compiled(g, f"cpu/{level}")


def paged_arguments(
    name: str, dtype: torch.dtype, heads: int, kv: int, d: int, dv: int
) -> list[torch.Tensor]:
    new, contexts = RAGGED[name]
    rng = torch.Generator().manual_seed(2)
    width = -(-max(contexts) // PAGE)
    need = [-(-c // PAGE) for c in contexts]
    pages = torch.randperm(sum(need) + 3, generator=rng)
    tables = torch.zeros(len(new), width, dtype=I64)
    for r, (lo, hi) in enumerate(pairwise([0, *torch.tensor(need).cumsum(0).tolist()])):
        tables[r, : hi - lo] = pages[lo:hi]
    slots = (sum(need) + 3) * PAGE
    ends = torch.tensor([0, *torch.tensor(new).cumsum(0).tolist()])
    return [
        torch.randn(sum(new), heads, d, generator=rng).to(dtype),
        torch.randn(slots, kv, d, generator=rng).to(dtype),
        torch.randn(slots, kv, dv, generator=rng).to(dtype),
        ends, torch.tensor(contexts), tables,
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 2, 24, 20), (6, 1, 33, 33), (3, 3, 64, 64)], ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_paged_attention_of_ragged_requests(level: str, shape: tuple[int, ...], dtype: str) -> None:
    g, library = paged_graph(DTYPES[dtype], *shape, level)
    runs = [executor(library, n) for n in (1, 2, 3)]
    for name in RAGGED:
        args = paged_arguments(name, DTYPES[dtype], *shape)
        got = [call(g, run, args)[0] for run in runs]
        Batch(g, args, [name]).check(got[:1])
        assert all(torch.equal(x, got[0]) for x in got[1:]), name


def test_paged_attention_refuses_tables_and_lengths_that_do_not_fit() -> None:
    g, library = paged_graph(F32, 4, 2, 24, 20, TWO_LEVELS[0])
    run = executor(library, 2)
    good = paged_arguments("pieces", F32, 4, 2, 24, 20)
    slots = good[1].shape[0]
    for bad in (slots // PAGE, -1):
        args = [a.clone() for a in good]
        args[5][1, 2] = bad
        with pytest.raises(IndexError, match=f"block table.*: {bad}$"):
            run(*args)
    for bad in (1, 1 << 20):  # shorter than its new tokens; longer than its table
        args = [a.clone() for a in good]
        args[4][2] = bad
        with pytest.raises(IndexError, match="context length"):
            run(*args)
    Batch(g, good, ["after errors"]).check(run(*good))


# -- order -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [*DTYPES, "i64"])
def test_ties_and_nan_have_one_order(dtype: str) -> None:
    """Equal values: the lowest index first; NaN above all, as in torch."""
    kind = {**DTYPES, "i64": I64}[dtype]
    b = Batch()
    ties = torch.randint(0, 4, (5, 41), generator=torch.Generator().manual_seed(0)).to(kind)
    rows = {"ties": ties, "equal": torch.ones(3, 9).to(kind), "one": ties[:, :1]}
    if kind != I64:
        special = torch.tensor([[1.0, NAN, INF, -INF, NAN, 0.0, -0.0, 2.0], [-INF] * 8, [NAN] * 8])
        rows["special"] = special.to(kind)
    for name, x in rows.items():
        for k in {1, min(3, x.shape[1]), x.shape[1]}:
            b.op(f"topk {k} of {name}", OPS["topk"], [x], {"k": k})
        for descending in (False, True):
            b.op(f"sort {name}", OPS["sort"], [x], {"descending": descending})
        b.op(f"argmax {name}", OPS["argmax"], [x], {})
    b.check(b.run())


@pytest.mark.parametrize("dtype", DTYPES)
def test_scans_and_long_rows(dtype: str) -> None:
    b = Cases(DTYPES[dtype])
    for n in (1, 2, 16, 17, 1000):
        x = b.random(3, n)
        b.case(f"cumsum of {n}", "cumsum", x.abs())
        b.case(f"softmax of {n}", "softmax", x * 4)
        b.case(f"rms_norm of {n}", "rms_norm", x, b.random(n), eps=1e-5)
        b.case(f"layer_norm of {n}", "layer_norm", x, b.random(n), b.random(n), eps=1e-5)
        b.case(f"topk of {n}", "topk", x, k=min(n, 5))
    b.case("one long row", "softmax", b.random(1, 50_000))
    b.case("one long sum", "sum", b.random(1, 50_000).abs())
    b.check(b.run(), ulps=16)


# -- indices ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [F32, BF16, I64, torch.bool, torch.float64], ids=str)
def test_indexed_copies_of_every_width(dtype: torch.dtype) -> None:
    b = Batch()
    rng = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randint(0, 2 if dtype == torch.bool else 50, shape, generator=rng).to(dtype)

    table = random(9, 3, 5)
    ids = torch.tensor([[0, 8, 4], [4, 4, 0]])
    b.op("embedding", OPS["embedding"], [table, ids], {})
    b.op("embedding of a number", OPS["embedding"], [table, torch.tensor(7)], {})
    b.op("index_copy, inner", OPS["index_copy"], [table, torch.tensor([2, 0]), random(9, 2, 5)],
         {"dim": 1})  # fmt: skip
    b.op("index_copy, last", OPS["index_copy"], [table, torch.tensor([4]), random(9, 3, 1)],
         {"dim": 2})  # fmt: skip
    b.op("gather", OPS["gather"], [random(4, 7), torch.tensor([[6, 0]]).repeat(4, 1)], {})
    b.op("scatter", OPS["scatter"], [random(4, 7), torch.tensor([[6, 0]]).repeat(4, 1),
                                     random(4, 2)], {})  # fmt: skip
    b.check(b.run())


def test_rows_written_twice_keep_the_last() -> None:
    b = Batch()
    x, src = torch.zeros(5, 300), torch.arange(4.0)[:, None].expand(4, 300).contiguous()
    b.op("index_copy", OPS["index_copy"], [x, torch.tensor([2, 1, 2, 2]), src], {"dim": 0})
    for threads in (1, 2, 3):
        (got,) = b.run(threads=threads)
        assert torch.equal(got[:, 0], torch.tensor([0.0, 1.0, 3.0, 0.0, 0.0]))
        assert torch.equal(got, got[:, :1].expand_as(got))
