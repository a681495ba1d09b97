// i64[3, 5, 1] = argmax(f32[3, 5, 37])
namespace argmax_ba74d011_impl {
}  // namespace argmax_ba74d011_impl
void argmax_ba74d011([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  argmax<float>(t, (float*)a[0], 15, 37, (i64*)a[1]);
}

