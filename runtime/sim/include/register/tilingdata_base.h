// BEGIN_TILING_DATA_DEF and the other macros that define tiling data on the host.
#pragma once
#include "ascsim/tiling.h"
