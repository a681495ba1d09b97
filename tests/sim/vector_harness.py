"""One element-wise vector call per launch: operands, lanes and results, for test_vector_*.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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


def clipped(v: np.ndarray, dtype) -> np.ndarray:
    """The values in a narrower type; half overflows to infinity, as programs are launched."""
    with np.errstate(over="ignore", invalid="ignore"):
        return v.astype(dtype)


def bf16(v: np.ndarray) -> np.ndarray:
    return (v.astype(F32).view(U32) >> 16).astype(U16)
