// f32[3, 5] = gather(f32[3, 11], i64[3, 5])
namespace gather_8282d1cd_impl {
}  // namespace gather_8282d1cd_impl
void gather_8282d1cd([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  gather<uint32_t>(t, (const uint32_t*)a[0], 3, 11, (i64*)a[1], 5,
                   (uint32_t*)a[2]);
}

