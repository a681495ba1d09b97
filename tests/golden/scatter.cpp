// f32[3, 11] = group(f32[3, 11])
//   %0: f32[3, 11] = copy(%a0)
namespace loop_d8f6599b_impl {
}  // namespace loop_d8f6599b_impl
void loop_d8f6599b([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  const float* a0 = (const float*)a[0];
  float* b0 = (float*)a[1];
  const i64 columns = 33;
  const auto [begin, end] = t.split(columns, 2048);
  if (begin >= end) return;
    const float* x0_ = a0 + 0;
    float* y0_ = b0 + 0;
    #pragma omp simd
    for (i64 j = begin; j < end; ++j) {
      const float x0 = x0_[j];
      const float v0 = x0;
      y0_[j] = v0;
    }
}


// f32[3, 11] = scatter(f32[3, 11], i64[3, 4], f32[3, 4])
namespace scatter_1bca7ad4_impl {
}  // namespace scatter_1bca7ad4_impl
void scatter_1bca7ad4([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  scatter<uint32_t>(t, (const uint32_t*)a[0], 3, 11, (i64*)a[1],
                    (const uint32_t*)a[2], 4, (uint32_t*)a[0]);
}

