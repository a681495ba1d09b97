"""The bar of `xcompile verify`: a node's results against the same in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from xcompile.ir import Node, evaluate_node

FACTOR = 1.25
ULPS = {torch.float32: 4.0}  # of others: 1, since kernels compute in float32
SELECTS = {"topk", "sort", "argmax", "embedding", "gather", "scatter", "index_copy", "cat"}


@dataclass
class Verdict:
    """What came of a phase. `error` and `allowed` are those of the case nearest to the bar."""

    kernel: str
    node: str
    cases: int = 0
    error: float = 0.0
    allowed: float = 0.0
    microseconds: float = 0.0  # at the first case's sizes
    failures: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.error / self.allowed if self.allowed else (math.inf if self.error else 0.0)

    def take(self, error: float, allowed: float) -> None:
        if not self.cases or Verdict("", "", 0, error, allowed).ratio >= self.ratio:
            self.error, self.allowed = error, allowed


class _Double(TorchFunctionMode):
    """Every float type that a reference names becomes float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        wide = lambda x: torch.float64 if isinstance(x, torch.dtype) and x.is_floating_point else x
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(wide, args), **{k: wide(x) for k, x in (kwargs or {}).items()})


def exact(n: Node, given: Sequence[torch.Tensor], env: Mapping[str, int]) -> Sequence[torch.Tensor]:
    """The node in float64."""
    wide = [t.double() if t.is_floating_point() else t for t in given]
    with _Double():
        return evaluate_node(n, wide, env)


def compare(
    n: Node,
    got: Sequence[torch.Tensor],
    eager: Sequence[torch.Tensor],
    exact: Sequence[torch.Tensor],
    depth: int,
    verdict: Verdict,
) -> list[str]:
    """What is wrong with results; the verdict takes the errors.

    depth  length of the longest sum
    """
    out = []
    rows: torch.Tensor | None = None  # that chose alike
    computes = n.op.name not in SELECTS and any(v.dtype.is_floating_point for v in n.inputs)
    for k, (a, b, c) in enumerate(zip(got, eager, exact, strict=True)):
        if a.is_floating_point():
            continue
        wrong = a != b
        # What rounding decides may come out otherwise, as it does between float types.
        unstable = (b != c).sum() + math.ceil(0.005 * a.numel()) if computes else 0
        if wrong.sum() > unstable:
            out.append(f"result {k}: {int(wrong.sum())} of {a.numel()} elements differ")
        if n.op.name == "moe_route":
            rows = ~(wrong | (b != c)).any(-1)
    for k, (a, b, c) in enumerate(zip(got, eager, exact, strict=True)):
        if a.is_floating_point():
            a, b, c = (t if rows is None else t[rows] for t in (a, b, c))
            out += [f"result {k}: {x}" for x in _floats(a, b, c, depth, verdict)]
    return out


def _floats(
    got: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor, depth: int, verdict: Verdict
) -> list[str]:
    a, b, c = (t.double().flatten() for t in (got, eager, exact))
    limit = torch.finfo(got.dtype).max
    plain = b.isfinite() & c.isfinite() & (c.abs() <= limit)
    # Elsewhere a result that is as eager's, or as the exact one rounded, will do.
    rounded = torch.where(c.abs() > limit, c.sign() * torch.inf, c)
    special = ~plain
    same = lambda x: (a == x) | (a.isnan() & x.isnan())
    near = (a - c).abs() <= 1e-2 * c.abs()
    wrong = special & ~(same(b) | same(rounded) | near)
    if bool(wrong.any()):
        k = int(wrong.nonzero()[0])
        return [f"element {k} is {float(a[k])}, eager's is {float(b[k])}"]
    a, b, c = a[plain], b[plain], c[plain]
    if not a.numel():
        return []
    if not bool(a.isfinite().all()):
        k = int((~a.isfinite()).nonzero()[0])
        return [f"element {k} is {float(a[k])}, expected {float(c[k]):.6g}"]
    out = []
    ulps = ULPS.get(got.dtype, 1.0)
    slack = ulps * torch.finfo(got.dtype).eps + math.sqrt(depth) * 2.0**-24
    # below the smallest normal number float types lose bits
    tiny = torch.finfo(got.dtype).tiny
    off, eager_off = (((x - c).abs() - tiny).clamp(min=0) for x in (a, b))
    size = c.abs()
    live = size[size > tiny]
    # Of results of very different size, the small ones count too.
    near = size + (live.median() if live.numel() else 1.0)
    for name, ours, theirs, scale in (
        ("largest", off.max(), eager_off.max(), size.max()),
        ("rms", _rms(off), _rms(eager_off), _rms(size)),
        ("relative", (off / near).max(), (eager_off / near).max(), size.max() > 0),
    ):
        allowed = float(FACTOR * theirs + slack * scale)
        if name == "relative":
            verdict.take(float(ours), allowed)
        if not float(ours) <= allowed:
            k = int((off / near).argmax())
            out.append(
                f"{name} error {float(ours):.3g}, eager's is {float(theirs):.3g}, "
                f"allowed {allowed:.3g} "
                f"(element {k}: {float(a[k]):.6g}, exact {float(c[k]):.6g})"
            )
    return out


def _rms(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean().sqrt()
