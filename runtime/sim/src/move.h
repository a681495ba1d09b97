// What the data movement and cube sources share: registers of a core, routes, checked transfers.
#pragma once
#include <vector>

#include "ascsim/cube.h"
#include "ascsim/datacopy.h"

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
