// What every high-level vector call is built of: operands, their temporary buffer, and the cost of
// the passes it makes. The arithmetic is done in float and rounded once to the result's type.
#pragma once
#include <string>
#include <vector>

#include "ascsim/pipe.h"

namespace ascsim::adv {

// A tensor operand.
struct Arg {
  Place place;
  DType type = DType::Other;
  uint32_t bytes = 0;  // the tensor's length
};
template <class T>
Arg arg(const AscendC::LocalTensor<T>& t) {
  return {t.place(), dtypeOf<AscendC::PrimT<T>>(), t.GetLength()};
}

// Elements [first, first + n) of an operand, declared to the instruction and converted.
void load(Instr& i, const Arg& a, uint64_t first, uint64_t n, float* to);
void store(Instr& i, const Arg& a, uint64_t first, uint64_t n, const float* from);
// Elements that fill up a row: their values count nowhere, so they may be unwritten.
void loadPadding(Instr& i, const Arg& a, uint64_t first, uint64_t n, float* to);
float convert(DType type, const uint8_t* from, uint64_t index);
void convert(DType type, uint8_t* to, uint64_t index, float value);
// Rounds to a type and back.
float roundTo(DType type, float v);

// The temporary buffer: `tmp` is the caller's sharedTmpBuffer, or null for the part of UB that the
// TPipe has not handed out. It needs `bytes`; what it held is lost. `operands` must not overlap it.
struct Operand {
  const Arg* arg;
  uint64_t elements;
};
void scratch(Instr& i, const Arg* tmp, uint64_t bytes, std::initializer_list<Operand> operands);
// Two operands of n elements may not share bytes.
void separate(const Arg& a, uint64_t na, const char* nameA, const Arg& b, uint64_t nb,
              const char* nameB);
void aligned(Instr& i, const Arg& a, const char* name);
// n elements of the operand lie inside the tensor as it was handed over.
void within(const Arg& a, uint64_t n, const char* name);

// A vector instruction over n elements that only costs time.
void pass(const char* mnemonic, uint64_t n, DType type);
// One pass per letter of `steps` (see adv_core.cpp).
void passes(const char* steps, uint64_t n, DType type);
// Reduction of `rows` rows of n elements each, and the broadcast of the results to a block each.
void reducePasses(const char* mnemonic, uint64_t rows, uint64_t n, DType type);

// The optional trailing temporary buffer of a call.
struct Tmp {
  Tmp() = default;
  Tmp(const AscendC::LocalTensor<uint8_t>& t) : given(true), value(arg(t)) {}
  bool given = false;
  Arg value;
  const Arg* get() const { return given ? &value : nullptr; }
};

template <class T>
constexpr bool isHalfOrFloat = std::is_same_v<T, half> || std::is_same_v<T, float>;

}  // namespace ascsim::adv
