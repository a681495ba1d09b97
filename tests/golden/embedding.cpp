// f32[2, 5, 37] = embedding(f32[11, 37], i64[2, 5])
namespace embedding_a3ae0d4c_impl {
}  // namespace embedding_a3ae0d4c_impl
void embedding_a3ae0d4c([[maybe_unused]] const Team& t, [[maybe_unused]] char* const* a,
                [[maybe_unused]] const i64* s) {
  embedding<uint32_t>(t, (const uint32_t*)a[0], 11, 407 / 11,
                      (const i64*)a[1], 10, (uint32_t*)a[2]);
}

