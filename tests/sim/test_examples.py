"""The complete kernels in examples/ascendc: right results, and silent checks in 100 orders."""

import os
import subprocess
from pathlib import Path

import pytest

from xcompile.sim.simcc import simcc

ROOT = Path(__file__).parents[2] / "examples" / "ascendc"
EXAMPLES = sorted(p.stem for p in ROOT.glob("*.asc"))
MIXED = ["grouped_matmul", "flash_attention", "matmul_leakyrelu"]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ascendc")
    programs = {}

    def build(name: str) -> Path:
        if name not in programs:
            out = folder / name
            assert simcc([str(ROOT / f"{name}.asc"), "-o", str(out)]) == 0
            programs[name] = out
        return programs[name]

    return build


def run(program: Path, *args: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [program, *args],
        check=False,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_examples_are_these():
    assert {"add", "matmul", "softmax", "layernorm", "reduce", "sort", "topk", *MIXED} <= set(
        EXAMPLES
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, built):
    done = run(built(name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "FAILED" not in done.stdout
    assert not done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MIXED, "reduce"])
def test_example_in_a_hundred_orders(name, built):
    for seed in range(100):
        done = run(built(name), XC_SIM_SEED=str(seed))
        assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"


@pytest.mark.slow
def test_big_sizes(built):
    assert run(built("add"), str(16 << 20)).returncode == 0
    assert run(built("matmul"), "1024", "1024", "1024").returncode == 0
