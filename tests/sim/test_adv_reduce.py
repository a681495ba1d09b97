"""Reductions, top-k and scans of the high-level vector API against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.adv_harness import RNG, TYPES, close, run


@pytest.mark.parametrize("dtype", TYPES)
def test_reductions(dtype):
    m, n = 7, 45
    block = 32 // np.dtype(dtype).itemsize
    k = -(-n // block) * block
    x = RNG.uniform(-2, 2, (m, k)).astype(dtype)
    x[0, n:] = 100
    wide = x[:, :n].astype(np.float64)
    calls = [
        (300, wide.sum(1)),
        (301, wide.mean(1)),
        (302, wide.max(1)),
        (303, wide.max(0)),
        (304, wide.min(1)),
        (305, wide.min(0)),
    ]
    if dtype == np.float32:
        calls += [(310, wide.sum(1)), (311, wide.sum(0)), (312, wide.mean(0)), (313, wide.prod(1))]
    for call, want in calls:
        (y,) = run(
            call, dtype, [x], [np.full(64, 9, dtype)], [m, n], tmp=4096 if call == 304 else 0
        )
        close(y[: want.size], want, dtype, 20)
        assert (y[want.size :] == 9).all()
    if dtype == np.float32:
        x = RNG.integers(0, 2, (m, k)).astype(dtype)
        for call, want in [(314, x[:, :n].any(1)), (315, x[:, :n].all(0))]:
            (y,) = run(call, dtype, [x], [np.zeros(64, dtype)], [m, n])
            np.testing.assert_array_equal(y[: want.size], want.astype(dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("largest", [True, False])
def test_topk(dtype, largest):
    outer, inner, n, k = 5, 96, 80, 11
    x = RNG.integers(-20, 20, (outer, inner)).astype(dtype)
    x[:, n:] = -100 if largest else 100
    block = 32 // np.dtype(dtype).itemsize
    pitch = -(-k // block) * block
    order = np.argsort(-x if largest else x, axis=1, kind="stable")[:, :k]
    for call in (400, 401):
        given = (np.arange(inner) * 3 if call == 401 else np.zeros(inner)).astype(np.int32)
        done = np.zeros(32, bool)
        done[2] = True
        results = [np.zeros((outer, pitch), dtype), np.zeros((outer, 16), np.int32)]
        v, i = run(call, dtype, [x, given, done], results, [outer, inner, n, k, int(largest)])
        np.testing.assert_array_equal(v[:, :k], np.take_along_axis(x, order, 1))
        want = order.copy()
        if call == 401:
            want = want * 3
            want[2] = n
        np.testing.assert_array_equal(i[:, :k], want)
    x = x[:, :32].copy()
    order = np.argsort(-x if largest else x, axis=1, kind="stable")[:, :k]
    results = [np.zeros((outer, k), dtype), np.zeros((outer, k), np.int32)]
    unused = [np.zeros(32, np.int32), np.zeros(32, bool)]
    v, i = run(402, dtype, [x, *unused], results, [outer, 32, 30, k, int(largest)], tmp=8192)
    np.testing.assert_array_equal(v, np.take_along_axis(x, order, 1))
    np.testing.assert_array_equal(i, order)


@pytest.mark.parametrize("dtype", TYPES)
def test_arange_cumsum(dtype):
    (y,) = run(515, dtype, [], [np.zeros(128, dtype)], [100, 3.0, 2.0])
    np.testing.assert_array_equal(y[:100], 3 + 2 * np.arange(100))
    x = RNG.integers(-3, 4, (9, 32)).astype(dtype)
    y, last = run(516, dtype, [x], [np.zeros_like(x), np.zeros(32, dtype)], [9, 32])
    np.testing.assert_array_equal(y, x.cumsum(1))
    np.testing.assert_array_equal(last, y[-1])
    y, last = run(517, dtype, [x], [np.zeros_like(x), np.zeros(32, dtype)], [9, 32])
    np.testing.assert_array_equal(y, x.cumsum(0))
    np.testing.assert_array_equal(last, y[-1])
