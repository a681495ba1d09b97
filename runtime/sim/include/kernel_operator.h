// The kernel-side API of Ascend C, off the device. One header per family.
#pragma once
#include "ascsim/base.h"
#include "ascsim/core.h"
#include "ascsim/lanes.h"
#include "ascsim/pipe.h"
#include "ascsim/sync.h"
#include "ascsim/tensor.h"
#if __has_include("ascsim/system.h")
#include "ascsim/system.h"
#endif
#if __has_include("ascsim/tiling.h")
#include "ascsim/tiling.h"
#endif
#if __has_include("ascsim/vector.h")
#include "ascsim/vector.h"
#endif
#if __has_include("ascsim/vector2.h")
#include "ascsim/vector2.h"
#endif
#if __has_include("ascsim/datacopy.h")
#include "ascsim/datacopy.h"
#endif
#if __has_include("ascsim/cube.h")
#include "ascsim/cube.h"
#endif
#if __has_include("ascsim/host.h")
#include "ascsim/host.h"
#endif
#if __has_include("ascsim/workspace.h")
#include "ascsim/workspace.h"
#endif
#if __has_include("ascsim/adv.h")
#include "ascsim/adv.h"
#endif
