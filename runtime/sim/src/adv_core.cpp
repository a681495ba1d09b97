#include "ascsim/adv_core.h"

#include <algorithm>

#include "ascsim/core.h"

namespace ascsim::adv {

namespace {
template <class T>
T at(const uint8_t* p, uint64_t i) {
  T v;
  __builtin_memcpy(&v, p + i * sizeof(T), sizeof(T));
  return v;
}
template <class T>
void put(uint8_t* p, uint64_t i, T v) {
  __builtin_memcpy(p + i * sizeof(T), &v, sizeof(T));
}
// Integers round half to even and saturate.
template <class T>
T integer(float v) {
  if (v != v) return 0;
  const double r = std::nearbyint(static_cast<double>(v));
  const double lo = static_cast<double>(std::numeric_limits<T>::min());
  const double hi = static_cast<double>(std::numeric_limits<T>::max());
  return r <= lo   ? std::numeric_limits<T>::min()
         : r >= hi ? std::numeric_limits<T>::max()
                   : static_cast<T>(r);
}
}  // namespace

float convert(DType type, const uint8_t* p, uint64_t i) {
  switch (type) {
    case DType::F32:
      return at<float>(p, i);
    case DType::F16:
      return halfBitsToFloat(at<uint16_t>(p, i));
    case DType::BF16:
      return bfloatBitsToFloat(at<uint16_t>(p, i));
    case DType::I8:
      return at<int8_t>(p, i);
    case DType::U8:
    case DType::Bool:
      return at<uint8_t>(p, i);
    case DType::I16:
      return at<int16_t>(p, i);
    case DType::U16:
      return at<uint16_t>(p, i);
    case DType::I32:
      return static_cast<float>(at<int32_t>(p, i));
    case DType::U32:
      return static_cast<float>(at<uint32_t>(p, i));
    case DType::I4: {
      const int v = (p[i / 2] >> (i % 2 ? 4 : 0)) & 15;
      return static_cast<float>(v >= 8 ? v - 16 : v);
    }
    default:
      fail(kChip, "a %s operand of a high-level call is not modelled", dtypeName(type));
  }
}

void convert(DType type, uint8_t* p, uint64_t i, float v) {
  switch (type) {
    case DType::F32:
      return put<float>(p, i, v);
    case DType::F16:
      return put<uint16_t>(p, i, floatToHalfBits(v));
    case DType::BF16:
      return put<uint16_t>(p, i, floatToBfloatBits(v));
    case DType::I8:
      return put<int8_t>(p, i, integer<int8_t>(v));
    case DType::U8:
    case DType::Bool:
      return put<uint8_t>(p, i, integer<uint8_t>(v));
    case DType::I16:
      return put<int16_t>(p, i, integer<int16_t>(v));
    case DType::U16:
      return put<uint16_t>(p, i, integer<uint16_t>(v));
    case DType::I32:
      return put<int32_t>(p, i, integer<int32_t>(v));
    case DType::U32:
      return put<uint32_t>(p, i, integer<uint32_t>(v));
    default:
      fail(kChip, "a %s result of a high-level call is not modelled", dtypeName(type));
  }
}

float roundTo(DType type, float v) {
  if (type == DType::F16) return halfBitsToFloat(floatToHalfBits(v));
  if (type == DType::BF16) return bfloatBitsToFloat(floatToBfloatBits(v));
  return v;
}

namespace {
uint64_t byteOffset(const Arg& a, uint64_t n) {
  return a.type == DType::I4 ? (n + 1) / 2 : n * sizeOf(a.type);
}

void fetch(const Arg& a, uint64_t first, uint64_t n, float* to) {
  const uint8_t* p = core().ptr(a.place.mem, a.place.address);
  if (a.type == DType::F32) {
    __builtin_memcpy(to, p + first * 4, n * 4);
    return;
  }
  for (uint64_t k = 0; k < n; ++k) to[k] = convert(a.type, p, first + k);
}
}  // namespace

void load(Instr& i, const Arg& a, uint64_t first, uint64_t n, float* to) {
  if (n == 0) return;
  i.read(a.place, byteOffset(a, first), byteOffset(a, first + n) - byteOffset(a, first));
  fetch(a, first, n, to);
}

void loadPadding(Instr& i, const Arg& a, uint64_t first, uint64_t n, float* to) {
  if (n == 0) return;
  i.readPadding(a.place.mem, a.place.address + byteOffset(a, first), byteOffset(a, n));
  fetch(a, first, n, to);
}

void store(Instr& i, const Arg& a, uint64_t first, uint64_t n, const float* from) {
  if (n == 0) return;
  i.write(a.place, byteOffset(a, first), byteOffset(a, n));
  uint8_t* p = core().ptr(a.place.mem, a.place.address);
  if (a.type == DType::F32) {
    __builtin_memcpy(p + first * 4, from, n * 4);
    return;
  }
  for (uint64_t k = 0; k < n; ++k) convert(a.type, p, first + k, from[k]);
}

namespace {
bool overlap(const Place& a, uint64_t bytesA, const Place& b, uint64_t bytesB) {
  return bytesA != 0 && bytesB != 0 && a.mem == b.mem && a.address < b.address + bytesB &&
         b.address < a.address + bytesA;
}
}  // namespace

void separate(const Arg& a, uint64_t na, const char* nameA, const Arg& b, uint64_t nb,
              const char* nameB) {
  if (overlap(a.place, byteOffset(a, na), b.place, byteOffset(b, nb)))
    report(kParam,
           "%s (at %llu, %llu bytes) and %s (at %llu, %llu bytes) overlap; they need memory of "
           "their own",
           nameA, static_cast<unsigned long long>(a.place.address),
           static_cast<unsigned long long>(byteOffset(a, na)), nameB,
           static_cast<unsigned long long>(b.place.address),
           static_cast<unsigned long long>(byteOffset(b, nb)));
}

void aligned(Instr& i, const Arg& a, const char* name) { i.align(a.place, 32, name); }

void within(const Arg& a, uint64_t n, const char* name) {
  if (byteOffset(a, n) > a.bytes)
    report(kBounds, "%s has %u bytes; %llu elements need %llu", name, a.bytes,
           static_cast<unsigned long long>(n), static_cast<unsigned long long>(byteOffset(a, n)));
}

void scratch(Instr& i, const Arg* tmp, uint64_t bytes, std::initializer_list<Operand> operands) {
  if (bytes == 0) return;
  Arg rest;
  if (tmp == nullptr) {
    if (AscendC::GetTPipePtr() == nullptr) return;  // nobody allocates: the space cannot be known
    AscendC::LocalTensor<uint8_t> t;
    AscendC::PopStackBuffer<uint8_t, AscendC::TPosition::LCM>(t, core().loc);
    rest = arg(t);
    if (rest.bytes < bytes)
      fail(kBounds,
           "needs %llu bytes of temporary space, but the buffers leave %u bytes of UB; make them "
           "smaller or pass sharedTmpBuffer",
           static_cast<unsigned long long>(bytes), rest.bytes);
    tmp = &rest;
  } else {
    i.align(tmp->place, 32, "sharedTmpBuffer");
    if (tmp->bytes < bytes)
      fail(kParam,
           "sharedTmpBuffer has %u bytes; at least %llu are needed (see the call's Get...TmpSize "
           "function)",
           tmp->bytes, static_cast<unsigned long long>(bytes));
    for (const Operand& o : operands)
      if (overlap(tmp->place, bytes, o.arg->place, byteOffset(*o.arg, o.elements)))
        report(kParam,
               "sharedTmpBuffer (at %llu) overlaps an operand (at %llu, %llu elements); it needs "
               "memory of its own",
               static_cast<unsigned long long>(tmp->place.address),
               static_cast<unsigned long long>(o.arg->place.address),
               static_cast<unsigned long long>(o.elements));
  }
  i.write(tmp->place, 0, bytes);
}

void pass(const char* mnemonic, uint64_t n, DType type) {
  if (n == 0) return;
  Instr i(Pipe::V, mnemonic);
  i.event.repeats = static_cast<uint32_t>((n * sizeOf(type) + 255) / 256);
  i.event.dtype = type;
  i.event.dependent = true;
}

void passes(const char* steps, uint64_t n, DType type) {
  for (const char* s = steps; *s != 0; ++s) {
    const char* m = "vmacro";
    switch (*s) {
      case 'a':
        m = "vadd";
        break;
      case 'A':
        m = "vadds";
        break;
      case 'b':
        m = "vabs";
        break;
      case 'c':
        m = "vconv";
        break;
      case 'C':
        m = "vcmpvs";
        break;
      case 'd':
        m = "vdiv";
        break;
      case 'D':
        m = "vdup";
        break;
      case 'e':
        m = "vexp";
        break;
      case 'g':
        m = "vreducev2";
        break;
      case 'i':
        m = "vmins";
        break;
      case 'l':
        m = "vln";
        break;
      case 'm':
        m = "vmul";
        break;
      case 'M':
        m = "vmuls";
        break;
      case 'n':
        m = "vand";
        break;
      case 'N':
        m = "vnot";
        break;
      case 'o':
        m = "vor";
        break;
      case 'q':
        m = "vsqrt";
        break;
      case 'r':
        m = "vrelu";
        break;
      case 's':
        m = "vsub";
        break;
      case 'S':
        m = "vsel";
        break;
      case 'T':
        m = "vnchwconv";
        break;
      case 'x':
        m = "vmaxs";
        break;
      case 'X':
        m = "vmax";
        break;
      case 'y':
        m = "vcopy";
        break;
      case 'B':
        m = "vbrcb";
        break;
      default:
        break;
    }
    pass(m, n, type);
  }
}

void reducePasses(const char* mnemonic, uint64_t rows, uint64_t n, DType type) {
  const uint64_t lanes = 256 / sizeOf(type);
  const uint64_t folded = rows * std::min(n, lanes);
  if (n > lanes)
    pass(__builtin_strcmp(mnemonic, "vcadd") == 0 ? "vadd" : "vmax", rows * (n - lanes), type);
  Instr i(Pipe::V, mnemonic);
  i.event.repeats = static_cast<uint32_t>(std::max<uint64_t>(rows, (folded + lanes - 1) / lanes));
  i.event.dtype = type;
  i.event.dependent = true;
}

}  // namespace ascsim::adv
