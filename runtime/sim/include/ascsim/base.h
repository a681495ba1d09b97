// Keywords of the language extension, enumerations, and the source location every API call carries.
#pragma once
#include <cstdint>

#include "ascsim/numeric.h"

#define __aicore__
#define __global__
#define __gm__
#define __ubuf__
#define __cbuf__
#define __ca__
#define __cb__
#define __cc__
#define __fbuf__
#define __biasbuf__
#define __vector__
#define __cube__
#define __mix__(...)
#define __inout_pipe__(...)
#define __in__
#define __out__
#define __sync_noalias__
#define __sync_alias__
#define __sync_in__
#define __sync_out__
#define __inline__ inline
#define __WORKGROUP_ASCSIM__ 1
#define __ASCENDC_SIM__ 1
#ifndef GM_ADDR
#define GM_ADDR __gm__ uint8_t*
#endif
#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif
#ifndef __disable_kernel_type_autoinfer__
#define __disable_kernel_type_autoinfer__
#endif

enum pipe_t : int {
  PIPE_S = 0,
  PIPE_V,
  PIPE_M,
  PIPE_MTE1,
  PIPE_MTE2,
  PIPE_MTE3,
  PIPE_ALL,
  PIPE_MTE4,
  PIPE_MTE5,
  PIPE_V2,
  PIPE_FIX,
};

enum event_t : int {
  EVENT_ID0 = 0,
  EVENT_ID1,
  EVENT_ID2,
  EVENT_ID3,
  EVENT_ID4,
  EVENT_ID5,
  EVENT_ID6,
  EVENT_ID7
};
using TEventID = int8_t;

namespace ascsim {

// Where in the user's source an API was called. Every public function ends with a defaulted Loc.
struct Loc {
  const char* file;
  int line;
  static constexpr Loc current(const char* f = __builtin_FILE(), int l = __builtin_LINE()) {
    return Loc{f, l};
  }

 private:
  constexpr Loc(const char* f, int l) : file(f), line(l) {}
  friend struct Core;
  friend struct KernelRun;
};

enum class Pipe : uint8_t { S, V, M, MTE1, MTE2, MTE3, FIX, Count };
constexpr int kPipes = static_cast<int>(Pipe::Count);
const char* pipeName(Pipe p);

enum class Mem : uint8_t { GM, UB, L1, L0A, L0B, L0C, BT, FB, Count };
constexpr int kMems = static_cast<int>(Mem::Count);
const char* memName(Mem m);

constexpr Pipe toPipe(pipe_t p) {
  switch (p) {
    case PIPE_V:
      return Pipe::V;
    case PIPE_M:
      return Pipe::M;
    case PIPE_MTE1:
      return Pipe::MTE1;
    case PIPE_MTE2:
      return Pipe::MTE2;
    case PIPE_MTE3:
      return Pipe::MTE3;
    case PIPE_FIX:
      return Pipe::FIX;
    case PIPE_S:
      return Pipe::S;
    default:
      return Pipe::Count;
  }
}

}  // namespace ascsim

namespace AscendC {

enum class TPosition : uint8_t {
  GM,
  A1,
  A2,
  B1,
  B2,
  C1,
  C2,
  CO1,
  CO2,
  VECIN,
  VECOUT,
  VECCALC,
  LCM = VECCALC,
  SPM,
  SHM = SPM,
  TSCM,
  C2PIPE2GM,
  C2PIPE2LOCAL,
  MAX
};
using QuePosition = TPosition;

enum class Hardware : uint8_t { GM, UB, L1, L0A, L0B, L0C, BIAS, FIXBUF, MAX };

// Event directions: the pipe that sets, the pipe that waits.
enum class HardEvent : uint8_t {
  MTE2_MTE1,
  MTE1_MTE2,
  MTE1_M,
  M_MTE1,
  MTE2_V,
  V_MTE2,
  MTE3_V,
  V_MTE3,
  M_V,
  V_M,
  V_V,
  MTE3_MTE1,
  MTE1_MTE3,
  MTE1_V,
  MTE2_M,
  M_MTE2,
  V_MTE1,
  M_FIX,
  FIX_M,
  MTE3_MTE2,
  MTE2_MTE3,
  S_V,
  V_S,
  S_MTE2,
  MTE2_S,
  S_MTE3,
  MTE3_S,
  MTE2_FIX,
  FIX_MTE2,
  FIX_S,
  M_S,
  S_M,
  FIX_MTE3,
  MTE3_FIX,
  MTE1_FIX,
  FIX_MTE1,
  FIX_FIX,
  FIX_V,
  V_FIX,
  MTE1_S,
  S_MTE1,
  S_FIX,
  MAX
};

constexpr uint32_t ONE_BLK_SIZE = 32;
constexpr uint32_t DEFAULT_C0_SIZE = 32;
constexpr uint32_t ONE_REPEAT_BYTE_SIZE = 256;
constexpr uint32_t BLOCK_CUBE = 16;
constexpr uint32_t DEFAULT_BLK_NUM = 8;
constexpr uint32_t DEFAULT_BLK_STRIDE = 1;
constexpr uint32_t DEFAULT_REPEAT_STRIDE = 8;
constexpr uint32_t HALF_DEFAULT_REPEAT_STRIDE = 4;
constexpr uint64_t MASK_PLACEHOLDER = 0;
[[maybe_unused]] constexpr uint64_t MASK_PLACEHOLDER_LIST[2] = {0, 0};
constexpr int32_t MAX_REPEAT_TIMES = 255;
constexpr uint16_t MAX_BLOCK_COUNT = 4095;

enum class MaskMode : uint8_t { NORMAL = 0, COUNTER };

}  // namespace AscendC

namespace ascsim {
struct EventPipes {
  Pipe src;
  Pipe dst;
};
EventPipes eventPipes(AscendC::HardEvent e);
}  // namespace ascsim
