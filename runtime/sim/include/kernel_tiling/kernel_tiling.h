// Tiling structures that kernels read.
#pragma once
#include "ascsim/matmul_tilingdata.h"
#if __has_include("ascsim/adv_tilingdata.h")
#include "ascsim/adv_tilingdata.h"
#endif
