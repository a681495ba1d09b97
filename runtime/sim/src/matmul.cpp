// The Matmul object's work: tiles of baseM x baseN over K, moved and computed on a cube core.
//
// The arithmetic is done on host memory from the matrices as they are when the object is called;
// the instructions that move and compute are issued one by one (transfers into L1 with the reuse
// that the depths allow, L1 to L0, mad, fixpipe) for the checks of global and user memory and for
// the timing. L0 and the object's own part of L1 are not declared: nobody else can reach them.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "ascsim/matmul_engine.h"
#include "internal.h"
#include "matmul_work.h"

namespace ascsim::mm {

// ------------------------------------------------------------------------------ own global memory
Scratch::~Scratch() {
  if (base_ == nullptr) return;
  gmRemove(base_);
  std::free(base_);
}

uint8_t* Scratch::need(uint64_t bytes) {
  if (bytes <= bytes_) return base_;
  if (base_ != nullptr) {
    gmRemove(base_);
    std::free(base_);
  }
  bytes_ = alignUp<uint64_t>(bytes, 512);
  base_ = static_cast<uint8_t*>(std::aligned_alloc(512, bytes_));
  std::memset(base_, 0, bytes_);
  gmAdd(base_, bytes_);
  return base_;
}

// ------------------------------------------------------------------------------ settings
bool Engine::active() const {
  if (!desc_.client) return isAic();
  return isAiv() || desc_.cfg.enableMixDualMaster;
}

void Engine::init(const AscendC::tiling::TCubeTiling* tiling, AscendC::TPipe*) {
  if (!active()) return;
  if (tiling != nullptr) t_ = *tiling;
#define ASCSIM_FIELD(name) \
  if (desc_.fixed.name >= 0) t_.name = desc_.fixed.name;
  ASCSIM_CUBE_TILING_FIELDS(ASCSIM_FIELD)
#undef ASCSIM_FIELD
  if (tiling == nullptr && (desc_.fixed.baseM <= 0 || desc_.fixed.singleCoreM <= 0))
    fail(kParam,
         "no tiling is given, and it is not constant: pass a TCubeTiling to REGIST_MATMUL_OBJ or "
         "Init");
  for (int32_t* v : {&t_.depthA1, &t_.depthB1, &t_.stepM, &t_.stepN, &t_.stepKa, &t_.stepKb,
                     &t_.dbL0A, &t_.dbL0B, &t_.dbL0C})
    if (*v <= 0) *v = 1;
  m_ = t_.M, n_ = t_.N, ka_ = t_.Ka, kb_ = t_.Kb, kc_ = 0;
  sm_ = t_.singleCoreM, sn_ = t_.singleCoreN, sk_ = t_.singleCoreK;
  checkTiling();
  const bool mdl =
      desc_.cfg.doMultiDataLoad || desc_.cfg.doSpecialMDL || desc_.policy == Policy::NBuffer33;
  auto setup = [&](Cache& c, int stepOuter, int stepK, int depth, int base, DType type) {
    c.stepOuter = mdl ? stepOuter : 1;
    c.stepK = mdl ? stepK : 1;
    c.blocks.assign(static_cast<size_t>(std::max(1, depth / (c.stepOuter * c.stepK))), Block{});
    c.current = nullptr;
    c.blockBytes = static_cast<uint32_t>(bytesFor(
        type, static_cast<uint64_t>(alignUp(base, 32)) * static_cast<uint64_t>(c.stepOuter) *
                  static_cast<uint64_t>(t_.baseK * c.stepK)));
  };
  setup(cacheA_, t_.stepM, t_.stepKa, t_.depthA1, t_.baseM, desc_.a.dtype);
  setup(cacheB_, t_.stepN, t_.stepKb, t_.depthB1, t_.baseN, desc_.b.dtype);
  cacheB_.l1 = static_cast<uint32_t>(cacheA_.blocks.size()) * cacheA_.blockBytes;
  ready_ = true;
  running_ = false;
}

void Engine::checkTiling() {
  const Chip& chip = *options().chip;
  if (t_.baseM <= 0 || t_.baseN <= 0 || t_.baseK <= 0 || t_.singleCoreM <= 0 ||
      t_.singleCoreN <= 0 || t_.singleCoreK <= 0)
    fail(kParam,
         "the tiling has base %d x %d x %d and single-core shape %d x %d x %d (M x N x K); "
         "expected positive numbers: did GetTiling fail?",
         t_.baseM, t_.baseN, t_.baseK, t_.singleCoreM, t_.singleCoreN, t_.singleCoreK);
  const int kAlign = static_cast<int>(desc_.a.dtype == DType::F32 ? 8 : c0(desc_.a.dtype));
  if (t_.baseM % 16 != 0 && desc_.a.format != CubeFormat::VECTOR)
    report(kParam, "baseM is %d; expected a multiple of 16", t_.baseM);
  if (t_.baseN % 16 != 0) report(kParam, "baseN is %d; expected a multiple of 16", t_.baseN);
  if (t_.baseK % kAlign != 0)
    report(kParam, "baseK is %d; expected a multiple of %d", t_.baseK, kAlign);
  const uint64_t m = static_cast<uint64_t>(alignUp(t_.baseM, 16)),
                 n = static_cast<uint64_t>(t_.baseN), k = static_cast<uint64_t>(t_.baseK);
  const uint64_t a = bytesFor(desc_.a.dtype, m * k), b = bytesFor(desc_.b.dtype, n * k);
  auto fits = [](uint64_t need, uint64_t have, const char* mem, const char* what) {
    if (need > have)
      report(kBounds,
             "%s needs %llu bytes of %s, which has %llu; choose smaller base sizes or depths", what,
             static_cast<unsigned long long>(need), mem, static_cast<unsigned long long>(have));
  };
  fits(a * static_cast<uint64_t>(t_.dbL0A), chip.l0a, "L0A", "baseM x baseK x dbL0A");
  fits(b * static_cast<uint64_t>(t_.dbL0B), chip.l0b, "L0B", "baseN x baseK x dbL0B");
  if (memOf(desc_.c.pos) != Mem::L0C)
    fits(m * n * 4 * static_cast<uint64_t>(t_.dbL0C), chip.l0c, "L0C", "baseM x baseN x dbL0C");
  const uint64_t bias =
      t_.isBias != 0 && desc_.cfg.enableSetBias ? n * bits(desc_.bias.dtype) / 8 : 0;
  if (bias != 0) fits(n * 4, chip.bt, "the bias table", "baseN of the bias");
  uint64_t l1 = bias;
  if (memOf(desc_.a.pos) != Mem::L1) l1 += a * static_cast<uint64_t>(t_.depthA1);
  if (memOf(desc_.b.pos) != Mem::L1) l1 += b * static_cast<uint64_t>(t_.depthB1);
  fits(l1, alignUp<uint64_t>(chip.l1, 1024), "L1", "depthA1 and depthB1 blocks and the bias");
  const MatmulConfig& c = desc_.cfg;
  if ((c.doBasicBlock || c.doSpecialBasicBlock) &&
      (static_cast<int>(c.basicM) != t_.baseM || static_cast<int>(c.basicN) != t_.baseN ||
       static_cast<int>(c.basicK) != t_.baseK))
    report(kParam,
           "the BasicBlock template is for base %u x %u x %u, the tiling has %d x %d x %d (M x N x "
           "K); they must be equal",
           c.basicM, c.basicN, c.basicK, t_.baseM, t_.baseN, t_.baseK);
}

void Engine::setOrgShape(int m, int n, int ka, int kb, int kc) {
  m_ = m, n_ = n, ka_ = ka, kb_ = kb, kc_ = kc;
}

void Engine::setSingleShape(int m, int n, int k) {
  if (m != -1) sm_ = m;
  if (n != -1) sn_ = n;
  if (k != -1) sk_ = k;
  running_ = false;
  if (active() && (sm_ <= 0 || sn_ <= 0 || sk_ <= 0))
    report(kParam,
           "the single-core shape becomes %d x %d x %d (M x N x K); expected positive numbers", sm_,
           sn_, sk_);
}

void Engine::setA(const Source& s) {
  if (!active()) return;
  a_ = s;
  if (s.trans && !desc_.a.trans)
    report(kParam,
           "SetTensorA asks for a transposed A, but the MatmulType of A has ISTRANS = false; the "
           "result would be wrong");
  running_ = false;
}

void Engine::setB(const Source& s) {
  if (!active()) return;
  b_ = s;
  if (s.trans && !desc_.b.trans)
    report(kParam,
           "SetTensorB asks for a transposed B, but the MatmulType of B has ISTRANS = false; the "
           "result would be wrong");
  running_ = false;
}

void Engine::setBias(const Source& s) {
  if (!active()) return;
  if (ready_ && t_.isBias == 0)
    report(
        kParam,
        "SetBias is called, but isBias of the tiling is 0; call EnableBias(true) before GetTiling");
  bias_ = s;
}

void Engine::setQuantScalar(uint64_t v) {
  quant_ = v;
  hasQuant_ = true;
  hasQuantVector_ = false;
}

void Engine::setQuantVector(const Place& p) {
  quantVector_ = p;
  hasQuantVector_ = true;
  hasQuant_ = false;
}

void Engine::setHf32(bool on, int mode) {
  hf32_ = on;
  hf32Mode_ = mode;
}

void Engine::setSparseIndex(const Place& p) {
  sparse_ = p;
  hasSparse_ = true;
}

// ------------------------------------------------------------------------------ order of the tiles
bool Engine::skipped(int row, int col) const {
  if (desc_.policy != Policy::UpperTriangle && desc_.policy != Policy::LowerTriangle) return false;
  // By the numbers of the blocks, also where they are not square.
  return desc_.policy == Policy::UpperTriangle ? row > col : row < col;
}

void Engine::start() {
  if (!ready_)
    fail(kParam, "the object has no tiling yet: pass it to REGIST_MATMUL_OBJ or call Init first");
  if (!a_.set || !b_.set)
    fail(kParam, "%s was not called for this matrix multiplication",
         a_.set ? "SetTensorB" : "SetTensorA");
  const int mIter = ceilDiv(sm_, t_.baseM), nIter = ceilDiv(sn_, t_.baseN);
  const bool outer = desc_.cfg.scheduleType == ScheduleType::OUTER_PRODUCT;
  bool nFirst = t_.iterateOrder == 1;
  if (outer && desc_.cfg.iterateOrder != IterateOrder::UNDEF)
    nFirst = desc_.cfg.iterateOrder == IterateOrder::ORDER_N;
  order_.clear();
  // Within the blocks that L1 holds (stepM x stepN), then from block to block, in the same order.
  const int sM = std::max(1, t_.stepM), sN = std::max(1, t_.stepN);
  auto inner = [&](int m0, int n0) {
    const int m1 = std::min(m0 + sM, mIter), n1 = std::min(n0 + sN, nIter);
    if (nFirst)
      for (int m = m0; m < m1; ++m)
        for (int n = n0; n < n1; ++n) order_.emplace_back(m, n);
    else
      for (int n = n0; n < n1; ++n)
        for (int m = m0; m < m1; ++m) order_.emplace_back(m, n);
  };
  if (nFirst)
    for (int m = 0; m < mIter; m += sM)
      for (int n = 0; n < nIter; n += sN) inner(m, n);
  else
    for (int n = 0; n < nIter; n += sN)
      for (int m = 0; m < mIter; m += sM) inner(m, n);
  order_.erase(std::remove_if(order_.begin(), order_.end(),
                              [&](const auto& p) { return skipped(p.first, p.second); }),
               order_.end());
  kParts_ = desc_.cfg.isPartialOutput ? kSteps() : 1;
  next_ = 0;
  readAt_ = 0;
  async_ = false;
  running_ = true;
  for (Cache* c : {&cacheA_, &cacheB_}) {
    for (Block& b : c->blocks) b.outer = -1;
    c->current = nullptr;
  }
  useA_ = a_;
  useB_ = b_;
  useBias_ = bias_;
  if (isAic()) return;
  // Matrices in UB go to global memory first; the cube core cannot read UB.
  const auto span = [&](const Side& side, uint64_t rows, uint64_t cols) {
    return bytesFor(side.dtype,
                    side.format == CubeFormat::NZ
                        ? alignUp<uint64_t>(rows, 16) * alignUp<uint64_t>(cols, c0(side.dtype))
                        : rows * alignUp<uint64_t>(cols, c0(side.dtype)));
  };
  const uint64_t m = static_cast<uint64_t>(sm_), n = static_cast<uint64_t>(sn_),
                 k = static_cast<uint64_t>(sk_);
  stage(useA_, desc_.a, scratchA_, a_.trans ? span(desc_.a, k, m) : span(desc_.a, m, k));
  stage(useB_, desc_.b, scratchB_, b_.trans ? span(desc_.b, n, k) : span(desc_.b, k, n));
  stage(useBias_, desc_.bias, scratchBias_, bytesFor(desc_.bias.dtype, n));
}

void Engine::stage(Source& s, const Side& side, Scratch& scratch, uint64_t bytes) {
  if (!s.set || s.scalar || s.place.mem != Mem::UB) return;
  bytes = std::min(bytes, s.bytes);
  uint8_t* to = scratch.need(bytes);
  Instr i(Pipe::MTE3, "mte_ub_gm");
  i.event.src = Mem::UB;
  i.event.dst = Mem::GM;
  i.event.bytes = bytes;
  i.event.bursts = 1;
  i.event.dtype = side.dtype;
  i.event.gmAddress = reinterpret_cast<uintptr_t>(to);
  i.event.gmSpan = bytes;
  i.align(s.place, 32, "a matrix in UB");
  i.read(s.place, 0, bytes);
  i.write(Mem::GM, reinterpret_cast<uintptr_t>(to), bytes);
  std::memcpy(to, core().ptr(Mem::UB, s.place.address), bytes);
  Place p;
  p.mem = Mem::GM;
  p.address = reinterpret_cast<uintptr_t>(to);
  // The rows of a matrix from UB keep their layout: rounded up to 32 bytes.
  p.limit = 1;
  s.place = p;
}

}  // namespace ascsim::mm
