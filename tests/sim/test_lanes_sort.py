"""Sort and merge of the simulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.lanes_harness import RNG, TYPES, code, run, source, with_tail


def pairs(dtype, score: np.ndarray, index: np.ndarray) -> np.ndarray:
    raw = np.zeros((score.size, 8), np.uint8)
    raw[:, : score.itemsize] = np.ascontiguousarray(score).view(np.uint8).reshape(score.size, -1)
    raw[:, 4:] = np.ascontiguousarray(index.astype(np.uint32)).view(np.uint8).reshape(-1, 4)
    return raw.ravel().view(dtype)


def descending(v: np.ndarray) -> np.ndarray:
    return np.argsort(-v.astype(np.float32), kind="stable")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("repeats", [1, 4, 7, 20, 65])
def test_sort(dtype, repeats):
    n = 32 * repeats
    score, index = source(dtype, n), RNG.permutation(n).astype(np.uint32)
    data, _ = with_tail(score, index)
    out = np.zeros(8 * n // score.itemsize, dtype)
    args = [code(dtype), 0, data.nbytes, out.nbytes, 8 * n, repeats, 0, 0, 0, 0, 0, 0]
    got, _ = run("vec_sort", data, out, args)
    order = np.concatenate(
        [32 * r + descending(score[32 * r : 32 * r + 32]) for r in range(repeats)]
    )
    np.testing.assert_array_equal(
        got.view(np.uint8), pairs(dtype, score[order], index[order]).view(np.uint8)
    )
    order = descending(score)
    args[1] = 1
    got, _ = run("vec_sort", data, out, args)
    np.testing.assert_array_equal(
        got.view(np.uint8), pairs(dtype, score[order], index[order]).view(np.uint8)
    )
    args[1] = 2
    got, _ = run("vec_sort", data, out, args)
    np.testing.assert_array_equal(got[:n], score[order])
    np.testing.assert_array_equal(got[n:].view(np.uint32)[:n], index[order])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("queues", [2, 3, 4])
@pytest.mark.parametrize("suspend", [0, 1, 2])
def test_merge(dtype, queues, suspend):
    lengths = [*RNG.integers(1, 60, queues).tolist(), 0, 0][:4]
    scores = [np.sort(source(dtype, n))[::-1] for n in lengths]
    total = sum(lengths)
    index = np.arange(total, dtype=np.uint32)
    data = pairs(dtype, np.concatenate(scores), index)
    data = np.concatenate([data, np.zeros(-data.nbytes % 32 // data.itemsize, dtype)])
    out = np.zeros_like(data)
    got, args = run(
        "vec_sort",
        data,
        out,
        [code(dtype), 3, data.nbytes, out.nbytes, 32, 1, *lengths, 2**queues - 1, suspend],
    )
    order = descending(np.concatenate(scores))
    queue = np.repeat(np.arange(4), lengths)[order]
    if suspend:
        ends = [int(np.flatnonzero(queue == q)[-1]) for q in range(queues)]
        order = order[: min(ends) + 1]
        assert args[:4].tolist() == [int((queue[: order.size] == q).sum()) for q in range(4)]
    want = pairs(dtype, np.concatenate(scores)[order], index[order])
    np.testing.assert_array_equal(got[: want.size].view(np.uint8), want.view(np.uint8))
    assert not got[want.size :].any()


@pytest.mark.parametrize("dtype", TYPES)
def test_merge_repeats(dtype):
    times, length = 3, 32
    score = np.sort(source(dtype, times * 4 * length).reshape(-1, length), 1)[:, ::-1].reshape(
        times, -1
    )
    index = np.arange(score.size, dtype=np.uint32).reshape(times, -1)
    data = pairs(dtype, score.ravel(), index.ravel())
    got, _ = run(
        "vec_sort",
        data,
        np.zeros_like(data),
        [code(dtype), 3, data.nbytes, data.nbytes, 32, times, *[length] * 4, 15, 0],
    )
    want = [
        pairs(dtype, s[descending(s)], i[descending(s)]) for s, i in zip(score, index, strict=True)
    ]
    np.testing.assert_array_equal(got.view(np.uint8), np.concatenate(want).view(np.uint8))
