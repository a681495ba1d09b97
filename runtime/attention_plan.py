"""Which core reads which part of which context: work lists for attention over a paged cache.

A step's requests have contexts of very different lengths. A plan cuts the whole of them into work
items (request, head block, range of KV tokens), deals the items to cores, and lists the items whose
partial results belong together. It is data of a fixed size for a fixed launch: lengths change from
step to step, grid and kernels do not.

Costs are in blocks of KV tokens: an item of b blocks costs b + overhead (start-up, and merging its
partial result).

Modes:
    balanced     contiguous cut of all tokens into equal shares (as FlashMLA's scheduler, with the
                 overhead of each part). Makespan <= ideal + overhead + 1 block, where ideal is the
                 larger of (total cost) / cores and 1 + overhead.
    lpt          whole requests, longest first, each to the least loaded core
    round_robin  whole requests in order
    xllm         the published scheme of xLLM (arXiv 2510.14686): the n mod P longest requests are
                 split over several cores each, the rest is dealt in a snake; not applied when
                 P mod 4 = 3 or the first context has at most 2048 tokens, then as round_robin
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MODES = ("balanced", "lpt", "round_robin", "xllm")


class Item(NamedTuple):
    """KV tokens [begin, end) of one request's head block, as part `part` of its `parts`."""

    request: int
    head: int
    begin: int
    end: int
    part: int
    parts: int


@dataclass(frozen=True)
class AttentionPlan:
    """Work lists per core; `merge` lists (request, head block, parts) with more than one part."""

    mode: str
    block: int
    overhead: float
    cores: list[list[Item]]

    def cost(self, item: Item) -> float:
        return -(-(item.end - item.begin) // self.block) + self.overhead

    @property
    def loads(self) -> list[float]:
        return [sum(map(self.cost, items)) for items in self.cores]

    @property
    def makespan(self) -> float:
        return max(self.loads, default=0.0)

    @property
    def merge(self) -> list[tuple[int, int, int]]:
        split = {(i.request, i.head, i.parts) for items in self.cores for i in items if i.parts > 1}
        return sorted(split)


def plan_attention(
    lengths: Sequence[int],
    cores: int,
    *,
    block: int = 128,
    heads: int = 1,
    overhead: float = 1.0,
    mode: str = "balanced",
) -> AttentionPlan:
    """A plan for contexts of `lengths` tokens (zero: no work) with `heads` head blocks each.

    Raises ValueError for negative lengths, cores or blocks below 1, and an unknown mode.
    """
    if cores < 1 or block < 1 or heads < 1 or overhead < 0:
        raise ValueError(
            f"cores={cores}, block={block}, heads={heads} must be at least 1, overhead={overhead} "
            "not negative"
        )
    if any(n < 0 for n in lengths):
        raise ValueError(f"context lengths must not be negative, given {min(lengths)}")
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; modes: {', '.join(MODES)}")
    tasks = [(r, h, n) for r, n in enumerate(lengths) if n for h in range(heads)]
    if mode == "balanced":
        lists = _balanced(tasks, cores, block, overhead)
    elif mode == "lpt":
        lists = _lpt(tasks, cores, block, overhead)
    elif mode == "round_robin" or cores % 4 == 3 or not tasks or tasks[0][2] <= 2048:
        lists = [[_whole(t) for t in tasks[c::cores]] for c in range(cores)]
    else:
        lists = _xllm(tasks, cores, block)
    return AttentionPlan(mode, block, overhead, lists)


def cuts(
    lengths: Sequence[int] | np.ndarray, cores: int, block: int = 128, overhead: float = 1.0
) -> np.ndarray:
    """The balanced plan as the kernels read it: int64 [cores + 1, 2], core c works from
    (request, token) in row c up to that of row c + 1. O(n + cores log n)."""
    n = np.asarray(lengths, dtype=np.int64)
    blocks = -(-n // block)
    cost = np.where(blocks > 0, blocks + overhead, 0.0)
    ends = np.cumsum(cost)
    total = float(ends[-1]) if n.size else 0.0
    at = np.linspace(0.0, total, cores + 1)
    request = np.searchsorted(ends, at, side="right")
    last = request >= n.size
    request = np.minimum(request, max(n.size - 1, 0))
    out = np.zeros((cores + 1, 2), dtype=np.int64)
    if not n.size:
        return out
    # A cut inside a request's overhead moves to the request's first token.
    inside = np.maximum(at - (ends - cost)[request] - overhead, 0)
    token = np.minimum(np.floor(inside).astype(np.int64) * block, n[request])
    out[:, 0] = np.where(last, n.size, request)
    out[:, 1] = np.where(last, 0, token)
    return out


def _whole(task: tuple[int, int, int]) -> Item:
    return Item(task[0], task[1], 0, task[2], 0, 1)


def _balanced(
    tasks: list[tuple[int, int, int]], cores: int, block: int, overhead: float
) -> list[list[Item]]:
    table = cuts([t[2] for t in tasks], cores, block, overhead)
    pieces: list[list[tuple[int, int, int]]] = []  # per core: task, begin, end
    for (k, begin), (last, stop) in zip(table[:-1].tolist(), table[1:].tolist(), strict=True):
        mine = []
        while k < last or (k == last and begin < stop):
            end = stop if k == last else tasks[k][2]
            if end > begin:
                mine.append((k, begin, end))
            k, begin = k + 1, 0
        pieces.append(mine)
    parts = np.bincount([k for mine in pieces for k, _, _ in mine], minlength=len(tasks))
    seen = [0] * len(tasks)
    lists = []
    for mine in pieces:
        items = []
        for k, begin, end in mine:
            items.append(Item(tasks[k][0], tasks[k][1], begin, end, seen[k], int(parts[k])))
            seen[k] += 1
        lists.append(items)
    return lists


def _lpt(
    tasks: list[tuple[int, int, int]], cores: int, block: int, overhead: float
) -> list[list[Item]]:
    lists: list[list[Item]] = [[] for _ in range(cores)]
    heap = [(0.0, c) for c in range(cores)]
    for t in sorted(tasks, key=lambda t: -t[2]):
        load, c = heapq.heappop(heap)
        lists[c].append(_whole(t))
        heapq.heappush(heap, (load - (-t[2] // block) + overhead, c))
    return lists


def _xllm(tasks: list[tuple[int, int, int]], cores: int, block: int) -> list[list[Item]]:
    ordered = sorted(tasks, key=lambda t: -t[2])
    tail, rest = ordered[: len(tasks) % cores], ordered[len(tasks) % cores :]
    lists: list[list[Item]] = [[] for _ in range(cores)]
    for k, t in enumerate(rest):
        row, column = divmod(k, cores)
        lists[column if row % 2 == 0 else cores - 1 - column].append(_whole(t))
    if not tail:
        return lists
    if len(tail) <= 4:
        each = cores // len(tail)
    else:
        each = next((s for s in (4, 3, 2) if len(tail) <= cores // s), 1)
    c = 0
    for request, head, n in tail:
        each_has = -(-n // each)
        chunk = -(-each_has // block) * block
        spans = [(b, min(b + chunk, n)) for b in range(0, n, chunk)]
        for part, (begin, end) in enumerate(spans):
            lists[(c + part) % cores].append(Item(request, head, begin, end, part, len(spans)))
        c += each
    return lists
