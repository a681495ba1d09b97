// TCubeTiling: the tiling of one matrix multiplication, as the host writes and the kernel reads it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

// clang-format off
#define ASCSIM_CUBE_TILING_FIELDS(X) \
  X(usedCoreNum) X(M) X(N) X(Ka) X(Kb) X(singleCoreM) X(singleCoreN) X(singleCoreK) \
  X(baseM) X(baseN) X(baseK) X(depthA1) X(depthB1) X(stepM) X(stepN) X(isBias) \
  X(transLength) X(iterateOrder) X(shareMode) X(shareL1Size) X(shareL0CSize) \
  X(shareUbSize) X(batchM) X(batchN) X(singleBatchM) X(singleBatchN) X(stepKa) X(stepKb) \
  X(depthAL1CacheUB) X(depthBL1CacheUB) X(dbL0A) X(dbL0B) X(dbL0C) X(ALayoutInfoB) \
  X(ALayoutInfoS) X(ALayoutInfoN) X(ALayoutInfoG) X(ALayoutInfoD) X(BLayoutInfoB) \
  X(BLayoutInfoS) X(BLayoutInfoN) X(BLayoutInfoG) X(BLayoutInfoD) X(CLayoutInfoB) \
  X(CLayoutInfoS1) X(CLayoutInfoN) X(CLayoutInfoG) X(CLayoutInfoS2) X(BatchNum) \
  X(mxTypePara)
// clang-format on

namespace AscendC {
namespace tiling {
#define ASCSIM_FIELD(name) int32_t name = 0;
struct TCubeTiling {
  ASCSIM_CUBE_TILING_FIELDS(ASCSIM_FIELD)
};
#undef ASCSIM_FIELD
static_assert(sizeof(TCubeTiling) == 50 * sizeof(int32_t));
}  // namespace tiling
}  // namespace AscendC

using AscendC::tiling::TCubeTiling;

namespace optiling {
// The host's form: the same bytes, with the accessors of a registered tiling structure.
struct TCubeTiling : public AscendC::tiling::TCubeTiling {
#define ASCSIM_FIELD(name)                 \
  void set_##name(int32_t v) { name = v; } \
  int32_t get_##name() const { return name; }
  ASCSIM_CUBE_TILING_FIELDS(ASCSIM_FIELD)
#undef ASCSIM_FIELD
  size_t GetDataSize() const { return sizeof(AscendC::tiling::TCubeTiling); }
  void SaveToBuffer(void* to, size_t capacity) const {
    if (capacity >= GetDataSize())
      std::memcpy(to, static_cast<const AscendC::tiling::TCubeTiling*>(this), GetDataSize());
  }
};
static_assert(sizeof(TCubeTiling) == sizeof(AscendC::tiling::TCubeTiling) &&
              std::is_trivially_copyable_v<TCubeTiling>);
}  // namespace optiling
