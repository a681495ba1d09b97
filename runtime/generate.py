"""Greedy generation with a step function over paged caches: the smallest complete user of a step.

A *step* takes packed new tokens of several requests, prompts and single decoded tokens alike,
together with the caches, and returns one row of logits per request::

    step(input_ids[T], position_ids[T], slots[T], cu_seqlens[R+1], context_lens[R],
         block_tables[R,M], last_rows[R], k_caches, v_caches) -> logits[R,V]

All integers are int64.  The step writes the keys and values of the new tokens into rows ``slots``
of the caches, in place.  This module depends on nothing but PyTorch: it drives an eager module, an
exported program and a compiled artifact in the same way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from xcompile.runtime.memory import HUGE, Region

__all__ = ["ModelSpec", "PageAllocator", "Step", "allocate", "generate"]

Step = Callable[..., Tensor]


@dataclass(frozen=True)
class ModelSpec:
    """What a caller of a step must know of its model.

    Attributes:
        kv_shapes: per cache layer ``(Hk, D, Dv)``: key/value heads, size of a key, size of a value.
        page: rows of a cache page.
        dtype: dtype of the caches.
        max_context: longest context of a request, prompt and generated tokens together.
        device: where the caches and the inputs live.
    """

    kv_shapes: tuple[tuple[int, int, int], ...]
    page: int
    dtype: torch.dtype
    max_context: int
    device: str = "cpu"


class PageAllocator:
    """Free list over ``num_pages`` pages; hands out the page that was freed last."""

    def __init__(self, num_pages: int) -> None:
        self._free = list(range(num_pages - 1, -1, -1))

    @property
    def available(self) -> int:
        """Number of free pages."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """``count`` page numbers.

        Raises:
            MemoryError: if fewer are free; nothing is taken then.
        """
        if count > len(self._free):
            raise MemoryError(f"{count} pages wanted, {len(self._free)} free")
        return [self._free.pop() for _ in range(count)]

    def give(self, pages: Sequence[int]) -> None:
        """Returns pages that :meth:`take` handed out."""
        self._free.extend(reversed(pages))


@dataclass
class _Request:
    index: int
    pending: list[int]
    pages: list[int]
    cached: int = 0
    output: list[int] = field(default_factory=list)


def allocate(
    kv_shapes: Sequence[tuple[int, int, int]],
    num_slots: int,
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
) -> tuple[list[Tensor], list[Tensor]]:
    """Zeroed caches: per layer keys ``[num_slots, Hk, D]`` and values ``[num_slots, Hk, Dv]``.

    On the CPU they lie on 2 MB pages: attention streams them as it does weights.
    """

    def zeros(heads: int, size: int) -> Tensor:
        shape = (num_slots, heads, size)
        nbytes = num_slots * heads * size * dtype.itemsize
        if torch.device(device).type != "cpu" or nbytes < HUGE:
            return torch.zeros(shape, dtype=dtype, device=device)
        return torch.frombuffer(Region(nbytes).view(0, nbytes), dtype=dtype).view(shape)

    keys = [zeros(heads, key) for heads, key, _ in kv_shapes]
    values = [zeros(heads, value) for heads, _, value in kv_shapes]
    return keys, values


def generate(
    step: Step,
    model_spec: ModelSpec,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    eos: int | Collection[int] | None = None,
    num_pages: int | None = None,
    max_tokens: int = 256,
    max_requests: int = 64,
) -> list[list[int]]:
    """Greedy continuations of ``prompts``, batched continuously.

    A request is admitted when the pages for its longest possible context are free, in order of
    arrival, so a running request never runs out of memory.  A prompt longer than what is left of
    ``max_tokens`` is fed over several steps.

    Args:
        step: see the module's text.
        model_spec: shapes, page size and dtype of the caches.
        prompts: token ids, none empty.
        max_new_tokens: how many tokens to add to each prompt at most.
        eos: token or tokens that end a request; the token itself is part of the result.
        num_pages: pages of the caches; by default as many as all requests need at once.
        max_tokens: most tokens of one step.
        max_requests: most requests of one step; at most ``max_tokens``.

    Returns:
        The new token ids of each prompt, in the order of ``prompts``.

    Raises:
        ValueError: on an empty prompt, limits below 1 or a context above
            ``model_spec.max_context``.
        MemoryError: if ``num_pages`` cannot hold one of the requests.
    """
    _check_requests(model_spec, prompts, max_new_tokens, max_tokens, max_requests)
    results: list[list[int]] = [[] for _ in prompts]
    if max_new_tokens == 0 or not prompts:
        return results
    # The last new token is returned but never fed back, so it needs no row.
    need = [-(-(len(prompt) + max_new_tokens - 1) // model_spec.page) for prompt in prompts]
    pages = PageAllocator(sum(need) if num_pages is None else num_pages)
    if max(need) > pages.available:
        raise MemoryError(f"a request needs {max(need)} pages, there are {pages.available}")
    caches = allocate(
        model_spec.kv_shapes, pages.available * model_spec.page, model_spec.dtype, model_spec.device
    )
    stop = {eos} if isinstance(eos, int) else set(eos or ())
    waiting = deque(range(len(prompts)))
    running: list[_Request] = []
    while waiting or running:
        limit = min(max_requests, max_tokens)
        while waiting and len(running) < limit and need[waiting[0]] <= pages.available:
            index = waiting.popleft()
            running.append(_Request(index, list(prompts[index]), pages.take(need[index])))
        batch = _plan(running, max_tokens)
        inputs = _step_inputs(batch, model_spec.page, model_spec.device)
        chosen = step(*inputs, *caches).argmax(-1).tolist()
        for (request, count), token in zip(batch, chosen, strict=True):
            request.cached += count
            del request.pending[:count]
            if request.pending:
                continue
            request.output.append(token)
            request.pending = [token]
            if token in stop or len(request.output) == max_new_tokens:
                results[request.index] = request.output
                pages.give(request.pages)
                running.remove(request)
    return results


def _check_requests(
    spec: ModelSpec,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    max_tokens: int,
    max_requests: int,
) -> None:
    if max_new_tokens < 0 or max_tokens < 1 or max_requests < 1:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} must not be negative, max_tokens={max_tokens} and "
            f"max_requests={max_requests} must be at least 1"
        )
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {index} is empty")
        if len(prompt) + max_new_tokens > spec.max_context:
            raise ValueError(
                f"prompt {index}: {len(prompt)} tokens and {max_new_tokens} new ones exceed the "
                f"context of {spec.max_context}"
            )


def _plan(running: Sequence[_Request], max_tokens: int) -> list[tuple[_Request, int]]:
    """How many tokens each request feeds in this step; decoding requests go first."""
    batch: list[tuple[_Request, int]] = []
    for request in sorted(running, key=lambda request: len(request.pending) > 1):
        count = min(len(request.pending), max_tokens)
        if count == 0:
            break
        batch.append((request, count))
        max_tokens -= count
    return batch


def _step_inputs(
    batch: Sequence[tuple[_Request, int]], page: int, device: str
) -> tuple[Tensor, ...]:
    """The seven index tensors of a step, in its order."""
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    ends = [0]
    for request, count in batch:
        span = range(request.cached, request.cached + count)
        ids += request.pending[:count]
        positions += span
        slots += [request.pages[position // page] * page + position % page for position in span]
        ends.append(ends[-1] + count)
    contexts = [request.cached + count for request, count in batch]
    width = -(-max(contexts) // page)
    tables = [(request.pages + [0] * width)[:width] for request, _ in batch]
    columns = (ids, positions, slots, ends, contexts, tables, [end - 1 for end in ends[1:]])
    return tuple(torch.tensor(column, dtype=torch.int64, device=device) for column in columns)
