// Mixture-of-experts feed-forward: routing, gated MLP and weighted combine in one kernel.
#pragma once
#include "gemm.hpp"

namespace xc {

/// With a gate g and u: act(g) * u for the first five; silu_clamped: silu(min(g, limit)) * u',
/// clamped_silu: min(silu(g), limit) * u', swiglu_oai: g' sigmoid(alpha g') (u' + 1), where
/// u' = u within +-limit and g' = min(g, limit).
enum class Act { silu, gelu, gelu_tanh, relu, relu2, silu_clamped, clamped_silu, swiglu_oai };

/// y[t] = sum_k weight[t,k] * (down_e(act(gate_e x_t) * up_e x_t) + down_bias_e), e = expert[t,k];
/// gate and up have their bias added.
template <class T>
struct Experts {
  const T* x;  // [tokens, hidden], row stride ldx
  i64 ldx;
  const i64* expert;   // [tokens, topk]; an id outside [0, experts) adds nothing and fails the run
  const void* weight;  // [tokens, topk], bf16 if weight_bf16, else fp32
  bool weight_bf16;
  const T*
      gate_up;    // [experts] panels of [2*inter, hidden]: 16 gate rows, 16 up rows, 16 gate ...;
                  // inter padded to a multiple of 16. Without a gate: panels of [inter, hidden]
  const T* down;  // [experts] panels of [hidden, inter]
  T* y;           // [tokens, hidden], contiguous
  i64 tokens, hidden, inter, experts, topk;
  Act act;
  // 64-byte aligned, shared by the team. Bytes, with rows = tokens*topk and inter16 = inter rounded
  // up to 16: rows * (4*hidden + sizeof(T)*inter16 + 40) + 32*experts + 4096
  void* workspace;
  bool has_gate = true;  // false: down_e(act(up_e x_t)), act one of the first five
  const T* gate_up_bias =
      nullptr;  // [experts, 2*inter], the gate's first; without a gate [experts, inter]
  const T* down_bias = nullptr;  // [experts, hidden]
  float limit = kInf, alpha = 1.0f;
};

/// T = float or bf16. The activation is rounded to T before `down`; the combine runs in fp32, over
/// k in order.
template <class T>
void experts(const Team& t, const Experts<T>& e);

/// Experts whose weights are int8 with a scale for each channel; gate_up and down are not read.
/// Rows of x, and of the activation once it is rounded to T, become int8 with a scale of their own,
/// max|row| / 127. Sums are exact. Workspace, bytes more than for Experts: tokens * (hidden64 + 4)
/// + rows * (inter64 + 4) + 256, with hidden64 and inter64 rounded up to 64.
template <class T>
struct ExpertsInt8 : Experts<T> {
  const int8_t *gate_up8, *down8;           // panels as in dot_int8.hpp, in the order of Experts
  const float *gate_up_scale, *down_scale;  // [experts, panels, 32]: of each column of the panels
};

template <class T>
void experts_int8(const Team& t, const ExpertsInt8<T>& e);

}  // namespace xc
