"""Runs a step that was emitted for Ascend, through the ACL API: device memory, streams, replay.

The library comes from CANN where that is installed, and from the simulator elsewhere; the calls are
the same. Inputs and outputs are CPU tensors, copied to the device and back for each step; state
inputs (a KV cache) are copied back too.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xcompile.errors import ArtifactError, SimulationError, XCompileError
from xcompile.runtime.ascend_link import Device as OnDevice
from xcompile.runtime.ascend_link import Link, Simulator
from xcompile.runtime.executor import bind_inputs, check_inputs
from xcompile.runtime.program import Program
from xcompile.symbolic import evaluate

if TYPE_CHECKING:
    from xcompile.targets.ascend import Chip

TO_DEVICE, TO_HOST = 1, 2  # aclrtMemcpyKind
CUBE_CORES, VECTOR_CORES = 102, 201  # aclrtDevAttr
ALIGN = 512  # bytes; what aclrtMalloc gives


class Cores(ctypes.Structure):
    _fields_ = (("cube", ctypes.c_uint32), ("vector", ctypes.c_uint32))


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


def _raise(errors: list[Any]) -> None:
    if errors:
        raise SimulationError("\n".join(map(str, errors[:20])), errors)


class AscendExecutor:
    """A step on a device: `executor(*inputs)` gives the outputs, state inputs are updated.

    The sources are built by the first call. Before it, and between calls, may be set:

    capture  replay a captured graph instead of launching each kernel
    options  chip, checks and order of the cores of the simulator (sim.loader.Options)
    trace    file for a Perfetto trace of what the simulator ran
    device   run on a device, through CANN (before the first call; never tried)
    """

    _lock = threading.RLock()  # one device

    def __init__(
        self,
        program: Program,
        sources: Mapping[str, str],
        weights: Callable[[], Iterator[torch.Tensor]],
        chip: Chip,
        fingerprint: str = "",
    ) -> None:
        from xcompile.sim.loader import Options

        if program.islands:
            names = ", ".join(i.target for i in program.islands)
            raise XCompileError(f"eager islands do not run on Ascend: {names}")
        self.program, self.sources, self.chip = program, sources, chip
        checks = os.environ.get("XC_SIM_CHECKS", "all")
        self.options = Options(chip.part, checks, int(os.environ.get("XC_SIM_SEED", "0")))
        self.capture = self.device = False
        self.trace: Path | None = None
        self.report: dict[str, Any] = {}  # of the cycle model, for the last step
        self.steps, self.microseconds = 0, 0.0  # of all steps
        self._weights, self._fingerprint = weights, fingerprint
        self._specs = [(s.name, s.type) for s in program.inputs]
        self._graphs: dict[tuple, ctypes.c_void_p] = {}
        self._link: Link | None = None

    def open(self) -> Link:
        """Build and load the step, and copy its weights to the device, unless that is done."""
        with self._lock:
            if self._link is None:
                self._link = self._open()
            return self._link

    def _open(self) -> Link:
        link: Link = OnDevice(self.sources) if self.device else Simulator(
            self.sources, self.chip.part
        )  # fmt: skip
        self.lib, self.acl = link.library, link.acl
        for f in ("xc_step", "xc_capture", "xc_replay", "xc_release"):
            getattr(self.lib, f).restype = ctypes.c_int
        self.lib.xc_table_bytes.restype = ctypes.c_uint64
        self.lib.xc_program.restype = ctypes.c_char_p
        if self._fingerprint and self.lib.xc_program().decode() != self._fingerprint:
            raise ArtifactError("host.cpp was emitted for another program than the manifest says")
        self.acl.aclInit(None)
        _check(self.acl.aclrtSetDevice(0))
        self._stream = ctypes.c_void_p()
        _check(self.acl.aclrtCreateStream(ctypes.byref(self._stream)))
        self.memory = Device(self.acl)
        gone = weakref.finalize(
            self, _release, self._lock, self.lib, self.memory, self._graphs, self._stream
        )
        gone.atexit = False  # the process ends, and its memory with it
        table = []
        for i, w in enumerate(self._weights()):
            address = self.memory.room(("const", i), w.nbytes)
            self.memory.write(address, w.data_ptr(), w.nbytes)
            table.append(address)
        self._consts = np.array(table or [0], dtype=np.uint64)
        return link

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Outputs, freshly allocated. Raises ShapeError, and SimulationError for what a check of
        the simulator found."""
        args = check_inputs(self._specs, self.program, tensors)
        env = bind_inputs(self._specs, self.program, [t.shape for t in args])
        with self._lock, self.open().session(self.options, self.trace) as watch:
            try:
                outs, state = self._run(args, env)
            except XCompileError:  # of an ACL call; the simulator knows more
                _raise(watch.errors())
                raise
            self.report = watch.report()
            _raise(watch.errors())
        self.steps += 1
        self.microseconds += float(self.report.get("us", 0.0))
        for k, t in state.items():
            args[k].copy_(t)
        return outs

    def _cores(self) -> Cores:
        """What the device has, and at most what workspaces were sized for."""
        found = []
        for attribute, most in ((CUBE_CORES, self.chip.aic), (VECTOR_CORES, self.chip.aiv)):
            n = ctypes.c_int64()
            _check(self.acl.aclrtGetDeviceInfo(0, attribute, ctypes.byref(n)))
            found.append(min(int(n.value), most))
        cube, vector = found
        return Cores(min(cube, vector // 2), vector)

    def _run(
        self, args: Sequence[torch.Tensor], env: Mapping[str, int]
    ) -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
        p, d = self.program, self.memory
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
        cores = self._cores()
        call = (
            ctypes.byref(cores),
            ctypes.c_void_p(pointers.ctypes.data),
            ctypes.c_void_p(at.ctypes.data),
            ctypes.c_void_p(sizes_at),
            ctypes.c_void_p(tables),
        )
        if self.capture:
            key = (cores.cube, cores.vector, *pointers.tolist(), *offsets)
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
        address = self.memory.room("tables", nbytes)
        self.memory.write(address, host.ctypes.data, nbytes)
        return address


def _release(
    lock: Any, lib: Any, memory: Device, graphs: dict[tuple, ctypes.c_void_p], stream: Any
) -> None:
    """Give back what a step held on the device."""
    with lock:
        for g in graphs.values():
            lib.xc_release(g)
        for address, _ in memory.blocks.values():
            memory.acl.aclrtFree(ctypes.c_void_p(address))
        memory.acl.aclrtDestroyStream(stream)
