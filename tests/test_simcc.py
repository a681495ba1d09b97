"""The Ascend C translator and the driver: what is rewritten, what is left, what is refused."""

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

from xcompile import sim
from xcompile.errors import BuildError, SimulationError, XCompileError
from xcompile.sim.arguments import Memory
from xcompile.sim.simcc import parse, simcc
from xcompile.sim.source import Source, mask
from xcompile.sim.translate import Translator, find_kernels, write_unit


def translate(text: str, path: Path = Path("k.asc"), **kwargs: list[Path]) -> str:
    return Translator(**kwargs).unit(path, Path("/shadow"), text).text.split("\n", 1)[1]


def kinds(text: str) -> dict[str, str]:
    """Kernel -> the kind that the translation gives it."""
    calls = translate(text).replace("::ascsim::KernelKind::", "").split("describing(__func__, ")[1:]
    names = [k.name for k in find_kernels(Source(text, Path("k")))]
    return dict(zip(names, (c.split(", __FILE__")[0] for c in calls), strict=True))


# -- what is code -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "// k<<<1, 0, s>>>(x);\nint a;",
        "/* k<<<1>>>(x);\n __global__ void k() {} */ int a;",
        'const char* s = "k<<<1, 0, s>>>(x)";',
        'const char* s = R"x(\n__global__ void k() {}\nk<<<1>>>(x); )" )x";',
        "// a comment that goes on \\\nk<<<1>>>(x)\nint a;",
        "int n = 1'000'000; char c = '\"'; // k<<<1>>>(x)",
        "char c = '\\''; const char* s = \"\\\"k<<<1>>>()\";",
        "__global__ __aicore__ void k(GM_ADDR x);",
        "int a = 1 << 2 >> 1; std::vector<std::vector<int>> v;",
    ],
)
def test_left_alone(text: str) -> None:
    assert translate(text) == text


def test_mask_keeps_length_and_lines() -> None:
    text = 'a /* x\n y */ "s\\"t" \'c\' R"(\n)" // z\nb'
    masked = mask(text)
    assert len(masked) == len(text) and masked.count("\n") == text.count("\n")
    assert [w for w in masked.split() if w.isalpha()] == ["a", "b"]


# -- launches -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("launch", "callee", "config", "args"),
    [
        ("k<<<8, 0, s>>>(x, y)", "k", "8, 0, s", "x, y"),
        ("k<<<8>>>()", "k", "8", ""),
        ("k<float, 3><<<n / 2, nullptr, s>>>(x)", "k<float, 3>", "n / 2, nullptr, s", "x"),
        ("ns::k<A<B<int>>><<<1, 0, s>>>(x)", "ns::k<A<B<int>>>", "1, 0, s", "x"),
        ("::k<<<1, 0, s>>>(x)", "::k", "1, 0, s", "x"),
        ("k<(a > b)><<<1, 0, s>>>(x)", "k<(a > b)>", "1, 0, s", "x"),
        ("(*p)<<<1, 0, s>>>(x)", "(*p)", "1, 0, s", "x"),
        ("table[i]<<<1, 0, s>>>(x)", "table[i]", "1, 0, s", "x"),
        ("o.k<<<1, 0, s>>>(x)", "o.k", "1, 0, s", "x"),
        ("k<<<f(a, b), 0, g<int>(s)>>>(x)", "k", "f(a, b), 0, g<int>(s)", "x"),
        ("k<<<1, 0, s>>>(x, 0, NULL)", "k", "1, 0, s", "x,::ascsim::Zero(),::ascsim::Zero()"),
    ],
)
def test_launch(launch: str, callee: str, config: str, args: str) -> None:
    got = translate(f"void f() {{ {launch}; }}")
    call = f"::ascsim::launcher([=](auto... ascsimArgs) {{ {callee}(ascsimArgs...); }})"
    assert got == f"void f() {{ {call}({config})({args}); }}"


def test_launch_over_lines_keeps_them() -> None:
    text = "void f() {\n  k<T,\n    3>\n  <<<8, 0,\n  s>>>(x,\n  y); }\nint z;"
    got = translate(text)
    assert got.count("\n") == text.count("\n") and got.splitlines()[6] == "int z;"


def test_launch_after_return() -> None:
    assert translate("void f() { return k<<<1>>>(); }").startswith("void f() { return ::ascsim::")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("void f() {\n k<<<1, 0, s>>>; }", "k.asc:2: a launch <<<...>>> needs its arguments"),
        ("void f() { k<<<1, 0, s(x); }", "<<< without >>>"),
        ("void f() { k<<<>>>(x); }", "number of blocks"),
        ("void f() { + <<<1>>>(x); }", "no kernel name"),
    ],
)
def test_bad_launch(text: str, message: str) -> None:
    with pytest.raises(XCompileError) as e:
        translate(text)
    assert message in str(e.value)


# -- kernels ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("__global__ __vector__ void k() {}", "AivOnly"),
        ("__vector__ __global__ __aicore__ void k() {}", "AivOnly"),
        ("__global__ __cube__ void k() {}", "AicOnly"),
        ("__global__ __mix__(1, 2) void k() {}", "Mix12"),
        ("__mix__(1, 1) __global__ void k() {}", "Mix11"),
        ("__global__ __mix__( 1,0 ) void k() {}", "MixAic10"),
        (
            "__global__ __aicore__ void k() { KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY); }",
            "AicOnly",
        ),
        (
            "__global__ __aicore__ void k() { KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIV_1_0); }",
            "MixAiv10",
        ),
        (
            "__global__ __aicore__ void k() { KERNEL_TASK_TYPE(1, KERNEL_TYPE_MIX_AIC_1_2); }",
            "::ascsim::kindByKey(AivOnly, {{1, Mix12}})",
        ),
        ("__global__ __aicore__ void k() { AscendC::Add(z, x, y, 8); }", "AivOnly"),
        ("__global__ __aicore__ void k() { Mmad(c, a, b, p); }", "AicOnly"),
        ("__global__ __aicore__ void k() { Mmad(c, a, b, p); Add(z, x, y, 8); }", "Mix12"),
        ("__global__ __aicore__ void k() { REGIST_MATMUL_OBJ(&pipe, ws, mm); }", "Mix12"),
        ("__global__ __aicore__ void k() { x[0] = 1; }", "AivOnly"),
        (
            "class Op { void run() { Mmad(c, a, b, p); } };\n"
            "__global__ __aicore__ void k() { Op op; op.run(); }",
            "AicOnly",
        ),
        (
            "class Op { void run(); };\nvoid Op::run() { part(); }\nvoid part() { Exp(y, x, 8); }\n"
            "void other() { Mmad(c, a, b, p); }\n__global__ __aicore__ void k() { Op().run(); }",
            "AivOnly",
        ),
    ],
)
def test_kernel_kind(text: str, kind: str) -> None:
    assert list(kinds(text).values()) == [kind]


def test_kernel_is_described_and_registered() -> None:
    got = translate("namespace a { namespace b {\n__global__ __vector__ void k(int n) { f(); }\n}}")
    line = got.splitlines()[1]
    assert "{ if (::ascsim::describing(__func__, ::ascsim::KernelKind::AivOnly, __FILE__" in line
    assert 'registerKernel("a::b::k", static_cast<void (*)(int n)>(&k));' in line


@pytest.mark.parametrize(
    "text",
    [
        "template <class T> __global__ __vector__ void k(T* x) {}",
        "struct S { __global__ static void k(int* x) {} };",
        "#define K(name) __global__ __vector__ void name(int* x) \\\n  { f(x); }",
    ],
)
def test_not_registered(text: str) -> None:
    got = translate(text)
    assert "describing" in got and "registerKernel" not in got


def test_two_kernels_of_one_file() -> None:
    text = '__global__ __vector__ void a() {} extern "C" { __global__ __cube__ void b(int) {} }'
    assert kinds(text) == {"a": "AivOnly", "b": "AicOnly"}


def test_tiling_struct_of_the_operator() -> None:
    text = (
        "namespace optiling { BEGIN_TILING_DATA_DEF(T) END_TILING_DATA_DEF;\n"
        "REGISTER_TILING_DATA_CLASS(AddCustom2D, T) }\n"
        "__global__ __vector__ void add_custom2_d(GM_ADDR t) { GET_TILING_DATA(d, t); }"
    )
    assert "using AscsimDefaultTiling [[maybe_unused]] = ::optiling::T;" in translate(text)


# -- files --------------------------------------------------------------------------------------
def test_headers_with_kernels_move_to_the_shadow(tmp_path: Path) -> None:
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc" / "k.h").write_text("__global__ __vector__ void k() {}\n")
    (tmp_path / "inc" / "mid.h").write_text('#include "k.h"\n')
    (tmp_path / "plain.h").write_text("int plain;\n")
    main = tmp_path / "main.asc"
    main.write_text('#include "plain.h"\n#include "mid.h"\n#include <k.h>\n#include "acl/acl.h"\n')
    shadow = tmp_path / "shadow"
    unit = Translator([tmp_path / "inc"]).unit(main, shadow)
    write_unit(unit, shadow)
    moved = {p.name: t for p, t in unit.headers.items()}
    assert set(moved) == {"k.h", "mid.h"} and "describing" in moved["k.h"]
    lines = unit.text.splitlines()
    assert lines[0] == f'#line 1 "{main}"' and lines[1] == f'#include "{tmp_path / "plain.h"}"'
    assert all(str(shadow) in line for line in lines[2:4]) and lines[4] == '#include "acl/acl.h"'
    assert {p.name for p in unit.depends} == {"main.asc", "plain.h", "mid.h", "k.h"}


def test_launch_header_is_generated() -> None:
    unit = Translator().unit(Path("m.cpp"), Path("/s"), '#include "aclrtlaunch_add_custom.h"\n')
    assert "aclrtlaunch_add_custom(uint32_t" in unit.generated["aclrtlaunch_add_custom.h"]


# -- the command line ---------------------------------------------------------------------------
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


# -- built and run ------------------------------------------------------------------------------
KERNELS = r"""
#include "kernel_operator.h"
struct Args { int32_t n; float factor; };
extern "C" __global__ __vector__ void list(GM_ADDR tensors) {
  AscendC::ListTensorDesc both(tensors);
  AscendC::TensorDesc<int64_t> desc;
  uint64_t shape[8];
  desc.SetShapeAddr(shape);
  both.GetDesc(desc, 0);
  AscendC::GlobalTensor<int64_t> x, y;
  x.SetGlobalBuffer(both.GetDataPtr<__gm__ int64_t>(0), 6);
  y.SetGlobalBuffer(both.GetDataPtr<__gm__ int64_t>(1), 4);
  y.SetValue(0, both.GetSize());
  y.SetValue(1, desc.GetShape(0));
  y.SetValue(2, desc.GetShape(1));
  y.SetValue(3, x.GetValue(0));
}
extern "C" __global__ __vector__ void scale(__gm__ float* x, __gm__ float* z, Args a) {
  AscendC::GlobalTensor<float> in, out;
  in.SetGlobalBuffer(x, a.n);
  out.SetGlobalBuffer(z, a.n);
  for (int i = AscendC::GetBlockIdx(); i < a.n; i += AscendC::GetBlockNum())
    out.SetValue(i, in.GetValue(i) * a.factor);
}
namespace deep {
template <class T>
__global__ __vector__ void fill(__gm__ T* x, T v, uint32_t n) {
  AscendC::GlobalTensor<T> out;
  out.SetGlobalBuffer(x, n);
  for (uint32_t i = 0; i < n; ++i) out.SetValue(i, v);
}
__global__ __aicore__ void key(__gm__ int64_t* x) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  KERNEL_TASK_TYPE(2, KERNEL_TYPE_AIC_ONLY);
  AscendC::GlobalTensor<int64_t> out;
  out.SetGlobalBuffer(x, 1);
  if (TILING_KEY_IS(1)) out.SetValue(0, 11);
  else if (TILING_KEY_IS(2)) out.SetValue(0, ASCEND_IS_AIC ? 22 : 0);
  else out.SetValue(0, DEFINED);
}
}  // namespace deep
namespace optiling {
BEGIN_TILING_DATA_DEF(Inner)
  TILING_DATA_FIELD_DEF(uint16_t, a);
END_TILING_DATA_DEF;
BEGIN_TILING_DATA_DEF(TiledTilingData)
  TILING_DATA_FIELD_DEF(uint32_t, total);
  TILING_DATA_FIELD_DEF_ARR(int16_t, 3, list);
  TILING_DATA_FIELD_DEF_STRUCT(Inner, inner);
  TILING_DATA_FIELD_DEF(float, x);
END_TILING_DATA_DEF;
REGISTER_TILING_DATA_CLASS(Tiled, TiledTilingData)
}  // namespace optiling
extern "C" __global__ __vector__ void tiled(GM_ADDR z, GM_ADDR tiling) {
  GET_TILING_DATA(t, tiling);
  GET_TILING_DATA_MEMBER(optiling::TiledTilingData, x, x, tiling);
  GET_TILING_DATA_PTR_WITH_STRUCT(optiling::TiledTilingData, p, tiling);
  AscendC::GlobalTensor<float> out;
  out.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(z), 2);
  out.SetValue(0, t.total + t.list[2] + t.inner.a);
  out.SetValue(1, x + p->x);
}
"""
TILED = np.dtype(
    {
        "names": ["total", "list", "a", "x"],
        "formats": ["u4", ("i2", 3), "u2", "f4"],
        "offsets": [0, 4, 10, 12],
        "itemsize": 16,
    }
)
OPTIONS = {"defines": {"DEFINED": 7}, "instantiate": ["deep::fill<half>", "deep::fill<bfloat16_t>"]}


def test_struct_by_value_and_blocks() -> None:
    k = sim.load(KERNELS, "scale", **OPTIONS)
    x, z = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
    args = np.array((50, 2.5), np.dtype([("n", "i4"), ("factor", "f4")]))
    result = k(x, sim.Out(z), args, blocks=3)
    np.testing.assert_array_equal(z, x * np.float32(2.5))
    assert result.errors == [] and result.cycles > 0 and result.microseconds > 0


@pytest.mark.parametrize(
    ("name", "dtype"), [("half", torch.float16), ("bfloat16_t", torch.bfloat16)]
)
def test_template_and_small_floats(name: str, dtype: torch.dtype) -> None:
    k = sim.load(KERNELS, f"deep::fill<{name}>", **OPTIONS)
    x = torch.zeros(9, dtype=dtype)
    k(x, 3.14159, 9)
    assert (x == torch.tensor(3.14159).to(dtype)).all()


@pytest.mark.parametrize(("key", "want"), [(0, 7), (1, 11), (2, 22)])
def test_tiling_key_decides_branch_and_kind(key: int, want: int) -> None:
    x = np.zeros(1, np.int64)
    sim.load(KERNELS, "key", **OPTIONS)(x, tiling_key=key)
    assert x[0] == want


def test_tiling_data() -> None:
    t = np.zeros(1, TILED)
    t["total"], t["list"], t["a"], t["x"] = 100, [1, 2, -3], 20, 0.5
    z = np.zeros(2, np.float32)
    k = sim.load(KERNELS, "tiled", **OPTIONS)
    k(z, t)
    assert z.tolist() == [117.0, 1.0]
    with pytest.raises(SimulationError, match="8 past its end"):
        k(z, t.view(np.uint8)[:8].copy())  # too short


def test_a_check_raises_or_is_returned() -> None:
    k = sim.load(KERNELS, "deep::fill<half>", **OPTIONS)
    x = np.zeros(4, np.float16)
    with pytest.raises(SimulationError, match="bounds") as e:
        k(x, 1, 40)
    assert e.value.errors[0].rule == "bounds"
    assert KERNELS.splitlines()[e.value.errors[0].line - 1].startswith("  for (uint32_t i = 0;")
    assert k(x, 1, 40, check=False).errors[0].kernel == "fill"
    with pytest.raises(SimulationError, match="never written"):
        k(sim.Out(np.zeros(8, np.float16)), 1, 0)


def test_arguments_that_do_not_fit() -> None:
    k = sim.load(KERNELS, "scale", **OPTIONS)
    x = np.zeros(4, np.float32)
    with pytest.raises(XCompileError, match="takes 3 arguments"):
        k(x, x)
    with pytest.raises(XCompileError, match="argument 0 of scale: the parameter is an array"):
        k(1, x, bytes(8))
    with pytest.raises(XCompileError, match="struct parameter has 8 bytes, the argument 4"):
        k(x, x, bytes(4))
    with pytest.raises(XCompileError, match="contiguous"):
        k(np.zeros((4, 4), np.float32)[:, 1], x, bytes(8))
    with pytest.raises(XCompileError, match=r"no kernel 'nope'; the source has: list, scale"):
        sim.load(KERNELS, "nope", **OPTIONS)
    with pytest.raises(XCompileError, match="which kernel"):
        sim.load(KERNELS, **OPTIONS)
    with pytest.raises(XCompileError, match="unknown 'rase'"):
        sim.load(KERNELS, "scale", checks="rase")


def test_overlapping_arrays_are_one_allocation() -> None:
    a = np.arange(100, dtype=np.float32)
    memory = Memory([a[:60], a[40:], sim.Out(np.zeros(3))])
    assert sorted(b.size for b in memory.buffers) == [24, 400]
    at = [memory.place(v.ctypes.data) for v in (a[:60], a[40:])]
    assert at[1] - at[0] == 160


def test_tensor_list() -> None:
    x, y = np.full((2, 3), 5, np.int64), np.zeros(4, np.int64)
    sim.load(KERNELS, "list", **OPTIONS)(sim.TensorList([x, sim.Out(y)]))
    assert y.tolist() == [2, 2, 3, 5]  # tensors, dims of the first one, its first element


def test_one_source_is_one_library() -> None:
    first = sim.load(KERNELS, "scale", **OPTIONS)
    assert sim.load(KERNELS, "key", **OPTIONS).module is first.module


def test_compile_error_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.asc"
    path.write_text(
        '#include "kernel_operator.h"\n\n__global__ __vector__ void k() {\n  oops();\n}\n'
    )
    with pytest.raises(BuildError, match=r"bad\.asc:4:3: error: .*oops"):
        sim.load(path)


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
