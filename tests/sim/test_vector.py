"""Element-wise vector calls of the simulator against numpy: every call, type and form."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from xcompile.sim.loader import load

SOURCE = Path(__file__).parent / "kernels" / "vector.asc"
SIZE = 32768
F32, F16, I16, I32, U16, U32 = np.float32, np.float16, np.int16, np.int32, np.uint16, np.uint32
NAMES = {
    "float": F32, "half": F16, "int16_t": I16, "int32_t": I32, "uint16_t": U16, "uint32_t": U32,
    "int8_t": np.int8, "uint8_t": np.uint8, "int64_t": np.int64,
}  # fmt: skip
TYPES = {np.dtype(v): k for k, v in NAMES.items()}
# Source, destination, rounding modes documented for the pair.
ALL, SOME, NONE = (0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5), (0,)
CASTS = [
    ("int4b_t", "half", NONE),
    ("int8_t", "half", NONE),
    ("uint8_t", "half", NONE),
    ("int16_t", "half", ALL),
    ("int16_t", "float", NONE),
    ("half", "int4b_t", ALL),
    ("half", "int8_t", ALL),
    ("half", "uint8_t", ALL),
    ("half", "int16_t", SOME),
    ("half", "int32_t", SOME),
    ("half", "float", NONE),
    ("bfloat16_t", "int32_t", SOME),
    ("bfloat16_t", "float", NONE),
    ("int32_t", "int16_t", NONE),
    ("int32_t", "float", ALL),
    ("int32_t", "int64_t", NONE),
    ("float", "int16_t", SOME),
    ("float", "half", (*ALL, 6)),
    ("float", "bfloat16_t", SOME),
    ("float", "int32_t", SOME),
    ("float", "float", SOME),
    ("float", "int64_t", SOME),
    ("int64_t", "int32_t", NONE),
    ("int64_t", "float", SOME),
]
MIXED = {  # destination, source: calls
    "half, half": (0, 1),
    "float, float": (0, 1),
    "float, half": (0, 1),
    "half, int32_t": (2,),
    "int8_t, half": (3, 4),
    "int8_t, int16_t": (3, 4),
    "half, float": (3, 4),
}
TEMPLATES = [
    *(f"unary<{t}>" for t in ("half", "float", "int32_t", "int16_t", "uint16_t")),
    *(f"binary<{t}>" for t in ("half", "float", "int32_t", "int16_t", "uint16_t")),
    *(f"scalar<{t}>" for t in ("half", "float", "int32_t", "int16_t", "uint16_t", "uint32_t")),
    *(f"cast<{d}, {s}>" for s, d, _ in CASTS),
    "cast<half, int32_t>",
    *(f"mixed<{t}>" for t in MIXED),
    *(f"{k}<{t}>" for k in ("mulcast", "dequant") for t in ("int8_t", "uint8_t")),
    *(f"compare<{t}>" for t in ("half", "float", "int32_t")),
    *(f"select<{t}>" for t in ("half", "float")),
    *(
        f"fill<{t}>"
        for t in ("half", "float", "bfloat16_t", "int16_t", "uint16_t", "int32_t", "uint32_t")
    ),
]
CALL = np.dtype(
    [
        ("op", "i4"), ("form", "i4"), ("count", "i4"), ("repeats", "i4"), ("mask", "u8", 2),
        ("dstBlk", "i4"), ("src0Blk", "i4"), ("src1Blk", "i4"),
        ("dstRep", "i4"), ("src0Rep", "i4"), ("src1Rep", "i4"),
        ("scalar", "i4"), ("mode", "i4"), ("real", "f4"), ("alias", "i4"),
    ],
    align=True,
)  # fmt: skip
COUNT, BITS, LENGTH, REGISTER, COUNTER, COUNTER_ARGUMENT = range(6)
FORMS = range(6)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@dataclass
class Case:
    """One call: which lanes it computes and where their operands lie."""

    form: int
    width: int  # bytes of the widest element
    seed: int = 0
    fields: dict = field(default_factory=dict)

    def __post_init__(self):
        r = rng(self.seed * 7 + self.form)
        self.lanes = 256 // self.width
        self.dense = self.form == COUNT
        self.count = int(r.integers(2, 1500 // self.width)) * 2
        counted = self.form in (COUNT, COUNTER, COUNTER_ARGUMENT)
        self.repeats = -(-self.count // self.lanes) if counted else int(r.integers(1, 6))
        active = np.zeros((self.repeats, self.lanes), bool)
        if counted:
            active.reshape(-1)[: self.count] = True
        elif self.form == LENGTH:
            self.length = 2 * int(r.integers(1, self.lanes // 2 + 1))
            active[:, : self.length] = True
        else:
            one = np.repeat(r.random(self.lanes // 2) < 0.6, 2)
            one[:2] = True
            active[:] = one
        self.active = active
        self.strides = {}
        for name, low in (("dst", 1), ("src0", 0), ("src1", 0)):
            blk = 1 if self.dense else int(r.integers(low, 3))
            rep = int(r.integers(16, 20)) if name == "dst" else int(r.integers(0, 20))
            self.strides[name] = (blk, rep)

    def offsets(self, name: str, size: float) -> np.ndarray:
        """Byte offset of [repeat, lane]; 4-bit elements in half bytes."""
        blk, rep = self.strides[name]
        byte = np.arange(self.lanes) * size
        block = np.floor(byte / 32)
        if self.dense:
            rep = self.lanes * size / 32
        return (
            np.arange(self.repeats)[:, None] * rep * 32
            + (block * blk * 32 + byte - block * 32)[None]
        )

    def at(self, name: str, dtype: np.dtype) -> np.ndarray:
        """Index of each active element in an array of that type."""
        size = np.dtype(dtype).itemsize
        return (self.offsets(name, size)[self.active] / size).astype(np.int64)

    def record(self, **more) -> np.ndarray:
        c = np.zeros((), CALL)
        c["form"], c["count"], c["repeats"] = self.form, self.count, self.repeats
        if self.form == LENGTH:
            c["mask"][0] = self.length
        else:
            bits = np.zeros(128, bool)
            bits[: self.lanes] = self.active[0]
            c["mask"] = np.packbits(bits, bitorder="little").view(np.uint64)
        for name, (blk, rep) in self.strides.items():
            c[name + "Blk"], c[name + "Rep"] = blk, rep
        for k, v in (self.fields | more).items():
            c[k] = v
        return c


def buffer(values: np.ndarray | None = None) -> np.ndarray:
    """A buffer of SIZE bytes, filled by repeating the values."""
    if values is None:
        return np.full(SIZE, 0xEE, np.uint8)
    return np.resize(values.view(np.uint8), SIZE).copy()


def launch(name: str, x, y, z, call, **options) -> np.ndarray:
    x, y, z = (buffer(v) if v is None or v.size != SIZE else v.copy() for v in (x, y, z))
    load(SOURCE, name, instantiate=TEMPLATES, **options)(x, y, z, call)
    return z


def numbers(dtype, seed: int = 0) -> np.ndarray:
    """Values over the whole buffer, of all magnitudes but not overflowing in sums."""
    n = SIZE // np.dtype(dtype).itemsize
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        v = rng(seed).integers(info.min, info.max, n, endpoint=True, dtype=dtype)
        small = rng(seed + 1).integers(max(info.min, -9), 9, n).astype(dtype)
        return np.where(rng(seed + 2).random(n) < 0.5, v, small)
    return (rng(seed).normal(size=n) * np.exp(rng(seed + 1).normal(size=n))).astype(dtype)


def expect(case: Case, got: np.ndarray, want: np.ndarray, dtype, exact: bool = True):
    """`want` at the active elements of the destination, 0xEE anywhere else."""
    at = case.at("dst", dtype)
    image = buffer().view(dtype)
    image[at] = want
    got = got.view(dtype)
    rest = np.ones(image.size, bool)
    rest[at] = False
    np.testing.assert_array_equal(got[rest].view(np.uint8), image[rest].view(np.uint8))
    if exact:
        np.testing.assert_array_equal(got[at], image[at])
    else:
        np.testing.assert_allclose(
            got[at], image[at], rtol=2e-3 if dtype == F16 else 2e-6, atol=1e-7
        )


def wide(v: np.ndarray) -> np.ndarray:
    return v.astype(F32) if v.dtype == F16 else v


def relu(v):
    return np.maximum(v, 0)


UNARY = {
    0: ("Exp", np.exp, (F16, F32)),
    1: ("Ln", lambda v: np.log(np.abs(v)), (F16, F32)),
    2: ("Abs", np.abs, (F16, F32)),
    3: ("Reciprocal", lambda v: np.float32(1) / v, (F16, F32)),
    4: ("Sqrt", lambda v: np.sqrt(np.abs(v)), (F16, F32)),
    5: ("Rsqrt", lambda v: np.float32(1) / np.sqrt(np.abs(v)), (F16, F32)),
    6: ("Relu", relu, (F16, F32, I32)),
    7: ("Not", np.invert, (I16, U16)),
}
INTS, REALS = (I16, I32), (F16, F32)
BINARY = {
    0: (np.add, REALS + INTS),
    1: (np.subtract, REALS + INTS),
    2: (np.multiply, REALS + INTS),
    3: (np.divide, REALS),
    4: (np.maximum, REALS + INTS),
    5: (np.minimum, REALS + INTS),
    6: (np.bitwise_and, (I16, U16)),
    7: (np.bitwise_or, (I16, U16)),
    8: (lambda a, b: relu(a + b), (*REALS, I16)),
    9: (lambda a, b: relu(a - b), (*REALS, I16)),
}


def clipped(v: np.ndarray, dtype) -> np.ndarray:
    """The values in a narrower type; half overflows to infinity, as programs are launched."""
    with np.errstate(over="ignore", invalid="ignore"):
        return v.astype(dtype)


@pytest.mark.parametrize("form", FORMS)
def test_unary(form):
    for op, (_, f, types) in UNARY.items():
        for dtype in types:
            x = numbers(dtype, op)
            if op in (1, 4, 5):
                x = np.abs(x)
            case = Case(form, np.dtype(dtype).itemsize, op)
            got = launch(f"unary<{TYPES[np.dtype(dtype)]}>", x, None, None, case.record(op=op))
            want = clipped(f(wide(x[case.at("src0", dtype)])), dtype)
            expect(case, got, want, dtype, exact=op in (2, 3, 4, 6, 7))


@pytest.mark.parametrize("form", FORMS)
def test_binary(form):
    for op, (f, types) in BINARY.items():
        for dtype in types:
            x, y = numbers(dtype, 2 * op), numbers(dtype, 2 * op + 1)
            case = Case(form, np.dtype(dtype).itemsize, op + 20)
            got = launch(f"binary<{TYPES[np.dtype(dtype)]}>", x, y, None, case.record(op=op))
            a, b = x[case.at("src0", dtype)], y[case.at("src1", dtype)]
            with np.errstate(all="ignore"):
                expect(case, got, clipped(f(wide(a), wide(b)), dtype), dtype)


@pytest.mark.parametrize("form", FORMS)
def test_multiply_add(form):
    for op in (10, 11, 12):
        for dtype in REALS:
            x, y, z = (numbers(dtype, 3 * op + i) for i in range(3))
            case = Case(form, np.dtype(dtype).itemsize, op + 30)
            got = launch(
                f"binary<{TYPES[np.dtype(dtype)]}>", x, y, z.view(np.uint8), case.record(op=op)
            )
            at = case.at("dst", dtype)
            v = wide(x[case.at("src0", dtype)]) * wide(z[at]) + wide(y[case.at("src1", dtype)])
            want = z.copy()
            want[at] = clipped(v if op == 10 else relu(v), dtype)
            np.testing.assert_array_equal(got.view(dtype), want)


SCALAR = {0: np.add, 1: np.multiply, 2: np.maximum, 3: np.minimum}


@pytest.mark.parametrize("form", FORMS)
def test_scalar(form):
    for dtype in REALS + INTS:
        s = dtype(-37) if dtype in INTS else dtype(0.3)
        for op, f in SCALAR.items():
            x = numbers(dtype, op)
            case = Case(form, np.dtype(dtype).itemsize, op + 50)
            call = case.record(op=op, scalar=-37, real=0.3)
            got = launch(f"scalar<{TYPES[np.dtype(dtype)]}>", x, None, None, call)
            with np.errstate(all="ignore"):
                v = f(wide(x[case.at("src0", dtype)]), wide(np.array([s]))[0])
            expect(case, got, clipped(v, dtype), dtype)
    for dtype in REALS:
        x = numbers(dtype, 9)
        case = Case(form, np.dtype(dtype).itemsize, 60)
        got = launch(
            f"scalar<{TYPES[np.dtype(dtype)]}>", x, None, None, case.record(op=4, real=0.3)
        )
        a = wide(x[case.at("src0", dtype)])
        expect(
            case, got, clipped(np.where(a >= 0, a, a * wide(np.array([0.3], dtype))), dtype), dtype
        )


@pytest.mark.parametrize("distance", [0, 1, 5, "width"])
def test_shifts(distance):
    for dtype in (I16, U16, I32, U32):
        width = np.dtype(dtype).itemsize * 8
        n = width if distance == "width" else distance
        x = numbers(dtype, 3)
        for form in FORMS:
            for op in (5, 6):
                case = Case(form, width // 8, op + 70)
                got = launch(
                    f"scalar<{TYPES[np.dtype(dtype)]}>", x, None, None, case.record(op=op, scalar=n)
                )
                a = x[case.at("src0", dtype)].astype(np.int64)
                expect(case, got, (a << n if op == 5 else a >> n).astype(dtype), dtype)
        for op, form in ((7, BITS), (8, LENGTH)):
            case = Case(form, width // 8, 80)
            got = launch(
                f"scalar<{TYPES[np.dtype(dtype)]}>", x, None, None, case.record(op=op, scalar=n)
            )
            a = x[case.at("src0", dtype)].astype(np.int64)
            up = (a >> (n - 1)) & 1 if n > 0 and np.issubdtype(dtype, np.signedinteger) else 0
            expect(case, got, ((a >> n) + up).astype(dtype), dtype)


def test_scalar_type_named():
    x = numbers(I32)
    for op, form in ((10, COUNT), (11, LENGTH)):
        case = Case(form, 4, 90)
        call = case.record(op=op, scalar=7)
        if op == 11:  # the registers' mask: all lanes
            case.active[:] = True
        got = launch("scalar<int32_t>", x, None, None, call)
        expect(case, got, x[case.at("src0", I32)] + I32(7), I32)


# ------------------------------------------------------------------ conversions
def round_by(v: np.ndarray, mode: int) -> np.ndarray:
    """Float64 values to integers, by RoundMode."""
    if mode == 2:
        return np.floor(v)
    if mode == 3:
        return np.ceil(v)
    if mode == 4:
        return np.copysign(np.floor(np.abs(v) + 0.5), v)
    if mode == 5:
        return np.trunc(v)
    return np.rint(v)


def to_real(v: np.ndarray, mode: int, bits: int, low: int, high: float) -> np.ndarray:
    """Float64 to numbers of `bits` bits of mantissa and exponents from `low`, by RoundMode."""
    e = np.maximum(np.frexp(v)[1] - bits, low)
    scaled = np.ldexp(v, -e)
    if mode == 6:
        down = np.trunc(scaled)
        r = np.where((scaled != down) & (np.mod(down, 2) == 0), down + np.copysign(1.0, v), down)
    else:
        r = round_by(scaled, mode)
    return np.clip(np.ldexp(r, e), -high, high)


def bf16(v: np.ndarray) -> np.ndarray:
    return (v.astype(F32).view(U32) >> 16).astype(U16)


def cast_source(name: str, to: str) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of the buffer, and the values in it as float64 or int64."""
    r = rng(hash_of(name + to))
    if name == "int4b_t":
        raw = r.integers(0, 256, SIZE, dtype=np.uint8)
        two = np.stack([raw & 15, raw >> 4], 1).reshape(-1).astype(np.int64)
        return raw, np.where(two >= 8, two - 16, two)
    if name in ("half", "float", "bfloat16_t"):
        n = SIZE // (4 if name == "float" else 2)
        scale = {"int4b_t": 6, "int8_t": 90, "uint8_t": 150, "int16_t": 2e4, "int32_t": 1e5}.get(
            to, 3.0
        )
        v = r.normal(size=n) * scale
        v = np.where(r.random(n) < 0.3, np.rint(v * 2) / 2, v)  # halves: the ties
        if to in ("half", "bfloat16_t") and name == "float":  # subnormal results and ties
            v = np.where(r.random(n) < 0.2, v * 2.0**-16, v)
            tie = (v.astype(F32).view(U32) & ~U32(0xFFFF)) | U32(
                0x8000 if to == "bfloat16_t" else 0x1000
            )
            v = np.where(r.random(n) < 0.2, tie.view(F32), v)
        if to in ("int32_t", "int64_t", "int16_t"):
            v[:8] = (
                [3e9, -3e9, 1e5, -1e5, 6e4, -6e4, 40000.5, -0.5]
                if name != "float"
                else [1e30, -1e30, 3e9, -3e9, 40000, -40000, 2.5, -2.5]
            )
        if name == "half":
            raw = np.clip(v, -65504, 65504).astype(F16)
            return raw, raw.astype(np.float64)
        if name == "bfloat16_t":
            raw = bf16(v)
            return raw, (raw.astype(U32) << 16).view(F32).astype(np.float64)
        return v.astype(F32), v.astype(F32).astype(np.float64)
    raw = numbers(NAMES[name], 5)
    return raw, raw.astype(np.int64)


def hash_of(text: str) -> int:
    return sum(ord(c) * (i + 1) for i, c in enumerate(text))


def cast_result(v: np.ndarray, to: str, mode: int) -> np.ndarray:
    if to == "bfloat16_t":
        return bf16(to_real(v, mode, 8, -133, 3.3895313892515355e38))
    if to == "half":
        return to_real(v.astype(np.float64), mode, 11, -24, 65504.0).astype(F16)
    if to == "float":
        if v.dtype != np.int64:
            return round_by(v, mode).astype(F32) if mode else v.astype(F32)
        return np.array([exact_float(int(i), mode) for i in v], F32)
    low, high = (-8, 7) if to == "int4b_t" else (np.iinfo(NAMES[to]).min, np.iinfo(NAMES[to]).max)
    r = v if v.dtype == np.int64 else round_by(v, mode)
    whole = [min(max(int(i), low), high) for i in r]
    return np.array(whole, np.int8 if to == "int4b_t" else NAMES[to])


def exact_float(i: int, mode: int) -> float:
    sign, mag = (-1, -i) if i < 0 else (1, i)
    drop = max(mag.bit_length() - 24, 0)
    q, rest = mag >> drop, mag & ((1 << drop) - 1)
    half = 1 << drop >> 1
    up = {
        2: rest > 0 and sign < 0,
        3: rest > 0 and sign > 0,
        4: drop > 0 and rest >= half,
        5: False,
    }.get(mode, drop > 0 and (rest > half or (rest == half and q & 1 == 1)))
    return float(sign * ((q + up) << drop))


SIZES = {"int4b_t": 0.5, "bfloat16_t": 2}


def size_of(name: str) -> float:
    return SIZES.get(name) or np.dtype(NAMES[name]).itemsize


@pytest.mark.parametrize("pair", CASTS, ids=lambda p: f"{p[0]}-{p[1]}")
def test_cast(pair):
    src, dst, modes = pair
    raw, values = cast_source(src, dst)
    s, d = size_of(src), size_of(dst)
    for mode in modes:
        for form in FORMS if mode == modes[0] else (COUNT, BITS):
            case = Case(form, int(max(s, d)), 11 * mode)
            got = launch(
                f"cast<{dst}, {src}>", raw.view(np.uint8), None, None, case.record(mode=mode)
            )
            at = (case.offsets("src0", s)[case.active] / s).astype(np.int64)
            want = cast_result(values[at], dst, mode)
            if dst == "int4b_t":
                image = buffer()
                byte = (case.offsets("dst", 0.5)[case.active] // 1).astype(np.int64)[::2]
                image[byte] = (want[0::2] & 15) | ((want[1::2] & 15) << 4)
                np.testing.assert_array_equal(got, image)
            else:
                expect(case, got, want, U16 if dst == "bfloat16_t" else NAMES[dst])


def test_cast_saturation():
    x = np.resize(np.array([np.inf, -np.inf, np.nan, 7e4, -7e4, 1.5], F32), SIZE // 4)
    case = Case(COUNT, 4)
    n = case.count
    got = launch("cast<half, float>", x, None, None, case.record(mode=1, op=2)).view(F16)[:n]
    np.testing.assert_array_equal(got[:6], np.array([65504, -65504, 0, 65504, -65504, 1.5], F16))
    got = launch("cast<half, float>", x, None, None, case.record(mode=1)).view(F16)[:n]
    np.testing.assert_array_equal(
        got[:6], np.array([np.inf, -np.inf, np.nan, np.inf, -np.inf, 1.5], F16)
    )
    y = np.resize(np.array([300, -300, 5], F16), SIZE // 2)
    got = launch("cast<int8_t, half>", y, None, None, case.record(mode=1)).view(np.int8)[:3]
    np.testing.assert_array_equal(got, [127, -128, 5])
    got = launch("cast<int8_t, half>", y, None, None, case.record(mode=1, op=3)).view(np.int8)[:3]
    np.testing.assert_array_equal(got, [300 - 256, 256 - 300, 5])


def test_cast_by_scale():
    x = rng().integers(-100000, 100000, SIZE // 4).astype(I32)
    for form in FORMS:
        case = Case(form, 4, 3)
        got = launch("cast<half, int32_t>", x, None, None, case.record(op=1, real=0.125))
        want = clipped(x[case.at("src0", I32)] * F32(0.125), F16)
        expect(case, got, want, F16)


# ------------------------------------------------------------------ compound
@pytest.mark.parametrize("form", [COUNT, BITS, LENGTH, REGISTER])
def test_mixed(form):
    for pair, ops in MIXED.items():
        dst, src = pair.split(", ")
        D, S = NAMES[dst], NAMES[src]
        for op in ops:
            x, y = numbers(S, 4), numbers(S, 6)
            if S in (I16, I32):
                x, y = x % S(200) - S(100), y % S(200) - S(100)
            elif dst == "int8_t":
                x, y = x * S(20), y * S(20)
            z = numbers(D, 8) if op < 2 else buffer().view(D)
            case = Case(form, max(np.dtype(D).itemsize, np.dtype(S).itemsize), op)
            got = launch(
                f"mixed<{pair}>", x, y, z.view(np.uint8), case.record(op=op, real=0.3)
            ).view(D)
            at = case.at("dst", D)
            a, b = wide(x[case.at("src0", S)]), wide(y[case.at("src1", S)])
            if op == 0:
                v = clipped(a * b + wide(z[at]), D)
            elif op == 1:
                v = clipped(wide(np.array([0.3], S)) * a + wide(z[at]), D)
            elif op == 2:
                v = clipped(relu((a + b) * F32(F16(0.3))), F16)
            else:
                v = relu(a + b if op == 3 else a - b)
                v = clipped(v, F16) if S in REALS else v
                v = (
                    np.clip(np.rint(v.astype(F32)), -128, 127).astype(np.int8)
                    if dst == "int8_t"
                    else v
                )
            want = z.copy()
            want[at] = v
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dst", [np.int8, np.uint8])
def test_multiply_and_convert(dst):
    x, y = numbers(F16, 1) * F16(8), numbers(F16, 2) * F16(8)
    for form in (COUNT, BITS, LENGTH, REGISTER):
        case = Case(form, 2, 4)
        got = launch(f"mulcast<{TYPES[np.dtype(dst)]}>", x, y, None, case.record())
        v = clipped(wide(x[case.at("src0", F16)]) * wide(y[case.at("src1", F16)]), F16).astype(F32)
        info = np.iinfo(dst)
        expect(case, got, np.clip(np.rint(v), info.min, info.max).astype(dst), dst)


@pytest.mark.parametrize("dst", [np.int8, np.uint8])
def test_dequantise(dst):
    x = rng(5).integers(-300, 300, SIZE // 2).astype(I16)
    info = np.iinfo(dst)
    name = f"dequant<{TYPES[np.dtype(dst)]}>"

    def convert(v, scale, offset):
        return np.clip(np.rint(v * scale) + offset, info.min, info.max).astype(dst)

    for form in (COUNT, BITS, LENGTH):
        case = Case(form, 2, 6)
        got = launch(name, x, None, None, case.record(op=0, real=0.5, scalar=-20))
        byte = case.offsets("dst", 2)[case.active]
        half_block = 0 if form == COUNT else 16
        at = (byte // 32 * 32 + half_block + byte % 32 / 2).astype(np.int64)
        image = buffer()
        image[at] = convert(x[case.at("src0", I16)], 0.5, -20).view(np.uint8)
        np.testing.assert_array_equal(got, image)
    got = launch(name, x, None, None, Case(COUNT, 2).record(op=1, count=256))
    k = np.arange(16)
    want = convert(x[:256].reshape(16, 16), 0.25 * (k + 1), k - 8).view(np.uint8)
    np.testing.assert_array_equal(got[:512].reshape(16, 32), np.concatenate([want, want], 1))


# ------------------------------------------------------------------ compare and select
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


# ------------------------------------------------------------------ filling, operators
@pytest.mark.parametrize(
    "name", ["half", "float", "bfloat16_t", "int16_t", "uint16_t", "int32_t", "uint32_t"]
)
def test_fill(name):
    dtype = NAMES.get(name, U16)
    value = (
        bf16(np.array([0.3]) * (1 + 2**-9))[0]
        if name == "bfloat16_t"
        else dtype(0.3 if name in ("half", "float") else 77)
    )
    value = (
        dtype(torch.tensor(0.3).bfloat16().view(torch.int16).item())
        if name == "bfloat16_t"
        else value
    )
    for op, form in enumerate((COUNT, BITS, LENGTH, REGISTER)):
        case = Case(form, np.dtype(dtype).itemsize, op)
        got = launch(f"fill<{name}>", None, None, None, case.record(op=op, real=0.3, scalar=77))
        expect(case, got, np.full(case.active.sum(), value), dtype)
    if name in ("bfloat16_t", "uint16_t", "uint32_t"):
        return
    for op, form in ((5, COUNT), (6, BITS), (7, LENGTH)):
        case = Case(form, np.dtype(dtype).itemsize, op)
        got = launch(f"fill<{name}>", None, None, None, case.record(op=op, real=3, scalar=3))
        index = np.arange(case.active.size).reshape(case.active.shape) + 3
        expect(case, got, index[case.active].astype(dtype), dtype)


@pytest.mark.parametrize(
    "name", ["half", "float", "bfloat16_t", "int16_t", "uint16_t", "int32_t", "uint32_t"]
)
def test_broadcast_blocks(name):
    dtype = NAMES.get(name, U16)
    x = rng(1).integers(0, 9999, SIZE // np.dtype(dtype).itemsize).astype(dtype)
    per = 32 // np.dtype(dtype).itemsize
    for repeats, blk, rep in ((1, 1, 8), (5, 1, 8), (3, 2, 17), (4, 5, 1)):
        call = Case(BITS, 2).record(op=4, repeats=repeats, dstBlk=blk, dstRep=rep)
        got = launch(f"fill<{name}>", x, None, None, call)
        image = buffer().view(dtype).reshape(-1, per)
        for r in range(repeats):
            for b in range(8):
                image[r * rep + b * blk] = x[r * 8 + b]
        np.testing.assert_array_equal(got.view(dtype).reshape(-1, per), image)


def test_operators():
    for op in (0, 1, 2, 3, 6, 7):
        dtype = F32 if op < 4 else I16
        x, y = numbers(dtype, 1), numbers(dtype, 2)
        case = Case(COUNT, np.dtype(dtype).itemsize, op)
        got = launch("operators", x, y, None, case.record(op=op))
        a, b = x[: case.count], y[: case.count]
        expect(case, got, BINARY[op][0](a, b), dtype)


def test_tensor_trait():
    x, y = numbers(F32, 1), numbers(F32, 2)
    case = Case(COUNT, 4)
    got = launch("traits", x, y, None, case.record(count=256, real=1.5)).view(F32)
    np.testing.assert_array_equal(got[:256], (x[:256] + F32(1.5)) * y[:256] * F32(2))


@pytest.mark.parametrize("each_block", [False, True])
def test_bilinear_interpolation(each_block):
    for seed, (h, v) in enumerate(((2, 2), (1, 3), (5, 1), (3, 4))):
        x = (rng(seed).integers(-8, 8, SIZE // 2)).astype(F16)
        blocks = rng(seed + 9).integers(0, 500, h * v * 8)
        x.view(U32)[SIZE // 8 :][: blocks.size] = blocks * 32
        y = rng(seed + 5).integers(-3, 4, SIZE // 2).astype(F16)
        case = Case(BITS if seed % 2 else LENGTH, 2, seed)
        call = case.record(mode=each_block, src0Rep=h, src1Rep=v, dstBlk=1 + seed % 2, scalar=256)
        got = launch("bilinear", x, y, None, call).view(F16)
        source = x.reshape(-1, 16)[blocks].reshape(v, h, 8, 16)
        weights = (
            y[: h * v * 8].reshape(v, h, 8, 1) if each_block else y[: h * v].reshape(v, h, 1, 1)
        )
        want = (source * weights).sum(1).reshape(v, 128)
        lane = np.arange(128)
        image = buffer().view(F16)
        for row in range(v):
            at = row * 256 + lane // 16 * 16 * (1 + seed % 2) + lane % 16
            image[at[case.active[0]]] = want[row][case.active[0]]
        np.testing.assert_array_equal(got, image)


def test_control_register():
    x = np.resize(np.array([2, -2, 0.5], F16), SIZE // 2)
    got = launch("control", x, None, None, Case(COUNT, 2).record()).view(F16)
    inf = np.resize(np.array([np.inf, -np.inf, 32752], F16), 128)
    finite = np.clip(inf, -65504, 65504)
    np.testing.assert_array_equal(got[:384], np.concatenate([inf, finite, inf]))
    assert got[384] == 0 and got[385] == 1


LATER = """
#include "kernel_operator.h"
using namespace AscendC;
__global__ __aicore__ void later(GM_ADDR x, GM_ADDR y, GM_ADDR z, int op) {
  TPipe pipe;
  TBuf<> bufs[3];
  LocalTensor<float> t[3];
  GlobalTensor<float> g[3];
  for (int i = 0; i < 3; ++i) {
    pipe.InitBuffer(bufs[i], 512);
    t[i] = bufs[i].Get<float>();
    g[i].SetGlobalBuffer((__gm__ float*)(i == 0 ? x : i == 1 ? y : z));
    if (i < 2) DataCopy(t[i], g[i], 128);
  }
  PipeBarrier<PIPE_ALL>();
  if (op == 0) Neg(t[2], t[0], 128u);
  if (op == 1) Prelu(t[2], t[0], t[1], 128u);
  if (op == 2) AbsSub(t[2], t[0], t[1], 128u);
  PipeBarrier<PIPE_ALL>();
  DataCopy(g[2], t[2], 128);
}
"""


def test_later_architecture():
    a, b = numbers(F32, 1)[:128].copy(), numbers(F32, 2)[:128].copy()
    for op, want in enumerate((-a, np.where(a >= 0, a, a * b), np.abs(a - b))):
        got = np.zeros_like(a)
        load(LATER, chip="950")(a, b, got, op)
        np.testing.assert_array_equal(got, want)
        found = load(LATER, check=False)(a, b, got, op).errors
        assert [e.rule for e in found] == ["chip"]


# ------------------------------------------------------------------ checks
FAULTS = {
    1: ("align", "32 bytes"),
    2: ("bounds", "past the end"),
    3: ("param", "repeatTime is 256"),
    4: ("init", "never written"),
    5: ("param", "overlap in part"),
    6: ("param", "which repeat 0 of the same call has written"),
    7: ("param", "block stride is 0"),
    8: ("param", "multiple of 256 bytes"),
    9: ("param", "SetDeqScale"),
    10: ("param", "CAST_ODD"),
    11: ("param", "shift distance is 17"),
    12: ("param", "CMPMODE::EQ"),
    13: ("param", "tensors apart"),
    14: ("param", "overlap in part"),
}


def fault_errors(op: int):
    kernel = load(SOURCE, "faults", instantiate=TEMPLATES, check=False)
    x = numbers(F32, 3).view(np.uint8)
    return kernel(x, x.copy(), buffer(), Case(COUNT, 4).record(op=op)).errors


@pytest.mark.parametrize("op", FAULTS)
def test_fault(op):
    rule, text = FAULTS[op]
    found = fault_errors(op)
    assert any(e.rule == rule and text in e.text for e in found), [str(e) for e in found]
    assert found[0].file.endswith("vector.asc") and found[0].line > 0


@pytest.mark.parametrize("op", [0, 20, 21, 22, 23, 24, 25])
def test_allowed(op):
    assert not fault_errors(op)


def test_in_place():
    for dtype in (F16, F32, I16, I32):
        for alias in (1, 2):
            x, y = numbers(dtype, 4), numbers(dtype, 5)
            case = Case(COUNT, np.dtype(dtype).itemsize, 13)
            got = launch(
                f"binary<{TYPES[np.dtype(dtype)]}>", x, y, None, case.record(alias=alias)
            ).view(dtype)
            want = (x if alias == 1 else y).copy()
            n = case.count
            with np.errstate(over="ignore"):
                want[:n] = clipped(wide(x[:n]) + wide(y[:n]), dtype)
            np.testing.assert_array_equal(got, want)


def test_accumulates_through_second_source():
    x = numbers(F32, 6)
    case = Case(LENGTH, 4)
    call = case.record(op=0, repeats=7, alias=2)
    call["mask"] = (64, 0)
    call["dstBlk"] = call["src0Blk"] = call["src1Blk"] = 1
    call["dstRep"], call["src0Rep"], call["src1Rep"] = 0, 8, 0
    y = numbers(F32, 7)
    got = launch("binary<float>", x, y, None, call).view(F32)[:64]
    want = y[:64].copy()
    for r in range(7):
        want = x[r * 64 : r * 64 + 64] + want
    np.testing.assert_array_equal(got, want)


def test_speed():
    """16M additions with all checks take half a second; the limit is for a busy host."""
    x = numbers(F32)
    call = Case(COUNT, 4).record(repeats=2048)
    launch("passes", x, x, None, call)
    start = time.perf_counter()
    launch("passes", x, x, None, call)
    assert time.perf_counter() - start < 5
