// The Matmul object's calls: Iterate, IterateAll, IterateBatch, and what hands results over.
#include <algorithm>
#include <cstring>

#include "ascsim/matmul_engine.h"
#include "internal.h"
#include "matmul_work.h"

namespace ascsim {
void postSignal(uint64_t key);
void awaitSignal(uint64_t key, const char* what);
}  // namespace ascsim

namespace ascsim::mm {
namespace {
uint64_t pairKey(int block, int index, int what) {
  return 0x4d4d000000000000ull | static_cast<uint64_t>(block) << 16 |
         static_cast<uint64_t>(index) << 4 | static_cast<uint64_t>(what);
}
}  // namespace

void Engine::finish(bool sync, const HandOver& done) {
  if (isAic()) return;
  if (sync) {
    takeOver(done, Pipe::S);
    pending_ = false;
  } else {
    done_ = done;
    pending_ = true;
  }
}

bool Engine::iterate(bool sync, bool partial, const Sink* co1) {
  if (!active()) return false;
  if (desc_.client && isAic())
    fail(kParam, "Iterate does not exist with enableMixDualMaster; use IterateAll");
  if (!running_) start();
  const size_t total = order_.size() * static_cast<size_t>(kParts_);
  if (next_ >= total) {
    running_ = false;
    return false;
  }
  if (partial && (sm_ > t_.baseM || sn_ > t_.baseN))
    report(kParam,
           "enPartialSum needs singleCoreM == baseM and singleCoreN == baseN; they are %d, %d and "
           "%d, %d",
           sm_, sn_, t_.baseM, t_.baseN);
  const bool all = !sync && desc_.client;
  if (all && workspace_.address == 0)
    fail(kParam,
         "an asynchronous Iterate keeps its results in global memory: call SetWorkspace before it");
  HandOver done;
  {
    AsCube cube;
    const size_t per = desc_.cfg.scheduleType == ScheduleType::OUTER_PRODUCT && !all ? 2 : 1;
    if (all) {
      Sink sink;
      sink.sequential = true;
      for (; next_ < total; ++next_) {
        Tile& t = prepare(next_, 0, false);
        compute(t, false, nullptr);
        sink.place = workspace_;
        sink.place.address += static_cast<uint64_t>(next_) *
                              bytesFor(desc_.c.dtype, static_cast<uint64_t>(t_.baseM) *
                                                          static_cast<uint64_t>(t_.baseN));
        store(t, sink);
      }
      async_ = true;
    } else {
      live_ = 0;
      for (size_t i = 0; i < per && next_ < total; ++i, ++next_) {
        Tile& t = prepare(next_, i, partial);
        compute(t, partial, co1);
        ++live_;
      }
    }
    done = handOver(1u << static_cast<int>(all ? Pipe::FIX : Pipe::M));
  }
  if (all)
    finish(false, done);
  else if (co1 != nullptr)
    finish(true, done);
  return true;
}

uint64_t Engine::imageBytes(const Sink& sink) const {
  const uint64_t m = alignUp<uint64_t>(static_cast<uint64_t>(std::max(sm_, m_)), 16);
  const uint64_t n = alignUp<uint64_t>(static_cast<uint64_t>(std::max(sn_, orgN())), 32);
  return std::max(sink.bytes, bytesFor(desc_.c.dtype, m * n));
}

void Engine::copyToUb(const Place& from, const Sink& to, bool wait) {
  {
    Instr i(Pipe::MTE2, "mte_gm_ub");
    i.align(to.place, 32, "the destination of C in UB");
    i.readPadding(Mem::GM, from.address, to.bytes);
    i.write(to.place, 0, to.bytes);
    i.event.src = Mem::GM;
    i.event.dst = Mem::UB;
    i.event.bytes = to.bytes;
    i.event.bursts = 1;
    i.event.dtype = desc_.c.dtype;
    i.event.gmAddress = from.address;
    i.event.gmSpan = to.bytes;
    size_t room = 0, allocation = 0;
    if (gmFind(reinterpret_cast<const void*>(from.address), &room, &allocation) &&
        room + to.bytes <= allocation && to.place.address + to.bytes <= memSize(Mem::UB))
      std::memcpy(core().ptr(Mem::UB, to.place.address),
                  reinterpret_cast<const void*>(from.address), to.bytes);
  }
  if (wait) waitGetTensorC();
}

void Engine::getTensorC(bool sync, const Sink& sink) {
  if (!active()) return;
  if (async_) {
    if (sink.place.mem != Mem::UB)
      fail(kParam,
           "after an asynchronous Iterate, GetTensorC reads the workspace into UB; to global "
           "memory it needs the synchronous form");
    const Place from = nextFromWorkspace();
    copyToUb(from, sink, sync);
    return;
  }
  if (live_ == 0) fail(kParam, "there is no result to take: call Iterate before each GetTensorC");
  Sink to = sink;
  if (sink.place.mem == Mem::L1) fail(kChip, "C to L1 (TSCM) is not modelled");
  if (sink.place.mem == Mem::UB) {
    if (isAic())
      fail(kChip,
           "a cube core of this chip cannot write UB: use C in global memory with "
           "ASCENDC_CUBE_ONLY");
    to.place = Place{};
    to.place.mem = Mem::GM;
    to.place.address = reinterpret_cast<uintptr_t>(scratchC_.need(imageBytes(sink)));
  }
  HandOver done;
  {
    AsCube cube;
    for (size_t i = 0; i < live_; ++i) {
      store(tiles_[i], to);
      if (to.sequential)
        to.place.address += bytesFor(
            desc_.c.dtype, static_cast<uint64_t>(tiles_[i].m) * static_cast<uint64_t>(tiles_[i].n));
    }
    done = handOver(1u << static_cast<int>(Pipe::FIX));
  }
  finish(true, done);
  if (sink.place.mem == Mem::UB) {
    Place from;
    from.mem = Mem::GM;
    from.address = reinterpret_cast<uintptr_t>(scratchC_.need(0));
    copyToUb(from, sink, true);
  }
}

Place Engine::nextFromWorkspace() {
  if (!async_)
    fail(kParam,
         "the results of a synchronous Iterate are not in the workspace: use Iterate<false>");
  if (pending_) {
    // Only the transfer out of the workspace waits, as the library does.
    takeOver(done_, Pipe::MTE2);
    pending_ = false;
  }
  Place p = workspace_;
  p.address += readAt_;
  readAt_ +=
      bytesFor(desc_.c.dtype, static_cast<uint64_t>(t_.baseM) * static_cast<uint64_t>(t_.baseN));
  return p;
}

void Engine::runAll(const Sink& sink) {
  const size_t total = order_.size() * static_cast<size_t>(kParts_);
  Sink to = sink;
  for (; next_ < total; ++next_) {
    Tile& t = prepare(next_, 0, false);
    compute(t, false, nullptr);
    store(t, to);
    if (to.sequential)
      to.place.address +=
          bytesFor(desc_.c.dtype, static_cast<uint64_t>(t.m) * static_cast<uint64_t>(t.n));
  }
  live_ = 0;
  running_ = false;
}

void Engine::iterateAll(bool sync, const Sink& sink, bool fake) {
  if (!active() || fake) return;
  const bool dual = desc_.client && desc_.cfg.enableMixDualMaster;
  const int block = core().block;
  if (dual && isAiv()) {
    awaitSignal(pairKey(block, index_, 8 + core().subBlock), "IterateAll of the cube core");
    return;
  }
  const bool shared =
      desc_.client && !dual && desc_.a.ibShare && desc_.b.ibShare && aivPerGroup() == 2;
  if (shared && core().subBlock == 1) {
    // Both vector cores call; the cube core computes once for the two.
    postSignal(pairKey(block, index_, 0));
    awaitSignal(pairKey(block, index_, 1), "IterateAll of the first vector core of the group");
    return;
  }
  if (shared)
    awaitSignal(pairKey(block, index_, 0), "IterateAll of the second vector core of the group");
  start();
  if (sink.place.mem == Mem::L1) fail(kChip, "C to L1 (TSCM) is not modelled");
  Sink to = sink;
  if (sink.place.mem == Mem::UB) {
    if (isAic()) fail(kChip, "a cube core of this chip cannot write UB: use C in global memory");
    to.place = Place{};
    to.place.mem = Mem::GM;
    to.place.address = reinterpret_cast<uintptr_t>(scratchC_.need(imageBytes(sink)));
  }
  HandOver done;
  {
    AsCube cube;
    runAll(to);
    done = handOver(1u << static_cast<int>(Pipe::FIX));
  }
  finish(sync || shared || sink.place.mem == Mem::UB, done);
  if (sink.place.mem == Mem::UB) copyToUb(to.place, sink, true);
  if (shared) postSignal(pairKey(block, index_, 1));
  if (dual) {
    pipeBarrier(Pipe::Count);
    for (int i = 0; i < aivPerGroup(); ++i) postSignal(pairKey(block, index_, 8 + i));
  }
}

void Engine::iterateBatch(bool sync, const Sink& sink, int loops, int batchA, int batchB,
                          uint32_t strideA, uint32_t strideB, bool partial) {
  if (!active()) return;
  if (batchA <= 0 || batchB <= 0 || (batchA % batchB != 0 && batchB % batchA != 0))
    fail(kParam,
         "batchA is %d and batchB %d; expected positive numbers, one a multiple of the other",
         batchA, batchB);
  if (partial) fail(kChip, "enPartialSum of IterateBatch is not modelled");
  const int batchC = std::max(batchA, batchB);
  const LayoutMode layout =
      desc_.a.layout == LayoutMode::NONE ? LayoutMode::NORMAL : desc_.a.layout;
  const LayoutMode layoutC =
      desc_.c.layout == LayoutMode::NONE ? LayoutMode::NORMAL : desc_.c.layout;
  const bool normal = layout == LayoutMode::NORMAL;
  const Source a = a_, b = b_, bias = bias_;
  auto u = [](int v) { return static_cast<uint64_t>(std::max(v, 0)); };
  // Offset of a matrix of a batch and the length of its rows.
  auto place = [&](LayoutMode l, uint64_t i, int B, int S, int N, int G, int D, uint64_t plain,
                   uint64_t& ld) -> uint64_t {
    ld = 0;
    const uint64_t ng = u(N) * u(G);
    switch (l) {
      case LayoutMode::BSNGD:
        ld = ng * u(D);
        return ng == 0 ? 0 : i / ng * u(S) * ld + i % ng * u(D);
      case LayoutMode::SBNGD:
        ld = u(B) * ng * u(D);
        return i * u(D);
      case LayoutMode::BNGS1S2:
        ld = u(D);
        return i * u(S) * u(D);
      default:
        return i * plain;
    }
  };
  const int group = normal ? 1 : std::max(t_.ALayoutInfoG, t_.BLayoutInfoG);
  const bool reduce = !normal && group > 1 && t_.CLayoutInfoG == 1;
  Sink to = sink;
  const uint64_t cTile =
      static_cast<uint64_t>(sm_) * (desc_.c.format == CubeFormat::ND_ALIGN
                                        ? alignUp<uint64_t>(u(sn_), c0(desc_.c.dtype))
                                        : u(sn_));
  if (sink.place.mem == Mem::UB) {
    if (isAic()) fail(kChip, "a cube core of this chip cannot write UB");
    to.place = Place{};
    to.place.mem = Mem::GM;
    to.place.address = reinterpret_cast<uintptr_t>(
        scratchC_.need(std::max(sink.bytes, bytesFor(desc_.c.dtype, cTile * u(batchC)))));
  }
  const Place origin = to.place;
  HandOver done;
  for (int l = 0; l < loops; ++l)
    for (int i = 0; i < batchC; ++i) {
      const uint64_t ia = u(l * batchA + i / (batchC / batchA)),
                     ib = u(l * batchB + i / (batchC / batchB));
      uint64_t ic = u(l * batchC + i);
      const bool add = reduce && ic % u(group) != 0,
                 last = !reduce || ic % u(group) == u(group) - 1;
      if (reduce) ic /= u(group);
      a_ = a, b_ = b, bias_ = bias;
      a_.place.address +=
          bytesFor(desc_.a.dtype, place(layout, ia, t_.ALayoutInfoB, t_.ALayoutInfoS,
                                        t_.ALayoutInfoN, t_.ALayoutInfoG, t_.ALayoutInfoD,
                                        strideA != 0 ? strideA : u(m_) * u(ka_), ldA_));
      b_.place.address +=
          bytesFor(desc_.b.dtype, place(layout, ib, t_.BLayoutInfoB, t_.BLayoutInfoS,
                                        t_.BLayoutInfoN, t_.BLayoutInfoG, t_.BLayoutInfoD,
                                        strideB != 0 ? strideB : u(kb_) * u(n_), ldB_));
      for (Source* s : {&a_, &b_})
        if (s->place.mem != Mem::GM) s->bytes = s->place.limit - s->place.address;
      if (bias.set && desc_.cfg.isBiasBatch)
        bias_.place.address += bytesFor(desc_.bias.dtype, ic * u(normal ? n_ : t_.CLayoutInfoS2));
      to.place = origin;
      if (sink.place.mem == Mem::UB) {
        to.place.address += bytesFor(desc_.c.dtype, ic * cTile);
        ldC_ = u(sn_);
      } else {
        to.place.address += bytesFor(
            desc_.c.dtype, place(layoutC, ic, t_.CLayoutInfoB, t_.CLayoutInfoS1, t_.CLayoutInfoN,
                                 t_.CLayoutInfoG, t_.CLayoutInfoS2, u(m_) * u(orgN()), ldC_));
      }
      start();
      AsCube cube;
      if (reduce) {
        if (order_.size() != 1)
          fail(kChip, "a reduction over the G axis is modelled for one base block per matrix only");
        Tile& t = prepare(0, 0, add);
        compute(t, add, nullptr);
        if (last) store(t, to);
        live_ = 0;
        running_ = false;
      } else {
        runAll(to);
      }
      if (l == loops - 1 && i == batchC - 1) done = handOver(1u << static_cast<int>(Pipe::FIX));
    }
  a_ = a, b_ = b, bias_ = bias;
  ldA_ = ldB_ = ldC_ = 0;
  readAt_ = 0;
  finish(sync || sink.place.mem == Mem::UB, done);
  if (sink.place.mem == Mem::UB) copyToUb(origin, sink, true);
}

Place Engine::nextBatch(int batchA, int batchB) {
  if (pending_) {
    takeOver(done_, Pipe::S);
    pending_ = false;
  }
  Place p = workspace_;
  p.address += readAt_;
  readAt_ += bytesFor(desc_.c.dtype, static_cast<uint64_t>(std::max(batchA, batchB)) *
                                         static_cast<uint64_t>(sm_) * static_cast<uint64_t>(sn_));
  return p;
}

void Engine::waitAll() {
  if (!active() || !pending_) return;
  takeOver(done_, Pipe::S);
  pending_ = false;
}

void Engine::waitGetTensorC() {
  if (isAic()) return;
  Clock now;
  uint64_t token = 0;
  signal(Pipe::MTE2, now, token);
  await(Pipe::V, now, token);
}

void Engine::end() {
  running_ = false;
  async_ = false;
  live_ = 0;
}

MatrixOffset Engine::offsetC() const {
  MatrixOffset o;
  if (live_ == 0) return o;
  const Tile& t = tiles_[0];
  o.row = t.row * t_.baseM;
  o.col = t.col * t_.baseN;
  o.offset = o.row * orgN() + o.col;
  o.height = t.m;
  o.width = t.n;
  return o;
}

}  // namespace ascsim::mm
