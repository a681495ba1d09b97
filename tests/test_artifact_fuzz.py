"""Artifacts under random damage, and the comparison with eager that they carry."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import xcompile
from tests import artifacts
from tests.artifacts import FILES, HUGE, example, record, seal
from xcompile import ArtifactError, XCompileError, check
from xcompile.frontend.fx import from_export

# fixtures
island, mlp, out, saved = artifacts.island, artifacts.mlp, artifacts.out, artifacts.saved


# -- fuzzing ----------------------------------------------------------------------------------
def mutate(rng: random.Random, x: Any) -> Any:
    """A copy with one random value, somewhere, replaced, removed or doubled."""
    strange = [None, True, -1, 0, 1, HUGE, 1.5, "", "batch", "f32[2]", [], {}, [[]], "../x", "\0"]
    x = copy.deepcopy(x)
    at = x
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return x
        k = rng.choice(keys)
        if isinstance(at[k], dict | list) and at[k] and rng.random() < 0.8:
            at = at[k]
            continue
        action = rng.random()
        if action < 0.6:
            at[k] = rng.choice(strange)
        elif action < 0.8:
            del at[k]
        elif isinstance(at, list):
            at.append(copy.deepcopy(at[k]))
        elif isinstance(at[k], int):
            at[k] += rng.choice([-1, 1, 7])
        return x


def flip(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def survives(root: Path) -> None:
    """Loading, calling and reporting either work or raise an error of ours."""
    try:
        exe = xcompile.load(root, threads=1)
        exe.report()
        exe(*example())
    except XCompileError:
        pass


@pytest.mark.parametrize("seed", range(4))
def test_fuzz_manifest(out, seed, monkeypatch):
    monkeypatch.setenv("XC_CHECK", "size")
    rng = random.Random(seed)
    data = (out / "manifest.json").read_bytes()
    manifest = json.loads(data)
    for _ in range(60):
        seal(out, mutate(rng, manifest))
        survives(out)
        seal(out, flip(rng, data))
        survives(out)


def test_fuzz_islands(island, tmp_path, monkeypatch):
    monkeypatch.setenv("XC_CHECK", "size")
    other = Path(shutil.copytree(island, tmp_path / "island"))
    rng = random.Random(0)
    good = json.loads((other / "manifest.json").read_text())
    for _ in range(100):
        manifest = copy.deepcopy(good)
        manifest["program"]["islands"] = mutate(rng, manifest["program"]["islands"])
        seal(other, manifest)
        with pytest.raises(ArtifactError):  # islands are part of the fingerprint
            if manifest == good:
                raise ArtifactError("unchanged")
            xcompile.load(other, threads=1)


@pytest.mark.parametrize("name", ["weights.safetensors", "examples.safetensors", "launches.json"])
def test_fuzz_files_with_right_checksums(out, name):
    rng = random.Random(0)
    data = (out / name).read_bytes()
    head = 8 + int.from_bytes(data[:8], "little") if name.endswith("s") else len(data)
    for k in range(60):
        broken = flip(rng, data[:head]) + data[head:]
        (out / name).write_bytes(broken if k % 4 else broken[: rng.randrange(len(broken))])
        record(out, name)
        try:
            exe = xcompile.load(out, threads=1)
            exe.report()
            check.check(exe, exe.examples())
        except XCompileError:
            pass


def test_fuzz_any_byte_without_checksums(out):
    rng = random.Random(0)
    for name in FILES:
        data = (out / name).read_bytes()
        for _ in range(5):
            broken = flip(rng, data)
            (out / name).write_bytes(broken)
            if broken != data:
                with pytest.raises(ArtifactError):
                    xcompile.load(out, threads=1)
        (out / name).write_bytes(data)


# -- examples ---------------------------------------------------------------------------------
def test_check_passes_and_sees_differences(saved):
    exe = xcompile.load(saved)
    examples = exe.examples()
    assert all(r.ok for r in check.check(exe, examples))
    examples.outputs[0][0, 0] += 0.01
    assert not all(r.ok for r in check.check(exe, examples))


def test_check_sees_a_state_row_that_eager_does_not_write(island):
    exe = xcompile.load(island)
    examples = exe.examples()
    assert all(r.ok for r in check.check(exe, examples))
    k = len(examples.outputs) - 1
    examples.outputs[k], examples.written[0] = examples.outputs[k][:3], examples.written[0][:3]
    rows = check.check(exe, examples)
    assert rows[k].measure == "rows that eager does not write"
    assert rows[k].error == 5


def test_bf16_reference_takes_the_routes_of_the_dtype():
    """Scores that tie in bf16 but not in float32: the reference follows, and counts them."""

    def route(x, w):
        best, index = torch.topk(x @ w, 2)
        return best, index

    x = torch.eye(4, 8).to(torch.bfloat16)
    w = torch.arange(32.0).reshape(8, 4).to(torch.bfloat16)
    w[0] = torch.tensor([1.0, 1.0, 1.0, 0.0])
    program = torch.export.export(lambda_module(route), (x, w))
    imported = from_export(program)
    e = check.recorder(program, imported)()
    assert e.decisions == 4
    assert e.ties == 1
    assert [t.dtype for t in e.reference] == [torch.float32, torch.int64]
    torch.testing.assert_close(e.reference[0], e.outputs[0].float())


def lambda_module(f: Callable) -> torch.nn.Module:
    class Call(torch.nn.Module):
        def forward(self, *args):
            return f(*args)

    return Call()


def bar(got: torch.Tensor, eager: torch.Tensor, ties: int) -> check.Row:
    reference = torch.ones(64, 32)
    return check._bar("y", got, eager.bfloat16(), reference, 64, ties)


def test_bar_follows_eagers_own_error():
    noise = 0.02 * torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    eager = 1 + noise
    assert bar(1 - noise, eager, 0).ok
    assert not bar(1 + 3 * noise, eager, 0).ok
    assert not bar(torch.full((64, 32), torch.nan), eager, 5).ok


def test_turned_routes_are_marked_never_silent():
    noise = 0.02 * torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    got = 1 - noise
    got[:4] += 1
    assert not bar(got, 1 + noise, ties=0).ok
    row = bar(got, 1 + noise, ties=3)
    assert row.ok
    assert "4 of 64 rows are far off" in row.note
    assert not bar(1 - noise + torch.eye(64)[:, :32] * 0 + 1, 1 + noise, ties=3).ok
