"""Reductions of the simulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.lanes_harness import RNG, TYPES, Masked, lane_bytes, run_reduce, source


def tree(v: np.ndarray) -> np.ndarray:
    """The sum of the last axis as a binary tree, rounded to the type at each step."""
    while v.shape[-1] > 1:
        v = (v[..., 0::2].astype(np.float32) + v[..., 1::2].astype(np.float32)).astype(v.dtype)
    return v[..., 0]


def bits_as(dtype, index) -> np.ndarray:
    unsigned = np.uint32 if np.dtype(dtype).itemsize == 4 else np.uint16
    return np.asarray(index).astype(unsigned).view(dtype)


OPS = {0: np.sum, 1: np.max, 2: np.min}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", [0, 1, 2])
@pytest.mark.parametrize("by_bits", [False, True])
def test_whole_repeat(dtype, op, by_bits):
    size = np.dtype(dtype).itemsize
    for order in range(4 if op else 1):
        repeats, blk, rep = (
            int(RNG.integers(1, 9)),
            int(RNG.integers(0, 3)),
            int(RNG.integers(0, 20)),
        )
        stride = int(RNG.integers(1, 4))
        m = Masked(dtype, repeats, by_bits)
        x = source(dtype, 8192 // size)
        v = x[lane_bytes(size, repeats, blk, rep) // size]
        out = RNG.random(4096 // size).astype(dtype)
        want = out.copy()
        if op == 0:
            want[np.arange(repeats) * stride] = tree(np.where(m.bits, v, dtype(0)))
        else:
            fill = dtype(-np.inf if op == 1 else np.inf)
            w = np.where(m.bits, v, fill)
            index = w.argmax(1) if op == 1 else w.argmin(1)
            value = w[np.arange(repeats), index]
            at = np.arange(repeats) * stride
            if order in (0, 1):
                want[2 * at + order] = value
                want[2 * at + 1 - order] = bits_as(dtype, index)
            elif order == 2:
                want[at] = value
            else:
                want.view(np.uint32)[at] = index
        got, _ = run_reduce(
            x,
            out,
            0,
            repeats,
            mask=m.arg,
            strides=(stride, blk, rep),
            order=order,
            bits=m.words,
            op=op,
        )
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", [0, 1, 2])
@pytest.mark.parametrize("by_bits", [False, True])
def test_block(dtype, op, by_bits):
    size = np.dtype(dtype).itemsize
    repeats, blk, rep, stride = int(RNG.integers(1, 6)), 2, 17, 2
    m = Masked(dtype, repeats, by_bits)
    x = source(dtype, 8192 // size)
    v = x[lane_bytes(size, repeats, blk, rep) // size].reshape(repeats, 8, 32 // size)
    active = np.broadcast_to(m.bits.reshape(8, 32 // size), v.shape)
    out = RNG.random(2048 // size).astype(dtype)
    want = out.copy()
    result = (
        tree(np.where(active, v, dtype(0)))
        if op == 0
        else OPS[op](np.where(active, v, dtype(-np.inf if op == 1 else np.inf)), 2)
    )
    for r in range(repeats):
        for b in range(8):
            if active[r, b].any():
                want[r * stride * 8 + b] = result[r, b]
    got, _ = run_reduce(
        x, out, 1, repeats, mask=m.arg, strides=(stride, blk, rep), bits=m.words, op=op
    )
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("by_bits", [False, True])
def test_pair(dtype, by_bits):
    size = np.dtype(dtype).itemsize
    repeats, half_lanes = 3, 128 // size
    m = Masked(dtype, repeats, by_bits)
    x = source(dtype, 8192 // size)
    v = np.where(m.bits, x[lane_bytes(size, repeats, 1, 9) // size], dtype(0))
    out = RNG.random(1024 // size).astype(dtype)
    want = out.copy()
    written = m.bits[0::2] | m.bits[1::2]
    for r in range(repeats):
        want[r * 2 * half_lanes : r * 2 * half_lanes + half_lanes][written] = (
            v[r, 0::2] + v[r, 1::2]
        )[written]
    got, _ = run_reduce(x, out, 2, repeats, mask=m.arg, strides=(2, 1, 9), bits=m.words)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 31, 64, 129, 1000, 8191])
def test_sum_of_count(dtype, count):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    x = RNG.standard_normal(8192).astype(dtype)
    padded = np.zeros(-(-count // lanes) * lanes, dtype)
    padded[:count] = x[:count]
    want = dtype(0)
    for i, s in enumerate(tree(padded.reshape(-1, lanes))):
        want = s if i == 0 else dtype(np.float32(want) + np.float32(s))
    out = np.zeros(32 // size, dtype)
    got, _ = run_reduce(x, out, 4, count, work=32)
    assert got[0] == want
    assert not got[1:].any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("repeats", [1, 3, 70, 300])
def test_sum_of_repeats(dtype, repeats):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    m = Masked(dtype, repeats, True)
    x = RNG.standard_normal(repeats * 256 // size).astype(dtype)
    v = tree(np.where(m.bits, x.reshape(repeats, lanes), dtype(0)))
    while v.size > 1:
        padded = np.zeros(-(-v.size // lanes) * lanes, dtype)
        padded[: v.size] = v
        v = tree(padded.reshape(-1, lanes))
    out = np.zeros(32 // size, dtype)
    work = -(-repeats * size // 32) * 32
    got, _ = run_reduce(x, out, 3, repeats, mask=-1, strides=(0, 0, 8), work=work, bits=m.words)
    assert got[0] == v[0]


def work_bytes(size: int, repeats: int, index: bool) -> int:
    """The documented size of the temporary tensor of ReduceMax and ReduceMin."""

    def up(n, a):
        return -(-n // a) * a

    first = up(2 * repeats * size, 32)
    if not index:
        return first
    second = -(-2 * repeats // (256 // size)) * 2
    total = first + up(second * size, 32)
    if second > 2:
        third = -(-second // (256 // size)) * 2
        total += up(third * size, 32)
    return total


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", [1, 2])
@pytest.mark.parametrize("index", [0, 1])
def test_max_min(dtype, op, index):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    pick = np.argmax if op == 1 else np.argmin
    for count in (5, lanes, lanes + 1, 4 * lanes + 1, 40000 // size):
        x = source(dtype, 40960 // size)
        out = np.full(32 // size, 7, dtype)
        at = pick(x[:count])
        work = max(32, work_bytes(size, max(1, count // lanes), bool(index)))
        got, _ = run_reduce(x, out, 4, count, work=work, order=index, op=op)
        assert got[0] == x[at]
        assert got[1:2].view(np.uint16)[0] == at if index else got[1] == 7
    for repeats, rep in ((1, 8), (5, 3), (150, 8)):
        m = Masked(dtype, repeats, True)
        x = source(dtype, 40960 // size)
        fill = dtype(-np.inf if op == 1 else np.inf)
        v = np.where(m.bits, x[lane_bytes(size, repeats, 1, rep) // size], fill)
        r, lane = divmod(int(pick(v)), lanes)
        out = np.zeros(32 // size, dtype)
        work = work_bytes(size, repeats, bool(index))
        got, _ = run_reduce(
            x,
            out,
            3,
            repeats,
            mask=-1,
            strides=(0, 0, rep),
            work=work,
            order=index,
            bits=m.words,
            op=op,
        )
        assert got[0] == v[r, lane]
        if index:
            assert got[1:2].view(np.uint16)[0] == r * rep * (32 // size) + lane


def test_nan_wins():
    x = np.ones(128, np.float32)
    x[77] = np.nan
    out = np.zeros(8, np.float32)
    got, _ = run_reduce(x, out, 4, 128, work=64, order=1, op=1)
    assert np.isnan(got[0]) and got[1:2].view(np.uint32)[0] == 77


@pytest.mark.parametrize("dtype", TYPES)
def test_mask_registers(dtype):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    m = Masked(dtype, 3, True)
    x = source(dtype, 8192 // size)
    out = np.zeros(256 // size, dtype)
    v = x[lane_bytes(size, 3, 2, 9) // size]
    got, _ = run_reduce(x, out, 9, 3, strides=(2, 2, 9), work=32, bits=m.words)
    np.testing.assert_array_equal(got[0:6:2], tree(np.where(m.bits, v, dtype(0))))
    got, _ = run_reduce(x, out, 9, 3, strides=(1, 2, 9), work=32, bits=m.words, op=1)
    np.testing.assert_array_equal(got[0:6:2], np.where(m.bits, v, dtype(-np.inf)).max(1))
    for count in (3, lanes, 2 * lanes + 19):
        repeats = -(-count // lanes)
        v = x[lane_bytes(size, repeats, 1, 8) // size].copy()
        v.ravel()[count:] = 0
        sums, blocks = tree(v), tree(v.reshape(-1, 32 // size))
        for call, want in ((10, sums), (11, blocks[: -(-count * size // 32)]), (12, [sums.sum()])):
            got, _ = run_reduce(
                x, out, call, 1, strides=(1, 1, 8), work=32, order=count, bits=m.words
            )
            np.testing.assert_array_equal(got[: len(want)], want)
            assert not got[len(want) :].any()


@pytest.mark.parametrize("dtype", TYPES)
def test_special_registers(dtype):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    x = source(dtype, 4096)
    out = np.zeros(64 // size, dtype)
    got, _ = run_reduce(x, out, 8, 100, mask=lanes, strides=(1, 1, 8), work=32)
    assert got[0] == got[1] == got[2] == x[:100].astype(np.float64).sum()
    for op, pick in ((1, np.argmax), (2, np.argmin)):
        got, _ = run_reduce(x, out, 8, 5, mask=lanes, strides=(1, 1, 8), work=32, op=op)
        at = pick(x[: 5 * lanes])
        assert got[5] == x[at] and got[6:7].view(np.uint16)[0] == at


@pytest.mark.parametrize("call", [0, 1, 3, 4])
def test_nothing_to_do(call):
    x, out = np.ones(256, np.float32), np.full(64, 3, np.float32)
    for mask, repeats in ((0, 1), (64, 0), (-1, 1)):
        if call == 4 and repeats:
            continue
        got, _ = run_reduce(x, out, call, repeats, mask=mask, strides=(1, 1, 8), work=64)
        assert (got == 3).all()
    if call != 4:  # beyond the repeat: all of it
        got, _ = run_reduce(x, out, call, 1, mask=128, strides=(1, 1, 8), work=64)
        assert got[0] == (8 if call == 1 else 64)
