"""Transposes of the simulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.lanes_harness import RNG, run


def test_transpose_16():
    x = np.arange(256, dtype=np.float16)
    got, _ = run("vec_transpose", x, np.zeros_like(x), [2, 0, 512, 512, 0, *[0] * 7])
    np.testing.assert_array_equal(got.reshape(16, 16), x.reshape(16, 16).T)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int32])
def test_nchw_nhwc(dtype):
    size = np.dtype(dtype).itemsize
    n, c, h, w = 2, 5, 4, 32 // size * 2
    x = RNG.integers(0, 100, (n, c, h, w)).astype(dtype)
    tile = (32 if size == 1 else 16) * 32
    total = x.nbytes
    got, _ = run(
        "vec_transpose",
        x.ravel(),
        np.zeros(x.size, dtype),
        [size, 1, total, total, (c + 2) * tile, n, c, h, w, 11, 0, 0],
    )
    np.testing.assert_array_equal(got.reshape(n, h, w, c), x.transpose(0, 2, 3, 1))
    back, _ = run(
        "vec_transpose",
        got,
        np.zeros(x.size, dtype),
        [size, 1, total, total, (2 * c + 1) * tile, n, c, h, w, 12, 0, 0],
    )
    np.testing.assert_array_equal(back.reshape(x.shape), x)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int32])
@pytest.mark.parametrize("form", [2, 3, 4])
def test_trans_data(dtype, form):
    size = np.dtype(dtype).itemsize
    per = 32 // size
    x = RNG.integers(0, 100, 16 * 4 * per).astype(dtype)  # 16 rows of 4 blocks
    out = np.zeros(16 * 4 * per, dtype)
    rows = x.reshape(16, 4, per)
    for repeats, high in ((4, 0), (1, 1)):
        args = [
            size,
            form,
            x.nbytes,
            out.nbytes,
            256,
            repeats,
            16 if repeats > 1 else 0,
            1 if repeats > 1 else 0,
            high,
            high,
            32,
            128,
        ]
        got, _ = run("vec_transpose", x, out, args)
        got = got.reshape(4, 16, per)
        for r in range(repeats):
            if size == 1:
                lo = 16 * high
                np.testing.assert_array_equal(got[r, :, lo : lo + 16], rows[:, r, lo : lo + 16].T)
                assert not got[r, :, 16 - lo : 32 - lo].any()
            else:
                np.testing.assert_array_equal(got[r].reshape(per, 16), rows[:, r].T)
    # A single repeat starts one stride in.
    got, _ = run(
        "vec_transpose", x, out, [size, form, x.nbytes, out.nbytes, 256, 1, 16, 2, 0, 0, 32, 128]
    )
    got = got.reshape(4, 16, per)
    assert not got[0].any()
    if size > 1:
        np.testing.assert_array_equal(got[1].reshape(per, 16), rows[:, 2].T)
