"""Normalisation of the high-level vector API against numpy and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.sim.adv_harness import RNG, SOURCE, TYPES, close, run
from xcompile.sim.loader import load


def normalized(x, epsilon):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon), mean[..., 0], var[..., 0]


@pytest.mark.parametrize("dtype", TYPES)
def test_norms(dtype):
    m, k, n, epsilon = 16, 64, 57, 1e-3
    x = RNG.uniform(-2, 2, (m, k)).astype(dtype)
    x[:, n:] = 0
    g, b = (RNG.uniform(-1, 1, k).astype(dtype) for _ in range(2))
    rows = np.zeros(m, dtype)
    wide = x.astype(np.float64)
    y, mean, var = run(200, dtype, [x, g, b], [np.zeros_like(x), rows, rows], [m, k, n, epsilon])
    want, want_mean, want_var = normalized(wide[:, :n], epsilon)
    close(y[:, :n], want * g[:n] + b[:n], dtype, 8)
    close(mean, want_mean, dtype)
    close(var, want_var, dtype)
    (y,) = run(201, dtype, [x, g], [np.zeros_like(x)], [m, k, n, epsilon])
    close(
        y[:, :n],
        wide[:, :n] / np.sqrt((wide[:, :n] ** 2).mean(-1, keepdims=True) + epsilon) * g[:n],
        dtype,
        8,
    )
    y, mean, var = run(204, dtype, [x, g, b], [np.zeros_like(x), rows, rows], [m, k, n, epsilon])
    want, want_mean, want_var = normalized(wide[:, :n] * 3, epsilon)
    close(y[:, :n], want * g[:n] + b[:n], dtype, 8)
    close(var, want_var, dtype, 4)
    # Channels m of k elements each, in 4 groups.
    gc, bc = (RNG.uniform(-1, 1, m).astype(dtype) for _ in range(2))
    x = RNG.uniform(-2, 2, (m, k)).astype(dtype)
    y, mean, var = run(
        202,
        dtype,
        [x, gc, bc],
        [np.zeros_like(x), np.zeros(16, dtype), np.zeros(16, dtype)],
        [m, k, k, epsilon, 4],
    )
    want, want_mean, want_var = normalized(x.astype(np.float64).reshape(4, -1), epsilon)
    close(y, want.reshape(m, k) * gc[:, None] + bc[:, None], dtype, 8)
    close(mean[:4], want_mean, dtype)
    close(var[:4], want_var, dtype)
    y, mean, var = run(
        203,
        dtype,
        [x, gc, bc],
        [np.zeros_like(x), np.zeros(k, dtype), np.zeros(k, dtype)],
        [m, k, k, epsilon],
    )
    want, want_mean, want_var = normalized(x.astype(np.float64).T, epsilon)
    close(y, want.T * gc[:, None] + bc[:, None], dtype, 8)
    close(mean, want_mean, dtype)
    close(var, want_var, dtype)


def test_layer_norm_gradients():
    m, k, epsilon = 8, 32, 1e-3
    x = torch.from_numpy(RNG.uniform(-2, 2, (m, k)).astype(np.float32)).double().requires_grad_()
    gamma = torch.from_numpy(RNG.uniform(-1, 1, k).astype(np.float32)).double().requires_grad_()
    beta = torch.zeros(k, dtype=torch.float64, requires_grad=True)
    dy = torch.from_numpy(RNG.uniform(-1, 1, (m, k)).astype(np.float32)).double()
    torch.nn.functional.layer_norm(x, [k], gamma, beta, epsilon).backward(dy)
    xs = x.detach().numpy().astype(np.float32)
    mean, var = xs.mean(-1), xs.var(-1)
    pd_x, res, pd_gamma, pd_beta = (np.zeros(s, np.float32) for s in ((m, k), (m, k), k, k))
    load(SOURCE, "adv_norm_grad")(
        dy.numpy().astype(np.float32), xs, var, mean, gamma.detach().numpy().astype(np.float32),
        pd_x, res, pd_gamma, pd_beta, m, k, epsilon,
    )  # fmt: skip
    close(pd_x, x.grad.numpy(), np.float32, 10)
    close(pd_gamma, gamma.grad.numpy(), np.float32, 10)
    close(pd_beta, beta.grad.numpy(), np.float32, 10)


def test_layer_norm_and_normalize():
    m, k, n, epsilon = 8, 40, 37, 1e-3
    x = RNG.uniform(-2, 2, (m, k)).astype(np.float32)
    g, b = (RNG.uniform(-1, 1, k).astype(np.float32) for _ in range(2))
    y, again = np.zeros((m, k), np.float32), np.zeros((m, k), np.float32)
    mean, var, rstd = (np.zeros(m, np.float32) for _ in range(3))
    load(SOURCE, "adv_norm_ar")(x, g, b, y, mean, var, again, rstd, m, k, n, epsilon)
    want, want_mean, want_var = normalized(x[:, :n].astype(np.float64), epsilon)
    close(y[:, :n], want * g[:n] + b[:n], np.float32, 4)
    close(again[:, :n], want * g[:n] + b[:n], np.float32, 4)
    close(mean, want_mean, np.float32)
    close(var, want_var, np.float32)
    close(rstd, 1 / np.sqrt(want_var + epsilon), np.float32, 4)


def test_welford():
    n, parts = 64, 5
    x = RNG.uniform(-3, 3, (parts, n)).astype(np.float32)
    mean = m2 = np.zeros(n, np.float32)
    for i in range(parts):
        mean, m2 = run(
            504, np.float32, [x[i], mean, m2], [np.zeros(n, np.float32)] * 2, [n, n, 1 / (i + 1)]
        )
    close(mean, x.mean(0), np.float32, 4)
    out, var = run(505, np.float32, [mean, m2], [np.zeros(8, np.float32)] * 2, [n, parts])
    assert math.isclose(out[0], x.mean(), abs_tol=1e-5)
    assert math.isclose(var[0], x.var(), rel_tol=1e-5)
