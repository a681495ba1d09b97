#include <algorithm>
#include <cmath>

#include "ascsim/adv_softmax_impl.h"

namespace ascsim::adv {

uint32_t softmaxTmp(SoftmaxKind kind, uint32_t m, uint32_t k, uint32_t typeSize, bool update) {
  const uint32_t block = 32 / typeSize;
  uint32_t row = block + k + 64;
  if (kind == SoftmaxKind::Flash && update) row = 4 * block + 2 * k;
  if (kind == SoftmaxKind::FlashV2) row = update ? 2 * block + k + 64 : block + k + 64;
  if (kind == SoftmaxKind::FlashV3) row = 5 * 8 + 2 * k + 64;
  return m * row * 4;
}

uint32_t softmaxGradTmp(uint32_t m, uint32_t k, uint32_t typeSize, bool front) {
  const uint32_t block = 32 / typeSize;
  return m * (front ? block + k + 64 : 2 * block + k + 64) * 4;
}

namespace {

// One row of a matrix in ND or NZ, without or with the columns that fill it up.
struct Rows {
  const SoftmaxShape& s;
  uint64_t offset(uint64_t r, uint64_t c) const {
    return s.nz ? c / 16 * s.m * 16 + r * 16 + c % 16 : r * s.k + c;
  }
  void load(Instr& i, const Arg& a, uint64_t r, float* to) const {
    const bool padRow = r >= s.oriM;
    const uint64_t step = s.nz ? 16 : s.k;
    for (uint64_t c = 0; c < s.k; c += step) {
      const uint64_t good = padRow ? 0 : std::min<uint64_t>(step, s.oriK > c ? s.oriK - c : 0);
      adv::load(i, a, offset(r, c), good, to + c);
      adv::loadPadding(i, a, offset(r, c) + good, std::min<uint64_t>(step, s.k - c) - good,
                       to + c + good);
    }
  }
  void store(Instr& i, const Arg& a, uint64_t r, const float* from) const {
    const uint64_t step = s.nz ? 16 : s.k;
    for (uint64_t c = 0; c < s.k; c += step)
      adv::store(i, a, offset(r, c), std::min<uint64_t>(step, s.k - c), from + c);
  }
};

void checkShape(const SoftmaxShape& s, const Arg& src) {
  if (s.m == 0 || s.k == 0)
    fail(kParam,
         "the shape is %u x %u; pass softmaxShapeInfo, or a tiling or a tensor with a shape", s.m,
         s.k);
  if (s.k * sizeOf(src.type) % 32 != 0)
    report(kParam, "a row has %u elements; it must be a multiple of 32 bytes", s.k);
  if (s.oriM > s.m || s.oriK > s.k || s.oriK == 0 || s.oriM == 0)
    fail(kParam, "the original shape %u x %u does not fit into %u x %u", s.oriM, s.oriK, s.m, s.k);
  if (s.nz && (s.k % 16 != 0 || s.m % 16 != 0))
    report(kParam, "NZ needs %u x %u in multiples of 16", s.m, s.k);
}

// Statistics of a row: one value, alone or filling a block.
struct Stats {
  bool wide;
  uint64_t width(const Arg& a) const { return wide ? 32 / sizeOf(a.type) : 1; }
  float load(Instr& i, const Arg& a, uint64_t r, bool padding) const {
    float v[16];
    const uint64_t w = width(a);
    if (padding)
      adv::loadPadding(i, a, r * w, w, v);
    else
      adv::load(i, a, r * w, w, v);
    return v[0];
  }
  void store(Instr& i, const Arg& a, uint64_t r, float value) const {
    float v[16];
    std::fill(v, v + 16, value);
    adv::store(i, a, r * width(a), width(a), v);
  }
};

void flashV3Row(const SoftmaxCall& c, Instr& i, const Stats& st, uint64_t r,
                std::vector<float>& x) {
  // The row in 8 parts whose means are pulled towards the mean of the row; the sums are taken in
  // the order of the documented algorithm (64 partial sums, later columns folded onto them).
  const uint32_t k = c.shape.k, baseK = k / 8;
  const float scalar = c.alpha / (1.0f - c.alpha);
  double part[64] = {};
  for (uint32_t j = 0; j < 512 && j < k; ++j) part[j / 8] += x[j];
  for (uint32_t j = 512; j < k; ++j) part[(j - 512) % 64] += x[j];
  float local[8];
  double all = 0;
  for (int j = 0; j < 8; ++j) {
    double s = 0;
    for (int t = 0; t < 8; ++t) s += part[j * 8 + t];
    local[j] = static_cast<float>(s / baseK);
    all += local[j];
  }
  const float global = static_cast<float>(all / 8);
  for (uint32_t j = 0; j < k; ++j) x[j] -= (global - local[std::min(j / baseK, 7u)]) * scalar;

  const float inMean = c.update ? st.load(i, c.inMean, r, false) : 0;
  const float inMax = c.update ? st.load(i, c.inMax, r, false) : 0;
  const float inSum = c.update ? st.load(i, c.inSum, r, false) : 0;
  const float mean = c.update ? (global + inMean * static_cast<float>(c.loopCnt - 1)) /
                                    static_cast<float>(c.loopCnt)
                              : global;
  const float shift = (global - mean) * scalar;
  const float before = (inMean - mean) * scalar;
  float max = shift + *std::max_element(x.begin(), x.end());
  if (c.update) max = std::max(max, before + inMax);
  double sum = 0;
  for (float& v : x) {
    v = std::exp(v - (max - shift));
    sum += v;
  }
  if (c.update) {
    const float e = std::exp(inMax - max + before);
    sum += static_cast<double>(e) * inSum;
    st.store(i, c.expMax, r, e);
  }
  st.store(i, c.mean, r, mean);
  st.store(i, c.max, r, max);
  st.store(i, c.sum, r, static_cast<float>(sum));
}

void row(const SoftmaxCall& c, Instr& i, const Stats& st, uint64_t r, std::vector<float>& x) {
  const bool pad = r >= c.shape.oriM;
  const uint32_t n = pad ? c.shape.k : c.shape.oriK;
  if (c.kind == SoftmaxKind::Simple) {
    const float max = st.load(i, c.max, r, pad), sum = st.load(i, c.sum, r, pad);
    for (float& v : x) v = std::exp(v - max) / sum;
    return;
  }
  float max = *std::max_element(x.begin(), x.begin() + n);
  if (c.reduceMaxOut && c.update) st.store(i, c.reduceMax, r, max);
  const float inMax = c.update ? st.load(i, c.inMax, r, pad) : 0;
  const float inSum = c.update ? st.load(i, c.inSum, r, pad) : 0;
  if (c.update) max = std::max(max, inMax);
  double total = 0;
  for (uint32_t j = 0; j < x.size(); ++j) {
    x[j] = std::exp(x[j] - max);
    if (j < n) total += x[j];
  }
  float sum = static_cast<float>(total);
  if (c.update) {
    float e = std::exp(inMax - max);
    sum += e * inSum;
    if (c.kind == SoftmaxKind::Flash) e = e * inSum / sum;
    st.store(i, c.expMax, r, e);
  }
  if (c.stats) {
    st.store(i, c.max, r, max);
    st.store(i, c.sum, r, sum);
  }
  if (c.kind == SoftmaxKind::FlashV2) return;
  for (float& v : x) v /= sum;
  if (c.kind == SoftmaxKind::Log)
    for (float& v : x) v = std::log10(v);
}
}  // namespace

void softmax(const SoftmaxCall& c) {
  const SoftmaxShape& s = c.shape;
  checkShape(s, c.src);
  const uint64_t n = static_cast<uint64_t>(s.m) * s.k;
  if (c.kind == SoftmaxKind::FlashV3 &&
      (s.k < 512 || s.k % 64 != 0 || s.m % 8 != 0 || s.oriK != s.k || s.oriM != s.m))
    report(kParam,
           "the shape is %u x %u; rows must be a multiple of 8, columns one of 64 from 512 on, "
           "without padding",
           s.m, s.k);
  {
    Instr i(Pipe::V, "vsub");
    i.event.repeats = static_cast<uint32_t>((n * 4 + 255) / 256);
    i.event.dtype = DType::F32;
    aligned(i, c.dst, "dst");
    aligned(i, c.src, "src");
    within(c.src, n, "src");
    within(c.dst, n, "dst");
    if (c.kind == SoftmaxKind::Log) separate(c.dst, n, "dst", c.src, n, "src");
    scratch(i, c.tmp, softmaxTmp(c.kind, 1, s.k, std::max(4u, sizeOf(c.src.type)), c.update),
            {{&c.dst, n}, {&c.src, n}});
    const Rows rows{s};
    const Stats st{c.wideStats};
    std::vector<float> x(s.k);
    for (uint64_t r = 0; r < s.m; ++r) {
      rows.load(i, c.src, r, x.data());
      if (c.kind == SoftmaxKind::FlashV3)
        flashV3Row(c, i, st, r, x);
      else
        row(c, i, st, r, x);
      rows.store(i, c.dst, r, x.data());
    }
  }
  if (sizeOf(c.src.type) == 2) passes("c", n, DType::F32);
  if (c.kind != SoftmaxKind::Simple) {
    reducePasses("vcmax", s.m, s.k, DType::F32);
    pass("vbrcb", s.m * 8ull, DType::F32);
    reducePasses("vcadd", s.m, s.k, DType::F32);
    pass("vbrcb", s.m * 8ull, DType::F32);
  }
  if (c.kind == SoftmaxKind::FlashV3) {
    reducePasses("vcadd", s.m, s.k, DType::F32);
    passes("MAs", n, DType::F32);
  }
  passes("e", n, DType::F32);
  if (c.update) passes("XsemaM", s.m * 8ull, DType::F32);
  if (c.kind != SoftmaxKind::FlashV2 && c.kind != SoftmaxKind::FlashV3) passes("d", n, DType::F32);
  if (c.kind == SoftmaxKind::Log) passes("lM", n, DType::F32);
  if (sizeOf(c.dst.type) == 2) passes("c", n, DType::F32);
}

void softmaxGrad(const Arg& dst, const Arg& grad, const Arg& src, const Arg* tmp,
                 const SoftmaxShape& s, bool front) {
  checkShape(s, src);
  const uint64_t n = static_cast<uint64_t>(s.m) * s.k;
  {
    Instr i(Pipe::V, "vmul");
    i.event.repeats = static_cast<uint32_t>((n * 4 + 255) / 256);
    i.event.dtype = DType::F32;
    aligned(i, dst, "dst");
    aligned(i, grad, "grad");
    aligned(i, src, "src");
    within(grad, n, "grad");
    within(src, n, "src");
    within(dst, front ? s.m * (32ull / sizeOf(dst.type)) : n, "dst");
    scratch(i, tmp, softmaxGradTmp(1, s.k, std::max(4u, sizeOf(src.type)), front),
            {{&grad, n}, {&src, n}});
    const Rows rows{s};
    const Stats st{true};
    std::vector<float> g(s.k), x(s.k);
    for (uint64_t r = 0; r < s.m; ++r) {
      rows.load(i, grad, r, g.data());
      rows.load(i, src, r, x.data());
      double sum = 0;
      for (uint32_t j = 0; j < (r >= s.oriM ? s.k : s.oriK); ++j)
        sum += static_cast<double>(g[j]) * x[j];
      if (front) {
        st.store(i, dst, r, static_cast<float>(sum));
        continue;
      }
      for (uint32_t j = 0; j < s.k; ++j) x[j] = (g[j] - static_cast<float>(sum)) * x[j];
      rows.store(i, dst, r, x.data());
    }
  }
  if (sizeOf(src.type) == 2) passes("cc", n, DType::F32);
  reducePasses("vcadd", s.m, s.k, DType::F32);
  pass("vbrcb", s.m * 8ull, DType::F32);
  if (!front) passes("sm", n, DType::F32);
  if (sizeOf(dst.type) == 2) passes("c", front ? s.m * 8ull : n, DType::F32);
}

bool adjustSoftmax(const Arg& res, const Arg& max, uint32_t from, float to, const SoftmaxShape& s,
                   bool everyElement) {
  checkShape(s, res);
  bool found = false;
  Instr i(Pipe::V, "vcmpvs");
  aligned(i, res, "softMaxRes");
  aligned(i, max, "maxTensor");
  const Rows rows{s};
  const uint64_t width = everyElement ? 1 : 32 / sizeOf(max.type);
  const std::vector<float> line(s.k, to);
  uint64_t hits = 0;
  for (uint64_t r = 0; r < s.oriM; ++r) {
    float v[16];
    load(i, max, r * width, width, v);
    const uint32_t bits = max.type == DType::F16 ? floatToHalfBits(v[0]) : floatBits(v[0]);
    if (bits != from) continue;
    found = true;
    ++hits;
    rows.store(i, res, r, line.data());
  }
  i.event.repeats = static_cast<uint32_t>((s.m * width * sizeOf(max.type) + 255) / 256 +
                                          hits * ((s.k * sizeOf(res.type) + 255) / 256));
  i.event.dtype = res.type;
  return found;
}

}  // namespace ascsim::adv
