// Host tiling of the high-level API. Programs rely on the standard headers that come with it.
#pragma once
#include <cmath>
#include <cstring>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "ascsim/matmul_tiling.h"
#include "tiling/platform/platform_ascendc.h"
#if __has_include("ascsim/adv_tiling.h")
#include "ascsim/adv_tiling.h"
#endif
