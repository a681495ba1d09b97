"""Launches of the high-level vector API, for test_adv_*.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
