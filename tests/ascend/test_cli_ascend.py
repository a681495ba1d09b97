"""The command line on ascend artifacts: run, verify, build, inspect, and how they fail."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import xcompile
from tests.artifacts import record
from tests.ascend.small import compiled, example, model_file
from tests.test_cli import cli, refused
from xcompile import tensorfile
from xcompile.ir import Type
from xcompile.sim.library import home

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def npu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    out = folder / "npu"
    model = model_file(folder)
    result = cli(model, "-o", out, "--target", "ascend910b", "--dynamic", "T=1:50")
    assert result.exit_code == 0, result.output
    assert "ascend910b/pair" in result.stdout and "launches" in result.stdout
    return out


@pytest.fixture
def copy(npu: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(npu, tmp_path / "npu"))


@pytest.fixture(scope="module")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("cpu").save(tmp_path_factory.mktemp("cpu") / "cpu")


def phase(out: Path, name: str) -> Path:
    return next((out / "src" / "phases").glob(f"{name}_*.h"))


def edit_phase(out: Path, name: str, line: str) -> Path:
    """Put a line at the beginning of a phase."""
    path = phase(out, name)
    text = path.read_text()
    at = text.index("{\n", text.index("__aicore__")) + 2
    path.write_text(text[:at] + line + "\n" + text[at:])
    return path


# -- run --------------------------------------------------------------------------------------
def test_run_shows_results_and_simulated_time(npu):
    result = cli("run", npu)
    assert result.exit_code == 0, result.output
    assert "float32 [37, 24]" in result.stdout
    found = re.search(r"simulated +([\d.]+) us, (\d+) launches on 910B1, all checks passed",
                      result.stdout)  # fmt: skip
    assert found is not None and float(found[1]) > 0
    assert re.search(r"embedding_\w+ +1 +[\d.]+ +\d+%", result.stdout)


def test_run_options(npu, tmp_path):
    trace = tmp_path / "trace.json"
    result = cli("run", npu, "--check", "--target", "sim", "--chip", "910B3", "--seed", 7,
                 "--capture", "--no-checks", "--trace", trace)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "passed" in result.stdout
    assert "launches of a captured graph on 910B3, checks: none" in result.stdout
    events = json.loads(trace.read_text())["traceEvents"]
    assert any(str(e.get("name", "")).startswith("linear_") for e in events)


def test_run_on_files(npu, tmp_path):
    ids, state = example(9)
    np.savez(tmp_path / "x.npz", ids=ids.numpy(), state=state.numpy())
    result = cli("run", npu, "--inputs", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    assert result.exit_code == 0, result.output
    y = next(iter(np.load(tmp_path / "y.npz").values()))
    np.testing.assert_allclose(y, xcompile.load(npu)(ids, state).numpy(), rtol=0)


def test_options_of_the_simulator_need_an_ascend_artifact(cpu, npu):
    for options in (["--target", "sim"], ["--target", "cann"], ["--seed", "1"], ["--capture"],
                    ["--chip", "910B1"], ["--no-checks"], ["--trace", "t"]):  # fmt: skip
        message = refused(cli("run", cpu, *options))
        assert options[0] in message and "compiled for cpu/" in message
    assert "--target cpu" in refused(cli("run", npu, "--target", "cpu"))
    assert "unknown chip" in refused(cli("run", npu, "--chip", "310"))
    assert "910B and the 910_93" in refused(cli("run", npu, "--chip", "950"))
    assert "--trace is of the simulator" in refused(cli("inspect", cpu, "--trace", "t"))
    for command in ("run", "inspect"):
        assert "cannot write" in refused(cli(command, npu, "--trace", npu / "no" / "t.json"))
    assert "bench measures this machine" in refused(cli("bench", npu))
    assert "no language model" in refused(cli("run", npu, "--tokens", "1,2"))


def test_an_error_that_a_check_finds_is_shown(copy):
    path = edit_phase(copy, "index_copy", "a1 += 8;")  # reads one index too many
    record(copy, path.relative_to(copy).as_posix())
    result = cli("run", copy)
    assert result.exit_code == 1, result.output
    assert re.search(r"index_copy_\w+.*\[init\]|\[(init|bounds|race)\]", result.stdout)
    assert re.search(r"failed: the simulator's checks found errors: \d+ \w+", result.stdout)
    assert "Traceback" not in result.output


def test_targets_that_are_none(npu, tmp_path):
    model = model_file(tmp_path)
    for target, words in (
        ("ascend910c", "unknown Ascend chip 'ascend910c'; known: ascend910b"),
        ("ascend910b/graph", "launches are phase, pair or step"),
        ("ascend950", "no kernels are written for it yet"),
        ("npu", "targets: cpu, cpu/LEVEL, ascend910b"),
    ):
        assert words in refused(cli(model, "-o", tmp_path / "x", "--target", target))


# -- inspect ----------------------------------------------------------------------------------
class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.classes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.classes += [v for k, v in attrs if k == "class" and v]


def test_inspect_shows_launches_layers_and_bytes(npu):
    result = cli("inspect", npu)
    assert result.exit_code == 0, result.output
    for pattern in (r"kernels +\d+ launches a step \(.*\d cube.*\) of \d+ kernels, which run 4 ph",
                    r"layers +layers\.0: 1, layers\.1: 1", r"moved .* times the minimum of",
                    r"replay +a captured graph replays \d+ launches by one call, for T up to 50",
                    r"linear +2 +2"):  # fmt: skip
        assert re.search(pattern, result.stdout), pattern


def test_inspect_page_has_the_timeline_of_a_step(npu, tmp_path):
    page, trace = tmp_path / "x.html", tmp_path / "t.json"
    result = cli("inspect", npu, "--html", page, "--trace", trace)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    classes = Page(text).classes
    launches = len(xcompile.load(npu).executor.program.buffers) and text.count('class="launch"')
    assert "Simulated step" in text and "AIV MTE2" in text and "at T=37" in text
    assert classes.count("launch") == launches >= 2
    assert classes.count("pipe") > launches
    (picture,) = re.findall(r'<svg class="time".*?</svg>', text, re.DOTALL)
    ET.fromstring(picture)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert json.loads(trace.read_text())["traceEvents"]


# -- verify -----------------------------------------------------------------------------------
def test_verify_runs_every_phase(npu):
    result = cli("verify", npu, "--seeds", 1)
    assert result.exit_code == 0, result.output
    for name in ("embedding", "linear", "index_copy"):
        assert re.search(rf"✓ +{name}_\w+ ", result.stdout)
    assert re.search(r"passed: 4 kernels, \d+ runs on 910B1 with all checks", result.stdout)


def test_verify_one_kernel(npu):
    result = cli("verify", npu, "--kernel", "index_copy", "--rounds", 2, "--chip", "910b3")
    assert result.exit_code == 0, result.output
    assert re.search(r"passed: 1 kernels, \d+ runs on 910B3", result.stdout)
    message = refused(cli("verify", npu, "--kernel", "softmax"))
    assert "no such kernel; the artifact has: embedding_" in message


def test_verify_catches_an_edited_kernel(copy):
    edit_phase(copy, "index_copy", "a1 += 8;")
    result = cli("verify", copy, "--kernel", "index_copy")
    assert result.exit_code == 1, result.output
    assert "is not what was emitted" in result.stdout
    assert re.search(r"✗ +index_copy_", result.stdout)
    assert re.search(r"\d+ of \d+ cases fail", result.stdout)
    assert "changed" in refused(cli("run", copy))


def test_verify_catches_a_wrong_value(copy):
    """No check fails, but nothing is computed."""
    edit_phase(copy, "index_copy", "return;")
    result = cli("verify", copy, "--kernel", "index_copy", "--seeds", 1)
    assert result.exit_code == 1, result.output
    assert re.search(r"element \d+ is .*, expected|error .*eager's is .*allowed", result.stdout)


def test_verify_names_a_kernel_that_does_not_compile(copy):
    path = phase(copy, "embedding")
    path.write_text(path.read_text().replace("#pragma once", "#pragma once\nint broken = ;"))
    result = cli("verify", copy, "--seeds", 1)
    assert result.exit_code == 1, result.output
    assert re.search(r"✗ +embedding_", result.stdout) and "✓" in result.stdout
    assert "error: expected primary-expression" in result.stdout


def test_verify_refuses_what_it_cannot_judge(cpu, copy):
    assert "verify is for ascend artifacts" in refused(cli("verify", cpu))
    (copy / "graph.xir").write_text("graph {\n  return\n}\n")
    assert "graph.xir is truncated" in refused(cli("verify", copy))
    record(copy, "graph.xir")
    assert "emitted by another version" in refused(cli("verify", copy))
    (copy / "weights.safetensors").unlink()
    assert "weights.safetensors" in refused(cli("verify", copy))


# -- build ------------------------------------------------------------------------------------
def test_without_cann_it_says_what_was_looked_for(npu, monkeypatch, tmp_path):
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in (["run", npu, "--target", "cann"], ["build", npu, "--cann"]):
        message = refused(cli(*command))
        for word in ("ASCEND_HOME_PATH (not set)", "find_package(ASC)", "bisheng", "set_env.sh"):
            assert word in message
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    message = refused(cli("build", npu, "--cann"))
    assert f"ASCEND_HOME_PATH ({tmp_path})" in message and f"{tmp_path}/bin" in message
    assert not (npu.parent / "npu.build").exists()


def test_build_refuses(npu, cpu, tmp_path):
    assert "give one of --cann and --sim" in refused(cli("build", npu))
    assert "give one of --cann and --sim" in refused(cli("build", npu, "--cann", "--sim"))
    assert "was compiled for cpu/" in refused(cli("build", cpu, "--sim"))
    inside = npu / "src" / "build"
    assert "nothing but its own files" in refused(cli("build", npu, "--sim", "--build-dir", inside))
    (tmp_path / "file").write_text("")
    message = refused(cli("build", npu, "--sim", "--build-dir", tmp_path / "file"))
    assert "cannot write" in message


@pytest.fixture(scope="module")
def program(npu: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """run_step, built without CMake."""
    to = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        which = shutil.which
        patch.setattr(shutil, "which", lambda name, *a: None if name == "cmake" else which(name))
        result = cli("build", npu, "--sim", "--build-dir", to)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(to / "libstep.so"), str(to / "run_step")]
    return to / "run_step"


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    types = {n: Type(t.dtype, tuple(t.shape)) for n, t in tensors.items()}
    tensorfile.write(path, types, tensors.values())
    return path


def run_step(program: Path, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, args)], capture_output=True, text=True,
                          check=False, timeout=120)  # fmt: skip


@pytest.mark.parametrize("options", [[], ["--capture", "--repeat", 3], ["T=21", "--repeat", 0]])
def test_the_program_gives_what_the_executor_gives(npu, program, tmp_path, options):
    ids, state = example(21)
    state += 1
    inputs = write(tmp_path / "in.safetensors", {"ids": ids, "state": state})
    weights, to = npu / "weights.safetensors", tmp_path / "out.safetensors"
    done = run_step(program, "--weights", weights, "--inputs", inputs, "--output", to, *options)
    assert done.returncode == 0, done.stderr
    assert ("us per step" in done.stdout) == ("--repeat" not in options or "--capture" in options)
    got = tensorfile.read(to)
    want = xcompile.load(npu)(ids, state)
    (name,) = [n for n in got if n != "state (updated)"]
    assert torch.equal(got[name], want)
    assert torch.equal(got["state (updated)"], state)


def test_inputs_that_are_absent_are_zero(npu, program, tmp_path):
    ids, state = example(4)
    inputs = write(tmp_path / "in.safetensors", {"ids": ids})
    to = tmp_path / "out.safetensors"
    weights = npu / "weights.safetensors"
    done = run_step(program, "--weights", weights, "--inputs", inputs, "--output", to)
    assert done.returncode == 0, done.stderr
    assert "state: not in" in done.stdout
    xcompile.load(npu)(ids, state)
    assert torch.equal(tensorfile.read(to)["state (updated)"], state)


def test_the_program_takes_the_recorded_example(npu, program, tmp_path):
    to = tmp_path / "out.safetensors"
    done = run_step(program, "--weights", npu / "weights.safetensors", "--inputs",
                    npu / "examples.safetensors", "--output", to)  # fmt: skip
    assert done.returncode == 0, done.stderr
    ids, state = example()
    want = xcompile.load(npu)(ids, state)
    assert torch.equal(next(iter(tensorfile.read(to).values())), want)


def test_the_program_refuses(npu, program, tmp_path):
    ids, state = example(4)
    good = write(tmp_path / "in.safetensors", {"ids": ids, "state": state})
    weights = npu / "weights.safetensors"
    narrow = write(tmp_path / "narrow.safetensors", {"ids": ids, "state": state[:, :3].clone()})
    many = write(tmp_path / "many.safetensors", {"ids": torch.arange(51), "state": state})
    other = write(tmp_path / "other.safetensors", {"ids": ids.int(), "state": state})
    empty = write(tmp_path / "empty.safetensors", {"x": state})
    for args, words in (
        ([], "--inputs is missing"),
        (["--inputs"], "--inputs needs a value"),
        (["--inputs", good, "--verbose"], "unknown option '--verbose'"),
        (["--inputs", good, "--repeat", "many"], "--repeat: expected a number, given 'many'"),
        (["--inputs", good, "S=4"], "this step has no size named S"),
        (["--inputs", good, "T=5"], "'ids' is I64[4], expected I64[5]"),
        (["--inputs", many], "T is 51, outside of 1..50"),
        (["--inputs", narrow], "'state' is F32[50, 3], expected F32[50, 24]"),
        (["--inputs", other], "'ids' is I32[4], expected I64[4]"),
        (["--inputs", empty], "no input tells the size of T: give T=N"),
        (["--inputs", tmp_path / "none"], "cannot read"),
        (["--inputs", good, "--weights", good], "has no tensor"),
        (["--inputs", good, "--output", tmp_path / "no" / "x"], "cannot write"),
    ):
        if "--weights" not in args:
            args = ["--weights", weights, *args]
        done = run_step(program, *args)
        assert done.returncode == 2, (args, done)
        assert done.stderr.startswith("error: ") and words in done.stderr, (args, done.stderr)


def test_damaged_files_are_refused_by_the_program(npu, program, tmp_path):
    ids, state = example(4)
    good = write(tmp_path / "in.safetensors", {"ids": ids, "state": state}).read_bytes()
    length = struct.unpack("<Q", good[:8])[0]
    header = good[8 : 8 + length].decode()
    cases = [b"", good[:7], good[: 8 + length // 2], b"\xff" * 8 + good[8:], good[:-1]]
    for old, new in (('"F32"', '"F99"'), ('"F32"', '"F64"'), ("[4]", "[999999999999999]"),
                     ("[4]", "[99999999999999999999]"), ("[4]", "[-4]"), ('"shape"', '"form"'),
                     (":[", ":{"), ("{", "["), ('"ids"', '"\\ud800x"'), ('"ids"', '"\\x"'),
                     ("[0,32]", "[32,0]"), ("[0,32]", "[0,32000]")):  # fmt: skip
        text = header.replace(old, new, 1).encode()
        cases.append(struct.pack("<Q", len(text)) + text + good[8 + length :])
    rng = random.Random(0)
    for _ in range(25):
        data = bytearray(good)
        for _ in range(3):
            data[8 + rng.randrange(length)] = rng.randrange(256)
        cases.append(bytes(data))
    path = tmp_path / "bad.safetensors"
    refusals = 0
    for data in cases:
        path.write_bytes(data)
        done = run_step(program, "--weights", npu / "weights.safetensors", "--inputs", path)
        assert done.returncode in (0, 2), (data[:200], done)
        refusals += done.returncode == 2
        assert done.returncode == 0 or done.stderr.startswith("error: "), done.stderr
    assert refusals >= 17


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cmake"), reason="no cmake")
def test_the_way_through_cann_with_a_stand_in(npu, tmp_path):
    """The simulator's package is laid out like CANN's; with it, cmake's find_package(ASC), the
    emitted project, libascendcl.so and the runtime's calls are as on a device."""
    fake = tmp_path / "cann"
    fake.mkdir()
    for p in home().iterdir():
        (fake / p.name).symlink_to(p.resolve())
    (fake / "bin").mkdir()
    (fake / "bin" / "bisheng").write_text("#!/bin/sh\n")
    (fake / "bin" / "bisheng").chmod(0o755)
    env = {**os.environ, "ASCEND_HOME_PATH": str(fake), "PYTHONPATH": str(ROOT),
           "XC_SIMCC": f"{sys.executable} -m xcompile simcc"}  # fmt: skip
    xc = [sys.executable, "-m", "xcompile"]
    done = subprocess.run([*xc, "build", str(npu), "--cann", "--build-dir", str(tmp_path / "b")],
                          env=env, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "libstep.so").is_file() and (tmp_path / "b" / "run_step").is_file()
    done = subprocess.run([*xc, "run", str(npu), "--target", "cann", "--check", "--capture"],
                          env=env, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout and "simulated" not in done.stdout
    done = subprocess.run([*xc, "run", str(npu), "--target", "cann", "--seed", "3"],
                          env=env, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2 and "--seed is of the simulator" in done.stderr
