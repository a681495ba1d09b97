// Streams as queues: a stream runs when something synchronises with it, so results that a program
// reads too early are not there, as on hardware.
#include <cstdio>
#include <string_view>

#include "stream.h"

namespace ascsim {

HostState& hostState() {
  static HostState& s = *new HostState;  // asked at the very end of the process
  return s;
}

namespace {

size_t hashOf(const void* p, size_t n) {
  return std::hash<std::string_view>{}({static_cast<const char*>(p), n});
}

void checkEarlyReads(const Op& op) {
  auto& early = hostState().early;
  for (size_t i = 0; i < early.size();) {
    const EarlyRead& e = early[i];
    size_t offset = 0;
    size_t size = 0;
    const bool live = gmFind(e.memory, &offset, &size);
    if (live && op.serial < e.serial && hashOf(e.memory, e.bytes) != e.hash) {
      char text[300];
      std::snprintf(text, sizeof text,
                    "the host read %zu bytes at %p before %s, which was queued earlier and writes "
                    "them, had run: synchronise with the stream first",
                    e.bytes, e.memory, op.what.c_str());
      reportError("sync", text);
    } else if (live) {
      ++i;
      continue;
    }
    early.erase(early.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (queuedOps() == 0) early.clear();
}

int execute(Op& op) {
  if (op.kind == Op::Kind::Record) {
    op.event->done = std::max(op.event->done, op.count);
    op.event->time = simTimeMicroseconds();
    return 0;
  }
  const int result = op.run ? op.run() : 0;
  if (op.launch) checkEarlyReads(op);
  return result;
}

int deadlock(Stream& s, const Op& op, const char* why) {
  char text[300];
  std::snprintf(text, sizeof text,
                "stream %d waits for an event that %s; the %zu operations behind it never run",
                s.id, why, s.queue.size() - 1);
  reportError("deadlock", text);
  (void)op;
  s.queue.clear();
  if (s.error == 0) s.error = ACL_ERROR_RT_STREAM_SYNC_TIMEOUT;
  return s.error;
}

}  // namespace

int drainUntil(Stream& s, const std::function<bool()>& done) {
  s.running = true;
  while (!s.queue.empty() && !done()) {
    Op& front = s.queue.front();
    if (front.kind == Op::Kind::Wait && front.event->done < front.count) {
      Stream* source = nullptr;
      auto holds = [&](Stream* other) {
        for (const Op& op : other->queue) {
          if (op.kind == Op::Kind::Record && op.event == front.event && op.count >= front.count) {
            source = other;
          }
        }
      };
      holds(&hostState().fallback);
      for (Stream* other : hostState().streams) holds(other);
      if (source == nullptr) {
        deadlock(s, front, "nothing records");
      } else if (source->running) {
        deadlock(s, front, "is recorded only after this wait");
      } else {
        Event* event = front.event;
        const uint64_t count = front.count;
        drainUntil(*source, [event, count] { return event->done >= count; });
        if (event->done < count && !s.queue.empty()) {
          deadlock(s, front, "its stream never reaches");
        }
      }
      continue;
    }
    Op op = std::move(front);
    s.queue.pop_front();
    const int result = execute(op);
    if (result != 0 && s.error == 0) s.error = result;
  }
  s.running = false;
  return s.error;
}

std::recursive_mutex& hostMutex() {
  static auto& m = *new std::recursive_mutex;
  return m;
}

Stream* findStream(void* handle) {
  if (handle == nullptr) return &hostState().fallback;
  auto* s = static_cast<Stream*>(handle);
  return hostState().streams.count(s) != 0 ? s : nullptr;
}

void enqueue(Stream& s, Op op) {
  op.serial = ++hostState().serial;
  if (s.capture != nullptr) {
    Graph& g = *s.capture;
    if (op.kind == Op::Kind::Run) g.seen[&s][&s] = g.lastWork[&s] = ++g.tick;
    g.nodes.push_back(std::move(op));
    return;
  }
  s.queue.push_back(std::move(op));
}

int drain(Stream& s) {
  return drainUntil(s, [] { return false; });
}

int drainAll() {
  int first = 0;
  for (;;) {  // the stream with the oldest operation first: the order of the host program
    Stream* next = hostState().fallback.queue.empty() ? nullptr : &hostState().fallback;
    for (Stream* s : hostState().streams) {
      if (!s->queue.empty() &&
          (next == nullptr || s->queue.front().serial < next->queue.front().serial)) {
        next = s;
      }
    }
    if (next == nullptr) break;
    const size_t left = next->queue.size();
    const int result = drainUntil(*next, [&] { return next->queue.size() < left; });
    if (first == 0) first = result;
  }
  if (first == 0) first = hostState().fallback.error;
  for (const Stream* s : hostState().streams) {
    if (first == 0) first = s->error;
  }
  return first;
}

size_t queuedOps() {
  size_t n = hostState().fallback.queue.size();
  for (const Stream* s : hostState().streams) n += s->queue.size();
  return n;
}

const Op* queuedUser(const void* p) {
  size_t offset = 0;
  size_t size = 0;
  if (!gmFind(p, &offset, &size)) return nullptr;
  const char* begin = static_cast<const char*>(p) - offset;
  auto uses = [&](const Stream& s) -> const Op* {
    for (const Op& op : s.queue) {
      for (const void* q : op.pointers) {
        if (q >= begin && q < begin + size) return &op;
      }
    }
    return nullptr;
  };
  const Op* found = uses(hostState().fallback);
  for (const Stream* s : hostState().streams) {
    if (found == nullptr) found = uses(*s);
  }
  return found;
}

void watchEarlyRead(const void* device, size_t bytes) {
  if (queuedUser(device) == nullptr) return;
  hostState().early.push_back({device, bytes, hashOf(device, bytes), hostState().serial + 1});
}

}  // namespace ascsim
