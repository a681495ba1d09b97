#include "ascsim/vec_fill.h"

namespace ascsim {

void broadcastBlocks(const Operand& dst, const Place& src, DType type, int64_t repeats) {
  checkRange("repeatTime", repeats, 0, 255);
  const auto n = static_cast<uint32_t>(std::clamp<int64_t>(repeats, 0, 255));
  if (n == 0) return;
  const uint32_t size = dst.elementBytes;
  const uint64_t from = 8ull * n * size;
  Operand to = dst;  // whatever the type: whole blocks
  to.elementBytes = 4;
  const Lanes l = lanesOfCount(static_cast<int64_t>(n) * 64, 4);
  requireUb(dst.place, "the destination");
  requireUb(src, "the source");
  if (dst.blockStride == 0)
    report(kParam,
           "dstBlkStride is 0: the 8 blocks of a repeat are written to the same 32 bytes; expected "
           "1 or more");
  const uint64_t high =
      dst.place.address +
      ((n - 1) * static_cast<uint64_t>(dst.repeatStride) + 7ull * dst.blockStride + 1) * 32;
  if (src.address < high && dst.place.address < src.address + from)
    report(kParam,
           "the source UB [0x%llx, 0x%llx) meets the destination [0x%llx, 0x%llx); expected "
           "tensors apart",
           static_cast<unsigned long long>(src.address),
           static_cast<unsigned long long>(src.address + from),
           static_cast<unsigned long long>(dst.place.address),
           static_cast<unsigned long long>(high));

  Instr i(Pipe::V, "vbrcb");
  i.event.repeats = n;
  i.event.dtype = type;
  describe(i.event.vdst, dst);
  i.event.vsrc0.address = static_cast<uint32_t>(src.address);
  i.event.vsrc0.blockStride = 0;
  alignOperand(i, dst, "the destination");
  i.align(src, 32, "the source");
  i.read(src, 0, from);
  declare(i, to, l, true);
  uint8_t* d = host(dst);
  const uint8_t* s = core().ptr(src.mem, src.address);
  for (uint32_t r = 0; r < n; ++r)
    for (uint32_t b = 0; b < 8; ++b) {
      uint8_t* out = d + (static_cast<uint64_t>(r) * dst.repeatStride +
                          static_cast<uint64_t>(b) * dst.blockStride) *
                             32;
      for (uint32_t k = 0; k < 32; k += size)
        __builtin_memcpy(out + k, s + (r * 8 + b) * size, size);
    }
}

}  // namespace ascsim
