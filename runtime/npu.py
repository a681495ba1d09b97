"""Runs a step that was emitted for Ascend on NPU tensors, next to torch_npu: `torch.compile`.

torch_npu gives the memory and the stream, CANN builds the emitted project; nothing is copied to the
host. Both are looked for when NPU tensors arrive, never at import. **None of this has run on a
device**: it is written from torch_npu's and CANN's documentation, and tested with stand-ins.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xcompile.errors import ShapeError, UnsupportedError, XCompileError
from xcompile.runtime.ascend import ALIGN, CUBE_CORES, VECTOR_CORES, Cores
from xcompile.runtime.ascend_link import Device as CannLink
from xcompile.runtime.ascend_link import Link, find_cann
from xcompile.runtime.executor import bind_inputs, check_inputs
from xcompile.runtime.program import Program
from xcompile.symbolic import evaluate

if TYPE_CHECKING:
    from xcompile.compiler import Compiled
    from xcompile.targets import Target
    from xcompile.targets.ascend import Chip

DEVICE = "npu"  # torch_npu's name for its tensors' device
BLOCK = 32  # bytes; where a transfer may begin
FRAMES = 4096  # sizes, and pointer tables, that are remembered


# -- what is there ------------------------------------------------------------------------------
def device_of(args: Sequence[Any]) -> torch.device | None:
    """The NPU that these arguments are on; None if no tensor is on one.

    Raises XCompileError when they are on several devices.
    """
    # Python floats come as CPU tensors without dims, before they are made constants
    found = {t.device for t in args if isinstance(t, torch.Tensor) and t.dim()}
    if not any(d.type == DEVICE for d in found):
        return None
    if len(found) > 1:
        names = ", ".join(sorted(map(str, found)))
        raise XCompileError(f"the graph's tensors are on {names}; move all of them to one NPU")
    return found.pop()


def require() -> Any:
    """The module torch_npu, after a look at all that a step on a device needs.

    Raises one XCompileError that lists what is missing and what to do about it.
    """
    missing = []
    module = None
    try:
        module = importlib.import_module("torch_npu")
    except ImportError as e:
        missing.append(
            f"torch_npu cannot be imported ({e}): pip install 'xcompile[npu]', and source the "
            "set_env.sh of the CANN toolkit"
        )
    if module is not None and not module.npu.is_available():
        missing.append(
            "torch_npu sees no NPU: check `npu-smi info`, the driver, and ASCEND_RT_VISIBLE_DEVICES"
        )
    try:
        find_cann()
    except XCompileError as e:
        missing.append(str(e))
    if shutil.which("cmake") is None:
        missing.append("no cmake on the PATH, which builds the emitted project: install it")
    if missing:
        raise XCompileError(
            "torch.compile(backend='xllm') on NPU tensors needs what is not here:"
            + "".join(f"\n  - {m}" for m in missing)
            + "\nWithout a device: move the model to the CPU, and compile it for the simulator "
            "(options={'target': 'ascend910b'}) or for the CPU itself."
        )
    return module


def chip_name(device_name: str) -> str:
    """The target for a device's name, such as Ascend910B3 or Ascend910_9382. Raises
    XCompileError."""
    name = device_name.strip().lower()
    if found := re.match(r"ascend910b[1-4]", name):
        return found[0]
    if name.startswith("ascend910_93"):
        return "ascend910_93"
    if re.match(r"ascend(910_95|950)", name):
        return "ascend950"
    raise XCompileError(
        f"no target is known for the device {device_name!r}; name one, for example "
        "options={'target': 'ascend910b1'} (chips: xcompile/targets/ascend.py)"
    )


def make_target(chosen: str | None, module: Any, device: torch.device) -> Target:
    """The target named by the user, else that of the device. Raises XCompileError."""
    from xcompile.compiler import make_target
    from xcompile.targets.ascend import Ascend

    target = make_target(chosen or chip_name(module.npu.get_device_name(device)))
    if not isinstance(target, Ascend):
        raise XCompileError(
            f"target {chosen!r} cannot run on NPU tensors; leave it out, or name an ascend chip"
        )
    return target


# -- running ------------------------------------------------------------------------------------
def executor(compiled: Compiled, module: Any, device: torch.device) -> NpuExecutor:
    """Builds the step with CANN, and packs the weights onto the device, once."""
    from xcompile.targets.ascend import Ascend

    target = compiled.target
    assert isinstance(target, Ascend)
    program = compiled.plan.program()
    if program.islands:
        names = ", ".join(i.target for i in program.islands)
        raise UnsupportedError(f"eager islands do not run on Ascend: {names}")
    link = CannLink(compiled.sources)
    consts = [compiled.pack(i).to(device) for i in range(len(compiled.plan.consts))]
    return NpuExecutor(program, link, consts, target.chip, module, device)


@dataclass
class Frame:
    """What depends only on the shapes of a call; `sizes` is on the device."""

    offsets: np.ndarray
    nbytes: int
    shapes: list[tuple[int, ...]]
    sizes: torch.Tensor


class NpuExecutor:
    """A step on NPU tensors: `executor(*inputs)` puts it on the current stream and returns its
    outputs; state inputs are updated. Nothing waits for the device.

    Memory comes from torch_npu's allocator, so it is ordered by the stream as for any other
    operator. The few bytes of sizes go to the device when a shape comes for the first time.
    """

    def __init__(
        self,
        program: Program,
        link: Link,
        consts: Sequence[torch.Tensor],
        chip: Chip,
        module: Any,
        device: torch.device,
    ) -> None:
        self.program, self.link, self.chip = program, link, chip
        self.device, self.consts = device, list(consts)
        self._npu = module.npu
        self._lib = link.library
        for f in ("xc_step", "xc_capture", "xc_replay", "xc_release"):
            getattr(self._lib, f).restype = ctypes.c_int
        self._lib.xc_table_bytes.restype = ctypes.c_uint64
        self._table = np.array([t.data_ptr() for t in consts] or [0], dtype=np.uint64)
        self._specs = [(s.name, s.type) for s in program.inputs]
        self._frames: dict[tuple, Frame] = {}
        self._tables: dict[tuple, torch.Tensor] = {}
        self._cores: Cores | None = None

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Outputs, freshly allocated. Raises ShapeError before anything is launched."""
        args = check_inputs(self._specs, self.program, tensors, self.device)
        with self._npu.device(self.device):
            frame = self._frame(tuple(t.shape for t in args))
            arena = self._empty((frame.nbytes,), torch.uint8)
            dtypes = [o.type.dtype for o in self.program.outputs]
            outs = [self._empty(s, d) for s, d in zip(frame.shapes, dtypes, strict=True)]
            args = self._aligned(args)
            inputs = [t.data_ptr() for t in args]
            results = [t.data_ptr() for t in outs]
            pointers = np.array(
                [arena.data_ptr(), self._table.ctypes.data, *inputs, *results], dtype=np.uint64
            )
            tables = self._pointer_tables(pointers, frame.offsets)
            # Reading it hands all that torch_npu has queued on the host to the stream first.
            stream = self._npu.current_stream(self.device).npu_stream
            code = self._lib.xc_step(
                ctypes.c_void_p(stream),
                ctypes.byref(self.cores()),
                ctypes.c_void_p(pointers.ctypes.data),
                ctypes.c_void_p(frame.offsets.ctypes.data),
                ctypes.c_void_p(frame.sizes.data_ptr()),
                ctypes.c_void_p(tables.data_ptr() if tables is not None else 0),
            )
        if code:
            raise XCompileError(f"launching the step failed with ACL error {code}")
        return outs

    def cores(self) -> Cores:
        """What the device has, and at most what workspaces were sized for."""
        if self._cores is None:
            found = []
            for attribute, most in ((CUBE_CORES, self.chip.aic), (VECTOR_CORES, self.chip.aiv)):
                n = ctypes.c_int64()
                code = self.link.acl.aclrtGetDeviceInfo(
                    ctypes.c_uint32(self.device.index or 0), attribute, ctypes.byref(n)
                )
                if code or n.value < 1:
                    raise XCompileError(f"the device does not tell its cores (ACL error {code})")
                found.append(min(int(n.value), most))
            cube, vector = found
            self._cores = Cores(min(cube, vector // 2), vector)
        return self._cores

    def _aligned(self, args: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Inputs where kernels can read them: a view may begin anywhere in its storage."""
        out = list(args)
        for k, t in enumerate(args):
            if t.data_ptr() % BLOCK:
                if k in self.program.state:
                    raise ShapeError(
                        f"state input {self._specs[k][0]!r} is updated in place and must begin at "
                        f"a multiple of {BLOCK} bytes; this view of a larger tensor does not"
                    )
                out[k] = self._empty(t.shape, t.dtype).copy_(t)
        return out

    def _empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def _upload(self, values: np.ndarray) -> torch.Tensor:
        """A few integers on the device."""
        return torch.from_numpy(values.view(np.int64)).to(self.device)

    def _frame(self, shapes: tuple) -> Frame:
        frame = self._frames.get(shapes)
        if frame is None:
            p = self.program
            env = bind_inputs(self._specs, p, shapes)
            offsets, nbytes = p.offsets(p.capacity(env), ALIGN)
            sizes = np.array([env[s] for s in p.symbols] or [0], dtype=np.int64)
            frame = Frame(
                np.array(offsets or [0], dtype=np.int64),
                max(nbytes, ALIGN),
                [tuple(evaluate(d, env) for d in o.type.shape) for o in p.outputs],
                self._upload(sizes),
            )
            _remember(self._frames, shapes, frame)
        return frame

    def _pointer_tables(self, pointers: np.ndarray, offsets: np.ndarray) -> torch.Tensor | None:
        """Pointers of kernels that take too many for a launch, on the device."""
        nbytes = int(self._lib.xc_table_bytes())
        if not nbytes:
            return None
        key = (*pointers.tolist(), *offsets.tolist())
        found = self._tables.get(key)
        if found is None:
            host = np.zeros(nbytes // 8, dtype=np.uint64)
            self._lib.xc_tables(
                ctypes.c_void_p(pointers.ctypes.data),
                ctypes.c_void_p(offsets.ctypes.data),
                ctypes.c_void_p(host.ctypes.data),
            )
            found = self._upload(host)
            _remember(self._tables, key, found)
        return found


def _remember(store: dict, key: tuple, value: Any) -> None:
    store[key] = value
    if len(store) > FRAMES:
        store.pop(next(iter(store)))


__all__: Sequence[str] = ["NpuExecutor", "chip_name", "device_of", "executor", "require"]
