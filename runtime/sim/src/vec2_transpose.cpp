#include <vector>

#include "ascsim/vec_transpose.h"

namespace ascsim {
namespace {

using AscendC::TransposeType;

uint8_t* at(const Place& p, uint64_t offset) { return core().ptr(p.mem, p.address + offset); }

// dst[b][a] = src[a][b] for each of n matrices.
void transposeEach(uint8_t* dst, const uint8_t* src, uint64_t n, uint64_t a, uint64_t b,
                   uint32_t size) {
  for (uint64_t m = 0; m < n; ++m, dst += a * b * size, src += a * b * size)
    for (uint64_t i = 0; i < a; ++i)
      for (uint64_t j = 0; j < b; ++j)
        __builtin_memcpy(dst + (j * a + i) * size, src + (i * b + j) * size, size);
}

}  // namespace

void transpose16(const Place& dst, const Place& src) {
  Instr i(Pipe::V, "vtranspose");
  i.event.repeats = 1;
  i.event.dtype = DType::U16;
  i.align(dst, 32, "the destination");
  i.align(src, 32, "the source");
  i.read(src, 0, 512);
  i.write(dst, 0, 512);
  uint16_t in[256], out[256];
  __builtin_memcpy(in, at(src, 0), 512);
  for (int r = 0; r < 16; ++r)
    for (int c = 0; c < 16; ++c) out[c * 16 + r] = in[r * 16 + c];
  __builtin_memcpy(at(dst, 0), out, 512);
}

void transposeExt(const Place& dst, const Place& src, const Place& tmp, uint64_t tmpBytes,
                  uint32_t size, const AscendC::TransposeParamsExt& p) {
  const TransposeType type = p.transposeType;
  if (type == TransposeType::TRANSPOSE_TYPE_NONE) return;
  if (type == TransposeType::TRANSPOSE_ND2ND_B16) {
    if (size != 2)
      fail(kParam, "TRANSPOSE_ND2ND_B16 takes 16-bit elements; this tensor's have %u bytes", size);
    if (p.hSize != 16 || p.wSize != 16)
      report(kParam, "hSize x wSize is %u x %u; expected 16 x 16 for TRANSPOSE_ND2ND_B16", p.hSize,
             p.wSize);
    return transpose16(dst, src);
  }
  const bool toNhwc = type == TransposeType::TRANSPOSE_NCHW2NHWC;
  if (!toNhwc && type != TransposeType::TRANSPOSE_NHWC2NCHW)
    fail(kChip,
         "transposeType %d is documented as not supported; expected TRANSPOSE_ND2ND_B16, "
         "TRANSPOSE_NCHW2NHWC or TRANSPOSE_NHWC2NCHW",
         static_cast<int>(type));
  const uint64_t n = p.nSize, c = p.cSize, hw = static_cast<uint64_t>(p.hSize) * p.wSize;
  if (n == 0 || c == 0 || hw == 0) return;
  checkRange("cSize", p.cSize, 0, 4095);
  checkRange("hSize * wSize", static_cast<int64_t>(hw), 0, 4095);
  if (hw * size % 32 != 0)
    report(kAlign, "hSize * wSize is %llu bytes; expected a multiple of 32",
           static_cast<unsigned long long>(hw * size));
  const uint64_t tile = (size == 1 ? 32 : 16) * 32;
  const uint64_t need = (toNhwc ? c + 2 : 2 * c + 1) * tile;
  if (tmpBytes < need)
    report(kParam, "sharedTmpBuffer has %llu bytes; expected at least %llu",
           static_cast<unsigned long long>(tmpBytes), static_cast<unsigned long long>(need));
  const uint64_t bytes = n * c * hw * size;
  if (overlap(dst, bytes, src, bytes))
    report(kParam, "source and destination overlap; expected separate memory");

  // Into the temporary buffer and out of it.
  Instr i(Pipe::V, "vnchwconv");
  i.event.repeats = static_cast<uint32_t>(2 * ((bytes + 511) / 512));
  i.event.dtype = bitsType(size);
  i.align(dst, 32, "the destination");
  i.align(src, 32, "the source");
  i.align(tmp, 32, "sharedTmpBuffer");
  i.read(src, 0, bytes);
  i.write(tmp, 0, std::min(need, tmpBytes));
  i.write(dst, 0, bytes);
  const std::vector<uint8_t> in(at(src, 0), at(src, 0) + bytes);
  if (toNhwc)
    transposeEach(at(dst, 0), in.data(), n, c, hw, size);
  else
    transposeEach(at(dst, 0), in.data(), n, hw, c, size);
}

void transData(const Place (&dst)[16], const Place (&src)[16], uint32_t size,
               const AscendC::TransDataTo5HDParams& p) {
  if (p.repeatTimes == 0) return;
  Instr i(Pipe::V, "vnchwconv");
  i.event.repeats = p.repeatTimes;
  i.event.dtype = bitsType(size);
  for (int k = 0; k < 16; ++k) {
    i.align(dst[k], 32, "an entry of dstList");
    i.align(src[k], 32, "an entry of srcList");
  }
  // Of 8-bit blocks only a half is read and written.
  const uint32_t used = size == 1 ? 16 : 32;
  const uint32_t srcHalf = size == 1 && p.srcHighHalf ? 16 : 0;
  const uint32_t dstHalf = size == 1 && p.dstHighHalf ? 16 : 0;
  for (uint32_t r = 0; r < p.repeatTimes; ++r) {
    // A single repeat starts one stride in, as documented.
    const uint32_t step = p.repeatTimes == 1 ? 1 : r;
    const uint64_t from = static_cast<uint64_t>(step) * p.srcRepStride * 32 + srcHalf;
    const uint64_t to = static_cast<uint64_t>(step) * p.dstRepStride * 32 + dstHalf;
    uint8_t in[16][32], out[16][32];
    for (int k = 0; k < 16; ++k) {
      i.read(src[k], from, used);
      __builtin_memcpy(in[k], at(src[k], from), used);
    }
    const uint32_t columns = used / size;  // 16 or 8
    for (uint32_t e = 0; e < columns; ++e)
      for (uint32_t k = 0; k < 16; ++k) {
        // Column e has 16 elements: one block, or two of 32-bit elements.
        const uint32_t block = size == 4 ? 2 * e + k / 8 : e;
        const uint32_t place = size == 4 ? k % 8 : k;
        __builtin_memcpy(&out[block][place * size], &in[k][e * size], size);
      }
    for (int k = 0; k < 16; ++k) {
      i.write(dst[k], to, used);
      __builtin_memcpy(at(dst[k], to), out[k], used);
    }
  }
}

Place placeOfPointer(uint64_t address) {
  const uint64_t base = reinterpret_cast<uintptr_t>(core().ptr(Mem::UB, 0));
  if (address < base || address >= base + memSize(Mem::UB))
    fail(kBounds,
         "address 0x%llx of the list is not in UB; expected the GetPhyAddr() of a tensor there",
         static_cast<unsigned long long>(address));
  Place p;
  p.address = address - base;
  p.limit = memSize(Mem::UB);
  return p;
}

}  // namespace ascsim
