"""The high-level vector API of the simulator against numpy and torch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from xcompile.errors import BuildError
from xcompile.sim.loader import load

SOURCE = Path(__file__).parent / "kernels" / "adv.asc"
RNG = np.random.default_rng(11)
TYPES = [np.float32, np.float16]
EMPTY = np.zeros(32, np.uint8)


def padded(x: np.ndarray) -> np.ndarray:
    """The bytes of x, filled up with zeros to whole blocks."""
    raw = np.frombuffer(np.ascontiguousarray(x).tobytes(), np.uint8)
    return np.concatenate([raw, np.zeros(-raw.size % 32, np.uint8)])


def launch(call: int, dtype, inputs, outputs, own=(), tmp: int = 0, check: bool = True):
    """The outputs (given as arrays that they start from) of a call, and the rules it broke."""
    buffers = [EMPTY] * 6
    sizes = [0] * 6
    for at, arrays in ((0, inputs), (3, outputs)):
        for i, x in enumerate(arrays):
            if x is not None:
                buffers[at + i] = padded(x).copy()
                sizes[at + i] = buffers[at + i].size
    words = [call, 0 if np.dtype(dtype).itemsize == 4 else 1, tmp, *sizes]
    for v in own:
        words.append(
            int(np.float32(v).view(np.int32))
            if isinstance(v, float)
            else int(np.uint32(v).view(np.int32))
        )
    numbers = np.zeros(40, np.int32)
    numbers[: len(words)] = words
    result = load(SOURCE, "adv")(*buffers, numbers, check=check)
    back = []
    for i, x in enumerate(outputs):
        if x is not None:
            back.append(buffers[3 + i][: x.nbytes].view(x.dtype).reshape(x.shape))
    return back, [e.rule for e in result.errors]


def run(*args, **kwargs):
    return launch(*args, **kwargs)[0]


def tolerance(dtype):
    return (
        {"rtol": 2e-6, "atol": 2e-6}
        if np.dtype(dtype) == np.float32
        else {"rtol": 2e-3, "atol": 2e-3}
    )


def close(got, want, dtype, scale: float = 1.0):
    t = tolerance(dtype)
    np.testing.assert_allclose(
        np.asarray(got, np.float64),
        np.asarray(want, np.float64),
        rtol=t["rtol"] * scale,
        atol=t["atol"] * scale,
    )


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
def test_quant(dtype):
    x = RNG.uniform(-3, 3, 256).astype(dtype)
    h = np.float16
    (y,) = run(500, dtype, [x], [np.zeros(256, np.int8)], [256, 20.5, 3.0])
    want = (x.astype(h) * h(20.5)).astype(h) + h(3)
    np.testing.assert_array_equal(
        y, np.clip(np.rint(want.astype(np.float32)), -128, 127).astype(np.int8)
    )
    s, o = RNG.uniform(5, 50, 64).astype(dtype), RNG.uniform(-9, 9, 64).astype(dtype)
    (y,) = run(501, dtype, [x, s, o], [np.zeros(256, np.int8)], [256, 64], tmp=512)
    want = (x.astype(h) * np.tile(s.astype(h), 4)) + np.tile(o.astype(h), 4)
    np.testing.assert_array_equal(
        y, np.clip(np.rint(want.astype(np.float32)), -128, 127).astype(np.int8)
    )


def test_dequant_and_antiquant():
    m, n, count = 4, 16, 11
    x = RNG.integers(-1000, 1000, (m, n)).astype(np.int32)
    s = RNG.uniform(-1, 1, n).astype(np.float32)
    (y,) = run(503, np.float32, [x, s], [np.full((m, n), 7, np.float32)], [m, n, count])
    np.testing.assert_array_equal(y[:, :count], x[:, :count].astype(np.float32) * s[:count])
    assert (y[:, count:] == 7).all()
    # One row of two times eight columns is two rows.
    (y,) = run(503, np.float32, [x[0], s], [np.zeros(16, np.float32)], [1, 16, 8])
    np.testing.assert_array_equal(y, x[0].astype(np.float32) * np.tile(s[:8], 2))
    k, n, groups = 16, 32, 4
    q = RNG.integers(-128, 128, (k, n)).astype(np.int8)
    s, o = (RNG.uniform(-1, 1, (groups, n)).astype(np.float16) for _ in range(2))
    (y,) = run(502, np.float16, [q, s, o], [np.zeros((k, n), np.float16)], [k, n, groups])
    np.testing.assert_array_equal(
        y, (q.astype(np.float16) + np.repeat(o, 4, 0)) * np.repeat(s, 4, 0)
    )


def test_rearrangements():
    h = np.float16
    x = RNG.uniform(-9, 9, (6, 1)).astype(h)
    (y,) = run(510, h, [x], [np.zeros((6, 20), h)], [6, 20, 6, 1])
    np.testing.assert_array_equal(y, np.repeat(x, 20, 1))
    x = RNG.uniform(-9, 9, (1, 32)).astype(h)
    (y,) = run(510, h, [x], [np.zeros((5, 32), h)], [5, 32, 1, 32])
    np.testing.assert_array_equal(y, np.repeat(x, 5, 0))
    x = RNG.uniform(-9, 9, (16, 13)).astype(h)
    (y,) = run(511, h, [x], [np.zeros((16, 16), h)], [16, 13, 13, 1, 2, 7])
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (1, 2)), constant_values=7))
    x = RNG.uniform(-9, 9, (16, 16)).astype(np.float32)
    (y,) = run(512, np.float32, [x], [np.zeros((16, 13), np.float32)], [16, 16, 3])
    np.testing.assert_array_equal(y, x[:, :13])


def fractals(x: np.ndarray) -> np.ndarray:
    """The last two axes as columns of 16 by all rows."""
    *outer, r, c = x.shape
    return np.moveaxis(x.reshape(*outer, r, c // 16, 16), -2, -3)


@pytest.mark.parametrize("kind", range(1, 8))
def test_transpose(kind):
    h = np.float16
    b, n, s, d = 2, 16, 32, 16
    if kind == 7:
        x = RNG.uniform(-9, 9, (n, 48)).astype(h)
        (y,) = run(513, h, [x], [np.zeros((48, n), h)], [7, 0, n, 48, 0])
        np.testing.assert_array_equal(y, x.T)
        return
    heads = RNG.uniform(-9, 9, (b, n, s, d)).astype(h)  # the origin by heads
    merged = heads.transpose(0, 2, 1, 3).reshape(b, s, n * d)
    src = fractals(merged) if kind in (3, 4) else fractals(heads)
    want = {
        1: heads.transpose(0, 2, 1, 3),
        2: fractals(heads.transpose(0, 2, 1, 3)),
        3: fractals(heads),
        4: heads,
        5: merged,
        6: fractals(merged),
    }[kind]
    (y,) = run(513, h, [src], [np.zeros(want.shape, h)], [kind, b, n, s, d])
    np.testing.assert_array_equal(y, want)


def test_trans_data():
    h = np.float16
    n, c, d, height, width = 3, 20, 2, 3, 5
    x = RNG.uniform(-9, 9, (n, c, d, height, width)).astype(h)
    plain = np.zeros((n, c, d, 16), h)
    plain[..., : height * width] = x.reshape(n, c, d, -1)
    (y,) = run(
        514, h, [plain], [np.zeros((n, d, 2, height, width, 16), h)], [0, n, c, d, height, width]
    )
    full = np.zeros((n, 32, d, height, width), h)
    full[:, :c] = x
    np.testing.assert_array_equal(
        y, full.reshape(n, 2, 16, d, height, width).transpose(0, 3, 1, 4, 5, 2)
    )
    full = np.zeros((16, 32, d, height, width), h)
    full[:n, :c] = x
    z3d = full.reshape(1, 16, 2, 16, d, height, width).transpose(4, 2, 5, 6, 0, 1, 3)
    (y,) = run(514, h, [z3d], [np.zeros_like(plain)], [1, n, c, d, height, width])
    np.testing.assert_array_equal(y[..., : height * width], x.reshape(n, c, d, -1))


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


@pytest.mark.parametrize("dtype", TYPES)
def test_select_dropout(dtype):
    m, k, w = 4, 48, 64
    x = RNG.uniform(-9, 9, (m, k)).astype(dtype)
    mask = RNG.integers(0, 2, (m, w)).astype(bool)
    y, z = run(518, dtype, [x, mask], [np.zeros_like(x)] * 2, [m, k, w, 1.5], tmp=1024)
    np.testing.assert_array_equal(y, np.where(mask[:, :k], dtype(1.5), x))
    np.testing.assert_array_equal(z, np.where(mask[:, :k], x, dtype(1.5)))
    x = RNG.uniform(-9, 9, (m, 256)).astype(dtype)
    for keep, cells in [
        (RNG.integers(0, 2, (m, 256)).astype(np.uint8), 256),
        (RNG.integers(0, 2, (m, 288)).astype(np.uint8), 288),
        (RNG.integers(0, 256, (m, 32)).astype(np.uint8), 32),
        (RNG.integers(0, 256, (m, 64)).astype(np.uint8), 64),
    ]:
        bits = (
            keep[:, :256]
            if cells >= 256
            else np.unpackbits(keep, axis=1, bitorder="little")[:, :256]
        )
        (y,) = run(519, dtype, [x, keep], [np.zeros_like(x)], [m, 256, cells, 0.5])
        np.testing.assert_array_equal(y, x * bits * dtype(2))


def test_fill():
    x = np.zeros(3 * 40000, np.float32)
    load(SOURCE, "adv_fill")(x, 40000, 1.5, blocks=3)
    np.testing.assert_array_equal(x, np.repeat(np.float32([1.5, 2.5, 3.5]), 40000))


def test_small_temporary_buffer_is_an_error():
    x = np.ones(64, np.float32)
    assert launch(21, np.float32, [x], [x], [64], tmp=128, check=False)[1] == ["param"]
    assert launch(21, np.float32, [x], [x], [64], tmp=256, check=False)[1] == []


def test_reads_past_the_tensor_are_errors():
    x = np.ones(64, np.float32)
    assert "bounds" in launch(21, np.float32, [x], [x], [128], check=False)[1]


def test_calls_of_other_chips_do_not_compile():
    source = """#include "kernel_operator.h"
    extern "C" __global__ __vector__ void k(GM_ADDR p) {
      AscendC::TPipe pipe; AscendC::TBuf<> b; pipe.InitBuffer(b, 256);
      AscendC::LocalTensor<half> t = b.Get<half>(); AscendC::Hypot(t, t, t, 32);
    }"""
    with pytest.raises(BuildError, match="Hypot is not supported on this chip"):
        load(source, "k")
