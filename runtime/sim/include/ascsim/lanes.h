// Which elements a vector instruction touches: mask and repeat, block and repeat strides.
#pragma once
#include <algorithm>

#include "ascsim/tensor.h"

namespace ascsim {

// The active lanes of each repeat. A repeat is 256 bytes of the widest operand: `lanes` elements.
// Count mode covers the first `count` elements of the whole tensor, whatever the repeats.
struct Lanes {
  uint32_t lanes = 64;  // elements per repeat
  uint32_t repeats = 0;
  uint64_t bits[2] = {0, 0};
  uint32_t tail = 0;     // count mode: active lanes of the last repeat (0: all)
  bool full = false;     // every lane of every repeat but the tail
  bool counted = false;  // the vector length came from a count, not from mask and repeat

  bool active(uint32_t repeat, uint32_t lane) const {
    if (tail != 0 && repeat + 1 == repeats) return lane < tail;
    return full || ((bits[lane >> 6] >> (lane & 63)) & 1) != 0;
  }
  uint64_t elements() const {
    if (repeats == 0) return 0;
    if (full) return static_cast<uint64_t>(repeats) * lanes - (tail != 0 ? lanes - tail : 0);
    return static_cast<uint64_t>(repeats) *
           static_cast<uint64_t>(__builtin_popcountll(bits[0]) + __builtin_popcountll(bits[1]));
  }
};

// elementBytes: of the widest operand. Reports mask and repeat values that the hardware refuses.
Lanes lanesOfCount(int64_t count, uint32_t elementBytes);
Lanes lanesOfMask(uint64_t maskCount, int64_t repeats, uint32_t elementBytes);
Lanes lanesOfBits(const uint64_t* mask, int64_t repeats, uint32_t elementBytes);
// isSetMask = false: the mask registers decide (SetVectorMask, SetMaskCount/SetMaskNorm).
Lanes lanesOfRegister(int64_t repeats, uint32_t elementBytes);

// One operand: strides in 32-byte blocks, as the API takes them. A stride of 0 repeats the block.
struct Operand {
  Place place;
  uint32_t elementBytes = 4;
  uint32_t blockStride = 1;
  uint32_t repeatStride = 8;

  uint64_t offset(uint32_t repeat, uint32_t lane) const {
    const uint32_t byte = lane * elementBytes;
    return (static_cast<uint64_t>(repeat) * repeatStride +
            static_cast<uint64_t>(byte / 32) * blockStride) *
               32 +
           byte % 32;
  }
  // Elements follow each other without gaps over all repeats.
  bool dense(const Lanes& l) const {
    return blockStride == 1 && (l.repeats <= 1 || repeatStride * 32u == l.lanes * elementBytes);
  }
};

// Declares the bytes of an operand to the instruction (checks), exactly by the lanes.
void declare(Instr& instr, const Operand& operand, const Lanes& lanes, bool write);
// Vector operands start on a 32-byte boundary.
void alignOperand(Instr& instr, const Operand& operand, const char* name);

inline uint8_t* host(const Operand& o) { return core().ptr(o.place.mem, o.place.address); }

// Calls f(repeat, lane, index) for the active lanes; index counts them densely.
template <class F>
void forLanes(const Lanes& l, F&& f) {
  uint64_t index = 0;
  for (uint32_t r = 0; r < l.repeats; ++r)
    for (uint32_t i = 0; i < l.lanes; ++i)
      if (l.active(r, i)) f(r, i, index++);
}

// dst[i] = f(src...[i]) over the active lanes. Operands may overlap only as the hardware allows:
// each repeat reads all its lanes before it writes.
template <class D, class A, class F>
void mapLanes(const Lanes& l, const Operand& d, const Operand& a, F&& f) {
  uint8_t* dp = host(d);
  const uint8_t* ap = host(a);
  if (l.full && d.dense(l) && a.dense(l)) {
    D* __restrict out = reinterpret_cast<D*>(dp);
    const A* in = reinterpret_cast<const A*>(ap);
    const uint64_t n = l.elements();
    for (uint64_t i = 0; i < n; ++i) out[i] = f(in[i]);
    return;
  }
  D line[256];
  for (uint32_t r = 0; r < l.repeats; ++r) {
    for (uint32_t i = 0; i < l.lanes; ++i)
      if (l.active(r, i)) line[i] = f(*reinterpret_cast<const A*>(ap + a.offset(r, i)));
    for (uint32_t i = 0; i < l.lanes; ++i)
      if (l.active(r, i)) *reinterpret_cast<D*>(dp + d.offset(r, i)) = line[i];
  }
}

template <class D, class A, class B, class F>
void mapLanes(const Lanes& l, const Operand& d, const Operand& a, const Operand& b, F&& f) {
  uint8_t* dp = host(d);
  const uint8_t* ap = host(a);
  const uint8_t* bp = host(b);
  if (l.full && d.dense(l) && a.dense(l) && b.dense(l)) {
    D* out = reinterpret_cast<D*>(dp);
    const A* x = reinterpret_cast<const A*>(ap);
    const B* y = reinterpret_cast<const B*>(bp);
    const uint64_t n = l.elements();
    for (uint64_t i = 0; i < n; ++i) out[i] = f(x[i], y[i]);
    return;
  }
  D line[256];
  for (uint32_t r = 0; r < l.repeats; ++r) {
    for (uint32_t i = 0; i < l.lanes; ++i)
      if (l.active(r, i))
        line[i] = f(*reinterpret_cast<const A*>(ap + a.offset(r, i)),
                    *reinterpret_cast<const B*>(bp + b.offset(r, i)));
    for (uint32_t i = 0; i < l.lanes; ++i)
      if (l.active(r, i)) *reinterpret_cast<D*>(dp + d.offset(r, i)) = line[i];
  }
}

}  // namespace ascsim

namespace AscendC {

struct UnaryRepeatParams {
  UnaryRepeatParams() = default;
  UnaryRepeatParams(uint16_t dstBlk, uint16_t srcBlk, uint8_t dstRep, uint8_t srcRep)
      : dstBlkStride(dstBlk), srcBlkStride(srcBlk), dstRepStride(dstRep), srcRepStride(srcRep) {}
  UnaryRepeatParams(uint16_t dstBlk, uint16_t srcBlk, uint8_t dstRep, uint8_t srcRep,
                    bool halfBlockIn)
      : UnaryRepeatParams(dstBlk, srcBlk, dstRep, srcRep) {
    halfBlock = halfBlockIn;
  }
  uint32_t blockNumber = DEFAULT_BLK_NUM;
  uint16_t dstBlkStride = 1;
  uint16_t srcBlkStride = 1;
  uint8_t dstRepStride = 8;
  uint8_t srcRepStride = 8;
  bool repeatStrideMode = false;
  bool strideSizeMode = false;
  bool halfBlock = false;
};

struct BinaryRepeatParams {
  BinaryRepeatParams() = default;
  BinaryRepeatParams(uint8_t dstBlk, uint8_t src0Blk, uint8_t src1Blk, uint8_t dstRep,
                     uint8_t src0Rep, uint8_t src1Rep)
      : dstBlkStride(dstBlk),
        src0BlkStride(src0Blk),
        src1BlkStride(src1Blk),
        dstRepStride(dstRep),
        src0RepStride(src0Rep),
        src1RepStride(src1Rep) {}
  uint32_t blockNumber = DEFAULT_BLK_NUM;
  uint8_t dstBlkStride = 1;
  uint8_t src0BlkStride = 1;
  uint8_t src1BlkStride = 1;
  uint8_t dstRepStride = 8;
  uint8_t src0RepStride = 8;
  uint8_t src1RepStride = 8;
  bool repeatStrideMode = false;
  bool strideSizeMode = false;
};

}  // namespace AscendC
