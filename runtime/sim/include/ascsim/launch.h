// What the host side (acl.cpp, generated launches) needs of the simulator core.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace ascsim {

// Which cores one block runs on. Auto is resolved by the translator; a launch never sees it.
enum class KernelKind : int { Auto, AivOnly, AicOnly, MixAiv10, MixAic10, Mix11, Mix12 };

struct KernelInfo {
  const char* name;
  KernelKind kind;
  const char* file;
  int line;
};

struct LaunchOptions {
  uint32_t blocks;
  uint64_t tilingKey = 0;
};

// Runs the body once per core, on cooperative fibers in the seeded order.
// Returns 0, or 507015 (the ACL code of an AI-core exception) if a check stopped the kernel.
int runKernel(const KernelInfo& info, const LaunchOptions& options,
              const std::function<void()>& body);

// Global memory: the address ranges that kernels may touch. A new range counts as never written.
void gmAdd(void* p, size_t bytes);
void gmRemove(void* p);
bool gmFind(const void* p, size_t* offset, size_t* size);
void gmHostWrote(void* p, size_t bytes);
void gmHostRead(const void* p, size_t bytes);  // reports bytes that nobody wrote

double simTimeMicroseconds();  // simulated time of all launches so far
std::string simReportJson();   // the cycle model's findings, all launches so far
uint64_t simCycleEstimate();   // the running core's "now": cycles of its dispatched instructions
uint64_t simSystemCycle();     // the same in ticks of GetSystemCycle
size_t errorCount();
std::string takeErrors();  // JSON array of the errors since the last call
void reportError(const char* rule, const std::string& text);  // for the host side's own checks

}  // namespace ascsim
