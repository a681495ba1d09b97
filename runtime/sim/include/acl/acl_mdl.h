// Captured graphs (aclmdlRI...) are declared in acl_rt.h. Offline models are no Ascend C programs:
// the simulator has no calls for them, and a program that uses them does not compile.
#pragma once
#include "acl/acl_rt.h"
