// Shared by the sources of streams, events and captured graphs.
#pragma once
#include "host.h"

namespace ascsim {

struct EarlyRead {
  const void* memory;
  size_t bytes;
  size_t hash;
  uint64_t serial;  // launches queued before this one are suspect
};

// All streams, events and captured graphs of the process.
struct HostState {
  Stream fallback;  // the default stream
  std::set<Stream*> streams;
  std::set<Event*> events;
  std::set<Graph*> graphs;
  std::vector<EarlyRead> early;
  int nextStream = 1;
  uint64_t serial = 0;
};
HostState& hostState();

// Runs operations of a stream, and of streams that they wait for, until `done` or the queue is
// empty; the stream's first error.
int drainUntil(Stream& s, const std::function<bool()>& done);

// The object behind a handle, or nullptr after a refusal in the name of `api`.
Stream* known(void* stream, const char* api);
Event* knownEvent(void* event, const char* api);
// Refuses what cannot be done while a stream is being captured.
aclError captured(const Stream& s, const char* api);

}  // namespace ascsim
