"""Filling, repeating and interpolating vector calls of the simulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.sim.vector_harness import (
    BITS,
    COUNT,
    F16,
    LENGTH,
    NAMES,
    REGISTER,
    SIZE,
    U16,
    U32,
    Case,
    bf16,
    buffer,
    expect,
    launch,
    rng,
)


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
