// Reductions, sorting, gather and scatter, rearrangement. One header per documentation folder.
#pragma once
#include "ascsim/vec_mask.h"
#include "ascsim/vec_reduce.h"
