"""The two links of emitted Ascend sources: the simulator, and CANN where it is installed.

Each gives the ACL calls and the step's library. The way through CANN was never run: it is written
from the documentation.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from xcompile.errors import BuildError, XCompileError
from xcompile.hostcc import cache_dir
from xcompile.progress import step


class Watch(Protocol):
    """What was seen of the calls since a session began."""

    def errors(self) -> list[Any]: ...
    def report(self) -> dict[str, Any]: ...


class Link(Protocol):
    """ACL and the step's library, loaded into this process."""

    @property
    def acl(self) -> Any: ...
    @property
    def library(self) -> Any: ...
    def session(self, options: Any, trace: Path | None) -> Any:
        """A context in which the step may be called; gives a Watch."""


# -- the simulator ------------------------------------------------------------------------------
def write_sources(sources: Mapping[str, str], root: Path) -> None:
    """Files below a folder that is named by their content."""
    from xcompile.hostcc import write_atomic

    for name, content in sources.items():
        path = root / name
        if not path.exists():
            write_atomic(path, content.encode())


def simulator_library(sources: Mapping[str, str], chip: str) -> Path:
    """The shared library of emitted sources, built for the simulator; from the cache if it is
    there. Raises BuildError with g++'s messages."""
    from xcompile.sim.library import digest

    text = json.dumps(dict(sources), sort_keys=True)
    root = cache_dir() / "sim" / "emitted" / digest(text)[:24]
    write_sources(sources, root)
    units = [root / n for n in sources if n.endswith((".asc", ".cpp")) and n != "main.cpp"]
    return simulator_link(units, chip)


def simulator_link(units: list[Path], chip: str, out: Path | None = None) -> Path:
    """Compile sources and link them: a shared library in the cache, or the program `out`.

    Raises BuildError with g++'s messages.
    """
    from concurrent.futures import ThreadPoolExecutor

    from xcompile.sim import library
    from xcompile.sim.library import digest
    from xcompile.sim.simcc import Driver, parse

    request = parse(["-O1", "-fno-gnu-unique"])
    request.chip = library.chip_name(chip)
    request.mode = "link" if out else "shared"
    driver = Driver(request, quiet=True)
    with step("simcc") as progress, ThreadPoolExecutor(2) as pool:
        objects = []
        for k, obj in enumerate(pool.map(driver.compile, units)):
            objects.append(obj)
            progress(k + 1, len(units))
    found = [o for o in objects if o is not None]
    if len(found) != len(units):
        raise BuildError(f"building the emitted kernels failed:\n{driver.messages[:20000]}")
    lib = library.library()
    to = out or cache_dir() / "sim" / "so" / f"{digest(*[o.name for o in found], lib.name)}.so"
    if out or not to.exists():
        request.out = to.with_name(f"{to.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        to.parent.mkdir(parents=True, exist_ok=True)
        if driver.link(found):
            raise BuildError(f"linking the emitted kernels failed:\n{driver.messages[:20000]}")
        os.replace(request.out, to)
    return to


class Simulator:
    """The step in the simulator."""

    def __init__(self, sources: Mapping[str, str], chip: str) -> None:
        from xcompile.sim.loader import open_module

        self._module = open_module(simulator_library(sources, chip))
        self.acl, self.library = self._module.lib, self._module.library

    def session(self, options: Any, trace: Path | None) -> Any:
        return self._module.session(options, trace)


# -- CANN ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Cann:
    """An installation: its folder and its compiler."""

    home: Path
    bisheng: Path


def find_cann() -> Cann:
    """The installed CANN. Raises XCompileError, which says what was looked for."""
    home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME")
    places = [Path(home, "bin"), Path(home, "compiler", "ccec_compiler", "bin")] if home else []
    found = next((p / "bisheng" for p in places if (p / "bisheng").is_file()), None)
    path = found or shutil.which("bisheng")
    if home and path:
        return Cann(Path(home), Path(path))
    where = "".join(f", {p}" for p in places)
    looked = (
        f"ASCEND_HOME_PATH ({home or 'not set'}), which find_package(ASC) of the emitted CMake "
        f"project goes by too, and the compiler bisheng (on the PATH{where}: {path or 'not found'})"
    )
    raise XCompileError(
        f"no CANN was found; looked for {looked}. Install the CANN toolkit and source its "
        "set_env.sh (by default /usr/local/Ascend/cann/set_env.sh); without it the same sources "
        "run in the simulator: xcompile run OUT --target sim, xcompile build OUT --sim"
    )


def cmake(source: Path, build: Path, environment: Mapping[str, str], *options: str) -> None:
    """Configure and build. Raises BuildError with the end of the messages."""
    if shutil.which("cmake") is None:
        raise BuildError("no cmake on the PATH, which builds the emitted project")
    env = {**os.environ, **environment}
    configure = ["cmake", "-S", str(source), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release"]
    for command in (
        [*configure, *options],
        ["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)],
    ):
        run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if run.returncode:
            text = (run.stdout + run.stderr).strip()
            raise BuildError(f"{' '.join(command)} failed:\n{text[-8000:]}")


def cann_build(source: Path, build: Path, cann: Cann) -> None:
    """The emitted project with CANN's compiler: libstep.so and run_step in `build`."""
    path = f"{cann.bisheng.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {"ASCEND_HOME_PATH": str(cann.home), "PATH": path}
    cmake(source, build, environment, f"-DCMAKE_PREFIX_PATH={cann.home}")


class Device:
    """The step on a device, through CANN. Never run."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        from xcompile.sim.library import digest

        cann = find_cann()
        root = cache_dir() / "cann" / digest(json.dumps(dict(sources), sort_keys=True))[:24]
        write_sources(sources, root / "src")
        with step("cann"):
            cann_build(root / "src", root / "build", cann)
        try:
            self.acl = ctypes.CDLL(
                str(cann.home / "lib64" / "libascendcl.so"), mode=ctypes.RTLD_GLOBAL
            )
            self.library = ctypes.CDLL(str(root / "build" / "libstep.so"))
        except OSError as e:
            raise XCompileError(f"the step was built, but cannot be loaded: {e}") from None

    @contextmanager
    def session(self, options: Any, trace: Path | None) -> Iterator[Device]:
        if trace is not None:
            raise XCompileError("--trace is of the simulator; on a device use the vendor's msprof")
        yield self

    def errors(self) -> list[Any]:
        return []

    def report(self) -> dict[str, Any]:
        return {}
