#include <cmath>
#include <type_traits>

#include "ascsim/vec_core.h"
#include "ascsim/vec_reduce.h"

namespace ascsim {
namespace {

using AscendC::ReduceOrder;
using AscendC::ReduceType;

constexpr uint32_t kMaxLanes = 128;

// Lanes of one repeat as float, in lane order.
struct Line {
  float value[kMaxLanes];
  uint32_t lane[kMaxLanes];
  uint32_t n = 0;
};

template <class T>
float get(const uint8_t* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof(T));
  return static_cast<float>(v);
}

template <class T>
uint64_t bitsOf(float v) {
  const T t(v);
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &t, sizeof(T));
  return bits;
}

// A result rounded to the type. In saturation mode (half only) it is finite, and NaN becomes 0.
template <class T>
float roundTo(float v, bool saturate) {
  if constexpr (std::is_same_v<T, half>) {
    const float h = static_cast<float>(half(v));
    if (!saturate || std::isfinite(h)) return h;
    return std::isnan(h) ? 0.0f : std::copysign(65504.0f, h);
  } else {
    return v;
  }
}

template <class T>
void load(Line& line, const Operand& src, const uint8_t* base, const Lanes& l, uint32_t repeat,
          uint32_t from, uint32_t to) {
  if (l.full && src.blockStride == 1 && (l.tail == 0 || repeat + 1 != l.repeats)) {
    const uint8_t* p = base + src.offset(repeat, from);
    line.n = to - from;
    for (uint32_t i = 0; i < line.n; ++i) {
      line.value[i] = get<T>(p + i * sizeof(T));
      line.lane[i] = from + i;
    }
    return;
  }
  line.n = 0;
  for (uint32_t i = from; i < to; ++i) {
    if (!l.active(repeat, i)) continue;
    line.value[line.n] = get<T>(base + src.offset(repeat, i));
    line.lane[line.n++] = i;
  }
}

// Neighbours are added first, then the sums of neighbours: a binary tree over the lane numbers,
// each sum rounded to the type. Lanes without a value leave the others unchanged (-0 is neutral).
template <class T>
float treeSum(const Line& line, uint32_t lanes) {
  const bool saturate = saturatesFloat();
  float v[kMaxLanes];
  if (line.n == lanes) {
    std::copy(line.value, line.value + lanes, v);
  } else {
    std::fill(v, v + lanes, -0.0f);
    for (uint32_t i = 0; i < line.n; ++i) v[line.lane[i] % lanes] = line.value[i];
  }
  for (uint32_t n = lanes; n > 1; n /= 2)
    for (uint32_t i = 0; i < n / 2; ++i) v[i] = roundTo<T>(v[2 * i] + v[2 * i + 1], saturate);
  return v[0];
}

// The position in `line` of the extreme value: the first of equal ones, the first NaN if there is
// one.
uint32_t extreme(ReduceType op, const Line& line) {
  uint32_t best = 0;
  for (uint32_t i = 0; i < line.n; ++i) {
    if (std::isnan(line.value[i])) return i;
    if (op == ReduceType::MAX ? line.value[i] > line.value[best] : line.value[i] < line.value[best])
      best = i;
  }
  return best;
}

template <class T>
float reduceLine(ReduceType op, const Line& line, uint32_t lanes) {
  return op == ReduceType::SUM ? treeSum<T>(line, lanes)
                               : roundTo<T>(line.value[extreme(op, line)], saturatesFloat());
}

const char* mnemonic(ReduceType op, const char* sum, const char* max, const char* min) {
  return op == ReduceType::SUM ? sum : op == ReduceType::MAX ? max : min;
}

Operand sourceOf(const ReduceArgs& a, uint32_t elementBytes) {
  checkRange("srcBlkStride", a.srcBlkStride, 0, 65535);
  checkRange("srcRepStride", a.srcRepStride, 0, 65535);
  checkRange("dstRepStride", a.dstRepStride, 0, 65535);
  Operand o;
  o.place = a.src;
  o.elementBytes = elementBytes;
  o.blockStride = static_cast<uint32_t>(a.srcBlkStride) & 0xffff;
  o.repeatStride = static_cast<uint32_t>(a.srcRepStride) & 0xffff;
  return o;
}

uint32_t dstStride(const ReduceArgs& a) { return static_cast<uint32_t>(a.dstRepStride) & 0xffff; }

void begin(Instr& i, const ReduceArgs& a, const Operand& src, const Lanes& l, uint32_t dstAlign) {
  i.event.repeats = l.repeats;
  i.event.dtype = a.dtype;
  i.event.vdst.address = static_cast<uint32_t>(a.dst.address);
  describe(i.event.vsrc0, src);
  alignOperand(i, src, "the source");
  i.align(a.dst, dstAlign, "the destination");
  declare(i, src, l, false);
}

// Reports sources that an earlier repeat has overwritten.
void hazard(Overwritten& seen, const Operand& src, const Lanes& l, uint32_t repeat) {
  const uint32_t perBlock = 32 / src.elementBytes;
  for (uint32_t b = 0; b < 8; ++b) {
    bool used = false;
    for (uint32_t i = 0; i < perBlock && !used; ++i) used = l.active(repeat, b * perBlock + i);
    if (used) seen.reads(src.place.address + src.offset(repeat, b * perBlock), 32, repeat);
  }
}

template <class T>
void repeatImpl(ReduceType op, const ReduceArgs& a, const Lanes& l) {
  constexpr uint32_t size = sizeof(T);
  const bool pair = op != ReduceType::SUM && (a.order == ReduceOrder::ORDER_VALUE_INDEX ||
                                              a.order == ReduceOrder::ORDER_INDEX_VALUE);
  const bool onlyIndex = op != ReduceType::SUM && a.order == ReduceOrder::ORDER_ONLY_INDEX;
  const uint32_t unit = pair ? 2 * size : onlyIndex ? 4 : size;
  const Operand src = sourceOf(a, size);
  Instr i(Pipe::V, mnemonic(op, "vcadd", "vcmax", "vcmin"));
  begin(i, a, src, l, unit);
  const uint64_t step = static_cast<uint64_t>(dstStride(a)) * unit;
  if (step == unit)
    i.write(a.dst, 0, static_cast<uint64_t>(l.repeats) * unit);
  else
    for (uint32_t r = 0; r < l.repeats; ++r) i.write(a.dst, r * step, unit);

  const uint8_t* in = host(src);
  uint8_t* out = core().ptr(a.dst.mem, a.dst.address);
  Overwritten seen(a.src);
  Line line;
  const bool saturate = saturatesFloat();
  float best = 0;
  uint64_t bestIndex = 0;
  for (uint32_t r = 0; r < l.repeats; ++r) {
    hazard(seen, src, l, r);
    load<T>(line, src, in, l, r, 0, l.lanes);
    uint8_t* d = out + r * step;
    seen.wrote(a.dst.address + r * step, unit);
    if (op == ReduceType::SUM) {
      const T sum(treeSum<T>(line, l.lanes));
      __builtin_memcpy(d, &sum, size);
      continue;
    }
    const uint32_t at = extreme(op, line);
    const T value(roundTo<T>(line.value[at], saturate));
    const uint32_t index = line.lane[at];
    const bool better = op == ReduceType::MAX ? line.value[at] > best : line.value[at] < best;
    if (r == 0 || (better && !std::isnan(best)) ||
        (std::isnan(line.value[at]) && !std::isnan(best))) {
      best = line.value[at];
      bestIndex = static_cast<uint64_t>(r) * l.lanes + index;
    }
    const uint32_t valueAt = a.order == ReduceOrder::ORDER_INDEX_VALUE ? size : 0;
    if (!onlyIndex) __builtin_memcpy(d + valueAt, &value, size);
    if (pair) __builtin_memcpy(d + size - valueAt, &index, size);
    if (onlyIndex) __builtin_memcpy(d, &index, 4);
  }
  if (op != ReduceType::SUM && l.repeats != 0) {
    setSpr(Spr::MaxMinValue, bitsOf<T>(roundTo<T>(best, saturate)));
    setSpr(Spr::MaxMinIndex, bestIndex);
  }
}

// One result per group of lanes: of a block, or of a pair. Groups without an active lane keep
// theirs.
template <class T>
void groupImpl(ReduceType op, const char* name, const ReduceArgs& a, const Lanes& l, uint32_t group,
               uint32_t dstAlign, uint32_t repeatBytes) {
  constexpr uint32_t size = sizeof(T);
  const Operand src = sourceOf(a, size);
  Instr i(Pipe::V, name);
  begin(i, a, src, l, dstAlign);
  const uint8_t* in = host(src);
  uint8_t* out = core().ptr(a.dst.mem, a.dst.address);
  const uint64_t step = static_cast<uint64_t>(dstStride(a)) * repeatBytes;
  const uint32_t groups = l.lanes / group;
  Overwritten seen(a.src);
  Line line;
  for (uint32_t r = 0; r < l.repeats; ++r) {
    hazard(seen, src, l, r);
    T results[kMaxLanes];
    bool has[kMaxLanes];
    for (uint32_t g = 0; g < groups; ++g) {
      load<T>(line, src, in, l, r, g * group, (g + 1) * group);
      has[g] = line.n != 0;
      if (has[g]) results[g] = T(reduceLine<T>(op, line, group));
    }
    for (uint32_t g = 0; g < groups;) {
      if (!has[g]) {
        ++g;
        continue;
      }
      uint32_t end = g;
      while (end < groups && has[end]) ++end;
      i.write(a.dst, r * step + g * size, (end - g) * size);
      seen.wrote(a.dst.address + r * step + g * size, (end - g) * size);
      __builtin_memcpy(out + r * step + g * size, &results[g], (end - g) * size);
      g = end;
    }
  }
}

// Repeats [first, first + n) of `l` as an instruction of its own.
Lanes slice(const Lanes& l, uint32_t n) {
  Lanes s = l;
  s.repeats = n;
  return s;
}

// The first pass of a whole-tensor reduction over any number of repeats, as many instructions as
// their 255 repeats need; `unit` is the result of a repeat in bytes.
void firstPass(ReduceType op, const ReduceArgs& a, const Lanes& one, int64_t repeats,
               uint32_t unit) {
  ReduceArgs part = a;
  for (int64_t done = 0; done < repeats; done += 255) {
    part.src.address = a.src.address + static_cast<uint64_t>(done * a.srcRepStride) * 32;
    part.dst.address = a.dst.address + static_cast<uint64_t>(done) * unit;
    reduceRepeat(op, part,
                 slice(one, static_cast<uint32_t>(std::min<int64_t>(255, repeats - done))));
  }
}

// Does a whole-tensor reduction have anything to do? In counter mode the repeats do not count.
bool anything(const Lanes& lanes, int64_t repeats) {
  if (lanes.counted) return lanes.repeats != 0;
  checkRange("repeatTime", repeats, 0, 0x7fffffff);
  return lanes.repeats != 0 && repeats > 0;
}

template <class T>
struct Extreme {
  float value;
  uint64_t index;
};

// Value and index over all repeats, the index counting the elements from the start of the source.
template <class T>
Extreme<T> scan(ReduceType op, const Operand& src, const Lanes& l) {
  const uint8_t* in = host(src);
  Extreme<T> best{0, 0};
  Line line;
  for (uint32_t r = 0; r < l.repeats; ++r) {
    load<T>(line, src, in, l, r, 0, l.lanes);
    const uint32_t at = extreme(op, line);
    const float v = line.value[at];
    const bool better = op == ReduceType::MAX ? v > best.value : v < best.value;
    if (r == 0 || (!std::isnan(best.value) && (better || std::isnan(v))))
      best = {v, static_cast<uint64_t>(r) * src.repeatStride * (32 / sizeof(T)) + line.lane[at]};
    if (std::isnan(best.value)) break;
  }
  return best;
}

// Whether a scan ahead of the declared accesses stays inside the memory; they report it if not.
bool inMemory(const Operand& src, const Lanes& l) {
  return src.place.address + src.offset(l.repeats - 1, l.lanes - 1) + 32 <= memSize(src.place.mem);
}

template <class T>
void maxMinImpl(ReduceType op, const ReduceArgs& args, const Place& work, const Lanes& given,
                int64_t repeats, bool calIndex) {
  constexpr uint32_t size = sizeof(T);
  const Operand src = sourceOf(args, size);
  Lanes all = given;
  if (!given.counted) all.repeats = static_cast<uint32_t>(repeats);
  repeats = all.repeats;
  const uint32_t tail = all.tail;
  Lanes one = all;
  one.tail = 0;
  const Extreme<T> result = inMemory(src, all) ? scan<T>(op, src, all) : Extreme<T>{0, 0};

  // The instructions behind it: a pair per repeat in `work`, pairs of the pairs behind them (or in
  // their place, when no index has to be traced back), until one is left. A tail has its own.
  const int64_t body = tail != 0 ? repeats - 1 : repeats;
  const uint32_t lanes = one.lanes;
  Place last = work;
  if (body > 1) {
    checkAligned(work, 32, "sharedTmpBuffer");
    ReduceArgs pass = args;
    pass.order = ReduceOrder::ORDER_VALUE_INDEX;
    pass.dst = work;
    firstPass(op, pass, one, body, 2 * size);
    uint64_t elements = 2 * static_cast<uint64_t>(body);
    while (elements > 2) {
      pipeBarrier(Pipe::V);
      Lanes pairs = lanesOfCount(static_cast<int64_t>(elements), size);
      const uint32_t passes = pairs.repeats;
      pass.src = pass.dst;
      if (calIndex) pass.dst.address += (elements * size + 31) / 32 * 32;
      pass.srcRepStride = 8;
      // The values are the even elements.
      const uint32_t odd = static_cast<uint32_t>(elements % lanes);
      Lanes even;
      even.lanes = lanes;
      even.bits[0] = 0x5555555555555555ull;
      even.bits[1] = lanes > 64 ? 0x5555555555555555ull : 0;
      const uint32_t whole = odd != 0 ? passes - 1 : passes;
      if (whole != 0) firstPass(op, pass, even, whole, 2 * size);
      if (odd != 0) {
        for (uint32_t i = odd; i < 128; ++i) even.bits[i >> 6] &= ~(1ull << (i & 63));
        ReduceArgs rest = pass;
        rest.src.address += static_cast<uint64_t>(whole) * 256;
        rest.dst.address += static_cast<uint64_t>(whole) * 2 * size;
        reduceRepeat(op, rest, slice(even, 1));
      }
      elements = 2 * static_cast<uint64_t>(passes);
    }
    last = pass.dst;
    pipeBarrier(Pipe::V);
  }

  Instr i(Pipe::V, mnemonic(op, "", "vcmax", "vcmin"));
  i.event.repeats = 1;
  i.event.dtype = args.dtype;
  i.align(args.dst, calIndex ? 2 * size : size, "the destination");
  if (body <= 1 || tail != 0) {
    alignOperand(i, src, "the source");
    Operand rest = src;
    Lanes l = all;
    if (body > 1) {
      rest.place.address += static_cast<uint64_t>(body) * src.repeatStride * 32;
      l.repeats = 1;
    }
    declare(i, rest, l, false);
  } else {
    i.read(last, 0, 2 * size);
  }
  const uint32_t written = calIndex ? 2 * size : size;
  i.write(args.dst, 0, written);
  uint8_t* out = core().ptr(args.dst.mem, args.dst.address);
  const T value(roundTo<T>(result.value, saturatesFloat()));
  __builtin_memcpy(out, &value, size);
  if (calIndex) __builtin_memcpy(out + size, &result.index, size);
  setSpr(Spr::MaxMinValue, bitsOf<T>(static_cast<float>(value)));
  setSpr(Spr::MaxMinIndex, result.index);
}

template <class T>
void sumCountImpl(const ReduceArgs& a, const Lanes& l) {
  const Operand src = sourceOf(a, sizeof(T));
  Instr i(Pipe::V, "vcadd");
  begin(i, a, src, l, sizeof(T));
  i.write(a.dst, 0, sizeof(T));
  const uint8_t* in = host(src);
  float sum = 0;
  Line line;
  for (uint32_t r = 0; r < l.repeats; ++r) {
    load<T>(line, src, in, l, r, 0, l.lanes);
    const float one = treeSum<T>(line, l.lanes);
    sum = r == 0 ? one : roundTo<T>(sum + one, saturatesFloat());
  }
  const T value(sum);
  __builtin_memcpy(core().ptr(a.dst.mem, a.dst.address), &value, sizeof(T));
  setSpr(Spr::Accumulated, bitsOf<T>(sum));
}

}  // namespace

void reduceRepeat(ReduceType op, const ReduceArgs& a, const Lanes& l) {
  if (l.repeats == 0) return;
  if (a.dtype == DType::F16)
    repeatImpl<half>(op, a, l);
  else
    repeatImpl<float>(op, a, l);
}

void reduceBlock(ReduceType op, const ReduceArgs& a, const Lanes& l) {
  if (l.repeats == 0) return;
  const char* name = mnemonic(op, "vcgadd", "vcgmax", "vcgmin");
  if (a.dtype == DType::F16)
    groupImpl<half>(op, name, a, l, 16, 16, 16);
  else
    groupImpl<float>(op, name, a, l, 8, 32, 32);
}

void reducePair(const ReduceArgs& a, const Lanes& l) {
  if (l.repeats == 0) return;
  if (a.dtype == DType::F16)
    groupImpl<half>(ReduceType::SUM, "vcpadd", a, l, 2, 32, 128);
  else
    groupImpl<float>(ReduceType::SUM, "vcpadd", a, l, 2, 32, 128);
}

void reduceSumCount(const ReduceArgs& a, const Lanes& l) {
  if (l.repeats == 0) return;
  if (a.dtype == DType::F16)
    sumCountImpl<half>(a, l);
  else
    sumCountImpl<float>(a, l);
}

void reduceSumAll(const ReduceArgs& args, const Place& work, const Lanes& one, int64_t repeats) {
  if (!anything(one, repeats)) return;
  const uint32_t size = args.dtype == DType::F16 ? 2 : 4;
  if (one.counted) repeats = one.repeats;
  if (repeats == 1) return reduceRepeat(ReduceType::SUM, args, one);
  checkAligned(work, 32, "sharedTmpBuffer");
  // The sums of the repeats go to `work`, then the sums of those in place, until one is left.
  ReduceArgs pass = args;
  pass.dst = work;
  if (one.counted)
    reduceRepeat(ReduceType::SUM, pass, one);
  else
    firstPass(ReduceType::SUM, pass, one, repeats, size);
  pass.src = work;
  pass.srcRepStride = 8;
  for (int64_t n = repeats; n > 1;) {
    pipeBarrier(Pipe::V);
    const Lanes l = lanesOfCount(n, size);
    n = l.repeats;
    if (n == 1) pass.dst = args.dst;
    reduceRepeat(ReduceType::SUM, pass, l);
  }
}

void reduceMaxMinAll(ReduceType op, const ReduceArgs& args, const Place& work, const Lanes& lanes,
                     int64_t repeats, bool calIndex) {
  if (!anything(lanes, repeats)) return;
  if (args.dtype == DType::F16)
    maxMinImpl<half>(op, args, work, lanes, repeats, calIndex);
  else
    maxMinImpl<float>(op, args, work, lanes, repeats, calIndex);
}

}  // namespace ascsim
