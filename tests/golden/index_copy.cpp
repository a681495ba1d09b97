// f32[9, 4, 5] = index_copy(f32[9, 4, 5], i64[3], f32[3, 4, 5])
namespace index_copy_1e9aca07_impl {
}  // namespace index_copy_1e9aca07_impl
void index_copy_1e9aca07([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  index_copy<uint32_t>(t, (uint32_t*)a[0], 1, 9,
                       4 * 5, (i64*)a[1], 3, (const uint32_t*)a[2]);
}


// f32[9, 4, 5] = group(f32[9, 4, 5])
//   %0: f32[9, 4, 5] = copy(%a0)
namespace loop_4768065c_impl {
}  // namespace loop_4768065c_impl
void loop_4768065c([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  const float* a0 = (const float*)a[0];
  float* b0 = (float*)a[1];
  const i64 columns = 180;
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

