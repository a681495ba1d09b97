// Chip variants as data. Numbers and their sources: src/chips.cpp.
#pragma once
#include <cstdint>

namespace ascsim {

struct Chip {
  const char* name;
  int npuArch;  // __NPU_ARCH__
  int aic;      // cube cores
  int aiv;      // vector cores
  double mhz;
  uint32_t ub, l1, l0a, l0b, l0c, bt, fb;  // bytes per core
  uint64_t l2;                             // bytes
  double gmBytesPerCycle;                  // DDR/HBM, per core
  double l2ReadBytesPerCycle;              // per core
  double l2WriteBytesPerCycle;             // per core
  double hbmGBs;                           // all cores, GB/s that streaming reads reach
  double l2GBs;                            // all cores, GB/s of L2 read hits
  double counterMhz;                       // GetSystemCycle ticks
  double gmIssueCycles;                    // per GM transfer, besides its bytes
};

const Chip* findChip(const char* name);  // nullptr if unknown
const char* chipNames();                 // comma separated, for messages

}  // namespace ascsim
