// Read bandwidth of main memory: every thread sums its share of a buffer on 2 MB pages.
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

using Vec = int64_t __attribute__((vector_size(64)));

double seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

int64_t sum(const char* p, size_t bytes) {
  Vec a[8] = {};
  for (size_t i = 0; i + sizeof a <= bytes; i += sizeof a)
    for (int j = 0; j < 8; ++j) a[j] += *(const Vec*)(p + i + j * sizeof(Vec));
  int64_t s = 0;
  for (const Vec& v : a)
    for (int k = 0; k < 8; ++k) s += v[k];
  return s;
}

}  // namespace

extern "C" {

/// A written buffer on huge pages where the system has them, or null.
void* bandwidth_open(size_t bytes) {
  constexpr size_t kHuge = size_t(2) << 20;
  void* raw =
      mmap(nullptr, bytes + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  char* p = (char*)(((uintptr_t)raw + kHuge - 1) / kHuge * kHuge);
  madvise(p, bytes, MADV_HUGEPAGE);
  std::fill_n((int64_t*)p, bytes / sizeof(int64_t), 1);
  return p;
}

/// Reads the buffer once. result[0]: wall seconds, result[1]: CPU seconds of the slowest thread.
int64_t bandwidth_read(const void* buffer, size_t bytes, int threads, double* result) {
  std::atomic<int64_t> total{0};
  std::vector<double> cpu(threads);
  const size_t share = bytes / threads / 4096 * 4096;
  auto work = [&](int id) {
    const double begin = seconds(CLOCK_THREAD_CPUTIME_ID);
    total += sum((const char*)buffer + id * share, share);
    cpu[id] = seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
  };
  const double begin = seconds(CLOCK_MONOTONIC);
  std::vector<std::thread> others;
  for (int id = 1; id < threads; ++id) others.emplace_back(work, id);
  work(0);
  for (std::thread& t : others) t.join();
  result[0] = seconds(CLOCK_MONOTONIC) - begin;
  result[1] = *std::max_element(cpu.begin(), cpu.end());
  return total;
}
}
