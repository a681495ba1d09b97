// bf16[T, 16] = group(bf16[T, 24], bf16[16, 24], bf16[16, 24])
//   %0: bf16[T, 16] = linear(%a0, %a1)
//   %1: bf16[T, 16] = linear(%a0, %a2)
//   %2: bf16[T, 16] = silu(%0)
//   %3: bf16[T, 16] = mul(%2, %1)
namespace linear_68d98da7_impl {
constexpr int GATE = 16;
struct Epilogue {
  bf16* y;
  i64 T;
};
void store(const void* ctx, i64 m, int rows, i64 n, int cols, const float* acc, int ld) {
  const Epilogue& c = *(const Epilogue*)ctx;
  [[maybe_unused]] const i64 T = c.T;
  n /= 2;  // a panel holds 16 gate columns, then the 16 up columns they meet
  cols /= 2;
  for (int row = 0; row < rows; ++row) {
    const float* acc_ = acc + i64(row) * ld;
    const i64 i0 = m + row;
    bf16* y_ = c.y + i0 * 16;
#pragma omp simd
    for (int j = 0; j < cols; ++j) {
      const float v2 = xc::math::silu(acc_[j]);
      const float v3 = v2 * acc_[GATE + j];
      y_[n + j] = to_bf16(v3);
    }
  }
}
}  // namespace linear_68d98da7_impl
void linear_68d98da7([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  [[maybe_unused]] const i64 T = s[0];
  using namespace linear_68d98da7_impl;
  const Epilogue c{(bf16*)a[2], T};
  linear<bf16>(t, (const bf16*)a[0], 24, (const bf16*)a[1], (T), 32, 24, store, &c);
}


// bf16[T, 24] = group(bf16[T, 16], bf16[24, 16], bf16[T, 24])
//   %0: bf16[T, 24] = linear(%a0, %a1)
//   %1: bf16[T, 24] = add(%a2, %0)
namespace linear_f32cb7f3_impl {
constexpr int GATE = 16;
struct Epilogue {
  const bf16* x0;
  bf16* y;
  i64 T;
};
void store(const void* ctx, i64 m, int rows, i64 n, int cols, const float* acc, int ld) {
  const Epilogue& c = *(const Epilogue*)ctx;
  [[maybe_unused]] const i64 T = c.T;
  for (int row = 0; row < rows; ++row) {
    const float* acc_ = acc + i64(row) * ld;
    const i64 i0 = m + row;
    const bf16* x0_ = c.x0 + i0 * 24;
    bf16* y_ = c.y + i0 * 24;
#pragma omp simd
    for (int j = 0; j < cols; ++j) {
      const float x0 = to_f32(x0_[(n + j)]);
      const float v1 = x0 + acc_[j];
      y_[n + j] = to_bf16(v1);
    }
  }
}
}  // namespace linear_f32cb7f3_impl
void linear_f32cb7f3([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  [[maybe_unused]] const i64 T = s[0];
  using namespace linear_f32cb7f3_impl;
  const Epilogue c{(const bf16*)a[2], (bf16*)a[3], T};
  linear<bf16>(t, (const bf16*)a[0], 16, (const bf16*)a[1], (T), 24, 16, store, &c);
}

