#pragma once
#include "ascsim/matmul_config.h"
