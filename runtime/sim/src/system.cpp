#include "ascsim/system.h"

#include <cstdlib>

#include "internal.h"

namespace ascsim {

uint64_t signalKey(uint64_t address, int64_t index, int64_t event) {
  return address ^ (static_cast<uint64_t>(index + 1) << 48) ^
         (static_cast<uint64_t>(event + 2) << 40);
}

void checkSyncWorkspace(const Place& gm, uint64_t gmBytes, const Place& ub, uint64_t ubBytes,
                        bool zeroed) {
  size_t offset = 0, size = 0;
  if (!gmFind(reinterpret_cast<const void*>(gm.address), &offset, &size))
    fail(kBounds, "the GM workspace is in no device allocation");
  if (offset + gmBytes > size)
    report(kBounds, "the GM workspace has %zu bytes; expected at least %llu (32 per core)",
           size - offset, static_cast<unsigned long long>(gmBytes));
  if (ub.limit != ~0ull && ub.address + ubBytes > ub.limit)
    report(kBounds, "the UB workspace has %llu bytes; expected at least %llu (32 per core)",
           static_cast<unsigned long long>(ub.limit - ub.address),
           static_cast<unsigned long long>(ubBytes));
  if (!zeroed) return;
  // The device polls these words: the host must have cleared them.
  Instr i(Pipe::S, "scalar_load_gm");
  i.read(gm, 0, std::min<uint64_t>(gmBytes, size - offset));
}

void dumpTensor(const Place& place, DType type, uint32_t elementBytes, const char* position,
                uint32_t desc, uint32_t elements, const AscendC::ShapeInfo* shape) {
  Core& c = core();
  const uint8_t* p = c.ptr(place.mem, place.address);
  if (place.mem == Mem::GM) {
    size_t offset = 0, size = 0;
    if (!gmFind(p, &offset, &size)) fail(kBounds, "the tensor is in no device allocation");
    elements = static_cast<uint32_t>(std::min<size_t>(elements, (size - offset) / elementBytes));
  } else {
    const uint64_t end = std::min<uint64_t>(place.limit, memSize(place.mem));
    elements = static_cast<uint32_t>(
        std::min<uint64_t>(elements, (end - std::min(end, place.address)) / elementBytes));
  }
  std::printf(
      "DumpTensor: desc=%u, core=%s, addr=0x%llx, data_type=%s, position=%s, dump_size=%u\n", desc,
      coreName(c).c_str(), static_cast<unsigned long long>(place.address), dtypeName(type),
      position, elements);
  const uint32_t row =
      shape != nullptr && shape->shapeDim > 0 ? std::max(1u, shape->shape[shape->shapeDim - 1]) : 8;
  for (uint32_t i = 0; i < elements; ++i, p += elementBytes) {
    std::printf("%s", i % row == 0 ? (i == 0 ? "[" : "\n ") : ", ");
    switch (type) {
      case DType::F16:
        std::printf("%g",
                    static_cast<double>(halfBitsToFloat(*reinterpret_cast<const uint16_t*>(p))));
        break;
      case DType::BF16:
        std::printf("%g",
                    static_cast<double>(bfloatBitsToFloat(*reinterpret_cast<const uint16_t*>(p))));
        break;
      case DType::F32:
        std::printf("%f", static_cast<double>(*reinterpret_cast<const float*>(p)));
        break;
      case DType::F64:
        std::printf("%f", *reinterpret_cast<const double*>(p));
        break;
      case DType::U8:
      case DType::Bool:
        std::printf("%u", *p);
        break;
      case DType::I8:
        std::printf("%d", *reinterpret_cast<const int8_t*>(p));
        break;
      case DType::U16:
        std::printf("%u", *reinterpret_cast<const uint16_t*>(p));
        break;
      case DType::I16:
        std::printf("%d", *reinterpret_cast<const int16_t*>(p));
        break;
      case DType::U32:
        std::printf("%u", *reinterpret_cast<const uint32_t*>(p));
        break;
      case DType::I32:
        std::printf("%d", *reinterpret_cast<const int32_t*>(p));
        break;
      case DType::U64:
        std::printf("%llu", static_cast<unsigned long long>(*reinterpret_cast<const uint64_t*>(p)));
        break;
      case DType::I64:
        std::printf("%lld", static_cast<long long>(*reinterpret_cast<const int64_t*>(p)));
        break;
      default:
        std::printf("0x%02x", *p);
    }
  }
  std::printf("]\n");
  std::fflush(stdout);
}

void assertionFailed(const char* text, const char* file, int line) {
  std::fflush(stdout);
  if (!insideKernel()) {
    std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, text);
    std::abort();
  }
  Core& c = core();
  c.api = "assert";
  c.loc.file = file;
  c.loc.line = line;
  reportError("assert", std::string("assertion failed: ") + text);
  throw KernelAbort{};
}

}  // namespace ascsim
