"""A small model for the tests of ascend artifacts, and its compilation."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

import xcompile

SOURCE = """
import torch
from tests.ascend.small import Small, example

model, inputs, dynamic_shapes = Small().eval(), example(), ({0: "T"}, None)
"""


class Layer(torch.nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.proj = torch.nn.Linear(inner, outer, bias=False)

    def forward(self, x):
        return self.proj(x)


class Small(torch.nn.Module):
    """An embedding, two layers, and rows of a state that are written."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(50, 32)
        self.layers = torch.nn.ModuleList([Layer(32, 48), Layer(48, 24)])

    def forward(self, ids, state):
        h = self.table(ids)
        for layer in self.layers:
            h = layer(h)
        state.index_copy_(0, ids, h)
        return h


def example(n: int = 37) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(n)
    return torch.randperm(50, generator=rng)[:n], torch.zeros(50, 24)


@cache
def compiled(target: str = "ascend910b") -> xcompile.Executable:
    return xcompile.compile(
        Small().eval(),
        example(),
        dynamic_shapes=({0: torch.export.Dim("T", min=1, max=50)}, None),
        target=target,
    )


def model_file(folder: Path) -> Path:
    path = folder / "small.py"
    path.write_text(SOURCE)
    return path
