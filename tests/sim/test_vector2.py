"""Reductions, gather, copy, sort and transpose of the simulator against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xcompile.errors import BuildError
from xcompile.sim.loader import load

SOURCE = Path(__file__).parent / "kernels" / "vector2.asc"
RNG = np.random.default_rng(7)
TYPES = [np.float32, np.float16]


def launch(
    name: str,
    x: np.ndarray,
    out: np.ndarray,
    args: list[int],
    chip: str = "910B1",
    check: bool = True,
):
    """The output and the arguments after a kernel of SOURCE, and the rules it broke."""
    x, out = np.ascontiguousarray(x), np.array(out)
    words = np.zeros(64, np.int32)
    words[: len(args)] = np.array(args, np.int64).astype(np.int32)
    result = load(SOURCE, name, chip=chip)(x, out, words, check=check)
    return out, words, [e.rule for e in result.errors]


NO_BITS = [0, 0, 0, 0]


class Runner:
    """The kernels by name, and with the meaning of their arguments."""

    def __call__(self, name: str, x: np.ndarray, out: np.ndarray, args: list[int]):
        return launch(name, x, out, args)[:2]

    def reduce(
        self,
        x,
        out,
        call,
        repeats,
        *,
        mask=0,
        strides=(0, 0, 0),
        work=0,
        order=0,
        bits=NO_BITS,
        op=0,
    ):
        head = [code(x.dtype), call, x.nbytes, out.nbytes, work, mask, repeats]
        return self("vec_reduce", x, out, [*head, *strides, order, *bits, op])

    def gather(self, x, out, call, repeats, *, strides=(), tail=0, base=0, mask=0, bits=NO_BITS):
        head = [code(x.dtype), call, x.nbytes, out.nbytes, tail, base, mask, repeats]
        return self("vec_gather", x, out, [*head, *strides, *[0] * (4 - len(strides)), *bits])


@pytest.fixture
def run():
    return Runner()


def code(dtype) -> int:
    return {4: 0, 2: 1}[np.dtype(dtype).itemsize]


def words(bits: np.ndarray) -> list[int]:
    """128 lanes as four int32 words."""
    full = np.zeros(128, bool)
    full[: bits.size] = bits
    return np.packbits(full, bitorder="little").view(np.int32).tolist()


def lane_bytes(size: int, repeats: int, blk: int, rep: int) -> np.ndarray:
    """Byte offset of [repeat, lane] of an operand with strides in blocks of 32 bytes."""
    lane = np.arange(256 // size) * size
    return np.arange(repeats)[:, None] * rep * 32 + (lane // 32 * blk * 32 + lane % 32)[None]


def tree(v: np.ndarray) -> np.ndarray:
    """The sum of the last axis as a binary tree, rounded to the type at each step."""
    while v.shape[-1] > 1:
        v = (v[..., 0::2].astype(np.float32) + v[..., 1::2].astype(np.float32)).astype(v.dtype)
    return v[..., 0]


def bits_as(dtype, index) -> np.ndarray:
    unsigned = np.uint32 if np.dtype(dtype).itemsize == 4 else np.uint16
    return np.asarray(index).astype(unsigned).view(dtype)


class Masked:
    """Lanes of a mask-and-repeat call: given by count or by bits."""

    def __init__(self, dtype, repeats: int, by_bits: bool):
        lanes = 256 // np.dtype(dtype).itemsize
        self.count = int(RNG.integers(1, lanes + 1))
        self.bits = RNG.random(lanes) < 0.6 if by_bits else np.arange(lanes) < self.count
        if not self.bits.any():
            self.bits[0] = True
        self.arg = -1 if by_bits else self.count
        self.words = words(self.bits)


OPS = {0: np.sum, 1: np.max, 2: np.min}


def source(dtype, n: int) -> np.ndarray:
    # Few distinct values: equal maxima test that the first index wins.
    return (RNG.integers(-40, 40, n) / 4).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", [0, 1, 2])
@pytest.mark.parametrize("by_bits", [False, True])
def test_whole_repeat(run, dtype, op, by_bits):
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
        got, _ = run.reduce(
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
def test_block(run, dtype, op, by_bits):
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
    got, _ = run.reduce(
        x, out, 1, repeats, mask=m.arg, strides=(stride, blk, rep), bits=m.words, op=op
    )
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("by_bits", [False, True])
def test_pair(run, dtype, by_bits):
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
    got, _ = run.reduce(x, out, 2, repeats, mask=m.arg, strides=(2, 1, 9), bits=m.words)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 31, 64, 129, 1000, 8191])
def test_sum_of_count(run, dtype, count):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    x = RNG.standard_normal(8192).astype(dtype)
    padded = np.zeros(-(-count // lanes) * lanes, dtype)
    padded[:count] = x[:count]
    want = dtype(0)
    for i, s in enumerate(tree(padded.reshape(-1, lanes))):
        want = s if i == 0 else dtype(np.float32(want) + np.float32(s))
    out = np.zeros(32 // size, dtype)
    got, _ = run.reduce(x, out, 4, count, work=32)
    assert got[0] == want
    assert not got[1:].any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("repeats", [1, 3, 70, 300])
def test_sum_of_repeats(run, dtype, repeats):
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
    got, _ = run.reduce(x, out, 3, repeats, mask=-1, strides=(0, 0, 8), work=work, bits=m.words)
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
def test_max_min(run, dtype, op, index):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    pick = np.argmax if op == 1 else np.argmin
    for count in (5, lanes, lanes + 1, 4 * lanes + 1, 40000 // size):
        x = source(dtype, 40960 // size)
        out = np.full(32 // size, 7, dtype)
        at = pick(x[:count])
        work = max(32, work_bytes(size, max(1, count // lanes), bool(index)))
        got, _ = run.reduce(x, out, 4, count, work=work, order=index, op=op)
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
        got, _ = run.reduce(
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


def test_nan_wins(run):
    x = np.ones(128, np.float32)
    x[77] = np.nan
    out = np.zeros(8, np.float32)
    got, _ = run.reduce(x, out, 4, 128, work=64, order=1, op=1)
    assert np.isnan(got[0]) and got[1:2].view(np.uint32)[0] == 77


@pytest.mark.parametrize("dtype", TYPES)
def test_mask_registers(run, dtype):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    m = Masked(dtype, 3, True)
    x = source(dtype, 8192 // size)
    out = np.zeros(256 // size, dtype)
    v = x[lane_bytes(size, 3, 2, 9) // size]
    got, _ = run.reduce(x, out, 9, 3, strides=(2, 2, 9), work=32, bits=m.words)
    np.testing.assert_array_equal(got[0:6:2], tree(np.where(m.bits, v, dtype(0))))
    got, _ = run.reduce(x, out, 9, 3, strides=(1, 2, 9), work=32, bits=m.words, op=1)
    np.testing.assert_array_equal(got[0:6:2], np.where(m.bits, v, dtype(-np.inf)).max(1))
    for count in (3, lanes, 2 * lanes + 19):
        repeats = -(-count // lanes)
        v = x[lane_bytes(size, repeats, 1, 8) // size].copy()
        v.ravel()[count:] = 0
        sums, blocks = tree(v), tree(v.reshape(-1, 32 // size))
        for call, want in ((10, sums), (11, blocks[: -(-count * size // 32)]), (12, [sums.sum()])):
            got, _ = run.reduce(
                x, out, call, 1, strides=(1, 1, 8), work=32, order=count, bits=m.words
            )
            np.testing.assert_array_equal(got[: len(want)], want)
            assert not got[len(want) :].any()


# ------------------------------------------------------------------------------------ gather, copy
WIDE = [np.uint32, np.uint16]


def with_tail(x: np.ndarray, tail: np.ndarray) -> tuple[np.ndarray, int]:
    """Offsets or patterns behind the source, in one tensor."""
    raw = np.frombuffer(tail.tobytes() + b"\0" * (-tail.nbytes % 32), x.dtype)
    return np.concatenate([x, raw]), raw.nbytes


@pytest.mark.parametrize("dtype", WIDE)
def test_gather(run, dtype):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    x = RNG.integers(0, 60000, 1024).astype(dtype)
    count = 333
    offsets = (RNG.integers(0, 900, count) * size).astype(np.uint32)
    data, tail = with_tail(x, offsets)
    out = np.zeros(512, dtype)
    got, _ = run.gather(data, out, 0, count, tail=tail, base=16)
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
        got, _ = run.gather(data, out, 1, 3, strides=(10,), tail=tail, mask=m.arg, bits=m.words)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", WIDE)
def test_gather_blocks(run, dtype):
    size = np.dtype(dtype).itemsize
    x = RNG.integers(0, 60000, 1024).astype(dtype)
    offsets = (RNG.integers(0, 1024 * size // 32, 24) * 32).astype(np.uint32)
    data, tail = with_tail(x, offsets)
    out = np.zeros(4096 // size, dtype)
    for blk, rep in ((1, 8), (0, 8), (2, 17)):
        got, _ = run.gather(data, out, 2, 3, strides=(blk, rep), tail=tail)
        want = out.copy()
        for n, o in enumerate(offsets):
            at = (n // 8 * rep + n % 8 * max(blk, 1)) * 32 // size
            want[at : at + 32 // size] = x[o // size :][: 32 // size]
        np.testing.assert_array_equal(got, want)


FIXED = {1: [0, 2], 2: [1, 3], 3: [0], 4: [1], 5: [2], 6: [3], 7: [0, 1, 2, 3]}


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("pattern", FIXED)
def test_gather_mask_fixed(run, dtype, pattern):
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
        got, args = run.gather(
            x, out, 3, repeats, strides=(blk, rep, 0, counter), base=pattern, mask=mask
        )
        assert args[0] == want.size
        np.testing.assert_array_equal(got[: want.size], want)
        assert not got[want.size :].any()
    got, args = run.gather(x, out, 6, 4, strides=(1, 8), base=pattern)
    want = x[: 4 * lanes].reshape(-1, 4)[:, FIXED[pattern]].ravel()
    np.testing.assert_array_equal(got[: want.size], want)


@pytest.mark.parametrize("dtype", WIDE)
def test_gather_mask_user(run, dtype):
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
        got, args = run.gather(
            data, out, 4, repeats, strides=(blk, rep, rep1, counter), tail=tail, mask=mask
        )
        assert args[0] == want.size
        np.testing.assert_array_equal(got[: want.size], want)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("by_bits", [False, True])
def test_copy(run, dtype, by_bits):
    size = np.dtype(dtype).itemsize
    m = Masked(dtype, 4, by_bits)
    x = RNG.integers(0, 60000, 8192 // size).astype(dtype)
    out = np.zeros(8192 // size, dtype)
    got, _ = run.gather(x, out, 5, 4, strides=(2, 1, 17, 3), mask=m.arg, bits=m.words)
    want = out.copy()
    to, at = lane_bytes(size, 4, 2, 17) // size, lane_bytes(size, 4, 1, 3) // size
    want[to[:, m.bits]] = x[at[:, m.bits]]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", WIDE)
def test_copy_counter_mode(run, dtype):
    size = np.dtype(dtype).itemsize
    x = RNG.integers(0, 60000, 8192 // size).astype(dtype)
    out = np.zeros(8192 // size, dtype)
    count, repeats = 144, 2
    got, _ = run.gather(x, out, 8, repeats, strides=(1, 3, 40, 5), mask=count)
    want = out.copy()
    byte = np.arange(count) * size
    for r in range(repeats):
        at = r * 5 * 32 + byte // 32 * 3 * 32 + byte % 32
        want[r * 40 * 32 // size :][:count] = x[at // size]
    np.testing.assert_array_equal(got, want)


# ----------------------------------------------------------------------------------------- sorting
def pairs(dtype, score: np.ndarray, index: np.ndarray) -> np.ndarray:
    raw = np.zeros((score.size, 8), np.uint8)
    raw[:, : score.itemsize] = np.ascontiguousarray(score).view(np.uint8).reshape(score.size, -1)
    raw[:, 4:] = np.ascontiguousarray(index.astype(np.uint32)).view(np.uint8).reshape(-1, 4)
    return raw.ravel().view(dtype)


def descending(v: np.ndarray) -> np.ndarray:
    return np.argsort(-v.astype(np.float32), kind="stable")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("repeats", [1, 4, 7, 20, 65])
def test_sort(run, dtype, repeats):
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
def test_merge(run, dtype, queues, suspend):
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
def test_merge_repeats(run, dtype):
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


# --------------------------------------------------------------------------------------- transpose
def test_transpose_16(run):
    x = np.arange(256, dtype=np.float16)
    got, _ = run("vec_transpose", x, np.zeros_like(x), [2, 0, 512, 512, 0, *[0] * 7])
    np.testing.assert_array_equal(got.reshape(16, 16), x.reshape(16, 16).T)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int32])
def test_nchw_nhwc(run, dtype):
    size = np.dtype(dtype).itemsize
    n, c, h, w = 2, 5, 4, 32 // size * 2
    x = RNG.integers(0, 100, (n, c, h, w)).astype(dtype)
    tile = (32 if size == 1 else 16) * 32
    total = x.nbytes
    got, _ = run(
        "vec_transpose",
        x.ravel(),
        np.zeros(x.size, dtype),
        [size, 1, total, total, (c + 2) * tile, n, c, h, w, 11, 0, 0],
    )
    np.testing.assert_array_equal(got.reshape(n, h, w, c), x.transpose(0, 2, 3, 1))
    back, _ = run(
        "vec_transpose",
        got,
        np.zeros(x.size, dtype),
        [size, 1, total, total, (2 * c + 1) * tile, n, c, h, w, 12, 0, 0],
    )
    np.testing.assert_array_equal(back.reshape(x.shape), x)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int32])
@pytest.mark.parametrize("form", [2, 3, 4])
def test_trans_data(run, dtype, form):
    size = np.dtype(dtype).itemsize
    per = 32 // size
    x = RNG.integers(0, 100, 16 * 4 * per).astype(dtype)  # 16 rows of 4 blocks
    out = np.zeros(16 * 4 * per, dtype)
    rows = x.reshape(16, 4, per)
    for repeats, high in ((4, 0), (1, 1)):
        args = [
            size,
            form,
            x.nbytes,
            out.nbytes,
            256,
            repeats,
            16 if repeats > 1 else 0,
            1 if repeats > 1 else 0,
            high,
            high,
            32,
            128,
        ]
        got, _ = run("vec_transpose", x, out, args)
        got = got.reshape(4, 16, per)
        for r in range(repeats):
            if size == 1:
                lo = 16 * high
                np.testing.assert_array_equal(got[r, :, lo : lo + 16], rows[:, r, lo : lo + 16].T)
                assert not got[r, :, 16 - lo : 32 - lo].any()
            else:
                np.testing.assert_array_equal(got[r].reshape(per, 16), rows[:, r].T)
    # A single repeat starts one stride in.
    got, _ = run(
        "vec_transpose", x, out, [size, form, x.nbytes, out.nbytes, 256, 1, 16, 2, 0, 0, 32, 128]
    )
    got = got.reshape(4, 16, per)
    assert not got[0].any()
    if size > 1:
        np.testing.assert_array_equal(got[1].reshape(per, 16), rows[:, 2].T)


# ------------------------------------------------------------------------------- special registers
@pytest.mark.parametrize("dtype", TYPES)
def test_special_registers(run, dtype):
    size = np.dtype(dtype).itemsize
    lanes = 256 // size
    x = source(dtype, 4096)
    out = np.zeros(64 // size, dtype)
    got, _ = run.reduce(x, out, 8, 100, mask=lanes, strides=(1, 1, 8), work=32)
    assert got[0] == got[1] == got[2] == x[:100].astype(np.float64).sum()
    for op, pick in ((1, np.argmax), (2, np.argmin)):
        got, _ = run.reduce(x, out, 8, 5, mask=lanes, strides=(1, 1, 8), work=32, op=op)
        at = pick(x[: 5 * lanes])
        assert got[5] == x[at] and got[6:7].view(np.uint16)[0] == at


@pytest.mark.parametrize("call", [0, 1, 3, 4])
def test_nothing_to_do(run, call):
    x, out = np.ones(256, np.float32), np.full(64, 3, np.float32)
    for mask, repeats in ((0, 1), (64, 0), (-1, 1)):
        if call == 4 and repeats:
            continue
        got, _ = run.reduce(x, out, call, repeats, mask=mask, strides=(1, 1, 8), work=64)
        assert (got == 3).all()
    if call != 4:  # beyond the repeat: all of it
        got, _ = run.reduce(x, out, call, 1, mask=128, strides=(1, 1, 8), work=64)
        assert got[0] == (8 if call == 1 else 64)


# ------------------------------------------------------------------------------------- other chips
def test_950():
    n = 64
    x = np.concatenate([RNG.integers(0, 99, n), RNG.permutation(n) * 4]).astype(np.int32)
    a, b = x[:n], x[n:]

    def at950(call):
        return launch("vec_950", x, np.zeros_like(x), [call, n], "950")[0]

    both = np.stack([a, b], 1).ravel()
    np.testing.assert_array_equal(at950(0), both)
    for call in (1, 2):
        np.testing.assert_array_equal(at950(call), np.concatenate([x[0::2], x[1::2]]))
    want = np.zeros(n, np.int32)
    want[b // 4] = a
    np.testing.assert_array_equal(at950(3)[:n], want)
    np.testing.assert_array_equal(at950(4)[:n], a)
    np.testing.assert_array_equal(at950(5)[:n], np.sort(a)[::-1])
    np.testing.assert_array_equal(at950(5)[n:], np.argsort(-a, kind="stable"))
    for call in range(6):
        assert launch("vec_950", x, np.zeros_like(x), [call, n], check=False)[2] == ["chip"]


# ------------------------------------------------------------------------------------------ faults
F32 = np.zeros(1024, np.float32)
U32 = np.zeros(1024, np.uint32)


def offsets(*first: int) -> np.ndarray:
    data = U32.copy()
    data[512 : 512 + len(first)] = first
    return data


FAULTS = {
    "source read after an earlier repeat wrote it": (
        "vec_reduce",
        F32,
        [0, 5, 4096, 256, 0, 64, 2, 1, 1, 0],
        "param",
    ),
    "repeats": ("vec_reduce", F32, [0, 0, 4096, 2048, 0, 8, 256, 1, 1, 0], "param"),
    "unwritten source": ("vec_reduce", F32, [0, 6, 4096, 256, 1024, 64, 1, 1, 1, 8], "init"),
    "misaligned result": ("vec_reduce", F32, [0, 7, 4096, 256, 0, 64, 1, 1, 1, 8], "align"),
    "results past the buffer": ("vec_reduce", F32, [0, 0, 4096, 32, 32, 8, 9, 1, 1, 8], "bounds"),
    "scratch too small": (
        "vec_reduce",
        F32,
        [0, 4, 4096, 32, 32, 0, 1024, 0, 0, 0, 1, 0, 0, 0, 0, 1],
        "bounds",
    ),
    "gather offset not of an element": (
        "vec_gather",
        offsets(0, 2),
        [0, 0, 4096, 64, 2048, 0, 0, 8],
        "align",
    ),
    "gather outside": ("vec_gather", offsets(0, 40000), [0, 0, 4096, 64, 2048, 0, 0, 8], "bounds"),
    "gather block not aligned": (
        "vec_gather",
        offsets(0, 16),
        [0, 2, 4096, 256, 2048, 0, 0, 1, 1, 8],
        "align",
    ),
    "gather in place": ("vec_gather", offsets(0, 4, 8), [0, 7, 4096, 64, 2048, 0, 0, 8], "param"),
    "gather pattern": ("vec_gather", U32, [0, 3, 4096, 256, 0, 8, 0, 1, 1, 8, 0, 0], "param"),
    "gather mask of no elements": (
        "vec_gather",
        U32,
        [0, 3, 4096, 256, 0, 1, 0, 1, 1, 8, 0, 1],
        "param",
    ),
    "copy stride": ("vec_gather", U32, [0, 5, 4096, 256, 0, 0, 64, 1, 1, 1, 4096, 8], "param"),
    "sort repeats": ("vec_sort", F32, [0, 0, 4096, 4096, 32, 256], "param"),
    "merge of one queue": ("vec_sort", F32, [0, 3, 4096, 4096, 32, 1, 32, 32, 0, 0, 5, 0], "param"),
    "merge onto a queue": ("vec_sort", F32, [0, 4, 4096, 4096, 32, 1, 32, 32, 0, 0, 3, 0], "param"),
    "merge past the buffer": (
        "vec_sort",
        F32,
        [0, 3, 4096, 256, 32, 1, 32, 32, 0, 0, 3, 0],
        "bounds",
    ),
    "transpose scratch": ("vec_transpose", F32, [4, 1, 1024, 1024, 512, 1, 4, 8, 8, 11], "param"),
    "transpose of an odd plane": (
        "vec_transpose",
        F32,
        [4, 1, 1024, 1024, 16384, 1, 4, 3, 5, 11],
        "align",
    ),
    "transpose type": ("vec_transpose", F32, [4, 1, 1024, 1024, 16384, 1, 4, 8, 8, 3], "chip"),
    "transpose of the wrong size": (
        "vec_transpose",
        F32.astype(np.float16),
        [2, 1, 1024, 1024, 512, 0, 0, 8, 32, 10],
        "param",
    ),
    "list entry not aligned": (
        "vec_transpose",
        F32,
        [4, 3, 1024, 1024, 512, 1, 0, 0, 0, 0, 32, 16],
        "align",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fault):
    name, x, args, rule = FAULTS[fault]
    out = np.zeros(args[3] // x.itemsize, x.dtype)
    rules = launch(name, x, out, [*args, *[0] * (16 - len(args))], check=False)[2]
    assert rules[0] == rule


REFUSED = """
#include "kernel_operator.h"
using namespace AscendC;
__global__ __vector__ void refused() {
  LocalTensor<int32_t> i;
  LocalTensor<float> f;
  LocalTensor<uint16_t> u;
  LocalTensor<uint8_t> b;
  uint64_t n;
  ReduceSum(i, i, i, 8);
  WholeReduceMax(i, i, 8, 1, 1, 1, 8);
  GatherMask(f, f, u, false, 0, {1, 1, 8, 0}, n);
  Gatherb(f, f, i.ReinterpretCast<uint32_t>(), 1, GatherRepeatParams(1, 8));
  Copy(b, b, 8ul, 1, {1, 1, 8, 8});
  Sort32(i, i, i.ReinterpretCast<uint32_t>(), 1);
  RpSort16(f, f, 1);
  VectorPadding(f, f, 0, false, 8);
  Transpose(f, f);
}
"""


def test_types_and_chips_refused_when_compiled():
    with pytest.raises(BuildError) as e:
        load(REFUSED, "refused", flags=["-fmax-errors=0"])
    for text in (
        "this reduction takes half or float",
        "uint16_t for 16-bit and uint32_t for 32-bit",
        "Gatherb takes uint16_t or uint32_t",
        "Copy takes 16-bit and 32-bit",
        "takes half or float scores",
        "use Sort32, MrgSort and GatherMask",
        "VectorPadding exists on the inference chips only",
        "Transpose of 16x16 takes",
    ):
        assert text in str(e.value), text
