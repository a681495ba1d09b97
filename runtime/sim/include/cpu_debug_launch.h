// The older CPU-debug interface: GmAlloc, GmFree, SetKernelMode, ICPU_RUN_KF.
#pragma once
#include "ascsim/host.h"
#include "kernel_operator.h"
