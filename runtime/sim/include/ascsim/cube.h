// The matrix calls: moving in, multiplying, moving out.
#pragma once
#include "ascsim/fixpipe.h"
#include "ascsim/load_data.h"
#include "ascsim/mmad.h"
