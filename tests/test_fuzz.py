"""Random graphs: optimised, compiled and run must equal the unoptimised graph in the interpreter.

Each example is one compilation of several unconnected random graphs, called at three sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.helpers import OPS, add, assert_close_to_reference, call, compiled, exact_eval
from xcompile.compiler import executor
from xcompile.ir import Graph, Type, Value
from xcompile.symbolic import Dim, Range, evaluate, same, simplify, symbol

T, U = symbol("T"), symbol("U")
SIZES = ({"T": 7, "U": 3}, {"T": 1, "U": 1}, {"T": 12, "U": 5})
SLOTS = 16  # rows of a cache; at least as many as the largest T
F32, I64 = torch.float32, torch.int64
SHAPES: list[tuple[Dim, ...]] = [
    (T, 8), (T, 16), (T, 3, 6), (5, 7), (T,), (T, U), (2, T, 12), (T, 1), (6, T), (1, 16),
    (U, T, 4), (T, 17), (2, 3, 4, 6), (),
]  # fmt: skip
UNARY = ["neg", "abs", "relu", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh", "square", "sin",
         "cos", "erf", "floor"]  # fmt: skip
BINARY = ["add", "sub", "mul", "max", "min"]
Step = Callable[[Value], Value | None]
MAX_ELEMENTS = 40_000


class Grower:
    """Grows a random graph from a stream of choices."""

    def __init__(self, r: Random, g: Graph, smooth: bool = False, dtype: torch.dtype = F32) -> None:
        self.r, self.g, self.smooth, self.dtype = r, g, smooth, dtype
        self.pool: list[Value] = []
        self.hold: list[Value] = []  # integers and bools: outputs, never operands of arithmetic
        self.rng = torch.Generator().manual_seed(r.randrange(1 << 30))

    def new_input(self, shape: tuple[Dim, ...]) -> Value:
        v = self.g.input(Type(self.dtype, shape), f"x{len(self.g.inputs)}")
        self.pool.append(v)
        return v

    def const(self, *shape: int) -> Value:
        t = torch.randn(shape, generator=self.rng) / max(shape[-1], 1) ** 0.5
        return self.g.const(t.to(self.dtype), self._name())

    def _name(self) -> str:
        return f"c{len(self.g.consts)}"

    def pick(self, ok: Callable[[Value], bool] = lambda v: True) -> Value | None:
        some = [v for v in self.pool if ok(v)]
        return self.r.choice(some) if some else None

    def recent(self) -> Value:
        return self.pool[-1] if self.r.random() < 0.6 else self.r.choice(self.pool)

    def op(self, name: str, *args: Value, **attrs: object) -> Value:
        return add(self.g, name, *args, **attrs)

    def grow(self, steps: int) -> None:
        start = len(self.g.nodes)
        for _ in range(self.r.randint(1, 3)):
            self.new_input(self.r.choice(SHAPES))
        kinds = self.kinds()
        for _ in range(steps):
            v = self.r.choice(kinds)(self.recent())
            if v is not None and self._size(v) <= MAX_ELEMENTS:
                self.pool.append(v)
        used = {v for n in self.g.nodes[start:] for v in n.inputs}
        ends = [v for v in self.pool if v not in used] + self.hold
        extra = [v for v in self.pool if v in used and self.r.random() < 0.15]
        self.g.outputs += ends + extra

    def kinds(self) -> list[Step]:
        always: list[Step] = [self.unary, self.binary, self.binary, self.literal, self.reduce,
                  self.rowwise,
                  self.permute, self.reshape, self.slice, self.expand, self.cat, self.linear,
                  self.gated, self.matmul, self.rope, self.attention, self.rotate]  # fmt: skip
        if self.smooth:
            return always
        return [*always, self.select, self.order, self.ramp, self.look, self.write, self.write]

    @staticmethod
    def _size(v: Value) -> int:
        return evaluate(v.type.numel, SIZES[-1])

    # -- one step each; None where the operand does not suit --------------------------------------
    def unary(self, x: Value) -> Value:
        names = [n for n in UNARY if n != "floor" or not self.smooth]
        return self.op(self.r.choice(names), x)

    def fits(self, x: Value) -> Callable[[Value], bool]:
        def ok(y: Value) -> bool:
            k = min(x.type.rank, y.type.rank)
            tails = zip(x.shape[len(x.shape) - k :], y.shape[len(y.shape) - k :], strict=True)
            return all(same(a, b) or same(a, 1) or same(b, 1) for a, b in tails)

        return ok

    def binary(self, x: Value) -> Value | None:
        y = self.pick(self.fits(x))
        if y is None:
            return None
        a, b = (x, y) if self.r.random() < 0.5 else (y, x)
        return self.op(self.r.choice(BINARY), a, b)

    def literal(self, x: Value) -> Value:
        value = self.r.choice([0.5, -1.25, 2.0, 1.0])
        return self.op(
            self.r.choice(BINARY), x, self.op("full", shape=(), value=value, dtype=self.dtype)
        )

    def reduce(self, x: Value) -> Value | None:
        names = ["sum"] if self.smooth else ["sum", "amax", "amin"]
        return self.op(self.r.choice(names), x) if x.type.rank else None

    def rowwise(self, x: Value) -> Value | None:
        if not x.type.rank:
            return None
        d = x.shape[-1]
        name = self.r.choice(["softmax", "rms_norm", "layer_norm"])
        if name == "softmax" or not isinstance(d, int):
            return self.op("softmax", x)
        weights = [self.const(d) for _ in range(1 + (name == "layer_norm"))]
        return self.op(name, x, *weights, eps=1e-2)

    def permute(self, x: Value) -> Value:
        perm = list(range(x.type.rank))
        self.r.shuffle(perm)
        return self.op("permute", x, perm=tuple(perm))

    def reshape(self, x: Value) -> Value | None:
        s = list(x.shape)
        k = self.r.randrange(len(s)) if s else 0
        choice = self.r.choice(["merge", "split", "one", "flat"])
        if choice == "merge" and len(s) > 1:
            k = min(k, len(s) - 2)
            s[k : k + 2] = [simplify(s[k] * s[k + 1])]
        elif choice == "split" and s and isinstance(s[k], int) and s[k] % 2 == 0 and s[k]:
            s[k : k + 1] = self.r.choice([[2, s[k] // 2], [s[k] // 2, 2]])
        elif choice == "flat":
            s = [x.type.numel]
        else:
            s.insert(k, 1)
        return self.op("reshape", x, shape=tuple(s)) if len(s) <= 5 else None

    def slice(self, x: Value) -> Value | None:
        dims = [k for k, d in enumerate(x.shape) if isinstance(d, int) and d > 1]
        if not dims:
            return None
        k = self.r.choice(dims)
        d = int(x.shape[k])
        start = self.r.randrange(d)
        stop = self.r.randint(start + 1, d)
        return self.op("slice", x, dim=k, start=start, stop=stop, step=self.r.choice([1, 1, 2]))

    def expand(self, x: Value) -> Value | None:
        shape = [self.r.choice([2, 3, T]) if same(d, 1) else d for d in x.shape]
        if self.r.random() < 0.3 and len(shape) < 4:
            shape.insert(0, 2)
        return self.op("expand", x, shape=tuple(shape))

    def cat(self, x: Value) -> Value | None:
        if not x.type.rank:
            return None
        k = self.r.randrange(x.type.rank)

        def ok(y: Value) -> bool:
            return y.type.rank == x.type.rank and all(
                same(a, b) for i, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if i != k
            )

        others = [v for v in (self.pick(ok) for _ in range(self.r.randint(1, 2))) if v is not None]
        parts = [x, *others]
        self.r.shuffle(parts)
        return self.op("cat", *parts, dim=k)

    def linear(self, x: Value) -> Value | None:
        if not x.type.rank or not isinstance(x.shape[-1], int):
            return None
        k = x.shape[-1]
        y = self.op("linear", x, self.const(self.r.choice([k, 5, 16, 33]), k))
        n = int(y.shape[-1])
        return self.op("add", y, self.const(n)) if self.r.random() < 0.4 else y

    def gated(self, x: Value) -> Value | None:
        """Two linears of one input that meet: a gated MLP, or nearly one."""
        if not x.type.rank or not isinstance(x.shape[-1], int):
            return None
        n, k = self.r.choice([16, 32, 20]), x.shape[-1]
        a, b = (self.op("linear", x, self.const(n, k)) for _ in range(2))
        y = self.op(self.r.choice(BINARY), self.op(self.r.choice(["silu", "tanh"]), a), b)
        if self.r.random() < 0.2:
            self.pool.append(a)
        return y

    def matmul(self, x: Value) -> Value | None:
        if x.type.rank < 2:
            return None
        last = list(range(x.type.rank))
        last[-2:] = last[:-3:-1]
        return self.op("matmul", x, self.op("permute", x, perm=tuple(last)))

    def rope(self, x: Value) -> Value | None:
        d = x.shape[-1] if x.type.rank else 0
        if not (isinstance(d, int) and d % 2 == 0 and d):
            return None
        n = self.r.choice([d, d // 2])
        return self.op("rope", x, self.const(n), self.const(n), interleaved=self.r.random() < 0.5)

    def rotate(self, x: Value) -> Value | None:
        """A rotation written out, for the rules to find."""
        d, last = (x.shape[-1], x.type.rank - 1) if x.type.rank else (0, 0)
        if not (isinstance(d, int) and d % 2 == 0 and d):
            return None
        c, s = self.const(d), self.const(d)
        lo = self.op("slice", x, dim=last, start=0, stop=d // 2, step=1)
        hi = self.op("slice", x, dim=last, start=d // 2, stop=d, step=1)
        turned = self.op("cat", self.op("neg", hi), lo, dim=last)
        return self.op("add", self.op("mul", x, c), self.op("mul", turned, s))

    def attention(self, x: Value) -> Value | None:
        if x.type.rank != 3 or not isinstance(x.shape[-1], int):
            return None
        heads = x.shape[0] if isinstance(x.shape[0], int) else None
        q = self.op("reshape", x, shape=(1, *x.shape))
        if heads is None:
            q = self.op("permute", q, perm=(1, 0, 2, 3))
        k = self.op("tanh", q) if self.r.random() < 0.5 else q
        return self.op("attention", q, k, q, causal=self.r.random() < 0.5, scale=0.3)

    def select(self, x: Value) -> Value | None:
        y = self.pick(self.fits(x))
        if y is None:
            return None
        c = self.op(self.r.choice(["lt", "ge", "le", "gt"]), x, y)
        if self.r.random() < 0.3:
            c = self.op("not", c)
        if self.r.random() < 0.1:
            self.hold.append(c)
        return self.op("where", c, x, y)

    def order(self, x: Value) -> Value | None:
        if not x.type.rank:
            return None
        d = x.shape[-1]
        name = self.r.choice(["topk", "sort", "argmax", "cumsum"])
        attrs: dict[str, Any] = {}
        if name == "topk":
            attrs["k"] = self.r.randint(1, d) if isinstance(d, int) else 1
        elif name == "sort":
            attrs["descending"] = self.r.random() < 0.5
        first = self.op(name, x, **attrs)
        if name == "cumsum":
            return first
        index = self.g.nodes[-1].outputs[-1]
        if self.r.random() < 0.3:
            self.hold.append(index)
        y = self.op("gather", x, index)
        return y if name == "argmax" or self.r.random() < 0.5 else self.op("add", first, y)

    def write(self, x: Value) -> Value | None:
        """Some rows or elements of x replaced, by others of its own or by new ones."""
        if x.type.rank < 2:
            return None
        last, d, k = x.type.rank - 1, x.shape[-1], x.shape[0]
        if self.r.random() < 0.5 and isinstance(k, int) and k > 1:
            rows = self.r.randint(1, k - 1)
            index = self.g.const(torch.randperm(k, generator=self.rng)[:rows], self._name())
            src = self.op("slice", x, dim=0, start=0, stop=rows, step=1)
            if self.r.random() < 0.5:
                src = self.op("tanh", src)
            return self.op("index_copy", x, index, src, dim=0)
        if not (isinstance(d, int) and d > 1):
            return None
        index = self.op("iota", shape=(*x.shape[:-1], 2), dim=last, start=0, step=1, dtype=I64)
        src = self.op("slice", x, dim=last, start=d - 2, stop=d, step=1)
        return self.op("scatter", x, index, src)

    def ramp(self, x: Value) -> Value | None:
        if not x.type.rank:
            return None
        dim = self.r.randrange(x.type.rank)
        i = self.op("iota", shape=x.shape, dim=dim, start=self.r.randint(-2, 2), step=1, dtype=F32)
        return self.op(self.r.choice(["mul", "add", "sub"]), x, i)

    def look(self, x: Value) -> Value | None:
        """Rows of a table, by indices that come from the data."""
        small = self.op("cast", self.op("floor", self.op("abs", x)), dtype=I64)
        size = self.op("full", shape=(), value=11, dtype=I64)
        ids = self.op("remainder", small, size)
        return self.op("embedding", self.const(11, 5), ids) if x.type.rank < 4 else None


def cached(r: Random, g: Graph) -> None:
    """A cache that is written, read before or after, and returned; or a state that is replaced."""
    w = Grower(r, g)
    kind = r.choice(["write", "write twice", "replace", "shift", "swap"])
    d = r.choice([4, 8])
    cache = w.new_input((SLOTS, d))
    state = g.inputs.index(cache)
    x = w.unary(w.new_input((T, d)))
    if kind.startswith("write"):
        slots = g.input(Type(I64, (T,)), f"slots{len(g.inputs)}")
        if r.random() < 0.4:
            g.outputs.append(w.op("sum", cache))  # the old content
        new = w.op("index_copy", cache, slots, x, dim=0)
        if kind == "write twice":
            new = w.op("index_copy", new, slots, w.op("tanh", x), dim=0)
        read = w.op("softmax", w.op("gather", new, w.op(
            "iota", shape=(SLOTS, 3), dim=1, start=0, step=1, dtype=I64)))  # fmt: skip
        g.outputs.append(read)
    elif kind == "replace":
        flipped = w.op("slice", cache, dim=0, start=1, stop=2, step=1)
        new = w.op("add", cache, r.choice([flipped, w.op("amax", cache), cache]))
        g.outputs.append(w.op("mul", new, cache))
    elif kind == "shift":
        rest = w.op("slice", cache, dim=0, start=1, stop=SLOTS, step=1)
        row = w.op("slice", cache, dim=0, start=0, stop=1, step=1)
        new = w.op("cat", rest, w.op("neg", row), dim=0)
    else:
        other = w.new_input((SLOTS, d))
        new = w.op("tanh", other) if r.random() < 0.5 else other
        g.state[len(g.outputs)] = g.inputs.index(other)
        g.outputs.append(cache)
    if r.random() < 0.3:
        g.outputs.append(x if kind.startswith("write") else cache)
    g.state[len(g.outputs)] = state
    g.outputs.append(new)


def random_graph(r: Random, parts: int, smooth: bool = False, dtype: torch.dtype = F32) -> Graph:
    g = Graph(symbols={"T": Range(1, SLOTS, 7), "U": Range(1, 8, 3)})
    g.input(Type(F32, (T, U)), "sizes")  # so that both symbols are always known
    for _ in range(parts):
        Grower(r, g, smooth, dtype).grow(r.randint(3, 12))
    if not smooth:
        for _ in range(2):
            cached(r, g)
    g.verify()
    return g


def arguments(g: Graph, env: dict[str, int]) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(sum(env.values()))
    out = []
    for v in g.inputs:
        shape = [evaluate(d, env) for d in v.shape]
        index = v.dtype == I64
        out.append(torch.randperm(SLOTS, generator=rng)[: shape[0]] if index
                   else torch.randn(shape, generator=rng).to(v.dtype))  # fmt: skip
    return out


def check(g: Graph, ulps: float, sizes: Sequence[dict[str, int]] = SIZES) -> None:
    run = executor(compiled(g), 2)
    for env in sizes:
        args = arguments(g, env)
        rows = zip(call(g, run, args), g.eval(*args), exact_eval(g, args), strict=True)
        for k, (got, eager, exact) in enumerate(rows):
            what = f"output {k} at {env}"
            if got.dtype.is_floating_point and not close(eager, exact):
                continue  # a choice fell differently in float64: nothing to compare with
            exact = exact if exact.is_floating_point() else exact.to(eager.dtype)
            assert_close_to_reference(got, eager, exact, ulps=ulps, what=what)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    limit = 1e-3 if a.dtype.itemsize >= 4 else 0.5
    size = float(b.abs().max()) if b.numel() else 0.0
    return not float((a.double() - b.double()).abs().max() if b.numel() else 0.0) > limit * size


QUICK = settings(derandomize=True, deadline=None, max_examples=6, database=None,
                 phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
LONG = settings(QUICK, max_examples=25)
SEEDS = st.integers(0, 1 << 32)


@QUICK
@given(SEEDS)
def test_random_graphs_survive_compilation(seed: int) -> None:
    check(random_graph(Random(seed), 8), ulps=256)


@pytest.mark.slow
@settings(LONG)
@given(SEEDS)
def test_many_random_graphs_survive_compilation(seed: int) -> None:
    check(random_graph(Random(seed), 8), ulps=256)


def test_random_smooth_graphs_in_bf16_are_as_close_as_eager() -> None:
    for k in range(2):
        check(random_graph(Random(k), 8, smooth=True, dtype=torch.bfloat16), ulps=16)


def test_the_fuzzer_reaches_most_ops() -> None:
    graphs = [random_graph(Random(k), 8) for k in range(12)]
    reached = {n.op.name for g in graphs for n in g.nodes}
    assert len(reached) >= 40
    assert reached <= set(OPS)
