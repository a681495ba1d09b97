#pragma once
#include "ascsim/adv_tiling.h"
