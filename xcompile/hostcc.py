"""The host's C++ compiler and the cache of what it built. Imports nothing heavy."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from xcompile.errors import BuildError


def cache_dir() -> Path:
    """XC_CACHE_DIR, else the user's cache folder."""
    base = os.environ.get("XC_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(base) if base else home / "xcompile"


@cache
def compiler() -> tuple[str, str]:
    """Path and version line of the host compiler (CXX, else g++). Raises BuildError."""
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        raise BuildError(
            f"no C++ compiler: {name!r} is not on the PATH. Install g++ (Debian and Ubuntu: "
            "apt-get install g++) or point CXX at one"
        )
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return path, version.stdout.splitlines()[0] if version.stdout else "unknown"


def write_atomic(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename: readers see all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
