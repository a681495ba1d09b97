"""The ACL host calls: streams that run when synchronised, errors with their codes, capture."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from xcompile.sim.simcc import simcc

# One program, one scenario for each test: built once.
PROGRAM = r"""
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>
#include "acl/acl.h"
#include "acl/acl_prof.h"
#include "kernel_operator.h"
#include "tikicpulib.h"
#include "tiling/platform/platform_ascendc.h"

struct Numbers { int32_t n; int32_t by; };
extern "C" __global__ __vector__ void add_to(__gm__ int32_t* x, Numbers a) {
  AscendC::GlobalTensor<int32_t> t;
  t.SetGlobalBuffer(x, a.n);
  for (int i = AscendC::GetBlockIdx(); i < a.n; i += AscendC::GetBlockNum())
    t.SetValue(i, t.GetValue(i) + a.by);
}
template <int N>
__global__ __vector__ void store(__gm__ int32_t* x, int32_t v, __gm__ uint8_t* none) {
  AscendC::GlobalTensor<int32_t> t;
  t.SetGlobalBuffer(x, N);
  for (int i = 0; i < N; ++i) t.SetValue(i, v + (none == nullptr ? 0 : 1000));
}
void notAKernel(int32_t*, Numbers) {}

constexpr int N = 16;
constexpr size_t BYTES = N * sizeof(int32_t);
int32_t *dev, *host;
aclrtStream s, s2;
#define SHOW(call) std::printf("%s\n", std::to_string(static_cast<int>(call)).c_str())

void begin() {
  aclInit(nullptr);
  aclrtSetDevice(0);
  aclrtCreateStream(&s);
  aclrtCreateStream(&s2);
  aclrtMalloc(reinterpret_cast<void**>(&dev), BYTES, ACL_MEM_MALLOC_HUGE_FIRST);
  aclrtMallocHost(reinterpret_cast<void**>(&host), BYTES);
  std::memset(host, 0, BYTES);
  aclrtMemcpy(dev, BYTES, host, BYTES, ACL_MEMCPY_HOST_TO_DEVICE);
}
void end() {
  aclrtFree(dev);
  aclrtFreeHost(host);
  aclrtDestroyStream(s);
  aclrtDestroyStream(s2);
  aclrtResetDevice(0);
  aclFinalize();
}
int value() {
  aclrtMemcpy(host, BYTES, dev, BYTES, ACL_MEMCPY_DEVICE_TO_HOST);
  return host[N - 1];
}

std::map<std::string, std::function<void()>> scenarios = {
    {"launch", [] {
       begin();
       Numbers a{N, 5};
       add_to<<<4, nullptr, s>>>(dev, a);
       a.by = 100;  // the launch has its own copy
       add_to<<<2, 0, s>>>(dev, Numbers{N, 2});
       SHOW(aclrtSynchronizeStream(s));
       SHOW(value());
       store<N><<<1, 0, s>>>(dev, 9, 0);
       void (*kernel)(int32_t*, int32_t, uint8_t*) = &store<N / 2>;
       kernel<<<1, 0, s>>>(dev, 3, NULL);
       SHOW(aclrtSynchronizeDevice());
       SHOW(value());
       SHOW(host[0]);
       end();
     }},
    {"missing-synchronise", [] {
       begin();
       add_to<<<1, 0, s>>>(dev, Numbers{N, 5});
       SHOW(value());
       aclrtSynchronizeStream(s);
       SHOW(value());
       end();
     }},
    {"never-synchronised", [] {
       begin();
       add_to<<<1, 0, s>>>(dev, Numbers{N, 5});
     }},
    {"unwritten", [] {
       begin();
       void* p = nullptr;
       aclrtMalloc(&p, BYTES, ACL_MEM_MALLOC_NORMAL_ONLY);
       SHOW(aclrtMemcpy(host, BYTES, p, BYTES, ACL_MEMCPY_DEVICE_TO_HOST));
       aclrtFree(p);
       end();
     }},
    {"events", [] {
       begin();
       aclrtEvent e, f, start, stop;
       for (aclrtEvent* v : {&e, &f, &start, &stop}) aclrtCreateEvent(v);
       aclrtStreamWaitEvent(s2, e);  // before the record: waits for the first one
       add_to<<<1, 0, s2>>>(dev, Numbers{N, 10});
       aclrtRecordEvent(f, s2);
       aclrtEventRecordedStatus status;
       aclrtRecordEvent(start, s);
       store<N><<<1, 0, s>>>(dev, 1, nullptr);
       aclrtRecordEvent(e, s);
       aclrtQueryEventStatus(f, &status);
       SHOW(status);
       SHOW(aclrtSynchronizeEvent(f));  // runs s as far as needed, then s2
       SHOW(value());
       aclrtRecordEvent(stop, s);
       aclrtSynchronizeStream(s);
       float ms = -1;
       SHOW(aclrtEventElapsedTime(&ms, start, stop));
       SHOW(ms > 0 && ms < 1);
       SHOW(aclrtEventElapsedTime(&ms, stop, start));
       for (aclrtEvent v : {e, f, start, stop}) aclrtDestroyEvent(v);
       end();
     }},
    {"poll", [] {
       begin();
       aclrtEvent e;
       aclrtCreateEventExWithFlag(&e, ACL_EVENT_SYNC);
       add_to<<<1, 0, s>>>(dev, Numbers{N, 1});
       add_to<<<1, 0, s>>>(dev, Numbers{N, 1});
       aclrtRecordEvent(e, s);
       aclrtEventRecordedStatus status = ACL_EVENT_RECORDED_STATUS_NOT_READY;
       int polls = 0;
       while (status != ACL_EVENT_RECORDED_STATUS_COMPLETE && polls++ < 10)
         aclrtQueryEventStatus(e, &status);
       SHOW(polls > 1 && polls < 10);
       SHOW(value());
       end();
     }},
    {"deadlock", [] {
       begin();
       aclrtEvent e, f;
       aclrtCreateEvent(&e);
       aclrtCreateEvent(&f);
       aclrtStreamWaitEvent(s, e);
       aclrtRecordEvent(f, s);
       aclrtStreamWaitEvent(s2, f);
       aclrtRecordEvent(e, s2);
       SHOW(aclrtSynchronizeStream(s));
     }},
    {"wait-forever", [] {
       begin();
       aclrtEvent e;
       aclrtCreateEvent(&e);
       aclrtStreamWaitEvent(s, e);
       add_to<<<1, 0, s>>>(dev, Numbers{N, 1});
       SHOW(aclrtSynchronizeDevice());
       SHOW(value());
     }},
    {"copies", [] {
       begin();
       for (int i = 0; i < N; ++i) host[i] = i;
       SHOW(aclrtMemcpyAsync(dev, BYTES, host, BYTES, ACL_MEMCPY_HOST_TO_DEVICE, s));
       {
         std::vector<int32_t> gone(4, 7);  // pageable: taken over at the call
         aclrtMemcpyAsync(dev + 2, 16, gone.data(), 16, ACL_MEMCPY_HOST_TO_DEVICE, s);
       }
       aclrtMemsetAsync(dev + 8, 32, 0xff, 4, s);
       aclrtMemcpyAsync(dev + 10, 8, dev, 8, ACL_MEMCPY_DEVICE_TO_DEVICE, s);
       aclrtMemcpyAsync(host, BYTES, dev, BYTES, ACL_MEMCPY_DEFAULT, s);
       SHOW(aclrtSynchronizeStream(s));
       for (int i = 0; i < N; ++i) std::printf("%d ", host[i]);
       std::printf("\n");
       int32_t grid[6] = {};
       SHOW(aclrtMemcpy2d(grid, 12, dev + 4, 8, 4, 2, ACL_MEMCPY_DEVICE_TO_HOST));
       std::printf("%d %d\n", grid[0], grid[3]);
       end();
     }},
    {"bad-copies", [] {
       begin();
       SHOW(aclrtMemcpy(dev, BYTES, host, BYTES + 4, ACL_MEMCPY_HOST_TO_DEVICE));
       SHOW(aclrtMemcpy(dev, 2 * BYTES, host, 2 * BYTES, ACL_MEMCPY_HOST_TO_DEVICE));
       SHOW(aclrtMemcpy(host, BYTES, dev + 1, BYTES, ACL_MEMCPY_DEVICE_TO_HOST));
       SHOW(aclrtMemcpy(dev, BYTES, host, BYTES, ACL_MEMCPY_DEVICE_TO_HOST));
       SHOW(aclrtMemcpy(host, BYTES, host, BYTES, ACL_MEMCPY_HOST_TO_DEVICE));
       SHOW(aclrtMemcpy(nullptr, BYTES, host, BYTES, ACL_MEMCPY_HOST_TO_HOST));
       std::printf("%s\n", aclGetRecentErrMsg());
       end();
     }},
    {"bad-frees", [] {
       begin();
       void* p = nullptr;
       aclrtMalloc(&p, 64, ACL_MEM_MALLOC_HUGE_FIRST);
       SHOW(aclrtFree(p));
       SHOW(aclrtFree(p));
       SHOW(aclrtFree(dev + 1));
       SHOW(aclrtFree(host));
       SHOW(aclrtFreeHost(dev));
       SHOW(aclrtFree(nullptr));
       SHOW(aclrtMalloc(&p, 0, ACL_MEM_MALLOC_HUGE_FIRST));
       add_to<<<1, 0, s>>>(dev, Numbers{N, 1});
       SHOW(aclrtFree(dev));
     }},
    {"leak", [] {
       begin();
       aclrtFreeHost(host);
       aclFinalize();
     }},
    {"order", [] {
       void* p = nullptr;
       SHOW(aclrtMalloc(&p, 64, ACL_MEM_MALLOC_HUGE_FIRST));
       SHOW(aclrtSetDevice(99));
       SHOW(aclInit(nullptr));
       SHOW(aclInit(nullptr));
       SHOW(aclFinalize());
       SHOW(aclFinalize());
     }},
    {"kernel-error", [] {
       begin();
       add_to<<<1, 0, s>>>(dev, Numbers{N + 4, 1});
       SHOW(aclrtSynchronizeStream(s));
     }},
    {"no-kernel", [] {
       begin();
       notAKernel<<<1, 0, s>>>(dev, Numbers{N, 1});
       add_to<<<0, 0, s>>>(dev, Numbers{N, 1});
       add_to<<<1, 0, &dev>>>(dev, Numbers{N, 1});
     }},
    {"by-name", [] {
       begin();
       Numbers a{N, 4};
       aclrtFuncHandle f = nullptr;
       aclrtBinHandle b = nullptr;
       SHOW(aclrtBinaryLoadFromFile(std::getenv("KERNELS"), nullptr, &b));
       SHOW(aclrtBinaryGetFunction(b, "twice", &f));
       void* args[] = {&dev, &a.n};
       add_to<<<1, 0, s>>>(dev, a);
       SHOW(aclrtLaunchKernelWithArgsArray(f, 2, s, nullptr, args));
       struct { void* x; int32_t n; } block{dev, N};
       SHOW(aclrtLaunchKernel(f, 2, &block, sizeof block, s));
       SHOW(aclrtLaunchKernel(f, 2, &block, 8, s));
       SHOW(aclrtBinaryGetFunction(b, "thrice", &f));
       aclrtSynchronizeStream(s);
       SHOW(value());
       aclrtBinaryUnLoad(b);
       end();
     }},
    {"capture", [] {
       begin();
       aclmdlRI graph;
       aclrtEvent fork, join;
       aclrtCreateEvent(&fork);
       aclrtCreateEvent(&join);
       SHOW(aclmdlRICaptureBegin(s, ACL_MODEL_RI_CAPTURE_MODE_GLOBAL));
       aclrtMemcpyAsync(dev, BYTES, host, BYTES, ACL_MEMCPY_HOST_TO_DEVICE, s);
       aclrtRecordEvent(fork, s);
       aclrtStreamWaitEvent(s2, fork);
       add_to<<<2, 0, s2>>>(dev, Numbers{N, 3});
       aclrtRecordEvent(join, s2);
       aclrtStreamWaitEvent(s, join);
       add_to<<<1, 0, s>>>(dev, Numbers{N, 1});
       SHOW(aclrtSynchronizeStream(s));  // refused: it is being captured
       SHOW(aclmdlRICaptureEnd(s, &graph));
       for (int i = 0; i < 3; ++i) {
         host[N - 1] = 100 * i;  // a replay reads the memory anew
         SHOW(aclmdlRIExecuteAsync(graph, s));
         aclrtSynchronizeStream(s);
         SHOW(value());
       }
       SHOW(aclmdlRIDebugJsonPrint(graph, "graph.json", 0));
       SHOW(aclmdlRIDestroy(graph));
       SHOW(aclmdlRICaptureBegin(s, ACL_MODEL_RI_CAPTURE_MODE_GLOBAL));
       aclrtRecordEvent(fork, s);
       aclrtStreamWaitEvent(s2, fork);
       add_to<<<1, 0, s2>>>(dev, Numbers{N, 3});
       SHOW(aclmdlRICaptureEnd(s, &graph));  // s2 never leads back
       SHOW(aclmdlRICaptureEnd(s, &graph));
       end();
     }},
    {"callback", [] {
       begin();
       static int seen = 0;
       add_to<<<1, 0, s>>>(dev, Numbers{N, 8});
       aclrtLaunchHostFunc(s, [](void* p) { seen = value() + *static_cast<int*>(p); }, &host[0]);
       SHOW(seen);
       aclrtSynchronizeStream(s);
       SHOW(seen);
       end();
     }},
    {"platform", [] {
       using namespace platform_ascendc;
       auto* p = PlatformAscendCManager::GetInstance();
       uint64_t ub = 0, l1 = 0;
       p->GetCoreMemSize(CoreMemType::UB, ub);
       p->GetCoreMemSize(CoreMemType::L1, l1);
       std::printf("%u %u %u %zu %zu %u\n", p->GetCoreNum(), p->GetCoreNumAic(), p->GetCoreNumAiv(),
                   size_t{ub}, size_t{l1}, p->CalcTschBlockDim(7, 24, 48));
       int64_t cores = 0;
       aclrtGetDeviceInfo(0, ACL_DEV_ATTR_VECTOR_CORE_NUM, &cores);
       std::printf("%ld %s %d\n", static_cast<long>(cores), aclrtGetSocName(), __NPU_ARCH__);
       std::printf("%g %u\n", aclFloat16ToFloat(0x3e00), aclFloatToFloat16(-2.0f));
     }},
    {"cpu-debug", [] {
       auto* x = static_cast<int32_t*>(AscendC::GmAlloc(BYTES));
       for (int i = 0; i < N; ++i) x[i] = i;
       AscendC::SetKernelMode(KernelMode::AIV_MODE);
       ICPU_SET_TILING_KEY(1);
       ICPU_RUN_KF(add_to, 4, x, Numbers{N, 1});
       SHOW(x[N - 1]);
       AscendC::GmFree(x);
       AscendC::GmFree(x);
     }},
};

int main(int, char** argv) {
  scenarios.at(argv[1])();
  return 0;
}
"""
KERNELS = r"""
#include "kernel_operator.h"
extern "C" __global__ __vector__ void twice(__gm__ int32_t* x, uint32_t n) {
  AscendC::GlobalTensor<int32_t> t;
  t.SetGlobalBuffer(x, n);
  for (uint32_t i = AscendC::GetBlockIdx(); i < n; i += AscendC::GetBlockNum())
    t.SetValue(i, 2 * t.GetValue(i));
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, list[str], str]]:
    """``program(scenario)`` gives the exit code, the lines of stdout and stderr."""
    folder = tmp_path_factory.mktemp("acl")
    (folder / "prog.asc").write_text(PROGRAM)
    (folder / "twice.asc").write_text(KERNELS)
    assert simcc([str(folder / "prog.asc"), "-o", str(folder / "prog")]) == 0
    kernels = folder / "libtwice.so"
    assert simcc(["-shared", str(folder / "twice.asc"), "-o", str(kernels)]) == 0

    def run(scenario: str, **env: str) -> tuple[int, list[str], str]:
        done = subprocess.run(
            [folder / "prog", scenario],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=folder,
            env={**os.environ, "KERNELS": str(kernels), **env},
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


Program = Callable[..., tuple[int, list[str], str]]


@pytest.mark.parametrize(
    ("scenario", "out"),
    [
        ("launch", "0 7 0 9 3"),
        ("poll", "1 2"),
        ("callback", "0 16"),
        ("copies", "0|0|0 1 7 7 7 7 6 7 -1 9 0 1 12 13 14 15 |0|7 6"),
    ],
)
def test_correct_programs_are_silent(program: Program, scenario: str, out: str) -> None:
    sep = "|" if "|" in out else " "
    assert program(scenario) == (0, out.split(sep), "")


def test_missing_synchronise(program: Program) -> None:
    code, out, err = program("missing-synchronise")
    assert code == 1 and out == ["0", "5"]
    assert "before kernel add_to, which was queued earlier and writes them, had run" in err
    assert err.rstrip().endswith("[ascsim] 1 error")


def test_never_synchronised(program: Program) -> None:
    code, _, err = program("never-synchronised")
    assert code == 0 and "1 operations on streams never ran" in err


def test_unwritten_memory_read_by_the_host(program: Program) -> None:
    code, out, err = program("unwritten")
    assert code == 1 and out == ["0"] and "never written" in err


def test_events(program: Program) -> None:
    code, out, err = program("events")
    assert out == ["0", "0", "11", "0", "1", "107007"]
    assert code == 1 and "reached before the start event" in err


@pytest.mark.parametrize(
    ("scenario", "out", "message"),
    [
        ("deadlock", ["507046"], "is recorded only after this wait"),
        ("wait-forever", ["507046", "0"], "nothing records; the 1 operations behind it never run"),
    ],
)
def test_deadlock(program: Program, scenario: str, out: list[str], message: str) -> None:
    code, got, err = program(scenario)
    assert code == 1 and got == out and message in err


def test_bad_copies(program: Program) -> None:
    code, out, err = program("bad-copies")
    assert code == 1 and out[:6] == ["100000", *["107000"] * 4, "100000"]
    assert out[6] == "aclrtMemcpy: the destination is null"
    for text in (
        "68 bytes do not fit into the destination of 64",
        "128 bytes at offset 0 of the destination, which is a device allocation of 64 bytes",
        "64 bytes at offset 4 of the source",
        "is device memory, the kind says host",
        "is no device memory, the kind says device",
    ):
        assert text in err


def test_bad_frees(program: Program) -> None:
    code, out, err = program("bad-frees")
    assert code == 1
    assert out == ["0", *["107000"] * 4, "100000", "100000", "0"]
    for text in (
        "was freed before",
        "points into an allocation",
        "is host memory (aclrtFreeHost)",
        "is device memory (aclrtFree)",
        "kernel add_to uses the memory and is still queued",
    ):
        assert text in err


def test_leak_is_a_warning(program: Program) -> None:
    code, _, err = program("leak")
    assert code == 0 and "1 device allocations (64 bytes) and 0 of aclrtMallocHost" in err


def test_order_of_calls(program: Program) -> None:
    code, out, err = program("order")
    assert out == ["107002", "107001", "0", "100002", "0", "100001"]
    assert code == 1 and "call aclrtSetDevice first" in err


def test_an_error_in_a_kernel_reaches_the_host(program: Program) -> None:
    code, out, err = program("kernel-error")
    assert code == 1 and out == ["507015"] and "add_to" in err and "prog.asc:" in err


def test_what_is_no_launch(program: Program) -> None:
    code, _, err = program("no-kernel")
    assert code == 1 and "needs __global__ on its definition" in err
    assert "0 blocks; 1 to 65535" in err and "the stream does not exist" in err


def test_kernels_by_name(program: Program) -> None:
    code, out, err = program("by-name")
    assert out == ["0", "0", "0", "0", "107000", "107000", "16"], err
    assert code == 1 and "8 bytes of arguments are too few" in err and "no kernel thrice" in err


def test_capture(program: Program) -> None:
    code, out, err = program("capture")
    assert out[:3] == ["0", "107027", "0"]
    assert out[3:9] == ["0", "4", "0", "104", "0", "204"]
    assert out[9:] == ["0", "0", "0", "107025", "107029"]
    assert code == 1 and "does not lead back" in err


def test_platform(program: Program) -> None:
    code, out, _ = program("platform")
    assert code == 0
    assert out == ["48 24 48 196352 524032 4", "48 Ascend910B1 2201", "1.5 49152"]
    _, out, _ = program("platform", XC_SIM_CHIP="910B4")
    assert out[0].startswith("40 20 40") and out[1].startswith("40 Ascend910B4")


def test_cpu_debug_interface(program: Program) -> None:
    code, out, err = program("cpu-debug")
    assert code == 1 and out == ["16"] and "was not allocated by GmAlloc" in err
