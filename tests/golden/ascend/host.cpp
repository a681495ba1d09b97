// The whole step on the ACL API: 1 launches of 1 kernels.
//
// pointers: arena, table of constants (host memory, of device pointers), 3 inputs, 1 outputs
// at:       the arena offsets of 2 buffers
// sizes:    int64 in device memory: T. What changes from step to step is read
//           from there, so a captured step can be replayed for other sizes within its capacity.
#include <cstdint>
#include <vector>

#include "acl/acl.h"

extern "C" {
void launch_linear_index_copy_chain_cumsum_9f064f50(uint32_t blocks, void* stream, void* sizes, void* const* p);

/// How many cores kernels are launched on: cube (with two vector cores each), or vector alone.
struct XcCores {
  uint32_t cube, vector;
};
}

namespace {

int launchAll(aclrtStream stream, [[maybe_unused]] const XcCores* cores, void* const* pointers,
              [[maybe_unused]] const int64_t* at,
              void* sizes) {
  [[maybe_unused]] char* const arena = static_cast<char*>(pointers[0]);
  [[maybe_unused]] char* const* const c = reinterpret_cast<char* const*>(pointers[1]);
  [[maybe_unused]] char* const* const io = reinterpret_cast<char* const*>(pointers + 2);
  // f32[T, 24] = linear  
  // f32[64, 24] = index_copy  
  // f32[T, 24] = group  
  // f32[T, 24] = cumsum  
  {
    void* const p[] = {io[2], c[0], arena + at[0], io[0], io[1], arena + at[1], io[3], nullptr};
    launch_linear_index_copy_chain_cumsum_9f064f50(cores->cube, stream, sizes, p);
  }
  return aclrtPeekAtLastError(ACL_RT_THREAD_LEVEL);
}

}  // namespace

extern "C" {

/// Bytes of device memory for pointer tables, which xc_tables fills (0: none are needed).
uint64_t xc_table_bytes() { return 0 * sizeof(void*); }

/// Writes the pointer tables of this step's kernels to host memory of xc_table_bytes().
void xc_tables([[maybe_unused]] void* const* pointers, [[maybe_unused]] const int64_t* at,
               [[maybe_unused]] void** out) {
}

/// Puts one step on a stream. All pointers are device memory, except the two tables of pointers;
/// `tables` is what xc_tables wrote, copied to the device. Returns an ACL error code.
int xc_step(void* stream, const XcCores* cores, void* const* pointers, const int64_t* at,
            void* sizes, [[maybe_unused]] void* tables) {
  return launchAll(stream, cores, pointers, at, sizes);
}

/// Captures one step; xc_replay runs it again with what is in `sizes` and the buffers by then.
int xc_capture(void* stream, const XcCores* cores, void* const* pointers, const int64_t* at,
               void* sizes, [[maybe_unused]] void* tables, void** graph) {
  aclError code = aclmdlRICaptureBegin(stream, ACL_MODEL_RI_CAPTURE_MODE_GLOBAL);
  if (code != ACL_SUCCESS) return code;
  const int launched = launchAll(stream, cores, pointers, at, sizes);
  code = aclmdlRICaptureEnd(stream, reinterpret_cast<aclmdlRI*>(graph));
  return launched != ACL_SUCCESS ? launched : code;
}

int xc_replay(void* graph, void* stream) {
  return aclmdlRIExecuteAsync(static_cast<aclmdlRI>(graph), stream);
}

int xc_release(void* graph) { return aclmdlRIDestroy(static_cast<aclmdlRI>(graph)); }

/// Fingerprint of the program this step was built for; an artifact's manifest must have the same.
const char* xc_program() { return "3c515a4705bd1f860a264fb3f8ae0648ce32deb11dbc15dd186b0c706e5de4e1"; }
}
