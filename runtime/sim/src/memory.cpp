// Global memory, shadow state, and the checks of one instruction's accesses.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "internal.h"

namespace ascsim {

// ------------------------------------------------------------------------------ global memory
namespace {
std::map<uintptr_t, Gm> g_gm;  // by base address
Gm* g_lastGm = nullptr;
}  // namespace

Gm* gmOf(const void* p) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  if (g_lastGm != nullptr) {
    const uintptr_t base = reinterpret_cast<uintptr_t>(g_lastGm->base);
    if (a >= base && a < base + g_lastGm->bytes) return g_lastGm;
  }
  auto it = g_gm.upper_bound(a);
  if (it == g_gm.begin()) return nullptr;
  --it;
  if (a >= it->first + it->second.bytes) return nullptr;
  return g_lastGm = &it->second;
}

void gmAdd(void* p, size_t bytes) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  // Shadow blocks are 32-byte aligned in the address space; allocations begin aligned.
  g_gm[a] = Gm{static_cast<uint8_t*>(p), bytes, std::make_unique<Shadow>(bytes + 32), false};
  g_lastGm = nullptr;
}

void gmRemove(void* p) {
  g_gm.erase(reinterpret_cast<uintptr_t>(p));
  g_lastGm = nullptr;
}

bool gmFind(const void* p, size_t* offset, size_t* size) {
  const Gm* g = gmOf(p);
  if (g == nullptr) return false;
  *offset = static_cast<size_t>(static_cast<const uint8_t*>(p) - g->base);
  *size = g->bytes;
  return true;
}

namespace {
uint32_t blockMask(uint64_t begin, uint64_t end) {  // bytes [begin, end) of a 32-byte block
  const uint64_t n = end - begin;
  const uint32_t ones = n >= 32 ? ~0u : (1u << n) - 1u;
  return ones << begin;
}
}  // namespace

void gmHostWrote(void* p, size_t bytes) {
  Gm* g = gmOf(p);
  if (g == nullptr) return;
  g->filled = g->filled || bytes != 0;
  uint64_t a = static_cast<uint64_t>(static_cast<uint8_t*>(p) - g->base);
  const uint64_t end = std::min<uint64_t>(a + bytes, g->bytes);
  while (a < end) {
    const uint64_t b = a / 32;
    const uint64_t stop = std::min<uint64_t>(end, (b + 1) * 32);
    g->shadow->init_[b] |= blockMask(a - b * 32, stop - b * 32);
    a = stop;
  }
}

void gmHostRead(const void* p, size_t bytes) {
  const Gm* g = gmOf(p);
  if (g == nullptr || !checking(kInit)) return;
  const uint64_t first = static_cast<uint64_t>(static_cast<const uint8_t*>(p) - g->base);
  const uint64_t end = std::min<uint64_t>(first + bytes, g->bytes);
  uint64_t missing = 0, where = 0;
  for (uint64_t a = first; a < end;) {
    const uint64_t b = a / 32;
    const uint64_t stop = std::min<uint64_t>(end, (b + 1) * 32);
    const uint32_t lack = blockMask(a - b * 32, stop - b * 32) & ~g->shadow->init_[b];
    if (lack != 0) {
      if (missing == 0) where = b * 32 + static_cast<uint64_t>(__builtin_ctz(lack));
      missing += static_cast<uint64_t>(__builtin_popcount(lack));
    }
    a = stop;
  }
  if (missing == 0) return;
  const std::string text = "the host reads " + std::to_string(bytes) +
                           " bytes of device memory, of which " + std::to_string(missing) +
                           " were never written, the first at byte " +
                           std::to_string(where - first);
  // Padding and workspaces are read along with results; an output nobody touched is a mistake.
  if (missing == end - first)
    reportError(
        "init",
        text + "; is a synchronise missing before the copy, or the kernel's output elsewhere?");
  else
    std::fprintf(stderr, "[ascsim] warning [init] %s\n", text.c_str());
}

// ------------------------------------------------------------------------------ clocks
void Clock::join(const Clock& other) {
  for (int p = 0; p < kPipes; ++p) own[p] = std::max(own[p], other.own[p]);
  if (other.remote == nullptr || other.remote == remote) return;
  if (remote == nullptr) {
    remote = other.remote;
    return;
  }
  const std::vector<uint32_t>& a = *remote;
  const std::vector<uint32_t>& b = *other.remote;
  bool aCovers = true, bCovers = true;
  for (size_t i = 0; i < a.size(); ++i) {
    aCovers = aCovers && a[i] >= b[i];
    bCovers = bCovers && b[i] >= a[i];
  }
  if (aCovers) return;
  if (bCovers) {
    remote = other.remote;
    return;
  }
  auto merged = std::make_shared<std::vector<uint32_t>>(a);
  for (size_t i = 0; i < a.size(); ++i) (*merged)[i] = std::max(a[i], b[i]);
  remote = std::move(merged);
}

uint8_t* Core::ptr(Mem mem, uint64_t address) {
  if (mem == Mem::GM) return reinterpret_cast<uint8_t*>(address);
  ensureLocal(*this, mem);
  return local[static_cast<int>(mem)].bytes.get() + address;
}

// ------------------------------------------------------------------------------ instructions
namespace {

bool syncsScalar(const Core& c) { return options().autoSync && !c.aic; }

// Pipes whose instructions take effect in order without a barrier: the matrix and L1-to-L0 pipes by
// hardware, the vector pipe through the compiler's automatic synchronisation (or hardware, 950).
bool inOrder(const Core& c, Pipe p) {
  if (p == Pipe::MTE2 || p == Pipe::MTE3) return false;
  if (p == Pipe::V) return syncsScalar(c) || options().chip->npuArch >= 3510;
  return true;
}

const char* fixFor(Pipe from, Pipe to) {
  static thread_local char text[160];
  if (from == to)
    std::snprintf(text, sizeof text, "PipeBarrier<PIPE_%s>() between the two", pipeName(from));
  else
    std::snprintf(text, sizeof text,
                  "SetFlag/WaitFlag<HardEvent::%s_%s>, EnQue/DeQue or PipeBarrier<PIPE_ALL>() "
                  "between the two",
                  pipeName(from), pipeName(to));
  return text;
}

}  // namespace

Instr::Instr(Pipe pipe, const char* mnemonic) : core_(core()), pipe_(pipe) {
  Core& c = core_;
  event.pipe = pipe;
  event.mnemonic = mnemonic;
  event.site = c.site;
  const int p = static_cast<int>(pipe);
  const uint32_t clock = ++c.counter[p];
  if (pipe == Pipe::S) {
    c.clocks[p].own[p] = clock;
  } else {
    c.run->polls = 0;
    // Dispatch: what the scalar unit has waited for, every later instruction has waited for.
    Clock& mine = c.clocks[p];
    const uint32_t before = mine.own[static_cast<int>(Pipe::S)];
    mine.join(c.clocks[static_cast<int>(Pipe::S)]);
    if (!syncsScalar(c)) mine.own[static_cast<int>(Pipe::S)] = before;
  }
}

Instr::~Instr() {
  if (options().timing) core_.trace.push_back(event);
}

void Instr::align(Mem mem, uint64_t address, uint32_t alignment, const char* what) {
  if (mem == Mem::GM || address % alignment == 0 || !checking(kAlign)) return;
  report(kAlign, "%s starts at byte 0x%llx of %s; expected a multiple of %u bytes", what,
         static_cast<unsigned long long>(address), memName(mem), alignment);
}

void Instr::read(Mem mem, uint64_t address, uint64_t bytes) {
  touch(mem, address, bytes, false, true);
}
void Instr::write(Mem mem, uint64_t address, uint64_t bytes) {
  touch(mem, address, bytes, true, false);
}
void Instr::readPadding(Mem mem, uint64_t address, uint64_t bytes) {
  touch(mem, address, bytes, false, false);
}

uint64_t Instr::inside(const Place& p, uint64_t offset, uint64_t bytes, const char* verb) {
  const uint64_t a = p.address + offset;
  if (p.mem == Mem::GM) return a;
  if (bytes != 0 && a + bytes > p.limit && checking(kBounds))
    report(kBounds,
           "%s %s [0x%llx, 0x%llx), past the end of the tensor's buffer at 0x%llx: %llu bytes over",
           verb, memName(p.mem), static_cast<unsigned long long>(a),
           static_cast<unsigned long long>(a + bytes), static_cast<unsigned long long>(p.limit),
           static_cast<unsigned long long>(a + bytes - p.limit));
  if (p.state != nullptr && p.state->generation != p.generation)
    report(
        kQueue,
        "%s a tensor of queue position %s after FreeTensor (freed by %s); its buffer may already "
        "hold the next tile",
        verb, p.state->queue, siteText(p.state->freedSite).c_str());
  return a;
}

void Instr::readMasked(const Place& p, uint64_t offset, uint32_t bytes) {
  if (bytes == 0) return;
  const uint64_t top = 32u - static_cast<uint64_t>(__builtin_clz(bytes));
  readMasked(p.mem, inside(p, offset, top, "reads"), bytes);
}

void Instr::writeMasked(const Place& p, uint64_t offset, uint32_t bytes) {
  if (bytes == 0) return;
  const uint64_t top = 32u - static_cast<uint64_t>(__builtin_clz(bytes));
  writeMasked(p.mem, inside(p, offset, top, "writes"), bytes);
}

void Instr::readMasked(Mem mem, uint64_t address, uint32_t bytes) {
  while (bytes != 0) {  // runs of set bits
    const int from = __builtin_ctz(bytes);
    const uint32_t rest = ~(bytes >> from);
    const int n = rest == 0 ? 32 - from : std::min(32 - from, __builtin_ctz(rest));
    touch(mem, address + static_cast<uint64_t>(from), static_cast<uint64_t>(n), false, true);
    if (from + n >= 32) break;
    bytes &= ~0u << (from + n);
  }
}

void Instr::writeMasked(Mem mem, uint64_t address, uint32_t bytes) {
  while (bytes != 0) {
    const int from = __builtin_ctz(bytes);
    const uint32_t rest = ~(bytes >> from);
    const int n = rest == 0 ? 32 - from : std::min(32 - from, __builtin_ctz(rest));
    touch(mem, address + static_cast<uint64_t>(from), static_cast<uint64_t>(n), true, false);
    if (from + n >= 32) break;
    bytes &= ~0u << (from + n);
  }
}

namespace {
// The initialisation words that cover an address, and the address relative to them.
uint32_t* initWords(Core& c, Mem mem, uint64_t& address) {
  if (mem == Mem::GM) {
    Gm* g = gmOf(reinterpret_cast<const void*>(address));
    address -= reinterpret_cast<uintptr_t>(g->base);
    return g->shadow->init_.data();
  }
  return c.local[static_cast<int>(mem)].shadow->init_.data();
}
}  // namespace

void Instr::move(const Place& src, uint64_t srcOffset, const Place& dst, uint64_t dstOffset,
                 uint64_t bytes) {
  if (bytes == 0) return;
  uint64_t from = inside(src, srcOffset, bytes, "reads");
  uint64_t to = inside(dst, dstOffset, bytes, "writes");
  touch(src.mem, from, bytes, false, false);
  incoming_ = core_.ptr(src.mem, from);
  touch(dst.mem, to, bytes, true, false);
  incoming_ = nullptr;
  if (!checking(kInit)) return;
  if (src.mem == Mem::GM && gmOf(reinterpret_cast<const void*>(from))->filled) {
    // The rest of an array that the host filled in part is fresh memory: zeros, and worth a word.
    const uint32_t* words = initWords(core_, src.mem, from);
    uint64_t missing = 0;
    for (uint64_t k = from; k < from + bytes;) {
      const uint64_t stop = std::min(from + bytes, (k / 32 + 1) * 32);
      const uint32_t mask = blockMask(k % 32, stop - k / 32 * 32);
      missing += static_cast<uint64_t>(__builtin_popcount(mask & ~words[k / 32]));
      k = stop;
    }
    if (missing != 0)
      warn(kInit,
           "copies %llu bytes of an array that the host filled only in part, past what it wrote",
           static_cast<unsigned long long>(missing));
    return;
  }
  const uint32_t* a = initWords(core_, src.mem, from);
  uint32_t* b = initWords(core_, dst.mem, to);
  uint64_t i = 0;
  if (from % 32 == 0 && to % 32 == 0)
    for (; i + 32 <= bytes; i += 32) b[(to + i) / 32] = a[(from + i) / 32];
  for (; i < bytes; ++i) {
    const uint32_t bit = (a[(from + i) / 32] >> ((from + i) % 32)) & 1u;
    uint32_t& word = b[(to + i) / 32];
    const uint64_t at = (to + i) % 32;
    word = (word & ~(1u << at)) | (bit << at);
  }
}

void Instr::touch(Mem mem, uint64_t address, uint64_t bytes, bool write, bool wantInit) {
  if (bytes == 0) return;
  if (mem == Mem::GM) {
    Gm* g = gmOf(reinterpret_cast<const void*>(address));
    if (g == nullptr)
      fail(kBounds,
           "%s %llu bytes of global memory at 0x%llx, which is in no device allocation (was the "
           "pointer set by SetGlobalBuffer, is it a host pointer, or freed?)",
           write ? "writes" : "reads", static_cast<unsigned long long>(bytes),
           static_cast<unsigned long long>(address));
    const uint64_t offset = address - reinterpret_cast<uintptr_t>(g->base);
    if (offset + bytes > g->bytes)
      fail(kBounds, "%s bytes [%llu, %llu) of a device allocation of %llu bytes: %llu past its end",
           write ? "writes" : "reads", static_cast<unsigned long long>(offset),
           static_cast<unsigned long long>(offset + bytes),
           static_cast<unsigned long long>(g->bytes),
           static_cast<unsigned long long>(offset + bytes - g->bytes));
    touchBlocks(*g->shadow, g->base, mem, offset, bytes, write, wantInit);
    return;
  }
  const uint32_t size = memSize(mem);
  if (address + bytes > size || address + bytes < address)
    fail(kBounds, "%s bytes [0x%llx, 0x%llx) of %s, which has 0x%x bytes",
         write ? "writes" : "reads", static_cast<unsigned long long>(address),
         static_cast<unsigned long long>(address + bytes), memName(mem), size);
  ensureLocal(core_, mem);
  touchBlocks(*core_.local[static_cast<int>(mem)].shadow, nullptr, mem, address, bytes, write,
              wantInit);
}

void Instr::touchBlocks(Shadow& shadow, uint8_t* base, Mem mem, uint64_t first, uint64_t bytes,
                        bool write, bool wantInit) {
  Core& c = core_;
  const int p = static_cast<int>(pipe_);
  const uint64_t serial = c.run->serial & 0x1fff;
  const bool atomic = atomic_;  // its reads commute too: they are part of the same update
  const uint64_t epoch = packEpoch(c.run->serial, c.index, pipe_, c.counter[p], atomic);
  const bool races = checking(kRace);
  const bool wantsInit = wantInit && checking(kInit);
  uint64_t known = 0;  // the last epoch found to be ordered before this instruction
  uint64_t missing = 0, missingAt = 0;

  // Is the access of `e` complete before this instruction starts?
  auto ordered = [&](uint64_t e, bool bothWrite) {
    if (epochSerial(e) != serial) return true;
    const Pipe q = epochPipe(e);
    const int qi = static_cast<int>(q);
    if (epochCore(e) != c.index) {
      if (mem != Mem::GM) return true;  // a finished core's trace in a reused memory
      const auto& remote = c.clocks[p].remote;
      const size_t i = static_cast<size_t>(epochCore(e) * kPipes + qi);
      return remote != nullptr && (*remote)[i] >= epochClock(e);
    }
    if (q == pipe_) {
      if (epochClock(e) == c.counter[p] || inOrder(c, pipe_) || pipe_ == Pipe::S) {
        if (pipe_ == Pipe::V && epochClock(e) > c.clocks[p].own[p] && epochClock(e) != c.counter[p])
          event.dependent = true;
        return true;
      }
      // MTE2 and MTE3: only overlapping destinations can swap.
      if (!bothWrite && pipe_ != Pipe::V) return true;
      return c.clocks[p].own[p] >= epochClock(e);
    }
    if (c.clocks[p].own[qi] >= epochClock(e)) return true;
    if (pipe_ == Pipe::S && syncsScalar(c)) {
      // The compiler puts the pair of flags in front of the scalar access.
      Clock now;
      uint64_t token = 0;
      signal(q, now, token);
      await(Pipe::S, now, token);
      return true;
    }
    return false;
  };

  auto conflict = [&](const Entry& entry, uint32_t mask, bool otherWrote) {
    if (entry.epoch == 0 || (entry.mask & mask) == 0 || entry.epoch == known) return;
    if (atomic && epochAtomic(entry.epoch)) return;
    if (ordered(entry.epoch, write && otherWrote)) {
      known = entry.epoch;
      return;
    }
    if (mem == Mem::GM && pipe_ == Pipe::S && epochPipe(entry.epoch) == Pipe::S &&
        epochCore(entry.epoch) != c.index) {
      if (!write) acquireWord(c, reinterpret_cast<uintptr_t>(base) + first);
      return;
    }
    // Cores that write the same values to the same place race without consequence.
    if (incoming_ != nullptr && otherWrote && mem == Mem::GM && epochCore(entry.epoch) != c.index &&
        std::memcmp(base + first, incoming_, bytes) == 0)
      return;
    const Core& other = *c.run->cores[static_cast<size_t>(epochCore(entry.epoch))];
    const Pipe q = epochPipe(entry.epoch);
    if (&other == &c)
      report(kRace,
             "data race on %s [0x%llx, 0x%llx): this %s by pipe %s is not ordered after the %s by "
             "pipe %s of %s; put %s",
             memName(mem), static_cast<unsigned long long>(first),
             static_cast<unsigned long long>(first + bytes), write ? "write" : "read",
             pipeName(pipe_), otherWrote ? "write" : "read", pipeName(q),
             siteText(entry.site).c_str(), fixFor(q, pipe_));
    else
      report(kRace,
             "data race between cores on GM bytes [0x%llx, 0x%llx) of its allocation: this %s by "
             "pipe %s is not ordered after the %s of core %s by pipe %s of %s; put "
             "CrossCoreSetFlag/CrossCoreWaitFlag or SyncAll between the two",
             static_cast<unsigned long long>(first), static_cast<unsigned long long>(first + bytes),
             write ? "write" : "read", pipeName(pipe_), otherWrote ? "write" : "read",
             coreName(other).c_str(), pipeName(q), siteText(entry.site).c_str());
    known = entry.epoch;
  };

  if (races && write && mem == Mem::GM && pipe_ == Pipe::S)
    releaseWord(c, reinterpret_cast<uintptr_t>(base) + first);
  const uint64_t end = first + bytes;
  for (uint64_t a = first; a < end;) {
    const uint64_t index = a / 32;
    const uint64_t stop = std::min(end, (index + 1) * 32);
    const uint32_t mask = blockMask(a - index * 32, stop - index * 32);
    a = stop;
    uint32_t& init = shadow.init_[index];
    if (wantsInit && (mask & ~init) != 0) {
      if (missing == 0) missingAt = index * 32 + static_cast<uint64_t>(__builtin_ctz(mask & ~init));
      missing += static_cast<uint64_t>(__builtin_popcount(mask & ~init));
    }
    if (write) init |= mask;
    if (!races) continue;
    Block& b = shadow.blocks_[index];
    for (const Entry& e : b.writes) conflict(e, mask, true);
    if (write) {
      for (const Entry& e : b.reads) conflict(e, mask, false);
      for (Entry& e : b.reads)
        if ((e.mask &= ~mask) == 0) e.epoch = 0;
      Entry& w0 = b.writes[0];
      Entry& w1 = b.writes[1];
      if (w0.epoch == epoch) {
        w0.mask |= mask;
        if ((w1.mask &= ~mask) == 0) w1.epoch = 0;
      } else {
        if ((w0.mask & ~mask) != 0) {
          w1 = w0;
          w1.mask &= ~mask;
        } else if ((w1.mask &= ~mask) == 0) {
          w1.epoch = 0;
        }
        w0 = Entry{epoch, mask, c.site};
      }
    } else {
      Entry* slot = nullptr;
      for (Entry& e : b.reads) {
        const bool mine = e.epoch != 0 && epochCore(e.epoch) == c.index &&
                          epochPipe(e.epoch) == pipe_ && epochSerial(e.epoch) == serial;
        if (e.epoch == 0 || epochSerial(e.epoch) != serial || mine) {
          slot = &e;
          if (mine) break;
        }
      }
      if (slot == nullptr) slot = &b.reads[index % 3];
      *slot = Entry{epoch, slot->epoch == epoch ? slot->mask | mask : mask, c.site};
    }
  }
  if (missing != 0)
    report(kInit,
           "reads %s [0x%llx, 0x%llx), of which %llu bytes were never written, the first at 0x%llx",
           memName(mem), static_cast<unsigned long long>(first),
           static_cast<unsigned long long>(end), static_cast<unsigned long long>(missing),
           static_cast<unsigned long long>(missingAt));
}

}  // namespace ascsim
