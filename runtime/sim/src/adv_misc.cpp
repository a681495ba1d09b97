#include <algorithm>
#include <cmath>

#include "ascsim/adv_misc_impl.h"

namespace ascsim::adv {

namespace {
struct Data : Instr {
  Data(const char* mnemonic, uint64_t n, DType type) : Instr(Pipe::V, mnemonic) {
    event.repeats = static_cast<uint32_t>((n * sizeOf(type) + 255) / 256);
    event.dtype = type;
  }
};
std::vector<float> valuesOf(Instr& i, const Factor& f) {
  std::vector<float> v(f.vector != nullptr ? f.count : 1, f.scalar);
  if (f.vector != nullptr) load(i, *f.vector, 0, f.count, v.data());
  return v;
}
}  // namespace

// ----------------------------------------------------------------------------------- quantization
void quant(const Arg& dst, const Arg& src, const Arg* tmp, const Factor& scale,
           const Factor& offset, uint64_t n) {
  if (scale.vector != nullptr &&
      (scale.count == 0 || scale.count % 32 != 0 || n % scale.count != 0))
    fail(kParam,
         "scaleCount is %u for %llu elements; it must be a multiple of 32 that divides calCount",
         scale.count, static_cast<unsigned long long>(n));
  if (offset.vector != nullptr && offset.count != scale.count)
    report(kParam, "offsetCount %u must equal scaleCount %u", offset.count, scale.count);
  {
    Data i("vmul", n, DType::F16);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    within(src, n, "src");
    within(dst, n, "dst");
    scratch(i, tmp, 512, {{&dst, n}, {&src, n}});
    std::vector<float> v(n);
    load(i, src, 0, n, v.data());
    const std::vector<float> s = valuesOf(i, scale), o = valuesOf(i, offset);
    // Everything is half: the operands first, then product and sum.
    const auto h = [](float x) { return roundTo(DType::F16, x); };
    for (uint64_t k = 0; k < n; ++k) v[k] = h(h(h(v[k]) * h(s[k % s.size()])) + h(o[k % o.size()]));
    store(i, dst, 0, n, v.data());
  }
  if (src.type == DType::F32) passes("c", n, DType::F32);
  passes("ac", n, DType::F16);
}

uint32_t dequantTmp(uint32_t n) { return (64 + n + n + 8) * 4; }

void dequant(const Arg& dst, const Arg& src, const Arg* scale, float scalar, const Arg* tmp,
             uint32_t m, uint32_t n, uint32_t calCount) {
  if (n == 0 || m == 0 || n * 4 % 32 != 0 || calCount == 0 || calCount > n)
    fail(
        kParam,
        "params are {%u, %u, %u}; a row of n int32 must fill 32-byte blocks and 1 <= calCount <= n",
        m, n, calCount);
  const uint32_t size = sizeOf(dst.type), pitch = (n * size + 31) / 32 * 32 / size;
  {
    Data i("vconv", static_cast<uint64_t>(m) * n, DType::F32);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    within(src, static_cast<uint64_t>(m) * n, "src");
    separate(dst, static_cast<uint64_t>(m) * pitch, "dst", src, static_cast<uint64_t>(m) * n,
             "src");
    scratch(i, tmp, dequantTmp(n),
            {{&dst, static_cast<uint64_t>(m) * pitch}, {&src, static_cast<uint64_t>(m) * n}});
    std::vector<float> v(calCount), s(calCount, scalar);
    if (scale != nullptr && scale->type == DType::U64) {
      // The low half of each number is a float, the high half belongs to other instructions.
      i.read(scale->place, 0, calCount * 8ull);
      for (uint32_t k = 0; k < calCount; ++k)
        __builtin_memcpy(&s[k], core().ptr(scale->place.mem, scale->place.address + k * 8ull), 4);
    } else if (scale != nullptr) {
      load(i, *scale, 0, calCount, s.data());
    }
    for (uint64_t r = 0; r < m; ++r) {
      load(i, src, r * n, calCount, v.data());
      for (uint32_t k = 0; k < calCount; ++k) v[k] *= s[k];
      store(i, dst, r * pitch, calCount, v.data());
    }
  }
  for (uint32_t r = 0; r < m; ++r) passes("m", calCount, DType::F32);
  if (size == 2) passes("c", static_cast<uint64_t>(m) * n, DType::F32);
}

uint32_t antiQuantTmp(uint64_t scaleSize, bool bfloatOut) {
  return bfloatOut ? static_cast<uint32_t>(1024 + 2 * scaleSize * 4) : 0;
}

void antiQuant(const Arg& dst, const Arg& src, const Arg* tmp, const AntiQuant& q) {
  const uint64_t n = static_cast<uint64_t>(q.k) * q.n;
  if (n == 0)
    fail(kParam, "k is %u and the source has %u columns of it; both must be over 0", q.k, q.n);
  if ((q.offset != nullptr && (q.offsetGroups == 0 || q.k % q.offsetGroups != 0)) ||
      (q.scale != nullptr && (q.scaleGroups == 0 || q.k % q.scaleGroups != 0)))
    fail(kParam, "k %u is not a multiple of the groups of the offset (%u) or the scale (%u)", q.k,
         q.offsetGroups, q.scaleGroups);
  const bool bf = dst.type == DType::BF16;
  {
    Data i("vconv", n, DType::F16);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    within(src, n, "src");
    within(dst, n, "dst");
    separate(dst, n, "dst", src, n, "src");
    scratch(i, tmp,
            antiQuantTmp(q.scale != nullptr ? static_cast<uint64_t>(q.n) * q.scaleGroups : 1, bf),
            {{&dst, n}, {&src, n}});
    std::vector<float> v(n), o, s;
    load(i, src, 0, n, v.data());
    if (q.offset != nullptr) {
      o.resize(static_cast<uint64_t>(q.n) * q.offsetGroups);
      load(i, *q.offset, 0, o.size(), o.data());
    }
    if (q.scale != nullptr) {
      s.resize(static_cast<uint64_t>(q.n) * q.scaleGroups);
      load(i, *q.scale, 0, s.size(), s.data());
    }
    const DType step = bf ? DType::F32 : DType::F16;
    for (uint64_t e = 0; e < n; ++e) {
      const uint64_t kk = q.transpose ? e % q.k : e / q.n, nn = q.transpose ? e / q.k : e % q.n;
      const auto at = [&](const std::vector<float>& f, float scalar, uint32_t groups) {
        if (f.empty()) return scalar;
        const uint64_t g = kk / (q.k / groups);
        return q.transpose ? f[nn * groups + g] : f[g * q.n + nn];
      };
      v[e] = roundTo(step, roundTo(step, v[e] + at(o, q.offsetValue, q.offsetGroups)) *
                               at(s, q.scaleValue, q.scaleGroups));
    }
    store(i, dst, 0, n, v.data());
  }
  passes(bf ? "camc" : "am", n, bf ? DType::F32 : DType::F16);
}

// -------------------------------------------------------------------------------------- filtering
uint32_t selectTmp(uint32_t first, uint32_t srcLast, uint32_t maskLast, uint32_t maskSize,
                   bool reuseMask) {
  const uint32_t cleaned =
      srcLast == maskLast || reuseMask ? 0 : (first * maskLast * maskSize + 31) / 32 * 32;
  return (srcLast * 2 + 31) / 32 * 32 + (srcLast / 8 + 31) / 32 * 32 + cleaned;
}

void selectBytes(const Arg& dst, const Arg* src0, const Arg* src1, float scalar, const Arg& mask,
                 const Arg* tmp, uint32_t first, uint32_t srcLast, uint32_t maskLast,
                 bool reuseMask) {
  const Arg& src = src0 != nullptr ? *src0 : *src1;
  const uint64_t n = static_cast<uint64_t>(first) * srcLast;
  if (n == 0 || maskLast < srcLast)
    fail(kParam, "info is {%u, %u, %u}; the mask's rows are at least as long as the source's",
         first, srcLast, maskLast);
  if (srcLast * sizeOf(src.type) % 32 != 0 || maskLast * sizeOf(mask.type) % 32 != 0 ||
      maskLast % 16 != 0)
    report(kParam,
           "rows have %u source and %u mask elements; both must fill 32-byte blocks and the mask's "
           "be a multiple of 16",
           srcLast, maskLast);
  {
    Data i("vcmpvs", n, DType::F16);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    aligned(i, mask, "mask");
    within(src, n, "src");
    within(dst, n, "dst");
    within(mask, static_cast<uint64_t>(first) * maskLast, "mask");
    scratch(i, tmp, selectTmp(first, srcLast, maskLast, sizeOf(mask.type), reuseMask),
            {{&dst, n}, {&src, n}});
    std::vector<float> v(n), m(srcLast);
    load(i, src, 0, n, v.data());
    for (uint64_t r = 0; r < first; ++r) {
      load(i, mask, r * maskLast, srcLast, m.data());
      loadPadding(i, mask, r * maskLast + srcLast, maskLast - srcLast,
                  std::vector<float>(maskLast).data());
      for (uint32_t k = 0; k < srcLast; ++k)
        if ((m[k] == 0) != (src0 != nullptr)) v[r * srcLast + k] = scalar;
    }
    store(i, dst, 0, n, v.data());
  }
  if (maskLast != srcLast) passes("g", static_cast<uint64_t>(first) * maskLast, mask.type);
  passes("c", n, DType::F16);
  passes("S", n, src.type);
}

void dropOut(const Arg& dst, const Arg& src, const Arg& mask, const Arg* tmp, float keepProb,
             uint32_t mode, uint32_t first, uint32_t srcLast, uint32_t maskLast) {
  const uint64_t n = static_cast<uint64_t>(first) * srcLast;
  if (n == 0 || maskLast == 0)
    fail(kParam, "info is {%u, %u, %u}; every number must be over 0", first, srcLast, maskLast);
  if (!(keepProb > 0 && keepProb < 1))
    report(kParam, "keepProb is %g; it must be between 0 and 1", static_cast<double>(keepProb));
  if (mode == 0)
    mode = maskLast == srcLast ? 2 : maskLast > srcLast ? 1 : maskLast * 8 == srcLast ? 3 : 4;
  {
    Data i("vsel", n, src.type);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    aligned(i, mask, "mask");
    within(src, n, "src");
    within(dst, n, "dst");
    scratch(i, tmp, 512, {{&dst, n}, {&src, n}, {&mask, static_cast<uint64_t>(first) * maskLast}});
    std::vector<float> v(n), m;
    load(i, src, 0, n, v.data());
    const float scale = 1.0f / keepProb;
    const uint64_t used = mode == 1 ? srcLast : mode == 2 ? srcLast : (srcLast + 7) / 8;
    if (mode == 3) {
      m.resize((n + 7) / 8);
      load(i, mask, 0, m.size(), m.data());
    }
    for (uint64_t r = 0; r < first; ++r) {
      if (mode != 3) {
        m.resize(used);
        load(i, mask, r * (mode == 2 ? srcLast : maskLast), used, m.data());
      }
      for (uint64_t k = 0; k < srcLast; ++k) {
        const uint64_t bit = mode == 3 ? r * srcLast + k : k;
        const bool keep =
            mode <= 2 ? m[k] != 0 : ((static_cast<uint32_t>(m[bit / 8]) >> (bit % 8)) & 1) != 0;
        float& x = v[r * srcLast + k];
        x = keep ? x * scale : 0.0f;
      }
    }
    store(i, dst, 0, n, v.data());
  }
  if (mode == 1 || mode == 4) passes("g", static_cast<uint64_t>(first) * maskLast, DType::U8);
  if (mode <= 2) passes("cC", n, DType::F16);
  passes("M", n, src.type);
}

// ---------------------------------------------------------------------------------- rearrangement
void rearrange(const Arg& dst, const Arg& src, const std::vector<int64_t>& map, const Move& how) {
  const uint32_t size = sizeOf(dst.type);
  const uint64_t n = map.size();
  int64_t last = -1;
  for (const int64_t s : map) last = std::max(last, s);
  const uint64_t reach = static_cast<uint64_t>(last + 1);
  {
    Data i("vcopy", n, dst.type);
    aligned(i, dst, "dst");
    aligned(i, src, "src");
    within(src, reach, "src");
    if (!how.overlap) separate(dst, n, "dst", src, reach, "src");
    scratch(i, how.tmp, how.tmpBytes, {{&dst, n}, {&src, reach}});
    std::vector<bool> used(reach);
    for (const int64_t s : map)
      if (s >= 0) used[static_cast<uint64_t>(s)] = true;
    for (uint64_t k = 0; k < reach; ++k) {
      if (!used[k]) continue;
      const uint64_t from = k;
      while (k < reach && used[k]) ++k;
      i.read(src.place, from * size, (k - from) * size);
    }
    std::vector<uint8_t> bytes(n * size);
    const uint8_t* s = core().ptr(src.place.mem, src.place.address);
    for (uint64_t k = 0; k < n; ++k) {
      if (map[k] >= 0)
        __builtin_memcpy(&bytes[k * size], s + static_cast<uint64_t>(map[k]) * size, size);
      else
        __builtin_memcpy(&bytes[k * size], &how.fill, std::min<uint32_t>(size, 4));
    }
    uint8_t* d = core().ptr(dst.place.mem, dst.place.address);
    for (uint64_t k = 0; k < n; ++k) {
      if (map[k] == kSkip) continue;
      const uint64_t from = k;
      while (k < n && map[k] != kSkip) ++k;
      i.write(dst.place, from * size, (k - from) * size);
      __builtin_memcpy(d + from * size, &bytes[from * size], (k - from) * size);
    }
  }
  passes(how.steps, n, dst.type);
}

namespace {
uint32_t up16(uint32_t v) { return (v + 15) / 16 * 16; }
}  // namespace

std::vector<int64_t> transposeMap(uint32_t type, uint32_t b, uint32_t n, uint32_t s, uint32_t hn) {
  std::vector<int64_t> map;
  const uint32_t hn16 = up16(hn), h = n * hn, h16 = up16(h);
  const uint32_t n16 = up16(n);
  if (type == 7) {  // [n, s] to [s, n]
    map.resize(static_cast<uint64_t>(n) * s);
    for (uint64_t r = 0; r < n; ++r)
      for (uint64_t c = 0; c < s; ++c) map[c * n + r] = static_cast<int64_t>(r * s + c);
    return map;
  }
  const uint64_t out = type == 1 || type == 4 || type == 5 ? static_cast<uint64_t>(b) * s * h
                       : type == 2 ? static_cast<uint64_t>(b) * s * hn16 * n16
                       : type == 3 ? static_cast<uint64_t>(b) * n * hn16 * s
                                   : static_cast<uint64_t>(b) * h16 * s;
  map.assign(out, kFill);
  for (uint64_t ib = 0; ib < b; ++ib)
    for (uint64_t in = 0; in < n; ++in)
      for (uint64_t is = 0; is < s; ++is)
        for (uint64_t ih = 0; ih < hn; ++ih) {
          const uint64_t col = in * hn + ih;
          const uint64_t split =
              (((ib * n + in) * (hn16 / 16) + ih / 16) * s + is) * 16 + ih % 16;  // NZ per head
          const uint64_t merged =
              ((ib * (h16 / 16) + col / 16) * s + is) * 16 + col % 16;  // NZ over all heads
          const uint64_t from = type == 3 || type == 4 ? merged : split;
          uint64_t to = 0;
          switch (type) {
            case 1:
              to = ((ib * s + is) * n + in) * hn + ih;
              break;
            case 2:
              to = (((ib * s + is) * (hn16 / 16) + ih / 16) * n16 + in) * 16 + ih % 16;
              break;
            case 3:
              to = split;
              break;
            case 4:
              to = ((ib * n + in) * s + is) * hn + ih;
              break;
            case 5:
              to = (ib * s + is) * h + col;
              break;
            default:
              to = merged;
              break;
          }
          map[to] = static_cast<int64_t>(from);
        }
  return map;
}

std::vector<int64_t> transDataMap(TransDataKind kind, uint32_t n, uint32_t c, uint32_t d,
                                  uint32_t h, uint32_t w, uint64_t* srcElements) {
  const uint32_t hw = h * w, hwPad = up16(hw), c1 = up16(c) / 16, n1 = up16(n) / 16;
  const bool z3d = kind == TransDataKind::ToFractalZ3d || kind == TransDataKind::FromFractalZ3d;
  const bool back = kind == TransDataKind::FromNdc1hwc0 || kind == TransDataKind::FromFractalZ3d;
  const uint64_t plain = static_cast<uint64_t>(n) * c * d * hwPad;
  const uint64_t blocked = z3d ? static_cast<uint64_t>(d) * c1 * hw * n1 * 256
                               : static_cast<uint64_t>(n) * d * c1 * hw * 16;
  *srcElements = back ? blocked : plain;
  std::vector<int64_t> map(back ? plain : blocked, kFill);
  for (uint64_t in = 0; in < n; ++in)
    for (uint64_t ic = 0; ic < c; ++ic)
      for (uint64_t id = 0; id < d; ++id)
        for (uint64_t ip = 0; ip < hw; ++ip) {
          const uint64_t a = ((in * c + ic) * d + id) * hwPad + ip;
          const uint64_t e = z3d ? (((id * c1 + ic / 16) * hw + ip) * n1 * 16 + in) * 16 + ic % 16
                                 : (((in * d + id) * c1 + ic / 16) * hw + ip) * 16 + ic % 16;
          if (back)
            map[a] = static_cast<int64_t>(e);
          else
            map[e] = static_cast<int64_t>(a);
        }
  return map;
}

uint64_t transDataTmp(TransDataKind kind, uint32_t n, uint32_t c, uint32_t d, uint32_t h,
                      uint32_t w, uint32_t typeSize) {
  const uint64_t base = static_cast<uint64_t>(d) * up16(c) * up16(h * w) * typeSize;
  const bool z3d = kind == TransDataKind::ToFractalZ3d || kind == TransDataKind::FromFractalZ3d;
  return z3d ? base * up16(n) : base;
}

uint32_t padTmp(uint32_t width, uint32_t typeSize) {
  return 2 * 16 * ((width * typeSize + 31) / 32 * 32);
}

void arange(const Arg& dst, double first, double diff, uint32_t n) {
  if (n == 0) fail(kParam, "count is 0; it must be over 0");
  if (diff < 0) report(kParam, "diffValue is %g; it must not be negative", diff);
  {
    Data i("vadds", n, dst.type);
    aligned(i, dst, "dst");
    within(dst, n, "dst");
    // The scalar unit makes the first 8 numbers; these grow by vectors to 64 and then beyond.
    std::vector<double> v(n);
    const bool ints = dst.type == DType::I16 || dst.type == DType::I32;
    const auto round = [&](double x) {
      return ints ? x : static_cast<double>(roundTo(dst.type, static_cast<float>(x)));
    };
    for (uint32_t k = 0; k < n; ++k)
      v[k] = k < 8    ? round(first + diff * k)
             : k < 64 ? round(v[k - 8] + round(diff * 8))
                      : round(v[k - 64] + round(diff * 64));
    i.write(dst.place, 0, static_cast<uint64_t>(n) * sizeOf(dst.type));
    uint8_t* p = core().ptr(dst.place.mem, dst.place.address);
    for (uint32_t k = 0; k < n; ++k) {
      if (dst.type == DType::I32) {
        const int32_t x = static_cast<int32_t>(static_cast<uint32_t>(static_cast<int64_t>(v[k])));
        __builtin_memcpy(p + k * 4ull, &x, 4);
      } else if (dst.type == DType::I16) {
        const int16_t x = static_cast<int16_t>(static_cast<uint16_t>(static_cast<int64_t>(v[k])));
        __builtin_memcpy(p + k * 2ull, &x, 2);
      } else {
        convert(dst.type, p, k, static_cast<float>(v[k]));
      }
    }
  }
  for (uint32_t k = 0; k < std::min(n, 8u); ++k) Instr s(Pipe::S, "scalar_store");
}

void fillGlobal(const Place& gm, uint64_t elements, uint64_t bits, DType type) {
  // The value is put into free UB once and copied out piece by piece; the copies wait for it.
  const uint32_t size = sizeOf(type);
  AscendC::LocalTensor<uint8_t> t;
  AscendC::PopStackBuffer<uint8_t, AscendC::TPosition::LCM>(t, core().loc);
  const uint64_t total = elements * size, room = t.GetLength() / 32 * 32;
  if (total == 0) return;
  if (room == 0) fail(kBounds, "needs some free UB; call it before the buffers are initialised");
  const uint64_t part = std::min<uint64_t>((total + 31) / 32 * 32, std::min<uint64_t>(room, 65536));
  Clock clock;
  uint64_t token = 0;
  {
    Instr i(Pipe::V, "vdup");
    i.event.repeats = static_cast<uint32_t>((part + 255) / 256);
    i.event.dtype = type;
    i.write(t.place(), 0, part);
    uint8_t* p = core().ptr(t.place().mem, t.place().address);
    for (uint64_t k = 0; k < part / size; ++k) __builtin_memcpy(p + k * size, &bits, size);
  }
  signal(Pipe::V, clock, token);
  await(Pipe::MTE3, clock, token);
  for (uint64_t done = 0; done < total; done += part) {
    const uint64_t bytes = std::min(part, total - done);
    Instr i(Pipe::MTE3, "mte_ub_gm");
    i.event.src = Mem::UB;
    i.event.dst = Mem::GM;
    i.event.bytes = bytes;
    i.event.bursts = 1;
    i.event.gmAddress = gm.address + done;
    i.event.gmSpan = bytes;
    i.event.dtype = type;
    i.read(t.place(), 0, bytes);
    i.write(gm, done, bytes);
    __builtin_memcpy(reinterpret_cast<void*>(gm.address + done),
                     core().ptr(t.place().mem, t.place().address), bytes);
  }
}

}  // namespace ascsim::adv
