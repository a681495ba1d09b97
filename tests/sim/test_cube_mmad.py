"""Products of the matrix unit against numpy."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.sim.cube_harness import (
    INPUTS,
    NUMPY,
    exact,
    kernel,
    rng,
    stored,
    tiles,
    up,
    values,
    zn,
    zz,
)
from xcompile import sim


@pytest.mark.parametrize("dtype", list(INPUTS))
@pytest.mark.parametrize("m, n, k", [(16, 16, 64), (30, 40, 70), (2, 17, 5), (64, 96, 120)])
@pytest.mark.parametrize("bias, twice", [(0, 0), (1, 1)])
def test_mmad(dtype: str, m: int, n: int, k: int, bias: int, twice: int):
    a, b = values(dtype, (m, k), 1), values(dtype, (k, n), 2)
    out = NUMPY[INPUTS[dtype]]
    row = rng(3).integers(-50, 50, 256).astype(out)
    c = np.empty((m, n), out)
    ab, bb = zz(a, dtype), zn(b, dtype)
    kernel(f"raw_mmad<{dtype}, {INPUTS[dtype]}>")(
        ab, bb, row, sim.Out(c), m, n, k, ab.nbytes, bb.nbytes, bias, twice, 0
    )
    want = exact(a) @ exact(b) * (1 + twice) + bias * exact(row[:n])
    assert (exact(c) == want).all()


def test_gemv_reads_a_plain_row():
    k, n = 300, 50
    a, b = values("half", (1, k), 1), values("half", (k, n), 2)
    ab = stored(np.concatenate([a.ravel(), np.zeros(up(k, 256) - k, a.dtype)]), "half")
    bb = zn(b, "half")
    c = np.empty((1, n), np.float32)
    kernel("raw_mmad<half, float>")(
        ab, bb, np.zeros(256, np.float32), sim.Out(c), 1, n, k, ab.nbytes, bb.nbytes, 0, 1, 0
    )
    assert (exact(c) == 2 * exact(a) @ exact(b)).all()


def test_k_direction_align():
    m, n, k = 32, 16, 36  # 5 columns of fractals, kept as 6
    a, b = values("float", (m, k), 1), values("float", (k, n), 2)
    wide = np.zeros((m, 48), np.float32)
    wide[:, :k] = a
    ab, bb = zz(wide, "float"), zn(b, "float")
    c = np.empty((m, n), np.float32)
    kernel("raw_mmad<float, float>")(
        ab, bb, np.zeros(256, np.float32), sim.Out(c), m, n, k, ab.nbytes, bb.nbytes, 0, 0, 1
    )
    assert (exact(c) == exact(a) @ exact(b)).all()


def test_unit_flag_replaces_the_event():
    a, b = values("half", (32, 32), 7), values("half", (32, 32), 8)
    y = np.empty((32, 32), np.float32)
    args = (a, b, np.zeros(1, np.uint64), sim.Out(y), 32, 32, 32, 0, 0, 0, 0, 0, 0)
    kernel("product<half, float, float>")(*args, 3)
    assert (exact(y) == exact(a) @ exact(b).T).all()


def test_two_matrices():
    a, b = values("half", (2, 16, 16), 1), values("half", (16, 16), 2)
    y = np.full(500, -1, np.float32)
    kernel("two_matrices")(a, stored(b.T.copy(), "half"), y)
    want = np.full(500, -1)
    for i in range(2):
        for r in range(10):
            want[i * 250 + r * 20 :][:16] = (exact(a[i]) @ exact(b))[r]
    assert (y == want).all()


def test_hf32():
    a, b = rng(1).random((16, 8), np.float32), np.eye(8, 16, dtype=np.float32)
    a[0, 0], a[0, 1] = np.array([0x3F800800, 0x3F801800], np.uint32).view(np.float32)  # ties
    out = []
    for mode in range(3):
        y = np.empty((16, 16), np.float32)
        kernel("hf32")(stored(a, "float"), zn(b, "float"), sim.Out(y), mode)
        out.append(y[:, :8])
    assert (out[0] == a).all()
    bits = a.view(np.uint32)
    assert (out[1].view(np.uint32) == (bits + 0x7FF + ((bits >> 12) & 1)) & 0xFFFFF000).all()
    assert (out[2].view(np.uint32) == (bits + 0x7FF) & 0xFFFFF000).all()


MISTAKES = {
    1: "align: the left matrix starts at byte 0x40",
    2: "bounds: writes bytes [0x1fc00, 0x20400) of L0C",
    3: "race: data race on L0A",
    4: "init: multiplies by bytes of the left matrix that nobody wrote",
    7: "flag: unitFlag: the result at 0x0 of L0C was finished",
    8: "race: data race on L0C",
    9: "param: nSize is 20; expected a multiple of 16",
    10: "flag: unitFlag: no Mmad with unitFlag 3",
    11: "init: reads L0C",
    12: "param: quantPre 1 does not go from float to float",
    13: "chip: LoadData with LoadData3DParamsV1",
}


@pytest.mark.parametrize("what", range(14))
def test_mistakes(what: int):
    x, y = np.ones(512, np.float16), np.zeros(32 * 64, np.float32)
    found = [f"{e.rule}: {e.text}" for e in kernel("mistakes", check=False)(x, x, y, what).errors]
    if what in MISTAKES:
        assert any(f.startswith(MISTAKES[what]) for f in found), found
    else:
        assert found == []


def test_sparse():
    m, n, k = 20, 40, 128
    a, b = values("int8_t", (m, k), 1), values("int8_t", (k // 2, n), 2)
    # Of every four rows of the whole right matrix two are kept: which, by pairs of two bits.
    first, second = rng(3).integers(0, 3, (2, k // 4, n))
    second = np.maximum(first, second)  # the second of the last three is not before the first
    whole = np.zeros((k, n), np.int64)
    for g in range(k // 4):
        for c in range(n):
            whole[4 * g + first[g, c], c] += int(b[2 * g, c])
            whole[4 * g + 1 + second[g, c], c] += int(b[2 * g + 1, c])
    which = np.stack([first, second], 1).reshape(k // 2, n).astype(np.uint8)
    bits = tiles(which, 32, 16).transpose(0, 1, 3, 2).reshape(-1, 4)
    index = (bits << np.array([0, 2, 4, 6], np.uint8)).sum(1).astype(np.uint8)
    y = np.empty((m, n), np.int32)
    kernel("sparse")(zz(a, "int8_t"), zn(b, "int8_t"), index, sim.Out(y), m, n, k)
    assert (exact(y) == exact(a) @ whole).all()


def test_half_bias():
    a, b = values("half", (16, 16), 1), values("half", (16, 32), 2)
    bias = values("half", (32,), 3)
    y = np.empty((16, 32), np.float32)
    kernel("half_bias")(zz(a, "half"), zn(b, "half"), bias, sim.Out(y))
    assert (exact(y) == exact(a) @ exact(b) + exact(bias)).all()


def test_tiled_product_and_its_speed():
    m = n = k = 1024
    a, b = values("half", (m, k), 1), values("half", (n, k), 2)
    y = np.empty((m, n), np.float32)
    run = kernel("tiled")
    start = time.perf_counter()
    run(a, b, sim.Out(y), m, n, k, blocks=8)
    seconds = time.perf_counter() - start
    assert (y == a.astype(np.float32) @ b.astype(np.float32).T).all()
    assert seconds < 20  # about half a second on a free core
