"""Ways out of the matrix unit: layouts, quantisation, atomic sums."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.cube_harness import NUMPY, exact, kernel, up, values
from xcompile import sim

QUANT = {
    "NoQuant": 0,
    "F322F16": 1,
    "VREQ8": 8,
    "REQ8": 9,
    "VDEQF16": 10,
    "DEQF16": 11,
    "F322BF16": 16,
    "VQF322B8_PRE": 23,
    "QF322B8_PRE": 24,
}


def parameter(scale: float, offset: int = 0, signed: bool = True) -> int:
    bits = int(np.array(scale, np.float32).view(np.uint32))
    return bits | (offset & 0x1FF) << 37 | int(signed) << 46


def quantised(c: np.ndarray, mode: str, params: np.ndarray, relu: bool, dtype: str) -> np.ndarray:
    """The documented conversion; `params` holds one parameter for every column."""
    v = c.astype(np.float32)
    if mode not in ("NoQuant", "F322F16", "F322BF16"):
        scale = (
            (params.astype(np.uint64) & np.uint64(0xFFFFE000)).astype(np.uint32).view(np.float32)
        )
        v = v * scale
    if relu:
        v = np.maximum(v, 0)
    if dtype == "bfloat16_t":
        bits = v.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if "8" in mode and "32F16" not in mode:
        offset = ((params >> np.uint64(37)) & np.uint64(0x1FF)).astype(np.int64)
        offset = np.where(offset >= 256, offset - 512, offset)
        r = np.rint(np.clip(v, -256, 255)) + offset
        return np.clip(r, *((-128, 127) if dtype == "int8_t" else (0, 255))).astype(NUMPY[dtype])
    if mode in ("DEQF16", "VDEQF16"):
        v = np.clip(v, -65504, 65504)
    return v.astype(NUMPY[dtype])


def out_layout(c: np.ndarray, out: int) -> np.ndarray:
    """NZ without padding rows: blocks of columns, each m x block."""
    if out in (0, 3):
        return c.ravel()
    n = up(c.shape[1], 16)
    wide = np.zeros((c.shape[0], n), c.dtype)
    wide[:, : c.shape[1]] = c
    block = 32 if c.itemsize == 1 else 8 if out == 2 else 16
    return np.concatenate([wide[:, i : i + block].ravel() for i in range(0, n, block)])


# Type of A and B, type of the result, quantisation, ways out (see the kernel).
CASES = [
    (t, o, mode, int(out))
    for t, o, mode, ways in (
        ("half", "float", "NoQuant", "0123"),
        ("half", "half", "F322F16", "015"),
        ("half", "bfloat16_t", "F322BF16", "05"),
        ("half", "int8_t", "QF322B8_PRE", "0"),
        ("half", "int8_t", "VQF322B8_PRE", "153"),
        ("half", "uint8_t", "VQF322B8_PRE", "0"),
        ("float", "float", "NoQuant", "0"),
        ("int8_t", "int32_t", "NoQuant", "04"),
        ("int8_t", "half", "DEQF16", "04"),
        ("int8_t", "half", "VDEQF16", "13"),
        ("int8_t", "int8_t", "REQ8", "0"),
        ("int8_t", "int8_t", "VREQ8", "4"),
        ("int8_t", "uint8_t", "REQ8", "1"),
        ("int8_t", "uint8_t", "VREQ8", "5"),
    )
    for out in ways
]


@pytest.mark.parametrize("t, o, mode, out", CASES)
@pytest.mark.parametrize("m, n, k, relu", [(48, 80, 96, 0), (30, 48, 70, 1)])
def test_product(t: str, o: str, mode: str, out: int, m: int, n: int, k: int, relu: int):
    a, b = values(t, (m, k), 7), values(t, (n, k), 8)
    wide = up(n, 16)
    signed = o != "uint8_t"
    vector = mode.startswith("V")
    params = np.array(
        [
            parameter(0.01 * (1 + i if vector else 5), 3 if signed else -2, signed)
            for i in range(wide)
        ],
        np.uint64,
    )
    acc = "int32_t" if t == "int8_t" else "float"
    c = exact(a) @ exact(b).T
    want = out_layout(quantised(c, mode, params[:n], bool(relu), o), out)
    y = np.empty(want.size, np.uint16 if o == "bfloat16_t" else NUMPY[o])
    kernel(f"product<{t}, {acc}, {o}>")(
        a, b, params, sim.Out(y), m, n, k, out, QUANT[mode], int(params[0]), relu, int(vector), 0, 0
    )
    assert (y == want).all()


def test_product_with_odd_columns_in_nd():
    a, b = values("half", (16, 32), 7), values("half", (21, 32), 8)
    y = np.empty((16, 21), np.float32)
    kernel("product<half, float, float>")(
        a, b, np.zeros(1, np.uint64), sim.Out(y), 16, 21, 32, 0, 0, 0, 0, 0, 0, 0
    )
    assert (exact(y) == exact(a) @ exact(b).T).all()


def test_fixpipe_adds_atomically():
    a, b = values("half", (32, 32), 7), values("half", (32, 32), 8)
    y = np.ones((32, 32), np.float32)
    kernel("product<half, float, float>")(
        a, b, np.zeros(1, np.uint64), y, 32, 32, 32, 0, 0, 0, 0, 0, 1, 0, blocks=3
    )
    assert (exact(y) == 3 * (exact(a) @ exact(b).T) + 1).all()
