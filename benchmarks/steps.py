"""Inputs of a compiled serving step, built by hand: decode at a fixed context, and prefill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xcompile.runtime.generate import ModelSpec, allocate


def _index(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.int64)


@dataclass
class Paged:
    """Caches for `requests` requests of up to `context` tokens, on random distinct pages."""

    spec: ModelSpec
    requests: int
    context: int

    def __post_init__(self) -> None:
        width = -(-self.context // self.spec.page)
        count = self.requests * width
        order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
        self.tables = order.view(self.requests, width)
        rows = count * self.spec.page
        self.keys, self.values = allocate(self.spec.kv_shapes, rows, self.spec.dtype)

    def slots(self, request: int, positions: Tensor) -> Tensor:
        """Cache rows of a request's positions."""
        page = self.spec.page
        return self.tables[request, positions // page] * page + positions % page

    def prefill(self, ids: Tensor, request: int = 0, past: int = 0) -> tuple[Any, ...]:
        """Arguments that feed a request's prompt, or what follows `past` cached tokens: ids[n]."""
        n = ids.numel()
        positions = torch.arange(past, past + n)
        pages = -(-(past + n) // self.spec.page)
        index = (ids, positions, self.slots(request, positions), _index([0, n]), _index([past + n]))
        table = self.tables[request : request + 1, :pages].contiguous()
        return (*index, table, _index([n - 1]), self.keys, self.values)

    def decode(self, ids: Tensor, past: int) -> tuple[Any, ...]:
        """Arguments that feed one token per request, ids[requests], after `past` cached ones."""
        n = self.requests
        position = _index([past])
        slots = torch.cat([self.slots(r, position) for r in range(n)])
        index = (ids, position.repeat(n), slots, torch.arange(n + 1), _index([past + 1] * n))
        pages = past // self.spec.page + 1
        table = self.tables[:, :pages].contiguous()
        return (*index, table, torch.arange(n), self.keys, self.values)

    def share(self, past: int) -> None:
        """Copies the first `past` rows of request 0 to all others."""
        positions = torch.arange(past)
        source = self.slots(0, positions)
        for r in range(1, self.requests):
            to = self.slots(r, positions)
            for cache in (*self.keys, *self.values):
                cache[to] = cache[source]
