// f32[2, 3, 5, 8] = rope(f32[2, 3, 5, 8], f32[2, 1, 5, 8], f32[2, 1, 5, 8])
namespace rope_337a78c1_impl {
}  // namespace rope_337a78c1_impl
void rope_337a78c1([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  const i64 half = 8 / 2;
  const auto [first, last] = t.split(30, row_grain(8));
  for (i64 r = first; r < last; ++r) {
    i64 q = r;
    const i64 i2 = q % 5; q /= 5;
    const i64 i1 = q % 3; q /= 3;
    const i64 i0 = q;
    const float* x_ = (float*)a[0] + i0 * 120 + i1 * 40 + i2 * 8;
    const float* c_ = (float*)a[1] + i0 * 40 + i2 * 8;
    const float* s_ = (float*)a[2] + i0 * 40 + i2 * 8;
    float* y_ = (float*)a[3] + i0 * 120 + i1 * 40 + i2 * 8;
#pragma omp simd
    for (i64 j = 0; j < half; ++j) {
      const float lo = load(x_ + j * 1), hi = load(x_ + (j + half) * 1);
      const i64 k = j + half;
      store(y_ + j * 1, lo * load(c_ + j * 1) - hi * load(s_ + j * 1));
      store(y_ + (j + half) * 1, hi * load(c_ + k * 1) + lo * load(s_ + k * 1));
    }
  }
}

