// LoadData in its forms, Fill, and the registers of img2col.
#include <algorithm>
#include <cstring>

#include "internal.h"
#include "move.h"

namespace ascsim {
namespace {

struct Target {
  Pipe pipe;
  const char* mnemonic;
};

Target targetOf(const Place& dst, const Place& src, const char* l0a, const char* l0b) {
  const bool gm = src.mem == Mem::GM;
  if (gm && options().chip->npuArch >= 3510) notOnChip("LoadData from GM to L0A and L0B");
  if (src.mem != Mem::GM && src.mem != Mem::L1)
    fail(kParam, "the source lies in %s; expected L1 (A1, B1) or GM", memName(src.mem));
  switch (dst.mem) {
    case Mem::L0A:
      return {gm ? Pipe::MTE2 : Pipe::MTE1, gm ? "mte_gm_l0a" : l0a};
    case Mem::L0B:
      return {gm ? Pipe::MTE2 : Pipe::MTE1, gm ? "mte_gm_l0b" : l0b};
    case Mem::L1:
      if (gm) return {Pipe::MTE2, "mte_gm_l1"};
      [[fallthrough]];
    default:
      fail(kParam, "the destination lies in %s; expected L0A (A2) or L0B (B2)", memName(dst.mem));
  }
}

void checkPlaces(Instr& i, const Place& dst, const Place& src) {
  i.align(dst, dst.mem == Mem::L1 ? 32 : 512, "the destination");
  i.align(src, 32, "the source");
}

void fill(TraceEvent& e, const Place& dst, const Place& src, DType type, uint64_t bytes,
          uint64_t bursts) {
  e.src = src.mem;
  e.dst = dst.mem;
  e.dtype = type;
  e.bytes = bytes;
  e.bursts = static_cast<uint32_t>(bursts);
}

}  // namespace

void loadData2d(const Place& dst, const Place& src, const AscendC::LoadData2DParams& p,
                DType type) {
  if (p.repeatTimes == 0) return;
  const bool gm = src.mem == Mem::GM;
  const Target t = targetOf(dst, src, p.ifTranspose ? "mte_l1_l0a_t" : "mte_l1_l0a",
                            p.ifTranspose ? "mte_l1_l0b_t" : "mte_l1_l0b");
  if (p.ifTranspose && (gm || sizeOf(type) != 2))
    report(kParam,
           "ifTranspose is for 16-bit types on the way from L1 to L0A and L0B, not %s from %s",
           dtypeName(type), memName(src.mem));
  if (p.addrMode > 1) report(kParam, "addrMode is %u; expected 0 or 1", p.addrMode);
  Instr i(t.pipe, t.mnemonic);
  checkPlaces(i, dst, src);
  const uint64_t n = p.repeatTimes;
  fill(i.event, dst, src, type, n * 512, p.srcStride == 1 ? 1 : n);
  if (gm) gmEvent(i, moved(src, p.startIndex * 512ull), ((n - 1) * p.srcStride + 1) * 512, false);
  const int64_t step = (p.addrMode == 1 ? -1 : 1) * static_cast<int64_t>(p.srcStride) * 512;
  if (p.addrMode == 1 && p.startIndex < (n - 1) * p.srcStride)
    fail(kBounds, "with addrMode 1 the last fractal would be %lld; startIndex is %u",
         static_cast<long long>(p.startIndex) - static_cast<long long>((n - 1) * p.srcStride),
         p.startIndex);
  const Place from = moved(src, p.startIndex * 512ull);
  const int64_t dstStep = (p.dstGap + 1) * 512;
  readUnused(i, from, n, 512, step);
  declareRuns(i, dst, n, 512, dstStep, true);
  const uint8_t* in = hostPtr(from);
  uint8_t* out = hostPtr(dst);
  for (uint64_t r = 0; r < n; ++r) {
    const uint8_t* a = in + static_cast<int64_t>(r) * step;
    uint8_t* b = out + static_cast<int64_t>(r) * dstStep;
    const Place to = moved(dst, static_cast<uint64_t>(static_cast<int64_t>(r) * dstStep));
    const Place origin = moved(from, static_cast<uint64_t>(static_cast<int64_t>(r) * step));
    if (!p.ifTranspose) {
      std::memcpy(b, a, 512);
      copyWritten(to, origin, 512);
      continue;
    }
    const bool all = gm || written(origin.mem, origin.address, 512);
    for (uint64_t y = 0; y < 16; ++y)
      for (uint64_t x = 0; x < 16; ++x) {
        std::memcpy(b + (y * 16 + x) * 2, a + (x * 16 + y) * 2, 2);
        if (!all && !written(origin.mem, origin.address + (x * 16 + y) * 2, 2))
          markUnwritten(to.mem, to.address + (y * 16 + x) * 2, 2);
      }
  }
}

// A square of one, two or four fractals is transposed and written as as many fractals.
void loadDataTransposed(const Place& dst, const Place& src,
                        const AscendC::LoadData2dTransposeParams& p, DType type) {
  if (p.repeatTimes == 0) return;
  if (src.mem != Mem::L1) fail(kParam, "the source lies in %s; expected L1", memName(src.mem));
  const Target t = targetOf(dst, src, "mte_l1_l0a_t", "mte_l1_l0b_t");
  if (type == DType::I4 && dst.mem != Mem::L0B)
    fail(kParam, "int4b_t is transposed on the way to L0B (B2) only");
  const uint64_t bits = type == DType::I4 ? 4 : 8 * sizeOf(type);
  if (bits > 32) fail(kParam, "LoadDataWithTranspose takes types of at most 32 bits");
  const uint64_t inner = 256 / bits;                    // elements of 32 bytes
  const uint64_t side = std::max<uint64_t>(16, inner);  // of the square
  const uint64_t fractals = side * side * bits / 8 / 512;
  Instr i(t.pipe, t.mnemonic);
  checkPlaces(i, dst, src);
  const uint64_t n = p.repeatTimes;
  const uint64_t square = fractals * 512;
  fill(i.event, dst, src, type, n * square, p.srcStride == 1 ? 1 : n);
  const int64_t step = (p.addrMode != 0 ? -1 : 1) * static_cast<int64_t>(p.srcStride * square);
  const Place from = moved(src, p.startIndex * square);
  if (p.addrMode != 0 && p.startIndex < (n - 1) * p.srcStride)
    fail(kBounds, "with addrMode 1 the last square would lie before the source");
  const uint64_t dstStep = (p.dstGap + 1ull) * 512;
  const uint64_t fracStep = fractals == 1 ? 512 : (p.dstFracGap + 1ull) * 512;
  readUnused(i, from, n, square, step);
  for (uint64_t r = 0; r < n; ++r)
    declareRuns(i, moved(dst, r * dstStep), fractals, 512, static_cast<int64_t>(fracStep), true);
  const uint8_t* in = hostPtr(from);
  uint8_t* out = hostPtr(dst);
  // 32-bit: two fractals of 16 x 8 side by side.
  auto offset = [&](uint64_t row, uint64_t column) {
    if (bits == 32) return (column / 8) * 512 + (row * 8 + column % 8) * 4;
    return (row * side + column) * bits / 8;
  };
  for (uint64_t r = 0; r < n; ++r) {
    const uint8_t* a = in + static_cast<int64_t>(r) * step;
    uint8_t* b = out + r * dstStep;
    const uint64_t origin = from.address + static_cast<uint64_t>(static_cast<int64_t>(r) * step);
    const bool all = written(src.mem, origin, square);
    for (uint64_t f = 0; f < fractals; ++f) {
      uint8_t* o = b + f * fracStep;
      for (uint64_t y = 0; y < 16; ++y)
        for (uint64_t x = 0; x < inner; ++x) {
          // 32-bit: fractals split the columns of the transposed square, else its rows.
          const uint64_t row = bits == 32 ? f * 8 + x : x, column = bits == 32 ? y : f * 16 + y;
          const uint64_t at = y * inner + x;
          uint32_t v = 0;
          std::memcpy(&v, a + offset(row, column), bits == 4 ? 1 : bits / 8);
          if (!all && !written(src.mem, origin + offset(row, column), ceilDiv(bits, 8)))
            markUnwritten(dst.mem, dst.address + r * dstStep + f * fracStep + at * bits / 8,
                          ceilDiv(bits, 8));
          if (bits == 4) {
            v = (v >> (column % 2 * 4)) & 15u;
            uint8_t& cell = o[at / 2];
            cell = static_cast<uint8_t>(at % 2 ? (cell & 0x0f) | (v << 4) : (cell & 0xf0) | v);
          } else {
            std::memcpy(o + at * (bits / 8), &v, bits / 8);
          }
        }
    }
  }
}

// img2col of an NC1HWC0 feature map: rows are output points, columns are (c1, kernel point, c0).
void loadData3d(const Place& dst, const Place& src, const Load3d& p, DType type) {
  if (src.mem != Mem::L1)
    fail(kParam, "the source lies in %s; expected L1 (A1, B1)", memName(src.mem));
  const Target t = targetOf(dst, src, "mte_l1_l0a_3d", "mte_l1_l0b_3d");
  if (dst.mem == Mem::L1) fail(kParam, "the destination lies in L1; expected L0A (A2) or L0B (B2)");
  MoveState& st = moveState();
  uint64_t h = p.l1H, w = p.l1W;
  uint8_t pad[4] = {p.pad[0], p.pad[1], p.pad[2], p.pad[3]};
  MoveState::FeatureMap& map = st.featureMap[p.right ? 1 : 0];
  if (p.setFeatureMap) {
    map.h = p.l1H;
    map.w = p.l1W;
    std::memcpy(map.pad, p.pad, 4);
  } else {
    h = map.h;
    w = map.w;
    std::memcpy(pad, map.pad, 4);
  }
  if (p.setPadding) st.load3dPad = p.padBits;
  const AscendC::LoadDataRepeatParam rep = st.repeat;
  if (h == 0 || w == 0 || p.channels == 0 || p.kExtension == 0 || p.mExtension == 0 ||
      p.filterW == 0 || p.filterH == 0 || rep.repeatTime == 0)
    return;
  checkRange("l1H", h, 1, 32767);
  checkRange("l1W", w, 1, 32767);
  checkRange("strideW", p.strideW, 1, 63);
  checkRange("strideH", p.strideH, 1, 63);
  const uint64_t size = sizeOf(type);
  const bool nibbles = type == DType::I4;
  const uint64_t c0 = nibbles ? 64 : 32 / size;
  const bool toB = dst.mem == Mem::L0B;
  if (toB && size == 1)
    fail(kChip, "LoadData 3D to L0B takes types of 16 and 32 bits on this chip, not %s",
         dtypeName(type));
  if (!toB && p.transpose && size == 1)
    fail(kChip, "LoadData 3D with enTranspose takes types of 16 and 32 bits on this chip, not %s",
         dtypeName(type));
  if (p.kStart % c0 != 0)
    report(kParam, "kStartPt is %u; expected a multiple of %llu", p.kStart,
           static_cast<unsigned long long>(c0));
  const int64_t kernelW = (p.filterW - 1) * p.dilationW + 1;
  const int64_t kernelH = (p.filterH - 1) * p.dilationH + 1;
  const int64_t spanW = static_cast<int64_t>(w) + pad[0] + pad[1];
  const int64_t spanH = static_cast<int64_t>(h) + pad[2] + pad[3];
  if (spanW < kernelW || spanH < kernelH)
    fail(kParam, "the kernel of %lld x %lld is larger than the padded feature map of %lld x %lld",
         static_cast<long long>(kernelH), static_cast<long long>(kernelW),
         static_cast<long long>(spanH), static_cast<long long>(spanW));
  const uint64_t outW =
      static_cast<uint64_t>((spanW - kernelW) / static_cast<int64_t>(p.strideW) + 1);
  const uint64_t outH =
      static_cast<uint64_t>((spanH - kernelH) / static_cast<int64_t>(p.strideH) + 1);
  const uint64_t points = static_cast<uint64_t>(p.filterW) * p.filterH;
  const uint64_t fullK = p.channels / c0 * points * c0;  // columns of whole C0 blocks
  const uint64_t tail = p.channels % c0;
  const uint64_t allK = fullK + tail * points;
  if (p.mStart >= outW * outH)
    report(kParam, "mStartPt is %u; img2col gives %llu rows (%llu x %llu output points)", p.mStart,
           static_cast<unsigned long long>(outW * outH), static_cast<unsigned long long>(outH),
           static_cast<unsigned long long>(outW));

  // The whole matrix of all repeats, in elements of X (rows: output points).
  const bool down = rep.repeatMode == 0;
  const uint64_t mOne = ceilTo(p.mExtension, 16), kOne = ceilTo(p.kExtension, c0);
  const uint64_t mAll = down && rep.repeatTime > 1 ? mOne * rep.repeatTime : p.mExtension;
  const uint64_t kAll = !down && rep.repeatTime > 1 ? kOne * rep.repeatTime : p.kExtension;
  const uint64_t mStep = rep.repeatStride * 16ull, kStep = rep.repeatStride * c0;

  Instr i(t.pipe, t.mnemonic);
  checkPlaces(i, dst, src);
  // Destination layout: rows x columns of A (ZZ) or rows = k of B, columns = n (ZN).
  const bool flip = !toB && p.transpose;
  const uint64_t rows = flip ? kAll : mAll, columns = flip ? mAll : kAll;
  const uint64_t rowBlock = toB ? c0 : 16, columnBlock = toB ? 16 : c0;
  const uint64_t rowsAll = ceilTo(rows, toB ? std::max<uint64_t>(16, c0) : 16);
  const uint64_t columnsAll = ceilTo(columns, flip ? 16 : columnBlock);
  const uint64_t rowFractals = rowsAll / rowBlock, columnFractals = columnsAll / columnBlock;
  const bool nz = options().chip->npuArch >= 3510 && !toB;
  const uint64_t total = rowFractals * columnFractals * 512;
  const Place to = rounded(dst);
  // 32-bit columns are padded from 8 to 16 when they become a side of 16: the padding is not
  // written.
  const uint64_t padding = size == 4 && (toB || flip) ? ceilTo(kAll, 16) - kAll : 0;
  if (padding == 0) {
    i.write(to, 0, total);
  } else if (toB) {
    declareRuns(i, to, rowFractals, kAll * 32, static_cast<int64_t>(columnsAll * 32), true);
  } else {
    const uint64_t full = (rowFractals - 1) * columnFractals * 512;
    i.write(to, 0, full);
    declareRuns(i, moved(to, full), columnFractals, (16 - padding) * 32, 512, true);
  }
  fill(i.event, dst, src, type, total, rowFractals * columnFractals);
  const uint8_t* l1 = core().ptr(Mem::L1, 0);
  uint8_t* out = hostPtr(dst);

  // Source runs of C0 elements are read once per kernel point and output point.
  auto source = [&](uint64_t c1, uint64_t y, uint64_t x, bool last) -> uint64_t {
    const uint64_t unit = nibbles ? 1 : 2;  // sizes in half bytes, for int4b_t
    const uint64_t elements = last ? tail : c0;
    const uint64_t base = c1 * h * w * c0 + (y * w + x) * elements;
    uint64_t at = src.address + (nibbles ? base * unit / 2 : base * size);
    if (st.boundary != 0 && at >= st.boundary) at -= st.boundary;
    return at;
  };
  uint32_t lastBlock = ~0u;
  bool allWritten = true;
  for (uint64_t m = 0; m < rowsAll * (flip ? 0 : 1) + columnsAll * (flip ? 1 : 0); ++m) {
    uint64_t pm = m;
    if (down && rep.repeatTime > 1) pm = m / mOne * mStep + m % mOne;
    const bool mValid = m < mAll && (pm % std::max<uint64_t>(1, outW * outH + 1) == pm) &&
                        pm + p.mStart < outW * outH &&
                        (down && rep.repeatTime > 1 ? m % mOne < p.mExtension : true);
    const uint64_t point = pm + p.mStart;
    const uint64_t kEnd = flip ? rowsAll : columnsAll;
    for (uint64_t k = 0; k < kEnd; ++k) {
      if (padding != 0 && k >= kAll) break;
      uint64_t pk = k;
      if (!down && rep.repeatTime > 1) pk = k / kOne * kStep + k % kOne;
      const uint64_t column = pk + p.kStart;
      uint32_t value = 0;
      bool unwritten = false;
      if (mValid && k < kAll && column < allK) {
        const bool last = column >= fullK;
        const uint64_t width = last ? tail : c0;
        const uint64_t inside = last ? column - fullK : column;
        const uint64_t block = inside / width, c = inside % width;
        const uint64_t c1 = last ? p.channels / c0 : block / points;
        const uint64_t kp = last ? block : block % points;
        const int64_t y =
            static_cast<int64_t>(point / outW * p.strideH + kp / p.filterW * p.dilationH) - pad[2];
        const int64_t x =
            static_cast<int64_t>(point % outW * p.strideW + kp % p.filterW * p.dilationW) - pad[0];
        if (y < 0 || x < 0 || y >= static_cast<int64_t>(h) || x >= static_cast<int64_t>(w)) {
          value = static_cast<uint32_t>(st.load3dPad);
        } else {
          const uint64_t at = source(c1, static_cast<uint64_t>(y), static_cast<uint64_t>(x), last);
          const uint64_t bytes = nibbles ? width / 2 : width * size;
          if (c == 0 || static_cast<uint32_t>(at / 32) != lastBlock) {
            i.readPadding(Mem::L1, at, bytes);
            lastBlock = static_cast<uint32_t>(at / 32);
            allWritten = written(Mem::L1, at, bytes);
          }
          unwritten = !allWritten && !written(Mem::L1, at + (nibbles ? c / 2 : c * size), size);
          if (nibbles)
            value = (l1[at + c / 2] >> (c % 2 * 4)) & 15u;
          else
            std::memcpy(&value, l1 + at + c * size, size);
        }
      }
      const uint64_t row = flip ? k : m, col = flip ? m : k;
      uint64_t fractal, at;
      if (toB) {
        fractal = row / c0 * columnFractals + col / 16;
        at = col % 16 * c0 + row % c0;
      } else {
        fractal = nz ? col / c0 * rowFractals + row / 16 : row / 16 * columnFractals + col / c0;
        at = row % 16 * c0 + col % c0;
      }
      uint8_t* cell = out + fractal * 512;
      if (nibbles) {
        uint8_t& b = cell[at / 2];
        b = static_cast<uint8_t>(at % 2 ? (b & 0x0f) | (value << 4) : (b & 0xf0) | value);
      } else {
        std::memcpy(cell + at * size, &value, size);
      }
      if (unwritten)
        markUnwritten(dst.mem, dst.address + fractal * 512 + (nibbles ? at / 2 : at * size), size);
    }
  }
}

void loadDataSparse(const Place& dst, const Place& src, const Place& index, uint32_t start,
                    uint32_t repeats) {
  if (options().chip->npuArch >= 3510) notOnChip("LoadDataWithSparse");
  if (repeats == 0) return;
  if (dst.mem != Mem::L0B || src.mem != Mem::L1 || index.mem != Mem::L1)
    fail(kParam, "LoadDataWithSparse goes from L1 to L0B, not from %s to %s", memName(src.mem),
         memName(dst.mem));
  Instr i(Pipe::MTE1, "mte_l1_l0b");
  checkPlaces(i, dst, src);
  i.align(index, 32, "the index");
  readUnused(i, moved(src, start * 512ull), 1, repeats * 512ull, 0);
  i.read(index, start * 128ull, repeats * 128ull);
  i.write(dst, 0, repeats * 512ull);
  fill(i.event, dst, src, DType::I8, repeats * 640ull, 1);
  std::memcpy(hostPtr(dst), hostPtr(src) + start * 512, repeats * 512);
  copyWritten(dst, moved(src, start * 512ull), repeats * 512ull);
  std::vector<uint8_t>& buffer = moveState().sparseIndex;
  const uint64_t at = dst.address / 4;
  if (buffer.size() < at + repeats * 128) buffer.resize(at + repeats * 128);
  std::memcpy(buffer.data() + at, hostPtr(index) + start * 128, repeats * 128);
}

void fillConst(const Place& dst, uint32_t repeats, uint32_t blocks, uint32_t gap, uint64_t bits,
               DType type) {
  checkRange("repeatTimes", repeats, 0, 32767);
  checkRange("blockNum", blocks, 0, 32767);
  checkRange("dstGap", gap, 0, 32767);
  if (repeats == 0 || blocks == 0) return;
  const bool l1 = dst.mem == Mem::L1;
  if (!l1 && dst.mem != Mem::L0A && dst.mem != Mem::L0B)
    fail(kParam, "Fill takes tensors in L1, L0A and L0B, not %s", memName(dst.mem));
  const uint64_t unit = l1 ? 32 : 512;
  const uint64_t size = sizeOf(type);
  Instr i(l1 ? Pipe::MTE2 : Pipe::MTE1, l1                    ? "fill_l1"
                                        : dst.mem == Mem::L0A ? "fill_l0a"
                                                              : "fill_l0b");
  i.align(dst, static_cast<uint32_t>(unit), "the destination");
  const uint64_t bytes = blocks * unit, step = bytes + gap * unit;
  declareRuns(i, dst, repeats, bytes, static_cast<int64_t>(step), true);
  uint8_t* to = hostPtr(dst);
  for (uint64_t r = 0; r < repeats; ++r)
    for (uint64_t k = 0; k < bytes; k += size) std::memcpy(to + r * step + k, &bits, size);
  i.event.dst = dst.mem;
  i.event.dtype = type;
  i.event.bytes = repeats * bytes;
  i.event.bursts = repeats;
}

void setFmatrix(uint16_t h, uint16_t w, const uint8_t* pads, bool right) {
  Instr i(Pipe::S, "set_spr");
  MoveState::FeatureMap& map = moveState().featureMap[right ? 1 : 0];
  map.h = h;
  map.w = w;
  std::memcpy(map.pad, pads, 4);
}
void setLoadPad(uint64_t bits) {
  Instr i(Pipe::S, "set_spr");
  moveState().load3dPad = bits;
}
void setLoadRepeat(const AscendC::LoadDataRepeatParam& p) {
  Instr i(Pipe::S, "set_spr");
  if (p.repeatMode > 1) report(kParam, "repeatMode is %u; expected 0 or 1", p.repeatMode);
  moveState().repeat = p;
}
void setLoadBoundary(uint32_t bytes) {
  Instr i(Pipe::S, "set_spr");
  if (bytes != 0 && bytes < 1024)
    report(kParam, "the boundary is %u bytes; expected 0 or at least 1024", bytes);
  moveState().boundary = bytes;
}

}  // namespace ascsim
