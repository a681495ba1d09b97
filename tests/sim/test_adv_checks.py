"""What the simulator refuses in calls of the high-level vector API."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.adv_harness import launch
from xcompile.errors import BuildError
from xcompile.sim.loader import load


def test_small_temporary_buffer_is_an_error():
    x = np.ones(64, np.float32)
    assert launch(21, np.float32, [x], [x], [64], tmp=128, check=False)[1] == ["param"]
    assert launch(21, np.float32, [x], [x], [64], tmp=256, check=False)[1] == []


def test_reads_past_the_tensor_are_errors():
    x = np.ones(64, np.float32)
    assert "bounds" in launch(21, np.float32, [x], [x], [128], check=False)[1]


def test_calls_of_other_chips_do_not_compile():
    source = """#include "kernel_operator.h"
    extern "C" __global__ __vector__ void k(GM_ADDR p) {
      AscendC::TPipe pipe; AscendC::TBuf<> b; pipe.InitBuffer(b, 256);
      AscendC::LocalTensor<half> t = b.Get<half>(); AscendC::Hypot(t, t, t, 32);
    }"""
    with pytest.raises(BuildError, match="Hypot is not supported on this chip"):
        load(source, "k")
