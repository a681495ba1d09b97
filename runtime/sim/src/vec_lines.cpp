#include "vec_lines.h"

#pragma GCC optimize("O3", "no-trapping-math", "no-math-errno")

namespace ascsim {
namespace lines_base {
#include "vec_lines.inc"
}

LineFn lineFunction() {
#if defined(__x86_64__)
  static const LineFn best = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")
                                 ? lines_avx2::line
                                 : lines_base::line;
  return best;
#else
  return lines_base::line;
#endif
}

}  // namespace ascsim
