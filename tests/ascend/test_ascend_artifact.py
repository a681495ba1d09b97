"""Artifacts of the ascend target: what is written, that it runs from its files, what is refused."""

from __future__ import annotations

import ctypes
import gc
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import xcompile
from tests.artifacts import edit, record, seal
from tests.ascend.small import Small, compiled, example
from xcompile import ArtifactError, XCompileError
from xcompile.artifact import SOURCE
from xcompile.compiler import make_target
from xcompile.report import report, summary

TARGETS = ("ascend910b", "ascend910b/phase", "ascend910b/step", "ascend910_93", "ascend910b3")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled().save(tmp_path_factory.mktemp("ascend") / "small")


@pytest.fixture
def out(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "out"))


def close(exe: xcompile.Executable, n: int) -> bool:
    """Whether a step is that of the model, its state too."""
    ids, state = example(n)
    want_state = state.clone()
    with torch.no_grad():
        want = Small().eval()(ids, want_state)
    got = exe(ids, state)
    return torch.allclose(got, want, atol=1e-6) and torch.allclose(state, want_state, atol=1e-6)


# -- round trip -------------------------------------------------------------------------------
def test_it_runs_from_its_files(saved):
    exe = xcompile.load(saved)
    assert all(close(exe, n) for n in (37, 1, 50))
    assert exe.executor.steps == 3 and exe.executor.microseconds > 0
    assert len(exe.executor.report["launches"]) == len(summary(exe).kernels)


def test_files_are_there_to_read(saved):
    names = {p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()}
    sources = {n for n in names if n.startswith("src/")}
    assert all(SOURCE.fullmatch(n) for n in sources)
    assert {"src/host.cpp", "src/main.cpp", "src/CMakeLists.txt", "src/lib/common.h"} <= sources
    for pattern in (r"src/kernels/\w+\.asc", r"src/phases/embedding_\w+\.h"):
        assert any(re.fullmatch(pattern, n) for n in sources)
    assert not any(n.endswith(".so") for n in names)
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["target"] == {"name": "ascend", "isa": "ascend910b", "launches": "pair"}
    assert names - manifest["files"].keys() == {"manifest.json", "manifest.sha256"}


def test_the_plan_shows_kernels_phases_and_stages(saved):
    text = (saved / "plan.txt").read_text()
    assert re.search(r"\d+ kernel launches a step, \d+ stages; by layer: layers\.0 1, layers", text)
    assert re.search(r"kernel +\d+ +vector embedding_\w+: stage 0, launches 0", text)
    assert re.search(r"\d stage +1 cube +linear_\w+\(", text)


def test_weights_are_packed_for_the_cube(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    types = {c["name"]: c["type"] for c in manifest["program"]["consts"]}
    assert any(re.search(r":nz\d+$", name) for name in types)


@pytest.mark.parametrize("target", TARGETS[1:])
def test_other_targets(target, tmp_path):
    exe = compiled(target)
    path = exe.save(tmp_path / "x", examples=False)
    again = xcompile.load(path)
    assert report(exe) == report(again)
    assert close(again, 37)
    kernels = len(summary(again).kernels)
    assert kernels == {"step": 1, "phase": 4}.get(target.rpartition("/")[2], kernels)
    assert str(make_target(str(make_target(target)))) == str(make_target(target))


def test_report_is_the_same_after_loading(saved):
    assert report(compiled()) == report(xcompile.load(saved))
    assert re.search(r"launches   \d+ of \d+ kernels, which run 4 phases", report(compiled()))
    assert list(summary(xcompile.load(saved)).layers) == ["layers.0", "layers.1"]


def test_a_loaded_one_can_be_saved(saved, tmp_path):
    path = xcompile.load(saved).save(tmp_path / "copy")
    assert (path / "manifest.json").read_bytes() == (saved / "manifest.json").read_bytes()
    assert close(xcompile.load(path), 5)


def test_other_files_below_src_are_not_replaced(out):
    (out / "src" / "kernels" / "notes.txt").write_text("mine")
    with pytest.raises(XCompileError, match=r"it also holds src/kernels/notes\.txt"):
        compiled().save(out)


def test_a_captured_step_replays_for_other_sizes(saved):
    exe = xcompile.load(saved)
    exe.executor.capture = True
    assert all(close(exe, n) for n in (37, 37, 33, 50, 3))


def test_nothing_is_built_before_the_first_call(saved, monkeypatch):
    def build(*args: Any) -> None:
        raise AssertionError("built")

    monkeypatch.setattr("xcompile.runtime.ascend_link.simulator_library", build)
    exe = xcompile.load(saved)
    assert "kernels" in report(exe)
    with pytest.raises(AssertionError, match="built"):
        exe(*example())


def test_emitting_needs_no_compiler(monkeypatch, tmp_path):
    def compiler() -> None:
        raise AssertionError("asked for a compiler")

    monkeypatch.setattr("xcompile.hostcc.compiler", compiler)
    exe = xcompile.compile(Small().eval(), example(), target="ascend910b")
    assert xcompile.load(exe.save(tmp_path / "x")).path == tmp_path / "x"


def test_device_memory_goes_with_the_executable(saved):
    def free() -> int:
        left, total = ctypes.c_size_t(), ctypes.c_size_t()
        acl.aclrtGetMemInfo(0, ctypes.byref(left), ctypes.byref(total))
        return int(left.value)

    exe = xcompile.load(saved)
    acl = exe.executor.open().acl
    exe(*example())
    before = free()
    del exe
    gc.collect()
    assert free() > before


def test_many_executables_share_a_library(saved, out):
    a, b = xcompile.load(saved), xcompile.load(out)
    assert close(a, 4) and close(b, 5) and close(a, 6)
    assert a.executor.open()._module is b.executor.open()._module


# -- refusals ---------------------------------------------------------------------------------
def one(out: Path, pattern: str) -> str:
    return next(p.relative_to(out).as_posix() for p in sorted(out.glob(pattern)))


@pytest.mark.parametrize("pattern", ["src/kernels/*.asc", "src/phases/*.h", "src/lib/common.h",
                                     "src/host.cpp", "src/CMakeLists.txt", "src/main.cpp",
                                     "weights.safetensors", "graph.xir",
                                     "launches.json"])  # fmt: skip
@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "folder"])
def test_damaged_files_are_named(out, pattern, damage):
    path = out / one(out, pattern)
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[:-1])
    elif damage == "changed":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(ArtifactError, match=re.escape(path.name)):
        xcompile.load(out)


@pytest.mark.parametrize(
    "name",
    ["src/kernels/../../evil.asc", "src/phases/a/b.h", "src/lib/x.cpp", "kernels/x.asc",
     "src/kernels/x.asc\n", "src/kernels/.asc", "src//lib/x.h", "src/CMakeLists.txt.cmake",
     "src/lib/ü.h"],
)  # fmt: skip
def test_file_names_stay_inside(out, name):
    facts = {"bytes": 1, "sha256": "0" * 64}
    edit(out, lambda m: m["files"].update({name: facts}))
    with pytest.raises(ArtifactError, match="no file of an artifact"):
        xcompile.load(out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"launches": "many"}, "one of phase, pair, step"),
        ({"launches": None}, "expected a text"),
        ({"isa": "ascend310"}, "unknown Ascend chip"),
        ({"isa": "ascend950"}, "no kernels are written for it"),
        ({"isa": "ascend910b/step"}, "launches are phase, pair or step"),
        ({"name": "gpu"}, "built for gpu, this xcompile knows cpu, ascend"),
    ],
)
def test_targets_that_are_none(out, change, words):
    edit(out, lambda m: m["target"].update(change))
    with pytest.raises(ArtifactError, match=words):
        xcompile.load(out)


def test_a_well_formed_lie_does_not_reach_the_kernels(out):
    good = (out / "manifest.json").read_bytes()

    def smaller(m: Any) -> None:
        m["program"]["buffers"][0]["bytes"] = "1"

    def wider(m: Any) -> None:
        m["program"]["symbols"][0]["hi"] = 1 << 20

    def other_launches(m: Any) -> None:
        m["target"]["launches"] = "step"

    for lie in (smaller, wider, other_launches):
        seal(out, good)
        edit(out, lie)
        with pytest.raises(ArtifactError, match="another program"):
            xcompile.load(out)


def test_a_host_program_that_says_one_thing_and_is_another(out):
    """The fingerprint in a comment is not the library's."""
    host = out / "src" / "host.cpp"
    text = host.read_text()
    found = re.search(r'xc_program\(\) \{ return "(\w+)"', text)
    assert found is not None
    host.write_text(text.replace(found[1], "0" * 64) + f'// "{found[1]}"\n')
    record(out, "src/host.cpp")
    exe = xcompile.load(out)
    with pytest.raises(ArtifactError, match="another program"):
        exe(*example())


def test_kernels_of_the_summary_are_checked(out):
    path = out / "launches.json"
    good = json.loads(path.read_text())
    for kernels in ([{"name": "k", "unit": "cube", "steps": [99]}], [3], {"name": "k"},
                    [{"name": "a b", "unit": "cube", "steps": []}]):  # fmt: skip
        path.write_text(json.dumps(good | {"kernels": kernels}))
        record(out, "launches.json")
        with pytest.raises(ArtifactError, match="kernels"):
            report(xcompile.load(out))


def test_eager_islands_are_refused():
    with pytest.raises(XCompileError, match="special_i0"):
        xcompile.compile(lambda x: torch.special.i0(x), (torch.ones(4),), target="ascend910b")
