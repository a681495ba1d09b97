"""DataCopy and DataCopyPad against layouts written out in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xcompile import sim

SOURCE = Path(__file__).parent / "kernels" / "datacopy.asc"
TEMPLATES = [
    f"{name}<{t}>"
    for name, types in {
        "nd2nz_ub": ("half", "float", "int8_t"),
        "nd2nz_l1": ("half", "float", "int8_t", "int4b_t"),
        "nz2nd": ("half", "float"),
        "atomics": ("half", "float", "int32_t", "int16_t", "int8_t"),
    }.items()
    for t in types
]
NUMPY = {
    "half": np.float16,
    "float": np.float32,
    "int8_t": np.int8,
    "int4b_t": np.int8,
    "int16_t": np.int16,
    "int32_t": np.int32,
}


def kernel(name: str, **options: Any) -> sim.Kernel:
    return sim.load(SOURCE, name, instantiate=TEMPLATES, **options)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def image(n: int) -> np.ndarray:
    return np.full(n, 0xEE, np.uint8)


def errors(name: str, *args: Any, **options: Any) -> list[str]:
    result = kernel(name, check=False)(*args, **options)
    return [f"{e.rule}: {e.text}" for e in result.errors]


def test_count():
    x = rng().random(1024, np.float32).astype(np.float16)
    y = np.empty_like(x)
    kernel("count_copy")(x, sim.Out(y), 1024)
    assert (x == y).all()


def test_count_that_is_no_multiple_of_a_block():
    x = rng().random(64, np.float32)
    found = errors("odd_count", x, np.zeros_like(x), 20)
    assert len(found) == 1 and "80 bytes, not a multiple of 32: the last 16 bytes" in found[0]
    assert "align" in found[0] and "DataCopyPad" in found[0]


@pytest.mark.parametrize("what", [0, 1, 2])
@pytest.mark.parametrize(
    "count, length, src_gap, dst_gap", [(1, 8, 0, 0), (3, 2, 1, 4), (5, 7, 3, 0), (0, 4, 0, 0)]
)
def test_blocks(what: int, count: int, length: int, src_gap: int, dst_gap: int):
    x = rng(what).integers(0, 256, 4096).astype(np.uint8)
    out = image(4096)
    want = out.copy()
    for i in range(count):
        s, d = i * (length + src_gap) * 32, i * (length + dst_gap) * 32
        want[d : d + length * 32] = x[s : s + length * 32]
    kernel("blocks")(x, out, 4096, count, length, src_gap, dst_gap, what)
    assert (out == want).all()


def padded(
    x: np.ndarray,
    out: np.ndarray,
    count: int,
    length: int,
    src: int,
    dst: int,
    left: int,
    right: int,
    fill: int | None,
) -> None:
    """The documented result of DataCopyPad into UB, for 16-bit elements."""
    whole = -(-(2 * left + length + 2 * right) // 32) * 32
    for i in range(count):
        data = x[i * (length + src) :][:length]
        value = np.int16(fill) if fill is not None else data[:2].view(np.int16)[0]
        row = np.full(whole // 2, value, np.int16).view(np.uint8)
        row[2 * left : 2 * left + length] = data
        at = i * (whole + dst * 32)
        out[at : at + whole] = row


@pytest.mark.parametrize("what", [0, 1, 2])
@pytest.mark.parametrize(
    "count, length, src, dst, left, right",
    [
        (1, 40, 0, 0, 0, 0),
        (4, 62, 6, 2, 0, 0),
        (3, 34, 10, 1, 3, 5),
        (2, 64, 2, 0, 0, 16),
        (5, 6, 0, 0, 1, 0),
        (2, 60, 4, 3, 2, 0),
    ],
)
def test_pad_in(what: int, count: int, length: int, src: int, dst: int, left: int, right: int):
    x = rng(length).integers(0, 256, 2048).astype(np.uint8)
    out = image(4096)
    want = out.copy()
    padded(x, want, count, length, src, dst, left, right, -7 if left or right else None)
    kernel("pad_in")(x, out, 4096, count, length, src, dst, left, right, -7, int(what != 1), what)
    assert (out == want).all()


def test_pad_in_rejects():
    x, out = np.zeros(2048, np.uint8), image(4096)
    args = lambda length, left: (x, out, 4096, 1, length, 0, 0, left, 0, 0, 1, 0)
    assert any("blockLen is 33 bytes" in e for e in errors("pad_in", *args(33, 0)))
    assert any("leftPadding is 34" in e for e in errors("pad_in", *args(32, 17)))


@pytest.mark.parametrize("old", [0, 1])
@pytest.mark.parametrize(
    "count, length, src, dst",
    [(1, 47, 0, 0), (3, 47, 1, 1), (4, 64, 0, 5), (7, 1, 0, 0), (0, 5, 0, 0)],
)
def test_pad_out(old: int, count: int, length: int, src: int, dst: int):
    x = rng(length).integers(-128, 128, 2048).astype(np.int8)
    y = np.full(2048, 77, np.int8)
    want = y.copy()
    for i in range(count):
        s = i * (-(-length // 32) + src) * 32
        want[i * (length + dst) :][:length] = x[s : s + length]
    kernel("pad_out")(x, y, 2048, count, length, src, dst, old)
    assert (y == want).all()


def nz(
    x: np.ndarray,
    out: np.ndarray,
    nd: int,
    n: int,
    d: int,
    src_matrix: int,
    src_d: int,
    c0: int,
    stride: int,
    dst_matrix: int,
) -> None:
    """ND to NZ by the page: blocks of 32 bytes, zeros up to the block."""
    size = x.itemsize
    per = 32 // size
    for m in range(nd):
        for r in range(n):
            row = np.zeros(-(-d // per) * per, x.dtype)
            row[:d] = x[m * src_matrix + r * src_d :][:d]
            for c in range(len(row) // per):
                at = m * dst_matrix * size + (c * c0 + r * stride) * 32
                out[at : at + 32] = row[c * per : (c + 1) * per].view(np.uint8)


@pytest.mark.parametrize(
    ("where", "dtype"),  # int4b_t is not documented for UB
    [("l1", t) for t in ("half", "float", "int8_t", "int4b_t")]
    + [("ub", t) for t in ("half", "float", "int8_t")],
)
@pytest.mark.parametrize(
    "nd, n, d, src_matrix, src_d, c0, stride, dst_matrix",
    [
        (1, 16, 23, 0, 32, 16, 1, 0),
        (2, 8, 23, 384, 32, 37, 2, 320),
        (1, 33, 70, 0, 70, 48, 1, 0),
        (1, 1, 5, 0, 5, 1, 1, 0),
    ],
)
def test_nd2nz(
    where: str,
    dtype: str,
    nd: int,
    n: int,
    d: int,
    src_matrix: int,
    src_d: int,
    c0: int,
    stride: int,
    dst_matrix: int,
):
    x = rng(d).integers(-99, 99, 4096).astype(NUMPY[dtype])
    dst_matrix = dst_matrix * 2 // x.itemsize // 32 * 32  # whole blocks
    out = image(32768)
    want = out.copy()
    nz(x, want, nd, n, d, src_matrix, src_d, c0, stride, dst_matrix)
    kernel(f"nd2nz_{where}<{dtype}>")(
        x, out, out.size, nd, n, d, src_matrix, src_d, c0, stride, dst_matrix
    )
    assert (out == want).all()


@pytest.mark.parametrize("dtype", ["half", "float"])
def test_nz2nd(dtype: str):
    size = np.dtype(NUMPY[dtype]).itemsize
    x = np.arange(8192 // size).astype(NUMPY[dtype])
    y = np.full(2048, -1, NUMPY[dtype])
    want = y.copy()
    nd, n, d, src_matrix, src_n, dst_d, dst_matrix = 2, 6, 32, 1, 8, 80, 40
    for m in range(nd):
        for r in range(n):
            for e in range(d):
                want[m * dst_matrix + r * dst_d + e] = x[
                    m * src_matrix * 256 + e // 16 * src_n * 16 + r * 16 + e % 16
                ]
    kernel(f"nz2nd<{dtype}>")(x, y, x.nbytes, nd, n, d, src_matrix, src_n, dst_d, dst_matrix)
    assert (y == want).all()


def test_slices():
    x = rng().random((3, 87), np.float32)
    y = np.empty((2, 48), np.float32)
    kernel("slices")(x, sim.Out(y))
    want = np.concatenate([x[::2, 16:40], x[::2, 47:71]], 1)
    assert (y == want).all()


@pytest.mark.parametrize("dtype", ["half", "float", "int32_t", "int16_t", "int8_t"])
@pytest.mark.parametrize("op", [1, 2, 3])
@pytest.mark.parametrize("n, pad", [(64, 0), (37, 1)])
def test_atomics(dtype: str, op: int, n: int, pad: int):
    x = rng(op).integers(-20, 20, (5, n)).astype(NUMPY[dtype])
    y = np.full(n, 3, NUMPY[dtype])
    kernel(f"atomics<{dtype}>")(x, y, n, op, pad, blocks=5)
    old = np.full((1, n), 3, x.dtype)
    both = np.concatenate([old, x])
    want = {1: both.sum(0, x.dtype), 2: both.max(0), 3: both.min(0)}[op]
    assert (y == want).all()


def test_atomics_and_plain_writes_race():
    x, y = np.ones(64, np.float32), np.full(64, 5, np.float32)
    assert any("race between cores" in e for e in errors("mixed_writes", x, y, 64, blocks=2))


def test_atomics_may_add_to_fresh_memory():
    x, y = np.ones((1, 64), np.float32), np.zeros(64, np.float32)
    assert not errors("atomics<float>", x, sim.Out(y), 64, 1, 0)
    errors("atomics<float>", x, y := np.zeros(64, np.float32), 64, 1, 0)
    assert (y == 1).all()


def test_atomic_type():
    x = np.ones(64, np.float16)
    assert any(
        "copies half while the atomic mode is on for float" in e
        for e in errors("wrong_atomic", x, x.copy(), 64)
    )


def test_alignment_and_bounds():
    x = np.ones(64, np.float16)
    assert errors("misaligned", x, x.copy(), 32) == []
    assert any("starts at byte 0x10" in e for e in errors("misaligned", x, x.copy(), 16))
    assert any(
        "UB, which has" in e or "past the end" in e
        for e in errors("misaligned", x, x.copy(), 192 * 1024)
    )


def test_enhanced_form_is_refused():
    assert any(e.startswith("chip") for e in errors("no_path", np.ones(64, np.float16)))


def test_l1():
    x = rng().random(4096, np.float32).astype(np.float16)
    y = np.empty(3 * 4 * 16, np.float16)
    kernel("l1_round")(x, sim.Out(y), 3, 4, 2)
    assert (y.reshape(3, 64) == x[: 3 * 96].reshape(3, 96)[:, :64]).all()


def test_scalar_bypass():
    x = np.arange(8, dtype=np.int32)
    y = np.zeros(8, np.int32)
    kernel("bypass")(x, y)
    assert (y == [0, 3, 6, 9, 0, 0, 0, 0]).all()
