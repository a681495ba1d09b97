#include <algorithm>
#include <cmath>

#include "ascsim/adv_norm_impl.h"

namespace ascsim::adv {

uint32_t layerNormTmp(uint64_t rows, uint32_t stride, uint32_t typeSize, bool reuse, bool maximum) {
  // Floats: two or three copies of the data (one row at least); halves also keep mean and variance.
  const uint64_t copies = typeSize == 4 && reuse ? 2 : 3;
  const uint64_t stats = typeSize == 2 ? 2 * ((rows + 7) / 8 * 8) : 0;
  return static_cast<uint32_t>(((maximum ? rows : 1) * copies * stride + stats) * 4);
}

uint32_t layerNormGradTmp(uint32_t stride, uint32_t typeSize, bool reuse) {
  return stride * (typeSize == 2 ? 8u : reuse ? 4u : 6u) * 4;
}

uint32_t welfordUpdateTmp(uint32_t typeSize, bool inplace) {
  if (typeSize == 2) return 3 * 256;
  return inplace ? 256 : 2 * 256;
}

namespace {
struct Data : Instr {
  Data(const char* mnemonic, uint64_t n) : Instr(Pipe::V, mnemonic) {
    event.repeats = static_cast<uint32_t>((n * 4 + 255) / 256);
    event.dtype = DType::F32;
  }
};
void rowOf(Instr& i, const Arg& a, uint64_t first, uint32_t length, uint32_t stride, float* to) {
  load(i, a, first, length, to);
  loadPadding(i, a, first + length, stride - length, to + length);
}
void checkRows(const Arg& x, uint32_t stride, uint32_t length) {
  if (stride == 0 || length == 0 || length > stride)
    fail(kParam, "a row has %u elements in memory and %u that count", stride, length);
  if (stride * sizeOf(x.type) % 32 != 0)
    report(kParam, "a row has %u elements; it must be a multiple of 32 bytes", stride);
}
}  // namespace

void normalizeRows(const NormCall& c) {
  checkRows(c.x, c.stride, c.length);
  const uint64_t n = c.rows * c.stride;
  {
    Data i("vmuls", n);
    aligned(i, c.dst, "output");
    aligned(i, c.x, "input");
    within(c.dst, n, "output");
    within(c.x, n, "input");
    if (!c.inPlace) separate(c.dst, n, "output", c.x, n, "input");
    if (c.hasGamma) aligned(i, c.gamma, "gamma");
    if (c.hasBeta && !c.rms) aligned(i, c.beta, "beta");
    scratch(i, c.tmp, c.tmpBytes, {{&c.dst, n}, {&c.x, n}});
    std::vector<float> x(c.stride), g(c.stride, 1.0f), b(c.stride, 0.0f), extra(c.stride);
    if (c.hasGamma) rowOf(i, c.gamma, 0, c.length, c.stride, g.data());
    if (c.hasBeta && !c.rms) rowOf(i, c.beta, 0, c.length, c.stride, b.data());
    for (uint64_t r = 0; r < c.rows; ++r) {
      rowOf(i, c.x, r * c.stride, c.length, c.stride, x.data());
      if (c.gx != nullptr) {
        rowOf(i, *c.gx, r * c.stride, c.length, c.stride, extra.data());
        for (uint32_t k = 0; k < c.stride; ++k) x[k] = c.alpha * x[k] + extra[k];
      }
      float mean = 0, variance = 0;
      if (c.known) {
        load(i, c.mean, r, 1, &mean);
        load(i, *c.variance, r, 1, &variance);
      } else {
        double sum = 0, squares = 0;
        if (!c.rms)
          for (uint32_t k = 0; k < c.length; ++k) sum += x[k];
        const double m = sum / c.length;
        for (uint32_t k = 0; k < c.length; ++k) squares += (x[k] - m) * (x[k] - m);
        mean = static_cast<float>(m);
        variance = static_cast<float>(squares / c.length);
      }
      const float rstd = 1.0f / std::sqrt(variance + c.epsilon);
      for (uint32_t k = 0; k < c.stride; ++k) x[k] = (x[k] - mean) * rstd * g[k] + b[k];
      store(i, c.dst, r * c.stride, c.stride, x.data());
      if (c.rms || c.onlyOutput) continue;
      if (!c.known) store(i, c.mean, r, 1, &mean);
      const float spread = c.rstdOut ? rstd : variance;
      store(i, c.spread, r, 1, &spread);
    }
  }
  if (sizeOf(c.x.type) == 2) passes("c", n, DType::F32);
  if (c.gx != nullptr) passes("Ma", n, DType::F32);
  if (!c.known && !c.rms) {
    reducePasses("vcadd", c.rows, c.stride, DType::F32);
    pass("vbrcb", c.rows * 8, DType::F32);
  }
  if (!c.rms) passes("s", n, DType::F32);
  if (!c.known) {
    passes("m", n, DType::F32);
    reducePasses("vcadd", c.rows, c.stride, DType::F32);
  }
  pass("vadds", c.rows, DType::F32);
  pass("vsqrt", c.rows, DType::F32);
  pass("vdiv", c.rows, DType::F32);
  pass("vbrcb", c.rows * 8, DType::F32);
  passes("m", n, DType::F32);
  if (c.hasGamma) passes("m", n, DType::F32);
  if (c.hasBeta && !c.rms) passes("a", n, DType::F32);
  if (sizeOf(c.dst.type) == 2) passes("c", n, DType::F32);
}

void batchNorm(const Arg& dst, const Arg& mean, const Arg& variance, const Arg& x, const Arg& gamma,
               const Arg& beta, const Arg* tmp, float epsilon, uint32_t batch, uint32_t columns) {
  const uint64_t n = static_cast<uint64_t>(batch) * columns;
  if (n == 0) fail(kParam, "the tiling describes %u batches of %u elements", batch, columns);
  {
    Data i("vmuls", n);
    for (const Arg* a : {&dst, &mean, &variance, &x, &gamma, &beta}) aligned(i, *a, "an operand");
    within(dst, n, "output");
    within(x, n, "inputX");
    const uint64_t need = (2ull * 8 + 2ull * batch * 8) * 4;
    scratch(i, tmp, need, {{&dst, n}, {&x, n}});
    std::vector<float> v(n), g(batch), b(batch), m(columns), s(columns);
    load(i, x, 0, n, v.data());
    load(i, gamma, 0, batch, g.data());
    load(i, beta, 0, batch, b.data());
    for (uint32_t k = 0; k < columns; ++k) {
      double sum = 0, squares = 0;
      for (uint32_t r = 0; r < batch; ++r) sum += v[static_cast<uint64_t>(r) * columns + k];
      const double average = sum / batch;
      for (uint32_t r = 0; r < batch; ++r) {
        const double d = v[static_cast<uint64_t>(r) * columns + k] - average;
        squares += d * d;
      }
      m[k] = static_cast<float>(average);
      s[k] = static_cast<float>(squares / batch);
      const float rstd = 1.0f / std::sqrt(s[k] + epsilon);
      for (uint32_t r = 0; r < batch; ++r) {
        float& e = v[static_cast<uint64_t>(r) * columns + k];
        e = (e - m[k]) * rstd * g[r] + b[r];
      }
    }
    store(i, dst, 0, n, v.data());
    store(i, mean, 0, columns, m.data());
    store(i, variance, 0, columns, s.data());
  }
  if (sizeOf(x.type) == 2) passes("cc", n, DType::F32);
  passes("asmaMdma", n, DType::F32);
}

void groupNorm(const Arg& dst, const Arg& mean, const Arg& variance, const Arg& x, const Arg& gamma,
               const Arg& beta, const Arg* tmp, uint64_t tmpBytes, float epsilon, uint32_t n,
               uint32_t c, uint32_t hw, uint32_t groups) {
  if (groups == 0 || c % groups != 0 || n == 0 || hw == 0)
    fail(kParam, "the tiling describes %u channels of %u elements in %u groups", c, hw, groups);
  const uint64_t total = static_cast<uint64_t>(n) * c * hw,
                 group = static_cast<uint64_t>(c / groups) * hw;
  {
    Data i("vmuls", total);
    for (const Arg* a : {&dst, &mean, &variance, &x, &gamma, &beta}) aligned(i, *a, "an operand");
    within(dst, total, "output");
    within(x, total, "inputX");
    scratch(i, tmp, tmpBytes, {{&dst, total}, {&x, total}});
    std::vector<float> v(total), g(c), b(c), m(static_cast<uint64_t>(n) * groups), s(m.size());
    load(i, x, 0, total, v.data());
    load(i, gamma, 0, c, g.data());
    load(i, beta, 0, c, b.data());
    for (uint64_t k = 0; k < m.size(); ++k) {
      float* e = v.data() + k * group;
      double sum = 0, squares = 0;
      for (uint64_t j = 0; j < group; ++j) sum += e[j];
      const double average = sum / static_cast<double>(group);
      for (uint64_t j = 0; j < group; ++j) squares += (e[j] - average) * (e[j] - average);
      m[k] = static_cast<float>(average);
      s[k] = static_cast<float>(squares / static_cast<double>(group));
      const float rstd = 1.0f / std::sqrt(s[k] + epsilon);
      for (uint64_t j = 0; j < group; ++j) {
        const uint64_t channel = k % groups * (c / groups) + j / hw;
        e[j] = (e[j] - m[k]) * rstd * g[channel] + b[channel];
      }
    }
    store(i, dst, 0, total, v.data());
    store(i, mean, 0, m.size(), m.data());
    store(i, variance, 0, s.size(), s.data());
  }
  if (sizeOf(x.type) == 2) passes("cc", total, DType::F32);
  reducePasses("vcadd", static_cast<uint64_t>(n) * groups, group, DType::F32);
  passes("smMmma", total, DType::F32);
}

void layerNormGrad(const Arg& pdX, const Arg& resForGamma, const Arg& dy, const Arg& x,
                   const Arg& variance, const Arg& mean, const Arg& gamma, const Arg* tmp,
                   uint64_t tmpBytes, float epsilon, uint32_t rows, uint32_t stride,
                   uint32_t length) {
  checkRows(x, stride, length);
  const uint64_t n = static_cast<uint64_t>(rows) * stride;
  {
    Data i("vmul", n);
    for (const Arg* a : {&pdX, &resForGamma, &dy, &x, &variance, &mean, &gamma})
      aligned(i, *a, "an operand");
    within(pdX, n, "outputPdX");
    within(resForGamma, n, "resForGamma");
    within(dy, n, "inputDy");
    within(x, n, "inputX");
    scratch(i, tmp, tmpBytes, {{&pdX, n}, {&resForGamma, n}, {&dy, n}, {&x, n}});
    std::vector<float> g(stride), d(stride), v(stride), r(stride);
    rowOf(i, gamma, 0, length, stride, g.data());
    for (uint64_t row = 0; row < rows; ++row) {
      rowOf(i, dy, row * stride, length, stride, d.data());
      rowOf(i, x, row * stride, length, stride, v.data());
      float m, s;
      load(i, mean, row, 1, &m);
      load(i, variance, row, 1, &s);
      const double rstd = 1.0 / std::sqrt(static_cast<double>(s) + epsilon);
      double pdVar = 0, pdMean = 0, rest = 0;
      for (uint32_t k = 0; k < length; ++k) {
        const double x1 = static_cast<double>(d[k]) * g[k], x2 = static_cast<double>(v[k]) - m;
        pdVar += -0.5 * x1 * x2 * rstd * rstd * rstd;
        pdMean += -x1 * rstd;
        rest += -2.0 * x2;
      }
      pdMean += pdVar / length * rest;
      for (uint32_t k = 0; k < stride; ++k) {
        const double x1 = static_cast<double>(d[k]) * g[k], x2 = static_cast<double>(v[k]) - m;
        r[k] = static_cast<float>(x2 * rstd);
        d[k] = static_cast<float>(x1 * rstd + pdVar * 2.0 / length * x2 + pdMean / length);
      }
      store(i, pdX, row * stride, stride, d.data());
      store(i, resForGamma, row * stride, stride, r.data());
    }
  }
  if (sizeOf(x.type) == 2) passes("cccc", n, DType::F32);
  reducePasses("vcadd", rows, stride, DType::F32);
  reducePasses("vcadd", rows, stride, DType::F32);
  reducePasses("vcadd", rows, stride, DType::F32);
  passes("smmmMmaMaa", n, DType::F32);
}

void layerNormGradBeta(const Arg& pdGamma, const Arg& pdBeta, const Arg& resForGamma, const Arg& dy,
                       const Arg* tmp, uint64_t tmpBytes, uint32_t rows, uint32_t stride) {
  checkRows(dy, stride, stride);
  const uint64_t n = static_cast<uint64_t>(rows) * stride;
  {
    Data i("vmul", n);
    for (const Arg* a : {&pdGamma, &pdBeta, &resForGamma, &dy}) aligned(i, *a, "an operand");
    within(dy, n, "inputDy");
    within(resForGamma, n, "resForGamma");
    scratch(i, tmp, tmpBytes, {{&dy, n}, {&resForGamma, n}, {&pdGamma, stride}, {&pdBeta, stride}});
    std::vector<float> d(n), r(n), g(stride), b(stride);
    load(i, dy, 0, n, d.data());
    load(i, resForGamma, 0, n, r.data());
    for (uint32_t k = 0; k < stride; ++k) {
      double sg = 0, sb = 0;
      for (uint64_t row = 0; row < rows; ++row) {
        sg += static_cast<double>(d[row * stride + k]) * r[row * stride + k];
        sb += d[row * stride + k];
      }
      g[k] = static_cast<float>(sg);
      b[k] = static_cast<float>(sb);
    }
    store(i, pdGamma, 0, stride, g.data());
    store(i, pdBeta, 0, stride, b.data());
  }
  if (sizeOf(dy.type) == 2) passes("cc", n, DType::F32);
  passes("aa", n, DType::F32);
}

void welfordUpdate(const Arg& outMean, const Arg& outVar, const Arg& inMean, const Arg& inVar,
                   const Arg& x, const Arg* tmp, uint32_t abLength, uint32_t computeLength,
                   float nRec, bool inplace) {
  if (computeLength == 0 || computeLength > abLength || abLength * sizeOf(x.type) % 32 != 0)
    fail(kParam,
         "abLength is %u and abComputeLength %u; abLength must fill 32-byte blocks and "
         "abComputeLength be from 1 to abLength",
         abLength, computeLength);
  {
    Data i("vsub", computeLength);
    for (const Arg* a : {&outMean, &outVar, &inMean, &inVar, &x}) aligned(i, *a, "an operand");
    const uint64_t n = abLength;
    for (const Arg* o : {&outMean, &outVar})
      for (const Arg* s : {&inMean, &inVar, &x}) separate(*o, n, "an output", *s, n, "an input");
    scratch(i, tmp, welfordUpdateTmp(sizeOf(x.type), inplace),
            {{&outMean, n}, {&outVar, n}, {&inMean, n}, {&inVar, n}, {&x, n}});
    const uint32_t reach = inplace ? abLength : computeLength;
    std::vector<float> v(computeLength), m(reach), s(reach);
    load(i, x, 0, computeLength, v.data());
    load(i, inMean, 0, reach, m.data());
    load(i, inVar, 0, reach, s.data());
    for (uint32_t k = 0; k < computeLength; ++k) {
      const float d = v[k] - m[k];
      m[k] += d * nRec;
      s[k] += d * (v[k] - m[k]);
    }
    store(i, outMean, 0, reach, m.data());
    store(i, outVar, 0, reach, s.data());
  }
  passes(sizeOf(x.type) == 2 ? "cMasma" : "Masma", computeLength, DType::F32);
  if (inplace) passes("yy", abLength, DType::F32);
}

void welfordFinalize(const Arg& outMean, const Arg& outVar, const Arg& inMean, const Arg& inVar,
                     const Arg* counts, const Arg* tmp, const WelfordEnd& p) {
  if (p.abLength == 0 || p.abLength % 8 != 0)
    fail(kParam, "abLength is %u; it must be a multiple of 8", p.abLength);
  if (p.headCountLength + p.tailCountLength != p.abLength)
    report(kParam, "headCountLength %u and tailCountLength %u must add up to abLength %u",
           p.headCountLength, p.tailCountLength, p.abLength);
  if (p.tailCount == 0 && p.tailCountLength != 0)
    report(kParam, "tailCount is 0; tailCountLength must be 0 too, not %u", p.tailCountLength);
  const uint64_t n = p.abLength;
  {
    Data i("vmuls", n);
    for (const Arg* a : {&outMean, &outVar, &inMean, &inVar}) aligned(i, *a, "an operand");
    for (const Arg* o : {&outMean, &outVar})
      for (const Arg* s : {&inMean, &inVar}) separate(*o, 1, "an output", *s, n, "an input");
    scratch(i, tmp, 2 * 256, {{&outMean, 1}, {&outVar, 1}, {&inMean, n}, {&inVar, n}});
    std::vector<float> m(n), s(n), w(n, 1.0f);
    load(i, inMean, 0, n, m.data());
    load(i, inVar, 0, n, s.data());
    double meanScale = p.abRec, spreadScale = p.abRec;
    if (counts != nullptr || p.tailCount != 0) {
      meanScale = spreadScale = p.rRec;
      if (counts != nullptr)
        load(i, *counts, 0, n, w.data());
      else
        for (uint64_t k = 0; k < n; ++k)
          w[k] = static_cast<float>(k < p.headCountLength ? p.headCount : p.tailCount);
    }
    double mean = 0, variance = 0, spread = 0;
    for (uint64_t k = 0; k < n; ++k) mean += static_cast<double>(w[k]) * m[k] * meanScale;
    for (uint64_t k = 0; k < n; ++k) {
      variance += s[k];
      spread += w[k] * (m[k] - mean) * (m[k] - mean);
    }
    const float outM = static_cast<float>(mean),
                outV = static_cast<float>(variance * p.rRec + spread * spreadScale);
    store(i, outMean, 0, 1, &outM);
    store(i, outVar, 0, 1, &outV);
  }
  reducePasses("vcadd", 1, n, DType::F32);
  passes("smmM", n, DType::F32);
  reducePasses("vcadd", 1, n, DType::F32);
  reducePasses("vcadd", 1, n, DType::F32);
}

}  // namespace ascsim::adv
