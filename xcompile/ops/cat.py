"""Concatenation. The planner lets producers write straight into the result where it can."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import axis, expect
from xcompile.symbolic import same, simplify


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    first = types[0]
    d = axis(attrs["dim"], first.rank)
    for t in types[1:]:
        ok = t.rank == first.rank and t.dtype == first.dtype
        ok = ok and all(same(t.shape[k], first.shape[k]) for k in range(t.rank) if k != d)
        expect(ok, f"cat along dim {d} of {first} and {t}")
    total = simplify(sum(t.shape[d] for t in types))
    return [Type(first.dtype, (*first.shape[:d], total, *first.shape[d + 1 :]))]


def _sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    return [torch.randn(3, n, 5, generator=rng) for n in (1, 4, 2)], {"dim": 1}


CAT = Op("cat", _infer, lambda *xs, dim: torch.cat(xs, dim), sample=_sample)
