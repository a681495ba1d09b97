#include <memory>
#include <string>

#include "ascsim/chips.h"
#include "ascsim/core.h"
#include "tiling/platform/platform_ascendc.h"

namespace platform_ascendc {

namespace {

// Programs name products ("Ascend950PR_9589", "Ascend910B2C"); chips are known by family.
const ascsim::Chip* chipOf(const char* name) {
  if (name == nullptr) return ascsim::options().chip;
  for (std::string s = name; s.size() > 6; s.pop_back()) {
    if (const ascsim::Chip* chip = ascsim::findChip(s.c_str())) return chip;
  }
  return nullptr;
}

const ascsim::Chip& chip(const void* p) { return *static_cast<const ascsim::Chip*>(p); }

}  // namespace

PlatformAscendC::PlatformAscendC(const char* name, int) : chip_(chipOf(name)) {
  if (chip_ == nullptr) chip_ = ascsim::options().chip;
  aic_ = static_cast<uint32_t>(chip(chip_).aic);
  aiv_ = static_cast<uint32_t>(chip(chip_).aiv);
  arch_ = chip(chip_).npuArch;
}

SocVersion PlatformAscendC::GetSocVersion() const {
  return arch_ == 3510 ? SocVersion::ASCEND950 : SocVersion::ASCEND910B;
}

void PlatformAscendC::GetCoreMemSize(const CoreMemType& type, uint64_t& size) const {
  const ascsim::Chip& c = chip(chip_);
  switch (type) {
    case CoreMemType::L0_A:
      size = c.l0a;
      break;
    case CoreMemType::L0_B:
      size = c.l0b;
      break;
    case CoreMemType::L0_C:
      size = c.l0c;
      break;
    case CoreMemType::L1:
      size = c.l1;
      break;
    case CoreMemType::L2:
      size = c.l2;
      break;
    case CoreMemType::UB:
      size = c.ub - reserved_;
      break;
    case CoreMemType::HBM:
      size = 64ull << 30;
      break;
    case CoreMemType::FB:
      size = c.fb;
      break;
    case CoreMemType::BT:
      size = c.bt;
      break;
    default:
      size = 0;
      break;
  }
}

void PlatformAscendC::GetCoreMemBw(const CoreMemType& type, uint64_t& bytesPerCycle) const {
  const ascsim::Chip& c = chip(chip_);
  bytesPerCycle = type == CoreMemType::L2    ? static_cast<uint64_t>(c.l2ReadBytesPerCycle)
                  : type == CoreMemType::HBM ? static_cast<uint64_t>(c.gmBytesPerCycle)
                                             : 0;
}

void PlatformAscendC::ReserveLocalMemory(ReservedSize size) {
  reserved_ = size == ReservedSize::RESERVED_SIZE_8K    ? 8u << 10
              : size == ReservedSize::RESERVED_SIZE_16K ? 16u << 10
                                                        : 32u << 10;
}

// A mixed launch counts groups of one cube core and its vector cores.
uint32_t PlatformAscendC::CalcTschNumBlocks(uint32_t slices, uint32_t aicCores,
                                            uint32_t aivCores) const {
  if (aicCores == 0 || aivCores == 0 || aicCores > aivCores) return slices;
  const uint32_t ratio = aivCores / aicCores;
  return (slices + ratio - 1) / ratio;
}

PlatformAscendC* PlatformAscendCManager::GetInstance(const char* customSocVersion) {
  static std::unique_ptr<PlatformAscendC> instance;
  if (instance == nullptr) {
    if (customSocVersion != nullptr && chipOf(customSocVersion) == nullptr) return nullptr;
    instance = std::make_unique<PlatformAscendC>(customSocVersion, 0);
  }
  return instance.get();
}

}  // namespace platform_ascendc
