"""The vendor's own ACL headers: the emitted host program compiles against them, and the simulator's
headers declare the same functions, constants and types."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.ascend.npu_wheel import headers, wheel
from tests.helpers import OPS
from xcompile.codegen.ascend.builder import AscendBuilder, Phase
from xcompile.codegen.lower import lower
from xcompile.compiler import make_target
from xcompile.hostcc import compiler
from xcompile.ir import Graph, Node, Type
from xcompile.sim.library import INCLUDE

pytestmark = pytest.mark.wheel

# Of a CANN newer than the wheel's headers: compilation at run time.
NEWER = re.compile(r"aclrtc\w+|ACL_ERROR_RTC_\w+")


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory, wheel_folder: Path) -> Path:
    """The vendor's include folder."""
    with wheel(wheel_folder) as source:
        return headers(source, tmp_path_factory.mktemp("acl"))


# -- the emitted host program ---------------------------------------------------------------------
def emitted(monkeypatch: pytest.MonkeyPatch, operands: int, launches: str) -> dict[str, str]:
    """Sources of a step of a few nodes, whose kernels are empty."""

    def build(self: AscendBuilder, n: Node) -> Phase:
        return self.phase(n.op.name, "vector", n, [*n.inputs, *n.outputs], "")

    monkeypatch.setattr(AscendBuilder, "build", build)
    g = Graph()
    kind = Type(torch.float32, (4, 8))
    xs = [g.input(kind, f"x{k}") for k in range(operands)]
    y = xs[0]
    for x in xs[1:]:
        y = g.add(OPS["add"], y, x)
    g.outputs = [g.add(OPS["add"], y, g.const(torch.zeros(8), "w"))]
    target = make_target(f"ascend910b/{launches}")
    return target.emit(lower(g, target))


@pytest.mark.parametrize(("operands", "launches"), [(3, "phase"), (60, "step")])
def test_host_program_compiles_against_the_vendors_headers(
    monkeypatch: pytest.MonkeyPatch, vendor: Path, tmp_path: Path, operands: int, launches: str
) -> None:
    sources = emitted(monkeypatch, operands, launches)
    if launches == "step":
        assert "sizeof(void*); }" in sources["host.cpp"] and "return 0 *" not in sources["host.cpp"]
    programs = [name for name in sources if name.endswith(".cpp")]
    assert {"host.cpp", "main.cpp"} <= set(programs)
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in programs:
        check(tmp_path / name, vendor, "-Wall", "-Wextra", "-Werror")


def test_a_call_that_the_vendor_does_not_have_is_found(vendor: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.cpp"
    path.write_text(
        '#include "acl/acl.h"\nint f(void* s) { return aclrtSynchronizeStream(s, 1); }\n'
    )
    with pytest.raises(AssertionError, match="too many arguments"):
        check(path, vendor)


def check(path: Path, include: Path, *flags: str) -> None:
    command = [compiler()[0], "-std=c++17", "-fsyntax-only", *flags, "-isystem", str(include)]
    run = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert not run.returncode, run.stderr


# -- the simulator's headers ----------------------------------------------------------------------
class Declared:
    """Names that the headers of a folder declare."""

    def __init__(self, folder: Path) -> None:
        texts = [p.read_text() for p in sorted(folder.rglob("*.h"))]
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", "\n".join(texts), flags=re.DOTALL)
        enums = re.findall(r"enum\s*\w*\s*\{(.*?)\}", text, re.DOTALL)
        self.words = set(re.findall(r"\w+", text))
        self.functions = re.findall(r"^[\w ]+?[\s*]+(acl\w+)\([^;{]*\)\s*[;{]", text, re.MULTILINE)
        self.constants = re.findall(r"constexpr aclError (\w+)", text)
        self.constants += re.findall(r"#define (ACL_\w+)[ ]+[-0-9]", text)
        self.constants += [
            n for e in enums for n in re.findall(r"\b(ACL_\w+)\b(?=\s*[,=]|\s*$)", e)
        ]
        structs = re.findall(r"(?:struct|union)\s*\w*\s*\{([^}]*)\}\s*(acl\w+);", text)
        self.members = {
            name: re.findall(r"(\w+)(?:\[\w+\])?\s*[;,]", body) for body, name in structs
        }
        self.aliases = re.findall(r"using (acl\w+) =", text)


def test_simulator_headers_declare_what_the_vendor_declares(vendor: Path, tmp_path: Path) -> None:
    ours = Declared(INCLUDE / "acl")
    assert len(ours.functions) > 90 and len(ours.constants) > 150 and len(ours.members) > 3
    assert not differences(INCLUDE, vendor, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("aclrtSynchronizeStream(aclrtStream stream", "aclrtSynchronizeStream(aclrtStream s, int t",
         ["aclrtSynchronizeStream"]),
        ("ACL_MEMCPY_DEVICE_TO_HOST = 2", "ACL_MEMCPY_DEVICE_TO_HOST = 8",
         ["ACL_MEMCPY_DEVICE_TO_HOST"]),
        ("size_t numOpt", "uint32_t numOpt", ["aclrtBinaryLoadOptions::numOpt"]),
        ("aclrtFreeHost(void* hostPtr", "aclrtReleaseHost(void* hostPtr", ["aclrtReleaseHost"]),
    ],
)  # fmt: skip
def test_a_difference_is_found(
    vendor: Path, tmp_path: Path, old: str, new: str, found: list[str]
) -> None:
    folder = shutil.copytree(INCLUDE, tmp_path / "include")
    path = folder / "acl" / "acl_rt.h"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert [d.split()[0] for d in differences(folder, vendor, tmp_path)] == found


def differences(include: Path, vendor: Path, folder: Path) -> list[str]:
    """What the headers below `include` declare otherwise than the vendor's, a line per name."""
    ours, theirs = Declared(include / "acl"), Declared(vendor / "acl")
    names = [*ours.functions, *ours.constants, *ours.members, *ours.aliases]
    unknown = {n for n in names if n not in theirs.words and not NEWER.fullmatch(n)}
    out = [f"{n} is not declared by the vendor" for n in sorted(unknown)]
    lines = []
    for n in ours.functions:
        lines.append((n, f'show("{n}", typeid(&{n}).name(), 0);'))
    for n in ours.constants:
        lines.append((n, f'show("{n}", "value", static_cast<long long>({n}));'))
    for n, members in ours.members.items():
        lines.append((n, f'show("{n}", "size", sizeof({n}));'))
        for m in members:
            at = f"{n}::{m}"
            show = f'show("{at}", typeid(decltype({at})).name(), offsetof({n}, {m}));'
            lines.append((n, show))
    lines += [(n, f'show("{n}", typeid({n}).name(), 0);') for n in ours.aliases]
    text = [x for n, x in lines if n not in unknown and not NEWER.fullmatch(n)]
    mine = facts(include, folder / "ours", text)
    real = facts(vendor, folder / "theirs", text)
    assert len(mine) == len(real) == len(text)
    return out + [f"{a}, the vendor's: {b}" for a, b in zip(mine, real, strict=True) if a != b]


def facts(include: Path, path: Path, lines: list[str]) -> list[str]:
    """What a program that was compiled with these headers says of names: type, value or size."""
    text = (
        '#include <cstddef>\n#include <cstdio>\n#include <typeinfo>\n#include "acl/acl.h"\n'
        '#include "acl/acl_prof.h"\nstatic void show(const char* name, const char* what, '
        'long long n) { std::printf("%s %s %lld\\n", name, what, n); }\nint main() {\n'
    )
    source = path.with_suffix(".cpp")
    source.write_text("\n".join([text, *lines, "}\n"]))
    command = [compiler()[0], "-std=c++17", "-w", "-isystem", str(include), str(source)]
    run = subprocess.run([*command, "-o", str(path)], capture_output=True, text=True, check=False)
    assert not run.returncode, run.stderr
    out = subprocess.run([str(path)], capture_output=True, text=True, check=True)
    return out.stdout.splitlines()
