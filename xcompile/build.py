"""Emitted sources -> one shared library, through a content-hash cache, in parallel.

An object's key is the hash of its source, of every header, of the flags and of the compiler's
version: the cache never needs to be cleared, and identical kernels compile once on a machine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xcompile.errors import BuildError
from xcompile.hostcc import cache_dir, compiler
from xcompile.targets import Target
from xcompile.targets.cpu import FLAGS, HOT, LEVELS

Progress = Callable[[int, int], None]  # (files done, files in all)


def flags_for(target: Target, source: str) -> list[str]:
    """Compiler flags for a source file."""
    optimise = "-O3" if source.startswith(HOT) else "-O2"
    return [optimise, *FLAGS, *LEVELS[target.isa][0]]


def build(
    target: Target, sources: Sequence[Path], include: Path, *, progress: Progress | None = None
) -> bytes:
    """Compile and link; returns the shared library's bytes. Raises BuildError."""
    cxx, version = compiler()
    headers = hashlib.sha256()
    for h in sorted(include.glob("*.hpp")):
        headers.update(h.name.encode() + h.read_bytes())

    def object_of(source: Path) -> Path:
        flags = " ".join(flags_for(target, source.name))
        stem = f"{version}\0{flags}\0{headers.hexdigest()}\0".encode()
        return cache_dir() / "obj" / f"{hashlib.sha256(stem + source.read_bytes()).hexdigest()}.o"

    todo = [(s, object_of(s)) for s in sources]
    done = 0

    def one(job: tuple[Path, Path]) -> None:
        nonlocal done
        source, obj = job
        if not obj.exists():
            _compile(cxx, [*flags_for(target, source.name), f"-I{include}"], source, obj)
        done += 1
        if progress:
            progress(done, len(todo))

    todo.sort(key=lambda job: -job[0].stat().st_size)  # long jobs first
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(one, todo))
    objects = sorted(obj for _, obj in todo)
    key = hashlib.sha256("\0".join(o.name for o in objects).encode()).hexdigest()
    lib = cache_dir() / "lib" / f"{key}.so"
    if not lib.exists():
        _link(cxx, objects, lib)
    return lib.read_bytes()


def _run(command: list[str], what: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(f"{what} failed:\n  {' '.join(command)}\n{result.stderr.strip()[:4000]}")


def _compile(cxx: str, flags: list[str], source: Path, obj: Path) -> None:
    obj.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=obj.parent) as tmp:
        out = Path(tmp) / "a.o"
        _run([cxx, *flags, "-c", str(source), "-o", str(out)], f"compiling {source.name}")
        os.replace(out, obj)


def _link(cxx: str, objects: Sequence[Path], lib: Path) -> None:
    lib.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=lib.parent) as tmp:
        out = Path(tmp) / "a.so"
        command = [cxx, "-shared", "-Wl,-Bsymbolic", *map(str, objects), "-o", str(out), "-pthread"]
        _run(command, "linking")
        os.replace(out, lib)
