// Everything that emitted code may call.
#pragma once
#include <limits>

#include "attention.hpp"
#include "gemm.hpp"
#include "misc.hpp"
#include "moe.hpp"
#include "pointwise.hpp"
