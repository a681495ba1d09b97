"""Matrix calls: fractals arranged in numpy by the documented formats, products by numpy."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xcompile import sim

SOURCE = Path(__file__).parent / "kernels" / "cube.asc"
INPUTS = {
    "half": "float",
    "float": "float",
    "bfloat16_t": "float",
    "int8_t": "int32_t",
    "int4b_t": "int32_t",
}
PRODUCTS = [("half", "float", o) for o in ("float", "half", "bfloat16_t", "int8_t", "uint8_t")] + [
    ("float", "float", "float"),
    ("int8_t", "int32_t", "int32_t"),
    ("int8_t", "int32_t", "half"),
    ("int8_t", "int32_t", "int8_t"),
    ("int8_t", "int32_t", "uint8_t"),
]
TEMPLATES = [
    *(f"raw_mmad<{t}, {d}>" for t, d in INPUTS.items()),
    *(f"loaded<{t}, {d}, {left}>" for t, d in INPUTS.items() for left in ("true", "false")),
    *(f"img2col<{t}, {left}>" for t in ("half", "float") for left in ("true", "false")),
    *(f"product<{t}, {d}, {o}>" for t, d, o in PRODUCTS),
]
NUMPY = {
    "half": np.float16,
    "float": np.float32,
    "int8_t": np.int8,
    "uint8_t": np.uint8,
    "int4b_t": np.int8,
    "int32_t": np.int32,
}


def kernel(name: str, **options: Any) -> sim.Kernel:
    return sim.load(SOURCE, name, instantiate=TEMPLATES, **options)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def up(a: int, b: int) -> int:
    return -(-a // b) * b


def c0(dtype: str) -> int:
    return {"half": 16, "bfloat16_t": 16, "float": 8, "int8_t": 32, "int4b_t": 64}[dtype]


def values(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Small whole numbers: exact in every type."""
    top = 8 if dtype == "int4b_t" else 16
    v = rng(seed).integers(-top, top, shape)
    return v.astype(np.float32 if dtype == "bfloat16_t" else NUMPY[dtype])


def stored(x: np.ndarray, dtype: str) -> np.ndarray:
    """The bytes of elements: bfloat16 by its upper half, int4 in pairs, low nibble first."""
    flat = x.ravel()
    if dtype == "bfloat16_t":
        return (flat.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    if dtype == "int4b_t":
        n = flat.astype(np.uint8) & 15
        return n[::2] | (n[1::2] << 4)
    return np.ascontiguousarray(flat.astype(NUMPY[dtype])).view(np.uint8)


def tiles(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Padded with zeros and cut: [row blocks, column blocks, rows, columns]."""
    m, n = up(x.shape[0], rows), up(x.shape[1], columns)
    padded = np.zeros((m, n), x.dtype)
    padded[: x.shape[0], : x.shape[1]] = x
    return padded.reshape(m // rows, rows, n // columns, columns).transpose(0, 2, 1, 3)


def zz(a: np.ndarray, dtype: str) -> np.ndarray:
    return stored(tiles(a, 16, c0(dtype)), dtype)


def zn(b: np.ndarray, dtype: str) -> np.ndarray:
    return stored(tiles(b, c0(dtype), 16).transpose(0, 1, 3, 2), dtype)


def nz(x: np.ndarray, dtype: str) -> np.ndarray:
    return stored(tiles(x, 16, c0(dtype)).transpose(1, 0, 2, 3), dtype)


def exact(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int64)


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


def test_unit_flag_replaces_the_event():
    a, b = values("half", (32, 32), 7), values("half", (32, 32), 8)
    y = np.empty((32, 32), np.float32)
    args = (a, b, np.zeros(1, np.uint64), sim.Out(y), 32, 32, 32, 0, 0, 0, 0, 0, 0)
    kernel("product<half, float, float>")(*args, 3)
    assert (exact(y) == exact(a) @ exact(b).T).all()


def test_fixpipe_adds_atomically():
    a, b = values("half", (32, 32), 7), values("half", (32, 32), 8)
    y = np.ones((32, 32), np.float32)
    kernel("product<half, float, float>")(
        a, b, np.zeros(1, np.uint64), y, 32, 32, 32, 0, 0, 0, 0, 0, 1, 0, blocks=3
    )
    assert (exact(y) == 3 * (exact(a) @ exact(b).T) + 1).all()


def test_two_matrices():
    a, b = values("half", (2, 16, 16), 1), values("half", (16, 16), 2)
    y = np.full(500, -1, np.float32)
    kernel("two_matrices")(a, stored(b.T.copy(), "half"), y)
    want = np.full(500, -1)
    for i in range(2):
        for r in range(10):
            want[i * 250 + r * 20 :][:16] = (exact(a[i]) @ exact(b))[r]
    assert (y == want).all()


def test_fill():
    y = np.empty((16, 16), np.float32)
    kernel("filled")(sim.Out(y))
    assert (y == 3 * 2 * 32).all()


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


def test_ub_to_l1():
    a, b = values("half", (16, 16), 1), values("half", (16, 16), 2)
    y = np.empty((16, 16), np.float32)
    kernel("from_ub")(a, zn(b, "half"), sim.Out(y))
    assert (exact(y) == exact(a) @ exact(b)).all()


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
