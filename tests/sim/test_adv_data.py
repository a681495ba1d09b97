"""Quantisation, rearrangement, selection and filling of the high-level vector API."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.adv_harness import RNG, SOURCE, TYPES, run
from xcompile.sim.loader import load


@pytest.mark.parametrize("dtype", TYPES)
def test_quant(dtype):
    x = RNG.uniform(-3, 3, 256).astype(dtype)
    h = np.float16
    (y,) = run(500, dtype, [x], [np.zeros(256, np.int8)], [256, 20.5, 3.0])
    want = (x.astype(h) * h(20.5)).astype(h) + h(3)
    np.testing.assert_array_equal(
        y, np.clip(np.rint(want.astype(np.float32)), -128, 127).astype(np.int8)
    )
    s, o = RNG.uniform(5, 50, 64).astype(dtype), RNG.uniform(-9, 9, 64).astype(dtype)
    (y,) = run(501, dtype, [x, s, o], [np.zeros(256, np.int8)], [256, 64], tmp=512)
    want = (x.astype(h) * np.tile(s.astype(h), 4)) + np.tile(o.astype(h), 4)
    np.testing.assert_array_equal(
        y, np.clip(np.rint(want.astype(np.float32)), -128, 127).astype(np.int8)
    )


def test_dequant_and_antiquant():
    m, n, count = 4, 16, 11
    x = RNG.integers(-1000, 1000, (m, n)).astype(np.int32)
    s = RNG.uniform(-1, 1, n).astype(np.float32)
    (y,) = run(503, np.float32, [x, s], [np.full((m, n), 7, np.float32)], [m, n, count])
    np.testing.assert_array_equal(y[:, :count], x[:, :count].astype(np.float32) * s[:count])
    assert (y[:, count:] == 7).all()
    # One row of two times eight columns is two rows.
    (y,) = run(503, np.float32, [x[0], s], [np.zeros(16, np.float32)], [1, 16, 8])
    np.testing.assert_array_equal(y, x[0].astype(np.float32) * np.tile(s[:8], 2))
    k, n, groups = 16, 32, 4
    q = RNG.integers(-128, 128, (k, n)).astype(np.int8)
    s, o = (RNG.uniform(-1, 1, (groups, n)).astype(np.float16) for _ in range(2))
    (y,) = run(502, np.float16, [q, s, o], [np.zeros((k, n), np.float16)], [k, n, groups])
    np.testing.assert_array_equal(
        y, (q.astype(np.float16) + np.repeat(o, 4, 0)) * np.repeat(s, 4, 0)
    )


def test_rearrangements():
    h = np.float16
    x = RNG.uniform(-9, 9, (6, 1)).astype(h)
    (y,) = run(510, h, [x], [np.zeros((6, 20), h)], [6, 20, 6, 1])
    np.testing.assert_array_equal(y, np.repeat(x, 20, 1))
    x = RNG.uniform(-9, 9, (1, 32)).astype(h)
    (y,) = run(510, h, [x], [np.zeros((5, 32), h)], [5, 32, 1, 32])
    np.testing.assert_array_equal(y, np.repeat(x, 5, 0))
    x = RNG.uniform(-9, 9, (16, 13)).astype(h)
    (y,) = run(511, h, [x], [np.zeros((16, 16), h)], [16, 13, 13, 1, 2, 7])
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (1, 2)), constant_values=7))
    x = RNG.uniform(-9, 9, (16, 16)).astype(np.float32)
    (y,) = run(512, np.float32, [x], [np.zeros((16, 13), np.float32)], [16, 16, 3])
    np.testing.assert_array_equal(y, x[:, :13])


def fractals(x: np.ndarray) -> np.ndarray:
    """The last two axes as columns of 16 by all rows."""
    *outer, r, c = x.shape
    return np.moveaxis(x.reshape(*outer, r, c // 16, 16), -2, -3)


@pytest.mark.parametrize("kind", range(1, 8))
def test_transpose(kind):
    h = np.float16
    b, n, s, d = 2, 16, 32, 16
    if kind == 7:
        x = RNG.uniform(-9, 9, (n, 48)).astype(h)
        (y,) = run(513, h, [x], [np.zeros((48, n), h)], [7, 0, n, 48, 0])
        np.testing.assert_array_equal(y, x.T)
        return
    heads = RNG.uniform(-9, 9, (b, n, s, d)).astype(h)  # the origin by heads
    merged = heads.transpose(0, 2, 1, 3).reshape(b, s, n * d)
    src = fractals(merged) if kind in (3, 4) else fractals(heads)
    want = {
        1: heads.transpose(0, 2, 1, 3),
        2: fractals(heads.transpose(0, 2, 1, 3)),
        3: fractals(heads),
        4: heads,
        5: merged,
        6: fractals(merged),
    }[kind]
    (y,) = run(513, h, [src], [np.zeros(want.shape, h)], [kind, b, n, s, d])
    np.testing.assert_array_equal(y, want)


def test_trans_data():
    h = np.float16
    n, c, d, height, width = 3, 20, 2, 3, 5
    x = RNG.uniform(-9, 9, (n, c, d, height, width)).astype(h)
    plain = np.zeros((n, c, d, 16), h)
    plain[..., : height * width] = x.reshape(n, c, d, -1)
    (y,) = run(
        514, h, [plain], [np.zeros((n, d, 2, height, width, 16), h)], [0, n, c, d, height, width]
    )
    full = np.zeros((n, 32, d, height, width), h)
    full[:, :c] = x
    np.testing.assert_array_equal(
        y, full.reshape(n, 2, 16, d, height, width).transpose(0, 3, 1, 4, 5, 2)
    )
    full = np.zeros((16, 32, d, height, width), h)
    full[:n, :c] = x
    z3d = full.reshape(1, 16, 2, 16, d, height, width).transpose(4, 2, 5, 6, 0, 1, 3)
    (y,) = run(514, h, [z3d], [np.zeros_like(plain)], [1, n, c, d, height, width])
    np.testing.assert_array_equal(y[..., : height * width], x.reshape(n, c, d, -1))


@pytest.mark.parametrize("dtype", TYPES)
def test_select_dropout(dtype):
    m, k, w = 4, 48, 64
    x = RNG.uniform(-9, 9, (m, k)).astype(dtype)
    mask = RNG.integers(0, 2, (m, w)).astype(bool)
    y, z = run(518, dtype, [x, mask], [np.zeros_like(x)] * 2, [m, k, w, 1.5], tmp=1024)
    np.testing.assert_array_equal(y, np.where(mask[:, :k], dtype(1.5), x))
    np.testing.assert_array_equal(z, np.where(mask[:, :k], x, dtype(1.5)))
    x = RNG.uniform(-9, 9, (m, 256)).astype(dtype)
    for keep, cells in [
        (RNG.integers(0, 2, (m, 256)).astype(np.uint8), 256),
        (RNG.integers(0, 2, (m, 288)).astype(np.uint8), 288),
        (RNG.integers(0, 256, (m, 32)).astype(np.uint8), 32),
        (RNG.integers(0, 256, (m, 64)).astype(np.uint8), 64),
    ]:
        bits = (
            keep[:, :256]
            if cells >= 256
            else np.unpackbits(keep, axis=1, bitorder="little")[:, :256]
        )
        (y,) = run(519, dtype, [x, keep], [np.zeros_like(x)], [m, 256, cells, 0.5])
        np.testing.assert_array_equal(y, x * bits * dtype(2))


def test_fill():
    x = np.zeros(3 * 40000, np.float32)
    load(SOURCE, "adv_fill")(x, 40000, 1.5, blocks=3)
    np.testing.assert_array_equal(x, np.repeat(np.float32([1.5, 2.5, 3.5]), 40000))
