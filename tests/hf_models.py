"""Shared models of the Hugging Face tests, and what transformers itself generates with them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from tests.zoo import VOCAB, zoo

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [20], [30 + i for i in range(21)]]
NEW_TOKENS = 6
PAGE = 4
MOE_LAYERS = {
    "deepseek_v3": 2,
    "deepseek_v2": 2,
    "mixtral": 2,
    "qwen2_moe": 2,
    "qwen3_moe": 2,
    "olmoe": 2,
    "glm4_moe": 2,
    "llama": 0,
}


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


@cache
def family(name: str) -> Any:
    """A shared model; every test leaves it as it found it (checked at the end of test_hf_step)."""
    return zoo(name)


@cache
def greedy(name: str) -> list[list[int]]:
    """The reference: transformers' own generate, one prompt at a time, unprepared."""
    return hf_generate(family(name), PROMPTS, NEW_TOKENS)


def hf_generate(model: Any, prompts: list[list[int]], new: int) -> list[list[int]]:
    results = []
    for prompt in prompts:
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        results.append(out[0, len(prompt) :].tolist())
    return results
