// Graph 30528055c98e. The whole step: every thread of the team runs a segment's launches in order
// and meets the others at a barrier after each.
//
// pointers: arena, table of constants, 3 inputs, 1 outputs
// extents:  T, then the arena offsets of 2 buffers
#include "team.hpp"

namespace xc {
void cumsum_c26f2506(const Team& t, char* const* a, const i64* s);
void index_copy_c4456267(const Team& t, char* const* a, const i64* s);
void linear_5eff05bc(const Team& t, char* const* a, const i64* s);
void loop_ec62978a(const Team& t, char* const* a, const i64* s);

namespace {

struct Step {
  int segment;
  char* const* pointers;
  const i64* s;  // extents
};

void segment0([[maybe_unused]] const Team& t, [[maybe_unused]] const Step& step) {
  [[maybe_unused]] char* const arena = step.pointers[0];
  [[maybe_unused]] char* const* const c = (char* const*)step.pointers[1];
  [[maybe_unused]] char* const* const io = step.pointers + 2;
  [[maybe_unused]] const i64* const s = step.s;
  [[maybe_unused]] const i64* const at = s + 1;
  [[maybe_unused]] const i64 T = s[0];
  // f32[T, 24] = linear
  {
    char* const a[] = {io[2], c[0], arena + at[0]};
    linear_5eff05bc(t, a, s);
    t.barrier();
  }
  // f32[64, 24] = index_copy
  {
    char* const a[] = {io[0], io[1], arena + at[0]};
    index_copy_c4456267(t, a, s);
    t.barrier();
  }
  // f32[T, 24] = group
  {
    char* const a[] = {arena + at[0], arena + at[1]};
    loop_ec62978a(t, a, s);
    t.barrier();
  }
  // f32[T, 24] = cumsum
  {
    char* const a[] = {arena + at[1], io[3]};
    cumsum_c26f2506(t, a, s);
    t.barrier();
  }
}

void body(const Team& t, void* arg) {
  const Step& step = *(const Step*)arg;
  switch (step.segment) {
    case 0:
      return segment0(t, step);
  }
}

}  // namespace
}  // namespace xc

extern "C" {

/// Runs one segment of the step (a graph without eager islands has one, 0) on a pool from
/// xc_pool_create. Returns 0, or an error code whose value xc_error_value tells.
int run(void* pool, int segment, void* const* pointers, const int64_t* extents) {
  xc::Step step{segment, (char* const*)pointers, extents};
  return ((xc::Pool*)pool)->run(xc::body, &step);
}

int64_t xc_error_value(void* pool) { return ((xc::Pool*)pool)->error_value(); }

/// Fingerprint of the program this step was built for; an artifact's manifest must have the same.
const char* xc_program() { return "0c8a3f26c81ada0a868a64e01ea61789182291c30c2fa4e6c9dff4a2853f9c0a"; }
}
