"""Routing of a mixture of experts: from a router's logits to k experts and their weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import expect
from xcompile.symbolic import Dim, same

SCORES = ("softmax", "sigmoid", "softmax_topk")
GROUP_SCORES = ("max", "top2sum")


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, bias = types[0], types[1:]
    n, k, groups = x.shape[-1], attrs["k"], attrs["groups"]
    ok = x.rank == 2 and isinstance(n, int) and n % groups == 0 and len(bias) <= 1
    ok = ok and all(b.rank == 1 and same(b.shape[0], n) for b in bias)
    ok = ok and all(t.dtype.is_floating_point for t in types)
    ok = ok and attrs["score"] in SCORES and attrs["group_score"] in GROUP_SCORES
    expect(ok, f"moe_route takes logits[N,E], bias[E]? in groups, given {list(map(str, types))}")
    size, chosen = int(n) // groups, attrs["topk_group"]
    expect(
        1 <= chosen <= groups and 1 <= k <= chosen * size and (groups == 1 or size > 1),
        f"{k} experts out of {chosen} of {groups} groups of {size}",
    )
    shape = (x.shape[0], k)
    return [Type(attrs["dtype"], shape), Type(torch.int64, shape)]


def _ref(
    logits: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    k: int,
    score: str,
    groups: int,
    topk_group: int,
    group_score: str,
    mask: float,
    biased: bool,
    renorm: bool,
    eps: float,
    floor: float,
    scale: float,
    compute: torch.dtype,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    s = logits.to(compute)
    if score != "softmax_topk":
        s = _softmax(s) if score == "softmax" else s.sigmoid()
    choice = s if bias is None else s + bias
    if groups > 1:
        choice = _masked(choice, groups, topk_group, group_score, mask)
    best, expert = _best(choice, k)
    w = best if biased else s.gather(-1, expert)
    if score == "softmax_topk":
        w = _softmax(w)
    if renorm:
        w = w / (w.sum(-1, keepdim=True) + eps).clamp(min=floor)
    return (w * scale).to(dtype), expert


def _best(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    v, i = torch.sort(x, dim=-1, descending=True, stable=True)
    return v[..., :k].contiguous(), i[..., :k].contiguous()


def _softmax(x: torch.Tensor) -> torch.Tensor:
    wide = x if x.dtype.itemsize >= 4 else x.float()
    return wide.softmax(-1).to(x.dtype)


def _masked(
    choice: torch.Tensor, groups: int, topk_group: int, group_score: str, mask: float
) -> torch.Tensor:
    """Experts outside the best groups score `mask`."""
    each = choice.unflatten(-1, (groups, -1))
    top = _best(each, 1 if group_score == "max" else 2)[0].sum(-1)
    keep = torch.zeros_like(top).scatter(-1, _best(top, topk_group)[1], 1).bool()
    return each.masked_fill(~keep[..., None], mask).flatten(-2)


def _flops(ins: Sequence[Type], outs: Sequence[Type], attrs: Attrs) -> Dim:
    return 8 * ins[0].numel


DEFAULTS: dict = {
    "score": "softmax",
    "groups": 1,
    "topk_group": 1,
    "group_score": "max",
    "mask": float("-inf"),
    "biased": False,
    "renorm": False,
    "eps": 0.0,
    "floor": float("-inf"),
    "scale": 1.0,
    "compute": torch.float32,
    "dtype": torch.float32,
}


def probes(experts: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits [rows, experts] in mixed order, and biases, that tell one routing from another: ties,
    scores that saturate or underflow, fewer scores above 0 than are chosen, large biases."""
    rng = torch.Generator().manual_seed(0)
    rows, n = 24, experts
    noise = lambda *shape: torch.randn(*shape, generator=rng)
    near = lambda lo, hi: torch.rand(rows, n, generator=rng) * (hi - lo) + lo
    level = torch.tensor([0.0, 3.0, -3.0, 90.0, -90.0]).repeat(rows)[:rows, None].expand(rows, n)
    few = [(near(0, n) < count) * 200.0 for count in (1, 3, 6, 10)]
    kinds = [noise(rows, n), noise(rows, n) * 8, (noise(rows, n) * 2).round() / 2, level, *few,
             noise(rows, n) * 1e4, noise(rows, n) * 1e30, near(-1e30, -1e8), near(-60, -30),
             near(-110, -80), near(-9, -3), near(10, 30), few[2] + near(0, 60)]  # fmt: skip
    logits = torch.cat(kinds)[torch.randperm(len(kinds) * rows, generator=rng)]
    biases = [noise(n) / 8, noise(n) * 100, noise(n) / 8 - 5, noise(n) + 9,
              (noise(n) * 2).round() / 4, torch.zeros(n)]  # fmt: skip
    return logits, biases


def _sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    attrs = {"k": 3, "score": "sigmoid", "groups": 4, "topk_group": 2, "group_score": "top2sum"}
    norm = {"renorm": True, "eps": 1e-20, "scale": 2.5}
    x, bias = torch.randn(7, 24, generator=rng), torch.randn(24, generator=rng) / 8
    return [x, bias], {**DEFAULTS, **attrs, **norm}


# weight[N,k], expert i64[N,k] of logits[N,E], bias[E]?, descending by choice, ties by index:
#   s       score(logits) in `compute`: softmax over E, sigmoid, or (softmax_topk) the logits
#   choice  s + bias; `mask` in all but the `topk_group` best of `groups` groups of E, where a group
#           is as good as its max or the sum of its best two
#   weight  s of the chosen, or their choice if `biased`; softmax_topk: softmax over those k;
#           renorm: divided by max(sum + eps, floor); times `scale`; as `dtype`
MOE_ROUTE = Op("moe_route", _infer, _ref, strides={0: "rows"}, cost=_flops, sample=_sample)
