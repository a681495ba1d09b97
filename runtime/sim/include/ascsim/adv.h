// The high-level (advanced) vector API.
#pragma once
#include "ascsim/adv_activation.h"
#include "ascsim/adv_math.h"
#include "ascsim/adv_norm.h"
#include "ascsim/adv_quant.h"
#include "ascsim/adv_reduce.h"
#include "ascsim/adv_softmax.h"
#include "ascsim/adv_tiling.h"
#include "ascsim/adv_topk.h"
#include "ascsim/adv_transform.h"
#include "ascsim/adv_unsupported.h"
#include "ascsim/adv_welford.h"
