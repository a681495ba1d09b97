// Costs of single instructions, without contention: how long they occupy their pipe, and how much
// later their result is there.
#pragma once
#include <cstdint>

#include "ascsim/chips.h"
#include "ascsim/trace.h"

namespace ascsim {

struct Cost {
  double busy = 0;     // cycles until the pipe takes the next, independent instruction
  double latency = 0;  // cycles from then until the result is complete
};

// Instructions that stay on the core: everything but traffic from and to GM.
Cost localCost(const TraceEvent& e, const Chip& chip);

// What a transfer from or to GM asks of the memory system.
struct Traffic {
  uint64_t hit = 0;        // bytes read from or written to L2
  uint64_t miss = 0;       // bytes read from HBM
  uint64_t writeBack = 0;  // bytes written to HBM by evictions
  uint64_t hbmExtra = 0;   // bytes that only cost time: waste of small and unaligned accesses
  uint32_t missRows = 0;   // runs of which at least one line missed
  uint32_t rows = 0;
  uint32_t partialLines = 0;  // lines of 512 bytes that a run covers in part
};

// Pipe occupancy of a GM transfer if nobody else uses the memory.
double gmPipeCycles(const TraceEvent& e, const Traffic& t, const Chip& chip);
double gmLatency(const TraceEvent& e, const Traffic& t);

// Average cycles per repeat that bank conflicts ask for (1 = none).
double bankCycles(const TraceEvent& e);

// Does the model know this mnemonic?
bool knownMnemonic(const char* mnemonic);

// Moves data from or to GM through L2 (and not a scalar access)?
inline bool isGmTransfer(const TraceEvent& e) {
  return e.kind == Ev::Exec && (e.src == Mem::GM || e.dst == Mem::GM) && e.pipe != Pipe::S &&
         e.pipe != Pipe::V && e.cycles < 0;
}

// ------------------------------------------------------------------------------- constants
// Scalar unit, cycles of dispatching one instruction. Sample add_high_performance, case 1: 26
// cycles of scalar time per iteration with 4 instructions, 6 flags and the loop around them.
constexpr double kDispatch = 2;
constexpr double kDispatchSync = 1;  // pto-isa costmodel a2a3: set_flag, wait_flag, barrier = 1
// Entries a pipe's queue holds. MTE1 and M: 32 (guide, sample matmul_basic_api_high_performance,
// point 6); the others are not published and taken to be the same.
constexpr int kQueueDepth = 32;
// PipeBarrier on one pipe, beyond draining it. Fitted to the three variants of the 256-element
// reduction (PERF, low-latency instructions): 13, 13.94 and 8.44 us for 100 rounds.
constexpr double kBarrier = 20;
// A flag between cores. Assumed: nothing published.
constexpr double kCrossCore = 200;
// Cores of a launch begin one after the other. That the cost of starting grows with their number is
// published (PERF, number of cores), this value is not: with 0, cores stay in step and wait for HBM
// all at the same moments (sample data_copy, tiles of 64 x 64: +30%); the more it is, the less the
// cores of that sample's same-address case meet.
constexpr double kStartStagger = 8;
// Launch: Task Duration minus the cores' time in sample add_high_performance: 0.5 us with 1 core,
// 2.5 to 9.4 us with 48. Not part of the makespan; reported beside it.
constexpr double kLaunchUs = 0.4;
constexpr double kLaunchUsPerCore = 0.125;

// L2. Line of 512 bytes: guide (GM addresses aligned to 512 bytes; same-address accesses).
constexpr uint32_t kLine = 512;
constexpr int kWays = 16;  // assumed
// One byte written back to HBM takes the time of 1.9 bytes read: sample add_high_performance, case
// 4 (268 MB read, 134 MB written, 257 us) and bank_conflict_nd2nz (134 + 134 MB, 131 us), both with
// the write-backs that the L2 model counts.
constexpr double kWriteBackCost = 1.9;
// Reads past L2 (CACHE_MODE_DISABLE) waste 64 bytes a run: sample data_copy, UB scenario 8 (302 MB
// in runs of 128 bytes in 307 us).
constexpr uint32_t kBypassRunWaste = 64;
// Accesses of several cores to the same 512 bytes past L2 are served one by one: 636 GB/s (48
// cores) and 629 GB/s (24 cores) in sample data_copy, UB scenario 7 and L1 scenario 6, at 1850 MHz.
constexpr double kSameAddressBytesPerCycle = 342;

}  // namespace ascsim
