"""A folder that appears whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path


class Sibling:
    """A temporary folder next to `path`: on the same file system, so that a rename moves it."""

    def __init__(self, path: Path) -> None:
        self.target = path

    def __enter__(self) -> Path:
        self.path = Path(tempfile.mkdtemp(dir=self.target.parent, prefix=f".{self.target.name}."))
        self.path.chmod(0o777 & ~umask())
        return self.path

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def sync(root: Path) -> None:
    """Contents reach the disk before the name does."""
    for p in [*(p for p in root.rglob("*")), root]:
        fd = os.open(p, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def publish(tmp: Path, path: Path) -> None:
    """Put the finished folder in place; a reader sees the old artifact or the new one."""
    if not path.exists():
        tmp.rename(path)
    elif not _exchange(tmp, path):  # then tmp, which is removed, is the old artifact
        old = tmp.with_name(tmp.name + ".old")
        path.rename(old)
        try:
            tmp.rename(path)
        except OSError:
            old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one step (Linux); False where the system cannot."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return swap(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0
