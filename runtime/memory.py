"""Page-backed memory for weights and arenas. 2 MB pages are a first-order lever: a weight stream
on 4 KB pages spends its time in TLB misses."""

from __future__ import annotations

import ctypes
import mmap
import os

HUGE = 1 << 21


class Region:
    """Zeroed private memory, 2 MB aligned and on huge pages where the system grants them."""

    def __init__(self, nbytes: int, huge: bool = True) -> None:
        self.nbytes = max(nbytes, 1)
        # Private: a shared mapping is shmem, which gets no transparent huge pages.
        flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
        self._map = mmap.mmap(-1, self.nbytes + HUGE, **flags)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.offset = -start % HUGE
        self.address = start + self.offset
        if huge and hasattr(mmap, "MADV_HUGEPAGE"):
            length = -(-self.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
            try:
                self._map.madvise(mmap.MADV_HUGEPAGE, self.offset, length)
            except OSError:  # a kernel without transparent huge pages: slower, still right
                pass

    def view(self, offset: int, nbytes: int) -> memoryview:
        """Writable bytes of the region."""
        return memoryview(self._map)[self.offset + offset : self.offset + offset + nbytes]
