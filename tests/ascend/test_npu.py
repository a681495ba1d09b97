"""torch.compile on NPU tensors, with stand-ins: CPU tensors for the NPU's, a stub for torch_npu,
and a Python function or the simulator's library for the step that CANN would build."""

from __future__ import annotations

import builtins
import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from torch import nn

from xcompile.backend import xllm
from xcompile.codegen.ascend.builder import AscendBuilder, Phase
from xcompile.errors import ShapeError, UnsupportedError, XCompileError
from xcompile.ir import Node
from xcompile.runtime import npu
from xcompile.runtime.ascend_link import Cann, Simulator
from xcompile.runtime.npu import NpuExecutor
from xcompile.sim.loader import Options

STREAM = 0x5EED
CPU = torch.device("cpu")


class FakeNpu:
    """torch_npu.npu as far as we use it. `log` says what was asked, in order."""

    def __init__(self, name: str = "Ascend910B3", stream: int = STREAM) -> None:
        self.name, self.stream, self.log = name, stream, list[str]()
        self.available = True

    def is_available(self) -> bool:
        return self.available

    def get_device_name(self, device: torch.device) -> str:
        return self.name

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        self.log.append(f"device {device}")
        yield
        self.log.append("device ends")

    def current_stream(self, device: torch.device) -> Any:
        self.log.append("stream")
        return SimpleNamespace(npu_stream=self.stream)


class FakeStep:
    """A step's library and ACL: xc_step keeps what it was given, and runs `work` on it."""

    def __init__(
        self, work: Callable[[FakeStep], None], table_bytes: int = 0, code: int = 0
    ) -> None:
        self.library = self.acl = self
        self.work, self.code, self.calls = work, code, 0
        self.xc_capture = self.xc_replay = self.xc_release = lambda: None
        for name in ("xc_step", "xc_table_bytes", "xc_tables"):  # restype may be set on these
            setattr(self, name, _function(getattr(self, f"_{name}")))
        self.table_bytes = table_bytes

    def aclrtGetDeviceInfo(self, device: Any, attribute: int, out: Any) -> int:
        out._obj.value = {102: 20, 201: 40}[attribute]
        return 0

    def _xc_table_bytes(self) -> int:
        return self.table_bytes

    def _xc_tables(self, pointers: Any, at: Any, out: Any) -> None:
        _words(out.value, 2)[:] = [_words(pointers.value, 3)[2], int(_words(at.value, 1)[0])]

    def _xc_step(
        self, stream: Any, cores: Any, pointers: Any, at: Any, sizes: Any, tables: Any
    ) -> int:
        self.stream = stream.value
        self.cores = (cores._obj.cube, cores._obj.vector)
        self.pointers = _words(pointers.value, 16)
        self.at, self.sizes, self.tables = at.value, sizes.value, tables.value
        self.calls += 1
        self.work(self)
        return self.code


def _function(f: Callable) -> Callable:
    return lambda *args: f(*args)


def _words(address: int, n: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint64 * n).from_address(int(address)))


def _floats(address: int, n: int) -> torch.Tensor:
    return torch.frombuffer((ctypes.c_float * n).from_address(int(address)), dtype=torch.float32)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNpu:
    """CPU tensors count as NPU tensors, and every node is a kernel without a body."""
    torch._dynamo.reset()
    stub = FakeNpu()
    monkeypatch.setattr(npu, "DEVICE", "cpu")
    monkeypatch.setattr(npu, "require", lambda: SimpleNamespace(npu=stub))
    monkeypatch.setattr(AscendBuilder, "build", _empty_phase)
    return stub


def _empty_phase(self: AscendBuilder, n: Node) -> Phase:
    return self.phase(n.op.name, "vector", n, [*n.inputs, *n.outputs], "")


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, 8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


# -- pointers, sizes, stream ----------------------------------------------------------------------
def test_a_step_gets_stream_cores_pointers_and_sizes(
    fake: FakeNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(s: FakeStep) -> None:
        """out = x * weight, of what the pointers point to: arena, constants, x, out."""
        (rows,) = _words(s.sizes, 1).tolist()
        _, consts, x, out = s.pointers[:4]
        weight = _floats(_words(consts, 1)[0], 8)
        _floats(out, rows * 8).view(rows, 8).copy_(_floats(x, rows * 8).view(rows, 8) * weight)

    step = FakeStep(work)
    sources: list[dict[str, str]] = []

    def link(s: dict[str, str]) -> FakeStep:
        sources.append(s)
        return step

    monkeypatch.setattr(npu, "CannLink", link)
    model = Scale()
    fast = torch.compile(model, backend=xllm, dynamic=True, fullgraph=True)
    for rows in (3, 5, 3):
        x = torch.randn(rows, 8)
        got = fast(x)
        assert torch.equal(got, model(x))
        assert step.stream == STREAM and step.cores == (20, 40) and step.tables is None
        assert step.pointers[2] == x.data_ptr() and step.pointers[3] == got.data_ptr()
        assert step.pointers[0] % 64 == 0
    assert len(sources) == 1 and "host.cpp" in sources[0] and step.calls == 3
    assert fake.log == ["device cpu", "stream", "device ends"] * 3

    with torch.no_grad():
        model.weight.mul_(2)  # packed once more, onto the device
    assert torch.equal(fast(x), model(x)) and len(sources) == 2


def test_weights_are_packed_once(fake: FakeNpu, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[int] = []
    step = FakeStep(lambda s: tables.append(int(_words(s.pointers[1], 1)[0])))
    monkeypatch.setattr(npu, "CannLink", lambda sources: step)
    fast = torch.compile(Scale(), backend=xllm, fullgraph=True)
    for _ in range(3):
        fast(torch.randn(3, 8))
    assert len(tables) == 3 and len(set(tables)) == 1


def test_views_that_begin_anywhere_are_copied(
    fake: FakeNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    step = FakeStep(lambda s: seen.append(_floats(s.pointers[2], 24).clone()))
    monkeypatch.setattr(npu, "CannLink", lambda sources: step)
    fast = torch.compile(Scale(), backend=xllm, fullgraph=True)
    x = torch.randn(25)[1:].view(3, 8)
    fast(x)
    assert step.pointers[2] % 32 == 0 and step.pointers[2] != x.data_ptr()
    assert torch.equal(seen[0], x.flatten())


class Cache(nn.Module):
    def forward(self, cache: torch.Tensor, at: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        cache.index_copy_(0, at, x)
        return x + 1


def test_state_is_given_as_it_is(fake: FakeNpu, monkeypatch: pytest.MonkeyPatch) -> None:
    step = FakeStep(lambda s: None)
    monkeypatch.setattr(npu, "CannLink", lambda sources: step)
    fast = torch.compile(Cache(), backend=xllm, fullgraph=True)
    cache, at, x = torch.zeros(9, 8), torch.tensor([1, 4]), torch.randn(2, 8)
    out = fast(cache, at, x)
    given = [t.data_ptr() for t in (cache, at, x)]
    assert sorted(step.pointers[2:5].tolist()) == sorted(given)
    assert step.pointers[5] == out.data_ptr()
    with pytest.raises(ShapeError, match="multiple of 32 bytes"):
        fast(torch.zeros(73)[1:].view(9, 8), at, x)


def test_tables_of_pointers_are_filled_once_per_set_of_pointers() -> None:
    from xcompile.ir import Type
    from xcompile.runtime.program import Program, TensorSpec
    from xcompile.targets.ascend import CHIPS

    kind = Type(torch.float32, (4,))
    program = Program([TensorSpec("x", kind)], [], [], {}, [], [], [], 1)
    filled: list[list[int]] = []
    step = FakeStep(lambda s: filled.append(_words(s.tables, 2).tolist()), table_bytes=16)
    module = SimpleNamespace(npu=FakeNpu())
    run = NpuExecutor(program, step, [], CHIPS["ascend910b1"], module, CPU)  # type: ignore[arg-type]
    x = torch.randn(4)
    arena = torch.zeros(512, dtype=torch.uint8)
    run._empty = lambda shape, dtype: arena  # type: ignore[method-assign]
    for _ in range(2):
        assert run(x) == []
    assert filled == [[x.data_ptr(), 0]] * 2 and len(run._tables) == 1


# -- in the simulator -----------------------------------------------------------------------------
class OnSimulator(NpuExecutor):
    """Tensors whose memory is the simulated device's."""

    def __init__(self, program: Any, link: Any, consts: Any, chip: Any, module: Any, *rest: Any):
        acl, self.stream = link.acl, ctypes.c_void_p()
        acl.aclInit(None)
        assert not acl.aclrtSetDevice(0)
        assert not acl.aclrtCreateStream(ctypes.byref(self.stream))
        module.npu.stream, self.link = self.stream.value, link
        super().__init__(program, link, [self.put(t) for t in consts], chip, module, *rest)

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        args = [self.put(t) for t in tensors]
        with self.link.session(Options("910B3"), None) as watch:
            outs = super().__call__(*args)
            assert not self.link.acl.aclrtSynchronizeStream(self.stream)
            assert not watch.errors()
        return outs

    def _empty(self, shape: Any, dtype: torch.dtype) -> torch.Tensor:
        p, n = ctypes.c_void_p(), int(np.prod(shape)) * dtype.itemsize
        assert not self.link.acl.aclrtMalloc(ctypes.byref(p), ctypes.c_size_t(max(n, 32)), 0)
        raw = (ctypes.c_char * n).from_address(int(p.value or 0))
        return torch.frombuffer(raw, dtype=dtype).view(tuple(shape))

    def _upload(self, values: np.ndarray) -> torch.Tensor:
        return self.put(torch.from_numpy(values.view(np.int64)))

    def put(self, t: torch.Tensor) -> torch.Tensor:
        out, n = self._empty(t.shape, t.dtype), ctypes.c_size_t(t.nbytes)
        to, source = ctypes.c_void_p(out.data_ptr()), ctypes.c_void_p(t.data_ptr())
        assert not self.link.acl.aclrtMemcpy(to, n, source, n, 1)
        return out


SCALE = """
  TQue<TPosition::VECIN, 1> in;
  TQue<TPosition::VECOUT, 1> out;
  pipe.InitBuffer(in, 2, 32);
  pipe.InitBuffer(out, 2, 32);
  const Range mine = split(SIZE, team);
  for (i64 row = mine.begin; row < mine.end; ++row) {
    LocalTensor<float> x = in.AllocTensor<float>(), w = in.AllocTensor<float>();
    DataCopy(x, global<float>(a0)[row * 8], 8);
    DataCopy(w, global<float>(a1), 8);
    in.EnQue(x);
    in.EnQue(w);
    x = in.DeQue<float>();
    w = in.DeQue<float>();
    LocalTensor<float> y = out.AllocTensor<float>();
    Mul(y, x, w, 8);
    out.EnQue(y);
    in.FreeTensor(x);
    in.FreeTensor(w);
    y = out.DeQue<float>();
    DataCopy(global<float>(a2)[row * 8], y, 8);
    out.FreeTensor(y);
  }
"""


def test_the_simulators_library_runs_as_a_step(
    fake: FakeNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(self: AscendBuilder, n: Node) -> Phase:
        text = SCALE.replace("SIZE", self.symbols[0])
        return self.phase("scale", "vector", n, [*n.inputs, *n.outputs], text)

    monkeypatch.setattr(AscendBuilder, "build", build)
    monkeypatch.setattr(npu, "CannLink", lambda sources: Simulator(sources, "ascend910b3"))
    monkeypatch.setattr(npu, "NpuExecutor", OnSimulator)
    model = Scale()
    fast = torch.compile(model, backend=xllm, dynamic=True, fullgraph=True)
    for rows in (2, 50, 2):
        x = torch.randn(rows, 8)
        assert torch.equal(fast(x), model(x))


# -- what is missing, and what cannot be ----------------------------------------------------------
@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither torch_npu nor CANN nor cmake."""
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")


@pytest.mark.usefixtures("bare")
def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(XCompileError) as e:
        npu.require()
    text = str(e.value)
    parts = ("torch_npu cannot be imported", "xcompile[npu]", "set_env.sh", "no CANN was found",
             "ASCEND_HOME_PATH", "no cmake", "options={'target'")  # fmt: skip
    for part in parts:
        assert part in text
    assert text.count("\n  - ") == 3


def test_each_thing_alone_is_enough_to_refuse(
    bare: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub = FakeNpu()
    monkeypatch.setitem(sys.modules, "torch_npu", SimpleNamespace(npu=stub))
    monkeypatch.setattr(npu, "find_cann", lambda: Cann(tmp_path, tmp_path / "bisheng"))
    with pytest.raises(XCompileError, match="no cmake") as e:
        npu.require()
    assert str(e.value).count("\n  - ") == 1
    cmake = tmp_path / "cmake"
    cmake.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert npu.require().npu is stub
    stub.available = False
    with pytest.raises(XCompileError, match="sees no NPU: check `npu-smi info`"):
        npu.require()


@pytest.mark.usefixtures("bare")
def test_nothing_runs_before_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(npu, "DEVICE", "cpu")
    monkeypatch.setattr("xcompile.backend.from_dynamo", lambda *a: pytest.fail("imported"))
    with pytest.raises(Exception, match=r"(?s)torch_npu cannot be imported.*ASCEND_HOME_PATH"):
        torch.compile(Scale(), backend=xllm)(torch.randn(3, 8))


def test_cpu_tensors_never_look_for_torch_npu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    real = builtins.__import__

    def guarded(name: str, *args: Any, **kw: Any) -> Any:
        assert not name.startswith("torch_npu")
        return real(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", guarded)
    model, x = Scale(), torch.randn(3, 8)
    assert torch.equal(torch.compile(model, backend=xllm)(x), model(x))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("Ascend910B1", "ascend910b1"),
        ("Ascend910B2C", "ascend910b2"),
        ("Ascend910B4-1", "ascend910b4"),
        ("Ascend910_9382", "ascend910_93"),
        ("Ascend910_9589", "ascend950"),
        ("Ascend950PR", "ascend950"),
    ],
)
def test_the_target_is_the_devices(name: str, target: str) -> None:
    assert npu.chip_name(name) == target


def test_targets() -> None:
    def made(chosen: str | None, name: str) -> str:
        module = SimpleNamespace(npu=FakeNpu(name))
        return npu.make_target(chosen, module, CPU).isa

    assert made(None, "Ascend910B3") == "ascend910b3"
    assert made("ascend910b1/step", "Ascend310P3") == "ascend910b1"
    with pytest.raises(XCompileError, match=r"device 'Ascend310P3'.*options="):
        made(None, "Ascend310P3")
    with pytest.raises(XCompileError, match="no kernels are written for it yet"):
        made(None, "Ascend950PR")
    with pytest.raises(XCompileError, match="target 'cpu' cannot run on NPU tensors"):
        made("cpu", "Ascend910B3")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    x, far = torch.zeros(2), torch.zeros(2, device="meta")
    assert npu.device_of([x, 3, far]) is None
    monkeypatch.setattr(npu, "DEVICE", "meta")
    assert npu.device_of([far, 3, torch.tensor(1.5)]) == torch.device("meta")
    with pytest.raises(XCompileError, match="on cpu, meta; move all of them to one NPU"):
        npu.device_of([x, far])


def test_islands_and_failed_launches_are_errors(
    fake: FakeNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npu, "CannLink", lambda sources: FakeStep(lambda s: None, code=507015))
    with pytest.raises(XCompileError, match="ACL error 507015"):
        torch.compile(Scale(), backend=xllm)(torch.randn(3, 8))

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(x)

    with pytest.raises(Exception, match=r"eager islands do not run on Ascend: .*linalg_inv") as e:
        torch.compile(Odd(), backend=xllm)(torch.eye(3))
    assert isinstance(e.value, UnsupportedError) or isinstance(
        getattr(e.value, "inner_exception", None), UnsupportedError
    )
