#include "team.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>
#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace xc {

namespace {

constexpr int kRing = 64;  // parallel_for calls that may be in flight at once

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("pause");
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until done(); gives the core away after a while, in case another thread needs it.
template <class Done>
inline void spin_until(Done done) {
  for (int i = 0; !done(); ++i) {
    if (i < 1024)
      pause();
    else
      sched_yield();
  }
}

struct Buffer {
  void* data = nullptr;
  size_t bytes = 0;

  void* at_least(size_t want) {
    if (want <= bytes) return data;
    std::free(data);
    const size_t huge = size_t(2) << 20;
    size_t align = want >= huge ? huge : 64;
    bytes = (want + align - 1) / align * align;
    data = std::aligned_alloc(align, bytes);
    if (!data) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (align == huge) madvise(data, bytes, MADV_HUGEPAGE);
#endif
    return data;
  }
  ~Buffer() { std::free(data); }
};

struct alignas(64) Ticket {
  std::atomic<i64> next{0};
};

struct alignas(64) Local {  // touched by one thread only
  uint64_t calls = 0;
  i64 base[kRing] = {};  // value of each ring counter when the current use of it began
  Buffer scratch;
};

}  // namespace

struct TeamShared {
  explicit TeamShared(int threads) : n(threads), locals(size_t(threads)) {}

  const int n;
  std::vector<Local> locals;
  Buffer common;
  Ticket tickets[kRing];

  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<unsigned> phase{0};

  alignas(64) std::atomic<int> error{0};
  i64 error_value = 0;

  // Runs. `epoch` counts them; a worker that sees it change runs the body.
  alignas(64) std::atomic<unsigned> epoch{0};
  alignas(64) std::atomic<int> pending{0};
  std::atomic<int> sleepers{0};
  bool stop = false;
  void (*body)(const Team&, void*) = nullptr;
  void* arg = nullptr;
  std::mutex run_mutex, sleep_mutex;
  std::condition_variable wake;
  std::vector<std::thread> workers;

  void start() {
    epoch.fetch_add(1);
    if (sleepers.load() > 0) {
      {
        std::lock_guard<std::mutex> lock(sleep_mutex);
      }
      wake.notify_all();
    }
  }

  void await_epoch(unsigned seen) {
    using clock = std::chrono::steady_clock;
    auto deadline = clock::now() + std::chrono::microseconds(80);
    do {
      for (int i = 0; i < 32; ++i) {
        if (epoch.load(std::memory_order_acquire) != seen) return;
        pause();
      }
    } while (clock::now() < deadline);
    // The sleeper announces itself before it looks at epoch; start() does it the other way round.
    std::unique_lock<std::mutex> lock(sleep_mutex);
    sleepers.fetch_add(1);
    wake.wait(lock, [&] { return epoch.load() != seen; });
    sleepers.fetch_sub(1);
  }

  void work(int tid) {
    Team team{tid, n, this};
    for (unsigned seen = 0;; ++seen) {
      await_epoch(seen);
      if (stop) return;
      body(team, arg);
      pending.fetch_sub(1, std::memory_order_acq_rel);
    }
  }
};

// ---- Team -------------------------------------------------------------------------------------

void Team::wait_all() const {
  TeamShared& s = *shared;
  unsigned phase = s.phase.load(std::memory_order_acquire);
  if (s.arrived.fetch_add(1, std::memory_order_acq_rel) == n - 1) {
    s.arrived.store(0, std::memory_order_relaxed);
    s.phase.store(phase + 1, std::memory_order_release);
  } else {
    spin_until([&] { return s.phase.load(std::memory_order_acquire) != phase; });
  }
}

// A counter is never reset: each use of it advances it by count (the tasks) plus n (every thread
// draws one ticket too many), so all threads know where the next use starts. A barrier per turn of
// the ring keeps a fast thread from reusing a counter that a slow one still draws from.
Team::Tickets Team::open_tickets(i64 count) const {
  Local& local = shared->locals[size_t(tid)];
  int slot = int(local.calls++ % kRing);
  if (slot == 0) wait_all();
  i64 base = local.base[slot];
  local.base[slot] = base + count + n;
  return {&shared->tickets[slot].next, base};
}

void* Team::scratch(size_t bytes) const {
  return shared->locals[size_t(tid)].scratch.at_least(bytes);
}

void* Team::shared_scratch(size_t bytes) const {
  if (tid == 0) shared->common.at_least(bytes);
  barrier();
  return shared->common.data;
}

void Team::fail(int code, i64 value) const {
  int none = 0;
  if (shared->error.compare_exchange_strong(none, code)) shared->error_value = value;
}

// ---- Pool -------------------------------------------------------------------------------------

Pool::Pool(int threads) : shared_(new TeamShared(threads < 1 ? 1 : threads)) {
  amx_permit();
  for (int tid = 1; tid < shared_->n; ++tid)
    shared_->workers.emplace_back([this, tid] { shared_->work(tid); });
}

Pool::~Pool() {
  {
    std::lock_guard<std::mutex> lock(shared_->run_mutex);
    shared_->stop = true;
    shared_->start();
  }
  for (std::thread& worker : shared_->workers) worker.join();
  delete shared_;
}

int Pool::run(void (*body)(const Team&, void* arg), void* arg) {
  TeamShared& s = *shared_;
  std::lock_guard<std::mutex> lock(s.run_mutex);
  s.error.store(0, std::memory_order_relaxed);
  s.error_value = 0;
  Team team{0, s.n, &s};
  if (s.n == 1) {
    body(team, arg);
  } else {
    s.body = body;
    s.arg = arg;
    s.pending.store(s.n - 1, std::memory_order_relaxed);
    s.start();
    body(team, arg);
    spin_until([&] { return s.pending.load(std::memory_order_acquire) == 0; });
  }
  return s.error.load(std::memory_order_relaxed);
}

i64 Pool::error_value() const { return shared_->error_value; }
int Pool::threads() const { return shared_->n; }

bool amx_permit() {
#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
  static const bool granted = [] {
    const long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return granted;
#else
  return false;
#endif
}

}  // namespace xc

void* xc_pool_create(int threads) { return new xc::Pool(threads); }
void xc_pool_destroy(void* pool) { delete static_cast<xc::Pool*>(pool); }
