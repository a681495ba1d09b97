// Arithmetic on lines of elements, compiled once per instruction set of the host.
#pragma once
#include "ascsim/vec_core.h"

namespace ascsim {

struct LineArgs {
  VecOp op;
  DType dst, src;
  int8_t round;
  bool satFloat, satCast;
  float f;
  int64_t i;
};
// d may be one of the sources; a and b may be null if the operation does not use them.
using LineFn = void (*)(const LineArgs& args, void* d, const void* a, const void* b, uint32_t n);

LineFn lineFunction();  // the best one for this host

namespace lines_base {
void line(const LineArgs& args, void* d, const void* a, const void* b, uint32_t n);
}
namespace lines_avx2 {
void line(const LineArgs& args, void* d, const void* a, const void* b, uint32_t n);
}

}  // namespace ascsim
