#include <algorithm>
#include <cmath>

#include "ascsim/adv_fn.h"

namespace ascsim::adv {

namespace {
constexpr FnInfo kFns[] = {
    {"Acos", 6, 2, false, "biXMAMAMAMAMAqsSM"},
    {"Acosh", 2, 1, false, "mAqal"},
    {"Asin", 6, 2, false, "biXMAMAMAMAMAqsSM"},
    {"Asinh", 3, 3, false, "bmAqalCS"},
    {"Atan", 12, 5, false, "biAdMAMAMAMAMAMAm"},
    {"Atanh", 4, 1, false, "AMAdlM"},
    {"Ceil", 2, 1, false, "cc"},
    {"ClampMax", 1, 1, false, "CS"},
    {"ClampMin", 1, 1, false, "CS"},
    {"Cos", 8, 3, false, "MAcMAsmMAmAmAmAMA"},
    {"Cosh", 6, 2, false, "AeMAeaM"},
    {"Digamma", 16, 7, false, "CSAdmMAmMAmMAlasMAdCSSS"},
    {"Erf", 8, 3, false, "ixmMAmAmAmAmAmAmd"},
    {"Erfc", 16, 7, false, "bixMAdmAmAmAmAmAmAmeCSA"},
    {"Exp", 8, 3, false, "csMAmMAmMAmMAmeem"},
    {"Floor", 2, 0, false, "cc"},
    {"Fmod", 6, 0, false, "dccms"},
    {"Frac", 4, 0, false, "cs"},
    {"Lgamma", 26, 8, false, "bCSAlMAdmMAmMAmMAlasMAdCSSS"},
    {"Log", 0, 0, false, "l"},
    {"Log2", 2, 0, false, "lM"},
    {"Log10", 0, 0, false, "lM"},
    {"Power", 7, 4, false, "blmeCSncS"},
    {"Round", 1, 1, true, "cc"},
    {"Sign", 3, 3, false, "DCSCS"},
    {"Sin", 8, 3, false, "McMAsmMAmAmAmAm"},
    {"Sinh", 4, 1, false, "AeMAesM"},
    {"Tan", 10, 4, false, "McMAsmMAmAmAmAmd"},
    {"Tanh", 4, 1, false, "ixMeAAd"},
    {"Trunc", 2, 1, true, "cc"},
    {"Xor", 1, 1, false, "onNn"},
    {"Sigmoid", 1, 1, false, "MeAd"},
    {"Silu", 0, 0, false, "MeAd"},
    {"Swish", 0, 0, false, "MeAd"},
    {"Gelu", 6, 3, true, "mmMaMeAd"},
    {"FasterGelu", 6, 3, true, "bMeAsMed"},
    {"FasterGeluV2", 6, 3, true, "biAmMAbdmmA"},
    {"GeGLU", 4, 0, false, "mAmMeAdm"},
    {"SwiGLU", 6, 0, false, "MeAdm"},
    {"ReGlu", 6, 1, false, "xm"},
    {"Axpy", 4, 1, false, "Ma"},
};
static_assert(sizeof(kFns) / sizeof(kFns[0]) == static_cast<size_t>(Fn::Count));

double digamma(double x) {
  if (x <= 0 && x == std::floor(x)) return std::nan("");
  double r = 0;
  if (x < 0) return digamma(1 - x) - M_PI / std::tan(M_PI * x);
  while (x < 10) {
    r -= 1 / x;
    x += 1;
  }
  const double y = 1 / (x * x);
  return r + std::log(x) - 0.5 / x -
         y * (1.0 / 12 - y * (1.0 / 120 - y * (1.0 / 252 - y * (1.0 / 240 - y * (1.0 / 132)))));
}

double gelu(double x) {
  return x / (1 + std::exp(-1.595769121605730711759 * (x + 0.044715 * x * x * x)));
}

double fasterGeluV2(double x) {
  const double a = -0.1444, b = -1.769;
  const double s = x + 1e-12;
  const double c = std::min(0.7071 * std::fabs(x), -b) + b;
  return x * (s / std::fabs(s) * (a * c * c + 0.5) + 0.5);
}

// The functions of one operand and, where they have it, a scalar parameter.
double value(Fn f, double x, double p) {
  switch (f) {
    case Fn::Acos:
      return std::acos(x);
    case Fn::Acosh:
      return std::acosh(x);
    case Fn::Asin:
      return std::asin(x);
    case Fn::Asinh:
      return std::asinh(x);
    case Fn::Atan:
      return std::atan(x);
    case Fn::Atanh:
      return std::atanh(x);
    case Fn::Ceil:
      return std::ceil(x);
    case Fn::ClampMax:
      return x > p ? p : x;
    case Fn::ClampMin:
      return x < p ? p : x;
    case Fn::Cos:
      return std::cos(x);
    case Fn::Cosh:
      return std::cosh(x);
    case Fn::Digamma:
      return digamma(x);
    case Fn::Erf:
      return std::erf(x);
    case Fn::Erfc:
      return std::erfc(x);
    case Fn::Exp:
      return std::exp(x);
    case Fn::Floor:
      return std::floor(x);
    case Fn::Frac:
      return x - std::trunc(x);
    case Fn::Lgamma:
      return std::lgamma(x);
    case Fn::Log:
      return std::log(x);
    case Fn::Log2:
      return std::log2(x);
    case Fn::Log10:
      return std::log10(x);
    case Fn::Round:
      return std::nearbyint(x);
    case Fn::Sign:
      return x > 0 ? 1 : x < 0 ? -1 : 0;
    case Fn::Sin:
      return std::sin(x);
    case Fn::Sinh:
      return std::sinh(x);
    case Fn::Tan:
      return std::tan(x);
    case Fn::Tanh:
      return std::tanh(x);
    case Fn::Trunc:
      return std::trunc(x);
    case Fn::Sigmoid:
      return 1 / (1 + std::exp(-x));
    case Fn::Silu:
      return x / (1 + std::exp(-x));
    case Fn::Swish:
      return x / (1 + std::exp(-p * x));
    case Fn::Gelu:
      return gelu(x);
    case Fn::FasterGelu:
      return x / (1 + std::exp(-1.702 * std::fabs(x))) * std::exp(0.851 * (x - std::fabs(x)));
    case Fn::FasterGeluV2:
      return fasterGeluV2(x);
    default:
      fail(kChip, "function %s takes more than one operand", fnInfo(f).name);
  }
}

double value2(Fn f, double a, double b, double p) {
  switch (f) {
    case Fn::Fmod:
      return std::fmod(a, b);
    case Fn::GeGLU:
      return a * (b / (1 + std::exp(-0.0713548162726 * b * (2.2363860002236e1 + b * b))));
    case Fn::SwiGLU:
      return a * (b / (1 + std::exp(-p * b)));
    case Fn::ReGlu:
      return a * std::max(b, 0.0);
    default:
      fail(kChip, "function %s takes one operand", fnInfo(f).name);
  }
}

// Passes of a function that computes in float: half operands are converted before and after.
void cost(const char* steps, uint64_t n, DType type) {
  const bool narrow = type == DType::F16 || type == DType::BF16;
  if (narrow) pass("vconv", n, DType::F32);
  passes(steps, n, DType::F32);
  if (narrow) pass("vconv", n, DType::F32);
}

// The instruction that carries the data; its first pass.
struct Main : Instr {
  Main(const char* mnemonic, uint64_t n) : Instr(Pipe::V, mnemonic) {
    event.repeats = static_cast<uint32_t>((n * 4 + 255) / 256);
    event.dtype = DType::F32;
  }
};
}  // namespace

const FnInfo& fnInfo(Fn f) { return kFns[static_cast<int>(f)]; }

uint32_t fnMinTmp(Fn f, uint32_t typeSize, bool reuse) {
  const FnInfo& info = fnInfo(f);
  if (f == Fn::Gelu || f == Fn::FasterGelu || f == Fn::FasterGeluV2) return 3 * 256;
  if (f == Fn::Exp) return (typeSize == 2 ? 4 : reuse ? 2 : 3) * 256;
  if (f == Fn::Log2) return typeSize == 2 ? 256 : 0;
  uint32_t factor = typeSize == 2 ? info.halfFactor : info.floatFactor;
  if (reuse && typeSize == 4 &&
      (f == Fn::Sin || f == Fn::Cos || f == Fn::Digamma || f == Fn::Lgamma))
    --factor;
  return factor * 256;
}

uint32_t fnMaxTmp(Fn f, uint64_t n, uint32_t typeSize, bool reuse) {
  // Every temporary tensor of the minimum holds 64 floats (or 128 halves); in one go it holds all.
  const uint64_t bytes = std::max<uint64_t>(n * typeSize, 256);
  const bool floats = f == Fn::Gelu || f == Fn::FasterGelu || f == Fn::FasterGeluV2 ||
                      f == Fn::Exp || (f == Fn::Log2 && typeSize == 2);
  return static_cast<uint32_t>(fnMinTmp(f, typeSize, reuse) / 256 *
                               (floats ? std::max<uint64_t>(n * 4, 256) : bytes));
}

void unary(Fn f, const Arg& dst, const Arg& src, const Arg* tmp, uint64_t n, bool reuse,
           double param) {
  const FnInfo& info = fnInfo(f);
  {
    Main i("vmuls", n);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    within(dst, n, "dst");
    within(src, n, "src");
    if (!info.overlap) separate(dst, n, "dst", src, n, "src");
    scratch(i, tmp, fnMinTmp(f, sizeOf(src.type), reuse), {{&dst, n}, {&src, n}});
    std::vector<float> v(n);
    load(i, src, 0, n, v.data());
    for (float& x : v) x = static_cast<float>(value(f, x, param));
    store(i, dst, 0, n, v.data());
  }
  cost(info.steps + (info.steps[0] != 0), n, src.type);
}

void binary(Fn f, const Arg& dst, const Arg& a, const Arg& b, const Arg* tmp, uint64_t n,
            double param) {
  const FnInfo& info = fnInfo(f);
  {
    Main i("vmul", n);
    aligned(i, dst, "dst");
    aligned(i, a, "src0");
    aligned(i, b, "src1");
    within(dst, n, "dst");
    within(a, n, "src0");
    within(b, n, "src1");
    separate(dst, n, "dst", a, n, "src0");
    separate(dst, n, "dst", b, n, "src1");
    scratch(i, tmp, fnMinTmp(f, sizeOf(a.type), false), {{&dst, n}, {&a, n}, {&b, n}});
    std::vector<float> x(n), y(n);
    load(i, a, 0, n, x.data());
    load(i, b, 0, n, y.data());
    for (uint64_t k = 0; k < n; ++k) x[k] = static_cast<float>(value2(f, x[k], y[k], param));
    store(i, dst, 0, n, x.data());
  }
  cost(info.steps + 1, n, a.type);
}

uint32_t powerMinTmp(bool tensorTensor, bool typeIsInt, uint32_t typeSize) {
  if (typeIsInt) return (tensorTensor ? 6 : 7) * 256;
  if (typeSize == 4) return (tensorTensor ? 4 : 5) * 256 + 256;
  return 7 * 256 + 256;
}

uint32_t powerMaxTmp(bool tensorTensor, bool typeIsInt, uint32_t typeSize, uint64_t n) {
  const uint64_t bytes = std::max<uint64_t>(n * 4, 256);
  return static_cast<uint32_t>(
      (powerMinTmp(tensorTensor, typeIsInt, typeSize) / 256 - (typeIsInt ? 0 : 1)) * bytes +
      (typeIsInt ? 0 : 256));
}

namespace {
// Integer powers wrap; a negative exponent leaves 1 and -1 to any power, else 0.
int32_t intPower(int32_t a, int32_t b) {
  if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
  uint32_t r = 1, x = static_cast<uint32_t>(a);
  for (uint32_t e = static_cast<uint32_t>(b); e != 0; e >>= 1, x *= x)
    if (e & 1) r *= x;
  return static_cast<int32_t>(r);
}
}  // namespace

void power(int kind, const Arg& dst, const Arg& a, const Arg& b, double scalar, const Arg* tmp,
           uint64_t n) {
  const bool ints = dst.type == DType::I32;
  {
    Main i("vln", n);
    aligned(i, dst, "dst");
    within(dst, n, "dst");
    for (const Arg* s : {&a, &b}) {
      if ((kind == 1 && s == &b) || (kind == 2 && s == &a)) continue;
      aligned(i, *s, s == &a ? "src0" : "src1");
      within(*s, n, s == &a ? "src0" : "src1");
      separate(dst, n, "dst", *s, n, s == &a ? "src0" : "src1");
    }
    scratch(i, tmp, powerMinTmp(kind == 0, ints, sizeOf(dst.type)),
            {{&dst, n}, {&a, kind == 2 ? 0 : n}, {&b, kind == 1 ? 0 : n}});
    if (ints) {
      uint8_t* d = core().ptr(dst.place.mem, dst.place.address);
      std::vector<int32_t> x(n, static_cast<int32_t>(scalar)), y(n, static_cast<int32_t>(scalar));
      for (const Arg* s : {&a, &b}) {
        if ((kind == 1 && s == &b) || (kind == 2 && s == &a)) continue;
        i.read(s->place, 0, n * 4);
        __builtin_memcpy(s == &a ? x.data() : y.data(), core().ptr(s->place.mem, s->place.address),
                         n * 4);
      }
      i.write(dst.place, 0, n * 4);
      for (uint64_t k = 0; k < n; ++k) x[k] = intPower(x[k], y[k]);
      __builtin_memcpy(d, x.data(), n * 4);
    } else {
      std::vector<float> x(n, static_cast<float>(scalar)), y(n, static_cast<float>(scalar));
      if (kind != 2) load(i, a, 0, n, x.data());
      if (kind != 1) load(i, b, 0, n, y.data());
      for (uint64_t k = 0; k < n; ++k)
        x[k] = static_cast<float>(std::pow(static_cast<double>(x[k]), static_cast<double>(y[k])));
      store(i, dst, 0, n, x.data());
    }
  }
  cost(ints ? "nmSmnmSmnmSm" : "bmeCSncS", n, dst.type);
}

void xorOf(const Arg& dst, const Arg& a, const Arg& b, const Arg* tmp, uint64_t n) {
  {
    Instr i(Pipe::V, "vor");
    i.event.repeats = static_cast<uint32_t>((n * 2 + 255) / 256);
    i.event.dtype = a.type;
    aligned(i, dst, "dst");
    aligned(i, a, "src0");
    aligned(i, b, "src1");
    within(dst, n, "dst");
    within(a, n, "src0");
    within(b, n, "src1");
    separate(dst, n, "dst", a, n, "src0");
    separate(dst, n, "dst", b, n, "src1");
    scratch(i, tmp, 256, {{&dst, n}, {&a, n}, {&b, n}});
    i.read(a.place, 0, n * 2);
    i.read(b.place, 0, n * 2);
    i.write(dst.place, 0, n * 2);
    uint8_t* d = core().ptr(dst.place.mem, dst.place.address);
    const uint8_t* x = core().ptr(a.place.mem, a.place.address);
    const uint8_t* y = core().ptr(b.place.mem, b.place.address);
    for (uint64_t k = 0; k < n * 2; ++k) d[k] = static_cast<uint8_t>(x[k] ^ y[k]);
  }
  passes("nNn", n, a.type);
}

void axpy(const Arg& dst, const Arg& src, double scalar, const Arg* tmp, uint64_t n) {
  {
    Main i("vmuls", n);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    within(dst, n, "dst");
    within(src, n, "src");
    separate(dst, n, "dst", src, n, "src");
    scratch(i, tmp, fnMinTmp(Fn::Axpy, sizeOf(src.type), false), {{&dst, n}, {&src, n}});
    std::vector<float> x(n), y(n);
    load(i, src, 0, n, x.data());
    load(i, dst, 0, n, y.data());
    // The product is rounded to float (the temporary's type), then the sum to the result's.
    for (uint64_t k = 0; k < n; ++k) y[k] += static_cast<float>(x[k] * scalar);
    store(i, dst, 0, n, y.data());
  }
  cost("a", n, src.type);
}

uint32_t cumSumTmp(uint32_t outer, uint32_t inner, uint32_t typeSize, bool lastAxis) {
  if (!lastAxis) return typeSize == 2 ? outer * inner * 4 : 0;
  // Along the last axis 16 rows at a time are transposed there and back.
  return 32 * inner * typeSize + (typeSize == 2 ? 32 * inner : 0);
}

void cumSum(const Arg& dst, const Arg& last, const Arg& src, const Arg* tmp, uint32_t outer,
            uint32_t inner, bool lastAxis, bool outputLast) {
  const uint64_t n = static_cast<uint64_t>(outer) * inner;
  if (outer == 0 || inner == 0 || inner * sizeOf(src.type) % 32 != 0)
    fail(kParam,
         "cumSumInfo is {%u, %u}; both must be over 0 and a row must be a multiple of 32 bytes",
         outer, inner);
  {
    Main i("vadd", n);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    within(dst, n, "dst");
    within(src, n, "src");
    scratch(i, tmp, cumSumTmp(outer, inner, sizeOf(src.type), lastAxis), {{&dst, n}, {&src, n}});
    std::vector<float> v(n);
    load(i, src, 0, n, v.data());
    if (lastAxis) {
      for (uint64_t r = 0; r < outer; ++r)
        for (uint64_t k = 1; k < inner; ++k) v[r * inner + k] += v[r * inner + k - 1];
    } else {
      for (uint64_t k = inner; k < n; ++k) v[k] += v[k - inner];
    }
    store(i, dst, 0, n, v.data());
    if (outputLast) {
      aligned(i, last, "lastRow");
      within(last, inner, "lastRow");
      store(i, last, 0, inner, v.data() + n - inner);
    }
  }
  if (lastAxis) passes("TT", n, DType::F32);
  const bool narrow = sizeOf(src.type) == 2;
  if (narrow) passes("cc", n, DType::F32);
  if (outputLast) pass("vcopy", inner, src.type);
}

}  // namespace ascsim::adv
