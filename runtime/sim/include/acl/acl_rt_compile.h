// Runtime compilation: aclrtcCompileProg runs `xcompile simcc` (or the command in XC_SIMCC).
#pragma once
#include "acl/acl_base.h"

using aclrtcProg = void*;

constexpr aclError ACL_ERROR_RTC_INVALID_PROG = 176000;
constexpr aclError ACL_ERROR_RTC_INVALID_INPUT = 176001;
constexpr aclError ACL_ERROR_RTC_INVALID_OPTION = 176002;
constexpr aclError ACL_ERROR_RTC_COMPILATION = 176003;
constexpr aclError ACL_ERROR_RTC_LINKING = 176004;
constexpr aclError ACL_ERROR_RTC_NO_NAME_EXPR_AFTER_COMPILATION = 176005;
constexpr aclError ACL_ERROR_RTC_NO_LOWERED_NAMES_BEFORE_COMPILATION = 176006;
constexpr aclError ACL_ERROR_RTC_NAME_EXPR_NOT_VALID = 176007;
constexpr aclError ACL_ERROR_RTC_PROG_CREATION_FAILURE = 276000;
constexpr aclError ACL_ERROR_RTC_OUT_OF_MEMORY = 276001;
constexpr aclError ACL_ERROR_RTC_FAILURE = 576000;

extern "C" {
aclError aclrtcCreateProg(aclrtcProg* prog, const char* src, const char* name, int numHeaders,
                          const char** headers, const char** includeNames);
aclError aclrtcDestroyProg(aclrtcProg* prog);
aclError aclrtcAddNameExpr(aclrtcProg prog, const char* const nameExpression);
aclError aclrtcCompileProg(aclrtcProg prog, int numOptions, const char** options);
aclError aclrtcGetLoweredName(aclrtcProg prog, const char* nameExpression,
                              const char** loweredName);
aclError aclrtcGetBinDataSize(aclrtcProg prog, size_t* size);
aclError aclrtcGetBinData(aclrtcProg prog, char* data);
aclError aclrtcGetCompileLogSize(aclrtcProg prog, size_t* size);
aclError aclrtcGetCompileLog(aclrtcProg prog, char* log);
}
