"""The torch_npu wheel as test data: the vendor's ACL headers and operator schemas.

It is downloaded with pip into a temporary folder and read as a zip file; never installed, never
imported, and nothing of it is kept. Without it these tests are skipped, except in CI (CI or
XC_REQUIRE_WHEEL set), where they fail. XC_NPU_WHEEL names a wheel that is already there.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest

WANTED = "torch_npu==2.13.0"
HEADERS = "torch_npu/include/third_party/acl/inc/"
SCHEMAS = "torch_npu/csrc/aten/npu_native_functions_by_codegen.yaml"


def required() -> bool:
    return any(os.environ.get(k, "") not in ("", "0", "false") for k in ("CI", "XC_REQUIRE_WHEEL"))


@cache
def _download(folder: Path) -> tuple[Path | None, str]:
    """The wheel, or why there is none."""
    given = os.environ.get("XC_NPU_WHEEL")
    if given:
        path = Path(given)
        return (path.resolve(), "") if path.is_file() else (None, f"XC_NPU_WHEEL: no file {given}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    try:
        run = subprocess.run(
            [*command, str(folder), "--only-binary", ":all:", WANTED],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"pip download {WANTED} took longer than 300 s"
    found = sorted(folder.glob("torch_npu-*.whl"))
    if run.returncode or not found:
        last = run.stderr.strip().splitlines()[-1:] or ["no wheel was written"]
        return None, f"pip download {WANTED} failed: {last[0]}"
    return found[0], ""


def wheel(folder: Path) -> zipfile.ZipFile:
    """The wheel; skips the test (fails it in CI) when it cannot be had.

    folder  where the workers of one run share a download
    """
    shared = folder / "torch_npu.whl"
    with (folder / "torch_npu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            path, why = _download(folder / "download")
            if path is None:
                if required():
                    pytest.fail(f"{why}; in CI this test must run", pytrace=False)
                pytest.skip(why)
            shared.symlink_to(path)
    return zipfile.ZipFile(shared)


def headers(source: zipfile.ZipFile, folder: Path) -> Path:
    """Extracts the ACL headers; the include folder."""
    names = [n for n in source.namelist() if n.startswith(HEADERS) and n.endswith(".h")]
    source.extractall(folder, names)
    return folder / HEADERS


def schemas(source: zipfile.ZipFile) -> str:
    """The file of schemas, a YAML text."""
    return source.read(SCHEMAS).decode()
