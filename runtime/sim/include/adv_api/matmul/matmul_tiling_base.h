#pragma once
#include "ascsim/matmul_tiling.h"
