"""Launches of vector calls that combine or move lanes, for test_lanes_*.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xcompile.sim.loader import load

SOURCE = Path(__file__).parent / "kernels" / "lanes.asc"
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


def run(name: str, x: np.ndarray, out: np.ndarray, args: list[int]):
    return launch(name, x, out, args)[:2]


def run_reduce(
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
    return run("vec_reduce", x, out, [*head, *strides, order, *bits, op])


def run_gather(x, out, call, repeats, *, strides=(), tail=0, base=0, mask=0, bits=NO_BITS):
    head = [code(x.dtype), call, x.nbytes, out.nbytes, tail, base, mask, repeats]
    return run("vec_gather", x, out, [*head, *strides, *[0] * (4 - len(strides)), *bits])


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


def source(dtype, n: int) -> np.ndarray:
    # Few distinct values: equal maxima test that the first index wins.
    return (RNG.integers(-40, 40, n) / 4).astype(dtype)


def with_tail(x: np.ndarray, tail: np.ndarray) -> tuple[np.ndarray, int]:
    """Offsets or patterns behind the source, in one tensor."""
    raw = np.frombuffer(tail.tobytes() + b"\0" * (-tail.nbytes % 32), x.dtype)
    return np.concatenate([x, raw]), raw.nbytes


F32 = np.zeros(1024, np.float32)
U32 = np.zeros(1024, np.uint32)
