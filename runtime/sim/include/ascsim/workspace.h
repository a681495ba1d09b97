// The system workspace of a kernel. The simulator keeps what the vendor's library keeps there in
// memory of its own, so the pointer is only handed on.
#pragma once
#include "ascsim/core.h"

#define __kfc_workspace__

namespace ascsim {
// Index in Core::sprs of the address that SetSysWorkspace gave.
constexpr int kWorkspaceSpr = 15;
inline uint8_t* systemWorkspace() {
  static uint8_t none[64];
  const uint64_t set = core().sprs[kWorkspaceSpr];
  return set != 0 ? reinterpret_cast<uint8_t*>(set) : none;
}
}  // namespace ascsim

namespace AscendC {
inline void SetSysWorkspace(__gm__ uint8_t* workspace) {
  if (ascsim::core().sprs[ascsim::kWorkspaceSpr] == 0)
    ascsim::core().sprs[ascsim::kWorkspaceSpr] = reinterpret_cast<uintptr_t>(workspace);
}
inline void SetSysWorkspaceForce(__gm__ uint8_t* workspace) {
  ascsim::core().sprs[ascsim::kWorkspaceSpr] = reinterpret_cast<uintptr_t>(workspace);
}
// The part of a kernel's workspace behind the system's: all of it, see above.
inline __gm__ uint8_t* GetUserWorkspace(__gm__ uint8_t* workspace) { return workspace; }
}  // namespace AscendC

inline __gm__ uint8_t* GetSysWorkSpacePtr() { return ascsim::systemWorkspace(); }
