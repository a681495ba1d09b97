"""Softmax of the high-level vector API against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.adv_harness import RNG, SOURCE, TYPES, close, run
from xcompile.sim.loader import load


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", TYPES)
def test_softmax(dtype):
    m, k, n, block = 6, 48, 41, 32 // np.dtype(dtype).itemsize
    x = RNG.uniform(-8, 8, (m, k)).astype(dtype)
    wide = x[:, :n].astype(np.float64)
    stats = np.zeros((m, block), dtype)
    total = np.exp(wide - wide.max(-1, keepdims=True)).sum(-1)
    for call in (100, 101, 102):
        y, s, t = run(call, dtype, [x], [np.zeros_like(x), stats, stats], [m, k, m, n], tmp=4096)
        close(y[:, :n], softmax(wide), dtype, 4)
        if call != 102:
            close(s, np.repeat(total[:, None], block, 1), dtype, 20)
            np.testing.assert_array_equal(t, np.repeat(x[:, :n].max(-1)[:, None], block, 1))
    _, s, t = run(100, dtype, [x], [np.zeros_like(x), stats, stats], [m, k, m, n])
    (y,) = run(104, dtype, [x, s, t], [np.zeros_like(x)], [m, k, m, n])
    close(y[:, :n], softmax(wide), dtype, 4)
    (y, *_) = run(105, dtype, [x], [np.zeros_like(x), stats, stats], [m, k, m, n], tmp=4096)
    close(y[:, :n], np.log10(softmax(wide)), dtype, 10)
    g = RNG.uniform(-1, 1, (m, k)).astype(dtype)
    dot = (g[:, :n].astype(np.float64) * wide).sum(-1, keepdims=True)
    (y,) = run(109, dtype, [g, x], [np.zeros_like(x)], [m, k, m, n])
    close(y[:, :n], (g[:, :n] - dot) * wide, dtype, 300)
    (y,) = run(110, dtype, [g, x], [stats], [m, k, m, n])
    close(y, np.repeat(dot, block, 1), dtype, 50)


def test_softmax_in_fractals():
    m, k = 32, 48
    x = RNG.uniform(-8, 8, (m, k)).astype(np.float16)
    nz = x.reshape(m, k // 16, 16).transpose(1, 0, 2)
    stats = np.zeros((m, 16), np.float16)
    (y, *_) = run(103, np.float16, [nz], [np.zeros_like(nz), stats, stats], [m, k, m, k])
    close(y.transpose(1, 0, 2).reshape(m, k), softmax(x.astype(np.float64)), np.float16)


@pytest.mark.parametrize("dtype", TYPES)
def test_softmax_flash(dtype):
    m, k, block = 8, 64, 32 // np.dtype(dtype).itemsize
    x = RNG.uniform(-4, 4, (m, 2 * k)).astype(dtype)
    first, second = (np.ascontiguousarray(v) for v in (x[:, :k], x[:, k:]))
    stats, out = np.zeros((m, block), dtype), np.zeros((m, k), dtype)
    e, s, t = run(107, dtype, [first], [out, stats, stats], [m, k, m, k])
    e2, factor, s2 = run(106, dtype, [second, s, t], [out, stats, stats], [m, k, m, k])
    whole = softmax(x.astype(np.float64))
    close(e2 / s2[:, :1], whole[:, k:], dtype, 8)
    close(e * factor[:, :1] / s2[:, :1], whole[:, :k], dtype, 8)
    # The older form also divides, and its factor carries the earlier sum.
    y, factor, s2 = run(108, dtype, [second, s, t], [out, stats, stats], [m, k, m, k])
    close(y, whole[:, k:], dtype, 4)
    close(e / s[:, :1] * factor[:, :1], whole[:, :k], dtype, 8)


def test_softmax_flash_v3():
    m, k, loops, alpha = 8, 512, 2, 0.9375
    x = RNG.uniform(0, 2, (m, k)).astype(np.float16)
    mean, total, top = (RNG.uniform(0.5, 1, (m, 8)).astype(np.float32) for _ in range(3))
    mean, total, top = (np.repeat(v[:, :1], 8, 1).copy() for v in (mean, total, top))
    before = [v.astype(np.float64) for v in (mean, total, top)]
    y, factor = np.zeros((m, k), np.float16), np.zeros((m, 16), np.float16)
    load(SOURCE, "adv_flash_v3")(x, mean, total, top, y, factor, m, k, loops, alpha)
    scale = alpha / (1 - alpha)
    wide = x.astype(np.float64)
    local = wide.reshape(m, 8, k // 8).mean(-1)
    whole = local.mean(-1, keepdims=True)
    wide = (wide.reshape(m, 8, k // 8) - ((whole - local) * scale)[..., None]).reshape(m, k)
    want_mean = (whole + before[0] * (loops - 1)) / loops
    shift, earlier = (whole - want_mean) * scale, (before[0] - want_mean) * scale
    want_max = np.maximum(shift + wide.max(-1, keepdims=True), earlier + before[2])
    e = np.exp(wide - (want_max - shift)[:, :1])
    want_factor = np.exp(before[2] - want_max + earlier)
    close(mean, want_mean, np.float32, 10)
    close(top, want_max, np.float32, 40)
    close(y, e, np.float16, 4)
    close(factor[:, :8], want_factor, np.float16, 4)
    close(total / (want_factor * before[1] + e.sum(-1, keepdims=True)), 1, np.float32, 100)


def test_adjust_softmax():
    m, k = 8, 16
    x, top = RNG.uniform(0, 1, (m, k)).astype(np.float32), np.zeros((m, 8), np.float32)
    top[3] = top[6] = np.finfo(np.float32).min
    y, found = run(
        111,
        np.float32,
        [None, None, top],
        [x, np.zeros(8, np.int32)],
        [m, k, m, k, 0xFF7FFFFF, 0.25],
    )
    want = x.copy()
    want[[3, 6]] = 0.25
    np.testing.assert_array_equal(y, want)
    assert found[0] == 1
