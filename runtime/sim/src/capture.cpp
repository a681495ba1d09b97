// ACL: graphs captured from streams.
#include <cstdio>

#include "stream.h"

// NOLINTBEGIN(readability-identifier-naming): the names are given
using namespace ascsim;

extern "C" {

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
  for (Event* e : hostState().events) {
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
  hostState().graphs.insert(g);
  *model = g;
  return ACL_SUCCESS;
}

aclError aclmdlRICaptureThreadExchangeMode(aclmdlRICaptureMode*) { return ACL_SUCCESS; }

aclError aclmdlRIExecuteAsync(aclmdlRI model, aclrtStream stream) {
  const Lock lock(hostMutex());
  Stream* s = known(stream, "aclmdlRIExecuteAsync");
  auto* g = static_cast<Graph*>(model);
  if (s == nullptr) return ACL_ERROR_RT_STREAM_CONTEXT;
  if (hostState().graphs.count(g) == 0) {
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
  if (hostState().graphs.erase(g) == 0) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclmdlRIDestroy", "no such captured graph");
  }
  delete g;
  return ACL_SUCCESS;
}

aclError aclmdlRIDebugPrint(aclmdlRI model) { return aclmdlRIDebugJsonPrint(model, nullptr, 0); }

aclError aclmdlRIDebugJsonPrint(aclmdlRI model, const char* path, uint32_t) {
  const Lock lock(hostMutex());
  auto* g = static_cast<Graph*>(model);
  if (hostState().graphs.count(g) == 0) {
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
