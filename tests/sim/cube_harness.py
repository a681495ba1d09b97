"""Kernels of cube.asc, and fractals arranged in numpy, for test_cube_*.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xcompile import sim

SOURCE = Path(__file__).parent / "kernels" / "cube.asc"
INPUTS = {
    "half": "float",
    "float": "float",
    "bfloat16_t": "float",
    "int8_t": "int32_t",
    "int4b_t": "int32_t",
}
PRODUCTS = [("half", "float", o) for o in ("float", "half", "bfloat16_t", "int8_t", "uint8_t")] + [
    ("float", "float", "float"),
    ("int8_t", "int32_t", "int32_t"),
    ("int8_t", "int32_t", "half"),
    ("int8_t", "int32_t", "int8_t"),
    ("int8_t", "int32_t", "uint8_t"),
]
TEMPLATES = [
    *(f"raw_mmad<{t}, {d}>" for t, d in INPUTS.items()),
    *(f"loaded<{t}, {d}, {left}>" for t, d in INPUTS.items() for left in ("true", "false")),
    *(f"img2col<{t}, {left}>" for t in ("half", "float") for left in ("true", "false")),
    *(f"product<{t}, {d}, {o}>" for t, d, o in PRODUCTS),
]
NUMPY = {
    "half": np.float16,
    "float": np.float32,
    "int8_t": np.int8,
    "uint8_t": np.uint8,
    "int4b_t": np.int8,
    "int32_t": np.int32,
}


def kernel(name: str, **options: Any) -> sim.Kernel:
    return sim.load(SOURCE, name, instantiate=TEMPLATES, **options)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def up(a: int, b: int) -> int:
    return -(-a // b) * b


def c0(dtype: str) -> int:
    return {"half": 16, "bfloat16_t": 16, "float": 8, "int8_t": 32, "int4b_t": 64}[dtype]


def values(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Small whole numbers: exact in every type."""
    top = 8 if dtype == "int4b_t" else 16
    v = rng(seed).integers(-top, top, shape)
    return v.astype(np.float32 if dtype == "bfloat16_t" else NUMPY[dtype])


def stored(x: np.ndarray, dtype: str) -> np.ndarray:
    """The bytes of elements: bfloat16 by its upper half, int4 in pairs, low nibble first."""
    flat = x.ravel()
    if dtype == "bfloat16_t":
        return (flat.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    if dtype == "int4b_t":
        n = flat.astype(np.uint8) & 15
        return n[::2] | (n[1::2] << 4)
    return np.ascontiguousarray(flat.astype(NUMPY[dtype])).view(np.uint8)


def tiles(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Padded with zeros and cut: [row blocks, column blocks, rows, columns]."""
    m, n = up(x.shape[0], rows), up(x.shape[1], columns)
    padded = np.zeros((m, n), x.dtype)
    padded[: x.shape[0], : x.shape[1]] = x
    return padded.reshape(m // rows, rows, n // columns, columns).transpose(0, 2, 1, 3)


def zz(a: np.ndarray, dtype: str) -> np.ndarray:
    return stored(tiles(a, 16, c0(dtype)), dtype)


def zn(b: np.ndarray, dtype: str) -> np.ndarray:
    return stored(tiles(b, c0(dtype), 16).transpose(0, 1, 3, 2), dtype)


def nz(x: np.ndarray, dtype: str) -> np.ndarray:
    return stored(tiles(x, 16, c0(dtype)).transpose(1, 0, 2, 3), dtype)


def exact(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int64)
