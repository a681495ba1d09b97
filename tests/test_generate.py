"""Generation over pages: order, ends, limits and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from xcompile.runtime import generate as gen


def counting_step(*args: Any) -> torch.Tensor:
    """A model that continues every sequence by its last token plus one, from a one-layer cache."""
    ids, positions, slots, ends, contexts, tables, last, keys, _ = args
    assert len(set(slots.tolist())) == len(slots), "no slot twice"
    keys[0][slots, 0, 0] = ids.double()
    page = 2
    logits = torch.zeros(len(last), 50)
    for r, row in enumerate(last.tolist()):
        assert row == int(ends[r + 1]) - 1
        at = int(contexts[r]) - 1
        assert int(positions[row]) == at
        stored = keys[0][int(tables[r, at // page]) * page + at % page, 0, 0]
        logits[r, int(stored) + 1] = 1
    return logits


COUNTING = gen.ModelSpec(((1, 1, 1),), 2, torch.float64, 40)


def test_generate_stops_at_eos_and_keeps_the_order() -> None:
    prompts = [[1, 2], [7], [3, 4, 5]]
    assert gen.generate(counting_step, COUNTING, prompts, 3) == [[3, 4, 5], [8, 9, 10], [6, 7, 8]]
    stopped = gen.generate(counting_step, COUNTING, prompts, 3, eos=[4, 8], num_pages=3)
    assert stopped == [[3, 4], [8], [6, 7, 8]]
    assert gen.generate(counting_step, COUNTING, [], 3) == []
    assert gen.generate(counting_step, COUNTING, prompts, 0) == [[], [], []]
    one = gen.generate(counting_step, COUNTING, prompts, 3, max_requests=1, max_tokens=1)
    assert one == [[3, 4, 5], [8, 9, 10], [6, 7, 8]]


def test_generate_refuses() -> None:
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        gen.generate(counting_step, COUNTING, [[1], []], 3)
    with pytest.raises(ValueError, match="exceed the context of 40"):
        gen.generate(counting_step, COUNTING, [[1] * 39], 3)
    with pytest.raises(ValueError, match="at least 1"):
        gen.generate(counting_step, COUNTING, [[1]], 3, max_tokens=0)
    with pytest.raises(MemoryError, match="needs 2 pages, there are 1"):
        gen.generate(counting_step, COUNTING, [[1, 2]], 3, num_pages=1)
    with pytest.raises(MemoryError, match="3 pages wanted, 2 free"):
        gen.PageAllocator(2).take(3)


def test_page_allocator_reuses_freed_pages_first() -> None:
    pages = gen.PageAllocator(4)
    first = pages.take(2)
    assert first == [0, 1] and pages.available == 2
    pages.give(first)
    assert pages.take(4) == [0, 1, 2, 3] and pages.available == 0
