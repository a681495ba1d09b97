// ACL: profiling. Accepted and without effect; the simulator's own profile is XC_SIM_TRACE.
#pragma once
#include "acl/acl_base.h"

typedef struct aclprofConfig aclprofConfig;
typedef struct aclprofStepInfo aclprofStepInfo;

extern "C" {
inline aclError aclprofInit(const char*, size_t) { return ACL_SUCCESS; }
inline aclError aclprofFinalize() { return ACL_SUCCESS; }
inline aclError aclprofStart(const aclprofConfig*) { return ACL_SUCCESS; }
inline aclError aclprofStop(const aclprofConfig*) { return ACL_SUCCESS; }
inline aclError aclprofSetConfig(int, const char*, size_t) { return ACL_SUCCESS; }
inline aclError aclprofDestroyConfig(const aclprofConfig*) { return ACL_SUCCESS; }
}
