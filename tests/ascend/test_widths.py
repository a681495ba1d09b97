"""A model with the widths of DeepSeek-V3: rows, heads and panels are the real ones."""

from __future__ import annotations

import pytest
import torch

from benchmarks.ascend_step import model_of
from tests.test_families import Driver, assert_follows_eager
from xcompile import compile as xcompile


@pytest.mark.slow
def test_steps_of_a_model_as_wide_as_deepseek_v3_are_eager() -> None:
    model = model_of("deepseek-v3", 2, torch.bfloat16)
    step = Driver(xcompile(model, strict=True, target="ascend910b"), 2)
    feeds = [[[5, 6, 7], [8]], [[9], [10]], [[11], []]]  # the last: one row
    assert_follows_eager(step, model, feeds, bar=3e-2)
