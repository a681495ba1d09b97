"""Every check catches its planted fault and is silent on the correct twin, in any core order."""

import re
from pathlib import Path

import numpy as np
import pytest

from xcompile import sim
from xcompile.errors import SimulationError

SOURCE = Path(__file__).parent / "kernels" / "faults.asc"
NAMES = re.findall(r"__global__ .*? void (\w+)\(GM_ADDR", SOURCE.read_text())

# Fault: the rule that must name it, and what the text must say.
FAULTS = {
    "missing_load_wait": ("race", "MTE2_V"),
    "missing_store_wait": ("race", "V_MTE3"),
    "missing_reuse_wait": ("race", "V_MTE2"),
    "set_without_wait": ("flag", "end of the kernel"),
    "set_twice": ("flag", "set again"),
    "wait_without_set": ("deadlock", "would hang"),
    "overlapping_loads": ("race", "PipeBarrier<PIPE_MTE2>"),
    "missing_enque": ("queue", "EnQue is missing"),
    "missing_deque": ("race", "MTE2_V"),
    "missing_free": ("queue", "FreeTensor is missing"),
    "use_after_free": ("queue", "after FreeTensor"),
    "free_twice": ("queue", "already freed"),
    "unwritten_ub": ("init", "never written"),
    "partly_unwritten_ub": ("init", "512 bytes were never written"),
    "unwritten_gm": ("init", "never written"),
    "ub_overflow": ("bounds", "are left"),
    "past_tensor": ("bounds", "past the end of the tensor's buffer"),
    "past_ub": ("bounds", "UB"),
    "past_gm": ("bounds", "past its end"),
    "misaligned_ub": ("align", "32"),
    "l0c_overflow": ("bounds", "L0C"),
    "wrong_repeat_stride": ("bounds", "past the end"),
    "cross_core_race": ("race", "between cores"),
    "same_output": ("race", "between cores"),
    "barrier_deadlock": ("deadlock", "SyncAll"),
    "cross_flag_deadlock": ("deadlock", "cross-core flag 3"),
    "poll_forever": ("deadlock", "again and again"),
}


def run(name: str, seed: int = 0, **options) -> sim.Result:
    kernel = sim.load(SOURCE, name, **options)
    x = np.arange(4 * 256, dtype=np.float32).reshape(4, 256)
    y = np.zeros_like(x)
    return kernel(x, sim.Out(y) if name == "unwritten_gm" else y, blocks=4, seed=seed)


def test_every_kernel_is_tested():
    assert set(NAMES) == {*FAULTS, "never_freed", *(n for n in NAMES if n.startswith("ok_"))}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name):
    rule, text = FAULTS[name]
    with pytest.raises(SimulationError) as caught:
        run(name)
    found = [e for e in caught.value.errors if e.rule == rule]
    assert found, f"expected a {rule} error, got {caught.value}"
    assert any(text in e.text for e in found), str(caught.value)
    if rule != "deadlock":  # of all cores: no single place
        assert all(e.kernel == name and e.line > 0 and e.core for e in found)
        assert all(Path(e.file).name == SOURCE.name for e in found)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("ok_")])
def test_correct_kernels_are_silent(name):
    for seed in range(100):
        assert not run(name, seed=seed).errors


def test_a_buffer_left_at_the_end_is_a_warning(capfd):
    assert not run("never_freed").errors
    assert "warning [queue]" in capfd.readouterr().err


def test_races_do_not_depend_on_the_order_of_the_cores():
    for seed in range(20):
        with pytest.raises(SimulationError, match="between cores"):
            run("cross_core_race", seed=seed)


def test_checks_can_be_switched_off():
    assert not run("missing_load_wait", checks="all,-race").errors
    assert not run("unwritten_ub", checks="none").errors


def test_without_automatic_synchronisation_the_vector_pipe_needs_barriers():
    source = """
    #include "kernel_operator.h"
    using namespace AscendC;
    __global__ __vector__ void chain(GM_ADDR) {
      LocalTensor<float> a(TPosition::VECCALC, 0, 64), b(TPosition::VECCALC, 256, 64);
      Duplicate(a, 1.0f, 64);
      Adds(b, a, 1.0f, 64);
    }
    """
    x = np.zeros(8, np.float32)
    assert not sim.load(source, "chain")(x).errors
    with pytest.raises(SimulationError, match="PipeBarrier<PIPE_V>"):
        sim.load(source, "chain", auto_sync=False)(x)


def test_two_runs_are_identical():
    def once():
        kernel = sim.load(SOURCE, "ok_atomic_output")
        x = np.zeros((4, 256), np.float32)
        result = kernel(x, np.zeros_like(x), blocks=4)
        return x.tobytes(), result.cycles

    assert once() == once()
