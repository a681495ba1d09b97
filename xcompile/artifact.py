"""A compiled step as a folder: `save` writes it whole or not at all, `load` trusts nothing in it.

    manifest.json         program, signature, versions; size and sha256 of every other file
    manifest.sha256       of manifest.json (`sha256sum -c manifest.sha256`)
    graph.xir, plan.txt   what was compiled, to read; launches.json is the same for `inspect`
    src/                  the emitted sources
    libstep.so            the step, on a target that has it built before it runs
    weights.safetensors   packed constants, each at a multiple of 64 bytes
    examples.safetensors  example inputs and eager's results, for `xcompile run --check`
    tokenizer.json        of a language model, when given, for `xcompile run --prompt`

The checksums find damage, not malice: the step is native code that runs with your rights, so load
an artifact only from where you would run a program from.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import xcompile
from xcompile import check, tensorfile
from xcompile.compiler import Compiled, read_target
from xcompile.errors import ArtifactError, XCompileError
from xcompile.executable import Executable, Signature
from xcompile.ir import Type
from xcompile.manifest import (
    Reader,
    constants,
    fingerprint,
    program_json,
    read_program,
    read_signature,
    signature_json,
)
from xcompile.publish import Sibling, publish, sync, umask
from xcompile.report import Summary, from_json, summarise, to_json
from xcompile.runtime.program import Program
from xcompile.targets import Stored, Target
from xcompile.text import to_text

FORMAT = 1
MANIFEST, CHECKSUM = "manifest.json", "manifest.sha256"
WEIGHTS, EXAMPLES, LAUNCHES = "weights.safetensors", "examples.safetensors", "launches.json"
TOKENIZER = "tokenizer.json"
REQUIRED = {"graph.xir", "plan.txt", LAUNCHES, WEIGHTS}
LIBRARIES = {"libstep.so"}  # of any target
SOURCE = re.compile(
    r"src/(?:\w+\.[ch]pp|CMakeLists\.txt|kernels/\w+\.asc|(?:lib|phases)/\w+\.h)", re.ASCII
)
MAX_MANIFEST = 1 << 28


# -- saving -----------------------------------------------------------------------------------
def save(
    exe: Executable, path: Path, *, examples: bool = True, tokenizer: str | None = None
) -> Path:
    """Write an artifact; an artifact that is already there is replaced once this one is complete.

    examples  also record the example inputs and what eager makes of them (runs the model once,
              and once more in float32 when it computes in bf16)
    tokenizer a tokenizer.json of the `tokenizers` library, as text

    Raises XCompileError when the folder cannot be written or holds something else.
    """
    path = check_destination(path)
    try:
        with Sibling(path) as tmp:
            if exe.compiled is not None:
                _write(exe, exe.compiled, tmp, examples, tokenizer)
            elif exe.path is not None:
                _copy(exe.path, tmp)
            else:
                raise XCompileError("this executable holds nothing that could be saved")
            sync(tmp)
            check_destination(path)
            publish(tmp, path)
    except OSError as e:
        raise XCompileError(f"cannot write {path}: {e.strerror or e}") from e
    return path


def check_destination(path: Path) -> Path:
    """Where an artifact will be, links followed. Raises XCompileError when it cannot be there."""
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise XCompileError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise XCompileError(f"cannot write {path}: no permission to write in {path.parent}")
    if not path.exists():
        return path
    if not path.is_dir():
        raise XCompileError(f"cannot write {path}: it is a file; an artifact is a folder")
    try:
        found = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()}
    except OSError as e:
        raise XCompileError(f"cannot write {path}: {e.strerror}") from e
    if found and MANIFEST not in found:
        raise XCompileError(f"cannot write {path}: the folder holds other files, not an artifact")
    if alien := sorted(f for f in found if not _ours(f)):
        raise XCompileError(
            f"cannot replace {path}: it also holds {', '.join(alien[:5])}; move that away first"
        )
    return path


def _ours(name: str) -> bool:
    known = REQUIRED | LIBRARIES | {MANIFEST, CHECKSUM, EXAMPLES, TOKENIZER}
    return name in known or SOURCE.fullmatch(name) is not None


def _write(exe: Executable, c: Compiled, root: Path, examples: bool, tokenizer: str | None) -> None:
    (root / "graph.xir").write_text(to_text(c.graph), encoding="utf-8")
    (root / "plan.txt").write_text(c.plan.text(), encoding="utf-8")
    (root / LAUNCHES).write_text(json.dumps(to_json(summarise(c))), encoding="utf-8")
    for name, text in c.sources.items():
        path = root / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if c.target.library is not None:
        (root / c.target.library).write_bytes(c.library)
        (root / c.target.library).chmod(0o777 & ~umask())
    packed = (c.pack(i) for i in range(len(c.plan.consts)))
    tensorfile.write(root / WEIGHTS, constants(c.plan), packed)
    if tokenizer is not None:
        (root / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    recorded = None
    if examples and exe.examples is not None:
        recorded = check.store(root / EXAMPLES, exe.examples())
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "xcompile": xcompile.__version__,
        "torch": torch.__version__,
        "target": c.target.facts(),
        "graph": _sha256(root / "graph.xir"),
        "signature": signature_json(exe.signature),
        "program": program_json(c.plan),
        "examples": recorded,
        "files": {name: _facts(root / name) for name in _listing(root)},
    }
    data = (_layout(manifest) + "\n").encode()
    (root / MANIFEST).write_bytes(data)
    (root / CHECKSUM).write_text(f"{hashlib.sha256(data).hexdigest()}  {MANIFEST}\n")


def _layout(manifest: dict[str, Any]) -> str:
    """JSON to read: one line for each thing of the two upper levels, one for each list item."""

    def show(x: Any, depth: int) -> str:
        pad = " " * depth
        if depth < 3 and isinstance(x, dict) and x:
            items = [f"{pad} {json.dumps(k)}: {show(v, depth + 1)}" for k, v in x.items()]
            return "{\n" + ",\n".join(items) + f"\n{pad}}}"
        if depth < 3 and isinstance(x, list) and any(isinstance(v, dict) for v in x):
            return "[\n" + ",\n".join(f"{pad} {json.dumps(v)}" for v in x) + f"\n{pad}]"
        return json.dumps(x)

    return show(manifest, 0)


def _listing(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def _facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _copy(source: Path, root: Path) -> None:
    """Save a loaded executable: its files, verified first."""
    manifest = _manifest(source)
    for name in [*_verified(source, manifest), MANIFEST, CHECKSUM]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, root / name)


# -- loading ----------------------------------------------------------------------------------
def load(path: Path, threads: int | None = None) -> Executable:
    """An Executable from an artifact. Needs no compiler, no transformers and no model source.

    XC_WEIGHTS=mmap  use the weights where they are mapped from the file, shared by all processes
                     on the machine, instead of copying them to huge pages
    XC_CHECK=size    compare the sizes of the files but not their contents

    Raises ArtifactError: names the file and what is wrong with it.
    """
    path = Path(path)
    a = read(path)
    if a.program.islands:
        _check_torch(a.manifest.get("torch").text(limit=64))
    stored = Stored(
        path,
        a.program,
        _tensors(path / WEIGHTS, a.consts),
        fingerprint(a.manifest.get("program").data, str(a.target)),
        [name.removeprefix("src/") for name in a.files if name.startswith("src/")],
    )
    exe = Executable(a.target.restore(stored, threads), a.signature, path=path.resolve())
    if a.manifest.get("examples").data is not None:
        facts = check.read_facts(a.manifest.get("examples"))
        exe.examples = lambda: check.restore(path / EXAMPLES, facts, a.program)
    return exe


@dataclass(frozen=True)
class Artifact:
    """What a folder holds, verified; nothing of it is loaded to run."""

    path: Path
    manifest: Reader
    target: Target
    program: Program
    consts: dict[str, Type]
    signature: Signature
    files: list[str]
    changed: list[str]  # sources that are not what was emitted, where that is allowed


def read(path: Path, *, edited: bool = False) -> Artifact:
    """An artifact's description and the names of its files.

    edited  take sources that were changed by hand: their names are in `changed`

    Raises ArtifactError: names the file and what is wrong with it.
    """
    manifest = _manifest(path)
    target = read_target(manifest.get("target"))
    changed: list[str] = []
    files = _verified(path, manifest, changed=changed if edited else None)
    if target.library is not None and target.library not in files:
        raise ArtifactError(f"{MANIFEST} does not list {target.library}")
    program, consts = read_program(manifest.get("program"))
    signature = read_signature(manifest.get("signature"), program)
    return Artifact(path, manifest, target, program, consts, signature, files, changed)


def read_summary(path: Path) -> Summary:
    """What `report` and `inspect` show of an artifact, from launches.json."""
    manifest = _manifest(path)
    _verified(path, manifest, only={LAUNCHES})
    program, _ = read_program(manifest.get("program"))
    data = _json((path / LAUNCHES).read_bytes(), LAUNCHES)
    try:
        return from_json(Reader(data, LAUNCHES), set(program.symbols))
    except ArtifactError:
        raise
    except XCompileError as e:
        raise ArtifactError(f"{LAUNCHES}: {e}") from None


def _manifest(path: Path) -> Reader:
    """The manifest, of this format version and with the right checksum."""
    if not path.is_dir():
        raise ArtifactError(f"{path}: there is no artifact (a folder with {MANIFEST})")
    data = _bytes(path / MANIFEST, MAX_MANIFEST)
    want = _bytes(path / CHECKSUM, 4096).split()
    if not want or want[0] != hashlib.sha256(data).hexdigest().encode():
        raise ArtifactError(f"{path / MANIFEST} was changed: its sha256 is not that in {CHECKSUM}")
    manifest = Reader(_json(data, MANIFEST))
    found = manifest.get("format")
    if type(found.data) is not int or found.data != FORMAT:
        raise ArtifactError(
            f"{path / MANIFEST}: format {str(found.data)[:20]}, this xcompile "
            f"{xcompile.__version__} reads format {FORMAT}; compile the model again"
        )
    return manifest


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as e:  # UnicodeDecodeError is a ValueError
        raise ArtifactError(f"{name} is not JSON: {e}") from None


def _bytes(path: Path, limit: int) -> bytes:
    if _size(path) > limit:
        raise ArtifactError(f"{path} is larger than {limit} bytes")
    try:
        return path.read_bytes()
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror}") from e


def _size(path: Path) -> int:
    """Bytes of a regular file; anything else (a pipe, a device) could block or never end."""
    try:
        s = path.stat()
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror}") from e
    if not stat.S_ISREG(s.st_mode):
        raise ArtifactError(f"{path} is not a file")
    return s.st_size


def _verified(
    path: Path,
    manifest: Reader,
    only: set[str] | None = None,
    changed: list[str] | None = None,
) -> list[str]:
    """Names of the artifact's files, each of the recorded size and content; of those in src/ that
    are not the names go to `changed`, if that is given."""
    files = manifest.get("files")
    if not isinstance(files.data, dict):
        files.fail("the files by name")
    jobs: list[tuple[str, str]] = []
    for name in files.data:
        if not _ours(name) or name in (MANIFEST, CHECKSUM):
            raise ArtifactError(f"{MANIFEST}: {name[:80]!r} is no file of an artifact")
        want = files.get(name).get("bytes").whole()
        digest = files.get(name).get("sha256").text(r"[0-9a-f]{64}", 64)
        if only is not None and name not in only:
            continue
        size = _size(path / name)
        if size != want and changed is not None and name.startswith("src/"):
            changed.append(name)
            continue
        if size != want:
            how = "truncated" if size < want else "changed"
            raise ArtifactError(f"{path / name} is {how}: {size} bytes, expected {want}")
        jobs.append((name, digest))
    wanted = REQUIRED | ({EXAMPLES} if manifest.get("examples").data is not None else set())
    if missing := sorted(wanted - files.data.keys()):
        raise ArtifactError(f"{MANIFEST} does not list {', '.join(missing)}")
    if os.environ.get("XC_CHECK") != "size":
        with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
            for (name, digest), found in zip(
                jobs, pool.map(lambda job: _digest(path / job[0]), jobs), strict=True
            ):
                if found != digest and changed is not None and name.startswith("src/"):
                    changed.append(name)
                elif found != digest:
                    raise ArtifactError(f"{path / name} was changed: its sha256 is another")
    return list(files.data)


def _digest(path: Path) -> str:
    try:
        return _sha256(path)
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror}") from e


def _check_torch(version: str) -> None:
    """Islands run torch's operators, whose schemas may differ from version to version."""
    built, here = (re.match(r"\d+\.\d+", v) for v in (version, torch.__version__))
    if built is None or here is None or built[0] != here[0]:
        raise ArtifactError(
            f"{MANIFEST}: eager islands were compiled with torch {version}, this is "
            f"{torch.__version__}; compile the model again"
        )


def _tensors(path: Path, consts: dict[str, Type]) -> list[torch.Tensor]:
    """The constants, as views of the mapped file."""
    tensors = tensorfile.read(path)
    if list(tensors) != list(consts):
        raise ArtifactError(f"{path} does not hold the constants that {MANIFEST} lists")
    for (name, t), want in zip(tensors.items(), consts.values(), strict=True):
        if t.dtype != want.dtype or tuple(t.shape) != want.shape:
            raise ArtifactError(f"{path}: {name!r} is {t.dtype} {tuple(t.shape)}, not {want}")
    return list(tensors.values())
