// Mixture-of-experts routing: k experts and their weights from each row of logits.
#pragma once
#include "team.hpp"

namespace xc {

enum class Score { softmax, sigmoid, softmax_topk };

/// The k experts of each row with the largest choice, descending (equal ones: lower index first;
/// NaN is larger than any number), and their weights. With s = score(logits) in fp32, rounded to
/// bf16 if bf16_scores: choice = s + bias, and `mask` outside the topk_group best of `groups`
/// groups.
template <class T>
struct Route {
  const T* logits;  // [rows, experts], row stride ld
  i64 ld;
  const void* bias;  // [experts], bf16 if bias_bf16, else fp32; or null
  bool bias_bf16;
  void* weight;  // [rows, k], bf16 if weight_bf16, else fp32
  bool weight_bf16;
  i64* expert;  // [rows, k]
  i64 rows, experts, k, groups, topk_group;
  Score score;  // softmax_topk: s = logits, and the weights are the softmax of those chosen
  bool top2;    // a group is as good as the sum of its best two, else as its best
  float mask;
  bool biased;  // the weights are the choices, else s
  bool renorm;  // and divided by max(their sum + eps, floor)
  float eps, floor, scale;
  bool bf16_scores;
};

/// T = float or bf16.
template <class T>
void route(const Team& t, const Route<T>& r);

}  // namespace xc
