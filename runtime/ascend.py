"""Runs a step that was emitted for Ascend, through the ACL API: device memory, streams, replay.

The library comes from CANN where that is installed, and from the simulator elsewhere; the calls are
the same. Inputs and outputs are CPU tensors, copied to the device and back for each step; state
inputs (a KV cache) are copied back too.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xcompile.errors import BuildError, SimulationError, XCompileError
from xcompile.hostcc import cache_dir
from xcompile.progress import step
from xcompile.runtime.executor import bind_inputs, check_inputs
from xcompile.runtime.program import Program
from xcompile.symbolic import evaluate

if TYPE_CHECKING:
    from xcompile.compiler import Compiled

TO_DEVICE, TO_HOST = 1, 2  # aclrtMemcpyKind
ALIGN = 512  # bytes; what aclrtMalloc gives


class Cores(ctypes.Structure):
    _fields_ = (("cube", ctypes.c_uint32), ("vector", ctypes.c_uint32))


def simulator_library(sources: Mapping[str, str], chip: str) -> Path:
    """The shared library of emitted sources, built for the simulator; from the cache if it is
    there. Raises BuildError with g++'s messages."""
    from concurrent.futures import ThreadPoolExecutor

    from xcompile.sim import library
    from xcompile.sim.library import digest
    from xcompile.sim.simcc import Driver, parse

    text = json.dumps(dict(sources), sort_keys=True)
    root = cache_dir() / "sim" / "emitted" / digest(text)[:24]
    for name, content in sources.items():
        path = root / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    request = parse(["-O1", "-fno-gnu-unique"])
    request.chip = library.chip_name(chip)
    request.mode = "shared"
    driver = Driver(request, quiet=True)
    units = [root / n for n in sources if n.endswith((".asc", ".cpp"))]
    with step("simcc") as progress, ThreadPoolExecutor(2) as pool:
        objects = []
        for k, obj in enumerate(pool.map(driver.compile, units)):
            objects.append(obj)
            progress(k + 1, len(units))
    found = [o for o in objects if o is not None]
    if len(found) != len(units):
        raise BuildError(f"building the emitted kernels failed:\n{driver.messages[:20000]}")
    lib = library.library()
    out = cache_dir() / "sim" / "so" / f"{digest(*[o.name for o in found], lib.name)}.so"
    if not out.exists():
        request.out = out.with_suffix(f".{os.getpid()}.{threading.get_ident()}.so")
        out.parent.mkdir(parents=True, exist_ok=True)
        if driver.link(found):
            raise BuildError(f"linking the emitted kernels failed:\n{driver.messages[:20000]}")
        os.replace(request.out, out)
    return out


def executor(compiled: Compiled) -> AscendExecutor:
    """What runs a compilation in this process, in the simulator."""
    from xcompile.targets.ascend import Ascend

    target = compiled.target
    assert isinstance(target, Ascend)
    path = simulator_library(compiled.sources, target.chip.part)
    weights = [compiled.pack(i) for i in range(len(compiled.plan.consts))]
    cores = (target.chip.aic, target.chip.aiv)
    return AscendExecutor(compiled.plan.program(), path, weights, cores, target.chip.part)


@dataclass
class Device:
    """Memory of the device that grows on demand."""

    acl: Any
    blocks: dict[Any, tuple[int, int]] = field(default_factory=dict)

    def room(self, key: Any, nbytes: int) -> int:
        """Address of at least nbytes under a name; what was there before is lost."""
        address, size = self.blocks.get(key, (0, -1))
        if size < nbytes:
            if size >= 0:
                self.acl.aclrtFree(ctypes.c_void_p(address))
            p = ctypes.c_void_p()
            _check(self.acl.aclrtMalloc(ctypes.byref(p), ctypes.c_size_t(max(nbytes, ALIGN)), 0))
            address = int(p.value or 0)
            self.blocks[key] = (address, nbytes)
        return address

    def write(self, address: int, source: int, nbytes: int) -> None:
        if nbytes:
            self._copy(address, source, nbytes, TO_DEVICE)

    def read(self, address: int, target: int, nbytes: int) -> None:
        if nbytes:
            self._copy(target, address, nbytes, TO_HOST)

    def _copy(self, to: int, source: int, nbytes: int, kind: int) -> None:
        n = ctypes.c_size_t(nbytes)
        _check(self.acl.aclrtMemcpy(ctypes.c_void_p(to), n, ctypes.c_void_p(source), n, kind))


def _check(code: int) -> None:
    if code:
        raise XCompileError(f"an ACL call failed with error {code}")


class AscendExecutor:
    """A step on a device: `executor(*inputs)` gives the outputs, state inputs are updated.

    capture  replay a captured graph instead of launching each kernel
    """

    _lock = threading.RLock()  # one device

    def __init__(
        self,
        program: Program,
        path: Path,
        weights: Sequence[torch.Tensor],
        cores: tuple[int, int],
        chip: str,
        capture: bool = False,
    ) -> None:
        from xcompile.sim.loader import Options, open_module

        if program.islands:
            names = ", ".join(i.target for i in program.islands)
            raise XCompileError(f"eager islands do not run on Ascend: {names}")
        self.program, self.path, self.capture = program, path, capture
        checks = os.environ.get("XC_SIM_CHECKS", "all")
        self.options = Options(chip, checks, int(os.environ.get("XC_SIM_SEED", "0")))
        self._specs = [(s.name, s.type) for s in program.inputs]
        with self._lock:
            self.runtime = open_module(path)
            self.lib = self.runtime.library
            for f in ("xc_step", "xc_capture", "xc_replay", "xc_release"):
                getattr(self.lib, f).restype = ctypes.c_int
            self.lib.xc_table_bytes.restype = ctypes.c_uint64
            self.lib.xc_program.restype = ctypes.c_char_p
            acl = self.runtime.lib
            acl.aclInit(None)
            _check(acl.aclrtSetDevice(0))
            self._stream = ctypes.c_void_p()
            _check(acl.aclrtCreateStream(ctypes.byref(self._stream)))
            self.acl, self.device = acl, Device(acl)
            self.cores = Cores(*cores)
            table = []
            for i, w in enumerate(weights):
                address = self.device.room(("const", i), w.nbytes)
                self.device.write(address, w.data_ptr(), w.nbytes)
                table.append(address)
            self._consts = np.array(table or [0], dtype=np.uint64)
        self._graphs: dict[tuple, ctypes.c_void_p] = {}
        self.report: dict[str, Any] = {}  # of the cycle model, for the last step

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Outputs, freshly allocated. Raises ShapeError, and SimulationError for what a check of
        the simulator found."""
        args = check_inputs(self._specs, self.program, tensors)
        env = bind_inputs(self._specs, self.program, [t.shape for t in args])
        with self._lock, self.runtime.session(self.options) as session:
            outs, state = self._run(args, env)
            self.report = session.report()
            if errors := session.errors():
                raise SimulationError("\n".join(map(str, errors[:20])), errors)
        for k, t in state.items():
            args[k].copy_(t)
        return outs

    def _run(
        self, args: Sequence[torch.Tensor], env: Mapping[str, int]
    ) -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
        p, d = self.program, self.device
        capacity = p.capacity(env)
        offsets, nbytes = p.offsets(capacity, ALIGN)
        arena = d.room("arena", nbytes)
        inputs = []
        for k, t in enumerate(args):
            inputs.append(d.room(("in", k), t.nbytes))
            d.write(inputs[-1], t.data_ptr(), t.nbytes)
        outs = [
            torch.empty([evaluate(x, env) for x in o.type.shape], dtype=o.type.dtype)
            for o in p.outputs
        ]
        results = [d.room(("out", k), t.nbytes) for k, t in enumerate(outs)]
        sizes = np.array([env[s] for s in p.symbols] or [0], dtype=np.int64)
        sizes_at = d.room("sizes", sizes.nbytes)
        d.write(sizes_at, sizes.ctypes.data, sizes.nbytes)
        pointers = np.array([arena, self._consts.ctypes.data, *inputs, *results], dtype=np.uint64)
        at = np.array(offsets or [0], dtype=np.int64)
        tables = self._tables(pointers, at)
        call = (
            ctypes.byref(self.cores),
            ctypes.c_void_p(pointers.ctypes.data),
            ctypes.c_void_p(at.ctypes.data),
            ctypes.c_void_p(sizes_at),
            ctypes.c_void_p(tables),
        )
        if self.capture:
            key = (*pointers.tolist(), *offsets)
            if key not in self._graphs:
                graph = ctypes.c_void_p()
                _check(self.lib.xc_capture(self._stream, *call, ctypes.byref(graph)))
                self._graphs[key] = graph
            _check(self.lib.xc_replay(self._graphs[key], self._stream))
        else:
            _check(self.lib.xc_step(self._stream, *call))
        _check(self.acl.aclrtSynchronizeStream(self._stream))
        for t, address in zip(outs, results, strict=True):
            d.read(address, t.data_ptr(), t.nbytes)
        state = {}
        for k in p.state:
            state[k] = torch.empty_like(args[k])
            d.read(inputs[k], state[k].data_ptr(), state[k].nbytes)
        return outs, state

    def _tables(self, pointers: np.ndarray, at: np.ndarray) -> int:
        nbytes = int(self.lib.xc_table_bytes())
        if not nbytes:
            return 0
        host = np.zeros(nbytes // 8, dtype=np.uint64)
        self.lib.xc_tables(
            ctypes.c_void_p(pointers.ctypes.data),
            ctypes.c_void_p(at.ctypes.data),
            ctypes.c_void_p(host.ctypes.data),
        )
        address = self.device.room("tables", nbytes)
        self.device.write(address, host.ctypes.data, nbytes)
        return address
