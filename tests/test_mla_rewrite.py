"""Attention over expanded latents becomes absorbed attention: the same values, where it pays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import transformers

from tests.helpers import (
    add,
    assert_close_to_reference,
    compiled,
    exact_eval,
    graph_of,
    relative_error,
)
from tests.zoo_mla import zoo_mla
from xcompile import compile as xcompile
from xcompile.compiler import executor, make_target
from xcompile.ir import Graph, Type, Value
from xcompile.passes import rewrite_mla, run_pass
from xcompile.symbolic import Range, symbol

F32, BF16 = torch.float32, torch.bfloat16
T = symbol("T")
CPU = make_target("cpu")
TURN = (0, 2, 1, 3)


@dataclass(frozen=True)
class Case:
    """A hand-written layer: q [B,S,H,nope+rope], c [B,T,rank], r [B,T,rope] -> [B,S,H,v]."""

    queries: int = 1
    batch: int = 2
    heads: int = 3
    rank: int = 24
    nope: int = 10
    rope: int = 6
    v: int = 7
    mask: str = ""  # bool: padding on the left, bool; add: additive, one for each head
    causal: bool = False
    turned: bool = False  # heads move to the front only after the concatenation
    rope_first: bool = False
    split: bool = False  # the query is a concatenation itself
    dtype: torch.dtype = F32

    @property
    def types(self) -> list[Type]:
        s, b, h = self.queries, self.batch, self.heads
        shapes = ((b, s, h, self.nope + self.rope), (b, T, self.rank), (b, T, self.rope))
        types = [Type(self.dtype, shape) for shape in shapes]
        if self.mask == "bool":
            types.append(Type(torch.bool, (b, 1, s, T)))
        elif self.mask:
            types.append(Type(self.dtype, (b, h, s, T)))
        return types

    def build(self, g: Graph, q: Value, c: Value, r: Value, *mask: Value) -> Value:
        rng = torch.Generator().manual_seed(1)
        h, width = self.heads, self.nope + self.v
        drawn = torch.randn(h * width, self.rank, generator=rng) * self.rank**-0.5
        w = g.const(drawn.to(self.dtype), "kv_b")
        wide = add(g, "reshape", add(g, "linear", c, w), shape=(self.batch, T, h, width))
        r = add(g, "reshape", r, shape=(self.batch, T, 1, self.rope))

        def front(x: Value) -> Value:
            return add(g, "permute", x, perm=TURN)

        def columns(x: Value, start: int, stop: int) -> Value:
            return add(g, "slice", x, dim=3, start=start, stop=stop, step=1)

        if not self.turned:
            wide, r = front(wide), front(r)
        shape = [*wide.shape[:3], self.rope]
        parts = [columns(wide, 0, self.nope), add(g, "expand", r, shape=tuple(shape))]
        at = [0, self.nope, self.nope + self.rope]
        if self.rope_first:
            parts, at = parts[::-1], [0, self.rope, self.nope + self.rope]
        key, value = add(g, "cat", *parts, dim=3), columns(wide, self.nope, width)
        if self.turned:
            key, value = front(key), front(value)
        query = front(q)
        if self.split:
            halves = [columns(query, a, b) for a, b in pairwise(at)]
            query = add(g, "cat", *halves, dim=3)
        result = add(g, "attention", query, key, value, *mask, causal=self.causal, scale=0.3)
        return front(result)

    def graph(self) -> Graph:
        return graph_of(lambda g, *x: [self.build(g, *x)], *self.types,
                        symbols={"T": Range(1, 4096, 60)})  # fmt: skip

    def arguments(self, keys: int) -> list[torch.Tensor]:
        rng = torch.Generator().manual_seed(keys)
        b, s, h = self.batch, self.queries, self.heads
        shapes = [(b, s, h, self.nope + self.rope), (b, keys, self.rank), (b, keys, self.rope)]
        args = [torch.randn(shape, generator=rng).to(self.dtype) for shape in shapes]
        if self.mask == "bool":
            seen = torch.ones(b, 1, s, keys, dtype=torch.bool).tril(keys - s)
            seen[0, :, :, : keys // 2] = False  # rows that see nothing where keys < queries
            args.append(seen)
        elif self.mask:
            args.append(torch.randn(b, h, s, keys, generator=rng).to(self.dtype))
        return args


CASES = {
    "decode": Case(),
    "padding": Case(mask="bool"),
    "chunk": Case(queries=4, mask="bool"),
    "additive": Case(queries=2, mask="add", split=True),
    "causal": Case(queries=5, causal=True),
    "turned": Case(turned=True, mask="bool"),
    "rope first": Case(rope_first=True, queries=2),
    "rope first, split": Case(rope_first=True, split=True, turned=True),
    "one head": Case(heads=1, batch=1, split=True),
    "wide": Case(heads=16, rank=96, nope=32, rope=16, v=32, batch=1, mask="bool"),
}


def count(g: Graph, op: str) -> int:
    return sum(n.op.name == op for n in g.nodes)


@pytest.mark.parametrize("name", CASES)
def test_the_absorbed_form_is_the_expanded_one(name: str) -> None:
    before = CASES[name].graph()
    after = run_pass("rewrite_mla", before, CPU)
    after.verify()
    assert count(after, "head_linear") == 2 and count(after, "linear") == 0
    attention = next(n for n in after.nodes if n.op.name == "attention")
    case = CASES[name]
    assert attention.inputs[1].shape == (case.batch, 1, T, case.rank + case.rope)
    for keys in (1, 5, 60):
        args = [a.double() if a.dtype == F32 else a for a in case.arguments(keys)]
        (got,), (want,) = exact_eval(after, args), exact_eval(before, args)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("name", ["padding", "chunk", "additive", "wide"])
def test_compiled_it_is_as_close_to_the_truth_as_the_expanded_form(
    name: str, dtype: torch.dtype
) -> None:
    case = Case(**{**vars(CASES[name]), "dtype": dtype})
    graph = case.graph()
    done = compiled(graph)
    assert count(done.graph, "head_linear") == 2
    run = executor(done, threads=2)
    for keys in (5, 60, 700):
        args = case.arguments(keys)
        (eager,), (exact,) = graph.eval(*args), exact_eval(graph, args)
        assert_close_to_reference(run(*args)[0], eager, exact, what=f"{name} {keys}")


def refused(build: Any, *types: Type) -> Graph:
    g = graph_of(build, *types, symbols={"T": Range(1, 4096, 60)})
    after = run_pass("rewrite_mla", g, CPU)
    assert count(after, "head_linear") == 0
    return after


def test_what_else_is_read_stays_expanded() -> None:
    case = Case()

    def keys_are_a_result(g: Graph, *x: Value) -> list[Value]:
        out = case.build(g, *x)
        return [out, next(n for n in g.nodes if n.op.name == "cat").out]

    refused(keys_are_a_result, *case.types)

    def two_weights(g: Graph, *x: Value) -> list[Value]:
        for _ in range(2):
            case.build(g, *x)
        one, two = [n for n in g.nodes if n.op.name == "attention"]
        mixed = add(g, "attention", one.inputs[0], one.inputs[1], two.inputs[2], **one.attrs)
        return [mixed]

    refused(two_weights, *case.types)


def test_weights_given_at_run_time_stay_expanded() -> None:
    case = Case()

    def build(g: Graph, *x: Value) -> list[Value]:
        out = case.build(g, *x)
        (weight,) = g.consts
        g.consts.clear()
        g.inputs.append(weight)
        return [out]

    refused(build, *case.types)


def test_a_whole_prompt_stays_expanded() -> None:
    s = symbol("T")
    case = Case(causal=True)

    def build(g: Graph, *x: Value) -> list[Value]:
        return [case.build(g, *x)]

    types = [Type(F32, (2, s, 3, 16)), *case.types[1:]]
    refused(build, *types)


@pytest.mark.parametrize("target", ["cpu", "ascend910b"])
@pytest.mark.parametrize(
    ("queries", "absorbed"), [(1, True), (4, True), (16, True), (2048, False), (8192, False)]
)
def test_deepseek_v3_is_absorbed_for_few_queries(target: str, queries: int, absorbed: bool) -> None:
    sizes = {"heads": 128, "rank": 512, "nope": 128, "rope": 64, "v": 128, "dtype": BF16}
    graph = Case(queries, batch=1, **sizes).graph()  # type: ignore[arg-type]
    after = run_pass("rewrite_mla", graph, make_target(target))
    assert (count(after, "head_linear") == 2) is absorbed


# -- the doors -------------------------------------------------------------------------------------
@torch.no_grad()
def decode(model: Any, run: Any, cache: str, count: int) -> list[torch.Tensor]:
    """Logits of steps over a cache of transformers; the second request is padded on the left."""
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [0, 0, 0, 12, 13, 14, 15]])
    mask = (ids != 0).long()
    kwargs: dict[str, Any] = {}
    if cache == "static":
        kwargs["past_key_values"] = transformers.StaticCache(config=model.config, max_cache_len=32)
    out = model(ids, attention_mask=mask, use_cache=True, **kwargs)
    results = []
    for step in range(3):
        new = torch.tensor([[21 + step + j for j in range(count)]] * 2)
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
        position = mask.cumsum(-1)[:, -count:] - 1
        out = run(new, attention_mask=mask, position_ids=position,
                  past_key_values=out.past_key_values, use_cache=True)  # fmt: skip
        results.append(out.logits)
    return results


@pytest.fixture
def rewritten(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Attention nodes that each run of the pass replaced."""
    seen: list[int] = []
    run = rewrite_mla.run

    def watched(graph: Graph, target: Any) -> Graph:
        after = run(graph, target)
        seen.append((count(after, "head_linear") - count(graph, "head_linear")) // 2)
        return after

    monkeypatch.setattr(rewrite_mla, "run", watched)
    return seen


@pytest.mark.parametrize(
    ("name", "cache", "new"),
    [
        ("youtu", "dynamic", 1),
        ("youtu", "static", 2),
        pytest.param("minicpm3", "dynamic", 3, marks=pytest.mark.slow),
        pytest.param("deepseek_v2", "static", 1, marks=pytest.mark.slow),
        pytest.param("glm4_moe_lite", "dynamic", 1, marks=pytest.mark.slow),
        pytest.param("glm4_moe_lite", "static", 1, marks=pytest.mark.slow),
    ],
)
def test_decoding_through_torch_compile_is_absorbed(
    name: str, cache: str, new: int, rewritten: list[int]
) -> None:
    torch._dynamo.reset()
    model = zoo_mla(name)
    run = torch.compile(model, backend="xllm", options={"threads": 2})
    for got, want in zip(decode(model, run, cache, new), decode(model, model, cache, new),
                         strict=True):  # fmt: skip
        assert relative_error(got, want) <= 1e-5
        assert torch.equal(got.argmax(-1), want.argmax(-1))
    assert sum(rewritten) >= 2


class Chunk(torch.nn.Module):
    """A few tokens after cached latents, all given as tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, latents: list[torch.Tensor]
    ) -> torch.Tensor:
        cache = transformers.DynamicCache(config=self.model.config)
        for layer in range(len(latents) // 2):
            cache.update(latents[2 * layer], latents[2 * layer + 1], layer)
        return self.model(ids, attention_mask=mask, past_key_values=cache, use_cache=True).logits


@torch.no_grad()
def test_an_exported_chunk_is_absorbed(rewritten: list[int]) -> None:
    model = zoo_mla("minicpm3")
    rng = torch.Generator().manual_seed(1)

    def inputs(past: int) -> tuple[Any, ...]:
        mask = torch.ones(2, past + 3, dtype=torch.int64)
        mask[0, : past // 2] = 0
        latents = [torch.randn(2, 1, past, size, generator=rng) for _ in range(2)
                   for size in (32, 16)]  # fmt: skip
        return torch.tensor([[5, 6, 7], [8, 9, 10]]), mask, latents

    past = torch.export.Dim("past", min=1, max=256)
    shapes = (None, {1: past + 3}, [{2: past}] * 4)
    run = xcompile(Chunk(model), inputs(19), dynamic_shapes=shapes, threads=2, strict=True)
    assert rewritten == [2]
    for size in (19, 1, 200):
        args = inputs(size)
        want = Chunk(model)(*args)
        ids, mask, latents = args
        got = run(ids, mask, *latents)
        assert relative_error(got, want) <= 1e-5
        assert torch.equal(got.argmax(-1), want.argmax(-1))


@torch.no_grad()
def test_an_exported_prompt_stays_expanded(rewritten: list[int]) -> None:
    model = zoo_mla("youtu")
    shapes = ({1: torch.export.Dim("S", max=128)},)

    class Prompt(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.model(ids, use_cache=False).logits

    ids = torch.arange(5, 25)[None]
    run = xcompile(Prompt(), (ids,), dynamic_shapes=shapes, threads=2, strict=True)
    assert rewritten == [0]
    assert relative_error(run(ids), model(ids, use_cache=False).logits) <= 1e-5
