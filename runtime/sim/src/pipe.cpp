#include "ascsim/pipe.h"

#include "internal.h"

namespace ascsim {

const char* positionName(AscendC::TPosition p) {
  static const char* const names[] = {
      "GM",    "A1",     "A2",      "B1",  "B2",   "C1",        "C2",           "CO1", "CO2",
      "VECIN", "VECOUT", "VECCALC", "SPM", "TSCM", "C2PIPE2GM", "C2PIPE2LOCAL", "?"};
  return names[static_cast<int>(p)];
}

bool Ring::here() const {
  const Mem m = memOf(position);
  if (m == Mem::L1 && isAiv()) return servedByCube();
  return m == Mem::GM || (m == Mem::UB) != isAic();
}

size_t Ring::alloc() {
  if (!here()) return 0;
  used = true;
  if (states.empty())
    fail(kQueue, "the queue at %s has no buffers; call TPipe::InitBuffer first",
         positionName(position));
  for (size_t i = 0; i < states.size(); ++i) {
    const size_t k = (next + i) % states.size();
    BufState& s = *states[k];
    if (s.state != 0) continue;
    next = (k + 1) % states.size();
    s.state = 1;
    // The producer may overwrite only what the consumer has finished with.
    if (s.freeToken != 0) await(producer, s.freed, s.freeToken);
    return k;
  }
  fail(kQueue,
       "no free buffer: all %zu of the queue at %s are in use; a FreeTensor is missing, or "
       "InitBuffer "
       "gives the queue too few",
       states.size(), positionName(position));
}

void Ring::enque(const BufState* state, Pipe from) {
  if (!here()) return;
  for (size_t i = 0; i < states.size(); ++i) {
    if (states[i].get() != state) continue;
    BufState& s = *states[i];
    if (s.state == 0) fail(kQueue, "the tensor was freed before; expected one from AllocTensor");
    if (s.state == 2)
      fail(kQueue, "the tensor is already in the queue at %s", positionName(position));
    if (filled.size() >= std::max<size_t>(depth, states.size()))
      fail(kQueue, "the queue at %s already holds %zu tensors, its depth is %u",
           positionName(position), filled.size(), depth);
    s.state = 2;
    signal(from, s.enqueued, s.enqueToken);
    filled.push_back(i);
    return;
  }
  fail(kQueue, "the tensor is not of this queue (at %s); expected one from its AllocTensor",
       positionName(position));
}

size_t Ring::deque(Pipe to) {
  if (!here()) return 0;
  if (filled.empty())
    fail(kQueue,
         "nothing is in the queue at %s; an EnQue is missing (on the device DeQue would hang)",
         positionName(position));
  const size_t i = filled.front();
  filled.pop_front();
  BufState& s = *states[i];
  s.state = 3;
  await(to, s.enqueued, s.enqueToken);
  return i;
}

void Ring::free(BufState* state, Pipe from) {
  if (!here()) return;
  for (auto& s : states) {
    if (s.get() != state) continue;
    if (s->state == 0)
      fail(kQueue, "the tensor was already freed (by %s)", siteText(s->freedSite).c_str());
    s->state = 0;
    ++s->generation;
    s->freedSite = core().site;
    signal(from, s->freed, s->freeToken);
    return;
  }
  fail(kQueue,
       "the tensor is not of this queue (at %s); expected one from its AllocTensor or DeQue",
       positionName(position));
}

void Ring::finish() {
  if (!insideKernel() || !used || !here()) return;
  size_t held = 0;
  for (auto& s : states) held += s->state != 0;
  // The device does not mind at the end of a kernel; in a loop AllocTensor would fail.
  if (held != 0)
    warn(kQueue, "%zu of %zu buffers of the queue at %s were never freed; a FreeTensor is missing",
         held, states.size(), positionName(position));
}

uint32_t Arena::take(Mem mem, uint32_t bytes, const char* what, bool lenient) {
  const int m = static_cast<int>(mem);
  if (limit[m] == 0) {
    // Of L1 the framework keeps 256 bytes in mixed kernels.
    limit[m] = mem == Mem::L1 && aivPerGroup() > 0 ? options().chip->l1 : memSize(mem);
    // The vector cores of a group share the L1 of their cube core.
    if (mem == Mem::L1 && isAiv() && aivPerGroup() == 2) {
      limit[m] /= 2;
      if (core().subBlock == 1) {
        top[m] = limit[m] / 32 * 32;
        limit[m] = memSize(mem);
      }
    }
  }
  if (top[m] + static_cast<uint64_t>(bytes) > limit[m] && lenient)
    warn(kBounds,
         "%s takes %u bytes of %s, but only %u of %u are left; the part that fits is usable", what,
         bytes, memName(mem), limit[m] - top[m], limit[m]);
  else if (top[m] + static_cast<uint64_t>(bytes) > limit[m])
    fail(kBounds, "%s takes %u bytes of %s, but only %u of %u are left", what, bytes, memName(mem),
         limit[m] - top[m], limit[m]);
  const uint32_t at = top[m];
  top[m] += bytes;
  return at;
}

}  // namespace ascsim

namespace AscendC {

TPipe::TPipe() { Init(); }

TPipe::~TPipe() {
  if (live_ && ascsim::insideKernel() && std::uncaught_exceptions() == 0) Destroy();
}

void TPipe::Init() {
  ascsim::Core& c = ascsim::core();
  if (c.tpipe != nullptr && c.tpipe != this)
    ascsim::report(ascsim::kQueue,
                   "a second TPipe is live on this core; call Destroy on the first one");
  c.tpipe = this;
  live_ = true;
  arena_ = ascsim::Arena{};
}

void TPipe::Destroy() {
  if (!live_) return;
  ascsim::pipeBarrier(ascsim::Pipe::Count);
  DestroyWithoutPipeAll();
}

void TPipe::DestroyWithoutPipeAll() {
  ascsim::Core& c = ascsim::core();
  if (c.tpipe == this) c.tpipe = nullptr;
  for (uint64_t& e : c.eventIds) e = 0;
  arena_ = ascsim::Arena{};
  live_ = false;
}

void TPipe::Reset() {
  ascsim::pipeBarrier(ascsim::Pipe::Count);
  arena_ = ascsim::Arena{};
}

TEventID TPipe::takeEvent(HardEvent e, bool keep) {
  uint64_t& taken = ascsim::core().eventIds[static_cast<int>(e)];
  for (int id = 0; id < 8; ++id) {
    if ((taken >> id) & 1) continue;
    if (keep) taken |= 1ull << id;
    return static_cast<TEventID>(id);
  }
  ascsim::fail(ascsim::kFlag, "no event id is left: all 8 are taken; ReleaseEventID is missing");
}

TPipe* GetTPipePtr() { return static_cast<TPipe*>(ascsim::core().tpipe); }

}  // namespace AscendC
