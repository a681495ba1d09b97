"""Kernels called from Python: arguments, templates, tiling, checks and build errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xcompile import sim
from xcompile.errors import BuildError, SimulationError, XCompileError
from xcompile.sim.arguments import Memory

KERNELS = (Path(__file__).parent / "kernels" / "loader.asc").read_text()
TILED = np.dtype(
    {
        "names": ["total", "list", "a", "x"],
        "formats": ["u4", ("i2", 3), "u2", "f4"],
        "offsets": [0, 4, 10, 12],
        "itemsize": 16,
    }
)
OPTIONS = {"defines": {"DEFINED": 7}, "instantiate": ["deep::fill<half>", "deep::fill<bfloat16_t>"]}


def test_struct_by_value_and_blocks() -> None:
    k = sim.load(KERNELS, "scale", **OPTIONS)
    x, z = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
    args = np.array((50, 2.5), np.dtype([("n", "i4"), ("factor", "f4")]))
    result = k(x, sim.Out(z), args, blocks=3)
    np.testing.assert_array_equal(z, x * np.float32(2.5))
    assert result.errors == [] and result.cycles > 0 and result.microseconds > 0


@pytest.mark.parametrize(
    ("name", "dtype"), [("half", torch.float16), ("bfloat16_t", torch.bfloat16)]
)
def test_template_and_small_floats(name: str, dtype: torch.dtype) -> None:
    k = sim.load(KERNELS, f"deep::fill<{name}>", **OPTIONS)
    x = torch.zeros(9, dtype=dtype)
    k(x, 3.14159, 9)
    assert (x == torch.tensor(3.14159).to(dtype)).all()


@pytest.mark.parametrize(("key", "want"), [(0, 7), (1, 11), (2, 22)])
def test_tiling_key_decides_branch_and_kind(key: int, want: int) -> None:
    x = np.zeros(1, np.int64)
    sim.load(KERNELS, "key", **OPTIONS)(x, tiling_key=key)
    assert x[0] == want


def test_tiling_data() -> None:
    t = np.zeros(1, TILED)
    t["total"], t["list"], t["a"], t["x"] = 100, [1, 2, -3], 20, 0.5
    z = np.zeros(2, np.float32)
    k = sim.load(KERNELS, "tiled", **OPTIONS)
    k(z, t)
    assert z.tolist() == [117.0, 1.0]
    with pytest.raises(SimulationError, match="8 past its end"):
        k(z, t.view(np.uint8)[:8].copy())  # too short


def test_a_check_raises_or_is_returned() -> None:
    k = sim.load(KERNELS, "deep::fill<half>", **OPTIONS)
    x = np.zeros(4, np.float16)
    with pytest.raises(SimulationError, match="bounds") as e:
        k(x, 1, 40)
    assert e.value.errors[0].rule == "bounds"
    assert KERNELS.splitlines()[e.value.errors[0].line - 1].startswith("  for (uint32_t i = 0;")
    assert k(x, 1, 40, check=False).errors[0].kernel == "fill"
    with pytest.raises(SimulationError, match="never written"):
        k(sim.Out(np.zeros(8, np.float16)), 1, 0)


def test_arguments_that_do_not_fit() -> None:
    k = sim.load(KERNELS, "scale", **OPTIONS)
    x = np.zeros(4, np.float32)
    with pytest.raises(XCompileError, match="takes 3 arguments"):
        k(x, x)
    with pytest.raises(XCompileError, match="argument 0 of scale: the parameter is an array"):
        k(1, x, bytes(8))
    with pytest.raises(XCompileError, match="struct parameter has 8 bytes, the argument 4"):
        k(x, x, bytes(4))
    with pytest.raises(XCompileError, match="contiguous"):
        k(np.zeros((4, 4), np.float32)[:, 1], x, bytes(8))
    with pytest.raises(XCompileError, match=r"no kernel 'nope'; the source has: list, scale"):
        sim.load(KERNELS, "nope", **OPTIONS)
    with pytest.raises(XCompileError, match="which kernel"):
        sim.load(KERNELS, **OPTIONS)
    with pytest.raises(XCompileError, match="unknown 'rase'"):
        sim.load(KERNELS, "scale", checks="rase")


def test_overlapping_arrays_are_one_allocation() -> None:
    a = np.arange(100, dtype=np.float32)
    memory = Memory([a[:60], a[40:], sim.Out(np.zeros(3))])
    assert sorted(b.size for b in memory.buffers) == [24, 400]
    at = [memory.place(v.ctypes.data) for v in (a[:60], a[40:])]
    assert at[1] - at[0] == 160


def test_tensor_list() -> None:
    x, y = np.full((2, 3), 5, np.int64), np.zeros(4, np.int64)
    sim.load(KERNELS, "list", **OPTIONS)(sim.TensorList([x, sim.Out(y)]))
    assert y.tolist() == [2, 2, 3, 5]  # tensors, dims of the first one, its first element


def test_one_source_is_one_library() -> None:
    first = sim.load(KERNELS, "scale", **OPTIONS)
    assert sim.load(KERNELS, "key", **OPTIONS).module is first.module


def test_compile_error_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.asc"
    path.write_text(
        '#include "kernel_operator.h"\n\n__global__ __vector__ void k() {\n  oops();\n}\n'
    )
    with pytest.raises(BuildError, match=r"bad\.asc:4:3: error: .*oops"):
        sim.load(path)
