// bf16[T, 24], f32[T, 1] = group(bf16[T, 24], bf16[T, 24])
//   %0: bf16[T, 24] = add(%a0, %a1)
//   %1: f32[T, 24] = cast(%0) dtype=float32
//   %2: f32[T, 24] = exp(%1)
//   %3: i64[T, 24] = iota() dtype=int64
//   %4: f32[T, 24] = mul(%2, %3)
//   %5: f32[T, 1] = amax(%4)
//   %6: f32[T, 24] = sub(%4, %5)
//   %7: f32[T, 24] = exp(%6)
//   %8: f32[T, 1] = sum(%7)
//   %9: f32[T, 24] = div(%7, %8)
//   %10: bf16[T, 24] = cast(%9) dtype=bfloat16
//   %11: f32[T, 1] = sum(%9)
namespace loop_1fade8c5_impl {
}  // namespace loop_1fade8c5_impl
void loop_1fade8c5([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  [[maybe_unused]] const i64 T = s[0];
  const bf16* a0 = (const bf16*)a[0];
  const bf16* a1 = (const bf16*)a[1];
  bf16* b0 = (bf16*)a[2];
  float* b1 = (float*)a[3];
  const i64 columns = 24;
  float* rows_ = (float*)t.scratch(size_t(columns) * 2 * sizeof(float));
  float* row0 = rows_ + 0 * columns;
  float* row1 = rows_ + 1 * columns;
  const auto [first, last] = t.split((T), row_grain(columns));
  const i64 begin = 0, end = columns;
  for (i64 r = first; r < last; ++r) {
    const i64 i0 = r;
    const bf16* x0_ = a0 + i0 * 24;
    const bf16* x1_ = a1 + i0 * 24;
    bf16* y0_ = b0 + i0 * 24;
    float* y1_ = b1 + i0;
    const i64 v3_ = 1 + 0;
    float v5 = -INFINITY;
    int v5_nan = 0;
    #pragma omp simd reduction(max:v5) reduction(|:v5_nan)
    for (i64 j = begin; j < end; ++j) {
      const float x0 = to_f32(x0_[j]);
      const float x1 = to_f32(x1_[j]);
      const float v0 = x0 + x1;
      const float v1 = float(xc::math::round_bf16(v0));
      const float v2 = xc::math::exp(v1);
      const i64 v3 = (v3_ + j * 2);
      const float v4 = v2 * float(v3);
      v5 = v5 > v4 ? v5 : v4;
      v5_nan |= v4 != v4;
      row0[j] = v4;
    }
    if (v5_nan) v5 = NAN;
    float v8 = 0;
    #pragma omp simd reduction(+:v8)
    for (i64 j = begin; j < end; ++j) {
      const float v4 = row0[j];
      const float v6 = v4 - v5;
      const float v7 = xc::math::exp(v6);
      v8 += v7;
      row1[j] = v7;
    }
    float v11 = 0;
    #pragma omp simd reduction(+:v11)
    for (i64 j = begin; j < end; ++j) {
      const float v7 = row1[j];
      const float v9 = v7 / v8;
      v11 += v9;
      const float v10 = xc::math::round_bf16(float(v9));
      y0_[j] = to_bf16(v10);
    }
    y1_[0] = v11;
  }
}

