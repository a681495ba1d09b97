// Reductions, sorting, gather and scatter, rearrangement: one header per documentation folder.
#pragma once
#include "ascsim/vec_copy.h"
#include "ascsim/vec_gather.h"
#include "ascsim/vec_mask.h"
#include "ascsim/vec_reduce.h"
#include "ascsim/vec_sort.h"
#include "ascsim/vec_transpose.h"
