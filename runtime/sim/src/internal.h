// Shared by the translation units of the simulator's core; API headers do not see it.
#pragma once
#include <ucontext.h>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ascsim/core.h"

namespace ascsim {

struct FlagSlot {
  bool set = false;
  uint32_t site = 0;
  Clock clock;
  uint64_t token = 0;
};

// One arrival count per (receiving core, flag): how many releases are there to take, and what they
// carry.
struct CrossSlot {
  int ready = 0;
  std::deque<std::pair<Clock, std::vector<uint64_t>>> carried;
};

// Flags beyond the user's 0 to 31 carry the barriers of SyncAll.
constexpr int kSyncAllFlag = 100;
constexpr int kGroupFlag = 110;

struct CrossPending {
  // Arrivals per member that have not yet been matched into a release.
  std::map<int, std::deque<std::pair<Clock, uint64_t>>> arrived;
};

struct Fiber {
  ucontext_t context;
  void* stack = nullptr;
  bool started = false;
  bool done = false;
  bool blocked = false;
  std::string waitingFor;
};

struct KernelRun {
  KernelInfo info;
  LaunchInfo launch;
  uint64_t serial = 0;
  std::vector<std::unique_ptr<Core>> cores;
  std::vector<Fiber> fibers;
  std::vector<std::vector<std::array<FlagSlot, 8>>> flags;  // [core][src * kPipes + dst][id]
  std::map<std::pair<int, int>, CrossSlot> cross;           // (core, flag)
  std::map<std::array<int, 3>, CrossPending> pending;       // (mode, group or direction, flag)
  std::map<int, std::deque<std::pair<Clock, uint64_t>>> barrier[3];
  std::map<uint64_t, std::deque<std::pair<Clock, uint64_t>>> signals;  // by GM workspace
  std::map<uint64_t, std::vector<int>> waiters;
  std::map<uint64_t, std::vector<std::pair<int, std::pair<Clock, uint64_t>>>> groups;
  // What a core knew when its scalar unit last wrote a word of GM: whoever reads the word learns
  // it.
  std::map<uint64_t, std::pair<int, Clock>> released;
  uint64_t polls = 0;  // scalar reads in a row that saw no other core's instruction
  int aborted = 0;
  ucontext_t scheduler;
  const std::function<void()>* body = nullptr;
};

extern KernelRun* g_run;
extern Core* g_core;

uint32_t internSite(const char* api, const Loc& loc);
std::string siteText(uint32_t site);
void ensureLocal(Core& c, Mem mem);  // allocates the memory at its first use
void block(const std::string& why);  // marks the running fiber blocked and yields
std::string coreName(const Core& c);

// Packs who and when; 0 is never a valid epoch.
inline uint64_t packEpoch(uint64_t serial, int core, Pipe pipe, uint32_t clock, bool atomic) {
  return ((serial & 0x1fff) << 51) | (static_cast<uint64_t>(core & 0x7fff) << 36) |
         (static_cast<uint64_t>(atomic) << 35) | (static_cast<uint64_t>(pipe) << 32) | clock;
}
inline uint64_t epochSerial(uint64_t e) { return e >> 51; }
inline int epochCore(uint64_t e) { return static_cast<int>((e >> 36) & 0x7fff); }
inline bool epochAtomic(uint64_t e) { return ((e >> 35) & 1) != 0; }
inline Pipe epochPipe(uint64_t e) { return static_cast<Pipe>((e >> 32) & 7); }
inline uint32_t epochClock(uint64_t e) { return static_cast<uint32_t>(e); }

struct Gm {
  uint8_t* base;
  size_t bytes;
  std::unique_ptr<Shadow> shadow;
  bool filled = false;  // the host wrote some of it
};
Gm* gmOf(const void* p);

// Scalar accesses of GM words order cores as flags do: a write releases, its reader acquires.
void releaseWord(Core& c, uint64_t address);
void acquireWord(Core& c, uint64_t address);

// timing.cpp: the cycle model. Adds the launch's makespan to the simulated time.
void replayLaunch(const KernelRun& run);

}  // namespace ascsim
