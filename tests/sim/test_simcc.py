"""The drivers `xcompile simcc` and `xcompile sim run`: options, builds, errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from xcompile.errors import XCompileError
from xcompile.sim.simcc import parse, simcc

KERNELS = (Path(__file__).parent / "kernels" / "loader.asc").read_text()


def test_options(tmp_path: Path) -> None:
    source = tmp_path / "a.asc"
    source.write_text("")
    r = parse(
        f"-Iinc -I more -DN=3 -D M -O3 -lascendcl -lfoo --npu-arch=dav-3510 --cce-auto-sync -c "
        f"-include pre.h -Wl,-z,now -o a.o {source} b.o libc.so.1".split()
    )
    assert r.include == [Path("inc"), Path("more")] and r.forced == [Path("pre.h")]
    assert r.flags == ["-D", "N=3", "-D", "M", "-O3"] and r.chip == "950" and r.mode == "compile"
    assert r.linked == ["-lfoo", "-Wl,-z,now", "b.o", "libc.so.1"] and r.out == Path("a.o")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("nothere.asc", "no such file"),
        ("--chip 910X", "unknown chip '910X'; known: 910B1"),
        ("--npu-arch=dav-1", "knows dav-2201, dav-3510"),
        ("-o", "-o needs a value"),
        ("-O2", "no input files"),
        ("--enable-simt", "SIMT"),
    ],
)
def test_bad_command_line(args: str, message: str) -> None:
    with pytest.raises(XCompileError, match=message):
        simcc(args.split())


def run(*command: object, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )


def xcompile(*args: object, cwd: Path) -> subprocess.CompletedProcess:
    return run(sys.executable, "-m", "xcompile", *args, cwd=cwd)


def write_count(folder: Path) -> None:
    """A kernel in k.asc with a header of its own, and a main that launches it by name."""
    (folder / "inc").mkdir()
    (folder / "inc" / "n.h").write_text("constexpr int N = START + 1;\n")
    (folder / "k.asc").write_text(
        '#include "kernel_operator.h"\n#include "n.h"\n'
        'extern "C" __global__ __vector__ void count(GM_ADDR x, int32_t by) {\n'
        "  AscendC::GlobalTensor<int32_t> t;\n"
        "  t.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(x), 1);\n"
        "  t.SetValue(0, N + by);\n}\n"
    )
    (folder / "main.cpp").write_text(
        '#include <cstdio>\n#include "acl/acl.h"\n#include "aclrtlaunch_count.h"\n'
        "int main() {\n  aclrtSetDevice(0);\n  void* x = nullptr;\n  int32_t y = 0;\n"
        "  aclrtMalloc(&x, 4, ACL_MEM_MALLOC_HUGE_FIRST);\n"
        "  ACLRT_LAUNCH_KERNEL(count)(1, nullptr, x, 5);\n  aclrtSynchronizeDevice();\n"
        "  aclrtMemcpy(&y, 4, x, 4, ACL_MEMCPY_DEVICE_TO_HOST);\n  aclrtFree(x);\n"
        '  std::printf("%d\\n", y);\n}\n'
    )


def test_separate_compilation_and_defines(tmp_path: Path) -> None:
    write_count(tmp_path)
    done = xcompile("simcc", "-c", "k.asc", "-Iinc", "-DSTART=30", "-o", "k.o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = xcompile("simcc", "k.o", "main.cpp", "-o", "prog", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("./prog", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "36\n", "")


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("make")), reason="no cmake")
def test_cmake_project(tmp_path: Path) -> None:
    write_count(tmp_path)
    main = tmp_path / "main.cpp"  # compiled by g++ itself: no generated header
    text = main.read_text().replace('#include "aclrtlaunch_count.h"\n', "")
    text = text.replace("ACLRT_LAUNCH_KERNEL(count)", "launch_count")
    main.write_text("void launch_count(uint32_t, void*, void*, int32_t);\n" + text)
    main.write_text("#include <cstdint>\n" + main.read_text())
    with (tmp_path / "k.asc").open("a") as f:
        f.write(
            "void launch_count(uint32_t blocks, void* stream, void* x, int32_t by) {\n"
            "  count<<<blocks, nullptr, stream>>>(reinterpret_cast<uint8_t*>(x), by);\n}\n"
        )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nfind_package(ASC REQUIRED)\n"
        "project(count LANGUAGES ASC CXX)\nadd_executable(prog k.asc main.cpp)\n"
        "target_include_directories(prog PRIVATE inc)\n"
        "target_compile_definitions(prog PRIVATE START=1)\n"
        "target_link_libraries(prog PRIVATE tiling_api m dl)\n"
    )
    simcc_command = f"{sys.executable} -m xcompile simcc"
    home = xcompile("simcc", "--home", cwd=tmp_path).stdout.strip()
    env = {"XC_SIMCC": simcc_command, "ASC_DIR": f"{home}/cmake"}
    done = run("cmake", "-S", ".", "-B", "build", cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    done = run("cmake", "--build", "build", cwd=tmp_path, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("build/prog", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_driver_errors(tmp_path: Path) -> None:
    done = xcompile("simcc", "none.asc", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "error: none.asc: no such file\n"
    (tmp_path / "bad.asc").write_text("int x = ;\n")
    done = xcompile("simcc", "bad.asc", "-o", "bad", cwd=tmp_path)
    assert done.returncode == 1 and "bad.asc:1:9: error" in done.stderr
    assert "XC_SIM_CHECKS" in xcompile("simcc", "--help", cwd=tmp_path).stdout


def test_sim_run(tmp_path: Path) -> None:
    (tmp_path / "k.asc").write_text(KERNELS)
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float32))
    spec = {
        "kernel": "scale",
        "blocks": 2,
        "defines": {"DEFINED": 7},
        "args": [
            {"file": "x.npy"},
            {"shape": [2, 3], "dtype": "float32", "out": True, "name": "z"},
            {"struct": [["int32", 6], ["float32", 3]]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(spec))
    done = xcompile("sim", "run", "k.asc", "--args", "a.json", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "scale: 2 blocks" in done.stdout
    z = np.load(tmp_path / "out" / "z.npy")
    np.testing.assert_array_equal(z, np.arange(6).reshape(2, 3) * 3)
    for change, message in [
        ({"args": [{"shape": [0]}]}, "args[0]: shape [0] is no list"),
        ({"args": [{"dtype": "int8"}]}, "args[0]: needs shape or file"),
        ({"args": [{"value": 1, "fill": 2}]}, "unknown 'fill'"),
        ({"kernels": "x"}, "unknown 'kernels'"),
        ({"kernel": "nope"}, "no kernel 'nope'"),
    ]:
        (tmp_path / "a.json").write_text(json.dumps({**spec, **change}))
        done = xcompile("sim", "run", "k.asc", "--args", "a.json", cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_bfloat16_file(tmp_path: Path) -> None:
    (tmp_path / "k.asc").write_text(KERNELS)
    spec = {
        "kernel": "fill<bfloat16_t>",
        "defines": {"DEFINED": 0},
        "args": [
            {"shape": [4], "dtype": "bf16", "out": True, "name": "y"},
            {"value": 1.2345},
            {"value": 4, "dtype": "uint32"},
        ],
    }
    spec["kernel"] = "deep::" + spec["kernel"]
    (tmp_path / "a.json").write_text(json.dumps(spec))
    done = xcompile("sim", "run", "k.asc", "--args", "a.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (np.load(tmp_path / "y.npy") == torch.tensor(1.2345).bfloat16().float().item()).all()
