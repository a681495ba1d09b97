"""The simulator as a shared library, and its headers precompiled: once per content, in the cache.

An object's key is the hash of its source, of the headers it reaches, of the flags and of the
compiler: a change of one header rebuilds only what includes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from xcompile.errors import BuildError, XCompileError
from xcompile.hostcc import cache_dir, compiler, write_atomic

ROOT = Path(__file__).parent.parent / "runtime" / "sim"
INCLUDE = ROOT / "include"
SOURCES = ROOT / "src"
FLAGS = ["-std=c++17", "-O2", "-g1", "-fPIC", "-Wall", "-Wextra", "-pthread"]

# Name -> __NPU_ARCH__, __CCE_AICORE__. Sizes and clocks of the chips are in runtime/sim/src.
CHIPS = {
    "910B1": (2201, 220),
    "910B2": (2201, 220),
    "910B3": (2201, 220),
    "910B4": (2201, 220),
    "910_93": (2201, 220),
    "950": (3510, 310),
}
DEFAULT_CHIP = "910B1"

_INCLUDED = re.compile(
    rb'^[ \t]*#[ \t]*include[ \t]*["<]([^">\n]+)[">]|__has_include\("([^"]+)"\)', re.M
)


def chip_name(name: str) -> str:
    """The known spelling of a chip (`ascend910b1`, `Ascend910B1`). Raises XCompileError."""
    wanted = name.lower().removeprefix("ascend")
    for known in CHIPS:
        if known.lower() == wanted:
            return known
    if wanted.startswith("950"):
        return "950"
    raise XCompileError(f"unknown chip {name!r}; known: {', '.join(CHIPS)}")


def chip_macros(chip: str) -> list[str]:
    """The macros that the vendor's compiler predefines for a chip."""
    arch, core = CHIPS[chip]
    return [f"-D__NPU_ARCH__={arch}", f"-D__CCE_AICORE__={core}"]


def digest(*parts: str | bytes) -> str:
    """One hash of several texts."""
    h = hashlib.sha256()
    for p in parts:
        data = p.encode("utf-8", "surrogateescape") if isinstance(p, str) else p
        h.update(len(data).to_bytes(8, "little") + data)
    return h.hexdigest()


class Headers:
    """Content hashes of what a file includes of the simulator's own headers."""

    def __init__(self) -> None:
        self._files: dict[Path, tuple[bytes, list[Path]]] = {}

    def _scan(self, path: Path) -> tuple[bytes, list[Path]]:
        if path not in self._files:
            data = path.read_bytes()
            found = []
            for m in _INCLUDED.finditer(data):
                name = (m.group(1) or m.group(2)).decode()
                for folder in (path.parent, INCLUDE):
                    if (folder / name).is_file():
                        found.append((folder / name).resolve())
                        break
            self._files[path] = hashlib.sha256(data).digest(), found
        return self._files[path]

    def key(self, *names: Path) -> str:
        """Hash of the files and of all headers that they reach."""
        seen: dict[Path, bytes] = {}
        queue = [n.resolve() for n in names]
        while queue:
            path = queue.pop()
            if path not in seen:
                seen[path], more = self._scan(path)
                queue += more
        return digest(*(str(p.name).encode() + h for p, h in sorted(seen.items())))


def run(command: Sequence[str], what: str) -> None:
    """Run a compiler. Raises BuildError with its output."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if result.returncode:
        raise BuildError(f"{what} failed:\n  {' '.join(command)}\n{result.stderr.strip()[:8000]}")


def produce(path: Path, command: Sequence[str], what: str) -> Path:
    """`path`, made by `command` plus -o if it is not there: readers see all of it or nothing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as tmp:
            out = Path(tmp) / path.name
            run([*command, "-o", str(out)], what)
            os.replace(out, path)
    return path


@cache
def library() -> Path:
    """Path of libascsim.so, built if needed. Raises BuildError."""
    cxx, version = compiler()
    sources = sorted(SOURCES.glob("*.cpp"))
    if not sources:
        raise BuildError(f"the simulator's sources are missing: {SOURCES}")
    headers = Headers()

    def one(source: Path) -> Path:
        key = digest(version, " ".join(FLAGS), source.name, headers.key(source))
        command = [cxx, *FLAGS, f"-I{INCLUDE}", f"-I{SOURCES}", "-c", str(source)]
        return produce(
            cache_dir() / "sim" / "obj" / f"{key}.o", command, f"compiling {source.name}"
        )

    for source in sources:
        headers.key(source)  # not from several threads at once
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        objects = list(pool.map(one, sorted(sources, key=lambda s: -s.stat().st_size)))
    key = digest(version, *sorted(o.name for o in objects))[:16]
    path = cache_dir() / "sim" / key / "libascsim.so"
    link = [cxx, "-shared", "-pthread", *map(str, objects), "-ldl"]
    link += [f"-Wl,-soname,libascsim-{key}.so"]
    lib = produce(path, link, "linking the simulator")
    named = lib.with_name(f"libascsim-{key}.so")
    if not named.exists():
        try:
            named.symlink_to(lib.name)
        except FileExistsError:
            pass
    return named


# Names under which programs link what the simulator has: -lascendcl and so on.
_VENDOR = """
ascendcl tiling_api register platform runtime ascendc_runtime graph_base graph unified_dlog
profapi mmpa ascend_dump c_sec error_manager acl_rtc acl_rt acl_rt_compile acl_cblas nnopbase
ascendalog exe_graph tikicpulib tikcpp_debug msprofiler ascend_protobuf lowering opp_registry
metadef ge_common ascend_hal acl_op_compiler acl_tdt_channel acl_prof
"""
VENDOR_LIBRARIES = frozenset(_VENDOR.split())


def home() -> Path:
    """A folder laid out like the vendor's package: include, lib64 and cmake, all ours.

    For builds that use ASCEND_HOME_PATH; `xcompile simcc --home` prints it.
    """
    lib = library()
    path = lib.parent / "home"
    if not (path / "cmake").exists():
        with tempfile.TemporaryDirectory(dir=lib.parent) as tmp:
            new = Path(tmp) / "home"
            (new / "lib64").mkdir(parents=True)
            (new / "include").symlink_to(INCLUDE.resolve())
            for name in [lib.name, *(f"lib{n}.so" for n in sorted(VENDOR_LIBRARIES))]:
                (new / "lib64" / name).symlink_to(lib.resolve())
            (new / "cmake").symlink_to((ROOT / "cmake").resolve())
            try:
                os.replace(new, path)
            except OSError:
                pass  # another process was faster
    return path


def header_key(names: Iterable[str]) -> str:
    """Hash of public headers and of all that they reach; unknown names do not count."""
    paths = [INCLUDE / n for n in names]
    return Headers().key(*[p for p in paths if p.is_file()])


@cache
def precompiled(flags: tuple[str, ...]) -> Path | None:
    """A header to `-include` whose precompiled form fits these flags; None if g++ has none."""
    cxx, version = compiler()
    text = '#pragma once\n#include "kernel_operator.h"\n#include "acl/acl.h"\n'
    key = digest(version, " ".join(flags), header_key(["kernel_operator.h", "acl/acl.h"]), text)
    path = cache_dir() / "sim" / "pch" / key / "ascsim_all.h"
    if not path.exists():
        write_atomic(path, text.encode())
    command = [cxx, *flags, f"-I{INCLUDE}", "-x", "c++-header", str(path)]
    try:
        produce(path.with_suffix(".h.gch"), command, "precompiling the headers")
    except BuildError:
        return None  # the same error comes, with its place, from the program itself
    return path
