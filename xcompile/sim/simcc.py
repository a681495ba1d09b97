"""`xcompile simcc`: a compiler driver. Translates Ascend C sources, then g++ does the rest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from xcompile.errors import XCompileError
from xcompile.hostcc import cache_dir, compiler
from xcompile.sim import library
from xcompile.sim.library import digest
from xcompile.sim.translate import Translator, Unit, write_unit

SUFFIXES = {".asc", ".cpp", ".cc", ".cxx", ".c++", ".cce"}
LINKED = {".o", ".a", ".so"}
TAKES_VALUE = {"-I", "-D", "-U", "-L", "-l", "-include", "-isystem", "-iquote", "-idirafter", "-x"}
TAKES_VALUE |= {"-Xlinker", "-MF", "-MT", "-MQ", "-u", "-T", "-z", "--param", "-imacros"}
IGNORED = re.compile(
    r"--cce-.*|--run-mode=.*|--sanitizer|--gcc-toolchain=.*|-xasc|--npu-soc=.*|-dc|-lib|--shared"
    r"|-mllvm.*|--cce-build-static-lib|-forward-options-to-host-compiler|--soc-version=.*"
)
# A program built for another chip than the default runs on it.
DEFAULT_CHIP = """#include "ascsim/host.h"
[[maybe_unused]] static const bool ascsimChip = ::ascsim::defaultChip("{chip}");"""
FLAGS = ["-std=c++17", "-O2", "-g1", "-fPIC", "-pthread"]
QUIET = ["-Wno-unknown-pragmas", "-Wno-attributes", "-Wno-ignored-attributes"]
QUIET += ["-Wno-subobject-linkage"]  # a program's own constexpr MatmulConfig
HELP = """\
Usage: xcompile simcc [options] FILE... [-o PROG] [g++ options]

Build an Ascend C program (kernels, and usually a main on the ACL API) with g++ for the simulator.
The result runs on this machine, with all checks; an error found by a check makes it exit with 1.

  xcompile simcc add.asc -o add && ./add
  xcompile simcc main.cpp add.cpp -Iinclude -DTILE=512 -O1 -o add
  xcompile simcc -c add.asc -o add.o; xcompile simcc add.o main.cpp -o add
  xcompile simcc -shared add.asc -o libadd.so

  --chip NAME        910B1 (default), 910B2, 910B3, 910B4, 910_93 or 950: decides __NPU_ARCH__
  --npu-arch=dav-N   the same by architecture: dav-2201, dav-3510
  --translated DIR   write the translated sources to DIR and stop
  --home             print a folder to use as ASCEND_HOME_PATH (include, lib64, cmake) and stop;
                     CMake projects with find_package(ASC) build with ASC_DIR set to its cmake/
  -v                 print the commands
  -o -c -shared -I -D -U -L -l -O -g -W -f -m -std -include ...   as for g++
  Options of the vendor's compiler that mean nothing here (--cce-..., --run-mode=...), and its
  libraries (-lascendcl, -ltiling_api, ...), are accepted and dropped.

When the program runs, the environment says how:
  XC_SIM_CHIP        chip to simulate                [default: the one of --chip]
  XC_SIM_CHECKS      all, none, or a comma list of bounds, align, param, init, race, queue, flag,
                     chip; -NAME takes one away: all,-init
  XC_SIM_SEED        order in which the cores run    [default: 0]
  XC_SIM_TRACE       file for a Perfetto trace
  XC_SIM_REPORT      file for the cycle model's figures (JSON)
  XC_SIM_TIMING      0: no cycle model
  XC_SIM_AUTO_SYNC   0: without the synchronisation that the vendor's compiler inserts
  XC_SIM_MAX_ERRORS  kinds of errors to print        [default: 20]
Runtime compilation (aclrtcCompileProg) runs the command in XC_SIMCC [default: xcompile simcc].
"""


@dataclass
class Request:
    """What the command line asks for."""

    sources: list[Path] = field(default_factory=list)
    linked: list[str] = field(
        default_factory=list
    )  # objects, libraries and their options, in order
    flags: list[str] = field(default_factory=list)
    include: list[Path] = field(default_factory=list)
    forced: list[Path] = field(default_factory=list)
    out: Path | None = None
    mode: str = "link"  # link, compile, shared, archive, preprocess
    chip: str = library.DEFAULT_CHIP
    translated: Path | None = None
    verbose: bool = False


def parse(args: Sequence[str]) -> Request:
    """The options of a simcc command line. Raises XCompileError for what is not understood."""
    r = Request()
    queue = list(args)

    def value(option: str) -> str:
        if not queue:
            raise XCompileError(f"{option} needs a value")
        return queue.pop(0)

    while queue:
        a = queue.pop(0)
        name, eq, rest = a.partition("=")
        if a == "-o":
            r.out = Path(value(a))
        elif name == "--chip":
            r.chip = library.chip_name(rest if eq else value(a))
        elif name == "--npu-arch":
            arch = _chip_of_arch(rest if eq else value(a))
            if library.CHIPS[arch] != library.CHIPS[r.chip]:
                r.chip = arch
        elif name == "--npu-soc" and eq:
            r.chip = library.chip_name(rest)
        elif name == "--translated":
            r.translated = Path(rest if eq else value(a))
        elif a == "--enable-simt":
            raise XCompileError("--enable-simt: SIMT kernels are not simulated")
        elif a == "-v":
            r.verbose = True
        elif a in ("-c", "-dc"):
            r.mode = "compile"
        elif a == "-E":
            r.mode = "preprocess"
        elif a in ("-shared", "--shared"):
            r.mode = "shared"
        elif a in ("-lib", "--cce-build-static-lib"):
            r.mode = "archive"
        elif IGNORED.fullmatch(a):
            pass
        elif a in TAKES_VALUE:
            _option(r, a, value(a))
        elif a[:2] in ("-I", "-L", "-l", "-D", "-U") and len(a) > 2:
            _option(r, a[:2], a[2:])
        elif a.startswith("-Wl,") or a in ("-rdynamic", "-static-libstdc++", "-static-libgcc"):
            r.linked.append(a)
        elif a.startswith("-"):
            r.flags.append(a)
        else:
            _input(r, a)
    return r


def _option(r: Request, option: str, value: str) -> None:
    if option == "-x":
        return
    if option == "-I":
        r.include.append(Path(value))
    elif option == "-l":
        if value not in library.VENDOR_LIBRARIES:
            r.linked.append(f"-l{value}")
    elif option in ("-L", "-Xlinker", "-u", "-T", "-z"):
        r.linked += [option, value]
    elif option == "-include":
        r.forced.append(Path(value))
    else:
        r.flags += [option, value]


def _input(r: Request, name: str) -> None:
    path = Path(name)
    if path.suffix in SUFFIXES:
        if not path.is_file():
            raise XCompileError(f"{path}: no such file")
        r.sources.append(path)
    elif path.suffix in LINKED or ".so." in path.name:
        r.linked.append(name)
    elif not path.is_file():
        raise XCompileError(f"{name}: no such file")
    else:
        raise XCompileError(
            f"{name}: neither a source ({', '.join(sorted(SUFFIXES))}) nor something to link "
            f"({', '.join(sorted(LINKED))})"
        )


def _chip_of_arch(text: str) -> str:
    number = text.removeprefix("dav-")
    for chip, (arch, _) in library.CHIPS.items():
        if str(arch) == number:
            return chip
    known = ", ".join(sorted({f"dav-{arch}" for arch, _ in library.CHIPS.values()}))
    raise XCompileError(f"--npu-arch={text}: the simulator knows {known}")


class Driver:
    """Carries out one request."""

    def __init__(self, request: Request, quiet: bool = False) -> None:
        self.r = request
        self.quiet = quiet  # keep the compiler's messages in `messages`
        self.messages = ""
        self.cxx, self.version = compiler()
        self.failed = 0

    def run(self) -> int:
        """Exit code: 0, or that of the g++ that failed (its messages are on stderr already)."""
        r = self.r
        if not r.sources and not r.linked:
            raise XCompileError("no input files; see xcompile simcc --help")
        if r.mode == "compile" and r.out is not None and len(r.sources) > 1:
            raise XCompileError("-o with -c takes one source only")
        if r.translated is not None:
            for source in r.sources:
                shadow = r.translated
                unit = self._translator().unit(source, shadow.resolve())
                write_unit(unit, shadow)
                (shadow / f"{source.stem}.cpp").write_bytes(_encode(unit.text))
            return 0
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            objects = list(pool.map(self.compile, r.sources))
        if self.failed:
            return self.failed
        found = [o for o in objects if o is not None]
        if r.mode == "preprocess":
            return 0
        if r.mode == "compile":
            for source, obj in zip(r.sources, found, strict=True):
                shutil.copyfile(obj, r.out or Path(source.stem + ".o"))
            return 0
        return self.link(found)

    def _translator(self) -> Translator:
        return Translator(self.r.include, self.r.forced)

    def compile(self, source: Path, text: str | None = None) -> Path | None:
        """The object of one source (or of `text` in its place), from the cache if it is there."""
        r = self.r
        shadow_root = cache_dir() / "sim" / "src"
        probe = self._translator().unit(source, Path("/"), text)
        flags = [*FLAGS, *QUIET, *library.chip_macros(r.chip), *r.flags]
        # A precompiled header is there before any macro of the program: only if none is defined.
        general = [*FLAGS, *QUIET, *library.chip_macros(r.chip)]
        general += [f for f in r.flags if re.match(r"-(O|g|f|m|std|pthread)", f)]
        pch = library.precompiled(tuple(general)) if _wants_precompiled(probe) else None
        depends = digest(*(p.read_bytes() for p in probe.depends[1:]))
        names = re.findall(r'#[ \t]*include[ \t]*["<]([^">]+)', probe.text)
        for header in probe.headers.values():
            names += re.findall(r'#[ \t]*include[ \t]*["<]([^">]+)', header)
        headers = library.header_key([*names, "ascsim/base.h", "ascsim/host.h"])
        if pch is not None:
            headers += pch.parent.name
        where = [str(p.resolve()) for p in (*r.include, *r.forced)]
        key = digest(self.version, r.chip, probe.text, depends, headers, *flags, "\0".join(where))
        shadow = shadow_root / key[:24]
        unit = self._translator().unit(source, shadow, text)
        if r.chip != library.DEFAULT_CHIP and not self.quiet:
            unit.text += f"\n{DEFAULT_CHIP.format(chip=r.chip)}\n"
        write_unit(unit, shadow)
        main = shadow / f"{source.stem}.cpp"
        if not main.exists():
            main.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=main.parent, delete=False) as f:
                f.write(_encode(unit.text))
            os.replace(f.name, main)
        command = [self.cxx, *flags]
        if pch is not None:
            command += ["-include", str(pch)]
        elif unit.kernels or source.suffix == ".asc" or "::ascsim::launcher" in unit.text:
            command += ["-include", "ascsim/base.h", "-include", "ascsim/host.h"]
        for p in r.forced:
            moved = shadow / str(p.resolve()).lstrip("/")
            command += ["-include", str(moved if moved.is_file() else p)]
        for p in r.include:
            command += [f"-I{shadow / str(p.resolve()).lstrip('/')}", f"-I{p}"]
        for folder in dict.fromkeys(unit.folders):
            command += ["-iquote", str(folder)]
        command += [f"-I{shadow / 'generated'}", f"-I{library.INCLUDE}"]
        obj = cache_dir() / "sim" / "obj" / f"{key}.o"
        if r.mode == "preprocess":
            self._run([*command, "-E", str(main), *(["-o", str(r.out)] if r.out else [])])
            return None
        if obj.exists():
            return obj
        obj.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=obj.parent) as tmp:
            out = Path(tmp) / "a.o"
            if self._run([*command, "-c", str(main), "-o", str(out)]):
                os.replace(out, obj)
                return obj
        return None

    def link(self, objects: list[Path]) -> int:
        """Link objects to what the request asks for; the exit code."""
        r = self.r
        if r.mode == "archive":
            out = r.out or Path("a.a")
            out.unlink(missing_ok=True)
            self._run(["ar", "rcs", str(out), *map(str, objects)])
            return self.failed
        lib = library.library()
        command = [self.cxx, *(["-shared"] if r.mode == "shared" else []), "-pthread"]
        command += [*map(str, objects), *r.linked]
        command += [f for f in r.flags if f.startswith(("-f", "-g", "-O", "-m", "-s"))]
        command += [str(lib), f"-Wl,-rpath,{lib.parent}", "-o", str(r.out or Path("a.out"))]
        self._run(command)
        return self.failed

    def _run(self, command: list[str]) -> bool:
        if self.r.verbose:
            print(" ".join(command), file=sys.stderr)
        result = subprocess.run(command, stderr=subprocess.PIPE, check=False)
        text = result.stderr.decode("utf-8", "replace")
        if text and self.quiet:
            self.messages += text
        elif text:
            print(text, end="", file=sys.stderr)
        if result.returncode:
            self.failed = self.failed or result.returncode
        return result.returncode == 0


def _wants_precompiled(unit: Unit) -> bool:
    """Whether the first thing a source does is to include headers, kernel_operator.h among them."""
    head, found, _ = unit.text.partition("kernel_operator.h")
    return bool(found) and not re.search(r"^[ \t]*#[ \t]*define\b", head, re.MULTILINE)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def simcc(args: Sequence[str]) -> int:
    """Run the driver; the exit code for the shell."""
    if not args or any(a in ("-h", "--help") for a in args):
        print(HELP, end="")
        return 0 if args else 2
    if "--home" in args:
        print(library.home())
        return 0
    return Driver(parse(args)).run()
