// f32[3, 5, 37] = matmul(f32[3, 5, 33], f32[3, 33, 37])
namespace matmul_39a49482_impl {
}  // namespace matmul_39a49482_impl
void matmul_39a49482([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  const i64 M = 5, N = 37, K = 33;
  for (i64 i0 = 0; i0 < 3; ++i0)
    matmul<float>(
        t, (float*)a[0] + i0 * 165, 0, 33,
        (float*)a[1] + i0 * 1221, 0, 37, 1,
        (float*)a[2] + i0 * 185, 1, M, N, K);
}

