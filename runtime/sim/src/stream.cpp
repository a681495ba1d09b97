// Streams, events and captured graphs. A stream is a queue that runs when something synchronises
// with it, so results that a program reads too early are not there, as on hardware.
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <string_view>

#include "host.h"

namespace ascsim {

namespace {

struct EarlyRead {
  const void* memory;
  size_t bytes;
  size_t hash;
  uint64_t serial;  // launches queued before this one are suspect
};

struct State {
  Stream fallback;  // the default stream
  std::set<Stream*> streams;
  std::set<Event*> events;
  std::set<Graph*> graphs;
  std::vector<EarlyRead> early;
  int nextStream = 1;
  uint64_t serial = 0;
};

State& state() {
  static State& s = *new State;  // asked at the very end of the process
  return s;
}

thread_local std::string t_message;

size_t hashOf(const void* p, size_t n) {
  return std::hash<std::string_view>{}({static_cast<const char*>(p), n});
}

void checkEarlyReads(const Op& op) {
  auto& early = state().early;
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
      holds(&state().fallback);
      for (Stream* other : state().streams) holds(other);
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

}  // namespace

std::recursive_mutex& hostMutex() {
  static auto& m = *new std::recursive_mutex;
  return m;
}

aclError decline(aclError code, const char* api, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  t_message = std::string(api) + ": " + text;
  return code;
}

aclError refuse(aclError code, const char* api, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  t_message = std::string(api) + ": " + text;
  reportError("host", t_message + " (error " + std::to_string(code) + ")");
  return code;
}

void hostNote(const std::string& text) { std::fprintf(stderr, "[ascsim] %s\n", text.c_str()); }

Stream* findStream(void* handle) {
  if (handle == nullptr) return &state().fallback;
  auto* s = static_cast<Stream*>(handle);
  return state().streams.count(s) != 0 ? s : nullptr;
}

void enqueue(Stream& s, Op op) {
  op.serial = ++state().serial;
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
    Stream* next = state().fallback.queue.empty() ? nullptr : &state().fallback;
    for (Stream* s : state().streams) {
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
  if (first == 0) first = state().fallback.error;
  for (const Stream* s : state().streams) {
    if (first == 0) first = s->error;
  }
  return first;
}

size_t queuedOps() {
  size_t n = state().fallback.queue.size();
  for (const Stream* s : state().streams) n += s->queue.size();
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
  const Op* found = uses(state().fallback);
  for (const Stream* s : state().streams) {
    if (found == nullptr) found = uses(*s);
  }
  return found;
}

void watchEarlyRead(const void* device, size_t bytes) {
  if (queuedUser(device) == nullptr) return;
  state().early.push_back({device, bytes, hashOf(device, bytes), state().serial + 1});
}

}  // namespace ascsim

// NOLINTBEGIN(readability-identifier-naming): the names are given
using namespace ascsim;

namespace {

Stream* known(void* stream, const char* api) {
  Stream* s = findStream(stream);
  if (s == nullptr) refuse(ACL_ERROR_RT_STREAM_CONTEXT, api, "stream %p does not exist", stream);
  return s;
}

Event* knownEvent(void* event, const char* api) {
  auto* e = static_cast<Event*>(event);
  if (state().events.count(e) != 0) return e;
  refuse(ACL_ERROR_RT_PARAM_INVALID, api, "event %p does not exist", event);
  return nullptr;
}

aclError captured(const Stream& s, const char* api) {
  return refuse(ACL_ERROR_RT_STREAM_CAPTURED, api, "stream %d is being captured", s.id);
}

}  // namespace

extern "C" {

const char* aclGetRecentErrMsg() {
  static thread_local std::string last;
  last.swap(t_message);
  t_message.clear();
  return last.c_str();
}

// ----------------------------------------------------------------------------------------- streams
aclError aclrtCreateStream(aclrtStream* stream) {
  return aclrtCreateStreamWithConfig(stream, 0, 0);
}

aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t, uint32_t) {
  const Lock lock(hostMutex());
  if (stream == nullptr) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtCreateStream", "the result pointer is null");
  }
  if (const aclError e = needDevice("aclrtCreateStream")) return e;
  auto* s = new Stream;
  s->id = state().nextStream++;
  state().streams.insert(s);
  *stream = s;
  return ACL_SUCCESS;
}

aclError aclrtDestroyStream(aclrtStream stream) {
  const Lock lock(hostMutex());
  if (stream == nullptr) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtDestroyStream", "the stream is null");
  }
  Stream* s = known(stream, "aclrtDestroyStream");
  if (s == nullptr) return ACL_ERROR_RT_STREAM_CONTEXT;
  if (s->capture != nullptr) return captured(*s, "aclrtDestroyStream");
  const int result = drain(*s);  // waits for what is queued
  state().streams.erase(s);
  delete s;
  return result;
}

aclError aclrtDestroyStreamForce(aclrtStream stream) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclrtDestroyStreamForce");
  if (s == nullptr || stream == nullptr) return ACL_ERROR_RT_STREAM_CONTEXT;
  state().streams.erase(s);
  delete s;
  return ACL_SUCCESS;
}

aclError aclrtSynchronizeStream(aclrtStream stream) {
  const Lock lock(hostMutex());
  if (const aclError e = needDevice("aclrtSynchronizeStream")) return e;
  Stream* s = known(stream, "aclrtSynchronizeStream");
  if (s == nullptr) return ACL_ERROR_RT_STREAM_CONTEXT;
  if (s->capture != nullptr) return captured(*s, "aclrtSynchronizeStream");
  const int result = drain(*s);
  if (result != 0) decline(result, "aclrtSynchronizeStream", "an operation on the stream failed");
  return result;
}

aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t) {
  return aclrtSynchronizeStream(stream);
}

aclError aclrtSynchronizeDevice() {
  const Lock lock(hostMutex());
  if (const aclError e = needDevice("aclrtSynchronizeDevice")) return e;
  const int result = drainAll();
  if (result != 0) decline(result, "aclrtSynchronizeDevice", "an operation on a stream failed");
  return result;
}

aclError aclrtSynchronizeDeviceWithTimeout(int32_t) { return aclrtSynchronizeDevice(); }

// A program may poll: every question lets one operation run.
aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus* status) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclrtStreamQuery");
  if (s == nullptr || status == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  *status = s->queue.empty() ? ACL_STREAM_STATUS_COMPLETE : ACL_STREAM_STATUS_NOT_READY;
  const size_t left = s->queue.size();
  if (left != 0) drainUntil(*s, [&] { return s->queue.size() < left; });
  return ACL_SUCCESS;
}

aclError aclrtStreamGetId(aclrtStream stream, int32_t* id) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclrtStreamGetId");
  if (s == nullptr || id == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  *id = s->id;
  return ACL_SUCCESS;
}

aclError aclrtSetStreamFailureMode(aclrtStream stream, uint64_t) {
  const Lock lock(hostMutex());
  return known(stream, "aclrtSetStreamFailureMode") != nullptr ? ACL_SUCCESS
                                                               : ACL_ERROR_RT_STREAM_CONTEXT;
}

aclError aclrtLaunchHostFunc(aclrtStream stream, aclrtHostFunc fn, void* args) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclrtLaunchHostFunc");
  if (s == nullptr || fn == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  Op op;
  op.what = "host function";
  op.run = [fn, args] {
    fn(args);
    return 0;
  };
  enqueue(*s, std::move(op));
  return ACL_SUCCESS;
}

aclError aclrtLaunchCallback(aclrtCallback fn, void* userData, aclrtCallbackBlockType,
                             aclrtStream stream) {
  return aclrtLaunchHostFunc(stream, fn, userData);
}

// Callbacks run where the stream runs: there is no thread to subscribe or to report to.
aclError aclrtSubscribeReport(uint64_t, aclrtStream) { return ACL_SUCCESS; }
aclError aclrtUnSubscribeReport(uint64_t, aclrtStream) { return ACL_SUCCESS; }
aclError aclrtProcessReport(int32_t) { return ACL_SUCCESS; }

// ------------------------------------------------------------------------------------------ events
aclError aclrtCreateEvent(aclrtEvent* event) {
  const Lock lock(hostMutex());
  if (event == nullptr) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtCreateEvent", "the result pointer is null");
  }
  if (const aclError e = needDevice("aclrtCreateEvent")) return e;
  auto* e = new Event;
  state().events.insert(e);
  *event = e;
  return ACL_SUCCESS;
}

aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t) { return aclrtCreateEvent(event); }
aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t) { return aclrtCreateEvent(event); }

aclError aclrtDestroyEvent(aclrtEvent event) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtDestroyEvent");
  if (e == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  state().events.erase(e);  // queued operations and graphs may still name it: it stays in memory
  return ACL_SUCCESS;
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtRecordEvent");
  Stream* s = known(stream, "aclrtRecordEvent");
  if (e == nullptr || s == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  if (s->capture != nullptr) {
    e->capture = s->capture;
    e->seen = s->capture->seen[s];
    return ACL_SUCCESS;
  }
  Op op;
  op.kind = Op::Kind::Record;
  op.what = "record of an event";
  op.event = e;
  op.count = ++e->issued;
  e->capture = nullptr;
  enqueue(*s, std::move(op));
  return ACL_SUCCESS;
}

aclError aclrtResetEvent(aclrtEvent event, aclrtStream stream) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtResetEvent");
  if (e == nullptr || known(stream, "aclrtResetEvent") == nullptr)
    return ACL_ERROR_RT_PARAM_INVALID;
  e->resetAt = e->issued;
  return ACL_SUCCESS;
}

aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtStreamWaitEvent");
  Stream* s = known(stream, "aclrtStreamWaitEvent");
  if (e == nullptr || s == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  if (e->capture != nullptr) {
    if (s->capture == nullptr) {  // the stream becomes part of the capture
      s->capture = e->capture;
      e->capture->members.insert(s);
    }
    for (const auto& [other, tick] : e->seen) {
      uint64_t& mine = e->capture->seen[s][other];
      mine = std::max(mine, tick);
    }
    return ACL_SUCCESS;
  }
  if (s->capture != nullptr) {
    return refuse(ACL_ERROR_RT_STREAM_CAPTURED, "aclrtStreamWaitEvent",
                  "stream %d is being captured and the event was recorded outside", s->id);
  }
  Op op;
  op.kind = Op::Kind::Wait;
  op.what = "wait for an event";
  op.event = e;
  op.count = e->issued > e->resetAt ? e->issued : e->issued + 1;
  enqueue(*s, std::move(op));
  return ACL_SUCCESS;
}

aclError aclrtStreamWaitEventWithTimeout(aclrtStream stream, aclrtEvent event, int32_t) {
  return aclrtStreamWaitEvent(stream, event);
}

aclError aclrtSynchronizeEvent(aclrtEvent event) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtSynchronizeEvent");
  if (e == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  if (e->issued == e->resetAt) return ACL_SUCCESS;
  const uint64_t want = e->issued;
  auto done = [e, want] { return e->done >= want; };
  int result = 0;
  auto holds = [&](Stream* s) {
    for (const Op& op : s->queue) {
      if (op.kind == Op::Kind::Record && op.event == e) return true;
    }
    return false;
  };
  if (holds(&state().fallback)) result = drainUntil(state().fallback, done);
  for (Stream* s : state().streams) {
    if (!done() && holds(s)) result = drainUntil(*s, done);
  }
  return result;
}

aclError aclrtSynchronizeEventWithTimeout(aclrtEvent event, int32_t) {
  return aclrtSynchronizeEvent(event);
}

}  // extern "C"

namespace {

// Whether everything recorded so far was reached; a program may poll, so something then runs.
bool reached(Event* e) {
  if (e->done >= e->issued) return true;
  auto step = [&](Stream* s) {
    for (const Op& op : s->queue) {
      if (op.kind == Op::Kind::Record && op.event == e) {
        const size_t left = s->queue.size();
        drainUntil(*s, [&] { return s->queue.size() < left; });
        return;
      }
    }
  };
  step(&state().fallback);
  for (Stream* s : state().streams) step(s);
  return false;
}

}  // namespace

extern "C" {

aclError aclrtQueryEvent(aclrtEvent event, aclrtEventStatus* status) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtQueryEvent");
  if (e == nullptr || status == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  *status = reached(e) ? ACL_EVENT_STATUS_COMPLETE : ACL_EVENT_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtQueryEventStatus");
  if (e == nullptr || status == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  *status = reached(e) ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtQueryEventWaitStatus(aclrtEvent event, aclrtEventWaitStatus* status) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtQueryEventWaitStatus");
  if (e == nullptr || status == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  *status = reached(e) ? ACL_EVENT_WAIT_STATUS_COMPLETE : ACL_EVENT_WAIT_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtEventElapsedTime(float* ms, aclrtEvent startEvent, aclrtEvent endEvent) {
  const Lock lock(hostMutex());
  Event* a = knownEvent(startEvent, "aclrtEventElapsedTime");
  Event* b = knownEvent(endEvent, "aclrtEventElapsedTime");
  if (a == nullptr || b == nullptr || ms == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  if (a->time < 0 || b->time < 0) {
    return refuse(ACL_ERROR_RT_EVENT_TIMESTAMP_INVALID, "aclrtEventElapsedTime",
                  "an event has not been reached: synchronise with its stream first");
  }
  if (b->time < a->time) {
    return refuse(ACL_ERROR_RT_EVENT_TIMESTAMP_REVERSAL, "aclrtEventElapsedTime",
                  "the end event was reached before the start event");
  }
  *ms = static_cast<float>((b->time - a->time) / 1000);
  return ACL_SUCCESS;
}

aclError aclrtEventGetTimestamp(aclrtEvent event, uint64_t* microseconds) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtEventGetTimestamp");
  if (e == nullptr || microseconds == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  if (e->time < 0) {
    return refuse(ACL_ERROR_RT_EVENT_TIMESTAMP_INVALID, "aclrtEventGetTimestamp",
                  "the event has not been reached");
  }
  *microseconds = static_cast<uint64_t>(e->time);
  return ACL_SUCCESS;
}

// ----------------------------------------------------------------------------------------- capture
aclError aclmdlRICaptureBegin(aclrtStream stream, aclmdlRICaptureMode) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclmdlRICaptureBegin");
  if (s == nullptr) return ACL_ERROR_RT_STREAM_CONTEXT;
  if (stream == nullptr) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclmdlRICaptureBegin",
                  "the default stream cannot be captured");
  }
  if (s->capture != nullptr) return captured(*s, "aclmdlRICaptureBegin");
  auto* g = new Graph;
  g->origin = s;
  g->members.insert(s);
  s->capture = g;
  return ACL_SUCCESS;
}

aclError aclmdlRICaptureGetInfo(aclrtStream stream, aclmdlRICaptureStatus* status,
                                aclmdlRI* model) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclmdlRICaptureGetInfo");
  if (s == nullptr) return ACL_ERROR_RT_STREAM_CONTEXT;
  if (status != nullptr) {
    *status = s->capture != nullptr ? ACL_MODEL_RI_CAPTURE_STATUS_ACTIVE
                                    : ACL_MODEL_RI_CAPTURE_STATUS_NONE;
  }
  if (model != nullptr) *model = s->capture;
  return ACL_SUCCESS;
}

aclError aclmdlRICaptureEnd(aclrtStream stream, aclmdlRI* model) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclmdlRICaptureEnd");
  if (s == nullptr || model == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  if (s->capture == nullptr || s->capture->origin != s) {
    return refuse(ACL_ERROR_RT_STREAM_NOT_CAPTURED, "aclmdlRICaptureEnd",
                  "no capture began on stream %d", s->id);
  }
  Graph* g = s->capture;
  for (Stream* m : g->members) m->capture = nullptr;
  for (Event* e : state().events) {
    if (e->capture == g) e->capture = nullptr;
  }
  for (const auto& [m, tick] : g->lastWork) {
    if (g->seen[s][m] < tick) {
      *model = nullptr;
      const int id = m->id;
      delete g;
      return refuse(ACL_ERROR_RT_STREAM_UNJOINED, "aclmdlRICaptureEnd",
                    "stream %d, which joined the capture, does not lead back to stream %d: record "
                    "an event on it and let stream %d wait for that",
                    id, s->id, s->id);
    }
  }
  state().graphs.insert(g);
  *model = g;
  return ACL_SUCCESS;
}

aclError aclmdlRICaptureThreadExchangeMode(aclmdlRICaptureMode*) { return ACL_SUCCESS; }

aclError aclmdlRIExecuteAsync(aclmdlRI model, aclrtStream stream) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclmdlRIExecuteAsync");
  auto* g = static_cast<Graph*>(model);
  if (s == nullptr) return ACL_ERROR_RT_STREAM_CONTEXT;
  if (state().graphs.count(g) == 0) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclmdlRIExecuteAsync", "no such captured graph");
  }
  for (const Op& node : g->nodes) enqueue(*s, node);
  return ACL_SUCCESS;
}

aclError aclmdlRIExecute(aclmdlRI model, int32_t) {
  const aclError e = aclmdlRIExecuteAsync(model, nullptr);
  const Lock lock(hostMutex());
  return e != ACL_SUCCESS ? e : drain(*findStream(nullptr));
}

aclError aclmdlRIDestroy(aclmdlRI model) {
  const Lock lock(hostMutex());
  auto* g = static_cast<Graph*>(model);
  if (state().graphs.erase(g) == 0) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclmdlRIDestroy", "no such captured graph");
  }
  delete g;
  return ACL_SUCCESS;
}

aclError aclmdlRIDebugPrint(aclmdlRI model) { return aclmdlRIDebugJsonPrint(model, nullptr, 0); }

aclError aclmdlRIDebugJsonPrint(aclmdlRI model, const char* path, uint32_t) {
  const Lock lock(hostMutex());
  auto* g = static_cast<Graph*>(model);
  if (state().graphs.count(g) == 0) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclmdlRIDebugJsonPrint", "no such captured graph");
  }
  FILE* out = path != nullptr ? std::fopen(path, "w") : stdout;
  if (out == nullptr) {
    return refuse(ACL_ERROR_INVALID_FILE, "aclmdlRIDebugJsonPrint", "cannot write %s", path);
  }
  std::fprintf(out, "{\"nodes\": [");
  const char* separator = "";
  for (const Op& node : g->nodes) {
    std::fprintf(out, "%s\n  \"%s\"", separator, node.what.c_str());
    separator = ",";
  }
  std::fprintf(out, "\n]}\n");
  if (path != nullptr) std::fclose(out);
  return ACL_SUCCESS;
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
