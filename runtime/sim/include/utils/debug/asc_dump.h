// One of the entry headers; everything is in kernel_operator.h.
#pragma once
#include "kernel_operator.h"
