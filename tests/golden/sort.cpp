// f32[3, 5, 37], i64[3, 5, 37] = sort(f32[3, 5, 37])
namespace sort_1e97c0ef_impl {
}  // namespace sort_1e97c0ef_impl
void sort_1e97c0ef([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  sort<float>(t, (float*)a[0], 15, 37, false, (float*)a[1], (i64*)a[2]);
}

