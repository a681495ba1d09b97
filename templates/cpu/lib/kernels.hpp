// Everything that emitted code may call.
#pragma once
#include <limits>

#include "attention.hpp"
#include "copy.hpp"
#include "gemm.hpp"
#include "mla.hpp"
#include "moe.hpp"
#include "pointwise.hpp"
#include "route.hpp"
#include "select.hpp"
