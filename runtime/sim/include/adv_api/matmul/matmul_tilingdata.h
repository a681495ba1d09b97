#pragma once
#include "ascsim/matmul_tilingdata.h"
