// What every phase shares: the cores it is dealt over, ranges, order between pipes.
#pragma once
#include "kernel_operator.h"

namespace xc {
using namespace AscendC;
using i64 = int64_t;

/// The cores of one kind (cube or vector) that share a phase: this one's index, and their number.
struct Team {
  int32_t index, count;
};

/// Items [begin, end).
struct Range {
  i64 begin, end;
  __aicore__ inline i64 size() const { return end - begin; }
};

__aicore__ inline i64 ceilDiv(i64 a, i64 b) { return (a + b - 1) / b; }
__aicore__ inline i64 alignUp(i64 a, i64 b) { return ceilDiv(a, b) * b; }
__aicore__ inline i64 least(i64 a, i64 b) { return a < b ? a : b; }
__aicore__ inline i64 most(i64 a, i64 b) { return a > b ? a : b; }

/// This core's contiguous share of `total` items, in units of `grain`; shares differ by one unit.
__aicore__ inline Range split(i64 total, Team team, i64 grain = 1) {
  const i64 units = ceilDiv(total, grain), each = units / team.count, rest = units % team.count;
  const i64 first = team.index * each + least(team.index, rest);
  const i64 last = first + each + (team.index < rest ? 1 : 0);
  return {least(first * grain, total), least(last * grain, total)};
}

template <class T>
__aicore__ inline GlobalTensor<T> global(GM_ADDR p) {
  GlobalTensor<T> t;
  t.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(p));
  return t;
}

/// What comes after in the second pipe of E waits for what the first has been given so far.
template <HardEvent E>
__aicore__ inline void order(TPipe& pipe) {
  const auto id = static_cast<event_t>(pipe.FetchEventID(E));
  SetFlag<E>(id);
  WaitFlag<E>(id);
}
}  // namespace xc
