// Packing of left operands and of weight panels at run time.
#include <algorithm>

#include "gemm.hpp"
#include "micro.hpp"
#include "transpose.hpp"

namespace xc {

namespace {

// dst[s*ld + r] = rows[r][s] for 4-byte units; rows beyond `count` repeat the last one. Stores
// whole vectors in ascending order: a store may spill up to VL units past its row, into units
// that a later one overwrites or into the slack behind the buffer.
void transpose_units(uint32_t* dst, i64 ld, const char* const* rows, int count, int width,
                     i64 steps) {
  for (i64 s = 0; s < steps; s += VL) {
    int valid = int(std::min<i64>(VL, steps - s));
    vf r[(kPanel / VL)][VL];
    int blocks = int(ceil_div(width, VL));
    for (int b = 0; b < blocks; ++b) {
      for (int i = 0; i < VL; ++i) {
        const char* row = rows[std::min(b * VL + i, count - 1)] + s * 4;
        if (valid == VL) {
          std::memcpy(&r[b][i], row, sizeof(vf));
        } else {
          float tail[VL] = {};
          std::memcpy(tail, row, size_t(valid) * 4);
          r[b][i] = vload(tail);
        }
      }
      transpose(r[b]);
    }
    for (int i = 0; i < valid; ++i)
      for (int b = 0; b < blocks; ++b)
        std::memcpy(dst + (s + i) * ld + b * VL, &r[b][i], sizeof(vf));
  }
}

template <class T>
void transpose_rows(uint32_t* dst, i64 ld, const T* const* rows, int count, int width, i64 K) {
  constexpr i64 per_unit = 4 / sizeof(T);
  i64 whole = K / per_unit;
  transpose_units(dst, ld, reinterpret_cast<const char* const*>(rows), count, width, whole);
  if constexpr (sizeof(T) == 2) {
    if (K % 2)
      for (int r = 0; r < width; ++r) dst[whole * ld + r] = rows[std::min(r, count - 1)][K - 1].u;
  }
}

[[maybe_unused]] void pack_tiles(uint16_t* dst, const bf16* const* rows, i64 m, i64 K) {
  i64 steps = ceil_div(K, kTileK), whole = K / kTileK;
  for (i64 g = 0; g < m; g += kTileRows) {
    int count = int(std::min<i64>(kTileRows, m - g));
    for (int r = 0; r < count; ++r) {
      const bf16* row = rows[g + r];
      uint16_t* to = dst + g * steps * kTileK + r * kTileK;
      for (i64 s = 0; s < whole; ++s)
        std::memcpy(to + s * kTileRows * kTileK, row + s * kTileK, kTileK * 2);
      if (whole < steps) {
        uint16_t tail[kTileK] = {};
        std::memcpy(tail, row + whole * kTileK, size_t(K - whole * kTileK) * 2);
        std::memcpy(to + whole * kTileRows * kTileK, tail, kTileK * 2);
      }
    }
  }
}

// unit(i, p) = rows[2p][i] | rows[2p+1][i] << 16 for VL consecutive i; missing rows are zero.
inline vu load_pairs(const bf16* const* rows, i64 k, i64 p, i64 i, int valid) {
  vh pair[2] = {};
  for (int h = 0; h < 2; ++h) {
    if (2 * p + h >= k) continue;
    const bf16* from = rows[2 * p + h] + i;
    if (valid == VL)
      pair[h] = vload_half(from);
    else
      std::memcpy(&pair[h], from, size_t(valid) * 2);
  }
  return pair_up(pair[0], pair[1]);
}

[[maybe_unused]] void pack_tiles_transposed(uint16_t* dst, const bf16* const* rows, i64 k, i64 M) {
  i64 steps = ceil_div(k, kTileK);
  for (i64 i = 0; i < M; i += VL) {
    int valid = int(std::min<i64>(VL, M - i));
    char* tile = reinterpret_cast<char*>(dst + i / kTileRows * kTileRows * steps * kTileK);
    tile += i % kTileRows * kTileK * 2;
    for (i64 p = 0; p < steps * kTileK / 2; p += VL) {
      vf r[VL];
      for (int j = 0; j < VL; ++j) r[j] = (vf)load_pairs(rows, k, p + j, i, valid);
      transpose(r);
      char* to = tile + p / (kTileK / 2) * kTileRows * kTileK * 2 + p % (kTileK / 2) * 4;
      for (int j = 0; j < VL; ++j) std::memcpy(to + j * kTileK * 2, &r[j], sizeof(vf));
    }
  }
}

}  // namespace

template <class T>
size_t packed_rows_bytes(Kernel kernel, i64 rows, i64 K) {
  if (kernel == Kernel::amx) return size_t(round_up(rows, 2 * kTileRows) * round_up(K, kTileK) * 2);
  return size_t(round_up(rows, kMaxRows) * unit_steps<T>(K)) * sizeof(Unit<T>) + 256;
}

template <class T>
void pack_rows(Kernel kernel, void* packed, const T* const* rows, i64 m, i64 K) {
  if constexpr (sizeof(T) == 2)
    if (kernel == Kernel::amx) return pack_tiles(static_cast<uint16_t*>(packed), rows, m, K);
  i64 steps = unit_steps<T>(K);
  Unit<T>* dst = static_cast<Unit<T>*>(packed);
  for (i64 g = 0; g < m; g += kMaxRows) {
    int count = int(std::min<i64>(kMaxRows, m - g)), width = row_width(count);
    const T* const* from = rows + g;
    if constexpr (sizeof(Unit<T>) == 8) {
      for (i64 s = 0; s < steps; ++s)
        for (int r = 0; r < width; ++r) {
          const T* row = from[std::min(r, count - 1)] + 2 * s;
          set_unit(dst[s * width + r], to_f32(row[0]), 2 * s + 1 < K ? to_f32(row[1]) : 0.0f);
        }
    } else if (width == 1) {
      std::memcpy(dst, from[0], size_t(K) * sizeof(T));
      if (sizeof(T) == 2 && K % 2) reinterpret_cast<uint16_t*>(dst)[K] = 0;
    } else {
      transpose_rows(reinterpret_cast<uint32_t*>(dst), width, from, count, width, K);
    }
    dst += width * steps;
  }
}

template <class T>
void pack_rows_transposed(Kernel kernel, void* packed, const T* const* rows, i64 k, i64 M) {
  if constexpr (sizeof(T) == 2)
    if (kernel == Kernel::amx)
      return pack_tiles_transposed(static_cast<uint16_t*>(packed), rows, k, M);
  i64 steps = unit_steps<T>(k);
  Unit<T>* dst = static_cast<Unit<T>*>(packed);
  for (i64 g = 0; g < M; g += kMaxRows) {
    int count = int(std::min<i64>(kMaxRows, M - g)), width = row_width(count);
    for (i64 s = 0; s < steps; ++s) {
      Unit<T>* to = dst + s * width;
      if constexpr (sizeof(T) == 4) {
        std::memcpy(to, rows[s] + g, size_t(count) * 4);
      } else if constexpr (sizeof(Unit<T>) == 8) {
        for (int r = 0; r < count; ++r)
          set_unit(to[r], to_f32(rows[2 * s][g + r]),
                   2 * s + 1 < k ? to_f32(rows[2 * s + 1][g + r]) : 0.0f);
      } else {
        vu units = load_pairs(rows, k, s, g, std::min(VL, count));
        std::memcpy(to, &units, size_t(width) * sizeof(*to));
      }
      for (int r = count; r < width; ++r) to[r] = Unit<T>{};
    }
    dst += width * steps;
  }
}

template <class T>
void pack_panel(T* panel, const T* const* rows, int cols, i64 K) {
  transpose_rows(reinterpret_cast<uint32_t*>(panel), kPanel, rows, cols, kPanel, K);
  i64 used = unit_steps<T>(K) * (4 / i64(sizeof(T)));
  std::memset(static_cast<void*>(panel + used * kPanel), 0,
              size_t(padded_k<T>(K) - used) * kPanel * sizeof(T));
}

}  // namespace xc
