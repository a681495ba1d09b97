"""What the tests of artifacts share: two small artifacts, and how to damage one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import xcompile

HUGE = 10**30
FILES = ["graph.xir", "plan.txt", "launches.json", "libstep.so", "weights.safetensors",
         "examples.safetensors", "src/host.cpp", "manifest.json", "manifest.sha256"]  # fmt: skip


def step(x, s):
    """A dict of results, a literal, state in place, and an operator that runs as an island."""
    y = torch.special.i0(x * 2) + 1
    s.add_(y.sum(0))
    return {"y": y @ torch.eye(8) * s, "n": 3}


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = torch.nn.Linear(24, 40), torch.nn.Linear(40, 7)

    def forward(self, x, scale):
        return self.b(torch.nn.functional.gelu(self.a(x))) * scale, x.shape[1]


def example() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(5, 24, generator=rng), torch.rand(7, generator=rng)


@pytest.fixture(scope="module")
def mlp() -> xcompile.Executable:
    batch = torch.export.Dim("batch", min=1, max=64)
    return xcompile.compile(
        Mlp().eval(), example(), dynamic_shapes={"x": {0: batch}, "scale": None}, threads=1
    )


@pytest.fixture(scope="module")
def saved(mlp, tmp_path_factory) -> Path:
    return mlp.save(tmp_path_factory.mktemp("artifact") / "mlp")


@pytest.fixture(scope="module")
def island(tmp_path_factory) -> Path:
    exe = xcompile.compile(step, (torch.ones(4, 8), torch.zeros(8)), threads=1)
    return exe.save(tmp_path_factory.mktemp("artifact") / "island")


@pytest.fixture
def out(saved, tmp_path) -> Path:
    """A copy of the artifact that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "out"))


def seal(root: Path, manifest: Any) -> None:
    """Write a manifest whose checksum is right."""
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (root / "manifest.json").write_bytes(data)
    (root / "manifest.sha256").write_text(hashlib.sha256(data).hexdigest() + "  manifest.json\n")


def edit(root: Path, change: Callable[[dict], Any]) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    change(manifest)
    seal(root, manifest)


def record(root: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed."""
    data = (root / name).read_bytes()
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(root, lambda m: m["files"].update({name: facts}))
