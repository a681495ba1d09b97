"""Peak rate of bf16 products, measured with a small C++ program that is compiled when needed."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("peak.cpp")


class Peak:
    """bf16 products with operands in registers, by some threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        with tempfile.TemporaryDirectory() as tmp:
            library = Path(tmp) / "peak.so"
            flags = ["-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread"]
            command = [os.environ.get("CXX", "g++"), *flags, str(SOURCE), "-o", str(library)]
            subprocess.run(command, check=True)
            self._handle = ctypes.CDLL(str(library))
        self._handle.peak_bf16.argtypes = [
            ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_void_p,
        ]  # fmt: skip
        self._handle.peak_bf16.restype = ctypes.c_double

    def read(self, tiles: bool, times: int = 5) -> dict[str, float]:
        """Median operations per second by "wall" and by "cpu" clock, of AMX tiles or of vector
        dot products; 0 where the machine has no such instruction."""
        result = (ctypes.c_double * 2)()
        walls, cpus = [], []
        for _ in range(times):
            repeat = 1_000_000 if tiles else 3_000_000
            self._handle.peak_bf16(int(tiles), self.threads, repeat, result)
            walls.append(result[0])
            cpus.append(result[1])
        return {"wall": statistics.median(walls), "cpu": statistics.median(cpus)}
