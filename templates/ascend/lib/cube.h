// The cube core's means: events, loads to L1 and L0A, products, sums to memory.
#pragma once
#include "common.h"

namespace xc {

/// Event ids of one kind, taken from the pipe.
template <HardEvent E, int32_t N>
class Flags {
 public:
  /// Sets the first `count`: they say that a buffer is free.
  __aicore__ inline void init(TPipe& pipe, int32_t count) {
    for (int32_t i = 0; i < N; ++i) id_[i] = pipe.AllocEventID<E>();
    for (int32_t i = 0; i < count; ++i) SetFlag<E>(id_[i]);
  }
  __aicore__ inline void end(TPipe& pipe, int32_t count) {
    for (int32_t i = 0; i < count; ++i) WaitFlag<E>(id_[i]);
    for (int32_t i = 0; i < N; ++i) pipe.ReleaseEventID<E>(id_[i]);
  }
  __aicore__ inline void set(int32_t i) { SetFlag<E>(id_[i]); }
  __aicore__ inline void wait(int32_t i) { WaitFlag<E>(id_[i]); }

 private:
  TEventID id_[N];
};

constexpr int32_t L1_BYTES = 512 * 1024 - 256;
constexpr int32_t L0_BYTES = 64 * 1024, L0C_BYTES = 128 * 1024;

/// `rows` x `depth` of a row-major matrix as NZ in L1, its columns of `high` rows. Twice: the row
/// is loaded two times, since products have at least two.
template <class T>
__aicore__ inline void rowsToL1(const LocalTensor<T>& dst, const GlobalTensor<T>& src, i64 stride,
                                int32_t rows, int32_t high, int32_t depth, bool twice) {
  constexpr uint16_t K0 = 32 / sizeof(T);
  Nd2NzParams p(1, static_cast<uint16_t>(rows), static_cast<uint16_t>(depth), 0,
                static_cast<uint16_t>(stride), static_cast<uint16_t>(high), 1, 0);
  if (twice) {
    p.ndNum = 2;
    p.dstNzMatrixStride = K0;
  }
  if (rows > 1 && stride <= 65535) {
    DataCopy(dst, src, p);
    return;
  }
  p.nValue = 1;
  p.srcDValue = p.dValue;
  for (int32_t i = 0; i < rows; ++i) DataCopy(dst[i * K0], src[i * stride], p);
}

/// NZ in L1, in columns of `high` rows, to ZZ in L0A, a row of fractals at a time: m16 rows.
template <class T>
__aicore__ inline void toL0A(const LocalTensor<T>& dst, const LocalTensor<T>& src, int32_t high,
                             int32_t m16, int32_t depth) {
  constexpr int32_t K0 = 32 / sizeof(T);
  LoadData2DParams p;
  p.repeatTimes = static_cast<uint8_t>((depth + K0 - 1) / K0);
  p.srcStride = static_cast<uint16_t>(high / 16);
  for (int32_t i = 0; i < m16 / 16; ++i)
    LoadData(dst[i * p.repeatTimes * 16 * K0], src[i * 16 * K0], p);
}

/// L0C's m x n sums of products over `depth`; first: they begin with zero.
template <class S, class T>
__aicore__ inline void product(const LocalTensor<S>& sums, const LocalTensor<T>& a,
                               const LocalTensor<T>& b, int32_t m, int32_t n, int32_t depth,
                               bool first) {
  MmadParams p;
  p.m = static_cast<uint16_t>(m == 1 ? 2 : m);  // of one row, A would be read as a plain vector
  p.n = static_cast<uint16_t>(n);
  p.k = static_cast<uint16_t>(depth);
  p.cmatrixInitVal = first;
  Mmad(sums, a, b, p);
  // A product of few fractals may start before the one before it has written its sums.
  if ((m + 15) / 16 * ((n + 15) / 16) < 10) PipeBarrier<PIPE_M>();
}

/// What Fixpipe does to float sums on their way to T.
template <class T>
__aicore__ inline constexpr QuantMode_t quantOf() {
  if constexpr (IsSameType<T, half>::value)
    return QuantMode_t::F322F16;
  else if constexpr (IsSameType<T, bfloat16_t>::value)
    return QuantMode_t::F322BF16;
  else
    return QuantMode_t::NoQuant;
}

/// m x n of L0C's sums (columns of m16 rows) to a row-major matrix, rounded to T. S: float, or
/// int32_t as T then is.
template <class T, class S>
__aicore__ inline void fromL0C(const GlobalTensor<T>& dst, const LocalTensor<S>& src, i64 stride,
                               int32_t m, int32_t m16, int32_t n) {
  FixpipeParamsV220 p;
  p.nSize = static_cast<uint16_t>(n);
  p.mSize = static_cast<uint16_t>(m);
  p.srcStride = static_cast<uint16_t>(m16);
  p.dstStride = static_cast<uint32_t>(stride);
  p.quantPre = quantOf<T>();
  Fixpipe(dst, src, p);
}
}  // namespace xc
