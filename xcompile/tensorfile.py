"""Tensors in a file: the safetensors format, with every tensor at a multiple of 64 bytes.

The library reads weights straight from a memory map, and its aligned loads need 64 bytes. The
format allows no holes between tensors, so the gaps are tensors of their own, named `.pad.N`. Any
reader of safetensors opens these files; ours exists because it also refuses what does not belong.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

import torch

from xcompile.errors import ArtifactError
from xcompile.ir import Type
from xcompile.runtime.program import ALIGN

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {v: k for k, v in DTYPES.items()}
PAD = ".pad."
MAX_HEADER = 100 << 20  # the limit of the safetensors library


def write(path: Path, types: Mapping[str, Type], tensors: Iterable[torch.Tensor]) -> None:
    """Write tensors of known types one after the other: only one is in memory at a time."""
    header: dict[str, dict] = {}
    at = 0

    def entry(name: str, dtype: str, shape: list[int], nbytes: int) -> None:
        nonlocal at
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes

    for name, t in types.items():
        if gap := -at % ALIGN:
            entry(f"{PAD}{len(header)}", "U8", [gap], gap)
        shape = [int(d) for d in t.shape]
        entry(name, NAMES[t.dtype], shape, prod(shape) * t.dtype.itemsize)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGN)
    with path.open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for (name, want), data in zip(types.items(), tensors, strict=True):
            if data.dtype != want.dtype or tuple(data.shape) != want.shape:
                raise AssertionError(f"{name} is {data.dtype} {tuple(data.shape)}, not {want}")
            f.write(b"\0" * (-f.tell() % ALIGN))
            if data.numel():
                flat = data.detach().cpu().contiguous().reshape(-1)
                f.write(flat.view(torch.uint8).numpy().data)
        f.flush()
        os.fsync(f.fileno())


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file as views of a private memory map: nothing is read before it is used.

    Raises ArtifactError unless the header describes exactly the bytes that follow it.
    """
    try:
        with path.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            length = int.from_bytes(f.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER):
                raise ArtifactError(f"{path.name}: the header is cut off")
            header = json.loads(f.read(length))
            # copy on write: torch wants writable memory, and the file must stay as it is
            data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as e:
        raise ArtifactError(f"{path.name}: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise ArtifactError(f"{path.name}: the header is not JSON ({e})") from None
    if not isinstance(header, dict):
        raise ArtifactError(f"{path.name}: the header is not an object")
    end = 0
    out: dict[str, torch.Tensor] = {}
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, nbytes = _entry(path.name, name, facts, end)
        if not name.startswith(PAD):
            start = 8 + length + end
            if start + nbytes > size:
                raise ArtifactError(f"{path.name}: {name[:80]!r} lies outside the file")
            out[name] = (
                torch.frombuffer(data, dtype=dtype, count=prod(shape), offset=start).view(shape)
                if nbytes
                else torch.empty(shape, dtype=dtype)
            )
        end += nbytes
    if 8 + length + end != size:
        raise ArtifactError(f"{path.name}: {size} bytes, the header describes {8 + length + end}")
    return out


def _entry(file: str, name: str, e: object, start: int) -> tuple[torch.dtype, list[int], int]:
    """(dtype, shape, bytes) of a header entry that must begin at `start`."""

    def whole(x: object) -> bool:
        return type(x) is int and 0 <= x < 1 << 48

    match e:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [first, last]}:
            if dtype in DTYPES and len(shape) < 65 and all(map(whole, [*shape, first, last])):
                nbytes = prod(shape) * DTYPES[dtype].itemsize
                if first == start and last == start + nbytes and nbytes < 1 << 48:
                    return DTYPES[dtype], shape, nbytes
    raise ArtifactError(f"{file}: the header's entry for {name[:80]!r} is malformed")
