// SPMD thread team: every thread runs the same step and meets the others at barriers.
#pragma once
#include <atomic>
#include <utility>

#include "base.hpp"

namespace xc {

class Pool;
struct TeamShared;

/// One thread's view of the team that runs a graph step. All threads of a team call every kernel
/// with the same arguments, and reach every barrier the same number of times.
struct Team {
  int tid;
  int n;
  TeamShared* shared;

  /// Returns once all n threads have arrived.
  void barrier() const {
    if (n > 1) wait_all();
  }

  /// Calls f(task) once for every task in [0, count), on whichever thread is free. Collective:
  /// all threads pass the same count. There is no barrier at the end, and calls may follow each
  /// other without one.
  template <class F>
  void parallel_for(i64 count, F&& f) const {
    if (n == 1) {
      for (i64 i = 0; i < count; ++i) f(i);
      return;
    }
    Tickets tickets = open_tickets(count);
    for (i64 i; (i = tickets.next->fetch_add(1, std::memory_order_relaxed) - tickets.base) < count;)
      f(i);
  }

  /// This thread's [begin, end) of a static split of count items into multiples of grain.
  std::pair<i64, i64> split(i64 count, i64 grain = 1) const {
    i64 blocks = ceil_div(count, grain);
    i64 begin = blocks * tid / n * grain, end = blocks * (tid + 1) / n * grain;
    return {begin < count ? begin : count, end < count ? end : count};
  }

  /// Calls f(row) for this thread's share of the rows.
  template <class F>
  void each_row(i64 rows, F&& f) const {
    const auto [begin, end] = split(rows);
    for (i64 r = begin; r < end; ++r) f(r);
  }

  /// Private 64-byte aligned memory, kept between launches. A kernel holds one at a time: a second
  /// call may move it.
  void* scratch(size_t bytes) const;

  /// Memory common to the team (64-byte aligned, uninitialised). Collective; contains a barrier.
  /// A kernel holds one at a time.
  void* shared_scratch(size_t bytes) const;

  /// Records an error; the first one of a run is kept and returned by Pool::run.
  void fail(int code, i64 value) const;

 private:
  struct Tickets {
    std::atomic<i64>* next;
    i64 base;
  };
  void wait_all() const;
  Tickets open_tickets(i64 count) const;
};

/// A fixed set of worker threads; the thread that calls run() is tid 0. Workers spin for a short
/// while between runs, then sleep.
class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Runs body(team, arg) on every thread and returns the first error code (0: none). Calls from
  /// several user threads are served one after the other.
  int run(void (*body)(const Team&, void* arg), void* arg);

  /// The value passed along with the last run's error.
  i64 error_value() const;
  int threads() const;

 private:
  TeamShared* shared_;
};

/// Asks the kernel for AMX tile state, once per process. False when the build or the machine has
/// no AMX; the kernels then use vector code.
bool amx_permit();

}  // namespace xc

extern "C" {
void* xc_pool_create(int threads);
void xc_pool_destroy(void* pool);
}
