// One Matmul object: what it was told, and the loop that works through its tiles on a cube core.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "ascsim/matmul_config.h"
#include "ascsim/pipe.h"

namespace ascsim::mm {

enum class Policy : uint8_t { Default, UpperTriangle, LowerTriangle, NBuffer33 };

// What MatmulType says about one matrix.
struct Side {
  AscendC::TPosition pos = AscendC::TPosition::GM;
  CubeFormat format = CubeFormat::ND;
  DType dtype = DType::Other;
  bool trans = false;
  LayoutMode layout = LayoutMode::NONE;
  bool ibShare = false;
};

using CopyInFn = void (*)(const AscendC::LocalTensor<int8_t>&, const void*, int, int, int, int,
                          uint64_t, uint64_t);
using CopyOutFn = void (*)(const void*, const AscendC::LocalTensor<int8_t>&, const void*, uint64_t,
                           uint64_t);

// The template arguments of the object.
struct Desc {
  Side a, b, c, bias;
  MatmulConfig cfg;
  MatmulApiStaticTiling fixed;  // -1: not known at compile time
  Policy policy = Policy::Default;
  bool client = false;  // vector cores call it, the cube core of their group works
  CopyOutFn copyOut = nullptr;
  CopyInFn copyA = nullptr, copyB = nullptr;
};

// A matrix as SetTensorA and the others got it.
struct Source {
  bool set = false;
  bool trans = false;
  bool scalar = false;
  double value = 0;
  Place place;
  uint64_t bytes = 0;  // of a local tensor
};

// Where C goes: place.mem tells GM, UB or L0C.
struct Sink {
  Place place;
  uint64_t bytes = 0;  // of a local tensor
  uint8_t atomic = 0;
  bool sequential = false;
};

// Global memory of the simulator's own, where the vendor's library uses the system workspace.
class Scratch {
 public:
  ~Scratch();
  uint8_t* need(uint64_t bytes);

 private:
  uint8_t* base_ = nullptr;
  uint64_t bytes_ = 0;
};

struct Tile {
  int row = 0, col = 0;
  int k = -1;  // the only step along K (partial output), or all
  int m = 0, n = 0, ld = 0;
  int slot = 0;
  std::vector<float> f;
  std::vector<int32_t> i;
  Clock ready;
  uint64_t token = 0;
};

// Blocks of A or B in L1, for the reuse that the depths of the tiling allow.
struct Block {
  int outer = -1, k = -1;
  uint64_t age = 0;
  Clock ready, free;
  uint64_t readyToken = 0, freeToken = 0;
};
struct Cache {
  std::vector<Block> blocks;
  int stepOuter = 1, stepK = 1;
  Block* current = nullptr;
  uint32_t l1 = 0, blockBytes = 0;  // only where a copy callback or a scratch address needs them
};

// A rectangle of a stored matrix: what one transfer reads.
struct Region {
  bool nz = false;
  Place place;
  DType dtype = DType::Other;
  uint64_t ld = 0;  // ND: elements from row to row; NZ: rows, rounded up
  uint64_t row = 0, rows = 0, col = 0, cols = 0;
};

class Engine {
 public:
  explicit Engine(const Desc& desc) : desc_(desc) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  bool active() const;  // this core calls (client) or computes (direct)
  bool leaves() const { return desc_.client && isAic() && !desc_.cfg.enableMixDualMaster; }
  void enroll(int index) { index_ = index; }
  void init(const AscendC::tiling::TCubeTiling* tiling, AscendC::TPipe* pipe);
  void setOrgShape(int m, int n, int ka, int kb, int kc);
  void setSingleShape(int m, int n, int k);
  void setA(const Source& s);
  void setB(const Source& s);
  void setBias(const Source& s);
  void clearBias() { bias_.set = false; }
  void setQuantScalar(uint64_t v);
  void setQuantVector(const Place& p);
  void setHf32(bool on, int mode);
  void setSparseIndex(const Place& p);
  void setWorkspace(const Place& p) { workspace_ = p; }
  void setUser(uint64_t p) { user_ = p; }
  void setData(uint64_t p) { data_ = p; }
  void setSubBlock(int i) { subBlock_ = i; }
  int subBlock() const { return subBlock_; }
  void setBatch(int a, int b) { batchA_ = a, batchB_ = b; }
  int batchA() const { return batchA_; }
  int batchB() const { return batchB_; }

  bool iterate(bool sync, bool partial, const Sink* co1);
  void getTensorC(bool sync, const Sink& sink);
  Place nextFromWorkspace();  // asynchronous: the next tile, in the workspace
  void iterateAll(bool sync, const Sink& sink, bool fake);
  void iterateBatch(bool sync, const Sink& sink, int loops, int batchA, int batchB,
                    uint32_t strideA, uint32_t strideB, bool partial);
  Place nextBatch(int batchA, int batchB);
  void copyToUb(const Place& from, const Sink& to, bool wait);
  const Place& workspace() const { return workspace_; }
  void waitAll();
  void waitGetTensorC();
  void end();
  MatrixOffset offsetC() const;

 private:
  void checkTiling();
  void start();
  void stage(Source& s, const Side& side, Scratch& scratch, uint64_t bytes);
  bool skipped(int row, int col) const;
  Tile& prepare(size_t index, size_t which, bool keep);
  void compute(Tile& t, bool accumulate, const Sink* co1);
  Block& block(Cache& cache, bool isA, int outer, int k);
  void load(Cache& cache, Block& b, bool isA, int outer, int k);
  Region region(bool isA, int outer0, int outers, int k0, int ks) const;
  template <class T>
  void fetch(bool isA, int outer0, int outers, int k0, int ks, T* to, int ld);
  template <class T>
  void fetchSparse(int n0, int ns, int k0, int ks, T* to, int ld);
  void addBias(Tile& t);
  void store(Tile& t, const Sink& sink);
  void tileToLocal(const Tile& t, uint64_t address, uint64_t bytes, Pipe pipe, bool accumulate);
  void convert(const Tile& t, int row, int col, int count, uint8_t* out) const;
  void runAll(const Sink& sink);
  void loadQuant(const Tile& t);
  uint64_t imageBytes(const Sink& sink) const;
  void finish(bool sync, const HandOver& done);

  bool intAcc() const { return desc_.a.dtype == DType::I8 || desc_.a.dtype == DType::I4; }
  int orgN() const { return kc_ > 0 ? kc_ : n_; }
  int kSteps() const { return (sk_ + t_.baseK - 1) / t_.baseK; }

  const Desc& desc_;
  AscendC::tiling::TCubeTiling t_;
  bool ready_ = false;
  int index_ = 0;
  int m_ = 0, n_ = 0, ka_ = 0, kb_ = 0, kc_ = 0;  // original shape
  int sm_ = 0, sn_ = 0, sk_ = 0;                  // of this core
  Source a_, b_, bias_;
  Source useA_, useB_, useBias_;  // ... where the cube core reads them
  uint64_t quant_ = 0;
  Place quantVector_, sparse_;
  bool hasQuant_ = false, hasQuantVector_ = false, hasSparse_ = false;
  bool hf32_ = false;
  int hf32Mode_ = 0;
  Place workspace_;
  uint64_t user_ = 0, data_ = 0;
  int subBlock_ = 0;
  int batchA_ = 1, batchB_ = 1;

  std::vector<std::pair<int, int>> order_;  // tiles: block row and column
  int kParts_ = 1;                          // results per tile (partial output)
  size_t next_ = 0;
  bool running_ = false, async_ = false;
  uint64_t readAt_ = 0;
  std::vector<Tile> tiles_;  // of the last Iterate
  size_t live_ = 0;          // how many of them
  HandOver done_;
  bool pending_ = false;
  uint64_t ldA_ = 0, ldB_ = 0, ldC_ = 0;  // row lengths in a batch layout

  Cache cacheA_, cacheB_;
  Clock l0_[2], l0c_[2];
  uint64_t l0Token_[2] = {}, l0cToken_[2] = {};
  int l0Next_ = 0, l0cNext_ = 0;
  uint64_t age_ = 0;
  Scratch scratchA_, scratchB_, scratchBias_, scratchC_;
  std::vector<float> fa_, fb_, fline_;
  std::vector<int32_t> ia_, ib_, iline_;
};

}  // namespace ascsim::mm
