// Where the Matmul object finds A and B, and their transfers into L1.
#include <algorithm>

#include "internal.h"
#include "matmul_work.h"

namespace ascsim::mm {

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
  if (r.nz)
    r.ld = alignUp<uint64_t>(rowsAll, 16);
  else if (batch != 0)
    r.ld = batch;
  else
    r.ld = local ? alignUp<uint64_t>(colsAll, c0(r.dtype)) : colsAll;
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
  if constexpr (std::is_same_v<T, float>)
    line = &fline_;
  else
    line = &iline_;
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
        convertRun(r.dtype, base, (c / w * r.ld + r.row + y) * w + c % w, static_cast<int>(n),
                   out + x);
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
  if (!useB_.trans || desc_.b.dtype != DType::I8)
    fail(kParam, "a sparse B is int8_t and transposed");
  const uint8_t* values = core().ptr(useB_.place.mem, useB_.place.address);
  const uint8_t* index = core().ptr(sparse_.mem, sparse_.address);
  const uint64_t indexRows = alignUp<uint64_t>(static_cast<uint64_t>(n_), 16);
  for (int k = 0; k < ks; ++k)
    for (int n = 0; n < ns; ++n) to[k * ld + n] = 0;
  for (int n = 0; n < ns; ++n) {
    const uint64_t row = static_cast<uint64_t>(n0 + n);
    for (int g = k0 / 4; g * 4 < k0 + ks; ++g) {
      const uint64_t byte = static_cast<uint64_t>(g) / 2;
      const uint8_t both =
          static_cast<uint8_t>(index[byte / 8 * indexRows * 8 + row * 8 + byte % 8] >> (g % 2 * 4));
      const int first = both & 3, second = ((both >> 2) & 3) + 1;
      const uint8_t* v =
          values + row * static_cast<uint64_t>(kb_ / 2) + static_cast<uint64_t>(g) * 2;
      const int at = g * 4 - k0;
      if (at + first < ks) to[(at + first) * ld + n] += static_cast<T>(static_cast<int8_t>(v[0]));
      if (at + second < ks && second < 4)
        to[(at + second) * ld + n] += static_cast<T>(static_cast<int8_t>(v[1]));
    }
  }
}

Block& Engine::block(Cache& cache, bool isA, int outer, int k) {
  if (cache.current != nullptr && cache.current->outer == outer && cache.current->k == k)
    return *cache.current;
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
  const int outers = std::min(cache.stepOuter * base, all - outer0),
            ks = std::min(cache.stepK * t_.baseK, sk_ - k0);
  const CopyInFn copy = isA ? desc_.copyA : desc_.copyB;
  if (copy != nullptr) {
    AscendC::LocalTensor<int8_t> to(
        isA ? AscendC::TPosition::A1 : AscendC::TPosition::B1,
        cache.l1 + static_cast<uint32_t>(&b - cache.blocks.data()) * cache.blockBytes,
        cache.blockBytes);
    const void* gm = reinterpret_cast<const void*>(s.place.address);
    if (isA)
      copy(to, gm, outer, k, outers, ks, user_, data_);
    else
      copy(to, gm, k, outer, ks, outers, user_, data_);
  } else {
    Region r = region(isA, outer0, outers, k0, ks);
    if (!isA && hasSparse_) {
      r.col /= 2, r.cols /= 2, r.ld /= 2;
      Instr i(Pipe::MTE2, "mte_gm_l1");
      const uint64_t rows = alignUp<uint64_t>(static_cast<uint64_t>(n_), 16);
      for (int byte = k0 / 8; byte * 8 < k0 + ks; ++byte)
        for (int n = 0; n < outers; ++n)
          i.read(sparse_,
                 static_cast<uint64_t>(byte / 8) * rows * 8 +
                     static_cast<uint64_t>(outer0 + n) * 8 + static_cast<uint64_t>(byte % 8),
                 1);
      i.event.src = Mem::GM;
      i.event.dst = Mem::L1;
      i.event.bytes = static_cast<uint64_t>(outers * ks / 8);
      i.event.bursts = 1;
      i.event.gmAddress = sparse_.address;
      i.event.gmSpan = i.event.bytes;
    }
    Instr i(Pipe::MTE2, r.nz || (isA && desc_.a.format == CubeFormat::VECTOR) ? "mte_gm_l1"
                                                                              : "mte_gm_l1_nd2nz");
    describe(i, r, declareRegion(i, r), Mem::L1);
  }
  signal(Pipe::MTE2, b.ready, b.readyToken);
}

template void Engine::fetch(bool, int, int, int, int, float*, int);
template void Engine::fetch(bool, int, int, int, int, int32_t*, int);

}  // namespace ascsim::mm
