"""Comparisons and selections of the simulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.vector_harness import (
    BITS,
    F16,
    F32,
    FORMS,
    I32,
    LENGTH,
    SIZE,
    TYPES,
    Case,
    buffer,
    expect,
    launch,
    numbers,
    rng,
)

COMPARE = [np.less, np.greater, np.equal, np.less_equal, np.greater_equal, np.not_equal]


@pytest.mark.parametrize("dtype", [F16, F32, I32])
def test_compare(dtype):
    r = rng(8)
    n = SIZE // np.dtype(dtype).itemsize
    x, y = (r.integers(-3, 4, n).astype(dtype) for _ in range(2))
    if dtype != I32:
        x[::17] = np.nan
    name = f"compare<{TYPES[np.dtype(dtype)]}>"
    lanes = 256 // np.dtype(dtype).itemsize
    for mode, f in enumerate(COMPARE):
        if dtype == I32 and mode != 2:
            continue
        for op in range(9):
            if dtype == I32 and op in (6, 7):
                continue
            case = Case(LENGTH if op in (2, 5, 7) else BITS, np.dtype(dtype).itemsize, op)
            asked = case.active[0].copy()
            if op in (0, 3, 8):  # by count
                case.repeats = 5
                case.dense = True
                case.strides = dict.fromkeys(case.strides, (1, 8))
            case.repeats = 1 if op in (6, 7) else case.repeats
            case.active = np.ones((case.repeats, lanes), bool)  # the mask has no effect
            call = case.record(op=op, mode=mode, count=5 * lanes)
            bits = np.zeros(128, bool)
            bits[:lanes] = asked
            call["mask"] = np.packbits(bits, bitorder="little").view(np.uint64)
            if case.form == LENGTH:
                call["mask"] = (case.length, 0)
            got = launch(name, x, y, None, call)
            a = x[case.at("src0", dtype)]
            b = y[0] if op in (3, 4, 5) else y[case.at("src1", dtype)]
            want = f(a, b)
            if op in (6, 7):
                want = np.concatenate([want & asked, np.zeros(128 - lanes, bool)])
            image = buffer()
            image[: want.size // 8] = np.packbits(want, bitorder="little")
            np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("dtype", [F16, F32])
def test_select(dtype):
    x, y = numbers(dtype, 1), numbers(dtype, 2)
    mask = rng(3).integers(0, 256, SIZE // 4, dtype=np.uint8)
    y.view(np.uint8)[SIZE * 3 // 4 :] = mask
    chosen = np.unpackbits(mask, bitorder="little").astype(bool)
    name = f"select<{TYPES[np.dtype(dtype)]}>"
    calls = [(0, m, f) for m in (0, 2) for f in FORMS] + [(1, 1, f) for f in FORMS]
    calls += [(2, 0, BITS), (3, 2, BITS), (4, 1, BITS)]
    for op, mode, form in calls:
        case = Case(form, np.dtype(dtype).itemsize, op * 3 + mode)
        got = launch(name, x, y, None, case.record(op=op, mode=mode, real=0.3))
        lane = np.arange(case.lanes)[None] + (
            np.arange(case.repeats)[:, None] * case.lanes if mode else 0
        )
        take = chosen[np.broadcast_to(lane, case.active.shape)[case.active]]
        other = dtype(0.3) if mode == 1 else y[case.at("src1", dtype)]
        expect(case, got, np.where(take, x[case.at("src0", dtype)], other), dtype)
