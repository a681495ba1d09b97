"""A graph for each pass, random graphs after each, and what the tests of passes count in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from random import Random

import torch

from tests.helpers import add, graph_of
from tests.test_fuzz import random_graph
from xcompile.compiler import make_target
from xcompile.ir import Graph, Type, Value
from xcompile.passes import PIPELINE, run_pass
from xcompile.symbolic import Range, symbol

T = symbol("T")
SYMBOLS = {"T": Range(1, 64, 5)}
F32, I64 = torch.float32, torch.int64
X, CACHE, SLOTS = Type(F32, (T, 8)), Type(F32, (64, 8)), Type(I64, (T,))
CPU = make_target("cpu")
RANDOM = range(8)


def const(g: Graph, *shape: int, dtype: torch.dtype = F32, name: str = "w") -> Value:
    rng = torch.Generator().manual_seed(len(g.consts))
    return g.const(torch.randn(shape, generator=rng).to(dtype) / 4, f"{name}{len(g.consts)}")


def scalar(g: Graph, value: float) -> Value:
    return add(g, "full", shape=(), value=value, dtype=F32)


def ops(g: Graph) -> Counter[str]:
    return Counter(n.op.name for n in g.nodes)


def bodies(g: Graph) -> list[list[str]]:
    """The ops of each group, in order."""
    return [[m.op.name for m in n.body.nodes] for n in g.nodes if n.body is not None]


def canonicalise_example(g: Graph, x: Value, y: Value) -> list[Value]:
    twice = add(g, "add", add(g, "exp", x), add(g, "exp", x))
    turned = add(g, "permute", add(g, "permute", twice, perm=(1, 0)), perm=(1, 0))
    whole = add(g, "cat", turned, y, dim=1)
    again = add(g, "slice", whole, dim=1, start=8, stop=16, step=1)
    folded = add(g, "exp", add(g, "permute", const(g, 8, 8), perm=(1, 0)))
    same = add(g, "cast", add(g, "mul", y, scalar(g, 1.0)), dtype=F32)
    biased = add(g, "linear", same, const(g, 8, 8), const(g, 8))
    add(g, "tanh", x)  # nobody reads it
    row = add(g, "slice", folded, dim=0, start=0, stop=1, step=1)
    return [turned, again, add(g, "mul", biased, row)]


def lift_example(g: Graph, x: Value, y: Value) -> list[Value]:
    mean = add(g, "div", add(g, "sum", add(g, "square", x)), scalar(g, 8.0))
    scale = add(g, "rsqrt", add(g, "add", mean, scalar(g, 1e-5)))
    normed = add(g, "mul", const(g, 8), add(g, "mul", x, scale))
    lo = add(g, "slice", normed, dim=1, start=0, stop=4, step=1)
    hi = add(g, "slice", normed, dim=1, start=4, stop=8, step=1)
    turned = add(g, "cat", add(g, "neg", hi), lo, dim=1)
    return [add(g, "add", add(g, "mul", normed, const(g, 8)), add(g, "mul", turned, const(g, 8)))]


def heads(g: Graph, x: Value, count: int, size: int) -> Value:
    y = add(g, "reshape", x, shape=(1, T, count, size))
    return add(g, "permute", y, perm=(0, 2, 1, 3))


def repeated(g: Graph, k: Value, times: int, dim: int = 2) -> Value:
    b, h, t, d = k.shape
    five = (b, h, 1, t, d) if dim == 2 else (b, 1, h, t, d)
    wide = (b, h, times, t, d) if dim == 2 else (b, times, h, t, d)
    k = add(g, "expand", add(g, "reshape", k, shape=five), shape=wide)
    return add(g, "reshape", k, shape=(b, h * times, t, d))


def route_example(g: Graph, x: Value, y: Value) -> list[Value]:
    add(g, "topk", add(g, "softmax", add(g, "linear", x, const(g, 6, 8))), k=2)
    best, index = g.nodes[-1].outputs
    weight = add(g, "div", best, add(g, "sum", best))
    return [add(g, "moe_experts", y, index, weight, const(g, 6, 8, 8), const(g, 6, 8, 4),
                act="silu")]  # fmt: skip


def moe_example(g: Graph, x: Value, y: Value) -> list[Value]:
    """The weights of each token's two experts are gathered."""
    add(g, "topk", add(g, "softmax", add(g, "linear", x, const(g, 6, 8))), k=2)
    weight, index = g.nodes[-1].outputs
    ids = add(g, "reshape", index, shape=(2 * T,))
    rows = add(g, "expand", add(g, "reshape", y, shape=(T, 1, 8)), shape=(T, 2, 8))
    rows = add(g, "reshape", rows, shape=(2 * T, 8, 1))
    up = add(g, "matmul", add(g, "embedding", const(g, 6, 8, 8), ids), rows)
    up = add(g, "reshape", up, shape=(2 * T, 8))
    halves = [add(g, "slice", up, dim=1, start=k, stop=k + 4, step=1) for k in (0, 4)]
    unit = add(g, "mul", add(g, "silu", halves[0]), halves[1])
    unit = add(g, "reshape", unit, shape=(2 * T, 4, 1))
    down = add(g, "matmul", add(g, "embedding", const(g, 6, 8, 4), ids), unit)
    down = add(g, "reshape", down, shape=(2 * T, 8))
    down = add(g, "mul", down, add(g, "reshape", weight, shape=(2 * T, 1)))
    each = add(g, "permute", add(g, "reshape", down, shape=(T, 2, 8)), perm=(0, 2, 1))
    return [add(g, "reshape", add(g, "sum", each), shape=(T, 8))]


def gqa_example(g: Graph, x: Value, y: Value, dim: int = 2) -> list[Value]:
    q, k = heads(g, x, 4, 2), heads(g, add(g, "slice", y, dim=1, start=0, stop=4, step=1), 2, 2)
    k = repeated(g, k, 2, dim)
    return [add(g, "attention", q, k, k, causal=True, scale=0.5)]


def causal_example(
    g: Graph, x: Value, y: Value, least: int = 1, turned: bool = False
) -> list[Value]:
    shape = (T, T)
    row, column = (add(g, "iota", shape=shape, dim=d, start=0, step=1, dtype=I64) for d in (0, 1))
    gap = add(g, "sub", row, column) if turned else add(g, "sub", column, row)
    least_gap = add(g, "full", shape=(), value=least, dtype=I64)
    hidden = add(g, "full", shape=shape, value=float("-inf"), dtype=F32)
    mask = add(g, "where", add(g, "ge", gap, least_gap), hidden, scalar(g, 0.0))
    q, k = heads(g, x, 2, 4), heads(g, y, 2, 4)
    mask = add(g, "reshape", mask, shape=(1, 1, T, T))
    return [add(g, "attention", q, k, k, mask, causal=False, scale=0.5)]


def mla_example(g: Graph, x: Value, y: Value) -> list[Value]:
    """One query of two heads over the latents of y: rank 4, nope 3, rope 2, v 2."""
    query = add(g, "linear", add(g, "slice", x, dim=0, start=0, stop=1, step=1), const(g, 10, 8))
    query = add(g, "permute", add(g, "reshape", query, shape=(1, 1, 2, 5)), perm=(0, 2, 1, 3))
    latent, rotated = (
        add(
            g,
            "reshape",
            add(g, "slice", y, dim=1, start=at, stop=at + n, step=1),
            shape=(1, 1, T, n),
        )
        for at, n in ((0, 4), (4, 2))
    )
    wide = add(g, "reshape", add(g, "linear", latent, const(g, 10, 4)), shape=(1, T, 2, 5))
    wide = add(g, "permute", wide, perm=(0, 2, 1, 3))
    nope, value = (
        add(g, "slice", wide, dim=3, start=a, stop=b, step=1) for a, b in ((0, 3), (3, 5))
    )
    key = add(g, "cat", nope, add(g, "expand", rotated, shape=(1, 2, T, 2)), dim=3)
    return [add(g, "attention", query, key, value, causal=False, scale=0.4)]


def latent_example(g: Graph, x: Value, y: Value) -> list[Value]:
    """Two heads, nope 3 and rope 1, over latents of rank 4 that x's columns make; v 2."""

    def ids(*shape: int) -> Value:
        return add(g, "full", shape=shape, value=1, dtype=I64)

    x = add(g, "reshape", x, shape=(T, 2, 4))
    nope, rot = (add(g, "slice", x, dim=2, start=a, stop=b, step=1) for a, b in ((0, 3), (3, 4)))
    query = add(g, "cat", add(g, "head_linear", nope, const(g, 2, 4, 3)), rot, dim=2)
    rows = add(g, "reshape", y, shape=(T, 1, 8))
    cache = add(g, "slice", rows, dim=2, start=0, stop=5, step=1)
    latent = add(g, "slice", cache, dim=2, start=0, stop=4, step=1)
    lengths = ids(2), ids(1), ids(1, 1)
    o = add(g, "paged_attention", query, cache, latent, *lengths, scale=0.4, page=1)
    return [add(g, "head_linear", o, const(g, 2, 2, 4))]


def gated_example(g: Graph, x: Value, y: Value, n: int = 16) -> list[Value]:
    gate, up = (add(g, "linear", x, const(g, n, 8)) for _ in range(2))
    wide = add(g, "mul", add(g, "silu", gate), up)
    down = add(g, "linear", wide, const(g, 8, n))
    return [add(g, "add", y, add(g, "mul", down, scalar(g, 0.5)))]


def qkv_example(g: Graph, x: Value, y: Value) -> list[Value]:
    q, k, v = (add(g, "linear", x, const(g, n, 8)) for n in (8, 4, 4))
    return [add(g, "add", q, y), add(g, "cat", k, v, dim=1)]


def layout_example(g: Graph, x: Value, y: Value) -> list[Value]:
    turned = add(g, "permute", x, perm=(1, 0))
    flat = add(g, "reshape", turned, shape=(8 * T,))
    first = add(g, "slice", y, dim=1, start=0, stop=4, step=1)
    joined = add(g, "cat", first, add(g, "exp", first), dim=1)
    return [turned, flat, add(g, "sort", first, descending=False), joined]


def loops_example(g: Graph, x: Value, y: Value) -> list[Value]:
    normed = add(g, "rms_norm", x, const(g, 8), eps=1e-5)
    p = add(g, "softmax", add(g, "mul", normed, scalar(g, 0.5)))
    top = add(g, "argmax", p)
    picked = add(g, "gather", y, top)
    return [add(g, "add", p, y), add(g, "exp", picked)]


EXAMPLES: dict[str, Callable[..., list[Value]]] = {
    "fuse_moe": moe_example,
    "canonicalise": canonicalise_example,
    "lift": lift_example,
    "lift_route": route_example,
    "lift_gqa": gqa_example,
    "lift_causal": causal_example,
    "rewrite_mla": mla_example,
    "fuse_mla": latent_example,
    "fuse_epilogue": gated_example,
    "merge_linears": qkv_example,
    "layout": layout_example,
    "fuse_loops": loops_example,
}


def example(name: str) -> Graph:
    return graph_of(EXAMPLES[name], Type(F32, (T, 8)), Type(F32, (T, 8)), symbols=SYMBOLS)


@cache
def stages(k: int) -> list[tuple[str, Graph]]:
    """A random graph and what each pass in turn makes of it."""
    g = random_graph(Random(100 + k), 6)
    out = [("import", g)]
    for name in PIPELINE:
        g = run_pass(name, g, CPU)
        g.verify()
        out.append((name, g))
    return out
