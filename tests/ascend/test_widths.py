"""A model with the widths of DeepSeek-V3: rows, heads and panels are the real ones."""

from __future__ import annotations

import pytest
import torch

from benchmarks.ascend_step import model_of
from tests.helpers import relative_error
from tests.test_families import Driver, eager_rows
from xcompile import compile as xcompile


@pytest.mark.slow
def test_steps_of_a_model_as_wide_as_deepseek_v3_are_eager() -> None:
    model = model_of("deepseek-v3", 2, torch.bfloat16)
    step = Driver(xcompile(model, strict=True, target="ascend910b"), 2)
    seen: list[list[int]] = [[], []]
    for feed in ([[5, 6, 7], [8]], [[9], [10]], [[11], []]):  # the last: one row
        got = step(feed)
        for r, chunk in enumerate(feed):
            seen[r] += chunk
        want = eager_rows(model, [seen[r] for r, chunk in enumerate(feed) if chunk])
        assert relative_error(got, want) <= 3e-2
