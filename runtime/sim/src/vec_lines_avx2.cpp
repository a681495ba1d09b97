#include "vec_lines.h"

#if defined(__x86_64__)
#include <immintrin.h>

// After the includes: inline functions of other headers must stay runnable on every host.
#pragma GCC target("avx2,f16c")
#pragma GCC optimize("O3", "no-trapping-math", "no-math-errno")
#define ASCSIM_F16C 1

namespace ascsim::lines_avx2 {
#include "vec_lines.inc"
}
#endif
