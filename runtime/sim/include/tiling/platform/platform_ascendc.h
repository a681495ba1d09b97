// platform_ascendc: what a host program asks about the (simulated) device.
#pragma once
#include <cstdint>

enum class NpuArch : uint32_t { DAV_2201 = 2201, DAV_3510 = 3510, DAV_RESV = 0xffffffffu };

namespace fe {
class PlatFormInfos {};  // one simulated device per process: nothing to hold
}  // namespace fe

namespace platform_ascendc {

enum class CoreMemType {
  L0_A = 0,
  L0_B = 1,
  L0_C = 2,
  L1 = 3,
  L2 = 4,
  UB = 5,
  HBM = 6,
  FB = 7,
  BT = 8,
  RESERVED
};

enum class SocVersion {
  ASCEND910 = 0,
  ASCEND910B,
  ASCEND310P,
  ASCEND310B,
  ASCEND910_95,
  ASCEND950 = ASCEND910_95,
  RESERVED_VERSION = 99999,
};

enum class ReservedSize { RESERVED_SIZE_8K, RESERVED_SIZE_16K, RESERVED_SIZE_32K };

class PlatformAscendC {
 public:
  PlatformAscendC() = delete;
  explicit PlatformAscendC(fe::PlatFormInfos* /*platformInfo*/) : PlatformAscendC(nullptr, 0) {}
  // chip: a name that the simulator knows, or nullptr for the one that the process simulates.
  PlatformAscendC(const char* chip, int);
  ~PlatformAscendC() = default;

  uint32_t GetCoreNum() const { return aiv_; }
  uint32_t GetCoreNumAic() const { return aic_; }
  uint32_t GetCoreNumAiv() const { return aiv_; }
  uint32_t GetCoreNumVector() const { return 0; }
  SocVersion GetSocVersion() const;
  NpuArch GetCurNpuArch() const { return static_cast<NpuArch>(arch_); }
  void GetCoreMemSize(const CoreMemType& type, uint64_t& size) const;
  void GetCoreMemBw(const CoreMemType& type, uint64_t& bytesPerCycle) const;
  uint32_t GetLibApiWorkSpaceSize() const { return 16u << 20; }
  uint32_t GetResCubeGroupWorkSpaceSize() const { return 2u << 20; }
  uint32_t GetResGroupBarrierWorkSpaceSize() const { return 2u << 20; }
  uint32_t GetVecRegLen() const { return arch_ == 3510 ? 256 : 0; }
  void ReserveLocalMemory(ReservedSize size);
  uint32_t CalcTschBlockDim(uint32_t slices, uint32_t aicCores, uint32_t aivCores) const {
    return CalcTschNumBlocks(slices, aicCores, aivCores);
  }
  uint32_t CalcTschNumBlocks(uint32_t slices, uint32_t aicCores, uint32_t aivCores) const;

 private:
  const void* chip_;
  uint32_t aic_, aiv_;
  int arch_;
  uint64_t reserved_ = 0;
};

class PlatformAscendCManager {
 public:
  // The first call decides the chip, as documented; nullptr for a name that is not known.
  static PlatformAscendC* GetInstance() { return GetInstance(nullptr); }
  static PlatformAscendC* GetInstance(const char* customSocVersion);
};

}  // namespace platform_ascendc
