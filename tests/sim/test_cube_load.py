"""Loads into the matrix unit's buffers: fractals, transposes, img2col."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.sim.cube_harness import (
    INPUTS,
    NUMPY,
    c0,
    exact,
    kernel,
    nz,
    stored,
    tiles,
    values,
    zn,
    zz,
)
from xcompile import sim


def through(
    dtype: str, left: bool, x: np.ndarray, shape: tuple[int, int], what: int, *p: int
) -> np.ndarray:
    """The matrix that a load leaves in L0A (m x k) or L0B (k x n)."""
    rows, columns = shape
    side = columns if left else rows
    one = np.eye(side, dtype=np.int64).astype(np.float32 if dtype == "bfloat16_t" else NUMPY[dtype])
    identity = zn(one, dtype) if left else zz(one, dtype)
    c = np.empty((rows, columns), NUMPY[INPUTS[dtype]])
    name = f"loaded<{dtype}, {INPUTS[dtype]}, {str(left).lower()}>"
    kernel(name)(
        x,
        identity,
        sim.Out(c),
        x.nbytes,
        identity.nbytes,
        rows,
        columns,
        side,
        what,
        *p,
        *[0] * (6 - len(p)),
    )
    return exact(c)


@pytest.mark.parametrize("left", [True, False])
def test_load_2d_transposes_fractals(left: bool):
    x = values("half", (64, 32), 4)
    # Every second fractal of NZ, each transposed: a row of blocks.
    got = through("half", left, nz(x, "half"), (16, 64) if left else (64, 16), 0, 1, 4, 2, 0, 1)
    fractals = tiles(x, 16, 16).transpose(1, 0, 2, 3).reshape(8, 16, 16)[1::2]
    want = np.concatenate([f.T for f in fractals], 1) if left else np.concatenate(list(fractals), 0)
    assert (got == exact(want)).all()


@pytest.mark.parametrize(
    ("dtype", "left"),
    [(t, left) for t in INPUTS for left in (True, False) if not (left and t == "int4b_t")],
)
def test_load_with_transpose(dtype: str, left: bool):  # int4b_t goes to L0B only
    side = max(16, c0(dtype))
    squares = values(dtype, (3, side, side), 5)
    # A square is stored as fractals of 16 rows one after the other; 32-bit ones side by side.
    x = np.concatenate([(nz if dtype == "float" else zz)(s, dtype) for s in squares])
    n = side * side // (16 * c0(dtype))  # fractals of a square
    got = through(dtype, left, x, (3 * side, side), 1, 0, 3, 1, n - 1, 0)
    # L0B holds columns, so a transposing load brings the square itself there.
    want = np.concatenate([s.T if left else s for s in squares], 0)
    assert (got == exact(want)).all()


def im2col(
    x: np.ndarray,
    fh: int,
    fw: int,
    sh: int,
    sw: int,
    dh: int,
    dw: int,
    pads: list[int],
    value: int,
    block: int,
) -> np.ndarray:
    """[H, W, C] to rows of output points; columns (c1, kernel point, c0), then the rest of C."""
    x = np.pad(x, ((pads[2], pads[3]), (pads[0], pads[1]), (0, 0)), constant_values=value)
    h = (x.shape[0] - (fh - 1) * dh - 1) // sh + 1
    w = (x.shape[1] - (fw - 1) * dw - 1) // sw + 1
    rows = []
    for i in range(h):
        for j in range(w):
            window = x[i * sh : i * sh + fh * dh : dh, j * sw : j * sw + fw * dw : dw][:fh, :fw]
            parts = [window[:, :, c : c + block].ravel() for c in range(0, x.shape[2], block)]
            rows.append(np.concatenate(parts))
    return np.array(rows)


class Conv(ctypes.Structure):
    _fields_ = (
        [(n, ctypes.c_uint16) for n in ("h", "w", "channels", "kExt", "mExt", "kStart", "mStart")]
        + [(n, ctypes.c_uint8) for n in ("sw", "sh", "fw", "fh", "dw", "dh", "transpose")]
        + [("pads", ctypes.c_uint8 * 4), ("padValue", ctypes.c_int32)]
    )


@pytest.mark.parametrize("dtype", ["half", "float"])
@pytest.mark.parametrize("left, transpose", [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("registers", [0, 1])
@pytest.mark.parametrize(
    "h, w, c, f, s, d, pads, m_start, m_ext, k_start, k_ext",
    [
        (8, 8, 32, (2, 2), (1, 1), (1, 1), [0, 0, 0, 0], 16, 32, 0, 32),
        (5, 7, 16, (3, 2), (2, 1), (1, 2), [1, 2, 1, 0], 0, 16, 16, 48),
        (1, 32, 48, (1, 1), (1, 1), (1, 1), [0, 0, 0, 0], 0, 32, 0, 48),
    ],
)
def test_load_3d(
    dtype: str,
    left: bool,
    transpose: bool,
    registers: int,
    h: int,
    w: int,
    c: int,
    f: tuple[int, int],
    s: tuple[int, int],
    d: tuple[int, int],
    pads: list[int],
    m_start: int,
    m_ext: int,
    k_start: int,
    k_ext: int,
):
    block = c0(dtype)
    x = values(dtype, (h, w, c), 6)
    nc1hwc0 = stored(x.reshape(h, w, c // block, block).transpose(2, 0, 1, 3), dtype)
    whole = im2col(x, *f, *s, *d, pads, 9, block)
    want = np.zeros((m_ext, k_ext))
    part = whole[m_start : m_start + m_ext, k_start : k_start + k_ext]
    want[: part.shape[0], : part.shape[1]] = part
    if transpose:
        want = want.T
    rows, columns = want.shape
    side = columns if left else rows
    one = np.eye(side, dtype=NUMPY[dtype])
    identity = zn(one, dtype) if left else zz(one, dtype)
    out = np.empty((rows, columns), np.float32)
    conv = Conv(
        h,
        w,
        c,
        k_ext,
        m_ext,
        k_start,
        m_start,
        s[1],
        s[0],
        f[1],
        f[0],
        d[1],
        d[0],
        transpose,
        (ctypes.c_uint8 * 4)(*pads),
        9,
    )
    kernel(f"img2col<{dtype}, {str(left).lower()}>")(
        nc1hwc0,
        identity,
        sim.Out(out),
        nc1hwc0.nbytes,
        identity.nbytes,
        rows,
        columns,
        side,
        conv,
        registers,
    )
    assert (out == want).all()


def test_load_3d_repeats():
    x = values("half", (1, 64, 16), 6)
    one = zn(np.eye(16, dtype=np.float16), "half")
    out = np.empty((64, 16), np.float32)
    conv = Conv(1, 64, 16, 16, 64, 0, 0, 1, 1, 1, 1, 1, 1, 0, (ctypes.c_uint8 * 4)(), 0)
    kernel("img2col<half, true>")(x, one, sim.Out(out), x.nbytes, one.nbytes, 64, 16, 16, conv, 2)
    assert (out == x[0]).all()


def test_fill():
    y = np.empty((16, 16), np.float32)
    kernel("filled")(sim.Out(y))
    assert (y == 3 * 2 * 32).all()


def test_ub_to_l1():
    a, b = values("half", (16, 16), 1), values("half", (16, 16), 2)
    y = np.empty((16, 16), np.float32)
    kernel("from_ub")(a, zn(b, "half"), sim.Out(y))
    assert (exact(y) == exact(a) @ exact(b)).all()
