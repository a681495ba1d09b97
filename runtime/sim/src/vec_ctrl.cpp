#include "ascsim/vec_ctrl.h"

namespace ascsim {

void setCtrl(uint64_t bit, bool on) {
  uint64_t& ctrl = core().sprs[kCtrlSpr];
  ctrl = on ? ctrl | bit : ctrl & ~bit;
  Instr i(Pipe::S, "set_spr");
}

namespace {
uint64_t bitsOf(int first, int last) {
  const int n = last - first + 1;
  return (n == 64 ? ~0ull : (1ull << n) - 1) << first;
}
}  // namespace

int64_t ctrlBits(int first, int last) {
  return static_cast<int64_t>((core().sprs[kCtrlSpr] & bitsOf(first, last)) >> first);
}

void setCtrlBits(int first, int last, int64_t value) {
  const uint64_t bits = bitsOf(first, last);
  if (options().chip->npuArch == 2201 && (first != 48 || last != 48))
    report(kParam,
           "CTRL[%d:%d] is set; this chip documents CTRL[48] only, and no other bit is modelled",
           last, first);
  uint64_t& ctrl = core().sprs[kCtrlSpr];
  ctrl = (ctrl & ~bits) | ((static_cast<uint64_t>(value) << first) & bits);
  Instr i(Pipe::S, "set_spr");
}

void setVectorMask(uint64_t low, uint64_t high) {
  core().mask[0] = low;
  core().mask[1] = high;
  Instr i(Pipe::S, "set_mask");
}

void setMaskMode(bool counter) {
  core().maskCounter = counter;
  Instr i(Pipe::S, "set_mask");
}

}  // namespace ascsim
