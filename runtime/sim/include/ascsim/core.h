// The simulated core: what an API function needs to model one instruction.
//
// An API function (a) opens an Api scope, (b) for each hardware instruction it stands for builds an
// Instr, declares every byte the instruction reads and writes (which checks bounds, alignment,
// initialisation and races), sets its cost, and (c) does the arithmetic on ptr()'s host memory.
// Instructions run at once, in program order; ordering between pipes is checked by vector clocks
// (FastTrack, Flanagan and Freund 2009), so one run finds the races of all interleavings of a core.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ascsim/base.h"
#include "ascsim/chips.h"
#include "ascsim/launch.h"
#include "ascsim/trace.h"

namespace ascsim {

// ---------------------------------------------------------------------------- options, errors
enum Check : uint32_t {
  kBounds = 1u << 0,  // inside the buffer or allocation
  kAlign = 1u << 1,   // address and length rules of the instruction
  kParam = 1u << 2,   // repeat, stride, mask, enumeration values
  kInit = 1u << 3,    // reads of never-written memory
  kRace = 1u << 4,    // unordered accesses, of pipes and of cores
  kQueue = 1u << 5,   // alloc, free, enque, deque
  kFlag = 1u << 6,    // SetFlag/WaitFlag pairing
  kChip = 1u << 7,    // API or dtype that the chip does not have
  kAllChecks = 0xffu,
};

struct Options {
  const Chip* chip;
  uint32_t checks = kAllChecks;
  uint64_t seed = 0;
  bool autoSync = true;  // the vendor's compiler inserts V-V and scalar synchronisation on AIV
  bool timing = true;
  std::string traceFile;
  size_t maxErrors = 20;
};
const Options& options();
inline bool checking(Check c) { return (options().checks & c) != 0; }

// Thrown through a kernel to stop it after an error that makes going on meaningless.
struct KernelAbort {};

// Reports an error at the running core's current API call; the run goes on.
[[gnu::format(printf, 2, 3)]] void report(Check rule, const char* format, ...);
// Prints what is no error on the device but probably a mistake; does not count.
[[gnu::format(printf, 2, 3)]] void warn(Check rule, const char* format, ...);
// Reports and stops the kernel.
[[noreturn, gnu::format(printf, 2, 3)]] void fail(Check rule, const char* format, ...);

// ---------------------------------------------------------------------------- clocks
// What a pipe knows to be complete: per pipe of its own core, and (shared, immutable) of all cores.
struct Clock {
  uint32_t own[kPipes] = {};
  std::shared_ptr<const std::vector<uint32_t>> remote;  // [core * kPipes + pipe]
  void join(const Clock& other);
};

// ---------------------------------------------------------------------------- memory
// Shadow state of one 32-byte block: which bytes were written, and the last accesses.
struct Entry {
  uint64_t epoch = 0;  // launch, core, pipe, clock; 0 = none
  uint32_t mask = 0;   // bytes of the block
  uint32_t site = 0;   // index of the access's source location
};

struct Block {
  Entry writes[2];
  Entry reads[3];
};

class Shadow {
 public:
  explicit Shadow(size_t bytes) : init_((bytes + 31) / 32), blocks_((bytes + 31) / 32) {}
  std::vector<uint32_t> init_;
  std::vector<Block> blocks_;
};

// On-chip memory of one core.
struct Local {
  std::unique_ptr<uint8_t[]> bytes;
  std::unique_ptr<Shadow> shadow;
  uint32_t size = 0;
};

// A queue's or buffer's state, for use-after-free: a tensor carries the pointer and a generation.
struct BufState {
  uint32_t generation = 1;
  uint8_t state = 0;  // 0 free, 1 allocated, 2 enqueued, 3 dequeued
  uint32_t freedSite = 0;
  const char* queue = "";
  Clock enqueued;  // what the producer pipe had done at EnQue
  Clock freed;     // what the consumer pipe had done at FreeTensor
  uint64_t enqueToken = 0;
  uint64_t freeToken = 0;
};

// Where a tensor lies: on-chip offset or host address (GM), and the end of its buffer.
struct Place {
  Mem mem = Mem::UB;
  uint64_t address = 0;
  uint64_t limit = ~0ull;  // first address past the buffer
  const BufState* state = nullptr;
  uint32_t generation = 0;
  uint8_t l2Hint = 0;  // GM: see TraceEvent
};

// ---------------------------------------------------------------------------- the core
struct KernelRun;

struct Core {
  KernelRun* run = nullptr;
  int index = 0;       // among all cores of the launch
  bool aic = false;    // cube core (AIC) or vector core (AIV)
  int block = 0;       // block (group) number
  int subBlock = 0;    // AIV within its group
  Local local[kMems];  // [Mem::GM] unused

  Clock clocks[kPipes];
  uint32_t counter[kPipes] = {};

  const char* api = "";
  Loc loc = Loc::current();
  int apiDepth = 0;
  uint32_t site = 0;  // interned (file, line, api) of the current call

  // Special registers
  uint64_t mask[2] = {~0ull, ~0ull};
  bool maskCounter = false;
  uint8_t atomicOp = 0;  // 0 none, 1 add, 2 max, 3 min
  DType atomicType = DType::Other;
  float deqScale = 1.0f;
  uint64_t recentReads[64] = {};  // GM words the scalar unit read, to tell polling loops
  void* tpipe = nullptr;          // the live TPipe
  uint64_t eventIds[64] = {};     // ids taken by AllocEventID, per HardEvent
  uint64_t sprs[16] = {};  // families that need other registers keep them here, by their own index

  std::vector<TraceEvent> trace;

  // Host pointer to on-chip bytes; bounds are checked by Instr.
  uint8_t* ptr(Mem mem, uint64_t address);
};

Core& core();  // the running core; an error if no kernel runs
bool insideKernel();
inline bool isAic() { return core().aic; }
inline bool isAiv() { return !core().aic; }
void yieldCore();                       // let the other cores run
void yieldIfPolling(uint64_t address);  // ... if this GM word was read a short while ago

// Opens a public API call: errors and trace entries name it and the user's line, also from inside
// the API calls it is built of.
class Api {
 public:
  Api(const char* name, const Loc& loc);
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;
};

// ---------------------------------------------------------------------------- one instruction
class Instr {
 public:
  // mnemonic: the unit of the cost model ("vadd", "vexp", "mte2", "mad", ...); static lifetime.
  Instr(Pipe pipe, const char* mnemonic);
  ~Instr();  // appends the trace event
  Instr(const Instr&) = delete;
  Instr& operator=(const Instr&) = delete;

  // Declare accessed bytes. Local addresses are offsets in the memory; GM's are host addresses.
  void read(Mem mem, uint64_t address, uint64_t bytes);
  void write(Mem mem, uint64_t address, uint64_t bytes);
  void update(Mem mem, uint64_t address, uint64_t bytes)  // read-modify-write
  {
    read(mem, address, bytes);
    write(mem, address, bytes);
  }
  // Bits of `bytes` select the accessed bytes of the 32-byte block at `address` (32-aligned).
  void readMasked(Mem mem, uint64_t address, uint32_t bytes);
  void writeMasked(Mem mem, uint64_t address, uint32_t bytes);
  // A copy: declares both sides. Never-written source bytes are no error here but stay
  // never-written in the destination, as padding may travel; whoever computes with them is told.
  void move(const Place& src, uint64_t srcOffset, const Place& dst, uint64_t dstOffset,
            uint64_t bytes);
  // Accesses may be a superset that is never looked at (rounding up): exempt from kInit.
  void readPadding(Mem mem, uint64_t address, uint64_t bytes);
  void align(Mem mem, uint64_t address, uint32_t alignment, const char* what);
  void atomic() { atomic_ = true; }  // GM writes of this instruction commute with each other

  // Cost: repeats for the vector pipes, cycles when the caller knows them, bytes for transfers.
  TraceEvent event;

  // The same for bytes of a tensor: also inside its buffer, and not after FreeTensor.
  void read(const Place& p, uint64_t offset, uint64_t bytes) {
    read(p.mem, inside(p, offset, bytes, "reads"), bytes);
  }
  void write(const Place& p, uint64_t offset, uint64_t bytes) {
    write(p.mem, inside(p, offset, bytes, "writes"), bytes);
  }
  void update(const Place& p, uint64_t offset, uint64_t bytes) {
    read(p, offset, bytes);
    write(p, offset, bytes);
  }
  void readMasked(const Place& p, uint64_t offset, uint32_t bytes);
  void writeMasked(const Place& p, uint64_t offset, uint32_t bytes);
  void align(const Place& p, uint32_t alignment, const char* what) {
    align(p.mem, p.address, alignment, what);
  }

 private:
  uint64_t inside(const Place& p, uint64_t offset, uint64_t bytes, const char* verb);
  void touch(Mem mem, uint64_t address, uint64_t bytes, bool write, bool wantInit);
  void touchBlocks(Shadow& shadow, uint8_t* base, Mem mem, uint64_t first, uint64_t bytes,
                   bool write, bool wantInit);
  Core& core_;
  Pipe pipe_;
  uint64_t epoch_ = 0;
  bool atomic_ = false;
  const uint8_t* incoming_ = nullptr;  // move(): the bytes about to be written
};

// ---------------------------------------------------------------------------- synchronisation
uint64_t newToken();
void setFlag(Pipe src, Pipe dst, int id);
void waitFlag(Pipe src, Pipe dst, int id);
void pipeBarrier(Pipe pipe);  // Pipe::Count = all
// Hand-over of a queue: the producer's or consumer's progress is stored, later joined by the
// waiter.
void signal(Pipe pipe, Clock& into, uint64_t& token);
void await(Pipe pipe, const Clock& from, uint64_t token);
void crossSet(int mode, Pipe pipe, int flag);
void crossWait(int mode, Pipe pipe, int flag);
// Barrier of all cores of a kind: 0 AIC, 1 AIV, 2 all.
void syncAllCores(int kind);
// Work done for this core by another one (a matmul server): both know of each other afterwards.
void orderWith(Core& other);
Core& aicOfGroup();  // the cube core paired with the running core; fails if there is none
int aivPerGroup();   // 0, 1 or 2

// What a core has done so far, as another one gets to know it: for messages between the two.
struct HandOver {
  Clock clock;
  std::vector<uint64_t> tokens;
};
// Everything issued so far; the receiver's time also waits for the pipes named by the bit mask.
HandOver handOver(uint32_t pipes);
void takeOver(const HandOver& from, Pipe pipe);  // S: the core's dispatch waits

// A vector core that registered Matmul objects also owns L1 tensors: its cube core holds them.
inline constexpr int kServedSpr = 14;  // index in Core::sprs
inline bool servedByCube() { return core().sprs[kServedSpr] != 0; }

// Work that a vector core hands to the cube core of its group: the calls of the scope run as that
// core, behind all that the vector core has issued. On a cube core: nothing.
class AsCube {
 public:
  AsCube();
  ~AsCube();
  AsCube(const AsCube&) = delete;
  AsCube& operator=(const AsCube&) = delete;

 private:
  Core* vector_ = nullptr;
};

// ---------------------------------------------------------------------------- on-chip sizes
uint32_t memSize(Mem mem);
Mem memOf(AscendC::TPosition position);
Pipe producerPipe(AscendC::TPosition position);  // of a queue: who fills, who empties
Pipe consumerPipe(AscendC::TPosition position);

struct LaunchInfo {
  uint32_t blocks;
  KernelKind kind;
  uint64_t tilingKey;
  const char* kernel;
};
const LaunchInfo& launchInfo();

}  // namespace ascsim
