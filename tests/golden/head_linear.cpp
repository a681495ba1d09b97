// f32[5, 3, 37] = head_linear(f32[5, 3, 33], f32[3, 37, 33])
namespace head_linear_1796b898_impl {
struct Rows {
  float* y;
  i64 ld, step;
};
void store(const void* ctx, i64 m, int rows, i64 n, int cols, const float* acc, int ld) {
  const Rows& c = *(const Rows*)ctx;
  for (int r = 0; r < rows; ++r, acc += ld) {
    float* to = c.y + (m + r) * c.ld + n * c.step;
    if (c.step == 1)
      for (int j = 0; j < cols; j += xc::VL) xc::vstore_n(to + j, xc::vload(acc + j), cols - j);
    else
      for (int j = 0; j < cols; ++j) xc::store(to + j * c.step, acc[j]);
  }
}
}  // namespace head_linear_1796b898_impl
void head_linear_1796b898([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  const i64 heads = 3, inner = 33, outer = 37;
  const i64 panels = (outer + kPanel - 1) / kPanel * panel_elems<float>(inner);
  for (i64 h = 0; h < heads; ++h) {
    const head_linear_1796b898_impl::Rows c{(float*)a[2] + h * 37, 111, 1};
    linear<float>(t, (float*)a[0] + h * 33, 99, (float*)a[1] + h * panels,
        5, outer, inner, head_linear_1796b898_impl::store, &c);
  }
}

