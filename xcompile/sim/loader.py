"""Ascend C kernels as Python functions: built once per content, run in this process."""

from __future__ import annotations

import ctypes
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xcompile.errors import BuildError, SimulationError, XCompileError
from xcompile.hostcc import cache_dir, write_atomic
from xcompile.sim import library
from xcompile.sim.arguments import Memory, Out, convert, memory_of
from xcompile.sim.library import digest
from xcompile.sim.simcc import Driver, Request, parse

CHECKS = {"bounds", "align", "param", "init", "race", "queue", "flag", "chip", "all", "none"}
_lock = threading.RLock()


@dataclass(frozen=True)
class SimError:
    """One error that a check found: the rule, what happened, and where."""

    rule: str
    text: str
    kernel: str = ""
    file: str = ""
    line: int = 0
    core: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        which = f" (kernel {self.kernel}, core {self.core})" if self.kernel else ""
        return f"{where}[{self.rule}] {self.text}{which}"


@dataclass
class Result:
    """What one launch did. `cycles` is the makespan by the cycle model, in cycles of the cores."""

    errors: list[SimError] = field(default_factory=list)
    cycles: float = 0.0
    microseconds: float = 0.0
    status: int = 0  # ACL error code
    report: dict = field(default_factory=dict)  # of the cycle model: per pipe and memory level
    trace: Path | None = None


@dataclass(frozen=True)
class Options:
    """How to run: the chip, the checks, the order of the cores, the synchronisation added."""

    chip: str = library.DEFAULT_CHIP
    checks: str = "all"
    seed: int = 0
    auto_sync: bool | None = None

    def environment(self, trace: Path | None) -> dict[str, str | None]:
        return {
            "XC_SIM_CHIP": self.chip,
            "XC_SIM_CHECKS": self.checks,
            "XC_SIM_SEED": str(self.seed),
            "XC_SIM_AUTO_SYNC": None if self.auto_sync is None else str(int(self.auto_sync)),
            "XC_SIM_TRACE": str(trace) if trace is not None else None,
        }


@contextmanager
def _environment(lib: ctypes.CDLL, values: Mapping[str, str | None]) -> Iterator[None]:
    before = {k: os.environ.get(k) for k in values}

    def put(env: Mapping[str, str | None]) -> None:
        for k, v in env.items():
            if v is None:
                os.environ.pop(k, None)
            else:
                os.environ[k] = v

    put(values)
    lib.ascsim_reload_options()
    try:
        yield
    finally:
        put(before)


class _Runtime:
    """libascsim.so, loaded once for all modules of the process."""

    _instance: _Runtime | None = None

    def __init__(self) -> None:
        self.lib = ctypes.CDLL(str(library.library()), mode=ctypes.RTLD_GLOBAL)
        self.lib.ascsim_embed()
        for name in ("ascsim_kernels", "ascsim_take_errors", "ascsim_report"):
            getattr(self.lib, name).restype = ctypes.c_char_p
        for name in ("ascsim_time", "ascsim_megahertz"):
            getattr(self.lib, name).restype = ctypes.c_double
        self.modules: dict[Path, Module] = {}

    @classmethod
    def get(cls) -> _Runtime:
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance


@dataclass(frozen=True)
class Session:
    """What the simulator saw since the session began."""

    lib: ctypes.CDLL

    def errors(self) -> list[SimError]:
        return [SimError(**e) for e in json.loads(self.lib.ascsim_take_errors())]

    def report(self) -> dict[str, Any]:
        """The cycle model's figures; see docs/simulator.md."""
        report: dict[str, Any] = json.loads(self.lib.ascsim_report())
        return report


class Module:
    """The kernels of one built library."""

    def __init__(self, runtime: _Runtime, path: Path) -> None:
        self.lib = runtime.lib
        self.number = int(self.lib.ascsim_begin_module())
        try:
            self._module = ctypes.CDLL(str(path))  # registers its kernels
        except OSError as e:
            raise BuildError(f"loading {path}: {e}") from None
        finally:
            self.lib.ascsim_end_module()
        self.library = self._module
        described = json.loads(self.lib.ascsim_kernels(self.number))
        self.kernels = {k["name"]: [(c, n) for c, n in k["params"]] for k in described}

    @contextmanager
    def session(self, options: Options, trace: Path | None = None) -> Iterator[Session]:
        """Host code of this library runs with these options; see what came of it afterwards."""
        with _lock, _environment(self.lib, options.environment(trace)):
            self.lib.ascsim_take_errors()
            self.lib.ascsim_reset_report()
            yield Session(self.lib)
            if trace is not None:
                self.lib.ascsim_write_trace()

    def find(self, name: str | None) -> str:
        """The full name of a kernel, or of the only one. Raises XCompileError."""
        known = ", ".join(self.kernels) or "none (templates need kernel='name<arguments>')"
        if name is None:
            if len(self.kernels) != 1:
                raise XCompileError(f"which kernel? The source has: {known}")
            return next(iter(self.kernels))
        if name in self.kernels:
            return name
        tails = [k for k in self.kernels if k.endswith("::" + name)]
        if len(tails) != 1:
            raise XCompileError(f"no kernel {name!r}; the source has: {known}")
        return tails[0]


class Kernel:
    """A kernel to call: `kernel(x, y, out, n, blocks=8)`; arrays are changed in place."""

    def __init__(self, module: Module, name: str, options: Options, blocks: int, check: bool):
        self.module, self.name, self.options = module, name, options
        self.blocks, self.check = blocks, check
        self.params = module.kernels[name]

    def __call__(
        self,
        *args: Any,
        blocks: int | None = None,
        tiling_key: int = 0,
        check: bool | None = None,
        seed: int | None = None,
        trace: str | Path | None = None,
    ) -> Result:
        """Run the kernel on `blocks` blocks.

        Arrays (numpy, or contiguous CPU tensors of torch) are global memory and changed in place.
        `sim.Out(x)` marks one as not yet written; `sim.TensorList([x, y])` is what a kernel reads
        with ListTensorDesc. Numbers are converted to the parameter's type; bytes, ctypes structs
        and numpy records are structs by value. Raises XCompileError if the arguments do not fit,
        and SimulationError for what a check found unless `check=False`.
        """
        if len(args) != len(self.params):
            kinds = ", ".join(f"{c}{n}" for c, n in self.params)
            raise XCompileError(
                f"{self.name} takes {len(self.params)} arguments ({kinds}), given {len(args)}"
            )
        options = self.options
        if seed is not None:
            options = Options(options.chip, options.checks, seed, options.auto_sync)
        path = Path(trace) if trace is not None else None
        with _lock:
            result = self._run(args, blocks or self.blocks, tiling_key, options, path)
        if result.errors and (self.check if check is None else check):
            text = "\n".join(map(str, result.errors))
            raise SimulationError(f"kernel {self.name}:\n{text}", result.errors)
        return result

    def _run(
        self, args: Sequence[Any], blocks: int, key: int, options: Options, trace: Path | None
    ) -> Result:
        lib = self.module.lib
        memory = Memory(args)
        values = []
        for i, (value, (code, size)) in enumerate(zip(args, self.params, strict=True)):
            try:
                values.append(convert(value, code, size, memory))
            except XCompileError as e:
                raise XCompileError(f"argument {i} of {self.name}: {e}") from None
        n = len(values)
        codes = "".join(v.code for v in values).encode()
        sizes = (ctypes.c_size_t * max(n, 1))(*[v.size for v in values])
        data = (ctypes.c_void_p * max(n, 1))(*[ctypes.addressof(v.data) for v in values])
        with _environment(lib, options.environment(trace)):
            lib.ascsim_take_errors()
            lib.ascsim_reset_report()
            for b in memory.buffers:
                lib.ascsim_gm_add(ctypes.c_void_p(b.base), ctypes.c_size_t(b.size), int(b.written))
            try:
                status = lib.ascsim_launch(
                    self.module.number,
                    self.name.encode(),
                    ctypes.c_int64(blocks),
                    ctypes.c_uint64(key),
                    ctypes.c_size_t(n),
                    codes,
                    sizes,
                    data,
                )
                ctypes.CDLL(None).fflush(None)  # printf of the kernel
                for value in args:  # an output must be written completely
                    if isinstance(value, Out) and status == 0:
                        lib.ascsim_gm_host_read(*_placed(value, memory))
            finally:
                for b in memory.buffers:
                    lib.ascsim_gm_remove(ctypes.c_void_p(b.base))
            errors = [SimError(**e) for e in json.loads(lib.ascsim_take_errors())]
            if status and not errors:
                errors.append(SimError("launch", f"ACL error {status}", self.name))
            report = json.loads(lib.ascsim_report())
            if trace is not None:
                lib.ascsim_write_trace()
            microseconds = float(report.get("us", 0.0))
            cycles = microseconds * float(lib.ascsim_megahertz())
        for b in memory.buffers:
            b.restore()
        return Result(errors, cycles, microseconds, int(status), report, trace)


def _placed(out: Out, memory: Memory) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    found = memory_of(out.array)
    assert found is not None  # convert() has refused anything else
    return ctypes.c_void_p(memory.place(found[0])), ctypes.c_size_t(found[1])


def build(
    source: str | Path,
    *,
    instantiate: Sequence[str] = (),
    chip: str = library.DEFAULT_CHIP,
    defines: Mapping[str, Any] | None = None,
    include: Sequence[str | Path] = (),
    flags: Sequence[str] = (),
) -> Path:
    """The shared library of a source (text or path), from the cache if nothing has changed.

    Raises BuildError with g++'s messages.
    """
    text, path = _source(source)
    for name in instantiate:
        text += (
            f"\n[[maybe_unused]] static const bool ascsimNamed{digest(name)[:12]} = "
            f'::ascsim::registerKernel("{name}", &{name});'
        )
    options = [*flags, *(f"-D{k}={v}" for k, v in (defines or {}).items()), "-fno-gnu-unique"]
    request: Request = parse([*options, *(f"-I{p}" for p in include)])
    request.chip = library.chip_name(chip)
    request.mode = "shared"
    driver = Driver(request, quiet=True)
    obj = driver.compile(path, text)
    if obj is None:
        raise BuildError(f"building {path.name} failed:\n{driver.messages.strip()[:20000]}")
    lib = library.library()
    request.out = cache_dir() / "sim" / "so" / f"{digest(obj.name, lib.name)}.so"
    if not request.out.exists():
        out = request.out
        request.out = out.with_suffix(f".{os.getpid()}.{threading.get_ident()}.so")
        out.parent.mkdir(parents=True, exist_ok=True)
        if driver.link([obj]):
            raise BuildError(f"linking {path.name} failed:\n{driver.messages.strip()[:20000]}")
        os.replace(request.out, out)
        request.out = out
    return request.out


def _source(source: str | Path) -> tuple[str, Path]:
    """Text and path; a text without a file gets a place in the cache."""
    is_text = isinstance(source, str) and ("\n" in source or "{" in source)
    if not is_text:
        path = Path(source)
        if not path.is_file():
            raise XCompileError(f"{path}: no such file")
        return path.read_bytes().decode("utf-8", "surrogateescape"), path
    text = str(source)
    path = cache_dir() / "sim" / "text" / digest(text)[:24] / "kernel.asc"
    if not path.exists():
        write_atomic(path, text.encode("utf-8", "surrogateescape"))
    return text, path


def open_module(path: Path) -> Module:
    """A library that was built for the simulator, loaded into this process once."""
    with _lock:
        runtime = _Runtime.get()
        if path not in runtime.modules:
            runtime.modules[path] = Module(runtime, path)
        return runtime.modules[path]


def load(
    source: str | Path,
    kernel: str | None = None,
    *,
    blocks: int = 1,
    chip: str = library.DEFAULT_CHIP,
    checks: str | Sequence[str] = "all",
    seed: int = 0,
    auto_sync: bool | None = None,
    check: bool = True,
    defines: Mapping[str, Any] | None = None,
    include: Sequence[str | Path] = (),
    flags: Sequence[str] = (),
    instantiate: Sequence[str] = (),
) -> Kernel:
    """A kernel of an Ascend C source (its text, or the path of a file) as a Python function.

    `kernel` may be left out if there is only one; `name<float, 8>` instantiates a template, and
    `instantiate` does so for more of them, which then share one library. `checks` is `all`, `none`
    or a comma list. Raises BuildError if g++ refuses the source.

        add = xcompile.sim.load("add.asc", blocks=8)
        add(x, y, sim.Out(z), z.size).cycles
    """
    checks = checks if isinstance(checks, str) else ",".join(checks)
    for word in checks.split(","):
        if word.removeprefix("-") not in CHECKS:
            raise XCompileError(f"checks: unknown {word!r}; known: {', '.join(sorted(CHECKS))}")
    named = list(instantiate)
    if kernel is not None and "<" in kernel and kernel not in named:
        named.append(kernel)
    chip = library.chip_name(chip)
    with _lock:
        path = build(
            source,
            instantiate=[re.sub(r"^&\s*", "", n) for n in named],
            chip=chip,
            defines=defines,
            include=include,
            flags=flags,
        )
        module = open_module(path)
    options = Options(chip, checks, seed, auto_sync)
    return Kernel(module, module.find(kernel), options, blocks, check)
