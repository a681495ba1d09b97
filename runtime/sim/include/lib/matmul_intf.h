// The Matmul high-level API. Define ASCENDC_CUBE_ONLY before including it for kernels without
// vector code.
#pragma once
#include "ascsim/matmul.h"
#include "ascsim/workspace.h"
#include "kernel_operator.h"
#include "kernel_tiling/kernel_tiling.h"

namespace AscendC {
template <class A_TYPE, class B_TYPE, class C_TYPE, class BIAS_TYPE = C_TYPE,
          const auto& MM_CFG = CFG_NORM,
          class MM_CB = MatmulCallBackFunc<nullptr, nullptr, nullptr>,
          MATMUL_POLICY_DEFAULT_OF(MatmulPolicy)>
#ifdef ASCENDC_CUBE_ONLY
using Matmul = MatmulImpl<A_TYPE, B_TYPE, C_TYPE, BIAS_TYPE, MM_CFG, MM_CB, MATMUL_POLICY>;
#else
using Matmul = MatmulClient<A_TYPE, B_TYPE, C_TYPE, BIAS_TYPE, MM_CFG, MM_CB, MATMUL_POLICY>;
#endif
}  // namespace AscendC

using AscendC::GetTPipePtr;

// A cube core that only serves leaves the kernel here, as on the device.
#ifdef ASCENDC_CUBE_ONLY
#define REGIST_MATMUL_OBJ(tpipe, workspace, ...) \
  (void)::ascsim::mm::registerObjects(::ascsim::Loc::current(), tpipe, workspace, __VA_ARGS__)
#else
#define REGIST_MATMUL_OBJ(tpipe, workspace, ...) \
  if (::ascsim::mm::registerObjects(::ascsim::Loc::current(), tpipe, workspace, __VA_ARGS__)) return
#endif
#define REGIST_CUBE_OBJ REGIST_MATMUL_OBJ
#define REGIST_MATMUL_OBJ_STATIC REGIST_MATMUL_OBJ
