#include <vector>

#include "ascsim/vec_copy.h"

namespace ascsim {
namespace {

struct Copied {
  Operand dst, src;
};

Copied operands(const Place& dst, const Place& src, uint32_t size,
                const AscendC::CopyRepeatParams& p) {
  Copied c;
  c.dst = {dst, size, p.dstStride, p.dstRepeatSize};
  c.src = {src, size, p.srcStride, p.srcRepeatSize};
  return c;
}

void begin(Instr& i, const Copied& c, uint32_t repeats) {
  i.event.repeats = repeats;
  i.event.dtype = bitsType(c.src.elementBytes);
  describe(i.event.vdst, c.dst);
  describe(i.event.vsrc0, c.src);
  alignOperand(i, c.dst, "the destination");
  alignOperand(i, c.src, "the source");
}

template <class T>
void move(const Lanes& l, const Copied& c) {
  mapLanes<T, T>(l, c.dst, c.src, [](T v) { return v; });
}

// A list of n elements from memory, and back.
std::vector<uint8_t> take(Instr& i, const Place& p, uint64_t bytes) {
  i.align(p, 32, "the source");
  i.read(p, 0, bytes);
  const uint8_t* from = core().ptr(p.mem, p.address);
  return std::vector<uint8_t>(from, from + bytes);
}

void put(Instr& i, const Place& p, const uint8_t* from, uint64_t bytes) {
  i.align(p, 32, "the destination");
  i.write(p, 0, bytes);
  __builtin_memcpy(core().ptr(p.mem, p.address), from, bytes);
}

void even(uint64_t count) {
  if (count % 2 != 0)
    report(kParam, "the count is %llu; expected an even number",
           static_cast<unsigned long long>(count));
}

}  // namespace

void copyLanes(const Place& dst, const Place& src, const Lanes& l, uint32_t size,
               const AscendC::CopyRepeatParams& p) {
  if (l.repeats == 0) return;
  const Copied c = operands(dst, src, size, p);
  Instr i(Pipe::V, "vcopy");
  begin(i, c, l.repeats);
  declare(i, c.src, l, false);
  declare(i, c.dst, l, true);
  if (size == 2)
    move<uint16_t>(l, c);
  else
    move<uint32_t>(l, c);
}

void copyCounted(const Place& dst, const Place& src, uint64_t perRepeat, uint32_t repeats,
                 uint32_t size, const AscendC::CopyRepeatParams& p) {
  if (repeats == 0 || perRepeat == 0) return;
  const Copied c = operands(dst, src, size, p);
  Instr i(Pipe::V, "vcopy");
  const uint64_t bytes = perRepeat * size;
  begin(i, c, static_cast<uint32_t>((bytes + 255) / 256 * repeats));
  for (uint32_t r = 0; r < repeats; ++r)
    for (uint64_t at = 0; at < bytes; at += 32) {
      const uint64_t n = std::min<uint64_t>(32, bytes - at);
      const uint64_t from =
          static_cast<uint64_t>(r) * c.src.repeatStride * 32 + at * c.src.blockStride;
      const uint64_t to =
          static_cast<uint64_t>(r) * c.dst.repeatStride * 32 + at * c.dst.blockStride;
      i.read(src, from, n);
      i.write(dst, to, n);
      __builtin_memmove(core().ptr(dst.mem, dst.address + to),
                        core().ptr(src.mem, src.address + from), n);
    }
}

void interleave(const Place& dst0, const Place& dst1, const Place& src0, const Place& src1,
                uint64_t count, uint32_t size) {
  if (count == 0) return;
  even(count);
  const uint64_t bytes = count * size;
  for (const Place* d : {&dst0, &dst1})
    for (const Place* s : {&src0, &src1})
      if (overlap(*d, bytes, *s, bytes))
        report(kParam, "a source and a destination overlap; expected separate memory");
  Instr i(Pipe::V, "vintlv");
  i.event.repeats = static_cast<uint32_t>((2 * bytes + 255) / 256);
  i.event.dtype = bitsType(size);
  const std::vector<uint8_t> a = take(i, src0, bytes), b = take(i, src1, bytes);
  std::vector<uint8_t> out(2 * bytes);
  for (uint64_t n = 0; n < count; ++n) {
    __builtin_memcpy(&out[2 * n * size], &a[n * size], size);
    __builtin_memcpy(&out[(2 * n + 1) * size], &b[n * size], size);
  }
  put(i, dst0, out.data(), bytes);
  put(i, dst1, out.data() + bytes, bytes);
}

void deinterleave(const Place& dst0, const Place& dst1, const Place& src0, const Place* src1,
                  uint64_t count, uint32_t size) {
  if (count == 0) return;
  even(count);
  const uint64_t bytes = count * size;
  const uint64_t total = src1 != nullptr ? 2 * bytes : bytes;
  Instr i(Pipe::V, "vdintlv");
  i.event.repeats = static_cast<uint32_t>((total + 255) / 256);
  i.event.dtype = bitsType(size);
  for (const Place* d : {&dst0, &dst1})
    if (overlap(*d, total / 2, src0, bytes) ||
        (src1 != nullptr && overlap(*d, total / 2, *src1, bytes)))
      report(kParam, "a source and a destination overlap; expected separate memory");
  std::vector<uint8_t> in = take(i, src0, bytes);
  if (src1 != nullptr) {
    const std::vector<uint8_t> b = take(i, *src1, bytes);
    in.insert(in.end(), b.begin(), b.end());
  }
  std::vector<uint8_t> even0(total / 2), odd(total / 2);
  for (uint64_t n = 0; n + 1 < total / size; n += 2) {
    __builtin_memcpy(&even0[n / 2 * size], &in[n * size], size);
    __builtin_memcpy(&odd[n / 2 * size], &in[(n + 1) * size], size);
  }
  put(i, dst0, even0.data(), total / 2);
  put(i, dst1, odd.data(), total / 2);
}

}  // namespace ascsim
