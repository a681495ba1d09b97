"""What the simulator refuses and allows in element-wise calls; the control register."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.vector_harness import (
    COUNT,
    F16,
    F32,
    I16,
    I32,
    LENGTH,
    SIZE,
    SOURCE,
    TEMPLATES,
    TYPES,
    Case,
    buffer,
    clipped,
    launch,
    numbers,
    wide,
)
from xcompile.sim.loader import load


def test_control_register():
    x = np.resize(np.array([2, -2, 0.5], F16), SIZE // 2)
    got = launch("control", x, None, None, Case(COUNT, 2).record()).view(F16)
    inf = np.resize(np.array([np.inf, -np.inf, 32752], F16), 128)
    finite = np.clip(inf, -65504, 65504)
    np.testing.assert_array_equal(got[:384], np.concatenate([inf, finite, inf]))
    assert got[384] == 0 and got[385] == 1


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
