// Names for messages, what a queue position stands for, and the table of source locations.
#include <algorithm>
#include <map>
#include <unordered_map>

#include "internal.h"

namespace ascsim {

// ------------------------------------------------------------------------------------- names
const char* pipeName(Pipe p) {
  static const char* const names[] = {"S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX", "ALL"};
  return names[static_cast<int>(p)];
}

const char* memName(Mem m) {
  static const char* const names[] = {"GM", "UB", "L1", "L0A", "L0B", "L0C", "BT", "FB", "?"};
  return names[static_cast<int>(m)];
}

const char* dtypeName(DType t) {
  static const char* const names[] = {"uint8_t", "int8_t",   "uint16_t", "int16_t", "uint32_t",
                                      "int32_t", "uint64_t", "int64_t",  "half",    "bfloat16_t",
                                      "float",   "double",   "int4b_t",  "bool",    "struct"};
  return names[static_cast<int>(t)];
}

std::string coreName(const Core& c) {
  std::string s = c.aic ? "AIC " : "AIV ";
  s += std::to_string(c.aic ? c.block : c.block * std::max(1, aivPerGroup()) + c.subBlock);
  return s;
}

EventPipes eventPipes(AscendC::HardEvent e) {
  using E = AscendC::HardEvent;
  static const std::map<E, EventPipes> table = {
      {E::MTE2_MTE1, {Pipe::MTE2, Pipe::MTE1}},
      {E::MTE1_MTE2, {Pipe::MTE1, Pipe::MTE2}},
      {E::MTE1_M, {Pipe::MTE1, Pipe::M}},
      {E::M_MTE1, {Pipe::M, Pipe::MTE1}},
      {E::MTE2_V, {Pipe::MTE2, Pipe::V}},
      {E::V_MTE2, {Pipe::V, Pipe::MTE2}},
      {E::MTE3_V, {Pipe::MTE3, Pipe::V}},
      {E::V_MTE3, {Pipe::V, Pipe::MTE3}},
      {E::M_V, {Pipe::M, Pipe::V}},
      {E::V_M, {Pipe::V, Pipe::M}},
      {E::V_V, {Pipe::V, Pipe::V}},
      {E::MTE3_MTE1, {Pipe::MTE3, Pipe::MTE1}},
      {E::MTE1_MTE3, {Pipe::MTE1, Pipe::MTE3}},
      {E::MTE1_V, {Pipe::MTE1, Pipe::V}},
      {E::MTE2_M, {Pipe::MTE2, Pipe::M}},
      {E::M_MTE2, {Pipe::M, Pipe::MTE2}},
      {E::V_MTE1, {Pipe::V, Pipe::MTE1}},
      {E::M_FIX, {Pipe::M, Pipe::FIX}},
      {E::FIX_M, {Pipe::FIX, Pipe::M}},
      {E::MTE3_MTE2, {Pipe::MTE3, Pipe::MTE2}},
      {E::MTE2_MTE3, {Pipe::MTE2, Pipe::MTE3}},
      {E::S_V, {Pipe::S, Pipe::V}},
      {E::V_S, {Pipe::V, Pipe::S}},
      {E::S_MTE2, {Pipe::S, Pipe::MTE2}},
      {E::MTE2_S, {Pipe::MTE2, Pipe::S}},
      {E::S_MTE3, {Pipe::S, Pipe::MTE3}},
      {E::MTE3_S, {Pipe::MTE3, Pipe::S}},
      {E::MTE2_FIX, {Pipe::MTE2, Pipe::FIX}},
      {E::FIX_MTE2, {Pipe::FIX, Pipe::MTE2}},
      {E::FIX_S, {Pipe::FIX, Pipe::S}},
      {E::M_S, {Pipe::M, Pipe::S}},
      {E::S_M, {Pipe::S, Pipe::M}},
      {E::FIX_MTE3, {Pipe::FIX, Pipe::MTE3}},
      {E::MTE3_FIX, {Pipe::MTE3, Pipe::FIX}},
      {E::MTE1_FIX, {Pipe::MTE1, Pipe::FIX}},
      {E::FIX_MTE1, {Pipe::FIX, Pipe::MTE1}},
      {E::FIX_FIX, {Pipe::FIX, Pipe::FIX}},
      {E::FIX_V, {Pipe::FIX, Pipe::V}},
      {E::V_FIX, {Pipe::V, Pipe::FIX}},
      {E::MTE1_S, {Pipe::MTE1, Pipe::S}},
      {E::S_MTE1, {Pipe::S, Pipe::MTE1}},
      {E::S_FIX, {Pipe::S, Pipe::FIX}},
  };
  return table.at(e);
}

uint32_t memSize(Mem mem) {
  const Chip& c = *options().chip;
  // The memory itself: the framework's 256 bytes at its end bound what TPipe hands out, not tensors
  // that name an address. In UB they are taken from mixed kernels only.
  const uint32_t l1 = (c.l1 + 1023) / 1024 * 1024;
  const bool mixed = g_run != nullptr && (g_run->launch.kind == KernelKind::Mix11 ||
                                          g_run->launch.kind == KernelKind::Mix12);
  const uint32_t ub = mixed ? c.ub : (c.ub + 1023) / 1024 * 1024;
  const uint32_t sizes[] = {0, ub, l1, c.l0a, c.l0b, c.l0c, c.bt, c.fb};
  return sizes[static_cast<int>(mem)];
}

Mem memOf(AscendC::TPosition position) {
  using P = AscendC::TPosition;
  switch (position) {
    case P::GM:
    case P::CO2:
      return Mem::GM;
    case P::A1:
    case P::B1:
    case P::C1:
    case P::SPM:
    case P::TSCM:
      return Mem::L1;
    case P::A2:
      return Mem::L0A;
    case P::B2:
      return Mem::L0B;
    case P::C2:
      return Mem::BT;
    case P::CO1:
      return Mem::L0C;
    case P::C2PIPE2GM:
    case P::C2PIPE2LOCAL:
      return Mem::FB;
    default:
      return Mem::UB;
  }
}

Pipe producerPipe(AscendC::TPosition position) {
  using P = AscendC::TPosition;
  switch (position) {
    case P::A1:
    case P::B1:
    case P::C1:
    case P::TSCM:
    case P::VECIN:
    case P::GM:
      return Pipe::MTE2;
    case P::A2:
    case P::B2:
    case P::C2:
      return Pipe::MTE1;
    case P::C2PIPE2GM:
    case P::C2PIPE2LOCAL:
      return Pipe::FIX;
    case P::CO1:
      return Pipe::M;
    case P::CO2:
      return Pipe::FIX;
    default:
      return Pipe::V;
  }
}

Pipe consumerPipe(AscendC::TPosition position) {
  using P = AscendC::TPosition;
  switch (position) {
    case P::A1:
    case P::B1:
    case P::C1:
    case P::TSCM:
      return Pipe::MTE1;
    case P::A2:
    case P::B2:
    case P::C2:
      return Pipe::M;
    case P::CO1:
    case P::C2PIPE2GM:
    case P::C2PIPE2LOCAL:
      return Pipe::FIX;
    case P::CO2:
    case P::VECOUT:
      return Pipe::MTE3;
    default:
      return Pipe::V;
  }
}

// ------------------------------------------------------------------------------------- sites
namespace {
struct Site {
  const char* api;
  const char* file;
  int line;
};
std::vector<Site> g_sites = {{"", "", 0}};
std::unordered_map<std::string, uint32_t> g_siteIndex;
}  // namespace

uint32_t internSite(const char* api, const Loc& loc) {
  // Few sites repeat many times: look at the pointers before hashing a text.
  static struct {
    const char* api;
    const char* file;
    int line;
    uint32_t site;
  } recent[64];
  const size_t slot =
      (reinterpret_cast<uintptr_t>(api) / 8 + static_cast<uintptr_t>(loc.line)) % 64;
  if (recent[slot].api == api && recent[slot].file == loc.file && recent[slot].line == loc.line)
    return recent[slot].site;
  const std::string key = std::string(api) + "|" + loc.file + "|" + std::to_string(loc.line);
  const auto [it, fresh] = g_siteIndex.emplace(key, static_cast<uint32_t>(g_sites.size()));
  if (fresh) g_sites.push_back({api, loc.file, loc.line});
  recent[slot] = {api, loc.file, loc.line, it->second};
  return it->second;
}

std::string siteText(uint32_t site) {
  const Site& s = g_sites[site];
  return std::string(s.api) + " at " + s.file + ":" + std::to_string(s.line);
}

}  // namespace ascsim
