// ACL: events.
#include "stream.h"

// NOLINTBEGIN(readability-identifier-naming): the names are given
using namespace ascsim;

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
  step(&hostState().fallback);
  for (Stream* s : hostState().streams) step(s);
  return false;
}

}  // namespace

extern "C" {

aclError aclrtCreateEvent(aclrtEvent* event) {
  const Lock lock(hostMutex());
  if (event == nullptr) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtCreateEvent", "the result pointer is null");
  }
  if (const aclError e = needDevice("aclrtCreateEvent")) return e;
  auto* e = new Event;
  hostState().events.insert(e);
  *event = e;
  return ACL_SUCCESS;
}

aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t) { return aclrtCreateEvent(event); }
aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t) { return aclrtCreateEvent(event); }

aclError aclrtDestroyEvent(aclrtEvent event) {
  const Lock lock(hostMutex());
  Event* e = knownEvent(event, "aclrtDestroyEvent");
  if (e == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  hostState().events.erase(
      e);  // queued operations and graphs may still name it: it stays in memory
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
  if (holds(&hostState().fallback)) result = drainUntil(hostState().fallback, done);
  for (Stream* s : hostState().streams) {
    if (!done() && holds(s)) result = drainUntil(*s, done);
  }
  return result;
}

aclError aclrtSynchronizeEventWithTimeout(aclrtEvent event, int32_t) {
  return aclrtSynchronizeEvent(event);
}

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

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
