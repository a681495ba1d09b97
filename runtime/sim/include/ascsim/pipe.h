// TPipe, TQue, TQueBind, TBuf, TBufPool, LocalMemAllocator (docs: resource management).
#pragma once
#include <deque>
#include <exception>
#include <vector>

#include "ascsim/tensor.h"

namespace ascsim {

const char* positionName(AscendC::TPosition p);

// The buffers of one queue. States live on the heap: tensors point at them.
struct Ring {
  AscendC::TPosition position;  // decides the memory
  Pipe producer;
  Pipe consumer;
  uint32_t bytes = 0;
  std::vector<std::unique_ptr<BufState>> states;
  std::vector<uint32_t> addresses;
  std::deque<size_t> filled;  // in order of EnQue
  size_t next = 0;
  uint32_t depth = 1;
  bool used = false;

  size_t alloc();
  void enque(const BufState* state, Pipe from);
  size_t deque(Pipe to);
  void free(BufState* state, Pipe from);
  bool here() const;  // this core type has the memory
  void finish();      // reports buffers that were never freed
};

// Bump allocation of the on-chip memories by the live TPipe (or a pool carved out of it).
struct Arena {
  uint32_t top[kMems] = {};
  uint32_t limit[kMems] = {};
  // lenient: what does not fit is a warning; its use beyond the memory is the error.
  uint32_t take(Mem mem, uint32_t bytes, const char* what, bool lenient = false);
};

}  // namespace ascsim

namespace AscendC {

using TBufHandle = uint8_t*;
constexpr uint32_t defaultBufIDSize = 16;

struct TQueConfig {
  bool nd2nz = false;
  bool nz2nd = false;
  bool scmBlockGroup = false;
  uint32_t bufferLen = 0;
  uint32_t bufferNumber = 0;
  uint32_t consumerSize = 0;
  TPosition consumer[8] = {};
  bool enableStaticEvtId = false;
  bool enableLoopQueue = false;
};
constexpr TQueConfig GetTQueConfig(bool nd2nz = false, bool nz2nd = false,
                                   bool scmBlockGroup = false, uint32_t bufferLen = 0,
                                   uint32_t bufferNumber = 0, uint32_t consumerSize = 0,
                                   const TPosition* consumer = nullptr,
                                   bool enableStaticEvtId = false, bool enableLoopQueue = false) {
  TQueConfig c;
  c.nd2nz = nd2nz;
  c.nz2nd = nz2nd;
  c.scmBlockGroup = scmBlockGroup;
  c.bufferLen = bufferLen;
  c.bufferNumber = bufferNumber;
  c.consumerSize = consumerSize;
  for (uint32_t i = 0; i < consumerSize && i < 8; ++i) c.consumer[i] = consumer[i];
  c.enableStaticEvtId = enableStaticEvtId;
  c.enableLoopQueue = enableLoopQueue;
  return c;
}

// src and dst decide the memory and the pair of pipes that hand over.
template <TPosition src, TPosition dst, int32_t depth, auto mask = 0>
class TQueBind {
 public:
  static constexpr TPosition srcPosition = src;
  static constexpr TPosition dstPosition = dst;
  static constexpr bool isTQue = true;
  // A queue that starts at GM or ends there lives where its other end is.
  static constexpr TPosition memPosition = src == TPosition::GM ? dst : src;

  TQueBind() {
    ring_.position = memPosition;
    ring_.producer = ascsim::producerPipe(src);
    ring_.consumer = src == dst ? ascsim::consumerPipe(dst) : consumerOf();
    ring_.depth = depth > 0 ? depth : 1;
  }
  TQueBind(const TQueBind&) = delete;
  TQueBind& operator=(const TQueBind&) = delete;
  ~TQueBind() {
    if (std::uncaught_exceptions() == 0) ring_.finish();
  }

  template <class T>
  LocalTensor<T> AllocTensor(Loc loc = Loc::current()) {
    ascsim::Api api("AllocTensor", loc);
    return tensor<T>(ring_.alloc());
  }
  template <class T>
  void AllocTensor(LocalTensor<T>& t, Loc loc = Loc::current()) {
    ascsim::Api api("AllocTensor", loc);
    t = tensor<T>(ring_.alloc());
  }
  template <class T>
  bool EnQue(const LocalTensor<T>& t, Loc loc = Loc::current()) {
    ascsim::Api api("EnQue", loc);
    ring_.enque(t.state(), ring_.producer);
    return true;
  }
  template <TPosition srcUser, TPosition dstUser, class T>
  bool EnQue(const LocalTensor<T>& t, Loc loc = Loc::current()) {
    ascsim::Api api("EnQue", loc);
    ring_.enque(t.state(), ascsim::producerPipe(srcUser));
    return true;
  }
  template <class T>
  LocalTensor<T> DeQue(Loc loc = Loc::current()) {
    ascsim::Api api("DeQue", loc);
    return tensor<T>(ring_.deque(ring_.consumer));
  }
  template <class T>
  void DeQue(LocalTensor<T>& t, Loc loc = Loc::current()) {
    ascsim::Api api("DeQue", loc);
    t = tensor<T>(ring_.deque(ring_.consumer));
  }
  template <TPosition srcUser, TPosition dstUser, class T>
  LocalTensor<T> DeQue(Loc loc = Loc::current()) {
    ascsim::Api api("DeQue", loc);
    return tensor<T>(ring_.deque(ascsim::consumerPipe(dstUser)));
  }
  template <class T>
  void FreeTensor(const LocalTensor<T>& t, Loc loc = Loc::current()) {
    ascsim::Api api("FreeTensor", loc);
    ring_.free(t.state(), ring_.consumer);
  }
  void FreeAllEvent() {}
  bool VacantInQue() const { return ring_.filled.size() < ring_.depth; }
  bool HasTensorInQue() const { return !ring_.filled.empty(); }
  int32_t GetTensorCountInQue() const { return static_cast<int32_t>(ring_.filled.size()); }
  bool HasIdleBuffer() const {
    for (const auto& s : ring_.states)
      if (s->state == 0) return true;
    return false;
  }
  ascsim::Ring& ring() { return ring_; }

 private:
  static ascsim::Pipe consumerOf() {
    // A bind that ends in GM or VECOUT is emptied by MTE3 (from UB) or FIX (from L0C).
    if (src == TPosition::CO1) return ascsim::Pipe::FIX;
    if (dst == TPosition::GM)
      return ascsim::memOf(src) == ascsim::Mem::L0C ? ascsim::Pipe::FIX : ascsim::Pipe::MTE3;
    return ascsim::consumerPipe(dst);
  }
  template <class T>
  LocalTensor<T> tensor(size_t i) {
    LocalTensor<T> t;
    if (!ring_.here()) {
      t.adopt(memPosition, 0, ring_.bytes, ~0ull, nullptr, 0);
      return t;
    }
    ascsim::BufState* s = ring_.states[i].get();
    t.adopt(memPosition, ring_.addresses[i], ring_.bytes, ring_.addresses[i] + ring_.bytes, s,
            s->generation);
    return t;
  }
  ascsim::Ring ring_;
};

template <TPosition pos, int32_t depth, auto mask = 0>
class TQue : public TQueBind<pos, pos, depth, mask> {};

template <TPosition pos, int32_t depth = 1>
using TSCM_ = TQueBind<TPosition::GM, TPosition::TSCM, depth>;
template <TPosition pos, int32_t depth = 1, auto mask = 0>
class TSCM : public TQueBind<pos, TPosition::TSCM, depth, mask> {};

template <TPosition pos = TPosition::LCM>
class TBuf {
 public:
  static constexpr TPosition position = pos;
  static constexpr bool isTQue = false;
  template <class T>
  LocalTensor<T> Get() {
    return GetBytes<T>(0, bytes_);
  }
  template <class T>
  LocalTensor<T> Get(uint32_t elements) {
    return GetBytes<T>(0, static_cast<uint32_t>(ascsim::bytesOf<PrimT<T>>(elements)));
  }
  // size in elements, bufOffset in bytes
  template <class T>
  LocalTensor<T> GetWithOffset(uint32_t size, uint32_t bufOffset) {
    return GetBytes<T>(bufOffset, static_cast<uint32_t>(ascsim::bytesOf<PrimT<T>>(size)));
  }
  template <class T>
  LocalTensor<T> AllocTensor() {
    return Get<T>();
  }
  template <class T>
  void FreeTensor(const LocalTensor<T>&) {}
  template <class T>
  bool EnQue(const LocalTensor<T>&) {
    return true;
  }
  template <class T>
  LocalTensor<T> DeQue() {
    return Get<T>();
  }
  uint32_t GetBufLen() const { return bytes_; }
  void place(uint32_t address, uint32_t bytes) {
    address_ = address;
    bytes_ = bytes;
  }

 private:
  template <class T>
  LocalTensor<T> GetBytes(uint32_t offset, uint32_t bytes) {
    LocalTensor<T> t;
    t.adopt(pos, address_ + offset, bytes, static_cast<uint64_t>(address_) + bytes_, nullptr, 0);
    return t;
  }
  uint32_t address_ = 0;
  uint32_t bytes_ = 0;
};

// A part of the memory that hands out buffers on its own; pools may share the same bytes.
template <TPosition pos, uint32_t bufIDSize = defaultBufIDSize>
class TBufPool {
 public:
  template <class Q>
  bool InitBuffer(Q& queue, uint8_t num, uint32_t len, Loc loc = Loc::current());
  template <TPosition p>
  bool InitBuffer(TBuf<p>& buf, uint32_t len, Loc loc = Loc::current());
  template <class P>
  bool InitBufPool(P& pool, uint32_t len, Loc loc = Loc::current());
  template <class P, class U>
  bool InitBufPool(P& pool, uint32_t len, U& share, Loc loc = Loc::current());
  void Reset() { arena_.top[mem()] = start_; }
  void carve(uint32_t start, uint32_t bytes) {
    start_ = start;
    arena_.top[mem()] = start;
    arena_.limit[mem()] = start + bytes;
  }
  uint32_t start() const { return start_; }
  uint32_t length() const { return arena_.limit[mem()] - start_; }

 private:
  static int mem() { return static_cast<int>(ascsim::memOf(pos)); }
  ascsim::Arena arena_;
  uint32_t start_ = 0;
};

namespace detail {
template <class Q>
void placeQueue(Q& queue, ascsim::Arena& arena, uint8_t num, uint32_t len) {
  ascsim::Ring& r = queue.ring();
  r.bytes = (len + 31) / 32 * 32;
  for (uint8_t i = 0; i < num; ++i) {
    r.states.push_back(std::make_unique<ascsim::BufState>());
    r.states.back()->queue = ascsim::positionName(r.position);
    // CO2 is GM on these chips: it has no on-chip bytes to take.
    r.addresses.push_back(
        r.here() && ascsim::memOf(r.position) != ascsim::Mem::GM
            ? arena.take(ascsim::memOf(r.position), r.bytes, "InitBuffer of a queue")
            : 0);
  }
}
template <TPosition p>
void placeBuf(TBuf<p>& buf, ascsim::Arena& arena, uint32_t len) {
  const uint32_t bytes = (len + 31) / 32 * 32;
  const ascsim::Mem mem = ascsim::memOf(p);
  const bool here = (mem == ascsim::Mem::UB) != ascsim::isAic() ||
                    (mem == ascsim::Mem::L1 && ascsim::servedByCube());
  buf.place(here ? arena.take(mem, bytes, "InitBuffer of a TBuf", true) : 0, bytes);
}
}  // namespace detail

class TPipe {
 public:
  TPipe();
  ~TPipe();
  TPipe(const TPipe&) = delete;
  TPipe& operator=(const TPipe&) = delete;
  void Init();
  void Destroy();
  void DestroyWithoutPipeAll();
  void Reset();

  template <class Q>
  bool InitBuffer(Q& queue, uint8_t num, uint32_t len, Loc loc = Loc::current()) {
    ascsim::Api api("InitBuffer", loc);
    detail::placeQueue(queue, arena_, num, len);
    return true;
  }
  template <TPosition p>
  bool InitBuffer(TBuf<p>& buf, uint32_t len, Loc loc = Loc::current()) {
    ascsim::Api api("InitBuffer", loc);
    detail::placeBuf(buf, arena_, len);
    return true;
  }
  template <class P>
  bool InitBufPool(P& pool, uint32_t len, Loc loc = Loc::current()) {
    ascsim::Api api("InitBufPool", loc);
    pool.carve(arena_.take(poolMem(pool), (len + 31) / 32 * 32, "InitBufPool"), len);
    return true;
  }
  template <class P, class U>
  bool InitBufPool(P& pool, uint32_t len, U& share, Loc loc = Loc::current()) {
    ascsim::Api api("InitBufPool", loc);
    if (len > share.length())
      ascsim::fail(ascsim::kBounds, "a pool of %u bytes shares one of %u", len, share.length());
    pool.carve(share.start(), len);
    return true;
  }
  template <HardEvent e>
  TEventID AllocEventID() {
    return takeEvent(e, true);
  }
  template <HardEvent e>
  TEventID FetchEventID() {
    return takeEvent(e, false);
  }
  TEventID FetchEventID(HardEvent e) { return takeEvent(e, false); }
  TEventID AllocEventID(HardEvent e) { return takeEvent(e, true); }
  template <HardEvent e>
  void ReleaseEventID(TEventID id) {
    ascsim::core().eventIds[static_cast<int>(e)] &= ~(1ull << id);
  }
  uint8_t* GetBaseAddr(int8_t position) const {
    return ascsim::core().ptr(ascsim::memOf(static_cast<TPosition>(position)), 0);
  }
  ascsim::Arena& arena() { return arena_; }

 private:
  template <TPosition p, uint32_t n>
  static ascsim::Mem poolMem(const TBufPool<p, n>&) {
    return ascsim::memOf(p);
  }
  TEventID takeEvent(HardEvent e, bool keep);
  ascsim::Arena arena_;
  bool live_ = false;
};

TPipe* GetTPipePtr();

template <TPosition pos, uint32_t n>
template <class Q>
bool TBufPool<pos, n>::InitBuffer(Q& queue, uint8_t num, uint32_t len, Loc loc) {
  ascsim::Api api("TBufPool::InitBuffer", loc);
  detail::placeQueue(queue, arena_, num, len);
  return true;
}
template <TPosition pos, uint32_t n>
template <TPosition p>
bool TBufPool<pos, n>::InitBuffer(TBuf<p>& buf, uint32_t len, Loc loc) {
  ascsim::Api api("TBufPool::InitBuffer", loc);
  detail::placeBuf(buf, arena_, len);
  return true;
}
template <TPosition pos, uint32_t n>
template <class P>
bool TBufPool<pos, n>::InitBufPool(P& pool, uint32_t len, Loc loc) {
  ascsim::Api api("TBufPool::InitBufPool", loc);
  pool.carve(arena_.take(ascsim::memOf(pos), (len + 31) / 32 * 32, "InitBufPool"), len);
  return true;
}
template <TPosition pos, uint32_t n>
template <class P, class U>
bool TBufPool<pos, n>::InitBufPool(P& pool, uint32_t len, U& share, Loc loc) {
  ascsim::Api api("TBufPool::InitBufPool", loc);
  pool.carve(share.start(), len);
  return true;
}

// The UB that the live TPipe has not handed out, as one tensor (scratch of high-level calls).
template <class T, TPosition pos>
bool PopStackBuffer(LocalTensor<T>& t, Loc loc = Loc::current()) {
  ascsim::Api api("PopStackBuffer", loc);
  const ascsim::Mem mem = ascsim::memOf(pos);
  TPipe* pipe = GetTPipePtr();
  const uint32_t from = pipe == nullptr ? 0 : pipe->arena().top[static_cast<int>(mem)];
  const uint32_t size = ascsim::memSize(mem);
  t.adopt(pos, from, size - from, size, nullptr, 0);
  return from < size;
}

// Static allocation in order of the calls, without TPipe.
template <Hardware hard>
class LocalMemAllocator {
 public:
  LocalMemAllocator() = default;
  template <class T, uint32_t tileSize>
  LocalTensor<T> Alloc(Loc loc = Loc::current()) {
    return Alloc<T>(tileSize, loc);
  }
  template <TPosition pos, class T, uint32_t tileSize>
  LocalTensor<T> Alloc(Loc loc = Loc::current()) {
    return Alloc<pos, T>(tileSize, loc);
  }
  template <class T>
  LocalTensor<T> Alloc(uint32_t tileSize, Loc loc = Loc::current()) {
    return Alloc<defaultPosition(), T>(tileSize, loc);
  }
  template <TPosition pos, class T>
  LocalTensor<T> Alloc(uint32_t tileSize, Loc loc = Loc::current()) {
    ascsim::Api api("LocalMemAllocator::Alloc", loc);
    const ascsim::Mem mem = ascsim::memOf(pos);
    const uint32_t bytes =
        (static_cast<uint32_t>(ascsim::bytesOf<PrimT<T>>(tileSize)) + 31) / 32 * 32;
    if (top_ + bytes > ascsim::memSize(mem) && (mem == ascsim::Mem::UB) != ascsim::isAic())
      ascsim::fail(ascsim::kBounds, "allocates %u bytes of %s after %u; the memory has %u", bytes,
                   ascsim::memName(mem), top_, ascsim::memSize(mem));
    LocalTensor<T> t(pos, top_, tileSize);
    top_ += bytes;
    return t;
  }
  uint32_t GetCurAddr() const { return top_; }

 private:
  static constexpr TPosition defaultPosition() {
    switch (hard) {
      case Hardware::L1:
        return TPosition::A1;
      case Hardware::L0A:
        return TPosition::A2;
      case Hardware::L0B:
        return TPosition::B2;
      case Hardware::L0C:
        return TPosition::CO1;
      case Hardware::BIAS:
        return TPosition::C2;
      case Hardware::FIXBUF:
        return TPosition::C2PIPE2GM;
      default:
        return TPosition::VECCALC;
    }
  }
  uint32_t top_ = 0;
};

}  // namespace AscendC

using AscendC::GetTPipePtr;  // callers name it without the namespace
