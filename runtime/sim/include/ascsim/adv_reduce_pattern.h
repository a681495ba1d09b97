// Which axes a high-level reduction folds: A stays, R is reduced.
#pragma once
#include <cstdint>

namespace AscendC {

enum class ReducePattern : uint32_t {
  AR = 0,
  RA = 1,
  R,
  ARA,
  ARAR,
  ARARA,
  ARARAR,
  ARARARA,
  ARARARAR,
  ARARARARA,
  RAR,
  RARA,
  RARAR,
  RARARA,
  RARARAR,
  RARARARA,
};

namespace Pattern {
namespace Reduce {
struct AR {
  static constexpr bool supported = true;
  static constexpr bool lastAxis = true;
};
struct RA {
  static constexpr bool supported = true;
  static constexpr bool lastAxis = false;
};
struct Unsupported {
  static constexpr bool supported = false;
  static constexpr bool lastAxis = false;
};
struct R : Unsupported {};
struct ARA : Unsupported {};
struct ARAR : Unsupported {};
struct ARARA : Unsupported {};
struct ARARAR : Unsupported {};
struct ARARARA : Unsupported {};
struct ARARARAR : Unsupported {};
struct ARARARARA : Unsupported {};
struct RAR : Unsupported {};
struct RARA : Unsupported {};
struct RARAR : Unsupported {};
struct RARARA : Unsupported {};
struct RARARAR : Unsupported {};
struct RARARARA : Unsupported {};
}  // namespace Reduce
}  // namespace Pattern

}  // namespace AscendC
