#include "ascsim/tiling.h"

#include "ascsim/core.h"

namespace ascsim {

uint64_t currentTilingKey() { return insideKernel() ? launchInfo().tilingKey : tilingKey(); }

void loadTiling(const void* gm, void* to, size_t bytes, const Loc& loc) {
  if (insideKernel()) {
    const Api api("GET_TILING_DATA", loc);
    Instr load(Pipe::S, "tiling");
    load.event.bytes = bytes;
    load.read(Mem::GM, reinterpret_cast<uint64_t>(gm), bytes);
  }
  if (gm != nullptr) std::memcpy(to, gm, bytes);
}

}  // namespace ascsim
