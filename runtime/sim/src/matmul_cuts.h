// Shared by the sources of MatmulApiTiling.
#pragma once
#include <cstdint>

namespace matmul_tiling {

inline int32_t ceilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }
inline int32_t alignUp(int32_t a, int32_t b) { return ceilDiv(a, b) * b; }
inline int32_t alignDown(int32_t a, int32_t b) { return a / b * b; }
// GetTiling's answer, and the reason on stderr.
int64_t refused(const char* why);

}  // namespace matmul_tiling
