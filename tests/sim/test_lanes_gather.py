"""Gather and copy of the simulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.lanes_harness import RNG, Masked, lane_bytes, run_gather, with_tail

WIDE = [np.uint32, np.uint16]


@pytest.mark.parametrize("dtype", WIDE)
def test_gather(dtype):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    x = RNG.integers(0, 60000, 1024).astype(dtype)
    count = 333
    offsets = (RNG.integers(0, 900, count) * size).astype(np.uint32)
    data, tail = with_tail(x, offsets)
    out = np.zeros(512, dtype)
    got, _ = run_gather(data, out, 0, count, tail=tail, base=16)
    np.testing.assert_array_equal(got[:count], x[(offsets + 16) // size])
    assert not got[count:].any()
    for by_bits in (False, True):
        m = Masked(dtype, 3, by_bits)
        offsets = (RNG.integers(0, 900, 3 * lanes) * size).astype(np.uint32)
        data, tail = with_tail(x, offsets)
        want = out.copy()
        for r in range(3):
            part = want[r * 320 // size :][:lanes]
            part[m.bits] = x[offsets[r * lanes : (r + 1) * lanes] // size][m.bits]
        got, _ = run_gather(data, out, 1, 3, strides=(10,), tail=tail, mask=m.arg, bits=m.words)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", WIDE)
def test_gather_blocks(dtype):
    size = np.dtype(dtype).itemsize
    x = RNG.integers(0, 60000, 1024).astype(dtype)
    offsets = (RNG.integers(0, 1024 * size // 32, 24) * 32).astype(np.uint32)
    data, tail = with_tail(x, offsets)
    out = np.zeros(4096 // size, dtype)
    for blk, rep in ((1, 8), (0, 8), (2, 17)):
        got, _ = run_gather(data, out, 2, 3, strides=(blk, rep), tail=tail)
        want = out.copy()
        for n, o in enumerate(offsets):
            at = (n // 8 * rep + n % 8 * max(blk, 1)) * 32 // size
            want[at : at + 32 // size] = x[o // size :][: 32 // size]
        np.testing.assert_array_equal(got, want)


FIXED = {1: [0, 2], 2: [1, 3], 3: [0], 4: [1], 5: [2], 6: [3], 7: [0, 1, 2, 3]}


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("pattern", FIXED)
def test_gather_mask_fixed(dtype, pattern):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    x = RNG.integers(0, 60000, 8192 // size).astype(dtype)
    out = np.zeros(8192 // size, dtype)
    for counter, mask, repeats, blk, rep in (
        (0, 0, 4, 1, 8),
        (0, 0, 3, 2, 20),
        (1, 70, 2, 1, 4),
        (1, 500, 1, 1, 0),
        (1, 33, 3, 2, 12),
    ):
        n = mask if counter else lanes
        element = np.arange(n) * size
        at = (
            np.arange(repeats)[:, None] * rep * 32 + element // 32 * blk * 32 + element % 32
        ) // size
        chosen = np.isin(np.arange(n) % 4, FIXED[pattern])
        want = x[at[:, chosen]].ravel()
        got, args = run_gather(
            x, out, 3, repeats, strides=(blk, rep, 0, counter), base=pattern, mask=mask
        )
        assert args[0] == want.size
        np.testing.assert_array_equal(got[: want.size], want)
        assert not got[want.size :].any()
    got, args = run_gather(x, out, 6, 4, strides=(1, 8), base=pattern)
    want = x[: 4 * lanes].reshape(-1, 4)[:, FIXED[pattern]].ravel()
    np.testing.assert_array_equal(got[: want.size], want)


@pytest.mark.parametrize("dtype", WIDE)
def test_gather_mask_user(dtype):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    x = RNG.integers(0, 60000, 8192 // size).astype(dtype)
    out = np.zeros(8192 // size, dtype)
    pattern = RNG.integers(0, 256, 256).astype(np.uint8)
    data, tail = with_tail(x, pattern)
    for counter, mask, repeats, blk, rep, rep1 in (
        (0, 0, 4, 1, 8, 1),
        (0, 0, 3, 2, 20, 0),
        (1, 70, 2, 1, 4, 0),
        (1, 500, 1, 1, 0, 0),
        (1, 200, 3, 1, 25, 2),
    ):
        n = mask if counter else lanes
        element = np.arange(n) * size
        want = []
        for r in range(repeats):
            bits = np.unpackbits(pattern[r * rep1 * 32 :], bitorder="little")[:n].astype(bool)
            want.append(x[((r * rep * 32 + element // 32 * blk * 32 + element % 32) // size)[bits]])
        want = np.concatenate(want)
        got, args = run_gather(
            data, out, 4, repeats, strides=(blk, rep, rep1, counter), tail=tail, mask=mask
        )
        assert args[0] == want.size
        np.testing.assert_array_equal(got[: want.size], want)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("by_bits", [False, True])
def test_copy(dtype, by_bits):
    size = np.dtype(dtype).itemsize
    m = Masked(dtype, 4, by_bits)
    x = RNG.integers(0, 60000, 8192 // size).astype(dtype)
    out = np.zeros(8192 // size, dtype)
    got, _ = run_gather(x, out, 5, 4, strides=(2, 1, 17, 3), mask=m.arg, bits=m.words)
    want = out.copy()
    to, at = lane_bytes(size, 4, 2, 17) // size, lane_bytes(size, 4, 1, 3) // size
    want[to[:, m.bits]] = x[at[:, m.bits]]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", WIDE)
def test_copy_counter_mode(dtype):
    size = np.dtype(dtype).itemsize
    x = RNG.integers(0, 60000, 8192 // size).astype(dtype)
    out = np.zeros(8192 // size, dtype)
    count, repeats = 144, 2
    got, _ = run_gather(x, out, 8, repeats, strides=(1, 3, 40, 5), mask=count)
    want = out.copy()
    byte = np.arange(count) * size
    for r in range(repeats):
        at = r * 5 * 32 + byte // 32 * 3 * 32 + byte % 32
        want[r * 40 * 32 // size :][:count] = x[at // size]
    np.testing.assert_array_equal(got, want)
