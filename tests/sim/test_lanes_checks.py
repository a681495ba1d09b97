"""What the simulator refuses in calls that combine or move lanes, and calls of other chips."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.lanes_harness import F32, RNG, U32, launch
from xcompile.errors import BuildError
from xcompile.sim.loader import load


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
