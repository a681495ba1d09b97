// Shared by the host-side translation units: streams, events, captured graphs, messages.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "acl/acl_rt.h"
#include "ascsim/host.h"

namespace ascsim {

struct Stream;

struct Event {
  uint64_t issued = 0;   // records asked for
  uint64_t done = 0;     // the newest that was reached
  uint64_t resetAt = 0;  // records before a reset do not count
  double time = -1;      // simulated microseconds of the newest record
  struct Graph* capture = nullptr;
  std::map<Stream*, uint64_t> seen;  // in a capture: work ordered before the record
};

struct Op {
  enum class Kind { Run, Record, Wait } kind = Kind::Run;
  std::string what;
  std::function<int()> run;
  Event* event = nullptr;
  uint64_t count = 0;  // of the event
  std::vector<const void*> pointers;
  bool launch = false;
  uint64_t serial = 0;
};

struct Graph {
  std::vector<Op> nodes;  // in the order of capture, which respects every dependence
  Stream* origin = nullptr;
  std::set<Stream*> members;
  std::map<Stream*, uint64_t> lastWork;
  std::map<Stream*, std::map<Stream*, uint64_t>> seen;
  uint64_t tick = 0;
};

struct Stream {
  int id = 0;
  std::deque<Op> queue;
  Graph* capture = nullptr;
  bool running = false;
  int error = 0;
};

std::recursive_mutex& hostMutex();
using Lock = std::lock_guard<std::recursive_mutex>;

Stream* findStream(void* handle);  // nullptr handle: the default stream; unknown: nullptr
void enqueue(Stream& s, Op op);
int drain(Stream& s);  // runs everything that is queued; the stream's first error
int drainAll();
size_t queuedOps();
// The launch that is still queued and has an argument inside this allocation, or nullptr.
const Op* queuedUser(const void* p);
// The host has read memory that a queued launch may yet write: checked after the launch.
void watchEarlyRead(const void* device, size_t bytes);

// Both set what aclGetRecentErrMsg says and return `code`. A refusal is the program's mistake and
// is reported as an error; declining (a second aclInit, an optional query) is not.
[[gnu::format(printf, 3, 4)]] aclError refuse(aclError code, const char* api, const char* format,
                                              ...);
[[gnu::format(printf, 3, 4)]] aclError decline(aclError code, const char* api, const char* format,
                                               ...);
aclError remember(aclError code);        // keeps what aclrtGetLastError answers; returns it
aclError needDevice(const char* api);    // ACL_SUCCESS if a device is set
void hostNote(const std::string& text);  // a line on stderr that is no error
constexpr size_t kDeviceBytes = size_t{64} << 30;
size_t deviceBytesUsed();
void noteUnfreed();  // a warning of allocations that the program left
bool embedded();     // inside another program, such as Python

}  // namespace ascsim
