"""Artifacts: what is written, what is read back, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import xcompile
from tests import artifacts
from tests.artifacts import FILES, HUGE, edit, example, record, seal, step
from xcompile import ArtifactError, XCompileError, artifact, check
from xcompile.report import report
from xcompile.targets import cpu

# fixtures
island, mlp, out, saved = artifacts.island, artifacts.mlp, artifacts.out, artifacts.saved


# -- round trip -------------------------------------------------------------------------------
def test_loaded_equals_compiled(mlp, saved):
    exe = xcompile.load(saved, threads=1)
    for batch in (1, 5, 33):
        x, scale = torch.randn(batch, 24), torch.rand(7)
        want, got = mlp(x, scale), exe(x, scale=scale)
        assert torch.equal(want[0], got[0])
        assert want[1] == got[1] == 24


def test_report_is_the_same_after_loading(mlp, saved):
    assert report(mlp) == report(xcompile.load(saved))
    assert "islands    none" in report(mlp)
    assert re.search(r"launches   \d+ of \d+ kernels, at batch=5", report(mlp))


def test_state_dict_results_and_islands(island):
    exe = xcompile.load(island, threads=1)
    x, s = torch.randn(4, 8), torch.randn(8)
    mine = s.clone()
    got = exe(x, mine)
    want = step(x, s)
    assert got["n"] == 3
    torch.testing.assert_close(got["y"], want["y"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine, s, rtol=1e-5, atol=1e-5)
    assert "aten::special_i0" in report(exe)


def test_checksum_file_is_what_sha256sum_reads(saved):
    digest, name = (saved / "manifest.sha256").read_text().split()
    assert name == "manifest.json"
    assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == digest


def test_files_are_there_to_read(saved):
    names = {p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()}
    assert {"graph.xir", "plan.txt", "src/host.cpp", "libstep.so", "weights.safetensors"} <= names
    assert (saved / "graph.xir").read_text().startswith("graph {")
    assert "launches" in (saved / "plan.txt").read_text()


def test_weights_are_a_safetensors_file_with_aligned_tensors(saved):
    tensors = load_file(saved / "weights.safetensors")
    manifest = json.loads((saved / "manifest.json").read_text())
    names = [c["name"] for c in manifest["program"]["consts"]]
    assert [n for n in names if n in tensors] == names
    mapped = artifact.tensorfile.read(saved / "weights.safetensors")
    assert all(t.data_ptr() % 64 == 0 for t in mapped.values())
    assert all(torch.equal(mapped[n], tensors[n]) for n in names)


def test_weights_stay_mapped_on_request(mlp, saved, monkeypatch):
    monkeypatch.setenv("XC_WEIGHTS", "mmap")
    exe = xcompile.load(saved, threads=1)
    assert not hasattr(exe.executor.weights, "region")
    assert torch.equal(exe(*example())[0], mlp(*example())[0])


def test_same_path_again_is_not_the_old_library(saved, island, tmp_path):
    """dlopen by path would answer with the library that is loaded already."""
    path = tmp_path / "again"
    first = xcompile.load(xcompile.load(saved).save(path))
    second = xcompile.load(xcompile.load(island).save(path))
    assert second(torch.ones(4, 8), torch.zeros(8))["n"] == 3
    assert first(*example())[0].shape == (5, 7)


def test_load_needs_no_compiler_and_no_transformers(saved):
    code = (
        "import sys, torch, xcompile\n"
        "exe = xcompile.load(sys.argv[1], threads=1)\n"
        "assert exe(torch.ones(2, 24), torch.ones(7))[0].shape == (2, 7)\n"
        "assert 'transformers' not in sys.modules\n"
    )
    env = {**os.environ, "PATH": "", "CXX": "/nonexistent", "XC_CACHE_DIR": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code, str(saved)], env=env, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


# -- saving -----------------------------------------------------------------------------------
def test_save_replaces_an_artifact(mlp, out):
    (out / "plan.txt").write_text("old")
    assert mlp.save(out) == out
    assert (out / "plan.txt").read_text() != "old"
    assert [p.name for p in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failed_save_leaves_the_old_one(mlp, out, monkeypatch, error):
    before = (out / "manifest.json").read_bytes()

    def stop(*args: Any) -> None:
        raise error("stop")

    monkeypatch.setattr(check, "store", stop)
    with pytest.raises(XCompileError if error is OSError else error):
        mlp.save(out)
    assert (out / "manifest.json").read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    xcompile.load(out)


def test_save_where_it_cannot(mlp, out, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    for path, words in (
        (tmp_path / "missing" / "x", "no folder"),
        (tmp_path / "file", "it is a file"),
        (tmp_path / "folder", "holds other files"),
        (Path("/proc/self/x"), "cannot write"),
    ):
        with pytest.raises(XCompileError, match=words):
            mlp.save(path)
    assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"
    (out / "notes.txt").write_text("mine")
    xcompile.load(out)  # extra files do not matter here
    with pytest.raises(XCompileError, match=r"it also holds notes\.txt"):
        mlp.save(out)


def test_save_without_examples(mlp, tmp_path):
    exe = xcompile.load(mlp.save(tmp_path / "x", examples=False))
    assert exe.examples is None


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "folder", "pipe"])
def test_damaged_files_are_named(out, name, damage):
    path = out / name
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        k = len(data) // 2
        path.write_bytes(data[:k] + bytes([data[k] ^ 1]) + data[k + 1 :])
    elif damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    named = "manifest" if name.startswith("manifest") and damage != "missing" else Path(name).name
    with pytest.raises(ArtifactError, match=re.escape(named)):
        xcompile.load(out)


def test_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="no artifact"):
        xcompile.load(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        xcompile.load(tmp_path)


def test_another_format_version(out):
    edit(out, lambda m: m.update(format=99))
    with pytest.raises(ArtifactError, match=r"format 99.*reads format 1"):
        xcompile.load(out)


def test_torch_version_matters_for_islands_only(out, island, tmp_path):
    edit(out, lambda m: m.update(torch="1.0.0"))
    xcompile.load(out)
    other = Path(shutil.copytree(island, tmp_path / "island"))
    edit(other, lambda m: m.update(torch="1.0.0"))
    with pytest.raises(ArtifactError, match=r"islands were compiled with torch 1\.0\.0"):
        xcompile.load(other)


def test_another_cpu(out, monkeypatch):
    edit(out, lambda m: m["target"].update(isa="avx512", features=["avx512f"]))
    older = frozenset(["avx2", "fma", "f16c", "bmi2"])
    monkeypatch.setattr(cpu, "cpu_features", lambda: older)
    with pytest.raises(ArtifactError, match=r"cpu/avx512;.*lacks.*avx512f.*--target cpu/avx2"):
        xcompile.load(out)
    edit(out, lambda m: m["target"].update(machine="riscv64"))
    with pytest.raises(ArtifactError, match="built for riscv64 machines"):
        xcompile.load(out)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "src/../../x.cpp", "src/x.py", "manifest.json", ""]
)
def test_file_names_stay_inside(out, name):
    facts = {"bytes": 1, "sha256": "0" * 64}
    edit(out, lambda m: m["files"].update({name: facts}))
    with pytest.raises(ArtifactError, match="no file of an artifact"):
        xcompile.load(out)


BAD = {
    "program.inputs.0.type": [7, "f32", "f32[", "f32[nosuch]", "f32[-1]", "f32[2**99]", "f99[2]",
                              "f32[batch, 1//0]", "f32[" + "9" * 400 + "]"],
    "program.state": [[99], [-1], ["0"], [True], {}, None, [1, 0]],
    "program.symbols.0": [None, {"name": "a b", "lo": 1, "hi": 2, "hint": 1},
                          {"name": "batch", "lo": 9, "hi": 2, "hint": 1},
                          {"name": "batch", "lo": 1, "hi": HUGE, "hint": 1}],
    "program.buffers.0.bytes": [-5, "-5", "batch**9", str(HUGE), "x", "__import__('os')"],
    "program.buffers.0.live": [[0], [5, 1], [0, HUGE], [-1, 0]],
    "program.buffers.0.shares": [0, 99, -1, "0"],
    "program.consts.0.type": ["f32[batch]", "f32[1]", 3],
    "program.steps": [-1, HUGE, "3", 1.5, True],
    "signature.inputs": [[0], [0, 99], [0, -1], "01"],
    "signature.results": [[["value", 99]], [["value"]], [["state", 0]], [["const", {"x": 1}]]],
    "signature.keys": [["a"], 3],
    "signature.single": [1, True],
    "signature.eos": [[-1], [HUGE], ["2"]],
    "signature.step": [{}, {"kv_shapes": [[1, 2]], "page": 1, "dtype": "f32", "max_context": 1},
                       {"kv_shapes": [], "page": 0, "dtype": "f32", "max_context": 1},
                       {"kv_shapes": [], "page": 1, "dtype": "f33", "max_context": 1}],
    "files": [None, [], {}, {"plan.txt": None}, {"plan.txt": {"bytes": HUGE, "sha256": "0" * 64}}],
    "target": [None, {}, {"name": "cpu", "isa": "avx9000", "machine": "x86_64", "features": []}],
    "examples": [[], {}, {"inputs": -1}, {"inputs": HUGE}],
    "format": ["1", None, True, HUGE],
}  # fmt: skip


@pytest.mark.parametrize(("place", "value"), [(p, v) for p, vs in BAD.items() for v in vs])
def test_malformed_values_are_refused(out, place, value):
    def change(m: Any) -> None:
        *parents, last = place.split(".")
        for p in parents:
            m = m[int(p)] if p.isdecimal() else m[p]
        m[int(last) if last.isdecimal() else last] = value

    edit(out, change)
    with pytest.raises(ArtifactError):
        xcompile.load(out)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000,
                                  b'{"format": ' + b"9" * 5000 + b"}"])  # fmt: skip
def test_manifests_that_are_none(out, data):
    seal(out, data)
    with pytest.raises(ArtifactError):
        xcompile.load(out)


def test_shares_may_not_go_round(out):
    def change(m: Any) -> None:
        buffers = m["program"]["buffers"]
        buffers.append(buffers[0] | {"shares": len(buffers)})
        buffers.append(buffers[0] | {"shares": len(buffers) - 1})

    edit(out, change)
    with pytest.raises(ArtifactError, match="shares"):
        xcompile.load(out)


def test_islands_are_checked(island, tmp_path):
    other = Path(shutil.copytree(island, tmp_path / "island"))
    good = (other / "manifest.json").read_bytes()
    for key, value in (
        ("target", "os::system"), ("target", "aten::nosuch"), ("target", "aten::special_i0.x"),
        ("spec", 3), ("spec", {"tuple": []}), ("spec", {"tuple": [{"tuple": []}, {"tuple": []}]}),
        ("args", []), ("args", [["arena", 99]]), ("args", [["arena", 0, "1000000"]]),
        ("args", [["heap", 0]]), ("arg_types", ["f32[4000, 8000]"]), ("after", 99),
        ("result_types", []),
    ):  # fmt: skip
        seal(other, good)
        edit(other, lambda m, k=key, v=value: m["program"]["islands"][0].update({k: v}))
        with pytest.raises(ArtifactError):
            xcompile.load(other)


def test_the_library_of_another_program(out, saved, island):
    shutil.copy(island / "libstep.so", out / "libstep.so")
    record(out, "libstep.so")
    with pytest.raises(ArtifactError, match="another program"):
        xcompile.load(out)
    (out / "libstep.so").write_bytes(b"\x7fELF no library")
    record(out, "libstep.so")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        xcompile.load(out)


def test_a_well_formed_lie_does_not_reach_the_kernels(out):
    """Smaller buffers or other ranges would let kernels write outside of the arena."""
    good = (out / "manifest.json").read_bytes()

    def smaller(m: Any) -> None:
        m["program"]["buffers"][0]["bytes"] = "1"

    def wider(m: Any) -> None:
        m["program"]["symbols"][0]["hi"] = 1 << 20

    def fewer(m: Any) -> None:
        m["program"]["buffers"].clear()

    for lie in (smaller, wider, fewer):
        seal(out, good)
        edit(out, lie)
        with pytest.raises(ArtifactError, match="another program"):
            xcompile.load(out)
