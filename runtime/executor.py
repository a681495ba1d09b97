"""Runs one compiled step: checks the inputs, lays out the arena, calls the library."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xcompile.errors import ShapeError, XCompileError
from xcompile.ir import Type, bind_shapes, concrete
from xcompile.ops.island import TORCH_CALL
from xcompile.runtime.memory import Region
from xcompile.runtime.program import Arg, Island, Program
from xcompile.symbolic import evaluate

ERRORS = {
    1: "an index is out of range (embedding, gather, scatter or index_copy)",
    2: "an expert id is outside the expert table",
    3: "a block table entry lies outside the KV cache",
    4: "a context length disagrees with the query lengths or the block table",
    5: "out of memory",
}


def default_threads() -> int:
    """XC_NUM_THREADS, else torch's thread count."""
    return int(os.environ.get("XC_NUM_THREADS", "0")) or torch.get_num_threads()


class Weights:
    """Packed constants: their addresses, and what keeps the bytes alive."""

    def __init__(self, pointers: list[int], keep: Any) -> None:
        self.pointers = pointers
        self._keep = keep

    @classmethod
    def filled(cls, types: Sequence[Type], fill: Callable[[int, torch.Tensor], Any]) -> Weights:
        """In one huge-page region; `fill` writes constant i into the tensor that it is given."""
        offsets, at = [], 0
        for t in types:
            offsets.append(at)
            at = -(-(at + int(t.nbytes)) // 64) * 64
        region = Region(at)
        for i, (t, o) in enumerate(zip(types, offsets, strict=True)):
            if t.nbytes:
                out = torch.frombuffer(region.view(o, int(t.nbytes)), dtype=t.dtype)
                fill(i, out.view([int(d) for d in t.shape]))
        return cls([region.address + o for o in offsets], region)

    @classmethod
    def copied(cls, tensors: Sequence[torch.Tensor]) -> Weights:
        types = [Type(t.dtype, tuple(t.shape)) for t in tensors]
        return cls.filled(types, lambda i, out: out.copy_(tensors[i]))

    @classmethod
    def mapped(cls, tensors: Sequence[torch.Tensor]) -> Weights:
        """Where the tensors are (in a memory-mapped file)."""
        return cls([t.data_ptr() for t in tensors], list(tensors))

    @property
    def table(self) -> np.ndarray:
        return np.array(self.pointers or [0], dtype=np.uint64)


class Library:
    """The whole-graph shared library: `run(pool, segment, pointers, extents)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = ctypes.CDLL(str(path))
        p = ctypes.c_void_p
        self.run = self.handle.run
        self.run.argtypes = [p, ctypes.c_int, p, p]
        self.run.restype = ctypes.c_int
        self.handle.xc_pool_create.argtypes = [ctypes.c_int]
        self.handle.xc_pool_create.restype = p
        self.handle.xc_error_value.argtypes = [p]
        self.handle.xc_error_value.restype = ctypes.c_int64

    @cache  # noqa: B019 - a library lives as long as the process
    def pool(self, threads: int) -> int:
        return self.handle.xc_pool_create(threads)


@dataclass
class Frame:
    """What depends only on the shapes of a call."""

    env: dict[str, int]
    offsets: list[int]
    extents: np.ndarray
    out_shapes: list[tuple[int, ...]]
    arena_bytes: int


class Executor:
    """A loaded step. Calling it runs the whole graph once; calls are serialised."""

    def __init__(
        self, program: Program, library: Library, weights: Weights, threads: int | None = None
    ) -> None:
        self.program = program
        self.library = library
        self.weights = weights
        self.threads = threads or default_threads()
        self._pool = library.pool(self.threads)
        self._table = weights.table
        self._frames: dict[tuple, Frame] = {}
        self._arena: Region | None = None
        self._lock = threading.Lock()
        self._specs = [(i.name, i.type) for i in program.inputs]
        self._out_dtypes = [o.type.dtype for o in program.outputs]

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Outputs, freshly allocated; state inputs are updated in place.

        Raises ShapeError for a wrong count, dtype or shape, before anything runs.
        """
        args = check_inputs(self._specs, self.program, tensors)
        key = tuple([t.shape for t in args])
        with self._lock:
            frame = self._frames.get(key)
            if frame is None:
                frame = self._frames[key] = self._frame(key)
                if len(self._frames) > 4096:
                    self._frames.pop(next(iter(self._frames)))
            if self._arena is None or self._arena.nbytes < frame.arena_bytes:
                self._arena = Region(frame.arena_bytes)
            outs = [
                torch.empty(s, dtype=d)
                for s, d in zip(frame.out_shapes, self._out_dtypes, strict=True)
            ]
            pointers = np.array(
                [self._arena.address, self._table.ctypes.data]
                + [t.data_ptr() for t in args]
                + [t.data_ptr() for t in outs],
                dtype=np.uint64,
            )
            for k in range(len(self.program.islands) + 1):
                if k:
                    self._island(self.program.islands[k - 1], frame, args, outs)
                code = self.library.run(
                    self._pool, k, pointers.ctypes.data, frame.extents.ctypes.data
                )
                if code:
                    self._fail(code)
        return outs

    def _frame(self, shapes: Sequence[Sequence[int]]) -> Frame:
        env = bind_inputs(self._specs, self.program, shapes)
        offsets, total = self.program.offsets(self.program.capacity(env))
        extents = [env[s] for s in self.program.symbols] + offsets
        shapes_out = [tuple(evaluate(d, env) for d in o.type.shape) for o in self.program.outputs]
        return Frame(env, offsets, np.array(extents or [0], dtype=np.int64), shapes_out, total)

    def _fail(self, code: int) -> None:
        value = self.library.handle.xc_error_value(self._pool)
        raise IndexError(f"{ERRORS.get(code, f'kernel error {code}')}: {value}")

    # -- eager islands --------------------------------------------------------------------
    def _island(
        self, island: Island, frame: Frame, args: Sequence[torch.Tensor], outs: list[torch.Tensor]
    ) -> None:
        """Run a torch op between two segments, on views of the arena."""

        def tensor(a: Arg, t: Type) -> torch.Tensor:
            return self._tensor(a, t, frame, args, outs)

        given = [tensor(a, t) for a, t in zip(island.args, island.arg_types, strict=True)]
        spec = concrete(island.spec, frame.env)
        results = TORCH_CALL.ref(*given, target=island.target, spec=spec, dtypes=(), shapes=())
        for r, a, t in zip(results, island.results, island.result_types, strict=True):
            tensor(a, t).copy_(r)

    def _tensor(
        self, a: Arg, t: Type, frame: Frame, args: Sequence[torch.Tensor], outs: list[torch.Tensor]
    ) -> torch.Tensor:
        """A view of an argument's memory as a contiguous tensor."""
        arena = self._arena
        assert arena is not None
        base = {
            "arena": lambda: arena.address + frame.offsets[a.index],
            "const": lambda: int(self._table[a.index]),
            "input": lambda: args[a.index].data_ptr(),
            "output": lambda: outs[a.index].data_ptr(),
        }[a.space]()
        shape = [evaluate(d, frame.env) for d in t.shape]
        count = int(np.prod(shape)) * t.dtype.itemsize
        if not count:
            return torch.empty(shape, dtype=t.dtype)
        raw = (ctypes.c_char * count).from_address(base + evaluate(a.offset, frame.env))
        return torch.frombuffer(raw, dtype=t.dtype).view(shape)


def check_inputs(
    specs: Sequence[tuple[str, Type]],
    program: Program,
    tensors: Sequence[torch.Tensor],
    device: torch.device | None = None,
) -> list[torch.Tensor]:
    """Contiguous inputs of the right number and dtypes, on the device (default: the CPU). Raises
    ShapeError."""
    where = device or torch.device("cpu")
    if len(tensors) != len(specs):
        names = ", ".join(n for n, _ in specs)
        raise ShapeError(f"{len(tensors)} inputs given, expected {len(specs)}: {names}")
    args = []
    for k, t in enumerate(tensors):
        name, want = specs[k]
        if not isinstance(t, torch.Tensor) or t.device != where:
            what = "a CPU tensor" if where.type == "cpu" else f"a tensor on {where}"
            raise ShapeError(f"input {name!r} must be {what}, given {_what(t)}")
        if t.dtype != want.dtype:
            raise ShapeError(f"input {name!r} is {t.dtype}, this graph was compiled for {want}")
        if not t.is_contiguous():
            if k in program.state:
                raise ShapeError(f"state input {name!r} must be contiguous: it is updated")
            t = t.contiguous()
        args.append(t)
    return args


def bind_inputs(
    specs: Sequence[tuple[str, Type]], program: Program, shapes: Sequence[Sequence[int]]
) -> dict[str, int]:
    """The symbols' values at these shapes. Raises ShapeError."""
    env = bind_shapes(specs, program.symbols, shapes)
    missing = [s for s in program.symbols if s not in env]
    if missing:
        raise XCompileError(f"dims {missing} do not follow from the input shapes")
    return env


def _what(t: Any) -> str:
    return f"a tensor on {t.device}" if isinstance(t, torch.Tensor) else type(t).__name__
