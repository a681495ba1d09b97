"""Element-wise arithmetic of the simulator against numpy: every call, type and form."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.sim.vector_harness import (
    BITS,
    COUNT,
    F16,
    F32,
    FORMS,
    I16,
    I32,
    LENGTH,
    MIXED,
    NAMES,
    REGISTER,
    TYPES,
    U16,
    U32,
    Case,
    buffer,
    clipped,
    expect,
    launch,
    numbers,
    wide,
)
from xcompile.sim.loader import load


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


def test_speed():
    """16M additions with all checks take half a second; the limit is for a busy host."""
    x = numbers(F32)
    call = Case(COUNT, 4).record(repeats=2048)
    launch("passes", x, x, None, call)
    start = time.perf_counter()
    launch("passes", x, x, None, call)
    assert time.perf_counter() - start < 5
