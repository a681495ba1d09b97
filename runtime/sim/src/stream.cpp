// ACL: streams, and functions of the host on them.
#include "stream.h"

namespace ascsim {

Stream* known(void* stream, const char* api) {
  Stream* s = findStream(stream);
  if (s == nullptr) refuse(ACL_ERROR_RT_STREAM_CONTEXT, api, "stream %p does not exist", stream);
  return s;
}

Event* knownEvent(void* event, const char* api) {
  auto* e = static_cast<Event*>(event);
  if (hostState().events.count(e) != 0) return e;
  refuse(ACL_ERROR_RT_PARAM_INVALID, api, "event %p does not exist", event);
  return nullptr;
}

aclError captured(const Stream& s, const char* api) {
  return refuse(ACL_ERROR_RT_STREAM_CAPTURED, api, "stream %d is being captured", s.id);
}

}  // namespace ascsim

// NOLINTBEGIN(readability-identifier-naming): the names are given
using namespace ascsim;

extern "C" {

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
  s->id = hostState().nextStream++;
  hostState().streams.insert(s);
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
  hostState().streams.erase(s);
  delete s;
  return result;
}

aclError aclrtDestroyStreamForce(aclrtStream stream) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclrtDestroyStreamForce");
  if (s == nullptr || stream == nullptr) return ACL_ERROR_RT_STREAM_CONTEXT;
  hostState().streams.erase(s);
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

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
