// Flags, barriers, cross-core synchronisation, and what a core can ask about itself.
#pragma once
#include "ascsim/pipe.h"

#define ASCEND_IS_AIC (::ascsim::isAic())
#define ASCEND_IS_AIV (::ascsim::isAiv())
#define ASCEND_IS_NOT_AIC (!::ascsim::isAic())
#define ASCEND_IS_NOT_AIV (!::ascsim::isAiv())

namespace AscendC {

template <HardEvent event>
void SetFlag(int32_t id, Loc loc = Loc::current()) {
  ascsim::Api api("SetFlag", loc);
  const ascsim::EventPipes p = ascsim::eventPipes(event);
  ascsim::setFlag(p.src, p.dst, id);
}

template <HardEvent event>
void WaitFlag(int32_t id, Loc loc = Loc::current()) {
  ascsim::Api api("WaitFlag", loc);
  const ascsim::EventPipes p = ascsim::eventPipes(event);
  ascsim::waitFlag(p.src, p.dst, id);
}

template <pipe_t src, pipe_t dst>
class TQueSync {
 public:
  void SetFlag(TEventID id, Loc loc = Loc::current()) {
    ascsim::Api api("TQueSync::SetFlag", loc);
    ascsim::setFlag(ascsim::toPipe(src), ascsim::toPipe(dst), id);
  }
  void WaitFlag(TEventID id, Loc loc = Loc::current()) {
    ascsim::Api api("TQueSync::WaitFlag", loc);
    ascsim::waitFlag(ascsim::toPipe(src), ascsim::toPipe(dst), id);
  }
};

template <pipe_t pipe>
void PipeBarrier(Loc loc = Loc::current()) {
  static_assert(pipe != PIPE_S,
                "PipeBarrier<PIPE_S> does not exist: the scalar unit runs in order");
  ascsim::Api api("PipeBarrier", loc);
  ascsim::pipeBarrier(pipe == PIPE_ALL ? ascsim::Pipe::Count : ascsim::toPipe(pipe));
}

template <uint8_t mode, pipe_t pipe>
void CrossCoreSetFlag(uint16_t flag, Loc loc = Loc::current()) {
  static_assert(pipe != PIPE_ALL && (pipe != PIPE_S || mode == 4),
                "CrossCoreSetFlag takes one pipe, not PIPE_ALL or PIPE_S");
  ascsim::Api api("CrossCoreSetFlag", loc);
  ascsim::crossSet(mode, ascsim::toPipe(pipe), flag);
}

// On 910B and 910_93 the wait stops every pipe, whatever the template arguments say.
template <uint8_t mode = 0, pipe_t pipe = PIPE_S>
void CrossCoreWaitFlag(uint16_t flag, Loc loc = Loc::current()) {
  ascsim::Api api("CrossCoreWaitFlag", loc);
  const bool onePipe = ascsim::options().chip->npuArch >= 3510 && pipe != PIPE_S;
  ascsim::crossWait(mode, onePipe ? ascsim::toPipe(pipe) : ascsim::Pipe::S, flag);
}

inline int64_t GetBlockNum() { return ascsim::launchInfo().blocks; }
inline int64_t GetSubBlockIdx() { return ascsim::core().subBlock; }
inline int64_t GetSubBlockNum() {
  const int n = ascsim::aivPerGroup();
  return ascsim::isAic() || n == 0 ? 1 : n;
}
inline int64_t GetTaskRation() { return GetSubBlockNum(); }
inline int64_t GetTaskRatio() { return GetSubBlockNum(); }
inline int64_t GetBlockIdx() {
  const ascsim::Core& c = ascsim::core();
  return c.aic ? c.block : c.block * GetSubBlockNum() + c.subBlock;
}
inline void InitSocState() {
  ascsim::Core& c = ascsim::core();
  c.atomicOp = 0;
  c.maskCounter = false;
  c.mask[0] = c.mask[1] = ~0ull;
}

}  // namespace AscendC

namespace ascsim {
// The built-in variables of the language extension.
struct BlockIndex {
  operator int64_t() const { return core().block; }
};
struct BlockCount {
  operator int64_t() const { return launchInfo().blocks; }
};
}  // namespace ascsim
static constexpr ascsim::BlockIndex block_idx{};
static constexpr ascsim::BlockCount block_num{};
inline int64_t get_block_idx() { return ascsim::core().block; }
inline int64_t get_block_num() { return ascsim::launchInfo().blocks; }
inline int64_t get_subblockid() { return ascsim::core().subBlock; }
inline int64_t get_subblockdim() { return AscendC::GetSubBlockNum(); }
