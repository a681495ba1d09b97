#include "ascsim/chips.h"

#include <cctype>
#include <string>

namespace ascsim {
namespace {

constexpr uint32_t K = 1024;

// Sizes, clocks and bytes per cycle and core: platform_config/*.ini of CANN 8.1.RC1
// (leideng/CANN-8.1.RC1). The usable UB is 256 bytes less than the physical 192 KB, L1 likewise
// (guide, architecture 2201: reserved in kernels that use cube and vector cores).
//
// HBM: what streaming reads reach, which is below the peaks the guide names (1.8 TB/s,
// best-practice sample data_copy; 1.6 TB/s, PERF page on L2 tiling, which is about a 20-core part).
// data_copy measures 1.48 to 1.50 TB/s on the 24-core part (302 MB in 203 us, 1208 MB in 816 us)
// and 1.63 TB/s on the 950. Others: 910B3 = 1.6 TB/s x (1.50 / 1.8); 910B4 = the ini's 32 B per
// cycle and core x (1.50 / the 24-core part's ini value), not confirmed by any measurement. L2
// hits: 5.2 TB/s (data_copy, 24 cores and 950); the others in proportion to cores x clock.
// Issue of a GM transfer: data_copy, UB scenario 1: 20.6 cycles per DataCopyPad of 128 bytes on
// A2, 39.4 on the 950. GetSystemCycle: 50 MHz on A2/A3, 1 GHz on the 950 (API page).
// clang-format off
constexpr Chip kChips[] = {
    //             arch  aic aiv  MHz   UB              L1              L0A     L0B     L0C      BT     FB     L2          DDR rd   wr  HBM   L2    tick issue
    {"ascend910b1", 2201, 24, 48, 1850, 192 * K - 256, 512 * K - 256, 64 * K, 64 * K, 128 * K, 1 * K, 7 * K, 192ull << 20, 32, 110, 86, 1500, 5200, 50, 17},
    {"ascend910b2", 2201, 24, 48, 1800, 192 * K - 256, 512 * K - 256, 64 * K, 64 * K, 128 * K, 1 * K, 7 * K, 192ull << 20, 32, 110, 86, 1500, 5060, 50, 17},
    {"ascend910b3", 2201, 20, 40, 1800, 192 * K - 256, 512 * K - 256, 64 * K, 64 * K, 128 * K, 1 * K, 7 * K, 192ull << 20, 32, 110, 86, 1333, 4216, 50, 17},
    {"ascend910b4", 2201, 20, 40, 1500, 192 * K - 256, 512 * K - 256, 64 * K, 64 * K, 128 * K, 1 * K, 7 * K, 96ull << 20, 32, 110, 86, 1014, 3514, 50, 17},
    {"ascend910_93", 2201, 24, 48, 1850, 192 * K - 256, 512 * K - 256, 64 * K, 64 * K, 128 * K, 1 * K, 7 * K, 192ull << 20, 32, 110, 86, 1500, 5200, 50, 17},
    {"ascend950", 3510, 32, 64, 1650, 248 * K, 512 * K, 64 * K, 64 * K, 256 * K, 4 * K, 7 * K, 128ull << 20, 31, 100, 100, 1630, 5200, 1000, 35},
};
// clang-format on

std::string normal(const char* name) {
  std::string s;
  for (; *name; ++name) s += static_cast<char>(std::tolower(static_cast<unsigned char>(*name)));
  return s.rfind("ascend", 0) == 0 ? s : "ascend" + s;
}

}  // namespace

const Chip* findChip(const char* name) {
  const std::string wanted = normal(name);
  for (const Chip& c : kChips)
    if (wanted == c.name) return &c;
  return wanted == "ascend910b" ? &kChips[0] : nullptr;
}

const char* chipNames() {
  return "ascend910b1, ascend910b2, ascend910b3, ascend910b4, ascend910_93, ascend950";
}

}  // namespace ascsim
