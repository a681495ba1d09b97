// What the data movement and cube sources share: registers of a core, routes, checked transfers.
#pragma once
#include <memory>
#include <vector>

#include "ascsim/cube.h"
#include "ascsim/datacopy.h"
#include "internal.h"

namespace ascsim {

// Registers and buffers of one core that only these families use.
struct MoveState {
  bool padSet = false;
  uint64_t padValue = 0;

  // Fixpipe
  uint64_t quantScalar = 0;
  Place quantTensor;  // in FB
  bool quantTensorSet = false;
  uint16_t ndNum = 1;
  uint16_t srcNdStride = 0;
  uint32_t dstNdStride = 0;
  uint64_t clipRelu = 0;

  // Load 3D
  struct FeatureMap {
    uint16_t h = 0, w = 0;
    uint8_t pad[4] = {};
  } featureMap[2];
  uint64_t load3dPad = 0;
  AscendC::LoadDataRepeatParam repeat;
  uint32_t boundary = 0;

  // Mmad
  bool hf32 = false;
  bool hf32ToZero = false;
  std::vector<uint8_t> sparseIndex;  // of LoadDataWithSparse, beside L0B

  // Unit flags of L0C, one per 512 bytes: set = holds a finished result.
  std::vector<uint8_t> unitFlags;
  Clock unitWritten, unitRead;
  uint64_t unitWrittenToken = 0, unitReadToken = 0;
};
MoveState& moveState();

inline uint64_t ceilDiv(uint64_t a, uint64_t b) { return (a + b - 1) / b; }
inline uint64_t ceilTo(uint64_t a, uint64_t b) { return ceilDiv(a, b) * b; }
inline uint8_t* hostPtr(const Place& p) { return core().ptr(p.mem, p.address); }
// A place `bytes` further on; keeps the buffer's end.
inline Place moved(Place p, uint64_t bytes) {
  p.address += bytes;
  return p;
}

// Whole fractals and aligned blocks are moved with bytes that nobody wrote (rows over m, columns
// over k): the copy of such a byte is as unwritten as the byte, and only its use in a product is an
// error.
bool written(Mem mem, uint64_t address, uint64_t bytes);
void markUnwritten(Mem mem, uint64_t address, uint64_t bytes);
void copyWritten(const Place& dst, const Place& src, uint64_t bytes);
void readUnused(Instr& i, const Place& p, uint64_t count, uint64_t bytes, int64_t step);

// A static tensor of L0A, L0B or L0C names an address; rounding to fractals goes past its tile
// size.
inline Place rounded(Place p) {
  if (p.state == nullptr && (p.mem == Mem::L0A || p.mem == Mem::L0B || p.mem == Mem::L0C))
    p.limit = ~0ull;
  return p;
}

// GM to L1 asked for by a vector core (the input of a Matmul object): the cube core of its group
// copies.
struct ServedCopy {
  std::unique_ptr<AsCube> cube;
  ServedCopy(const Place& dst, const Place& src) {
    if (dst.mem == Mem::L1 && src.mem == Mem::GM && isAiv()) cube = std::make_unique<AsCube>();
  }
};

// A UB tensor written into the L1 of the group's cube core, as the matrix calls do by messages.
struct ForeignL1 {
  Core* cube;
  explicit ForeignL1() : cube(&aicOfGroup()) { orderWith(*cube); }
  uint8_t* ptr(uint64_t address, uint64_t bytes) {
    if (address + bytes > memSize(Mem::L1))
      fail(kBounds, "writes bytes [0x%llx, 0x%llx) of L1, which has 0x%x bytes",
           static_cast<unsigned long long>(address),
           static_cast<unsigned long long>(address + bytes), memSize(Mem::L1));
    uint8_t* p = cube->ptr(Mem::L1, address);
    Shadow& s = *cube->local[static_cast<int>(Mem::L1)].shadow;
    for (uint64_t a = address; a < address + bytes; ++a) s.init_[a / 32] |= 1u << (a % 32);
    return p;
  }
};

// A path of data copies, and the pipe that it is on.
struct Route {
  Mem src, dst;
  Pipe pipe;
  const char* mnemonic;
};
const Route& routeOf(Mem src, Mem dst);
void checkPlaces(Instr& i, const Place& dst, const Place& src, uint32_t gmAlign);
void checkExt(const ExtParams& p, DType type);
// Transfers that memory sees: one, where runs touch.
uint64_t burstsOf(uint64_t count, uint64_t bytes, int64_t step);
// The plain strided copy of every route.
void copyRuns(const Place& dst, const Place& src, const Runs& r, DType type, uint32_t gmAlign);
// Declares `runs` runs of `bytes` each, `step` apart, as one access where they touch.
void declareRuns(Instr& i, const Place& p, uint64_t count, uint64_t bytes, int64_t step,
                 bool write);
// Writes bytes to GM, by the core's atomic mode; the caller has declared nothing yet.
void gmWrite(Instr& i, const Place& dst, uint64_t offset, const uint8_t* from, uint64_t bytes);
void gmWriteRuns(Instr& i, const Place& dst, const uint8_t* from, const Runs& r);
void gmEvent(Instr& i, const Place& gm, uint64_t span, bool write);
void checkAtomicType(DType type);
void checkRange(const char* name, uint64_t value, uint64_t low, uint64_t high,
                const char* unit = "");

// Rounds to the element type's 16 bits; saturates or keeps infinities by the overflow mode.
uint16_t halfOf(float v);

}  // namespace ascsim
