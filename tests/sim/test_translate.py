"""The Ascend C translator: what is rewritten, what is left, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from xcompile.errors import XCompileError
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
