#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include "ascsim/vec_sort.h"

namespace ascsim {
namespace {

// A (score, index) pair as it lies in memory: the score in the low bytes, the index in the high
// four; of a half score two bytes between them are reserved.
using Pair = uint64_t;

float scoreOf(Pair p, DType type) {
  if (type == DType::F16) return halfBitsToFloat(static_cast<uint16_t>(p));
  return bitsFloat(static_cast<uint32_t>(p));
}

// Descending; what is not a number counts as the largest.
bool before(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
  return a > b;
}

Place shifted(Place p, uint64_t bytes) {
  p.address += bytes;
  return p;
}

uint8_t* at(const Place& p) { return core().ptr(p.mem, p.address); }

uint32_t repeatsIn(const char* what, int64_t repeats) {
  checkRange(what, repeats, 0, 255);
  return static_cast<uint32_t>(std::clamp<int64_t>(repeats, 0, 255));
}

void copyPairs(const Place& dst, const Place& src, uint64_t bytes) {
  Instr i(Pipe::V, "vmov_ub");
  i.event.bytes = bytes;
  i.event.bursts = 1;
  i.event.repeats = static_cast<uint32_t>((bytes + 255) / 256);
  i.event.dtype = DType::U32;
  i.read(src, 0, bytes);
  i.write(dst, 0, bytes);
  __builtin_memmove(at(dst), at(src), bytes);
}

template <class T>
std::vector<uint64_t> order(const uint8_t* p, uint64_t count, bool descending) {
  std::vector<T> v(count);
  if (count != 0) __builtin_memcpy(static_cast<void*>(v.data()), p, count * sizeof(T));
  std::vector<uint64_t> index(count);
  std::iota(index.begin(), index.end(), 0);
  std::stable_sort(index.begin(), index.end(),
                   [&](uint64_t a, uint64_t b) { return descending ? v[b] < v[a] : v[a] < v[b]; });
  return index;
}

std::vector<uint64_t> order(DType type, const uint8_t* p, uint64_t n, bool descending) {
  switch (type) {
    case DType::U8:
      return order<uint8_t>(p, n, descending);
    case DType::I8:
      return order<int8_t>(p, n, descending);
    case DType::U16:
      return order<uint16_t>(p, n, descending);
    case DType::I16:
      return order<int16_t>(p, n, descending);
    case DType::U32:
      return order<uint32_t>(p, n, descending);
    case DType::I32:
      return order<int32_t>(p, n, descending);
    case DType::U64:
      return order<uint64_t>(p, n, descending);
    case DType::I64:
      return order<int64_t>(p, n, descending);
    case DType::F16:
      return order<half>(p, n, descending);
    case DType::BF16:
      return order<bfloat16_t>(p, n, descending);
    case DType::F32:
      return order<float>(p, n, descending);
    default:
      fail(kChip, "Sort does not take elements of type %s", dtypeName(type));
  }
}

}  // namespace

void checkSortTypeSize(uint32_t bytes) {
  if (bytes == 2 || bytes == 4) return;
  std::fprintf(stderr, "[ascsim] sizes of sort buffers: elements have %u bytes; expected 2 or 4\n",
               bytes);
}

void sort32(const Place& dst, const Place& scores, const Place& indices, DType type,
            int64_t repeatTime) {
  const uint32_t repeats = repeatsIn("repeatTime", repeatTime);
  if (repeats == 0) return;
  const uint32_t size = type == DType::F16 ? 2 : 4;
  const uint64_t n = 32ull * repeats;
  Instr i(Pipe::V, "vbitsort");
  i.event.repeats = repeats;
  i.event.dtype = type;
  i.align(dst, 32, "the destination");
  i.align(scores, 32, "src0");
  i.align(indices, 32, "src1");
  i.read(scores, 0, n * size);
  i.read(indices, 0, n * 4);
  i.write(dst, 0, n * 8);
  std::vector<Pair> pairs(n);
  for (uint64_t e = 0; e < n; ++e) {
    Pair low = 0, high = 0;
    __builtin_memcpy(&low, at(scores) + e * size, size);
    __builtin_memcpy(&high, at(indices) + e * 4, 4);
    pairs[e] = low | high << 32;
  }
  for (uint64_t e = 0; e < n; e += 32)
    std::stable_sort(pairs.begin() + static_cast<long>(e),
                     pairs.begin() + static_cast<long>(e) + 32,
                     [&](Pair a, Pair b) { return before(scoreOf(a, type), scoreOf(b, type)); });
  __builtin_memcpy(at(dst), pairs.data(), n * 8);
}

void mrgSort(const Place& dst, const Place (&src)[4], DType type,
             const AscendC::MrgSort4Info& info) {
  if (info.repeatTimes == 0) return;
  const int queues = info.validBit == 3 ? 2 : info.validBit == 7 ? 3 : info.validBit == 15 ? 4 : 0;
  if (queues == 0) fail(kParam, "validBit is %u; expected 3, 7 or 15", info.validBit);
  uint64_t total = 0;
  for (int q = 0; q < queues; ++q) {
    checkRange("an element of elementLengths", info.elementLengths[q], 0, 4095);
    total += info.elementLengths[q];
  }
  // More than one repeat needs four adjacent queues of one length, and no suspension.
  const uint64_t length = info.elementLengths[0];
  bool repeats = queues == 4 && !info.ifExhaustedSuspension;
  for (int q = 1; q < queues && repeats; ++q)
    repeats = info.elementLengths[q] == length && src[q].address == src[q - 1].address + length * 8;
  const uint32_t times = repeats ? info.repeatTimes : 1;

  Instr i(Pipe::V, "vmrgsort4");
  i.event.dtype = type;
  i.align(dst, 32, "the destination");
  for (int q = 0; q < queues; ++q) {
    i.align(src[q], 8, "a source queue");
    const uint64_t bytes = (repeats ? total * times : info.elementLengths[q]) * 8;
    if (overlap(dst, total * times * 8, src[q], bytes)) {
      report(kParam, "the destination overlaps source queue %d; expected separate memory", q + 1);
      break;
    }
    if (repeats) break;  // one run of all queues
  }

  uint64_t counts[4] = {};
  std::vector<Pair> out;
  for (uint32_t r = 0; r < times; ++r) {
    const uint64_t skip = static_cast<uint64_t>(r) * total * 8;
    uint64_t pos[4] = {};
    std::vector<Pair> queue[4];
    for (int q = 0; q < queues; ++q) {
      const uint64_t bytes = info.elementLengths[q] * 8ull;
      // A suspended merge leaves the rest of its queues alone; what it took is declared below.
      if (!info.ifExhaustedSuspension) i.read(src[q], skip, bytes);
      queue[q].resize(info.elementLengths[q]);
      const uint64_t from = src[q].address + skip;
      if (from + bytes <= memSize(src[q].mem))
        __builtin_memcpy(queue[q].data(), at(shifted(src[q], skip)), bytes);
    }
    for (;;) {
      int best = -1;
      bool exhausted = false;
      for (int q = 0; q < queues; ++q) {
        if (pos[q] == queue[q].size()) {
          exhausted = true;
          continue;
        }
        if (best < 0 ||
            before(scoreOf(queue[q][pos[q]], type), scoreOf(queue[best][pos[best]], type)))
          best = q;
      }
      if (best < 0 || (exhausted && info.ifExhaustedSuspension)) break;
      out.push_back(queue[best][pos[best]++]);
    }
    for (int q = 0; q < queues; ++q) {
      counts[q] = pos[q];
      if (info.ifExhaustedSuspension) i.read(src[q], skip, pos[q] * 8);
    }
  }
  i.event.repeats = static_cast<uint32_t>(out.size());
  i.write(dst, 0, out.size() * 8);
  if (!out.empty()) __builtin_memcpy(at(dst), out.data(), out.size() * 8);
  setSpr(Spr::MrgSortCounts, counts[0] | counts[1] << 16 | counts[2] << 32 | counts[3] << 48);
}

uint16_t mrgSortCount(int queue, uint64_t packed) {
  return static_cast<uint16_t>(packed >> (16 * queue));
}

void fullSort(const Place& dst, const Place& scores, const Place& indices, const Place& tmp,
              DType type, int64_t repeatTime) {
  sort32(dst, scores, indices, type, repeatTime);
  const uint64_t n = 32ull * static_cast<uint64_t>(std::clamp<int64_t>(repeatTime, 0, 255));
  if (n <= 32) return;
  checkAligned(tmp, 32, "tmp");
  Place from = dst, to = tmp;
  for (uint64_t length = 32; length < n; length *= 4) {
    pipeBarrier(Pipe::V);
    AscendC::MrgSort4Info info;
    const uint64_t whole = n / (4 * length);
    auto merge = [&](uint64_t start, uint64_t rest) {
      Place queue[4];
      info.validBit = 0;
      for (int q = 0; q < 4; ++q) {
        const uint64_t have = std::min(length, rest);
        queue[q] = shifted(from, (start + static_cast<uint64_t>(q) * length) * 8);
        info.elementLengths[q] = static_cast<uint16_t>(have);
        if (have != 0) info.validBit = static_cast<uint16_t>(info.validBit | 1u << q);
        rest -= have;
      }
      if (info.validBit == 1)
        copyPairs(shifted(to, start * 8), queue[0], info.elementLengths[0] * 8ull);
      else
        mrgSort(shifted(to, start * 8), queue, type, info);
    };
    if (whole != 0) {
      info.repeatTimes = static_cast<uint8_t>(whole);
      merge(0, 4 * length);
      info.repeatTimes = 1;
    }
    if (n % (4 * length) != 0) merge(whole * 4 * length, n % (4 * length));
    std::swap(from, to);
  }
  if (from.address != dst.address) {
    pipeBarrier(Pipe::V);
    copyPairs(dst, from, n * 8);
  }
}

void extractPairs(const Place& values, const Place& indices, const Place& pairs, DType type,
                  int64_t repeatTime) {
  const uint32_t repeats = repeatsIn("repeatTime", repeatTime);
  if (repeats == 0) return;
  const uint32_t size = type == DType::F16 ? 2 : 4;
  const uint64_t n = 32ull * repeats;
  auto pick = [&](const Place& dst, uint32_t offset, uint32_t bytes, const char* name) {
    Instr i(Pipe::V, "vreduce");
    i.event.repeats = repeats;
    i.event.dtype = bytes == 2 ? DType::U16 : DType::U32;
    i.align(dst, 32, name);
    i.align(pairs, 32, "the sorted pairs");
    const uint32_t mask = ((1u << bytes) - 1) << offset;
    for (uint64_t b = 0; b < n; b += 4) {
      uint32_t block = 0;
      for (int k = 0; k < 4; ++k) block |= mask << (8 * k);
      i.readMasked(pairs, b * 8, block);
    }
    i.write(dst, 0, n * bytes);
    std::vector<uint8_t> line(n * bytes);
    for (uint64_t e = 0; e < n; ++e)
      __builtin_memcpy(&line[e * bytes], at(pairs) + e * 8 + offset, bytes);
    __builtin_memcpy(at(dst), line.data(), line.size());
  };
  pick(values, 0, size, "dstValue");
  pick(indices, 4, 4, "dstIndex");
}

void sortValues(const Place& dst, const Place* dstIndex, const Place& src, const Place* srcIndex,
                DType type, uint32_t indexBytes, uint64_t count, SortOrder how) {
  if (how.merge && count % 32 != 0)
    report(kParam, "calCount is %llu; MERGE_SORT expects a multiple of 32",
           static_cast<unsigned long long>(count));
  const uint32_t size = sizeOf(type);
  Instr i(Pipe::V, "vmacro");
  i.event.dtype = type;
  // A radix sort passes over the keys once per byte, a merge sort once per factor of four.
  const uint32_t passes = how.merge ? 8 : 4 * size;
  i.event.repeats = static_cast<uint32_t>((count * size + 255) / 256 * passes);
  i.align(dst, 32, "dstTensor");
  i.align(src, 32, "srcTensor");
  i.read(src, 0, count * size);
  if (overlap(dst, count * size, src, count * size))
    report(kParam, "dstTensor overlaps srcTensor; expected separate memory");
  const std::vector<uint64_t> index = order(type, at(src), count, how.descending);
  i.write(dst, 0, count * size);
  for (uint64_t e = 0; e < count; ++e)
    __builtin_memcpy(at(dst) + e * size, at(src) + index[e] * size, size);
  if (dstIndex == nullptr) return;
  i.align(*dstIndex, 32, "dstIndexTensor");
  if (srcIndex != nullptr) i.read(*srcIndex, 0, count * indexBytes);
  i.write(*dstIndex, 0, count * indexBytes);
  for (uint64_t e = 0; e < count; ++e) {
    uint64_t v = index[e];
    if (srcIndex != nullptr)
      __builtin_memcpy(&v, at(*srcIndex) + index[e] * indexBytes, indexBytes);
    __builtin_memcpy(at(*dstIndex) + e * indexBytes, &v, indexBytes);
  }
}

}  // namespace ascsim
