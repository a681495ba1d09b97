// Element-wise vector calls (docs: memory vector computation). One header per group of pages.
#pragma once
#include "ascsim/vec_arith.h"
#include "ascsim/vec_cast.h"
#include "ascsim/vec_compare.h"
#include "ascsim/vec_compound.h"
#include "ascsim/vec_ctrl.h"
#include "ascsim/vec_fill.h"
#include "ascsim/vec_interpolate.h"
#include "ascsim/vec_operators.h"
