#include "costs.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <unordered_map>

namespace ascsim {
namespace {

// ------------------------------------------------------------------------------- vector pipe
// head + slope x repeat + tail in cycles. From the cost model of pto-isa for a2a3
// (include/pto/costmodel/a2a3, calibrated by its authors on a 910B3), with two changes that the
// vendor's measurements ask for: two-source instructions take 1 cycle a repeat, not 2, when their
// operands lie in different bank groups (sample bank_conflict_ub: 2390 against 4167 ticks of 20 ns
// for 1000 Adds of 64 repeats, which is 64 + 24 and 128 + 26 cycles; the 2 of pto-isa is the
// conflict case, which bankCycles() adds), and 16-bit types take twice the slope where 32 elements
// are done in a cycle (exp, ln, sqrt, div). "Unfitted" are entries that pto-isa leaves at its
// default 6 + 2r.
struct Vec {
  const char* name;
  float head, slope, tail;
  bool perElement = false;  // slope is for 64 elements: 16-bit repeats hold 128
};

constexpr Vec kVec[] = {
    {"vadd", 10, 1, 14},
    {"vsub", 10, 1, 14},
    {"vmul", 10, 1, 15},
    {"vmax", 10, 1, 14},
    {"vmin", 10, 1, 14},
    {"vdiv", 11, 4, 19, true},
    {"vand", 8, 1, 12},
    {"vor", 8, 1, 12},
    {"vxor", 8, 2, 12},  // unfitted
    {"vnot", 8, 2, 12},
    {"vabs", 13, 1, 16},
    {"vrelu", 10, 1, 13},
    {"vlrelu", 11, 1, 15},
    {"vprelu", 11, 1, 15},  // as vlrelu
    {"vexp", 13, 2, 18, true},
    {"vln", 13, 2, 20, true},
    {"vsqrt", 14, 2, 25, true},
    {"vrsqrt", 10, 1, 14, true},
    {"vrec", 10, 1, 14, true},  // as vrsqrt
    {"vaxpy", 10, 2, 14},       // unfitted
    {"vmla", 10, 2, 15},        // unfitted: reads three operands
    {"vmadd", 10, 2, 15},
    {"vmaddrelu", 10, 2, 15},
    {"vaddrelu", 10, 1, 14},  // as vadd
    {"vsubrelu", 10, 1, 14},
    {"vmulconv", 10, 1, 15},
    {"vaddreluconv", 10, 1, 14},
    {"vsubreluconv", 10, 1, 14},
    {"vadds", 13, 1, 18},
    {"vmuls", 11, 1, 15},
    {"vmaxs", 10, 1, 13},
    {"vmins", 14, 1, 16},
    {"vshl", 6, 2, 0},  // unfitted
    {"vshr", 6, 2, 0},
    {"vconv", 14, 1, 13},
    {"vconv_deq", 14, 1, 13},
    {"vcmpv", 14, 2, 22},
    {"vcmpvs", 14, 2, 22},  // as vcmpv
    {"vsel", 13, 2, 14},
    {"vdup", 11, 1, 13},
    {"vcopy", 11, 1, 13},
    {"vbrcb", 0, 1, 18},
    {"vtranspose", 6, 2, 0},           // unfitted
    {"vnchwconv", 6, 2, 0},            // unfitted
    {"vgather", 24, 12.8f, 0, true},   // 5 elements a cycle
    {"vgatherb", 6, 2, 0},             // unfitted
    {"vscatter", 24, 12.8f, 0, true},  // as vgather
    {"vci", 11, 1, 13},                // as vdup
    {"vmov_ub", 11, 1, 13},            // as vcopy
    {"vreduce", 14, 2, 20},            // 32 elements of 32 bits a cycle
    {"vreducev2", 14, 14, 20},
    {"vcadd", 14, 7, 32},
    {"vcmax", 14, 7, 32},  // as vcadd
    {"vcmin", 14, 7, 32},
    {"vcgadd", 14, 1, 24},
    {"vcgmax", 14, 1, 17},
    {"vcgmin", 14, 1, 17},
    {"vcpadd", 14, 1, 24},       // as vcgadd
    {"vbitsort", 20, 16, 0},     // 2 elements a cycle
    {"vmrgsort4", 20, 0.5f, 0},  // 2 elements a cycle; its repeats are elements
    {"vextract", 11, 1, 13},     // as vcopy
    {"vconcat", 11, 1, 13},
    {"vintlv", 11, 2, 13},  // as two vcopy
    {"vdintlv", 11, 2, 13},
    {"vmacro", 14, 1, 18},
};

// Known to the model without an entry above.
constexpr const char* kOther[] = {"mad",
                                  "mad_tf32",
                                  "mad_hf32",
                                  "mad_bias",
                                  "mte_gm_ub",
                                  "mte_gm_l1",
                                  "mte_gm_l1_nd2nz",
                                  "mte_gm_l1_dn2nz",
                                  "mte_gm_l0a",
                                  "mte_gm_l0b",
                                  "mte_ub_gm",
                                  "mte_ub_l1",
                                  "mte_ub_ub",
                                  "mte_l1_gm",
                                  "mte_l1_ub",
                                  "mte_l1_l0a",
                                  "mte_l1_l0b",
                                  "mte_l1_l0a_t",
                                  "mte_l1_l0b_t",
                                  "mte_l1_l0a_3d",
                                  "mte_l1_l0b_3d",
                                  "mte_l1_bt",
                                  "mte_l1_fb",
                                  "fix_l0c_gm",
                                  "fix_l0c_l1",
                                  "fix_l0c_ub",
                                  "fill_l1",
                                  "fill_l0a",
                                  "fill_l0b",
                                  "scalar",
                                  "scalar_ub",
                                  "scalar_gm",
                                  "scalar_load",
                                  "scalar_store",
                                  "scalar_load_gm",
                                  "scalar_store_gm",
                                  "dcci",
                                  "set_mask",
                                  "set_spr",
                                  "tiling",
                                  "msg"};

// Mnemonics are literals: find their entry by address after the first time.
int vecIndex(const char* name) {
  static std::unordered_map<const char*, int> byAddress;
  static const auto byName = [] {
    std::unordered_map<std::string_view, int> m;
    for (size_t i = 0; i < std::size(kVec); ++i) m[kVec[i].name] = static_cast<int>(i);
    return m;
  }();
  thread_local const char* last = nullptr;
  thread_local int lastIndex = -1;
  if (name == last) return lastIndex;
  auto it = byAddress.find(name);
  if (it == byAddress.end()) {
    const auto n = byName.find(name);
    it = byAddress.emplace(name, n == byName.end() ? -1 : n->second).first;
  }
  last = name;
  return lastIndex = it->second;
}

bool is16(DType t) {
  return t == DType::F16 || t == DType::BF16 || t == DType::I16 || t == DType::U16;
}

Cost vectorCost(const TraceEvent& e, const Chip& chip) {
  const int i = vecIndex(e.mnemonic);
  const Vec v = i >= 0 ? kVec[i] : Vec{"", 10, 2, 14};
  double slope = v.slope * (v.perElement && is16(e.dtype) ? 2 : 1);
  // Bank rules are those of 2201; the 950's vector unit works on registers.
  if (chip.npuArch < 3000 && e.repeats > 0) slope = std::max(slope, bankCycles(e));
  const double body = slope * e.repeats;
  // Independent instructions overlap head and tail with their neighbours (pto-isa: only the first
  // of a stream pays them); dependent ones wait for the whole of the one before.
  return {body, static_cast<double>(v.head + v.tail)};
}

// ------------------------------------------------------------------------------- other pipes
// Bytes per cycle and core. L1 to L0A and L0B: pto-isa, 441 and 220.5 GiB/s at 1.85 GHz (the
// platform ini has twice that, which its own matmul sample does not reach). The rest: pto-isa.
double chipPath(Mem src, Mem dst) {
  if (src == Mem::L1 && dst == Mem::L0A) return 256;
  if (src == Mem::L1 && dst == Mem::L0B) return 128;
  if (src == Mem::L0C) return 128;
  if (src == Mem::UB && dst == Mem::UB) return 256;
  if (src == Mem::UB || dst == Mem::UB) return 128;  // UB and L1 (950): not published
  if (dst == Mem::BT || dst == Mem::FB) return 32 * 1.073741824 / 1.85;  // 32 GiB/s at 1.85 GHz
  if (dst == Mem::L1) return 32 * 1.073741824 / 1.85;  // filling L1 with a constant
  if (dst == Mem::L0A) return 256;
  return 128;
}
// Start of an on-chip transfer: sample matmul_basic_api_high_performance spends 427 cycles of MTE1
// on a pair that moves 320 cycles' worth of bytes.
constexpr double kMte1Latency = 50;
// mad: 6 cycles and one per 16 x 16 x 32-byte step, two for float (pto-isa); the same sample
// reaches 98% of that for 512 steps each.
constexpr double kMadHead = 6;

// GM paths, bytes per cycle and core without contention: GM to UB 100.9 GiB/s, UB to GM 188.46
// GiB/s (pto-isa, at 1.85 GHz); GM to L1: the ini's L2 read rate (data_copy reaches 113 on hits);
// L0C to GM: the ini's L2 write rate (sample matmul_high_performance, cases 4 to 7: 74 with its
// starts).
double gmPath(const TraceEvent& e) {
  if (e.src == Mem::L0C) return 86;
  if (e.dst == Mem::GM) return e.src == Mem::L1 ? 32 * 1.073741824 / 1.85 : 109.4;
  return e.dst == Mem::UB ? 58.6 : 110;
}
// Sample add_high_performance, case 1 (one core, 8 KB copies, nothing overlapped): 701 cycles for
// the two reads and 295 for the write, less issue and bytes / bandwidth.
constexpr double kMissLatency = 385;
constexpr double kWriteLatency = 202;
// pto-isa's fit for GM to UB: 30643 bytes / 247 GiB/s; its kernels run on data in L2.
constexpr double kHitLatency = 214;
// A line of 512 bytes covered in part costs the pipe this many bytes more: accesses aligned to 32
// bytes fall to 70% at worst (PERF, GM addresses).
constexpr double kPartialLine = 110;
// ND to NZ: cycles per row and bytes per cycle, from data_copy, L1 scenario 5 (rows of 2 KB in L2:
// 113 bytes a cycle) and matmul_basic_api_high_performance (rows of 512 and 1024 bytes: 82). Short
// rows: data_copy, L1 scenarios 1 (128 bytes, three of four hit: 5.33 cycles a row) and 7 (all
// miss: 7.9).
constexpr double kNzRow = 2.3;
constexpr double kNzPath = 117;
constexpr double kNzRowMiss = 7.9;

// Scalar accesses. UB: sample add_high_performance, case 0: 34 cycles per element with two reads, a
// write and the loop. The data cache is counted by the replay; this is its miss.
constexpr double kScalarUb = 10;
// A scalar access of GM whose address is not in the trace: as 32-bit words in sequence, one miss of
// the data cache and 15 hits in a line of 64 bytes. Assumed.
constexpr double kScalarGm = (kMissLatency + 15 * kScalarUb) / 16;
constexpr double kDcci = 100;     // assumed
constexpr double kMessage = 500;  // assumed

}  // namespace

bool knownMnemonic(const char* mnemonic) {
  if (vecIndex(mnemonic) >= 0) return true;
  for (const char* n : kOther)
    if (std::strcmp(n, mnemonic) == 0) return true;
  return false;
}

double gmPipeCycles(const TraceEvent& e, const Traffic& t, const Chip& chip) {
  const double bytes = static_cast<double>(e.bytes) + kPartialLine * t.partialLines;
  if (e.dst != Mem::L1 || std::strstr(e.mnemonic, "2nz") == nullptr)
    return chip.gmIssueCycles + bytes / gmPath(e);
  const double least = kNzRowMiss * t.missRows;
  return chip.gmIssueCycles +
         std::max(least, kNzRow * t.rows + static_cast<double>(e.bytes) / kNzPath);
}

double gmLatency(const TraceEvent& e, const Traffic& t) {
  if (e.dst == Mem::GM) return kWriteLatency;
  return t.miss != 0 ? kMissLatency : kHitLatency;
}

Cost localCost(const TraceEvent& e, const Chip& chip) {
  if (e.cycles >= 0) return {static_cast<double>(e.cycles), 0};
  switch (e.pipe) {
    case Pipe::V:
      return vectorCost(e, chip);
    case Pipe::M: {
      // float at full precision takes two cycles a step, HF32 one.
      const bool half = e.dtype == DType::F32 && std::strcmp(e.mnemonic, "mad_hf32") != 0 &&
                        std::strcmp(e.mnemonic, "mad_tf32") != 0;
      return {kMadHead + static_cast<double>(e.repeats) * (half ? 2 : 1), 0};
    }
    case Pipe::S: {
      if (std::strcmp(e.mnemonic, "scalar_ub") == 0 ||
          std::strcmp(e.mnemonic, "scalar_load") == 0 ||
          std::strcmp(e.mnemonic, "scalar_store") == 0)
        return {kScalarUb, 0};
      if (e.gmAddress == 0 && std::strstr(e.mnemonic, "_gm") != nullptr) return {kScalarGm, 0};
      if (std::strcmp(e.mnemonic, "dcci") == 0) return {kDcci, 0};
      if (std::strcmp(e.mnemonic, "msg") == 0) return {kMessage, 0};
      // The tiling data comes through the data cache in lines of 64 bytes, one miss each at worst;
      // the guide says microseconds for large ones.
      if (std::strcmp(e.mnemonic, "tiling") == 0)
        return {kMissLatency + 30.0 * static_cast<double>((e.bytes + 63) / 64), 0};
      if (e.src == Mem::GM || e.dst == Mem::GM) return {kMissLatency, 0};
      return {1, 0};
    }
    default: {
      const double bytes = static_cast<double>(e.bytes);
      return {4 + bytes / chipPath(e.src, e.dst), kMte1Latency};
    }
  }
}

// ------------------------------------------------------------------------------- bank conflicts
// UB of the 2201: address bits 5..8 name the bank group (16), bits 16..17 the bank within it (3). A
// bank group serves one row of 32 bytes read and one written a cycle; reads and writes of the same
// bank exclude each other (guide, bank conflicts; sample bank_conflict_ub).
namespace {

constexpr double kReadWriteConflict = 0.8;  // that sample, scenario 5: 3751 ticks

struct Blocks {
  std::array<uint32_t, 8> block;
  int count = 0;
};

Blocks blocksOf(const VecOperand& o, uint32_t repeat, bool one) {
  Blocks b;
  b.count = o.blockStride == 0 || one ? 1 : 8;
  // Conversions to a wider type read half a repeat.
  if (b.count == 8 && o.blockStride == 1 && o.repeatStride == 4) b.count = 4;
  const uint32_t first = o.address / 32 + repeat * o.repeatStride;
  for (int i = 0; i < b.count; ++i)
    b.block[static_cast<size_t>(i)] = first + static_cast<uint32_t>(i) * o.blockStride;
  return b;
}

uint32_t bankOf(uint32_t block) { return (block & 15) | ((block >> 11) << 4); }

double computeBanks(const TraceEvent& e) {
  const uint32_t sample = std::min<uint32_t>(e.repeats, 16);
  // Reductions and comparisons write one block a repeat or less.
  const bool narrow = e.mnemonic[0] == 'v' && e.mnemonic[1] == 'c' && e.mnemonic[2] != 'o';
  double total = 0;
  for (uint32_t r = 0; r < sample; ++r) {
    uint8_t reads[16] = {}, writes[16] = {};
    Blocks in[2], out;
    for (int s = 0; s < 2; ++s) {
      const VecOperand& o = s == 0 ? e.vsrc0 : e.vsrc1;
      if (o.address == VecOperand::kNone) continue;
      if (s == 1 && e.vsrc0.address == o.address && e.vsrc0.blockStride == o.blockStride &&
          e.vsrc0.repeatStride == o.repeatStride)
        continue;  // the same operand twice is read once
      in[s] = blocksOf(o, r, false);
      for (int i = 0; i < in[s].count; ++i) ++reads[in[s].block[static_cast<size_t>(i)] & 15];
    }
    bool readWrite = false;
    if (e.vdst.address != VecOperand::kNone) {
      out = blocksOf(e.vdst, r, narrow);
      for (int i = 0; i < out.count; ++i) ++writes[out.block[static_cast<size_t>(i)] & 15];
      for (const Blocks& b : in) {
        int same = 0, inPlace = 0;
        for (int i = 0; i < b.count; ++i)
          for (int j = 0; j < out.count; ++j)
            if (bankOf(b.block[static_cast<size_t>(i)]) ==
                bankOf(out.block[static_cast<size_t>(j)])) {
              ++same;
              inPlace += i == j;
            }
        // Block for block the same banks: the hardware writes one repeat later.
        if (same > 0 && inPlace < out.count) readWrite = true;
      }
    }
    const int worst =
        std::max<int>(*std::max_element(reads, reads + 16), *std::max_element(writes, writes + 16));
    total += std::max(1, worst) + (readWrite ? kReadWriteConflict : 0.0);
  }
  return sample == 0 ? 1.0 : total / sample;
}

}  // namespace

double bankCycles(const TraceEvent& e) {
  if (e.vdst.address == VecOperand::kNone && e.vsrc0.address == VecOperand::kNone) return 1;
  // Loops repeat the same operands: remember them.
  struct Slot {
    VecOperand d, a, b;
    uint32_t repeats = 0;
    double value = 0;
  };
  static std::array<Slot, 4096> cache;
  auto mix = [](uint64_t h, const VecOperand& o) {
    const uint64_t v = (static_cast<uint64_t>(o.address) << 32) ^
                       (static_cast<uint64_t>(o.blockStride) << 16) ^ o.repeatStride;
    return (h ^ v) * 0x9e3779b97f4a7c15ull;
  };
  const uint32_t sample = std::min<uint32_t>(e.repeats, 16);
  const uint64_t h = mix(mix(mix(sample, e.vdst), e.vsrc0), e.vsrc1);
  Slot& s = cache[h >> 52];
  auto same = [](const VecOperand& x, const VecOperand& y) {
    return x.address == y.address && x.blockStride == y.blockStride &&
           x.repeatStride == y.repeatStride;
  };
  if (s.repeats == sample && same(s.d, e.vdst) && same(s.a, e.vsrc0) && same(s.b, e.vsrc1))
    return s.value;
  s = {e.vdst, e.vsrc0, e.vsrc1, sample, computeBanks(e)};
  return s.value;
}

}  // namespace ascsim
