"""What is compared: the compiled step, Hugging Face eager, and Hugging Face under Inductor.

Every subject offers the same two workloads on the same model, prompt and tokens. `decode(batch)`
gives a function that feeds one token per request after the cached prompt; it stays at that context,
so every call is the same work with other tokens. `prefill()` gives a function that feeds a prompt.
Both functions return the logits `[batch, vocabulary]` of their last tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

import xcompile
from benchmarks.measure import quick_seconds
from benchmarks.steps import Paged

Step = Callable[[], Tensor]

VARIANTS = 8  # prompts and token sets to rotate over
ROOM = 32  # rows of a static cache beyond the prompt


class Tokens:
    """The token ids that all subjects are fed."""

    def __init__(self, vocab: int, context: int) -> None:
        self.vocab, self.context = vocab, context
        self.prompts = self._draw((VARIANTS, context), 1)

    def next(self, batch: int) -> Tensor:
        """One new token per request, `VARIANTS` times."""
        return self._draw((VARIANTS, batch), 2)

    def _draw(self, shape: tuple[int, ...], seed: int) -> Tensor:
        return torch.randint(3, self.vocab, shape, generator=torch.Generator().manual_seed(seed))


class Ours:
    """`xcompile.compile(model)`: one library for prefill and decode of every size."""

    name = "xcompile"

    def __init__(self, model: Any, tokens: Tokens, threads: int) -> None:
        self.tokens = tokens
        self.exe = xcompile.compile(model, threads=threads)

    def _paged(self, requests: int, past: int = 0) -> Paged:
        spec = self.exe.spec
        assert spec is not None
        return Paged(spec, requests, past + self.tokens.context + ROOM)

    def decode(self, batch: int) -> Step:
        paged, past = self._paged(batch), self.tokens.context
        self.exe(*paged.prefill(self.tokens.prompts[0]))
        paged.share(past)
        return rotate(self.exe, [paged.decode(ids, past) for ids in self.tokens.next(batch)])

    def prefill(self, past: int = 0) -> Step:
        """The prompts, each after `past` tokens of random cached values."""
        paged = self._paged(1, past)
        for cache in (*paged.keys, *paged.values):
            cache.normal_()
        return rotate(self.exe, [paged.prefill(ids, past=past) for ids in self.tokens.prompts])


def rotate(function: Callable[..., Tensor], calls: list[tuple]) -> Step:
    """Calls a function with the next of some arguments, again and again."""
    turn = cycle(calls)
    return lambda: function(*next(turn))


class Eager:
    """Hugging Face as it is, with the faster of its dynamic and its static cache."""

    name = "eager"

    def __init__(self, model: Any, tokens: Tokens) -> None:
        self.model, self.tokens = model, tokens
        self.note = ""
        self._prompt: DynamicCache | None = None

    def _past(self, cache: Any, batch: int) -> Any:
        """Fills a cache with the prompt, once for each request."""
        if self._prompt is None:
            self._prompt = DynamicCache(config=self.model.config)
            ids = self.tokens.prompts[:1]
            self.model(input_ids=ids, past_key_values=self._prompt, logits_to_keep=1)
        for index, layer in enumerate(self._prompt.layers):
            keys, values = (x.repeat(batch, 1, 1, 1) for x in (layer.keys, layer.values))
            cache.update(keys, values, index)
        return cache

    def _forward(self, ids: Tensor, cache: Any) -> Tensor:
        return self.model(input_ids=ids, past_key_values=cache, use_cache=True).logits

    def _dynamic(self, batch: int) -> Step:
        cache = self._past(DynamicCache(config=self.model.config), batch)

        def step(ids: Tensor) -> Tensor:
            logits = self._forward(ids, cache)
            cache.crop(-1)
            return logits[:, -1]

        return rotate(step, [(ids[:, None],) for ids in self.tokens.next(batch)])

    def _static(self, batch: int, forward: Callable[[Tensor, Any], Tensor]) -> Step:
        past = self.tokens.context
        cache = self._past(StaticCache(self.model.config, max_cache_len=past + ROOM), batch)

        def step(ids: Tensor) -> Tensor:
            for layer in cache.layers:
                layer.cumulative_length.fill_(past)
            return forward(ids, cache)[:, -1]

        return rotate(step, [(ids[:, None],) for ids in self.tokens.next(batch)])

    def decode(self, batch: int) -> Step:
        options: dict[str, Callable[[], Step]] = {
            "dynamic cache": lambda: self._dynamic(batch),
            "static cache": lambda: self._static(batch, self._forward),
        }
        self.note = min(options, key=lambda name: quick_seconds(options[name]()))
        return options[self.note]()

    def prefill(self) -> Step:
        self.note = ""

        def step(ids: Tensor) -> Tensor:
            cache = DynamicCache(config=self.model.config)
            out = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return out.logits[:, -1]

        return rotate(step, [(ids[None],) for ids in self.tokens.prompts])


class Inductor(Eager):
    """Hugging Face under `torch.compile`, default mode: static cache, static shapes."""

    name = "inductor"

    def _compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Compiled at its first call; as one graph, or with breaks where that fails."""
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        whole: Any = torch.compile(function, dynamic=False, fullgraph=True)

        def first(*args: Any) -> Tensor:
            nonlocal whole
            try:
                return whole(*args)
            except torch._dynamo.exc.Unsupported:
                torch._dynamo.reset()
                whole = torch.compile(function, dynamic=False)
                return whole(*args)
            finally:
                breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
                self.note = f"{breaks} graph breaks" if breaks else "one graph"

        return first

    def decode(self, batch: int) -> Step:
        return self._static(batch, self._compile(self._forward))

    def prefill(self) -> Step:
        def forward(ids: Tensor) -> Tensor:
            return self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]

        return rotate(self._compile(forward), [(ids[None],) for ids in self.tokens.prompts])


def make(name: str, model: Any, tokens: Tokens, threads: int) -> Any:
    """A subject by name: xcompile, eager, inductor or llama.cpp."""
    from benchmarks.llamacpp import LlamaCpp

    if name == Ours.name:
        return Ours(model, tokens, threads)
    return {x.name: x for x in (Eager, Inductor, LlamaCpp)}[name](model, tokens)
