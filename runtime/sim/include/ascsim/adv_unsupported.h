// High-level calls of other chips: a program that uses one gets a sentence instead of a list of
// candidates. Their configurations exist so that the sentence comes first.
#pragma once
#include <cstdint>

namespace AscendC {
namespace detail {
template <class...>
constexpr bool neverHere = false;
}

struct ClampConfig {
  bool isReuseSource;
};
struct FmaConfig {
  bool isReuseSource;
};
struct RintConfig {
  bool isReuseSource;
};
struct SinCosConfig {
  bool isReuseSource;
};
struct IsInfConfig {
  bool isReuseSource;
};
struct IsNanConfig {
  bool isReuseSource;
};
struct BitwiseAndConfig {
  bool isReuseSource;
};
struct BitwiseNotConfig {
  bool isReuseSource;
};
struct BitwiseOrConfig {
  bool isReuseSource;
};
struct BitwiseXorConfig {
  bool isReuseSource;
};
struct LogicalAndConfig {
  bool isReuseSource;
};
struct LogicalNotConfig {
  bool isReuseSource;
};
struct LogicalOrConfig {
  bool isReuseSource;
};
struct LogicalXorConfig {
  bool isReuseSource;
};
struct LogicalAndsConfig {
  bool isReuseSource;
  int8_t scalarTensorIndex;
};
struct LogicalOrsConfig {
  bool isReuseSource;
  int8_t scalarTensorIndex;
};
enum class QuantizePolicy : int32_t { PER_TENSOR, PER_CHANNEL, PER_TOKEN, PER_GROUP };
enum class DequantizePolicy : int32_t { PER_TENSOR, PER_CHANNEL, PER_TOKEN, PER_GROUP };
enum class AntiQuantizePolicy : int32_t { PER_TENSOR, PER_CHANNEL, PER_TOKEN, PER_GROUP };
struct DequantizeConfig {
  DequantizePolicy policy;
  bool hasOffset = false;
  int32_t kDim = 1;
};
struct AntiQuantizeConfig {
  AntiQuantizePolicy policy;
  bool hasOffset;
  int32_t kDim = 1;
};

#define ASCSIM_ADV_ABSENT(name)                                              \
  template <class... A>                                                      \
  void name(A&&...) {                                                        \
    static_assert(detail::neverHere<A...>,                                   \
                  #name " is not supported on this chip (910B and 910_93)"); \
  }                                                                          \
  template <const auto& config, class... A>                                  \
  void name(A&&...) {                                                        \
    static_assert(detail::neverHere<A...>,                                   \
                  #name " is not supported on this chip (910B and 910_93)"); \
  }
ASCSIM_ADV_ABSENT(Clamp)
ASCSIM_ADV_ABSENT(Where)
ASCSIM_ADV_ABSENT(Fma)
ASCSIM_ADV_ABSENT(Rint)
ASCSIM_ADV_ABSENT(Hypot)
ASCSIM_ADV_ABSENT(SinCos)
ASCSIM_ADV_ABSENT(IsFinite)
ASCSIM_ADV_ABSENT(IsInf)
ASCSIM_ADV_ABSENT(IsNan)
ASCSIM_ADV_ABSENT(BitwiseAnd)
ASCSIM_ADV_ABSENT(BitwiseNot)
ASCSIM_ADV_ABSENT(BitwiseOr)
ASCSIM_ADV_ABSENT(BitwiseXor)
ASCSIM_ADV_ABSENT(LogicalAnd)
ASCSIM_ADV_ABSENT(LogicalAnds)
ASCSIM_ADV_ABSENT(LogicalNot)
ASCSIM_ADV_ABSENT(LogicalOr)
ASCSIM_ADV_ABSENT(LogicalOrs)
ASCSIM_ADV_ABSENT(LogicalXor)
ASCSIM_ADV_ABSENT(Quantize)
ASCSIM_ADV_ABSENT(Dequantize)
ASCSIM_ADV_ABSENT(AntiQuantize)
ASCSIM_ADV_ABSENT(GetBroadcastTilingInfo)
#undef ASCSIM_ADV_ABSENT
template <uint16_t Rounds = 7, class... A>
void PhiloxRandom(A&&...) {
  static_assert(detail::neverHere<A...>,
                "PhiloxRandom is not supported on this chip (910B and 910_93)");
}

}  // namespace AscendC
