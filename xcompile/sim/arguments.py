"""Arguments of a kernel called from Python: arrays become global memory, numbers parameters."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xcompile.errors import XCompileError

ALIGN = 512  # of an allocation in global memory
CODES = {
    "p": "an array",
    "i": "an integer",
    "u": "an integer",
    "f": "a number",
    "h": "a number",
    "b": "a number",
    "s": "a struct",
}


@dataclass(frozen=True)
class Out:
    """Marks an array that only the kernel writes: reading it before that is an error."""

    array: Any


class TensorList:
    """Several arrays as one parameter, laid out as the kernel's ListTensorDesc reads it."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = list(arrays)
        words = 1 + sum(1 + np.ndim(a.array if isinstance(a, Out) else a) for a in self.arrays)
        self.table = np.zeros(words + len(self.arrays), np.uint64)
        self.table[0] = 8 * words  # where the addresses begin
        at = 1
        for i, value in enumerate(self.arrays):
            shape = (value.array if isinstance(value, Out) else value).shape
            self.table[at] = len(shape) | i << 32
            self.table[at + 1 : at + 1 + len(shape)] = shape
            at += 1 + len(shape)

    def address(self, place: Callable[[int], int]) -> None:
        """Fill in the addresses, known once the arrays have their place."""
        first = len(self.table) - len(self.arrays)
        for i, value in enumerate(self.arrays):
            found = memory_of(value.array if isinstance(value, Out) else value)
            if found is None:
                raise XCompileError(f"entry {i} of a TensorList is no array")
            self.table[first + i] = place(found[0])


@dataclass
class Buffer:
    """One stretch of the caller's memory and its copy in global memory."""

    address: int
    size: int
    written: bool
    readonly: bool
    memory: Any = None
    base: int = 0

    def reserve(self) -> None:
        self.memory = (ctypes.c_char * (self.size + 2 * ALIGN))()
        self.base = -(-ctypes.addressof(self.memory) // ALIGN) * ALIGN

    def stage(self) -> None:
        if self.written:
            ctypes.memmove(self.base, self.address, self.size)
        else:
            ctypes.memset(self.base, 0xCD, self.size)

    def restore(self) -> None:
        if not self.readonly:
            ctypes.memmove(self.address, self.base, self.size)


@dataclass
class Argument:
    """One value as the launcher takes it: the kind of value and its bytes."""

    code: str
    data: Any  # a ctypes object that holds the bytes
    size: int


def memory_of(value: Any) -> tuple[int, int, bool] | None:
    """Address, bytes and whether read-only, of a numpy array or torch tensor; else None."""
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise XCompileError("an array argument must be contiguous; use numpy.ascontiguousarray")
        return value.ctypes.data, value.nbytes, not value.flags.writeable
    if hasattr(value, "data_ptr") and hasattr(value, "is_contiguous"):
        if value.device.type != "cpu" or not value.is_contiguous():
            raise XCompileError("a tensor argument must be contiguous and on the CPU")
        return value.data_ptr(), value.numel() * value.element_size(), False
    return None


class Memory:
    """The arrays of one call. Arrays that overlap are one stretch, as they are for the caller."""

    def __init__(self, values: Sequence[Any]) -> None:
        spans = []
        lists = [v for v in values if isinstance(v, TensorList)]
        values = [*values, *(a for v in lists for a in v.arrays), *(v.table for v in lists)]
        for value in values:
            array = value.array if isinstance(value, Out) else value
            found = memory_of(array)
            if found is not None and found[1]:
                spans.append((*found, not isinstance(value, Out)))
        self.buffers: list[Buffer] = []
        for address, size, readonly, written in sorted(spans):
            last = self.buffers[-1] if self.buffers else None
            if last is not None and address < last.address + last.size:
                last.size = max(last.size, address + size - last.address)
                last.readonly &= readonly
                last.written |= written
            else:
                self.buffers.append(Buffer(address, size, written, readonly))
        for b in self.buffers:
            b.reserve()
        for v in lists:
            v.address(self.place)
        for b in self.buffers:
            b.stage()

    def place(self, address: int) -> int:
        for b in self.buffers:
            if b.address <= address < b.address + b.size:
                return b.base + address - b.address
        return 0  # an empty array


def convert(value: Any, code: str, size: int, memory: Memory) -> Argument:
    """One argument for a parameter of this kind. Raises XCompileError if it does not fit."""
    inner = value.array if isinstance(value, Out) else value
    if code == "p":
        if inner is None:
            return Argument("p", ctypes.c_uint64(0), 8)
        if isinstance(inner, TensorList):
            inner = inner.table
        found = memory_of(inner)
        if found is None:
            raise _unfit(code, size, inner)
        return Argument("p", ctypes.c_uint64(memory.place(found[0])), 8)
    if code == "s":
        if isinstance(inner, np.ndarray | np.generic):
            data = inner.tobytes()
        elif isinstance(inner, bytes | bytearray | memoryview | ctypes.Structure):
            data = bytes(inner)
        else:
            raise _unfit(code, size, inner)
        if len(data) != size:
            raise XCompileError(f"the struct parameter has {size} bytes, the argument {len(data)}")
        return Argument("s", ctypes.create_string_buffer(data, size), size)
    if hasattr(inner, "item") and getattr(inner, "size", 1) != 0:
        inner = inner.item() if memory_of(inner) is None or np.ndim(inner) == 0 else inner
    if isinstance(inner, bool | int):
        return Argument("i", ctypes.c_int64(_wrap(int(inner))), 8)
    if isinstance(inner, float) and code in "fhb":
        return Argument("f", ctypes.c_double(inner), 8)
    raise _unfit(code, size, inner)


def _wrap(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 64:
        raise XCompileError(f"{value} does not fit into 64 bits")
    return value if value < 1 << 63 else value - (1 << 64)


def _unfit(code: str, size: int, value: Any) -> XCompileError:
    what = type(value).__name__
    return XCompileError(f"the parameter is {CODES[code]} ({size} bytes), the argument a {what}")
