"""`xcompile sim run`: one kernel without a main, its arguments from a JSON file."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xcompile import sim
from xcompile.errors import XCompileError

NUMPY = {
    "bool": np.bool_,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "uint64": np.uint64,
    "float16": np.float16,
    "half": np.float16,
    "float": np.float32,
    "float32": np.float32,
    "float64": np.float64,
}
BF16 = ("bfloat16", "bf16")
TENSOR_KEYS = {"name", "dtype", "shape", "file", "fill", "random", "arange", "out", "seed"}
SCALAR_KEYS = {"name", "dtype", "value"}
STRUCT_KEYS = {"name", "struct", "bytes", "hex"}
SPEC_KEYS = {
    "kernel",
    "blocks",
    "tiling_key",
    "args",
    "chip",
    "checks",
    "seed",
    "defines",
    "include",
}


class Argument:
    """One entry of the list `args`, as a value for the kernel and as what is written afterwards."""

    def __init__(self, where: str, spec: Mapping[str, Any], folder: Path, index: int) -> None:
        self.name = str(spec.get("name", f"arg{index}"))
        self.where, self.folder = where, folder
        self.out = False
        self.bf16 = spec.get("dtype") in BF16
        if "struct" in spec or "bytes" in spec or "hex" in spec:
            self._only(spec, STRUCT_KEYS)
            self.value: Any = self._struct(spec)
        elif "shape" in spec or "file" in spec:
            self._only(spec, TENSOR_KEYS)
            self.array = self._tensor(spec, index)
            self.out = bool(spec.get("out", False))
            known = any(k in spec for k in ("file", "fill", "random", "arange"))
            self.value = self.array if known or not self.out else sim.Out(self.array)
        elif "value" in spec:
            self._only(spec, SCALAR_KEYS)
            self.value = self._scalar(spec)
        else:
            raise self._error("needs shape or file (a tensor), value (a number) or struct")

    def _error(self, message: str) -> XCompileError:
        return XCompileError(f"{self.where}: {message}")

    def _only(self, spec: Mapping[str, Any], keys: set[str]) -> None:
        if extra := sorted(spec.keys() - keys):
            raise self._error(f"unknown {extra[0]!r}; known here: {', '.join(sorted(keys))}")

    def _dtype(self, name: object) -> type:
        if name in BF16:
            return np.uint16
        if not isinstance(name, str) or name not in NUMPY:
            known = ", ".join([*NUMPY, *BF16])
            raise self._error(f"dtype {name!r}; known: {known}")
        return NUMPY[name]

    def _scalar(self, spec: Mapping[str, Any]) -> int | float:
        value = spec["value"]
        if isinstance(value, bool):
            return int(value)
        if not isinstance(value, int | float):
            raise self._error(f"value is {value!r}, not a number")
        if "dtype" in spec and not self.bf16:
            kind = self._dtype(spec["dtype"])
            if np.issubdtype(kind, np.integer) and value != int(value):
                raise self._error(f"value {value} is no {spec['dtype']}")
            return float(value) if np.issubdtype(kind, np.floating) else int(value)
        return value

    def _struct(self, spec: Mapping[str, Any]) -> bytes:
        """bytes: base64; hex: hexadecimal; struct: [[dtype, value], ...], naturally aligned."""
        try:
            if "bytes" in spec:
                return base64.b64decode(spec["bytes"], validate=True)
            if "hex" in spec:
                return bytes.fromhex(spec["hex"])
        except (ValueError, TypeError) as e:
            raise self._error(str(e)) from None
        out, widest = b"", 1
        for entry in spec["struct"]:
            if not isinstance(entry, list) or len(entry) != 2:
                raise self._error(f"struct entries are [dtype, value], not {entry!r}")
            kind = self._dtype(entry[0])
            values = np.asarray(entry[1])
            data = _to_bf16(values) if entry[0] in BF16 else values.astype(kind)
            size = data.dtype.itemsize
            widest = max(widest, size)
            out += b"\0" * (-len(out) % size) + data.tobytes()
        return out + b"\0" * (-len(out) % widest)

    def _tensor(self, spec: Mapping[str, Any], index: int) -> np.ndarray:
        kind = self._dtype(spec.get("dtype", "float32"))
        shape = spec.get("shape")
        if "file" in spec:
            return self._file(spec, kind, shape)
        if not isinstance(shape, list) or not all(isinstance(d, int) and d > 0 for d in shape):
            raise self._error(f"shape {shape!r} is no list of positive numbers")
        n = math.prod(shape)
        if "fill" in spec:
            values = np.full(n, spec["fill"], np.float64 if self.bf16 else None)
        elif "arange" in spec:
            start, step = _pair(spec["arange"], (0, 1))
            values = start + step * np.arange(n)
        elif "random" in spec:
            values = self._random(spec, kind, n, index)
        else:
            values = np.zeros(n)
        result = _to_bf16(values) if self.bf16 else values.astype(kind)
        return np.ascontiguousarray(result.reshape(shape))

    def _random(self, spec: Mapping[str, Any], kind: type, n: int, index: int) -> np.ndarray:
        rng = np.random.default_rng(spec.get("seed", index))
        default = (-1, 1) if self.bf16 or np.issubdtype(kind, np.floating) else (0, 100)
        low, high = _pair(spec["random"], default)
        if self.bf16 or np.issubdtype(kind, np.floating):
            return rng.uniform(low, high, n)
        return rng.integers(int(low), int(high), n)

    def _file(self, spec: Mapping[str, Any], kind: type, shape: Any) -> np.ndarray:
        path = self.folder / spec["file"]
        try:
            data = np.load(path) if path.suffix == ".npy" else np.fromfile(path, kind)
        except (OSError, ValueError) as e:
            raise self._error(f"file: {e}") from None
        if "dtype" in spec and data.dtype != kind:
            raise self._error(f"{path} has dtype {data.dtype}, not {spec['dtype']}")
        if shape is not None and data.size != math.prod(shape):
            raise self._error(
                f"{path} has {data.size} elements, shape {shape} needs another number"
            )
        return np.ascontiguousarray(data if shape is None else data.reshape(shape))

    def save(self, folder: Path) -> Path:
        """Write the tensor; bfloat16 is written as float32, which holds every value of it."""
        path = folder / f"{self.name}.npy"
        data = self.array
        if self.bf16:
            data = (data.astype(np.uint32) << 16).view(np.float32)
        try:
            np.save(path, data)
        except OSError as e:
            raise XCompileError(f"{path}: {e.strerror or e}") from None
        return path


def _pair(value: Any, default: tuple[float, float]) -> tuple[float, float]:
    if isinstance(value, list) and len(value) == 2:
        return value[0], value[1]
    return default


def _to_bf16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read_spec(path: Path) -> dict[str, Any]:
    """The JSON file of --args. Raises XCompileError with its line."""
    try:
        spec = json.loads(path.read_text())
    except OSError as e:
        raise XCompileError(f"{path}: {e.strerror}") from None
    except ValueError as e:
        raise XCompileError(f"{path}: {e}") from None
    if not isinstance(spec, dict) or not isinstance(spec.get("args"), list):
        raise XCompileError(f'{path} is no object with a list "args"')
    if extra := sorted(spec.keys() - SPEC_KEYS):
        known = ", ".join(sorted(SPEC_KEYS))
        raise XCompileError(f"{path}: unknown {extra[0]!r}; known: {known}")
    return spec


def run_kernel(
    source: Path,
    args: Path,
    *,
    out: Path,
    chip: str | None,
    checks: str | None,
    seed: int | None,
    trace: Path | None,
    flags: list[str],
) -> None:
    """Build, run, write the outputs, print what happened."""
    spec = read_spec(args)
    values = []
    for i, entry in enumerate(spec["args"]):
        where = f"{args}: args[{i}]"
        if not isinstance(entry, dict):
            raise XCompileError(f"{where} is no object")
        values.append(Argument(where, entry, args.parent, i))
    names = [v.name for v in values if v.out]
    if len(set(names)) != len(names):
        raise XCompileError(f"{args}: two outputs have the same name")
    kernel = sim.load(
        source,
        spec.get("kernel"),
        chip=chip or spec.get("chip", "910B1"),
        checks=checks or spec.get("checks", "all"),
        seed=seed if seed is not None else int(spec.get("seed", 0)),
        defines=spec.get("defines"),
        include=[args.parent / p for p in spec.get("include", [])],
        flags=flags,
    )
    blocks, key = int(spec.get("blocks", 1)), int(spec.get("tiling_key", 0))
    result = kernel(*[v.value for v in values], blocks=blocks, tiling_key=key, trace=trace)
    out.mkdir(parents=True, exist_ok=True)
    for v in values:
        if v.out:
            print(f"{v.save(out)}: {v.array.shape} {'bfloat16' if v.bf16 else v.array.dtype}")
    print(
        f"{kernel.name}: {blocks} blocks, {result.cycles:.0f} cycles, {result.microseconds:.2f} us"
    )
    if trace is not None:
        print(f"{trace}: open in ui.perfetto.dev")
