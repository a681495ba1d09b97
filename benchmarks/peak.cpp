// Peak of bf16 products with operands in registers, by the clock of the thread that computes.
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>
#if defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

double seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

#if defined(__AVX512BF16__)
using Vec = float __attribute__((vector_size(64)));

// 24 independent accumulators: more than latency times throughput needs.
double dot_flops(int64_t repeat) {
  Vec c[24] = {}, a = {}, b = {};
  asm volatile("" : "+v"(a), "+v"(b));
  for (int64_t i = 0; i < repeat; ++i)
#pragma GCC unroll 24
    for (int j = 0; j < 24; ++j) asm volatile("vdpbf16ps %2, %1, %0" : "+v"(c[j]) : "v"(a), "v"(b));
  return double(repeat) * 24 * 64;
}
#endif

#if defined(__AMX_BF16__)
// Four accumulators of 16 x 16, each with 16 x 16 x 32 products in a turn.
double tile_flops(int64_t repeat) {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static const Config config;
  asm volatile("ldtilecfg %0" ::"m"(config));
  asm volatile("tilezero %tmm4\n tilezero %tmm5\n tilezero %tmm6\n tilezero %tmm7");
  for (int64_t i = 0; i < repeat; ++i)
    asm volatile(
        "tdpbf16ps %tmm6, %tmm4, %tmm0\n tdpbf16ps %tmm7, %tmm4, %tmm1\n"
        "tdpbf16ps %tmm6, %tmm5, %tmm2\n tdpbf16ps %tmm7, %tmm5, %tmm3");
  asm volatile("tilerelease");
  return double(repeat) * 4 * 2 * 16 * 16 * 32;
}
#endif

}  // namespace

/// Operations per second of all threads together, by wall ([0]) and by CPU time of a thread ([1]),
/// with AMX tiles or with vector dot products. 0 when the machine or the build has none.
extern "C" double peak_bf16(int tiles, int threads, int64_t repeat, double* result) {
  double (*work)(int64_t) = nullptr;
#if defined(__AVX512BF16__)
  if (!tiles) work = dot_flops;
#endif
#if defined(__AMX_BF16__) && defined(__linux__)
  const long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  if (tiles && syscall(SYS_arch_prctl, request_permission, tile_data) == 0) work = tile_flops;
#endif
  result[0] = result[1] = 0;
  if (!work) return 0;
  std::vector<double> cpu(threads), flops(threads);
  auto run = [&](int id) {
    const double begin = seconds(CLOCK_THREAD_CPUTIME_ID);
    flops[id] = work(repeat);
    cpu[id] = seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
  };
  const double begin = seconds(CLOCK_MONOTONIC);
  std::vector<std::thread> others;
  for (int id = 1; id < threads; ++id) others.emplace_back(run, id);
  run(0);
  for (std::thread& t : others) t.join();
  result[0] = flops[0] * threads / (seconds(CLOCK_MONOTONIC) - begin);
  result[1] = flops[0] * threads / *std::max_element(cpu.begin(), cpu.end());
  return result[1];
}
