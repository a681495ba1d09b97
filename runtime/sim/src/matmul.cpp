// The Matmul object's work: tiles of baseM x baseN over K, moved and computed on a cube core.
//
// The arithmetic is done on host memory from the matrices as they are when the object is called; the
// instructions that move and compute are issued one by one (transfers into L1 with the reuse that the
// depths allow, L1 to L0, mad, fixpipe) for the checks of global and user memory and for the timing.
// L0 and the object's own part of L1 are not declared: nobody else can reach them.
#include "ascsim/matmul_engine.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "internal.h"

namespace ascsim {
void postSignal(uint64_t key);
void awaitSignal(uint64_t key, const char* what);
}  // namespace ascsim

namespace ascsim::mm {
namespace {

int ceilDiv(int a, int b) { return (a + b - 1) / b; }
template <class T>
T alignUp(T v, T to) { return (v + to - 1) / to * to; }

uint64_t bits(DType t) {
  switch (t) {
    case DType::F32: case DType::I32: return 32;
    case DType::F16: case DType::BF16: return 16;
    case DType::I4: return 4;
    case DType::U64: return 64;
    default: return 8;
  }
}
uint64_t bytesFor(DType t, uint64_t n) { return (n * bits(t) + 7) / 8; }
// Elements of 32 bytes: the width of a fractal.
uint64_t c0(DType t) { return 256 / bits(t); }

const float* halfTable() {
  static const std::vector<float> table = [] {
    std::vector<float> v(65536);
    for (uint32_t i = 0; i < 65536; ++i) v[i] = halfBitsToFloat(static_cast<uint16_t>(i));
    return v;
  }();
  return table.data();
}

// n consecutive elements from element `at` of a matrix.
void convertRun(DType t, const uint8_t* base, uint64_t at, int n, float* out) {
  if (t == DType::F16) {
    const uint8_t* p = base + at * 2;
    const float* table = halfTable();
    for (int i = 0; i < n; ++i) {
      uint16_t h;
      std::memcpy(&h, p + 2 * i, 2);
      out[i] = table[h];
    }
  } else if (t == DType::BF16) {
    const uint8_t* p = base + at * 2;
    for (int i = 0; i < n; ++i) {
      uint16_t h;
      std::memcpy(&h, p + 2 * i, 2);
      out[i] = bfloatBitsToFloat(h);
    }
  } else {
    std::memcpy(out, base + at * 4, static_cast<size_t>(n) * 4);
  }
}
void convertRun(DType t, const uint8_t* base, uint64_t at, int n, int32_t* out) {
  if (t == DType::I8) {
    for (int i = 0; i < n; ++i) out[i] = static_cast<int8_t>(base[at + static_cast<uint64_t>(i)]);
  } else if (t == DType::I4) {
    for (int i = 0; i < n; ++i) {
      const uint64_t e = at + static_cast<uint64_t>(i);
      const int v = (base[e / 2] >> (e % 2 * 4)) & 15;
      out[i] = v >= 8 ? v - 16 : v;
    }
  } else {
    std::memcpy(out, base + at * 4, static_cast<size_t>(n) * 4);
  }
}

// HF32 keeps 11 bits of the mantissa.
float toHf32(float v, int mode) {
  uint32_t b = floatBits(v);
  if ((b & 0x7f800000u) == 0x7f800000u) return v;
  const uint32_t low = b & 0xfffu;
  b &= ~0xfffu;
  const bool up = mode == 1 ? low >= 0x800u : low > 0x800u || (low == 0x800u && (b & 0x1000u) != 0);
  return bitsFloat(up ? b + 0x1000u : b);
}

// c[m][n] += a[m][k] * b[k][n], each element in the order of k. n is a multiple of 16.
#define ASCSIM_GEMM(NAME, T)                                                                      \
  [[gnu::target_clones("avx2", "default")]] void NAME(const T* a, int lda, const T* b, int ldb,   \
                                                      T* c, int ldc, int m, int k, int n) {       \
    typedef T vec __attribute__((vector_size(32), aligned(4), may_alias));                        \
    for (int i = 0; i < m; i += 4) {                                                              \
      const int rows = m - i < 4 ? m - i : 4;                                                     \
      const T* ar[4];                                                                             \
      T* cr[4];                                                                                   \
      T spare[16];                                                                                \
      for (int r = 0; r < 4; ++r) ar[r] = a + static_cast<ptrdiff_t>(r < rows ? i + r : i) * lda; \
      for (int j = 0; j < n; j += 16) {                                                           \
        for (int r = 0; r < 4; ++r)                                                               \
          cr[r] = r < rows ? c + static_cast<ptrdiff_t>(i + r) * ldc + j : spare;                 \
        if (rows < 4) std::memset(spare, 0, sizeof spare);                                        \
        vec s00 = *reinterpret_cast<vec*>(cr[0]), s01 = *reinterpret_cast<vec*>(cr[0] + 8);       \
        vec s10 = *reinterpret_cast<vec*>(cr[1]), s11 = *reinterpret_cast<vec*>(cr[1] + 8);       \
        vec s20 = *reinterpret_cast<vec*>(cr[2]), s21 = *reinterpret_cast<vec*>(cr[2] + 8);       \
        vec s30 = *reinterpret_cast<vec*>(cr[3]), s31 = *reinterpret_cast<vec*>(cr[3] + 8);       \
        const T* bp = b + j;                                                                      \
        for (int x = 0; x < k; ++x, bp += ldb) {                                                  \
          const vec b0 = *reinterpret_cast<const vec*>(bp);                                       \
          const vec b1 = *reinterpret_cast<const vec*>(bp + 8);                                   \
          s00 += ar[0][x] * b0;                                                                   \
          s01 += ar[0][x] * b1;                                                                   \
          s10 += ar[1][x] * b0;                                                                   \
          s11 += ar[1][x] * b1;                                                                   \
          s20 += ar[2][x] * b0;                                                                   \
          s21 += ar[2][x] * b1;                                                                   \
          s30 += ar[3][x] * b0;                                                                   \
          s31 += ar[3][x] * b1;                                                                   \
        }                                                                                         \
        *reinterpret_cast<vec*>(cr[3]) = s30, *reinterpret_cast<vec*>(cr[3] + 8) = s31;           \
        *reinterpret_cast<vec*>(cr[2]) = s20, *reinterpret_cast<vec*>(cr[2] + 8) = s21;           \
        *reinterpret_cast<vec*>(cr[1]) = s10, *reinterpret_cast<vec*>(cr[1] + 8) = s11;           \
        *reinterpret_cast<vec*>(cr[0]) = s00, *reinterpret_cast<vec*>(cr[0] + 8) = s01;           \
      }                                                                                           \
    }                                                                                             \
  }
ASCSIM_GEMM(gemmFloat, float)
ASCSIM_GEMM(gemmInt, int32_t)
#undef ASCSIM_GEMM

void gemm(const float* a, int lda, const float* b, int ldb, float* c, int ldc, int m, int k, int n) {
  gemmFloat(a, lda, b, ldb, c, ldc, m, k, n);
}
void gemm(const int32_t* a, int lda, const int32_t* b, int ldb, int32_t* c, int ldc, int m, int k, int n) {
  gemmInt(a, lda, b, ldb, c, ldc, m, k, n);
}

uint8_t combine8(uint8_t op, uint8_t old, uint8_t v) {
  const int a = static_cast<int8_t>(old), b = static_cast<int8_t>(v);
  const int r = op == 1 ? std::clamp(a + b, -128, 127) : op == 2 ? std::max(a, b) : std::min(a, b);
  return static_cast<uint8_t>(static_cast<int8_t>(r));
}
float combine(uint8_t op, float old, float v) { return op == 1 ? old + v : op == 2 ? std::max(old, v) : std::min(old, v); }

// Atomic write of n elements: 1 add, 2 max, 3 min.
void accumulate(DType t, uint8_t op, uint8_t* to, const uint8_t* from, int n) {
  for (int i = 0; i < n; ++i) {
    if (t == DType::F32) {
      float a, b;
      std::memcpy(&a, to + 4 * i, 4);
      std::memcpy(&b, from + 4 * i, 4);
      a = combine(op, a, b);
      std::memcpy(to + 4 * i, &a, 4);
    } else if (t == DType::I32) {
      int32_t a, b;
      std::memcpy(&a, to + 4 * i, 4);
      std::memcpy(&b, from + 4 * i, 4);
      a = op == 1 ? static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)) : op == 2 ? std::max(a, b) : std::min(a, b);
      std::memcpy(to + 4 * i, &a, 4);
    } else if (t == DType::F16 || t == DType::BF16) {
      uint16_t a, b;
      std::memcpy(&a, to + 2 * i, 2);
      std::memcpy(&b, from + 2 * i, 2);
      const float x = t == DType::F16 ? halfBitsToFloat(a) : bfloatBitsToFloat(a);
      const float y = t == DType::F16 ? halfBitsToFloat(b) : bfloatBitsToFloat(b);
      const float r = combine(op, x, y);
      a = t == DType::F16 ? floatToHalfBits(r) : floatToBfloatBits(r);
      std::memcpy(to + 2 * i, &a, 2);
    } else {
      to[i] = combine8(op, to[i], from[i]);
    }
  }
}

// Every byte of the rectangle; returns the number of separate runs.
uint32_t declareRegion(Instr& i, const Region& r) {
  uint32_t bursts = 0;
  if (!r.nz) {
    for (uint64_t y = 0; y < r.rows; ++y, ++bursts)
      i.read(r.place, bytesFor(r.dtype, (r.row + y) * r.ld + r.col), bytesFor(r.dtype, r.cols));
    return bursts;
  }
  const uint64_t w = c0(r.dtype);
  for (uint64_t x = r.col / w; x * w < r.col + r.cols; ++x, ++bursts)
    i.read(r.place, bytesFor(r.dtype, (x * r.ld + r.row) * w), bytesFor(r.dtype, r.rows * w));
  return bursts;
}

void describe(Instr& i, const Region& r, uint32_t bursts, Mem to) {
  i.event.src = r.place.mem;
  i.event.dst = to;
  i.event.dtype = r.dtype;
  i.event.bytes = bytesFor(r.dtype, r.rows * r.cols);
  i.event.bursts = bursts;
  i.event.l2Hint = r.place.l2Hint;
  if (r.place.mem != Mem::GM) return;
  const uint64_t w = c0(r.dtype);
  i.event.gmAddress = r.place.address + bytesFor(r.dtype, r.nz ? (r.col / w * r.ld + r.row) * w : r.row * r.ld + r.col);
  i.event.gmSpan = bytesFor(r.dtype, r.nz ? ((r.cols - 1) / w * r.ld + r.rows) * w : (r.rows - 1) * r.ld + r.cols);
}

// Global memory has these bytes already. Several cores may compute the same part of C, for example
// both vector cores of a group: writes that change nothing are no race.
bool holds(const uint8_t* at, const uint8_t* bytes, uint64_t n) {
  const Gm* g = gmOf(at);
  if (g == nullptr) return false;
  const uint64_t first = static_cast<uint64_t>(at - g->base);
  if (first + n > g->bytes || std::memcmp(at, bytes, n) != 0) return false;
  for (uint64_t b = first / 32; b * 32 < first + n; ++b) {
    const uint64_t from = std::max(first, b * 32) - b * 32, to = std::min(first + n, b * 32 + 32) - b * 32;
    const uint32_t mask = (to - from == 32 ? ~0u : (1u << (to - from)) - 1u) << from;
    if ((g->shadow->init_[b] & mask) != mask) return false;
  }
  return true;
}

uint64_t pairKey(int block, int index, int what) {
  return 0x4d4d000000000000ull | static_cast<uint64_t>(block) << 16 | static_cast<uint64_t>(index) << 4 | static_cast<uint64_t>(what);
}

}  // namespace

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
    fail(kParam, "no tiling is given, and it is not constant: pass a TCubeTiling to REGIST_MATMUL_OBJ or Init");
  for (int32_t* v : {&t_.depthA1, &t_.depthB1, &t_.stepM, &t_.stepN, &t_.stepKa, &t_.stepKb, &t_.dbL0A, &t_.dbL0B, &t_.dbL0C})
    if (*v <= 0) *v = 1;
  m_ = t_.M, n_ = t_.N, ka_ = t_.Ka, kb_ = t_.Kb, kc_ = 0;
  sm_ = t_.singleCoreM, sn_ = t_.singleCoreN, sk_ = t_.singleCoreK;
  checkTiling();
  const bool mdl = desc_.cfg.doMultiDataLoad || desc_.cfg.doSpecialMDL || desc_.policy == Policy::NBuffer33;
  auto setup = [&](Cache& c, int stepOuter, int stepK, int depth, int base, DType type) {
    c.stepOuter = mdl ? stepOuter : 1;
    c.stepK = mdl ? stepK : 1;
    c.blocks.assign(static_cast<size_t>(std::max(1, depth / (c.stepOuter * c.stepK))), Block{});
    c.current = nullptr;
    c.blockBytes = static_cast<uint32_t>(bytesFor(type, static_cast<uint64_t>(alignUp(base, 32)) * static_cast<uint64_t>(c.stepOuter) *
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
  if (t_.baseM <= 0 || t_.baseN <= 0 || t_.baseK <= 0 || t_.singleCoreM <= 0 || t_.singleCoreN <= 0 || t_.singleCoreK <= 0)
    fail(kParam, "the tiling has base %d x %d x %d and single-core shape %d x %d x %d (M x N x K); expected positive numbers: did GetTiling fail?",
         t_.baseM, t_.baseN, t_.baseK, t_.singleCoreM, t_.singleCoreN, t_.singleCoreK);
  const int kAlign = static_cast<int>(desc_.a.dtype == DType::F32 ? 8 : c0(desc_.a.dtype));
  if (t_.baseM % 16 != 0 && desc_.a.format != CubeFormat::VECTOR) report(kParam, "baseM is %d; expected a multiple of 16", t_.baseM);
  if (t_.baseN % 16 != 0) report(kParam, "baseN is %d; expected a multiple of 16", t_.baseN);
  if (t_.baseK % kAlign != 0) report(kParam, "baseK is %d; expected a multiple of %d", t_.baseK, kAlign);
  const uint64_t m = static_cast<uint64_t>(alignUp(t_.baseM, 16)), n = static_cast<uint64_t>(t_.baseN), k = static_cast<uint64_t>(t_.baseK);
  const uint64_t a = bytesFor(desc_.a.dtype, m * k), b = bytesFor(desc_.b.dtype, n * k);
  auto fits = [](uint64_t need, uint64_t have, const char* mem, const char* what) {
    if (need > have)
      report(kBounds, "%s needs %llu bytes of %s, which has %llu; choose smaller base sizes or depths", what,
             static_cast<unsigned long long>(need), mem, static_cast<unsigned long long>(have));
  };
  fits(a * static_cast<uint64_t>(t_.dbL0A), chip.l0a, "L0A", "baseM x baseK x dbL0A");
  fits(b * static_cast<uint64_t>(t_.dbL0B), chip.l0b, "L0B", "baseN x baseK x dbL0B");
  if (memOf(desc_.c.pos) != Mem::L0C) fits(m * n * 4 * static_cast<uint64_t>(t_.dbL0C), chip.l0c, "L0C", "baseM x baseN x dbL0C");
  const uint64_t bias = t_.isBias != 0 && desc_.cfg.enableSetBias ? n * bits(desc_.bias.dtype) / 8 : 0;
  if (bias != 0) fits(n * 4, chip.bt, "the bias table", "baseN of the bias");
  uint64_t l1 = bias;
  if (memOf(desc_.a.pos) != Mem::L1) l1 += a * static_cast<uint64_t>(t_.depthA1);
  if (memOf(desc_.b.pos) != Mem::L1) l1 += b * static_cast<uint64_t>(t_.depthB1);
  fits(l1, alignUp<uint64_t>(chip.l1, 1024), "L1", "depthA1 and depthB1 blocks and the bias");
  const MatmulConfig& c = desc_.cfg;
  if ((c.doBasicBlock || c.doSpecialBasicBlock) &&
      (static_cast<int>(c.basicM) != t_.baseM || static_cast<int>(c.basicN) != t_.baseN || static_cast<int>(c.basicK) != t_.baseK))
    report(kParam, "the BasicBlock template is for base %u x %u x %u, the tiling has %d x %d x %d (M x N x K); they must be equal",
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
    report(kParam, "the single-core shape becomes %d x %d x %d (M x N x K); expected positive numbers", sm_, sn_, sk_);
}

void Engine::setA(const Source& s) {
  if (!active()) return;
  a_ = s;
  if (s.trans && !desc_.a.trans)
    report(kParam, "SetTensorA asks for a transposed A, but the MatmulType of A has ISTRANS = false; the result would be wrong");
  running_ = false;
}

void Engine::setB(const Source& s) {
  if (!active()) return;
  b_ = s;
  if (s.trans && !desc_.b.trans)
    report(kParam, "SetTensorB asks for a transposed B, but the MatmulType of B has ISTRANS = false; the result would be wrong");
  running_ = false;
}

void Engine::setBias(const Source& s) {
  if (!active()) return;
  if (ready_ && t_.isBias == 0)
    report(kParam, "SetBias is called, but isBias of the tiling is 0; call EnableBias(true) before GetTiling");
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
  if (!ready_) fail(kParam, "the object has no tiling yet: pass it to REGIST_MATMUL_OBJ or call Init first");
  if (!a_.set || !b_.set) fail(kParam, "%s was not called for this matrix multiplication", a_.set ? "SetTensorB" : "SetTensorA");
  const int mIter = ceilDiv(sm_, t_.baseM), nIter = ceilDiv(sn_, t_.baseN);
  const bool outer = desc_.cfg.scheduleType == ScheduleType::OUTER_PRODUCT;
  bool nFirst = t_.iterateOrder == 1;
  if (outer && desc_.cfg.iterateOrder != IterateOrder::UNDEF) nFirst = desc_.cfg.iterateOrder == IterateOrder::ORDER_N;
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
  order_.erase(std::remove_if(order_.begin(), order_.end(), [&](const auto& p) { return skipped(p.first, p.second); }), order_.end());
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
    return bytesFor(side.dtype, side.format == CubeFormat::NZ ? alignUp<uint64_t>(rows, 16) * alignUp<uint64_t>(cols, c0(side.dtype))
                                                              : rows * alignUp<uint64_t>(cols, c0(side.dtype)));
  };
  const uint64_t m = static_cast<uint64_t>(sm_), n = static_cast<uint64_t>(sn_), k = static_cast<uint64_t>(sk_);
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

// ------------------------------------------------------------------------------ reading A and B
Region Engine::region(bool isA, int outer0, int outers, int k0, int ks) const {
  const Source& s = isA ? useA_ : useB_;
  const Side& side = isA ? desc_.a : desc_.b;
  const bool rowsAreOuter = isA != s.trans;
  Region r;
  r.place = s.place;
  r.dtype = side.dtype;
  r.nz = side.format == CubeFormat::NZ;
  r.row = static_cast<uint64_t>(rowsAreOuter ? outer0 : k0);
  r.rows = static_cast<uint64_t>(rowsAreOuter ? outers : ks);
  r.col = static_cast<uint64_t>(rowsAreOuter ? k0 : outer0);
  r.cols = static_cast<uint64_t>(rowsAreOuter ? ks : outers);
  const bool staged = r.place.mem == Mem::GM && r.place.limit == 1;
  if (staged) r.place.limit = ~0ull;
  const bool local = staged || r.place.mem != Mem::GM;  // holds this core's part only
  const int outerAll = local ? (isA ? sm_ : sn_) : (isA ? m_ : n_);
  const int kAll = local ? sk_ : (isA ? ka_ : kb_);
  const uint64_t rowsAll = static_cast<uint64_t>(rowsAreOuter ? outerAll : kAll);
  const uint64_t colsAll = static_cast<uint64_t>(rowsAreOuter ? kAll : outerAll);
  const uint64_t batch = isA ? ldA_ : ldB_;
  if (r.nz) r.ld = alignUp<uint64_t>(rowsAll, 16);
  else if (batch != 0) r.ld = batch;
  else r.ld = local ? alignUp<uint64_t>(colsAll, c0(r.dtype)) : colsAll;
  return r;
}

template <class T>
void Engine::fetch(bool isA, int outer0, int outers, int k0, int ks, T* to, int ld) {
  const Source& s = isA ? useA_ : useB_;
  if (s.scalar) {
    const int rows = isA ? outers : ks, cols = isA ? ks : outers;
    for (int y = 0; y < rows; ++y)
      for (int x = 0; x < cols; ++x) to[y * ld + x] = static_cast<T>(s.value);
    return;
  }
  if (!isA && hasSparse_) {
    fetchSparse(outer0, outers, k0, ks, to, ld);
    return;
  }
  const Region r = region(isA, outer0, outers, k0, ks);
  const uint8_t* base = core().ptr(r.place.mem, r.place.address);
  const bool rowsAreOuter = isA != s.trans;
  const bool direct = isA == rowsAreOuter;  // stored rows are the rows wanted
  std::vector<T>* line = nullptr;
  if constexpr (std::is_same_v<T, float>) line = &fline_;
  else line = &iline_;
  line->resize(r.cols);
  const uint64_t w = c0(r.dtype);
  for (uint64_t y = 0; y < r.rows; ++y) {
    T* out = direct ? to + y * static_cast<uint64_t>(ld) : line->data();
    if (!r.nz) {
      convertRun(r.dtype, base, (r.row + y) * r.ld + r.col, static_cast<int>(r.cols), out);
    } else {
      for (uint64_t x = 0; x < r.cols;) {
        const uint64_t c = r.col + x;
        const uint64_t n = std::min(r.cols - x, w - c % w);
        convertRun(r.dtype, base, (c / w * r.ld + r.row + y) * w + c % w, static_cast<int>(n), out + x);
        x += n;
      }
    }
    if (!direct)
      for (uint64_t x = 0; x < r.cols; ++x) to[x * static_cast<uint64_t>(ld) + y] = out[x];
  }
  if constexpr (std::is_same_v<T, float>) {
    if (hf32_ && r.dtype == DType::F32) {
      const int rows = isA ? outers : ks, cols = isA ? ks : outers;
      for (int y = 0; y < rows; ++y)
        for (int x = 0; x < cols; ++x) to[y * ld + x] = toHf32(to[y * ld + x], hf32Mode_);
    }
  }
}

// B holds two of every four values along K; two bits per value say which.
template <class T>
void Engine::fetchSparse(int n0, int ns, int k0, int ks, T* to, int ld) {
  if (!useB_.trans || desc_.b.dtype != DType::I8) fail(kParam, "a sparse B is int8_t and transposed");
  const uint8_t* values = core().ptr(useB_.place.mem, useB_.place.address);
  const uint8_t* index = core().ptr(sparse_.mem, sparse_.address);
  const uint64_t indexRows = alignUp<uint64_t>(static_cast<uint64_t>(n_), 16);
  for (int k = 0; k < ks; ++k)
    for (int n = 0; n < ns; ++n) to[k * ld + n] = 0;
  for (int n = 0; n < ns; ++n) {
    const uint64_t row = static_cast<uint64_t>(n0 + n);
    for (int g = k0 / 4; g * 4 < k0 + ks; ++g) {
      const uint64_t byte = static_cast<uint64_t>(g) / 2;
      const uint8_t both = static_cast<uint8_t>(index[byte / 8 * indexRows * 8 + row * 8 + byte % 8] >> (g % 2 * 4));
      const int first = both & 3, second = ((both >> 2) & 3) + 1;
      const uint8_t* v = values + row * static_cast<uint64_t>(kb_ / 2) + static_cast<uint64_t>(g) * 2;
      const int at = g * 4 - k0;
      if (at + first < ks) to[(at + first) * ld + n] += static_cast<T>(static_cast<int8_t>(v[0]));
      if (at + second < ks && second < 4) to[(at + second) * ld + n] += static_cast<T>(static_cast<int8_t>(v[1]));
    }
  }
}

Block& Engine::block(Cache& cache, bool isA, int outer, int k) {
  if (cache.current != nullptr && cache.current->outer == outer && cache.current->k == k) return *cache.current;
  // MTE1 leaves the current block: it may be overwritten once what was issued until now is done.
  if (cache.current != nullptr) signal(Pipe::MTE1, cache.current->free, cache.current->freeToken);
  Block* victim = &cache.blocks[0];
  for (Block& b : cache.blocks) {
    if (b.outer == outer && b.k == k) {
      b.age = ++age_;
      return *(cache.current = &b);
    }
    if (b.age < victim->age) victim = &b;
  }
  victim->outer = outer;
  victim->k = k;
  victim->age = ++age_;
  load(cache, *victim, isA, outer, k);
  return *(cache.current = victim);
}

void Engine::load(Cache& cache, Block& b, bool isA, int outer, int k) {
  const Source& s = isA ? useA_ : useB_;
  if (s.scalar || s.place.mem == Mem::L1) return;
  if (b.freeToken != 0) await(Pipe::MTE2, b.free, b.freeToken);
  const int base = isA ? t_.baseM : t_.baseN, all = isA ? sm_ : sn_;
  const int outer0 = outer * cache.stepOuter * base, k0 = k * cache.stepK * t_.baseK;
  const int outers = std::min(cache.stepOuter * base, all - outer0), ks = std::min(cache.stepK * t_.baseK, sk_ - k0);
  const CopyInFn copy = isA ? desc_.copyA : desc_.copyB;
  if (copy != nullptr) {
    AscendC::LocalTensor<int8_t> to(isA ? AscendC::TPosition::A1 : AscendC::TPosition::B1,
                                    cache.l1 + static_cast<uint32_t>(&b - cache.blocks.data()) * cache.blockBytes, cache.blockBytes);
    const void* gm = reinterpret_cast<const void*>(s.place.address);
    if (isA) copy(to, gm, outer, k, outers, ks, user_, data_);
    else copy(to, gm, k, outer, ks, outers, user_, data_);
  } else {
    Region r = region(isA, outer0, outers, k0, ks);
    if (!isA && hasSparse_) {
      r.col /= 2, r.cols /= 2, r.ld /= 2;
      Instr i(Pipe::MTE2, "mte_gm_l1");
      const uint64_t rows = alignUp<uint64_t>(static_cast<uint64_t>(n_), 16);
      for (int byte = k0 / 8; byte * 8 < k0 + ks; ++byte)
        for (int n = 0; n < outers; ++n)
          i.read(sparse_, static_cast<uint64_t>(byte / 8) * rows * 8 + static_cast<uint64_t>(outer0 + n) * 8 + static_cast<uint64_t>(byte % 8), 1);
      i.event.src = Mem::GM;
      i.event.dst = Mem::L1;
      i.event.bytes = static_cast<uint64_t>(outers * ks / 8);
      i.event.bursts = 1;
      i.event.gmAddress = sparse_.address;
      i.event.gmSpan = i.event.bytes;
    }
    Instr i(Pipe::MTE2, r.nz || (isA && desc_.a.format == CubeFormat::VECTOR) ? "mte_gm_l1" : "mte_gm_l1_nd2nz");
    describe(i, r, declareRegion(i, r), Mem::L1);
  }
  signal(Pipe::MTE2, b.ready, b.readyToken);
}

// ------------------------------------------------------------------------------ computing a tile
Tile& Engine::prepare(size_t index, size_t which, bool keep) {
  if (tiles_.size() <= which) tiles_.resize(which + 1);
  Tile& t = tiles_[which];
  const auto [row, col] = order_[index / static_cast<size_t>(kParts_)];
  t.row = row;
  t.col = col;
  t.k = kParts_ > 1 ? static_cast<int>(index % static_cast<size_t>(kParts_)) : -1;
  t.m = std::min(t_.baseM, sm_ - row * t_.baseM);
  t.n = std::min(t_.baseN, sn_ - col * t_.baseN);
  t.ld = alignUp(t.n, 16);
  const size_t size = static_cast<size_t>(t.m) * static_cast<size_t>(t.ld);
  if (intAcc()) {
    if (!keep || t.i.size() != size) t.i.assign(size, 0);
  } else if (!keep || t.f.size() != size) {
    t.f.assign(size, 0.0f);
  }
  return t;
}

void Engine::addBias(Tile& t) {
  const uint64_t n0 = static_cast<uint64_t>(t.col * t_.baseN), n = static_cast<uint64_t>(t.n);
  const DType type = desc_.bias.dtype;
  Place p = useBias_.place;
  if (p.mem == Mem::GM) p.limit = ~0ull;
  {
    Instr i(p.mem == Mem::GM ? Pipe::MTE2 : Pipe::MTE1, p.mem == Mem::GM ? "mte_gm_l1" : "mte_l1_bt");
    i.read(p, bytesFor(type, n0), bytesFor(type, n));
    i.event.src = p.mem;
    i.event.dst = p.mem == Mem::GM ? Mem::L1 : Mem::BT;
    i.event.bytes = bytesFor(type, n);
    i.event.bursts = 1;
    i.event.dtype = type;
    i.event.gmAddress = p.address + bytesFor(type, n0);
    i.event.gmSpan = i.event.bytes;
  }
  if (p.mem == Mem::GM) {
    Clock now;
    uint64_t token = 0;
    signal(Pipe::MTE2, now, token);
    await(Pipe::MTE1, now, token);
    Instr i(Pipe::MTE1, "mte_l1_bt");
    i.event.src = Mem::L1;
    i.event.dst = Mem::BT;
    i.event.bytes = bytesFor(type, n);
    i.event.bursts = 1;
  }
  const uint8_t* base = core().ptr(p.mem, p.address);
  if (intAcc()) {
    std::vector<int32_t> v(n);
    convertRun(type, base, n0, t.n, v.data());
    for (int m = 0; m < t.m; ++m)
      for (int x = 0; x < t.n; ++x) t.i[static_cast<size_t>(m * t.ld + x)] += v[static_cast<size_t>(x)];
  } else {
    std::vector<float> v(n);
    convertRun(type, base, n0, t.n, v.data());
    for (int m = 0; m < t.m; ++m)
      for (int x = 0; x < t.n; ++x) t.f[static_cast<size_t>(m * t.ld + x)] += v[static_cast<size_t>(x)];
  }
}

void Engine::compute(Tile& t, bool accumulateOn, const Sink* co1) {
  const int first = t.k < 0 ? 0 : t.k, last = t.k < 0 ? kSteps() : t.k + 1;
  const bool withBias = useBias_.set && desc_.cfg.enableSetBias && !accumulateOn && first == 0;
  if (withBias) addBias(t);
  t.slot = l0cNext_;
  l0cNext_ = (l0cNext_ + 1) % std::clamp(t_.dbL0C, 1, 2);
  if (l0cToken_[t.slot] != 0) await(Pipe::M, l0c_[t.slot], l0cToken_[t.slot]);
  const int row0 = t.row * t_.baseM, col0 = t.col * t_.baseN;
  const uint64_t kUnit = desc_.a.dtype == DType::I4 ? 64 : c0(desc_.a.dtype);
  for (int ks = first; ks < last; ++ks) {
    const int k0 = ks * t_.baseK, k = std::min(t_.baseK, sk_ - k0);
    Block& a = block(cacheA_, true, t.row / cacheA_.stepOuter, ks / cacheA_.stepK);
    Block& b = block(cacheB_, false, t.col / cacheB_.stepOuter, ks / cacheB_.stepK);
    for (Block* x : {&a, &b})
      if (x->readyToken != 0) {
        await(Pipe::MTE1, x->ready, x->readyToken);
        x->readyToken = 0;
      }
    const int s = l0Next_;
    l0Next_ = (l0Next_ + 1) % std::clamp(std::min(t_.dbL0A, t_.dbL0B), 1, 2);
    if (l0Token_[s] != 0) await(Pipe::MTE1, l0_[s], l0Token_[s]);
    auto toL0 = [&](bool isA, const char* name) {
      const Source& src = isA ? useA_ : useB_;
      Instr i(Pipe::MTE1, name);
      const int outers = isA ? t.m : t.n;
      if (!src.scalar && src.place.mem == Mem::L1) declareRegion(i, region(isA, isA ? row0 : col0, outers, k0, k));
      i.event.src = Mem::L1;
      i.event.dst = isA ? Mem::L0A : Mem::L0B;
      i.event.dtype = isA ? desc_.a.dtype : desc_.b.dtype;
      i.event.bytes = bytesFor(i.event.dtype, static_cast<uint64_t>(alignUp(outers, 16)) * alignUp<uint64_t>(static_cast<uint64_t>(k), kUnit));
      i.event.bursts = 1;
    };
    toL0(true, useA_.trans ? "mte_l1_l0a_t" : "mte_l1_l0a");
    toL0(false, useB_.trans ? "mte_l1_l0b" : "mte_l1_l0b_t");
    Clock loaded;
    uint64_t token = 0;
    signal(Pipe::MTE1, loaded, token);
    await(Pipe::M, loaded, token);
    {
      Instr i(Pipe::M, hf32_ && desc_.a.dtype == DType::F32 ? "mad_hf32" : withBias && ks == first ? "mad_bias" : "mad");
      i.event.repeats = static_cast<uint32_t>(ceilDiv(t.m, 16) * ceilDiv(k, static_cast<int>(kUnit)) * ceilDiv(t.n, 16));
      i.event.dtype = desc_.a.dtype;
    }
    signal(Pipe::M, l0_[s], l0Token_[s]);
    // Blocks that a callback filled are read where they are: NZ in L1.
    auto fromL1 = [&](bool isA, auto* out, int ld) {
      const Cache& cache = isA ? cacheA_ : cacheB_;
      const Block& x = isA ? a : b;
      Source saved = isA ? useA_ : useB_;
      Source& use = isA ? useA_ : useB_;
      const int base = isA ? t_.baseM : t_.baseN, all = isA ? sm_ : sn_;
      const int outer0 = x.outer * cache.stepOuter * base, kk0 = x.k * cache.stepK * t_.baseK;
      const int outers = std::min(cache.stepOuter * base, all - outer0), kks = std::min(cache.stepK * t_.baseK, sk_ - kk0);
      const bool rowsAreOuter = isA != saved.trans;
      const DType type = isA ? desc_.a.dtype : desc_.b.dtype;
      const uint64_t w = c0(type), rows = alignUp<uint64_t>(static_cast<uint64_t>(rowsAreOuter ? outers : kks), 16);
      const uint8_t* p = core().ptr(Mem::L1, cache.l1 + static_cast<uint32_t>(&x - cache.blocks.data()) * cache.blockBytes);
      const int o0 = (isA ? row0 : col0) - outer0, on = isA ? t.m : t.n, kAt = k0 - kk0;
      for (int o = 0; o < on; ++o)
        for (int y = 0; y < k; ++y) {
          const uint64_t r = static_cast<uint64_t>(rowsAreOuter ? o0 + o : kAt + y), c = static_cast<uint64_t>(rowsAreOuter ? kAt + y : o0 + o);
          convertRun(type, p, (c / w * rows + r) * w + c % w, 1, out + (isA ? o * ld + y : y * ld + o));
        }
      use = saved;
    };
    const size_t needA = static_cast<size_t>(t.m) * static_cast<size_t>(k), needB = static_cast<size_t>(k) * static_cast<size_t>(t.ld);
    auto multiply = [&](auto& va, auto& vb, auto& vc) {
      if (va.size() < needA) va.resize(needA);
      vb.assign(std::max(vb.size(), needB), 0);
      if (desc_.copyA != nullptr) fromL1(true, va.data(), k);
      else fetch(true, row0, t.m, k0, k, va.data(), k);
      if (desc_.copyB != nullptr) fromL1(false, vb.data(), t.ld);
      else fetch(false, col0, t.n, k0, k, vb.data(), t.ld);
      gemm(va.data(), k, vb.data(), t.ld, vc.data(), t.ld, t.m, k, t.ld);
    };
    if (intAcc()) multiply(ia_, ib_, t.i);
    else multiply(fa_, fb_, t.f);
  }
  if (co1 != nullptr) tileToLocal(t, co1->place.address, std::min<uint64_t>(co1->bytes, co1->place.limit - co1->place.address), Pipe::M, accumulateOn);
  signal(Pipe::M, t.ready, t.token);
}

// The tile as L0C holds it: fractals of 16 x 16, columns of fractals first.
void Engine::tileToLocal(const Tile& t, uint64_t address, uint64_t bytes, Pipe pipe, bool accumulateOn) {
  const int rows = alignUp(t.m, 16);
  const uint64_t need = static_cast<uint64_t>(rows) * static_cast<uint64_t>(t.ld) * 4;
  Instr i(pipe, "mad");
  i.event.cycles = 0;
  if (need > bytes)
    report(kBounds, "the result of one Iterate has %llu bytes, the tensor in L0C %llu", static_cast<unsigned long long>(need),
           static_cast<unsigned long long>(bytes));
  if (accumulateOn) i.read(Mem::L0C, address, need);
  i.write(Mem::L0C, address, need);
  uint8_t* p = core().ptr(Mem::L0C, address);
  for (int n = 0; n < t.ld; ++n)
    for (int m = 0; m < rows; ++m) {
      const size_t at = static_cast<size_t>((n / 16 * rows + m) * 16 + n % 16) * 4;
      if (at + 4 > bytes) continue;
      if (intAcc()) {
        int32_t v = m < t.m ? t.i[static_cast<size_t>(m * t.ld + n)] : 0;
        std::memcpy(p + at, &v, 4);
      } else {
        float v = m < t.m ? t.f[static_cast<size_t>(m * t.ld + n)] : 0.0f;
        std::memcpy(p + at, &v, 4);
      }
    }
}

// ------------------------------------------------------------------------------ C
void Engine::loadQuant(const Tile& t) {
  if (!hasQuantVector_) return;
  Place p = quantVector_;
  const uint64_t n0 = static_cast<uint64_t>(t.col * t_.baseN) * 8, n = static_cast<uint64_t>(t.n) * 8;
  Clock now;
  uint64_t token = 0;
  if (p.mem == Mem::GM) {
    {
      Instr i(Pipe::MTE2, "mte_gm_l1");
      i.read(p, n0, n);
      i.event.src = Mem::GM;
      i.event.dst = Mem::L1;
      i.event.bytes = n;
      i.event.bursts = 1;
      i.event.gmAddress = p.address + n0;
      i.event.gmSpan = n;
    }
    signal(Pipe::MTE2, now, token);
    await(Pipe::FIX, now, token);
  }
  Instr i(Pipe::FIX, "mte_l1_fb");
  if (p.mem != Mem::GM) i.read(p, n0, n);
  i.event.src = Mem::L1;
  i.event.dst = Mem::FB;
  i.event.bytes = n;
  i.event.bursts = 1;
}

void Engine::convert(const Tile& t, int row, int col, int count, uint8_t* out) const {
  const DType c = desc_.c.dtype;
  const size_t at = static_cast<size_t>(row * t.ld + col);
  if (c == DType::F32 && !intAcc()) {
    std::memcpy(out, &t.f[at], static_cast<size_t>(count) * 4);
    return;
  }
  if (c == DType::I32) {
    std::memcpy(out, &t.i[at], static_cast<size_t>(count) * 4);
    return;
  }
  for (int x = 0; x < count; ++x) {
    float v = intAcc() ? static_cast<float>(t.i[at + static_cast<size_t>(x)]) : t.f[at + static_cast<size_t>(x)];
    int offset = 0;
    if (intAcc() || c == DType::I8) {
      uint64_t q = quant_;
      if (hasQuantVector_)
        std::memcpy(&q, core().ptr(quantVector_.mem, quantVector_.address + static_cast<uint64_t>(t.col * t_.baseN + col + x) * 8), 8);
      v *= bitsFloat(static_cast<uint32_t>(q) & 0xffffe000u);
      offset = static_cast<int>(q >> 37 & 0x1ff);
      if (offset >= 256) offset -= 512;
    }
    if (c == DType::I8) {
      const float r = std::nearbyint(v) + static_cast<float>(offset);
      out[x] = static_cast<uint8_t>(static_cast<int8_t>(std::isnan(r) ? 0.0f : std::clamp(r, -128.0f, 127.0f)));
    } else if (c == DType::F32) {
      std::memcpy(out + 4 * x, &v, 4);
    } else {
      const uint16_t h = c == DType::BF16 ? floatToBfloatBits(v) : floatToHalfBits(v);
      std::memcpy(out + 2 * x, &h, 2);
    }
  }
}

// C in global memory, in the object's format.
void Engine::store(Tile& t, const Sink& sink) {
  const DType c = desc_.c.dtype;
  if ((intAcc() && c != DType::I32) || (!intAcc() && c == DType::I8)) {
    if (!hasQuant_ && !hasQuantVector_)
      fail(kParam, "C of %s from %s needs a scale: call SetQuantScalar or SetQuantVector before Iterate", dtypeName(c), dtypeName(desc_.a.dtype));
    loadQuant(t);
  }
  if (t.token != 0) await(Pipe::FIX, t.ready, t.token);
  const uint64_t m0 = static_cast<uint64_t>(t.row) * static_cast<uint64_t>(t_.baseM), n0 = static_cast<uint64_t>(t.col) * static_cast<uint64_t>(t_.baseN);
  const Place& p = sink.place;
  if (desc_.copyOut != nullptr) {
    tileToLocal(t, 0, memSize(Mem::L0C), Pipe::M, false);
    Clock now;
    uint64_t token = 0;
    signal(Pipe::M, now, token);
    await(Pipe::FIX, now, token);
    struct {
      uint16_t cBurstNum, burstLen, srcStride;
      uint32_t dstStride;
      uint16_t oriNSize;
      bool enUnitFlag;
      uint64_t quantScalar, cbufWorkspaceAddr;
      uint32_t curM, curN;
    } params{static_cast<uint16_t>(t.ld / 16), static_cast<uint16_t>(t.m * 16 * 4 / 32), 0, static_cast<uint32_t>(orgN()),
             static_cast<uint16_t>(t.n), false, quant_, 0, static_cast<uint32_t>(t.row), static_cast<uint32_t>(t.col)};
    const AscendC::LocalTensor<int8_t> co1(AscendC::TPosition::CO1, 0, static_cast<uint32_t>(alignUp(t.m, 16) * t.ld * 4));
    const uint64_t at = sink.sequential ? 0 : m0 * static_cast<uint64_t>(orgN()) + n0;
    desc_.copyOut(reinterpret_cast<const void*>(p.address + bytesFor(c, at)), co1, &params, user_, data_);
    signal(Pipe::FIX, l0c_[t.slot], l0cToken_[t.slot]);
    return;
  }
  uint8_t op = sink.atomic;
  if (op == 0 && !desc_.client) op = core().atomicOp;
  Instr i(Pipe::FIX, "fix_l0c_gm");
  if (op != 0) i.atomic();
  const uint64_t size = bits(c) / 8;
  uint64_t lowest = ~0ull, highest = 0;
  std::vector<uint8_t> line(static_cast<size_t>(std::max(t.ld, 32)) * 4);
  auto put = [&](uint64_t element, int row, int col, int count, int padded) {
    convert(t, row, col, count, line.data());
    const uint64_t at = element * size, bytes = static_cast<uint64_t>(padded) * size;
    if (padded > count) std::memset(line.data() + static_cast<size_t>(count) * size, 0, static_cast<size_t>(padded - count) * size);
    uint8_t* to = core().ptr(p.mem, p.address + at);
    lowest = std::min(lowest, at);
    highest = std::max(highest, at + bytes);
    if (op == 0 && holds(to, line.data(), bytes)) return;
    if (op != 0) i.update(p, at, bytes);
    else i.write(p, at, bytes);
    size_t room = 0, allocation = 0;
    if (!gmFind(to, &room, &allocation) || room + bytes > allocation) return;  // reported by write
    if (op != 0) accumulate(c, op, to, line.data(), padded);
    else std::memcpy(to, line.data(), bytes);
  };
  uint32_t bursts = 0;
  if (desc_.c.format == CubeFormat::NZ) {
    const uint64_t w = desc_.cfg.isEnableChannelSplit ? 8 : c == DType::I8 ? 32 : 16;
    const uint64_t rows = alignUp<uint64_t>(static_cast<uint64_t>(sink.sequential ? t.m : m_), 16);
    const uint64_t row0 = sink.sequential ? 0 : m0, col0 = sink.sequential ? 0 : n0;
    for (int n = 0; n < t.n; n += static_cast<int>(w), ++bursts)
      for (int m = 0; m < t.m; ++m)
        put(((col0 + static_cast<uint64_t>(n)) / w * rows + row0 + static_cast<uint64_t>(m)) * w, m, n, std::min(static_cast<int>(w), t.n - n),
            static_cast<int>(w));
  } else {
    uint64_t ld = sink.sequential ? static_cast<uint64_t>(t.n) : ldC_ != 0 ? ldC_ : static_cast<uint64_t>(orgN());
    int padded = t.n;
    if (desc_.c.format == CubeFormat::ND_ALIGN) {
      ld = alignUp<uint64_t>(ld, c0(c));
      // The last columns are rounded up to 32 bytes.
      if (sink.sequential || t.col * t_.baseN + t.n == sn_) padded = static_cast<int>(alignUp<uint64_t>(static_cast<uint64_t>(t.n), c0(c)));
    }
    const uint64_t at = sink.sequential ? 0 : m0 * ld + n0;
    for (int m = 0; m < t.m; ++m, ++bursts) put(at + static_cast<uint64_t>(m) * ld, m, 0, t.n, padded);
  }
  i.event.src = Mem::L0C;
  i.event.dst = Mem::GM;
  i.event.dtype = c;
  i.event.bytes = static_cast<uint64_t>(t.m) * static_cast<uint64_t>(t.n) * size;
  i.event.bursts = bursts;
  i.event.atomic = op != 0;
  i.event.gmAddress = p.address + lowest;
  i.event.gmSpan = highest - lowest;
  i.event.l2Hint = p.l2Hint;
  signal(Pipe::FIX, l0c_[t.slot], l0cToken_[t.slot]);
}

// ------------------------------------------------------------------------------ the calls
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
  if (desc_.client && isAic()) fail(kParam, "Iterate does not exist with enableMixDualMaster; use IterateAll");
  if (!running_) start();
  const size_t total = order_.size() * static_cast<size_t>(kParts_);
  if (next_ >= total) {
    running_ = false;
    return false;
  }
  if (partial && (sm_ > t_.baseM || sn_ > t_.baseN))
    report(kParam, "enPartialSum needs singleCoreM == baseM and singleCoreN == baseN; they are %d, %d and %d, %d", sm_, sn_, t_.baseM, t_.baseN);
  const bool all = !sync && desc_.client;
  if (all && workspace_.address == 0)
    fail(kParam, "an asynchronous Iterate keeps its results in global memory: call SetWorkspace before it");
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
        sink.place.address += static_cast<uint64_t>(next_) * bytesFor(desc_.c.dtype, static_cast<uint64_t>(t_.baseM) * static_cast<uint64_t>(t_.baseN));
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
  if (all) finish(false, done);
  else if (co1 != nullptr) finish(true, done);
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
    if (gmFind(reinterpret_cast<const void*>(from.address), &room, &allocation) && room + to.bytes <= allocation &&
        to.place.address + to.bytes <= memSize(Mem::UB))
      std::memcpy(core().ptr(Mem::UB, to.place.address), reinterpret_cast<const void*>(from.address), to.bytes);
  }
  if (wait) waitGetTensorC();
}

void Engine::getTensorC(bool sync, const Sink& sink) {
  if (!active()) return;
  if (async_) {
    if (sink.place.mem != Mem::UB)
      fail(kParam, "after an asynchronous Iterate, GetTensorC reads the workspace into UB; to global memory it needs the synchronous form");
    const Place from = nextFromWorkspace();
    copyToUb(from, sink, sync);
    return;
  }
  if (live_ == 0) fail(kParam, "there is no result to take: call Iterate before each GetTensorC");
  Sink to = sink;
  if (sink.place.mem == Mem::L1) fail(kChip, "C to L1 (TSCM) is not modelled");
  if (sink.place.mem == Mem::UB) {
    if (isAic()) fail(kChip, "a cube core of this chip cannot write UB: use C in global memory with ASCENDC_CUBE_ONLY");
    to.place = Place{};
    to.place.mem = Mem::GM;
    to.place.address = reinterpret_cast<uintptr_t>(scratchC_.need(imageBytes(sink)));
  }
  HandOver done;
  {
    AsCube cube;
    for (size_t i = 0; i < live_; ++i) {
      store(tiles_[i], to);
      if (to.sequential) to.place.address += bytesFor(desc_.c.dtype, static_cast<uint64_t>(tiles_[i].m) * static_cast<uint64_t>(tiles_[i].n));
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
  if (!async_) fail(kParam, "the results of a synchronous Iterate are not in the workspace: use Iterate<false>");
  if (pending_) {
    // Only the transfer out of the workspace waits, as the library does.
    takeOver(done_, Pipe::MTE2);
    pending_ = false;
  }
  Place p = workspace_;
  p.address += readAt_;
  readAt_ += bytesFor(desc_.c.dtype, static_cast<uint64_t>(t_.baseM) * static_cast<uint64_t>(t_.baseN));
  return p;
}

void Engine::runAll(const Sink& sink) {
  const size_t total = order_.size() * static_cast<size_t>(kParts_);
  Sink to = sink;
  for (; next_ < total; ++next_) {
    Tile& t = prepare(next_, 0, false);
    compute(t, false, nullptr);
    store(t, to);
    if (to.sequential) to.place.address += bytesFor(desc_.c.dtype, static_cast<uint64_t>(t.m) * static_cast<uint64_t>(t.n));
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
  const bool shared = desc_.client && !dual && desc_.a.ibShare && desc_.b.ibShare && aivPerGroup() == 2;
  if (shared && core().subBlock == 1) {
    // Both vector cores call; the cube core computes once for the two.
    postSignal(pairKey(block, index_, 0));
    awaitSignal(pairKey(block, index_, 1), "IterateAll of the first vector core of the group");
    return;
  }
  if (shared) awaitSignal(pairKey(block, index_, 0), "IterateAll of the second vector core of the group");
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

void Engine::iterateBatch(bool sync, const Sink& sink, int loops, int batchA, int batchB, uint32_t strideA, uint32_t strideB, bool partial) {
  if (!active()) return;
  if (batchA <= 0 || batchB <= 0 || (batchA % batchB != 0 && batchB % batchA != 0))
    fail(kParam, "batchA is %d and batchB %d; expected positive numbers, one a multiple of the other", batchA, batchB);
  if (partial) fail(kChip, "enPartialSum of IterateBatch is not modelled");
  const int batchC = std::max(batchA, batchB);
  const LayoutMode layout = desc_.a.layout == LayoutMode::NONE ? LayoutMode::NORMAL : desc_.a.layout;
  const LayoutMode layoutC = desc_.c.layout == LayoutMode::NONE ? LayoutMode::NORMAL : desc_.c.layout;
  const bool normal = layout == LayoutMode::NORMAL;
  const Source a = a_, b = b_, bias = bias_;
  auto u = [](int v) { return static_cast<uint64_t>(std::max(v, 0)); };
  // Offset of a matrix of a batch and the length of its rows.
  auto place = [&](LayoutMode l, uint64_t i, int B, int S, int N, int G, int D, uint64_t plain, uint64_t& ld) -> uint64_t {
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
  const uint64_t cTile = static_cast<uint64_t>(sm_) *
                         (desc_.c.format == CubeFormat::ND_ALIGN ? alignUp<uint64_t>(u(sn_), c0(desc_.c.dtype)) : u(sn_));
  if (sink.place.mem == Mem::UB) {
    if (isAic()) fail(kChip, "a cube core of this chip cannot write UB");
    to.place = Place{};
    to.place.mem = Mem::GM;
    to.place.address = reinterpret_cast<uintptr_t>(scratchC_.need(std::max(sink.bytes, bytesFor(desc_.c.dtype, cTile * u(batchC)))));
  }
  const Place origin = to.place;
  HandOver done;
  for (int l = 0; l < loops; ++l)
    for (int i = 0; i < batchC; ++i) {
      const uint64_t ia = u(l * batchA + i / (batchC / batchA)), ib = u(l * batchB + i / (batchC / batchB));
      uint64_t ic = u(l * batchC + i);
      const bool add = reduce && ic % u(group) != 0, last = !reduce || ic % u(group) == u(group) - 1;
      if (reduce) ic /= u(group);
      a_ = a, b_ = b, bias_ = bias;
      a_.place.address += bytesFor(desc_.a.dtype, place(layout, ia, t_.ALayoutInfoB, t_.ALayoutInfoS, t_.ALayoutInfoN, t_.ALayoutInfoG, t_.ALayoutInfoD,
                                                        strideA != 0 ? strideA : u(m_) * u(ka_), ldA_));
      b_.place.address += bytesFor(desc_.b.dtype, place(layout, ib, t_.BLayoutInfoB, t_.BLayoutInfoS, t_.BLayoutInfoN, t_.BLayoutInfoG, t_.BLayoutInfoD,
                                                        strideB != 0 ? strideB : u(kb_) * u(n_), ldB_));
      for (Source* s : {&a_, &b_})
        if (s->place.mem != Mem::GM) s->bytes = s->place.limit - s->place.address;
      if (bias.set && desc_.cfg.isBiasBatch) bias_.place.address += bytesFor(desc_.bias.dtype, ic * u(normal ? n_ : t_.CLayoutInfoS2));
      to.place = origin;
      if (sink.place.mem == Mem::UB) {
        to.place.address += bytesFor(desc_.c.dtype, ic * cTile);
        ldC_ = u(sn_);
      } else {
        to.place.address += bytesFor(desc_.c.dtype, place(layoutC, ic, t_.CLayoutInfoB, t_.CLayoutInfoS1, t_.CLayoutInfoN, t_.CLayoutInfoG, t_.CLayoutInfoS2,
                                                          u(m_) * u(orgN()), ldC_));
      }
      start();
      AsCube cube;
      if (reduce) {
        if (order_.size() != 1) fail(kChip, "a reduction over the G axis is modelled for one base block per matrix only");
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
  readAt_ += bytesFor(desc_.c.dtype, static_cast<uint64_t>(std::max(batchA, batchB)) * static_cast<uint64_t>(sm_) * static_cast<uint64_t>(sn_));
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
