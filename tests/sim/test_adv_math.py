"""Functions of the high-level vector API against numpy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.sim.adv_harness import RNG, TYPES, close, run


def gelu(x):
    return x / (1 + np.exp(-1.5957691216057308 * (x + 0.044715 * x**3)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def torch_of(name):
    return lambda x: getattr(torch.special, name)(
        torch.from_numpy(np.asarray(x, np.float64))
    ).numpy()


UNARY = [
    (0, np.arccos, -1, 1),
    (1, np.arccosh, 1, 50),
    (2, np.arcsin, -1, 1),
    (3, np.arcsinh, -50, 50),
    (4, np.arctan, -50, 50),
    (5, np.arctanh, -0.9, 0.9),
    (6, np.ceil, -50, 50),
    (7, np.cos, -50, 50),
    (8, np.cosh, -5, 5),
    (9, torch_of("digamma"), 0.2, 50),
    (10, torch_of("erf"), -4, 4),
    (11, torch_of("erfc"), -4, 3),
    (12, np.floor, -50, 50),
    (13, lambda x: x - np.trunc(x), -50, 50),
    (14, torch_of("gammaln"), 0.2, 50),
    (15, np.log2, 0.1, 50),
    (16, np.rint, -50, 50),
    (17, np.sign, -2, 2),
    (18, np.sin, -50, 50),
    (19, np.sinh, -5, 5),
    (20, np.tan, -1.4, 1.4),
    (21, np.tanh, -9, 9),
    (22, np.trunc, -50, 50),
    (23, sigmoid, -9, 9),
    (24, gelu, -5, 5),
    (25, lambda x: x * sigmoid(1.702 * x), -5, 5),
    (27, np.log, 0.1, 50),
    (28, np.log10, 0.1, 50),
    (29, lambda x: x * sigmoid(x), -9, 9),
    (30, lambda x: x * sigmoid(1.5 * x), -9, 9),
    (31, lambda x: np.minimum(x, 1.5), -9, 9),
    (32, lambda x: np.maximum(x, 1.5), -9, 9),
    (33, np.exp, -5, 5),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("call", "want", "low", "high"), UNARY)
def test_unary(call, want, low, high, dtype):
    n = 100
    x = RNG.uniform(low, high, 128).astype(dtype)
    start = np.full(128, 7, dtype)
    (y,) = run(call, dtype, [x], [start], [n, 1.5], tmp=0 if call % 2 else 8192)
    close(y[:n], want(x[:n].astype(np.float64)), dtype, 4)
    assert (y[n:] == 7).all()


def test_faster_gelu_v2():
    x = RNG.uniform(-4, 4, 64).astype(np.float32)
    (y,) = run(26, np.float32, [x], [np.zeros_like(x)], [64])
    close(y, torch.nn.functional.gelu(torch.from_numpy(x)).numpy(), np.float32, 2e4)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("call", "want"),
    [
        (40, np.fmod),
        (41, np.power),
        (42, lambda a, b: a * gelu(b)),
        (43, lambda a, b: a * np.maximum(b, 0)),
        (44, lambda a, b: a * b * sigmoid(1.5 * b)),
        (45, lambda a, b: np.power(a, 1.5)),
        (46, lambda a, b: np.power(1.5, a)),
    ],
)
def test_binary(call, want, dtype):
    x, y = (RNG.uniform(0.5, 4, 128).astype(dtype) for _ in range(2))
    (z,) = run(call, dtype, [x, y], [np.zeros(128, dtype)], [100, 1.5], tmp=0 if call % 2 else 8192)
    close(z[:100], want(x.astype(np.float64), y.astype(np.float64))[:100], dtype, 10)
    assert not z[100:].any()


def test_integers_and_axpy():
    x, y = (RNG.integers(-5000, 5000, 64).astype(np.int16) for _ in range(2))
    (z,) = run(506, np.float32, [x, y], [np.zeros_like(x)], [64])
    np.testing.assert_array_equal(z, x ^ y)
    (s,) = run(508, np.float32, [x, y], [np.zeros(16, np.int16)], [64])
    assert s[0] == np.clip((x ^ y).astype(np.int64).sum(), -32768, 32767)
    base, exponent = (
        RNG.integers(-7, 8, 64).astype(np.int32),
        RNG.integers(0, 12, 64).astype(np.int32),
    )
    (p,) = run(507, np.float32, [base, exponent], [np.zeros_like(base)], [64])
    np.testing.assert_array_equal(p, (base.astype(np.int64) ** exponent).astype(np.int32))
    x, y = (RNG.uniform(-4, 4, 64).astype(np.float16) for _ in range(2))
    (z,) = run(47, np.float16, [x], [y], [64, 1.5], tmp=4096)
    close(z, y.astype(np.float32) + x.astype(np.float32) * 1.5, np.float16)
