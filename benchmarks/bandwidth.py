"""Read bandwidth of main memory, measured with a small C++ program that is compiled when needed."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("bandwidth.cpp")


def last_level_cache() -> int:
    """Bytes of the largest cache of the first CPU; 0 when the system does not tell."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KMG")) * unit)
    return max(sizes)


class Bandwidth:
    """A buffer larger than the caches, and a function that reads it with some threads."""

    def __init__(self, threads: int, nbytes: int | None = None) -> None:
        self.threads = threads
        self.nbytes = nbytes or max(1 << 30, 2 * last_level_cache())
        with tempfile.TemporaryDirectory() as tmp:
            library = Path(tmp) / "bandwidth.so"
            cxx = os.environ.get("CXX", "g++")
            flags = ["-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread"]
            command = [cxx, *flags, str(SOURCE), "-o", str(library)]
            subprocess.run(command, check=True)
            self._handle = ctypes.CDLL(str(library))
        self._handle.bandwidth_open.argtypes = [ctypes.c_size_t]
        self._handle.bandwidth_open.restype = ctypes.c_void_p
        self._handle.bandwidth_read.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p,
        ]  # fmt: skip
        self._handle.bandwidth_read.restype = ctypes.c_int64
        self._buffer = self._handle.bandwidth_open(self.nbytes)
        if not self._buffer:
            raise MemoryError(f"no {self.nbytes >> 20} MiB for the bandwidth probe")

    def read(self, times: int = 3) -> dict[str, float]:
        """Median bytes per second by "wall" and by "cpu" clock."""
        result = (ctypes.c_double * 2)()
        walls, cpus = [], []
        for _ in range(times):
            self._handle.bandwidth_read(self._buffer, self.nbytes, self.threads, result)
            walls.append(self.nbytes / result[0])
            cpus.append(self.nbytes / result[1])
        return {"wall": statistics.median(walls), "cpu": statistics.median(cpus)}
