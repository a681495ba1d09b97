// What the data movement and cube sources share: a core's registers, routes, declared and atomic
// writes, bytes that nobody wrote.
#include "move.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_map>

namespace ascsim {

MoveState& moveState() {
  static std::unordered_map<const Core*, std::unique_ptr<MoveState>> states;
  static uint64_t serial = 0;
  static const Core* lastCore = nullptr;
  static MoveState* last = nullptr;
  const Core& c = core();
  if (serial != c.run->serial) {
    states.clear();
    serial = c.run->serial;
    lastCore = nullptr;
  }
  if (lastCore == &c) return *last;
  std::unique_ptr<MoveState>& s = states[&c];
  if (!s) s = std::make_unique<MoveState>();
  lastCore = &c;
  return *(last = s.get());
}

uint32_t sizeOf(DType type) {
  switch (type) {
    case DType::U8:
    case DType::I8:
    case DType::I4:
    case DType::Bool:
      return 1;
    case DType::U16:
    case DType::I16:
    case DType::F16:
    case DType::BF16:
      return 2;
    case DType::U64:
    case DType::I64:
    case DType::F64:
      return 8;
    case DType::Other:
      return 1;
    default:
      return 4;
  }
}

void notOnChip(const char* what) {
  fail(kChip, "%s does not exist on %s, or the simulator does not model it there", what,
       options().chip->name);
}

void checkRange(const char* name, uint64_t value, uint64_t low, uint64_t high, const char* unit) {
  if (value < low || value > high)
    report(kParam, "%s is %llu%s; expected %llu to %llu", name,
           static_cast<unsigned long long>(value), unit, static_cast<unsigned long long>(low),
           static_cast<unsigned long long>(high));
}

// ------------------------------------------------------------------------------- routes
namespace {

constexpr Route kRoutes[] = {
    {Mem::GM, Mem::UB, Pipe::MTE2, "mte_gm_ub"}, {Mem::GM, Mem::L1, Pipe::MTE2, "mte_gm_l1"},
    {Mem::UB, Mem::GM, Pipe::MTE3, "mte_ub_gm"}, {Mem::L1, Mem::GM, Pipe::MTE3, "mte_l1_gm"},
    {Mem::UB, Mem::UB, Pipe::V, "vmov_ub"},      {Mem::UB, Mem::L1, Pipe::MTE3, "mte_ub_l1"},
    {Mem::L1, Mem::BT, Pipe::MTE1, "mte_l1_bt"}, {Mem::L1, Mem::FB, Pipe::FIX, "mte_l1_fb"},
};

}  // namespace

const Route& routeOf(Mem src, Mem dst) {
  for (const Route& r : kRoutes)
    if (r.src == src && r.dst == dst) {
      if (src == Mem::L1 && dst == Mem::GM && options().chip->npuArch >= 3510) break;
      return r;
    }
  fail(kChip, "there is no data path from %s to %s on %s for this call", memName(src), memName(dst),
       options().chip->name);
}

namespace {

uint32_t alignmentOf(Mem m) {
  switch (m) {
    case Mem::L0A:
    case Mem::L0B:
      return 512;
    case Mem::BT:
    case Mem::L0C:
      return 64;
    case Mem::FB:
      return 128;
    default:
      return 32;
  }
}

}  // namespace

void checkPlaces(Instr& i, const Place& dst, const Place& src, uint32_t gmAlign) {
  i.align(dst, alignmentOf(dst.mem), "the destination");
  i.align(src, 32, "the source");
  const Place* gm = dst.mem == Mem::GM ? &dst : src.mem == Mem::GM ? &src : nullptr;
  if (gm == nullptr) return;
  if (gm->address == 0)
    fail(kBounds, "the GlobalTensor has no address; call SetGlobalBuffer first");
  if (gm->address % gmAlign != 0)
    report(kAlign, "the global memory address is 0x%llx, not a multiple of the element's %u bytes",
           static_cast<unsigned long long>(gm->address), gmAlign);
}

namespace {

template <class T>
T combine(uint8_t op, T a, T b) {
  if (op == 2) return a > b ? a : b;
  if (op == 3) return a < b ? a : b;
  if constexpr (std::is_same_v<T, half> || std::is_same_v<T, bfloat16_t>)
    return T(static_cast<float>(a) + static_cast<float>(b));
  else if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
  else
    return a + b;
}

template <class T>
void accumulate(uint8_t op, uint8_t* dst, const uint8_t* src, uint64_t bytes) {
  for (uint64_t k = 0; k + sizeof(T) <= bytes; k += sizeof(T)) {
    T a, b;
    std::memcpy(&a, dst + k, sizeof(T));
    std::memcpy(&b, src + k, sizeof(T));
    a = combine(op, a, b);
    std::memcpy(dst + k, &a, sizeof(T));
  }
}

void store(uint8_t* dst, const uint8_t* src, uint64_t bytes) {
  const Core& c = core();
  if (c.atomicOp == 0) {
    std::memmove(dst, src, bytes);
    return;
  }
  switch (c.atomicType) {
    case DType::F32:
      return accumulate<float>(c.atomicOp, dst, src, bytes);
    case DType::F16:
      return accumulate<half>(c.atomicOp, dst, src, bytes);
    case DType::BF16:
      return accumulate<bfloat16_t>(c.atomicOp, dst, src, bytes);
    case DType::I32:
      return accumulate<int32_t>(c.atomicOp, dst, src, bytes);
    case DType::I16:
      return accumulate<int16_t>(c.atomicOp, dst, src, bytes);
    case DType::I8:
      return accumulate<int8_t>(c.atomicOp, dst, src, bytes);
    default:
      fail(kParam, "the atomic mode is on without a type; call SetAtomicAdd<T>");
  }
}

}  // namespace

void setAtomic(uint8_t op, DType type) {
  Core& c = core();
  Instr i(Pipe::S, "set_spr");
  if (op != 4) c.atomicOp = op;
  c.atomicType = type;
}

void checkAtomicType(DType type) {
  const Core& c = core();
  if (c.atomicOp != 0 && sizeOf(c.atomicType) != sizeOf(type))
    report(kParam,
           "copies %s while the atomic mode is on for %s (SetAtomicAdd<T>); the types must "
           "agree, or call DisableDmaAtomic first",
           dtypeName(type), dtypeName(c.atomicType));
}

void declareRuns(Instr& i, const Place& p, uint64_t count, uint64_t bytes, int64_t step,
                 bool write) {
  if (count == 0 || bytes == 0) return;
  const bool dense = count == 1 || step == static_cast<int64_t>(bytes);
  if (dense || step == 0) {
    const uint64_t n = dense ? count * bytes : bytes;
    if (write)
      i.write(p, 0, n);
    else
      i.read(p, 0, n);
    return;
  }
  for (uint64_t k = 0; k < count; ++k) {
    const uint64_t at = static_cast<uint64_t>(static_cast<int64_t>(k) * step);
    if (write)
      i.write(p, at, bytes);
    else
      i.read(p, at, bytes);
  }
}

bool written(Mem mem, uint64_t address, uint64_t bytes) {
  const Shadow& s = *core().local[static_cast<int>(mem)].shadow;
  for (uint64_t a = address; a < address + bytes;) {
    const uint32_t bits = s.init_[a / 32];
    if (a % 32 == 0 && address + bytes - a >= 32) {
      if (bits != ~0u) return false;
      a += 32;
    } else {
      if (((bits >> (a % 32)) & 1) == 0) return false;
      ++a;
    }
  }
  return true;
}

void markUnwritten(Mem mem, uint64_t address, uint64_t bytes) {
  Shadow& s = *core().local[static_cast<int>(mem)].shadow;
  for (uint64_t a = address; a < address + bytes; ++a) s.init_[a / 32] &= ~(1u << (a % 32));
}

void copyWritten(const Place& dst, const Place& src, uint64_t bytes) {
  if (src.mem == Mem::GM || src.address % 32 != 0 || dst.address % 32 != 0) return;
  const Shadow& from = *core().local[static_cast<int>(src.mem)].shadow;
  Shadow& to = *core().local[static_cast<int>(dst.mem)].shadow;
  for (uint64_t b = 0; b < bytes / 32; ++b)
    to.init_[dst.address / 32 + b] = from.init_[src.address / 32 + b];
}

void readUnused(Instr& i, const Place& p, uint64_t count, uint64_t bytes, int64_t step) {
  if (p.mem == Mem::GM) return declareRuns(i, p, count, bytes, step, false);
  const bool dense = count == 1 || step == static_cast<int64_t>(bytes);
  if (dense) {
    bytes *= count;
    count = 1;
  }
  for (uint64_t k = 0; k < count; ++k) {
    const uint64_t at = p.address + static_cast<uint64_t>(static_cast<int64_t>(k) * step);
    if (at + bytes > p.limit) {
      i.read(p, at - p.address, bytes);  // outside of the buffer: the usual error
      continue;
    }
    i.read(p, at - p.address, 0);  // a freed tensor is an error here too
    i.readPadding(p.mem, at, bytes);
  }
}

void gmEvent(Instr& i, const Place& gm, uint64_t span, bool write) {
  i.event.gmAddress = gm.address;
  i.event.gmSpan = span;
  i.event.l2Hint = gm.l2Hint;
  if (write && core().atomicOp != 0) {
    i.event.atomic = true;
    i.atomic();
  }
}

void gmWrite(Instr& i, const Place& dst, uint64_t offset, const uint8_t* from, uint64_t bytes) {
  if (core().atomicOp != 0) i.readPadding(Mem::GM, dst.address + offset, bytes);
  i.write(dst, offset, bytes);
  store(hostPtr(dst) + offset, from, bytes);
}

void gmWriteRuns(Instr& i, const Place& dst, const uint8_t* from, const Runs& r) {
  if (core().atomicOp == 0) {
    declareRuns(i, dst, r.count, r.bytes, r.dstStep, true);
  } else {
    // The sum's start is the program's business: fresh device memory is zero here.
    for (uint64_t k = 0; k < r.count; ++k)
      i.readPadding(Mem::GM,
                    dst.address + static_cast<uint64_t>(static_cast<int64_t>(k) * r.dstStep),
                    r.bytes);
    declareRuns(i, dst, r.count, r.bytes, r.dstStep, true);
  }
  uint8_t* to = hostPtr(dst);
  for (uint64_t k = 0; k < r.count; ++k) {
    const int64_t n = static_cast<int64_t>(k);
    store(to + n * r.dstStep, from + n * r.srcStep, r.bytes);
  }
}

uint64_t burstsOf(uint64_t count, uint64_t bytes, int64_t step) {
  return count <= 1 || step == static_cast<int64_t>(bytes) ? 1 : count;
}

}  // namespace ascsim
