#include <algorithm>
#include <cmath>

#include "ascsim/adv_misc_impl.h"

namespace ascsim::adv {

uint32_t foldTmp(uint64_t rows, uint64_t stride, uint32_t typeSize, bool reuse) {
  return static_cast<uint32_t>(
      std::max<uint64_t>(256, reuse ? 256 : (rows * stride * typeSize / 2 + 31) / 32 * 32));
}

uint32_t sumTmp(uint32_t n, uint32_t typeSize) {
  const uint32_t lanes = 256 / typeSize, block = 32 / typeSize;
  const uint32_t repeats = (n + lanes - 1) / lanes;
  return (repeats + block - 1) / block * 32;
}

uint32_t meanTmp(uint32_t n, uint32_t typeSize, uint32_t accSize) {
  const uint32_t own = sumTmp(n, accSize);
  return accSize == typeSize ? own : own + (n * typeSize + 31) / 32 * 32 / typeSize * accSize;
}

namespace {
// Neighbours are added in pairs, as the reduction instructions do.
double pairwise(const float* v, uint64_t n, uint64_t step) {
  if (n == 1) return v[0];
  if (n == 2) return static_cast<double>(v[0]) + v[step];
  const uint64_t half = n / 2;
  return pairwise(v, half, step) + pairwise(v + half * step, n - half, step);
}

float foldOf(Fold f, const float* v, uint64_t n, uint64_t step) {
  if (f == Fold::Sum) return static_cast<float>(pairwise(v, n, step));
  if (f == Fold::Mean) return static_cast<float>(pairwise(v, n, step) / static_cast<double>(n));
  float r = f == Fold::Any || f == Fold::All ? (v[0] != 0 ? 1.0f : 0.0f) : v[0];
  for (uint64_t k = 1; k < n; ++k) {
    const float x = v[k * step];
    switch (f) {
      case Fold::Max:
        r = std::max(r, x);
        break;
      case Fold::Min:
        r = std::min(r, x);
        break;
      case Fold::Prod:
        r *= x;
        break;
      case Fold::Any:
        r = r != 0 || x != 0 ? 1.0f : 0.0f;
        break;
      default:
        r = r != 0 && x != 0 ? 1.0f : 0.0f;
        break;
    }
  }
  return r;
}
}  // namespace

void fold(Fold f, const Arg& dst, const Arg& src, const Arg* tmp, uint64_t tmpBytes, uint32_t rows,
          uint32_t inner, uint32_t stride, bool lastAxis) {
  if (rows == 0 || inner == 0 || inner > stride)
    fail(kParam, "the shape is %u x %u in rows of %u; every number must be over 0", rows, inner,
         stride);
  const uint64_t n = static_cast<uint64_t>(rows) * stride, results = lastAxis ? rows : inner;
  {
    Instr i(Pipe::V, "vcopy");
    i.event.repeats = static_cast<uint32_t>((n * sizeOf(src.type) + 255) / 256);
    i.event.dtype = src.type;
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    within(src, n, "src");
    within(dst, results, "dst");
    separate(dst, results, "dst", src, n, "src");
    scratch(i, tmp, tmpBytes, {{&dst, results}, {&src, n}});
    std::vector<float> v(n), r(results);
    if (inner == stride)
      load(i, src, 0, n, v.data());
    else
      for (uint64_t k = 0; k < rows; ++k) load(i, src, k * stride, inner, v.data() + k * stride);
    for (uint64_t k = 0; k < results; ++k)
      r[k] = lastAxis ? foldOf(f, v.data() + k * stride, inner, 1)
                      : foldOf(f, v.data() + k, rows, stride);
    store(i, dst, 0, results, r.data());
  }
  const bool sums = f == Fold::Sum || f == Fold::Mean;
  if (!lastAxis)
    passes(sums ? "a" : f == Fold::Prod ? "m" : "X", n, src.type);
  else if (f == Fold::Prod)
    passes("mm", n, src.type);
  else
    reducePasses(sums                               ? "vcadd"
                 : f == Fold::Min || f == Fold::All ? "vcmin"
                                                    : "vcmax",
                 rows, stride, src.type);
  if (f == Fold::Mean) passes("M", results, src.type);
}

void reduceXorSum(const Arg& dst, const Arg& a, const Arg& b, const Arg* tmp, uint32_t n,
                  bool reuse) {
  {
    Instr i(Pipe::V, "vor");
    i.event.repeats = (n * 2 + 255) / 256;
    i.event.dtype = DType::I16;
    for (const Arg* o : {&dst, &a, &b}) aligned(i, *o, "an operand");
    within(a, n, "src0");
    within(b, n, "src1");
    separate(dst, 1, "dst", a, n, "src0");
    separate(dst, 1, "dst", b, n, "src1");
    scratch(i, tmp, (reuse ? 2 : 3) * std::max(n * 2u, 256u), {{&dst, 1}, {&a, n}, {&b, n}});
    i.read(a.place, 0, n * 2ull);
    i.read(b.place, 0, n * 2ull);
    i.write(dst.place, 0, 2);
    const uint8_t* x = core().ptr(a.place.mem, a.place.address);
    const uint8_t* y = core().ptr(b.place.mem, b.place.address);
    int64_t sum = 0;
    for (uint32_t k = 0; k < n; ++k) {
      int16_t p, q;
      __builtin_memcpy(&p, x + 2 * k, 2);
      __builtin_memcpy(&q, y + 2 * k, 2);
      sum += static_cast<int16_t>(p ^ q);
    }
    const int16_t r = static_cast<int16_t>(std::clamp<int64_t>(sum, -32768, 32767));
    __builtin_memcpy(core().ptr(dst.place.mem, dst.place.address), &r, 2);
  }
  passes("nNnc", n, DType::I16);
  reducePasses("vcadd", 1, n, DType::F32);
  passes("c", 1, DType::F32);
}

// ------------------------------------------------------------------------------------------- TopK
uint32_t topkTmp(uint32_t inner, uint32_t outer, uint32_t typeSize, bool small, bool initIndex,
                 bool largest, bool reuse) {
  const uint64_t rows = small ? outer : 1;
  uint64_t bytes = rows * inner * 8 * (small ? 1 : 2);  // pairs of value and index, and a merge
  if (!initIndex) bytes += rows * inner * 4;            // the index
  if (!largest && !reuse)
    bytes += static_cast<uint64_t>(inner) * outer * typeSize;  // the negated values
  return static_cast<uint32_t>(bytes + 64);
}

void topk(const Arg& dstValue, const Arg& dstIndex, const Arg& src, const Arg& srcIndex,
          const Arg& finish, const TopkCall& c) {
  if (c.inner == 0 || c.inner % 32 != 0 || c.n == 0 || c.n > c.inner || c.k == 0 || c.k > c.n ||
      c.outer == 0)
    fail(kParam,
         "outter %u, inner %u, n %u, k %u: inner must be a multiple of 32, 1 <= n <= inner and 1 "
         "<= k <= n",
         c.outer, c.inner, c.n, c.k);
  if (c.small && c.inner != 32) report(kParam, "the small mode needs inner 32, not %u", c.inner);
  if (!c.small && c.inner > 4096)
    report(kParam, "the normal mode takes inner up to 4096, not %u", c.inner);
  const uint64_t total = static_cast<uint64_t>(c.outer) * c.inner;
  const uint32_t size = sizeOf(src.type);
  const uint32_t valuePitch = c.small ? c.k : (c.k * size + 31) / 32 * 32 / size,
                 indexPitch = c.small ? c.k : (c.k + 7) / 8 * 8;
  const uint64_t values = static_cast<uint64_t>(c.outer - 1) * valuePitch + c.k,
                 indices = static_cast<uint64_t>(c.outer - 1) * indexPitch + c.k;
  {
    Instr i(Pipe::V, "vbitsort");
    i.event.repeats = static_cast<uint32_t>(total / 32);
    i.event.dtype = src.type;
    for (const Arg* a : {&dstValue, &dstIndex, &src}) aligned(i, *a, "an operand");
    within(src, total, "srcLocal");
    separate(dstValue, values, "dstValueLocal", src, total, "srcLocal");
    separate(dstIndex, indices, "dstIndexLocal", src, total, "srcLocal");
    scratch(i, c.tmp, c.tmpBytes, {{&dstValue, values}, {&dstIndex, indices}, {&src, total}});
    std::vector<float> v(c.inner), out(c.k);
    std::vector<int32_t> index(c.inner), order(c.inner), picked(c.k);
    for (uint64_t r = 0; r < c.outer; ++r) {
      // Columns past n take part: the caller has filled them so that they do not win.
      load(i, src, r * c.inner, c.inner, v.data());
      for (uint32_t k = 0; k < c.inner; ++k) index[k] = order[k] = static_cast<int32_t>(k);
      if (c.initIndex) {
        const uint64_t first = c.small ? r * c.inner : 0;
        i.read(srcIndex.place, first * 4, c.inner * 4ull);
        __builtin_memcpy(index.data(),
                         core().ptr(srcIndex.place.mem, srcIndex.place.address + first * 4),
                         c.inner * 4ull);
      }
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        const float x = v[a], y = v[b];
        if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && !std::isnan(y);
        return c.largest ? x > y : x < y;
      });
      bool done = false;
      if (c.hasFinish) {
        float f;
        load(i, finish, r, 1, &f);
        done = f != 0;
      }
      for (uint32_t k = 0; k < c.k; ++k) {
        out[k] = v[order[k]];
        picked[k] = done ? static_cast<int32_t>(c.n) : index[order[k]];
      }
      store(i, dstValue, r * valuePitch, c.k, out.data());
      i.write(dstIndex.place, r * indexPitch * 4, c.k * 4ull);
      __builtin_memcpy(core().ptr(dstIndex.place.mem, dstIndex.place.address + r * indexPitch * 4),
                       picked.data(), c.k * 4ull);
    }
  }
  if (!c.initIndex) passes("A", c.inner, DType::I32);
  if (!c.largest) passes("MM", total, src.type);
  for (uint32_t sorted = 32; !c.small && sorted < c.inner; sorted *= 4) {
    Instr m(Pipe::V, "vmrgsort4");
    m.event.repeats = static_cast<uint32_t>(total);
    m.event.dtype = src.type;
  }
  passes("gg", 2 * total, DType::F32);
}

}  // namespace ascsim::adv
