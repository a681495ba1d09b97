"""Conversions of the simulator against numpy: every pair of types and rounding mode."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.vector_harness import (
    BITS,
    CASTS,
    COUNT,
    F16,
    F32,
    FORMS,
    I16,
    I32,
    LENGTH,
    NAMES,
    REGISTER,
    SIZE,
    TYPES,
    U16,
    U32,
    Case,
    bf16,
    buffer,
    clipped,
    expect,
    launch,
    numbers,
    rng,
    wide,
)


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
