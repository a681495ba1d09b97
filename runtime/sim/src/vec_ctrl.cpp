#include "ascsim/vec_ctrl.h"

namespace ascsim {

void setCtrl(uint64_t bit, bool on) {
  uint64_t& ctrl = core().sprs[kCtrlSpr];
  ctrl = on ? ctrl | bit : ctrl & ~bit;
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
